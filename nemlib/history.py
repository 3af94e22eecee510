"""What a training run leaves to look at: its history, a plain table, and the display while it runs."""

import csv
import html
import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nemlib.files import read_json, write_atomically, write_json

__all__ = ["Display", "History"]


@dataclass
class History:
    """A run's metrics as a plain table: one dictionary a row, `step` and `epoch` first.

    A row holds the means of the training metrics over the steps since the row before, and, where an
    evaluation was due, its values as evaluation_…. Numbers survive `write` and `read` to the last bit.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0   # spent training, over all resumptions; no part of the table

    @property
    def names(self) -> list[str]:
        """The columns, in the order in which they came up."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def column(self, name: str) -> list[float]:
        """One value a row; nan where a row has none."""
        if name not in self.names:
            raise ValueError(f"The history has no column {name!r}, only {', '.join(self.names)}.")
        return [row.get(name, math.nan) for row in self.rows]

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """The steps at which `name` was measured, and its values: `plt.plot(*history.series("loss"))`."""
        self.column(name)   # refuses a name that does not exist
        rows = [row for row in self.rows if name in row]
        return [row["step"] for row in rows], [row[name] for row in rows]

    def last(self, name: str) -> float:
        """The newest value in that column."""
        return self.series(name)[1][-1]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a .csv or .json file, atomically."""
        if Path(path).suffix == ".json":
            return write_json(path, {"rows": self.rows, "seconds": self.seconds})
        with write_atomically(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, self.names)
            table.writeheader()
            table.writerows(self.rows)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "History":
        """The table that `write` wrote; ValueError where the file is none."""
        try:
            if Path(path).suffix == ".json":
                content = read_json(path)
                return cls(content["rows"], content["seconds"])
            with open(path, newline="", encoding="utf-8") as file:
                names, *lines = list(csv.reader(file)) or [[]]
            return cls([{name: _number(text) for name, text in zip(names, line, strict=True) if text}
                        for line in lines])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not the table of a history: restore it or remove it.") from error

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        newest = ", ".join(f"{name} {value:.6g}" for row in self.rows[-1:] for name, value in row.items())
        return f"History of {len(self.rows)} rows" + (f"; the last: {newest}" if newest else "")

    def _repr_html_(self) -> str:
        """The last ten rows as a table, for notebooks."""
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.names)
        lines = [[f"{row[name]:.6g}" if name in row else "" for name in self.names]
                 for row in self.rows[-10:]]
        body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in line) + "</tr>" for line in lines)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _number(text: str) -> float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


class Display(AbstractContextManager):
    """What people see of a run: the progress bar, history.csv, TensorBoard's curves, what `watch` does."""

    def __init__(self, run: Any, progress: bool | None, tensorboard: bool, watch: Callable | None) -> None:
        self.run, self.watch, self.written = run, watch, -math.inf
        self.writes = run.context.rank == 0
        shown = (is_watched() if progress is None else progress) and self.writes
        self.bar = tqdm(total=run.last_step, initial=run.context.step, unit="step", disable=not shown,
                        file=sys.stdout, dynamic_ncols=True)
        self.curves = tensorboard_writer(run) if tensorboard and self.writes else None

    def advance(self) -> None:
        self.bar.update()

    def show(self) -> None:
        """Show the newest row of the history."""
        run, row = self.run, self.run.history.rows[-1]
        values = {name: value for name, value in row.items() if name not in ("step", "epoch")}
        shown = {name: f"{value:.4g}" for name, value in list(values.items())[:4]}
        self.bar.set_postfix(shown, refresh=False)
        if self.curves is not None:
            for name, value in values.items():
                self.curves.add_scalar(name, value, row["step"])
        if time.monotonic() > self.written + 1:   # at most once a second: the disk is slow
            self.write()
        if self.watch is not None and self.writes:
            self.watch(run.learner, run.history, run.context)

    def write(self) -> None:
        """Bring history.csv up to date."""
        if self.run.out is not None and self.writes:
            self.run.history.write(self.run.out / "history.csv")
        self.written = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self.bar.close()
        self.write()
        if self.curves is not None:
            self.curves.close()


def is_watched() -> bool:
    """Whether somebody sees a progress bar: a terminal or a notebook, and $NEMLIB_QUIET not set."""
    in_notebook = type(sys.stdout).__module__.startswith("ipykernel")
    return not os.environ.get("NEMLIB_QUIET") and (in_notebook or sys.stdout.isatty())


def tensorboard_writer(run: Any) -> Any:
    if run.out is None:
        raise ValueError("TensorBoard needs a folder for its curves: give `out`.")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("TensorBoard is not installed: pip install tensorboard, or leave it off.") from error
    return SummaryWriter(run.out / "tensorboard", purge_step=run.context.step + 1)
