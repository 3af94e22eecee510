"""Chapter 7's derivations: solutions pass, each misconception is a wrong line known under its own name."""

import ast
import itertools
import math
import re

import pytest
import torch

from nemlib import gan as model
from nemlib.exercises import gan as check
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
    """What an instance shows under a name, as a tensor."""
    text = re.search(rf"\b{name} = (\([^a-z]*\)|-?[\d.]+)", instance.shown)[1]
    return torch.tensor(ast.literal_eval(text), dtype=torch.float64)


def line(name, number):
    """A line of an exercise's own chain, from 0; -1 is the result."""
    return read_chain(getattr(check, name).chain)[number].text


# --- what every derivation keeps ----------------------------------------------------------------------------

def test_the_chapter_has_what_it_promises():
    assert [exercise.name for exercise in DERIVATIONS] == [
        "optimal_proof", "jsd_proof", "slopes_proof", "alternating_proof", "hinge_proof"]
    assert all(len(exercise.misconceptions) >= 12 for exercise in DERIVATIONS)
    assert len(check.EXERCISES) == 10


@EACH
def test_the_definition_is_complete(exercise):
    assert getattr(check, exercise.name) is exercise and exercise.chapter == 7
    assert exercise.equations and all(label.startswith("eq-gan-") for label in exercise.equations)
    assert exercise.minutes > 0 and exercise.points > 0 and exercise.teaching_notes
    said = [*exercise.hints, *(text for m in exercise.misconceptions for text in (m.says, m.hint)),
            *(landmark.says for landmark in exercise.landmarks), *filter(None, [exercise.nearly])]
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
    bound = {"x", "f", "u"}
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
def test_no_answer_beats_the_best_at_a_point(seed):
    """On a fine grid of answers the best one is p/(p + q), and the given line is below it everywhere else."""
    answers = torch.linspace(1e-4, 1 - 1e-4, 9999, dtype=torch.float64)
    for instance in check.optimal_proof.instances(generator(seed)):
        p, q = shown(instance, "p"), shown(instance, "q")
        earned = p * answers.log() + q * (1 - answers).log()
        best = number("p*log(best) + q*log(1 - best)", instance)
        assert abs(answers[earned.argmax()] - instance.symbols["best"]) < 1e-4
        assert (earned <= best + 1e-12).all() and earned.max() == pytest.approx(best.item(), abs=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_divergence_is_the_models(seed):
    sizes = set()
    for instance in check.jsd_proof.instances(generator(seed)):
        p, q = shown(instance, "p"), shown(instance, "q")
        sizes.add(len(p))
        assert (p.sum() - 1).abs() < 1e-12 and (q.sum() - 1).abs() < 1e-12 and (p > 0).all() and (q > 0).all()
        assert instance.symbols["JSD"] == pytest.approx(model.jensen_shannon(p, q).item(), abs=1e-14)
        value = number(line("jsd_proof", 0), instance).item()
        logits = model.optimal_logit(p.log(), q.log())
        weighed = (p * torch.nn.functional.logsigmoid(logits)
                   + q * torch.nn.functional.logsigmoid(-logits)).sum().item()
        assert value == pytest.approx(weighed, abs=1e-12)
        assert value == pytest.approx(2 * instance.symbols["JSD"] - 2 * math.log(2), abs=1e-12)
    assert len(sizes) > 1


@pytest.mark.parametrize("seed", SEEDS)
def test_slopes_are_those_of_autograd_through_the_models_losses(seed):
    for instance in check.slopes_proof.instances(generator(seed)):
        c, a = shown(instance, "c"), shown(instance, "a").requires_grad_()
        loss = c * model.Saturating().generator(a) + (1 - c) * model.NonSaturating().generator(a)
        slope, = torch.autograd.grad(loss, a)
        for place in (0, -1):
            assert number(line("slopes_proof", place), instance).item() == pytest.approx(
                slope.item(), abs=1e-12)
        assert number("c*saturating(a) + (1 - c)*non_saturating(a)", instance).item() == pytest.approx(
            loss.item(), abs=1e-12)


@pytest.mark.parametrize("name, plain", [
    ("log", torch.log), ("exp", torch.exp), ("sigmoid", torch.sigmoid),
    ("softplus", torch.nn.functional.softplus)])
def test_the_slope_of_each_plain_function_is_autograds(name, plain):
    instance = check.slopes_proof.instances(generator(1))[0]
    for at in (0.2, 0.9, 3.0):
        u = torch.tensor(at, dtype=torch.float64, requires_grad=True)
        slope, = torch.autograd.grad(plain(u), u)
        assert number(f"slope({name}, {at})", instance).item() == pytest.approx(slope.item(), abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_step_is_the_models_and_minus_eta_keeps_the_ellipse(seed):
    for instance in check.alternating_proof.instances(generator(seed)):
        theta, phi, eta = (shown(instance, name) for name in ("theta", "phi", "eta"))
        new = model.alternating(model.Bilinear().field, theta, phi, eta.item())
        assert [instance.symbols[name] for name in ("new_theta", "new_phi")] == [
            pytest.approx(value.item(), abs=1e-12) for value in new]
        kept = check.Instance("", {**instance.symbols, "c": -eta.item()})
        assert number(line("alternating_proof", 0), kept).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_hinge_is_the_models_and_the_sign_of_p_less_q_is_best(seed):
    loss = model.Hinge()
    for instance in check.hinge_proof.instances(generator(seed)):
        p, q, a = (shown(instance, name) for name in "pqa")
        tenths = [torch.repeat_interleave(a, (10 * law).round().long()) for law in (p, q)]
        value = number(line("hinge_proof", 0), instance).item()
        assert value == pytest.approx(loss.discriminator(*tenths).item(), abs=1e-12)
        total = (p - q).abs().sum().item() / 2
        assert instance.symbols["TV"] == pytest.approx(total, abs=1e-12)
        best = [torch.repeat_interleave((p - q).sign(), (10 * law).round().long()) for law in (p, q)]
        assert loss.discriminator(*best).item() == pytest.approx(2 - 2 * total, abs=1e-12)
        assert value > 2 - 2 * total


# --- right answers of other kinds ---------------------------------------------------------------------------

GIVEN = {exercise.name: read_chain(exercise.chain)[0].text for exercise in DERIVATIONS}
RESULT = {exercise.name: read_chain(exercise.chain)[-1].text for exercise in DERIVATIONS}
RIGHT = {
    "optimal_proof": [
        # as cross-entropy: entropy and divergence
        ["(p + q)*(best*log(t) + (1 - best)*log(1 - t))",
         "(p + q)*(best*log(best) + (1 - best)*log(1 - best)) "
         "- (p + q)*(best*log(best/t) + (1 - best)*log((1 - best)/(1 - t)))", RESULT["optimal_proof"]],
        # backwards, the bracket opened
        "= p*log(best) - p*log(best/t) + q*log(1 - best) - q*log((1 - best)/(1 - t))\n"
        f"= {RESULT['optimal_proof']}",
        # with p and q in the place of D*
        ["p*log(p/(p + q)) + q*log(q/(p + q)) - p*log(p/((p + q)*t)) - q*log(q/((p + q)*(1 - t)))",
         RESULT["optimal_proof"]]],
    "jsd_proof": [
        # with a factor 2 in the numerator instead
        "= sum(p(x)*(log(2*p(x)/(p(x) + q(x))) - log(2)) + q(x)*(log(2*q(x)/(p(x) + q(x))) - log(2))\n"
        "    for x in states)\n"
        "= sum(p(x)*log(2*p(x)/(p(x) + q(x))) for x in states)\n"
        "  + sum(q(x)*log(2*q(x)/(p(x) + q(x))) for x in states) - 2*log(2)\n= 2*(JSD - log(2))",
        # with ½ in front, and log 4
        ["sum(p(x)*log(p(x)/m(x)/2) for x in states) + sum(q(x)*log(q(x)/m(x)/2) for x in states)",
         "2*(sum(p(x)*log(p(x)/m(x)) for x in states)/2 + sum(q(x)*log(q(x)/m(x)) for x in states)/2) "
         "+ 2*log(1/2)", "2*JSD - log(4)"]],
    "slopes_proof": [
        # by softplus
        "= -c*slope(softplus, a) - (1 - c)*slope(softplus, -a)\n= -c*sigmoid(a) - (1 - c)*sigmoid(-a)",
        # by exponentials
        ["-c*exp(a)/(1 + exp(a)) - (1 - c)*exp(-a)/(1 + exp(-a))", RESULT["slopes_proof"]],
        ["c*slope(saturating, a) - (1 - c)*slope(sigmoid, a)/sigmoid(a)",
         "-c*slope(sigmoid, a)/sigmoid(-a) - (1 - c)*slope(sigmoid, a)/sigmoid(a)",
         "-(c*sigmoid(a) + (1 - c)*(1 - sigmoid(a)))"]],
    "alternating_proof": [
        # all in the old place
        ["(theta - eta*phi)**2 + (phi + eta*(theta - eta*phi))**2 "
         "+ c*(theta - eta*phi)*(phi + eta*(theta - eta*phi)) - (theta**2 + phi**2 + c*theta*phi)",
         "eta*(c + eta)*((theta - eta*phi)**2 - phi**2)", RESULT["alternating_proof"]],
        # theta out by what it was
        "= new_theta**2 + (phi + eta*new_theta)**2 + c*new_theta*(phi + eta*new_theta)\n"
        "  - ((new_theta + eta*phi)**2 + phi**2 + c*(new_theta + eta*phi)*phi)\n"
        "= (c + eta)*eta*(new_theta**2 - phi**2)"],
    "hinge_proof": [
        # state by state
        ["sum(p(x) + q(x) - (p(x) - q(x))*a(x) for x in states)",
         "sum(p(x) + q(x) - abs(p(x) - q(x)) + abs(p(x) - q(x)) - (p(x) - q(x))*a(x) for x in states)",
         "2 - sum(abs(p(x) - q(x)) for x in states) + sum(abs(p(x) - q(x)) - (p(x) - q(x))*a(x) for x in "
         "states)", RESULT["hinge_proof"]],
        # the two expectations apart
        "= sum(p(x)*(1 - a(x)) for x in states) + sum(q(x)*(1 + a(x)) for x in states)\n"
        "= 1 - sum(p(x)*a(x) for x in states) + 1 + sum(q(x)*a(x) for x in states)\n"
        f"= {RESULT['hinge_proof']}"],
}


@pytest.mark.parametrize("name, answer",
                         [(name, answer) for name, answers in RIGHT.items() for answer in answers])
def test_equivalent_right_answers_pass(name, answer):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert verdict.passed, verdict


# --- wrong answers that are on no list ----------------------------------------------------------------------

UNLISTED = [      # what the verdict says beside "not yet"
    ("optimal_proof", [RESULT["optimal_proof"]], "at least one line"),
    ("optimal_proof", ["log(t**p) + log((1 - t)**q)", RESULT["optimal_proof"]], "the best answer comes in"),
    ("optimal_proof", ["p*log(best) - p*log(best/t) + q*log(1 - t)"], "not yet the result"),
    ("optimal_proof", [f"2*({GIVEN['optimal_proof']})"], "2 times that of line 1"),
    ("optimal_proof", ["p*log(t) + q*log(1 - t) + 1"], "1 more than"),
    ("optimal_proof", ["p*log(-t) + q*log(1 - t)"], "no value"),
    ("jsd_proof", [RESULT["jsd_proof"]], "at least 2 lines"),
    ("jsd_proof", ["sum(p(x)*log(p(x)/(2*m(x))) + q(x)*log(q(x)/(2*m(x))) for x in states)",
                   RESULT["jsd_proof"]], "take log 2 out"),
    ("jsd_proof", ["sum(p(x)*log(p(x)/(2*m(x))) + q(x)*log(q(x)/(2*m(x))) for x in states)",
                   "sum(p(x)*(log(p(x)) - log(2*m(x))) + q(x)*(log(q(x)) - log(2*m(x))) for x in states)",
                   RESULT["jsd_proof"]], "where 2 log 2 comes from"),
    ("jsd_proof", ["sum(p(x)*log(p(x)/(2*m(x))) + q(x)*log(q(x)/(2*m(x))) for x in states)"],
     "not yet the result"),
    ("jsd_proof", ["sum(p(x)*log(p(x)/m) for x in states)"], "no value"),
    ("jsd_proof", ["3*JSD - 3*log(2)"], "first that does not equal"),
    ("slopes_proof", [RESULT["slopes_proof"]], "at least one line"),
    ("slopes_proof", ["slope(non_saturating, a) + c*(slope(saturating, a) - slope(non_saturating, a))",
                      "c*slope(saturating, a) + (1 - c)*(-slope(sigmoid, a)/sigmoid(a))",
                      RESULT["slopes_proof"]], "Show the chain rule"),
    ("slopes_proof", ["-c*slope(softplus, a) - (1 - c)*slope(softplus, -a)"], "not yet the result"),
    ("slopes_proof", ["c*slope(tanh, a)"], "no value"),
    ("slopes_proof", [f"{RESULT['slopes_proof']} + 0.5"], "0.5 more than"),
    ("alternating_proof", [RESULT["alternating_proof"]], "Show the steps put in"),
    ("alternating_proof", ["(theta - eta*phi)**2 + new_phi**2 + c*new_theta*new_phi "
                           "- (theta**2 + phi**2 + c*theta*phi)"], "not yet the result"),
    ("alternating_proof", ["new_theta**2 + new_phi**2 - theta**2 - phi**2 "
                           "+ c*exp(log(2))/2*(new_theta*new_phi - theta*phi)",
                           RESULT["alternating_proof"]], "Show the steps put in"),
    ("alternating_proof", [f"2*({RESULT['alternating_proof']})"], "2 times that of line 1"),
    ("alternating_proof", ["theta'**2"], "cannot be read"),
    ("hinge_proof", [RESULT["hinge_proof"]], "at least 2 lines"),
    ("hinge_proof", ["sum(p(x)*(1 - a(x)) + q(x)*(1 + a(x)) for x in states)", RESULT["hinge_proof"]],
     "1 came. One more line"),
    ("hinge_proof", ["sum(p(x)*max(1 - a(x), 0) + q(x)*max(0, 1 + a(x)) for x in states)",
                     "sum(p(x)*max(1 - a(x), 0) + q(x)*max(1 + a(x), 0) for x in states)",
                     RESULT["hinge_proof"]], "Show the hinges opened"),
    ("hinge_proof", ["sum(p(x)*(1 - a(x)) + q(x)*(1 + a(x)) for x in states)"], "not yet the result"),
    ("hinge_proof", ["sum(p(x)*max(1 - a(x)) for x in states)"], "no value"),
    ("hinge_proof", [f"{RESULT['hinge_proof']} + 3"], "3 more than"),
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
    ("optimal_proof", "= p*log(1 - t) + q*log(t)", "data and samples exchanged"),
    ("optimal_proof", "= p*log(t) + q*(log(1) - log(t))", "log of a difference taken apart"),
    ("optimal_proof", "= p*log(best) + q*log(1 - best)", "the best value for every answer"),
    ("optimal_proof", "= p*(log(best) + log(best/t)) + q*(log(1 - best) + log((1 - best)/(1 - t)))",
     "a quotient upside down"),
    ("optimal_proof", "= p*(log(best) - log(best/t)) + q*(log(1 - best) - log((1 - best)/(1 - t)))\n"
     "= p*log(best) + q*log(1 - best) - (best*log(best/t) + (1 - best)*log((1 - best)/(1 - t)))",
     "the weight p + q forgotten"),
    ("jsd_proof", "= sum(p(x)*(log(p(x)/m(x)) + log(2)) + q(x)*(log(q(x)/m(x)) + log(2)) for x in states)",
     "2 log 2 with a plus"),
    ("jsd_proof", "= sum(p(x)*log(p(x)/(2*m(x))) + q(x)*log(q(x)/(2*m(x))) for x in states)\n"
     "= sum(p(x)*log(p(x)/m(x)) + q(x)*log(q(x)/m(x)) for x in states) - log(2)", "log 2 only once"),
    ("jsd_proof", "= sum(p(x)*log(p(x)/(2*m(x))) + q(x)*log(q(x)/(2*m(x))) for x in states)\n"
     "= sum(p(x)*log(p(x)/m(x)) + q(x)*log(q(x)/m(x)) - 2*log(2) for x in states)", "log 2 for every state"),
    ("jsd_proof", "= log(sum(p(x)*p(x)/(p(x) + q(x)) for x in states)) + "
     "log(sum(q(x)*q(x)/(p(x) + q(x)) for x in states))", "logarithm of the mean"),
    ("slopes_proof", "= c/(1 - sigmoid(a)) - (1 - c)/sigmoid(a)", "slope in D, not in the logit"),
    ("slopes_proof", "= c*slope(sigmoid, a)/(1 - sigmoid(a)) - (1 - c)*slope(sigmoid, a)/sigmoid(a)",
     "the inner minus forgotten"),
    ("slopes_proof", "= -c*slope(sigmoid, a)/(1 - sigmoid(a)) - (1 - c)*slope(sigmoid, a)/sigmoid(a)\n"
     "= -c*(1 - sigmoid(a)) - (1 - c)*sigmoid(a)", "the two slopes exchanged"),
    ("slopes_proof", "= c*log(1 - sigmoid(a)) - (1 - c)*log(sigmoid(a))", "the loss for its slope"),
    ("alternating_proof", "= (theta - eta*phi)**2 + (phi + eta*theta)**2 + c*(theta - eta*phi)*(phi + "
     "eta*theta) - theta**2 - phi**2 - c*theta*phi", "φ answers to the old θ"),
    ("alternating_proof", "= -eta*phi*(new_theta + theta) + eta*new_theta*(new_phi + phi)\n"
     "  + c*(new_theta*new_phi - theta*phi)\n= (c - eta)*(new_theta*new_phi - theta*phi)",
     "the sign of η in the bracket"),
    ("alternating_proof", "= (new_theta - theta)**2 + (new_phi - phi)**2 + c*(new_theta*new_phi - theta*phi)",
     "squares taken apart"),
    ("alternating_proof", "= eta*new_theta*(new_phi + phi) - eta*phi*(new_theta + theta)",
     "the mixed term forgotten"),
    ("hinge_proof", "= sum(p(x)*(1 + a(x)) + q(x)*(1 - a(x)) for x in states)", "hinges exchanged"),
    ("hinge_proof", "= sum(p(x)*(1 - a(x)) + q(x)*(1 + a(x)) for x in states)\n"
     "= 1 - sum((p(x) - q(x))*a(x) for x in states)", "1 for 2"),
    ("hinge_proof", "= sum(p(x)*(1 - a(x)) + q(x)*(1 + a(x)) for x in states)\n"
     "= 2 - sum((p(x) + q(x))*a(x) for x in states)", "p + q for p − q"),
    ("hinge_proof", "= 2*sum(min(p(x), q(x)) for x in states)", "the gap left out"),
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
    assert len({normal_form(expression(line)) for line in lines}) >= exercise.least_lines + 2
