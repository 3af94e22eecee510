"""Chapter 5's figure: what Python packs, what JavaScript computes, what a reader sees."""

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
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from nemlib.explore import page
from nemlib.explore import vae_gmm as explore
from nemlib.explore.vae import _packed, _unpacked, page_decoder
from nemlib.gmm import (
    GaussianMixture,
    Moments,
    Prior,
    assignment_information,
    em_step,
    inverse_factor,
    moments,
    moments_of_labels,
    standard_gamma,
)
from nemlib.plot import PALETTE, SLOTS
from nemlib.vae import VAE, Gaussian, GaussianPixels
from nemlib.vae_gmm import expected_log_joint, kl_bound

ROOT = Path(__file__).resolve().parent.parent
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
LARGEST_OF_A_PAGE = 700_000     # bytes
SIDE, COUNT = 12, 48            # of the tests' images
REST = 3                        # rounds after which the page rests in the test; the reader's rests later
DOUBLE = torch.float64


@cache
def chrome() -> str | None:
    spec = spec_from_file_location("install", ROOT / "tools" / "install.py")
    install = module_from_spec(spec)
    spec.loader.exec_module(install)
    return install.find_browser()


def node(script: str, *arguments: str, stdin: str | None = None) -> str:
    ran = subprocess.run([NODE, ROOT / "tests" / script, *arguments], input=stdin, capture_output=True,
                         text=True, timeout=600, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def golden(calls: list, mutant: dict | None = None) -> list:
    return json.loads(node("js/vg_mutual_golden.mjs", stdin=json.dumps({"calls": calls, "mutant": mutant})))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


@cache
def machine() -> VAE:
    """An untrained VAE that sends images of three kinds to three clouds, with widths from 0.1 to 0.3."""
    generator = torch.Generator().manual_seed(1)
    encoder, decoder = nn.Linear(SIDE * SIDE, 4), nn.Sequential(
        nn.Linear(2, 9), nn.SiLU(), nn.Linear(9, SIDE * SIDE))
    with torch.no_grad():
        for parameter in (*encoder.parameters(), *decoder.parameters()):
            parameter.copy_(0.25 * torch.randn(parameter.shape, generator=generator))
        encoder.weight[2:] *= 0.15
        encoder.bias[2:] = torch.tensor([-3.2, -3.8])
        decoder[0].weight *= 6
        decoder[2].weight *= 6
    return VAE(encoder, decoder, latent=2)


@cache
def images() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    kinds = (torch.rand(3, SIDE * SIDE, generator=generator) > 0.6).float()
    own = kinds.repeat(COUNT // 3, 1)
    return (0.7 * own + 0.3 * torch.rand(COUNT, SIDE * SIDE, generator=generator)).clamp(0, 1)


def figure(**changes) -> explore.Figure:
    usual = {"vae": machine(), "images": images(), "components": 4, "beta": 2}
    return explore.mutual_figure(**{**usual, **changes})


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
    assert figure()._repr_html_() == text != figure(seed=2)._repr_html_()


def test_the_figure_asks_for_nothing(text):
    names_of_spaces = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert set(re.findall(r"https?:[^\s'\"\\]*", text)) <= names_of_spaces
    assert not re.search(r"\b(import|require)\s*\(|<link|src=\"(?!data:)", text)


def test_the_largest_figure_stays_within_its_limit():
    wide = nn.Sequential(nn.Linear(2, 128), nn.SiLU(), nn.Linear(128, 256), nn.SiLU(), nn.Linear(256, 784))
    many = torch.rand(explore.MOST_IMAGES, 784, generator=torch.Generator().manual_seed(0))
    whole = explore.mutual_figure(VAE(nn.Linear(784, 4), wide, latent=2), many)
    assert len(whole._repr_html_().encode()) < explore.LARGEST_MUTUAL < LARGEST_OF_A_PAGE


@needs_node
def test_the_embedded_script_is_whole(text):
    script, = Reader(text).scripts
    ran = subprocess.run([NODE, "--check", "-"], input=script, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_ids_come_from_the_name_and_the_copy(text):
    assert Reader(text).ids == ["nx-vg-mutual-1"]
    assert Reader(figure(copy=2)._repr_html_()).ids == ["nx-vg-mutual-2"]


def test_without_scripts_a_picture_says_what_happens(text):
    image, = Reader(text).images
    assert f"Left, {COUNT} images" in image["alt"] and "which is no bound" in image["alt"]
    drawn = urllib.parse.unquote(image["src"])
    assert image["src"].startswith("data:image/svg+xml,")
    assert all(title in drawn for title in ("a first mixture", "after 12 rounds with β = 2", "no bound"))


def test_a_terminal_shows_words():
    assert "the mixture moves to where the points are" in repr(figure())


def test_the_colours_are_the_books():
    data = figure().data
    assert {tuple(pair) for pair in (*data["palette"].values(), *data["slots"])} <= set(PALETTE.values())
    assert len(set(data["slots"])) == len(SLOTS)
    sources = [path.read_text() for path in (ROOT / "nemlib" / "explore").glob("vg_mutual*.*s")]
    assert len(sources) == 3
    assert not [found for source in sources for found in re.findall(r"#[0-9a-fA-F]{3,8}\b|rgb\(\d", source)]


@pytest.mark.parametrize("changes, words", [
    ({"components": 0}, "components is 0: it should be from 1 to 10"),
    ({"components": 11}, "components is 11"),
    ({"beta": 3}, "beta is 3: it should be one of 0, 0.2"),
    ({"seed": 0}, "seed is 0"),
    ({"copy": 0}, "copy is 0"),
    ({"images": torch.rand(19, SIDE * SIDE)}, r"\(19, 144\): it should be \(n, pixels\), n from 20 to 800"),
    ({"images": torch.rand(COUNT, SIDE, SIDE)}, r"\(48, 12, 12\)"),
    ({"images": torch.rand(COUNT, 143)}, "Images of 143 pixels"),
    ({"images": torch.rand(COUNT, 121)}, "Images of 121 pixels came: .* even side"),
    ({"images": torch.rand(COUNT, SIDE * SIDE) * 2}, r"lie in \[0, 1\]"),
    ({"images": torch.full((COUNT, SIDE * SIDE), math.nan)}, r"lie in \[0, 1\]"),
    ({"images": torch.rand(COUNT, 196)}, "end in a linear layer of 196 pixels"),
    ({"vae": VAE(nn.Linear(144, 6), nn.Sequential(nn.Linear(3, 144)), latent=3)}, "has 3 latent units"),
    ({"vae": VAE(nn.Linear(144, 4), nn.Sequential(nn.Linear(2, 144), nn.ReLU()), latent=2)}, "end in a linear"),
    ({"vae": VAE(nn.Linear(144, 4), nn.Linear(2, 144), latent=2, observation=GaussianPixels())},
     "Bernoulli pixels, and GaussianPixels came"),
])
def test_what_the_page_cannot_show_is_refused_in_a_sentence(changes, words):
    with pytest.raises(ValueError, match=words):
        figure(**changes)


def test_an_encoder_that_diverged_is_refused():
    broken = VAE(nn.Linear(144, 4), machine().decoder, latent=2)
    with torch.no_grad():
        broken.encoder.bias[1] = math.nan
    with pytest.raises(ValueError, match="not finite|finite"):
        figure(vae=broken)


def test_no_label_of_an_image_comes_in():
    assert "labels" not in figure().data and "label" not in " ".join(explore.mutual_figure.__annotations__)


def test_the_small_decoders_logits_are_means_of_four():
    z = 2 * normal(7, 2)
    wide = F.linear(
        F.silu(F.linear(z, machine().decoder[0].weight.double(), machine().decoder[0].bias.double())),
        machine().decoder[2].weight.double(), machine().decoder[2].bias.double())
    wanted = F.avg_pool2d(wide.reshape(7, 1, SIDE, SIDE), 2).flatten(1)
    small = explore.small_decoder(machine().decoder)
    assert (small(z) - wanted).abs().max() < 1e-12
    assert small[-1].out_features == SIDE * SIDE // 4 and machine().decoder[-1].out_features == SIDE * SIDE
    bare = nn.Sequential(nn.Linear(2, 16, bias=False))
    assert not explore.small_decoder(bare)[-1].bias.any()


def test_the_page_holds_what_the_encoder_said_to_half_precision():
    guess, q = explore.page_guess(machine(), images()), machine().encode(images())
    for name in ("mean", "log_variance"):
        mine, own = getattr(guess, name), getattr(q, name).double()
        assert mine.dtype == DOUBLE and 0 < (mine - own).abs().max() < 3e-3
    data = figure().data
    assert torch.equal(_unpacked(data["mean"]), guess.mean)
    assert torch.equal(_unpacked(data["logVariance"]), guess.log_variance)


# ---- the mathematics, in Python -------------------------------------------------------------------------------


def some_mixture(K: int = 3, seed: int = 5) -> GaussianMixture:
    spread = 0.5 * normal(K, 2, 2, seed=seed)
    return GaussianMixture.of_covariances(normal(K, seed=seed + 1).softmax(0), 1.2 * normal(K, 2, seed=seed + 2),
                                          spread @ spread.mT + 0.1 * torch.eye(2, dtype=DOUBLE))


def some_guess(N: int = 40, seed: int = 9) -> Gaussian:
    return Gaussian(normal(N, 2, seed=seed), -3 + 0.7 * normal(N, 2, seed=seed + 1))


def energy(first: Gaussian, x: Tensor, r: Tensor, mixture: GaussianMixture, beta: float) -> Tensor:
    """½ (x − c)ᵀ S⁻¹ (x − c) + β Σ_k r_k ½ (x − μ_k)ᵀ Λ_k (x − μ_k), component by component, summed."""
    own = 0.5 * ((x - first.mean).square() / first.log_variance.exp()).sum()
    apart = x[:, None] - mixture.means
    return own + 0.5 * beta * (r * torch.einsum("nki,kij,nkj->nk", apart, mixture.precisions, apart)).sum()


def slope(function, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_(True)
    function(x).backward()
    return x.grad


def without_weight(first, r, mixture, beta):
    return explore.moved(first, r, mixture, 1.0)


def without_shares(first, r, mixture, beta):
    return explore.moved(first, torch.full_like(r, 1 / r.shape[1]), mixture, beta)


def with_deviations(first, r, mixture, beta):
    return explore.moved(Gaussian(first.mean, first.log_variance / 2), r, mixture, beta)


@pytest.mark.equation("eq-vg-figure", how="autograd")
def test_a_step_of_the_vae_is_where_the_gradient_is_zero(largest_error):
    first, mixture = some_guess(), some_mixture()
    for beta in (0.0, 0.3, 1.0, 20.0):
        for r in (2 * normal(40, 3, seed=3), 1e3 * normal(40, 3, seed=4)):
            r = r.softmax(1)

            def error(step) -> Tensor:
                x = step(first, r, mixture, beta)
                size = 1 + slope(lambda at: energy(first, at, r, mixture, beta), first.mean + 1).abs().max()
                return slope(lambda at: energy(first, at, r, mixture, beta), x).abs().max() / size

            largest_error(error(explore.moved))
            assert error(explore.moved) < 1e-12
            if beta == 20:
                for mutant in (without_weight, without_shares, with_deviations):
                    assert error(mutant) > 1e-3


@pytest.mark.equation("eq-vg-figure", how="autograd")
def test_the_gradient_of_a_soft_message_is_that_of_its_factor(largest_error):
    """So where the steps come to rest, the objective E_q log p(o | x) − β KL has no slope."""
    first, mixture, beta = some_guess(), some_mixture(), 3.0
    x = first.mean + 0.3 * normal(40, 2, seed=2)

    def loss(at: Tensor) -> Tensor:
        return beta * kl_bound(Gaussian(at, first.log_variance), mixture).sum()

    r = expected_log_joint(Gaussian(x, first.log_variance), mixture).softmax(1)
    own = 0.5 * ((x - first.mean).square() / first.log_variance.exp())
    error = (slope(loss, x) - slope(lambda at: energy(first, at, r, mixture, beta) - own.sum(), x)
             + (x - first.mean) / first.log_variance.exp()).abs().max()
    largest_error(error)
    assert error < 1e-10
    for _ in range(400):
        r = expected_log_joint(Gaussian(x, first.log_variance), mixture).softmax(1)
        x = explore.moved(first, r, mixture, beta)
    rest = slope(lambda at: loss(at) + 0.5 * ((at - first.mean).square() / first.log_variance.exp()).sum(), x)
    assert rest.abs().max() < 1e-9


def test_with_beta_0_no_point_moves_and_with_a_large_one_all_reach_the_messages_mean():
    first, mixture = some_guess(), some_mixture()
    hard = F.one_hot(torch.arange(40) % 3, 3).double()
    assert torch.allclose(explore.moved(first, hard, mixture, 0.0), first.mean, atol=1e-15)
    far = explore.moved(first, hard, mixture, 1e9) - mixture.means[torch.arange(40) % 3]
    assert far.abs().max() < 1e-5


def test_em_without_variances_is_nemlibs_em_step():
    x, mixture = normal(60, 2, seed=8), some_mixture()
    mine = explore.em_on(Gaussian(x, torch.full_like(x, -math.inf)), mixture)
    own, _ = em_step(mixture, x)
    for name in ("weights", "means", "covariances"):
        assert (getattr(mine, name) - getattr(own, name)).abs().max() < 1e-12


def test_em_on_messages_lifts_the_bound_and_its_covariances_hold_the_variances():
    first, mixture = some_guess(), some_mixture()
    last = -math.inf
    for _ in range(30):
        soft = explore.readings(first, first.mean, mixture).soft
        assert soft >= last - 1e-12
        last, mixture = soft, explore.em_on(first, mixture)
    least = torch.linalg.eigvalsh(mixture.covariances).min()
    assert least > first.log_variance.exp().min()


def test_a_component_that_answers_for_nothing_keeps_its_place():
    mixture = some_mixture()
    far = GaussianMixture(torch.tensor([0.5, 0.5, 0.0], dtype=DOUBLE), mixture.means, mixture.factors)
    after = explore.em_on(some_guess(), far)
    assert after.weights[2] == 0 and torch.equal(after.means[2], far.means[2])
    assert torch.allclose(after.covariances[2], far.covariances[2], atol=1e-12)


def by_grid(first: Gaussian, mixture: GaussianMixture, n: int) -> float:
    """log ∫ p(o_n | x) p(x) dx with the held factor, by sums over a fine grid."""
    line = torch.linspace(-6, 6, 601, dtype=DOUBLE)
    x = torch.cartesian_prod(line, line)
    held = -0.5 * ((x - first.mean[n]).square() / first.log_variance[n].exp()).sum(1)
    return (held + mixture.log_prob(x)).logsumexp(0).item() + 2 * math.log(0.02)


def test_log_p_is_the_integral_and_the_bounds_lie_as_the_chapter_says():
    first, mixture = some_guess(6), some_mixture()
    x = first.mean + 0.1 * normal(6, 2, seed=1)
    found = explore.readings(first, x, mixture)
    assert found.log_prob == pytest.approx(np.mean([by_grid(first, mixture, n) for n in range(6)]), abs=1e-9)
    q = Gaussian(x, first.log_variance)
    draws = q.sample(torch.Generator().manual_seed(3), 40_000)
    prior = mixture.log_prob(draws.reshape(-1, 2)).reshape(-1, 6)
    held = -0.5 * ((draws - first.mean).square() / first.log_variance.exp()).sum(2)
    honest = held + prior - q.log_prob(draws)
    error = 4 * honest.mean(1).std().item() / len(draws) ** 0.5
    assert found.soft - error < honest.mean().item() < found.log_prob + error
    assert found.fit == pytest.approx(held.mean().item(), abs=0.02)
    e = expected_log_joint(q, mixture)
    gap = -mixture.weights[e.argmax(1)].log().mean().item()                       # eq-vg-label-gap
    assert 0 < found.conditional - found.soft <= gap + 1e-12
    assert found.information == pytest.approx(assignment_information(e.softmax(1)).item(), abs=1e-12)
    assert found.objective(3.0) == pytest.approx(found.fit - 3 * found.divergence, abs=1e-12)


def test_the_first_mixture_is_the_priors_own_on_given_places():
    points, means = normal(50, 2, seed=4), normal(4, 2, seed=5)
    start = explore.start_mixture(points, means)
    assert torch.allclose(start.covariances[3], torch.cov(points.T, correction=0) / 4, atol=1e-12)
    assert torch.equal(start.means, means) and start.weights.tolist() == [0.25] * 4


# ---- JavaScript against Python -----------------------------------------------------------------------------


def largest_difference(got, wanted) -> float:
    if isinstance(wanted, Tensor):
        wanted = wanted.tolist()
    if isinstance(wanted, dict):
        return max(largest_difference(got[key], wanted[key]) for key in wanted)
    if isinstance(wanted, (list, tuple)):
        assert len(got) == len(wanted)
        return max(map(largest_difference, got, wanted), default=0.0)
    return math.inf if got is None else abs(got - wanted) / max(1.0, abs(wanted))


def disagreement(vectors: list, mutant: dict | None = None) -> float:
    results = golden([call for call, _ in vectors], mutant)
    return max(largest_difference(got, wanted) for got, (_, wanted) in zip(results, vectors))


def flat(matrices: Tensor) -> list:
    """(…, 2, 2) → lists of xx, xy, yy."""
    return torch.stack([matrices[..., 0, 0], matrices[..., 0, 1], matrices[..., 1, 1]], -1).tolist()


def to_js(mixture: GaussianMixture) -> dict:
    return {"weights": mixture.weights.tolist(), "means": mixture.means.tolist(),
            "precisions": flat(mixture.precisions)}


def of_js(given: dict) -> GaussianMixture:
    weights, means, parts = (torch.tensor(given[name], dtype=DOUBLE) for name in ("weights", "means", "precisions"))
    matrices = parts[:, [0, 1, 1, 2]].reshape(-1, 2, 2)
    return GaussianMixture(weights, means, torch.linalg.cholesky(matrices))


def js_gaussian(q: Gaussian) -> dict:
    return {"mean": q.mean.tolist(), "variance": q.log_variance.exp().tolist()}


def js_moments(found: Moments) -> list[dict]:
    return [{"count": n, "mean": mean, "scatter": scatter}
            for n, mean, scatter in zip(found.count.tolist(), found.mean.tolist(), flat(found.scatter))]


def js_prior(prior: Prior, k: int = 0) -> dict:
    return {"alpha": prior.alpha[k].item(), "kappa": prior.kappa[k].item(), "mean": prior.mean[k].tolist(),
            "inverseScale": flat(prior.inverse_scale)[k], "nu": prior.nu[k].item()}


def js_readings(found: explore.Readings) -> dict[str, float]:
    return {"logProb": found.log_prob, "soft": found.soft, "conditional": found.conditional, "fit": found.fit,
            "divergence": found.divergence, "information": found.information}


def bartlett(prior: Prior, numbers: list[dict]) -> GaussianMixture:
    """`Prior.sample` from given random numbers, as the page keeps them."""
    gammas, below, chi, place = (torch.tensor([one[name] for one in numbers], dtype=DOUBLE)
                                 for name in ("weight", "below", "chi", "place"))
    triangle = torch.diag_embed(chi)
    triangle[:, 1, 0] = below
    factors = inverse_factor(prior.inverse_scale, "scale matrix") @ triangle
    away = torch.linalg.solve(factors.mT, (place / prior.kappa.sqrt()[:, None])[..., None])[..., 0]
    return GaussianMixture(gammas / gammas.sum(), prior.mean + away, factors)


def numbers_of(prior: Prior, generator: torch.Generator) -> list[dict]:
    """What `Prior.sample` draws, in its order."""
    k, d = prior.mean.shape
    weight = standard_gamma(prior.alpha, generator)
    below = torch.randn(k, d, d, generator=generator, dtype=DOUBLE)[:, 1, 0]
    freedom = prior.nu[:, None] - torch.arange(d, dtype=DOUBLE)
    chi = (2 * standard_gamma(0.5 * freedom, generator)).sqrt()
    place = torch.randn(k, d, generator=generator, dtype=DOUBLE)
    return [{"weight": w, "below": b, "chi": c, "place": p}
            for w, b, c, p in zip(weight.tolist(), below.tolist(), chi.tolist(), place.tolist())]


@cache
def vectors() -> list[tuple[list, object]]:
    """Pairs of a call of the figure's mathematics and what nemlib says."""
    made: list[tuple[list, object]] = []
    for K, seed in ((1, 3), (3, 5), (10, 8)):
        first, mixture = some_guess(seed=seed), some_mixture(K, seed)
        q = Gaussian(first.mean + 0.2 * normal(40, 2, seed=seed), first.log_variance)
        js, r = to_js(mixture), normal(40, K, seed=seed).softmax(1)
        e = expected_log_joint(q, mixture)
        after = moments(q.mean, r, q.log_variance.exp())
        prior = Prior.weak(first.mean, K)
        posterior = prior.posterior(moments(q.mean, r))
        numbers = numbers_of(posterior, torch.Generator().manual_seed(seed))
        drawn = posterior.sample(torch.Generator().manual_seed(seed))
        precisions = torch.einsum("nk,kij->nij", r, mixture.precisions)
        pull = torch.einsum("nk,kij,kj->ni", r, mixture.precisions, mixture.means)
        means = torch.linalg.solve(precisions, pull)
        found = explore.readings(first, q.mean, mixture)
        made += [
            (["each", ["logJoint", js, q.mean.tolist()]], mixture.log_joint(q.mean)),
            (["shares", [js, js_gaussian(q)]], e.softmax(1)),
            (["expected", [js, q.mean[4].tolist(), q.log_variance[4].exp().tolist()]], e[4]),
            (["moments", [q.mean.tolist(), r.tolist(), q.log_variance.exp().tolist()]], js_moments(after)),
            (["moments", [q.mean.tolist(), r.tolist()]], js_moments(moments(q.mean, r))),
            (["emStep", [js, js_gaussian(q)]], to_js(explore.em_on(q, mixture))),
            (["weakPrior", [first.mean.tolist(), K]], js_prior(prior)),
            (["posterior", [js_prior(prior), js_moments(moments(q.mean, r))]],
             [js_prior(posterior, k) for k in range(K)]),
            (["drawn", [[js_prior(posterior, k) for k in range(K)], numbers]], to_js(drawn)),
            (["message", ["hard", r.tolist(), None]], F.one_hot(r.argmax(1), K).double()),
            (["factor", [js, r[2].tolist()]], {"precision": flat(precisions[2]), "mean": means[2].tolist()}),
            *((["targets", [js, js_gaussian(first), r.tolist(), beta]], explore.moved(first, r, mixture, beta))
              for beta in (0.0, 0.2, 1.0, 100.0)),
            (["readings", [js, js_gaussian(first), js_gaussian(q)]], js_readings(found)),
            (["objective", [js_readings(found), 5.0]], found.objective(5.0)),
            (["information", [r.tolist()]], assignment_information(r)),
        ]
    return made


@needs_node
def test_the_pages_mathematics_is_nemlibs():
    assert disagreement(vectors()) < 1e-12


@needs_node
@pytest.mark.parametrize("change, to", [
    ("0.5 * Math.log(det(precision))", "Math.log(det(precision))"),
    ("- 0.5 * (xx * variance[0] + yy * variance[1])", ""),
    ("r[n][k]);\n        if", "1);\n        if"),
    ("[variance[n][0], 0, variance[n][1]]", "[variance[n][0], 0, variance[n][0]]"),
    ("plus(x, mean, -1)", "plus(x, centre, -1)"),
    ("value / count", "value / (count - 1)"),
    ("value / points.length / K", "value / points.length"),
    ("kappa: 0.01", "kappa: 0.1"),
    ("(prior.kappa * count) / kappa", "prior.kappa * count"),
    ("nu: prior.nu + count", "nu: prior.nu + count + 1"),
    ("mean: plus(prior.mean, apart, count / kappa)", "mean"),
    ("(b * below) / (a * c)", "(b * below) / a"),
    ("value / Math.sqrt(kappa)", "value / kappa"),
    ("upper[0] * v - upper[1] * u", "upper[0] * v + upper[1] * u"),
    ("kind === \"hard\" ? largest(row)", "kind === \"hard\" ? 0"),
    ("pulled = plus(pulled, times(mixture.precisions[k], mixture.means[k]), share)",
     "pulled = plus(pulled, mixture.means[k], share)"),
    ("value) => beta * value", "value) => value"),
    ("[1 / variance[0], 0, 1 / variance[1]]", "[1 / Math.sqrt(variance[0]), 0, 1 / variance[1]]"),
    ("LOG_TWO_PI + 1 + 0.5", "LOG_TWO_PI + 0.5"),
    ("+ own[i]) / held[i]", ") / held[i]"),
    ("plus(covariance, [held[0], 0, held[1]])", "covariance"),
    ("e[z] - Math.log(mixture.weights[z])", "e[z]"),
    ("fit - beta * divergence", "fit - divergence"),
    ("entropyOf(mean) -", "-"),
])
def test_a_wrong_line_is_noticed(change, to):
    assert disagreement(vectors(), {"file": "vg_mutual_maths.js", "from": change, "to": to}) > 1e-6


class Numbers:
    """The random numbers that the page's generator gave, and its draws from them once more."""

    def __init__(self, log: dict[str, list[float]]) -> None:
        self.left = {name: iter(values) for name, values in log.items()}

    def normal(self, *shape: int) -> Tensor:
        return self._take("normal", shape)

    def uniform(self, *shape: int) -> Tensor:
        return self._take("uniform", shape)

    def _take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        values = [next(self.left[name]) for _ in range(math.prod(shape))]
        return torch.tensor(values, dtype=DOUBLE).reshape(shape)

    def gamma(self, shape: float) -> float:
        """Marsaglia and Tsang (2000)."""
        d = shape - 1 / 3
        while True:
            x = self.normal().item()
            v = (1 + x / math.sqrt(9 * d)) ** 3
            if v > 0 and math.log(self.uniform().item()) < x * x / 2 + d - d * v + d * math.log(v):
                return d * v

    def labels(self, shares: Tensor) -> Tensor:
        return (shares.cumsum(1) <= self.uniform(len(shares), 1)).sum(1)

    def spent(self) -> bool:
        return all(next(values, None) is None for values in self.left.values())


def sweep_vectors() -> tuple[list, list]:
    calls, checks = [], []
    for K, seed in ((1, 2), (3, 4), (10, 6)):
        first, mixture = some_guess(seed=seed), some_mixture(K, seed)
        prior = Prior.weak(first.mean, K)
        calls.append(["sweep", [to_js(mixture), js_gaussian(first), js_prior(prior), seed]])
        checks.append((first, mixture, prior))
    return calls, checks


def sweeps_apart(mutant: dict | None = None) -> float:
    """How far the page's sweep is from one that nemlib's parts make of the same random numbers."""
    calls, checks = sweep_vectors()
    worst = 0.0
    for (first, mixture, prior), got in zip(checks, golden(calls, mutant)):
        numbers = Numbers(got["log"])
        try:
            sent = first.mean + (first.log_variance / 2).exp() * numbers.normal(*first.mean.shape)
            labels = numbers.labels(mixture.responsibilities(sent))
            law = prior.posterior(moments_of_labels(sent, labels, mixture.components))
            drawn = [{"weight": numbers.gamma(law.alpha[k].item()), "below": numbers.normal().item(),
                      "chi": [math.sqrt(2 * numbers.gamma((law.nu[k].item() - i) / 2)) for i in (0, 1)],
                      "place": numbers.normal(2).tolist()} for k in range(mixture.components)]
        except StopIteration:
            return math.inf
        worst = max(worst, largest_difference(got["mixture"], to_js(bartlett(law, drawn))))
        worst = worst if numbers.spent() else math.inf
    return worst


def test_bartletts_numbers_make_nemlibs_draw():
    prior = Prior.weak(normal(30, 2), 3).posterior(moments(normal(30, 2), normal(30, 3).softmax(1)))
    mine = bartlett(prior, numbers_of(prior, torch.Generator().manual_seed(7)))
    own = prior.sample(torch.Generator().manual_seed(7))
    for name in ("weights", "means", "precisions"):
        assert (getattr(mine, name) - getattr(own, name)).abs().max() < 1e-12


@needs_node
def test_a_sweep_of_the_page_is_a_sweep_of_nemlibs_parts():
    assert sweeps_apart() < 1e-12


@needs_node
@pytest.mark.parametrize("change, to", [
    ("at + Math.sqrt(q.variance[n][i]) * random.normal()", "at + q.variance[n][i] * random.normal()"),
    ("pick(softmax(logJoint(mixture, x)), random.uniform())", "largest(logJoint(mixture, x))"),
    ("moments(sent, r)", "moments(q.mean, r)"),
    ("gamma((nu - 1) / 2, random)", "gamma((nu + 1) / 2, random)"),
    ("gamma(alpha, random)", "gamma(nu, random)"),
    ("Math.sqrt(2 * half)", "Math.sqrt(half)"),
])
def test_a_wrong_sweep_is_noticed(change, to):
    assert sweeps_apart({"file": "vg_mutual_maths.js", "from": change, "to": to}) > 1e-6


@needs_node
def test_gamma_draws_have_their_law():
    for shape, draws in zip((1.0, 1.5, 40.0), golden([["gammas", [s, 4000, 3]] for s in (1.0, 1.5, 40.0)])):
        assert stats.kstest(draws, stats.gamma(shape).cdf).pvalue > 0.01
    wrong = {"file": "vg_mutual_maths.js", "from": "shape - 1 / 3", "to": "shape - 1 / 4"}
    draws, = golden([["gammas", [1.0, 4000, 3]]], wrong)
    assert stats.kstest(draws, stats.gamma(1.0).cdf).pvalue < 1e-4


@needs_node
def test_starts_and_sampled_messages_are_inverse_transforms_of_their_uniforms():
    points = normal(30, 2, seed=3)
    for K in (1, 4, 10):
        found, = golden([["start", [points.tolist(), K, 5]]])
        uniforms = iter(found["log"]["uniform"])
        chosen = [int(next(uniforms) * len(points))]
        for u in uniforms:
            nearest = torch.cdist(points, points[chosen]).square().amin(1)
            chosen.append(int((nearest.cumsum(0) <= u * nearest.sum()).sum()))
        assert largest_difference(found["mixture"], to_js(explore.start_mixture(points, points[chosen]))) < 1e-12
        assert len(chosen) == K
    r = normal(30, 4, seed=6).softmax(1)
    found, = golden([["sampled", [r.tolist(), 4]]])
    wanted = F.one_hot(Numbers(found["log"]).labels(r), 4)
    assert found["sent"] == wanted.tolist()


def page_data() -> tuple[Gaussian, dict]:
    data = figure().data
    return explore.page_guess(machine(), images()), {"mean": data["mean"], "logVariance": data["logVariance"]}


def settings(**changes) -> dict:
    return {"components": 4, "beta": 2, "message": "soft", "learner": "em", **changes}


@needs_node
@pytest.mark.parametrize("how", [
    {}, {"beta": 0}, {"beta": 50}, {"message": "hard"}, {"components": 1}, {"components": 10, "beta": 10},
])
def test_ten_rounds_of_the_page_are_ten_rounds_of_nemlib(how):
    first, packed = page_data()
    seen, = golden([["play", [packed, settings(**how), 1, ["mixture", "vae"] * 10]]])
    mixture, x, beta = of_js(seen[0]["mixture"]), first.mean, settings(**how)["beta"]
    for n, one in enumerate(seen[1:]):
        q = Gaussian(x, first.log_variance)
        if n % 2 == 0:
            mixture = explore.em_on(q, mixture)
        else:
            r = expected_log_joint(q, mixture).softmax(1)
            sent = F.one_hot(r.argmax(1), r.shape[1]).double() if how.get("message") == "hard" else r
            x = explore.moved(first, sent, mixture, beta)
        assert largest_difference(one["x"], x) < 1e-10
        assert largest_difference(one["mixture"], to_js(mixture)) < 1e-10
        assert largest_difference(one["reading"], js_readings(explore.readings(first, x, mixture))) < 1e-10
        assert one["steps"] == n + 1


@needs_node
def test_the_page_decodes_with_the_small_decoder_as_it_was_packed():
    small = explore.small_decoder(machine().decoder)
    z = 1.5 * normal(5, 2)
    found, = golden([["decode", [_packed(small), z.tolist()]]])
    assert largest_difference(found, page_decoder(small)(z)) < 1e-12


# ---- a reader in a browser --------------------------------------------------------------------------------


def write_pages(folder: Path) -> None:
    live = page(figure())
    assert live.count(long := f'"rounds":{explore.ROUNDS}') == 1 and explore.ROUNDS > REST
    template = f"<template>{figure()._repr_html_()}</template></body>"
    pages = {"live": live, "short": live.replace(long, f'"rounds":{REST}'),
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
    return Records(json.loads(node("browser/explore_vg_mutual.mjs", chrome(), str(folder), *shots)))


SCENARIOS = ["steps", "knobs", "gibbs", "pictures", "play", "motion", "looks", "phone", "host"]


@pytest.mark.browser
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_is_asked_of_the_network_and_the_console_stays_empty(seen, scenario):
    assert seen[scenario]["troubles"] == []


def played(actions: list, seed: int = 1, **how) -> list[dict]:
    return golden([["play", [page_data()[1], settings(**how), seed, actions]]])[0]


def assert_shows(record: dict, one: dict, beta: float = 2) -> None:
    """The page's facts are those of the mathematics after the same steps."""
    reading = one["reading"]
    wanted = {"Soft bound": reading["soft"], "log p": reading["logProb"], "Conditional": reading["conditional"],
              "Objective at β": reading["fit"] - beta * reading["divergence"], "Information 𝓘": reading["information"]}
    for name, value in wanted.items():
        assert float(record[name]) == pytest.approx(value, abs=0.0051), name


@pytest.mark.browser
def test_steps_by_hand_are_the_steps_of_the_mathematics(seen):
    record = seen["steps"]
    path = played(["mixture", "vae", "mixture", "vae", "mixture", "vae"])
    assert_shows(record["start"], path[0])
    assert "4 components of one shape" in record["start"]["words"]
    assert_shows(record["mixture"], path[1])
    assert record["mixture"]["words"].startswith("1 step so far. EM step:") and "rose by" in record["mixture"]["words"]
    assert record["said"] == record["mixture"]["words"]
    assert_shows(record["vae"], path[2])
    assert re.match(r"2 steps so far. VAE: the message moved the points by 0\.\d+ on average", record["vae"]["words"])
    assert_shows(record["rounds"], path[6])
    assert record["reset"] == record["start"]
    assert_shows(record["anew"], played([], seed=2)[0])
    assert record["anew"] != record["start"]


@pytest.mark.browser
def test_ellipses_stand_where_the_components_are(seen):
    record, last = seen["steps"], played(["mixture", "vae"] * 3)[-1]
    x, y = np.array(last["mixture"]["means"]).T
    (x0, px0), (x1, px1) = record["xTicks"]
    (y0, py0), (y1, py1) = record["yTicks"]
    wanted = np.stack([px0 + (x - x0) * (px1 - px0) / (x1 - x0), py0 + (y - y0) * (py1 - py0) / (y1 - y0)], 1)
    assert np.abs(np.array(record["rings"]) - wanted).max() < 1.2


@pytest.mark.browser
def test_beta_and_K_are_moved_by_keys(seen):
    record = seen["knobs"]
    assert record["betas"] == ["2", "0", "0.2", "100"]
    assert record["zero"]["words"].startswith("1 step so far. β = 0: the VAE does not listen")
    assert record["same"] and "moved no point" in record["still"]["words"] and record["differs"]
    assert_shows(record["still"], played(["mixture", "vae"], beta=0)[-1], beta=0)
    one = played(["mixture", "vae"], components=1, beta=100)[-1]
    assert record["one"]["K"] == "1" and record["one"]["options"] == ["1"]
    assert_shows(record["one"]["facts"], one, beta=100)
    assert record["one"]["facts"]["Soft bound"] == record["one"]["facts"]["Conditional"]
    assert record["one"]["start"].startswith("One component: every image is sent the same message.")
    assert record["ten"]["K"] == "10" and len(record["ten"]["options"]) == record["ten"]["rings"] == 10


@pytest.mark.browser
def test_sweeps_and_other_messages_are_those_of_the_mathematics(seen):
    record = seen["gibbs"]
    assert record["buttons"] == ["Mixture: one EM step", "Mixture: one sweep"]
    path = played([["learner", "gibbs"], "mixture", "mixture", "vae", ["message", "hard"], "vae",
                   ["message", "sampled"], "vae"])
    # The page sends nothing anew when the learner changes, but a soft message is not drawn.
    assert_shows(record["sweeps"], path[3])
    assert "Sweep: every point drew a component" in record["sweeps"]["words"]
    assert_shows(record["hard"], path[6])
    assert "A hard message" in record["hardWords"]
    assert_shows(record["sampled"], path[8])
    assert "A sampled message" in record["sampledWords"]


def shades(values: np.ndarray) -> np.ndarray:
    """Red of the light page where paper turns to ink."""
    paper, ink = (int(PALETTE[name][0][1:3], 16) for name in ("paper", "ink"))
    return np.round(paper + values * (ink - paper))


def strip(pictures: np.ndarray) -> np.ndarray:
    """(n, side², ) pictures in a row, as the page's canvas holds them; what is missing is paper."""
    side = SIDE // 2
    row = np.zeros((side, explore.SHOWN * side))
    for n, picture in enumerate(pictures[:explore.SHOWN]):
        row[:, n * side:(n + 1) * side] = picture.reshape(side, side)
    return shades(row).ravel()


@pytest.mark.browser
@pytest.mark.parametrize("which, k", [("pointer", None), ("keys", 3), ("menu", 1)])
def test_the_strips_show_the_component_that_was_chosen(seen, which, k):
    record, (now,) = seen["pictures"], played(["mixture"])[1:]
    one, mixture = record[which], of_js(now["mixture"])
    k = int(mixture.log_joint(torch.tensor([record["at"]], dtype=DOUBLE)).argmax()) if k is None else k
    assert one["component"] == str(k)
    noise, = golden([["strip", [1, explore.SHOWN]]])
    z = mixture.means[k] + torch.tensor(noise, dtype=DOUBLE) @ torch.linalg.cholesky(mixture.covariances[k]).T
    small = page_decoder(explore.small_decoder(machine().decoder))
    with torch.no_grad():
        wanted = strip(small(z).sigmoid().numpy())
    assert np.abs(np.array(one["made"]) - wanted).max() <= 1
    first = page_data()[0]
    r = expected_log_joint(first, mixture).softmax(1)
    own = [n for n in r[:, k].argsort(descending=True, stable=True).tolist() if r[n].argmax() == k]
    pooled = F.avg_pool2d(images().reshape(-1, 1, SIDE, SIDE), 2).flatten(1)
    assert np.abs(np.array(one["own"]) - strip((3 * pooled[own]).round().numpy() / 3)).max() <= 1
    assert f"leads {len(own)} of {COUNT} images" in one["name"]
    assert f"weight {mixture.weights[k].item():.2f}" in one["name"]
    if which == "keys":
        assert one["said"].startswith("Component 4: weight")


@pytest.mark.browser
def test_playing_rests_after_its_rounds(seen):
    record = seen["play"]
    assert record["ended"] and record["label"] == "Play"
    assert_shows(record["end"], played(["mixture", "vae"] * REST)[-1])
    assert record["end"]["words"].startswith(f"{2 * REST} steps so far.")
    assert record["voice"].startswith("Paused. ")


@pytest.mark.browser
def test_with_motion_a_round_arrives_and_a_reset_stops_it(seen):
    record = seen["motion"]
    assert record["arrives"]
    assert_shows(record["round"], played(["mixture", "vae"])[-1])
    assert record["stays"] and record["reset"] == record["start"]


@pytest.mark.browser
def test_it_is_readable_in_light_and_in_dark(seen):
    record = seen["looks"]
    assert record["light"] != record["dark"]
    assert record["violations"] == [] and record["violationsDark"] == [] and record["ids"] == []
    assert record["print"] == [False, True]
    assert "arrow keys choose one of 4 components" in record["label"]
    assert "conditional, no bound" in record["chart"]
    assert record["pixels"]["next"] != record["pixels"]["none"] != record["pixels"]["since"]


@pytest.mark.browser
def test_a_phone_is_wide_enough(seen):
    record = seen["phone"]
    assert record["width"] <= 390 and record["inside"] and record["theme"] == "dark"
    assert record["small"] == 0 and record["violations"] == [] and record["tapped"]


@pytest.mark.browser
def test_a_notebook_revives_it_and_a_figure_that_left_the_page_rests(seen):
    assert seen["host"]["live"] == 1 and "1 step so far" in seen["host"]["words"]
