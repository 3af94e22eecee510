"""The phase portrait of chapter 7: what Python packs, what JavaScript computes, what a reader sees."""

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
from scipy.integrate import solve_ivp
from torch import Tensor

from nemlib.explore import gan as explore
from nemlib.explore import page
from nemlib.gan import Bilinear, DiracGAN, alternating, extragradient, simultaneous
from nemlib.plot import PALETTE

ROOT = Path(__file__).resolve().parent.parent
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
METHODS = {"simultaneous": simultaneous, "alternating": alternating, "extragradient": extragradient}
GAMES = {("bilinear", 0.0): Bilinear(), ("saturating", 0.0): DiracGAN(), ("saturating", 0.3): DiracGAN(0.3),
         ("saturating", 1.7): DiracGAN(1.7), ("nonSaturating", 0.0): DiracGAN(0.0, True),
         ("nonSaturating", 0.6): DiracGAN(0.6, True)}
ETAS = (0.2, 1.5)


@cache
def chrome() -> str | None:
    spec = spec_from_file_location("install", ROOT / "tools" / "install.py")
    install = module_from_spec(spec)
    spec.loader.exec_module(install)
    return install.find_browser()


def node(script: str, *arguments: str, stdin: str | None = None) -> str:
    ran = subprocess.run([NODE, ROOT / "tests" / script, *arguments], input=stdin, capture_output=True,
                         text=True, timeout=500, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def golden(calls: list, mutant: tuple[str, str] | None = None) -> list:
    given = {"calls": calls, "mutant": mutant and dict(zip(("from", "to"), mutant))}
    return json.loads(node("js/gan_portrait_golden.mjs", stdin=json.dumps(given)))


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


def test_a_rebuilt_figure_is_the_same_figure_and_a_second_copy_has_its_own_id():
    text = explore.portrait()._repr_html_()
    explore._still_portrait.cache_clear()
    assert explore.portrait()._repr_html_() == text
    assert Reader(text).ids == ["nx-gan-portrait-1"]
    assert Reader(explore.portrait(copy=2)._repr_html_()).ids == ["nx-gan-portrait-2"]


def test_the_figure_asks_for_nothing_and_is_within_its_limit():
    for figure in (explore.portrait(), explore.portrait(DiracGAN(0.3), 0.4, start=(1.0, 1.0), steps=200)):
        text = figure._repr_html_()
        assert set(re.findall(r"https?:[^\s'\"\\]*", text)) == {
            "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
        assert not re.search(r"\b(import|require)\s*\(|<link|src=\"(?!data:)", text)
        assert len(text.encode()) < explore.LARGEST_PORTRAIT


@needs_node
def test_the_embedded_script_is_whole():
    script, = Reader(explore.portrait()._repr_html_()).scripts
    ran = subprocess.run([NODE, "--check", "-"], input=script, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_the_still_picture_says_where_each_path_ends():
    image, = Reader(explore.portrait(Bilinear(), 0.3, start=(0.6, 0.8), steps=40)._repr_html_()).images
    svg = urllib.parse.unquote(image["src"])
    ends = {"simultaneous": 1.09 ** 20, "extragradient": (1 - 0.3**2 + 0.3**4) ** 20, "flow": 1.0}
    for name, radius in ends.items():
        assert f"{name} {radius:.3g}" in image["alt"] and f">{name}</text>" in svg
    assert "in the game θφ" in image["alt"] and "After 40 steps" in image["alt"]
    of_dirac, = Reader(explore.portrait(DiracGAN(0.3, True), 0.4)._repr_html_()).images
    assert "non-saturating Dirac-GAN with γ = 0.3" in of_dirac["alt"]


def test_a_terminal_shows_words():
    assert "simultaneous steps spiral out" in repr(explore.portrait())


def test_the_colours_are_the_books():
    assert {tuple(pair) for pair in explore.portrait().data["palette"].values()} <= set(PALETTE.values())
    sources = [path.read_text() for path in (ROOT / "nemlib" / "explore").glob("gan_portrait*.*s")]
    assert len(sources) == 3
    assert not [found for text in sources for found in re.findall(r"#[0-9a-fA-F]{3,8}\b|rgb\(\d", text)]
    paths = [explore.PORTRAIT_ROLES[name] for name in (*METHODS, "flow", "average")]
    assert len(set(paths)) == 5


@pytest.mark.parametrize("make, words", [
    (lambda: explore.portrait(Bilinear(2.0)), "change step_size instead"),
    (lambda: explore.portrait("dirac"), r"Bilinear\(\) and DiracGAN.*'dirac' came"),
    (lambda: explore.portrait(DiracGAN(2.5)), "gamma from 0 to 2, but 2.5 came"),
    (lambda: explore.portrait(step_size=1.6), "step_size is 1.6"),
    (lambda: explore.portrait(step_size=math.nan), "step_size is nan"),
    (lambda: explore.portrait(start=(1.0, 3.1)), r"start is \(1.0, 3.1\)"),
    (lambda: explore.portrait(start=(1.0,)), r"\(θ, φ\)"),
    (lambda: explore.portrait(decay=1.0), "decay is 1.0"),
    (lambda: explore.portrait(steps=5), "steps is 5"),
])
def test_what_the_page_cannot_show_is_refused_in_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# ---- the paths in Python -----------------------------------------------------------------------------------


def one_by_one(game, step, start: tuple[float, float], eta: float, count: int) -> Tensor:
    theta, phi = torch.tensor(start, dtype=torch.float64)
    points = [(theta, phi)]
    for _ in range(count):
        theta, phi = step(game.field, theta, phi, eta)
        points.append((theta, phi))
    return torch.tensor(points, dtype=torch.float64)


@pytest.mark.parametrize("key", GAMES)
def test_paths_are_the_steps_of_nemlib_and_the_flow_solves_its_equation(key):
    game, start = GAMES[key], (1.2, -0.7)
    paths = explore.portrait_paths(game, 0.4, start, 30, decay=0.8, mean_of="extragradient")
    for name, step in METHODS.items():
        assert torch.equal(paths[name], one_by_one(game, step, start, 0.4, 30))

    def slope(_, at):
        return [float(one) for one in game.field(*torch.tensor(at, dtype=torch.float64))]

    solved = solve_ivp(slope, (0, 12), start, rtol=1e-9, atol=1e-11, t_eval=np.linspace(0, 12, 31)[::10])
    assert np.abs(paths["flow"].numpy()[::10] - solved.y.T).max() < 1e-6
    weights = 0.8 ** torch.arange(29, -1, -1, dtype=torch.float64)
    mean = 0.2 * (weights[:, None] * paths["extragradient"][1:]).sum(0) + 0.8 ** 30 * paths["extragradient"][0]
    assert torch.allclose(paths["average"][-1], mean, atol=1e-12)


# ---- JavaScript against nemlib -----------------------------------------------------------------------------

STARTS = ((1.0, 0.0), (-0.7, 1.1))
COUNT = 40


def path_calls() -> tuple[list, list]:
    calls, wanted = [], []
    for n, ((kind, gamma), game) in enumerate(GAMES.items()):
        given = {"kind": kind, "gamma": gamma}
        for eta in ETAS:
            start = STARTS[n % 2]
            paths = explore.portrait_paths(game, eta, start, COUNT)
            for name in (*METHODS, "flow"):
                path = paths[name][paths[name].norm(dim=1) < 1e9]
                calls.append(["path", [given, name, start, eta, COUNT]])
                wanted.append(path[:len(path)].tolist())
            calls.append(["average", [paths["alternating"].tolist(), 0.95]])
            wanted.append(paths["average"].tolist())
    return calls, wanted


@cache
def calls_and_wanted() -> tuple[list, list]:
    return path_calls()


def disagreement(mutant: tuple[str, str] | None = None) -> float:
    """The largest error of a coordinate, relative where the coordinate is above 1."""
    calls, wanted = calls_and_wanted()
    worst = 0.0
    for mine, exact in zip(golden(calls, mutant), wanted):
        if len(mine) != len(exact):
            return math.inf
        mine, exact = np.array(mine, dtype=float), np.array(exact)
        error = np.abs(mine - exact) / np.maximum(1, np.abs(exact).max(1, keepdims=True))
        worst = max(worst, error.max()) if np.isfinite(error).all() else math.inf
    return worst


@needs_node
def test_the_page_goes_the_same_points_as_nemlib():
    assert disagreement() < 1e-12


@needs_node
@pytest.mark.parametrize("change, to", [
    ("return [-phi, theta];", "return [phi, -theta];"),
    ('game.kind === "nonSaturating" ? -logit', 'game.kind === "saturating" ? -logit'),
    ("- game.gamma * phi", "- game.gamma * theta"),
    ("field(game, [theta, at[1]])[1]", "field(game, at)[1]"),
    ("field(game, simultaneous(game, at, eta)), eta)", "field(game, at), eta)"),
    ("along(at, three, h)", "along(at, three, h / 2)"),
    ("beta * phi + (1 - beta) * at[1]", "beta * phi + (1 - beta) * at[0]"),
])
def test_a_wrong_step_is_noticed(change, to):
    assert disagreement((change, to)) > 1e-3


def spectrum(game, name: str, eta: float) -> complex:
    """The eigenvalue of largest modulus of one step at (0, 0), by autograd through nemlib's step."""
    at = torch.zeros(2, dtype=torch.float64)
    if name == "flow":
        J = torch.autograd.functional.jacobian(lambda x: torch.stack(game.field(*x)), at)
        values = np.exp(eta * np.linalg.eigvals(J.numpy()))
    else:
        step = METHODS[name]
        J = torch.autograd.functional.jacobian(lambda x: torch.stack(step(game.field, *x, eta)), at)
        values = np.linalg.eigvals(J.numpy())
    return values[np.abs(values).argmax()]


def law_faults(mutant: tuple[str, str] | None = None) -> float:
    calls, wanted = [], []
    for (kind, gamma), game in GAMES.items():
        given = {"kind": kind, "gamma": gamma}
        for eta in ETAS:
            for name in (*METHODS, "flow"):
                value = spectrum(game, name, eta)
                calls += [["factor", [given, name, eta]], ["averaged", [given, name, eta, 0.9]]]
                wanted += [abs(value), 0.1 * abs(value) / abs(value - 0.9)]
    return max(abs(a - b) / max(1, abs(b)) for a, b in zip(golden(calls, mutant), wanted))


@needs_node
def test_factors_near_the_equilibrium_are_the_eigenvalues_of_nemlibs_steps():
    assert law_faults() < 1e-7


@needs_node
@pytest.mark.parametrize("change, to", [
    ("return eigenvalue(2 + eta * eta * b * c + eta * d, 1 + eta * d);",
     "return eigenvalue(2 + eta * d, 1 + eta * d);"),
    ("[-0.5, -game.gamma]", "[-0.5, 0]"),
    ("(trace < 0 ? -1 : 1)", "1"),
    ("size(other) > size(one) ? other : one", "one"),
    ("eta * (trace / 2 + (root > 0", "eta * (trace + (root > 0"),
    ("eta * eta * (x * x - y * y)", "eta * eta * x * x"),
])
def test_a_wrong_factor_is_noticed(change, to):
    assert law_faults((change, to)) > 1e-3


def test_simultaneous_steps_of_the_dirac_gan_come_in_where_gamma_is_above_a_quarter_of_eta():
    for eta in (0.2, 0.8, 1.5):
        below, above = (abs(spectrum(DiracGAN(eta / 4 * part), "simultaneous", eta)) for part in (0.99, 1.01))
        assert below > 1 > above
    rates = [abs(spectrum(DiracGAN(gamma), "flow", 1.0)) for gamma in (0.9, 1.0, 1.1)]
    assert rates[1] < min(rates[0], rates[2])


@needs_node
def test_what_is_known_without_python():
    ran = subprocess.run([NODE, "--test", ROOT / "tests" / "js" / "gan_portrait.test.mjs"], capture_output=True,
                         text=True, timeout=100, cwd=ROOT)
    assert ran.returncode == 0, ran.stdout


# ---- a reader in a browser --------------------------------------------------------------------------------

# Faults planted into the page's own script, one at a time.
MUTANTS = [
    ("path(game, name, start, eta, COUNT)", "path(game, name, start, eta / 2, COUNT)"),
    ("portrait.average(all[of], beta)", "portrait.average(all.alternating, beta)"),
    ("own + step * each);", "own + step * each * 2);"),
    ('(each > 1 ? "spirals out"', '(each < 1 ? "spirals out"'),
    ("digits(portrait.invariant(start, eta), 3)", "digits(portrait.invariant(start, 0), 3)"),
    ("portrait.swing(portrait.invariant(start, eta), eta).map(log)", "portrait.swing(1, eta).map(log)"),
    ('[marks.quarter, eta / 4, "η/4"]', '[marks.quarter, eta / 2, "η/4"]'),
    ("start = at.map(", "start = [at[1], at[0]].map("),
    ("factor(of) <= beta", "factor(of) >= beta"),
]


def write_pages(folder: Path) -> None:
    text = page(explore.portrait())
    made = {"portrait": text,
            "two": page(explore.portrait(), explore.portrait(DiracGAN(0.3), 0.4, start=(1.0, 1.0), copy=2))}
    for n, (change, to) in enumerate(MUTANTS):
        assert change in text, change
        made[f"mutant-{n}"] = text.replace(change, to)
    for name, one in made.items():
        (folder / f"{name}.html").write_text(one, encoding="utf-8")


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
    return Records(json.loads(node("browser/explore_gan_portrait.mjs", chrome(), str(folder), *shots)))


START = {"game": "bilinear", "eta": 0.2, "gamma": 0.0, "start": [1.0, 0.0], "beta": 0.95, "of": "alternating"}
STEPS = 100


def paths_of(given: dict) -> dict[str, np.ndarray]:
    kind = given["game"]
    game = Bilinear() if kind == "bilinear" else DiracGAN(given.get("gamma", 0.0), kind == "nonSaturating")
    return cached_paths(game, given["eta"], tuple(given["start"]), given["beta"], given["of"])


@cache
def cached_paths(game, eta: float, start: tuple[float, float], beta: float, of: str) -> dict[str, np.ndarray]:
    paths = explore.portrait_paths(game, eta, start, STEPS, decay=beta, mean_of=of)
    return {name: path.numpy() for name, path in paths.items()}


def in_plane(state: dict, points: np.ndarray) -> np.ndarray:
    """Pixels of (θ, φ)."""
    width, height = state["plane"]
    return np.stack([30 + (points[:, 0] + 3) / 6 * (width - 38), 8 + (3 - points[:, 1]) / 6 * (height - 34)], 1)


def in_chart(state: dict, radii: np.ndarray) -> np.ndarray:
    """Pixels of (step, distance), the second as the ticks say."""
    signs = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
    ticks = [(math.log10(float(text)) if text.isascii() else float(text[2:].translate(signs)), y)
             for text, y in state["ticks"]]
    (low, below), (high, above) = ticks[0], ticks[-1]
    x = 46 + np.arange(len(radii)) / STEPS * (state["chart"][0] - 58)
    return np.stack([x, below + (np.log10(radii) - low) * (above - below) / (high - low)], 1)


def near(points: list, wanted: np.ndarray, error: float = 0.16) -> bool:
    return len(points) == len(wanted) and (not points or np.abs(np.array(points) - wanted).max() < error)


def visible(points: np.ndarray, size: list[float]) -> np.ndarray:
    return points[((points > -9) & (points < np.array(size) + 9)).all(1)]


def check_points(state: dict, given: dict) -> None:
    """Every path's points, and how far they lie from (0, 0), are nemlib's."""
    assert near([state["start"]], in_plane(state, np.array([given["start"]])))
    for name, path in paths_of(given).items():
        path = path[:1 + max(k for k in range(len(path)) if np.linalg.norm(path[:k + 1], axis=1).max() < 1e9)]
        radii = np.linalg.norm(path, axis=1)
        if name == "flow":
            assert near(state["points"][name][::8], in_plane(state, path))
            assert near(state["radii"][name], in_chart(state, radii))
        else:
            assert near(state["points"][name], visible(in_plane(state, path), state["plane"]))
            dots = visible(in_chart(state, radii), state["chart"])
            shown = np.array(state["radii"][name])
            assert len(shown) > 5
            assert (np.abs(shown[:, None] - dots).max(2).min(1) < 0.16).all()
        number = state["rows"][name][1]
        assert (number == "far away") == (len(path) <= STEPS)
        if number[0].isdigit() and "⋅" not in number and "·" not in number:
            assert float(number) == pytest.approx(radii[-1], abs=0.51 if radii[-1] >= 100 else 0.00051)


def check_bilinear(state: dict, given: dict) -> None:
    """Lines under the dots, the band, the ellipse and the sentences tell the exact laws."""
    eta, radius = given["eta"], math.hypot(*given["start"])
    factors = {"simultaneous": math.sqrt(1 + eta**2), "extragradient": math.sqrt(1 - eta**2 + eta**4), "flow": 1}
    for name, factor in factors.items():
        line = in_chart(state, radius * factor ** np.arange(STEPS + 1.0))
        assert near(state["laws"][name], line[[0, -1]], 0.3)
        words = state["rows"][name][0]
        assert words.startswith("circles" if abs(factor - 1) < 1e-9 else
                                "spirals out" if factor > 1 else "converges")
        if name != "flow" and abs(factor - 1) > 1e-9:
            assert f"= {factor:.4f}." in words
    theta, phi = given["start"]
    kept = theta**2 + phi**2 - eta * theta * phi
    swing = [math.sqrt(kept / (1 + eta / 2)), math.sqrt(kept / (1 - eta / 2))]
    words = state["rows"]["alternating"][0]
    assert f"stays at {kept:.3f}," in words and f"between {swing[0]:.3f} and {swing[1]:.3f}." in words
    low, high = (in_chart(state, np.array([one]))[0, 1] for one in swing)
    assert [y for _, y in state["band"]] == pytest.approx([high, high, low, low], abs=0.2)
    ellipse = (np.array(state["orbit"]) - in_plane(state, np.zeros((1, 2)))) * 6 / (state["plane"][0] - 38)
    x, y = ellipse.T * np.array([[1], [-1]])
    assert np.abs(x**2 + y**2 - eta * x * y - kept).max() < 0.01 * max(1, kept)
    assert state["sliders"][1] is None


def check_dirac(state: dict, given: dict) -> None:
    """Sentences and the dashed lines' slopes tell the eigenvalues at (0, 0)."""
    eta, gamma = given["eta"], given.get("gamma", 0.0)
    game = DiracGAN(gamma, given["game"] == "nonSaturating")
    for name in (*METHODS, "flow"):
        factor, words = abs(spectrum(game, name, eta)), state["rows"][name][0]
        if abs(factor - 1) > 1e-9:
            assert f"by about {factor:.4f}." in words
            assert words.startswith(("converges", "comes in") if factor < 1 else ("spirals out", "does not"))
        else:
            assert words.startswith(("circles", "creeps in", "neither settles"))
        if line := state["laws"][name]:
            (x, y), (to_x, to_y) = line
            rise = in_chart(state, factor ** np.array([0.0, STEPS]))
            assert to_y - y == pytest.approx(rise[1, 1] - rise[0, 1], abs=0.3)
    assert state["marks"] == pytest.approx([eta / 8, 0.5], abs=0.01)
    assert f"η/4\u00a0=\u00a0{eta / 4:.3f}" in state["key"] and not state["band"] and not state["orbit"]


def check_mean(state: dict, given: dict) -> None:
    """The share of the path's distance, unless the start of the mean outlives the path."""
    game = Bilinear() if given["game"] == "bilinear" else DiracGAN(given.get("gamma", 0.0))
    value, words = spectrum(game, given["of"], given["eta"]), state["rows"]["average"][0]
    if abs(value) <= given["beta"]:
        assert words.startswith("comes behind") and f"β = {given['beta']:.2f} a step" in words
        assert not state["laws"]["average"]
    elif abs(value.imag) < 1e-12:
        assert words.startswith("follows: this path does not turn")
    else:
        share = (1 - given["beta"]) * abs(value) / abs(value - given["beta"])
        assert f"about {share:.3f} of the path's distance" in words
        fate = "circles" if abs(abs(value) - 1) < 1e-9 else "runs out" if abs(value) > 1 else "comes in"
        assert f"it {fate} " in words


def check_shown(record: dict) -> None:
    """All that one reader saw of the page in the scenario `shown`."""
    for given, state in [(START, record["start"]), *((one["given"], one["state"]) for one in record["setups"])]:
        check_points(state, given)
        check_mean(state, given)
        (check_bilinear if given["game"] == "bilinear" else check_dirac)(state, given)
        assert state["note"] == f"distance at step {STEPS}" and state["arrows"] > 100
        if state is not record["start"]:
            assert all(words in state["said"] for words, *_ in state["rows"].values())
            assert f"η = {given['eta']:.2f}" in state["said"]


@pytest.mark.browser
def test_the_page_shows_what_nemlib_says_of_every_setting(seen):
    check_shown(seen["portrait"])
    rows = [one["state"]["rows"] for one in seen["portrait"]["setups"]]
    assert rows[0]["simultaneous"][0].startswith("spirals out")
    assert "runs out with the path" in rows[0]["average"][0] and "about 0.261 of" in rows[0]["average"][0]
    assert rows[2]["extragradient"][0].startswith("circles: at η = 1")
    assert rows[3]["simultaneous"][0].startswith("spirals out: near (0, 0)")
    assert rows[6]["simultaneous"][0].startswith("does not settle")
    assert rows[5]["flow"][0] == "circles: θ² + φ² stays at 2.500."
    assert rows[6]["flow"][0].startswith("creeps in")
    assert "does not turn" in rows[4]["average"][0] and rows[7]["average"][0].startswith("comes behind")


@pytest.mark.browser
@pytest.mark.parametrize("n", range(len(MUTANTS)))
def test_a_fault_in_the_page_is_noticed(seen, n):
    record = seen[f"mutant-{n}"]
    with pytest.raises(AssertionError):
        check_shown(record)


@pytest.mark.browser
def test_steps_are_taken_one_by_one(seen):
    hands, paths = seen["hands"], paths_of(START)
    for name, count in (("reset", 0), ("two", 2), ("calm", STEPS), ("again", 1)):
        state = hands[name]
        assert state["note"] == f"distance at step {count}" and state["said"].startswith(f"Step {count}. ")
        for path in METHODS:
            assert near(state["heads"][path], in_plane(state, paths[path][[count]])) or count > 90
            assert near(state["points"][path], visible(in_plane(state, paths[path][:count + 1]), state["plane"]))
        distance = np.linalg.norm(paths["alternating"][count])
        assert f"Alternating: distance {distance:.3f}." in state["said"]
        assert f"At step {count}: " in state["spoken"]


@pytest.mark.browser
def test_the_start_is_moved_by_keys_and_by_dragging(seen):
    hands = seen["hands"]
    assert near([hands["keyed"]["start"]], in_plane(hands["keyed"], np.array([[1.1, 0.6]])))
    assert "from (1.1, 0.6)" in hands["keyed"]["said"]
    assert near([hands["edge"]["start"]], in_plane(hands["edge"], np.array([[3.0, 0.6]])))
    assert near([hands["dragged"]["start"]], np.array([hands["dragged"]["to"]]), 1.6)


@pytest.mark.browser
def test_a_path_is_hidden_and_nobody_moves_without_a_step(seen):
    hands = seen["hands"]
    assert hands["hidden"]["said"] == "Alternating hidden." and not hands["hidden"]["rows"]["alternating"][2]
    assert not hands["hidden"]["points"]["alternating"] and not hands["hidden"]["orbit"]
    assert hands["edge"]["rows"]["alternating"][2] and hands["edge"]["orbit"]
    for name, words in (("idle", "the steps have no size"), ("middle", "this is the equilibrium")):
        assert all(words in row[0] for row in hands[name]["rows"].values())
        assert not any(hands[name]["laws"].values()) and not hands[name]["band"]


@pytest.mark.browser
def test_steps_play_and_pause(seen):
    motion = seen["motion"]
    assert motion["from"] == STEPS and motion["starts"] and motion["stays"] and motion["zero"] == 0
    assert motion["said"].startswith("Paused. Step ")


@pytest.mark.browser
def test_on_a_phone_everything_fits_and_answers_the_finger(seen):
    phone = seen["phone"]
    assert phone["width"] <= 360 and phone["theme"] == "dark" and phone["small"] == 0
    assert phone["tapped"] and phone["inside"] == [True, True]


@pytest.mark.browser
def test_colours_follow_light_and_dark_and_paper_shows_the_still_picture(seen):
    looks = seen["looks"]
    for column, name in enumerate(("light", "dark")):
        used = [PALETTE[explore.PORTRAIT_ROLES[path]][column] for path in (*METHODS, "average")]
        assert looks[name] == [f"rgb({', '.join(str(int(hue[k:k + 2], 16)) for k in (1, 3, 5))})"
                               for hue in used]
    assert looks["print"] == [[False, True]] * 2 and looks["ids"] == []


@pytest.mark.browser
def test_nothing_stands_in_the_way_of_a_screen_reader_and_no_error_is_heard(seen):
    assert seen["looks"]["violations"] == seen["looks"]["violationsDark"] == seen["phone"]["violations"] == []
    assert not [record["troubles"] for record in map(seen.__getitem__, seen) if record["troubles"]]
