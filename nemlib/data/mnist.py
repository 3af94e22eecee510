"""MNIST: 70,000 handwritten digits (LeCun, Cortes & Burges), whole, held to the published checksums."""

from pathlib import Path

import numpy as np
import torch

from nemlib.data.checks import chosen, reading, sha256
from nemlib.data.dataset import Dataset
from nemlib.data.download import RemoteFile, fetch
from nemlib.data.folders import find
from nemlib.data.h5 import dataset, group, open_h5, write_h5
from nemlib.data.idx import idx_header, read_idx

__all__ = ["mnist", "read_originals", "write_mnist"]

SOURCE = "LeCun, Cortes & Burges, The MNIST database of handwritten digits, http://yann.lecun.com/exdb/mnist/"
LICENCE = "CC BY-SA 3.0"
ATTRIBUTES = {"name": "MNIST", "source": SOURCE, "licence": LICENCE}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
FILES = {
    "train": {"images": "train-images-idx3-ubyte", "labels": "train-labels-idx1-ubyte"},
    "test": {"images": "t10k-images-idx3-ubyte", "labels": "t10k-labels-idx1-ubyte"},
}
SHAPES = {"train": (60_000, 28, 28), "test": (10_000, 28, 28)}
# of the compressed files, as TensorFlow Datasets lists them in url_checksums/mnist.txt
COMPRESSED_SHA256 = {
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
# of the files without compression, as widely published; whatever holds the digits is held to these
CONTENT_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def mnist(split: str = "train") -> Dataset:
    """The digits of one split, grey, with their labels.

    Args:
        split: "train" (60,000 images) or "test" (10,000).

    Returns:
        images (N, 28, 28), the original bytes divided by 255; labels (N,) from 0 to 9. They are read from
        `mnist.h5` in the repository's `data/`; where that is missing, from the original idx files, which
        are downloaded if need be.

    Raises:
        BadDataFile: a file is damaged or does not hold MNIST; ValueError: there is no such split.
        DataUnavailable: there is no file, and none can be fetched.
    """
    chosen(split, tuple(FILES))
    packed = find("mnist.h5")
    images, labels = _from_h5(packed, split) if packed else _from_originals(split)
    return Dataset(
        images=torch.from_numpy(images).float().div_(255),
        labels=torch.from_numpy(labels).long(),
        name=f"MNIST ({split})", source=SOURCE, licence=LICENCE,
    )


def read_originals(folder: Path | None = None) -> dict[str, np.ndarray]:
    """The four original files, compressed, in a folder: "train/images" etc. as uint8 arrays, checked.

    Without a folder they are looked for, and fetched, as other data are. Errors as in `mnist`.
    """
    arrays = {}
    for split, names in FILES.items():
        for part, name in names.items():
            path = Path(folder, f"{name}.gz") if folder else fetch(original(name), name)
            arrays[f"{split}/{part}"] = _read_original(path, name)
    return arrays


def write_mnist(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write what `read_originals` gave as one HDF5 file, directly to `path`."""
    write_h5(path, arrays, ATTRIBUTES)


def original(name: str) -> RemoteFile:
    """Where an original file is published."""
    file = f"{name}.gz"
    return RemoteFile(file, COMPRESSED_SHA256[name], tuple(mirror + file for mirror in MIRRORS))


def _from_h5(path: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    with open_h5(path) as file:
        there = group(file, split)
        images, labels = (_checked(dataset(there, part)[...], name) for part, name in FILES[split].items())
    return images, labels


def _from_originals(split: str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (_read_original(fetch(original(name), name), name) for name in FILES[split].values())
    return images.copy(), labels.copy()   # arrays over the file's bytes are read only, which torch warns of


def _read_original(path: Path, name: str) -> np.ndarray:
    array = read_idx(path)
    with reading(path):
        return _checked(array, name)


def _checked(array: np.ndarray, name: str) -> np.ndarray:
    """The array itself, if the published original file would have exactly these bytes."""
    split, part = next((s, p) for s, names in FILES.items() for p, n in names.items() if n == name)
    expected = SHAPES[split] if part == "images" else SHAPES[split][:1]
    if array.dtype != np.uint8 or array.shape != expected:
        raise ValueError(f"the {part} of '{split}' must be uint8 {expected}, no {array.dtype} {array.shape}.")
    if sha256(idx_header(array.shape), np.ascontiguousarray(array).data) != CONTENT_SHA256[name]:
        raise ValueError(f"the {part} of '{split}' are not MNIST's: their checksum is not that of {name}.")
    return array
