"""The picture on the first page: nine steps, three lines of thought, and what is hidden in each step.

The words stand in ``book/index.md`` as the YAML body of a ``road`` directive; this file draws. A step whose
page exists becomes a link, every other one says that it is to come: a new chapter needs no change here.

    ```{road}
    - page: book/01-gibbs
      number: "1"
      title: Sampling and Gibbs
      hidden: the clean picture behind a noisy one
      idea: One sentence.
      glyph: field
    ```

The picture is an ordered list with real text; the drawings beside it are decoration for a screen reader.
"""

from __future__ import annotations

import yaml
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FIELDS = {"page", "number", "title", "hidden", "idea", "glyph"}
LANE = {"draw": 12, "encode": 35, "without": 58}     # x of the three lines, in pixels
LINES = {"draw": "draw what is hidden", "encode": "encode it", "without": "do without"}
STATION = 21                                         # y of a step's station, level with its title
START, THROUGH, END, BRANCH = "start", "through", "end", "branch"

# For each glyph: what each line does in the step's row, and the lines on which its station lies.
RAILS: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "field": ({"draw": START}, ("draw",)),
    "bipartite": ({"draw": THROUGH}, ("draw",)),
    "bottleneck": ({"draw": THROUGH, "encode": START}, ("encode",)),
    "code": ({"draw": THROUGH, "encode": THROUGH}, ("encode",)),
    "mixture": ({"draw": THROUGH, "encode": THROUGH}, ("draw",)),
    "meeting": ({"draw": THROUGH, "encode": THROUGH}, ("draw", "encode")),
    "order": ({"draw": THROUGH, "encode": THROUGH, "without": BRANCH}, ("without",)),
    "contest": ({"draw": THROUGH, "encode": THROUGH, "without": END}, ("without",)),
    "slots": ({"draw": END, "encode": END}, ("draw", "encode")),
}


def seen(x: float, y: float) -> str:
    return f'<circle class="seen" cx="{x}" cy="{y}" r="6"/>'


def hidden(x: float, y: float) -> str:
    return f'<circle class="hidden" cx="{x}" cy="{y}" r="6"/>'


def computed(x: float, y: float) -> str:
    return f'<rect class="hidden" x="{x - 5.5}" y="{y - 5.5}" width="11" height="11"/>'


def edge(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1} {y1}L{x2} {y2}"/>'


def arrow(x1: float, y1: float, x2: float, y2: float, kind: str = "") -> str:
    """An arrow between the centres of two nodes of radius 6, with its head at the second one's rim."""
    length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
    ux, uy = (x2 - x1) / length, (y2 - y1) / length
    tip_x, tip_y = x2 - 8 * ux, y2 - 8 * uy
    back_x, back_y = tip_x - 4 * ux, tip_y - 4 * uy
    head = "".join(f"L{back_x + side * uy:.1f} {back_y - side * ux:.1f}" for side in (2.6, -2.6))
    return (f'<path{kind} d="M{x1 + 6 * ux:.1f} {y1 + 6 * uy:.1f}L{back_x + ux:.1f} {back_y + uy:.1f}"/>'
            f'<path class="head" d="M{tip_x:.1f} {tip_y:.1f}{head}Z"/>')


def arc(x1: float, x2: float, y: float, height: float) -> str:
    """A bent arrow over the nodes between x1 and x2."""
    return (f'<path d="M{x1 + 3} {y - 6}Q{(x1 + x2) / 2} {y - height} {x2 - 5} {y - 9}"/>'
            f'<path class="head" d="M{x2 - 3} {y - 6.5}l-5.4 -1.6l3 -3.4Z"/>')


DASHED = ' class="dashed"'
PLATE = '<rect class="plate" x="{}" y="{}" width="{}" height="{}" rx="4"/>'
# Drawn in a box of 84 × 64: a hollow node is hidden, a filled one is seen, a square is computed.
GLYPHS = {
    "field": (edge(14, 18, 42, 18) + edge(42, 18, 70, 18) + "".join(edge(x, 18, x, 48) for x in (14, 42, 70))
              + "".join(hidden(x, 18) + seen(x, 48) for x in (14, 42, 70))),
    "bipartite": ("".join(edge(a, 16, b, 48) for a in (28, 56) for b in (14, 42, 70))
                  + hidden(28, 16) + hidden(56, 16) + "".join(seen(x, 48) for x in (14, 42, 70))),
    "bottleneck": (arrow(12, 32, 42, 32) + arrow(42, 32, 72, 32) + seen(12, 32) + computed(42, 32)
                   + computed(72, 32)),
    "code": (arrow(42, 14, 42, 50) + '<path class="dashed" d="M36.5 46C24 38 24 26 35 19"/>'
             + '<path class="head" d="M37 17.5l-2.6 4.6l-3 -3.4Z"/>' + hidden(42, 14) + seen(42, 50)),
    "mixture": (PLATE.format(24, 2, 36, 60) + arrow(42, 14, 42, 48) + hidden(42, 14) + seen(42, 48)),
    "meeting": (arrow(42, 8, 42, 32) + arrow(42, 32, 42, 56) + hidden(42, 8) + hidden(42, 32) + seen(42, 56)),
    "order": (arrow(12, 42, 42, 42) + arrow(42, 42, 72, 42) + arc(12, 72, 42, 44)
              + "".join(seen(x, 42) for x in (12, 42, 72))),
    "contest": (arrow(18, 14, 18, 46) + arrow(18, 46, 48, 30) + arrow(66, 46, 48, 30) + hidden(18, 14)
                + computed(18, 46) + seen(66, 46) + computed(48, 30)),
    "slots": (PLATE.format(34, 24, 44, 39) + arrow(14, 14, 44, 48) + arrow(14, 50, 44, 48)
              + arrow(66, 36, 44, 48) + hidden(14, 14) + hidden(14, 50) + hidden(66, 36) + seen(44, 48)),
}


def rail(glyph: str, exists: bool) -> str:
    """The piece of the three lines beside one step; its height follows the text."""
    lines, stations = RAILS[glyph]
    parts = []
    for lane, kind in lines.items():
        x, top, bottom = LANE[lane], "0", "100%"
        if kind == BRANCH:
            origin = LANE["encode"]
            parts.append(f'<path class="{lane}" d="M{origin} -26C{origin} -2 {x} -4 {x} {STATION}"/>')
        if kind in (START, BRANCH):
            top = str(STATION)
        if kind == END:
            bottom = str(STATION)
        parts.append(f'<line class="{lane}" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>')
    first, last = LANE[stations[0]], LANE[stations[-1]]
    state = "open" if exists else "planned"
    parts.append(f'<rect class="station {state} {stations[0]}" x="{first - 7}" y="{STATION - 7}" '
                 f'width="{last - first + 14}" height="14" rx="7"/>')
    return f'<svg class="rail" width="72" aria-hidden="true" focusable="false">{"".join(parts)}</svg>'


def glyph_svg(name: str) -> str:
    return ('<svg class="glyph" viewBox="0 0 84 64" width="84" height="64" aria-hidden="true" '
            f'focusable="false">{GLYPHS[name]}</svg>')


class Road(SphinxDirective):
    """``{road}``: the nine steps as one list with its drawing."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        steps = yaml.safe_load("\n".join(self.content))
        road = nodes.enumerated_list(classes=["road"])
        for step in steps:
            if set(step) != FIELDS or step["glyph"] not in GLYPHS:
                raise self.error(f"A step of the road needs {sorted(FIELDS)}, with a glyph of "
                                 f"{sorted(GLYPHS)}; this one has {step}.")
            road += self.step(step)
        return [self.key(), road]

    @staticmethod
    def key() -> nodes.paragraph:
        """What the colours of the three lines mean."""
        key = nodes.paragraph(classes=["road-lines"])
        for lane, words in LINES.items():
            key += [nodes.inline("", words, classes=["road-line", lane]), nodes.Text(" ")]
        return key

    def step(self, step: dict[str, str]) -> nodes.list_item:
        exists = step["page"] in self.env.found_docs
        item = nodes.list_item(classes=["road-step", "open" if exists else "planned"])
        item += nodes.raw("", rail(step["glyph"], exists), format="html")
        words = nodes.container(classes=["road-words"])
        title = nodes.paragraph(classes=["road-title"])
        title += nodes.inline("", step["number"], classes=["road-number"])
        title += nodes.Text(" ")
        title += self.link(step) if exists else nodes.inline("", step["title"])
        if not exists:
            title += [nodes.Text(" "), nodes.inline("", "to come", classes=["road-to-come"])]
        about = nodes.paragraph("", step["idea"])
        what = nodes.paragraph(classes=["road-hidden"])
        what += [nodes.emphasis("", "Hidden:"), nodes.Text(f" {step['hidden']}")]
        words += [title, about, what]
        item += [words, nodes.raw("", glyph_svg(step["glyph"]), format="html")]
        return item

    def link(self, step: dict[str, str]) -> nodes.Node:
        text = nodes.inline("", step["title"])
        return pending_xref("", text, refdomain="std", reftype="doc", reftarget="/" + step["page"],
                            refexplicit=True, refwarn=True, refdoc=self.env.docname)


def read_the_first_page_again(app: Sphinx, env, added: set, changed: set, removed: set) -> set[str]:
    """A new or removed chapter changes the links of the first page."""
    return {app.config.root_doc} if (added or removed) - {app.config.root_doc} else set()


def setup(app: Sphinx) -> dict:
    app.add_directive("road", Road)
    app.connect("env-get-outdated", read_the_first_page_again)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
