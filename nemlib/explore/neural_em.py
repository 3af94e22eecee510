"""The interactive figures of chapter 8: EM for a Gaussian mixture, and a trained RNN-EM on a drawing."""

import base64
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Ellipse, PathPatch
from matplotlib.path import Path
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from torch import Tensor

from nemlib.data.shapes import SQUARE, TRIANGLE
from nemlib.explore.figure import INK, LINE, MUTED, ORANGE, Figure, pack, picture
from nemlib.neural_em import RNNEM, random_gamma
from nemlib.plot import PALETTE, SLOTS, slot_colours

MOST_SLOTS = 6
COLOURS = {"slots": [PALETTE[name] for name in SLOTS[:MOST_SLOTS]], "ink": PALETTE["ink"],
           "paper": PALETTE["paper"], "climb": PALETTE["vermilion"]}
STILL = {"font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "legend.fontsize": 8}

# size, mean, standard deviations along the cluster's own axes, and their angle in radians
CLUSTERS = ((60, (-1.5, -0.7), (0.95, 0.42), 1.0), (50, (1.4, 1.3), (0.9, 0.45), -0.55),
            (40, (1.3, -1.6), (0.75, 0.5), 0.2))
STARTS = {2: ((-0.5, 0.8), (0.5, 0.8)), 3: ((-0.5, 0.5), (0.0, -0.5), (0.5, 0.5)),
          4: ((-1.2, 0.8), (-0.4, 0.3), (0.4, 0.3), (1.2, 0.8))}
VARIANCE, FLOOR = 1.0, 0.01       # of every component at the start, and the least that a component may have

SIDE = 28                                     # pixels of the canvas, in height and in width
SHAPES = [SQUARE.split(), TRIANGLE.split(), TRIANGLE.split()[::-1]]
STAMPS = [(1, 4, 2), (0, 8, 13), (2, 17, 9)]  # (shape, top, left), what stands on the canvas at first
MATRICES = {"encoder.weight": "encoder", "recurrence.weight": "recurrence", "decoder.weight": "decoder"}
BIASES = {"recurrence.bias": "hiddenBias", "decoder.bias": "outputBias"}
# A network of 64 hidden units has 105,000 weights, 140 kB as the base64 text of their 8 bits each: this figure
# may be larger than others.
LARGEST_WITH_WEIGHTS = 240_000


# --- EM for a Gaussian mixture ------------------------------------------------------------------------------


def gaussian_mixture(components: int = 3, copy: int = 1) -> Figure:
    """EM for a mixture of Gaussians in the plane, step by step, with the bound that climbs to the likelihood.

    components: K, 2 to 4, at the start; the reader may change it.  copy: 2 for a second copy on the same
    page.  Raises ValueError for another K.
    """
    if components not in STARTS:
        raise ValueError(f"components is {components!r}: it should be 2, 3 or 4.")
    return Figure(
        name="nem-mixture", title="EM for a Gaussian mixture: the bound climbs to the likelihood", copy=copy,
        scripts=("nem_slots.js", "nem_mixture_maths.js", "nem_mixture.js", "nem_slots.css",
                 "nem_mixture.css"),
        data={"components": components, "points": pack(clusters(), "float16"), "limit": 3.6,
              "variance": VARIANCE, "floor": FLOOR, "centre": [0, 0], "starts": STARTS, "palette": COLOURS},
        still=_still_mixture(),
        words="Interactive figure «EM for a Gaussian mixture»: each E-step lifts the bound until it touches "
              "the log-likelihood, each M-step goes to the bound's maximum, and the likelihood never falls.")


def clusters(seed: int = 3) -> np.ndarray:
    """The points of the figure: three elongated clusters, (150, 2), float64."""
    rng = np.random.default_rng(seed)
    parts = []
    for size, mean, spread, angle in CLUSTERS:
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        parts.append(rng.normal(size=(size, 2)) * spread @ turn.T + mean)
    return np.concatenate(parts)


def _log_joint(model: tuple, points: np.ndarray) -> np.ndarray:
    """log π_k + log N(x_n; μ_k, Σ_k), (N, K); model: weights (K,), means (K, 2), covariances (K, 2, 2)."""
    return np.stack([np.log(weight) + multivariate_normal(mean, covariance).logpdf(points)
                     for weight, mean, covariance in zip(*model)], 1)


def _em(model: tuple, points: np.ndarray, steps: int) -> list[tuple]:
    """The models of EM from a start, before each step and after the last."""
    models = [model]
    for _ in range(steps):
        joint = _log_joint(models[-1], points)
        gamma = np.exp(joint - logsumexp(joint, 1, keepdims=True))
        sizes = gamma.sum(0)
        means = gamma.T @ points / sizes[:, None]
        apart = points[:, None] - means                                         # (N, K, 2)
        covariances = np.einsum("nk,nki,nkj->kij", gamma, apart, apart) / sizes[:, None, None]
        models.append((sizes / len(points), means, covariances))
    return models


@cache
@rc_context(STILL)
def _still_mixture() -> str:
    """The mixture that EM found, and four iterations: likelihood and bounds along the way, and the climb."""
    points, K = clusters(), 3
    start = np.full(K, 1 / K), np.array(STARTS[K]), np.tile(VARIANCE * np.eye(2), (K, 1, 1))
    models = _em(start, points, 25)
    figure, (found, bounds) = _panels(2, (7.6, 3.1))
    joint = _log_joint(models[-1], points)
    gamma = np.exp(joint - logsumexp(joint, 1, keepdims=True))
    colours = np.array([_rgb(PALETTE[name][0]) for name in SLOTS[:K]])
    for k, (mean, covariance) in enumerate(zip(*models[-1][1:])):
        _dots(found, points[gamma.argmax(1) == k], colours[k])
        _ellipse(found, mean, covariance, colours[k])
        found.text(*mean, k + 1, color=INK, weight="bold", ha="center", va="center")
    found.set(title="the mixture that EM finds", xlabel="x₁", ylabel="x₂", aspect="equal")
    found.set(xticks=[-2, 0, 2], yticks=[-2, 0, 2])
    _draw_bounds(bounds, models[2:7], points)
    return picture(figure, alt=(
        "Left, three clusters of points, each in its own colour, under the ellipses of the three Gaussians "
        "that EM found. Right, the log-likelihood along four iterations of EM: at the start of each a bound "
        "touches it from below, the M-step goes to the maximum of that bound, and there the likelihood is "
        "higher still, so that it never falls."))


def _draw_bounds(axes: Axes, models: list[tuple], points: np.ndarray) -> None:
    """The log-likelihood along straight lines between models, each with the bound that begins on it."""
    t = np.linspace(0, 1, 11)
    for i, (old, new) in enumerate(zip(models, models[1:])):
        joint = _log_joint(old, points)
        log_gamma = joint - logsumexp(joint, 1, keepdims=True)
        on_line = [_log_joint([a + s * (b - a) for a, b in zip(old, new)], points) for s in t]
        likelihood = [logsumexp(joint, 1).sum() for joint in on_line]
        bound = [(np.exp(log_gamma) * (joint - log_gamma)).sum() for joint in on_line]
        axes.plot(i + t, likelihood, color=INK, lw=1.8, label="log-likelihood" if i == 0 else None)
        axes.plot(i + t, bound, color=ORANGE, lw=1.4, label="bound ℒ(γ, ·)" if i == 0 else None)
        axes.plot([i + 1] * 2, [bound[-1], likelihood[-1]], color=ORANGE, lw=1, ls=":")
    axes.set(title="each bound touches, is climbed, and is left behind", xlabel="iteration", ylabel="nats")
    axes.set(xticks=range(len(models)), yticks=[-510, -490, -470])
    axes.legend(frameon=False)


def _dots(axes: Axes, points: np.ndarray, colour: np.ndarray) -> None:
    """Points as one path of round caps, a tenth of the bytes that markers take."""
    path = Path(np.repeat(points, 2, 0), [Path.MOVETO, Path.CLOSEPOLY] * len(points))
    path.should_simplify = False
    axes.add_patch(PathPatch(path, edgecolor=colour, alpha=0.6, lw=3.6, fill=False, capstyle="round"))
    axes.update_datalim(points)
    axes.autoscale_view()


def _ellipse(axes: Axes, mean: np.ndarray, covariance: np.ndarray, colour: np.ndarray) -> None:
    """Where a Gaussian is two standard deviations from its mean."""
    variances, directions = np.linalg.eigh(covariance)
    angle = np.degrees(np.arctan2(*directions[::-1, 0]))
    axes.add_patch(Ellipse(mean, *(4 * np.sqrt(variances)), angle=angle, fill=False, color=colour, lw=1))


# --- a trained RNN-EM on the reader's drawing ---------------------------------------------------------------


def draw_shapes(weights: Mapping[str, Any], slots: int = 4, seed: int = 1, copy: int = 1) -> Figure:
    """Up to five shapes on a canvas of 28 × 28, and a trained RNN-EM that deals their pixels out to slots.

    weights: the state of `RNNEM(28, 28, hidden=H)` with its own fully connected layers, a mapping from names
    to tensors or arrays, as `results.load(…).weights()` gives it; the page computes with `page_weights` of
    them.  slots: K at the start, 1 to 6, and what the page says the network was trained with.  seed: of the
    start of γ and of the random images in the page.  copy: 2 for a second copy on the same page.
    Raises ValueError for weights of another network, and for other slots.
    """
    if slots not in range(1, MOST_SLOTS + 1):
        raise ValueError(f"slots is {slots!r}: it should be from 1 to {MOST_SLOTS}.")
    packed = _packed(weights)
    return Figure(
        name="nem-shapes", title="Draw shapes, and a trained RNN-EM groups their pixels", copy=copy,
        scripts=("random.js", "nem_slots.js", "nem_shapes_maths.js", "nem_shapes.js", "nem_slots.css",
                 "nem_shapes.css"),
        data={"side": SIDE, "slots": slots, "seed": seed, "shapes": SHAPES, "stamps": STAMPS,
              "network": packed, "palette": COLOURS},
        still=_still_shapes(page_weights(weights), slots), largest=LARGEST_WITH_WEIGHTS,
        words="Interactive figure «Draw shapes»: slots that start at random compete for the pixels of a "
              "drawing until each holds a shape; from a uniform start they stay the same for ever.")


def page_weights(weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The weights that the page computes with, under their names, float64.

    Matrices are rounded to 255 levels between minus and plus their row's largest magnitude, biases to
    float16: 8 bits a weight, so that the page stays small.  Raises ValueError for weights of another network.
    """
    packed = _packed(weights)
    rounded = {name: _unpacked(packed[key]["values"]) * _unpacked(packed[key]["scales"])[:, None]
               for name, key in MATRICES.items()}
    return rounded | {name: _unpacked(packed[key]) for name, key in BIASES.items()}


def _packed(weights: Mapping[str, Any]) -> dict[str, Any]:
    """What the page is sent: each matrix as int8 with a scale for each row, biases as float16."""
    arrays = _checked(weights)
    packed: dict[str, Any] = {key: pack(arrays[name], "float16") for name, key in BIASES.items()}
    for name, key in MATRICES.items():
        largest = np.abs(arrays[name]).max(1).astype(np.float32)
        largest[largest == 0] = 1
        rows = arrays[name] / largest[:, None]
        packed[key] = {"values": pack(rows, "int8"), "scales": pack(largest, "float32")}
    return packed


def _unpacked(packed: dict[str, Any]) -> np.ndarray:
    """The numbers as `nx.unpack` reads them: rounded to float32."""
    types = {"float32": "<f4", "float16": "<f2", "int8": "<i1"}
    stored = np.frombuffer(base64.b64decode(packed["base64"]), types[packed["kind"]]).astype(np.float64)
    return (stored * packed["scale"]).astype(np.float32).astype(np.float64).reshape(packed["shape"])


def _checked(weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
    if set(weights) != {*MATRICES, *BIASES}:
        raise ValueError("The weights of an RNNEM with fully connected layers are "
                         f"{sorted({*MATRICES, *BIASES})}; {sorted(weights)} came.")
    arrays = {name: np.asarray(value, dtype=np.float64) for name, value in weights.items()}
    hidden, pixels = len(arrays["recurrence.bias"]), SIDE * SIDE
    shapes = {"encoder.weight": (hidden, pixels), "recurrence.weight": (hidden, hidden),
              "recurrence.bias": (hidden,), "decoder.weight": (pixels, hidden), "decoder.bias": (pixels,)}
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ValueError(f"{name} has shape {arrays[name].shape}, and {shape} was expected: the page's "
                             f"canvas has {SIDE} × {SIDE} pixels.")
    return arrays


def _drawing(stamps: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """The image of some stamps (shape, top, left) and its groups, (1, height, width) each, as in the page."""
    covered, groups = torch.zeros(1, SIDE, SIDE), torch.zeros(1, SIDE, SIDE, dtype=torch.long)
    for number, (shape, top, left) in enumerate(stamps, 1):
        marks = torch.tensor([[mark == "#" for mark in row] for row in SHAPES[shape]])
        box = 0, slice(top, top + marks.shape[0]), slice(left, left + marks.shape[1])
        covered[box] += marks
        groups[box] = torch.where(marks, number, groups[box])
    return (covered > 0).float(), torch.where(covered == 1, groups, 0)


@rc_context(STILL)
def _still_shapes(weights: Mapping[str, np.ndarray], slots: int) -> str:
    """The page's first drawing: γ after 0, 1, 3 and 15 steps, and what each slot predicts at last."""
    model = RNNEM(SIDE, SIDE, hidden=len(weights["recurrence.bias"])).double()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    image = _drawing(STAMPS)[0].double()
    start = random_gamma(1, slots, SIDE, SIDE, torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        run = model(image, slots, 15, start=start)
    figure, rows = _tiles(2, max(4, slots))
    for ax, t in zip(rows[0], (0, 1, 3, 15)):
        _draw_gamma(ax, image[0].numpy(), run.gamma[t, 0].numpy())
        ax.set_title("γ at the start" if t == 0 else f"γ, step {t}", color=INK)
    for k, ax in zip(range(slots), rows[1]):
        _draw_pixels(ax, 1 - run.psi[-1, 0, k, ..., None].expand(-1, -1, 3).numpy())
        ax.set_title(f"ψ of slot {k + 1}", color=PALETTE[SLOTS[k]][0])
    return picture(figure, alt=(
        f"A drawing of {len(STAMPS)} outlined shapes, its pixels coloured by the slots that are responsible "
        "for them: at the start a random mixture of all colours, after 15 steps of EM regions of one colour. "
        f"Below, what each of the {slots} slots predicts at last: about one shape each, or nothing."))


def _tiles(rows: int, columns: int) -> tuple[Canvas, list[list[Axes]]]:
    """Axes that hold a canvas at exactly 3.5 points a pixel, so that its picture needs no more digits."""
    side, across, down = 3.5 * SIDE, 3.5 * SIDE + 12, 3.5 * SIDE + 24
    width, height = columns * across, rows * down
    figure = Canvas(figsize=(width / 72, height / 72), layout="none")
    boxes = [[(c * across + 6, height - (r + 1) * down + 4) for c in range(columns)] for r in range(rows)]
    return figure, [[figure.add_axes((x / width, y / height, side / width, side / height), visible=False)
                     for x, y in row] for row in boxes]


def _draw_gamma(axes: Axes, image: np.ndarray, gamma: np.ndarray) -> None:
    """Pixels in the colours of their slots, mixed as light; what is no ink stays pale."""
    colours = slot_colours(torch.from_numpy(gamma)).numpy()
    _draw_pixels(axes, np.where(image[..., None] > 0, colours, 0.87 + 0.13 * colours))


def _draw_pixels(axes: Axes, colours: np.ndarray) -> None:
    """A picture (height, width, 3) with values in [0, 1], kept in the file at its own size."""
    axes.imshow((255 * colours).round().astype(np.uint8), interpolation="none")
    axes.set(xticks=[], yticks=[], visible=True)
    axes.spines[:].set_color(LINE)


def _rgb(colour: str) -> list[float]:
    return [int(colour[at:at + 2], 16) / 255 for at in (1, 3, 5)]


def _panels(count: int, size: tuple[float, float]) -> tuple[Canvas, list[Axes]]:
    """A figure of `count` quiet panels for a still picture."""
    figure = Canvas(figsize=size, layout="constrained")
    axes = list(np.ravel(figure.subplots(1, count)))
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(LINE)
        ax.title.set(color=INK)
        ax.tick_params(length=0, labelcolor=MUTED, labelsize=8)
        ax.xaxis.label.set(color=INK)
        ax.yaxis.label.set(color=INK)
    return figure, axes
