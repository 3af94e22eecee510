"""Neural Expectation-Maximization: K slots share an image among them, and a network learns to deal it out.

The file reads as chapter 8 does: EM for a mixture of Bernoullis; the spatial mixture, with one latent slot
for each pixel, and why classical EM cannot group its pixels; the generalised M-step, a gradient step through
a decoder; N-EM, which unrolls that step; RNN-EM, which puts a recurrent network in its place; the loss of
both; the convolutional networks for sequences; and what the training loop needs.

Sources: Dempster, Laird and Rubin (1977) for EM; Greff, van Steenkiste and Schmidhuber, "Neural Expectation
Maximization", NeurIPS 2017 (arXiv:1708.03498) for the spatial mixture, N-EM and RNN-EM. Theirs is the loss
as well, and the start: γ at random, nothing predicted yet.

Images are (batch, height, width) with values in [0, 1]; sequences are (batch, time, height, width). Slots
are the axis after the batch. Log-likelihoods and losses are in nats, summed over pixels and slots, never
averaged over them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from nemlib.evaluate import clustering
from nemlib.training import GradientLearner, available_memory

__all__ = [
    "BernoulliMixture", "ConvolutionalDecoder", "ConvolutionalEncoder", "Grouping", "NeuralEM", "RNNEM",
    "SpatialMixture", "Steps", "bernoulli_log_likelihood", "bernoulli_mixture_em", "copying_loss", "e_step",
    "expected_log_likelihood", "gaussian_log_likelihood", "lower_bound", "m_step_direction", "memory_needed",
    "pixel_em", "random_gamma", "uniform_gamma",
]

INPUTS = ("residual", "difference", "masked", "image")
LIKELIHOODS = ("bernoulli", "gaussian")


# --- 1. EM, and a mixture of Bernoullis ---------------------------------------------------------------------


def e_step(log_likelihood: Tensor, log_prior: Tensor | None = None, floor: float = 0.0) -> Tensor:
    """γ_k = π_k p(x; k) / Σ_j π_j p(x; j): how much of each datum every component or slot answers for.

    log_likelihood: log p(x; k) in nats, (batch, K, …); log_prior: log π_k, of a shape that broadcasts; None
    for equal weights. floor: added to each π_k p before they are normalised; the authors of N-EM use 1e-6,
    and with it a pixel that all slots think impossible is shared evenly. Returns (batch, K, …), of sum 1
    over axis 1. Equations eq-nem-e-step, eq-nem-bernoulli-e-step and eq-nem-responsibility.
    Raises ValueError for a tensor without an axis of slots.
    """
    if log_likelihood.dim() < 2:
        raise ValueError("log_likelihood has shape (batch, K, …), with the slots on axis 1; "
                         f"{tuple(log_likelihood.shape)} came.")
    log_joint = log_likelihood if log_prior is None else log_likelihood + log_prior
    if floor == 0:
        return torch.softmax(log_joint, 1)
    joint = log_joint.exp() + floor
    return joint / joint.sum(1, keepdim=True)


def lower_bound(log_joint: Tensor, q: Tensor) -> Tensor:
    """ℒ(q) = Σ_z q(z) log [p(x, z) / q(z)], nats: never above log p(x). Equation eq-nem-bound.

    log_joint: log p(x, z), (batch, K); q: (batch, K), of sum 1. Returns (batch,). Neal and Hinton (1998).
    """
    return (torch.where(q > 0, q * log_joint, 0.0) - torch.xlogy(q, q)).sum(1)


@dataclass(frozen=True)
class BernoulliMixture:
    """p(x) = Σ_k π_k Π_i μ_ki^x_i (1 − μ_ki)^(1 − x_i): K prototypes of binary vectors.

    weights: π, (K,), of sum 1. means: μ, (K, D), in [0, 1]. Equation eq-nem-bernoulli.
    """

    weights: Tensor
    means: Tensor

    def log_joint(self, x: Tensor) -> Tensor:
        """log π_k + log p(x; k), nats. x: (N, D) → (N, K)."""
        on, off = (x[:, None] * _log(self.means)), (1 - x[:, None]) * _log(1 - self.means)
        return (on + off).sum(-1) + _log(self.weights)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), nats. (N, D) → (N,)."""
        return torch.logsumexp(self.log_joint(x), 1)

    def responsibilities(self, x: Tensor) -> Tensor:
        """γ_nk, (N, D) → (N, K). Equation eq-nem-bernoulli-e-step."""
        return e_step(self.log_joint(x))

    def m_step(self, x: Tensor, gamma: Tensor) -> BernoulliMixture:
        """The mixture that maximises the expected complete log-likelihood. Equation eq-nem-bernoulli-m-step.

        x: (N, D); gamma: (N, K). A component that answers for nothing keeps its mean.
        """
        share = gamma.sum(0)
        means = torch.where(share[:, None] > 0, gamma.T @ x / share[:, None], self.means)
        return BernoulliMixture(share / len(x), means.clamp(0, 1))      # a sum of ones may round to more


def _log(probability: Tensor) -> Tensor:
    """log p; where p is 0 a number so low that 0 · log 0 is 0 and no sum overflows."""
    return probability.log().clamp(min=-1e30)


def bernoulli_mixture_em(
    x: Tensor, slots: int, iterations: int, generator: torch.Generator, start: BernoulliMixture | None = None
) -> tuple[BernoulliMixture, Tensor]:
    """EM for a mixture of Bernoullis.

    x: (N, D) of 0 and 1. slots: K. start: where to begin; None takes equal weights and means drawn uniformly
    from [¼, ¾]. Returns the mixture and the log-likelihood of all data before each iteration and after the
    last, (iterations + 1,), in nats: it never falls (thm-nem-monotone).
    Raises ValueError for K or iterations below 1 and for values outside [0, 1].
    """
    _check_count("slots", slots)
    _check_count("iterations", iterations)
    if x.dim() != 2:
        raise ValueError(f"x has shape (N, D); {tuple(x.shape)} came.")
    _check_unit_range(x)
    if start is None:
        drawn = torch.rand(slots, x.shape[1], generator=generator, dtype=x.dtype, device=x.device)
        start = BernoulliMixture(x.new_full((slots,), 1 / slots), 0.25 + 0.5 * drawn)
    mixture, climb = start, [start.log_prob(x).sum()]
    for _ in range(iterations):
        mixture = mixture.m_step(x, mixture.responsibilities(x))
        climb.append(mixture.log_prob(x).sum())
    return mixture, torch.stack(climb)


# --- 2. The spatial mixture: one latent slot for each pixel -------------------------------------------------


def bernoulli_log_likelihood(x: Tensor, logits: Tensor) -> Tensor:
    """log p(x; ψ) = x a − log(1 + eᵃ) with ψ = σ(a), nats per pixel; the shapes broadcast.

    Working on the logits a keeps it finite where ψ rounds to 0 or 1.
    """
    return x * logits - softplus(logits)


def gaussian_log_likelihood(x: Tensor, psi: Tensor, sigma: float) -> Tensor:
    """log 𝒩(x; ψ, σ²), nats per pixel; the shapes broadcast."""
    return -0.5 * ((x - psi) / sigma) ** 2 - math.log(sigma * math.sqrt(2 * math.pi))


def softplus(a: Tensor) -> Tensor:
    """log(1 + eᵃ), exact to float64 (PyTorch's own gives a for a > 20, which is 2e-9 off)."""
    return F.softplus(a, threshold=40.0)


def expected_log_likelihood(gamma: Tensor, log_likelihood: Tensor) -> Tensor:
    """Σ_i Σ_k γ_ik log p(x_i; ψ_ik), nats: the part of Q(θ; γ) that depends on θ. Equation eq-nem-expected.

    Both (batch, K, …); returns (batch,).
    """
    return torch.linalg.vecdot(gamma.flatten(1), log_likelihood.flatten(1))


def uniform_gamma(
    batch: int, slots: int, height: int, width: int, dtype: torch.dtype | None = None
) -> Tensor:
    """γ = 1/K everywhere: the start from which no slot can ever differ from another.

    Returns (batch, K, height, width).
    """
    _check_count("slots", slots)
    return torch.full((batch, slots, height, width), 1 / slots, dtype=dtype)


def random_gamma(
    batch: int, slots: int, height: int, width: int, generator: torch.Generator,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """|N(0, 1)| for each slot and pixel, normalised over the slots: all that tells the slots apart.

    Returns (batch, K, height, width) on the generator's device. Greff et al. (2017), their code.
    """
    _check_count("slots", slots)
    shape, place = (batch, slots, height, width), generator.device
    drawn = torch.randn(shape, generator=generator, device=place, dtype=dtype).abs_()
    return drawn / drawn.sum(1, keepdim=True)


def pixel_em(images: Tensor, gamma: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Classical EM on the spatial mixture with a ψ of its own for each slot and pixel. Equation
    eq-nem-pixel-em.

    images: (batch, height, width); gamma: the start, (batch, K, height, width). The M-step sets ψ_ik to the
    weighted mean of the one pixel that it explains, x_i; so all slots agree after one iteration, and γ is
    1/K. Returns γ after each iteration, (iterations + 1, batch, K, height, width), and ψ, (iterations, …).
    """
    _check_gamma(gamma, images)
    x, gammas, psis = images[:, None], [gamma], []
    psi = torch.full_like(gamma, 0.5)
    for _ in range(iterations):
        psi = torch.where(gammas[-1] > 0, gammas[-1] * x / gammas[-1].clamp(min=1e-300), psi)
        psis.append(psi)
        gammas.append(e_step(x * _log(psi) + (1 - x) * _log(1 - psi)))
    return torch.stack(gammas), torch.stack(psis)


# --- 3. The generalised M-step ------------------------------------------------------------------------------


def m_step_direction(
    theta: Tensor, gamma: Tensor, x: Tensor, decode: Callable[[Tensor], Tensor], sigma: float | None = None
) -> Tensor:
    """∂Q/∂θ_k = Σ_i γ_ik (x_i − ψ_ik) ∂a_ik/∂θ_k, for any decoder θ → a, with γ held fixed.

    theta: (batch, K, H); gamma: (batch, K, D); x: (batch, D); decode: (batch, K, H) → (batch, K, D). With
    `sigma` the pixels are Gaussian: Σ_i γ_ik (x_i − ψ_ik)/σ² ∂ψ_ik/∂θ_k. Returns (batch, K, H).
    Equations eq-nem-gradient and eq-nem-gradient-gaussian.
    """
    with torch.enable_grad():
        theta = theta.detach().requires_grad_()
        output = decode(theta)
    residual = x[:, None] - (output.sigmoid() if sigma is None else output)
    scale = 1.0 if sigma is None else sigma**-2
    return torch.autograd.grad(output, theta, (scale * gamma * residual).detach())[0]


# --- 4. Unrolled: what N-EM and RNN-EM share ----------------------------------------------------------------


@dataclass(frozen=True)
class Steps:
    """A run of T steps; index 0 of γ, ψ and θ is the start, index t what step t left.

    gamma: responsibilities, (T + 1, batch, K, height, width). psi: predictions, the same; psi[0] is 0,
    nothing predicted yet. theta: (T + 1, batch, K, hidden). reconstruction, kl, loss: (T, batch), nats.
    prediction: (T, batch), −Σ_i log Σ_k γ_ik p(x_i; ψ_ik) with the γ of the step before: in a sequence, how
    badly frame t + 1 was foretold before it was seen.
    """

    gamma: Tensor
    psi: Tensor
    theta: Tensor
    reconstruction: Tensor
    kl: Tensor
    loss: Tensor
    prediction: Tensor


@dataclass(frozen=True)
class State:
    """Between two steps, flat: theta (batch, K, hidden); psi, gamma (batch, K, pixels)."""

    theta: Tensor
    psi: Tensor
    gamma: Tensor
    reconstruction: Tensor | None = None      # (batch,), of the step that led here
    kl: Tensor | None = None                  # (batch,)
    log_likelihood: Tensor | None = None      # (batch, K, pixels)


class SpatialMixture(nn.Module):
    """An image as a mixture in every pixel, p(x) = Π_i Σ_k p(x_i; ψ_ik)/K, with ψ_k = f(θ_k) (eq-nem-spatial,
    eq-nem-decoder).

    The slots share all weights and differ in θ only; permute the slots of the start and those of every later
    step are permuted alike. A child says what a decoder is (`decode`) and how θ moves (`update`).

    height, width: of the images. hidden: H, numbers in a slot's θ.
    likelihood: "bernoulli", ψ = σ(a), or "gaussian", ψ = a. sigma_e, sigma_loss: the Gaussian's standard
        deviation in the E-step and in the loss; the authors' code has .25 and 1.
    prior: p₀, what a slot should predict where it is not responsible. kl_weight: weight of that second term.
    noise: of the image that the network sees, drawn anew each step: the probability that a binary pixel
        flips, or that a Gaussian one is replaced by a uniform number. The E-step and the loss see it clean.
    theta_noise: standard deviation of a normal number that training adds to θ before it is decoded, anew in
        each step: a bottleneck that does not depend on H. Never outside of training.
    inputs: what goes into the update: "residual" γ(ψ − x), "difference" ψ − x, "masked" γx, "image" x.
    gradient_through_gamma: whether training differentiates γ; the authors do for static images only.
    floor: see `e_step`.
    """

    def __init__(
        self, height: int, width: int, hidden: int, *, likelihood: str = "bernoulli", sigma_e: float = 0.25,
        sigma_loss: float = 1.0, prior: float = 0.0, kl_weight: float = 1.0, noise: float = 0.1,
        theta_noise: float = 0.0, inputs: str = "residual", gradient_through_gamma: bool = True, floor: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value in (("height", height), ("width", width), ("hidden", hidden)):
            _check_count(name, value)
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"likelihood is {likelihood!r}, but must be one of {LIKELIHOODS}.")
        if inputs not in INPUTS:
            raise ValueError(f"inputs is {inputs!r}, but must be one of {INPUTS}.")
        if not 0 <= noise < 1 or not 0 <= prior < 1 or theta_noise < 0:
            raise ValueError(f"noise and prior lie in [0, 1), theta_noise is not negative; {noise}, {prior} and "
                             f"{theta_noise} came.")
        self.height, self.width, self.hidden = height, width, hidden
        self.likelihood, self.sigma_e, self.sigma_loss = likelihood, sigma_e, sigma_loss
        self.prior, self.kl_weight, self.noise, self.inputs = prior, kl_weight, noise, inputs
        self.theta_noise = theta_noise
        self.gradient_through_gamma, self.floor = gradient_through_gamma, floor

    @property
    def pixels(self) -> int:
        return self.height * self.width

    def decode(self, theta: Tensor) -> Tensor:
        """a = f(θ): logits of ψ, or ψ itself if Gaussian. (batch, K, hidden) → (batch, K, pixels)."""
        raise NotImplementedError

    def update(self, theta: Tensor, signal: Tensor) -> Tensor:
        """The M-step: the new θ from the old one and what `inputs` names, (batch, K, pixels)."""
        raise NotImplementedError

    def forward(
        self, images: Tensor, slots: int = 4, steps: int | None = None,
        generator: torch.Generator | None = None, noise: float | None = None, start: Tensor | None = None,
    ) -> Steps:
        """Run EM with this network's M-step.

        images: (batch, height, width), seen again in every step; or (batch, time, height, width), where
            step t sees frame t, and predicts and is judged on frame t + 1.
        slots: K, any number of at least 1, whatever the network was trained with.
        steps: T; 15 for images and time − 1 for sequences if not given.
        generator: for the start of γ and for noise, on the images' device. noise: None for no noise.
        start: γ to begin with, (batch, K, height, width); None draws it (`random_gamma`).
        Raises ValueError for images of another size or outside [0, 1], K or T below 1, more steps than
        frames; MemoryError, with the size, where the run would not fit.
        """
        images, steps = self._checked(images, slots, steps)
        self._check_memory(images, slots, steps)
        states = list(self.unroll(images, slots, steps, generator, noise or 0.0, start))
        shape = (steps + 1, len(images), slots, self.height, self.width)
        reconstruction = torch.stack([state.reconstruction for state in states[1:]])
        kl = torch.stack([state.kl for state in states[1:]])
        return Steps(
            torch.stack([state.gamma for state in states]).view(shape),
            torch.stack([state.psi for state in states]).view(shape),
            torch.stack([state.theta for state in states]), reconstruction, kl,
            reconstruction + self.kl_weight * kl,
            torch.stack([_prediction(before.gamma, after.log_likelihood)
                         for before, after in zip(states, states[1:])]))

    def loss(
        self, images: Tensor, slots: int, steps: int | None, generator: torch.Generator,
        weighting: str | Tensor = "mean",
    ) -> dict[str, Tensor]:
        """What training lowers, nats per image: "loss", and its two terms "reconstruction" and "kl".

        weighting: of the steps, "mean", "last", or weights (T,). The arguments are as in `forward`; the
        network sees noise. The images are not looked at: check them once with `check_images`.
        """
        steps = steps or (15 if images.dim() == 3 else images.shape[1] - 1)
        weights = step_weights(weighting, steps)
        totals = {"reconstruction": 0.0, "kl": 0.0}
        states = self.unroll(images, slots, steps, generator, self.noise, None, self.theta_noise)
        next(states)
        for weight, state in zip(weights, states, strict=True):
            if weight:
                totals["reconstruction"] = totals["reconstruction"] + weight * state.reconstruction.mean()
                totals["kl"] = totals["kl"] + weight * state.kl.mean()
        return {"loss": totals["reconstruction"] + self.kl_weight * totals["kl"]} | totals

    def unroll(
        self, images: Tensor, slots: int, steps: int, generator: torch.Generator | None, noise: float,
        start: Tensor | None, theta_noise: float = 0.0,
    ) -> Iterator[State]:
        """The start and then the state after each step, one at a time (arguments as in `forward`)."""
        if start is not None:
            _check_gamma(start, images if images.dim() == 3 else images[:, 0], slots)
        elif generator is None:
            raise ValueError("The start of γ is drawn at random: pass a generator, or a start.")
        if start is None:
            start = random_gamma(len(images), slots, self.height, self.width, generator, images.dtype)
        state = self.begin(start.to(images).flatten(2))
        yield state
        flat = images.flatten(-2)
        for t in range(steps):
            seen, target = (flat, flat) if images.dim() == 3 else (flat[:, t], flat[:, t + 1])
            jitter = None
            if theta_noise:
                jitter = theta_noise * torch.randn(state.theta.shape, generator=generator, dtype=flat.dtype,
                                                   device=flat.device)
            state = self.step(state, self.corrupt(seen, noise, generator), target, jitter)
            yield state

    def begin(self, gamma: Tensor) -> State:
        """θ = 0 in all slots and ψ = 0, nothing predicted yet. gamma: (batch, K, pixels)."""
        return State(gamma.new_zeros(*gamma.shape[:2], self.hidden), torch.zeros_like(gamma), gamma)

    def step(self, state: State, seen: Tensor, target: Tensor, jitter: Tensor | None = None) -> State:
        """One M-step of the network on `seen`, one E-step on `target`; both (batch, pixels).

        jitter: added to θ for the decoder's eyes only, (batch, K, hidden).
        """
        theta = self.update(state.theta, self.signal(state, seen[:, None]))
        output = self.decode(theta if jitter is None else theta + jitter)
        x = target[:, None]
        if self.likelihood == "bernoulli":
            psi, silent = output.sigmoid(), softplus(output)
            log_likelihood = x * output - silent
            gamma = self._gamma(log_likelihood)
            reconstruction, kl = _bernoulli_losses(output, silent, log_likelihood, gamma, self.prior)
        else:
            psi, log_likelihood = output, gaussian_log_likelihood(x, output, self.sigma_e)
            gamma = self._gamma(log_likelihood)
            reconstruction, kl = gaussian_losses(x, output, gamma, self.prior, self.sigma_loss)
        return State(theta, psi, gamma, reconstruction, kl, log_likelihood)

    def signal(self, state: State, x: Tensor) -> Tensor:
        """What the update is given, (batch, K, pixels). x: (batch, 1, pixels)."""
        if self.inputs == "residual":
            return state.gamma * (state.psi - x)
        if self.inputs == "difference":
            return state.psi - x
        return state.gamma * x if self.inputs == "masked" else x.expand_as(state.gamma)

    def _gamma(self, log_likelihood: Tensor) -> Tensor:
        gamma = e_step(log_likelihood, floor=self.floor)
        return gamma if self.gradient_through_gamma else gamma.detach()

    def corrupt(self, x: Tensor, noise: float, generator: torch.Generator | None) -> Tensor:
        """The noisy image that the network sees. (batch, pixels) → the same, a new tensor if noise > 0."""
        if not noise:
            return x
        if generator is None:
            raise ValueError("Noise is drawn at random: pass a generator.")
        hit = torch.rand(x.shape, generator=generator, device=x.device) < noise
        if self.likelihood == "bernoulli":
            return (x - hit.to(x)).abs()
        return torch.where(hit, torch.rand(x.shape, generator=generator, device=x.device).to(x), x)

    def check_images(self, images: Tensor) -> None:
        """Raises ValueError for images of another size, or outside [0, 1]."""
        if images.dim() not in (3, 4) or images.shape[-2:] != (self.height, self.width):
            raise ValueError(f"Images have shape (batch, {self.height}, {self.width}), or with time on axis 1; "
                             f"{tuple(images.shape)} came.")
        _check_unit_range(images)

    def _checked(self, images: Tensor, slots: int, steps: int | None) -> tuple[Tensor, int]:
        self.check_images(images)
        _check_count("slots", slots)
        available = None if images.dim() == 3 else images.shape[1] - 1
        steps = (15 if available is None else available) if steps is None else steps
        if available is None or available >= 1:
            _check_count("steps", steps)
        if available is not None and not 1 <= steps <= available:
            raise ValueError(f"A sequence of {images.shape[1]} frames has {available} next frames to predict; "
                             f"{steps} steps were asked for.")
        return images, steps

    def _check_memory(self, images: Tensor, slots: int, steps: int) -> None:
        gradients = torch.is_grad_enabled() and any(weight.requires_grad for weight in self.parameters())
        needed = memory_needed(len(images), slots, steps, self.height, self.width, self.hidden,
                               gradients=gradients, bytes_each=images.element_size())
        free = available_memory(images.device)
        if free is not None and needed > free:
            raise MemoryError(f"{steps} steps of {len(images)} images with {slots} slots would take about "
                              f"{needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free: take fewer images "
                              "at a time, or fewer steps.")


def _prediction(gamma: Tensor, log_likelihood: Tensor) -> Tensor:
    """−Σ_i log Σ_k γ_ik p(x_i; ψ_ik), nats, (batch,); both (batch, K, pixels)."""
    return -torch.logsumexp(_log(gamma) + log_likelihood, 1).sum(1)


def memory_needed(
    batch: int, slots: int, steps: int, height: int, width: int, hidden: int, *, gradients: bool = False,
    bytes_each: int = 4,
) -> int:
    """Bytes that `forward` takes at its peak, about.

    Each step leaves γ, ψ and the log-likelihoods, and they are stacked once; with gradients autograd keeps
    some more of that size. Everything else is small beside it.
    """
    maps = batch * slots * height * width * bytes_each
    kept = (9 if gradients else 3) * steps + 2 * (steps + 1) + 6
    return kept * maps + 2 * (steps + 1) * batch * slots * hidden * bytes_each


# --- 5. The loss --------------------------------------------------------------------------------------------


def bernoulli_losses(x: Tensor, logits: Tensor, gamma: Tensor, prior: float = 0.0) -> tuple[Tensor, Tensor]:
    """Σ_i Σ_k −γ_ik log p(x_i; ψ_ik) and Σ_i Σ_k (1 − γ_ik) KL(p₀ ‖ ψ_ik), nats.

    With p₀ = 0 the divergence is −log(1 − ψ), the softplus of the logits, and the sum of both terms is
    Σ_ik softplus(a_ik) − Σ_i x_i Σ_k γ_ik a_ik. x: (batch, 1, pixels); logits, gamma: (batch, K, pixels).
    Returns two (batch,). Equations eq-nem-loss, eq-nem-kl and eq-nem-loss-logits.
    """
    silent = softplus(logits)
    return _bernoulli_losses(logits, silent, x * logits - silent, gamma, prior)


def _bernoulli_losses(
    logits: Tensor, silent: Tensor, log_likelihood: Tensor, gamma: Tensor, prior: float
) -> tuple[Tensor, Tensor]:
    """The same from softplus(a) and log p(x; ψ), which the E-step has computed already."""
    reconstruction = -expected_log_likelihood(gamma, log_likelihood)
    divergence = silent
    if prior:
        entropy = -(prior * math.log(prior) + (1 - prior) * math.log(1 - prior))
        divergence = silent - prior * logits - entropy
    return reconstruction, expected_log_likelihood(1 - gamma, divergence)


def gaussian_losses(
    x: Tensor, psi: Tensor, gamma: Tensor, prior: float = 0.0, sigma: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The two terms for Gaussian pixels: the divergence is (ψ − p₀)²/(2σ²). Shapes as for Bernoulli pixels."""
    reconstruction = -(gamma * gaussian_log_likelihood(x, psi, sigma)).flatten(1).sum(1)
    kl = ((1 - gamma) * (psi - prior) ** 2 / (2 * sigma**2)).flatten(1).sum(1)
    return reconstruction, kl


def copying_loss(x: Tensor, owners: Tensor, slots: int, confidence: float) -> Tensor:
    """The loss where slot owners_i predicts pixel i with logit ±c and every other slot is silent, logit −c.

    x: (batch, D) of 0 and 1; owners: (batch, D), any division of the pixels among the slots, also the one in
    which a single slot copies the image; confidence: c > 0. The value does not depend on the division, and
    falls to 0 as c grows. Returns (batch,), nats. Equation eq-nem-copy.
    """
    mine = F.one_hot(owners, slots).transpose(1, 2).to(x)                  # (batch, K, D)
    logits = confidence * (2 * mine * x[:, None] - 1)
    gamma = e_step(bernoulli_log_likelihood(x[:, None], logits))
    return sum(bernoulli_losses(x[:, None], logits, gamma))


def step_weights(weighting: str | Tensor, steps: int) -> list[float]:
    """The weight of each step in the loss. Raises ValueError for another word or another number of weights."""
    if isinstance(weighting, str):
        if weighting not in ("mean", "last"):
            raise ValueError(f"weighting is {weighting!r}, but must be 'mean', 'last' or a weight for each step.")
        return [1 / steps] * steps if weighting == "mean" else [0.0] * (steps - 1) + [1.0]
    weights = torch.as_tensor(weighting, dtype=torch.float64).tolist()
    if not isinstance(weights, list) or len(weights) != steps:
        raise ValueError(f"weighting has shape ({steps},), a weight for each step; {weighting} came.")
    return weights


# --- 6. N-EM: the gradient step itself ----------------------------------------------------------------------


class NeuralEM(SpatialMixture):
    """N-EM: the M-step is the gradient step through the decoder a = W σ(θ) + b, with W learnt.

    θ ← θ + η σ'(θ) ⊙ Wᵀ(γ ⊙ (x − ψ)): the encoder is the decoder's transpose. η is learnt, as exp of a
    parameter. Bernoulli pixels, or Gaussian ones, where the step is divided by σ². Equation eq-nem-tied;
    Greff et al. (2017), section 3.1. The arguments are those of `SpatialMixture`; `inputs` must be
    "residual", since another input would not be a gradient.
    """

    def __init__(
        self, height: int, width: int, hidden: int = 250, *, step_size: float = 0.1, output_bias: float = -2.0,
        **options: object,
    ) -> None:
        super().__init__(height, width, hidden, **options)
        if self.inputs != "residual":
            raise ValueError(f"N-EM's step is a gradient, whose input is the residual; {self.inputs!r} came.")
        if not step_size > 0:
            raise ValueError(f"step_size must be above 0, and {step_size} came.")
        self.decoder = nn.Linear(hidden, self.pixels)
        nn.init.constant_(self.decoder.bias, output_bias)
        self.log_step_size = nn.Parameter(torch.tensor(math.log(step_size)))

    def begin(self, gamma: Tensor) -> State:
        """θ = 0 and its own ψ, equal in all slots: a gradient needs the ψ that belongs to θ."""
        theta = gamma.new_zeros(*gamma.shape[:2], self.hidden)
        output = self.decode(theta)
        return State(theta, output.sigmoid() if self.likelihood == "bernoulli" else output, gamma)

    def decode(self, theta: Tensor) -> Tensor:
        return self.decoder(theta.sigmoid())

    def update(self, theta: Tensor, signal: Tensor) -> Tensor:
        return theta + self.log_step_size.exp() * self.direction(theta, signal)

    def direction(self, theta: Tensor, signal: Tensor) -> Tensor:
        """∂Q/∂θ from signal γ(ψ − x): −σ'(θ) ⊙ Wᵀ signal, over σ² if Gaussian. Equation eq-nem-tied."""
        activation = theta.sigmoid()
        pulled = activation * (1 - activation) * (signal @ self.decoder.weight)
        return -pulled if self.likelihood == "bernoulli" else -pulled / self.sigma_e**2


# --- 7. RNN-EM: a recurrent network in its place ------------------------------------------------------------


class RNNEM(SpatialMixture):
    """RNN-EM: θ ← σ(V u + R θ + c) with u = γ(ψ − x), and a = W θ + b; nothing ties V to W.

    Equation eq-nem-rnn; Greff et al. (2017), section 3.2. In place of the fully connected layers any modules
    may be given: encoder (N, pixels) → (N, hidden); recurrence (N, hidden) → (N, hidden); decoder
    (N, hidden) → (N, pixels). activation: after their sum, (N, hidden) → (N, hidden). output_bias: where the
    default decoder's bias begins; −2 is near the logit of the share of ink, and saves a plateau at the start.
    The other arguments are those of `SpatialMixture`.
    """

    def __init__(
        self, height: int, width: int, hidden: int = 48, *, encoder: nn.Module | None = None,
        recurrence: nn.Module | None = None, decoder: nn.Module | None = None,
        activation: nn.Module | None = None, output_bias: float = -2.0, **options: object,
    ) -> None:
        super().__init__(height, width, hidden, **options)
        self.encoder = encoder or nn.Linear(self.pixels, hidden, bias=False)
        self.recurrence = recurrence or nn.Linear(hidden, hidden)
        self.activation = activation or nn.Sigmoid()
        self.decoder = decoder or nn.Linear(hidden, self.pixels)
        if decoder is None:
            nn.init.constant_(self.decoder.bias, output_bias)

    def decode(self, theta: Tensor) -> Tensor:
        return self.decoder(theta.flatten(0, 1)).unflatten(0, theta.shape[:2])

    def update(self, theta: Tensor, signal: Tensor) -> Tensor:
        seen = self.encoder(signal.flatten(0, 1)) + self.recurrence(theta.flatten(0, 1))
        return self.activation(seen).unflatten(0, theta.shape[:2])


class ConvolutionalEncoder(nn.Module):
    """Pixels to features for sequences: convolutions 4 × 4 with stride 2, ELU and layer norm, then two layers.

    channels: of the convolutions; features: of the hidden layer; hidden: numbers that come out. The input is
    flat, (N, height · width); the output (N, hidden). Greff et al. (2017), appendix, as in their code.
    """

    def __init__(
        self, height: int, width: int, hidden: int, channels: tuple[int, ...] = (32, 64), features: int = 512
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Unflatten(1, (1, height, width))]
        for before, after in zip((1, *channels), channels):
            height, width = -(-height // 2), -(-width // 2)
            layers += [SameConvolution(before, after, stride=2), nn.ELU(),
                       nn.LayerNorm([after, height, width])]
        self.layers = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(channels[-1] * height * width, features), nn.ELU(),
            nn.LayerNorm(features), nn.Linear(features, hidden))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.layers(pixels)


class ConvolutionalDecoder(nn.Module):
    """Features to pixels, the encoder mirrored: two layers, then "resize-convolutions": double the size by
    copying, and convolve 4 × 4 (Odena et al. 2016: no chequerboard). (N, hidden) → (N, height · width).

    Where a size is odd on the way, the doubled picture is cut to it. output_bias: of the last convolution.
    """

    def __init__(
        self, height: int, width: int, hidden: int, channels: tuple[int, ...] = (32, 64), features: int = 512,
        output_bias: float = -2.0,
    ) -> None:
        super().__init__()
        sizes = [(height, width)]
        for _ in channels:
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        down = (1, *channels)
        top = (channels[-1], *sizes[-1])
        layers: list[nn.Module] = [
            nn.Linear(hidden, features), nn.ELU(), nn.LayerNorm(features), nn.Linear(features, math.prod(top)),
            nn.ELU(), nn.LayerNorm(math.prod(top)), nn.Unflatten(1, top)]
        for stage in range(len(channels), 0, -1):
            layers += [nn.Upsample(size=sizes[stage - 1]), SameConvolution(down[stage], down[stage - 1])]
            if stage > 1:
                layers += [nn.ELU(), nn.LayerNorm([down[stage - 1], *sizes[stage - 1]])]
        nn.init.constant_(layers[-1].bias, output_bias)
        self.layers = nn.Sequential(*layers, nn.Flatten())

    def forward(self, theta: Tensor) -> Tensor:
        return self.layers(theta)


class SameConvolution(nn.Conv2d):
    """A convolution 4 × 4 whose output has the input's size, divided by the stride and rounded up."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__(before, after, 4, stride)

    def forward(self, x: Tensor) -> Tensor:
        padding = []
        for size in (x.shape[-1], x.shape[-2]):
            total = max(0, (-(-size // self.stride[0]) - 1) * self.stride[0] + 4 - size)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(x, padding))


# --- 8. What the training loop needs ------------------------------------------------------------------------


class Grouping(GradientLearner):
    """Training of an N-EM or RNN-EM, and what its grouping is worth.

    Training data: images (N, height, width), or sequences. Evaluation data: a mapping of "images" and
    "groups"; groups (N, height, width), or with time on axis 1, 0 for background and overlap.
    slots, steps, weighting: of training. evaluation_slots, evaluation_steps: of evaluation; None: as in
    training for sequences, 15 steps for images. evaluation_batch: images at a time.
    """

    def __init__(
        self, model: SpatialMixture, optimizer: Optimizer, *, slots: int = 4, steps: int | None = 6,
        weighting: str | Tensor = "mean", scheduler: LRScheduler | None = None, clip_norm: float | None = None,
        evaluation_slots: int | None = None, evaluation_steps: int | None = None, evaluation_batch: int = 250,
    ) -> None:
        def loss(model: SpatialMixture, images: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
            return model.loss(images, slots, steps, generator, weighting)

        super().__init__(model, loss, optimizer, scheduler=scheduler, clip_norm=clip_norm)
        self.slots, self.steps, self.weighting = slots, steps, weighting
        self.evaluation_slots = evaluation_slots or slots
        self.evaluation_steps, self.evaluation_batch = evaluation_steps, evaluation_batch

    def begin_epoch(self, context) -> None:
        if context.epoch == 1:
            self.module.check_images(context.data)

    def evaluate(self, data: Mapping[str, Tensor] | None, context) -> dict[str, Tensor]:
        """Mean over the images of the last step's loss and scores (for sequences the mean over the steps)."""
        if data is None:
            return {}
        found = grouping_scores(self.module, data["images"], data["groups"], self.evaluation_slots,
                                self.evaluation_steps, context.generator, self.evaluation_batch)
        return {name: values.nanmean() for name, values in found.items()}


@torch.no_grad()
def grouping_scores(
    model: SpatialMixture, images: Tensor, groups: Tensor, slots: int, steps: int | None,
    generator: torch.Generator, batch_size: int = 250, noise: float = 0.0,
) -> dict[str, Tensor]:
    """For each image the loss of the last step, in nats, and the scores of its argmax of γ. Each (N,).

    For sequences, (N, time, …), the means over the steps, with γ of step t compared with the groups of the
    frame that it has explained, t + 1; and "prediction", the loss on the next frame before it is seen.
    Raises ValueError where groups have another shape than the images.
    """
    if groups.shape != images.shape:
        raise ValueError(f"images and groups have one shape; {tuple(images.shape)} and {tuple(groups.shape)} "
                         "came.")
    parts = []
    for start in range(0, len(images), batch_size):
        rows = slice(start, start + batch_size)
        run = model(images[rows], slots, steps, generator, noise)
        if images.dim() == 3:
            found = {"loss": run.loss[-1]}
            found |= vars(clustering.scores(clustering.labels_of(run.gamma[-1]), groups[rows]))
        else:
            found = {"loss": run.loss.mean(0), "prediction": run.prediction.mean(0)}
            found |= _sequence_scores(run.gamma[1:], groups[rows, 1:len(run.gamma)])
        parts.append(found)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _sequence_scores(gamma: Tensor, groups: Tensor) -> dict[str, Tensor]:
    """Scores frame by frame, then their mean over time. gamma: (T, batch, K, …); groups: (batch, T, …)."""
    labels = clustering.labels_of(gamma.flatten(0, 1))
    found = clustering.scores(labels, groups.transpose(0, 1).flatten(0, 1))
    return {name: values.view(gamma.shape[:2]).nanmean(0) for name, values in vars(found).items()}


# --- checks ---------------------------------------------------------------------------------------------------


def _check_count(name: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, but {value!r} came.")


def _check_unit_range(images: Tensor) -> None:
    low, high = images.aminmax()
    if not (low >= 0 and high <= 1):                       # NaN fails as well
        raise ValueError(f"Pixels lie in [0, 1]; the smallest that came is {low.item():g}, the largest "
                         f"{high.item():g}: scale the images first.")


def _check_gamma(gamma: Tensor, images: Tensor, slots: int | None = None) -> None:
    expected = (len(images), slots if slots is not None else gamma.shape[1] if gamma.dim() == 4 else "K",
                *images.shape[-2:])
    if tuple(gamma.shape) != expected:
        raise ValueError(f"γ has shape {expected}, and {tuple(gamma.shape)} came.")
    if not ((gamma >= 0).all() and torch.allclose(gamma.sum(1), gamma.new_ones(()), atol=1e-4)):
        raise ValueError("γ must not be negative and must sum to 1 over the slots.")
