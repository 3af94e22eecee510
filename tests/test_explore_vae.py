"""Chapter 4's interactive figures: what Python packs, what JavaScript computes, what a reader sees."""

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
from scipy import integrate, stats
from torch import Tensor, nn

from nemlib.evaluate.likelihood import log_mean_exp
from nemlib.explore import page
from nemlib.explore import vae as explore
from nemlib.explore.figure import LARGEST
from nemlib.plot import PALETTE

ROOT = Path(__file__).resolve().parent.parent
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
HEIGHT, WIDTH = 12, 10            # not square: swapped axes are seen
NAMES = ["One Gaussian", "Skewed", "Two bumps"]


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
    return json.loads(node("js/vae_golden.mjs", stdin=json.dumps({"calls": calls, "mutant": mutant})))


def network(*layers: nn.Module, seed: int = 0, scale: float = 1.0) -> nn.Sequential:
    """Layers with weights of every size, rows of unlike strength."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in layers:
            for parameter in layer.parameters():
                strength = torch.rand(len(parameter), generator=generator) * scale
                drawn = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(strength[:, None] * drawn if drawn.dim() == 2 else strength * drawn)
    return nn.Sequential(*layers)


@cache
def decoder() -> nn.Sequential:
    return network(nn.Linear(2, 9), nn.Tanh(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, HEIGHT * WIDTH),
                   scale=1.5)


@cache
def codes() -> Tensor:
    """Thirty, in three clouds."""
    middles = torch.tensor([[-2.0, 0.5], [1.0, 1.5], [0.5, -2.0]]).repeat(10, 1)
    return middles + 0.4 * torch.randn(30, 2, generator=torch.Generator().manual_seed(2))


LABELS = torch.tensor([1, 5, 8]).repeat(10)


@cache
def images() -> Tensor:
    levels = torch.randint(4, (30, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(3))
    return levels / 3


def plane(**changes) -> explore.Figure:
    usual = {"decoder": decoder(), "codes": codes(), "images": images(), "labels": LABELS}
    return explore.plane(**{**usual, **changes})


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
    return {"gap": explore.gap(), "plane": plane()}


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {name: figure._repr_html_() for name, figure in figures().items()}


def test_a_rebuilt_figure_is_the_same_figure(pages):
    explore._still_gap.cache_clear()
    assert {name: figure._repr_html_() for name, figure in figures().items()} == pages


@pytest.mark.parametrize("which", ["gap", "plane"])
def test_a_figure_asks_for_nothing(pages, which):
    text = pages[which]
    names_of_spaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?:[^\s'\"\\]*", text)) <= names_of_spaces
    assert not re.search(r"\b(import|require)\s*\(|<link|src=\"(?!data:)", text)


def test_the_gap_is_as_small_as_any_figure_and_the_plane_within_its_own_limit(pages):
    assert len(pages["gap"].encode()) < LARGEST
    wide = network(nn.Linear(2, 128), nn.ReLU(), nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 784),
                   scale=0.2)
    n = explore.MOST_CODES
    many = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    pictures = torch.rand(n, 784, generator=torch.Generator().manual_seed(0))
    full = explore.plane(wide, many, pictures, torch.arange(n) % 10)._repr_html_()
    assert LARGEST < len(full.encode()) < 500_000


@needs_node
@pytest.mark.parametrize("which", ["gap", "plane"])
def test_the_embedded_script_is_whole(pages, which):
    script, = Reader(pages[which]).scripts
    ran = subprocess.run([NODE, "--check", "-"], input=script, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_ids_come_from_the_name_and_the_copy(pages):
    assert Reader(pages["gap"]).ids == ["nx-vae-gap-1"]
    assert Reader(plane(copy=2)._repr_html_()).ids == ["nx-vae-plane-2"]


def test_a_still_picture_keeps_its_words_and_numbers(pages):
    for which, words in (("gap", "ELBO −2.88 + KL 0.71 = −2.17"), ("plane", "Codes of test images")):
        image, = Reader(pages[which]).images
        assert len(image["alt"]) > 80 and image["src"].startswith("data:image/svg+xml,")
        assert words in urllib.parse.unquote(image["src"])


def test_a_terminal_shows_words():
    assert "about log 2 of it stays" in repr(explore.gap())
    assert "also where no test image lies" in repr(plane())


def test_the_colours_are_the_books():
    for figure in figures().values():
        assert {tuple(pair) for pair in figure.data["palette"].values()} <= set(PALETTE.values())
    sources = [path.read_text() for path in (ROOT / "nemlib" / "explore").glob("vae*.*s")]
    assert len(sources) == 7
    assert not [found for text in sources for found in re.findall(r"#[0-9a-fA-F]{3,8}\b|rgb\(\d", text)]


def test_square_images_may_come_flat():
    square = network(nn.Linear(2, 16))
    pictures = torch.rand(30, 4, 4, generator=torch.Generator().manual_seed(0))
    flat = plane(decoder=square, images=pictures.flatten(1))._repr_html_()
    assert flat == plane(decoder=square, images=pictures)._repr_html_()


def test_the_path_begins_where_the_author_says():
    assert plane().data["ends"] == [1, 8] and plane(ends=(8, 5)).data["ends"] == [8, 5]


@pytest.mark.parametrize("make, words", [
    (lambda: explore.gap("Three bumps"), "should be one of"),
    (lambda: explore.TOYS[0].reading(0.0, 0.0), "above 0, but 0.0 came"),
    (lambda: plane(decoder=network(nn.Linear(3, 120))), "takes 3 numbers, and a plane has 2"),
    (lambda: plane(decoder=network(nn.Linear(2, 784))), "gives 784 numbers.* 12 × 10 have 120 pixels"),
    (lambda: plane(decoder=network(nn.Linear(2, 120), nn.Sigmoid())), "the last layer linear"),
    (lambda: plane(decoder=network(nn.Linear(2, 9), nn.GELU(), nn.Linear(9, 120))), "ReLU.*Linear', 'GELU'"),
    (lambda: plane(decoder=network(nn.Linear(2, 4), nn.Linear(4, 120))), "linear layers with one of"),
    (lambda: plane(decoder=network(nn.Linear(2, 2000), nn.ReLU(), nn.Linear(2000, 120))),
     "244000 weights.*at most 240000"),
    (lambda: plane(codes=codes().repeat(1, 2)), r"\(30, 4\): it should be \(n, 2\)"),
    (lambda: plane(codes=torch.zeros(401, 2)), "n from 2 to 400"),
    (lambda: plane(labels=LABELS[:9]), r"\(30, 2\), \(30, 12, 10\) and \(9,\)"),
    (lambda: plane(images=images()[:9]), r"\(9, 12, 10\)"),
    (lambda: plane(images=images() * 2), r"lie in \[0, 1\]"),
    (lambda: plane(images=images() * math.nan), r"lie in \[0, 1\]"),
    (lambda: plane(codes=codes() * math.nan), "NaN"),
    (lambda: plane(labels=LABELS / 2), "should be integers"),
    (lambda: plane(labels=torch.arange(30)), "at most 10 different ones"),
    (lambda: plane(pixels="grey"), "'bernoulli' or 'gaussian'"),
    (lambda: plane(ends=(1, 2)), r"two labels of \[1, 5, 8\]"),
])
def test_what_the_page_cannot_show_is_refused_in_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_decoder_with_nan_is_refused():
    broken = network(nn.Linear(2, 120))
    with torch.no_grad():
        broken[0].bias[3] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        plane(decoder=broken)


def test_the_pages_weights_are_within_half_a_level_of_the_trained_ones():
    rounded = explore.page_decoder(decoder())
    for mine, own in zip(rounded[::2], decoder()[::2]):
        half_level = own.weight.abs().amax(1, keepdim=True) / 254
        assert ((mine.weight - own.weight).abs() <= half_level * (1 + 1e-5)).all()
        assert (mine.weight - own.weight).abs().max() > 0
        assert torch.allclose(mine.bias.float(), own.bias, rtol=1e-3, atol=1e-7)
    assert decoder()[0].weight.dtype == torch.float32 and rounded[0].weight.dtype == torch.float64


def test_an_output_without_weights_and_a_layer_without_biases_stay_so():
    bare = network(nn.Linear(2, 3, bias=False), nn.ELU(), nn.Linear(3, 120))
    with torch.no_grad():
        bare[0].weight[1] = 0
    rounded = explore.page_decoder(bare)
    assert not rounded[0].weight[1].any() and rounded[0].bias is None


def test_the_quantile_map_reads_as_on_paper():
    z = network(nn.Linear(2, 2))
    with torch.no_grad():
        z[0].weight.copy_(torch.eye(2))
        z[0].bias.zero_()
    made = explore.quantile_map(z.double(), 4).logit()
    steps = torch.tensor(stats.norm.ppf([0.125, 0.375, 0.625, 0.875]))
    assert torch.allclose(made[..., 0], steps.expand(4, 4))                # z₁ grows to the right
    assert torch.allclose(made[..., 1], steps.flip(0)[:, None].expand(4, 4))   # z₂ grows upwards
    assert explore.quantile_map(z, 4, "gaussian")[0, 3].tolist() == [1, 1]


# ---- the toys: Python against integrals of another kind ---------------------------------------------------


def log_joint(toy: explore.Toy, z: float) -> float:
    """By scipy's densities."""
    f = {"line": z, "ramp": np.logaddexp(0, 4 * z), "square": z * z}[toy.decoder]
    return stats.norm.logpdf(z) + stats.norm.logpdf(toy.x, f, toy.sd)


@pytest.mark.parametrize("name", NAMES)
def test_log_p_is_the_integral(name):
    toy = explore.toy(name)
    mass, _ = integrate.quad(lambda z: math.exp(log_joint(toy, z)), -9, 9, points=[-1.4, 0, 1.4],
                             epsabs=1e-14)
    assert toy.log_prob == pytest.approx(math.log(mass), abs=1e-10)
    z = torch.linspace(-9, 9, 3001, dtype=torch.float64)
    assert torch.trapezoid(toy.posterior(z), z).item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mean, sd", [(0.3, 0.9), (-1.4, 0.2), (1.0, 1.5)])
def test_a_reading_is_made_of_its_integrals_and_adds_up(name, mean, sd):
    toy = explore.toy(name)
    found, q = toy.reading(mean, sd), stats.norm(mean, sd)

    def expectation(f) -> float:
        ends = mean - 11 * sd, mean + 11 * sd
        return integrate.quad(lambda z: q.pdf(z) * f(z), *ends, limit=300, epsabs=1e-12)[0]

    reconstruction = expectation(lambda z: log_joint(toy, z) - stats.norm.logpdf(z))
    prior_kl = expectation(lambda z: q.logpdf(z) - stats.norm.logpdf(z))
    assert found.reconstruction == pytest.approx(reconstruction, abs=1e-8)
    assert found.prior_kl == pytest.approx(prior_kl, abs=1e-9)
    assert found.energy == pytest.approx(expectation(lambda z: log_joint(toy, z)), abs=1e-8)
    assert found.entropy == pytest.approx(q.entropy(), abs=1e-12)
    assert found.elbo == pytest.approx(found.energy + found.entropy, abs=1e-10)
    assert found.elbo + found.gap == pytest.approx(toy.log_prob, abs=1e-9) and found.gap > 0


def test_one_posterior_is_a_gaussian_and_its_gap_closes():
    toy = explore.toy("One Gaussian")
    variance = 1 / (1 + 1 / toy.sd**2)
    mean, sd = toy.best()
    assert (mean, sd) == pytest.approx((variance * toy.x / toy.sd**2, math.sqrt(variance)), abs=1e-6)
    assert toy.log_prob == pytest.approx(stats.norm.logpdf(toy.x, 0, math.sqrt(1 + toy.sd**2)), abs=1e-12)
    assert abs(toy.reading(mean, sd).gap) < 1e-10


def test_the_others_keep_a_gap_with_two_bumps_of_a_little_more_than_log_2():
    skewed, bumps = explore.toy("Skewed"), explore.toy("Two bumps")
    assert 0.1 < skewed.reading(*skewed.best()).gap < 0.3
    assert math.log(2) < bumps.reading(*bumps.best()).gap < math.log(2) + 0.05
    assert bumps.best(near=-1)[0] == pytest.approx(-bumps.best(near=1)[0], abs=1e-5)


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


def packed_toy(toy: explore.Toy) -> dict:
    return {"decoder": toy.decoder, "x": toy.x, "sd": toy.sd}


NOISE = torch.randn(600, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def bound(toy: explore.Toy, mean: float, sd: float, K: int) -> dict[str, float]:
    """L_K and its standard error from the same numbers, by nemlib's own stable mean."""
    noise = NOISE[: len(NOISE) // K * K].reshape(-1, K)
    q = torch.distributions.Normal(*torch.tensor([mean, sd], dtype=torch.float64))
    log_q = q.log_prob(mean + sd * noise)
    values = log_mean_exp(toy.log_joint(mean + sd * noise) - log_q, 1)
    return {"bound": values.mean().item(), "error": (values.std() / len(values) ** 0.5).item()}


def gap_vectors() -> list[tuple[list, object]]:
    """Pairs of a call of the figure's JavaScript and what Python says."""
    vectors = []
    for toy in explore.TOYS:
        given = packed_toy(toy)
        vectors.append((["vaeGap.logProb", [given]], toy.log_prob))
        for mean, sd in ((0.0, 1.0), (-1.2, 0.3), (2.0, 0.1), (0.4, 1.9)):
            now = toy.reading(mean, sd)
            vectors.append((["reading", [given, {"mean": mean, "sd": sd}]], {
                "reconstruction": now.reconstruction, "priorKl": now.prior_kl, "energy": now.energy,
                "entropy": now.entropy, "elbo": now.elbo, "gap": now.gap}))
            for K in (1, 7):
                vectors.append((["vaeGap.weighted", [given, {"mean": mean, "sd": sd}, NOISE.tolist(), K]],
                                bound(toy, mean, sd, K)))
    return vectors


def best_vectors() -> list[tuple[list, object]]:
    limits, vectors = {"mean": explore.MEANS, "sd": explore.WIDTHS}, []
    for toy in explore.TOYS:
        for near in (0.5, -0.5):
            mean, sd = toy.best(near)
            call = ["vaeGap.best", [packed_toy(toy), {"mean": near, "sd": 0.9}, limits]]
            vectors.append((call, {"mean": mean, "sd": sd}))
    return vectors


def decode_vectors() -> list[tuple[list, object]]:
    z = 1.5 * torch.randn(6, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    kinds = [nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.SiLU(), nn.ELU(1.7), nn.LeakyReLU(0.2)]
    vectors = []
    for seed, kind in enumerate(kinds):
        made = network(nn.Linear(2, 6), kind, nn.Linear(6, 4), kind, nn.Linear(4, 5), seed=seed)
        with torch.no_grad():
            wanted = explore.page_decoder(made)(z).tolist()
        vectors.append((["decode", [explore._packed(made), z.tolist()]], wanted))
    return vectors


def plane_vectors() -> list[tuple[list, object]]:
    z = [[0.3, -1.2], [2.0, 0.1], [-2.5, 2.5], [0.0, 0.0]]
    numbers = [-6.0, -1.3, 0.0, 0.4, 3.2]
    prior = stats.multivariate_normal([0, 0])
    points = codes().double()
    between = torch.cdist(points, points).fill_diagonal_(math.inf)
    own = LABELS == 5
    middle = int(torch.cdist(points[own], points[own]).sum(1).argmin()) * 3 + 1
    near = torch.cdist(torch.tensor(z, dtype=torch.float64), points).min(1)
    flat = points.flatten().tolist()
    return [
        (["each", ["logPrior", z]], prior.logpdf(z).tolist()),
        (["each", ["farther", z]], stats.chi2(2).sf(np.square(z).sum(1)).tolist()),
        (["each", ["radius", [0.5, 0.95]]], np.sqrt(stats.chi2(2).ppf([0.5, 0.95])).tolist()),
        (["each", ["cumulative", numbers]], stats.norm.cdf(numbers).tolist()),
        (["each", ["quantile", [0.001, 0.3, 0.5, 0.99]]], stats.norm.ppf([0.001, 0.3, 0.5, 0.99]).tolist()),
        *((["vaePlane.nearest", [flat, one, None]], {"at": int(at), "distance": float(far)})
          for one, at, far in zip(z, near.indices, near.values)),
        (["vaePlane.spacing", [flat]], float(between.min(1).values.sort().values[27])),
        (["vaePlane.middleOf", [flat, LABELS.tolist(), 5]], middle),
        (["vaePlane.between", [[0.0, 2.0], [4.0, 1.0], 0.25]], [1.0, 1.75]),
    ]


@pytest.fixture(scope="module")
def golden_gap() -> list:
    return gap_vectors()


@needs_node
def test_the_pages_bounds_and_divergences_are_nemlibs(golden_gap):
    assert disagreement(golden_gap) < 1e-10


@needs_node
def test_the_pages_best_q_is_the_one_that_an_optimizer_finds():
    vectors = best_vectors()
    assert disagreement(vectors) < 1e-5
    wrong = {"file": "vae_gap_maths.js", "from": "sd: sd * Math.exp(step)", "to": "sd"}
    assert disagreement(vectors, wrong) > 1e-3


@needs_node
def test_the_page_decodes_as_nemlib_does_with_the_same_rounded_weights():
    assert disagreement(decode_vectors()) < 1e-12


@needs_node
def test_priors_quantiles_and_neighbours_of_the_page_are_pythons():
    assert disagreement(plane_vectors()) < 1e-10


@needs_node
@pytest.mark.parametrize("change, to", [
    ("softplus(4 * z)", "softplus(3 * z)"),
    ("Math.max(a, 0) + ", "a + "),
    ("square: (z) => z * z", "square: (z) => Math.abs(z)"),
    ("LOG_TWO_PI) - Math.log(sd)", "LOG_TWO_PI)"),
    ("logNormal(z, 0, 1) + logLikelihood(toy, z)", "logLikelihood(toy, z)"),
    ("-10, 10, 2000", "-1, 10, 2000"),
    ("f(q.mean + q.sd * t)", "f(q.mean + t)"),
    ("q.mean ** 2 + q.sd ** 2 - 1", "q.mean ** 2 + q.sd - 1"),
    ("0.5 * (1 + LOG_TWO_PI) + Math.log(q.sd)", "0.5 * LOG_TWO_PI + Math.log(q.sd)"),
    ("- logP)", ")"),
    ("reconstruction - priorKl", "reconstruction + priorKl"),
    ("- logNormal(t, 0, 1) + Math.log(q.sd)", "- logNormal(t, 0, 1)"),
    ("Math.log(sum / K)", "Math.log(sum)"),
    ("(groups - 1)", "groups"),
    ("noise[n * K + k]", "noise[k]"),
])
def test_a_wrong_bound_is_noticed(golden_gap, change, to):
    assert disagreement(golden_gap, {"file": "vae_gap_maths.js", "from": change, "to": to}) > 1e-6


@needs_node
@pytest.mark.parametrize("change, to", [
    ("scale[Math.floor(at / inputs)]", "scale[0]"),
    ("Float64Array.from(b);", "new Float64Array(outputs);"),
    ("at = o * inputs;", "at = o;"),
    ("Math.max(a, 0)", "Math.abs(a)"),
    ("slope * a", "a"),
    ("alpha * Math.expm1(a)", "Math.expm1(a)"),
    ("Math.tanh(a)", "a"),
    ("Sigmoid: (a) => sigmoid(a)", "Sigmoid: (a) => 2 * sigmoid(a)"),
    ("a * sigmoid(a)", "sigmoid(a)"),
    ("network.activations[l]", "network.activations[l + 1]"),
])
def test_a_wrong_layer_is_noticed(change, to):
    assert disagreement(decode_vectors(), {"file": "vae_network.js", "from": change, "to": to}) > 1e-6


@needs_node
@pytest.mark.parametrize("change, to", [
    ("-LOG_TWO_PI - 0.5", "-0.5 * LOG_TWO_PI - 0.5"),
    ("Math.exp(-0.5 * (x * x + y * y))", "Math.exp(-(x * x + y * y))"),
    ("Math.log(1 - inside)", "Math.log(inside)"),
    ("(z * z) / k", "z / k"),
    ("0.5 + sum", "sum"),
    ("low = middle;", "low = middle + 1e-3;"),
    ("codes[2 * n + 1] - y", "codes[2 * n] - y"),
    ("codes[2 * n + 1]], n)", "codes[2 * n + 1]])"),
    ("0.9 * all.length", "0.5 * all.length"),
    ("far(n) < far(best)", "far(n) > far(best)"),
    ("t * (b[i] - value)", "t * b[i]"),
])
def test_a_wrong_place_in_the_plane_is_noticed(change, to):
    assert disagreement(plane_vectors(), {"file": "vae_plane_maths.js", "from": change, "to": to}) > 1e-6


@needs_node
def test_the_page_unpacks_the_test_images():
    grey = torch.rand(30, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    for given in (grey, grey[:, :11, :9]):          # 99 pixels are no whole number of bytes
        packed = explore._shades(given.numpy())
        read, = golden([["network.images", [packed, 30, given[0].numel()]]])
        assert np.abs(np.array(read) - (3 * given).round().flatten(1).numpy() / 3).max() < 1e-6


# ---- a reader in a browser --------------------------------------------------------------------------------


def write_pages(folder: Path) -> None:
    gap, own = explore.gap(), plane()
    template = f"<template>{gap._repr_html_()}{own._repr_html_()}</template></body>"
    made = {"gap": page(gap), "plane": page(own), "both": page(gap, own),
            "host": page().replace("</body>", template)}
    for name, text in made.items():
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
    return Records(json.loads(node("browser/explore_vae.mjs", chrome(), str(folder), *shots)))


def assert_shows(record: dict, toy: explore.Toy, mean: float, sd: float, error: float = 1.1e-3) -> None:
    """The three sums are Python's, add up to the last digit, and the bar is split where they say."""
    now = toy.reading(mean, sd)
    wanted = [[toy.log_prob, now.elbo, now.gap], [now.elbo, now.reconstruction, now.prior_kl],
              [now.elbo, now.energy, now.entropy]]
    assert np.abs(np.array(record["sums"]) - wanted).max() <= error
    for (whole, one, other), sign in zip(record["sums"], (1, -1, 1)):
        assert abs(whole - one - sign * other) < 1e-9
    (left, elbo), (seam, gap) = record["parts"]
    assert seam == pytest.approx(left + elbo) and elbo + gap > 500
    assert gap / (elbo + gap) == pytest.approx(min(now.gap / explore.SPAN, 1), abs=2e-3)


@pytest.mark.browser
@pytest.mark.parametrize("name", NAMES)
def test_the_bar_always_adds_up_to_log_p(seen, name):
    record, toy = seen["gap"]["toys"][NAMES.index(name)], explore.toy(name)
    assert_shows(record["start"], toy, *toy.start)
    best = toy.best()
    assert_shows(record["best"], toy, *best)
    assert_shows(record["prior"], toy, 0.0, 1.0)
    lengths = {round(elbo + gap, 6) for (_, elbo), (_, gap) in (one["parts"] for one in record.values())}
    assert len(lengths) == 1
    assert record["best"]["q"] == pytest.approx(best, abs=0.0051) and record["prior"]["q"] == [0, 1]
    assert record["start"]["words"] == toy.words
    assert record["best"]["words"].startswith(toy.done) and record["best"]["said"] == record["best"]["words"]
    assert record["prior"]["words"].startswith("The ELBO lies ")


@pytest.mark.browser
def test_q_is_moved_by_keys_by_sliders_and_by_dragging(seen):
    record, toy = seen["gap"], explore.toy("One Gaussian")
    assert record["keyed"]["q"] == pytest.approx([-0.15, 1.05])
    assert record["keyed"]["said"].startswith("q has mean −0.15 and standard deviation 1.05: ELBO −")
    assert_shows(record["keyed"], toy, -0.15, 1.05)
    assert record["slid"]["q"] == pytest.approx([3, 1.05])
    mean, sd = record["dragged"]["q"]
    assert mean > 0.3 and sd == 1
    assert_shows(record["dragged"], toy, mean, sd, error=0.02)
    assert record["narrowed"]["q"][0] == mean and 0.5 < record["narrowed"]["q"][1] < 0.9
    assert record["widened"]["q"][1] > record["narrowed"]["q"][1] + 0.3
    xs = [x for x, _ in record["widened"]["handles"]]
    assert xs[0] == pytest.approx((xs[1] + xs[2]) / 2, abs=0.11)


@pytest.mark.browser
def test_with_motion_q_glides_and_the_walk_can_be_stopped(seen):
    record = seen["motion"]
    assert record["arrives"] and record["returns"] and record["stays"]
    assert record["walks"] and 5 <= record["between"] < 100


def page_codes() -> np.ndarray:
    return codes().numpy().astype(np.float16).astype(float)


def shades(values: np.ndarray) -> np.ndarray:
    """Red of the light page where paper turns to ink."""
    paper, ink = (int(PALETTE[name][0][1:3], 16) for name in ("paper", "ink"))
    return np.round(paper + values * (ink - paper))


def decoded(z) -> np.ndarray:
    with torch.no_grad():
        return explore.page_decoder(decoder())(torch.tensor(z, dtype=torch.float64)).sigmoid().numpy()


def end(label: int) -> np.ndarray:
    points = page_codes()[LABELS == label]
    return points[np.linalg.norm(points[:, None] - points, axis=-1).sum(1).argmin()]


def assert_at(record: dict, z: np.ndarray) -> None:
    """Both digits, all numbers and the words belong to z."""
    far = np.linalg.norm(page_codes() - z, axis=1)
    near, values = int(far.argmin()), decoded(z)
    assert np.abs(np.array(record["made"]) - shades(values)).max() <= 1
    assert np.abs(np.array(record["known"]) - shades(images()[near].flatten().numpy())).max() <= 1
    assert record["captions"][1] == f"Nearest test image: a {LABELS[near]}"
    assert place(record) == pytest.approx(z, abs=0.0051)
    assert float(record["log p(z)"]) == pytest.approx(stats.norm.logpdf(z).sum(), abs=0.0051)
    assert float(record["Nearest code"]) == pytest.approx(far.min(), abs=0.0051)
    assert int(record["Grey pixels"]) == ((values > 0.2) & (values < 0.8)).sum()


def place(record: dict) -> list[float]:
    """z as the page writes it."""
    return [float(one) for one in re.findall(r"[\d.-]+", record["z"].replace("−", "-"))]


@pytest.mark.browser
def test_the_page_decodes_where_z_is_and_shows_the_nearest_test_image(seen):
    record = seen["plane"]
    assert_at(record["start"], end(1))
    assert record["codes"] == [str(label) for label in LABELS.tolist()]
    assert_at(record["keyed"], end(1) + [0.6, -0.1])
    assert record["keyed"]["said"] == record["keyed"]["words"]
    limit = max(3.2, np.abs(page_codes()).max()) * 1.04
    assert_at(record["edge"], np.array([end(1)[0] + 0.6, limit]))
    assert "hardly ever draws" in record["edge"]["words"]
    (low, x0), (high, x1) = record["ticks"]
    radii = np.sqrt(stats.chi2(2).ppf([0.5, 0.95])) * (x1 - x0) / (high - low)
    assert record["rings"] == pytest.approx(radii, abs=0.1)


@pytest.mark.browser
def test_z_is_drawn_from_the_prior_and_dragged_to_a_code(seen):
    record = seen["plane"]
    assert record["drawn"]["z"] != record["keyed"]["z"]
    assert record["drawn"]["said"] == record["drawn"]["words"]
    dragged = record["dragged"]
    assert np.abs(np.array(dragged["spot"]) - dragged["target"]).max() <= 1
    assert float(dragged["Nearest code"]) <= 0.03 and "test images live here" in dragged["words"]
    assert record["faint"] == [str(label) for label in LABELS.tolist() if label != 5]


@pytest.mark.browser
def test_a_path_is_walked_and_may_end_where_z_is(seen):
    record = seen["plane"]
    way = np.linspace(end(1), end(8), 9)
    strip = np.array(record["strip"]).reshape(HEIGHT, 9, WIDTH).transpose(1, 0, 2).reshape(9, -1)
    assert np.abs(strip - shades(decoded(way))).max() <= 1
    assert record["half"]["part"] == 50
    assert_at(record["half"], way[4])
    assert record["here"]["part"] == 0 and record["end"]["part"] == 100
    assert_at(record["here"], end(1))
    assert record["end"]["z"] == record["dragged"]["z"] and record["end"]["made"] == record["dragged"]["made"]
    assert record["hereStrip"] != record["strip"]


@pytest.mark.browser
def test_the_quantile_map_is_the_decoder_over_the_prior(seen):
    record, cells = seen["plane"], explore.CELLS
    made = explore.quantile_map(explore.page_decoder(decoder()), cells).reshape(cells, cells, HEIGHT, WIDTH)
    sheet = made.permute(0, 2, 1, 3).flatten().numpy()
    assert np.abs(np.array(record["map"]) - shades(sheet)).max() <= 1
    assert record["heading"].startswith("Quantile map: 144 cells") and record["disabled"]
    assert record["share"] == pytest.approx(stats.norm.cdf(place(record["mapped"])), abs=0.005)
    assert place(record["clicked"]) == pytest.approx(stats.norm.ppf([0.625, 0.625]), abs=0.03)
    assert record["back"]["spot"] != record["half"]["spot"]


@pytest.mark.browser
def test_on_a_phone_everything_fits_and_answers_the_finger(seen):
    phone = seen["phone"]
    assert phone["width"] <= 360 and phone["theme"] == ["dark"] * 2 and phone["small"] == 0
    assert phone["dragged"][0] > 0.3 and phone["dragged"][1] == 0 and phone["tapped"]
    assert phone["inside"] == [True, True]


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
    assert host["live"] == 2 and host["words"][0] == explore.TOYS[0].words
    assert host["words"][1].startswith("z = (")


@pytest.mark.browser
def test_no_error_and_no_request(seen):
    assert {name: seen[name]["troubles"] for name in seen} == {name: [] for name in seen}
