"""The fixed binarization of MNIST that the literature compares on, drawn once by Hugo Larochelle.

Larochelle & Murray, "The Neural Autoregressive Distribution Estimator", AISTATS 2011. The files are text:
one image a line, 784 digits 0 or 1 with single blanks between them. They carry no labels, and their images
come in another order than MNIST's, so MNIST's labels do not fit them.
"""

import numpy as np
import torch

from nemlib.data.checks import chosen, reading, sha256
from nemlib.data.dataset import Dataset
from nemlib.data.download import RemoteFile, fetch

__all__ = ["binarized_mnist"]

SOURCE = "Larochelle & Murray (2011), a single binary draw from MNIST's grey values"
LICENCE = "derived from MNIST (CC BY-SA 3.0); the files themselves state none"
ADDRESS = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
SIZES = {"train": 50_000, "valid": 10_000, "test": 10_000}
SHA256 = {   # as TensorFlow Datasets lists them in url_checksums/binarized_mnist.txt
    "train": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
    "valid": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
    "test": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
}
PIXELS = 28 * 28


def binarized_mnist(split: str = "train") -> Dataset:
    """Larochelle's fixed binarization, fetched when it is first asked for.

    Args:
        split: "train" (50,000 images, 78 MB to fetch), "valid" or "test" (10,000 images, 16 MB each).

    Returns:
        images (N, 28, 28), zeros and ones; no labels.

    Raises:
        BadDataFile: a file is damaged or another one; ValueError: there is no such split.
        DataUnavailable: the file is not there and cannot be fetched.
    """
    chosen(split, tuple(SIZES))
    path = fetch(published(split))
    with reading(path):
        data = path.read_bytes()
        images = decode_amat(data, SIZES[split])
        if sha256(data) != SHA256[split]:
            raise ValueError("it holds binary images, but not the published ones: the checksum differs.")
        return Dataset(
            images=torch.from_numpy(images).float(),
            name=f"binarized MNIST ({split})", source=SOURCE, licence=LICENCE,
        )


def published(split: str) -> RemoteFile:
    """Where the file of a split is published."""
    name = f"binarized_mnist_{split}.amat"
    return RemoteFile(name, SHA256[split], (ADDRESS + name,))


def decode_amat(data: bytes, count: int) -> np.ndarray:
    """Text of `count` lines with 784 digits 0 or 1, as uint8 (count, 28, 28).

    Raises:
        ValueError: the text has another length, or another character, than that.
    """
    needed = count * 2 * PIXELS
    if len(data) != needed:
        raise ValueError(f"{count:,} images need {needed:,} bytes, but {len(data):,} are there.")
    characters = np.frombuffer(data, np.uint8).reshape(count, PIXELS, 2)
    digits, blanks = characters[..., 0] - ord("0"), characters[..., 1]   # below "0" wraps far above 1
    if digits.max() > 1 or (blanks[:, :-1] != ord(" ")).any() or (blanks[:, -1] != ord("\n")).any():
        raise ValueError("its lines are not 0 and 1 with single blanks between them.")
    return digits.reshape(count, 28, 28)
