"""The interactive figures of chapter 2: the landscape of a small machine, and a trained one in the page."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas
from torch import Tensor

from nemlib.explore.figure import INK, LINE, MUTED, Figure, pack, picture
from nemlib.plot import COLOURS, PALETTE
from nemlib.rbm import RBM, enumerate_binary

# What the colours of the book's palette stand for in both figures.
ROLES = {"probability": "blue", "chain": "orange", "plus": "green", "minus": "plum", "reference": "vermilion",
         "ink": "ink", "paper": "paper"}
COLOURED = {role: PALETTE[name] for role, name in ROLES.items()}
STILL = {"font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9}

LANDSCAPE = (4, 3)          # visible and hidden units: 128 states
FARTHEST = 8.0              # the largest weight or bias that the reader may give, in steps of STEP
STEP = 0.25

MOST_WEIGHTS = 400_000      # 8 bits each: 533 kB as base64 text
MOST_DIGITS = 12
# Weights come on top of what any figure takes: script, style and the still picture.
LARGEST_WITH_WEIGHTS = 640_000


# --- the energy landscape of a machine of 4 × 3 units -------------------------------------------------------


@dataclass(frozen=True)
class Preset:
    """A machine to begin with: W (4, 3), a (4,), b (3,), the state (v, h) where the chain begins, as numbers
    in the order of counting, and what the page says about it.
    """

    name: str
    W: tuple[tuple[float, ...], ...]
    a: tuple[float, ...]
    b: tuple[float, ...]
    start: tuple[int, int]
    words: str

    def machine(self) -> RBM:
        """The same in float64."""
        return _machine(torch.tensor(self.W), torch.tensor(self.a), torch.tensor(self.b))


PRESETS = (
    Preset("No edges", ((0.0,) * 3,) * 4, (-0.5, 0.75, -1.0, 0.5), (0.5, -0.75, 1.0), (5, 2), (
        "Without edges p(v, h) is the product of its rims: every row has the same pattern, and λ₂ = 0, since "
        "a sweep forgets where it began. Press an edge or a cell of the table, and give it a weight.")),
    Preset("One feature", ((6.0, 0.0, 0.0), (6.0, 0.0, 0.0), (0.0,) * 3, (0.0,) * 3), (-3.0, -3.0, 0.5, -0.5),
           (-6.0, -0.5, 0.5), (13, 5), (
        "h₁ pairs v₁ and v₂: where it is on, both are likely on; where it is off, both off. No edge joins "
        "them, and yet v₁ and v₂ hardly ever differ.")),
    Preset("Two modes far apart", ((3.0,) * 3,) * 4, (-4.5,) * 4, (-6.0,) * 3, (0, 0), (
        "All units off, or all on: two modes in opposite corners, equally likely. A move goes along a row or "
        "a column, and no row or column holds both. Run the chain, and see it stick.")),
)


def landscape(
    preset: str = "One feature", machine: RBM | None = None, seed: int = 1, copy: int = 1
) -> Figure:
    """All 128 states of an RBM of 4 × 3 units, whose weights the reader moves, and block Gibbs among them.

    preset: what is shown first, "No edges", "One feature" or "Two modes far apart".  machine: an RBM with 4
    visible and 3 hidden units, to be shown first instead, as "This machine"; its weights are rounded to
    quarters and kept between -8 and 8.  seed: of the chain.  copy: 2 for a second copy on the same page.
    Raises ValueError for another preset, and for a machine of another size.
    """
    names = [one.name for one in PRESETS]
    if preset not in names:
        raise ValueError(f"preset is {preset!r}: it should be one of {names}.")
    shown = PRESETS if machine is None else (_own(machine), *PRESETS)
    first = names.index(preset) if machine is None else 0
    return Figure(
        name="rbm-landscape", title="The energy landscape of a machine of 4 × 3 units", copy=copy,
        scripts=("random.js", "rbm_maths.js", "rbm_parts.js", "rbm_landscape.js", "rbm.css",
                 "rbm_landscape.css"),
        data={"presets": [vars(one) for one in shown], "first": first, "limit": FARTHEST,
              "step": STEP, "seed": seed, "palette": COLOURED},
        still=_still_landscape(),
        words="Interactive figure «The energy landscape of a machine of 4 × 3 units»: a sweep of block Gibbs "
              "is a move along a row and a move along a column; between two distant modes it sticks.")


def _own(machine: RBM) -> Preset:
    if (machine.visible, machine.hidden) != LANDSCAPE:
        raise ValueError("The landscape shows 4 visible and 3 hidden units; a machine of "
                         f"{machine.visible} and {machine.hidden} came: its states would not fit the page.")
    W, a, b = ((part.detach().double().cpu() / STEP).round().mul(STEP).clamp(-FARTHEST, FARTHEST)
               for part in (machine.W, machine.a, machine.b))
    return Preset("This machine", tuple(map(tuple, W.tolist())), tuple(a.tolist()), tuple(b.tolist()), (0, 0),
                  "The machine of this chapter, its weights rounded to quarters. Choose a state or a weight.")


def _machine(W: Tensor, a: Tensor, b: Tensor) -> RBM:
    """An RBM with these weights, float64."""
    machine = RBM(*W.shape, torch.Generator(), dtype=torch.float64)
    with torch.no_grad():
        for parameter, values in zip((machine.W, machine.a, machine.b), (W, a, b)):
            parameter.copy_(values)
    return machine.requires_grad_(False)


def joint(machine: RBM) -> Tensor:
    """p(v, h) of a machine small enough to enumerate, (2^visible, 2^hidden), float64."""
    v, h = enumerate_binary(machine.visible), enumerate_binary(machine.hidden)
    energies = machine.energy(v.repeat_interleave(len(h), 0), h.repeat(len(v), 1)).double()
    return torch.softmax(-energies, 0).reshape(len(v), len(h))


@cache
@rc_context(STILL)
def _still_landscape() -> str:
    """p(v, h) of the three presets, each with its rims."""
    figure = Canvas(figsize=(7.6, 3.4), layout="constrained")
    for ax, preset in zip(figure.subplots(1, len(PRESETS)), PRESETS):
        law = joint(preset.machine())
        ax.imshow(law.numpy(), cmap=_colours("paper", "blue"), aspect="auto", interpolation="none",
                  clip_on=False)
        ax.set(xticks=[0, 3.5, 7], xticklabels=["000", "h", "111"])
        ax.set(yticks=[0, 7.5, 15], yticklabels=["0000", "v", "1111"])
        ax.set_title(preset.name, color=INK)
        ax.tick_params(length=0, labelcolor=MUTED, labelsize=8, labeltop=True, labelbottom=False)
        ax.spines[:].set_visible(False)
        ax.patch.set_visible(False)
        _rim(ax.inset_axes([1.03, 0, 0.2, 1]), law.sum(1), "horizontal")
        _rim(ax.inset_axes([0, -0.15, 1, 0.12]), law.sum(0), "vertical")
        ax.text(1.03, 1.02, "p(v)", transform=ax.transAxes, color=MUTED, fontsize=8)
        ax.text(-0.04, -0.09, "p(h)", transform=ax.transAxes, color=MUTED, fontsize=8, ha="right")
    return picture(figure, alt=(
        "The joint law of three machines of 4 visible and 3 hidden units, 16 rows for v and 8 columns for h, "
        "with p(v) and p(h) at the rims. Without edges all rows have the same pattern. With one feature, "
        "rows with v₁ = v₂ are dark and the others empty. With two modes far apart only two opposite corners "
        "are dark, all units off and all on."))


def _rim(axes: Axes, law: Tensor, orientation: str) -> None:
    """A law of one layer as bars that begin at the picture, drawn as one path."""
    edges = np.arange(len(law) + 1) - 0.5
    axes.stairs(law.numpy(), edges, orientation=orientation, fill=True, color=COLOURS["blue"], clip_on=False)
    if orientation == "horizontal":
        axes.set(ylim=edges[[-1, 0]], xlim=(0, None))
    else:
        axes.set(xlim=edges[[0, -1]], ylim=(law.max().item(), 0))
    axes.axis("off")


# --- a trained machine in the page --------------------------------------------------------------------------


def machine(
    rbm: RBM, digits: Tensor, names: Sequence[str] | None = None, log_z: float | None = None, seed: int = 1,
    copy: int = 1,
) -> Figure:
    """A trained RBM that runs in the page: paint, erase, sweep, and let it complete what is missing.

    rbm: any RBM whose visible units are the pixels of an image, row by row; the page computes with
    `page_machine(rbm)`.  digits: images to begin with, (n, height, width), or (n, pixels) where they are
    square, of 0 and 1, n from 1 to 12.  names: what each is called, "digit 1", "digit 2", … if not given.
    log_z: an estimate for `page_machine(rbm)`, from which the page gives log p(v); without it, it says that F
    leaves log Z open.  seed: of the chain.  copy: 2 for a second copy on the same page.
    Raises ValueError for a machine with more than 400,000 weights, and for digits that do not fit it.
    """
    images, labels = _checked(rbm, digits, names)
    rounded = page_machine(rbm)
    return Figure(
        name="rbm-machine", title="A trained restricted Boltzmann machine, sweep by sweep", copy=copy,
        scripts=("random.js", "rbm_maths.js", "rbm_parts.js", "rbm_machine.js", "rbm.css", "rbm_machine.css"),
        data={"machine": _packed(rbm), "height": images.shape[1], "width": images.shape[2], "names": labels,
              "digits": base64.b64encode(np.packbits(images).tobytes()).decode("ascii"), "logZ": log_z,
              "seed": seed, "palette": COLOURED},
        still=_still_machine(rounded, torch.from_numpy(images).double()), largest=LARGEST_WITH_WEIGHTS,
        words="Interactive figure «A trained restricted Boltzmann machine»: half of a digit is erased, and "
              "block Gibbs completes it sweep by sweep.")


def page_machine(rbm: RBM) -> RBM:
    """The machine that the page computes with, float64: 8 bits a weight, so that the page stays small.

    The weights of each hidden unit are rounded to 255 levels between minus and plus their largest magnitude,
    biases to float16.  Its log Z, and all else, is nearly but not exactly that of `rbm`.
    """
    packed = _packed(rbm)
    W, scales, a, b = (_unpacked(packed[key]) for key in ("W", "scales", "a", "b"))
    return _machine(torch.from_numpy(W * scales[:, None]).mT, torch.from_numpy(a), torch.from_numpy(b))


def _packed(rbm: RBM) -> dict[str, Any]:
    """What the page is sent: for each hidden unit a row of int8 with its own scale, biases as float16."""
    if (weights := rbm.W.numel()) > MOST_WEIGHTS:
        most = MOST_WEIGHTS // rbm.visible
        raise ValueError(f"A machine of {rbm.visible} × {rbm.hidden} units has {weights} weights, and the "
                         f"page holds at most {MOST_WEIGHTS}: train one with at most {most} hidden units.")
    W, a, b = (part.detach().double().cpu().numpy() for part in (rbm.W.mT, rbm.a, rbm.b))
    largest = np.abs(W).max(1).astype(np.float32)
    largest[largest == 0] = 1
    return {"W": pack(W / largest[:, None], "int8"), "scales": pack(largest, "float32"),
            "a": pack(a, "float16"), "b": pack(b, "float16")}


def _unpacked(packed: dict[str, Any]) -> np.ndarray:
    """The numbers as `nx.unpack` reads them: rounded to float32."""
    types = {"float32": "<f4", "float16": "<f2", "int8": "<i1"}
    stored = np.frombuffer(base64.b64decode(packed["base64"]), types[packed["kind"]]).astype(np.float64)
    return (stored * packed["scale"]).astype(np.float32).astype(np.float64).reshape(packed["shape"])


def _checked(rbm: RBM, digits: Tensor, names: Sequence[str] | None) -> tuple[np.ndarray, list[str]]:
    images = np.asarray(digits.detach().cpu() if isinstance(digits, Tensor) else digits)
    if images.ndim == 2 and (side := math.isqrt(images.shape[1])) ** 2 == images.shape[1]:
        images = images.reshape(-1, side, side)
    if images.ndim != 3 or not 1 <= len(images) <= MOST_DIGITS:
        raise ValueError(f"digits has shape {images.shape}: it should be (n, height, width), n from 1 to "
                         f"{MOST_DIGITS}.")
    if (pixels := images.shape[1] * images.shape[2]) != rbm.visible:
        raise ValueError(f"Images of {images.shape[1]} × {images.shape[2]} have {pixels} pixels, and the "
                         f"machine has {rbm.visible} visible units: give images of its own size.")
    if not np.isin(images, (0, 1)).all():
        raise ValueError("Pixels of digits are 0 or 1, and other values (or NaN) came: binarize them first.")
    labels = [f"digit {n + 1}" for n in range(len(images))] if names is None else list(map(str, names))
    if len(labels) != len(images):
        raise ValueError(f"{len(images)} digits and {len(labels)} names came: give each digit its name.")
    return images.astype(np.uint8), labels


@rc_context(STILL)
def _still_machine(rbm: RBM, images: Tensor) -> str:
    """Three digits without their lower half, what the machine makes of them, and the weights of six units."""
    shown = images[: 3]
    height = shown.shape[1]
    known = torch.zeros_like(shown[0], dtype=torch.bool)
    known[: height // 2] = True
    made = rbm.inpaint(shown.flatten(1), known.flatten(), 200, 100, torch.Generator().manual_seed(1))
    units = rbm.W.norm(dim=0).argsort(descending=True)[: 6].tolist()
    figure = Canvas(figsize=(7.4, 2.75), layout="constrained")
    axes = figure.subplots(2, 6)
    for ax, image, mean in zip(axes[0].reshape(3, 2), shown, made.unflatten(1, shown.shape[1:])):
        given = torch.where(known, image, 0.25)
        for one, values, title in zip(ax, (given, mean), ("given", "completed")):
            _draw_pixels(one, values.numpy(), _colours("paper", "ink"), (0, 1), title)
    for ax, unit in zip(axes[1], units):
        weights = rbm.W[:, unit].reshape(shown.shape[1:]).numpy()
        largest = np.abs(weights).max() or 1
        _draw_pixels(ax, weights, _colours("plum", "paper", "green"), (-largest, largest), f"unit {unit + 1}")
    for ax in axes.flat:
        ax.axis("on" if ax.images else "off")
    return picture(figure, alt=(
        f"Above, {len(shown)} digits whose lower half is erased, each beside the machine's completion: the "
        "mean of P(v | h) over 200 sweeps that hold the upper half. Below, the weights of six hidden units "
        "as pictures, positive ones green and negative ones plum: strokes beside what they exclude."))


def _draw_pixels(axes: Axes, values: np.ndarray, colours: LinearSegmentedColormap,
                 limits: tuple[float, float], title: str) -> None:
    """A picture (height, width), kept in the file at its own size and in 17 shades."""
    scaled = np.round(16 * (values - limits[0]) / (limits[1] - limits[0])) / 16
    axes.imshow((255 * colours(scaled)[..., :3]).round().astype(np.uint8), interpolation="none")
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, color=INK)
    axes.spines[:].set_color(LINE)


def _colours(*names: str) -> LinearSegmentedColormap:
    """A scale between colours of the light page."""
    return LinearSegmentedColormap.from_list("-".join(names), [COLOURS[name] for name in names])
