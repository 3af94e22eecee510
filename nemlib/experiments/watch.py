"""Seeing a run while it runs: a picture and a page that `train` keeps fresh, and the view in the terminal.

The picture shows what the learner shows of itself and the curves of its metrics. Nothing here draws from the
run's generators, so that a run that is watched ends with the same bits as one that is not.
"""

from __future__ import annotations

import html
import math
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nemlib import training
from nemlib.files import write_atomically
from nemlib.history import History

BARS = "▁▂▃▄▅▆▇█"
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
  :root {{ color-scheme: light dark; }}
  body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }}
  img {{ max-width: 100%; background: #fff; }}
  pre {{ overflow-x: auto; }}
</style>
<h1>{title}</h1>
<pre>{text}</pre>
<img src="picture.png?{fresh}" alt="Images of what the model has learnt, and the curves of its metrics">
</html>
"""


class Watcher:
    """Called by the training loop after each row of the history; draws at most every `every` seconds, and at
    the end.

    folder: the run's. last_step: where the run ends.
    """

    def __init__(self, folder: Path, last_step: int, every: float = 10.0) -> None:
        self.folder, self.last_step, self.every, self.drawn = folder, last_step, every, -math.inf

    def __call__(self, learner: training.Learner, history: History, context: training.Context) -> None:
        if time.monotonic() < self.drawn + self.every and context.step < self.last_step:
            return
        began = time.monotonic()
        draw(self.folder / "picture.png", picture_of(learner, context), history)
        write_page(self.folder, history)
        self.drawn = time.monotonic()
        self.every = max(self.every, 20 * (self.drawn - began))   # never more than a twentieth of the time


def picture_of(learner: training.Learner, context: training.Context) -> Tensor | None:
    """The learner's picture, with random numbers of its own, leaving its module in the mode it was in."""
    random = {name: training.derived_generator(0, "picture", context.device)
              for name in ("generator", "common_generator")}
    parts = [part for part in learner.module.modules() if part.training]
    learner.module.eval()
    try:
        with torch.no_grad(), training.seeded(0):
            images = learner.picture(replace(context, recorded={}, **random))
    finally:
        for part in parts:
            part.training = True
    return None if images is None else images.detach().float().cpu()


def draw(path: Path, images: Tensor | None, history: History) -> None:
    """A PNG of pictures, and below them up to six curves.

    images: up to 24 of them, (images, height, width) in [0, 1], or (images, height, width, 3) in colour; or a
    table of any size, (rows, columns, height, width, 3).
    """
    from matplotlib.figure import Figure

    names = curve_names(history)[:6]
    rows = math.ceil(len(names) / 3)
    figure = Figure(figsize=(9, (0 if images is None else 3) + 2 * rows + 0.2), layout="constrained")
    parts = [figure, figure]
    if images is not None and rows:
        parts = figure.subfigures(2, 1, height_ratios=[3, 2 * rows])
    if images is not None:
        draw_images(parts[0], images if images.dim() == 5 else images[:24])
    axes = list(parts[1].subplots(rows, 3, squeeze=False).flat) if rows else []
    for axis, name in zip(axes, names):
        axis.plot(*history.series(name), color="#0072B2")
        axis.set(title=name, xlabel="step")
    for axis in axes[len(names):]:
        axis.set_visible(False)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def draw_images(figure: Any, images: Tensor) -> None:
    """A grid of images on a figure, black for 0 and white for 1; shapes as for `draw`."""
    if images.dim() == 5:
        draw_table(figure, images)
        return
    columns = min(len(images), 8)
    rows = math.ceil(len(images) / columns)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[len(images):]:
        axis.set_axis_off()
    for axis, image in zip(axes, images):
        axis.imshow(image.clamp(0, 1).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color("#888888")   # a white image on a white page has an edge


def draw_table(figure: Any, table: Tensor) -> None:
    """Rows and columns of coloured images as one picture, which is much quicker than many."""
    rows, columns, height, width, _ = table.shape
    canvas = torch.full((rows * (height + 2) - 2, columns * (width + 2) - 2, 3), 0.6)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height + 2), column * (width + 2)
            canvas[top:top + height, left:left + width] = table[row, column]
    axis = figure.subplots()
    axis.imshow(canvas.clamp(0, 1).numpy(), interpolation="nearest")
    axis.set_axis_off()


def save_images(path: Path, images: Tensor) -> None:
    """Write images, (images, height, width) or (images, height, width, 3) in [0, 1], as a PNG grid."""
    from matplotlib.figure import Figure

    columns = min(len(images), 8)
    figure = Figure(figsize=(columns, math.ceil(len(images) / columns)), layout="constrained")
    draw_images(figure, images.detach().float().cpu())
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def write_page(folder: Path, history: History) -> None:
    """A page that reloads itself every five seconds, for a browser beside the terminal."""
    fresh = history.rows[-1]["step"] if history.rows else 0
    text = html.escape("\n".join(lines_of(history, 100)))
    page = PAGE.format(title=html.escape(str(folder)), text=text, fresh=fresh)
    with write_atomically(folder / "watch.html") as temporary:
        temporary.write_text(page, encoding="utf-8")


# --- the view in the terminal ------------------------------------------------------------------------------


def view(folder: Path, run: dict[str, Any], alive: bool, width: int) -> str:
    """A run as text. run: its run.json. alive: whether its process is there. width: in characters."""
    history = read_history(folder)
    step = int(history.rows[-1]["step"]) if history.rows else 0
    last = run.get("last_step") or step
    share = f" ({100 * step / last:.0f} %)" if last else ""
    lines = [f"{run['experiment']} · preset {run['preset']} · seed {run['seed']} · {state_of(run, alive)}",
             f"step {step:,} of {last:,}{share}{remaining(folder, run, alive, history, last)}", ""]
    lines += lines_of(history, width)
    if (folder / "watch.html").is_file():
        lines += ["", f"Pictures: open {folder / 'watch.html'} in a browser (it refreshes itself)."]
    return "\n".join(lines)


def lines_of(history: History, width: int) -> list[str]:
    """One line a metric: its name, newest value, and course so far as bars."""
    names = curve_names(history)
    if not names:
        return ["No row of the history yet."]
    longest = max(map(len, names))
    return [f"{name:<{longest}}  {history.last(name):>11.5g}  "
            f"{sparkline(history.series(name)[1], max(8, width - longest - 15))}" for name in names]


def sparkline(values: list[float], width: int) -> str:
    """Values as a row of at most `width` bars, each the mean of its share, from the lowest to the highest."""
    count = min(width, len(values))
    edges = [round(index * len(values) / count) for index in range(count + 1)] if count else []
    means = [sum(values[a:b]) / (b - a) for a, b in zip(edges, edges[1:])]
    low, high = min(means, default=0.0), max(means, default=0.0)
    if low == high:
        return BARS[3] * count
    return "".join(BARS[min(7, int(8 * (mean - low) / (high - low)))] for mean in means)


def curve_names(history: History) -> list[str]:
    """The metrics of a history, without the columns that only count; the training metrics first."""
    return [name for name in history.names if name not in ("step", "epoch")]


def read_history(folder: Path) -> History:
    path = folder / "history.csv"
    return History.read(path) if path.is_file() else History()


def state_of(run: dict[str, Any], alive: bool) -> str:
    if run["state"] == "running" and not alive:
        return "broken off (go on with --resume)"
    return run["state"]


def remaining(folder: Path, run: dict[str, Any], alive: bool, history: History, last: int) -> str:
    """", 40 s since the start, about 60 s to go", from the steps of the present session."""
    if not (alive and history.rows and run["sessions"]):
        return ""
    began = datetime.strptime(run["sessions"][-1]["date"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    spent = (folder / "history.csv").stat().st_mtime - began.timestamp()
    done, first = history.rows[-1]["step"], run.get("first_step", 0)
    if spent <= 0 or done <= first:
        return ""
    left = spent * (last - done) / (done - first)
    return f", {spent:,.0f} s in this session, about {left:,.0f} s to go"


def follow(show: Any, finished: Any, every: float = 2.0) -> None:
    """Show the view anew every few seconds until the run ends. show: gives the text; finished: the end."""
    while True:
        ended = finished()
        print("\x1b[2J\x1b[H" + show(), flush=True)
        if ended:
            return
        time.sleep(every)
