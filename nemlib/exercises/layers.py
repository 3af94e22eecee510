"""Exercises on functions of a network's layers: slips that stop the check are named all the same, and several
results are judged together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nemlib.exercises.answers import Refusal, shape_sentence, show_case
from nemlib.exercises.core import FunctionExercise, Trial
from nemlib.exercises.verdict import Verdict

DRAWN = "a draw in place of the probability"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LayerExercise(FunctionExercise):
    """A function of a machine's layers. Two slips that stop the check are recognised all the same.

    A matrix the wrong way round stops with an error where the layers differ in size: then the cases with
    layers of one size tell which slip it is. Units that are drawn, 0 or 1, differ from call to call.
    """

    def examine(self, answer: object, generator: torch.Generator) -> Verdict:
        state = generator.get_state()
        try:
            return super().examine(answer, generator)
        except Refusal as refusal:
            named = self._named(answer, generator.set_state(state), refusal)
            if named is None:
                raise
            return named

    def _named(self, answer: object, generator: torch.Generator, refusal: Refusal) -> Verdict | None:
        if "two answers" in refusal.message:
            return self._drawn(refusal)
        if "stopped with an error" not in refusal.message or "W" not in self.arguments:
            return None
        place = self.arguments.index("W")
        square = [case for case in self.cases(generator) if len(set(case[place].shape)) == 1]
        try:
            verdict = super(LayerExercise, replace(self, cases=lambda _: square)).examine(answer, generator)
        except Refusal:
            return None
        note = f"That is on layers of one size. Where they differ: {refusal.message}"
        return replace(verdict, notes=(note, *verdict.notes)) if verdict.misconception else None

    def _drawn(self, refusal: Refusal) -> Verdict | None:
        """The misconception of a function whose two answers are both of zeros and ones."""
        found = next((one for one in self.misconceptions if one.name == DRAWN), None)
        calls = [text for name, text in refusal.facts if name.endswith("call")]
        if found is None or set("".join(calls)) - set("[], 01"):
            return None
        return self.failed(found.says, misconception=found.name, facts=refusal.facts, hint=found.hint)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PartsExercise(LayerExercise):
    """A function that gives back several things, judged as one row of numbers, one after the other.

    parts: their names. shapes: their shapes, of the case's arguments.
    """

    parts: tuple[str, ...]
    shapes: Callable[..., tuple[tuple[int, ...], ...]]

    def parted(self, row: Tensor, case: Sequence) -> tuple[Tensor, ...]:
        """The row of numbers as the several things that it is made of."""
        shapes = self.shapes(*case)
        pieces = row.split([math.prod(shape) for shape in shapes])
        return tuple(piece.view(shape) for piece, shape in zip(pieces, shapes))

    def _read(self, value: object, truth: Tensor, arguments: Mapping[str, object]) -> Tensor:
        listed = ", ".join(self.parts)
        if not isinstance(value, (tuple, list)) or len(value) != len(self.parts):
            if not isinstance(value, (Tensor, tuple, list, dict, int, float)):
                super()._read(value, truth, arguments)      # refuses what holds no numbers at all
            raise Refusal(f"{len(self.parts)} things are asked for: end with `return {listed}`.")
        row = []
        for name, part, expected in zip(self.parts, value, self.parted(truth, tuple(arguments.values()))):
            tensor = super()._read(part, expected, arguments)
            if tensor.shape != expected.shape:
                raise Refusal(f"Of your {len(self.parts)} answers, `{name}`: "
                              f"{shape_sentence(tensor, expected)}", (("case", show_case(dict(arguments))),))
            row.append(tensor.flatten())
        return torch.cat(row)

    def judge(self, trials: Sequence[Trial], *how: object, **more: object) -> Verdict:
        verdict = super().judge(trials, *how, **more)
        note = f"Shown are {', then '.join(f'`{name}`' for name in self.parts)}, all values in one row."
        return verdict if verdict.passed else replace(verdict, notes=(note, *verdict.notes))


def flat(*parts: Tensor) -> Tensor:
    """All numbers of several tensors in one row, float64."""
    return torch.cat([torch.as_tensor(part, dtype=torch.float64).flatten() for part in parts])


def as_they_are(parts: Sequence[Tensor], case: Sequence) -> Sequence[Tensor]:
    """Nothing in an answer is free to choose."""
    return parts


@dataclass(frozen=True)
class Slip:
    """A wrong answer of several parts, of whatever shapes: called, it gives them in one row."""

    parts: Callable
    settle: Callable = as_they_are

    def __call__(self, *case: object) -> Tensor:
        return flat(*self.settle(self.parts(*case), case))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ShapedExercise(PartsExercise):
    """A function that returns several things. Two slips that stop the check are recognised all the same.

    A part of another shape is read as the row of its numbers, and compared with the misconceptions' parts.
    A function that stops with an error is tried on the cases for which `alike` holds: where two sizes are
    equal, a matrix the wrong way round goes through. settle: takes out what an answer is free to choose.
    """

    settle: Callable[[Sequence[Tensor], Sequence], Sequence[Tensor]] = as_they_are
    alike: Callable[..., bool] = lambda *case: False
    lenient: bool = False

    def _named(self, answer: object, generator: torch.Generator, refusal: Refusal) -> Verdict | None:
        if "Of your" in refusal.message and not self.lenient:
            other, note = replace(self, lenient=True), refusal.message
        elif "stopped with an error" in refusal.message:
            chosen = [case for case in self.cases(generator) if self.alike(*case)]
            if not chosen:
                return None
            other = replace(self, cases=lambda _: chosen)
            note = f"That is where two sizes are equal. Where they differ: {refusal.message}"
        else:
            return None
        try:
            verdict = super(LayerExercise, other).examine(answer, generator)
        except Refusal:
            return None
        return replace(verdict, notes=(note, *verdict.notes)) if verdict.misconception else None

    def _read(self, value: object, truth: Tensor, arguments: Mapping[str, object]) -> Tensor:
        case = tuple(arguments.values())
        expected = self.parted(truth, case)
        if self.lenient and isinstance(value, (tuple, list)) and len(value) == len(self.parts):
            read = [FunctionExercise._read(self, part, one, arguments) for part, one in zip(value, expected)]
        else:
            read = self.parted(super()._read(value, truth, arguments), case)
        return flat(*self.settle(read, case))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class GradualExercise(FunctionExercise):
    """A function that is judged on ordinary cases first, and on a harder kind once these are right.

    level: how hard a case is, 0 for the ordinary ones. So a slip is known by its own name whether or not its
    author has thought of overflow; and what is wrong on hard cases only is not mixed up with anything else.
    """

    level: Callable[..., int] = lambda *case: 0

    def examine(self, answer: object, generator: torch.Generator) -> Verdict:
        cases = list(self.cases(generator))
        levels = [self.level(*case) for case in cases]
        for most in sorted(set(levels)):
            chosen = [case for case, level in zip(cases, levels) if level <= most]
            verdict = super(GradualExercise, replace(self, cases=lambda _: chosen)).examine(answer, generator)
            if not verdict.passed:
                break
        return verdict

    def named(self, name: str, facts: tuple[tuple[str, str], ...]) -> Verdict:
        """The verdict of a misconception that is seen otherwise than in numbers."""
        found = next(one for one in self.misconceptions if one.name == name)
        return self.failed(found.says, misconception=name, facts=facts, hint=found.hint, share=found.credit)
