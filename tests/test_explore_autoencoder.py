"""Chapter 3's interactive figures: what Python packs, what JavaScript computes, what a reader sees."""

import copy
import itertools
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
from torch import Tensor, nn

from nemlib.autoencoder import Autoencoder, PrincipalComponents, six_layers
from nemlib.data import Dataset
from nemlib.explore import autoencoder as explore
from nemlib.explore import page
from nemlib.explore.figure import LARGEST
from nemlib.plot import PALETTE

ROOT = Path(__file__).resolve().parent.parent
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
HEIGHT, WIDTH = 12, 10            # not square: swapped axes are seen
PIXELS, MANY = HEIGHT * WIDTH, 60
DARK = range(0, 120, 6)           # pixels that the decoder below leaves empty


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
    return json.loads(node("js/autoencoder_golden.mjs", stdin=json.dumps({"calls": calls, "mutant": mutant})))


@cache
def digits() -> Dataset:
    """Sixty images of three classes, each class near a pattern of its own, with empty rims."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.rand(3, HEIGHT, WIDTH, generator=generator)
    labels = torch.tensor([1, 5, 8]).repeat(MANY // 3)
    images = patterns[torch.arange(MANY) % 3] + 0.25 * torch.randn(MANY, HEIGHT, WIDTH, generator=generator)
    images = images.clamp(0, 1)
    images[:, :2], images[:, :, -1:] = 0, 0
    images[7] = 0
    return Dataset(images, labels, name="patterns")


@cache
def machine() -> Autoencoder:
    """Weights of every size; two hidden units are off everywhere, and twenty pixels stay empty."""
    generator = torch.Generator().manual_seed(8)
    encoder = nn.Sequential(nn.Linear(PIXELS, 3))
    decoder = nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, PIXELS))
    with torch.no_grad():
        for parameter in (*encoder.parameters(), *decoder.parameters()):
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
        decoder[0].weight[4], decoder[0].bias[4] = 0, -1
        decoder[2].weight[2], decoder[2].bias[2] = 0, -1
        decoder[4].weight[::6], decoder[4].bias[::6] = 0, -20
    return Autoencoder(encoder, decoder).requires_grad_(False)


def changed(**layers: nn.Module) -> Autoencoder:
    return Autoencoder(machine().encoder, nn.Sequential(*layers.values()))


@cache
def codes() -> explore.Cloud:
    return explore.code_cloud(machine(), digits())


@cache
def page_decoder() -> explore.PageDecoder:
    return explore.PageDecoder.of(machine(), codes())


@cache
def components() -> PrincipalComponents:
    return PrincipalComponents.fit(digits().flat(), 3)


def cloud(autoencoder: Autoencoder | None = None, known: Dataset | None = None, **changes) -> explore.Figure:
    return explore.cloud(autoencoder or machine(), known or digits(), **changes)


def places(n: int, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Random places in the box of the codes, as shares of it when low and high are 0 and 1."""
    return low + (high - low) * torch.rand(n, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def inside(n: int) -> Tensor:
    low, high = codes().box
    return low + places(n, 0, 1) * (high - low)


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


def figures() -> dict[str, explore.Figure]:
    return {"cloud": cloud(), "linear": explore.linear()}


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {name: figure._repr_html_() for name, figure in figures().items()}


def test_a_rebuilt_figure_is_the_same_figure(pages):
    explore._still_linear.cache_clear()
    explore.some_points.cache_clear()
    assert {name: figure._repr_html_() for name, figure in figures().items()} == pages


@pytest.mark.parametrize("which", ["cloud", "linear"])
def test_a_figure_asks_for_nothing(pages, which):
    text = pages[which]
    names_of_spaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?:[^\s'\"\\]*", text)) <= names_of_spaces
    assert not re.search(r"\b(import|require)\s*\(|<link|src=\"(?!data:)", text)


@needs_node
@pytest.mark.parametrize("which", ["cloud", "linear"])
def test_the_embedded_script_is_whole(pages, which):
    script, = Reader(pages[which]).scripts
    ran = subprocess.run([NODE, "--check", "-"], input=script, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_the_line_is_as_small_as_any_figure(pages):
    assert len(pages["linear"].encode()) < LARGEST


def test_a_thousand_digits_and_a_decoder_of_the_chapters_size_stay_within_600_kilobytes():
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(1_000, 28, 28)
    images[:, 4:24, 7:21] = torch.rand(1_000, 20, 14, generator=generator)     # as large as MNIST's digits
    known = Dataset(images, torch.arange(1_000) % 10)
    torch.manual_seed(0)
    big = six_layers(3).requires_grad_(False)
    big.decoder[0].bias.fill_(1)
    big.decoder[2].bias.fill_(1)            # every hidden unit is on somewhere
    big.decoder[4].bias[700:] = -20
    mean = PrincipalComponents(images.mean(0).flatten().double(), torch.eye(784, 3).double(), torch.ones(784))
    made = explore.cloud(big, known, components=mean)
    layers, size = made.data["decoder"]["layers"], len(made._repr_html_().encode())
    assert len(made.data["decoder"]["kept"]) == 700
    letters = sum(len(layer["W"]) for layer in layers)
    assert 0.99 * explore.MOST_BITS / 6 < letters <= explore.MOST_BITS / 6 + 12 and size < 600_000


def test_ids_come_from_the_name_and_the_copy(pages):
    assert Reader(pages["cloud"]).ids == ["nx-autoencoder-cloud-1"]
    assert Reader(explore.linear(copy=2)._repr_html_()).ids == ["nx-autoencoder-linear-2"]


def test_a_still_picture_keeps_its_words_and_numbers(pages):
    kept, lost, total = explore.turn(explore.some_points(), 110)
    for which, words in (("cloud", "Codes of test digits"), ("linear", f"lost {lost:.2f} of {total:.2f}")):
        image, = Reader(pages[which]).images
        assert len(image["alt"]) > 80 and image["src"].startswith("data:image/svg+xml,")
        assert words in urllib.parse.unquote(image["src"])


def test_a_terminal_shows_words():
    assert "where no digit is" in repr(cloud())
    assert "what it loses add up" in repr(explore.linear())


def test_the_colours_are_the_books():
    for figure in figures().values():
        assert {tuple(pair) for pair in figure.data["palette"].values()} <= set(PALETTE.values())
    sources = [path.read_text() for path in (ROOT / "nemlib" / "explore").glob("autoencoder*.*s")]
    assert len(sources) == 6
    assert not [found for text in sources for found in re.findall(r"#[0-9a-fA-F]{3,8}\b|rgb\(\d", text)]
    assert len(set(explore.CLASS_COLOURS[:8])) == 8 and len(explore.CLASS_COLOURS) == 10


def test_the_first_line_leads_through_the_emptiest_place_or_where_the_author_says():
    assert cloud().data["ends"] == list(codes().holes[0][:2])
    assert cloud(ends=(8, 1)).data["ends"] == [2, 0]


def test_fewer_digits_are_shown_where_fewer_are_asked_for_or_there():
    assert len(cloud(shown=20).data["labels"]) == 20
    assert len(cloud().data["labels"]) == MANY


def test_components_are_found_in_all_digits_where_none_are_given():
    own, given = (cloud(shown=20, components=one).data for one in (None, components()))
    assert own["components"] == given["components"] and own["clouds"][1] == given["clouds"][1]
    few = PrincipalComponents.fit(digits().flat()[:20], 3)
    assert cloud(shown=20, components=few).data["components"] != own["components"]


def test_nothing_of_the_readers_machine_changes():
    before = copy.deepcopy(machine().state_dict())
    cloud()
    assert all(torch.equal(value, before[name]) for name, value in machine().state_dict().items())
    assert next(machine().parameters()).dtype == torch.float32


def broken() -> Autoencoder:
    made = copy.deepcopy(machine())
    made.decoder[2].weight[0, 0] = math.nan
    return made


def silent() -> Autoencoder:
    made = copy.deepcopy(machine())
    made.decoder[4].bias.fill_(-30)
    made.decoder[4].weight.zero_()
    return made


@pytest.mark.parametrize("make, words", [
    (lambda: cloud(known=Dataset(digits().images)), "with labels"),
    (lambda: cloud(known=Dataset(digits().images[None], None)), "with labels"),
    (lambda: cloud(shown=1), "shown is 1: it should be from 2 to 1000"),
    (lambda: cloud(shown=1_001), "from 2 to 1000"),
    (lambda: cloud(known=Dataset(digits().images, torch.zeros(MANY, dtype=torch.long))), "60 digits of 1 classes"),
    (lambda: cloud(known=Dataset(digits().images, torch.arange(MANY))), "of 2 to 10 classes"),
    (lambda: cloud(known=Dataset(digits().images[:, :5], digits().labels)),
     "gives 120 numbers, and images of 5 × 10 have 50 pixels"),
    (lambda: cloud(ends=(1, 2)), r"two labels of \[1, 5, 8\]"),
    (lambda: cloud(changed(one=nn.Linear(2, PIXELS))), "takes 2 numbers, and space has 3"),
    (lambda: cloud(changed(one=nn.Linear(3, 5), two=nn.Tanh(), three=nn.Linear(5, PIXELS))), "ReLU.*'Tanh'"),
    (lambda: cloud(changed(one=nn.Linear(3, PIXELS), two=nn.ReLU())), "the last layer linear"),
    (lambda: cloud(broken()), "NaN or infinity"),
    (lambda: cloud(silent()), "one and the same image"),
    (lambda: cloud(components=PrincipalComponents.fit(digits().flat(), 2)), r"shape \(120, 2\).*three components"),
    (lambda: explore.pack_images(np.zeros((2, 300, 4))), "at most 255"),
    (lambda: explore.linear(torch.zeros(5, 3)), r"\(5, 3\): it should be \(n, 2\)"),
    (lambda: explore.linear(torch.zeros(2, 2)), "n from 3 to 200"),
    (lambda: explore.linear(torch.full((5, 2), math.nan)), "all finite"),
    (lambda: explore.linear(torch.ones(5, 2)), "vary as much in every direction"),
    (lambda: explore.linear(torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])), "no line is better"),
])
def test_what_the_page_cannot_show_is_refused_in_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_decoder_that_no_page_can_hold_is_refused(monkeypatch):
    monkeypatch.setattr(explore, "MOST_BITS", 2_000)
    with pytest.raises(ValueError, match="until its 672 weights fit a page.* error of 0.0?[1-9]"):
        cloud()


# ---- the cloud: codes, holes, and a decoder that is small enough ------------------------------------------


def test_codes_and_errors_are_the_machines():
    with torch.no_grad():
        wanted = machine().encode(digits().flat())
    assert (codes().codes - wanted).abs().max() <= 1e-3 * wanted.abs().max()
    assert torch.allclose(codes().errors.float(), machine().squared_error(digits().flat()), rtol=1e-4)
    flat = explore.code_cloud(components(), digits())
    assert torch.allclose(flat.errors, components().squared_error(digits().flat()))


def test_the_box_holds_all_codes_with_room_and_the_first_view_most():
    low, high = codes().box
    assert ((codes().codes > low) & (codes().codes < high)).all()
    middle, unit = codes().focus
    away = (codes().codes - middle).abs() <= unit
    assert (away.double().mean(0) >= 0.94).all() and away.double().mean(0).min() < 1
    assert (high - low).max() <= 6 * unit * (1 + 1e-9)
    lonely = torch.cat([torch.zeros(99, 3), torch.tensor([[60.0, 0, 0]])]).double()
    assert explore.Cloud(lonely, lonely[:, 0], torch.zeros(100)).focus[1] >= 10


def by_hand(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(((a - b) ** 2).sum()))


def test_typical_codes_spacing_and_holes_by_brute_force():
    """Over all codes and all lines, one distance at a time."""
    points, labels = codes().codes.numpy(), digits().labels.numpy()
    far = np.array([[by_hand(a, b) for b in points] for a in points])
    typical = [min(np.flatnonzero(labels == label), key=lambda n: far[n, labels == label].sum())
               for label in (1, 5, 8)]
    assert codes().typical == typical
    assert codes().spacing == pytest.approx(np.sort((far + np.diag([np.inf] * MANY)).min(1))[54], abs=1e-12)
    found = []
    for a, b in itertools.combinations(range(3), 2):
        ends = points[typical[a]], points[typical[b]]
        away = [min(by_hand(ends[0] + k / 100 * (ends[1] - ends[0]), one) for one in points) for k in range(101)]
        found.append((max(away), a, b, int(np.argmax(away)) / 100))
    found.sort(reverse=True)
    wanted = []
    for _, a, b, share in found:
        spot = points[typical[a]] + share * (points[typical[b]] - points[typical[a]])
        if all(by_hand(spot, other) > codes().spacing for *_, other in wanted):
            wanted.append((a, b, pytest.approx(share), spot))
    assert 1 < len(wanted) and codes().holes == [one[:3] for one in wanted]


@pytest.mark.parametrize("classes, spacing, many", [(3, 0.0, 3), (3, 1e9, 1), (10, 0.0, 5)])
def test_what_is_near_is_one_hole_and_only_the_emptiest_are_shown(classes, spacing, many):
    shown = explore.Cloud(codes().codes, codes().errors, torch.arange(MANY) % classes)
    shown.__dict__["spacing"] = spacing
    assert len(shown.holes) == many


def test_the_pages_decoder_leaves_out_what_is_never_seen_and_nothing_else():
    packed = page_decoder().packed
    assert packed["kept"] == [n for n in range(PIXELS) if n not in DARK]
    sizes = [(layer["inputs"], len(explore._unpacked(layer)[1])) for layer in packed["layers"]]
    assert sizes == [(3, 8), (8, 6), (6, 100)]
    assert not page_decoder().mean(inside(5))[:, list(DARK)].any()


def test_the_pages_decoder_draws_nearly_what_the_machine_draws():
    z = inside(400)
    with torch.no_grad():
        exact = machine().mean(z.float())
    error = (page_decoder().mean(z) - exact).abs().max()
    assert error < 0.01
    deaf = copy.deepcopy(page_decoder())
    deaf.layers[1] = (deaf.layers[1][0], 0 * deaf.layers[1][1])
    assert (deaf.mean(z) - exact).abs().max() > 0.1


def test_rounded_weights_are_within_half_a_step_and_as_wide_as_their_output_needs():
    W = torch.randn(5, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    W[1] *= 1e-3
    W[3] = 0
    b = torch.linspace(-3, 3, 5, dtype=torch.float64)
    packed = explore._packed(W, b, 0.01)
    rounded, biases = explore._unpacked(packed)
    assert 0.004 < (rounded - W).abs().max() <= 0.005 + 1e-12
    assert torch.allclose(biases, b, rtol=1e-3) and not rounded[3].any()
    widths = explore.Whole(packed["widths"]).take(5, 4).tolist()
    for row, width in zip((W / 0.01).round().abs().amax(1).tolist(), widths):
        assert width == 0 if row == 0 else 2 ** (width - 2) - 1 < row <= 2 ** (width - 1) - 1


def test_bits_go_where_they_move_the_pixels_least(monkeypatch):
    """No layer should rather be eight times coarser, with the bits that this saves given to the others."""
    monkeypatch.setattr(explore, "MOST_BITS", 6 * 672)
    z = explore._probes(codes())[::4]
    layers, _ = explore._what_is_seen(machine(), explore._probes(codes()))
    steps = explore._steps(layers, z, "bernoulli")
    assert 5.5 * 672 < explore._bits(layers, steps) <= 6 * 672

    def error(steps: list[float]) -> float:
        return explore._moved(layers, [((W / s).round() * s, b) for (W, b), s in zip(layers, steps)], z, "bernoulli")
    here = error(steps)
    for k in range(3):
        for c in np.geomspace(1e-4, 1, 400):            # the others as fine as the bits allow
            other = [8 * step if n == k else c * step for n, step in enumerate(steps)]
            if explore._bits(layers, other) <= 6 * 672:
                break
        assert error(other) > here


def test_weights_that_fit_are_kept_in_fifteen_bits():
    layers, _ = explore._what_is_seen(machine(), explore._probes(codes()))
    steps = explore._steps(layers, codes().codes, "bernoulli")
    widest = max(int(explore._widths(W, step).max()) for (W, _), step in zip(layers, steps))
    assert widest == explore.WIDEST and explore._moved(layers, page_decoder().layers, codes().codes, "bernoulli") < 1e-3


def test_a_gaussian_decoder_without_biases_is_drawn_from_paper_to_ink():
    made = Autoencoder(machine().encoder, nn.Sequential(nn.Linear(3, PIXELS, bias=False)), "gaussian")
    shown = explore.code_cloud(made, digits())
    low, high = shown.box
    z = low + places(50, 0, 1) * (high - low)
    with torch.no_grad():
        exact = made.mean(z.float()).clamp(0, 1)
    assert (explore.PageDecoder.of(made, shown).mean(z) - exact).abs().max() < 0.02 * exact.max()


@pytest.mark.parametrize("bits", [1, 2, 7, 8, 9, 15])
def test_whole_numbers_come_back(bits):
    random = np.random.default_rng(bits)
    first, second = random.integers(0, 2**bits, 37), random.integers(0, 8, 5)
    text = explore.pack_whole([(first, bits), (second, 3)])
    read = explore.Whole(text)
    assert (read.take(37, bits) == first).all() and (read.take(5, 3) == second).all()
    if NODE:
        assert golden([["whole", [text, [bits] * 37 + [3] * 5]]])[0] == [*first.tolist(), *second.tolist()]


def test_space_on_paper_is_seen_as_an_eye_sees_it():
    focus = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64), 2.0
    z = torch.tensor([[1.0, 0, 0], [3.0, 0, 0], [1.0, 2, 0], [1.0, 0, 2]], dtype=torch.float64)
    front = explore.project(z, focus, 0, 0)          # from along the first axis: it points at the eye
    grown = explore.EYE / (explore.EYE - 1)
    assert torch.allclose(front, torch.tensor([[0.0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]]).double())
    above = explore.project(z, focus, 0, 90)
    assert torch.allclose(above[3], torch.tensor([0.0, 0, 1]).double(), atol=1e-12)
    assert explore.project(2 * z - z[0], focus, 90, 0)[2, 2].item() == pytest.approx(2)
    both = explore.project(torch.tensor([[3.0, 2, 0]]).double(), focus, 0, 0)
    assert both[0, 0].item() == pytest.approx(grown)


# ---- the line: Python against closed forms ----------------------------------------------------------------


def test_a_turned_line_keeps_and_loses_what_its_covariance_says():
    x = explore.some_points()
    S = torch.cov(x.T, correction=0)
    for angle, scale in itertools.product((0.0, 27.0, 110.0, 180.0), (0.25, 1.0, 3.0)):
        u = torch.tensor([math.cos(math.radians(angle)), math.sin(math.radians(angle))], dtype=torch.float64)
        found = explore.turn(x, angle, scale)
        assert found.kept == pytest.approx((u @ S @ u).item(), abs=1e-12)
        assert found.lost == pytest.approx((S.trace() - u @ S @ u).item(), abs=1e-12)
        assert found.total == pytest.approx(S.trace().item(), abs=1e-12)


def test_the_scale_changes_codes_and_no_reconstruction():
    x = explore.some_points()
    one, other = (explore.line_autoencoder(x, 70, scale) for scale in (1.0, 2.5))
    with torch.no_grad():
        assert torch.allclose(other.encode(x), 2.5 * one.encode(x))
        assert torch.allclose(other.reconstruct(x), one.reconstruct(x), atol=1e-12)


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


def page_components(z: Tensor) -> Tensor:
    """PCA's pictures as the page draws them: mean and axes in half precision, from paper to ink."""
    mean, axes = (one.numpy().astype(np.float16).astype(float) for one in (components().mean, components().components))
    return torch.from_numpy(np.clip(mean + z.numpy() @ axes.T, 0, 1))


def camera(**changes) -> dict:
    middle, unit = codes().focus
    return {"yaw": 40.0, "pitch": 25.0, "zoom": 1.0, "target": middle.tolist(), "unit": unit,
            "eye": explore.EYE, "middle": [0.0, 0.0], "size": 1.0, **changes}


def cloud_vectors() -> list[tuple[list, object]]:
    """Pairs of a call of the figure's JavaScript and what Python says."""
    z, packed = inside(6), page_decoder().packed
    seen = explore.project(z, codes().focus, 40, 25)
    grown = (explore.EYE / (explore.EYE - seen[:, 2]))[:, None]
    on_page = torch.cat([seen[:, :1], -seen[:, 1:2], seen[:, 2:], grown], 1)
    larger = torch.cat([30 + 100 * on_page[:, :1], 40 + 100 * on_page[:, 1:2], on_page[:, 2:]], 1)
    big = camera(middle=[30.0, 40.0], size=50.0, zoom=2.0)
    far = explore.distances(z, codes().codes).min(1)
    grey = (3 * digits().images).round().flatten(1) / 3
    whole = np.random.default_rng(0).integers(0, 64, 40)
    return [
        (["whole", [explore.pack_whole([(whole, 6)]), [6] * 40]], whole.tolist()),
        (["decode", [packed, PIXELS, z.tolist()]], page_decoder().mean(z).tolist()),
        (["draw", [explore._flat(components()), z.tolist()]], page_components(z).tolist()),
        (["cloud.images", [explore.pack_images(digits().images.numpy()), MANY, HEIGHT, WIDTH]], grey.tolist()),
        (["project", [camera(), z.tolist()]], on_page.tolist()),
        (["project", [big, z.tolist()]], larger.tolist()),
        (["back", [big, larger.tolist()]], z.tolist()),
        *((["cloud.nearest", [codes().codes.flatten().tolist(), one]], {"at": int(at), "distance": float(away)})
          for one, at, away in zip(z.tolist(), far.indices, far.values)),
        (["cloud.between", [[0.0, 2.0, 1.0], [4.0, 1.0, 1.0], 0.25]], [1.0, 1.75, 1.0]),
        (["cloud.retarget", [[0.0, 1.0, 2.0], 1.0, 4.0, [4.0, 1.0, 0.0], [9.0, 9.0, 9.0]]], [3.0, 1.0, 0.5]),
        (["cloud.retarget", [[3.0, 1.0, 0.5], 4.0, 2.0, [4.0, 1.0, 0.0], [0.0, 0.0, 0.0]]],
         [2.0, 2 / 3, 1 / 3]),
    ]


def line_vectors() -> list[tuple[list, object]]:
    x = explore.some_points()
    flat, best = x.flatten().tolist(), PrincipalComponents.fit(x, 1).components[:, 0]
    vectors = [(["first", [flat]], math.degrees(math.atan2(best[1], best[0])) % 180)]
    for angle, scale in ((0.0, 1.0), (27.0, 2.0), (110.0, 0.25)):
        made = explore.line_autoencoder(x, angle, scale)
        with torch.no_grad():
            code, drawn = made.encode(x[:1])[0].tolist(), made.reconstruct(x[:1])[0].tolist()
        vectors += [(["reading", [flat, angle, scale]], explore.turn(x, angle, scale)._asdict()),
                    (["code", [flat, angle, scale]], code + drawn)]
    return vectors


@pytest.fixture(scope="module")
def golden_cloud() -> list:
    return cloud_vectors()


@needs_node
def test_the_page_decodes_projects_and_finds_as_python_does(golden_cloud):
    assert disagreement(golden_cloud) < 1e-6                # float32 scales and shades
    exact = [vector for vector in golden_cloud if vector[0][0] not in ("draw", "cloud.images")]
    assert disagreement(exact) < 1e-12


@needs_node
def test_the_pages_line_is_nemlibs_linear_autoencoder():
    assert disagreement(line_vectors()) < 1e-10


@needs_node
@pytest.mark.parametrize("change, to", [
    ("(held << 8) | bytes[at++]", "bytes[at++]"),
    ("(read(bits) - top) * step", "read(bits) * step"),
    ("(read(bits) - top) * step", "read(bits) - top"),
    ("bits = width(4)", "bits = 9"),
    ('["ReLU", 0]', '["Tanh", 0]'),
    ("image[packed.kept[n]]", "image[n]"),
    ('packed.law === "bernoulli"', 'packed.law === "gaussian"'),
    ("coordinate * rows[k * pixels + i], value", "coordinate * rows[k * pixels + i], 0"),
    ("rows[k * pixels + i]", "rows[i]"),
    ("(top + y) * width + left + x", "y * width + x"),
    ("read(2) / 3", "read(2) / 4"),
    ("[-sb * ca, -sb * sa, cb]", "[-sb * ca, sb * sa, cb]"),
    ("camera.middle[1] - size", "camera.middle[1] + size"),
    ("camera.eye - near", "camera.eye + near"),
    ("camera.size * camera.zoom * grown", "camera.size * grown"),
    ("value - camera.target[k]", "value"),
    ("camera.middle[1] - y) / size", "y - camera.middle[1]) / size"),
    ("codes[3 * n + 2] - z[2]", "0"),
    ("next > zoom ? cursor", "next < zoom ? cursor"),
    ("t * (b[k] - value)", "t * b[k]"),
])
def test_a_wrong_cloud_is_noticed(golden_cloud, change, to):
    mutant = {"file": "autoencoder_cloud_maths.js", "from": change, "to": to}
    assert disagreement(golden_cloud, mutant) > 1e-4


@needs_node
@pytest.mark.parametrize("change, to", [
    ("0.5 * Math.atan2", "Math.atan2"),
    ("S.xx - S.yy", "S.yy - S.xx"),
    ("scale * (u[0]", "(u[0]"),
    ("u[1] * (y - mean[1])", "u[1] * y"),
    ("(part * z) / scale", "part * z"),
    ("(drawn[k] - known.mean[k])", "drawn[k]"),
    ("(x[k] - drawn[k]) ** 2 / n", "(x[k] - drawn[k]) ** 2"),
])
def test_a_wrong_line_is_noticed(change, to):
    mutant = {"file": "autoencoder_linear_maths.js", "from": change, "to": to}
    assert disagreement(line_vectors(), mutant) > 1e-4


# ---- a reader in a browser --------------------------------------------------------------------------------


@cache
def alone() -> tuple[int, list[float]]:
    """The digit that stands most alone in the first view, away from the cursor, and where, in shares of the canvas."""
    shares = 0.5 + explore.project(codes().codes, codes().focus, *explore.FIRST_VIEW)[:, :2] / 3 * torch.tensor([1, -1])
    shares = shares.numpy()
    first = shares[codes().typical[codes().holes[0][0]]]
    away = [min([np.abs(one - other).max() for n, other in enumerate(shares) if n != k] + [np.abs(one - first).max()])
            if (np.abs(one - 0.5) < 0.42).all() else 0 for k, one in enumerate(shares)]
    return int(np.argmax(away)), shares[int(np.argmax(away))].tolist()


def write_pages(folder: Path) -> None:
    own, line = cloud(components=components()), explore.linear()
    template = f"<template>{own._repr_html_()}{line._repr_html_()}</template></body>"
    made = {"cloud": page(own), "linear": page(line), "both": page(own, line),
            "host": page().replace("</body>", template)}
    for name, text in made.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    (folder / "places.json").write_text(json.dumps({"alone": alone()[1]}), encoding="utf-8")


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
    return Records(json.loads(node("browser/explore_autoencoder.mjs", chrome(), str(folder), *shots)))


def shades(values: np.ndarray) -> np.ndarray:
    """Red of the light page where paper turns to ink."""
    paper, ink = (int(PALETTE[name][0][1:3], 16) for name in ("paper", "ink"))
    return np.round(paper + values * (ink - paper))


def assert_at(record: dict, z: Tensor, shown: explore.Cloud, looked: int | None = None) -> None:
    """All pictures and numbers belong to the cursor z, and to the digit that is looked at, the nearest if None."""
    draw = page_decoder().mean if shown is codes() else page_components
    away = explore.distances(z[None], shown.codes)[0]
    near = int(away.argmin())
    looked = near if looked is None else looked
    values = draw(z[None])[0].numpy()
    assert record["z"] == pytest.approx(z.tolist(), abs=0.0051)
    assert np.abs(np.array(record["made"]) - shades(values)).max() <= 1
    known = (3 * digits().images[looked].flatten().numpy()).round() / 3
    assert np.abs(np.array(record["known"]) - shades(known)).max() <= 1
    assert np.abs(np.array(record["again"]) - shades(draw(shown.codes[looked:looked + 1])[0].numpy())).max() <= 1
    assert float(record["Nearest code"]) == pytest.approx(away[near].item(), abs=0.0051)
    assert int(record["Grey pixels"]) == pytest.approx(((values > 0.2) & (values < 0.8)).sum(), abs=1)
    assert float(record["‖x − x̂‖²"]) == pytest.approx(shown.errors[looked].item(), abs=0.051, rel=1e-3)
    assert float(record["Mean ‖x − x̂‖²"]) == pytest.approx(shown.errors.mean().item(), abs=0.051, rel=1e-3)
    assert f"of a {digits().labels[near]}, is " in record["words"]


def typical(k: int, shown: explore.Cloud | None = None) -> Tensor:
    shown = shown or codes()
    return shown.codes[shown.typical[k]]


def strip_of(pixels: list, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.array(pixels).reshape(height, 9, width).transpose(1, 0, 2).reshape(9, -1)


@pytest.mark.browser
def test_the_cursor_begins_at_a_typical_digit_and_the_strip_follows_the_line(seen):
    record, (a, b, _) = seen["cloud"], codes().holes[0]
    assert_at(record["start"], typical(a), codes())
    assert record["start"]["ends"] == [str(a), str(b)] and record["start"]["part"] == 0
    way = typical(a) + torch.linspace(0, 1, 9, dtype=torch.float64)[:, None] * (typical(b) - typical(a))
    assert np.abs(strip_of(record["strip"]) - shades(page_decoder().mean(way).numpy())).max() <= 1
    assert record["headings"][0].startswith("60 test digits, each where the encoder puts it")


@pytest.mark.browser
def test_a_digit_under_the_pointer_is_shown_and_a_click_puts_the_cursor_there(seen):
    record, (k, _), start = seen["cloud"], alone(), typical(codes().holes[0][0])
    assert_at(record["pointed"], start, codes(), looked=k)
    assert record["pointed"]["captions"][1] == f"Pointed at: a {digits().labels[k]}"
    assert_at(record["away"], start, codes())
    assert_at(record["clicked"], codes().codes[k], codes())
    assert record["clicked"]["said"] == record["clicked"]["words"]
    assert "digits live here" in record["clicked"]["words"]


@pytest.mark.browser
def test_the_cursor_is_dragged_in_the_plane_of_view_and_the_space_is_turned(seen):
    record, (k, _) = seen["cloud"], alone()
    _, unit = codes().focus
    right, up, toward = explore.look_from(*explore.FIRST_VIEW)
    z = codes().codes[k]
    near = explore.project(z[None], codes().focus, *explore.FIRST_VIEW)[0, 2].item()
    step = unit * 3 / record["side"] * (explore.EYE - near) / explore.EYE
    low, high = codes().box
    wanted = (z + step * (30 * right - 20 * up)).clamp(low, high)
    got = torch.tensor(record["dragged"]["z"], dtype=torch.float64)
    assert (got - wanted).abs().max() < 0.0051 + step
    assert record["dragged"]["said"] == record["dragged"]["words"]
    assert record["turned"]["z"] == record["dragged"]["z"] and record["turned"]["moved"]


@pytest.mark.browser
def test_keys_and_buttons_turn_and_magnify_and_lead_back(seen):
    first, left, up, nearer, back, home, zoomed, out, turned = seen["cloud"]["views"]
    assert len({first, left, up, nearer}) == 4 and home == first
    assert zoomed != first and out == first and turned != first


@pytest.mark.browser
def test_sliders_and_classes_and_the_next_digit_move_the_cursor(seen):
    record, (k, _) = seen["cloud"], alone()
    moved = torch.tensor(record["dragged"]["z"], dtype=torch.float64)
    assert record["slid"]["z"][1] == pytest.approx(codes().box[1, 1].item(), abs=0.0051)
    assert record["slid"]["z"][0] == pytest.approx(moved[0].item(), abs=0.0051)
    assert record["slid"]["said"] == record["slid"]["words"]
    assert record["chosen"]["said"] == "Only the digit 5 stands out."
    assert record["all"] == {"said": "All digits.", "pressed": 0}
    at = [int(explore.distances(torch.tensor([record[name]["z"]]).double(), codes().codes).argmin())
          for name in ("next", "nextAgain")]
    assert [digits().labels[n].item() for n in at] == [5, 5] and (at[1] - at[0]) % MANY == 3
    assert_at(record["next"], codes().codes[at[0]], codes())


@pytest.mark.browser
def test_holes_are_shown_and_the_line_is_the_readers(seen):
    record = seen["cloud"]
    for name, (a, b, share) in zip(("hole", "secondHole"), codes().holes):
        assert_at(record[name], typical(a) + share * (typical(b) - typical(a)), codes())
        assert record[name]["ends"] == [str(a), str(b)] and record[name]["part"] == round(100 * share)
    assert record["hole"]["said"] == record["hole"]["words"]
    assert_at(record["line"], typical(2), codes())
    way = typical(2) + torch.linspace(0, 1, 9, dtype=torch.float64)[:, None] * (typical(0) - typical(2))
    assert np.abs(strip_of(record["lineStrip"]) - shades(page_decoder().mean(way).numpy())).max() <= 1
    assert record["half"]["part"] == 50
    assert_at(record["half"], way[4], codes())
    assert record["end"]["part"] == 100
    assert_at(record["end"], typical(0), codes())
    there, walked = record["here"]
    assert there == walked


@pytest.mark.browser
def test_the_switch_shows_the_same_digit_by_principal_components(seen):
    record = seen["cloud"]
    at = int(explore.distances(torch.tensor([record["beforePca"]["z"]]).double(), codes().codes).argmin())
    flat = explore.code_cloud(components(), digits())
    assert_at(record["pca"], flat.codes[at], flat)
    assert "PCA puts it" in record["pca"]["said"]
    a, b = 2, codes().holes[0][1]          # the cursor as an end has given way to the first line's
    assert record["pca"]["ends"] == [str(a), str(b)]
    way = typical(a, flat) + torch.linspace(0, 1, 9, dtype=torch.float64)[:, None] * (typical(b, flat) - typical(a, flat))
    assert np.abs(strip_of(record["pcaStrip"]) - shades(page_components(way).numpy())).max() <= 1


def assert_line(record: dict, angle: float, error: float = 0.0051) -> None:
    """The bar, its parts, the numbers and the feet belong to this line; the bar is always as long."""
    found = explore.turn(explore.some_points(), angle)
    assert float(record["Kept"]) == pytest.approx(found.kept, abs=2 * error)
    assert float(record["Lost"]) == pytest.approx(found.lost, abs=error)
    assert float(record["Kept"]) + float(record["Lost"]) == pytest.approx(float(record["sum"]), abs=1e-9)
    (left, kept), (seam, lost) = record["kept"], record["lost"]
    assert seam == pytest.approx(left + kept)
    assert kept / (kept + lost) == pytest.approx(found.kept / found.total, abs=0.003)


@pytest.mark.browser
def test_kept_and_lost_always_add_up_and_the_first_component_loses_least(seen):
    record, x = seen["line"], explore.some_points()
    assert_line(record["start"], 110)
    best = PrincipalComponents.fit(x, 1).components[:, 0]
    best = math.degrees(math.atan2(best[1], best[0])) % 180
    assert_line(record["best"], best)
    assert record["best"]["words"].startswith("The first principal component")
    assert float(record["best"]["Lost"]) == pytest.approx(PrincipalComponents.fit(x, 1).least_error, abs=0.0051)
    assert record["best"]["said"] == record["best"]["words"]
    assert_line(record["second"], best + 90)
    assert record["second"]["words"].startswith("The second principal component")
    assert record["best"]["angle"] == round(best) and record["second"]["angle"] == round(best + 90)
    lengths = {round(one["kept"][1] + one["lost"][1], 3) for one in record.values() if isinstance(one, dict)}
    assert len(lengths) == 1
    assert record["best"]["dot"][1] > record["start"]["dot"][1] > record["second"]["dot"][1]


@pytest.mark.browser
def test_the_line_is_turned_by_keys_by_its_slider_and_by_dragging(seen):
    record = seen["line"]
    assert (record["up"], record["down"]) == (record["second"]["angle"] + 1, record["second"]["angle"])
    assert record["round"]["angle"] == (record["second"]["angle"] + 80) % 180
    assert record["flat"]["angle"] == 0
    assert_line(record["flat"], 0)
    assert record["dragged"]["angle"] == pytest.approx(45, abs=1)
    assert_line(record["dragged"], 45, error=0.05)


@pytest.mark.browser
def test_the_scale_moves_the_codes_and_not_the_points(seen):
    record = seen["line"]
    before, after = record["flat"], record["scaled"]
    assert after["scale"] == "m = 2.00" and after["feet"] == before["feet"] and after["ticks"] != before["ticks"]
    assert after["Kept"] == before["Kept"] and after["kept"] == before["kept"]
    assert float(after["Code of the ringed point"]) == pytest.approx(2 * float(before["Code of the ringed point"]), abs=0.011)
    assert (after["Encoder m u"], after["Decoder u / m"]) == ("(2.00, 0.00)", "(0.50, 0.00)")
    assert "no point is drawn elsewhere" in after["words"]


@pytest.mark.browser
def test_with_motion_the_cloud_turns_and_the_line_glides_until_they_are_stopped(seen):
    record = seen["motion"]
    assert record["turns"] and record["stops"] and record["walks"] and 5 <= record["between"] < 100
    assert record["glides"] and record["arrives"] and record["stays"]


@pytest.mark.browser
def test_on_a_phone_everything_fits_and_answers_the_finger(seen):
    phone = seen["phone"]
    assert phone["width"] <= 360 and phone["theme"] == ["dark"] * 2 and phone["small"] == 0
    assert phone["tapped"] and phone["caption"] == f"Nearest test digit: a {digits().labels[alone()[0]]}"
    assert phone["turned"] and phone["swung"] and phone["inside"] == [True, True]


@pytest.mark.browser
def test_colours_follow_light_and_dark_and_paper_shows_the_still_picture(seen):
    looks = seen["looks"]
    assert all(light != dark for light, dark in zip(looks["light"], looks["dark"]))
    assert looks["print"] == [[False, True]] * 2 and looks["ids"] == []


@pytest.mark.browser
def test_nothing_stands_in_the_way_of_a_screen_reader(seen):
    assert seen["looks"]["violations"] == seen["looks"]["violationsDark"] == seen["phone"]["violations"] == []


@pytest.mark.browser
def test_figures_work_where_html_is_inserted(seen):
    host = seen["host"]
    assert host["live"] == 2 and host["words"][0].startswith("z = (") and host["words"][1].startswith("At 110°")


@pytest.mark.browser
def test_no_error_and_no_request(seen):
    assert {name: seen[name]["troubles"] for name in seen} == {name: [] for name in seen}
