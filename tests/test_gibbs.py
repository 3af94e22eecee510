"""Chapter 1: every numbered equation against a brute-force sum, and every check against a mutant that it must
catch.

A check is a function that measures (an error, a z, a p-value); its test asks for the tolerance of the
design's oracle table, and the mutant's test, beside it, shows that the same measurement refuses a deliberate
mistake.
"""

import itertools
import math

import pytest
import torch
from scipy import integrate, stats

from nemlib import gibbs
from nemlib.gibbs import BivariateGaussian, Ising, IsingLattice, IsingPrior, TwoModes
from nemlib.training import Context, TrainingSettings, train

LEVELS = (2, 3, 2)
EXACT = 1e-12


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(20240501)


def random_law(generator, levels=LEVELS):
    """log π up to a constant and π, both (S,), far from uniform."""
    log_prob = 1.5 * torch.randn(math.prod(levels), generator=generator, dtype=torch.float64)
    return log_prob, log_prob.softmax(0)


def lookup(log_prob, levels=LEVELS):
    """The law as a function of states (n, p), as the sampler wants it."""
    strides = torch.tensor([math.prod(levels[i + 1:]) for i in range(len(levels))])
    return lambda states: log_prob[(states * strides).sum(-1)]


def chi_square_p(states, law):
    """p-value of independent draws (n,) of state numbers against a law (S,)."""
    counts = torch.bincount(states.reshape(-1), minlength=len(law)).double()
    return stats.chisquare(counts.numpy(), (law * counts.sum()).numpy()).pvalue


def spins_of(height, width):
    """Every configuration, (2^p, height, width) of ±1, float64."""
    return 2.0 * gibbs.enumerate_states([2] * (height * width)).reshape(-1, height, width).double() - 1


def number_of(spins):
    """The inverse of `spins_of`: which configuration each one is."""
    bits = (spins.flatten(1) > 0).long()
    return (bits * 2 ** torch.arange(bits.shape[1] - 1, -1, -1)).sum(1)


def ising(generator, height=3, width=4, boundary="free", coupling=0.37):
    field = 0.4 * torch.randn(height, width, generator=generator, dtype=torch.float64)
    return Ising(height, width, coupling, field, boundary, torch.float64).requires_grad_(False)


# --- expectations and independent draws ---------------------------------------------------------------------


def variance_of_mean(law, f, n):
    """Var of the mean of n independent draws, summed over all S^n samples."""
    samples = gibbs.enumerate_states([len(law)] * n)
    weight, mean = law[samples].prod(1), f[samples].mean(1)
    return float((weight * mean**2).sum() - (weight * mean).sum() ** 2)


@pytest.mark.equation("eq-gibbs-monte-carlo-variance", how="enumeration")
def test_the_variance_of_a_mean_of_independent_draws_falls_as_one_over_n(generator, largest_error):
    _, law = random_law(generator, (3,))
    f = torch.tensor([-1.0, 0.5, 4.0], dtype=torch.float64)
    variance = float((law * f**2).sum() - (law * f).sum() ** 2)
    for n in (1, 2, 5, 8):
        error = abs(variance_of_mean(law, f, n) - variance / n)
        largest_error(error)
        assert error < EXACT
        # the mutants: n − 1 for n, n² for n
        assert n == 1 or abs(variance_of_mean(law, f, n) - variance / (n - 1)) > 1e-3
        assert n == 1 or abs(variance_of_mean(law, f, n) - variance / n**2) > 1e-3


# --- from a uniform to any law ------------------------------------------------------------------------------


@pytest.mark.equation("eq-gibbs-inverse-transform", how="closed form")
def test_the_inverse_transform_undoes_the_distribution_function(largest_error):
    u = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    rate = 2.5
    x = gibbs.exponential_quantile(u, rate)
    error = float((1 - torch.exp(-rate * x) - u).abs().max())
    largest_error(error)
    assert error < EXACT
    mutant = -torch.log1p(-u) * rate
    assert float((1 - torch.exp(-rate * mutant) - u).abs().max()) > 0.1


@pytest.mark.equation("eq-gibbs-inverse-transform", how="closed form")
def test_the_inverse_of_a_tabulated_distribution_function(largest_error):
    grid = torch.cat([torch.linspace(-2, 0, 40), torch.linspace(0.05, 3, 30)]).double()
    density = torch.where((grid > -1) & (grid < -0.5), 0.0, torch.exp(-grid**2))       # a gap in the middle
    cdf = gibbs.cumulative(grid, density)
    u = (torch.arange(5000, dtype=torch.float64) + 0.5) / 5000
    x = gibbs.inverse_transform(u, grid, cdf)
    right = torch.searchsorted(grid, x).clamp(1, len(grid) - 1)
    slope = (cdf[right] - cdf[right - 1]) / (grid[right] - grid[right - 1])
    error = float((cdf[right - 1] + slope * (x - grid[right - 1]) - u).abs().max())
    largest_error(error)
    assert error < EXACT
    assert (x.diff() > 0).all() and not ((x > -0.94) & (x < -0.52)).any()
    # the mutant: a density in the place of its integral
    with pytest.raises(ValueError, match="rise from 0 to 1"):
        gibbs.inverse_transform(u, grid, density)


@pytest.mark.equation("eq-gibbs-inverse-discrete", how="enumeration")
def test_the_discrete_inverse_gives_each_state_its_share_of_the_unit_interval(largest_error):
    law = torch.tensor([0.0, 0.05, 0.4, 0.0, 0.3, 0.25, 0.0], dtype=torch.float64)
    u = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000       # each share holds a whole number
    drawn = gibbs.inverse_transform_discrete(u, law)
    error = float((torch.bincount(drawn, minlength=7).double() / 2000 - law).abs().max())
    largest_error(error)
    assert error < EXACT
    mutant = torch.searchsorted(law, u).clamp(max=6)                    # no cumulative sum
    assert float((torch.bincount(mutant, minlength=7) / 2000 - law).abs().max()) > 0.1
    each = gibbs.inverse_transform_discrete(u, law.expand(2000, 7))     # a law for each uniform
    assert torch.equal(each, drawn)
    unscaled = gibbs.inverse_transform_discrete(torch.zeros(3), 7 * law.float())
    assert (unscaled == 1).all()       # u = 0 must not find a state of probability 0


def rejection_run(generator, log_bound_shift=0.0, weigh=True, proposals=200_000):
    law = torch.tensor([0.1, 0.5, 0.15, 0.25], dtype=torch.float64)
    proposal = torch.tensor([0.3, 0.3, 0.3, 0.1], dtype=torch.float64)
    bound = float((law / proposal).max().log()) + log_bound_shift

    def propose(number, generator):
        uniform = torch.rand(number, generator=generator, dtype=torch.float64)
        return gibbs.inverse_transform_discrete(uniform, proposal)

    def log_ratio(x):
        return (law / proposal).log()[x] if weigh else torch.full(x.shape, bound - 0.2, dtype=torch.float64)

    found = gibbs.rejection(propose, log_ratio, bound, proposals, generator)
    rate = math.exp(-bound)
    z = (found.acceptance_rate - rate) / math.sqrt(rate * (1 - rate) / proposals)
    share = torch.bincount(found.draws, minlength=4) / len(found.draws)
    return chi_square_p(found.draws, law), z, float((share - law).abs().max()), found.acceptance_rate - rate


@pytest.mark.equation("eq-gibbs-rejection", "eq-gibbs-rejection-rate", how="Monte Carlo")
def test_accepted_draws_follow_the_target_at_rate_one_over_m(generator, largest_error):
    p, z, share_error, rate_error = rejection_run(generator)
    largest_error(share_error, "eq-gibbs-rejection")
    largest_error(abs(rate_error), "eq-gibbs-rejection-rate")
    assert p > 1e-4 and abs(z) < 4
    p, z, *_ = rejection_run(generator, log_bound_shift=0.7)
    assert p > 1e-4 and abs(z) < 4                      # a loose envelope costs draws, not correctness


def test_rejection_mutants_are_caught(generator):
    p, z, *_ = rejection_run(generator, weigh=False)    # accepts without looking at the target
    assert p < 1e-4 and abs(z) > 4
    with pytest.raises(ValueError, match="envelope is exceeded.*raise log_bound by at least"):
        rejection_run(generator, log_bound_shift=-0.5)


# --- Markov chains ------------------------------------------------------------------------------------------


def reversible_chain(generator, states=7):
    """A random chain in detailed balance with a random law, built from symmetric flows."""
    flow = torch.rand(states, states, generator=generator, dtype=torch.float64)
    flow = flow + flow.T
    law = flow.sum(1) / flow.sum()
    return flow / flow.sum(1, keepdim=True), law


@pytest.mark.equation("eq-gibbs-balance-suffices", how="enumeration")
def test_detailed_balance_suffices_for_stationarity(generator, largest_error):
    for states in (2, 5, 9):
        T, law = reversible_chain(generator, states)
        assert gibbs.is_reversible(T, law)
        error = max(float((law @ T - law).abs().max()), float((gibbs.stationary_law(T) - law).abs().max()))
        largest_error(error)
        assert error < EXACT
    # it does not follow from nothing: a random stochastic matrix leaves another law in place
    other = torch.rand(9, 9, generator=generator, dtype=torch.float64).softmax(1)
    assert float((law @ other - law).abs().max()) > 1e-3 and not gibbs.is_reversible(other, law)


@pytest.mark.equation("eq-gibbs-convergence", how="enumeration")
def test_the_distance_from_the_stationary_law_is_bounded_by_the_second_eigenvalue(generator, largest_error):
    log_prob, law = random_law(generator)
    T = gibbs.transition_matrix(log_prob, LEVELS, "random")
    rate = gibbs.second_eigenvalue(T)
    constant = 0.5 * ((1 - law) / law).sqrt()
    powers = torch.eye(len(law), dtype=torch.float64)
    for t in range(60):
        distance = gibbs.total_variation(powers, law)
        largest_error(max(0.0, float((distance - constant * rate**t).max())))
        assert (distance <= constant * rate**t + EXACT).all()
        powers = powers @ T
    # the mutant: the third eigenvalue bounds nothing for long
    third = float(torch.linalg.eigvals(T).abs().sort(descending=True).values[2])
    later = gibbs.total_variation(torch.linalg.matrix_power(T, 60), law)
    assert (later > constant * third**60 + 1e-9).any()


@pytest.mark.equation("eq-gibbs-doeblin", how="enumeration")
def test_a_sweep_forgets_the_share_that_its_rows_have_in_common(generator, largest_error):
    for levels in (LEVELS, (4, 2), (2, 2, 2, 3), (5,)):
        log_prob, law = random_law(generator, levels)
        T = gibbs.transition_matrix(log_prob, levels)
        delta = float(T.min(dim=0).values.sum())
        assert 0 < delta < 1 + EXACT
        powers = torch.eye(len(law), dtype=torch.float64)                   # all starts at once
        for t in range(40):
            excess = float((gibbs.total_variation(powers, law) - (1 - delta) ** t).max())
            largest_error(max(0.0, excess))
            assert excess < EXACT
            powers = powers @ T
        # the mutant: the share that is forgotten where the share that is kept belongs
        assert delta > 1 - EXACT or float(gibbs.total_variation(T, law).max()) > delta + 0.05


def test_stationary_law_refuses_what_has_none_or_several():
    two_islands = torch.block_diag(*[torch.full((2, 2), 0.5, dtype=torch.float64)] * 2)
    with pytest.raises(ValueError, match="more than one stationary law"):
        gibbs.stationary_law(two_islands)
    with pytest.raises(ValueError, match="transpose it"):
        gibbs.stationary_law(torch.tensor([[0.9, 0.5], [0.1, 0.5]], dtype=torch.float64))
    with pytest.raises(ValueError, match=r"square; shape \(2, 3\)"):
        gibbs.stationary_law(torch.ones(2, 3))


def test_a_walk_visits_states_as_often_as_the_stationary_law_says(generator):
    T, law = reversible_chain(generator)
    start = gibbs.inverse_transform_discrete(torch.rand(20_000, generator=generator), law.float())
    walk = gibbs.run_chain(T, start, 5, generator)
    assert walk.shape == (5, 20_000) and chi_square_p(walk[-1], law) > 1e-4


# --- the Gibbs sampler --------------------------------------------------------------------------------------


@pytest.mark.equation("eq-gibbs-conditional", how="enumeration")
def test_the_conditional_is_the_joint_divided_by_the_sum_over_one_coordinate(generator, largest_error):
    log_prob, law = random_law(generator)
    states = gibbs.enumerate_states(LEVELS)
    for i, level in enumerate(LEVELS):
        found = gibbs.conditional(lookup(log_prob), states, i, level)
        for state, row in zip(states, found):
            others = [j for j in range(len(LEVELS)) if j != i]
            same = (states[:, others] == state[others]).all(1)
            truth = law[same] / law[same].sum()                        # in the order of x_i: it runs in order
            largest_error(float((row - truth).abs().max()))
            assert float((row - truth).abs().max()) < EXACT
            assert float((law[same] - truth).abs().max()) > 1e-3       # the mutant: never normalised


def matrix_errors(T, law):
    return float((law @ T - law).abs().max()), gibbs.balance_error(T, law)


@pytest.mark.equation("eq-gibbs-reversible", how="enumeration")
def test_each_coordinate_kernel_is_in_detailed_balance(generator, largest_error):
    for levels in (LEVELS, (4, 2), (2, 2, 2, 3), (5,)):
        log_prob, law = random_law(generator, levels)
        for i in range(len(levels)):
            kernel = gibbs.coordinate_kernel(log_prob, levels, i)
            largest_error(max(matrix_errors(kernel, law)))
            assert max(matrix_errors(kernel, law)) < EXACT


@pytest.mark.equation("eq-gibbs-invariance", how="enumeration")
def test_a_sweep_leaves_the_law_in_place_though_only_the_random_scan_is_reversible(generator, largest_error):
    for levels in (LEVELS, (4, 2), (2, 2, 2, 3)):
        log_prob, law = random_law(generator, levels)
        sweep = gibbs.transition_matrix(log_prob, levels)
        scan = gibbs.transition_matrix(log_prob, levels, "random")
        largest_error(matrix_errors(sweep, law)[0])
        largest_error(matrix_errors(scan, law)[0])
        assert matrix_errors(sweep, law)[0] < EXACT and max(matrix_errors(scan, law)) < EXACT
        assert matrix_errors(sweep, law)[1] > 1e-4
        assert float((gibbs.stationary_law(sweep) - law).abs().max()) < 1e-10


def test_matrix_mutants_are_caught(generator):
    log_prob, law = random_law(generator)
    wrong_sign = gibbs.transition_matrix(-log_prob, LEVELS)
    assert matrix_errors(wrong_sign, law)[0] > 1e-3
    kernels = [gibbs.coordinate_kernel(log_prob, LEVELS, i) for i in range(3)]
    states = gibbs.enumerate_states(LEVELS)
    # all coordinates at once, each given the old others: the product of three conditionals
    together = torch.ones(len(law), len(law), dtype=torch.float64)
    for i, level in enumerate(LEVELS):
        table = gibbs.conditional(lookup(log_prob), states, i, level)
        together *= table[:, states[:, i]]
    assert matrix_errors(together, law)[0] > 1e-3 and torch.allclose(together.sum(1), together.new_ones(()))
    unnormalised = kernels[0] * law[:, None].sqrt()
    with pytest.raises(ValueError, match="Each row of a transition matrix is a law"):
        gibbs.balance_error(unnormalised, law)
    assert matrix_errors(torch.full_like(together, 1 / len(law)), law)[1] > 1e-3     # uniform jumps ignore π


def one_sweep_from_the_law(sampler_log_prob, law, generator, scan="systematic", sweeps=2, chains=60_000):
    """p-value of the states after some sweeps of chains that start in the law itself: it must still be the
    law.
    """
    states = gibbs.enumerate_states(LEVELS)
    uniform = torch.rand(chains, generator=generator, dtype=torch.float64)
    start = states[gibbs.inverse_transform_discrete(uniform, law)]
    end = gibbs.gibbs_chain(lookup(sampler_log_prob), start, LEVELS, sweeps, generator, scan)[-1]
    return chi_square_p((end * torch.tensor([6, 2, 1])).sum(1), law)


def test_the_samplers_counts_agree_with_the_law_by_chi_square(generator):
    log_prob, law = random_law(generator)
    for scan in ("systematic", "random"):
        assert one_sweep_from_the_law(log_prob, law, generator, scan) > 1e-4
    # from a single state it gets there as well, and as fast as the matrix says
    start = torch.zeros(60_000, 3, dtype=torch.long)
    chain = gibbs.gibbs_chain(lookup(log_prob), start, LEVELS, 40, generator)
    numbers = (chain * torch.tensor([6, 2, 1])).sum(-1)
    T = gibbs.transition_matrix(log_prob, LEVELS)
    assert chi_square_p(numbers[0], T[0]) > 1e-4 and chi_square_p(numbers[-1], law) > 1e-4


def test_sampler_mutants_are_caught_by_chi_square(generator):
    log_prob, law = random_law(generator)
    assert one_sweep_from_the_law(-log_prob, law, generator) < 1e-4          # sign of the energy
    assert one_sweep_from_the_law(0.8 * log_prob, law, generator) < 1e-4     # a temperature that crept in
    shifted = log_prob + 0.2 * torch.arange(12)
    assert one_sweep_from_the_law(shifted, law, generator) < 1e-4            # a field that was forgotten


@pytest.mark.equation("eq-gibbs-cost", how="enumeration")
def test_a_sweep_costs_p_times_l_evaluations(generator, largest_error):
    for p, level in ((3, 2), (2, 5), (4, 3)):
        log_prob, _ = random_law(generator, (level,) * p)
        counted = []

        def counting(states, values=lookup(log_prob, (level,) * p)):
            counted.append(len(states))
            return values(states)

        gibbs.gibbs_chain(counting, torch.zeros(1, p, dtype=torch.long), (level,) * p, 10, generator)
        largest_error(abs(sum(counted) / 10 - p * level))
        assert sum(counted) == 10 * p * level != 10 * level**p


# --- ergodic averages ---------------------------------------------------------------------------------------


@pytest.mark.equation("eq-gibbs-ergodic", how="Monte Carlo")
def test_an_average_along_one_chain_converges_to_the_expectation(generator, largest_error):
    log_prob, law = random_law(generator)
    states = gibbs.enumerate_states(LEVELS)
    f = (states[:, 0] + states[:, 1] ** 2 - states[:, 2]).double()
    start = states[law.argmin()][None]                                       # the worst place to start
    chain = gibbs.gibbs_chain(lookup(log_prob), start, LEVELS, 6000, generator)[:, 0]
    values = (chain[:, 0] + chain[:, 1] ** 2 - chain[:, 2]).double()
    error = float(values.mean() - law @ f)
    largest_error(abs(error))
    assert abs(error) < 4 * gibbs.standard_error(values)
    # the mutant: an average over the uniform law
    assert abs(float(values.mean() - f.mean())) > 4 * gibbs.standard_error(values)


def exact_autocorrelation(T, law, f, lags):
    centred = f - law @ f
    covariance, moved = [], centred.clone()
    for _ in range(lags):
        covariance.append(float((law * centred) @ moved))
        moved = T @ moved
    return torch.tensor(covariance, dtype=torch.float64) / covariance[0], covariance[0]


def variance_over_all_paths(T, law, f, n):
    paths = gibbs.enumerate_states([len(law)] * n)
    weight = law[paths[:, 0]] * torch.stack([T[paths[:, t], paths[:, t + 1]] for t in range(n - 1)]).prod(0)
    mean = f[paths].mean(1)
    return float((weight * mean**2).sum() - (weight * mean).sum() ** 2)


@pytest.mark.equation("eq-gibbs-average-variance", how="enumeration")
def test_the_variance_of_an_average_along_a_chain(generator, largest_error):
    log_prob, law = random_law(generator, (2, 2))
    f = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    for scan in ("systematic", "random"):
        T = gibbs.transition_matrix(log_prob, (2, 2), scan)
        for n in (2, 5, 8):
            rho, variance = exact_autocorrelation(T, law, f, n)
            truth = variance_over_all_paths(T, law, f, n)
            error = abs(gibbs.variance_of_average(variance, rho, n) - truth)
            largest_error(error)
            assert error < EXACT
            # the mutants: without (1 − t/n), without the 2, without ρ
            fade = 1 - torch.arange(1, n, dtype=torch.float64) / n
            for mutant in (1 + 2 * float(rho[1:].sum()), 1 + float(fade @ rho[1:]), 1.0):
                assert abs(variance / n * mutant - truth) > 1e-4


def test_diagnostics_agree_with_the_exact_autocorrelation_of_a_chain(generator):
    log_prob, law = random_law(generator)
    T = gibbs.transition_matrix(log_prob, LEVELS, "random")
    f = gibbs.enumerate_states(LEVELS)[:, 1].double()
    rho, variance = exact_autocorrelation(T, law, f, 400)
    tau = 1 + 2 * float(rho[1:].sum())
    start = gibbs.inverse_transform_discrete(torch.rand(64, generator=generator), law.float())
    values = f[gibbs.run_chain(T, start, 4000, generator)]
    assert (gibbs.autocorrelation(values, 20).mean(1) - rho[:20]).abs().max() < 0.02
    assert gibbs.integrated_autocorrelation_time(values) == pytest.approx(tau, rel=0.05)
    assert gibbs.integrated_autocorrelation_time(values[:, 0]) == pytest.approx(tau, rel=0.4)
    # the standard error of one chain is the spread of many chains' means
    spread = float(values.mean(0).std())
    ours = sum(gibbs.standard_error(values[:, c]) for c in range(64)) / 64
    assert ours == pytest.approx(spread, rel=0.3)
    assert math.sqrt(gibbs.variance_of_average(variance, rho, 4000)) == pytest.approx(spread, rel=0.3)
    # the mutant: draws counted as if they were independent
    assert float(values.std()) / math.sqrt(4000) < 0.7 * spread


def test_r_hat_and_effective_sample_size_see_chains_that_disagree(generator):
    same = torch.randn(1000, 4, generator=generator, dtype=torch.float64)
    assert gibbs.r_hat(same) == pytest.approx(1, abs=0.01)
    assert gibbs.effective_sample_size(same) == pytest.approx(4000, rel=0.15)
    apart = same + torch.tensor([0.0, 0.0, 3.0, 3.0])
    assert gibbs.r_hat(apart) > 1.5 and gibbs.effective_sample_size(apart) < 40
    drifting = same + torch.linspace(0, 3, 1000)[:, None]
    assert gibbs.r_hat(drifting) > 1.2                                  # only the split halves can see this
    antithetic = same - 0.6 * same.roll(1, 0)
    assert gibbs.effective_sample_size(antithetic) > 4000


def test_the_autocorrelation_is_the_sum_of_products(generator):
    chain = torch.randn(50, generator=generator, dtype=torch.float64).cumsum(0)
    centred = chain - chain.mean()
    slow = torch.stack([(centred[:50 - t] * centred[t:]).sum() / (centred**2).sum() for t in range(50)])
    assert (gibbs.autocorrelation(chain) - slow).abs().max() < 1e-12


def test_diagnostics_refuse_chains_that_say_nothing():
    with pytest.raises(ValueError, match="never moved"):
        gibbs.autocorrelation(torch.ones(100))
    with pytest.raises(ValueError, match="never moved"):
        gibbs.r_hat(torch.tensor([0.0, 1.0]).expand(100, 2))
    with pytest.raises(ValueError, match="at least 4 finite numbers is needed; 3 came"):
        gibbs.effective_sample_size(torch.arange(3.0))
    with pytest.raises(ValueError, match="some of them not finite"):
        gibbs.effective_sample_size(torch.tensor([1.0, math.nan, 2.0, 3.0, 4.0]))
    with pytest.raises(ValueError, match="halves of at least 4"):
        gibbs.r_hat(torch.arange(7.0))


# --- a bivariate Gaussian and two modes ---------------------------------------------------------------------


def gaussian_conditional_error(law, scale_mutant=lambda scale: scale):
    axes = torch.arange(-3.0, 3.1, 0.5).double(), torch.arange(-2.0, 2.1, 0.5).double()
    x, y = torch.meshgrid(*axes, indexing="ij")
    mean, scale = law.conditional(y)
    scale = scale_mutant(scale)
    normal = torch.distributions.Normal
    conditional = law.log_prob(torch.stack([x, y], -1)) - normal(0.0, 1.0).log_prob(y)
    return float((conditional - normal(mean, scale).log_prob(x)).abs().max())


@pytest.mark.equation("eq-gibbs-gaussian-conditional", how="closed form")
def test_the_conditional_of_a_bivariate_gaussian(largest_error):
    for r in (-0.6, 0.0, 0.5, 0.95):
        largest_error(gaussian_conditional_error(BivariateGaussian(r)))
        assert gaussian_conditional_error(BivariateGaussian(r)) < 1e-11
    # the mutant: the variance where the standard deviation belongs
    assert gaussian_conditional_error(BivariateGaussian(0.5), lambda scale: scale**2) > 0.1


@pytest.mark.equation("eq-gibbs-gaussian-lag", how="autograd")
def test_the_lag_correlation_of_the_gaussian_chain_is_r_to_the_2t(generator, largest_error):
    """x_t depends on the start through y_0 alone, linearly: Cov(x_0, x_t) = r · ∂x_t/∂y_0 for any noise."""
    for r in (-0.7, 0.3, 0.9):
        law = BivariateGaussian(r)
        start = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
        chain = law.chain(start, 6, generator)
        rho = law.autocorrelation(7)
        for t in range(1, 7):
            gradient, = torch.autograd.grad(chain[t - 1, 0, 0], start, retain_graph=True)
            error = abs(r * float(gradient[0, 1]) - float(rho[t]))
            largest_error(error)
            assert error < EXACT
            assert abs(r * float(gradient[0, 1]) - r**t) > 1e-4         # the mutant: one factor r a sweep


@pytest.mark.equation("eq-gibbs-gaussian-tau", how="closed form")
def test_the_autocorrelation_time_of_the_gaussian_chain(generator, largest_error):
    for r in (0.0, 0.5, 0.9, -0.99):
        law = BivariateGaussian(r)
        error = abs(1 + 2 * float(law.autocorrelation(4000)[1:].sum()) - law.tau)
        largest_error(error)
        assert error < 1e-10
    law = BivariateGaussian(0.9)
    chain = law.chain(law.sample(40, generator), 4000, generator)[..., 0]
    measured = gibbs.integrated_autocorrelation_time(chain)
    assert measured == pytest.approx(law.tau, rel=0.08)
    for mutant in (1 / (1 - 0.81), (1 + 0.9) / (1 - 0.9)):              # half the sum; r for r²
        assert measured != pytest.approx(mutant, rel=0.08)


def test_the_gaussian_chain_keeps_its_law_and_turned_axes_mend_it(generator):
    law = BivariateGaussian(0.8)
    end = law.chain(law.sample(100_000, generator), 3, generator)[-1]
    product = end.prod(1)
    assert abs(float(product.mean()) - 0.8) < 4 * float(product.std()) / math.sqrt(100_000)
    assert law.rotated(0.0).correlation == pytest.approx(0.8)
    assert law.rotated(math.pi / 4).tau == pytest.approx(1)
    c, s = math.cos(0.3), math.sin(0.3)
    turned = law.sample(200_000, generator) @ torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    assert float(torch.corrcoef(turned.T)[0, 1]) == pytest.approx(law.rotated(0.3).correlation, abs=0.01)
    with pytest.raises(ValueError, match="strictly between −1 and 1; 1.0 came"):
        BivariateGaussian(1.0)


@pytest.mark.equation("eq-gibbs-rotated", how="closed form")
def test_the_correlation_after_turning_the_axes(largest_error):
    for r in (-0.6, 0.5, 0.99):
        covariance = torch.tensor([[1, r], [r, 1]], dtype=torch.float64)
        for angle in (0.0, 0.2, 0.7, 1.3, -0.4):
            c, s = math.cos(angle), math.sin(angle)
            turn = torch.tensor([[c, s], [-s, c]], dtype=torch.float64)
            (first, mixed), (_, second) = (turn @ covariance @ turn.T).tolist()
            truth = mixed / math.sqrt(first * second)
            error = abs(BivariateGaussian(r).rotated(angle).correlation - truth)
            largest_error(error)
            assert error < EXACT
            # the mutants: the angle where its double belongs, the covariance with no variances under it
            sine = r * math.sin(angle)
            for mutant in (r * math.cos(angle) / math.sqrt(1 - sine**2), r * math.cos(2 * angle)):
                assert angle == 0 or abs(mutant - truth) > 1e-3


@pytest.mark.equation("eq-gibbs-crossing", how="Monte Carlo")
def test_the_time_to_cross_between_two_modes(generator, largest_error):
    for law in (TwoModes(2.0), TwoModes(1.5, weight=0.3), TwoModes(3.0, width=1.4)):
        chains = 2000
        start = torch.full((chains, 2), law.centre, dtype=torch.float64)
        start += law.width * torch.randn(start.shape, generator=generator, dtype=torch.float64)
        labels = law.chain(start, 600, generator)[1]
        crossed = labels.max(0)
        times = (crossed.indices + 1.0)[crossed.values == 1]
        assert len(times) > 0.98 * chains
        error = float(times.mean()) - law.crossing_time
        standard_error = float(times.std()) / math.sqrt(len(times))
        largest_error(abs(error) / law.crossing_time)
        assert abs(error) < 4 * standard_error
        # the mutant: one update a sweep in the place of two
        assert abs(float(times.mean()) - 1 / float(law.label_matrix[0, 1])) > 4 * standard_error


@pytest.mark.equation("eq-gibbs-crossing", how="quadrature")
def test_the_probability_of_changing_hills(largest_error):
    for centre in (0.5, 2.0, 4.0):
        def integrand(x):
            near, far = stats.norm.pdf(x, centre), stats.norm.pdf(x, -centre)
            return near * far / (near + far)

        q = integrate.quad(integrand, centre - 12, centre + 12, epsabs=1e-14, epsrel=1e-12, limit=200)[0]
        error = abs(TwoModes(centre).crossing_time * 2 * q * (1 - q) - 1)
        largest_error(error)
        assert error < 1e-9
        assert abs(TwoModes(centre).crossing_time * q - 1) > 0.1            # the mutant: one update a sweep


def test_the_labels_of_two_modes_are_in_detailed_balance_and_densities_integrate_to_one():
    for law in (TwoModes(2.0), TwoModes(1.0, width=0.7, weight=0.2)):
        weights = torch.tensor([law.weight, 1 - law.weight], dtype=torch.float64)
        assert gibbs.balance_error(law.label_matrix, weights) < 1e-10
        axis = torch.linspace(-9, 9, 361, dtype=torch.float64)
        x = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
        assert float(law.log_prob(x).exp().sum() * (axis[1] - axis[0]) ** 2) == pytest.approx(1, abs=1e-9)
    with pytest.raises(ValueError, match="width must be above 0"):
        TwoModes(1.0, width=0.0)


def exchange_z(generator, ladder, chains=400, sweeps=400):
    start = torch.full((chains, 2), ladder[0].centre, dtype=torch.float64)
    states, rates = gibbs.exchange_chain(ladder, start, sweeps, generator)
    share = (states[100:].sum(-1) > 0).double().mean(0)                 # one number a chain: independent
    return (float(share.mean()) - ladder[0].weight) / float(share.std() / math.sqrt(chains)), rates


def test_replica_exchange_visits_both_modes_by_their_weights(generator):
    ladder = [TwoModes(4.0, width, 0.3) for width in (1.0, 1.7, 2.9)]
    z, rates = exchange_z(generator, ladder)
    assert abs(z) < 4 and (rates > 0.1).all() and (rates < 0.9).all()
    assert ladder[0].crossing_time > 4000               # the plain chain would not have crossed
    with pytest.raises(ValueError, match="at least two rungs; 1 came"):
        gibbs.exchange_chain(ladder[:1], torch.zeros(1, 2), 1, generator)


def test_replica_exchange_mutant_is_caught(generator, monkeypatch):
    """Accepting every swap lets the widest law leak into the first rung: its states spread too far."""
    ladder = [TwoModes(4.0, width, 0.3) for width in (1.0, 2.9)]
    start = torch.full((400, 2), 4.0, dtype=torch.float64)

    def spread():
        states = gibbs.exchange_chain(ladder, start, 200, generator)[0][50:]
        return float(((states.abs() - 4.0) ** 2).mean())

    assert spread() == pytest.approx(1, rel=0.05)
    monkeypatch.setattr(TwoModes, "log_prob", lambda self, x: torch.zeros(len(x), dtype=x.dtype))
    assert spread() > 1.5


# --- the Ising model ----------------------------------------------------------------------------------------


def brute_conditional(model, spins):
    """P(s_i = +1 | rest) from two energies, with no formula: (n, height, width)."""
    found = torch.empty_like(spins)
    for i, j in itertools.product(range(model.height), range(model.width)):
        up, down = spins.clone(), spins.clone()
        up[:, i, j], down[:, i, j] = 1, -1
        log_weight = torch.stack([model.log_weight(up), model.log_weight(down)])
        found[:, i, j] = log_weight.softmax(0)[0]
    return found


@pytest.mark.equation("eq-gibbs-ising-conditional", how="enumeration")
def test_the_conditional_of_a_spin(generator, largest_error):
    for height, width, boundary in ((3, 4, "free"), (4, 3, "periodic"), (1, 5, "free"), (2, 5, "free")):
        model = ising(generator, height, width, boundary)
        spins = spins_of(height, width)
        truth = brute_conditional(model, spins)
        error = float((model.conditional(spins) - truth).abs().max())
        largest_error(error)
        assert error < EXACT
        local = model.local_field(spins)
        # the mutants: without the factor 2, with the energy's sign turned, without the field
        for mutant in (local, -2 * local, 2 * (local - model.field)):
            assert float((torch.sigmoid(mutant) - truth).abs().max()) > 0.05


def test_the_energy_is_a_sum_over_pairs_of_neighbours(generator):
    for boundary in ("free", "periodic"):
        model = ising(generator, 3, 5, boundary)
        spins = 2.0 * torch.randint(2, (20, 3, 5), generator=generator).double() - 1
        total = -(model.field * spins).sum((1, 2))
        for i, j in itertools.product(range(3), range(5)):
            for other_i, other_j in ((i + 1, j), (i, j + 1)):
                if boundary == "periodic" or (other_i < 3 and other_j < 5):
                    total -= model.coupling * spins[:, i, j] * spins[:, other_i % 3, other_j % 5]
        assert (model.energy(spins) - total).abs().max() < EXACT


@pytest.mark.parametrize(("height", "width", "boundary"), [
    (3, 4, "free"), (4, 3, "free"), (3, 4, "periodic"), (4, 3, "periodic"), (1, 6, "free"), (6, 1, "free"),
    (2, 7, "free"), (1, 1, "free"), (3, 5, "periodic")])
def test_the_normaliser_and_its_gradient_against_enumeration(generator, height, width, boundary):
    model = ising(generator, height, width, boundary).requires_grad_(True)
    spins = spins_of(height, width)
    truth = torch.logsumexp(model.log_weight(spins), 0)
    assert abs((model.log_z() - truth).item()) < 1e-10
    by_row = torch.autograd.grad(model.log_z(), [model.coupling, model.field])
    brute = torch.autograd.grad(truth, [model.coupling, model.field])
    for ours, theirs in zip(by_row, brute):
        assert (ours - theirs).abs().max() < 1e-10
    assert model.log_prob(spins).exp().sum().item() == pytest.approx(1, abs=1e-10)


@pytest.mark.equation("eq-gibbs-ising-log-z-gradient", how="enumeration")
def test_the_slopes_of_log_z_are_means_under_the_law(generator, largest_error):
    for height, width, boundary in ((3, 4, "free"), (4, 3, "periodic"), (1, 6, "free")):
        model = ising(generator, height, width, boundary).requires_grad_(True)
        by_coupling, by_field = torch.autograd.grad(model.log_z(), [model.coupling, model.field])
        model.requires_grad_(False)
        spins = spins_of(height, width)
        weight = model.log_weight(spins).exp()
        law = weight / weight.sum()
        mean_spin = (law[:, None, None] * spins).sum(0)
        up = (law[:, None, None] * (spins > 0)).sum(0)
        agreement = (law * model.agreement(spins)).sum()
        error = max(float((by_field - mean_spin).abs().max()), float((by_field - (2 * up - 1)).abs().max()),
                    float((by_coupling - agreement).abs()))
        largest_error(error)
        assert error < EXACT * 100
        # the mutants: a probability where a mean belongs, each pair counted twice, the slope of Z itself
        assert float((by_field - up).abs().max()) > 0.05
        assert abs(float(by_coupling - 2 * agreement)) > 0.05
        assert float((by_field - (weight[:, None, None] * spins).sum(0)).abs().max()) > 0.05


def test_a_field_and_a_coupling_for_each_picture(generator):
    couplings = torch.tensor([0.1, 0.4, 0.8], dtype=torch.float64)
    fields = torch.randn(3, 3, 4, generator=generator, dtype=torch.float64)
    many = Ising(3, 4, couplings, fields, dtype=torch.float64).requires_grad_(False)
    spins = 2.0 * torch.randint(2, (3, 3, 4), generator=generator).double() - 1
    for k in range(3):
        one = Ising(3, 4, couplings[k], fields[k], dtype=torch.float64).requires_grad_(False)
        assert float(many.log_z()[k] - one.log_z()) == pytest.approx(0, abs=1e-12)
        assert float(many.energy(spins)[k] - one.energy(spins[k:k + 1])) == pytest.approx(0, abs=1e-12)
        assert (many.conditional(spins)[k] - one.conditional(spins[k:k + 1])[0]).abs().max() < EXACT


def sweep_p_value(model, generator, update, draws=200_000):
    """p-value of exact draws of π after one update: an update that leaves π in place leaves them draws of
    π.
    """
    law = model.log_weight(spins_of(model.height, model.width)).softmax(0)
    uniform = torch.rand(draws, generator=generator, dtype=torch.float64)
    start = spins_of(model.height, model.width)[gibbs.inverse_transform_discrete(uniform, law)]
    return chi_square_p(number_of(update(start)), law)


def test_the_chequerboard_sweep_leaves_the_law_in_place(generator):
    model = ising(generator, 2, 3, coupling=0.6)
    assert sweep_p_value(model, generator, lambda spins: model.sweep(spins, generator)) > 1e-4
    ring = ising(generator, 4, 4, "periodic", coupling=0.2)
    law = ring.log_weight(spins_of(4, 4)).softmax(0)
    uniform = torch.rand(100_000, generator=generator, dtype=torch.float64)
    start = spins_of(4, 4)[gibbs.inverse_transform_discrete(uniform, law)]
    after = ring.agreement(ring.sweep(start, generator))
    truth = float(law @ ring.agreement(spins_of(4, 4)))
    assert abs(float(after.mean()) - truth) < 4 * float(after.std()) / math.sqrt(100_000)


def test_chequerboard_mutants_are_caught(generator):
    model = ising(generator, 2, 3, coupling=0.6)

    def all_at_once(spins):
        uniform = torch.rand(spins.shape, generator=generator, dtype=spins.dtype)
        return torch.where(uniform < model.conditional(spins), 1.0, -1.0).double()

    assert sweep_p_value(model, generator, all_at_once) < 1e-4
    half = Ising(2, 3, 0.3, model.field / 2, dtype=torch.float64)      # the missing factor 2, in the sampler
    assert sweep_p_value(model, generator, lambda spins: half.sweep(spins, generator)) < 1e-4
    turned = Ising(2, 3, -0.6, -model.field, dtype=torch.float64)            # the energy's sign
    assert sweep_p_value(model, generator, lambda spins: turned.sweep(spins, generator)) < 1e-4


def test_float32_agrees_with_float64_and_shapes_do_not_swap(generator):
    field = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    double = Ising(3, 5, 0.3, field, dtype=torch.float64).requires_grad_(False)
    single = Ising(3, 5, 0.3, field).requires_grad_(False)
    spins = double.random_spins(7, generator)
    assert single.conditional(spins.float()).dtype == torch.float32
    assert (single.conditional(spins.float()) - double.conditional(spins)).abs().max() < 1e-6
    assert abs(float(single.log_z() - double.log_z())) < 1e-5
    assert single.sweep(spins.float(), generator).dtype == torch.float32


def test_ising_refuses_what_does_not_fit(generator):
    with pytest.raises(ValueError, match=r"shape \(batch, 3, 4\); \(2, 4, 3\) came"):
        Ising(3, 4).conditional(torch.ones(2, 4, 3))
    with pytest.raises(ValueError, match="even sides, and 3 × 4 came"):
        Ising(3, 4, boundary="periodic").sweep(torch.ones(1, 3, 4), generator)
    with pytest.raises(ValueError, match="at least 3 × 3; 2 × 4 came"):
        Ising(2, 4, boundary="periodic")
    with pytest.raises(ValueError, match="'free' or 'periodic', and 'torus' came"):
        Ising(3, 4, boundary="torus")
    with pytest.raises(ValueError, match=r"\(3, 4\) or \(batch, 3, 4\); \(4, 3\) came"):
        Ising(3, 4, field=torch.zeros(4, 3))
    with pytest.raises(ValueError, match="shorter side must not exceed 10"):
        Ising(28, 28).log_z()
    with pytest.raises(ValueError, match="too many to enumerate"):
        gibbs.enumerate_states([2] * 28)


def onsager_log_z(coupling, points=600):
    """log Z per spin by quadrature of Onsager's double integral, float64, differentiable."""
    angle = (torch.arange(points, dtype=torch.float64) + 0.5) * math.pi / points
    waves = torch.cos(angle)[:, None] + torch.cos(angle)
    inside = torch.cosh(2 * coupling) ** 2 - torch.sinh(2 * coupling) * waves
    return math.log(2) + 0.5 * torch.log(inside).mean()


def test_onsagers_energy_is_the_derivative_of_his_free_energy():
    for J in (0.1, 0.3, 0.42, 0.5, 0.9):
        coupling = torch.tensor(J, dtype=torch.float64, requires_grad=True)
        slope, = torch.autograd.grad(onsager_log_z(coupling), coupling)
        assert float(gibbs.onsager_energy(coupling.detach())) == pytest.approx(-float(slope), abs=1e-8)
    critical = torch.tensor(gibbs.CRITICAL_COUPLING, dtype=torch.float64)
    assert float(gibbs.onsager_energy(critical)) == pytest.approx(-math.sqrt(2), abs=1e-6)
    with pytest.raises(ValueError, match="couplings above 0"):
        gibbs.onsager_energy(torch.tensor(0.0))


def test_a_wide_periodic_strip_comes_near_onsager():
    coupling = torch.tensor(0.25, dtype=torch.float64)
    strip = Ising(6, 24, coupling, boundary="periodic", dtype=torch.float64)
    slope, = torch.autograd.grad(strip.log_z(), strip.coupling)
    assert -float(slope) / 144 == pytest.approx(float(gibbs.onsager_energy(coupling)), rel=0.01)


def test_yangs_magnetisation_has_its_low_temperature_series():
    coupling = torch.tensor([1.5, 2.0], dtype=torch.float64)
    u = torch.exp(-4 * coupling)
    series = 1 - 2 * u**2 - 8 * u**3 - 34 * u**4
    assert (gibbs.yang_magnetisation(coupling) - series).abs().max() < 1e-10
    assert (gibbs.yang_magnetisation(torch.tensor([0.1, gibbs.CRITICAL_COUPLING - 1e-6])) == 0).all()


# --- denoising ----------------------------------------------------------------------------------------------


def exact_law(model):
    """π(s) for every configuration, by enumeration: (2^p,)."""
    return model.log_weight(spins_of(model.height, model.width)).softmax(0).detach()


def brute_posterior(prior, noisy, flip_probability):
    """p(s | y) for every s, from Bayes' rule and the pixels' flips: (2^p,)."""
    spins = spins_of(prior.height, prior.width)
    flips = (spins != noisy).double().sum((1, 2))
    kept = spins[0].numel() - flips
    log_likelihood = flips * math.log(flip_probability) + kept * math.log(1 - flip_probability)
    return (prior.log_weight(spins) + log_likelihood).softmax(0)


@pytest.mark.equation("eq-gibbs-denoise-posterior", how="enumeration")
def test_the_posterior_is_an_ising_model_whose_field_is_the_noisy_picture(generator, largest_error):
    prior = ising(generator, 3, 4)
    noisy = prior.random_spins(2, generator)
    law = gibbs.posterior(prior, noisy, 0.15).requires_grad_(False)
    for k in range(2):
        truth = brute_posterior(prior, noisy[k], 0.15)
        ours = exact_law(Ising(3, 4, prior.coupling, law.field[k], dtype=torch.float64))
        error = float((ours - truth).abs().max().detach())
        largest_error(error)
        assert error < EXACT
        # the mutant: log((1−ε)/ε) without its ½
        strong = prior.field + 2 * gibbs.evidence(0.15) * noisy[k]
        mutant = exact_law(Ising(3, 4, prior.coupling, strong, dtype=torch.float64))
        assert float((mutant - truth).abs().max()) > 1e-3


@pytest.mark.equation("eq-gibbs-denoise-conditional", how="enumeration")
def test_the_posteriors_conditional_of_a_pixel(generator, largest_error):
    prior = ising(generator, 2, 3)
    noisy = prior.random_spins(1, generator)
    spins, truth = spins_of(2, 3), brute_posterior(prior, noisy[0], 0.2)
    law = gibbs.posterior(prior, noisy, 0.2).requires_grad_(False)
    for i, j in itertools.product(range(2), range(3)):
        up = spins.clone()
        up[:, i, j] = 1
        down = up.clone()
        down[:, i, j] = -1
        brute = truth[number_of(up)] / (truth[number_of(up)] + truth[number_of(down)])
        error = float((law.conditional(spins)[:, i, j] - brute).abs().max())
        largest_error(error)
        assert error < EXACT
        mutant = prior.conditional(spins)[:, i, j]                          # no evidence
        assert float((mutant - brute).abs().max()) > 0.05


@pytest.mark.equation("eq-gibbs-pseudo-likelihood", how="enumeration")
def test_the_pseudo_likelihood_is_the_sum_of_the_conditionals_logarithms(generator, largest_error):
    model = ising(generator, 3, 3)
    spins = spins_of(3, 3)
    law = model.log_weight(spins).softmax(0)
    truth = torch.zeros(len(spins), dtype=torch.float64)
    for i, j in itertools.product(range(3), range(3)):
        turned = spins.clone()
        turned[:, i, j] *= -1
        truth += torch.log(law / (law + law[number_of(turned)]))
    error = float((model.pseudo_log_likelihood(spins) - truth).abs().max())
    largest_error(error)
    assert error < 1e-11
    assert (model.log_prob(spins) - truth).abs().max() > 0.1    # the mutant: it is not the likelihood
    # its expectation is steepest-flat at the truth: maximum pseudo-likelihood is consistent
    model.requires_grad_(True)
    for gradient in torch.autograd.grad(law @ model.pseudo_log_likelihood(spins), list(model.parameters())):
        assert gradient.abs().max() < 1e-12


def marginal_z(law, start, truth, generator, sweeps=40, batch=4000):
    """z of the mean marginal over independent chains, the largest over pixels."""
    found = gibbs.marginals(law, start.expand(batch, -1, -1), sweeps, 20, generator)
    return float(((found.mean(0) - truth) / (found.std(0) / math.sqrt(batch))).abs().max()), found


def test_gibbs_marginals_against_the_exact_ones(generator):
    """20 pixels: z < 5 for the largest of them."""
    prior = ising(generator, 4, 5)
    noisy = prior.random_spins(1, generator)
    law = gibbs.posterior(prior, noisy, 0.2)
    truth = gibbs.exact_marginals(law)[0]
    z, found = marginal_z(law, noisy, truth, generator)
    assert z < 5
    assert marginal_z(law, noisy, 1 - truth, generator)[0] > 5     # the mutant: black and white exchanged
    assert found.shape == (4000, 4, 5) and (0 <= found).all() and (found <= 1).all()
    one = gibbs.denoise(prior, noisy, 0.2, 2000, 50, generator)
    assert (one - truth).abs().max() < 0.05


def test_exact_marginals_against_enumeration(generator):
    model = ising(generator, 3, 4)
    truth = (exact_law(model)[:, None, None] * (spins_of(3, 4) > 0)).sum(0)
    assert (gibbs.exact_marginals(model) - truth).abs().max() < 1e-10
    flat = Ising(3, 4, 0.3, 0.2, dtype=torch.float64)
    assert gibbs.exact_marginals(flat).shape == (3, 4)
    assert (gibbs.exact_marginals(flat) - gibbs.exact_marginals(flat).flip(0, 1)).abs().max() < 1e-12


def test_noise_and_evidence(generator):
    spins = torch.ones(100, 28, 28)
    flipped = (gibbs.add_noise(spins, 0.1, generator) == -1).float().mean()
    assert abs(float(flipped) - 0.1) < 4 * math.sqrt(0.09 / 78400)
    assert gibbs.evidence(0.1) == pytest.approx(0.5 * math.log(9))
    assert torch.equal(gibbs.to_spins(torch.tensor([0.0, 1.0])), torch.tensor([-1.0, 1.0]))
    for wrong in (0.0, 0.5, 0.7):
        with pytest.raises(ValueError, match=f"between 0 and ½.*{wrong} came"):
            gibbs.add_noise(spins, wrong, generator)
    with pytest.raises(ValueError, match="binarize the images first"):
        gibbs.to_spins(torch.tensor([0.3]))
    with pytest.raises(ValueError, match="At least one sweep"):
        gibbs.marginals(Ising(2, 2), torch.ones(1, 2, 2), 0, 5, generator)


def test_icm_climbs_and_stops_at_a_local_maximum(generator):
    model = ising(generator, 5, 7)
    spins = model.random_spins(50, generator)
    before = model.log_weight(spins)
    once = model.icm(spins, 1)
    done = model.icm(spins, 30)
    assert (model.log_weight(once) >= before).all()
    assert (model.log_weight(done) >= model.log_weight(once)).all()
    assert torch.equal(done, model.icm(done, 1))
    ones = torch.ones(1, 2, 2)
    assert torch.equal(Ising(2, 2).icm(ones, 3), ones)                  # ties leave a spin as it is


# --- the learners -------------------------------------------------------------------------------------------


def test_the_prior_learner_finds_the_coupling_and_field_that_made_the_data(generator):
    truth = Ising(4, 4, 0.35, 0.1, dtype=torch.float64).requires_grad_(False)
    uniform = torch.rand(8000, generator=generator, dtype=torch.float64)
    law = truth.log_weight(spins_of(4, 4)).softmax(0)
    data = spins_of(4, 4)[gibbs.inverse_transform_discrete(uniform, law)]
    learner = IsingPrior(Ising(4, 4, dtype=torch.float64), learning_rate=0.03)
    train(learner, data, TrainingSettings(steps=150), device="cpu", seed=0, progress=False)
    assert learner.module.coupling.item() == pytest.approx(0.35, abs=0.02)
    assert learner.module.field.item() == pytest.approx(0.1, abs=0.02)


def test_the_lattice_learner_measures_the_exact_energy():
    learner = IsingLattice((2.0, 3.5), height=4, width=6, chains=60, burn_in=30)
    train(learner, None, TrainingSettings(steps=300), device="cpu", seed=0, progress=False)
    found, error = learner.evaluate(None, None), learner.standard_errors()
    assert set(found) == {"energy_T2.00", "energy_T3.50", "magnetisation_T2.00", "magnetisation_T3.50"}
    for temperature in (2.0, 3.5):
        exact = Ising(4, 6, 1 / temperature, boundary="periodic", dtype=torch.float64)
        slope, = torch.autograd.grad(exact.log_z(), exact.coupling)
        key = f"energy_T{temperature:.2f}"
        assert abs(found[key] + float(slope) / 24) < 4 * error[key]
        assert error[key] < 0.05
    assert learner.picture(None).shape == (2, 4, 6)
    with pytest.raises(ValueError, match="even sides, and 5 × 6 came"):
        IsingLattice((2.0,), 5, 6, 1, 0)


def test_the_model_draws_from_no_global_generator(generator):
    state = torch.random.get_rng_state()
    model = Ising(4, 4, 0.3)
    model.sweep(model.random_spins(2, generator), generator)
    gibbs.denoise(model, torch.ones(1, 4, 4), 0.1, 2, 1, generator)
    TwoModes(2.0).chain(torch.zeros(2, 2), 3, generator)
    assert torch.equal(state, torch.random.get_rng_state())


def test_context_is_what_the_learners_were_written_for():
    assert {"generator", "common_generator", "step"} <= set(Context.__dataclass_fields__)
