"""A book of a page or two, built by Sphinx as jupyter-book would, for the tests of our extensions."""

from __future__ import annotations

import gc
import io
import sys
import weakref
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

all_objects = gc.get_objects
ROOT = Path(__file__).resolve().parents[1]
ADDRESS = "https://github.com/reader/example"
BIBLIOGRAPHY = """@article{geman1984,
  author = {Geman, Stuart and Geman, Donald}, title = {Stochastic relaxation}, journal = {PAMI},
  year = {1984}, doi = {10.1109/TPAMI.1984.4767596}}
"""
for folder in ("book/_ext", "tools"):
    if str(ROOT / folder) not in sys.path:
        sys.path.append(str(ROOT / folder))


@dataclass
class Built:
    """What a build leaves: the HTML folder, its warnings, and Sphinx's environment."""

    folder: Path
    warnings: str
    app: Sphinx

    def page(self, name: str) -> str:
        return (self.folder / f"{name}.html").read_text(encoding="utf-8")


def markdown(text: str, *tags: str):
    return new_markdown_cell(text, metadata={"tags": list(tags)} if tags else {})


def code(source: str, *tags: str, **metadata):
    return new_code_cell(source, metadata={"tags": list(tags), **metadata} if tags else metadata)


def notebook(*cells) -> nbformat.NotebookNode:
    """A notebook with stable cell ids, as our sources have them."""
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(
        cells=list(cells), metadata={"kernelspec": kernel, "language_info": {"name": "python"}}
    )


def write_book(root: Path, pages: dict[str, str | nbformat.NotebookNode]) -> Path:
    """Write a book whose chapters are `pages`, in order; a text is a Markdown page, else it is a notebook."""
    (root / "book").mkdir(parents=True)
    (root / "tests").mkdir()
    (root / "results").mkdir()
    chapters = "\n".join(f"- file: book/{name}" for name in pages)
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/index\noptions: {numbered: true}\n"
                                   f"chapters:\n{chapters}\n")
    (root / "_config.yml").write_text(f"title: A book\nrepository: {{url: '{ADDRESS}', branch: main}}\n")
    (root / "book" / "index.md").write_text("# A book\n\nWords.\n")
    (root / "book" / "references.bib").write_text(BIBLIOGRAPHY)
    for name, content in pages.items():
        if isinstance(content, str):
            (root / "book" / f"{name}.md").write_text(content)
        else:
            nbformat.write(content, root / "book" / f"{name}.ipynb")
    return root


def living_objects() -> list:
    """What `gc.get_objects` returns, without weak proxies.

    sphinx_external_toc asks every object of the process for its class, and a weak proxy whose object
    has died answers that with a ReferenceError. Other tests of the same process leave such proxies.
    """
    return [thing for thing in all_objects() if type(thing) not in weakref.ProxyTypes]


def build(root: Path, *extensions: str, execute: bool = False, **settings) -> Built:
    """Build the book in `root` with our extensions; warnings are kept, not raised."""
    warnings = io.StringIO()
    overrides = {
        "extensions": [
            "myst_nb",
            "sphinx_external_toc",
            "sphinx_multitoc_numbering",
            "sphinx_design",
            "sphinxcontrib.bibtex",
            "sphinx_exercise",
            "sphinx_proof",
            *extensions,
        ],
        "external_toc_path": "_toc.yml",
        "external_toc_exclude_missing": True,
        "numfig": True,
        "math_numfig": True,
        "myst_enable_extensions": ["amsmath", "colon_fence", "dollarmath"],
        "bibtex_bibfiles": ["book/references.bib"],
        "nb_execution_mode": "force" if execute else "off",
        "html_theme": "sphinx_book_theme",
        "nitpicky": True,
        "html_theme_options": {
            "repository_url": ADDRESS,
            "repository_branch": "main",
            "use_download_button": True,
            "launch_buttons": {"colab_url": "https://colab.research.google.com"},
        },
        "exclude_patterns": ["_build", "tests", "results"],
        **settings,
    }
    with patch_docutils(), docutils_namespace(), mock.patch.object(gc, "get_objects", living_objects):
        app = Sphinx(root, None, root / "_build" / "html", root / "_build" / "doctrees", "html",
                     confoverrides=overrides, status=None, warning=warnings)
        app.build()
    return Built(root / "_build" / "html", warnings.getvalue(), app)
