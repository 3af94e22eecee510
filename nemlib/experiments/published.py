"""Published numbers beside ours: `results/published.toml` joined with the recorded runs.

    from nemlib.experiments import published
    published.table("ising-lattice")      # shows itself in a notebook
    published.tables()                    # all of them, for the page "Numbers: published and ours"

A published number is a literal with its citation, or a formula of nemlib where the paper gives one (Onsager's
energy): then it is computed, never typed. Where our conditions differ from the paper's and the value under
ours is known exactly too, the row says so, and our deviation from it is given in standard errors.
"""

from __future__ import annotations

import html
import importlib
import itertools
import math
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nemlib.experiments import results
from nemlib.experiments.results import Result, ResultError


@dataclass(frozen=True)
class Row:
    """One line: a quantity, what was published, what we measured, and what explains the difference.

    group: the heading that it stands under, with the others of that group; may be empty.
    published, citation: the published value and its key in `references.bib`; both None where there is none.
    published_protocol: how the paper measured. exact: the exact value under our own conditions.
    ours, standard_error, spread: our mean over seeds, its standard error, and the standard deviation over
    seeds; None where nothing is recorded. protocol: how ours was measured. digits: after the point.
    """

    group: str
    quantity: str
    unit: str
    published: float | None
    citation: str | None
    published_protocol: str
    exact: float | None
    ours: float | None
    standard_error: float | None
    spread: float | None
    protocol: str
    difference: str
    digits: int

    @property
    def deviation(self) -> float | None:
        """Ours minus the exact value under our conditions, in standard errors (z); None where either lacks."""
        if self.exact is None or self.ours is None or not self.standard_error:
            return None
        return (self.ours - self.exact) / self.standard_error


    @property
    def fine_digits(self) -> int:
        """Digits after the point for our numbers: enough for the first digit of a small standard error, and
        for the second where the first is a 1.
        """
        if not self.standard_error:
            return self.digits
        return min(8, max(self.digits, -math.floor(math.log10(self.standard_error / 2))))


@dataclass(frozen=True)
class Table:
    """The rows of one experiment, with how our runs were made (None where none is recorded)."""

    experiment: str
    preset: str
    title: str
    text: str
    rows: tuple[Row, ...]
    result: Result | None

    @property
    def protocols(self) -> dict[str, str]:
        """Our distinct protocols, each under a letter: `{"A": "…", "B": "…"}`."""
        distinct = dict.fromkeys(row.protocol for row in self.rows if row.protocol)
        return {letter(index): text for index, text in enumerate(distinct)}

    @property
    def groups(self) -> dict[str, tuple[Row, ...]]:
        """The rows under each heading, in their order."""
        names = dict.fromkeys(row.group for row in self.rows)
        return {name: tuple(row for row in self.rows if row.group == name) for name in names}

    @property
    def making(self) -> dict[str, str]:
        """How our numbers were made, item by item, for the lines below the table."""
        if self.result is None:
            return {"Not recorded yet": f"`{results.command(self.experiment, self.preset, 0)}` makes it."}
        result = self.result
        versions = result.runs[0].versions
        return {
            "Command": f"`{result.command}`",
            "Seeds": f"{', '.join(map(str, result.seeds))} (preset `{result.preset}`)",
            "Hardware": f"{result.hardware}; {duration(result.wall_time_s)} for all seeds",
            "Versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
            "Commit": result.commit,
            "Date": max(run.date for run in result.runs)[:10],
        }

    @property
    def notes(self) -> dict[str, str]:
        """The lines below the table: our protocols, then how our numbers were made."""
        one = len(self.protocols) == 1
        named = {"Protocol" if one else f"Protocol {key}": text for key, text in self.protocols.items()}
        return named | self.making

    def letter_of(self, row: Row) -> str:
        return next((key for key, text in self.protocols.items() if text == row.protocol), "")

    def __repr__(self) -> str:
        lines = [self.title]
        for row in self.rows:
            lines.append(f"  {row.quantity}: published {published_words(row)}; ours {ours_words(row)}")
        return "\n".join(lines + [f"  {key}: {text}" for key, text in self.notes.items()])

    def _repr_html_(self) -> str:
        parts = []
        for group, rows in self.groups.items():
            header, lines = grid(self, rows, cite=str)
            head = "".join(f"<th scope='col'>{html.escape(name)}</th>" for name in header)
            body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>"
                           for line in lines)
            parts.append(f"<table><caption>{html.escape(group or self.title)}</caption>"
                         f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        notes = "".join(f"<li>{html.escape(key)}: {html.escape(text.replace('`', ''))}</li>"
                        for key, text in self.notes.items())
        return "".join(parts) + f"<ul>{notes}</ul>"


def tables() -> tuple[Table, ...]:
    """All tables of `results/published.toml`, in its order."""
    return tuple(_table(entry) for entry in _entries())


def table(experiment: str, preset: str | None = None) -> Table:
    """The table of one experiment (its first one, or the one of that preset); raises ResultError where
    published.toml has none.
    """
    entries = _entries()
    for entry in entries:
        if entry["experiment"] == experiment and preset in (None, entry.get("preset")):
            return _table(entry)
    known = ", ".join(f"{entry['experiment']} {entry.get('preset', '')}".strip() for entry in entries)
    wanted = f"{experiment} {preset or ''}".strip()
    raise ResultError(f"results/published.toml has no table of {wanted}, only of {known}.")


def grid(table: Table, rows: Sequence[Row], cite: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of some of a table's rows as text, without the columns that are empty in every line.

    cite: turns a citation key into what the output format shows.
    """
    lines = [cells(table, row, cite) for row in rows]
    header = [name for name in lines[0] if any(line[name] for line in lines)]
    return header, [[line[name] for name in header] for line in lines]


def cells(table: Table, row: Row, cite: Callable[[str], str]) -> dict[str, str]:
    """One row as text, column by column."""
    return {
        "Quantity": row.quantity + (f" [{row.unit}]" if row.unit else ""),
        "Published": published_words(row),
        "Source": cite(row.citation) if row.citation else "",
        "Exact for ours": "" if row.exact is None else number(row.exact, row.fine_digits),
        "Ours": ours_words(row),
        "sd over seeds": "" if row.spread is None else number(row.spread, row.fine_digits),
        "z": "" if row.deviation is None else f"{row.deviation:+.1f}".replace("-", "−"),
        "What explains the difference": row.difference,
        "Protocol": table.letter_of(row) if len(table.protocols) > 1 else "",
    }


def published_words(row: Row) -> str:
    if row.published is None:
        return "none"
    protocol = f" ({row.published_protocol})" if row.published_protocol else ""
    return number(row.published, row.digits) + protocol


def ours_words(row: Row) -> str:
    """Mean ± standard error of the mean, or the mean alone; held together by no-break spaces."""
    if row.ours is None:
        return "not recorded"
    error = "" if row.standard_error is None else f"\u00a0±\u00a0{row.standard_error:.{row.fine_digits}f}"
    return number(row.ours, row.fine_digits) + error


def number(value: float, digits: int) -> str:
    """A number with a true minus sign: −1.41421."""
    return f"{value:.{digits}f}".replace("-", "−")


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would use: "42 s", "3.5 min", "1.2 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def letter(index: int) -> str:
    return chr(ord("A") + index) if index < 26 else f"A{index - 25}"


def _entries() -> list[dict[str, Any]]:
    path = results.folder() / "published.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))["table"]
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise ResultError(f"{path} cannot be read as the list of published numbers ({error}).") from error


def _table(entry: dict[str, Any]) -> Table:
    experiment = entry["experiment"]
    preset = entry.get("preset") or results.best_preset(experiment) or "full"
    recorded = preset in results.available().get(experiment, ())
    result = results.load(experiment, preset) if recorded else None
    rows = tuple(_row(spec, values, result) for spec in entry["row"] for values in _each(spec, result))
    known = {"settings": result.settings} if result else {"settings": _Unknown()}
    return Table(experiment, preset, entry["title"].format(**known), entry.get("text", "").strip(),
                 rows, result)


class _Unknown:
    """Stands for the settings of a run that is not recorded yet: every one of them reads "…"."""

    def __getitem__(self, key: str) -> _Unknown:
        return self

    def __format__(self, how: str) -> str:
        return "…"


def _each(spec: dict[str, Any], result: Result | None) -> list[dict[str, Any]]:
    """The rows that one entry stands for: `each = {T = [1.5, 2.0]}` gives one with T = 1.5 and one with T =
    2.0.

    `{T = "settings.lattice.temperatures"}` takes the values from the recorded run's settings: no run, no row.
    """
    each = {name: _from_settings(values, result) if isinstance(values, str) else values
            for name, values in spec.get("each", {}).items()}
    return [dict(zip(each, combination)) for combination in itertools.product(*each.values())]


def _from_settings(path: str, result: Result | None) -> list[Any]:
    if result is None:
        return []
    value: Any = result.settings
    for key in path.removeprefix("settings.").split("."):
        value = value[key]
    return value


def _row(spec: dict[str, Any], values: dict[str, Any], result: Result | None) -> Row:
    values = values | {"settings": result.settings if result else _Unknown()}
    metric = spec["metric"].format(**values)
    if result is not None and metric not in result.metrics:
        raise ResultError(f"results/published.toml asks for {metric!r} of {result.experiment}, whose "
                          f"recorded runs have {', '.join(result.metrics)}.")
    published, exact = spec.get("published", {}), spec.get("exact", {})
    return Row(
        group=spec.get("group", ""), quantity=spec["quantity"].format(**values), unit=spec.get("unit", ""),
        published=_value(published, values), citation=published.get("citation"),
        published_protocol=published.get("protocol", ""),
        exact=_value(exact, values) if result or "value" in exact else None,
        ours=result.metrics[metric] if result else None,
        standard_error=result.standard_error[metric] if result else None,
        spread=result.spread[metric] if result else None,
        protocol=result.protocol[metric] if result else "",
        difference=_words(spec.get("difference", ""), values), digits=spec.get("digits", 3))


def _value(source: dict[str, Any], values: dict[str, Any]) -> float | None:
    """A literal `value`, or what a `formula` gives; None where there is neither, or it has no answer."""
    if "formula" not in source:
        return float(source["value"]) if "value" in source else None
    found = _formula(source, values)
    return None if found is None else float(found)


def _words(source: str | dict[str, Any], values: dict[str, Any]) -> str:
    return source.format(**values) if isinstance(source, str) else str(_formula(source, values))


def _formula(source: dict[str, Any], values: dict[str, Any]) -> Any:
    """Call a function of nemlib; an argument such as "T" or "settings.lattice.width" is looked up."""
    module, _, name = source["formula"].rpartition(".")
    if not module.startswith("nemlib."):
        raise ResultError(f"The formula {source['formula']} of results/published.toml is none of nemlib's.")
    arguments = {key: _argument(value, values) for key, value in source.get("arguments", {}).items()}
    return getattr(importlib.import_module(module), name)(**arguments)


def _argument(value: Any, values: dict[str, Any]) -> Any:
    if not isinstance(value, str):
        return value
    found: Any = values
    for key in value.split("."):
        found = found[key]
    return found
