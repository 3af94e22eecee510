"""The mask x-ray of chapter 6: what Python packs, what JavaScript computes, what a reader sees."""

import json
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

from nemlib.explore import made as explore
from nemlib.explore import page
from nemlib.made import Connectivity, connectivity
from nemlib.plot import PALETTE

ROOT = Path(__file__).resolve().parent.parent
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
LOW = "₀₁₂₃₄₅₆₇₈"


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


def golden(calls: list, mutant: tuple[str, str] | None = None) -> list:
    given = {"calls": calls, "mutant": mutant and dict(zip(("from", "to"), mutant))}
    return json.loads(node("js/made_xray_golden.mjs", stdin=json.dumps(given)))


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
    text = explore.xray()._repr_html_()
    explore._still_xray.cache_clear()
    assert explore.xray()._repr_html_() == text
    assert Reader(text).ids == ["nx-made-xray-1"]
    assert Reader(explore.xray(copy=2)._repr_html_()).ids == ["nx-made-xray-2"]


def test_the_figure_asks_for_nothing_and_is_within_its_limit():
    for figure in (explore.xray(), explore.xray(8, (10, 10), order="reversed", direct=True)):
        text = figure._repr_html_()
        assert set(re.findall(r"https?:[^\s'\"\\]*", text)) == {"http://www.w3.org/2000/svg"}
        assert not re.search(r"\b(import|require)\s*\(|<link|src=\"(?!data:)", text)
        assert len(text.encode()) < explore.LARGEST_XRAY


@needs_node
def test_the_embedded_script_is_whole():
    script, = Reader(explore.xray()._repr_html_()).scripts
    ran = subprocess.run([NODE, "--check", "-"], input=script, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def still(*given, **more) -> tuple[str, str]:
    """The still picture's SVG and its alternative text."""
    image, = Reader(explore.xray(*given, **more)._repr_html_()).images
    return urllib.parse.unquote(image["src"].removeprefix("data:image/svg+xml,")), image["alt"]


def rows_of_digits(svg: str) -> list[str]:
    return re.findall(r"<text x='[\d ]+' y='\d+'>(\d+)</text>", svg)


@pytest.mark.parametrize("order, widths", [(None, (7,)), ([2, 0, 4, 1, 3], (4, 3)), ([1, 0, 2], (1,))])
def test_the_still_picture_holds_the_masks_and_the_paths_of_nemlib(order, widths):
    dimensions = len(order) if order else 6
    svg, alt = still(dimensions, widths, order=order or "natural")
    plan = connectivity(dimensions, widths, order=order or "natural")
    pixels = plan.order
    masks = plan.masks()
    masks[0], masks[-1] = masks[0][:, pixels], masks[-1][pixels]
    wanted = ["".join(map(str, row)) for mask in masks for row in mask.int().tolist()]
    paths = plan.paths().long()[pixels][:, pixels]
    assert paths.max() < 10
    wanted += ["".join(map(str, row)) for row in paths.tolist()]
    found = iter(rows_of_digits(svg))
    assert all(row in found for row in wanted)                        # in this order, with headings between
    edges = sum(int(mask.sum()) for mask in masks)
    lines = re.findall(r"<path d='([^']*)' stroke='#", svg)
    assert sum(line.count("L") for line in lines) == edges
    assert f"{plan.lost()} of the {dimensions * (dimensions - 1) // 2} pairs" in alt
    for letter in "xa":
        assert all(f">{letter}{LOW[d + 1]}" in svg for d in range(dimensions))


def test_the_still_picture_is_well_formed_and_draws_the_direct_connections():
    from xml.etree import ElementTree

    svg, _ = still(5, (4,), direct=True)
    ElementTree.fromstring(svg)
    dashed, = re.findall(r"<path d='([^']*)' stroke='#\w+' stroke-dasharray", svg)
    assert dashed.count("L") == 10
    assert "stroke-dasharray" not in still(5, (4,))[0]
    plan = connectivity(5, [4])
    more = plan.paths().long() + plan.direct()
    assert "".join(map(str, more[4].tolist())) in rows_of_digits(svg)


def test_a_terminal_shows_words():
    assert "does not come before the output" in repr(explore.xray())


def test_the_colours_are_the_books():
    assert {tuple(pair) for pair in explore.xray().data["palette"].values()} <= set(PALETTE.values())
    sources = [path.read_text() for path in (ROOT / "nemlib" / "explore").glob("made_xray*.*s")]
    assert len(sources) == 3
    assert not [found for text in sources for found in re.findall(r"#[0-9a-fA-F]{3,8}\b|rgb\(\d", text)]
    eight = [explore.xray().data["palette"][f"c{n}"] for n in range(1, 9)]
    assert len(set(map(tuple, eight))) == 8


def test_orderings_by_name():
    def order(*given) -> list[int]:
        return explore.xray(given[0], order=given[1]).data["start"]["own"]

    assert order(6, "natural") == [0, 1, 2, 3, 4, 5] and order(3, "reversed") == [2, 1, 0]
    assert order(6, "columns") == [0, 3, 1, 4, 2, 5] and order(5, "columns") == [0, 1, 2, 3, 4]
    assert order(2, "columns") == [0, 1]
    assert explore.xray(3, order=torch.tensor([2, 0, 1])).data["start"]["order"] == "own"


@pytest.mark.parametrize("make, words", [
    (lambda: explore.xray(9), "2 to 8 inputs, but 9 came"),
    (lambda: explore.xray(1), "2 to 8 inputs, but 1 came"),
    (lambda: explore.xray(widths=(11,)), r"1 to 10 units, but widths \[11\] came"),
    (lambda: explore.xray(widths=(3, 0)), r"widths \[3, 0\]"),
    (lambda: explore.xray(widths=()), "one or two hidden layers"),
    (lambda: explore.xray(widths=(2, 2, 2)), "one or two hidden layers"),
    (lambda: explore.xray(order="random"), "should be one of.*'columns'.*or a permutation"),
    (lambda: explore.xray(3, order=[0, 1, 1]), "each.* once"),
    (lambda: explore.xray(3, order=[0, 1]), "3 inputs"),
    (lambda: explore.xray(seed=0), "1 to 999, but 0 came"),
])
def test_what_the_page_cannot_show_is_refused_in_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# ---- JavaScript against nemlib -----------------------------------------------------------------------------


def planted_masks(plan: Connectivity) -> list[torch.Tensor]:
    """With ≥ where the output mask has >."""
    *hidden, _ = plan.masks()
    return [*hidden, plan.position[:, None] >= plan.degrees[-1]]


def product(masks: list[torch.Tensor]) -> torch.Tensor:
    paths, *others = (mask.long() for mask in masks)
    for mask in others:
        paths = mask @ paths
    return paths


@cache
def plans(count: int = 120) -> list[Connectivity]:
    """Random networks of every size that the page allows."""
    sizes = np.random.default_rng(5)
    made = []
    for seed in range(count):
        widths = sizes.integers(1, 11, sizes.integers(1, 3)).tolist()
        degrees = ("even", "uniform", "shuffled")[seed % 3]
        D = int(sizes.integers(2, 9))
        made.append(connectivity(D, widths, order="random", degrees=degrees, seed=seed))
    return made


def net(plan: Connectivity, *, direct: bool = False, planted: bool = False) -> dict:
    return {"order": plan.order.tolist(), "degrees": [one.tolist() for one in plan.degrees], "direct": direct,
            "planted": planted}


def wanted(plan: Connectivity, direct: bool, planted: bool) -> dict:
    """What Python says of it."""
    masks = planted_masks(plan) if planted else plan.masks()
    N = product(masks) if planted else plan.paths().long()
    before = plan.direct()
    order = plan.order.tolist()
    return {
        "masks": [mask.int().tolist() for mask in masks], "direct": before.int().tolist(),
        "position": plan.position.tolist(), "N": N.tolist(),
        "all": (N + before.long() if direct else N).tolist(),
        "legal": len(order) * (len(order) - 1) // 2,
        "lost": [[d, i] for d in order for i in order if before[d, i] and not N[d, i]],
        "blind": [d for d in order[1:] if not (N[d].bool() & before[d]).any()],
        "leaks": [d for d in order if N[d, d]],
    }


def gradient(plan: Connectivity, made: dict, direct: bool, planted: bool) -> tuple[list, np.ndarray]:
    """Outputs and Jacobian at the page's weights, by autograd."""
    masks = planted_masks(plan) if planted else plan.masks()
    weights = [torch.tensor(one, dtype=torch.float64) * mask for one, mask in zip(made["weights"], masks)]
    skip = torch.tensor(made["A"], dtype=torch.float64) * plan.direct()

    def outputs(x: torch.Tensor) -> torch.Tensor:
        h = x
        for layer, (weight, bias) in enumerate(zip(weights, made["biases"])):
            h = weight @ h / weight.shape[1] ** 0.5 + torch.tensor(bias, dtype=torch.float64)
            h = h.tanh() if layer < len(weights) - 1 else h
        return h + skip @ x if direct else h

    x = torch.tensor(made["x"], dtype=torch.float64)
    return outputs(x).tolist(), torch.autograd.functional.jacobian(outputs, x).numpy()


CASES = [(direct, planted) for direct in (False, True) for planted in (False, True)]


def disagreement(mutant: tuple[str, str] | None = None) -> list[str]:
    """Where the page's numbers are not nemlib's: for every network, with and without direct and planted."""
    given = [(plan, *CASES[n % 4]) for n, plan in enumerate(plans()[:40 if mutant else None])]
    calls = [["shown", [net(plan, direct=direct, planted=planted), n]]
             for n, (plan, direct, planted) in enumerate(given)]
    faults = []
    for (plan, direct, planted), shown in zip(given, golden(calls, mutant)):
        for name, value in wanted(plan, direct, planted).items():
            faults += [name] if shown[name] != value else []
        if any(len(a) != len(b) for a, b in zip(shown["made"]["weights"], plan.masks())):
            faults.append("made")
            continue
        outputs, J = gradient(plan, shown["made"], direct, planted)
        mine = np.array(shown["jacobian"], dtype=float)
        faults += ["outputs"] if np.abs(np.array(shown["outputs"], float) - outputs).max() > 1e-12 else []
        faults += ["jacobian"] if not np.abs(mine - J).max() < 1e-12 else []
        faults += ["zeros"] if ((mine == 0) != (np.array(shown["all"]) == 0)).any() else []
    return faults


def test_the_test_networks_show_every_fault_that_there_is():
    assert sum(plan.lost() > 0 for plan in plans()) > 30
    assert sum(bool(plan.blind().any()) for plan in plans()) > 10
    for plan in plans():
        assert len(wanted(plan, False, False)["lost"]) == plan.lost()
        assert sorted(wanted(plan, False, False)["blind"]) == plan.blind().nonzero().flatten().tolist()


@needs_node
def test_masks_paths_losses_and_the_jacobian_are_nemlibs():
    assert disagreement() == []


@needs_node
@pytest.mark.parametrize("change, to, fault", [
    ("(mine, below) => mine >= below)", "(mine, below) => mine > below)", "N"),
    ("? mine >= below : mine > below", "? mine >= below : mine >= below", "N"),
    ("net.planted ? mine", "!net.planted ? mine", "leaks"),
    ("const layers = [o, ...net.degrees];", "const layers = [net.order, ...net.degrees];", "masks"),
    ("o[d] = t + 1;", "o[d] = t;", "position"),
    ("sum + value * B[k][c]", "Math.max(sum, value * B[k][c])", "N"),
    ("o[i] < o[d] && N[d][i] === 0", "N[d][i] === 0", "lost"),
    ("order.slice(1).filter", "order.filter", "blind"),
    ("(count) => count === 0", "(count, i) => count === 0 || i > 0", "blind"),
    ("N[d][d] > 0", "N[d][0] > 0", "leaks"),
    ("net.direct ? plus(N, direct(net.order)) : N", "N", "all"),
    ("(D * (D - 1)) / 2", "(D * D) / 2", "legal"),
    ("1 - Math.tanh(s) ** 2", "1 - Math.tanh(s)", "jacobian"),
    ("one * slopes[r]", "one", "jacobian"),
    ("sums.map(Math.tanh) : sums", "sums : sums", "outputs"),
    ("return net.direct ? plus(J, masked(made.A, direct(net.order))) : J;", "return J;", "zeros"),
])
def test_a_wrong_mask_or_count_is_noticed(change, to, fault):
    assert fault in disagreement((change, to))


def degree_faults(mutant: tuple[str, str] | None = None) -> int:
    sizes = [(D, H) for D in range(2, 9) for H in range(1, 11)]
    found = golden([["evenDegrees", [D, H]] for D, H in sizes], mutant)
    return sum(one != connectivity(D, [H]).degrees[0].tolist() for (D, H), one in zip(sizes, found))


@needs_node
def test_evenly_spaced_degrees_are_nemlibs():
    assert degree_faults() == 0
    assert degree_faults(("1 + Math.floor((j * (D - 1)) / H)", "1 + (j % (D - 1))")) > 0


def live_faults(mutant: tuple[str, str] | None = None) -> int:
    """Connections and units on the paths from some inputs to some outputs, against products of masks."""
    faults, calls, expected = 0, [], []
    for n, plan in enumerate(plans(40)):
        every, size = list(range(plan.dimensions)), plan.dimensions
        ends = ([every, every], [[int(plan.order[size // 3])], [int(plan.order[2 * size // 3])]])[n % 2]
        masks = [mask.double() for mask in plan.masks()]
        calls.append(["onPaths", [[mask.int().tolist() for mask in masks], *ends]])
        start, stop = (torch.zeros(plan.dimensions, dtype=torch.float64) for _ in ends)
        start[ends[0]], stop[ends[1]] = 1, 1
        up = [start]
        for mask in masks:
            up.append(mask @ up[-1])
        down = [stop]
        for mask in masks[::-1]:
            down.insert(0, mask.T @ down[0])
        expected.append({
            "units": [(a * b > 0).int().tolist() for a, b in zip(up, down)],
            "edges": [(mask * below * above[:, None] > 0).int().tolist()
                      for mask, below, above in zip(masks, up, down[1:])]})
    for found, value in zip(golden(calls, mutant), expected):
        faults += found != value
    return faults


@needs_node
def test_what_lights_up_is_what_lies_on_a_path():
    assert live_faults() == 0
    assert live_faults(("row[k] && above[r]", "above[r]")) > 0
    assert live_faults(("one && below[k]", "one")) > 0
    assert live_faults(("up[l][k] * down[l + 1][r]", "up[l][k]")) > 0


@needs_node
def test_what_is_known_without_python():
    ran = subprocess.run([NODE, "--test", ROOT / "tests" / "js" / "made_xray.test.mjs"], capture_output=True,
                         text=True, timeout=100, cwd=ROOT)
    assert ran.returncode == 0, ran.stdout


# ---- a reader in a browser --------------------------------------------------------------------------------

# Faults planted into the page's own script, one at a time.
MUTANTS = [
    ("net.planted ? mine >= below", "false ? mine >= below"),
    ("hover = pair;", "hover = { d: pair.i, i: pair.d };"),
    ("given(pair.i), given(pair.d))", "given(pair.d), given(pair.i))"),
    ('d === i && count ? "nx-xray-leak"', 'd === i && !count ? "nx-xray-leak"'),
    ("const other = J[d][i] !== 0;", "const other = legal(d, i);"),
    ("String(now.lost.length)", "String(now.blind.length)"),
    ("leakWords() + lostWords()", "lostWords()"),
    ("settings.direct = on;", "settings.direct = false;"),
]


def write_pages(folder: Path) -> None:
    text = page(explore.xray())
    made = {"xray": text, "two": page(explore.xray(), explore.xray(8, (10, 10), copy=2))}
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
    return Records(json.loads(node("browser/explore_made_xray.mjs", chrome(), str(folder), *shots)))


def plan_of(state: dict) -> Connectivity:
    """The network that the page shows, as it says in its strip and in its units."""
    heights = sorted({y for y, _ in state["degrees"]}, reverse=True)     # the first layer stands lowest
    degrees = [[m for y, m in state["degrees"] if y == height] for height in heights]
    return connectivity(len(state["order"]), [len(one) for one in degrees],
                        order=[pixel - 1 for pixel in state["order"]], degrees=degrees)


def names(letter: str, pixels) -> str:
    *most, last = [letter + LOW[d + 1] for d in pixels]
    return f"{', '.join(most)} and {last}" if most else last


def check_state(state: dict, direct: bool = False, planted: bool = False) -> Connectivity:
    """Matrices, numbers, marks and words are nemlib's."""
    plan = plan_of(state)
    order, pixels = plan.order.tolist(), plan.order
    truth = wanted(plan, direct, planted)
    masks = planted_masks(plan) if planted else plan.masks()
    edges = sum(int(mask.sum()) for mask in masks)
    masks[0] = masks[0][:, pixels]
    masks[-1] = masks[-1][pixels]
    shown = [*(f"W{n + 1}" for n in range(len(plan.degrees))), "V"]
    for name, mask in zip(shown, masks):
        assert state["matrices"][name] == ["1" if one else "" for one in mask.flatten().tolist()]
    assert ("A" in state["matrices"]) == direct
    N = torch.tensor(truth["all"])[pixels][:, pixels]
    before = torch.ones_like(N).tril(-1).bool()
    flat = list(zip(N.flatten().tolist(), before.flatten().tolist()))
    assert state["matrices"]["N"] == ["–" if legal and not n else str(n) for n, legal in flat]
    assert state["matrices"]["J"] == ["×" if n else "0" for n, _ in flat]
    assert state["lost"] == [k for k, (n, legal) in enumerate(flat) if legal and not n]
    diagonal = [k * (len(order) + 1) for k, d in enumerate(order) if d in truth["leaks"]]
    assert state["leaks"]["N"] == state["leaks"]["J"] == diagonal
    assert sorted(state["rings"]) == sorted(f"a{d + 1}" for d in truth["leaks"])
    assert state["edges"] == edges and state["direct"] == (truth["legal"] if direct else 0)
    counts = [truth["legal"], *(len(truth[name]) for name in ("lost", "blind", "leaks"))]
    assert [int(state[name]) for name in ("Legal pairs", "Lost", "Blind outputs", "Leaks")] == counts
    check_words(state["words"], truth, direct, planted)
    check_spoken(state, plan, torch.tensor(truth["all"]))
    return plan


def check_words(words: str, truth: dict, direct: bool, planted: bool) -> None:
    """The sentence counts what is lost, and names the blind and the leaking."""
    lost, blind, leaks = truth["lost"], truth["blind"], truth["leaks"]
    assert ("A leak: " in words) == bool(leaks)
    assert ("No output sees itself" in words) == (not planted)
    assert ("no degree runs through all layers" in words) == (planted and not leaks)
    if leaks:
        assert f"output{'s' * (len(leaks) > 1)} {names('a', leaks)} see" in words
    assert ("have a path" in words or "has a path" in words) == (not lost)
    if lost:
        assert f"{len(lost)} of {truth['legal']} legal pair" in words
        pair = f"x{LOW[lost[0][1] + 1]} → a{LOW[lost[0][0] + 1]}"
        assert (pair in words) == (len(lost) <= 6)
        assert ("direct connections join" in words) == direct
    assert ("blind" in words) == bool(blind)
    if blind:
        assert f"utput{'s' * (len(blind) > 1)} {names('a', blind)} " in words


def check_spoken(state: dict, plan: Connectivity, total: torch.Tensor) -> None:
    """What a screen reader says of each unit."""
    for unit, spoken in zip(state["units"], state["spoken"]):
        pixel = int(unit[1]) - 1
        row = total[pixel] if unit[0] == "a" else total[:, pixel]
        joined = row.nonzero().flatten().tolist()
        assert f"(position {plan.position[pixel]})" in spoken
        verb, other = ("sees", "x") if unit[0] == "a" else ("is seen by", "a")
        many = f"through {int(row.sum())} path{'s' * (int(row.sum()) > 1)}."
        assert spoken.endswith(f"{verb} {names(other, joined)} {many}" if joined else f"{verb} no "
                               + ("input." if unit[0] == "a" else "output."))


ORDERS = {"natural": lambda D: list(range(1, D + 1)), "reversed": lambda D: list(range(D, 0, -1)),
          "columns": lambda D: {8: [1, 5, 2, 6, 3, 7, 4, 8]}[D]}


def lit_edges(plan: Connectivity, d: int | None, i: int | None) -> int:
    """How many connections lie on a path from i to d; None for all of them."""
    masks = [mask.double() for mask in plan.masks()]
    every = torch.ones(plan.dimensions, dtype=torch.float64)
    one = torch.eye(plan.dimensions, dtype=torch.float64)
    up, down = [every if i is None else one[i]], [every if d is None else one[d]]
    for mask in masks:
        up.append(mask @ up[-1])
    for mask in masks[::-1]:
        down.insert(0, mask.T @ down[0])
    return sum(int((mask * below * above[:, None] > 0).sum())
               for mask, below, above in zip(masks, up, down[1:]))


def check_lit(state: dict, plan: Connectivity, d: int | None, i: int | None) -> None:
    """Only d and what it sees, or i and what sees it, or both where a path joins them, stand out."""
    N = plan.paths().long()
    inputs = {i} if i is not None else {k for k in range(len(N)) if N[d, k]}
    outputs = {d} if d is not None else {k for k in range(len(N)) if N[k, i]}
    bright = {f"x{k + 1}" for k in inputs} | {f"a{k + 1}" for k in outputs}
    assert set(state["units"]) - set(state["faint"]) == bright
    assert state["lit"] == lit_edges(plan, d, i)
    alone = i is None
    assert state["seen"] == [alone and k in inputs for k in range(len(N))]


def check_shown(record: dict) -> None:
    """All that one reader saw of the page in the scenario `shown`."""
    check_state(record["start"])
    for one in record["setups"]:
        given, state = one["given"], one["state"]
        flags = {name: given.get(name, False) for name in ("direct", "planted")}
        plan = check_state(state, **flags)
        assert plan.dimensions == given["D"]
        assert [len(layer) for layer in plan.degrees] == [width for width in given["widths"] if width]
        if given["order"] in ORDERS:
            assert state["order"] == ORDERS[given["order"]](given["D"])
        if given["degrees"] == "even":
            even = connectivity(given["D"], [len(layer) for layer in plan.degrees])
            assert all(map(torch.equal, plan.degrees, even.degrees))
        assert state["said"] == state["words"]
        assert len(state["tabs"]) == 1 and not state["pressed"] and not state["faint"]
    plan = check_state(record["left"])
    assert not record["left"]["faint"] and record["left"]["reading"].startswith("Point at an output")
    for unit, state in record["hovered"]:
        pixel = int(unit[1]) - 1
        check_lit(state, plan, *((pixel, None) if unit[0] == "a" else (None, pixel)))
        assert state["reading"] == state["spoken"][state["units"].index(unit)]
    for d, i, state in record["pairs"]:
        check_lit(state, plan, d - 1, i - 1)
        count, legal = int(plan.paths().long()[d - 1, i - 1]), bool(plan.direct()[d - 1, i - 1])
        assert state["reading"].startswith(f"{count or 'No'} path") and ("lost" in state["reading"]) == (
            legal and not count)
        assert ("exactly 0" in state["reading"]) == (count == 0)


@pytest.mark.browser
def test_the_page_shows_what_nemlib_says_of_every_network(seen):
    check_shown(seen["xray"])
    setups = [one["state"] for one in seen["xray"]["setups"]]
    assert any(int(one["Lost"]) for one in setups) and any(int(one["Blind outputs"]) for one in setups)
    assert any(int(one["Leaks"]) for one in setups)


@pytest.mark.browser
@pytest.mark.parametrize("n", range(len(MUTANTS)))
def test_a_fault_in_the_page_is_noticed(seen, n):
    record = seen[f"mutant-{n}"]
    with pytest.raises(AssertionError):
        check_shown(record)


@pytest.mark.browser
def test_units_and_matrices_are_walked_with_keys(seen):
    record = seen["hands"]
    plan = plan_of(record["focused"])
    check_lit(record["focused"], plan, 3, None)
    check_lit(record["right"], plan, 4, None)
    check_lit(record["down"], plan, None, 4)
    check_lit(record["home"], plan, None, 0)
    for name, unit in (("focused", "a4"), ("right", "a5"), ("down", "x5"), ("home", "x1")):
        assert record[name]["pressed"] == record[name]["tabs"] == [unit]
    assert not record["escaped"]["pressed"] and not record["escaped"]["faint"]
    check_lit(record["walked"], plan, 2, 1)
    assert record["walked"]["said"] == record["walked"]["reading"]
    assert record["walked"]["reading"].startswith("1 path from x₂ (position 2) to a₃ (position 3)")
    check_lit(record["clicked"], plan, 4, 2)


@pytest.mark.browser
def test_the_ordering_is_moved_by_keys_and_by_dragging(seen):
    record = seen["hands"]
    for name, order in (("moved", [2, 3, 1, 4, 5, 6]), ("last", [2, 3, 4, 5, 6, 1]),
                        ("dragged", [2, 6, 3, 4, 5, 1]), ("fewer", [2, 3, 4, 1]),
                        ("more", [2, 3, 4, 1, 5, 6, 7])):
        assert record[name]["order"] == order and record[name]["kind"] == "own"
        check_state(record[name])
    assert record["stays"] == "3 x₁" and record["moved"]["said"] == record["moved"]["words"]


@pytest.mark.browser
def test_sorted_by_pixel_the_same_numbers_stand_elsewhere(seen):
    before, after = seen["hands"]["more"], seen["hands"]["sorted"]
    plan = plan_of(after)
    assert after["order"] == before["order"]
    paths = plan.paths().long()
    lost = plan.direct() & (paths == 0)
    shown = ["–" if gone else str(n) for n, gone in zip(paths.flatten().tolist(), lost.flatten().tolist())]
    assert after["matrices"]["N"] == shown != before["matrices"]["N"]
    assert [unit for unit in after["units"] if unit[0] == "x"] == [f"x{d}" for d in range(1, 8)]


@pytest.mark.browser
def test_a_seed_draws_its_own_ordering_and_a_seed_out_of_range_is_left_alone(seen):
    record = seen["hands"]
    assert record["first"]["order"] != record["second"]["order"] and record["second"]["kind"] == "random"
    assert record["number"] == "2"


@pytest.mark.browser
def test_on_a_phone_everything_fits_and_answers_the_finger(seen):
    phone = seen["phone"]
    assert phone["width"] <= 360 and phone["theme"] == "dark" and phone["small"] == 0
    assert phone["dragged"] == [2, 3, 4, 1, 5, 6] and phone["tapped"]
    assert phone["inside"] == [True, True] and not phone["crowded"]


@pytest.mark.browser
def test_colours_follow_light_and_dark_and_paper_shows_the_still_picture(seen):
    looks = seen["looks"]
    for column, name in enumerate(("light", "dark")):
        used = [PALETTE[slot][column] for slot in explore.SLOTS[:6]]
        assert looks[name] == [f"rgb({', '.join(str(int(hue[k:k + 2], 16)) for k in (1, 3, 5))})"
                               for hue in used]
    assert looks["print"] == [[False, True]] * 2 and looks["ids"] == []


@pytest.mark.browser
def test_nothing_stands_in_the_way_of_a_screen_reader(seen):
    assert seen["looks"]["violations"] == seen["looks"]["violationsDark"] == seen["phone"]["violations"] == []


@pytest.mark.browser
def test_no_error_and_no_request(seen):
    assert {name: record["troubles"] for name, record in seen.items()} == {name: [] for name in seen}
