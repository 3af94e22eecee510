"""The look of the figures: one file for both pages, colours that everyone can tell apart, pictures in ink."""

from __future__ import annotations

import io
import itertools
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("agg", force=True)

import matplotlib.pyplot as plt  # noqa: E402

from nemlib import plot  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
CSS = (ROOT / "book" / "_static" / "book.css").read_text(encoding="utf-8")
DATA_COLOURS = plot.CYCLE

# What a reader without one kind of cone sees, in linear RGB (Machado, Oliveira & Fernandes 2009, severity 1).
EYES = {
    "all cones": np.eye(3),
    "no red cones": np.array([[.152286, 1.052583, -.204868], [.114503, .786281, .099216],
                              [-.003882, -.048116, 1.051998]]),
    "no green cones": np.array([[.367322, .860646, -.227968], [.280085, .672501, .047413],
                                [-.011820, .042940, .968881]]),
    "no blue cones": np.array([[1.255528, -.076749, -.178779], [-.078411, .930809, .147602],
                               [.004733, .691367, .303900]]),
}
TELL_APART = 8.0        # distance in OKLab × 100; 2 is just noticeable side by side
STAND_OUT = 3.0         # contrast that WCAG asks of graphics


@pytest.fixture(autouse=True)
def fresh_style():
    with matplotlib.rc_context():
        yield
    plt.close("all")


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[i:i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def oklab(rgb: np.ndarray) -> np.ndarray:
    cones = np.array([[.4122214708, .5363325363, .0514459929], [.2119034982, .6806995451, .1073969566],
                      [.0883024619, .2817188376, .6299787005]]) @ np.clip(rgb, 0, 1)
    return np.array([[.2104542553, .7936177850, -.0040720468], [1.9779984951, -2.4285922050, .4505937099],
                     [.0259040371, .7827717662, -.8086757660]]) @ np.cbrt(cones)


def contrast(a: str, b: str) -> float:
    light = sorted(float(linear(colour) @ [.2126, .7152, .0722]) for colour in (a, b))
    return (light[1] + 0.05) / (light[0] + 0.05)


def closest(colours: dict[str, str], eyes: np.ndarray) -> tuple[float, str, str]:
    seen = {name: 100 * oklab(eyes @ linear(colour)) for name, colour in colours.items()}
    return min((float(np.linalg.norm(seen[a] - seen[b])), a, b) for a, b in itertools.combinations(seen, 2))


def page(which: int) -> dict[str, str]:
    return {name: pair[which] for name, pair in plot.PALETTE.items()}


# --- colours ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("which", [0, 1], ids=["light", "dark"])
def test_data_colours_can_be_told_apart(which, eyes):
    distance, a, b = closest({name: page(which)[name] for name in DATA_COLOURS}, EYES[eyes])
    assert distance >= TELL_APART, f"{a} and {b} are {distance:.1f} apart for a reader with {eyes}"


@pytest.mark.parametrize("which", [0, 1], ids=["light", "dark"])
def test_data_colours_stand_out_from_the_paper(which):
    colours = page(which)
    assert {name: round(contrast(colours[name], colours["paper"]), 2) for name in DATA_COLOURS
            if contrast(colours[name], colours["paper"]) < STAND_OUT} == {}


def test_a_red_and_a_green_that_only_some_can_tell_apart_are_caught():
    colours = {"red": "#c43b2f", "green": "#6f7f2c"}
    assert closest(colours, EYES["all cones"])[0] > TELL_APART > closest(colours, EYES["no green cones"])[0]


def test_the_figures_and_the_pages_use_the_same_ink_and_paper():
    root, dark = CSS[CSS.index(":root {"):], CSS[CSS.index('html[data-theme="dark"] {'):]
    for name in ("ink", "muted", "line", "paper"):
        on_page = tuple(re.search(rf"--nem-{name}: (#[0-9a-f]{{6}});", block)[1] for block in (root, dark))
        assert on_page == plot.PALETTE[name], name


# --- the file -----------------------------------------------------------------------------------------------


def saved(figure, **options) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", **options)
    return buffer.getvalue()


def small_figure():
    figure, axes = plt.subplots()
    axes.plot([1, 2, 3], label="a line")
    axes.set(xlabel="draws", ylabel="mean")
    axes.legend()
    return figure


def test_the_same_figure_is_the_same_file():
    plot.use_book_style()
    first, second = saved(small_figure()), saved(small_figure())
    assert first == second
    assert "<dc:date>" not in first


def test_the_file_holds_both_pages():
    plot.use_book_style()
    svg = saved(small_figure())
    sheet = re.search(r"<style>@media \(prefers-color-scheme:dark\)\{(.*?)\}</style>", svg)[1]
    for name in ("ink", "muted", "blue"):
        light, dark = plot.PALETTE[name]
        assert light in svg and f"{light}\"]" in sheet and dark in sheet
    assert plot.PALETTE["plum"][1] not in sheet         # only what occurs


def test_nothing_opaque_lies_under_the_figure():
    plot.use_book_style()
    svg = saved(small_figure())
    assert re.search(r'id="patch_1">\s*<path[^>]*style="fill: none', svg)
    assert "fill: #ffffff" not in svg and plot.PALETTE["paper"][0] not in svg


def test_text_is_set_in_the_books_own_face():
    plot.use_book_style()
    figure = small_figure()
    label = figure.axes[0].xaxis.label
    assert "NemSans" in matplotlib.font_manager.findfont(label.get_fontproperties())


def test_black_lines_turn_light_in_the_dark():
    assert "#000000" in plot.for_both_pages('<svg><path style="stroke: #000000"/></svg>').split("</style>")[0]


def test_a_figure_can_be_written_to_a_path_and_to_a_binary_file(tmp_path):
    plot.use_book_style()
    figure, buffer = small_figure(), io.BytesIO()
    figure.savefig(tmp_path / "a.svg")
    figure.savefig(buffer, format="svg")
    assert (tmp_path / "a.svg").read_text(encoding="utf-8").count("prefers-color-scheme") == 1
    assert buffer.getvalue().decode().count("prefers-color-scheme") == 1


def test_plotting_pulls_in_no_notebook():
    script = ("import sys; from nemlib import plot; plot.use_book_style(); "
              "sys.exit(any(name in sys.modules for name in ('IPython', 'matplotlib_inline', 'ipywidgets')))")
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, timeout=60)


# --- pictures -----------------------------------------------------------------------------------------------


def ink_of(figure) -> np.ndarray:
    """How much ink lies on each pixel of the drawn canvas."""
    return np.asarray(figure.axes[0].images[0].get_array())[..., 3]


def test_a_grid_puts_each_picture_in_its_place():
    pictures = torch.arange(6 * 4 * 3, dtype=torch.float32).reshape(6, 4, 3) / 71      # not square
    ink = ink_of(plot.image_grid(pictures, columns=3))
    assert ink.shape == (2 * 4 + 1, 3 * 3 + 2)
    for number in range(6):
        top, left = 5 * (number // 3), 4 * (number % 3)
        np.testing.assert_allclose(ink[top:top + 4, left:left + 3], pictures[number].numpy(), atol=1e-6)
    assert (ink[4] == 0).all() and (ink[:, 3] == 0).all()


def test_a_grid_of_rows_is_the_same_as_one_with_columns():
    pictures = torch.rand(6, 5, 4, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(ink_of(plot.image_grid(pictures, columns=3)),
                                  ink_of(plot.image_grid(pictures.reshape(2, 3, 5, 4))))


def test_spins_are_scaled_and_a_last_row_may_be_short():
    spins = torch.ones(3, 4, 4)
    spins[2] = -1
    ink = ink_of(plot.image_grid(spins, columns=2, value_range=(-1, 1)))
    assert ink[:4, :4].min() == 1 and ink[5:, :4].max() == 0 and ink[5:, 5:].max() == 0


def test_pictures_are_marked_for_dark_pages_and_keep_their_pixels():
    plot.use_book_style()
    svg = saved(plot.image_grid(torch.rand(2, 8, 6), row_labels=["both"], column_labels=["one", "two"]))
    assert f'[id^="{plot.INK_IMAGE}"]{{filter:invert(1)}}' in svg
    assert "image-rendering:pixelated" in svg.replace(" ", "")


@pytest.mark.parametrize("pictures, options, words", [
    (torch.zeros(4, 4), {}, "shape"),
    (torch.zeros(0, 4, 4), {}, "shape"),
    (torch.zeros(2, 2, 4, 4), {"columns": 2}, "shape"),
    (torch.full((2, 4, 4), float("nan")), {}, "NaN"),
    (torch.zeros(2, 4, 4), {"row_labels": ["a", "b"]}, "row_labels"),
    (torch.zeros(2, 4, 4), {"column_labels": ["a"]}, "column_labels"),
])
def test_what_is_no_grid_is_refused_in_a_sentence(pictures, options, words):
    with pytest.raises(ValueError, match=words):
        plot.image_grid(pictures, **options)


# --- slots --------------------------------------------------------------------------------------------------


def page_colour(name: str, which: int) -> torch.Tensor:
    value = plot.PALETTE[name][which]
    return torch.tensor([int(value[i:i + 2], 16) / 255 for i in (1, 3, 5)])


@pytest.mark.parametrize(("name", "which"), [("light", 0), ("dark", 1)])
def test_a_slot_that_is_sure_has_its_own_colour(name, which):
    gamma = torch.eye(3)[:, None].expand(3, 2, 3)[None]                # (1, K, 2, 3): column k is slot k's
    painted = plot.slot_colours(gamma, page=name)
    assert painted.shape == (1, 2, 3, 3)
    for k, colour in enumerate(plot.SLOTS[:3]):
        assert torch.allclose(painted[0, :, k], page_colour(colour, which).expand(2, 3), atol=1e-3)


def test_colours_mix_as_light_does():
    gamma = torch.tensor([0.25, 0.75]).view(2, 1, 1)
    found = plot.slot_colours(gamma)[0, 0].numpy()
    light = 0.25 * linear(plot.COLOURS[plot.SLOTS[0]]) + 0.75 * linear(plot.COLOURS[plot.SLOTS[1]])
    expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.allclose(found, expected, atol=1e-3)
    plain = 0.25 * page_colour(plot.SLOTS[0], 0) + 0.75 * page_colour(plot.SLOTS[1], 0)
    assert not np.allclose(found, plain.numpy(), atol=1e-2), "a mean of the numbers is too dark"


def test_where_the_image_is_off_the_page_shows():
    gamma, image = torch.full((2, 4, 5, 5), 0.25), torch.zeros(2, 5, 5)
    image[1, 2, 3] = 1
    painted = plot.slot_colours(gamma, image, "dark")
    paper = page_colour("paper", 1)
    assert torch.allclose(painted[0], paper.expand(5, 5, 3), atol=1e-3)
    assert ((painted[1] - paper).abs().amax(-1) > 0.05).nonzero().tolist() == [[2, 3]]


def test_every_slot_has_a_colour_of_its_own():
    for which in (0, 1):
        assert len({plot.PALETTE[name][which] for name in plot.SLOTS}) == len(plot.SLOTS) == 8


@pytest.mark.parametrize(("arguments", "words"), [
    ((torch.ones(9, 2, 2),), "9"),
    ((torch.ones(2, 2, 2), torch.ones(3, 3)), "(3, 3)"),
    ((torch.ones(2, 2, 2), None, "grey"), "grey"),
])
def test_what_cannot_be_coloured_is_refused_in_a_sentence(arguments, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        plot.slot_colours(*arguments)


def grouped(rows: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images of two stripes that cross, which slots 2 and 0 of three answer for, and the groups 1 and 2."""
    groups = torch.zeros(rows, 6, 6, dtype=torch.int64)
    groups[:, 1], groups[:, 4] = 1, 2
    groups[:, 4, 0] = 0                                                    # as if in an overlap
    images = torch.zeros(rows, 6, 6)
    images[:, [1, 4]] = 1
    gamma = torch.full((rows, 3, 6, 6), 0.1)
    gamma[:, 2, :3], gamma[:, 0, 3:] = 0.8, 0.8
    return images, gamma, groups


def test_a_grouping_stands_beside_its_image_truth_and_predictions():
    images, gamma, groups = grouped()
    figure = plot.grouping_grid(images, gamma, gamma * images[:, None], groups=groups, row_labels=["a", "b"])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "image", "truth", r"$\gamma$", r"$\psi_{1}$", r"$\psi_{2}$", r"$\psi_{3}$"]
    ink, dark, light = (picture.get_array() for picture in axes.images)
    for page, which in ((dark, 1), (light, 0)):
        assert page.shape[:2] == ink.shape[:2]
        truth, shown = page[:6, 7:13], page[:6, 14:20]
        assert np.allclose(shown[..., 3], images[0]), "γ is coloured where the image is on"
        assert np.allclose(truth[..., 3], groups[0] > 0), "the truth has no colour in an overlap"
        assert np.allclose(truth[1, 0, :3], page_colour(plot.SLOTS[2], which), atol=1e-3), "that of its slot"
        assert np.allclose(truth[4, 1, :3], page_colour(plot.SLOTS[0], which), atol=1e-3)
        mixed = plot.slot_colours(gamma, page=("light", "dark")[which])[0, 1, 0]
        assert np.allclose(shown[1, 0, :3], mixed, atol=1e-3)
    assert np.allclose(ink[4, 7, 3], 0.5) and np.allclose(ink[:6, :6, 3], images[0])
    assert np.allclose(ink[:6, 21:27, 3], 0.8 * (images[0] > 0) * (torch.arange(6) >= 3)[:, None]
                       + 0.1 * (images[0] > 0) * (torch.arange(6) < 3)[:, None])


def test_coloured_pictures_change_with_the_page_and_the_rest_stays_ink():
    images, gamma, _ = grouped()
    text = saved(plot.grouping_grid(images, gamma))
    sheet = re.search(r"<style>(.*?)</style>", text)[1]
    always, dark = sheet.split("@media (prefers-color-scheme:dark)")
    assert 'id="dark-page-image' in text and 'id="light-page-image' in text
    assert '[id^="dark-page-image"]{display:none}' in always and "light-page" not in always
    assert '[id^="light-page-image"]{display:none}' in dark
    assert '[id^="dark-page-image"]{display:inline}' in dark
    assert "page-image" not in saved(plot.image_grid(images)), "other figures hold no rule for it"


def test_pixels_that_are_off_are_coloured_on_demand():
    images, gamma, _ = grouped(1)
    light = plot.grouping_grid(images, gamma, show_off=True).axes[0].images[2].get_array()
    assert (light[:6, 7:13, 3] == 1).all()


def test_an_image_without_groups_has_an_empty_truth():
    images, gamma, groups = grouped(1)
    figure = plot.grouping_grid(images, gamma, groups=torch.zeros_like(groups))
    assert not figure.axes[0].images[2].get_array()[:6, 7:13, 3].any()


@pytest.mark.parametrize(("change", "words"), [
    (lambda images, gamma, groups: (images[0], gamma), "(6, 6)"),
    (lambda images, gamma, groups: (images, gamma[:1]), "(1, 3, 6, 6)"),
    (lambda images, gamma, groups: (images, gamma, gamma[:, :2]), "(2, 2, 6, 6)"),
    (lambda images, gamma, groups: (images, gamma, None, groups[:1]), "(1, 6, 6)"),
])
def test_shapes_that_do_not_belong_together_are_refused_in_a_sentence(change, words):
    images, gamma, psi, groups = (*change(*grouped()), None, None)[:4]
    with pytest.raises(ValueError, match=re.escape(words)):
        plot.grouping_grid(images, gamma, psi, groups=groups)


# --- chains -------------------------------------------------------------------------------------------------


def test_the_running_mean_is_the_mean_of_what_came_so_far():
    draws = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    means = plot.running_mean(draws)
    for t in (0, 1, 17, 49):
        torch.testing.assert_close(means[t], draws[:t + 1].mean(0), rtol=0, atol=1e-12)


def test_the_running_mean_of_coin_flips_is_a_fraction():
    assert plot.running_mean(torch.tensor([True, False, True, True])).tolist() == [1.0, 0.5, 2 / 3, 0.75]


def test_running_means_stand_beside_the_exact_value_and_its_band():
    figure, axes = plt.subplots()
    plot.plot_running_means(axes, torch.randn(100, 4, generator=torch.Generator().manual_seed(2)), exact=0.5,
                            standard_deviation=2.0)
    assert len(axes.lines) == 5 and set(axes.lines[-1].get_ydata()) == {0.5}
    corners = axes.collections[0].get_paths()[0].vertices
    at_100 = corners[np.isclose(corners[:, 0], 100), 1]
    assert np.isclose(at_100.min(), 0.1) and np.isclose(at_100.max(), 0.9)       # 0.5 ± 2 · 2/√100


@pytest.mark.parametrize("draws, options, words", [
    (torch.zeros(2, 2, 2), {}, "shape"), (torch.zeros(5), {"standard_deviation": 1.0}, "exact"),
])
def test_what_is_no_chain_is_refused_in_a_sentence(draws, options, words):
    with pytest.raises(ValueError, match=words):
        plot.plot_running_means(plt.subplots()[1], draws, **options)
