"""The claims ledger: a number in the prose comes from a stored result, with its protocol and spread.

`results/claims.toml` says where each claim's number comes from:

    [denoised-pixels]
    says = "share of wrong pixels after denoising"
    experiment = "ising-prior"        # a recorded run, with its preset and metric,
    preset = "full"
    metric = "error_rate"
    format = "{:.1%}"
    assertion = "< 0.05"              # optional; a list where there are several

    [crossing-time]
    says = "sweeps between two modes"
    file = "crossing.json"            # or any JSON file in results/, with a path into it, …
    value = "sweeps.mean"
    spread = "sweeps.sd"              # optional
    protocol = "…"
    command = "…"                     # … and what makes it
    format = "{:,.0f}"

In the text, {claim}`denoised-pixels` prints the number and {claim}`below 5 % <denoised-pixels>` prints the
words, if the claim has an assertion that stands behind them. A missing result or a failed assertion is a
warning, and with `-W` the end of the build. The directive `{claims-ledger}` lists all claims with the
commands that make them.
"""

from __future__ import annotations

import html
import itertools
import json
import math
import operator
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

import marks
import sources

LEDGER = "book/claims"      # the page that lists them all
FILE = Path("results") / "claims.toml"
FIELDS = {
    "says", "experiment", "preset", "metric", "file", "value", "spread", "protocol", "command", "format",
    "assertion",
}
COMPARE = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
ASSERTION = re.compile(r"^\s*(>=|<=|>|<)\s*(\S+)\s*$")
TITLED = re.compile(r"^(?P<text>.+?)\s*<(?P<key>[^<>]+)>$", re.S)
POWER = re.compile(r"(?<=\d)e([+-]\d+)")
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
logger = logging.getLogger(__name__)


class ClaimError(LookupError):
    """A claim that nothing stands behind; the message says what to do."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Claim:
    """One number with what is needed to believe it; `spread` is a standard deviation, over `seeds` seeds."""

    key: str
    says: str
    value: float
    spread: float | None
    seeds: int | None
    protocol: str
    command: str
    format: str
    assertions: tuple[str, ...]

    @property
    def text(self) -> str:
        """The number as the prose shows it."""
        return self._written(self.value)

    @property
    def tip(self) -> str:
        """Number, spread and protocol in a line."""
        parts = [self.text]
        if self.spread is not None:
            parts.append(f"± {self._written_spread()} (standard deviation{self._over_seeds()})")
        elif self.seeds == 1:
            parts.append("(one seed)")
        return f"{' '.join(parts)}. {self.protocol[:1].upper()}{self.protocol[1:].rstrip('.')}."

    def _written(self, number: float) -> str:
        """In the claim's format, with a true minus sign, and 1e-16 as people write it."""
        text = POWER.sub(
            lambda match: f"·10{str(int(match[1])).translate(SUPERSCRIPTS)}", self.format.format(number)
        )
        return text.replace("-", "−")

    def _written_spread(self) -> str:
        """The spread in the claim's format, or to one digit where that format would show a zero."""
        written = self._written(self.spread)
        return written if re.search("[1-9]", written) else f"{self.spread:.1g}"

    def _over_seeds(self) -> str:
        return f" over {self.seeds} seeds" if self.seeds else ""


# ------------------------------------------------------------------ the ledger

def specifications(root: Path = sources.ROOT) -> dict[str, dict]:
    """What `results/claims.toml` says of each claim; raises ClaimError where the file is not in order."""
    path = root / FILE
    if not path.exists():
        return {}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ClaimError(f"{FILE} cannot be read: {error}.") from error
    for key, given in found.items():
        source = (
            {"experiment", "preset", "metric"}
            if "experiment" in given
            else {"file", "value", "protocol", "command"}
        )
        missing = ({"says", "format"} | source) - set(given)
        if missing or set(given) - FIELDS:
            wrong = (
                f"lacks {', '.join(sorted(missing))}"
                if missing
                else f"has an unknown {min(set(given) - FIELDS)}"
            )
            raise ClaimError(f"The claim {key} in {FILE} {wrong}.")
    return found


def claim(key: str, root: Path = sources.ROOT) -> Claim:
    """The claim with its stored number; raises ClaimError where it is unknown, missing, or no longer true."""
    known = specifications(root)
    if key not in known:
        raise ClaimError(
            f"There is no claim {key} in {FILE}: add it there, with the result that it comes from."
        )
    given = known[key]
    measured = _recorded(key, given, root) if "experiment" in given else _from_file(key, given, root)
    assertions = given.get("assertion", [])
    found = Claim(key=key, says=given["says"], format=given["format"], **measured,
                  assertions=(assertions,) if isinstance(assertions, str) else tuple(assertions))
    for assertion in found.assertions:
        check(found, assertion)
    return found


def check(claim: Claim, assertion: str) -> None:
    """Raises ClaimError unless the claim's number is as the assertion says."""
    match = ASSERTION.match(assertion)
    try:
        compare, bound = COMPARE[match[1]], float(match[2])
    except (TypeError, ValueError):
        raise ClaimError(f"The claim {claim.key} asserts {assertion!r}: write such as '> 0.9'.") from None
    if not compare(claim.value, bound):
        raise ClaimError(
            f"The claim {claim.key} asserts {assertion}, and the stored result is {claim.value:g}: change "
            f"the text, or look at what `{claim.command}` measured."
        )


def _recorded(key: str, given: dict, root: Path) -> dict:
    from nemlib.experiments import results      # here: it brings torch, and a page without claims needs none

    try:
        result = results.load(given["experiment"], given["preset"])
        if given["metric"] not in result.metrics:
            raise ClaimError(
                f"The claim {key} needs the metric {given['metric']} of {given['experiment']}, which has "
                f"{', '.join(result.metrics)}."
            )
    except results.ResultError as error:
        raise ClaimError(f"The claim {key} has no result: {error}") from error
    metric = given["metric"]
    return {"value": result.metrics[metric], "spread": result.spread[metric], "seeds": len(result.runs),
            "protocol": given.get("protocol", result.protocol[metric]), "command": result.command}


def _from_file(key: str, given: dict, root: Path) -> dict:
    path = root / "results" / given["file"]
    if not path.is_file():
        raise ClaimError(f"The claim {key} has no result: results/{given['file']} is missing, "
                         f"`{given['command']}` makes it.")
    content = json.loads(path.read_text(encoding="utf-8"))
    spread = _number(content, given["spread"], key, path) if "spread" in given else None
    return {"value": _number(content, given["value"], key, path), "spread": spread, "seeds": None,
            "protocol": given["protocol"], "command": given["command"]}


def _number(content: object, where: str, key: str, path: Path) -> float:
    for step in where.split("."):
        try:
            content = content[int(step)] if isinstance(content, list) else content[step]
        except (KeyError, IndexError, TypeError, ValueError):
            raise ClaimError(
                f"The claim {key} looks for {where} in {path.name}, and there is no {step}."
            ) from None
    if isinstance(content, bool) or not isinstance(content, (int, float)) or not math.isfinite(content):
        raise ClaimError(
            f"The claim {key} found {content!r} at {where} in {path.name}, which is no finite number."
        )
    return float(content)


def files(key: str, root: Path) -> list[Path]:
    """What a page that prints the claim depends on."""
    given = specifications(root).get(key, {})
    if "file" in given:
        return [root / FILE, root / "results" / given["file"]]
    return [root / FILE, *sorted((root / "results" / given.get("experiment", "-")).glob("*.json"))]


def text_of(content: str, root: Path = sources.ROOT) -> tuple[str, Claim]:
    """What a role's content prints, and its claim: `key`, or `words <key>` if an assertion holds them."""
    titled = TITLED.match(content)
    found = claim((titled["key"] if titled else content).strip(), root)
    if titled and not found.assertions:
        raise ClaimError(
            f"The claim {found.key} is put in words, “{titled['text']}”, and nothing asserts them: give it "
            f"an assertion in {FILE}."
        )
    return (titled["text"] if titled else found.text), found


# ------------------------------------------------------------------ Sphinx

class ClaimNode(nodes.Inline, nodes.TextElement):
    """A claim in the text, until the page is written and the way to the ledger is known."""


class ClaimRole(SphinxRole):
    """{claim}`key` or {claim}`words <key>`."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        root = Path(self.env.srcdir)
        key = TITLED.sub(r"\g<key>", self.text).strip()
        try:
            for path in files(key, root):
                self.env.note_dependency(str(path))
            text, found = text_of(self.text, root)
        except ClaimError as error:
            logger.warning(str(error), location=self.get_location(), type="nem", subtype="claim")
            return [nodes.Text("??")], []
        return [ClaimNode(text, text, key=found.key, tip=found.tip)], []


class ClaimsLedger(SphinxDirective):
    """Every claim, with its number, protocol, and the command that makes it."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        listing = nodes.definition_list(classes=["nem-claims"])
        try:
            for key in specifications(root):
                for path in files(key, root):
                    self.env.note_dependency(str(path))
                listing += self._item(claim(key, root))
        except ClaimError as error:
            logger.warning(str(error), location=self.get_location(), type="nem", subtype="claim")
        return [listing] if len(listing) else []

    def _item(self, found: Claim) -> nodes.definition_list_item:
        term = nodes.term(
            "", f"{found.says[:1].upper()}{found.says[1:]}: ", ids=[nodes.make_id(f"claim-{found.key}")]
        )
        term += nodes.strong("", found.text)
        asserted = f" The text asserts {' and '.join(found.assertions)}." if found.assertions else ""
        made = nodes.paragraph("", "Made by ")
        made += [
            nodes.literal("", found.command),
            nodes.Text("; cited as "),
            nodes.literal("", found.key),
            nodes.Text("."),
        ]
        return nodes.definition_list_item(
            "", term, nodes.definition("", nodes.paragraph("", found.tip + asserted), made)
        )


def resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Claims become links to their line in the ledger, with a tip that a screen reader announces."""
    found = list(doctree.findall(ClaimNode))
    if found and LEDGER not in app.env.found_docs:
        logger.warning(
            "the page %s, which lists the claims, is not in the table of contents", LEDGER, location=docname
        )
    for number, node in zip(itertools.count(1), found):
        if app.builder.format != "html" or LEDGER not in app.env.found_docs:
            node.replace_self(nodes.Text(node.astext()))
            continue
        link = f"{app.builder.get_relative_uri(docname, LEDGER)}#{nodes.make_id('claim-' + node['key'])}"
        text = (
            f'<span class="nem-claim"><a href="{html.escape(link)}" aria-describedby="claim-tip-{number}">'
            f'{html.escape(node.astext())}</a><span class="nem-tip" role="tooltip" id="claim-tip-{number}">'
            f"{html.escape(node['tip'])}</span></span>"
        )
        node.replace_self(nodes.raw("", text, format="html"))


def setup(app: Sphinx) -> dict:
    marks.add_style(app)
    app.add_node(ClaimNode)
    app.add_role("claim", ClaimRole())
    app.add_directive("claims-ledger", ClaimsLedger)
    app.connect("doctree-resolved", resolve)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
