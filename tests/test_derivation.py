"""Derivations: the first unequal line is named, any right route passes, and nothing else is ever run."""

import html.parser
import itertools
import math
import random
from dataclasses import replace

import pytest
import torch

from nemlib.exercises import neural_em
from nemlib.exercises.answers import Refusal
from nemlib.exercises.core import wrong
from nemlib.exercises.derivation import Derivation, Formula, Instance, Landmark
from nemlib.exercises.expressions import Evaluation, expression, read_chain, read_line
from nemlib.exercises.forms import normal_form


def energies(generator):
    """A sum over two hidden units h in {0, 1}: small numbers, the smallest instance first."""
    drawn = torch.randint(1, 9, (4, 3), generator=generator).tolist()
    return [Instance(f"a = {a / 10}, b = {b / 10}, w = {w / 10}",
                     {"a": a / 10, "b": b / 10, "w": w / 10, "bits": (0, 1), "f": lambda h, a=a: h * a / 10,
                      "pairs": tuple(itertools.product((0, 1), repeat=2))})
            for a, b, w in ((1, 2, 3), *drawn)]


COMMON = dict(chapter=0, difficulty=1, minutes=5, points=4, statement="Sum out $h$.", hints=("a", "b", "c"),
              instances=energies, symbols=(("a, b", "a, b", "weights"),))
FREE_ENERGY = Derivation(
    name="free_energy", title="The free energy of one hidden unit", **COMMON,
    chain="""
        -log(sum(exp(b + h*a) for h in bits))
        = -log(exp(b) + exp(b + a))          # h is 0 or 1
        = -log(exp(b) * (1 + exp(a)))        # a common factor
        = -b - log(1 + exp(a))
        """,
    blanks=(2, 3), forms=("-(b + log(1 + exp(a)))",), least_lines=1,
    misconceptions=(
        wrong("sign", "b + log(1 + exp(a))", says="The minus is lost.", hint="F = −log Z."),
        wrong("dropped h = 0", "-b - a", says="h = 0 counts too.", hint="exp(0) = 1."),
        wrong("dropped the bias", "-log(1 + exp(a))", says="b is lost.", hint="Factor it out.")))
LEFT = "-log(sum(exp(b + h*a) for h in bits))"
RESULT = "-b - log(1 + exp(a))"


def value(text, **symbols):
    line = read_line(1, text)
    assert line.tree is not None, line.problem
    return Evaluation(line.text, symbols).number(line.tree)


# --- the language -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, number", [
    ("1 + 2*3 - 4/8", 6.5), ("2**3**2", 512), ("-2**2", -4), ("+3", 3), ("9**0.5", 3), ("exp(0) + log(1)", 1),
    ("sigmoid(0)", 0.5), ("sigmoid(-800) + sigmoid(800)", 1), ("sqrt(abs(-4))", 2),
    ("tanh(0)*cosh(0)*sinh(0)", 0),
    ("sum(k for k in range(5))", 10), ("sum([k for k in levels])", 3), ("prod(k for k in levels)", 2),
    ("max(k for k in levels) - min(1, 2)", 1), ("sum(k for k in range(10) if k > 7)", 17),
    ("sum(i*j for i in levels for j in levels)", 9), ("sum(i for i in levels if not i == 1)", 2),
    ("sum(a*b for a, b in pairs)", 14), ("sum(sum(j for j in range(i)) for i in range(4))", 4),
    ("len(levels)", 2),
    ("x[0] + x[1]", 12), ("(1 < 2)*5", 5), ("1 if 2 > 3 else 7", 7), ("1 <= 2 < 3", 1),
    ("1 != 1 or 2 >= 2 and 1", 1),
    ("f(3)", 9), ("π(3) × 2 − 1·1", 17), ("3²", 9), ("Σ(k for k in levels)", 3),
    ("sum(1/2**k for k in range(60))", 2),
])
def test_the_language_computes(text, number):
    symbols = dict(levels=(1, 2), pairs=((1, 2), (3, 4)), x=(5, 7), f=lambda k: k * k, pi=lambda k: k * k)
    assert value(text, **symbols) == pytest.approx(number, rel=1e-12)


@pytest.mark.parametrize("text, words", [
    ("x.__class__", "a name with a dot"), ("__import__('os')", "underscore"),
    ("open('f')", "'f' is not a number"),
    ("(lambda: 1)()", "`*` is missing"), ("f(lambda: 1)", "Python's own word"), ("[1, 2]", "square brackets"),
    ("{1}", "braces"), ("a ^ 2", "write `**`"), ("p(a | b)", "write a comma"), ("a @ b", "write the sum out"),
    ("f(*x)", "star"), ("f(x=1)", "by position"), ("(a + 1)(b)", "`*` is missing"), ("f'{a}'", "not part"),
    ("a % 2", "not part"), ("a // 2", "not part"), ("(y := 1)", "not part"), ("x[1:2]", "not part"),
    ("{1: 2}", "not part"), ("True", "not a number"), ("2j", "not a number"), ("None", "not a number"),
    ("2a", "`*` missing"), ("a b", "`*` missing"), ("a(1) b", "`*` missing"), ("a +", "not a complete"),
    ("(a", "closing bracket"), ("a)", "opening bracket"), ("import os", "`*` missing"),
    ("yield", "not a complete"),
    ("-" * 200 + "1", "nested too deeply"), ("(" * 300 + "1" + ")" * 300, "complete"), ("a\0", "complete"),
])
def test_what_is_not_in_the_language_is_refused_with_a_sentence(text, words):
    line = read_line(3, text)
    assert line.tree is None and words in line.problem
    verdict = FREE_ENERGY([LEFT, text])
    assert verdict.message.startswith("Line 2 cannot be read: ") and words in verdict.message


@pytest.mark.parametrize("text, column",
                         [("a + b.c", 5), ("1 + 2 ^ 3", 1), ("1 + αα.c", 5), ("sum(k.b for k in bits)", 5)])
def test_the_position_is_told(text, column):
    assert f"column {column}" in read_line(1, text).problem


@pytest.mark.parametrize("text, words", [
    ("zeta", "no symbol of this name"), ("bitz", "did you mean `bits`?"), ("a/0", "division by zero"),
    ("exp(9999)", "too large"),
    ("9**9**9", "too large"), ("1e308*10", "finite"), ("log(0 - a)", "no value for -0.1"),
    ("(-1)**0.5", "root"),
    ("sum(1 for k in range(10**12))", "too many steps"), ("sum(a)", "write `sum(… for k in …)`"),
    ("sum(k for k in a)", "nothing to run over"), ("sum(k for k, l in bits)", "does not fit"),
    ("bits + 1", "not a number"),
    ("exp + 1", "give it its brackets"), ("a(1)", "is a `*` missing"),
    ("f(1, 2, 3)", "takes 2 arguments, 3 came"),
    ("exp(1, 2)", "takes 1 argument, 2 came"), ("bits[7]", "index 7"), ("bits[-1]", "index -1"),
    ("a[0]", "has no parts"),
    ("exp(k for k in bits)", "only inside the brackets of sum"), ("f(bits)", "no value"),
    ("max(k for k in range(0))", "nothing"),
    ("bits < 1", "cannot be compared"), ("1e999", "finite"), ("10**400", "too large"),
    ("prod(9999999 for k in range(9999))", "finite"),
    ("exp(bits)", "not a number"), ("1" + "0" * 400, "too large"),
])
def test_what_has_no_value_is_answered_with_a_sentence(text, words):
    verdict = FREE_ENERGY([LEFT, text])
    assert verdict.message.startswith("Line 2 has no value: ") and words in verdict.message
    assert not verdict.passed


def test_nothing_a_reader_writes_makes_the_checker_stumble():
    pieces = ["a", "b", "bits", "f", "h", "exp", "sum", "(", ")", "[", "]", "+", "-", "*", "**", "/", "=",
              "==", ",", " for ",
              " in ", " if ", "#", "\n", "...", "1", "2.5", ":", ".", "'", '"', "\\", "π", "^", "{", "}", "@",
              "lambda", "\t"]
    source = random.Random(4)
    for _ in range(150):
        text = "".join(source.choices(pieces, k=source.randint(1, 14)))
        assert not FREE_ENERGY(text).passed
        assert not FREE_ENERGY(f"{LEFT}\n= {text}").passed


@pytest.mark.parametrize("answer, words", [
    (3, "an int came"), (None, "a NoneType came"), ("", "is empty"), ("  \n # only a thought", "is empty"),
    ([], "is empty"),
    ([1, 2], "a list came"), (lambda: 1, "a function came"), ("1" * 30_000, "at most"),
])
def test_what_is_no_chain_is_answered_with_a_sentence(answer, words):
    assert words in FREE_ENERGY(answer).message


# --- reading a chain ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("chain", [
    "a\n= b\n= a + b", ["a", "b", "a + b"], ["a", "= b", "= a + b"], "a = b = a + b", "a\nb\na + b",
    "\n\na\n  = b\n\n= a +\n b\n",
    "a\n= b  # why\n= a\n +\n b", "a =\nb =\na + b", ("a", "b = a + b"), "a\n= b\n= a\n  + b",
])
def test_a_chain_may_be_written_in_many_ways(chain):
    assert ["".join(line.text.split()) for line in read_chain(chain)] == ["a", "b", "a+b"]


def test_comparisons_do_not_cut_a_chain():
    lines = read_chain("a\n= sum(k for k in bits if k == 1)\n= (a <= b)*1 + (a != b) + (a >= b)")
    assert len(lines) == 3 and all(line.tree is not None for line in lines)


def test_reasons_are_kept():
    lines = read_chain("# given\na\n= b   # a rule\n      # in two parts\n= c")
    assert [line.reason for line in lines] == ["given", "a rule in two parts", ""]


def test_open_brackets_carry_a_line_on():
    assert [line.text for line in read_chain("a\n(b +\n  a)\nsum(k # why\n for k in bits)")] == [
        "a", "(b + a)", "sum(k for k in bits)"]


def test_dots_are_blanks_wherever_they_stand():
    lines = read_chain(["a", "...", "exp(...)", ..., "…", "a + b"])
    assert [line.blank for line in lines] == [False, True, True, True, True, False]


# --- the form of an expression ------------------------------------------------------------------------------

@pytest.mark.parametrize("one, other", [
    ("a + b", "b + a"), ("a*b*c", "c*(b*a)"), ("a - b", "-b + a"), ("2*(a + b)", "2*b + 2*a"),
    ("a*a", "a**2"), ("a/b", "1/b*a"),
    ("a/2", "0.5*a"), ("(a + b)**2", "a**2 + 2*a*b + b**2"), ("a**-1", "1/a"), ("1/(a + b)", "1/(b + a)"),
    ("--a", "a"),
    ("a/(1 - b)", "-a/(b - 1)"), ("exp(a + b)", "exp(b + a)"),
    ("sum(f(h) for h in bits)", "sum(f(k) for k in bits)"),
    ("sum(2*a*f(h) for h in bits)", "a*sum(f(h) for h in bits)*2"),
    ("sum(f(h) + g(h) for h in bits)", "sum(g(h) for h in bits) + sum(f(h) for h in bits)"),
    ("sum(f(h, k) for h in bits for k in bits)", "sum(f(u, v) for u in bits for v in bits)"),
    ("s[j]", "s[ j ]"), ("a + 0*b", "a"),
    ("sum(s[j] for j in bits if j != i)", "sum(s[k] for k in bits if k != i)"), ("a*1/1", "a"),
    ("(a + b)/(2*a + 2*b)", "(b + a)/(b + a)/2"),
])
def test_forms_that_are_the_same(one, other):
    assert normal_form(expression(one)) == normal_form(expression(other))


@pytest.mark.parametrize("one, other", [
    ("a + b", "a - b"), ("a/b", "b/a"), ("exp(a)*exp(b)", "exp(a + b)"),
    ("sum(f(h) for h in bits)", "f(0) + f(1)"), ("f(a, b)", "f(b, a)"),
    ("1 + 2*a/(1 - a)", "(1 + a)/(1 - a)"), ("sum(s[j] for j in bits if j != i)", "sum(s[j] for j in bits)"),
    ("a**3", "a**2"), ("s[j]", "s[k]"),
    ("sum(f(h) for h in bits)", "sum(f(h) for h in others)"),
    ("sum(f(h, k) for h in bits for k in bits)", "sum(f(k, h) for h in bits for k in bits)"),
    ("sigmoid(a)", "1/(1 + exp(-a))"), ("a < b", "a > b"), ("(a, b)", "(b, a)"),
    ("a if b else c", "c if b else a"), ("1/a", "a"),
])
def test_forms_that_differ(one, other):
    assert normal_form(expression(one)) != normal_form(expression(other))


def test_a_huge_product_stays_small():
    text = "(" + " + ".join(f"a{k}" for k in range(40)) + ")"
    assert len(repr(normal_form(expression("*".join([text] * 8))))) < 200_000


# --- the verdict --------------------------------------------------------------------------------------------

RIGHT = {
    "the printed one": FREE_ENERGY.chain, "as a list": [LEFT, "-log(exp(b) + exp(b + a))", RESULT],
    "left side left out": ["-log(exp(b)*(1 + exp(a)))", RESULT],
    "another order": [LEFT, "-log(exp(b)*(exp(a) + 1))", "-log(exp(a) + 1) - b"],
    "a longer route": [LEFT, "-log(exp(b)*sum(exp(h*a) for h in bits))",
                       "-b - log(sum(exp(h*a) for h in bits))", "-b - log(exp(0*a) + exp(a))", RESULT],
    "the other form": [LEFT, "-(b + log(exp(0) + exp(a)))", "-(b + log(1 + exp(a)))"],
    "by way of the sigmoid": [LEFT, "-b + log(sigmoid(-a))", RESULT],
    "a detour": [LEFT, "-log(exp(b) + exp(b + a)) + w - w + f(1) - a", RESULT],
    "Greek and dots": "− log(Σ(exp(b + h·a) for h in bits)) = −log(exp(b) + exp(a + b))\n"
                      "= −b − log(1 + exp(a))",
}


@pytest.mark.parametrize("chain", RIGHT.values(), ids=RIGHT)
def test_any_right_route_passes(chain):
    verdict = FREE_ENERGY(chain)
    assert verdict.passed and verdict.points == 4 and verdict.misconception is None, verdict


def test_the_first_wrong_line_is_named_with_the_numbers():
    verdict = FREE_ENERGY([LEFT, "-log(exp(b) + exp(b + a))", "-log(exp(b) * (1 + exp(b)))",
                           "-b - log(1 + exp(b))", RESULT])
    assert verdict.message.startswith("Line 3 is the first that does not equal the line before.")
    facts = dict(verdict.facts)
    assert float(facts["line 2"]) == pytest.approx(-math.log(math.exp(0.2) + math.exp(0.3)), abs=1e-3)
    assert float(facts["line 3"]) == pytest.approx(-math.log(math.exp(0.2) * (1 + math.exp(0.2))), abs=1e-3)
    assert facts["at"] == "a = 0.1, b = 0.2, w = 0.3"
    assert [row.finding[0] for row in verdict.rows] == ["✓", "✓", "✗", "n", "n"]      # the rest is not judged


def test_the_table_shows_the_values_at_the_instance_where_the_lines_differ():
    """A line may agree at the first instances: then their values there would say nothing."""
    verdict = neural_em.logit_gradient_proof(
        "dlogp\n= (x/psi + (1 - x)/(1 - psi))*dpsi\n= x*(1 - psi) - (1 - x)*psi\n= x - psi")
    before, wrong = (float(row.value) for row in verdict.rows[:2])
    assert dict(verdict.facts)["at"].startswith("x = 0") and before == pytest.approx(-wrong) and before != wrong


@pytest.mark.parametrize("position", [1, 2, 3])
@pytest.mark.parametrize("misconception", FREE_ENERGY.misconceptions, ids=lambda m: m.name)
def test_a_slip_is_named_wherever_it_happens_and_in_any_form(misconception, position):
    lines = [LEFT, "-log(exp(b) + exp(b + a))", "-log(exp(b) * (1 + exp(a)))"][:position]
    for form in (misconception.mutants[0], f"log(exp({misconception.mutants[0]})) + w - w"):
        verdict = FREE_ENERGY([*lines, form, RESULT])
        assert not verdict.passed
        assert (verdict.misconception, verdict.hint) == (misconception.name, misconception.hint)
        assert f"Line {position + 1} is the first" in verdict.message
        assert misconception.says in verdict.message


@pytest.mark.parametrize("line, words", [
    (f"2*({RESULT})", "2 times that of line 1"), (f"3 + {RESULT}", "3 more than that of line 1"),
    ("0", "whatever the case"),
    ("-0.8490969", "whatever the case"), ("a*b + w", "compare the numbers"),
    ("-b - log(1 + exp(a)) if a < 0.2 else 3", "special case"),
])
def test_an_unlisted_slip_gets_what_can_be_seen(line, words):
    verdict = FREE_ENERGY([LEFT, line, RESULT])
    assert not verdict.passed and verdict.misconception is None and words in verdict.message, verdict


def test_the_parts_of_an_unlisted_wrong_line_are_shown():
    facts = dict(FREE_ENERGY([LEFT, "exp(b) / (1 + exp(a))", RESULT]).facts)
    assert facts["where exp(b)"].startswith("1.2214") and facts["where 1 + exp(a)"].startswith("2.105")


def test_a_line_that_holds_for_the_smallest_instance_only_is_caught():
    verdict = FREE_ENERGY([LEFT, "-log(exp(2*a) + exp(b + a))", RESULT])      # b = 2a at a = 0.1, b = 0.2
    assert "special case" in verdict.message and dict(verdict.facts)["at"] != "a = 0.1, b = 0.2, w = 0.3"


def test_a_wrong_first_line_is_compared_with_the_given_left_hand_side():
    verdict = FREE_ENERGY(["log(sum(exp(b + h*a) for h in bits))", RESULT])
    assert "Line 1 is the first" in verdict.message and verdict.rows[0].number == "given"
    assert verdict.misconception == "sign"


@pytest.mark.parametrize("chain, words, points", [
    ([LEFT], "not yet the result", 0), ([LEFT, LEFT], "given left-hand side again", 0),
    ([LEFT, "-log(exp(b) + exp(b + a))"], "not yet the result", 1),
    ([LEFT, RESULT], "not yet a proof", 0), ([RESULT], "not yet a proof", 0),
    ([LEFT, f"1*({LEFT})", f"0 + {RESULT}", RESULT], "not yet a proof", 0),
    ([RESULT, "-log(exp(b) + exp(b + a))", LEFT], "given left-hand side again", 1),
])
def test_equal_lines_alone_are_no_derivation(chain, words, points):
    verdict = FREE_ENERGY(chain)
    assert not verdict.passed and words in verdict.message and verdict.points == points
    assert all(row.finding.startswith("✓") for row in verdict.rows)


def test_a_landmark_that_no_line_passes_is_asked_for():
    landmark = Landmark("Write both terms out.", uses=frozenset({"exp"}), avoids=frozenset({"sum", "bits"}))
    last = "-b - log(sum(exp(h*a) for h in bits))"
    guarded = replace(FREE_ENERGY, landmarks=(landmark,), forms=(last,))
    verdict = guarded([LEFT, "-log(exp(b)*sum(exp(h*a) for h in bits))", last])
    assert not verdict.passed and "Write both terms out." in verdict.message
    assert guarded([LEFT, "-log(exp(b)*(1 + exp(a)))", last]).passed


def test_right_lines_before_the_wrong_one_earn_up_to_half():
    steps = [LEFT, "-log(exp(b) + exp(b + a))", "-log(exp(b) * (1 + exp(a)))"]
    assert [FREE_ENERGY([*steps[:k], "7"]).points for k in (1, 2, 3)] == [0, 1, 2]
    assert FREE_ENERGY([LEFT] * 9 + ["7"]).points == 0      # repeating a line earns nothing


@pytest.mark.parametrize("number", FREE_ENERGY.blanks)
def test_a_blank_left_gets_its_own_sentence(number):
    lines = FREE_ENERGY.chain.strip().splitlines()
    lines[number - 1] = "= ...   # the rule asked for"
    verdict = FREE_ENERGY("\n".join(lines))
    assert verdict.message == (f"Line {number} is still blank. It asks for: the rule asked for. "
                               "Write an expression in place of `...`.")
    assert [row.finding[0] for row in verdict.rows[:number]] == ["✓"] * (number - 1) + ["…"]


def test_a_wrong_line_before_a_blank_comes_first():
    assert "Line 2 is the first" in FREE_ENERGY([LEFT, "b", "...", RESULT]).message


def test_the_stub_blanks_the_chosen_lines_and_keeps_their_reasons():
    scope = {}
    exec(FREE_ENERGY.stub_source(), scope)
    lines = read_chain(scope["free_energy"])
    assert [line.blank for line in lines] == [False, True, True, False]
    assert lines[1].reason == "h is 0 or 1"
    exec(FREE_ENERGY.solution_source(), scope)
    assert FREE_ENERGY(scope["free_energy"]).passed
    assert "| `a, b` | $a, b$ | weights |" in FREE_ENERGY.markdown()


def test_the_table_says_in_words_what_it_marks():
    verdict = FREE_ENERGY([LEFT, "-log(exp(b) + exp(b + a))  # <b>reason</b>", "b", "a"])

    class Cells(html.parser.HTMLParser):
        cells = []

        def handle_data(self, data):
            self.cells.append(data)

    Cells().feed(verdict._repr_html_())
    for words in ("✓ equal to the line before", "✗ not equal to the line before", "not judged",
                  "<b>reason</b>", "-0.9444"):
        assert words in Cells.cells or any(words in cell for cell in Cells.cells)
        assert words in repr(verdict)


def test_another_generator_gives_other_instances():
    line = "-b - log(1 + exp(a)) if b != 0.7 else 0"
    generators = [torch.Generator().manual_seed(seed) for seed in range(30)]
    assert {FREE_ENERGY([LEFT, line, RESULT], generator=g).passed for g in generators} == {False, True}


def test_an_author_hears_what_is_wrong_with_an_expression():
    with pytest.raises(ValueError, match="write `\\*\\*`"):
        expression("a ^ 2")


# --- formulas -----------------------------------------------------------------------------------------------

MEAN_UNIT = Formula(
    name="mean_unit", title="The mean of a hidden unit", solution="sigmoid(a)", **COMMON,
    truth=lambda a, bits,
    **others: sum(h * math.exp(h * a) for h in bits) / sum(math.exp(h * a) for h in bits),
    misconceptions=(wrong("forgot the normaliser", "exp(a)", says="A weight.", hint="Divide."),
                    wrong("sign", "sigmoid(-a)", says="The other unit.", hint="a up, mean up.")))


@pytest.mark.parametrize("answer, passed, name", [
    ("sigmoid(a)", True, None), ("1/(1 + exp(-a))  # by hand", True, None),
    ("exp(a)/(1 + exp(a))", True, None),
    ("sum(h*exp(h*a) for h in bits)/sum(exp(h*a) for h in bits)", True, None),
    ("exp(a)", False, "forgot the normaliser"),
    ("1 - sigmoid(a)", False, "sign"), ("a", False, None), ("...", False, None), ("", False, None),
    ("a b", False, None), (7, False, None),
    ("a/0", False, None), ("2*sigmoid(a)", False, None),
])
def test_a_formula_can_be_the_answer(answer, passed, name):
    verdict = MEAN_UNIT(answer)
    assert (verdict.passed, verdict.misconception) == (passed, name)
    assert "Traceback" not in repr(verdict)


def test_a_formula_has_stub_and_solution():
    scope = {}
    exec(MEAN_UNIT.solution_source(), scope)
    assert MEAN_UNIT(scope["mean_unit"]).passed
    exec(MEAN_UNIT.stub_source(), scope)
    assert "still blank" in MEAN_UNIT(scope["mean_unit"]).message
    assert "2 times the right one" in MEAN_UNIT("2*sigmoid(a)").message


def test_a_refusal_inside_the_evaluation_is_the_only_way_out():
    with pytest.raises(Refusal):
        Evaluation("a", {}).number(expression("a"))
