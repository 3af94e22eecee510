"""Likelihoods of latent-variable models by importance sampling.

log p(x) = log E_q[w] with w = p(x, z) / q(z | x), and its estimate from K draws is log (1/K) Σ w_k: the
importance-weighted bound, a lower bound on average that rises to log p(x) with K. Nothing here knows a
model: it is given log weights.

    estimate = importance(lambda count: vae.log_weights(x, count, generator), samples=5_000, chunk=100)
    print(estimate.mean, estimate.spread)

Sources: Burda, Grosse and Salakhutdinov (2016); equations eq-vae-iwae and eq-vae-iwae-bias.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Estimate", "importance", "join", "log_mean_exp"]


def log_mean_exp(log_weights: Tensor, dim: int = 0) -> Tensor:
    """log (1/K) Σ_k e^(log w_k) along `dim` of K entries, without overflow."""
    return log_weights.logsumexp(dim) - math.log(log_weights.shape[dim])


@dataclass(frozen=True)
class Estimate:
    """log (1/K) Σ_k w_k of each example, nats, and how far it may be trusted.

    log_prob: (batch,). standard_error: of each by the spread of its weights, √(Var w / K) / mean w, (batch,):
    the error of the logarithm to first order, too small where one weight outweighs the rest, and NaN for K = 1.
    effective:
    (Σ w)² / Σ w², (batch,), from 1 (one weight is everything) to K. elbo: the mean of log w_k, (batch,).
    """

    log_prob: Tensor
    standard_error: Tensor
    effective: Tensor
    elbo: Tensor
    samples: int

    @property
    def mean(self) -> float:
        """The mean over the examples, nats."""
        return self.log_prob.cpu().double().mean().item()

    @property
    def mean_error(self) -> float:
        """The standard error of that mean that comes from the draws, for these examples."""
        return self.standard_error.cpu().double().square().sum().sqrt().item() / len(self.standard_error)

    @property
    def spread(self) -> float:
        """The standard error of that mean that comes from the examples, as a sample of all images; NaN for one."""
        if len(self.log_prob) < 2:
            return math.nan
        return self.log_prob.cpu().double().std().item() / math.sqrt(len(self.log_prob))

    @property
    def bias(self) -> float:
        """How far the mean is below log p(x), to first order: half the mean squared standard error."""
        return 0.5 * self.standard_error.cpu().double().square().mean().item()


def importance(draw: Callable[[int], Tensor], samples: int, chunk: int = 100) -> Estimate:
    """log (1/K) Σ w_k from K = `samples` draws, `chunk` of them at a time; never more than that is kept.

    draw: called with a count, gives log weights, (count, batch).
    Raises ValueError for fewer than one sample, an empty chunk, draws of another shape, and where the weights of
    an example are NaN, infinite, or all 0.
    """
    if samples < 1 or chunk < 1:
        raise ValueError("At least one sample and a chunk of at least one are needed; "
                         f"{samples} and {chunk} came.")
    log_sum = log_squares = total = None
    for start in range(0, samples, chunk):
        count = min(chunk, samples - start)
        log_w = draw(count)
        if log_w.dim() != 2 or len(log_w) != count:
            raise ValueError(f"{count} draws of log weights have shape ({count}, batch), but "
                             f"{tuple(log_w.shape)} came.")
        parts = log_w.logsumexp(0), (2 * log_w).logsumexp(0), log_w.sum(0)
        if log_sum is None:
            log_sum, log_squares, total = parts
        else:
            log_sum, log_squares = torch.logaddexp(log_sum, parts[0]), torch.logaddexp(log_squares, parts[1])
            total = total + parts[2]
    bad = ~log_sum.isfinite()
    if bad.any():
        raise ValueError(f"The weights of {int(bad.sum())} of {bad.numel()} examples do not add up to a number "
                         f"(their logarithm is {log_sum[bad][0].item()}): look for NaN in the model's weights "
                         "and for log-variances that overflow.")
    log_effective = 2 * log_sum - log_squares
    # Var w / (K mean²) = K Σw² / (Σw)² / K − 1 / K, never below 0 but for rounding
    relative = ((-log_effective).exp() - 1 / samples).clamp_min(0)
    relative = relative * samples / (samples - 1) if samples > 1 else relative * math.nan
    return Estimate(log_sum - math.log(samples), relative.sqrt(), log_effective.exp(), total / samples, samples)


def join(estimates: list[Estimate]) -> Estimate:
    """The estimates of several batches of examples, by the same number of samples, as one."""
    counts = {estimate.samples for estimate in estimates}
    if len(counts) != 1:
        raise ValueError(f"Estimates to be joined have one number of samples, but {sorted(counts)} came.")
    columns = ("log_prob", "standard_error", "effective", "elbo")
    return Estimate(*(torch.cat([getattr(each, name) for each in estimates]) for name in columns), counts.pop())
