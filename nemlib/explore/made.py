"""The interactive figures of chapter 6: the masks of MADE in an x-ray, and a digit drawn pixel by pixel."""

import base64
import copy as copies
import html
import math
from collections.abc import Sequence
from functools import cache
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas
from torch import Tensor

from nemlib.explore.figure import INK, LINE, MUTED, Figure, pack, picture
from nemlib.made import Bernoulli, Connectivity, MADE, connectivity
from nemlib.plot import COLOURS, PALETTE, SLOTS

STILL = {"font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9}
XRAY_LIMITS = 8, 10          # inputs, and units of a hidden layer, for which the x-ray has room and colours
STILL_WIDTH = 560
LARGEST_XRAY = 80_000         # bytes: its script draws a network and up to seven matrices
LOW = "₀₁₂₃₄₅₆₇₈"

# What the colours of the book's palette stand for in the drawing of a digit.
PIXEL_ROLES = {"probability": "blue", "chain": "orange", "reference": "vermilion", "muted": "muted", "ink": "ink",
               "paper": "paper"}
MOST_LIVE = 470_000         # weights that the masks leave alive, 8 bits each: 630 kB as base64 text
MOST_DIGITS = 8
LARGEST_WITH_WEIGHTS = 700_000


# --- the x-ray: masks, paths and the zeros of the Jacobian -------------------------------------------------


def xray(
    dimensions: int = 6, widths: Sequence[int] = (7,), *, order: str | Sequence[int] = "natural",
    direct: bool = False, seed: int = 1, copy: int = 1,
) -> Figure:
    """The masks of a small MADE in an x-ray: choose sizes, ordering and degrees, and see who sees whom.

    dimensions: inputs of the network that is shown first, 2 to 8.  widths: units of its one or two hidden
    layers, 1 to 10 each, with evenly spaced degrees.  order: "natural", "reversed", "columns" (the pixels of
    the most square picture of that many, column by column), or a permutation of 0, …, D − 1: the pixel that
    comes first, second, ….  direct: with direct connections.  seed: of what the reader draws first, 1 to 999.
    copy: 2 for a second copy on the same page.
    Equations eq-made-hidden-mask to eq-made-jacobian-bound; the numbers are those of `made.Connectivity`.
    Raises ValueError for what the page cannot show.
    """
    plan = _shown(dimensions, widths, order)
    if not 1 <= seed <= 999:
        raise ValueError(f"The seed of the x-ray is 1 to 999, but {seed} came.")
    kind = order if isinstance(order, str) else "own"
    start = {"dimensions": dimensions, "widths": list(map(int, widths)), "order": kind, "degrees": "even",
             "own": plan.order.tolist(), "direct": direct, "planted": False, "seed": seed, "sort": "position"}
    roles = {"ink": "ink", "paper": "paper"} | {f"c{number}": name for number, name in enumerate(SLOTS, 1)}
    return Figure(
        name="made-xray", title="The masks of MADE in an x-ray", copy=copy,
        scripts=("random.js", "made_xray_maths.js", "rbm_parts.js", "made_xray.js", "made_xray.css"),
        data={"start": start, "palette": {role: PALETTE[name] for role, name in roles.items()}},
        still=_still_xray(tuple(plan.order.tolist()), tuple(map(int, widths)), direct),
        largest=LARGEST_XRAY,
        words="Interactive figure «The masks of MADE in an x-ray»: the number of paths from each input to "
              "each output is 0 wherever the input does not come before the output.")


def _shown(dimensions: int, widths: Sequence[int], order: str | Sequence[int]) -> Connectivity:
    """The network that the page shows first. Raises ValueError where it has no room for it."""
    most_inputs, most_units = XRAY_LIMITS
    if not 2 <= dimensions <= most_inputs:
        raise ValueError(f"The x-ray has room for 2 to {most_inputs} inputs, but {dimensions} came.")
    if not (1 <= len(widths) <= 2 and all(1 <= width <= most_units for width in widths)):
        raise ValueError(f"The x-ray shows one or two hidden layers of 1 to {most_units} units, but widths "
                         f"{list(widths)} came.")
    pixels = list(range(dimensions))
    rows = max(n for n in pixels[1:] + [1] if dimensions % n == 0 and n * n <= dimensions)
    columns = dimensions // rows
    named = {"natural": pixels, "reversed": pixels[::-1],
             "columns": [t % rows * columns + t // rows for t in pixels]}
    if isinstance(order, str) and order not in named:
        raise ValueError(f"order is {order!r}: it should be one of {list(named)}, or a permutation.")
    return connectivity(dimensions, widths, order=named[order] if isinstance(order, str) else order)


@cache
def _still_xray(order: tuple[int, ...], widths: tuple[int, ...], direct: bool) -> str:
    """The network as the page shows it first, and below it its masks and their product; SVG, as <img>.

    Written by hand: for the same lines and numbers matplotlib needs ten times as many bytes.
    """
    plan = connectivity(len(order), widths, order=order)
    pixels, position = list(order), plan.position.tolist()
    inputs, outputs = ([(f"{letter}{LOW[d + 1]}", position[d]) for d in pixels] for letter in "xa")
    heads = [inputs, *([("", degree) for degree in layer.tolist()] for layer in plan.degrees), outputs]
    masks = [mask.long() for mask in plan.masks()]
    masks[0], masks[-1] = masks[0][:, pixels], masks[-1][pixels]
    paths = (plan.paths().long() + (plan.direct().long() if direct else 0))[pixels][:, pixels]
    top, drawn = 28 + 90 * len(masks) + 56, _svg_network(heads, masks, direct)
    into = ["the hidden units"] if len(masks) == 2 else [f"hidden layer {n}" for n in range(1, len(masks))]
    titles = [*(f"Mask of {name}" for name in (*into, "the outputs")),
              "Paths and direct ones" if direct else "Paths N(d, i)"]
    left, lowest = 4, 0
    for place, mask in enumerate([*masks, paths]):
        title = titles[place]
        rows, columns = (outputs, inputs) if place == len(masks) else (heads[place + 1], heads[place])
        drawn += _svg_matrix(title, mask.tolist(), rows, columns, place < len(masks) - 1, (left, top))
        left += max(20 * len(columns) + 44, 150) + 22
        lowest = max(lowest, 20 * len(rows) + 50)
    return _as_image(drawn, max(left, STILL_WIDTH), top + lowest, alt=(
        f"A masked network of {len(order)} inputs, {' and '.join(map(str, widths))} hidden units and "
        f"{len(order)} outputs. Each input and output bears its position in the ordering, each hidden unit "
        "its degree; a connection is drawn only where a hidden unit's degree is at least the number below it, "
        "and where an output's position is above the degree below it. Below, the masks as grids of ones, and the "
        "number of paths from each input to each output: it is 0 on and above the diagonal, and "
        f"{plan.lost()} of the {len(order) * (len(order) - 1) // 2} pairs below it have no path through the "
        "hidden units."))


Heads = Sequence[tuple[str, int]]      # the name, if any, and the number of each row or column


def _svg_network(heads: Sequence[Heads], masks: Sequence[Tensor], direct: bool) -> str:
    """Inputs below, outputs above, both in the ordering; the colour and the number of a unit say the same."""
    def at(layer: int, k: int) -> tuple[int, int]:
        count = len(heads[layer])
        return round(120 + (STILL_WIDTH - 124) * (k + 0.5) / count), 28 + 90 * (len(masks) - layer)

    lines: dict[str, str] = {}
    for layer, mask in enumerate(masks):
        for r, c in mask.nonzero().tolist():
            hidden = heads[layer + 1][r] if layer < len(masks) - 1 else heads[layer][c]
            (x, y), (to_x, to_y) = at(layer, c), at(layer + 1, r)
            lines[_colour(hidden[1])] = lines.get(_colour(hidden[1]), "") + f"M{x} {y}L{to_x} {to_y}"
    drawn = "".join(f"<path d='{line}' stroke='{colour}'/>" for colour, line in lines.items())
    if direct:
        count = len(heads[0])
        ends = [(at(0, i), at(len(masks), d)) for d in range(count) for i in range(d)]
        line = "".join(f"M{x} {y}L{to_x} {to_y}" for (x, y), (to_x, to_y) in ends)
        drawn = f"<path d='{line}' stroke='{MUTED}' stroke-dasharray='5 4'/>" + drawn
    names = ["inputs: position", *["hidden units: degree"] * (len(masks) - 1), "outputs: position"]
    for layer, (units, name) in enumerate(zip(heads, names)):
        drawn += f"<text x='0' y='{at(layer, 0)[1] + 4}' class='l'>{name}</text>"
        across, y = [at(layer, k)[0] for k in range(len(units))], at(layer, 0)[1]
        drawn += "".join(f"<circle cx='{x}' cy='{y}' r='10' stroke='{_colour(number)}'/>"
                         for x, (_, number) in zip(across, units))
        drawn += _svg_digits(across, y + 4, [number for _, number in units])
        drawn += "".join(_svg_text(x, y + (24 if layer == 0 else -15), label)
                         for x, (label, _) in zip(across, units) if label)
    return drawn


def _svg_matrix(
    title: str, values: list[list[int]], rows: Heads, columns: Heads, by_rows: bool, corner: tuple[int, int]
) -> str:
    """A matrix with its numbers; by_rows: the rows' numbers colour the cells, else the columns'."""
    left, top = corner[0] + 40, corner[1] + 44
    across = [left + 20 * c + 10 for c in range(len(columns))]
    drawn = f"<text x='{corner[0]}' y='{corner[1]}' class='l'>{title}</text>"
    drawn += _svg_digits(across, top - 6, [number for _, number in columns])
    drawn += "".join(_svg_text(x, top - 21, name) for x, (name, _) in zip(across, columns) if name)
    cells: dict[str, str] = {}
    for r, (name, number) in enumerate(rows):
        y = top + 20 * r
        drawn += _svg_text(left - 18, y + 14, f"{name} {number}".strip())
        drawn += _svg_digits(across, y + 14, values[r])
        for x, value, column in zip(across, values[r], columns):
            colour = _colour(number if by_rows else column[1])
            cells[colour] = cells.get(colour, "") + (f"M{x - 10} {y}h20v20h-20" if value else "")
    grid = "".join(f"M{left} {top + 20 * r}h{20 * len(columns)}" for r in range(len(rows) + 1))
    grid += "".join(f"M{left + 20 * c} {top}v{20 * len(rows)}" for c in range(len(columns) + 1))
    shades = "".join(f"<path d='{cell}' style='fill:{colour}60'/>" for colour, cell in cells.items() if cell)
    return shades + f"<path d='{grid}' stroke='{LINE}'/>" + drawn


def _svg_text(x: int | str, y: int, words: object) -> str:
    return f"<text x='{x}' y='{y}'>{words}</text>"


def _svg_digits(across: Sequence[int], y: int, values: Sequence[int]) -> str:
    """A row of numbers: those of one digit in one element, which knows where each belongs."""
    digits = [(x, value) for x, value in zip(across, values) if value < 10]
    drawn = _svg_text(" ".join(str(x) for x, _ in digits), y, "".join(str(value) for _, value in digits))
    return drawn + "".join(_svg_text(x, y, value) for x, value in zip(across, values) if value >= 10)


def _as_image(drawn: str, width: int, height: int, alt: str) -> str:
    """SVG on a ground of its own as an <img> that asks for nothing."""
    style = (f"text{{font:11px sans-serif;fill:{INK};text-anchor:middle}}.l{{fill:{MUTED};text-anchor:start}}"
             "path{fill:none;stroke-width:1.2}circle{fill:white;stroke-width:2.4}")
    svg = (f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'><style>{style}</style>"
           f"<rect width='{width}' height='{height}' fill='white'/>{drawn}</svg>")
    address = "data:image/svg+xml," + quote(svg, safe=" =:;/,.'()-_!*@+>{}")
    return (f'<img src="{address}" alt="{html.escape(alt)}" width="{width}" height="{height}" '
            'style="max-width:100%;height:auto">')


def _colour(number: int) -> str:
    """The colour that a position or a degree has beside its number."""
    return COLOURS[SLOTS[number - 1]]


# --- a digit, pixel by pixel ---------------------------------------------------------------------------------


def pixel_by_pixel(
    made: MADE, digits: Tensor, names: Sequence[str] | None = None, *, rows: int | None = None,
    average: float | None = None, seed: int = 1, copy: int = 1,
) -> Figure:
    """A trained MADE that draws a digit in the page, pixel by pixel, and counts the nats of each.

    made: of bits, with one hidden layer of rectifiers and the natural ordering, whose dimensions are the pixels of
    an image, row by row; the page computes with `page_made(made)`.  digits: test images to begin with and to
    compare with, (n, height, width), or (n, pixels) where they are square, of 0 and 1, n from 1 to 8.  names: what
    each is called, "digit 1", "digit 2", … if not given.  rows: how many upper rows are given where a digit is
    chosen; half of them if not given.  average: the mean of log p(x) over the test set under `page_made(made)`,
    nats, to be shown beside.  seed: of the drawing.  copy: 2 for a second copy on the same page.
    Raises ValueError for another network, one with more than 450,000 live weights, and digits that do not fit it.
    """
    images, labels = _checked_digits(made, digits, names)
    height, width = images.shape[1:]
    rows = height // 2 if rows is None else rows
    if not 0 <= rows <= height:
        raise ValueError(f"rows is {rows}: it should be a number of upper rows, from 0 to {height}.")
    if average is not None and not average < 0:
        raise ValueError(f"average is {average}: the mean of log p(x) in nats is below 0.")
    return Figure(
        name="made-pixels", title="A digit, drawn pixel by pixel by a masked autoencoder", copy=copy,
        scripts=("random.js", "made_pixels_maths.js", "rbm_parts.js", "made_pixels.js", "rbm.css",
                 "rbm_machine.css", "made_pixels.css"),
        data={"model": _packed(made), "height": height, "width": width, "names": labels, "rows": rows,
              "digits": base64.b64encode(np.packbits(images).tobytes()).decode("ascii"), "average": average,
              "seed": seed, "palette": {role: PALETTE[name] for role, name in PIXEL_ROLES.items()}},
        still=_still_pixels(page_made(made), torch.from_numpy(images)), largest=LARGEST_WITH_WEIGHTS,
        words="Interactive figure «A digit, drawn pixel by pixel by a masked autoencoder»: the upper half of a "
              "test digit is given, the model draws the rest, and the nats of all pixels add up to −log p(x).")


def page_made(made: MADE) -> MADE:
    """The MADE that the page computes with, float64: 8 bits a weight, so that the page stays small.

    The live weights of each hidden unit and of each output are rounded to 255 levels between minus and plus their
    largest magnitude, biases to float16. Raises ValueError as `pixel_by_pixel` does.
    """
    packed, (by, masks) = _packed(made), _stairs(made)
    rounded = copies.deepcopy(made).double().cpu().eval().requires_grad_(False)
    rounded.hidden[0].weight[by] = _unpacked_rows(packed["W"], masks["W"])
    rounded.hidden[0].bias[by] = _unpacked(packed["b"])
    rounded.output.weight[:, by] = _unpacked_rows(packed["V"], masks["V"])
    rounded.output.bias.copy_(_unpacked(packed["c"]))
    if rounded.skip is not None:
        rounded.skip.weight.copy_(_unpacked_rows(packed["A"], masks["A"]))
    return rounded


def _stairs(made: MADE) -> tuple[Tensor, dict[str, Tensor]]:
    """The hidden units by degree, and the masks with the units so sorted: every row is live up to a point."""
    degrees = made.connectivity.degrees[0]
    by, (inner, outer) = degrees.argsort(stable=True), made.connectivity.masks()
    return by, {"W": inner[by], "V": outer[:, by], "A": made.connectivity.direct()}


def _packed(made: MADE) -> dict[str, Any]:
    """What the page is sent: degrees, the live weights row after row as int8, and biases as float16."""
    _check_drawable(made)
    by, masks = _stairs(made)
    W, b, V, c = (part.detach().double().cpu() for part in (made.hidden[0].weight, made.hidden[0].bias,
                                                            made.output.weight, made.output.bias))
    weights = {"W": W[by], "V": V[:, by]}
    if made.skip is not None:
        weights["A"] = made.skip.weight.detach().double().cpu()
    if (live := sum(int(masks[name].sum()) for name in weights)) > MOST_LIVE:
        raise ValueError(f"This MADE has {live} live weights, and the page holds at most {MOST_LIVE}: train one "
                         "with fewer hidden units, or without direct connections.")
    return {"degrees": made.connectivity.degrees[0][by].tolist(), "b": pack(b[by], "float16"),
            "c": pack(c, "float16"), "A": None,
            **{name: _packed_rows(weight, masks[name]) for name, weight in weights.items()}}


def _check_drawable(made: MADE) -> None:
    """Raises ValueError for a network that the page does not compute."""
    if not isinstance(made.law, Bernoulli) or made.classes or len(made.widths) != 1:
        raise ValueError("The page draws bits by a MADE with one hidden layer and no labels; one with the law "
                         f"{made.law}, hidden layers of {made.widths} and {made.classes} labels came.")
    if not torch.equal(made.connectivity.order.cpu(), torch.arange(made.dimensions)):
        raise ValueError("The page draws row by row, from left to right, and this MADE wears another ordering: "
                         "train one with order='natural'.")
    probe = torch.linspace(-3, 3, 13)
    if not torch.equal(made.activation(probe), probe.relu()):
        raise ValueError("The page computes rectifiers, and this MADE has another activation: train one with "
                         "F.relu.")


def _packed_rows(weight: Tensor, mask: Tensor) -> dict[str, Any]:
    """The live weights, row after row as int8, and the scale of each row."""
    largest = (weight * mask).abs().amax(1).float()
    largest[largest == 0] = 1
    return {"values": pack((weight / largest[:, None])[mask], "int8"), "scales": pack(largest)}


def _unpacked_rows(packed: dict[str, Any], mask: Tensor) -> Tensor:
    weight = torch.zeros(mask.shape, dtype=torch.float64)
    weight[mask] = _unpacked(packed["values"])
    return weight * _unpacked(packed["scales"])[:, None]


def _unpacked(packed: dict[str, Any]) -> Tensor:
    """The numbers as `nx.unpack` reads them, rounded to float32; as float64."""
    types = {"float32": "<f4", "float16": "<f2", "int8": "<i1"}
    stored = np.frombuffer(base64.b64decode(packed["base64"]), types[packed["kind"]]).astype(np.float64)
    return torch.from_numpy((stored * packed["scale"]).astype(np.float32).astype(np.float64))


def _checked_digits(made: MADE, digits: Tensor, names: Sequence[str] | None) -> tuple[np.ndarray, list[str]]:
    images = np.asarray(digits.detach().cpu() if isinstance(digits, Tensor) else digits)
    if images.ndim == 2 and (side := math.isqrt(images.shape[1])) ** 2 == images.shape[1]:
        images = images.reshape(-1, side, side)
    if images.ndim != 3 or not 1 <= len(images) <= MOST_DIGITS:
        raise ValueError(f"digits has shape {images.shape}: it should be (n, height, width), n from 1 to "
                         f"{MOST_DIGITS}.")
    if (pixels := images.shape[1] * images.shape[2]) != made.dimensions:
        raise ValueError(f"Images of {images.shape[1]} × {images.shape[2]} have {pixels} pixels, and the MADE has "
                         f"{made.dimensions} dimensions: give images of its own size.")
    if not np.isin(images, (0, 1)).all():
        raise ValueError("Pixels of digits are 0 or 1, and other values (or NaN) came: binarize them first.")
    labels = [f"digit {n + 1}" for n in range(len(images))] if names is None else list(map(str, names))
    if len(labels) != len(images):
        raise ValueError(f"{len(images)} digits and {len(labels)} names came: give each digit its name.")
    return images.astype(np.uint8), labels


@rc_context(STILL)
def _still_pixels(made: MADE, images: Tensor) -> str:
    """The upper half of a digit, three ways to go on and the digit itself; beside them the nats as they add up."""
    height, width = images.shape[1:]
    given = torch.arange(height * width) < height // 2 * width
    digit = images[0].flatten().double()
    ways = made.complete(digit.expand(3, -1), given, torch.Generator().manual_seed(0))
    shown = torch.cat([digit[None], ways])
    nats = -made.log_conditionals(shown)
    figure = Canvas(figsize=(7.4, 2.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(3, 2))
    faces = left.subplots(1, 5)
    pale = torch.where(given, digit, 0.2)
    titles = ["given", *(f"{total:.1f} nats" for total in nats.sum(1).roll(-1).tolist()[:3]),
              f"{nats[0].sum():.1f} nats\n(the digit)"]
    for ax, image, title in zip(faces, (pale, *ways, digit), titles):
        ax.imshow(_ink(image.reshape(height, width).numpy()), interpolation="none")
        ax.set(xticks=[], yticks=[])
        ax.set_title(title, color=INK, fontsize=7.5)
        ax.spines[:].set_color(LINE)
    _draw_sums(right.subplots(), nats, width)
    return picture(figure, alt=(
        "Left, the upper half of a test digit, three different lower halves that the model drew for it, and the "
        "digit itself, each with −log p of the whole image in nats. Right, the nats added up pixel by pixel: the "
        "curves are one curve for the given half, then each climbs by its own, in steps where a row of ink is "
        "crossed."))


def _draw_sums(axes: Axes, nats: Tensor, width: int) -> None:
    """−log p(x) row by row: of the digit dashed, of its completions as lines."""
    climbed = torch.nn.functional.pad(nats.cumsum(1), (1, 0))[:, ::width]
    for k, heights in enumerate(climbed.tolist()):
        axes.plot(range(len(heights)), heights, color=COLOURS["orange" if k else "vermilion"], linewidth=1.4,
                  linestyle="-" if k else "--", zorder=2 if k else 3)
    axes.set(xlabel="rows", ylabel="−log p so far, nats", ylim=(0, None), xlim=(0, climbed.shape[1] - 1))
    axes.tick_params(color=LINE, labelcolor=MUTED, labelsize=8)
    axes.xaxis.label.set_color(MUTED)
    axes.yaxis.label.set_color(MUTED)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)


def _ink(values: np.ndarray) -> np.ndarray:
    """A picture (height, width) of [0, 1] in the colours of the light page, in 11 shades."""
    ramp = LinearSegmentedColormap.from_list("ink", [COLOURS["paper"], COLOURS["ink"]])
    return (255 * ramp(np.round(10 * values) / 10)[..., :3]).round().astype(np.uint8)
