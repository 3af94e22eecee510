"""Chapter 7's scores: the Fréchet distance against couplings, scipy's square root and repeated draws;
precision and recall, modes and Parzen windows against loops over all pairs; with mutants that must fail.
"""

import copy
import itertools
import math

import pytest
import torch
from scipy import linalg, stats
from torch import nn
from torch.distributions import MultivariateNormal
from torch.nn import functional as F

from nemlib.evaluate.fid import (
    FeatureNetwork, Modes, expected_bias, frechet_distance, frechet_gaussian, mode_count, nearest,
    parzen_log_prob, precision_recall, stacked_modes,
)
from nemlib.gan import grid, ring
from nemlib.training import seeded

EXACT = 1e-9


@pytest.fixture
def generator():
    return numbers(20170626)


def numbers(seed):
    return torch.Generator().manual_seed(seed)


def randn(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def covariance(generator, size, rank=None):
    root = randn(generator, size, rank or size)
    return root @ root.T / size


# --- Fréchet distance ---------------------------------------------------------------------------------------


def by_scipy(mean, first, other_mean, second):
    """The formula as it is written, with scipy's square root of a matrix."""
    root = linalg.sqrtm(first.numpy())
    middle = torch.tensor(linalg.sqrtm(root @ second.numpy() @ root).real)
    return (mean - other_mean).square().sum() + (first + second - 2 * middle).trace()


@pytest.mark.equation("eq-gan-frechet", how="closed form")
def test_the_frechet_distance_is_the_formula(generator, largest_error):
    for size in (1, 2, 7):
        means = randn(generator, 2, size)
        first, second = covariance(generator, size), covariance(generator, size)
        found = frechet_gaussian(means[0], first, means[1], second)
        error = abs(found - by_scipy(means[0], first, means[1], second))
        largest_error(error)
        assert error < EXACT and found.shape == ()
        assert abs(found - frechet_gaussian(means[1], second, means[0], first)) < EXACT
        assert abs(frechet_gaussian(means[0], first, means[0], first)) < EXACT
        mutants = [(means[0] - means[1]).square().sum(), (means[0] - means[1]).norm(),
                   found - (means[0] - means[1]).square().sum(), found - (first + second).trace()]
        assert min(abs(found - mutant) for mutant in mutants) > 1e-3
    if size > 1:                                            # the trace of Σ₁^½ Σ₂^½ is no nuclear norm
        roots = [torch.tensor(linalg.sqrtm(matrix.numpy()).real) for matrix in (first, second)]
        wrong = (means[0] - means[1]).square().sum() + (first + second - 2 * roots[0] @ roots[1]).trace()
        assert abs(found - wrong) > 1e-3
    a, b = torch.tensor([[2.25]]).double(), torch.tensor([[0.25]]).double()
    line = frechet_gaussian(torch.zeros(1).double(), a, torch.full((1,), 3.0).double(), b)
    largest_error(abs(line - 10))
    assert abs(line - 10) < 1e-12                           # 3² + (1.5 − .5)²


@pytest.mark.equation("eq-gan-frechet", how="enumeration")
def test_no_coupling_of_two_gaussians_is_cheaper(generator, largest_error):
    """The map of the text reaches the distance, and of 2,000 cross-covariances Σ₁^½ K Σ₂^½ none is below."""
    size = 4
    first, second = covariance(generator, size), covariance(generator, size)
    zero = torch.zeros(size, dtype=torch.float64)
    found = frechet_gaussian(zero, first, zero, second)
    roots = [torch.tensor(linalg.sqrtm(matrix.numpy()).real) for matrix in (first, second)]
    inverse = torch.linalg.inv(roots[0])
    step = inverse @ torch.tensor(linalg.sqrtm((roots[0] @ second @ roots[0]).numpy()).real) @ inverse
    cost = (first + second - 2 * step @ first).trace()
    carried = (step @ first @ step.T - second).abs().max()
    assert carried < EXACT
    left, _, right = torch.linalg.svd(randn(generator, 2000, size, size))
    crosses = roots[0] @ left @ right @ roots[1]            # K orthogonal: the corners of ‖K‖ ≤ 1
    others = (first + second).trace() - 2 * crosses.diagonal(dim1=1, dim2=2).sum(1)
    error = max(abs(cost - found), (found - others.min()).clamp_min(0))
    largest_error(error)
    assert error < EXACT and others.min() < found + 0.3 * (first + second).trace()


def test_flat_covariances_have_a_distance_too(generator):
    first, second = covariance(generator, 6, 2), covariance(generator, 6, 3)
    zero = torch.zeros(6, dtype=torch.float64)
    found = frechet_gaussian(zero, first, zero, second)
    lifted = [matrix + 1e-12 * torch.eye(6, dtype=torch.float64) for matrix in (first, second)]
    assert found.isfinite() and abs(found - by_scipy(zero, lifted[0], zero, lifted[1])) < 1e-4
    assert abs(frechet_gaussian(zero, first, zero, first)) < 1e-6


def test_the_distance_of_two_sets_is_of_their_means_and_covariances(generator):
    real, generated = randn(generator, 30, 5) @ randn(generator, 5, 5), 0.5 * randn(generator, 40, 5) + 1
    found = frechet_distance(real, generated)
    centred = [each - each.mean(0) for each in (real, generated)]
    matrices = [each.T @ each / (len(each) - 1) for each in centred]
    exact = frechet_gaussian(real.mean(0), matrices[0], generated.mean(0), matrices[1])
    assert isinstance(found, float) and abs(found - exact) < EXACT
    biased = [each.T @ each / len(each) for each in centred]
    assert abs(found - frechet_gaussian(real.mean(0), biased[0], generated.mean(0), biased[1])) > 1e-3
    assert abs(frechet_distance(generated, real) - found) < EXACT
    assert abs(frechet_distance(real, real)) < EXACT
    assert abs(frechet_distance(real.float(), generated.float()) - found) < 1e-4
    one = frechet_distance(real[:, :1], generated[:, :1])
    spreads = real[:, 0].std(), generated[:, 0].std()
    assert abs(one - (real[:, 0].mean() - generated[:, 0].mean())**2 - (spreads[0] - spreads[1])**2) < EXACT
    shift = torch.arange(5).double()
    assert abs(frechet_distance(real, real + shift) - shift.square().sum()) < 1e-8


@pytest.mark.parametrize("real, generated", [
    (torch.ones(9, 3), torch.ones(9, 4)), (torch.ones(3, 3), torch.ones(9, 3)),
    (torch.ones(9, 3), torch.ones(3, 3)), (torch.ones(9), torch.ones(9)), (torch.ones(9, 3), torch.ones(9)),
    (torch.tensor(1.0), torch.ones(9, 3)),
])
def test_features_that_do_not_fit_are_refused(real, generated):
    with pytest.raises(ValueError, match="Two sets of features of one kind.*more samples than numbers"):
        frechet_distance(real, generated)


def test_features_that_are_not_finite_are_refused():
    for bad in (math.nan, math.inf):
        x = torch.randn(9, 3)
        x[4, 1] = bad
        for pair in ((x, torch.randn(9, 3)), (torch.randn(9, 3), x)):
            with pytest.raises(ValueError, match="nan or inf in the features"):
                frechet_distance(*pair)


EIGENVALUES = torch.logspace(0, -2, 12, dtype=torch.float64)


@pytest.mark.equation("eq-gan-frechet-bias", how="closed form")
def test_the_expansion_that_the_bias_rests_on(generator, largest_error):
    """Between N(0, Σ) and N(0, Σ + εE) it is ½ ε² Σ E²ᵢⱼ/(λᵢ + λⱼ) to second order, by four steps ε."""
    values, turn = EIGENVALUES[:5], torch.linalg.qr(randn(generator, 5, 5))[0]
    change = randn(generator, 5, 5)
    change = 0.2 * values.min() * (change + change.T)
    matrix, moved = turn @ torch.diag(values) @ turn.T, turn @ change @ turn.T
    zero = torch.zeros(5, dtype=torch.float64)
    steps = torch.tensor([-0.2, -0.1, 0.1, 0.2]).double()
    found = [frechet_gaussian(zero, matrix, zero, matrix + step * moved) / step**2 for step in steps]
    second_order = (4 * (found[1] + found[2]) - (found[0] + found[3])) / 6      # ε³ and ε⁴ cancel
    exact = 0.5 * (change.square() / (values[:, None] + values)).sum()
    error = abs(second_order / exact - 1)
    largest_error(error)
    assert error < 1e-3
    for mutant in (2 * exact, 0.5 * (change.diagonal().square() / (2 * values)).sum()):
        assert abs(second_order / mutant - 1) > 0.05


def bias_of(values, N1, N2):
    pairs = sum(a * b / (a + b) for a in values for b in values)
    return (1 / N1 + 1 / N2) * (1.25 * sum(values) + 0.5 * pairs)


@pytest.mark.equation("eq-gan-frechet-bias", how="Monte Carlo")
def test_the_bias_of_two_samples_of_one_law(generator, largest_error):
    N1, N2, times = 600, 400, 300
    found = torch.tensor([
        frechet_distance(*(randn(generator, count, 12) * EIGENVALUES.sqrt() for count in (N1, N2)))
        for _ in range(times)]).double()
    mean, error = found.mean(), found.std() / math.sqrt(times)
    exact = expected_bias(torch.diag(EIGENVALUES), N1, N2)
    largest_error(abs(mean / exact - 1))
    assert abs(mean - exact) < 4 * error and error < 0.02 * exact
    trace = EIGENVALUES.sum()
    for mutant in (0.8 * exact, (1 / N1 + 1 / N2) * trace, exact / (1 / N1 + 1 / N2) / N1):
        assert abs(mean - mutant) > 4 * error


def test_the_expected_bias_is_its_formula(generator):
    matrix = covariance(generator, 6)
    values = torch.linalg.eigvalsh(matrix).tolist()
    assert abs(expected_bias(matrix, 100, 70) - bias_of(values, 100, 70)) < 1e-12
    assert abs(expected_bias(2 * torch.eye(7), 100, 50) - (1 / 100 + 1 / 50) * 2 * (7 + 7 * 8 / 4)) < 1e-12
    flat = torch.diag(torch.tensor([1.0, 0.5, 0.0, 0.0]))
    assert abs(expected_bias(flat, 10, 10) - bias_of([1.0, 0.5], 10, 10)) < 1e-12
    assert isinstance(expected_bias(flat, 10, 20), float)


# --- precision and recall -----------------------------------------------------------------------------------


def share_covered(points, centres, k):
    """The definition by loops: radii without the point itself."""
    inside = 0
    for x in points:
        for i, centre in enumerate(centres):
            others = sorted((centre - other).norm().item() for j, other in enumerate(centres) if j != i)
            if (x - centre).norm().item() <= others[k - 1] * (1 + 1e-12):
                inside += 1
                break
    return inside / len(points)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("batch", [4, 1000])
def test_precision_and_recall_are_their_definition(k, batch, generator):
    real, generated = randn(generator, 30, 3), 0.6 * randn(generator, 21, 3) + 0.7
    found = precision_recall(real, generated, k, batch=batch)
    assert found.precision == pytest.approx(share_covered(generated, real, k), abs=1e-12)
    assert found.recall == pytest.approx(share_covered(real, generated, k), abs=1e-12)
    assert found.precision != found.recall                                  # the mutant: exchanged
    if k > 1:                                                       # the mutant: a point counts itself
        assert found.precision != share_covered(generated, real, k - 1) or (
            found.recall != share_covered(real, generated, k - 1))


def test_a_ball_reaches_as_far_as_the_neighbour_and_no_farther():
    real, generated = torch.tensor([[0.0], [1.0], [10.0]]), torch.tensor([[-1.0], [19.0], [-1.5]])
    assert precision_recall(real.double(), generated.double(), 1).precision == 2 / 3


def test_precision_and_recall_tell_narrow_from_wide(generator):
    real = randn(generator, 400, 6)
    narrow, wide = precision_recall(real, 0.5 * real), precision_recall(real, 2 * randn(generator, 400, 6))
    assert narrow.precision > 0.95 > 0.5 > narrow.recall and wide.precision < 0.5
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real, real + 100) == (0.0, 0.0)
    few = precision_recall(real, real[:5].repeat(20, 1))                    # copies of five data
    assert few.precision == 1 and few.recall < 0.05
    default = precision_recall(real, 0.8 * randn(numbers(1), 400, 6))
    assert default == precision_recall(real, 0.8 * randn(numbers(1), 400, 6), neighbours=3)


@pytest.mark.parametrize("k, sizes", [(0, (9, 9)), (-1, (9, 9)), (4, (9, 4)), (4, (4, 9)), (9, (9, 9))])
def test_neighbours_that_are_not_there_are_refused(k, sizes):
    with pytest.raises(ValueError, match=f"k from 1 to {min(sizes) - 1}; {k} came"):
        precision_recall(torch.randn(sizes[0], 2), torch.randn(sizes[1], 2), k)


def test_the_nearest_datum(generator):
    data, samples = torch.rand(700, 784, generator=generator), torch.rand(40, 784, generator=generator)
    samples[3], samples[17] = data[500], data[2]
    found, distance = nearest(samples, data, batch=7)
    exact = (samples[:, None] - data).norm(dim=2)
    assert torch.equal(found, exact.argmin(1)) and (distance - exact.min(1).values).abs().max() < 1e-5
    assert distance[3] == 0 and distance[17] == 0 and found[3] == 500 and found[17] == 2     # copies, exactly
    assert found.shape == distance.shape == (40,) and distance.sort().values[2] > 1


# --- modes --------------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-gan-good-share", how="Monte Carlo")
def test_the_share_of_true_samples_that_is_good(generator, largest_error):
    exact, count = 1 - math.exp(-9 / 2), 200_000
    for law in (ring(), grid()):
        found = mode_count(law.sample(count, generator), law.centres, law.deviation)
        error, deviation = abs(found.good - exact), math.sqrt(exact * (1 - exact) / count)
        largest_error(error)
        assert error < 4 * deviation
        for mutant in (math.erf(3 / math.sqrt(2)), 1 - math.exp(-3), 1 - math.exp(-9)):  # the line's, …
            assert abs(found.good - mutant) > 4 * deviation
        assert found.found == len(law.centres) and found.counts.sum() == round(found.good * count)


@pytest.mark.equation("eq-gan-good-share", how="quadrature")
def test_the_good_share_is_an_integral(largest_error):
    r = torch.linspace(0, 3, 30_001, dtype=torch.float64)
    density = r * (-r.square() / 2).exp()
    simpson = (density[:-1:2] + 4 * density[1::2] + density[2::2]).sum() * 1e-4 / 3
    largest_error(abs(simpson - (1 - math.exp(-4.5))))
    assert abs(simpson - (1 - math.exp(-4.5))) < 1e-12 and abs(stats.chi2(2).cdf(9) - simpson) < 1e-12


def test_a_mode_counts_its_good_samples():
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    samples = torch.tensor([[0.0, 0.29], [0.0, 0.31], [10.2, 0.0], [10.0, 0.1], [9.0, 0.0], [5.0, 5.0]])
    found = mode_count(samples, centres, 0.1)
    assert found.found == 2 and found.good == 0.5 and found.counts.tolist() == [1, 2, 0]
    assert abs(found.reverse_kl - (math.log(3) + math.log(1 / 3) / 3 + 2 / 3 * math.log(2 / 3))) < 1e-12
    assert mode_count(samples, centres, 0.1, reach=4.0).counts.tolist() == [2, 2, 0]
    single = mode_count(samples[:1], centres, 0.1)
    assert single[:2] == (1, 1.0) and abs(single.reverse_kl - math.log(3)) < 1e-12
    nothing = mode_count(samples[4:], centres, 0.1)
    assert nothing.found == 0 and nothing.good == 0 and nothing.reverse_kl == math.inf
    edge = mode_count(torch.tensor([[0.75, 0.0]]), centres, 0.25)           # exactly 3 deviations: not within
    assert edge.found == 0


@pytest.mark.parametrize("samples, deviation, reach", [
    (torch.zeros(0, 2), 0.1, 3.0), (torch.zeros(4, 2), 0.0, 3.0), (torch.zeros(4, 2), 0.1, -1.0),
    (torch.zeros(4, 2), math.nan, 3.0),
])
def test_modes_of_nothing_are_refused(samples, deviation, reach):
    with pytest.raises(ValueError, match="Modes are counted in one sample at least"):
        mode_count(samples, torch.zeros(3, 2), deviation, reach)


def draws_at(counts):
    """Samples that sit exactly on eight far centres, so many on each."""
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))[:, None].double() * 10


@pytest.mark.equation("eq-gan-reverse-kl", how="enumeration")
def test_the_divergence_of_modes_from_equal_shares(generator, largest_error):
    """log M − entropy; and its mean over all draws of a perfect machine is (M − 1)/2N and smaller terms."""
    centres = torch.arange(8)[:, None].double() * 10
    for counts in ([5, 3, 0, 0, 9, 1, 1, 2], [4] * 8, [0] * 7 + [9]):
        found = mode_count(draws_at(counts), centres, 0.1).reverse_kl
        shares = torch.tensor(counts).double() / sum(counts)
        equal = torch.full((8,), 1 / 8, dtype=torch.float64)
        exact = F.kl_div(equal.log(), shares, reduction="sum")
        largest_error(abs(found - exact))
        assert abs(found - exact) < 1e-12 and found >= 0
        if shares.max() < 1 and shares.std() > 0:               # the mutant: the other way round
            assert abs(found - F.kl_div((shares + 1e-12).log(), equal, reduction="sum")) > 0.1
    means = []
    for N in (400, 4000):                                   # exactly: the shares' counts are binomial
        n = torch.arange(1, N + 1).double()
        weight = torch.tensor(stats.binom(N, 1 / 8).pmf(n.numpy()))
        means.append((math.log(8) + 8 * (weight * (n / N) * (n / N).log()).sum()) / (7 / (2 * N)))
    assert abs(means[0] - 1) < 1e-2 and abs(means[1] - 1) < 1e-3 and abs(means[1] * 7 / 8 - 1) > 0.1


@pytest.mark.equation("eq-gan-missed", how="enumeration")
def test_how_many_modes_are_missed(largest_error):
    """All sequences of five draws from three modes."""
    shares, centres = [0.6, 0.3, 0.1], torch.arange(3)[:, None].double() * 10
    missed = total = 0.0
    for sequence in itertools.product(range(3), repeat=5):
        weight = math.prod(shares[mode] for mode in sequence)
        found = mode_count(torch.tensor(sequence)[:, None] * 10.0, centres, 0.1).found
        missed, total = missed + weight * (3 - found), total + weight
    exact = sum((1 - share)**5 for share in shares)
    largest_error(abs(missed - exact))
    assert abs(missed - exact) < 1e-12 and abs(total - 1) < 1e-12
    assert abs(missed - sum(1 - share**5 for share in shares)) > 0.1


# --- the classifier -----------------------------------------------------------------------------------------


def small_network(**options):
    with seeded(2):
        return FeatureNetwork(**{"side": 8, "width": 2, "numbers": 5, "classes": 10} | options)


def test_features_are_the_numbers_before_the_last_layer(generator):
    network, images = small_network(), torch.rand(11, 64, generator=generator)
    network.eval()
    found = network.features(images, batch=4)
    assert found.shape == (11, 5) and found.dtype == torch.float64 and found.min() >= 0
    assert not found.requires_grad
    assert torch.allclose(network.head(found.float()), network(images), atol=1e-6)
    assert network(images).shape == (11, 10) and network(images).requires_grad
    assert FeatureNetwork().features(torch.zeros(2, 784)).shape == (2, 64)


def test_the_network_is_two_convolutions_and_two_layers(generator):
    network, x = small_network(width=3).eval(), torch.rand(4, 64, generator=generator)
    layers = dict(network.named_parameters())
    h = x.view(4, 1, 8, 8)
    h = F.max_pool2d(F.relu(F.conv2d(h, layers["body.1.weight"], layers["body.1.bias"], padding=1)), 2)
    h = F.max_pool2d(F.relu(F.conv2d(h, layers["body.4.weight"], layers["body.4.bias"], padding=1)), 2)
    h = F.relu(F.linear(h.flatten(1), layers["body.9.weight"], layers["body.9.bias"]))
    assert torch.allclose(network.features(x), h.double(), atol=1e-6)
    assert torch.allclose(network(x), F.linear(h, layers["head.weight"], layers["head.bias"]), atol=1e-6)
    assert layers["body.4.weight"].shape[:2] == (6, 3) and layers["body.9.weight"].shape == (5, 6 * 4)
    assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.25]


def test_a_score_leaves_the_network_as_it_was(generator):
    network, images = small_network(), torch.rand(11, 64, generator=generator)
    for training in (True, False):
        network.train(training)
        before = copy.deepcopy(network.state_dict())
        assert torch.equal(network.features(images), network.features(images))      # no dropout inside
        network.classify(images)
        assert {part.training for part in network.modules()} == {training}
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    network.train()
    assert not torch.equal(network(images), network(images))                        # dropout outside


def test_the_most_probable_class_and_its_probability(generator):
    network, images = small_network(), torch.rand(9, 64, generator=generator)
    with torch.no_grad():
        network.head.weight.mul_(30)
    label, probability = network.classify(images, batch=2)
    exact = network.eval()(images).softmax(1)
    assert torch.equal(label.long(), exact.argmax(1))
    assert torch.allclose(probability, exact.max(1).values, atol=1e-6)
    assert probability.min() > 0.1 and len(label.unique()) > 1


@pytest.mark.parametrize("images, words", [
    (torch.zeros(3, 64) - 0.5, r"pixels in \[0, 1\], but -0.5 to -0.5.*\(x \+ 1\) / 2"),
    (torch.full((3, 64), 255.0), "255"), (torch.full((3, 64), 1.01), "1.01"), (torch.full((3, 64), math.nan), "nan"),
    (torch.zeros(3, 8, 8), r"Images are \(count, 64\).*\(3, 8, 8\) came"),
    (torch.zeros(0, 64), "one at least"), (torch.zeros(3, 63), r"\(3, 63\) came"),
])
def test_images_that_the_network_has_not_learnt_are_refused(images, words):
    network = small_network()
    for call in (network.features, network.classify):
        with pytest.raises(ValueError, match=words):
            call(images)
    assert network.training
    network.features(torch.full((2, 64), 1 + 1e-7))


@pytest.mark.parametrize("side", [30, 7, 27])
def test_sides_that_cannot_be_halved_twice_are_refused(side):
    with pytest.raises(ValueError, match=f"multiple of 4, but {side} came"):
        FeatureNetwork(side)


class Reader(FeatureNetwork):
    """Reads the digit off the first pixel, with a probability that the second one says."""

    def __init__(self):
        super().__init__(side=4, width=1, numbers=2)

    def forward(self, images):
        digit = (10 * images[:, 0]).long()
        others = ((1 - images[:, 1]) / 9).clamp_min(1e-9).log()
        return torch.where(torch.arange(10) == digit[:, None], images[:, 1:2].log(), others[:, None])


def stacked(*triples, sure=0.99):
    """Three digits each, (count, 3 · 16)."""
    images = torch.zeros(len(triples), 3, 16)
    images[:, :, 0] = (torch.tensor(triples) + 0.5) / 10
    images[:, :, 1] = torch.as_tensor(sure)
    return images.flatten(1)


def test_stacked_digits_are_read_channel_by_channel():
    found = stacked_modes(Reader(), stacked((1, 2, 3), (1, 2, 3), (3, 2, 1), (0, 0, 7)))
    assert isinstance(found, Modes) and found.found == 3 and found.good == 1
    assert found.counts.shape == (1000,) and found.counts.nonzero().squeeze(1).tolist() == [7, 123, 321]
    assert found.counts[123] == 2 and found.counts.sum() == 4
    assert abs(found.reverse_kl - (math.log(1000) - 1.5 * math.log(2))) < 1e-12
    doubtful = torch.tensor([[0.99, 0.99, 0.85], [0.99, 0.99, 0.91], [0.5, 0.6, 0.7]])
    unsure = stacked_modes(Reader(), stacked((1, 2, 3), (4, 5, 6), (9, 9, 9), sure=doubtful))
    assert unsure.found == 3 and unsure.good == pytest.approx(1 / 3) and unsure.counts[999] == 1
    every = stacked_modes(Reader(), stacked(*itertools.product(range(10), repeat=3)))
    assert every.found == 1000 and every.reverse_kl < 1e-12 and (every.counts == 1).all()


def test_stacked_images_of_another_range_are_refused():
    with pytest.raises(ValueError, match=r"pixels in \[0, 1\]"):
        stacked_modes(Reader(), 2 * stacked((1, 2, 3)) - 1)


# --- Parzen windows -----------------------------------------------------------------------------------------


def test_parzen_windows_are_a_mixture_of_gaussians(generator):
    x, centres, deviation = randn(generator, 23, 5), randn(generator, 40, 5), 0.4
    found = parzen_log_prob(x, centres, deviation, batch=7)
    one_by_one = torch.stack([MultivariateNormal(centre, deviation**2 * torch.eye(5).double()).log_prob(x)
                              for centre in centres])
    exact = one_by_one.logsumexp(0) - math.log(40)
    assert found.shape == (23,) and (found - exact).abs().max() < EXACT
    for mutant in (one_by_one.mean(0), one_by_one.logsumexp(0), exact + 5 * math.log(deviation)):
        assert (found - mutant).abs().max() > 0.1
    assert (parzen_log_prob(x.float(), centres.float(), deviation) - found).abs().max() < 1e-4
    assert parzen_log_prob(x + 1000, centres, deviation).isfinite().all()   # far away: no underflow


def test_parzen_windows_integrate_to_one(generator):
    x = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    centres = 2 * randn(generator, 30, 1)
    assert abs(parzen_log_prob(x[:, None], centres, 0.7).exp().sum() * 0.01 - 1) < 1e-12


def test_parzen_windows_are_fooled_by_centroids(generator):
    """Data around four points: the four points score better than as many true samples, and than 400."""
    places = torch.eye(4, dtype=torch.float64).repeat(1, 8) * 3

    def draw(count):
        return places[torch.randint(4, (count,), generator=generator)] + randn(generator, count, 32)

    test = draw(500)
    windows = places, draw(4), draw(400)
    centroids, few, many = (parzen_log_prob(test, centres, 1.0).mean() for centres in windows)
    assert centroids > many + 1 and centroids > few + 1
    own_noise = -16 * (math.log(2 * math.pi) + 1) - math.log(4)             # −32 entropies, and which of four
    assert abs(centroids - own_noise) < 1


@pytest.mark.parametrize("deviation", [0.0, -0.2, math.nan])
def test_windows_without_width_are_refused(deviation):
    with pytest.raises(ValueError, match="above 0, but"):
        parzen_log_prob(torch.zeros(3, 2), torch.zeros(4, 2), deviation)
