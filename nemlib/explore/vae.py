"""The interactive figures of chapter 4: the gap below log p(x) on a line, and a decoder's plane."""

import base64
import copy as copies
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Circle
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn import functional as F

from nemlib.explore.figure import INK, LINE, MUTED, Figure, pack, picture
from nemlib.plot import COLOURS, PALETTE, SLOTS
from nemlib.vae import Gaussian

STILL = {"font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9}
# What the colours of the book's palette stand for in the figure of the gap.
GAP_ROLES = {"posterior": "blue", "q": "orange", "elbo": "green", "gap": "plum", "ink": "ink",
             "paper": "paper"}

MEANS, WIDTHS = (-3.0, 3.0), (0.1, 2.0)     # of q, as far as the reader may move it
SPAN = 5.0                                  # nats below log p(x) that the bar shows
DRAWS = 20_000                              # standard normal numbers behind the bounds of K weights

MOST_WEIGHTS = 240_000      # of a decoder, 8 bits each: 320 kB as base64 text
MOST_CODES = 400
MOST_CLASSES = 10
LARGEST_WITH_WEIGHTS = 500_000
CELLS = 12                  # rows and columns of the quantile map
INSIDE = (0.5, 0.95)        # shares of the prior that the circles hold
# What the page can compute between linear layers, each with the number that it needs.
ACTIVATIONS: dict[type[nn.Module], Callable[[Any], float]] = {
    nn.ReLU: lambda one: 0.0, nn.Tanh: lambda one: 0.0, nn.Sigmoid: lambda one: 0.0, nn.SiLU: lambda one: 0.0,
    nn.ELU: lambda one: float(one.alpha), nn.LeakyReLU: lambda one: float(one.negative_slope),
}


# --- the bound on a line: one latent variable, one number seen --------------------------------------------


class Reading(NamedTuple):
    """What q = N(mean, sd²) gives, nats: elbo = reconstruction − prior_kl = energy + entropy, and elbo + gap
    is log p(x), with gap = KL(q ‖ p(z | x)). Equations eq-vae-identity, eq-vae-reading-kl and
    eq-vae-reading-energy.
    """

    reconstruction: float
    prior_kl: float
    energy: float
    entropy: float
    elbo: float
    gap: float


DECODERS: dict[str, Callable[[Tensor], Tensor]] = {
    "line": lambda z: z,
    "ramp": lambda z: F.softplus(4 * z, threshold=40),
    "square": lambda z: z * z,
}
FORMULAS = {"line": "z", "ramp": "softplus(4z)", "square": "z²"}


@dataclass(frozen=True)
class Toy:
    """z ~ N(0, 1) and x = f(z) + noise of standard deviation sd, where one x was seen.

    name: of its posterior.  decoder: f, a key of DECODERS.  start: mean and standard deviation of the q that
    the page shows first.  words, done: what the page says there, and where q is the best Gaussian.
    """

    name: str
    decoder: str
    x: float
    sd: float
    start: tuple[float, float]
    words: str
    done: str

    def log_likelihood(self, z: Tensor) -> Tensor:
        """log p(x | z), nats. (...,) → (...,)."""
        return -0.5 * ((self.x - DECODERS[self.decoder](z)) / self.sd).square() - math.log(
            self.sd * math.sqrt(2 * math.pi))

    def log_joint(self, z: Tensor) -> Tensor:
        """log p(x, z) = log p(x | z) + log p(z), nats. (...,) → (...,)."""
        return self.log_likelihood(z) - 0.5 * (z.square() + math.log(2 * math.pi))

    @cached_property
    def log_prob(self) -> float:
        """log p(x), nats: the integral of p(x, z) over z from -10 to 10, exact to 1e-12."""
        z = torch.linspace(-10, 10, 4001, dtype=torch.float64)
        return torch.trapezoid(self.log_joint(z).exp(), z).log().item()

    def posterior(self, z: Tensor) -> Tensor:
        """The density p(z | x). (...,) → (...,)."""
        return (self.log_joint(z) - self.log_prob).exp()

    def reading(self, mean: float, sd: float) -> Reading:
        """All that the page shows of q = N(mean, sd²), by the trapezium rule out to 12 standard deviations.

        Raises ValueError for a standard deviation that is not above 0.
        """
        if not sd > 0:
            raise ValueError(f"The standard deviation of q is above 0, but {sd} came.")
        q = Gaussian(*torch.tensor([[mean], [2 * math.log(sd)]], dtype=torch.float64))
        z = q.mean + sd * torch.linspace(-12, 12, 961, dtype=torch.float64)
        log_q = q.log_prob(z[:, None])

        def expectation(values: Tensor) -> float:
            return torch.trapezoid(log_q.exp() * values, z).item()

        prior_kl, entropy = q.kl().sum().item(), q.entropy().item()
        reconstruction = expectation(self.log_likelihood(z))
        return Reading(reconstruction, prior_kl, expectation(self.log_joint(z)), entropy,
                       reconstruction - prior_kl, expectation(log_q - self.log_joint(z) + self.log_prob))

    def best(self, near: float = 0.5) -> tuple[float, float]:
        """Mean and standard deviation of the Gaussian with the largest ELBO, searched from N(near, 0.5²)."""
        found = minimize(lambda at: -self.reading(at[0], math.exp(at[1])).elbo, [near, math.log(0.5)],
                         method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-13})
        return float(found.x[0]), math.exp(found.x[1])


TOYS = (
    Toy("One Gaussian", "line", 1.5, 0.75, (-0.3, 0.9), (
        "The decoder is a straight line, and so the true posterior is itself a Gaussian. Drag the orange "
        "bell onto it: how far can you close the gap?"), (
        "q is the posterior. Nothing is left of the gap: the ELBO is log p(x), and every weight "
        "p(x, z) / q(z) is the same number, so that one draw tells as much as fifty.")),
    Toy("Skewed", "ramp", 0.5, 0.5, (-1.2, 0.5), (
        "For z below 0 this decoder gives nearly 0 whatever z is; above, its output climbs away from x. So "
        "the posterior has a gentle slope on its left and a wall on its right. No bell fits both."), (
        "The best Gaussian, and a gap remains: no mean and no width closes it. Weights do: look where K = 5 "
        "and K = 50 stand.")),
    Toy("Two bumps", "square", 2.0, 0.5, (0.1, 0.83), (
        "x says how large z² is, and not on which side z lies: two bumps. This q stands between them and "
        "pays for the valley. Press Best q, and watch K = 50 as well as the ELBO."), (
        "The best Gaussian takes one bump and leaves the other out: the gap is a little above log 2 = 0.693. "
        "More weights hardly help, for hardly any draw finds the other bump. The wide q of the start has "
        "the lower ELBO, and with 50 weights the better bound.")),
)


def gap(posterior: str = "One Gaussian", seed: int = 1, copy: int = 1) -> Figure:
    """log p(x), split by the reader's q into the ELBO and KL(q ‖ p(z | x)), under three true posteriors.

    posterior: what is shown first, "One Gaussian", "Skewed" or "Two bumps".  seed: of the draws behind the
    bounds of K = 5 and 50 weights.  copy: 2 for a second copy on the same page.
    Raises ValueError for another posterior.
    """
    toy(posterior)
    names = [one.name for one in TOYS]
    toys = [{**vars_of(one), "formula": FORMULAS[one.decoder]} for one in TOYS]
    return Figure(
        name="vae-gap", title="The gap between the ELBO and log p(x)", copy=copy,
        scripts=("random.js", "vae_gap_maths.js", "rbm_parts.js", "vae_gap.js", "vae_gap.css"),
        data={"toys": toys, "first": names.index(posterior), "mean": MEANS, "sd": WIDTHS, "span": SPAN,
              "draws": DRAWS, "seed": seed,
              "palette": {role: PALETTE[name] for role, name in GAP_ROLES.items()}},
        still=_still_gap(),
        words="Interactive figure «The gap between the ELBO and log p(x)»: q moves under a true posterior; "
              "where that is a Gaussian the gap closes, and with two bumps about log 2 of it stays.")


def toy(name: str) -> Toy:
    """One of the three: "One Gaussian", "Skewed" or "Two bumps". Raises ValueError for another name."""
    names = [one.name for one in TOYS]
    if name not in names:
        raise ValueError(f"posterior is {name!r}: it should be one of {names}.")
    return TOYS[names.index(name)]


def vars_of(one: Toy) -> dict[str, Any]:
    """Its fields, without what has been computed meanwhile."""
    return {name: getattr(one, name) for name in one.__dataclass_fields__}


@cache
@rc_context(STILL)
def _still_gap() -> str:
    """Each posterior with the best Gaussian, and below it log p(x) in its two parts."""
    figure = Canvas(figsize=(7.6, 3.2), layout="constrained")
    above, below = figure.subplots(2, len(TOYS), height_ratios=(3, 1))
    z = torch.linspace(-3, 3, 81, dtype=torch.float64)
    for ax, bar, one in zip(above, below, TOYS):
        mean, sd = one.best()
        q = Gaussian(torch.tensor([mean]), torch.tensor([2 * math.log(sd)]))
        ax.fill(z, one.posterior(z), facecolor=COLOURS["blue"] + "50", edgecolor=COLOURS["blue"])
        ax.plot(z, q.log_prob(z[:, None]).exp(), color=COLOURS["orange"], linewidth=2)
        ax.set_title(one.name, color=INK)
        ax.set(xticks=[-2, 0, 2], yticks=[], ylim=(0, None))
        _plain(ax)
        _bar(bar, one, one.reading(mean, sd))
    for height, words, colour in ((0.9, "p(z | x)", "blue"), (0.78, "best q(z)", "orange")):
        above[0].text(0, height, words, color=COLOURS[colour], transform=above[0].transAxes)
    return picture(figure, alt=(
        "Three true posteriors p(z | x) with the best Gaussian q over each, and below each a bar that ends "
        "at log p(x), split into the ELBO and the divergence of q from the posterior. One Gaussian: q covers "
        "it, and no gap is left. A skewed one: q is too thin on the left and reaches over the wall on the "
        "right, and a small gap stays. Two bumps: q covers the right one only, and a gap of about 0.7 nats "
        "stays."))


def _bar(ax: Axes, one: Toy, found: Reading) -> None:
    """The last two nats below log p(x): the ELBO from the left, the gap behind it."""
    left = one.log_prob - 2
    ax.barh(0, found.elbo - left, left=left, color=COLOURS["green"])
    ax.barh(0, found.gap, left=found.elbo, color=COLOURS["plum"], hatch="///", edgecolor=COLOURS["paper"])
    ax.axvline(one.log_prob, color=INK, linewidth=1.5)
    ax.set_title(f"ELBO {found.elbo:.2f} + KL {max(found.gap, 0):.2f} = {one.log_prob:.2f}".replace("-", "−"),
                 color=INK, fontsize=8)
    ax.set(yticks=[], xlim=(left, one.log_prob + 0.1), xlabel="nats", ylim=(-0.6, 0.6))
    _plain(ax)


def _plain(ax: Axes) -> None:
    ax.tick_params(color=LINE, labelcolor=MUTED, labelsize=8)
    ax.xaxis.label.set_color(MUTED)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(LINE)


# --- a decoder's plane ------------------------------------------------------------------------------------


def plane(
    decoder: nn.Sequential, codes: Tensor, images: Tensor, labels: Tensor, *, pixels: str = "bernoulli",
    ends: tuple[int, int] | None = None, seed: int = 1, copy: int = 1,
) -> Figure:
    """The plane of a VAE with two latent units and the prior N(0, I): drag z, and the page decodes it.

    decoder: linear layers with ReLU, LeakyReLU, ELU, Tanh, Sigmoid or SiLU between them, from 2 numbers to
    the pixels; the page computes with `page_decoder(decoder)`.  codes: where test images lie, the means of
    q(z | x), (n, 2), n from 2 to 400.  images: those images, (n, height, width), or (n, pixels) where they
    are square, in [0, 1]; the page shows them in four shades.  labels: (n,) integers, at most 10 different
    ones.  pixels: "bernoulli" for a decoder that gives logits, "gaussian" for one that gives means.
    ends: the labels between whose typical codes the path runs at first; the smallest and the largest if not
    given.  seed: of the draws from the prior.  copy: 2 for a second copy on the same page.
    Raises ValueError for what does not fit together, or not on a page.
    """
    pictures, points, classes = _checked(codes, images, labels)
    if pixels not in ("bernoulli", "gaussian"):
        raise ValueError(f"pixels is {pixels!r}: it should be 'bernoulli' or 'gaussian'.")
    ends = (min(classes), max(classes)) if ends is None else ends
    if len(ends) != 2 or not set(ends) <= set(classes):
        raise ValueError(f"ends is {ends!r}: it should be two labels of {sorted(set(classes))}.")
    packed, (height, width) = _packed(decoder), pictures.shape[1:]
    if (given := packed["layers"][-1]["W"]["shape"][0]) != height * width:
        raise ValueError(f"The decoder gives {given} numbers, and images of {height} × {width} have "
                         f"{height * width} pixels: give images of its own size.")
    roles = {"ink": "ink", "paper": "paper", "point": "vermilion"}
    roles |= {f"c{k}": name for k, name in enumerate(SLOTS)}
    return Figure(
        name="vae-plane", title="The latent plane of a trained variational autoencoder", copy=copy,
        scripts=("random.js", "vae_network.js", "vae_plane_maths.js", "rbm_parts.js", "vae_plane.js",
                 "rbm.css", "vae_plane.css"),
        data={"decoder": packed, "codes": pack(points, "float16"), "images": _shades(pictures),
              "labels": classes, "height": height, "width": width, "pixels": pixels, "ends": list(ends),
              "cells": CELLS, "inside": INSIDE, "colours": _slots(len(set(classes))), "seed": seed,
              "palette": {role: PALETTE[name] for role, name in roles.items()}},
        still=_still_plane(page_decoder(decoder), points, classes, (height, width), pixels),
        largest=LARGEST_WITH_WEIGHTS,
        words="Interactive figure «The latent plane of a trained variational autoencoder»: every point of "
              "the plane decodes to an image, also where no test image lies.")


def page_decoder(decoder: nn.Sequential) -> nn.Sequential:
    """The decoder that the page computes with, float64: 8 bits a weight, so that the page stays small.

    The weights of each output of a layer are rounded to 255 levels between minus and plus their largest
    magnitude, biases to float16. Raises ValueError as `plane` does.
    """
    packed = _packed(decoder)
    rounded = copies.deepcopy(decoder).double().cpu().requires_grad_(False)
    linear = [one for one in rounded if isinstance(one, nn.Linear)]
    for layer, stored in zip(linear, packed["layers"]):
        layer.weight.copy_(_unpacked(stored["W"]) * _unpacked(stored["scales"])[:, None])
        if layer.bias is not None:
            layer.bias.copy_(_unpacked(stored["b"]))
    return rounded


def _packed(decoder: nn.Sequential) -> dict[str, Any]:
    """What the page is sent: layers with a row of int8 for each output, and the activations between them."""
    layers, activations = _parts(decoder)
    if (weights := sum(layer.weight.numel() for layer in layers)) > MOST_WEIGHTS:
        raise ValueError(f"The decoder has {weights} weights, and the page holds at most {MOST_WEIGHTS}: "
                         "train one with narrower layers.")
    return {"layers": [_packed_layer(layer) for layer in layers],
            "activations": [[type(one).__name__, ACTIVATIONS[type(one)](one)] for one in activations]}


def _parts(decoder: nn.Sequential) -> tuple[list[nn.Linear], list[nn.Module]]:
    known = ", ".join(kind.__name__ for kind in ACTIVATIONS)
    parts = list(decoder) if isinstance(decoder, nn.Sequential) else [decoder]
    layers, activations = parts[::2], parts[1::2]
    alternate = len(parts) % 2 == 1 and all(isinstance(one, nn.Linear) for one in layers)
    if not alternate or any(type(one) not in ACTIVATIONS for one in activations):
        raise ValueError(f"The page computes linear layers with one of {known} between them, the last layer "
                         f"linear, and this came: {[type(one).__name__ for one in parts]}.")
    if layers[0].in_features != 2:
        raise ValueError(f"The decoder takes {layers[0].in_features} numbers, and a plane has 2: train one "
                         "with two latent units.")
    return layers, activations


def _packed_layer(layer: nn.Linear) -> dict[str, Any]:
    W = layer.weight.detach().double().cpu().numpy()
    b = np.zeros(len(W)) if layer.bias is None else layer.bias.detach().double().cpu().numpy()
    largest = np.abs(W).max(1).astype(np.float32)
    largest[largest == 0] = 1
    return {"W": pack(W / largest[:, None], "int8"), "scales": pack(largest), "b": pack(b, "float16")}


def _unpacked(packed: dict[str, Any]) -> Tensor:
    """The numbers as `nx.unpack` reads them, rounded to float32; as float64."""
    types = {"float32": "<f4", "float16": "<f2", "int8": "<i1"}
    stored = np.frombuffer(base64.b64decode(packed["base64"]), types[packed["kind"]]).astype(np.float64)
    values = (stored * packed["scale"]).astype(np.float32).astype(np.float64)
    return torch.from_numpy(values.reshape(packed["shape"]))


def _checked(codes: Tensor, images: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray, list[int]]:
    pictures, points, classes = (np.asarray(one.detach().cpu() if isinstance(one, Tensor) else one)
                                 for one in (images, codes, labels))
    if pictures.ndim == 2 and (side := math.isqrt(pictures.shape[1])) ** 2 == pictures.shape[1]:
        pictures = pictures.reshape(-1, side, side)
    n = len(points)
    if points.ndim != 2 or points.shape[1] != 2 or not 2 <= n <= MOST_CODES:
        raise ValueError(f"codes has shape {points.shape}: it should be (n, 2), n from 2 to {MOST_CODES}.")
    if pictures.ndim != 3 or len(pictures) != n or classes.shape != (n,):
        raise ValueError(f"codes, images and labels have shapes {points.shape}, {pictures.shape} and "
                         f"{classes.shape}: they should be (n, 2), (n, height, width) and (n,).")
    if not ((pictures >= 0) & (pictures <= 1)).all():
        raise ValueError("Pixels of images lie in [0, 1], and other values (or NaN) came.")
    if not np.issubdtype(classes.dtype, np.integer) or len(set(classes.tolist())) > MOST_CLASSES:
        raise ValueError(f"labels should be integers, at most {MOST_CLASSES} different ones.")
    return pictures, points, classes.tolist()


def _shades(pictures: np.ndarray) -> str:
    """Images of [0, 1] in four shades, four pixels in a byte, the first in the highest bits."""
    levels = np.round(3 * pictures).astype(np.uint8).ravel()
    levels = np.pad(levels, (0, -len(levels) % 4)).reshape(-1, 4)
    stored = (levels << np.array([6, 4, 2, 0])).sum(1).astype(np.uint8)
    return base64.b64encode(stored.tobytes()).decode("ascii")


def _slots(classes: int) -> list[int]:
    """The slot of the palette for each of the classes in order. Of ten digits 0 and 1 share one, and 6 and 7:
    pairs that a trained plane seldom puts side by side, and every code is drawn as its label.
    """
    return list(range(classes)) if classes <= len(SLOTS) else [0, 0, 1, 2, 3, 4, 5, 5, 6, 7][:classes]


def quantile_map(decoder: nn.Sequential, cells: int = CELLS, pixels: str = "bernoulli") -> Tensor:
    """Means of p(x | z) over the middles of cells with the same share of the prior, (cells, cells, pixels).

    Row 0 has the largest z₂ and column 0 the smallest z₁, as on paper: z = Φ⁻¹((k + ½) / cells) in both.
    """
    weight = next(decoder.parameters())
    steps = torch.special.ndtri((torch.arange(cells, dtype=torch.float64) + 0.5) / cells).to(weight)
    z = torch.stack([steps.expand(cells, cells), steps.flip(0)[:, None].expand(cells, cells)], -1)
    with torch.no_grad():
        output = decoder(z.reshape(-1, 2)).unflatten(0, (cells, cells))
    return output.sigmoid() if pixels == "bernoulli" else output.clamp(0, 1)


@rc_context(STILL)
def _still_plane(
    decoder: nn.Sequential, points: np.ndarray, labels: list[int], shape: tuple[int, int], pixels: str
) -> str:
    """Some of the codes as digits with the prior's circles, and beside them the map of quantiles."""
    cells = 6
    figure = Canvas(figsize=(7.4, 3.7), layout="constrained")
    left, right = figure.subplots(1, 2)
    limit = float(np.abs(points).max()) * 1.05
    left.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xlabel="z₁", ylabel="z₂")
    left.set_title("Codes of test images", color=INK)
    for (x, y), label in zip(points[:60], labels):
        slot = _slots(len(set(labels)))[sorted(set(labels)).index(label)]
        left.text(x, y, str(label), color=COLOURS[SLOTS[slot]], fontsize=7, ha="center", va="center")
    for share in INSIDE:
        left.add_patch(Circle((0, 0), math.sqrt(-2 * math.log(1 - share)), fill=False, edgecolor=MUTED))
    _plain(left)
    made = quantile_map(decoder, cells, pixels).reshape(cells, cells, *shape).numpy()
    sheet = made.transpose(0, 2, 1, 3).reshape(cells * shape[0], cells * shape[1])
    ramp = LinearSegmentedColormap.from_list("ink", [COLOURS["paper"], COLOURS["ink"]])
    sheet = (255 * ramp(np.round(5 * sheet) / 5)[..., :3]).round().astype(np.uint8)
    right.imshow(sheet, interpolation="none")
    right.set(xticks=[], yticks=[])
    right.set_title("Decoded over the prior's quantiles", color=INK)
    right.spines[:].set_color(LINE)
    return picture(figure, alt=(
        f"Left, the plane of two latent units: the codes of {min(len(points), 60)} test images, each drawn "
        "as its label, with two circles that hold 50 and 95 % of the prior. Right, the decoder over a grid "
        f"of the prior's quantiles, {cells} by {cells} images: neighbours look alike, and one image turns "
        "into the other."))
