"""The style that our quiet marks share: an equation's verification, a claim's tip, a chapter's receipt."""

from __future__ import annotations

from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

STYLE = Path(__file__).with_name("static") / "marks.css"


def add_style(app: Sphinx) -> None:
    """Ship marks.css with the pages; safe to call from several extensions."""
    if STYLE.name not in [name for name, _ in app.registry.css_files]:
        app.connect("config-inited", _add_folder)
        app.add_css_file(STYLE.name)


def _add_folder(app: Sphinx, config: Config) -> None:
    config.html_static_path = [*config.html_static_path, str(STYLE.parent)]
