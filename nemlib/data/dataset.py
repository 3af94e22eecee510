"""The one object that every loader returns: images, with labels or groups, and where they come from."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["Dataset"]


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images in [0, 1], what is known about them, and their provenance.

    Sequences have one more axis, time, behind the first: (N, time, height, width).

    Raises:
        ValueError: a tensor has another shape, type or range than stated here, or is not finite.
    """

    images: Tensor                  # (N, height, width) float32, 0 = background, 1 = ink
    labels: Tensor | None = None    # (N,) int64, the class of each image
    groups: Tensor | None = None    # same shape as images, int64: 0 = background or overlap, 1.. = object
    name: str = ""
    source: str = ""                # who made the data, and where they are published
    licence: str = ""

    def __post_init__(self) -> None:
        _check_images(self.images)
        if self.labels is not None:
            _check_integers("labels", self.labels, self.images.shape[:1])
        if self.groups is not None:
            _check_integers("groups", self.groups, self.images.shape)

    def __len__(self) -> int:
        return self.images.shape[0]

    def __repr__(self) -> str:
        shape = " × ".join(map(str, self.images.shape[1:]))
        known = [word for word in ("labels", "groups") if getattr(self, word) is not None]
        return f"Dataset({self.name!r}: {len(self):,} images of {shape}{''.join(f', {k}' for k in known)})"

    def subset(self, which: int | slice | Tensor) -> "Dataset":
        """The first `which` images, or those that a slice, an index tensor (M,) or a mask (N,) chooses."""
        if isinstance(which, int):
            if not 0 < which <= len(self):
                raise ValueError(f"{which} images were asked for, but {self!r} has 1 to {len(self)} to give.")
            which = slice(which)
        return self._map(lambda tensor: tensor[which])

    def flat(self) -> Tensor:
        """The images as vectors: (N, height · width), or (N, time · height · width)."""
        return self.images.flatten(start_dim=1)

    def to(self, device: torch.device | str) -> "Dataset":
        """The same data set on another device."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Dataset":
        tensors = {key: getattr(self, key) for key in ("images", "labels", "groups")}
        return replace(self, **{key: change(t) for key, t in tensors.items() if t is not None})


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor) or images.dtype != torch.float32:
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"images must be a float32 tensor, but {kind} came.")
    if images.ndim not in (3, 4) or images.numel() == 0:
        raise ValueError(
            "images must have shape (N, height, width) or (N, time, height, width), none of them 0, "
            f"but {tuple(images.shape)} came."
        )
    low, high = (bound.item() for bound in images.aminmax())   # NaN anywhere makes both NaN
    if not (low >= 0 and high <= 1):
        raise ValueError(f"images must lie in [0, 1] and be finite, but their range is {low:g} to {high:g}.")


def _check_integers(name: str, values: Tensor, shape: torch.Size) -> None:
    if not isinstance(values, Tensor) or values.dtype != torch.int64:
        kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"{name} must be an int64 tensor, but {kind} came.")
    if values.shape != shape:
        raise ValueError(f"{name} must have shape {tuple(shape)}, but {tuple(values.shape)} came.")
    if values.min() < 0:
        raise ValueError(f"{name} must be 0 or more, but {values.min().item()} came.")
