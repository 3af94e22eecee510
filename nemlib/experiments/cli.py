"""The command line `nemlib`: train, watch, evaluate, sample, record and list the book's experiments.

    nemlib list                                     what there is, and what is recorded
    nemlib train ising-prior --preset book          train; a finished run is recorded in results/
    nemlib watch runs/ising-prior/book-seed0        from a second terminal
    nemlib train ising-prior --preset book --resume go on after Ctrl-C, a crash or a kill

Several GPUs or machines: `accelerate launch --multi_gpu -m nemlib.experiments.cli train NAME …`. Every error
is one sentence on the standard error stream and the exit code 2; an interrupted run ends with 130.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    from nemlib.experiments.runs import Interrupted

    try:
        chosen = parser().parse_args(arguments)
        chosen.command(chosen)
        return 0
    except Interrupted as stop:
        print(f"\n{stop}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:   # nemlib list | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("NEMLIB_DEBUG"):
            raise
        print(f"nemlib: {sentence(error)}", file=sys.stderr)
        return 2


def sentence(error: Exception) -> str:
    """The error as one line; for one that nobody foresaw, with its kind and how to see where it came from."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, (ValueError, LookupError, OSError, ArithmeticError)) and type(error) is not KeyError:
        return text
    return f"{type(error).__name__}: {text} (set NEMLIB_DEBUG=1 to see where)."


class Parser(argparse.ArgumentParser):
    """argparse, whose errors are one sentence too."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"nemlib: {message[:1].upper() + message[1:]}: see `{self.prog} --help`.\n")


def parser() -> Parser:
    top = Parser(prog="nemlib", description="The recorded runs of the book.", allow_abbrev=False)
    commands = top.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)

    listing = commands.add_parser("list", help="the experiments, or one experiment's presets in full")
    listing.add_argument("name", nargs="?", metavar="NAME")
    listing.set_defaults(command=list_command)

    train = commands.add_parser("train", help="train one experiment, or all of them", allow_abbrev=False)
    train.add_argument("name", nargs="?", metavar="NAME", help="as `nemlib list` shows it")
    train.add_argument("--all", action="store_true", help="every experiment")
    train.add_argument("--recorded", action="store_true",
                       help="every run that results/ holds, with its own preset and seed")
    train.add_argument("--preset", choices=("smoke", "book", "full"),
                       help="how long (default: $BUDGET, else book)")
    train.add_argument("--seed", type=seeds, default=[0], metavar="SEED", help="a number, or several: 0,1,2")
    train.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
    train.add_argument("--out", type=Path, metavar="FOLDER",
                       help="the run's folder (runs/NAME/PRESET-seedSEED)")
    train.add_argument("--resume", action="store_true",
                       help="go on with the run in the folder, if there is one")
    train.add_argument("--again", action="store_true", help="remove the run in the folder and begin anew")
    train.add_argument("--tensorboard", action="store_true", help="write curves for TensorBoard as well")
    train.add_argument("--record", action=argparse.BooleanOptionalAction, default=None,
                       help="copy the result to results/: always, or never; without either, book and full "
                            "runs are recorded where no other run stands there yet")
    train.set_defaults(command=train_command)

    watch = commands.add_parser("watch", help="metrics and pictures of a run while it runs")
    watch.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    watch.add_argument("--once", action="store_true", help="show the present state and end")
    watch.set_defaults(command=watch_command)

    evaluate = commands.add_parser("evaluate", help="measure a trained, recorded or unfinished run once more")
    evaluate.add_argument("run", metavar="RUN",
                          help="a run's folder, or a recorded one such as NAME/full-seed0")
    evaluate.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
    evaluate.set_defaults(command=evaluate_command)

    sample = commands.add_parser("sample", help="draw samples from a run and write them as a picture")
    sample.add_argument("run", metavar="RUN", help="as for evaluate")
    sample.add_argument("--count", type=count, default=24, help="how many (24)")
    sample.add_argument("--seed", type=count, default=0, help="of the samples (0)")
    sample.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
    sample.add_argument("--out", type=Path, metavar="FILE.png", help="(samples.png in the run's folder)")
    sample.set_defaults(command=sample_command)

    record = commands.add_parser("record",
                                 help="copy a finished run's result to results/, over what stands there")
    record.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    record.set_defaults(command=record_command)
    return top


def seeds(text: str) -> list[int]:
    found = [count(part) for part in text.split(",")]
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"each seed once, not {text}")
    return found


def count(text: str) -> int:
    if not text.strip().isdecimal():
        raise argparse.ArgumentTypeError(f"a whole number from 0 is needed, and {text!r} came")
    return int(text)


# --- the commands ------------------------------------------------------------------------------------------


def list_command(chosen: argparse.Namespace) -> None:
    from nemlib.experiments import catalogue, results

    known = catalogue.experiments() if chosen.name is None else {chosen.name: catalogue.find(chosen.name)}
    try:
        recorded = results.available()
    except results.ResultError:   # nothing to list from: the experiments are there all the same
        recorded = {}
    for name, experiment in known.items():
        done = ", ".join(recorded.get(name, ())) or "nothing yet"
        print(f"{name:<16} {experiment.summary}")
        print(f"{'':<16} presets: {', '.join(experiment.presets)}; recorded: {done}")
    if chosen.name is not None:
        print_presets(known[chosen.name])


def print_presets(experiment) -> None:
    from nemlib.experiments.results import flatten

    table = {preset: flatten(experiment.settings(preset)) for preset in experiment.presets}
    for key in dict.fromkeys(key for settings in table.values() for key in settings):
        values = {preset: short(settings.get(key)) for preset, settings in table.items()}
        same = len(set(values.values())) == 1
        print(f"  {key:<30} " + (next(iter(values.values())) if same else
                                 " | ".join(f"{preset} {value}" for preset, value in values.items())))


def short(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(short, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def train_command(chosen: argparse.Namespace) -> None:
    from nemlib import training
    from nemlib.experiments import catalogue, runs

    if chosen.all + chosen.recorded + (chosen.name is not None) != 1:
        raise ValueError("Name one experiment, or give --all for every one, or --recorded for what results/ "
                         "holds: `nemlib list` shows them.")
    if chosen.resume and chosen.again:
        raise ValueError("--resume goes on and --again begins anew: give one of them.")
    if chosen.recorded:
        names = recorded_runs()
    else:
        known = list(catalogue.experiments()) if chosen.all else [chosen.name]
        names = [(name, chosen.preset or training.budget(), seed) for name in known for seed in chosen.seed]
    wanted = [runs.Request(catalogue.find(name), preset, seed, chosen.device, chosen.out)
              for name, preset, seed in names]
    if chosen.out and len(wanted) > 1:
        raise ValueError(f"--out names one run's folder, and {len(wanted)} runs are asked for: leave it out.")
    signal.signal(signal.SIGTERM, interrupt)   # a cluster's polite kill is a Ctrl-C
    for request in wanted:
        train_one(request, chosen)


def recorded_runs() -> list[tuple[str, str, int]]:
    """Experiment, preset and seed of every run in results/."""
    from nemlib.experiments import results

    return [(name, preset, run.seed) for name, presets in results.available().items() for preset in presets
            for run in results.load(name, preset).runs]


def interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def train_one(request, chosen: argparse.Namespace) -> None:
    from nemlib.experiments import runs

    main_process = runs.is_main_process()
    if main_process:
        print(f"{request.experiment.name}, preset {request.preset}, seed {request.seed}, in "
              f"{request.folder}; see it with `nemlib watch {request.folder}`", flush=True)
    run = runs.train(request, resume=chosen.resume, again=chosen.again, tensorboard=chosen.tensorboard)
    if not main_process:
        return
    print_metrics(run.metrics)
    print(f"{run.wall_time_s:,.0f} s; result in {run.path}")
    wanted = request.preset != "smoke" if chosen.record is None else chosen.record
    if wanted:
        record_one(request.folder, replace_other=chosen.record is True)


def record_one(folder: Path, replace_other: bool) -> None:
    from nemlib.experiments import results, runs

    target = runs.record(folder, replace_other=replace_other)
    if target is None:
        print(f"results/ keeps the run that it had; `nemlib record {folder}` puts this one in its place.")
    else:
        commit = results.describe_commit(results.Run.read(target).commit)
        print(f"Recorded in {target}, as made by the code of: {commit}")


def record_command(chosen: argparse.Namespace) -> None:
    record_one(chosen.run, replace_other=True)


def watch_command(chosen: argparse.Namespace) -> None:
    from nemlib.experiments import runs, watch

    def show() -> str:
        found = runs.read(chosen.run)
        width = shutil.get_terminal_size((100, 30)).columns
        return watch.view(chosen.run, found, runs.is_alive(found), width)

    if chosen.once:
        print(show())
        return
    watch.follow(show, finished=lambda: not runs.is_alive(runs.read(chosen.run)))


def evaluate_command(chosen: argparse.Namespace) -> None:
    from nemlib import training
    from nemlib.experiments import runs

    device = training.find_device(chosen.device)
    trained = runs.open_run(chosen.run)
    if trained.step is not None:
        print(f"This run has not finished: the numbers are those of its checkpoint at step {trained.step:,}.")
    metrics = runs.measure(trained.experiment, trained.preset, trained.built, device, trained.seed)
    print_metrics(metrics, trained.measured)


def print_metrics(metrics: dict, before: dict | None = None) -> None:
    """Each metric with its error, what was measured before where that differs, and the protocols."""
    longest = max(map(len, metrics), default=0)
    for name, metric in metrics.items():
        error = "" if metric.standard_error is None else f" ± {metric.standard_error:.2g}"
        old = (before or {}).get(name, metric)
        differs = "" if old.value == metric.value else f"   (when the run ended: {old.value:.6g})"
        print(f"  {name:<{longest}}  {metric.value:.6g}{error} {metric.unit}{differs}")
    for protocol in dict.fromkeys(metric.protocol for metric in metrics.values()):
        names = ", ".join(name for name, metric in metrics.items() if metric.protocol == protocol)
        print(f"  {names}: {protocol}." if len(metrics) < 8 else f"  Protocol: {protocol}.")


def sample_command(chosen: argparse.Namespace) -> None:
    import torch

    from nemlib import training
    from nemlib.experiments import runs, watch
    from nemlib.experiments.experiment import generator

    device = training.find_device(chosen.device)
    if chosen.count < 1:
        raise ValueError("At least one sample is needed: give --count 1 or more.")
    trained = runs.open_run(chosen.run)
    trained.built.learner.module.to(device).eval()
    with torch.no_grad(), training.seeded(chosen.seed):
        images = trained.experiment.sample(trained.built, trained.settings, chosen.count,
                                           generator(chosen.seed, "samples", device))
    out = chosen.out or (trained.where / "samples.png" if trained.where.is_dir() else Path("samples.png"))
    watch.save_images(out, images)
    print(f"{len(images)} samples in {out}")


if __name__ == "__main__":
    sys.exit(main())
