"""Chapter 6: every numbered equation of the masked autoencoder against sums over all inputs, derivatives by
autograd and counts of all paths, with mutants that the same checks must refuse.

The brute force knows a table of probabilities and nothing of masks: conditionals are ratios of its sums. Laws
of random degrees are exact too, by going through all degrees that can be drawn.
"""

import copy
import itertools
import math
import pickle
import random

import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from nemlib import made as module
from nemlib import training
from nemlib.made import (
    MADE, Bernoulli, Categorical, Connectivity, LogisticMixture, MADELearner, MaskedLinear, connectivity,
    encode, even_degrees, uniform_degrees,
)
from nemlib.training import TrainingSettings, evaluate, seeded, train

EXACT = 1e-10


@pytest.fixture
def generator():
    return numbers(20150212)


def numbers(seed):
    return torch.Generator().manual_seed(seed)


def randn(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def rand(generator, *shape):
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def states(dimensions, values=2):
    """All inputs, (values^D, D), the last dimension changing fastest."""
    return torch.tensor(list(itertools.product(range(values), repeat=dimensions)), dtype=torch.float64)


def number(x, values=2):
    """Which row of `states` each input is."""
    return (x.long() * values ** torch.arange(x.shape[-1] - 1, -1, -1)).sum(-1)


def random_table(generator, dimensions, values=2):
    """A law over all inputs that is far from uniform."""
    return (1.5 * randn(generator, values ** dimensions)).softmax(0)


# --- networks -----------------------------------------------------------------------------------------------

VARIANTS = {
    "plain": {},
    "relu": {"activation": F.relu},
    "no hidden layer": {"widths": (), "order": "random"},
    "one unit": {"widths": (1,)},
    "random order": {"order": "random"},
    "given order": {"order": [3, 0, 4, 1, 2], "degrees": "shuffled"},
    "deep": {"widths": (9, 6, 8), "order": "random", "degrees": "uniform"},
    "residual": {"widths": (8, 8, 8), "order": "random", "residual": True},
    "direct": {"widths": (3,), "order": "random", "direct": True},
    "labels": {"order": "random", "labels": 3},
    "labels, no hidden layer": {"widths": (), "labels": 2},
    "bits one-hot": {"coding": "one-hot"},
    "bits scaled": {"coding": "scaled", "direct": True},
    "softmax of bits": {"law": Categorical(2), "order": "random"},
    "softmax one-hot": {"law": Categorical(4), "order": "random"},
    "softmax scaled": {"law": Categorical(4), "coding": "scaled", "direct": True},
    "softmax integers": {"law": Categorical(4), "coding": "integers", "widths": (7, 7)},
    "logistic": {"law": LogisticMixture(4, 2), "coding": "scaled", "order": "random"},
    "logistic one-hot": {"law": LogisticMixture(4), "coding": "one-hot", "widths": ()},
    "logistic bits": {"law": LogisticMixture(2, 3)},
    "everything": {"widths": (8, 8), "law": Categorical(3), "order": "random", "residual": True,
                   "direct": True, "labels": 3, "dropout": 0.5},
}


def build(dimensions=5, widths=(9,), *, seed=1, scale=3.0, activation=torch.tanh, **options):
    """A network in float64, without gradients, with a law far from uniform."""
    generator = numbers(seed)
    made = MADE(dimensions, widths, generator, **{"activation": activation, "dtype": torch.float64} | options)
    with torch.no_grad():
        for name, value in made.named_parameters():
            value.normal_(generator=generator) if name.startswith("label") else value.mul_(scale)
    return made.requires_grad_(False).eval()


def labels_of(made, count, label=0):
    return torch.full((count,), label) if made.classes else None


def table(made, label=0):
    """p(x) of all inputs under the masks worn."""
    x = states(made.dimensions, made.law.values)
    return made.log_prob(x, labels_of(made, len(x), label)).exp()


def layers(made):
    return [*made.hidden, made.output]


def put(made, masks):
    """Wear masks (receiving, sending) of dimensions and units, where a dimension has several numbers too."""
    masks = [mask.clone() for mask in masks]
    masks[0] = masks[0].repeat_interleave(layers(made)[0].weight.shape[1] // made.dimensions, 1)
    masks[-1] = masks[-1].repeat_interleave(made.law.parameters, 0)
    for layer, mask in zip(layers(made), masks, strict=True):
        layer.mask.copy_(mask)
    return made


# what can be wrong with masks: each takes a Connectivity and gives its masks

def leaking(plan):
    """A pixel sees itself: ≥ where the output's mask has >."""
    senders = [plan.position, *plan.degrees]
    return [*plan.masks()[:-1], plan.position[:, None] >= senders[-1]]


def too_strict(plan):
    """A unit does not see the pixel at its own degree: > where the hidden layers have ≥."""
    senders = [plan.position, *plan.degrees]
    hidden = [above[:, None] > below for above, below in zip(plan.degrees, senders)]
    return [*hidden, plan.masks()[-1]]


def transposed(plan):
    """Rows and columns of the first mask are exchanged; for as many units as dimensions."""
    first, *others = plan.masks()
    return [first.T, *others]


def absent(plan):
    return [torch.ones_like(mask) for mask in plan.masks()]


LEAKS = [leaking, transposed, absent]


def paths_of(masks):
    """The product of masks."""
    product = masks[0].double()
    for mask in masks[1:]:
        product = mask.double() @ product
    return product


def in_order(matrix, plan):
    """Rows and columns as they come in the ordering."""
    return matrix[plan.order][:, plan.order]


def not_before(plan):
    """The pairs (output, input) that the ordering forbids."""
    return plan.position[:, None] <= plan.position


def jacobian(made, inputs, labels=None):
    """∂ outputs / ∂ coded inputs of each example: (D, parameters, batch, inputs)."""
    return torch.autograd.functional.jacobian(lambda u: made.network(u, labels).sum(0), inputs)


def seen(made, generator, points=5):
    """The largest |∂ output d / ∂ input i| over numbers of both and some inputs, real ones: (D, D)."""
    inputs = randn(generator, points, layers(made)[0].weight.shape[1])
    found = jacobian(made, inputs, labels_of(made, points, made.classes - 1)).abs().amax((1, 2))
    return found.unflatten(1, (made.dimensions, -1)).amax(-1)


def reach(made):
    """Which inputs reach which outputs, by residual and direct connections too."""
    first, *others = [mask.double() for mask in made.connectivity.masks()]
    product = first
    for mask in others[:-1]:
        product = (mask + torch.eye(len(mask)) if made.residual else mask) @ product
    product = others[-1] @ product if others else product
    return (product > 0) | (made.connectivity.direct() if made.skip is not None else False)


# --- 2. the chain rule --------------------------------------------------------------------------------------


def summed(joint, kept):
    """The sum of a table (k, …, k) over all dimensions but those kept, which stay as axes of one."""
    for axis in set(range(joint.dim())) - set(kept):
        joint = joint.sum(axis, keepdim=True)
    return joint


def conditionals(probs, order, values=2, given=None):
    """p(x_d | x_{<d}) of all inputs from a table of probabilities alone: (states, D)."""
    dimensions, order = len(order), [int(d) for d in order]
    joint = probs.view(dimensions * [values])
    found = torch.empty(len(probs), dimensions, dtype=probs.dtype)
    for t, d in enumerate(order):
        before = order[:t] if given is None else given(order, t)
        ratio = summed(joint, [*before, d]) / summed(joint, before)
        found[:, d] = ratio.expand_as(joint).flatten()
    return found


@pytest.mark.equation("eq-made-chain", "eq-made-chain-order", how="enumeration")
def test_any_law_is_a_product_of_conditionals_in_any_ordering(generator, largest_error):
    for values, dimensions in ((2, 6), (3, 4)):
        probs = random_table(generator, dimensions, values)
        natural = list(range(dimensions))
        others = [torch.randperm(dimensions, generator=generator) for _ in range(5)]
        for order in [natural, natural[::-1], *others]:
            label = "eq-made-chain" if order is natural else "eq-made-chain-order"
            error = (conditionals(probs, order, values).prod(1) / probs - 1).abs().max()
            largest_error(error, label)
            assert error < EXACT
            # the mutants: each given all the others, each given no other, each given the one before it
            for given in (lambda o, t: o[:t] + o[t + 1:], lambda o, t: [], lambda o, t: o[max(0, t - 1):t]):
                wrong = conditionals(probs, order, values, given).prod(1)
                assert (wrong / probs - 1).abs().max() > 0.1


@pytest.mark.parametrize("name", VARIANTS)
def test_the_networks_conditionals_are_those_of_its_law(name):
    made = build(**VARIANTS[name])
    x, values = states(5, made.law.values), made.law.values
    found = made.log_conditionals(x, labels_of(made, len(x))).exp()
    exact = conditionals(table(made), made.connectivity.order, values)
    assert (found / exact - 1).abs().max() < EXACT
    assert (found.prod(1) / table(made) - 1).abs().max() < EXACT
    if name in ("plain", "random order", "softmax one-hot"):
        for mutant in (leaking, absent):
            put(made, mutant(made.connectivity))
            wrong = made.log_conditionals(x).exp()
            assert (wrong / conditionals(table(made), made.connectivity.order, values) - 1).abs().max() > 0.01


@pytest.mark.equation("eq-made-table-size", how="enumeration")
def test_the_conditionals_have_as_many_free_numbers_as_the_table(generator, largest_error):
    for dimensions in (1, 2, 5, 10):
        x = states(dimensions)
        contexts = [len(torch.unique(x[:, :d], dim=0)) if d else 1 for d in range(dimensions)]
        assert contexts == [2 ** d for d in range(dimensions)]
        largest_error(abs(sum(contexts) - (2 ** dimensions - 1)))
        assert sum(contexts) == 2 ** dimensions - 1 and sum(contexts) != 2 ** dimensions
        # any such numbers are a law, and come back from its table
        free = [0.1 + 0.8 * rand(generator, count) for count in contexts]
        on = torch.stack([one[number(x[:, :d])] for d, one in enumerate(free)], 1)
        probs = torch.where(x == 1, on, 1 - on).prod(1)
        error = max((probs.sum() - 1).abs(), (conditionals(probs, range(dimensions)) - torch.where(
            x == 1, on, 1 - on)).abs().max())
        largest_error(error)
        assert error < EXACT


# --- 3. an autoencoder's outputs are no distribution --------------------------------------------------------


def autoencoder_sum(reconstruct, dimensions):
    """Σ_x Π_d x̂_d^{x_d} (1 − x̂_d)^{1 − x_d}."""
    x = states(dimensions)
    mean = reconstruct(x)
    return torch.where(x == 1, mean, 1 - mean).prod(1).sum()


@pytest.mark.equation("eq-made-autoencoder-sum", how="enumeration")
def test_the_sum_of_an_autoencoder(generator, largest_error):
    for dimensions in (1, 3, 10):
        error = (autoencoder_sum(lambda x: x, dimensions) - 2 ** dimensions).abs()
        for c in (0.0, 0.3, 4.0):                               # right with probability σ(c) in every pixel
            found = autoencoder_sum(lambda x: torch.sigmoid(c * (2 * x - 1)), dimensions)
            error = max(error, (found - (2 / (1 + math.exp(-c))) ** dimensions).abs())
        largest_error(error)
        assert error < EXACT
        # what sees no pixel is a distribution
        mean = rand(generator, dimensions)
        assert (autoencoder_sum(lambda x: mean.expand_as(x), dimensions) - 1).abs() < EXACT
    made = put(build(10), absent(build(10).connectivity))       # no masks: an autoencoder
    assert (autoencoder_sum(lambda x: made.logits(x).sigmoid(), 10) - made.log_prob(states(10)).exp().sum()
            ).abs() < EXACT
    assert (made.log_prob(states(10)).exp().sum() - 1).abs() > 0.01


# --- 4. the autoregressive property -------------------------------------------------------------------------


@pytest.mark.equation("eq-made-jacobian", how="autograd")
def test_the_jacobian_is_zero_on_and_above_the_diagonal(generator, largest_error):
    for name, options in VARIANTS.items():
        made = build(**options)
        forbidden, found = not_before(made.connectivity), seen(made, generator)
        largest_error(found[forbidden].max())
        assert found[forbidden].max() == 0, name
        assert name == "relu" or torch.equal(found > 0, reach(made)), name
        assert found.any() or name == "one unit"
    for mutant in LEAKS:
        made = build(6, (6,), order="random")
        put(made, mutant(made.connectivity))
        assert seen(made, generator)[not_before(made.connectivity)].max() > 1e-3


@pytest.mark.parametrize("name", VARIANTS)
def test_what_comes_later_changes_no_bit(name, generator):
    """The same by values: other values at and after a position leave the outputs up to it as they were."""
    made = build(**VARIANTS[name])
    x = states(5, made.law.values)[torch.randperm(made.law.values ** 5, generator=generator)[:32]]
    labels = labels_of(made, len(x))
    other = (x + 1) % made.law.values
    for t, d in enumerate(made.connectivity.order.tolist()):
        later = made.connectivity.order[t:]
        changed = x.index_copy(1, later, other[:, later])
        assert torch.equal(made(x, labels)[:, d], made(changed, labels)[:, d])


def sum_of(made, label=0):
    return table(made, label).sum()


@pytest.mark.equation("eq-made-normalised", how="enumeration")
def test_the_law_of_ten_pixels_adds_up_to_one(generator, largest_error):
    for options in ({}, {"order": "random"}, {"order": "random", "degrees": "uniform", "direct": True},
                    {"widths": (7, 12, 5), "order": "random"}, {"widths": ()}, {"coding": "one-hot"},
                    {"widths": (9, 9), "residual": True, "activation": F.relu}):
        made = build(10, **{"widths": (12,)} | options)
        error = (sum_of(made) - 1).abs()
        largest_error(error)
        assert error < EXACT
    for mutant in LEAKS:
        made = build(10, (10,), order="random")
        assert (sum_of(put(made, mutant(made.connectivity))) - 1).abs() > 1e-3
    made = build(10, (10,))
    assert (sum_of(put(made, too_strict(made.connectivity))) - 1).abs() < EXACT   # a sum finds no lost path


@pytest.mark.equation("eq-made-normalised", how="enumeration")
def test_the_last_is_summed_first(largest_error):
    """Of the first t conditionals the sum is 1 for every t, and what comes later has no part in them."""
    for options in ({"order": "random"}, {"order": "random", "law": Categorical(3), "direct": True}):
        made = build(6, **options)
        values, order = made.law.values, made.connectivity.order
        x = states(6, values)
        terms = made.log_conditionals(x)[:, order]
        for t in range(7):
            first = terms[:, :t].sum(1).exp()
            prefix = torch.zeros(len(x), dtype=torch.int64) if t == 0 else number(x[:, order[:t]], values)
            one_each = torch.zeros(values ** t, dtype=torch.float64).index_copy(0, prefix, first)
            error = max((one_each.sum() - 1).abs(), (one_each[prefix] - first).abs().max())
            largest_error(error)
            assert error < EXACT
        put(made, leaking(made.connectivity))
        assert (made.log_conditionals(x)[:, order[:3]].sum(1).exp().sum() / values ** 3 - 1).abs() > 1e-3


@pytest.mark.parametrize("label", [0, 2])
@pytest.mark.parametrize("options", [
    {"law": Categorical(4)}, {"law": Categorical(4), "coding": "scaled"},
    {"law": Categorical(4), "coding": "integers"}, {"law": LogisticMixture(4, 3)},
    {"law": LogisticMixture(4), "coding": "scaled"},
    {"law": Categorical(4), "widths": (8, 8), "residual": True},
])
def test_the_law_of_five_dimensions_of_four_values_adds_up_to_one(options, label):
    for parts in ({}, {"labels": 3}, {"direct": True, "labels": 3}):
        made = build(5, order="random", **options | parts)
        assert (sum_of(made, label) - 1).abs() < EXACT
        leaked = put(build(5, order="random", **options | parts), leaking(made.connectivity))
        assert (sum_of(leaked, label) - 1).abs() > 1e-4


@pytest.mark.parametrize("options", [{}, {"law": Categorical(4)}, {"law": LogisticMixture(4, 2)}])
def test_the_law_adds_up_to_one_in_float32(options):
    made = build(5 if options else 10, order="random", direct=True, **options).float()
    x = states(made.dimensions, made.law.values).float()
    assert (made.log_prob(x).double().exp().sum() - 1).abs() < 1e-6
    put(made, leaking(made.connectivity))
    assert (made.log_prob(x).double().exp().sum() - 1).abs() > 1e-3


# --- 5. masks from degrees ----------------------------------------------------------------------------------


def units_between(plan):
    """#{j : o(i) ≤ m(j) < o(d)} of one hidden layer, in plain loops: rows outputs d, columns inputs i."""
    position, degrees = plan.position.tolist(), plan.degrees[0].tolist()
    return torch.tensor([[sum(o_i <= m < o_d for m in degrees) for o_i in position] for o_d in position])


def walked(masks):
    """Paths from each input to each output, by walking along every single one."""
    first, *others = [mask.tolist() for mask in masks]
    sizes = [len(mask) for mask in masks[:-1]]
    found = torch.zeros(len(masks[-1]), len(first[0]), dtype=torch.int64)
    for units in itertools.product(*map(range, sizes)):
        inside = all(mask[above][below] for mask, below, above in zip(others, units, units[1:]))
        for d, i in itertools.product(*map(range, found.shape)) if inside else ():
            found[d, i] += int(first[units[0]][i] and others[-1][d][units[-1]])
    return found


@pytest.mark.equation("eq-made-paths", how="enumeration")
def test_paths_are_the_units_between(largest_error):
    for seed, how in itertools.product(range(3), ("even", "uniform", "shuffled")):
        plan = connectivity(6, [8], order="random", degrees=how, seed=seed)
        exact = units_between(plan)
        for found in (plan.paths(), walked(plan.masks()), paths_of(plan.masks())):
            largest_error((found - exact).abs().max())
            assert torch.equal(found.double(), exact.double())
        for mutant in (leaking, too_strict, absent):
            assert (paths_of(mutant(plan)) - exact).abs().max() >= 1


def chains(plan):
    """Nondecreasing chains of degrees from o(i) to below o(d), counted by how many units have each degree.

    It knows no masks. (D, D) int64, rows outputs; for any number of hidden layers.
    """
    D = plan.dimensions
    ways = torch.eye(D, dtype=torch.int64)  # of input at position i: chains that end at k
    for degrees in plan.degrees:
        ways = ways.cumsum(1) * torch.bincount(degrees - 1, minlength=D)
    before = ways.cumsum(1).roll(1, 1)                           # that end below position d
    before[:, 0] = 0
    return before.T[plan.position - 1][:, plan.position - 1]


def long_chains(plan):
    """The same by going through all units of all layers."""
    found = torch.zeros(plan.dimensions, plan.dimensions, dtype=torch.int64)
    for chain in itertools.product(*(degrees.tolist() for degrees in plan.degrees)):
        if all(below <= above for below, above in zip(chain, chain[1:])):
            found += (plan.position[:, None] > chain[-1]) & (plan.position <= chain[0])
    return found


@pytest.mark.equation("eq-made-deep-paths", how="enumeration")
def test_deep_paths_are_chains_of_degrees_that_do_not_fall(largest_error):
    for seed, how in itertools.product(range(2), ("even", "uniform", "shuffled")):
        plan = connectivity(4, [4, 3, 5], order="random", degrees=how, seed=seed)
        exact = long_chains(plan)
        for found in (plan.paths(), walked(plan.masks()), chains(plan)):
            largest_error((found - exact).abs().max())
            assert torch.equal(found.double(), exact.double())
        for mutant in (leaking, too_strict, absent):
            assert (paths_of(mutant(plan)) - exact).abs().max() >= 1


def architecture(seed):
    """An architecture at random for a picture that is not square, and its Connectivity."""
    draw = random.Random(seed)
    height, width = draw.sample(range(1, 8), 2)
    pixels = torch.arange(height * width)
    columns = pixels.view(height, width).T.flatten()            # column by column
    order = draw.choice(["natural", "random", "random", columns, columns.flip(0)])
    widths = [draw.randint(1, 15) for _ in range(draw.randint(0, 3))]
    how = draw.choice(["even", "uniform", "shuffled"])
    return connectivity(height * width, widths, order=order, degrees=how, seed=seed)


@pytest.mark.equation("eq-made-triangular", how="enumeration")
def test_the_proof_of_the_masks_for_a_thousand_architectures(largest_error):
    worst, depths, leaks = 0, set(), 0
    for seed in range(1000):
        plan = architecture(seed)
        found = plan.paths()
        worst = max(worst, int(in_order(found, plan).triu().max()))
        exact = chains(plan)
        assert torch.equal(found, exact.double()), seed
        assert torch.equal(plan.connected(), exact > 0)
        allowed = ~not_before(plan)
        assert torch.equal(plan.direct(), allowed)
        assert plan.lost() == int((allowed & (exact == 0)).sum())
        assert torch.equal(plan.blind(), (exact == 0).all(1) & (plan.position > 1))
        depths.add(len(plan.degrees))
        leaked = bool(in_order(paths_of(leaking(plan)), plan).diagonal().any())             # the mutant
        assert leaked or len(plan.degrees) > 1
        leaks += leaked
    largest_error(worst)
    assert worst == 0 and depths == {0, 1, 2, 3} and leaks > 900


def test_what_depends_on_what_is_what_has_a_path():
    """For 60 of them by autograd: the Jacobian's pattern is that of N, in both directions."""
    for seed in range(0, 1000, 17):
        plan = architecture(seed)
        widths = [len(degrees) for degrees in plan.degrees]
        made = MADE(plan.dimensions, widths, numbers(seed), activation=torch.tanh, dtype=torch.float64)
        made.wear(plan)
        with torch.no_grad():
            for value in made.parameters():
                value.abs_()                                    # nothing cancels
        found = jacobian(made, torch.zeros(1, plan.dimensions, dtype=torch.float64))[:, 0, 0]
        assert torch.equal(found > 0, plan.paths() > 0) and torch.equal(found != 0, found > 0)


def test_pixels_of_a_picture_that_is_not_square_come_column_by_column():
    height, width = 3, 5
    plan = connectivity(15, [20], order=torch.arange(15).view(height, width).T.flatten())
    position = plan.position.view(height, width)
    assert position[:, 0].tolist() == [1, 2, 3] and position[0].tolist() == [1, 4, 7, 10, 13]
    sees = plan.connected().view(height, width, height, width)
    assert sees[2, 1, :2, 1].all() and sees[2, 1, :, 0].all() and not sees[2, 1, :, 2:].any()
    assert not sees[2, 1, 2, 1] and not sees[0, 0].any()


@pytest.mark.equation("eq-made-jacobian-bound", how="autograd")
def test_the_jacobian_is_a_sum_over_paths(generator, largest_error):
    """(V ⊙ M^V) diag(g′) (W ⊙ M^W) + A ⊙ M^A, with every factor written down."""
    for direct in (False, True):
        made = build(6, (8,), order="random", degrees="uniform", direct=direct)
        to_hidden, to_outputs = made.connectivity.masks()
        W, V, b = made.hidden[0].weight, made.output.weight, made.hidden[0].bias
        found, x = jacobian(made, states(6))[:, 0], states(6)
        slope = 1 - torch.tanh(x @ (W * to_hidden).T + b).square()
        exact = torch.einsum("dj,bj,ji->dbi", V * to_outputs, slope, W * to_hidden)
        if direct:
            exact += (made.skip.weight * made.connectivity.direct())[:, None]
        largest_error((found - exact).abs().max())
        assert (found - exact).abs().max() < EXACT
        live = made.connectivity.connected() | (made.connectivity.direct() & direct)
        assert (found != 0).any(1).logical_and(~live).sum() == 0
        bare = torch.einsum("dj,bj,ji->dbi", V, slope, W)                       # the mutant: masks forgotten
        assert (bare - found).abs().max() > 0.1
        # each path carries at most the product of its weights: |J| ≤ N · max |V| · max |W| for slopes below 1
        if not direct:
            bound = made.connectivity.paths() * V.abs().max() * W.abs().max()
            assert (found.abs().amax(1) <= bound).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_a_network_wears_the_masks_of_its_plan(name):
    made = build(**{"seeds": range(4), "degrees": "even"} | VARIANTS[name])
    for index in (2, 0, 3):
        made.wear(index)
        plan = made.plan(index)
        worn = [layer.mask.clone() for layer in layers(made)]
        put(made, plan.masks())
        assert all(torch.equal(layer.mask, mask) for layer, mask in zip(layers(made), worn))
        assert torch.equal(made.connectivity.order, plan.order)
        if made.skip is not None:
            skip = made.skip.mask.unflatten(0, (5, -1)).unflatten(2, (5, -1))
            assert torch.equal(skip, plan.direct()[:, None, :, None].expand_as(skip).double())
    other = connectivity(5, made.widths, order="random", seed=77)
    made.wear(other)
    assert made.connectivity is other


def test_masks_multiply_and_are_never_written_into_weights(generator):
    made = build(6, (7,), order="random", direct=True, seeds=range(5))
    before = [value.clone() for value in made.parameters()]
    for index in range(5):
        made.wear(index)
        made.log_prob(states(6))
        made.sample(3, generator)
    assert all(torch.equal(old, new) and (new != 0).all() for old, new in zip(before, made.parameters()))
    assert not [name for name in made.state_dict() if "mask" in name]
    layer = MaskedLinear(4, 3, generator, dtype=torch.float64)
    layer.mask.copy_(torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]]))
    x, expected = randn(generator, 5, 4), layer.weight.detach().clone()
    expected[0, 1], expected[1] = 0.0, 0.0
    assert torch.equal(layer(x), F.linear(x, expected, layer.bias))
    layer(x).square().sum().backward()
    assert torch.equal(layer.weight.grad != 0, layer.mask != 0)
    assert layer.weight.abs().max() <= 0.5 and layer.weight.abs().max() > 0.4   # ±1/√inputs
    assert MaskedLinear(4, 3, generator, bias=False).bias is None


# --- 6. the loss --------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-made-nll", how="enumeration")
def test_cross_entropy_summed_over_pixels_is_the_negative_log_likelihood(largest_error):
    made = build(8, order="random", direct=True)
    x, probs = states(8), table(made)
    mean = made.logits(x).sigmoid()
    cross_entropy = -(x * mean.log() + (1 - x) * (1 - mean).log())
    exact = -conditionals(probs, made.connectivity.order).log().sum(1)
    library = F.binary_cross_entropy(mean, x, reduction="none").sum(1)
    for found in (cross_entropy.sum(1), -made.log_prob(x), library):
        error = (found - exact).abs().max()
        largest_error(error)
        assert error < EXACT
    assert (cross_entropy.mean(1) - exact).abs().max() > 1                       # the mutant: mean for sum
    assert ((-cross_entropy.mean(1)).exp().sum() - 1).abs() > 1                  # which is no law
    assert (-(x * mean + (1 - x) * (1 - mean)).sum(1) - exact).abs().max() > 1   # the mutant: no logarithm


@pytest.mark.equation("eq-made-bits", how="enumeration")
def test_bits_are_nats_over_log_two(largest_error):
    made = build(8, order="random")
    bits = -made.log_prob(states(8)) / math.log(2)
    exact = -conditionals(table(made), made.connectivity.order).log2().sum(1)
    error = max((bits - exact).abs().max(), ((2 ** -bits).sum() - 1).abs())      # Kraft: such codes exist
    largest_error(error)
    assert error < EXACT
    assert (-made.log_prob(states(8)) * math.log(2) - exact).abs().max() > 0.1   # the mutant


@pytest.mark.equation("eq-made-floor", how="enumeration")
def test_the_floor_of_the_loss_is_the_entropy(generator, largest_error):
    off = []
    for seed in range(5):
        truth, made = random_table(generator, 6), build(6, order="random", seed=seed)
        log_p = made.log_prob(states(6))
        loss, entropy = -(truth * log_p).sum(), -(truth * truth.log()).sum()
        gap = (truth * (truth.log() - log_p)).sum()
        error = (loss - entropy - gap).abs()
        largest_error(error)
        assert error < EXACT and gap > 0 and loss > entropy
        reverse = (log_p.exp() * (log_p - truth.log())).sum()  # the mutant: KL the other way
        off.append(float((loss - entropy - reverse).abs()))
        truth_itself = -(truth * conditionals(truth, range(6)).log().sum(1)).sum()
        assert (truth_itself - entropy).abs() < EXACT                            # the floor is reached
    assert max(off) > 0.1


@pytest.mark.equation("eq-made-gradient", how="autograd")
def test_the_gradient_at_the_logits_is_prediction_minus_pixel(generator, largest_error):
    x = states(6)
    logits = (4 * randn(generator, 64, 6)).requires_grad_()
    loss = -Bernoulli().log_prob(x, logits[..., None]).sum()
    found, = torch.autograd.grad(loss, logits)
    error = (found - (logits.sigmoid() - x)).abs().max()
    largest_error(error)
    assert error < EXACT
    assert (found - (x - logits.sigmoid())).abs().max() > 0.1                    # the mutant: the sign
    assert (found / 6 - (logits.sigmoid() - x)).abs().max() > 0.1                # and a mean over pixels


def test_logits_far_out_are_no_trouble():
    for dtype in (torch.float32, torch.float64):
        a = torch.tensor([[-200.0, 200.0, 0.0, 1e4]], dtype=dtype).requires_grad_()
        x = torch.tensor([[1.0, 1.0, 1.0, 0.0]], dtype=dtype)
        found = Bernoulli().log_prob(x, a[..., None])
        assert torch.allclose(found, torch.tensor([[-200.0, 0.0, -math.log(2), -1e4]], dtype=dtype))
        assert torch.autograd.grad(found.sum(), a)[0].isfinite().all()


# --- 7. degrees ---------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-made-even", how="enumeration")
def test_even_degrees(largest_error):
    for D, H in itertools.product((2, 3, 5, 10, 17), (1, 2, 4, 9, 16, 30)):
        found = even_degrees(D, H)
        exact = [1 + math.floor((j - 1) * (D - 1) / H) for j in range(1, H + 1)]
        largest_error((found - torch.tensor(exact)).abs().max())
        assert found.tolist() == exact and found.dtype == torch.int64
        counts = torch.bincount(found, minlength=D)[1:]
        assert counts.max() - counts.min() <= 1 and len(counts) == D - 1  # evenly, and none above D − 1
        assert (connectivity(D, [H]).lost() == 0) == (H >= D - 1)
        if H >= D - 1:
            assert connectivity(D, [H, H, H], order="random", seed=1).lost() == 0


def every_degrees(D, H):
    """All (D − 1)^H degrees that a layer may draw, alike in probability, as Connectivities."""
    return [Connectivity(torch.arange(D), (torch.tensor(degrees),))
            for degrees in itertools.product(range(1, D), repeat=H)]


@pytest.mark.equation("eq-made-lost", "eq-made-lost-count", how="enumeration")
def test_how_many_pairs_uniform_degrees_lose(largest_error):
    for D, H in ((2, 3), (4, 3), (5, 4), (6, 3)):
        plans = every_degrees(D, H)
        share = sum((~plan.connected()).double() for plan in plans) / len(plans)
        position = torch.arange(1, D + 1)
        distance = position[:, None] - position
        exact = (1 - distance.double() / (D - 1)) ** H
        error = (share - exact)[distance > 0].abs().max()
        largest_error(error, "eq-made-lost")
        count = sum((D - s) * (1 - s / (D - 1)) ** H for s in range(1, D))
        mean = sum(plan.lost() for plan in plans) / len(plans)
        largest_error(abs(mean - count), "eq-made-lost-count")
        assert error < EXACT and abs(mean - count) < EXACT
        # the mutants: D for D − 1, and the off-by-one in the hidden layer
        if D > 2:
            assert ((1 - distance.double() / D) ** H - share)[distance > 0].abs().max() > 0.01
        lost = [(~not_before(plan) & (paths_of(too_strict(plan)) == 0)).sum() for plan in plans]
        assert sum(map(int, lost)) / len(plans) - count > 0.1


@pytest.mark.equation("eq-made-blind", "eq-made-blind-any", how="enumeration")
def test_how_often_uniform_degrees_blind_an_output(largest_error):
    for D, H in ((2, 3), (4, 3), (5, 4), (6, 3)):
        plans = every_degrees(D, H)
        blind = torch.stack([plan.blind() for plan in plans]).double()
        at = torch.arange(D).double()                                        # t − 1
        exact = (1 - at / (D - 1)) ** H * (at > 0)
        error = (blind.mean(0) - exact).abs().max()
        largest_error(error, "eq-made-blind")
        some = abs(float(blind.amax(1).mean()) - (1 - 1 / (D - 1)) ** H)
        largest_error(some, "eq-made-blind-any")
        assert error < EXACT and some < EXACT
        assert torch.equal(blind.amax(1), blind[:, 1])  # some is blind ⇔ the second is
        shifted = (1 - (at + 1) / (D - 1)) ** H * (at > 0)
        assert D == 2 or (blind.mean(0) - shifted).abs().max() > 0.01            # the mutant: t for t − 1


@pytest.mark.equation("eq-made-blind-floor", how="enumeration")
def test_masks_set_a_floor_to_the_loss(generator, largest_error):
    """The best tables of what each output sees cost the sum of its entropies; no network with these masks costs less,
    and one with every path does.
    """
    x, truth, floors = states(5), random_table(generator, 5), []
    entropy = -float((truth * truth.log()).sum())

    def trained(plan, widths):
        network = MADE(5, widths, generator, order=plan.order, degrees=plan.degrees, dtype=torch.float64)
        climber = torch.optim.Adam(network.parameters(), 0.05)
        for _ in range(200):
            loss = -(truth * network.log_prob(x)).sum()
            climber.zero_grad()
            loss.backward()
            climber.step()
        return loss.item()

    for seed in range(6):
        plan = connectivity(5, [2], degrees="uniform", order="random", seed=seed)
        floor, best = 0.0, torch.zeros(32, dtype=torch.float64)
        for d, sees in enumerate(plan.connected()):
            p_seen, p_both = (((x[:, None, which] == x[:, which]).all(-1) * truth).sum(1)
                              for which in (sees, sees | (torch.arange(5) == d)))
            floor += float((truth * (p_seen / p_both).log()).sum())              # H(x_d | x_S)
            best += (p_both / p_seen).log()
        error = abs(floor + float((truth * best).sum()))
        largest_error(error, "eq-made-blind-floor")
        assert error < EXACT and abs(float(best.exp().sum()) - 1) < EXACT, "the best tables are a law"
        assert floor > entropy - EXACT and trained(plan, [2]) > floor
        floors.append(floor)
    assert max(floors) > entropy + 0.05, "lost pairs cost something"
    assert trained(connectivity(5, [40]), [40]) < max(floors), "and the floor is the masks', not the data's"


def test_uniform_degrees_have_one_probability_each(generator):
    drawn = uniform_degrees(7, 6000, generator)
    counts = torch.bincount(drawn, minlength=7)[1:]
    assert len(counts) == 6 and stats.chisquare(counts.numpy()).pvalue > 1e-4
    counts = torch.bincount(uniform_degrees(7, 6000, generator, least=3), minlength=7)[1:]
    assert counts[:2].sum() == 0 and stats.chisquare(counts[2:].numpy()).pvalue > 1e-4
    assert uniform_degrees(1, 5, generator).tolist() == [1] * 5
    for seed in range(30):                                  # no unit of a later layer sees nothing
        plan = connectivity(9, [3, 4, 5], degrees="uniform", seed=seed)
        for mask in plan.masks()[:-1]:
            assert mask.any(1).all()


def test_shuffled_degrees_are_the_even_ones_in_another_order():
    plan = connectivity(9, [6, 20], degrees="shuffled", seed=3)
    for degrees in plan.degrees:
        even = even_degrees(9, len(degrees))
        assert torch.equal(degrees.sort().values, even) and not torch.equal(degrees, even)
    one = connectivity(9, [20], degrees="shuffled", order="random", seed=3)
    assert torch.equal(one.paths(), connectivity(9, [20], order=one.order).paths())


def wasted(plan):
    """Units of the last hidden layer that no output listens to."""
    return int((~plan.masks()[-1].any(0)).sum())


def test_no_unit_is_wasted_on_the_degree_of_the_last_position():
    """The mutant: degrees 1, …, D. Connectivity refuses them; where they slip in, units go nowhere."""
    for how in ("even", "uniform", "shuffled"):
        assert wasted(connectivity(6, [30], degrees=how, order="random")) == 0
    with pytest.raises(ValueError, match="from 1 to 5 for 6 inputs"):
        connectivity(6, [6], degrees=[[1, 2, 3, 4, 5, 6]])
    plan = connectivity(6, [6], order="random", seed=2)
    object.__setattr__(plan, "degrees", (torch.arange(1, 7),))
    assert wasted(plan) == 1
    assert wasted(connectivity(6, [6], order="random", seed=2)) == 0


def test_deep_networks_have_more_paths_than_a_number_can_count():
    plan = connectivity(3, [100] * 30)
    assert torch.equal(plan.connected(), torch.ones(3, 3).tril(-1).bool()) and plan.lost() == 0
    assert not plan.blind().any()


# --- 8. ensembles -------------------------------------------------------------------------------------------


def tables(made):
    """p_m(x) of all inputs under each set of masks, (M, states)."""
    found = []
    for index in range(made.count):
        made.wear(index)
        found.append(table(made))
    return torch.stack(found)


def averaged_logits(made, x):
    """The mutant: log p of a Bernoulli law with the mean of the logits over the masks, and these logits."""
    logits = []
    for index in range(made.count):
        made.wear(index)
        logits.append(made.logits(x))
    return Bernoulli().log_prob(x, torch.stack(logits).mean(0)[..., None]).sum(1), torch.stack(logits).mean(0)


@pytest.mark.equation("eq-made-logsumexp", how="enumeration")
def test_the_mixture_of_masks_is_an_average_of_probabilities(largest_error):
    for options in ({"order": "random"}, {"order": "random", "degrees": "uniform", "widths": (12, 12)},
                    {"degrees": "uniform"}):
        made = build(10, **{"widths": (12,), "seeds": range(3, 8)} | options)
        x, worn = states(10), made.connectivity
        found = made.ensemble_log_prob(x)
        assert made.connectivity is worn
        masks = tables(made)
        error = max((found.exp() / masks.mean(0) - 1).abs().max(), (found.exp().sum() - 1).abs())
        largest_error(error)
        assert error < EXACT
        assert (made.ensemble_log_prob(x, plans=2).exp() / masks[:2].mean(0) - 1).abs().max() < EXACT
        assert (made.ensemble_log_prob(x, plans=1).exp() / masks[0] - 1).abs().max() < EXACT
        # the mutants: averaged log-probabilities, averaged logits, log M forgotten
        assert 1 - masks.log().mean(0).exp().sum() > 0.01
        total = averaged_logits(made, x)[0].exp().sum()                          # in one ordering a law, too
        assert (total - 1).abs() > 1e-4 if "order" in options else (total - 1).abs() < EXACT
        assert (averaged_logits(made, x)[0] - found).abs().max() > 0.1
        assert (masks.log().logsumexp(0).exp().sum() - 1).abs() > 1


@pytest.mark.equation("eq-made-jensen", how="enumeration")
def test_a_mixture_is_better_than_its_members_on_average(generator, largest_error):
    made = build(8, (10,), order="random", seeds=range(6), scale=8.0)
    log_p, mixture = tables(made).log(), made.ensemble_log_prob(states(8))
    best = log_p.amax(0)
    for shortfall in (log_p.mean(0) - mixture, best - math.log(6) - mixture, mixture - best):
        largest_error(shortfall.clamp_min(0).max())
        assert shortfall.max() < EXACT and shortfall.min() < -0.01
    assert (log_p.logsumexp(0) - best).max() > 0.1                              # the mutant: log M forgotten
    assert (best - math.log(6) - log_p.mean(0)).max() > 0.1                     # and logs averaged
    same = build(8, (10,), order="natural", seeds=range(6))                     # equal where all agree
    assert (same.ensemble_log_prob(states(8)) - same.log_prob(states(8))).abs().max() < EXACT


@pytest.mark.equation("eq-made-logit-average", how="enumeration")
def test_averaged_logits_are_no_law(generator, largest_error):
    """Two pixels in both orders: Σ q = 1 + (u(1) − u(0)) (v(1) − v(0)), where u and v are the chances of a 1
    in the first and the second pixel by the averaged logits, each given the other pixel.
    """
    off = []
    for seed in range(10):
        logits = []
        for order in ([0, 1], [1, 0]):
            made = build(2, (6,), order=order, seed=seed, scale=6.0)
            logits.append(made.logits(states(2)))
        mean = torch.stack(logits).mean(0)
        total = Bernoulli().log_prob(states(2), mean[..., None]).sum(1).exp().sum()
        u, v = mean[:2, 0].sigmoid(), mean[[0, 2], 1].sigmoid()                 # x = 00, 01 and x = 00, 10
        error = (total - 1 - (u[1] - u[0]) * (v[1] - v[0])).abs()
        largest_error(error)
        assert error < EXACT
        off.append(float(total - 1))
        for one in logits:                                                      # either order alone is a law
            assert (Bernoulli().log_prob(states(2), one[..., None]).sum(1).exp().sum() - 1).abs() < EXACT
    assert max(map(abs, off)) > 0.01
    made = build(10, (12,), order="random", seeds=range(8))
    assert (averaged_logits(made, states(10))[0].exp().sum() - 1).abs() > 1e-3
    x = randn(generator, 1, 10)
    found = torch.autograd.functional.jacobian(lambda u: averaged_logits(made, u)[1][0], x)[:, 0]
    assert (found != 0)[~torch.eye(10).bool()].double().mean() > 0.9            # everybody sees everybody


def test_an_ensemble_of_more_values_and_of_labels(generator):
    for options in ({"law": Categorical(3)}, {"law": LogisticMixture(3, 2)}, {"labels": 3}):
        made = build(5, order="random", seeds=(4, 9, 1), **options)
        x = states(5, made.law.values)
        for label in (0, 2) if made.classes else (0,):
            labels = labels_of(made, len(x), label)
            assert (made.ensemble_log_prob(x, labels).exp().sum() - 1).abs() < EXACT


def test_an_evaluation_of_a_mixture_leaves_no_trace(generator):
    made = build(6, order="random", seeds=range(4))
    made.wear(2)
    masks = [layer.mask.clone() for layer in layers(made)]
    before = made.log_prob(states(6))
    assert not made.ensemble_log_prob(states(6)).requires_grad
    assert torch.equal(made.log_prob(states(6)), before)
    plan = connectivity(6, [9], order="random", seed=99)
    made.wear(plan)                                                     # masks of no seed come back, too
    made.ensemble_log_prob(states(6))
    assert made.connectivity is plan
    made.wear(2)
    calls = []

    def breaks(x):
        calls.append(1)
        if len(calls) > 1:
            raise InterruptedError
        return torch.tanh(x)

    made.activation = breaks
    with pytest.raises(InterruptedError):
        made.ensemble_log_prob(states(6))
    assert all(torch.equal(layer.mask, mask) for layer, mask in zip(layers(made), masks))


def test_seeds_make_masks_again_and_keep_none():
    made = build(8, (10,), order="random", degrees="uniform", seeds=range(10 ** 6))
    assert made.count == 10 ** 6
    for index in (0, 17, 999_999):
        one, two = made.plan(index), made.plan(index)
        exact = connectivity(8, [10], order="random", degrees="uniform", seed=index)
        assert torch.equal(one.order, two.order) and torch.equal(one.order, exact.order)
        assert torch.equal(one.degrees[0], two.degrees[0]) and torch.equal(one.degrees[0], exact.degrees[0])
    assert len({tuple(made.plan(index).order.tolist()) for index in range(50)}) > 45
    assert sum(buffer.numel() for buffer in made.buffers()) == 2 * 80 + 1


# --- 9. sampling and completing -----------------------------------------------------------------------------


def naive(made, x, known, generator, labels=None):
    """Whole passes: the conditional of one dimension after another, from everything so far."""
    x = x.clone()
    for d in made.connectivity.order.tolist():
        if not known[d]:
            x[:, d] = made.law.sample(made(x, labels)[:, d:d + 1], generator).squeeze(-1)
    return x


def fits(rows, law):
    """The p-value of chi-square for numbers of states against a law; states that are expected less than five
    times are counted together.
    """
    counts, expected = torch.bincount(rows, minlength=len(law)).double(), law / law.sum() * len(rows)
    rare = expected < 5
    assert rare.double().mean() < 1
    counts, expected = (torch.cat([part[~rare], part[rare].sum()[None]]) for part in (counts, expected))
    if expected[-1] == 0:
        assert counts[-1] == 0
        counts, expected = counts[:-1], expected[:-1]
    return stats.chisquare(counts.numpy(), expected.numpy()).pvalue if len(counts) > 1 else 1.0


@pytest.mark.parametrize("name", VARIANTS)
def test_draws_have_the_law(name, generator):
    made, count = build(scale=1.5, **VARIANTS[name]), 4000
    label = made.classes - 1 if made.classes else 0
    x = made.sample(count, generator, labels_of(made, count, label))
    law = table(made, label)
    assert x.shape == (count, 5) and x.dtype == torch.float64 and not x.requires_grad
    assert fits(number(x, made.law.values), law) > 1e-4
    exact = law @ states(5, made.law.values)
    assert ((x.mean(0) - exact).abs() < 4 * x.std(0) / math.sqrt(count)).all()


def test_drawing_in_another_order_than_the_masks_is_noticed(generator):
    """The mutant: from left to right in a network whose ordering is another one."""
    made = build(5, order=[4, 2, 0, 3, 1], scale=4.0)
    nothing = torch.zeros(5).bool()
    start = torch.zeros(4000, 5, dtype=torch.float64)
    assert fits(number(naive(made, start, nothing, generator)), table(made)) > 1e-4
    object.__setattr__(made.connectivity, "order", torch.arange(5))
    assert fits(number(made.sample(4000, generator)), table(made)) < 1e-9
    assert fits(number(naive(made, start, nothing, generator)), table(made)) < 1e-9


@pytest.mark.parametrize("name", VARIANTS)
def test_the_sampler_equals_whole_passes(name, generator):
    made = build(**VARIANTS[name])
    labels = torch.arange(40) % made.classes if made.classes else None
    far = torch.full((40, 5), float(made.law.values - 1)).double()          # what is not yet drawn has no say
    found = made.sample(40, numbers(3), labels)
    assert torch.equal(found, naive(made, far, torch.zeros(5).bool(), numbers(3), labels))
    assert torch.equal(found, made.sample(40, numbers(3), labels))
    assert not torch.equal(found, made.sample(40, numbers(4), labels))
    known = torch.tensor([True, False, False, True, False])
    made.wear(made.plan_with(known))
    start = states(5, made.law.values)[torch.randperm(made.law.values ** 5, generator=generator)[:20]]
    labels = None if labels is None else labels[:20]
    found = made.complete(start, known, numbers(3), labels)
    assert torch.equal(found[:, known], start[:, known])
    assert torch.equal(found, naive(made, start, known, numbers(3), labels))


def test_labels_of_one_batch_may_differ(generator):
    made = build(4, order="random", labels=3)
    labels = torch.arange(6000) % 3
    x = made.sample(6000, generator, labels)
    for label in range(3):
        assert fits(number(x[labels == label]), table(made, label)) > 1e-4
        assert fits(number(x[labels == label]), table(made, (label + 1) % 3)) < 1e-6        # the mutant
    x = states(4)
    found = made.log_prob(x, labels[:16])
    assert (found.exp() - torch.stack([table(made, int(label))[row] for row, label in enumerate(labels[:16])])
            ).abs().max() < EXACT
    for kind in (torch.uint8, torch.int32, torch.int16, torch.int8):            # as data sets have them
        assert torch.equal(made.log_prob(x, labels[:16].to(kind)), found)
        drawn = [made.sample(9, numbers(2), given) for given in (labels[:9], labels[:9].to(kind))]
        assert torch.equal(*drawn)


@pytest.mark.equation("eq-made-completion", how="enumeration")
def test_completions_have_the_conditional_law(generator, largest_error):
    for options in ({}, {"law": Categorical(3)}, {"degrees": "uniform", "direct": True},
                    {"law": LogisticMixture(3)}):
        made = build(5, order="random", seeds=range(3), scale=2.0, **options)
        values = made.law.values
        x = states(5, values)
        for known in (rand(generator, 5) < 0.5 for _ in range(4)):
            made.wear(made.plan_with(known))
            given = x[int(rand(generator) * len(x))]
            same = (x[:, known] == given[known]).all(1)
            exact = table(made) * same / table(made)[same].sum()
            product = made.log_conditionals(x)[:, ~known].sum(1).exp() * same
            error = (product - exact).abs().max()
            largest_error(error)
            assert error < EXACT
            start = torch.where(known, given, math.nan).expand(1500, -1)  # unknown ones are not read
            drawn = made.complete(start, known, generator)
            assert torch.equal(drawn[:, known], start[:, known])
            assert fits(number(drawn, values), exact) > 1e-4
            if 0 < known.sum() < 5:
                wrong = made.log_conditionals(x).sum(1).exp() * same  # the mutant: all of them
                assert (wrong - exact).abs().max() > 1e-3


@pytest.mark.equation("eq-made-clamping", how="enumeration")
def test_pixels_that_are_clamped_while_others_are_drawn_give_another_law(generator, largest_error):
    """q(u) = Π_{d unknown} p(x_d | x_{<d}) is a law, and p(u | known) ∝ q(u) Π_{d known} p(x_d | x_{<d})."""
    made = build(6, order="random", scale=4.0)
    order, x = made.connectivity.order, states(6)
    known = torch.zeros(6).bool()
    known[order[[2, 5]]] = True                                                 # later ones
    terms, distances = made.log_conditionals(x), []
    for given in x[::9]:
        same = (x[:, known] == given[known]).all(1)
        clamped = terms[:, ~known].sum(1).exp() * same
        exact = table(made) * same / table(made)[same].sum()
        weighted = clamped * terms[:, known].sum(1).exp()
        error = max((clamped.sum() - 1).abs(), (weighted / weighted.sum() - exact).abs().max())
        largest_error(error)
        assert error < EXACT
        distances.append(float((clamped - exact).abs().sum() / 2))
    assert max(distances) > 0.05
    start = given.expand(4000, -1)
    drawn = number(naive(made, start, known, generator))
    assert fits(drawn, clamped) > 1e-4 and fits(drawn, exact) < 1e-4  # the mutant: taken for the conditional
    with pytest.raises(ValueError, match="must come first.*plan_with"):
        made.complete(start, known, generator)


def test_what_is_known_comes_first_and_the_rest_keeps_its_order(generator):
    made = build(9, (12,), order="random", degrees="uniform")
    for _ in range(10):
        known = rand(generator, 9) < 0.5
        plan = made.plan_with(known, seed=4)
        first = int(known.sum())
        assert known[plan.order[:first]].all() and not known[plan.order[first:]].any()
        rest = [d for d in made.connectivity.order.tolist() if not known[d]]
        assert plan.order[first:].tolist() == rest
        assert torch.equal(plan.degrees[0], made.plan_with(known, seed=4).degrees[0])
        assert not torch.equal(plan.degrees[0], made.plan_with(known, seed=5).degrees[0])


def test_completing_takes_any_strides_and_leaves_its_argument_alone(generator):
    made = build(6, order=[5, 4, 3, 2, 1, 0])
    known = torch.tensor([0, 1, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1]).bool()[::2]      # 0 0 0 1 1 1
    x = states(6)[3:12].T.contiguous().T
    before = x.clone()
    assert not known.is_contiguous() and not x.is_contiguous()
    found = made.complete(x, known, numbers(1))
    assert torch.equal(x, before) and torch.equal(found[:, known], x[:, known])
    assert torch.equal(found, made.complete(x.contiguous(), known.contiguous(), numbers(1)))
    assert torch.equal(found, made.complete(x.long(), known, numbers(1)))
    assert torch.equal(made.complete(x, torch.ones(6).bool(), generator), x)
    assert torch.equal(made.complete(x, torch.zeros(6).bool(), numbers(1)), made.sample(9, numbers(1)))


# --- 10. more than two values -------------------------------------------------------------------------------


@pytest.mark.equation("eq-made-softmax", how="closed form")
def test_the_softmax_law(generator, largest_error):
    law, outputs = Categorical(4), 3 * randn(generator, 50, 4)
    exact = outputs.exp() / outputs.exp().sum(1, keepdim=True)
    found = masses(law, outputs).exp()
    error = (found - exact).abs().max()
    largest_error(error)
    assert error < EXACT and (law.mean(outputs) - exact @ torch.arange(4.0).double()).abs().max() < EXACT
    assert (outputs.sigmoid() - exact).abs().max() > 0.1                        # the mutant: k bits
    shifted = masses(law, outputs.float() + 1e5)
    assert (shifted.double().exp().sum(1) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("law, outputs", [
    (Bernoulli(), [0.7]), (Categorical(3), [0.5, -1.0, 0.2]), (LogisticMixture(2), [0.0, 0.4, -0.3]),
    (LogisticMixture(5, 2), [0.3, -0.4, -0.8, 0.5, -1.5, -0.5]), (LogisticMixture(4), [0.0, 1.5, -1.0]),
])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_and_means_of_every_law(law, outputs, dtype, generator):
    outputs, values = torch.tensor(outputs, dtype=dtype), torch.arange(law.values, dtype=dtype)
    probs = masses(law, outputs).double().exp()
    x = law.sample(outputs.expand(5000, -1), generator)
    assert x.shape == (5000,) and x.dtype == dtype and fits(x.long(), probs) > 1e-4
    assert (law.mean(outputs).double() - probs @ values.double()).abs() < 1e-6
    assert fits(x.long(), probs.flip(0)) < 1e-6                                 # the mutant: turned round


@pytest.mark.equation("eq-made-one-hot", how="enumeration")
def test_one_hot_inputs_choose_columns(generator, largest_error):
    made = build(3, (7,), law=Categorical(5), scale=1.0)
    x, W = states(3, 5), made.hidden[0].masked().unflatten(1, (3, 5))
    exact = made.hidden[0].bias + sum(W[:, d, x[:, d].long()].T for d in range(3))
    found = made.first(encode(x, 5, "one-hot"))
    error = (found - exact).abs().max()
    largest_error(error)
    assert error < EXACT
    # any function of a value: put it into the columns
    anything = randn(generator, 5)
    unit, made.hidden[0].weight[0, :5] = 0, anything
    before = made.first(encode(x, 5, "one-hot"))[:, unit] - made.hidden[0].bias[unit]
    assert made.connectivity.degrees[0][unit] == 1 and (before - anything[x[:, 0].long()]).abs().max() < EXACT
    wrong = made.hidden[0].bias + sum(W[:, d, (x[:, d].long() + 1) % 5].T for d in range(3))
    assert (wrong - found).abs().max() > 0.1                                    # the mutant: the next column


@pytest.mark.equation("eq-made-scaled", how="enumeration")
def test_scaled_values_enter_along_a_straight_line(generator, largest_error):
    """The first layer before its activation: w (2x/(k − 1) − 1) + b, with no second difference."""
    for coding, slope in (("scaled", 2 / 6), ("integers", 1.0)):
        made = build(1, (4,), law=Categorical(7), coding=coding)
        line = torch.arange(7.0).double()[:, None]
        found = made.first(encode(line, 7, coding))
        weight, bias = made.hidden[0].masked(), made.hidden[0].bias
        exact = bias + weight.T * (slope * line - float(coding == "scaled"))
        error = max((found - exact).abs().max(), found.diff(n=2, dim=0).abs().max())
        largest_error(error)
        assert error < EXACT
    made = build(1, (4,), law=Categorical(7))
    assert made.first(encode(line, 7, "one-hot")).diff(n=2, dim=0).abs().max() > 0.1        # one-hot is bent


def test_codings(generator):
    x = torch.tensor([[0, 3, 1], [2, 2, 0]])
    assert encode(x, 4, "integers").tolist() == [[0, 3, 1], [2, 2, 0]]
    assert torch.allclose(encode(x.double(), 4, "scaled"), 2 * x.double() / 3 - 1, atol=1e-15)
    assert encode(x, 4, "scaled").aminmax() == (-1.0, 1.0)
    hot = encode(x, 4, "one-hot")
    assert hot.shape == (2, 12) and torch.equal(hot.unflatten(1, (3, 4)), F.one_hot(x, 4).float())
    assert encode(x, 4, "one-hot", torch.float64).dtype == torch.float64
    for coding in module.CODINGS:  # whole numbers of every type are alike
        for kind in (torch.int64, torch.int32, torch.uint8, torch.float32, torch.float64):
            assert torch.equal(encode(x.to(kind), 4, coding, torch.float32), encode(x, 4, coding))
    for options in ({}, {"coding": "scaled"}, {"law": Categorical(2)},
                    {"law": LogisticMixture(2), "coding": "scaled"}):
        made = build(5, **options)
        exact = made.log_prob(states(5))
        for kind in (torch.int64, torch.uint8, torch.bool, torch.float32):
            assert torch.equal(made.log_prob(states(5).to(kind)), exact)


@pytest.mark.equation("eq-made-joint-entropy", how="enumeration")
def test_the_floor_of_two_variables_is_reached_by_columns(generator, largest_error):
    """H(x₁, x₂) = H(x₁) + H(x₂ | x₁); a network without hidden layer holds any law of two in its columns."""
    k = 6
    probs = random_table(generator, 2, k)
    joint, x = probs.view(k, k), states(2, k)
    entropy = -(probs * probs.log()).sum()
    first, given = joint.sum(1), joint / joint.sum(1, keepdim=True)
    parts = -(first * first.log()).sum() - (first[:, None] * given * given.log()).sum()
    made = build(2, (), law=Categorical(k))
    made.output.bias.zero_()
    made.output.bias[:k], made.output.weight[k:, :k] = first.log(), given.log().T
    loss = -(probs * made.log_prob(x)).sum()
    error = max((entropy - parts).abs(), (entropy - loss).abs())
    largest_error(error)
    assert error < EXACT
    alone = -(first * first.log()).sum() - (joint.sum(0) * joint.sum(0).log()).sum()
    assert alone - entropy > 0.05  # the mutant: as if independent
    for other in (build(2, (9,), law=Categorical(k)), build(2, (), law=Categorical(k), coding="scaled")):
        assert -(probs * other.log_prob(x)).sum() > entropy + 0.01


# --- 11. ordinal values -------------------------------------------------------------------------------------


def plain_logistic(law, outputs):
    """The masses as differences of σ, without any care: (…, k)."""
    weights, means, log_scales = outputs.chunk(3, -1)
    edges = (2 * torch.arange(law.values - 1).double() + 1) / (law.values - 1) - 1
    below = torch.sigmoid((edges - means[..., None]) / log_scales.exp()[..., None])
    cumulative = torch.cat([torch.zeros_like(below[..., :1]), below, torch.ones_like(below[..., :1])], -1)
    return (weights.softmax(-1)[..., None] * cumulative.diff(dim=-1)).sum(-2)


def masses(law, outputs):
    values = torch.arange(law.values, dtype=outputs.dtype).expand(*outputs.shape[:-1], -1)
    return law.log_prob(values, outputs.unsqueeze(-2).expand(*values.shape, -1))


@pytest.mark.equation("eq-made-logistic", "eq-made-logistic-sum", how="closed form")
def test_the_logistic_mixture(generator, largest_error):
    for values, components in ((2, 1), (2, 3), (4, 1), (4, 5), (16, 2), (256, 3)):
        law = LogisticMixture(values, components)
        outputs = randn(generator, 30, law.parameters)
        found = masses(law, outputs).exp()
        error = (found - plain_logistic(law, outputs)).abs().max()
        largest_error(error, "eq-made-logistic")
        whole = (found.sum(-1) - 1).abs().max()
        largest_error(whole, "eq-made-logistic-sum")
        assert error < EXACT and whole < EXACT
        # the mutant: the outer intervals end at half a step
        weights, means, log_scales = outputs.chunk(3, -1)
        ends = torch.tensor([-1 - 1 / (values - 1), 1 + 1 / (values - 1)])
        inside = torch.sigmoid((ends - means[..., None]) / log_scales.exp()[..., None]).diff(dim=-1)[..., 0]
        assert 1 - (weights.softmax(-1) * inside).sum(-1).min() > 0.05


def test_the_logistic_mixture_far_out():
    """Means outside, scales of all sizes: finite, of sum 1, and as exact in float32 as its numbers are."""
    law = LogisticMixture(256)
    means, log_scales = [-50.0, -1.0, 0.3, 2.0, 1e3], [-30.0, -7.0, -4.0, 0.0, 5.0, 30.0, 95.0, 120.0]
    outputs = torch.tensor([[0.0, *both] for both in itertools.product(means, log_scales)]).requires_grad_()
    single = masses(law, outputs)
    double = masses(law, outputs.double())
    assert single.isfinite().all() and (single.double().exp().sum(1) - 1).abs().max() < 1e-5
    assert ((single - double) / (1 + double.abs())).abs().max() < 1e-3
    assert torch.autograd.grad(single.sum(), outputs)[0].isfinite().all()
    assert (double.exp().sum(1) - 1).abs().max() < EXACT


# --- 12. from scratch ---------------------------------------------------------------------------------------


def test_it_is_the_network_that_the_equations_say():
    """h = g(b + (W ⊙ M^W) x), a = c + (V ⊙ M^V) h (+ (A ⊙ M^A) x), written out."""
    for direct in (False, True):
        made = build(6, (8, 8), order="random", direct=direct, residual=True, labels=2)
        masks, x, label = made.connectivity.masks(), states(6), 1
        one, two = made.hidden
        h = torch.tanh(one.bias + made.label_first[label] + x @ (one.weight * masks[0]).T)
        h = h + torch.tanh(two.bias + h @ (two.weight * masks[1]).T)
        a = made.output.bias + made.label_output[label] + h @ (made.output.weight * masks[2]).T
        if direct:
            a = a + x @ (made.skip.weight * made.connectivity.direct()).T
        assert (made.logits(x, labels_of(made, 64, label)) - a).abs().max() < EXACT
        assert made(x, labels_of(made, 64, label)).shape == (64, 6, 1)


def test_small_and_empty():
    for degrees in ("even", "uniform", "shuffled"):
        for widths in ((), (1,), (3, 2)):
            one = build(1, widths, degrees=degrees, direct=True)
            assert (sum_of(one) - 1).abs() < EXACT and not seen(one, numbers(1)).any()
            assert one.sample(5, numbers(1)).shape == (5, 1)
    made, nothing = build(5), torch.zeros(0, 5)
    assert made.log_prob(nothing).shape == (0,) and made.ensemble_log_prob(nothing).shape == (0,)
    assert made.sample(0, numbers(1)).shape == (0, 5)
    assert build(5, labels=2).log_prob(nothing, torch.zeros(0, dtype=torch.int64)).shape == (0,)
    assert (sum_of(build(5, labels=1)) - 1).abs() < EXACT


# --- the same network at half the work, and under other names -----------------------------------------------

STAIRS = {
    "one layer": {}, "deep": {"widths": (30, 20)}, "residual": {"widths": (17, 17), "residual": True},
    "direct": {"direct": True, "widths": (3,)}, "no hidden layer": {"widths": ()}, "labels": {"labels": 2},
    "softmax": {"law": Categorical(3), "direct": True}, "logistic": {"law": LogisticMixture(3, 2)},
    "one pixel": {"dimensions": 1, "direct": True},
    "given degrees": {"degrees": [[1, 1, 4, 5]], "widths": (4,)},
}


def both_ways(made, x, labels):
    """−log p and its gradients, in plain passes and as learning has them."""
    for training in (False, True):
        loss = -made.terms(x, labels, training=training).sum()
        yield [loss, *torch.autograd.grad(loss, [value for value in made.parameters()])]


@pytest.mark.parametrize("name", STAIRS)
def test_what_masks_close_may_be_left_out_of_the_work(name, monkeypatch, generator):
    monkeypatch.setattr(module, "SMALLEST", 1)
    made = build(**{"dimensions": 6, "widths": (20,)} | STAIRS[name]).requires_grad_(True)
    x = (rand(generator, 9, made.dimensions) * made.law.values).floor()
    labels = labels_of(made, 9, 1)
    plain, stepwise = both_ways(made, x, labels)
    assert max(float((one - two).abs().max().detach()) for one, two in zip(plain, stepwise)) < EXACT
    assert all(layer.steps for layer in layers(made)) and made.connectivity.staircase()
    if made.dimensions > 1:
        assert len(made.output.steps) > 2
        for layer in layers(made):                                          # the mutant: one input too few
            layer.steps = tuple((first, last, whole, max(0, seen - 1)) for first, last, whole, seen in layer.steps)
        plain, stepwise = both_ways(made, x, labels)
        assert max(float((one - two).abs().max().detach()) for one, two in zip(plain, stepwise)) > 1e-3


def test_steps_have_no_second_derivative(monkeypatch):
    monkeypatch.setattr(module, "SMALLEST", 1)
    made = build(6, (20,)).requires_grad_(True)
    loss = -made.terms(states(6), training=True).sum()
    gradient, = torch.autograd.grad(loss, made.hidden[0].weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_only_a_staircase_is_climbed_step_by_step(monkeypatch):
    monkeypatch.setattr(module, "SMALLEST", 1)
    made = build(6, (20,), seeds=range(3), order="random")
    assert not made.output.steps
    made.wear(connectivity(6, [20]))
    assert made.output.steps and made.connectivity.staircase()
    made.wear(2)
    assert not made.output.steps and not made.hidden[0].steps
    for degrees in ("shuffled", "uniform"):
        assert not connectivity(6, [20], degrees=degrees).staircase()
    for seed in range(200):                                     # where it is said to be one, it is one
        plan = architecture(seed)
        for mask in plan.masks() if plan.staircase() else ():
            count = mask.sum(1)
            assert torch.equal(mask, torch.arange(mask.shape[1]) < count[:, None])
            assert (count.diff() >= 0).all()


def test_steps_follow_autocast(monkeypatch, generator):
    monkeypatch.setattr(module, "SMALLEST", 1)
    double = build(6, (20, 20), scale=1.0, direct=True).requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):                                 # which leaves doubles alone
        plain, stepwise = both_ways(double, states(6), None)
    assert max(float((one - two).abs().max().detach()) for one, two in zip(plain, stepwise)) < EXACT
    made = copy.deepcopy(double).float()
    exact, _ = both_ways(made, states(6), None)
    with torch.autocast("cpu", torch.bfloat16):
        for found in both_ways(made, states(6), None):
            assert {value.dtype for value in found} == {torch.float32}
            assert 0 < abs(float((found[0] / exact[0]).detach()) - 1) < 0.01
            cosines = [F.cosine_similarity(one.flatten(), two.flatten(), 0) for one, two in zip(found, exact)]
            assert min(cosines) > 0.99


@pytest.mark.parametrize("name", [name for name in VARIANTS if VARIANTS[name].get("order") != "random"])
def test_inputs_may_have_other_names(name, generator):
    for degrees in ("even", "shuffled", "uniform"):
        made = build(**{"degrees": degrees} | VARIANTS[name])
        x = states(5, made.law.values)
        labels = labels_of(made, len(x), 1)
        order = torch.tensor([2, 0, 4, 3, 1])
        other = made.renamed(order)
        assert (other.log_prob(x, labels) - made.log_prob(x[:, order], labels)).abs().max() < EXACT
        assert (other.log_prob(x, labels) - made.log_prob(x[:, order.argsort()], labels)).abs().max() > 1e-3
        assert torch.equal(other.connectivity.order, order[made.connectivity.order])
        back = other.renamed(order.argsort())
        assert torch.equal(back.log_prob(x, labels), made.log_prob(x, labels))
        build(**{"degrees": degrees} | VARIANTS[name]).load_state_dict(back.state_dict())
        with pytest.raises(ValueError, match="another ordering"):
            made.load_state_dict(other.state_dict())
        with torch.no_grad():
            other.output.bias.add_(1.0)
        assert torch.equal(back.log_prob(x, labels), made.log_prob(x, labels))


# --- dropout, modes, generators -----------------------------------------------------------------------------


def test_a_likelihood_is_exact_in_training_mode_too():
    made = build(6, (40,), dropout=0.5, order="random", seeds=range(3))
    exact, mixture = made.log_prob(states(6)), made.ensemble_log_prob(states(6))
    made.train()
    assert torch.equal(made.log_prob(states(6)), exact)
    assert torch.equal(made.ensemble_log_prob(states(6)), mixture)
    assert torch.equal(made.log_conditionals(states(6)).sum(1), exact)
    assert (exact.exp().sum() - 1).abs() < EXACT and made.training
    assert torch.equal(made.sample(9, numbers(1)), made.eval().sample(9, numbers(1)))


def test_dropout_drops_in_training():
    made = build(6, (400,), dropout=0.25, scale=1.0)
    made.requires_grad_(True).train()
    learner = MADELearner(made, torch.optim.SGD(made.parameters(), 0.0))
    with seeded(0):
        losses = {float(learner.training_step(states(6), context_of())["loss"]) for _ in range(5)}
    assert len(losses) == 5
    exact = -float(made.log_prob(states(6)).mean().detach())
    assert all(0 < abs(loss - exact) < 0.5 for loss in losses)


def test_drawing_that_is_interrupted_leaves_the_network_as_it_was():
    made = build(6, dropout=0.5).train()

    def breaks(x):
        raise KeyboardInterrupt

    made.activation = breaks
    with pytest.raises(KeyboardInterrupt):
        made.sample(3, numbers(1))
    assert made.training and all(part.training for part in made.modules())


def test_nothing_is_drawn_from_the_global_generator(generator):
    state = torch.get_rng_state()
    made = MADE(6, [9], generator, order="random", degrees="uniform", seeds=range(3), dropout=0.5)
    assert made.training
    made.wear(1)
    made.log_prob(states(6))
    made.ensemble_log_prob(states(6))
    made.wear(made.plan_with(torch.ones(6).bool()))
    made.sample(3, generator)
    made.complete(states(6), torch.ones(6).bool(), generator)
    learner = learner_of(small(seeds=(1, 2)), binarize=True, averaging=0.5)
    learner.training_step(0.5 * states(6), context_of())
    learner.evaluate(0.5 * states(6), context_of())
    assert torch.equal(state, torch.get_rng_state())


def test_the_same_seed_is_the_same_network_and_the_same_masks():
    one, two, other = (MADE(6, [9], numbers(seed), order="random", labels=2) for seed in (5, 5, 6))
    assert all(torch.equal(*pair) for pair in zip(one.parameters(), two.parameters()))
    assert not torch.equal(one.hidden[0].weight, other.hidden[0].weight)
    assert torch.equal(one.connectivity.order, other.connectivity.order)    # masks have seeds of their own
    # recorded weights are good for these masks alone
    plan = connectivity(8, [5], order="random", degrees="uniform", seed=7)
    assert plan.order.tolist() == ORDER_OF_SEED_7 and plan.degrees[0].tolist() == DEGREES_OF_SEED_7
    assert connectivity(8, [5], degrees="uniform", seed=7).degrees[0].tolist() == DEGREES_OF_SEED_7


ORDER_OF_SEED_7 = [7, 0, 3, 4, 1, 5, 2, 6]
DEGREES_OF_SEED_7 = [2, 4, 4, 4, 7]


# --- keeping, copying, moving -------------------------------------------------------------------------------

KEPT = {"dimensions": 5, "widths": (9,), "order": "random", "seeds": (1, 2), "law": Categorical(3),
        "labels": 2}


@pytest.mark.parametrize("name", VARIANTS)
def test_weights_come_back(name):
    made, other = build(**VARIANTS[name]), build(seed=2, **VARIANTS[name])
    x = states(5, made.law.values)
    labels = labels_of(made, len(x), 1)
    assert not torch.equal(made.log_prob(x, labels), other.log_prob(x, labels))
    other.load_state_dict({name: value.clone() for name, value in made.state_dict().items()})
    assert torch.equal(made.log_prob(x, labels), other.log_prob(x, labels))
    drawn = [one.sample(4, numbers(1), labels_of(one, 4)) for one in (made, other)]
    assert torch.equal(*drawn)


@pytest.mark.parametrize("changes", [
    {"seeds": (1, 3)}, {"seeds": (1,)}, {"seeds": (2, 1)}, {"order": "natural"}, {"order": [0, 1, 2, 3, 4]},
    {"degrees": "shuffled"}, {"degrees": "uniform"}, {"coding": "scaled"}, {"coding": "integers"},
    {"law": LogisticMixture(3)}, {"law": Categorical(4)}, {"widths": (8,)}, {"widths": (9, 9)},
    {"dimensions": 6},
])
def test_weights_of_another_network_are_refused(changes):
    kept = build(**KEPT).state_dict()
    build(**KEPT).load_state_dict(kept)
    with pytest.raises(ValueError, match="those of a MADE with another ordering"):
        build(**KEPT | changes).load_state_dict(kept)
    copied = copy.deepcopy(build(**KEPT | changes))
    with pytest.raises(ValueError, match="those of a MADE with another ordering"):
        copied.load_state_dict(kept)


def test_how_seeds_and_sizes_are_written_does_not_matter():
    kept = build(5, order="random", seeds=range(4)).state_dict()
    for seeds in ((0, 1, 2, 3), [0, 1, 2, 3], torch.arange(4)):
        build(5, [9], order="random", seeds=seeds).load_state_dict(kept)
    kept = build(5, order=[4, 3, 2, 1, 0], seeds=range(2000)).state_dict()
    build(5, order=torch.arange(4, -1, -1), seeds=tuple(range(2000))).load_state_dict(kept)
    other = torch.arange(2000)
    other[1000] = 5
    with pytest.raises(ValueError, match="another ordering"):
        build(5, order=[4, 3, 2, 1, 0], seeds=other).load_state_dict(kept)


def test_an_ordering_that_is_given_is_copied():
    order, degrees = torch.tensor([3, 1, 0, 2, 4]), [torch.tensor([1, 2, 3, 4])]
    made = build(5, (4,), order=order, degrees=degrees)
    order.copy_(torch.arange(5))
    degrees[0].fill_(1)
    for plan in (made.connectivity, made.plan(0)):
        assert plan.order.tolist() == [3, 1, 0, 2, 4] and plan.degrees[0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("way", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_a_copy_is_a_network_of_its_own(way):
    made = build(5, order="random", seeds=range(3), law=Categorical(3), direct=True)
    made.wear(2)
    twin, x = way(made), states(5, 3)
    exact = made.log_prob(x)
    assert torch.equal(twin.log_prob(x), exact)
    assert torch.equal(twin.sample(5, numbers(1)), made.sample(5, numbers(1)))
    twin.wear(0)
    with torch.no_grad():
        twin.output.bias.add_(1.0 * torch.arange(15))
    assert torch.equal(made.log_prob(x), exact) and not torch.equal(twin.log_prob(x), exact)
    assert (twin.ensemble_log_prob(x).exp().sum() - 1).abs() < EXACT


def test_masks_follow_the_type_of_the_weights():
    made = build(6, order="random", direct=True, seeds=range(2))
    x, exact = states(6), made.log_prob(states(6))
    single = copy.deepcopy(made).float()
    assert {buffer.dtype for name, buffer in single.named_buffers() if "mask" in name} == {torch.float32}
    for given in (x, x.float(), x.long()):
        found = single.log_prob(given)
        assert found.dtype == torch.float32 and (found - exact).abs().max() < 1e-5
    assert single.sample(3, numbers(1)).dtype == torch.float32
    assert single.complete(x[:3], torch.ones(6).bool(), numbers(1)).dtype == torch.float32
    back = single.double()
    back.wear(1)
    assert back.log_prob(x).dtype == torch.float64 and (sum_of(back) - 1).abs() < EXACT


@pytest.mark.parametrize("name", ["plain", "softmax one-hot", "logistic", "labels", "direct"])
def test_autocast_rounds_little(name):
    made = build(scale=1.0, **VARIANTS[name]).float()
    x = states(5, made.law.values).float()
    labels = labels_of(made, len(x))
    exact = made.log_prob(x, labels)
    with torch.autocast("cpu", torch.bfloat16):
        found = made.log_prob(x, labels)
    assert found.dtype == torch.float32 and 0 < (found - exact).abs().max() < 0.2


def test_rare_pixels_are_rare_under_autocast(generator):
    """The mutant: uniform numbers in bfloat16, of which one in 256 is 0."""
    made = build(4, (3,), scale=0.0).float()
    made.output.bias.fill_(-9.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert made.sample(20_000, generator).sum() < 40                    # 10 are expected, not 300


@pytest.mark.parametrize("name", ["cuda", "mps"])
@pytest.mark.parametrize("variant", ["everything", "labels", "logistic", "deep", "softmax integers"])
def test_a_network_on_a_gpu_is_the_network_on_the_cpu(name, variant):
    if not {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[name]:
        pytest.skip(f"no {name} here")
    options = {"seeds": range(3)} | VARIANTS[variant]
    here, there = build(**options).float(), build(**options).float().to(name)
    x = states(5, here.law.values).float()
    labels = labels_of(here, len(x))
    moved = None if labels is None else labels.to(name)
    assert (there.log_prob(x.to(name), moved).cpu() - here.log_prob(x, labels)).abs().max() < 1e-3
    there.wear(1)
    here.wear(1)
    mixture = there.ensemble_log_prob(x.to(name), moved).cpu()
    assert (mixture - here.ensemble_log_prob(x, labels)).abs().max() < 1e-3
    draws = torch.Generator(name).manual_seed(1)
    drawn = there.sample(2000, draws, None if labels is None else torch.zeros(2000, device=name).long())
    assert drawn.device.type == name and fits(number(drawn.cpu(), here.law.values), table_of(here)) > 1e-4
    known = torch.tensor([True, False, False, True, False])
    there.wear(connectivity(5, there.widths, order=there.plan_with(known.to(name)).order))
    for given in (known, known.to(name)):
        assert there.complete(x.to(name), given, draws, moved).device.type == name
    learner = learner_of(there.requires_grad_(True), 0.01, averaging=0.9)
    data = {"x": x, "labels": labels} if labels is not None else x
    train(learner, data, TrainingSettings(steps=3, batch_size=16), device=name, progress=False,
          evaluation_data=data)
    assert next(learner.averaged.parameters()).device.type == name


def table_of(single):
    """The table of a network in float32, added up in double precision."""
    return table(copy.deepcopy(single).double())


# --- learning -----------------------------------------------------------------------------------------------

DATA = (rand(numbers(1), 60, 6).square() * 1.2).clamp(0, 1)
BITS = DATA.round()


def small(seed=1, **options):
    """A network that can be trained, of 2 × 3 pixels."""
    return build(6, (8,), seed=seed, scale=1.0, **{"order": "random"} | options).requires_grad_(True).train()


def learner_of(made, rate=0.1, **options):
    return MADELearner(made, torch.optim.SGD(made.parameters(), rate), **options)


def context_of(seed=5, step=1):
    context = training.make_context(None, seed, "cpu", None)
    context.step = step
    return context


@pytest.mark.parametrize("options", [
    {}, {"direct": True}, {"labels": 2}, {"law": Categorical(2)}, {"seeds": range(3)},
])
def test_a_step_goes_down_the_mean_over_images_of_sums_over_pixels(options):
    made, batch = small(**options), BITS[:9]
    labels = torch.arange(9) % 2 if made.classes else None
    for step in (1, 2, 3):
        twin = copy.deepcopy(made)
        twin.wear(step % twin.count)
        loss = -twin.log_prob(batch, labels).mean()
        exact = torch.autograd.grad(loss, list(twin.parameters()))
        data = batch if labels is None else {"x": batch, "labels": labels}
        metrics = learner_of(made).training_step(data, context_of(step=step))
        assert set(metrics) == {"loss"} and (metrics["loss"] - loss).abs() < EXACT
        assert not metrics["loss"].requires_grad
        taken = [(old - new).detach() / 0.1 for old, new in zip(twin.parameters(), made.parameters())]
        assert max(float((one - two).abs().max()) for one, two in zip(taken, exact)) < EXACT
        mean = max(float((one - two / 6).abs().max()) for one, two in zip(taken, exact))
        assert mean > 1e-3                                                  # the mutant: a mean over pixels


def test_steps_go_through_the_masks_in_turn():
    made = small(seeds=(11, 5, 8))
    learner, plans = learner_of(made), [made.plan(index) for index in range(3)]
    for step in range(1, 8):
        learner.training_step(BITS[:9], context_of(step=step))
        assert torch.equal(made.connectivity.order, plans[step % 3].order)
        assert torch.equal(made.hidden[0].mask, plans[step % 3].masks()[0].double())


class InPlace(MADELearner):
    """The mutant: masks are multiplied into the weights."""

    def training_step(self, batch, context):
        metrics = super().training_step(batch, context)
        with torch.no_grad():
            for layer in layers(self.made):
                layer.weight.mul_(layer.mask)
        return metrics


def surviving(kind, seeds, rate):
    """Weights after learning with so many masks, those before, and which of them were ever connected."""
    made = build(12, (40,), order="random", degrees="uniform", scale=1.0, seeds=range(seeds))
    made.requires_grad_(True)
    data = rand(numbers(2), 30, 12).round()
    learner = kind(made, torch.optim.SGD(made.parameters(), rate))
    worn = sum(made.plan(index).masks()[0].double() for index in range(seeds)) > 0
    before = made.hidden[0].weight.detach().clone()
    train(learner, data, TrainingSettings(steps=2 * seeds, batch_size=10), device="cpu", progress=False)
    return made.hidden[0].weight.detach(), before, worn


def test_weights_of_every_mask_survive_learning_with_the_others():
    shares = []
    for seeds in (1, 2, 4, 8, 32):
        after, before, worn = surviving(MADELearner, seeds, 0.1)
        assert (after != 0).all()
        assert torch.equal(after[~worn], before[~worn])
        assert (after[worn] != before[worn]).double().mean() > 0.8
        still, before, _ = surviving(MADELearner, seeds, 0.0)
        assert torch.equal(still, before)
        dead, before, _ = surviving(InPlace, seeds, 0.0)
        assert torch.equal(dead[dead != 0], before[dead != 0])
        shares.append(float((dead != 0).double().mean()))
    assert 0.4 < shares[0] < 0.6 and shares[-1] < 0.001 and sorted(shares, reverse=True) == shares


def test_masks_that_are_not_worn_get_no_gradient():
    made = small(seeds=range(4))
    learner = learner_of(made)
    for step in range(1, 5):
        before = made.hidden[0].weight.detach().clone()
        learner.training_step(BITS[:9], context_of(step=step))
        unworn = made.plan(step % 4).masks()[0] == 0
        assert torch.equal(made.hidden[0].weight[unworn], before[unworn])


TWO = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], dtype=torch.float64)


@pytest.mark.parametrize("options, learning", [
    ({}, {}), ({"seeds": range(3)}, {"evaluated": 3}), ({"law": Categorical(2), "direct": True}, {}),
    ({"law": LogisticMixture(2)}, {}), ({}, {"averaging": 0.9}), ({"widths": ()}, {}),
    ({"widths": (8, 8), "residual": True}, {"clip_norm": 5.0}),
])
def test_learning_finds_the_floor(options, learning):
    """Two pictures, one as frequent as the other: the floor is log 2, and pixels alone have 6 log 2."""
    made = small(**options) if "widths" not in options else build(6, scale=1.0, order="random", **options)
    made.requires_grad_(True)
    learner = MADELearner(made, torch.optim.Adam(made.parameters(), 0.1), **learning)
    settings = TrainingSettings(steps=200, batch_size=20, report_every=50)
    history = train(learner, TWO.repeat(10, 1), settings, device="cpu", progress=False, evaluation_data=TWO)
    assert math.log(2) - 1e-9 <= history.column("evaluation_nll")[-1] < math.log(2) + 0.05
    assert history.column("loss")[-1] < history.column("loss")[0]


def test_labels_lower_the_floor():
    data = {"x": TWO.repeat(10, 1), "labels": torch.tensor([0, 1] * 10, dtype=torch.uint8)}
    made = small(labels=2)
    learner = MADELearner(made, torch.optim.Adam(made.parameters(), 0.1))
    history = train(learner, data, TrainingSettings(steps=150, batch_size=20), device="cpu", progress=False,
                    evaluation_data=data)
    assert history.column("evaluation_nll")[-1] < 0.05
    assert torch.equal(made.sample(2, numbers(1), torch.tensor([1, 0])), TWO.flip(0))


def test_pixels_are_drawn_anew_with_their_grey_as_probability():
    learner = learner_of(small(), rate=0.0, binarize=True)
    context, grey = context_of(), DATA[:1].expand(4000, -1)
    drawn = learner.drawn(grey, context.generator)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(drawn, learner.drawn(grey, context.generator))
    error = (DATA[0] * (1 - DATA[0]) / 4000).sqrt()
    assert ((drawn.mean(0) - DATA[0]).abs() <= 4 * error).all()
    edge = torch.tensor([[0.0, 1.0]]).expand(1000, -1)
    assert torch.equal(learner.drawn(edge, context.generator), edge)
    assert torch.equal(learner_of(small()).drawn(BITS, context.generator), BITS)
    losses = {float(learner.training_step(DATA, context)["loss"]) for _ in range(4)}
    assert len(losses) == 4
    floor = -(torch.where(DATA == 0, 0.0, DATA * DATA.log()) + torch.where(
        DATA == 1, 0.0, (1 - DATA) * (1 - DATA).log())).sum(1).mean()
    found = evaluate(learner, DATA.repeat(40, 1), device="cpu")["nll"]
    assert found > floor


def test_what_is_measured_on_held_out_images():
    made = small(seeds=range(3))
    learner, data = learner_of(made, averaging=0.5, evaluated=2), BITS.repeat(40, 1)
    made.wear(1)
    found = evaluate(learner, data, device="cpu")                               # 2,400: several parts
    exact = -float(copy.deepcopy(made).ensemble_log_prob(data, plans=2).mean())
    assert set(found) == {"nll"} and found["nll"] == pytest.approx(exact, abs=EXACT)
    for step in (1, 2, 3):
        learner.training_step(BITS, context_of(step=step))
    after = evaluate(learner, data, device="cpu")
    exact = -float(copy.deepcopy(learner.averaged).ensemble_log_prob(data, plans=2).mean())
    assert after["nll"] == pytest.approx(exact, abs=EXACT) and after["nll"] < found["nll"]
    with torch.no_grad():
        made.output.bias.add_(5.0)                                          # the average is another network
    assert evaluate(learner, data, device="cpu") == after
    assert learner.evaluate(None, context_of()) == {}
    labels = torch.arange(len(data)) % 2
    given = small(labels=2)
    found = evaluate(learner_of(given), {"x": data, "labels": labels}, device="cpu")["nll"]
    assert found == pytest.approx(-float(given.log_prob(data, labels).mean().detach()), abs=EXACT)


def test_an_evaluation_changes_no_step():
    ends = []
    for held_out in (None, BITS):
        made = small(seeds=range(3), dropout=0.2)
        train(learner_of(made, averaging=0.9, evaluated=3), BITS, TrainingSettings(
            steps=7, batch_size=10, evaluate_every=2), device="cpu", progress=False, evaluation_data=held_out)
        ends.append([*made.parameters(), made.hidden[0].mask])
    assert all(torch.equal(*pair) for pair in zip(*ends))


def test_the_average_follows_with_its_decay_and_wears_masks_that_fit():
    made = small(seeds=range(3))
    learner = learner_of(made, averaging=0.75)
    average = made.output.weight.detach().clone()
    for step in range(1, 6):
        learner.training_step(BITS[:9], context_of(step=step))
        now = made.output.weight.detach().clone()
        average = 0.75 * average + 0.25 * now
        assert (learner.averaged.output.weight - average).abs().max() < EXACT
        worn = [layer.mask.clone() for layer in layers(learner.averaged)]
        learner.averaged.wear(learner.averaged.connectivity)
        assert all(torch.equal(layer.mask, mask) for layer, mask in zip(layers(learner.averaged), worn))
    assert learner_of(made).averaged is made and learner.averaged is not made
    twin = learner.averaged
    drawn = number(twin.sample(4000, numbers(1)))
    with torch.no_grad():
        assert fits(drawn, table(twin)) > 1e-4


def test_a_long_gradient_is_cut():
    long, short = small(), small()
    before = torch.cat([value.detach().flatten() for value in long.parameters()])
    learner_of(long, 1.0).training_step(BITS[:9], context_of())
    learner_of(short, 1.0, clip_norm=1e-3).training_step(BITS[:9], context_of())
    moved = [(torch.cat([value.detach().flatten() for value in one.parameters()]) - before).norm()
             for one in (long, short)]
    assert moved[0] > 0.1 and moved[1] == pytest.approx(1e-3, rel=1e-2)


# --- runs that break ----------------------------------------------------------------------------------------

SETTINGS = TrainingSettings(epochs=4, batch_size=10, report_every=4, checkpoint_every=5, evaluate_every=7)
LABELLED = {"x": BITS, "labels": torch.arange(60) % 3}
KINDS = {
    "one mask": ({}, {}, BITS),
    "cycling": ({"seeds": range(7), "degrees": "uniform"}, {"evaluated": 3}, BITS),
    "averaged": ({"seeds": range(3)}, {"averaging": 0.9, "clip_norm": 1.0, "binarize": True}, DATA),
    "dropout": ({"seeds": range(1000), "dropout": 0.3, "direct": True}, {}, BITS),
    "labels": ({"labels": 3, "seeds": (7, 3), "law": Categorical(2)}, {"averaging": 0.5}, LABELLED),
}


class Interrupted(Exception):
    pass


def made_learner(kind, **changes):
    options, learning, _ = KINDS[kind]
    made = small(**options | changes)
    optimizer = torch.optim.Adam(made.parameters(), 0.02)
    return MADELearner(made, optimizer, scheduler=training.cosine_schedule(optimizer, 24, 3), **learning)


def run(kind, out=None, stop=None, learner=None, **options):
    learner = made_learner(kind) if learner is None else learner

    def watch(learner, history, context):
        if stop is not None and len(history) >= stop:
            raise Interrupted

    data = KINDS[kind][2]
    history = train(learner, data, SETTINGS, device="cpu", seed=3, out=out, watch=watch, progress=False,
                    evaluation_data=data, **options)
    state = learner.optimizers["optimizer"].state_dict()["state"]
    return learner.module.state_dict(), [v for s in state.values() for v in s.values()], history, learner


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
    for one, two in zip((unbroken[3].made, unbroken[3].averaged), (resumed[3].made, resumed[3].averaged)):
        assert torch.equal(one.hidden[0].mask, two.hidden[0].mask)
        assert torch.equal(one.connectivity.order, two.connectivity.order)
    assert not torch.equal(made_learner(kind).made.output.weight, resumed[3].made.output.weight)


def test_masks_that_start_anew_at_a_resumption_are_noticed(tmp_path):
    """The mutant: the turn of the masks is counted by the learner, which no checkpoint keeps."""
    class Forgetful(MADELearner):
        turn = 0

        def training_step(self, batch, context):
            self.turn += 1
            step, context.step = context.step, self.turn
            metrics = super().training_step(batch, context)
            context.step = step
            return metrics

    def forgetful():
        learner = made_learner("cycling")
        learner.__class__ = Forgetful
        return learner

    unbroken = run("cycling", tmp_path / "unbroken", learner=forgetful())
    assert same_bits(unbroken, run("cycling", tmp_path / "other"))
    with pytest.raises(Interrupted):
        run("cycling", tmp_path / "broken", 3, forgetful())
    assert not same_bits(unbroken, run("cycling", tmp_path / "broken", learner=forgetful(), resume=True))


@pytest.mark.parametrize("changes", [{"seeds": range(4)}, {"degrees": "even"}, {"order": "natural"}])
def test_a_run_with_other_masks_is_not_resumed(changes, tmp_path):
    with pytest.raises(Interrupted):
        run("cycling", tmp_path, 3)
    with pytest.raises(ValueError, match="another ordering"):
        run("cycling", tmp_path, learner=made_learner("cycling", **changes), resume=True)


# --- what is refused ----------------------------------------------------------------------------------------

X = torch.zeros(4, 6, dtype=torch.float64)
HALF = torch.tensor([True, True, True, False, False, False])


def trained(data, made=None, **options):
    train(learner_of(made or small(), **options), data, TrainingSettings(steps=2, batch_size=4), device="cpu",
          progress=False)


@pytest.mark.parametrize("call, words", [
    (lambda g: connectivity(0, [3]), "at least one dimension"),
    (lambda g: connectivity(5, [3, 0]), r"at least one unit in each hidden layer.*\[3, 0\]"),
    (lambda g: connectivity(5, [-1]), "at least one unit"),
    (lambda g: MADE(6, [0], g), "at least one unit"),
    (lambda g: MADE(0, [3], g), "at least one dimension"),
    (lambda g: connectivity(4, [3], order=[0, 1, 2, 2]), r"inputs 0, …, 3 once, but \[0, 1, 2, 2\]"),
    (lambda g: connectivity(4, [3], order=[1, 2, 3, 4]), "0, …, 3 once"),
    (lambda g: connectivity(4, [3], order=[0, -1, 2, 3]), "0, …, 3 once"),
    (lambda g: connectivity(4, [3], order=[0, 1, 2]), r"shape \(4,\), but \(3,\)"),
    (lambda g: connectivity(4, [3], order=torch.arange(4).view(2, 2)), r"shape \(4,\), but \(2, 2\)"),
    (lambda g: connectivity(2, [3], order=[0.2, 1.7]), "An ordering holds whole numbers"),
    (lambda g: MADE(4, [3], g, order=[3, 3, 1, 0]), "once, but"),
    (lambda g: Connectivity(torch.tensor([0, 2, 3]), ()), "once, but"),
    (lambda g: connectivity(4, [3], order="raster"), "order is 'raster', but must be one of 'natural'"),
    (lambda g: connectivity(4, [3], degrees="odd"), "degrees is 'odd', but must be one of 'even', 's"),
    (lambda g: connectivity(4, [3], degrees=[[1, 2, 4]]), "from 1 to 3 for 4 inputs; layer 1"),
    (lambda g: connectivity(4, [3, 2], degrees=[[1, 2, 3], [0, 2]]), "layer 2"),
    (lambda g: connectivity(4, [3], degrees=[[1, 2]]), r"layers of \[2\] units.*\[3\]"),
    (lambda g: connectivity(4, [2], degrees=[[1.5, 2.0]]), "Degrees holds whole numbers"),
    (lambda g: connectivity(4, [2.5]), r"at least one unit.*\[2.5\]"),
    (lambda g: Categorical(1), "at least two values; 1 came"),
    (lambda g: LogisticMixture(1), "at least two values; 1 came"),
    (lambda g: LogisticMixture(4, 0), "at least one component; 0 came"),
    (lambda g: encode(X, 4, "raw"), "coding is 'raw'"),
    (lambda g: MADE(6, [3], g, coding="gray"), "coding is 'gray'"),
    (lambda g: MADE(6, [3], g, seeds=()), r"one or more whole numbers.*\(\) came"),
    (lambda g: MADE(6, [3], g, seeds=5), "one or more whole numbers.*5 came"),
    (lambda g: MADE(6, [3], g, seeds=(1, 2.5)), r"one or more whole numbers.*\(1, 2.5\) came"),
    (lambda g: MADE(6, [3], g).wear(1), "numbered 0 to 0; 1 was asked for"),
    (lambda g: MADE(6, [3], g, seeds=range(3)).wear(-1), "numbered 0 to 2; -1 was asked for"),
    (lambda g: MADE(6, [3], g, dropout=1.0), r"\[0, 1\), but 1.0"),
    (lambda g: MADE(6, [3], g, dropout=-0.1), r"\[0, 1\)"),
    (lambda g: MADE(6, [3, 4], g, residual=True), "one width"),
    (lambda g: MADE(6, [9, 9], g, residual=True, degrees="shuffled"), "no smaller degree above"),
    (lambda g: MADE(6, [3], g).wear(connectivity(5, [3])), "6 dimensions.*for 5"),
    (lambda g: MADE(6, [3], g).wear(connectivity(6, [4])), r"\(3,\).*\(4,\)"),
    (lambda g: MADE(6, [3], g).log_prob(X[0]), r"\(batch, 6\), but \(6,\) came: flatten"),
    (lambda g: MADE(6, [3], g).log_prob(X.view(4, 2, 3)), r"\(4, 2, 3\) came"),
    (lambda g: MADE(6, [3], g).log_conditionals(X[:, :5]), r"\(4, 5\) came"),
    (lambda g: MADE(6, [3], g).ensemble_log_prob(X[:, :5]), r"\(4, 5\) came"),
    (lambda g: MADE(6, [3], g).ensemble_log_prob(X, plans=2), "1 sets of masks, and 2 of them"),
    (lambda g: MADE(6, [3], g).ensemble_log_prob(X, plans=0), "and 0 of them"),
    (lambda g: MADE(6, [3], g, law=Categorical(3)).logits(X), "Only bits have one logit"),
    (lambda g: MADE(6, [3], g).log_prob(X, torch.zeros(4).long()), "knows no labels"),
    (lambda g: MADE(6, [3], g, labels=2).log_prob(X), "law given labels, and none came"),
    (lambda g: MADE(6, [3], g, labels=2).sample(4, g), "none came"),
    (lambda g: MADE(6, [3], g, labels=2).log_prob(X, torch.zeros(3).long()), r"shape \(4,\); \(3,\)"),
    (lambda g: MADE(6, [3], g, labels=2).log_prob(X, torch.zeros(4)), r"one for each example, .*float32"),
    (lambda g: MADE(6, [3], g, labels=2).log_prob(X, torch.full((4,), 2)), "0 to 1, but 2 to 2 came"),
    (lambda g: MADE(6, [3], g, labels=2).log_prob(X, torch.full((4,), -1)), "0 to 1, but -1 to -1"),
    (lambda g: MADE(6, [3], g, labels=2).log_prob(X, torch.zeros(4).bool()), "torch.bool came"),
    (lambda g: MADE(6, [3], g, labels=2).sample(4, g, torch.full((4,), 2)), "0 to 1"),
    (lambda g: MADE(6, [3], g, labels=-1), "number of classes, 0 for none, but -1"),
    (lambda g: MADE(6, [3], g).complete(X, torch.ones(5).bool(), g), r"shape \(6,\)"),
    (lambda g: MADE(6, [3], g).complete(X, torch.ones(6), g), "bool.*float32"),
    (lambda g: MADE(6, [3], g).complete(X[:, :1], HALF, g), r"\(4, 1\) came"),
    (lambda g: MADE(6, [3], g).complete(X[:, :5], HALF, g), r"\(4, 5\) came"),
    (lambda g: MADE(6, [3], g).complete(X + 0.5, HALF, g), "whole numbers from 0 to 1"),
    (lambda g: MADE(6, [3], g).complete(X, ~HALF, g), r"made.wear\(made.plan_with\(known\)\)"),
    (lambda g: MADE(6, [3], g).plan_with(torch.ones(7).bool()), r"shape \(6,\)"),
    (lambda g: MADE(6, [3], g, order="random").renamed(torch.arange(6)), "Only a MADE with one ordering"),
    (lambda g: MADE(3, [3], g).renamed(torch.tensor([0, 1, 1])), "once, but"),
    (lambda g: MADE(3, [3], g).renamed(torch.tensor([1, 0])), "order"),
    (lambda g: learner_of(small(), averaging=1.0), r"\[0, 1\), but 1.0 came"),
    (lambda g: learner_of(small(law=Categorical(3)), binarize=True), "Grey images are drawn as bits"),
    (lambda g: learner_of(small(seeds=range(2)), evaluated=3), "1 to 2 sets of masks, but evaluated=3"),
    (lambda g: learner_of(small(), evaluated=0), "evaluated=0"),
    (lambda g: trained(0.3 * BITS), "0 to 1.*binarize grey images"),
    (lambda g: trained(2 * DATA + 1, binarize=True), r"lie in \[0, 1\]"),
    (lambda g: trained(BITS.view(60, 2, 3)), "flatten"),
    (lambda g: trained(BITS[:, :5]), r"\(60, 5\)"),
    (lambda g: trained({"images": BITS}), r'from a tensor \(examples, D\), or from \{"x"'),
    (lambda g: trained(None), "from a tensor"),
    (lambda g: trained({"x": BITS, "labels": torch.zeros(60).long()}), "knows no labels"),
    (lambda g: trained(BITS, small(labels=2)), "none came"),
    (lambda g: trained(LABELLED, small(labels=2)), "0 to 1"),
    (lambda g: evaluate(learner_of(small()), 0.3 * BITS, device="cpu"), "binarize grey images"),
    (lambda g: evaluate(learner_of(small()), BITS[:, :5], device="cpu"), r"\(60, 5\)"),
])
def test_bad_input_gets_one_sentence(call, words, generator):
    with pytest.raises(ValueError, match=words):
        call(generator)


@pytest.mark.parametrize("value", [3.0, -1.0, 0.5, 1 + 1e-15, 1e-300, math.nan, math.inf, -math.inf])
def test_one_wrong_value_among_many_is_found(value):
    for options in ({"law": Categorical(3)}, {"law": LogisticMixture(3)}, {}):
        made = build(4, **options)
        good = states(4, made.law.values)
        made.log_prob(good)
        for row, pixel in ((0, 0), (len(good) - 1, 3), (7, 2)):
            wrong = good.clone()
            wrong[row, pixel] = value
            for call in (made.log_prob, made.log_conditionals, made.ensemble_log_prob):
                with pytest.raises(ValueError, match=f"whole numbers from 0 to {made.law.values - 1}"):
                    call(wrong)
    with pytest.raises(ValueError, match="range 0 to 3"):
        build(4, law=Categorical(3)).log_prob(torch.tensor([[0, 3, 1, 2]]))
    with pytest.raises(ValueError, match="range -1 to 1"):
        build(4).log_prob(torch.tensor([[0, -1, 1, 1]]))


def test_data_that_are_good_pass():
    trained(BITS)
    trained(BITS.long())
    trained(BITS.float())
    trained(DATA, binarize=True)
    trained(2 * BITS, small(law=Categorical(3)))
    trained({"x": BITS, "labels": torch.zeros(60).long()}, small(labels=2))
    assert set(module.__all__) >= {"MADE", "MADELearner", "MaskedLinear", "Connectivity", "connectivity"}
