"""The interactive figures of chapter 1: a Gibbs chain, and sampling by the inverse distribution function."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Ellipse

from nemlib.explore.figure import BLUE, GREEN, INK, LINE, MUTED, ORANGE, Figure, pack, picture
from nemlib.gibbs import BivariateGaussian, TwoModes
from nemlib.gibbs import inverse_transform as inverse_sample

LOW, HIGH, BINS = -3.0, 3.0, 24   # the axis and the bars of the density that the reader draws
FARTHEST = 3.5                    # the largest d of the two modes at (d, d) and (-d, -d)


def gibbs_chain(law: str = "gaussian", correlation: float = 0.9, distance: float = 2.5, seed: int = 1,
                copy: int = 1) -> Figure:
    """A Gibbs chain to step and to run, on a correlated Gaussian or on two modes.

    law: "gaussian" or "modes", what is shown first.  correlation: r in [-0.99, 0.99].  distance: d in
    [0, 3.5], the modes standing at (d, d) and (-d, -d) with standard deviation 1.  seed: of the draws in the
    page.  copy: 2 for a second copy on the same page.  Raises ValueError for values out of these ranges.
    """
    if law not in ("gaussian", "modes"):
        raise ValueError(f"law is {law!r}: it should be 'gaussian' or 'modes'.")
    if not -0.99 <= correlation <= 0.99:
        raise ValueError(f"correlation is {correlation}: it should lie between -0.99 and 0.99.")
    if not 0 <= distance <= FARTHEST:
        raise ValueError(f"distance is {distance}: it should lie between 0 and {FARTHEST}.")
    return Figure(
        name="gibbs-chain", title="A Gibbs chain, step by step", copy=copy,
        scripts=("random.js", "statistics.js", "contour.js", "gibbs_chain_maths.js", "gibbs_chain.js",
                 "gibbs_chain.css"),
        data={"kind": law, "correlation": correlation, "distance": distance, "farthest": FARTHEST,
              "limit": FARTHEST + 3.5, "start": [-2.5, 2.5], "seed": seed},
        still=_still_chain(),
        words="Interactive figure «A Gibbs chain, step by step»: the stronger the correlation, the shorter "
              "the moves and the longer the memory; between two distant modes the chain hardly ever jumps.")


def inverse_transform(seed: int = 1, copy: int = 1) -> Figure:
    """The reader draws a density and watches uniform numbers cross its distribution function and fall.

    seed: of the uniform numbers in the page.  copy: 2 for a second copy on the same page.
    """
    shapes = densities()
    return Figure(
        name="inverse-transform", title="Draw a density and sample it", copy=copy,
        scripts=("random.js", "gibbs_inverse_maths.js", "gibbs_inverse.js", "gibbs_inverse.css"),
        data={"low": LOW, "high": HIGH, "seed": seed, "names": list(shapes),
              "presets": pack(list(shapes.values()), "float16")},
        still=_still_inverse(),
        words="Interactive figure «Draw a density and sample it»: uniform numbers that cross the "
              "distribution function and fall pile up in the shape of the density.")


def densities() -> dict[str, np.ndarray]:
    """The shapes that the reader can begin with: name → heights in [0, 1], (BINS,) float64 each."""
    x = LOW + (np.arange(BINS) + 0.5) * (HIGH - LOW) / BINS
    bell = np.exp(-x ** 2 / 2)
    hills = np.exp(-(x + 1.4) ** 2 / 0.5) + 0.55 * np.exp(-(x - 1.3) ** 2 / 0.7)
    decay = np.exp(-(x - x[0]))
    gap = np.where(np.abs(x) < 0.9, 0.0, np.where(x < 0, 0.5, 0.9))
    shapes = {"Bell": bell, "Two hills": hills, "Decay": decay}
    return {name: 0.95 * heights / heights.max() for name, heights in shapes.items()} | {"Gap": gap}


@cache
@rc_context({"font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "legend.fontsize": 8})
def _still_chain() -> str:
    """Three panels: a path on a correlated law, the memory for three correlations, a chain on two modes."""
    generator = torch.Generator().manual_seed(4)
    start = torch.tensor([[-2.5, 2.5]], dtype=torch.float64)
    sweeps = BivariateGaussian(0.9).chain(start, 14, generator)[:, 0]
    modes, _ = TwoModes(2.5).chain(-start.flip(1), 300, generator)
    figure, (path, memory, trace) = _panels(3, (7.6, 2.7))
    for sd in (1, 2, 3):
        axes = 2 * sd * np.sqrt([1 + 0.9, 1 - 0.9])
        path.add_patch(Ellipse((0, 0), *axes, angle=45, alpha=0.14, color=BLUE, lw=0))
    corners = [start[0].tolist()]
    for x, y in sweeps.tolist():
        corners += [[x, corners[-1][1]], [x, y]]
    path.plot(*np.transpose(corners), color=ORANGE, lw=1.2)
    path.set(title="moves along the axes, r = 0.9", xlabel="x₁", ylabel="x₂")
    path.set(xticks=[-3, 0, 3], yticks=[-3, 0, 3])
    for r, colour in ((0.5, GREEN), (0.9, BLUE), (0.99, ORANGE)):
        law = BivariateGaussian(r)
        memory.plot(law.autocorrelation(31).numpy(), color=colour, label=f"r = {r}: τ = {law.tau:.1f}")
    memory.legend(frameon=False, loc="center right", bbox_to_anchor=(1, 0.38))
    memory.set(title="autocorrelation of x₁", xlabel="lag t in sweeps", ylabel="ρₜ", ylim=(-0.02, 1.08))
    trace.plot(modes[:, 0, 0].numpy(), color=ORANGE, lw=0.8)
    trace.axhline(0, color=GREEN, lw=1)
    crossing = f"a crossing in {TwoModes(2.5).crossing_time:.0f} sweeps"
    trace.set(title="two modes", xlabel=f"sweep ({crossing})", ylabel="x₁", yticks=[-2.5, 0, 2.5])
    return picture(figure, alt=(
        "Three panels. A Gibbs chain on a Gaussian of correlation 0.9 moves in short steps parallel to the "
        "axes along a narrow ellipse. The autocorrelation falls at once for r = 0.5, slowly for 0.9 and "
        f"hardly for 0.99. On two modes the chain stays long at one of them: {crossing} on average."))


@cache
@rc_context({"font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "legend.fontsize": 8})
def _still_inverse() -> str:
    """The distribution function with three numbers that cross it, above the histogram of 600 such samples."""
    edges = np.linspace(LOW, HIGH, BINS + 1)
    heights = torch.from_numpy(densities()["Two hills"])
    cdf = torch.cat([torch.zeros(1, dtype=torch.float64), heights.cumsum(0) / heights.sum()])
    cdf[-1] = 1
    grid, generator = torch.from_numpy(edges), torch.Generator().manual_seed(1)
    samples = inverse_sample(torch.rand(600, generator=generator, dtype=torch.float64), grid, cdf)
    figure, (upper, lower) = _panels(2, (6.2, 3.8), rows=2)
    upper.plot(edges, cdf, color=BLUE, lw=1.8)
    for u in (0.2, 0.5, 0.85):
        x = float(inverse_sample(torch.tensor([u], dtype=torch.float64), grid, cdf))
        upper.annotate("", (x, u), (LOW, u), arrowprops={"arrowstyle": "-|>", "color": GREEN, "lw": 1.2})
        upper.annotate("", (x, 0), (x, u), arrowprops={"arrowstyle": "-|>", "color": ORANGE, "lw": 1.2})
    upper.set(xlim=(LOW, HIGH), ylim=(0, 1.02), xticks=[], ylabel="U and F(x)")
    width = (HIGH - LOW) / BINS
    lower.hist(samples.numpy(), bins=edges, density=True, color=ORANGE, alpha=0.5, label="600 samples")
    lower.stairs(heights.numpy() / (heights.sum().item() * width), edges, color=BLUE, lw=1.6, label="density")
    lower.set(xlim=(LOW, HIGH), xlabel="x", ylabel="density")
    lower.legend(frameon=False)
    return picture(figure, alt=(
        "Above, a rising distribution function: from each of three uniform numbers on the vertical axis an "
        "arrow goes across to the curve and another falls to x. Below, the histogram of 600 numbers that "
        "fell so fills the density of two hills from which the distribution function was made."))


def _panels(count: int, size: tuple[float, float], rows: int = 1) -> tuple[Canvas, Sequence[Axes]]:
    """A figure of `count` quiet panels for a still picture."""
    figure = Canvas(figsize=size, layout="constrained")
    axes = figure.subplots(rows, count // rows).ravel()
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(LINE)
        ax.title.set(color=INK)
        ax.tick_params(length=0, labelcolor=MUTED, labelsize=8)
        ax.xaxis.label.set(color=INK)
        ax.yaxis.label.set(color=INK)
    return figure, axes
