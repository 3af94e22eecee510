"""The figures' look, and the few figures that several chapters share.

A figure is an SVG with a transparent background. It is drawn in the colours of a light page; a style sheet
inside it says which of them change on a dark one, and the browser picks (an SVG image follows the colour
scheme of the page it stands in). The page inverts nothing, and without a browser the figure is the light one.

The palette is Okabe and Ito's, moved so far that every colour stands out from the paper (contrast at least 3,
in light and in dark) and from every other one, also for a reader without red, green or blue cones;
tests/test_plot.py holds it to that.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import torch
from matplotlib import font_manager
from matplotlib.backend_bases import register_backend
from matplotlib.backends.backend_svg import FigureCanvasSVG

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FONTS = Path(__file__).parent / "fonts"

# name: (on a light page, on a dark page). The first six are for data, in the order of the colour cycle.
PALETTE: dict[str, tuple[str, str]] = {
    "blue": ("#155a98", "#4a92cc"),
    "orange": ("#d67c06", "#f9ad20"),
    "green": ("#0f8770", "#55cb9d"),
    "plum": ("#b863ae", "#cc9fe6"),
    "vermilion": ("#ba3800", "#f15c16"),
    "sky": ("#1f94ec", "#b6e2fc"),
    "ink": ("#1c2430", "#dde3e9"),
    "muted": ("#566170", "#9ca8b5"),
    "line": ("#dde1e4", "#303841"),
    "paper": ("#fcfcfa", "#14181d"),
}
COLOURS: dict[str, str] = {name: light for name, (light, _) in PALETTE.items()}
CYCLE = ("blue", "orange", "green", "plum", "vermilion", "sky")
INK_IMAGE = "ink-image"         # an SVG id that begins so is a picture in grey ink, light on a dark page
PAGE_IMAGE = "-page-image"      # an SVG id "light-page-image…" is a picture that a dark page hides
SLOTS = (*CYCLE, "muted", "ink")      # the colours of slots 1, 2, …
WIDTH = 6.15                    # inches: as wide as the book's text


# --- the style ----------------------------------------------------------------------------------------------


def use_book_style() -> None:
    """Set matplotlib's defaults to the book's, and in a notebook draw figures as SVG. May be called again."""
    for file in sorted(FONTS.glob("*.ttf")):
        font_manager.fontManager.addfont(str(file))
    matplotlib.rcParams.update(style())
    register_backend("svg", BookCanvas)
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        _draw_svg_in_the_notebook()


def style() -> dict[str, object]:
    """The book's matplotlib settings, as rcParams."""
    ink, muted, line = COLOURS["ink"], COLOURS["muted"], COLOURS["line"]
    return {
        "figure.figsize": (WIDTH, 3.1), "figure.facecolor": "none", "figure.constrained_layout.use": True,
        "savefig.facecolor": "none", "savefig.transparent": True,
        "svg.hashsalt": "nemlib", "svg.fonttype": "path",     # the same figure is the same file
        "font.family": (["Nem Sans"] if any(FONTS.glob("*.ttf")) else []) + ["DejaVu Sans"], "font.size": 10,
        "mathtext.fontset": "cm",
        "text.color": ink, "axes.labelcolor": ink, "axes.titlecolor": ink, "axes.edgecolor": muted,
        "axes.titlesize": 10.5, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 8,
        "axes.labelsize": 10, "axes.labelpad": 5, "axes.linewidth": 0.8, "axes.facecolor": "none",
        "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
        "axes.prop_cycle": matplotlib.cycler(color=[COLOURS[name] for name in CYCLE]),
        "axes.grid": False, "grid.color": line, "grid.linewidth": 0.7,
        "xtick.color": muted, "ytick.color": muted, "xtick.labelcolor": ink, "ytick.labelcolor": ink,
        "xtick.labelsize": 9.5, "ytick.labelsize": 9.5, "xtick.major.size": 3.5, "ytick.major.size": 3.5,
        "xtick.major.width": 0.8, "ytick.major.width": 0.8,
        "lines.linewidth": 1.6, "lines.markersize": 4, "lines.solid_capstyle": "round",
        "patch.linewidth": 0.8, "patch.edgecolor": ink, "hist.bins": 40,
        "image.cmap": "cividis", "image.interpolation": "none",
        "legend.frameon": False, "legend.fontsize": 9.5, "legend.handlelength": 1.4,
        "legend.borderaxespad": 0.2,
    }


def _draw_svg_in_the_notebook() -> None:
    """Ask IPython for SVG. Its own switch, so that Colab and JupyterLab do the same as the book."""
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("svg", bbox_inches="tight", pad_inches=0.03)


class BookCanvas(FigureCanvasSVG):
    """matplotlib's SVG writer, with the colours of a dark page added to the file."""

    def print_svg(self, filename, *, bbox_inches_restore=None, metadata=None, **ignored):
        """Write to a path or a binary or text file; `ignored` is what matplotlib hands to every format."""
        text = io.StringIO()
        metadata = {"Date": None} | (metadata or {})    # a date would make each build a new file
        super().print_svg(text, bbox_inches_restore=bbox_inches_restore, metadata=metadata)
        svg = for_both_pages(text.getvalue())
        if hasattr(filename, "write"):
            filename.write(svg if isinstance(filename, io.TextIOBase) else svg.encode())
        else:
            Path(filename).write_text(svg, encoding="utf-8")


def for_both_pages(svg: str) -> str:
    """Add to a figure's SVG the rules that give each of its book colours its value on a dark page.

    Colours are found by their value in `style` attributes, so that a program that knows no style sheets still
    shows the light figure. Colours that are not the book's stay as they are; black counts as ink.
    """
    pairs = [("#000000", PALETTE["ink"][1]), *PALETTE.values()]
    rules = [f'[style*="{role}: {light}"]{{{role}:{dark}!important}}'
             for light, dark in pairs for role in ("fill", "stroke") if f"{role}: {light}" in svg]
    if f'id="{INK_IMAGE}' in svg:
        rules.append(f'[id^="{INK_IMAGE}"]{{filter:invert(1)}}')
    always = ""
    if f'id="dark{PAGE_IMAGE}' in svg:
        always = f'[id^="dark{PAGE_IMAGE}"]{{display:none}}'
        rules.append(f'[id^="light{PAGE_IMAGE}"]{{display:none}}[id^="dark{PAGE_IMAGE}"]{{display:inline}}')
    sheet = f"<style>{always}@media (prefers-color-scheme:dark){{{''.join(rules)}}}</style>"
    return re.sub(r"(<svg\b[^>]*>)", lambda opening: opening[1] + sheet, svg, count=1)


# --- pictures -----------------------------------------------------------------------------------------------


def image_grid(
    images: torch.Tensor | np.ndarray | Sequence,
    *,
    columns: int | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    tile: float = 0.62,
    frame: bool = True,
) -> Figure:
    """Grey pictures side by side, as ink on the page: the high end of `value_range` is ink, the low end none.

    images: (number, height, width), laid out in rows of `columns` (all in one row where it is not given), or
    (rows, columns, height, width). tile: height of a picture in inches; the grid is never wider than the text.
    frame: a hairline around each picture. Values outside `value_range` are shown as its ends.
    Raises ValueError for another number of axes, for NaN, and where labels do not fit the rows or columns.
    """
    array = _as_rows(images, columns)
    rows, across, height, width = array.shape
    _check_labels("row_labels", row_labels, rows)
    _check_labels("column_labels", column_labels, across)
    low, high = value_range
    gap = max(1, round(0.09 * height))
    canvas = np.zeros((rows * (height + gap) - gap, across * (width + gap) - gap))
    corners = [(i * (height + gap), j * (width + gap)) for i in range(rows) for j in range(across)]
    for (top, left), picture in zip(corners, array.reshape(-1, height, width), strict=True):
        canvas[top:top + height, left:left + width] = np.clip((picture - low) / (high - low), 0, 1)
    scale = min(tile / height, WIDTH / canvas.shape[1])
    return _draw_ink(canvas, scale, corners if frame else [], (height, width), gap, row_labels, column_labels)


def _as_rows(images, columns: int | None) -> np.ndarray:
    """(rows, columns, height, width) in float64; missing pictures of the last row are empty."""
    if not isinstance(images, np.ndarray):
        images = torch.stack(list(images)) if isinstance(images, (list, tuple)) else images
        images = images.detach().cpu().double().numpy()
    array = np.asarray(images, dtype=np.float64)
    if array.ndim == 4 and columns is None:
        pass
    elif array.ndim == 3 and len(array):
        columns = columns or len(array)
        missing = -len(array) % columns
        array = np.concatenate([array, np.full((missing, *array.shape[1:]), -np.inf)])
        array = array.reshape(-1, columns, *array.shape[1:])
    else:
        raise ValueError("images has shape (number, height, width), or (rows, columns, height, width) "
                         f"without `columns`; {array.shape} came"
                         + (f" with columns={columns}." if columns else "."))
    if np.isnan(array).any():
        raise ValueError(f"{int(np.isnan(array).sum())} of the pictures' values are NaN: look at what made "
                         "them.")
    return array


def _check_labels(name: str, labels: Sequence[str] | None, expected: int) -> None:
    if labels is not None and len(labels) != expected:
        raise ValueError(f"{name} has {len(labels)} entries and the grid {expected}: give one for each.")


def _draw_ink(canvas, scale, corners, size, gap, row_labels, column_labels) -> Figure:
    """One picture in transparent ink; the page shows through where there is none."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle

    height, width = size
    figure, axes = plt.subplots(figsize=(canvas.shape[1] * scale, canvas.shape[0] * scale))
    ink = np.zeros((*canvas.shape, 4))
    ink[..., :3], ink[..., 3] = 0.12, canvas
    image = axes.imshow(ink, interpolation="none")
    image.set_gid(f"{INK_IMAGE}-{figure.number}")
    for top, left in corners:
        axes.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, linewidth=0.7,
                                 edgecolor=COLOURS["line"], clip_on=False))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, pad=5, top=False, bottom=False, labeltop=True, labelbottom=False)
    middles = (i * (height + gap) + (height - 1) / 2 for i in range(len(row_labels or ())))
    axes.set_yticks(list(middles), row_labels)
    middles = (j * (width + gap) + (width - 1) / 2 for j in range(len(column_labels or ())))
    axes.set_xticks(list(middles), column_labels)
    return figure


# --- slots --------------------------------------------------------------------------------------------------


def slot_colours(gamma: torch.Tensor, image: torch.Tensor | None = None, page: str = "light") -> torch.Tensor:
    """Responsibilities as colours: each slot has one, and they mix as light does, in proportion to γ.

    gamma: (…, K, height, width), of sum 1 over K. image: (…, height, width) in [0, 1]; where one is given and
    is 0, the page's own colour stays. page: "light" or "dark", whose colours are taken.
    Returns (…, height, width, 3) in [0, 1], on γ's device. Raises ValueError for more slots than colours (8),
    and for an image of another shape.
    """
    slots = gamma.shape[-3]
    if slots > len(SLOTS):
        raise ValueError(f"There are colours for {len(SLOTS)} slots, and {slots} came.")
    if image is not None and image.shape != gamma.shape[:-3] + gamma.shape[-2:]:
        raise ValueError(f"The image has γ's shape without its slots, "
                         f"{tuple(gamma.shape[:-3] + gamma.shape[-2:])}; {tuple(image.shape)} came.")
    light = _light([*SLOTS[:slots], "paper"], page).to(gamma.device)
    mixed = torch.einsum("...khw,kc->...hwc", gamma.float(), light[:-1])
    if image is not None:
        mixed = light[-1] + image.float()[..., None] * (mixed - light[-1])
    mixed = mixed.clamp(0, 1)
    return torch.where(mixed <= 0.0031308, 12.92 * mixed, 1.055 * mixed.clamp(min=1e-9) ** (1 / 2.4) - 0.055)


def _light(names: Sequence[str], page: str) -> torch.Tensor:
    """Colours of the palette as amounts of light (sRGB without its gamma), (colours, 3)."""
    if page not in ("light", "dark"):
        raise ValueError(f"page is 'light' or 'dark', and {page!r} came.")
    column = 0 if page == "light" else 1
    colours = [PALETTE[name][column] for name in names]
    values = torch.tensor([[int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)] for colour in colours])
    return torch.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def grouping_grid(
    images: torch.Tensor,
    gamma: torch.Tensor,
    psi: torch.Tensor | None = None,
    *,
    groups: torch.Tensor | None = None,
    row_labels: Sequence[str] | None = None,
    show_off: bool = False,
    tile: float = 0.62,
) -> Figure:
    """A row for each example or step: the image in ink, the true groups where given, γ in colour, ψ in ink.

    images: (rows, height, width) in [0, 1]. gamma: (rows, K, height, width). psi: the same, or None for none.
    groups: (rows, height, width), 0 for background and overlap (left grey where the image is on); its colours
    are those of the slots that share most pixels with them. show_off: colour also the pixels that are off.
    tile: height of a picture in inches; the grid is never wider than the text.
    Raises ValueError for shapes that do not belong together.
    """
    _check_grouping(images, gamma, psi, groups)
    slots = gamma.shape[1]
    titles = ["image"] + (["truth"] if groups is not None else []) + ["$\\gamma$"]
    titles += [f"$\\psi_{{{k + 1}}}$" for k in range(slots)] if psi is not None else []
    inks = [images] + ([_overlap(images, groups)] if groups is not None else []) + [torch.zeros_like(images)]
    inks += list(psi.unbind(1)) if psi is not None else []
    figure = image_grid(torch.stack([ink.detach().cpu().double() for ink in inks], 1), row_labels=row_labels,
                        column_labels=titles, tile=tile)
    on = torch.ones_like(images) if show_off else images
    coloured = {len(titles) - 1 - (slots if psi is not None else 0): (gamma, on)}
    if groups is not None:
        coloured[1] = (_owned(gamma, groups), (groups > 0).to(images))
    _lay_colours(figure, coloured, tuple(images.shape), len(titles))
    return figure


def _check_grouping(images, gamma, psi, groups) -> None:
    expected = f"({', '.join(map(str, images.shape))})"
    if images.dim() != 3 or gamma.dim() != 4 or gamma[:, 0].shape != images.shape:
        raise ValueError(f"images has shape (rows, height, width) and γ (rows, K, height, width); {expected} "
                         f"and {tuple(gamma.shape)} came.")
    if psi is not None and psi.shape != gamma.shape:
        raise ValueError(f"ψ has γ's shape {tuple(gamma.shape)}, and {tuple(psi.shape)} came.")
    if groups is not None and groups.shape != images.shape:
        raise ValueError(f"groups has the images' shape {expected}, and {tuple(groups.shape)} came.")


def _overlap(images: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """The pixels that are on and belong to no single group, in half ink."""
    return 0.5 * ((groups == 0) * images)


def _owned(gamma: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """The true groups, each as if it were the slot that has most of it, no slot twice; shape of γ."""
    from scipy.optimize import linear_sum_assignment

    owned = torch.zeros_like(gamma)
    for row, (share, truth) in enumerate(zip(gamma, groups, strict=True)):
        names = truth.unique()
        names = names[names > 0]
        masks = torch.stack([truth == name for name in names]).to(gamma) if len(names) else gamma[:0, 0, :0]
        if not len(names):
            continue
        common = torch.einsum("khw,ghw->gk", share, masks)
        for group, slot in zip(*linear_sum_assignment(common.cpu().numpy(), maximize=True), strict=True):
            owned[row, slot] = masks[group]
    return owned


def _lay_colours(figure: Figure, coloured: dict[int, tuple], shape: tuple[int, int, int], across: int):
    """Put pictures in colour into some columns of an ink grid, once for a light page, once for a dark one."""
    rows, height, width = shape
    gap = max(1, round(0.09 * height))
    axes = figure.axes[0]
    extent = axes.images[0].get_extent()
    for page in ("dark", "light"):      # a program that knows no style sheets shows the last one
        canvas = np.zeros((rows * (height + gap) - gap, across * (width + gap) - gap, 4))
        for column, (gamma, on) in coloured.items():
            paint = slot_colours(gamma, page=page).detach().cpu()
            rgba = torch.cat([paint, on.detach().cpu().float()[..., None]], -1).numpy()
            for row in range(rows):
                top, left = row * (height + gap), column * (width + gap)
                canvas[top:top + height, left:left + width] = rgba[row]
        picture = axes.imshow(canvas, interpolation="none", extent=extent)
        picture.set_gid(f"{page}{PAGE_IMAGE}-{figure.number}")


# --- chains -------------------------------------------------------------------------------------------------


def running_mean(draws: torch.Tensor) -> torch.Tensor:
    """The mean of the first 1, 2, … n draws. draws: (n, …), any dtype. Returns float64 of the same shape."""
    draws = draws.double()
    counts = torch.arange(1, len(draws) + 1, dtype=torch.float64, device=draws.device)
    return draws.cumsum(0) / counts.reshape(-1, *[1] * (draws.dim() - 1))


def plot_running_means(axes: Axes, draws: torch.Tensor, *, exact: float | None = None,
                       standard_deviation: float | None = None) -> None:
    """The running mean of each chain, the exact value, and the band of two standard errors around it.

    draws: (n,) or (n, chains). standard_deviation: of one draw; the band, exact ± 2 sd/√t, is that of
    independent draws.
    Raises ValueError for another shape, and for a band without an exact value.
    """
    if draws.dim() not in (1, 2):
        raise ValueError(f"draws has shape (n,) or (n, chains); {tuple(draws.shape)} came.")
    if standard_deviation is not None and exact is None:
        raise ValueError("The band stands around the exact value: give `exact` as well.")
    means = running_mean(draws.reshape(len(draws), -1)).cpu()
    steps = np.arange(1, len(means) + 1)
    if standard_deviation is not None:
        half = 2 * standard_deviation / np.sqrt(steps)
        axes.fill_between(steps, exact - half, exact + half, color=COLOURS["muted"], alpha=0.16, linewidth=0,
                          label="exact ± 2 s.e.")
    axes.plot(steps, means.numpy(), linewidth=1.3)
    if exact is not None:
        exact_line(axes, exact)
    axes.set(xlabel="draws", ylabel="mean so far", xlim=(1, len(means)))


def exact_line(axes: Axes, value: float, label: str = "exact") -> None:
    """A dashed line at a value that is known, so that an estimate always stands beside the truth."""
    axes.axhline(value, color=COLOURS["ink"], linewidth=1, linestyle=(0, (4, 3)), label=label, zorder=3)
