"""An exercise, its misconceptions, and the judgement of an answer against both.

Read `nemlib.exercises` for how to add one. Here stand the parts that all kinds of exercise share
(`Exercise`, its `judge`, the hints) and the two plain kinds: an answer that is a function, or a value.
"""

import ast
import difflib
import inspect
import math
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from nemlib.exercises.answers import (Refusal, as_tensor, call, check_callable, quietly, shape_sentence, show,
                                      show_apart, show_case)
from nemlib.exercises.verdict import Note, Verdict

SEED = 20240229       # of the random cases, where no generator is passed
INFINITE = 1e12       # beyond it, two numbers count as equally infinite: 1/0 reached by two roads


@dataclass(frozen=True, kw_only=True)
class Misconception:
    """A typical wrong answer: a mutant of the right one that really runs, and what to say to who wrote it.

    mutants: functions of the case's arguments (or expressions, in derivations and formulas); an answer
    matches if on every case one of them gives the same. credit: the share of the points that it still earns.
    """

    name: str
    says: str
    hint: str
    mutants: tuple[Callable | str, ...]
    credit: float = 0.0


def wrong(name: str, *mutants: Callable | str, says: str, hint: str, credit: float = 0.0) -> Misconception:
    """A misconception in one call: its name, what computes it, what it is, and a question that mends it."""
    return Misconception(name=name, mutants=mutants, says=says, hint=hint, credit=credit)


@dataclass(frozen=True)
class Trial:
    """One case: how it is shown, the truth and the reader's answer, both float64 tensors."""

    shown: str
    truth: torch.Tensor
    yours: torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Exercise:
    """What every exercise states. Calling it with an answer gives the verdict.

    difficulty is 1 to 3; minutes is a reader's time; statement is Markdown; equations are labels of the book.
    """

    name: str
    title: str
    chapter: int
    difficulty: int
    minutes: int
    points: float
    statement: str
    hints: tuple[str, str, str]
    misconceptions: tuple[Misconception, ...]
    equations: tuple[str, ...] = ()
    teaching_notes: str = ""

    def __post_init__(self) -> None:
        if self.difficulty not in (1, 2, 3):
            raise ValueError(f"exercise {self.name}: difficulty must be 1, 2 or 3, {self.difficulty} came")
        if len(self.hints) != 3:
            raise ValueError(f"exercise {self.name}: three hints are expected, {len(self.hints)} came")
        names = [misconception.name for misconception in self.misconceptions]
        if len(set(names)) < len(names):
            raise ValueError(f"exercise {self.name}: two misconceptions have the same name in {names}")

    def __repr__(self) -> str:
        return (f"Exercise {self.name}: {self.title} (chapter {self.chapter}, difficulty {self.difficulty} "
                f"of 3, {self.minutes} minutes, {self.points:g} points)")

    def __call__(self, answer: object, *, generator: torch.Generator | None = None) -> Verdict:
        """Judges an answer on random small cases, drawn with `generator` (of a fixed seed unless passed)."""
        try:
            return self.examine(answer, generator or torch.Generator().manual_seed(SEED))
        except Refusal as refusal:
            return self.refused(refusal)

    def examine(self, answer: object, generator: torch.Generator) -> Verdict:
        raise NotImplementedError(f"{type(self).__name__} must say how an answer is examined")

    @property
    def signature(self) -> str:
        """How the answer begins: `def name(arguments)`, or the name that the value is given."""
        return f"{self.name} ="

    def stub_source(self) -> str:
        """What the reader starts from."""
        return f"{self.name} = ...\n"

    def solution_source(self) -> str:
        """Code that passes the exercise's own check; it may use `torch` and `math`."""
        raise NotImplementedError(f"{type(self).__name__} must have a solution")

    def check_source(self) -> str:
        """The cell that asks for a verdict."""
        return f"check.{self.name}({self.name})\n"

    def grade_source(self) -> str:
        """The cell that nbgrader marks: its last value is the number of points earned."""
        return f"verdict = check.{self.name}({self.name})\nprint(verdict)\nverdict.points\n"

    def markdown(self) -> str:
        """The statement with its heading, as Markdown."""
        stars = "★" * self.difficulty + "☆" * (3 - self.difficulty)
        return (f"**{self.title}** · difficulty {stars} ({self.difficulty} of 3) · {self.minutes} minutes · "
                f"{self.points:g} points\n\n{textwrap.dedent(self.statement).strip()}\n")

    def passed(self, message: str, **more: object) -> Verdict:
        return Verdict(name=self.name, title=self.title, passed=True, message=message, points=self.points,
                       out_of=self.points, **more)

    def failed(self, message: str, *, share: float = 0.0, notes: Sequence[str] = (),
               **more: object) -> Verdict:
        ask = f'Three hints: `check.hint("{self.name}")`. The solution: `check.solution("{self.name}")`.'
        return Verdict(name=self.name, title=self.title, passed=False, message=message, notes=(*notes, ask),
                       points=math.floor(share * self.points * 4) / 4, out_of=self.points, **more)

    def refused(self, refusal: Refusal) -> Verdict:
        return self.failed(refusal.message, facts=refusal.facts, hint=refusal.hint)

    def judge(self, trials: Sequence[Trial], mistaken: Callable[[Callable | str, int], torch.Tensor],
              notes: Sequence[str] = (), tolerance: float = 1e-4,
              about: Callable[[int], tuple[str, tuple]] = lambda k: ("", ())) -> Verdict:
        """Compares answers with the truth, then with each misconception's mutants on all cases.

        about(k) has more to say on case k where no misconception matches: a sentence and facts.
        """
        different = [k for k, t in enumerate(trials) if not agree(t.yours, t.truth, tolerance)]
        if not different:
            return self.passed(f"It agrees with the truth, computed in another way, on {_count(trials)}.",
                               notes=notes)
        first = trials[different[0]]
        yours, expected = show_apart(first.yours, first.truth)
        facts = (("smallest case", first.shown), ("yours", yours), ("expected", expected))
        for misconception in self.misconceptions:
            if matches(misconception, trials, mistaken, tolerance):
                return self.failed(misconception.says, misconception=misconception.name, facts=facts,
                                   hint=misconception.hint, notes=notes, share=misconception.credit)
        broken, more = about(different[0])
        message = what_differs(trials, different, tolerance, broken)
        return self.failed(message, facts=(*facts, *more), notes=notes)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FunctionExercise(Exercise):
    """The answer is a function. `cases` draws tuples of arguments, `truth` computes in another way.

    solution: the function that the reader should arrive at; its signature and docstring make the stub.
    must and on_the_way help where no misconception matches: pairs of a sentence and a test of
    (answer, *arguments) that the truth always passes; and named intermediate numbers from the arguments.
    """

    solution: Callable
    truth: Callable
    cases: Callable[[torch.Generator], Iterable[tuple]]
    must: tuple[tuple[str, Callable], ...] = ()
    on_the_way: Callable[..., Mapping[str, object]] | None = None
    tolerance: float = 1e-4      # float32 answers pass
    seconds: float = 5.0         # for all cases together

    @property
    def arguments(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.solution).parameters)

    @property
    def signature(self) -> str:
        source = _source(self.solution)
        return "\n".join(source.splitlines()[:ast.parse(source).body[0].body[0].lineno - 1])

    def solution_source(self) -> str:
        return _source(self.solution)

    def stub_source(self) -> str:
        """The solution's own signature and docstring over an empty body, as nbgrader leaves it."""
        source = _source(self.solution)
        function = ast.parse(source).body[0]
        head = source.splitlines()[:function.body[0].end_lineno]
        return "\n".join([*head, "    # YOUR CODE HERE", "    raise NotImplementedError()"]) + "\n"

    def examine(self, answer: object, generator: torch.Generator) -> Verdict:
        check_callable(answer, self.name, self.arguments)
        cases = sorted(self.cases(generator), key=_size)
        with quietly() as printed:
            trials, stopped = self._try_all(answer, cases)
        notes = ["Your function printed something; the check kept it to itself."] * bool(printed.getvalue())
        notes += [refusal.message for refusal in stopped[:1]]

        def mistaken(mutant: Callable, k: int) -> torch.Tensor:
            return torch.as_tensor(mutant(*cases[k]), dtype=torch.float64)

        def about(k: int) -> tuple[str, tuple[tuple[str, str], ...]]:
            if stopped:
                raise stopped[0]
            numbers = self.on_the_way(*cases[k]) if self.on_the_way else {}
            facts = tuple((f"on the way: {name}", show(value)) for name, value in numbers.items())
            return self._broken_rule(trials, cases), facts

        return self.judge(trials, mistaken, notes, self.tolerance, about)

    def _broken_rule(self, trials: Sequence[Trial], cases: Sequence[tuple]) -> str:
        """The first rule of `must` that some answer breaks, as a sentence."""
        for says, test in self.must:
            for trial, case in zip(trials, cases):
                sound = trial.yours.shape == trial.truth.shape and bool(trial.yours.isfinite().all())
                if sound and not bool(test(trial.yours, *case)):
                    return f"A right answer keeps this rule, and yours does not: {says}"
        return ""

    def _try_all(self, answer: Callable, cases: Sequence[tuple]) -> tuple[list[Trial], list[Refusal]]:
        """A trial a case, and where the answer divided by zero: that counts as infinite, as mutants do."""
        end = time.monotonic() + self.seconds
        trials, stopped = [], []
        for case in cases:
            arguments = dict(zip(self.arguments, case))
            truth = torch.as_tensor(self.truth(*case), dtype=torch.float64)
            twice = []
            try:
                for _ in range(2):
                    value = call(answer, arguments, max(end - time.monotonic(), 0.01))
                    twice.append(self._read(value, truth, arguments))
            except Refusal as refusal:
                stopped.append(refusal)
                if not isinstance(refusal.__cause__, ZeroDivisionError):
                    raise stopped[0] from None
                twice = [torch.full_like(truth, math.inf)] * 2
            if not agree(*twice, self.tolerance):
                first, second = show_apart(*twice)
                facts = (("case", show_case(arguments)), ("first call", first), ("second call", second))
                raise Refusal("Called twice with the same arguments, your function gave two answers: it "
                              "draws random numbers or keeps something between calls.", facts)
            trials.append(Trial(show_case(arguments), truth, twice[0]))
        return trials, stopped

    def _read(self, value: object, truth: torch.Tensor, arguments: Mapping[str, object]) -> torch.Tensor:
        try:
            return as_tensor(value, truth)
        except Refusal as refusal:
            raise Refusal(refusal.message, (("case", show_case(dict(arguments))),)) from None


def function_exercise(**settings: object) -> Callable[[Callable], FunctionExercise]:
    """Decorates a solution: the function becomes the exercise that it solves."""
    def make(solution: Callable) -> FunctionExercise:
        return FunctionExercise(name=solution.__name__, solution=solution, **settings)
    return make


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ValueExercise(Exercise):
    """The answer is a number or an array. `truth` and the mutants are functions without arguments."""

    solution: str                # code that gives the exercise's name its value
    truth: Callable[[], object]
    asked: str                   # what is asked, in a few words: "the mean of the six draws"
    tolerance: float = 1e-4

    def solution_source(self) -> str:
        return textwrap.dedent(self.solution).strip() + "\n"

    def examine(self, answer: object, generator: torch.Generator) -> Verdict:
        truth = torch.as_tensor(self.truth(), dtype=torch.float64)
        if answer is None:
            raise Refusal("There is no answer yet: None came instead of a value.")
        trial = Trial(self.asked, truth, as_tensor(answer, truth))
        return self.judge([trial], lambda mutant, _: torch.as_tensor(mutant(), dtype=torch.float64),
                          tolerance=self.tolerance)


def agree(yours: torch.Tensor, truth: torch.Tensor, tolerance: float = 1e-4) -> bool:
    """Equal in shape and, within the tolerance, in every value; NaN equals NaN, infinite equals infinite."""
    if yours.shape != truth.shape:
        return False
    vast = (yours.abs() > INFINITE) & (truth.abs() > INFINITE)
    close = torch.isclose(yours, truth, rtol=tolerance, atol=tolerance / 100, equal_nan=True)
    return bool((vast | close).all())


def matches(misconception: Misconception, trials: Sequence[Trial], mistaken: Callable,
            tolerance: float) -> bool:
    """Whether on every case one of the misconception's mutants gives the reader's answer."""
    return all(any(agree(trial.yours, mistaken(mutant, k), tolerance) for mutant in misconception.mutants)
               for k, trial in enumerate(trials))


def what_differs(trials: Sequence[Trial], different: Sequence[int], tolerance: float,
                 broken: str = "") -> str:
    """For a wrong answer that nobody listed: the most telling thing that can be seen in its numbers."""
    first = trials[different[0]]
    if first.yours.shape != first.truth.shape:
        return shape_sentence(first.yours, first.truth)
    if not first.yours.isfinite().all() and first.truth.isfinite().all():
        kind = "NaN (not a number)" if first.yours.isnan().any() else "infinite"
        return (f"Your answer is {kind} where the right one is finite. Typical causes: a division by zero, "
                "the log of zero or of a negative number, the exponential of a large one.")
    right = len(trials) - len(different)
    count = f"It is right on {right} of" if right else "It differs on all of"
    count += f" {_count(trials)}"
    said = relation(trials, tolerance) or _nearness(trials)
    return " ".join(filter(None, [count + ".", broken, said])) if said or broken else (
        f"{count}, and matches no misconception on this exercise's list. Work the case below by hand and "
        "find the first intermediate number that differs from your code's.")


def _nearness(trials: Sequence[Trial]) -> str:
    if any(t.yours.shape != t.truth.shape for t in trials):
        return ""
    far = max(float(((t.yours - t.truth).abs() / t.truth.abs().clamp(min=1e-9)).max()) for t in trials)
    return "" if not far < 0.1 else (
        f"It is close, never off by more than {far:.1%}: the idea is right. Look for too few steps, a wrong "
        "stopping rule, a rounded constant or a lost small term.")


def relation(trials: Sequence[Trial], tolerance: float = 1e-4, who: str = "Your answer",
             right: str = "the right one") -> str:
    """A simple rule that ties all wrong answers to the right ones, as a sentence; empty if there is none."""
    if any(t.yours.shape != t.truth.shape for t in trials):
        return ""
    yours, truth = (torch.cat([getattr(t, kind).flatten() for t in trials]) for kind in ("yours", "truth"))
    if not (yours.isfinite().all() and truth.isfinite().all()) or len(yours) < 2:
        return ""
    if yours.max() == yours.min() and truth.max() != truth.min():
        return f"{who} is {show_apart(yours[0], truth[0])[0]} whatever the case: does it use what is given?"
    for sentence, candidate in _simple_rules(yours, truth):
        if agree(yours, candidate, tolerance):
            return f"{who} is always {sentence.format(right=right)}."
    for sentence, rule in _RULES_BY_CASE:
        several = any(t.truth.numel() > 1 for t in trials)
        if several and all(agree(t.yours, rule(t), tolerance) for t in trials):
            return f"{who} is {sentence.format(right=right)}."
    return ""


def _simple_rules(yours: torch.Tensor, truth: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    biggest = truth.abs().argmax()
    factor = yours[biggest] / truth[biggest] if truth[biggest] != 0 else torch.tensor(0.0)
    offset = yours[0] - truth[0]
    more = "more" if offset > 0 else "less"
    return [("the negative of {right}: look for a lost minus", -truth),
            (f"{factor:.4g} times {{right}}: look for a lost or doubled factor", factor * truth),
            (f"{abs(offset):.4g} {more} than {{right}}: is a term lost or counted twice?", truth + offset),
            ("1 minus {right}: the complement", 1 - truth), ("1 over {right}: upside down", 1 / truth),
            ("the square of {right}", truth**2), ("the square root of {right}", truth.sqrt()),
            ("the exponential of {right}: a log is missing", truth.exp()),
            ("the log of {right}: an exponential is missing", truth.log())]


_RULES_BY_CASE = (
    ("{right}, transposed", lambda t: t.truth.mT if t.truth.dim() > 1 else t.truth * math.nan),
    ("{right} in reverse order", lambda t: t.truth.flip(-1) if t.truth.dim() else t.truth),
    ("proportional to {right}, with a factor that changes from case to case: is it normalised?",
     lambda t: t.truth * (t.truth * t.yours).sum() / t.truth.square().sum().clamp(min=1e-30)),
    ("{right} in another order: look at the indices",
     lambda t: t.yours if agree(t.yours.flatten().msort(), t.truth.flatten().msort()) else t.truth + 1),
)


class Help:
    """Hints in three steps, the solution last; remembers in this kernel how many hints were given."""

    def __init__(self, exercises: Sequence[Exercise]):
        self.exercises = {exercise.name: exercise for exercise in exercises}
        self.given = dict.fromkeys(self.exercises, 0)

    def hint(self, name: str, step: int | None = None) -> Note:
        """The next of three hints for an exercise, or hint number `step`."""
        exercise = self._find(name)
        if isinstance(exercise, Note):
            return exercise
        number = self.given[exercise.name] + 1 if step is None else step
        if not 1 <= number <= 3:
            again, last = f'check.hint("{exercise.name}", step=1)', f'check.solution("{exercise.name}")'
            return Note(f"No more hints · {exercise.title}",
                        f"All three hints are given. `{again}` shows the first again, `{last}` the solution.")
        self.given[exercise.name] = max(number, self.given[exercise.name])
        return Note(f"Hint {number} of 3 · {exercise.title}", exercise.hints[number - 1])

    def solution(self, name: str) -> Note:
        """The solution of an exercise."""
        exercise = self._find(name)
        if isinstance(exercise, Note):
            return exercise
        return Note(f"Solution · {exercise.title}", code=exercise.solution_source().rstrip())

    def _find(self, name: str | Exercise) -> Exercise | Note:
        key = getattr(name, "name", None) or getattr(name, "__name__", None) or str(name)
        if key in self.exercises:
            return self.exercises[key]
        close = difflib.get_close_matches(key, self.exercises, n=1)
        guess = f" Did you mean `{close[0]}`?" if close else ""
        names = ", ".join(self.exercises)
        return Note(f"There is no exercise named {key!r:.40}", f"The names are {names}.{guess}")


def _source(function: Callable) -> str:
    """A function's source without its decorators."""
    source = textwrap.dedent(inspect.getsource(function))
    first = ast.parse(source).body[0].lineno
    return "\n".join(source.splitlines()[first - 1:]) + "\n"


def _size(case: tuple) -> int:
    return sum(part.numel() if isinstance(part, torch.Tensor) else 1 for part in case)


def _count(trials: Sequence[Trial]) -> str:
    return f"{len(trials)} cases" if len(trials) > 1 else "the case"
