"""Annealed importance sampling: the normaliser of a machine against its exact value, both ways.

On a machine of 3 × 2 units all paths through three temperatures are enumerated, through the code itself, so
that "unbiased" is an equation and not a z; on one of 30 × 20 the estimate and its error are what the oracle
table asks. A mutant is a machine whose path is wrong in one place.
"""

import math

import pytest
import torch

from nemlib import rbm
from nemlib.evaluate import ais
from nemlib.rbm import RBM, base_rate, enumerate_binary, softplus

EXACT = 1e-12
BETAS = torch.tensor([0.0, 0.35, 1.0], dtype=torch.float64)
DRAWS = 3 + 2 * (2 + 3)             # bits of a path up: the start, and a sweep at each of the other two β


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(20081117)


def randn(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def machine(generator, visible=3, hidden=2, scale=1.2, kind=RBM):
    made = kind(visible, hidden, generator, scale=scale, dtype=torch.float64).requires_grad_(False)
    made.a.copy_(randn(generator, visible))
    made.b.copy_(0.5 * randn(generator, hidden))
    return made


def tempered(model, beta, base):
    """f_β(v), (2^D,), summed over the hidden units term by term, and the law of (v, h) as a table."""
    v, h = enumerate_binary(model.visible), enumerate_binary(model.hidden)
    rising = (v @ model.W @ h.T) + (v @ model.a)[:, None] + h @ model.b
    weight = torch.exp(beta * rising + (1 - beta) * (v @ base)[:, None])
    return weight.sum(1), weight / weight.sum()


def transition(table):
    """T(v' | v) of a sweep at one β, from the law of (v, h) there."""
    return (table / table.sum(1, keepdim=True)) @ (table / table.sum(0)).T


def number(states):
    return (states.long() * 2 ** torch.arange(states.shape[-1] - 1, -1, -1)).sum(-1)


class EveryPath:
    """Stands in for `bernoulli`: a row for every outcome of all draws, `log_prob` its logarithm, and what was
    drawn.
    """

    def __init__(self, bits):
        self.table, self.at, self.log_prob, self.drawn = enumerate_binary(bits), 0, 0.0, []

    def __call__(self, mean, generator):
        width = mean.shape[1]
        outcome = self.table[:, self.at:self.at + width].repeat(len(mean) // len(self.table), 1)
        self.at += width
        self.log_prob = self.log_prob + torch.where(outcome == 1, mean, 1 - mean).log().sum(1)
        self.drawn.append(outcome)
        return outcome.clone()


def all_paths_up(model, base, monkeypatch, betas=BETAS, bits=DRAWS):
    """The log weights of all paths of `ais_up`, their probabilities, and what was drawn on them."""
    with monkeypatch.context() as patch:
        draws = EveryPath(bits)
        patch.setattr(rbm, "bernoulli", draws)
        found = model.ais_up(len(draws.table), betas, base, torch.Generator())
    assert draws.at == bits and abs(draws.log_prob.exp().sum() - 1) < EXACT
    return found.log_weights, draws.log_prob.exp(), draws.drawn


def all_paths_down(model, base, monkeypatch, betas=BETAS):
    """As `all_paths_up`, from each state of the machine, weighed as the machine does."""
    bits = 2 * (model.hidden + model.visible)
    with monkeypatch.context() as patch:
        draws = EveryPath(bits)
        patch.setattr(rbm, "bernoulli", draws)
        start = enumerate_binary(model.visible).repeat_interleave(2**bits, 0)
        found = model.ais_down(start, betas, base, torch.Generator())
    law = model.log_prob(start).exp() * draws.log_prob.exp()
    assert draws.at == bits and abs(law.sum() - 1) < EXACT
    return found.log_weights, law


# --- one step: importance sampling --------------------------------------------------------------------------


@pytest.mark.equation("eq-rbm-importance", how="enumeration")
def test_the_mean_ratio_is_the_ratio_of_the_normalisers(generator, largest_error):
    model, base = machine(generator), randn(generator, 3)
    f_a, f_b = tempered(model, 0.2, base)[0], tempered(model, 1.0, base)[0]
    truth = f_b.sum() / f_a.sum()
    error = ((f_a / f_a.sum()) @ (f_b / f_a) / truth - 1).abs()
    largest_error(error)
    assert error < EXACT
    assert ((f_b / f_b.sum()) @ (f_b / f_a) / truth - 1).abs() > 0.05       # the mutant: drawn from B
    assert ((f_a / f_a.sum()) @ (f_a / f_b) / truth - 1).abs() > 0.05       # the ratio upside down
    # in the code: the path of two temperatures
    found = model.ais_up(200_000, torch.tensor([0.0, 1.0]).double(), base, generator)
    assert abs(found.log_z - model.log_z()) < 4 * found.standard_error


# --- all paths of a small machine ---------------------------------------------------------------------------


@pytest.mark.equation("eq-rbm-ais-weight", how="enumeration")
def test_the_weight_of_a_path_is_the_product_of_the_ratios_along_it(generator, largest_error, monkeypatch):
    model, base = machine(generator), randn(generator, 3)
    log_weights, _, drawn = all_paths_up(model, base, monkeypatch)
    f = [tempered(model, float(beta), base)[0].log() for beta in BETAS]
    v0, v1, v2 = (number(drawn[i]) for i in (0, 2, 4))
    exact = f[0].logsumexp(0) + f[1][v0] - f[0][v0] + f[2][v1] - f[1][v1]
    error = (log_weights - exact).abs().max()
    largest_error(error)
    assert error < EXACT
    # the mutant: transition first, then the weight
    late = f[0].logsumexp(0) + f[1][v1] - f[0][v1] + f[2][v2] - f[1][v2]
    assert (log_weights - late).abs().max() > 0.1


def mean_weight_error(model, base, truth, monkeypatch):
    """How far E[w] lies from Z, relative to it, over all paths."""
    log_weights, law, _ = all_paths_up(model, base, monkeypatch)
    return (law @ (log_weights - truth).exp() - 1).abs()


@pytest.mark.equation("eq-rbm-ais", how="enumeration")
def test_the_mean_weight_is_the_normaliser_exactly(generator, largest_error, monkeypatch):
    for _ in range(3):
        model, base = machine(generator), randn(generator, 3)
        error = mean_weight_error(model, base, model.log_z(), monkeypatch)
        largest_error(error)
        assert error < EXACT
    # and why: the weight is the law of the path walked backwards, over that of the path walked forwards
    log_weights, law, drawn = all_paths_up(model, base, monkeypatch)
    (f0, start), (_, middle), (f2, _) = (tempered(model, float(beta), base) for beta in BETAS)
    v0, v1 = number(drawn[0]), number(drawn[2])
    T = transition(middle)
    reversal = T * middle.sum(1)[:, None] / middle.sum(1)       # T̃(v0 | v1), as [v0, v1]
    forwards = start.sum(1)[v0] * T[v0, v1]
    backwards = f2[v1] / f2.sum() * reversal[v0, v1]
    error = (log_weights - (f2.sum() * backwards / forwards).log()).abs().max()
    largest_error(error)
    assert error < 1e-11
    pairs = torch.zeros(64, dtype=torch.float64).index_add(0, 8 * v0 + v1, law)
    assert (pairs.view(8, 8) - start.sum(1)[:, None] * T).abs().max() < EXACT


class LateWeight(RBM):
    """A mutant: the transition comes before the weight."""

    def _anneal_step(self, base, generator):
        right = super()._anneal_step(base, generator)

        def step(v, before, after):
            moved = right(v, before, after)[1]
            f = [-self.free_energy_at(moved, beta, base) for beta in (before, after)]
            return f[1] - f[0], moved

        return step

    def free_energy_at(self, v, beta, base):
        return -(v @ base + beta * (v @ (self.a - base))) - softplus(self.tempered_input(v, beta)).sum(1)


class NoHiddenUnits(RBM):
    """A mutant: the first machine's normaliser without the 2 of each hidden unit."""

    def base_log_z(self, base):
        return super().base_log_z(base) - self.hidden * math.log(2)


class NoLean(RBM):
    """A mutant: the visible units are drawn with (1 − β) forgotten."""

    def tempered_visible(self, h, beta, base):
        return torch.sigmoid(beta * (h @ self.W.mT + self.a) + base)


class WholeInput(RBM):
    """A mutant: the pixels are drawn with all the input of the hidden units at every β."""

    def tempered_visible(self, h, beta, base):
        return torch.sigmoid(h @ self.W.mT + beta * self.a + (1 - beta) * base)


class NoBiasRatio(RBM):
    """A mutant: the visible biases' part of the weight is forgotten."""

    def _anneal_step(self, base, generator):
        right = super()._anneal_step(base, generator)

        def step(v, before, after):
            gain, moved = right(v, before, after)
            return gain - (after - before) * (v @ (self.a - base)), moved

        return step


@pytest.mark.parametrize("mutant", [LateWeight, NoHiddenUnits, NoLean, WholeInput, NoBiasRatio])
def test_wrong_paths_have_another_mean_weight(mutant, generator, monkeypatch):
    model, base = machine(generator, kind=mutant), torch.tensor([0.8, -1.1, 0.5], dtype=torch.float64)
    assert mean_weight_error(model, base, model.log_z(), monkeypatch) > 0.005


def test_a_transition_at_the_wrong_temperature_is_noticed(generator, monkeypatch):
    """The mutant sweeps at the β before: the weights are the same, the paths' probabilities are not."""
    model, base = machine(generator), randn(generator, 3)
    log_weights, _, drawn = all_paths_up(model, base, monkeypatch)
    start, first = tempered(model, 0.0, base)[1], transition(tempered(model, 0.0, base)[1])
    v0, v1 = number(drawn[0]), number(drawn[2])
    weight = torch.full((64,), math.nan, dtype=torch.float64).index_copy(0, 8 * v0 + v1, log_weights.exp())
    mutant = (start.sum(1)[:, None] * first).flatten() @ weight
    assert (mutant / model.log_z().exp() - 1).abs() > 0.005


@pytest.mark.equation("eq-rbm-ais-bias", how="enumeration")
def test_the_logarithm_lies_below_and_less_so_with_more_chains(generator, largest_error, monkeypatch):
    for _ in range(3):
        model, base = machine(generator), randn(generator, 3)
        log_weights, law, _ = all_paths_up(model, base, monkeypatch)
        log_z = model.log_z()
        assert law @ log_weights < log_z
    # the mean over C chains, over all that C chains can do: one step, so that a chain has 8 ways
    two = torch.tensor([0.0, 1.0], dtype=torch.float64)
    model, base = machine(generator, scale=0.4), model.a
    model.a.copy_(base + 0.15 * randn(generator, 3))
    log_weights, law, drawn = all_paths_up(model, base, monkeypatch, two, bits=8)
    start = number(drawn[0])
    law = torch.zeros(8, dtype=torch.float64).index_add(0, start, law)
    log_weights = torch.zeros(8, dtype=torch.float64).index_copy(0, start, log_weights)
    log_z, bias = model.log_z(), []
    relative = law @ (log_weights - log_z).exp().square() - 1               # Var(w) / Z²
    for chains in range(1, 7):
        which = torch.cartesian_prod(*[torch.arange(8)] * chains).view(-1, chains)
        mean = ais.log_mean_exp(log_weights[which].T)
        bias.append(law[which].prod(1) @ mean - log_z)
    found = torch.stack(bias)
    largest_error(found.clamp(min=0).max())
    assert (found < 0).all() and (found.diff() > 0).all()
    expected = -relative / (2 * torch.arange(1, 7))
    assert abs(found[-1] / expected[-1] - 1) < 0.05                        # −Var(w) / 2 C Z²
    assert abs(found[-1] / (2 * expected[-1]) - 1) > 0.3                   # the mutant: without the ½


@pytest.mark.equation("eq-rbm-ais-error", how="Monte Carlo")
def test_the_reported_error_is_the_spread_of_the_estimate(generator, largest_error, monkeypatch):
    model, base = machine(generator), randn(generator, 3)
    log_weights, law, _ = all_paths_up(model, base, monkeypatch)
    chains, runs = 200, 3000
    rows = torch.multinomial(law, chains * runs, replacement=True, generator=generator)
    found = [ais.estimate(part) for part in log_weights[rows].split(chains)]
    spread = torch.tensor([one.log_z for one in found]).std()
    reported = torch.tensor([one.standard_error for one in found]).mean()
    exact = (law @ (log_weights - model.log_z()).exp().square() - 1).sqrt() / math.sqrt(chains)
    error = max((spread / exact - 1).abs(), (reported / exact - 1).abs())
    largest_error(error)
    assert error < 0.06
    # the mutants: the spread of the weights' logarithms, and no root of the number of chains
    one = log_weights[rows[:100_000]]
    assert abs(one.std() / math.sqrt(chains) / spread - 1) > 0.1 and exact * math.sqrt(chains) / spread > 10
    # on draws of a law that is known: the sum of squares
    weights = one[:50].exp()
    known = weights.std() / weights.mean() / math.sqrt(50)
    assert ais.estimate(one[:50]).standard_error == pytest.approx(float(known), rel=1e-12)
    counted = weights.sum() ** 2 / weights.square().sum()
    assert ais.estimate(one[:50]).effective == pytest.approx(float(counted))


@pytest.mark.equation("eq-rbm-ais-down", how="enumeration")
def test_the_way_back_has_one_over_z_as_its_mean(generator, largest_error, monkeypatch):
    for _ in range(3):
        model, base = machine(generator), randn(generator, 3)
        log_weights, law = all_paths_down(model, base, monkeypatch)
        log_z = model.log_z()
        error = (law @ (log_z - log_weights).exp() - 1).abs()
        largest_error(error)
        assert error < EXACT and law @ log_weights > log_z
    # the mutants: chains that start at base rates, and the way up's formula
    start = torch.sigmoid(base) ** enumerate_binary(3) * torch.sigmoid(-base) ** (1 - enumerate_binary(3))
    elsewhere = law.view(8, -1) * (start.prod(1) / model.log_prob(enumerate_binary(3)).exp())[:, None]
    assert (elsewhere.flatten() @ (log_z - log_weights).exp() - 1).abs() > 0.01
    assert (law @ (log_weights - log_z).exp() - 1).abs() > 0.01


@pytest.mark.parametrize("mutant", [NoHiddenUnits, NoLean, WholeInput, NoBiasRatio])
def test_wrong_ways_back_have_another_mean(mutant, generator, monkeypatch):
    model, base = machine(generator, kind=mutant), torch.tensor([0.8, -1.1, 0.5], dtype=torch.float64)
    log_weights, law = all_paths_down(model, base, monkeypatch)
    assert (law @ (model.log_z() - log_weights).exp() - 1).abs() > 0.005


# --- the laws on the path -----------------------------------------------------------------------------------


def test_the_sweeps_and_the_ends_of_the_path(generator):
    model, base = machine(generator, 4, 3), randn(generator, 4)
    v, h = enumerate_binary(4), enumerate_binary(3)
    for beta in (0.0, 0.3, 1.0):
        _, table = tempered(model, beta, base)
        hidden = torch.sigmoid(model.tempered_input(v, beta))
        assert (hidden - table @ h / table.sum(1, keepdim=True)).abs().max() < EXACT
        visible = model.tempered_visible(h, beta, base)
        assert (visible - table.T @ v / table.sum(0)[:, None]).abs().max() < EXACT
    first, last = tempered(model, 0.0, base)[0], tempered(model, 1.0, base)[0]
    assert abs(first.sum().log() - model.base_log_z(base)) < EXACT
    assert abs(last.sum().log() - model.log_z()) < EXACT
    # at β = 0 the base rates are the rates
    rows = enumerate_binary(4)[torch.randint(16, (40,), generator=generator)]
    assert (torch.sigmoid(base_rate(rows, 0.0)) - rows.mean(0)).abs().max() < EXACT


@pytest.mark.parametrize("spacing", ["published", "even"])
@pytest.mark.parametrize("count", [2, 3, 10, 1000, 14_501])
def test_temperatures_rise_from_nought_to_one(spacing, count):
    betas = ais.temperatures(count, spacing)
    assert betas.shape == (count,) and betas.dtype == torch.float64
    assert betas[0] == 0 and betas[-1] == 1 and (betas.diff() > 0).all()


def test_the_published_shares():
    betas = ais.temperatures(14_501)
    steps = betas.diff()
    for low, high, share in ((0.0, 0.5, 500), (0.5, 0.9, 4000), (0.9, 1.0, 10_000)):
        inside = (betas[:-1] > low - 1e-9) & (betas[1:] < high + 1e-9)
        assert inside.sum() == share and (steps[inside] - (high - low) / share).abs().max() < 1e-12
    assert (ais.temperatures(11, "even").diff() - 0.1).abs().max() < 1e-12


# --- a machine of 30 × 20 -----------------------------------------------------------------------------------


class Setting:
    """The machine of the oracle, its exact log Z, base rates and exact draws."""

    def __init__(self, kind=RBM):
        own = torch.Generator().manual_seed(5)
        self.model = kind(30, 20, own, scale=0.3, dtype=torch.float64).requires_grad_(False)
        self.model.a.copy_(randn(own, 30))
        self.model.b.copy_(0.5 * randn(own, 20))
        self.base = 0.5 * self.model.a

    def exact(self, draws, generator):
        """log Z, and that many independent draws of v: h by its enumerated law, then v given h."""
        log_weight = -torch.cat([self.model.hidden_free_energy(part)
                                 for part in enumerate_binary(20).split(2**14)])
        rows = torch.multinomial(log_weight.softmax(0), draws, replacement=True, generator=generator)
        return log_weight.logsumexp(0), self.model.sample_visible(enumerate_binary(20)[rows], generator)

    def runs(self, generator, count=10, chains=100, temperatures=1000):
        return [self.model.ais_up(chains, ais.temperatures(temperatures), self.base, generator)
                for _ in range(count)]


@pytest.fixture(scope="module")
def large():
    setting = Setting()
    setting.log_z, setting.v = setting.exact(4000, torch.Generator().manual_seed(6))
    return setting


def test_ten_runs_against_the_exact_normaliser(large, generator):
    assert large.log_z == pytest.approx(float(large.model.log_z()), abs=1e-9)
    found = large.runs(generator)
    log_z = torch.tensor([one.log_z for one in found])
    errors = torch.tensor([one.standard_error for one in found])
    assert (log_z.mean() - large.log_z).abs() < 4 * log_z.std() / math.sqrt(10)
    assert ((log_z - large.log_z) / errors).abs().max() < 5
    assert 0.5 < errors.mean() / log_z.std() < 2
    assert all(one.interval[0] < large.log_z < one.interval[1] and one.effective > 50 for one in found)
    # ten times the temperatures: the same number, and a smaller error
    (fine,) = large.runs(generator, count=1, temperatures=10_000)
    error = math.hypot(fine.standard_error, found[0].standard_error)
    assert abs(fine.log_z - found[0].log_z) < 4 * error and fine.standard_error < 0.6 * errors.mean()
    assert abs(fine.log_z - large.log_z) < 5 * fine.standard_error
    # the way back, from exact draws, meets it
    down = large.model.ais_down(large.v[:100], ais.temperatures(1000), large.base, generator)
    assert abs(down.log_z - large.log_z) < 5 * down.standard_error
    assert down.interval[0] < large.log_z < down.interval[1]


@pytest.mark.parametrize("mutant", [LateWeight, NoHiddenUnits, NoLean, WholeInput])
def test_the_oracle_refuses_mutants(mutant, large, generator):
    setting = Setting(mutant)
    assert torch.equal(setting.model.W, large.model.W)
    (found,) = setting.runs(generator, count=1, temperatures=100 if mutant is LateWeight else 300)
    assert abs(found.log_z - large.log_z) > 5 * found.standard_error


def test_too_few_temperatures_flatter_the_machine(large, generator):
    """Below the truth on average, so the likelihood that is reported lies above the true one."""
    runs = {count: large.runs(generator, 40, 20, count) for count in (2, 5, 100)}
    below = {count: large.log_z - torch.tensor([one.log_z for one in found]).mean()
             for count, found in runs.items()}
    assert below[2] > below[5] > 0.1 > below[100].abs()
    reported, true = (large.model.log_prob(large.v[:200], log_z).mean()
                      for log_z in (large.log_z - below[2], large.log_z))
    assert reported > true + 0.1
    down = [large.model.ais_down(part, ais.temperatures(5), large.base, generator).log_z
            for part in large.v.split(20)]
    up = torch.tensor([one.log_z for one in runs[5]])
    assert torch.tensor(down).mean() > large.log_z + 0.1 > large.log_z > up.mean()


def test_float32_gives_the_same_weights(large, generator):
    """The same states in both types: what 1,000 steps of rounding add."""
    single = RBM(30, 20, generator).requires_grad_(False)
    for name, value in large.model.named_parameters():
        getattr(single, name).copy_(value)
    totals = []
    for model, dtype in ((large.model, torch.float64), (single, torch.float32)):
        own, total = torch.Generator().manual_seed(1), torch.zeros(50, dtype=torch.float64)
        step = model._anneal_step(large.base.to(dtype), torch.Generator().manual_seed(2))
        for before, after in zip(*(ais.temperatures(1000).tolist()[i:] for i in (0, 1))):
            states = large.v[torch.randint(4000, (50,), generator=own)].to(dtype)
            total += step(states, before, after)[0]
        totals.append(total)
    assert (totals[1] - totals[0]).abs().max() < 1e-3
    found = single.ais_up(100, ais.temperatures(500), large.base, generator)
    assert found.log_weights.dtype == torch.float64
    assert abs(found.log_z - large.log_z) < 5 * found.standard_error


# --- what an estimate says ----------------------------------------------------------------------------------


def test_an_estimate_of_equal_weights_is_certain():
    found = ais.estimate(torch.full((7,), 900.0, dtype=torch.float64))          # e^900 overflows
    assert found.log_z == pytest.approx(900, abs=1e-10) and found.standard_error == 0
    assert found.effective == pytest.approx(7) and found.interval == pytest.approx((900, 900))
    assert ais.log_mean_exp(torch.tensor([0.0, math.log(3)])).item() == pytest.approx(math.log(2))


def test_the_interval_is_that_of_the_mean_weight():
    weights = torch.tensor([1.0, 2.0, 1.5, 1.2, 1.4, 1.1], dtype=torch.float64)
    found = ais.estimate(weights.log())
    spread = 3 * weights.std() / math.sqrt(6)
    expected = tuple(float((weights.mean() + sign * spread).log()) for sign in (-1, 1))
    assert found.interval == pytest.approx(expected, rel=1e-10)
    wild = ais.estimate(torch.tensor([0.0, 0.0, 0.0, 12.0], dtype=torch.float64))
    assert wild.interval[0] == -math.inf and wild.interval[1] > wild.log_z and wild.effective < 1.01


def test_the_interval_of_the_way_back_is_the_other_way_round(generator):
    """There the mean weight estimates 1 / Z: where it may be 0, Z may be infinite."""
    model, base = machine(generator), torch.zeros(3, dtype=torch.float64)
    v = model.gibbs(torch.zeros(400, 3).double(), 50, generator)
    found = model.ais_down(v, BETAS, base, generator)
    inverse = (-found.log_weights).exp()
    spread = 3 * inverse.std() / math.sqrt(400)
    expected = tuple(-float((inverse.mean() + sign * spread).log()) for sign in (1, -1))
    assert found.interval == pytest.approx(expected, rel=1e-10)
    assert found.log_z == pytest.approx(-float(inverse.mean().log()), rel=1e-12)
    wide = ais.Estimate(3.0, 0.5, found.log_weights, 1.0, way=-1)
    assert wide.interval[1] == math.inf and wide.interval[0] < 3


def test_a_path_is_walked_in_order():
    """`anneal` with a step that writes down what it is asked."""
    asked = []

    def step(state, before, after):
        asked.append((before, after))
        return torch.full((3,), after - before, dtype=torch.float32), state + 1

    found = ais.anneal(torch.zeros(3), step, torch.tensor([0.0, 0.5, 2.0]))
    assert asked == [(0.0, 0.5), (0.5, 2.0)] and found.dtype == torch.float64 and found.tolist() == [2.0] * 3


def nothing(state, before, after):
    return torch.zeros(len(state)), state


@pytest.mark.parametrize("call, words", [
    (lambda m, g: ais.temperatures(1), "at least 2 temperatures; 1 came"),
    (lambda m, g: ais.temperatures(10, "log"), "'published' or 'even', and 'log' came"),
    (lambda m, g: ais.anneal(torch.zeros(5, 3), nothing, torch.zeros(1)), "two temperatures.*1 and 5 came"),
    (lambda m, g: ais.anneal(torch.zeros(1, 3), nothing, torch.zeros(4)), "two chains; 4 and 1 came"),
    (lambda m, g: ais.estimate(torch.tensor([0.0, math.nan])), "overflowed: look at the weights and biases"),
    (lambda m, g: ais.estimate(torch.tensor([0.0, math.inf])), "not finite"),
    (lambda m, g: ais.estimate(torch.zeros(1)), "at least two chains; 1 came"),
    (lambda m, g: m.ais_up(5, torch.linspace(1, 0, 4), m.a, g), "betas go up from 0 to 1"),
    (lambda m, g: m.ais_up(5, torch.linspace(0.1, 1, 4), m.a, g), "betas go up from 0 to 1"),
    (lambda m, g: m.ais_up(5, torch.tensor([0.0, 0.5, 0.5, 1.0]), m.a, g), "betas go up from 0 to 1"),
    (lambda m, g: m.ais_down(torch.zeros(5, 3).double(), torch.linspace(1, 0, 4), m.a, g), "from 0 to 1"),
    (lambda m, g: m.ais_up(1, ais.temperatures(10), m.a, g), "two chains; 10 and 1 came"),
    (lambda m, g: m.ais_up(5, ais.temperatures(10), m.a * math.inf, g), "A weight is not finite"),
])
def test_bad_input_gets_one_sentence(call, words, generator):
    with pytest.raises(ValueError, match=words):
        call(machine(generator), generator)
