"""The notation page is the one dictionary: what it names in code exists under that name."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = {path.stem for path in (ROOT / "nemlib").glob("*.py")} - {"__init__"}
DOTTED = re.compile(r"\b([a-z_]+(?:\.[A-Za-z_]\w*)+)")


def names_in_code(text: str) -> set[str]:
    """Dotted names in code spans whose first part is a module of nemlib, such as `gibbs.Ising.energy`."""
    spans = " ".join(re.findall(r"`([^`]+)`", text))
    return {name for name in DOTTED.findall(spans) if name.split(".")[0] in MODULES}


def missing(names: set[str]) -> list[str]:
    """Those of the names that nemlib does not have; the fields of a dataclass count."""
    absent = []
    for name in sorted(names):
        module, *path = name.split(".")
        thing = importlib.import_module(f"nemlib.{module}")
        for part in path:
            if not (hasattr(thing, part) or part in getattr(thing, "__dataclass_fields__", {})):
                absent.append(name)
                break
            thing = getattr(thing, part, None)
    return absent


def test_every_name_in_code_exists():
    names = names_in_code((ROOT / "book" / "notation.md").read_text(encoding="utf-8"))
    assert len(names) > 12
    assert missing(names) == []


@pytest.mark.parametrize("wrong", ["gibbs.transition_matrx", "gibbs.Ising.enrgy"])
def test_a_name_that_does_not_exist_is_seen(wrong):
    assert missing(names_in_code(f"| $T$ | a matrix | `{wrong}` |")) == [wrong]


def test_every_symbol_is_defined_once():
    """A symbol that stands alone in the first column of two rows would have two meanings."""
    text = (ROOT / "book" / "notation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\$[^|]+\$) \|", text, re.MULTILINE)
    symbols = [symbol.strip() for row in rows for symbol in re.split(r"(?<=\$), (?=\$)", row)]
    assert len(symbols) > 25
    assert sorted({symbol for symbol in symbols if symbols.count(symbol) > 1}) == []
