"""The editions: plain Markdown on Colab, no solution for students, all for instructors; nbgrader's marks."""

import importlib
import importlib.util
import json
import os
import re
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
import small_book
import sources
from bs4 import BeautifulSoup
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from nbgrader.nbgraderformat import MetadataValidator
from small_book import ROOT, code, markdown
from traitlets.config import Config, PyFileConfigLoader

import editions
import plain

CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))
EXERCISES = '''
import torch
from nemlib.exercises.core import Help, ValueExercise, function_exercise, wrong


def cases(generator):
    for n in (1, 2, 3):
        yield (torch.arange(1.0, n + 1, dtype=torch.float64),)


@function_exercise(title="A mean", chapter=1, difficulty=1, minutes=5, points=2, statement="Average.",
                   hints=("One", "Two", "Three"), truth=lambda x: sum(x.tolist()) / len(x), cases=cases,
                   misconceptions=(wrong("sum for mean", lambda x: x.sum(), says="A sum.", hint="Divide.",
                                         credit=0.5),),
                   teaching_notes="Ask what a mean is.")
def mean_of(x):
    """The mean; x: (n,)."""
    return x.sum() / len(x)


half = ValueExercise(name="half", title="A half", chapter=1, difficulty=1, minutes=2, points=1,
                     statement="Halve one.", hints=("One", "Two", "Three"), truth=lambda: 0.5,
                     misconceptions=(), asked="a half", solution="half = 1 / 2")
'''


@pytest.fixture(scope="module")
def exercises(tmp_path_factory):
    """A chapter's exercises that belong to no chapter of the book."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "course").mkdir()
    (folder / "course" / "__init__.py").touch()
    (folder / "course" / "coins.py").write_text(EXERCISES)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder))      # the kernels that nbgrader starts
        yield importlib.import_module("course.coins")
        sys.modules.pop("course.coins")


def source():
    return small_book.notebook(
        code("from course import coins as check\nimport torch", "remove-cell", "setup"),
        markdown(
            "# Coins\n\n% a comment\nSee {eq}`eq-coins-two`, {cite:t}`geman1984` and {cite}`geman1984`; "
            "{doc}`index`."
        ),
        markdown(
            "(sec-coins)=\n## A section with $p$\n\nWords\n\n$$ a = 1 $$ (eq-coins-one)\n% definition\n\n"
            "$$\nb &= 1 \\\\\n  &= a\n$$ (eq-coins-two)\n\n"
            ":::{note}\nBack to {ref}`sec-coins`, {numref}`fig-coins`, {prf:ref}`thm-coins`.\n:::\n\n"
            "```{dropdown} Show the **algebra**\n$$ c $$ (eq-coins-three)\n```\n\n"
            "```{prf:theorem} The law\n:label: thm-coins\n\nIt {term}`holds`.\n```\n\n"
            "```python\n{eq}`not a role`\n```\nand `` {eq}`neither` ``."
        ),
        code(
            "plot()",
            "hide-input",
            mystnb={"figure": {"caption": "By {eq}`eq-coins-one`.", "name": "fig-coins"}},
        ),
        markdown(
            "```{exercise-start} A mean\n:label: ex-coins-mean-of\n```\nAverage, as in {eq}`eq-coins-one`."
        ),
        code(
            'def mean_of(x):\n    """The mean; x: (n,)."""\n'
            "    # YOUR CODE HERE\n    raise NotImplementedError()",
            "stub",
        ),
        code("check.mean_of(mean_of)", "check"),
        markdown("```{exercise-end}\n```"),
        markdown(
            "```{solution-start} ex-coins-mean-of\n:class: dropdown\n```\nDivide the sum, in every case."
        ),
        code('def mean_of(x):\n    """The mean; x: (n,)."""\n    return x.sum() / len(x)', "solution"),
        markdown("```{solution-end}\n```\n\n```{exercise} A half\n:label: ex-coins-half\n\nHalve one.\n```"),
        code("half = ...", "stub"),
        code("check.half(half)", "check"),
        markdown(
            "```{solution} ex-coins-half\n:class: dropdown\n\nOne divided by two is a half.\n```\n\nOn we go."
        ),
        markdown("Wait for questions here.", "teaching"),
    )


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    return small_book.write_book(tmp_path_factory.mktemp("book") / "book", {"01-coins": source()})


@pytest.fixture(scope="module")
def made(book, exercises):
    """The three editions of the small chapter."""
    index = sources.Index.of(book)
    return {
        edition: editions.build(
            book / "book" / "01-coins.ipynb", edition, index, root=book, exercises=exercises
        )
        for edition in editions.EDITIONS
    }


def text(notebook, kind="markdown") -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == kind)


# ------------------------------------------------------------------ plain Markdown

def test_numbers_agree_with_the_built_book(book):
    index, built = sources.Index.of(book), small_book.build(book, execute=False)
    sphinx = built.app.env.toc_fignumbers["book/01-coins"]
    numbers = {id: ".".join(map(str, number)) for kind in sphinx.values() for id, number in kind.items()}
    ours = {
        target.anchor: target.number
        for target in index.targets.values()
        if target.kind not in ("section", "figure")
    }
    assert (
        ours == numbers
    )  # figures are outputs, and nothing ran; test_figures_are_counted_as_sphinx_counts has them


def test_figures_are_counted_as_sphinx_counts(tmp_path):
    svg = "from IPython.display import SVG\nSVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>')"
    root = small_book.write_book(tmp_path / "book", {"01-a": small_book.notebook(
        markdown("# A\n\n```{figure} a.svg\n:name: fig-file\n:alt: a\n\nA file.\n```"),
        code(svg, mystnb={"image": {"alt": "b"}}),
        code(svg, mystnb={"image": {"alt": "c"}, "figure": {"caption": "A cell.", "name": "fig-cell"}}))})
    (root / "book" / "a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    built, index = small_book.build(root, execute=True), sources.Index.of(root)
    assert built.app.env.toc_fignumbers["book/01-a"]["figure"] == {"fig-file": (1, 1), "fig-cell": (1, 2)}
    assert [index.targets[name].number for name in ("fig-file", "fig-cell")] == ["1.1", "1.2"]


def test_the_colab_edition_is_plain_markdown_with_the_books_numbers(made):
    words = text(made["colab"])
    page = "https://reader.github.io/example/book/01-coins.html"
    assert plain.raw(words) == []
    assert (
        f"See [(1.2)]({page}#equation-eq-coins-two), [Geman and Geman (1984)](https://doi.org/10.1109/"
        in words
    )
    assert (
        "and ([Geman and Geman, 1984](https" in words
        and "[A book](https://reader.github.io/example/book/index.html)" in words
    )
    assert "$$\na = 1 \\tag{1.1}\n$$" in words and "% definition" not in words and "% a comment" not in words
    assert "$$\n\\begin{aligned}\nb &= 1 \\\\\n  &= a\n\\end{aligned} \\tag{1.2}\n$$" in words
    assert (f"> **Note.** Back to [A section with $p$]({page}#sec-coins), [Fig. 1.1]({page}#fig-coins), "
            f"[Theorem 1.1]({page}#thm-coins).") in words
    assert "<summary><strong>Show the **algebra**</strong></summary>\n\n$$\nc \\tag{1.3}\n$$" in words
    assert "> **Theorem 1.1 (The law).** It holds." in words
    assert "```python\n{eq}`not a role`\n```\nand `` {eq}`neither` ``." in words
    assert f"**Fig. 1.1** By [(1.1)]({page}#equation-eq-coins-one)." in words
    assert "#### Exercise 1.1 (A mean)\n\n" in words and "Wait for questions" not in words


def test_the_colab_edition_folds_solutions_and_keeps_the_set_up_cell(made):
    words = text(made["colab"])
    assert re.search(
        r"<details>\n<summary><strong>Solution</strong></summary>\n\nDivide the sum, in every case\.\n+"
        r"```python\ndef mean_of\(x\):.*?len\(x\)\n```\n+</details>",
        words,
        re.S,
    )
    assert "One divided by two is a half.\n\n</details>\n\nOn we go." in words
    assert made["colab"].cells[0].metadata.tags == ["remove-cell", "setup"]
    assert "return x.sum()" not in text(made["colab"], "code")


@pytest.mark.parametrize(
    "words, message",
    [
        ("{download}`a.zip`", "the role {download}"),
        ("```{mermaid}\na\n```", "the directive {mermaid}"),
        ("{eq}`eq-coins-nothing`", "which the book does not have"),
        ("{cite}`nobody1900`", "references.bib does not have"),
    ],
)
def test_what_has_no_plain_form_is_refused(book, words, message):
    with pytest.raises(plain.Unknown, match=message):
        plain.Plain(sources.Index.of(book), "book/01-coins", book)(words)


@pytest.mark.parametrize(
    "words",
    [
        "see {eq}`eq-a`",
        ":::{note}\nx\n:::",
        "```{note}\nx\n```",
        "(sec-a)=\n# A",
        "% definition",
        "$$ x $$ (eq-a)",
        "> :::{tip}",
        "[](#sec-a)",
    ],
)
def test_raw_myst_is_noticed(words):
    assert plain.raw(words) != []


# ------------------------------------------------------------------ students and instructors

def test_no_solution_survives_in_the_student_edition(book, made):
    hidden = editions.solution_lines(book / "book" / "01-coins.ipynb")
    assert {
        "return x.sum() / len(x)",
        "Divide the sum, in every case.",
        "One divided by two is a half.",
    } <= hidden
    student = text(made["student"]) + text(made["student"], "code")
    assert [line for line in hidden if line in student] == []
    assert "Wait for questions" not in student and "solution" not in student.lower()
    assert "def mean_of(x):" in student and "half = ..." in student and "On we go." in student


def test_the_student_edition_carries_nbgraders_metadata(made):
    MetadataValidator().validate_nb(made["student"])
    graded = {
        cell.metadata.nbgrader.grade_id: cell for cell in made["student"].cells if "nbgrader" in cell.metadata
    }
    assert list(graded) == ["coins-mean_of", "coins-mean_of-check", "coins-half", "coins-half-check"]
    assert [graded[name].metadata.nbgrader.get("points") for name in graded] == [None, 2, None, 1]
    check = graded["coins-mean_of-check"]
    assert check.metadata.nbgrader.locked and check.source.startswith("from course import coins as check\n")


def test_the_instructor_edition_has_solutions_points_minutes_and_notes(made):
    words = text(made["instructor"])
    assert "> **For the teacher.** 2 points · 5 minutes · difficulty 1 of 3" in words
    assert "> 3. Hint: Three" in words and "> Recognised misconceptions: sum for mean." in words
    assert "> Ask what a mean is." in words and "**Teaching note.** Wait for questions here." in words
    assert "**Solution.** One divided by two is a half." in words
    assert words.index("**Solution.**") < words.index("Divide the sum, in every case.")
    assert "Divide the sum, in every case." in words and "return x.sum() / len(x)" in text(
        made["instructor"], "code"
    )
    assert plain.raw(words) == []


@pytest.mark.parametrize("change, message", [
    (lambda cells: cells.pop(10), "has no solution-end|a solution begins inside"),
    (lambda cells: cells.pop(8), "a solution ends that has not begun"),
    (lambda cells: cells[4].update(source=cells[4].source.replace("mean-of", "median-of")), "has no check"),
    (lambda cells: cells.insert(6, code("def mean_of(x): ...", "stub")), "has a second stub cell"),
])
def test_a_source_that_breaks_the_convention_is_refused(book, exercises, tmp_path, change, message):
    notebook = source()
    change(notebook.cells)
    root = small_book.write_book(tmp_path / "book", {"01-coins": notebook})
    with pytest.raises((editions.WrongSource, plain.Unknown), match=message):
        editions.build(
            root / "book" / "01-coins.ipynb",
            "student",
            sources.Index.of(root),
            root=root,
            exercises=exercises,
        )


def test_stub_and_solution_must_agree(book, tmp_path):
    assert editions.disagreements(book / "book" / "01-coins.ipynb") == []
    notebook = source()
    notebook.cells[9].source = notebook.cells[9].source.replace("(x)", "(x, n)")
    nbformat.write(notebook, tmp_path / "01-coins.ipynb")
    assert editions.disagreements(tmp_path / "01-coins.ipynb") == [
        "ex-coins-mean-of: the stub says mean_of(x), the solution (x, n)"]


# ------------------------------------------------------------------ nbgrader's own marks

@pytest.fixture(autouse=True)
def scripts_on_the_path(monkeypatch):
    """nbgrader calls alembic by its name, which a Python that is not activated does not find."""
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


def marks(
    folder: Path, assignment: nbformat.NotebookNode, submissions: dict[str, dict[str, str]]
) -> dict[str, dict]:
    """What nbgrader gives each student: `{student: {grade_id: points}}`.

    submissions: for each student the code that they put in place of the stubs, by grade_id.
    """
    (folder / "source" / "work").mkdir(parents=True)
    nbformat.write(assignment, folder / "source" / "work" / "notebook.ipynb")
    (folder / "nbgrader_config.py").write_text(editions.NBGRADER_CONFIG)
    config = PyFileConfigLoader("nbgrader_config.py", path=str(folder)).load_config()
    config.merge(
        Config(CourseDirectory={"root": str(folder), "course_id": "course"}, Exchange={"root": str(folder)})
    )
    api = NbGraderAPI(config=config)
    assert api.generate_assignment("work")["success"]
    release = nbformat.read(folder / "release" / "work" / "notebook.ipynb", as_version=4)
    assert [cell.source for cell in release.cells] == [cell.source for cell in assignment.cells]
    found = {}
    for student, answers in submissions.items():
        for cell in (submitted := nbformat.from_dict(json.loads(json.dumps(release)))).cells:
            cell.source = answers.get(cell.metadata.get("nbgrader", {}).get("grade_id"), cell.source)
        (folder / "submitted" / student / "work").mkdir(parents=True)
        nbformat.write(submitted, folder / "submitted" / student / "work" / "notebook.ipynb")
        result = api.autograde("work", student)
        assert result["success"], result
        with Gradebook(f"sqlite:///{folder}/gradebook.db") as book:
            grades = book.find_submission_notebook("notebook", "work", student).grades
            found[student] = {grade.name: grade.score for grade in grades}
    return found


def test_nbgrader_marks_a_right_a_wrong_and_an_empty_submission(made, tmp_path):
    notebook = made["student"]
    notebook.cells = [cell for cell in notebook.cells if "plot()" not in cell.source]
    found = marks(
        tmp_path,
        notebook,
        {
            "right": {"coins-mean_of": "def mean_of(x):\n    return x.mean()", "coins-half": "half = 0.5"},
            "wrong": {
                "coins-mean_of": "def mean_of(x):\n    return x.sum()",
                "coins-half": "check = half = 0.25",
            },
            "empty": {},
        },
    )
    assert found == {"right": {"coins-mean_of-check": 2, "coins-half-check": 1},
                     "wrong": {"coins-mean_of-check": 1, "coins-half-check": 0},      # a half mark for a sum
                     "empty": {"coins-mean_of-check": 0, "coins-half-check": 0}}


# ------------------------------------------------------------------ the chapters

@pytest.fixture(scope="module")
def chapters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    editions.write(folder)
    return folder


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_chapters_editions(path, chapters):
    made = {
        edition: nbformat.read(chapters / edition / path.name, as_version=4) for edition in editions.EDITIONS
    }
    for notebook in made.values():
        nbformat.validate(notebook)
        assert plain.raw(text(notebook)) == []
    student = text(made["student"]) + text(made["student"], "code")
    assert [line for line in editions.solution_lines(path) if line in student] == []
    assert editions.disagreements(path) == []
    assert "<summary><strong>Solution</strong></summary>" in text(made["colab"])
    assert "**For the teacher.**" in text(made["instructor"])


def test_nbgrader_marks_the_exercises_of_all_chapters(chapters, tmp_path):
    cells, exercises = [code("import math\nimport torch")], {}
    for path in CHAPTERS:      # in one notebook, so that three kernels do for all chapters
        chapter = path.stem.split("-", 1)[1]
        for cell in nbformat.read(chapters / "student" / path.name, as_version=4).cells:
            if "nbgrader" not in cell.metadata:
                continue
            cells.append(cell)
            if cell.metadata.nbgrader.solution:
                name = cell.metadata.nbgrader.grade_id
                exercises[name] = getattr(editions.exercises_of(chapter), name.removeprefix(f"{chapter}-"))
    answers = {
        "right": {name: exercise.solution_source() for name, exercise in exercises.items()},
        "wrong": {name: nonsense(exercise) for name, exercise in exercises.items()},
        "empty": {},
    }
    found = marks(tmp_path, small_book.notebook(*cells), answers)
    full = {f"{name}-check": exercise.points for name, exercise in exercises.items()}
    assert found["right"] == full
    assert {name: points for name, points in found["wrong"].items() if points} == {}
    assert {name: points for name, points in found["empty"].items() if points} == {}


def nonsense(exercise) -> str:
    is_function = exercise.signature.startswith("def")
    return f"{exercise.name} = " + ("lambda *arguments: -12345.6" if is_function else "'1 + 1'")


def test_writing_all_editions_leaves_nbgraders_configuration_beside_them(
    book, exercises, tmp_path, monkeypatch
):
    monkeypatch.setattr(editions, "exercises_of", lambda chapter: exercises)
    written = editions.write(tmp_path, root=book)
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        f"{e}/01-coins.ipynb" for e in editions.EDITIONS
    ]
    assert (tmp_path / "student" / "nbgrader_config.py").exists()
    before = {path: path.read_bytes() for path in written}
    shutil.rmtree(tmp_path / "colab")
    editions.write(tmp_path, root=book)
    assert {path: path.read_bytes() for path in written} == before      # the same bytes each time


# ------------------------------------------------------------------ the buttons

def test_the_books_buttons_lead_to_the_colab_edition(book, exercises, monkeypatch):
    monkeypatch.setattr(editions, "exercises_of", lambda chapter: exercises)
    built = small_book.build(book, "downloads")
    page = built.page("book/01-coins")
    assert 'href="../notebooks/colab/01-coins.ipynb"' in page and "_sources" not in page
    address = (
        "https://colab.research.google.com/github/reader/example/blob/gh-pages/notebooks/colab/01-coins.ipynb"
    )
    assert f'href="{address}"' in page
    edition = nbformat.read(built.folder / "notebooks" / "colab" / "01-coins.ipynb", as_version=4)
    assert plain.raw(text(edition)) == []


def test_a_text_without_a_plain_form_fails_a_strict_build(tmp_path):
    root = small_book.write_book(
        tmp_path / "book", {"01-a": small_book.notebook(markdown("# A\n\n{download}`index.md`"))}
    )
    assert "for which tools/plain.py has no plain form" in small_book.build(root, "downloads").warnings


@pytest.fixture(scope="module")
def pages():
    """The built book, as the page tests have it."""
    spec = importlib.util.spec_from_file_location("tools_build", ROOT / "tools" / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BUDGET", os.environ.get("BUDGET") or "smoke")
        try:
            return build.build_for_tests()
        except build.BuildFailed as error:
            pytest.fail(str(error), pytrace=False)


@pytest.mark.timeout(900)      # the first to ask builds the book
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_number_is_that_of_the_built_book(path, pages):
    page = BeautifulSoup((pages / "book" / f"{path.stem}.html").read_text(encoding="utf-8"), "html.parser")
    different = []
    for label, target in sources.Index.of(ROOT).targets.items():
        if target.page != f"book/{path.stem}" or not target.number:
            continue
        number = page.find(id=target.anchor)
        if target.kind == "section":
            number = number.find_next(["h1", "h2", "h3", "h4"]) if number.name == "span" else number
        elif number:
            number = number.find(class_=["eqno", "caption-number"])
        if number is None or target.number not in re.findall(r"\d+(?:\.\d+)*", number.get_text()):
            different.append((label, target.number, number and number.get_text()))
    assert different == []
