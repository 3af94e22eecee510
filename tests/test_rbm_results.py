"""Chapter 2's recorded runs: what is shipped is what was measured, and a run goes on as if nothing had been."""

import copy
from dataclasses import replace

import pytest
import torch

from nemlib import training
from nemlib.evaluate import ais
from nemlib.experiments import rbm as recorded
from nemlib.experiments import results
from nemlib.experiments.experiment import Built, generator
from nemlib.rbm import RBM, base_rate

RUNS = [(name, preset) for name in ("rbm-mnist", "rbm-mnist-all", "rbm-cd1", "rbm-cd3", "rbm-cd25")
        for preset in results.available().get(name, ())]
SMOKE = recorded.PERSISTENT["smoke"]


@pytest.fixture(scope="module")
def own_digits():
    return recorded.load_digits(recorded.Digits(0))


def trained_in_seconds(settings=SMOKE, seed=0) -> Built:
    built = recorded.build(settings, seed)
    training.train(built.learner, built.data, built.training, device="cpu", seed=seed,
                   evaluation_data=built.evaluation_data, progress=False)
    return built


# --- what is shipped ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["book"])
@pytest.mark.parametrize("name", ["rbm-mnist", "rbm-cd1"])
def test_the_shipped_machine_has_the_recorded_likelihood(name, preset, own_digits):
    """Its free energies give the recorded difference of training and test digits, which needs no log Z, and a
    short AIS of our own the recorded log Z.
    """
    found = results.load(name, preset)
    machine, run = recorded.trained(name, preset), found.runs[0]
    free = {split: machine.free_energy(own_digits[split]).double().mean().item() for split in ("train", "test")}
    values = {key: metric.value for key, metric in run.metrics.items()}
    apart = values["test_log_likelihood"] - values["train_log_likelihood"]
    assert free["train"] - free["test"] == pytest.approx(apart, abs=2e-3)
    other = recorded.trained("rbm-cd1" if name == "rbm-mnist" else "rbm-mnist", preset)
    wrong = other.free_energy(own_digits["train"]).mean() - other.free_energy(own_digits["test"]).mean()
    assert abs(wrong.item() - apart) > 2e-3, "another machine is told from this one"
    quick = machine.ais_up(50, ais.temperatures(400), base_rate(own_digits["train"]),
                           torch.Generator().manual_seed(0))
    assert abs(quick.log_z - values["log_z_slow"]) < 3
    assert -free["test"] - values["log_z_slow"] == pytest.approx(values["test_log_likelihood_slow"], abs=2e-3)


@pytest.mark.parametrize(("name", "preset"), RUNS)
def test_ten_times_the_temperatures_and_the_way_back_confirm_what_is_printed(name, preset):
    for run in results.load(name, preset).runs:
        first, slow, back = (run.metrics[f"test_log_likelihood{which}"] for which in ("", "_slow", "_back"))
        assert abs(first.value - slow.value) < 4 * (first.standard_error + slow.standard_error)
        assert abs(back.value - slow.value) < 4 * (back.standard_error + slow.standard_error)
        assert 0 < slow.standard_error < 0.2


def test_persistent_chains_reach_the_books_target_and_cd_1_stays_far_below():
    persistent, cd = (results.load(name, "book") for name in ("rbm-mnist", "rbm-cd1"))
    assert all(run.metrics["test_log_likelihood_slow"].value > -95 for run in persistent.runs)
    assert all(run.metrics["test_log_likelihood_slow"].value < -105 for run in cd.runs)


@pytest.mark.parametrize(("name", "preset"), RUNS)
def test_curves_are_those_of_the_run_and_end_at_its_last_step(name, preset):
    curves = recorded.curves(name, preset)
    learning = results.load(name, preset).settings["learning"]
    examples = results.load(name, preset).settings["digits"]["training_images"]
    assert set(curves) == set(recorded.CURVES)
    steps, values = curves["valid_log_likelihood"]
    assert steps[-1] == learning["epochs"] * (examples // learning["batch_size"])
    assert (steps.diff() > 0).all() and values[-1] > values[0]


def test_chains_are_pictures_and_cd_has_none():
    chains = recorded.chains("rbm-mnist", "book")
    assert chains.shape == (200, 784) and set(chains.unique().tolist()) == {0.0, 1.0}
    with pytest.raises(ValueError, match="without persistent chains"):
        recorded.chains("rbm-cd1", "book")


# --- the learner -------------------------------------------------------------------------------------------


def test_what_is_shipped_is_what_is_measured():
    built = trained_in_seconds()
    measured = recorded.measure(built, SMOKE, torch.device("cpu"), 0)
    again = recorded.build(SMOKE, 0)
    again.learner.module.load_state_dict(recorded.weights(built.learner))
    assert recorded.measure(again, SMOKE, torch.device("cpu"), 0) == measured
    machine = again.learner.module
    for other in (machine.machine, machine.averaged.module):
        assert all(torch.equal(getattr(machine.best, name), getattr(other, name)) for name in recorded.PARAMETERS)


def test_another_machines_weights_are_refused():
    built = trained_in_seconds()
    other = recorded.build(replace(SMOKE, machine=recorded.Machine(hidden=7)), 0)
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.learner.module.load_state_dict(recorded.weights(built.learner))


@pytest.mark.parametrize("keep_last", [False, True])
def test_the_best_machine_is_kept_or_the_last(keep_last):
    learner = trained_in_seconds().learner
    learner.keep_last = keep_last
    state = learner.module
    state.record.steps.zero_()
    kept = []
    for step, value in enumerate((-100.0, -90.0, -95.0), 1):
        with torch.no_grad():
            learner.averaged.W.fill_(float(step))
        learner.at = step
        learner.keep({"valid_log_likelihood": torch.tensor(value), "train_log_likelihood": torch.tensor(0.0),
                      "log_z": torch.tensor(0.0), "reconstruction_error": torch.tensor(0.0)})
        kept.append(state.best.W[0, 0].item())
    assert kept == ([1.0, 2.0, 3.0] if keep_last else [1.0, 2.0, 2.0])


def test_the_likelihood_that_is_looked_at_is_that_of_the_averaged_machine():
    built = trained_in_seconds()
    learner, steps = built.learner, built.learner.module.record.steps
    values = learner.module.record.curves()
    machine = copy.deepcopy(learner.averaged)
    last = {name: each[1][-1].item() for name, each in values.items()}
    free = machine.free_energy(built.evaluation_data).mean().item()
    assert last["valid_log_likelihood"] == pytest.approx(-free - last["log_z"], abs=1e-3)
    wrong = learner.machine.free_energy(built.evaluation_data).mean().item()
    assert last["valid_log_likelihood"] != pytest.approx(-wrong - last["log_z"], abs=1e-3)
    assert int(steps.max()) == built.training.total_steps(len(built.data))


def test_all_60_000_images_are_the_training_and_the_validation_images():
    halves = recorded.load_digits(recorded.Digits(0, 50_000, 10_000, 10))
    everything = recorded.load_digits(recorded.Digits(0, 60_000, 10_000, 10))
    assert torch.equal(everything["train"], torch.cat([halves["train"], halves["valid"]]))
    settings = replace(SMOKE, digits=recorded.Digits(0, 60_000, 50, 50))
    assert recorded.build(settings, 0).learner.keep_last and not recorded.build(SMOKE, 0).learner.keep_last
    built = recorded.build(settings, 0)
    metrics = recorded.likelihoods(built.learner.module.best, {"valid": built.evaluation_data,
                                                               "test": built.evaluation_data}, settings,
                                   *[ais.estimate(torch.zeros(3))] * 3)
    assert "test_log_likelihood" in metrics and "valid_log_likelihood" not in metrics


def test_a_sample_is_a_picture():
    for settings in (SMOKE, recorded.contrastive(1)["smoke"]):
        built = trained_in_seconds(settings)
        pictures = recorded.sample(built, settings, 7, generator(0, "sample"))
        assert pictures.shape == (7, 28, 28) and 0 <= pictures.min() and pictures.max() <= 1


def test_the_machine_that_comes_back_is_an_rbm_of_its_size():
    machine = recorded.trained("rbm-mnist", "book")
    assert isinstance(machine, RBM) and (machine.visible, machine.hidden) == (784, 500)
    assert machine.W.dtype == torch.float32 and not machine.W.requires_grad
