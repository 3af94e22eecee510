"""Annealed importance sampling: the normaliser of a law that can only be evaluated up to it.

    log_weights = ais.anneal(start, step, ais.temperatures(1_000))    # from draws of a law that is known
    found = ais.estimate(log_z_start + log_weights)                   # found.log_z ± found.standard_error

Chains walk through laws p_β whose normaliser is known at β = 0 and wanted at β = 1, and collect the ratios
that they pass. The mean of e^w over chains is Z_1 / Z_0 without bias, so its logarithm lies below the truth
on average; chains that walk back from draws of p_1 give the mean Z_0 / Z_1, and so a bound from above.

Sources: Neal (2001) for the method and its variance; Salakhutdinov and Murray (2008) for its use on RBMs;
Burda, Grosse and Salakhutdinov (2015) for the way back as a bound from the other side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Estimate", "anneal", "estimate", "log_mean_exp", "temperatures"]

Step = Callable[[Tensor, float, float], tuple[Tensor, Tensor]]

# Salakhutdinov and Murray (2008), section 4: most of the temperatures where the law changes most
SHARES = ((0.0, 0.5, 500), (0.5, 0.9, 4_000), (0.9, 1.0, 10_000))


@dataclass(frozen=True)
class Estimate:
    """log Z and how far to trust it, nats.

    log_z: log of the mean weight (of the way down: log Z at its end minus that).
    standard_error: of log_z, by the delta method: sd(weights) / (mean(weights) √n). Equation
        eq-rbm-ais-error.
    log_weights: of each chain, (chains,) float64.
    effective: (Σ w)² / Σ w², how many of the chains count.
    way: 1 up, from the law that is known to the other; −1 down, where 1 / Z is what the mean estimates.
    """

    log_z: float
    standard_error: float
    log_weights: Tensor
    effective: float
    way: int = 1

    @property
    def interval(self) -> tuple[float, float]:
        """log Z where the mean weight is 3 of its standard errors smaller and larger, nats; infinite where
        the smaller mean is not positive.
        """
        error = 3 * self.standard_error
        near, far = math.log1p(error), math.log1p(-error) if error < 1 else -math.inf
        low, high = sorted((self.log_z + self.way * far, self.log_z + self.way * near))
        return low, high


def temperatures(count: int, spacing: str = "published") -> Tensor:
    """That many β from 0 to 1, increasing, (count,) float64.

    spacing: "published", with the shares of Salakhutdinov and Murray (2008): of 14,500 steps 500 lie below
    β = .5 and 10,000 above .9; or "even". Raises ValueError for fewer than two, or another spacing.
    """
    if count < 2:
        raise ValueError(f"A path has at least its two ends, so at least 2 temperatures; {count} came.")
    if spacing not in ("published", "even"):
        raise ValueError(f"spacing is 'published' or 'even', and {spacing!r} came.")
    place = torch.linspace(0, 1, count, dtype=torch.float64)
    if spacing == "even":
        return place
    total = sum(share for _, _, share in SHARES)
    betas, before = torch.zeros_like(place), 0.0
    for low, high, share in SHARES:
        within = ((place - before) * total / share).clamp(0, 1)
        betas += within * (high - low)
        before += share / total
    betas[-1] = 1.0
    return betas


def log_mean_exp(log_values: Tensor) -> Tensor:
    """log of the mean of e^values over the first axis, without overflow."""
    return torch.logsumexp(log_values, 0) - math.log(len(log_values))


@torch.no_grad()
def anneal(state: Tensor, step: Step, betas: Tensor) -> Tensor:
    """Carry chains from the law of the first β to that of the last; returns their log weights.

    state: draws of the first law, (chains, …). step: called as step(state, before, after); returns
    log f_after(state) − log f_before(state), nats, (chains,), with f the unnormalised law, and the state
    after a transition that leaves the law at `after` as it is. (Going down, the transition comes first and
    leaves the law at `before` as it is.) betas: (T,), going up or down.
    Returns w, (chains,) float64, nats: the mean of e^w is Z_last / Z_first. Equation eq-rbm-ais-weight.
    Raises ValueError for fewer than two β or chains.
    """
    if len(betas) < 2 or len(state) < 2:
        raise ValueError(f"At least two temperatures and two chains; {len(betas)} and {len(state)} came.")
    steps = betas.tolist()
    where = "cpu" if state.device.type == "mps" else state.device      # MPS has no float64
    log_weights = torch.zeros(len(state), dtype=torch.float64, device=where)
    for before, after in zip(steps, steps[1:]):
        ratio, state = step(state, before, after)
        log_weights += ratio.to(where)
    return log_weights.cpu()


def estimate(log_weights: Tensor) -> Estimate:
    """log of the mean of e^log_weights, with its error. (chains,) → Estimate. Equation eq-rbm-ais.

    Raises ValueError for fewer than two weights, or where one is nan or infinite.
    """
    log_weights = log_weights.cpu().double()
    if len(log_weights) < 2:
        raise ValueError(f"The error needs at least two chains; {len(log_weights)} came.")
    if not log_weights.isfinite().all():
        raise ValueError("A weight is not finite, so the law at some temperature has overflowed: look at the "
                         "weights and biases of the model.")
    weights = (log_weights - log_weights.max()).exp()
    error = weights.std() / (weights.mean() * math.sqrt(len(weights)))
    return Estimate(log_mean_exp(log_weights).item(), error.item(), log_weights,
                    (weights.sum().square() / weights.square().sum()).item())
