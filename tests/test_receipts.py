"""What a chapter says of its cost is counted and measured, and each figure names its budget."""

import importlib.util

import pytest
import chapter_receipt
import small_book
from small_book import code, markdown

SVG = """from IPython.display import SVG
SVG('<svg xmlns="http://www.w3.org/2000/svg"><circle r="9"/></svg>')"""
CAPTION = {
    "mystnb": {"image": {"alt": "a circle"}, "figure": {"caption": "A circle.", "name": "fig-a-circle"}}
}


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("receipts_tool", small_book.ROOT / "tools" / "receipts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def chapter():
    return small_book.notebook(
        code("setup = 1", "remove-cell", "setup"),
        markdown(
            "# A chapter\n\n```{receipt}\n```\n\nFour words of prose, $x = y$.\n\n"
            "$$ a = 1 $$ (eq-a-one)\n% definition\n"
        ),
        code("# a comment\nheld = bytearray(300 * 2**20)\n\nx = 1"),
        code(SVG, **CAPTION),
        code(SVG, "recorded", mystnb={"image": {"alt": "a circle"}}),
        markdown(
            "```{exercise}\n:label: ex-a-one\n\nTwo words.\n```\n\n"
            "```{solution} ex-a-one\n\nNot counted.\n```\n"
        ),
        markdown("```{solution-start} ex-a-one\n```\nNot counted either."),
        code("not_counted = 1", "solution"),
        markdown("```{solution-end}\n```"),
    )


def book(tmp_path):
    return small_book.write_book(tmp_path / "book", {"01-a": chapter()})


def test_reading_counts_what_is_seen(tmp_path):
    found = chapter_receipt.reading(book(tmp_path) / "book" / "01-a.ipynb")
    assert found == chapter_receipt.Reading(words=9, formulas=1, lines=6, figures=2)
    assert chapter_receipt.Reading(4000, 60, 400, 12).minutes == 65


@pytest.mark.parametrize("seconds, text", [(7.2, "8 s"), (99.0, "99 s"), (131, "2 min 20 s"), (180, "3 min"),
                                           (4000, "1 h 6 min")])
def test_durations_are_for_people(seconds, text):
    assert chapter_receipt.duration(seconds) == text


def test_a_chapter_is_measured_and_its_page_prints_the_receipt(tmp_path, tool, monkeypatch):
    root = book(tmp_path)
    path = root / "book" / "01-a.ipynb"
    receipt = tool.measure(path, "book")
    assert 300 < receipt["memory_mib"] < 700 and 0 < receipt["seconds"] < 60
    tool.store("01-a", "book", receipt | {"hardware": "a test machine", "seconds": 131}, root)
    monkeypatch.setenv("BUDGET", "smoke")
    built = small_book.build(root, "chapter_receipt", execute=True)
    assert built.warnings == ""
    page = built.page("book/01-a")
    assert "9 words" in page and "2 min 20 s and 0." in page and "measured on a test machine." in page
    assert "Running, budget full</strong>: not measured on a GPU yet." in page
    assert 'A circle. <span class="nem-budget">Made in budget smoke.</span>' in page
    assert '<p class="nem-budget">From a recorded run.</p>' in page


def test_a_receipt_of_other_code_says_so(tmp_path):
    root = book(tmp_path)
    path = root / "book" / "01-a.ipynb"
    receipt = {
        "seconds": 8,
        "memory_mib": 512,
        "hardware": "a test machine",
        "code": chapter_receipt.fingerprint(path),
    }
    assert "earlier version" not in chapter_receipt.running(path, "book", receipt)
    path.write_text(path.read_text().replace("x = 1", "x = 2"))
    assert "for an earlier version of this chapter" in chapter_receipt.running(path, "book", receipt)


def test_a_new_address_in_the_set_up_cell_leaves_the_receipt_valid(tmp_path):
    path = book(tmp_path) / "book" / "01-a.ipynb"
    before = chapter_receipt.fingerprint(path)
    path.write_text(path.read_text().replace("setup = 1", "setup = 2"))
    assert chapter_receipt.fingerprint(path) == before


def test_the_receipts_of_the_book_are_of_its_chapters():
    chapters = {path.stem for path in (small_book.ROOT / "book").glob("*.ipynb")}
    for chapter, budgets in chapter_receipt.measured().items():
        assert chapter in chapters
        assert set(budgets) <= set(chapter_receipt.MACHINES)
