"""Glyphs: a free stand-in for Binary AlphaDigits, written by a pen that follows printed letters.

The outline of a character in one of the fonts that matplotlib ships is thinned to its middle line; the
line is slanted, turned, widened and bent a little, as a hand would; a round pen of some width follows it;
and the result is stretched to fill 20 × 16 pixels, as AlphaDigits' characters are. So a slim "1" becomes
a block here as it does there.

Beside the real characters (`nemlib.data.alphadigits`) these have about the same amount of ink, as much
variance over the set and within a class, and are about as easy to tell apart by the nearest class mean.
They differ: they come from six fonts instead of many hands, so their topology is always that of print (no
open 4, no "1" of a single stroke in most fonts); their strokes have one width from end to end and no
ragged rims; and the letter O is no copy of the digit 0, though nearly as narrow ovals look alike.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch

from nemlib.data.alphadigits import CHARACTERS, EXAMPLES, HEIGHT, WIDTH, character_labels, check_characters
from nemlib.data.dataset import Dataset
from nemlib.data.folders import find_or_generate
from nemlib.data.h5 import dataset, open_h5, write_h5

__all__ = ["draw_glyphs", "glyphs", "write_glyphs"]

SEED = 36
ATTRIBUTES = {
    "name": "glyphs",
    "source": "drawn by nemlib.data.glyphs along the letters of DejaVu, STIX and Computer Modern",
    "licence": "MIT, as the code that draws them",
}
FONTS = ("DejaVuSans", "DejaVuSans-Oblique", "cmss10", "DejaVuSerif-Italic", "STIXGeneralItalic", "cmti10")
RASTER = 64   # rows on which an outline is thinned

# spread of the hand: standard deviations, lengths in units of the character's height
TURN = 0.08        # radians
SLANT = 0.15       # shear
WIDEN = 0.15       # log of the factor
BEND = 0.05        # amplitude of each of three waves
WAVES = 2.5        # their wave numbers, radians per height
PEN = 0.07         # median radius
PEN_SPREAD = 0.3   # log of its factor, cut off at 0.8


def glyphs() -> Dataset:
    """The 1,404 glyphs: 36 characters, 39 of each.

    Returns:
        images (1404, 20, 16), zeros and ones; labels (1404,) from 0 to 35, the place in
        `nemlib.data.CHARACTERS`; 39 images of a label follow one another. They are read from `glyphs.h5`
        in the repository's `data/`, or generated once into the user's folder.

    Raises:
        BadDataFile: `glyphs.h5` is damaged or holds something else.
        DataUnavailable: `glyphs.h5` is missing and cannot be written.
    """
    with open_h5(find_or_generate("glyphs.h5", write_glyphs)) as file:
        images = check_characters(dataset(file, "images")[...])
        labels = torch.from_numpy(dataset(file, "labels")[...].astype(np.int64))
        if not torch.equal(labels, character_labels()):
            raise ValueError(f"its labels must be 0 to {len(CHARACTERS) - 1}, each {EXAMPLES} times.")
        return Dataset(images=torch.from_numpy(images).float(), labels=labels, **ATTRIBUTES)


def draw_glyphs(generator: torch.Generator) -> np.ndarray:
    """Write each of the 36 characters 39 times: (1404, 20, 16) uint8, zeros and ones, in order of label.

    Args:
        generator: on the CPU.
    """
    images = []
    for character in CHARACTERS:
        for _ in range(EXAMPLES):
            font = FONTS[int(torch.randint(len(FONTS), (), generator=generator))]
            line = _distort(_middle_line(font, character), generator)
            spread = _normal(generator).clip(-0.8 / PEN_SPREAD, 0.8 / PEN_SPREAD)
            images.append(_write(line, PEN * np.exp(PEN_SPREAD * spread)))
    return np.stack(images).astype(np.uint8)


def write_glyphs(path: Path) -> None:
    """Write the seeded data set as one HDF5 file, directly to `path`."""
    images = draw_glyphs(torch.Generator().manual_seed(SEED))
    write_h5(path, {"images": images, "labels": character_labels().numpy().astype(np.uint8)}, ATTRIBUTES)


def _normal(generator: torch.Generator, *shape: int) -> np.ndarray:
    return torch.randn(shape, generator=generator, dtype=torch.float64).numpy()


def _distort(line: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """Points (M, 2) of a line, x to the right and y down, moved as another hand would have written them."""
    turn, slant = TURN * _normal(generator), SLANT * _normal(generator)
    widen = np.exp(WIDEN * _normal(generator))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    line = line @ (rotation @ np.array([[widen, -slant], [0, 1]])).T
    waves, phases = WAVES * _normal(generator, 3, 2), 2 * np.pi * _normal(generator, 3)
    return line + np.sin(line @ waves.T + phases) @ (BEND * _normal(generator, 3, 2))


def _write(line: np.ndarray, radius: float) -> np.ndarray:
    """Follow points (M, 2) with a round pen, and stretch what it wrote to (20, 16): booleans."""
    low, high = line.min(axis=0) - radius, line.max(axis=0) + radius
    middles = ((np.arange(pixels) + 0.5) / pixels for pixels in (WIDTH, HEIGHT))
    x, y = (low[axis] + middle * (high - low)[axis] for axis, middle in enumerate(middles))
    squared_distances = (x[None, :, None] - line[:, 0]) ** 2 + (y[:, None, None] - line[:, 1]) ** 2
    return squared_distances.min(axis=2) <= radius**2


@cache
def _middle_line(font: str, character: str) -> np.ndarray:
    """Points (M, 2) along the strokes of a printed character, centred, in units of its height."""
    points = np.argwhere(thin(_print(font, character)))[:, ::-1] / (RASTER - 1)
    return points - points.mean(axis=0)


def _print(font: str, character: str) -> np.ndarray:
    """A printed character on RASTER rows, True where its outline encloses ink; rows run down."""
    # imported here: matplotlib is slow to load, and only whoever draws the glyphs anew needs it
    import matplotlib
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path as Outline
    from matplotlib.textpath import TextPath

    file = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{font}.ttf")
    contours = TextPath((0, 0), character, size=100, prop=FontProperties(fname=str(file))).to_polygons()
    corners = np.concatenate(contours)
    low, size = corners.min(axis=0), np.ptp(corners, axis=0)
    step = size[1] / (RASTER - 1)
    rows, columns = np.mgrid[RASTER - 1:-1:-1, 0:int(np.ceil(size[0] / step)) + 1]
    points = low + step * np.stack([columns.ravel(), rows.ravel()], axis=1)
    # a point within an odd number of contours is ink: the inner contour of an O is its hole
    odd = np.logical_xor.reduce([Outline(contour).contains_points(points) for contour in contours])
    return odd.reshape(rows.shape)


def thin(ink: np.ndarray) -> np.ndarray:
    """The middle lines, one pixel wide, of strokes in a boolean image.

    Zhang & Suen, "A fast parallel algorithm for thinning digital patterns", Comm. ACM 27 (1984): pixels
    on the rim go, south-east and north-west in turn, where that breaks no line and shortens no end.
    """
    ink = np.pad(ink, 1)
    previous = None
    while previous is None or (ink != previous).any():
        previous = ink
        for first, second in (((0, 2, 4), (2, 4, 6)), ((0, 2, 6), (0, 4, 6))):
            # the eight neighbours, clockwise from the north; even ones share an edge with the pixel
            shifts = ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))
            around = np.stack([np.roll(ink, shift, axis=(0, 1)) for shift in shifts])
            count = around.sum(axis=0)
            starts = (~around & np.roll(around, -1, axis=0)).sum(axis=0)   # white to black, going round
            rim = ~around[list(first)].all(axis=0) & ~around[list(second)].all(axis=0)
            ink = ink & ~((count >= 2) & (count <= 6) & (starts == 1) & rim)
    return ink[1:-1, 1:-1]
