"""What a Gibbs sweep of a mixture of Gaussians costs: against a form that makes an N × N matrix a component.

    python benchmarks/gmm.py [--threads 1] [--rounds 3] [--sweeps 20] [--points 10000] [--latent 12] [--components 10]

A sweep draws all labels given the parameters, and all parameters given the labels. The peer does it the way that is
easiest to write down, one component after the other: diag((x − μ) Λ (x − μ)ᵀ), a matrix of N × N numbers of which N
are kept, then exp, a determinant, and a normalisation; and for the parameters a loop over components with the
posterior of `Prior.posterior` in the form Σ x xᵀ + κ₀ m₀ m₀ᵀ − κ m mᵀ and a draw of `scipy.stats.wishart`. It
is a form that is found in published code, written anew here. It gets the best of its kind: labels are drawn for all
points at once, and the N × N matrix is made by one product and freed before the next.

Before anything is timed, the responsibilities and the posteriors of both on the same points are compared in float64.
Then both take turns, so that a busy machine disturbs both alike; a ratio is one of times in the same round, and what
is printed is the median over the rounds with the smallest and the largest. On one thread the times are the
processor's own. At the end the sweep alone is timed for other N, L and K, and a line through the logarithms gives the
exponent with which it grows: the work is N K L² for the distances and N L² for the moments, and everything that does
not grow makes the exponents smaller.
"""

import argparse
import math
import resource
import statistics
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.stats import wishart
from torch import Tensor
from torch.distributions import Dirichlet, MultivariateNormal
from turns import clock_for, measure

from nemlib.gmm import BayesianGMM, GaussianMixture, Prior, moments_of_labels

BYTES = 8                                   # of a number in float64


def cloud(points: int, latent: int, components: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points of a mixture whose components overlap a little, and the components they came from."""
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator, "dtype": torch.float64}
    means = 2 * torch.randn(components, latent, **options)
    factors = torch.eye(latent, dtype=torch.float64) + 0.1 * torch.randn(components, latent, latent, **options)
    mixture = GaussianMixture(torch.full((components,), 1 / components, dtype=torch.float64), means, factors)
    return mixture.sample(points, generator)


def started(points: int, latent: int, components: int) -> tuple[BayesianGMM, Tensor, torch.Generator]:
    """A sampler at the posterior's mean given the true components, its points, and its random numbers."""
    x, labels = cloud(points, latent, components)
    gmm = BayesianGMM(Prior.weak(x, components))
    gmm.settle(x, labels)
    return gmm, x, torch.Generator().manual_seed(1)


def peer_responsibilities(x: Tensor, mixture: GaussianMixture) -> Tensor:
    """P(z = k | x) by the density of one component after the other, from an N × N matrix each. (N, K)."""
    weighted = torch.empty(len(x), mixture.components, dtype=x.dtype)
    for k, (weight, mean, precision) in enumerate(zip(mixture.weights, mixture.means, mixture.precisions)):
        apart = x - mean
        square = (-0.5 * apart) @ precision @ apart.T
        weighted[:, k] = weight * torch.linalg.det(precision).sqrt() * torch.diag(square).exp()
        del square
    return weighted / weighted.sum(1, keepdim=True)


def peer_posterior(x: Tensor, labels: Tensor, prior: Prior, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """κ, m, ν and W⁻¹ of component k given its points."""
    mine = x[labels == k]
    kappa = prior.kappa[k] + len(mine)
    mean = (prior.kappa[k] * prior.mean[k] + mine.sum(0)) / kappa
    inverse_scale = (prior.inverse_scale[k] + mine.T @ mine
                     + prior.kappa[k] * torch.outer(prior.mean[k], prior.mean[k]) - kappa * torch.outer(mean, mean))
    return kappa, mean, prior.nu[k] + len(mine), inverse_scale


def peer_sweep(x: Tensor, prior: Prior, mixture: GaussianMixture, random: np.random.Generator) -> GaussianMixture:
    labels = torch.multinomial(peer_responsibilities(x, mixture), 1)[:, 0]
    means, factors, counts = [], [], []
    for k in range(mixture.components):
        kappa, mean, nu, inverse_scale = peer_posterior(x, labels, prior, k)
        precision = torch.from_numpy(wishart.rvs(nu.item(), np.linalg.inv(inverse_scale.numpy()), random_state=random))
        means.append(MultivariateNormal(mean, precision_matrix=kappa * precision).sample())
        factors.append(torch.linalg.cholesky(precision))
        counts.append((labels == k).sum())
    weights = Dirichlet(prior.alpha + torch.stack(counts)).sample()
    return GaussianMixture(weights, torch.stack(means), torch.stack(factors))


def largest_difference(gmm: BayesianGMM, x: Tensor, generator: torch.Generator) -> float:
    """Between the responsibilities and the posteriors of both, the latter relative to their largest entry."""
    mine, other = gmm.mixture.responsibilities(x), peer_responsibilities(x, gmm.mixture)
    labels = gmm.draw_labels(x, generator)
    posterior, found = gmm.prior.posterior(moments_of_labels(x, labels, gmm.components)), [(mine - other).abs().max()]
    for k in range(gmm.components):
        ours = (posterior.kappa[k], posterior.mean[k], posterior.nu[k], posterior.inverse_scale[k])
        for a, b in zip(ours, peer_posterior(x, labels, gmm.prior, k), strict=True):
            found.append((a - b).abs().max() / a.abs().max())
    return max(found).item()


def peak_memory() -> float:
    """Megabytes that this process has held at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Slope of the line through the logarithms, by least squares."""
    x, y = [math.log(size) for size in sizes], [math.log(second) for second in seconds]
    middle_x, middle_y = statistics.mean(x), statistics.mean(y)
    return sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y)) / sum((a - middle_x) ** 2 for a in x)


def growth(name: str, sizes: Sequence[int], shape: Callable[[int], tuple[int, int, int]], sweeps: int, rounds: int,
           clock: Callable[[], float]) -> None:
    """Time sweeps at several sizes, taking turns, and print the exponent."""
    loops = {}
    for size in sizes:
        gmm, x, generator = started(*shape(size))
        loops[str(size)] = lambda gmm=gmm, x=x, generator=generator: [gmm.sweep(x, generator) for _ in range(sweeps)]
    seconds = [statistics.median(values) / sweeps for values in measure(loops, rounds, clock).values()]
    words = ", ".join(f"{size:,}: {1e3 * second:.1f} ms" for size, second in zip(sizes, seconds))
    print(f"  {name:10} exponent {exponent(sizes, seconds):4.2f}   ({words})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sweeps", type=int, default=20, help="of ours in a round; the peer does one")
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--latent", type=int, default=12)
    parser.add_argument("--components", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    clock, rounds, sweeps = clock_for(arguments.threads), arguments.rounds, arguments.sweeps
    n, latent, k = arguments.points, arguments.latent, arguments.components
    print(f"A Gibbs sweep at {n:,} × {latent}, K = {k}, float64, {arguments.threads} thread(s), {rounds} rounds, "
          f"torch {torch.__version__}")
    gmm, x, generator = started(n, latent, k)
    for _ in range(sweeps):
        gmm.sweep(x, generator)
    print(f"{sweeps} sweeps of nemlib: the process has held {peak_memory():.0f} MB at most; an N × N matrix alone "
          f"is {BYTES * n * n / 2**20:.0f} MB")
    difference = largest_difference(gmm, x, generator)
    print(f"responsibilities and posteriors of both differ by {difference:.0e}; {peak_memory():.0f} MB now")
    if difference > 1e-9:
        raise SystemExit("The two sweeps are not the same sweep: their times cannot be compared.")

    prior, state, random = gmm.prior, [gmm.mixture_copy()], np.random.default_rng(0)

    def peer() -> None:
        state[0] = peer_sweep(x, prior, state[0], random)

    loops = {"peer": peer, "labels": lambda: [gmm.draw_labels(x, generator) for _ in range(sweeps)],
             "sweep": lambda: [gmm.sweep(x, generator) for _ in range(sweeps)]}
    seconds = measure(loops, rounds, clock)
    ours = [value / sweeps for value in seconds["sweep"]]
    share = statistics.median(a / b for a, b in zip(seconds["labels"], seconds["sweep"]))
    ratios = [one / other for one, other in zip(seconds["peer"], ours)]
    print(f"  N × N a component  {1e3 * statistics.median(seconds['peer']):8.1f} ms a sweep")
    print(f"  nemlib             {1e3 * statistics.median(ours):8.1f} ms a sweep, 1/{statistics.median(ratios):.0f} "
          f"of the peer's time (1/{min(ratios):.0f} to 1/{max(ratios):.0f}); {share:.0%} of it are the labels")
    print("growth of nemlib's sweep:")
    growth("points N", [n // 4, n // 2, n, 2 * n, 4 * n], lambda size: (size, latent, k), sweeps, rounds, clock)
    growth("latent L", [6, 12, 24, 48, 96], lambda size: (n, size, k), max(1, sweeps // 4), rounds, clock)
    growth("K", [5, 10, 20, 40, 80], lambda size: (n, latent, size), max(1, sweeps // 4), rounds, clock)


if __name__ == "__main__":
    main()
