"""Importance-weighted estimates of a likelihood, against sums over every outcome of every draw.

A latent variable with a few states has a table for its prior, its likelihood and the law that proposes. All
tuples of K draws stand side by side as the batch that `importance` is given, each with its probability: so
"unbiased", "grows with K" and "too low by Var w / 2Kp²" are sums, and no draws.
"""

import itertools
import math

import pytest
import torch
from scipy import integrate, stats

from nemlib.evaluate import likelihood
from nemlib.evaluate.likelihood import Estimate, importance, join, log_mean_exp

EXACT = 1e-12


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(20160215)


def randn(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def random_law(generator, states, spread=1.0):
    return (spread * randn(generator, states)).softmax(0)


def every_draw(law, count):
    """All tuples of that many draws from a law (M,): their states (count, M^count), their probabilities."""
    states = torch.tensor(list(itertools.product(range(len(law)), repeat=count))).T
    return states, law[states].prod(0)


def given(log_weights):
    """A `draw` for `importance` that hands out these rows, (K, batch), in their order."""
    rows = iter(log_weights)
    return lambda count: torch.stack([next(rows) for _ in range(count)])


def all_estimates(log_w, law, count, chunk=100):
    """The estimate from every tuple of `count` draws from a law over states with these log weights (M,)."""
    states, probability = every_draw(law, count)
    return importance(given(log_w[states]), count, chunk), probability


# --- the mean weight and its spread -------------------------------------------------------------------------


@pytest.mark.equation("eq-vae-prior-estimate", how="enumeration")
def test_the_mean_likelihood_of_draws_from_the_prior_is_unbiased(generator, largest_error):
    prior, given_z = random_law(generator, 4), random_law(generator, 4, 2.0)      # p(z), and p(x | z) of an x
    truth = prior @ given_z
    for count in (1, 2, 3, 5):
        found, probability = all_estimates(given_z.log(), prior, count, chunk=2)
        error = (probability @ found.log_prob.exp() - truth).abs()
        largest_error(error)
        assert error < EXACT
        # the mutants: the mean of logarithms; states all drawn alike
        assert count == 1 or (probability @ found.elbo.exp() - truth).abs() > 1e-3
        alike = torch.full_like(probability, 4.0**-count)
        assert (alike @ found.log_prob.exp() - truth).abs() > 1e-3


def posterior_mean(prior, given_z):
    """E of p(x | z) under p(z | x)."""
    posterior = prior * given_z / (prior @ given_z)
    return posterior @ given_z


@pytest.mark.equation("eq-vae-prior-variance", how="enumeration")
def test_the_variance_of_the_prior_estimate(generator, largest_error):
    prior, given_z = random_law(generator, 4), random_law(generator, 4, 2.0)
    truth = prior @ given_z
    for count in (1, 2, 3, 5):
        found, probability = all_estimates(given_z.log(), prior, count)
        relative = probability @ (found.log_prob.exp() / truth - 1).square()
        error = (relative - (posterior_mean(prior, given_z) / truth - 1) / count).abs()
        largest_error(error)
        assert error < EXACT
        # the mutants: without the 1, without K, the mean under the prior
        assert (relative - posterior_mean(prior, given_z) / truth / count).abs() > 0.1
        assert count == 1 or (relative - posterior_mean(prior, given_z) / truth + 1).abs() > 0.1
        assert relative > 0.05 > prior @ given_z / truth - 1


def second_moment(W, variance, x):
    """E_{p(z)}[p(x | z)²] / p(x)² of x = W z + noise, by quadrature over a latent plane."""
    line = torch.linspace(-9, 9, 721, dtype=torch.float64)
    z = torch.cartesian_prod(line, line)
    noise = torch.distributions.Normal(z @ W.T, math.sqrt(variance))
    log_given = noise.log_prob(x).sum(1)
    log_prior = -0.5 * z.square().sum(1) - math.log(2 * math.pi)
    cell = 2 * math.log(line[1] - line[0])
    first, second = ((log_prior + power * log_given).logsumexp(0) + cell for power in (1, 2))
    return (second - 2 * first).exp()


def linear_second_moment(W, variance, x):
    """The same in closed form: λ = l² + s² of each axis; ρ the code's share; r the place of x."""
    eigenvalues, axes = torch.linalg.eigh(W @ W.T)
    lam, r = eigenvalues.clamp_min(0) + variance, x @ axes
    rho = 1 - variance / lam
    return ((r.square() / lam * rho / (1 + rho)).exp() / (1 - rho.square()).sqrt()).prod()


@pytest.mark.equation("eq-vae-prior-variance-linear", how="quadrature")
def test_the_prior_estimate_of_a_linear_model(generator, largest_error):
    W, variance = randn(generator, 4, 2), 0.5
    for _ in range(4):
        x = W @ randn(generator, 2) + math.sqrt(variance) * randn(generator, 4)
        exact = second_moment(W, variance, x)
        error = (linear_second_moment(W, variance, x) / exact - 1).abs()
        largest_error(error)
        assert error < 1e-10
        assert (linear_second_moment(W, variance, 0 * x) / exact - 1).abs() > 1e-3        # without x's place
        assert (linear_second_moment(W, variance**0.5, x) / exact - 1).abs() > 1e-3    # s for s²


def average_second_moment(eigenvalue, variance):
    """The closed form of one dimension averaged over x ~ p(x), by quadrature; 1 + λ/s² is to come out."""
    W = torch.tensor([[math.sqrt(eigenvalue)]], dtype=torch.float64)
    law = stats.norm(scale=math.sqrt(eigenvalue + variance))
    far = 9 * math.sqrt((eigenvalue + variance) * (2 * eigenvalue + variance) / variance)

    def at(u):
        return law.pdf(u) * float(linear_second_moment(W, variance, torch.tensor([u], dtype=torch.float64)))

    return integrate.quad(at, -far, far, epsabs=1e-10, epsrel=1e-10, limit=200)[0]


@pytest.mark.equation("eq-vae-prior-variance-linear", how="quadrature")
def test_the_prior_estimate_of_a_linear_model_grows_exponentially_with_the_latent_dimension(largest_error):
    """On average over the data each latent dimension multiplies E[p(x|z)²]/p(x)² by 1 + λ/s²."""
    for eigenvalue, variance in ((1.0, 0.5), (2.5, 1.0), (0.3, 0.2)):
        found = average_second_moment(eigenvalue, variance)
        largest_error(abs(found - (1 + eigenvalue / variance)))
        assert abs(found - (1 + eigenvalue / variance)) < 1e-8
        assert abs(found - math.sqrt(1 + 2 * eigenvalue / variance)) > 0.1  # the mutant: at x = 0


def states_of(generator, states=4):
    """log p(x, z) and q(z) of every state, and log p(x)."""
    log_joint, q = randn(generator, states) - 3, random_law(generator, states)
    return log_joint, q, log_joint.logsumexp(0)


@pytest.mark.equation("eq-vae-importance", how="enumeration")
def test_the_mean_weight_of_any_proposal_is_the_marginal(generator, largest_error):
    for count in (1, 2, 4):
        log_joint, q, truth = states_of(generator)
        found, probability = all_estimates(log_joint - q.log(), q, count, chunk=3)
        error = (probability @ (found.log_prob - truth).exp() - 1).abs()
        largest_error(error)
        assert error < EXACT
        # the mutants: the proposal forgotten below the fraction; drawn from another law than it
        without, _ = all_estimates(log_joint, q, count)
        assert (probability @ (without.log_prob - truth).exp() - 1).abs() > 0.1
        _, other = every_draw(random_law(generator, 4), count)
        assert (other @ (found.log_prob - truth).exp() - 1).abs() > 0.01


@pytest.mark.equation("eq-vae-jensen", how="enumeration")
def test_the_mean_log_weight_is_never_above_the_log_of_the_mean(generator, largest_error):
    for _ in range(50):
        log_joint, q, truth = states_of(generator)
        found, probability = all_estimates(log_joint - q.log(), q, 2)
        bound = probability @ found.elbo
        largest_error((bound - truth).clamp_min(0))
        assert bound < truth
        posterior = (log_joint - truth).exp()
        assert posterior @ (log_joint - q.log()) > truth            # the mutant: an average under p(z | x)
    certain, _ = all_estimates(log_joint - posterior.log(), posterior, 3)       # there all weights are alike
    largest_error((certain.elbo - truth).abs().max())
    assert (certain.elbo - truth).abs().max() < EXACT


# --- more samples -------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-vae-iwae-average", how="enumeration")
def test_the_mean_of_all_is_the_mean_of_the_means_of_the_parts(generator, largest_error):
    log_w = randn(generator, 6, 5)                                          # six draws, five examples
    whole = log_mean_exp(log_w).exp()
    for size in range(1, 7):
        parts = [log_mean_exp(log_w[list(part)]) for part in itertools.combinations(range(6), size)]
        error = (torch.stack(parts).exp().mean(0) - whole).abs().max()
        largest_error(error)
        assert error < EXACT
        assert size == 6 or (torch.stack(parts).mean(0).exp() - whole).abs().max() > 0.01     # logs averaged
    # the mutant: only neighbours as parts, which are not all alike
    neighbours = torch.stack([log_mean_exp(log_w[i:i + 2]).exp() for i in range(5)])
    assert (neighbours.mean(0) - whole).abs().max() > 0.01


def bounds(log_joint, q, counts):
    """L_K for each of these K, exactly."""
    found = (all_estimates(log_joint - q.log(), q, count, chunk=2) for count in counts)
    return torch.stack([probability @ estimate.log_prob for estimate, probability in found])


@pytest.mark.equation("eq-vae-iwae-grows", how="enumeration")
def test_the_importance_weighted_bound_grows_and_stays_below(generator, largest_error):
    for _ in range(10):
        log_joint, q, truth = states_of(generator, 3)
        found = bounds(log_joint, q, range(1, 8))
        steps = torch.cat([found, truth[None]]).diff()
        largest_error((-steps).clamp_min(0).max())
        assert steps.min() > 0
        elbo = q @ (log_joint - q.log())
        assert (found[0] - elbo).abs() < EXACT and truth - found[-1] < 0.5 * (truth - elbo)
        # the mutants: − log K forgotten is no bound; the mean of the logs never grows
        assert (found + torch.arange(1, 8).log())[-1] > truth
        means = torch.stack([every_draw(q, k)[1] @ (log_joint - q.log())[every_draw(q, k)[0]].mean(0)
                             for k in range(1, 8)])
        assert means.diff().abs().max() < EXACT
    posterior = (log_joint - truth).exp()
    largest_error((bounds(log_joint, posterior, (1, 4)) - truth).abs().max())
    assert (bounds(log_joint, posterior, (1, 4)) - truth).abs().max() < EXACT


def two_states(log_w, first, count):
    """All estimates from `count` draws of two states, by how often the first came; their probabilities."""
    times = torch.arange(count + 1)
    rows = (torch.where(i < times, log_w[0], log_w[1]) for i in range(count))
    found = importance(lambda asked: torch.stack([next(rows) for _ in range(asked)]), count)
    return found, torch.from_numpy(stats.binom.pmf(times.numpy(), count, first))


@pytest.mark.equation("eq-vae-iwae-bias", how="enumeration")
def test_what_is_missing_is_half_the_relative_variance(largest_error):
    """To first order in 1/K: what is left of it halves where K doubles."""
    for first, weights in ((0.3, (2.0, 0.5)), (0.8, (0.1, 1.3))):
        q, w = torch.tensor([first, 1 - first]).double(), torch.tensor(weights).double()
        mean = q @ w
        predicted, left = q @ (w - mean).square() / (2 * mean**2), []
        for count in (128, 256, 512):
            found, probability = two_states(w.log(), first, count)
            missing = mean.log() - probability @ found.log_prob
            left.append((count * missing / predicted - 1).abs())
            # what an estimate says of itself
            assert (probability @ found.standard_error.square() / 2 / missing - 1).abs() < 20 / count
        largest_error(left[-1])
        assert left[-1] < 0.01
        assert all(0.45 < after / before < 0.55 for before, after in itertools.pairwise(left))
        assert (count * missing / (2 * predicted) - 1).abs() > 0.4                # the mutant: without the ½


@pytest.mark.equation("eq-vae-iwae-gradient", how="autograd")
def test_the_gradient_of_the_bound_weighs_the_draws_by_their_normalised_weights(generator, largest_error):
    theta = randn(generator, 3).requires_grad_()
    slopes = randn(generator, 6, 5, 3)
    log_w = (slopes * theta.sin()).sum(2) + randn(generator, 6, 5)              # six draws, five examples
    (found,) = torch.autograd.grad(log_mean_exp(log_w).sum(), theta)
    w = log_w.detach().exp()
    each = slopes * theta.detach().cos()                                        # ∇ log w_k, by hand
    exact = ((w / w.sum(0))[:, :, None] * each).sum((0, 1))
    largest_error((found - exact).abs().max())
    assert (found - exact).abs().max() < EXACT
    assert (found - each.mean(0).sum(0)).abs().max() > 0.01                         # the mutant: all alike
    assert (found - ((w / w.sum(1, keepdim=True))[:, :, None] * each).sum((0, 1))).abs().max() > 0.01


# --- what an estimate says ----------------------------------------------------------------------------------


def test_the_reported_error_is_unbiased_for_the_variance_of_the_mean_weight(generator):
    """E[(error · mean)²] = Var w / K, which a K for a K − 1 breaks."""
    for count in (2, 3, 5):
        log_joint, q, truth = states_of(generator)
        log_w = log_joint - q.log()
        found, probability = all_estimates(log_w, q, count)
        variance = q @ (log_w.exp() - truth.exp()).square() / count
        assert (probability @ (found.standard_error * found.log_prob.exp()).square() - variance).abs() < EXACT


def test_an_estimate_against_the_plain_formulas(generator):
    log_w = 2 * randn(generator, 40, 7)
    w, found = log_w.exp(), importance(given(log_w), 40, chunk=9)
    assert (found.log_prob - w.mean(0).log()).abs().max() < EXACT
    assert (found.standard_error - w.std(0) / w.mean(0) / math.sqrt(40)).abs().max() < EXACT
    assert (found.effective - w.sum(0).square() / w.square().sum(0)).abs().max() < EXACT
    assert (found.elbo - log_w.mean(0)).abs().max() < EXACT and found.samples == 40
    assert found.mean == pytest.approx(float(found.log_prob.mean()), rel=1e-12)
    assert found.mean_error == pytest.approx(float(found.standard_error.square().sum().sqrt()) / 7, rel=1e-12)
    assert found.spread == pytest.approx(float(found.log_prob.std()) / math.sqrt(7), rel=1e-12)
    assert found.bias == pytest.approx(float((w.var(0) / 40 / w.mean(0).square()).mean() / 2), rel=1e-12)
    assert all(isinstance(getattr(found, name), float) for name in ("mean", "mean_error", "spread", "bias"))


def test_chunks_change_nothing_and_none_is_larger_than_asked(generator):
    log_w = 5 * randn(generator, 53, 4) - 700
    whole = importance(given(log_w), 53, chunk=53)
    for chunk in (1, 2, 10, 52, 100):
        asked, hand_out = [], given(log_w)

        def draw(count):
            asked.append(count)
            return hand_out(count)

        found = importance(draw, 53, chunk)
        assert sum(asked) == 53 and max(asked) == min(chunk, 53) and set(asked[:-1]) <= {chunk}
        for name in ("log_prob", "standard_error", "effective", "elbo"):
            assert (getattr(found, name) - getattr(whole, name)).abs().max() < 1e-10, name
    # the mutant: the mean of the chunks' estimates
    mean = torch.stack([log_mean_exp(part) for part in log_w.split(10)]).mean(0)
    assert (mean - whole.log_prob).abs().max() > 0.1


def test_weights_that_would_overflow_or_vanish():
    for place in (-5000.0, 900.0):
        log_w = torch.full((6, 2), place, dtype=torch.float64)
        found = importance(given(log_w), 6, chunk=4)
        assert (found.log_prob - place).abs().max() < 1e-9 and found.standard_error.max() < 1e-6
        assert (found.effective - 6).abs().max() < 1e-9
    assert log_mean_exp(torch.tensor([0.0, math.log(3)])).item() == pytest.approx(math.log(2))
    one = torch.tensor([[0.0], [-800.0], [-900.0]], dtype=torch.float64)        # one weight is everything
    found = importance(given(one), 3)
    assert found.effective.item() == pytest.approx(1) and found.log_prob.item() == pytest.approx(-math.log(3))
    assert found.standard_error.item() == pytest.approx(1)
    lost = torch.tensor([[0.0], [-math.inf]], dtype=torch.float64)          # a draw that cannot have made x
    assert importance(given(lost), 2, chunk=1).log_prob.item() == pytest.approx(-math.log(2))


def test_a_mean_along_any_axis(generator):
    log_w = randn(generator, 3, 4, 5)
    for dim in (0, 1, 2, -1, -2):
        assert (log_mean_exp(log_w, dim) - log_w.exp().mean(dim).log()).abs().max() < EXACT
    assert torch.equal(log_mean_exp(log_w), log_mean_exp(log_w, 0))


def test_a_single_sample_is_the_bound_itself(generator):
    log_w = randn(generator, 1, 3)
    found = importance(given(log_w), 1)
    assert torch.equal(found.log_prob, log_w[0]) and torch.equal(found.elbo, log_w[0])
    assert (found.effective - 1).abs().max() < EXACT
    assert found.standard_error.isnan().all() and math.isnan(found.mean_error)      # one draw shows no spread
    assert math.isnan(importance(given(log_w[:, :1]), 1).spread)


def test_float32_weights_of_an_image_are_added_well_enough(generator):
    log_w = -90 + 3 * randn(generator, 5000, 4)
    found, exact = importance(given(log_w.float()), 5000), importance(given(log_w), 5000)
    assert (found.log_prob - exact.log_prob).abs().max() < 1e-3
    assert (found.standard_error / exact.standard_error - 1).abs().max() < 1e-2


def test_batches_are_joined(generator):
    log_w = randn(generator, 8, 10)
    whole = importance(given(log_w), 8)
    parts = [importance(given(part), 8) for part in (log_w[:, :3], log_w[:, 3:4], log_w[:, 4:])]
    joined = join(parts)
    for name in ("log_prob", "standard_error", "effective", "elbo"):
        assert torch.equal(getattr(joined, name), getattr(whole, name))
    assert joined.samples == 8 and joined.mean == whole.mean and joined.mean_error == whole.mean_error


def test_the_error_of_the_mean_covers_as_it_says(generator):
    """Of 400 sets of ten examples, the mean lies within its error of the truth as often as a normal does."""
    log_w = 0.3 * randn(generator, 300, 400, 10)
    truth = 0.3**2 / 2                                                  # log E e^(0.3 ε)
    inside = 0
    for trial in range(400):
        found = importance(given(log_w[:, trial]), 300)
        inside += abs(found.mean - truth) < found.mean_error
    assert abs(inside / 400 - 0.683) < 4 * math.sqrt(0.683 * 0.317 / 400)


@pytest.mark.parametrize("call, words", [
    (lambda: importance(given(torch.zeros(3, 2)), 0), "At least one sample.*; 0 and 100 came"),
    (lambda: importance(given(torch.zeros(3, 2)), 3, 0), "a chunk of at least one.*; 3 and 0 came"),
    (lambda: importance(given(torch.tensor([[0.0, math.nan, 0.0], [math.nan] * 3])), 2),
     r"weights of 3 of 3 examples do not add up to a number \(their logarithm is nan\): look for NaN"),
    (lambda: importance(given(torch.tensor([[0.0, math.nan], [0.0, 0.0]])), 2, 1), "of 1 of 2 examples do"),
    (lambda: importance(given(torch.tensor([[0.0, math.inf], [0.0, 0.0]])), 2), "1 of 2 .*logarithm is inf"),
    (lambda: importance(given(torch.full((2, 3), -math.inf)), 2, 1), "3 of 3 .*logarithm is -inf"),
    (lambda: importance(lambda count: torch.zeros(count + 1, 2), 3),
     r"shape \(3, batch\), but \(4, 2\) came"),
    (lambda: importance(lambda count: torch.zeros(2, 4), 3, 2), r"shape \(1, batch\), but \(2, 4\) came"),
    (lambda: importance(lambda count: torch.zeros(count), 3), r"\(3, batch\), but \(3,\) came"),
    (lambda: join([]), "one number of samples"),
    (lambda: join([importance(given(torch.zeros(k, 2)), k) for k in (2, 3)]),
     r"one number of samples, but \[2, 3\] came"),
])
def test_bad_input_gets_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_the_public_names():
    assert set(likelihood.__all__) == {"Estimate", "importance", "join", "log_mean_exp"}
    assert Estimate.__dataclass_params__.frozen
