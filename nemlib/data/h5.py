"""HDF5 files: reading them with every failure named, and writing them so that the bytes repeat."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from nemlib.data.checks import reading

__all__ = ["attribute", "dataset", "group", "open_h5", "write_h5"]

SAMPLES_PER_CHUNK = 1000   # larger chunks hardly compress better, smaller ones are slow to read


@contextmanager
def open_h5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; within the block every failure becomes a BadDataFile."""
    with reading(path), h5py.File(path, "r") as file:
        yield file


def group(file: h5py.File, name: str) -> h5py.Group:
    """The group `name` of a file; a ValueError lists what is there instead."""
    found = file.get(name)
    if not isinstance(found, h5py.Group):
        raise ValueError(f"it must hold a group '{name}', but holds {', '.join(sorted(file)) or 'nothing'}.")
    return found


def dataset(parent: h5py.Group, name: str) -> h5py.Dataset:
    """The data set `name` of a group; a ValueError lists what is there instead."""
    found = parent.get(name)
    if not isinstance(found, h5py.Dataset):
        there = ", ".join(sorted(parent)) or "nothing"
        raise ValueError(f"it must hold a data set '{name}' in '{parent.name}', but holds {there}.")
    if found.dtype.kind not in "biuf":
        raise ValueError(f"its data set '{found.name}' must hold numbers, but holds {found.dtype}.")
    return found


def attribute(file: h5py.File, name: str, default: str) -> str:
    """A text attribute of the file, or `default` where it has none."""
    value = file.attrs.get(name, default)
    return value.decode() if isinstance(value, bytes) else str(value)


def write_h5(
    path: Path, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, str], *, sample_axis: int = 0,
    level: int = 9,
) -> None:
    """Write arrays under names such as "train/images", compressed; equal input gives equal bytes.

    `path` is written directly: the caller passes the temporary path of `write_atomically`.
    The axis `sample_axis` is cut into chunks, so that the first samples can be read alone. `level` is gzip's:
    9 packs films hardly better than 6 and takes ten times as long.
    """
    with h5py.File(path, "w", track_order=False) as file:
        for name, array in arrays.items():
            chunks = list(array.shape)
            chunks[sample_axis] = min(chunks[sample_axis], SAMPLES_PER_CHUNK)
            file.create_dataset(name, data=array, chunks=tuple(chunks),
                                compression="gzip", compression_opts=level, track_times=False)
        file.attrs.update(attributes)
