"""Chapter 2's interactive figures: what Python packs, what JavaScript computes, what a reader sees."""

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

from nemlib.explore import page
from nemlib.explore import rbm as explore
from nemlib.explore.figure import LARGEST
from nemlib.plot import PALETTE
from nemlib.rbm import RBM, enumerate_binary

ROOT = Path(__file__).resolve().parent.parent
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
HEIGHT, WIDTH = 12, 10            # not square: swapped axes are seen


@cache
def chrome() -> str | None:
    spec = spec_from_file_location("install", ROOT / "tools" / "install.py")
    install = module_from_spec(spec)
    spec.loader.exec_module(install)
    return install.find_browser()


def node(script: str, *arguments: str, stdin: str | None = None) -> str:
    ran = subprocess.run([NODE, ROOT / "tests" / script, *arguments], input=stdin, capture_output=True,
                         text=True, timeout=110, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def golden(calls: list, mutant: dict | None = None) -> list:
    return json.loads(node("js/rbm_golden.mjs", stdin=json.dumps({"calls": calls, "mutant": mutant})))


def random_machine(visible: int, hidden: int, seed: int = 0, scale: float = 1.0) -> RBM:
    """Weights of every size, hidden units of unlike strength."""
    generator = torch.Generator().manual_seed(seed)
    machine = RBM(visible, hidden, generator, scale=scale, dtype=torch.float64)
    with torch.no_grad():
        machine.W *= torch.rand(hidden, generator=generator, dtype=torch.float64) + 0.2
        machine.a.copy_(torch.randn(visible, generator=generator, dtype=torch.float64))
        machine.b.copy_(torch.randn(hidden, generator=generator, dtype=torch.float64))
    return machine.requires_grad_(False)


@cache
def figures_machine() -> RBM:
    """Seven hidden units that hold strokes: rows and columns of a picture of 12 × 10 pixels."""
    machine = random_machine(HEIGHT * WIDTH, 7, seed=3, scale=0.3)
    with torch.no_grad():
        pictures = machine.W.T.reshape(7, HEIGHT, WIDTH)
        for j in range(7):
            pictures[j, 1 + j] += 2
            pictures[j, :, j + 2] += 2
        machine.W.copy_(pictures.flatten(1).T)
        machine.a.fill_(-2)
    return machine


@cache
def digits() -> Tensor:
    images = torch.zeros(2, HEIGHT, WIDTH)
    images[0, 1:11, 4:6] = 1
    images[1, 1:3, 1:9] = images[1, 3:11, 7:9] = 1
    return images


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


def figures() -> dict[str, object]:
    return {"landscape": explore.landscape(), "machine": explore.machine(figures_machine(), digits())}


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {name: figure._repr_html_() for name, figure in figures().items()}


def test_a_rebuilt_figure_is_the_same_figure(pages):
    explore._still_landscape.cache_clear()
    assert {name: figure._repr_html_() for name, figure in figures().items()} == pages


@pytest.mark.parametrize("which", ["landscape", "machine"])
def test_a_figure_asks_for_nothing(pages, which):
    text = pages[which]
    names_of_spaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?:[^\s'\"\\]*", text)) <= names_of_spaces
    assert not re.search(r"\b(import|require)\s*\(|<link|src=\"(?!data:)", text)


def test_the_landscape_is_as_small_as_any_figure_and_the_machine_within_its_own_limit(pages):
    assert len(pages["landscape"].encode()) < LARGEST
    largest = random_machine(784, explore.MOST_WEIGHTS // 784, scale=0.1)
    images = torch.zeros(explore.MOST_DIGITS, 28, 28)
    full = explore.machine(largest, images)._repr_html_()
    assert LARGEST < len(full.encode()) < explore.LARGEST_WITH_WEIGHTS


@needs_node
@pytest.mark.parametrize("which", ["landscape", "machine"])
def test_the_embedded_script_is_whole(pages, which):
    script, = Reader(pages[which]).scripts
    ran = subprocess.run([NODE, "--check", "-"], input=script, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_ids_come_from_the_name_and_the_copy(pages):
    assert Reader(pages["landscape"]).ids == ["nx-rbm-landscape-1"]
    second = explore.machine(figures_machine(), digits(), copy=2)._repr_html_()
    assert Reader(second).ids == ["nx-rbm-machine-2"]


def test_a_still_picture_keeps_its_words(pages):
    for which, words in (("landscape", "Two modes far apart"), ("machine", "completed")):
        image, = Reader(pages[which]).images
        assert len(image["alt"]) > 80 and image["src"].startswith("data:image/svg+xml,")
        assert words in urllib.parse.unquote(image["src"])


def test_a_terminal_shows_words():
    assert "it sticks" in repr(explore.landscape())
    assert "completes it sweep by sweep" in repr(explore.machine(figures_machine(), digits()))


def test_the_colours_are_the_books():
    colours = explore.landscape().data["palette"]
    assert {tuple(pair) for pair in colours.values()} <= set(PALETTE.values())
    sources = [path.read_text() for path in (ROOT / "nemlib" / "explore").glob("rbm*.*s")]
    assert len(sources) == 7
    assert not [found for text in sources for found in re.findall(r"#[0-9a-fA-F]{3,8}\b|rgb\(\d", text)]


def test_one_digit_and_a_name_are_enough():
    figure = explore.machine(figures_machine(), digits()[:1], names=["a one"], log_z=3.5)
    assert figure.data["names"] == ["a one"] and figure.data["logZ"] == 3.5


def test_square_images_may_come_flat():
    images = (uniforms(32, 0) < 0.5).float().reshape(2, 4, 4)
    flat = explore.machine(random_machine(16, 3), images.flatten(1))._repr_html_()
    assert flat == explore.machine(random_machine(16, 3), images)._repr_html_()


@pytest.mark.parametrize("make, words", [
    (lambda: explore.landscape(preset="Three modes"), "should be one of"),
    (lambda: explore.landscape(machine=random_machine(3, 4)), "4 visible and 3 hidden .* machine of 3 and 4"),
    (lambda: explore.machine(random_machine(784, 511), torch.zeros(1, 28, 28)),
     "400624 weights.*400000.*at most 510 hidden units"),
    (lambda: explore.machine(figures_machine(), torch.zeros(1, 28, 28)), "784 pixels.*120 visible units"),
    (lambda: explore.machine(figures_machine(), digits()[0]), r"\(12, 10\).*\(n, height, width\)"),
    (lambda: explore.machine(figures_machine(), torch.zeros(13, HEIGHT, WIDTH)), "n from 1 to 12"),
    (lambda: explore.machine(figures_machine(), digits() / 2), "0 or 1"),
    (lambda: explore.machine(figures_machine(), digits() * math.nan), "0 or 1"),
    (lambda: explore.machine(figures_machine(), digits(), names=["one"]), "2 digits and 1 names"),
])
def test_what_the_page_cannot_show_is_refused_in_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_machine_with_nan_is_refused():
    broken = random_machine(HEIGHT * WIDTH, 2)
    broken.b[0] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        explore.machine(broken, digits())


def test_the_pages_weights_are_within_half_a_level_of_the_trained_ones():
    machine = random_machine(30, 6)
    rounded = explore.page_machine(machine)
    half_level = machine.W.abs().amax(0) / 254
    assert ((rounded.W - machine.W).abs() <= half_level * (1 + 1e-5)).all()
    assert (rounded.W - machine.W).abs().max() > 0
    for got, wanted in ((rounded.a, machine.a), (rounded.b, machine.b)):
        assert torch.allclose(got, wanted, rtol=1e-3, atol=1e-7)


def test_a_hidden_unit_without_weights_stays_so():
    machine = random_machine(30, 6)
    machine.W[:, 2] = 0
    assert not explore.page_machine(machine).W[:, 2].any()


# ---- the presets are what they say ------------------------------------------------------------------------


def preset(name: str) -> RBM:
    return next(one for one in explore.PRESETS if one.name == name).machine()


def second_eigenvalue(machine: RBM) -> float:
    """Of T(v' | v) = Σ_h p(v' | h) p(h | v), a matrix of 16 × 16."""
    v, h = enumerate_binary(machine.visible), enumerate_binary(machine.hidden)

    def given(means: Tensor, states: Tensor) -> Tensor:
        return torch.where(states[None] > 0, means[:, None], 1 - means[:, None]).prod(-1)

    T = given(machine.hidden_given(v), h) @ given(machine.visible_given(h), v)
    return float(torch.linalg.eigvals(T).abs().sort(descending=True).values[1])


def test_without_edges_the_law_is_the_product_of_its_rims():
    law = explore.joint(preset("No edges"))
    assert (law - law.sum(1, keepdim=True) * law.sum(0)).abs().max() < 1e-14
    assert second_eigenvalue(preset("No edges")) < 1e-7
    featured = explore.joint(preset("One feature"))
    assert (featured - featured.sum(1, keepdim=True) * featured.sum(0)).abs().max() > 0.01


def test_one_hidden_unit_pairs_two_visible_ones():
    law, v = explore.joint(preset("One feature")).sum(1), enumerate_binary(4)
    alike = law @ (v[:, 0] == v[:, 1]).double()
    assert alike > 0.9 and abs(law @ (v[:, 2] == v[:, 3]).double() - 0.5) < 0.1


def test_two_modes_lie_in_opposite_corners_and_block_gibbs_seldom_crosses():
    law = explore.joint(preset("Two modes far apart"))
    assert law[0, 0] > 0.45 and abs(law[0, 0] - law[-1, -1]) < 1e-12
    assert second_eigenvalue(preset("Two modes far apart")) > 0.99
    chain = preset("Two modes far apart").gibbs(torch.zeros(200, 4, dtype=torch.float64), 20,
                                                torch.Generator().manual_seed(0))
    assert (chain.sum(1) > 2).double().mean() < 0.1


def test_weights_of_the_presets_can_be_reached_by_the_reader():
    for one in explore.PRESETS:
        values = np.concatenate([np.ravel(one.W), one.a, one.b])
        assert np.abs(values).max() <= explore.FARTHEST and not (values / explore.STEP % 1).any()
        assert 0 <= one.start[0] < 16 and 0 <= one.start[1] < 8


def test_a_machine_of_the_chapter_comes_first_with_weights_in_quarters():
    machine = random_machine(4, 3, scale=5)
    figure = explore.landscape(machine=machine)
    first = figure.data["presets"][0]
    assert (figure.data["first"], first["name"], len(figure.data["presets"])) == (0, "This machine", 4)
    wanted = (machine.W * 4).round().div(4).clamp(-8, 8)
    assert (torch.tensor(first["W"]) - wanted).abs().max() < 1e-12


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


def small_vectors() -> list[tuple[list, object]]:
    """Pairs of a call of the figures' JavaScript and what nemlib.rbm says, for machines of 4 × 3 units."""
    v, h = enumerate_binary(4), enumerate_binary(3)
    pairs = torch.cartesian_prod(torch.arange(16), torch.arange(8)).T
    V, H = v[pairs[0]], h[pairs[1]]
    machines, vectors = [one.machine() for one in explore.PRESETS], []
    for machine in machines + [random_machine(4, 3, seed, 2.0) for seed in range(4)]:
        given = {name: getattr(machine, name).tolist() for name in "Wab"}
        energies = machine.energy(V, H)
        wanted = [{"energy": e, "free": f, "hidden": ph, "visible": pv} for e, f, ph, pv in zip(
            energies.tolist(), machine.free_energy(V).tolist(), machine.hidden_given(V).tolist(),
            machine.visible_given(H).tolist())]
        vectors.append((["measures", [given, [list(pair) for pair in zip(V.tolist(), H.tolist())]]], wanted))
        vectors.append((["joint", [given]], {
            "energies": energies.tolist(), "logZ": machine.log_z().item(),
            "p": (-energies - machine.log_z()).exp().tolist(), "pv": machine.log_prob(v).exp().tolist(),
            "ph": (-machine.hidden_free_energy(h) - machine.log_z()).exp().tolist()}))
    return vectors


def eigenvalue_vectors() -> list[tuple[list, object]]:
    machines = [one.machine() for one in explore.PRESETS[1:]]
    machines += [random_machine(4, 3, seed, 2.0) for seed in range(6)]
    return [(["joint", [{name: getattr(machine, name).tolist() for name in "Wab"}]],
             {"lambda": second_eigenvalue(machine)}) for machine in machines]


def uniforms(count: int, seed: int) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sweep_vectors(visible: int = 120, count: int = 6) -> list[tuple[list, object]]:
    """Sweeps of the page with its rounded weights, and the same of nemlib's RBM with the same uniforms."""
    machine = random_machine(visible, 9, seed=5, scale=0.4)
    rounded, packed, vectors = explore.page_machine(machine), explore._packed(machine), []
    for seed, known in ((0, None), (1, torch.arange(visible) % 3 == 0)):
        stream = iter(uniforms(count * (visible + 9) + 4, seed).tolist())
        v = (uniforms(visible, seed + 10) < 0.4).double()
        call = [packed, v.int().tolist(), uniforms(count * (visible + 9) + 4, seed).tolist(), count,
                None if known is None else known.int().tolist()]
        made = []
        for _ in range(count):
            ph = rounded.hidden_given(v[None])[0]
            h = torch.tensor([float(next(stream) < p) for p in ph.tolist()], dtype=torch.float64)
            mean = rounded.visible_given(h[None])[0]
            drawn = torch.tensor([float(next(stream) < p) for p in mean.tolist()], dtype=torch.float64)
            v = drawn if known is None else torch.where(known, v, drawn)
            made.append({"h": h.tolist(), "mean": mean.tolist(), "v": v.tolist()})
        vectors.append((["sweeps", call], {"made": made, "left": 4}))
        vectors.append((["measures", [packed, [[v.tolist(), h.tolist()]]]], [{
            "energy": rounded.energy(v[None], h[None]).item(), "free": rounded.free_energy(v[None]).item(),
            "hidden": rounded.hidden_given(v[None])[0].tolist(), "visible": mean.tolist()}]))
    return vectors


@pytest.fixture(scope="module")
def small_golden() -> list:
    return small_vectors() + eigenvalue_vectors()


@pytest.fixture(scope="module")
def sweep_golden() -> list:
    return sweep_vectors()


@needs_node
def test_energies_laws_and_conditionals_of_the_page_are_nemlibs():
    assert disagreement(small_vectors()) < 1e-12


@needs_node
def test_the_pages_second_eigenvalue_is_that_of_the_sweeps_matrix():
    assert disagreement(eigenvalue_vectors()) < 1e-9


@needs_node
def test_sweeps_of_the_page_are_nemlibs_with_the_same_rounded_weights(sweep_golden):
    assert disagreement(sweep_golden) < 1e-12


@needs_node
@pytest.mark.parametrize("change, to", [
    ("let sum = b[j];", "let sum = 0;"),
    ("Float64Array.from(a)", "new Float64Array(a.length)"),
    ("W[j * visible + i]", "W[i * 3 + j]"),
    ("-dot(h, hiddenInput(machine, v)) - dot(v, machine.a)", "-dot(h, hiddenInput(machine, v))"),
    ("sum - softplus(x)", "sum - softplus(-x)"),
    ("Math.log1p(Math.exp(-Math.abs(x)))", "Math.log(2)"),
    ("1 / (1 + Math.exp(-x))", "1 / (1 + Math.exp(x))"),
    ("(number >> (units - 1 - i)) & 1", "(number >> i) & 1"),
    (", 0)) - lowest;", ", 0)) + lowest;"),
    ("ph[at % columns] += value", "ph[at % columns] += 1 / 8"),
    ("eigenvalues(S)[1]", "eigenvalues(S)[2]"),
    ("Math.sqrt(pv[Math.floor(at / n)] * ph[at % n])", "Math.sqrt(pv[Math.floor(at / n)])"),
])
def test_a_wrong_energy_law_or_eigenvalue_is_noticed(small_golden, change, to):
    assert disagreement(small_golden, {"file": "rbm_maths.js", "from": change, "to": to}) > 1e-6


@needs_node
@pytest.mark.parametrize("change, to", [
    ("random.uniform() < mean", "random.uniform() > mean"),
    ("(next[i] = v[i])", "(next[i] = 0)"),
    ("scales[Math.floor(at / visible)]", "scales[0]"),
    ("const next = draw(mean, random);", "const next = draw(mean, random); random.uniform();"),
    ("visibleGiven(machine, h);", "visibleGiven(machine, hiddenGiven(machine, v));"),
])
def test_a_wrong_sweep_is_noticed(sweep_golden, change, to):
    assert disagreement(sweep_golden, {"file": "rbm_maths.js", "from": change, "to": to}) > 1e-6


@needs_node
def test_the_pages_mean_is_nemlibs_inpainting():
    """RBM.inpaint draws its uniforms as the page does: a start, and then h and v of each sweep."""
    machine = figures_machine()
    rounded, packed = explore.page_machine(machine), explore._packed(machine)
    visible, count = HEIGHT * WIDTH, 30
    image, known = digits()[1].flatten().double(), torch.arange(visible) < visible // 2
    generator = torch.Generator().manual_seed(9)
    wanted = rounded.inpaint(image[None], known[None], count, 5, generator)[0]
    again, drawn = torch.Generator().manual_seed(9), []
    for size in [visible] + [7, visible] * (count + 5):
        drawn.append(torch.rand(1, size, generator=again, dtype=torch.float64)[0])
    start = torch.where(known, image, (drawn[0] < 0.5).double())
    call = [packed, start.int().tolist(), torch.cat(drawn[1:]).tolist(), count + 5, known.int().tolist()]
    made = golden([["sweeps", call]])[0]["made"]
    mean = torch.tensor([one["mean"] for one in made[5:]], dtype=torch.float64).mean(0)
    assert (torch.where(known, image, mean) - wanted).abs().max() < 1e-12
    assert ((wanted[~known] > 0.01) & (wanted[~known] < 0.99)).any()


@needs_node
def test_the_page_unpacks_the_digits():
    figure = explore.machine(figures_machine(), digits())
    read, = golden([["rbm.images", [figure.data["digits"], 2, HEIGHT * WIDTH]]])
    assert read == digits().flatten(1).int().tolist()


# ---- a reader in a browser --------------------------------------------------------------------------------


def write_pages(folder: Path) -> None:
    landscape, machine = explore.landscape(), explore.machine(figures_machine(), digits(), log_z=100.0)
    template = f"<template>{landscape._repr_html_()}{machine._repr_html_()}</template></body>"
    pages = {"landscape": page(landscape), "machine": page(machine), "both": page(landscape, machine),
             "host": page().replace("</body>", template)}
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")


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
    return Records(json.loads(node("browser/explore_rbm.mjs", chrome(), str(folder), *shots)))


ENERGY, FREE, LAMBDA = "Energy E(v, h)", "Free energy F(v)", "Eigenvalue λ₂ of a sweep"


def state_of(record: dict) -> tuple[Tensor, Tensor]:
    """v and h as the graph shows them, hidden units first."""
    units = torch.tensor([record["state"]], dtype=torch.float64)
    return units[:, 3:], units[:, :3]


def shades(heights: Tensor) -> list[float]:
    """How opaque the grid's 128 states are drawn."""
    return (0.02 + 0.98 * heights / heights.max()).flatten().tolist()


@pytest.mark.browser
@pytest.mark.parametrize("name", ["No edges", "One feature", "Two modes far apart"])
def test_the_numbers_beside_the_landscape_are_nemlibs(seen, name):
    record, machine = seen["landscape"]["pressed"][name], preset(name)
    v, h = state_of(record)
    p_joint = (-machine.energy(v, h) - machine.log_z()).exp().item()
    assert float(record["log Z"]) == pytest.approx(machine.log_z().item(), abs=6e-4)
    assert float(record[FREE]) == pytest.approx(machine.free_energy(v).item(), abs=6e-4)
    assert float(record[ENERGY]) == pytest.approx(machine.energy(v, h).item(), abs=6e-3)
    assert float(record["p(v, h)"]) == pytest.approx(p_joint, abs=6e-5)
    assert float(record["p(v)"]) == pytest.approx(machine.log_prob(v).exp().item(), abs=6e-5)
    assert float(record[LAMBDA]) == pytest.approx(second_eigenvalue(machine), abs=6e-5)
    conditionals = torch.cat([machine.hidden_given(v), machine.visible_given(h)], 1)[0]
    assert record["conditionals"] == pytest.approx(conditionals.tolist(), abs=0.0051)
    assert record["shades"] == pytest.approx(shades(explore.joint(machine)), abs=6e-4)
    shown = next(one for one in explore.PRESETS if one.name == name)
    rows = [value for row, a in zip(shown.W, shown.a) for value in (*row, a)]
    assert record["weights"] == [*rows, *shown.b] and record["words"] == shown.words


@pytest.mark.browser
def test_the_first_state_is_the_preset_that_was_asked_for(seen):
    assert seen["landscape"]["first"]["words"] == explore.PRESETS[1].words
    assert seen["landscape"]["firstGrid"]["state"] == [1, 0, 1, 1, 1, 0, 1]


@pytest.mark.browser
def test_between_two_modes_the_chain_sticks_and_in_the_long_run_crosses(seen):
    record = seen["landscape"]
    stuck = record["stuck"]["visits"]
    assert record["runs"] and sum(stuck) >= 20 and stuck[0] >= 15 and record["crosses"]
    assert re.search("apart in total variation.*forgets slowly", record["stuck"]["words"])
    machine = preset("Two modes far apart")
    v, h = enumerate_binary(4), enumerate_binary(3)
    energies = machine.energy(v.repeat_interleave(8, 0), h.repeat(16, 1))
    assert record["energy"]["shades"] == pytest.approx(shades(energies.max() - energies), abs=6e-4)


@pytest.mark.browser
def test_a_sweep_is_a_move_along_the_row_and_a_move_along_the_column(seen):
    record = seen["landscape"]
    start, half, whole = record["pressed"]["One feature"], record["half"], record["whole"]
    assert start["state"][3:] == half["state"][3:] and half["state"][:3] == whole["state"][:3]
    assert "along the row" in start["next"] and "along the column" in half["next"]
    assert "along the row" in whole["next"] and half["said"].startswith("A move along the row: h is now ")
    assert whole["said"].startswith("Sweep 1 is complete")
    assert whole["words"].startswith("After 1 sweep the chain")
    assert (sum(start["visits"]), sum(half["visits"]), sum(whole["visits"])) == (0, 0, 1)
    v = int("".join(map(str, whole["state"][3:])), 2)
    assert whole["visits"][v] == 1
    assert (sum(record["two"]["visits"]), sum(record["reset"]["visits"])) == (2, 0)


@pytest.mark.browser
def test_with_motion_a_sweep_is_the_same_sweep(seen):
    assert seen["motion"]["done"] and seen["motion"]["visits"] >= 3


@pytest.mark.browser
def test_weights_are_moved_by_keys_by_dragging_and_by_the_slider(seen):
    record = seen["editing"]
    keyed = record["keyed"]["weights"]
    assert keyed[:2] == [1.5, 8.0] and keyed[2] == 0 and record["pressed"] == 0
    machine = preset("No edges")
    machine.W[0, :2] = torch.tensor([1.5, 8.0], dtype=torch.float64)
    assert float(record["keyed"]["log Z"]) == pytest.approx(machine.log_z().item(), abs=6e-4)
    assert record["keyed"]["shades"] == pytest.approx(shades(explore.joint(machine)), abs=6e-4)
    assert record["keyed"]["words"].startswith("W₁₂ = 8.00: log Z is now ")
    assert record["dragged"]["weights"][5] == 2 and record["dragged"]["said"].startswith("W₂₂ = 2.00")
    assert record["slid"][5] == 1.75
    assert record["edge"] == "W₄₃" and record["sliderShows"] == 0 and record["ids"] == []


@pytest.mark.browser
def test_a_state_is_chosen_by_mouse_by_arrows_and_by_its_units(seen):
    record = seen["editing"]
    assert record["clicked"]["state"] == [1, 1, 0, 1, 0, 0, 1]
    assert record["moved"]["state"] == [1, 0, 1, 1, 0, 1, 0]
    assert record["moved"]["said"].startswith("v = 1010, h = 101: energy ")
    assert record["corner"]["state"] == [1, 1, 1, 1, 0, 1, 0]
    assert record["turned"]["state"] == [1, 1, 1, 0, 0, 1, 0]


def dark(record: dict) -> np.ndarray:
    """1 where a pixel of the light page is ink, in either colour."""
    colours = np.array([[int(c) for c in colour.split(",")] for colour in record["pixels"]])
    return (colours.mean(1) < 150).astype(int).reshape(HEIGHT, WIDTH)


def sweeps(record: dict) -> int:
    return int(re.sub(r"\D", "", record["Sweeps"]))


@pytest.mark.browser
def test_the_machine_shows_a_digit_and_its_free_energy(seen):
    machine = explore.page_machine(figures_machine())
    for record, image in ((seen["machine"]["start"], digits()[0]), (seen["machine"]["second"], digits()[1])):
        v = image.flatten()[None].double()
        assert (dark(record) == image.int().numpy()).all()
        assert float(record[FREE]) == pytest.approx(machine.free_energy(v).item(), abs=0.051)
        on = machine.hidden_given(v).sum().item()
        assert float(record["Hidden units on"]) == pytest.approx(on, abs=0.051)
        assert record["F(v) − F(given)"] == "0.0" and sweeps(record) == 0
    assert seen["machine"]["start"]["words"].startswith("This is digit 1")
    assert seen["machine"]["start"]["captions"][1] == "P(v | h): no sweep yet"
    assert seen["machine"]["noise"]["words"].startswith("This is noise")
    assert 30 < dark(seen["machine"]["noise"]).sum() < 90


@pytest.mark.browser
def test_one_sweep_is_shown_in_the_state_in_the_belief_and_in_the_mean(seen):
    machine, one = explore.page_machine(figures_machine()), seen["machine"]["one"]
    v = torch.from_numpy(dark(one)).flatten()[None].double()
    assert sweeps(one) == 1 and one["said"] == one["words"]
    assert one["words"].startswith("Sweep 1 from digit 1")
    assert float(one[FREE]) == pytest.approx(machine.free_energy(v).item(), abs=0.051)
    assert one["belief"] == one["mean"] and one["captions"][2] == "Mean over 1 sweep"
    assert seen["machine"]["two"]["captions"][2] == "Mean over 2 sweeps"
    # the belief is P(v = 1 | h) for one of the 2^7 states of h, as a blend of paper and ink
    ends = [np.array([int(PALETTE[name][0][at:at + 2], 16) for at in (1, 3, 5)]) for name in ("paper", "ink")]
    belief = machine.visible_given(enumerate_binary(7)).numpy()[..., None]
    shades = np.round(ends[0] + belief * (ends[1] - ends[0]))
    shown = np.array([[int(c) for c in colour.split(",")] for colour in one["belief"]])
    assert np.abs(shades - shown).max((1, 2)).min() <= 1


@pytest.mark.browser
def test_what_is_known_is_held_and_the_rest_is_completed(seen):
    record, given = seen["machine"], digits()[0].int().numpy()
    assert record["erased"]["held"] and not record["second"]["held"] and record["runs"]
    assert record["erased"]["words"].startswith("60 pixels unknown")
    for name in ("erased", "filled"):
        assert (dark(record[name])[:6] == given[:6]).all()
    assert (dark(record["erased"])[6:] != given[6:]).sum() > 10
    assert sweeps(record["filled"]) >= 100 and record["filled"]["said"].startswith("Paused. Sweep ")
    assert record["anew"][2] == "Mean over sweeps"
    assert (dark(record["left"])[:, 5:] == given[:, 5:]).all() and sweeps(record["left"]) == 0
    assert (dark(record["restored"]) == given).all() and not record["restored"]["held"]
    assert record["nothing"].startswith("Every pixel is known and held")


@pytest.mark.browser
def test_pixels_are_painted_by_mouse_and_by_key(seen):
    record, given = seen["painting"], digits()[0].int().numpy()
    ink, paper = dark(record["ink"]), dark(record["paper"])
    assert ink[9:11, 1:10].all() and (ink[:9] == given[:9]).all() and not ink[11].any()
    assert not paper[9:11, 4:10].any() and paper[9:11, 1:4].all()
    assert record["ink"]["words"].startswith("This is your drawing")
    unknown = record["unknown"]
    assert unknown["held"] and unknown["words"].startswith("21 pixels unknown")
    swept = dark({"pixels": record["swept"]})
    outside = np.ones((HEIGHT, WIDTH), dtype=bool)
    outside[1:4, 1:8] = False
    assert (swept[outside] == paper[outside]).all()
    assert record["from"].startswith("Row 7, column 6: v = ")
    assert record["to"].startswith("Row 11, column 5: v = ")
    assert dark({"pixels": record["keyed"]})[10:12, 4:6].all()


@pytest.mark.browser
def test_hidden_units_are_looked_at_by_key_and_by_mouse(seen):
    said, first, second, last = seen["painting"]["units"]
    assert said.startswith("Unit 1, P = ") and first.startswith("Unit 1: weights")
    assert second.startswith("Unit 2: weights") and last.startswith("Unit 7: weights")
    assert seen["painting"]["hovered"].startswith("Unit 1: weights") and seen["painting"]["sameFilter"]


@pytest.mark.browser
def test_on_a_phone_everything_fits_and_answers_the_finger(seen):
    phone = seen["phone"]
    assert phone["width"] <= 360 and phone["theme"] == ["dark"] * 2 and phone["small"] == 0
    assert phone["dragged"] == 1 and phone["tapped"] == [0, 0, 1, 0, 0, 0, 1]
    assert phone["sweeps"] == "1" and phone["painted"]


@pytest.mark.browser
def test_colours_follow_light_and_dark_and_paper_shows_the_still_picture(seen):
    looks = seen["looks"]
    assert all(light != dark for light, dark in zip(looks["light"], looks["dark"]))
    assert looks["print"] == [[False, True]] * 2


@pytest.mark.browser
def test_nothing_stands_in_the_way_of_a_screen_reader(seen):
    assert seen["looks"]["violations"] == seen["looks"]["violationsDark"] == seen["phone"]["violations"] == []


@pytest.mark.browser
def test_figures_work_where_html_is_inserted(seen):
    host = seen["host"]
    assert host["live"] == 2 and host["sweeps"] == "1" and "along the column" in host["next"]


@pytest.mark.browser
def test_no_error_and_no_request(seen):
    assert {name: seen[name]["troubles"] for name in seen} == {name: [] for name in seen}
