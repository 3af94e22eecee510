"""A chapter's number is the number in its file's name: ``book/08-neural-em`` is chapter 8, whichever chapters exist.

Sphinx counts the pages of a numbered table of contents, so a book without its chapters 2 to 7 would call
chapter 8 the second. Figures, equations, exercises and theorems take their chapter's number from the same
place and follow.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx_external_toc.collectors import TocTreeCollectorWithStyles as TocTreeCollector

NUMBER = re.compile(r"(?:.*/)?0*(\d+)-")


def chapter_number(page: str) -> int | None:
    """8 for ``book/08-neural-em``; None for a page without a number in its name."""
    found = NUMBER.match(page)
    return int(found[1]) if found else None


def renumber(env: BuildEnvironment, page: str, number: int) -> None:
    """Put `number` in the first place of every section number of a page."""
    numbers = env.toc_secnumbers[page]
    env.toc_secnumbers[page] = {anchor: known and (number, *known[1:]) for anchor, known in numbers.items()}
    for node in (*env.tocs[page].findall(nodes.reference), env.titles[page]):
        if node.get("secnumber"):
            node["secnumber"] = [number, *node["secnumber"][1:]]


def by_name(counted: Callable) -> Callable:
    """Sphinx's way to number sections, followed by ours."""
    def assign_section_numbers(collector: TocTreeCollector, env: BuildEnvironment) -> list[str]:
        before = env.toc_secnumbers
        counted(collector, env)
        for page in env.toc_secnumbers:
            number = chapter_number(page)
            if number is not None:
                renumber(env, page, number)
        return [page for page, numbers in env.toc_secnumbers.items() if numbers != before.get(page)]

    return assign_section_numbers


def setup(app: Sphinx) -> dict[str, object]:
    counted = TocTreeCollector.assign_section_numbers

    def put(way: Callable) -> None:
        TocTreeCollector.assign_section_numbers = way

    app.connect("builder-inited", lambda app: put(by_name(counted)))
    app.connect("build-finished", lambda app, exception: put(counted))      # the class outlives the build
    return {"parallel_read_safe": True, "parallel_write_safe": True}
