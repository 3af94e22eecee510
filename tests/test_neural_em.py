"""Chapter 8: every numbered equation of Neural EM computed in two ways, with mutants that must be caught.

The models' own steps are compared with brute force over all assignments of pixels to slots, with autograd of
the quantity that they claim to climb, and with classical EM where the M-step is known in closed form.
"""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nemlib import neural_em as nem
from nemlib.data.shapes import draw_shapes
from nemlib.evaluate import clustering
from nemlib.neural_em import RNNEM, BernoulliMixture, Grouping, NeuralEM
from nemlib.training import TrainingSettings, seeded, train

EXACT = 1e-12
SLOTS, PIXELS = 3, 4


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(20171204)


def rand(generator, *shape):
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def randn(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def binary(generator, *shape):
    return (rand(generator, *shape) < 0.4).double()


def mixture(generator, slots=SLOTS, pixels=PIXELS):
    return BernoulliMixture(rand(generator, slots).softmax(0), 0.1 + 0.8 * rand(generator, slots, pixels))


def rnnem(height=3, width=5, hidden=6, seed=1, **options):
    with seeded(seed):
        return RNNEM(height, width, hidden, **options).double()


def n_em(height=3, width=5, hidden=6, seed=1, **options):
    with seeded(seed):
        return NeuralEM(height, width, hidden, **options).double()


# --- EM for mixtures ----------------------------------------------------------------------------------------


def bound_minus_evidence(log_joint, q):
    return nem.lower_bound(log_joint, q) - torch.logsumexp(log_joint, 1)


def divergence(q, p):
    return torch.xlogy(q, q / p).sum(1)


@pytest.mark.equation("eq-nem-bound", how="enumeration")
def test_the_bound_lies_below_the_evidence_for_every_q(generator, largest_error):
    log_joint = randn(generator, 500, 4)
    q = randn(generator, 500, 4).softmax(1)
    excess = bound_minus_evidence(log_joint, q)
    by_hand = sum(q[:, k] * (log_joint[:, k] - q[:, k].log()) for k in range(4))
    error = (nem.lower_bound(log_joint, q) - by_hand).abs().max()
    largest_error(error)
    assert error < EXACT and (excess < 0).all()


@pytest.mark.equation("eq-nem-gap", how="enumeration")
def test_the_gap_is_the_divergence_from_the_posterior(generator, largest_error):
    log_joint, q = randn(generator, 500, 4), randn(generator, 500, 4).softmax(1)
    posterior = log_joint.softmax(1)
    error = (bound_minus_evidence(log_joint, q) + divergence(q, posterior)).abs().max()
    largest_error(error)
    assert error < EXACT
    mutant = (bound_minus_evidence(log_joint, q) + divergence(posterior, q)).abs().max()
    assert mutant > 0.1                                     # the divergence the other way round


@pytest.mark.equation("eq-nem-e-step", how="enumeration")
def test_the_best_q_is_the_posterior(generator, largest_error):
    law = mixture(generator)
    states = torch.tensor(list(itertools.product((0.0, 1.0), repeat=PIXELS)), dtype=torch.float64)
    gamma = law.responsibilities(states)
    joint = torch.stack([law.weights[k] * torch.prod(torch.where(states == 1, law.means[k], 1 - law.means[k]), 1)
                         for k in range(SLOTS)], 1)
    error = (gamma - joint / joint.sum(1, keepdim=True)).abs().max()
    touching = bound_minus_evidence(joint.log(), gamma).abs().max()
    largest_error(max(error, touching))
    assert error < EXACT and touching < EXACT
    moved = (gamma + 0.05 * (gamma.roll(1, 1) - gamma))
    assert (nem.lower_bound(joint.log(), moved) < nem.lower_bound(joint.log(), gamma)).all()


def climb(generator, m_step):
    """The log-likelihood over 40 iterations of EM with that M-step, (41,)."""
    x = binary(generator, 60, 8)
    law, found = mixture(generator, 3, 8), []
    for _ in range(41):
        found.append(law.log_prob(x).sum())
        law = m_step(law, x, law.responsibilities(x))
    return torch.stack(found)


def falls(values):
    """The largest fall from one iteration to the next, relative to the value."""
    return ((values[:-1] - values[1:]) / values[:-1].abs()).clamp(min=0).max().item()


@pytest.mark.equation("eq-nem-monotone", how="closed form")
def test_the_likelihood_never_falls_and_passes_the_bound(generator, largest_error):
    x, law = binary(generator, 60, 8), mixture(generator, 3, 8)
    worst = 0.0
    for _ in range(30):
        gamma = law.responsibilities(x)
        new = law.m_step(x, gamma)
        before, after = law.log_prob(x).sum(), new.log_prob(x).sum()
        old_bound = nem.lower_bound(law.log_joint(x), gamma).sum()
        new_bound = nem.lower_bound(new.log_joint(x), gamma).sum()
        chain = torch.stack([after - new_bound, new_bound - old_bound])
        worst = max(worst, -chain.min().item(), (old_bound - before).abs().item())
        law = new
    largest_error(worst / before.abs())
    assert worst < 1e-9 * before.abs()
    assert falls(climb(generator, lambda law, x, gamma: law.m_step(x, gamma))) < 1e-9


@pytest.mark.parametrize("mutant", [
    lambda law, x, gamma: law.m_step(x, gamma.roll(1, 0)),                            # another datum's γ
    lambda law, x, gamma: BernoulliMixture(gamma.mean(0), gamma.T @ x / len(x)),      # over N, not over Σγ
    lambda law, x, gamma: replace(law.m_step(x, gamma), means=1 - law.m_step(x, gamma).means),
])
def test_a_wrong_m_step_lets_the_likelihood_fall(generator, mutant):
    assert falls(climb(generator, mutant)) > 1e-6


@pytest.mark.equation("eq-nem-bernoulli-e-step", how="enumeration")
def test_the_responsibilities_of_a_bernoulli_mixture(generator, largest_error):
    law, x = mixture(generator, 4, 7), binary(generator, 50, 7)
    logs = law.weights.log() + x @ law.means.log().T + (1 - x) @ (1 - law.means).log().T
    error = (law.responsibilities(x) - logs.softmax(1)).abs().max()
    largest_error(error)
    assert error < EXACT
    assert ((x @ law.means.log().T).softmax(1) - logs.softmax(1)).abs().max() > 0.1      # the ink only


def test_the_law_of_a_bernoulli_mixture_sums_to_one(generator):
    states = torch.tensor(list(itertools.product((0.0, 1.0), repeat=5)), dtype=torch.float64)
    assert abs(mixture(generator, 3, 5).log_prob(states).exp().sum() - 1) < EXACT


def complete(x, gamma, weights, means):
    return (gamma * BernoulliMixture(weights, means).log_joint(x)).sum()


@pytest.mark.equation("eq-nem-bernoulli-m-step", how="autograd")
def test_the_m_step_is_where_the_gradient_vanishes(generator, largest_error):
    x, gamma = binary(generator, 40, 6), randn(generator, 40, 3).softmax(1)
    best = mixture(generator, 3, 6).m_step(x, gamma)
    logits = torch.logit(best.means).requires_grad_()
    scores = best.weights.log().requires_grad_()
    gradient = torch.autograd.grad(complete(x, gamma, scores.softmax(0), logits.sigmoid()), [logits, scores])
    error = max(part.abs().max().item() for part in gradient)
    largest_error(error)
    assert error < 1e-11
    top = complete(x, gamma, best.weights, best.means)
    for _ in range(50):
        weights = (best.weights.log() + 0.1 * randn(generator, 3)).softmax(0)
        means = (torch.logit(best.means) + 0.1 * randn(generator, 3, 6)).sigmoid()
        assert complete(x, gamma, weights, means) < top


def test_a_component_without_data_keeps_its_mean_and_certain_pixels_stay_finite():
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    law = BernoulliMixture(torch.tensor([0.5, 0.5], dtype=torch.float64), torch.tensor([[0.2, 0.2], [0.7, 0.3]]).double())
    new = law.m_step(x, torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64))
    assert new.means.tolist() == [[1.0, 0.0], [pytest.approx(0.7), pytest.approx(0.3)]]
    assert abs(new.log_prob(x)).max() < EXACT and new.responsibilities(1 - x).isfinite().all()


def test_means_that_round_above_one_stay_probabilities(generator):
    x, gamma = torch.ones(80, 3, dtype=torch.float64), randn(generator, 80, 10).softmax(1)
    law = mixture(generator, 10, 3)
    for _ in range(20):
        law = law.m_step(x, gamma.roll(1, 1))
        assert law.means.max() <= 1 and law.log_prob(1 - x).isfinite().all()


def test_em_from_a_symmetric_start_stays_there(generator):
    x = binary(generator, 60, 8)
    same = BernoulliMixture(torch.full((3,), 1 / 3).double(), rand(generator, 1, 8).expand(3, 8))
    law, likelihood = nem.bernoulli_mixture_em(x, 3, 20, generator, start=same)
    assert (law.means - x.mean(0)).abs().max() < EXACT and (likelihood[2:] - likelihood[1]).abs().max() < 1e-9
    _, free = nem.bernoulli_mixture_em(x, 3, 20, generator)
    assert free[-1] > likelihood[-1] + 1


def test_em_finds_the_mixture_that_drew_the_data(generator):
    means = torch.tensor([[0.9] * 6 + [0.1] * 6, [0.1] * 6 + [0.9] * 6], dtype=torch.float64)
    which = (rand(generator, 4000) < 0.3).long()
    x = (rand(generator, 4000, 12) < means[which]).double()
    law, _ = nem.bernoulli_mixture_em(x, 2, 50, generator)
    order = law.weights.argsort(descending=True)
    assert (law.means[order] - means).abs().max() < 0.04 and abs(law.weights.max() - 0.7) < 0.03


# --- the spatial mixture ------------------------------------------------------------------------------------


def brute_force_gamma(x, psi, weights):
    """P(z_i = k | x) from the joint law of x and all K^D assignments. x: (D,); psi: (K, D); → (K, D)."""
    slots, pixels = psi.shape
    total = torch.zeros(slots, pixels, dtype=torch.float64)
    for z in itertools.product(range(slots), repeat=pixels):
        joint = 1.0
        for i, k in enumerate(z):
            joint = joint * weights[k] * (psi[k, i] if x[i] == 1 else 1 - psi[k, i])
        for i, k in enumerate(z):
            total[k, i] += joint
    return total / total.sum(0)


@pytest.mark.equation("eq-nem-responsibility", how="enumeration")
def test_gamma_is_the_posterior_over_all_assignments(generator, largest_error):
    x, logits = binary(generator, 1, PIXELS), randn(generator, 1, SLOTS, PIXELS)
    exact = brute_force_gamma(x[0], logits[0].sigmoid(), [1 / SLOTS] * SLOTS)
    gamma = nem.e_step(nem.bernoulli_log_likelihood(x[:, None], logits))
    error = (gamma[0] - exact).abs().max()
    largest_error(error)
    assert error < EXACT and (gamma.sum(1) - 1).abs().max() < EXACT
    assert (nem.bernoulli_log_likelihood(x[:, None], logits).softmax(2)[0] - exact).abs().max() > 0.1  # over pixels
    assert (logits.sigmoid().div(logits.sigmoid().sum(1, keepdim=True))[0] - exact).abs().max() > 0.1  # ψ itself


def test_unequal_weights_and_the_floor(generator):
    x, logits = binary(generator, 1, PIXELS), randn(generator, 1, SLOTS, PIXELS)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    likelihood = nem.bernoulli_log_likelihood(x[:, None], logits)
    exact = brute_force_gamma(x[0], logits[0].sigmoid(), weights)
    assert (nem.e_step(likelihood, weights.log()[:, None])[0] - exact).abs().max() < EXACT
    far = torch.full((1, 2, 1), -60.0, dtype=torch.float64) - torch.tensor([0.0, 5.0])[:, None]
    assert nem.e_step(far)[0, 0].item() > 0.99 and abs(nem.e_step(far, floor=1e-6)[0, 0].item() - 0.5) < 1e-9


def test_a_gaussian_pixels_gamma_is_bayes(generator):
    x, psi, sigma = rand(generator, 2, PIXELS), rand(generator, 2, SLOTS, PIXELS), 0.25
    density = torch.exp(-((x[:, None] - psi) ** 2) / (2 * sigma**2)) / math.sqrt(2 * math.pi * sigma**2)
    assert (nem.gaussian_log_likelihood(x[:, None], psi, sigma).exp() - density).abs().max() < EXACT
    gamma = nem.e_step(nem.gaussian_log_likelihood(x[:, None], psi, sigma))
    assert (gamma - density / density.sum(1, keepdim=True)).abs().max() < EXACT


@pytest.mark.equation("eq-nem-pixel-em", how="closed form")
def test_classical_em_on_pixels_makes_all_slots_the_image(generator, largest_error):
    images = binary(generator, 5, 4, 3)
    start = rand(generator, 5, 3, 4, 3) + 0.05
    gammas, psis = nem.pixel_em(images, start / start.sum(1, keepdim=True), 4)
    error = max((psis - images[:, None]).abs().max(), (gammas[1:] - 1 / 3).abs().max())
    largest_error(error)
    assert error < EXACT
    labels = clustering.labels_of(gammas[-1])
    assert (labels == labels[0, 0, 0]).all()


def test_classical_em_groups_where_a_decoder_couples_the_pixels(generator):
    """The same E-step and the same closed M-step, but a slot's ψ is one number for each of two blocks."""
    blocks = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    x = torch.tensor([[1, 1, 1, 0, 0, 1, 0, 0]], dtype=torch.float64)
    gamma = rand(generator, 1, 2, 8)
    gamma = gamma / gamma.sum(1, keepdim=True)
    for _ in range(30):
        share = torch.stack([gamma[..., blocks == b].sum(-1) for b in (0, 1)], -1)
        mean = torch.stack([(gamma * x[:, None])[..., blocks == b].sum(-1) for b in (0, 1)], -1) / share
        psi = mean[..., blocks].clamp(1e-6, 1 - 1e-6)
        gamma = nem.e_step(nem.bernoulli_log_likelihood(x[:, None], torch.logit(psi)))
    assert (gamma[0, 0] - gamma[0, 1]).abs().min() > 0.02    # no pixel is shared evenly: its block has decided


# --- the generalised M-step ---------------------------------------------------------------------------------


def decoder(generator, hidden=5, pixels=6):
    first, second = randn(generator, hidden, 7), randn(generator, 7, pixels)
    return lambda theta: torch.tanh(theta @ first) @ second


def numerical_gradient(value, theta, step=1e-5):
    found = torch.zeros_like(theta)
    for index in itertools.product(*map(range, theta.shape)):
        moved = torch.zeros_like(theta)
        moved[index] = step
        found[index] = (value(theta + moved) - value(theta - moved)) / (2 * step)
    return found


@pytest.mark.equation("eq-nem-gradient", how="autograd")
def test_the_gradient_is_the_residual_times_a_jacobian(generator, largest_error):
    decode, theta = decoder(generator), randn(generator, 2, 3, 5).requires_grad_()
    gamma, x = randn(generator, 2, 3, 6).softmax(1), binary(generator, 2, 6)
    q = nem.expected_log_likelihood(gamma, nem.bernoulli_log_likelihood(x[:, None], decode(theta))).sum()
    (exact,) = torch.autograd.grad(q, theta)
    error = (nem.m_step_direction(theta, gamma, x, decode) - exact).abs().max()
    largest_error(error)
    assert error < EXACT
    assert (nem.m_step_direction(theta, torch.ones_like(gamma), x, decode) - exact).abs().max() > 0.1   # without γ
    assert (nem.m_step_direction(theta, gamma, 1 - x, decode) - exact).abs().max() > 0.1


def test_the_gradient_agrees_with_differences(generator):
    decode, theta = decoder(generator), randn(generator, 1, 2, 5)
    gamma, x = randn(generator, 1, 2, 6).softmax(1), binary(generator, 1, 6)

    def value(theta):
        psi = decode(theta).sigmoid()
        return (gamma * (x[:, None] * psi.log() + (1 - x[:, None]) * (1 - psi).log())).sum()

    assert (nem.m_step_direction(theta, gamma, x, decode) - numerical_gradient(value, theta)).abs().max() < 1e-8


@pytest.mark.equation("eq-nem-gradient-gaussian", how="autograd")
def test_the_gaussian_gradient(generator, largest_error):
    decode, theta, sigma = decoder(generator), randn(generator, 2, 3, 5).requires_grad_(), 0.3
    gamma, x = randn(generator, 2, 3, 6).softmax(1), rand(generator, 2, 6)
    q = nem.expected_log_likelihood(gamma, nem.gaussian_log_likelihood(x[:, None], decode(theta), sigma)).sum()
    (exact,) = torch.autograd.grad(q, theta)
    error = (nem.m_step_direction(theta, gamma, x, decode, sigma) - exact).abs().max()
    largest_error(error / exact.abs().max())
    assert error < 1e-11
    assert (nem.m_step_direction(theta, gamma, x, decode, 1.0) - exact).abs().max() > 0.1               # σ forgotten


def spatial_log_likelihood(x, logits):
    """log p(x) = Σ_i log (1/K) Σ_k p(x_i; ψ_ik). (batch,)"""
    return (torch.logsumexp(nem.bernoulli_log_likelihood(x[:, None], logits), 1)
            - math.log(logits.shape[1])).sum(1)


@pytest.mark.equation("eq-nem-ascent", how="autograd")
def test_a_small_gradient_step_raises_the_likelihood_by_its_squared_length(generator, largest_error):
    decode, theta, x = decoder(generator), randn(generator, 1, 3, 5), binary(generator, 1, 6)
    gamma = nem.e_step(nem.bernoulli_log_likelihood(x[:, None], decode(theta)))
    direction = nem.m_step_direction(theta, gamma, x, decode)
    before, length, ratios = spatial_log_likelihood(x, decode(theta)), direction.square().sum(), []
    for step in (1e-4, 1e-5):
        rise = (spatial_log_likelihood(x, decode(theta + step * direction)) - before).item()
        ratios.append(abs(rise / (step * length.item()) - 1))
    largest_error(ratios[-1])
    assert ratios[-1] < 1e-3 and ratios[-1] < 0.2 * ratios[0]      # what is left is of the order of the step
    down = spatial_log_likelihood(x, decode(theta - 1e-4 * direction))
    assert down < before


@pytest.mark.equation("eq-nem-tied", how="autograd")
def test_n_ems_step_is_the_gradient_through_its_own_decoder(generator, largest_error):
    model = n_em()
    theta, x = randn(generator, 2, 3, 6).requires_grad_(), binary(generator, 2, 15)
    gamma = randn(generator, 2, 3, 15).softmax(1)
    q = nem.expected_log_likelihood(gamma, nem.bernoulli_log_likelihood(x[:, None], model.decode(theta))).sum()
    (exact,) = torch.autograd.grad(q, theta)
    signal = gamma * (model.decode(theta).sigmoid() - x[:, None])
    step = model.update(theta, signal) - theta
    error = (step / model.log_step_size.exp() - exact).abs().max()
    largest_error(error)
    assert error < EXACT
    assert (-(signal @ model.decoder.weight) - exact).abs().max() > 0.01              # σ'(θ) forgotten
    assert (model.direction(theta, -signal) - exact).abs().max() > 0.01              # the other sign


def test_gaussian_n_ems_step_is_its_gradient(generator):
    model = n_em(likelihood="gaussian", sigma_e=0.4)
    theta, x = randn(generator, 2, 3, 6), rand(generator, 2, 15)
    gamma = randn(generator, 2, 3, 15).softmax(1)
    exact = nem.m_step_direction(theta, gamma, x, model.decode, 0.4)
    assert (model.direction(theta, gamma * (model.decode(theta) - x[:, None])) - exact).abs().max() < 1e-11


def test_with_an_ideal_m_step_n_em_is_classical_em(generator):
    """Data drawn from the model with known parameters: pixels in blocks, one number for each slot and block.

    The decoder a = Wθ, W the membership of pixels in blocks, has its M-step in closed form; many gradient
    steps reach it, so both EMs go through the same γ.
    """
    blocks = torch.arange(24) % 4
    membership = F.one_hot(blocks, 4).double()                                       # (pixels, blocks)
    truth = torch.tensor([[[2.0, -2, 2, -2], [-2, 2, 1, -1]]], dtype=torch.float64)
    which = (rand(generator, 1, 24) < 0.5).long()
    x = (rand(generator, 1, 24) < (truth @ membership.T).gather(1, which[:, None])[:, 0].sigmoid()).double()

    def decode(theta):
        return theta @ membership.T

    def closed(gamma):
        return torch.logit(((gamma * x[:, None]) @ membership / (gamma @ membership)).clamp(1e-9, 1 - 1e-9))

    def ideal(theta, gamma, rate=1.0):
        for _ in range(400):
            theta = theta + rate * nem.m_step_direction(theta, gamma, x, decode)
        return theta

    def run(m_step):
        theta, path = truth + 0.3 * randn(torch.Generator().manual_seed(3), 1, 2, 4), []
        for _ in range(8):
            gamma = nem.e_step(nem.bernoulli_log_likelihood(x[:, None], decode(theta)))
            theta = m_step(theta, gamma)
            path.append(spatial_log_likelihood(x, decode(theta)))
        return gamma, torch.stack(path)

    classical, gradient = run(lambda theta, gamma: closed(gamma)), run(ideal)
    assert (classical[0] - gradient[0]).abs().max() < 1e-6
    assert (classical[1] - gradient[1]).abs().max() < 1e-6 and falls(classical[1]) < 1e-9
    lazy = run(lambda theta, gamma: ideal(theta, gamma, rate=1e-3))
    assert (lazy[0] - classical[0]).abs().max() > 1e-3                               # a mutant: not ideal


# --- the loss -----------------------------------------------------------------------------------------------


def plain_losses(x, psi, gamma, prior):
    """The two terms as loops over slots and pixels write them. x: (batch, D); others (batch, K, D)."""
    reconstruction = torch.zeros(len(x), dtype=torch.float64)
    kl = torch.zeros(len(x), dtype=torch.float64)
    for n, k, i in itertools.product(*map(range, psi.shape)):
        p, g = psi[n, k, i], gamma[n, k, i]
        reconstruction[n] -= g * torch.log(p if x[n, i] == 1 else 1 - p)
        q = torch.tensor(prior, dtype=torch.float64)
        kl[n] += (1 - g) * (torch.xlogy(q, q / p) + torch.xlogy(1 - q, (1 - q) / (1 - p)))
    return reconstruction, kl


@pytest.mark.equation("eq-nem-kl", how="enumeration")
@pytest.mark.parametrize("prior", [0.0, 0.2])
def test_both_terms_of_the_loss(generator, largest_error, prior):
    x, logits = binary(generator, 3, 5), 2 * randn(generator, 3, 2, 5)
    gamma = randn(generator, 3, 2, 5).softmax(1)
    exact = plain_losses(x, logits.sigmoid(), gamma, prior)
    found = nem.bernoulli_losses(x[:, None], logits, gamma, prior)
    error = max((a - b).abs().max().item() for a, b in zip(found, exact))
    largest_error(error)
    assert error < 1e-11
    swapped = nem.bernoulli_losses(x[:, None], logits, 1 - gamma, prior)
    assert (swapped[1] - exact[1]).abs().max() > 0.1                                 # γ for 1 − γ
    if prior:
        assert (nem.bernoulli_losses(x[:, None], logits, gamma, 0.0)[1] - exact[1]).abs().max() > 0.1


@pytest.mark.equation("eq-nem-loss-logits", how="enumeration")
def test_the_loss_in_logits(generator, largest_error):
    x, logits = binary(generator, 3, 5), 2 * randn(generator, 3, 2, 5)
    gamma = randn(generator, 3, 2, 5).softmax(1)
    exact = sum(plain_losses(x, logits.sigmoid(), gamma, 0.0))
    short = (torch.log1p(logits.exp()) - x[:, None] * gamma * logits).sum((1, 2))
    error = (short - exact).abs().max()
    largest_error(error)
    assert error < 1e-11
    assert ((torch.log1p(logits.exp()) - x[:, None] * logits).sum((1, 2)) - exact).abs().max() > 0.1


def test_the_gaussian_loss(generator):
    x, psi, gamma = rand(generator, 3, 5), rand(generator, 3, 2, 5), randn(generator, 3, 2, 5).softmax(1)
    reconstruction, kl = nem.gaussian_losses(x[:, None], psi, gamma, prior=0.1, sigma=0.7)
    normal = torch.distributions.Normal(psi, 0.7)
    prior = torch.distributions.Normal(torch.tensor(0.1, dtype=torch.float64), 0.7)
    assert (reconstruction + (gamma * normal.log_prob(x[:, None])).sum((1, 2))).abs().max() < 1e-11
    divergence = torch.distributions.kl_divergence(prior.expand(psi.shape), normal)
    assert (kl - ((1 - gamma) * divergence).sum((1, 2))).abs().max() < 1e-11


@pytest.mark.equation("eq-nem-copy", how="enumeration")
def test_a_copying_slot_has_the_loss_of_a_perfect_grouping(generator, largest_error):
    images, groups = draw_shapes(4, generator)
    x = images.flatten(1).double()
    perfect, copied = groups.flatten(1).long(), torch.zeros_like(groups.flatten(1)).long()
    anyhow = torch.randint(4, perfect.shape, generator=generator)
    losses = torch.stack([nem.copying_loss(x, owners, 4, 12.0) for owners in (perfect, copied, anyhow)])
    faint = 3 * math.exp(-12.0)
    closed = 28 * 28 * 4 * math.log1p(math.exp(-12.0)) + 2 * 12.0 * faint / (1 + faint) * x.sum(1)
    error = ((losses - closed).abs().max() / closed.max()).item()
    largest_error(error)
    assert error < 1e-9
    towards_zero = [nem.copying_loss(x, copied, 4, c).max().item() for c in (4.0, 8.0, 16.0, 24.0)]
    assert all(b < 0.1 * a for a, b in zip(towards_zero, towards_zero[1:])) and towards_zero[-1] < 1e-6
    blind = x * (perfect != 1)                                # a mutant: one shape is explained by nobody
    logits = 12.0 * (2 * F.one_hot(perfect, 4).transpose(1, 2) * blind[:, None] - 1)
    gamma = nem.e_step(nem.bernoulli_log_likelihood(x[:, None], logits))
    assert (sum(nem.bernoulli_losses(x[:, None], logits, gamma)) - losses[0]).min() > 1


# --- the networks -------------------------------------------------------------------------------------------

MODELS = {
    "rnn-em": rnnem, "n-em": n_em,
    "gaussian": lambda: rnnem(likelihood="gaussian"),
    "convolutional": lambda: rnnem(
        6, 9, 4, encoder=nem.ConvolutionalEncoder(6, 9, 4, (2, 3), 8),
        decoder=nem.ConvolutionalDecoder(6, 9, 4, (2, 3), 8),
        activation=nn.Sequential(nn.LayerNorm(4), nn.Sigmoid())),
}


@pytest.fixture(params=MODELS)
def model(request):
    with seeded(2):
        return MODELS[request.param]().double()


def test_permuting_the_slots_of_the_start_permutes_every_step(model, generator):
    images = binary(generator, 3, model.height, model.width)
    start = rand(generator, 3, 4, model.height, model.width)
    start, order = start / start.sum(1, keepdim=True), torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        run = model(images, 4, 5, generator, start=start)
        permuted = model(images, 4, 5, generator, start=start[:, order])
    for name in ("gamma", "psi", "theta"):
        assert (getattr(run, name)[:, :, order] - getattr(permuted, name)).abs().max() < EXACT
    assert (run.loss - permuted.loss).abs().max() < 1e-10


class SlotZeroIsSpecial(RNNEM):
    """A mutant: one slot has a bias of its own."""

    def update(self, theta, signal):
        new = super().update(theta, signal)
        new[:, 0] = new[:, 0] + 0.1
        return new


def test_a_slot_with_a_bias_of_its_own_breaks_the_symmetry(generator):
    with seeded(1):
        mutant = SlotZeroIsSpecial(3, 5, 6).double()
    start = rand(generator, 1, 2, 3, 5)
    start = start / start.sum(1, keepdim=True)
    images = binary(generator, 1, 3, 5)
    with torch.no_grad():
        run, permuted = (mutant(images, 2, 4, start=s) for s in (start, start.flip(1)))
    assert (run.gamma.flip(2) - permuted.gamma).abs().max() > 1e-3


def test_from_a_symmetric_start_the_slots_never_differ(model, generator):
    images = binary(generator, 2, model.height, model.width)
    start = nem.uniform_gamma(2, 3, model.height, model.width, torch.float64)
    with torch.no_grad():
        run = model(images, 3, 6, generator, start=start)
    assert (run.gamma - 1 / 3).abs().max() < 1e-10 and (run.psi - run.psi[:, :, :1]).abs().max() < 1e-10


def test_shapes_and_other_numbers_of_slots_and_steps(model, generator):
    images = binary(generator, 2, model.height, model.width)
    with torch.no_grad():
        for slots, steps in ((1, 1), (3, 4), (7, 2)):
            run = model(images, slots, steps, generator, noise=0.1)
            assert run.gamma.shape == run.psi.shape == (steps + 1, 2, slots, model.height, model.width)
            assert run.theta.shape == (steps + 1, 2, slots, model.hidden)
            assert run.loss.shape == run.kl.shape == run.reconstruction.shape == run.prediction.shape == (steps, 2)
            assert (run.gamma.sum(2) - 1).abs().max() < 1e-9
            assert (run.loss - run.reconstruction - run.kl).abs().max() < 1e-9
            assert run.loss.isfinite().all()


@pytest.mark.parametrize("make", [rnnem, n_em])
def test_each_step_is_the_formula_of_the_text(make, generator):
    model, images = make(noise=0.0), binary(generator, 2, 3, 5)
    with torch.no_grad():
        run = model(images, 3, 4, generator)
        x = images.flatten(1)[:, None]
        for t in range(4):
            gamma, psi, theta = (value[t].flatten(2) for value in (run.gamma, run.psi, run.theta))
            signal = gamma * (psi - x)
            if make is rnnem:
                theta = torch.sigmoid(signal @ model.encoder.weight.T + theta @ model.recurrence.weight.T
                                      + model.recurrence.bias)
                logits = theta @ model.decoder.weight.T + model.decoder.bias
            else:
                s = theta.sigmoid()
                theta = theta - model.log_step_size.exp() * s * (1 - s) * (signal @ model.decoder.weight)
                logits = theta.sigmoid() @ model.decoder.weight.T + model.decoder.bias
            psi = logits.sigmoid()
            joint = torch.where(x == 1, psi, 1 - psi)
            assert (run.psi[t + 1].flatten(2) - psi).abs().max() < EXACT
            assert (run.gamma[t + 1].flatten(2) - joint / joint.sum(1, keepdim=True)).abs().max() < EXACT
            exact = plain_losses(images.flatten(1), psi, joint / joint.sum(1, keepdim=True), 0.0)
            assert (run.loss[t] - sum(exact)).abs().max() < 1e-11
    assert (run.psi[0] == 0).all() == (make is rnnem)


@pytest.mark.parametrize("inputs, expected", [
    ("residual", lambda g, p, x: g * (p - x)), ("difference", lambda g, p, x: p - x),
    ("masked", lambda g, p, x: g * x), ("image", lambda g, p, x: x.expand_as(g)),
])
def test_what_goes_in(inputs, expected, generator):
    gamma, psi, x = rand(generator, 2, 3, 15), rand(generator, 2, 3, 15), binary(generator, 2, 1, 15)
    state = nem.State(None, psi, gamma)
    assert (rnnem(inputs=inputs).signal(state, x) - expected(gamma, psi, x)).abs().max() == 0


def test_the_gradient_through_gamma_can_be_cut(generator):
    images = binary(generator, 4, 3, 5)
    gradients = {}
    for through in (True, False):
        model = rnnem(gradient_through_gamma=through, noise=0.0)
        loss = model.loss(images, 3, 3, torch.Generator().manual_seed(1))
        loss["loss"].backward()
        gradients[through] = (loss["loss"].item(), model.encoder.weight.grad)
    assert gradients[True][0] == gradients[False][0]
    assert (gradients[True][1] - gradients[False][1]).abs().max() > 1e-6


def test_cutting_gamma_leaves_the_gradient_through_psi(generator):
    """Some ports detach γ(ψ − x) as a whole: then nothing of a later step's loss reaches an earlier ψ."""
    model = rnnem(gradient_through_gamma=False, noise=0.0)
    state = model.begin(nem.random_gamma(1, 2, 3, 5, torch.Generator().manual_seed(2),
                                         torch.float64).flatten(2))
    x = binary(generator, 1, 15)
    first = model.step(state, x, x)
    assert not first.gamma.requires_grad
    psi = first.psi.detach().requires_grad_()
    second = model.step(replace(first, psi=psi), x, x)
    second.reconstruction.sum().backward()
    assert psi.grad.abs().max() > 1e-6


@pytest.mark.parametrize("weighting, weights", [
    ("mean", [1 / 3] * 3), ("last", [0, 0, 1]),
    (torch.tensor([0.2, 0.0, 0.8], dtype=torch.float64), [0.2, 0, 0.8])])
def test_the_loss_weighs_the_steps(weighting, weights, generator):
    model, images = rnnem(noise=0.0), binary(generator, 4, 3, 5)
    with torch.no_grad():
        run = model(images, 2, 3, torch.Generator().manual_seed(5))
        loss = model.loss(images, 2, 3, torch.Generator().manual_seed(5), weighting)
    exact = (run.loss.mean(1) * torch.tensor(weights, dtype=torch.float64)).sum()
    assert abs(loss["loss"] - exact) < 1e-9 * exact and abs(loss["loss"] - loss["kl"] - loss["reconstruction"]) < 1e-9


def test_the_second_term_has_a_weight(generator):
    with torch.no_grad():
        loss = rnnem(kl_weight=0.2).loss(binary(generator, 4, 3, 5), 2, 3, generator)
    assert abs(loss["loss"] - loss["reconstruction"] - 0.2 * loss["kl"]) < 1e-9


def test_noise_flips_binary_pixels_and_replaces_grey_ones(generator):
    x = binary(generator, 200, 15)
    flipped = (rnnem().corrupt(x, 0.2, generator) != x).double().mean()
    assert abs(flipped - 0.2) < 4 * math.sqrt(0.16 / 3000)
    grey = torch.full((200, 15), 0.5, dtype=torch.float64)
    noisy = rnnem(likelihood="gaussian").corrupt(grey, 0.2, generator)
    assert abs((noisy != grey).double().mean() - 0.2) < 4 * math.sqrt(0.16 / 3000)
    assert 0 <= noisy.min() and noisy.max() < 1 and rnnem().corrupt(x, 0.0, None) is x


def test_theta_is_noisy_for_the_decoder_in_training_only(generator):
    images, start = binary(generator, 2, 3, 5), nem.random_gamma(2, 3, 3, 5, generator, torch.float64)
    plain, noisy = rnnem(), rnnem(theta_noise=0.5)
    with torch.no_grad():
        assert torch.equal(plain(images, 3, 3, start=start).psi, noisy(images, 3, 3, start=start).psi)
        losses = [model.loss(images, 3, 3, torch.Generator().manual_seed(1))["loss"] for model in (plain, noisy)]
        flat = noisy.begin(start.flatten(2))
        seen = images.flatten(1)
        without, with_noise = (noisy.step(flat, seen, seen, jitter) for jitter in (None, torch.ones(2, 3, 6).double()))
    assert losses[0] != losses[1] and torch.equal(without.theta, with_noise.theta)
    assert (with_noise.psi - noisy.decode(without.theta + 1).sigmoid()).abs().max() < EXACT


def test_the_e_step_sees_the_clean_image(generator):
    """With a network that ignores what it sees, γ does not depend on the noise."""
    model = rnnem()
    nn.init.zeros_(model.encoder.weight)
    images = binary(generator, 2, 3, 5)
    start = rand(generator, 2, 3, 3, 5)
    start = start / start.sum(1, keepdim=True)
    with torch.no_grad():
        clean = model(images, 3, 3, generator, start=start)
        noisy = model(images, 3, 3, generator, noise=0.4, start=start)
    assert torch.equal(clean.gamma, noisy.gamma)


def test_a_sequence_is_judged_on_the_next_frame(generator):
    model, frames = rnnem(noise=0.0), binary(generator, 2, 4, 3, 5)
    start = rand(generator, 2, 3, 3, 5)
    start = start / start.sum(1, keepdim=True)
    with torch.no_grad():
        run = model(frames, 3, start=start)
        gamma, psi = start.flatten(2), torch.zeros(2, 3, 15, dtype=torch.float64)
        theta = torch.zeros(2, 3, 6, dtype=torch.float64)
        for t in range(3):
            seen, target = frames[:, t].flatten(1), frames[:, t + 1].flatten(1)
            theta = model.update(theta, gamma * (psi - seen[:, None]))
            psi = model.decode(theta).sigmoid()
            likelihood = torch.where(target[:, None] == 1, psi, 1 - psi)
            foretold = -(gamma * likelihood).sum(1).log().sum(1)
            gamma = likelihood / likelihood.sum(1, keepdim=True)
            assert (run.gamma[t + 1].flatten(2) - gamma).abs().max() < EXACT
            assert (run.prediction[t] - foretold).abs().max() < 1e-10
    assert len(run.loss) == 3


def test_a_still_sequence_is_an_image(generator):
    model, images = rnnem(), binary(generator, 2, 3, 5)
    start = rand(generator, 2, 3, 3, 5)
    start = start / start.sum(1, keepdim=True)
    with torch.no_grad():
        still = model(images[:, None].expand(-1, 5, -1, -1), 3, start=start)
        image = model(images, 3, 4, start=start)
    assert torch.equal(still.gamma, image.gamma) and torch.equal(still.loss, image.loss)


def test_the_convolutional_networks_keep_odd_and_oblong_sizes():
    for height, width in ((28, 28), (24, 24), (7, 12)):
        encoder = nem.ConvolutionalEncoder(height, width, 10, (4, 8), 16)
        decoder = nem.ConvolutionalDecoder(height, width, 10, (4, 8), 16)
        assert decoder(encoder(torch.rand(3, height * width))).shape == (3, height * width)


# --- training -----------------------------------------------------------------------------------------------


def shapes(count, seed):
    images, groups = draw_shapes(count, torch.Generator().manual_seed(seed), objects=2, height=9, width=14)
    return images.float(), groups.long()


def grouping(seed=0, **options):
    with seeded(seed):
        model = RNNEM(9, 14, 16)
    return Grouping(model, torch.optim.Adam(model.parameters(), 5e-3), slots=3, steps=4, **options)


def test_training_lowers_the_loss_and_the_evaluation_scores_the_grouping():
    (images, _), (held_out, groups) = shapes(512, 1), shapes(64, 2)
    learner = grouping(evaluation_steps=6)
    history = train(learner, images, TrainingSettings(steps=150, batch_size=32, report_every=10, evaluate_every=75),
                    evaluation_data={"images": held_out, "groups": groups}, device="cpu", progress=False)
    steps, loss = history.series("loss")
    assert loss[-1] < 0.9 * loss[0]
    row = history.rows[-1]
    assert row["evaluation_ami_max"] <= row["evaluation_ami_arithmetic"] <= 1 and row["evaluation_loss"] > 0


def test_a_broken_run_ends_as_an_unbroken_one(tmp_path):
    images, _ = shapes(128, 1)
    settings = TrainingSettings(steps=12, batch_size=16, checkpoint_every=4)
    whole = grouping()
    train(whole, images, settings, device="cpu", progress=False)
    train(grouping(), images, replace(settings, steps=8), device="cpu", progress=False, out=tmp_path)
    again = grouping()
    try:
        train(again, images, settings, device="cpu", progress=False, out=tmp_path, resume=True)
    except ValueError as error:
        pytest.skip(f"the loop refuses another number of steps: {error}")
    assert all(torch.equal(a, b) for a, b in zip(whole.module.state_dict().values(),
                                                 again.module.state_dict().values()))


def test_scores_of_a_perfect_and_of_a_useless_gamma():
    images, groups = shapes(20, 3)
    perfect = F.one_hot(groups, 3).permute(0, 3, 1, 2).float()
    found = clustering.scores(clustering.labels_of(perfect), groups)
    assert found.ami_max.nanmean() > 0.999
    flat = clustering.scores(clustering.labels_of(torch.full((20, 3, 9, 14), 1 / 3)), groups)
    assert flat.ari.nanmean().abs() < 0.2


def test_grouping_scores_do_not_depend_on_the_batches(generator):
    images, groups = shapes(10, 3)
    model = rnnem(9, 14, 6).float()
    found = nem.grouping_scores(model, images, groups, 3, 3, torch.Generator().manual_seed(1), 10)
    assert found["loss"].shape == (10,) and found["ami_max"].shape == (10,)
    sequence = images[:, None].expand(-1, 3, -1, -1)
    moving = nem.grouping_scores(model, sequence, groups[:, None].expand(-1, 3, -1, -1), 3, None,
                                 torch.Generator().manual_seed(1), 4)
    assert moving["prediction"].shape == (10,) and moving["prediction"].isfinite().all()


# --- bad input ----------------------------------------------------------------------------------------------

IMAGES = torch.zeros(2, 3, 5)


@pytest.mark.parametrize("call, words", [
    (lambda g: RNNEM(3, 5, 4)(IMAGES + 1.5, 2, 2, g), r"Pixels lie in \[0, 1\]; the smallest that came is 1.5"),
    (lambda g: RNNEM(3, 5, 4)(IMAGES * math.nan, 2, 2, g), "scale the images first"),
    (lambda g: RNNEM(3, 5, 4)(IMAGES.mT, 2, 2, g), r"Images have shape \(batch, 3, 5\)"),
    (lambda g: RNNEM(3, 5, 4)(IMAGES, 0, 2, g), "slots must be a whole number of at least 1, but 0 came"),
    (lambda g: RNNEM(3, 5, 4)(IMAGES, 2, 0, g), "steps must be a whole number of at least 1"),
    (lambda g: RNNEM(3, 5, 4)(IMAGES, 2, 2), "pass a generator, or a start"),
    (lambda g: RNNEM(3, 5, 4)(IMAGES[:, None], 2, None, g), "1 frames has 0 next frames"),
    (lambda g: RNNEM(3, 5, 4)(torch.zeros(2, 4, 3, 5), 2, 4, g), "4 frames has 3 next frames to predict; 4 steps"),
    (lambda g: RNNEM(3, 5, 4)(IMAGES, 2, 2, g, start=torch.ones(2, 2, 3, 5)), "sum to 1 over the slots"),
    (lambda g: RNNEM(3, 5, 4)(IMAGES, 2, 2, g, start=torch.ones(2, 2, 5, 3)), r"γ has shape \(2, 2, 3, 5\)"),
    (lambda g: RNNEM(3, 5, 4, inputs="x"), "inputs is 'x', but must be one of"),
    (lambda g: RNNEM(3, 5, 4, likelihood="poisson"), "likelihood is 'poisson'"),
    (lambda g: RNNEM(3, 5, 4, noise=1.0), r"noise and prior lie in \[0, 1\), theta_noise is not negative"),
    (lambda g: RNNEM(3, 0, 4), "width must be a whole number"),
    (lambda g: NeuralEM(3, 5, 4, inputs="image"), "whose input is the residual"),
    (lambda g: NeuralEM(3, 5, 4, step_size=0.0), "step_size must be above 0"),
    (lambda g: RNNEM(3, 5, 4).loss(IMAGES, 2, 3, g, "first"), "weighting is 'first'"),
    (lambda g: RNNEM(3, 5, 4).loss(IMAGES, 2, 3, g, torch.ones(2)), r"weighting has shape \(3,\)"),
    (lambda g: nem.e_step(torch.zeros(3)), "with the slots on axis 1"),
    (lambda g: nem.bernoulli_mixture_em(IMAGES, 2, 3, g), r"x has shape \(N, D\)"),
    (lambda g: nem.bernoulli_mixture_em(IMAGES[0] - 1, 2, 3, g), "scale the images first"),
    (lambda g: nem.bernoulli_mixture_em(IMAGES[0], 0, 3, g), "slots must be a whole number"),
    (lambda g: nem.grouping_scores(RNNEM(3, 5, 4), IMAGES, IMAGES[:, :2].long(), 2, 2, g),
     "images and groups have one shape"),
])
def test_bad_input_gets_one_sentence(call, words, generator):
    with pytest.raises(ValueError, match=words):
        call(generator)


def test_training_data_outside_of_the_range_are_refused_before_the_first_step():
    with pytest.raises(ValueError, match="scale the images first"):
        train(grouping(), 255 * shapes(64, 1)[0], TrainingSettings(steps=2, batch_size=16), device="cpu",
              progress=False)


def test_more_steps_than_memory_allows_says_how_much_it_would_take(monkeypatch):
    monkeypatch.setattr(nem, "available_memory", lambda device: 2**20)
    needed = nem.memory_needed(50, 4, 1000, 28, 28, 8, gradients=True) / 2**30
    with pytest.raises(MemoryError, match=f"about {needed:.1f} GiB, and 0.0 GiB are free: take fewer images"):
        RNNEM(28, 28, 8)(torch.zeros(50, 28, 28), 4, 1000, torch.Generator())


def test_the_estimate_of_memory_is_near_what_is_kept(generator):
    """The tensors that autograd saves, counted, against the estimate."""
    model, images, sizes = RNNEM(28, 28, 8), torch.zeros(8, 28, 28), {}

    def keep(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run = model(images, 4, 10, generator)
    kept = sum(sizes.values()) + sum(value.untyped_storage().nbytes() for value in vars(run).values())
    estimate = nem.memory_needed(8, 4, 10, 28, 28, 8, gradients=True)
    assert 0.6 * kept < estimate < 1.8 * kept
