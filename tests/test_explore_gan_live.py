"""Chapter 7's GAN that learns in the page: what Python packs, what JavaScript computes, what a reader sees."""

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

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from nemlib.evaluate.fid import mode_count
from nemlib.explore import gan as explore
from nemlib.explore import page
from nemlib.gan import R1, Gaussians, Hinge, NonSaturating, Saturating, grid, ring
from nemlib.plot import PALETTE

ROOT = Path(__file__).resolve().parent.parent
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
PLAN = {"latent": 3, "width": 6, "batch": 8, "leak": 0.1, "averaging": 0.9}
LARGEST_OF_A_PAGE = 700_000     # bytes
STEPS = 400                     # of the reader in the browser
REST = 1000                     # steps after which the page rests in the test; the reader's rests later


@cache
def chrome() -> str | None:
    spec = spec_from_file_location("install", ROOT / "tools" / "install.py")
    install = module_from_spec(spec)
    spec.loader.exec_module(install)
    return install.find_browser()


def node(script: str, *arguments: str, stdin: str | None = None) -> str:
    ran = subprocess.run([NODE, ROOT / "tests" / script, *arguments], input=stdin, capture_output=True,
                         text=True, timeout=900, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def golden(calls: list, mutant: dict | None = None) -> list:
    return json.loads(node("js/gan_live_golden.mjs", stdin=json.dumps({"calls": calls, "mutant": mutant})))


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
    return explore.live()._repr_html_()


def test_a_rebuilt_figure_is_the_same_figure(text):
    assert explore.live()._repr_html_() == text != explore.live(seed=2)._repr_html_()


def test_the_figure_asks_for_nothing_and_is_small(text):
    names_of_spaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?:[^\s'\"\\]*", text)) <= names_of_spaces
    assert not re.search(r"\b(import|require)\s*\(|<link|src=\"(?!data:)", text)
    assert len(text.encode()) < explore.LARGEST_LIVE < LARGEST_OF_A_PAGE


@needs_node
def test_the_embedded_script_is_whole(text):
    script, = Reader(text).scripts
    ran = subprocess.run([NODE, "--check", "-"], input=script, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_ids_come_from_the_name_and_the_copy(text):
    assert Reader(text).ids == ["nx-gan-live-1"]
    assert Reader(explore.live(copy=2)._repr_html_()).ids == ["nx-gan-live-2"]


def test_without_scripts_a_picture_says_what_happens(text):
    image, = Reader(text).images
    assert "three of the eight" in image["alt"] and image["src"].startswith("data:image/svg+xml,")
    drawn = urllib.parse.unquote(image["src"])
    assert all(title in drawn for title in ("a heap", "three of eight modes", "nearly the data"))


def test_the_still_pictures_generators_are_laws():
    line = torch.linspace(-6, 6, 241, dtype=torch.float64)
    for centres, shares, deviation in explore._stages().values():
        density = explore._log_density(torch.cartesian_prod(line, line), centres, shares, deviation).exp()
        assert abs(density.sum().item() * 0.05 ** 2 - 1) < 1e-9
        assert len(centres) == len(shares)


def test_a_terminal_shows_words():
    assert "run up the field of the discriminator" in repr(explore.live())


def test_the_colours_are_the_books():
    assert {tuple(pair) for pair in explore.live().data["palette"].values()} <= set(PALETTE.values())
    sources = [path.read_text() for path in (ROOT / "nemlib" / "explore").glob("gan_live*.*s")]
    assert len(sources) == 3
    assert not [found for source in sources for found in re.findall(r"#[0-9a-fA-F]{3,8}\b|rgb\(\d", source)]


def test_every_preset_stands_on_the_sliders():
    for preset in explore.PRESETS.values():
        assert {preset["generatorRate"], preset["discriminatorRate"]} <= set(explore.RATES)
        assert preset.keys() == explore.PRESETS["remedy"].keys()
    assert explore.PRESETS["collapse"]["generatorRate"] == 1e-3
    assert explore.PRESETS["collapse"]["discriminatorRate"] == 1e-4


@pytest.mark.parametrize("changes, words", [
    ({"law": "cube"}, "law is 'cube': it should be one of 'ring'"), ({"seed": 0}, "seed is 0"),
    ({"copy": 0}, "copy is 0"),
])
def test_what_the_page_cannot_show_is_refused_in_a_sentence(changes, words):
    with pytest.raises(ValueError, match=words):
        explore.live(**changes)


# ---- JavaScript against Python -----------------------------------------------------------------------------


@needs_node
def test_the_pages_laws_and_its_count_of_modes_are_nemlibs():
    laws = {"ring": ring(deviation=0.1), "grid": grid(spacing=1.0, deviation=0.05)}
    for name, law in laws.items():
        shown, = golden([["points", [name]]])
        points = torch.tensor(shown["points"], dtype=torch.float64)
        distances = torch.cdist(points, law.centres.double())
        assert shown["deviation"] == law.deviation and distances.amin(1).max() < 1e-6
        assert sorted(distances.argmin(1).tolist()) == list(range(len(points)))
        wide = Gaussians(points[: len(points) // 2], 2.5 * law.deviation)
        x = wide.sample(500, torch.Generator().manual_seed(2))
        found, = golden([["judge", [name, x.flatten().tolist()]]])
        wanted = mode_count(x, points, law.deviation)
        assert (found["found"], found["counts"]) == (wanted.found, wanted.counts.tolist())
        assert 0.5 < wanted.good < 0.9 and math.isclose(found["good"], wanted.good)


LOSSES = {"non-saturating": NonSaturating(), "saturating": Saturating(), "hinge": Hinge()}


def settings(**changes) -> dict:
    return {"loss": "non-saturating", "packed": 1, "generatorRate": 0.01, "discriminatorRate": 0.02,
            "discriminatorSteps": 1, "r1": 0, **changes}


def network(inputs: int, outputs: int, values: list[float]) -> nn.Module:
    width, leak = PLAN["width"], PLAN["leak"]
    made = nn.Sequential(nn.Linear(inputs, width), nn.LeakyReLU(leak), nn.Linear(width, width), nn.LeakyReLU(leak),
                         nn.Linear(width, outputs)).double()
    vector_to_parameters(torch.tensor(values, dtype=torch.float64), made.parameters())
    return made


def replayed(how: dict, record: list, start: list) -> tuple[list[Tensor], list[tuple[float, float]]]:
    """The same steps by autograd and torch's Adam: the parameters at the end, and both losses step by step."""
    generator, discriminator = network(PLAN["latent"], 2, start[0]), network(2 * how["packed"], 1, start[1])
    averaged = parameters_to_vector(generator.parameters()).detach().clone()
    players = [torch.optim.Adam(player.parameters(), lr=how[rate], betas=(0.5, 0.99))
               for player, rate in ((generator, "generatorRate"), (discriminator, "discriminatorRate"))]
    loss, losses = LOSSES[how["loss"]], []

    def packs(x: Tensor) -> Tensor:
        return x.reshape(-1, 2 * how["packed"])

    def logits(rows: Tensor) -> Tensor:
        return discriminator(rows)[:, 0]

    def made(z: list[float]) -> Tensor:
        return packs(generator(torch.tensor(z, dtype=torch.float64).reshape(-1, PLAN["latent"])))

    for step in record:
        for one in step["rounds"]:
            real, fake = packs(torch.tensor(one["x"], dtype=torch.float64)), made(one["z"]).detach()
            first = loss.discriminator(logits(real), logits(fake))
            penalty = R1(how["r1"]).of(logits, real, fake, torch.Generator()) if how["r1"] else 0.0
            players[1].zero_grad()
            (first + penalty).backward()
            players[1].step()
        second = loss.generator(logits(made(step["z"])))
        players[0].zero_grad()
        second.backward()
        players[0].step()
        averaged.lerp_(parameters_to_vector(generator.parameters()).detach(), 1 - PLAN["averaging"])
        losses.append((first.item(), second.item()))
    ends = [parameters_to_vector(player.parameters()).detach() for player in (generator, discriminator)]
    return [*ends, averaged], losses


PLAYS = [settings(), settings(loss="saturating", packed=2), settings(loss="hinge", packed=2, r1=0.3),
         settings(r1=1.0, discriminatorSteps=3)]


def disagreement(mutant: dict | None = None) -> float:
    """The largest difference of parameters and losses after five steps."""
    worst = 0.0
    for how, played in zip(PLAYS, golden([["play", ["ring", how, PLAN, 3, 5]] for how in PLAYS], mutant)):
        ends, losses = replayed(how, played["record"], played["start"])
        for mine, theirs in zip(ends, played["end"]):
            if None in theirs:      # what JSON makes of NaN
                return math.inf
            worst = max(worst, (mine - torch.tensor(theirs, dtype=torch.float64)).abs().max().item())
        for (first, second), step in zip(losses, played["record"]):
            worst = max(worst, abs(first - step["seen"]["discriminator"]), abs(second - step["seen"]["generator"]))
    return worst


@needs_node
def test_the_pages_steps_are_those_of_autograd_and_torchs_adam():
    assert disagreement() < 1e-10


@needs_node
@pytest.mark.parametrize("change, to", [
    ("beta2: 0.99,", "beta2: 0.999,"),
    ("(1 - beta2) * g * g", "(1 - beta2) * g"),
    ("/ two + epsilon", "+ epsilon"),
    ("slopes.fill(0);", ""),
    ("(1 - plan.averaging)", "plan.averaging"),
    ("settings.r1 > 0", "false"),
    ("(weight / rows)", "(2 * weight / rows)"),
    ("adam(net, settings.discriminatorRate)", "adam(net, settings.generatorRate)"),
    ("parameters: false, input: true", "parameters: true, input: true"),
    ("u[last].fill(1)", "u[last].fill(-2)"),
])
def test_a_wrong_line_is_noticed(change, to):
    assert disagreement({"file": "gan_live_maths.js", "from": change, "to": to}) > 1e-6


# ---- a reader in a browser --------------------------------------------------------------------------------


def write_pages(folder: Path) -> None:
    template = f"<template>{explore.live()._repr_html_()}</template></body>"
    live = page(explore.live())
    assert live.count(long := f'"pause":{explore.PAUSE}') == 1 and explore.PAUSE > REST
    pages = {"live": live, "short": live.replace(long, f'"pause":{REST}'),
             "host": page().replace("</body>", template)}
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
    return Records(json.loads(node("browser/explore_gan_live.mjs", chrome(), str(folder), *shots)))


SCENARIOS = ["train", "hand", "draw", "looks", "phone", "host"]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_is_asked_of_the_network_and_the_console_stays_empty(seen, scenario):
    assert seen[scenario]["troubles"] == []


def test_the_default_sliders_find_all_eight_modes(seen):
    record = seen["train"]
    print(f"in the page all modes were found after {record['found']:.1f} s, and {REST} steps took "
          f"{record['seconds']:.1f} s")
    assert record["ended"] and record["end"]["Steps of G"] == str(REST)
    assert record["end"]["Found"] == "8 of 8" and percent(record["end"]["Good samples"]) > 30
    assert record["voice"].startswith("Paused. After 1") and "8 of 8 modes" in record["end"]["words"]
    assert record["colours"]["data"] > 50 and record["colours"]["generated"] > 50


def percent(text: str) -> float:
    return float(text.split()[0])


def test_steps_by_hand_are_the_steps_of_the_maths_and_follow_the_seed(seen):
    record = seen["hand"]
    remedy, collapse = explore.PRESETS["remedy"], explore.PRESETS["collapse"]
    calls = [["shown", ["ring", remedy, 1, STEPS]], ["shown", ["ring", collapse, 1, STEPS]]]
    for shown, end in zip(golden(calls), (record["remedy"], record["collapse"])):
        assert end["Steps of G"] == str(STEPS)
        assert end["Found"] == f"{shown['found']} of 8"
        assert abs(percent(end["Good samples"]) - 100 * shown["good"]) < 0.051
    assert record["again"] == record["remedy"] != record["reseeded"]
    assert record["zero"]["Steps of G"] == "0" and record["one"]["Steps of G"] == "1"


def test_presets_set_the_sliders_and_a_slider_leaves_them(seen):
    record = seen["hand"]
    assert record["pressed"] == {"start": ["Remedy"], "collapse": ["Collapse"], "moved": []}
    assert record["sliders"]["collapse"] == ["0.001", "0.0001", "1", "off"]
    assert record["sliders"]["moved"] == ["0.001", "0.0002", "1", "off"]


def test_a_law_is_drawn_with_the_mouse_and_with_keys(seen):
    record = seen["draw"]
    assert record["law"] == "drawn" and record["idle"] == [True, True, True]
    assert "press Enter" in record["empty"]["words"]
    assert record["keys"] == "A point at 0.25, 0.00; 1 point drawn."
    assert record["read"].startswith("0.25, 1.00: D says 0.")
    assert record["stroke"]["Found"].endswith(" of 3") and record["stroke"]["Steps of G"] == "0"
    assert record["learnt"]["Steps of G"] == "100" and "parts" in record["learnt"]["words"]


def test_it_is_readable_in_light_and_in_dark(seen):
    record = seen["looks"]
    assert record["light"] != record["dark"]
    assert record["violations"] == [] and record["violationsDark"] == [] and record["ids"] == []
    assert record["print"] == [False, True]
    assert "modes" in record["label"] and record["lossLabel"].startswith("Both losses")


def test_a_phone_is_wide_enough(seen):
    record = seen["phone"]
    assert record["width"] <= 360 and record["inside"] and record["theme"] == "dark"
    assert record["small"] == 0 and record["violations"] == []


def test_a_notebook_revives_it_and_a_figure_that_left_the_page_rests(seen):
    assert seen["host"]["live"] == 1 and "After 100 steps" in seen["host"]["words"]
