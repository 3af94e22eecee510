"""Derivations judged line by line, and answers that are a single formula.

A derivation is a chain of expressions, each equal to the one before (the language: `expressions.py`). Every
line is evaluated in float64 at the same small random instances, and the first that differs from the line
before is named. Equal numbers alone would accept "left side = right side", so a complete derivation also
- begins with the given left-hand side (it is put in front where the reader leaves it out),
- ends in the demanded form: one of the exercise's result forms up to order, brackets and bound names,
- has in between at least `least_lines` lines that are neither of these two merely rearranged (`nearly`
  says what is still to show where only one such line is missing), and
- passes the exercise's landmarks, where it has any: something that no route can avoid writing.
Any chain that does this is accepted; whether the reasons behind the # persuade is for people to judge.
"""

import ast
import itertools
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from nemlib.exercises.answers import Refusal, a_or_an, show_apart
from nemlib.exercises.core import Exercise, Misconception, Trial, agree, matches, relation
from nemlib.exercises.expressions import Evaluation, Line, expression, names_in, read_chain, read_line
from nemlib.exercises.forms import normal_form
from nemlib.exercises.verdict import Row, Verdict

EQUAL = 1e-9      # relative; instances are float64


@dataclass(frozen=True)
class Instance:
    """Values for the symbols (numbers, states as tuples, functions), and how a person would note them."""

    shown: str
    symbols: Mapping[str, object]


@dataclass(frozen=True)
class Landmark:
    """A line that every proof must hold: it uses some names and avoids others. says: what is missing."""

    says: str
    uses: frozenset[str] = frozenset()
    avoids: frozenset[str] = frozenset()

    def seen_in(self, line: Line) -> bool:
        names = names_in(line.tree)
        return self.uses <= names and not self.avoids & names


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Symbolic(Exercise):
    """What derivations and formulas share: instances, and a table of symbols (code, LaTeX, meaning)."""

    instances: Callable[[torch.Generator], Sequence[Instance]]
    symbols: tuple[tuple[str, str, str], ...]

    def markdown(self) -> str:
        rows = "".join(f"| `{code}` | ${latex}$ | {meaning} |\n" for code, latex, meaning in self.symbols)
        return super().markdown() + f"\n| you write | the book writes | meaning |\n|---|---|---|\n{rows}"

    def values(self, line: Line, instances: Sequence[Instance]) -> torch.Tensor:
        """The line's value at each instance, shape (instances,); raises Refusal where it has none."""
        found = []
        for instance in instances:
            try:
                value = Evaluation(line.text, instance.symbols).number(line.tree)
            except Refusal as refusal:
                raise Refusal(refusal.message, (("instance", instance.shown),)) from None
            if not math.isfinite(value):
                raise Refusal("it is not a finite number.", (("instance", instance.shown),))
            found.append(value)
        return torch.tensor(found, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Formula(Symbolic):
    """The answer is one formula, written as a string; mutants are formulas too."""

    solution: str
    truth: Callable[..., float] | str      # a function of the instance's symbols, or a formula

    def solution_source(self) -> str:
        return f'{self.name} = "{self.solution}"\n'

    def stub_source(self) -> str:
        return f'{self.name} = "..."\n'

    def examine(self, answer: object, generator: torch.Generator) -> Verdict:
        if not isinstance(answer, str):
            kind = a_or_an(type(answer).__name__)
            raise Refusal(f"The formula is written as text, and {kind} came: put it between quotes.")
        line = read_line(1, answer.partition("#")[0].strip() or "...")
        if line.blank:
            raise Refusal("The formula is still blank: write an expression in place of `...`.")
        if line.tree is None:
            raise Refusal(f"The formula cannot be read: {line.problem}")
        instances = self.instances(generator)
        trials = [Trial(instance.shown, self._truth(instance), yours)
                  for instance, yours in zip(instances, self.values(line, instances))]
        return self.judge(trials, lambda mutant, k: _mistaken(mutant, instances[k]), tolerance=EQUAL)

    def _truth(self, instance: Instance) -> torch.Tensor:
        if isinstance(self.truth, str):
            return _scalar(self.truth, instance)
        return torch.tensor(self.truth(**instance.symbols), dtype=torch.float64)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Derivation(Symbolic):
    """The answer is a chain. Its first line is the given left-hand side, its last the result.

    chain: one full derivation, with its reasons. blanks: numbers of the lines that the stub leaves open.
    forms: other forms in which the last line may stand. Mutants are expressions with a slip's (wrong) value.
    """

    chain: str
    blanks: tuple[int, ...]
    forms: tuple[str, ...] = ()
    least_lines: int = 1
    nearly: str = ""
    landmarks: tuple[Landmark, ...] = ()

    def solution_source(self) -> str:
        return f'{self.name} = """\n{textwrap.dedent(self.chain).strip()}\n"""\n'

    def stub_source(self) -> str:
        lines = textwrap.dedent(self.chain).strip().splitlines()
        for number in self.blanks:
            code, _, reason = lines[number - 1].partition("#")
            lines[number - 1] = "= ..." + (f"      # {reason.strip()}" if reason else "")
        return f'{self.name} = """\n' + "\n".join(lines) + '\n"""\n'

    def given_forms(self) -> set:
        """The normal forms of the lines that stand in the stub already."""
        return {normal_form(line.tree) for line in read_chain(self.chain) if line.number not in self.blanks}

    def examine(self, answer: object, generator: torch.Generator) -> Verdict:
        lines, given = read_chain(answer), read_chain(self.chain)
        if _omits(lines, given[0]):
            lines = [replace(given[0], number=0), *lines]
        walk = _Walk(self, self.instances(generator), lines)
        verdict = walk.first_wrong_line()
        if verdict is None:
            verdict = walk.unfinished(given)
        if verdict is not None:
            return verdict
        return self.passed(f"Each of the {len(lines)} lines equals the one before at {len(walk.instances)} "
                           "random instances, and the last is the demanded result.", rows=tuple(walk.rows))


@dataclass(frozen=True)
class Step(Landmark):
    """A line that every proof must hold, found by a test of its tree: roads differ, and pass it all."""

    test: Callable[[ast.expr], bool] = lambda tree: True

    def seen_in(self, line: Line) -> bool:
        return self.test(line.tree)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LongDerivation(Derivation):
    """A derivation whose lines may go on in the next row: a step begins with `=`, and blanks number steps."""

    def stub_source(self) -> str:
        steps: list[list[str]] = []
        for row in textwrap.dedent(self.chain).strip().splitlines():
            steps[-1].append(row) if steps and not row.startswith("=") else steps.append([row])
        for number in self.blanks:
            reason = " ".join(filter(None, (row.partition("#")[2].strip() for row in steps[number - 1])))
            steps[number - 1] = ["= ..." + (f"      # {reason}" if reason else "")]
        return f'{self.name} = """\n' + "\n".join(itertools.chain(*steps)) + '\n"""\n'


class _Walk:
    """One walk down a chain: what was found on each line so far."""

    def __init__(self, exercise: Derivation, instances: Sequence[Instance], lines: Sequence[Line]):
        self.exercise, self.instances, self.lines = exercise, instances, lines
        self.rows: list[Row] = []
        self.right: list[Line] = []

    def first_wrong_line(self) -> Verdict | None:
        """The verdict on the first line that is blank, unreadable or unequal; None if all lines are equal."""
        truth = self.exercise.values(read_chain(self.exercise.chain)[0], self.instances)
        for line in self.lines:
            if line.tree is None:
                return self._stop(line, f"{_name(line)} cannot be read: {line.problem}", "cannot be read")
            if line.blank:
                what = f" It asks for: {line.reason}." if line.reason else ""
                return self._stop(line, f"{_name(line)} is still blank.{what} Write an expression in place "
                                  "of `...`.", "… blank")
            try:
                values = self.exercise.values(line, self.instances)
            except Refusal as refusal:
                slip = self._without_value(refusal)
                more = {"misconception": slip.name, "hint": slip.hint} if slip else {}
                says = f" {slip.says}" if slip else ""
                return self._stop(line, f"{_name(line)} has no value: {refusal.message}{says}",
                                  "has no value", facts=refusal.facts, **more)
            if not _equal(values, truth):
                return self._unequal(line, values, truth)
            finding = "✓ equal to the line before" if self.right else "✓ the given left-hand side"
            self._row(line, finding, float(values[0]))
            self.right.append(line)
        return None

    def unfinished(self, given: Sequence[Line]) -> Verdict | None:
        """The verdict on a chain of equal lines that is no complete derivation; None if it is one."""
        ex, start = self.exercise, normal_form(given[0].tree)
        results = {normal_form(tree) for tree in (given[-1].tree, *map(expression, ex.forms))}
        forms = [normal_form(line.tree) for line in self.lines]
        rows = tuple(self.rows)
        if forms[-1] not in results:
            back = " It is the given left-hand side again: a chain runs from there to the result."
            return ex.failed("All lines are equal, but the last is not yet the result in the form asked for, "
                             f"`{given[-1].text}`.{back * (forms[-1] == start)} Go on from your last line.",
                             rows=rows, share=self._share())
        between = set(forms) - results - {start}
        if len(between) < ex.least_lines:
            nearly = len(between) == ex.least_lines - 1 and ex.nearly
            advice = nearly or "Show what happens in between."
            more = "one line" if ex.least_lines == 1 else f"{ex.least_lines} lines"
            return ex.failed("All lines are equal, but this is not yet a proof: between the left-hand side "
                             f"and the result at least {more} must stand that do more than rearrange one of "
                             f"the two, and {len(between) or 'none'} came. {advice}",
                             rows=rows, share=self._share() if between else 0.0)
        for landmark in ex.landmarks:
            if not any(landmark.seen_in(line) for line in self.lines):
                return ex.failed(f"All lines are equal, but a step is left out. {landmark.says}", rows=rows)
        return None

    def _unequal(self, line: Line, values: torch.Tensor, truth: torch.Tensor) -> Verdict:
        ex = self.exercise
        trials = [Trial(i.shown, t, v) for i, t, v in zip(self.instances, truth, values)]
        k = next(k for k, t in enumerate(trials) if not agree(t.yours, t.truth, EQUAL))
        mine, before = show_apart(values[k], truth[k])
        previous = _name(self.right[-1])
        facts = ((previous.lower(), before), (_name(line).lower(), mine), ("at", self.instances[k].shown))

        def mistaken(mutant: str, n: int) -> torch.Tensor:
            return _mistaken(mutant, self.instances[n])

        slip = next((m for m in ex.misconceptions if matches(m, trials, mistaken, EQUAL)), None)
        says = slip.says if slip else self._pattern(trials, line, previous)
        hint = slip.hint if slip else "Which rule leads here from the line before? Do that step in two."
        facts += () if slip else self._parts(line, k)
        # the table shows all lines at the instance that the message speaks of
        self.rows = [replace(row, value=f"{float(truth[k]):.6g}") for row in self.rows]
        return self._stop(line, f"{_name(line)} is the first that does not equal the line before. {says}",
                          "✗ not equal to the line before", float(values[k]), facts=facts, hint=hint,
                          misconception=slip.name if slip else None)

    def _without_value(self, refusal: Refusal) -> Misconception | None:
        """The misconception of which a mutant has no value for the same reason at the same instance."""
        for misconception in self.exercise.misconceptions:
            for mutant in misconception.mutants:
                try:
                    self.exercise.values(read_line(1, mutant), self.instances)
                except Refusal as other:
                    if (_reason(other), other.facts) == (_reason(refusal), refusal.facts):
                        return misconception
        return None

    def _parts(self, line: Line, k: int) -> tuple[tuple[str, str], ...]:
        parts = Evaluation(line.text, self.instances[k].symbols).parts(line.tree)
        return tuple((f"where {text}", f"{value:.6g}") for text, value in parts)

    def _pattern(self, trials: Sequence[Trial], line: Line, previous: str) -> str:
        equal = sum(agree(t.yours, t.truth, EQUAL) for t in trials)
        if equal:
            return (f"They agree at {equal} of {len(trials)} instances: the step holds in a special case "
                    "only. It is no slip on this exercise's list.")
        return relation(trials, EQUAL, "Its value", f"that of {previous.lower()}") or (
            "It is no slip on this exercise's list: compare the numbers with what you expect of each part.")

    def _stop(self, line: Line, message: str, finding: str, value: float | str = "",
              **more: object) -> Verdict:
        self._row(line, finding, value)
        for later in self.lines[len(self.rows):]:
            self._row(later, "not judged", "")
        return self.exercise.failed(message, rows=tuple(self.rows), share=self._share(), **more)

    def _share(self) -> float:
        """Up to half of the points, for right lines of the reader's own before the first wrong one.

        A line that only rearranges one that the stub gives away earns nothing.
        """
        own = {normal_form(line.tree) for line in self.right} - self.exercise.given_forms()
        return 0.5 * min(1.0, len(own) / (self.exercise.least_lines + 1))

    def _row(self, line: Line, finding: str, value: float | str) -> None:
        text = value if isinstance(value, str) else f"{value:.6g}"
        number = "given" if line.number == 0 else str(line.number)
        self.rows.append(Row(number, line.text, finding, text, line.reason))


def _name(line: Line) -> str:
    return "The given line" if line.number == 0 else f"Line {line.number}"


def _omits(lines: Sequence[Line], given: Line) -> bool:
    """Whether a reader's chain leaves out the given left-hand side: it is put in front then."""
    first = lines[0]
    return first.tree is not None and not first.blank and normal_form(first.tree) != normal_form(given.tree)


def _equal(values: torch.Tensor, truth: torch.Tensor) -> bool:
    return agree(values, truth, EQUAL)


def _reason(refusal: Refusal) -> str:
    """A refusal's sentence without the place in the line."""
    return refusal.message.rpartition("`: ")[2]


def _mistaken(mutant: str, instance: Instance) -> torch.Tensor:
    """A mutant's value; empty, which equals no answer, where it has none."""
    try:
        return _scalar(mutant, instance)
    except Refusal:
        return torch.empty(0)


def _scalar(text: str, instance: Instance) -> torch.Tensor:
    return torch.tensor(Evaluation(text, instance.symbols).number(expression(text)), dtype=torch.float64)
