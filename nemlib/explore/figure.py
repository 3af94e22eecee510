"""One helper for every interactive figure: data, JavaScript and a still picture become one piece of HTML.

A figure needs nothing but itself: no network, no kernel, no file beside the page.  The same object stands
in the rendered book (from a server or from a file), in JupyterLab and on Colab.  Where scripts are off,
and on paper, its still picture says the same.

How an author adds one, for a chapter `rbm`:

1. Write the mathematics in `nemlib/explore/rbm_maths.js` and the drawing in `nemlib/explore/rbm_filters.js`.
   Each file is plain JavaScript around one free name, the namespace `nx` that all files of a figure share:

       nx.rbm = { freeEnergy: function (visible, weights) { … } };    // rbm_maths.js: numbers in, numbers out
       nx.build = function (stage) {                                  // rbm_filters.js: draws on the stage
         const weights = nx.unpack(stage.data.weights);               // a Float32Array with .shape
         const press = nx.button("Sample", () => { …; stage.say("What changed, in words."); });
         stage.live.append(press);
       };

2. Pack the data and give the still picture, in `nemlib/explore/rbm.py`:

       def filters(copy: int = 1) -> Figure:
           return Figure(
               name="rbm-filters", title="Filters of a trained RBM", copy=copy,
               scripts=("random.js", "rbm_maths.js", "rbm_filters.js", "rbm_filters.css"),
               data={"weights": pack(weights, "int8")},
               still=picture(figure, alt="What is to be seen."))

3. In the notebook `explore.filters()` is the last expression of a cell; a second copy on the same page
   says `copy=2`.  Test the mathematics with Node against Python, and the drawing in a browser:
   `tests/test_explore.py` shows how.

What a figure draws with (`runtime.js`): `nx.h` and `nx.s` make HTML and SVG elements, `nx.button`,
`nx.slider`, `nx.choice` and `nx.menu` controls with names, `nx.plot` axes, `nx.path` lines; `stage.say`
tells a screen reader what happened, `stage.onResize` and `stage.loop` redraw.  `figure.css` names the
colours: `--nx-blue`, `--nx-orange` and `--nx-green` hold in light and in dark and for a colour-blind reader.
"""

import base64
import html
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

HERE = Path(__file__).parent
LARGEST = 60_000   # bytes of HTML; a figure beyond this makes its page and its notebook slow
INK, MUTED, LINE = "#1c2430", "#566170", "#d3d9e0"
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"   # Okabe and Ito's blue, vermilion and bluish green


def pack(values: Any, kind: str = "float32") -> dict[str, Any]:
    """Numbers as base64 text for `nx.unpack`.

    values: array of any shape, finite.  kind: "float32", "float16" (relative error 5e-4), or "int8" with one
    scale for all (absolute error: largest magnitude / 254).  Raises ValueError for another kind, for values
    that are not finite, and for float16 values beyond 65504.
    """
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError("Only finite numbers can be packed: the array holds NaN or infinity.")
    scale = 1.0
    if kind == "int8":
        scale = float(np.abs(array).max(initial=0.0)) / 127 or 1.0
        stored = np.round(array / scale).astype("<i1")
    elif kind in ("float16", "float32"):
        with np.errstate(over="ignore"):
            stored = array.astype("<f2" if kind == "float16" else "<f4")
        if not np.isfinite(stored).all():
            largest = np.abs(array).max()
            raise ValueError(f"{largest:g} is too large for {kind}: pack it as float32 or scale it.")
    else:
        raise ValueError(f"kind is {kind!r}: it should be 'float32', 'float16' or 'int8'.")
    return {"kind": kind, "shape": list(array.shape), "scale": scale,
            "base64": base64.b64encode(stored.tobytes()).decode("ascii")}


def picture(figure: Any, alt: str) -> str:
    """A matplotlib figure as a self-contained <img> for paper and for pages without scripts; closes it.

    The picture is SVG with its own white ground, so that it is legible wherever it lands.
    Raises ValueError without an alternative text.
    """
    import matplotlib
    from matplotlib import pyplot

    if not alt.strip():
        raise ValueError("A still picture needs an alternative text that says what is to be seen.")
    buffer = io.StringIO()
    settings = {"svg.fonttype": "none", "svg.hashsalt": "nemlib", "path.simplify_threshold": 0.3}
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, facecolor="white")
    pyplot.close(figure)
    address = "data:image/svg+xml," + quote(_smaller_svg(buffer.getvalue()), safe=" =:;/,.'()-_!*@+&>{}")
    width, height = (round(float(96 * inches)) for inches in figure.get_size_inches())
    address = address.replace("&", "&amp;")   # the double quote is percent-encoded: the attribute is safe
    return (f'<img src="{address}" alt="{html.escape(alt)}" width="{width}" height="{height}" '
            'style="max-width:100%;height:auto">')


def _smaller_svg(svg: str) -> str:
    """The same picture in fewer bytes: no prologue, one decimal, single quotes, the reader's sans-serif."""
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg[svg.index("<svg"):], flags=re.DOTALL)
    svg = re.sub(r"<[^>]+>", lambda tag: _smaller_tag(tag[0]), svg)
    return re.sub(r">\s+<", "><", svg).replace('"', "'")


def _smaller_tag(tag: str) -> str:
    tag = re.sub(r'^<g id="[^"]*"', "<g", re.sub(r"\s+", " ", tag))
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', "", re.sub(r"(\d\.\d)\d+", r"\1", tag))
    tag = re.sub(r"font-family: [^;\"]*", "font-family:sans-serif", tag)
    tag = re.sub(r'(?<= d=")[^"]*', lambda path: re.sub(r" ?([A-Zz]) ?", r"\1", path[0]), tag)
    return tag.replace("; ", ";").replace(": ", ":")


@dataclass(frozen=True)
class Figure:
    """An interactive figure, shown by a notebook as the last expression of a cell.

    name: lower-case words joined by hyphens; with `copy` it makes the element's id, so that a rebuilt page
    is the same page.  title: what a screen reader calls the figure.  scripts: JavaScript files of this folder
    in the order in which they are read, the last of which sets `nx.build`, and CSS files beside figure.css.
    still: HTML that says the same on paper and without scripts, usually from `picture`.  data: what JSON can
    hold, with arrays through `pack`.  copy: 2 for a second copy on the same page.
    largest: bytes of HTML that this figure may take; more than LARGEST needs a reason beside it (a network's
    weights, for one).
    Raises ValueError for a bad name or copy, a missing script, and a figure that is too large.
    """

    name: str
    title: str
    scripts: tuple[str, ...]
    still: str
    data: Mapping[str, Any] = field(default_factory=dict)
    copy: int = 1
    words: str = ""     # what a terminal shows instead; the title where nothing is given
    largest: int = LARGEST

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", self.name):
            raise ValueError(f"name is {self.name!r}: it should be lower-case words joined by hyphens.")
        if not (isinstance(self.copy, int) and self.copy >= 1):
            raise ValueError(f"copy is {self.copy!r}: it should be 1 for the first copy on a page, then 2.")
        if (size := len(self._repr_html_().encode())) > self.largest:
            raise ValueError(f"The figure {self.name!r} takes {size} bytes and {self.largest} are allowed: "
                             "pack less data, or in a smaller kind.")

    @property
    def id(self) -> str:
        return f"nx-{self.name}-{self.copy}"

    def _repr_html_(self) -> str:
        sources = "\n".join(_source(name) for name in ("runtime.js", *self.scripts) if name.endswith(".js"))
        styles = "".join(_style(name) for name in ("figure.css", *self.scripts) if name.endswith(".css"))
        arguments = ", ".join(map(_json, (self.id, styles, dict(self.data))))
        return (f'<div class="nx-figure" id="{self.id}" role="figure" aria-label="{html.escape(self.title)}" '
                f'data-lm-suppress-shortcuts="true">\n<div class="nx-still">{self.still}</div>\n'
                f'<script>(function (nx) {{\n"use strict";\n{sources}\n'
                f'nx.start(document.currentScript, {arguments});\n}})({{}});</script>\n</div>')

    def __repr__(self) -> str:
        return self.words or f"Interactive figure «{self.title}»: open the page or the notebook to see it."


def page(*figures: Figure, title: str = "Interactive figures") -> str:
    """A whole HTML page that holds the figures and nothing else: to send to a friend, and for the tests."""
    body = "\n".join(figure._repr_html_() for figure in figures)
    style = ("body{margin:0 auto;padding:1rem;max-width:820px;font:16px/1.6 system-ui,sans-serif;"
             "background:#fff;color:#1c2430}@media (prefers-color-scheme:dark)"
             "{body{background:#14181e;color:#ced6dd}}")
    title = html.escape(title)
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<style>{style}</style></head>\n'
            f'<body><main>\n<h1>{title}</h1>\n{body}\n</main></body>\n</html>\n')


def _read(name: str) -> str:
    path = HERE / name
    if not path.is_file():
        raise ValueError(f"The figure asks for {name!r}, and there is no such file in nemlib/explore.")
    return path.read_text(encoding="utf-8")


def _source(name: str) -> str:
    """A script without its comment lines and its indentation, safe inside <script>."""
    lines, inside = [], False
    for line in _read(name).splitlines():
        bare = line.strip()
        inside = inside or bare.startswith("/*")
        if bare and not inside and not bare.startswith("//"):
            lines.append(bare)
        inside = inside and not bare.endswith("*/")
    text = "\n".join(lines)
    if re.search(r"</script|<!--|`", text, flags=re.IGNORECASE):
        raise ValueError(f"{name} holds a back-tick, '</script' or '<!--', which would break where it is "
                         "embedded: write the string in pieces.")
    return text


def _style(name: str) -> str:
    text = re.sub(r"/\*.*?\*/", "", _read(name), flags=re.DOTALL)
    return re.sub(r"\s*([{};,])\s*", r"\1", re.sub(r"\s+", " ", text)).replace(";}", "}").strip()


def _json(value: Any) -> str:
    """JSON that is also safe JavaScript inside <script>; refuses NaN and what JSON cannot hold."""
    try:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"A figure's data should be what JSON can hold, arrays packed: {error}.") from None
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
