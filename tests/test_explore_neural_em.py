"""Chapter 8's interactive figures: what Python packs, what JavaScript computes, what a reader sees."""

import json
import math
import os
import re
import shutil
import subprocess
import urllib.parse
import warnings
from functools import cache
from html.parser import HTMLParser
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
from sklearn.mixture import GaussianMixture

from nemlib.data import shapes as data
from nemlib.explore import neural_em as explore
from nemlib.explore import page
from nemlib.explore.figure import LARGEST
from nemlib.neural_em import RNNEM
from nemlib.plot import PALETTE, SLOTS, slot_colours

ROOT = Path(__file__).resolve().parent.parent
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")


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
    return json.loads(node("js/nem_golden.mjs", stdin=json.dumps({"calls": calls, "mutant": mutant})))


@cache
def weights(hidden: int = 8, seed: int = 0) -> dict[str, torch.Tensor]:
    """A network that nobody trained: its step goes along the gradient, roughly, so that slots compete."""
    generator = torch.Generator().manual_seed(seed)
    encoder, decoder, recurrence = (torch.randn(shape, generator=generator) for shape in (
        (hidden, 784), (784, hidden), (hidden, hidden)))
    return {"encoder.weight": 0.02 * encoder - 0.3 * decoder.T,
            "recurrence.weight": 4 * torch.eye(hidden) + 0.1 * recurrence,
            "recurrence.bias": 0.1 * recurrence[0] - 2,
            "decoder.weight": decoder, "decoder.bias": 0.1 * decoder[:, 0] - 3}


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
    return {"mixture": explore.gaussian_mixture(), "shapes": explore.draw_shapes(weights())}


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {name: figure._repr_html_() for name, figure in figures().items()}


def test_a_rebuilt_figure_is_the_same_figure(pages):
    explore._still_mixture.cache_clear()
    assert {name: figure._repr_html_() for name, figure in figures().items()} == pages


@pytest.mark.parametrize("which", ["mixture", "shapes"])
def test_a_figure_asks_for_nothing(pages, which):
    text = pages[which]
    names_of_spaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?:[^\s'\"\\]*", text)) <= names_of_spaces
    assert not re.search(r"\b(import|require)\s*\(|<link|src=\"(?!data:)", text)


def test_the_mixture_is_as_small_as_any_figure_and_the_drawing_within_its_own_limit(pages):
    assert len(pages["mixture"].encode()) < LARGEST
    full = explore.draw_shapes(weights(hidden=48))._repr_html_()
    assert LARGEST < len(full.encode()) < explore.LARGEST_WITH_WEIGHTS


def test_a_figure_beyond_its_own_limit_is_refused():
    with pytest.raises(ValueError, match=f"{explore.LARGEST_WITH_WEIGHTS} are allowed"):
        explore.draw_shapes(weights(hidden=120))


@needs_node
@pytest.mark.parametrize("which", ["mixture", "shapes"])
def test_the_embedded_script_is_whole(pages, which):
    script, = Reader(pages[which]).scripts
    ran = subprocess.run([NODE, "--check", "-"], input=script, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_ids_come_from_the_name_and_the_copy(pages):
    assert Reader(pages["mixture"]).ids == ["nx-nem-mixture-1"]
    assert Reader(explore.draw_shapes(weights(), copy=2)._repr_html_()).ids == ["nx-nem-shapes-2"]


def test_a_still_picture_keeps_its_words(pages):
    for text, words in ((pages["mixture"], "left behind"), (pages["shapes"], "γ, step 15")):
        image, = Reader(text).images
        assert len(image["alt"]) > 80 and image["src"].startswith("data:image/svg+xml,")
        assert words in urllib.parse.unquote(image["src"])


def test_a_terminal_shows_words():
    assert "never falls" in repr(explore.gaussian_mixture())
    assert "compete" in repr(explore.draw_shapes(weights()))


def test_the_colours_are_the_books():
    assert explore.draw_shapes(weights()).data["palette"]["slots"] == [PALETTE[name] for name in SLOTS[:6]]


@needs_node
def test_the_page_mixes_colours_as_the_book_does():
    gamma = np.random.default_rng(0).dirichlet(np.ones(6), 20)
    for page_is, column in (("light", 0), ("dark", 1)):
        palette = [pair[column] for pair in explore.COLOURS["slots"]]
        mixed = golden([["slots.mix", [palette, row.tolist()]] for row in gamma])
        wanted = slot_colours(torch.from_numpy(gamma.T[:, None]), page=page_is)[0].numpy()
        assert np.abs(np.array(mixed) - 255 * wanted).max() <= 0.501


@pytest.mark.parametrize("make, words", [
    (lambda: explore.gaussian_mixture(components=5), "2, 3 or 4"),
    (lambda: explore.draw_shapes(weights(), slots=7), "from 1 to 6"),
    (lambda: explore.draw_shapes({"encoder.weight": np.ones((3, 784))}), "fully connected layers"),
    (lambda: explore.draw_shapes(weights() | {"decoder.weight": torch.ones(9, 8)}),
     r"\(9, 8\), and \(784, 8\)"),
    (lambda: explore.draw_shapes(weights() | {"decoder.bias": torch.full((784,), math.nan)}), "NaN"),
])
def test_what_the_page_cannot_show_is_refused_in_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_the_pages_weights_are_within_half_a_level_of_the_trained_ones():
    rounded = explore.page_weights(weights())
    for name, value in weights().items():
        value = value.double().numpy()
        if value.ndim == 2:
            half_level = np.abs(value).max(1, keepdims=True) / 254
            assert (np.abs(rounded[name] - value) <= half_level * (1 + 1e-5)).all()
        else:
            assert rounded[name] == pytest.approx(value, rel=1e-3, abs=1e-7)


def test_a_row_of_zeros_stays_zero():
    silent = weights() | {"encoder.weight": torch.zeros(8, 784)}
    assert not explore.page_weights(silent)["encoder.weight"].any()


def test_the_shapes_are_those_of_the_data():
    outlines, widths = data._outlines()
    for rows, outline, width in zip(explore.SHAPES, outlines, widths, strict=True):
        drawn = np.array([[mark == "#" for mark in row] for row in rows])
        assert (drawn == outline[:, :width].numpy()).all() and not outline[:, width:].any()


# ---- JavaScript against Python: EM for a Gaussian mixture --------------------------------------------------


def largest_difference(got, wanted) -> float:
    if isinstance(wanted, dict):
        return max(largest_difference(got[key], wanted[key]) for key in wanted)
    if isinstance(wanted, (list, tuple, np.ndarray)):
        assert len(got) == len(wanted)
        return max(map(largest_difference, got, wanted), default=0.0)
    return math.inf if got is None else abs(got - wanted) / max(1.0, abs(wanted))


def disagreement(vectors: list, mutant: dict | None = None) -> float:
    results = golden([call for call, _ in vectors], mutant)
    return max(largest_difference(got, wanted) for got, (_, wanted) in zip(results, vectors))


def sklearn_step(model: dict, points: np.ndarray) -> GaussianMixture:
    """scikit-learn's mixture after one step of EM from a model of the page's."""
    covariances = np.array([[[xx, xy], [xy, yy]] for xx, xy, yy in model["covariances"]])
    mixture = GaussianMixture(len(model["weights"]), weights_init=model["weights"], means_init=model["means"],
                              precisions_init=np.linalg.inv(covariances), max_iter=1, reg_covar=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # one step does not converge, and should not
        return mixture.fit(points)


def of_sklearn(mixture: GaussianMixture) -> dict:
    return {"weights": mixture.weights_.tolist(), "means": mixture.means_.tolist(),
            "covariances": [[c[0, 0], c[0, 1], c[1, 1]] for c in mixture.covariances_]}


def log_joint(model: dict, points: np.ndarray) -> np.ndarray:
    return np.stack([math.log(weight) + multivariate_normal(mean, [[xx, xy], [xy, yy]]).logpdf(points)
                     for weight, mean, (xx, xy, yy) in zip(*model.values())], 1)


def first_model(K: int) -> dict:
    """Where the figure begins."""
    return {"weights": [1 / K] * K, "means": [list(mean) for mean in explore.STARTS[K]],
            "covariances": [[explore.VARIANCE, 0, explore.VARIANCE] for _ in range(K)]}


def mixture_vectors() -> list[tuple[list, object]]:
    """Pairs of a call of the figure's JavaScript and what scikit-learn or scipy says."""
    points, vectors = explore.clusters(), []
    for K in explore.STARTS:
        model = first_model(K) | {"covariances": [[1, 0.1 * k, 1 + 0.2 * k] for k in range(K)]}
        other = np.random.default_rng(K).dirichlet(np.ones(K), len(points))
        for _ in range(6):
            stepped = sklearn_step(model, points)
            joint = log_joint(model, points)
            total = logsumexp(joint, 1)
            gamma = np.exp(joint - total[:, None])
            here = [model, points.tolist()]
            vectors += [
                (["mixture.eStep", here], gamma.tolist()),
                (["mixture.logLikelihood", here], float(total.sum())),
                (["mixture.mStep", [points.tolist(), gamma.tolist(), 0, model]], of_sklearn(stepped)),
                (["mixture.bound", [*here, other.tolist()]], float((other * (joint - np.log(other))).sum())),
                (["mixture.divergence", [*here, other.tolist()]],
                 float((other * (np.log(other) - joint + total[:, None])).sum())),
                (["mixture.bound", [*here, gamma.tolist()]], float(total.sum())),
            ]
            model = of_sklearn(stepped)
            vectors.append((["mixture.logLikelihood", [model, points.tolist()]],
                            float(stepped.score(points) * len(points))))
    return vectors


@pytest.fixture(scope="module")
def mixture_golden() -> list:
    return mixture_vectors()


@needs_node
def test_em_in_the_page_is_scikit_learns(mixture_golden):
    assert disagreement(mixture_golden) < 1e-10


@needs_node
@pytest.mark.parametrize("change, to", [
    ("(Math.log(det) + square) / 2", "(Math.log(det) + square)"),
    ("2 * xy * dx * dy", "xy * dx * dy"),
    ("Math.log(weight) + logDensity", "logDensity"),
    ("-LOG_2PI", "-LOG_2PI / 2"),
    ("model.weights.push(size / points.length)", "model.weights.push(1 / gamma[0].length)"),
    ("part + g * (joint[k] - Math.log(g))", "part + g * joint[k]"),
    ("Math.log(g) - joint[k] + total", "Math.log(g) - joint[k]"),
    ("(p[i] - mean[i]) * (p[j] - mean[j])", "(p[i] - before.means[k][i]) * (p[j] - before.means[k][j])"),
])
def test_a_wrong_step_of_em_is_noticed(mixture_golden, change, to):
    mutant = {"file": "nem_mixture_maths.js", "from": change, "to": to}
    assert disagreement(mixture_golden, mutant) > 1e-6


def test_em_of_the_still_picture_is_scikit_learns():
    points, K = explore.clusters(), 3
    model = (np.full(K, 1 / K), np.array(explore.STARTS[K]), np.tile(np.eye(2), (K, 1, 1)))
    _, stepped = explore._em(model, points, 1)
    page_model = {"weights": model[0], "means": model[1], "covariances": [[1, 0, 1]] * K}
    wanted = sklearn_step(page_model, points)
    for got, value in zip(stepped, (wanted.weights_, wanted.means_, wanted.covariances_)):
        assert np.abs(got - value).max() < 1e-10


def test_from_the_figures_start_em_climbs_for_more_than_a_few_steps():
    points = explore.clusters()
    for K in explore.STARTS:
        model, climb = first_model(K), []
        for _ in range(9):
            climb.append(logsumexp(log_joint(model, points), 1).sum())
            model = of_sklearn(sklearn_step(model, points))
        assert np.diff(climb).min() > 0.01


# ---- JavaScript against Python: RNN-EM and its scores ------------------------------------------------------


def rnn_vectors(many: tuple[int, ...] = (4, 1, 6), steps: int = 15) -> list[tuple[list, object]]:
    """Steps of the page's RNN-EM and of nemlib's with the same rounded weights, float64, for several K."""
    model = RNNEM(28, 28, hidden=8).double()
    rounded = explore.page_weights(weights())
    model.load_state_dict({name: torch.from_numpy(value) for name, value in rounded.items()})
    packed, vectors = explore._packed(weights()), []
    images, _ = data.draw_shapes(4, torch.Generator().manual_seed(5))
    for image, slots in zip(images.double(), many):
        generator = torch.Generator().manual_seed(slots)
        start = torch.rand(1, slots, 28, 28, generator=generator, dtype=torch.float64)
        start = start**4 / (start**4).sum(1, keepdim=True)
        with torch.no_grad():
            run = model(image[None], slots, steps, start=start)
        states = [{"theta": run.theta[t, 0].flatten().numpy(), "psi": run.psi[t, 0].flatten().numpy(),
                   "gamma": run.gamma[t, 0].flatten().numpy()} for t in range(steps + 1)]
        for t in range(steps):
            for name in ("reconstruction", "kl", "loss"):
                states[t + 1][name] = float(getattr(run, name)[t, 0])
        pixels = image.flatten().int().tolist()
        vectors.append((["run", [packed, pixels, slots, start.flatten().tolist(), steps]], states))
        vectors.append((["shapes.labels", [run.gamma[-1].flatten().tolist(), slots, 784]],
                        run.gamma[-1, 0].argmax(0).flatten().tolist()))
    return vectors


@pytest.fixture(scope="module")
def few_steps() -> list:
    return rnn_vectors((3,), 3)


@needs_node
def test_rnn_em_in_the_page_is_nemlibs():
    vectors = rnn_vectors()
    assert disagreement(vectors) < 1e-9
    four = vectors[0][1][-1]["gamma"].reshape(4, 784)        # the comparison rests on slots that differ
    assert four.std(0).max() > 0.2


@needs_node
@pytest.mark.parametrize("change, to", [
    ("gamma[at] * (p - x[at % pixels])", "p - x[at % pixels]"),
    ("gamma[at] * (p - x[at % pixels])", "gamma[at] * (x[at % pixels] - p)"),
    ("net.hiddenBias[h],", "0,"),
    ("dot(net.recurrence, h, hidden, theta, k * hidden)", "dot(net.recurrence, h, hidden, theta, 0)"),
    ("x[i] * a - softplus(a)", "x[i] * a - softplus(-a)"),
    ("kl += (1 - g)", "kl += g"),
    ("reconstruction -= g * logs[k]", "reconstruction -= logs[k]"),
    ("scales[Math.floor(at / columns)]", "scales[0]"),
    ("gamma[k * pixels + i] > gamma[best * pixels + i]", "gamma[k * pixels + i] > 0.3"),
])
def test_a_wrong_step_of_rnn_em_is_noticed(few_steps, change, to):
    mutant = {"file": "nem_shapes_maths.js", "from": change, "to": to}
    assert disagreement(few_steps, mutant) > 1e-5


def score_vectors() -> list[tuple[list, object]]:
    """Random labellings, some of few pixels, some with one label; pixels of group 0 are not counted."""
    rng, vectors = np.random.default_rng(0), []
    cases = [(200, 3, 4), (200, 5, 6), (40, 2, 2), (12, 3, 3), (9, 2, 1), (9, 1, 3), (6, 1, 1)]
    for n, groups_many, labels_many in cases:
        for _ in range(4):
            groups = rng.integers(0, groups_many + 1, n)
            groups[:groups_many] = np.arange(1, groups_many + 1)
            right, counted = rng.uniform(size=n) < 0.6, groups > 0
            labels = np.where(right, groups % labels_many, rng.integers(0, labels_many, n))
            calls = [labels.tolist(), groups.tolist()]
            vectors += [
                (["shapes.adjustedMutualInformation", calls],
                 adjusted_mutual_info_score(groups[counted], labels[counted])),
                (["shapes.adjustedRandIndex", calls], adjusted_rand_score(groups[counted], labels[counted]))]
    return vectors


@pytest.fixture(scope="module")
def score_golden() -> list:
    return score_vectors()


@needs_node
def test_the_pages_scores_are_scikit_learns(score_golden):
    assert disagreement(score_golden) < 1e-10


@needs_node
@pytest.mark.parametrize("change, to", [
    ("if (!group) return;", ""),
    ("(entropy(a, n) + entropy(b, n)) / 2", "Math.max(entropy(a, n), entropy(b, n))"),
    ("(information - expected) /", "information /"),
    ("choose(n - column, row - c)", "choose(n, row - c)"),
    ("(pairs(a) * pairs(b)) / Math.max(1, pairs([n]))", "0"),
    ("if (a.length === b.length && a.length < 2) return 1;", ""),
])
def test_a_wrong_score_is_noticed(score_golden, change, to):
    assert disagreement(score_golden, {"file": "nem_shapes_maths.js", "from": change, "to": to}) > 1e-6


@needs_node
def test_the_page_draws_stamps_as_python_does():
    stamps = [(0, 0, 0), (1, 3, 3), (2, 21, 16), (0, 5, 20), (1, 6, 12)]
    made = [{"shape": shape, "top": top, "left": left} for shape, top, left in stamps]
    drawn, = golden([["shapes.compose", [explore.SHAPES, made, [0] * 784, 28]]])
    image, groups = explore._drawing(stamps)
    assert drawn["image"] == image.flatten().int().tolist() and drawn["groups"] == groups.flatten().tolist()
    assert drawn["free"] == 0 and set(drawn["groups"]) == {0, 1, 2, 3, 4, 5}


# ---- a reader in a browser --------------------------------------------------------------------------------


def write_pages(folder: Path) -> None:
    mixture, shapes = explore.gaussian_mixture(), explore.draw_shapes(weights())
    template = f"<template>{mixture._repr_html_()}{shapes._repr_html_()}</template></body>"
    pages = {"mixture": page(mixture), "shapes": page(shapes), "both": page(mixture, shapes),
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
    return Records(json.loads(node("browser/explore_nem.mjs", chrome(), str(folder), *shots)))


GAP = "Gap = KL(γ ‖ posterior)"


def nats(record: dict) -> tuple[float, float, float]:
    return tuple(float(record[name]) for name in ("Log-likelihood", "Bound ℒ", GAP))


@pytest.mark.browser
def test_the_bound_touches_is_climbed_and_the_likelihood_never_falls(seen):
    record = seen["mixture"]
    states = [nats(record[name]) for name in ("start", "e", "m", "again", "both", "part")]
    for likelihood, bound, gap in states:
        assert likelihood - bound == pytest.approx(gap, abs=0.011)
    likelihoods = [likelihood for likelihood, _, _ in states]
    assert likelihoods == sorted(likelihoods) and likelihoods[0] == likelihoods[1] < likelihoods[2]
    assert states[0][2] > 1 and states[1][2] == 0 and states[2][2] > 1
    assert record["e"]["said"] == record["e"]["words"] and "touches the likelihood" in record["e"]["said"]
    assert record["again"]["words"].startswith("The bound is at its maximum already")
    assert (record["m"]["M-steps"], record["again"]["M-steps"], record["both"]["M-steps"]) == ("1", "1", "2")


@pytest.mark.browser
def test_the_steps_of_the_page_are_those_of_em(seen):
    points = np.float16(explore.clusters()).astype(float)
    model = first_model(3)
    for name in ("start", "m", "both"):
        likelihood = logsumexp(log_joint(model, points), 1).sum()
        assert nats(seen["mixture"][name])[0] == pytest.approx(likelihood, abs=0.006)
        model = of_sklearn(sklearn_step(model, points))


@pytest.mark.browser
def test_a_part_of_the_m_step_climbs_too(seen):
    before, part = seen["mixture"]["both"], seen["mixture"]["part"]
    assert part["value"] == "30 % of the M-step" and part["words"].startswith("30 % of the M-step is taken")
    assert nats(part)[1] > nats(before)[1] and nats(part)[2] > 0
    assert re.match(r"\d+ % of the M-step is taken", seen["mixture"]["draggedPart"]["words"])


@pytest.mark.browser
def test_means_are_dragged_and_moved_by_arrows(seen):
    numbers = {name: [float(x.replace("−", "-")) for x in re.findall(r"= ([−\d.]+)", text)]
               for name, text in seen["mixture"]["mean"].items()}
    assert numbers["dragged"][0] > numbers["before"][0] and numbers["dragged"][1] > numbers["before"][1]
    assert numbers["keyed"] == pytest.approx([numbers["dragged"][0] - 0.1, numbers["dragged"][1]], abs=0.011)
    assert seen["mixture"]["moved"]["words"].startswith("You moved a mean and kept γ")
    assert nats(seen["mixture"]["moved"])[2] > 0
    first, second = seen["mixture"]["probe"]
    assert "γ₁ = " in first and "γ₁ = " in second and first != second


@pytest.mark.browser
def test_a_symmetric_start_stays_until_one_mean_is_moved(seen):
    record = seen["mixture"]
    assert record["stuckStops"] and record["stuck"]["words"].startswith("Still all components are the same")
    single = GaussianMixture(1, reg_covar=0).fit(np.float16(explore.clusters()).astype(float))
    alone = single.score(np.float16(explore.clusters()).astype(float)) * 150
    assert nats(record["stuck"])[0] == pytest.approx(alone, abs=0.006)
    assert record["nudged"]["words"].startswith("You moved a mean")
    assert record["freed"]["words"].startswith("Converged") and nats(record["freed"])[0] > alone + 10


@pytest.mark.browser
def test_em_runs_until_nothing_moves(seen):
    record = seen["mixture"]
    assert record["four"] == 4 and record["converges"] and record["ids"] == []
    likelihood, bound, gap = nats(record["end"])
    assert gap == 0 and likelihood == bound > nats(record["start"])[0]


@pytest.mark.browser
def test_with_motion_a_step_passes_through_what_lies_between_and_ends_in_the_same_place(seen):
    record = seen["motion"]
    assert record["between"] and record["places"] >= 3 and record["ended"]
    assert nats(record["m"]) == nats(seen["mixture"]["m"])
    assert record["paused"].startswith(("E-step", "M-step"))


@pytest.mark.browser
def test_steps_are_taken_back_and_repeated(seen):
    record = seen["drawing"]
    assert record["start"]["Step"] == "0"
    assert record["start"]["words"].startswith("Step 0: γ is drawn at random")
    assert record["one"]["Step"] == "1" and record["one"]["said"] == record["one"]["words"]
    assert record["recoloured"] > 300 and float(record["one"]["Loss"]) > 0
    assert record["run"]["Step"] == "16" and record["back"] == "15"
    assert record["reset"]["Step"] == "0" and record["reset"]["same"] and record["another"]
    assert sum(int(share.split()[0]) for share in record["run"]["shares"]) == 134


@pytest.mark.browser
def test_a_uniform_start_stays_uniform_and_a_painted_one_does_not(seen):
    record = seen["drawing"]
    assert record["uniform"]["shares"] == ["tied"] * 4 and record["uniform"]["AMI"] == "0.000"
    assert record["uniform"]["colours"] == 2
    assert "still the same, to the last digit" in record["uniform"]["words"]
    assert record["brushes"] == 5 + 4 and record["painted"]["colours"] == 4
    assert "painted" in record["painted"]["words"] and record["broken"] != ["tied"] * 4


@pytest.mark.browser
def test_one_slot_and_six(seen):
    assert seen["drawing"]["k1"]["shares"] == ["134 px"]
    assert len(seen["drawing"]["k6"]["shares"]) == 6
    assert "trained with K = 4" in seen["drawing"]["k6"]["words"]


@pytest.mark.browser
def test_shapes_are_stamped_by_mouse_and_by_key_and_five_are_the_most(seen):
    record = seen["tools"]
    assert record["empty"]["words"].startswith("The canvas is empty")
    assert set(record["empty"]["off"]) == {"Step", "Run 15", "Back", "Reset"}
    assert (record["square"], record["two"], record["three"], record["five"]) == (40, 88, 136, 216)
    first, last = record["moves"]
    assert first.startswith("Row 15, column 15, paper") and last.startswith("Row 19, column 14, ")
    assert record["six"] == {"words": "Five shapes are the most: press Undo or Clear first.", "ink": 216}
    assert record["undone"] == 176
    assert -1 <= float(record["scored"]["AMI"]) <= 1


@pytest.mark.browser
def test_free_hand_ink_has_no_truth_until_it_is_erased(seen):
    record = seen["tools"]
    assert record["pen"]["ink"] > 176 and record["pen"]["AMI"] == "—"
    assert record["pen"]["remark"] == "free-hand ink has no truth"
    assert record["erased"]["AMI"] != "—"
    assert record["random"]["said"].startswith("Three shapes at random")
    assert 60 < record["random"]["ink"] <= 144


@pytest.mark.browser
def test_on_a_phone_everything_fits_and_answers_the_finger(seen):
    phone = seen["phone"]
    assert phone["width"] <= 360 and phone["theme"] == ["dark"] * 2 and phone["small"] == 0
    assert phone["tapped"] and phone["touched"] and phone["stamped"] and phone["stepped"] == "1"


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
    assert host["live"] == 2 and host["facts"][1] == "1"
    assert host["words"][0].startswith("E-step") and host["words"][1].startswith("Step 1")


@pytest.mark.browser
def test_no_error_and_no_request(seen):
    assert {name: seen[name]["troubles"] for name in seen} == {name: [] for name in seen}
