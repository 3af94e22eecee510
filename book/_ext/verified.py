"""Verified equations: a quiet mark below the number of each equation says which test checks it, how, and how
well.

An equation has a label behind its display, and where it only says what a symbol means, a line below it:

    $$ \\pi T = \\pi $$ (eq-gibbs-stationarity)
    % definition

Every other labelled equation is verified by a test, which reports the largest error that it found:

    @pytest.mark.equation("eq-gibbs-invariance", how="enumeration")
    def test_a_sweep_leaves_the_law(largest_error):
        largest_error((pi @ sweep - pi).abs().max())

The tests write these errors to `results/equations.json` (tests/equation_record.py); this file reads it, and
finds the tests' lines in their source, so that no number and no place is typed.
"""

from __future__ import annotations

import ast
import html
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

import marks
import sources

RECORD = Path("results") / "equations.json"
HOW = ("enumeration", "autograd", "Monte Carlo", "closed form", "quadrature")
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Marker:
    """One label that a test declares; `test` as pytest names it, without parameters."""

    label: str
    how: str
    test: str
    line: int

    @property
    def file(self) -> str:
        return self.test.split("::")[0]


# ------------------------------------------------------------------ what the tests declare

def markers(root: Path = sources.ROOT) -> tuple[list[Marker], list[str]]:
    """Every `@pytest.mark.equation` of the tests, read without running them, and what is wrong with some."""
    found: list[Marker] = []
    problems: list[str] = []
    for path in sorted((root / "tests").glob("test_*.py")):
        name = path.relative_to(root).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=name)
        used = set()
        for test, decorators in _tests(tree.body):
            for call in filter(_is_marker, decorators):
                used.add(call)
                here, wrong = _read(call, f"{name}::{test.name}", test.lineno)
                found += here
                problems += wrong
        problems += [
            f"{name}, line {call.lineno}: write the equation marker as a decorator of a test function"
            for call in ast.walk(tree)
            if _is_marker(call) and call not in used
        ]
    return found, problems


@dataclass(frozen=True)
class _Test:
    name: str
    lineno: int


def _tests(
    body: list[ast.stmt], prefix: str = "", outer: tuple = ()
) -> Iterator[tuple[_Test, list[ast.expr]]]:
    """Test functions, those in classes too, each with its own decorators and its class's."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test"):
            yield _Test(prefix + node.name, node.lineno), [*outer, *node.decorator_list]
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from _tests(node.body, f"{prefix}{node.name}::", (*outer, *node.decorator_list))


def _is_marker(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "equation"
        and isinstance(node.func.value, ast.Attribute)
        and node.func.value.attr == "mark"
    )


def _read(call: ast.Call, test: str, line: int) -> tuple[list[Marker], list[str]]:
    labels = [part.value if isinstance(part, ast.Constant) else None for part in call.args]
    keywords = {
        part.arg: part.value.value if isinstance(part.value, ast.Constant) else None for part in call.keywords
    }
    how = keywords.get("how")
    if not labels or not all(isinstance(label, str) for label in labels):
        return [], [f"{test}: the equation marker names labels, as strings, and nothing else"]
    if how not in HOW or len(keywords) > 1:
        return [], [f"{test}: how={how!r} is not one of {', '.join(HOW)}"]
    return [Marker(label, how, test, line) for label in labels], []


def problems(root: Path = sources.ROOT) -> list[str]:
    """What keeps the book from saying that each of its equations is verified or a definition."""
    equations, wrong = sources.equations(root)
    declared, wrong_markers = markers(root)
    labels = {equation.label for equation in equations}
    verified = {marker.label for marker in declared}
    wrong = wrong + wrong_markers
    wrong += [f"{e.where}: {e.label} is neither verified by a test nor declared with `% definition` below it"
              for e in equations if not e.definition and e.label not in verified]
    wrong += [
        f"{m.test} verifies {m.label}, and no equation has that label"
        for m in declared
        if m.label not in labels
    ]
    return wrong


# ------------------------------------------------------------------ what the tests found

def record(root: Path = sources.ROOT) -> dict[str, dict[str, dict]]:
    """`{label: {how: {"error": largest error, "tests": [names]}}}`, as the last test run left it."""
    path = root / RECORD
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def show_error(error: float) -> str:
    """0.0312 → "0.031", 3.1e-16 → "3.1·10⁻¹⁶", 0 → "exact": for a reader."""
    if error == 0:
        return "exact"
    if 1e-3 <= error < 1e4:
        return f"{float(f'{error:.1e}'):g}"
    mantissa, exponent = f"{error:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}·10{str(int(exponent)).translate(SUPERSCRIPTS)}"


def mark(label: str, definition: bool, found: dict, declared: list[Marker], address: str) -> str:
    """The HTML below an equation; `address` is where the repository's files are shown: …/blob/main."""
    if definition:
        return '<p class="nem-verified">definition</p>'
    parts = []
    for how in dict.fromkeys(marker.how for marker in declared):
        test = next(marker for marker in declared if marker.how == how)
        link = f"{address}/{test.file}#L{test.line}"
        parts.append(
            f'<a href="{html.escape(link)}" title="{html.escape(test.test)}">'
            f"{_words(how, found.get(how))}</a>"
        )
    return f'<p class="nem-verified">{" · ".join(parts)}</p>'


def _words(how: str, found: dict | None) -> str:
    if found is None:
        return f"{how}, not run yet"
    error = show_error(found["error"])
    number = error if error == "exact" else f'<span class="nem-hidden">largest error </span>{error}'
    return f'<span aria-hidden="true">✓ </span><span class="nem-hidden">verified by </span>{how}, {number}'


# ------------------------------------------------------------------ Sphinx

def add_marks(app: Sphinx, doctree: nodes.document) -> None:
    """Puts the mark behind each labelled equation of a page that was just read."""
    labelled = [node for node in doctree.findall(nodes.math_block) if node.get("label")]
    if not labelled:
        return
    root = Path(app.srcdir)
    here = {e.label: e for where, text in sources.markdown(Path(app.env.doc2path(app.env.docname)))
            for e in sources.equations_in(text, app.env.docname, where)[0]}
    declared, found = markers(root)[0], record(root)
    app.env.note_dependency(str(root / RECORD))
    for node in labelled:
        label = node["label"]
        tests = [marker for marker in declared if marker.label == label]
        definition = label in here and here[label].definition
        for test in tests:
            app.env.note_dependency(str(root / test.file))
        if not definition and not tests:
            logger.warning("the equation %s is neither verified by a test nor a definition: mark a test with "
                           "@pytest.mark.equation(%r, how=…), or write `%% definition` below the equation",
                           label, label, location=node, type="nem", subtype="equation")
            continue
        text = mark(label, definition, found.get(label, {}), tests, _address(app))
        node.parent.insert(node.parent.index(node) + 1, nodes.raw("", text, format="html"))


def _address(app: Sphinx) -> str:
    options = app.config.html_theme_options
    return (
        f"{options.get('repository_url', '').rstrip('/')}/blob/{options.get('repository_branch') or 'main'}"
    )


def setup(app: Sphinx) -> dict:
    marks.add_style(app)
    app.connect("doctree-read", add_marks)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
