"""Gaussian mixtures: points in a cloud, and the hidden component that each of them came from.

The file reads as the first half of chapter 5 does: the mixture and its responsibilities; EM, which climbs its
likelihood; the conjugate prior of its parameters and what data make of it; the Gibbs sampler, which draws
labels given parameters and parameters given labels; starts by k-means++; and how good a clustering looks to
somebody who has no labels.

    gmm = BayesianGMM(Prior.weak(x, components=10))
    gmm.fit(x, generator, sweeps=40, restarts=30)      # restarts are compared without labels
    gmm.mixture.responsibilities(x)                    # (points, 10)

Sources: Dempster, Laird and Rubin (1977) for EM; Bishop (2006), sections 2.3.6, 9.2 and 10.2, for the
mixture, the normal-Wishart law and variational Bayes; Odell and Feiveson (1966) for Bartlett's decomposition
as a way to draw; Diebolt and Robert (1994) for the Gibbs sampler; Arthur and Vassilvitskii (2007) for
k-means++.

Points x are (points, L), or (N, L), float64: functions that learn from points or look for a start check and
convert them, those of one step take them as they are. A component's precision matrix is kept as a factor F,
(L, L), with Λ = F Fᵀ: log |Λ| and all distances come from it. Nothing of size N × N is ever made. Everything
that begins with log_ is in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = [
    "BayesianGMM", "Chain", "EMStep", "GaussianMixture", "Moments", "Prior", "assignment_information", "em",
    "k_means", "k_means_plus_plus", "moments", "moments_of_labels", "neighbour_labels",
]

LOG_TWO_PI = math.log(2 * math.pi)
PORTION = 512      # points whose distances are held at once: they stay in the processor's cache


# --- the mixture -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GaussianMixture:
    """p(x) = Σ_k π_k N(x; μ_k, Λ_k⁻¹) with Λ_k = F_k F_kᵀ. Equation eq-vg-mixture.

    weights: π, (K,), of sum 1. means: μ, (K, L). factors: F, (K, L, L), any with F Fᵀ = Λ. All of one dtype.
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    @classmethod
    def of_covariances(cls, weights: Tensor, means: Tensor, covariances: Tensor) -> GaussianMixture:
        """The mixture with these covariances Σ_k, (K, L, L): F = C⁻ᵀ with Σ = C Cᵀ.

        Raises ValueError for a covariance that is not positive definite, with the component's number.
        """
        return cls(weights, means, inverse_factor(covariances, "covariance"))

    @property
    def components(self) -> int:
        return len(self.weights)

    @property
    def precisions(self) -> Tensor:
        """Λ_k, (K, L, L)."""
        return self.factors @ self.factors.mT

    @property
    def covariances(self) -> Tensor:
        """Σ_k = Λ_k⁻¹ = F⁻ᵀ F⁻¹, (K, L, L)."""
        inverse = torch.linalg.inv(self.factors)
        return inverse.mT @ inverse

    @property
    def log_det(self) -> Tensor:
        """½ log |Λ_k| = log |det F_k|, (K,)."""
        return torch.linalg.slogdet(self.factors).logabsdet

    def log_prob_of_components(self, x: Tensor) -> Tensor:
        """log N(x; μ_k, Λ_k⁻¹). (N, L) → (N, K). Equation eq-vg-gaussian."""
        constants = self.log_det - 0.5 * x.shape[-1] * LOG_TWO_PI
        return constants - 0.5 * self.distances(x)

    def distances(self, x: Tensor) -> Tensor:
        """(x − μ_k)ᵀ Λ_k (x − μ_k) = ‖F_kᵀ (x − μ_k)‖², for all k in one product. (N, L) → (N, K).

        Raises ValueError for points of another shape.
        """
        count, d = self.means.shape
        if x.dim() != 2 or x.shape[1] != d:
            raise ValueError(f"Points of shape (points, {d}) are compared with this mixture, but "
                             f"{tuple(x.shape)} came.")
        factors = self.factors.transpose(0, 1).reshape(d, count * d)
        shift = (self.means[:, None] @ self.factors).reshape(1, count * d)
        parts = [torch.addmm(shift, part, factors, beta=-1).square().view(-1, count, d).sum(-1)
                 for part in x.split(PORTION)]
        return torch.cat(parts)

    def log_joint(self, x: Tensor) -> Tensor:
        """log π_k + log N(x; μ_k, Λ_k⁻¹). (N, L) → (N, K). Equation eq-vg-log-joint."""
        return self.log_prob_of_components(x) + self.weights.log()

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), (N, L) → (N,), by a sum whose largest term is taken out first (eq-vg-logsumexp)."""
        return self.log_joint(x).logsumexp(1)

    def responsibilities(self, x: Tensor) -> Tensor:
        """γ_nk = P(z_n = k | x_n), (N, L) → (N, K), of sum 1. Equation eq-vg-responsibility."""
        return self.log_joint(x).softmax(1)

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Points and the components they came from, (count, L) and (count,)."""
        labels = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        return self.sample_of(labels, generator), labels

    def sample_of(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """A point of each of these components, x = μ_z + F_z⁻ᵀ ε. (count,) → (count, L). Equation
        eq-vg-draw.
        """
        options = {"dtype": self.means.dtype, "device": self.means.device}
        noise = torch.randn(len(labels), self.means.shape[1], 1, generator=generator, **options)
        inverse = torch.linalg.inv(self.factors).mT
        return self.means[labels] + (inverse[labels] @ noise)[..., 0]

    def permuted(self, order: Tensor) -> GaussianMixture:
        """The same law with its components numbered anew: component order[k] becomes k."""
        return GaussianMixture(self.weights[order], self.means[order], self.factors[order])


def inverse_factor(matrices: Tensor, name: str) -> Tensor:
    """F = C⁻ᵀ with M = C Cᵀ, so that F Fᵀ = M⁻¹. (K, L, L) → (K, L, L).

    Raises ValueError for a matrix that is not positive definite, with the component's number.
    """
    lower, info = torch.linalg.cholesky_ex(matrices)
    if info.any() or not lower.isfinite().all():
        bad = (info != 0) | ~lower.flatten(1).isfinite().all(1)
        k = int(bad.nonzero()[0])
        raise ValueError(f"The {name} of component {k} is not positive definite: its points lie in fewer "
                         "dimensions, or its entries are not finite; give a larger ridge or prior.")
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    return torch.linalg.solve_triangular(lower, identity.expand_as(lower), upper=False).mT


# --- what a component needs to know of its points ----------------------------------------------------------


class Moments(NamedTuple):
    """Sufficient statistics of K components. Equation eq-vg-moments.

    count: n_k = Σ_n r_nk, (K,). mean: x̄_k, (K, L); the centre of all points where n_k is 0. scatter:
    S_k = Σ_n r_nk (x_n − x̄_k)(x_n − x̄_k)ᵀ, (K, L, L).
    """

    count: Tensor
    mean: Tensor
    scatter: Tensor


def moments(x: Tensor, r: Tensor, variance: Tensor | None = None) -> Moments:
    """Moments of points (N, L) that belong to components by shares r, (N, K).

    variance: (N, L), where x_n is not a point but the mean of a diagonal Gaussian: then the scatter is that
    of draws from it, on average: S_k + diag Σ_n r_nk σ_n². Equation eq-vg-message-moments.
    """
    centre = x.mean(0)
    apart = x - centre                      # the scatter is a difference of squares: keep both small
    count = r.sum(0)
    safe = count.clamp_min(torch.finfo(x.dtype).tiny)[:, None]
    mean = torch.where(count[:, None] > 0, r.T @ apart / safe, 0.0)
    scatter = torch.stack([(share[:, None] * (apart - at)).T @ (apart - at) for share, at in zip(r.T, mean)])
    if variance is not None:
        scatter = scatter + torch.diag_embed(r.T @ variance)
    return Moments(count, mean + centre, scatter)


def moments_of_labels(x: Tensor, labels: Tensor, components: int) -> Moments:
    """The same where every point belongs to one component, (N,): each point is touched once."""
    count = torch.bincount(labels, minlength=components)
    if len(count) > components:
        raise ValueError(f"Labels of {components} components are below {components}, but {len(count) - 1} came.")
    parts = x[labels.argsort()].split(count.tolist())
    centre = x.mean(0)
    mean = torch.stack([part.mean(0) if len(part) else centre for part in parts])
    apart = [part - at for part, at in zip(parts, mean)]
    return Moments(count.to(x.dtype), mean, torch.stack([part.T @ part for part in apart]))


# --- EM ----------------------------------------------------------------------------------------------------


class EMStep(NamedTuple):
    """mixture: after the step. log_likelihood: Σ_n log p(x_n) *before* it, nats."""

    mixture: GaussianMixture
    log_likelihood: Tensor


def em_step(mixture: GaussianMixture, x: Tensor, ridge: float = 0.0) -> EMStep:
    """One E-step and one M-step: π = n/N, μ = x̄, Σ = S/n + ridge · I. Equation eq-vg-m-step.

    With ridge 0 the likelihood never falls (thm-vg-monotone), and may grow without bound (eq-vg-singularity).
    A component that answers for nothing keeps its place and gets weight 0.
    Raises ValueError where a covariance is no longer positive definite, with the component's number.
    """
    log_joint = mixture.log_joint(x)
    likelihood = log_joint.logsumexp(1).sum()
    found = moments(x, log_joint.softmax(1))
    alive = found.count > 0
    n = found.count.clamp_min(torch.finfo(x.dtype).tiny)[:, None, None]
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    covariances = torch.where(alive[:, None, None], found.scatter / n + ridge * identity, mixture.covariances)
    means = torch.where(alive[:, None], found.mean, mixture.means)
    step = GaussianMixture.of_covariances(found.count / len(x), means, covariances)
    return EMStep(step, likelihood)


def em(
    x: Tensor, start: GaussianMixture, iterations: int, ridge: float = 0.0
) -> tuple[GaussianMixture, Tensor]:
    """EM from a start. Returns the mixture, and the log-likelihood before each step and after the last one,
    (iterations + 1,). Raises ValueError as `em_step` does, and for points that `check_points` refuses.
    """
    x = check_points(x, start.components)
    mixture, climb = start, []
    for _ in range(iterations):
        mixture, likelihood = em_step(mixture, x, ridge)
        climb.append(likelihood)
    return mixture, torch.stack([*climb, mixture.log_prob(x).sum()])


# --- the conjugate prior and its posterior ------------------------------------------------------------------


@dataclass(frozen=True)
class Prior:
    """π ~ Dirichlet(α), Λ_k ~ Wishart(ν_k, W_k), μ_k | Λ_k ~ N(m_k, (κ_k Λ_k)⁻¹). Equation eq-vg-prior.

    The same class is the posterior given labels, since the prior is conjugate: thm-vg-conjugate.
    alpha, kappa, nu: (K,). mean: m, (K, L). inverse_scale: W⁻¹, (K, L, L). All float64.
    Raises ValueError for other shapes or kinds of numbers, for alpha or kappa not above 0, and for nu not above
    L − 1.
    """

    alpha: Tensor
    kappa: Tensor
    mean: Tensor
    inverse_scale: Tensor
    nu: Tensor

    def __post_init__(self) -> None:
        if self.mean.dim() != 2 or any(part.dtype != torch.float64 for part in vars(self).values()):
            raise ValueError("A prior is kept in float64, with a mean of shape (K, L); "
                             f"{self.mean.dtype} of shape {tuple(self.mean.shape)} came.")
        shapes = tuple(tuple(part.shape) for part in (self.alpha, self.kappa, self.nu))
        k, d = self.mean.shape
        if shapes != ((k,),) * 3 or self.inverse_scale.shape != (k, d, d):
            raise ValueError("A prior of K components in L dimensions has alpha, kappa, nu of (K,), "
                             f"mean (K, L) and inverse_scale (K, L, L); {shapes}, {(k, d)} and "
                             f"{tuple(self.inverse_scale.shape)} came.")
        if not ((self.alpha > 0).all() and (self.kappa > 0).all()):
            raise ValueError("alpha and kappa count points that were never seen, and are above 0; "
                             f"{self.alpha.min().item():g} and {self.kappa.min().item():g} came.")
        if not (self.nu > d - 1).all():
            raise ValueError(f"A Wishart law of {d} dimensions needs more than {d - 1} degrees of freedom, "
                             f"but nu = {self.nu.min().item():g} came.")

    @classmethod
    def same(
        cls, components: int, mean: Tensor, inverse_scale: Tensor, *, alpha: float, kappa: float, nu: float
    ) -> Prior:
        """One law for all components. mean: (L,), inverse_scale: W⁻¹, (L, L)."""
        if components < 1:
            raise ValueError(f"A mixture has at least one component, but {components} came.")
        mean, inverse_scale = mean.double(), inverse_scale.double()

        def full(value: float) -> Tensor:
            return mean.new_full((components,), value)

        return cls(full(alpha), full(kappa), mean.expand(components, -1),
                   inverse_scale.expand(components, -1, -1), full(nu))

    @classmethod
    def weak(cls, x: Tensor, components: int, alpha: float = 1.0, kappa: float = 0.01) -> Prior:
        """A prior that knows the cloud's place and size and little else: m is the mean of the points,
        ν = L + 2, and E Σ_k = cov(x) / K^(2/L), K pieces of the cloud's volume (Fraley and Raftery 2007).

        x: (N, L). Raises ValueError as `check_points` does.
        """
        x = check_points(x, components)
        d = x.shape[1]
        spread = torch.cov(x.T, correction=0).reshape(d, d)
        spread = spread / components ** (2 / d)
        return cls.same(components, x.mean(0), spread, alpha=alpha, kappa=kappa, nu=d + 2)

    @property
    def components(self) -> int:
        return len(self.alpha)

    def posterior(self, found: Moments) -> Prior:
        """The law of the parameters given what belongs to each component. Equations eq-vg-posterior-weights,
        eq-vg-posterior-mean and eq-vg-posterior-scale:

        α + n; κ + n; (κ m + n x̄) / (κ + n); W⁻¹ + S + κ n / (κ + n) (x̄ − m)(x̄ − m)ᵀ; ν + n.
        """
        n, mean, scatter = found
        kappa = self.kappa + n
        apart = mean - self.mean
        pull = (self.kappa * n / kappa)[:, None, None] * apart[:, :, None] * apart[:, None, :]
        return Prior(self.alpha + n, kappa, self.mean + (n / kappa)[:, None] * apart,
                     self.inverse_scale + scatter + pull, self.nu + n)

    def sample(self, generator: torch.Generator) -> GaussianMixture:
        """A mixture: π by gamma draws, Λ by Bartlett's decomposition, μ given Λ. Equation eq-vg-bartlett.

        Raises ValueError for a scale that is not positive definite, with the component's number.
        """
        gammas = standard_gamma(self.alpha, generator)
        k, d = self.mean.shape
        options = {"dtype": self.mean.dtype, "device": self.mean.device}
        lower = torch.randn(k, d, d, generator=generator, **options).tril(-1)
        freedom = self.nu[:, None] - torch.arange(d, **options)          # ν, ν − 1, …, ν − L + 1
        chi = (2 * standard_gamma(0.5 * freedom, generator)).sqrt()      # χ² of f degrees is 2 · Gamma(f / 2)
        factors = inverse_factor(self.inverse_scale, "scale matrix") @ (lower + torch.diag_embed(chi))
        noise = torch.randn(k, d, generator=generator, **options) / self.kappa.sqrt()[:, None]
        away = torch.linalg.solve(factors.mT, noise[..., None])[..., 0]   # F⁻ᵀ ε has covariance Λ⁻¹
        return GaussianMixture(gammas / gammas.sum(), self.mean + away, factors)

    def expected(self) -> GaussianMixture:
        """The mixture at the means of its parameters: E π = α / Σα, E μ = m, E Λ = ν W. Equation
        eq-vg-plug-in.
        """
        factors = inverse_factor(self.inverse_scale, "scale matrix") * self.nu.sqrt()[:, None, None]
        return GaussianMixture(self.alpha / self.alpha.sum(), self.mean, factors)

    def expected_log_joint(self, x: Tensor) -> Tensor:
        """E [log π_k + log N(x; μ_k, Λ_k⁻¹)] over this law of the parameters: the E-step of variational Bayes
        is its softmax, and the M-step is prior.posterior(moments(x, r)). (N, L) → (N, K). Equation
        eq-vg-vb-e-step.
        """
        d, plug_in = self.mean.shape[1], self.expected()
        distances = plug_in.distances(x) + d / self.kappa
        halves = 0.5 * (self.nu[:, None] - torch.arange(d, dtype=x.dtype, device=x.device))
        log_det = torch.digamma(halves).sum(1) + d * (math.log(2) - self.nu.log()) + 2 * plug_in.log_det
        log_weights = torch.digamma(self.alpha) - torch.digamma(self.alpha.sum())
        return log_weights + 0.5 * (log_det - d * LOG_TWO_PI - distances)

    def log_prob(self, mixture: GaussianMixture) -> Tensor:
        """log p(π, μ, Λ), a scalar. Equations eq-vg-dirichlet, eq-vg-wishart and eq-vg-prior."""
        d = self.mean.shape[1]
        weights = (torch.lgamma(self.alpha.sum()) - torch.lgamma(self.alpha).sum()
                   + torch.xlogy(self.alpha - 1, mixture.weights).sum())
        trace = (self.inverse_scale * mixture.precisions).sum((1, 2))
        precisions = (self.nu - d - 1) * mixture.log_det - 0.5 * trace - self.log_normaliser()
        away = ((mixture.means - self.mean)[:, None] @ mixture.factors)[:, 0]
        distances = self.kappa * away.square().sum(1)
        means = mixture.log_det + 0.5 * d * (self.kappa.log() - LOG_TWO_PI) - 0.5 * distances
        return weights + (precisions + means).sum()

    def log_normaliser(self) -> Tensor:
        """log ∫ |Λ|^((ν−L−1)/2) exp(−½ tr W⁻¹ Λ) dΛ = ½ ν L log 2 + ½ ν log |W| + log Γ_L(ν/2), (K,)."""
        d = self.mean.shape[1]
        log_det = torch.linalg.slogdet(self.inverse_scale).logabsdet
        return 0.5 * self.nu * (d * math.log(2) - log_det) + torch.special.multigammaln(0.5 * self.nu, d)

    def log_evidence(self, found: Moments) -> Tensor:
        """log p(x, z): the parameters integrated out, a scalar. Equation eq-vg-evidence.

        The ratio of the normalisers of prior and posterior, times (2π)^(−ND/2).
        """
        after, d = self.posterior(found), self.mean.shape[1]
        components = (after.log_normaliser() - self.log_normaliser()
                      + 0.5 * d * ((self.kappa / after.kappa).log() - found.count * LOG_TWO_PI))
        return components.sum() + log_beta(after.alpha) - log_beta(self.alpha)


def standard_gamma(shape: Tensor, generator: torch.Generator) -> Tensor:
    """Draws of Gamma(shape, 1); torch.distributions knows no generator, but the function below it does."""
    return torch._standard_gamma(shape, generator=generator)


def log_beta(alpha: Tensor) -> Tensor:
    """log of the Dirichlet law's normaliser, Σ log Γ(α_k) − log Γ(Σ α_k)."""
    return torch.lgamma(alpha).sum() - torch.lgamma(alpha.sum())


# --- starts --------------------------------------------------------------------------------------------


def k_means_plus_plus(x: Tensor, components: int, generator: torch.Generator) -> Tensor:
    """Centres that are points, each next one drawn in proportion to its squared distance to the nearest so
    far.

    (N, L) → (K, L). Equation eq-vg-plus-plus, Arthur and Vassilvitskii (2007). Raises ValueError as
    `check_points` does.
    """
    x = check_points(x, components)
    first = torch.randint(len(x), (1,), generator=generator, device=x.device)
    centres, nearest = [x[first[0]]], (x - x[first]).square().sum(1)
    for _ in range(components - 1):
        if nearest.sum() > 0:
            chosen = torch.multinomial(nearest / nearest.sum(), 1, generator=generator)[0]
        else:                                   # all points stand on centres: any of them
            chosen = torch.randint(len(x), (1,), generator=generator, device=x.device)[0]
        centres.append(x[chosen])
        nearest = torch.minimum(nearest, (x - x[chosen]).square().sum(1))
    return torch.stack(centres)


def k_means(x: Tensor, components: int, generator: torch.Generator, iterations: int = 10) -> Tensor:
    """Labels, (N,), after k-means++ and a few rounds of Lloyd's algorithm. A centre without points stays.

    Raises ValueError as `check_points` does.
    """
    x = check_points(x, components)
    centres = k_means_plus_plus(x, components, generator)
    for _ in range(iterations):
        labels = torch.cdist(x, centres).argmin(1)
        found = moments_of_labels(x, labels, components)
        centres = torch.where(found.count[:, None] > 0, found.mean, centres)
    return torch.cdist(x, centres).argmin(1)


def neighbour_labels(
    x: Tensor, components: int, generator: torch.Generator, *, landmarks: int = 20_000, restarts: int = 20,
    sweeps: int = 40, neighbours: int = 15,
) -> Tensor:
    """Labels, (N,), by who is whose neighbour: a start that follows curved clouds, where ellipsoids cut them.

    As many points as `landmarks`, drawn at random, are laid out in the plane by t-SNE (van der Maaten and Hinton
    2008), which keeps neighbours together; a mixture is fitted there, its restarts chosen without labels, as
    everywhere; every other point takes the label that its nearest landmarks vote for. McConville et al. (2021)
    take the clusters of such a layout, made by another method, for their result; here they are a start. Minutes
    for 20,000 landmarks on one core. Raises ValueError as `check_points` does, and for fewer than ten points,
    which t-SNE cannot lay out.
    """
    from sklearn.manifold import TSNE
    from sklearn.neighbors import KNeighborsClassifier

    x = check_points(x, components)
    if len(x) < 10:
        raise ValueError(f"A layout of neighbours needs at least 10 points, but {len(x)} came: start by k-means.")
    some = torch.randperm(len(x), generator=generator, device=x.device)[:landmarks]
    number = int(torch.randint(2**31, (1,), generator=generator, device=x.device))
    points = x[some].cpu().numpy()
    layout = TSNE(2, perplexity=min(30, len(points) // 4), init="pca", random_state=number, n_jobs=1)
    plane = torch.as_tensor(layout.fit_transform(points), dtype=torch.float64, device=x.device)
    gmm = BayesianGMM(Prior.weak(plane, components)).to(x.device)
    gmm.fit(plane, generator, sweeps, restarts)
    labels = gmm.mixture.responsibilities(plane).argmax(1).cpu().numpy()
    judge = KNeighborsClassifier(min(neighbours, len(points)), weights="distance").fit(points, labels)
    return torch.as_tensor(judge.predict(x.cpu().numpy()), device=x.device)


def assignment_information(r: Tensor) -> Tensor:
    """H(mean of r) − mean of H(r): what a point's number tells of its component, nats, at most log K.

    High where components are used evenly and points are sure of theirs; needs no labels. r: (N, K), of sum 1.
    Returns a scalar. Equation eq-vg-information; Bridle, Heading and MacKay (1992).
    """
    share = r.mean(0)
    return torch.xlogy(r, r).sum(1).mean() - torch.xlogy(share, share).sum()


# --- the Gibbs sampler ---------------------------------------------------------------------------------


class Chain(NamedTuple):
    """What a chain of T sweeps showed. log_prob: log p(x, z, parameters) after each sweep, (T,), nats.
    labels: after each sweep, (T, N), or only the last, (1, N). information: `assignment_information`, (T,).
    """

    log_prob: Tensor
    labels: Tensor
    information: Tensor


class BayesianGMM(nn.Module):
    """The Bayesian mixture with the state of its Gibbs sampler: everything a checkpoint must keep.

    prior: of `components` components. State, as buffers: weights, means, factors (see `GaussianMixture`).
    Before anything is learnt the mixture is the one at the means of the prior.
    """

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        for name in ("alpha", "kappa", "mean", "inverse_scale", "nu"):
            self.register_buffer(f"prior_{name}", getattr(prior, name).clone())
        start = prior.expected()
        for name in ("weights", "means", "factors"):
            self.register_buffer(name, getattr(start, name).clone())

    @property
    def prior(self) -> Prior:
        names = ("alpha", "kappa", "mean", "inverse_scale", "nu")
        return Prior(*(getattr(self, f"prior_{name}") for name in names))

    @property
    def components(self) -> int:
        return len(self.weights)

    @property
    def mixture(self) -> GaussianMixture:
        """The present state: views, which the next sweep changes; `mixture_copy` gives one to keep."""
        return GaussianMixture(self.weights, self.means, self.factors)

    @mixture.setter
    def mixture(self, mixture: GaussianMixture) -> None:
        for name in ("weights", "means", "factors"):
            held, new = getattr(self, name), getattr(mixture, name)
            if held.shape != new.shape:
                raise ValueError(f"{name} of this mixture are {tuple(held.shape)}, but {tuple(new.shape)} came.")
            held.copy_(new)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> BayesianGMM:
        """Follow to another device, and stay float64 where networks become float32 or half.

        Raises ValueError for mps, which has no float64.
        """
        device = fn(self.weights.new_zeros((), dtype=torch.float32)).device
        if device.type == "mps":
            raise ValueError("The mixture is kept in float64, which mps has not: choose the device cpu or cuda.")
        return super()._apply(lambda tensor: tensor.to(device), recurse)

    def draw_labels(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """z_n ~ p(z_n | x_n, parameters), (N, L) → (N,). Equation eq-vg-gibbs-labels."""
        return draw_labels(self.mixture.log_joint(x), generator)

    def draw_parameters(self, x: Tensor, labels: Tensor, generator: torch.Generator) -> None:
        """π, Λ, μ ~ p(· | x, z). Equations eq-vg-gibbs-weights, eq-vg-gibbs-precision, eq-vg-gibbs-mean."""
        self.mixture = self.prior.posterior(moments_of_labels(x, labels, self.components)).sample(generator)

    def sweep(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """All labels, then all parameters; returns the labels, (N,). x: (N, L), float64, is not checked."""
        labels = self.draw_labels(x, generator)
        self.draw_parameters(x, labels, generator)
        return labels

    def start(self, x: Tensor, generator: torch.Generator) -> None:
        """Parameters drawn given the labels of k-means."""
        self.draw_parameters(x, k_means(x, self.components, generator), generator)

    def run(self, x: Tensor, sweeps: int, generator: torch.Generator, keep: bool = False) -> Chain:
        """That many sweeps from the present state. keep: all labels instead of the last ones."""
        if sweeps < 1:
            raise ValueError(f"A chain has at least one sweep, but {sweeps} came.")
        x, history, kept = check_points(x, self.components), [], []
        for _ in range(sweeps):
            labels = self.sweep(x, generator)
            kept.append(labels)
            log_joint = self.mixture.log_joint(x)
            complete = log_joint.gather(1, labels[:, None]).sum() + self.prior.log_prob(self.mixture)
            history.append(torch.stack([complete, assignment_information(log_joint.softmax(1))]))
        log_prob, information = torch.stack(history).unbind(1)
        return Chain(log_prob, torch.stack(kept if keep else kept[-1:]), information)

    def settle(self, x: Tensor, labels: Tensor) -> None:
        """Put the state at the posterior's mean given these labels: what is sent on (eq-vg-plug-in)."""
        self.mixture = self.prior.posterior(moments_of_labels(x, labels, self.components)).expected()

    def fit(self, x: Tensor, generator: torch.Generator, sweeps: int = 40, restarts: int = 10) -> Tensor:
        """Chains from `restarts` k-means++ starts; the state becomes the posterior's mean given the last
        labels of the chain whose assignment carries most information (`assignment_information`): no label is
        looked at.

        x: (N, L). Returns the information of every restart, (restarts,), nats. Raises ValueError as
        `check_points` does, and for sweeps or restarts below 1.
        """
        if sweeps < 1 or restarts < 1:
            raise ValueError(f"At least one sweep and one start are needed; {sweeps} and {restarts} came.")
        x, found, best = check_points(x, self.components), [], None
        for _ in range(restarts):
            self.start(x, generator)
            for _ in range(sweeps):
                labels = self.sweep(x, generator)
            self.settle(x, labels)
            found.append(assignment_information(self.mixture.responsibilities(x)))
            if best is None or found[-1] > max(found[:-1]):
                best = self.mixture_copy()
        self.mixture = best
        return torch.stack(found)

    def mixture_copy(self) -> GaussianMixture:
        """The present state, which later sweeps leave alone."""
        return GaussianMixture(self.weights.clone(), self.means.clone(), self.factors.clone())


def draw_labels(log_joint: Tensor, generator: torch.Generator) -> Tensor:
    """k with probability ∝ exp log_joint[n, k], by the inverse of the distribution function. (N, K) → (N,).

    torch.multinomial does the same with a random number for each component, and takes ten times as long.
    """
    below = (log_joint - log_joint.amax(1, keepdim=True)).exp().cumsum(1)
    uniform = torch.rand(len(below), 1, generator=generator, dtype=below.dtype, device=below.device)
    return (below[:, :-1] <= uniform * below[:, -1:]).sum(1)


def check_points(x: Tensor, components: int) -> Tensor:
    """The points as float64. Raises ValueError for other shapes, NaN, and fewer points than components."""
    if x.dim() != 2 or not x.is_floating_point():
        raise ValueError(f"Points are floating-point numbers of shape (points, L), but {x.dtype} of shape "
                         f"{tuple(x.shape)} came.")
    if len(x) < components:
        raise ValueError(f"{components} components need at least {components} points, but {len(x)} came: "
                         "give more points or fewer components.")
    if not x.isfinite().all():
        row = int((~x.isfinite().all(1)).nonzero()[0])
        raise ValueError(f"Point {row} holds nan or inf: look for an encoder that diverged, or remove it.")
    return x.double()
