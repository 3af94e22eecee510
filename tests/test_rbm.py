"""Chapter 2: every numbered equation of the restricted Boltzmann machine against sums over all states, with
mutants that the same checks must refuse.

The brute force knows the energy and nothing else. Samplers are checked twice: by chi-square on what they
draw, and exactly, by letting every outcome of every draw happen (`EveryDraw`) and adding up.
"""

import math
import pytest
import torch
from scipy import stats
from torch import nn

from nemlib import gibbs, rbm, training
from nemlib.rbm import RBM, ContrastiveDivergence, Penalties, base_rate, enumerate_binary
from nemlib.training import TrainingSettings, evaluate, train

EXACT = 1e-12


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(20020801)


def randn(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def machine(generator, visible=4, hidden=3, scale=1.0, kind=RBM):
    """Weights and biases far from 0, without gradients."""
    made = kind(visible, hidden, generator, scale=scale, dtype=torch.float64).requires_grad_(False)
    made.a.copy_(0.5 * scale * randn(generator, visible))
    made.b.copy_(0.5 * scale * randn(generator, hidden))
    return made


def brute_joint(model):
    """p(v, h) as a table (2^D, 2^H), and log Z, from nothing but the energy."""
    return brute(model.W, model.a, model.b)


def brute(W, a, b):
    v, h = enumerate_binary(len(a)), enumerate_binary(len(b))
    energy = -torch.einsum("vi,ij,hj->vh", v, W, h) - (v * a).sum(1)[:, None] - (h * b).sum(1)
    log_z = torch.log(torch.exp(-energy).sum())
    return torch.exp(-energy - log_z), log_z


def number(states):
    """Which state each one is: the inverse of `enumerate_binary`."""
    return (states.long() * 2 ** torch.arange(states.shape[-1] - 1, -1, -1)).sum(-1)


def product_law(mean, states):
    """Π_i mean_i^s_i (1 − mean_i)^(1 − s_i): (rows, units), (S, units) → (rows, S)."""
    return torch.where(states == 1, mean[:, None], 1 - mean[:, None]).prod(-1)


def chi_square_p(counts, law):
    return stats.chisquare(counts.double().numpy(), (law / law.sum() * counts.sum()).numpy()).pvalue


def draw(law, count, generator):
    """State numbers from a law (S,), independent."""
    return torch.multinomial(law, count, replacement=True, generator=generator)


class EveryDraw:
    """Stands in for `bernoulli`: each outcome of all draws together has a row, and `log_prob` its logarithm.

    Rows that are given to the sampler are repeated once per outcome, `rows` does it.
    """

    def __init__(self, monkeypatch, bits):
        self.table, self.at, self.log_prob = enumerate_binary(bits), 0, 0.0
        monkeypatch.setattr(rbm, "bernoulli", self)

    def rows(self, states):
        return states.repeat_interleave(len(self.table), -2)

    def __call__(self, mean, generator):
        width = mean.shape[-1]
        outcome = self.table[:, self.at:self.at + width].repeat(mean.shape[-2] // len(self.table), 1)
        self.at += width
        self.log_prob = self.log_prob + torch.where(outcome == 1, mean, 1 - mean).log().sum(-1)
        return outcome.clone()

    def law(self, starts, ends, states):
        """P(end | start) as a table, (starts, states), from the rows' probabilities."""
        assert self.at == self.table.shape[1], "draws were left over"
        found = torch.zeros(starts, states, dtype=torch.float64)
        place = torch.arange(starts).repeat_interleave(len(self.table))
        return found.index_put((place, number(ends)), self.log_prob.exp(), accumulate=True)


# --- the two layers given each other ------------------------------------------------------------------------


@pytest.mark.equation("eq-rbm-sum-product", how="enumeration")
def test_a_sum_of_products_is_a_product_of_sums(generator, largest_error):
    for units in (1, 2, 5, 10):
        x = randn(generator, units)
        total = (enumerate_binary(units) @ x).exp().sum()
        error = (torch.log1p(x.exp()).sum() - total.log()).abs()
        largest_error(error)
        assert error < EXACT
        # the mutants: units of −1 and 1, and the sum of the sums
        assert ((2 * x.cosh()).log().sum() - total.log()).abs() > 0.01
        assert units == 1 or ((1 + x.exp()).sum() - total).abs() > 0.1


@pytest.mark.equation("eq-rbm-factorises", how="enumeration")
def test_given_one_layer_the_other_factorises(generator, largest_error):
    for visible, hidden in ((4, 3), (8, 8), (3, 5)):
        joint, _ = brute_joint(machine(generator, visible, hidden))
        for table, units in ((joint, hidden), (joint.T, visible)):
            given, states = table / table.sum(1, keepdim=True), enumerate_binary(units)
            error = (product_law(given @ states, states) - given).abs().max()    # from its own marginals
            largest_error(error)
            assert error < EXACT
            # on its own the layer does not
            alone = table.sum(0)[None]
            assert (product_law(alone @ states, states) - alone).abs().max() > 1e-3


def test_the_energy_is_the_sum_over_edges_and_units(generator):
    model = machine(generator, 3, 2)
    for v in enumerate_binary(3):
        for h in enumerate_binary(2):
            edges = sum(v[i] * model.W[i, j] * h[j] for i in range(3) for j in range(2))
            units = sum(model.a[i] * v[i] for i in range(3)) + sum(model.b[j] * h[j] for j in range(2))
            assert (model.energy(v[None], h[None]) + edges + units).abs().max() < EXACT
    v, h = enumerate_binary(3)[[5, 6]], enumerate_binary(2)[[1, 3]]
    joint, log_z = brute_joint(model)
    truth = -joint[[5, 6], [1, 3]].log() - log_z
    assert (model.energy(v, h) - truth).abs().max() < EXACT
    assert (model.energy(v, 1 - h) - truth).abs().max() > 0.01                 # the mutant: other units on


def conditional_error(model):
    """The largest error of the two conditionals of all states, against joint over marginal."""
    joint, _ = brute_joint(model)
    v, h = enumerate_binary(model.visible), enumerate_binary(model.hidden)
    hidden = (model.hidden_given(v) - joint @ h / joint.sum(1, keepdim=True)).abs().max()
    visible = (model.visible_given(h) - joint.T @ v / joint.sum(0)[:, None]).abs().max()
    return hidden, visible


@pytest.mark.equation("eq-rbm-hidden-given", "eq-rbm-visible-given", how="enumeration")
def test_both_conditionals_against_joint_over_marginal(generator, largest_error):
    for visible, hidden in ((4, 3), (8, 8), (2, 6), (1, 1)):
        errors = conditional_error(machine(generator, visible, hidden))
        for error, label in zip(errors, ("eq-rbm-hidden-given", "eq-rbm-visible-given")):
            largest_error(error, label)
            assert error < EXACT


class SpinsConditionals(RBM):
    """A mutant: the 2 of units that are −1 and 1."""

    def hidden_given(self, v):
        return torch.sigmoid(2 * (v @ self.W + self.b))

    def visible_given(self, h):
        return torch.sigmoid(2 * (h @ self.W.T + self.a))


class NoBiases(RBM):
    def hidden_given(self, v):
        return torch.sigmoid(v @ self.W)

    def visible_given(self, h):
        return torch.sigmoid(h @ self.W.T)


@pytest.mark.parametrize("mutant", [SpinsConditionals, NoBiases])
def test_wrong_conditionals_are_caught(mutant, generator):
    assert min(conditional_error(machine(generator, kind=mutant))) > 0.05


def joint_from_conditionals(hidden_given, visible_given, star):
    """p(v, h) from the tables p(h|v), (V, H), and p(v|h), (V, H), through the hidden state of that number."""
    weight = visible_given[:, star] / hidden_given[:, star]
    return hidden_given * (weight / weight.sum())[:, None]


@pytest.mark.equation("eq-rbm-conditionals", how="enumeration")
def test_two_conditionals_are_a_joint_law(generator, largest_error):
    model, other = machine(generator), machine(generator)
    v, h = enumerate_binary(4), enumerate_binary(3)
    joint, _ = brute_joint(model)
    forth, back = product_law(model.hidden_given(v), h), product_law(model.visible_given(h), v).T
    for star in range(8):
        error = (joint_from_conditionals(forth, back, star) - joint).abs().max()
        largest_error(error)
        assert error < EXACT
    # the mutant: two conditionals that share no matrix are those of no law; it depends on the state chosen
    alien = product_law(other.visible_given(h), v).T
    found = torch.stack([joint_from_conditionals(forth, alien, star) for star in range(8)])
    assert (found - found[0]).abs().max() > 0.01


# --- free energy and the normaliser -------------------------------------------------------------------------


def free_energy_error(model):
    joint, log_z = brute_joint(model)
    v, h = enumerate_binary(model.visible), enumerate_binary(model.hidden)
    of_v = (model.free_energy(v) + joint.sum(1).log() + log_z).abs().max()
    return max(of_v, (model.hidden_free_energy(h) + joint.sum(0).log() + log_z).abs().max())


@pytest.mark.equation("eq-rbm-free-energy", how="enumeration")
def test_the_free_energy_is_the_sum_over_the_hidden_units(generator, largest_error):
    for visible, hidden in ((8, 8), (4, 3), (3, 6)):
        error = free_energy_error(machine(generator, visible, hidden))
        largest_error(error)
        assert error < 1e-10
    wide = machine(generator, scale=30.0)                # inputs far above 20, where a softplus is cut
    assert free_energy_error(wide) < 1e-10


class OneState(RBM):
    """A mutant: the hidden units at their best values in the place of the sum over them."""

    def free_energy(self, v):
        return -v @ self.a - (v @ self.W + self.b).clamp(min=0).sum(-1)


class WithoutTheOne(RBM):
    """A mutant: the factor e^x for 1 + e^x."""

    def free_energy(self, v):
        return -v @ self.a - (v @ self.W + self.b).sum(-1)


@pytest.mark.parametrize("mutant", [OneState, WithoutTheOne])
def test_wrong_free_energies_are_caught(mutant, generator):
    assert free_energy_error(machine(generator, kind=mutant)) > 0.1


@pytest.mark.equation("eq-rbm-log-z", how="enumeration")
def test_log_z_over_each_layer_and_over_both(generator, largest_error):
    for visible, hidden in ((8, 8), (9, 5), (5, 9), (1, 3)):
        model = machine(generator, visible, hidden)
        _, truth = brute_joint(model)
        over_v = torch.logsumexp(-model.free_energy(enumerate_binary(visible)), 0)
        over_h = torch.logsumexp(-model.hidden_free_energy(enumerate_binary(hidden)), 0)
        error = (torch.stack([over_v, over_h, model.log_z()]) - truth).abs().max()
        largest_error(error)
        assert error < 1e-10
        # the mutant: the hidden layer summed with the visible one's free energy
        if visible == hidden:
            mutant = torch.logsumexp(-model.free_energy(enumerate_binary(hidden)) - model.b.sum(), 0)
            assert (mutant - truth).abs() > 0.1


def test_log_z_of_more_states_than_are_looked_at_in_one_go(generator, monkeypatch):
    model = machine(generator, 30, 9)
    whole, statistics = model.log_z(), model.model_statistics()
    monkeypatch.setattr(rbm, "PART", 100)
    assert (model.log_z() - whole).abs() < EXACT
    assert (model.model_statistics().products - statistics.products).abs().max() < EXACT


@pytest.mark.equation("eq-rbm-log-prob", how="enumeration")
def test_the_probability_of_a_picture(generator, largest_error):
    for visible, hidden in ((8, 8), (7, 3), (3, 7)):
        model = machine(generator, visible, hidden)
        joint, log_z = brute_joint(model)
        v = enumerate_binary(visible)
        error = (model.log_prob(v) - joint.sum(1).log()).abs().max()
        largest_error(error)
        assert error < 1e-10 and (model.log_prob(v).exp().sum() - 1).abs() < EXACT
        assert torch.equal(model.log_prob(v, 3.0), -model.free_energy(v) - 3.0)
        # the mutants: the sign of F, and no normaliser
        assert (model.free_energy(v) - log_z - joint.sum(1).log()).abs().max() > 1
        assert (-model.free_energy(v) - joint.sum(1).log()).abs().max() > 1


@pytest.mark.equation("eq-rbm-experts", how="enumeration")
def test_the_law_of_pictures_is_a_product_of_experts(generator, largest_error):
    model = machine(generator, 6, 4)
    joint, log_z = brute_joint(model)
    v = enumerate_binary(6)
    weight = torch.ones(64, dtype=torch.float64)
    for i in range(6):
        weight = weight * (model.a[i] * v[:, i]).exp()
    for j in range(4):
        weight = weight * (1 + (model.b[j] + v @ model.W[:, j]).exp())
    error = (weight / log_z.exp() - joint.sum(1)).abs().max()
    largest_error(error)
    assert error < EXACT
    mutant = weight / (1 + (model.b[3] + v @ model.W[:, 3]).exp())         # an expert stays at home
    assert (mutant / mutant.sum() - joint.sum(1)).abs().max() > 1e-3


@pytest.mark.equation("eq-rbm-one-unit", how="enumeration")
def test_one_unit_given_all_others_needs_no_normaliser(generator, largest_error):
    model = machine(generator, 6, 4)
    law, v = brute_joint(model)[0].sum(1), enumerate_binary(6)
    for i in range(6):
        off, on = v.clone(), v.clone()
        off[:, i], on[:, i] = 0, 1
        truth = law[number(on)] / (law[number(on)] + law[number(off)])
        slope = model.free_energy(off) - model.free_energy(on)
        error = (torch.sigmoid(slope) - truth).abs().max()
        largest_error(error)
        assert error < EXACT
        assert (torch.sigmoid(-slope) - truth).abs().max() > 0.01          # the mutant: the sign of F
        alone = law @ v[:, i]                                              # the others not looked at
        assert (alone - truth).abs().max() > 0.01


def one_expert_each(states, growth, steepness):
    """The machine of the universality proof: a hidden unit for each state (k, D), with a = 0."""
    v, law = states
    model = RBM(v.shape[1], len(v), torch.Generator(), dtype=torch.float64).requires_grad_(False)
    model.W.copy_(steepness * (2 * v - 1).T)
    model.b.copy_(torch.log(growth * law - 1) - steepness * v.sum(1))
    return model


def some_law(generator, states=5, visible=4):
    rows = torch.randperm(2**visible, generator=generator)[:states]
    return enumerate_binary(visible)[rows], (0.5 * randn(generator, states)).softmax(0)


@pytest.mark.equation("eq-rbm-one-expert-each", how="enumeration")
def test_an_expert_counts_the_places_where_a_picture_is_not_its_own(generator, largest_error):
    states = some_law(generator)
    model, v = one_expert_each(states, 200.0, 1.7), enumerate_binary(4)
    distance = (v[:, None] - states[0]).abs().sum(-1)
    strength = 200 * states[1] - 1
    inputs = (v @ model.W + model.b - (strength.log() - 1.7 * distance)).abs().max()
    weight = (1 + strength * torch.exp(-1.7 * distance)).prod(1)
    error = max(inputs, (model.log_prob(v).exp() - weight / weight.sum()).abs().max())
    largest_error(error)
    assert error < EXACT
    mutant = (1 + strength * torch.exp(-1.7 * (v @ states[0].T))).prod(1)       # agreement for distance
    assert (model.log_prob(v).exp() - mutant / mutant.sum()).abs().max() > 0.01


@pytest.mark.equation("eq-rbm-universal", how="enumeration")
def test_with_enough_experts_any_law_comes_near(generator, largest_error):
    states = some_law(generator)
    for growth in (100.0, 1e4, 1e6):
        model = one_expert_each(states, growth, 60.0)
        divergence = (states[1] * (states[1].log() - model.log_prob(states[0]))).sum()
        error = (divergence - math.log1p((2**4 - 5) / growth)).abs()
        largest_error(error)
        assert error < 1e-10
        assert (divergence - math.log1p(2**4 / growth)).abs() > 1e-7        # the mutant: its own states too
    soft = one_expert_each(states, 1e6, 1.0)                                # and steepness is needed
    assert (states[1] * (states[1].log() - soft.log_prob(states[0]))).sum() > 0.1


# --- maximum likelihood -------------------------------------------------------------------------------------


def data_law(generator, visible, count=12):
    """A few pictures (count, D) and their law (2^D,)."""
    data = enumerate_binary(visible)[torch.randint(2**visible, (count,), generator=generator)]
    return data, torch.bincount(number(data), minlength=2**visible).double() / count


def divergence(p, q):
    """KL(p ‖ q), with 0 log 0 = 0, and so that autograd survives the zeros of p."""
    return torch.xlogy(p, p).sum() - p @ q.log()


@pytest.mark.equation("eq-rbm-kl", how="enumeration")
def test_the_smallest_divergence_is_the_largest_likelihood(generator, largest_error):
    data, law = data_law(generator, 6)
    entropy, found = -torch.xlogy(law, law).sum(), []
    for _ in range(20):
        model = machine(generator, 6, 3, scale=0.7)
        kl = divergence(law, brute_joint(model)[0].sum(1))
        error = (kl + entropy + model.log_prob(data).mean()).abs()
        largest_error(error)
        assert error < 1e-11 and kl >= 0
        found.append((kl, model.log_prob(data).mean()))
        # the mutants: the divergence the other way round, and the entropy's sign
        smooth, own = 0.9 * law + 0.1 / 64, model.log_prob(enumerate_binary(6))
        other = divergence(own.exp(), smooth) - torch.xlogy(smooth, smooth).sum() + smooth @ own
        assert other.abs() > 0.02 and (kl - entropy + model.log_prob(data).mean()).abs() > 0.1
    by_kl, by_likelihood = (sorted(range(20), key=lambda i, c=c: found[i][c]) for c in (0, 1))
    assert by_kl == by_likelihood[::-1]


def autograd_of_the_likelihood(model, data):
    """∂/∂(W, a, b) of the mean log-likelihood, by differentiating the enumerated one."""
    W, a, b = (value.detach().clone().requires_grad_() for value in (model.W, model.a, model.b))
    law = torch.bincount(number(data), minlength=2**model.visible).double() / len(data)
    joint, _ = brute(W, a, b)
    return torch.autograd.grad((law @ joint.sum(1).log()), (W, a, b))


def parts(statistics):
    return statistics.products, statistics.visible, statistics.hidden


def largest(first, second):
    return max((one - two).abs().max() for one, two in zip(first, second))


@pytest.mark.equation("eq-rbm-gradient", how="autograd")
def test_the_gradient_is_the_data_term_minus_the_model_term(generator, largest_error):
    for visible, hidden in ((8, 8), (7, 4), (4, 7)):
        model, (data, _) = machine(generator, visible, hidden), data_law(generator, visible)
        truth = autograd_of_the_likelihood(model, data)
        error = largest(parts(model.likelihood_gradient(data)), truth)
        largest_error(error)
        assert error < 1e-10
        through_log_prob = model.requires_grad_(True).log_prob(data).mean()
        found = torch.autograd.grad(through_log_prob, (model.W, model.a, model.b))
        assert largest(found, truth) < 1e-10
        data_term, model_term = model.statistics(data), model.model_statistics()
        wrong = [parts(model_term - data_term), parts(data_term), parts(model_term)]
        assert all(largest(mutant, truth) > 0.05 for mutant in wrong)


def test_the_model_term_is_the_mean_under_the_joint_law(generator):
    for visible, hidden in ((6, 4), (4, 6), (5, 5)):
        model = machine(generator, visible, hidden)
        joint, _ = brute_joint(model)
        v, h = enumerate_binary(visible), enumerate_binary(hidden)
        truth = (v.T @ joint @ h, joint.sum(1) @ v, joint.sum(0) @ h)
        assert largest(parts(model.model_statistics()), truth) < EXACT
        weighted = model.statistics(v, joint.sum(1))
        assert largest(parts(weighted), truth) < EXACT
        assert largest(parts(model.statistics(v)), truth) > 0.01        # the mutant: equal weights


def test_base_rates_are_the_best_biases_of_a_machine_without_weights(generator):
    data = torch.cat([data_law(generator, 5)[0], torch.tensor([[0, 1, 0, 1, 0], [1, 0, 1, 0, 1]]).double()])
    model = RBM(5, 3, generator, scale=0.0, dtype=torch.float64)
    model.set_base_rate(data, smoothing=0.0)
    assert largest(parts(model.likelihood_gradient(data)), [0, 0, 0]) < EXACT
    assert (model.visible_given(torch.zeros(1, 3).double()) - data.mean(0)).abs().max() < EXACT
    model.set_base_rate(data)
    assert (torch.sigmoid(model.a) - (data.sum(0) + 1) / 16).abs().max() < EXACT
    assert torch.isfinite(base_rate(torch.zeros(3, 5))).all()


# --- Gibbs sampling -----------------------------------------------------------------------------------------


def transition(joint):
    """T(v' | v) = Σ_h p(h | v) p(v' | h), (V, V), from the joint table."""
    return (joint / joint.sum(1, keepdim=True)) @ (joint / joint.sum(0)).T


def balance(T, law):
    flow = law[:, None] * T
    return max((law @ T - law).abs().max(), (flow - flow.T).abs().max())


def sampled_transition(model, monkeypatch, sweep, sweeps=1):
    """P(end | start) of a sampler, exactly: every outcome of its draws."""
    with monkeypatch.context() as patch:
        draws = EveryDraw(patch, sweeps * (model.visible + model.hidden))
        starts = enumerate_binary(model.visible)
        return draws.law(len(starts), sweep(draws.rows(starts)), len(starts))


@pytest.mark.equation("eq-rbm-block-gibbs", how="enumeration")
def test_a_sweep_leaves_the_law_in_place_and_is_in_detailed_balance(generator, largest_error, monkeypatch):
    for visible, hidden in ((8, 8), (4, 3), (3, 6)):
        joint, _ = brute_joint(machine(generator, visible, hidden))
        error = balance(transition(joint), joint.sum(1))
        largest_error(error)
        assert error < EXACT
    model = machine(generator)
    joint, _ = brute_joint(model)
    for sweeps in (1, 2):
        found = sampled_transition(model, monkeypatch, lambda v: model.gibbs(v, sweeps, generator), sweeps)
        error = (found - torch.linalg.matrix_power(transition(joint), sweeps)).abs().max()
        largest_error(error)
        assert error < EXACT


def mean_field_sweep(model, v, generator):
    """A mutant: the pixels are given the mean hidden units in the place of draws."""
    mean = rbm.bernoulli(torch.zeros(len(v), model.hidden).double(), generator) + model.hidden_given(v)
    return model.sample_visible(mean, generator)


def stale_sweep(model, v, generator):
    """A mutant: the pixels are drawn given hidden units that were drawn for another picture."""
    return model.sample_visible(model.sample_hidden(v.roll(1, 1), generator), generator)


def threshold_sweep(model, v, generator):
    """A mutant: the pixels are what is more probable."""
    return (model.visible_given(model.sample_hidden(v, generator)) > 0.5).double()


@pytest.mark.parametrize("mutant", [mean_field_sweep, stale_sweep, threshold_sweep])
def test_wrong_sweeps_do_not_leave_the_law_in_place(mutant, generator):
    model = machine(generator)
    law = brute_joint(model)[0].sum(1)
    starts = enumerate_binary(4)[draw(law, 50_000, generator)]
    counts = torch.bincount(number(mutant(model, starts, generator)), minlength=16)
    assert chi_square_p(counts, law) < 1e-4
    kept = torch.bincount(number(model.gibbs(starts, 1, generator)), minlength=16)
    assert chi_square_p(kept, law) > 1e-4


def test_the_samplers_counts_against_the_law_and_against_the_matrix(generator):
    model = machine(generator, 5, 4, scale=0.8)
    joint, _ = brute_joint(model)
    T, law = transition(joint), joint.sum(1)
    start = torch.zeros(60_000, 5, dtype=torch.float64)
    for sweeps in (1, 3, 40):
        counts = torch.bincount(number(model.gibbs(start, sweeps, generator)), minlength=32)
        assert chi_square_p(counts, torch.linalg.matrix_power(T, sweeps)[0]) > 1e-4
    assert chi_square_p(counts, law) > 1e-4
    assert chi_square_p(torch.bincount(number(model.gibbs(start, 1, generator)), minlength=32), law) < 1e-4
    assert torch.equal(model.gibbs(start, 0, generator), start)


def test_a_layer_is_drawn_from_its_conditional(generator):
    model = machine(generator, 3, 4)
    v, h = enumerate_binary(3)[5].expand(40_000, -1), enumerate_binary(4)[6].expand(40_000, -1)
    hidden = torch.bincount(number(model.sample_hidden(v, generator)), minlength=16)
    visible = torch.bincount(number(model.sample_visible(h, generator)), minlength=8)
    assert chi_square_p(hidden, product_law(model.hidden_given(v[:1]), enumerate_binary(4))[0]) > 1e-4
    assert chi_square_p(visible, product_law(model.visible_given(h[:1]), enumerate_binary(3))[0]) > 1e-4
    certain = rbm.bernoulli(torch.tensor([0.0, 1.0]).expand(10_000, 2), generator)
    assert (certain == torch.tensor([0.0, 1.0])).all() and certain.dtype == torch.float32


# --- completing a picture -----------------------------------------------------------------------------------


def posterior_means(model, v, known):
    """P(v_i = 1 | the known units) for each row, by enumeration: (batch, visible)."""
    states, law = enumerate_binary(model.visible), brute_joint(model)[0].sum(1)
    means = []
    for row, mask in zip(v, known):
        fits = (states[:, mask] == row[mask]).all(1)
        means.append(law[fits] @ states[fits] / law[fits].sum())
    return torch.stack(means)


@pytest.mark.parametrize("burn_in", [0, 1])
def test_completing_from_the_posterior_stays_there_exactly(burn_in, generator, monkeypatch):
    """All outcomes of all draws, with the start weighted as a draw from the posterior."""
    model, known = machine(generator, 3, 2), torch.tensor([False, True, False])
    v = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    draws = EveryDraw(monkeypatch, 3 + 5 * (1 + burn_in))
    rows = draws.rows(v)
    means = model.inpaint(rows, known, 1, burn_in, generator)
    start = torch.where(known, rows, draws.table[:, :3])
    law = brute_joint(model)[0].sum(1)[number(start)]       # the posterior, but for its normaliser
    weight = draws.log_prob.exp() * law
    truth = posterior_means(model, v, known[None])
    assert (weight @ means / weight.sum() - truth).abs().max() < EXACT
    free = model.visible_given(model.hidden_given(start))                    # the mutant: h as its mean
    assert (weight @ torch.where(known, rows, free) / weight.sum() - truth).abs().max() > 1e-4


def inpainting_z(model, generator, v, known, shown):
    """The largest z of completed pixels over 3,000 chains, against enumeration."""
    chains = 3000
    found = torch.stack([model.inpaint(row.expand(chains, -1), mask, 30, 15, generator)
                         for row, mask in zip(v, shown)])
    spread = found.std(1) / math.sqrt(chains)
    z = (found.mean(1) - posterior_means(model, v, known)).abs() / spread.clamp(min=1e-12)
    return z[~known].max(), found


def test_completed_pixels_against_the_posterior(generator):
    model = machine(generator, 6, 4)
    v = enumerate_binary(6)[torch.tensor([11, 52])]
    known = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 0, 1]]).bool()
    z, found = inpainting_z(model, generator, v, known, known)
    assert z < 5 and all(torch.equal(found[i, :, mask], v[i, mask].expand(3000, -1))
                         for i, mask in enumerate(known))
    nothing_held = inpainting_z(model, generator, v, known, torch.zeros_like(known))[0]
    assert nothing_held > 5 and inpainting_z(model, generator, 1 - v, known, known)[0] < 5
    # a mask for each row is a mask for all, row by row; what stands in the unknown places is not looked at
    together = model.inpaint(v, known, 5, 2, torch.Generator().manual_seed(1))
    hidden = torch.where(known, v, torch.nan)
    assert torch.equal(model.inpaint(hidden, known, 5, 2, torch.Generator().manual_seed(1)), together)
    for sweeps, burn_in in ((0, 3), (3, -1)):
        with pytest.raises(ValueError, match=f"{sweeps} and {burn_in} came"):
            model.inpaint(v, known, sweeps, burn_in, generator)


# --- parallel tempering -------------------------------------------------------------------------------------

BETAS = torch.tensor([0.3, 1.0], dtype=torch.float64)


def tempered_law(model, beta, base):
    """p_β(v), (2^D,), by brute force over the hidden units of the tempered energy."""
    v = enumerate_binary(model.visible)
    joint, log_z = brute(beta * model.W, beta * model.a + (1 - beta) * base, beta * model.b)
    return joint.sum(1), log_z, v


def swaps(model, base, uniform, monkeypatch, betas=BETAS):
    """Which of all pairs of states exchange places if each is given that uniform number: (V, V) bool."""
    v = enumerate_binary(model.visible)
    pairs = torch.stack([v.repeat_interleave(len(v), 0), v.repeat(len(v), 1)])
    with monkeypatch.context() as patch:
        patch.setattr(torch, "rand", lambda shape, **options: uniform.reshape(shape).clone())
        after = model._swap(pairs, betas[:, None, None], base, 0, None)
    kept, exchanged = torch.equal(after[0], pairs[0]), (after == pairs.flip(0)).all(-1).all(0)
    assert not kept and torch.equal(after.sum(0), pairs.sum(0))
    return exchanged.view(len(v), len(v))


@pytest.mark.equation("eq-rbm-swap", how="enumeration")
def test_a_swap_is_accepted_as_often_as_detailed_balance_asks(generator, largest_error, monkeypatch):
    model, base = machine(generator, 3, 2), randn(generator, 3)
    low, high = (tempered_law(model, beta, base)[0] for beta in BETAS)
    flow = low[:, None] * high                          # the product law of the pair (v, v')
    accept = (flow.T / flow).clamp(max=1)
    error = (flow * accept - (flow * accept).T).abs().max()
    largest_error(error)
    assert error < EXACT
    # the code accepts just below that number, and not just above it
    differ = ~torch.eye(8, dtype=torch.bool)
    assert (swaps(model, base, accept * (1 - 1e-10), monkeypatch) | ~differ).all()
    above = swaps(model, base, (accept * (1 + 1e-10)).clamp(max=1 - 1e-16), monkeypatch)
    assert not (above & differ & (accept < 0.999)).any()
    # the mutant: the sign of the exponent, which is what the temperatures exchanged give
    wrong = swaps(model, base, accept * (1 - 1e-10), monkeypatch, BETAS.flip(0))
    assert not (wrong | ~differ).all()
    mutant = (flow / flow.T).clamp(max=1)
    assert (flow * mutant - (flow * mutant).T).abs().max() > 1e-3


def tempering_p(model, betas, generator, steps=3, batch=50_000):
    """Chains that start in the product law: the p-values of what they are in later, at each temperature."""
    base = torch.tensor([0.4, -0.6, 0.2, -0.1], dtype=torch.float64)
    laws = [tempered_law(model, float(beta), base)[0] for beta in betas]
    start = torch.stack([enumerate_binary(4)[draw(law, batch, generator)] for law in laws])
    end, kept = model.tempering(start, betas, base, steps, generator)
    assert kept.shape == (steps, batch, 4) and torch.equal(kept[-1], end[-1])
    return [chi_square_p(torch.bincount(number(v), minlength=16), law) for v, law in zip(end, laws)]


class WrongSign(RBM):
    def _swap(self, v, beta, *rest):
        return super()._swap(v, beta.flip(0), *rest)


class AlwaysSwap(RBM):
    def _swap(self, v, beta, base, first, generator):
        return v.flip(0)


class OneTemperature(RBM):
    """A mutant: all chains sweep at β = 1."""

    def tempered_visible(self, h, beta, base):
        return super().tempered_visible(h, 1.0, base)


def test_tempering_leaves_every_temperatures_law_in_place(generator):
    for betas in (BETAS, torch.linspace(0, 1, 5).double()):
        assert min(tempering_p(machine(generator, scale=1.5), betas, generator)) > 1e-4
    for mutant in (WrongSign, AlwaysSwap, OneTemperature):
        assert min(tempering_p(machine(generator, scale=1.5, kind=mutant), BETAS, generator)) < 1e-4


def test_tempered_chains_reach_what_one_chain_does_not(generator):
    """Two deep valleys; the cold chain starts in one of them."""
    model = RBM(6, 4, generator, scale=0.0, dtype=torch.float64).requires_grad_(False)
    model.W.copy_(torch.full((6, 4), 3.0).double())
    model.a.copy_(torch.full((6,), -6.0).double())
    model.b.copy_(torch.full((4,), -9.0).double())
    truth = brute_joint(model)[0].sum(1)[32:].sum()
    base, betas = torch.zeros(6).double(), torch.linspace(0, 1, 8).double()
    start = torch.zeros(8, 4000, 6, dtype=torch.float64)
    end, _ = model.tempering(start, betas, base, 60, generator)
    alone = model.gibbs(start[0], 60, generator)
    sd = math.sqrt(truth * (1 - truth) / 4000)
    assert abs(end[-1, :, 0].mean() - truth) < 5 * sd < abs(alone[:, 0].mean() - truth)


# --- contrastive divergence ---------------------------------------------------------------------------------


def statistics_table(joint, visible, hidden):
    """E(v h, v, h | v) for each v, flattened: (V, D·H + D + H)."""
    v = enumerate_binary(visible)
    h = joint @ enumerate_binary(hidden) / joint.sum(1, keepdim=True)
    return torch.cat([(v[:, :, None] * h[:, None]).flatten(1), v, h], 1)


def cd_setting():
    """An 8×8 machine and a data law: T, its law π, the data's law and the statistics of each state."""
    own = torch.Generator().manual_seed(2)      # of many machines one whose third eigenvalue is far below λ₂
    joint, _ = brute_joint(machine(own, 8, 8, scale=1.2))
    return transition(joint), joint.sum(1), data_law(own, 8)[1], statistics_table(joint, 8, 8)


def after(law, T, k):
    return law @ torch.linalg.matrix_power(T, k)


@pytest.mark.equation("eq-rbm-cd-error", how="enumeration")
def test_the_error_of_cd_falls_with_the_second_eigenvalue(largest_error):
    T, law, data, table = cd_setting()
    second = gibbs.second_eigenvalue(T)
    scaled = law.sqrt()[:, None] * T / law.sqrt()
    values = torch.linalg.eigvalsh((scaled + scaled.T) / 2)
    assert values.min() > -EXACT and abs(values[-2] - second) < 1e-10      # no eigenvalue is negative
    error = {k: (after(data, T, k) - law) @ table for k in range(1, 26)}      # expected CD-k − the gradient
    ratio = error[10].norm() / error[5].norm()
    assert abs(ratio / second**5 - 1) < 0.05 and error[25].abs().max() < 1e-4 < error[1].abs().max()
    for mutant in (values[-3] ** 5, second**4, second**6):
        assert abs(ratio / mutant - 1) > 0.05
    # and it never exceeds λ₂^k times where it begins: χ² of the data's law, spread of the statistic
    start = ((data / law - 1).square() @ law).sqrt()
    spread = (law @ (table - law @ table).square()).sqrt()
    for k, difference in error.items():
        excess = (difference.abs() - second**k * start * spread).clamp(min=0).max()
        largest_error(excess)
        assert excess < EXACT
    third = values[-3]
    assert (error[20].abs() > third**20 * start * spread).any()


def flat(model):
    return torch.cat([model.W.flatten(), model.a, model.b]).detach()


def put_back(model, values):
    nn.utils.vector_to_parameters(values.clone(), model.parameters())


def step_gradients(model, batch, steps, **options):
    """What so many training steps, each from the same machine, change at rate 1: (steps, D·H + D + H)."""
    learner = ContrastiveDivergence(model, learning_rate=1.0, **options)
    context, found, before = training.make_context(None, 1, "cpu", None), [], flat(model)
    for _ in range(steps):
        learner.training_step(batch, context)
        found.append(flat(model) - before)
        put_back(model, before)
    return torch.stack(found)


def z_of(found, truth):
    return ((found.mean(0) - truth) / (found.std(0) / math.sqrt(len(found)))).abs().max()


def test_the_learners_mean_gradient_is_the_expected_one(generator):
    model = machine(generator, 5, 4)
    joint, _ = brute_joint(model)
    data, law = data_law(generator, 5, 10)
    T, table = transition(joint), statistics_table(joint, 5, 4)
    for k in (1, 2):
        found = step_gradients(model, data.repeat(100, 1), 120, k=k)
        assert z_of(found, (law - after(law, T, k)) @ table) < 4
        # the mutants: a sweep too many, the true gradient, the sign
        assert z_of(found, (law - after(law, T, k + 1)) @ table) > 6
        assert z_of(found, (law - joint.sum(1)) @ table) > 6
        assert z_of(found, (after(law, T, k) - law) @ table) > 6


@pytest.mark.parametrize("k", [1, 2])
def test_the_chains_of_cd_make_k_sweeps_exactly(k, generator, monkeypatch):
    model = machine(generator, 3, 2)
    learner = ContrastiveDivergence(model, k=k)

    def sweep(batch):
        states, h = learner.states(batch, training.make_context(None, 0, "cpu", None))
        assert torch.equal(states[:len(batch)], batch) and torch.equal(h, model.hidden_given(states))
        return states[len(batch):]

    found = sampled_transition(model, monkeypatch, sweep, k)
    T = transition(brute_joint(model)[0])
    assert (found - torch.linalg.matrix_power(T, k)).abs().max() < EXACT
    assert (found - torch.linalg.matrix_power(T, k + 1)).abs().max() > 1e-4


@pytest.mark.parametrize("k", [1, 2])
def test_persistent_chains_make_k_sweeps_from_where_they_are_exactly(k, generator, monkeypatch):
    """They keep h: an update is v ~ p(v | h) and k − 1 sweeps, and then the h for the next one."""
    model = machine(generator, 3, 2)
    joint, _ = brute_joint(model)
    draws, starts = EveryDraw(monkeypatch, 5 * k), enumerate_binary(2)
    learner = ContrastiveDivergence(model, k=k, persistent=len(starts) * len(draws.table))
    learner.module.chains_h.copy_(draws.rows(starts))
    states, h = learner.states(enumerate_binary(3), training.make_context(None, 0, "cpu", None))
    assert torch.equal(states[8:], learner.module.chains) and torch.equal(h, model.hidden_given(states))
    both = torch.cat([learner.module.chains, learner.module.chains_h], 1)
    exact = (joint / joint.sum(0)).T @ torch.linalg.matrix_power(transition(joint), k - 1)
    exact = exact[:, :, None] * (joint / joint.sum(1, keepdim=True))
    assert (draws.law(4, both, 32).view(4, 8, 4) - exact).abs().max() < EXACT
    # the mutant: the h of the sweep before is kept, which is the joint law of no time
    stale = (joint / joint.sum(0)).T[:, :, None] * torch.eye(4)[:, None]
    assert (draws.law(4, both, 32).view(4, 8, 4) - stale).abs().max() > 0.01


def divergences(W, a, b, data, k):
    """KL(p_0 ‖ p), KL(p_k ‖ p), and p_k and p, all differentiable in the parameters."""
    joint, _ = brute(W, a, b)
    law, now = joint.sum(1), data @ torch.linalg.matrix_power(transition(joint), k)
    return divergence(data, law), divergence(now, law), now, law


@pytest.mark.equation("eq-rbm-cd-gradient", how="autograd")
def test_what_contrastive_divergence_follows(generator, largest_error):
    """Downhill on KL(p_0 ‖ p) − KL(p_k ‖ p), but for how p_k moves with the parameters."""
    for k in (1, 2, 5):
        model, data = machine(generator), data_law(generator, 4)[1]
        values = [value.clone().requires_grad_() for value in (model.W, model.a, model.b)]
        first, last, now, law = divergences(*values, data, k)
        whole = torch.autograd.grad(last - first, values, retain_graph=True)
        moving = torch.autograd.grad(divergence(now, law.detach()), values)      # the term that is left out
        joint = brute_joint(model)[0]
        table = statistics_table(joint, 4, 3)
        cd = ((data - now.detach()) @ table).split([12, 4, 3])
        found = [w - m for w, m in zip(whole, moving)]
        error = largest([part.flatten() for part in found], cd)
        largest_error(error)
        assert error < 1e-10
        assert largest([part.flatten() for part in whole], cd) > 1e-6        # the mutant: nothing left out


def kl_along(chain, law, data, sweeps=30):
    """KL(p_k ‖ p) for k = 0 … sweeps."""
    found, now = [], data
    for _ in range(sweeps + 1):
        found.append(divergence(now, law))
        now = now @ chain
    return torch.stack(found)


@pytest.mark.equation("eq-rbm-cd-divergence", how="enumeration")
def test_the_divergence_from_the_machine_never_rises(generator, largest_error):
    for _ in range(10):
        model = machine(generator)
        joint, (_, data) = brute_joint(model)[0], data_law(generator, 4)
        law = joint.sum(1)
        falling = kl_along(transition(joint), law, data)
        largest_error(falling.diff().clamp(min=0).max())
        assert falling.diff().max() < EXACT and falling[-1] < 1e-6 < falling[0]
        # the mutant: sweeps of another machine leave p and do not come back
        other = transition(brute_joint(machine(generator))[0])
        assert kl_along(other, law, law).diff().max() > 1e-3


def chains_p(model, data, generator, **options):
    learner = ContrastiveDivergence(model, learning_rate=0.0, **options)
    train(learner, data, TrainingSettings(steps=40, batch_size=10), device="cpu", seed=3, progress=False)
    v = learner.module.chains if options["persistent"] else model.gibbs(data.repeat(2000, 1), 1, generator)
    return chi_square_p(torch.bincount(number(v), minlength=16), brute_joint(model)[0].sum(1))


def test_persistent_chains_come_to_the_machines_law_and_restarted_ones_do_not(generator):
    model, (data, _) = machine(generator), data_law(generator, 4, 10)
    assert chains_p(model, data, generator, persistent=20_000) > 1e-4
    assert chains_p(model, data, generator, persistent=0) < 1e-4
    learner = ContrastiveDivergence(model, persistent=7, learning_rate=0.0)
    train(learner, data[:1].repeat(20, 1), TrainingSettings(steps=1, batch_size=2), device="cpu", seed=3,
          progress=False)
    assert learner.module.chains.shape == (7, 4) and set(learner.module.chains.unique().tolist()) <= {0, 1}


def test_persistent_chains_begin_at_the_data(generator):
    data = enumerate_binary(6)[torch.tensor([5, 9, 33])]
    learner = ContrastiveDivergence(machine(generator, 6, 2), persistent=50)
    context = training.make_context(None, 0, "cpu", None)
    context.data, context.epoch, state = data, 1, torch.get_rng_state()
    learner.begin_epoch(context)
    assert torch.equal(torch.get_rng_state(), state)
    assert set(number(learner.module.chains).tolist()) == {5, 9, 33}
    before, context.epoch = learner.module.chains.clone(), 2
    learner.begin_epoch(context)
    assert torch.equal(learner.module.chains, before)


# --- the learner's update -----------------------------------------------------------------------------------


def random_terms(generator, model, rows=11, chains=7):
    """Data, means given them, chains, and means given these: what a gradient is made of."""
    data, v = (enumerate_binary(model.visible)[torch.randint(2**model.visible, (n,), generator=generator)]
               for n in (rows, chains))
    return data, model.hidden_given(data), v, model.hidden_given(v)


def descent(learner, terms):
    """What a training step takes from W, a and b where these are the data and the chains, by the rate; the
    machine stays as it was.
    """
    data, data_h, v, h = terms
    model, before = learner.machine, flat(learner.machine)
    context = training.make_context(None, 0, "cpu", None)
    learner.states = lambda batch, context: (torch.cat([data, v]), torch.cat([data_h, h]))
    learner.training_step(data, context)
    taken = (before - flat(model)) / learner.optimizers["sgd"].param_groups[0]["lr"]
    put_back(model, before)
    W, a, b = taken.split([model.W.numel(), model.visible, model.hidden])
    return [W.view_as(model.W), a, b]


def plain_descent(terms):
    """Model term − data term, written out."""
    data, data_h, v, h = terms
    return [(v[:, :, None] * h[:, None]).mean(0) - (data[:, :, None] * data_h[:, None]).mean(0),
            v.mean(0) - data.mean(0), h.mean(0) - data_h.mean(0)]


def test_an_update_is_the_model_term_minus_the_data_term_with_nothing_added(generator):
    model = machine(generator, 5, 3)
    terms = random_terms(generator, model)
    exact = plain_descent(terms)
    for momentum in (0.0, 0.5):         # in place, and through the optimizer
        assert largest(descent(ContrastiveDivergence(model, momentum=momentum), terms), exact) < EXACT
    data, data_h, v, h = terms
    named = ContrastiveDivergence(model).gradients(torch.cat([data, v]), torch.cat([data_h, h]), len(data))
    assert largest([named[value] for value in (model.W, model.a, model.b)], exact) < EXACT
    assert Penalties() == Penalties(weight_decay=0.0, sparsity_cost=0.0)
    # one step from the same draws, by hand
    before = [value.clone() for value in (model.W, model.a, model.b)]
    learner = ContrastiveDivergence(model, k=2, learning_rate=0.1)
    context = training.make_context(None, 5, "cpu", None)
    learner.training_step(data, context)
    by_hand, noise = machine(generator, 5, 3), training.make_context(None, 5, "cpu", None).generator
    for value, old in zip((by_hand.W, by_hand.a, by_hand.b), before):
        value.copy_(old)
    v = by_hand.gibbs(data, 2, noise)
    step = plain_descent((data, by_hand.hidden_given(data), v, by_hand.hidden_given(v)))
    after_one = [old - 0.1 * part for old, part in zip(before, step)]
    assert largest((model.W, model.a, model.b), after_one) < EXACT
    assert largest((model.W, model.a, model.b), [o + 0.1 * p for o, p in zip(before, step)]) > 1e-3


def test_momentum_and_the_falling_rate(generator):
    model = machine(generator, 4, 3)
    learner = ContrastiveDivergence(model, learning_rate=0.2, momentum=0.5, steps=4)
    context, start = training.make_context(None, 5, "cpu", None), model.W.clone()
    velocity, place = torch.zeros_like(start), start.clone()
    data = random_terms(generator, model)[0]
    for step in range(5):
        learner.training_step(data, context)
        learner.schedulers["sgd"].step()
        velocity = 0.5 * velocity + model.W.grad
        place = place - 0.2 * max(0.0, 1 - step / 4) * velocity
        assert (model.W - place).abs().max() < EXACT
    assert learner.optimizers["sgd"].param_groups[0]["lr"] == 0
    assert not ContrastiveDivergence(model).schedulers
    assert ContrastiveDivergence(model).optimizers["sgd"].param_groups[0]["momentum"] == 0


def test_a_gradient_that_somebody_left_is_not_climbed(generator):
    model, data = machine(generator), data_law(generator, 4)[0]
    clean = step_gradients(model, data, 1)
    for value in model.parameters():
        value.grad = torch.full_like(value, 100.0)
    assert torch.equal(step_gradients(model, data, 1), clean)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_penalties_are_the_gradients_of_what_is_penalised(momentum, centred, generator):
    model = machine(generator, 5, 3)
    terms, options = random_terms(generator, model), {"centred": centred, "momentum": momentum}
    plain = descent(ContrastiveDivergence(model, **options), terms)
    decay = Penalties(weight_decay=0.3)
    decayed = descent(ContrastiveDivergence(model, **options, penalties=decay), terms)
    W = model.W.clone().requires_grad_()
    (penalty,) = torch.autograd.grad(0.3 / 2 * W.square().sum(), W)
    assert largest(decayed, [plain[0] + penalty, *plain[1:]]) < EXACT
    sparse = Penalties(sparsity_cost=0.2, sparsity_target=0.1)
    found = descent(ContrastiveDivergence(model, **options, penalties=sparse), terms)
    q = terms[1].mean(0)
    assert largest(found, [*plain[:2], plain[2] + 0.2 * (q - 0.1)]) < EXACT
    # where all pictures are alike, that is the slope of the cross entropy between target and activity
    one = [value[:1].expand(value.shape) for value in terms]
    b = model.b.clone().requires_grad_()
    active = torch.sigmoid(b + one[0][0] @ model.W)
    entropy = -(0.1 * active.log() + 0.9 * (1 - active).log()).sum()
    (slope,) = torch.autograd.grad(0.2 * entropy, b)
    added = descent(ContrastiveDivergence(model, penalties=sparse), one)[2] - plain_descent(one)[2]
    assert (added - slope).abs().max() < EXACT


def test_a_sparse_machine_is_sparse(generator):
    data = enumerate_binary(6)[torch.randint(64, (200,), generator=generator)]
    for centred in (False, True):
        activity = {}
        for cost in (0.0, 2.0):
            model = RBM(6, 5, torch.Generator().manual_seed(1), dtype=torch.float64)
            learner = ContrastiveDivergence(model, learning_rate=0.2, centred=centred,
                                            penalties=Penalties(sparsity_cost=cost, sparsity_target=0.1))
            train(learner, data, TrainingSettings(steps=300, batch_size=20), device="cpu", progress=False)
            with torch.no_grad():
                activity[cost] = model.hidden_given(data).mean()
        assert activity[0.0] > 0.3 and abs(activity[2.0] - 0.1) < 0.05


def centred_from(plain, middle_v, middle_h):
    """The centred direction from the plain one: what the change of parameters asks."""
    W, a, b = plain
    W = W - torch.outer(middle_v, b) - torch.outer(a, middle_h)
    return [W, a - W @ middle_h, b - W.T @ middle_v]


@pytest.mark.equation("eq-rbm-centred", how="autograd")
def test_the_centred_gradient_is_the_plain_one_in_other_parameters(generator, largest_error):
    model = machine(generator, 5, 3)
    terms = random_terms(generator, model)
    middle = terms[0].mean(0), terms[1].mean(0)
    for momentum in (0.0, 0.5):
        found = descent(ContrastiveDivergence(model, centred=True, momentum=momentum), terms)
        assert largest(found, centred_from(plain_descent(terms), *middle)) < EXACT
    assert largest(found, plain_descent(terms)) > 1e-3
    # it is the steepest way in the parameters of E = −(v − μ)ᵀ W (h − λ) − (v − μ)ᵀ a' − (h − λ)ᵀ b'
    data = terms[0]
    law = torch.bincount(number(data), minlength=32).double() / len(data)
    W = model.W.clone().requires_grad_()
    shifted_a, shifted_b = ((model.a + model.W @ middle[1]).requires_grad_(),
                            (model.b + middle[0] @ model.W).requires_grad_())
    joint, _ = brute(W, shifted_a - W @ middle[1], shifted_b - middle[0] @ W)
    slopes = torch.autograd.grad(law @ joint.sum(1).log(), (W, shifted_a, shifted_b))
    moved = [slopes[0], slopes[1] - slopes[0] @ middle[1], slopes[2] - middle[0] @ slopes[0]]
    exact = centred_from(parts(model.likelihood_gradient(data)), *middle)
    largest_error(largest(moved, exact))
    assert largest(moved, exact) < 1e-11 < 1e-3 < largest(slopes, exact)    # the mutant: no way back
    # so it points uphill, and is 0 where the plain gradient is, and nowhere else
    plain = parts(model.likelihood_gradient(data))
    assert sum((p * c).sum() for p, c in zip(plain, exact)) > 0
    units = torch.eye(5 * 3 + 5 + 3, dtype=torch.float64)
    matrix = torch.stack([torch.cat([part.flatten() for part in centred_from(
        (u[:15].view(5, 3), u[15:20], u[20:]), *middle)]) for u in units])
    assert (matrix - matrix.T).abs().max() < EXACT and torch.linalg.eigvalsh(matrix).min() > 1e-3


def test_the_averaged_machine_follows_with_its_decay(generator):
    model, data = machine(generator, 4, 3), data_law(generator, 4)[0]
    learner = ContrastiveDivergence(model, learning_rate=0.3, averaging=0.9)
    context, mean = training.make_context(None, 5, "cpu", None), None
    for _ in range(6):
        learner.training_step(data, context)
        mean = model.W.clone() if mean is None else 0.9 * mean + 0.1 * model.W
    found = learner.averaged.W
    assert (found - mean).abs().max() < EXACT and (found - model.W).abs().max() > 1e-3
    assert ContrastiveDivergence(model).averaged is model


# --- learning -----------------------------------------------------------------------------------------------


def bars():
    """All 3 × 3 pictures of whole rows or of whole columns: 14 of them, so −log 14 nats at the best."""
    rows = enumerate_binary(3).repeat_interleave(3, 1)
    columns = enumerate_binary(3).repeat(1, 3)
    return torch.unique(torch.cat([rows, columns]), dim=0)


def learnt(dtype=torch.float64, steps=1500, uphill=1, **options):
    data = bars().repeat(20, 1).to(dtype)
    model = RBM(9, 10, torch.Generator().manual_seed(3), dtype=dtype)
    model.set_base_rate(data)
    with torch.no_grad():
        before = model.log_prob(bars().to(dtype)).mean()
        learner = ContrastiveDivergence(model, learning_rate=0.5, steps=steps, **options)
        learner.schedulers["sgd"].base_lrs[0] *= uphill
        learner.optimizers["sgd"].param_groups[0]["lr"] *= uphill
    train(learner, data, TrainingSettings(steps=steps, batch_size=28), device="cpu", progress=False)
    with torch.no_grad():
        return before, learner.averaged.log_prob(bars().to(dtype)).mean()


@pytest.mark.parametrize("options", [
    {"persistent": 50}, {"persistent": 50, "dtype": torch.float32, "averaging": 0.99},
    {"persistent": 50, "centred": True, "momentum": 0.5}, {"k": 3},
])
def test_learning_raises_the_exact_likelihood(options):
    before, after_all = learnt(**options)
    assert before < -6 and -math.log(14) >= after_all > -3.3


def test_learning_down_is_noticed():
    before, after_all = learnt(steps=300, uphill=-1, persistent=50)          # the mutant: model minus data
    assert after_all < before - 1


# --- runs that break, checkpoints, what is measured ---------------------------------------------------------

KINDS = {
    "cd": {"k": 2, "momentum": 0.5, "steps": 30},
    "pcd": {"persistent": 9, "averaging": 0.9, "centred": True, "steps": 30},
}
SETTINGS = TrainingSettings(epochs=5, batch_size=10, report_every=4, checkpoint_every=5, evaluate_every=7)


class Interrupted(Exception):
    pass


def run(kind, out=None, stop=None, learner=None, **options):
    """The tensors at the end, optimizer and chains included, and the history."""
    data = (torch.rand(63, 7, generator=torch.Generator().manual_seed(1)) < 0.4).double()
    if learner is None:
        learner = ContrastiveDivergence(machine(torch.Generator().manual_seed(2), 7, 4), **KINDS[kind])

    def watch(learner, history, context):
        if stop is not None and len(history) >= stop:
            raise Interrupted

    history = train(learner, data, SETTINGS, device="cpu", seed=3, out=out, watch=watch, progress=False,
                    evaluation_data=data[:20], **options)
    momenta = [state["momentum_buffer"] for state in learner.optimizers["sgd"].state_dict()["state"].values()]
    return learner.module.state_dict(), [m for m in momenta if m is not None], history


def same_bits(first, second):
    return (first[0].keys() == second[0].keys() and first[2].rows == second[2].rows
            and all(torch.equal(first[0][name], second[0][name]) for name in first[0])
            and all(map(torch.equal, first[1], second[1])))


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_run_ends_bit_for_bit_as_an_unbroken_one(kind, tmp_path):
    unbroken = run(kind, tmp_path / "unbroken")
    for stop in (3, 5, 9):
        with pytest.raises(Interrupted):
            run(kind, tmp_path / "broken", stop, resume=True)
    resumed = run(kind, tmp_path / "broken", resume=True)
    assert same_bits(unbroken, resumed)
    kept = {name.split(".")[0] for name in resumed[0]}
    assert kept == {"machine"} | ({"chains", "chains_h", "averaged"} if kind == "pcd" else set())


def test_chains_that_are_not_kept_are_noticed(tmp_path):
    def forgetful():
        learner = ContrastiveDivergence(machine(torch.Generator().manual_seed(2), 7, 4), **KINDS["pcd"])
        learner.module.register_buffer("chains_h", learner.module.chains_h, persistent=False)
        return learner

    unbroken = run("pcd", tmp_path / "unbroken", learner=forgetful())
    with pytest.raises(Interrupted):
        run("pcd", tmp_path / "broken", 5, learner=forgetful())
    assert not same_bits(unbroken, run("pcd", tmp_path / "broken", learner=forgetful(), resume=True))


@pytest.mark.parametrize("visible, hidden, options, words", [
    (7, 5, {"k": 2}, r"of other sizes: 'machine.W' is \(7, 4\) torch.float64 there, \(7, 5\)"),
    (7, 4, {"persistent": 3}, r"of other sizes: 'chains' is absent there, \(3, 7\) torch.float64 here"),
    (7, 4, {"averaging": 0.5}, r"of other sizes: 'averaged.* is absent there"),
])
def test_a_checkpoint_of_other_sizes_is_refused(visible, hidden, options, words, tmp_path):
    run("cd", tmp_path)
    other = ContrastiveDivergence(machine(torch.Generator(), visible, hidden), **options, steps=30)
    with pytest.raises(ValueError, match=words):
        run("cd", tmp_path, learner=other, resume=True)


def test_what_is_measured_on_held_out_pictures(generator):
    model, data = machine(generator, 9, 4), enumerate_binary(9)[::37]
    learner = ContrastiveDivergence(model, averaging=0.5)
    found = evaluate(learner, data, device="cpu")
    assert set(found) == {"free_energy", "reconstruction_error"}
    joint, _ = brute_joint(model)
    assert found["free_energy"] == pytest.approx(float(model.free_energy(data).mean()), rel=1e-12)
    many = data.repeat(4000, 1)
    back = model.visible_given(enumerate_binary(4))
    given = (joint / joint.sum(1, keepdim=True))[number(data)]
    truth = (given * (data[:, None] - back).square().sum(2)).sum(1).mean()
    again = evaluate(learner, many, device="cpu")["reconstruction_error"]
    assert abs(again - truth) < 0.02 and evaluate(learner, data, device="cpu") == found
    context = training.make_context(None, 0, "cpu", None)
    assert learner.evaluate(None, context) == {}
    assert learner.picture(context).shape == (64, 3, 3)
    assert ContrastiveDivergence(machine(generator, 9, 4), persistent=5).picture(context).shape == (5, 3, 3)
    assert ContrastiveDivergence(machine(generator, 8, 4)).picture(context) is None


# --- types, devices, generators -----------------------------------------------------------------------------


def test_float32_agrees_with_float64(generator):
    double = machine(generator, 7, 5)
    single = RBM(7, 5, generator).requires_grad_(False)
    for name, value in double.named_parameters():
        getattr(single, name).copy_(value)
    v, h = enumerate_binary(7), enumerate_binary(5)
    assert single.W.dtype == torch.float32 and single.gibbs(v.float(), 2, generator).dtype == torch.float32
    for call in (lambda m, v, h: m.free_energy(v), lambda m, v, h: m.hidden_free_energy(h),
                 lambda m, v, h: m.energy(v, h[:1]), lambda m, v, h: m.hidden_given(v),
                 lambda m, v, h: m.log_prob(v), lambda m, v, h: m.model_statistics().products):
        found = call(single, v.float(), h.float())
        assert found.dtype == torch.float32 and (found - call(double, v, h)).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_machine_on_a_gpu_is_the_machine_on_the_cpu(name, generator):
    if not {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[name]:
        pytest.skip(f"no {name} here")
    there = RBM(6, 4, torch.Generator(name).manual_seed(1), scale=0.5)
    here = RBM(6, 4, generator)
    here.load_state_dict({key: value.cpu() for key, value in there.state_dict().items()})
    data = enumerate_binary(6, torch.float32)
    assert (there.log_prob(data.to(name)).cpu() - here.log_prob(data)).abs().max() < 1e-4
    betas, base = torch.linspace(0, 1, 200).double(), torch.zeros(6)
    found = there.ais_up(500, betas, base.to(name), torch.Generator(name).manual_seed(2))
    assert abs(found.log_z - here.log_z().item()) < 5 * found.standard_error + 1e-3
    learner = ContrastiveDivergence(there, persistent=8)
    train(learner, data, TrainingSettings(steps=5, batch_size=16), device=name, progress=False)
    assert learner.module.chains.device.type == name


def test_nothing_is_drawn_from_the_global_generator(generator):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    model = machine(generator)
    v = model.gibbs(torch.zeros(5, 4).double(), 2, generator)
    model.inpaint(v, v == 1, 2, 0, generator)
    model.tempering(v.expand(2, -1, -1), BETAS, torch.zeros(4), 2, generator)
    model.ais_up(3, torch.linspace(0, 1, 4), torch.zeros(4), generator)
    run("pcd")
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(*(model.gibbs(v, 3, torch.Generator().manual_seed(2)) for _ in range(2)))


def test_states_are_enumerated_in_the_order_of_counting():
    states = enumerate_binary(5)
    assert torch.equal(number(states), torch.arange(32)) and states.unique(dim=0).shape == (32, 5)
    assert enumerate_binary(3, torch.float32).dtype == torch.float32 and enumerate_binary(0).shape == (1, 0)


def test_a_fresh_machine_has_small_weights_and_no_biases(generator):
    fresh = RBM(200, 100, generator, scale=0.02)
    assert (fresh.visible, fresh.hidden) == (200, 100) and not fresh.a.any() and not fresh.b.any()
    assert abs(fresh.W.std() / 0.02 - 1) < 0.03 and abs(fresh.W.mean()) < 0.001


# --- bad input ----------------------------------------------------------------------------------------------

GOOD = torch.zeros(20, 4, dtype=torch.float64)


def trained(data, **options):
    learner = ContrastiveDivergence(machine(torch.Generator().manual_seed(1)), persistent=2, **options)
    return train(learner, data, TrainingSettings(steps=1, batch_size=5), device="cpu", progress=False)


@pytest.mark.parametrize("call, words", [
    (lambda m, g: trained(GOOD + 0.3), "Visible units are 0 or 1, and other values .* binarize the images"),
    (lambda m, g: trained(2 * (GOOD + 1) - 3), "Visible units are 0 or 1"),
    (lambda m, g: trained(GOOD * math.nan), "nan or inf in the data: remove or replace"),
    (lambda m, g: trained(GOOD[:0]), "first dimension, at least 1"),
    (lambda m, g: trained(GOOD[:, :3]), r"shape \(batch, 4\); \(20, 3\) came: flatten the images"),
    (lambda m, g: trained(GOOD.view(20, 2, 2)), r"\(20, 2, 2\) came: flatten the images"),
    (lambda m, g: trained(GOOD.float()), "computes in torch.float64, and torch.float32 came: convert"),
    (lambda m, g: trained(GOOD.bool()), "torch.bool came: convert"),
    (lambda m, g: trained({"images": GOOD}), "learns from one tensor of visible states"),
    (lambda m, g: trained(None), "learns from one tensor of visible states"),
    (lambda m, g: evaluate(ContrastiveDivergence(m), GOOD + 0.3, device="cpu"), "Visible units are 0 or 1"),
    (lambda m, g: evaluate(ContrastiveDivergence(m), GOOD[:, :3], device="cpu"), r"\(20, 3\) came"),
    (lambda m, g: m.set_base_rate(GOOD + 0.3), "Visible units are 0 or 1"),
    (lambda m, g: m.set_base_rate(GOOD[:, :1]), r"\(20, 1\) came"),
    (lambda m, g: m.check(GOOD * math.nan), r"other values \(or NaN\) came"),
    (lambda m, g: m.check(GOOD[:0]), "An empty batch came: give at least one"),
    (lambda m, g: m.check(GOOD[0]), r"\(4,\) came"),
    (lambda m, g: ContrastiveDivergence(m, k=0), "k is at least 1.*0, 0 and 0.0 came"),
    (lambda m, g: ContrastiveDivergence(m, persistent=-1), "number of chains at least 0.*1, -1 and 0.0 came"),
    (lambda m, g: ContrastiveDivergence(m, averaging=1.0), r"averaging in \[0, 1\)"),
    (lambda m, g: ContrastiveDivergence(m, steps=0), "falls over at least 1 step; 0 came"),
    (lambda m, g: RBM(0, 3, g), "units in both layers; 0 visible and 3 hidden came"),
    (lambda m, g: RBM(3, 0, g), "3 visible and 0 hidden came"),
    (lambda m, g: enumerate_binary(23), "0 to 22 units can be enumerated; 23 units came"),
    (lambda m, g: enumerate_binary(-1), "-1 units came"),
    (lambda m, g: RBM(30, 23, g).log_z(), r"smaller layer has 23 units.*annealed importance sampling"),
    (lambda m, g: RBM(30, 23, g).model_statistics(), "smaller layer has 23 units"),
    (lambda m, g: train(ContrastiveDivergence(m), GOOD, TrainingSettings(steps=1, compile="default"),
                        device="cpu"), "no forward to compile"),
])
def test_bad_input_gets_one_sentence(call, words, generator):
    with pytest.raises(ValueError, match=words):
        call(machine(generator), generator)


@pytest.mark.parametrize("value", [2.0, -1.0, 0.5, 1 + 1e-15, 1e-300, math.nan, math.inf, -math.inf])
def test_one_wrong_value_among_many_is_found(value, generator):
    model, states = machine(generator), enumerate_binary(4).repeat(100, 1)
    model.check(states)
    for row, unit in ((0, 0), (1599, 3), (777, 2)):
        wrong = states.clone()
        wrong[row, unit] = value
        with pytest.raises(ValueError, match="Visible units are 0 or 1"):
            model.check(wrong)
