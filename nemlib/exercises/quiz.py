"""A quiz on a figure of several panels, such as the curves of runs that went wrong: each gets one of several causes."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from nemlib.exercises.answers import Refusal
from nemlib.exercises.core import Exercise
from nemlib.exercises.verdict import Verdict

__all__ = ["QuizExercise"]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class QuizExercise(Exercise):
    """The answer names a cause for each of several panels: a dictionary, or a list in the panels' order.

    A misconception's mutants are texts `panel: cause`. right: the cause of each panel; causes: all that may be
    chosen; would_show and shows_instead: what is said where no misconception is listed; when_right: the last word;
    look_first: the hint where no misconception is listed.
    """

    right: Mapping[int, str]
    causes: tuple[str, ...]
    would_show: Mapping[str, str]
    shows_instead: Mapping[str, str]
    when_right: str
    look_first: str

    def stub_source(self) -> str:
        rows = "".join(f'    {panel}: "...",\n' for panel in self.right)
        return f"{self.name} = {{\n{rows}}}\n"

    def solution_source(self) -> str:
        rows = "".join(f'    {panel}: "{cause}",\n' for panel, cause in self.right.items())
        return f"{self.name} = {{\n{rows}}}\n"

    def examine(self, answer: object, generator: torch.Generator) -> Verdict:
        chosen = self.read(answer)
        false = [panel for panel, cause in chosen.items() if cause != self.right[panel]]
        if not false:
            return self.passed(self.when_right)
        same = len(set(chosen.values())) == 1
        found = [self.known(panel, chosen[panel]) for panel in false]
        first = next((one for one in found if one), None)
        texts = [self.explained(panel, chosen[panel]) for panel in false]
        count = len(chosen) - len(false)
        begin = f"{count} of {len(chosen)} panels {'is' if count == 1 else 'are'} right."
        facts = tuple((f"panel {panel}", f"you say: {chosen[panel]}") for panel in false)
        share = 0.0 if same else count / len(chosen)
        more = {"misconception": first.name, "hint": first.hint} if first else {
            "hint": self.look_first}
        return self.failed(" ".join([begin, texts[0]]), notes=texts[1:], facts=facts, share=share, **more)

    def known(self, panel: int, cause: str):
        """The misconception of this choice at this panel, None where none is listed."""
        return next((one for one in self.misconceptions if f"{panel}: {cause}" in one.mutants), None)

    def explained(self, panel: int, cause: str) -> str:
        known = self.known(panel, cause)
        says = known.says if known else f"{self.would_show[cause]} {self.shows_instead[self.right[panel]]}"
        return f"Panel {panel}: {says}"

    def read(self, answer: object) -> dict[int, str]:
        """The cause chosen for each panel; raises Refusal for anything else."""
        if isinstance(answer, (list, tuple)) and len(answer) == len(self.right):
            answer = dict(zip(self.right, answer))
        if not isinstance(answer, Mapping):
            raise Refusal("The answer is a dictionary from the number of each panel to one of the causes, "
                          f'such as {{1: "{self.causes[0]}", …}}.')
        given = {str(panel): cause for panel, cause in answer.items()}
        missing = [panel for panel in self.right if str(panel) not in given]
        if missing or len(given) > len(self.right):
            raise Refusal(f"There are {len(self.right)} panels, 1 to {len(self.right)}, and each needs one "
                          f"cause; {', '.join(map(str, given)) or 'none'} came.")
        return {panel: self.cause(given[str(panel)], panel) for panel in self.right}

    def cause(self, text: object, panel: int) -> str:
        listed = ", ".join(f'"{cause}"' for cause in self.causes)
        if not isinstance(text, str) or not text.strip(" ."):
            raise Refusal(f"Panel {panel} is still open: write one of {listed}.")
        fits = [cause for cause in self.causes if cause.lower() == " ".join(text.lower().split())]
        if not fits:
            raise Refusal(f"Panel {panel}: {text!r:.40} is none of the causes. They are {listed}.")
        return fits[0]
