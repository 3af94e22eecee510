"""Chapter 7: every numbered equation of the adversarial networks against sums over all states, quadrature,
linear programmes and derivatives by autograd, with mutants that the same checks must refuse.

Laws on a few states are handed to the code's means as batches in which each state stands as often as its
weight says, so that a loss of the code is an exact expectation. Learning is checked against a loop by hand,
step for step and bit for bit.
"""

import copy
import itertools
import math

import pytest
import torch
from scipy import integrate, optimize, stats
from torch import nn
from torch.autograd.functional import hessian, jacobian
from torch.distributions import Normal
from torch.nn import functional as F

from nemlib import training
from nemlib.gan import (
    GAN, R1, AdversarialLearner, Bilinear, DiracGAN, Gaussians, GradientPenalty, Hinge, LearningState,
    NonSaturating, Planes, Saturating, Wasserstein, alternating, dcgan_discriminator, dcgan_generator,
    extragradient, grid, jensen_shannon, optimal_logit, ring, simultaneous, slopes, spectral, value,
    wasserstein,
)
from nemlib.networks import fully_connected
from nemlib.training import TrainingDiverged, TrainingSettings, evaluate, seeded, train

EXACT = 1e-10
LOG_TWO = math.log(2)
JSD_OF_TWO_GAUSSIANS = 0.1114215


@pytest.fixture
def generator():
    return numbers(20140610)


def numbers(seed):
    return torch.Generator().manual_seed(seed)


def randn(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def rand(generator, *shape):
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def number(value):
    return torch.tensor(value, dtype=torch.float64)


# --- laws of a few states, as batches -----------------------------------------------------------------------


def two_laws(generator, states=7):
    """How often each state stands in a batch of data and in one of samples, (states,) twice."""
    return (torch.randint(1, 12, (states,), generator=generator) for _ in range(2))


def law_of(counts):
    return counts.double() / counts.sum()


def spread(logits, counts):
    """The logit of each state, as often as the state stands in the batch."""
    return logits.repeat_interleave(counts)


def best_logits(loss, data, samples):
    """What the discriminator's loss is least at, by Newton's steps from 0, each state by itself."""
    logits = torch.zeros(len(data), dtype=torch.float64, requires_grad=True)
    for _ in range(40):
        total = loss.discriminator(spread(logits, data), spread(logits, samples))
        slope, = torch.autograd.grad(total, logits, create_graph=True)
        bend, = torch.autograd.grad(slope.sum(), logits)
        logits = (logits - slope / bend).detach().requires_grad_()
    return logits.detach()


def kl(p, q):
    return torch.where(p > 0, p * (p / q).log(), 0).sum(-1)


def variation(p, q):
    return 0.5 * (p - q).abs().sum(-1)


# --- the game, and the best discriminator -------------------------------------------------------------------


@pytest.mark.equation("eq-gan-logits", how="closed form")
def test_the_value_in_logits(generator, largest_error):
    real, fake = 2 * randn(generator, 1000), 2 * randn(generator, 700)
    D = torch.sigmoid
    exact = D(real).log().mean() + (1 - D(fake)).log().mean()
    errors = [value(real, fake) - exact, Saturating().discriminator(real, fake) + exact,
              -F.softplus(-real).mean() - F.softplus(fake).mean() - exact]
    largest_error(max(map(abs, errors)))
    assert max(map(abs, errors)) < 1e-12
    mutants = [value(fake, real), value(-real, -fake), D(real).mean().log() + (1 - D(fake)).mean().log(),
               F.logsigmoid(real).sum() + F.logsigmoid(-fake).sum()]
    assert min(abs(mutant - exact) for mutant in mutants) > 0.1


def test_no_logit_is_too_far_for_the_losses():
    far = torch.tensor([-1e4, 1e4])
    for loss in (Saturating(), NonSaturating(), Hinge(), Wasserstein()):
        for real, fake in itertools.product(far, far):
            assert loss.discriminator(real, fake).isfinite() and loss.generator(fake).isfinite()
    assert value(far[0], far[1]) == -2e4 and value(far[1], far[0]) == 0
    assert Saturating().discriminator(far[:1], far[1:]) == 2e4 and Saturating().generator(far[1:]) == -1e4
    assert NonSaturating().generator(far[:1]) == 1e4
    tail, a = math.log1p(math.exp(-21)), number([21.0])         # PyTorch's softplus forgets it above 20
    for found, terms in ((-value(-a, -a), 2), (Saturating().discriminator(-a, -a), 2),
                         (-Saturating().generator(a), 1), (NonSaturating().generator(-a), 1)):
        assert abs(found - 21 - terms * tail) < 1e-13


@pytest.mark.parametrize("loss, generators", [
    (Saturating(), lambda D, a: (1 - D).log().mean()), (NonSaturating(), lambda D, a: -D.log().mean()),
    (Wasserstein(), lambda D, a: -a.mean()), (Hinge(), lambda D, a: -a.mean()),
])
def test_the_losses_are_the_formulas_of_the_text(loss, generators, generator):
    real, fake = 2 * randn(generator, 30, 4), 2 * randn(generator, 20, 4)
    D_real, D_fake, zero = torch.sigmoid(real), torch.sigmoid(fake), number(0.0)
    discriminators = {
        Saturating: -D_real.log().mean() - (1 - D_fake).log().mean(),
        NonSaturating: -D_real.log().mean() - (1 - D_fake).log().mean(),
        Wasserstein: fake.mean() - real.mean(),
        Hinge: torch.maximum(zero, 1 - real).mean() + torch.maximum(zero, 1 + fake).mean(),
    }
    assert abs(loss.discriminator(real, fake) - discriminators[type(loss)]) < 1e-12
    assert abs(loss.generator(fake) - generators(D_fake, fake)) < 1e-12
    assert loss.discriminator(real, fake).shape == loss.generator(fake).shape == ()
    for other in discriminators:
        if not isinstance(loss, other) and not issubclass(other, type(loss)):
            assert abs(loss.discriminator(real, fake) - discriminators[other]) > 0.1
    assert abs(loss.discriminator(fake, real) - discriminators[type(loss)]) > 0.01      # labels exchanged


@pytest.mark.equation("eq-gan-optimal-discriminator", "eq-gan-optimal-logit", how="enumeration")
def test_the_best_discriminator_on_a_few_states(generator, largest_error):
    data, samples = two_laws(generator)
    p, q = law_of(data), law_of(samples)
    best = best_logits(NonSaturating(), data, samples)
    in_logits = (optimal_logit(p.log(), q.log()) - best).abs().max()
    in_numbers = (p / (p + q) - best.sigmoid()).abs().max()
    largest_error(in_numbers, "eq-gan-optimal-discriminator")
    largest_error(in_logits, "eq-gan-optimal-logit")
    assert max(in_logits, in_numbers) < EXACT
    for mutant in (q / (p + q), p / q, p):
        assert (mutant - best.sigmoid()).abs().max() > 0.1
    assert (optimal_logit(q.log(), p.log()) - best).abs().max() > 0.1
    for step in 0.1 * randn(generator, 50, 7):                  # and nowhere near it is anything better
        assert value(spread(best + step, data), spread(best + step, samples)) < value(
            spread(best, data), spread(best, samples))


@pytest.mark.equation("eq-gan-optimal-discriminator", how="quadrature")
def test_the_largest_value_pointwise(generator, largest_error):
    """t ↦ p log t + q log(1 − t) by a search that knows no derivative."""
    def best(p, q):
        return optimize.minimize_scalar(lambda t: -p * math.log(t) - q * math.log1p(-t), method="bounded",
                                        bounds=(1e-9, 1 - 1e-9), options={"xatol": 1e-10}).x

    pairs = rand(generator, 20, 2).tolist()
    error = max(abs(best(p, q) - p / (p + q)) for p, q in pairs)
    largest_error(error)
    assert error < 1e-6 and max(abs(best(p, q) - q / (p + q)) for p, q in pairs) > 0.1


@pytest.mark.equation("eq-gan-two-gaussians", how="closed form")
def test_the_best_logit_between_two_gaussians(generator, largest_error):
    x = 3 * randn(generator, 400)
    for shift in (0.5, 1.0, -2.0):
        found = optimal_logit(Normal(0.0, 1.0).log_prob(x), Normal(shift, 1.0).log_prob(x))
        error = (found - (shift**2 / 2 - shift * x)).abs().max()
        largest_error(error)
        assert error < 1e-12 * x.square().max()
        assert (found - (shift * x - shift**2 / 2)).abs().max() > 0.1           # the mutant: sides exchanged
    a = optimal_logit(Normal(0.0, 1.0).log_prob(x), Normal(1.0, 1.0).log_prob(x))
    assert (a - (0.5 - x)).abs().max() < 1e-12


def logistic_regression(real, fake):
    """Weight and bias that the discriminator's loss is least at, and their covariance, by Newton's steps."""
    wb = torch.zeros(2, dtype=torch.float64)

    def loss(wb):
        return NonSaturating().discriminator(wb[0] * real + wb[1], wb[0] * fake + wb[1])

    for _ in range(8):
        wb = wb - torch.linalg.solve(hessian(loss, wb), jacobian(loss, wb))
    by_row = torch.stack([torch.stack([a, torch.ones_like(a)], 1) for a in (real, fake)])
    weights = torch.stack([-torch.sigmoid(-(wb[0] * real + wb[1])), torch.sigmoid(wb[0] * fake + wb[1])])
    spread_of = sum(torch.cov((weights[i][:, None] * by_row[i]).T) for i in range(2)) / len(real)
    inverse = torch.linalg.inv(hessian(loss, wb))
    return wb, (inverse @ spread_of @ inverse).diagonal().sqrt()


@pytest.mark.equation("eq-gan-two-gaussians", how="Monte Carlo")
def test_a_discriminator_that_learns_finds_the_logit(generator, largest_error):
    """A logistic regression on draws of N(0, 1) and N(1, 1): slope −1 and bias ½ within 4 errors."""
    real, fake = randn(generator, 10_000), 1 + randn(generator, 10_000)
    found, deviation = logistic_regression(real, fake)
    exact = number([-1.0, 0.5])
    largest_error((found - exact).abs().max())
    assert ((found - exact).abs() < 4 * deviation).all() and deviation.max() < 0.04
    for mutant in ([1.0, -0.5], [-1.0, 1.0], [-0.5, 0.25]):
        assert ((found - number(mutant)).abs() > 4 * deviation).any()


# --- the value at the best discriminator --------------------------------------------------------------------


def half_forgotten(p, q):
    """A mutant: the mixture p + q without its ½."""
    return 0.5 * (kl(p, p + q) + kl(q, p + q))


@pytest.mark.equation("eq-gan-value-at-optimum", how="enumeration")
def test_the_value_is_the_divergence(generator, largest_error):
    for _ in range(5):
        data, samples = two_laws(generator)
        p, q = law_of(data), law_of(samples)
        best = best_logits(Saturating(), data, samples)
        found = value(spread(best, data), spread(best, samples))
        error = abs(found - (2 * jensen_shannon(p, q) - 2 * LOG_TWO))
        largest_error(error)
        assert error < 1e-12
        for mutant in (half_forgotten(p, q), jensen_shannon(p, q) / 2, kl(p, q)):
            assert abs(found - (2 * mutant - 2 * LOG_TWO)) > 1e-3


def line(far=40.0, steps=40001):
    return torch.linspace(-far, far, steps, dtype=torch.float64), 2 * far / (steps - 1)


@pytest.mark.equation("eq-gan-value-at-optimum", how="quadrature")
def test_the_divergence_of_two_gaussians(largest_error):
    x, step = line()
    p, q = Normal(0.0, 1.0).log_prob(x), Normal(1.0, 1.0).log_prob(x)
    a = optimal_logit(p, q)
    found = ((p.exp() * F.logsigmoid(a) + q.exp() * F.logsigmoid(-a)) * step).sum()
    divergence = jensen_shannon(p.exp() * step, q.exp() * step)
    error = abs(found - (2 * divergence - 2 * LOG_TWO))
    largest_error(error)
    assert error < 1e-12 and abs(divergence - JSD_OF_TWO_GAUSSIANS) < 1e-6
    assert abs(half_forgotten(p.exp() * step, q.exp() * step) - JSD_OF_TWO_GAUSSIANS) > 0.1


def test_jensen_shannon_is_half_of_two_divergences(generator):
    p, q = randn(generator, 4, 5, 6).softmax(-1), randn(generator, 4, 5, 6).softmax(-1)
    m = 0.5 * (p + q)
    found = jensen_shannon(p, q)
    assert found.shape == (4, 5) and (found - 0.5 * kl(p, m) - 0.5 * kl(q, m)).abs().max() < 1e-14
    assert torch.equal(found, jensen_shannon(q, p))
    assert jensen_shannon(number([1.0, 0.0, 0.0]), number([0.5, 0.5, 0.0])).isfinite()
    assert jensen_shannon(number([math.nan, 1.0]), number([0.5, 0.5])).isnan()


@pytest.mark.equation("eq-gan-jsd-bounds", how="enumeration")
def test_the_divergence_lies_between_0_and_log_two(generator, largest_error):
    p, q = (4 * randn(generator, 1000, 6)).softmax(1), (4 * randn(generator, 1000, 6)).softmax(1)
    found = jensen_shannon(p, q)
    apart = jensen_shannon(torch.cat([p, 0 * p], 1), torch.cat([0 * q, q], 1))
    error = max((-found).clamp_min(0).max(), (found - LOG_TWO).clamp_min(0).max(),
                jensen_shannon(p, p).abs().max(), (apart - LOG_TWO).abs().max())
    largest_error(error)
    assert error < 1e-12 and found.min() > 1e-3 and found.max() < LOG_TWO - 1e-6
    assert half_forgotten(p, q).min() < -0.1 and (2 * found).max() > LOG_TWO        # mutants break them


def test_the_game_is_at_rest_where_both_laws_agree(generator):
    counts, _ = two_laws(generator)
    assert best_logits(NonSaturating(), counts, counts).abs().max() < 1e-12
    nothing = torch.zeros(7, dtype=torch.float64)
    assert abs(value(spread(nothing, counts), spread(nothing, counts)) + 2 * LOG_TWO) < 1e-15
    for _ in range(5):
        data, samples = two_laws(generator)
        best = best_logits(NonSaturating(), data, samples)
        assert value(spread(best, data), spread(best, samples)) > -2 * LOG_TWO + 1e-3


@pytest.mark.equation("eq-gan-batch-bound", how="enumeration")
def test_any_discriminator_bounds_the_divergence(generator, largest_error):
    data, samples = two_laws(generator)
    divergence = jensen_shannon(law_of(data), law_of(samples))
    bounds = torch.stack([0.5 * value(spread(a, data), spread(a, samples)) + LOG_TWO
                          for a in 2 * randn(generator, 500, 7)])
    best = best_logits(NonSaturating(), data, samples)
    tight = 0.5 * value(spread(best, data), spread(best, samples)) + LOG_TWO
    error = max((bounds - divergence).clamp_min(0).max(), abs(tight - divergence))
    largest_error(error)
    assert error < 1e-12
    assert tight - LOG_TWO < divergence < 2 * tight + LOG_TWO - 0.1        # mutants: no constant, no ½


def test_a_discriminator_is_no_bound_on_the_batch_it_learnt(generator):
    """Between equal laws the divergence is 0; by its own 60 examples a fitted discriminator says more."""
    def features(count):
        return randn(generator, count, 20)

    real, fake, real_held, fake_held = (features(count) for count in (60, 60, 20_000, 20_000))
    w = torch.zeros(20, dtype=torch.float64)
    for _ in range(100):
        w = w - 0.5 * jacobian(lambda w: NonSaturating().discriminator(real @ w, fake @ w), w)
    own = 0.5 * value(real @ w, fake @ w) + LOG_TWO
    held_out = 0.5 * value(real_held @ w, fake_held @ w) + LOG_TWO
    assert own > 0.05 and held_out < 0


# --- two losses for the generator ---------------------------------------------------------------------------


@pytest.mark.equation("eq-gan-logit-slopes", how="autograd")
def test_the_slopes_of_both_losses_in_a_logit(generator, largest_error):
    a = (5 * randn(generator, 500)).requires_grad_()
    saturating, = torch.autograd.grad(500 * Saturating().generator(a), a)
    other, = torch.autograd.grad(500 * NonSaturating().generator(a), a)
    D = torch.sigmoid(a.detach())
    error = max((saturating + D).abs().max(), (other + 1 - D).abs().max(),
                (other / saturating / (-a.detach()).exp() - 1).abs().max())
    largest_error(error)
    assert error < 1e-12
    assert (saturating + 1 - D).abs().max() > 0.9 and (other + D).abs().max() > 0.9      # mutants: exchanged


def by_points(loss, logits):
    """The generator's loss at each logit by itself."""
    return torch.vmap(loss.generator)(logits[:, None])


MIXED = torch.distributions.MixtureSameFamily(
    torch.distributions.Categorical(number([0.3, 0.7])), Normal(number([-1.0, 1.5]), number([0.6, 0.9])))


def divergence_of_generator(theta, x, step, jsd_weight=2.0):
    """KL(p_g ‖ p_data) − 2 JSD of a Gaussian with mean θ₁ and log-deviation θ₂ against the mixture."""
    log_q, log_p = Normal(theta[0], theta[1].exp()).log_prob(x), MIXED.log_prob(x)
    middle = torch.logaddexp(log_q, log_p) - LOG_TWO
    kls = [(log_q.exp() * (log_q - log_p)).sum() * step, (log_q.exp() * (log_q - middle)).sum() * step,
           (log_p.exp() * (log_p - middle)).sum() * step]
    return kls[0] - jsd_weight * 0.5 * (kls[1] + kls[2])


def slope_by_samples(theta, loss, z, weight, moving=False):
    """∇θ of the generator's loss on x = θ₁ + e^θ₂ z, the discriminator best for θ as it is."""
    x = theta[0] + theta[1].exp() * z
    fixed = theta if moving else theta.detach()
    a = optimal_logit(MIXED.log_prob(x), Normal(fixed[0], fixed[1].exp()).log_prob(x))
    return torch.autograd.grad((weight * by_points(loss, a)).sum(), theta)[0]


@pytest.mark.equation("eq-gan-non-saturating-divergence", how="quadrature")
def test_what_the_non_saturating_loss_descends(largest_error):
    z, step = line(12.0, 1501)
    weight = Normal(0.0, 1.0).log_prob(z).exp() * step
    x, cell = line(25.0, 20001)
    for start in ([0.4, -0.2], [-1.5, 0.3], [2.0, 0.1]):
        theta = number(start).requires_grad_()
        found = slope_by_samples(theta, NonSaturating(), z, weight)
        exact, = torch.autograd.grad(divergence_of_generator(theta, x, cell), theta)
        error = (found - exact).abs().max()
        largest_error(error)
        assert error < EXACT
        wrong, = torch.autograd.grad(divergence_of_generator(theta, x, cell, -2.0), theta)
        assert (found - wrong).abs().max() > 0.01
        assert (slope_by_samples(theta, NonSaturating(), z, weight, moving=True) - exact).abs().max() > 0.01
        saturating = slope_by_samples(theta, Saturating(), z, weight)      # the other loss descends 2 JSD
        both = [divergence_of_generator(theta, x, cell, weight_of_jsd) for weight_of_jsd in (0.0, 2.0)]
        twice, = torch.autograd.grad(both[0] - both[1], theta)
        assert (saturating - twice).abs().max() < EXACT


# --- laws that share no ground ------------------------------------------------------------------------------


@pytest.mark.equation("eq-gan-segments", how="enumeration")
def test_two_segments(largest_error):
    cells = 200
    edges = torch.arange(5 * cells, dtype=torch.float64)
    points = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000

    def segment(shift):
        start = round((2 + shift) * cells)
        return ((edges >= start) & (edges < start + cells)).double() / cells

    for shift in (0.0, 0.25, -0.5, 1.0, 1.7, -1.9):
        divergence, distance = jensen_shannon(segment(0), segment(shift)), wasserstein(points, points + shift)
        error = max(abs(divergence - min(abs(shift), 1) * LOG_TWO), abs(distance - abs(shift)))
        largest_error(error)
        assert error < 1e-12
    assert abs(divergence - 1.9 * LOG_TWO) > 0.1 and abs(distance - 1) > 0.1      # mutants: no bound, a bound


def best_between(shift, x):
    return optimal_logit(Normal(0.0, 1.0).log_prob(x), Normal(shift, 1.0).log_prob(x))


def mean_of_best(shift, far=40.0, steps=40001):
    """E_q D* of data N(0, 1) and samples N(δ, 1), by quadrature."""
    x, step = line(far, steps)
    return (Normal(shift, 1.0).log_prob(x).exp() * torch.sigmoid(best_between(shift, x)) * step).sum()


@pytest.mark.equation("eq-gan-shift-slope", how="quadrature")
def test_the_slope_of_both_losses_in_a_shift(largest_error):
    z, step = line(12.0, 1501)
    weight = Normal(0.0, 1.0).log_prob(z).exp() * step
    for shift in (0.5, 1.0, 3.0, 6.0):
        moved = number(shift).requires_grad_()
        a = best_between(shift, moved + z)
        found = [torch.autograd.grad((weight * by_points(loss, a)).sum(), moved, retain_graph=True)[0]
                 for loss in (Saturating(), NonSaturating())]
        share = mean_of_best(shift)
        error = max(abs(found[0] - shift * share), abs(found[1] - shift * (1 - share)))
        largest_error(error)
        assert error < EXACT
        assert abs(found[1] - shift * share) > 0.01 and abs(found[0] - share) > 1e-5 or shift == 1.0


@pytest.mark.equation("eq-gan-vanishing", how="quadrature")
def test_the_slope_that_dies(largest_error):
    x, step = line()
    for shift in (0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0):
        p, q = Normal(0.0, 1.0).log_prob(x).exp(), Normal(shift, 1.0).log_prob(x).exp()
        middle = (0.5 * (p * q).sqrt() * step).sum()
        share = mean_of_best(shift)
        error = max(abs(middle - 0.5 * math.exp(-shift**2 / 8)), (share - middle).clamp_min(0),
                    abs(share - (p * q / (p + q)).nan_to_num().sum() * step))
        largest_error(error)
        assert error < 1e-12 and share > 0.2 * middle
    assert mean_of_best(1.0) > 0.5 * math.exp(-1 / 4)            # the mutant e^(−δ²/4) is no bound


# --- games that circle --------------------------------------------------------------------------------------


def radius2(theta, phi):
    return theta.square() + phi.square()


def walk(step, field, theta, phi, step_size, times):
    points = [(theta, phi)]
    for _ in range(times):
        points.append(step(field, *points[-1], step_size))
    return torch.stack([torch.stack(point) for point in points])


def both_old(field, theta, phi, step_size):
    """A mutant of the alternating steps: φ answers to where θ stood."""
    to_theta, to_phi = field(theta, phi)
    return theta + step_size * to_theta, phi + step_size * to_phi


def matrix_of(step, field, step_size):
    """The matrix of a linear step, (2, 2)."""
    return jacobian(lambda w: torch.stack(step(field, w[0], w[1], step_size)), number([0.3, -0.8]))


ORIGIN = number(0.7), number(-0.4)


@pytest.mark.equation("eq-gan-flow", how="autograd")
def test_the_flow_of_the_bilinear_game_turns(generator, largest_error):
    """The field is minus and plus the slope of θφ; its flow is the exponential of its matrix."""
    theta, phi = ORIGIN
    slope = jacobian(lambda w: w[0] * w[1], torch.stack(ORIGIN))
    field = torch.stack(Bilinear().field(theta, phi))
    matrix = jacobian(lambda w: torch.stack(Bilinear().field(w[0], w[1])), torch.stack(ORIGIN))
    turns = [torch.linalg.matrix_exp(t * matrix) for t in (0.1, 1.0, 2.5)]
    exact = [number([[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]]) for t in (0.1, 1.0, 2.5)]
    around = torch.linalg.matrix_exp(2 * math.pi * matrix) - torch.eye(2, dtype=torch.float64)
    error = max((field + slope * number([1.0, -1.0])).abs().max(), 2 * abs(theta * field[0] + phi * field[1]),
                around.abs().max(), max((a - b).abs().max() for a, b in zip(turns, exact)))
    largest_error(error)
    assert error < 1e-12
    both_descend = torch.stack([-phi, -theta])                              # the mutant: φ makes V small too
    assert abs(theta * both_descend[0] + phi * both_descend[1]) > 0.1
    scaled = Bilinear(2.5).field(theta, phi)
    assert torch.equal(torch.stack(scaled), 2.5 * field)


@pytest.mark.equation("eq-gan-simultaneous", how="closed form")
def test_simultaneous_steps_lead_outwards(largest_error):
    for eta in (0.05, 0.3, 1.2):
        path = walk(simultaneous, Bilinear().field, *ORIGIN, eta, 100)
        r2 = path.square().sum(1)
        turned = torch.atan2(path[1, 1], path[1, 0]) - torch.atan2(path[0, 1], path[0, 0])
        error = max(abs(r2[1:] / r2[:-1] - 1 - eta**2).max(), abs(turned - math.atan(eta)))
        largest_error(error)
        assert error < 1e-12
        other = walk(alternating, Bilinear().field, *ORIGIN, eta, 100).square().sum(1)
        assert other.max() < 100 and abs(other[1:] / other[:-1] - 1 - eta**2).max() > 1e-3
    assert both_old(Bilinear().field, *ORIGIN, 0.3) == simultaneous(Bilinear().field, *ORIGIN, 0.3)


def kept(path, eta):
    theta, phi = path.unbind(1)
    return radius2(theta, phi) - eta * theta * phi


@pytest.mark.equation("eq-gan-alternating", how="closed form")
def test_alternating_steps_stay_on_an_ellipse(largest_error):
    for eta in (0.05, 0.3, 1.2, 1.9):
        path = walk(alternating, Bilinear().field, *ORIGIN, eta, 300)
        invariant, r2 = kept(path, eta), path.square().sum(1)
        matrix = matrix_of(alternating, Bilinear().field, eta)
        largest_error((invariant / invariant[0] - 1).abs().max())
        assert (invariant / invariant[0] - 1).abs().max() < 1e-11
        assert abs(matrix.trace() - 2 + eta**2) < 1e-12 and abs(torch.linalg.det(matrix) - 1) < 1e-12
        assert (invariant >= (1 - eta / 2) * r2 - 1e-12).all()
        assert (invariant <= (1 + eta / 2) * r2 + 1e-12).all()
        angle = torch.linalg.eigvals(matrix).angle().abs().max()
        assert abs(angle.cos() - (1 - eta**2 / 2)) < 1e-12
        for mutant in (walk(both_old, Bilinear().field, *ORIGIN, eta, 300), path * number([1.0, -1.0])):
            change = kept(mutant, eta)
            assert (change / change[0] - 1).abs().max() > 0.01
    beyond = walk(alternating, Bilinear().field, *ORIGIN, 2.1, 100).square().sum(1)
    assert beyond[-1] > 1e6


def twice_ahead(field, theta, phi, step_size):
    """A mutant of extragradient: the second step begins where the trial ended."""
    theta, phi = simultaneous(field, theta, phi, step_size)
    return simultaneous(field, theta, phi, step_size)


@pytest.mark.equation("eq-gan-extragradient", how="closed form")
def test_extragradient_steps_lead_inwards(largest_error):
    for eta in (0.1, 0.5, 0.999, 1.3):
        r2 = walk(extragradient, Bilinear().field, *ORIGIN, eta, 100).square().sum(1)
        matrix = matrix_of(extragradient, Bilinear().field, eta)
        error = max((r2[1:] / r2[:-1] - (1 - eta**2 + eta**4)).abs().max(),
                    (matrix - number([[1 - eta**2, -eta], [eta, 1 - eta**2]])).abs().max())
        largest_error(error)
        assert error < 1e-12 and (r2[-1] < r2[0]) == (eta < 1)
        wrong = walk(twice_ahead, Bilinear().field, *ORIGIN, eta, 1).square().sum(1)
        assert abs(wrong[1] / wrong[0] - (1 - eta**2 + eta**4)) > 0.02
    best = optimize.minimize_scalar(lambda eta: 1 - eta**2 + eta**4, bounds=(0, 1), method="bounded")
    assert abs(best.x - math.sqrt(0.5)) < 1e-5 and abs(best.fun - 0.75) < 1e-12


@pytest.mark.equation("eq-gan-singular", how="enumeration")
def test_singular_vectors_take_a_game_apart(generator, largest_error):
    A, theta, phi = randn(generator, 4, 3), randn(generator, 4), randn(generator, 3)
    left, s, right = torch.linalg.svd(A)
    along = (left[:, :3].T @ theta, right @ phi)
    error = abs(theta @ A @ phi - (s * along[0] * along[1]).sum())
    largest_error(error)
    assert error < 1e-12

    def field(theta, phi):
        return -A @ phi, A.T @ theta

    for step in (simultaneous, alternating, extragradient):
        moved = step(field, theta, phi, 0.2)
        apart = [step(Bilinear(s[i]).field, along[0][i], along[1][i], 0.2) for i in range(3)]
        one = torch.stack([part[0] for part in apart])
        two = torch.stack([part[1] for part in apart])
        small = [step(Bilinear().field, along[0][i], along[1][i], 0.2 * s[i]) for i in range(3)]
        error = max((left[:, :3].T @ moved[0] - one).abs().max(), (right @ moved[1] - two).abs().max(),
                    max(abs(a - b) for x, y in zip(apart, small) for a, b in zip(x, y)))
        largest_error(error)
        assert error < 1e-12
    mixed = (left[:, :3].T @ theta) * (left[:3, :3].T @ phi)                # the mutant: one basis for both
    assert abs(theta @ A @ phi - (s * mixed).sum()) > 0.1


class Point(nn.Module):
    """A generator that always makes its two parameters."""

    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, z):
        return self.place.expand(len(z), 2)


def averaged_radius(decay, turn, steps=400):
    """How far from the middle the code's averaged generator is when the generator walks round a circle."""
    gan = GAN(Point(), nn.Linear(2, 1).double(), 1)
    with torch.no_grad():
        gan.generator.place.copy_(number([1.0, 0.0]))
    state = LearningState(gan, decay, 4)
    for t in range(1, steps):
        with torch.no_grad():
            gan.generator.place.copy_(number([math.cos(turn * t), math.sin(turn * t)]))
        state.average()
    return state.averaged.place.norm()


@pytest.mark.equation("eq-gan-average-turn", how="closed form")
def test_the_average_of_a_walk_round_a_circle(largest_error):
    for decay, turn in ((0.9, 0.5), (0.92, 0.1), (0.8, 2.0)):
        found = averaged_radius(decay, turn)
        exact = (1 - decay) / math.sqrt(1 - 2 * decay * math.cos(turn) + decay**2)
        largest_error(abs(found - exact))
        assert abs(found - exact) < EXACT
        assert abs(found - (1 - decay)) > 1e-3 and abs(averaged_radius(1 - decay, turn) - exact) > 0.1
    assert averaged_radius(0.99, 0.5, 900) < 0.03           # more of it: nearer to the middle


# --- the smallest GAN ---------------------------------------------------------------------------------------


def dirac_slopes(theta, phi, gamma, loss):
    """Minus the slopes of both losses of the code where data are 0, samples θ, the logit φ x, with R1."""
    theta, phi = theta.detach().requires_grad_(), phi.detach().requires_grad_()
    real, fake = torch.zeros(3, 1, dtype=torch.float64), theta.expand(3, 1)

    def logits(x):
        return (phi * x).squeeze(1)

    judged = loss.discriminator(logits(real), logits(fake.detach()))
    judged = judged + R1(gamma).of(logits, real, fake.detach(), torch.Generator())
    to_phi, = torch.autograd.grad(judged, phi)
    to_theta, = torch.autograd.grad(loss.generator(logits(fake)), theta)
    return -to_theta, -to_phi


@pytest.mark.parametrize("gamma", [0.0, 0.7])
@pytest.mark.parametrize("loss", [Saturating(), NonSaturating()])
def test_the_dirac_gan_is_what_the_losses_say(gamma, loss, generator):
    dirac = DiracGAN(gamma, non_saturating=isinstance(loss, NonSaturating))
    for theta, phi in randn(generator, 20, 2):
        found = zip(dirac.field(theta, phi), dirac_slopes(theta, phi, gamma, loss))
        assert max(abs(a - b) for a, b in found) < 1e-12


def drift(dirac, theta, phi):
    """d/dt ½(θ² + φ²) along the field."""
    to_theta, to_phi = dirac.field(theta, phi)
    return theta * to_theta + phi * to_phi


@pytest.mark.equation("eq-gan-dirac-orbit", how="closed form")
def test_the_dirac_gan_circles(generator, largest_error):
    theta, phi = 2 * randn(generator, 2, 200)
    error = drift(DiracGAN(), theta, phi).abs().max()
    largest_error(error)
    assert error < 1e-14 and drift(DiracGAN(non_saturating=True), theta, phi).abs().max() > 0.1
    field = DiracGAN().field

    def flow(_, w):
        return [part.item() for part in field(number(w[0]), number(w[1]))]

    end = integrate.solve_ivp(flow, (0, 12), [1.5, 0.5], rtol=1e-10, atol=1e-12).y
    assert abs(end[0]**2 + end[1]**2 - 2.5).max() < 1e-7 and abs(end[0]).min() < 0.2


@pytest.mark.equation("eq-gan-dirac-lyapunov", how="closed form")
def test_a_penalty_lets_the_distance_fall(generator, largest_error):
    theta, phi = 2 * randn(generator, 2, 200)
    for gamma in (0.3, 1.0, 4.0):
        error = (drift(DiracGAN(gamma), theta, phi) + gamma * phi.square()).abs().max()
        largest_error(error)
        assert error < 1e-12
        for mutant in (gamma * phi.square() / 2, 2 * gamma * phi.square(), gamma * theta.square()):
            assert (drift(DiracGAN(gamma), theta, phi) + mutant).abs().max() > 0.1


def at_rest(dirac):
    """The matrix of the field at the equilibrium."""
    return jacobian(lambda w: torch.stack(dirac.field(w[0], w[1])), torch.zeros(2, dtype=torch.float64))


def eigenvalues(gamma):
    root = torch.sqrt(torch.tensor(gamma**2 / 4 - 0.25, dtype=torch.complex128))
    return torch.stack([-gamma / 2 + root, -gamma / 2 - root])


def apart(one, two):
    return min((one - two).abs().max(), (one - two.flip(0)).abs().max())


@pytest.mark.equation("eq-gan-dirac-eigenvalues", how="autograd")
def test_the_eigenvalues_at_the_equilibrium(largest_error):
    for gamma in (0.0, 0.3, 0.9, 1.2, 3.0):
        for form in (False, True):
            matrix = at_rest(DiracGAN(gamma, non_saturating=form))
            assert (matrix - number([[0.0, 0.5], [-0.5, -gamma]])).abs().max() < 1e-14
            error = apart(torch.linalg.eigvals(matrix), eigenvalues(gamma))
            largest_error(error)
            assert error < 1e-12
        assert apart(torch.linalg.eigvals(at_rest(DiracGAN(2 * gamma + 0.1))), eigenvalues(gamma)) > 0.04
    double = torch.linalg.eigvals(at_rest(DiracGAN(1.0)))
    assert (double + 0.5).abs().max() < 1e-7                                # γ = 1: both are −½
    slowest = [torch.linalg.eigvals(at_rest(DiracGAN(gamma))).real.max() for gamma in (0.5, 1.0, 2.0)]
    assert slowest[1] < min(slowest[0], slowest[2])


def modulus2(gamma, eta):
    step = torch.eye(2, dtype=torch.float64) + eta * at_rest(DiracGAN(gamma))
    return torch.linalg.eigvals(step).abs().square().max()


@pytest.mark.equation("eq-gan-dirac-euler", how="closed form")
def test_steps_converge_from_a_quarter_of_their_size(largest_error):
    for eta, gamma in itertools.product((0.1, 0.2, 0.8), (0.0, 0.04, 0.06, 0.3, 0.9)):
        error = abs(modulus2(gamma, eta) - (1 - eta * gamma + eta**2 / 4))
        largest_error(error)
        assert error < 1e-12 and (modulus2(gamma, eta) < 1) == (gamma > eta / 4)
        assert abs(modulus2(gamma, eta) - (1 - eta * gamma / 2 + eta**2 / 4)) > 1e-3 or gamma == 0
    for gamma, inwards in ((0.09, False), (0.11, True)):                    # and the code's own steps, η = .4
        path = walk(simultaneous, DiracGAN(gamma).field, number(1e-3), number(0.0), 0.4, 400).norm(dim=1)
        assert (path[-1] < path[0]) == inwards


def critic_slopes(theta, phi, weight):
    """Minus the slopes of the Wasserstein losses with the gradient penalty, data 0, samples θ, critic φ x."""
    theta, phi = theta.detach().requires_grad_(), phi.detach().requires_grad_()
    real, fake = torch.zeros(5, 1, dtype=torch.float64), theta.expand(5, 1)

    def logits(x):
        return (phi * x).squeeze(1)

    penalty = GradientPenalty(weight).of(logits, real, fake.detach(), numbers(0))
    judged = Wasserstein().discriminator(logits(real), logits(fake.detach())) + penalty
    to_theta, = torch.autograd.grad(Wasserstein().generator(logits(fake)), theta)
    return -to_theta, -torch.autograd.grad(judged, phi)[0]


@pytest.mark.equation("eq-gan-dirac-penalty", how="autograd")
def test_the_gradient_penalty_does_not_bring_the_dirac_gan_to_rest(generator, largest_error):
    for weight in (0.5, 10.0):
        for theta, phi in randn(generator, 10, 2):
            to_theta, to_phi = critic_slopes(theta, phi, weight)
            rest = -theta.sign() * (1 + theta.abs() / (2 * weight))
            exact = -theta - 2 * weight * (phi.abs() - 1) * phi.sign()
            error = max(abs(to_theta - phi), abs(to_phi - exact), abs(critic_slopes(theta, rest, weight)[1]))
            largest_error(error)
            assert error < 1e-12
            assert abs(critic_slopes(theta, -theta.sign() * (1 + theta.abs() / weight), weight)[1]) > 1e-3
            assert abs(to_phi + theta + 2 * weight * phi) > 0.1             # the mutant: R1's pull to 0
    path = walk(lambda f, t, p, s: alternating(f, t, p, s), lambda t, p: critic_slopes(t, p, 1.0),
                number(0.05), number(0.0), 0.1, 120)
    assert path[-60:].norm(dim=1).min() > 0.3


# --- Wasserstein --------------------------------------------------------------------------------------------


PRECISE = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


def transport(distances):
    """The least mean distance over couplings, and the coupling, by a linear programme: (n, m) → (n, m)."""
    n, m = distances.shape
    p, q = number(n * [1 / n]), number(m * [1 / m])
    rows = torch.kron(torch.eye(n), torch.ones(1, m))
    columns = torch.kron(torch.ones(1, n), torch.eye(m))
    found = optimize.linprog(distances.flatten().numpy(), A_eq=torch.cat([rows, columns]).numpy(),
                             b_eq=torch.cat([p, q]).numpy(), method="highs", options=PRECISE)
    return found.fun, torch.tensor(found.x).view(n, m)


def steepest(points, weights, slope=1.0):
    """The largest Σ weight · f over f whose slope between any two points is at most that, and f."""
    n = len(points)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    rows = torch.zeros(len(pairs), n)
    for row, (i, j) in enumerate(pairs):
        rows[row, i], rows[row, j] = 1, -1
    limits = torch.stack([slope * (points[i] - points[j]).norm() for i, j in pairs])
    found = optimize.linprog(-weights.numpy(), A_ub=rows.numpy(), b_ub=limits.numpy(), bounds=(None, None),
                             A_eq=torch.eye(n)[:1].numpy(), b_eq=[0.0], method="highs", options=PRECISE)
    return -found.fun, torch.tensor(found.x)


SIXTH = number(6 * [1 / 6] + 6 * [-1 / 6])


@pytest.mark.equation("eq-gan-dual", how="enumeration")
def test_the_steepest_function_measures_the_transport(generator, largest_error):
    for scale in (1.0, 3.0):
        x, y = randn(generator, 6, 2), scale * randn(generator, 6, 2)
        least, _ = transport(torch.cdist(x, y))
        largest, _ = steepest(torch.cat([x, y]), SIXTH)
        largest_error(abs(least - largest))
        assert abs(least - largest) < EXACT
        assert abs(steepest(torch.cat([x, y]), SIXTH, 1.1)[0] - least) > 0.05
        assert abs(transport(torch.cdist(x, y).square())[0] - least) > 0.01
        for centre in 3 * randn(generator, 20, 2):              # the distance to any point has slope 1 too
            other = (torch.cat([x, y]) - centre).norm(dim=1)
            assert abs((SIXTH * other).sum()) <= least + EXACT


@pytest.mark.equation("eq-gan-quantiles", how="enumeration")
def test_the_distance_on_the_line(generator, largest_error):
    x, y = randn(generator, 7), 2 * randn(generator, 7) + 1
    least, _ = transport((x[:, None] - y).abs())
    both = torch.cat([x, y]).sort().values
    cumulated = torch.stack([(part[:, None] <= both[:-1]).double().mean(0) for part in (x, y)])
    area = ((cumulated[0] - cumulated[1]).abs() * both.diff()).sum()
    sideways = (x.sort().values - y.sort().values).abs().mean()
    others = (least, area, sideways, stats.wasserstein_distance(x, y))
    errors = [abs(wasserstein(x, y) - other) for other in others]
    largest_error(max(errors))
    assert max(errors) < EXACT
    squares = (x.sort().values - y.sort().values).square().mean()
    for mutant in ((x - y).abs().mean(), (x.mean() - y.mean()).abs(), squares):
        assert abs(mutant - least) > 0.01


@pytest.mark.parametrize("x, y", [(torch.zeros(3), torch.zeros(4)), (torch.zeros(3, 1), torch.zeros(3, 1))])
def test_sets_that_do_not_match_are_refused(x, y):
    with pytest.raises(ValueError, match="equally many numbers"):
        wasserstein(x, y)


@pytest.mark.equation("eq-gan-clipping", how="enumeration")
def test_clipped_weights_measure_at_most_K_times_the_distance(generator, largest_error):
    """Networks with weights in [−c, c], by the code's loss; a matrix of nothing but c reaches its bound."""
    c, widths = 0.3, [2, 7, 5, 1]
    K = math.prod(c * math.sqrt(n * m) for n, m in itertools.pairwise(widths))
    x, y = randn(generator, 6, 2), randn(generator, 6, 2) + 1
    bound = K * transport(torch.cdist(x, y))[0]
    for seed in range(20):
        with seeded(seed):
            critic = fully_connected(widths, lambda: nn.LeakyReLU(0.2)).double()
        for weight in critic.parameters():
            weight.data.mul_(5).clamp_(-c, c)
        gain = -Wasserstein().discriminator(critic(x), critic(y))
        error = (gain.abs() - bound).clamp_min(0)
        largest_error(error)
        assert error < 1e-12
    for n, m in itertools.pairwise(widths):
        reached = norm_of(torch.full((m, n), c, dtype=torch.float64))
        largest_error(abs(reached - c * math.sqrt(n * m)))
        assert abs(reached - c * math.sqrt(n * m)) < 1e-12 and reached > c + 0.1    # mutant: c alone
    slope_of_k, _ = steepest(torch.cat([x, y]), SIXTH, K)     # functions of slope K give K times W₁
    assert abs(slope_of_k - bound) < EXACT and abs(slope_of_k / K - bound) > 0.1


@pytest.mark.equation("eq-gan-slope-one", how="enumeration")
def test_the_best_critic_climbs_by_one_along_each_road(generator, largest_error):
    """From f at the points, min_j (f(y_j) + ‖u − y_j‖) is the best function of slope 1 between them."""
    x, y = randn(generator, 6, 2), randn(generator, 6, 2) + 1.5
    _, plan = transport(torch.cdist(x, y))
    _, f = steepest(torch.cat([x, y]), SIXTH)

    def critic(u):
        return (f[6:] + (u[:, None] - y).norm(dim=2)).min(1).values

    assert (critic(torch.cat([x, y])) - f).abs().max() < 1e-8               # the same function at the points
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    for i, j in (plan > 1e-6).nonzero():
        road = critic(y[j] + t[:, None] * (x[i] - y[j]))
        error = (road - f[6 + j] - t * (x[i] - y[j]).norm()).abs().max()
        largest_error(error)
        assert error < 1e-8
    coupled = set(map(tuple, (plan > 1e-6).nonzero().tolist()))
    others = [(i, j) for i in range(6) for j in range(6) if (i, j) not in coupled]
    assert max(abs(f[i] - f[6 + j] - (x[i] - y[j]).norm()) for i, j in others) > 0.3     # mutant: any pair


def penalised_gain(w, distance, weight, mutant=None):
    """E f(x) − E f(G(z)) − penalty of f(x) = w x, data at the distance, samples at 0, by the code."""
    real, fake = torch.full((4, 1), distance, dtype=torch.float64), torch.zeros(4, 1, dtype=torch.float64)

    def logits(x):
        return (w * x).squeeze(1)

    penalty = (mutant or GradientPenalty(weight)).of(logits, real, fake, numbers(0))
    return -Wasserstein().discriminator(logits(real), logits(fake)) - penalty


@pytest.mark.equation("eq-gan-penalty-optimum", how="closed form")
def test_a_penalty_overshoots(largest_error):
    for distance, weight in ((2.0, 10.0), (0.5, 1.0), (3.0, 0.1)):
        best = number(1 + distance / (2 * weight)).requires_grad_()
        found = penalised_gain(best, distance, weight)
        slope, = torch.autograd.grad(found, best)
        error = max(abs(found - (distance + distance**2 / (4 * weight))), abs(slope))
        largest_error(error)
        assert error < 1e-12
        for other in (best.detach() - 0.1, best.detach() + 0.1, -best.detach(), number(1.0)):
            assert penalised_gain(other, distance, weight) < found
        pulled_to_0 = penalised_gain(best, distance, weight, R1(2 * weight))
        assert abs(pulled_to_0 - found) > 1e-3 and abs(torch.autograd.grad(pulled_to_0, best)[0]) > 1e-3


# --- hinge --------------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-gan-hinge-optimum", how="enumeration")
def test_the_hinge_loss_measures_total_variation(generator, largest_error):
    ticks = torch.linspace(-3, 3, 61, dtype=torch.float64)
    for _ in range(5):
        data, samples = two_laws(generator)
        p, q = law_of(data), law_of(samples)
        best = (p - q).sign()
        found = Hinge().discriminator(spread(best, data), spread(best, samples))
        gain = -Wasserstein().discriminator(spread(best, data), spread(best, samples))
        error = max(abs(found - (2 - 2 * variation(p, q))), abs(found - 2 * torch.minimum(p, q).sum()),
                    abs(gain - 2 * variation(p, q)))
        largest_error(error)
        assert error < 1e-12
        for state in range(7):                                  # no logit of any state does better
            for tick in ticks:
                other = best.clone()
                other[state] = tick
                assert Hinge().discriminator(spread(other, data), spread(other, samples)) > found - 1e-12
        assert abs(found - (2 - variation(p, q))) > 1e-2
        assert Hinge().discriminator(spread(-best, data), spread(-best, samples)) > found + 0.1


# --- penalties ----------------------------------------------------------------------------------------------


def smooth_judge(seed=3, inputs=4):
    with seeded(seed):
        judge = fully_connected([inputs, 7, 1], nn.Tanh).double()
    return judge, lambda x: judge(x).squeeze(1)


def slopes_by_differences(logits_of, x, small=1e-6):
    steps = small * torch.eye(x.shape[1], dtype=torch.float64)
    with torch.no_grad():
        return torch.stack([(logits_of(x + step) - logits_of(x - step)) / (2 * small) for step in steps], 1)


def test_slopes_are_those_of_differences(generator):
    _, logits_of = smooth_judge()
    x = randn(generator, 9, 4)
    found = slopes(logits_of, x)
    assert found.shape == x.shape and found.requires_grad and not x.requires_grad
    assert (found - slopes_by_differences(logits_of, x)).abs().max() < 1e-8


@pytest.mark.parametrize("weight", [1.0, 10.0])
def test_r1_is_its_formula(weight, generator):
    judge, logits_of = smooth_judge()
    real, fake = randn(generator, 9, 4), randn(generator, 9, 4)
    squares = slopes_by_differences(logits_of, real).square().sum(1)
    found = R1(weight).of(logits_of, real, fake, generator)
    assert found.shape == () and abs(found - 0.5 * weight * squares.mean()) < 1e-8
    mutants = [weight * squares.mean(), 0.5 * weight * squares.sum(),
               0.5 * weight * slopes_by_differences(logits_of, real).mean(0).square().sum(),
               0.5 * weight * slopes_by_differences(logits_of, fake).square().sum(1).mean()]
    assert min(abs(found - mutant) for mutant in mutants) > 1e-3
    check_gradient(judge, lambda: R1(weight).of(logits_of, real, fake, generator))


def check_gradient(judge, penalty, small=1e-6):
    """The penalty's slope in the judge's first weights, by autograd and by differences."""
    weights = judge[0].weight
    found, = torch.autograd.grad(penalty(), weights)
    for place in ((0, 0), (2, 3), (6, 1)):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weights[place] += sign * small
                values.append(penalty_value(penalty))
                weights[place] -= sign * small
        assert abs(found[place] - (values[0] - values[1]) / (2 * small)) < 1e-6


def penalty_value(penalty):
    with torch.enable_grad():
        return penalty().detach()


def test_the_gradient_penalty_is_its_formula(generator):
    judge, logits_of = smooth_judge()
    real, fake = randn(generator, 9, 4), randn(generator, 9, 4) + 2
    share = torch.rand(9, 1, generator=numbers(7), dtype=torch.float64)
    between = share * real + (1 - share) * fake
    length = slopes_by_differences(logits_of, between).norm(dim=1)
    found = GradientPenalty(10.0).of(logits_of, real, fake, numbers(7))
    assert found.shape == () and abs(found - 10 * (length - 1).square().mean()) < 1e-7
    one_share = torch.rand(1, 1, generator=numbers(7), dtype=torch.float64)
    at_once = slopes_by_differences(logits_of, one_share * real + (1 - one_share) * fake).norm(dim=1)
    mutants = [10 * (slopes_by_differences(logits_of, between).norm() - 1).square(),
               10 * (at_once - 1).square().mean(), 10 * length.square().mean(),
               10 * (slopes_by_differences(logits_of, between).norm(dim=0) - 1).square().mean()]
    assert min(abs(found - mutant) for mutant in mutants) > 1e-3
    check_gradient(judge, lambda: GradientPenalty(10.0).of(logits_of, real, fake, numbers(7)))


def test_the_points_between_lie_anywhere_between(generator):
    """The logit ½x² has the slope x, so that the penalty's mean tells where x̂ lies: uniformly."""
    real, fake = torch.full((40_000, 1), 3.0).double(), torch.full((40_000, 1), 1.0).double()
    found = GradientPenalty(1.0).of(lambda x: 0.5 * x.square().squeeze(1), real, fake, generator)
    assert abs(found - 4 / 3) < 4 * math.sqrt(4**2 * 4 / 45 / 40_000)       # E (2u)² of u uniform on [0, 1]


@pytest.mark.parametrize("made", [
    lambda: R1(-1.0), lambda: R1(math.nan), lambda: R1(1.0, every=0), lambda: GradientPenalty(-0.1),
    lambda: GradientPenalty(1.0, every=-2), lambda: DiracGAN(-0.5),
])
def test_weights_that_are_none_are_refused(made):
    with pytest.raises(ValueError, match="not negative|comes in every step"):
        made()


# --- spectral normalisation ---------------------------------------------------------------------------------


def norm_of(weight):
    return torch.linalg.matrix_norm(weight.detach(), 2)


@pytest.mark.equation("eq-gan-lipschitz", how="enumeration")
def test_a_network_is_no_steeper_than_the_product_of_its_norms(generator, largest_error):
    for seed in range(5):
        with seeded(seed):
            net = fully_connected([4, 6, 5, 1], lambda: nn.LeakyReLU(0.2)).double()
        product = math.prod(norm_of(layer.weight) for layer in net if isinstance(layer, nn.Linear))
        x, y = 3 * randn(generator, 400, 4), 3 * randn(generator, 400, 4)
        ratio = ((net(x) - net(y)).detach().squeeze(1).abs() / (x - y).norm(dim=1)).max()
        steepest_slope = slopes(lambda u: net(u).squeeze(1), x).norm(dim=1).max()
        error = (torch.maximum(ratio, steepest_slope) - product).clamp_min(0)
        largest_error(error)
        assert error < 1e-12 and steepest_slope > 0.1 * product
    linear = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)).double()       # the bound is reached: rank one
    with torch.no_grad():
        linear[0].weight.copy_(torch.outer(linear[1].weight[0], randn(generator, 3)))
    product = norm_of(linear[0].weight) * norm_of(linear[1].weight)
    reached = slopes(lambda u: linear(u).squeeze(1), randn(generator, 1, 3)).norm()
    assert abs(reached - product) < 1e-12
    largest_entry = linear[0].weight.abs().max() * linear[1].weight.abs().max()         # a mutant: entries
    assert reached > largest_entry + 1e-3


@pytest.mark.equation("eq-gan-power", how="enumeration")
def test_the_power_method_gains_the_square_of_the_ratio(generator, largest_error):
    """v in the basis of the singular vectors, one round each time that the layer is used in training."""
    layer = nn.Linear(4, 3, bias=False).double()
    left, right = (torch.linalg.qr(randn(generator, n, n))[0] for n in (3, 4))
    s = number([2.0, 1.7, 0.9])
    with torch.no_grad():
        layer.weight.copy_(left @ torch.diag(s) @ right[:, :3].T)
    power = spectral(layer).parametrizations.weight[0]
    start = number([0.3, 0.8, -0.5])
    power._v.copy_(right[:, :3] @ start / start.norm())
    power._u.copy_(F.normalize(layer.parametrizations.weight.original.detach() @ power._v, dim=0))
    for t in range(1, 9):
        layer(torch.zeros(1, 4, dtype=torch.float64))
        c = right[:, :3].T @ power._v
        exact = (s / s[0])**(2 * t) * start / start[0]
        largest_error((c / c[0] - exact).abs().max())
        assert (c / c[0] - exact).abs().max() < 1e-12
        assert abs(c[1] / c[0] - (s[1] / s[0])**t * start[1] / start[0]) > 0.1      # mutant: no square
    before = power._v.clone()
    layer.eval()(torch.zeros(1, 4, dtype=torch.float64))
    assert torch.equal(power._v, before)


def as_matrix(layer, channels, side):
    """The matrix of a convolution without bias: its columns are what it makes of single pixels."""
    pixels = torch.eye(channels * side * side, dtype=torch.float64)
    return layer(pixels.view(-1, channels, side, side)).flatten(1).T.detach()


@pytest.mark.equation("eq-gan-spectral-convolution", how="enumeration")
def test_a_convolution_is_steeper_than_its_kernel(generator, largest_error):
    for kernel, stride in ((4, 2), (3, 1), (5, 3), (2, 2), (4, 1)):
        layer = nn.Conv2d(2, 3, kernel, stride=stride, padding=kernel // 2, bias=False).double()
        for weights in randn(generator, 4, *layer.weight.shape):
            layer.weight.data.copy_(weights)
            ratio = norm_of(as_matrix(layer, 2, 9)) / norm_of(layer.weight.flatten(1))
            error = (ratio - math.ceil(kernel / stride)).clamp_min(0)
            largest_error(error)
            assert error < 1e-12
    even = nn.Conv2d(1, 1, 4, stride=2, bias=False).double()
    even.weight.data.fill_(1.0)
    ratio = norm_of(as_matrix(even, 1, 24)) / norm_of(even.weight.flatten(1))
    assert 1.9 < ratio < 2                                  # nearly reached; "1-Lipschitz" would be wrong


def test_spectral_divides_every_weight_by_its_norm(generator):
    with seeded(0):
        net = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 32), nn.Unflatten(1, (2, 4, 4)),
                            nn.ConvTranspose2d(2, 3, 4, 2, 1), nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2),
                            nn.Flatten())
        names = [name for name, _ in net.named_parameters()]
        net = spectral(net.double(), 60)
    net(randn(generator, 5, 6))
    for layer, weight in ((net[0], net[0].weight), (net[2], net[2].weight),
                          (net[4], net[4].weight.transpose(0, 1)), (net[5], net[5].weight)):
        assert abs(norm_of(weight.flatten(1)) - 1) < 1e-6
        assert isinstance(layer, nn.Module) and layer.bias is not None
    assert not hasattr(net[6], "parametrizations") and len(list(net.parameters())) == len(names)


def test_a_spectral_judge_is_nowhere_steep(generator):
    with seeded(0):
        net = spectral(fully_connected([4, 32, 32, 1], lambda: nn.LeakyReLU(0.2)).double(), 60)
    x = 3 * randn(generator, 1000, 4)
    assert slopes(lambda u: net(u).squeeze(1), x).norm(dim=1).max() <= 1 + 1e-6
    assert spectral(net) is net
    once = [len(layer.parametrizations.weight) for layer in net if isinstance(layer, nn.Linear)]
    assert once == [1, 1, 1]                                                # asked twice, done once


# --- packs and labels ---------------------------------------------------------------------------------------


def packed_law(p, m):
    """The law of m independent draws, flat."""
    law = p
    for _ in range(m - 1):
        law = torch.outer(law, p).flatten()
    return law


def covered_jsd(s):
    return LOG_TWO + 0.5 * (s * math.log(s) - (1 + s) * math.log(1 + s))


@pytest.mark.equation("eq-gan-packed-tv", "eq-gan-packed-jsd", how="enumeration")
def test_packs_see_what_is_missing(generator, largest_error):
    data = randn(generator, 8).softmax(0)
    for modes in (7, 5, 2):
        s = data[:modes].sum().item()
        samples = torch.where(torch.arange(8) < modes, data / s, 0)
        for m in (1, 2, 3):
            p, q = packed_law(data, m), packed_law(samples, m)
            tv, jsd = abs(variation(p, q) - (1 - s**m)), abs(jensen_shannon(p, q) - covered_jsd(s**m))
            largest_error(tv, "eq-gan-packed-tv")
            largest_error(jsd, "eq-gan-packed-jsd")
            assert max(tv, jsd) < 1e-12
            if m > 1:
                assert abs(variation(p, q) - (1 - s / m)) > 1e-2
                assert abs(jensen_shannon(p, q) - covered_jsd(s)) > 1e-3


@pytest.mark.equation("eq-gan-packed-preference", how="enumeration")
def test_packing_dislikes_collapse_most(largest_error):
    even = torch.full((10,), 0.1, dtype=torch.float64)
    missing = number(2 * [0.0] + 8 * [0.125])               # uniform on [.2, 1]
    tilted = number(5 * [0.06] + 5 * [0.14])                # densities .6 and 1.4 on the halves
    for law, exact in ((missing, (0.2, 0.36)), (tilted, (0.2, 0.24))):
        assert abs(law.sum() - 1) < 1e-12
        for m, number_of in zip((1, 2), exact):
            error = abs(variation(packed_law(even, m), packed_law(law, m)) - number_of)
            largest_error(error)
            assert error < 1e-12
    assert abs(variation(packed_law(even, 2), packed_law(tilted, 2)) - 0.36) > 0.1


@pytest.mark.equation("eq-gan-conditional", how="enumeration")
def test_the_value_with_labels(generator, largest_error):
    """Two labels with the same share on both sides: a logit for each state and label, by Newton's steps."""
    data = torch.randint(1, 9, (2, 6), generator=generator)
    samples = torch.randint(1, 9, (2, 6), generator=generator)
    samples = samples * data.sum(1, keepdim=True)
    data = data * (samples.sum(1) // data.sum(1))[:, None]        # as many of each label on both sides
    p, q = law_of(data), law_of(samples)
    best = best_logits(NonSaturating(), data.flatten(), samples.flatten())
    found = value(spread(best, data.flatten()), spread(best, samples.flatten()))
    share = p.sum(1)
    assert (share - q.sum(1)).abs().max() < 1e-12
    exact = -2 * LOG_TWO + 2 * (share * jensen_shannon(p / share[:, None], q / q.sum(1, keepdim=True))).sum()
    largest_error(abs(found - exact))
    assert abs(found - exact) < 1e-12
    assert abs(found - (2 * jensen_shannon(p.sum(0), q.sum(0)) - 2 * LOG_TWO)) > 1e-3        # labels not seen


# --- batch normalisation's second argument ------------------------------------------------------------------


@pytest.mark.equation("eq-gan-batch-norm-gain", how="closed form")
def test_eps_is_a_gain(generator, largest_error):
    for eps, deviation in ((0.8, 0.2), (0.8, 1.0), (1e-5, 0.02)):
        x = deviation * randn(generator, 50, 3, 4, 4)
        v = x.var((0, 2, 3), correction=0)
        found = nn.BatchNorm2d(3, eps).double()(x).std((0, 2, 3), correction=0).detach()
        largest_error((found - (v / (v + eps)).sqrt()).abs().max())
        assert (found - (v / (v + eps)).sqrt()).abs().max() < 1e-12
        assert (found - (v / (v + 0.8 - eps)).sqrt()).abs().max() > 0.01
        assert (found - v.sqrt() / (v.sqrt() + eps)).abs().max() > 1e-4


# --- laws in the plane --------------------------------------------------------------------------------------


def test_the_ring_has_eight_places_of_one_weight(generator):
    """A well-known ring takes eight angles from 0 to 2π with both ends: seven places, one twice as often."""
    law = ring()
    assert law.centres.shape == (8, 2) and torch.cdist(law.centres, law.centres).fill_diagonal_(9).min() > 1
    assert (law.centres.norm(dim=1) - 2).abs().max() < 1e-6 and law.centres[0].tolist() == [2, 0]
    x = law.sample(40_000, generator)
    mode = torch.cdist(x, law.centres).argmin(1)
    assert stats.chisquare(mode.bincount()).pvalue > 1e-4
    noise = ((x - law.centres[mode]) / law.deviation).double()
    assert min(stats.kstest(noise[:, i].numpy(), "norm").pvalue for i in (0, 1)) > 1e-4
    angle = torch.linspace(0, 2 * math.pi, 8)
    seven = 2 * torch.stack([angle.cos(), angle.sin()], 1)
    assert torch.cdist(seven, seven).fill_diagonal_(9).min() < 1e-6


def test_the_grid_is_a_square_of_five_by_five(generator):
    law = grid()
    assert sorted(map(tuple, law.centres.tolist())) == list(itertools.product((-4, -2, 0, 2, 4), repeat=2))
    assert law.deviation == 0.05 and law.sample(7, generator).shape == (7, 2)
    assert grid(2, 1.0).centres.abs().unique().tolist() == [0.5]
    wide = Gaussians(number([[0.0, 1.0, 2.0]]), 0.1).sample(5, generator)
    assert wide.dtype == torch.float64 and wide.shape == (5, 3)
    assert torch.equal(law.sample(9, numbers(1)), law.sample(9, numbers(1)))


@pytest.mark.parametrize("centres, deviation", [
    (torch.zeros(3), 0.1), (torch.zeros(0, 2), 0.1), (torch.zeros(3, 2), 0.0), (torch.zeros(3, 2), math.nan),
])
def test_gaussians_that_are_none_are_refused(centres, deviation):
    with pytest.raises(ValueError, match=r"Centres are \(modes, numbers\)"):
        Gaussians(centres, deviation)


# --- the convolutional networks -----------------------------------------------------------------------------


def layers_of(network, kind):
    return [layer for layer in network.modules() if isinstance(layer, kind)]


@pytest.mark.parametrize("side, channels, widths", [
    (28, 1, [6, 3]), (8, 2, [3]), (64, 3, [24, 12, 6, 3]), (10, 1, [3]), (48, 1, [12, 6, 3]),
])
def test_a_dcgan_doubles_and_halves(side, channels, widths, generator):
    with seeded(0):
        make = dcgan_generator(5, side=side, channels=channels, width=3)
        judge = dcgan_discriminator(side=side, channels=channels, width=3)
    x = make(torch.randn(4, 5, generator=generator))
    assert x.shape == (4, channels * side**2) and x.abs().max() <= 1 and judge(x).shape == (4, 1)
    up, down = layers_of(make, nn.ConvTranspose2d), layers_of(judge, nn.Conv2d)
    assert [layer.in_channels for layer in up] == widths
    assert [layer.out_channels for layer in down] == widths[::-1]
    assert [layer.out_channels for layer in up] == [*widths[1:], channels] and down[0].in_channels == channels
    shapes = {(layer.kernel_size, layer.stride, layer.padding) for layer in up + down}
    assert shapes == {((4, 4), (2, 2), (1, 1))}
    assert [norm.num_features for norm in layers_of(make, nn.BatchNorm2d)] == widths
    assert [norm.num_features for norm in layers_of(judge, nn.BatchNorm2d)] == widths[::-1][1:]
    assert [layer.bias is None for layer in down] == [False] + [True] * (len(widths) - 1)
    assert [layer.bias is None for layer in up] == [True] * (len(widths) - 1) + [False]
    assert isinstance(make[-2], nn.Tanh) and isinstance(judge[-1], nn.Linear) and make[0].bias is None


@pytest.mark.parametrize("side", [30, 27, 4, 7, 2, 1, 0, -8, 9, 36, 100, 28 * 512])
def test_sides_that_no_dcgan_makes_are_refused(side):
    for build in (lambda: dcgan_generator(5, side=side), lambda: dcgan_discriminator(side=side)):
        with pytest.raises(ValueError, match=f"side 4, 5, 6 or 7.* 28 or 64.*{side} was asked for: pad"):
            build()


def test_a_dcgan_begins_with_the_papers_weights():
    with seeded(1):
        make, judge = dcgan_generator(50, width=32), dcgan_discriminator(width=32, slope=0.3)
    for network in (make, judge):
        weights = torch.cat([layer.weight.flatten() for layer in
                             layers_of(network, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))]).detach()
        gains = torch.cat([norm.weight for norm in layers_of(network, nn.BatchNorm2d)]).detach()
        assert abs(weights.std() - 0.02) < 2e-4 and abs(weights.mean()) < 2e-4
        assert abs(gains.std() - 0.02) < 5e-3 and abs(gains.mean() - 1) < 1e-2
        biases = [each for name, each in network.named_parameters() if name.endswith("bias")]
        assert biases and all(each.abs().max() == 0 for each in biases)
    assert {layer.negative_slope for layer in layers_of(judge, nn.LeakyReLU)} == {0.3}
    assert {norm.eps for norm in layers_of(dcgan_generator(5, width=2), nn.BatchNorm2d)} == {1e-5}
    odd = dcgan_generator(5, width=2, eps=0.8)
    assert {(norm.eps, norm.momentum) for norm in layers_of(odd, nn.BatchNorm2d)} == {(0.8, 0.1)}
    plain = dcgan_discriminator(width=2, normalise=False)
    assert not layers_of(plain, nn.BatchNorm2d)
    assert all(layer.bias is not None for layer in layers_of(plain, nn.Conv2d))


@pytest.mark.parametrize("normalise", [True, False])
def test_a_hidden_layer_comes_first_and_last(normalise, generator):
    make = dcgan_generator(5, side=8, width=3, hidden=7, classes=2, eps=0.3)
    judge = dcgan_discriminator(side=8, width=3, hidden=6, slope=0.4, normalise=normalise)
    kinds = [type(layer).__name__ for layer in make[:5]]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Linear", "Unflatten"] and make[1].eps == 0.3
    assert make[0].bias is None and make[0].in_features == make[0].out_features == make[3].in_features == 7
    end = ["Flatten", "Linear", *["BatchNorm1d"] * normalise, "LeakyReLU", "Linear"]
    assert [type(layer).__name__ for layer in judge[-len(end):]] == end
    assert judge[-len(end) + 1].out_features == judge[-1].in_features == 6 and judge[-2].negative_slope == 0.4
    assert (judge[-len(end) + 1].bias is None) == normalise
    x = make(torch.randn(4, 7, generator=generator))
    assert x.shape == (4, 64) and judge(x).shape == (4, 1)
    if normalise:                                                           # it mixes rows as the others do
        with pytest.raises(ValueError, match="normalise=False"):
            learner_of(GAN(dcgan_generator(5, side=8, width=3), judge, 5), penalty=R1())
        assert abs(make[1].weight.mean() - 1) < 0.05 and abs(judge[-3].weight.mean() - 1) < 0.05


def test_a_discriminator_without_batch_norm_judges_each_row_by_itself(generator):
    with seeded(0):
        judge, mixing = dcgan_discriminator(side=8, width=4, normalise=False), dcgan_discriminator(width=4)
    x = torch.randn(6, 64, generator=generator)
    assert torch.allclose(judge(x)[:2], judge(x[:2]), atol=1e-6)
    y = torch.randn(6, 784, generator=generator)
    assert not torch.allclose(mixing(y)[:2], mixing(y[:2]), atol=1e-4)


def test_planes_put_every_number_in_its_place(generator):
    """Two samples of 2 × 3 × 5 with 4 labels, one by one."""
    planes = Planes(2, 3, 5, classes=4, packed=2)
    x = randn(generator, 3, 2 * (2 * 15 + 4))
    found = planes(x)
    assert found.shape == (3, 2 * 6, 3, 5)
    for row, sample in itertools.product(range(3), range(2)):
        own = x[row, 34 * sample:34 * (sample + 1)]
        for channel, i, j in itertools.product(range(2), range(3), range(5)):
            assert found[row, 6 * sample + channel, i, j] == own[15 * channel + 5 * i + j]
        for label in range(4):
            assert (found[row, 6 * sample + 2 + label] == own[30 + label]).all()
    assert torch.equal(Planes(1, 3, 5)(x[:, :15]), x[:, :15].view(3, 1, 3, 5))


# --- the machine --------------------------------------------------------------------------------------------


def tiny(packed=1, classes=0, seed=0, dtype=torch.float64, last=(), latent=3, numbers=2):
    with seeded(seed):
        make = nn.Sequential(*fully_connected([latent + classes, 8, numbers], nn.Tanh), *last)
        judge = fully_connected([packed * (numbers + classes), 8, 1], nn.Tanh)
    return GAN(make, judge, latent, classes=classes, packed=packed).to(dtype)


def test_packs_are_samples_that_follow_each_other(generator):
    gan = tiny(packed=3)
    x = randn(generator, 12, 2)
    rows = gan.packs(x)
    assert rows.shape == (4, 6) and torch.equal(rows[1], torch.cat([x[3], x[4], x[5]]))
    assert torch.equal(gan.logits(x), gan.discriminator(rows).squeeze(1)) and gan.logits(x).shape == (4,)
    interleaved = x.view(3, 4, 2).transpose(0, 1).reshape(4, 6)
    assert not torch.equal(rows, interleaved)
    assert gan.packs(x[:0]).shape == (0, 6) and gan.logits(x[:0]).shape == (0,)
    labelled, labels = tiny(packed=2, classes=3), torch.tensor([2, 0, 1, 1])
    assert labelled.packs(x[:4], labels)[1].tolist() == [*x[2].tolist(), 0, 1, 0, *x[3].tolist(), 0, 1, 0]


def test_labels_are_one_hot_codes_on_both_sides(generator):
    gan, labels = tiny(classes=3), torch.tensor([2, 0, 1, 2])
    z, x, codes = randn(generator, 4, 3), randn(generator, 4, 2), F.one_hot(labels, 3).double()
    assert torch.equal(gan.generate(z, labels), gan.generator(torch.cat([z, codes], 1)))
    assert torch.equal(gan.logits(x, labels), gan.discriminator(torch.cat([x, codes], 1)).squeeze(1))
    assert torch.equal(gan.generate(z, labels.int()), gan.generate(z, labels))
    assert gan.sample(4, generator, labels).shape == (4, 2)


def test_samples_are_what_the_generator_makes_of_normal_noise(generator):
    gan = tiny(seed=2)
    x = gan.sample(5, numbers(3))
    z = torch.randn(5, 3, generator=numbers(3), dtype=torch.float64)
    assert torch.equal(gan.draw(5, numbers(3)), z) and torch.equal(gan.generator(z), x)
    assert not x.requires_grad
    assert gan.generate(z).requires_grad and gan.sample(0, generator).shape == (0, 2)
    assert gan.float().sample(2, generator).dtype == torch.float32


@pytest.mark.parametrize("call, words", [
    (lambda: tiny().generate(torch.zeros(4, 2).double()), r"\(batch, 3\), but \(4, 2\)"),
    (lambda: tiny().generate(torch.zeros(3).double()), r"\(batch, 3\), but \(3,\)"),
    (lambda: tiny(packed=2).logits(torch.zeros(5, 2).double()), r"multiple of 2 rows; \(5, 2\)"),
    (lambda: tiny().logits(torch.zeros(5).double()), r"multiple of 1 rows; \(5,\)"),
    (lambda: tiny(classes=2).sample(4, numbers(0)), "given labels, and none came"),
    (lambda: tiny().sample(4, numbers(0), torch.zeros(4).long()), "knows no labels, and some came"),
    (lambda: tiny(classes=2).sample(4, numbers(0), torch.zeros(3).long()), r"shape \(4,\); \(3,\) of type"),
    (lambda: tiny(classes=2).sample(4, numbers(0), torch.zeros(4)), "whole numbers.*float32"),
    (lambda: tiny(classes=2).sample(4, numbers(0), torch.zeros(4).bool()), "whole numbers.*bool"),
    (lambda: tiny(classes=2).sample(2, numbers(0), torch.tensor([0, 2])), "Labels are 0 to 1, but 0 to 2"),
    (lambda: tiny(classes=2).sample(2, numbers(0), torch.tensor([-1, 0])), "Labels are 0 to 1, but -1 to 0"),
    (lambda: GAN(nn.Linear(2, 2), nn.Linear(2, 1), 0), "at least 1"),
    (lambda: GAN(nn.Linear(2, 2), nn.Linear(2, 1), 2, packed=0), "packed=0, classes=0 came"),
    (lambda: GAN(nn.Linear(2, 2), nn.Linear(2, 1), 2, classes=-1), "classes=-1 came"),
    (lambda: GAN(nn.Linear(2, 2), nn.Linear(2, 2), 2).logits(torch.zeros(4, 2)), r"\(4, 1\), but \(4, 2\)"),
    (lambda: GAN(nn.Linear(2, 2), nn.Flatten(0), 2).logits(torch.zeros(4, 2)), r"\(4, 1\), but \(8,\)"),
])
def test_what_a_machine_cannot_take_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("last, limits", [
    ((), None), ((nn.Tanh(),), (-1, 1)), ((nn.Sigmoid(),), (0, 1)), ((nn.Tanh(), nn.Flatten()), (-1, 1)),
    ((nn.Tanh(), nn.Linear(2, 2)), None), ((nn.Tanh(), nn.ReLU()), None),
    ((nn.Sigmoid(), nn.Identity()), (0, 1)), ((nn.Tanh(), nn.Sigmoid()), (0, 1)),
    ((nn.Sequential(nn.Linear(2, 2), nn.Tanh()),), (-1, 1)),
])
def test_the_range_is_that_of_the_last_layer(last, limits):
    assert tiny(last=last).range == limits


# --- learning, against a loop by hand -----------------------------------------------------------------------


class Loop:
    """Alternating steps in plain PyTorch, with nothing of the learner: what it has to do, step for step."""

    def __init__(self, gan, loss, noise, *, steps=1, penalty=None, decay=0.0, rate=0.01):
        self.gan, self.loss, self.noise, self.steps, self.penalty = gan, loss, noise, steps, penalty
        self.to_make = torch.optim.Adam(gan.generator.parameters(), rate)
        self.to_judge = torch.optim.SGD(gan.discriminator.parameters(), 3 * rate, momentum=0.5)
        self.mean, self.decay, self.number = copy.deepcopy(gan.generator), decay, 0

    def coded(self, x, labels):
        return x if labels is None else torch.cat([x, F.one_hot(labels, self.gan.classes).to(x.dtype)], 1)

    def judge(self, x, labels):
        packed, rows = self.gan.packed, self.coded(x, labels)
        return self.gan.discriminator(torch.cat([rows[i::packed] for i in range(packed)], 1)).squeeze(1)

    def make(self, count, labels):
        z = torch.randn(count, self.gan.latent, generator=self.noise, dtype=torch.float64)
        return self.gan.generator(self.coded(z, labels))

    def penalised(self, real, fake, labels):
        packed = self.gan.packed
        if isinstance(self.penalty, GradientPenalty):
            share = torch.rand(len(real) // packed, 1, generator=self.noise, dtype=torch.float64)
            share = share.repeat_interleave(packed, 0)
            x = (share * real + (1 - share) * fake).requires_grad_()
        else:
            x = real.clone().requires_grad_()
        slope, = torch.autograd.grad(self.judge(x, labels).sum(), x, create_graph=True)
        squares = slope.square().sum(1).view(-1, packed).sum(1)
        if isinstance(self.penalty, GradientPenalty):
            return self.penalty.weight * (squares.sqrt() - 1).square().mean()
        return 0.5 * self.penalty.weight * squares.mean()

    def step(self, x, labels=None):
        self.number += 1
        size, found = len(x) // self.steps, {}
        for start in range(0, len(x), size):
            real, given = x[start:start + size], None if labels is None else labels[start:start + size]
            fake = self.make(size, given).detach()
            fake_logits, real_logits = self.judge(fake, given), self.judge(real, given)
            total = loss = self.loss.discriminator(real_logits, fake_logits)
            penalty = torch.zeros((), dtype=torch.float64)
            if self.penalty is not None and self.number % self.penalty.every == 0:
                penalty = self.penalty.every * self.penalised(real, fake, given)
                total = loss + penalty
            self.to_judge.zero_grad()
            total.backward()
            self.to_judge.step()
            found = {"generated_largest": fake.abs().max(), "discriminator_loss": loss, "penalty": penalty,
                     "real_logit": real_logits.mean(), "fake_logit": fake_logits.mean()}
        answers = self.judge(self.make(size, given), given)
        loss = self.loss.generator(answers)
        self.to_make.zero_grad()
        loss.backward()
        self.to_make.step()
        gradient = torch.cat([weight.grad.flatten() for weight in self.gan.generator.parameters()]).norm()
        with torch.no_grad():
            for mean, weight in zip(self.mean.parameters(), self.gan.generator.parameters()):
                mean.copy_(self.decay * mean + (1 - self.decay) * weight)
        return {name: part.item() for name, part in found.items()} | {
            "answered_logit": answers.mean().item(), "generator_loss": loss.item(),
            "generator_gradient": gradient.item()}


def learner_of(gan, loss=NonSaturating(), *, rate=0.01, **options):
    return AdversarialLearner(gan, torch.optim.Adam(gan.generator.parameters(), rate),
                              torch.optim.SGD(gan.discriminator.parameters(), 3 * rate, momentum=0.5), loss,
                              **options)


PLANE = ring(3, deviation=0.1).sample(240, numbers(5)).double()
LABELS = torch.randint(3, (240,), generator=numbers(6))
LOOPS = {
    "plain": ({}, {}),
    "saturating": ({}, {"loss": Saturating()}),
    "hinge, three steps": ({}, {"loss": Hinge(), "discriminator_steps": 3}),
    "packed": ({"packed": 3}, {"averaging": 0.9}),
    "labels": ({"classes": 3}, {"loss": Saturating()}),
    "labels, packed, two steps": ({"classes": 3, "packed": 2}, {"discriminator_steps": 2, "averaging": 0.5}),
    "R1": ({}, {"penalty": R1(2.0)}),
    "R1 now and then": ({"packed": 2}, {"penalty": R1(1.5, every=3), "discriminator_steps": 2}),
    "R1, labels": ({"classes": 3, "packed": 2}, {"penalty": R1(2.0)}),
    "gradient penalty": ({}, {"loss": Wasserstein(), "penalty": GradientPenalty(3.0)}),
    "gradient penalty, all": ({"classes": 3, "packed": 2}, {
        "loss": Wasserstein(), "penalty": GradientPenalty(3.0, every=2), "discriminator_steps": 2}),
}


def largest_difference(one, two):
    return max((a - b).abs().max().item() for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("kind", LOOPS)
def test_learning_is_the_loop_by_hand(kind):
    """12 steps on all examples in their own order: weights and metrics, bit for bit where nothing is added up
    in another order."""
    parts, options = LOOPS[kind]
    learner = learner_of(tiny(**parts), **options)
    labels = LABELS if "classes" in parts else None
    data = PLANE if labels is None else {"x": PLANE, "labels": labels}
    settings = TrainingSettings(steps=12, report_every=1)
    history = train(learner, data, settings, device="cpu", seed=4, progress=False)
    noise = training.derived_generator(4, "noise", "cpu")
    loop = Loop(tiny(**parts), options.get("loss", NonSaturating()), noise,
                steps=options.get("discriminator_steps", 1), penalty=options.get("penalty"),
                decay=options.get("averaging", 0.0))
    rows = [loop.step(PLANE, labels) for _ in range(12)]
    exact = 0.0 if "penalty" not in options and kind != "packed" else 1e-12
    assert largest_difference(learner.gan.parameters(), loop.gan.parameters()) <= max(exact, 1e-15)
    names = [name for name in history.rows[0] if name not in ("step", "epoch")]
    assert names == list(rows[0])
    for mine, theirs in zip(history.rows, rows, strict=True):
        assert max(abs(mine[name] - theirs[name]) / (1 + abs(theirs[name])) for name in names) < 1e-12
    if "averaging" in options:
        assert largest_difference(learner.averaged.generator.parameters(), loop.mean.parameters()) < 1e-12
        assert largest_difference(learner.gan.generator.parameters(), loop.mean.parameters()) > 1e-3
    assert largest_difference(tiny(**parts).parameters(), loop.gan.parameters()) > 1e-2
    if "penalty" in options:
        assert (sum(row["penalty"] > 0 for row in history.rows)) == 12 // options["penalty"].every


def context_of(step=1, batch_size=24, processes=1, **options):
    context = training.make_context(TrainingSettings(steps=1, **options), 0, "cpu", None)
    context.step, context.epoch, context.batch_size = step, 1, batch_size
    return context


def test_no_player_disturbs_the_other():
    learner = learner_of(tiny(), penalty=R1(1.0))
    before = copy.deepcopy(learner.gan.state_dict())
    learner.discriminator_step(PLANE[:24], None, context_of())
    for name, now in learner.gan.state_dict().items():
        assert torch.equal(now, before[name]) == name.startswith("generator"), name
    assert all(weight.grad is None for weight in learner.gan.generator.parameters())
    gradients = [weight.grad.clone() for weight in learner.gan.discriminator.parameters()]
    before = copy.deepcopy(learner.gan.state_dict())
    learner.generator_step(24, None, context_of())
    for name, now in learner.gan.state_dict().items():
        assert torch.equal(now, before[name]) == name.startswith("discriminator"), name
    after = [weight.grad for weight in learner.gan.discriminator.parameters()]
    assert all(map(torch.equal, gradients, after))


def test_two_learning_rates_and_their_schedules():
    learner = learner_of(tiny())
    optimizers = learner.optimizers
    schedule = training.cosine_schedule(optimizers["generator"], 8)
    scheduled = AdversarialLearner(learner.gan, optimizers["generator"], optimizers["discriminator"],
                                   schedulers={"generator": schedule})
    assert list(scheduled.schedulers) == ["generator"] and list(learner_of(tiny()).schedulers) == []
    train(scheduled, PLANE, TrainingSettings(steps=4, batch_size=24), device="cpu", progress=False)
    assert abs(optimizers["generator"].param_groups[0]["lr"] - 0.005) < 1e-12
    assert optimizers["discriminator"].param_groups[0]["lr"] == 0.03


class Place(nn.Module):
    """All samples at one number θ."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(number([theta]))

    def forward(self, z):
        return self.theta.expand(len(z), 1)


@pytest.mark.parametrize("gamma", [0.0, 0.6])
@pytest.mark.parametrize("loss", [Saturating(), NonSaturating()])
def test_the_learner_walks_as_the_dirac_gan_does(gamma, loss):
    """Alternating steps, the discriminator's first: by the learner, and by the field of section 8."""
    judge = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(judge.weight, -0.4)
    gan, rate = GAN(Place(0.7), judge, 1), 0.3
    learner = AdversarialLearner(gan, torch.optim.SGD(gan.generator.parameters(), rate),
                                 torch.optim.SGD(judge.parameters(), rate), loss, penalty=R1(gamma))
    dirac, (theta, phi), path = DiracGAN(gamma, isinstance(loss, NonSaturating)), ORIGIN, []
    for step in range(40):
        phi = phi + rate * dirac.field(theta, phi)[1]
        theta = theta + rate * dirac.field(theta, phi)[0]
        learner.training_step(torch.zeros(8, 1, dtype=torch.float64), context_of(step + 1))
        path.append(max(abs(gan.generator.theta.item() - theta), abs(judge.weight.item() - phi)))
    assert max(path) < 1e-13 and radius2(theta, phi).sqrt() > 1e-3
    assert (radius2(theta, phi) < 0.1) == (gamma > 0)


# --- the averaged generator ---------------------------------------------------------------------------------


def dcgan(classes=0, packed=1, normalise=True, dtype=torch.float32):
    with seeded(3):
        return GAN(dcgan_generator(4, side=8, width=3, classes=classes),
                   dcgan_discriminator(side=8, width=3, classes=classes, packed=packed, normalise=normalise),
                   4, classes=classes, packed=packed).to(dtype)


IMAGES = (2 * torch.rand(60, 64, generator=numbers(8)) - 1).clamp(-0.999, 0.999)
IMAGES[0, :2] = torch.tensor([-1.0, 1.0])


def unchanged(module, before):
    return all(torch.equal(now, before[name]) for name, now in module.state_dict().items())


def test_the_averaged_generator_follows_weights_and_statistics():
    learner = learner_of(dcgan(dtype=torch.float64), averaging=0.8)
    mean, context = copy.deepcopy(learner.gan.generator.state_dict()), context_of()
    learner.module.train()
    for _ in range(5):
        learner.training_step(IMAGES[:20].double(), context)
        now = learner.gan.generator.state_dict()
        mean = {name: 0.8 * mean[name] + 0.2 * now[name] if now[name].is_floating_point() else now[name]
                for name in now}
    found = learner.averaged.generator.state_dict()
    assert max((found[name] - mean[name]).abs().max() for name in mean) < 1e-12
    assert found["2.num_batches_tracked"] == 10                             # both players' steps moved it
    assert learner.averaged.discriminator is learner.gan.discriminator
    assert not any(weight.requires_grad for weight in learner.averaged.generator.parameters())
    assert (found["2.running_mean"] - learner.gan.generator[2].running_mean).abs().max() > 1e-6


def test_an_averaged_sample_does_not_hang_on_its_batch():
    learner = learner_of(dcgan(), averaging=0.8)
    learner.module.train()
    learner.training_step(IMAGES[:20], context_of())
    before = copy.deepcopy(learner.averaged.generator.state_dict())
    z = torch.randn(6, 4, generator=numbers(0))
    assert torch.allclose(learner.averaged.generate(z)[:2], learner.averaged.generate(z[:2]), atol=1e-6)
    assert unchanged(learner.averaged.generator, before)
    assert learner.gan.generator.training and learner.gan.discriminator.training


def test_without_averaging_a_copy_of_the_generator_is_sampled():
    learner = learner_of(dcgan())
    learner.module.train()
    learner.training_step(IMAGES[:20], context_of())
    before, machine = copy.deepcopy(learner.module.state_dict()), learner.averaged
    x = machine.sample(6, numbers(0))
    machine.eval()
    assert torch.equal(machine.sample(6, numbers(0)), x) and not machine.generator.training
    assert unchanged(learner.module, before)
    assert not any("averaged" in name for name in before)
    assert torch.equal(x, copy.deepcopy(learner.gan).eval().sample(6, numbers(0)))


def test_a_spectral_generator_keeps_its_norms_when_averaged():
    gan = tiny()
    with seeded(0):
        spectral(gan.generator, 3)
    learner = learner_of(gan, averaging=0.9, rate=0.03)
    train(learner, PLANE, TrainingSettings(steps=60, batch_size=24), device="cpu", progress=False)
    norms = [norm_of(layer.weight) for layer in layers_of(learner.averaged.generator, nn.Linear)]
    assert max(norms) < 1.2 and min(norms) > 0.8


# --- what is measured ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed, classes, batch", [(1, 0, 1000), (2, 0, 7), (3, 3, 10), (2, 3, 1)])
def test_held_out_data_are_judged_with_averaged_samples(packed, classes, batch):
    learner = learner_of(tiny(packed=packed, classes=classes), averaging=0.7)
    with torch.no_grad():
        learner.module.averaged[0].weight.add_(0.3)
    x, labels = PLANE[:47], LABELS[:47] if classes else None
    found = evaluate(learner, {"x": x, "labels": labels} if classes else x, device="cpu", batch_size=batch)
    count = 47 - 47 % packed
    labels = labels[:count] if classes else None
    noise = training.derived_generator(training.derived_seed(0, "evaluation"), "noise", "cpu")
    rows, fake = max(packed, batch - batch % packed), []
    for start in range(0, count, rows):
        part = min(rows, count - start)
        fake.append(learner.averaged.sample(part, noise, labels[start:start + part] if classes else None))
    real_logits = learner.gan.logits(x[:count], labels)
    fake_logits = learner.gan.logits(torch.cat(fake), labels)
    assert abs(found["value"] - value(real_logits, fake_logits)) < 1e-12
    assert abs(found["real_logit"] - real_logits.mean()) < 1e-12
    assert abs(found["fake_logit"] - fake_logits.mean()) < 1e-12
    assert list(found) == ["value", "real_logit", "fake_logit"]


def test_nothing_is_measured_without_data():
    learner = learner_of(tiny(packed=3))
    assert evaluate(learner, None, device="cpu") == {} and evaluate(learner, PLANE[:2], device="cpu") == {}


def test_measuring_changes_nothing_that_is_trained():
    def run(**options):
        learner = learner_of(dcgan(classes=2), averaging=0.9)
        settings = TrainingSettings(steps=6, batch_size=20, evaluate_every=2)
        train(learner, {"x": IMAGES, "labels": LABELS[:60] % 2}, settings, device="cpu", progress=False,
              **options)
        return learner.module.state_dict()

    plain = run()
    for watched in (run(evaluation_data={"x": IMAGES[:30], "labels": LABELS[:30] % 2}),
                    run(watch=lambda learner, _, context: learner.picture(context))):
        assert plain.keys() == watched.keys()
        assert all(torch.equal(plain[name], watched[name]) for name in plain)


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_the_picture_is_of_fixed_z_and_moves_nothing(averaging):
    learner = learner_of(dcgan(classes=3), averaging=averaging, shown=7)
    learner.module.train()
    learner.training_step({"x": IMAGES[:20], "labels": LABELS[:20]}, context_of())
    before = copy.deepcopy(learner.module.state_dict())
    found = learner.picture(context_of())
    assert found.shape == (7, 8, 8) and found.min() >= 0 and found.max() <= 1 and not found.requires_grad
    assert torch.equal(found, learner.picture(context_of(step=9)))
    assert unchanged(learner.module, before)
    machine = copy.deepcopy(learner.averaged).eval()
    z = torch.randn(7, 4, generator=numbers(0))
    images = machine.generate(z, torch.arange(7) % 3).view(7, 8, 8)
    assert (2 * found - 1 - images).abs().max() < 1e-6
    assert learner.gan.generator.training


def test_samples_that_are_no_images_have_no_picture():
    assert learner_of(tiny()).picture(context_of()) is None
    with seeded(0):
        three = GAN(dcgan_generator(4, side=8, channels=3, width=2),
                    dcgan_discriminator(side=8, channels=3, width=2), 4)
    assert learner_of(three).picture(context_of()) is None


# --- refusals -----------------------------------------------------------------------------------------------


def short(learner, data, batch_size=20, steps=1, **options):
    settings = TrainingSettings(steps=steps, batch_size=batch_size)
    return train(learner, data, settings, device="cpu", progress=False, **options)


@pytest.mark.parametrize("options, words", [
    ({"averaging": 1.0}, r"\[0, 1\), but 1.0 came"), ({"averaging": -0.1}, "but -0.1 came"),
    ({"averaging": math.nan}, "but nan came"), ({"discriminator_steps": 0}, "at least one step"),
    ({"shown": 0}, "at least"), ({"shown": -1}, "at least"),
])
def test_settings_that_are_none_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        learner_of(tiny(), **options)


def test_a_penalty_with_batch_normalisation_is_refused():
    for penalty, normalise in itertools.product((R1(), GradientPenalty()), (True, False)):
        gan = GAN(nn.Linear(2, 256), dcgan_discriminator(side=16, width=2, normalise=normalise), 2)
        if normalise:
            with pytest.raises(ValueError, match="mixes rows.*normalise=False"):
                learner_of(gan, penalty=penalty)
        else:
            learner_of(gan, penalty=penalty)


def test_an_optimizer_of_the_wrong_player_is_refused():
    gan = tiny()
    make = torch.optim.Adam(gan.generator.parameters())
    judge = torch.optim.Adam(gan.discriminator.parameters())
    both = torch.optim.Adam(gan.parameters())
    other = torch.optim.Adam(tiny().generator.parameters())
    for first, second, name in ((both, judge, "generator"), (make, both, "discriminator"),
                                (judge, make, "generator"), (other, judge, "generator")):
        with pytest.raises(ValueError, match=rf"The {name}'s optimizer.*gan\.{name}\.parameters\(\)"):
            AdversarialLearner(gan, first, second)
    AdversarialLearner(gan, make, judge)


@pytest.mark.parametrize("steps, packed, batch, multiple", [(2, 2, 10, 4), (3, 1, 20, 3), (1, 3, 20, 3)])
def test_a_batch_that_cannot_be_shared_is_refused(steps, packed, batch, multiple):
    learner = learner_of(tiny(packed=packed), discriminator_steps=steps)
    words = f"A batch of {batch} cannot be shared.*{steps} steps on packs of {packed}.*multiple of {multiple}"
    with pytest.raises(ValueError, match=words):
        short(learner, PLANE, batch)
    short(learner_of(tiny(packed=packed), discriminator_steps=steps), PLANE, 12)


def test_a_batch_is_shared_among_processes_too():
    class Two:
        num_processes, process_index = 2, 0

    learner, context = learner_of(tiny(packed=2), discriminator_steps=2), context_of(batch_size=12)
    context.data, context.accelerator = PLANE, Two()
    with pytest.raises(ValueError, match="multiple of 8"):
        learner.begin_epoch(context)
    context.batch_size = 16
    learner.begin_epoch(context)
    context.epoch, context.batch_size = 2, 13
    learner.begin_epoch(context)                                            # looked at once


def changed_range(low, high, dtype=torch.float32):
    return (low + (high - low) * (IMAGES + 1) / 2).to(dtype)


@pytest.mark.parametrize("low, high", [(0, 1), (-2, 2), (-1, 1.1), (0, 255), (-1, 0.4), (-0.4, 1)])
def test_data_outside_of_the_generators_range_are_refused(low, high):
    with pytest.raises(ValueError, match=r"from -1 to 1, but the data go from .* scale .*\(2 \* images - 1"):
        short(learner_of(dcgan()), changed_range(low, high))


@pytest.mark.parametrize("low, high", [(-1, 1), (-0.9, 0.8), (-1, 0.51), (-1 - 1e-7, 1)])
def test_data_in_the_generators_range_are_taken(low, high):
    short(learner_of(dcgan()), changed_range(low, high))


def test_other_ranges():
    scaled = (PLANE - PLANE.min()) / (PLANE.max() - PLANE.min())
    short(learner_of(tiny(last=(nn.Sigmoid(),))), scaled)
    with pytest.raises(ValueError, match="from 0 to 1, but the data go from"):
        short(learner_of(tiny(last=(nn.Sigmoid(),))), PLANE)
    short(learner_of(tiny()), 1000 * PLANE)                                 # no limit, nothing to refuse


@pytest.mark.parametrize("make, data, words", [
    (tiny, PLANE.view(-1, 2, 1), r"a tensor \(examples, numbers\).*flatten"),
    (tiny, {"x": PLANE.long()}, "flatten"), (tiny, {"pixels": PLANE}, 'or from {"x"'),
    (tiny, PLANE[:, :1], "makes samples of 2 numbers; the data have 1"),
    (tiny, PLANE.float(), r"data are torch.float32 and the networks torch.float64"),
    (tiny, {"x": PLANE, "labels": LABELS}, "knows no labels"),
    (lambda: tiny(classes=3), PLANE, "given labels, and none came"),
    (lambda: tiny(classes=2), {"x": PLANE, "labels": LABELS}, "Labels are 0 to 1, but 0 to 2 came"),
    (lambda: tiny(classes=4), {"x": PLANE, "labels": LABELS - 1}, "Labels are 0 to 3, but -1 to 1 came"),
    (lambda: tiny(classes=3), {"x": PLANE, "labels": LABELS.double()}, "whole numbers"),
    (lambda: GAN(tiny().generator, tiny(packed=2).discriminator, 3), PLANE, "judge rows of 2 numbers.*pack"),
    (lambda: GAN(dcgan().generator, dcgan(packed=2).discriminator, 4), IMAGES, "judge rows of 64 numbers"),
    (lambda: GAN(tiny().generator, nn.Linear(2, 3).double(), 3), PLANE, "one logit a row"),
])
def test_data_that_do_not_fit_the_machine_are_refused(make, data, words):
    with pytest.raises(ValueError, match=words):
        short(learner_of(make()), data)


def test_all_labels_are_looked_at_before_the_first_step():
    learner = learner_of(tiny(classes=2))
    learner.check(PLANE, LABELS % 2)
    for labels in (LABELS.sort().values, LABELS.sort().values - 1):         # the first ones may be right
        with pytest.raises(ValueError, match="Labels are 0 to 1, but"):
            learner.check(PLANE, labels)


def test_looking_at_the_data_moves_no_statistics():
    learner = learner_of(dcgan())
    before, context = copy.deepcopy(learner.module.state_dict()), context_of(batch_size=20)
    context.data = IMAGES
    learner.module.train()
    learner.begin_epoch(context)
    assert unchanged(learner.module, before)
    assert learner.gan.generator.training and learner.gan.discriminator.training


def test_one_shown_sample_is_enough():
    with seeded(0):
        gan = GAN(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double(),
                  nn.Linear(4, 1).double(), 3, classes=2)
    short(learner_of(gan, shown=1), {"x": PLANE, "labels": LABELS % 2})


# --- other precision, compiled ------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [
    {}, {"penalty": R1(1.0)}, {"loss": Wasserstein(), "penalty": GradientPenalty()},
])
def test_bfloat16_learns_on_float32_losses(options):
    seen = []

    class Watched(NonSaturating):
        def discriminator(self, real_logits, fake_logits):
            seen.extend([real_logits.dtype, fake_logits.dtype])
            return super().discriminator(real_logits, fake_logits)

        def generator(self, fake_logits):
            seen.append(fake_logits.dtype)
            return super().generator(fake_logits)

    kind = {"loss": Watched()} | options
    learner = learner_of(tiny(packed=2, classes=3, dtype=torch.float32), **kind, averaging=0.9)
    data = {"x": PLANE.float(), "labels": LABELS}
    settings = TrainingSettings(steps=3, batch_size=24, precision="bfloat16")
    history = train(learner, data, settings, device="cpu", progress=False)
    assert all(math.isfinite(number_of) for number_of in history.rows[-1].values())
    assert set(seen) <= {torch.float32} and (seen or "loss" in options)
    assert {weight.dtype for weight in learner.module.parameters()} == {torch.float32}


def test_a_float64_machine_is_judged_in_float64():
    dtypes = []

    class Watched(Hinge):
        def discriminator(self, real_logits, fake_logits):
            dtypes.extend([real_logits.dtype, fake_logits.dtype])
            return super().discriminator(real_logits, fake_logits)

    learner = learner_of(tiny(), Watched())
    metrics = learner.training_step(PLANE[:24], context_of())
    assert {torch.float64} == set(dtypes) == {metric.dtype for metric in metrics.values()}


def test_both_networks_are_compiled_and_a_penalty_is_not(monkeypatch):
    learner, compiled = learner_of(tiny(), averaging=0.5), []
    monkeypatch.setattr(nn.Module, "compile", lambda module, mode: compiled.append((module, mode)))
    learner.compile("reduce-overhead")
    players = learner.gan.generator, learner.gan.discriminator
    assert compiled == [(player, "reduce-overhead") for player in players]
    with pytest.raises(ValueError, match="no second derivatives.*settings.compile"):
        learner_of(tiny(), penalty=R1()).compile("default")


# --- one player breaks --------------------------------------------------------------------------------------


class Poisoned(AdversarialLearner):
    """Puts a number into a player's first weight before step 5."""

    player, poison = "generator", math.nan

    def training_step(self, batch, context):
        if context.step == 5:
            with torch.no_grad():
                next(getattr(self.gan, self.player).parameters()).view(-1)[0] = self.poison
        return super().training_step(batch, context)


@pytest.mark.parametrize("every", [1, 4, 10])
@pytest.mark.parametrize("make, data", [
    (tiny, PLANE), (dcgan, IMAGES), (lambda: tiny(last=(nn.Tanh(),)), PLANE / 3),
])
@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_nan_in_one_player_names_that_player(player, make, data, every):
    learner = learner_of(make(), averaging=0.5)
    learner.__class__, learner.player = Poisoned, player
    first = {"generator": "'generated_largest'.*The generator went first", "discriminator":
             "'discriminator_loss'.*The discriminator went first"}[player]
    with pytest.raises(TrainingDiverged, match=f"(?s)stopped at step 5: the metric {first}"):
        train(learner, data, TrainingSettings(steps=12, batch_size=20, report_every=every), device="cpu",
              progress=False)


@pytest.mark.parametrize("player, rate, words", [
    ("generator", 1e30, "'generated_largest' is (inf|nan).*The generator went first: lower its learning"),
    ("discriminator", 1e30, "'answered_logit' is (inf|nan).*The discriminator went first"),
    ("discriminator", 1e10, "'(answered_logit|generator_gradient)' is (inf|nan).*discriminator"),
])
def test_a_learning_rate_that_is_too_large_names_its_player(player, rate, words):
    with seeded(0):
        gan = GAN(fully_connected([2, 16, 2]), fully_connected([2, 16, 1], lambda: nn.LeakyReLU(0.2)), 2)
    rates = {"generator": 1e-3, "discriminator": 1e-3} | {player: rate}
    learner = AdversarialLearner(gan, torch.optim.SGD(gan.generator.parameters(), rates["generator"]),
                                 torch.optim.SGD(gan.discriminator.parameters(), rates["discriminator"]))
    with pytest.raises(TrainingDiverged, match=f"(?s){words}"):
        short(learner, PLANE.float(), steps=30)


def test_a_penalty_that_overflows_is_named():
    learner = learner_of(tiny(dtype=torch.float32), penalty=R1(1e38))
    with torch.no_grad():
        learner.gan.discriminator[0].weight.mul_(1e3)
    with pytest.raises(TrainingDiverged, match="(?s)'penalty' is (inf|nan).*slope went first.*penalty's"):
        short(learner, PLANE.float(), steps=5)


# --- runs that break, and checkpoints -----------------------------------------------------------------------


SETTINGS = TrainingSettings(epochs=4, batch_size=24, report_every=4, checkpoint_every=5, evaluate_every=7)
RUNS = {
    "plain": (tiny, {}, False),
    "averaged, two steps": (tiny, {"loss": Hinge(), "averaging": 0.9, "discriminator_steps": 2}, False),
    "packed, labels, R1 now and then": (
        lambda: tiny(packed=2, classes=3), {"penalty": R1(1.0, every=3), "averaging": 0.5}, True),
    "gradient penalty": (tiny, {"loss": Wasserstein(), "penalty": GradientPenalty(2.0)}, False),
    "dcgan": (lambda: dcgan(classes=3), {"averaging": 0.9}, True),
}


class Interrupted(Exception):
    pass


def resumable(kind, **changes):
    make, options, _ = RUNS[kind]
    learner = learner_of(make(), **options | changes)
    learner.schedulers = {"generator": training.cosine_schedule(learner.optimizers["generator"], 40, 3)}
    return learner


def run(kind, out, stop=None, learner=None, **options):
    learner = resumable(kind) if learner is None else learner
    x = IMAGES.repeat(2, 1)[:100] if kind == "dcgan" else PLANE[:100]
    data = {"x": x, "labels": LABELS[:100]} if RUNS[kind][2] else x

    def watch(learner, history, context):
        if stop is not None and len(history) >= stop:
            raise Interrupted

    history = train(learner, data, SETTINGS, device="cpu", seed=3, out=out, watch=watch, progress=False,
                    evaluation_data=data, **options)
    states = [part for name in ("generator", "discriminator")
              for state in learner.optimizers[name].state_dict()["state"].values() for part in state.values()]
    return learner.module.state_dict(), states, history


def same_bits(first, second):
    return (first[0].keys() == second[0].keys() and first[2].rows == second[2].rows
            and all(torch.equal(first[0][name], second[0][name]) for name in first[0])
            and all(map(torch.equal, first[1], second[1])))


@pytest.mark.parametrize("kind", RUNS)
def test_a_broken_run_ends_bit_for_bit_as_an_unbroken_one(kind, tmp_path):
    unbroken = run(kind, tmp_path / "unbroken")
    for stop in (2, 4):
        with pytest.raises(Interrupted):
            run(kind, tmp_path / "broken", stop, resume=True)
    resumed = run(kind, tmp_path / "broken", resume=True)
    assert same_bits(unbroken, resumed)
    assert any(name.startswith("averaged") for name in resumed[0]) == ("averaging" in RUNS[kind][1])
    fresh = resumable(kind).module.state_dict()
    assert not torch.equal(fresh["gan.generator.0.weight"], resumed[0]["gan.generator.0.weight"])


def test_a_player_that_is_not_kept_is_noticed(tmp_path):
    unbroken = run("plain", tmp_path / "unbroken")
    with pytest.raises(Interrupted):
        run("plain", tmp_path / "broken", 3)
    again = resumable("plain")
    again.optimizers["discriminator"].load_state_dict = lambda state: None
    assert not same_bits(unbroken, run("plain", tmp_path / "broken", learner=again, resume=True))


def test_a_checkpoint_of_another_machine_is_refused(tmp_path):
    run("plain", tmp_path)
    with pytest.raises(ValueError, match="of other sizes: 'averaged.* is absent there"):
        run("plain", tmp_path, learner=resumable("plain", averaging=0.5), resume=True)


def test_seeds_are_other_runs_and_the_same_seed_the_same():
    def end(seed):
        learner = learner_of(tiny())
        short(learner, PLANE, steps=5, seed=seed)
        return learner.gan.state_dict()["generator.0.weight"]

    assert torch.equal(end(1), end(1)) and not torch.equal(end(1), end(2))


def test_each_player_learns_from_z_drawn_anew_in_each_step():
    """Never from the fixed z that pictures show, and never twice from the same."""
    with seeded(0):
        gan = GAN(fully_connected([2, 8, 2]), fully_connected([2, 8, 1]), 2).double()
    learner = AdversarialLearner(gan, torch.optim.Adam(gan.generator.parameters()),
                                 torch.optim.Adam(gan.discriminator.parameters()), shown=16)
    seen = [learner.module.fixed]
    data = ring().sample(64, torch.Generator().manual_seed(0)).double()
    gan.generator.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    train(learner, data, TrainingSettings(steps=3, batch_size=8), seed=0)
    drawn = torch.cat([seen[0], *(z for z in seen[1:] if len(z) == 8)])
    assert len(drawn) == 16 + 3 * 2 * 8
    assert torch.pdist(drawn).min() > 0
