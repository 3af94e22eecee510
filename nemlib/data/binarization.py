"""From grey to binary images: three ways, which give likelihoods that must not be compared.

The same model scores otherwise on each, by many nats, so a number without its binarization says little.

| way | function | published with it |
|---|---|---|
| dynamic: drawn anew whenever an image is used | `binarize` | VAE and IWAE of Burda et al. (2016), table 1 |
| fixed: drawn once, by Larochelle | `binarized_mnist` | NADE, MADE, and Burda et al. (2016), appendix D |
| fixed: drawn once, by you | `binarize_fixed` | nothing: a stand-in where Larochelle's file cannot be had |
| thresholded | `binarize_threshold` | some public code: without the noise of the grey rims, scores flatter |

Dynamic binarization also augments the training set: a model trained on a fixed one overfits more and
scores worse on the test set. Grey values themselves are no data for a Bernoulli likelihood.

Sources: Salakhutdinov & Murray (2008), who drew binary images with the grey values as expectations;
Larochelle & Murray (2011) for the fixed draw; Burda, Grosse & Salakhutdinov (2016), footnote 2, who
found that the literature mixes the ways and that the choice moves log-likelihoods considerably.
"""

import torch
from torch import Tensor

__all__ = ["binarize", "binarize_fixed", "binarize_threshold"]


def binarize(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each pixel is 1 with probability its grey value, drawn from `generator`: dynamic binarization.

    Args:
        images: any shape, floating point, in [0, 1].
        generator: on the device of the images; it moves on, so a second call draws anew.

    Returns:
        zeros and ones of the same shape, type and device.

    Raises:
        ValueError: images are not floating point, not in [0, 1] or not finite, or the generator
            is on another device.
    """
    _check_grey(images)
    if generator.device.type != images.device.type:
        raise ValueError(
            f"the generator is on {generator.device} but the images are on {images.device}: "
            f"make it with torch.Generator('{images.device.type}')."
        )
    return torch.bernoulli(images, generator=generator)


def binarize_fixed(images: Tensor, seed: int) -> Tensor:
    """One draw that stays: the same images and seed give the same bits on every device.

    The bits of an image depend on those before it, so binarize a whole split and take subsets then.
    Shapes and errors as in `binarize`.
    """
    generator = torch.Generator().manual_seed(seed)
    return binarize(images.cpu(), generator).to(images.device)


def binarize_threshold(images: Tensor, threshold: float = 0.5) -> Tensor:
    """1 where the grey value is above `threshold`, else 0; shapes and errors as in `binarize`."""
    _check_grey(images)
    if not 0 <= threshold < 1:
        raise ValueError(f"a threshold must lie in [0, 1), but {threshold} came.")
    return (images > threshold).to(images.dtype)


def _check_grey(images: Tensor) -> None:
    if not images.is_floating_point():
        raise ValueError(f"images must be floating point, but {images.dtype} came; divide bytes by 255.")
    if images.numel() == 0:
        return
    low, high = (bound.item() for bound in images.aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"images must lie in [0, 1] and be finite, but their range is {low:g} to {high:g}.")
