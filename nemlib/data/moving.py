"""Flying shapes and flying MNIST: objects that move and bounce, and which of them each pixel belongs to.

The problems are those of Greff, van Steenkiste & Schmidhuber, "Neural Expectation Maximization", NeurIPS
2017 (arXiv:1708.03498). The authors published their files, and code that reads them
(github.com/sjoerdvansteenkiste/Neural-EM), but not the code that drew them. Therefore:

Seen in what they published: the files' names (`datasets.py`); frames of 28 × 28 (shapes) and 24 × 24 (digits)
in `network.py`; one frame more than the network takes steps in `nem.py`, since each step is judged on the
next frame; and in the 20 frames of `illustrations/flying_shapes.png`, where five shapes fit the pixels in
one way only, how shapes fly: by whole pixels, −1, 0 or 1 a frame in either direction (one of the five rests),
back again where their box touches an edge of the canvas, and through one another.

Inferred: that starts and velocities are uniform, and that digits fly by the same law; that a pixel belongs to
the object that covers it alone, and to none where several do, and that digits are cut to their ink, since
both are so in the static images of the same group (`Datasets/*.ipynb` of github.com/Qwlouse/Binding). That
digits, which are too large for the canvas as they are, have half their size, and which grey counts as ink,
is our choice: see `draw_flying_mnist`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from nemlib.data.checks import BadDataFile, chosen
from nemlib.data.dataset import Dataset
from nemlib.data.folders import find, find_or_generate
from nemlib.data.mnist import mnist
from nemlib.data.sequences import SEQUENCE_SPLITS, read_sequences, write_sequences
from nemlib.data.shapes import _outlines

__all__ = ["bounce", "draw_flying_mnist", "draw_flying_shapes", "film", "flying_mnist", "flying_shapes",
           "write_flying_mnist", "write_flying_shapes"]

FRAMES = 21   # of the files: as many steps of a network as the authors take, 20, and the frame after them
SIZES = dict(zip(SEQUENCE_SPLITS, (10_000, 1_000, 1_000)))
SEEDS = dict(zip(SEQUENCE_SPLITS, (1, 2, 3)))
INK = 0.25       # grey values above it belong to a digit
LEVEL = 6        # of compression: level 9 needs ten times as long for a sixth less
OVERLAP = 255    # what films hold where several objects are, until they are done
SOURCE = "drawn by nemlib.data.moving after Greff, van Steenkiste & Schmidhuber (2017)"
SHAPES = {"name": "flying shapes", "source": SOURCE, "licence": "MIT, as the code that draws them"}
DIGITS = {"name": "flying MNIST", "source": f"{SOURCE}, with the digits of MNIST", "licence": "CC BY-SA 3.0"}


def flying_shapes(
    split: str = "training", samples: int | None = None, objects: int = 3, *, steps: int | None = None
) -> Dataset:
    """Binary sequences of outlined shapes that fly and bounce, and the shape that each pixel belongs to.

    Args:
        split: "training" (10,000 sequences), "validation" (1,000) or "test" (1,000).
        samples: load only the first so many sequences; all of them by default. All of "training" take
            2 GB of memory.
        objects: shapes in each sequence.
        steps: load only the first so many frames; all of them, 21, by default.

    Returns:
        images (N, steps, 28, 28), zeros and ones; groups of the same shape: 1, 2, … in the order of drawing,
        0 for the background and for pixels of more than one shape. They are read from `flying_shapes.h5`
        (3 objects) or `flying_shapes_4.h5` etc., as the authors call their files, in the repository's
        `data/`, or generated once into the user's folder.

    Raises:
        BadDataFile: the file is damaged, or holds no sequences; DataUnavailable: it cannot be written.
        ValueError: there is no such split, or fewer samples or steps than were asked for.
    """
    chosen(split, SEQUENCE_SPLITS)
    name = "flying_shapes.h5" if objects == 3 else f"flying_shapes_{objects}.h5"
    path = find_or_generate(name, partial(write_flying_shapes, objects=objects))
    return _sequences(path, split, samples, steps)


def flying_mnist(
    split: str = "training", samples: int | None = None, objects: int = 2, *,
    variations: int | None = None, steps: int | None = None,
) -> Dataset:
    """Grey sequences of small handwritten digits that fly and bounce, and the digit of each pixel.

    The digits of "training" and "validation" are MNIST's for training, 50,000 and 10,000 of them; only
    "test" has MNIST's for testing.

    Args:
        split: "training" (10,000 sequences), "validation" (1,000) or "test" (1,000).
        samples: load only the first so many sequences; all of them by default. All of "training" take
            1.5 GB of memory.
        objects: digits in each sequence.
        variations: only so many different digits, the same in "training" and "validation": for learning
            in stages of 20, 500 and all of them. "test" is the same in all stages.
        steps: load only the first so many frames; all of them, 21, by default.

    Returns:
        images (N, steps, 24, 24) in [0, 1]; groups of the same shape: 1, 2, … in the order of drawing, 0
        where no digit or more than one has ink. They are read from `flying_mnist.h5` (2 objects, all
        digits) or a file with the authors' name, `flying_mnist_hard_2digits.h5` or, for 20 variations,
        `flying_mnist_medium20_2digits.h5`, in the repository's `data/`, or generated once into the
        user's folder.

    Raises:
        BadDataFile: the file is damaged, or holds no sequences; DataUnavailable: it cannot be written.
        ValueError: there is no such split, or fewer samples, steps or variations than were asked for.
    """
    chosen(split, SEQUENCE_SPLITS)
    pool = "hard" if variations is None else f"medium{variations}"
    names = [f"flying_mnist_{pool}_{objects}digits.h5"]
    if (objects, variations) == (2, None):
        names.append("flying_mnist.h5")
    write = partial(write_flying_mnist, objects=objects, variations=variations)
    return _sequences(find(*names) or find_or_generate(names[-1], write), split, samples, steps)


def draw_flying_shapes(
    count: int, generator: torch.Generator, *, objects: int = 3, steps: int = 20,
    height: int = 28, width: int = 28,
) -> tuple[Tensor, Tensor]:
    """Draw sequences of the shapes of `draw_shapes`, which fly in front of one another and bounce.

    Each shape is chosen uniformly, starts at a uniform place within the canvas, and moves by −1, 0 or 1
    pixels a frame, uniform, down and to the right, until it meets an edge: see `bounce`.

    Args:
        count: number of sequences.
        generator: on the CPU.
        objects: shapes in each sequence.
        steps: frames in each sequence.
        height, width: of the canvas, in pixels.

    Returns:
        images (count, steps, height, width) uint8, the union of the shapes, 0 or 1; groups of the same
        shape and type, the number of the shape in order of drawing from 1, and 0 where none or several lie.

    Raises:
        ValueError: the canvas is smaller than the largest shape, or a number is not positive.
    """
    drawings, widths = _outlines()
    sizes = torch.stack([torch.full_like(widths, drawings.shape[1]), widths], dim=1)
    _check(count, objects, steps, (height, width), sizes)
    kinds = torch.randint(len(drawings), (objects, count), generator=generator)
    places = _fly(sizes[kinds], steps, (height, width), generator)
    return film(drawings[kinds], places, height, width)


def draw_flying_mnist(
    count: int, generator: torch.Generator, digits: Tensor | None = None, *, objects: int = 2,
    steps: int = 20, height: int = 24, width: int = 24, variations: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw sequences of digits of half size, which fly in front of one another and bounce.

    Squares of 2 × 2 pixels become their mean, rounded to a multiple of 1/256 (which half precision holds
    exactly), and the digit is cut to its ink: MNIST's then have at most 11 × 11 pixels. They fly as
    shapes do in `draw_flying_shapes`. A pixel shows the brightest of the digits there, and not their sum,
    since in the spatial mixture each pixel has one cause and no pixel a grey value that no digit has.

    Args:
        count: number of sequences.
        generator: on the CPU.
        digits: (N, digit height, digit width) in [0, 1]; MNIST's for training by default.
        objects: digits in each sequence, drawn uniformly, with replacement.
        steps: frames in each sequence.
        height, width: of the canvas, in pixels.
        variations: draw from the first so many digits only.

    Returns:
        images (count, steps, height, width) float32 in [0, 1]; groups of the same shape, uint8: a digit
        has ink where its grey value is above 1/4; where one digit has ink, its number in order of drawing
        from 1, and 0 where none or several have.

    Raises:
        ValueError: the digits are no images in [0, 1] or one of them has no ink, the canvas is smaller
            than the largest digit, there are fewer digits than variations, or a number is not positive.
    """
    small, sizes = _small_digits(mnist("train").images if digits is None else digits, variations)
    _check(count, objects, steps, (height, width), sizes)
    which = torch.randint(len(small), (objects, count), generator=generator)
    places = _fly(sizes[which], steps, (height, width), generator)
    return film(small[which], places, height, width, ink=INK)


def bounce(start: Tensor, velocity: Tensor, room: Tensor, steps: int) -> Tensor:
    """Where something is, at each step, that moves evenly within 0 … room and turns round at both ends.

    At velocity ±1 each end is reached, stands for one step, and the way goes back: …, 1, 0, 1, …

    Args:
        start, velocity, room: (…), int64, start within 0 … room.
        steps: number of steps; the first is the start.

    Returns:
        Places (…, steps), int64, within 0 … room.
    """
    straight = start[..., None] + velocity[..., None] * torch.arange(steps)
    there_and_back = 2 * room[..., None]
    folded = straight.remainder(there_and_back.clamp(min=1))   # where there is no room, all is 0
    return torch.minimum(folded, there_and_back - folded)


def film(boxes: Tensor, places: Tensor, height: int, width: int, ink: float = 0) -> tuple[Tensor, Tensor]:
    """Frames of objects at their places, and which object each pixel belongs to.

    Args:
        boxes: (objects, count, box height, box width), the pictures of the objects, 0 = background, which
            may fill the lower right parts of a box; these may hang over the edges of the canvas.
        places: (objects, count, steps, 2), int64, row and column of the upper left corners of the boxes.
        height, width: of the canvas, in pixels.
        ink: pixels above this value belong to an object.

    Returns:
        images (count, steps, height, width) of the type of boxes, at each pixel the largest value there;
        groups of the same shape, uint8, the object from 1 that has ink there, 0 for none or several.

    Raises:
        ValueError: a corner is outside of the canvas.
    """
    _, count, steps, _ = places.shape
    if places.min() < 0 or (places >= torch.tensor([height, width])).any():
        raise ValueError(f"every corner must lie on the canvas of {height} × {width}, but one does not.")
    rows, columns = height + boxes.shape[2], width + boxes.shape[3]   # of a canvas with room to hang over
    corner = (torch.arange(count)[:, None, None] * rows + torch.arange(boxes.shape[2])[:, None]) * columns
    corner = corner + torch.arange(boxes.shape[3])   # where in all canvases the pixels of a box at (0, 0) are
    images = boxes.new_empty(count, steps, height, width)
    groups = torch.empty(images.shape, dtype=torch.uint8)
    for step in range(steps):
        image = boxes.new_zeros(count, rows, columns)
        group = torch.zeros_like(image, dtype=torch.uint8)
        for number, (box, place) in enumerate(zip(boxes, places[:, :, step]), start=1):
            pixels = corner + (place[:, 0] * columns + place[:, 1])[:, None, None]
            image.put_(pixels, torch.maximum(image.take(pixels), box))
            before = group.take(pixels)
            after = torch.where(before == 0, number, OVERLAP).to(torch.uint8)
            group.put_(pixels, torch.where(box > ink, after, before))
        images[:, step] = image[:, :height, :width]
        groups[:, step] = group[:, :height, :width]
    return images, groups.masked_fill_(groups == OVERLAP, 0)


def write_flying_shapes(path: Path, objects: int = 3, sizes: dict[str, int] = SIZES) -> None:
    """Write the seeded flying shapes in the authors' layout (`sizes` sequences a split) to `path`."""
    draw = partial(draw_flying_shapes, objects=objects, steps=FRAMES)
    _write(path, sizes, dict.fromkeys(sizes, draw), SHAPES)


def write_flying_mnist(
    path: Path, objects: int = 2, variations: int | None = None, sizes: dict[str, int] = SIZES
) -> None:
    """Write the seeded flying digits in the authors' layout (`sizes` sequences a split) to `path`."""
    known = mnist("train").images
    _check_digits(known, variations)
    pools = {"training": known[:50_000], "validation": known[50_000:], "test": mnist("test").images}
    if variations is not None:
        pools["training"] = pools["validation"] = known[:variations]
    draw = partial(draw_flying_mnist, objects=objects, steps=FRAMES)
    _write(path, sizes, {split: partial(draw, digits=pool) for split, pool in pools.items()}, DIGITS)


def _sequences(path: Path, split: str, samples: int | None, steps: int | None) -> Dataset:
    """One split of a file that must hold more than single images."""
    found = read_sequences(path, split, samples=samples, steps=steps)
    if found.images.shape[1] == 1 and steps != 1:
        raise BadDataFile(f"{path} holds single images, but it should hold sequences: restore or remove it, "
                          "or read it with read_sequences, under another name.")
    return found


def _write(path: Path, sizes: dict[str, int], draw: dict[str, Callable], attributes: dict[str, str]) -> None:
    splits = {}
    for split, count in sizes.items():
        images, groups = draw[split](count, torch.Generator().manual_seed(SEEDS[split]))
        kept = images.half() if images.is_floating_point() else images   # of digits' greys nothing is lost
        splits[split] = kept.numpy(), groups.numpy()
    write_sequences(path, splits, attributes, level=LEVEL)


def _fly(sizes: Tensor, steps: int, canvas: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Places (…, steps, 2) of boxes of given sizes (…, 2), with random starts and velocities."""
    room = torch.tensor(canvas) - sizes
    start = (torch.rand(room.shape, generator=generator, dtype=torch.float64) * (room + 1)).long()
    velocity = torch.randint(-1, 2, room.shape, generator=generator)
    return bounce(start, velocity, room, steps).transpose(-1, -2)


def _small_digits(digits: Tensor, variations: int | None) -> tuple[Tensor, Tensor]:
    """Digits of half size with their ink in the upper left corner (N, h, w), and its sizes (N, 2)."""
    _check_digits(digits, variations)
    small = avg_pool2d(digits[:variations, None].float(), 2)[:, 0].mul(256).round().div(256)
    blank = (small <= INK).flatten(1).all(1)
    if blank.any():
        raise ValueError(f"every digit must have ink, but digit index {blank.int().argmax()} has none.")
    corners, sizes = [], []
    for other in (2, 1):   # rows, then columns
        inked = (small > 0).any(other).int()
        corners.append(inked.argmax(1))
        sizes.append(inked.shape[1] - inked.flip(1).argmax(1) - corners[-1])
    rows, columns = ((torch.arange(length) + corner[:, None]) % length   # what is moved out comes back: empty
                     for length, corner in zip(small.shape[1:], corners))
    moved = small[torch.arange(len(small))[:, None, None], rows[:, :, None], columns[:, None]]
    return moved[:, :sizes[0].max(), :sizes[1].max()], torch.stack(sizes, dim=1)


def _check_digits(digits: Tensor, variations: int | None) -> None:
    if digits.ndim != 3 or len(digits) == 0 or min(digits.shape[1:]) < 2 or not digits.is_floating_point():
        raise ValueError("digits must be floating point numbers of shape (N, height, width), at least one "
                         f"digit of 2 × 2 pixels, but {digits.dtype} of shape {tuple(digits.shape)} came.")
    low, high = (bound.item() for bound in digits.aminmax())   # NaN anywhere makes both NaN
    if not (low >= 0 and high <= 1):
        raise ValueError(f"digits must lie in [0, 1] and be finite, but their range is {low:g} to {high:g}.")
    if variations is not None and not 1 <= variations <= len(digits):
        raise ValueError(f"variations must be 1 to {len(digits)}, as many as digits, but {variations} came.")


def _check(count: int, objects: int, steps: int, canvas: tuple[int, int], sizes: Tensor) -> None:
    tall, wide = sizes.amax(0).tolist()
    if count < 1 or not 1 <= objects < OVERLAP or steps < 1 or canvas[0] < tall or canvas[1] < wide:
        raise ValueError(
            f"at least one sequence, 1 to {OVERLAP - 1} objects, one step and a canvas of at least "
            f"{tall} × {wide} are needed, but {count} sequences, {objects} objects, {steps} steps and "
            f"{canvas[0]} × {canvas[1]} came."
        )
