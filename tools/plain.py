"""MyST Markdown as plain Markdown: what a chapter's text looks like where no book is built, on Colab or in a
class.

References become the numbers that the book prints, with links to its published pages; directives become
headings, quotations, pictures and folds. What this file does not know it refuses, so that no raw MyST reaches
a reader.
"""

from __future__ import annotations

import functools
import html
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from pybtex.database import Entry, parse_file
from pybtex.richtext import Text as RichText

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))

import sources  # noqa: E402
from sources import Directive, Index, Target, Text  # noqa: E402

TOKEN = re.compile(
    r"(?P<math>^[ \t]*\$\$(?:(?!\$\$).)+\$\$(?:[ \t]*\((?P<label>[^()\s]+)\))?[ \t]*$)"
    r"|\{(?P<role>[A-Za-z][\w:-]*)\}(?P<ticks>`+)(?P<content>.+?)(?P=ticks)"
    r"|(?P<quote>`+)(?:.+?)(?P=quote)"
    r"|(?P<target>^\([\w:.-]+\)=[ \t]*\n)|(?P<comment>^%[^\n]*(?:\n|\Z))"
    r"|\]\((?P<link>[^)#:\s]+)\.(?:md|ipynb)(?P<anchor>#[^)\s]*)?\)"
    r"|!\[(?P<alt>[^\]]*)\]\((?P<image>[^)\s]+)\)",
    re.M | re.S,
)
TITLED = re.compile(r"^(?P<text>.+?)\s*<(?P<target>[^<>]+)>$", re.S)
NAMES = {"figure": "Fig.", "table": "Table", "exercise": "Exercise", "section": "Section",
         **{kind: kind.capitalize() for kind in sources.PROOFS}}
ADMONITIONS = (
    "note", "tip", "hint", "important", "warning", "caution", "attention", "danger", "error", "seealso",
    "admonition", "margin", "sidebar", "topic", "epigraph",
)
FOLDS = ("dropdown", "toggle")
SILENT = ("exercise-end", "solution-end", "toctree", "tableofcontents", "contents", "index")
RAW = re.compile(
    r"\{[a-z][\w:-]*\}`|^[ \t>]*:{3,}|^[ \t>]*[`~]{3,}[ \t]*\{|^\([\w-]+\)=|^% |\]\(#|\$\$[ \t]*\(eq-",
    re.M,
)


class Unknown(ValueError):
    """Something in the text that has no plain form here."""


@dataclass
class Plain:
    """Turns the text of one page into plain Markdown."""

    index: Index
    page: str
    root: Path = ROOT

    def __call__(self, text: str) -> str:
        parts = [self.block(part) for part in sources.blocks(text)]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).strip("\n")

    def block(self, part: Directive | Text) -> str:
        """One directive, or the text between two."""
        if isinstance(part, Directive):
            return "\n".join(part.indent + line for line in self.directive(part).split("\n"))
        return part.text if part.code else TOKEN.sub(self._token, part.text)

    def _token(self, match: re.Match) -> str:
        if match["math"]:
            return self._math(match["math"].strip().removeprefix("$$").rsplit("$$", 1)[0], match["label"])
        if match["role"]:
            return self.role(match["role"], match["content"])
        if match["link"]:
            return f"]({self.url(self._sibling(match['link']))}{match['anchor'] or ''})"
        if match["image"]:
            return f"![{match['alt']}]({self.file(match['image'])})"
        return "" if match["target"] or match["comment"] else match[0]

    # -------------------------------------------------------------- where things are

    def url(self, page: str, anchor: str = "") -> str:
        return f"{sources.published(self.root)}/{page}.html" + (f"#{anchor}" if anchor else "")

    def file(self, name: str) -> str:
        """A picture that stands beside the page, as the repository serves it."""
        if "://" in name:
            return name
        address, branch = sources.repository(self.root)
        path = (Path("/") / Path(self.page).parent / name).resolve().relative_to("/")
        return f"{address.replace('github.com', 'raw.githubusercontent.com')}/{branch}/{path.as_posix()}"

    def _sibling(self, name: str) -> str:
        return name.lstrip("/") if name.startswith("/") else (Path(self.page).parent / name).as_posix()

    def target(self, label: str) -> Target:
        if label not in self.index.targets:
            raise Unknown(f"{self.page} refers to {label}, which the book does not have")
        return self.index.targets[label]

    def name(self, target: Target) -> str:
        """Its name in the text: (1.3) for an equation, "Fig. 1.2", "Theorem 1.1"."""
        if target.kind == "equation":
            return f"({target.number})"
        return f"{NAMES[target.kind]} {target.number}".strip()

    # -------------------------------------------------------------- roles

    def role(self, role: str, content: str) -> str:
        """The plain form of {role}`content`; raises Unknown where it has none."""
        titled = TITLED.match(content)
        words, what = (titled["text"], titled["target"].strip()) if titled else ("", content.strip())
        if role in ("eq", "numref", "ref", "prf:ref"):
            return self._reference(role, words, self.target(what))
        if role in ("cite", "cite:p", "cite:t", "cite:ps", "cite:ts"):
            return self._citation(role, [key.strip() for key in content.split(",")])
        if role == "doc":
            page = self._sibling(what)
            return f"[{words or self.index.titles.get(page, page)}]({self.url(page)})"
        if role == "claim":
            import claims

            return claims.text_of(content, self.root)[0]
        plain = {
            "term": words or what,
            "math": f"${content}$",
            "code": f"`{content}`",
            "kbd": f"<kbd>{content}</kbd>",
            "sub": f"<sub>{content}</sub>",
            "sup": f"<sup>{content}</sup>",
            "abbr": content.split(" (")[0],
        }
        if role not in plain:
            raise Unknown(
                f"{self.page} uses the role {{{role}}}, for which tools/plain.py has no plain form: add one"
            )
        return plain[role]

    def _reference(self, role: str, words: str, target: Target) -> str:
        if role == "numref" and words:
            words = (
                words.replace("%s", target.number)
                .replace("{number}", target.number)
                .replace("{name}", target.title)
            )
        elif role == "ref" and target.kind in ("section", "figure", "table"):
            words = words or target.title
        return f"[{words or self.name(target)}]({self.url(target.page, target.anchor)})"

    def _citation(self, role: str, keys: list[str]) -> str:
        cited = [self._cited(key, textual=role.startswith("cite:t")) for key in keys]
        return ", ".join(cited) if role.startswith("cite:t") else f"({'; '.join(cited)})"

    def _cited(self, key: str, textual: bool) -> str:
        entry = bibliography(self.root).get(key)
        if entry is None:
            raise Unknown(f"{self.page} cites {key}, which book/references.bib does not have")
        year = entry.fields.get("year", "n.d.")
        words = f"{authors(entry)} ({year})" if textual else f"{authors(entry)}, {year}"
        return f"[{words}]({address(entry) or self.url('book/bibliography')})"

    # -------------------------------------------------------------- directives

    def directive(self, part: Directive) -> str:
        """The plain form of a directive; raises Unknown where it has none."""
        kind = part.name.removeprefix("prf:")
        if part.name in SILENT:
            return ""
        if part.name == "math":
            return self._math(part.body, part.options.get("label"))
        if part.name in FOLDS or (part.name in ADMONITIONS and "dropdown" in part.options.get("class", "")):
            return fold(self(part.argument or part.name.capitalize()), self(part.body))
        if part.name in ADMONITIONS:
            return quote(
                self(part.argument) or ("" if part.name in ("epigraph", "margin") else kind.capitalize()),
                self(part.body),
            )
        if part.name.startswith("prf:") and (kind in sources.PROOFS or kind == "proof"):
            return quote(self._heading(kind, part), self(part.body))
        if part.name in ("exercise", "exercise-start"):
            return f"#### {self._heading('exercise', part)}\n\n{self(part.body)}"
        if part.name in ("figure", "image"):
            return self._figure(part)
        if part.name in ("code", "code-block", "sourcecode"):
            return f"```{part.argument}\n{part.body}\n```"
        if part.name == "table":
            return f"**{self(part.argument)}**\n\n{self(part.body)}"
        generated = {
            "receipt": self._receipt,
            "published-numbers": self._numbers,
            "bibliography": self._bibliography,
        }
        if part.name not in generated:
            raise Unknown(
                f"{self.page} uses the directive {{{part.name}}}, for which tools/plain.py has no plain "
                "form: add one"
            )
        return generated[part.name](part)

    def _heading(self, kind: str, part: Directive) -> str:
        label = part.options.get("label")
        words = self.name(self.target(label)) if label else NAMES.get(kind, kind.capitalize())
        return f"{words} ({self(part.argument)})" if part.argument else words

    def _math(self, tex: str, label: str | None) -> str:
        tag = f" \\tag{{{self.target(label).number}}}" if label else ""
        return f"$$\n{aligned(tex)}{tag}\n$$"

    def _figure(self, part: Directive) -> str:
        picture = f"![{part.options.get('alt', '')}]({self.file(part.argument)})"
        return "\n\n".join(
            [picture, *([self.caption(part.options.get("name"), part.body)] if part.body.strip() else [])]
        )

    def caption(self, name: str | None, text: str) -> str:
        number = f"**{self.name(self.target(name))}** " if name else ""
        return number + self(text)

    def _receipt(self, part: Directive) -> str:
        import chapter_receipt

        return "\n".join(f"- **{what}:** {much}" for what, much in chapter_receipt.lines(self.page, self.root))

    def _numbers(self, part: Directive) -> str:
        import published_numbers
        from nemlib.experiments import published

        return self("\n".join(published_numbers.markdown(published.table(*part.argument.split()))))

    def _bibliography(self, part: Directive) -> str:
        return f"The works cited here are listed in the [bibliography]({self.url('book/bibliography')})."


# ------------------------------------------------------------------ small forms

def aligned(tex: str) -> str:
    """Lines broken by \\\\ need an environment outside Sphinx, which supplies one."""
    tex = re.sub(
        r"\\(begin|end)\{(align|gather|split)\}",
        lambda m: f"\\{m[1]}{{{'gathered' if m[2] == 'gather' else 'aligned'}}}",
        tex.strip(),
    )
    if "\\\\" in tex and not re.match(r"\\begin\{(aligned|gathered)\}", tex):
        return f"\\begin{{aligned}}\n{tex}\n\\end{{aligned}}"
    return tex


def quote(title: str, body: str) -> str:
    text = f"**{title}.** {body}" if title else body
    if title and body.startswith(("$$", "-", "1.", "```", "|", ">")):
        text = f"**{title}.**\n\n{body}"
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


def fold(title: str, body: str) -> str:
    words = html.escape(re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", title), quote=False)
    return f"<details>\n<summary><strong>{words}</strong></summary>\n\n{body}\n\n</details>"


def raw(text: str) -> list[str]:
    """What MyST is left in plain Markdown outside code, for the tests; it shares no code with the rest."""
    text = re.sub(r"^[ \t>]*(`{3,})[^`{\n]*\n.*?^[ \t>]*\1[ \t]*$", "", text, flags=re.M | re.S)
    text = re.sub(r"(?<![}`])(`+)(?!`)[^\n]+?(?<!`)\1(?!`)", "", text)
    return [match[0] for match in RAW.finditer(text)]


@functools.cache
def bibliography(root: Path) -> dict[str, Entry]:
    return dict(parse_file(str(root / "book" / "references.bib")).entries)


def authors(entry: Entry) -> str:
    people = entry.persons.get("author") or entry.persons.get("editor") or []
    names = [
        str(RichText.from_latex(" ".join([*person.prelast_names, *person.last_names]))) for person in people
    ]
    return names[0] + " et al." if len(names) > 2 else " and ".join(names)


def address(entry: Entry) -> str | None:
    fields = entry.fields
    if "doi" in fields:
        return f"https://doi.org/{fields['doi']}"
    if "url" in fields:
        return fields["url"]
    return f"https://arxiv.org/abs/{fields['eprint']}" if "eprint" in fields else None
