"""The training loop: every kind of model, resumption bit for bit, NaN, options, several processes."""

import functools
import itertools
import math
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import training_worker as toys
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from training_worker import SETTINGS, make_data, make_learner

from nemlib import checkpoint, files, training
from nemlib.checkpoint import Checkpoints, pack, unpack
from nemlib.training import (
    Context, GradientLearner, History, Learner, TrainingDiverged, TrainingSettings, budget, choose,
    cosine_schedule, evaluate, seeded, train,
)

WORKER = Path(toys.__file__)
ROOT = WORKER.parents[1]
KINDS = list(SETTINGS)


def tensors_of(learner: Learner) -> dict[str, torch.Tensor]:
    """Everything that was learnt, the optimizers' memories included."""
    tensors: dict[str, torch.Tensor] = {}
    pack({"module": learner.module.state_dict(),
          "optimizers": [optimizer.state_dict() for optimizer in learner.optimizers.values()]}, tensors)
    return tensors


def assert_same_bits(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def same_bits(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def linear_learner(rate: float = 0.1, loss=None) -> GradientLearner:
    """One linear layer with a squared error, float64."""
    with seeded(0):
        module = nn.Linear(6, 6).double()
    squared = lambda module, batch, generator: (module(batch) - batch).square().sum(1).mean()
    return GradientLearner(module, loss or squared, torch.optim.SGD(module.parameters(), rate))


# --- the loop does what a loop written by hand does ------------------------------------------------------

def test_the_loop_equals_a_bare_loop_bit_for_bit():
    data = make_data("rbm")
    learner, settings = linear_learner(), TrainingSettings(epochs=3, batch_size=8, report_every=5)
    history = train(learner, data, settings, device="cpu", seed=4)
    by_hand, losses = linear_learner().module, []
    optimizer = torch.optim.SGD(by_hand.parameters(), 0.1)
    generator = torch.Generator().manual_seed(training.derived_seed(4, "order"))
    for _ in range(3):
        order = torch.randperm(len(data), generator=generator)
        for rows in order[:64].split(8):
            loss = (by_hand(data[rows]) - data[rows]).square().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert_same_bits(learner.module.state_dict(), by_hand.state_dict())
    assert history.column("step") == [5, 10, 15, 20, 24] and history.column("epoch") == [1, 2, 2, 3, 3]
    means = [chunk.mean().item() for chunk in torch.tensor(losses, dtype=torch.float64).split(5)]
    assert history.column("loss") == pytest.approx(means, rel=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_trains_in_the_same_loop(kind):
    learner, history = toys.run(kind, None)
    metrics = {"autoencoder": "evaluation_root", "gan": "loss_generator", "rbm": "activity",
               "ising": "evaluation_size", "mixture": "largest_cluster"}
    assert metrics[kind] in history.names and all(map(math.isfinite, history.series(metrics[kind])[1]))
    before = make_learner(kind)
    assert any(not torch.equal(tensor, learner.module.state_dict()[name])
               for name, tensor in before.module.state_dict().items())


def test_each_example_comes_once_an_epoch_in_a_new_order():
    seen: list[list[int]] = []

    class Watcher(Learner):
        module = nn.Module()

        def begin_epoch(self, context):
            seen.append([])

        def training_step(self, batch, context):
            assert torch.equal(batch["x"], context.data["x"][context.rows])
            assert torch.equal(batch["y"], context.data["y"][context.rows])
            seen[-1] += context.rows.tolist()
            return {}

    data = {"x": torch.arange(30).view(10, 3), "y": torch.arange(10)}
    train(Watcher(), data, TrainingSettings(epochs=3, batch_size=5), device="cpu")
    assert [sorted(rows) for rows in seen] == [list(range(10))] * 3 and seen[0] != seen[1] != seen[2]
    seen.clear()
    train(Watcher(), data, TrainingSettings(epochs=2), device="cpu")
    assert seen == [list(range(10))] * 2   # whole data: their own order


def test_the_schedule_is_stepped_and_the_gradient_clipped():
    learner = make_learner("autoencoder")
    train(learner, make_data("autoencoder"), SETTINGS["autoencoder"], device="cpu")
    assert learner.optimizers["optimizer"].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)
    rates = []
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), 1.0)
    schedule = cosine_schedule(optimizer, 10, warm_up=4)
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0]) and rates[7] == pytest.approx(0.5)
    context = training.make_context(None, 0, "cpu", None)
    module = linear_learner().module
    before = module.weight.detach().clone()
    gradients = {module.weight: torch.full((6, 6), 2.0).double()}
    context.update(torch.optim.SGD(module.parameters(), 1.0), gradients=gradients, clip_norm=3.0)
    assert (before - module.weight).norm().item() == pytest.approx(3.0, rel=1e-5)


def test_an_update_leaves_the_other_player_alone():
    learner, data = make_learner("gan"), make_data("gan")
    judge = learner.module["discriminator"]
    context = training.make_context(None, 0, "cpu", None)
    context.update(learner.optimizers["generator"], judge(learner.module["generator"](data[:, :2])).mean())
    assert all(parameter.grad is None for parameter in judge.parameters())


# --- random numbers --------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_and_the_global_state_is_left_alone(kind):
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first, _ = toys.run(kind, None)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(12)
    second, _ = toys.run(kind, None)
    assert_same_bits(tensors_of(first), tensors_of(second))
    other = make_learner(kind)
    train(other, make_data(kind), SETTINGS[kind], device="cpu", seed=5)
    assert not same_bits(tensors_of(first), tensors_of(other))


def test_evaluating_and_reporting_more_often_changes_nothing():
    first, _ = toys.run("autoencoder", None)
    second, data = make_learner("autoencoder"), make_data("autoencoder")
    settings = replace(SETTINGS["autoencoder"], evaluate_every=1, report_every=1)
    history = train(second, data, settings, device="cpu", seed=3, evaluation_data=data)
    assert_same_bits(tensors_of(first), tensors_of(second))
    assert len(history.series("evaluation_loss")[0]) == 32
    again = evaluate(second, data, device="cpu", seed=3, batch_size=8)
    assert again["loss"] == history.last("evaluation_loss")
    assert second.module.training and second.module[2].training


def test_evaluation_averages_over_all_examples():
    learner, data = linear_learner(), make_data("rbm")
    exact = learner.loss(learner.module, data, None).item()
    assert evaluate(learner, data, device="cpu", batch_size=10)["loss"] == pytest.approx(exact, rel=1e-14)
    custom = GradientLearner(learner.module, learner.loss, learner.optimizers["optimizer"],
                             evaluation=lambda module, data, generator: {"examples": len(data)})
    assert evaluate(custom, data, device="cpu") == {"examples": 67.0}


# --- resuming --------------------------------------------------------------------------------------------

class Interrupted(Exception):
    pass


def run_with_interruptions(kind: str, out: Path, rows: list[int]) -> tuple[Learner, History]:
    """Stop when the history has that many rows, each time by an error, then resume in new objects."""
    for stop in rows:
        def watch(learner, history, context):
            if len(history) >= stop:
                raise Interrupted
        with pytest.raises(Interrupted):
            toys.run(kind, out, resume=True, watch=watch)
    return toys.run(kind, out, resume=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_ends_bit_for_bit_as_an_unbroken_one(kind, tmp_path):
    whole, history = toys.run(kind, None)
    unbroken, written = toys.run(kind, tmp_path / "unbroken")
    assert_same_bits(tensors_of(whole), tensors_of(unbroken))   # writing checkpoints changes nothing either
    resumed, rows = run_with_interruptions(kind, tmp_path / "broken", [1, 4, 5, 8])
    assert_same_bits(tensors_of(unbroken), tensors_of(resumed))
    assert rows.rows == written.rows and rows.last("step") == history.last("step")
    assert History.read(tmp_path / "broken" / "history.csv").rows == rows.rows


@pytest.mark.parametrize("kind, forgotten", [
    ("autoencoder", "own"), ("autoencoder", "global"), ("gan", "own"), ("rbm", "own"), ("ising", "own"),
])
def test_the_bitwise_check_notices_a_forgotten_generator(kind, forgotten, tmp_path, monkeypatch):
    """Mutants: one generator is not restored."""
    unbroken, _ = toys.run(kind, tmp_path / "unbroken")
    restore = checkpoint.set_random_state

    def forgetful(state, generators, device):
        now = checkpoint.random_state(generators, device)
        restore(dict(state) | {forgotten: now[forgotten]}, generators, device)

    monkeypatch.setattr(training, "set_random_state", forgetful)
    resumed, _ = run_with_interruptions(kind, tmp_path / "broken", [4])
    assert not same_bits(tensors_of(unbroken), tensors_of(resumed))


def test_the_bitwise_check_notices_a_forgotten_batch_order(tmp_path, monkeypatch):
    """A mutant: the epoch begins anew instead of going on within its order."""
    unbroken, _ = toys.run("rbm", tmp_path / "unbroken")
    monkeypatch.setattr(training.Batches, "restore", lambda self, state: None)
    resumed, _ = run_with_interruptions("rbm", tmp_path / "broken", [3])
    assert not same_bits(tensors_of(unbroken), tensors_of(resumed))


def start_worker(out: Path, *options: str) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, WORKER, "autoencoder", out, *options], cwd=ROOT,
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def kill_after(process: subprocess.Popen, seconds: float) -> None:
    time.sleep(seconds)
    process.kill()
    assert process.wait() in (-signal.SIGKILL, 0)   # 0: on a busy machine it may have ended first


def kill_while_writing(process: subprocess.Popen, out: Path) -> None:
    """Kill as soon as a checkpoint's temporary file is seen; it is left behind."""
    unfinished = lambda: list((out / "checkpoints").glob(f".*{files.TEMPORARY}"))
    deadline = time.monotonic() + 30
    while not unfinished() and time.monotonic() < deadline:
        time.sleep(0.001)
    kill_after(process, 0.0)
    assert unfinished(), "the kill came after the checkpoint was in place"


def test_sigkill_at_random_moments_and_while_writing_changes_nothing(tmp_path):
    toys.run("autoencoder", tmp_path / "unbroken")
    out, moments = tmp_path / "broken", random.Random(0)
    kill_while_writing(start_worker(out, "--slow-disk"), out)
    kill_after(start_worker(out), moments.uniform(0.05, 0.3))
    kill_while_writing(start_worker(out, "--slow-disk"), out)
    kill_after(start_worker(out), moments.uniform(0.0, 0.15))
    assert start_worker(out).wait() == 0
    ends = [files.load_tensors(Checkpoints(folder / "checkpoints").newest())
            for folder in (tmp_path / "unbroken", out)]
    assert_same_bits(ends[0][0], ends[1][0])
    for _, metadata in ends:
        del metadata["state"]["seconds"]   # the time it took is not part of the result
    assert ends[0][1] == ends[1][1] and len(ends[0][1]["state"]["history"][1]) > 10
    assert not list((out / "checkpoints").glob(f".*{files.TEMPORARY}")), "leavings of a killed process"


def test_only_the_newest_checkpoints_stay(tmp_path):
    toys.run("rbm", tmp_path)
    names = [path.name for path in Checkpoints(tmp_path / "checkpoints").paths()]
    assert names == ["step-00000020.safetensors", "step-00000024.safetensors"]


def test_a_finished_run_resumes_into_its_history(tmp_path):
    _, history = toys.run("rbm", tmp_path)
    again, same = toys.run("rbm", tmp_path, resume=True)
    assert same.rows == history.rows and same.seconds == history.seconds


def test_a_state_survives_its_file(tmp_path):
    state = {"numbers": {0: torch.arange(3), 1: {"betas": (0.9, 0.999)}}, "rates": [0.1, None, True, "x"],
             "empty": [], "deep": {"a": [[torch.zeros(2)]]}}
    tensors = {}
    back = unpack(pack(state, tensors), tensors)
    assert back["numbers"][1] == {"betas": (0.9, 0.999)} and back["rates"] == [0.1, None, True, "x"]
    assert back["empty"] == [] and torch.equal(back["deep"]["a"][0][0], torch.zeros(2))
    with pytest.raises(ValueError, match="cannot hold rates/0, a set"):
        pack({"rates": [{1, 2}]}, {})


# --- checkpoints that do not fit -------------------------------------------------------------------------

def wider() -> Learner:
    learner = make_learner("rbm")
    learner.module.w = nn.Parameter(torch.zeros(6, 5).double())
    learner.optimizers = {"rbm": torch.optim.SGD(learner.module.parameters(), 0.05)}
    return learner


@pytest.mark.parametrize("change, message", [
    ({"resume": False}, "holds a run already.*pass resume=True"),
    ({"seed": 4}, "was written with seed=3, but now it is 4"),
    ({"settings": replace(SETTINGS["rbm"], batch_size=4)}, "was written with batch_size=8, but now it is 4"),
    ({"data": make_data("rbm")[:60]}, "was written with examples=67, but now it is 60"),
    ({"learner": wider()}, r"of other sizes: 'w' is \(6, 3\) torch.float64 there, \(6, 5\)"),
    ({"learner": linear_learner()}, "is of another model, PersistentRBM of Module, but GradientLearner of"),
])
def test_a_checkpoint_of_another_run_is_refused(change, message, tmp_path):
    toys.run("rbm", tmp_path)
    arguments = {"learner": make_learner("rbm"), "data": make_data("rbm"), "settings": SETTINGS["rbm"],
                 "device": "cpu", "seed": 3, "out": tmp_path, "resume": True} | change
    with pytest.raises(ValueError, match=message):
        train(**arguments)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    toys.run("rbm", tmp_path)
    newest = Checkpoints(tmp_path / "checkpoints").newest()
    newest.write_bytes(newest.read_bytes()[:-40])
    with pytest.raises(ValueError, match="step-00000024.safetensors is truncated or foreign"):
        toys.run("rbm", tmp_path, resume=True)
    newest.unlink()   # then the one before it serves
    learner, _ = toys.run("rbm", tmp_path, resume=True)
    assert_same_bits(tensors_of(learner), tensors_of(toys.run("rbm", None)[0]))
    newest.unlink()
    files.save_tensors(newest, learner.module.state_dict(), {"model": training.model_name(learner)})
    with pytest.raises(ValueError, match="holds weights but no state of a run"):
        toys.run("rbm", tmp_path, resume=True)


# --- what is not finite ----------------------------------------------------------------------------------

class Failing(GradientLearner):
    """Spoils one metric, or the parameter, at one step."""

    def __init__(self, at: int, metric: str | None, value: float) -> None:
        learner = linear_learner()
        super().__init__(learner.module, learner.loss, learner.optimizers["optimizer"])
        self.at, self.metric, self.value = at, metric, value

    def training_step(self, batch, context):
        metrics = dict(super().training_step(batch, context))
        metrics["size"] = self.module.weight.norm()
        if context.step == self.at and self.metric is not None:
            metrics[self.metric] = torch.full((), self.value)
        if context.step == self.at and self.metric is None:
            with torch.no_grad():
                self.module.weight[0, 0] = self.value
        return metrics


@pytest.mark.parametrize("metric, value", [("loss", math.nan), ("size", math.inf), ("loss", -math.inf)])
def test_nan_stops_with_the_step_the_metric_and_what_to_look_at(metric, value, tmp_path):
    settings = TrainingSettings(steps=40, batch_size=8, report_every=10, checkpoint_every=8)
    with pytest.raises(TrainingDiverged) as caught:
        train(Failing(21, metric, value), make_data("rbm"), settings, device="cpu", out=tmp_path)
    message = str(caught.value)
    assert caught.value.step == 21 and f"at step 21: the metric '{metric}' is {value}" in message
    assert "learning rate (optimizer 0.1)" in message and "step-00000016.safetensors" in message
    assert History.read(tmp_path / "history.csv").last("step") == 20
    mended = Failing(99, None, 0.0)
    resumed = train(mended, make_data("rbm"), settings, device="cpu", out=tmp_path, resume=True)
    assert resumed.last("step") == 40


def test_a_parameter_that_is_not_finite_stops_the_run_though_the_metrics_are_fine():
    settings = TrainingSettings(steps=40, batch_size=8, report_every=10)
    with pytest.raises(TrainingDiverged, match="at step 20: 'weight' holds nan or inf.*stands in weight"):
        train(Failing(20, None, math.inf), make_data("rbm"), settings, device="cpu")


def test_too_large_a_learning_rate_is_named():
    settings = TrainingSettings(steps=3000, batch_size=8, report_every=100)
    message = r"the metric 'loss' is inf.*learning rate \(optimizer 10\)"
    with pytest.raises(TrainingDiverged, match=message) as caught:
        train(linear_learner(rate=10.0), make_data("rbm"), settings, device="cpu")
    with pytest.raises(TrainingDiverged) as every:   # the step is exact: looking after each finds the same
        train(linear_learner(rate=10.0), make_data("rbm"), replace(settings, report_every=1), device="cpu")
    assert caught.value.step == every.value.step


def test_nan_in_an_evaluation_or_a_buffer_stops_the_run():
    learner = linear_learner()
    learner.evaluation = lambda module, data, generator: {"log_likelihood": math.nan}
    settings = TrainingSettings(steps=5, batch_size=8)
    with pytest.raises(TrainingDiverged, match="'evaluation_log_likelihood' is nan"):
        train(learner, make_data("rbm"), settings, device="cpu", evaluation_data=make_data("rbm"))
    sampler = make_learner("rbm")
    sampler.module.register_buffer("mask", torch.tensor([-math.inf, 0.0]))
    train(sampler, make_data("rbm"), settings, device="cpu")   # a mask may hold infinities
    sampler.module.register_buffer("mask", torch.tensor([math.nan, 0.0]))
    with pytest.raises(TrainingDiverged, match="'mask' holds nan"):
        train(sampler, make_data("rbm"), settings, device="cpu")


def test_the_loop_does_not_wait_for_the_device_in_each_step():
    class Waits(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.count += function.overloadpacket == torch.ops.aten._local_scalar_dense
            return function(*args, **(kwargs or {}))

    counts = []
    for steps in (100, 200):
        with Waits() as waits:
            train(linear_learner(), make_data("rbm"),
                  TrainingSettings(steps=steps, batch_size=8, report_every=100), device="cpu")
        counts.append(waits.count)
    assert counts[1] - counts[0] <= 2   # a hundred steps more, one report more


# --- what the reader chooses -----------------------------------------------------------------------------

def test_budget(monkeypatch):
    monkeypatch.delenv("BUDGET", raising=False)
    assert budget() == "book"
    monkeypatch.setenv("BUDGET", "smoke")
    assert choose(smoke=1, book=2, full=3) == 1
    monkeypatch.setenv("BUDGET", "large")
    with pytest.raises(ValueError, match="BUDGET is 'large', but only smoke, book and full"):
        choose(smoke=1, book=2, full=3)


def test_device():
    assert training.device("cpu") == torch.device("cpu")
    assert training.device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ValueError, match="There is no device 'tpu9000'"):
        training.device("tpu9000")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="'cuda' is not on this machine"):
            train(linear_learner(), make_data("rbm"), TrainingSettings(steps=1), device="cuda")


@pytest.mark.parametrize("fields, message", [
    ({}, "Give steps or epochs"), ({"steps": 2, "epochs": 2}, "Give steps or epochs"),
    ({"steps": 0}, "steps must be a whole number of at least 1, but 0"), ({"epochs": 1.5}, "epochs must be"),
    ({"steps": 1, "batch_size": True}, "batch_size must be"), ({"steps": 1, "keep": -1}, "keep must be"),
    ({"steps": 1, "precision": "half"}, "precision is 'half', but must be one of 'float32', 'bfloat16'"),
    ({"steps": 1, "compile": "fast"}, "compile is 'fast'"),
])
def test_settings_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**fields)


@pytest.mark.parametrize("data, message", [
    (torch.full((20, 6), math.nan).double(), "nan or inf in the data"),
    ({"x": torch.zeros(20, 6), "y": torch.full((20,), math.inf)}, "nan or inf in y"),
    ({"x": torch.zeros(20, 6), "y": torch.zeros(19)}, "one first dimension"),
    (torch.zeros(0, 6), "at least 1, but {'the data': 0} came"), ({}, "one first dimension"),
    ([1, 2, 3], "a tensor, a mapping of tensors, or None, but list came"),
    (torch.zeros(7, 6), "batch_size is 8, but there are only 7 examples"),
])
def test_data_that_do_not_fit_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        train(linear_learner(), data, TrainingSettings(epochs=1, batch_size=8), device="cpu")


def test_a_learner_that_breaks_the_protocol_is_told_how():
    one_step = TrainingSettings(steps=3)

    class Stranger:
        module = nn.Linear(1, 1)

    class Silent(Learner):
        module = nn.Module()

    class Changing(Silent):
        def training_step(self, batch, context):
            return {f"loss{context.step}": torch.zeros(())}

    class Vector(Silent):
        def training_step(self, batch, context):
            return {"loss": torch.zeros(3)}

    for learner, message in ((Stranger(), "Stranger is no learner: inherit"),
                             (Changing(), "the same ones in every step"),
                             (Vector(), r"'loss' must be a scalar tensor, but \(3,\) came")):
        with pytest.raises(ValueError, match=message):
            train(learner, None, one_step, device="cpu")
    with pytest.raises(NotImplementedError, match="Silent must define training_step"):
        train(Silent(), None, one_step, device="cpu")
    with pytest.raises(ValueError, match="A run without data has no epochs"):
        train(Changing(), None, TrainingSettings(epochs=1), device="cpu")


def test_bfloat16_trains_and_is_refused_where_it_would_do_nothing():
    settings = TrainingSettings(steps=30, batch_size=8, precision="bfloat16")
    kinds = []

    def loss(module, batch, generator):
        kinds.append(module(batch).dtype)
        return (module(batch) - batch).float().square().sum(1).mean()

    with seeded(0):
        module = nn.Linear(6, 6)
    learner = GradientLearner(module, loss, torch.optim.SGD(module.parameters(), 0.05))
    history = train(learner, make_data("rbm").float(), settings, device="cpu")
    assert set(kinds) == {torch.bfloat16} and module.weight.dtype == torch.float32
    assert history.last("loss") < 1.5
    with pytest.raises(ValueError, match="PersistentRBM never enters context.autocast"):
        train(make_learner("rbm"), make_data("rbm"), settings, device="cpu")


def test_compile_gives_the_same_numbers(monkeypatch):
    # without the C++ compiler's seconds: traced and differentiated as ever, then run by PyTorch itself
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    settings = TrainingSettings(epochs=2, batch_size=8, report_every=4)
    plain, compiled = linear_learner(), linear_learner()
    first = train(plain, make_data("rbm"), settings, device="cpu")
    monkeypatch.setattr(compiled, "compile",
                        lambda mode: setattr(compiled, "step_loss", torch.compile(compiled.loss)))
    second = train(compiled, make_data("rbm"), replace(settings, compile="default"), device="cpu")
    assert compiled.step_loss is not compiled.loss
    assert second.column("loss") == pytest.approx(first.column("loss"), rel=1e-12)


def test_compile_is_refused_in_a_sentence_where_it_cannot_work(monkeypatch):
    settings = TrainingSettings(steps=2, batch_size=8)
    with pytest.raises(ValueError, match="captures CUDA graphs, but the device is cpu"):
        train(linear_learner(), make_data("rbm"), replace(settings, compile="reduce-overhead"), device="cpu")
    with pytest.raises(ValueError, match="Module has no forward to compile"):
        make_learner("rbm").compile("default")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="needs a C\\+\\+ compiler on the CPU"):
        train(linear_learner(), make_data("rbm"), replace(settings, compile="default"), device="cpu")


# --- what is seen of a run -------------------------------------------------------------------------------

def test_history_is_a_plain_table(tmp_path):
    rows = [{"step": 1, "epoch": 1, "loss": 1 / 3},
            {"step": 2, "epoch": 1, "loss": -5e-324, "evaluation_loss": 1e300}]
    history = History(rows, seconds=1.5)
    assert history.names == ["step", "epoch", "loss", "evaluation_loss"] and len(history) == 2
    assert math.isnan(history.column("evaluation_loss")[0]) and history.column("loss") == [1 / 3, -5e-324]
    assert history.series("evaluation_loss") == ([2], [1e300]) and history.last("loss") == -5e-324
    for name in ("history.csv", "history.json"):
        history.write(tmp_path / name)
        assert History.read(tmp_path / name).rows == rows
    assert "<td>0.333333</td>" in history._repr_html_() and "evaluation_loss 1e+300" in repr(history)
    assert repr(History()) == "History of 0 rows"
    with pytest.raises(ValueError, match="no column 'elbo', only step, epoch, loss"):
        history.column("elbo")
    (tmp_path / "history.csv").write_text("step,loss\n1,2,3,4\n")
    with pytest.raises(ValueError, match="is not the table of a history"):
        History.read(tmp_path / "history.csv")


def test_the_progress_bar_is_quiet_unless_somebody_looks(capsys, monkeypatch):
    settings = TrainingSettings(steps=20, batch_size=8, report_every=5)
    train(linear_learner(), make_data("rbm"), settings, device="cpu")
    assert capsys.readouterr() == ("", "")
    train(linear_learner(), make_data("rbm"), settings, device="cpu", progress=True)
    assert "20/20" in (shown := capsys.readouterr().out) and "loss=" in shown
    monkeypatch.delenv("NEMLIB_QUIET", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    train(linear_learner(), make_data("rbm"), settings, device="cpu")
    assert "loss=" in capsys.readouterr().out
    monkeypatch.setenv("NEMLIB_QUIET", "1")
    train(linear_learner(), make_data("rbm"), settings, device="cpu")
    assert capsys.readouterr().out == ""


def test_tensorboard_writes_curves_or_says_what_is_missing(tmp_path, monkeypatch):
    settings = TrainingSettings(steps=4, batch_size=8)
    with pytest.raises(ValueError, match="needs a folder"):
        train(linear_learner(), make_data("rbm"), settings, device="cpu", tensorboard=True)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match="TensorBoard is not installed"):
        train(linear_learner(), make_data("rbm"), settings, device="cpu", tensorboard=True, out=tmp_path)
    monkeypatch.undo()
    pytest.importorskip("tensorboard")
    train(linear_learner(), make_data("rbm"), settings, device="cpu", tensorboard=True, out=tmp_path / "run")
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


# --- several processes -----------------------------------------------------------------------------------

def test_two_processes_equal_one_on_the_same_global_batch(tmp_path):
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
              "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
              "--main_process_port", "0"]
    command = [*launch, WORKER, "parallel", tmp_path]   # on a machine without GPUs the processes use the CPU
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr[-3000:]
    names = ("gan", "rbm", "gan-mutant", "rbm-mutant", "whole", "resumed")
    results = {(name, rank): files.load_tensors(tmp_path / f"{name}-{rank}.safetensors")
               for name, rank in itertools.product(names, (0, 1))}
    for kind in ("gan", "rbm"):
        alone = make_learner(kind, common_noise=True)
        history = train(alone, make_data(kind), SETTINGS[kind], device="cpu", seed=3,
                        out=tmp_path / f"{kind}-alone")
        for rank in (0, 1):
            tensors, metadata = results[kind, rank]
            assert difference(tensors, alone.module.state_dict()) < 1e-6
            for ours, theirs in zip(history.rows, metadata["rows"], strict=True):
                assert theirs == pytest.approx(ours, abs=1e-6)
            assert (metadata["watched"] > 0) == (rank == 0)   # only process 0 shows and writes
        # the mutant, whose gradients are not averaged, drifts away
        assert difference(results[f"{kind}-mutant", 0][0], alone.module.state_dict()) > 1e-6
    for rank in (0, 1):   # resumed with two processes, each with noise of its own: the same bits
        assert_same_bits(results["whole", rank][0], results["resumed", rank][0])
        assert results["whole", rank][1]["rows"] == results["resumed", rank][1]["rows"]


def difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    return max((first[name].double() - second[name].double()).abs().max().item() for name in first)


class TwoProcesses:
    """Stands in for accelerate where only the arithmetic of shares matters."""

    num_processes, process_index, device = 2, 1, torch.device("cpu")

    def reduce(self, tensor, reduction):
        return tensor

    def gather(self, tensor):
        return torch.cat([torch.zeros_like(tensor), tensor])


def test_a_batch_that_cannot_be_shared_evenly_is_refused():
    with pytest.raises(ValueError, match="A batch of 7 cannot be split evenly among 2 processes"):
        train(linear_learner(), make_data("rbm"), TrainingSettings(steps=1, batch_size=7),
              accelerator=TwoProcesses())


def test_shares_and_wholes():
    context = training.make_context(None, 0, "cpu", TwoProcesses())
    whole = torch.arange(6)
    assert context.local(whole).tolist() == [3, 4, 5]
    assert context.gather(context.local(whole)).tolist() == [0, 0, 0, 3, 4, 5]
    other = training.make_context(None, 0, "cpu", None)
    draw = lambda generator: torch.rand(3, generator=generator)
    assert not torch.equal(draw(context.generator), draw(other.generator))   # each process has its own
    assert torch.equal(draw(context.common_generator), draw(other.common_generator))
