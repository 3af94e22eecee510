"""Chapter 5, the mixture: every numbered equation against PyTorch's and scipy's densities, sums over all labels,
quadrature and derivatives by autograd, with mutants that the same checks must refuse.

Expectations are exact where they can be: `corners` stands in for normal random numbers, as many points whose
mean is 0 and whose covariance is I, so that a mean over them is that of any polynomial of the second degree. The
sampler as a whole is put to Geweke's test: states drawn from the model, and states of a chain that draws new
data after each sweep, are of one law.
"""

import ast
import itertools
import math
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import mixture as sklearn_mixture
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from nemlib import gmm
from nemlib.evaluate import clustering
from nemlib.gmm import (
    BayesianGMM, GaussianMixture, Moments, Prior, assignment_information, em, em_step, k_means,
    k_means_plus_plus, moments, moments_of_labels,
)

EXACT = 1e-10
ROOT = Path(__file__).resolve().parent.parent


def numbers(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def generator():
    return numbers(20121996)


def randn(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def rand(generator, *shape):
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def definite(generator, *shape):
    """Symmetric, positive definite matrices, (*shape, shape[-1])."""
    a = randn(generator, *shape, shape[-1])
    return a @ a.mT + 0.3 * torch.eye(shape[-1], dtype=torch.float64)


def shares(generator, *shape):
    return (1.5 * randn(generator, *shape)).softmax(-1)


def mixture_of(generator, components=3, d=2):
    """Components of all directions; F is neither symmetric nor triangular."""
    made = GaussianMixture.of_covariances(shares(generator, components), 2 * randn(generator, components, d),
                                          definite(generator, components, d))
    turn = torch.linalg.qr(randn(generator, components, d, d)).Q
    return replace(made, factors=made.factors @ turn)


def prior_of(generator, components=3, d=2):
    """Another law for every component: what is mixed up between them is seen."""
    k = components
    return Prior(0.5 + 2 * rand(generator, k), 0.3 + rand(generator, k), randn(generator, k, d),
                 definite(generator, k, d), d - 0.5 + 3 * rand(generator, k))


def same_prior(components=3, d=2, **options):
    made = {"alpha": 1.5, "kappa": 0.7, "nu": d + 2.0} | options
    return Prior.same(components, torch.linspace(-0.5, 0.4, d), torch.eye(d) + 0.3, **made)


def clouds(generator, count=60, apart=4.0):
    """Three clouds in the plane, and which point is of which."""
    at = apart * number([[0.0, 0.0], [1.0, 0.0], [0.0, 1.3]])
    truth = torch.arange(3).repeat_interleave(count)
    return at[truth] + randn(generator, 3 * count, 2), truth


def density(mixture):
    """The components as PyTorch has them."""
    return MultivariateNormal(mixture.means, precision_matrix=mixture.factors @ mixture.factors.mT)


def corners(d):
    """2 d points with mean 0 and covariance I."""
    eye = math.sqrt(d) * torch.eye(d, dtype=torch.float64)
    return torch.cat([eye, -eye])


@contextmanager
def noise(monkeypatch, epsilon):
    """Inside, a draw of normal numbers, whatever its shape, is this tensor."""
    def hand_out(*shape, **options):
        shape = shape if isinstance(shape[0], int) else tuple(shape[0])
        return epsilon.reshape(shape)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "randn", hand_out)
        yield


def gap(a, b):
    return (a - b).abs().max()


# --- the mixture --------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-vg-responsibility", how="closed form")
@pytest.mark.parametrize("components, d", [(3, 2), (1, 3), (5, 1), (4, 6)])
def test_densities_and_responsibilities_are_those_of_pytorch(components, d, generator, largest_error):
    mixture, x = mixture_of(generator, components, d), 3 * randn(generator, 1300, d)
    log_components = density(mixture).log_prob(x[:, None])
    joint = mixture.weights * log_components.exp()
    bayes = joint / joint.sum(1, keepdim=True)
    errors = [gap(mixture.log_prob_of_components(x), log_components),
              gap(mixture.log_joint(x), log_components + mixture.weights.log()),
              gap(mixture.log_prob(x).exp(), joint.sum(1)), gap(mixture.responsibilities(x), bayes),
              gap(mixture.responsibilities(x).sum(1), number(1.0))]
    largest_error(errors[3])
    assert max(errors) < EXACT
    # mutants: |Λ| for ½ log |Λ| twice, F Fᵀ turned, π left out
    if components > 1:
        without = log_components.softmax(1)
        doubled = (mixture.log_joint(x) + mixture.log_det).softmax(1)
        assert min(gap(without, bayes), gap(doubled, bayes)) > 0.01
    if d > 1:
        assert gap(replace(mixture, factors=mixture.factors.mT).log_joint(x), mixture.log_joint(x)) > 0.1


def test_precisions_covariances_and_determinants_belong_together(generator):
    mixture = mixture_of(generator, 4, 3)
    identity = torch.eye(3, dtype=torch.float64).expand(4, 3, 3)
    assert gap(mixture.precisions @ mixture.covariances, identity) < EXACT
    assert gap(mixture.log_det, 0.5 * torch.linalg.slogdet(mixture.precisions).logabsdet) < EXACT
    again = GaussianMixture.of_covariances(mixture.weights, mixture.means, mixture.covariances)
    assert gap(again.precisions, mixture.precisions) < 1e-9 and again.components == mixture.components == 4
    x, order = randn(generator, 9, 3), torch.tensor([2, 0, 3, 1])
    assert gap(mixture.permuted(order).responsibilities(x), mixture.responsibilities(x)[:, order]) < EXACT
    assert gap(mixture.permuted(order).log_prob(x), mixture.log_prob(x)) < EXACT


@pytest.mark.equation("eq-vg-logsumexp", how="closed form")
def test_the_largest_term_is_taken_out_first(generator, largest_error):
    """Against sums of Python's whole numbers' fractions; far away nothing underflows, in either precision."""
    mixture = mixture_of(generator, 4, 2)
    x = 10.0 ** torch.linspace(-2, 4, 40, dtype=torch.float64)[:, None] * number([0.6, -0.8])
    terms = mixture.log_joint(x)
    largest = terms.amax(1)
    sums = [math.fsum(math.exp(a - max(row)) for a in row) for row in terms.tolist()]
    assert all(1 <= each <= 4 for each in sums)
    error = ((mixture.log_prob(x) - largest - number(sums).log()) / (1 + largest.abs())).abs().max()
    largest_error(error)
    assert error < 1e-14
    naive = mixture.log_joint(x).exp().sum(1).log()
    assert not naive.isfinite().all() and mixture.log_prob(x).isfinite().all()
    single = GaussianMixture(*(part.float() for part in vars(mixture).values()))
    assert single.responsibilities(x.float()).isfinite().all()
    assert single.log_joint(x.float()).exp().sum(1).eq(0).sum() > naive.isinf().sum() > 0


@pytest.mark.equation("eq-vg-draw", how="closed form")
def test_draws_have_the_components_means_and_covariances(generator, monkeypatch, largest_error):
    mixture, epsilon = mixture_of(generator, 3, 4), corners(4)
    errors, mutants = [], []
    for k in range(3):
        with noise(monkeypatch, epsilon):
            x = mixture.sample_of(torch.full((8,), k), generator)
        apart = x - mixture.means[k]
        errors += [apart.mean(0).abs().max(), gap(apart.T @ apart / 8, mixture.covariances[k])]
        for wrong in (torch.linalg.inv(mixture.factors[k]), mixture.factors[k], mixture.factors[k].mT):
            mutants.append(gap(wrong @ wrong.mT, mixture.covariances[k]))
    largest_error(max(errors))
    assert max(errors) < EXACT and min(mutants) > 0.01


def test_samples_come_from_components_in_proportion_to_their_weights(generator):
    mixture = mixture_of(generator, 4, 2)
    x, labels = mixture.sample(20_000, generator)
    counts = torch.bincount(labels, minlength=4)
    assert x.shape == (20_000, 2) and x.dtype == torch.float64
    assert stats.chisquare(counts, 20_000 * mixture.weights / mixture.weights.sum()).pvalue > 1e-4
    white = ((x - mixture.means[labels])[:, None] @ mixture.factors[labels])[:, 0]
    assert stats.kstest(white.flatten(), "norm").pvalue > 1e-4
    other = (labels + 1) % 4
    wrong = ((x - mixture.means[other])[:, None] @ mixture.factors[other])[:, 0]
    assert stats.kstest(wrong.flatten(), "norm").pvalue < 1e-10


# --- moments ------------------------------------------------------------------------------------------------


def test_moments_are_weighted_counts_means_and_scatters(generator):
    x, r = randn(generator, 40, 3) + 5, shares(generator, 40, 4)
    found = moments(x, r)
    for k in range(4):
        at = (r[:, k, None] * x).sum(0) / r[:, k].sum()
        scatter = torch.einsum("n,ni,nj->ij", r[:, k], x - at, x - at)
        assert abs(found.count[k] - r[:, k].sum()) < 1e-12 and gap(found.mean[k], at) < 1e-12
        assert gap(found.scatter[k], scatter) < 1e-12
        assert gap(torch.einsum("n,ni,nj->ij", r[:, k], x - x.mean(0), x - x.mean(0)), scatter) > 1e-3


def test_moments_of_labels_are_those_of_shares_that_are_0_and_1(generator):
    x, labels = randn(generator, 50, 3) + 7, torch.randint(0, 4, (50,), generator=generator)
    labels[labels == 2] = 1                                   # nobody belongs to component 2, nor to 4
    one_hot = torch.nn.functional.one_hot(labels, 5).double()
    soft, hard = moments(x, one_hot), moments_of_labels(x, labels, 5)
    assert max(gap(a, b) for a, b in zip(soft, hard)) < 1e-12
    for found in (soft, hard):
        assert found.count[[2, 4]].tolist() == [0, 0] and gap(found.mean[2], x.mean(0)) < 1e-12
        assert found.scatter[2].abs().max() == 0
    assert hard.count.dtype == torch.float64 and hard.count.sum() == 50


def test_a_cloud_far_from_the_origin_keeps_its_scatter(generator):
    """Squares of 10⁷ would leave 2 digits of a variance of 1."""
    x, r = randn(generator, 200, 2), shares(generator, 200, 3)
    labels = r.argmax(1)
    far = x + 1e7
    assert gap(moments(far, r).scatter, moments(x, r).scatter) < 1e-5
    assert gap(moments_of_labels(far, labels, 3).scatter, moments_of_labels(x, labels, 3).scatter) < 1e-5
    squares = torch.einsum("nk,ni,nj->kij", r, far, far)
    at = moments(far, r)
    assert gap(squares - at.count[:, None, None] * at.mean[:, :, None] * at.mean[:, None],
               moments(x, r).scatter) > 1e-3


@pytest.mark.equation("eq-vg-message-moments", how="closed form")
def test_a_message_of_means_and_variances_has_the_moments_of_draws(generator, largest_error):
    """E Σ r x xᵀ over x_n = c_n + s_n ε, the mean over ε taken exactly."""
    c, r, variance = randn(generator, 30, 3), shares(generator, 30, 4), rand(generator, 30, 3)
    draws = c + variance.sqrt() * corners(3)[:, None]
    expected = torch.einsum("nk,tni,tnj->kij", r, draws, draws) / 6

    def second(found):
        return found.scatter + found.count[:, None, None] * found.mean[:, :, None] * found.mean[:, None]

    error = gap(second(moments(c, r, variance)), expected)
    largest_error(error)
    assert error < EXACT
    assert gap(second(moments(c, r)), expected) > 0.1                         # the variance dropped
    assert gap(second(moments(c, r, variance.sqrt())), expected) > 0.1        # s for s²
    assert gap(moments(c, r, variance).mean, moments(c, r).mean) == 0


# --- EM -----------------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-vg-em-bound", how="closed form")
def test_the_likelihood_is_the_bound_and_a_divergence_for_any_shares(generator, largest_error):
    mixture, x, r = mixture_of(generator), 2 * randn(generator, 50, 2), shares(generator, 50, 3)
    gamma = mixture.responsibilities(x)
    bound = (r * (mixture.log_joint(x) - r.log())).sum()
    error = abs(mixture.log_prob(x).sum() - bound - (r * (r / gamma).log()).sum())
    largest_error(error)
    assert error < EXACT
    assert abs(mixture.log_prob(x).sum() - bound - (gamma * (gamma / r).log()).sum()) > 0.1


def expected_complete(mixture, x, r):
    return (r * mixture.log_joint(x)).sum()


def test_the_likelihood_grows_by_two_parts_that_are_not_negative(generator):
    """thm-vg-monotone: what Q gains, and the divergence of the old responsibilities from the new ones."""
    x, _ = clouds(generator)
    for seed in range(5):
        mixture = mixture_of(numbers(seed))
        gamma = mixture.responsibilities(x)
        after, before = em_step(mixture, x)
        gain = expected_complete(after, x, gamma) - expected_complete(mixture, x, gamma)
        shift = (gamma * (gamma.log() - after.responsibilities(x).log())).sum()
        assert gap(before, mixture.log_prob(x).sum()) < 1e-9 and gain > 0 and shift > 0
        assert abs(after.log_prob(x).sum() - before - gain - shift) < 1e-8
        assert abs(after.log_prob(x).sum() - before - gain + shift) > 1e-3


@pytest.mark.parametrize("seed", range(4))
def test_em_never_falls_and_a_wrong_step_does(seed):
    x, _ = clouds(numbers(seed))
    start = mixture_of(numbers(seed + 10))
    mixture, climb = em(x, start, 80)
    assert climb.shape == (81,) and (climb.diff() > -1e-9 * climb[:-1].abs()).all()
    assert climb[-1] == mixture.log_prob(x).sum() and climb[0] == start.log_prob(x).sum()
    r = mixture.responsibilities(x)
    found = moments(x, r)
    wrong = GaussianMixture.of_covariances(found.count / len(x), found.mean,
                                           found.scatter / (found.count - 1)[:, None, None])
    right = em_step(mixture, x).mixture                    # n − 1 for n: no longer the maximum
    assert expected_complete(wrong, x, r) < expected_complete(right, x, r) - 1e-3


@pytest.mark.equation("eq-vg-m-step", how="autograd")
def test_the_m_step_is_the_maximum_of_the_expected_complete_likelihood(generator, largest_error):
    x, mixture = 2 * randn(generator, 60, 2), mixture_of(generator)
    r, after = mixture.responsibilities(x), em_step(mixture, x).mixture

    def q(weights, means, covariances):
        normal = MultivariateNormal(means, covariance_matrix=(covariances + covariances.mT) / 2)
        return (r * (normal.log_prob(x[:, None]) + weights.log_softmax(0))).sum()

    def slope(weights, means, covariances):
        at = [part.clone().requires_grad_() for part in (weights.log(), means, covariances)]
        return max(part.abs().max() for part in torch.autograd.grad(q(*at), at))

    found, n = moments(x, r), r.sum(0)[:, None, None]
    error = slope(after.weights, after.means, after.covariances)
    largest_error(error)
    assert error < 1e-9
    about_old = torch.einsum("nk,nki,nkj->kij", r, *2 * [x[:, None] - mixture.means])
    for wrong in (found.scatter / (n - 1), about_old / n, found.scatter / len(x)):
        assert slope(after.weights, after.means, wrong) > 0.1
    assert slope(mixture.weights, after.means, after.covariances) > 0.1
    best = q(after.weights.log(), after.means, after.covariances)
    for _ in range(20):                                                     # and a maximum, not a saddle
        moved = 0.05 * randn(generator, 3, 2)
        assert q(after.weights.log(), after.means + moved, after.covariances) < best
        assert q(after.weights.log() + moved[:, 0], after.means, after.covariances) < best
        grown = after.covariances * (1 + moved[:, :1, None])
        assert q(after.weights.log(), after.means, grown) < best


def test_em_equals_that_of_scikit_learn(generator):
    x, _ = clouds(generator)
    start = mixture_of(generator)
    other = sklearn_mixture.GaussianMixture(
        3, tol=0, max_iter=40, reg_covar=0.0, weights_init=start.weights.numpy(),
        means_init=start.means.numpy(), precisions_init=((start.precisions + start.precisions.mT) / 2).numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other.fit(x.numpy())
    ours, climb = em(x, start, 40)
    assert gap(ours.means, number(other.means_)) < 1e-9 and gap(ours.weights, number(other.weights_)) < 1e-9
    assert gap(ours.covariances, number(other.covariances_)) < 1e-9
    assert abs(climb[-1] - len(x) * other.score(x.numpy())) < 1e-8
    assert gap(em(x, start, 39)[0].means, number(other.means_)) > 1e-9


def test_a_ridge_is_added_to_covariances_and_a_dead_component_keeps_its_place(generator):
    x, mixture = randn(generator, 50, 2), mixture_of(generator)
    plain, ridged = em_step(mixture, x).mixture, em_step(mixture, x, ridge=0.25).mixture
    assert gap(ridged.covariances - plain.covariances, 0.25 * torch.eye(2, dtype=torch.float64)) < 1e-9
    assert gap(ridged.means, plain.means) == 0
    far = replace(mixture, means=mixture.means + number([0.0, 0.0, 1e6])[:, None])
    after = em_step(far, x).mixture
    assert after.weights[2] == 0 and gap(after.means[2], far.means[2]) == 0
    assert gap(after.covariances[2], far.covariances[2]) < 1e-9
    assert em_step(after, x).mixture.log_prob(x).isfinite().all()
    assert after.responsibilities(x)[:, 2].eq(0).all()


@pytest.mark.equation("eq-vg-symmetric", how="closed form")
def test_equal_components_stay_equal_at_the_likelihood_of_one_gaussian(generator, largest_error):
    x, _ = clouds(generator)
    weights = number([0.5, 0.2, 0.3])
    start = GaussianMixture.of_covariances(weights, number([[1.0, 2.0]]).expand(3, 2),
                                           torch.eye(2, dtype=torch.float64).expand(3, 2, 2))
    stuck, climb = em(x, start, 30)
    one = MultivariateNormal(x.mean(0), torch.cov(x.T, correction=0)).log_prob(x).sum()
    errors = [abs(climb[1:] - one).max() / one.abs(), gap(stuck.responsibilities(x), weights),
              gap(stuck.means, x.mean(0).expand(3, 2))]
    largest_error(max(errors))
    assert max(errors) < 1e-9
    tilted = replace(start, means=start.means + 0.5 * randn(generator, 3, 2))
    assert em(x, tilted, 30)[1][-1] > one + 20


def symmetric_data(generator, power):
    """Points symmetric about 0 with variance 1; the larger the power the flatter."""
    half = rand(generator, 300) ** (1 / power) + 0.1 * rand(generator, 300)
    x = torch.cat([half, -half])
    return (x / x.square().mean().sqrt())[:, None]


@pytest.mark.equation("eq-vg-saddle", how="closed form")
@pytest.mark.parametrize("power", [3.0, 0.25])
def test_a_small_asymmetry_neither_grows_nor_dies_at_first_order(power, generator, largest_error):
    """ε' = E x tanh(ε x / (1 − ε²)) to rounding, and its series: ε + (1 − m₄/3) ε³."""
    x = symmetric_data(generator, power)
    m4 = x.pow(4).mean()

    def step(epsilon):
        pair = GaussianMixture.of_covariances(number([0.5, 0.5]), number([[-epsilon], [epsilon]]),
                                              number(1 - epsilon**2).expand(2, 1, 1))
        return em_step(pair, x).mixture

    coefficients = []
    for epsilon in (0.01, 0.02):
        after = step(epsilon)
        assert abs(after.means[1, 0] - (x * torch.tanh(epsilon * x / (1 - epsilon**2))).mean()) < 1e-14
        assert abs(after.means[0, 0] + after.means[1, 0]) < 1e-14
        assert gap(after.covariances, 1 - after.means[1, 0] ** 2) < 1e-13     # total = within + between
        coefficients.append((after.means[1, 0] - epsilon) / epsilon**3)
    cubic = (4 * coefficients[0] - coefficients[1]) / 3                       # of order ε² no more
    error = abs(cubic - (1 - m4 / 3))
    largest_error(error)
    assert error < 1e-4 and abs(coefficients[0] - (1 - m4 / 3)) < 0.02
    assert min(abs(cubic - wrong) for wrong in (1 - m4, m4 / 3, 1 - m4 / 6, 0)) > 0.05
    assert (m4 < 3) == (power > 1) == (cubic > 0)                             # flatter than a Gaussian: it grows


@pytest.mark.equation("eq-vg-singularity", how="closed form")
@pytest.mark.parametrize("d", [1, 2, 5])
def test_a_component_on_one_point_has_a_likelihood_without_end(d, generator, largest_error):
    x = 2 * randn(generator, 40, d)
    weights, wide = number([0.05, 0.95]), 4 * torch.eye(d, dtype=torch.float64)
    log_s = torch.linspace(-4, -20, 9).double()
    values, lower = [], []
    for s in log_s.exp():
        narrow = s**2 * torch.eye(d, dtype=torch.float64)
        mixture = GaussianMixture.of_covariances(weights, torch.stack([x[0], x.mean(0)]),
                                                 torch.stack([narrow, wide]))
        values.append(mixture.log_prob(x).sum())
        rest = weights[1].log() + MultivariateNormal(x.mean(0), wide).log_prob(x[1:])
        lower.append(weights[0].log() - 0.5 * d * torch.log(2 * math.pi * s**2) + rest.sum())
    values, lower = torch.stack(values), torch.stack(lower)
    growth = -values.diff() / log_s.diff()                                    # L for each unit of log (1/s)
    largest_error(abs(growth[-1] - d))
    assert abs(growth[-1] - d) < 1e-6 and (values > lower - 1e-9).all() and values[-1] - lower[-1] < 1e-3
    assert abs(growth[-1] - 2 * d) > 0.5


def test_em_without_a_ridge_says_which_component_died_and_a_ridge_saves_it(generator):
    flat = torch.cat([randn(generator, 30, 1), torch.zeros(30, 1)], 1)
    start = GaussianMixture.of_covariances(number([0.5, 0.5]), number([[-1.0, 0.0], [1.0, 0.0]]),
                                           torch.eye(2, dtype=torch.float64).expand(2, 2, 2))
    with pytest.raises(ValueError, match="covariance of component 0 is not positive definite.*larger ridge"):
        em(flat, start, 5)
    assert em(flat, start, 5, ridge=1e-6)[1].isfinite().all()
    bad = torch.stack([torch.eye(2), torch.eye(2), -torch.eye(2)]).double()
    with pytest.raises(ValueError, match="covariance of component 2"):
        GaussianMixture.of_covariances(torch.full((3,), 1 / 3), torch.zeros(3, 2), bad)
    with pytest.raises(ValueError, match="covariance of component 1"):
        GaussianMixture.of_covariances(torch.full((3,), 1 / 3), torch.zeros(3, 2),
                                       torch.stack([bad[0], bad[0] * math.nan, bad[0]]))


# --- starts -------------------------------------------------------------------------------------------------


def test_the_next_centre_is_drawn_by_its_squared_distance(generator):
    """All pairs of first and second centre, and the third given both, against the probabilities."""
    x = number([[0.0], [1.0], [3.0], [7.0]])
    found = torch.stack([k_means_plus_plus(x, 3, generator)[:, 0] for _ in range(2000)])
    index = (found[..., None] == x[:, 0]).long().argmax(-1)
    counts, expected = [], []
    for path in itertools.permutations(range(4), 3):
        near = torch.full((4,), math.inf, dtype=torch.float64)
        chance = 0.25
        for now, then in zip(path, path[1:]):
            near = torch.minimum(near, (x[:, 0] - x[now, 0]).square())
            chance = chance * (near[then] / near.sum()).item()
        counts.append((index == torch.tensor(path)).all(1).sum().item())
        expected.append(2000 * chance)
    assert sum(counts) == 2000 and stats.chisquare(counts, expected).pvalue > 1e-4
    uniform = np.full(24, 2000 / 24)
    assert stats.chisquare(counts, uniform).pvalue < 1e-10


def test_points_that_are_all_one_are_no_trouble(generator):
    x = torch.ones(6, 2, dtype=torch.float64)
    assert k_means_plus_plus(x, 3, generator).shape == (3, 2)
    assert k_means(x, 3, generator).shape == (6,)


def test_k_means_finds_clouds_and_its_labels_are_the_nearest_means(generator):
    x, truth = clouds(generator, apart=12.0)
    labels = k_means(x, 3, generator)
    table = clustering.contingency(labels, truth, None)
    assert clustering.accuracy(table).item() == 1
    means = moments_of_labels(x, labels, 3).mean
    assert torch.equal((x[:, None] - means).square().sum(-1).argmin(1), labels)
    one = k_means(x, 3, generator, iterations=0)                     # after k-means++ alone: nearest centres
    assert one.shape == labels.shape and set(one.tolist()) <= {0, 1, 2}


def within(x, labels, components):
    return moments_of_labels(x, labels, components).scatter.diagonal(dim1=1, dim2=2).sum()


def test_rounds_of_lloyd_make_the_scatter_smaller(generator):
    x = randn(generator, 300, 3)
    scatters = [within(x, k_means(x, 8, numbers(5), iterations=rounds), 8) for rounds in range(12)]
    assert all(b <= a + 1e-9 for a, b in itertools.pairwise(scatters)) and scatters[-1] < 0.9 * scatters[0]


def two_moons(count=60):
    """Two half circles, each in the other's mouth: no two ellipsoids part them."""
    angle = torch.linspace(0, math.pi, count, dtype=torch.float64)
    arcs = [torch.stack([angle.cos(), angle.sin()], 1), torch.stack([1 - angle.cos(), 0.4 - angle.sin()], 1)]
    return torch.cat(arcs) + 0.03 * randn(numbers(1), 2 * count, 2), torch.arange(2).repeat_interleave(count)


def test_neighbours_part_what_ellipsoids_cut():
    """Half of the points are landmarks; the others take the label of the nearest."""
    x, truth = two_moons()
    labels = gmm.neighbour_labels(x.float(), 2, numbers(1), landmarks=80, restarts=4, sweeps=10, neighbours=5)
    assert labels.shape == (120,) and labels.dtype == torch.int64 and set(labels.tolist()) <= {0, 1}
    model = BayesianGMM(Prior.weak(x, 2))
    model.fit(x, numbers(1), sweeps=10, restarts=4)

    def accuracy(labels):
        return clustering.accuracy(clustering.contingency(labels, truth, None)).item()

    assert accuracy(labels) > 0.95 > accuracy(model.mixture.responsibilities(x).argmax(1)) + 0.02
    state = torch.get_rng_state()
    again = gmm.neighbour_labels(x.float(), 2, numbers(1), landmarks=80, restarts=4, sweeps=10, neighbours=5)
    assert torch.equal(again, labels) and torch.equal(torch.get_rng_state(), state)


# --- the prior and its posterior ----------------------------------------------------------------------------


@pytest.mark.equation("eq-vg-scatter", how="closed form")
def test_the_exponent_of_many_points_needs_their_mean_and_scatter_alone(generator, largest_error):
    x, mu, precision = randn(generator, 20, 3) + 1, randn(generator, 3), definite(generator, 3)
    found = moments_of_labels(x, torch.zeros(20, dtype=torch.long), 1)
    exact = torch.einsum("ni,ij,nj->", x - mu, precision, x - mu)
    apart = found.mean[0] - mu
    error = abs(torch.trace(precision @ (found.scatter[0] + 20 * torch.outer(apart, apart))) - exact)
    largest_error(error)
    assert error < EXACT
    assert abs(torch.trace(precision @ (found.scatter[0] + torch.outer(apart, apart))) - exact) > 1


@pytest.mark.equation("eq-vg-square", how="closed form")
def test_two_squares_are_one_square_and_what_is_left_over(generator, largest_error):
    kappa, n = number(0.7), number(5.0)
    m, mean, mu = randn(generator, 3), randn(generator, 3), randn(generator, 3)

    def square(a):
        return torch.outer(a, a)

    left = kappa * square(mu - m) + n * square(mu - mean)
    middle = (kappa * m + n * mean) / (kappa + n)
    right = (kappa + n) * square(mu - middle) + kappa * n / (kappa + n) * square(mean - m)
    largest_error(gap(left, right))
    assert gap(left, right) < 1e-12
    assert gap(left, (kappa + n) * square(mu - middle) + kappa * square(mean - m)) > 0.1
    after = same_prior(1, 3, kappa=0.7).posterior(Moments(n[None], mean[None], torch.zeros(1, 3, 3).double()))
    start = same_prior(1, 3, kappa=0.7)
    pull = kappa * n / (kappa + n) * square(mean - start.mean[0])
    assert gap(after.inverse_scale[0] - start.inverse_scale[0], pull) < 1e-12


def labelled(generator, components=3, d=2, count=12):
    x = 2 * randn(generator, count, d) + 1
    return x, torch.randint(0, components, (count,), generator=generator)


@pytest.mark.equation("eq-vg-posterior-weights", "eq-vg-posterior-mean", "eq-vg-posterior-scale",
                      "eq-vg-evidence", how="closed form")
@pytest.mark.parametrize("components, d, count", [(3, 2, 12), (1, 1, 1), (4, 3, 3), (2, 5, 40)])
def test_the_joint_law_is_evidence_times_posterior_at_any_parameters(components, d, count, generator, largest_error):
    """log p(x, z, Θ) = log p(x, z) + log p(Θ | x, z): thm-vg-conjugate, with one side by the other's formulas."""
    prior = prior_of(generator, components, d)
    x, labels = labelled(generator, components, d, count)
    found = moments_of_labels(x, labels, components)
    after = prior.posterior(found)
    evidence = prior.log_evidence(found)
    some = [mixture_of(generator, components, d) for _ in range(5)]

    def misses(law, value):
        joint = torch.stack([each.log_joint(x).gather(1, labels[:, None]).sum() + prior.log_prob(each)
                             for each in some])
        return gap(joint, value + torch.stack([law.log_prob(each) for each in some]))

    error = misses(after, evidence)
    largest_error(error)
    assert error < 1e-9
    # a shift by 1 of any count is seen, and so are a scatter about the prior's mean and a pull that is left out
    apart = found.mean - prior.mean
    about = found.count[:, None, None] * apart[:, :, None] * apart[:, None]
    wrong = [replace(after, nu=after.nu + 1), replace(after, kappa=after.kappa + 1),
             replace(after, alpha=after.alpha + torch.eye(components, dtype=torch.float64)[0]),
             replace(after, inverse_scale=prior.inverse_scale + found.scatter + about),
             replace(after, inverse_scale=prior.inverse_scale + found.scatter),
             replace(after, mean=found.mean)]
    assert min(misses(law, evidence) for law in wrong[:2] + wrong[3:]) > 1e-4
    assert components == 1 or misses(wrong[2], evidence) > 0.01
    assert misses(after, evidence + 0.5 * math.log(2 * math.pi)) > 0.1


@pytest.mark.equation("eq-vg-posterior-mean", "eq-vg-posterior-scale", how="closed form")
def test_the_posterior_in_raw_squares_is_the_same(generator, largest_error):
    prior = prior_of(generator)
    x, labels = labelled(generator)
    after = prior.posterior(moments_of_labels(x, labels, 3))
    for k in range(3):
        part, kappa, m = x[labels == k], prior.kappa[k], prior.mean[k]
        middle = (kappa * m + part.sum(0)) / (kappa + len(part))
        raw = (prior.inverse_scale[k] + part.T @ part + kappa * torch.outer(m, m)
               - (kappa + len(part)) * torch.outer(middle, middle))
        errors = gap(after.mean[k], middle), gap(after.inverse_scale[k], raw)
        largest_error(errors[0], "eq-vg-posterior-mean")
        largest_error(errors[1], "eq-vg-posterior-scale")
        assert max(errors) < EXACT
        assert after.nu[k] == prior.nu[k] + len(part) and after.kappa[k] == kappa + len(part)
        assert after.alpha[k] == prior.alpha[k] + len(part)


def test_the_density_of_the_prior_is_that_of_scipy(generator):
    prior, mixture = prior_of(generator, 4, 3), mixture_of(generator, 4, 3)
    weights = (mixture.weights / mixture.weights.sum()).numpy()
    exact = stats.dirichlet(prior.alpha.numpy()).logpdf(weights)
    for k in range(4):
        scale = torch.linalg.inv(prior.inverse_scale[k]).numpy()
        precision = ((mixture.precisions[k] + mixture.precisions[k].T) / 2).numpy()
        exact += stats.wishart(prior.nu[k].item(), (scale + scale.T) / 2).logpdf(precision)
        spread = np.linalg.inv(prior.kappa[k].item() * precision)
        exact += stats.multivariate_normal(prior.mean[k].numpy(), (spread + spread.T) / 2).logpdf(
            mixture.means[k].numpy())
    assert abs(prior.log_prob(mixture) - exact) < 1e-9
    assert abs(replace(prior, nu=prior.nu + 1).log_prob(mixture) - exact) > 0.1


@pytest.mark.equation("eq-vg-student", how="closed form")
@pytest.mark.parametrize("d, count", [(1, 0), (2, 5), (4, 9)])
def test_the_next_point_follows_students_t(d, count, generator, largest_error):
    prior = prior_of(generator, 1, d)
    x = randn(generator, count + 1, d)

    def evidence(points):
        return prior.log_evidence(moments_of_labels(points, torch.zeros(len(points), dtype=torch.long), 1))

    before = evidence(x[:count]) if count else 0.0
    after = prior if not count else prior.posterior(
        moments_of_labels(x[:count], torch.zeros(count, dtype=torch.long), 1))
    freedom = (after.nu[0] - d + 1).item()
    kappa, shape = after.kappa[0], after.inverse_scale[0].numpy()

    def t(freedom, factor):
        return stats.multivariate_t(after.mean[0].numpy(), (factor / freedom).item() * shape, df=freedom).logpdf(
            x[count].numpy())

    exact = t(freedom, (kappa + 1) / kappa)
    error = abs(evidence(x) - before - exact)
    largest_error(error)
    assert error < EXACT
    assert min(abs(t(freedom + 1, (kappa + 1) / kappa) - exact), abs(t(freedom, kappa / kappa) - exact)) > 1e-3


@pytest.mark.equation("eq-vg-evidence", how="enumeration")
def test_the_evidence_of_all_labels_is_that_of_an_urn_point_by_point(generator, largest_error):
    """Σ over 3⁶ labels of p(x, z), against a product of an urn's and Student's t for each labelling."""
    prior = prior_of(generator)
    x = 1.5 * randn(generator, 6, 2)
    every = torch.tensor(list(itertools.product(range(3), repeat=6)))
    ours = torch.stack([prior.log_evidence(moments_of_labels(x, z, 3)) for z in every])

    def point_by_point(z):
        total = 0.0
        for n, k in enumerate(z.tolist()):
            mine = z[:n] == k
            total += math.log((prior.alpha[k] + mine.sum()) / (prior.alpha.sum() + n))
            m, kappa = prior.mean[k].numpy(), prior.kappa[k].item()
            nu, scale = prior.nu[k].item(), prior.inverse_scale[k].numpy()
            for point in x[:n][mine].numpy():                            # absorb one point after another
                scale = scale + kappa / (kappa + 1) * np.outer(point - m, point - m)
                m, kappa, nu = (kappa * m + point) / (kappa + 1), kappa + 1, nu + 1
            freedom = nu - 1
            total += stats.multivariate_t(m, scale * (kappa + 1) / (kappa * freedom), df=freedom).logpdf(x[n].numpy())
        return total

    chosen = every[::37]
    exact = number([point_by_point(z) for z in chosen])
    error = gap(ours[::37], exact)
    largest_error(error)
    assert error < 1e-9
    assert ours.logsumexp(0) > ours.max()
    assert gap(replace(prior, kappa=prior.kappa + 1).log_evidence(moments_of_labels(x, every[5], 3)), ours[5]) > 0.01


def test_a_weak_prior_knows_the_clouds_place_and_size(generator):
    x = randn(generator, 500, 3) @ number([[3.0, 0.0, 0.0], [1.0, 0.5, 0.0], [0.0, 0.3, 1.0]]) + 4
    prior = Prior.weak(x.float(), 5)
    assert prior.mean.dtype == torch.float64 and prior.components == 5
    assert gap(prior.mean[3], x.mean(0)) < 1e-5
    expected = prior.inverse_scale[2] / (prior.nu[2] - 3 - 1)                 # E Σ
    assert gap(expected, torch.cov(x.T, correction=0) / 5 ** (2 / 3)) < 1e-5
    assert prior.kappa.tolist() == [0.01] * 5 and prior.alpha.tolist() == [1.0] * 5 and prior.nu.tolist() == [5.0] * 5
    volumes = torch.linalg.det(expected) / torch.linalg.det(torch.cov(x.T, correction=0))
    assert abs(volumes.sqrt() - 1 / 5) < 1e-5                                 # K pieces of the cloud's volume
    options = Prior.weak(x, 2, alpha=3.0, kappa=0.5)
    assert options.alpha[1] == 3 and options.kappa[1] == 0.5


def test_the_plug_in_is_the_mean_of_every_parameter(generator):
    prior = prior_of(generator)
    plug_in = prior.expected()
    scale = torch.linalg.inv(prior.inverse_scale)
    assert gap(plug_in.precisions, prior.nu[:, None, None] * scale) < EXACT
    assert gap(plug_in.weights, prior.alpha / prior.alpha.sum()) < 1e-14 and torch.equal(plug_in.means, prior.mean)


# --- draws of the parameters --------------------------------------------------------------------------------


@contextmanager
def gammas_at_their_means(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(gmm, "standard_gamma", lambda shape, generator: shape.clone())
        yield


@pytest.mark.equation("eq-vg-bartlett", how="closed form")
@pytest.mark.parametrize("d", [1, 2, 4])
def test_the_mean_of_bartletts_draws_is_nu_w(d, generator, monkeypatch, largest_error):
    """Λ is linear in each A_ii² and A_ij A_il, and both have their means here: no random number is left."""
    prior = prior_of(generator, 3, d)
    total, signs = torch.zeros(3, d, d).double(), list(itertools.product([-1.0, 1.0], repeat=d * (d - 1) // 2))
    below = torch.tril_indices(d, d, -1)
    draws = []
    for sign in signs:
        lower = torch.zeros(3, d, d).double()
        lower[:, below[0], below[1]] = number(sign)
        calls = iter([lower, torch.zeros(3, d).double()])
        with gammas_at_their_means(monkeypatch), monkeypatch.context() as patch:
            patch.setattr(torch, "randn", lambda *shape, **options: next(calls))
            draws.append(prior.sample(generator))
        total += draws[-1].precisions
    exact = prior.nu[:, None, None] * torch.linalg.inv(prior.inverse_scale)
    error = (gap(total / len(signs), exact) / exact.abs().max())
    largest_error(error)
    assert error < 1e-11
    # degrees of freedom the other way round, as ν − L + i
    if d > 1:
        i = torch.arange(d).double()
        upside_down = (prior.nu[0] - d + 1 + i) + i
        assert gap(upside_down, prior.nu[0].expand(d)) > 0.5


def many(prior, count):
    """The law of the first component, as often as count: one call draws them all."""
    return Prior.same(count, prior.mean[0], prior.inverse_scale[0], alpha=1.0, kappa=prior.kappa[0].item(),
                      nu=prior.nu[0].item())


def ks(sample, law):
    return stats.kstest(sample.numpy(), law)


@pytest.mark.equation("eq-vg-bartlett", how="Monte Carlo")
def test_draws_of_the_precision_follow_wisharts_law(generator, largest_error):
    """aᵀΛa / aᵀWa ~ χ²(ν) and aᵀW⁻¹a / aᵀΛ⁻¹a ~ χ²(ν − L + 1) for any a; E log |Λ| by digamma."""
    d, count = 3, 8000
    prior = prior_of(generator, 1, d)
    draws = many(prior, count).sample(generator)
    nu, scale = prior.nu[0].item(), torch.linalg.inv(prior.inverse_scale[0])
    distances = []
    for a in (*torch.eye(d).double(), randn(generator, d)):
        by_precision = torch.einsum("i,kij,j->k", a, draws.precisions, a) / (a @ scale @ a)
        by_covariance = (a @ prior.inverse_scale[0] @ a) / torch.einsum("i,kij,j->k", a, draws.covariances, a)
        for sample, freedom in ((by_precision, nu), (by_covariance, nu - d + 1)):
            found = ks(sample, stats.chi2(freedom).cdf)
            distances.append(found.statistic)
            assert found.pvalue > 1e-4
            assert ks(sample, stats.chi2(freedom + 1).cdf).pvalue < 1e-10
    log_det = 2 * draws.log_det
    exact = (torch.digamma((nu - torch.arange(d)) / 2).sum() + d * math.log(2)
             + torch.linalg.slogdet(scale).logabsdet)
    assert abs(log_det.mean() - exact) < 4 * log_det.std() / count**0.5
    largest_error(max(distances))


@pytest.mark.equation("eq-vg-gibbs-mean", how="closed form")
def test_the_mean_given_the_precision_is_a_gaussian(generator, monkeypatch, largest_error):
    """√κ Fᵀ (μ − m) is the noise that was drawn, so that Cov(μ | Λ) = (κ Λ)⁻¹."""
    x, labels = labelled(generator)
    after = prior_of(generator).posterior(moments_of_labels(x, labels, 3))
    epsilon = randn(generator, 3, 2)
    calls = iter([randn(generator, 3, 2, 2), epsilon])
    with monkeypatch.context() as patch:
        patch.setattr(torch, "randn", lambda *shape, **options: next(calls))
        mixture = after.sample(generator)

    def white(kappa, factors):
        return kappa.sqrt()[:, None] * ((mixture.means - after.mean)[:, None] @ factors)[:, 0]

    error = gap(white(after.kappa, mixture.factors), epsilon)
    largest_error(error)
    assert error < EXACT
    assert gap(white(after.kappa + 1, mixture.factors), epsilon) > 1e-3
    assert gap(white(after.kappa, mixture.factors.mT), epsilon) > 1e-3


@pytest.mark.equation("eq-vg-gibbs-weights", "eq-vg-empty", how="Monte Carlo")
def test_weights_given_the_labels_are_dirichlets(generator, largest_error):
    """Each π_k ~ Beta(α_k, Σα − α_k); one without points has mean α_0 / (K α_0 + N)."""
    prior, labels = same_prior(3, 1, alpha=0.8), torch.tensor([0] * 7 + [1] * 2)
    x = randn(generator, 9, 1)
    after = prior.posterior(moments_of_labels(x, labels, 3))
    draws = torch.stack([after.sample(generator).weights for _ in range(2500)])
    assert gap(draws.sum(1), number(1.0)) < 1e-12
    for k, n in enumerate((7, 2, 0)):
        law = stats.beta(0.8 + n, 3 * 0.8 + 9 - 0.8 - n)
        found = ks(draws[:, k], law.cdf)
        assert found.pvalue > 1e-4
        largest_error(found.statistic, "eq-vg-gibbs-weights")
        assert ks(draws[:, k], stats.beta(1.8 + n, 3 * 0.8 + 9 - 1.8 - n).cdf).pvalue < 1e-10
    mean, exact = draws[:, 2].mean(), 0.8 / (3 * 0.8 + 9)
    largest_error(abs(mean - exact), "eq-vg-empty")
    assert abs(mean - exact) < 4 * draws[:, 2].std() / 2500**0.5 and abs(mean - 1 / 3) > 0.1
    assert torch.equal(after.mean[2], prior.mean[2]) and torch.equal(after.inverse_scale[2], prior.inverse_scale[2])


@pytest.mark.equation("eq-vg-gibbs-labels", how="Monte Carlo")
def test_labels_are_drawn_by_their_responsibilities(generator, largest_error):
    model = BayesianGMM(same_prior(4, 2))
    model.mixture = mixture_of(generator, 4, 2)
    x = randn(generator, 6, 2)
    labels = model.draw_labels(x.repeat_interleave(15_000, 0), generator).view(6, 15_000)
    gamma = model.mixture.responsibilities(x)
    shares_found = torch.stack([torch.bincount(row, minlength=4) for row in labels]) / 15_000
    for row, exact in zip(shares_found, gamma):
        assert stats.chisquare(15_000 * row, 15_000 * exact / exact.sum()).pvalue > 1e-4
    largest_error(gap(shares_found, gamma))
    without = (model.mixture.log_joint(x) - model.weights.log()).softmax(1)
    assert gap(shares_found, without) > 0.05


def test_a_component_of_weight_zero_is_never_drawn(generator):
    model = BayesianGMM(same_prior(4, 2))
    made = mixture_of(generator, 4, 2)
    for dead in ([0], [3], [0, 2, 3]):
        weights = made.weights.clone()
        weights[dead] = 0
        model.mixture = replace(made, weights=weights / weights.sum())
        labels = model.draw_labels(randn(generator, 20_000, 2), generator)
        assert not torch.isin(labels, torch.tensor(dead)).any()
        assert len(labels.unique()) == 4 - len(dead)


@pytest.mark.parametrize("uniform, expected", [(0.0, 1), (1 - 2**-53, 2)])
def test_the_ends_of_a_uniform_number_give_components_that_there_are(uniform, expected, monkeypatch):
    """π = (0, ½, ½, 0): neither the first nor the last may come, whatever the random number."""
    model = BayesianGMM(same_prior(4, 1))
    equal = torch.zeros(4, 1).double()
    model.mixture = GaussianMixture(number([0.0, 0.5, 0.5, 0.0]), equal, torch.ones(4, 1, 1).double())
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: torch.full(shape, uniform, dtype=torch.float64))
    assert model.draw_labels(torch.zeros(3, 1).double(), numbers(0)).tolist() == [expected] * 3


@pytest.mark.equation("eq-vg-gibbs-precision", how="quadrature")
def test_with_the_mean_integrated_out_the_precision_is_wisharts(generator, largest_error):
    """log ∫ p(x, μ, Λ) dμ − log Wishart(Λ; ν_k, W_k) is one number for all Λ."""
    prior = prior_of(generator, 1, 2)
    x = randn(generator, 6, 2)
    after = prior.posterior(moments_of_labels(x, torch.zeros(6, dtype=torch.long), 1))
    line = torch.linspace(-6, 6, 241, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    found, laws = [], {0: [], 1: []}
    for _ in range(6):
        precision = definite(generator, 2)
        one = GaussianMixture.of_covariances(number([1.0]), torch.zeros(1, 2).double(),
                                             torch.linalg.inv(precision)[None])
        at_zero = prior.log_prob(one)
        apart = grid - prior.mean[0]                       # the prior's exponent, moved from μ = 0 to each μ
        square = torch.einsum("ni,ij,nj->n", apart, precision, apart)
        square -= prior.mean[0] @ precision @ prior.mean[0]
        points = MultivariateNormal(grid[:, None], precision_matrix=precision).log_prob(x).sum(1)
        log_joint = at_zero - 0.5 * prior.kappa[0] * square + points
        found.append(log_joint.logsumexp(0) + 2 * (line[1] - line[0]).log())
        for extra in laws:
            scale = torch.linalg.inv(after.inverse_scale[0]).numpy()
            laws[extra].append(stats.wishart(after.nu[0].item() + extra, (scale + scale.T) / 2).logpdf(
                precision.numpy()))
    spread = {extra: (torch.stack(found) - number(law)).std() for extra, law in laws.items()}
    largest_error(spread[0])
    assert spread[0] < 1e-9 and spread[1] > 0.1
    evidence = prior.log_evidence(moments_of_labels(x, torch.zeros(6, dtype=torch.long), 1))
    assert abs((torch.stack(found) - number(laws[0])).mean() - evidence) < 1e-9


@pytest.mark.equation("eq-vg-full-conditional", how="closed form")
def test_with_the_mean_held_there_is_one_more_degree_of_freedom(generator, largest_error):
    prior, x, mu = prior_of(generator, 1, 3), randn(generator, 7, 3), randn(generator, 3)
    apart = mu - prior.mean[0]
    inverse = prior.inverse_scale[0] + (x - mu).T @ (x - mu) + prior.kappa[0] * torch.outer(apart, apart)
    scale = torch.linalg.inv(inverse).numpy()
    joint, laws = [], {0: [], 1: []}
    for _ in range(8):
        precision = definite(generator, 3)
        one = GaussianMixture.of_covariances(number([1.0]), mu[None], torch.linalg.inv(precision)[None])
        joint.append(one.log_joint(x).sum() + prior.log_prob(one))
        for extra in laws:
            laws[extra].append(stats.wishart(prior.nu[0].item() + 7 + extra, (scale + scale.T) / 2).logpdf(
                precision.numpy()))
    spread = {extra: (torch.stack(joint) - number(law)).std() for extra, law in laws.items()}
    largest_error(spread[1])
    assert spread[1] < 1e-9 and spread[0] > 0.1             # without the 1: what a wrong sampler would draw from


# --- the chain ----------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-vg-switch", how="enumeration")
def test_names_of_components_mean_nothing(generator, largest_error):
    """The joint law is the same for all K! numberings, and so E[μ_k | x], by all labels, is the same for all k."""
    prior, mixture = same_prior(3, 2), mixture_of(generator)
    x, labels = labelled(generator)

    def joint(prior, mixture, labels):
        return mixture.log_joint(x).gather(1, labels[:, None]).sum() + prior.log_prob(mixture)

    values, unequal = [], []
    for order in itertools.permutations(range(3)):
        order = torch.tensor(order)
        values.append(joint(prior, mixture.permuted(order), order.argsort()[labels]))
        unequal.append(joint(prior_of(numbers(1)), mixture.permuted(order), order.argsort()[labels]))
    every = torch.tensor(list(itertools.product(range(3), repeat=5)))
    parts = [moments_of_labels(x[:5], z, 3) for z in every]
    law = torch.stack([prior.log_evidence(part) for part in parts]).softmax(0)
    means = torch.einsum("z,zkl->kl", law, torch.stack([prior.posterior(part).mean for part in parts]))
    error = max(gap(torch.stack(values), values[0]), gap(means, means[:1]))
    largest_error(error)
    assert error < EXACT
    assert gap(torch.stack(unequal), unequal[0]) > 1       # unless the prior knows them apart


@pytest.mark.equation("eq-vg-information", how="closed form")
def test_information_is_that_of_points_number_and_component(generator, largest_error):
    r = shares(generator, 50, 4)
    joint = r / 50
    exact = (joint * (joint / (joint.sum(1, keepdim=True) * joint.sum(0))).log()).sum()
    largest_error(abs(assignment_information(r) - exact))
    assert abs(assignment_information(r) - exact) < 1e-12
    assert abs(assignment_information(torch.eye(4).double().repeat(3, 1)) - math.log(4)) < 1e-14
    assert abs(assignment_information(shares(generator, 4).expand(9, 4))) < 1e-14
    assert abs(assignment_information(torch.eye(4)[:1].double().expand(9, 4))) < 1e-14     # all in one
    hard = torch.nn.functional.one_hot(torch.tensor([0, 0, 0, 1])).double()
    assert abs(assignment_information(hard) - (0.75 * math.log(4 / 3) + 0.25 * math.log(4))) < 1e-14
    assert abs(torch.xlogy(r, r).sum(1).mean() - exact) > 0.1


def test_the_chain_visits_all_labels_as_often_as_their_posterior_says(generator):
    """2⁵ labels with their exact law, names ignored since the chain may change them; batch means."""
    prior = Prior.same(2, torch.zeros(1), torch.eye(1), alpha=1.5, kappa=0.5, nu=3.0)
    x = number([[-1.5], [-1.0], [0.2], [1.0], [2.5]])
    every = torch.tensor(list(itertools.product(range(2), repeat=5)))
    law = torch.stack([prior.log_evidence(moments_of_labels(x, z, 2)) for z in every]).softmax(0)
    bits = 2 ** torch.arange(4, -1, -1)
    assert torch.equal(every @ bits, torch.arange(32))
    exact = (law + law.flip(0))[:16]                         # z and its mirror image are one partition
    model = BayesianGMM(prior)
    model.start(x, generator)
    codes = torch.stack([model.sweep(x, generator) @ bits for _ in range(4000)])
    partition = torch.minimum(codes, 31 - codes)
    batches = torch.nn.functional.one_hot(partition, 16).double().unflatten(0, (40, 100)).mean(1)
    z = (batches.mean(0) - exact) / (batches.std(0) / 40**0.5)
    assert z.abs().max() < 4.5, z
    flat = torch.full((16,), 1 / 16, dtype=torch.float64)
    assert ((batches.mean(0) - flat) / (batches.std(0) / 40**0.5)).abs().max() > 20


def test_one_component_draws_independently_from_the_exact_posterior(generator):
    x = randn(generator, 30, 2) @ number([[2.0, 0.0], [1.0, 0.5]]) + 1
    prior = prior_of(generator, 1, 2)
    model, states = BayesianGMM(prior), []
    for _ in range(1500):
        assert not model.sweep(x, generator).any()
        states.append(model.mixture_copy())
    after = prior.posterior(moments(x, torch.ones(30, 1).double()))
    means = torch.stack([state.means[0] for state in states])
    precisions = torch.stack([state.precisions[0] for state in states])
    freedom = (after.nu[0] - 1).item()
    shape = (after.inverse_scale[0] / (after.kappa[0] * freedom)).numpy()
    for i in range(2):                                       # μ_i by itself: Student's t
        law = stats.t(freedom, after.mean[0, i].item(), shape[i, i] ** 0.5)
        assert ks(means[:, i], law.cdf).pvalue > 1e-4
        assert ks(means[:, i] + 0.15 * law.std(), law.cdf).pvalue < 1e-4
    scale = torch.linalg.inv(after.inverse_scale[0])
    assert ks(precisions[:, 1, 1] / scale[1, 1], stats.chi2(after.nu[0].item()).cdf).pvalue > 1e-4
    assert model.weights.tolist() == [1.0]
    chain = model.run(x, 5, generator)
    assert chain.information.abs().max() < 1e-12
    stuck, climb = em(x, GaussianMixture.of_covariances(number([1.0]), torch.zeros(1, 2).double(),
                                                        torch.eye(2).double()[None]), 2)
    assert gap(stuck.covariances[0], torch.cov(x.T, correction=0)) < 1e-11 and abs(climb[1] - climb[2]) < 1e-9


# --- Geweke's test ------------------------------------------------------------------------------------------

POINTS = 12


def geweke_prior():
    """ν = L + 2, and parts that no symmetry hides."""
    return Prior.same(3, number([0.4, -0.3]), number([[1.5, 0.4], [0.4, 0.8]]), alpha=1.5, kappa=0.7, nu=4.0)


def forward(prior, count, seed):
    """States and data drawn from the model by scipy and numpy: nothing of ours."""
    rng, (k, d) = np.random.default_rng(seed), prior.mean.shape
    weights = rng.dirichlet(prior.alpha.numpy(), count)
    scale = np.linalg.inv(prior.inverse_scale[0].numpy())
    law = stats.wishart(prior.nu[0].item(), (scale + scale.T) / 2)
    precisions = law.rvs(count * k, random_state=rng).reshape(count, k, d, d)
    factors = np.linalg.cholesky(precisions)
    back = np.linalg.inv(factors).swapaxes(-1, -2)
    noise = rng.standard_normal((count, k, d, 1))
    means = prior.mean[0].numpy() + (back @ noise)[..., 0] / prior.kappa[0].item() ** 0.5
    labels = (rng.random((count, POINTS, 1)) > weights.cumsum(1)[:, None, :-1]).sum(-1)
    rows = np.arange(count)[:, None]
    x = means[rows, labels] + (back[rows, labels] @ rng.standard_normal((count, POINTS, d, 1)))[..., 0]
    return tuple(map(torch.from_numpy, (weights, means, factors, labels, x)))


@torch.inference_mode()
def chain(prior, count, seed):
    """A sweep of ours, then new data given its labels and parameters, and so on."""
    generator, model, history = numbers(seed), BayesianGMM(prior), []
    model.mixture = prior.sample(generator)
    x, labels = model.mixture.sample(POINTS, generator)
    for _ in range(count):
        labels = model.sweep(x, generator)
        x = model.mixture.sample_of(labels, generator)
        history.append((model.weights.clone(), model.means.clone(), model.factors.clone(), labels, x))
    return tuple(map(torch.stack, zip(*history)))


def readings(prior, weights, means, factors, labels, x):
    """Numbers of a state whose means are compared, (count, numbers); those with heavy tails are bounded."""
    away = ((means - prior.mean[0])[:, :, None] @ factors)[:, :, 0]
    pull = prior.kappa[0] * away.square().sum(-1)           # mean L: what a wrong κ changes
    precisions = factors @ factors.mT
    log_det = torch.linalg.slogdet(precisions).logabsdet
    share = torch.nn.functional.one_hot(labels, 3).double().mean(1)
    own = x - means.gather(1, labels[..., None].expand(-1, -1, 2))
    log_square = own.square().sum(-1).log().mean(1)
    sizes = x.square().sum(-1).log1p()
    return torch.stack([
        pull.mean(1), pull[:, 0], weights[:, 0], weights.square().sum(1), weights[:, 1] * share[:, 1],
        share.square().sum(1), means[:, 0, 0].tanh(), means[:, 2, 1].tanh(), (means[:, 1, 0] * means[:, 1, 1]).tanh(),
        log_det.mean(1), log_det[:, 2], precisions[:, 0, 0, 0], precisions[:, 1, 1, 1], precisions[:, 2, 0, 1],
        (weights[:, 0] * log_det[:, 0]), log_square, sizes.mean(1), x[..., 0].tanh().mean(1),
        (x[..., 0] * x[..., 1]).tanh().mean(1), (share[:, 0] * x[..., 1].tanh().mean(1)),
    ], 1)


def geweke(steps, seed=1, batches=50):
    """z of every reading: its mean over the chain by batches, against that over states drawn forward."""
    prior = geweke_prior()
    drawn = readings(prior, *forward(prior, 60_000, seed))
    found = readings(prior, *chain(prior, steps, seed)).unflatten(0, (batches, -1)).mean(1)
    error = (drawn.var(0) / len(drawn) + found.var(0) / batches).sqrt()
    return (drawn.mean(0) - found.mean(0)) / error


def test_geweke_the_sampler_leaves_the_joint_law(generator):
    z = geweke(20_000)
    assert z.abs().max() < 4, z
    prior = geweke_prior()
    exact = readings(prior, *forward(prior, 60_000, 3))
    assert abs(exact[:, 0].mean() - 2) < 0.05 and abs(exact[:, 2].mean() - 1 / 3) < 0.01


@pytest.mark.parametrize("name, steps", [("nu", 1500), ("log determinant", 3000), ("kappa", 5000)])
def test_geweke_finds_what_is_wrong(name, steps, monkeypatch):
    posterior, log_prob = Prior.posterior, GaussianMixture.log_prob_of_components
    if name == "log determinant":
        monkeypatch.setattr(GaussianMixture, "log_prob_of_components", lambda self, x: log_prob(self, x) - self.log_det)
    else:
        def off_by_one(self, found):
            law = posterior(self, found)
            return replace(law, **{name: getattr(law, name) + 1})
        monkeypatch.setattr(Prior, "posterior", off_by_one)
    assert geweke(steps).abs().max() > 5


# --- the model around the chain -----------------------------------------------------------------------------


def test_a_run_tells_the_joint_probability_and_the_information_of_its_states(generator):
    x, _ = clouds(generator, 20)
    model = BayesianGMM(Prior.weak(x, 3))
    model.start(x, generator)
    again = BayesianGMM(Prior.weak(x, 3))
    again.load_state_dict(model.state_dict())
    chain = model.run(x, 4, numbers(3), keep=True)
    short = again.run(x, 4, numbers(3))
    assert chain.labels.shape == (4, 60) and short.labels.shape == (1, 60) and torch.equal(short.labels[0], chain.labels[-1])
    assert torch.equal(chain.log_prob, short.log_prob)
    mixture = model.mixture
    joint = mixture.log_joint(x)[torch.arange(60), chain.labels[-1]].sum() + model.prior.log_prob(mixture)
    assert abs(chain.log_prob[-1] - joint) < 1e-9
    assert abs(chain.information[-1] - assignment_information(mixture.responsibilities(x))) < 1e-12
    assert chain.log_prob.shape == chain.information.shape == (4,)
    by_hand = BayesianGMM(Prior.weak(x, 3))
    by_hand.mixture = again.mixture
    other = numbers(7)
    labels = by_hand.draw_labels(x, other)
    by_hand.draw_parameters(x, labels, other)
    assert torch.equal(again.sweep(x, numbers(7)), labels) and torch.equal(again.means, by_hand.means)


def test_fit_keeps_the_start_whose_assignment_carries_most_information(generator):
    x, truth = clouds(generator, 40, apart=6.0)
    model = BayesianGMM(Prior.weak(x, 5))
    found = model.fit(x, numbers(2), sweeps=3, restarts=6)
    assert found.shape == (6,) and (found <= math.log(5)).all() and 0 < found.argmax() < 5
    r = model.mixture.responsibilities(x)
    assert abs(assignment_information(r) - found.max()) < 1e-12
    # each start, by hand, one after another with the same random numbers
    again, random, by_hand = BayesianGMM(Prior.weak(x, 5)), numbers(2), []
    for _ in range(6):
        again.start(x, random)
        for _ in range(3):
            labels = again.sweep(x, random)
        after = again.prior.posterior(moments_of_labels(x, labels, 5)).expected()
        by_hand.append(assignment_information(after.responsibilities(x)))
    assert gap(torch.stack(by_hand), found) < 1e-12 and found.max() - found.sort().values[-2] > 1e-6
    three = BayesianGMM(Prior.weak(x, 3))
    three.fit(x, generator, sweeps=5, restarts=2)
    labels = three.mixture.responsibilities(x).argmax(1)
    assert clustering.accuracy(clustering.contingency(labels, truth, None)).item() > 0.98


def test_the_state_settles_at_the_posteriors_mean(generator):
    x, labels = labelled(generator, count=30)
    model = BayesianGMM(prior_of(generator))
    model.settle(x, labels)
    exact = model.prior.posterior(moments_of_labels(x, labels, 3)).expected()
    assert torch.equal(model.means, exact.means) and torch.equal(model.factors, exact.factors)
    assert torch.equal(model.weights, exact.weights)


def test_the_model_begins_at_its_priors_mean_and_carries_all_in_its_state(generator):
    prior = prior_of(generator)
    model = BayesianGMM(prior)
    assert torch.equal(model.means, prior.mean) and torch.equal(model.mixture.factors, prior.expected().factors)
    for name in ("alpha", "kappa", "mean", "inverse_scale", "nu"):
        assert torch.equal(getattr(model.prior, name), getattr(prior, name))
    x, _ = labelled(generator, count=20)
    model.run(x, 3, generator)
    other = BayesianGMM(same_prior())
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.sweep(x, numbers(1)), model.sweep(x, numbers(1)))
    assert torch.equal(other.factors, model.factors) and not list(model.parameters())


def test_what_is_put_in_is_copied_and_a_copy_stays(generator):
    model, made = BayesianGMM(prior_of(generator)), mixture_of(generator)
    before = made.means.clone()
    model.mixture = made
    kept, seen = model.mixture_copy(), model.mixture
    x, _ = labelled(generator, count=20)
    model.sweep(x, generator)
    assert torch.equal(made.means, before) and torch.equal(kept.means, before)
    assert torch.equal(seen.means, model.means) and not torch.equal(seen.means, before)
    own = same_prior()
    model = BayesianGMM(own)
    model.prior_mean.add_(1)
    assert own.mean.abs().max() < 1


def test_single_precision_is_converted_and_other_devices_keep_float64(generator):
    x, _ = clouds(generator, 20)
    model = BayesianGMM(Prior.weak(x.float(), 3))
    model.fit(x.float(), numbers(1), sweeps=2, restarts=1)
    assert em(x.float(), model.mixture, 2)[0].means.dtype == torch.float64
    for convert in (torch.nn.Module.float, torch.nn.Module.half, lambda m: m.to(torch.bfloat16)):
        means = model.means.clone()
        convert(model)
        assert model.means.dtype == model.prior_nu.dtype == torch.float64 and torch.equal(model.means, means)
        model.sweep(x, generator)
    assert model.to("meta").means.device.type == "meta"


def test_random_numbers_come_from_the_generator_alone(generator):
    x, _ = clouds(generator, 20)
    state = torch.get_rng_state()
    runs = []
    for _ in range(2):
        model = BayesianGMM(Prior.weak(x, 3))
        model.fit(x, numbers(5), sweeps=3, restarts=2)
        model.mixture.sample(4, numbers(5))
        runs.append(model.factors.clone())
    assert torch.equal(*runs) and torch.equal(torch.get_rng_state(), state)


def test_points_that_are_all_equal_and_components_without_any_are_no_trouble(generator):
    model = BayesianGMM(Prior.same(4, torch.zeros(2), torch.eye(2), alpha=1.0, kappa=1.0, nu=4.0))
    model.fit(torch.zeros(30, 2), generator, sweeps=5, restarts=2)
    assert model.means.isfinite().all() and model.mixture.log_prob(torch.zeros(1, 2).double()).isfinite().all()
    chain = model.run(torch.zeros(4, 2), 3, generator)      # as many points as components
    assert chain.log_prob.isfinite().all()


def test_clusters_are_found_as_well_as_by_scikit_learn(generator):
    """Six overlapping clouds in four dimensions; both take their own best of five starts."""
    at, truth = 2.2 * randn(generator, 6, 4), torch.arange(6).repeat_interleave(200)
    spread = torch.linalg.cholesky(0.6 * definite(generator, 6, 4))
    x = at[truth] + (spread[truth] @ randn(generator, 1200, 4, 1))[..., 0]
    model = BayesianGMM(Prior.weak(x, 6))
    model.fit(x, generator, sweeps=25, restarts=5)
    other = sklearn_mixture.BayesianGaussianMixture(n_components=6, n_init=5, max_iter=500, random_state=0).fit(x.numpy())

    def accuracy(labels):
        return clustering.accuracy(clustering.contingency(torch.as_tensor(labels).long(), truth, None)).item()

    ours, theirs = accuracy(model.mixture.responsibilities(x).argmax(1)), accuracy(other.predict(x.numpy()))
    assert 0.8 < theirs < 0.995, "neither hopeless nor trivial"
    assert ours > theirs - 0.02, (ours, theirs)


# --- variational Bayes --------------------------------------------------------------------------------------


@pytest.mark.equation("eq-vg-vb-m-step", how="closed form")
def test_shares_enter_the_posterior_where_counts_did(generator, largest_error):
    """log q(Θ) = Σ r log π N + log p(Θ) + const at any Θ: the best factor."""
    prior, x, r = prior_of(generator), randn(generator, 15, 2), shares(generator, 15, 3)
    some = [mixture_of(generator) for _ in range(6)]

    def spread(law):
        return torch.stack([expected_complete(each, x, r) + prior.log_prob(each) - law.log_prob(each)
                            for each in some]).std()

    law = prior.posterior(moments(x, r))
    largest_error(spread(law))
    assert spread(law) < 1e-9
    assert spread(prior.posterior(moments_of_labels(x, r.argmax(1), 3))) > 0.1
    assert spread(replace(law, nu=law.nu + 1)) > 0.01


@pytest.mark.equation("eq-vg-vb-e-step", how="Monte Carlo")
def test_the_e_step_of_variational_bayes_is_an_expectation_over_parameters(generator, largest_error):
    """E log N by 20,000 draws of one component's parameters; E log π by its digamma against draws of Dirichlet."""
    prior = prior_of(generator).posterior(moments_of_labels(*labelled(generator, count=15), 3))
    x = prior.mean + 0.1 * randn(generator, 3, 2)
    found = prior.expected_log_joint(x)
    rng = np.random.default_rng(1)
    weights = number(rng.dirichlet(prior.alpha.numpy(), 20_000)).log()
    for k in range(3):
        one = Prior.same(20_000, prior.mean[k], prior.inverse_scale[k], alpha=1.0, kappa=prior.kappa[k].item(),
                         nu=prior.nu[k].item())
        draws = one.sample(generator).log_prob_of_components(x) + weights[:, k]
        z = (draws.mean(1) - found[:, k]) / (draws.std(1) / 20_000**0.5)
        assert z.abs().max() < 4
        largest_error((draws.mean(1) - found[:, k]).abs().max())
        halves = 0.5 * (prior.nu[k] - torch.arange(2))
        without = (torch.digamma(halves) - halves.log()).sum()                # log for digamma
        assert ((draws.mean(1) - found[:, k] + 0.5 * without) / (draws.std(1) / 20_000**0.5)).abs().max() > 8


@pytest.mark.equation("eq-vg-vb-e-step", how="closed form")
def test_the_fixed_point_of_variational_bayes_is_scikit_learns(generator, largest_error):
    x, _ = clouds(generator, 12)
    prior = Prior.same(3, x.mean(0), torch.eye(2), alpha=1.0, kappa=0.5, nu=4.0)
    other = sklearn_mixture.BayesianGaussianMixture(
        n_components=3, weight_concentration_prior_type="dirichlet_distribution", weight_concentration_prior=1.0,
        mean_precision_prior=0.5, mean_prior=x.mean(0).numpy(), degrees_of_freedom_prior=4.0,
        covariance_prior=np.eye(2), reg_covar=0.0, tol=1e-12, max_iter=500, random_state=0).fit(x.numpy())
    r = torch.from_numpy(other.predict_proba(x.numpy()))
    for _ in range(100):
        law = prior.posterior(moments(x, r))
        r = law.expected_log_joint(x).softmax(1)
    errors = [gap(law.mean, number(other.means_)), gap(law.nu, number(other.degrees_of_freedom_)),
              gap(law.alpha, number(other.weight_concentration_)),
              gap(law.inverse_scale / law.nu[:, None, None], number(other.covariances_))]
    largest_error(max(errors))
    assert max(errors) < 1e-5
    plug_in = law.expected().responsibilities(x)            # log for digamma everywhere
    assert gap(plug_in, r) > 1e-3


# --- what comes in ------------------------------------------------------------------------------------------

X = torch.arange(40, dtype=torch.float64).view(20, 2).sin()
BROKEN = X.clone()
BROKEN[3, 1], BROKEN[7, 0] = math.nan, math.inf


def model_of(components=3):
    return BayesianGMM(same_prior(components))


def of_zeros(components=2, d=2):
    return GaussianMixture(torch.full((components,), 1 / components).double(), torch.zeros(components, d).double(),
                           torch.eye(d).double().expand(components, d, d))


@pytest.mark.parametrize("call, words", [
    (lambda g: model_of().run(BROKEN, 1, g), "Point 3 holds nan or inf.*encoder that diverged"),
    (lambda g: model_of().fit(BROKEN[4:], g), "Point 3 holds nan or inf"),
    (lambda g: em(BROKEN, of_zeros(), 1), "Point 3 holds nan or inf"),
    (lambda g: Prior.weak(BROKEN, 2), "Point 3 holds nan or inf"),
    (lambda g: model_of().fit(X[:2], g), "3 components need at least 3 points, but 2 came"),
    (lambda g: model_of().run(X[:2], 1, g), "3 components need at least 3 points"),
    (lambda g: em(X[:1], of_zeros(), 1), "2 components need at least 2 points"),
    (lambda g: Prior.weak(X[:1], 2), "2 components need at least 2 points"),
    (lambda g: model_of().run(X[0], 1, g), r"shape \(points, L\), but torch.float64 of shape \(2,\)"),
    (lambda g: model_of().fit(X.long(), g), r"floating-point numbers.*torch.int64 of shape \(20, 2\)"),
    (lambda g: model_of().run(X[:, :1], 1, g), r"\(20, 1\)|\(points, 2\)"),
    (lambda g: of_zeros().log_prob(X[:, :1]), r"\(points, 2\).*\(20, 1\) came"),
    (lambda g: of_zeros().responsibilities(X[0]), r"\(points, 2\).*\(2,\) came"),
    (lambda g: model_of().run(X, 0, g), "at least one sweep, but 0 came"),
    (lambda g: model_of().fit(X, g, sweeps=0), "At least one sweep and one start are needed; 0 and 10 came"),
    (lambda g: model_of().fit(X, g, restarts=0), "40 and 0 came"),
    (lambda g: setattr(model_of(), "mixture", of_zeros(1)), r"\(3,\).*\(1,\) came"),
    (lambda g: setattr(model_of(), "mixture", of_zeros(3, 1)), r"\(3, 2\).*\(3, 1\) came"),
    (lambda g: moments_of_labels(X, torch.full((20,), 5), 3), "below 3, but 5 came"),
    (lambda g: gmm.neighbour_labels(X[:9], 2, g), "at least 10 points, but 9 came: start by k-means"),
    (lambda g: gmm.neighbour_labels(BROKEN, 2, g), "Point 3 holds nan or inf"),
    (lambda g: k_means(BROKEN, 2, g), "Point 3 holds nan or inf"),
    (lambda g: k_means_plus_plus(X[:1], 2, g), "2 components need at least 2 points"),
    (lambda g: replace(same_prior(), nu=torch.full((3,), 4.0)), "kept in float64"),
    (lambda g: replace(same_prior(), mean=torch.zeros(3).double()), r"float64 of shape \(3,\) came"),
    (lambda g: same_prior(nu=1.0), "more than 1 degrees of freedom, but nu = 1 came"),
    (lambda g: same_prior(nu=math.nan), "degrees of freedom"),
    (lambda g: same_prior(alpha=0.0), "above 0; 0 and 0.7 came"),
    (lambda g: same_prior(kappa=-1.0), "above 0; 1.5 and -1 came"),
    (lambda g: same_prior(0), "at least one component, but 0 came"),
    (lambda g: Prior.same(2, torch.zeros(3), torch.eye(2), alpha=1.0, kappa=1.0, nu=4.0), r"\(2, 3\) and \(2, 2, 2\) came"),
    (lambda g: BayesianGMM(Prior.same(2, torch.zeros(2), -torch.eye(2), alpha=1.0, kappa=1.0, nu=4.0)),
     "scale matrix of component 0 is not positive definite"),
    (lambda g: Prior.weak(torch.zeros(5, 2), 2).sample(g), "scale matrix of component 0 is not positive definite"),
])
def test_bad_input_gets_one_sentence(call, words, generator):
    with pytest.raises(ValueError, match=words):
        call(generator)


def test_the_models_know_no_labels_of_the_data():
    """What is chosen, is chosen without the true digits: neither file imports data or scores, or names them."""
    for name in ("gmm", "vae_gmm"):
        source = (ROOT / "nemlib" / f"{name}.py").read_text(encoding="utf-8")
        assert label_knowledge(source) == []
    for wrong in ("from nemlib.data import mnist", "import nemlib.evaluate.clustering", "def fit(x, digits): pass",
                  "def accuracy(r, truth): return 1", "from nemlib.evaluate.clustering import accuracy",
                  "best = scores.accuracy"):
        assert label_knowledge(wrong)


def label_knowledge(source):
    """Names and imports by which true labels could come in."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [name for name in names if "data" in name.split(".") or "clustering" in name or "evaluate" in name]
        for name in (getattr(node, "id", None), getattr(node, "attr", None), getattr(node, "arg", None),
                     getattr(node, "name", None)):
            if name and any(word in name.lower() for word in ("digit", "truth", "true_", "target", "accuracy", "ground")):
                found.append(name)
    return found


def test_a_divergence_of_two_components_is_pytorchs(generator):
    """The factors mean what PyTorch's precision does, in both of a divergence's places."""
    mixture = mixture_of(generator, 2, 3)
    both = density(mixture)
    a, b = (MultivariateNormal(both.loc[k], both.covariance_matrix[k]) for k in range(2))
    x = corners(3) @ torch.linalg.cholesky(a.covariance_matrix).T + a.loc
    exact = (mixture.log_prob_of_components(x)[:, 0] - mixture.log_prob_of_components(x)[:, 1]).mean()
    assert abs(exact - kl_divergence(a, b)) < EXACT
    assert Normal(0.0, 1.0).log_prob(torch.zeros(1)).item() == pytest.approx(-0.5 * gmm.LOG_TWO_PI)
