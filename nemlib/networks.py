"""Networks that several chapters build their models of. All take and give flat vectors, (batch, numbers).

    encoder = fully_connected([784, 512, 128, 3])
    decoder = convolutional_decoder(latent=32)

Weights are drawn by PyTorch's own rules from its global generator: build inside `nemlib.training.seeded`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

__all__ = ["Residual", "convolutional_decoder", "convolutional_encoder", "fully_connected"]


def fully_connected(
    widths: Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU
) -> nn.Sequential:
    """Linear layers from widths[0] numbers to widths[-1], the activation between them and none at the end.

    (batch, widths[0]) → (batch, widths[-1]). Raises ValueError for fewer than two widths or one below 1.
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"A network needs two or more widths, each at least 1, but {list(widths)} came.")
    layers: list[nn.Module] = []
    for inputs, outputs in zip(widths[:-1], widths[1:]):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])


class Residual(nn.Module):
    """x plus two 3 × 3 convolutions of it. (batch, channels, height, width) → the same shape.

    The idea is that of He et al. (2016), with the activation in front of each convolution.
    """

    def __init__(self, channels: int, activation: Callable[[], nn.Module] = nn.SiLU) -> None:
        super().__init__()
        self.change = nn.Sequential(
            activation(), nn.Conv2d(channels, channels, 3, padding=1),
            activation(), nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.change(x)


def convolutional_encoder(
    outputs: int, *, side: int = 28, channels: tuple[int, int] = (16, 32), width: int = 256,
    blocks: int = 0, activation: Callable[[], nn.Module] = nn.SiLU,
) -> nn.Sequential:
    """Two convolutions that halve the side, `blocks` residual ones, and two linear layers.

    (batch, side²) → (batch, outputs). Raises ValueError for a side that is no multiple of 4.
    """
    small, (first, second) = quarter(side), channels
    return nn.Sequential(
        nn.Unflatten(1, (1, side, side)),
        nn.Conv2d(1, first, 4, stride=2, padding=1), activation(),
        nn.Conv2d(first, second, 4, stride=2, padding=1),
        *(Residual(second, activation) for _ in range(blocks)), activation(), nn.Flatten(),
        nn.Linear(second * small**2, width), activation(), nn.Linear(width, outputs))


def convolutional_decoder(
    latent: int, *, side: int = 28, channels: tuple[int, int] = (16, 32), width: int = 256,
    blocks: int = 0, activation: Callable[[], nn.Module] = nn.SiLU,
) -> nn.Sequential:
    """The encoder's layers the other way round. (batch, latent) → (batch, side²)."""
    small, (first, second) = quarter(side), channels
    return nn.Sequential(
        nn.Linear(latent, width), activation(), nn.Linear(width, second * small**2),
        nn.Unflatten(1, (second, small, small)),
        *(Residual(second, activation) for _ in range(blocks)), activation(),
        nn.ConvTranspose2d(second, first, 4, stride=2, padding=1), activation(),
        nn.ConvTranspose2d(first, 1, 4, stride=2, padding=1), nn.Flatten())


def quarter(side: int) -> int:
    if side < 4 or side % 4:
        raise ValueError(f"The side of the images is halved twice and must be a multiple of 4, but {side} came.")
    return side // 4
