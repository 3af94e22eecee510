"""What a page carries with it, so that it asks the network for nothing, and what it leaves behind.

MathJax, the widget manager and the fonts come out of ``book/vendor``, which tools/build.py fills from
``node_modules``. This extension takes away what the theme and jupyter-book add beside them:

* thebe (jupyter-book loads its scripts twice, which is an error on every page, and thebe comes from a CDN),
* Font Awesome (1.5 MB of script for a dozen icons; ``book.css`` draws the icons that the pages use),
* source maps and fonts that no page asks for.

It also mends the HTML of sphinx-proof and sphinx-exercise, which give the same id to every box, and what a
screen reader would stumble over in the theme's.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx

# Before the first paint, so that a page does not flash white on a dark screen.
EARLY_THEME = ("(function(d){if(d.theme!=='light'&&d.theme!=='dark')"
               "d.theme=matchMedia('(prefers-color-scheme: dark)').matches?'dark':'light'})"
               "(document.documentElement.dataset);")
FONT_AWESOME_TAG = re.compile(r"\s*(?:<!-- So that users can add custom icons -->\s*)?"
                              r"<script[^>]*scripts/fontawesome\.js[^>]*></script>")
FONT_AWESOME_FACE = re.compile(r"@font-face\s*\{[^}]*[Ff]ont ?[Aa]wesome[^}]*\}")
FONT_AWESOME_RULE = re.compile(r'(?:\.fa-[\w-]+:(?:before|after),?)+\{content:"[^"]*"\}')
UNUSED = ("**/*.map", "**/*.LICENSE.txt", "scripts/fontawesome.js", "vendor/fontawesome", "stamp",
          "readme.png", "webpack-macros.html", "sbt-webpack-macros.html", "play-solid.svg", "locales",
          "images/logo_binder.svg", "images/logo_deepnote.svg", "images/logo_jupyterhub.svg")
REPEATED_ID = re.compile(r' id="(?:proof|exercise|solution)(?:-content)?"')
CITATION_ROLE = re.compile(r' role="doc-biblioentry"|(?<=<div) role="list"(?= class="citation-list")')
WRONG_NAME = re.compile(r'(?<=<summary) aria-label="Toggle hidden content"')
SIDEBAR = re.compile(r'<div id="pst-primary-sidebar"(?! role)')
NAMED_SIDEBAR = '<div id="pst-primary-sidebar" role="complementary" aria-label="Contents"'
FORMULA_AND_MARK = re.compile(r'[(\[“‘]?<span class="math notranslate nohighlight">\\\('
                              r'(?:(?!</?span).)*?\\\)</span>(?:[.,;:!?)\]’”]|-\w+)+', re.DOTALL)
PROOF_WORD = re.compile(r'(<div class="proof admonition">\s*<p>)Proof\. ')


def leave_out_thebe(app: Sphinx) -> None:
    """Take sphinx-thebe's handlers out of Sphinx's events: no script, style sheet or settings in a page."""
    app.registry.css_files[:] = [entry for entry in app.registry.css_files if "thebe" not in entry[0]]
    for listeners in app.events.listeners.values():
        listeners[:] = [one for one in listeners if not one.handler.__module__.startswith("sphinx_thebe")]


def mend_page(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    """No id twice, no role that its element may not have, no line that begins with a formula's full stop."""
    body = WRONG_NAME.sub("", CITATION_ROLE.sub("", REPEATED_ID.sub("", context.get("body", ""))))
    body = FORMULA_AND_MARK.sub(r'<span class="nem-together">\g<0></span>', body)
    context["body"] = PROOF_WORD.sub(r'\1<span class="proof-word">Proof.</span> ', body)


def trim(app: Sphinx, exception: Exception | None) -> None:
    """Remove what no page asks for from what is shipped."""
    if exception or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    for pattern in UNUSED:
        for path in static.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for style in (static / "styles").glob("*.css"):
        replace(style, FONT_AWESOME_FACE)
        replace(style, FONT_AWESOME_RULE)
    for page in Path(app.outdir).rglob("*.html"):
        replace(page, FONT_AWESOME_TAG)
        replace(page, SIDEBAR, NAMED_SIDEBAR)


def replace(file: Path, pattern: re.Pattern, by: str = "") -> None:
    text = file.read_text(encoding="utf-8")
    mended = pattern.sub(by, text)
    if mended != text:
        file.write_text(mended, encoding="utf-8")


def setup(app: Sphinx) -> dict:
    leave_out_thebe(app)
    app.add_js_file(None, body=EARLY_THEME, priority=1)
    app.connect("html-page-context", mend_page, priority=900)
    app.connect("build-finished", trim, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
