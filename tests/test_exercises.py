"""The core of the exercises: every answer, however odd, is answered by a sentence."""

import functools
import html.parser
import math
import re
import signal
import sys
import threading
import time

import numpy as np
import pytest
import torch

from nemlib.exercises import answers
from nemlib.exercises.core import Help, ValueExercise, function_exercise, wrong
from nemlib.exercises.verdict import Note


def draws(generator):
    for n in (5, 1, 2, 3):
        yield ((10 * torch.rand(n, generator=generator, dtype=torch.float64)).round(decimals=1),)


TEACHING = dict(
    title="The mean of squares", chapter=1, difficulty=1, minutes=5, points=2, statement="Average $x^2$.",
    hints=("Square.", "Add.", "Divide."), cases=draws, seconds=0.4,
    truth=lambda x: sum(value * value for value in x.tolist()) / len(x),
    must=(("a square is never negative.", lambda yours, x: yours >= 0),),
    on_the_way=lambda x: {"squares": x.square()},
    misconceptions=(
        wrong("sum for mean", lambda x: x.square().sum(), says="You added.", hint="Divide by n."),
        wrong("square of the mean", lambda x: x.mean()**2, lambda x: -x.mean()**2, says="You averaged first.",
              hint="Square first.", credit=0.5),
    ))


@function_exercise(**TEACHING)
def mean_square(x: torch.Tensor) -> torch.Tensor:
    """The mean of x²; x: (n,)."""
    return x.square().mean()


@function_exercise(**{**TEACHING, "title": "Centre", "truth": lambda x: x - sum(x.tolist()) / len(x),
                      "must": (),
                      "misconceptions": ()})
def centred(x: torch.Tensor) -> torch.Tensor:
    """x minus its mean; x: (n,)."""
    return x - x.mean()


def stub(x): ...


def documented_stub(x):
    """Only a docstring."""


def unfinished(x):
    raise NotImplementedError()


def no_return(x):
    x.square().mean()


def changes_its_input(x):
    x -= 1
    return (x + 1).square().mean()


def changes_through_numpy(x):
    x.numpy()[0] = 0
    return 0.0


def endless(x):
    while True:
        x = x + 1


def endless_and_deaf(x):
    """One bare except swallows the first ring; the next one ends the function."""
    while True:
        try:
            while True:
                x = x + 1
        except:  # noqa: E722
            while True:
                x = x + 1


def boundless(x):
    return boundless(x)


def divides(x):
    return 1 / (len(x) - len(x))


ODD_ANSWERS = {
    "nothing": (None, "no answer yet"), "dots": (..., "no answer yet"),
    "a result": (3.0, "wants your function itself"),
    "text": ("x**2", "wants your function itself"), "a stub": (stub, "still the stub"),
    "a docstring only": (documented_stub, "still the stub"),
    "NotImplementedError": (unfinished, "still the stub"),
    "no return": (no_return, "`return` missing"), "dots returned": (lambda x: ..., "still"),
    "text returned": (lambda x: "7", "is text"), "a generator": (lambda x: (v for v in x), "generator"),
    "a map": (lambda x: map(float, x), "holds no numbers yet"),
    "brackets forgotten": (lambda x: x.mean, "brackets"),
    "complex": (lambda x: x.mean() * (1 + 1j), "complex"),
    "zero imaginary part": (lambda x: x.mean() + 0j, "`.real`"),
    "a comparison": (lambda x: x.mean() > 2, "True or False"), "a bool": (lambda x: True, "True or False"),
    "ragged": (lambda x: [[1, 2], [3]], "one shape"),
    "a dict": (lambda x: {"mean": 1.0}, "a dict of 1 parts"),
    "objects": (lambda x: object(), "an object came"),
    "an array, not a number": (lambda x: x, "one number is expected"),
    "one number in a list": (lambda x: [float(x.square().mean())], "`.squeeze()`"),
    "NaN": (lambda x: math.nan, "NaN"), "infinite": (lambda x: math.inf, "infinite"),
    "an exception": (divides, "ZeroDivisionError"), "out of range": (lambda x: x[7], "IndexError"),
    "its line": (divides, "`return 1 / (len(x) - len(x))`"), "recursion": (boundless, "RecursionError"),
    "exit": (lambda x: sys.exit(), "SystemExit"),
    "a name": (lambda x: undefined_name, "NameError"),  # noqa: F821
    "dtype": (lambda x: x @ torch.ones(len(x)), "dtype=torch.float64"),
    "no argument": (lambda: 0, "must take 1 argument, (x)"),
    "two arguments": (lambda x, y: 0, "is written (x, y)"),
    "in place": (changes_its_input, "changed its argument `x` in place"),
    "in place through numpy": (changes_through_numpy, "in place"),
    "endless": (endless, "had not returned"), "endless and deaf": (endless_and_deaf, "had not returned"),
    "random": (lambda x: torch.rand(()), "two answers"), "a class": (int, "stopped with an error"),
}


@pytest.mark.parametrize("answer, words", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
def test_every_odd_answer_gets_a_sentence(answer, words):
    verdict = mean_square(answer)
    assert not verdict.passed and verdict.points == 0 and verdict.misconception is None
    assert words in f"{verdict.message} {verdict.hint}"
    assert "Traceback" not in repr(verdict) and "nemlib/exercises" not in repr(verdict)
    assert verdict.message.rstrip()[-1] in ".?)"


def test_a_counter_kept_between_calls_is_noticed():
    calls = []
    verdict = mean_square(lambda x: calls.append(1) or float(len(calls)))
    assert "two answers" in verdict.message and ("first call", "1") in verdict.facts


@pytest.mark.parametrize("function", [endless, endless_and_deaf])
def test_the_time_limit_works_in_another_thread(function):
    verdicts = []
    thread = threading.Thread(target=lambda: verdicts.append(mean_square(function)))
    start = time.monotonic()
    thread.start()
    thread.join(10)
    assert "had not returned" in verdicts[0].message and time.monotonic() - start < 5


def test_a_worker_thread_hands_back_values_and_errors():
    assert answers._within_thread(5, lambda x: x + 1, (1,)) == 2
    with pytest.raises(ZeroDivisionError):
        answers._within_thread(5, lambda: 1 / 0, ())
    with pytest.raises(answers.OutOfTime):
        answers._within_thread(0.05, time.sleep, (0.6,))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer on this system")
def test_another_timer_that_runs_is_put_back():
    def handle(*_):
        raise AssertionError("the timer rang too early")

    handler = signal.signal(signal.SIGALRM, handle)
    remaining, _ = signal.setitimer(signal.ITIMER_REAL, 60, 30)
    try:
        mean_square(endless)      # takes 0.4 s of them
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 30 < left < 59.7 and interval == 30
        assert signal.getsignal(signal.SIGALRM) is handle
    finally:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, remaining)      # pytest-timeout's own


def test_a_keyboard_interrupt_is_the_readers_own():
    def interrupted(x):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        mean_square(interrupted)


class Callable:
    def __call__(self, x):
        return float((x * x).mean())


@pytest.mark.parametrize("answer", [
    lambda x: (x**2).mean(), lambda x: float((x**2).mean()), lambda x: np.mean(x.numpy()**2),
    lambda x: x.float().square().mean(), lambda x: (x @ x) / len(x),
    lambda values: sum(v * v for v in values) / len(values), lambda *x: x[0].square().mean(), Callable(),
    lambda x: np.array((x.numpy()**2).mean()), lambda x: x.clone().requires_grad_().square().mean(),
    functools.partial(lambda power, x: (x**power).mean(), 2), mean_square.solution,
])
def test_right_answers_pass_in_any_form(answer):
    verdict = mean_square(answer)
    assert verdict.passed and verdict and verdict.points == 2 and verdict.misconception is None, verdict


@pytest.mark.parametrize("answer", [
    lambda x: (x - x.mean()).tolist(), lambda x: [v - x.mean() for v in x], lambda x: (x - x.mean()).numpy(),
    lambda x: tuple(float(v - x.mean()) for v in x), lambda x: (x - x.mean()).float(),
])
def test_right_vectors_pass_in_any_form(answer):
    assert centred(answer).passed


def test_printing_is_kept_quiet_and_mentioned(capsys):
    verdict = mean_square(lambda x: print("x" * 10**6) or x.square().mean())
    assert verdict.passed and "printed" in verdict.notes[0]
    assert capsys.readouterr().out == ""


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    mean_square(lambda x: torch.rand(()))
    assert torch.equal(before, torch.get_rng_state())


def test_the_smallest_differing_case_is_shown_with_both_values():
    verdict = mean_square(lambda x: x.square().mean() if len(x) < 2 else x.square().sum())
    facts = dict(verdict.facts)
    assert facts["smallest case"].count(",") == 1      # two numbers: one is right, three and five come later
    assert float(facts["yours"]) == pytest.approx(2 * float(facts["expected"]), rel=1e-3)


def test_values_are_shown_with_enough_digits_to_differ():
    pair = answers.show_apart(torch.tensor(1.000001, dtype=torch.float64),
                              torch.tensor(1.0, dtype=torch.float64))
    assert pair[0] != pair[1]


def test_cases_come_from_the_generator_that_is_passed():
    def first(seed):
        return dict(mean_square(lambda x: x.sum(), generator=torch.Generator().manual_seed(seed)).facts)
    assert first(1) == first(1) != first(2)
    assert mean_square(lambda x: 0 * x.sum()).facts == mean_square(lambda x: 0 * x.sum()).facts


def test_a_misconception_is_named_with_its_hint_and_its_share_of_the_points():
    added = mean_square(lambda x: sum(v * v for v in x))
    assert (added.misconception, added.hint, added.points) == ("sum for mean", "Divide by n.", 0)
    averaged = mean_square(lambda x: -x.mean()**2)      # its second variant
    assert (averaged.misconception, averaged.points) == ("square of the mean", 1)


@pytest.mark.parametrize("answer, words", [
    (lambda x: -x.square().mean(), "negative of the right one"),
    (lambda x: 3 * x.square().mean(), "3 times the right one"),
    (lambda x: x.square().mean() + 2, "2 more than"), (lambda x: x.square().mean() - 2, "2 less than"),
    (lambda x: 1 - x.square().mean(), "complement"), (lambda x: 1 / x.square().mean(), "upside down"),
    (lambda x: x.square().mean().sqrt(), "square root"), (lambda x: x.square().mean()**2, "the square of"),
    (lambda x: x.square().mean().log(), "log of the right one"), (lambda x: 4.0, "whatever the case"),
    (lambda x: x.square().mean() * 1.02 + 0.1, "close"),
    (lambda x: x.mean() - 100, "a square is never negative"),
])
def test_an_unlisted_wrong_answer_gets_what_can_be_seen_in_its_numbers(answer, words):
    verdict = mean_square(answer)
    assert not verdict.passed and verdict.misconception is None
    assert words in verdict.message, verdict
    assert {"smallest case", "yours", "expected", "on the way: squares"} <= dict(verdict.facts).keys()


@pytest.mark.parametrize("answer, words", [
    (lambda x: (x - x.mean()).flip(0), "reverse order"),
    (lambda x: (x - x.mean()) * x[0], "is it normalised"),
    (lambda x: (x - x.mean()).sort()[0], "another order"),
    (lambda x: (x - x.mean())[:, None], "the number of values is right"),
    (lambda x: (x - x.mean()).sum(), "sum or mean too much"),
])
def test_vectors_have_their_own_patterns(answer, words):
    assert words.lower() in centred(answer).message.lower()


def test_an_answer_without_a_pattern_is_sent_back_to_the_smallest_case():
    verdict = mean_square(lambda x: x.abs().sum() + 7 * x[0])
    assert "by hand" in verdict.message and "no misconception" in verdict.message


MEDIAN = ValueExercise(
    name="median", title="A median", chapter=1, difficulty=1, minutes=2, points=1, statement="Of 3, 1, 8.",
    hints=("Sort.", "Middle.", "3."), solution="median = 3.0", truth=lambda: sorted([3, 1, 8])[1],
    asked="the median of 3, 1, 8",
    misconceptions=(wrong("mean for median", lambda: 4.0, says="This is the mean.", hint="Sort them."),))


@pytest.mark.parametrize("answer, passed, name", [
    (3, True, None), (3.0, True, None), (torch.tensor(3), True, None), (np.float32(3), True, None),
    (4, False, "mean for median"), (5, False, None), (..., False, None), (None, False, None),
    ([3], False, None),
    ("3", False, None), (lambda: 3, False, None), (float("nan"), False, None),
])
def test_a_value_can_be_the_answer(answer, passed, name):
    verdict = MEDIAN(answer)
    assert (verdict.passed, verdict.misconception) == (passed, name)


def test_a_value_exercise_has_stub_and_solution():
    scope = {}
    exec(MEDIAN.solution_source(), scope)
    assert MEDIAN(scope["median"]).passed
    exec(MEDIAN.stub_source(), scope)
    assert "still open" in MEDIAN(scope["median"]).message


def test_hints_come_in_three_steps_and_the_solution_last():
    check = Help([mean_square, centred])
    assert [check.hint("mean_square").text for _ in range(3)] == ["Square.", "Add.", "Divide."]
    assert 'check.solution("mean_square")' in check.hint("mean_square").text
    assert check.hint("mean_square", step=1).text == "Square."
    assert check.hint("centred").text == "Square."      # each exercise counts for itself
    assert check.hint(centred).text == "Add."           # the exercise itself will do for its name
    assert "return x.square().mean()" in check.solution("mean_square").code


def test_an_unknown_name_is_answered_by_the_names():
    note = Help([mean_square]).hint("meansquare")
    assert "mean_square" in note.text and "Did you mean" in note.text
    assert isinstance(Help([mean_square]).solution(None), Note)


def test_the_sources_agree():
    assert mean_square.signature == "def mean_square(x: torch.Tensor) -> torch.Tensor:"
    assert mean_square.stub_source().splitlines()[0] == mean_square.signature
    assert mean_square.solution_source().splitlines()[0] == mean_square.signature
    assert "return" not in mean_square.stub_source() and '"""The mean' in mean_square.stub_source()
    assert "difficulty ★☆☆ (1 of 3) · 5 minutes · 2 points" in mean_square.markdown()


def test_the_graded_cell_gives_nbgrader_its_points():
    """What stands in the cell's last line is what nbgrader reads: 2 for right, 1 and 0 for wrong ones."""
    nbformat = pytest.importorskip("nbformat")
    grade = pytest.importorskip("nbgrader.utils").determine_grade

    class Check:
        mean_square = staticmethod(mean_square)

    for answer, points in ((lambda x: (x @ x) / len(x), 2), (lambda x: x.mean()**2, 1), (unfinished, 0)):
        *body, last = mean_square.grade_source().splitlines()
        scope = {"check": Check, "mean_square": answer}
        exec("\n".join(body), scope)
        value = eval(last, scope)
        cell = nbformat.v4.new_code_cell(mean_square.grade_source(), outputs=[
            nbformat.v4.new_output("execute_result", data={"text/plain": repr(value)})])
        cell.metadata.nbgrader = dict(grade=True, solution=False, points=2, grade_id="mean_square")
        assert grade(cell) == (points, 2)


@pytest.mark.parametrize("change, words", [
    ({"difficulty": 4}, "difficulty must be 1, 2 or 3, 4 came"), ({"hints": ("a", "b")}, "three hints"),
    ({"misconceptions": TEACHING["misconceptions"] * 2}, "same name"),
])
def test_an_authors_slip_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        function_exercise(**{**TEACHING, **change})(mean_square.solution)


# --- what is shown ------------------------------------------------------------------------------------------

class Page(html.parser.HTMLParser):
    """Collects a fragment's text, tags and attributes; fails on tags that do not close."""

    def __init__(self, fragment):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(fragment)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


SHOWN = {"right": mean_square(mean_square.solution), "named": mean_square(lambda x: x.square().sum()),
         "unnamed": mean_square(lambda x: x.square().mean() + 1), "refused": mean_square(None),
         "hint": Help([mean_square]).hint("mean_square"),
         "solution": Help([mean_square]).solution("mean_square")}


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN)
def test_the_html_is_accessible(shown):
    page = Page(shown._repr_html_())
    assert not {"script", "style", "img", "iframe", "link"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("id", "href", "src")]
    styles = " ".join(value for name, value in page.attributes if name == "style")
    own = r"(^|[;\s])(color|background[a-z-]*|font-size)\s*:"      # these are the page's, light or dark
    assert not re.search(own, styles)
    headers = [dict([attribute]) for attribute in page.attributes if attribute[0] == "scope"]
    assert page.tags.count("th") == len(headers) and page.tags.count("caption") == page.tags.count("table")
    assert ("role", "group") in page.attributes


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN)
def test_colour_is_never_the_only_carrier(shown):
    """The state stands in words in text and HTML, and the coloured line differs in kind too."""
    states = {True: "Right", False: "Not yet", None: ""}
    state = states[getattr(shown, "passed", None)]
    text = Page(shown._repr_html_()).text
    assert state in text and state in repr(shown)
    kinds = {re.search(r"border-left:3px (\w+)", other._repr_html_()).group(1) for other in SHOWN.values()}
    assert kinds == {"solid", "dashed", "dotted"}


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN)
def test_text_and_html_say_the_same(shown):
    page = " ".join(Page(shown._repr_html_()).text.split()).replace(" ", "")
    for word in re.findall(r"\w+", repr(shown)):
        assert word in page


def test_what_a_reader_writes_is_escaped():
    def tricky(x):
        raise ValueError("<script>alert(1)</script> & `code`")
    shown = mean_square(tricky)._repr_html_()
    assert "<script>" not in shown and "&lt;script&gt;" in shown
