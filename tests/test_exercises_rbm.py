"""Chapter 2's derivations: solutions pass, each misconception is a wrong line known under its own name."""

import ast
import itertools
import math
import re

import pytest
import torch

from nemlib import rbm as model
from nemlib.exercises import rbm as check
from nemlib.exercises.answers import Refusal
from nemlib.exercises.core import agree
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


# --- what every derivation keeps ----------------------------------------------------------------------------

def test_the_chapter_has_what_it_promises():
    assert [exercise.name for exercise in DERIVATIONS] == [
        "conditional_proof", "free_energy_proof", "gradient_proof", "ais_proof"]
    assert all(len(exercise.misconceptions) >= 8 for exercise in DERIVATIONS)


@EACH
def test_the_definition_is_complete(exercise):
    assert getattr(check, exercise.name) is exercise and exercise.chapter == 2
    assert exercise.equations and all(label.startswith("eq-rbm-") for label in exercise.equations)
    assert exercise.minutes > 0 and exercise.points > 0 and exercise.teaching_notes
    said = [*exercise.hints, *(text for m in exercise.misconceptions for text in (m.says, m.hint))]
    for text in said:      # these are shown by a kernel, where no formula is typeset
        assert text[-1] in ".?:)" and not re.search(r"[$\\]|\*\w+\*", text), text
        assert text.count("`") % 2 == 0 and text.count("(") == text.count(")"), text
    assert exercise.statement.count("$") % 2 == 0 and exercise.statement.count("`") % 2 == 0


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
    bound = {"h", "i", "j", "u", "v", "y", "sigmoid"}
    assert named <= known | bound and known <= named | bound
    assert "|" not in "".join(map("".join, exercise.symbols))


@EACH
def test_every_instance_shows_all_that_it_was_made_of(exercise):
    shown = [instance.shown for instance in exercise.instances(generator(1))]
    assert len(set(shown)) == len(shown) and all("W = " in text and "b = " in text for text in shown)


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
        facts = dict(verdict.facts)
        if "has no value" in verdict.message:
            assert "index" in verdict.message and set(facts) == {"instance"}
        else:      # both lines' values, and where
            assert len(facts) == 3 and len(set(facts.values())) == 3


@EACH
@pytest.mark.parametrize("seed", SEEDS)
def test_no_two_misconceptions_are_the_same_answer_and_none_is_right(exercise, seed):
    instances = exercise.instances(generator(seed))
    truth = [number(read_chain(exercise.chain)[0].text, instance) for instance in instances]
    answers = [(misconception.name, [number(mutant, instance) for instance in instances])
               for misconception in exercise.misconceptions for mutant in misconception.mutants]
    for name, values in answers:
        assert not all(agree(a, b, 1e-4) for a, b in zip(values, truth)), name
    for (one, first), (other, second) in itertools.combinations(answers, 2):
        if one != other:
            same = all(agree(a, b, 1e-4) for a, b in zip(first, second))
            assert not same, f"{one} and {other} give the same answers"


# --- the instances, computed in another way -----------------------------------------------------------------

def machine_of(shown):
    """The model's own machine with the numbers that an instance shows."""
    numbers = {name: [[float(number) for number in row.split(",")] for row in values.split(";")]
               for name, values in re.findall(r"\b(W|a|b) = \(([^)]*)\)", shown)}
    machine = model.RBM(len(numbers["W"]), len(numbers["W"][0]), generator(0), dtype=torch.float64)
    weights = {name: torch.tensor(rows, dtype=torch.float64) for name, rows in numbers.items()}
    machine.load_state_dict({"W": weights["W"], "a": weights["a"][0], "b": weights["b"][0]})
    return machine


def test_machines_shown_are_the_models_own():
    for instance in check.conditional_proof.instances(generator(1)):
        machine, s = machine_of(instance.shown), instance.symbols
        v = torch.tensor([s["v"]], dtype=torch.float64)
        given = read_chain(check.conditional_proof.chain)[0].text
        fires = machine.hidden_given(v)[0, s["j"]].item()
        assert number(given, instance).item() == pytest.approx(fires, abs=1e-12)
        for h in s["states"]:
            energy = machine.energy(v, torch.tensor([h], dtype=torch.float64))
            assert s["E"](s["v"], h) == pytest.approx(energy.item(), abs=1e-12)
    for instance in check.free_energy_proof.instances(generator(1)):
        v = torch.tensor([instance.symbols["v"]], dtype=torch.float64)
        free = machine_of(instance.shown).free_energy(v).item()
        given = number(read_chain(check.free_energy_proof.chain)[0].text, instance)
        assert given.item() == pytest.approx(free, abs=1e-12)


def test_given_derivatives_are_those_of_autograd():
    for instance in check.gradient_proof.instances(generator(1)):
        machine, s = machine_of(instance.shown), instance.symbols
        v = torch.tensor([s["v"]], dtype=torch.float64)
        log_z = torch.logsumexp(-machine.free_energy(model.enumerate_binary(machine.visible)), 0)
        free = machine.free_energy(v).squeeze()
        slopes = [float(torch.autograd.grad(value, machine.W, retain_graph=True)[0][s["i"], s["j"]])
                  for value in (-free - log_z, log_z, free)]
        assert s["dlogp"] == pytest.approx(slopes[0], abs=1e-12)
        assert s["dlogZ"] == pytest.approx(slopes[1], abs=1e-12)
        assert s["dF"](s["v"]) == pytest.approx(slopes[2], abs=1e-12)
        assert math.log(s["Z"]) == pytest.approx(log_z.item(), abs=1e-12)
        assert s["F"](s["v"]) == pytest.approx(free.item(), abs=1e-12)
        total = math.fsum(s["joint"](u, h) for u in s["pictures"] for h in s["states"])
        assert total == pytest.approx(1, abs=1e-12)
        assert s["fires"](s["v"]) == pytest.approx(machine.hidden_given(v)[0, s["j"]].item(), abs=1e-12)


def test_the_sweep_is_a_transition_in_balance_with_the_middle_law_only():
    for instance in check.ais_proof.instances(generator(1)):
        s, pictures = instance.symbols, instance.symbols["pictures"]
        assert math.fsum(map(s["p0"], pictures)) == pytest.approx(1, abs=1e-12)
        for u in pictures:
            assert math.fsum(s["T"](u, v) for v in pictures) == pytest.approx(1, abs=1e-12)
        gaps = {name: max(abs(s[name](u) * s["T"](u, v) - s[name](v) * s["T"](v, u))
                          for u in pictures for v in pictures) for name in ("f0", "f1", "f2")}
        assert gaps["f1"] < 1e-12 < 1e-4 < min(gaps["f0"], gaps["f2"])


def test_the_laws_of_the_path_are_those_of_the_model():
    """f0, f1 and f2 against eq-rbm-ais-path as `nemlib.rbm` has it, and Z2 against the enumeration."""
    for instance in check.ais_proof.instances(generator(1)):
        machine, s = machine_of(instance.shown), instance.symbols
        rates = ast.literal_eval(re.search(r"base rate (\([^)]*\))", instance.shown)[1])
        base = torch.tensor(rates, dtype=torch.float64)
        middle = float(instance.shown.rpartition("= ")[2])
        v = torch.tensor(s["pictures"], dtype=torch.float64)
        for name, beta in (("f0", 0.0), ("f1", middle), ("f2", 1.0)):
            inputs = beta * (machine.b + v @ machine.W)
            log_f = v @ ((1 - beta) * base + beta * machine.a) + model.softplus(inputs).sum(1)
            values = torch.tensor([s[name](u) for u in s["pictures"]], dtype=torch.float64)
            assert torch.allclose(values.log(), log_f, atol=1e-12)
        assert math.log(s["Z2"]) == pytest.approx(machine.log_z().item(), abs=1e-12)
        assert math.log(s["Z0"]) == pytest.approx(machine.base_log_z(base), abs=1e-12)


def test_states_of_another_length_have_no_energy():
    given = "E(h, v)"
    instance = check.conditional_proof.instances(generator(1))[2]      # 3 visible units and 2 hidden ones
    tree = expression(f"sum({given} for h in states)")
    with pytest.raises(Refusal, match="no value"):
        Evaluation(f"sum({given} for h in states)", instance.symbols).number(tree)


# --- right answers of other kinds ---------------------------------------------------------------------------

GIVEN = {exercise.name: read_chain(exercise.chain)[0].text for exercise in DERIVATIONS}
RIGHT = {
    "conditional_proof": [
        # each state with its twin that has unit j off
        ["sum(exp(-E(v, h)) for h in on)/sum(exp(-E(v, h))*(1 + exp(-x[j])) for h in on)",
         "1/(1 + exp(-x[j]))", "1/(1 + exp(-b[j] - sum(v[i]*W[i][j] for i in visible)))",
         "exp(x[j])/(1 + exp(x[j]))", f"sigmoid({check._IN})"],
        # the joint conditional as a product, then the sum over the others
        "= sum(prod(exp(h[k]*x[k])/(1 + exp(x[k])) for k in hidden) for h in on)\n"
        "= exp(x[j])/(1 + exp(x[j]))\n= sigmoid(x[j])",
        # the definition with an `if`, and sums over a unit's two values
        "= sum(exp(-E(v, h)) for h in states if h[j] == 1)/sum(exp(-E(v, h)) for h in states)\n"
        "= exp(x[j])*prod(sum(exp(s*x[k]) for s in (0, 1)) for k in hidden if k != j)/"
        "prod(sum(exp(s*x[k]) for s in (0, 1)) for k in hidden)\n= sigmoid(x[j])",
        f"= sum({check._UNITS} for h in on)/{check._ALL}\n"
        f"= exp(x[j])*{check._OTHERS}/((1 + exp(x[j]))*{check._OTHERS})\n"
        "= sigmoid(sum(W[i][j]*v[i] for i in visible) + b[j])"],
    "free_energy_proof": [
        ["-log(sum(exp(sum(a[i]*v[i] for i in visible) + sum(h[j]*x[j] for j in hidden)) for h in states))",
         "-log(exp(sum(a[i]*v[i] for i in visible))*prod(1 + exp(x[j]) for j in hidden))",
         f"-{check._AV} - sum(log(1 + exp(x[j])) for j in hidden)"],
        f"= -log(sum(exp({check._AV})*{check._FREE_UNITS} for h in states))\n"
        f"= -log(prod(sum(exp(s*x[j]) for s in (0, 1)) for j in hidden)) - {check._AV}\n"
        f"= -({check._SOFTPLUS} + {check._AV})",
        [f"-{check._AV} - log(sum({check._FREE_UNITS} for h in states))",
         f"-{check._AV} - log(prod(1 + exp(x[k]) for k in hidden))", f"-{check._SOFTPLUS} - {check._AV}"]],
    "gradient_proof": [
        ["-dF(v) + sum(p(u)*dF(u) for u in pictures)", f"{check._DATA} + sum(p(u)*dF(u) for u in pictures)",
         f"{check._DATA} - {check._MODEL}"],
        "= v[i]*sigmoid(x(v)) - dlogZ\n"
        "= v[i]*sigmoid(x(v)) - sum(exp(-E(u, h))*u[i]*h[j] for u in pictures for h in states)/Z\n"
        "= v[i]*sigmoid(x(v)) - sum(joint(u, h)*u[i]*h[j] for h in states for u in pictures)",
        "= -dF(v) - dlogZ\n= -dF(v) - sum(-dF(u)*exp(-F(u)) for u in pictures)/Z\n"
        "= v[i]*fires(v) - sum(p(u)*u[i]*sigmoid(x(u)) for u in pictures)",
        "= sum(v[i]*h[j]*joint(v, h)/p(v) for h in states) - dlogZ\n"
        "= sum(v[i]*h[j]*joint(v, h)/p(v) for h in states) + sum(exp(-F(u))/Z*dF(u) for u in pictures)\n"
        "= v[i]*fires(v) - sum(joint(u, h)*u[i]*h[j] for u in pictures for h in states)"],
    "ais_proof": [
        # what the sweep keeps, without detailed balance
        f"= sum(f1(u)*T(u, v)*f2(v)/f1(v) {check._PAIRS})/Z0\n"
        "= sum(f2(v)/f1(v)*sum(f1(u)*T(u, v) for u in pictures) for v in pictures)/Z0\n"
        "= sum(f2(v)/f1(v)*f1(v) for v in pictures)/Z0\n= Z2/Z0",
        [f"sum(f0(u)/Z0*f1(u)/f0(u)*T(u, v)*f2(v)/f1(v) {check._PAIRS})",
         f"1/Z0*sum(T(v, u)*f2(v) {check._PAIRS})", "Z2/Z0"],
        # in laws that are normalised
        f"= Z1/Z0*sum(f1(u)/Z1*T(u, v)*f2(v)/f1(v) {check._PAIRS})\n"
        "= Z1/Z0*sum(f1(v)/Z1*f2(v)/f1(v) for v in pictures)\n= Z1/Z0*Z2/Z1"],
}


@pytest.mark.parametrize("name, answer",
                         [(name, answer) for name, answers in RIGHT.items() for answer in answers])
def test_equivalent_right_answers_pass(name, answer):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert verdict.passed, verdict


# --- wrong answers that are on no list ----------------------------------------------------------------------

RESULT = {exercise.name: read_chain(exercise.chain)[-1].text for exercise in DERIVATIONS}
UNLISTED = [      # what the verdict says beside "not yet"
    ("conditional_proof", [RESULT["conditional_proof"]], "at least 2 lines"),
    ("conditional_proof", [f"exp(x[j])*{check._OTHERS}/{check._ALL}", "sigmoid(x[j])"],
     "1 came. One more line"),
    ("conditional_proof", ["exp(x[j])/(1 + exp(x[j]))", "1 - 1/(1 + exp(x[j]))", "sigmoid(x[j])"],
     "it has become a product over the units"),
    ("conditional_proof", [f"exp(x[j])*{check._OTHERS}/{check._ALL}", "exp(x[j])/(1 + exp(x[j]))"],
     "not yet the result"),
    ("conditional_proof", ["sigmoid(x[0])"], "special case"),
    ("conditional_proof", ["sum(exp(-E(h, v)) for h in on)"], "no value"),
    ("free_energy_proof", [RESULT["free_energy_proof"]], "at least 2 lines"),
    ("free_energy_proof", [f"-{check._AV} - log(sum({check._FREE_UNITS} for h in states))",
                           f"-log(exp({check._AV})) - log(sum({check._FREE_UNITS} for h in states))",
                           RESULT["free_energy_proof"]], "it has become a product over the units"),
    ("free_energy_proof", [f"-{check._AV} - log(prod(1 + exp(x[j]) for j in hidden))"], "not yet the result"),
    ("free_energy_proof", [f"2*({RESULT['free_energy_proof']})"], "2 times that of line 1"),
    ("free_energy_proof", [f"exp({RESULT['free_energy_proof']})"], "the exponential of"),
    ("gradient_proof", [RESULT["gradient_proof"]], "at least 2 lines"),
    ("gradient_proof", ["-dF(v) - dlogZ", "v[i]*fires(v) - dlogZ", RESULT["gradient_proof"]],
     "the derivative of log Z is a sum over all pictures"),
    ("gradient_proof", ["-dF(v) - dlogZ"], "not yet the result"),
    ("gradient_proof", ["dF(v) + 3"], "first that does not equal"),
    ("ais_proof", ["Z2/Z0"], "at least 2 lines"),
    ("ais_proof", ["sum(f2(v) for v in pictures)/Z0", "Z2*sum(p0(u) for u in pictures)/Z0", "Z2/Z0"],
     "what becomes of the sweep"),
    ("ais_proof", [f"sum(f1(u)*T(u, v)*f2(v)/f1(v) {check._PAIRS})/Z0", "Z2/Z0"], "1 came. One more line"),
    ("ais_proof", [f"sum(f1(u)*T(u, v)*f2(v)/f1(v) {check._PAIRS})/Z0", "sum(f2(v) for v in pictures)/Z0"],
     "not yet the result"),
]


@pytest.mark.parametrize("name, lines, words", UNLISTED)
def test_an_unlisted_wrong_answer_is_told_more_than_that_it_is_wrong(name, lines, words):
    verdict = getattr(check, name)([GIVEN[name], *lines])
    assert not verdict.passed and verdict.misconception is None
    assert words in f"{verdict.message} {verdict.hint}", verdict


# --- answers as readers write them --------------------------------------------------------------------------

SEEN_IN_CLASS = [
    ("conditional_proof", "= sum(exp(E(v, h)) for h in on)/sum(exp(E(v, h)) for h in states)",
     "sign of the energy"),
    ("conditional_proof", "= exp(x[j])/(1 + exp(x[j]))\n= 1/(1 + exp(x[j]))", "sign of the energy"),
    ("conditional_proof", "= 1/(1 + exp(-sum(v[i]*W[i][j] for i in visible)))", "hidden bias forgotten"),
    ("conditional_proof", f"= exp(x[j])*{check._ALL}/{check._ALL}", "odds for the probability"),
    ("conditional_proof", f"= exp(x[j])*{check._OTHERS}", "normaliser forgotten"),
    ("conditional_proof", "= prod(exp(x[k]) for k in hidden)/prod(1 + exp(x[k]) for k in hidden)",
     "all units forced on"),
    ("conditional_proof", "= sigmoid(sum(W[j][i]*v[i] for i in visible) + b[j])", "layers exchanged"),
    ("free_energy_proof", "= -sum(-E(v, h) for h in states)", "log of a sum as a sum of logs"),
    ("free_energy_proof", "= -log(sum(exp(E(v, h)) for h in states))", "sign of the energy"),
    ("free_energy_proof", "= log(sum(exp(-E(v, h)) for h in states))", "the minus of −log lost"),
    ("free_energy_proof", f"= -log({check._FREE_UNITS.replace('h[j]*', '')})", None),
    ("free_energy_proof", f"= -log(sum({check._FREE_UNITS} for h in states))", "visible biases forgotten"),
    ("free_energy_proof", "= min(E(v, h) for h in states)", "the best hidden state only"),
    ("gradient_proof", "= dlogZ + dF(v)", "model minus data"),
    ("gradient_proof", "= -dF(v)\n= v[i]*fires(v)", "gradient of log Z forgotten"),
    ("gradient_proof", "= -dF(v) - dlogZ\n= v[i]*fires(v) + dlogZ", "sign of the gradient of log Z"),
    ("gradient_proof", "= dF(v) - dlogZ", "sign of the free energy"),
    ("gradient_proof", "= -dF(v) - dlogZ\n= v[i]*fires(v) - sum(p(u)*u[i] for u in pictures)"
     "*sum(p(u)*fires(u) for u in pictures)", "product of means"),
    ("gradient_proof", "= v[i]*fires(v) - sum(joint(u, h)*v[i]*fires(v) for u in pictures for h in states)",
     "data minus data"),
    ("gradient_proof", "= v[i]*fires(v) - Z*dlogZ", "Z for log Z"),
    ("gradient_proof", "= -dF(v) + sum(dF(u) for u in pictures)", "not weighed by the law"),
    ("ais_proof", f"= sum(f0(u)*f1(u)/f0(u)*T(u, v)*f2(v)/f1(v) {check._PAIRS})", "base law not normalised"),
    ("ais_proof", f"= sum(f1(u)*T(u, v)*f2(v)/f1(v) {check._PAIRS})/Z0\n"
     f"= sum(f1(u)*T(v, u)*f2(v)/f1(v) {check._PAIRS})/Z0", "sweep turned round without paying"),
    ("ais_proof", f"= sum(f2(v)*T(v, u) {check._PAIRS})/Z0\n= sum(f2(v) {check._PAIRS})/Z0",
     "a sum left over"),
    ("ais_proof", "= Z1/Z0*Z2/Z1*Z1/Z2", "stopped half way"),
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
