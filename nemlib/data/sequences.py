"""The layout of the Neural EM authors' files: images or sequences of images, with the object of each pixel.

A file holds the groups "training", "validation" and "test"; each holds the data sets "features" and
"groups", both with the axes (time, sample, height, width, channel). Static images have one step of time
and one channel. Sources: Greff, van Steenkiste & Schmidhuber, "Neural Expectation Maximization", NeurIPS
2017 (arXiv:1708.03498); the files are read in `datasets.py` of github.com/sjoerdvansteenkiste/Neural-EM.
"""

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import torch

from nemlib.data.checks import chosen
from nemlib.data.dataset import Dataset
from nemlib.data.h5 import attribute, dataset, group, open_h5, write_h5

__all__ = ["SEQUENCE_SPLITS", "read_sequences", "write_sequences"]

SEQUENCE_SPLITS = ("training", "validation", "test")
AXES = "(time, sample, height, width, channel)"


def read_sequences(
    path: Path, split: str, *, samples: int | None = None, steps: int | None = None
) -> Dataset:
    """One split of a file in the Neural EM authors' layout, whoever wrote it.

    Features and groups may have any numeric type (the authors use float32); what else the file holds
    is left alone.

    Args:
        path: the HDF5 file.
        split: "training", "validation" or "test".
        samples: read only the first so many samples; all of them by default.
        steps: read only the first so many steps of time; all of them by default.

    Returns:
        images and groups of shape (samples, time, height, width); no labels. Name, source and licence
        are the file's own attributes where it has them.

    Raises:
        BadDataFile: the file is damaged, of another layout, or its values are not finite, outside of
            [0, 1] (features), or no small whole numbers (groups).
        ValueError: there is no such split, or fewer samples or steps than were asked for.
    """
    chosen(split, SEQUENCE_SPLITS)
    there = _lengths(path, split)   # before anything is read: such a file may hold many gigabytes
    for what, number in {"steps": steps, "samples": samples}.items():
        if number is not None and number < 1:
            raise ValueError(f"{what} must be 1 or more, but {number} came.")
        if number is not None and number > there[what]:
            raise ValueError(f"{number} {what} were asked for, but {path} has {there[what]}.")
    with open_h5(path) as file:
        features, groups = _split(file, split)
        part = slice(steps), slice(samples)
        return Dataset(
            images=torch.from_numpy(_sample_first(features, part).astype(np.float32, order="C")),
            groups=torch.from_numpy(_whole(_sample_first(groups, part))),
            name=f"{attribute(file, 'name', Path(path).stem)} ({split})",
            source=attribute(file, "source", f"{Path(path).name}, a file of your own"),
            licence=attribute(file, "licence", "not stated in the file"),
        )


def write_sequences(
    path: Path, splits: Mapping[str, tuple[np.ndarray, np.ndarray]], attributes: Mapping[str, str], *,
    level: int = 9,
) -> None:
    """Write images and groups, each (samples, time, height, width), in the layout that is read above.

    `path` is written directly: the caller passes the temporary path of `write_atomically`. `level` is
    that of the compression, as in `write_h5`.
    """
    arrays = {
        f"{split}/{name}": np.swapaxes(array, 0, 1)[..., None]
        for split, pair in splits.items() for name, array in zip(("features", "groups"), pair, strict=True)
    }
    write_h5(path, arrays, attributes, sample_axis=1, level=level)


def _lengths(path: Path, split: str) -> dict[str, int]:
    """How many steps and samples a split has."""
    with open_h5(path) as file:
        features, _ = _split(file, split)
        return dict(zip(("steps", "samples"), features.shape))


def _split(file: h5py.File, split: str) -> tuple[h5py.Dataset, h5py.Dataset]:
    """The two data sets of a split, with their shapes checked."""
    parent = group(file, split)
    features, groups = dataset(parent, "features"), dataset(parent, "groups")
    for found in (features, groups):
        if found.ndim != 5 or found.shape[-1] != 1 or 0 in found.shape:
            raise ValueError(
                f"'{found.name}' must have the axes {AXES}, none of them empty and one channel, "
                f"but its shape is {found.shape}."
            )
    if features.shape != groups.shape:
        raise ValueError(
            f"features and groups of '{split}' must have one shape, not {features.shape} and {groups.shape}."
        )
    return features, groups


def _sample_first(found: h5py.Dataset, part: tuple[slice, slice]) -> np.ndarray:
    """A part of (time, sample, height, width, 1) as a view (sample, time, height, width)."""
    return np.swapaxes(found[part][..., 0], 0, 1)


def _whole(groups: np.ndarray) -> np.ndarray:
    """Groups as int64, after a look that each is a whole number from 0 to 255, in whatever type."""
    in_range = groups.min() >= 0 and groups.max() <= 255   # false for NaN, too
    if not in_range or (groups.dtype.kind == "f" and (groups != np.rint(groups)).any()):
        raise ValueError("groups must be whole numbers from 0 to 255 and finite, but others came.")
    return groups.astype(np.int64, order="C")
