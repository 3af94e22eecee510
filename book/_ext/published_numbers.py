"""The directive `{published-numbers}`: published numbers beside ours, generated from `results/` when the book
is built.

    ```{published-numbers}
    ```                        every table, each under a heading of its own
    ```{published-numbers} ising-lattice
    ```                        one table, without a heading, for a chapter; a preset may follow

The tables and all their words come from `nemlib.experiments.published`; this file only lays them out.
"""

from __future__ import annotations

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from nemlib.experiments import published, results


class Numbers(SphinxDirective):
    """Lays out one table, or all of them with headings."""

    optional_arguments = 2
    has_content = False

    def run(self) -> list[nodes.Node]:
        self._depend_on_results()
        try:
            chosen = [published.table(*self.arguments)] if self.arguments else list(published.tables())
        except results.ResultError as problem:
            raise self.error(str(problem)) from problem
        if self.arguments:
            return self._parse(markdown(chosen[0]))
        return [self._section(table) for table in chosen]

    def _section(self, table: published.Table) -> nodes.section:
        name = f"numbers-{table.experiment}-{table.preset}"
        section = nodes.section("", nodes.title(table.title, table.title), ids=[name])
        section += self._parse([table.text, ""] + markdown(table))
        return section

    def _parse(self, lines: list[str]) -> list[nodes.Node]:
        holder = nodes.Element()
        text = StringList("\n".join(lines).splitlines(), source=self.env.doc2path(self.env.docname))
        self.state.nested_parse(text, self.content_offset, holder)
        for table in holder.findall(nodes.table):
            table["classes"].append("nem-numbers")
        return list(holder.children)

    def _depend_on_results(self) -> None:
        """Build the page anew when a result changes or a new one comes."""
        for path in [*results.folder().glob("*/*.json"), results.folder() / "published.toml"]:
            self.env.note_dependency(str(path))
        self.env.note_reread()


def markdown(table: published.Table) -> list[str]:
    """A table, group by group, and the lines below it, as MyST Markdown."""
    text: list[str] = []
    for group, rows in table.groups.items():
        header, lines = published.grid(table, rows, cite=lambda key: f"{{cite:t}}`{key}`")
        text += [f"**{group}**" if group else "", ""]
        for line in [header, ["---"] * len(header), *lines]:
            text.append("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |")
        text.append("")
    return [*text, *(f"- {key}: {words}" for key, words in table.notes.items())]


def setup(app: Sphinx) -> dict[str, object]:
    app.add_directive("published-numbers", Numbers)
    return {"version": "1.0", "parallel_read_safe": True, "parallel_write_safe": True}
