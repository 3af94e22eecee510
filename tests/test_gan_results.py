"""Chapter 7's recorded runs: what is shipped is what was measured, films end with it, and tables name their papers."""

import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nemlib import training
from nemlib.evaluate import fid
from nemlib.experiments import gan as recorded
from nemlib.experiments import results
from nemlib.experiments.experiment import Built, Experiment, generator

ROOT = Path(__file__).resolve().parent.parent
NAMES = {each.name: each for each in recorded.EXPERIMENTS}
RUNS = [(name, preset) for name in NAMES for preset in results.available().get(name, ())]
DIGITS = [run for run in RUNS if run[0] in ("gan-mnist", "gan-mnist-labels")]
STACKED = [run for run in RUNS if run[0] == "gan-stacked"]
FILMS = DIGITS + STACKED
PLANES = [run for run in RUNS if run[0] in ("gan-ring", "gan-grid")]
PART = 2000                             # images of a set, drawn at random: MNIST's are in an order that matters


def metric(name: str, preset: str, key: str) -> float:
    return results.load(name, preset).runs[0].metrics[key].value


@cache
def images(split: str, start: int = 0, count: int | None = None) -> dict[str, Tensor]:
    digits = recorded.load_digits(split, start, count)
    rows = torch.randperm(len(digits["x"]), generator=torch.Generator().manual_seed(0))[:PART]
    return {key: value[rows] for key, value in digits.items()}


@cache
def features_of_test() -> Tensor:
    return recorded.features().features(images("test")["x"])


def drawn(name: str, preset: str, count: int) -> Tensor:
    """Samples of the shipped generator, in [0, 1], as many of each class where it knows classes."""
    machine = recorded.trained(name, preset)
    labels = torch.arange(count) % machine.classes if machine.classes else None
    with torch.no_grad():
        return recorded.unit(machine.sample(count, torch.Generator().manual_seed(0), labels))


def trained_in_seconds(experiment: Experiment, seed: int = 0, settings=None) -> Built:
    built = experiment.build(settings or experiment.presets["smoke"], seed)
    training.train(built.learner, built.data, built.training, device="cpu", seed=seed,
                   evaluation_data=built.evaluation_data, progress=False)
    return built


# --- what is shipped -----------------------------------------------------------------------------------------------


def test_the_runs_of_the_chapter_are_shipped():
    assert ("digit-features", "full") in RUNS
    missing = {name for name in set(NAMES) - {"gan-grid"} if not {"book", "full"} & {preset for one, preset in RUNS if one == name}}
    assert not missing, "`nemlib record` makes them"


@pytest.mark.parametrize(("name", "preset"), RUNS)
def test_the_settings_are_those_of_the_preset(name, preset):
    for run in results.load(name, preset).runs:
        assert run.settings == NAMES[name].settings(preset), f"recorded with other settings: {run.path}"
    other = "smoke" if preset != "smoke" else "book"
    assert results.load(name, preset).settings != NAMES[name].settings(other)


def test_the_shipped_classifier_errs_as_recorded():
    """On 2,000 test images: within four standard errors of a share; with shuffled weights nearly always."""
    network, digits = recorded.features(), images("test")
    share = metric("digit-features", "full", "test_error") / 100
    error = 4 * (share * (1 - share) / len(digits["x"])) ** 0.5
    assert abs(recorded.wrong(network, digits["x"], digits["labels"]).item() - share) < error
    assert share < 0.012
    fresh = recorded.make_classifier(recorded.CLASSIFIER["full"].network, 0)
    assert recorded.wrong(fresh, digits["x"][:200], digits["labels"][:200]) > 0.5


def test_the_floor_is_what_a_part_of_its_images_says():
    """A fifth of each set has five times the bias; the distance of so few scatters by a third."""
    new = recorded.features().features(images("train", 30_000)["x"])
    part, floor, bias = (fid.frechet_distance(features_of_test(), new),
                         *(metric("digit-features", "full", key) for key in ("floor", "bias")))
    assert 0.6 * (floor + 4 * bias) < part < 1.5 * (floor + 4 * bias)
    assert bias == pytest.approx(fid.expected_bias(torch.cov(features_of_test().T), 10_000, 10_000), rel=0.05)
    assert bias < floor < 4 * bias
    dark = fid.frechet_distance(features_of_test(), recorded.features().features(0.5 * images("train", 30_000)["x"]))
    assert dark > 3 * part, "other images are seen to be other images"


@pytest.mark.parametrize(("name", "preset"), DIGITS)
def test_the_shipped_generator_has_the_recorded_distance(name, preset):
    """2,000 samples and 2,000 test images: the recorded distance and four times the bias, within a third:
    so few images scatter by that much."""
    made = recorded.features().features(drawn(name, preset, 2000))
    bias = metric("digit-features", "full", "bias")
    assert fid.frechet_distance(features_of_test(), made) == pytest.approx(
        metric(name, preset, "frechet") + 4 * bias, rel=0.35, abs=0.5)
    how = recorded.settings_of(name, preset)
    fresh = recorded.make_machine(how.networks, 0, how.learning.penalty > 0).eval()
    labels = torch.arange(200) % fresh.classes if fresh.classes else None
    with torch.no_grad():
        noise = recorded.unit(fresh.sample(200, torch.Generator().manual_seed(0), labels))
    assert fid.frechet_distance(features_of_test(), recorded.features().features(noise)) > 5 * metric(
        name, preset, "frechet")


@pytest.mark.parametrize(("name", "preset"), [run for run in DIGITS if run[0] == "gan-mnist-labels"])
def test_the_shipped_generator_draws_the_digit_that_it_is_told(name, preset):
    made, labels = drawn(name, preset, 1000), torch.arange(1000) % 10
    error = recorded.wrong(recorded.features(), made, labels).item()
    share = metric(name, preset, "label_error") / 100
    assert abs(error - share) < 4 * (max(share, 0.005) / 1000) ** 0.5
    assert recorded.wrong(recorded.features(), made, labels.roll(1)).item() > 0.8


@pytest.mark.parametrize(("name", "preset"), STACKED)
def test_the_shipped_generator_of_triples_finds_as_many_modes(name, preset):
    """Of 2,000 samples: as many modes as that many draws from nearly equal shares show, and as sure."""
    network, made = recorded.features(), drawn(name, preset, 2000)
    modes = fid.stacked_modes(network, made)
    found, sure = (metric(name, preset, key) for key in ("modes", "sure"))
    expected = found * (1 - (1 - 1 / found) ** 2000)
    assert 0.8 * expected < modes.found < 1.02 * expected
    assert 100 * modes.good == pytest.approx(sure, abs=5)
    single = made.unflatten(1, (3, -1))[:, :1].expand(-1, 3, -1).flatten(1)
    assert fid.stacked_modes(network, single).found <= 10, "three times one digit are ten modes"


@pytest.mark.parametrize(("name", "preset"), FILMS)
def test_the_film_ends_with_what_the_shipped_generator_draws(name, preset):
    """8 bits a pixel and half precision cost little; the look before the last is another one."""
    machine, (steps, frames) = recorded.trained(name, preset), recorded.film(name, preset)
    fixed = results.load(name, preset).weights()["fixed"].float()
    labels = torch.arange(len(fixed)) % machine.classes if machine.classes else None
    with torch.no_grad():
        last = recorded.unit(machine.generate(fixed, labels))
    error = [(last - frame).abs().mean().item() for frame in frames]
    assert frames.shape[1:] == last.shape and steps[-1] == recorded.settings_of(name, preset).learning.steps
    assert error[-1] < 0.01 and error[0] > 5 * error[-1]


@pytest.mark.parametrize(("name", "preset"), FILMS)
def test_curves_are_those_of_the_run_and_end_at_its_last_step(name, preset):
    curves, settings = recorded.curves(name, preset), recorded.settings_of(name, preset)
    stacked = settings.networks.stacked > 1
    learner = recorded.StackedLearning if stacked else recorded.RecordedLearning
    assert set(curves) == set(learner.curves)
    key, sign = ("modes", 1) if stacked else ("frechet", -1)
    steps, values = curves[key]
    assert steps[-1] == settings.learning.steps and (steps.diff() > 0).all()
    assert len(steps) >= settings.digits.looks and values.isfinite().all()
    assert sign * (values[-1] - values[0]) > 0, "it has learnt"
    if not stacked:                     # fewer samples while it learnt, and so a larger bias
        assert values[-1] > metric(name, preset, key) and values[-1] < metric(name, preset, key) + 8


# --- in the plane --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "preset"), PLANES)
def test_remedies_are_told_for_every_seed(name, preset):
    found, runs = recorded.remedies(name, preset), results.load(name, preset).runs
    most = len(recorded.LAWS[recorded.settings_of(name, preset).plane.law].centres)
    assert list(found) == [remedy.words for remedy in recorded.settings_of(name, preset).remedies]
    for number, seeds in enumerate(found.values()):
        assert len(seeds) == len(runs) >= (5 if name == "gan-ring" else 1), "over seeds where the text claims"
        assert all(0 <= modes <= most and 0 <= good <= 100 for modes, good in seeds)
        assert [run.metrics[f"modes_{number}"].value for run in runs] == [modes for modes, _ in seeds]


@pytest.mark.parametrize(("name", "preset"), PLANES)
def test_shipped_machines_show_the_recorded_modes(name, preset):
    """As many samples again, from another stream: nearly the same modes and good samples, for each remedy."""
    settings, run = recorded.settings_of(name, preset), results.load(name, preset).runs[0]
    law = recorded.LAWS[settings.plane.law]
    unlike = 0
    for number in range(len(settings.remedies)):
        machine = recorded.trained_plane(name, preset, number)
        with torch.no_grad():
            made = machine.sample(settings.plane.samples, torch.Generator().manual_seed(0))
        modes = fid.mode_count(made, law.centres, law.deviation)
        assert abs(modes.found - run.metrics[f"modes_{number}"].value) <= 2
        assert 100 * modes.good == pytest.approx(run.metrics[f"good_{number}"].value, abs=5)
        turned = fid.mode_count(made @ torch.tensor([[0.9, 0.4359], [-0.4359, 0.9]]), law.centres, law.deviation)
        unlike += abs(turned.good - modes.good) > 0.05
    assert unlike, "samples elsewhere would have been noticed"


@pytest.mark.parametrize(("name", "preset"), [run for run in PLANES if run[0] == "gan-ring"])
def test_a_slow_discriminator_finds_fewer_modes_of_the_ring_than_one_with_equal_rates(name, preset):
    slow, equal, *_ = ([modes for modes, _ in seeds] for seeds in recorded.remedies(name, preset).values())
    assert sum(slow) < sum(equal)


@pytest.mark.parametrize(("name", "preset"), [run for run in PLANES if run[0] == "gan-ring"])
def test_the_averaged_generator_draws_more_good_samples_with_the_same_discriminator(name, preset):
    """Judged alone and by two: remedies 4 and 3 are 1 and 2 with the generator averaged."""
    good = [sum(share for _, share in seeds) for seeds in recorded.remedies(name, preset).values()]
    assert good[4] > good[1] and good[3] > good[2]


# --- the published numbers beside ours -------------------------------------------------------------------------------


@cache
def rows(name: str) -> list[dict]:
    tables = tomllib.loads((ROOT / "results" / "published.toml").read_text(encoding="utf-8"))["table"]
    return [row for table in tables if table["experiment"] == name for row in table["row"]]


@pytest.mark.parametrize("name", NAMES)
def test_every_published_number_has_its_paper_and_its_protocol(name):
    keys = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    assert rows(name), "an experiment of the chapter has a table"
    for row in rows(name):
        if "published" in row:
            assert f"{{{row['published']['citation']}," in keys and "samples" in row["published"]["protocol"]
            assert isinstance(row["published"]["value"], (int, float))


@pytest.mark.parametrize("name", NAMES)
def test_every_row_names_a_metric_that_the_run_measures(name):
    if name == "digit-features":
        measured = set(results.load(name, "full").metrics)
    else:
        measured = set(measured_in_seconds(name))
    assert {row["metric"] for row in rows(name)} <= measured


def published(name: str, metric: str, citation: str) -> set[float]:
    return {row["published"]["value"] for row in rows(name)
            if row["metric"] == metric and row.get("published", {}).get("citation") == citation}


def test_two_papers_with_one_name_and_one_ring_stand_apart():
    """VEEGAN's table 1 and PacGAN's tables 1 to 3: a baseline is what its authors make of it."""
    assert published("gan-ring", "modes_0", "srivastava2017veegan") == {1}
    assert published("gan-ring", "modes_1", "lin2018pacgan") == {6.3}
    assert 99 in published("gan-stacked", "modes", "srivastava2017veegan")
    assert published("gan-stacked", "modes", "lin2018pacgan") == {1000, 78.9}


# --- the learners, in seconds ----------------------------------------------------------------------------------------


@cache
def built_in_seconds(name: str) -> Built:
    return trained_in_seconds(NAMES[name])


@cache
def measured_in_seconds(name: str):
    experiment = NAMES[name]
    return experiment.measure(built_in_seconds(name), experiment.presets["smoke"], torch.device("cpu"), 0)


def made_by(experiment: Experiment, built: Built) -> Tensor:
    return experiment.sample(built, experiment.presets["smoke"], 6, generator(0, "pictures"))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shipped_is_what_is_measured(name):
    """Metrics and pictures from shipped weights are those at the end of training; a fresh machine has others."""
    experiment, built, measured = NAMES[name], built_in_seconds(name), measured_in_seconds(name)
    settings, device = experiment.presets["smoke"], torch.device("cpu")
    pictures = made_by(experiment, built)
    again = experiment.build(settings, 0)
    untrained = made_by(experiment, again)
    again.learner.module.load_state_dict(experiment.weights(built.learner))
    assert experiment.measure(again, settings, device, 0) == measured
    assert torch.equal(made_by(experiment, again), pictures) and pictures.shape[0] == 6
    assert name == "digit-features" or not torch.equal(untrained, pictures)


def test_no_discriminator_is_shipped_and_numbers_are_rounded_to_half():
    for name in set(NAMES) - {"digit-features"}:
        shipped = NAMES[name].weights(built_in_seconds(name).learner)
        assert not [key for key in shipped if "discriminator" in key]
        generators = {key: value for key, value in shipped.items() if key.startswith(("generator.", "remedy"))}
        assert {value.dtype for value in generators.values()} <= {torch.float16, torch.int64}
        assert len(generators) >= 6


def test_another_machines_weights_are_refused():
    experiment = NAMES["gan-mnist"]
    settings = experiment.presets["smoke"]
    other = experiment.build(replace(settings, networks=replace(settings.networks, latent=5)), 0)
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.learner.module.load_state_dict(experiment.weights(built_in_seconds("gan-mnist").learner))


def test_the_averaged_generator_is_the_one_that_is_shipped():
    """For every remedy of the plane: where a generator is averaged, its own weights are others."""
    built, remedies = built_in_seconds("gan-ring"), NAMES["gan-ring"].presets["smoke"].remedies
    fresh = trained_in_seconds(NAMES["gan-ring"])
    shipped = NAMES["gan-ring"].weights(fresh.learner)
    kinds = set()
    for number, (learner, remedy) in enumerate(zip(fresh.learner.learners, remedies)):
        own = learner.gan.generator.state_dict()
        same = all(torch.equal(value.half(), shipped[f"remedy{number}.{key}"]) for key, value in own.items())
        assert same == (remedy.learning.averaging == 0)
        kinds.add(same)
    assert kinds == {True, False} and len(built.learner.learners) == len(remedies)


def test_each_remedy_has_one_thing_more_than_the_one_before():
    first, equal, packed, averaged, alone, penalised = recorded.REMEDIES
    rates = [(one.learning.generator_rate, one.learning.discriminator_rate) for one in recorded.REMEDIES]
    assert rates[0] == (1e-3, 1e-4) and set(rates[1:]) == {(1e-3, 1e-3)}
    assert [one.packed for one in recorded.REMEDIES] == [1, 1, 2, 2, 1, 1]
    assert [one.learning.averaging > 0 for one in recorded.REMEDIES] == [False, False, False, True, True, True]
    assert [one.learning.penalty > 0 for one in recorded.REMEDIES] == [False] * 5 + [True]
    for one in (equal, packed, averaged, alone, penalised):
        same = {"discriminator_rate": 0.0, "averaging": 0.0, "penalty": 0.0}
        assert replace(one.learning, **same) == replace(first.learning, **same)


def test_rates_stay_and_then_fall_to_zero_in_a_straight_line():
    how = recorded.Learning(steps=10, constant=0.5)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 2.0)
    schedule, rates = recorded.falling(optimizer, how), []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([2.0] * 6 + [1.6, 1.2, 0.8, 0.4, 0.0])


def test_triples_are_three_digits_that_follow_each_other():
    """A batch of single digits becomes stacked images, and none is torn apart."""
    learner = built_in_seconds("gan-stacked").learner
    seen = []

    class Stop(Exception):
        pass

    def look(batch, context):
        seen.append(batch)
        raise Stop

    digits = torch.arange(12.0)[:, None].expand(12, 784) / 12
    parent, recorded.RecordedLearning.training_step = recorded.RecordedLearning.training_step, (
        lambda self, batch, context: look(batch, context))
    try:
        with pytest.raises(Stop):
            learner.training_step(digits, None)
    finally:
        recorded.RecordedLearning.training_step = parent
    assert seen[0].shape == (4, 3 * 784)
    assert torch.equal(seen[0].unflatten(1, (3, 784))[..., 0], digits[:, 0].view(4, 3))
