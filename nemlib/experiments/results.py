"""Recorded results: what a finished run leaves in `results/`, and how chapters, figures and tables read it.

    from nemlib.experiments import results
    lattice = results.load("ising-lattice", preset="full")
    lattice.metrics["energy_T2.00"]     # mean over the seeds
    lattice.spread["energy_T2.00"]      # standard deviation over the seeds
    lattice.protocol["energy_T2.00"]    # how it was measured, in words
    lattice.weights()                   # tensors of the first seed

One run is one file, `results/NAME/PRESET-seedSEED.json`, with its weights beside it as safetensors.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import statistics
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Iterable

from nemlib import files
from nemlib.experiments import provenance

PRESETS = ("smoke", "book", "full")


class ResultError(LookupError):
    """A recorded result that is missing, unreadable or at odds with another; the message says what to do."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Metric:
    """One measured number with what is needed to believe it.

    value: the number, in `unit`. protocol: on which data, with how many samples, how it was estimated.
    standard_error: the Monte Carlo error of this one run, where the run can tell it (draws that are
    independent between runs); None where only other seeds can tell, as for a trained model's score on one
    test set.
    better: "higher", "lower" or "" where neither is (an energy that has an exact value).
    """

    value: float
    protocol: str
    unit: str = ""
    standard_error: float | None = None
    better: str = ""

    def __post_init__(self) -> None:
        if self.better not in ("", "higher", "lower"):
            raise ValueError(f"better is 'higher', 'lower' or '', and {self.better!r} came.")
        numbers = [self.value] + ([] if self.standard_error is None else [self.standard_error])
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError(f"A metric must be finite, and {numbers} came: look at the run first.")


@dataclass(frozen=True)
class Run:
    """One finished run, as its JSON file says it."""

    experiment: str
    preset: str
    seed: int
    model: str                       # the class that was trained, e.g. "nemlib.gibbs.IsingLattice"
    settings: dict[str, Any]         # the preset, group by group
    metrics: dict[str, Metric]
    command: str                     # makes the same numbers again
    wall_time_s: float               # from start to end, all sessions of a resumed run
    hardware: dict[str, Any]
    versions: dict[str, str]
    commit: dict[str, Any]           # {"hash": str | None, "clean": bool | None}
    date: str                        # when it finished, UTC
    earlier_sessions: list[dict[str, Any]] = field(default_factory=list)   # of a run that was resumed
    weights: str | None = None       # file name beside the JSON
    path: Path | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        return f"{self.preset}-seed{self.seed}"

    @property
    def label(self) -> dict[str, Any]:
        """What the weights' file says of itself, so that it cannot be taken for another run's."""
        return {"model": self.model, "experiment": self.experiment, "preset": self.preset, "seed": self.seed,
                "date": self.date}

    def load_weights(self) -> dict[str, Any]:
        """The trained tensors, on the CPU; raises ResultError where the run left none or they are another
        run's.
        """
        if self.weights is None or self.path is None:
            raise ResultError(f"The run {self.name} of {self.experiment} left no weights: use its metrics.")
        try:
            tensors, label = files.load_tensors(self.path.with_name(self.weights))
        except (OSError, ValueError) as error:
            raise ResultError(str(error)) from error
        if label != self.label:
            raise ResultError(f"{self.path.with_name(self.weights)} holds the weights of another run than "
                              f"{self.path} describes: record the run again with `nemlib record RUN`.")
        return tensors

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "path"}

    @classmethod
    def read(cls, path: Path) -> Run:
        """The run in a JSON file; raises ResultError where the file is not one."""
        try:
            content = files.read_json(path)
            metrics = {key: Metric(**value) for key, value in content.pop("metrics").items()}
            return cls(metrics=metrics, path=path, **content)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ResultError(f"{path} is not the result of a nemlib run ({error}): remove it, or record the "
                              "run again with `nemlib record RUN`.") from error


@dataclass(frozen=True)
class Result:
    """The runs of one experiment and preset, one a seed, in the order of the seeds."""

    experiment: str
    preset: str
    runs: tuple[Run, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.seed for run in self.runs)

    @property
    def metrics(self) -> dict[str, float]:
        """Each metric's mean over the seeds."""
        return {key: statistics.fmean(self._values(key)) for key in self.runs[0].metrics}

    @property
    def spread(self) -> dict[str, float | None]:
        """Each metric's standard deviation over the seeds (divisor n − 1); None with a single seed."""
        many = len(self.runs) > 1
        return {key: statistics.stdev(self._values(key)) if many else None for key in self.runs[0].metrics}

    @property
    def standard_error(self) -> dict[str, float | None]:
        """The standard error of each mean: from the runs' own Monte Carlo errors where every run gives one
        (they are independent, so the mean's is √(Σ s²)/n), else spread/√n; None where neither is known.
        """
        return {key: self._standard_error(key) for key in self.runs[0].metrics}

    @property
    def protocol(self) -> dict[str, str]:
        return {key: metric.protocol for key, metric in self.runs[0].metrics.items()}

    @property
    def unit(self) -> dict[str, str]:
        return {key: metric.unit for key, metric in self.runs[0].metrics.items()}

    @property
    def settings(self) -> dict[str, Any]:
        return self.runs[0].settings

    @property
    def command(self) -> str:
        """One line that makes every run again."""
        seeds = ",".join(str(seed) for seed in self.seeds)
        return command(self.experiment, self.preset, seeds)

    @property
    def hardware(self) -> str:
        return "; ".join(_distinct(provenance.describe_hardware(run.hardware) for run in self.runs))

    @property
    def commit(self) -> str:
        """The commit(s) whose code ran, short, with a word where the code was changed or in no repository."""
        sessions = [session["commit"] for run in self.runs for session in run.earlier_sessions]
        return "; ".join(_distinct(map(describe_commit, sessions + [run.commit for run in self.runs])))

    @property
    def wall_time_s(self) -> float:
        """Seconds of all seeds together."""
        return sum(run.wall_time_s for run in self.runs)

    def weights(self, seed: int | None = None) -> dict[str, Any]:
        """The trained tensors of one seed (the first recorded one unless given), on the CPU."""
        run = self.runs[0] if seed is None else next((r for r in self.runs if r.seed == seed), None)
        if run is None:
            raise ResultError(f"{self.experiment} ({self.preset}) has no run with seed {seed}, only "
                              f"{self.seeds}: `{command(self.experiment, self.preset, seed)}` makes it.")
        return run.load_weights()

    def _values(self, key: str) -> list[float]:
        return [run.metrics[key].value for run in self.runs]

    def _standard_error(self, key: str) -> float | None:
        own = [run.metrics[key].standard_error for run in self.runs]
        if all(error is not None for error in own):
            return math.sqrt(sum(error**2 for error in own)) / len(own)
        spread = self.spread[key]
        return None if spread is None else spread / math.sqrt(len(own))


def load(experiment: str, preset: str = "full") -> Result:
    """The recorded runs of an experiment and preset, all seeds.

    Raises ResultError: where there is none (the message gives the command that makes one), where a file is
    not a result, and where two seeds were made with different settings (a mean would mean nothing).
    """
    if preset not in PRESETS:
        raise ResultError(f"{preset!r} is no preset: choose one of {', '.join(PRESETS)}.")
    place = folder() / experiment
    found = sorted(place.glob(f"{preset}-seed*.json"), key=_seed) if place.is_dir() else []
    if not found:
        raise ResultError(_missing(experiment, preset))
    runs = tuple(Run.read(path) for path in found)
    for run in runs:
        _check_same(runs[0], run)
    return Result(experiment, preset, runs)


def available() -> dict[str, tuple[str, ...]]:
    """What is recorded: `{experiment: presets}`, both in order."""
    places = sorted(path for path in folder().iterdir() if path.is_dir())
    found = {place.name: tuple(p for p in PRESETS if any(place.glob(f"{p}-seed*.json"))) for place in places}
    return {name: presets for name, presets in found.items() if presets}


def best_preset(experiment: str) -> str | None:
    """The longest recorded preset of an experiment that a table should show: full, else book, else None."""
    recorded = available().get(experiment, ())
    return next((preset for preset in ("full", "book") if preset in recorded), None)


def folder() -> Path:
    """The folder `results`, from any working directory: $NEMLIB_RESULTS, else in the clone that nemlib comes
    from, else in the clone that the working directory lies in.
    """
    if os.environ.get("NEMLIB_RESULTS"):
        named = Path(os.environ["NEMLIB_RESULTS"]).expanduser()
        if not named.is_dir():
            raise ResultError(f"NEMLIB_RESULTS names {named}, which is no folder: make it, or unset this.")
        return named
    tree, here = provenance.source_tree(), Path.cwd()
    for place in ([tree] if tree else []) + [here, *here.parents]:
        if (place / "results" / "published.toml").is_file():
            return place / "results"
    raise ResultError("The folder results/ with the recorded runs was not found: work inside a clone of the "
                      "book's repository, or name the folder in the environment variable NEMLIB_RESULTS.")


def command(experiment: str, preset: str, seed: object) -> str:
    """The command that makes a result."""
    return f"nemlib train {experiment} --preset {preset} --seed {seed}"


def _missing(experiment: str, preset: str) -> str:
    recorded = available()
    if experiment in recorded:
        return (f"{experiment} is recorded with preset {' and '.join(recorded[experiment])}, not with "
                f"{preset}: `{command(experiment, preset, 0)}` makes it.")
    near = difflib.get_close_matches(experiment, recorded, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return (f"There is no recorded result of {experiment} with preset {preset}{hint}: "
            f"`{command(experiment, preset, 0)}` makes it, and `nemlib list` shows what there is.")


def _check_same(first: Run, other: Run) -> None:
    if (other.experiment, other.preset) != (first.experiment, first.preset):
        raise ResultError(f"{other.path} is a run of {other.experiment} ({other.preset}): it lies in the "
                          "wrong place.")
    ours, theirs = flatten(first.settings), flatten(other.settings)
    changed = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    if changed or set(first.metrics) != set(other.metrics):
        what = f"settings ({', '.join(changed)})" if changed else "metrics"
        raise ResultError(f"{first.path} and {other.path} have different {what}, so a mean over them says "
                          f"nothing: run `{command(first.experiment, first.preset, other.seed)} --again "
                          "--record`.")


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"data": {"size": 3}}` as `{"data.size": 3}`, for comparing and printing."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _seed(path: Path) -> int:
    match = re.search(r"seed(\d+)$", path.stem)
    return int(match.group(1)) if match else -1


def _distinct(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def describe_commit(commit: dict[str, Any]) -> str:
    """"1a2b3c4d5e", with a word where the code was changed since, or "not committed"."""
    if not commit.get("hash"):
        return "not committed"
    return commit["hash"][:10] + ("" if commit.get("clean") else ", with local changes")
