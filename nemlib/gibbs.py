"""Chapter 1, sampling and Gibbs: from a uniform variable to a noisy digit.

Reads top to bottom as the chapter does:

1. a uniform variable becomes any law: inverse transform, rejection;
2. Markov chains on few states, exactly: transition matrix, stationary law, eigenvalues;
3. the Gibbs sampler of any discrete law, as a matrix and as a chain;
4. how much a chain's average is worth: autocorrelation, effective sample size, R-hat;
5. two laws on which everything is known in closed form: a correlated Gaussian, two modes;
6. the Ising model on a grid, its exact normaliser, its exact solution on the infinite plane;
7. denoising: the noisy picture becomes the field;
8. what the training loop needs to learn a prior or to run a lattice.

Every random number comes from a `torch.Generator` that the caller passes. `log_` means nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.special import ellipkm1
from torch import Tensor, nn
from torch.nn import functional as F

from nemlib.training import Context, Learner

MOST_STATES = 2**20      # what we are willing to enumerate
WIDEST_STRIP = 10        # shorter side of a grid whose normaliser is summed exactly: 2^10 × 2^10 a row

# --- 1. From a uniform variable to any law ------------------------------------------------------------------


def exponential_quantile(uniform: Tensor, rate: float) -> Tensor:
    """The inverse of F(x) = 1 − exp(−rate·x): uniforms in [0, 1) become exponential draws, any shape.

    Raises ValueError for a rate that is not positive. Equation eq-gibbs-inverse-transform.
    """
    if not rate > 0:
        raise ValueError(f"The rate of an exponential law is positive, and {rate} came: pass a rate above 0.")
    return -torch.log1p(-uniform) / rate


def cumulative(grid: Tensor, density: Tensor) -> Tensor:
    """The distribution function on a grid, by the trapezium rule, scaled to end at 1.

    grid: (n,) increasing. density: (n,) not negative, up to a constant factor. Returns (n,), from 0 to 1.
    Raises ValueError where the shapes differ, the grid does not increase or the density is no density.
    """
    if grid.shape != density.shape or grid.dim() != 1 or len(grid) < 2:
        raise ValueError(f"A grid and a density of the same shape (n,), n ≥ 2, are needed; "
                         f"{tuple(grid.shape)} and {tuple(density.shape)} came.")
    if not (grid.diff() > 0).all():
        raise ValueError("The grid must increase from point to point: sort it and drop repeated points.")
    if not (density.isfinite() & (density >= 0)).all() or not density.sum() > 0:
        raise ValueError("A density is finite, nowhere negative and somewhere positive: look for a NaN, a "
                         "negative value or a density that is zero on the whole grid.")
    area = torch.cumulative_trapezoid(density, grid)
    return torch.cat([area.new_zeros(1), area / area[-1]])


def inverse_transform(uniform: Tensor, grid: Tensor, cdf: Tensor) -> Tensor:
    """F⁻¹(U) for a distribution function given on a grid, linear in between.

    uniform: any shape, in [0, 1). grid: (n,). cdf: (n,), rising from 0 to 1, e.g. from `cumulative`.
    Raises ValueError where cdf does not rise from 0 to 1. Equation eq-gibbs-inverse-transform.
    """
    if cdf.shape != grid.shape or cdf[0] != 0 or not math.isclose(float(cdf[-1]), 1, abs_tol=1e-6):
        raise ValueError(f"cdf must have the grid's shape {tuple(grid.shape)} and rise from 0 to 1; it has "
                         f"shape {tuple(cdf.shape)} and goes from {cdf[0]:.3g} to {cdf[-1]:.3g}.")
    _check_uniform(uniform)
    # right=True skips cells of no probability: it finds the last point with F ≤ u
    left = (torch.searchsorted(cdf, uniform.contiguous(), right=True) - 1).clamp(0, len(grid) - 2)
    share = (uniform - cdf[left]) / (cdf[left + 1] - cdf[left])
    return grid[left] + share.clamp(0, 1) * (grid[left + 1] - grid[left])


def inverse_transform_discrete(uniform: Tensor, probabilities: Tensor) -> Tensor:
    """The state whose step of the cumulative sum contains the uniform: F(k−1) ≤ u < F(k).

    uniform: any shape, in [0, 1). probabilities: (states,), one law for all uniforms, or
    (*uniform.shape, states), a law each; they are scaled to sum to 1.
    Returns int64 of uniform's shape. A state of probability 0 is never returned.
    Raises ValueError for negative or non-finite probabilities. Equation eq-gibbs-inverse-discrete.
    """
    _check_uniform(uniform)
    if not (probabilities.isfinite() & (probabilities >= 0)).all() or not (probabilities.sum(-1) > 0).all():
        raise ValueError("Probabilities are finite and not negative, and some are positive: look for a NaN "
                         "or a minus sign; log-probabilities go through softmax first.")
    if probabilities.dim() > 1 and probabilities.shape[:-1] != uniform.shape:
        raise ValueError(f"One law for all uniforms has shape (states,), a law each has shape "
                         f"{(*uniform.shape, 'states')}; {tuple(probabilities.shape)} came.")
    cdf = probabilities.cumsum(-1)
    cdf = cdf / cdf[..., -1:]
    if probabilities.dim() == 1:
        return torch.searchsorted(cdf, uniform.contiguous(), right=True)
    return torch.searchsorted(cdf, uniform.unsqueeze(-1), right=True).squeeze(-1)


def _uniform_like(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def _check_uniform(uniform: Tensor) -> None:
    if not ((uniform >= 0) & (uniform < 1)).all():
        raise ValueError("Uniform numbers lie in [0, 1): take them from torch.rand.")


class Rejection(NamedTuple):
    """What rejection sampling kept, and the share of proposals that it kept."""

    draws: Tensor                # (accepted, …)
    acceptance_rate: float       # accepted / proposed


def rejection(
    propose: Callable[[int, torch.Generator], Tensor],
    log_ratio: Callable[[Tensor], Tensor],
    log_bound: float,
    proposals: int,
    generator: torch.Generator,
) -> Rejection:
    """Rejection sampling: accept a proposal x ~ q with probability π(x) / (M q(x)).

    propose: (number, generator) → (number, …) draws from q. log_ratio: x → (number,) log[π(x)/q(x)].
    log_bound: log M. Raises ValueError where a proposal shows that π ≤ M q does not hold: the accepted draws
    would then follow min(π, M q), and nothing would tell. Equations eq-gibbs-rejection,
    eq-gibbs-rejection-rate.
    """
    x = propose(proposals, generator)
    log_accept = log_ratio(x) - log_bound
    if not (log_accept <= 1e-9).all():
        worst = float(log_accept.max())
        raise ValueError(f"The envelope is exceeded: a proposal has log[π/(M q)] = {worst:.3g}, above 0, so "
                         f"the accepted draws would not follow π; raise log_bound by at least {worst:.3g}.")
    uniform = _uniform_like(log_accept, generator)
    kept = uniform < log_accept.exp()
    return Rejection(x[kept], float(kept.double().mean()))


# --- 2. Markov chains on few states, exactly ----------------------------------------------------------------


def enumerate_states(levels: Sequence[int]) -> Tensor:
    """Every state of p coordinates, coordinate i taking 0 … levels[i] − 1; the last coordinate runs fastest.

    Returns (L_1·…·L_p, p), int64. Raises ValueError for more than 2^20 states.
    """
    if not levels or min(levels) < 1:
        raise ValueError(f"At least one coordinate with at least one level is needed; levels {levels} came.")
    if math.prod(levels) > MOST_STATES:
        raise ValueError(f"{math.prod(levels):.3g} states are too many to enumerate: at most {MOST_STATES}.")
    axes = torch.meshgrid([torch.arange(level) for level in levels], indexing="ij")
    return torch.stack(axes, -1).flatten(0, -2)


def coordinate_kernel(log_prob: Tensor, levels: Sequence[int], i: int) -> Tensor:
    """T_i: draw coordinate i from its conditional, leave the others alone.

    log_prob: (S,), log π up to a constant, in the order of `enumerate_states`. Returns (S, S), rows sum to 1.
    Equations eq-gibbs-conditional and eq-gibbs-kernel.
    """
    states = enumerate_states(levels)
    if log_prob.shape != states.shape[:1]:
        raise ValueError(f"log_prob must have one number for each of the {len(states)} states, shape "
                         f"({len(states)},); {tuple(log_prob.shape)} came.")
    conditional = log_prob.reshape(*levels).softmax(dim=i).reshape(-1)
    stride = math.prod(levels[i + 1:])
    reached = (torch.arange(len(states)) - stride * states[:, i])[:, None] + stride * torch.arange(levels[i])
    return log_prob.new_zeros(len(states), len(states)).scatter_(1, reached, conditional[reached])


def transition_matrix(log_prob: Tensor, levels: Sequence[int], scan: str = "systematic") -> Tensor:
    """The Gibbs sampler as a matrix: T_1 T_2 … T_p for a systematic sweep, their mean for a random scan.

    log_prob: (S,), as in `coordinate_kernel`. Returns (S, S). Equation eq-gibbs-invariance.
    """
    kernels = [coordinate_kernel(log_prob, levels, i) for i in range(len(levels))]
    if scan == "systematic":
        return kernels[0] if len(kernels) == 1 else torch.linalg.multi_dot(kernels)
    if scan == "random":
        return torch.stack(kernels).mean(0)
    raise ValueError(f"scan is 'systematic' or 'random', and {scan!r} came.")


def stationary_law(T: Tensor) -> Tensor:
    """The law π with π T = π. T: (S, S), rows sum to 1. Returns (S,).

    Raises ValueError where T is not stochastic or leaves more than one law in place (it falls apart into
    parts that never meet). Equation eq-gibbs-stationarity.
    """
    _check_stochastic(T)
    balance = T.T - torch.eye(len(T), dtype=T.dtype)
    if (torch.linalg.svdvals(balance) < 1e-12 * len(T)).sum() > 1:
        raise ValueError("This chain has more than one stationary law: some states never reach the others, "
                         "so where it ends depends on where it starts.")
    # the equations of balance are one short of full rank; Σ π = 1 takes the place of the last
    balance[-1] = 1
    return torch.linalg.solve(balance, torch.eye(len(T), dtype=T.dtype)[-1])


def balance_error(T: Tensor, law: Tensor) -> float:
    """max over x, y of |π(x) T(x, y) − π(y) T(y, x)|: zero where detailed balance holds.

    T: (S, S), law: (S,). Equation eq-gibbs-detailed-balance.
    """
    _check_stochastic(T)
    flow = law[:, None] * T
    return float((flow - flow.T).abs().max())


def is_reversible(T: Tensor, law: Tensor, tolerance: float = 1e-12) -> bool:
    """Whether T is in detailed balance with the law, up to the tolerance."""
    return balance_error(T, law) <= tolerance


def second_eigenvalue(T: Tensor) -> float:
    """|λ₂|, the second largest modulus of T's eigenvalues: the factor that a distance loses per step.

    T: (S, S). Equation eq-gibbs-convergence.
    """
    _check_stochastic(T)
    return float(torch.linalg.eigvals(T).abs().sort(descending=True).values[1])


def total_variation(p: Tensor, q: Tensor) -> Tensor:
    """½ Σ_x |p(x) − q(x)|: the largest difference of probability over all events. (…, S) → (…)."""
    return 0.5 * (p - q).abs().sum(-1)


def run_chain(T: Tensor, start: Tensor, steps: int, generator: torch.Generator) -> Tensor:
    """Walk along a transition matrix. T: (S, S), start: (chains,) int64. Returns (steps, chains), int64."""
    _check_stochastic(T)
    walk, state = [], start
    for _ in range(steps):
        uniform = torch.rand(state.shape, generator=generator, dtype=T.dtype)
        state = inverse_transform_discrete(uniform, T[state])
        walk.append(state)
    return torch.stack(walk)


def _check_stochastic(T: Tensor) -> None:
    if T.dim() != 2 or T.shape[0] != T.shape[1]:
        raise ValueError(f"A transition matrix is square; shape {tuple(T.shape)} came.")
    if not (T >= -1e-12).all() or not torch.allclose(T.sum(1), T.new_ones(()), rtol=0, atol=1e-6):
        raise ValueError("Each row of a transition matrix is a law: entries not negative, sum 1. Where the "
                         "columns sum to 1 instead, transpose it.")


# --- 3. The Gibbs sampler of any discrete law ---------------------------------------------------------------

LogProb = Callable[[Tensor], Tensor]


def conditional(log_prob: LogProb, state: Tensor, i: int, level: int) -> Tensor:
    """p(x_i = 0 … level − 1 | the other coordinates), from `level` evaluations of log π up to a constant.

    log_prob: (n, p) int64 → (n,). state: (chains, p). Returns (chains, level). Equation eq-gibbs-conditional.
    """
    candidates = state.unsqueeze(1).repeat(1, level, 1)
    candidates[:, :, i] = torch.arange(level)
    return log_prob(candidates.flatten(0, 1)).reshape(len(state), level).softmax(-1)


def gibbs_chain(
    log_prob: LogProb,
    start: Tensor,
    levels: Sequence[int],
    sweeps: int,
    generator: torch.Generator,
    scan: str = "systematic",
) -> Tensor:
    """Gibbs sampling of π ∝ exp(log_prob), for many chains at once.

    log_prob: (n, p) int64 → (n,). start: (chains, p) int64. scan: "systematic" goes through the coordinates
    in order, "random" draws p coordinates with replacement, the same for all chains. One sweep is p updates,
    hence Σ levels evaluations a chain (equation eq-gibbs-cost). Returns (sweeps, chains, p), the states after
    each sweep.
    """
    if start.dim() != 2 or start.shape[1] != len(levels):
        raise ValueError(f"start must have shape (chains, {len(levels)}), a level for each coordinate; "
                         f"{tuple(start.shape)} came.")
    if scan not in ("systematic", "random"):
        raise ValueError(f"scan is 'systematic' or 'random', and {scan!r} came.")
    p, state, chain = len(levels), start.clone(), []
    for _ in range(sweeps):
        order = range(p) if scan == "systematic" else torch.randint(p, (p,), generator=generator).tolist()
        for i in order:
            law = conditional(log_prob, state, i, levels[i])
            state[:, i] = inverse_transform_discrete(_uniform_like(law[:, 0], generator), law)
        chain.append(state.clone())
    return torch.stack(chain)


# --- 4. What a chain's average is worth ---------------------------------------------------------------------


def autocovariance(chain: Tensor) -> Tensor:
    """c_t = (1/n) Σ_s (f_s − mean)(f_{s+t} − mean) for t = 0 … n − 1, by one Fourier transform a chain.

    chain: (n,) or (n, chains). Returns the same shape. The divisor is n at every lag (the usual estimator: a
    little biased, far less noisy at long lags).
    """
    n = len(chain)
    if n < 4 or not chain.isfinite().all():
        raise ValueError(f"A chain of at least 4 finite numbers is needed; {n} came"
                         f"{'' if chain.isfinite().all() else ', some of them not finite'}.")
    centred = chain - chain.mean(0)
    spectrum = torch.fft.rfft(centred, n=2 * n, dim=0)
    return torch.fft.irfft(spectrum.abs() ** 2, n=2 * n, dim=0)[:n] / n


def autocorrelation(chain: Tensor, lags: int | None = None) -> Tensor:
    """ρ_t = c_t / c_0 for t = 0 … lags − 1. chain: (n,) or (n, chains). Returns (lags,) or (lags, chains).

    Raises ValueError for a chain that never moved. Equation eq-gibbs-autocorrelation.
    """
    covariance = autocovariance(chain)
    _check_moved(covariance[0])
    return (covariance / covariance[0])[:lags]


def variance_of_average(variance: float, rho: Tensor, n: int) -> float:
    """σ²/n · [1 + 2 Σ_{t=1}^{n−1} (1 − t/n) ρ_t]: the exact variance of the mean of n draws of a stationary
    chain.

    rho: (lags,) with ρ_0 = 1 first; lags that are not given count as 0. Equation eq-gibbs-average-variance.
    """
    t = torch.arange(1, min(n, len(rho)), dtype=rho.dtype)
    return variance / n * (1 + 2 * float(((1 - t / n) * rho[1:len(t) + 1]).sum()))


def effective_sample_size(chain: Tensor) -> float:
    """n / τ: how many independent draws give an average as good as this chain's.

    chain: (n,) or (n, chains), draws of one quantity f. Several chains are judged together, so that chains
    that disagree count as few draws. Equations eq-gibbs-tau and eq-gibbs-ess; estimator of Vehtari et al.
    (2021), section 3.2, without rank normalisation, with divisor n in the autocovariances, and with Geyer's
    (1992) initial monotone sequence as window: lags are summed in pairs until a pair is not positive, and
    pairs may not grow.
    """
    covariance = autocovariance(chain).reshape(len(chain), -1).mean(1)
    total = covariance[0] + _variance_of_means(chain)
    _check_moved(total)
    within = covariance[0] * len(chain) / (len(chain) - 1)                # without bias
    rho = 1 - (within - covariance) / total
    rho[0] = 1
    pairs = rho[:len(rho) // 2 * 2].reshape(-1, 2).sum(1)
    ends = (pairs <= 0).nonzero()
    kept = pairs[:int(ends[0])] if len(ends) else pairs
    tau = float(2 * kept.cummin(0).values.sum() - 1) if len(kept) else 0.0
    # antithetic chains can beat independent draws; Stan's bound keeps a τ near 0 from saying "infinite"
    return chain.numel() / max(tau, 1 / math.log10(chain.numel()))


def integrated_autocorrelation_time(chain: Tensor) -> float:
    """τ = 1 + 2 Σ_{t≥1} ρ_t, estimated as draws / effective sample size (Geyer's window). Equation
    eq-gibbs-tau.
    """
    return chain.numel() / effective_sample_size(chain)


def standard_error(chain: Tensor) -> float:
    """The Monte Carlo standard error of a chain's mean: √(variance / effective sample size). (n,) or (n,
    chains).
    """
    variance = autocovariance(chain)[0].mean() + _variance_of_means(chain)
    return math.sqrt(float(variance) / effective_sample_size(chain))


def r_hat(chain: Tensor) -> float:
    """Split R-hat: do the halves of all chains tell the same story? 1 where they do, above 1.01 a warning.

    chain: (n, chains); each chain is cut into two halves, so one chain is enough to be judged.
    √[((n−1)/n W + B/n) / W] with W the mean variance within the halves and B/n the variance of their means:
    Gelman & Rubin (1992), split as in Vehtari et al. (2021), equations (3.1)–(3.4), without rank normalisation.
    Equation eq-gibbs-r-hat. Raises ValueError for fewer than 8 draws and for halves that never move.
    """
    half = len(chain) // 2
    if half < 4:
        raise ValueError(f"R-hat compares halves of at least 4 draws; chains of {len(chain)} draws came.")
    columns = chain[:2 * half].reshape(len(chain[:2 * half]), -1)
    halves = torch.cat([columns[:half], columns[half:]], dim=1).double()
    within, between = halves.var(0).mean(), halves.mean(0).var()
    _check_moved(within)
    return math.sqrt(float(((half - 1) / half * within + between) / within))


def _variance_of_means(chain: Tensor) -> Tensor:
    return chain.mean(0).var() if chain.dim() == 2 and chain.shape[1] > 1 else chain.new_zeros(())


def _check_moved(variance: Tensor) -> None:
    if not (variance > 0).all():
        raise ValueError("A chain that never moved has no autocorrelation (0/0) and its average is worth "
                         "nothing: run it longer, or look at why every step ends where it began.")


# --- 5. Two laws on which everything is known ---------------------------------------------------------------


@dataclass(frozen=True)
class BivariateGaussian:
    """Two standard normal coordinates with correlation r. Section "A bivariate Gaussian" of the chapter.

    Raises ValueError unless −1 < correlation < 1.
    """

    correlation: float

    def __post_init__(self) -> None:
        if not -1 < self.correlation < 1:
            raise ValueError(f"A correlation lies strictly between −1 and 1; {self.correlation} came.")

    def log_prob(self, x: Tensor) -> Tensor:
        """log density in nats. (…, 2) → (…)."""
        r = self.correlation
        square = (x[..., 0] ** 2 - 2 * r * x[..., 0] * x[..., 1] + x[..., 1] ** 2) / (1 - r**2)
        return -0.5 * square - math.log(2 * math.pi) - 0.5 * math.log(1 - r**2)

    def conditional(self, other: Tensor) -> tuple[Tensor, float]:
        """Mean and standard deviation of one coordinate given the other: r·x and √(1 − r²).

        Equation eq-gibbs-gaussian-conditional.
        """
        return self.correlation * other, math.sqrt(1 - self.correlation**2)

    @property
    def tau(self) -> float:
        """(1 + r²)/(1 − r²): what one independent draw of a coordinate costs in sweeps. Eq.
        eq-gibbs-gaussian-tau.
        """
        return (1 + self.correlation**2) / (1 - self.correlation**2)

    def autocorrelation(self, lags: int) -> Tensor:
        """ρ_t = r^{2t} of one coordinate, t = 0 … lags − 1. Returns (lags,). Equation
        eq-gibbs-gaussian-lag.
        """
        return torch.tensor(self.correlation**2, dtype=torch.float64) ** torch.arange(lags)

    def sample(self, number: int, generator: torch.Generator) -> Tensor:
        """Independent draws. Returns (number, 2), float64."""
        z = torch.randn(number, 2, generator=generator, dtype=torch.float64)
        mean, scale = self.conditional(z[:, 0])
        return torch.stack([z[:, 0], mean + scale * z[:, 1]], dim=1)

    def chain(self, start: Tensor, sweeps: int, generator: torch.Generator) -> Tensor:
        """Gibbs: first coordinate given second, then second given first.

        start: (chains, 2). Returns (sweeps, chains, 2), the states after each sweep.
        """
        noise = torch.randn(sweeps, 2, len(start), generator=generator, dtype=start.dtype)
        x, y, chain = start[:, 0], start[:, 1], []
        for first, second in noise:
            mean, scale = self.conditional(y)
            x = mean + scale * first
            mean, scale = self.conditional(x)
            y = mean + scale * second
            chain.append(torch.stack([x, y], dim=1))
        return torch.stack(chain)

    def rotated(self, angle: float) -> BivariateGaussian:
        """The law of the two scaled coordinates after turning the axes by `angle` radians.

        The turned coordinates have variances 1 ± r sin 2θ and covariance r cos 2θ; Gibbs does not care about
        their scale, so their correlation is all that matters. Equation eq-gibbs-rotated.
        """
        r = self.correlation
        return BivariateGaussian(r * math.cos(2 * angle) / math.sqrt(1 - (r * math.sin(2 * angle)) ** 2))


@dataclass(frozen=True)
class TwoModes:
    """A mixture of two round Gaussians in the plane, at (+c, +c) and (−c, −c), each of standard deviation
    `width`.

    weight: probability of the mode at (+c, +c). Given the other coordinate, a coordinate first picks a mode
    (label 0 at +c, label 1 at −c), then a point of it; the labels of successive updates are a Markov chain of
    two states, and so the time to cross is exact. Raises ValueError for a width or weight that makes no
    mixture.
    """

    centre: float
    width: float = 1.0
    weight: float = 0.5

    def __post_init__(self) -> None:
        if not self.width > 0 or not 0 < self.weight < 1:
            raise ValueError(f"width must be above 0 and weight between 0 and 1; {self.width} and "
                             f"{self.weight} came.")

    def log_prob(self, x: Tensor) -> Tensor:
        """log density in nats. (…, 2) → (…)."""
        modes = x.new_tensor([self.centre, -self.centre])
        square = ((x.unsqueeze(-1) - modes) ** 2).sum(-2) / self.width**2
        log_weight = x.new_tensor([self.weight, 1 - self.weight]).log()
        return torch.logsumexp(log_weight - 0.5 * square, -1) - math.log(2 * math.pi * self.width**2)

    def other_mode(self, x: Tensor) -> Tensor:
        """P(label = 1 | the other coordinate is x), a sigmoid. Any shape."""
        return torch.sigmoid(-2 * self.centre * x / self.width**2 + math.log(1 / self.weight - 1))

    @property
    def label_matrix(self) -> Tensor:
        """(2, 2) transition matrix of the label over one coordinate update, by quadrature. Eq.
        eq-gibbs-crossing.
        """
        z = torch.linspace(-12, 12, 4801, dtype=torch.float64)
        normal = torch.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
        to_other = [torch.trapezoid(normal * self.other_mode(centre + self.width * z), z)
                    for centre in (self.centre, -self.centre)]
        return torch.stack([torch.stack([1 - p, p]) for p in to_other])

    @property
    def crossing_time(self) -> float:
        """Mean number of sweeps (two updates each) until a chain in label 0 is first seen in label 1.

        Equation eq-gibbs-crossing.
        """
        sweep = self.label_matrix @ self.label_matrix
        return 1 / float(sweep[0, 1])

    def chain(self, start: Tensor, sweeps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Gibbs. start: (chains, 2). Returns states (sweeps, chains, 2) and the label of each sweep's last
        update (sweeps, chains), 0 or 1.
        """
        uniform = torch.rand(sweeps, 2, len(start), generator=generator, dtype=start.dtype)
        noise = torch.randn(sweeps, 2, len(start), generator=generator, dtype=start.dtype)
        y, states, labels = start[:, 1], [], []
        for u, z in zip(uniform, noise):
            x, _ = self._update(y, u[0], z[0])
            y, label = self._update(x, u[1], z[1])
            states.append(torch.stack([x, y], dim=1))
            labels.append(label)
        return torch.stack(states), torch.stack(labels)

    def _update(self, other: Tensor, uniform: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        label = uniform < self.other_mode(other)
        return torch.where(label, -self.centre, self.centre) + self.width * noise, label.long()


def exchange_chain(
    ladder: Sequence[TwoModes], start: Tensor, sweeps: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Replica exchange: one Gibbs chain on each rung, and neighbours that swap their states.

    ladder: the law wanted first, then wider and wider ones, between whose modes a chain crosses easily. After
    each sweep one pair of neighbours (k, k+1) proposes to swap x and x', accepted with probability min(1,
    π_k(x') π_{k+1}(x) / [π_k(x) π_{k+1}(x')]): detailed balance on the product of all rungs. start: (chains,
    2). Returns the first rung's states (sweeps, chains, 2) and swap rates (rungs − 1,).
    """
    if len(ladder) < 2:
        raise ValueError(f"Replica exchange needs at least two rungs; {len(ladder)} came.")
    rungs, states = [start.clone() for _ in ladder], []
    swapped, tried = torch.zeros(len(ladder) - 1), torch.zeros(len(ladder) - 1)
    for sweep in range(sweeps):
        rungs = [law.chain(x, 1, generator)[0][0] for law, x in zip(ladder, rungs)]
        k = sweep % (len(ladder) - 1)
        low, high = rungs[k], rungs[k + 1]
        log_ratio = (ladder[k].log_prob(high) + ladder[k + 1].log_prob(low)
                     - ladder[k].log_prob(low) - ladder[k + 1].log_prob(high))
        swap = _uniform_like(log_ratio, generator).log() < log_ratio
        rungs[k], rungs[k + 1] = (torch.where(swap[:, None], a, b) for a, b in ((high, low), (low, high)))
        swapped[k] += swap.float().mean()
        tried[k] += 1
        states.append(rungs[0])
    return torch.stack(states), swapped / tried.clamp(min=1)


# --- 6. The Ising model on a grid ---------------------------------------------------------------------------


class Ising(nn.Module):
    """Spins ±1 on a height × width grid: E(s) = −J Σ_{i~j} s_i s_j − Σ_i b_i s_i, π(s) = exp(−E(s)) / Z.

    i ~ j are neighbours up, down, left and right. boundary: "free" (the edge has fewer neighbours) or
    "periodic" (opposite edges touch). coupling J: a number, or (batch,) for a coupling each. field b: a
    number, (height, width), or (batch, height, width) for a field each. Both are parameters, in nats: the
    temperature is inside them, T = 1/J. Equations eq-gibbs-ising-energy and eq-gibbs-ising-law.

    Spins are floats of the parameters' dtype, shape (batch, height, width). Raises ValueError for sizes below
    1, below 3 on a periodic grid, for another boundary, and for couplings or fields whose shape does not fit.
    """

    def __init__(
        self,
        height: int,
        width: int,
        coupling: float | Tensor = 0.0,
        field: float | Tensor = 0.0,
        boundary: str = "free",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        smallest = {"free": 1, "periodic": 3}.get(boundary)
        if smallest is None:
            raise ValueError(f"boundary is 'free' or 'periodic', and {boundary!r} came.")
        if min(height, width) < smallest:
            raise ValueError(f"A grid with {boundary} boundary is at least {smallest} × {smallest}; "
                             f"{height} × {width} came.")
        coupling, field = torch.as_tensor(coupling, dtype=dtype), torch.as_tensor(field, dtype=dtype)
        if coupling.dim() > 1:
            raise ValueError(f"coupling has shape () or (batch,); {tuple(coupling.shape)} came.")
        if field.dim() and (field.dim() > 3 or field.shape[-2:] != (height, width)):
            raise ValueError(f"field has shape (), ({height}, {width}) or (batch, {height}, {width}); "
                             f"{tuple(field.shape)} came.")
        self.height, self.width, self.boundary = height, width, boundary
        self.coupling = nn.Parameter(coupling.clone())
        self.field = nn.Parameter(field.clone())
        rows, columns = torch.arange(height)[:, None], torch.arange(width)
        self.register_buffer("white", (rows + columns) % 2 == 0, persistent=False)

    def neighbour_sum(self, spins: Tensor) -> Tensor:
        """Σ_{j~i} s_j for every i. (batch, height, width) → the same."""
        self._check(spins)
        if self.boundary == "periodic":
            return sum(spins.roll(shift, axis) for shift in (1, -1) for axis in (-2, -1))
        padded = F.pad(spins, (1, 1, 1, 1))
        return (padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]
                + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:])

    def agreement(self, spins: Tensor) -> Tensor:
        """Σ_{i~j} s_i s_j, each pair of neighbours once. (batch, height, width) → (batch,)."""
        return 0.5 * (spins * self.neighbour_sum(spins)).sum((-2, -1))

    def energy(self, spins: Tensor) -> Tensor:
        """E(s) in nats. (batch, height, width) → (batch,). Equation eq-gibbs-ising-energy."""
        return -self.coupling * self.agreement(spins) - (self.field * spins).sum((-2, -1))

    def log_weight(self, spins: Tensor) -> Tensor:
        """−E(s) = log π(s) + log Z, in nats. (batch, height, width) → (batch,)."""
        return -self.energy(spins)

    def log_prob(self, spins: Tensor) -> Tensor:
        """log π(s) in nats, with the exact normaliser: narrow grids only (see `log_z`)."""
        return self.log_weight(spins) - self.log_z()

    def local_field(self, spins: Tensor) -> Tensor:
        """J Σ_{j~i} s_j + b_i: what pulls at spin i. (batch, height, width) → the same."""
        return self.coupling[..., None, None] * self.neighbour_sum(spins) + self.field

    def conditional(self, spins: Tensor) -> Tensor:
        """P(s_i = +1 | all other spins) = σ(2 (J Σ_{j~i} s_j + b_i)), for every i at once.

        (batch, height, width) → the same. Equation eq-gibbs-ising-conditional.
        """
        return torch.sigmoid(2 * self.local_field(spins))

    @torch.no_grad()
    def sweep(self, spins: Tensor, generator: torch.Generator) -> Tensor:
        """One Gibbs sweep: all white squares of the chequerboard, then all black ones.

        Squares of one colour are not neighbours, so given the other colour they are independent and may be
        drawn together. (batch, height, width) → the same, a new tensor. Raises ValueError on a periodic grid
        with an odd side, where the two edges that touch have the same colour.
        """
        self._check_two_colours()
        for colour in (self.white, ~self.white):
            up = _uniform_like(spins, generator) < self.conditional(spins)
            spins = torch.where(colour, 2 * up.to(spins.dtype) - 1, spins)
        return spins

    @torch.no_grad()
    def icm(self, spins: Tensor, sweeps: int) -> Tensor:
        """Iterated conditional modes (Besag 1986): every spin takes its likelier value, colour by colour.

        Climbs to a local maximum of π. Ties leave the spin as it is. (batch, height, width) → the same.
        """
        self._check_two_colours()
        for _ in range(sweeps):
            for colour in (self.white, ~self.white):
                local = self.local_field(spins)
                spins = torch.where(colour & (local != 0), local.sign(), spins)
        return spins

    def random_spins(self, batch: int, generator: torch.Generator) -> Tensor:
        """Fair coins: (batch, height, width) of ±1."""
        shape, like = (batch, self.height, self.width), self.coupling
        return 2.0 * torch.randint(2, shape, generator=generator, device=like.device).to(like.dtype) - 1

    def pseudo_log_likelihood(self, spins: Tensor) -> Tensor:
        """Σ_i log p(s_i | all other spins), in nats, with no normaliser in it. (batch, height, width) →
        (batch,).

        Besag (1975). Equation eq-gibbs-pseudo-likelihood.
        """
        return F.logsigmoid(2 * spins * self.local_field(spins)).sum((-2, -1))

    def log_z(self) -> Tensor:
        """log Σ_s exp(−E(s)), exactly, row after row (transfer matrix), in nats; differentiable.

        ∂ log Z/∂b_i is the exact mean of s_i (equation eq-gibbs-ising-log-z-gradient). Returns () or, with a
        field or coupling each, (batch,).
        Raises ValueError where the grid's shorter side exceeds 10.
        """
        short, long = sorted((self.height, self.width))
        if short > WIDEST_STRIP:
            raise ValueError(f"The exact normaliser sums over 2^{short} rows of {short} spins, too many: the "
                             f"grid's shorter side must not exceed {WIDEST_STRIP}.")
        field = self.field.double().expand(*self.field.shape[:-2], self.height, self.width)
        field = field.mT if self.height < self.width else field                    # (…, long, short)
        rows = 2.0 * enumerate_states([2] * short).to(field) - 1                   # (2^short, short)
        coupling = self.coupling.double()[..., None, None]
        along = coupling * self._row_agreement(rows) + field @ rows.mT             # (…, long, 2^short)
        across = coupling * (rows @ rows.mT)                                       # (…, 2^short, 2^short)
        total = along[..., :1, :]                                                  # by last row
        if self.boundary == "periodic":                                            # by first row and last row
            elsewhere = ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
            total = torch.diag_embed(along[..., 0, :]).masked_fill(elsewhere, -math.inf)
        for row in range(1, long):
            total = _log_matmul(total, across) + along[..., row, None, :]
        if self.boundary == "periodic":
            total = total + across
        return torch.logsumexp(total.flatten(-2), -1).to(self.coupling.dtype)

    def _row_agreement(self, rows: Tensor) -> Tensor:
        pairs = (rows[:, 1:] * rows[:, :-1]).sum(1)
        return pairs + (rows[:, 0] * rows[:, -1] if self.boundary == "periodic" else 0)

    def _check(self, spins: Tensor) -> None:
        if spins.dim() != 3 or spins.shape[-2:] != (self.height, self.width):
            raise ValueError(f"Spins must have shape (batch, {self.height}, {self.width}); "
                             f"{tuple(spins.shape)} came.")

    def _check_two_colours(self) -> None:
        if self.boundary == "periodic" and (self.height % 2 or self.width % 2):
            raise ValueError(f"A chequerboard sweep on a periodic grid needs even sides, and {self.height} × "
                             f"{self.width} came: where edges meet, two neighbours would share a colour.")


def _log_matmul(a: Tensor, b: Tensor) -> Tensor:
    """log(exp(a) @ exp(b)), each row of a and all of b shifted by their maximum."""
    top_a, top_b = a.detach().amax(-1, keepdim=True), b.detach().amax((-2, -1), keepdim=True)
    return ((a - top_a).exp() @ (b - top_b).exp()).log() + top_a + top_b


CRITICAL_COUPLING = 0.5 * math.log(1 + math.sqrt(2))     # sinh(2 J) = 1: the infinite plane orders beyond it


def onsager_energy(coupling: Tensor) -> Tensor:
    """Energy per spin of the infinite square lattice without field, in units of J: −lim (1/p) Σ_{i~j} E s_i
    s_j.

    −coth(2J) [1 + (2/π) (2 tanh²(2J) − 1) K(k)], k = 2 sinh(2J)/cosh²(2J), K the complete elliptic integral
    of the first kind. coupling: J > 0, any shape. Onsager (1944).
    """
    if not (coupling > 0).all():
        raise ValueError("Onsager's energy is given for couplings above 0; at J = 0 it is 0.")
    double = 2 * coupling.double()
    # 1 − k² = (2 tanh² 2J − 1)²: ellipkm1 takes it as it is, exact where k is near 1
    twist = 2 * torch.tanh(double) ** 2 - 1
    elliptic = torch.as_tensor(ellipkm1((twist**2).clamp(min=1e-300).cpu().numpy()), dtype=torch.float64)
    return (-(1 + 2 / math.pi * twist * elliptic) / torch.tanh(double)).to(coupling.dtype)


def yang_magnetisation(coupling: Tensor) -> Tensor:
    """Spontaneous magnetisation of the infinite square lattice: (1 − sinh(2J)^−4)^{1/8} above the critical
    coupling ½ log(1 + √2), 0 below. Any shape. Yang (1952).
    """
    inside = 1 - torch.sinh(2 * coupling.double()) ** -4
    return inside.clamp(min=0).pow(0.125).to(coupling.dtype)


# --- 7. Denoising: the noisy picture becomes the field ------------------------------------------------------


def to_spins(pixels: Tensor) -> Tensor:
    """Binary pixels 0/1 become spins −1/+1. Any shape. Raises ValueError for other values."""
    if not ((pixels == 0) | (pixels == 1)).all():
        raise ValueError("Spins are made from binary pixels, 0 or 1; others came: binarize the images first.")
    return 2 * pixels - 1


def add_noise(spins: Tensor, flip_probability: float, generator: torch.Generator) -> Tensor:
    """y: every spin turned over with probability ε, independently. Any shape."""
    _check_flip_probability(flip_probability)
    return torch.where(_uniform_like(spins, generator) < flip_probability, -spins, spins)


def evidence(flip_probability: float) -> float:
    """h = ½ log((1 − ε)/ε), in nats: how strongly one noisy pixel pulls. Equation
    eq-gibbs-denoise-posterior.
    """
    _check_flip_probability(flip_probability)
    return 0.5 * math.log((1 - flip_probability) / flip_probability)


def posterior(prior: Ising, noisy: Tensor, flip_probability: float) -> Ising:
    """p(s | y): again an Ising model, with field b + h·y_i, one for each noisy picture.

    noisy: (batch, height, width) of ±1. The result is a fixed law, cut off from the prior's gradient.
    Equations eq-gibbs-denoise-posterior and eq-gibbs-denoise-conditional.
    """
    prior._check(noisy)
    field = prior.field.detach() + evidence(flip_probability) * noisy
    law = Ising(prior.height, prior.width, prior.coupling.detach(), field, prior.boundary, field.dtype)
    return law.to(field.device).requires_grad_(False)


def exact_marginals(law: Ising) -> Tensor:
    """P(s_i = +1) for every pixel, exactly: (1 + ∂ log Z/∂b_i)/2. Narrow grids only (see `Ising.log_z`).

    Equation eq-gibbs-ising-log-z-gradient. Returns the shape of the field, at least (height, width).
    """
    field = law.field.detach().expand(*law.field.shape[:-2], law.height, law.width)
    copy = Ising(law.height, law.width, law.coupling.detach(), field, law.boundary, field.dtype)
    slope, = torch.autograd.grad(copy.log_z().sum(), copy.field)
    return (1 + slope) / 2


@torch.no_grad()
def marginals(law: Ising, start: Tensor, sweeps: int, burn_in: int, generator: torch.Generator) -> Tensor:
    """P(s_i = +1) for every pixel: the average over the chain of its conditional given the rest.

    The conditional stands in for the drawn spin (Rao–Blackwell, Gelfand & Smith 1990): same mean, smaller
    variance. start: (batch, height, width). burn_in sweeps come first and are not counted. Returns start's
    shape.
    """
    if sweeps < 1 or burn_in < 0:
        raise ValueError(f"At least one sweep after a burn-in of at least 0; {sweeps} and {burn_in} came.")
    spins, total = start, torch.zeros_like(start)
    for sweep in range(burn_in + sweeps):
        spins = law.sweep(spins, generator)
        if sweep >= burn_in:
            total += law.conditional(spins)
    return total / sweeps


def denoise(
    prior: Ising,
    noisy: Tensor,
    flip_probability: float,
    sweeps: int,
    burn_in: int,
    generator: torch.Generator,
) -> Tensor:
    """The clean picture's pixels, P(s_i = +1 | y), by Gibbs sampling from the posterior, started at the noisy
    picture.

    Above ½ the pixel is more likely on: this choice makes the fewest wrong pixels on average (the marginal
    mode). noisy: (batch, height, width) of ±1. Returns the same shape, in [0, 1].
    """
    return marginals(posterior(prior, noisy, flip_probability), noisy, sweeps, burn_in, generator)


def _check_flip_probability(flip_probability: float) -> None:
    if not 0 < flip_probability < 0.5:
        raise ValueError(f"A flip probability lies between 0 and ½ (at ½ the picture says nothing); "
                         f"{flip_probability} came.")


# --- 8. What the training loop needs ------------------------------------------------------------------------


class IsingPrior(Learner):
    """Maximum pseudo-likelihood: J and b of an Ising model, learnt from clean pictures with Adam.

    The loss is −(1/p) Σ_i log p(s_i | rest), the mean over pixels and pictures, in nats: 0 for a model that
    knows each pixel from its neighbours, log 2 for one that knows nothing. Batches are spins (batch, height,
    width).
    """

    def __init__(self, module: Ising, learning_rate: float = 0.05) -> None:
        self.module = module
        self.optimizers = {"adam": torch.optim.Adam(module.parameters(), learning_rate)}

    def training_step(self, batch: Tensor, context: Context) -> dict[str, Tensor]:
        loss = self.loss(batch)
        context.update(self.optimizers["adam"], loss)
        return {"loss": loss.detach(), "coupling": self.module.coupling.detach().clone()}

    def evaluate(self, data: Tensor, context: Context) -> dict[str, Tensor]:
        return {"loss": self.loss(data), "coupling": self.module.coupling.detach(),
                "field": self.module.field.detach().mean()}

    def loss(self, spins: Tensor) -> Tensor:
        """(batch, height, width) → (), nats per pixel."""
        return -self.module.pseudo_log_likelihood(spins).mean() / (self.module.height * self.module.width)


class IsingLattice(Learner):
    """Periodic lattices without field at several temperatures, side by side; a training step is a sweep.

    temperatures: T = 1/J in units of the coupling. chains: independent lattices a temperature, all started
    with every spin up. The first `burn_in` sweeps are not counted. The lattices and the running means of
    every chain are buffers of `module`, so a run can be stopped and resumed.
    """

    def __init__(
        self, temperatures: Sequence[float], height: int, width: int, chains: int, burn_in: int
    ) -> None:
        self.temperatures, self.chains, self.burn_in = tuple(temperatures), chains, burn_in
        coupling = 1 / torch.tensor(self.temperatures).repeat_interleave(chains)
        self.module = Ising(height, width, coupling, boundary="periodic").requires_grad_(False)
        self.module._check_two_colours()
        self.module.register_buffer("spins", torch.ones(len(coupling), height, width))
        for name in ("energy", "magnetisation"):
            self.module.register_buffer(f"mean_{name}", torch.zeros(len(coupling)))

    def training_step(self, batch: None, context: Context) -> dict[str, Tensor]:
        lattice = self.module
        # the stream that all processes share: any number of them makes the same run
        lattice.spins.copy_(lattice.sweep(lattice.spins, context.common_generator))
        now = {"energy": -lattice.agreement(lattice.spins) / lattice.spins[0].numel(),
               "magnetisation": lattice.spins.mean((-2, -1)).abs()}
        if context.step > self.burn_in:
            for name, value in now.items():
                mean = getattr(lattice, f"mean_{name}")
                mean += (value - mean) / (context.step - self.burn_in)
        return {name: value.mean() for name, value in now.items()}

    def evaluate(self, data: None, context: Context) -> dict[str, float]:
        """`energy_T2.00`: energy per spin in units of J; `magnetisation_T2.00`: mean |m| per spin."""
        return {key: float(chains.mean()) for key, chains in self.by_temperature().items()}

    def standard_errors(self) -> dict[str, float]:
        """The standard error of each number of `evaluate`, from the spread of independent chains."""
        return {key: float(chains.std()) / math.sqrt(self.chains)
                for key, chains in self.by_temperature().items()}

    def by_temperature(self) -> dict[str, Tensor]:
        """Each number of `evaluate`, chain by chain: (chains,)."""
        found = {}
        for name in ("energy", "magnetisation"):
            rows = getattr(self.module, f"mean_{name}").reshape(-1, self.chains)
            found |= {f"{name}_T{T:.2f}": row for T, row in zip(self.temperatures, rows)}
        return found

    def picture(self, context: Context) -> Tensor:
        """The first lattice of each temperature, up = 1. (temperatures, height, width)."""
        return (self.module.spins[::self.chains] + 1) / 2
