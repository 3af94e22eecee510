"""Reads the book's sources: its pages in order, their MyST blocks, and what is numbered in them.

The Sphinx extensions, the editions and the tests all ask this one file, so that they agree on what an
equation, a figure or an exercise is and which number it has. Nothing is executed and Sphinx is not needed.
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from chapter_numbers import chapter_number

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,}|:{3,})[ \t]*"
                   r"(?:\{(?P<name>[\w:.+-]+)\})?[ \t]*(?P<rest>[^`]*)$")
VERBATIM = {
    "math", "code", "code-block", "code-cell", "sourcecode", "literalinclude", "raw", "parsed-literal",
}
MATH = re.compile(
    r"^(?P<indent>[ \t]*)\$\$(?P<tex>(?:(?!\$\$).)+)\$\$(?:[ \t]*\((?P<label>[^()\s]+)\))?[ \t]*$",
    re.M | re.S,
)
LABELLED = re.compile(r"\$\$[ \t]*\((?P<label>[^()\s]+)\)")
DEFINITION = re.compile(r"\n(?:[ \t]*\n)*[ \t]*% definition[ \t]*(?=\n|$)")
BARE = re.compile(r"^[ \t]*\\begin\{(equation|align|gather|multline|alignat|flalign|eqnarray)\}", re.M)
TARGET = re.compile(r"^\((?P<label>[^()\s]+)\)=[ \t]*$")
HEADING = re.compile(r"^(?P<level>#{1,6})[ \t]+(?P<title>.+?)[ \t]*#*$")
TABLES = ("table", "list-table", "csv-table")
PROOFS = (
    "theorem", "lemma", "definition", "proposition", "corollary", "algorithm", "example", "remark", "axiom",
    "conjecture", "criterion", "observation", "property", "assumption",
)


@dataclass(frozen=True)
class Directive:
    """One MyST directive; `body` is its text without the options, `line` its first line in the text."""

    name: str
    argument: str
    options: dict[str, str]
    body: str
    line: int
    indent: str = ""


@dataclass(frozen=True)
class Text:
    """Plain Markdown between directives; `code` where it is a fenced block of code."""

    text: str
    line: int
    code: bool = False


@dataclass(frozen=True)
class Equation:
    """A numbered equation as it stands in a page."""

    label: str
    tex: str
    page: str
    where: str
    definition: bool


@dataclass(frozen=True)
class Target:
    """What a reference can point to: `number` such as "1.3" or empty, `anchor` its id in the page."""

    kind: str
    number: str
    title: str
    page: str
    anchor: str


# ------------------------------------------------------------------ blocks

def blocks(text: str) -> Iterator[Directive | Text]:
    """Splits MyST text into directives and the text between; a directive's own text is not yet split."""
    lines = text.split("\n")
    start = number = 0
    while number < len(lines):
        opened = FENCE.match(lines[number])
        if not opened or not (opened["name"] or opened["fence"][0] in "`~"):
            number += 1
            continue
        if start < number:
            yield Text("\n".join(lines[start:number]), start + 1)
        end = _closing(lines, number, opened["fence"])
        if opened["name"]:
            yield _directive(opened, lines[number + 1:end], number + 1)
        else:
            yield Text("\n".join(lines[number:end + 1]), number + 1, code=True)
        start = number = end + 1
    if start < len(lines):
        yield Text("\n".join(lines[start:]), start + 1)


def _closing(lines: list[str], opening: int, fence: str) -> int:
    closing = re.compile(rf"^[ \t]*{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$")
    return next((k for k in range(opening + 1, len(lines)) if closing.match(lines[k])), len(lines))


def _directive(opened: re.Match, lines: list[str], line: int) -> Directive:
    indent = opened["indent"]
    lines = [part.removeprefix(indent) for part in lines]
    options: dict[str, str] = {}
    if lines and lines[0].strip() == "---" and "---" in [part.strip() for part in lines[1:]]:
        end = [part.strip() for part in lines].index("---", 1)
        options = {key: str(value) for key, value in (yaml.safe_load("\n".join(lines[1:end])) or {}).items()}
        lines = lines[end + 1:]
    else:
        while lines and (option := re.match(r"^:([\w-]+):[ \t]*(.*)$", lines[0])):
            options[option[1]] = option[2].strip()
            lines = lines[1:]
    return Directive(
        opened["name"], opened["rest"].strip(), options, "\n".join(lines).strip("\n"), line, indent
    )


# ------------------------------------------------------------------ pages

def markdown(path: Path) -> list[tuple[str, str]]:
    """The Markdown of a page as pairs (where, text): a notebook's cells, or a page as a whole."""
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return [(f"{path.name}, cell {k}", "".join(cell["source"]))
                for k, cell in enumerate(cells, start=1) if cell["cell_type"] == "markdown"]
    return [(path.name, path.read_text(encoding="utf-8"))]


def page_path(page: str, root: Path = ROOT) -> Path:
    """The file of a page, `book/01-gibbs` → `…/book/01-gibbs.ipynb`."""
    for suffix in (".ipynb", ".md"):
        if (root / page).with_suffix(suffix).exists():
            return (root / page).with_suffix(suffix)
    raise FileNotFoundError(
        f"_toc.yml names {page}, and there is neither a notebook nor a Markdown page of that "
        "name: add it or take the line out."
    )


def pages(root: Path = ROOT) -> list[tuple[str, int | None]]:
    """The pages in the order of the table of contents, each with its chapter number (None without one)."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    options = toc.get("options", {}) or {}
    found: list[tuple[str, int | None]] = [(toc["root"], None)]
    parts = toc.get("parts") or [{"chapters": toc.get("chapters", [])}]
    number = 0
    for part in parts:
        numbered = part.get("numbered", options.get("numbered", False))
        for chapter in part.get("chapters") or []:
            if "file" not in chapter:
                continue
            number += bool(numbered)
            own = chapter_number(chapter["file"])      # 8 for 08-…, as the page counts
            found.append((chapter["file"], (own or number) if numbered else None))
    return found


# ------------------------------------------------------------------ equations

def equations(root: Path = ROOT) -> tuple[list[Equation], list[str]]:
    """Every labelled equation of the book, in order, and what is wrong with how equations are written."""
    found: list[Equation] = []
    problems: list[str] = []
    for page, _ in pages(root):
        for where, text in markdown(page_path(page, root)):
            equations_here, problems_here = equations_in(text, page, where)
            found += equations_here
            problems += problems_here
    for label, count in Counter(equation.label for equation in found).items():
        if count > 1:
            problems.append(f"the label {label} stands at {count} equations: give each its own")
    return found, problems


def equations_in(text: str, page: str = "", where: str = "") -> tuple[list[Equation], list[str]]:
    """The labelled equations in one text, directives included, and the problems in it."""
    found: list[Equation] = []
    problems: list[str] = []
    parts = list(blocks(text))
    for k, part in enumerate(parts):
        if isinstance(part, Directive) and part.name == "math" and "label" in part.options:
            after = parts[k + 1].text if k + 1 < len(parts) and isinstance(parts[k + 1], Text) else ""
            definition = bool(DEFINITION.match("\n" + after))
            found.append(Equation(part.options["label"], part.body, page, where, definition))
        elif isinstance(part, Directive) and part.name not in VERBATIM:
            inner = equations_in(part.body, page, where)
            found += inner[0]
            problems += inner[1]
        elif isinstance(part, Text) and not part.code:
            here, wrong = _displayed(part.text, page, where)
            found += here
            problems += wrong
    problems += [f"{where}: {e.label}: the label of an equation begins with eq-" for e in found
                 if not e.label.startswith("eq-")]
    return found, problems


def _displayed(text: str, page: str, where: str) -> tuple[list[Equation], list[str]]:
    found, problems, spans = [], [], []
    for match in MATH.finditer(text):
        if _in_paragraph(text[:match.start()]):
            continue      # Markdown takes it for a part of the paragraph above
        spans.append(match.span())
        if match["label"]:
            definition = bool(DEFINITION.match(text, match.end()))
            found.append(Equation(match["label"], match["tex"].strip(), page, where, definition))
    labels = {equation.label for equation in found}
    for match in LABELLED.finditer(text):
        if match["label"] not in labels:
            problems.append(
                f"{where}: {match['label']} is part of a paragraph and gets no number: leave an empty line "
                "before its first $$ and nothing behind its label"
            )
    for match in BARE.finditer(text):
        if not any(start <= match.start() < end for start, end in spans):
            problems.append(
                f"{where}: \\begin{{{match[1]}}} gets a number without a label: write $$ … $$ (eq-…)"
            )
    return found, problems


def _in_paragraph(before: str) -> bool:
    line = before.removesuffix("\n").rsplit("\n", 1)[-1].strip()
    ends_a_block = line.startswith("%") or line.endswith("$$") or HEADING.match(line) or TARGET.match(line)
    return bool(line) and not (ends_a_block or LABELLED.search(line))


# ------------------------------------------------------------------ numbers

@dataclass
class Index:
    """Every label of the book with its number, as Sphinx counts: chapter.n for each kind on its own."""

    targets: dict[str, Target] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)       # page → its title
    chapters: dict[str, int | None] = field(default_factory=dict)

    @classmethod
    def of(cls, root: Path = ROOT) -> Index:
        index = cls()
        counters: Counter = Counter()
        for page, chapter in pages(root):
            index.chapters[page] = chapter
            _PageCounter(index, page, chapter, counters).read(page_path(page, root))
        return index


class _PageCounter:
    """Counts what is numbered in one page."""

    def __init__(self, index: Index, page: str, chapter: int | None, counters: Counter):
        self.index, self.page, self.chapter, self.counters = index, page, chapter, counters
        self.sections: list[int] = []
        self.pending: str | None = None       # the label of a `(label)=` line, waiting for its heading

    def read(self, path: Path) -> None:
        if path.suffix != ".ipynb":
            self.text(path.read_text(encoding="utf-8"))
            return
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "markdown":
                self.text("".join(cell["source"]))
            elif figure := cell["metadata"].get("mystnb", {}).get("figure", {}):
                self.figure(figure.get("name"), figure.get("caption"))

    def text(self, text: str, nested: bool = False) -> None:
        for part in blocks(text):
            if isinstance(part, Directive):
                self.directive(part)
            elif not part.code:
                self.plain(part.text, nested)

    def plain(self, text: str, nested: bool) -> None:
        for equation in _displayed(text, "", "")[0]:
            self.equation(equation.label)
        for line in text.split("\n"):
            if target := TARGET.match(line):
                self.pending = target["label"]
            elif (heading := HEADING.match(line)) and not nested:
                self.heading(len(heading["level"]), heading["title"])

    def directive(self, part: Directive) -> None:
        kind = part.name.removeprefix("prf:").removesuffix("-start")
        label = part.options.get("label") or part.options.get("name")
        if part.name == "math":
            if label:
                self.equation(label)
        elif part.name == "figure":
            self.figure(label, part.body)
        elif part.name in TABLES and part.argument:
            number = self.number("table")
            if label:
                self.add(label, Target("table", number, part.argument, self.page, label))
        elif kind == "exercise" or (part.name.startswith("prf:") and kind in PROOFS):
            number = "" if "nonumber" in part.options else self.number(kind)
            if label:
                self.add(label, Target(kind, number, part.argument, self.page, label))
        if part.name not in VERBATIM:
            self.text(part.body, nested=True)

    def heading(self, level: int, title: str) -> None:
        if level == 1:
            self.index.titles.setdefault(self.page, title)
        else:
            self.sections = self.sections[:level - 1] + [0] * (level - 1 - len(self.sections))
            self.sections[level - 2] += 1
        number = ".".join(map(str, [self.chapter, *self.sections[:level - 1]])) if self.chapter else ""
        if self.pending:
            self.add(self.pending, Target("section", number, title, self.page, self.pending))
        self.pending = None

    def equation(self, label: str) -> None:
        self.add(label, Target("equation", self.number("equation"), "", self.page, f"equation-{label}"))

    def figure(self, name: str | None, caption: str | None) -> None:
        if caption:      # Sphinx counts the figures that have one
            number = self.number("figure")
            if name:
                self.add(name, Target("figure", number, caption.split("\n\n")[0], self.page, name))

    def number(self, kind: str) -> str:
        self.counters[kind, self.chapter] += 1
        count = self.counters[kind, self.chapter]
        return f"{self.chapter}.{count}" if self.chapter else str(count)

    def add(self, label: str, target: Target) -> None:
        self.index.targets[label] = target


# ------------------------------------------------------------------ the repository

@functools.cache
def configuration(root: Path = ROOT) -> dict:
    return yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))


def repository(root: Path = ROOT) -> tuple[str, str]:
    """The repository's address and branch, from the one place that holds them."""
    settings = configuration(root)["repository"]
    return settings["url"].rstrip("/"), settings.get("branch", "main")


def published(root: Path = ROOT) -> str:
    """Where the built book is read: `html.baseurl` of _config.yml, else the repository's GitHub Pages."""
    named = (configuration(root).get("html") or {}).get("baseurl")
    owner, name = repository(root)[0].split("/")[-2:]
    return named.rstrip("/") if named else f"https://{owner}.github.io/{name}"
