"""The interactive figures of chapter 7: a GAN that learns in the page, and two players' paths in their plane."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas
from torch import Tensor

from nemlib.explore.figure import INK, LINE, MUTED, Figure, picture
from nemlib.gan import (
    Bilinear,
    DiracGAN,
    NonSaturating,
    alternating,
    extragradient,
    optimal_logit,
    ring,
    simultaneous,
    slopes,
)
from nemlib.plot import COLOURS, PALETTE

__all__ = ["live", "portrait"]


# --- a GAN that learns in the page ---------------------------------------------------------------------------

LAWS = {"ring": "ring of eight", "grid": "grid of 25", "moons": "two moons", "spiral": "spiral",
        "drawn": "drawn by you"}
RATES = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 4e-3, 1e-2)
_USUAL = {"discriminatorSteps": 1, "r1": 0, "loss": "non-saturating"}
PRESETS = {
    "remedy": {**_USUAL, "generatorRate": 4e-3, "discriminatorRate": 4e-3, "packed": 2},
    "collapse": {**_USUAL, "generatorRate": 1e-3, "discriminatorRate": 1e-4, "packed": 1},
}
REMARKS = {
    "remedy": "equal rates, and D judges two samples together.",
    "collapse": "G learns ten times as fast as D, and runs to the place that D likes best.",
}
LIVE_ROLES = {"data": "blue", "generated": "vermilion", "found": "green", "muted": "muted", "ink": "ink",
              "paper": "paper"}
LARGEST_LIVE = 120_000      # bytes: its script holds two networks, their slopes and Adam
PAUSE = 3000                # steps after which the page rests
MOST_DRAWN = 400
EXTENT, CELLS = 3.0, 60     # the still picture shows −3 … 3


def live(law: str = "ring", *, seed: int = 1, copy: int = 1) -> Figure:
    """A GAN in the plane that learns in the page, from nothing, on a law that the reader chooses or draws.

    law: "ring" (eight Gaussians on a circle of radius 2, deviation 0.1), "grid" (25, one unit apart, 0.05),
    "moons", "spiral", or "drawn", which begins empty.  seed: of the networks and all draws, 1 to 999.
    copy: 2 for a second copy on the same page.
    Both networks have two hidden layers of 32 leaky rectifiers and take 64 samples a step; Adam has decays 0.5
    and 0.99. Losses eq-gan-saturating, eq-gan-non-saturating and eq-gan-hinge, R1 as in eq-gan-r1, packs as in
    eq-gan-packed. A sample is good within three deviations of a point of the law; a mode is found where one of
    1,000 samples is good. The still picture shows the best discriminator, eq-gan-optimal-logit, of three
    generators whose law is known.
    Raises ValueError for another law or seed.
    """
    if law not in LAWS:
        raise ValueError(f"law is {law!r}: it should be one of {', '.join(map(repr, LAWS))}.")
    if not 1 <= seed <= 999:
        raise ValueError(f"seed is {seed}: it should be from 1 to 999.")
    return Figure(
        name="gan-live", title="A GAN that learns in the page", copy=copy, largest=LARGEST_LIVE,
        scripts=("random.js", "gan_live_maths.js", "rbm_parts.js", "gan_live.js", "rbm.css", "rbm_machine.css",
                 "gan_live.css"),
        data={"law": law, "laws": list(map(list, LAWS.items())), "rates": RATES, "presets": PRESETS, "seed": seed,
              "remarks": REMARKS, "pause": PAUSE, "mostDrawn": MOST_DRAWN,
              "palette": {role: PALETTE[name] for role, name in LIVE_ROLES.items()}},
        still=_still_live(),
        words="Interactive figure «A GAN that learns in the page»: its samples run up the field of the "
              "discriminator, which learns at the same time where data lie and where samples, until the two "
              "look alike.")


def _log_density(x: Tensor, centres: Tensor, shares: Tensor, deviation: float) -> Tensor:
    """log p(x) of a mixture of round Gaussians in the plane: (rows, 2) → (rows,)."""
    squares = (x[:, None] - centres).square().sum(2) / (2 * deviation ** 2)
    return torch.logsumexp(shares.log() - squares, 1) - math.log(2 * math.pi * deviation ** 2)


def _stages() -> dict[str, tuple[Tensor, Tensor, float]]:
    """Three generators that are mixtures: centres (modes, 2), shares (modes,) and deviation of each."""
    centres = ring().centres.double()
    even, few = torch.full((8,), 1 / 8).double(), torch.tensor([3.0, 4, 3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3]).double()
    return {"a heap": (torch.zeros(1, 2).double(), torch.ones(1).double(), 0.5),
            "three of eight modes": (0.9 * centres, few / few.sum(), 0.25),
            "nearly the data": (centres, even, 0.2)}


@rc_context({"font.size": 9, "axes.titlesize": 9})
def _still_live() -> str:
    """Data, samples of three generators, the best discriminator of each and which way it sends the samples."""
    figure = Canvas(figsize=(7.4, 2.75), layout="constrained")
    for axes, (title, generator) in zip(figure.subplots(1, 3), _stages().items()):
        _draw_stage(axes, *generator)
        axes.set_title(title, color=INK)
    return picture(figure, alt=(
        "Three squares with the same data, eight blue spots on a circle, and the field of the best discriminator. "
        "Left, the generated samples are a heap in the middle: the field is blue at the spots, and arrows point "
        "from the heap outwards. Middle, samples sit on three of the eight spots; arrows move them onto the "
        "spots, and none leads to the five that are missed. Right, samples surround all eight spots, and short "
        "arrows point inwards."))


def _draw_stage(axes: Axes, centres: Tensor, shares: Tensor, deviation: float) -> None:
    """One generator against the ring with deviation 0.15: a* as colour, a* = 0 dashed, −∇ of −log D as arrows."""
    generator, data = torch.Generator().manual_seed(1), ring(deviation=0.15)
    eighth = torch.full((8,), 1 / 8).double()

    def logit(x: Tensor) -> Tensor:
        return optimal_logit(_log_density(x, data.centres.double(), eighth, data.deviation),
                             _log_density(x, centres, shares, deviation))

    line = torch.linspace(-EXTENT, EXTENT, CELLS + 1).double()
    field = logit(torch.cartesian_prod(line, line)).reshape(CELLS + 1, CELLS + 1).T.numpy()
    ramp = LinearSegmentedColormap.from_list("field", [COLOURS[name] for name in ("vermilion", "paper", "blue")])
    tint = ramp(0.5 + 0.17 * np.tanh(field / 2))[..., :3]
    axes.imshow((255 * tint).round().astype(np.uint8), origin="lower", extent=2 * (-EXTENT, EXTENT))
    axes.contour(line, line, field, [0], colors=INK, linewidths=0.8, linestyles="--")
    mode = torch.multinomial(shares, 70, replacement=True, generator=generator)
    x = centres[mode] + deviation * torch.randn(70, 2, generator=generator, dtype=torch.float64)
    _dots(axes, data.sample(120, generator), COLOURS["blue"], 2.2)
    _dots(axes, x, COLOURS["vermilion"], 2.6)
    x = x[torch.triu(torch.cdist(x, x) < 0.35, 1).sum(0) == 0]      # an arrow for those with no earlier one near
    _arrows(axes, x, slopes(lambda rows: -NonSaturating().generator(logit(rows)) * len(rows), x))
    axes.set(xticks=[], yticks=[], xlim=(-EXTENT, EXTENT), ylim=(-EXTENT, EXTENT))
    axes.spines[:].set_color(LINE)


def _dots(axes: Axes, x: Tensor, colour: str, size: float) -> None:
    """Round dots of so many points: strokes of no length, as one path, in a tenth of the bytes of markers."""
    _strokes(axes, torch.stack([x, x + 0.01], 1), color=colour, linewidth=size, solid_capstyle="round")


def _arrows(axes: Axes, x: Tensor, pull: Tensor) -> None:
    """Arrows from x, (rows, 2), half a unit long at most, as the page draws them."""
    pull = pull.detach()
    ends = x + pull * 0.5 / (0.5 + pull.norm(dim=1, keepdim=True))
    along, across = 0.35 * (x - ends), 0.2 * (x - ends).roll(1, 1) * torch.tensor([1.0, -1.0])
    _strokes(axes, torch.stack([x, ends, ends + along + across, ends, ends + along - across], 1), color=INK,
             linewidth=0.8)


def _strokes(axes: Axes, lines: Tensor, **look: Any) -> None:
    """Lines (count, points, 2) as one path."""
    broken = torch.cat([lines, lines.new_full((len(lines), 1, 2), math.nan)], 1).flatten(0, 1)
    axes.plot(*broken.T, **look)


# --- portrait: the paths of two players (FIG2 appends below this line) -----------------------------------------

PORTRAIT_METHODS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "simultaneous": simultaneous, "alternating": alternating, "extragradient": extragradient,
}
PORTRAIT_MOST = {"eta": 1.5, "gamma": 2.0}       # as far as the sliders go
PORTRAIT_VIEW = 3.0                              # the plane is shown from −3 to 3
PORTRAIT_PIECES = 16                             # Runge and Kutta's steps for one step of the flow
# What the colours of the book's palette stand for.
PORTRAIT_ROLES = {"simultaneous": "vermilion", "alternating": "blue", "extragradient": "green", "flow": "muted",
                  "average": "plum", "ink": "ink", "paper": "paper"}
LARGEST_PORTRAIT = 95_000                        # bytes: its script draws two plots and says what happens


def portrait(
    game: Bilinear | DiracGAN = Bilinear(), step_size: float = 0.2, *, start: tuple[float, float] = (1.0, 0.0),
    decay: float = 0.95, steps: int = 100, copy: int = 1,
) -> Figure:
    """The plane of two players: the reader chooses a start, and four ways to step go their paths from it.

    game: what is shown first, Bilinear() or a DiracGAN with gamma from 0 to 2; the page holds all three.
    step_size: η, 0 to 1.5.  start: (θ, φ), each from −3 to 3.  decay: β of the running mean, 0 to 0.99.
    steps: how many are drawn, 10 to 200.  copy: 2 for a second copy on the same page.
    Equations eq-gan-bilinear to eq-gan-dirac-euler; the points are those of `portrait_paths`.
    Raises ValueError for what the page cannot show.
    """
    kind, gamma = _portrait_game(game)
    _check_portrait(step_size, start, decay, steps)
    return Figure(
        name="gan-portrait", title="Two players in their plane", copy=copy,
        scripts=("gan_portrait_maths.js", "rbm_parts.js", "gan_portrait.js", "gan_portrait.css"),
        data={"start": {"kind": kind, "gamma": gamma, "at": list(map(float, start)), "eta": float(step_size),
                        "beta": float(decay)},
              "steps": steps, "most": PORTRAIT_MOST,
              "palette": {role: PALETTE[name] for role, name in PORTRAIT_ROLES.items()}},
        still=_still_portrait(game, step_size, (start[0], start[1]), decay, steps), largest=LARGEST_PORTRAIT,
        words="Interactive figure «Two players in their plane»: under one and the same game simultaneous steps "
              "spiral out, alternating steps stay on a closed curve, and extragradient steps come in.")


def portrait_paths(
    game: Bilinear | DiracGAN, step_size: float, start: tuple[float, float], steps: int, *, decay: float = 0.95,
    mean_of: str = "alternating",
) -> dict[str, Tensor]:
    """The points that the page draws, float64, (steps + 1, 2) each: by "simultaneous", "alternating",
    "extragradient", "flow" (the game's differential equation over a time η a step), and "average", the running
    mean of the path `mean_of` with decay β, which begins at the start. Equation eq-gan-average.
    """
    def walk(step: Callable[..., tuple[Tensor, Tensor]]) -> Tensor:
        points = [torch.tensor(start, dtype=torch.float64)]
        for _ in range(steps):
            points.append(torch.stack(step(game.field, *points[-1], step_size)))
        return torch.stack(points)

    paths = {name: walk(step) for name, step in (PORTRAIT_METHODS | {"flow": portrait_flow}).items()}
    means = [paths[mean_of][0]]
    for point in paths[mean_of][1:]:
        means.append(decay * means[-1] + (1 - decay) * point)
    return paths | {"average": torch.stack(means)}


def portrait_flow(
    field: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], theta: Tensor, phi: Tensor, time: float,
) -> tuple[Tensor, Tensor]:
    """Where the differential equation leads from (θ, φ) in that time, by Runge and Kutta's rule of order 4."""
    at, h = torch.stack([theta, phi]), time / PORTRAIT_PIECES

    def slope(point: Tensor) -> Tensor:
        return torch.stack(field(*point))

    for _ in range(PORTRAIT_PIECES):
        one = slope(at)
        two = slope(at + h / 2 * one)
        three = slope(at + h / 2 * two)
        at = at + h / 6 * (one + 2 * two + 2 * three + slope(at + h * three))
    return at[0], at[1]


def _portrait_game(game: Bilinear | DiracGAN) -> tuple[str, float]:
    """What the page calls it, and its γ. Raises ValueError for a game that the page does not hold."""
    if isinstance(game, Bilinear):
        if game.s != 1:
            raise ValueError(f"The page shows V = θφ, and s = {game.s} came: s only makes the step ηs, so change "
                             "step_size instead.")
        return "bilinear", 0.0
    if not isinstance(game, DiracGAN):
        raise ValueError(f"The page shows Bilinear() and DiracGAN(…), but {game!r} came.")
    if game.gamma > PORTRAIT_MOST["gamma"]:
        raise ValueError(f"The page shows gamma from 0 to {PORTRAIT_MOST['gamma']:g}, but {game.gamma} came.")
    return ("nonSaturating" if game.non_saturating else "saturating"), float(game.gamma)


def _check_portrait(step_size: float, start: tuple[float, float], decay: float, steps: int) -> None:
    if not 0 <= step_size <= PORTRAIT_MOST["eta"]:
        raise ValueError(f"step_size is {step_size}: it should be from 0 to {PORTRAIT_MOST['eta']:g}.")
    if len(start) != 2 or not all(abs(one) <= PORTRAIT_VIEW for one in start):
        raise ValueError(f"start is {start}: it should be (θ, φ), each from −{PORTRAIT_VIEW:g} to "
                         f"{PORTRAIT_VIEW:g}.")
    if not 0 <= decay <= 0.99:
        raise ValueError(f"decay is {decay}: it should be from 0 to 0.99.")
    if not 10 <= steps <= 200:
        raise ValueError(f"steps is {steps}: it should be from 10 to 200.")


@cache
@rc_context({"font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9})
def _still_portrait(
    game: Bilinear | DiracGAN, step_size: float, start: tuple[float, float], decay: float, steps: int,
) -> str:
    """The plane as the page shows it first, and beside it distance against step."""
    paths = portrait_paths(game, step_size, start, steps, decay=decay)
    figure = Canvas(figsize=(7.6, 3.5), layout="constrained")
    plane, chart = figure.subplots(1, 2)
    plane.plot(*_portrait_arrows(game), color=LINE, linewidth=0.8)
    for (name, points), marker in zip(paths.items(), ("o", "s", "^", "", "D")):
        radius = points.norm(dim=1)
        look = {"color": COLOURS[PORTRAIT_ROLES[name]], "linewidth": 1.1, "marker": marker, "markersize": 3}
        plane.plot(*points[radius < 1.5 * PORTRAIT_VIEW].T, markevery=steps // 7, **look)
        label = "running mean of alternating" if name == "average" else name
        chart.plot(radius, markevery=steps // 6, label=label, **look)
    limits = -PORTRAIT_VIEW, PORTRAIT_VIEW
    plane.plot(*start, marker="o", markersize=8, color=INK, fillstyle="none")
    plane.set(xlim=limits, ylim=limits, aspect="equal", xlabel="θ", ylabel="φ", xticks=[-2, 0, 2],
              yticks=[-2, 0, 2], title="Both players, from one start")
    chart.set(yscale="log", xlabel="step t", title="Distance from (0, 0), log scale")
    chart.legend(fontsize=8, frameon=False, labelcolor=MUTED)
    for ax in (plane, chart):
        ax.tick_params(which="both", color=LINE, labelcolor=MUTED, labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["bottom", "left"]].set_color(LINE)
    return picture(figure, alt=_portrait_words(game, step_size, paths))


def _portrait_arrows(game: Bilinear | DiracGAN) -> tuple[Tensor, Tensor]:
    """Where both want to go from 8 × 8 places, as one broken line: for the same arrows quiver needs five times as
    many bytes."""
    ticks = torch.linspace(-2.6, 2.6, 8, dtype=torch.float64)
    at = torch.cartesian_prod(ticks, ticks)
    way = torch.stack(game.field(*at.T), dim=1)
    way = 0.13 * way / way.norm(dim=1, keepdim=True).clamp_min(1e-9).sqrt()
    across = torch.stack([-way[:, 1], way[:, 0]], dim=1)
    barbs = [at + 0.4 * way + 0.3 * side * across for side in (1, -1)]
    gap = torch.full_like(at, torch.nan)
    line = torch.stack([at - way, at + way, barbs[0], at + way, barbs[1], gap], dim=1).flatten(0, 1)
    return line[:, 0], line[:, 1]


def _portrait_words(game: Bilinear | DiracGAN, step_size: float, paths: dict[str, Tensor]) -> str:
    """What is to be seen in the still picture, with its numbers."""
    kind, gamma = _portrait_game(game)
    named = {"bilinear": "θφ", "saturating": f"of the Dirac-GAN with γ = {gamma:g}",
             "nonSaturating": f"of the non-saturating Dirac-GAN with γ = {gamma:g}"}[kind]
    first = paths["flow"][0].norm()
    ends = ", ".join(f"{'the running mean of alternating steps' if name == 'average' else name} "
                     f"{points[-1].norm():.3g}" for name, points in paths.items())
    return (f"The plane of two players in the game {named}, with an arrow at each place for where both want to go, "
            f"and five paths from one start at a distance of {first:.3g} with steps of η = {step_size:g}. Beside it "
            f"the distance from (0, 0) against the step, on a logarithmic scale. After {len(paths['flow']) - 1} "
            f"steps it is: {ends}.")
