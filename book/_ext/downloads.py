"""The pages' download and launch buttons lead to the Colab edition, in which no MyST is left.

The build writes the Colab editions beside its pages, into `notebooks/colab/`. The download button takes them
from there, also offline. Colab opens notebooks from GitHub, so its button names the branch on which the built
book is published (`nem_published_branch`, GitHub Pages' custom `gh-pages`).
"""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

import sources

FOLDER = "notebooks"
logger = logging.getLogger(__name__)


def write_editions(app: Sphinx, exception: Exception | None) -> None:
    """Write the Colab editions into the built book; a text without a plain form is a warning."""
    if exception or app.builder.format != "html":
        return
    sys.path.append(str(sources.ROOT / "tools"))
    import editions

    try:
        editions.write(Path(app.outdir) / FOLDER, editions=("colab",), root=Path(app.srcdir))
    except (editions.plain.Unknown, editions.WrongSource) as error:
        logger.warning(str(error), type="nem", subtype="edition")


def lead_to_editions(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Point a notebook page's buttons to its Colab edition."""
    if page not in app.env.found_docs or not app.env.doc2path(page).endswith(".ipynb"):
        return
    name = f"{FOLDER}/colab/{Path(page).name}.ipynb"
    address = app.config.html_theme_options.get("repository_url", "").rstrip("/")
    colab = (app.config.html_theme_options.get("launch_buttons") or {}).get("colab_url", "").rstrip("/")
    for button in _buttons(context.get("header_buttons", [])):
        if button.get("label") in ("download-source-button", "download-notebook-button"):
            button |= {
                "url": context["pathto"](name, 1),
                "text": ".ipynb",
                "tooltip": "Download this chapter as a notebook",
            }
        elif button.get("text") == "Colab":
            owner_and_name = address.removeprefix("https://github.com/")
            button["url"] = f"{colab}/github/{owner_and_name}/blob/{app.config.nem_published_branch}/{name}"


def _buttons(groups: list[dict]) -> list[dict]:
    return [button for group in groups for button in group.get("buttons", [group])]


def setup(app: Sphinx) -> dict:
    app.add_config_value("nem_published_branch", "gh-pages", "html", str)
    app.connect("html-page-context", lead_to_editions, priority=800)
    app.connect("build-finished", write_editions)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
