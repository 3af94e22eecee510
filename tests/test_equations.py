"""Every numbered equation of the book is verified or a definition, and the page says which."""

import json
from pathlib import Path

import pytest
import small_book
import sources
import verified

pytest_plugins = ["pytester"]
PAGE = """# A chapter

$$ a = 1 $$ (eq-a-definition)
% definition

Then {eq}`eq-a-result` follows:

$$
b = a \\\\
c = b
$$ (eq-a-result)
"""
TEST = """
import pytest

@pytest.mark.equation("eq-a-result", how="enumeration")
def test_result(largest_error):
    largest_error(3.14159e-16)
"""


def test_every_equation_of_the_book_is_verified_or_a_definition():
    assert verified.problems() == []


# ------------------------------------------------------------------ what an author may get wrong

def book(tmp_path, page=PAGE, test=TEST):
    root = small_book.write_book(tmp_path / "book", {"01-a": page})
    (root / "tests" / "test_a.py").write_text(test)
    return root


def test_a_book_in_order_has_no_problem(tmp_path):
    root = book(tmp_path)
    assert verified.problems(root) == []
    equations, _ = sources.equations(root)
    assert [(e.label, e.definition) for e in equations] == [("eq-a-definition", True), ("eq-a-result", False)]


@pytest.mark.parametrize("page, test, words", [
    (PAGE.replace("% definition\n", ""), TEST, "eq-a-definition is neither verified"),
    (PAGE, "", "eq-a-result is neither verified"),
    (PAGE, TEST.replace("eq-a-result", "eq-a-resutl"), "no equation has that label"),
    (PAGE, TEST.replace("enumeration", "by hand"), "how='by hand' is not one of enumeration"),
    (PAGE, TEST.replace('"eq-a-result", ', ""), "names labels"),
    (PAGE, TEST + '\npytestmark = pytest.mark.equation("eq-a-result", how="autograd")\n', "as a decorator"),
    (PAGE.replace("eq-a-definition", "a-definition"), TEST, "begins with eq-"),
    (PAGE.replace("eq-a-definition", "eq-a-result"), TEST, "stands at 2 equations"),
    (PAGE.replace("follows:\n\n", "follows:\n"), TEST, "is part of a paragraph"),
    (PAGE + "\n:::{note}\nso $$ d = 1 $$ (eq-a-inline)\n:::\n", TEST, "eq-a-inline is part of a paragraph"),
    (PAGE + "\n\\begin{align}\nx &= y\n\\end{align}\n", TEST, "gets a number without a label"),
])
def test_each_mistake_is_named(tmp_path, page, test, words):
    found = verified.problems(book(tmp_path, page, test))
    assert any(words in problem for problem in found), found


def test_equations_are_found_in_directives_and_not_in_code():
    text = ("```{dropdown} Algebra\n:::{note}\n\n$$ x $$ (eq-a-deep)\n\n% definition\n:::\n```\n\n"
            "```{math}\n:label: eq-a-directive\nx\n```\n\n```python\n$$ x $$ (eq-a-code)\n```\n")
    equations, problems = sources.equations_in(text)
    assert [(e.label, e.definition) for e in equations] == [("eq-a-deep", True), ("eq-a-directive", False)]
    assert problems == []


def test_markers_of_classes_and_of_parametrised_tests_are_read(tmp_path):
    test = (
        'import pytest\n\n\n@pytest.mark.equation("eq-a-one", "eq-a-two", how="autograd")\nclass TestBoth:\n'
        '    @pytest.mark.parametrize("n", [1, 2])\n    def test_it(self, n, largest_error):\n        pass\n'
    )
    declared, problems = verified.markers(book(tmp_path, test=test))
    assert problems == []
    assert [(m.label, m.how, m.test, m.line) for m in declared] == [
        ("eq-a-one", "autograd", "tests/test_a.py::TestBoth::test_it", 7),
        ("eq-a-two", "autograd", "tests/test_a.py::TestBoth::test_it", 7)]


# ------------------------------------------------------------------ the record that a test run leaves

@pytest.fixture
def project(pytester):
    """A project with our plugin and two labels, one of them verified by two tests."""
    (pytester.path / "tests").mkdir()
    write_tests(pytester)
    return pytester


def write_tests(pytester, first=3.14159e-16, second=2e-16, third=0.031234):
    (pytester.path / "tests" / "test_a.py").write_text(f"""
import pytest

@pytest.mark.equation("eq-a-one", how="enumeration")
@pytest.mark.parametrize("error", [{first}, 1e-17])
def test_first(error, largest_error):
    largest_error(error)
    largest_error(error / 2)

@pytest.mark.equation("eq-a-one", "eq-a-two", how="enumeration")
def test_second(largest_error):
    largest_error({second})

@pytest.mark.equation("eq-a-two", how="Monte Carlo")
def test_third(largest_error):
    assert {third} < 1
    largest_error({third}, "eq-a-two")
""")


def run(project, *arguments):
    return project.runpytest_inprocess("-q", "-p", "equation_record", "-p", "no:cacheprovider", *arguments)


def written(project) -> dict:
    path = project.path / "results" / "equations.json"
    return json.loads(path.read_text()) if path.exists() else {}


def errors(project) -> dict:
    return {
        (label, how): entry["error"]
        for label, hows in written(project).items()
        for how, entry in hows.items()
    }


ALL = {
    ("eq-a-one", "enumeration"): 3.1e-16,
    ("eq-a-two", "enumeration"): 2e-16,
    ("eq-a-two", "Monte Carlo"): 0.031,
}


def test_a_run_writes_the_largest_errors_and_running_again_changes_no_byte(project):
    run(project, "tests").assert_outcomes(passed=4)
    assert errors(project) == ALL
    assert written(project)["eq-a-one"]["enumeration"]["tests"] == ["tests/test_a.py::test_first",
                                                                     "tests/test_a.py::test_second"]
    before = (project.path / "results" / "equations.json").stat()
    run(project, "tests")
    assert (project.path / "results" / "equations.json").stat().st_mtime_ns == before.st_mtime_ns


def test_with_workers_the_record_is_the_same(project, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    project.runpytest_subprocess("-q", "-p", "equation_record", "-n", "2", "tests").assert_outcomes(passed=4)
    assert errors(project) == ALL


def test_a_failed_test_takes_its_label_out_and_a_partial_run_leaves_the_others(project):
    run(project, "tests")
    write_tests(project, third=7)
    run(project, "tests", "-k", "third").assert_outcomes(failed=1, deselected=3)
    assert errors(project) == {key: ALL[key] for key in list(ALL)[:2]}


def test_half_of_a_labels_tests_do_not_renew_it(project):
    run(project, "tests")
    write_tests(project, first=5e-10)
    run(project, "tests/test_a.py::test_first").assert_outcomes(passed=2)
    assert errors(project) == ALL
    run(project, "tests", "-k", "1e-17 or second")
    assert errors(project) == ALL      # a selection may leave parameters out: the larger error stays
    run(project, "tests")
    assert errors(project)["eq-a-one", "enumeration"] == 5e-10


def test_a_label_without_a_test_leaves_the_record(project):
    run(project, "tests")
    path = project.path / "tests" / "test_a.py"
    path.write_text(path.read_text().replace('"eq-a-one", "eq-a-two"', '"eq-a-one"'))
    run(project, "tests")
    assert set(errors(project)) == {("eq-a-one", "enumeration"), ("eq-a-two", "Monte Carlo")}


@pytest.mark.parametrize("body, words", [
    ("pass", "reports no error"),
    ("largest_error(float('nan'))", "An error is a finite number"),
    ("largest_error(-1e-3)", "An error is a finite number"),
    ("largest_error(0.1, 'eq-a-two')", "does not name eq-a-two"),
])
def test_a_test_that_reports_badly_fails(project, body, words):
    (project.path / "tests" / "test_a.py").write_text(
        "import pytest\n\n@pytest.mark.equation('eq-a-one', how='autograd')\n"
        f"def test_it(largest_error):\n    {body}\n"
    )
    result = run(project, "tests")
    result.assert_outcomes(failed=1)
    assert words in result.stdout.str()
    assert errors(project) == {}


# ------------------------------------------------------------------ the mark in the page

@pytest.mark.parametrize(
    "error, text",
    [
        (3.1e-16, "3.1·10⁻¹⁶"),
        (2e-16, "2·10⁻¹⁶"),
        (0.0, "exact"),
        (0.031, "0.031"),
        (1.2, "1.2"),
        (312.0, "310"),
        (31000.0, "3.1·10⁴"),
    ],
)
def test_errors_are_shown_for_a_reader(error, text):
    assert verified.show_error(error) == text


def test_the_page_shows_how_each_equation_is_known_and_links_to_the_test(tmp_path):
    root = book(tmp_path)
    (root / "results" / "equations.json").write_text(json.dumps(
        {"eq-a-result": {"enumeration": {"error": 3.1e-16, "tests": ["tests/test_a.py::test_result"]}}}))
    built = small_book.build(root, "verified")
    assert built.warnings == ""
    page = built.page("book/01-a")
    assert '<p class="nem-verified">definition</p>' in page
    assert (
        f'href="{small_book.ADDRESS}/blob/main/tests/test_a.py#L5" title="tests/test_a.py::test_result"'
        in page
    )
    assert "enumeration, <span class=\"nem-hidden\">largest error </span>3.1·10⁻¹⁶" in page
    assert page.index("eq-a-result") < page.index("3.1·10⁻¹⁶")
    assert (built.folder / "_static" / "marks.css").exists()
    assert built.app.env.toc_fignumbers["book/01-a"]["displaymath"] == {"equation-eq-a-definition": (1, 1),
                                                                        "equation-eq-a-result": (1, 2)}


def test_an_equation_that_nothing_verifies_fails_a_strict_build(tmp_path):
    built = small_book.build(book(tmp_path, test=""), "verified")
    assert "eq-a-result is neither verified by a test nor a definition" in built.warnings


def test_a_test_that_has_not_run_yet_is_said_so(tmp_path):
    assert "enumeration, not run yet" in small_book.build(book(tmp_path), "verified").page("book/01-a")
