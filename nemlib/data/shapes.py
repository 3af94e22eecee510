"""Static shapes: three outlines in each image, and which pixel belongs to which of them.

The problem comes from Reichert & Serre, "Neuronal Synchrony in Complex-Valued Deep Networks", ICLR 2014
(arXiv:1312.6115), and was used by Greff, Srivastava & Schmidhuber, "Binding via Reconstruction Clustering"
(2015), and by Greff, van Steenkiste & Schmidhuber, "Neural Expectation Maximization", NeurIPS 2017
(arXiv:1708.03498). The images here are drawn by a generator of our own with the same shapes and law; the
authors' own `shapes.h5`, put in place of ours, is read by the same code.
"""

from pathlib import Path

import torch
from torch import Tensor

from nemlib.data.checks import BadDataFile
from nemlib.data.dataset import Dataset
from nemlib.data.folders import find_or_generate
from nemlib.data.sequences import SEQUENCE_SPLITS, read_sequences, write_sequences

__all__ = ["draw_shapes", "static_shapes", "write_shapes"]

SIZES = dict(zip(SEQUENCE_SPLITS, (50_000, 10_000, 10_000)))
SEEDS = dict(zip(SEQUENCE_SPLITS, (1, 2, 3)))
ATTRIBUTES = {
    "name": "static shapes",
    "source": "drawn by nemlib.data.shapes after Greff, van Steenkiste & Schmidhuber (2017)",
    "licence": "MIT, as the code that draws them",
}
SQUARE = """
#######
#######
##...##
##...##
##...##
#######
#######"""
TRIANGLE = """
.....##.....
....####....
...######...
..###..###..
.###....###.
############
############"""


def static_shapes(split: str = "training", samples: int | None = None) -> Dataset:
    """Binary images with three shapes each, and the shape that each pixel belongs to.

    Args:
        split: "training" (50,000 images), "validation" (10,000) or "test" (10,000).
        samples: load only the first so many images; all of them by default.

    Returns:
        images (N, 28, 28), zeros and ones; groups of the same shape: 1, 2, 3 in the order of drawing, 0
        for the background and for pixels of more than one shape. They are read from `shapes.h5` in the
        repository's `data/`, or generated once into the user's folder.

    Raises:
        BadDataFile: `shapes.h5` is damaged, or not static shapes; ValueError: there is no such split.
        DataUnavailable: `shapes.h5` is missing and cannot be written.
    """
    path = find_or_generate("shapes.h5", write_shapes)
    shapes = read_sequences(path, split, samples=samples)
    if shapes.images.shape[1] != 1:
        raise BadDataFile(
            f"{path} holds sequences of {shapes.images.shape[1]} steps, but static shapes have one: "
            "read it with read_sequences, under another name."
        )
    return Dataset(shapes.images[:, 0], None, shapes.groups[:, 0], shapes.name, shapes.source, shapes.licence)


def draw_shapes(
    count: int, generator: torch.Generator, *, objects: int = 3, height: int = 28, width: int = 28
) -> tuple[Tensor, Tensor]:
    """Draw images of shapes, each chosen uniformly and placed uniformly where it fits into the canvas.

    The shapes are a square (7 × 7) and a triangle that points up or down (7 × 12), with outlines two
    pixels thick; an image may hold the same one twice.

    Args:
        count: number of images.
        generator: on the CPU.
        objects: shapes in each image.
        height, width: of the canvas, in pixels.

    Returns:
        images (count, height, width) uint8, the union of the shapes, 0 or 1; groups of the same shape
        and type, the number of the shape in order of drawing from 1, and 0 where none or several lie.

    Raises:
        ValueError: the canvas is smaller than the largest shape, or a number is not positive.
    """
    if count < 1 or not 1 <= objects <= 255 or height < 7 or width < 12:
        raise ValueError(
            "at least one image, 1 to 255 objects and a canvas of at least 7 × 12 are needed, but "
            f"{count} images, {objects} objects and {height} × {width} came."
        )
    outlines, widths = _outlines()
    rows, columns = torch.arange(7)[:, None], torch.arange(12)
    # the square's box is padded to 12 columns, which may hang over the right edge: hence the margin
    covered = torch.zeros(count, height, width + 12, dtype=torch.uint8)
    groups = torch.zeros_like(covered)
    for group in range(1, objects + 1):
        kind = torch.randint(len(outlines), (count,), generator=generator)
        top = torch.randint(height - 7 + 1, (count,), generator=generator)
        places = width - widths[kind] + 1
        left = (torch.rand(count, generator=generator, dtype=torch.float64) * places).long()
        box = torch.arange(count)[:, None, None], top[:, None, None] + rows, left[:, None, None] + columns
        covered[box] += outlines[kind]
        groups[box] = torch.where(outlines[kind] == 1, group, groups[box])
    groups[covered > 1] = 0
    return (covered > 0).to(torch.uint8)[..., :width], groups[..., :width]


def write_shapes(path: Path, sizes: dict[str, int] = SIZES) -> None:
    """Write the seeded data set in the authors' layout (`sizes` images a split), directly to `path`."""
    splits = {}
    for split, count in sizes.items():
        pair = draw_shapes(count, torch.Generator().manual_seed(SEEDS[split]))
        splits[split] = tuple(tensor[:, None].numpy() for tensor in pair)
    write_sequences(path, splits, ATTRIBUTES)


def _outlines() -> tuple[Tensor, Tensor]:
    """The shapes, padded to one size: (3, 7, 12) uint8, and their true widths (3,)."""
    square, triangle = (
        torch.tensor([[mark == "#" for mark in line] for line in drawing.split()], dtype=torch.uint8)
        for drawing in (SQUARE, TRIANGLE)
    )
    padded = torch.nn.functional.pad(square, (0, 12 - 7))
    return torch.stack([padded, triangle, triangle.flip(0)]), torch.tensor([7, 12, 12])
