"""The built book, as its readers get it: built without a warning, then every page opened in a browser.

One headless browser opens all pages (tests/browser/pages.mjs); each test below looks at one kind of fault.
The mutants at the end are pages with one fault each, and show that the checker sees it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHECKER = ROOT / "tests" / "browser" / "pages.mjs"
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
TIMEOUT = 700       # seconds for all pages: a chapter takes the better part of a minute

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


def tool(name: str):
    """A module of tools/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def book() -> Path:
    """The folder of the pages, in budget smoke unless $BUDGET says otherwise; built if out of date."""
    os.environ.setdefault("BUDGET", "smoke")
    build = tool("build")
    try:
        return build.build_for_tests()
    except build.BuildFailed as error:
        pytest.fail(str(error), pytrace=False)


def open_pages(root: Path, pages: Iterable[str], folder: Path, **settings) -> list[dict[str, str]]:
    """What is wrong with these pages below `root`: a list of {page, kind, message}."""
    chrome = tool("install").find_browser()
    if chrome is None:
        pytest.fail("No browser was found: install Chrome or Chromium, or name one with CHROME=/path/to/it.",
                    pytrace=False)
    file = folder / "settings.json"
    settings |= {"chrome": chrome, "root": str(root), "pages": list(pages), "axe": str(AXE)}
    file.write_text(json.dumps(settings))
    done = subprocess.run(["node", str(CHECKER), str(file)], cwd=ROOT, capture_output=True, text=True,
                          timeout=TIMEOUT)
    if done.returncode:
        pytest.fail(f"The page checker stopped: {done.stderr[-2000:]}", pytrace=False)
    return json.loads(done.stdout)


def page_names(book: Path) -> list[str]:
    return sorted(path.relative_to(book).as_posix() for path in book.rglob("*.html")
                  if "_static" not in path.parts and path != book / "index.html")


@pytest.fixture(scope="module")
def findings(book: Path, tmp_path_factory) -> list[dict[str, str]]:
    return open_pages(book, page_names(book), tmp_path_factory.mktemp("pages"), searchFor="gibbs")


def fail_if(findings: list[dict[str, str]], *kinds: str) -> None:
    lines = sorted({f"{one['page']}, {one['message']}" for one in findings if one["kind"] in kinds})
    assert not lines, "\n" + "\n".join(lines)


# --- the book -----------------------------------------------------------------------------------------------


def test_the_book_builds_without_a_warning(book):
    assert (book / "book" / "index.html").exists()


def test_no_page_asks_the_network(findings):
    fail_if(findings, "network")


def test_nothing_that_a_page_asks_for_is_missing(findings):
    fail_if(findings, "missing")


def test_no_page_has_an_error_on_the_console(findings):
    fail_if(findings, "console")


def test_every_formula_is_typeset(findings):
    fail_if(findings, "formula")


def test_every_picture_loads_and_has_an_alternative_text(findings):
    fail_if(findings, "picture", "icon")


def test_no_cell_shows_an_error_or_the_name_of_a_figure(findings):
    fail_if(findings, "output")


def test_accessibility_in_light_and_dark(findings):
    fail_if(findings, "accessibility")


def test_no_page_scrolls_sideways(findings):
    fail_if(findings, "scroll")


def test_the_search_finds_from_a_file_and_from_a_server(findings):
    fail_if(findings, "search")


# --- room: what is wide scrolls in its own box -------------------------------------------------------------

LAYOUT = ROOT / "tests" / "browser" / "layout.mjs"
# Style sheets that undo what the book's own does.
LAYOUT_MUTANTS = {
    "plot": ".nem-plot > img { width: auto !important; max-width: 100% !important }",
    "caption": "figcaption { width: 34rem !important; max-width: none !important }",
    "table": "table.nem-numbers { width: auto !important }",
    "formula": "mjx-container[display] { overflow: visible !important; min-width: 60rem !important }",
    "code": ".bd-article pre { font-size: 1rem !important }",
}


@pytest.fixture(scope="module")
def layout(book: Path, tmp_path_factory) -> dict[str, list[dict[str, str]]]:
    """What has too little room in chapter 1, as the book lays it out ("") and under each mutant."""
    file = tmp_path_factory.mktemp("layout") / "settings.json"
    chrome = tool("install").find_browser()
    file.write_text(json.dumps({"chrome": chrome, "page": (book / "book" / "01-gibbs.html").as_uri(),
                                "styles": {"": ""} | LAYOUT_MUTANTS}))
    done = subprocess.run(["node", str(LAYOUT), str(file)], cwd=ROOT, capture_output=True, text=True,
                          timeout=TIMEOUT)
    assert not done.returncode, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_everything_has_room_on_a_phone_and_between_two_sidebars(layout):
    assert not layout[""], "\n" + "\n".join(one["message"] for one in layout[""])


@pytest.mark.parametrize("name", LAYOUT_MUTANTS)
def test_the_check_of_the_layout_sees_the_fault(layout, name):
    assert name in {one["kind"] for one in layout[name]}


# --- links --------------------------------------------------------------------------------------------------


@dataclass
class Page(HTMLParser):
    """The ids of a page, where its links go, and ids that occur twice."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    repeated: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id" and value:
                (self.repeated if value in self.ids else self.ids).add(value)
            if name in ("href", "src") and value:
                self.links.append(value)

    __hash__ = object.__hash__


def read_page(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def broken_links(root: Path, names: Iterable[str]) -> list[str]:
    """Links to files or anchors below `root` that are not there."""
    pages = {name: read_page(root / name) for name in names}
    wrong = []
    for name, page in pages.items():
        for link in sorted(set(page.links)):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link.startswith("data:"):
                continue
            target = (root / name).parent / unquote(parts.path) if parts.path else root / name
            if not target.resolve().is_file():
                wrong.append(f"{name} links to {link}, and there is no such file")
            elif parts.fragment and target.suffix == ".html":
                key = target.resolve().relative_to(root.resolve()).as_posix()
                other = pages.get(key) or read_page(target)
                if unquote(parts.fragment) not in other.ids:
                    wrong.append(f"{name} links to {link}, and {key} has no such anchor")
    return wrong


def test_every_internal_link_and_anchor_resolves(book):
    wrong = broken_links(book, [*page_names(book), "index.html"])
    assert not wrong, "\n" + "\n".join(wrong)


def test_no_id_occurs_twice(book):
    twice = {name: sorted(read_page(book / name).repeated) for name in page_names(book)}
    assert not any(twice.values()), {name: ids for name, ids in twice.items() if ids}


def test_what_is_shipped_is_small_and_has_no_leftovers(book):
    files = [path for path in (book / "_static").rglob("*") if path.is_file()]
    assert [path.name for path in files if path.suffix in (".map", ".ttf", ".eot")] == []
    assert [path.name for path in files if "thebe" in path.name or "fontawesome" in path.name] == []
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    assert megabytes < 7, f"the pages carry {megabytes:.1f} MB of scripts, fonts and styles"


# --- mutants: each page has one fault -----------------------------------------------------------------------

SHELL = """<!DOCTYPE html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>A page</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<style>body {{ background: #fff; color: #111 }} html[data-theme=dark] body {{ background: #111; color: #eee }}
{style}</style></head><body><main class="bd-main"><article class="bd-article"><h1>A page</h1>
{body}</article></main>{end}</body></html>"""
DRAWING = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/%3E"
PICTURE = f'<img {{}} src="{DRAWING}">'

MUTANTS: dict[str, tuple[str | None, dict[str, str]]] = {
    "sound": (None, {"body": "<p>Nothing is wrong here.</p>" + PICTURE.format('alt="A small empty square"')}),
    "external picture": ("network", {"body": '<img alt="From elsewhere" src="https://example.org/a.png">'}),
    "external script": ("network", {"end": '<script src="https://example.org/a.js"></script>'}),
    "missing file": ("missing", {"body": '<img alt="A picture that is not there" src="nowhere.png">'}),
    "error on the console": ("console", {"end": "<script>console.error('something broke')</script>"}),
    "uncaught error": ("console", {"end": "<script>nothing.here</script>"}),
    "untypeset formula": ("formula", {"body": r"<p>Let \(x = 1\) be given.</p>"}),
    "formula in dollars": ("formula", {"body": r"<p>Let $\pi T = \pi$ be given.</p>"}),
    "raw reference": ("formula", {"body": "<p>See {eq}`eq-gibbs-invariance`.</p>"}),
    "formula that MathJax cannot read": ("formula", {"body": "<mjx-merror title='Undefined'>x</mjx-merror>"}),
    "picture without alt": ("picture", {"body": PICTURE.format("")}),
    "picture with an empty word for alt": ("picture", {"body": PICTURE.format('alt="figure"')}),
    "icon that is not drawn": ("icon", {"body": '<p><i class="fa-solid fa-none"></i> text</p>'}),
    "cell with a traceback": ("output", {"body": '<div class="output traceback"><pre>TypeError</pre></div>'}),
    "figure as text": ("output", {"body": '<div class="cell_output"><div class="output text_plain">'
                                          '<pre>&lt;Figure size 640x480&gt;</pre></div></div>'}),
    "faint text": ("accessibility", {"body": '<p style="color: #ddd; background: #fff">Can you read?</p>'}),
    "faint text in the dark": ("accessibility", {"body": "<p class='dim'>Who can read this?</p>",
                                                 "style": "html[data-theme=dark] .dim { color: #333 }"}),
    "button without a name": ("accessibility", {"body": "<button></button>"}),
    "too wide for a phone": ("scroll", {"body": '<div style="width: 600px">wide</div>'}),
}


@pytest.fixture(scope="module")
def mutant_findings(tmp_path_factory) -> dict[str, set[str]]:
    """For each mutant the kinds of fault that the checker finds."""
    folder = tmp_path_factory.mktemp("mutants")
    files = {name: f"{name.replace(' ', '-')}.html" for name in MUTANTS}
    for name, (_, parts) in MUTANTS.items():
        (folder / files[name]).write_text(SHELL.format(**{"body": "", "style": "", "end": ""} | parts))
    found = open_pages(folder, files.values(), folder, filesOnly=True)
    return {name: {one["kind"] for one in found if one["page"] == file} for name, file in files.items()}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_checker_sees_the_fault(mutant_findings, name):
    expected = MUTANTS[name][0]
    if expected is None:
        assert mutant_findings[name] == set()
    else:
        assert expected in mutant_findings[name], f"a page with {name} passed"


def test_a_broken_link_or_anchor_is_seen(tmp_path):
    links = '<a href="b.html#there">x</a><a href="c.html">y</a><a href="#here">z</a>'
    (tmp_path / "a.html").write_text(f'<p id="here">{links}</p>')
    (tmp_path / "b.html").write_text("<p>no anchor</p>")
    wrong = broken_links(tmp_path, ["a.html", "b.html"])
    assert len(wrong) == 2 and "no such anchor" in wrong[0] and "no such file" in wrong[1]
