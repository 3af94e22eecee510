"""Variational autoencoders: a decoder p(x | z), a prior p(z), and an encoder q(z | x) that stands in for the
posterior nobody can compute.

The file reads as chapter 4 does: diagonal Gaussians and their divergence; priors, which can be exchanged;
pixels given the decoder's output; the machine with its bounds, samples and what its units do; paths through
the latent space; probabilistic PCA, where everything is known exactly; and at the end learning.

    with seeded(0):
        vae = VAE(fully_connected([784, 400, 40]), fully_connected([20, 400, 784]), latent=20)
    learner = VariationalLearner(vae, torch.optim.Adam(vae.parameters(), 1e-3))
    train(learner, grey_images, TrainingSettings(epochs=10, batch_size=100))

Sources: Kingma and Welling (2014), Rezende, Mohamed and Wierstra (2014) for the model and its gradient; Burda,
Grosse and Salakhutdinov (2016) for importance-weighted bounds and active units; Hoffman and Johnson (2016) for
the parts of the divergence; Tipping and Bishop (1999) for probabilistic PCA.

Images x are (batch, pixels), latent variables z (batch, latent) or (count, batch, latent). Everything that
begins with log_, bounds and divergences are in nats, summed over pixels and units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nemlib.evaluate import likelihood
from nemlib.networks import fully_connected
from nemlib.training import Context, Learner

__all__ = [
    "VAE", "ActiveUnits", "BernoulliPixels", "Elbo", "Gaussian", "GaussianPixels", "GivenPrior", "MixturePrior",
    "Objective", "ProbabilisticPCA", "StandardNormal", "Surgery", "VariationalLearner", "spherical", "straight",
    "vae_784",
]

LOG_TWO_PI = math.log(2 * math.pi)


# --- diagonal Gaussians ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gaussian:
    """N(mean, diag e^log_variance), one in each row: mean and log_variance are (..., latent).

    Where σ is smaller than the rounding of μ, a draw is μ itself, and log_prob of it is not to be believed.
    """

    mean: Tensor
    log_variance: Tensor

    def sample(self, generator: torch.Generator, count: int | None = None) -> Tensor:
        """z = μ + σ ε with ε ~ N(0, I), so that gradients reach μ and σ. Equation eq-vae-reparameterise.

        (..., latent), or (count, ..., latent) where a count is given.
        """
        shape = self.mean.shape if count is None else (count, *self.mean.shape)
        noise = torch.randn(shape, generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        return torch.addcmul(self.mean, noise, (0.5 * self.log_variance).exp())

    def log_prob(self, z: Tensor) -> Tensor:
        """log N(z; μ, σ²), summed over the latent units. (..., latent) → (...)."""
        squares = ((z - self.mean) * (-0.5 * self.log_variance).exp()).square()
        return -0.5 * (squares + self.log_variance + LOG_TWO_PI).sum(-1)

    def entropy(self) -> Tensor:
        """½ Σ (1 + log 2πσ²). (..., latent) → (...). Equation eq-vae-entropy."""
        return 0.5 * (self.log_variance + 1 + LOG_TWO_PI).sum(-1)

    def kl(self, other: Gaussian | None = None) -> Tensor:
        """KL(self ‖ other) of each unit; without another, KL to N(0, 1) = ½ (μ² + σ² − 1 − log σ²).

        (..., latent) → (..., latent). Equations eq-vae-kl and eq-vae-kl-general.
        """
        if other is None:
            return 0.5 * (self.mean.square() + torch.expm1(self.log_variance) - self.log_variance)
        squares = ((self.mean - other.mean) * (-0.5 * other.log_variance).exp()).square()
        difference = self.log_variance - other.log_variance
        return 0.5 * (squares + torch.expm1(difference) - difference)   # expm1: never below 0 by rounding


# --- priors: modules with latent, log_prob(z, rows), kl(q, rows), sample(count, generator), check(rows) ---


class StandardNormal(nn.Module):
    """p(z) = N(0, I)."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent

    def log_prob(self, z: Tensor, rows: Tensor | None = None) -> Tensor:
        """(..., latent) → (...). rows are for priors that differ between examples, here without effect."""
        return -0.5 * (z.square() + LOG_TWO_PI).sum(-1)

    def kl(self, q: Gaussian, rows: Tensor | None = None) -> Tensor:
        """KL(q ‖ p) of each unit, (batch, latent). Equation eq-vae-kl."""
        return q.kl()

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent), on the generator's device."""
        return torch.randn(count, self.latent, generator=generator, device=generator.device)

    def check(self, rows: Tensor | None) -> None:
        """Any example has this prior."""


class MixturePrior(nn.Module):
    """p(z) = Σ_k π_k N(z; m_k, diag s_k²): all of it can be learnt.

    Means begin as draws from N(0, I) by `generator`, variances at 1 and the weights equal.
    Raises ValueError for fewer than one component.
    """

    def __init__(self, latent: int, components: int, generator: torch.Generator) -> None:
        super().__init__()
        if components < 1:
            raise ValueError(f"A mixture has at least one component, but {components} came.")
        self.latent = latent
        self.logits = nn.Parameter(torch.zeros(components))
        self.mean = nn.Parameter(torch.randn(components, latent, generator=generator))
        self.log_variance = nn.Parameter(torch.zeros(components, latent))

    def log_prob(self, z: Tensor, rows: Tensor | None = None) -> Tensor:
        """(..., latent) → (...): the logarithm of the sum, over all components."""
        parts = Gaussian(self.mean, self.log_variance).log_prob(z[..., None, :])
        return (parts + self.logits.log_softmax(0)).logsumexp(-1)

    def kl(self, q: Gaussian, rows: Tensor | None = None) -> None:
        """None: there is no closed form, and bounds use draws instead."""
        return None

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent), on the generator's device."""
        chosen = torch.multinomial(self.logits.softmax(0), count, replacement=True, generator=generator)
        return Gaussian(self.mean[chosen], self.log_variance[chosen]).sample(generator)

    def check(self, rows: Tensor | None) -> None:
        """Any example has this prior."""


class GivenPrior(nn.Module):
    """One Gaussian prior for each example of a data set: example n has N(mean[n], diag e^log_variance[n]).

    mean, log_variance: (examples, latent). Bounds are then given `rows`, (batch,): which examples they are.
    Raises ValueError for shapes that differ.
    """

    def __init__(self, mean: Tensor, log_variance: Tensor) -> None:
        super().__init__()
        if mean.dim() != 2 or mean.shape != log_variance.shape:
            raise ValueError("One prior for each example needs mean and log_variance of one shape (examples, "
                             f"latent), but {tuple(mean.shape)} and {tuple(log_variance.shape)} came.")
        self.latent = mean.shape[1]
        self.register_buffer("mean", mean)
        self.register_buffer("log_variance", log_variance)

    def of(self, rows: Tensor | None) -> Gaussian:
        """The priors of those examples. (batch,) → (batch, latent). Raises ValueError without rows."""
        if rows is None:
            raise ValueError("Each example has a prior of its own here: give rows, the examples' numbers in "
                             "the data set.")
        return Gaussian(self.mean[rows], self.log_variance[rows])

    def log_prob(self, z: Tensor, rows: Tensor | None = None) -> Tensor:
        """(..., batch, latent) → (..., batch)."""
        return self.of(rows).log_prob(z)

    def kl(self, q: Gaussian, rows: Tensor | None = None) -> Tensor:
        """KL(q ‖ p) of each unit, (batch, latent). Equation eq-vae-kl-general."""
        return q.kl(self.of(rows))

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws from the priors of examples that are chosen by chance, (count, latent)."""
        rows = torch.randint(len(self.mean), (count,), generator=generator, device=generator.device)
        return self.of(rows).sample(generator)

    def check(self, rows: Tensor | None) -> None:
        """Raises ValueError for rows that are not given, or are no numbers of examples."""
        self.of(None if rows is None else rows[:0])
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self.mean)):
            raise ValueError(f"There are priors for {len(self.mean)} examples, numbered from 0, but rows from "
                             f"{int(rows.min())} to {int(rows.max())} came.")


# --- pixels given the decoder's output -------------------------------------------------------------------


class BernoulliPixels(nn.Module):
    """Pixels that are 0 or 1; the decoder's output is their logits. Equation eq-vae-bernoulli."""

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """log p(x | z), summed over pixels. x (batch, pixels), output (..., batch, pixels) → (..., batch)."""
        check_pixels(x, output)
        return BernoulliLogProb.apply(output.to(x.dtype), x)   # autocast's output is too coarse to be summed

    def mean(self, output: Tensor) -> Tensor:
        """P(pixel = 1), the shape of the output."""
        return torch.sigmoid(output)

    def sample(self, output: Tensor, generator: torch.Generator) -> Tensor:
        return torch.bernoulli(self.mean(output), generator=generator)

    def check(self, x: Tensor) -> None:
        """Raises ValueError for pixels that are neither 0 nor 1."""
        if not ((x == 0) | (x == 1)).all():
            low, high = (bound.item() for bound in x.aminmax())
            raise ValueError("Pixels of a Bernoulli decoder are 0 or 1, but others came (from "
                             f"{low:g} to {high:g}): draw them with nemlib.data.binarize.")


def check_pixels(x: Tensor, output: Tensor) -> None:
    if x.shape[-1] != output.shape[-1]:
        raise ValueError(f"The decoder gives {output.shape[-1]} pixels, but the images have {x.shape[-1]}.")


class BernoulliLogProb(torch.autograd.Function):
    """Σ x a − log(1 + eᵃ) and its gradient x − σ(a), in as few passes over the pixels as can be."""

    @staticmethod
    def forward(output: Tensor, x: Tensor) -> Tensor:
        return (output * x).sum(-1) - F.softplus(output, threshold=40.0).sum(-1)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, Tensor], result: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        output, x = ctx.saved_tensors
        by_output = (x - output.sigmoid()) * gradient[..., None]
        by_x = output * gradient[..., None] if ctx.needs_input_grad[1] else None
        return by_output, None if by_x is None else by_x.sum_to_size(x.shape)


class GaussianPixels(nn.Module):
    """Pixels that are real numbers, with one variance s² for all; the decoder's output is their mean.

    variance: s² at the beginning; learnt: whether it is a parameter, of that dtype. Equations
    eq-vae-gaussian-decoder and eq-vae-decoder-variance. Raises ValueError for a variance that is not above 0.
    """

    def __init__(
        self, variance: float = 1.0, learnt: bool = True, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        if not variance > 0:
            raise ValueError(f"The variance of the pixels is above 0, but {variance} came.")
        self.log_variance = nn.Parameter(torch.tensor(math.log(variance), dtype=dtype), requires_grad=learnt)

    @property
    def variance(self) -> Tensor:
        return self.log_variance.exp()

    def log_prob(self, x: Tensor, output: Tensor) -> Tensor:
        """log N(x; output, s² I), summed over pixels. (batch, pixels), (..., batch, pixels) → (..., batch)."""
        check_pixels(x, output)
        squares = (x - output).square().sum(-1) / self.variance
        return -0.5 * (squares + x.shape[-1] * (self.log_variance + LOG_TWO_PI))

    def mean(self, output: Tensor) -> Tensor:
        return output

    def sample(self, output: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(output.shape, generator=generator, dtype=output.dtype, device=output.device)
        return output + self.variance.sqrt() * noise

    def check(self, x: Tensor) -> None:
        """Any finite number will do."""


# --- the machine -----------------------------------------------------------------------------------------


class Elbo(NamedTuple):
    """The two terms of the bound, nats, (batch,) each. Equation eq-vae-reading-kl."""

    reconstruction: Tensor
    kl: Tensor

    @property
    def value(self) -> Tensor:
        """reconstruction − KL, (batch,): at most log p(x) on average over the draws. Equation eq-vae-elbo."""
        return self.reconstruction - self.kl


class ActiveUnits(NamedTuple):
    """variances: of each unit's posterior mean over the images, (latent,); active: which exceed a threshold."""

    variances: Tensor
    active: Tensor

    @property
    def count(self) -> int:
        return int(self.active.sum())


class Surgery(NamedTuple):
    """The parts of the average bound, nats: reconstruction − mutual_information − marginal_kl.

    mutual_information: between an image's number and z, at most log N for N images. marginal_kl: of the
    aggregated posterior to the prior. Equation eq-vae-surgery.
    """

    reconstruction: float
    mutual_information: float
    marginal_kl: float


class VAE(nn.Module):
    """p(x, z) = p(z) p(x | z) with an encoder q(z | x) = N(μ(x), diag σ²(x)).

    encoder: (batch, pixels) → (batch, 2 latent), the mean and then the log-variance. decoder: (batch, latent)
    → (batch, pixels), what the observation takes. prior, observation: the modules of this file, or others with
    their functions. Raises ValueError where no latent size is known.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, prior: nn.Module | None = None,
        observation: nn.Module | None = None, latent: int | None = None,
    ) -> None:
        super().__init__()
        if prior is None and (latent is None or latent < 1):
            raise ValueError(f"A VAE needs a prior, or the number of its latent units (latent={latent} came).")
        self.encoder, self.decoder = encoder, decoder
        self.prior = StandardNormal(latent) if prior is None else prior
        self.observation = BernoulliPixels() if observation is None else observation
        self.latent = self.prior.latent
        if latent not in (None, self.latent):
            raise ValueError(f"The prior has {self.latent} latent units, but latent={latent} came.")

    # --- encoder and decoder ---

    def encode(self, x: Tensor) -> Gaussian:
        """q(z | x). (batch, pixels) → Gaussian of (batch, latent).

        Raises ValueError for images that the encoder does not take, and where it does not give 2 numbers for
        each latent unit.
        """
        try:
            output = self.encoder(x)
        except RuntimeError as error:
            shapes = any(word in str(error) for word in ("shape", "size", "dtype"))
            if isinstance(error, torch.OutOfMemoryError) or not shapes:
                raise
            raise ValueError(f"The encoder does not take {x.dtype} images of shape {tuple(x.shape)}: "
                             f"{str(error).splitlines()[0]}.") from error
        if output.shape[-1] != 2 * self.latent:
            raise ValueError(f"The encoder gives {output.shape[-1]} numbers an image, but {self.latent} latent "
                             f"units need {2 * self.latent}: their means, then their log-variances.")
        if output.dtype in (torch.bfloat16, torch.float16):
            output = output.float()   # what autocast rounds is too coarse for variances and sums
        return Gaussian(*output.chunk(2, -1))

    def decode(self, z: Tensor) -> Tensor:
        """The decoder's output. (..., latent) → (..., pixels).

        Raises ValueError for another number of latent units.
        """
        if z.shape[-1] != self.latent:
            raise ValueError(f"Latent variables of shape (..., {self.latent}) are decoded, but "
                             f"{tuple(z.shape)} came.")
        return self.decoder(z.reshape(-1, self.latent)).reshape(*z.shape[:-1], -1)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The mean of the pixels at z = μ(x). (batch, pixels) → (batch, pixels)."""
        return self.observation.mean(self.decode(self.encode(x).mean))

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """The mean of the pixels at z ~ p(z), (count, pixels): draw the pixels with observation.sample."""
        z = self.prior.sample(count, generator)
        like = next(self.decoder.parameters(), z)
        return self.observation.mean(self.decode(z.to(like.dtype)))

    # --- bounds ---

    def log_joint(self, x: Tensor, z: Tensor, rows: Tensor | None = None) -> Tensor:
        """log p(x, z) = log p(x | z) + log p(z). (batch, pixels), (..., batch, latent) → (..., batch)."""
        return self.observation.log_prob(x, self.decode(z)) + self.prior.log_prob(z, rows)

    def terms(
        self, x: Tensor, generator: torch.Generator, samples: int = 1, rows: Tensor | None = None
    ) -> tuple[Gaussian, Tensor, Tensor]:
        """q(z | x), the mean of log p(x | z) over the draws, (batch,), and the KL to the prior.

        The KL is (batch, latent), unit by unit, where it has a closed form, and else (batch,), a mean over
        the same draws of log q(z | x) − log p(z). Nothing is checked: `elbo` does that.
        """
        q = self.encode(x)
        z = q.sample(generator, None if samples == 1 else samples)
        reconstruction = self.observation.log_prob(x, self.decode(z))
        kl = self.prior.kl(q, rows)
        if kl is None:
            kl = q.log_prob(z) - self.prior.log_prob(z, rows)
            kl = kl if samples == 1 else kl.mean(0)
        return q, reconstruction if samples == 1 else reconstruction.mean(0), kl

    def elbo(
        self, x: Tensor, generator: torch.Generator, samples: int = 1, rows: Tensor | None = None
    ) -> Elbo:
        """The evidence lower bound's two terms, its expectations from `samples` draws of z. Equation eq-vae-elbo.

        x: (batch, pixels); rows: the examples' numbers, (batch,), where each has a prior of its own.
        Raises ValueError for images of another shape or range, samples < 1, log-variances that overflow.
        """
        self.check(x, rows)
        if samples < 1:
            raise ValueError(f"An expectation needs at least one draw, but samples={samples} came.")
        q, reconstruction, kl = self.terms(x, generator, samples, rows)
        check_log_variance(q)
        return Elbo(reconstruction, kl.sum(-1) if kl.dim() == 2 else kl)

    def log_weights(
        self, x: Tensor, count: int, generator: torch.Generator, rows: Tensor | None = None,
        q: Gaussian | None = None,
    ) -> Tensor:
        """log w_k = log p(x, z_k) − log q(z_k | x) with z_k ~ q(z | x), (count, batch). Equation
        eq-vae-importance.

        q: another Gaussian to draw from, of (batch, latent); the encoder's if not given.
        """
        q = self.encode(x) if q is None else q
        z = q.sample(generator, count)
        return self.log_joint(x, z, rows) - q.log_prob(z)

    @torch.no_grad()
    def importance_bound(
        self, x: Tensor, samples: int, generator: torch.Generator, chunk: int = 50, batch_size: int = 200,
        rows: Tensor | None = None,
    ) -> likelihood.Estimate:
        """log (1/K) Σ w_k of each image from K = `samples` draws. Equation eq-vae-iwae.

        chunk × batch_size latent points are decoded at a time. Raises ValueError as `elbo` does, and for a
        chunk below 1.
        """
        self.check(x, rows)
        numbers = torch.arange(len(x), device=x.device) if rows is None else rows
        found = []
        for part, which in zip(x.split(batch_size), numbers.split(batch_size)):
            q, given = self.encode(part), None if rows is None else which
            check_log_variance(q)
            found.append(likelihood.importance(
                lambda count: self.log_weights(part, count, generator, given, q), samples, chunk))
        return likelihood.join(found)

    def check(self, x: Tensor, rows: Tensor | None = None) -> None:
        """Raises ValueError for images that are not (batch, pixels), not finite, or not the observation's, and
        for rows that are not one whole number for each.
        """
        check_images(x)
        self.observation.check(x)
        self.check_rows(x, rows)

    def check_rows(self, x: Tensor, rows: Tensor | None) -> None:
        """Raises ValueError for rows that are not one whole number for each image, or not the prior's."""
        whole = rows is None or not (rows.is_floating_point() or rows.dtype == torch.bool)
        if rows is not None and (rows.shape != x.shape[:1] or not whole):
            raise ValueError(f"rows are one whole number for each of the {len(x)} images, but {rows.dtype} of "
                             f"shape {tuple(rows.shape)} came.")
        self.prior.check(rows)

    # --- what the latent units do ---

    @torch.no_grad()
    def active_units(self, x: Tensor, threshold: float = 0.01) -> ActiveUnits:
        """Which units' posterior means vary over the images by more than `threshold` (Burda et al. 2016).

        Raises ValueError for fewer than two images.
        """
        if len(x) < 2:
            raise ValueError(f"How units vary is seen on two images or more, but {len(x)} came.")
        variances = self.encode(x).mean.var(0)
        return ActiveUnits(variances, variances > threshold)

    @torch.no_grad()
    def kl_by_unit(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """The mean KL to the prior of each unit, nats, (latent,).

        Raises ValueError for a prior whose KL has no closed form.
        """
        self.check_rows(x, rows)
        kl = self.prior.kl(self.encode(x), rows)
        if kl is None or kl.dim() == 1:
            raise ValueError(f"The KL to a {type(self.prior).__name__} has no closed form and no part for each "
                             "unit: use elbo(...).kl.")
        return kl.mean(0)

    @torch.no_grad()
    def surgery(
        self, x: Tensor, generator: torch.Generator, rows: Tensor | None = None, chunk: int = 200
    ) -> Surgery:
        """The average bound's parts from one draw an image; q(z) is the mean of q(z | x_n) over these images.

        Equations eq-vae-aggregate and eq-vae-surgery.
        """
        self.check_rows(x, rows)
        q = self.encode(x)
        z = q.sample(generator)
        log_q = q.log_prob(z)
        log_aggregate = torch.cat([likelihood.log_mean_exp(q.log_prob(part[:, None]), 1)
                                   for part in z.split(chunk)])
        reconstruction = self.observation.log_prob(x, self.decode(z))
        return Surgery(*(part.cpu().double().mean().item() for part in (
            reconstruction, log_q - log_aggregate, log_aggregate - self.prior.log_prob(z, rows))))


def check_images(x: Tensor) -> None:
    if x.dim() != 2 or not x.is_floating_point() or x.numel() == 0:
        raise ValueError("Images are floating-point numbers of shape (batch, pixels), but "
                         f"{x.dtype} of shape {tuple(x.shape)} came: flatten them.")
    if not torch.stack(x.detach().aminmax()).isfinite().all():
        raise ValueError("There is nan or inf among the pixels: remove or replace such images.")


def check_log_variance(q: Gaussian) -> None:
    """Raises ValueError where a log-variance is NaN, or its exponential overflows or vanishes."""
    limit = math.log(torch.finfo(q.log_variance.dtype).max)
    low, high = (bound.item() for bound in q.log_variance.detach().aminmax())
    if not (-1.9 * limit < low and high < limit):
        raise ValueError(f"The encoder gave log-variances from {low:g} to {high:g}; outside of {-1.9 * limit:.0f} "
                         f"to {limit:.0f} variances overflow or vanish: {OVERFLOW}")


OVERFLOW = "train with a lower learning rate, clip the gradient (clip_norm), or look for images out of range."


def vae_784(hidden: int = 400, latent: int = 20) -> VAE:
    """The classical machine: 784 pixels, one hidden layer each way, Bernoulli pixels (Kingma and Welling 2014)."""
    return VAE(fully_connected([784, hidden, 2 * latent]), fully_connected([latent, hidden, 784]), latent=latent)


# --- paths through the latent space ----------------------------------------------------------------------


def straight(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """Points from a to b on a straight line. (latent,), (latent,) → (steps, latent)."""
    return torch.lerp(a, b, torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)[:, None])


def spherical(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """Points from a to b whose direction turns evenly and whose length changes evenly (after White 2016).

    Raises ValueError for a point at the origin, or opposite directions, between which no way is shortest.
    (latent,), (latent,) → (steps, latent).
    """
    lengths = torch.stack([a.norm(), b.norm()])
    if not (lengths > 0).all():
        raise ValueError("A point at the origin has no direction to turn from: use straight().")
    angle = torch.arccos((a @ b / lengths.prod()).clamp(-1, 1))
    if math.pi - angle < 1e-6:
        raise ValueError("The two points lie in opposite directions, and no way between them is the shortest.")
    t = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)[:, None]
    if angle < 1e-6:
        return straight(a, b, steps)
    direction = (torch.sin((1 - t) * angle) * a / lengths[0] + torch.sin(t * angle) * b / lengths[1]) / angle.sin()
    return torch.lerp(lengths[0], lengths[1], t) * direction


# --- probabilistic PCA: the case in which everything is known --------------------------------------------


@dataclass(frozen=True)
class ProbabilisticPCA:
    """z ~ N(0, I), x = W z + mean + noise of variance s²: a VAE with linear networks, and exactly solvable.

    W: (pixels, latent). mean: (pixels,). variance: s². Equations eq-vae-linear-marginal and
    eq-vae-linear-posterior; Tipping and Bishop (1999).
    """

    W: Tensor
    mean: Tensor
    variance: float

    def __post_init__(self) -> None:
        if not self.variance > 0:
            raise ValueError(f"The noise needs a variance above 0, but {self.variance} came: with more images, "
                             "fewer latent units or without constant pixels something is left over as noise.")

    @classmethod
    def fit(cls, x: Tensor, latent: int, variance: float | None = None) -> ProbabilisticPCA:
        """The maximum of the likelihood: W = U (Λ − s² I)^½ of the largest eigenvalues. Equation eq-vae-ppca.

        x: (batch, pixels). s² is the mean of the other eigenvalues, or `variance` if given; directions whose
        eigenvalue is below it get columns of zeros. Raises ValueError for latent outside of 1 … pixels − 1.
        """
        if not 1 <= latent < x.shape[1]:
            raise ValueError(f"Of {x.shape[1]} pixels, 1 to {x.shape[1] - 1} latent units can be fitted; "
                             f"{latent} came.")
        values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
        values, vectors = values.flip(0), vectors.flip(1)
        variance = values[latent:].mean().item() if variance is None else variance
        scale = (values[:latent] - variance).clamp_min(0).sqrt()
        return cls(vectors[:, :latent] * scale, x.mean(0), variance)

    @property
    def latent(self) -> int:
        return self.W.shape[1]

    @property
    def precision(self) -> Tensor:
        """Λ = I + Wᵀ W / s², of the posterior, the same for every image, (latent, latent)."""
        identity = torch.eye(self.latent, dtype=self.W.dtype, device=self.W.device)
        return identity + self.W.T @ self.W / self.variance

    def log_prob(self, x: Tensor) -> Tensor:
        """log N(x; mean, W Wᵀ + s² I), exactly. (batch, pixels) → (batch,)."""
        covariance = self.W @ self.W.T + self.variance * torch.eye(len(self.W), dtype=x.dtype, device=x.device)
        return torch.distributions.MultivariateNormal(self.mean, covariance).log_prob(x)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mean, (batch, latent), and the covariance Λ⁻¹, (latent, latent), of p(z | x)."""
        covariance = torch.linalg.inv(self.precision)
        return (x - self.mean) @ self.W @ covariance / self.variance, covariance

    def rotated(self, rotation: Tensor) -> ProbabilisticPCA:
        """The same law of x with W R for an orthogonal R, (latent, latent)."""
        return ProbabilisticPCA(self.W @ rotation, self.mean, self.variance)

    def vae(self) -> VAE:
        """The VAE with this decoder whose encoder is the best Gaussian with independent units: the exact mean,
        and σ_i² = 1/Λ_ii. Where WᵀW is diagonal, that is the posterior itself. Equation eq-vae-factorised.
        """
        pixels, latent, covariance = len(self.W), self.latent, torch.linalg.inv(self.precision)
        options = {"dtype": self.W.dtype, "device": self.W.device}
        encoder = nn.utils.skip_init(nn.Linear, pixels, 2 * latent, **options)
        decoder = nn.utils.skip_init(nn.Linear, latent, pixels, **options)
        to_mean = covariance @ self.W.T / self.variance
        with torch.no_grad():
            encoder.weight.copy_(torch.cat([to_mean, torch.zeros_like(to_mean)]))
            encoder.bias.copy_(torch.cat([-to_mean @ self.mean, -self.precision.diagonal().log()]))
            decoder.weight.copy_(self.W)
            decoder.bias.copy_(self.mean)
        observation = GaussianPixels(self.variance, dtype=self.W.dtype).to(self.W.device)
        return VAE(encoder, decoder, observation=observation, latent=latent)


# --- learning --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Objective:
    """What is climbed, as a mean over the batch.

    reconstruction − β_t · KL with `samples` draws of z an image, where β_t = beta · min(1, step / warm_up); or,
    with importance, the bound from that many weights (eq-vae-iwae). free_bits: nats a unit that cost nothing:
    a unit's mean KL over the batch counts as at least that much (Kingma et al. 2016). Equation eq-vae-beta.
    Raises ValueError for samples < 1, negative numbers, or importance with anything but the plain bound.
    """

    samples: int = 1
    importance: bool = False
    beta: float = 1.0
    warm_up: int = 0
    free_bits: float = 0.0

    def __post_init__(self) -> None:
        if self.samples < 1 or self.beta < 0 or self.warm_up < 0 or self.free_bits < 0:
            raise ValueError("samples is at least 1, and beta, warm_up and free_bits are not negative; "
                             f"{self} came.")
        if self.importance and (self.beta, self.warm_up, self.free_bits) != (1.0, 0, 0.0):
            raise ValueError("The importance-weighted bound has no KL to weight: leave beta at 1, warm_up and "
                             f"free_bits at 0; {self} came.")


class LearningState(nn.Module):
    """What learning carries from step to step: the machine, and its running average if there is one."""

    def __init__(self, vae: VAE, averaging: float) -> None:
        super().__init__()
        self.vae = vae
        if averaging:
            self.averaged = AveragedModel(vae, multi_avg_fn=get_ema_multi_avg_fn(averaging))


class VariationalLearner(Learner):
    """Learning by the gradient of a bound. Batches are (batch, pixels); their rows choose among given priors.

    optimizer: of the machine's parameters. binarize: draw 0 or 1 for each pixel anew in every step, with its
    grey value as probability; None: where the pixels are Bernoulli. averaging: if not 0, `averaged` follows the machine as a mean with that decay a
    step. scheduler, clip_norm: as in `GradientLearner`. Metrics of a step, means over the batch: the loss; log
    p(x | z) and the KL, nats; the encoder's largest variance, which overflows first where something goes wrong.
    Raises ValueError for averaging outside of [0, 1), and in training for free bits with a prior whose KL has
    no closed form.
    """

    module: LearningState
    hints = {"largest_variance": f"The encoder's log-variance left the range of its exponential: {OVERFLOW}"}

    def __init__(
        self, vae: VAE, optimizer: Optimizer, objective: Objective = Objective(), *,
        binarize: bool | None = None, averaging: float = 0.0, scheduler: LRScheduler | None = None, clip_norm: float | None = None,
    ) -> None:
        if not 0 <= averaging < 1:
            raise ValueError(f"averaging is the decay of a mean, in [0, 1), but {averaging} came.")
        self.module = LearningState(vae, averaging)
        self.objective, self.clip_norm = objective, clip_norm
        self.binarize = isinstance(vae.observation, BernoulliPixels) if binarize is None else binarize
        self.optimizers = {"optimizer": optimizer}
        self.schedulers = {} if scheduler is None else {"optimizer": scheduler}
        self.step_terms = self.terms   # may be compiled

    @property
    def vae(self) -> VAE:
        return self.module.vae

    @property
    def averaged(self) -> VAE:
        """The averaged machine where there is one, else the machine itself."""
        return self.module.averaged.module if hasattr(self.module, "averaged") else self.module.vae

    def begin_epoch(self, context: Context) -> None:
        if context.epoch > 1:
            return
        self.check(context.data)
        prior = self.vae.prior
        if isinstance(prior, GivenPrior) and len(prior.mean) != len(context.data):
            raise ValueError(f"There are priors for {len(prior.mean)} examples, but the data hold "
                             f"{len(context.data)}: give one for each, in the same order.")

    def check(self, images: Tensor) -> None:
        """Raises ValueError for images that cannot be learnt from; grey ones can where they are binarized."""
        if not isinstance(images, Tensor):
            raise ValueError("A VAE learns from one tensor of images, (batch, pixels): give the images, "
                             "flattened.")
        check_images(images)
        if not self.binarize:
            return self.vae.observation.check(images)
        low, high = (bound.item() for bound in images.aminmax())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"Images to be binarized lie in [0, 1], but their range is {low:g} to {high:g}.")

    def training_step(self, batch: Tensor, context: Context) -> Mapping[str, Tensor]:
        x = self.drawn(batch, context.generator)
        with context.autocast():
            metrics = self.step_terms(x, context.generator, context.rows, self.beta(context.step))
        context.update(self.optimizers["optimizer"], metrics["loss"], clip_norm=self.clip_norm)
        if hasattr(self.module, "averaged"):
            self.module.averaged.update_parameters(self.vae)
        return metrics

    def drawn(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The images with each pixel drawn, or as they are."""
        if not self.binarize:
            return images
        uniform = torch.rand(images.shape, generator=generator, dtype=images.dtype, device=images.device)
        return torch.lt(uniform, images, out=uniform)

    def beta(self, step: int) -> float:
        """β_t of that step, counted from 1."""
        warm_up = self.objective.warm_up
        return self.objective.beta * (min(1.0, step / warm_up) if warm_up else 1.0)

    def terms(
        self, x: Tensor, generator: torch.Generator, rows: Tensor | None, beta: float
    ) -> dict[str, Tensor]:
        """The loss and what it is made of, scalars."""
        how, vae = self.objective, self.vae
        if how.importance:
            q = vae.encode(x)
            bound = likelihood.log_mean_exp(vae.log_weights(x, how.samples, generator, rows, q)).mean()
            return {"largest_variance": largest_variance(q), "loss": -bound, "bound": bound.detach()}
        q, reconstruction, kl = vae.terms(x, generator, how.samples, rows)
        if how.free_bits and kl.dim() == 1:
            raise ValueError(f"Free bits need a KL for each unit, which a {type(vae.prior).__name__} does not "
                             "give: choose another prior, or free_bits=0.")
        by_unit = kl.mean(0)
        reconstruction = reconstruction.mean()
        charged = by_unit.clamp_min(how.free_bits) if how.free_bits else by_unit
        return {"largest_variance": largest_variance(q), "loss": beta * charged.sum() - reconstruction,
                "reconstruction": reconstruction.detach(), "kl": by_unit.detach().sum()}

    def evaluate(self, data: Tensor | None, context: Context) -> Mapping[str, Tensor]:
        """The plain bound of the averaged machine on held-out images with one draw each, and its two terms."""
        if data is None:
            return {}
        self.check(data)
        total = torch.zeros(2, dtype=torch.float64)
        for part, rows in zip(data.split(1000), torch.arange(len(data), device=data.device).split(1000)):
            _, reconstruction, kl = self.averaged.terms(
                self.drawn(part, context.generator), context.generator, 1, self.evaluation_rows(rows))
            total += torch.stack([reconstruction.sum(), kl.sum()]).cpu()
        reconstruction, kl = total / len(data)
        return {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}

    def evaluation_rows(self, rows: Tensor) -> Tensor | None:
        """Held-out images have no prior of their own."""
        return None

    def compile(self, mode: str) -> None:
        self.step_terms: Callable[..., dict[str, Tensor]] = torch.compile(self.terms, mode=mode)


def largest_variance(q: Gaussian) -> Tensor:
    return q.log_variance.detach().max().exp()
