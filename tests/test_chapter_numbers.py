"""A chapter has the number that its file's name gives it, and so have its sections, figures and equations."""

import re

import pytest
import small_book
from sphinx_external_toc.collectors import TocTreeCollectorWithStyles as TocTreeCollector

import chapter_numbers

CHAPTER = """# {title}

## A section

$$ a = b $$ (eq-{label})

See {{eq}}`eq-{label}`.
"""
NUMBERED = {"numfig": True, "math_numfig": True, "math_eqref_format": "({number})"}


@pytest.mark.parametrize("page, number", [
    ("book/08-neural-em", 8), ("book/01-gibbs", 1), ("12-last", 12), ("book/notation", None), ("book/0x-a", None),
])
def test_the_number_is_in_the_name(page, number):
    assert chapter_numbers.chapter_number(page) == number


def numbered(tmp_path):
    return small_book.write_book(tmp_path / "book", {
        "01-first": CHAPTER.format(title="First", label="one"), "08-last": CHAPTER.format(title="Last", label="two"),
    })


def test_a_gap_in_the_chapters_is_a_gap_in_the_numbers(tmp_path):
    built = small_book.build(numbered(tmp_path), "chapter_numbers", **NUMBERED)
    page = built.page("book/08-last")
    assert re.findall(r'section-number">([\d.]+)', page.split("<article")[1])[:2] == ["8.", "8.1."]
    assert "(8.1)" in page and "(1.1)" in built.page("book/01-first")


def test_without_the_extension_the_second_page_is_chapter_2(tmp_path):
    built = small_book.build(numbered(tmp_path), **NUMBERED)
    assert "(2.1)" in built.page("book/08-last")


def test_only_a_page_whose_numbers_changed_is_read_again(tmp_path):
    env = small_book.build(numbered(tmp_path), "chapter_numbers", **NUMBERED).app.env
    assign, collector = chapter_numbers.by_name(TocTreeCollector.assign_section_numbers), TocTreeCollector()
    assert assign(collector, env) == []
    env.toc_secnumbers["book/08-last"] = {}
    assert assign(collector, env) == ["book/08-last"]
