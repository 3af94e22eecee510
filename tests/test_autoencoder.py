"""Chapter 3: every numbered equation of autoencoders against brute force, with mutants that the same checks
must refuse; and the oracle: a linear autoencoder, trained to the end, finds what principal components find.
"""

import itertools
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nemlib import autoencoder
from nemlib.autoencoder import (
    Autoencoder,
    PrincipalComponents,
    add_noise,
    denoising,
    kl_sparsity,
    linear,
    mask_pixels,
    pixel_entropy,
    principal_angles,
    reconstruction,
    six_layers,
    sparse,
)
from nemlib.networks import convolutional_decoder, convolutional_encoder, fully_connected
from nemlib.training import GradientLearner, TrainingSettings, evaluate, seeded, train

EXACT = 1e-12
HEIGHT, WIDTH = 3, 5        # no square, which would hide swapped axes
PIXELS = HEIGHT * WIDTH


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(19890101)


def randn(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def rand(generator, *shape):
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def small(latent=2, pixels="bernoulli", seed=0):
    """Six layers, 15-7-4-latent and back, in float64, with weights that make its pictures differ."""
    with seeded(seed):
        made = six_layers(latent, (PIXELS, 7, 4), pixels=pixels).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(2)
    return made


def pictures(generator, count=40, pixels=PIXELS):
    """Correlated Gaussian pictures with a mean, and variances that are told apart: (count, pixels)."""
    turn = torch.linalg.qr(randn(generator, pixels, pixels)).Q
    spread = 2.0 * 0.75 ** torch.arange(pixels, dtype=torch.float64)
    return (randn(generator, count, pixels) * spread) @ turn.mT + 0.4 * randn(generator, pixels)


def covariance(x):
    centred = x - x.mean(0)
    return centred.mT @ centred / len(x)


def projection(b):
    """B (BᵀB)⁻¹ Bᵀ."""
    return b @ torch.linalg.inv(b.mT @ b) @ b.mT


# --- the bottleneck -----------------------------------------------------------------------------------------


def slope(module):
    """The matrix of an affine reconstruction, (pixels, pixels), from the module alone."""
    with torch.no_grad():
        zero = torch.zeros(1, PIXELS, dtype=torch.float64)
        return (module(torch.eye(PIXELS, dtype=torch.float64)) - module(zero)).mT


@pytest.mark.equation("eq-ae-rank", how="closed form")
def test_the_rank_of_a_linear_map_through_few_numbers(largest_error):
    for latent in (1, 2, 4):
        with seeded(latent):
            narrow, wider = linear(PIXELS, latent).double(), linear(PIXELS, latent + 1).double()
        first, last = narrow.encoder[0].weight, narrow.decoder[0].weight
        values = torch.linalg.svdvals(slope(narrow))
        assert (slope(narrow) - last @ first).abs().max() < EXACT
        largest_error(values[latent] / values[0])
        assert values[latent] < EXACT * values[0] and values[latent - 1] > 1e-3 * values[0]
        # the mutant: one number more
        assert torch.linalg.svdvals(slope(wider))[latent] > 1e-3
    with torch.no_grad():       # and without the bend between the layers there is no such bound
        bent = small(2, "gaussian")(3 * randn(torch.Generator().manual_seed(1), 50, PIXELS))
    assert torch.linalg.matrix_rank(bent - bent.mean(0)) > 2


# --- the loss is a likelihood -------------------------------------------------------------------------------


@pytest.mark.equation("eq-ae-gaussian", how="closed form")
def test_the_squared_error_is_a_gaussian_likelihood(generator, largest_error):
    module, x = small(2, "gaussian"), rand(generator, 6, PIXELS)
    for variance in (1.0, 0.05, 7.0):
        module.variance.fill_(variance)
        found, xhat = module.reconstruction_loss(x), module(x)
        law = torch.distributions.MultivariateNormal(xhat, variance * torch.eye(PIXELS, dtype=torch.float64))
        truth = -law.log_prob(x)
        error = (found - truth).abs().max()
        largest_error(error)
        assert found.shape == (6,) and error < 1e-10
        # the mutants: a constant for one pixel, no half, a mean over pixels
        squares, log = module.squared_error(x), math.log(2 * math.pi * variance)
        for mutant in (squares / (2 * variance) + log / 2, squares / variance + PIXELS / 2 * log,
                       squares / (2 * variance * PIXELS) + PIXELS / 2 * log):
            assert (mutant - truth).abs().max() > 1e-2


@pytest.mark.equation("eq-ae-gaussian-variance", how="autograd")
def test_the_best_variance_is_the_mean_squared_error_per_pixel(generator, largest_error):
    module, x = small(2, "gaussian"), rand(generator, 9, PIXELS)
    module.set_variance(x)
    best = module.variance.item()
    with torch.no_grad():
        least = module.reconstruction_loss(x).mean()
        error = (least - PIXELS / 2 * math.log(2 * math.pi * math.e * best)).abs()
        assert error < 1e-10
        grid = best * torch.linspace(-1, 1, 201, dtype=torch.float64).exp()
        losses = [gaussian_loss(module, x, variance).mean() for variance in grid]
        assert int(torch.stack(losses).argmin()) == 100 and min(losses) >= least - EXACT
    s2 = torch.tensor(best, dtype=torch.float64, requires_grad=True)
    steep, = torch.autograd.grad(gaussian_loss(module, x, s2).mean(), s2)
    largest_error(max(error, steep.abs().detach()))
    assert steep.abs() < 1e-10
    # the mutants: the error of a whole picture, and that of all pixels of all pictures
    for factor in (PIXELS, 1 / len(x)):
        assert gaussian_loss(module, x, factor * best).mean() > least + 1


def gaussian_loss(module, x, variance):
    return -torch.distributions.Normal(module(x).detach(), variance**0.5).log_prob(x).sum(1)


def binary_states(count):
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=count)), dtype=torch.float64)


@pytest.mark.equation("eq-ae-bernoulli", how="enumeration")
def test_the_cross_entropy_is_a_bernoulli_likelihood(generator, largest_error):
    with seeded(3):
        module = Autoencoder(nn.Linear(6, 2), nn.Linear(2, 6)).double()
    states = binary_states(6)
    z = 3 * randn(generator, 4, 2)
    for code in z:
        mean, output = module.mean(code), module.decode(code).expand(64, -1)
        truth = torch.where(states == 1, mean, 1 - mean).prod(1)
        found = (-module.loss_of(output, states)).exp()
        error = max((found - truth).abs().max(), (found.sum() - 1).abs())
        largest_error(error)
        assert error < EXACT
        # the mutants: a mean over pixels, and picture and prediction exchanged
        assert ((-module.loss_of(output, states) / 6).exp().sum() - 1).abs() > 1
        assert (torch.where(states == 1, 1 - mean, mean).prod(1) - truth).abs().max() > 1e-3
    x = rand(generator, 5, 6)
    known = F.binary_cross_entropy(module(x), x, reduction="none").sum(1)
    assert (module.reconstruction_loss(x) - known).abs().max() < EXACT


@pytest.mark.equation("eq-ae-logits", how="closed form")
def test_the_cross_entropy_of_logits_is_exact_and_never_overflows(generator, largest_error):
    module = small()
    a, x = 8 * randn(generator, 50, PIXELS), rand(generator, 50, PIXELS)
    naive = -(x * torch.sigmoid(a).log() + (1 - x) * torch.sigmoid(-a).log()).sum(1)
    found = module.loss_of(a, x)
    far = torch.tensor([[-800.0, 800.0, -800.0, 800.0, 25.0, 36.0]], dtype=torch.float64)
    target = torch.tensor([[0.0, 1.0, 1.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    truth = 1600 + math.log1p(math.exp(-25)) + math.log1p(math.exp(-36))
    parts = (torch.log1p((-far.abs()).exp()) + far.clamp(min=0) - far * target).sum()
    error = max(((found - naive) / naive).abs().max(), (module.loss_of(far, target) / truth - 1).abs().max(),
                (parts / truth - 1).abs())
    largest_error(error)
    assert error < EXACT
    # the mutants: logarithms of probabilities that have become 0 or 1, and a softplus that is cut at 20
    p = torch.sigmoid(far)
    assert not (-(target * p.log() + (1 - target) * (1 - p).log()).sum()).isfinite()
    cut, one = torch.tensor([[25.0]], dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    exact = math.log1p(math.exp(-25))
    assert (module.loss_of(cut, one) / exact - 1).abs() < 1e-4 and (F.softplus(cut) - cut) / exact < 0.5
    short = Autoencoder(nn.Linear(1, 1), nn.Linear(1, 1)).double()
    assert torch.equal(short.loss_of(cut, one), module.loss_of(cut, one))


@pytest.mark.equation("eq-ae-gradients", how="autograd")
def test_both_losses_push_by_the_difference_of_prediction_and_picture(generator, largest_error):
    x = rand(generator, 4, PIXELS)
    for pixels in ("bernoulli", "gaussian"):
        module = small(2, pixels)
        if pixels == "gaussian":
            module.variance.fill_(0.3)
        a = (3 * randn(generator, 4, PIXELS)).requires_grad_()
        truth, = torch.autograd.grad(module.loss_of(a, x).sum(), a)
        stated = torch.sigmoid(a) - x if pixels == "bernoulli" else (a - x) / 0.3
        error = (stated - truth).abs().max()
        largest_error(error)
        assert error < EXACT
        # the mutants: the squared error through a sigmoid, whose slope stops the push; s for s²
        slope = torch.sigmoid(a) * torch.sigmoid(-a)
        mutant = (torch.sigmoid(a) - x) * slope if pixels == "bernoulli" else (a - x) / 0.3**0.5
        assert (mutant - truth).abs().max() > 0.1


def bernoulli_kl(p, q):
    return torch.distributions.kl_divergence(*(torch.distributions.Bernoulli(rate) for rate in (p, q)))


@pytest.mark.equation("eq-ae-conditional-mean", how="enumeration")
def test_both_losses_are_least_at_the_conditional_mean(generator, largest_error):
    states, law = binary_states(5), randn(generator, 32).softmax(0)       # p(x | z) for one code
    best, mode = law @ states, states[law.argmax()].clamp(0.01, 0.99)
    others = torch.cat([rand(generator, 20, 5), mode[None]])
    for pixels in ("bernoulli", "gaussian"):
        module = Autoencoder(nn.Linear(5, 1), nn.Linear(1, 5), pixels).double()
        if pixels == "gaussian":
            module.variance.fill_(0.4)

        def expected(m):
            output = torch.logit(m) if pixels == "bernoulli" else m
            return law @ module.loss_of(output.expand(32, -1), states)

        def away(m, other):
            return bernoulli_kl(m, other).sum() if pixels == "bernoulli" else (m - other).square().sum() / 0.8

        for m in others:
            rest = away(best, m)
            error = (expected(m) - expected(best) - rest).abs()
            largest_error(error)
            assert error < EXACT and rest > 0
            # the mutant: another picture as the best one
            middle = (best + 0.5) / 2
            rest = away(middle, m)
            assert (expected(m) - expected(middle) - rest).abs() > 1e-4


@pytest.mark.equation("eq-ae-floor", how="closed form")
def test_on_grey_pixels_the_cross_entropy_has_a_floor(generator, largest_error):
    x = rand(generator, 30, PIXELS)
    x[:10] = x[:10].round()                                                 # black and white ones among them
    x[10:20, ::2] = x[10:20, ::2].round()
    module = small()
    module.loss_of, floor = module.loss_of, pixel_entropy(x)
    error = (floor - torch.distributions.Bernoulli(x).entropy().sum(1)).abs().max()
    for output in 2 * randn(generator, 10, 30, PIXELS):
        loss = module.loss_of(output, x)
        gap = bernoulli_kl(x, torch.sigmoid(output)).sum(1)
        error = max(error, (loss - floor - gap).abs().max())
        assert (loss >= floor).all()
    perfect = module.loss_of(torch.logit(x[20:]), x[20:])
    error = max(error, (perfect - floor[20:]).abs().max())
    largest_error(error)
    assert error < 1e-10 and not floor[:10].any()
    # the mutants: a floor of nothing, that of binary pictures; and the entropy in bits
    assert perfect.min() > 5 and (perfect - floor[20:] / math.log(2)).abs().min() > 1


# --- the linear autoencoder is PCA --------------------------------------------------------------------------


def decoding_error(x, z, b):
    """Mean squared error of B z + best d, for given codes."""
    rest = (x - x.mean(0)) - (z - z.mean(0)) @ b.mT
    return rest.square().sum(1).mean()


@pytest.mark.equation("eq-ae-decoder-given", how="closed form")
def test_for_given_codes_the_best_decoder_is_least_squares(generator, largest_error):
    x, a = pictures(generator), randn(generator, 3, PIXELS)
    centred = x - x.mean(0)
    for z in (centred @ a.mT, torch.tanh(centred @ a.mT)):
        z = z - z.mean(0)
        stated = (centred.mT @ z) @ torch.linalg.inv(z.mT @ z)
        truth = torch.linalg.lstsq(z, centred).solution.mT
        error = (stated - truth).abs().max()
        b = stated.clone().requires_grad_()
        steep, = torch.autograd.grad(decoding_error(x, z, b), b)
        largest_error(max(error, steep.abs().max()))
        assert error < 1e-10 and steep.abs().max() < 1e-10
        # the mutants: the transpose of the encoder, and no inverse
        for mutant in (a.mT, centred.mT @ z / len(x)):
            assert decoding_error(x, z, mutant) > decoding_error(x, z, stated) + 0.1
    s = covariance(x)
    stated = s @ a.mT @ torch.linalg.inv(a @ s @ a.mT)                       # the same for z = A x
    linear_codes = centred @ a.mT
    error = (stated - torch.linalg.lstsq(linear_codes, centred).solution.mT).abs().max()
    largest_error(error)
    assert error < 1e-10


@pytest.mark.equation("eq-ae-projection", how="closed form")
def test_under_a_linear_decoder_the_best_codes_make_a_projection(generator, largest_error):
    x, b = pictures(generator), randn(generator, PIXELS, 3)
    x = x - x.mean(0)
    best = torch.linalg.lstsq(b, x.mT).solution.mT                           # each picture's own best code
    p = projection(b)
    errors = ((best @ b.mT - x @ p.mT), p @ p - p, p - p.mT)
    error = max(each.abs().max() for each in errors)
    largest_error(error)
    assert error < 1e-10 and torch.linalg.matrix_rank(p) == 3
    least = (x - x @ p).square().sum(1)
    with seeded(5):
        encoders = [fully_connected([PIXELS, 20, 3]).double() for _ in range(5)]
    for encoder in encoders:                                                 # no encoder beats it
        codes = encoder(x).detach()
        assert ((x - codes @ b.mT).square().sum(1) >= least).all()
        assert ((x - (best + 0.01 * codes) @ b.mT).square().sum(1) >= least).all()
    # the mutants: the transpose without the inverse, and the inverse of another decoder
    mutant, other = b @ b.mT, b @ torch.linalg.pinv(randn(generator, PIXELS, 3))
    assert (mutant @ mutant - mutant).abs().max() > 1 and (other - other.mT).abs().max() > 0.1


@pytest.mark.equation("eq-ae-error", how="closed form")
def test_the_error_of_a_projection_is_the_variance_that_it_leaves_out(generator, largest_error):
    x = pictures(generator, 12)
    centred, s = x - x.mean(0), covariance(x)
    for latent in (1, 3, 7):
        p = projection(randn(generator, PIXELS, latent))
        truth = (centred - centred @ p.mT).square().sum(1).mean()
        error = (s.trace() - (p @ s).trace() - truth).abs()
        largest_error(error)
        assert error < 1e-10
        # the mutants: an oblique projection, and the divisor N − 1
        b = randn(generator, PIXELS, latent)
        other = randn(generator, latent, PIXELS)
        oblique = b @ torch.linalg.inv(other @ b) @ other
        of_oblique = (centred - centred @ oblique.mT).square().sum(1).mean()
        assert (s.trace() - (oblique @ s).trace() - of_oblique).abs() > 0.1
        assert ((s.trace() - (p @ s).trace()) * 12 / 11 - truth).abs() > 0.01


@pytest.mark.equation("eq-ae-pca", how="closed form")
def test_principal_components_leave_out_least(generator, largest_error):
    x = pictures(generator)
    values, vectors = torch.linalg.eigh(covariance(x))
    values, vectors = values.flip(0), vectors.flip(1)
    for latent in (1, 3, 6, PIXELS):
        pca = PrincipalComponents.fit(x, latent)
        found = pca.squared_error(x).mean()
        error = max((found - values[latent:].sum()).abs(), (pca.least_error - values[latent:].sum()).abs(),
                    (pca.eigenvalues - values).abs().max())
        largest_error(error)
        assert error < 1e-10
        for _ in range(20):
            p = projection(torch.linalg.qr(randn(generator, PIXELS, latent)).Q)
            share = (p @ vectors).square().sum(0)                            # ‖P u_j‖²
            assert share.min() > -1e-10 and share.max() < 1 + 1e-10 and abs(share.sum() - latent) < 1e-10
            error = ((p @ covariance(x)).trace() - (values * share).sum()).abs()
            largest_error(error)
            assert error < 1e-10
            if latent < PIXELS:         # any other projection: the mutants
                assert values.sum() - (values * share).sum() > found + 0.01
    pca = PrincipalComponents.fit(x, 3)
    last = vectors[:, -3:] @ vectors[:, -3:].mT                              # and the last components
    assert (x - x.mean(0)).sub((x - x.mean(0)) @ last).square().sum(1).mean() > 5 * pca.least_error
    raw = torch.linalg.svd(x, full_matrices=False).Vh[:3]                    # and no centring
    assert (x - x @ raw.mT @ raw).square().sum(1).mean() > pca.least_error + 0.01


@pytest.mark.equation("eq-ae-invariance", how="closed form")
def test_codes_may_be_mixed_and_only_the_space_is_found(generator, largest_error):
    x = pictures(generator)
    pca = PrincipalComponents.fit(x, 3)
    mixing = randn(generator, 3, 3)
    plain, mixed = pca.autoencoder(), pca.autoencoder(mixing)
    with torch.no_grad():
        errors = [each(x) - pca.reconstruct(x) for each in (plain, mixed)] + [
            plain.encode(x) - pca.encode(x), mixed.encode(x) - pca.encode(x) @ mixing.mT]
        errors += [mixed.decoder[0].weight @ mixing - pca.components]
    error = max(each.abs().max() for each in errors)
    angles = principal_angles(mixed.decoder[0].weight, pca.components)
    largest_error(max(error, angles.max()))
    assert error < 1e-10 and angles.max() < 1e-10
    # not the same axes: the codes differ, and the decoder's columns are neither orthogonal nor of length 1
    gram = (mixed.decoder[0].weight.mT @ mixed.decoder[0].weight).detach()
    assert (mixed.encode(x) - plain.encode(x)).abs().max() > 1
    assert (gram - torch.eye(3)).abs().max() > 0.1
    # the mutant: M in the encoder and its transpose in the decoder
    wrong = pca.encode(x) @ mixing.mT @ mixing @ pca.components.mT + pca.mean
    assert (wrong - pca.reconstruct(x)).abs().max() > 0.1


def error_of(s, latent):
    """The mean squared error of B A on centred pictures, as a function of all numbers of A and B."""
    pixels = len(s)

    def error(numbers):
        a, b = numbers[:latent * pixels].view(latent, pixels), numbers[latent * pixels:].view(pixels, latent)
        rest = torch.eye(pixels, dtype=torch.float64) - b @ a
        return (rest @ s @ rest.mT).trace()
    return error


def critical_point(vectors, which, mixing):
    chosen = vectors[:, list(which)]
    return torch.cat([(mixing @ chosen.mT).flatten(), (chosen @ torch.linalg.inv(mixing)).flatten()])


@pytest.mark.equation("eq-ae-critical", how="enumeration")
def test_every_critical_point_but_one_space_is_a_saddle(generator, largest_error):
    pixels, latent = 5, 2
    s = covariance(pictures(generator, 30, pixels))
    values, vectors = torch.linalg.eigh(s)
    values, vectors = values.flip(0), vectors.flip(1)
    error, falling = error_of(s, latent), {}
    for which in itertools.combinations(range(pixels), latent):
        point = critical_point(vectors, which, randn(generator, latent, latent) + 2 * torch.eye(latent)
                               ).requires_grad_()
        steep, = torch.autograd.grad(error(point), point)
        left_out = values.sum() - values[list(which)].sum()
        p = vectors[:, list(which)] @ vectors[:, list(which)].mT
        found = max(steep.abs().max(), (error(point) - left_out).abs(), (p @ s - s @ p).abs().max()).detach()
        largest_error(found)
        assert found < 1e-10, "a critical point, with the error of the eigenvalues left out"
        curvature = torch.linalg.eigvalsh(torch.autograd.functional.hessian(error, point.detach()))
        falling[which] = int((curvature < -1e-6).sum())
        if which == (0, 1):
            assert curvature.min() > -1e-9, "the space of the largest eigenvalues is a minimum"
    assert falling.pop((0, 1)) == 0 and min(falling.values()) >= 1 and len(falling) == 9
    # the mutant: spaces that no eigenvectors span are no critical points
    b = torch.linalg.qr(randn(generator, pixels, latent)).Q
    point = torch.cat([b.mT.flatten(), b.flatten()]).requires_grad_()
    steep, = torch.autograd.grad(error(point), point)
    assert steep.abs().max() > 0.1 and (b @ b.mT @ s - s @ b @ b.mT).abs().max() > 0.1


def trained_linear(x, latent, steps, seed=0):
    """From weights drawn by chance down the gradient of the mean loss, all pictures in every step."""
    with seeded(seed):
        module = linear(PIXELS, latent).double()
    optimizer = torch.optim.LBFGS(module.parameters(), max_iter=steps, tolerance_change=0, history_size=20,
                                  line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = reconstruction(module, x, None)["loss"]
        loss.backward()
        return loss

    optimizer.step(closure)
    return module.requires_grad_(False)


@pytest.mark.equation("eq-ae-pca", how="closed form")
def test_a_linear_autoencoder_trained_to_the_end_is_pca(generator, largest_error):
    x = pictures(generator, 60)
    pca = PrincipalComponents.fit(x, 3)
    module = trained_linear(x, 3, 300)
    relative = abs(module.squared_error(x).mean().item() / pca.least_error - 1)
    angle = principal_angles(module.decoder[0].weight, pca.components).max()
    largest_error(relative)
    assert relative < 1e-3 and angle < 1e-4
    # B = U M⁻¹ and A = M Uᵀ with one M, which is not the identity: the same space, other axes
    a, b = module.encoder[0].weight, module.decoder[0].weight
    mixing = a @ pca.components
    assert (a - mixing @ pca.components.mT).abs().max() < 0.01
    assert (b - pca.components @ torch.linalg.inv(mixing)).abs().max() < 0.01
    assert (mixing - mixing.diag().diag()).abs().max() > 0.1
    # the mutants: stopped early, and the space of other pictures
    assert trained_linear(x, 3, 10).squared_error(x).mean() > 1.05 * pca.least_error
    other = PrincipalComponents.fit(pictures(generator, 60), 3)
    assert principal_angles(b, other.components).max() > 0.3


# --- from scratch -------------------------------------------------------------------------------------------


def by_hand(module, x, bend_code=False, bend=True):
    """The gradients of the summed loss by eq-ae-backprop, {parameter: gradient}.

    Two mutants: the code layer bent as the others are, and no slope of the bend anywhere.
    """
    layers = [layer for layer in (*module.encoder, *module.decoder) if isinstance(layer, nn.Linear)]
    code = sum(isinstance(layer, nn.Linear) for layer in module.encoder) - 1
    inputs, sums = [], []
    h = x
    for place, layer in enumerate(layers):
        inputs.append(h)
        sums.append(h @ layer.weight.mT + layer.bias)
        h = sums[-1] if place in (code, len(layers) - 1) else sums[-1].clamp(min=0)
    delta, found = torch.sigmoid(h) - x, {}
    for place in reversed(range(len(layers))):
        if place < len(layers) - 1:
            delta = delta @ layers[place + 1].weight
            if bend and (place != code or bend_code):
                delta = delta * (sums[place] > 0)
        found[layers[place].weight] = delta.mT @ inputs[place]
        found[layers[place].bias] = delta.sum(0)
    return found


@pytest.mark.equation("eq-ae-backprop", how="autograd")
def test_back_propagation_by_hand(generator, largest_error):
    module, x = small(3), rand(generator, 8, PIXELS)
    truth = torch.autograd.grad(module.reconstruction_loss(x).sum(), tuple(module.parameters()))
    with torch.no_grad():
        found, bent, straight = (by_hand(module, x, *mutant) for mutant in ((), (True,), (False, False)))
    for parameter, gradient in zip(module.parameters(), truth):
        error = (found[parameter] - gradient).abs().max()
        largest_error(error)
        assert error < 1e-11
    for mutant in (bent, straight):
        assert max((mutant[parameter] - gradient).abs().max()
                   for parameter, gradient in zip(module.parameters(), truth)) > 0.01


# --- denoising ----------------------------------------------------------------------------------------------


def masking_law(states, share):
    """P(x̃ | x) of mask_pixels between binary states, (states, states)."""
    kept = share + (1 - 2 * share) * states[None]                            # a 1 that stays, or falls to 0
    impossible = ((states[:, None] == 0) & (states[None] == 1)).any(-1)
    law = torch.where(states[:, None] == 1, kept, torch.ones_like(kept)).prod(-1)
    return law * ~impossible


@pytest.mark.equation("eq-ae-denoiser", how="enumeration")
def test_the_best_denoiser_is_the_mean_of_what_the_picture_may_have_been(generator, largest_error):
    states, share = binary_states(4), 0.3
    law, corrupted = randn(generator, 16).softmax(0), masking_law(states, share)
    assert (corrupted.sum(1) - 1).abs().max() < EXACT
    joint = law[:, None] * corrupted                                         # p(x, x̃)
    best = (joint.mT @ states) / joint.sum(0)[:, None]                       # E[x | x̃]

    def expected(f):
        return (joint * (states[:, None] - f[None]).square().sum(-1)).sum()

    for f in (states, rand(generator, 16, 4), law @ states * torch.ones(16, 1)):
        rest = (joint.sum(0) * (f - best).square().sum(1)).sum()
        error = (expected(f) - expected(best) - rest).abs()
        largest_error(error)
        assert error < EXACT and rest > 1e-3
    # the stated weights: w_n = p(x̃|x_n) / Σ_m p(x̃|x_m) for a data set, in which each example counts once
    rows = torch.multinomial(law, 40, replacement=True, generator=generator)
    given = corrupted[rows]                                                  # (examples, x̃)
    seen = given.sum(0) > 0
    weights = given[:, seen] / given[:, seen].sum(0)
    counts = torch.bincount(rows, minlength=16).double() / 40
    joint = counts[:, None] * corrupted
    best = ((joint.mT @ states) / joint.sum(0)[:, None])[seen]
    error = (weights.mT @ states[rows] - best).abs().max()
    largest_error(error)
    assert error < EXACT
    # the mutant: every example alike, whatever came
    assert (states[rows].mean(0) - best).abs().max() > 0.1


def posterior_mean(noisy, points, sd):
    """E[x | x̃] and log p_s(x̃) where x is one of the points, each as likely. (batch, D), (N, D)."""
    squares = (noisy[:, None] - points).square().sum(-1) / (2 * sd**2)
    log_p = torch.logsumexp(-squares, 1) - math.log(len(points)) - points.shape[1] / 2 * math.log(
        2 * math.pi * sd**2)
    return (-squares).softmax(1) @ points, log_p


@pytest.mark.equation("eq-ae-denoiser", "eq-ae-tweedie", how="autograd")
def test_the_best_denoiser_points_up_the_density(generator, largest_error):
    for sd, count, pixels in ((0.4, 6, 2), (1.3, 4, 3), (0.9, 1, 5)):
        points = 2 * randn(generator, count, pixels)
        noisy = (points.repeat(20, 1) + sd * randn(generator, 20 * count, pixels)).requires_grad_()
        mean, log_p = posterior_mean(noisy, points, sd)
        score, = torch.autograd.grad(log_p.sum(), noisy)
        error = (mean - (noisy + sd**2 * score)).abs().max()
        largest_error(error)
        assert error < 1e-10
        # the mutants: the other way, and s for s²
        assert (mean - (noisy - sd**2 * score)).abs().max() > 0.1
        assert (mean - (noisy + sd * score)).abs().max() > 0.01
    # that density integrates to 1, and that mean is the least squared error, on a grid of x̃
    grid = torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None]
    points, width = 2 * randn(generator, 5, 1), 24 / 4000
    mean, log_p = posterior_mean(grid, points, 0.8)
    assert abs(log_p.exp().sum() * width - 1) < 1e-10
    given = torch.distributions.Normal(points, 0.8).log_prob(grid.mT).exp()                   # (points, grid)
    by_bayes = (given.mT @ points)[:, 0] / given.sum(0)
    assert (mean[:, 0] - by_bayes).abs().max() < 1e-10


def test_a_denoiser_learns_from_the_corrupted_and_is_judged_by_the_clean(generator):
    module, x = small(), rand(generator, 6, PIXELS)
    found = denoising(lambda x, generator: 1 - x)(module, x, generator)
    truth = module.loss_of(module.decode(module.encode(1 - x)), x).mean()
    assert torch.equal(found["loss"], truth)
    assert torch.equal(module.reconstruction_loss(1 - x, x).mean(), truth)
    assert torch.allclose(found["squared_error"], module.squared_error(1 - x, x).mean())
    # the mutants: the corrupted picture twice, the clean one twice
    assert (module.reconstruction_loss(1 - x).mean() - truth).abs() > 0.1
    assert (module.reconstruction_loss(x).mean() - truth).abs() > 1e-3
    one, two = (denoising(partial(mask_pixels, share=0.5))(
        module, x, torch.Generator().manual_seed(seed))["loss"] for seed in (1, 2))
    assert one != two and "squared_error" in found


def test_pixels_are_masked_and_noise_is_added(generator):
    x = 1 + rand(generator, 400, PIXELS)
    for share in (0.0, 0.3, 1.0):
        masked = mask_pixels(x, share, generator)
        gone = (masked == 0).double().mean()
        assert torch.equal(masked[masked != 0], x[masked != 0])
        assert abs(gone - share) < 4 * math.sqrt(share * (1 - share) / x.numel()) + EXACT
    noise = add_noise(x, 0.7, generator) - x
    assert abs(noise.mean()) < 4 * 0.7 / math.sqrt(x.numel())
    assert abs(noise.var() / 0.49 - 1) < 4 * math.sqrt(2 / x.numel())
    assert torch.equal(add_noise(x, 0.0, generator), x)
    again = [mask_pixels(x, 0.5, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*again)


# --- sparsity -----------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-ae-sparsity-gradient", how="autograd")
def test_the_gradient_of_the_price_of_activity(generator, largest_error):
    rho, inputs = 0.07, randn(generator, 9, 4).requires_grad_()
    h = torch.sigmoid(inputs)
    activity = h.mean(0)
    price = kl_sparsity(activity, rho)
    rate = torch.tensor(rho, dtype=torch.float64)
    assert (price - bernoulli_kl(rate, activity).sum()).abs() < EXACT
    truth, of_inputs = torch.autograd.grad(price, (activity, inputs))
    stated = -rho / activity + (1 - rho) / (1 - activity)
    error = max((stated - truth).abs().max(), (stated * h * (1 - h) / 9 - of_inputs).abs().max()).detach()
    largest_error(error)
    assert error < EXACT
    # the mutants: the divergence the other way round, and the absolute value of the activity
    other, = torch.autograd.grad(bernoulli_kl(activity, rate).sum(), activity)
    assert (other - truth).abs().max() > 0.1 and (torch.ones(4) - truth).abs().max() > 0.1
    assert kl_sparsity(torch.full((4,), rho, dtype=torch.float64), rho).abs() < EXACT


def test_sparse_codes_are_paid_for_and_come_out(generator):
    def made():
        with seeded(2):
            encoder = nn.Sequential(nn.Linear(PIXELS, 6), nn.Sigmoid())
            return Autoencoder(encoder, nn.Linear(6, PIXELS)).double()

    x, module = rand(generator, 64, PIXELS).round(), made()
    found = sparse(0.05, 3.0)(module, x, generator)
    price = kl_sparsity(module.encode(x).mean(0), 0.05)
    assert (found["loss"] - module.reconstruction_loss(x).mean() - 3 * price).abs() < EXACT
    assert found["sparsity"] == price and torch.equal(found["squared_error"], module.squared_error(x).mean())
    activities = []
    for weight in (0.0, 20.0):
        module = made()
        learner = GradientLearner(module, sparse(0.05, weight), torch.optim.Adam(module.parameters(), 0.05))
        train(learner, x, TrainingSettings(steps=100), device="cpu", progress=False)
        activities.append(module.encode(x).mean().item())
    assert abs(activities[1] - 0.05) < 0.04 and activities[0] > 0.2


# --- shapes, types, networks --------------------------------------------------------------------------------


def test_shapes(generator):
    x = rand(generator, 7, PIXELS)
    for pixels in ("bernoulli", "gaussian"):
        module = small(3, pixels)
        z = module.encode(x)
        assert z.shape == (7, 3) and module.decode(z).shape == module.mean(z).shape == (7, PIXELS)
        assert module.mean(z[0]).shape == (PIXELS,) and module.mean(z.view(7, 1, 3)).shape == (7, 1, PIXELS)
        assert torch.equal(module.mean(z.view(7, 1, 3))[:, 0], module.mean(z))
        assert torch.equal(module(x), module.reconstruct(x)) and torch.equal(module(x), module.mean(z))
        assert module.reconstruction_loss(x).shape == module.squared_error(x).shape == (7,)
        assert (module.squared_error(x) - (x - module(x)).square().sum(1)).abs().max() < EXACT
        assert module.reconstruction_loss(x).dtype == torch.float64
    assert 0 <= small(3).mean(9 * z).min() and small(3).mean(9 * z).max() <= 1
    assert small(3, "gaussian").mean(9 * z).max() > 1
    pca = PrincipalComponents.fit(x.float(), 2)
    assert pca.encode(x).shape == (7, 2) and pca.decode(pca.encode(x)).shape == (7, PIXELS)
    assert pca.components.shape == (PIXELS, 2) and pca.mean.shape == pca.eigenvalues.shape == (PIXELS,)
    assert pca.components.dtype == torch.float64 and pca.latent == 2


def test_six_layers_are_six_and_as_wide_as_said():
    layers = [tuple(parameter.shape) for parameter in six_layers().parameters() if parameter.dim() == 2]
    assert layers == [(512, 784), (128, 512), (3, 128), (128, 3), (512, 128), (784, 512)]
    deeper = six_layers(5, (PIXELS, 9, 8, 7), nn.Tanh, "gaussian")
    assert isinstance(deeper.encoder[1], nn.Tanh) and not isinstance(deeper.encoder[-1], nn.Tanh)
    assert deeper.decode(torch.zeros(2, 5)).shape == (2, PIXELS) and deeper.pixels == "gaussian"


def test_convolutions_are_networks_as_well(generator):
    with seeded(0):
        module = Autoencoder(convolutional_encoder(2, side=8, channels=(2, 3), width=5),
                             convolutional_decoder(2, side=8, channels=(2, 3), width=5)).double()
    x = rand(generator, 3, 64)
    assert module(x).shape == (3, 64) and module.reconstruction_loss(x).shape == (3,)
    with pytest.raises(ValueError, match=r"shape \(batch, 64\), and \(3, 63\) came"):
        module(x[:, :63])


class Any(nn.Module):
    """A network whose width cannot be read off, and that has no parameters."""

    def forward(self, x):
        return x[..., :2] if x.shape[-1] > 2 else x.repeat(1, 2)


def test_a_network_that_says_nothing_of_its_width_is_taken_as_it_is():
    module = Autoencoder(Any(), Any(), "gaussian")
    assert module(torch.ones(3, 4)).shape == (3, 4)
    with pytest.raises(ValueError, match=r"what comes back, \(3, 4\), and \(3, 5\) came"):
        module.reconstruction_loss(torch.ones(3, 5))


def test_float32_agrees_with_float64(generator):
    double, x = small(2, "gaussian"), rand(generator, 5, PIXELS)
    single = small(2, "gaussian").float()
    assert single.variance.dtype == torch.float32 and single(x.float()).dtype == torch.float32
    assert (single.reconstruction_loss(x.float()) - double.reconstruction_loss(x)).abs().max() < 1e-4
    assert (pixel_entropy(x.float()) - pixel_entropy(x)).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_an_autoencoder_on_a_gpu_is_the_one_on_the_cpu(name, generator):
    if not {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[name]:
        pytest.skip(f"no {name} here")
    x, here, there = rand(generator, 8, PIXELS).float(), small().float(), small().float()
    learner = GradientLearner(there, denoising(partial(mask_pixels, share=0.3)),
                              torch.optim.SGD(there.parameters(), 0.0))
    train(learner, x, TrainingSettings(steps=3, batch_size=4), device=name, progress=False)
    assert (there(x.to(name)).cpu() - here(x)).abs().max() < 1e-4


def test_the_loop_learns_and_tells_both_numbers(generator):
    x, module = rand(generator, 40, PIXELS), small(3)
    learner = GradientLearner(module, reconstruction, torch.optim.Adam(module.parameters(), 0.01))
    before = evaluate(learner, x, device="cpu", batch_size=7)
    assert before["loss"] == pytest.approx(module.reconstruction_loss(x).mean().item(), abs=1e-10)
    assert before["squared_error"] == pytest.approx(module.squared_error(x).mean().item(), abs=1e-10)
    train(learner, x, TrainingSettings(steps=60, batch_size=20), device="cpu", progress=False)
    after = evaluate(learner, x, device="cpu")
    assert all(after[name] < before[name] for name in before) and set(after) == {"loss", "squared_error"}


def test_nothing_is_drawn_from_the_global_generator(generator):
    module, x = small(), rand(generator, 6, PIXELS)
    state = torch.get_rng_state()
    mask_pixels(x, 0.5, generator), add_noise(x, 0.5, generator)
    module.reconstruction_loss(x), PrincipalComponents.fit(x, 2)
    denoising(partial(add_noise, sd=0.1))(module, x, generator)
    assert torch.equal(state, torch.get_rng_state())


# --- principal components and angles ------------------------------------------------------------------------


def test_principal_components_are_those_of_the_singular_value_decomposition(generator):
    x = pictures(generator, 9)                                          # fewer pictures than pixels
    pca = PrincipalComponents.fit(x, 4)
    centred = x - x.mean(0)
    _, values, right = torch.linalg.svd(centred, full_matrices=False)
    assert (pca.eigenvalues[:9] - values.square() / 9).abs().max() < 1e-10 and (pca.eigenvalues >= 0).all()
    assert ((pca.components.mT @ right[:4].mT).abs() - torch.eye(4)).abs().max() < 1e-10
    assert (pca.components.mT @ pca.components - torch.eye(4)).abs().max() < EXACT
    for _ in range(5):          # of the two signs, the one with the largest number above 0
        columns = PrincipalComponents.fit(pictures(generator, 9), 4).components
        assert (columns.max(0).values == columns.abs().max(0).values).all()
    assert (pca.encode(x).var(0, correction=0) - pca.eigenvalues[:4]).abs().max() < 1e-10
    everything = PrincipalComponents.fit(x, PIXELS)
    assert everything.squared_error(x).max() < 1e-20 and everything.least_error == 0


def test_angles_between_spaces_down_to_the_last_digits(generator):
    turn = torch.linalg.qr(randn(generator, 6, 6)).Q
    for angle in (0.0, 1e-9, 1e-4, 0.5, math.pi / 2 - 1e-9, math.pi / 2):
        a = torch.zeros(6, 2, dtype=torch.float64)
        b = a.clone()
        a[0, 0] = a[1, 1] = b[0, 0] = 1
        b[1, 1], b[2, 1] = math.cos(angle), math.sin(angle)
        mixed = turn @ b @ (randn(generator, 2, 2) + 2 * torch.eye(2))
        found = principal_angles(turn @ a, mixed)
        assert found[0].abs() < 1e-14 and found[1] == pytest.approx(angle, abs=1e-14)
        # the mutant: the arc cosine alone, which knows no angle below 1e-8
        cosine = torch.linalg.svdvals(torch.linalg.qr(turn @ a).Q.mT @ torch.linalg.qr(mixed).Q).clamp(max=1)
        if angle == 1e-9:
            assert abs(cosine[1].acos() - angle) > 5e-10
    inside = turn[:, :4]
    assert principal_angles(inside, inside[:, 1:2] - inside[:, 3:]).max() < 1e-14
    assert principal_angles(inside[:, 1:2], inside).shape == (1,)
    assert principal_angles(turn[:, :2].float(), turn[:, 4:].float()).min() == pytest.approx(math.pi / 2)


# --- bad input ----------------------------------------------------------------------------------------------

GOOD = torch.full((4, PIXELS), 0.5, dtype=torch.float64)


def learn(loss, x, **options):
    module = small(**options)
    learner = GradientLearner(module, loss, torch.optim.SGD(module.parameters(), 0.1))
    return train(learner, x, TrainingSettings(steps=1), device="cpu", progress=False)


@pytest.mark.parametrize("call, words", [
    (lambda m, g: m.encode(GOOD[:, :3]), r"shape \(batch, 15\), and \(4, 3\) came: flatten the images"),
    (lambda m, g: m.encode(GOOD.view(4, HEIGHT, WIDTH)), r"\(4, 3, 5\) came: flatten the images"),
    (lambda m, g: m.encode(GOOD[0]), r"\(15,\) came"),
    (lambda m, g: m.encode(GOOD[:0]), "No numbers came as the pictures"),
    (lambda m, g: m.encode(GOOD.float()), "computes in torch.float64, and torch.float32 came: convert"),
    (lambda m, g: m.encode((255 * GOOD).byte()), "torch.uint8 came: convert"),
    (lambda m, g: m.encode(GOOD * math.nan), "nan or inf in the pictures"),
    (lambda m, g: m.reconstruct(GOOD / 0), "nan or inf in the pictures"),
    (lambda m, g: m.squared_error(GOOD * math.nan), "nan or inf in the pictures"),
    (lambda m, g: m.squared_error(GOOD, GOOD[:2]), r"what comes back, \(4, 15\), and \(2, 15\) came"),
    (lambda m, g: m.squared_error(GOOD, GOOD * math.nan), "nan or inf in the pictures to be found again"),
    (lambda m, g: m.decode(torch.zeros(2, 3).double()), r"shape \(..., 2\) are decoded, and \(2, 3\) came"),
    (lambda m, g: m.mean(torch.zeros(()).double()), r"are decoded, and \(\) came"),
    (lambda m, g: m.reconstruction_loss(GOOD + 1), r"lie in \[0, 1\], and 1.5 to 1.5 came: scale the images"),
    (lambda m, g: m.reconstruction_loss(GOOD - 1), r"lie in \[0, 1\], and -0.5 to -0.5 came"),
    (lambda m, g: m.reconstruction_loss(GOOD, 255 * GOOD), r"127.5 to 127.5 came: scale"),
    (lambda m, g: m.reconstruction_loss(GOOD, GOOD[:, :3]), r"\(4, 15\), and \(4, 3\) came"),
    (lambda m, g: m.reconstruction_loss(GOOD, GOOD * math.nan), "nan or inf in the pictures to be found"),
    (lambda m, g: m.set_variance(GOOD), "no variance to set: build with pixels='gaussian'"),
    (lambda m, g: identity().set_variance(GOOD), "comes back without an error"),
    (lambda m, g: learn(reconstruction, GOOD + 1), r"lie in \[0, 1\], and 1.5 to 1.5 came"),
    (lambda m, g: learn(reconstruction, GOOD * math.nan), "nan or inf in the data"),
    (lambda m, g: learn(reconstruction, GOOD[:, :3]), r"\(4, 3\) came: flatten"),
    (lambda m, g: learn(sparse(0.1, 1.0), GOOD), r"Mean activities lie in \[0, 1\].*end the encoder by"),
    (lambda m, g: sparse(0.1, -1.0), "weight of sparsity is at least 0, and -1.0 came"),
    (lambda m, g: sparse(0.1, math.nan), "at least 0, and nan came"),
    (lambda m, g: kl_sparsity(GOOD[0], 1.0), "lies between 0 and 1, and 1.0 came"),
    (lambda m, g: kl_sparsity(GOOD[0] * math.nan, 0.1), r"lie in \[0, 1\], and nan to nan came"),
    (lambda m, g: mask_pixels(GOOD, 1.5, g), r"lies in \[0, 1\], and 1.5 came"),
    (lambda m, g: mask_pixels(GOOD, math.nan, g), "and nan came"),
    (lambda m, g: add_noise(GOOD, -0.1, g), "at least 0, and -0.1 came"),
    (lambda m, g: pixel_entropy(GOOD + 1), r"lie in \[0, 1\], and 1.5 to 1.5 came"),
    (lambda m, g: pixel_entropy(GOOD * math.nan), "nan or inf"),
    (lambda m, g: Autoencoder(nn.Linear(2, 1), nn.Linear(1, 2), "poisson"), "'gaussian', and 'poisson' came"),
    (lambda m, g: six_layers(0), "each at least 1, but .784, 512, 128, 0. came"),
    (lambda m, g: linear(4, 0), "each at least 1"),
    (lambda m, g: linear(0, 4), "each at least 1"),
    (lambda m, g: PrincipalComponents.fit(GOOD, 0), "1 to 15 components, and latent=0 came"),
    (lambda m, g: PrincipalComponents.fit(GOOD, 16), "1 to 15 components, and latent=16 came"),
    (lambda m, g: PrincipalComponents.fit(GOOD[:1], 2), r"two or more pictures.*\(1, 15\) came"),
    (lambda m, g: PrincipalComponents.fit(GOOD[0], 2), r"\(15,\) came"),
    (lambda m, g: PrincipalComponents.fit(GOOD * math.nan, 2), "nan or inf in the pictures"),
    (lambda m, g: components().autoencoder(torch.ones(2, 2)), r"invertible .* one of shape \(2, 2\) came"),
    (lambda m, g: components().autoencoder(torch.eye(3)), r"shape \(3, 3\) came"),
    (lambda m, g: principal_angles(torch.ones(3, 1), torch.ones(4, 1)), r"one height.*\(3, 1\) and \(4, 1\)"),
    (lambda m, g: principal_angles(torch.ones(3), torch.ones(3)), "one height"),
    (lambda m, g: principal_angles(torch.ones(3, 2), torch.eye(3)), "2 columns of a matrix .* depend on"),
    (lambda m, g: principal_angles(torch.eye(3) * math.nan, torch.eye(3)), "nan or inf in a matrix"),
])
def test_bad_input_gets_one_sentence(call, words, generator):
    with pytest.raises(ValueError, match=words):
        call(small(), generator)


def identity():
    module = linear(PIXELS, PIXELS).double()
    with torch.no_grad():
        for layer in (module.encoder[0], module.decoder[0]):
            layer.weight.copy_(torch.eye(PIXELS))
            layer.bias.zero_()
    return module


def components():
    return PrincipalComponents.fit(rand(torch.Generator().manual_seed(0), 9, PIXELS), 2)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1 + 1e-12, -1e-12])
def test_one_wrong_value_among_many_is_found(value):
    module = small()
    module.reconstruction_loss(GOOD)
    for row, pixel in ((0, 0), (3, 14), (2, 7)):
        wrong = GOOD.clone()
        wrong[row, pixel] = value
        with pytest.raises(ValueError, match="nan or inf|Bernoulli pixels lie in"):
            module.reconstruction_loss(GOOD, wrong)
        with pytest.raises(ValueError, match="nan or inf|Bernoulli pixels lie in"):
            module.reconstruction_loss(wrong)
    assert autoencoder.numbers_in(module.encoder) == PIXELS and autoencoder.numbers_in(module.decoder) == 2
