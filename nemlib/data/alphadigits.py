"""Binary AlphaDigits: 36 handwritten characters, 39 of each (Sam Roweis's collection).

A small set on which exact likelihoods of small models can be computed. No licence is stated where it is
published, so it is fetched and never shipped; `nemlib.data.glyphs` is the stand-in that is shipped. Each
character is stretched to fill its 20 × 16 box, so a slim "1" is a block. The images of the letter O are
those of the digit 0 over again, so no classifier tells the two apart.
"""

from pathlib import Path

import numpy as np
import scipy.io
import torch

from nemlib.data.checks import reading, sha256
from nemlib.data.dataset import Dataset
from nemlib.data.download import RemoteFile, fetch

__all__ = ["CHARACTERS", "EXAMPLES", "alphadigits", "character_labels", "check_characters"]

CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"   # label k means CHARACTERS[k]
EXAMPLES = 39   # of each character
HEIGHT, WIDTH = 20, 16
PUBLISHED = RemoteFile(
    "binaryalphadigs.mat",
    # as TensorFlow Datasets lists it in url_checksums/binary_alpha_digits.txt
    "3ee9392e64e4e3bb7b35502b69bf2555a0b4197c1b31048c4189b84bc0bc6ea7",
    ("https://cs.nyu.edu/~roweis/data/binaryalphadigs.mat",),
)
# of the images' packed bits in the order of the file: holds for a file that was saved anew, too
CONTENT_SHA256 = "8b902e3078a4bb6095cd5a07c986c3ad3663042fbf32dabe55a1cb5bb6d3c987"


def alphadigits() -> Dataset:
    """The 1,404 characters, fetched when they are first asked for.

    Returns:
        images (1404, 20, 16), zeros and ones; labels (1404,) from 0 to 35, the place in `CHARACTERS`;
        39 images of a label follow one another.

    Raises:
        BadDataFile: the file is damaged or another one.
        DataUnavailable: the file is not there and cannot be fetched.
    """
    path = fetch(PUBLISHED)
    with reading(path):
        images = decode_mat(path)
        if sha256(np.packbits(images).data) != CONTENT_SHA256:
            raise ValueError("it holds characters, but not the published ones: their checksum differs.")
        return Dataset(
            images=torch.from_numpy(images).float(), labels=character_labels(), name="Binary AlphaDigits",
            source="Sam Roweis, https://cs.nyu.edu/~roweis/data.html", licence="none stated; not shipped",
        )


def decode_mat(path: Path) -> np.ndarray:
    """The cell array "dat" (36 × 39 cells of 20 × 16) of a MATLAB file, as uint8 (1404, 20, 16).

    Raises:
        ValueError: the file has no such array.
    """
    cells = scipy.io.loadmat(path, variable_names=["dat"]).get("dat")
    if cells is None or cells.shape != (len(CHARACTERS), EXAMPLES):
        shape = None if cells is None else cells.shape
        raise ValueError(f"its 'dat' must be a {len(CHARACTERS)} × {EXAMPLES} cell array, but is {shape}.")
    return check_characters(np.stack([np.asarray(cell) for cell in cells.ravel()]))


def check_characters(images: np.ndarray) -> np.ndarray:
    """The images as uint8 (1404, 20, 16), after a look that their shape is that and their values 0 or 1."""
    expected = (len(CHARACTERS) * EXAMPLES, HEIGHT, WIDTH)
    if images.shape != expected:
        raise ValueError(f"the images must have shape {expected}, but {images.shape} came.")
    if not np.isin(images, (0, 1)).all():
        raise ValueError("the images must hold zeros and ones only.")
    return images.astype(np.uint8)


def character_labels() -> torch.Tensor:
    """(1404,) int64: 39 zeros, 39 ones, …, 39 times 35."""
    return torch.arange(len(CHARACTERS)).repeat_interleave(EXAMPLES)
