"""Chapter 6's derivations: solutions pass, each misconception is a wrong line known under its own name."""

import ast
import itertools
import math
import re

import pytest
import torch

from nemlib import made as model
from nemlib.exercises import made as check
from nemlib.exercises.answers import Refusal
from nemlib.exercises.core import SEED, agree
from nemlib.exercises.derivation import Derivation
from nemlib.exercises.expressions import Evaluation, expression, read_chain
from nemlib.exercises.forms import normal_form

SEEDS = (1, 2)
DERIVATIONS = [exercise for exercise in check.EXERCISES if isinstance(exercise, Derivation)]
EACH = pytest.mark.parametrize("exercise", DERIVATIONS, ids=lambda exercise: exercise.name)
MISCONCEPTIONS = [pytest.param(exercise, misconception, id=f"{exercise.name}: {misconception.name}")
                  for exercise in DERIVATIONS for misconception in exercise.misconceptions]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def executed(source):
    scope = {"torch": torch, "math": math}
    exec(source, scope)
    return scope


def mistaken(exercise, mutant):
    """What a reader with this misconception hands in: a chain whose second line is wrong."""
    lines = read_chain(exercise.chain)
    return [lines[0].text, mutant, lines[-1].text]


def number(mutant, instance):
    """A mutant's value as a tensor; an empty one where it has no value."""
    try:
        value = Evaluation(mutant, instance.symbols).number(expression(mutant))
    except Refusal:
        return torch.empty(0)
    return torch.tensor(value, dtype=torch.float64)


def shown(instance, name):
    """What an instance shows under a name, as numbers."""
    return ast.literal_eval(re.search(rf"\b{name} = (\([^a-z]*\)|-?[\d.]+)", instance.shown)[1])


# --- what every derivation keeps ----------------------------------------------------------------------------

def test_the_chapter_has_what_it_promises():
    assert [exercise.name for exercise in DERIVATIONS] == [
        "normalised_proof", "paths_proof", "lost_proof", "mixture_proof"]
    assert all(len(exercise.misconceptions) >= 12 for exercise in DERIVATIONS)
    assert len(check.EXERCISES) == 8


@EACH
def test_the_definition_is_complete(exercise):
    assert getattr(check, exercise.name) is exercise and exercise.chapter == 6
    assert exercise.equations and all(label.startswith("eq-made-") for label in exercise.equations)
    assert exercise.minutes > 0 and exercise.points > 0 and exercise.teaching_notes
    said = [*exercise.hints, *(text for m in exercise.misconceptions for text in (m.says, m.hint)),
            *(landmark.says for landmark in exercise.landmarks), exercise.nearly]
    for text in said:      # these are shown by a kernel, where no formula is typeset
        prose = re.sub(r"`[^`]*`", "", text)
        assert text[-1] in ".?:)" and not re.search(r"[$\\]|\*\w+\*", prose), text
        assert text.count("`") % 2 == 0 and text.count("(") == text.count(")"), text
    assert exercise.statement.count("$") % 2 == 0 and exercise.statement.count("`") % 2 == 0
    assert not re.search(r"^\s*(\d+\.|[-+*#]) ", exercise.statement, re.MULTILINE)      # no list by accident


@EACH
@pytest.mark.parametrize("seed", [None, *range(1, 6)])
def test_the_solution_passes_its_own_check(exercise, seed):
    answer = executed(exercise.solution_source())[exercise.name]
    verdict = exercise(answer, **({} if seed is None else {"generator": generator(seed)}))
    assert verdict.passed and verdict.points == exercise.points, verdict


@EACH
def test_the_stub_leaves_whole_steps_open_and_earns_nothing(exercise):
    """A step that goes over two rows becomes one blank; the steps given away stand as they are."""
    stub, steps = exercise.stub_source(), read_chain(exercise.chain)
    opened = read_chain(executed(stub)[exercise.name])
    assert len(opened) == len(steps) and stub.startswith(exercise.signature)
    for mine, step in zip(opened, steps):
        assert mine.blank == (mine.number in exercise.blanks)
        assert mine.reason == step.reason if mine.blank else mine.text == step.text
    assert not [step.text for step in steps if step.number in exercise.blanks and step.text in stub]
    verdict = exercise(executed(stub)[exercise.name])
    assert not verdict.passed and verdict.points == 0 and "still blank" in verdict.message
    assert ast.parse(exercise.check_source()) and ast.parse(exercise.grade_source())


@EACH
def test_code_fits_the_page(exercise):
    for source in (exercise.stub_source(), exercise.solution_source(), exercise.check_source()):
        assert max(map(len, source.splitlines())) <= 82


@EACH
def test_hints_and_solutions_are_at_hand(exercise):
    for step in (1, 2, 3):
        assert check.hint(exercise.name, step=step).text == exercise.hints[step - 1]
    assert check.solution(exercise.name).code == exercise.solution_source().rstrip()


@EACH
def test_tables_of_symbols_name_what_the_instances_know(exercise):
    known = set(exercise.instances(generator(1))[0].symbols)
    named = {node.id for code, _, _ in exercise.symbols for node in ast.walk(ast.parse(code))
             if isinstance(node, ast.Name)}
    bound = {"j", "k", "m", "s", "t", "u", "v", "w"}
    assert named <= known | bound and known <= named | bound
    assert all(latex for _, latex, _ in exercise.symbols)
    assert "|" not in "".join(map("".join, exercise.symbols))


@EACH
@pytest.mark.parametrize("seed", SEEDS)
def test_every_instance_shows_what_it_was_made_of_and_none_is_like_another(exercise, seed):
    texts = [instance.shown for instance in exercise.instances(generator(seed))]
    assert len(set(texts)) == len(texts) and all(" = " in text for text in texts)


@EACH
def test_the_first_wrong_line_is_named(exercise):
    lines = [line.text for line in read_chain(exercise.chain)]
    for place in range(1, len(lines)):
        broken = [*lines[:place], f"({lines[place]})*1.001", *lines[place + 1:]]
        verdict = exercise(broken)
        assert not verdict.passed and f"Line {place + 1} is the first" in verdict.message
        assert verdict.rows[place + 1].finding == "not judged" if place + 1 < len(lines) else True


@EACH
def test_other_forms_of_the_result_are_its_value_in_another_form(exercise):
    given = read_chain(exercise.chain)
    for form in exercise.forms:
        verdict = exercise([*(line.text for line in given[:-1]), form])
        assert verdict.passed, verdict


# --- misconceptions -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("exercise, misconception", MISCONCEPTIONS)
def test_each_misconception_is_recognised_under_its_own_name(exercise, misconception):
    for seed, mutant in [*((1, mutant) for mutant in misconception.mutants), (2, misconception.mutants[0])]:
        verdict = exercise(mistaken(exercise, mutant), generator=generator(seed))
        assert not verdict.passed and verdict.misconception == misconception.name, (seed, mutant, verdict)
        assert misconception.says in verdict.message and verdict.hint == misconception.hint
        assert len(verdict.facts) == 3      # both lines' values, and where
        assert len(set(dict(verdict.facts).values())) == 3


@EACH
@pytest.mark.parametrize("seed", [*SEEDS, SEED])
def test_no_two_misconceptions_are_the_same_answer_and_none_is_right(exercise, seed):
    instances = exercise.instances(generator(seed))
    truth = [number(read_chain(exercise.chain)[0].text, instance) for instance in instances]
    answers = [(misconception.name, [number(mutant, instance) for instance in instances])
               for misconception in exercise.misconceptions for mutant in misconception.mutants]
    for name, values in answers:
        assert all(value.numel() for value in values), f"{name} has no value"
        assert not all(agree(a, b, 1e-4) for a, b in zip(values, truth)), name
    for (one, first), (other, second) in itertools.combinations(answers, 2):
        if one != other:
            same = all(agree(a, b, 1e-4) for a, b in zip(first, second))
            assert not same, f"{one} and {other} give the same answers"


# --- the instances, computed in another way -----------------------------------------------------------------

@pytest.mark.parametrize("seed", SEEDS)
def test_the_conditionals_are_laws_and_their_product_sums_to_one(seed):
    sizes = set()
    for instance in check.normalised_proof.instances(generator(seed)):
        p1, p2, p3 = (torch.tensor(shown(instance, name), dtype=torch.float64) for name in ("p1", "p2", "p3"))
        s, values = instance.symbols, instance.symbols["values"]
        sizes.add(len(values))
        for law in (p1, p2, p3):
            assert (law.sum(-1) - 1).abs().max() < 1e-12 and (law > 0).all()
        assert torch.einsum("u,uv,uvw->", p1, p2, p3).item() == pytest.approx(1, abs=1e-12)
        for u, v, w in itertools.product(values, repeat=3):
            assert (s["p1"](u), s["p2"](v, u), s["p3"](w, u, v)) == (p1[u], p2[u, v], p3[u, v, w])
    assert sizes == {2, 3}


@pytest.mark.parametrize("seed", SEEDS)
def test_paths_are_those_of_the_model(seed):
    signs = set()
    for instance in check.paths_proof.instances(generator(seed)):
        s, o, m = instance.symbols, torch.tensor(shown(instance, "o")), torch.tensor(shown(instance, "m"))
        plan = model.Connectivity(o.argsort(), (m,))
        assert torch.equal(plan.position, o)
        hidden, output = plan.masks()
        for d, j in itertools.product(range(len(o)), s["units"]):
            assert (s["W"](j, d), s["V"](d, j)) == (hidden[j, d], output[d, j])
        for d, i in itertools.product(range(len(o)), repeat=2):
            counted = max(s["below"](s["o"](d)) - s["below"](s["o"](i)), 0)
            assert counted == plan.paths()[d, i]
        signs.add((o[s["d"]] > o[s["i"]]).item() + 2 * (s["d"] == s["i"]))
        assert (o.argsort() + 1 != o).any()      # the ordering is not its own inverse
    assert signs == {0, 1, 2}      # pairs the ordering allows, one it forbids, and a pixel with itself


@pytest.mark.parametrize("seed", SEEDS)
def test_the_expected_loss_is_that_of_all_degrees_under_the_model(seed):
    for instance in check.lost_proof.instances(generator(seed)):
        s, D = instance.symbols, instance.symbols["D"]
        plans = [model.Connectivity(torch.arange(D), (torch.tensor(m),)) for m in s["choices"]]
        assert len(plans) == (D - 1)**s["H"]
        for plan, m in zip(plans, s["choices"]):
            own = [[s["lost"](m, i + 1, d + 1) for i in range(D)] for d in range(D)]
            assert torch.equal(torch.tensor(own).bool() & plan.direct(), plan.direct() & ~plan.connected())
        mean = sum(plan.lost() for plan in plans) / len(plans)
        assert number(check._LOST_RESULT, instance).item() == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_mixture_is_a_logsumexp_between_the_best_and_log_m_below_it(seed):
    for instance in check.mixture_proof.instances(generator(seed)):
        s, logs = instance.symbols, torch.tensor(shown(instance, "l"), dtype=torch.float64)
        assert s["b"] == logs.argmax() > 0 and s["M"] == len(logs) and s["l"](s["b"]) == logs.max()
        mixture = (logs.logsumexp(0) - math.log(len(logs))).item()
        assert number(check._MIXTURE, instance).item() == pytest.approx(mixture, abs=1e-12)
        assert logs.max() - math.log(len(logs)) < mixture < logs.max()


# --- right answers of other kinds ---------------------------------------------------------------------------

GIVEN = {exercise.name: read_chain(exercise.chain)[0].text for exercise in DERIVATIONS}
RESULT = {exercise.name: read_chain(exercise.chain)[-1].text for exercise in DERIVATIONS}
PAIRS = "for t in places for u in places if t < u"
OTHERS = "for m in masks if m != b"
RIGHT = {
    "normalised_proof": [
        # sums inside of sums, and other names
        "= sum(p1(a)*sum(p2(b, a)*sum(p3(c, a, b) for c in values) for b in values) for a in values)\n"
        "= sum(p1(a)*sum(p2(b, a) for b in values) for a in values)\n= sum(p1(a) for a in values)\n= 1",
        ["sum(sum(p1(u)*p2(v, u)*sum(p3(w, u, v) for w in values) for v in values) for u in values)",
         "sum(p1(u)*p2(v, u)*1 for u in values for v in values)", "1.0"],
        # without the names of the sums in the order of the given line
        ["sum(p2(v, u)*p1(u)*sum(p3(w, u, v) for w in values) for v in values for u in values)",
         "sum(p1(u)*p2(v, u) for v in values for u in values)", "sum(p1(u) for u in values)", "1"]],
    "paths_proof": [
        # the units that see i, less those of them that are not below o(d)
        "= sum((m(j) >= o(i))*(1 - (m(j) >= o(d))) for j in units)\n"
        "= sum((m(j) >= o(i)) - (m(j) >= max(o(i), o(d))) for j in units)\n"
        "= (len(units) - below(o(i))) - (len(units) - below(max(o(i), o(d))))\n"
        "= below(max(o(i), o(d))) - below(o(i))\n= max(below(o(d)) - below(o(i)), 0)",
        # a chain of comparisons, and an if
        ["sum(1 for j in units if o(i) <= m(j) < o(d))",
         "sum(m(j) < o(d) for j in units) - sum(m(j) < min(o(i), o(d)) for j in units)",
         "below(o(d)) - below(o(i)) if o(i) < o(d) else 0"],
        ["sum((m(j) >= o(i) and m(j) < o(d)) for j in units)", "below(o(d)) - below(min(o(i), o(d)))",
         "max(0, below(o(d)) - below(o(i)))"],
        # degree by degree
        ["sum((m(j) < o(d))*(m(j) >= o(i)) for j in units)",
         "sum(sum(m(j) == k for j in units) for k in range(o(i), o(d)))",
         "max(below(o(d)) - below(o(i)), 0)"]],
    "lost_proof": [
        # counted, without a product over the units
        f"= sum(sum(lost(m, t, u) for m in choices) {PAIRS})/(D - 1)**H\n"
        f"= sum((D - 1 - (u - t))**H {PAIRS})/(D - 1)**H\n"
        "= sum((D - s)*(D - 1 - s)**H for s in range(1, D))/(D - 1)**H",
        # by distances first: the place of a pair does not matter
        ["sum((D - s)*sum(lost(m, 1, 1 + s) for m in choices)/len(choices) for s in range(1, D))",
         "sum((D - s)*prod(sum(k >= 1 + s for k in degrees)/len(degrees) for j in units) for s in range(1, "
         "D))",
         "sum((D - s)*((D - 1 - s)/(D - 1))**H for s in range(1, D))",
         "sum((D - s)*(1 - s/(D - 1))**H for s in range(1, D))"],
        # with the opposite event
        [f"sum(prod(1 - sum(t <= k < u for k in degrees)/(D - 1) for j in units) {PAIRS})",
         f"sum((1 - (u - t)/(D - 1))**H {PAIRS})", "sum((1 - s/(D - 1))**H*(D - s) for s in degrees)"]],
    "mixture_proof": [
        # the best apart from the beginning
        [f"log((p(b) + sum(p(m) {OTHERS}))/M)", f"log(p(b)*(1 + sum(p(m)/p(b) {OTHERS}))/M)",
         f"log(p(b)/M) + log(1 + sum(exp(l(m) - l(b)) {OTHERS}))",
         f"l(b) - log(M) + log(1 + sum(exp(l(m) - l(b)) {OTHERS}))"],
        # with the largest, as logsumexp has it
        "= max(l(k) for k in masks) + log(sum(exp(l(m) - max(l(k) for k in masks)) for m in masks)) - "
        "log(M)\n= l(b) + log(sum(exp(l(m))/exp(l(b)) for m in masks)) - log(M)\n"
        f"= log(1 + sum(p(m)/p(b) {OTHERS})) + l(b) - log(M)"],
}


@pytest.mark.parametrize("name, answer",
                         [(name, answer) for name, answers in RIGHT.items() for answer in answers])
def test_equivalent_right_answers_pass(name, answer):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert verdict.passed, verdict


# --- wrong answers that are on no list ----------------------------------------------------------------------

UNLISTED = [      # what the verdict says beside "not yet"
    ("normalised_proof", ["1"], "at least 2 lines"),
    ("normalised_proof", ["sum(p1(u) for u in values)", "sum(p2(v, 0) for v in values)", "1"],
     "which sum is taken first"),
    ("normalised_proof", ["sum(p1(u)*p2(v, u)*sum(p3(w, u, v) for w in values) for u in values for v in "
                          "values)",
                          "sum(p1(u) for u in values)", "1"], "its last pixel summed out"),
    ("normalised_proof", ["sum(p1(u)*p2(v, u)*sum(p3(w, u, v) for w in values) for u in values for v in "
                          "values)",
                          "sum(p1(u)*p2(v, u) for u in values for v in values)"], "not yet the result"),
    ("normalised_proof", ["sum(p1(u)*sum(p2(v, u) for u in values) for v in values)"], "no symbol of this "
                                                                                       "name"),
    ("normalised_proof", ["p1(0)"], "first that does not equal"),
    ("paths_proof", [RESULT["paths_proof"]], "at least 2 lines"),
    ("paths_proof", ["below(o(d)) - below(min(o(d), o(i)))", "below(max(o(d), o(i))) - below(o(i))",
                     RESULT["paths_proof"]], "where the degrees come in"),
    ("paths_proof", ["sum((o(d) > m(j))*(m(j) >= o(i)) for j in units)",
                     "below(o(d)) - below(min(o(d), o(i)))"], "not yet the result"),
    ("paths_proof", ["sum(V(d, j)*W(j, 9) for j in units)"], "no value"),
    ("paths_proof", ["2*below(o(d))"], "first that does not equal"),
    ("lost_proof", [RESULT["lost_proof"]], "at least 2 lines"),
    ("lost_proof", [f"sum(lost(m, t, u) for m in choices {PAIRS})/(D - 1)**H",
                    f"sum(sum(lost(m, t, u) {PAIRS})/(D - 1)**H for m in choices)", RESULT["lost_proof"]],
     "where the power comes from"),
    ("lost_proof", [f"sum((1 - (u - t)/(D - 1))**H {PAIRS})"], "not yet the result"),
    ("lost_proof", [f"sum(prod((m[j] < t) + (m[j] >= u) for j in degrees) for m in choices {PAIRS})"],
     "no value"),
    ("lost_proof", [f"{RESULT['lost_proof']} + 0.1"], "first that does not equal"),
    ("mixture_proof", [RESULT["mixture_proof"]], "at least 2 lines"),
    ("mixture_proof", ["log(sum(exp(l(m)) for m in masks)) - log(M)", RESULT["mixture_proof"]],
     "1 came. One more line"),
    ("mixture_proof", ["log(sum(exp(l(m)) for m in masks)) - log(M)", "log(sum(p(m) for m in masks)) - "
                                                                      "log(M)",
                       RESULT["mixture_proof"]], "Show the best taken out"),
    ("mixture_proof", ["log(p(b)*sum(p(m)/p(b) for m in masks)/M)",
                       "l(b) + log(sum(exp(l(m) - l(b)) for m in masks)) - log(M)"], "not yet the result"),
    ("mixture_proof", ["log(sum(l(m) for m in masks)/M)"], "no value"),
    ("mixture_proof", [f"2*({RESULT['mixture_proof']})"], "2 times that of line 1"),
]


@pytest.mark.parametrize("name, lines, words", UNLISTED)
def test_an_unlisted_wrong_answer_is_told_more_than_that_it_is_wrong(name, lines, words):
    verdict = getattr(check, name)([GIVEN[name], *lines])
    assert not verdict.passed and verdict.misconception is None
    assert words in f"{verdict.message} {verdict.hint}", verdict


@EACH
@pytest.mark.parametrize("answer, words", [
    (None, "is written as text"), (3.5, "is written as text"), (torch.zeros(2), "is written as text"),
    ("", "empty"), ("...", "still blank"), ("= 1 +", "cannot be read"),
    ("= nonsense", "no symbol of this name"), ("= 1/0", "division by zero"), ("= log(-1)", "no value"),
    ([None], "is written as text")])
def test_what_is_no_derivation_gets_a_sentence(exercise, answer, words):
    verdict = exercise(answer)
    assert not verdict.passed and verdict.points == 0 and words in verdict.message, verdict


# --- answers as readers write them --------------------------------------------------------------------------

SEEN_IN_CLASS = [
    ("normalised_proof", "= sum(p1(u) for u in values)*sum(p2(v, u) for u in values for v in values)",
     "conditions counted and not weighed"),
    ("normalised_proof", "= sum(log(p1(u)) for u in values) + 0*p1(0)", None),
    ("normalised_proof", "= sum(p1(u)*p2(v, u)*p3(1, u, v) for u in values for v in values)",
     "only pixels that are on"),
    ("normalised_proof", "= sum(p1(u)*p2(u, v)*sum(p3(w, u, v) for w in values) for u in values for v in "
                         "values)",
     "value and condition exchanged"),
    ("paths_proof", "= sum((m(j) <= o(d))*(m(j) >= o(i)) for j in units)", "an output that sees itself"),
    ("paths_proof", "= sum(1 for j in units if o(i) < m(j) < o(d))", "a unit that misses its last pixel"),
    ("paths_proof", "= sum((m(j) < o(d)) for j in units) - sum((m(j) < o(i)) for j in units)",
     "a negative number of paths"),
    ("paths_proof", "= sum((m(j) < o(d))*(1 - (m(j) < o(i))) for j in units)\n"
     "= below(o(d)) - below(max(o(d), o(i)))", "below the larger"),
    ("paths_proof", "= sum((m(j) < d + 1)*(m(j) >= i + 1) for j in units)", "numbers of pixels for "
                                                                            "positions"),
    ("lost_proof", f"= sum(prod(sum((k < t) + (k > u) for k in degrees)/(D - 1) for j in units) {PAIRS})",
     "off by one"),
    ("lost_proof", f"= sum(prod(sum((k < t) + (k >= u) for k in degrees) for j in units) {PAIRS})",
     "not divided by the choices"),
    ("lost_proof", f"= sum(sum((k < t) + (k >= u) for k in degrees)/(D - 1) {PAIRS})", "one unit only"),
    ("lost_proof", f"= sum((1 - (u - t)/(D - 1))**H {PAIRS})\n= sum((1 - s/(D - 1))**H for s in range(1, D))",
     "pairs at a distance counted wrongly"),
    ("lost_proof", f"= sum((1 - (u - t)/D)**H {PAIRS})", "D degrees"),
    ("mixture_proof", "= sum(log(p(m)) for m in masks) - log(M)", "sum of the logarithms"),
    ("mixture_proof", "= log(sum(p(m) for m in masks)) - log(M)\n"
     "= log(p(b)) + log(sum(p(m)/p(b) for m in masks if m != b)) - log(M)", "1 forgotten"),
    ("mixture_proof", "= log(sum(exp(l(m) - l(b)) for m in masks)/M)", "the best not put back"),
    ("mixture_proof", "= sum(l(m)/M for m in masks)", "mean of the logarithms"),
]


@pytest.mark.parametrize("name, answer, misconception", SEEN_IN_CLASS)
def test_answers_as_readers_write_them_are_recognised(name, answer, misconception):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert not verdict.passed and verdict.misconception == misconception, verdict


@EACH
def test_right_lines_before_the_first_wrong_one_earn_part_of_the_points(exercise):
    lines = [line.text for line in read_chain(exercise.chain)]
    verdict = exercise([*lines[:3], exercise.misconceptions[0].mutants[0]])
    assert 0 < verdict.points < exercise.points and verdict.misconception == exercise.misconceptions[0].name
    assert len({normal_form(expression(line)) for line in lines}) == len(lines)      # no step only rearranges
