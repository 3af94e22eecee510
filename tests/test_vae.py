"""Chapter 4: every numbered equation of the variational autoencoder against quadrature, enumeration and the
linear-Gaussian model where all is known, with mutants that the same checks must refuse.

Expectations over z are exact where they can be: `noise` hands the code the points of a quadrature rule in the
place of random numbers. With two latent units a fine grid is exact to rounding; and the four corners ±1, all
weighed alike, are exact for polynomials up to the third degree, which is all that linear networks need.
"""

import itertools
import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch import nn
from torch.distributions import (
    Bernoulli, Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal, kl_divergence,
)

from nemlib import networks, training, vae
from nemlib.evaluate.likelihood import log_mean_exp
from nemlib.networks import fully_connected
from nemlib.training import TrainingDiverged, TrainingSettings, evaluate, seeded, train
from nemlib.vae import (
    VAE, BernoulliPixels, Gaussian, GaussianPixels, GivenPrior, MixturePrior, Objective, ProbabilisticPCA,
    StandardNormal, VariationalLearner, spherical, straight, vae_784,
)

EXACT = 1e-10
LOG_TWO_PI = math.log(2 * math.pi)
CORNERS = torch.cartesian_prod(*2 * [torch.tensor([-1.0, 1.0]).double()])


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(20131220)


def randn(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def rand(generator, *shape):
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def gaussian(generator, *shape):
    """Means and log-variances far from 0."""
    return Gaussian(randn(generator, *shape), randn(generator, *shape))


def law_of(q):
    """The same Gaussian as PyTorch has it, the units independent events."""
    return Independent(Normal(q.mean, (q.log_variance / 2).exp()), 1)


def binary(pixels):
    """All pictures, (2^pixels, pixels)."""
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=pixels)), dtype=torch.float64)


# --- exact expectations -------------------------------------------------------------------------------------


def plane(far=11.0, steps=221):
    """Points of a grid over two latent units, (steps², 2), and the logarithm of a cell's area."""
    line = torch.linspace(-far, far, steps, dtype=torch.float64)
    return torch.cartesian_prod(line, line), 2 * math.log(line[1] - line[0])


def noise_plane(far=16.0, steps=251):
    """Points ε and the logarithms of their weights under N(0, I), which add up to 1."""
    epsilon, log_cell = plane(far, steps)
    return epsilon, log_cell - epsilon.square().sum(1) / 2 - LOG_TWO_PI


def hermite(points, units):
    """Gauss's rule for N(0, I), exact for polynomials of degree 2 · points − 1 in each unit."""
    x, weight = np.polynomial.hermite_e.hermegauss(points)
    grid = torch.tensor(list(itertools.product(x, repeat=units)))
    weights = torch.tensor(list(itertools.product(weight / math.sqrt(2 * math.pi), repeat=units)))
    return grid.double(), weights.double().prod(1)


@contextmanager
def noise(monkeypatch, epsilon):
    """Inside, draws of (count, …, units) are these points (count, units) for every example."""
    def hand_out(*shape, **options):
        shape = shape if isinstance(shape[0], int) else tuple(shape[0])
        assert shape[0] == len(epsilon) and shape[-1] == epsilon.shape[1], f"{shape} is drawn"
        return epsilon.view(len(epsilon), *[1] * (len(shape) - 2), -1).expand(shape).contiguous()

    with monkeypatch.context() as patch:
        patch.setattr(torch, "randn", hand_out)
        yield


def exact_log_weights(model, x, monkeypatch, far=16.0, steps=251):
    """log w at every point of a grid, (points, batch), and the points' log weights, (points, 1)."""
    epsilon, log_weight = noise_plane(far, steps)
    with noise(monkeypatch, epsilon), torch.no_grad():
        return model.log_weights(x, len(epsilon), torch.Generator()), log_weight[:, None]


def exact_elbo(model, x, monkeypatch):
    """The expected bound of a machine whose log p(x, z) is a square in two latent units."""
    with noise(monkeypatch, CORNERS):
        return model.elbo(x, torch.Generator(), samples=4)


# --- machines -----------------------------------------------------------------------------------------------


def tiny(pixels=5, latent=2, seed=1, scale=2.0, **parts):
    """A machine with curved networks, float64, without gradients."""
    with seeded(seed):
        made = VAE(fully_connected([pixels, 6, 2 * latent], nn.Tanh),
                   fully_connected([latent, 6, pixels], nn.Tanh), latent=latent, **parts)
    made.double().requires_grad_(False)
    for value in made.decoder.parameters():
        value.mul_(scale)
    return made


def brute(model, x):
    """log p(x, z) on a plane, (points, batch), from the decoder and PyTorch's distributions; points; cell."""
    z, log_cell = plane()
    with torch.no_grad():
        output = model.decoder(z)[:, None]
    if isinstance(model.observation, BernoulliPixels):
        log_given = Bernoulli(logits=output).log_prob(x).sum(-1)
    else:
        log_given = Normal(output, model.observation.variance.sqrt()).log_prob(x).sum(-1)
    return log_given + Normal(0.0, 1.0).log_prob(z).sum(1)[:, None], z, log_cell


def pca(generator, pixels=5, latent=2, variance=0.4):
    return ProbabilisticPCA(randn(generator, pixels, latent), randn(generator, pixels), variance)


def data_of(model, generator, count):
    z, noise = randn(generator, count, model.latent), randn(generator, count, len(model.W))
    return z @ model.W.T + model.mean + math.sqrt(model.variance) * noise


def covariance_of(x):
    centred = x - x.mean(0)
    return centred.T @ centred / len(x)


# --- a Gaussian and its divergence --------------------------------------------------------------------------


def line_of(far=40.0, steps=8001):
    z = torch.linspace(-far, far, steps, dtype=torch.float64)
    return z, z[1] - z[0]


def by_quadrature(q, function):
    """∫ q(z) f(q, z) dz for each unit of each row, (rows, units)."""
    z, step = line_of()
    log_q = Normal(q.mean[..., None], (q.log_variance / 2).exp()[..., None]).log_prob(z)
    return (log_q.exp() * function(log_q, z)).sum(-1) * step


class DeviationForVariance(Gaussian):
    """A mutant: the network's second number is read as log σ where a σ² is needed."""

    def kl(self, other=None):
        return super().kl(other) - 0.5 * (self.log_variance.exp() - (self.log_variance / 2).exp())

    def entropy(self):
        return 0.5 * (self.log_variance / 2 + 1 + LOG_TWO_PI).sum(-1)

    def sample(self, generator, count=None):
        return Gaussian(self.mean, 2 * self.log_variance).sample(generator, count)

    def log_prob(self, z):
        return Gaussian(self.mean, 2 * self.log_variance).log_prob(z)


class Halved(Gaussian):
    """A mutant: the ½ stands twice."""

    def kl(self, other=None):
        return super().kl(other) / 2

    def entropy(self):
        return super().entropy() / 2


def entropy_error(q):
    return (q.entropy() - by_quadrature(q, lambda log_q, z: -log_q).sum(1)).abs().max()


@pytest.mark.equation("eq-vae-entropy", how="quadrature")
def test_the_entropy_of_a_gaussian(generator, largest_error):
    q = gaussian(generator, 5, 3)
    largest_error(entropy_error(q))
    assert entropy_error(q) < EXACT
    for mutant in (DeviationForVariance, Halved):
        assert entropy_error(mutant(q.mean, q.log_variance)) > 0.1


@pytest.mark.equation("eq-vae-cross", how="quadrature")
def test_the_cross_entropy_to_the_standard_normal(generator, largest_error):
    q, prior = gaussian(generator, 5, 3), StandardNormal(3)
    exact = by_quadrature(q, lambda log_q, z: -prior.log_prob(z[:, None]))
    closed = 0.5 * (LOG_TWO_PI + q.mean.square() + q.log_variance.exp())
    error = (closed - exact).abs().max()
    largest_error(error)
    assert error < EXACT
    assert (q.kl().sum(1) + q.entropy() - exact.sum(1)).abs().max() < EXACT
    assert (closed - q.mean.square() / 2 - exact).abs().max() > 0.1             # the mutant: without the mean


def kl_errors(q, p):
    to_standard = by_quadrature(q, lambda log_q, z: log_q - Normal(0.0, 1.0).log_prob(z))
    other = Normal(p.mean[..., None], (p.log_variance / 2).exp()[..., None])
    to_other = by_quadrature(q, lambda log_q, z: log_q - other.log_prob(z))
    return (q.kl() - to_standard).abs().max(), (q.kl(p) - to_other).abs().max()


@pytest.mark.equation("eq-vae-kl", "eq-vae-kl-general", how="quadrature")
def test_the_divergence_of_two_gaussians_unit_by_unit(generator, largest_error):
    q, p = gaussian(generator, 5, 3), gaussian(generator, 5, 3)
    for error, label in zip(kl_errors(q, p), ("eq-vae-kl", "eq-vae-kl-general")):
        largest_error(error, label)
        assert error < EXACT
    for mutant in (DeviationForVariance, Halved):
        assert min(kl_errors(mutant(q.mean, q.log_variance), p)) > 0.1
    assert (p.kl(q) - q.kl(p)).abs().max() > 0.1                                # the other way round


@pytest.mark.equation("eq-vae-kl", "eq-vae-kl-general", how="closed form")
def test_the_divergences_are_those_of_the_library(generator, largest_error):
    q, p = gaussian(generator, 40, 7), gaussian(generator, 40, 7)
    normal = Normal(q.mean, (q.log_variance / 2).exp())
    error = (q.kl() - kl_divergence(normal, Normal(0.0, 1.0))).abs().max()
    largest_error(error, "eq-vae-kl")
    assert error < EXACT and q.kl().shape == (40, 7)
    exact = kl_divergence(normal, Normal(p.mean, (p.log_variance / 2).exp()))
    largest_error(((q.kl(p) - exact) / (1 + exact)).abs().max(), "eq-vae-kl-general")
    assert ((q.kl(p) - exact) / (1 + exact)).abs().max() < EXACT and q.kl(p).min() > 0
    zeros = torch.zeros(40, 7, dtype=torch.float64)
    assert torch.allclose(q.kl(Gaussian(zeros, zeros)), q.kl(), atol=1e-13) and q.kl(q).abs().max() < 1e-13
    assert (law_of(q).entropy() - q.entropy()).abs().max() < EXACT
    z = randn(generator, 6, 40, 7)
    assert ((law_of(q).log_prob(z) - q.log_prob(z)) / q.log_prob(z)).abs().max() < EXACT


def test_a_divergence_is_not_negative_by_rounding():
    """Units that say nothing have σ² almost 1: there e^ℓ − 1 − ℓ is lost in a float's last digit."""
    small = torch.logspace(-7, -2, 2001)
    for log_variance in (small, -small):
        q = Gaussian(torch.zeros_like(small), log_variance)
        exact = Gaussian(q.mean.double(), q.log_variance.double()).kl()
        other = Gaussian(torch.zeros_like(small), torch.full_like(small, 0.3))
        assert q.kl().min() >= 0 and (q.kl() - exact).abs().max() < 1e-8
        assert q.kl(Gaussian(q.mean, torch.zeros_like(small))).min() >= 0 and other.kl(other).abs().max() == 0


def test_draws_have_the_law_they_claim(generator):
    q = gaussian(generator, 3, 2)
    z = q.sample(generator, 50_000)
    assert z.shape == (50_000, 3, 2) and q.sample(generator).shape == (3, 2)
    standard = (z - q.mean) / (q.log_variance / 2).exp()
    flat = standard.reshape(-1, 6)
    assert min(stats.kstest(flat[:, i].numpy(), "norm").pvalue for i in range(6)) > 1e-4
    assert (torch.corrcoef(flat.T) - torch.eye(6)).abs().max() < 5 / math.sqrt(50_000)
    wrong = DeviationForVariance(q.mean, q.log_variance).sample(generator, 50_000)[:, 0, 0]
    wrong = (wrong - q.mean[0, 0]) / (q.log_variance[0, 0] / 2).exp()
    assert stats.kstest(wrong.numpy(), "norm").pvalue < 1e-4
    assert (z.mean(0) - q.mean).abs().max() < 0.1


# --- two ways to a gradient ---------------------------------------------------------------------------------


def bent(z):
    """A function of two units that is no polynomial, (..., 2) → (...)."""
    return torch.sin(z[..., 0]) + z[..., 0] * z[..., 1].square() + torch.exp(0.3 * z[..., 1])


def slopes(value, q):
    """Of a scalar by mean and log-variance."""
    return torch.cat([part.flatten() for part in torch.autograd.grad(value, (q.mean, q.log_variance))])


def leaves(q):
    return type(q)(q.mean.detach().requires_grad_(), q.log_variance.detach().requires_grad_())


def true_slopes(q, function=bent):
    """∂/∂(μ, ℓ) of ∫ q(z) f(z) dz, by autograd of the density on a grid that stays where it is."""
    q, (z, log_cell) = leaves(q), plane(20.0, 401)
    density = (Normal(q.mean, (q.log_variance / 2).exp()).log_prob(z).sum(-1) + log_cell).exp()
    return slopes((density * function(z)).sum(), q)


def path_slopes(q, monkeypatch):
    """The mean of f's slopes along z = μ + σε."""
    q, (epsilon, weight) = leaves(q), hermite(40, 2)
    with noise(monkeypatch, epsilon):
        z = q.sample(torch.Generator(), len(epsilon))
    return slopes((weight * bent(z)).sum(), q)


def score_slopes(q, monkeypatch, hold=True):
    """The mean of f(z) ∇ log q(z), z held where it is."""
    q, (epsilon, weight) = leaves(q), hermite(40, 2)
    with noise(monkeypatch, epsilon):
        z = q.sample(torch.Generator(), len(epsilon))
    z = z.detach() if hold else z
    return slopes((weight * bent(z.detach()) * q.log_prob(z)).sum(), q)


@pytest.mark.equation("eq-vae-path-gradient", how="quadrature")
def test_the_gradient_along_the_path_of_the_draw(generator, largest_error, monkeypatch):
    q = Gaussian(randn(generator, 2), 0.4 * randn(generator, 2))
    error = (path_slopes(q, monkeypatch) - true_slopes(q)).abs().max()
    largest_error(error)
    assert error < EXACT
    wrong = DeviationForVariance(q.mean, q.log_variance)
    assert (path_slopes(wrong, monkeypatch) - true_slopes(q)).abs().max() > 0.01
    noisy = Gaussian(q.mean, q.log_variance)
    assert not noisy.sample(generator).requires_grad and leaves(q).sample(generator).requires_grad


@pytest.mark.equation("eq-vae-score-gradient", how="quadrature")
def test_the_gradient_by_the_score(generator, largest_error, monkeypatch):
    q = Gaussian(randn(generator, 2), 0.4 * randn(generator, 2))
    error = (score_slopes(q, monkeypatch) - true_slopes(q)).abs().max()
    largest_error(error)
    assert error < EXACT
    # of one draw: ε/σ and (ε² − 1)/σ
    z, at = q.sample(generator), leaves(q)
    epsilon, sigma = (z - q.mean) / (q.log_variance / 2).exp(), (q.log_variance / 2).exp()
    by_mean, by_sigma = slopes(at.log_prob(z), at).split(2)
    error = torch.cat([by_mean - epsilon / sigma, by_sigma * 2 / sigma - (epsilon.square() - 1) / sigma])
    largest_error(error.abs().max())
    assert error.abs().max() < EXACT
    # the mutants: the slope of log q goes along the path of z too; the density's other reading
    assert (score_slopes(q, monkeypatch, hold=False) - true_slopes(q)).abs().max() > 0.01
    wrong = DeviationForVariance(q.mean, q.log_variance)
    assert (score_slopes(wrong, monkeypatch) - true_slopes(q)).abs().max() > 0.01


def half_square(z):
    return z.square().sum(-1) / 2


def one_draw_gradients(q, z, by_score):
    """What each single draw says of ∂/∂μ and ∂/∂σ of E[½‖z‖²], (count, 2, units), through the code."""
    sigma = (q.log_variance / 2).exp()
    if not by_score:
        return torch.stack([z, z * (z - q.mean) / sigma], 1)
    mean, log_variance = q.mean.expand(z.shape).clone(), q.log_variance.expand(z.shape).clone()
    each = leaves(Gaussian(mean, log_variance))
    by_mean, by_log = torch.autograd.grad(each.log_prob(z).sum(), (each.mean, each.log_variance))
    return half_square(z)[:, None, None] * torch.stack([by_mean, by_log * 2 / sigma], 1)


def path_variances(mu, sigma):
    """By μ_i, as the book has it, and by σ_i, (2, units)."""
    return torch.stack([sigma.square(), mu.square() + 2 * sigma.square()])


def score_variances(mu, sigma):
    """Of ½‖z‖² ε_i / σ_i, as the book has it, and of ½‖z‖² (ε_i² − 1) / σ_i, (2, units)."""
    m, v = mu.square(), sigma.square()
    F, V = (m + v).sum() / 2, (v.square() / 2 + m * v).sum()
    by_mean = (F.square() + V) / v + 2 * F + m + 2 * v
    # by moments of ε: f is a part A of the other units, and ½ z_i²
    A, A2 = F - (m + v) / 2, V - (v.square() / 2 + m * v) + (F - (m + v) / 2).square()
    by_sigma = 2 * A2 + 2 * A * (m + 5 * v) + (2 * m**2 + 60 * m * v + 78 * v**2) / 4
    return torch.stack([by_mean, by_sigma / v - v])


def exact_variances(q, by_score, monkeypatch):
    epsilon, weight = hermite(6, q.mean.shape[0])
    with noise(monkeypatch, epsilon):
        z = q.sample(torch.Generator(), len(epsilon))
    each, weight = one_draw_gradients(q, z, by_score), weight[:, None, None]
    return (weight * each.square()).sum(0) - (weight * each).sum(0).square(), (weight * each).sum(0)


@pytest.mark.equation("eq-vae-gradient-variances", how="quadrature")
def test_the_variances_of_both_gradients(generator, largest_error, monkeypatch):
    """f(z) = ½‖z‖²: all moments by Gauss's rule, which is exact for polynomials."""
    for units in (1, 2, 4):
        q = Gaussian(randn(generator, units), 0.5 * randn(generator, units))
        sigma = (q.log_variance / 2).exp()
        truth = torch.stack([q.mean, sigma])                # the gradient that both estimate
        for by_score, closed in ((False, path_variances), (True, score_variances)):
            found, mean = exact_variances(q, by_score, monkeypatch)
            error = (found / closed(q.mean, sigma) - 1).abs().max()
            largest_error(error)
            assert error < EXACT and (mean - truth).abs().max() < EXACT
        assert (found > path_variances(q.mean, sigma)).all()
        # the mutant: the square of the mean is not taken away
        assert ((closed(q.mean, sigma) + truth.square()) / found - 1).abs().max() > 0.01
    # around the prior: 1 against (L + 2)(L + 4) / 4
    for units in (1, 3, 10, 100):
        zeros, ones = torch.zeros(units).double(), torch.ones(units).double()
        error = (score_variances(zeros, ones)[0] - (units + 2) * (units + 4) / 4).abs().max()
        largest_error(error)
        assert error < EXACT and (path_variances(zeros, ones)[0] - 1).abs().max() < EXACT


@pytest.mark.equation("eq-vae-gradient-variances", how="Monte Carlo")
def test_the_variances_of_both_gradients_as_measured(generator, largest_error):
    q, count = Gaussian(randn(generator, 8), 0.3 * randn(generator, 8)), 200_000
    z = q.sample(generator, count)
    for by_score, closed in ((False, path_variances), (True, score_variances)):
        each = one_draw_gradients(q, z, by_score)
        squares = (each - each.mean(0)).square()
        exact = closed(q.mean, (q.log_variance / 2).exp())
        score = (squares.mean(0) - exact) / (squares.std(0) / math.sqrt(count))
        largest_error((squares.mean(0) / exact - 1).abs().max())
        assert score.abs().max() < 4
        assert ((squares.mean(0) - 1.1 * exact) / (squares.std(0) / math.sqrt(count))).abs().min() > 4


# --- bounds, where log p(x) is a sum over a grid ------------------------------------------------------------


def test_the_pictures_probabilities_add_up_to_one():
    model = tiny()
    log_joint, _, log_cell = brute(model, binary(5))
    assert abs((log_joint.logsumexp(0) + log_cell).exp().sum() - 1) < EXACT


def test_the_joint_law_is_the_likelihood_times_the_prior(generator):
    for parts in ({}, {"observation": GaussianPixels(0.6)}):
        model = tiny(**parts)
        x = binary(5)[::7]
        log_joint, z, _ = brute(model, x)
        found = model.log_joint(x, z[:, None].expand(-1, len(x), 2))
        assert (found - log_joint).abs().max() < 1e-9
        assert (model.log_joint(x, z[40_000].expand(len(x), 2)) - log_joint[40_000]).abs().max() < 1e-9


@pytest.mark.equation("eq-vae-prior-estimate", how="quadrature")
def test_the_mean_likelihood_under_the_prior_is_the_marginal(largest_error, monkeypatch):
    model, x = tiny(), binary(5)[[3, 17, 30]]
    log_joint, _, log_cell = brute(model, x)
    epsilon, log_weight = noise_plane()
    with noise(monkeypatch, epsilon):
        z = Gaussian(torch.zeros(2).double(), torch.zeros(2).double()).sample(None, len(epsilon))
    log_given = model.observation.log_prob(x, model.decode(z)[:, None])
    error = ((log_given + log_weight[:, None]).logsumexp(0) - log_joint.logsumexp(0) - log_cell).abs().max()
    largest_error(error)
    assert error < EXACT
    assert (log_given.mean(0) - log_joint.logsumexp(0) - log_cell).abs().max() > 0.1


class NoPrior(VAE):
    """A mutant: the weight without p(z)."""

    def log_joint(self, x, z, rows=None):
        return self.observation.log_prob(x, self.decode(z))


class NoProposal(VAE):
    """A mutant: the weight without q(z | x) below the fraction."""

    def log_weights(self, x, count, generator, rows=None, q=None):
        z = self.encode(x).sample(generator, count)
        return self.log_joint(x, z, rows)


class WrongDraws(VAE):
    """A mutant: draws with the deviation for the variance."""

    def log_weights(self, x, count, generator, rows=None, q=None):
        q = self.encode(x)
        z = DeviationForVariance(q.mean, q.log_variance).sample(generator, count)
        return self.log_joint(x, z, rows) - q.log_prob(z)


def turned(model, kind):
    """The same machine with the functions of another class."""
    other = tiny()
    other.load_state_dict(model.state_dict())
    other.__class__ = kind
    return other


@pytest.mark.equation("eq-vae-importance", how="quadrature")
def test_the_mean_weight_under_the_encoder_is_the_marginal(largest_error, monkeypatch):
    model, x = tiny(), binary(5)[[3, 17, 30]]
    log_joint, _, log_cell = brute(model, x)
    truth = log_joint.logsumexp(0) + log_cell

    def error_of(machine):
        log_w, log_weight = exact_log_weights(machine, x, monkeypatch)
        return ((log_w + log_weight).logsumexp(0) - truth).abs().max()

    largest_error(error_of(model))
    assert error_of(model) < EXACT
    for mutant in (NoPrior, NoProposal, WrongDraws):
        assert error_of(turned(model, mutant)) > 0.01


def divergence_to_posterior(model, x):
    """KL(q(z | x) ‖ p(z | x)) on the plane, from nothing but densities, and log p(x)."""
    log_joint, z, log_cell = brute(model, x)
    truth = log_joint.logsumexp(0) + log_cell
    log_q = law_of(model.encode(x)).log_prob(z[:, None])
    return ((log_q + log_cell).exp() * (log_q - log_joint + truth)).sum(0), truth


@pytest.mark.equation("eq-vae-jensen", "eq-vae-identity", how="quadrature")
def test_what_the_bound_misses_is_the_divergence_to_the_posterior(largest_error, monkeypatch):
    x = binary(5)[[0, 3, 17, 30]]
    for seed in (1, 2, 3):
        model = tiny(seed=seed)
        divergence, truth = divergence_to_posterior(model, x)
        log_w, log_weight = exact_log_weights(model, x, monkeypatch)
        bound = (log_weight.exp() * log_w).sum(0)
        largest_error((bound - truth).clamp_min(0).max(), "eq-vae-jensen")
        largest_error((truth - bound - divergence).abs().max(), "eq-vae-identity")
        assert (truth - bound).min() > 0.01 and (truth - bound - divergence).abs().max() < EXACT
        # the mutants: the divergence the other way round, and that to the prior
        log_joint, z, log_cell = brute(model, x)
        log_q = law_of(model.encode(x)).log_prob(z[:, None])
        posterior = (log_joint - truth + log_cell).exp()
        other = (posterior * (log_joint - truth - log_q)).sum(0)
        assert (truth - bound - other).abs().max() > 0.01
        assert (truth - bound - model.encode(x).kl().sum(1)).abs().max() > 0.01


@pytest.mark.equation("eq-vae-reading-kl", "eq-vae-reading-energy", how="quadrature")
def test_the_bound_read_in_two_ways(largest_error, monkeypatch):
    model, x = tiny(), binary(5)[[0, 3, 17, 30]]
    epsilon, log_weight = noise_plane()
    log_w, _ = exact_log_weights(model, x, monkeypatch)
    weight = log_weight.exp()[:, None]
    bound, q = (weight * log_w).sum(0), model.encode(x)
    with noise(monkeypatch, epsilon):
        z = q.sample(None, len(epsilon))
    reconstruction = (weight * model.observation.log_prob(x, model.decode(z))).sum(0)
    energy = (weight * model.log_joint(x, z)).sum(0)
    for found, label in ((reconstruction - model.prior.kl(q).sum(1), "eq-vae-reading-kl"),
                         (energy + q.entropy(), "eq-vae-reading-energy")):
        largest_error((found - bound).abs().max(), label)
        assert (found - bound).abs().max() < EXACT
    assert (reconstruction + model.prior.kl(q).sum(1) - bound).abs().max() > 0.1        # the signs
    assert (energy - q.entropy() - bound).abs().max() > 0.1
    for wrong in (DeviationForVariance(q.mean, q.log_variance), Halved(q.mean, q.log_variance)):
        assert (reconstruction - wrong.kl().sum(1) - bound).abs().max() > 0.01
        assert (energy + wrong.entropy() - bound).abs().max() > 0.01


def test_the_bound_of_many_draws_is_the_expected_one(generator, monkeypatch):
    """`elbo` itself, with a closed divergence, and with one that is drawn."""
    x = binary(5)[[3, 17]]
    mixture = MixturePrior(2, 3, torch.Generator().manual_seed(4))
    for parts in ({}, {"prior": mixture}, {"observation": GaussianPixels(0.5)}):
        model = tiny(**parts)
        log_w, log_weight = exact_log_weights(model, x, monkeypatch)
        exact = (log_weight.exp() * log_w).sum(0)
        each = torch.stack([model.elbo(x, generator, samples=500).value for _ in range(200)])
        error = each.std(0) / math.sqrt(200)
        assert ((each.mean(0) - exact) / error).abs().max() < 4 and error.max() < 0.02
        found = model.elbo(x, generator)
        assert found.reconstruction.shape == found.kl.shape == found.value.shape == (2,)
        assert torch.equal(found.value, found.reconstruction - found.kl)
        # one draw for all: the same numbers as from the log weights, but for the closed divergence
        one = model.elbo(x, torch.Generator().manual_seed(9))
        z = model.encode(x).sample(torch.Generator().manual_seed(9))
        assert (one.reconstruction - model.observation.log_prob(x, model.decode(z))).abs().max() < EXACT
        if "prior" in parts:
            drawn = model.log_weights(x, 1, torch.Generator().manual_seed(9))[0]
            assert (one.value - drawn).abs().max() < EXACT
            few = model.elbo(x, torch.Generator().manual_seed(9), samples=7).value
            drawn = model.log_weights(x, 7, torch.Generator().manual_seed(9)).mean(0)
            assert (few - drawn).abs().max() < EXACT


# --- the linear-Gaussian model ------------------------------------------------------------------------------


def linear_brute(model, x):
    """log p(x, z) of a linear model on the plane."""
    z, log_cell = plane(12.0, 481)
    given = Normal((z @ model.W.T + model.mean)[:, None], math.sqrt(model.variance))
    return given.log_prob(x).sum(-1) + Normal(0.0, 1.0).log_prob(z).sum(1)[:, None], z, log_cell


@pytest.mark.equation("eq-vae-linear-marginal", how="quadrature")
def test_the_marginal_of_a_linear_model(generator, largest_error):
    model = pca(generator)
    x = data_of(model, generator, 4)
    log_joint, _, log_cell = linear_brute(model, x)
    truth = log_joint.logsumexp(0) + log_cell
    error = (model.log_prob(x) - truth).abs().max()
    largest_error(error)
    assert error < EXACT
    for wrong in (ProbabilisticPCA(model.W, model.mean, model.variance**0.5),
                  ProbabilisticPCA(model.W.flip(0), model.mean, model.variance),
                  ProbabilisticPCA(model.W, 0 * model.mean, model.variance)):
        assert (wrong.log_prob(x) - truth).abs().max() > 0.1


@pytest.mark.equation("eq-vae-linear-posterior", how="quadrature")
def test_the_posterior_of_a_linear_model(generator, largest_error):
    model = pca(generator)
    x = data_of(model, generator, 4)
    log_joint, z, log_cell = linear_brute(model, x)
    density = log_joint - log_joint.logsumexp(0) - log_cell
    mean, covariance = model.posterior(x)
    found = MultivariateNormal(mean, covariance).log_prob(z[:, None])
    near = density > -30
    error = (found - density)[near].abs().max()
    largest_error(error)
    assert error < EXACT and near.sum() > 1000
    assert (model.precision @ covariance - torch.eye(2).double()).abs().max() < EXACT
    for wrong in ((mean * model.variance, covariance), (mean, torch.eye(2).double()),
                  (mean, covariance.diagonal().diag())):
        assert (MultivariateNormal(*wrong).log_prob(z[:, None]) - density)[near].abs().max() > 0.1


def principal(generator, **options):
    """A linear model whose W has orthogonal columns: there the units are independent given x."""
    model = pca(generator, **options)
    U, S, _ = torch.linalg.svd(model.W, full_matrices=False)
    return ProbabilisticPCA(U * S, model.mean, model.variance)


def test_with_the_exact_posterior_the_bound_is_log_p(generator, monkeypatch):
    model = principal(generator)
    x = data_of(model, generator, 50)
    machine = model.vae().requires_grad_(False)
    assert (exact_elbo(machine, x, monkeypatch).value - model.log_prob(x)).abs().max() < EXACT
    # and every single weight is p(x), wherever it is drawn
    log_w = machine.log_weights(x, 20, generator)
    assert (log_w - model.log_prob(x)).abs().max() < EXACT
    found = machine.importance_bound(x, 7, generator)
    assert (found.log_prob - model.log_prob(x)).abs().max() < EXACT and found.standard_error.max() < 1e-6
    assert found.mean == pytest.approx(float(model.log_prob(x).mean()), abs=EXACT)
    # the mutants: another posterior; σ for σ²; pixels' mean for their sum
    for machine, number in ((model.rotated(rotation(0.5)).vae(), 0), (model.vae(), 1), (model.vae(), 2)):
        machine.requires_grad_(False)
        if number == 1:
            machine.encoder.bias[2:] *= 0.5
        if number == 2:
            machine.observation.log_prob = lambda x, a: GaussianPixels.log_prob(machine.observation, x, a) / 5
        assert (exact_elbo(machine, x, monkeypatch).value - model.log_prob(x)).abs().max() > 1e-3


def rotation(angle):
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s], [s, c]], dtype=torch.float64)


def divergence(q, posterior):
    """KL of a diagonal Gaussian to a full one, by the library, (batch,)."""
    return kl_divergence(MultivariateNormal(q.mean, torch.diag_embed(q.log_variance.exp())), posterior)


@pytest.mark.equation("eq-vae-factorised", how="autograd")
def test_the_best_factorised_posterior(generator, largest_error):
    model = pca(generator)
    x = data_of(model, generator, 6)
    posterior = MultivariateNormal(*model.posterior(x))
    best = leaves(model.vae().encode(x))
    lowest = divergence(best, posterior)
    error = slopes(lowest.sum(), best).abs().max()
    largest_error(error)
    assert error < EXACT
    assert (best.log_variance.exp() * model.precision.diagonal() - 1).abs().max() < EXACT
    for scale in (1e-3, 0.1, 1.0):
        other = Gaussian(best.mean + scale * randn(generator, 6, 2),
                         best.log_variance + scale * randn(generator, 6, 2))
        assert (divergence(other, posterior) > lowest).all()
    # the mutant: the posterior's own variances, which are wider
    marginal = leaves(Gaussian(best.mean, posterior.variance.log()))
    assert slopes(divergence(marginal, posterior).sum(), marginal).abs().max() > 0.01
    assert (posterior.variance > best.log_variance.exp()).all()


@pytest.mark.equation("eq-vae-factorised-gap", how="closed form")
def test_what_the_best_factorised_posterior_misses(generator, largest_error, monkeypatch):
    for angle in (0.0, 0.3, math.pi / 4):
        model = principal(generator).rotated(rotation(angle))
        x = data_of(model, generator, 6)
        gap = 0.5 * (model.precision.diagonal().log().sum() - torch.logdet(model.precision))
        missing = model.log_prob(x) - exact_elbo(model.vae(), x, monkeypatch).value
        error = (missing - gap).abs().max()
        largest_error(error)
        assert error < EXACT and gap >= -EXACT
        assert angle == 0 or gap > 0.01
        # the mutants: without the ½; without the determinant
        assert angle == 0 or (missing - 2 * gap).abs().min() > 0.01
        assert (missing - 0.5 * model.precision.diagonal().log().sum()).abs().min() > 0.01


@pytest.mark.equation("eq-vae-gaps", how="closed form")
def test_the_gap_is_approximation_and_amortisation(generator, largest_error, monkeypatch):
    model = pca(generator)
    x = data_of(model, generator, 6)
    best, machine = model.vae(), model.vae()
    with torch.no_grad():
        machine.encoder.weight.add_(0.1 * randn(generator, 4, 5))
    posterior = MultivariateNormal(*model.posterior(x))
    whole = model.log_prob(x) - exact_elbo(machine, x, monkeypatch).value
    of_family = divergence(best.encode(x), posterior)
    of_encoder = exact_elbo(best, x, monkeypatch).value - exact_elbo(machine, x, monkeypatch).value
    error = (whole - of_family - of_encoder).abs().max()
    largest_error(error)
    assert error < EXACT and of_family.min() > 0.01 and of_encoder.min() > 1e-3
    assert (whole - divergence(machine.encode(x), posterior)).abs().max() < EXACT
    # the mutants: one part alone; the family's part from the posterior's own variances
    assert (whole - of_family).abs().max() > 1e-3 < (whole - of_encoder).abs().max()
    wide = Gaussian(best.encode(x).mean, posterior.variance.log())
    assert (whole - divergence(wide, posterior) - of_encoder).abs().max() > 1e-4


# --- many samples -------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-vae-iwae-grows", how="Monte Carlo")
def test_the_importance_weighted_bound_rises_to_log_p(generator, largest_error):
    """128,000 draws for each K, on a linear model with a factorised q that is far from the posterior."""
    model = principal(generator).rotated(rotation(math.pi / 4))
    x = data_of(model, generator, 1)
    machine, truth = model.vae(), model.log_prob(x).item()
    gap = truth - 0.5 * float(model.precision.diagonal().log().sum() - torch.logdet(model.precision))
    means, errors = [], []
    for count in (1, 4, 16, 64, 256):
        groups = 128_000 // count
        found = machine.importance_bound(x.expand(groups, -1), count, generator, chunk=16, batch_size=8000)
        means.append(found.mean)
        errors.append(found.spread)
    assert abs(means[0] - gap) < 4 * errors[0]
    for (low, high), (e, f) in zip(itertools.pairwise(means), itertools.pairwise(errors)):
        largest_error(max(0.0, low - high))
        assert high > low + 4 * math.hypot(e, f) or abs(low - truth) < 0.05
    assert truth - means[-1] < 0.2 * (truth - means[0]) and means[-1] < truth + 4 * errors[-1]
    found = machine.importance_bound(x, 200_000, generator, chunk=20_000)
    largest_error(abs(found.log_prob.item() - truth))
    assert abs(found.log_prob.item() - truth) < 4 * found.standard_error.item() < 0.05
    assert found.samples == 200_000 and found.effective.item() < 100_000
    assert abs(found.elbo.item() - gap) < 0.05


def test_chunks_and_batches_change_only_the_draws(generator):
    """256 numbers at a time: then the generator hands out the same ones, whatever the chunk."""
    model, x = tiny(), binary(5)[:32]
    bound = lambda **options: model.importance_bound(
        x, 64, torch.Generator().manual_seed(3), **options).log_prob
    whole = bound(chunk=64)
    for chunk in (4, 16, 48):
        assert (bound(chunk=chunk) - whole).abs().max() < EXACT
    other = model.importance_bound(x, 64, torch.Generator().manual_seed(4), chunk=64)
    assert 0.01 < (other.log_prob - whole).abs().max()
    for batch_size in (1, 7, 32, 100):
        part = model.importance_bound(x, 64, torch.Generator().manual_seed(4), batch_size=batch_size)
        assert part.log_prob.shape == (32,)
        assert ((part.log_prob - whole) / (5 * other.standard_error + 0.05)).abs().max() < 1.5


def test_an_estimate_makes_no_graph_and_never_decodes_more_than_asked(generator):
    model, seen = tiny().requires_grad_(True), []
    model.decoder.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    found = model.importance_bound(binary(5)[:10], 23, generator, chunk=5, batch_size=4)
    assert not found.log_prob.requires_grad and max(seen) == 5 * 4 and sum(seen) == 23 * 10


def test_weights_of_another_proposal(generator, monkeypatch):
    """`log_weights` with q given draws from that q, and weighs by it."""
    model, x = tiny(), binary(5)[[3, 17]]
    q = Gaussian(torch.full((2, 2), 0.3).double(), torch.full((2, 2), 0.2).double())
    epsilon, log_weight = noise_plane()
    with noise(monkeypatch, epsilon):
        log_w = model.log_weights(x, len(epsilon), None, None, q)
    log_joint, _, log_cell = brute(model, x)
    found = (log_w + log_weight[:, None]).logsumexp(0)
    assert (found - log_joint.logsumexp(0) - log_cell).abs().max() < EXACT
    z = (q.mean + epsilon[:, None] * (q.log_variance / 2).exp())[:50]
    exact = model.log_joint(x, z) - law_of(q).log_prob(z)
    assert (log_w[:50] - exact).abs().max() < 1e-8 < (model.encode(x).mean - q.mean).abs().max()


# --- priors -------------------------------------------------------------------------------------------------


def mixture_prior(generator, components=3, latent=2):
    made = MixturePrior(latent, components, torch.Generator().manual_seed(4)).double()
    with torch.no_grad():
        for value in made.parameters():
            value.copy_(0.7 * randn(generator, *value.shape))
    return made


def test_a_mixture_prior_against_the_library(generator):
    prior = mixture_prior(generator).requires_grad_(False)
    law = MixtureSameFamily(Categorical(logits=prior.logits),
                            Independent(Normal(prior.mean, (prior.log_variance / 2).exp()), 1))
    z = 2 * randn(generator, 6, 5, 2)
    assert (prior.log_prob(z) - law.log_prob(z)).abs().max() < EXACT
    assert (prior.log_prob(z[0], rows=torch.arange(5)) - law.log_prob(z[0])).abs().max() < EXACT
    points, log_cell = plane(25.0, 601)
    assert abs((prior.log_prob(points) + log_cell).logsumexp(0)) < 1e-9
    assert prior.kl(gaussian(generator, 5, 2)) is None
    draws = prior.sample(40_000, generator)
    assert draws.shape == (40_000, 2)
    error = draws.std(0) / math.sqrt(40_000)
    assert ((draws.mean(0) - law.mean) / error).abs().max() < 4
    for unit in range(2):
        marginal = MixtureSameFamily(Categorical(logits=prior.logits),
                                     Normal(prior.mean[:, unit], (prior.log_variance[:, unit] / 2).exp()))
        uniform = marginal.cdf(draws[:, unit])
        assert stats.kstest(uniform.numpy(), "uniform").pvalue > 1e-4
        even = MixtureSameFamily(Categorical(logits=0 * prior.logits), marginal.component_distribution)
        assert stats.kstest(even.cdf(draws[:, unit]).numpy(), "uniform").pvalue < 1e-4    # equal weights
    # and its slopes
    values = [value.clone().requires_grad_() for value in prior.parameters()]
    by_library = torch.autograd.grad(MixtureSameFamily(
        Categorical(logits=values[0]), Independent(Normal(values[1], (values[2] / 2).exp()), 1),
    ).log_prob(z).sum(), values)
    found = torch.autograd.grad(prior.requires_grad_(True).log_prob(z).sum(), list(prior.parameters()))
    assert max((f - e).abs().max() for f, e in zip(found, by_library)) < 1e-9


def test_a_fresh_mixture_prior_can_be_learnt():
    prior = MixturePrior(4, 50, torch.Generator().manual_seed(4))
    assert {name for name, _ in prior.named_parameters()} == {"logits", "mean", "log_variance"}
    assert not prior.logits.any() and not prior.log_variance.any()
    assert abs(prior.mean.std() - 1) < 0.2 and prior.latent == 4
    assert torch.equal(prior.mean, MixturePrior(4, 50, torch.Generator().manual_seed(4)).mean)


def given_prior(generator, examples=7):
    return GivenPrior(2 * randn(generator, examples, 2), 0.5 * randn(generator, examples, 2))


class ByPlace(GivenPrior):
    """A mutant: the prior is looked up by the place in the batch."""

    def of(self, rows):
        return super().of(torch.arange(len(rows)))


ROWS = torch.tensor([5, 0, 6, 3, 3])


def given_errors(prior, exact, generator):
    """How far log p(z) and the divergence are from those of the examples' own priors."""
    q, z = gaussian(generator, 5, 2), randn(generator, 6, 5, 2)
    own = Normal(exact.mean[ROWS], (exact.log_variance[ROWS] / 2).exp())
    truth = kl_divergence(Normal(q.mean, (q.log_variance / 2).exp()), own)
    return ((prior.log_prob(z, ROWS) - own.log_prob(z).sum(-1)).abs().max(),
            (prior.log_prob(z[0], ROWS) - own.log_prob(z[0]).sum(-1)).abs().max(),
            (prior.kl(q, ROWS) - truth).abs().max())


def test_each_example_is_given_its_own_prior(generator):
    prior = given_prior(generator)
    assert max(given_errors(prior, prior, generator)) < EXACT
    wrong = ByPlace(prior.mean, prior.log_variance)
    assert min(given_errors(wrong, prior, generator)) > 0.1
    assert not list(prior.parameters()) and prior.latent == 2
    draws = prior.sample(60_000, generator)
    law = MixtureSameFamily(Categorical(logits=torch.zeros(7)),
                            Normal(prior.mean.T[0], (prior.log_variance.T[0] / 2).exp()))
    assert stats.kstest(law.cdf(draws[:, 0]).numpy(), "uniform").pvalue > 1e-4
    assert stats.kstest(law.cdf(prior.of(torch.zeros(60_000).long()).sample(generator)[:, 0]).numpy(),
                        "uniform").pvalue < 1e-4


def linear_with_given(generator, kind=GivenPrior):
    """A linear machine with one prior for each of 7 examples; the exact log p(x) of examples `ROWS`."""
    model, prior = pca(generator), given_prior(generator)
    machine = model.vae().requires_grad_(False)
    machine.prior = kind(prior.mean, prior.log_variance)
    x = data_of(model, generator, 5)
    own = prior.of(ROWS)
    covariance = torch.einsum("pi,bi,qi->bpq", model.W, own.log_variance.exp(), model.W)
    exact = MultivariateNormal(own.mean @ model.W.T + model.mean,
                               covariance + model.variance * torch.eye(5).double()).log_prob(x)
    return machine, x, exact


def scores(machine, x, exact, generator, **options):
    found = machine.importance_bound(x, 60_000, generator, chunk=3000, rows=ROWS, **options)
    return ((found.log_prob - exact) / (found.standard_error + 1e-3)).abs().max()


def test_bounds_respect_rows(generator, monkeypatch):
    """All batches of two: the second batch's rows are not the first's."""
    machine, x, exact = linear_with_given(generator)
    machine.encoder.bias[2:] += 1.5                     # wide enough for priors that lie elsewhere
    assert scores(machine, x, exact, generator, batch_size=2) < 4
    wrong = ByPlace(machine.prior.mean, machine.prior.log_variance)
    right, machine.prior = machine.prior, wrong
    assert scores(machine, x, exact, generator, batch_size=2) > 4
    machine.prior = right
    found = exact_elbo_rows(machine, x, monkeypatch)
    q = machine.encode(x)
    own = Normal(right.mean[ROWS], (right.log_variance[ROWS] / 2).exp())
    truth = kl_divergence(Normal(q.mean, (q.log_variance / 2).exp()), own)
    assert (found.kl - truth.sum(1)).abs().max() < EXACT and (found.value < exact).all()
    assert (machine.kl_by_unit(x, ROWS) - truth.mean(0)).abs().max() < EXACT
    log_joint = machine.log_joint(x, q.mean, ROWS) - machine.observation.log_prob(x, machine.decode(q.mean))
    assert (log_joint - own.log_prob(q.mean).sum(1)).abs().max() < EXACT
    parts = machine.surgery(x, torch.Generator().manual_seed(2), ROWS)
    drawn = machine.log_weights(x, 1, torch.Generator().manual_seed(2), ROWS).mean().item()
    total = parts.reconstruction - parts.mutual_information - parts.marginal_kl
    assert total == pytest.approx(drawn, abs=1e-9)


def exact_elbo_rows(machine, x, monkeypatch):
    with noise(monkeypatch, CORNERS):
        return machine.elbo(x, torch.Generator(), samples=4, rows=ROWS)


def test_the_standard_prior(generator):
    prior, z = StandardNormal(3), randn(generator, 4, 5, 3)
    exact = Normal(0.0, 1.0).log_prob(z).sum(-1)
    assert (prior.log_prob(z) - exact).abs().max() < EXACT
    assert torch.equal(prior.log_prob(z, torch.arange(5)), prior.log_prob(z))
    q = gaussian(generator, 5, 3)
    assert torch.equal(prior.kl(q), q.kl()) and torch.equal(prior.kl(q, torch.arange(5)), q.kl())
    draws = prior.sample(20_000, generator)
    assert draws.shape == (20_000, 3) and stats.kstest(draws.flatten().numpy(), "norm").pvalue > 1e-4


# --- decoders -----------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-vae-bernoulli", how="enumeration")
def test_binary_pixels(generator, largest_error):
    pixels, logits = BernoulliPixels(), 2 * randn(generator, 3, 6)
    x = binary(6)
    found = pixels.log_prob(x[:, None].expand(-1, 3, -1), logits)
    p = 1 / (1 + (-logits).exp())
    exact = torch.where(x[:, None] == 1, p, 1 - p).log().sum(-1)
    largest_error((found - exact).abs().max())
    largest_error((found.exp().sum(0) - 1).abs().max())
    assert (found - exact).abs().max() < EXACT and (found.exp().sum(0) - 1).abs().max() < EXACT
    assert (found / 6 - exact).abs().max() > 0.1                            # the mutant: a mean over pixels
    assert (pixels.log_prob(1 - x[:, None].expand(-1, 3, -1), logits) - exact).abs().max() > 0.1
    assert (pixels.mean(logits) - p).abs().max() < EXACT
    draws = pixels.sample(logits.expand(40_000, -1, -1), generator)
    assert set(draws.unique().tolist()) == {0, 1}
    assert ((draws.mean(0) - p) / (p * (1 - p) / 40_000).sqrt()).abs().max() < 4


def plain_bernoulli(x, logits):
    return (x * nn.functional.logsigmoid(logits) + (1 - x) * nn.functional.logsigmoid(-logits)).sum(-1)


def test_the_gradient_of_binary_pixels(generator):
    """It is written by hand: against autograd, for outputs of several draws and images that are shared."""
    pixels = BernoulliPixels()
    logits = (3 * randn(generator, 4, 3, 6)).requires_grad_()
    x, up = rand(generator, 3, 6).requires_grad_(), randn(generator, 4, 3)
    assert torch.autograd.gradcheck(pixels.log_prob, (x, logits))
    found = torch.autograd.grad((up * pixels.log_prob(x, logits)).sum(), (logits, x))
    exact = torch.autograd.grad((up * plain_bernoulli(x, logits)).sum(), (logits, x))
    assert all((f - e).abs().max() < EXACT for f, e in zip(found, exact))
    (by_logits,) = torch.autograd.grad(pixels.log_prob(x.detach(), logits).sum(), logits)
    assert (by_logits - (x - logits.sigmoid())).abs().max() < EXACT
    assert (by_logits - (x - logits.sigmoid()) / 6).abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_far_out_are_no_trouble(dtype):
    logits = torch.tensor([[50.0, -50.0, 20.0, 40.0, -41.0]], dtype=dtype).requires_grad_()
    right = (logits.detach() > 0).to(dtype)
    pixels = BernoulliPixels()
    likely = pixels.log_prob(right, logits)
    exact = -sum(math.log1p(math.exp(-a)) for a in (50.0, 50.0, 20.0, 40.0, 41.0))
    assert likely.item() == pytest.approx(exact, abs=2e-5 if dtype == torch.float32 else 1e-12)
    far = torch.tensor([[1e4, -1e4, 1e30, -1e30]], dtype=dtype).requires_grad_()
    (slope,) = torch.autograd.grad(pixels.log_prob((far.detach() > 0).to(dtype), far), far)
    assert pixels.log_prob((far > 0).to(dtype), far).item() == 0 and not slope.any()
    assert pixels.log_prob((far < 0).to(dtype), far)[0].item() == pytest.approx(-2e30)
    assert pixels.log_prob((far < 0).to(dtype)[:, :2], far[:, :2]).item() == pytest.approx(-2e4)


@pytest.mark.equation("eq-vae-gaussian-decoder", how="quadrature")
def test_real_pixels(generator, largest_error):
    for variance in (0.3, 1.0, 2.5):
        pixels = GaussianPixels(variance, dtype=torch.float64)
        mean, x = randn(generator, 4, 3, 6), randn(generator, 3, 6)
        found = pixels.log_prob(x, mean)
        exact = torch.from_numpy(stats.norm.logpdf(x, mean, math.sqrt(variance))).sum(-1)
        largest_error((found - exact).abs().max())
        assert (found - exact).abs().max() < EXACT and found.shape == (4, 3)
        line, step = line_of(20.0, 4001)
        one = pixels.log_prob(line[:, None], torch.full((4001, 1), 0.7).double())
        largest_error((one.exp().sum() * step - 1).abs())
        assert (one.exp().sum() * step - 1).abs() < EXACT
        # the mutants: without the constant; without the ½
        assert (found + 3 * math.log(2 * math.pi * variance) - exact).abs().max() > 0.1
        assert (2 * found - exact).abs().max() > 0.1
    assert (GaussianPixels(0.5**0.5, dtype=torch.float64).log_prob(x, mean)
            - GaussianPixels(0.5, dtype=torch.float64).log_prob(x, mean)).abs().max() > 0.1


def test_real_pixels_can_be_drawn_and_their_variance_learnt(generator):
    pixels = GaussianPixels(0.3, dtype=torch.float64)
    mean = randn(generator, 4)
    draws = pixels.sample(mean.expand(40_000, 4), generator).detach()
    assert ((draws.mean(0) - mean) / math.sqrt(0.3 / 40_000)).abs().max() < 4
    assert (draws.var(0) / 0.3 - 1).abs().max() < 4 * math.sqrt(2 / 40_000)
    assert torch.equal(pixels.mean(mean), mean) and abs(pixels.variance - 0.3) < 1e-15
    assert [p.requires_grad for p in pixels.parameters()] == [True]
    assert not any(p.requires_grad for p in GaussianPixels(0.3, learnt=False).parameters())
    assert "log_variance" in GaussianPixels(0.3, learnt=False).state_dict()
    pixels.check(100 * mean[None])


def squares(model, x, generator):
    """‖x − x̂‖² of every draw, (count, batch)."""
    z = model.encode(x).sample(generator, 6)
    return (x - model.decode(z)).square().sum(-1)


@pytest.mark.equation("eq-vae-decoder-variance", how="autograd")
def test_the_best_variance_is_the_mean_squared_error(generator, largest_error):
    model = tiny(observation=GaussianPixels(1.0))
    x = randn(generator, 20, 5)
    value = squares(model, x, torch.Generator().manual_seed(3)).mean() / 5
    log_variance = model.observation.log_variance

    def bound_and_slope(at):
        log_variance.data.fill_(math.log(at))
        log_variance.requires_grad_(True)
        bound = model.elbo(x, torch.Generator().manual_seed(3), samples=6).reconstruction.mean()
        return bound.item(), torch.autograd.grad(bound, log_variance)[0]

    best, slope = bound_and_slope(value)
    largest_error(slope.abs())
    assert slope.abs() < EXACT
    assert best == pytest.approx(-2.5 * math.log(2 * math.pi * math.e * value), abs=EXACT)
    for factor in (0.5, 0.9, 1.1, 2.0):
        assert bound_and_slope(factor * value)[0] < best
    assert bound_and_slope(math.sqrt(value))[1].abs() > 0.01 and bound_and_slope(5 * value)[1].abs() > 0.01


@pytest.mark.equation("eq-vae-fixed-variance", how="closed form")
def test_a_fixed_variance_is_a_weight_of_the_divergence(generator, largest_error):
    """−2s² ELBO = Σ (x − x̂)² + 2s² KL + a constant, and so with its gradient."""
    for variance in (0.1, 0.5, 2.0):
        fixed = GaussianPixels(variance, learnt=False, dtype=torch.float64)
        model = tiny(observation=fixed).requires_grad_(True)
        model.observation.log_variance.requires_grad_(False)
        x = randn(generator, 20, 5)
        bound = model.elbo(x, torch.Generator().manual_seed(3), samples=6).value
        distance = squares(model, x, torch.Generator().manual_seed(3)).mean(0)
        kl = model.encode(x).kl().sum(1)
        constant = 5 * variance * math.log(2 * math.pi * variance)
        error = (-2 * variance * bound - (distance + 2 * variance * kl + constant)).abs().max()
        largest_error(error)
        assert error < EXACT
        values = [p for p in model.parameters() if p.requires_grad]

        def slope(loss):
            by_value = torch.autograd.grad(loss.sum(), values, retain_graph=True)
            return torch.cat([part.flatten() for part in by_value])

        exact = -2 * variance * slope(bound)
        error = (slope(distance + 2 * variance * kl) - exact).abs().max()
        largest_error(error)
        assert error < EXACT
        assert (slope(distance + variance * kl) - exact).abs().max() > 1e-3             # the mutants
        assert variance == 0.5 or (slope(distance + kl) - exact).abs().max() > 1e-3


def linear_terms(q, w, x, observation, monkeypatch):
    """E_q log p(x | z) of pixels x = w z, exactly, and the divergence; q (1, 1)."""
    with noise(monkeypatch, torch.tensor([[-1.0], [1.0]]).double()):
        z = q.sample(None, 2)
    return observation.log_prob(x, z * w).mean(), q.kl().sum()


@pytest.mark.equation("eq-vae-beta-constraint", how="autograd")
def test_beta_is_the_price_of_a_constraint(generator, largest_error, monkeypatch):
    """The best E log p(x|z) with KL ≤ C, found by scipy, is the maximum of reconstruction − β KL."""
    w, x, variance = randn(generator, 4), randn(generator, 1, 4), 0.5
    observation, P = GaussianPixels(variance, dtype=torch.float64), float(w.square().sum() / variance)
    for beta in (0.2, 1.0, 3.0):
        b = torch.tensor(beta, dtype=torch.float64).requires_grad_()
        q = Gaussian(((x @ w / variance) / (b + P))[:, None], (b / (b + P)).log().expand(1, 1))
        free = leaves(q)
        reconstruction, kl = linear_terms(free, w, x, observation, monkeypatch)
        stationary = slopes(reconstruction - beta * kl, free).abs().max()
        # along the path of solutions: what another nat would buy
        terms = linear_terms(q, w, x, observation, monkeypatch)
        rise, cost = (torch.autograd.grad(term, b, retain_graph=True)[0] for term in terms)
        price = (rise / cost - beta).abs()
        largest_error(max(stationary.item(), price.item()))
        assert stationary < EXACT and price < 1e-9
        budget = float(kl.detach())

        def at(place):
            there = Gaussian(*torch.tensor(place, dtype=torch.float64).view(2, 1, 1))
            both = linear_terms(there, w, x, observation, monkeypatch)
            return [float(term.detach()) for term in both]

        # nobody who spends less reconstructs better
        for place in (3 * randn(generator, 3000, 2)).tolist():
            A, C = at(place)
            assert C > budget or A <= float(reconstruction.detach())
        found = optimize.minimize(
            lambda place: -at(place)[0], [0.1, -0.1], method="SLSQP", options={"ftol": 1e-13, "maxiter": 300},
            constraints={"type": "ineq", "fun": lambda place: budget - at(place)[1]})
        assert abs(-found.fun - float(reconstruction.detach())) < 1e-6
        assert np.abs(found.x - [q.mean.item(), q.log_variance.item()]).max() < 1e-3
        # the mutant: β on the other term
        wrong = leaves(free)
        reconstruction, kl = linear_terms(wrong, w, x, observation, monkeypatch)
        assert beta == 1 or slopes(beta * reconstruction - kl, wrong).abs().max() > 0.01


# --- the aggregated posterior -------------------------------------------------------------------------------


def aggregate_by_quadrature(q):
    """I(n; z) and KL(q(z) ‖ p(z)) on a plane, q(z) the mean of these Gaussians."""
    z, log_cell = plane(11.0, 441)
    log_q = law_of(q).log_prob(z[:, None])
    log_mean = log_mean_exp(log_q, 1)
    prior = Normal(0.0, 1.0).log_prob(z).sum(1)
    information = ((log_q + log_cell).exp() * (log_q - log_mean[:, None])).sum(0).mean()
    return information, ((log_mean + log_cell).exp() * (log_mean - prior)).sum()


@pytest.mark.equation("eq-vae-surgery", how="quadrature")
def test_the_average_divergence_is_information_and_the_aggregates_divergence(generator, largest_error):
    for examples in (1, 2, 6):
        q = Gaussian(randn(generator, examples, 2), 0.5 * randn(generator, examples, 2) - 1)
        information, marginal = aggregate_by_quadrature(q)
        average = q.kl().sum(1).mean()
        error = (average - information - marginal).abs()
        largest_error(error)
        assert error < EXACT and -EXACT < information <= math.log(examples) + EXACT and marginal > 0
        assert examples == 1 or (average - information).abs() > 0.01 < (average - marginal).abs()


def test_surgery_finds_the_parts(generator):
    """Of 6 images, each taken 200 times: the same aggregate, and draws enough."""
    model, x = tiny(), binary(5)[[0, 3, 9, 17, 22, 31]]
    model.encoder[-1].weight.mul_(4)
    model.encoder[-1].bias[2:].sub_(2)
    information, marginal = aggregate_by_quadrature(model.encode(x))
    found = model.surgery(x.repeat(200, 1), generator, chunk=700)
    assert information > 0.5 and marginal > 0.1
    q = model.encode(x.repeat(200, 1))
    spread = (q.log_prob(q.sample(generator)) - model.prior.log_prob(q.sample(generator))).std() / 1200**0.5
    assert abs(found.mutual_information - information) < 4 * spread
    assert abs(found.marginal_kl - marginal) < 4 * spread
    exact = model.elbo(x, generator, samples=2000)
    assert abs(found.reconstruction - exact.reconstruction.mean()) < 0.3
    # with the same draws the parts add up to the bound, and a chunk changes nothing
    again = lambda **options: model.surgery(x, torch.Generator().manual_seed(5), **options)
    bound = model.log_weights(x, 1, torch.Generator().manual_seed(5)).mean().item()
    for chunk in (1, 4, 200):
        parts = again(chunk=chunk)
        total = parts.reconstruction - parts.mutual_information - parts.marginal_kl
        assert total == pytest.approx(bound, abs=EXACT)
        assert parts == pytest.approx(again(), abs=EXACT)
        assert parts.mutual_information <= math.log(6) + EXACT
    # an encoder that says nothing
    model.encoder[-1].weight.zero_()
    nothing = again()
    assert nothing.mutual_information == pytest.approx(0, abs=EXACT)
    # a mixture that is the aggregate has nothing left
    model = tiny(prior=MixturePrior(2, 6, torch.Generator()))
    q = model.encode(x)
    model.prior.mean.copy_(q.mean)
    model.prior.log_variance.copy_(q.log_variance)
    assert model.surgery(x, generator).marginal_kl == pytest.approx(0, abs=EXACT)


# --- probabilistic PCA, and units that sleep ----------------------------------------------------------------


def spectrum_data(generator, deviations=(2.0, 1.5, 1.0, 0.6, 0.4), count=400):
    return randn(generator, count, 5) * torch.tensor(deviations).double() @ torch.linalg.qr(
        randn(generator, 5, 5))[0] + randn(generator, 5)


def likelihood_slopes(model, x):
    """Of the mean log-likelihood by W, mean and log s², by autograd of the library's law."""
    W, mean = model.W.clone().requires_grad_(), model.mean.clone().requires_grad_()
    log_s = torch.tensor(math.log(model.variance), dtype=torch.float64).requires_grad_()
    law = MultivariateNormal(mean, W @ W.T + log_s.exp() * torch.eye(5).double())
    return torch.autograd.grad(law.log_prob(x).mean(), (W, mean, log_s))


@pytest.mark.equation("eq-vae-ppca", how="autograd")
def test_the_maximum_of_the_likelihood_of_a_linear_model(generator, largest_error):
    x = spectrum_data(generator)
    values, vectors = torch.linalg.eigh(covariance_of(x))
    for latent in (1, 2, 3, 4):
        model = ProbabilisticPCA.fit(x, latent)
        for turned_by in (torch.eye(latent).double(), torch.linalg.qr(randn(generator, latent, latent))[0]):
            found = likelihood_slopes(model.rotated(turned_by), x)
            largest_error(max(part.abs().max() for part in found))
            assert max(part.abs().max() for part in found) < EXACT
        best = model.log_prob(x).mean()
        turned_model = model.rotated(turned_by)
        assert (turned_model.log_prob(x).mean() - best).abs() < EXACT
        assert (turned_model.W - model.W @ turned_by).abs().max() < EXACT
        assert model.W.shape == (5, latent) == (5, model.latent) and isinstance(model.variance, float)
        assert model.variance == pytest.approx(float(values[:5 - latent].mean()), rel=1e-12)
        for scale in (0.01, 0.1, 1.0):
            other = ProbabilisticPCA(model.W + scale * randn(generator, 5, latent), model.mean,
                                     model.variance * math.exp(scale * float(randn(generator, 1))))
            assert other.log_prob(x).mean() < best
        # with a noise that is held fixed, above some of the eigenvalues
        for variance in (0.5, 1.5):
            held = ProbabilisticPCA.fit(x, latent, variance)
            found = likelihood_slopes(held.rotated(turned_by), x)[:2]
            largest_error(max(part.abs().max() for part in found))
            assert max(part.abs().max() for part in found) < EXACT
            lengths = (values.flip(0)[:latent] - variance).clamp_min(0).sqrt()
            assert (held.W.norm(dim=0) - lengths).abs().max() < EXACT
            assert all(held.log_prob(x).mean() > ProbabilisticPCA(
                held.W + scale * randn(generator, 5, latent), held.mean, variance).log_prob(x).mean()
                for scale in (0.01, 0.1, 1.0))
        # the mutants: without − s², with the deviations, other eigenvectors
        plain = ProbabilisticPCA(vectors.flip(1)[:, :latent] * values.flip(0)[:latent].sqrt(), model.mean,
                                 model.variance)
        assert max(part.abs().max() for part in likelihood_slopes(plain, x)) > 0.01
        lower = ProbabilisticPCA(vectors[:, :latent] * values[:latent].sqrt(), model.mean, model.variance)
        assert lower.log_prob(x).mean() < best - 0.1


@pytest.mark.equation("eq-vae-ppca-active", how="closed form")
def test_as_many_units_are_active_as_eigenvalues_are_above_the_noise(generator, largest_error):
    x = spectrum_data(generator)
    values, vectors = (part.flip(-1) for part in torch.linalg.eigh(covariance_of(x)))
    for variance in (0.1, 0.25, 0.5, 1.5, 3.0, 100.0):
        model = ProbabilisticPCA.fit(x, 4, variance)
        above = int((values > variance).sum().clamp_max(4))
        machine = model.vae().requires_grad_(False)
        assert machine.active_units(x, 1e-9).count == above == int((model.W.norm(dim=0) > 0).sum())
        by_unit = machine.kl_by_unit(x)
        exact = (values[:4] / variance).clamp_min(1).log() / 2
        error = (by_unit - exact).abs().max()
        largest_error(error)
        assert error < EXACT and int((by_unit > EXACT).sum()) == above
        # a sleeping unit's column has no way up; where an eigenvalue is above s², it has
        best = model.log_prob(x).mean()
        for j in range(4):
            woken, asleep = model.W.clone(), model.W.clone()
            woken[:, j] += 1e-3 * vectors[:, j] * (1 if j >= above else 0)
            asleep[:, j] = 0
            after, without = (ProbabilisticPCA(W, model.mean, variance) for W in (woken, asleep))
            assert after.log_prob(x).mean() <= best and without.log_prob(x).mean() <= best
            if j < above:
                earned = best - without.log_prob(x).mean()
                gain = (values[j] / variance - 1 - (values[j] / variance).log()) / 2
                largest_error((earned - gain).abs())
                assert (earned - gain).abs() < EXACT
                nudged = asleep.clone()
                nudged[:, j] = 1e-2 * vectors[:, j]
                again = ProbabilisticPCA(nudged, model.mean, variance).log_prob(x).mean()
                assert again > without.log_prob(x).mean()
    # the mutant: eigenvalues counted that are above the deviation
    machine = ProbabilisticPCA.fit(x, 4, 0.25).vae()
    assert machine.active_units(x, 1e-9).count != int((values > 0.25**0.5).sum())


def linear_bound(model, V, log_variance, x):
    """The average ELBO of a linear machine with μ(x) = V (x − mean) in closed form, from the covariance."""
    S, W, s2, v = covariance_of(x), model.W, model.variance, log_variance.exp()
    rest = torch.eye(5).double() - W @ V
    kl = 0.5 * ((V @ S @ V.T).diagonal() + v - 1 - log_variance).sum()
    error = (rest @ S @ rest.T).trace() + (W * v @ W.T).trace()
    return -kl - error / (2 * s2) - 2.5 * math.log(2 * math.pi * s2)


@pytest.mark.equation("eq-vae-ppca-elbo", how="closed form")
def test_the_average_bound_of_a_linear_machine(generator, largest_error, monkeypatch):
    x = spectrum_data(generator)
    values = torch.linalg.eigvalsh(covariance_of(x)).flip(0)
    # at the maximum: of the eigenvalues alone
    for variance in (3.0, 0.5):
        fitted = ProbabilisticPCA.fit(x, 2, variance)
        best = exact_elbo(fitted.vae(), x, monkeypatch).value.mean()
        active = values[:2][values[:2] > variance]
        others = values[len(active):]
        closed = -0.5 * (5 * LOG_TWO_PI + (1 + active.log()).sum()
                         + (others / variance + math.log(variance)).sum())
        largest_error((best - closed).abs())
        assert len(active) == (1 if variance == 3 else 2)
        assert (best - closed).abs() < EXACT and (best - fitted.log_prob(x).mean()).abs() < EXACT
    # anywhere: of the covariance
    for scale in (0.0, 0.1, 1.0):
        machine = fitted.rotated(rotation(0.4)).vae()
        with torch.no_grad():
            machine.encoder.weight[:2] += scale * randn(generator, 2, 5)
            machine.encoder.bias[:2] = -machine.encoder.weight[:2] @ fitted.mean
            machine.encoder.bias[2:] += scale * randn(generator, 2)
        found = exact_elbo(machine, x - x.mean(0) + fitted.mean, monkeypatch).value.mean()
        exact = linear_bound(fitted.rotated(rotation(0.4)), machine.encoder.weight[:2],
                             machine.encoder.bias[2:], x)
        largest_error((found - exact).abs())
        assert (found - exact).abs() < EXACT and found < best - 1e-3
    assert (closed + 0.5 * math.log(0.5) - best).abs() > 0.1            # the mutant: a unit too many


def test_a_linear_machine_climbs_to_probabilistic_pca(generator, monkeypatch):
    """There is no other maximum: from a random start the bound comes to the exact likelihood's maximum."""
    x = spectrum_data(generator, count=200)
    fitted = ProbabilisticPCA.fit(x, 2)
    start = ProbabilisticPCA(0.3 * randn(generator, 5, 2), x.mean(0), 1.0)
    machine = start.vae()
    optimizer = torch.optim.LBFGS(machine.parameters(), max_iter=400, line_search_fn="strong_wolfe",
                                  tolerance_change=1e-12)

    def closure():
        optimizer.zero_grad()
        loss = -exact_elbo(machine, x, monkeypatch).value.mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert -closure().item() == pytest.approx(fitted.log_prob(x).mean().item(), abs=1e-5)
    assert machine.observation.variance.item() == pytest.approx(fitted.variance, rel=1e-2)
    gram = machine.decoder.weight.T @ machine.decoder.weight
    assert abs(gram[0, 1]) < 0.02 * gram.diagonal().min()        # and its axes are the principal ones


def test_a_fitted_machine_leaves_the_readers_random_numbers_alone(generator):
    x, state = spectrum_data(generator), torch.get_rng_state()
    model = ProbabilisticPCA.fit(x.float(), 2)
    machine = model.vae()
    assert torch.equal(torch.get_rng_state(), state)
    assert {value.dtype for value in machine.parameters()} == {torch.float32}
    exact = ProbabilisticPCA.fit(x, 2).log_prob(x)
    assert (model.log_prob(x.float()) - exact).abs().max() < 1e-3
    assert (machine.importance_bound(x.float(), 3, generator).log_prob - exact).abs().max() < 1e-3
    assert all(value.requires_grad for value in machine.parameters())


def test_units_that_move_are_active(generator):
    model, x = tiny(latent=3), binary(5)
    model.encoder[-1].weight[1].zero_()
    model.encoder[-1].weight[2].mul_(1e-3)
    found = model.active_units(x)
    exact = model.encode(x).mean.var(0)
    assert (found.variances - exact).abs().max() < EXACT and found.active.tolist() == [True, False, False]
    assert found.count == 1 and model.active_units(x, threshold=0.0).count == 2
    assert found.variances[1] == 0 and model.active_units(x, threshold=float(exact[0]) * 1.01).count == 0
    assert (model.kl_by_unit(x) - model.encode(x).kl().mean(0)).abs().max() < EXACT
    assert model.kl_by_unit(x).shape == (3,)


# --- samples, reconstructions, paths ------------------------------------------------------------------------


def test_samples_are_means_of_the_pixels(generator):
    model = tiny()
    log_joint, _, log_cell = brute(model, binary(5))
    law = (log_joint.logsumexp(0) + log_cell).exp()
    found = model.sample(40_000, generator)
    assert found.shape == (40_000, 5) and found.min() > 0 and found.max() < 1
    error = found.std(0) / 200
    assert ((found.mean(0) - law @ binary(5)) / error).abs().max() < 4
    pictures = torch.bernoulli(found, generator=generator)
    counts = torch.bincount((pictures @ 2.0 ** torch.arange(4, -1, -1).double()).long(), minlength=32)
    assert stats.chisquare(counts.numpy(), (law / law.sum() * 40_000).numpy()).pvalue > 1e-4
    again = [model.sample(3, torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*again) and model.sample(1, generator).shape == (1, 5)


@pytest.mark.parametrize("prior", [mixture_prior, given_prior])
def test_samples_begin_at_the_machines_own_prior(prior, generator):
    model = tiny(prior=prior(generator).requires_grad_(False))
    z = model.prior.sample(9, torch.Generator().manual_seed(1))
    found = model.sample(9, torch.Generator().manual_seed(1))
    assert (found - model.decoder(z).sigmoid()).abs().max() < EXACT and z.shape == (9, 2)
    assert (found - model.decoder(z * 0).sigmoid()).abs().max() > 0.01


def test_a_reconstruction_is_decoded_from_the_mean(generator):
    model, x = tiny(), binary(5)[:4]
    expected = model.decoder(model.encoder(x)[:, :2]).sigmoid()
    assert (model.reconstruct(x) - expected).abs().max() < EXACT
    real = tiny(observation=GaussianPixels(0.5))
    assert (real.reconstruct(x) - real.decoder(real.encoder(x)[:, :2])).abs().max() < EXACT


def test_the_encoders_first_half_is_the_mean(generator):
    model, x = tiny(), binary(5)[:4]
    q = model.encode(x)
    assert torch.equal(torch.cat([q.mean, q.log_variance], 1), model.encoder(x))


def test_any_number_of_axes_is_decoded(generator):
    model = tiny()
    z = randn(generator, 3, 4, 2)
    found = model.decode(z)
    assert found.shape == (3, 4, 5) and (found[2, 1] - model.decoder(z[2, 1])).abs().max() < EXACT
    assert model.decode(z[0]).shape == (4, 5) and model.decode(z[0, 0]).shape == (5,)
    assert model.decode(z[None]).shape == (1, 3, 4, 5)
    networks_of_images = networks.convolutional_encoder(6, side=8), networks.convolutional_decoder(3, side=8)
    images = VAE(*networks_of_images, latent=3)
    assert images.decode(torch.zeros(2, 5, 3)).shape == (2, 5, 64)


def test_paths(generator):
    a = randn(generator, 6)
    b = 3 * randn(generator, 6) - 3 * a                                     # more than a right angle away
    line, arc = straight(a, b, 9), spherical(a, b, 9)
    for path in (line, arc):
        assert path.shape == (9, 6) and (path[[0, -1]] - torch.stack([a, b])).abs().max() < EXACT
    assert (line.diff(dim=0) - (b - a) / 8).abs().max() < EXACT
    lengths = arc.norm(dim=1)
    assert (lengths - torch.linspace(float(a.norm()), float(b.norm()), 9)).abs().max() < 1e-6
    directions = arc / lengths[:, None]
    steps = (directions[1:] * directions[:-1]).sum(1).clamp(-1, 1).arccos()
    assert (steps - steps[0]).abs().max() < 1e-7 and line.norm(dim=1).min() < lengths.min()
    whole = (a @ b / a.norm() / b.norm()).arccos()
    assert (steps.sum() - whole).abs() < 1e-6
    basis = torch.linalg.qr(torch.stack([a, b], 1))[0]
    assert (arc - arc @ basis @ basis.T).abs().max() < EXACT                    # in the plane of both
    assert (spherical(a, 2 * a, 3)[1] - 1.5 * a).abs().max() < EXACT
    assert spherical(a.float(), b.float(), 4).dtype == torch.float32
    near = spherical(a, a + 1e-5 * b, 5)
    assert (near - straight(a, a + 1e-5 * b, 5)).abs().max() < 1e-8


# --- learning -----------------------------------------------------------------------------------------------

DATA = torch.rand(60, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64).square()


def small(seed=1, latent=2, dtype=torch.float64, **parts):
    """A machine that can be trained, of 2 × 3 pixels."""
    with seeded(seed):
        made = VAE(fully_connected([6, 8, 2 * latent], nn.Tanh), fully_connected([latent, 8, 6], nn.Tanh),
                   latent=latent, **parts)
    return made.to(dtype)


def learner_of(machine, objective=Objective(), rate=0.1, **options):
    return VariationalLearner(machine, torch.optim.SGD(machine.parameters(), rate), objective, **options)


def context_of(seed=5, rows=None, step=1):
    context = training.make_context(None, seed, "cpu", None)
    context.step, context.rows = step, rows
    return context


def step_of(learner, batch, seed=5, rows=None, step=1):
    """The metrics of one step, and the direction that it went down, as the optimizer's rate says."""
    before = [value.detach().clone() for value in learner.vae.parameters()]
    metrics = learner.training_step(batch, context_of(seed, rows, step))
    rate = learner.optimizers["optimizer"].param_groups[0]["lr"]
    return metrics, [(old - new.detach()) / rate for old, new in zip(before, learner.vae.parameters())]


def plain_loss(machine, batch, seed=5, samples=1, beta=1.0, free_bits=0.0, binarized=True, prior=None):
    """The loss from PyTorch's distributions with the same random numbers: sums over pixels and units, and
    a mean over images.
    """
    generator = context_of(seed).generator
    x = batch
    if binarized:
        x = (torch.rand(batch.shape, generator=generator, dtype=batch.dtype) < batch).to(batch.dtype)
    mean, log_variance = machine.encoder(x).chunk(2, 1)
    shape = mean.shape if samples == 1 else (samples, *mean.shape)
    z = mean + (log_variance / 2).exp() * torch.randn(shape, generator=generator, dtype=mean.dtype)
    output = machine.decoder(z.reshape(-1, 2)).view(*shape[:-1], 6)
    law = Bernoulli(logits=output) if binarized else Normal(output, machine.observation.variance.sqrt())
    reconstruction = law.log_prob(x).sum(-1)
    reconstruction = reconstruction.mean()
    kl = kl_divergence(Normal(mean, (log_variance / 2).exp()), prior or Normal(0.0, 1.0)).mean(0)
    return beta * kl.clamp(min=free_bits).sum() - reconstruction, reconstruction, kl.sum()


def largest(first, second):
    return max(float((one - two).detach().abs().max()) for one, two in zip(first, second))


def gradient(loss, machine):
    return torch.autograd.grad(loss, list(machine.parameters()), allow_unused=True)


@pytest.mark.parametrize("options", [
    {}, {"samples": 3}, {"beta": 4.0}, {"free_bits": 0.2}, {"beta": 0.5, "free_bits": 0.1, "samples": 2},
])
def test_a_step_goes_down_the_mean_over_images_of_sums_over_pixels(options):
    machine = small()
    loss, reconstruction, kl = plain_loss(machine, DATA[:9], **options)
    exact = gradient(loss, machine)
    metrics, taken = step_of(learner_of(machine, Objective(**options)), DATA[:9])
    assert {"loss", "reconstruction", "kl", "largest_variance"} <= set(metrics)
    for name, value in (("loss", loss), ("reconstruction", reconstruction), ("kl", kl)):
        assert (metrics[name] - value).abs() < EXACT and not metrics[name].dim(), name
    assert largest(taken, exact) < 1e-9
    # the mutants: a mean over pixels, β elsewhere, another number of draws, no free bits
    for wrong in (loss + reconstruction * 5 / 6, -options.get("beta", 1.0) * reconstruction + kl + 0.1,
                  plain_loss(small(), DATA[:9], samples=5)[0], 9 * loss):
        assert (metrics["loss"] - wrong).abs() > 1e-3


def test_real_pixels_are_not_drawn_and_their_variance_learns():
    machine = small(observation=GaussianPixels(0.5))
    loss, reconstruction, kl = plain_loss(machine, DATA[:9], binarized=False)
    exact = gradient(loss, machine)
    for learner in (learner_of(machine), learner_of(small(observation=GaussianPixels(0.5)), binarize=False)):
        metrics, taken = step_of(learner, DATA[:9])
        assert (metrics["loss"] - loss).abs() < EXACT and largest(taken, exact) < 1e-9
    variances = [p for name, p in machine.named_parameters() if name.endswith("observation.log_variance")]
    assert len(variances) == 1 and variances[0].grad.abs() > 1e-3


def test_the_weight_of_the_divergence_warms_up():
    learner = learner_of(small(), Objective(beta=2.0, warm_up=4))
    assert [learner.beta(step) for step in (1, 2, 3, 4, 5, 100)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    history = train(learner, DATA, TrainingSettings(steps=6, batch_size=10, report_every=1), device="cpu",
                    progress=False)
    rows = [{name: row[name] for name in ("loss", "reconstruction", "kl")} for row in history.rows]
    weights = [(row["loss"] + row["reconstruction"]) / row["kl"] for row in rows]
    assert weights == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0], rel=1e-9)
    assert learner_of(small(), Objective(beta=3.0)).beta(1) == 3.0


def test_free_bits_cost_nothing_and_pull_nothing():
    machine = small()
    by_unit = machine.kl_by_unit((DATA[:9] > 0.3).double())
    learner = learner_of(machine, Objective(free_bits=100.0), rate=1.0)
    metrics, taken = step_of(learner, DATA[:9])
    assert (metrics["loss"] - 200 + metrics["reconstruction"]).abs() < EXACT
    assert metrics["kl"] < 10 and by_unit.sum() < 10                # what is reported is the divergence
    fresh = small()
    exact = gradient(-plain_loss(fresh, DATA[:9])[1], fresh)
    assert largest(taken, exact) < 1e-9


@pytest.mark.equation("eq-vae-iwae-gradient", how="autograd")
def test_the_importance_weighted_step_weighs_draws_by_their_normalised_weights(generator, largest_error):
    machine = small()
    x, parameters = (DATA[:9] > 0.3).double(), list(machine.parameters())
    binary_learner = learner_of(machine, Objective(samples=4, importance=True), binarize=False)
    noise_of = context_of().generator
    log_w = machine.log_weights(x, 4, noise_of)
    weights = log_w.detach().softmax(0)
    each = [torch.autograd.grad(log_w[k, n], parameters, retain_graph=True)
            for k in range(4) for n in range(9)]
    exact = [-sum(weights[k, n] * each[9 * k + n][i] for k in range(4) for n in range(9)) / 9
             for i in range(len(parameters))]
    bound = log_mean_exp(log_w).mean().detach()
    metrics, taken = step_of(binary_learner, x)
    largest_error(largest(taken, exact))
    assert largest(taken, exact) < EXACT and (metrics["loss"] + bound).abs() < EXACT
    alike = [-sum(one[i] for one in each) / 36 for i in range(len(parameters))]
    assert largest(taken, alike) > 1e-3 and (log_w.mean() - bound).abs() > 1e-3     # the mutant


def test_pixels_are_drawn_anew_with_their_grey_as_probability(monkeypatch):
    learner, generator = learner_of(small()), torch.Generator().manual_seed(8)
    grey = torch.tensor([[0.0, 1.0, 0.5, 0.2, 0.9, 0.01]]).double()
    draws = learner.drawn(grey.expand(60_000, 6), generator)
    assert set(draws.unique().tolist()) == {0, 1} and draws.dtype == torch.float64
    assert (draws[:, 0] == 0).all() and (draws[:, 1] == 1).all()
    score = (draws.mean(0) - grey[0])[2:] / (grey[0] * (1 - grey[0]) / 60_000).sqrt()[2:]
    assert score.abs().max() < 4
    assert not torch.equal(*(learner.drawn(grey.expand(9, 6), generator) for _ in range(2)))
    binary_data = (DATA > 0.3).double()
    assert torch.equal(learner.drawn(binary_data, generator), binary_data)
    with monkeypatch.context() as patch:                # the smallest number that can be drawn is 0
        patch.setattr(torch, "rand", lambda shape, **options: torch.zeros(shape, dtype=options["dtype"]))
        assert torch.equal(learner.drawn(grey, generator), grey.ceil())
    same = learner_of(small(), binarize=False)
    assert torch.equal(same.drawn(DATA, generator), DATA)


def test_rows_choose_the_prior_in_training(generator):
    mean, log_variance = 2 * randn(generator, 60, 2), 0.5 * randn(generator, 60, 2)
    machine = small(prior=GivenPrior(mean, log_variance))
    rows = torch.tensor([44, 3, 17, 59, 20])
    own = Normal(mean[rows], (log_variance[rows] / 2).exp())
    loss, reconstruction, kl = plain_loss(machine, DATA[rows], prior=own)
    exact = gradient(loss, machine)
    metrics, taken = step_of(learner_of(machine), DATA[rows], rows=rows)
    assert (metrics["kl"] - kl).abs() < EXACT and (metrics["loss"] - loss).abs() < EXACT
    assert largest(taken, exact) < 1e-9
    by_place = Normal(mean[:5], (log_variance[:5] / 2).exp())                   # the mutant
    assert (plain_loss(small(), DATA[rows], prior=by_place)[2] - kl).abs() > 1e-3
    # the importance-weighted bound of the same examples
    machine = small(prior=GivenPrior(mean, log_variance))
    log_w = machine.log_weights((DATA > 0.3).double()[rows], 3, context_of().generator, rows)
    weighted = learner_of(machine, Objective(samples=3, importance=True), binarize=False)
    metrics, _ = step_of(weighted, (DATA > 0.3).double()[rows], rows=rows)
    assert (metrics["loss"] + log_mean_exp(log_w).mean()).abs() < EXACT
    # through the loop, whose order is not that of the data
    seen = []

    class Watched(GivenPrior):
        def of(self, rows):
            seen.append(rows.clone())
            return super().of(rows)

    watched = small(prior=Watched(mean, log_variance))
    train(learner_of(watched), DATA, TrainingSettings(epochs=1, batch_size=10), device="cpu", progress=False)
    assert sorted(torch.cat(seen).tolist()) == list(range(60)) and seen[0].tolist() != list(range(10))


def test_the_averaged_machine_follows_with_its_decay():
    machine = small()
    learner, mean = learner_of(machine, averaging=0.9), None
    for step in range(5):
        step_of(learner, DATA[:9], seed=step)
        now = [value.detach().clone() for value in machine.parameters()]
        mean = now if mean is None else [0.9 * m + 0.1 * n for m, n in zip(mean, now)]
    assert largest(learner.averaged.parameters(), mean) < EXACT
    assert largest(learner.averaged.parameters(), machine.parameters()) > 1e-4
    plain = learner_of(small())
    assert plain.averaged is plain.vae


def test_a_long_gradient_is_cut():
    machine = small()
    _, free = step_of(learner_of(small()), DATA[:9])
    _, cut = step_of(learner_of(machine, clip_norm=0.1), DATA[:9])
    norm = lambda parts: torch.cat([part.flatten() for part in parts]).norm()
    assert norm(cut).item() == pytest.approx(0.1, rel=1e-4) and norm(free) > 1
    assert largest([c * norm(free) / norm(cut) for c in cut], free) < 1e-6


def bound_of(machine, data, samples=200):
    return machine.importance_bound(data, samples, torch.Generator().manual_seed(2)).mean


TWO = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], dtype=torch.float64)


@pytest.mark.parametrize("options", [
    {}, {"dtype": torch.float32}, {"objective": Objective(samples=5, importance=True)}, {"averaging": 0.95},
    {"objective": Objective(warm_up=50, free_bits=0.05)}, {"prior": True},
])
def test_training_raises_the_likelihood(options):
    """Two pictures: the best is − log 2, and a machine that knows only the pixels' means has − 6 log 2."""
    options = dict(options)
    dtype = options.pop("dtype", torch.float64)
    prior = MixturePrior(2, 3, torch.Generator().manual_seed(1)) if options.pop("prior", False) else None
    machine, data = small(dtype=dtype, prior=prior), TWO.repeat(10, 1).to(dtype)
    before = bound_of(machine, TWO.to(dtype))
    learner = VariationalLearner(machine, torch.optim.Adam(machine.parameters(), 0.1), **options)
    history = train(learner, data, TrainingSettings(steps=150, batch_size=20, report_every=10), device="cpu",
                    progress=False)
    losses = history.column("loss")
    assert before < -4 and (losses[-1] < 0.5 * losses[0] or "objective" in options)
    assert -2 < bound_of(learner.averaged, TWO.to(dtype)) < -math.log(2) + 0.02
    assert {value.dtype for value in machine.parameters()} == {dtype}


def test_what_is_measured_on_held_out_images(generator):
    machine = small()
    learner = learner_of(machine, averaging=0.5)
    data = DATA.repeat(40, 1)                                           # 2,400: several parts
    found = evaluate(learner, data, device="cpu")
    assert set(found) == {"elbo", "reconstruction", "kl"} and evaluate(learner, data, device="cpu") == found
    assert found["elbo"] == pytest.approx(found["reconstruction"] - found["kl"], abs=1e-12)
    x = torch.bernoulli(data.repeat(10, 1), generator=generator)
    with torch.no_grad():
        exact = machine.elbo(x, generator)
    for name in ("reconstruction", "kl"):
        value = getattr(exact, name)
        assert abs(found[name] - value.mean()) < 4 * value.std() / math.sqrt(len(data))
    step_of(learner, DATA, seed=1)
    step_of(learner, DATA, seed=2)
    after = evaluate(learner, data, device="cpu")
    with torch.no_grad():
        exact = learner.averaged.elbo(x, generator)
    assert abs(after["reconstruction"] - exact.reconstruction.mean()) < 0.1
    with torch.no_grad():
        machine.decoder[-1].bias.add_(5.0)              # the machine itself is another one: nothing changes
    assert evaluate(learner, data, device="cpu") == after
    assert evaluate(learner_of(machine), data, device="cpu")["elbo"] < after["elbo"] - 1
    assert learner.evaluate(None, context_of()) == {}
    assert next(learner.averaged.parameters()) is not next(machine.parameters())


# --- runs that break, and checkpoints -----------------------------------------------------------------------

SETTINGS = TrainingSettings(epochs=4, batch_size=10, report_every=4, checkpoint_every=5, evaluate_every=7)
NUMBERS = torch.Generator().manual_seed(11)
GIVEN = torch.randn(60, 2, generator=NUMBERS, dtype=torch.float64), torch.zeros(60, 2, dtype=torch.float64)
KINDS = {
    "plain": ({}, {}),
    "warm": ({}, {"objective": Objective(samples=2, beta=1.5, warm_up=15, free_bits=0.1), "averaging": 0.9,
                  "clip_norm": 1.0}),
    "importance": ({}, {"objective": Objective(samples=3, importance=True)}),
    "real": ({"observation": "real"}, {"binarize": False}),
    "mixture": ({"prior": "mixture"}, {"averaging": 0.5}),
    "given": ({"prior": "given"}, {}),
}


class Interrupted(Exception):
    pass


def made(kind, latent=2, **changes):
    parts, options = KINDS[kind]
    parts = {name: {"real": lambda: GaussianPixels(0.5), "given": lambda: GivenPrior(*GIVEN),
                    "mixture": lambda: MixturePrior(2, 3, torch.Generator().manual_seed(4))}[value]()
             for name, value in parts.items()}
    machine = small(latent=latent, **parts)
    optimizer = torch.optim.Adam(machine.parameters(), 0.02)
    scheduler = training.cosine_schedule(optimizer, 24, 3)
    return VariationalLearner(machine, optimizer, scheduler=scheduler, **options | changes)


def run(kind, out=None, stop=None, learner=None, **options):
    learner = made(kind) if learner is None else learner

    def watch(learner, history, context):
        if stop is not None and len(history) >= stop:
            raise Interrupted

    held_out = None if kind == "given" else DATA[:20]
    history = train(learner, DATA, SETTINGS, device="cpu", seed=3, out=out, watch=watch, progress=False,
                    evaluation_data=held_out, **options)
    state = learner.optimizers["optimizer"].state_dict()["state"]
    return learner.module.state_dict(), [v for s in state.values() for v in s.values()], history


def same_bits(first, second):
    return (first[0].keys() == second[0].keys() and first[2].rows == second[2].rows
            and all(torch.equal(first[0][name], second[0][name]) for name in first[0])
            and all(map(torch.equal, first[1], second[1])))


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_run_ends_bit_for_bit_as_an_unbroken_one(kind, tmp_path):
    unbroken = run(kind, tmp_path / "unbroken")
    for stop in (2, 4, 6):
        with pytest.raises(Interrupted):
            run(kind, tmp_path / "broken", stop, resume=True)
    resumed = run(kind, tmp_path / "broken", resume=True)
    assert same_bits(unbroken, resumed)
    assert any(name.startswith("averaged") for name in resumed[0]) == bool(KINDS[kind][1].get("averaging"))
    fresh = made(kind).module.state_dict()
    assert not torch.equal(fresh["vae.encoder.0.weight"], resumed[0]["vae.encoder.0.weight"])
    if kind == "mixture":
        assert not torch.equal(fresh["vae.prior.logits"], resumed[0]["vae.prior.logits"])


def test_an_average_that_is_not_kept_is_noticed(tmp_path):
    def forgetful():
        learner = made("warm")
        for module in learner.module.averaged.modules():
            module._non_persistent_buffers_set.update(module._buffers)
        kept = learner.module.averaged
        del learner.module._modules["averaged"]
        object.__setattr__(learner.module, "averaged", kept)
        return learner

    unbroken = forgetful()
    run("warm", tmp_path / "unbroken", learner=unbroken)
    with pytest.raises(Interrupted):
        run("warm", tmp_path / "broken", 4, learner=forgetful())
    resumed = forgetful()
    run("warm", tmp_path / "broken", learner=resumed, resume=True)
    assert largest(unbroken.averaged.parameters(), resumed.averaged.parameters()) > 1e-6


@pytest.mark.parametrize("learner, words", [
    (lambda: made("plain", latent=3), r"'vae.decoder.0.weight' is \(8, 2\).* there, \(8, 3\)"),
    (lambda: made("plain", averaging=0.5), r"of other sizes: 'averaged.* is absent there"),
    (lambda: made("mixture"), r"of other sizes: 'averaged.* is absent there"),
    (lambda: made("real"), r"'vae.observation.log_variance' is absent there"),
    (lambda: learner_of(small().float()), "schedulers"),
])
def test_a_checkpoint_of_another_machine_is_refused(learner, words, tmp_path):
    run("plain", tmp_path)
    with pytest.raises(ValueError, match=words):
        run("plain", tmp_path, learner=learner(), resume=True)


# --- overflow -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype, value", [
    (torch.float32, 95.0), (torch.float64, 720.0), (torch.float32, math.nan),
])
def test_a_log_variance_that_overflows_is_refused_with_a_sentence(dtype, value, generator):
    machine, x = tiny().to(dtype), binary(5)[:4].to(dtype)
    machine.elbo(x, generator)
    machine.encoder[-1].bias[3] = value
    for call in (lambda: machine.elbo(x, generator), lambda: machine.importance_bound(x, 5, generator)):
        with pytest.raises(ValueError, match="log-variances from.*overflow or vanish.*learning rate.*clip"):
            call()


def test_a_log_variance_that_vanishes_is_either_exact_or_refused(generator):
    machine, x = tiny().float(), binary(5)[:4].float()
    machine.encoder[-1].bias[2:] = -120.0
    found = machine.importance_bound(x, 5, generator)
    assert found.log_prob.isfinite().all() and machine.elbo(x, generator).value.isfinite().all()
    machine.encoder[-1].bias[2:] = -250.0
    for call in (lambda: machine.importance_bound(x, 5, generator), lambda: machine.elbo(x, generator)):
        with pytest.raises(ValueError, match="log-variances from -2[45].* vanish"):
            call()


@pytest.mark.parametrize("objective", [Objective(), Objective(samples=3, importance=True)])
def test_training_that_overflows_says_where_to_look(objective):
    machine = small(dtype=torch.float32)
    learner = learner_of(machine, objective, rate=1e-3)
    context_steps = 4

    class Broken(VariationalLearner):
        def training_step(self, batch, context):
            if context.step == context_steps:
                with torch.no_grad():
                    self.vae.encoder[-1].bias[2] = 200.0
            return super().training_step(batch, context)

    learner.__class__ = Broken
    with pytest.raises(TrainingDiverged, match="log-variance.*lower learning rate.*clip_norm") as caught:
        train(learner, DATA.float(), TrainingSettings(steps=20, batch_size=10, report_every=10), device="cpu",
              progress=False)
    assert caught.value.step == 4 and "'largest_variance' is inf" in str(caught.value)


def test_a_learning_rate_that_is_far_too_high_is_met_the_same_way():
    machine = small(dtype=torch.float32)
    with pytest.raises(TrainingDiverged, match="learning rate"):
        train(learner_of(machine, rate=1e4), DATA.float(), TrainingSettings(steps=50, batch_size=10),
              device="cpu", progress=False)


# --- types, devices, generators -----------------------------------------------------------------------------


def test_float32_agrees_with_float64():
    double, x = tiny(), binary(5)
    single = tiny().float()
    q, p = double.encode(x), single.encode(x.float())
    z = q.sample(torch.Generator().manual_seed(1))
    for found, exact in ((p.mean, q.mean), (p.kl(), q.kl()), (p.entropy(), q.entropy()),
                         (p.log_prob(z.float()), q.log_prob(z)),
                         (single.log_joint(x.float(), z.float()), double.log_joint(x, z)),
                         (single.reconstruct(x.float()), double.reconstruct(x)),
                         (single.kl_by_unit(x.float()), double.kl_by_unit(x))):
        assert found.dtype == torch.float32 and exact.dtype == torch.float64
        assert (found - exact).abs().max() < 1e-5
    found = single.importance_bound(x.float(), 4000, torch.Generator().manual_seed(1))
    exact = double.importance_bound(x, 4000, torch.Generator().manual_seed(2))
    error = (found.standard_error.square() + exact.standard_error.square()).sqrt()
    assert ((found.log_prob - exact.log_prob) / error).abs().max() < 5
    assert single.sample(3, torch.Generator()).dtype == torch.float32
    assert double.sample(3, torch.Generator()).dtype == torch.float64


def test_bfloat16_changes_little():
    metrics = {}
    for precision in ("float32", "bfloat16"):
        machine, context = small(dtype=torch.float32), context_of()
        context.precision = precision
        metrics[precision] = learner_of(machine).training_step(DATA.float(), context)
    for name in ("loss", "reconstruction", "kl"):
        exact = metrics["float32"][name]
        assert abs(metrics["bfloat16"][name] - exact) < 0.02 * abs(exact) + 0.01


def test_what_autocast_rounds_is_not_summed_in_its_precision():
    machine, x = small(dtype=torch.float32), DATA.float().round()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        q, output = machine.encode(x), machine.decoder(torch.ones(60, 2))
        found = machine.observation.log_prob(x, output)
    assert output.dtype == torch.bfloat16 and found.dtype == torch.float32
    assert q.mean.dtype == q.log_variance.dtype == torch.float32
    assert (found - BernoulliPixels().log_prob(x, output.float())).abs().max() < 1e-6
    coarse = BernoulliPixels().log_prob(x.bfloat16(), output)                    # the mutant
    assert (coarse - found).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_machine_on_a_gpu_is_the_machine_on_the_cpu(name):
    if not {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[name]:
        pytest.skip(f"no {name} here")
    here, there, x = small(dtype=torch.float32), small(dtype=torch.float32).to(name), binary(6).float()
    z = here.encode(x).mean
    assert (there.log_joint(x.to(name), z.to(name)).cpu() - here.log_joint(x, z)).abs().max() < 1e-4
    draws = torch.Generator(name).manual_seed(1)
    found = there.importance_bound(x.to(name), 2000, draws)
    exact = here.importance_bound(x, 2000, torch.Generator().manual_seed(1))
    error = (found.standard_error.cpu().square() + exact.standard_error.square()).sqrt()
    assert ((found.log_prob.cpu() - exact.log_prob) / error).abs().max() < 5
    assert there.sample(4, draws).device.type == name
    there.surgery(x.to(name), draws)
    learner = learner_of(there, averaging=0.9)
    train(learner, x, TrainingSettings(steps=3, batch_size=16), device=name, progress=False,
          evaluation_data=x)
    assert next(learner.averaged.parameters()).device.type == name


def test_nothing_is_drawn_from_the_global_generator(generator):
    machine, x, learner = tiny(), binary(5)[:4], made("warm")
    mixture = MixturePrior(2, 3, generator)
    state = torch.get_rng_state()
    machine.elbo(x, generator, samples=2)
    machine.importance_bound(x, 3, generator)
    machine.surgery(x, generator)
    machine.sample(3, generator)
    machine.observation.sample(machine.decode(torch.zeros(3, 2).double()), generator)
    GaussianPixels().sample(torch.zeros(3, 2), generator)
    mixture.sample(4, generator)
    given_prior(generator).sample(4, generator)
    learner.training_step(DATA[:9], context_of())
    assert torch.equal(state, torch.get_rng_state())
    again = [machine.elbo(x, torch.Generator().manual_seed(2)).value for _ in range(2)]
    assert torch.equal(*again)


def test_the_classical_machine():
    with seeded(0):
        machine = vae_784()
    assert sum(value.numel() for value in machine.parameters()) == (
        784 * 400 + 400 + 400 * 40 + 40 + 20 * 400 + 400 + 400 * 784 + 784)
    assert machine.latent == 20 and isinstance(machine.prior, StandardNormal)
    assert isinstance(machine.observation, BernoulliPixels)
    x = torch.zeros(3, 784)
    assert machine.encode(x).mean.shape == (3, 20) and machine.reconstruct(x).shape == (3, 784)
    with seeded(0):
        narrow = vae_784(hidden=50, latent=2)
    assert narrow.sample(2, torch.Generator()).shape == (2, 784)


def test_pictures_need_not_be_square(generator):
    """2 × 3 pixels: what is first and what is second is never exchanged."""
    machine = small()
    pictures = DATA.view(60, 2, 3)
    learner = learner_of(machine)
    settings = TrainingSettings(steps=2, batch_size=10)
    train(learner, pictures.flatten(1), settings, device="cpu", progress=False)
    assert machine.reconstruct(pictures.flatten(1).round()).unflatten(1, (2, 3)).shape == (60, 2, 3)


# --- networks -----------------------------------------------------------------------------------------------


def test_fully_connected_layers():
    with seeded(0):
        made = fully_connected([7, 5, 4, 3], nn.Tanh)
    kinds = [type(part) for part in made]
    assert kinds == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    assert [tuple(part.weight.shape) for part in made[::2]] == [(5, 7), (4, 5), (3, 4)]
    assert made(torch.zeros(2, 7)).shape == (2, 3)
    assert [type(part) for part in fully_connected([7, 3])] == [nn.Linear]
    assert type(fully_connected([7, 5, 3])[1]) is nn.ReLU


@pytest.mark.parametrize("side, channels, blocks", [(28, (16, 32), 0), (8, (3, 5), 0), (12, (4, 6), 2)])
def test_convolutional_networks_take_and_give_flat_pixels(side, channels, blocks):
    with seeded(0):
        encoder = networks.convolutional_encoder(10, side=side, channels=channels, width=20, blocks=blocks)
        decoder = networks.convolutional_decoder(5, side=side, channels=channels, width=20, blocks=blocks)
    x = torch.rand(3, side**2, generator=torch.Generator().manual_seed(1))
    codes, output = encoder(x), decoder(torch.zeros(3, 5))
    assert codes.shape == (3, 10) and output.shape == (3, side**2)
    assert sum(isinstance(part, networks.Residual) for part in encoder) == blocks
    linear = [tuple(part.weight.shape) for part in (*encoder, *decoder) if isinstance(part, nn.Linear)]
    small = channels[1] * (side // 4) ** 2
    assert linear == [(20, small), (10, 20), (20, 5), (small, 20)]
    # every pixel is seen, and every output is moved by every latent number
    x.requires_grad_()
    (by_pixel,) = torch.autograd.grad(encoder(x).square().sum(), x)
    assert (by_pixel != 0).all()
    moved = decoder(torch.eye(5)) - output[:1]
    assert (moved.abs() > 0).all()
    assert (codes[0] - codes[1]).abs().max() > 1e-6
    one = encoder(x[:1].detach())
    assert (one - codes[:1]).abs().max() < 1e-5                     # no image knows of another


def test_a_residual_block_adds_to_what_it_is_given():
    with seeded(0):
        block = networks.Residual(4)
    x = torch.rand(2, 4, 6, 3, generator=torch.Generator().manual_seed(1))
    assert block(x).shape == x.shape and (block(x) - x).abs().max() > 0
    with torch.no_grad():
        block.change[-1].weight.zero_()
        block.change[-1].bias.zero_()
    assert torch.equal(block(x), x)


# --- bad input ----------------------------------------------------------------------------------------------

GOOD = torch.zeros(20, 5, dtype=torch.float64)


def trained(data, machine=None, **options):
    machine = tiny().requires_grad_(True) if machine is None else machine
    return train(learner_of(machine, **options), data, TrainingSettings(steps=1, batch_size=5), device="cpu",
                 progress=False)


def real():
    return tiny(observation=GaussianPixels(1.0)).requires_grad_(True)


def given_machine():
    zeros = torch.zeros(20, 2, dtype=torch.float64)
    return tiny(prior=GivenPrior(zeros, zeros)).requires_grad_(True)


@pytest.mark.parametrize("call, words", [
    (lambda g: tiny().elbo(GOOD + 0.3, g), r"0 or 1, but others came \(from 0.3 to 0.3\): draw them"),
    (lambda g: tiny().elbo(2 * GOOD - 1, g), "0 or 1, but others"),
    (lambda g: tiny().elbo(GOOD * math.nan, g), "nan or inf among the pixels: remove"),
    (lambda g: tiny().elbo(GOOD[:0], g), r"shape \(0, 5\) came"),
    (lambda g: tiny().elbo(GOOD.view(20, 1, 5), g), r"\(20, 1, 5\) came: flatten them"),
    (lambda g: tiny().elbo(GOOD[0], g), r"\(5,\) came"),
    (lambda g: tiny().elbo(GOOD[:, :3], g), r"\(20, 3\)"),
    (lambda g: tiny().elbo(GOOD.float(), g), "does not take torch.float32 images.*dtype"),
    (lambda g: tiny().elbo(GOOD.long(), g), "floating-point.*torch.int64"),
    (lambda g: tiny().elbo(GOOD, g, samples=0), "at least one draw.*samples=0"),
    (lambda g: tiny().importance_bound(GOOD + 0.3, 5, g), "0 or 1, but others"),
    (lambda g: tiny().importance_bound(GOOD[:, :3], 5, g), r"\(20, 3\)"),
    (lambda g: tiny().importance_bound(GOOD, 0, g), "0 and 50 came"),
    (lambda g: tiny().importance_bound(GOOD, 5, g, chunk=0), "5 and 0 came"),
    (lambda g: real().elbo(GOOD * math.inf, g), "nan or inf among the pixels"),
    (lambda g: given_machine().elbo(GOOD, g), "prior of its own here: give rows"),
    (lambda g: given_machine().importance_bound(GOOD, 5, g), "give rows"),
    (lambda g: given_machine().importance_bound(GOOD, 5, g, rows=torch.arange(15)), r"rows"),
    (lambda g: given_machine().elbo(GOOD, g, rows=torch.arange(1)), r"rows"),
    (lambda g: given_machine().elbo(GOOD, g, rows=torch.arange(1, 21)), r"rows|examples"),
    (lambda g: given_machine().elbo(GOOD, g, rows=torch.arange(20) - 1), r"rows|examples"),
    (lambda g: given_machine().elbo(GOOD, g, rows=torch.zeros(20)), r"rows"),
    (lambda g: tiny(prior=MixturePrior(2, 3, g)).kl_by_unit(GOOD), "MixturePrior has no closed form.*elbo"),
    (lambda g: tiny().decode(torch.zeros(4, 3)), r"shape \(..., 2\) are decoded, but \(4, 3\) came"),
    (lambda g: VAE(nn.Linear(5, 3), nn.Linear(2, 5), latent=2).encode(torch.zeros(4, 5)),
     "gives 3 numbers an image, but 2 latent units need 4"),
    (lambda g: VAE(nn.Linear(5, 4), nn.Linear(2, 1), latent=2).elbo(torch.zeros(4, 5), g),
     "decoder gives 1 pixels, but the images have 5"),
    (lambda g: VAE(nn.Linear(1, 4), nn.Linear(2, 5), latent=2, observation=GaussianPixels()).elbo(
        torch.zeros(4, 1), g), "decoder gives 5 pixels, but the images have 1"),
    (lambda g: ProbabilisticPCA(torch.ones(3, 1), torch.ones(3), 0.0), "variance above 0, but 0.0 came"),
    (lambda g: VAE(nn.Linear(5, 4), nn.Linear(2, 5)), "needs a prior, or the number of its latent units"),
    (lambda g: VAE(nn.Linear(5, 4), nn.Linear(2, 5), latent=0), "latent=0 came"),
    (lambda g: VAE(nn.Linear(5, 4), nn.Linear(2, 5), StandardNormal(3), latent=2), "prior has 3 latent"),
    (lambda g: MixturePrior(2, 0, g), "at least one component, but 0 came"),
    (lambda g: GivenPrior(torch.zeros(4, 2), torch.zeros(4, 3)), r"\(4, 2\) and \(4, 3\) came"),
    (lambda g: GivenPrior(torch.zeros(4), torch.zeros(4)), r"\(4,\) and \(4,\) came"),
    (lambda g: GaussianPixels(0.0), "above 0, but 0.0 came"),
    (lambda g: GaussianPixels(-1.0), "above 0, but -1.0 came"),
    (lambda g: GaussianPixels(math.nan), "above 0, but nan came"),
    (lambda g: spherical(torch.zeros(3), torch.ones(3), 4), "origin has no direction"),
    (lambda g: spherical(torch.ones(3).double(), -torch.ones(3).double(), 4), "opposite directions"),
    (lambda g: ProbabilisticPCA.fit(GOOD, 0), "1 to 4 latent units can be fitted; 0 came"),
    (lambda g: ProbabilisticPCA.fit(GOOD, 5), "1 to 4 latent units can be fitted; 5 came"),
    (lambda g: ProbabilisticPCA.fit(GOOD, 2), "variance"),
    (lambda g: Objective(samples=0), "samples is at least 1"),
    (lambda g: Objective(beta=-1.0), "not negative"),
    (lambda g: Objective(warm_up=-1), "not negative"),
    (lambda g: Objective(free_bits=-0.1), "not negative"),
    (lambda g: Objective(samples=5, importance=True, beta=2.0), "no KL to weight"),
    (lambda g: Objective(samples=5, importance=True, warm_up=2), "no KL to weight"),
    (lambda g: Objective(samples=5, importance=True, free_bits=0.1), "no KL to weight"),
    (lambda g: learner_of(tiny(), averaging=1.0), r"in \[0, 1\), but 1.0 came"),
    (lambda g: trained(GOOD, tiny(prior=MixturePrior(2, 3, g)), objective=Objective(free_bits=0.1)),
     "Free bits need a KL for each unit, which a MixturePrior"),
    (lambda g: trained(GOOD[:15], given_machine()), "20"),
    (lambda g: trained(GOOD.repeat(2, 1), given_machine()), "20"),
    (lambda g: tiny().active_units(GOOD[:1]), "two images or more, but 1 came"),
    (lambda g: given_machine().kl_by_unit(GOOD, torch.arange(1)), "rows"),
    (lambda g: given_machine().surgery(GOOD, g, torch.arange(20) - 1), "rows"),
    (lambda g: trained(GOOD + 1.5), r"lie in \[0, 1\], but their range is 1.5 to 1.5"),
    (lambda g: trained(GOOD - 0.1), r"lie in \[0, 1\]"),
    (lambda g: trained(GOOD * math.nan), "nan or inf in the data: remove or replace"),
    (lambda g: trained(GOOD[:0]), "first dimension, at least 1"),
    (lambda g: trained(GOOD.view(20, 1, 5)), "flatten them"),
    (lambda g: trained(GOOD[:, :3]), r"images of shape \(5, 3\).*\(5x3 and 5x6\)"),
    (lambda g: trained(GOOD.float()), "does not take torch.float32 images.*dtype"),
    (lambda g: trained(GOOD.long()), "floating-point.*torch.int64"),
    (lambda g: trained(GOOD.bool()), "floating-point.*torch.bool"),
    (lambda g: trained((255 * torch.ones(20, 5)).byte()), "torch.uint8|0 to 255"),
    (lambda g: trained({"images": GOOD}), "learns from one tensor of images"),
    (lambda g: trained(None), "learns from one tensor of images"),
    (lambda g: trained(GOOD + 0.3, binarize=False), "0 or 1, but others"),
    (lambda g: evaluate(learner_of(tiny()), GOOD + 1.5, device="cpu"), r"lie in \[0, 1\]"),
    (lambda g: evaluate(learner_of(tiny()), {"images": GOOD}, device="cpu"), "one tensor of images"),
    (lambda g: evaluate(learner_of(tiny()), GOOD[:, :3], device="cpu"), r"\(20, 3\)"),
    (lambda g: fully_connected([5]), r"two or more widths.*\[5\] came"),
    (lambda g: fully_connected([5, 0, 3]), r"at least 1, but \[5, 0, 3\] came"),
    (lambda g: networks.convolutional_encoder(4, side=30), "multiple of 4, but 30 came"),
    (lambda g: networks.convolutional_decoder(4, side=0), "multiple of 4, but 0 came"),
])
def test_bad_input_gets_one_sentence(call, words, generator):
    with pytest.raises(ValueError, match=words):
        call(generator)


def test_data_that_are_good_pass():
    trained(GOOD + 0.3)
    trained(100 * GOOD + 7, real())
    trained(GOOD + 1, binarize=False)
    trained(GOOD, given_machine())
    assert set(vae.__all__) >= {"VAE", "Gaussian", "VariationalLearner", "ProbabilisticPCA", "Objective"}


@pytest.mark.parametrize("value", [2.0, -1.0, 0.5, 1 + 1e-15, 1e-300, math.nan, math.inf, -math.inf])
def test_one_wrong_value_among_many_is_found(value, generator):
    model, learner = tiny(), learner_of(tiny())
    model.check(binary(5))
    learner.check(binary(5))
    for row, pixel in ((0, 0), (31, 4), (17, 2)):
        wrong = binary(5)
        wrong[row, pixel] = value
        with pytest.raises(ValueError, match="0 or 1, but others|nan or inf"):
            model.check(wrong)
        if not 0 <= value <= 1:
            with pytest.raises(ValueError, match=r"lie in \[0, 1\]|nan or inf"):
                learner.check(wrong)
    learner.check(0.3 * binary(5))
