"""What stands behind the look: the road on the first page, the mended HTML, and when a chapter runs again."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path

import pytest
import yaml
from small_book import build, write_book

ROOT = Path(__file__).resolve().parent.parent

import execution  # noqa: E402  (book/_ext; small_book puts it on the path)
import offline  # noqa: E402
import road  # noqa: E402


def load_build():
    spec = importlib.util.spec_from_file_location("tools_build", ROOT / "tools" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- the road -----------------------------------------------------------------------------------------------

STEP = """```{{road}}
- page: book/there
  number: "1"
  title: A chapter that exists
  idea: It can be read.
  hidden: nothing.
  glyph: {glyph}
- page: book/elsewhere
  number: "2"
  title: A chapter that does not
  idea: It will be.
  hidden: much.
  glyph: slots
```
"""


THERE = """# There

Let $x$, $y$ and ($z$) be. It is $2^n$.

:::{prf:proof}
It is so.
:::

:::{prf:remark}
:label: r-one
One.
:::

:::{prf:remark}
:label: r-two
Two.
:::

{cite:p}`geman1984`

```{bibliography}
```
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    pages = {"there": THERE, "front": "# Front\n\n" + STEP.format(glyph="field")}
    root = write_book(tmp_path_factory.mktemp("small"), pages)
    return build(root, "sphinx_thebe", "offline", "road", nitpicky=False, thebe_config={"always_load": True})


def test_only_a_chapter_that_exists_is_a_link(small):
    page = small.page("book/front")
    words = page[page.index('class="road'):page.index("elsewhere") if "elsewhere" in page else None]
    assert re.search(r'<a class="reference internal" href="there.html"><[^>]*>A chapter that exists</', words)
    assert "elsewhere.html" not in page
    assert page.count("to come") == 1


def test_the_road_is_a_list_of_words_with_drawings_that_are_not_read_aloud(small):
    page = small.page("book/front")
    assert page.count('class="rail"') == page.count('class="glyph"') == 2
    assert page.count("<svg class=\"rail\" width=\"72\" aria-hidden=\"true\"") == 2
    assert "<em>Hidden:</em> nothing." in page


def test_a_step_that_is_not_complete_stops_the_build(tmp_path):
    built = build(write_book(tmp_path / "b", {"there": "# T\n\n" + STEP.format(glyph="spiral")}), "road")
    assert "A step of the road needs" in built.warnings and "spiral" in built.warnings


def test_the_first_page_tells_of_nine_steps_and_each_has_its_own_drawing():
    text = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    steps = yaml.safe_load(text.split("```{road}\n")[1].split("```")[0])
    assert len(steps) == 9
    assert {step["glyph"] for step in steps} == set(road.GLYPHS) == set(road.RAILS)


def test_every_chapter_of_the_table_of_contents_stands_on_the_road():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    numbered = [part["chapters"] for part in toc["parts"] if part.get("numbered")]
    chapters = {chapter["file"] for part in numbered for chapter in part}
    text = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    assert {chapter for chapter in chapters if f"page: {chapter}\n" not in text} == set()


# --- the mended HTML ----------------------------------------------------------------------------------------


def test_a_full_stop_stays_with_its_formula(small):
    page = small.page("book/there")
    assert page.count('<span class="nem-together">') == 3
    formula = r'<span class="math notranslate nohighlight">\(z\)</span>'
    assert f'<span class="nem-together">({formula})</span>' in page


def test_boxes_have_no_repeated_ids_and_a_proof_is_named(small):
    page = small.page("book/there")
    assert 'id="proof-content"' not in page and 'id="proof"' not in page
    assert '<span class="proof-word">Proof.</span> It is so.' in page


def test_pages_bring_no_thebe_and_no_font_awesome(small):
    page = small.page("book/there")
    assert "thebe" not in page.lower() and "fontawesome" not in page
    assert not list(small.folder.rglob("*.map")) and not list(small.folder.rglob("fa-*.woff2"))
    css = (small.folder / "_static" / "styles" / "pydata-sphinx-theme.css").read_text(encoding="utf-8")
    assert "Font Awesome 6" not in "".join(offline.FONT_AWESOME_FACE.findall(css))
    assert not offline.FONT_AWESOME_RULE.search(css)


def test_without_our_extension_they_would(tmp_path):
    root = write_book(tmp_path / "b", {"there": "# T\n\nWords.\n"})
    built = build(root, "sphinx_thebe", thebe_config={"always_load": True})
    page = built.page("book/there")
    assert "thebe" in page.lower() and "fontawesome" in page and list(built.folder.rglob("*.map"))


def test_the_bibliography_has_no_role_that_its_elements_may_not_have(small):
    assert 'role="list"' not in small.page("book/there") and "doc-biblioentry" not in small.page("book/there")


# --- when a chapter runs again ------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path) -> Path:
    for name in ("nemlib/gibbs.py", "nemlib/data/shapes.py", "data/mnist.h5", "results/ising/full-seed0.json",
                 "results/equations.json", "requirements.lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize("changed", ["nemlib/gibbs.py", "nemlib/data/shapes.py", "data/mnist.h5",
                                     "results/ising/full-seed0.json", "requirements.lock"])
def test_a_change_that_can_change_an_output_makes_a_chapter_run_again(tree, changed):
    before = execution.execution_key(tree, "smoke")
    (tree / changed).write_text("something else")
    assert execution.execution_key(tree, "smoke") != before


def test_a_new_file_a_new_name_and_another_budget_count(tree):
    keys = {execution.execution_key(tree, "smoke"), execution.execution_key(tree, "book")}
    (tree / "nemlib" / "rbm.py").write_text("")
    keys.add(execution.execution_key(tree, "book"))
    (tree / "nemlib" / "rbm.py").rename(tree / "nemlib" / "made.py")
    keys.add(execution.execution_key(tree, "book"))
    assert len(keys) == 4


def test_what_the_tests_write_and_what_python_caches_do_not_count(tree):
    before = execution.execution_key(tree, "smoke")
    (tree / "results" / "equations.json").write_text("new errors")
    (tree / "nemlib" / "__pycache__").mkdir()
    (tree / "nemlib" / "__pycache__" / "gibbs.pyc").write_text("x")
    assert execution.execution_key(tree, "smoke") == before


def test_old_caches_are_forgotten_and_the_present_one_never(tmp_path):
    for age in range(9):
        (tmp_path / f"smoke-{age}").mkdir()
        os.utime(tmp_path / f"smoke-{age}", (1000 + age, 1000 + age))
    execution.forget_old_caches(tmp_path, keep="smoke-0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["smoke-0", "smoke-6", "smoke-7", "smoke-8"]


# --- tools/build.py -----------------------------------------------------------------------------------------


def test_a_wrong_budget_is_named(monkeypatch):
    tools = load_build()
    monkeypatch.setenv("BUDGET", "huge")
    with pytest.raises(tools.BuildFailed, match="BUDGET is 'huge': choose one of smoke, book, full"):
        tools.budget()


def test_missing_assets_are_named_with_what_to_do(monkeypatch, tmp_path):
    tools = load_build()
    monkeypatch.setattr(tools, "VENDOR", tmp_path / "vendor")
    monkeypatch.setattr(tools, "NODE", tmp_path / "node_modules")
    with pytest.raises(tools.BuildFailed, match=r"node_modules/mathjax/es5/tex-chtml.js is missing.*npm ci"):
        tools.vendor_assets()


def test_assets_are_copied_once(monkeypatch, tmp_path):
    tools = load_build()
    monkeypatch.setattr(tools, "VENDOR", tmp_path / "vendor")
    tools.vendor_assets()
    names = {path.relative_to(tmp_path / "vendor").as_posix() for path in (tmp_path / "vendor").rglob("*")}
    assert {"mathjax/tex-chtml.js", "widgets/embed.js"} <= names
    assert "fonts/source-serif-4-latin-opsz-normal.woff2" in names
    monkeypatch.setattr(tools, "NODE", tmp_path / "gone")
    tools.vendor_assets()


def test_every_font_of_the_style_sheet_is_copied(tmp_path):
    tools = load_build()
    tools.vendor_assets()
    style = (ROOT / "book" / "_static" / "fonts.css").read_text(encoding="utf-8")
    wanted = set(re.findall(r"fonts/([\w-]+\.woff2)", style))
    assert wanted == {path.name for path in (tools.VENDOR / "fonts").iterdir()}


def test_the_fingerprint_knows_budget_and_sources(monkeypatch, tmp_path):
    tools = load_build()
    monkeypatch.setattr(tools, "ROOT", tmp_path)
    (tmp_path / "book" / "vendor").mkdir(parents=True)
    (tmp_path / "book" / "index.md").write_text("a")
    monkeypatch.setenv("BUDGET", "smoke")
    first = tools.fingerprint()
    (tmp_path / "book" / "vendor" / "copied.js").write_text("x")
    assert tools.fingerprint() == first
    (tmp_path / "book" / "index.md").write_text("b")
    second = tools.fingerprint()
    monkeypatch.setenv("BUDGET", "book")
    assert len({first, second, tools.fingerprint()}) == 3


@pytest.mark.parametrize("line, helps", [
    ("/here/book/a.md:79: WARNING: equation not found: eq-nope", True),
    ("ZeroDivisionError: division by zero", True),
    ("----> 1 1/0", True),
    ("build finished with problems, 1 warning.", True),
    ("reading sources... [ 50%] book/a", False),
    ("loading pickled environment... done", False),
    ("myst v3.0.1: MdParserConfig(commonmark_only=False)", False),
    ("/here/book/a.ipynb: Executing notebook using local CWD [mystnb]", False),
    ("", False),
])
def test_a_failing_build_shows_what_helps(line, helps):
    assert bool(load_build().NOISE.search(line)) is not helps


def test_the_repository_stands_in_one_place_and_sphinx_extensions_are_all_there():
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert config["repository"]["url"].startswith("https://github.com/")
    for name, folder in config["sphinx"]["local_extensions"].items():
        assert (ROOT / folder / f"{name}.py").is_file(), name
    assert "cdn" not in (ROOT / "_config.yml").read_text(encoding="utf-8").lower()
    assert sys.version_info >= (3, 11)
