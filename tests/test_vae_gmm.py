"""Chapter 5, the two models together: divergences, bounds and messages against quadrature over the latent plane,
PyTorch's densities and a linear-Gaussian model in which log p(o) is known, with mutants that the same checks must
refuse; and learning in turns, which with one component is chapter 4's, bit for bit.

Expectations under q are exact: over a fine grid of two latent units (`Plane`), or, where a square is averaged, over
the four corners of a cross.
"""

import copy
import math
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

from nemlib.evaluate import clustering
from nemlib.gmm import BayesianGMM, GaussianMixture, Prior, assignment_information, em_step, moments
from nemlib.networks import fully_connected
from nemlib.training import TrainingSettings, evaluate, seeded, train
from nemlib.vae import VAE, BernoulliPixels, Gaussian, MixturePrior, Objective, ProbabilisticPCA, VariationalLearner
from nemlib.vae_gmm import (
    VAEGMM, ComposedPrior, Exchange, Hard, MutualLearner, Ramp, Sampled, Silent, Soft, Up, VaDEPrior,
    expected_log_joint, kl_below, kl_bound, kl_to_component, latent_prior, standard_mixture,
)

EXACT = 1e-10
LOG_TWO_PI = math.log(2 * math.pi)
CORNERS = math.sqrt(2) * torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)


def numbers(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def generator():
    return numbers(20182020)


def randn(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def rand(generator, *shape):
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def gap(a, b):
    return (a - b).abs().max()


def mixture_of(generator, components=3, d=2, spread=1.5):
    """Components of all directions; F is neither symmetric nor triangular."""
    a = 0.7 * randn(generator, components, d, d)
    made = GaussianMixture.of_covariances(randn(generator, components).softmax(0), spread * randn(generator, components, d),
                                          a @ a.mT + 0.4 * torch.eye(d, dtype=torch.float64))
    return replace(made, factors=made.factors @ torch.linalg.qr(randn(generator, components, d, d)).Q)


def diagonal(mixture):
    return GaussianMixture.of_covariances(mixture.weights, mixture.means,
                                          torch.diag_embed(mixture.covariances.diagonal(dim1=1, dim2=2)))


def gaussian(generator, batch=4, d=2):
    return Gaussian(1.2 * randn(generator, batch, d), 0.7 * randn(generator, batch, d) - 1)


class Plane:
    """Expectations under a diagonal q of two units: x are the points, (points, batch, 2), and flat all of them in a
    row; `weights @ values` is an expectation of values at the points, (points, batch)."""

    def __init__(self, q, far=9.0, steps=301):
        line = torch.linspace(-far, far, steps, dtype=torch.float64)
        epsilon = torch.cartesian_prod(line, line)
        self.weights = (-0.5 * epsilon.square().sum(1)).softmax(0)
        self.x = q.mean + epsilon[:, None] * (0.5 * q.log_variance).exp()
        self.flat = self.x.reshape(-1, 2)

    def of(self, function):
        """E f for f that takes points (n, 2) and gives (n,)."""
        return self.weights @ function(self.flat).view(len(self.weights), -1)


def divergence(q, mixture):
    """KL(q ‖ p) for a q in the plane, exactly, (batch,)."""
    return -q.entropy() - Plane(q).of(mixture.log_prob)


# --- divergences --------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-vg-expected-log-joint", how="closed form")
def test_the_expected_joint_is_a_mean_over_the_corners_of_q(generator, largest_error):
    mixture, q = mixture_of(generator), gaussian(generator)
    x = q.mean + CORNERS[:, None] * (0.5 * q.log_variance).exp()
    exact = mixture.log_joint(x.reshape(-1, 2)).view(4, 4, 3).mean(0)
    error = gap(expected_log_joint(q, mixture), exact)
    largest_error(error)
    assert error < EXACT
    at_mean = mixture.log_joint(q.mean)
    deviation = at_mean - 0.5 * (0.5 * q.log_variance).exp() @ mixture.factors.square().sum(-1).T      # s for s²
    turned = at_mean - 0.5 * q.log_variance.exp() @ mixture.factors.square().sum(-2).T                 # Fᵀ F
    assert min(gap(wrong, exact) for wrong in (at_mean, deviation, turned, exact - mixture.weights.log())) > 0.01


@pytest.mark.equation("eq-vg-kl-component", how="closed form")
@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_divergence_to_a_component_is_pytorchs(d, generator, largest_error):
    mixture, q = mixture_of(generator, 4, d), gaussian(generator, 6, d)
    here = MultivariateNormal(q.mean[:, None], torch.diag_embed(q.log_variance.exp())[:, None])
    there = MultivariateNormal(mixture.means[None], mixture.covariances[None])
    exact = kl_divergence(here, there)
    by_hand = 0.5 * (torch.einsum("kjj,nj->nk", mixture.precisions, q.log_variance.exp())
                     + mixture.distances(q.mean) - d - 2 * mixture.log_det - q.log_variance.sum(1)[:, None])
    error = max(gap(kl_to_component(q, mixture), exact), gap(by_hand, exact))
    largest_error(error)
    assert error < EXACT and (exact > 0).all()
    e = expected_log_joint(q, mixture)
    assert gap(q.entropy()[:, None] - e + mixture.weights.log(), exact) > 0.1      # the entropy's sign
    assert gap(-q.entropy()[:, None] - e, exact) > 0.1                            # π left in


@pytest.mark.equation("eq-vg-kl-above", "eq-vg-kl-above-gap", how="quadrature")
def test_the_bound_from_above_and_what_it_costs(generator, largest_error):
    mixture, q = mixture_of(generator), gaussian(generator)
    exact, plane = divergence(q, mixture), Plane(q)
    best = expected_log_joint(q, mixture).softmax(1)

    def cost(shares):
        log_gamma = mixture.log_joint(plane.flat).log_softmax(1).view(-1, 4, 3)
        return plane.weights @ (shares * (shares.log() - log_gamma)).sum(-1)

    error = gap(kl_bound(q, mixture) - exact, cost(best))
    largest_error(error, "eq-vg-kl-above-gap")
    assert error < 1e-8 and (kl_bound(q, mixture) > exact).all()
    assert gap(kl_bound(q, mixture) - exact, cost(mixture.responsibilities(q.mean))) > 1e-3
    twins = replace(mixture, means=mixture.means[:1].expand(3, 2), factors=mixture.factors[:1].expand(3, 2, 2))
    largest_error(gap(kl_bound(q, twins), divergence(q, twins)), "eq-vg-kl-above")
    assert gap(kl_bound(q, twins), divergence(q, twins)) < 1e-8      # equal where responsibilities are
    assert (kl_bound(q, mixture) <= kl_to_component(q, mixture).sub(mixture.weights.log()).min(1).values).all()
    one = mixture_of(generator, 1)
    assert gap(kl_bound(q, one), kl_to_component(q, one)[:, 0]) < EXACT
    assert gap(kl_bound(q, standard_mixture(5, 2)), q.kl().sum(-1)) < EXACT


@pytest.mark.equation("eq-vg-kl-below", how="quadrature")
def test_the_bound_from_below_is_an_integral_of_products(generator, largest_error):
    mixture, q = mixture_of(generator), gaussian(generator)
    inner = Plane(q).of(lambda x: mixture.log_prob(x).exp())
    error = gap(kl_below(q, mixture), -q.entropy() - inner.log())
    largest_error(error)
    assert error < 1e-9 and (kl_below(q, mixture) < divergence(q, mixture)).all()
    narrow = replace(q, log_variance=q.log_variance - 12)
    assert gap(kl_below(narrow, mixture), kl_bound(narrow, mixture)) < 1e-3          # between them, nothing is left
    assert gap(kl_below(q, mixture), -q.entropy() - mixture.log_prob(q.mean)) > 0.05


@pytest.mark.equation("eq-vg-label-identity", "eq-vg-label-gap", how="quadrature")
def test_what_conditioning_on_a_label_leaves_out(generator, largest_error):
    """KL(q ‖ p) = KL(q ‖ N_k) − log π_k + E log γ_k for every k, so that to condition gains at most −log π_k."""
    mixture, q = mixture_of(generator), gaussian(generator)
    exact, plane = divergence(q, mixture), Plane(q)
    for k in range(3):
        log_gamma = plane.of(lambda x: mixture.log_joint(x).log_softmax(1)[:, k])
        to_k = kl_to_component(q, mixture)[:, k]
        error = gap(to_k - mixture.weights[k].log() + log_gamma, exact)
        largest_error(error)
        assert error < 1e-8 and gap(to_k - mixture.weights[k].log() - log_gamma, exact) > 0.01
        assert gap(to_k + log_gamma, exact) > 0.1                  # −log π left out
        assert (exact - to_k <= -mixture.weights[k].log()).all()
    labels = expected_log_joint(q, mixture).argmax(1)
    assert (exact - kl_to_component(q, mixture)[torch.arange(4), labels] > 0.05).any()     # it does flatter


@pytest.mark.equation("eq-vg-label-information", how="quadrature")
def test_to_know_the_label_is_worth_the_information_that_pictures_hold_of_it(generator, largest_error):
    """E log p(o | z) = E log p(o) + I(o; z), and I ≤ H(z) ≤ log K; one pixel, over a fine line."""
    for spread in (0.2, 3.0, 40.0):
        law = mixture_of(generator, 3, 1, spread)
        o = torch.linspace(-200, 200, 400_001, dtype=torch.float64)[:, None]
        cell = o[1, 0] - o[0, 0]
        joint = law.log_joint(o)
        conditional = (joint.exp() * law.log_prob_of_components(o)).sum() * cell
        marginal = (law.log_prob(o).exp() * law.log_prob(o)).sum() * cell
        information = (joint.exp() * (joint.log_softmax(1) - law.weights.log())).sum() * cell
        entropy = -(law.weights * law.weights.log()).sum()
        error = abs(conditional - marginal - information)
        largest_error(error)
        assert error < 1e-8 and -1e-12 < information <= entropy + 1e-9 <= math.log(3) + 1e-9
    assert abs(information - entropy) < 0.1 and abs(conditional - marginal) > 0.3


def test_a_component_of_weight_zero_is_no_trouble(generator):
    mixture, q = mixture_of(generator), gaussian(generator)
    dead = replace(mixture, weights=number([0.0, 0.4, 0.6]))
    assert gap(kl_to_component(q, dead), kl_to_component(q, mixture)) < EXACT
    two = GaussianMixture(number([0.4, 0.6]), mixture.means[1:], mixture.factors[1:])
    assert gap(kl_bound(q, dead), kl_bound(q, two)) < EXACT and gap(kl_below(q, dead), kl_below(q, two)) < EXACT


# --- a model in which log p(o) is known ---------------------------------------------------------------------


class Linear:
    """A linear decoder under a mixture: given z all is Gaussian. And four images of it, (4, 5)."""

    def __init__(self, generator, components=3, message=Soft()):
        self.pca = ProbabilisticPCA(randn(generator, 5, 2), randn(generator, 5), 0.5)
        vae, self.mixture = self.pca.vae(), mixture_of(generator, components)
        self.model = VAEGMM(vae.encoder, vae.decoder, latent=2, components=components, examples=4, message=message,
                            observation=vae.observation).requires_grad_(False)
        self.model.gmm.mixture = self.mixture
        self.x, self.labels = self.mixture.sample(4, generator)
        self.images = self.x @ self.pca.W.T + self.pca.mean + 0.5**0.5 * randn(generator, 4, 5)
        self.q = self.model.encoded(self.images)
        self.plane = Plane(self.q)

    @property
    def log_p_of_components(self):
        """log p(o | z), (4, K)."""
        W = self.pca.W
        spread = W @ self.mixture.covariances @ W.T + 0.5 * torch.eye(5, dtype=torch.float64)
        return MultivariateNormal(self.mixture.means @ W.T + self.pca.mean, spread).log_prob(self.images[:, None])

    @property
    def log_p(self):
        return (self.log_p_of_components + self.mixture.weights.log()).logsumexp(1)

    def log_given(self, x):
        """log p(o | x) by the model's own decoder, (points, 4) of (points, 4, 2)."""
        return self.model.vae.observation.log_prob(self.images, self.model.vae.decode(x))

    @property
    def reconstruction(self):
        return self.plane.weights @ self.log_given(self.plane.x)


@pytest.mark.equation("eq-vg-bound", how="quadrature")
def test_the_honest_bound_misses_log_p_by_the_divergence_from_the_posterior(generator, largest_error):
    made = Linear(generator)
    log_joint = made.log_given(made.plane.x) + made.mixture.log_prob(made.plane.flat).view(-1, 4)
    honest = made.reconstruction - divergence(made.q, made.mixture)
    log_q = made.q.log_prob(made.plane.x)
    missing = made.plane.weights @ (log_q - (log_joint - made.log_p))      # KL(q ‖ p(x | o))
    error = gap(made.log_p - honest, missing)
    largest_error(error)
    assert error < 1e-7 and (missing > 0).all()
    by_model = made.plane.weights @ (made.model.vae.log_joint(made.images, made.plane.x) - log_q)
    assert gap(by_model, honest) < 1e-7
    flattered = made.reconstruction - kl_to_component(made.q, made.mixture).min(1).values
    assert gap(made.log_p - flattered, missing) > 0.1


@pytest.mark.equation("eq-vg-soft-bound", "eq-vg-soft-labels", how="quadrature")
def test_the_bound_with_shares_misses_log_p_by_the_divergence_of_both(generator, largest_error):
    """log p(o) − bound(r) = KL(q(x) r(z) ‖ p(x, z | o)) for any shares r, least at softmax e."""
    made = Linear(generator)
    e = expected_log_joint(made.q, made.mixture)
    best = made.model.responsibilities(made.images)
    assert gap(best, e.softmax(1)) < 1e-12
    log_post = (made.log_given(made.plane.x)[..., None] + made.mixture.log_joint(made.plane.flat).view(-1, 4, 3)
                - made.log_p[:, None])
    log_q = made.q.log_prob(made.plane.x)[..., None]
    values = []
    for r in (best, *(randn(generator, 4, 3).softmax(1) for _ in range(4))):
        value = made.reconstruction + made.q.entropy() + (r * (e - r.log())).sum(1)
        missing = made.plane.weights @ (r * (log_q + r.log() - log_post)).sum(-1)
        error = gap(made.log_p - value, missing)
        largest_error(error, "eq-vg-soft-bound")
        assert error < 1e-7
        by_gibbs = made.reconstruction + made.q.entropy() + e.logsumexp(1) - (r * (r / best).log()).sum(1)
        largest_error(gap(value, by_gibbs), "eq-vg-soft-labels")
        assert gap(value, by_gibbs) < EXACT
        values.append(value)
    assert gap(values[0], made.reconstruction - kl_bound(made.q, made.mixture)) < EXACT
    assert (values[0] > torch.stack(values[1:]).amax(0)).all()
    honest = made.reconstruction - divergence(made.q, made.mixture)
    assert (values[0] < honest).all() and (honest < made.log_p).all()
    assert gap(made.log_p - values[1], made.log_p - values[0]) > 0.05


@pytest.mark.equation("eq-vg-serket", how="closed form")
def test_the_posterior_is_the_product_of_what_two_modules_know(generator, largest_error):
    """p(x | o, Θ) by conditioning the joint Gaussian of (o, x), against p(o | x) p(x | Θ) / p(o)."""
    made = Linear(generator)
    W, mixture = made.pca.W, made.mixture
    x = randn(generator, 30, 4, 2)
    spread = W @ mixture.covariances @ W.T + 0.5 * torch.eye(5, dtype=torch.float64)
    gain = mixture.covariances @ W.T @ torch.linalg.inv(spread)
    rest = mixture.covariances - gain @ W @ mixture.covariances
    centre = mixture.means + (gain @ (made.images[:, None] - mixture.means @ W.T - made.pca.mean)[..., None])[..., 0]
    given_z = MultivariateNormal(centre, (rest + rest.mT) / 2).log_prob(x[:, :, None])
    of_z = (made.log_p_of_components + mixture.weights.log()).log_softmax(1)
    exact = (given_z + of_z).logsumexp(-1)
    product = made.model.vae.log_joint(made.images, x) - made.log_p
    largest_error(gap(product, exact))
    assert gap(product, exact) < 1e-9
    alone = made.log_given(x) + Gaussian(0 * x, 0 * x).log_prob(x)         # what a VAE that hears nothing would say
    assert (alone - exact).std() > 0.1


def test_bounds_are_three_readings_of_the_same_draws(generator):
    made = Linear(generator)
    found = made.model.bounds(made.images, numbers(3), samples=7)
    z = made.q.sample(numbers(3), 7)
    reconstruction, log_q = made.log_given(z).mean(0), made.q.log_prob(z)
    honest = reconstruction - (log_q - made.mixture.log_prob(z.reshape(-1, 2)).view(7, 4)).mean(0)
    assert gap(found.honest, honest) < EXACT
    assert gap(found.soft, reconstruction - kl_bound(made.q, made.mixture)) < EXACT
    label = made.model.classify(made.images)
    conditional = reconstruction - kl_to_component(made.q, made.mixture)[torch.arange(4), label]
    assert gap(found.conditional, conditional) < EXACT
    assert (found.conditional - found.soft <= -made.mixture.weights[label].log() + EXACT).all()
    single = made.model.bounds(made.images, numbers(3))
    assert gap(single.honest, made.model.vae.elbo(made.images, numbers(3)).value) < EXACT


def test_bounds_stand_in_their_order_around_log_p(generator):
    made = Linear(generator)
    found = made.model.bounds(made.images, generator, samples=20_000)
    best = made.model.vae.importance_bound(made.images, 20_000, generator, chunk=2000)
    exact = made.reconstruction - divergence(made.q, made.mixture)
    assert gap(found.honest, exact) < 0.05 and (found.soft < found.honest).all()
    assert abs(best.mean - made.log_p.mean()) < 0.03 and (exact < made.log_p).all()
    assert (found.conditional - exact <= -made.mixture.weights[made.model.classify(made.images)].log() + 0.05).all()


@pytest.mark.parametrize("message", [Soft(), Hard(), Sampled()])
def test_no_message_is_below_the_true_divergence_and_without_rows_there_is_none(message, generator):
    made = Linear(generator, message=message)
    prior, rows = made.model.prior, torch.arange(4)
    prior.responsibilities.copy_(randn(generator, 4, 3).softmax(1))
    message.begin_epoch(prior, generator)
    exact = divergence(made.q, made.mixture)
    assert (prior.kl(made.q, rows) >= exact - 1e-9).all()
    assert prior.kl(made.q) is None
    # without rows, chapter 4's own code is honest whatever was sent
    draws = made.model.vae.elbo(made.images, numbers(1), samples=20_000)
    assert gap(draws.kl, exact) < 0.05
    with_rows = made.model.vae.elbo(made.images, numbers(1), samples=3, rows=rows)
    assert gap(with_rows.kl, prior.kl(made.q, rows)) < EXACT


# --- messages -----------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-vg-message-up", how="closed form")
def test_means_and_variances_are_all_that_the_mixture_hears(generator, largest_error):
    """Σ_n Σ_k r E_q log N(x_n; μ_k, Λ_k⁻¹) from the message's moments alone."""
    mixture, q, r = mixture_of(generator), gaussian(generator, 20), randn(generator, 20, 3).softmax(1)
    exact = (r * (expected_log_joint(q, mixture) - mixture.weights.log())).sum()

    def from_moments(found):
        apart = found.mean - mixture.means
        around = found.scatter + found.count[:, None, None] * apart[:, :, None] * apart[:, None]
        trace = (mixture.precisions * around).sum((1, 2))
        return (found.count * (mixture.log_det - LOG_TWO_PI) - 0.5 * trace).sum()

    error = abs(from_moments(moments(q.mean, r, q.log_variance.exp())) - exact)
    largest_error(error)
    assert error < 1e-9
    assert abs(from_moments(moments(q.mean, r)) - exact) > 1                     # means alone say too much


@pytest.mark.equation("eq-vg-message-down", how="closed form")
def test_the_mean_field_factor_is_a_gaussian(generator, largest_error):
    """Σ_k r_k log N_k(x) and the log of the message's Gaussian differ by one number for all x."""
    made = Linear(generator)
    up = made.model.up(made.images, generator)
    down = made.model.down(up)
    r = expected_log_joint(made.q, made.mixture).softmax(1)
    assert gap(down.responsibilities, r) < 1e-12 and torch.equal(down.label, r.argmax(1))
    x = 3 * randn(generator, 50, 2)
    factor = made.mixture.log_prob_of_components(x) @ r.T                        # (50, 4)
    for n in range(4):
        precision = (r[n, :, None, None] * made.mixture.precisions).sum(0)
        law = MultivariateNormal(down.mean[n], precision_matrix=(precision + precision.T) / 2)
        error = (factor[:, n] - law.log_prob(x)).std()
        largest_error(error)
        assert error < 1e-9 and gap(law.covariance_matrix.diagonal(), down.variance[n]) < EXACT
        mixed = r[n] @ made.mixture.means                                        # means mixed by shares alone
        assert (factor[:, n] - MultivariateNormal(mixed, law.covariance_matrix).log_prob(x)).std() > 1e-3
    sure = replace(made.mixture, weights=number([0.0, 1.0, 0.0]))
    made.model.gmm.mixture = sure
    down = made.model.down(up)
    assert gap(down.mean, sure.means[1].expand(4, 2)) < EXACT
    assert gap(down.variance, sure.covariances[1].diagonal().expand(4, 2)) < EXACT


def pictures(count=60, dtype=torch.float64):
    """Three pictures in twelve grey pixels, and which is which."""
    centres = (torch.rand(3, 12, generator=numbers(1)) < 0.5).to(dtype)
    truth = torch.arange(count) % 3
    return 0.1 + 0.8 * centres[truth], truth


IMAGES, TRUTH = pictures()


def small(components=3, examples=60, message=Soft(), seed=0, dtype=torch.float64, **options):
    with seeded(seed):
        return VAEGMM(fully_connected([12, 16, 4]), fully_connected([2, 16, 12]), latent=2, components=components,
                      examples=examples, message=message, **options).to(dtype)


def learner_of(model, how=Exchange(first=1, restarts=2, first_sweeps=3, sweeps=2), rate=1e-2, **options):
    return MutualLearner(model, torch.optim.Adam(model.vae.parameters(), rate), how, **options)


def fitted(message=Soft(), **options):
    model = small(message=message, **options)
    model.gmm.mixture = mixture_of(numbers(4))
    return model


def test_what_is_sent_up_are_the_encoders_law_and_a_draw_from_it(generator):
    model = fitted()
    up = model.up(IMAGES, numbers(2))
    with torch.no_grad():
        q = model.vae.encode(IMAGES)
    assert gap(up.mean, q.mean) < 1e-14 and gap(up.variance, q.log_variance.exp()) < 1e-14
    white = (up.draw - up.mean) / up.variance.sqrt()
    assert torch.allclose(white, torch.randn(60, 2, generator=numbers(2), dtype=torch.float64))
    single = model.to(torch.float32).up(IMAGES.float(), numbers(2))
    assert single.mean.dtype == single.draw.dtype == torch.float64 and gap(single.mean, up.mean) < 1e-5


def test_encoding_in_portions_is_encoding_and_leaves_no_trace(monkeypatch):
    """A batch normalisation would let one image's message depend on its neighbours, and would remember them."""
    with seeded(0):
        encoder = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
        model = VAEGMM(encoder, fully_connected([2, 12]), latent=2, components=3, examples=60).double()
    before = copy.deepcopy(encoder.state_dict())
    whole = model.encoded(IMAGES)
    monkeypatch.setattr("nemlib.vae_gmm.BATCH", 7)
    parts = model.encoded(IMAGES)
    assert gap(whole.mean, parts.mean) < 1e-13 and gap(whole.log_variance, parts.log_variance) < 1e-13
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert encoder.training
    model.vae.encoder.eval()
    model.encoded(IMAGES)
    assert not encoder.training
    assert not whole.mean.requires_grad


def test_the_message_to_an_image_is_that_images_own():
    model = fitted()
    down = model.down(model.up(IMAGES, numbers(1)))
    moved = IMAGES.clone()
    moved[7] = 1 - moved[7]
    other = model.down(model.up(moved, numbers(1)))
    for name in ("mean", "variance", "responsibilities"):
        changed = (getattr(other, name) - getattr(down, name)).abs().sum(1) > 1e-12
        assert changed.nonzero().flatten().tolist() == [7]
    turned = model.down(model.up(IMAGES.flip(0), numbers(1)))
    assert gap(turned.responsibilities.flip(0), down.responsibilities) < 1e-12


class ByBatch(Hard):
    """The mistake of the project: the message is looked up by the number of the batch."""

    def kl(self, prior, q, rows):
        return super().kl(prior, q, rows // len(rows))


def test_in_training_every_image_is_given_its_own_prior(generator):
    def terms(message, rows):
        model = fitted(message=message)
        prior = model.prior
        prior.responsibilities.copy_(nn.functional.one_hot(torch.arange(60) % 3, 3))
        prior.message.begin_epoch(prior, generator)
        assert torch.equal(prior.labels, torch.arange(60) % 3)
        with torch.no_grad():
            q = model.vae.encode(IMAGES[rows].round())
            found = learner_of(model).terms(IMAGES[rows].round(), numbers(1), rows, 1.0)
        own = kl_to_component(q, model.gmm.mixture) - model.gmm.weights.log()
        return found["kl"], own[torch.arange(len(rows)), rows % 3].mean()

    rows = torch.tensor([5, 0, 58, 13, 21])
    for message in (Hard(), Sampled()):
        found, own = terms(message, rows)
        assert abs(found - own) < EXACT
    found, own = terms(ByBatch(), rows)
    assert abs(found - own) > 0.05


def test_sampled_labels_follow_each_images_shares():
    model = small(message=Sampled(), examples=40_000)
    prior, shares = model.prior, number([[0.7, 0.2, 0.1], [0.05, 0.15, 0.8]])
    prior.responsibilities.copy_(shares.repeat_interleave(20_000, 0))
    prior.message.begin_epoch(prior, numbers(1))
    first = prior.labels.clone()
    for part, law in zip(first.view(2, 20_000), shares):
        assert stats.chisquare(torch.bincount(part, minlength=3), 20_000 * law).pvalue > 1e-4
    prior.message.begin_epoch(prior, numbers(2))
    assert not torch.equal(first, prior.labels)                    # anew in each epoch
    hard = small(message=Hard(), examples=40_000).prior
    hard.responsibilities.copy_(prior.responsibilities)
    hard.message.begin_epoch(hard, numbers(1))
    assert hard.labels.view(2, -1).unique(dim=1).tolist() == [[0], [2]]


def test_soft_shares_are_the_best_for_the_present_encoder_and_silence_is_n_0_i():
    model = fitted()
    q, rows = model.encoded(IMAGES), torch.arange(60)
    kl = model.prior.kl(q, rows)
    model.prior.responsibilities.copy_(torch.eye(3)[0].expand(60, 3))      # what was sent matters to Hard alone
    assert torch.equal(model.prior.kl(q, rows), kl) and gap(kl, kl_bound(q, model.gmm.mixture)) < EXACT
    silent = fitted(Silent())
    assert gap(silent.prior.kl(q, rows), q.kl().sum(1)) < EXACT and gap(silent.prior.kl(q, rows), kl) > 0.1


@pytest.mark.parametrize("message", [Soft(), Hard()])
def test_gradients_of_a_message_reach_the_encoder_and_not_the_mixture(message):
    model = fitted(message=message)
    q = model.vae.encode(IMAGES)
    model.prior.kl(q, torch.arange(60)).sum().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in model.vae.encoder.parameters())
    assert not any(value.requires_grad for value in model.gmm.buffers()) and not list(model.gmm.parameters())
    x = q.mean.detach().requires_grad_()
    free = Gaussian(x, q.log_variance.detach())
    (slope,) = torch.autograd.grad(model.prior.kl(free, torch.arange(60)).sum(), x)
    pull = model.down(Up(x.detach(), q.log_variance.detach().exp(), x.detach()))
    if isinstance(message, Soft):                                  # β (x − μ̃)ᵀ Λ̃: the message as a force
        precision = torch.einsum("nk,kij->nij", pull.responsibilities, model.gmm.mixture.precisions)
        assert gap(slope, (precision @ (x.detach() - pull.mean)[..., None])[..., 0]) < 1e-9


# --- the composed model -------------------------------------------------------------------------------------


def test_the_model_begins_as_chapter_4s():
    model = small()
    x = randn(numbers(1), 20, 2)
    exact = Gaussian(torch.zeros(2).double(), torch.zeros(2).double()).log_prob(x)
    assert gap(model.prior.log_prob(x), exact) < 1e-12 and gap(model.prior.log_prob(x.view(4, 5, 2)), exact.view(4, 5)) < 1e-12
    assert gap(model.responsibilities(IMAGES), number(1 / 3)) < 1e-12
    prior = latent_prior(4, 3)
    assert prior.nu[0] == 5 and gap(prior.inverse_scale[1], torch.eye(3).double() / 4 ** (2 / 3)) < 1e-12
    own = Prior.same(3, torch.zeros(2), torch.eye(2), alpha=2.0, kappa=1.0, nu=6.0)
    assert small(prior=own).gmm.prior.nu[0] == 6


def test_samples_come_from_the_mixture_and_from_one_component(generator):
    model = fitted()
    latent = model.prior.sample(20_000, generator)
    exact = (model.gmm.weights[:, None] * model.gmm.means).sum(0)
    assert (latent.mean(0) - exact).abs().max() < 4 * latent.std(0).max() / 20_000**0.5
    made = model.vae.sample(5, generator)
    assert made.shape == (5, 12) and ((made > 0) & (made < 1)).all()
    of_two = model.sample_component(2, 4000, numbers(1))
    law = model.gmm.mixture.sample_of(torch.full((4000,), 2), numbers(1))
    with torch.no_grad():
        assert gap(of_two, model.vae.observation.mean(model.vae.decode(law))) == 0
    assert gap(of_two.mean(0), model.sample_component(0, 4000, numbers(1)).mean(0)) > 0.005
    assert model.to(torch.float32).sample_component(1, 3, numbers(1)).dtype == torch.float32


def test_classes_of_new_images_are_the_largest_shares():
    model = fitted()
    new = 1 - IMAGES[:9]
    q = model.encoded(new)
    exact = expected_log_joint(q, model.gmm.mixture).softmax(1)
    assert gap(model.responsibilities(new), exact) == 0 and torch.equal(model.classify(new), exact.argmax(1))
    assert model.responsibilities(new).dtype == torch.float64


def test_networks_in_single_precision_hear_nearly_the_same():
    model = fitted()
    double = model.prior.kl(model.encoded(IMAGES), torch.arange(60))
    q = Gaussian(*(part.float() for part in vars(model.encoded(IMAGES)).values()))
    single = model.prior.kl(q, torch.arange(60))
    assert single.dtype == torch.float32 and gap(single, double) < 1e-4
    model.float()
    assert model.gmm.weights.dtype == torch.float64 and model.vae.encoder[0].weight.dtype == torch.float32
    assert model.prior.log_prob(torch.zeros(3, 2)).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):              # distances are not for 8 bits
        assert torch.equal(model.prior.kl(q, torch.arange(60)), single)
        log_prob = model.prior.log_prob(q.mean)
    assert torch.equal(log_prob, model.prior.log_prob(q.mean))


# --- in one piece -------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-vg-vade", how="closed form")
def test_vade_is_the_bound_with_shares_whatever_they_are(generator, largest_error):
    """E log p − Σ γ KL(q ‖ N_c) − KL(γ ‖ π); ours, with the best shares, is higher by KL(γ ‖ r*)."""
    mixture, q = diagonal(mixture_of(generator)), gaussian(generator)
    prior = VaDEPrior.of(mixture).double()
    with torch.no_grad():                                  # of() rounds to single precision
        prior.logits.copy_(mixture.weights.log())
        prior.mean.copy_(mixture.means)
        prior.log_variance.copy_(mixture.covariances.diagonal(dim1=1, dim2=2).log())
    assert gap(prior.expected_log_joint(q), expected_log_joint(q, mixture)) < EXACT
    best = expected_log_joint(q, mixture).softmax(1)
    for gamma in (mixture.responsibilities(q.sample(generator)), randn(generator, 4, 3).softmax(1)):
        theirs = ((gamma * kl_to_component(q, mixture)).sum(1) + (gamma * (gamma / mixture.weights).log()).sum(1))
        shares = -q.entropy() - (gamma * (expected_log_joint(q, mixture) - gamma.log())).sum(1)
        error = max(gap(theirs, shares), gap(theirs - prior.kl(q, torch.arange(4)), (gamma * (gamma / best).log()).sum(1)))
        largest_error(error)
        assert error < EXACT and gap(theirs - prior.kl(q, torch.arange(4)), (best * (best / gamma).log()).sum(1)) > 1e-3
    assert prior.kl(q) is None and gap(prior.kl(q, torch.arange(4)), kl_bound(q, mixture)) < EXACT
    assert gap(prior.log_prob(q.mean), mixture.log_prob(q.mean)) < EXACT


def test_vade_begins_at_a_fitted_mixture_and_learns_all_of_it(generator):
    mixture = mixture_of(generator)
    prior = VaDEPrior.of(mixture)
    assert gap(prior.logits.softmax(0), mixture.weights) < 1e-6 and gap(prior.mean, mixture.means) < 1e-6
    assert gap(prior.log_variance.exp(), mixture.covariances.diagonal(dim1=1, dim2=2)) < 1e-5
    again = prior.mixture()
    assert again.means.dtype == torch.float64 and gap(again.covariances, diagonal(mixture).covariances) < 1e-5
    assert gap(again.log_prob(mixture.means), prior.log_prob(mixture.means.float())) < 1e-4
    other = mixture_of(generator)
    prior.begin_at(other)
    assert gap(prior.mixture().means, other.means) < 1e-6 and gap(prior.mixture().weights, other.weights) < 1e-6
    prior.begin_at(mixture)
    empty = VaDEPrior.of(replace(mixture, weights=number([0.0, 0.5, 0.5])))
    assert empty.logits.isfinite().all() and isinstance(empty, MixturePrior)
    with seeded(0):
        vae = VAE(fully_connected([12, 16, 4]), fully_connected([2, 16, 12]), prior)
    images = IMAGES.float()
    optimizer = torch.optim.Adam(vae.parameters(), 1e-2)
    before = {name: value.clone() for name, value in prior.state_dict().items()}

    settings = TrainingSettings(epochs=12, batch_size=20, report_every=6)
    history = train(VariationalLearner(vae, optimizer), images, settings, device="cpu", progress=False)
    assert history.rows[-1]["loss"] < history.rows[0]["loss"] - 0.05
    assert all(not torch.equal(value, before[name]) for name, value in prior.state_dict().items())
    assert {"logits", "mean", "log_variance"} == set(before)


# --- learning in turns --------------------------------------------------------------------------------------


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True))


def test_with_one_component_and_no_exchange_the_learner_is_chapter_4s():
    settings = TrainingSettings(epochs=3, batch_size=20, report_every=1)
    model = small(components=1)
    with seeded(0):
        vae = VAE(fully_connected([12, 16, 4]), fully_connected([2, 16, 12]), latent=2).double()
    ours = train(learner_of(model, Exchange(every=None)), IMAGES, settings, seed=3, device="cpu", progress=False)
    theirs = train(VariationalLearner(vae, torch.optim.Adam(vae.parameters(), 1e-2)), IMAGES, settings, seed=3,
                   device="cpu", progress=False)
    assert max(abs(a["loss"] - b["loss"]) for a, b in zip(ours.rows, theirs.rows)) < 1e-9
    assert max(gap(a, b) for a, b in zip(model.vae.encoder.parameters(), vae.encoder.parameters())) < 1e-9
    assert ours.rows[0]["loss"] != ours.rows[-1]["loss"] and len(ours.rows) == 9
    silent = small(components=3, message=Silent())
    heard = train(learner_of(silent, Exchange(every=None)), IMAGES, settings, seed=3, device="cpu", progress=False)
    assert max(abs(a["loss"] - b["loss"]) for a, b in zip(heard.rows, theirs.rows)) < 1e-9


@pytest.mark.equation("eq-vg-kl-over-batch", how="autograd")
def test_a_divergence_divided_by_the_batch_is_a_small_beta(generator, largest_error):
    """Σ_batch reconstruction with a mean KL: B times our loss with β = 1/B, gradients too; Adam sees no difference."""
    model, rows = fitted(), torch.arange(15)
    x = IMAGES[rows].round()
    q, reconstruction, kl = model.vae.terms(x, numbers(1), rows=rows)
    coded = -reconstruction.sum() + kl.mean()
    learner = learner_of(model, objective=Objective(beta=1 / 15))
    ours = learner.terms(x, numbers(1), rows, learner.beta(1))["loss"]
    parameters = list(model.vae.encoder.parameters()) + list(model.vae.decoder.parameters())
    a, b = (torch.autograd.grad(loss, parameters) for loss in (coded, 15 * ours))
    error = max(abs(coded - 15 * ours), *(gap(one, two) for one, two in zip(a, b)))
    largest_error(error)
    assert error < EXACT
    full = learner.terms(x, numbers(1), rows, 1.0)["loss"]
    assert abs(coded - 15 * full) > 0.1
    ends = []
    for loss in (1.0, 15.0):
        copied = copy.deepcopy(model)
        optimizer = torch.optim.Adam(copied.vae.parameters(), 1e-2, eps=1e-15)
        scaled = learner_of(copied, objective=Objective(beta=1 / 15))
        for step in range(3):
            optimizer.zero_grad()
            (loss * scaled.terms(x, numbers(step), rows, 1 / 15)["loss"]).backward()
            optimizer.step()
        ends.append([value.detach() for value in copied.vae.decoder.parameters()])
    assert max(gap(one, two) for one, two in zip(*ends)) < 1e-6
    assert max(gap(one, two) for one, two in zip(ends[0], model.vae.decoder.parameters())) > 0.01


def test_when_the_modules_speak():
    assert [epoch for epoch in range(1, 12) if Exchange(first=3, every=2).is_due(epoch)] == [4, 6, 8, 10]
    assert [epoch for epoch in range(1, 6) if Exchange(first=0, every=1).is_due(epoch)] == [1, 2, 3, 4, 5]
    assert not any(Exchange(first=0, every=None).is_due(epoch) for epoch in range(1, 50))


def test_beta_stays_low_and_then_rises_in_a_straight_line():
    ramp = Ramp(0.2, flat=240, rise=60)
    assert [ramp(step) for step in (1, 240, 300, 301, 10**6)] == [0.2, 0.2, 1, 1, 1] and abs(ramp(270) - 0.6) < 1e-12
    assert Ramp()(1) == 1 and Ramp(0.5, flat=3)(3) == 0.5 and Ramp(0.5, flat=3)(4) == 1
    learner = learner_of(small(), beta=ramp, objective=Objective(beta=0.5, warm_up=100))
    assert learner.beta(50) == pytest.approx(0.2 * 0.25) and learner.beta(270) == pytest.approx(0.3)


def test_the_control_never_moves_its_mixture_and_the_others_tell_of_every_exchange():
    settings = TrainingSettings(epochs=5, batch_size=20, report_every=3)
    control = small()
    history = train(learner_of(control, Exchange(every=None)), IMAGES, settings, device="cpu", progress=False)
    assert same(control.gmm, small().gmm) and not same(control.vae.encoder, small().vae.encoder)
    assert not any("information" in row for row in history.rows)
    model = small()
    how = Exchange(first=2, every=2, restarts=2, first_sweeps=3, sweeps=2)
    history = train(learner_of(model, how), IMAGES, settings, device="cpu", progress=False)
    assert [row["epoch"] for row in history.rows if row.get("information") is not None
            and not math.isnan(row["information"])] == [3, 5]
    last = history.rows[-1]
    assert last["largest_weight"] == pytest.approx(model.gmm.weights.max().item())
    assert last["smallest_weight"] == pytest.approx(model.gmm.weights.min().item())
    assert last["information"] == pytest.approx(assignment_information(model.prior.responsibilities).item())
    assert 0 <= last["information"] <= math.log(3)


def test_an_exchange_by_hand(monkeypatch):
    """Draws up, sweeps from where the sampler stood, the posterior's mean down: each step as written."""
    model, by_hand = fitted(), fitted()
    learner = learner_of(model, Exchange(restarts=2, first_sweeps=3, sweeps=4))
    for first in (True, False):
        found = learner.exchange(IMAGES, numbers(3), first)
        random = numbers(3)
        up = by_hand.up(IMAGES, random)
        if first:
            by_hand.gmm.fit(up.draw, random, 3, 2)
        else:
            for _ in range(4):
                labels = by_hand.gmm.sweep(up.draw, random)
            by_hand.gmm.settle(up.draw, labels)
        assert same(model.gmm, by_hand.gmm)
        assert gap(model.prior.responsibilities, by_hand.down(up).responsibilities) < 1e-12
        assert gap(model.prior.responsibilities, model.responsibilities(IMAGES)) < 1e-12
        assert abs(found - assignment_information(model.prior.responsibilities)) < 1e-14
    sent = []
    monkeypatch.setattr(BayesianGMM, "fit", lambda self, x, *rest: sent.append(x))
    learner_of(model, Exchange(means=True)).exchange(IMAGES, numbers(3), first=True)
    learner_of(model, Exchange()).exchange(IMAGES, numbers(3), first=True)
    assert gap(sent[0], model.up(IMAGES, numbers(3)).mean) == 0 and gap(sent[1], model.up(IMAGES, numbers(3)).draw) == 0


def test_a_start_of_ones_own(generator):
    calls = []

    def begin(points, components, generator):
        calls.append((points.shape, components, isinstance(generator, torch.Generator)))
        return torch.arange(len(points)) % 3

    model = fitted()
    learner = learner_of(model, Exchange(start=begin, sweeps=1))
    learner.exchange(IMAGES, numbers(3), first=True)
    up = model.up(IMAGES, numbers(3))
    exact = fitted().gmm
    exact.settle(up.draw, torch.arange(60) % 3)
    assert calls == [((60, 2), 3, True)] and same(model.gmm, exact)
    learner.exchange(IMAGES, numbers(3))
    assert len(calls) == 1 and not same(model.gmm, exact)


def test_new_weights_for_a_round_and_an_optimizer_that_remembers_nothing():
    model = small()
    learner = learner_of(model)
    train(learner, IMAGES, TrainingSettings(epochs=2, batch_size=20), device="cpu", progress=False)
    before, mixture = copy.deepcopy(model), model.gmm.mixture_copy()
    assert learner.optimizers["optimizer"].state
    state = torch.get_rng_state()
    learner.reinitialise(numbers(1))
    assert torch.equal(torch.get_rng_state(), state) and not learner.optimizers["optimizer"].state
    for part in ("encoder", "decoder"):
        now, then = getattr(model.vae, part), getattr(before.vae, part)
        assert all(not torch.equal(a, b) for a, b in zip(now.parameters(), then.parameters()))
    assert torch.equal(model.gmm.means, mixture.means)
    assert torch.equal(model.prior.responsibilities, before.prior.responsibilities)
    again = small()
    learner_of(again).reinitialise(numbers(1))
    assert torch.equal(again.vae.encoder[0].weight, model.vae.encoder[0].weight)
    how = Exchange(first=0, restarts=1, first_sweeps=1, sweeps=1, reinitialise=True)
    fresh = small()
    weight = fresh.vae.encoder[0].weight.clone()
    train(learner_of(fresh, how, rate=1e-6), IMAGES, TrainingSettings(steps=1, batch_size=60), device="cpu", progress=False)
    assert gap(fresh.vae.encoder[0].weight, weight) > 0.01


@pytest.mark.parametrize("message", [Soft(), Hard(), Sampled()])
def test_three_pictures_become_three_components(message):
    """Nobody said which is which; the honest bound is what a machine of three pictures can have, or nearly."""
    model = small(message=message, dtype=torch.float32)
    learner = learner_of(model, Exchange(first=50, restarts=3, first_sweeps=8, sweeps=2), rate=2e-2,
                         beta=Ramp(0.3, 150, 40))
    images = IMAGES.float()
    history = train(learner, images, TrainingSettings(epochs=70, batch_size=20, evaluate_every=105), seed=1, device="cpu",
                    evaluation_data=images.round(), progress=False)
    information = learner.exchange(images, numbers(5))
    table = clustering.contingency(model.classify(images), TRUTH, None)
    assert clustering.accuracy(table).item() == 1 and information > 0.9 * math.log(3)
    best = -math.log(3) + 12 * (0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    with torch.no_grad():
        drawn = torch.bernoulli(images.repeat(20, 1), generator=numbers(2))
        assert best - 2 < model.vae.elbo(drawn, numbers(2)).value.mean() < best + 0.2
    assert history.rows[-1]["loss"] < history.rows[0]["loss"]


# --- runs that break ----------------------------------------------------------------------------------------

KINDS = {
    "soft": (Soft(), {}, {}), "hard": (Hard(), {"means": True}, {"averaging": 0.9}),
    "sampled": (Sampled(), {}, {"beta": Ramp(0.3, 6, 10)}), "new weights": (Sampled(), {"reinitialise": True}, {}),
}


def made(kind):
    message, how, options = KINDS[kind]
    return learner_of(small(message=message), Exchange(first=1, restarts=2, first_sweeps=2, sweeps=2, **how), **options)


class Interrupted(Exception):
    pass


def run(learner, out, stop=None, resume=False):
    """21 steps, six an epoch, a checkpoint after every third; `stop` is the last checkpoint before it breaks."""
    settings = TrainingSettings(steps=21, batch_size=10, report_every=1, checkpoint_every=3, evaluate_every=6)

    def watch(learner, history, context):
        if stop is not None and context.step == stop + 1:
            raise Interrupted

    history = train(learner, IMAGES, settings, device="cpu", seed=3, out=out, progress=False, resume=resume,
                    evaluation_data=IMAGES[:20].round(), watch=watch)
    return learner.module, learner.optimizers["optimizer"].state_dict()["state"], history


def same_end(first, second):
    values = [[v for s in each[1].values() for v in s.values()] for each in (first, second)]
    return same(first[0], second[0]) and all(map(torch.equal, *values)) and first[2].rows == second[2].rows


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop", [3, 6, 9, 12])
def test_a_broken_run_ends_bit_for_bit_as_an_unbroken_one(kind, stop, tmp_path):
    """Checkpoints 3 and 9 lie in the middle of an epoch, 6 and 12 right before an exchange."""
    unbroken = run(made(kind), tmp_path / "unbroken")
    with pytest.raises(Interrupted):
        run(made(kind), tmp_path / "broken", stop)
    resumed = run(made(kind), tmp_path / "broken", resume=True)
    assert same_end(unbroken, resumed)
    assert not same(small().gmm, unbroken[0].vae.prior.gmm)


def test_a_message_that_is_not_kept_is_noticed(tmp_path):
    def forgetful():
        learner = made("sampled")
        learner.model.prior._non_persistent_buffers_set.add("labels")
        return learner

    unbroken = run(forgetful(), tmp_path / "unbroken")
    with pytest.raises(Interrupted):
        run(forgetful(), tmp_path / "broken", 9)
    resumed = run(forgetful(), tmp_path / "broken", resume=True)
    assert not same(unbroken[0].vae.encoder, resumed[0].vae.encoder)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run(made("soft"), tmp_path)
    with pytest.raises(ValueError, match=r"\(3, 2, 2\).* there, \(4, 2, 2\)"):
        run(learner_of(small(components=4)), tmp_path, resume=True)


def test_the_same_seed_gives_the_same_bits_and_nothing_else_is_drawn():
    ends = []
    for _ in range(2):
        state = torch.get_rng_state()
        learner = made("sampled")
        train(learner, IMAGES, TrainingSettings(epochs=3, batch_size=20), device="cpu", seed=2, progress=False)
        learner.exchange(IMAGES, numbers(1))
        learner.model.bounds(IMAGES.round(), numbers(1))
        learner.model.sample_component(1, 2, numbers(1))
        assert torch.equal(torch.get_rng_state(), state)
        ends.append(learner.module)
    assert same(*ends)


def test_held_out_images_are_measured_under_the_whole_mixture():
    model = fitted(message=Hard())
    learner = learner_of(model)
    found = evaluate(learner, IMAGES.round().repeat(30, 1), device="cpu")
    exact = model.vae.elbo(IMAGES.round().repeat(30, 1), numbers(1))
    assert abs(found["elbo"] - exact.value.mean()) < 0.1 and found["elbo"] == pytest.approx(
        found["reconstruction"] - found["kl"])
    kl = -model.encoded(IMAGES.round()).entropy() - Plane(model.encoded(IMAGES.round()), steps=101).of(model.gmm.mixture.log_prob)
    assert abs(found["kl"] - kl.mean()) < 0.1
    assert abs(found["kl"] - model.prior.kl(model.encoded(IMAGES.round()), torch.arange(60)).mean()) > 0.2


# --- bad input ----------------------------------------------------------------------------------------------


def overflowing():
    model = small()
    with torch.no_grad():
        model.vae.encoder[-1].bias[2:] = 800.0
    return model


def trained(model, images, **options):
    return train(learner_of(model, **options), images, TrainingSettings(steps=1, batch_size=5), device="cpu",
                 progress=False)


@pytest.mark.parametrize("call, words", [
    (lambda g: trained(small(examples=50), IMAGES), "Messages go to 50 examples, but 60 came.*examples=len"),
    (lambda g: learner_of(small()).exchange(IMAGES[:30], g), "Messages go to 60 examples, but 30 came"),
    (lambda g: trained(small(), 3 * IMAGES), r"lie in \[0, 1\], but their range is"),
    (lambda g: trained(small(), IMAGES - 0.5), r"lie in \[0, 1\]"),
    (lambda g: trained(small(), IMAGES * math.nan), "nan or inf"),
    (lambda g: trained(small(), IMAGES.view(60, 3, 4)), "flatten them"),
    (lambda g: trained(small(), IMAGES, objective=Objective(free_bits=0.1)), "Free bits need a KL for each unit"),
    (lambda g: learner_of(small(), objective=Objective(samples=3, importance=True)), "no message reaches it"),
    (lambda g: learner_of(small(), averaging=1.0), r"in \[0, 1\), but 1.0 came"),
    (lambda g: small().up(IMAGES[:, :5], g), r"does not take torch.float64 images of shape \(60, 5\)"),
    (lambda g: small().up(IMAGES.float(), g), "does not take torch.float32 images"),
    (lambda g: small().up(IMAGES * math.nan, g), "log-variances from nan"),
    (lambda g: overflowing().up(IMAGES, g), "log-variances from.*overflow or vanish"),
    (lambda g: overflowing().responsibilities(IMAGES), "overflow or vanish"),
    (lambda g: learner_of(overflowing(), Exchange(means=True)).exchange(IMAGES, g), "overflow or vanish"),
    (lambda g: small().bounds(IMAGES, g), "0 or 1, but others came"),
    (lambda g: small().bounds(IMAGES.round(), g, samples=0), "at least one draw, but samples=0 came"),
    (lambda g: small().sample_component(3, 2, g), "numbered from 0 to 2, but 3 came"),
    (lambda g: small().sample_component(-1, 2, g), "numbered from 0 to 2, but -1 came"),
    (lambda g: small().vae.elbo(IMAGES[:2].round(), g, rows=torch.tensor([59, 60])),
     "sent to 60 examples, numbered from 0, but rows from 59 to 60 came"),
    (lambda g: small().vae.elbo(IMAGES[:2].round(), g, rows=torch.tensor([-1, 0])), "rows from -1 to 0 came"),
    (lambda g: ComposedPrior(small().gmm, 0), "examples of a data set, but examples=0 came"),
    (lambda g: small(components=0), "at least one component, but 0 came"),
    (lambda g: small(components=4, prior=latent_prior(3, 2)), r"one of \(3, 2\).*\(4, 2\) were asked for"),
    (lambda g: small(prior=latent_prior(3, 5)), r"\(3, 5\) \(components, latent\), but \(3, 2\)"),
    (lambda g: Exchange(first=-1), "first is at least 0"), (lambda g: Exchange(every=0), "at least 1"),
    (lambda g: Exchange(restarts=0), "at least 1"), (lambda g: Exchange(sweeps=0), "at least 1"),
    (lambda g: Exchange(first_sweeps=0), "at least 1"),
    (lambda g: Ramp(0.2), "low β needs steps"), (lambda g: Ramp(-0.1, 3), "not negative"),
    (lambda g: Ramp(0.1, 3, -1), "not negative"), (lambda g: Ramp(0.1, -3), "not negative"),
    (lambda g: small(examples=2) and learner_of(small(examples=2)).exchange(IMAGES[:2], g, True),
     "3 components need at least 3 points, but 2 came"),
    (lambda g: small().vae.kl_by_unit(IMAGES, torch.arange(60)), "no part for each unit"),
])
def test_bad_input_gets_one_sentence(call, words, generator):
    with pytest.raises(ValueError, match=words):
        call(generator)


def test_a_device_without_float64_is_refused_by_its_name(monkeypatch):
    model = small()

    class Elsewhere:
        device = torch.device("mps")

    with pytest.raises(ValueError, match="float64, which mps has not.*cpu or cuda"):
        model.gmm._apply(lambda tensor: Elsewhere)


def test_data_that_are_good_pass():
    trained(small(), IMAGES)
    trained(small(components=1), IMAGES)
    trained(small(message=Silent()), IMAGES, objective=Objective(samples=3))
    trained(small(observation=BernoulliPixels()), IMAGES, beta=Ramp(0.2, 1))
    history = trained(small(), IMAGES, averaging=0.5)
    assert math.isfinite(history.rows[-1]["loss"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_all_of_it_runs_there():
    model = small(dtype=torch.float32, message=Sampled())
    learner = learner_of(model)
    train(learner, IMAGES.float(), TrainingSettings(epochs=3, batch_size=20), device="cuda", progress=False,
          evaluation_data=IMAGES.float().round())
    assert model.gmm.means.device.type == "cuda" and model.gmm.means.dtype == torch.float64
    there = torch.Generator("cuda").manual_seed(1)
    assert model.sample_component(0, 3, there).device.type == "cuda"
    learner.exchange(IMAGES.float().cuda(), there)


def test_em_and_the_sampler_meet_the_same_mixture(generator):
    """What is sent up can be learnt by EM as well: the message knows nothing of who listens."""
    model = fitted()
    up = model.up(IMAGES, generator)
    after = em_step(model.gmm.mixture, up.draw, ridge=1e-3).mixture
    before = model.gmm.mixture.log_prob(up.draw).sum()
    model.gmm.mixture = after
    assert after.log_prob(up.draw).sum() > before and model.down(up).responsibilities.isfinite().all()
    assert gap(model.prior.log_prob(up.draw), after.log_prob(up.draw)) == 0
