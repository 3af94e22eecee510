"""What a check says: a verdict, a hint or a solution, as plain text and as accessible HTML.

The HTML has no script, no style sheet and no colour of its own for text: it inherits the page's, so it
reads in light and in dark mode, and every state is a word and a sign before it is a colour.
"""

import re
import textwrap
from dataclasses import dataclass
from html import escape

WIDTH = 92
FRAME = {True: "3px solid #009e73", False: "3px dashed #d55e00", None: "3px dotted #0072b2"}


@dataclass(frozen=True)
class Row:
    """One line of a derivation: number, expression, what was found, its value, the reader's reason."""

    number: str
    expression: str
    finding: str
    value: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer to an answer.

    passed: whether it is right. misconception: the name of the misconception that it matches, or None.
    message: what was found, in a sentence or two. points: what it earns, of out_of.
    facts: pairs such as ("yours", "0.5"). rows: the lines of a derivation. hint and notes: what to do next.
    """

    name: str
    title: str
    passed: bool
    message: str
    points: float
    out_of: float
    misconception: str | None = None
    facts: tuple[tuple[str, str], ...] = ()
    rows: tuple[Row, ...] = ()
    hint: str = ""
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.passed

    @property
    def heading(self) -> str:
        state = "✓ Right" if self.passed else "✗ Not yet"
        return f"{state} · {self.title} · {self.points:g} of {self.out_of:g} points"

    def __repr__(self) -> str:
        parts = [self.heading]
        if self.misconception:
            parts.append(f"Recognised: {self.misconception}.")
        parts.append(_wrapped(self.message))
        parts += _aligned(self.facts)
        for row in self.rows:
            parts += _row_text(row)
        if self.hint:
            parts.append(_wrapped(f"Hint: {self.hint}"))
        parts += [_wrapped(note) for note in self.notes]
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        facts = "".join(f'<tr><th scope="row" style="{CELL}">{marked(key)}</th><td style="{CELL}">'
                        f"<code>{escape(value)}</code></td></tr>" for key, value in self.facts)
        name = self.misconception
        body = f"<p>Recognised: <strong>{marked(name)}</strong>.</p>" if name else ""
        body += f"<p>{marked(self.message)}</p>"
        body += table("What the check compared", facts) if facts else ""
        body += _derivation_table(self.rows) if self.rows else ""
        body += f"<p><strong>Hint:</strong> {marked(self.hint)}</p>" if self.hint else ""
        body += "".join(f"<p>{marked(note)}</p>" for note in self.notes)
        return box(self.heading, body, self.passed)


@dataclass(frozen=True)
class Note:
    """A hint or a solution: a heading, prose, and code where there is some."""

    heading: str
    text: str = ""
    code: str = ""

    def __repr__(self) -> str:
        return "\n".join(part for part in (self.heading, _wrapped(self.text), self.code) if part)

    def _repr_html_(self) -> str:
        text = f"<p>{marked(self.text)}</p>" if self.text else ""
        if self.code:
            text += f'<pre tabindex="0" style="overflow-x:auto"><code>{escape(self.code)}</code></pre>'
        return box(self.heading, text, None)


CAPTION = "text-align:left;white-space:nowrap;font-style:italic"
CELL = "text-align:left;vertical-align:top;padding:.1em 1em .1em 0"


def marked(text: str) -> str:
    """Escapes text for HTML; what stands between backticks becomes code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def box(heading: str, body: str, state: bool | None) -> str:
    """A framed group with a heading; the frame's line differs in kind as well as in colour."""
    return (f'<div role="group" aria-label="{escape(heading)}" '
            f'style="border-left:{FRAME[state]};padding:.2em 0 .2em 1em;margin:.5em 0">'
            f"<p><strong>{escape(heading)}</strong></p>{body}</div>")


def table(caption: str, rows: str, head: str = "") -> str:
    """A table that scrolls sideways on a phone, by touch and by keyboard."""
    return (f'<div style="overflow-x:auto" tabindex="0" role="group" aria-label="{escape(caption)}">'
            f'<table style="margin:.3em 0"><caption style="{CAPTION}">{escape(caption)}</caption>'
            f"{head}<tbody>{rows}</tbody></table></div>")


def _derivation_table(rows: tuple[Row, ...]) -> str:
    """Two columns, so that it fits a phone: a line's reason, finding and value stand below its expression."""
    names = ("Line", "Expression and finding")
    head = "".join(f'<th scope="col" style="{CELL}">{name}</th>' for name in names)
    lines = ""
    for row in rows:
        finding = " · ".join(filter(None, (escape(row.finding), escape(row.value))))
        reason = f"<em>{marked(row.reason)}</em>" if row.reason else ""
        cell = "<br>".join(filter(None, (f"<code>{escape(row.expression)}</code>", reason, finding)))
        lines += f'<tr><th scope="row" style="{CELL}">{escape(row.number)}</th>'
        lines += f'<td style="{CELL};overflow-wrap:anywhere">{cell}</td></tr>'
    return table("The derivation, line by line", lines, f"<thead><tr>{head}</tr></thead>")


def _row_text(row: Row) -> list[str]:
    value = f"   {row.value}" if row.value else ""
    reason = f"   # {row.reason}" if row.reason else ""
    return [f"  {row.number:>5}  {row.expression}{reason}", f"         {row.finding}{value}"]


def _aligned(facts: tuple[tuple[str, str], ...]) -> list[str]:
    width = max((len(key) for key, _ in facts), default=0)
    return [f"  {key:<{width}}  {value}" for key, value in facts]


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.fill(line, WIDTH, break_long_words=False, break_on_hyphens=False)
                     for line in text.splitlines())
