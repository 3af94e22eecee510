"""Write the editions of every chapter: what `make editions` does.

    python tools/editions.py [CHAPTER …]      into _build/notebooks/{colab,student,instructor}/

The source notebooks in book/ hold everything: text, exercises, stubs, checks, solutions. From each come

* the **Colab** edition, for a reader on their own: plain Markdown, solutions folded into the text;
* the **student** edition, for a class: no solution anywhere, stubs in their place, and checks that
  nbgrader marks;
* the **instructor** edition: all solutions, points, minutes, hints, misconceptions and teaching notes.

A source marks an exercise with sphinx-exercise's directives, inline or gated, and its cells with the tags
`stub`, `check` and `solution`; cells tagged `teaching` are for the instructor alone. An exercise labelled
`ex-gibbs-standard-error` in `01-gibbs.ipynb` is `standard_error` of `nemlib.exercises.gibbs`.

To use the student edition with nbgrader, copy its notebook to `source/ASSIGNMENT/` of a course whose
nbgrader_config.py has the lines of the one that lies beside it, then
`nbgrader generate_assignment ASSIGNMENT`.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT)]

import plain  # noqa: E402
from plain import Plain, sources  # noqa: E402

EDITIONS = ("colab", "student", "instructor")
NBGRADER_CONFIG = '''\
# For a course that releases the student edition: its stubs are written, so nbgrader need not clear solutions,
# and a stub is a function to fill in and not an empty cell.
from nbgrader.converters import GenerateAssignment
from nbgrader.preprocessors import ClearSolutions

c = get_config()  # noqa: F821  (traitlets supplies it)
c.GenerateAssignment.preprocessors = [
    step for step in GenerateAssignment.class_traits()["preprocessors"].default()
    if step is not ClearSolutions
]
'''


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("chapters", nargs="*", help="such as 01-gibbs; all of them where none is named")
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "notebooks")
    arguments = parser.parse_args()
    try:
        for path in write(arguments.out, arguments.chapters):
            print(path)
    except (plain.Unknown, WrongSource) as error:
        sys.exit(f"{error}.")


def write(
    out: Path, chapters: list[str] = (), editions: tuple[str, ...] = EDITIONS, root: Path = ROOT
) -> list[Path]:
    """Write the editions of all chapters, or of those that are named; returns the files."""
    index = sources.Index.of(root)
    written = []
    for page in index.chapters:
        path = sources.page_path(page, root)
        if path.suffix != ".ipynb" or (chapters and path.stem not in chapters):
            continue
        for edition in editions:
            target = out / edition / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(build(path, edition, index, root=root), target)
            written.append(target)
    if "student" in editions and written:
        (out / "student" / "nbgrader_config.py").write_text(NBGRADER_CONFIG, encoding="utf-8")
    return written


class WrongSource(ValueError):
    """A source notebook that breaks the convention; the message says where."""


def build(path: Path, edition: str, index: sources.Index, *, root: Path = ROOT,
          exercises: ModuleType | None = None) -> NotebookNode:
    """One edition of a notebook; `exercises` is the chapter's module, found by its name if not given."""
    page = path.relative_to(root).with_suffix("").as_posix()
    chapter = path.stem.split("-", 1)[-1]
    notebook = nbformat.read(path, as_version=4)
    editor = Editor(edition, Plain(index, page, root), chapter, exercises or exercises_of(chapter))
    for cell in notebook.cells:
        editor.add(cell)
    editor.finish()
    notebook.cells = editor.cells
    notebook.metadata = {
        key: notebook.metadata[key] for key in ("kernelspec", "language_info") if key in notebook.metadata
    }
    return notebook


def exercises_of(chapter: str) -> ModuleType | None:
    """The module of a chapter's exercises, None where it has none."""
    name = f"nemlib.exercises.{chapter.replace('-', '_')}"
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


@dataclass
class Editor:
    """Takes the cells of a source one by one and leaves those of one edition."""

    edition: str
    plain: Plain
    chapter: str
    exercises: ModuleType | None
    cells: list[NotebookNode] = field(default_factory=list)
    label: str = ""                                        # the exercise that stubs and checks belong to
    solution: list[str] | None = None                      # the text of the solution that is open
    used: dict[str, int] = field(default_factory=dict)     # how often a grade_id was given

    def add(self, cell: NotebookNode) -> None:
        tags = cell.metadata.get("tags", [])
        if "teaching" in tags and self.edition != "instructor":
            return
        if cell.cell_type == "markdown":
            self._markdown(cell, "**Teaching note.** " if "teaching" in tags else "")
        elif cell.cell_type == "code":
            self._code(cell, tags)

    def finish(self) -> None:
        if self.solution is not None:
            raise WrongSource(f"{self.plain.page}: the solution of {self.label} has no solution-end")

    # -------------------------------------------------------------- text

    def _markdown(self, cell: NotebookNode, before: str = "") -> None:
        """One cell may hold text, exercises, and the beginning or end of a solution."""
        text: list[str] = []
        for part in sources.blocks(cell.source):
            if isinstance(part, sources.Directive) and part.name.startswith(("exercise", "solution")):
                self._gate(part, text)
            elif self.solution is not None:
                self.solution.append(self.plain.block(part))
            else:
                text.append(self.plain.block(part))
        words = re.sub(r"\n{3,}", "\n\n", "\n".join(text)).strip()
        if words:
            self._write(before + words, cell.id)

    def _gate(self, part: sources.Directive, text: list[str]) -> None:
        """An exercise, or the beginning or end of a solution; `text` is what the cell holds so far."""
        if part.name in ("exercise", "exercise-start"):
            self.label = part.options.get("label", "")
            text.append(self.plain.block(part) + "\n")
            if self.edition == "instructor" and (exercise := self._exercise()):
                text.append(for_the_teacher(exercise) + "\n")
        elif part.name == "solution":
            before = "**Solution.** " if self.edition == "instructor" else ""
            self._solved(text, before + self.plain(part.body))
        elif part.name == "solution-start":
            if self.solution is not None:
                raise WrongSource(f"{self.plain.page}: a solution begins inside that of {self.label}")
            self.solution = [self.plain(part.body)] if part.body.strip() else []
            if self.edition == "instructor":
                text.append("\n**Solution.**\n")
        elif part.name == "solution-end":
            if self.solution is None:
                raise WrongSource(f"{self.plain.page}: a solution ends that has not begun")
            body, self.solution = "\n".join(self.solution).strip(), None
            self._solved(text, body)

    def _solved(self, text: list[str], body: str) -> None:
        """A solution's text where it ends: folded, plain, or left out."""
        if self.edition == "colab":
            text.append("\n" + plain.fold("Solution", body) + "\n")
        elif self.edition == "instructor" and body:
            text.append(f"\n{body}\n")

    def _write(self, text: str, id: str) -> None:
        taken = {cell.id for cell in self.cells}
        while id in taken:
            id += "-more"
        self.cells.append(nbformat.v4.new_markdown_cell(text, id=id[:64]))

    # -------------------------------------------------------------- code

    def _code(self, cell: NotebookNode, tags: list[str]) -> None:
        if self.solution is not None or "solution" in tags:
            self._solution_code(cell)
            return
        cell = nbformat.from_dict(
            {**cell, "metadata": dict(cell.metadata), "outputs": [], "execution_count": None}
        )
        if self.edition == "student" and ("stub" in tags or "check" in tags):
            self._graded(cell, "stub" if "stub" in tags else "check")
        if "hide-input" in tags or "remove-input" in tags or "setup" in tags:
            cell.metadata |= {"cellView": "form", "jupyter": {"source_hidden": True}}
        figure = cell.metadata.pop("mystnb", {}).get("figure", {})
        self.cells.append(cell)
        if figure.get("caption"):
            self._write(self.plain.caption(figure.get("name"), figure["caption"]), f"{cell.id}-caption")

    def _solution_code(self, cell: NotebookNode) -> None:
        if self.edition == "instructor":
            if self.solution:      # text that came before the code
                self._write("\n".join(self.solution).strip(), f"{cell.id}-words")
                self.solution = []
            self.cells.append(nbformat.from_dict({**cell, "outputs": [], "execution_count": None}))
        elif self.solution is not None:
            self.solution.append(f"```python\n{cell.source}\n```\n")

    def _graded(self, cell: NotebookNode, kind: str) -> None:
        """nbgrader's metadata: a stub is what the student fills in, a check is what nbgrader marks."""
        exercise = self._exercise()
        if exercise is None:
            raise WrongSource(
                f"{self.plain.page}: the {kind} cell {cell.id} belongs to {self.label or 'no exercise'}, for "
                f"which nemlib.exercises.{self.chapter} has no check"
            )
        name = f"{self.chapter}-{exercise.name}" + ("-check" if kind == "check" else "")
        self.used[name] = self.used.get(name, 0) + 1
        if self.used[name] > 1:
            raise WrongSource(f"{self.plain.page}: {self.label} has a second {kind} cell, {cell.id}")
        graded = kind == "check"
        cell.metadata["nbgrader"] = {
            "schema_version": 3,
            "grade_id": name,
            "grade": graded,
            "solution": not graded,
            "locked": graded,
            "task": False,
            "cell_type": "code",
        }
        if graded:      # the check is imported anew: a submission may have given its name to something else
            package, module = self.exercises.__name__.rsplit(".", 1)
            cell.metadata["nbgrader"]["points"] = exercise.points
            cell.source = f"from {package} import {module} as check\n\n{exercise.grade_source().strip()}"

    def _exercise(self):
        """The exercise that the text is at, None where it has no check."""
        name = re.sub(r"^ex-[a-z]+-", "", self.label).replace("-", "_")
        found = getattr(self.exercises, name, None) if self.label else None
        return found if hasattr(found, "grade_source") else None


def for_the_teacher(exercise) -> str:
    """What an instructor wants to know of an exercise."""
    lines = [f"**For the teacher.** {exercise.points:g} points · {exercise.minutes} minutes · difficulty "
             f"{exercise.difficulty} of 3", ""]
    lines += [f"{number}. Hint: {hint}" for number, hint in enumerate(exercise.hints, start=1)]
    known = "; ".join(misconception.name for misconception in exercise.misconceptions)
    lines += ["", f"Recognised misconceptions: {known}."] if known else []
    lines += ["", " ".join(exercise.teaching_notes.split())] if exercise.teaching_notes else []
    return "\n".join(f"> {line}".rstrip() for line in lines)


# ------------------------------------------------------------------ what the tests ask of a source

def names_defined(code: str) -> dict[str, str]:
    """The functions that code defines, with their arguments, and the values that it names."""
    found = {}
    for node in ast.parse(code).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = f"({ast.unparse(node.args)})"
        elif isinstance(node, ast.ClassDef):
            found[node.name] = "class"
        elif isinstance(node, ast.Assign):
            found |= {target.id: "value" for target in node.targets if isinstance(target, ast.Name)}
    return found


def disagreements(path: Path) -> list[str]:
    """Stubs whose names or arguments are not those of their exercise's solution cells."""
    stubs: dict[str, dict[str, str]] = {}
    solved: dict[str, dict[str, str]] = {}
    label = ""
    for cell in nbformat.read(path, as_version=4).cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "markdown":
            for part in sources.blocks(cell.source):
                if (
                    isinstance(part, sources.Directive)
                    and part.name.startswith("exercise")
                    and part.options.get("label")
                ):
                    label = part.options["label"]
                elif isinstance(part, sources.Directive) and part.name in ("solution", "solution-start"):
                    label = part.argument
        elif "stub" in tags:
            stubs.setdefault(label, {}).update(names_defined(cell.source))
        elif "solution" in tags:
            solved.setdefault(label, {}).update(names_defined(cell.source))
    return [f"{label}: the stub says {name}{form if form.startswith('(') else ''}, the solution "
            f"{solved[label].get(name, 'does not have it')}"
            for label, names in stubs.items() if label in solved
            for name, form in names.items() if solved[label].get(name) != form]


def solution_lines(path: Path) -> set[str]:
    """The lines that only the solutions of a source hold: code and text, as far as they are distinctive."""
    inside, open_ = set(), False
    outside: set[str] = set()
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "markdown":
            (inside if open_ or "solution" in cell.metadata.get("tags", []) else outside).update(
                _lines(cell.source)
            )
            continue
        for part in sources.blocks(cell.source):
            if isinstance(part, sources.Directive) and part.name in ("solution-start", "solution-end"):
                open_ = part.name == "solution-start"
            text = part.body if isinstance(part, sources.Directive) else part.text
            solves = open_ or (isinstance(part, sources.Directive) and part.name == "solution")
            (inside if solves else outside).update(_lines(text))
    return inside - outside


def _lines(text: str, shortest: int = 12) -> set[str]:
    return {line.strip() for line in text.splitlines() if len(line.strip()) >= shortest}


if __name__ == "__main__":
    main()
