"""Write an exercise's cells into its chapter from its one definition in nemlib/exercises.

    python tools/exercise_cells.py            bring the exercises of every notebook of book/ up to date
    python tools/exercise_cells.py --check    say which are not

An exercise stands in a notebook where a Markdown cell ends with `{exercise-start} …` labelled
`ex-CHAPTER-NAME`, with the chapter's own short word; the cells tagged `stub`, `check` and `solution` follow. To
add one, write a cell with these two lines and run this: title, statement, stub, check and solution come from
`nemlib.exercises`.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

from editions import exercises_of  # noqa: E402
from setup_cell import notebooks  # noqa: E402

START = re.compile(r"```\{exercise-start\}[^\n]*\n:label: ex-([a-z]+)-([a-z-]+)\n.*\Z", re.S)
END = "```{exercise-end}\n```\n\n```{solution-start} %s\n:class: dropdown\n```"
SOLUTION_END = "```{solution-end}\n```"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    only_check = parser.parse_args().check
    old = [path for path in notebooks() if update(nbformat.read(path, as_version=4), module_of(path))]
    if only_check:
        sys.exit(f"Exercises differ from nemlib.exercises in: {', '.join(path.name for path in old)}. "
                 "`python tools/exercise_cells.py` writes them." if old else 0)
    for path in old:
        notebook = nbformat.read(path, as_version=4)
        update(notebook, module_of(path))
        nbformat.write(notebook, path)
        print(f"wrote the exercises of {path.relative_to(ROOT)}")


def module_of(path: Path) -> str:
    """The module of nemlib.exercises that belongs to a chapter: neural_em for 08-neural-em.ipynb."""
    return path.stem.split("-", 1)[1].replace("-", "_")


def statement(exercise, label: str) -> str:
    """The Markdown that opens an exercise."""
    stars = "★" * exercise.difficulty + "☆" * (3 - exercise.difficulty)
    body = exercise.markdown().split("\n\n", 1)[1].strip()
    return (f"```{{exercise-start}} {exercise.title}\n:label: {label}\n```\n\n*Difficulty {stars} ({exercise.difficulty} "
            f"of 3) · {exercise.minutes} minutes · {exercise.points:g} points.*\n\n{body}")


def code_cells(exercise) -> tuple[tuple[str, str], ...]:
    """The code cells of an exercise: tag and source."""
    check = exercise.check_source().strip()
    return (("stub", exercise.stub_source().strip()), ("check", check),
            ("solution", f"{exercise.solution_source().strip()}\n\n{check}"))


def update(notebook: nbformat.NotebookNode, module: str) -> bool:
    """Bring every exercise of the notebook up to date, in place; True where something changed.

    module: of nemlib.exercises, such as neural_em.
    """
    changed, position = False, 0
    while position < len(notebook.cells):
        cell = notebook.cells[position]
        found = START.search(cell.source) if cell.cell_type == "markdown" else None
        position += 1
        if found:
            label = f"ex-{found[1]}-{found[2]}"
            exercise = getattr(exercises_of(module), found[2].replace("-", "_"))
            changed |= write(cell, cell.source[:found.start()] + statement(exercise, label))
            changed |= write_code(notebook.cells, position, exercise, label)
    return changed


def write_code(cells: list, position: int, exercise, label: str) -> bool:
    """Fill the cells behind a statement, or put them there where the exercise is new."""
    is_new = position >= len(cells) or "stub" not in cells[position].metadata.get("tags", [])
    sources = code_cells(exercise)
    if is_new:
        made = [nbformat.v4.new_code_cell(source, metadata={"tags": [tag]}) for tag, source in sources]
        bridge, end = (nbformat.v4.new_markdown_cell(text) for text in (END % label, SOLUTION_END))
        cells[position:position] = [*made[:2], bridge, made[2], end]
        return True
    return any([write(cells[position + k], source) for k, (_, source) in zip((0, 1, 3), sources)])


def write(cell: nbformat.NotebookNode, source: str) -> bool:
    changed, cell.source = cell.source != source, source
    return changed


if __name__ == "__main__":
    main()
