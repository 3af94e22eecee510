"""Chapter 5's recorded runs: what is shipped is what was measured, pairs differ in the message alone, and the
project's two faults are the faults that the text says.
"""

import copy
import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nemlib import training
from nemlib.evaluate import clustering
from nemlib.experiments import results
from nemlib.experiments import vae_gmm as recorded
from nemlib.experiments.experiment import Built, generator
from nemlib.gmm import GaussianMixture
from nemlib.vae import Gaussian
from nemlib.vae_gmm import Silent, Soft, kl_to_component

ROOT = Path(__file__).resolve().parent.parent
NAMES = {each.name: each for each in recorded.EXPERIMENTS}
PROJECT = ("vae-gmm-coded", "vae-gmm-unsent", "vae-gmm-mended")
PAIRS = (("vae-gmm-mnist", "vae-gmm-control"), ("vae-gmm-neighbours", "vae-gmm-neighbours-control"))
RUNS = [(name, preset, run.seed) for name in NAMES for preset in results.available().get(name, ())
        for run in results.load(name, preset).runs]
EXCHANGES = [run for run in RUNS if run[0] not in PROJECT]
FULL = [run for run in EXCHANGES if NAMES[run[0]].presets[run[1]].ships_networks]


def run_of(name: str, preset: str, seed: int):
    return next(run for run in results.load(name, preset).runs if run.seed == seed)


def value(name: str, preset: str, seed: int, key: str) -> float:
    return run_of(name, preset, seed).metrics[key].value


def tensors_of(name: str, preset: str, seed: int) -> dict[str, Tensor]:
    return results.load(name, preset).weights(seed)


@cache
def digits_of(how: recorded.Digits) -> Tensor:
    """The true digits of the images whose latent points are shipped."""
    return recorded.load_digits(replace(how, images=how.shown, test_images=1, bound_images=1))[1].digits


def spread(name: str, key: str) -> Tensor:
    """That metric of every seed of the book's runs, in their order."""
    return torch.tensor([run.metrics[key].value for run in results.load(name, "book").runs])


# --- what is shipped ----------------------------------------------------------------------------------------


def test_the_runs_of_the_chapter_are_shipped():
    shipped = {(name, preset) for name, preset, _ in RUNS}
    assert {(name, "book") for name in NAMES} <= shipped, "`nemlib record` makes them"
    for name in NAMES:
        assert len(results.load(name, "book").runs) >= 3, "over seeds, where the text compares"
    for one, other in PAIRS:
        seeds = [[run.seed for run in results.load(name, "book").runs] for name in (one, other)]
        assert seeds[0] == seeds[1]


@pytest.mark.parametrize(("name", "preset", "seed"), RUNS)
def test_the_settings_are_those_of_the_preset(name, preset, seed):
    run = run_of(name, preset, seed)
    assert run.settings == NAMES[name].settings(preset), f"recorded with other settings: {run.path}"
    assert run.settings != NAMES[name].settings("smoke")


@pytest.mark.parametrize(("name", "preset", "seed"), EXCHANGES)
def test_the_table_gives_the_recorded_scores(name, preset, seed):
    """Counts of components and digits are shipped, and all scores are functions of them."""
    table, how = recorded.table(name, preset, seed), NAMES[name].presets[preset]
    assert table.shape == (how.machine.components, 10) and table.sum() == how.digits.images
    found = {"accuracy": 100 * clustering.accuracy(table[None]).item(),
             "nmi": clustering.normalised_mutual_information(table[None]).item(),
             "ari": clustering.adjusted_rand_index(table[None]).item()}
    for key, number in found.items():
        assert number == pytest.approx(value(name, preset, seed, f"train_{key}"), abs=2e-4)
    smeared = (table + table.roll(1, 1)) // 2                 # every digit half taken for the next one
    assert 100 * clustering.accuracy(smeared[None]).item() < found["accuracy"] - 10


@pytest.mark.parametrize(("name", "preset", "seed"), EXCHANGES)
def test_curves_end_at_the_last_epoch_with_the_recorded_numbers(name, preset, seed):
    curves, how = recorded.curves(name, preset, seed), NAMES[name].presets[preset]
    assert set(curves) == set(recorded.CURVES)
    for key, (epochs, values) in curves.items():
        assert epochs[-1] == how.learning.first + how.learning.rounds and (epochs.diff() > 0).all()
        assert values.isfinite().all() and len(values) >= 2
    for part in ("train", "test"):
        for key in recorded.BOUNDS:
            last = curves[f"{part}_{key}"][1][-1].item()
            assert last == pytest.approx(value(name, preset, seed, f"{part}_{key}"), abs=1e-4)
    assert 100 * curves["test_accuracy"][1][-1].item() == pytest.approx(value(name, preset, seed, "test_accuracy"), abs=1e-3)
    assert curves["information"][1].max() <= torch.tensor(10.0).log() + 1e-6


@pytest.mark.parametrize(("name", "preset", "seed"), EXCHANGES)
def test_bounds_stand_in_their_order_at_every_look(name, preset, seed):
    """Soft below honest but for the noise of draws; conditional above it, by no more than a label can be worth."""
    curves = recorded.curves(name, preset, seed)
    weights = tensors_of(name, preset, seed)["mixture.weights"]
    for part in ("train", "test"):
        honest, soft, conditional = (curves[f"{part}_{key}"][1] for key in recorded.BOUNDS)
        assert (soft < honest + 0.3).all()
        last = conditional[-1] - honest[-1]
        assert 0 < last < -(weights * weights.log()).sum() + 0.3 * weights.log().abs().max()
        assert (conditional - honest < -curves["smallest_weight"][1].clamp_min(1e-6).log() + 0.3).all()


@pytest.mark.parametrize(("name", "preset", "seed"), EXCHANGES)
def test_the_shipped_mixture_puts_the_shipped_points_where_it_was_said(name, preset, seed):
    """Means of q alone, without its variances, and in half precision: nearly all of them."""
    tensors, digits = tensors_of(name, preset, seed), digits_of(NAMES[name].presets[preset].digits)
    after, component = tensors["after"].double(), tensors["component"]
    mixture = GaussianMixture(*(tensors[f"mixture.{part}"].double() for part in ("weights", "means", "factors")))
    assert abs(mixture.weights.sum() - 1) < 1e-6 and len(after) == len(component) == len(digits)
    own = mixture.responsibilities(after).argmax(1)
    assert (own == component).double().mean() > 0.9 and (own.roll(1) == component).double().mean() < 0.5
    counts = recorded.table_of(component, digits, len(mixture.weights))
    share = clustering.accuracy(counts[None]).item()
    whole = value(name, preset, seed, "train_accuracy") / 100
    assert abs(share - whole) < 4.5 * (whole * (1 - whole) / len(digits)) ** 0.5
    assert clustering.accuracy(recorded.table_of(component.roll(1), digits, len(mixture.weights))[None]).item() < 0.3


@pytest.mark.parametrize(("name", "preset", "seed"), FULL)
def test_the_shipped_machine_names_test_images_as_well_as_recorded(name, preset, seed):
    model = recorded.trained(name, preset, seed)
    _, pictures = recorded.load_digits(replace(NAMES[name].presets[preset].digits, images=10))
    images, digits = pictures.test[:2000], pictures.test_digits[:2000]
    share = recorded.scored(model.classify(images), digits)["accuracy"]
    whole = value(name, preset, seed, "test_accuracy") / 100
    assert abs(share - whole) < 4 * (whole * (1 - whole) / 2000) ** 0.5 + 0.005
    other = copy.deepcopy(model)
    for weight in other.vae.encoder.parameters():
        weight.copy_(weight.flatten()[torch.randperm(weight.numel(), generator=generator(0, "mix"))].view_as(weight))
    assert recorded.scored(other.classify(images), digits)["accuracy"] < 0.7
    honest = model.bounds(pictures.bounds["test"][:500], generator(0, "bounds")).honest
    error = 4 * honest.std().item() / 500**0.5
    assert abs(honest.mean().item() - value(name, preset, seed, "test_honest")) < error + 0.3


# --- what the chapter says of them --------------------------------------------------------------------------


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.skipif(not EXCHANGES, reason="not recorded yet")
def test_the_exchange_raises_the_honest_bound_of_every_seed(pair):
    ours, control = (spread(name, "test_honest") for name in pair)
    assert (ours > control + 0.3).all()


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.skipif(not EXCHANGES, reason="not recorded yet")
def test_a_run_and_its_control_are_one_until_the_first_message(pair):
    """The same looks, points and start, bit for bit; and others after it."""
    for run in results.load(pair[0], "book").runs:
        first = NAMES[pair[0]].presets["book"].learning.first
        ours, control = (recorded.curves(name, "book", run.seed) for name in pair)
        for key in recorded.CURVES:
            early = ours[key][0] <= first
            assert early.any() and torch.equal(ours[key][1][early], control[key][1][early])
        assert not torch.equal(ours["test_honest"][1], control["test_honest"][1])
        before = [tensors_of(name, "book", run.seed)["before"] for name in pair]
        assert torch.equal(*before)
        for key in ("start_accuracy", "start_information"):
            assert value(pair[0], "book", run.seed, key) == value(pair[1], "book", run.seed, key)


@pytest.mark.parametrize(("name", "preset", "seed"), EXCHANGES)
def test_points_before_the_first_message_are_not_those_of_the_end(name, preset, seed):
    tensors = tensors_of(name, preset, seed)
    assert (tensors["before"] - tensors["after"]).abs().mean() > 0.05
    assert tensors["before"].dtype == torch.float16 and tensors["before"].isfinite().all()


def test_readers_give_the_images_of_the_shipped_points():
    name, preset, seed = EXCHANGES[0] if EXCHANGES else pytest.skip("not recorded yet")
    shown = recorded.latents(name, preset, seed)
    assert torch.equal(shown.digits, digits_of(NAMES[name].presets[preset].digits))
    assert shown.images.shape == (len(shown.digits), 784) and shown.before.dtype == torch.float32
    assert shown.before.shape == shown.after.shape and torch.equal(shown.component, tensors_of(name, preset, seed)["component"])


@pytest.mark.skipif(not set(PROJECT) <= {run[0] for run in RUNS}, reason="not recorded yet")
def test_the_projects_own_figure_rises_while_the_bound_falls_message_or_none():
    for name in PROJECT[:2]:
        rise = spread(name, "round2_own") - spread(name, "round1_own")
        fall = spread(name, "round2_test_honest") - spread(name, "round1_test_honest")
        assert (rise > 15).all() and (fall < -3).all(), name
    assert abs(spread(PROJECT[0], "round2_own").mean() - spread(PROJECT[1], "round2_own").mean()) < 4
    mended = spread(PROJECT[2], "round2_test_honest")
    assert (mended > spread(PROJECT[0], "round2_test_honest")[:len(mended)] + 3).all()
    for name in PROJECT:
        for number in (1, 2):
            best, last = (spread(name, f"round{number}_{key}") for key in ("best_accuracy", "accuracy"))
            assert (best > last).all(), "the best of all sweeps is above the mean of the last ones"


# --- the published numbers beside ours ----------------------------------------------------------------------


@cache
def rows(name: str) -> list[dict]:
    tables = tomllib.loads((ROOT / "results" / "published.toml").read_text(encoding="utf-8"))["table"]
    return [row for table in tables if table["experiment"] == name for row in table["row"]]


@pytest.mark.parametrize("name", NAMES)
def test_every_row_names_a_metric_and_a_paper(name):
    keys = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    measured = {metric for one, preset, seed in RUNS if one == name for metric in run_of(one, preset, seed).metrics}
    for row in rows(name):
        assert row["metric"] in measured
        if "published" in row:
            assert f"{{{row['published']['citation']}," in keys


# --- the learners, in seconds -------------------------------------------------------------------------------


def trained_in_seconds(name: str, seed: int = 0) -> Built:
    built = NAMES[name].build(NAMES[name].presets["smoke"], seed)
    training.train(built.learner, built.data, built.training, device="cpu", seed=seed,
                   evaluation_data=built.evaluation_data, progress=False)
    return built


@pytest.mark.parametrize("name", ["vae-gmm-neighbours", "vae-gmm-one-piece", "vae-gmm-coded"])
def test_what_is_shipped_is_what_is_measured(name):
    experiment, settings, device = NAMES[name], NAMES[name].presets["smoke"], torch.device("cpu")
    built = trained_in_seconds(name)
    measured = experiment.measure(built, settings, device, 0)
    again = experiment.build(settings, 0)
    again.learner.module.load_state_dict(experiment.weights(built.learner))
    assert experiment.measure(again, settings, device, 0) == measured
    if name != "vae-gmm-coded":
        assert torch.equal(again.learner.model.gmm.means, built.learner.model.gmm.means)
        assert experiment.sample(built, settings, 4, generator(0, "pictures")).shape == (4, 28, 28)


def test_pairs_differ_in_the_message_alone():
    for one, other in PAIRS:
        for preset in ("smoke", "book", "full"):
            ours, control = NAMES[one].presets[preset], NAMES[other].presets[preset]
            assert ours != control and replace(ours, talk=replace(ours.talk, message="silent")) == control
        built = [NAMES[name].build(NAMES[name].presets["smoke"], 0) for name in (one, other)]
        messages = [each.learner.model.prior.message for each in built]
        assert messages == [Soft(), Silent()]
        first, second = (each.learner.model.vae.encoder.state_dict().values() for each in built)
        assert all(map(torch.equal, first, second))


def test_training_images_are_drawn_from_all_writers_and_grey():
    images, pictures = recorded.load_digits(recorded.Digits(300, 100, 50))
    again, _ = recorded.load_digits(recorded.Digits(200, 100, 50))
    assert images.shape == (300, 784) and torch.equal(images[:200], again) and len(images.unique()) > 50
    assert all(set(drawn.unique().tolist()) == {0.0, 1.0} and len(drawn) == 50 for drawn in pictures.bounds.values())
    assert pictures.digits.dtype == torch.long and len(pictures.test) == len(pictures.test_digits) == 100


def test_tables_and_scores_count_the_digit_zero():
    digits = torch.arange(10).repeat(7)
    assert recorded.scored((digits + 3) % 10, digits) == {"accuracy": 1.0, "nmi": 1.0, "ari": 1.0}
    merged = torch.where(digits == 0, 1, digits)
    assert recorded.scored(merged, digits)["accuracy"] == pytest.approx(0.9)
    assert torch.equal(recorded.table_of(digits, digits, 12)[:10], 7 * torch.eye(10, dtype=torch.long))


# --- the project's faults -----------------------------------------------------------------------------------


def learner_of(name: str, seed: int = 0):
    return NAMES[name].build(NAMES[name].presets["smoke"], seed).learner


def test_the_first_fault_gives_a_batch_the_message_to_the_image_of_its_number():
    """Image n hears of image n // batch: with its own message another number comes out."""
    random = torch.Generator().manual_seed(1)
    q = Gaussian(torch.randn(20, 3, generator=random), torch.randn(20, 3, generator=random))
    rows, divergences = torch.arange(40, 60), {}
    for name in ("vae-gmm-coded", "vae-gmm-mended"):
        learner = learner_of(name)
        prior = learner.model.prior
        means = torch.randn(prior.gmm.means.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        prior.gmm.mixture = GaussianMixture(prior.gmm.weights, means, prior.gmm.factors)
        prior.labels.copy_(torch.arange(len(prior.labels)) % 10)
        divergences[name] = prior.kl(q, rows)
        exact = kl_to_component(q, prior.mixture(torch.float32))                # diagonal, and no price of a label
    numbers = torch.arange(20)
    assert torch.allclose(divergences["vae-gmm-mended"], exact[numbers, rows % 10], atol=1e-4)
    assert torch.allclose(divergences["vae-gmm-coded"], exact[numbers, rows // 10 % 10], atol=1e-4)
    assert (divergences["vae-gmm-coded"] - divergences["vae-gmm-mended"]).abs().max() > 0.1


def test_the_second_fault_weighs_the_divergence_by_one_over_the_batch_in_round_two():
    for name, late in (("vae-gmm-coded", 0.1), ("vae-gmm-unsent", 0.1), ("vae-gmm-mended", 1.0)):
        learner = learner_of(name)
        steps = learner.steps * learner.project.learning.epochs
        assert [learner.beta(step) for step in (1, steps, steps + 1, 2 * steps)] == [1, 1, late, late]
    assert isinstance(learner_of("vae-gmm-unsent").model.prior.message, recorded.Unsent)


def test_the_second_round_begins_with_new_weights():
    learner = learner_of("vae-gmm-coded")
    assert learner.how.reinitialise and learner.how.is_due(learner.project.learning.epochs + 1)
    assert not any(learner.how.is_due(epoch) for epoch in range(1, learner.project.learning.epochs + 1))
