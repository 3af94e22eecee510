"""Receipts: what a chapter costs its reader, measured; and the budget that made each figure.

The directive `{receipt}` at a chapter's top prints the reading time (from the page's own words, formulas,
code and figures, by the rule below), and the run time and peak memory that `make receipts` measured
(tools/receipts.py writes them to `results/receipts.json`). Each figure that a cell made says in which budget;
a cell tagged `recorded` draws what a recorded run left, and says that.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import marks
import sources

FILE = Path("results") / "receipts.json"
WORDS_PER_MINUTE = 200      # prose with mathematics in it
SECONDS_PER_FORMULA, SECONDS_PER_LINE, SECONDS_PER_FIGURE = 15, 3, 30
UNSEEN = {"remove-cell", "remove-input", "hide-input", "hide-cell", "solution", "teaching"}
FOLDED = {"solution", "solution-start", "receipt", "bibliography"}
MACHINES = {"book": "on a CPU", "full": "on a GPU"}


@dataclass(frozen=True)
class Reading:
    """What there is to read in a chapter; solutions are folded and not counted."""

    words: int
    formulas: int
    lines: int
    figures: int

    @property
    def minutes(self) -> int:
        """By the rule above, in steps of five minutes."""
        seconds = (60 * self.words / WORDS_PER_MINUTE + SECONDS_PER_FORMULA * self.formulas
                   + SECONDS_PER_LINE * self.lines + SECONDS_PER_FIGURE * self.figures)
        return max(5, 5 * math.ceil(seconds / 300))

    def __str__(self) -> str:
        return (f"about {self.minutes} minutes ({self.words:,} words, {self.formulas} displayed formulas, "
                f"{self.lines} lines of code, {self.figures} figures)")


def reading(path: Path) -> Reading:
    """Counts a notebook: visible prose, displayed formulas, visible lines of code, figures."""
    counts = {"words": 0, "formulas": 0, "lines": 0, "figures": 0}
    folded = False
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text, tags = "".join(cell["source"]), set(cell["metadata"].get("tags", []))
        if cell["cell_type"] == "markdown":
            folded = _count(text, counts, folded)
            continue
        counts["figures"] += bool(cell["metadata"].get("mystnb"))
        if not (folded or tags & UNSEEN):
            lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
            counts["lines"] += len(lines)
    return Reading(**counts)


def _count(text: str, counts: dict[str, int], folded: bool = False) -> bool:
    """Adds what a text holds; says whether a solution is still open at its end."""
    for part in sources.blocks(text):
        if isinstance(part, sources.Directive):
            if part.name in ("solution-start", "solution-end"):
                folded = part.name == "solution-start"
            if not folded and part.name not in FOLDED:
                counts["figures"] += part.name == "figure"
                counts["formulas"] += part.name == "math"
                if part.name not in sources.VERBATIM:
                    _count(part.body, counts)
        elif not folded and not part.code:
            counts["formulas"] += len(sources.MATH.findall(part.text))
            prose = re.sub(r"^%.*$", " ", sources.MATH.sub(" ", part.text), flags=re.M)
            prose = re.sub(r"\{[\w:]+\}(?=`)|\]\([^)]*\)", " ", prose)
            counts["words"] += len(re.findall(r"\w[\w'’-]*", re.sub(r"\$[^$]*\$", " x ", prose)))
    return folded


# ------------------------------------------------------------------ measured

def fingerprint(path: Path) -> str:
    """A hash of the code that a chapter runs: a receipt knows by it whether it is still the chapter's."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells
            if cell["cell_type"] == "code" and "setup" not in cell["metadata"].get("tags", [])]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()[:16]


def measured(root: Path = sources.ROOT) -> dict[str, dict[str, dict]]:
    """`{chapter: {budget: {"seconds", "memory_mib", "hardware", "code", …}}}`, as `make receipts` left it."""
    path = root / FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def duration(seconds: float) -> str:
    """8 → "8 s", 131 → "2 min 10 s", 4000 → "1 h 7 min"."""
    if seconds < 100:
        return f"{math.ceil(seconds)} s"
    minutes, rest = divmod(10 * math.ceil(seconds / 10), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def running(path: Path, budget: str, receipt: dict | None) -> str:
    """A receipt in words."""
    if receipt is None:
        return f"not measured {MACHINES[budget]} yet"
    memory = f"{receipt['memory_mib'] / 1024:.1f} GiB of memory"
    if "gpu_memory_mib" in receipt:
        memory += f" and {receipt['gpu_memory_mib'] / 1024:.1f} GiB on the GPU"
    earlier = (
        "" if receipt["code"] == fingerprint(path) else ", for an earlier version of this chapter's code"
    )
    return f"{duration(receipt['seconds'])} and {memory}, measured on {receipt['hardware']}{earlier}"


def lines(page: str, root: Path = sources.ROOT) -> list[tuple[str, str]]:
    """The receipt of a page as pairs (what, how much)."""
    path = sources.page_path(page, root)
    known = measured(root).get(path.stem, {})
    return [
        ("Reading", str(reading(path))),
        *((f"Running, budget {budget}", running(path, budget, known.get(budget))) for budget in MACHINES),
    ]


# ------------------------------------------------------------------ Sphinx

class Receipt(SphinxDirective):
    """Prints the chapter's receipt."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        self.env.note_dependency(str(root / FILE))
        box = nodes.container(classes=["nem-receipt"])
        for what, much in lines(self.env.docname, root):
            box += nodes.paragraph("", "", nodes.strong("", what), nodes.Text(f": {much}."))
        return [box]


def add_budgets(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Each figure that a cell made says which budget made it."""
    for output in list(doctree.findall(_is_output)):
        tags = output.parent.get("classes", []) if output.parent else []
        words = (
            "From a recorded run." if "tag_recorded" in tags else f"Made in budget {app.config.nem_budget}."
        )
        for image in list(output.findall(nodes.image)):
            if isinstance(image.parent, nodes.figure):
                captions = [child for child in image.parent if isinstance(child, nodes.caption)]
                for caption in captions:
                    caption += [nodes.Text(" "), nodes.inline("", words, classes=["nem-budget"])]
            else:
                image.parent.insert(
                    image.parent.index(image) + 1, nodes.paragraph("", words, classes=["nem-budget"])
                )


def _is_output(node: nodes.Node) -> bool:
    return isinstance(node, nodes.container) and "cell_output" in node.get("classes", [])


def setup(app: Sphinx) -> dict:
    marks.add_style(app)
    app.add_config_value("nem_budget", os.environ.get("BUDGET") or "book", "html", str)
    app.add_directive("receipt", Receipt)
    app.connect("doctree-resolved", add_budgets)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
