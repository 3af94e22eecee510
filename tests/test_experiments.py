"""Recorded runs: the command line, what a run leaves, what chapters read, the page of published numbers."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import small_book
import torch
from torch import nn

import nemlib
from nemlib import data, files, gibbs, training
from nemlib.experiments import catalogue, cli, provenance, published, results, runs, watch
from nemlib.experiments import gibbs as chapter_1
from nemlib.experiments.experiment import Built, Experiment
from nemlib.experiments.results import Metric, ResultError
from nemlib.history import History

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "results"
TEMPERATURES = (1.0, 2.0, chapter_1.CRITICAL_TEMPERATURE, 3.0)
RECORDED = [(name, preset) for name in catalogue.experiments() for preset in ("book", "full")
            if any((SHIPPED / name).glob(f"{preset}-seed*.json"))]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory of its own with an empty folder of results."""
    kept = tmp_path / "results"
    kept.mkdir()
    shutil.copy(SHIPPED / "published.toml", kept)
    monkeypatch.setenv("NEMLIB_RESULTS", str(kept))
    monkeypatch.setenv("NEMLIB_QUIET", "1")
    monkeypatch.delenv("NEMLIB_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)


def run(capsys, command: str) -> tuple[int, str, str]:
    """Exit code, output and errors of one command line."""
    try:
        code = cli.main(command.split())
    except SystemExit as end:   # argparse ends the program itself
        code = end.code
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys, command: str) -> str:
    """The one sentence with which a command is refused."""
    code, _, err = run(capsys, command)
    assert code == 2 and err.startswith("nemlib: ") and err.count("\n") == 1, (code, err)
    return err


# --- a run from the beginning to results/ ----------------------------------------------------------------


def test_a_finished_run_leaves_its_metrics_weights_and_provenance(place, capsys):
    code, out, err = run(capsys, "train ising-lattice --preset smoke --seed 3 --device cpu --record")
    folder, kept = place / "runs/ising-lattice/smoke-seed3", place / "results/ising-lattice/smoke-seed3.json"
    assert code == 0 and not err and "energy_T2.00" in out and str(kept) in out
    found = json.loads(kept.read_text())
    assert found["settings"] == catalogue.find("ising-lattice").settings("smoke")
    assert found["command"] == "nemlib train ising-lattice --preset smoke --seed 3"
    assert found["seed"] == 3 and found["wall_time_s"] > 0 and found["date"].endswith("Z")
    assert {"cpu", "cores", "threads", "memory_gib", "device"} <= set(found["hardware"])
    assert {"python", "torch", "numpy", "nemlib"} == set(found["versions"])
    assert set(found["commit"]) == {"hash", "clean"}
    for metric in found["metrics"].values():
        assert math.isfinite(metric["value"]) and metric["standard_error"] > 0
        assert "8 × 8" in metric["protocol"]
    assert str(place) not in kept.read_text(), "a recorded result must not name a machine's folders"
    assert kept.with_suffix(".safetensors").stat().st_size < 10_000
    left = {path.name for path in folder.iterdir()}
    assert {"picture.png", "watch.html", "history.csv", "run.json"} <= left
    weights = results.load("ising-lattice", "smoke").weights()
    assert weights["spins"].shape == (24, 8, 8) and set(weights["spins"].unique().tolist()) <= {-1, 1}


def test_evaluate_sample_watch_and_list_show_a_run(place, capsys):
    run(capsys, "train ising-prior --preset smoke --device cpu --record")
    name = "runs/ising-prior/smoke-seed0"
    for which in ("ising-prior/smoke-seed0", "results/ising-prior/smoke-seed0.json"):
        code, out, _ = run(capsys, f"evaluate {which} --device cpu")
        assert code == 0 and "gibbs_error" in out
        assert "when the run ended" not in out, "the numbers must be the same"
    code, out, _ = run(capsys, f"sample {name} --count 5")
    assert code == 0 and (place / name / "samples.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = run(capsys, f"watch {name} --once")
    assert code == 0 and "finished" in out and "(100 %)" in out and "coupling" in out
    assert run(capsys, f"watch {name}")[0] == 0   # a finished run is shown, and that is the end
    code, out, _ = run(capsys, "list")
    assert code == 0 and "recorded: smoke" in out and "ising-lattice" in out
    code, out, _ = run(capsys, "list ising-prior")
    assert code == 0 and "optimisation.learning_rate" in out


def test_a_run_is_recorded_unless_another_stands_there(place, capsys, monkeypatch):
    tiny(monkeypatch)
    kept = place / "results/tiny/book-seed0.json"
    run(capsys, "train tiny --preset smoke")
    assert not kept.parent.exists(), "a smoke run is no number to keep"
    run(capsys, "train tiny --preset book --no-record")
    assert not kept.exists()
    run(capsys, "record runs/tiny/book-seed0")
    first = kept.read_text()
    time.sleep(1.1)   # the date tells to the second
    code, out, _ = run(capsys, "train tiny --preset book --again")
    assert code == 0 and "keeps the run that it had" in out and kept.read_text() == first
    run(capsys, "train tiny --preset book --again --record")
    assert kept.read_text() != first
    assert results.load("tiny", "book").metrics["distance"] < 0.5


def test_several_seeds_make_a_mean_and_a_spread(place, capsys, monkeypatch):
    tiny(monkeypatch)
    assert run(capsys, "train tiny --preset book --seed 0,1,4")[0] == 0
    found = results.load("tiny", "book")
    values = [one.metrics["distance"].value for one in found.runs]
    assert found.seeds == (0, 1, 4) and found.command == "nemlib train tiny --preset book --seed 0,1,4"
    assert found.metrics["distance"] == pytest.approx(sum(values) / 3)
    spread = math.sqrt(sum((value - sum(values) / 3) ** 2 for value in values) / 2)
    assert found.spread["distance"] == pytest.approx(spread) and spread > 0
    assert found.standard_error["distance"] == pytest.approx(spread / math.sqrt(3))
    assert not torch.equal(found.weights(seed=0)["weight"], found.weights(seed=4)["weight"])
    with pytest.raises(ResultError, match="nemlib train tiny --preset book --seed 2"):
        found.weights(seed=2)


def test_monte_carlo_errors_of_independent_runs_are_pooled(place):
    one = shipped_like(place, "full", 0, Metric(1.0, "p", standard_error=0.3))
    two = shipped_like(place, "full", 1, Metric(2.0, "p", standard_error=0.4))
    found = results.load("ising-prior")
    assert found.runs == (one, two)
    assert found.standard_error == {"m": pytest.approx(0.25)} and found.metrics == {"m": 1.5}


# --- interrupted and resumed -----------------------------------------------------------------------------


def test_an_interrupted_run_says_how_to_go_on_and_ends_as_an_unbroken_one(place, capsys, monkeypatch):
    run(capsys, "train ising-lattice --preset smoke --out whole --device cpu")
    show = watch.Watcher.__call__

    def interrupted(self, learner, history, context):
        show(self, learner, history, context)   # drawing must not disturb the run's random numbers
        if context.step >= 100:
            raise KeyboardInterrupt

    monkeypatch.setattr(watch.Watcher, "__call__", interrupted)
    code, _, err = run(capsys, "train ising-lattice --preset smoke --out broken --device cpu")
    assert code == 130 and "nemlib train ising-lattice --preset smoke --seed 0 --out broken --resume" in err
    assert "unfinished" in refused(capsys, "train ising-lattice --preset smoke --out broken")
    assert "only finished runs" in refused(capsys, "record broken")
    code, out, _ = run(capsys, "evaluate broken --device cpu")
    assert code == 0 and "has not finished" in out
    monkeypatch.setattr(watch.Watcher, "__call__", show)
    assert run(capsys, "train ising-lattice --preset smoke --out broken --resume --device cpu")[0] == 0
    whole, broken = (results.Run.read(place / name / "result.json") for name in ("whole", "broken"))
    assert whole.metrics == broken.metrics and len(broken.earlier_sessions) == 1
    for name, tensor in whole.load_weights().items():
        assert torch.equal(tensor, broken.load_weights()[name])


def test_ctrl_c_ends_a_process_without_a_traceback(place):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "nemlib.experiments.cli", "train", "ising-lattice", "--preset", "full",
         "--out", "run", "--device", "cpu"], cwd=place, env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c)
    try:
        wait_for(place / "run" / "history.csv")
        assert "being trained by process" in sentence_of(runs.check_folder, request_for(place), False, False)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130 and "--resume" in err and "Traceback" not in err
    assert runs.read(place / "run")["state"] == "interrupted"


def hear_ctrl_c() -> None:
    """A shell lets its background jobs ignore Ctrl-C, and children inherit that: the tests may be such a job."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def request_for(place: Path) -> runs.Request:
    return runs.Request(catalogue.find("ising-lattice"), "full", 0, "cpu", place / "run")


def wait_for(path: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.05)


def sentence_of(function, *arguments) -> str:
    with pytest.raises((ValueError, LookupError)) as caught:
        function(*arguments)
    return str(caught.value)


def test_a_killed_run_shows_as_broken_off_and_may_go_on(place, capsys):
    run(capsys, "train ising-lattice --preset smoke --device cpu --out run")
    found = files.read_json("run/run.json")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    files.write_json("run/run.json", found | {"state": "running", "process": gone.pid})
    assert "broken off" in run(capsys, "watch run --once")[1]
    assert run(capsys, "train ising-lattice --preset smoke --device cpu --out run --resume")[0] == 0
    assert runs.read(Path("run"))["state"] == "finished"


# --- what is refused, each in one sentence ---------------------------------------------------------------


@pytest.mark.parametrize(("command", "says"), [
    ("train ising-latice", "the nearest is 'ising-lattice'"),
    ("train zzz", "the nearest is"),
    ("list ising-piror", "the nearest is 'ising-prior'"),
    ("train", "Name one experiment"),
    ("train ising-prior --all", "Name one experiment"),
    ("train ising-prior --preset long", "smoke"),
    ("train ising-prior --seed 1,1", "each seed once"),
    ("train ising-prior --seed -1", "--seed"),
    ("train ising-prior --resume --again", "give one of them"),
    ("train ising-prior --seed 0,1 --out x", "2 runs are asked for"),
    ("train ising-prior --preset smoke --device quantum", "quantum"),
    ("train ising-prior --preset smoke --out occupied", "holds no run of nemlib"),
    ("watch nowhere --once", "no run in nowhere"),
    ("evaluate nowhere", "no run 'nowhere'"),
    ("evaluate occupied/broken.json", "is not the result of a nemlib run"),
    ("sample nowhere", "no run 'nowhere'"),
    ("record occupied", "no run in occupied"),
    ("dance", "invalid choice"),
    ("", "COMMAND"),
])
def test_every_mistake_gets_one_sentence_and_exit_code_2(place, capsys, command, says):
    (place / "occupied").mkdir()
    (place / "occupied" / "broken.json").write_text('{"experiment": "ising-prior"')
    assert says in refused(capsys, command)
    assert sorted(path.name for path in (place / "occupied").iterdir()) == ["broken.json"]


def test_a_folder_of_another_run_is_refused(place, capsys, monkeypatch):
    tiny(monkeypatch)
    run(capsys, "train tiny --preset smoke --out run")
    assert "this run, finished" in refused(capsys, "train tiny --preset smoke --out run")
    date = results.Run.read(place / "run/result.json").date
    assert run(capsys, "train tiny --preset smoke --out run --resume")[0] == 0   # through already
    assert results.Run.read(place / "run/result.json").date == date
    assert "holds a run of tiny" in refused(capsys, "train ising-prior --preset smoke --out run")
    assert "holds a run of tiny" in refused(capsys, "train tiny --preset book --out run --resume")
    assert "seed 0" in refused(capsys, "train tiny --preset smoke --seed 1 --out run --again")
    tiny(monkeypatch, rate=0.2)
    assert "optimisation.rate 0.1, now 0.2" in refused(capsys, "train tiny --preset smoke --out run --resume")
    assert "train it again" in refused(capsys, "evaluate run")
    (place / "run" / "notes.txt").write_text("mine")
    assert run(capsys, "train tiny --preset smoke --out run --again")[0] == 0
    assert (place / "run" / "notes.txt").read_text() == "mine"


def test_weights_of_another_model_are_refused(place, capsys, monkeypatch):
    tiny(monkeypatch)
    for seed in (0, 1):
        run(capsys, f"train tiny --preset book --seed {seed}")
    shutil.copy("results/tiny/book-seed1.safetensors", "results/tiny/book-seed0.safetensors")
    with pytest.raises(ResultError, match="another run"):
        results.load("tiny", "book").weights(seed=0)
    recorded = "results/tiny/book-seed0.json"
    assert "another run" in refused(capsys, f"evaluate {recorded}")
    label = results.load("tiny", "book").runs[0].label
    files.save_tensors("results/tiny/book-seed0.safetensors", {"weight": torch.zeros(2, 3)}, label)
    assert "do not fit" in refused(capsys, f"evaluate {recorded}")
    Path("results/tiny/book-seed0.safetensors").write_bytes(b"half")
    assert "truncated" in refused(capsys, f"evaluate {recorded}")


def test_a_diverged_run_and_an_unforeseen_error_are_sentences_too(place, capsys, monkeypatch):
    tiny(monkeypatch, rate=1e38)
    assert "step" in refused(capsys, "train tiny --preset smoke")
    assert runs.read(Path("runs/tiny/smoke-seed0"))["state"] == "failed"
    tiny(monkeypatch, broken=True)
    assert "NEMLIB_DEBUG=1" in refused(capsys, "train tiny --preset smoke --again")


# --- another chapter's experiment: one file, one line ----------------------------------------------------


@dataclass(frozen=True)
class Optimisation:
    rate: float = 0.1
    steps: int = 20


@dataclass(frozen=True)
class TinySettings:
    optimisation: Optimisation = Optimisation()


def tiny(monkeypatch, rate: float = 0.1, broken: bool = False) -> Experiment:
    """A family with one experiment, a linear map that learns to be zero, put beside the others."""

    def build(settings, seed):
        module = nn.Linear(2, 1, bias=False)
        learner = training.GradientLearner(
            module, lambda module, batch, generator: module(batch).square().mean(),
            torch.optim.SGD(module.parameters(), settings.optimisation.rate))
        inputs = torch.randn(8, 2, generator=torch.Generator().manual_seed(seed))
        return Built(learner, inputs, None, training.TrainingSettings(steps=settings.optimisation.steps))

    def measure(built, settings, device, seed):
        if broken:
            raise TypeError("nobody foresaw this")
        return {"distance": Metric(built.learner.module.weight.abs().sum().item(), "sum of absolute weights")}

    settings = TinySettings(Optimisation(rate=rate))
    presets = dict.fromkeys(("smoke", "book", "full"), settings)
    experiment = Experiment("tiny", "a linear map", presets, build, measure,
                            lambda built, settings, count, generator: torch.zeros(count, 2, 3))

    class Family:
        EXPERIMENTS = (experiment,)

    monkeypatch.setattr(catalogue, "FAMILIES", (chapter_1, Family))
    return experiment


def test_every_experiment_has_three_readable_presets():
    for experiment in catalogue.experiments().values():
        assert tuple(experiment.presets) == ("smoke", "book", "full")
        for preset in experiment.presets:
            json.dumps(experiment.settings(preset))
            with pytest.raises(AttributeError):   # frozen
                experiment.presets[preset].anything = 1


# --- reading results -------------------------------------------------------------------------------------


def shipped_like(place: Path, preset: str, seed: int, metric: Metric, **changes) -> results.Run:
    """Write a result by hand, as `nemlib record` would leave it."""
    one = results.Run(
        experiment="ising-prior", preset=preset, seed=seed, model="x", settings={"a": {"b": 1}},
        metrics={"m": metric}, command="c", wall_time_s=1.0, hardware={"cpu": "x", "cores": 1}, versions={},
        commit={"hash": "0" * 40, "clean": True}, date="2026-01-01T00:00:00Z")
    one = replace(one, **changes)
    files.write_json(place / "results" / one.experiment / f"{one.name}.json", one.to_json())
    return one


def test_a_missing_result_gives_the_command_that_makes_it(place):
    assert "`nemlib train ising-prior --preset full --seed 0`" in sentence_of(results.load, "ising-prior")
    shipped_like(place, "book", 0, Metric(1.0, "p"))
    sentence = sentence_of(results.load, "ising-prior")
    assert "with preset book, not with full" in sentence and "nemlib train" in sentence
    assert "did you mean ising-prior" in sentence_of(results.load, "ising-piror", "book")
    assert "no preset" in sentence_of(results.load, "ising-prior", "long")


def test_results_that_do_not_belong_together_are_refused(place):
    shipped_like(place, "full", 0, Metric(1.0, "p"))
    shipped_like(place, "full", 1, Metric(2.0, "p"), settings={"a": {"b": 2}})
    assert "a.b" in sentence_of(results.load, "ising-prior")
    (place / "results/ising-prior/full-seed1.json").write_text('{"half')
    assert "is not the result of a nemlib run" in sentence_of(results.load, "ising-prior")
    shipped_like(place, "full", 1, Metric(2.0, "p"))
    assert results.load("ising-prior").spread["m"] == pytest.approx(math.sqrt(0.5))
    other = files.read_json(place / "results/ising-prior/full-seed1.json") | {"preset": "book"}
    files.write_json(place / "results/ising-prior/full-seed1.json", other)
    assert "wrong place" in sentence_of(results.load, "ising-prior")


def test_a_metric_must_be_a_number():
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            Metric(value, "p")
    with pytest.raises(ValueError, match="better"):
        Metric(1.0, "p", better="up")


def test_results_are_found_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.delenv("NEMLIB_RESULTS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert results.folder() == SHIPPED
    # nemlib installed elsewhere, from a clone that pip remembers
    clone, elsewhere = tmp_path / "clone", tmp_path / "site-packages" / "nemlib"
    for folder in (clone / "nemlib", clone / "results", clone / "book", elsewhere):
        folder.mkdir(parents=True)
    (clone / "results" / "published.toml").touch()
    monkeypatch.setattr(nemlib, "__file__", str(elsewhere / "__init__.py"))

    class Distribution:
        def read_text(self, name):
            return json.dumps({"url": clone.as_uri()})

    monkeypatch.setattr(provenance.metadata, "distribution", lambda name: Distribution())
    assert results.folder() == clone / "results"
    # installed from nobody knows where, but working inside a clone; and nowhere at all
    monkeypatch.setattr(Distribution, "read_text", lambda self, name: None)
    assert "NEMLIB_RESULTS" in sentence_of(results.folder)
    monkeypatch.chdir(clone / "book")
    assert results.folder() == clone / "results"
    monkeypatch.setenv("NEMLIB_RESULTS", str(tmp_path / "missing"))
    assert "which is no folder" in sentence_of(results.folder)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_recorded_commit_says_whether_the_code_was_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "source_tree", lambda: tmp_path)
    assert provenance.commit() == {"hash": None, "clean": None}

    def git(*arguments):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=tmp_path,
                       check=True, capture_output=True)

    git("init")
    (tmp_path / "nemlib").mkdir()
    (tmp_path / "nemlib" / "rbm.py").write_text("1\n")
    assert provenance.commit()["hash"] is None
    git("add", ".")
    git("commit", "-m", "x")
    first = provenance.commit()
    assert len(first["hash"]) == 40 and first["clean"] is True
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "new.json").write_text("{}")   # the run recorded before this one
    assert provenance.commit() == first
    (tmp_path / "nemlib" / "rbm.py").write_text("2\n")
    assert provenance.commit() == first | {"clean": False}
    assert results.describe_commit(provenance.commit()) == first["hash"][:10] + ", with local changes"
    assert results.describe_commit({"hash": None, "clean": None}) == "not committed"


# --- watching --------------------------------------------------------------------------------------------


def test_a_sparkline_shows_the_course():
    assert watch.sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert watch.sparkline([1.0, 1.0], 8) == "▄▄"
    assert watch.sparkline([], 8) == ""
    assert len(watch.sparkline(list(range(1000)), 30)) == 30


def test_drawing_uses_random_numbers_of_its_own():
    class Restless(training.Learner):
        module = nn.Linear(2, 1)

        def picture(self, context):
            assert not self.module.training
            return torch.rand(3, 4, 5, generator=context.generator) + torch.rand(3, 4, 5)

    context = training.make_context(None, 0, "cpu", None)
    learner, own, common = Restless(), context.generator.get_state(), torch.get_rng_state()
    learner.module.train()
    assert watch.picture_of(learner, context).shape == (3, 4, 5) and learner.module.training
    assert torch.equal(own, context.generator.get_state()) and torch.equal(common, torch.get_rng_state())


def test_a_picture_is_drawn_of_whatever_there_is(tmp_path):
    history = History([{"step": step, "epoch": 1, "loss": 1 / step} for step in (1, 2, 3)])
    for number, (images, rows) in enumerate([(torch.rand(3, 4, 5), history), (None, history),
                                             (torch.rand(1, 4, 5), History()), (None, History())]):
        watch.draw(tmp_path / f"{number}.png", images, rows)
        assert (tmp_path / f"{number}.png").read_bytes().startswith(b"\x89PNG")


# --- several processes -----------------------------------------------------------------------------------


def test_two_processes_leave_the_result_of_one(place, capsys):
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
              "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
              "--main_process_port", "0", "-m", "nemlib.experiments.cli",
              "train", "ising-prior", "--preset", "smoke", "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    finished = subprocess.run([*launch, "--out", "two"], cwd=place, capture_output=True, text=True,
                              timeout=120, env=environment)
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert finished.stdout.count("gibbs_error  ") == 1, "only the first process speaks"
    run(capsys, "train ising-prior --preset smoke --device cpu --out one")
    one, two = (results.Run.read(place / name / "result.json") for name in ("one", "two"))
    assert two.hardware["processes"] == 2 and one.hardware["processes"] == 1
    for name, tensor in one.load_weights().items():
        torch.testing.assert_close(two.load_weights()[name], tensor, atol=1e-6, rtol=0)


# --- exact values ----------------------------------------------------------------------------------------


def enumerated_energy(temperature: float, height: int, width: int) -> float:
    """Energy per spin of the torus from all 2^(height·width) states, each pair of neighbours once."""
    spins = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=height * width)), dtype=torch.float64)
    grid = spins.reshape(-1, height, width)
    energy = -(grid * grid.roll(1, 1) + grid * grid.roll(1, 2)).sum((1, 2))
    return float((torch.softmax(-energy / temperature, 0) * energy).sum() / (height * width))


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("height", "width"), [(3, 4), (4, 3), (3, 5)])
def test_kaufmans_energy_is_the_enumerated_one(temperature, height, width):
    exact = enumerated_energy(temperature, height, width)
    assert chapter_1.kaufman_energy(temperature, height, width) == pytest.approx(exact, abs=1e-11)


def test_kaufmans_energy_needs_its_change_of_sign():
    """The mutant takes the lowest exponent without its sign: caught above the critical temperature."""
    source = (ROOT / "nemlib/experiments/gibbs.py").read_text(encoding="utf-8")
    mutant = source.replace("lowest = (2 * coupling + torch.log(torch.tanh(coupling)))",
                            "lowest = (2 * coupling + torch.log(torch.tanh(coupling))).abs()")
    assert mutant != source
    module = {"__name__": "nemlib.experiments.mutant"}
    sys.modules["nemlib.experiments.mutant"] = chapter_1   # dataclasses look their module up
    try:
        exec(compile(mutant, "mutant", "exec"), module)
    finally:
        del sys.modules["nemlib.experiments.mutant"]
    assert abs(module["kaufman_energy"](3.0, 3, 4) - enumerated_energy(3.0, 3, 4)) > 1e-4


def test_a_large_torus_has_onsagers_energy_away_from_the_critical_temperature():
    for temperature in (1.5, 2.0, 3.0):
        exact = chapter_1.onsager_energy(temperature)
        assert chapter_1.kaufman_energy(temperature, 64, 64) == pytest.approx(exact, abs=1e-9)
    critical = chapter_1.CRITICAL_TEMPERATURE
    assert chapter_1.onsager_energy(critical) == pytest.approx(-math.sqrt(2), abs=1e-12)
    gaps = [chapter_1.kaufman_energy(critical, side, side) + math.sqrt(2) for side in (16, 32, 64)]
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.02) and gaps[1] / gaps[2] == pytest.approx(2, rel=0.02)
    with pytest.raises(ValueError, match="at least 3"):
        chapter_1.kaufman_energy(2.0, 2, 4)


def test_magnetisation_is_compared_only_where_the_lattice_is_as_good_as_infinite():
    deep = chapter_1.magnetisation_deep_in_order
    assert deep(2.0, 64) == chapter_1.yang_magnetisation(2.0) == pytest.approx(0.9113, abs=1e-4)
    critical = chapter_1.CRITICAL_TEMPERATURE
    assert deep(2.0, 8) is deep(2.2, 64) is deep(critical, 64) is deep(3.0, 64) is None
    assert chapter_1.correlation_length(critical) == math.inf
    told = {chapter_1.explain_magnetisation(temperature, 64) for temperature in (2.0, 2.2, critical, 3.0)}
    assert len(told) == 4
    with pytest.raises(ValueError, match="critical"):
        chapter_1.correlation_length(3.0)


# Runs of an hour, or of fourteen networks at once, on one machine: one seed, and their tables say so.
ONE_SEED = {("shapes-published", "full"), ("shapes-ours", "full"), ("shapes-wide", "full"),
            ("shapes-ablations", "full"), ("shapes-nem", "book"), ("flying-shapes", "book"),
            ("flying-mnist", "book"), ("rbm-mnist", "full"), ("rbm-mnist-all", "full"), ("rbm-cd3", "book"),
            ("rbm-cd25", "book"), ("autoencoder-mnist", "book"), ("autoencoder-2", "book"), ("autoencoder-8", "book"),
            ("autoencoder-30", "full"), ("vae-plane", "book"), ("vae-published", "full"),
            ("iwae-published", "full"), ("vae-conv", "full"), ("made-ladder", "book"), ("made-masks", "book"),
            ("made-pixels", "book"), ("made-fixed-1", "full"), ("made-fixed-2", "full"), ("digit-features", "full"),
            ("gan-mnist", "full"), ("gan-mnist-labels", "book"), ("gan-stacked", "full"), ("gan-grid", "book"),
            ("vae-gmm-neighbours", "full")}

# --- what is shipped -------------------------------------------------------------------------------------


def test_both_experiments_of_chapter_1_are_shipped():
    assert {("ising-lattice", "full"), ("ising-prior", "full")} <= set(RECORDED)


@pytest.mark.parametrize(("name", "preset"), RECORDED)
def test_shipped_results_are_complete_and_of_the_present_presets(name, preset):
    found = results.load(name, preset)
    assert found.settings == catalogue.find(name).settings(preset), f"run `{found.command} --again --record`"
    assert len(found.runs) >= (1 if (name, preset) in ONE_SEED else 3) and found.wall_time_s > 0
    sizes = [path.stat().st_size for path in (SHIPPED / name).glob("*.safetensors")]
    assert sum(sizes) < 4_000_000, "weights stay small"
    for one in found.runs:
        assert one.load_weights() and one.model.startswith("nemlib.")
        for metric in one.metrics.values():
            assert metric.protocol


def test_the_shipped_lattices_agree_with_the_exact_energies():
    """Every z of the page is below 4, and the final lattices themselves have the recorded energies."""
    rows = [row for preset in ("full", "book") for row in published.table("ising-lattice", preset).rows]
    deviations = [row.deviation for row in rows if row.deviation is not None]
    assert len(deviations) >= 12 and max(map(abs, deviations)) < 4
    found = results.load("ising-lattice")
    settings = found.settings["lattice"]
    for temperature in settings["temperatures"]:
        key, exact = f"magnetisation_T{temperature:.2f}", chapter_1.magnetisation_deep_in_order(temperature, 64)
        assert exact is None or abs(found.metrics[key] - exact) < 4 * found.standard_error[key]
    learner = gibbs.IsingLattice(settings["temperatures"], settings["height"], settings["width"],
                                 found.settings["sampling"]["chains"], found.settings["sampling"]["burn_in"])
    for one in found.runs:
        learner.module.load_state_dict(one.load_weights())
        for key, chains in learner.by_temperature().items():   # recomputed from the shipped tensors
            assert float(chains.double().mean()) == pytest.approx(one.metrics[key].value, abs=1e-12)
    energy = -learner.module.agreement(learner.module.spins) / learner.module.spins[0].numel()
    for temperature, last in zip(settings["temperatures"], energy.reshape(len(settings["temperatures"]), -1)):
        error = float(last.std()) / math.sqrt(len(last))
        assert abs(float(last.mean()) - found.metrics[f"energy_T{temperature:.2f}"]) < 6 * error + 1e-3


def wrong_share(weights: dict[str, torch.Tensor], clean: torch.Tensor, settings: dict) -> torch.Tensor:
    """Wrong pixels in per cent after cleaning, image by image, with noise of its own."""
    prior = gibbs.Ising(*clean.shape[1:]).requires_grad_(False)
    prior.load_state_dict(weights)
    random, flip = torch.Generator().manual_seed(99), settings["flip_probability"]
    noisy = gibbs.add_noise(clean, flip, random)
    marginal = gibbs.denoise(prior, noisy, flip, settings["sweeps"], settings["burn_in"], random)
    return 100 * ((marginal > 0.5) != (clean > 0)).double().mean((1, 2))


def test_a_shipped_metric_is_measured_again_from_the_shipped_weights():
    """Cleaning 500 test digits gives the recorded error within its Monte Carlo error; other weights don't."""
    found = results.load("ising-prior")
    settings = found.settings
    spins = chapter_1.digit_spins("test", 10_000, settings["digits"]["binarization_seed"])
    chosen = spins[torch.randperm(len(spins), generator=torch.Generator().manual_seed(5))[:500]]
    weights, recorded = found.weights(), found.metrics["gibbs_error"]
    again = wrong_share(weights, chosen, settings["denoising"])
    error = float(again.std()) / math.sqrt(len(again))
    assert abs(float(again.mean()) - recorded) < 4 * error
    mutant = wrong_share(weights | {"coupling": weights["coupling"] / 2}, chosen, settings["denoising"])
    assert abs(float(mutant.mean()) - recorded) > 4 * error
    prior = gibbs.Ising(28, 28).requires_grad_(False)
    prior.load_state_dict(weights)
    likelihood = prior.pseudo_log_likelihood(spins).double().mean().item()   # no noise in it
    assert likelihood == pytest.approx(found.runs[0].metrics["pseudo_log_likelihood"].value, abs=1e-3)


# --- published numbers -----------------------------------------------------------------------------------


def test_every_table_stands_on_recorded_runs_and_known_sources():
    keys = (ROOT / "book/references.bib").read_text(encoding="utf-8")
    for table in published.tables():
        assert table.result is not None, f"{table.experiment} ({table.preset}) is not recorded"
        for row in table.rows:
            assert row.ours is not None and row.protocol
            assert row.citation is None or f"{{{row.citation}," in keys, row.citation
            assert (row.published is None) == (row.citation is None)
    shown = {(table.experiment, table.preset) for table in published.tables()}
    assert set(RECORDED) <= shown | {("ising-prior", "book")}


def test_onsagers_value_stands_beside_ours():
    table = published.table("ising-lattice", "full")
    rows = {(row.group.split()[0], row.quantity): row for row in table.rows}
    critical = rows["Energy", "T = 2.27"]
    assert critical.published == pytest.approx(-math.sqrt(2)) and critical.citation == "onsager1944crystal"
    assert critical.exact < critical.published and abs(critical.ours - critical.exact) < 0.02
    assert rows["Mean", "T = 3.00"].published == 0 < rows["Mean", "T = 3.00"].ours
    assert "nemlib train ising-lattice" in table.making["Command"] and table.protocols.keys() == {"A"}
    text, shown = repr(table), table._repr_html_()
    assert "T = 2.27" in text and "<th scope='col'>z</th>" in shown and "<td>none</td>" not in shown
    assert "<td>none</td>" in published.table("ising-prior")._repr_html_()


def test_a_table_without_a_run_says_how_to_make_one(place):
    table = published.table("ising-lattice")
    assert table.rows == () and "nemlib train ising-lattice --preset full" in table.making["Not recorded yet"]
    assert "not recorded" in published.table("ising-prior")._repr_html_()
    assert "only of" in sentence_of(published.table, "unknown")


def test_a_published_literal_is_shown_with_its_protocol(place):
    """The kind of row that later chapters bring: a number from a paper, another protocol, no exact value."""
    (place / "results/published.toml").write_text('''
[[table]]
experiment = "ising-prior"
title = "A title"
[[table.row]]
quantity = "log-likelihood"
unit = "nats"
metric = "m"
digits = 2
published = {value = -86.34, citation = "someone2008quantitative", protocol = "AIS, test set"}
difference = "Theirs is CD-25."
[[table.row]]
quantity = "formula of others"
metric = "m"
published = {formula = "os.getcwd", citation = "x"}
''')
    shipped_like(place, "full", 0, Metric(-90.0, "ours"))
    assert "none of nemlib's" in sentence_of(published.tables)
    text = (place / "results/published.toml").read_text().split("[[table.row]]")
    (place / "results/published.toml").write_text("[[table.row]]".join(text[:2]))
    (table,) = published.tables()
    header, (line,) = published.grid(table, table.rows, cite=lambda key: f"<{key}>")
    assert header == ["Quantity", "Published", "Source", "Ours", "What explains the difference"]
    assert line == ["log-likelihood [nats]", "−86.34 (AIS, test set)", "<someone2008quantitative>", "−90.00",
                    "Theirs is CD-25."]
    missing = '[[table.row]]\nquantity = "x"\nmetric = "missing"\n'
    (place / "results/published.toml").write_text(text[0] + missing)
    assert "'missing'" in sentence_of(published.tables)


def test_the_list_of_published_numbers_is_what_its_head_says():
    known = {"group", "quantity", "unit", "digits", "metric", "each", "published", "exact", "difference"}
    for table in tomllib.loads((SHIPPED / "published.toml").read_text(encoding="utf-8"))["table"]:
        assert set(table) <= {"experiment", "preset", "title", "text", "row"}
        for row in table["row"]:
            assert set(row) <= known, set(row) - known


def test_the_page_is_generated_from_the_results(tmp_path):
    page = (ROOT / "book/numbers.md").read_text(encoding="utf-8")
    chapter = "# A chapter\n\n```{published-numbers} ising-prior\n```\n\n```{bibliography}\n```\n"
    root = small_book.write_book(tmp_path / "book", {"numbers": page, "chapter": chapter})
    shutil.copy(ROOT / "book/references.bib", root / "book/references.bib")
    built = small_book.build(root, "published_numbers", myst_enable_extensions=["colon_fence", "deflist"])
    assert "published" not in built.warnings and "numbers" not in built.warnings, built.warnings
    shown, table = re.sub("<[^>]+>", "", built.page("book/numbers")), published.table("ising-lattice")
    row = table.rows[0]
    assert published.ours_words(row) in shown
    assert published.number(row.published, row.digits) in shown and table.result.command in shown
    assert "Ising lattice, 64 × 64" in shown and "Onsager" in shown
    assert built.page("book/chapter").count("wrong pixels after ICM") == 1


def test_recorded_runs_are_the_files_of_results_each_with_its_preset_and_seed():
    there = {path.relative_to(ROOT / "results").with_suffix("").as_posix()
             for path in (ROOT / "results").glob("*/*.json")}
    assert {f"{name}/{preset}-seed{seed}" for name, preset, seed in cli.recorded_runs()} == there
    assert len(there) >= 3
