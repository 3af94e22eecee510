"""Chapter 3's recorded runs: what is shipped is what was measured, and an interrupted run goes on."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

from nemlib import training
from nemlib.autoencoder import Autoencoder
from nemlib.experiments import autoencoder as recorded
from nemlib.experiments import results
from nemlib.experiments.experiment import Built, generator

NAMES = tuple(experiment.name for experiment in recorded.EXPERIMENTS)
RUNS = [(name, preset) for name in NAMES for preset in results.available().get(name, ()) if preset != "smoke"]
SMOKE = recorded.presets(3)["smoke"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def test_digits():
    return recorded.load_digits(recorded.Digits())["test"].flat()


@pytest.fixture(scope="module")
def built():
    """A run of seconds, for tests that leave it as it is."""
    return trained_in_seconds()


@cache
def thirty_components(training_images):
    return recorded.principal_components(30, recorded.Digits(training_images))


def trained_in_seconds(settings=SMOKE, seed=0, **options) -> Built:
    built = recorded.build(settings, seed)
    training.train(built.learner, built.data, built.training, device="cpu", seed=seed,
                   evaluation_data=built.evaluation_data, progress=False, **options)
    return built


@torch.no_grad()
def measured(built, settings=SMOKE):
    return recorded.measure(built, settings, CPU, 0)


# --- what is shipped ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "preset"), RUNS)
def test_the_shipped_autoencoder_has_the_recorded_errors(name, preset, test_digits):
    found = results.load(name, preset)
    for run in found.runs:
        machine = recorded.trained(name, preset, run.seed)
        some, values = test_digits[:10_000], {key: metric.value for key, metric in run.metrics.items()}
        error = machine.squared_error(some).double().mean().item()
        assert error == pytest.approx(values["test_squared_error"], rel=1e-4)
        assert machine.reconstruction_loss(some).double().mean().item() == pytest.approx(
            values["test_loss"], abs=0.05)
        assert (error != pytest.approx(machine.squared_error(some[:5_000]).double().mean().item(), rel=1e-4)
                ), "another set of digits is told from this one"


@pytest.mark.parametrize(("name", "preset"), RUNS)
def test_it_is_far_better_than_as_many_principal_components(name, preset):
    for run in results.load(name, preset).runs:
        for split in ("train", "test"):
            ours, theirs = (run.metrics[f"{split}_{which}squared_error"].value for which in ("", "pca_"))
            assert ours < 0.8 * theirs
        assert run.metrics["test_pca_squared_error"].value < run.metrics["test_mean_squared_error"].value


@pytest.mark.parametrize(("name", "preset"), RUNS)
def test_principal_components_have_the_recorded_error(name, preset, test_digits):
    found = results.load(name, preset)
    pca = thirty_components(found.settings["digits"]["training_images"])
    pca = replace(pca, components=pca.components[:, :found.settings["machine"]["latent"]])
    error = pca.squared_error(test_digits).mean().item()
    assert error == pytest.approx(found.metrics["test_pca_squared_error"], rel=1e-6)


@pytest.mark.parametrize(("name", "preset"), RUNS)
def test_curves_are_those_of_the_run_and_end_at_its_last_step(name, preset):
    curves, settings = recorded.curves(name, preset), results.load(name, preset).settings
    assert set(curves) == set(recorded.CURVES)
    steps, values = curves["valid_squared_error"]
    per_epoch = settings["digits"]["training_images"] // settings["learning"]["batch_size"]
    assert steps[-1] == settings["learning"]["epochs"] * per_epoch
    assert (steps.diff() > 0).all() and values[-1] < values[0]


@pytest.mark.parametrize(("name", "preset"), RUNS)
def test_the_autoencoder_that_comes_back_is_one_of_its_size(name, preset):
    machine, how = recorded.trained(name, preset), results.load(name, preset).settings["machine"]
    assert isinstance(machine, Autoencoder) and machine.pixels == "gaussian" and not machine.training
    assert machine.decode(torch.zeros(2, how["latent"])).shape == (2, 784)
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in machine.parameters())
    layers = [layer for layer in machine.modules() if isinstance(layer, nn.Linear)]
    assert len(layers) == 6


def test_the_familys_errors_fall_with_the_width():
    """The three widths that learnt from the same digits for the same time."""
    names = ("autoencoder-2", "autoencoder-mnist", "autoencoder-8")
    errors = [results.load(name, "book").metrics["test_squared_error"] for name in names
              if (name, "book") in RUNS]
    assert errors == sorted(errors, reverse=True)


# --- the learner -------------------------------------------------------------------------------------------


def test_what_is_shipped_is_what_is_measured(built):
    first = measured(built)
    again = recorded.build(SMOKE, 0)
    again.learner.module.load_state_dict(recorded.weights(built.learner))
    assert measured(again) == first
    state = again.learner.module
    assert all(torch.equal(one, two) for one, two in zip(state.best.state_dict().values(),
                                                         state.autoencoder.state_dict().values()))
    again.learner.module.load_state_dict(recorded.weights(trained_in_seconds(seed=1).learner))
    other = measured(again)
    assert other["test_squared_error"] != first["test_squared_error"]                          # the mutant
    assert other["test_pca_squared_error"] == first["test_pca_squared_error"]


def test_measured_numbers_are_those_of_the_model(built):
    found, module = measured(built), built.learner.module
    digits = recorded.load_digits(SMOKE.digits)
    x, train = digits["test"].flat(), digits["train"].flat()
    error = (x - module.best(x)).square().sum(1).mean().item()
    assert found["test_squared_error"].value == pytest.approx(error, rel=1e-5)
    assert found["test_mean_squared_error"].value == pytest.approx(
        (x - train.mean(0)).square().sum(1).mean().item(), rel=1e-5)
    s2 = module.best.variance
    density = -torch.distributions.Normal(module.best(x), s2.sqrt()).log_prob(x).sum(1).mean().item()
    assert found["test_loss"].value == pytest.approx(density, rel=1e-5)
    codes, asked = module.best.encode(train), module.best.encode(x)
    nearest = torch.stack([(codes - each).square().sum(1).argmin() for each in asked])
    right = (digits["train"].labels[nearest] == digits["test"].labels).double().mean().item()
    assert found["neighbour_accuracy"].value == pytest.approx(right, abs=0.021)    # a tie may fall either way
    assert {f"{split}_{what}" for split in ("train", "valid", "test")
            for what in ("loss", "squared_error", "pca_squared_error")} <= set(found)


def test_another_autoencoders_weights_are_refused(built):
    other = recorded.build(replace(SMOKE, machine=replace(SMOKE.machine, latent=4)), 0)
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.learner.module.load_state_dict(recorded.weights(built.learner))


@pytest.mark.parametrize("keep_last", [False, True])
def test_the_best_autoencoder_is_kept_or_the_last(keep_last):
    learner = trained_in_seconds(replace(SMOKE, learning=replace(SMOKE.learning, epochs=3))).learner
    learner.keep_last, state = keep_last, learner.module
    state.record.steps.zero_()
    kept = []
    for step, value in enumerate((50.0, 40.0, 45.0), 1):
        with torch.no_grad():
            state.autoencoder.encoder[0].bias.fill_(float(step))
        learner.at = step
        learner.keep({"valid_squared_error": torch.tensor(value), "train_squared_error": torch.tensor(78.4)})
        kept.append(state.best.encoder[0].bias[0].item())
    assert kept == ([1.0, 2.0, 3.0] if keep_last else [1.0, 2.0, 2.0])
    assert state.best.variance.item() == pytest.approx(0.1) and state.autoencoder.variance == 1


def test_all_60_000_images_are_the_training_and_the_validation_images():
    halves, whole = (recorded.load_digits(recorded.Digits(count)) for count in (50_000, 60_000))
    assert torch.equal(whole["train"].images,
                       torch.cat([halves["train"].images, halves["valid"].images]))
    learns_from = {name: experiment.presets["full"].digits.training_images
                   for name, experiment in zip(NAMES, recorded.EXPERIMENTS)}
    assert learns_from.pop("autoencoder-30") == 60_000 and set(learns_from.values()) == {50_000}


def test_the_last_one_is_kept_where_no_image_is_held_out(monkeypatch):
    monkeypatch.setattr(recorded, "trains_on_all", lambda digits: True)
    built = trained_in_seconds()
    assert built.learner.keep_last and not any(name.startswith("valid_") for name in measured(built))


def test_an_interrupted_run_ends_as_an_unbroken_one(tmp_path):
    settings = replace(SMOKE, learning=replace(SMOKE.learning, epochs=4))
    whole = trained_in_seconds(settings).learner.module.state_dict()
    half = recorded.build(settings, 0)
    stopped = replace(half.training, epochs=2)
    training.train(half.learner, half.data, stopped, device="cpu", out=tmp_path, progress=False,
                   evaluation_data=half.evaluation_data)
    again = trained_in_seconds(settings, out=tmp_path, resume=True).learner.module.state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_sample_is_a_picture_and_a_run_shows_its_reconstructions(built):
    pictures = recorded.sample(built, SMOKE, 7, generator(0, "sample"))
    assert pictures.shape == (7, 28, 28) and 0 <= pictures.min() and pictures.max() <= 1
    context = training.make_context(None, 0, "cpu", None)
    assert built.learner.picture(context) is None
    context.data = built.data
    shown = built.learner.picture(context)
    assert shown.shape == (64, 28, 28) and torch.equal(shown[0].flatten(), built.data[0])


def test_first_weights_depend_on_the_seed_alone():
    with training.seeded(1):
        one = recorded.make_machine(SMOKE.machine, 5)
    two, three = recorded.make_machine(SMOKE.machine, 5), recorded.make_machine(SMOKE.machine, 6)
    assert torch.equal(one.encoder[0].weight, two.encoder[0].weight)
    assert not torch.equal(one.encoder[0].weight, three.encoder[0].weight)


def test_nothing_recorded_gives_the_command():
    with pytest.raises(results.ResultError, match="nemlib train autoencoder-2 --preset smoke --seed 0"):
        recorded.trained("autoencoder-2", "smoke")
