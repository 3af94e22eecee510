"""Autoencoders: a network g that turns a picture into a few numbers, and a network f that turns them back.

The file reads as chapter 3 does: the two networks with a narrow place between them, and the loss, which is a
likelihood; the linear autoencoder and what it is bound to find, principal components; noise on the picture or
a price on the code, for autoencoders that denoise or are sparse; and at the end the losses to learn by.

    with seeded(0):
        autoencoder = six_layers(latent=3)
    learner = GradientLearner(autoencoder, reconstruction, torch.optim.Adam(autoencoder.parameters(), 1e-3))
    train(learner, images, TrainingSettings(epochs=10, batch_size=100))

Sources: Bourlard and Kamp (1988), Baldi and Hornik (1989) for the linear case; Hinton and Salakhutdinov
(2006) for deep ones; Vincent et al. (2008) for denoising; Ng (2011) for the price of activity.

Pictures x are (batch, pixels), codes z (batch, latent). Losses are in nats an image, summed over pixels.
Weights are drawn by PyTorch's own rules from its global generator: build inside `nemlib.training.seeded`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nemlib.networks import fully_connected

__all__ = [
    "Autoencoder", "PrincipalComponents", "add_noise", "denoising", "kl_sparsity", "linear", "mask_pixels",
    "pixel_entropy", "principal_angles", "reconstruction", "six_layers", "sparse",
]

Corruption = Callable[[Tensor, torch.Generator], Tensor]
Loss = Callable[[nn.Module, Tensor, torch.Generator], Mapping[str, Tensor]]


# --- two networks and the loss ------------------------------------------------------------------------------


class Autoencoder(nn.Module):
    """x̂ = f(g(x)), equation eq-ae-composition: `encode` is g, and `mean` is f.

    encoder: (batch, pixels) → (batch, latent). decoder: (batch, latent) → (batch, pixels), whose output is
    read as `pixels` says: "bernoulli" takes it for logits of pixels in [0, 1], "gaussian" for the mean of
    pixels that are any number, with one variance s² for all of them, the buffer `variance`, 1 at first.
    Raises ValueError for another word.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, pixels: str = "bernoulli") -> None:
        super().__init__()
        if pixels not in ("bernoulli", "gaussian"):
            raise ValueError(f"pixels is 'bernoulli' or 'gaussian', and {pixels!r} came.")
        self.encoder, self.decoder, self.pixels = encoder, decoder, pixels
        if pixels == "gaussian":
            self.register_buffer("variance", torch.ones(()))

    def encode(self, x: Tensor) -> Tensor:
        """g(x). (batch, pixels) → (batch, latent). Raises ValueError as `check` does."""
        self.check(x)
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """The decoder's output: logits, or the mean. (..., latent) → (..., pixels).

        Raises ValueError for codes of another width.
        """
        latent = numbers_in(self.decoder)
        if latent is not None and z.shape[-1:] != (latent,):
            raise ValueError(f"Codes of shape (..., {latent}) are decoded, and {tuple(z.shape)} came.")
        return self.decoder(z.reshape(-1, z.shape[-1])).reshape(*z.shape[:-1], -1)

    def mean(self, z: Tensor) -> Tensor:
        """f(z), the picture that a code stands for: σ(logits), or the mean. (..., latent) → (..., pixels)."""
        return self.picture(self.decode(z))

    def picture(self, output: Tensor) -> Tensor:
        """What the decoder's output says the pixels are, the same shape."""
        return torch.sigmoid(output) if self.pixels == "bernoulli" else output

    def reconstruct(self, x: Tensor) -> Tensor:
        """x̂ = f(g(x)). (batch, pixels) → (batch, pixels). Equation eq-ae-composition."""
        return self.mean(self.encode(x))

    forward = reconstruct

    def reconstruction_loss(self, x: Tensor, target: Tensor | None = None) -> Tensor:
        """−log p(target | g(x)), nats, summed over pixels. (batch, pixels) → (batch,).

        Bernoulli: the cross-entropy, equations eq-ae-bernoulli and eq-ae-logits; on grey pixels it is no
        likelihood, and never falls below `pixel_entropy`. Gaussian: equation eq-ae-gaussian with s² =
        `variance`. target: the picture to be found again, where it is another than x, as in denoising.
        Raises ValueError as `check` does, and for a target outside of [0, 1] where pixels are Bernoulli's.
        """
        target = x if target is None else target
        return self.loss_of(self.decode(self.encode(x)), target)

    def loss_of(self, output: Tensor, target: Tensor) -> Tensor:
        """The same from the decoder's output. Two tensors (batch, pixels) → (batch,)."""
        check_target(target, output, self.pixels)
        if self.pixels == "bernoulli":
            return (softplus(output) - target * output).sum(-1)
        constant = output.shape[-1] / 2 * (2 * math.pi * self.variance).log()
        return (target - output).square().sum(-1) / (2 * self.variance) + constant

    def squared_error(self, x: Tensor, target: Tensor | None = None) -> Tensor:
        """‖target − x̂‖², summed over pixels, target x unless given. (batch, pixels) → (batch,)."""
        target, found = x if target is None else target, self.reconstruct(x)
        check_target(target, found, "gaussian")
        return (target - found).square().sum(-1)

    @torch.no_grad()
    def set_variance(self, x: Tensor) -> None:
        """Set s² to the best one for these pictures: their mean squared error per pixel.

        (batch, pixels). Equation eq-ae-gaussian-variance. Raises ValueError where pixels are Bernoulli's, or
        where every picture comes back without an error.
        """
        if self.pixels != "gaussian":
            raise ValueError("Bernoulli pixels have no variance to set: build with pixels='gaussian'.")
        error = self.squared_error(x).mean() / x.shape[-1]
        if error == 0:
            raise ValueError("Every picture comes back without an error: no variance above 0 is best.")
        self.variance.copy_(error)

    def check(self, x: Tensor) -> None:
        """Raises ValueError for pictures of another shape or type of number, none at all, NaN or infinity."""
        pixels, number = numbers_in(self.encoder), next(self.encoder.parameters(), x).dtype
        if x.dim() != 2 or pixels not in (None, x.shape[1]):
            raise ValueError(f"Pictures have shape (batch, {'pixels' if pixels is None else pixels}), and "
                             f"{tuple(x.shape)} came: flatten the images, or take networks of their size.")
        if x.dtype != number:
            raise ValueError(f"The autoencoder computes in {number}, and {x.dtype} came: convert the "
                             f"pictures with .to({number}).")
        check_finite(x, "the pictures")


def softplus(a: Tensor) -> Tensor:
    """log(1 + eᵃ), exact in float64 (PyTorch's own gives a itself above 20, which is 2e-9 off)."""
    return F.softplus(a, threshold=40.0)


def numbers_in(network: nn.Module) -> int | None:
    """How many numbers a network takes, as its first layer says; None where that does not say it."""
    first = next((layer for layer in network.modules() if not any(layer.children())), network)
    if isinstance(first, nn.Unflatten):
        return math.prod(first.unflattened_size)
    return getattr(first, "in_features", None)


def check_finite(x: Tensor, what: str) -> None:
    if not x.numel():
        raise ValueError(f"No numbers came as {what}, shape {tuple(x.shape)}: give at least one row.")
    if not torch.stack(x.detach().aminmax()).isfinite().all():
        raise ValueError(f"There is nan or inf in {what}: remove or replace such rows.")


def check_target(target: Tensor, output: Tensor, pixels: str) -> None:
    """Raises ValueError for a target of another shape than the output, or that its law knows nothing of."""
    if target.shape != output.shape:
        raise ValueError(f"The target has the shape of what comes back, {tuple(output.shape)}, and "
                         f"{tuple(target.shape)} came.")
    check_finite(target, "the pictures to be found again")
    low, high = target.detach().aminmax()
    if pixels == "bernoulli" and not (low >= 0 and high <= 1):
        raise ValueError(f"Bernoulli pixels lie in [0, 1], and {low.item():g} to {high.item():g} came: scale "
                         "the images, or build with pixels='gaussian'.")


def pixel_entropy(x: Tensor) -> Tensor:
    """Σ_i H(x_i) = −Σ_i x_i log x_i + (1 − x_i) log(1 − x_i), nats: no cross-entropy with grey pixels x in
    [0, 1] is below it. (batch, pixels) → (batch,). Equation eq-ae-floor.
    """
    check_target(x, x, "bernoulli")
    return -(torch.xlogy(x, x) + torch.special.xlog1py(1 - x, -x)).sum(-1)


def six_layers(
    latent: int = 3, widths: Sequence[int] = (784, 512, 128), activation: Callable[[], nn.Module] = nn.ReLU,
    pixels: str = "bernoulli",
) -> Autoencoder:
    """Three fully connected layers down to the code and three back, which are as wide in reverse.

    widths: of the picture and of the hidden layers of the encoder; any number of them will do.
    Raises ValueError for a latent or a width below 1.
    """
    encoder = fully_connected([*widths, latent], activation)
    return Autoencoder(encoder, fully_connected([latent, *reversed(widths)], activation), pixels)


# --- the linear autoencoder and principal components --------------------------------------------------------


def linear(pixels: int, latent: int) -> Autoencoder:
    """z = A x + c and x̂ = B z + d, with Gaussian pixels: A (latent, pixels), B (pixels, latent), eq-ae-rank.

    Raises ValueError for a size below 1.
    """
    return Autoencoder(fully_connected([pixels, latent]), fully_connected([latent, pixels]), "gaussian")


@dataclass(frozen=True)
class PrincipalComponents:
    """The orthogonal projection that keeps most of the variance: what linear autoencoders tend to.

    mean: x̄, (pixels,). components: u_1 … u_L, orthonormal columns, (pixels, latent). eigenvalues: of the
    covariance with 1/N, all of them, the largest first, (pixels,). All in float64, and so is what comes back.
    Equations eq-ae-pca and thm-ae-pca; Pearson (1901), Hotelling (1933).
    """

    mean: Tensor
    components: Tensor
    eigenvalues: Tensor

    @classmethod
    def fit(cls, x: Tensor, latent: int) -> PrincipalComponents:
        """Of the pictures (batch, pixels). The largest number of each component is positive.

        Raises ValueError for another shape, fewer than two pictures, nan or inf, and a latent that is not
        in 1 … pixels.
        """
        if x.dim() != 2 or len(x) < 2:
            raise ValueError("Principal components are found of two or more pictures, (batch, pixels), and "
                             f"{tuple(x.shape)} came.")
        if not 1 <= latent <= x.shape[1]:
            raise ValueError(f"Pictures of {x.shape[1]} pixels have 1 to {x.shape[1]} components, and "
                             f"latent={latent} came.")
        check_finite(x, "the pictures")
        mean = x.double().mean(0)
        centred = x.double() - mean
        values, vectors = torch.linalg.eigh(centred.mT @ centred / len(x))
        components = vectors.flip(1)[:, :latent]
        largest = components.gather(0, components.abs().argmax(0, keepdim=True))
        return cls(mean, components * largest.sign(), values.flip(0).clamp(min=0))

    @property
    def latent(self) -> int:
        return self.components.shape[1]

    @property
    def least_error(self) -> float:
        """Σ_{j>L} λ_j: the mean squared error on the pictures it was made of. Equation eq-ae-pca."""
        return self.eigenvalues[self.latent:].sum().item()

    def encode(self, x: Tensor) -> Tensor:
        """U_Lᵀ (x − x̄). (batch, pixels) → (batch, latent)."""
        return (x.double() - self.mean) @ self.components

    def decode(self, z: Tensor) -> Tensor:
        """x̄ + U_L z. (batch, latent) → (batch, pixels)."""
        return self.mean + z.double() @ self.components.mT

    def reconstruct(self, x: Tensor) -> Tensor:
        """x̄ + P (x − x̄) with P = U_L U_Lᵀ. (batch, pixels) → (batch, pixels)."""
        return self.decode(self.encode(x))

    def squared_error(self, x: Tensor) -> Tensor:
        """‖x − x̂‖², summed over pixels. (batch, pixels) → (batch,)."""
        return (x.double() - self.reconstruct(x)).square().sum(-1)

    @torch.no_grad()
    def autoencoder(self, mixing: Tensor | None = None) -> Autoencoder:
        """The same as a linear autoencoder, in float64: A = M U_Lᵀ and B = U_L M⁻¹.

        mixing: M, invertible, (latent, latent), which changes codes and no reconstruction (eq-ae-invariance);
        the identity if not given. Raises ValueError for an M of another shape or without an inverse.
        """
        like = torch.eye(self.latent, dtype=torch.float64)
        mixing = like if mixing is None else mixing.double()
        if mixing.shape != like.shape or torch.linalg.matrix_rank(mixing) < self.latent:
            raise ValueError(f"The mixing is an invertible matrix ({self.latent}, {self.latent}), and one of "
                             f"shape {tuple(mixing.shape)} came that is not.")
        down = mixing @ self.components.mT
        up = torch.linalg.solve(mixing, self.components, left=False)
        made = linear(len(self.mean), self.latent).double()
        first, last = made.encoder[0], made.decoder[0]
        for parameter, value in ((first.weight, down), (first.bias, -down @ self.mean), (last.weight, up),
                                 (last.bias, self.mean)):
            parameter.copy_(value)
        return made


@torch.no_grad()
def principal_angles(a: Tensor, b: Tensor) -> Tensor:
    """The angles between the spaces that two matrices' columns span, radians, the smallest first.

    (pixels, L) and (pixels, M) → (min(L, M),). All 0: the narrower space lies in the other. Their cosines
    are the singular values of Q_aᵀ Q_b, and small angles are taken from their sines, which are exact there
    (Björck and Golub, 1973). Raises ValueError for matrices of different height, and for columns that depend
    on each other.
    """
    if a.dim() != 2 or b.dim() != 2 or len(a) != len(b):
        raise ValueError(f"The two matrices have one height, and shapes {tuple(a.shape)} and "
                         f"{tuple(b.shape)} came.")
    for each in (a, b):
        check_finite(each, "a matrix")
        if torch.linalg.matrix_rank(each) < each.shape[1]:
            raise ValueError(f"The {each.shape[1]} columns of a matrix {tuple(each.shape)} depend on each "
                             "other: give a basis of the space.")
    wide, narrow = sorted((torch.linalg.qr(each.double()).Q for each in (a, b)), key=lambda q: -q.shape[1])
    inside = wide.mT @ narrow
    cosines, sines = (torch.linalg.svdvals(each) for each in (inside, narrow - wide @ inside))
    return torch.atan2(sines.flip(0), cosines)


# --- corruption, and the price of activity ------------------------------------------------------------------


def mask_pixels(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Each pixel becomes 0 with that probability, independent of the others. Any shape → the same.

    Raises ValueError for a share outside of [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"The share of pixels that are masked lies in [0, 1], and {share} came.")
    kept = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device) >= share
    return x * kept


def add_noise(x: Tensor, sd: float, generator: torch.Generator) -> Tensor:
    """x + sd · ε with ε standard normal: x̃ of eq-ae-tweedie. Any shape → the same, not kept in [0, 1].

    Raises ValueError for a negative standard deviation.
    """
    if not sd >= 0:
        raise ValueError(f"A standard deviation is at least 0, and {sd} came.")
    return x + sd * torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def kl_sparsity(activity: Tensor, target: float) -> Tensor:
    """Σ_j KL(ρ ‖ ρ̂_j) between rates ρ = target and ρ̂ = activity, nats. (latent,) → (). Equation
    eq-ae-sparsity, gradient eq-ae-sparsity-gradient.

    activity: each code unit's mean over a batch, in [0, 1]. Infinite where a unit is always 0, or always 1.
    Raises ValueError for activities outside of [0, 1], or a target that is not inside of it.
    """
    if not 0 < target < 1:
        raise ValueError(f"The activity to aim at lies between 0 and 1, and {target} came.")
    low, high = activity.detach().aminmax()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"Mean activities lie in [0, 1], and {low.item():g} to {high.item():g} came: end "
                         "the encoder by nn.Sigmoid().")
    on, off = math.log(target) - activity.log(), math.log1p(-target) - torch.log1p(-activity)
    return (target * on + (1 - target) * off).sum()


# --- losses to learn by: for nemlib.training.GradientLearner ------------------------------------------------


def reconstruction(module: Autoencoder, batch: Tensor, generator: torch.Generator) -> Mapping[str, Tensor]:
    """The plain loss: of a batch (batch, pixels) the mean reconstruction loss, nats, as "loss", and the mean
    "squared_error".
    """
    return measured(module, module.encode(batch), batch)


def denoising(corrupt: Corruption) -> Loss:
    """The loss of finding x again from corrupt(x, generator), anew in every step. Equation eq-ae-denoising.

        learner = GradientLearner(autoencoder, denoising(partial(mask_pixels, share=0.3)), optimizer)
    """
    def loss(module: Autoencoder, batch: Tensor, generator: torch.Generator) -> Mapping[str, Tensor]:
        return measured(module, module.encode(corrupt(batch, generator=generator)), batch)
    return loss


def sparse(target: float, weight: float) -> Loss:
    """The plain loss plus weight · Σ_j KL(target ‖ mean activity of code unit j), equation eq-ae-sparsity.

    The encoder's last layer is nn.Sigmoid(), so that a code is an activity in [0, 1]; means are the batch's.
    Raises ValueError for a negative weight, and as `kl_sparsity` does.
    """
    if not weight >= 0:
        raise ValueError(f"The weight of sparsity is at least 0, and {weight} came.")

    def loss(module: Autoencoder, batch: Tensor, generator: torch.Generator) -> Mapping[str, Tensor]:
        z = module.encode(batch)
        found, price = measured(module, z, batch), kl_sparsity(z.mean(0), target)
        return {**found, "loss": found["loss"] + weight * price, "sparsity": price.detach()}
    return loss


def measured(module: Autoencoder, z: Tensor, target: Tensor) -> dict[str, Tensor]:
    """The mean reconstruction loss of codes z, "loss", and the mean "squared_error", without a gradient."""
    output = module.decode(z)
    with torch.no_grad():
        error = (target - module.picture(output)).square().sum(-1).mean()
    return {"loss": module.loss_of(output, target).mean(), "squared_error": error}
