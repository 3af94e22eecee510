"""Generative adversarial networks: a generator that makes samples, and a discriminator that tells them from
data.

The file reads as chapter 7 does: the game and what is known of it in closed form; games small enough to
solve, and three ways to step in them; the losses; penalties on the discriminator's slope; the two networks;
the machine with its samples; and at the end learning, with two optimizers.

    with seeded(0):
        gan = GAN(dcgan_generator(64), dcgan_discriminator(normalise=False), latent=64)
    learner = AdversarialLearner(
        gan, torch.optim.Adam(gan.generator.parameters(), 2e-4, betas=(0.5, 0.99)),
        torch.optim.Adam(gan.discriminator.parameters(), 2e-4, betas=(0.5, 0.99)), penalty=R1(1.0),
        averaging=0.999)
    train(learner, 2 * images.flat() - 1, TrainingSettings(epochs=10, batch_size=64))

Sources: Goodfellow et al. (2014) for the game; Radford, Metz and Chintala (2016) for the convolutional
networks; Arjovsky, Chintala and Bottou (2017) and Gulrajani et al. (2017) for the Wasserstein loss and its
penalty; Mescheder, Geiger and Nowozin (2018) for R1 and the Dirac-GAN; Lim and Ye (2017) for the hinge loss;
Miyato et al. (2018) for spectral normalisation; Lin et al. (2018) for packing; Yazıcı et al. (2019) for the
averaged generator.

Samples x are (batch, numbers), images flattened as channels, rows, columns; latent variables z (batch,
latent). What the discriminator gives is a logit a(x), and D(x) = σ(a(x)) its probability that x is data.
Everything that begins with log_, values and divergences are in nats.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import get_total_norm
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import get_ema_multi_avg_fn

from nemlib.training import Context, Learner

__all__ = [
    "AdversarialLearner", "Bilinear", "DiracGAN", "GAN", "Gaussians", "GradientPenalty", "Hinge",
    "NonSaturating", "Planes", "R1", "Saturating", "Wasserstein", "alternating", "dcgan_discriminator",
    "dcgan_generator", "extragradient", "grid", "jensen_shannon", "optimal_logit", "ring", "simultaneous",
    "spectral", "value", "wasserstein",
]


# --- the game, and what is known of it in closed form ----------------------------------------------------


def value(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """V(D, G) = E log D(x) + E log(1 − D(G(z))), nats, a scalar: the means over both batches.

    real_logits, fake_logits: a(x), any shape. Goodfellow et al. (2014), equation 1; equation eq-gan-value.
    """
    return F.logsigmoid(real_logits).mean() + F.logsigmoid(-fake_logits).mean()


def optimal_logit(log_p: Tensor, log_q: Tensor) -> Tensor:
    """a*(x) = log p(x) − log q(x), the logit of the best discriminator between data p and generator q.

    log_p, log_q: log-densities at the same points, any shape, nats; where neither law has mass, both −inf,
    any logit is as good and nan comes. Equation eq-gan-optimal-logit.
    """
    return log_p - log_q


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """½ KL(p ‖ m) + ½ KL(q ‖ m) with m = ½ (p + q), nats: from 0 to log 2. (..., states) → (...).

    p, q: probabilities of the same finitely many states. Equation eq-gan-jsd.
    """
    middle = 0.5 * (p + q)         # the entropy of the middle, less the mean of both entropies
    return (0.5 * (torch.xlogy(p, p) + torch.xlogy(q, q)) - torch.xlogy(middle, middle)).sum(-1)


def wasserstein(x: Tensor, y: Tensor) -> Tensor:
    """W₁ between two sets of equally many numbers: the mean distance once both are sorted, in the units of x.

    x, y: (count,). Equation eq-gan-quantiles. Raises ValueError for other shapes, or sets of different size.
    """
    if x.dim() != 1 or x.shape != y.shape:
        raise ValueError(f"Two sets of equally many numbers are needed, but {tuple(x.shape)} and "
                         f"{tuple(y.shape)} came.")
    return (x.sort().values - y.sort().values).abs().mean()


# --- laws in the plane to learn from ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Equally many samples from each of several round Gaussians with one deviation.

    centres: (modes, numbers). Raises ValueError for centres of another shape, or a deviation not above 0.
    """

    centres: Tensor
    deviation: float

    def __post_init__(self) -> None:
        if self.centres.dim() != 2 or not len(self.centres) or not self.deviation > 0:
            raise ValueError("Centres are (modes, numbers), at least one, and the deviation is above 0, but "
                             f"{tuple(self.centres.shape)} and {self.deviation} came.")

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, numbers)."""
        centres = self.centres.to(generator.device)
        mode = torch.randint(len(centres), (count,), generator=generator, device=generator.device)
        noise = torch.randn(count, centres.shape[1], generator=generator, dtype=centres.dtype,
                            device=generator.device)
        return centres[mode] + self.deviation * noise


def ring(modes: int = 8, radius: float = 2.0, deviation: float = 0.02) -> Gaussians:
    """Round Gaussians in the plane, evenly on a circle, the first at angle 0."""
    angle = torch.arange(modes) * (2 * math.pi / modes)
    return Gaussians(radius * torch.stack([angle.cos(), angle.sin()], dim=1), deviation)


def grid(side: int = 5, spacing: float = 2.0, deviation: float = 0.05) -> Gaussians:
    """Round Gaussians in the plane, side · side of them, in a square around the origin."""
    ticks = spacing * (torch.arange(side) - (side - 1) / 2)
    return Gaussians(torch.cartesian_prod(ticks, ticks), deviation)


# --- games that can be solved, and three ways to step in them --------------------------------------------


@dataclass(frozen=True)
class Bilinear:
    """V(θ, φ) = s θ φ, which θ makes small and φ makes large. Its one equilibrium is (0, 0). Equation
    eq-gan-bilinear.
    """

    s: float = 1.0

    def field(self, theta: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
        """Where each player wants to go: (−∂V/∂θ, ∂V/∂φ), the shapes of θ and φ."""
        return -self.s * phi, self.s * theta


@dataclass(frozen=True)
class DiracGAN:
    """The smallest GAN: all data at 0, all samples at θ, and a discriminator whose logit is φ x.

    gamma: weight of R1. non_saturating: the generator's loss. Mescheder et al. (2018), definition 2.1;
    equation eq-gan-dirac. Raises ValueError for a negative weight.
    """

    gamma: float = 0.0
    non_saturating: bool = False

    def __post_init__(self) -> None:
        check_weight("gamma", self.gamma)

    def field(self, theta: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
        """Where each player wants to go, the shapes of θ and φ."""
        logit = phi * theta
        pull = phi * torch.sigmoid(-logit if self.non_saturating else logit)
        return pull, -theta * torch.sigmoid(logit) - self.gamma * phi


Field = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def simultaneous(field: Field, theta: Tensor, phi: Tensor, step_size: float) -> tuple[Tensor, Tensor]:
    """Both players step at once, each from where both stand. Equation eq-gan-simultaneous."""
    to_theta, to_phi = field(theta, phi)
    return theta + step_size * to_theta, phi + step_size * to_phi


def alternating(field: Field, theta: Tensor, phi: Tensor, step_size: float) -> tuple[Tensor, Tensor]:
    """θ steps first, and φ answers to where θ stands then. Equation eq-gan-alternating."""
    theta = theta + step_size * field(theta, phi)[0]
    return theta, phi + step_size * field(theta, phi)[1]


def extragradient(field: Field, theta: Tensor, phi: Tensor, step_size: float) -> tuple[Tensor, Tensor]:
    """Both players step along the field of the place that a first step would lead to. Equation
    eq-gan-extragradient.
    """
    to_theta, to_phi = field(*simultaneous(field, theta, phi, step_size))
    return theta + step_size * to_theta, phi + step_size * to_phi


# --- losses: scalars, made small: discriminator(real_logits, fake_logits) and generator(fake_logits) ------


@dataclass(frozen=True)
class Saturating:
    """The game as it stands: −V for the discriminator, E log(1 − D(G(z))) for the generator. Equation
    eq-gan-saturating.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """E softplus(−a(x)) + E softplus(a(G(z))) = −V, nats."""
        return -value(real_logits, fake_logits)

    def generator(self, fake_logits: Tensor) -> Tensor:
        """−E softplus(a(G(z))), nats: its slope in a logit is −D."""
        return F.logsigmoid(-fake_logits).mean()


@dataclass(frozen=True)
class NonSaturating(Saturating):
    """The same discriminator, and −E log D(G(z)) for the generator. Equation eq-gan-non-saturating."""

    def generator(self, fake_logits: Tensor) -> Tensor:
        """E softplus(−a(G(z))), nats: its slope in a logit is −(1 − D)."""
        return -F.logsigmoid(fake_logits).mean()


@dataclass(frozen=True)
class Wasserstein:
    """E a(G(z)) − E a(x) for the critic, −E a(G(z)) for the generator. It bounds nothing without a limit on
    a's slope: use GradientPenalty, or `spectral`. Arjovsky et al. (2017); equation eq-gan-critic.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return fake_logits.mean() - real_logits.mean()

    def generator(self, fake_logits: Tensor) -> Tensor:
        return -fake_logits.mean()


@dataclass(frozen=True)
class Hinge(Wasserstein):
    """E max(0, 1 − a(x)) + E max(0, 1 + a(G(z))), and −E a(G(z)). Lim and Ye (2017); equation
    eq-gan-hinge.
    """

    def discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()


Loss = Saturating | Wasserstein         # NonSaturating and Hinge are kinds of these


# --- penalties on the discriminator's slope --------------------------------------------------------------


def slopes(logits_of: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """∇ₓ a(x) of each row, with a graph so that it can be learnt from. x (rows, numbers) → the same shape.

    In rows of packed samples this is the slope in all of them together.
    """
    x = x.detach().requires_grad_()
    return torch.autograd.grad(logits_of(x).sum(), x, create_graph=True)[0]


@dataclass(frozen=True)
class R1:
    """(γ/2) E ‖∇ₓ a(x)‖² over data. Mescheder et al. (2018), equation 9; equation eq-gan-r1.

    every: the penalty is computed in every so many-th step, times that number (Karras et al. 2020).
    Raises ValueError for a negative weight, or every below 1.
    """

    weight: float = 10.0
    every: int = 1

    def __post_init__(self) -> None:
        check_weight("weight", self.weight, self.every)

    def of(self, logits_of: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor,
           generator: torch.Generator) -> Tensor:
        """real, fake: (rows, numbers) → a scalar."""
        return 0.5 * self.weight * slopes(logits_of, real).square().sum(1).mean()


@dataclass(frozen=True)
class GradientPenalty:
    """λ E (‖∇ₓ a(x̂)‖ − 1)² where x̂ lies anywhere between a datum and a sample. Gulrajani et al. (2017),
    equation 3; equation eq-gan-gradient-penalty. Raises ValueError for a negative weight, or every below 1.
    """

    weight: float = 10.0
    every: int = 1

    def __post_init__(self) -> None:
        check_weight("weight", self.weight, self.every)

    def of(self, logits_of: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor,
           generator: torch.Generator) -> Tensor:
        """real, fake: (rows, numbers) → a scalar."""
        share = torch.rand(len(real), 1, generator=generator, dtype=real.dtype, device=real.device)
        steepness = slopes(logits_of, torch.lerp(fake, real, share)).norm(dim=1)
        return self.weight * (steepness - 1).square().mean()


Penalty = R1 | GradientPenalty
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def check_weight(name: str, weight: float, every: int = 1) -> None:
    if not weight >= 0:
        raise ValueError(f"The {name} of a penalty is not negative, but {weight} came.")
    if every < 1:
        raise ValueError(f"A penalty comes in every step, or every second, third, …, but every={every} came.")


# --- the two networks ------------------------------------------------------------------------------------


def spectral(network: nn.Module, iterations: int = 1) -> nn.Module:
    """The same network, each weight matrix of a linear or convolutional layer divided by an estimate of its
    largest singular value, which `iterations` of the power method improve whenever the network is used in
    training.

    A kernel counts as a matrix with one row an output channel. Changes the network and gives it back; a layer
    that is divided already stays as it is. The power method starts from PyTorch's global generator: use
    inside `nemlib.training.seeded`. Miyato et al. (2018); equations eq-gan-spectral and
    eq-gan-spectral-convolution.
    """
    for layer in list(network.modules()):
        linear = isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
        if linear and not is_parametrized(layer, "weight"):
            spectral_norm(layer, n_power_iterations=iterations)
    return network


class Planes(nn.Module):
    """Rows of flat samples as images: one-hot labels become planes of zeros or ones, packed samples more
    channels.

    (rows, packed · (channels · height · width + classes)) → (rows, packed · (channels + classes), height,
    width).
    """

    def __init__(self, channels: int, height: int, width: int, classes: int = 0, packed: int = 1) -> None:
        super().__init__()
        self.shape, self.classes, self.packed = (channels, height, width), classes, packed

    def forward(self, x: Tensor) -> Tensor:
        pixels, labels = x.unflatten(1, (self.packed, -1)).split([math.prod(self.shape), self.classes], dim=2)
        planes = labels[..., None, None].expand(*labels.shape, *self.shape[1:])
        return torch.cat([pixels.unflatten(2, self.shape), planes], dim=2).flatten(1, 2)


def doublings(side: int) -> tuple[int, int]:
    """The smallest side that a DCGAN begins with, from 4 to 7, and how often it is doubled to become `side`.

    Raises ValueError for a side that cannot be made so.
    """
    fits = (times for times in range(1, 9) if side % 2**times == 0 and 4 <= side // 2**times <= 7)
    times = next(fits, None)
    if times is None:
        raise ValueError("A DCGAN doubles images of side 4, 5, 6 or 7, and so makes sides such as 28 or 64, "
                         f"but {side} was asked for: pad or crop the images.")
    return side // 2**times, times


def dcgan_generator(
    latent: int, *, side: int = 28, channels: int = 1, width: int = 64, hidden: int = 0, classes: int = 0,
    eps: float = 1e-5,
) -> nn.Sequential:
    """A linear layer to small images, then layers that double the side; batch normalisation and rectifiers
    between. With `hidden`, a layer of so many units comes first.

    (batch, latent + classes) → (batch, channels · side²), numbers from −1 to 1. width: channels before the
    last layer; each layer below has twice as many. eps: what batch normalisation adds to the variance.
    Radford et al. (2016). Raises ValueError for a side that cannot be made.
    """
    small, times = doublings(side)
    widths = [width * 2**(times - 1 - layer) for layer in range(times)]
    layers: list[nn.Module] = [
        nn.Linear(latent + classes, hidden, bias=False), nn.BatchNorm1d(hidden, eps=eps), nn.ReLU()] if hidden else []
    layers += [
        nn.Linear(hidden or latent + classes, widths[0] * small**2, bias=False),
        nn.Unflatten(1, (widths[0], small, small)), nn.BatchNorm2d(widths[0], eps=eps), nn.ReLU()]
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False),
                   nn.BatchNorm2d(outputs, eps=eps), nn.ReLU()]
    layers += [nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1), nn.Tanh(), nn.Flatten()]
    return dcgan_weights(nn.Sequential(*layers))


def dcgan_discriminator(
    *, side: int = 28, channels: int = 1, width: int = 64, hidden: int = 0, classes: int = 0, packed: int = 1,
    normalise: bool = True, slope: float = 0.2,
) -> nn.Sequential:
    """Convolutions that halve the side, leaky rectifiers, and a linear layer to one logit. With `hidden`, a
    layer of so many units comes before that: without it the logit is a sum over places, and at 28 × 28, where
    two convolutions see windows of ten pixels, no unit sees a whole digit.

    (rows, packed · (channels · side² + classes)) → (rows, 1). normalise: batch normalisation in all layers
    but the first; not for a gradient penalty, which needs each row to be judged by itself. Radford et al.
    (2016). Raises ValueError for a side that cannot be halved down to 4, 5, 6 or 7.
    """
    small, times = doublings(side)
    widths = [packed * (channels + classes), *(width * 2**layer for layer in range(times))]
    layers: list[nn.Module] = [Planes(channels, side, side, classes, packed)]
    for layer, (inputs, outputs) in enumerate(zip(widths, widths[1:])):
        normalised = normalise and layer > 0
        layers.append(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=not normalised))
        layers += [nn.BatchNorm2d(outputs)] if normalised else []
        layers.append(nn.LeakyReLU(slope))
    layers.append(nn.Flatten())
    last = widths[-1] * small**2
    if hidden:
        layers.append(nn.Linear(last, hidden, bias=not normalise))
        layers += [nn.BatchNorm1d(hidden)] if normalise else []
        layers.append(nn.LeakyReLU(slope))
    return dcgan_weights(nn.Sequential(*layers, nn.Linear(hidden or last, 1)))


def dcgan_weights(network: nn.Sequential) -> nn.Sequential:
    """Weights drawn anew from N(0, .02²), gains of batch normalisation from N(1, .02²); biases at 0."""
    for layer in network.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, *BATCH_NORMS)):
            nn.init.normal_(layer.weight, float(isinstance(layer, BATCH_NORMS)), 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network


SHAPES_ONLY = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Sequential)      # they change no number


# --- the machine -----------------------------------------------------------------------------------------


class GAN(nn.Module):
    """x = G(z) with z ~ N(0, I), and a discriminator with logit a(x).

    generator: (batch, latent + classes) → (batch, numbers). discriminator: (rows, packed · (numbers +
    classes)) → (rows, 1). classes: number of labels, 0 for none; a label is appended to z and to x as a
    one-hot code. packed: m, how many samples the discriminator judges together, all data or all generated
    (Lin et al. 2018). Raises ValueError for sizes below 1, or a negative number of labels.
    """

    def __init__(
        self, generator: nn.Module, discriminator: nn.Module, latent: int, *, classes: int = 0,
        packed: int = 1,
    ) -> None:
        super().__init__()
        if latent < 1 or packed < 1 or classes < 0:
            raise ValueError("latent and packed are at least 1 and classes is not negative, but "
                             f"latent={latent}, packed={packed}, classes={classes} came.")
        self.generator, self.discriminator = generator, discriminator
        self.latent, self.classes, self.packed = latent, classes, packed

    @property
    def range(self) -> tuple[float, float] | None:
        """Between which numbers the generator's output lies, by its last layer; None where there is no
        limit.
        """
        for layer in reversed(list(self.generator.modules())):
            if isinstance(layer, nn.Tanh):
                return -1.0, 1.0
            if isinstance(layer, nn.Sigmoid):
                return 0.0, 1.0
            if not isinstance(layer, SHAPES_ONLY):
                return None
        return None

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """z ~ N(0, I), (count, latent), on the generator's device."""
        number = next(self.generator.parameters()).dtype
        return torch.randn(count, self.latent, generator=generator, dtype=number, device=generator.device)

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """G(z), or G(z, label): (batch, latent), (batch,) → (batch, numbers).

        Raises ValueError for z of another shape, and labels that are missing, not asked for, or misshapen.
        """
        if z.dim() != 2 or z.shape[1] != self.latent:
            raise ValueError(f"Latent variables are (batch, {self.latent}), but {tuple(z.shape)} came.")
        return self.generator(self.with_labels(z, labels))

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """Samples, (count, numbers), without gradients; labels (count,) where the machine has classes."""
        return self.generate(self.draw(count, generator), labels)

    def logits(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """a(x) of each pack of m samples that follow each other. (batch, numbers) → (batch / m,).

        Raises ValueError for a batch that is no multiple of m, for labels as in `generate`, and for a
        discriminator that gives anything but one number a row.
        """
        rows = self.packs(x, labels)
        found = self.discriminator(rows)
        if found.shape != (len(rows), 1):
            raise ValueError(f"A discriminator gives one logit a row, shape ({len(rows)}, 1), but "
                             f"{tuple(found.shape)} came.")
        return found.squeeze(1)

    def packs(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Rows of m samples, each with its label: (batch, numbers) → (batch / m, m · (numbers + classes)).

        Equation eq-gan-packed.
        """
        if x.dim() != 2 or len(x) % self.packed:
            raise ValueError(f"The discriminator judges {self.packed} samples together, so a batch (batch, "
                             f"numbers) has a multiple of {self.packed} rows; {tuple(x.shape)} came.")
        rows = self.with_labels(x, labels)
        return rows.reshape(len(x) // self.packed, self.packed * rows.shape[1])

    def with_labels(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """x with one-hot labels appended: (batch, numbers) → (batch, numbers + classes).

        A label that is none of 0 … classes − 1 is refused on the CPU; on a GPU its code is all 0.
        """
        if (labels is None) != (not self.classes):
            raise ValueError("This GAN makes samples given labels, and none came." if self.classes else
                             "This GAN knows no labels, and some came: build it with classes=….")
        if labels is None:
            return x
        if labels.shape != x.shape[:1] or labels.is_floating_point() or labels.dtype == torch.bool:
            raise ValueError(f"Labels are whole numbers, one for each sample, shape ({len(x)},); "
                             f"{tuple(labels.shape)} of type {labels.dtype} came.")
        if labels.device.type == "cpu" and len(labels):         # on a GPU a look would have to wait
            least, most = (bound.item() for bound in labels.aminmax())
            if not 0 <= least <= most < self.classes:
                raise ValueError(f"Labels are 0 to {self.classes - 1}, but {least} to {most} came.")
        codes = (labels[:, None] == torch.arange(self.classes, device=x.device)).to(x.dtype)
        return torch.cat([x, codes], dim=1)


# --- learning --------------------------------------------------------------------------------------------


class LearningState(nn.Module):
    """What learning carries from step to step: the machine, its averaged generator or None, and fixed z.

    The averaged generator is always in eval mode, so that a sample does not hang on its batch.
    """

    def __init__(self, gan: GAN, averaging: float, shown: int) -> None:
        super().__init__()
        self.gan, self.averaged = gan, None
        if averaging:
            self.averaged = copy.deepcopy(gan.generator).requires_grad_(False).eval()
            self.follow = get_ema_multi_avg_fn(averaging)
        fixed = gan.draw(shown, torch.Generator().manual_seed(0))       # on the CPU: the same on every device
        self.register_buffer("fixed", fixed.to(next(gan.parameters()).device))

    def train(self, mode: bool = True) -> LearningState:
        super().train(mode)
        if self.averaged is not None:
            self.averaged.eval()
        return self

    def average(self) -> None:
        """Let the averaged generator follow: weights, running means and variances as means over the steps, other
        buffers (a power iteration's vectors, counters) as they are. Equation eq-gan-average.
        """
        mine = dict(self.averaged.named_parameters()) | dict(self.averaged.named_buffers())
        theirs = dict(self.gan.generator.named_parameters()) | dict(self.gan.generator.named_buffers())
        weights = {name for name, _ in self.averaged.named_parameters()}
        means = [name for name in mine if name in weights or name.endswith(("running_mean", "running_var"))]
        with torch.no_grad():
            self.follow([mine[name] for name in means], [theirs[name] for name in means], None)
            for name in mine.keys() - set(means):
                mine[name].copy_(theirs[name])


def widened(x: Tensor) -> Tensor:
    """At least float32: autocast's bfloat16 is too coarse for a mean of logarithms."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class AdversarialLearner(Learner):
    """One training step: n steps of the discriminator, each on its share of the batch, then one of the
    generator.

    generator_optimizer, discriminator_optimizer: of each player's parameters, with a learning rate of its
    own. loss: `NonSaturating()`, `Saturating()`, `Hinge()`, `Wasserstein()`. penalty: `R1` or
    `GradientPenalty`, or None. discriminator_steps: n. averaging: if not 0, `averaged` follows the generator
    as a mean with that decay a step. shown: how many samples from fixed z `picture` shows. Data are a tensor
    (examples, numbers), or {"x": …, "labels": …}. schedulers: by name, "generator" and "discriminator".
    Metrics of a step: the largest generated number, by size; the discriminator's loss without its penalty,
    and the penalty; mean logits of data and samples, and of samples after the discriminator's steps; the
    generator's loss and the length of its gradient. Raises ValueError for averaging outside of [0, 1), n
    below 1, a batch that n · m does not divide, data outside of the generator's range, and labels that do not
    fit.
    """

    module: LearningState
    hints = {
        "generated_largest": "The generator went first: lower its learning rate, or limit its output (Tanh).",
        **dict.fromkeys(("discriminator_loss", "real_logit", "fake_logit", "answered_logit"),
                        "The discriminator went first, unless generated_largest had grown before: lower its "
                        "learning rate, or limit its slope (R1)."),
        "penalty": "The discriminator's slope went first: lower its learning rate, or the penalty's weight.",
        "generator_loss": "The generator went first: lower its learning rate.",
        "generator_gradient": "The slope that the discriminator hands to the generator went first: lower the "
                              "discriminator's learning rate, or limit its slope (R1).",
    }

    def __init__(
        self, gan: GAN, generator_optimizer: Optimizer, discriminator_optimizer: Optimizer,
        loss: Loss = NonSaturating(), *, penalty: Penalty | None = None, discriminator_steps: int = 1,
        averaging: float = 0.0, shown: int = 64, schedulers: Mapping[str, LRScheduler] | None = None,
    ) -> None:
        if not 0 <= averaging < 1:
            raise ValueError(f"averaging is the decay of a mean, in [0, 1), but {averaging} came.")
        if discriminator_steps < 1 or shown < 1:
            raise ValueError("The discriminator makes at least one step and one sample at least is shown, but "
                             f"{discriminator_steps} and {shown} came.")
        mixes = any(isinstance(layer, BATCH_NORMS) for layer in gan.discriminator.modules())
        if penalty is not None and mixes:
            raise ValueError("A penalty is on the slope at each row, and batch normalisation mixes rows: "
                             "build the discriminator without it (normalise=False).")
        self.module = LearningState(gan, averaging, shown)
        self.loss, self.penalty, self.discriminator_steps = loss, penalty, discriminator_steps
        self.optimizers = {"generator": generator_optimizer, "discriminator": discriminator_optimizer}
        self.schedulers = dict(schedulers or {})
        for name, optimizer in self.optimizers.items():
            own = {id(weight) for weight in getattr(gan, name).parameters()}
            if any(id(weight) not in own for group in optimizer.param_groups for weight in group["params"]):
                raise ValueError(f"The {name}'s optimizer holds weights that are not the {name}'s: give it "
                                 f"gan.{name}.parameters() and no others.")

    @property
    def gan(self) -> GAN:
        return self.module.gan

    @property
    def averaged(self) -> GAN:
        """The machine with its averaged generator in eval mode; where there is none, with a copy of the generator
        as it stands.
        """
        gan, generator = self.gan, self.module.averaged
        if generator is None:
            generator = copy.deepcopy(gan.generator).eval()
        return GAN(generator, gan.discriminator, gan.latent, classes=gan.classes, packed=gan.packed)

    def begin_epoch(self, context: Context) -> None:
        if context.epoch > 1:
            return
        x, labels = self.parts(context.data)
        self.check(x, labels)
        together = self.discriminator_steps * self.gan.packed * context.processes
        if context.batch_size % together:
            raise ValueError(f"A batch of {context.batch_size} cannot be shared among "
                             f"{self.discriminator_steps} steps on packs of {self.gan.packed}: choose a "
                             f"multiple of {together}.")

    def parts(self, data: Any) -> tuple[Any, Tensor | None]:
        return (data.get("x"), data.get("labels")) if isinstance(data, Mapping) else (data, None)

    def check(self, x: Any, labels: Tensor | None) -> None:
        """Raises ValueError for data that this machine cannot learn from."""
        if not isinstance(x, Tensor) or x.dim() != 2 or not x.is_floating_point():
            raise ValueError('A GAN learns from a tensor (examples, numbers), or from {"x": …, "labels": …}: '
                             "flatten images.")
        machine = copy.deepcopy(self.gan).eval()
        number = next(machine.parameters()).dtype
        if x.dtype != number:
            raise ValueError(f"The data are {x.dtype} and the networks {number}: give data.to({number}).")
        if labels is not None and machine.classes and not (labels.min() >= 0 and labels.max() < machine.classes):
            raise ValueError(f"Labels are 0 to {machine.classes - 1}, but {labels.min()} to {labels.max()} came.")
        few = x[:machine.packed]
        first = None if labels is None else labels[:len(few)]
        z = machine.draw(len(few), torch.Generator(x.device).manual_seed(0))
        with torch.no_grad():
            made = machine.generate(z, first).shape[1]
            if made != x.shape[1]:
                raise ValueError(f"The generator makes samples of {made} numbers; the data have {x.shape[1]}.")
            self.check_discriminator(machine, few, first)
        self.check_range(x)

    def check_discriminator(self, machine: GAN, few: Tensor, labels: Tensor | None) -> None:
        """Raises ValueError where the discriminator cannot judge these samples."""
        try:
            machine.logits(few, labels)
        except RuntimeError as error:
            numbers = machine.packed * (few.shape[1] + machine.classes)
            raise ValueError(f"The discriminator cannot judge rows of {numbers} numbers, {machine.packed} · "
                             f"({few.shape[1]} + {machine.classes}): build it for the same packed, classes and "
                             "sizes as the GAN.") from error

    def check_range(self, x: Tensor) -> None:
        """Raises ValueError where the data lie outside of the generator's range, or leave a quarter of it
        unused.
        """
        if self.gan.range is None:
            return
        (low, high), (least, most) = self.gan.range, (bound.item() for bound in x.aminmax())
        slack, margin = 0.25 * (high - low), 1e-6
        if not (low - margin <= least <= low + slack and high - slack <= most <= high + margin):
            raise ValueError(f"The generator makes numbers from {low:g} to {high:g}, but the data go from "
                             f"{least:.3g} to {most:.3g}: scale the data (2 * images - 1 for a Tanh), or "
                             "change its last layer.")

    def training_step(self, batch: Any, context: Context) -> Mapping[str, Tensor]:
        x, labels = self.parts(batch)
        shares = x.chunk(self.discriminator_steps)
        given = [None] * len(shares) if labels is None else labels.chunk(self.discriminator_steps)
        for real, its_labels in zip(shares, given):
            metrics = self.discriminator_step(real, its_labels, context)
        return metrics | self.generator_step(len(real), its_labels, context)

    def discriminator_step(self, real: Tensor, labels: Tensor | None, context: Context) -> dict[str, Tensor]:
        gan = self.gan
        with context.autocast():
            fake = gan.sample(len(real), context.generator, labels)
            largest = widened(fake.abs().max())
            fake_logits, real_logits = (widened(gan.logits(each, labels)) for each in (fake, real))
            loss = self.loss.discriminator(real_logits, fake_logits)
        penalty = self.penalised(real, fake, labels, context)
        context.update(self.optimizers["discriminator"], loss if penalty is None else loss + penalty)
        return {"generated_largest": largest, "discriminator_loss": loss.detach(),
                "penalty": torch.zeros_like(loss) if penalty is None else penalty.detach(),
                "real_logit": real_logits.detach().mean(), "fake_logit": fake_logits.detach().mean()}

    def penalised(self, real: Tensor, fake: Tensor, labels: Tensor | None, context: Context) -> Tensor | None:
        """The penalty of this step, or None: on the slope in x, not in the labels; without autocast, since
        squares of slopes are too fine for bfloat16.
        """
        if self.penalty is None or context.step % self.penalty.every:
            return None

        def logits_of(packs: Tensor) -> Tensor:
            return self.gan.logits(packs.reshape(real.shape), labels)

        packs = [x.to(real.dtype).reshape(len(x) // self.gan.packed, -1) for x in (real, fake)]
        return self.penalty.every * self.penalty.of(logits_of, *packs, context.generator)

    def generator_step(self, count: int, labels: Tensor | None, context: Context) -> dict[str, Tensor]:
        with context.autocast():
            fake = self.gan.generate(self.gan.draw(count, context.generator), labels)
            logits = widened(self.gan.logits(fake, labels))
            loss = self.loss.generator(logits)
        context.update(self.optimizers["generator"], loss)
        if self.module.averaged is not None:
            self.module.average()
        gradients = [weight.grad for weight in self.gan.generator.parameters() if weight.grad is not None]
        return {"answered_logit": logits.detach().mean(), "generator_loss": loss.detach(),
                "generator_gradient": get_total_norm(gradients)}

    def evaluate(self, data: Any, context: Context) -> Mapping[str, Tensor]:
        """Mean logits of held-out data and of samples of the averaged generator, and the value of the game,
        nats, which is that of the loss only where D is a probability.

        Batch normalisation in the discriminator uses its running statistics here, so its logits are not quite
        those of training.
        """
        x, labels = self.parts(data)
        packed = self.gan.packed
        if x is None or len(x) < packed:
            return {}
        x = x[:len(x) - len(x) % packed]
        rows = max(packed, context.batch_size - context.batch_size % packed)
        machine, real, fake = self.averaged, [], []
        for start in range(0, len(x), rows):
            part = x[start:start + rows]
            given = None if labels is None else labels[start:start + len(part)]
            real.append(machine.logits(part, given))
            fake.append(machine.logits(machine.sample(len(part), context.generator, given), given))
        real_logits, fake_logits = torch.cat(real), torch.cat(fake)
        return {"value": value(real_logits, fake_logits), "real_logit": real_logits.mean(),
                "fake_logit": fake_logits.mean()}

    @torch.no_grad()
    def picture(self, context: Context) -> Tensor | None:
        """Samples from fixed z, as images in [0, 1], (shown, side, side), labels 0, 1, …; None where samples are
        no square images of a bounded range.
        """
        machine, fixed = self.averaged, self.module.fixed
        labels = torch.arange(len(fixed), device=fixed.device) % machine.classes if machine.classes else None
        made = machine.generate(fixed, labels)
        side = math.isqrt(made.shape[1])
        if machine.range is None or side**2 != made.shape[1]:
            return None
        low, high = machine.range
        return ((made - low) / (high - low)).clamp(0, 1).unflatten(1, (side, side))

    def compile(self, mode: str) -> None:
        if self.penalty is not None:
            raise ValueError("torch.compile knows no second derivatives, which a penalty on slopes needs: "
                             "leave settings.compile at None.")
        self.gan.generator.compile(mode=mode)
        self.gan.discriminator.compile(mode=mode)
