"""The data sets of the book: one function each, and one small object that all of them return.

    from nemlib.data import binarize, mnist
    digits = mnist("test")                     # Dataset('MNIST (test)': 10,000 images of 28 × 28, labels)
    binary = binarize(digits.images, torch.Generator().manual_seed(0))

MNIST, the static shapes and the glyphs lie in the repository's `data/`; `data/README.md` says where they
come from. Flying shapes and flying MNIST are generated, and AlphaDigits and the fixed binarization of MNIST
fetched, with a checksum, when they are first asked for, into `$NEMLIB_DATA` or the user's cache.
"""

from nemlib.data.alphadigits import CHARACTERS, alphadigits
from nemlib.data.binarization import binarize, binarize_fixed, binarize_threshold
from nemlib.data.binarized import binarized_mnist
from nemlib.data.checks import BadDataFile, DataUnavailable
from nemlib.data.dataset import Dataset
from nemlib.data.glyphs import glyphs
from nemlib.data.mnist import mnist
from nemlib.data.moving import flying_mnist, flying_shapes
from nemlib.data.sequences import read_sequences
from nemlib.data.shapes import static_shapes

__all__ = [
    "CHARACTERS", "BadDataFile", "DataUnavailable", "Dataset", "alphadigits", "binarize", "binarize_fixed",
    "binarize_threshold", "binarized_mnist", "flying_mnist", "flying_shapes", "glyphs", "mnist",
    "read_sequences", "static_shapes",
]
