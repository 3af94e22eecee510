"""The interactive figures: what Python packs, what JavaScript computes, what a reader sees in a browser."""

import base64
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from functools import cache
from html.parser import HTMLParser
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from scipy import stats

from nemlib import gibbs as model
from nemlib.explore import Figure, gibbs, pack, page, picture, predict
from nemlib.explore.prediction import plain, typeset

ROOT = Path(__file__).resolve().parent.parent
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
QUESTION = predict(
    "With $r = 0.99$ on a Gaussian, what is one draw of $x_1$ worth, \"in sweeps\" & all?",
    [("about 2", "It moves only < 1 a sweep."), ("about 10", "That is $\\tau$ for $r = 0.9$."),
     ("about 100", "$\\tau = \\frac{1 + r^2}{1 - r^2}$ is 99.5.")], answer=2, name="worth")
SMALL = {"name": "small", "title": "Small", "scripts": ("random.js",), "still": "<p>still</p>"}


@cache
def chrome() -> str | None:
    spec = spec_from_file_location("install", ROOT / "tools" / "install.py")
    install = module_from_spec(spec)
    spec.loader.exec_module(install)
    return install.find_browser()


def node(script: str, *arguments: str, stdin: str | None = None, timeout: float = 110) -> str:
    ran = subprocess.run([NODE, ROOT / "tests" / script, *arguments], input=stdin, capture_output=True,
                         text=True, timeout=timeout, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


# ---- what Python packs ------------------------------------------------------------------------------------


def unpacked(packed: dict) -> np.ndarray:
    types = {"float32": "<f4", "float16": "<f2", "int8": "<i1"}
    flat = np.frombuffer(base64.b64decode(packed["base64"]), types[packed["kind"]])
    return flat.reshape(packed["shape"]) * (packed["scale"] if packed["kind"] == "int8" else 1)


@pytest.mark.parametrize("kind, error", [("float32", 1e-6), ("float16", 1e-2), ("int8", 20 / 254 + 1e-6)])
def test_packed_numbers_come_back_in_python_and_in_javascript(kind, error):
    values = np.random.default_rng(0).uniform(-20, 20, (3, 5))
    values[0, 0], values[0, 1] = 0, 6e-6   # float16 keeps the second as a subnormal number
    packed = pack(values, kind)
    assert np.abs(unpacked(packed) - values).max() <= error
    if NODE:
        back = golden(["runtime.js"], [["unpack", [packed]]])[0]
        assert back["shape"] == [3, 5]
        assert np.abs(np.reshape(back["values"], (3, 5)) - unpacked(packed)).max() <= 1e-6


def test_empty_and_zero_arrays_can_be_packed():
    assert pack(np.zeros((0, 4)))["base64"] == ""
    assert not unpacked(pack(np.zeros(3), "int8")).any()


@pytest.mark.parametrize("values, kind, words", [
    ([1.0, math.nan], "float32", "NaN"), ([math.inf], "int8", "infinity"), ([1e6], "float16", "too large"),
    ([1.0], "float64", "'float16'")])
def test_what_cannot_be_packed_is_refused_in_a_sentence(values, kind, words):
    with pytest.raises(ValueError, match=words):
        pack(values, kind)


# ---- the HTML ---------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Collects ids, image texts and scripts, as a browser would read them."""

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

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "script"

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] += data


def figures() -> list[Figure]:
    return [gibbs.gibbs_chain(), gibbs.inverse_transform(), QUESTION]


def test_a_rebuilt_figure_is_the_same_figure():
    first = [figure._repr_html_() for figure in figures()]
    gibbs._still_chain.cache_clear()
    gibbs._still_inverse.cache_clear()
    assert [figure._repr_html_() for figure in figures()] == first


@pytest.mark.parametrize("figure", figures(), ids=lambda figure: figure.name)
def test_a_figure_is_small_and_asks_for_nothing(figure):
    text = figure._repr_html_()
    assert len(text.encode()) < 60_000
    names_of_spaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?:[^\s'\"\\]*", text)) <= names_of_spaces
    assert not re.search(r"\b(import|require)\s*\(|<link|src=\"(?!data:)", text)


@needs_node
@pytest.mark.parametrize("figure", figures(), ids=lambda figure: figure.name)
def test_the_embedded_script_is_whole(figure):
    reader = Reader(figure._repr_html_())
    assert len(reader.scripts) == 1
    ran = subprocess.run([NODE, "--check", "-"], input=reader.scripts[0], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_ids_come_from_the_name_and_the_copy():
    assert Reader(gibbs.gibbs_chain()._repr_html_()).ids == ["nx-gibbs-chain-1"]
    assert Reader(gibbs.gibbs_chain(copy=2)._repr_html_()).ids == ["nx-gibbs-chain-2"]


def test_data_and_titles_cannot_break_out_of_their_place():
    evil = "</script><img src=x onerror=alert(1)>\"'&\u2028"
    figure = Figure(**{**SMALL, "title": evil}, data={"words": evil})
    reader = Reader(figure._repr_html_())
    assert reader.images == [] and len(reader.scripts) == 1
    assert "\\u003c/script\\u003e" in reader.scripts[0]


@pytest.mark.parametrize("change, words", [
    ({"name": "Two Words"}, "joined by hyphens"), ({"copy": 0}, "first copy"),
    ({"scripts": ("absent.js",)}, "no such file"),
    ({"data": {"x": math.nan}}, "what JSON can hold"), ({"data": {"x": np.ones(2)}}, "arrays packed"),
    ({"data": {"x": "a" * 60_000}}, "60000 are allowed")])
def test_a_figure_that_cannot_work_is_refused_in_a_sentence(change, words):
    with pytest.raises(ValueError, match=words):
        Figure(**{**SMALL, **change})


def test_a_script_that_would_end_its_element_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("nemlib.explore.figure.HERE", tmp_path)
    for name in ("runtime.js", "figure.css"):
        (tmp_path / name).write_text("")
    (tmp_path / "random.js").write_text("const end = '</script>';")
    with pytest.raises(ValueError, match="in pieces"):
        Figure(**SMALL)


@pytest.mark.parametrize("law, correlation, distance", [
    ("cauchy", 0, 1), ("gaussian", 1, 1), ("modes", 0, 9)])
def test_a_chain_that_the_sliders_do_not_hold_is_refused(law, correlation, distance):
    with pytest.raises(ValueError, match="should"):
        gibbs.gibbs_chain(law, correlation, distance)


def test_a_still_picture_keeps_its_words_and_numbers():
    for figure in (gibbs.gibbs_chain(), gibbs.inverse_transform()):
        image, = Reader(figure._repr_html_()).images
        assert len(image["alt"]) > 80 and image["src"].startswith("data:image/svg+xml,")
    assert f"r = 0.99: τ = {model.BivariateGaussian(0.99).tau:.1f}" in urllib.parse.unquote(
        Reader(gibbs.gibbs_chain()._repr_html_()).images[0]["src"])


def test_a_still_picture_without_words_is_refused():
    from matplotlib.figure import Figure as Canvas
    with pytest.raises(ValueError, match="alternative text"):
        picture(Canvas(), alt=" ")


def test_a_terminal_shows_words():
    assert "hardly ever jumps" in repr(gibbs.gibbs_chain())
    assert repr(QUESTION).splitlines()[1:] == ["  a) about 2", "  b) about 10", "  c) about 100"]
    assert repr(Figure(**SMALL)) == "Interactive figure «Small»: open the page or the notebook to see it."


# ---- predictions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tex, letters", [
    (r"\tau = \frac{1 + r^2}{1 - r^2}", "τ = (1 + r²)/(1 − r²)"), (r"\rho_t = r^{2t}", "ρₜ = r²ᵗ"),
    (r"p(x_i \mid x_{-i})", "p(xᵢ | x₋ᵢ)"), (r"\sigma/\sqrt{n}", "σ/√n"),
    (r"\sqrt{1 - r^2}\, n", "√(1 − r²) n"), (r"e^{-E(s)}", "e^(−E(s))"),
    (r"\hat R \approx 1.01", "R ≈ 1.01")])
def test_mathematics_in_plain_letters(tex, letters):
    assert plain(f"So ${tex}$.") == f"So {letters}."


def test_mathematics_is_marked_for_the_typesetter_and_everything_is_escaped():
    assert typeset("a < b & $x_1 < 2$") == (
        'a &lt; b &amp; <span class="math notranslate nohighlight" data-nx-plain="x₁ &lt; 2">'
        "\\(x_1 &lt; 2\\)</span>")


PAIR = [("yes", "It is."), ("no", "It tempts.")]


@pytest.mark.parametrize("change, words", [
    ({"choices": PAIR[:1]}, "two to six"), ({"answer": 2}, "index of the right choice"),
    ({"answer": -1}, "index of the right choice"), ({"question": " "}, "need words"),
    ({"choices": [PAIR[0], ("no", "")]}, "need words"), ({"choices": [PAIR[0], PAIR[0]]}, "the same")])
def test_a_question_that_cannot_be_answered_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        predict(**{"question": "Is it?", "choices": PAIR, "answer": 0, "name": "is-it", **change})


def test_a_changed_question_forgets_its_answer():
    one, two = (predict(question, PAIR, 0, "is-it").data for question in ("Is it?", "Was it?"))
    assert one["key"] == two["key"] and one["fingerprint"] != two["fingerprint"]


# ---- JavaScript against Python ----------------------------------------------------------------------------

CHAIN = ["random.js", "statistics.js", "gibbs_chain_maths.js"]
DRAWN = ["gibbs_inverse_maths.js"]


def golden(files: list[str], calls: list, mutant: dict | None = None) -> list:
    question = json.dumps({"files": files, "calls": calls, "mutant": mutant})
    return json.loads(node("js/golden.mjs", stdin=question))


@cache
def chain_of(correlation: float, n: int = 400) -> tuple[float, ...]:
    generator = torch.Generator().manual_seed(1)
    start = torch.zeros(1, 2, dtype=torch.float64)
    return tuple(model.BivariateGaussian(correlation).chain(start, n, generator)[:, 0, 0].tolist())


def two_mode_correlations(d: float, lags: int) -> list[float]:
    """ρ_t of x_1 under Gibbs on two modes, by powers of the transition matrix on a grid of 400 points."""
    x = torch.linspace(-d - 7, d + 7, 400, dtype=torch.float64)
    joint = model.TwoModes(d).log_prob(torch.stack(torch.meshgrid(x, x, indexing="ij"), -1)).exp()
    given = joint / joint.sum(1, keepdim=True)
    law, power = joint.sum(1) / joint.sum(), x.clone()
    rho = []
    for _ in range(lags):
        rho.append(float((law * x) @ power / ((law * x) @ x)))
        power = given @ (given @ power)
    return rho


def chain_vectors() -> list[tuple[list, object]]:
    """Pairs of a call of the figure's JavaScript and what nemlib.gibbs says; torch is the truth."""
    vectors = []
    for r in (-0.95, 0.0, 0.6, 0.99):
        law, chain = model.BivariateGaussian(r), chain_of(r)
        there = {"law": ["gaussian", r]}
        mean, sd = law.conditional(torch.tensor(1.3))
        x = torch.tensor([0.4, -1.1], dtype=torch.float64)
        tensor = torch.tensor(chain, dtype=torch.float64)
        vectors += [
            (["gibbs.conditional", [there, 1.3]], [{"weight": 1, "mean": float(mean), "sd": sd}]),
            (["gibbs.draw", [there, 1.3, 0.2, -0.7]], {"value": float(mean) - 0.7 * sd, "label": 0}),
            (["gibbs.density", [there, 0.4, -1.1]], float(law.log_prob(x).exp())),
            (["statistics.autocorrelation", [chain, 30]], model.autocorrelation(tensor, 31).tolist()),
            (["statistics.integratedTime", [chain]], model.integrated_autocorrelation_time(tensor)),
            (["statistics.runningMean", [chain]], (tensor.cumsum(0) / torch.arange(1, 401)).tolist()),
            (["statistics.theory.time", [[[r * r, 1]]]], law.tau),
            (["statistics.theory.autocorrelation", [[[r * r, 1]], 7]], float(law.autocorrelation(8)[-1])),
            (["statistics.theory.meanFactor", [[[r * r, 1]], 50]],
             50 * model.variance_of_average(1.0, law.autocorrelation(50), 50)),
        ]
    for d in (0.5, 1.5, 2.5):
        law, there = model.TwoModes(d), {"law": ["modes", d]}
        x = torch.tensor([0.4, -1.1], dtype=torch.float64)
        second = float(law.other_mode(torch.tensor(0.3)))
        z = torch.tensor(-0.7)
        for u in (0.5 * second, second + 0.5 * (1 - second)):
            value, label = law._update(torch.tensor(0.3), torch.tensor(u), z)
            drawn = {"value": float(value), "label": int(label)}
            vectors.append((["gibbs.draw", [there, 0.3, u, -0.7]], drawn))
        vectors += [
            (["gibbs.conditional", [there, 0.3]],
             [{"weight": 1 - second, "mean": d}, {"weight": second, "mean": -d}]),
            (["gibbs.density", [there, 0.4, -1.1]], float(law.log_prob(x).exp())),
            (["gibbs.flipProbability", [there]], float(law.label_matrix[0, 1])),
            (["gibbs.crossingTime", [there]], law.crossing_time),
        ]
    return vectors


def inverse_vectors() -> list[tuple[list, object]]:
    rng, vectors = np.random.default_rng(2), []
    for heights in ([1.0, 1.0, 1.0], [0.0, 0.3, 0.0, 0.0, 0.9, 0.1, 0.0], rng.uniform(size=24).tolist()):
        p = np.array(heights) / np.sum(heights)
        cdf = torch.from_numpy(np.append(0.0, p.cumsum()))
        cdf = cdf / cdf[-1]
        edges = torch.linspace(-3, 3, len(p) + 1, dtype=torch.float64)
        vectors += [(["inverse.probabilities", [heights]], p.tolist()),
                    (["inverse.cumulative", [p.tolist()]], cdf.tolist())]
        for u in rng.uniform(size=8):
            x = float(model.inverse_transform(torch.tensor([u]), edges, cdf)[0])
            bin = int(model.inverse_transform_discrete(torch.tensor(u), torch.from_numpy(p)))
            vectors.append((["inverse.invert", [cdf.tolist(), -3, 3, u]], {"x": x, "bin": bin}))
        for n in (1, 7, 100, 5000):
            counts = rng.multinomial(n, p)
            distance = float(model.total_variation(torch.from_numpy(counts / n), torch.from_numpy(p)))
            expected = sum(stats.binom(n, q).expect(lambda k, q=q: abs(k / n - q)) for q in p) / 2
            vectors += [(["inverse.totalVariation", [counts.tolist(), p.tolist(), n]], distance),
                        (["inverse.expectedVariation", [p.tolist(), n]], expected)]
    return vectors


def largest_difference(got, wanted) -> float:
    if isinstance(wanted, dict):
        return max(largest_difference(got[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        assert len(got) == len(wanted)
        return max(map(largest_difference, got, wanted), default=0.0)
    return math.inf if got is None else abs(got - wanted) / max(1.0, abs(wanted))


def disagreement(files: list[str], vectors: list, mutant: dict | None = None) -> float:
    results = golden(files, [call for call, _ in vectors], mutant)
    return max(largest_difference(got, wanted) for got, (_, wanted) in zip(results, vectors))


@pytest.fixture(scope="module")
def golden_vectors() -> dict[str, tuple[list[str], list]]:
    return {"chain": (CHAIN, chain_vectors()), "inverse": (DRAWN, inverse_vectors())}


@needs_node
@pytest.mark.parametrize("which", ["chain", "inverse"])
def test_javascript_computes_what_python_computes(golden_vectors, which):
    assert disagreement(*golden_vectors[which]) < 1e-5


@needs_node
@pytest.mark.parametrize("which, file, change, to", [
    ("chain", "gibbs_chain_maths.js", "sd: Math.sqrt(1 - law.r * law.r)", "sd: 1 - law.r * law.r"),
    ("chain", "gibbs_chain_maths.js", "mean: law.r * other", "mean: -law.r * other"),
    ("chain", "gibbs_chain_maths.js", "sigmoid(-2 * law.d * other)", "sigmoid(-law.d * other)"),
    ("chain", "gibbs_chain_maths.js", "uniform < parts[1].weight", "uniform < parts[0].weight"),
    ("chain", "gibbs_chain_maths.js", "(2 * flip * (1 - flip))", "flip"),
    ("chain", "statistics.js", "return sum / values.length;\n  }\n\n  // rho",
     "return sum / (values.length - lag);\n  }\n\n  // rho"),
    ("chain", "statistics.js", "smallest = Math.min(smallest, pair)", "smallest = pair"),
    ("chain", "statistics.js", "2 * sum - 1", "2 * sum + 1"),
    ("chain", "statistics.js", " - 1 / (n - 1)", ""),
    ("chain", "statistics.js", "(2 * l * (1 - l ** n))", "(l * (1 - l ** n))"),
    ("inverse", "gibbs_inverse_maths.js", "F[middle + 1] > u", "F[middle] > u"),
    ("inverse", "gibbs_inverse_maths.js", "(u - F[first]) /", "u /"),
    ("inverse", "gibbs_inverse_maths.js", "part), 0) / 2", "part), 0)"),
    ("inverse", "gibbs_inverse_maths.js", "Math.floor(n * part) + 1", "Math.floor(n * part)"),
])
def test_the_comparison_notices_a_wrong_formula(golden_vectors, which, file, change, to):
    assert disagreement(*golden_vectors[which], mutant={"file": file, "from": change, "to": to}) > 1e-5


@needs_node
def test_the_memory_of_the_two_mode_chain_is_exact():
    calls, wanted = [], []
    for d in (0.4, 1.0, 2.0):
        spectrum, = golden(CHAIN, [["gibbs.spectrum", [{"law": ["modes", d]}]]])
        calls += [["statistics.theory.autocorrelation", [spectrum, t]] for t in range(8)]
        wanted += two_mode_correlations(d, 8)
    assert largest_difference(golden(CHAIN, calls), wanted) < 1e-5


def xoshiro(seed: int, count: int) -> list[float]:
    """xoshiro128** with a 32-bit SplitMix seed, in Python's integers."""
    mask, state = 0xFFFFFFFF, []
    for _ in range(4):
        seed = (seed + 0x9E3779B9) & mask
        z = (seed ^ seed >> 16) * 0x21F0AAAD & mask
        z = (z ^ z >> 15) * 0x735A2D97 & mask
        state.append(z ^ z >> 15)
    turn = lambda x, k: (x << k | x >> 32 - k) & mask   # noqa: E731
    draws = []
    for _ in range(count):
        draws.append(((turn(state[1] * 5 & mask, 7) * 9 & mask) + 0.5) / 2**32)
        t = state[1] << 9 & mask
        state[2] ^= state[0]
        state[3] ^= state[1]
        state[1] ^= state[2]
        state[0] ^= state[3]
        state[2] ^= t
        state[3] = turn(state[3], 11)
    return draws


@needs_node
def test_random_numbers_are_those_of_the_published_generator():
    draws, normals = golden(CHAIN, [["draws", {"seed": 7, "kind": kind, "count": 400}]
                                    for kind in ("uniform", "normal")])
    uniform = xoshiro(7, 800)
    assert draws == uniform[:400]
    box_muller = [math.sqrt(-2 * math.log(a)) * math.cos(2 * math.pi * b)
                  for a, b in zip(uniform[::2], uniform[1::2])]
    assert largest_difference(normals, box_muller) < 1e-12


@needs_node
def test_javascript_on_its_own():
    files = sorted(map(str, (ROOT / "tests" / "js").glob("*.test.mjs")))
    ran = subprocess.run([NODE, "--test", *files], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout[-3000:]


# ---- a reader in a browser --------------------------------------------------------------------------------


def write_pages(folder: Path) -> None:
    chain, inverse = gibbs.gibbs_chain(), gibbs.inverse_transform()
    broken = page(Figure(**{**SMALL, "name": "broken"}))   # it has no nx.build
    inner = page(chain, QUESTION).replace("&", "&amp;").replace('"', "&quot;")
    template = f"<template>{chain._repr_html_()}</template></body>"
    pages = {
        "chain.html": page(chain, chain).replace("</body>", template), "inverse.html": page(inverse),
        "predict.html": page(QUESTION), "all.html": page(chain, inverse, QUESTION),
        "broken.html": broken.replace("</main>", '<input><img src="http://127.0.0.1:9/x" alt="x"></main>'),
        "frame.html": '<!DOCTYPE html><title>frame</title><iframe sandbox="allow-scripts" width="800" '
                      f'height="900" srcdoc="{inner}"></iframe>',
    }
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> dict:
    """What a reader saw, scenario by scenario. SHOTS=folder keeps screenshots."""
    if not (NODE and chrome() and (ROOT / "node_modules" / "puppeteer-core").is_dir()):
        pytest.skip("a browser, Node.js and node_modules are needed: `make test` installs them")
    folder = tmp_path_factory.mktemp("pages")
    write_pages(folder)
    shots = [os.environ["SHOTS"]] if os.environ.get("SHOTS") else []
    return Records(json.loads(node("browser/explore.mjs", chrome(), str(folder), *shots)))


class Records(dict):
    """The scenarios' records; one that broke off fails the tests that ask for it."""

    def __getitem__(self, name: str) -> dict:
        record = super().__getitem__(name)
        assert "error" not in record, record["error"]
        return record


@pytest.mark.browser
def test_a_chain_is_stepped_by_key_and_by_mouse(seen):
    chain = seen["chain"]
    assert chain["start"]["Sweeps n"] == "0"
    assert chain["half"]["sweeps"] == 0 and chain["half"]["said"].startswith("x₁ was drawn given x₂ = 2.50")
    assert chain["keys"]["sweeps"] == 1
    assert chain["keys"]["said"].startswith("Sweep 1 is complete. x₂ was drawn")
    assert chain["sweeps"] == 4 and chain["twin"] == 0
    assert len(chain["moves"]) == 8
    for move in chain["moves"]:
        (x, y), (x_next, y_next) = (map(float, point.split()) for point in move[1:].split("L"))
        assert x == x_next or y == y_next


@pytest.mark.browser
def test_the_slider_changes_the_law_and_begins_a_new_chain(seen):
    slid, dragged = seen["chain"]["slid"], seen["chain"]["dragged"]
    assert slid["value"] == "0.85" and slid["sweeps"] == 0
    correlation = float(dragged["value"].replace("−", "-"))
    assert correlation < 0 and dragged["ring"] != slid["ring"]
    assert f"{model.BivariateGaussian(correlation).tau:.1f} sweeps" in dragged["tau"]


@pytest.mark.browser
def test_a_chain_runs_and_pauses_and_says_what_it_is_worth(seen):
    chain = seen["chain"]
    assert chain["ran"] and chain["paused"] and chain["after"]["bars"] == 21
    sweeps, tau, size = (float(chain["after"][name]) for name in (
        "Sweeps n", "Autocorrelation time τ", "Effective sample size n / τ"))
    assert size == pytest.approx(sweeps / tau, rel=0.1)
    assert chain["after"]["said"] == "Paused. " + chain["after"]["words"]


@pytest.mark.browser
def test_the_start_is_dragged_and_moved_by_arrows(seen):
    handle = seen["chain"]["handle"]
    numbers = {name: [float(x.replace("−", "-")) for x in re.findall(r"= ([−\d.]+)", handle[name])]
               for name in ("before", "moved", "keyed")}
    assert numbers["before"] == [-2.5, 2.5]
    assert numbers["moved"][0] > -2 and numbers["moved"][1] < 2.2
    assert numbers["keyed"] == pytest.approx([numbers["moved"][0], numbers["moved"][1] + 0.25], abs=0.011)
    assert handle["sweeps"] == 0


@pytest.mark.browser
def test_two_modes_are_shown_run_and_reset(seen):
    modes = seen["chain"]["modes"]
    assert modes["ran"] and modes["shown"] == [False, True] and modes["rings"] == 2
    assert "independent draws" in modes["words"]
    assert seen["chain"]["reset"] == 0


@pytest.mark.browser
def test_samples_fall_one_by_one_and_by_the_hundred(seen):
    inverse = seen["inverse"]
    u = xoshiro(1, 1)[0]
    heights = torch.from_numpy(gibbs.densities()["Bell"].round(2))
    cdf = torch.cat([torch.zeros(1, dtype=torch.float64), heights.cumsum(0) / heights.sum()])
    edges = torch.linspace(-3, 3, 25, dtype=torch.float64)
    x = float(model.inverse_transform(torch.tensor([u], dtype=torch.float64), edges, cdf)[0])
    said = f"u = {u:.2f} crosses the distribution function at x = {x:.2f}.".replace("-", "−")
    assert inverse["said"] == said
    assert inverse["one"] and inverse["many"]


@pytest.mark.browser
def test_a_density_is_drawn_by_dragging(seen):
    drawn = seen["inverse"]["drawn"]
    assert drawn["samples"] == 0 and drawn["was"] != drawn["now"]
    stroke = drawn["now"][2:13]
    assert stroke == sorted(stroke) and stroke[0] < 0.3 and stroke[-1] > 0.7
    assert float(drawn["area"]) == pytest.approx(sum(drawn["now"]) * 0.25, abs=0.006)


@pytest.mark.browser
def test_a_density_is_shaped_by_arrows(seen):
    labels, values = zip(*(text.rsplit(" ", 1) for text in seen["inverse"]["keys"]))
    values = list(map(float, values))
    assert values[1] == pytest.approx(min(1, values[0] + 0.05))
    assert labels[2] != labels[1] == labels[0] == "Density from 0.00 to 0.25"
    assert values[3:] == [0, 1, pytest.approx(0.8)]


@pytest.mark.browser
def test_zero_and_empty_densities_get_a_sentence(seen):
    inverse = seen["inverse"]
    assert "Where it is zero, F is flat" in inverse["gap"]
    assert inverse["empty"]["words"].startswith("The drawing is empty")
    assert set(inverse["empty"]["disabled"]) == {"Run", "Drop one", "Drop 100"}


@pytest.mark.browser
def test_the_histogram_comes_as_close_as_theory_says(seen):
    assert seen["inverse"]["ran"]
    law = seen["inverse"]["law"]
    assert float(law["Total variation"]) < 2.5 * float(law["Expected"])


@pytest.mark.browser
def test_a_prediction_is_answered_remembered_and_changed(seen):
    record = seen["prediction"]
    assert all(part in record["asked"] for part in ("r = 0.99", "x₁", '"in sweeps" & all?'))
    assert "guess" in record["hurried"]
    wrong = record["wrong"]
    assert wrong["disabled"] and wrong["focus"]
    assert wrong["result"].startswith("✗ Not this one: about 2. It moves only < 1 a sweep.")
    assert "✓ about 100. τ = (1 + r²)/(1 − r²) is 99.5." in wrong["result"]
    assert (wrong["right"], wrong["wrong"]) == (["about 100"], ["about 2"])
    assert "That is τ for r = 0.9." in record["others"]
    assert record["again"]["visible"] and not record["again"]["focus"]
    assert record["again"]["result"] == wrong["result"]
    assert not record["changing"]["disabled"] and not record["changing"]["visible"]
    assert record["right"]["result"].startswith("✓ Right: about 100.") and record["right"]["wrong"] == []
    assert record["refused"] == {"result": record["refused"]["result"], "troubles": []}
    assert record["refused"]["result"].startswith("✓ Right")


@pytest.mark.browser
def test_on_a_phone_everything_fits_and_answers_the_finger(seen):
    phone = seen["phone"]
    assert phone["width"] <= 360 and phone["theme"] == ["dark"] * 3
    assert phone["touched"] > 4 and phone["tapped"] and phone["small"] == 0


@pytest.mark.browser
def test_light_and_dark_follow_the_page(seen):
    looks = seen["looks"]
    assert looks["light"][0] == looks["book"][0] == looks["jupyter"][0] == "light"
    assert looks["dark"][0] == "dark"
    assert looks["light"][1] == looks["book"][1] != looks["dark"][1]


@pytest.mark.browser
def test_paper_and_pages_without_scripts_show_the_still_picture(seen):
    assert seen["looks"]["print"] == [[False, True]] * 3
    assert all(width > 100 and words > 80 for width, words in seen["looks"]["bare"])
    assert seen["looks"]["bareDetails"] == [True, "Show the answer"]
    assert seen["broken"]["still"] and seen["broken"]["live"] == 0


@pytest.mark.browser
def test_nothing_stands_in_the_way_of_a_screen_reader(seen):
    assert seen["looks"]["violations"] == seen["looks"]["violationsDark"] == seen["phone"]["violations"] == []
    assert seen["chain"]["ids"] == []


@pytest.mark.browser
def test_figures_work_in_frames_and_where_html_is_inserted(seen):
    hosts = seen["hosts"]
    assert hosts["framed"] == 2 and hosts["framedSweeps"] == "1" and hosts["framedAnswer"].startswith("✗")
    assert hosts["inserted"] == {"live": 1, "run": "Run", "sweeps": hosts["inserted"]["sweeps"]}
    assert int(hosts["inserted"]["sweeps"]) >= 1


@pytest.mark.browser
def test_less_motion_where_the_reader_wants_less(seen):
    calm = seen["calm"]
    assert calm["still"] and calm["landed"] == 100 and calm["ran"]


@pytest.mark.browser
def test_no_error_and_no_request(seen):
    troubles = {name: seen[name][key] for name, record in seen.items()
                for key in ("troubles", "insertedTroubles") if record.get(key)}
    assert list(troubles) == ["broken"], troubles


@pytest.mark.browser
def test_the_browser_notices_an_error_a_request_and_a_nameless_input(seen):
    heard = "\n".join(seen["broken"]["troubles"])
    assert "could not start" in heard and "asked the network" in heard
    assert any(violation.startswith("label") for violation in seen["broken"]["violations"])


# ---- a live JupyterLab ------------------------------------------------------------------------------------


@pytest.fixture
def jupyterlab(tmp_path):
    """The address of a JupyterLab of the test's own, on the loopback, with a notebook of two figures."""
    cells = ["from nemlib.explore import gibbs, predict\ngibbs.gibbs_chain()",
             "predict('Is $r^2 < 1$?', [('yes', 'Since $|r| < 1$.'), ('no', 'It tempts.')], 0, 'live')"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "figures.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"} | {
        name: str(tmp_path / name.lower()) for name in
        ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR",
         "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
               f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=",
               "--ServerApp.password=", "--LabApp.news_url=None",
               "--LabApp.expose_app_in_browser=True",
               "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
               f"--ServerApp.root_dir={tmp_path}"]
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=tmp_path)
    try:
        wait_for(f"http://127.0.0.1:{port}/api", server, tmp_path / "server.log")
        yield f"http://127.0.0.1:{port}/lab/tree/figures.ipynb?reset"
    finally:
        server.terminate()
        server.wait(20)


def wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(300):
        try:
            opener.open(address, timeout=2)
            return
        except OSError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)
    raise AssertionError("JupyterLab did not answer within 30 s: " + log.read_text())


@pytest.mark.browser
@pytest.mark.skipif(not (NODE and chrome()), reason="a browser and Node.js are needed")
def test_a_live_jupyterlab_shows_the_same_figure(jupyterlab):
    pytest.importorskip("jupyterlab")
    shots = [str(Path(os.environ["SHOTS"]) / "jupyterlab.png")] if os.environ.get("SHOTS") else []
    live = json.loads(node("browser/explore_jupyterlab.mjs", chrome(), jupyterlab, *shots))
    assert "error" not in live, live["error"]
    assert live["clicked"] == "1" and live["keyed"] == "3" and live["slid"] == "0.88"
    assert not live["editing"] and live["theme"] == "light"
    assert live["question"] == [1, False]
    assert live["answer"][0].startswith("✓ Right: yes.") and live["answer"][1] >= 1
    assert live["troubles"] == []
