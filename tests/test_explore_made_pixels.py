"""Chapter 6's digit, drawn pixel by pixel: what Python packs, what JavaScript computes, what a reader sees."""

import json
import math
import os
import re
import shutil
import subprocess
import urllib.parse
from functools import cache
from html.parser import HTMLParser
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from nemlib.explore import made as explore
from nemlib.explore import page
from nemlib.explore.figure import LARGEST
from nemlib.made import MADE, Categorical
from nemlib.plot import PALETTE

ROOT = Path(__file__).resolve().parent.parent
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
HEIGHT, WIDTH = 9, 7            # not square: swapped axes are seen
PIXELS = HEIGHT * WIDTH
NAMES = ["a cross", "a corner"]
MEAN = -31.4


@cache
def chrome() -> str | None:
    spec = spec_from_file_location("install", ROOT / "tools" / "install.py")
    install = module_from_spec(spec)
    spec.loader.exec_module(install)
    return install.find_browser()


def node(script: str, *arguments: str, stdin: str | None = None) -> str:
    ran = subprocess.run([NODE, ROOT / "tests" / script, *arguments], input=stdin, capture_output=True,
                         text=True, timeout=400, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def golden(calls: list, mutant: dict | None = None) -> list:
    return json.loads(node("js/made_pixels_golden.mjs", stdin=json.dumps({"calls": calls, "mutant": mutant})))


def network(direct: bool = False, seed: int = 0, *, pixels: int = PIXELS, width: int = 40, **changes) -> MADE:
    """Weights of every size, rows of unlike strength; degrees in no order."""
    generator = torch.Generator().manual_seed(seed)
    made = MADE(pixels, [width], generator, degrees="uniform", seeds=(seed,), direct=direct, **changes)
    with torch.no_grad():
        for parameter in made.parameters():
            strength = 0.2 + torch.rand(len(parameter), generator=generator)
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.4 * strength[:, None] * drawn if drawn.dim() == 2 else strength * drawn)
    return made


@cache
def made() -> MADE:
    return network(direct=True)


@cache
def digits() -> Tensor:
    """A cross and a corner, (2, HEIGHT, WIDTH)."""
    cross, corner = torch.zeros(2, HEIGHT, WIDTH)
    cross[4], cross[:, 3] = 1, 1
    corner[:, 1], corner[7] = 1, 1
    return torch.stack([cross, corner])


def figure(**changes) -> explore.Figure:
    usual = {"made": made(), "digits": digits(), "names": NAMES, "average": MEAN}
    return explore.pixel_by_pixel(**{**usual, **changes})


# ---- what Python packs ------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Collects ids, images and scripts, as a browser would read them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids, self.images, self.scripts, self.inside = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.images += [attributes] if tag == "img" else []
        self.inside = tag == "script"
        self.scripts += [""] if self.inside else []

    def handle_data(self, text):
        if self.inside:
            self.scripts[-1] += text


@pytest.fixture(scope="module")
def text() -> str:
    return figure()._repr_html_()


def test_a_rebuilt_figure_is_the_same_figure(text):
    assert figure()._repr_html_() == text and figure(seed=2)._repr_html_() != text


def test_the_figure_asks_for_nothing(text):
    names_of_spaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?:[^\s'\"\\]*", text)) <= names_of_spaces
    assert not re.search(r"\b(import|require)\s*\(|<link|src=\"(?!data:)", text)


def test_only_live_weights_travel_so_that_500_units_fit_into_the_page():
    wide = network(pixels=784, width=500)
    pictures = torch.zeros(8, 28, 28)
    size = len(explore.pixel_by_pixel(wide, pictures)._repr_html_().encode())
    assert LARGEST < size < explore.LARGEST_WITH_WEIGHTS
    live = sum(int(mask.sum()) for mask in wide.connectivity.masks())
    assert live * 4 / 3 < size < live * 4 / 3 + LARGEST + 20_000
    assert live < 0.52 * sum(mask.numel() for mask in wide.connectivity.masks())


@needs_node
def test_the_embedded_script_is_whole(text):
    script, = Reader(text).scripts
    ran = subprocess.run([NODE, "--check", "-"], input=script, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_ids_come_from_the_name_and_the_copy(text):
    assert Reader(text).ids == ["nx-made-pixels-1"]
    assert Reader(figure(copy=2)._repr_html_()).ids == ["nx-made-pixels-2"]


def test_the_still_picture_says_what_its_pictures_cost(text):
    image, = Reader(text).images
    assert len(image["alt"]) > 80 and image["src"].startswith("data:image/svg+xml,")
    drawn = urllib.parse.unquote(image["src"])
    digit = -explore.page_made(made()).log_prob(digits()[:1].flatten(1).double()).item()
    assert f"{digit:.1f} nats" in drawn and "(the digit)" in drawn
    assert len(re.findall(r">\d+\.\d nats", drawn)) == 4


def test_a_terminal_shows_words():
    assert "the nats of all pixels add up" in repr(figure())


def test_the_colours_are_the_books():
    assert {tuple(pair) for pair in figure().data["palette"].values()} <= set(PALETTE.values())
    sources = [path.read_text() for path in (ROOT / "nemlib" / "explore").glob("made_pixels*.*s")]
    assert len(sources) == 3
    assert not [found for source in sources for found in re.findall(r"#[0-9a-fA-F]{3,8}\b|rgb\(\d", source)]


def test_square_images_may_come_flat():
    small, square = network(pixels=16), torch.eye(4).expand(2, 4, 4)
    flat = figure(made=small, digits=square.flatten(1))
    assert flat._repr_html_() == figure(made=small, digits=square)._repr_html_()


@pytest.mark.parametrize("changes, words", [
    ({"made": network(law=Categorical(3))}, "draws bits by a MADE with one hidden layer"),
    ({"made": MADE(PIXELS, [9, 9], torch.Generator())}, r"hidden layers of \(9, 9\)"),
    ({"made": MADE(PIXELS, [9], torch.Generator(), labels=10)}, "and 10 labels came"),
    ({"made": network(order="random")}, "wears another ordering"),
    ({"made": network(activation=torch.tanh)}, "has another activation"),
    ({"made": MADE(784, [650], torch.Generator()), "digits": torch.zeros(2, 28, 28)},
     f"live weights, and the page holds at most {explore.MOST_LIVE}"),
    ({"digits": digits()[:, :, :5]}, r"Images of 9 × 5 have 45 pixels, and the MADE has 63"),
    ({"digits": torch.zeros(9, HEIGHT, WIDTH)}, "n from 1 to 8"),
    ({"digits": digits() / 2}, "binarize them first"),
    ({"digits": digits() * math.nan}, "NaN"),
    ({"names": ["one"]}, "2 digits and 1 names"),
    ({"rows": 10}, "from 0 to 9"),
    ({"average": 31.25}, "is below 0"),
    ({"average": math.nan}, "is below 0"),
])
def test_what_the_page_cannot_show_is_refused_in_a_sentence(changes, words):
    with pytest.raises(ValueError, match=words):
        figure(**changes)


def test_a_network_with_nan_is_refused():
    broken = network()
    with torch.no_grad():
        broken.output.bias[3] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        figure(made=broken)


@pytest.mark.parametrize("direct", [False, True])
def test_the_pages_live_weights_are_within_half_a_level_of_the_trained_ones(direct):
    own = network(direct)
    rounded = explore.page_made(own)
    layers = [(rounded.hidden[0], own.hidden[0]), (rounded.output, own.output)]
    for mine, other in layers + ([(rounded.skip, own.skip)] if direct else []):
        live = other.masked()
        half_level = live.abs().amax(1, keepdim=True) / 254
        difference = (mine.masked() - live).abs()
        assert (difference <= half_level * (1 + 1e-5)).all() and difference.max() > 0
    for mine, other in layers:
        assert torch.allclose(mine.bias.float(), other.bias, rtol=1e-3, atol=1e-7)
    assert own.output.weight.dtype == torch.float32 and rounded.output.weight.dtype == torch.float64
    assert not rounded.training


def rounding_of_log_prob(levels: int) -> float:
    """The largest change of log p(x), nats, with the page's weights rounded to so many levels on each side."""
    x = torch.bernoulli(torch.full((200, PIXELS), 0.3), generator=torch.Generator().manual_seed(1)).double()
    own, rounded = network(True).double(), explore.page_made(network(True))
    for layer in (rounded.hidden[0], rounded.output, rounded.skip):
        scale = layer.masked().abs().amax(1, keepdim=True).clamp(min=1e-12) / levels
        layer.weight.copy_((layer.masked() / scale).round() * scale)
    with torch.no_grad():
        return (own.log_prob(x) - rounded.log_prob(x)).abs().max().item()


def test_log_p_of_the_page_is_that_of_the_trained_network_but_for_the_rounding():
    assert rounding_of_log_prob(127) < 0.3
    assert rounding_of_log_prob(7) > 1      # 4 bits a weight would not do


# ---- JavaScript against Python -----------------------------------------------------------------------------


def largest_difference(got, wanted) -> float:
    if isinstance(wanted, dict):
        return max(largest_difference(got[key], wanted[key]) for key in wanted)
    if isinstance(wanted, (list, tuple)):
        assert len(got) == len(wanted)
        return max(map(largest_difference, got, wanted), default=0.0)
    return math.inf if got is None else abs(got - wanted) / max(1.0, abs(wanted))


def disagreement(vectors: list, mutant: dict | None = None) -> float:
    results = golden([call for call, _ in vectors], mutant)
    return max(largest_difference(got, wanted) for got, (_, wanted) in zip(results, vectors))


def finished(made: MADE, x: list[int], forced: list[int], uniforms: list[float], temperature: float) -> dict:
    """The rest of an image, by one whole pass for every pixel."""
    image = torch.zeros(1, made.dimensions, dtype=torch.float64)
    image[0, :len(x)] = torch.tensor(x)
    chance = []
    with torch.no_grad():
        for d in range(len(x), made.dimensions):
            a = made.logits(image)[0, d].item()
            p = 1 / (1 + math.exp(-a / temperature)) if temperature else float(a > 0)
            value = forced[d] if forced[d] >= 0 else int(uniforms[d] < p)
            chance.append(float(value) if forced[d] >= 0 else p)
            image[0, d] = value
        nats = -made.log_conditionals(image)[0]
    return {"x": image[0, len(x):].tolist(), "nats": nats[len(x):].tolist(), "chance": chance}


def vectors_of(made: MADE) -> list[tuple[list, object]]:
    """Pairs of a call of the figure's JavaScript and what Python says, by whole passes."""
    generator = torch.Generator().manual_seed(5)
    pixels, packed, rounded = made.dimensions, explore._packed(made), explore.page_made(made)
    x = torch.bernoulli(torch.full((3, pixels), 0.4), generator=generator).double()
    uniforms = torch.rand(3, pixels, generator=generator, dtype=torch.float64).tolist()
    forced = torch.randint(-3, 2, (pixels,), generator=generator).clamp(min=-1).tolist()
    first = x[0].int().tolist()
    start = first[:pixels // 2]
    zeros = torch.zeros(1, pixels, dtype=torch.float64)
    zeros[0, :len(start)] = torch.tensor(start)
    with torch.no_grad():
        vectors = [
            (["costs", [packed, x.int().tolist()]], (-rounded.log_conditionals(x)).tolist()),
            (["logits", [packed, first]], rounded.logits(x[:1])[0].tolist()),
            (["ahead", [packed, start]], rounded.logits(zeros)[0, len(start):].tolist()),
        ]
    free = [-1] * pixels
    for temperature in (1, 0.4, 0):
        for these in (free, forced):
            how = {"forced": these, "uniforms": uniforms[0], "temperature": temperature}
            wanted = finished(rounded, start, these, uniforms[0], temperature)
            vectors.append((["finish", [packed, start, how]], wanted))
    ways = [finished(rounded, start, forced, one, 1)["chance"] for one in uniforms]
    how = {"forced": forced, "uniforms": sum(uniforms, []), "temperature": 1}
    vectors.append((["expected", [packed, start, how, 3]], np.mean(ways, 0).tolist()))
    vectors.append((["work", [packed, first, pixels]], work(made, x[0])))
    return vectors


def work(made: MADE, x: Tensor) -> dict:
    """Columns of ones and rows of all, counted in the masks; a direct row counts where a 1 stands before."""
    inner, outer = made.connectivity.masks()
    direct = made.connectivity.direct() if made.skip is not None else torch.zeros(len(x), len(x))
    taken = inner.sum(0)[x == 1].sum() + outer.sum() + direct[:, x == 1].sum()
    return {"taken": float(taken), "whole": float(len(x) * (inner.sum() + outer.sum() + direct.sum()))}


@pytest.fixture(scope="module")
def vectors() -> list:
    networks = network(True, seed=1), network(False, seed=2), network(width=1)
    return [pair for one in networks for pair in vectors_of(one)]


@needs_node
def test_pixel_after_pixel_the_page_computes_what_whole_passes_of_nemlib_give(vectors):
    assert disagreement(vectors) < 1e-9


@needs_node
@pytest.mark.parametrize("change, to", [
    ("value * scales[r]", "value * scales[0]"),
    ("m <= t", "m < t"),
    ("rows.slice(reach[t])", "rows.slice(0, rows.length - reach[t])"),
    ("packed.A && stairs", "null && stairs"),
    ("input: Float64Array.from(model.b)", "input: new Float64Array(model.units)"),
    ("let a = model.c[t];", "let a = 0;"),
    ("if (state.input[j] > 0) a +=", "a +="),
    ("a += model.A[t][i]", "a -= model.A[t][i]"),
    ("first = model.reach[t]", "first = 0"),
    ("input[first + j] += column[j]", "input[first + j] = column[j]"),
    ("state.on.push(t)", "state.on.push(0)"),
    ("state.t + k)", "state.t)"),
    ("softplus(value ? -a : a)", "softplus(value ? a : -a)"),
    ("if (forced >= 0) return forced;", ""),
    ("sigmoid(a / temperature) : a > 0", "sigmoid(a) : a > 0"),
    ("uniforms[t], temperature)", "uniforms[0], temperature)"),
    ("forced[t] >= 0 ? forced[t] : temperature > 0 ?", "temperature > 0 ?"),
    ("p / count", "p"),
    ("x[s] ? W[s].length : 0", "W[s].length"),
    ("whole: whole * t", "whole"),
])
def test_a_wrong_line_is_noticed(vectors, change, to):
    wrong = {"file": "made_pixels_maths.js", "from": change, "to": to}
    assert disagreement(vectors, wrong) > 1e-6


@needs_node
def test_the_page_unpacks_the_test_digits():
    data = figure().data
    call = ["images", [data["digits"], 2, PIXELS]]
    assert golden([call]) == [digits().flatten(1).int().tolist()]
    assert golden([call], {"file": "made_pixels_maths.js", "from": "7 - (at & 7)", "to": "at & 7"}) != \
        [digits().flatten(1).int().tolist()]


# ---- a reader in a browser --------------------------------------------------------------------------------


def write_pages(folder: Path) -> None:
    template = f"<template>{figure()._repr_html_()}</template></body>"
    pages = {"pixels": page(figure()), "host": page().replace("</body>", template)}
    for name, html in pages.items():
        (folder / f"{name}.html").write_text(html, encoding="utf-8")


class Records(dict):
    """The scenarios' records; one that broke off fails the tests that ask for it."""

    def __getitem__(self, name: str) -> dict:
        record = super().__getitem__(name)
        assert "error" not in record, record["error"]
        return record


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> Records:
    """What a reader saw, scenario by scenario. SHOTS=folder keeps screenshots."""
    if not (NODE and chrome() and (ROOT / "node_modules" / "puppeteer-core").is_dir()):
        pytest.skip("a browser, Node.js and node_modules are needed: `make test` installs them")
    folder = tmp_path_factory.mktemp("pages")
    write_pages(folder)
    shots = [os.environ["SHOTS"]] if os.environ.get("SHOTS") else []
    return Records(json.loads(node("browser/explore_made_pixels.mjs", chrome(), str(folder), *shots)))


def colour(name: str) -> list[int]:
    return [int(PALETTE[name][0][at:at + 2], 16) for at in (1, 3, 5)]


def pixels(record: dict, *, of: str = "canvas") -> np.ndarray:
    """What stands in each pixel: 1 or 0 as drawn by the model, 11 or 10 as given or set, -1 to come."""
    shades = {1: colour("blue"), 11: colour("ink"), 10: colour("paper"),
              0: [round(p + 0.1 * (b - p)) for p, b in zip(colour("paper"), colour("blue"))]}
    found = np.full(PIXELS, -1)
    for value, shade in shades.items():
        found[np.abs(np.array(record[of]) - shade).max(1) <= 1] = value
    return found


@cache
def uniforms(seed: int) -> list[float]:
    return golden([["uniforms", [seed, PIXELS]]])[0]


def predicted(
    given: list[int], forced: list[int] | None = None, *, seed: int = 1, temperature: float = 1
) -> list[int]:
    """The whole image that the page should draw."""
    rest = finished(explore.page_made(made()), given, forced or [-1] * PIXELS, uniforms(seed), temperature)
    return given + [int(value) for value in rest["x"]]


def nats(x: list[int]) -> np.ndarray:
    """Of every pixel of a whole image."""
    return -explore.page_made(made()).log_conditionals(torch.tensor([x]).double())[0].numpy()


def assert_drawn(record: dict, x: list[int], upto: int, given: int = 0) -> None:
    """The first `upto` pixels of x stand in the picture, and their nats are counted."""
    wanted = [value + 10 * (i < given) if i < upto else -1 for i, value in enumerate(x)]
    assert pixels(record).tolist() == wanted
    assert record["So far"] == f"{nats(x)[:upto].sum():.2f} nats"
    assert f"{upto} of {PIXELS} pixels" in record["remarks"]["So far"]


CROSS, CORNER = digits().flatten(1).int().tolist()


@pytest.mark.browser
def test_the_model_draws_pixel_by_pixel_what_python_predicts(seen):
    record, x = seen["draw"], predicted([])
    assert_drawn(record["start"], x, 0)
    assert record["start"]["words"].startswith("Nothing is given.")
    assert_drawn(record["pixel"], x, 1)
    hat = math.exp(-nats([1, *x[1:]])[0])
    assert f"becomes {x[0]}: x̂ = {hat:.3f}" in record["pixel"]["words"]
    assert record["pixel"]["said"] == record["pixel"]["words"]
    assert_drawn(record["row"], x, WIDTH)
    assert_drawn(record["more"], x, 2 * WIDTH)
    dearest = int(nats(x)[WIDTH:2 * WIDTH].argmax()) + WIDTH
    assert f"row 2, column {dearest - WIDTH + 1}, {nats(x)[dearest]:.2f} nats" in record["more"]["words"]
    assert_drawn(record["whole"], x, PIXELS)
    assert float(record["whole"]["log p(x) of this picture"]) == pytest.approx(-nats(x).sum(), abs=0.0051)
    assert f"{nats(x).sum() / math.log(2):.1f} bits" in record["whole"]["remarks"]["So far"]
    assert "no Z and no bound" in record["whole"]["words"] and record["start"]["log p(x) of this picture"] == "—"
    assert record["disabled"] == ["Pixel", "Row", "Whole digit", "Six ways to go on"]


@pytest.mark.browser
def test_the_next_pixel_says_its_conditional_and_what_either_value_costs(seen):
    record, x = seen["draw"], predicted([])
    one, zero = (nats([*x[:WIDTH], value, *x[WIDTH + 1:]])[WIDTH] for value in (1, 0))
    words = record["row"]["next"]
    assert words.startswith("Row 2, column 1: x̂ = p(1 | all before) ")
    assert f"{math.exp(-one):.3f}. A 1 would cost {one:.2f}, a 0 {zero:.2f} nats" in words
    assert f"u = {uniforms(1)[WIDTH]:.3f}" in words
    assert record["row"]["bar"] == pytest.approx([math.exp(-one), uniforms(1)[WIDTH]], abs=1e-4)


@pytest.mark.browser
def test_the_curves_climb_to_log_p_of_the_picture_and_of_the_test_digit(seen):
    record, x = seen["draw"]["whole"], predicted([])
    assert record["sum"][0] == pytest.approx(record["beside"][0])
    for curve, image in ((record["sum"], x), (record["beside"], CROSS)):
        heights = np.array(curve)[:, 1]
        steps = (heights[0] - heights) / (heights[0] - heights[-1])
        assert steps == pytest.approx(np.append(0, nats(image).cumsum()) / nats(image).sum(), abs=2e-3)
    rise = [curve[0][1] - curve[-1][1] for curve in (record["sum"], record["beside"])]
    assert rise[0] / rise[1] == pytest.approx(nats(x).sum() / nats(CROSS).sum(), rel=5e-3)
    assert float(record["log p of the test digit"]) == pytest.approx(-nats(CROSS).sum(), abs=0.0051)
    assert "mean is −31.4" in record["remarks"]["log p of the test digit"]


@pytest.mark.browser
def test_another_seed_is_another_digit_and_starting_over_the_same(seen):
    record = seen["draw"]
    assert pixels(record["again"]).tolist() == predicted([])
    assert pixels(record["reseeded"]).tolist() == predicted([], seed=2) != predicted([])
    assert record["newSeed"].startswith("Seed 2: another u for every pixel.")
    assert pixels(record["cold"]).tolist() == predicted([], seed=2, temperature=0)
    assert "it is no draw from p" in record["cold"]["words"]
    assert float(record["cold"]["log p(x) of this picture"]) == pytest.approx(
        -nats(predicted([], seed=2, temperature=0)).sum(), abs=0.0051)


@pytest.mark.browser
def test_the_work_of_the_page_is_a_row_and_a_column_a_pixel(seen):
    wanted = work(made(), torch.tensor(predicted([])))
    record = seen["draw"]["whole"]
    assert int(record["Work"].replace(" ", "")) == wanted["taken"]
    assert f"{wanted['whole']:,.0f}" in record["remarks"]["Work"].replace(" ", ",")


@pytest.mark.browser
def test_the_upper_half_of_a_test_digit_is_given_and_completed(seen):
    record, given = seen["given"], HEIGHT // 2 * WIDTH
    assert_drawn(record["start"], CORNER, given, given)
    assert "The first 4 rows of a corner cost" in record["start"]["words"]
    x = predicted(CORNER[:given])
    assert_drawn(record["whole"], x, PIXELS, given)
    assert float(record["start"]["log p of the test digit"]) == pytest.approx(-nats(CORNER).sum(), abs=0.0051)
    assert_drawn(record["slid"], CORNER, (HEIGHT // 2 + 1) * WIDTH, (HEIGHT // 2 + 1) * WIDTH)
    assert record["pressed"] == [False, False, True]
    assert pixels(record["all"]).tolist() == [10 + value for value in CORNER]
    assert record["all"]["words"].startswith("All rows of a corner are given.")


@pytest.mark.browser
def test_six_ways_to_go_on_cost_what_python_says_and_stand_beside_the_digit(seen):
    record, given = seen["given"]["ways"], HEIGHT // 2 * WIDTH
    assert len(record["ways"]) == 7
    images = []
    for one, caption in zip(record["ways"], record["captions"]):
        found = pixels({"canvas": one})
        images.append((found % 10).tolist())
        assert float(caption.split()[0]) == pytest.approx(nats(images[-1]).sum(), abs=0.051)
        assert images[-1][:given] == CORNER[:given] and (found[:given] >= 10).all()
    assert images[6] == CORNER and record["captions"][6].endswith("test digit")
    assert len({tuple(one) for one in images[:6]}) == 6
    assert "Six ways to go on from row 5, column 1" in record["words"]


@pytest.mark.browser
def test_what_is_to_come_is_shown_pale_and_named(seen):
    record, given = seen["given"], HEIGHT // 2 * WIDTH
    paper, muted = (np.array(colour(name)) for name in ("paper", "muted"))

    def pale(values: np.ndarray) -> np.ndarray:
        return (paper + (0.16 + 0.62 * values)[:, None] * (muted - paper)).round()

    behind = torch.zeros(1, PIXELS, dtype=torch.float64)
    behind[0, :given] = torch.tensor(CORNER[:given])
    with torch.no_grad():
        zeros = explore.page_made(made()).logits(behind)[0].sigmoid().numpy()[given:]
    shown = {name: np.array(record[name]["canvas"])[given:] for name in ("zeros", "nothing", "start")}
    assert np.abs(shown["zeros"] - pale(zeros)).max() <= 1
    assert np.abs(shown["nothing"] - pale(np.zeros(PIXELS - given))).max() <= 1
    packed, numbers = explore._packed(made()), golden([["uniforms", [3, 32 * PIXELS]]])[0]
    how = {"forced": [-1] * PIXELS, "uniforms": numbers, "temperature": 1}
    mean, = golden([["expected", [packed, CORNER[:given], how, 32]]])
    assert np.abs(shown["start"] - pale(np.array(mean))).max() <= 1
    assert record["choices"] == ["mean of 32 completions", "outputs if all between were 0", "nothing"]


@pytest.mark.browser
def test_what_each_pixel_cost_is_a_map(seen):
    paper, hot = (np.array(colour(name)) for name in ("paper", "vermilion"))
    x = predicted(CORNER[:HEIGHT // 2 * WIDTH])
    share = np.minimum(nats(x) / 3, 1)[:, None]
    assert np.abs(np.array(seen["given"]["nats"]["canvas"]) - (paper + share * (hot - paper)).round()).max() <= 1


@pytest.mark.browser
def test_a_pixel_set_by_hand_costs_what_the_model_says(seen):
    record = seen["hand"]
    x = [1, *predicted([])[1:]]
    assert record["first"]["words"].startswith(f"1 pixel set, for {nats(x)[0]:.2f} nats, where x̂ ")
    assert pixels(record["first"])[0] == 11 and record["first"]["So far"] == f"{nats(x)[0]:.2f} nats"
    waiting = WIDTH * 2 + 3
    forced = [-1] * PIXELS
    forced[0], forced[waiting] = 1, 0
    assert record["later"]["words"].startswith("1 pixel is set before its turn: the pixels between")
    y = predicted([1], forced)
    assert y[waiting] == 0
    drawn = pixels(record["reached"])
    assert (drawn[:4 * WIDTH] % 10).tolist() == y[:4 * WIDTH] and drawn[waiting] == 10
    assert record["reached"]["So far"] == f"{nats(y)[:4 * WIDTH].sum():.2f} nats"


@pytest.mark.browser
def test_a_pixel_that_is_there_is_changed_and_the_pixels_after_it_are_counted_anew(seen):
    record = seen["hand"]
    before = (pixels(record["reached"]) % 10).tolist()[:4 * WIDTH] + [0] * (PIXELS - 4 * WIDTH)
    at = WIDTH + 2
    after = list(before)
    after[at] = 1 - before[at]
    change = (nats(after) - nats(before))[:4 * WIDTH]
    drawn = pixels(record["flipped"])
    assert drawn[at] == 10 + after[at] and record["flippedTool"] == ["Ink", "Paper"][before[at]]

    def signed(value: float) -> str:
        return f"{value:+.2f}".replace("-", "−") + " nats"

    assert record["flipped"]["words"].startswith(
        f"1 pixel changed: {signed(change[at])} for itself, and {signed(change.sum() - change[at])} for the pixels")
    assert record["flipped"]["So far"] == f"{nats(after)[:4 * WIDTH].sum():.2f} nats"
    assert record["flipped"]["said"] == record["flipped"]["words"]


@pytest.mark.browser
def test_a_freed_pixel_takes_the_picture_back_to_it_and_a_stroke_is_two_pixels_wide(seen):
    record = seen["hand"]
    drawn = pixels(record["freed"])
    assert (drawn[:WIDTH + 2] >= 0).all() and drawn[2 * WIDTH + 3] == 10 and (drawn >= 0).sum() == WIDTH + 3
    assert record["freed"]["words"].startswith("The picture is taken back to row 2, column 3.")
    assert record["reading"].startswith("Row 2, column 4: to come")
    stroke = np.flatnonzero(np.array(record["stroked"]["set"]))
    assert [divmod(int(i), WIDTH) for i in stroke] == [(r, c) for r in (6, 7) for c in (1, 2, 3, 4, 5)]


@pytest.mark.browser
def test_it_plays_pauses_and_plays_to_the_end(seen):
    record = seen["motion"]
    assert record["moves"] and record["stays"] and record["ends"] and record["said"]
    assert record["end"]["words"].startswith("The picture is complete.")
    assert pixels(record["end"]).tolist() == predicted([])


@pytest.mark.browser
def test_on_a_phone_everything_fits_and_answers_the_finger(seen):
    phone = seen["phone"]
    assert phone["width"] <= 360 and phone["theme"] == "dark" and phone["small"] == 0
    assert phone["tapped"] and phone["inside"]


@pytest.mark.browser
def test_colours_follow_light_and_dark_and_paper_shows_the_still_picture(seen):
    looks = seen["looks"]
    assert all(light != dark for light, dark in zip(looks["light"], looks["dark"]))
    assert looks["print"] == [False, True] and looks["ids"] == []


@pytest.mark.browser
def test_nothing_stands_in_the_way_of_a_screen_reader(seen):
    assert seen["looks"]["violations"] == seen["looks"]["violationsDark"] == seen["phone"]["violations"] == []
    assert max(map(len, seen["looks"]["said"])) < 260


@pytest.mark.browser
def test_no_scenario_met_an_error_or_asked_the_network(seen):
    assert {name: record["troubles"] for name, record in seen.items() if record["troubles"]} == {}


@pytest.mark.browser
def test_the_figure_works_where_html_is_inserted(seen):
    assert seen["host"]["live"] == 1 and seen["host"]["words"].startswith("The picture is complete.")
