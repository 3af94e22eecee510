"""Chapter 4's recorded runs: what is shipped is what was measured, and the bounds are in their order."""

from dataclasses import replace

import pytest
import torch

from nemlib import training
from nemlib.experiments import results
from nemlib.experiments import vae as recorded
from nemlib.experiments.experiment import Built, generator
from nemlib.vae import VAE, MixturePrior

NAMES = ("vae-mnist", "vae-plane", "vae-published", "iwae-published", "vae-conv")
RUNS = [(name, preset) for name in NAMES for preset in results.available().get(name, ())]
SMOKE = recorded.CLASSICAL["smoke"]


@pytest.fixture(scope="module")
def test_images():
    return recorded.load_digits(recorded.Digits())["test"]


def trained_in_seconds(settings=SMOKE, seed=0) -> Built:
    built = recorded.build(settings, seed)
    training.train(built.learner, built.data, built.training, device="cpu", seed=seed,
                   evaluation_data=built.evaluation_data, progress=False)
    return built


# --- what is shipped ---------------------------------------------------------------------------------------


def test_the_runs_of_the_chapter_are_shipped():
    assert {("vae-mnist", "book"), ("vae-plane", "book"), ("vae-conv", "full")} <= set(RUNS)


@pytest.mark.parametrize(("name", "preset"), RUNS)
def test_the_shipped_machine_has_the_recorded_divergence(name, preset, test_images):
    """The mean KL needs no draw of z: the machine on all test images gives the recorded number."""
    machine, run = recorded.trained(name, preset), results.load(name, preset).runs[0]
    with torch.no_grad():
        kl = torch.cat([machine.encode(part).kl().sum(-1) for part in test_images.split(1000)])
    assert kl.mean().item() == pytest.approx(run.metrics["test_kl"].value, abs=2e-3)
    assert abs(machine.encode(test_images[:1000]).kl(
        recorded.make_machine(machine_of(name, preset), 0).encode(test_images[:1000])).mean().item()) > 2e-3


def machine_of(name, preset):
    return next(each for each in recorded.EXPERIMENTS if each.name == name).presets[preset].machine


@pytest.mark.parametrize(("name", "preset"), RUNS)
def test_a_few_samples_on_a_few_images_give_a_bound_near_the_recorded_one(name, preset, test_images):
    """On the first 200 images: 100 samples stay below the recorded bound's level by little, one draw by more."""
    machine, run = recorded.trained(name, preset), results.load(name, preset).runs[0]
    few = machine.importance_bound(test_images[:200], 50, torch.Generator().manual_seed(0))
    level = run.metrics["test_bound"].value
    assert abs(few.mean - level) < 4 * few.spread + 2, "another machine's bound would be elsewhere"
    assert few.elbo.mean() < few.mean


@pytest.mark.parametrize(("name", "preset"), RUNS)
def test_more_samples_make_the_bound_larger_and_the_parts_add_up(name, preset):
    for run in results.load(name, preset).runs:
        value = {key: metric.value for key, metric in run.metrics.items()}
        assert value["test_elbo"] == pytest.approx(value["test_reconstruction"] - value["test_kl"], abs=1e-3)
        assert value["test_elbo"] < value["test_bound"]
        assert value["test_bound_first"] < value["test_bound_more"] < value["test_bound_first"] + 2
        assert abs(value["mutual_information"] + value["marginal_kl"] - value["test_kl"]) < 0.5
        assert run.metrics["test_bound"].standard_error < 0.1


def test_the_classical_machine_reaches_the_books_target():
    assert all(run.metrics["test_bound"].value > -97 for run in results.load("vae-mnist", "book").runs)


def test_the_strong_machine_passes_the_published_bound():
    """−84.78: one stochastic layer, 50 importance samples in training (Burda et al. 2016, table 1)."""
    assert results.load("vae-conv", "full").metrics["test_bound"] > -84.78


@pytest.mark.parametrize(("name", "preset"), RUNS)
def test_curves_are_those_of_the_run_and_end_at_its_last_step(name, preset):
    curves, settings = recorded.curves(name, preset), results.load(name, preset).settings
    assert set(curves) == set(recorded.CURVES)
    steps, values = curves["valid_elbo"]
    per_epoch = settings["digits"]["training_images"] // settings["learning"]["batch_size"]
    assert steps[-1] == settings["learning"]["epochs"] * per_epoch
    assert (steps.diff() > 0).all() and values[-1] > values[0]
    parts = curves["valid_reconstruction"][1] - curves["valid_kl"][1]
    assert torch.allclose(values, parts, atol=1e-3)


# --- the learner -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [SMOKE, recorded.STRONG["smoke"], recorded.published(2, True, 3)["smoke"]])
def test_what_is_shipped_is_what_is_measured(settings):
    built = trained_in_seconds(settings)
    measured = recorded.measure(built, settings, torch.device("cpu"), 0)
    again = recorded.build(settings, 0)
    again.learner.module.load_state_dict(recorded.weights(built.learner))
    assert recorded.measure(again, settings, torch.device("cpu"), 0) == measured
    state = again.learner.module
    first, second = state.vae.state_dict(), state.averaged.module.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_machines_weights_are_refused():
    built = trained_in_seconds()
    other = recorded.build(replace(SMOKE, machine=recorded.Machine((7,), 4)), 0)
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.learner.module.load_state_dict(recorded.weights(built.learner))


def test_the_bounds_that_are_looked_at_are_those_of_the_averaged_machine():
    built = trained_in_seconds()
    learner = built.learner
    last = {name: each[1][-1].item() for name, each in learner.module.record.curves().items()}
    kl = {name: machine.encode(built.evaluation_data).kl().sum(-1).mean().item()
          for name, machine in (("averaged", learner.averaged), ("newest", learner.vae))}
    assert last["valid_kl"] == pytest.approx(kl["averaged"], abs=1e-5)
    assert last["valid_kl"] != pytest.approx(kl["newest"], abs=1e-5)


def test_held_out_images_are_no_training_images_and_stay_the_same():
    images = recorded.load_digits(recorded.Digits())
    assert [len(images[split]) for split in ("train", "valid", "test")] == [50_000, 10_000, 10_000]
    again = recorded.load_digits(recorded.Digits())
    assert torch.equal(images["test"], again["test"]) and set(images["test"].unique().tolist()) == {0.0, 1.0}
    fewer = recorded.load_digits(recorded.Digits(test_images=50))
    assert torch.equal(fewer["test"], images["test"][:50]), "fewer images are the first of all"
    grey = images["train"]
    assert len(grey.unique()) > 100, "training images are grey: each step draws its own pixels"


def test_a_mixture_can_be_the_prior():
    settings = replace(SMOKE, machine=replace(SMOKE.machine, components=3))
    built = trained_in_seconds(settings)
    assert isinstance(built.learner.vae.prior, MixturePrior)
    found = recorded.measure(built, settings, torch.device("cpu"), 0)
    assert found["test_elbo"].value < found["test_bound"].value + 1


def test_a_sample_is_a_picture():
    for settings in (SMOKE, recorded.STRONG["smoke"]):
        pictures = recorded.sample(trained_in_seconds(settings), settings, 7, generator(0, "sample"))
        assert pictures.shape == (7, 28, 28) and 0 <= pictures.min() and pictures.max() <= 1


def test_the_machine_that_comes_back_is_a_vae_of_its_size():
    machine = recorded.trained("vae-mnist", "book")
    assert isinstance(machine, VAE) and machine.latent == 20 and not machine.training
    assert not any(parameter.requires_grad for parameter in machine.parameters())
