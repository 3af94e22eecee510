"""Write the set-up cell of every notebook: the first cell, the same in all, hidden in the book.

    python tools/setup_cell.py            write it into every notebook of book/
    python tools/setup_cell.py --check    say which notebooks have none, or an old one

The cell is tools/setup_template.py with two things filled in: the repository's address, from _config.yml, and
the book's version, from nemlib/__init__.py.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))

import sources  # noqa: E402

TAGS = ["remove-cell", "setup"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    old = stale()
    if arguments.check:
        sys.exit(f"Without the present set-up cell: {', '.join(path.name for path in old)}. "
                 "`python tools/setup_cell.py` writes it." if old else 0)
    for path in old:
        update(path)
        print(f"wrote the set-up cell of {path.relative_to(ROOT)}")


def version(root: Path = ROOT) -> str:
    return re.search(r'^__version__ = "(.+)"$', (root / "nemlib" / "__init__.py").read_text(), re.M)[1]


def source(root: Path = ROOT) -> str:
    """The cell's code."""
    template = Path(__file__).with_name("setup_template.py").read_text(encoding="utf-8").strip()
    address = sources.repository(root)[0]
    return template.replace('"ADDRESS"', f'"{address}"').replace('"v0.0.0"', f'"v{version(root)}"')


def cell(root: Path = ROOT) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell(source(root), metadata={"tags": TAGS}, id="setup")


def is_current(notebook: nbformat.NotebookNode, root: Path = ROOT) -> bool:
    first = notebook.cells[0] if notebook.cells else {}
    return bool(first) and first.source == source(root) and first.metadata.get("tags") == TAGS


def notebooks(root: Path = ROOT) -> list[Path]:
    return sorted((root / "book").glob("*.ipynb"))


def stale(root: Path = ROOT) -> list[Path]:
    """The notebooks whose first cell is not the present set-up cell."""
    return [path for path in notebooks(root) if not is_current(nbformat.read(path, as_version=4), root)]


def update(path: Path, root: Path = ROOT) -> None:
    """Put the present set-up cell first, in place of an old one."""
    notebook = nbformat.read(path, as_version=4)
    rest = [part for part in notebook.cells if "setup" not in part.metadata.get("tags", [])]
    notebook.cells = [cell(root), *rest]
    nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
