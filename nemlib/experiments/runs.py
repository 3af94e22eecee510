"""One run in its folder: begun, interrupted, resumed, finished, recorded.

    runs/ising-prior/full-seed0/
        run.json              what is run, in which state it is, and the sessions it took
        checkpoints/          written by nemlib.training, resumed from
        history.csv           the metrics so far
        picture.png, watch.html   for those who watch
        result.json, weights.safetensors   when it has finished: what `results/` will hold

Runs are working files and stay out of git. What is worth keeping, the result, is copied by `record`.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nemlib import files, training
from nemlib.checkpoint import Checkpoints
from nemlib.experiments import catalogue, provenance, results
from nemlib.experiments.experiment import Built, Experiment
from nemlib.experiments.results import Metric, Run
from nemlib.experiments.watch import Watcher

RUNS = Path("runs")
OURS = ("run.json", "history.csv", "picture.png", "watch.html", "samples.png", "result.json",
        "weights.safetensors", "checkpoints", "tensorboard")


@dataclass(frozen=True)
class Request:
    """What is to be run, and where. folder None: runs/NAME/PRESET-seedSEED below the working directory."""

    experiment: Experiment
    preset: str
    seed: int
    device: str = "auto"
    out: Path | None = None

    @property
    def folder(self) -> Path:
        return self.out or RUNS / self.experiment.name / f"{self.preset}-seed{self.seed}"

    @property
    def identity(self) -> dict[str, Any]:
        """What a folder's run must have in common with this one."""
        return {"experiment": self.experiment.name, "preset": self.preset, "seed": self.seed,
                "settings": self.experiment.settings(self.preset)}

    @property
    def command(self) -> str:
        out = f" --out {self.out}" if self.out else ""
        return results.command(self.experiment.name, self.preset, self.seed) + out


class Interrupted(Exception):
    """Somebody stopped the run; the message says what is kept and how to go on. Not an error."""


def train(request: Request, *, resume: bool = False, again: bool = False, tensorboard: bool = False) -> Run:
    """Train to the end, measure, and leave result.json and weights.safetensors in the run's folder.

    With `resume` a run that has finished is read and returned, so that one command may be given until it is
    through. Under `accelerate launch` every process comes here: the first one alone writes, and the others
    return what they have not measured, an empty result. Raises ValueError where the folder holds another
    run, or this one without `resume` (go on) or `again` (begin anew); Interrupted on Ctrl-C or a polite kill.
    """
    main, folder = is_main_process(), request.folder
    if main:
        check_folder(request, resume, again)
    if resume and (folder / "run.json").is_file() and read(folder)["state"] == "finished":
        return Run.read(folder / "result.json")
    device = training.find_device(request.device)
    with training.seeded(request.seed):
        built = request.experiment.build(request.experiment.presets[request.preset], request.seed)
    if main:
        begin(request, built, again)
    try:
        seconds = train_to_the_end(request, built, resume, tensorboard)
        if not main:
            return unmeasured(request, built)
        began = time.monotonic()
        metrics = measure(request.experiment, request.preset, built, device, request.seed)
        return finish(request, built, metrics, device, seconds + time.monotonic() - began)
    except KeyboardInterrupt:
        set_state(folder, "interrupted")
        raise Interrupted(how_to_go_on(request)) from None
    except BaseException:
        set_state(folder, "failed")
        raise


def train_to_the_end(request: Request, built: Built, resume: bool, tensorboard: bool) -> float:
    """Let the training loop run; returns the seconds that it took, over all sessions."""
    watcher = Watcher(request.folder, last_step(built)) if is_main_process() else None
    return training.train(
        built.learner, built.data, built.training, device=request.device, seed=request.seed,
        evaluation_data=built.evaluation_data, out=request.folder, resume=resume, tensorboard=tensorboard,
        watch=watcher).seconds


def last_step(built: Built) -> int:
    examples = None if built.data is None else training.number_of_examples(built.data)
    return built.training.total_steps(examples)


def measure(
    experiment: Experiment, preset: str, built: Built, device: torch.device, seed: int
) -> dict[str, Metric]:
    """The metrics of a trained learner, without gradients and in evaluation mode."""
    built.learner.module.to(device).eval()
    with torch.no_grad(), training.seeded(seed):
        return experiment.measure(built, experiment.presets[preset], device, seed)


# --- the folder --------------------------------------------------------------------------------------------


def check_folder(request: Request, resume: bool, again: bool) -> None:
    """Refuse a folder that holds something else, or this run in a state that was not asked for."""
    folder = request.folder
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / "run.json").is_file():
        raise ValueError(f"{folder} is there and holds no run of nemlib: choose another folder with --out.")
    found = read(folder)
    for key in ("experiment", "preset", "seed"):
        if found[key] != request.identity[key]:
            raise ValueError(f"{folder} holds a run of {found['experiment']} (preset {found['preset']}, seed "
                             f"{found['seed']}), not of {request.experiment.name} (preset {request.preset}, "
                             f"seed {request.seed}): choose another folder with --out.")
    if is_alive(found):
        raise ValueError(f"{folder} is being trained by process {found['process']} at this moment: watch it "
                         f"with `nemlib watch {folder}`, or choose another folder with --out.")
    if again:
        return
    changed = differences(found["settings"], request.identity["settings"])
    if changed:
        raise ValueError(f"{folder} was begun with other settings than the preset {request.preset} has now "
                         f"({'; '.join(changed)}): begin anew by --again, or choose another folder by --out.")
    if found["state"] == "finished" and not resume:
        raise ValueError(f"{folder} holds this run, finished: see it with `nemlib evaluate {folder}`, or run "
                         "it once more with --again.")
    if not resume and Checkpoints(folder / "checkpoints").newest():
        raise ValueError(f"{folder} holds this run, unfinished: go on by --resume, or begin anew by --again.")


def begin(request: Request, built: Built, again: bool) -> None:
    """Make the folder, or open another session of the run in it."""
    folder, sessions = request.folder, []
    if again:
        remove(folder)
    if (folder / "run.json").is_file():
        sessions = read(folder)["sessions"]
    newest = Checkpoints(folder / "checkpoints").newest()
    session = {"date": provenance.now(), "commit": provenance.commit(), "versions": provenance.versions()}
    files.write_json(folder / "run.json", request.identity | {
        "model": full_name(built.learner), "first_step": step_of(newest) if newest else 0,
        "last_step": last_step(built), "state": "running", "process": os.getpid(), "machine": platform.node(),
        "sessions": [*sessions, session]})


def remove(folder: Path) -> None:
    """Remove a run's files, and only those: whatever else lies in the folder stays."""
    for name in OURS:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def read(folder: Path) -> dict[str, Any]:
    """The run.json of a folder; ValueError where it is none."""
    if not (folder / "run.json").is_file():
        raise ValueError(f"There is no run in {folder}: name a folder that `nemlib train` has made, such as "
                         "runs/NAME/book-seed0.")
    found = files.read_json(folder / "run.json")
    missing = {"experiment", "preset", "seed", "settings", "state", "sessions"} - set(found)
    if missing:
        raise ValueError(f"{folder / 'run.json'} lacks {min(missing)!r}: it was not written by this nemlib.")
    return found


def set_state(folder: Path, state: str) -> None:
    if is_main_process():
        files.write_json(folder / "run.json", read(folder) | {"state": state})


def is_alive(found: dict[str, Any]) -> bool:
    """Whether the process that trains this run is still there (only the same machine can tell)."""
    if found["state"] != "running" or found.get("machine") != platform.node():
        return False
    if found["process"] == os.getpid():
        return False   # this very process began it and stopped
    if sys.platform == "win32":
        return False   # there, os.kill would end the process instead of asking for it
    try:
        os.kill(found["process"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def differences(theirs: dict, ours: dict) -> list[str]:
    """The settings that differ, as "optimisation.epochs 5, now 10"."""
    theirs, ours = results.flatten(theirs), results.flatten(ours)
    return [f"{key} {theirs.get(key)}, now {ours.get(key)}"
            for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]


def how_to_go_on(request: Request) -> str:
    newest = Checkpoints(request.folder / "checkpoints").newest()
    if newest is None:
        return f"Interrupted before the first checkpoint; `{request.command} --resume` begins anew."
    return (f"Interrupted; everything up to step {step_of(newest):,} is kept. "
            f"Go on with `{request.command} --resume`.")


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.stem.removeprefix("step-"))


def is_main_process() -> bool:
    """Whether this process is the one that writes (the only one, unless `accelerate launch` made several)."""
    return int(os.environ.get("RANK", "0")) == 0


def full_name(learner: training.Learner) -> str:
    return f"{type(learner).__module__}.{type(learner).__qualname__}"


# --- the end -----------------------------------------------------------------------------------------------


def finish(
    request: Request, built: Built, metrics: dict[str, Metric], device: torch.device, seconds: float
) -> Run:
    """Write what the run leaves: weights first, so that a result.json always has its weights."""
    folder, sessions = request.folder, read(request.folder)["sessions"]
    run = replace(
        unmeasured(request, built), metrics=metrics, wall_time_s=round(seconds, 1),
        hardware=provenance.hardware(device), versions=sessions[-1]["versions"],
        commit=sessions[-1]["commit"], date=provenance.now(), earlier_sessions=sessions[:-1],
        weights="weights.safetensors", path=folder / "result.json")
    files.save_tensors(folder / run.weights, request.experiment.weights(built.learner), run.label)
    files.write_json(run.path, run.to_json())
    set_state(folder, "finished")
    return run


def unmeasured(request: Request, built: Built) -> Run:
    return Run(**request.identity, model=full_name(built.learner), metrics={},
               command=results.command(request.experiment.name, request.preset, request.seed),
               wall_time_s=0.0, hardware={}, versions={}, commit={}, date="")


def record(folder: Path, *, replace_other: bool) -> Path | None:
    """Copy a finished run's result and weights into `results/`; None where another run's result stays there.

    Raises ValueError where the run has not finished, ResultError where the folder `results` cannot be found.
    """
    found = read(folder)
    if found["state"] != "finished":
        raise ValueError(f"The run in {folder} has not finished (it is {found['state']}): only finished runs "
                         "are recorded.")
    run = Run.read(folder / "result.json")
    target = results.folder() / run.experiment / f"{run.name}.json"
    kept = recorded(run, target)
    if target.is_file() and not replace_other and Run.read(target) != kept:
        return None
    tensors, _ = files.load_tensors(folder / run.weights)
    files.save_tensors(target.with_name(kept.weights), tensors, run.label)
    files.write_json(target, kept.to_json())
    return target


def recorded(run: Run, target: Path) -> Run:
    return replace(run, weights=f"{run.name}.safetensors", path=target)


# --- using what was trained --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """A run's experiment with its learner as it stands: at the end, or at the newest checkpoint."""

    experiment: Experiment
    preset: str
    seed: int
    built: Built
    where: Path                      # the run's folder, or the recorded JSON
    step: int | None                 # of the checkpoint; None at the end
    measured: dict[str, Metric]      # what was measured when the run ended; empty before

    @property
    def settings(self) -> Any:
        return self.experiment.presets[self.preset]


def open_run(name: str | Path) -> Trained:
    """The trained learner of a run: a run's folder, a recorded JSON, or NAME/PRESET-seedSEED in runs/ or
    results/.

    Raises ValueError where there is no such run, where its weights are another model's, or where its preset
    has been changed since, so that its settings are not known any more.
    """
    place = find_run(name)
    if place.suffix == ".json":
        run = Run.read(place)
        identity, measured, step = run.to_json(), run.metrics, None
        tensors = run.load_weights()
    else:
        identity, step, measured = read(place), None, {}
        if identity["state"] == "finished":
            run = Run.read(place / "result.json")
            measured, tensors = run.metrics, run.load_weights()
        else:
            step, tensors = newest_tensors(place)
    experiment = catalogue.find(identity["experiment"])
    changed = differences(identity["settings"], experiment.settings(identity["preset"]))
    if changed:
        raise ValueError(f"{place} was made with other settings than the preset {identity['preset']} has now "
                         f"({'; '.join(changed)}): train it again.")
    with training.seeded(identity["seed"]):
        built = experiment.build(experiment.presets[identity["preset"]], identity["seed"])
    fit(built.learner, tensors, place)
    return Trained(experiment, identity["preset"], identity["seed"], built, place, step, measured)


def find_run(name: str | Path) -> Path:
    """The run's folder, or the recorded JSON, that a name on the command line means."""
    path = Path(name)
    recorded_name = f"{path}.json"
    for candidate in (path, RUNS / path):
        if (candidate / "run.json").is_file():
            return candidate
    for candidate in (path, Path(recorded_name), results.folder() / recorded_name):
        if candidate.suffix == ".json" and candidate.is_file():
            return candidate
    raise ValueError(f"There is no run {str(name)!r}: name a folder such as runs/NAME/book-seed0, or a "
                     "recorded one such as NAME/full-seed0.")


def newest_tensors(folder: Path) -> tuple[int, dict[str, torch.Tensor]]:
    """Step and module tensors of the newest checkpoint of an unfinished run."""
    newest = Checkpoints(folder / "checkpoints").newest()
    if newest is None:
        raise ValueError(f"The run in {folder} has written no checkpoint yet: wait, or go on by --resume.")
    _, metadata = files.load_tensors(newest)
    state = Checkpoints(newest.parent).load(newest, metadata["model"])
    return state["step"], state["module"]


def fit(learner: training.Learner, tensors: dict[str, torch.Tensor], place: Path) -> None:
    """Put tensors into a learner's module; ValueError where they are another model's."""
    try:
        learner.module.load_state_dict(tensors)
    except RuntimeError as error:
        why = " ".join(str(error).split())
        raise ValueError(f"The weights of {place} do not fit {full_name(learner)} ({why}): "
                         "train it again.") from error
