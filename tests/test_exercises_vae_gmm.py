"""Chapter 5's derivations: solutions pass, each misconception is a wrong line known under its own name."""

import ast
import itertools
import math
import re

import pytest
import torch

from nemlib import gmm as model
from nemlib.exercises import vae_gmm as check
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
    text = re.search(rf"\b{re.escape(name)} = ([-(\d][-\d., ()]*)", instance.shown)[1].rstrip(", ")
    return torch.tensor(ast.literal_eval(text), dtype=torch.float64)


def line(name, number):
    """A line of an exercise's own chain, from 0; -1 is the result."""
    return read_chain(getattr(check, name).chain)[number].text


# --- what every derivation keeps ----------------------------------------------------------------------------

def test_the_chapter_has_what_it_promises():
    assert [exercise.name for exercise in DERIVATIONS] == [
        "m_step_proof", "square_proof", "conjugate_proof", "label_gap_proof", "saddle_proof"]
    assert all(len(exercise.misconceptions) >= 12 for exercise in DERIVATIONS)
    assert len(check.EXERCISES) == 9


@EACH
def test_the_definition_is_complete(exercise):
    assert getattr(check, exercise.name) is exercise and exercise.chapter == 5
    assert exercise.equations and all(label.startswith("eq-vg-") for label in exercise.equations)
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
    bound = {"x", "i", "k", "a", "b", "M"}
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
    for seed, mutant in zip(itertools.cycle(SEEDS), misconception.mutants):
        verdict = exercise(mistaken(exercise, mutant), generator=generator(seed))
        assert not verdict.passed and verdict.misconception == misconception.name, (seed, mutant, verdict)
        assert misconception.says in verdict.message and verdict.hint == misconception.hint
        assert len(verdict.facts) == 3      # both lines' values, and where
        assert len(set(dict(verdict.facts).values())) == 3


@EACH
@pytest.mark.parametrize("seed", [*SEEDS, SEED])
def test_no_two_misconceptions_are_the_same_answer_and_none_is_right(exercise, seed):
    """Ten times farther apart than the check needs; where ε is small, the cube of it is what tells apart."""
    instances = exercise.instances(generator(seed))
    apart = 1e-8 if exercise is check.saddle_proof else 1e-4
    truth = [number(read_chain(exercise.chain)[0].text, instance) for instance in instances]
    answers = [(misconception.name, [number(mutant, instance) for instance in instances])
               for misconception in exercise.misconceptions for mutant in misconception.mutants]
    for name, values in answers:
        assert all(value.numel() for value in values), f"{name} has no value"
        assert not all(agree(a, b, apart) for a, b in zip(values, truth)), name
    for (one, first), (other, second) in itertools.combinations(answers, 2):
        if one != other:
            same = all(agree(a, b, apart) for a, b in zip(first, second))
            assert not same, f"{one} and {other} give the same answers"


# --- the instances, computed in another way -----------------------------------------------------------------

@pytest.mark.parametrize("seed", SEEDS)
def test_the_best_component_is_that_of_the_models_m_step(seed):
    """And no other on a grid is better: what the last line claims."""
    for instance in check.m_step_proof.instances(generator(seed)):
        x, r = shown(instance, "x"), shown(instance, "r")
        found = model.moments(x[:, None], r[:, None])
        n, xbar, v = (instance.symbols[name] for name in ("n", "xbar", "v"))
        assert (n, xbar) == (pytest.approx(found.count.item()), pytest.approx(found.mean.item()))
        assert v == pytest.approx((found.scatter / found.count).item())
        best = check.Instance("", {**instance.symbols, "mu": xbar, "lam": 1 / v})
        top = number(line("m_step_proof", 0), best)
        assert number("-n*(log(v) + 1)/2", instance).item() == pytest.approx(top.item(), abs=1e-12)
        for away, factor in itertools.product((-0.5, 0.0, 0.5), (0.5, 1.0, 2.0)):
            other = check.Instance("", {**instance.symbols, "mu": xbar + away, "lam": factor / v})
            assert number(line("m_step_proof", 0), other) <= top + 1e-12


@pytest.mark.parametrize("seed", SEEDS)
def test_the_square_is_least_at_the_new_mean(seed):
    """It is a parabola: lower there than on both sides, by the same on both."""
    for instance in check.square_proof.instances(generator(seed)):
        at = [number(line("square_proof", 0), check.Instance("", {**instance.symbols, "mu": mu})).item()
              for mu in (instance.symbols["m_new"] + away for away in (-0.1, 0.0, 0.1))]
        assert at[0] == pytest.approx(at[2], abs=1e-9) and at[1] < at[0] - 0.01


@pytest.mark.parametrize("seed", SEEDS)
def test_the_posterior_is_the_models(seed):
    """The joint law and the model's posterior differ by the same constant at any parameters."""
    sizes = set()
    for instance in check.conjugate_proof.instances(generator(seed)):
        dimensions = instance.symbols["L"]
        x = shown(instance, "x").view(-1, dimensions)
        mu, m = (shown(instance, name).view(dimensions) for name in ("mu", "m"))
        precision, inverse = (shown(instance, name).view(dimensions, -1) for name in ("Lambda", "Winv"))
        kappa, nu = shown(instance, "kappa"), shown(instance, "nu")
        sizes.add(dimensions)
        prior = model.Prior.same(1, m, inverse, alpha=1.0, kappa=kappa.item(), nu=nu.item())
        after = prior.posterior(model.moments(x, torch.ones(len(x), 1, dtype=torch.float64)))
        assert after.mean[0].tolist() == pytest.approx(list(instance.symbols["m_new"]))
        mixture = model.GaussianMixture(torch.ones(1, dtype=torch.float64), mu[None],
                                        torch.linalg.cholesky(precision)[None])
        constant = 0.5 * dimensions * ((kappa + len(x)).log() - math.log(2 * math.pi))
        law = (after.log_prob(mixture) + after.log_normaliser().sum() - constant).item()
        assert number(line("conjugate_proof", -1), instance).item() == pytest.approx(law, abs=1e-9)
        assert number(line("conjugate_proof", 0), instance).item() == pytest.approx(law, abs=1e-9)
    assert len(sizes) == 3


@pytest.mark.parametrize("seed", SEEDS)
def test_with_the_mean_held_the_precision_has_one_degree_more(seed):
    """What the statement says in brackets: all log-determinants together, and both spreads about μ."""
    held = ("((nu + n + 1) - L - 1)/2*logdet "
            "- (tr(Winv) + kappa*dist(mu, m) + sum(dist(x(i), mu) for i in points))/2")
    for instance in check.conjugate_proof.instances(generator(seed)):
        assert number(held, instance) == pytest.approx(number(line("conjugate_proof", 0), instance))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_gap_is_at_most_what_the_label_costs(seed):
    sizes = set()
    for instance in check.label_gap_proof.instances(generator(seed)):
        q, weights = shown(instance, "q"), shown(instance, "pi")
        z = instance.symbols["z"]
        laws = torch.stack([shown(instance, f"comp(x, {k})") for k in range(len(weights))])
        assert ((laws.sum(1) - 1).abs() < 1e-12).all() and abs(q.sum() - 1) < 1e-12
        share = ((weights[:, None] * laws) / (weights @ laws))[z]
        gap = number(line("label_gap_proof", 0), instance)
        expected = (q * share.log()).sum() - weights[z].log()
        assert gap.item() == pytest.approx(expected.item(), abs=1e-12)
        assert gap <= -weights[z].log()
        sizes.add(len(weights))
    assert sizes == {2, 3}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_step_is_the_models_and_its_cube_is_the_formulas(seed):
    """An EM step of the model on data in these proportions, from which the cube is read off."""
    signs = set()
    for instance in check.saddle_proof.instances(generator(seed)):
        values = torch.tensor(instance.symbols["values"], dtype=torch.float64)
        weights = torch.tensor([instance.symbols["w"](x) for x in values.tolist()], dtype=torch.float64)
        assert (weights @ values).abs() < 1e-15 and (weights @ values**2 - 1).abs() < 1e-12
        eps, m4 = instance.symbols["eps"], (weights @ values**4).item()
        signs.add(m4 < 3)
        assert m4 == pytest.approx(instance.symbols["m4"])
        x = values.repeat_interleave((200 * weights).round().long())[:, None]
        mixture = model.GaussianMixture.of_covariances(
            torch.tensor([0.5, 0.5], dtype=torch.float64), torch.tensor([[-eps], [eps]], dtype=torch.float64),
            torch.full((2, 1, 1), 1 - eps**2, dtype=torch.float64))
        after = model.em_step(mixture, x).mixture.means[1].item()
        assert number(line("saddle_proof", 0), instance).item() == pytest.approx(after, abs=1e-14)
        assert (after - eps) / eps**3 == pytest.approx(1 - m4 / 3, abs=20 * eps**2)
    assert True in signs


# --- right answers of other kinds ---------------------------------------------------------------------------

GIVEN = {exercise.name: read_chain(exercise.chain)[0].text for exercise in DERIVATIONS}
RESULT = {exercise.name: read_chain(exercise.chain)[-1].text for exercise in DERIVATIONS}
RIGHT = {
    "m_step_proof": [
        # x̄ put in under the square
        ["sum(r(i)*log(lam)/2 for i in points) - lam/2*sum(r(i)*((x(i) - xbar)**2 + (xbar - mu)**2) "
         "for i in points)",
         "n/2*(log(lam) - lam*v - lam*(xbar - mu)**2)",
         "-n*log(v)/2 + n/2*(log(lam*v) - lam*v - lam*(xbar - mu)**2)", RESULT["m_step_proof"]],
        # moments about 0
        ["n*log(lam)/2 - lam*(sum(r(i)*x(i)**2 for i in points) - 2*mu*n*xbar + n*mu**2)/2",
         "n*log(lam)/2 - lam*n*(v + xbar**2 - 2*mu*xbar + mu**2)/2", RESULT["m_step_proof"]],
        # the result's terms in another order, with log(1/v)
        "= n*log(lam)/2 - lam*sum(r(i)*(x(i) - mu)**2 for i in points)/2\n"
        "= n*(log(lam) - lam*(v + (mu - xbar)**2))/2\n"
        "= -n*lam*(mu - xbar)**2/2 + n/2*(log(lam*v) - lam*v + 1) + n/2*(log(1/v) - 1)"],
    "square_proof": [
        # without sorting by powers
        ["kappa*(mu - m)**2 + sum(((x(i) - xbar) + (xbar - mu))**2 for i in points)",
         "kappa*(mu - m)**2 + S + n*(mu - xbar)**2",
         "kappa*((mu - m_new) + (m_new - m))**2 + n*((mu - m_new) + (m_new - xbar))**2 + S",
         "(kappa + n)*(mu - m_new)**2 + kappa*(m_new - m)**2 + n*(m_new - xbar)**2 + S",
         RESULT["square_proof"]],
        # as springs one behind the other
        "= n*(xbar - mu)**2 + kappa*(m - mu)**2 + S\n"
        "= (n + kappa)*(mu - m_new)**2 - (n + kappa)*m_new**2 + kappa*m**2 + n*xbar**2 + S\n"
        "= S + (kappa + n)*(m_new - mu)**2 + (m - xbar)**2/(1/n + 1/kappa)"],
    "conjugate_proof": [
        # all determinants first
        ["(nu + n - L)/2*logdet - (tr(Winv) + kappa*dist(mu, m) + sum(dist(x(i), mu) for i in points))/2",
         "(nu + n - L)/2*logdet - (tr(Winv) + tr(S) + kappa*dist(m, mu) + n*dist(mu, xbar))/2",
         "(nu + n - L)/2*logdet - (tr(Winv) + tr(S) + (kappa + n)*dist(mu, m_new) + kappa*dist(m, m_new) "
         "+ n*dist(xbar, m_new))/2", RESULT["conjugate_proof"]],
        # at one go, with another order in the result
        "= (nu + n - L - 1)/2*logdet + logdet/2 - (tr(S) + tr(Winv) + n*dist(mu, xbar) "
        "+ kappa*dist(m, mu))/2\n"
        "= logdet*(nu + n - L - 1)/2 - tr(Winv)/2 - tr(S)/2 - n*kappa*dist(m, xbar)/(2*(n + kappa))\n"
        "  + logdet/2 - (n + kappa)/2*dist(m_new, mu)"],
    "label_gap_proof": [
        # the whole mixture written out
        ["sum(q(x)*log(comp(x, z)) for x in values) - sum(q(x)*log(p(x)) for x in values)",
         "sum(q(x)*log(comp(x, z)/sum(pi(k)*comp(x, k) for k in labels)) for x in values)",
         "sum(q(x)*(log(gamma(x, z)) - log(pi(z))) for x in values)", RESULT["label_gap_proof"]],
        # the identity of any component
        "= sum(q(x)*log(q(x)/p(x)) for x in values) - sum(q(x)*log(q(x)/comp(x, z)) for x in values)\n"
        "= sum(q(x)*log(q(x)/p(x)) for x in values) - sum(q(x)*log(q(x)*pi(z)/(gamma(x, z)*p(x))) for x in "
        "values)\n= sum(q(x)*log(gamma(x, z)/pi(z)) for x in values)\n"
        "= log(1/pi(z)) + sum(q(x)*log(gamma(x, z)) for x in values)"],
    "saddle_proof": [
        # by the difference of the two shares
        ["2*sum(w(x)*gamma(x)*x for x in values)", "sum(w(x)*x*(2*gamma(x) - 1) for x in values)",
         "sum(w(x)*x*tanh(eps*x/(1 - eps**2)) for x in values)", "u*1 - u**3/3*m4",
         "eps*(1 + eps**2) - (eps*(1 + eps**2))**3*m4/3", RESULT["saddle_proof"]],
        # powers of ε at once
        "= sum(w(x)*tanh(u*x)*x for x in values)/sum(w(x) for x in values)\n"
        "= sum(w(x)*((eps + eps**3)*x**2 - eps**3*x**4/3) for x in values)\n"
        "= eps + eps**3 - m4*eps**3/3*sum(w(x) for x in values)\n= eps + eps**3 - m4*eps**3/3"],
}


@pytest.mark.parametrize("name, answer",
                         [(name, answer) for name, answers in RIGHT.items() for answer in answers])
def test_equivalent_right_answers_pass(name, answer):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert verdict.passed, verdict


# --- wrong answers that are on no list ----------------------------------------------------------------------

UNLISTED = [      # what the verdict says beside "not yet"
    ("m_step_proof", [RESULT["m_step_proof"]], "at least 2 lines"),
    ("m_step_proof", ["n*log(lam)/2 - lam*sum(r(i)*(x(i) - mu)**2 for i in points)/2",
                      RESULT["m_step_proof"]], "add the shares in one step"),
    ("m_step_proof", ["n*log(lam)/2 - lam*sum(r(i)*(x(i) - mu)**2 for i in points)/2",
                      "n*log(lam)/2 - lam*sum(r(i)*abs(x(i) - mu)**2 for i in points)/2",
                      RESULT["m_step_proof"]], "Show the mean coming in"),
    ("m_step_proof", ["n*(log(lam) - lam*v - lam*(xbar - mu)**2)/2"], "not yet the result"),
    ("m_step_proof", [f"3*({RESULT['m_step_proof']})"], "3 times that of line 1"),
    ("m_step_proof", ["n*log(Lambda)"], "no value"),
    ("square_proof", [RESULT["square_proof"]], "at least 2 lines"),
    ("square_proof", ["kappa*(mu - m)**2 + S + n*(mu - xbar)**2", RESULT["square_proof"]],
     "gather the points about their mean first"),
    ("square_proof", ["kappa*(mu - m)**2 + S + n*(mu - xbar)**2"], "not yet the result"),
    ("square_proof", [f"{RESULT['square_proof']} + 1"], "1 more than"),
    ("square_proof", ["kappa*(mu - m)^2 + S"], "write `**`"),
    ("conjugate_proof", [RESULT["conjugate_proof"]], "at least one line"),
    ("conjugate_proof", [GIVEN["conjugate_proof"].replace("tr(Winv)/2", "tr(Winv)/3 - tr(Winv)/6*sqrt(1)"),
                         RESULT["conjugate_proof"]], "gathered about their mean"),
    ("conjugate_proof", ["(nu + n - L)/2*logdet - (tr(Winv) + tr(S) + kappa*dist(mu, m) "
                         "+ n*dist(mu, xbar))/2"], "not yet the result"),
    ("conjugate_proof", ["(nu + n - L)/2*logdet - (tr(Winv) + tr(S) + kappa*dist(mu, m) "
                         "+ n*dist(mu, xbar))/2",
                         "(nu + n + 1 - L - 1)/2*logdet - (tr(Winv) + tr(S) "
                         "+ kappa*n/(kappa + n)*dist(xbar, m))/2 - (kappa + n)*dist(mu, m_new)/2"],
     "whose determinant is whose"),
    ("conjugate_proof", ["tr(Winv + S)"], "no value"),
    ("conjugate_proof", [f"{RESULT['conjugate_proof']} - 2"], "2 less than"),
    ("label_gap_proof", [RESULT["label_gap_proof"]], "at least 2 lines"),
    ("label_gap_proof", ["sum(q(x)*log(comp(x, z)/p(x)) for x in values)", RESULT["label_gap_proof"]],
     "1 came. One more line"),
    ("label_gap_proof", ["sum(q(x)*log(comp(x, z)/p(x)) for x in values)"], "not yet the result"),
    ("label_gap_proof", ["sum(q(x)*log(comp(x)/p(x)) for x in values)"], "no value"),
    ("label_gap_proof", [f"2*({RESULT['label_gap_proof']})"], "2 times that of line 1"),
    ("saddle_proof", [RESULT["saddle_proof"]], "at least 2 lines"),
    ("saddle_proof", ["sum(w(x)*x*tanh(u*x) for x in values)", RESULT["saddle_proof"]],
     "1 came. One more line"),
    ("saddle_proof", ["sum(w(x)*(1 + tanh(u*x))*x for x in values)", "sum(w(x)*x*tanh(u*x) for x in values)",
                      "sum(w(x)*x*tanh(eps*x/(1 - eps**2)) for x in values)", RESULT["saddle_proof"]],
     "Show the expansion"),
    ("saddle_proof", ["sum(w(x)*x*tanh(u*x) for x in values)"], "not yet the result"),
    ("saddle_proof", [f"5*({RESULT['saddle_proof']})"], "5 times that of line 1"),
    ("saddle_proof", ["tan(u)"], "no value"),
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
    ("m_step_proof", "= n*log(lam) - lam*sum(r(i)*(x(i) - mu)**2 for i in points)", "½ forgotten"),
    ("m_step_proof", "= n*log(lam)/2 - lam*sum(r(i)*(x(i) - mu)**2 for i in points)/2\n"
     "= n*log(lam)/2 - lam*n*v/2",
     "the distance of the means lost"),
    ("m_step_proof", "= n*log(lam)/2 - lam*sum(r(i)*(x(i) - mu)**2 for i in points)/2\n"
     "= n*log(lam)/2 - lam*(v + n*(xbar - mu)**2)/2", "variance for scatter"),
    ("m_step_proof", "= len(points)*log(lam)/2 - lam*sum(r(i)*(x(i) - mu)**2 for i in points)/2",
     "points counted, not shares"),
    ("m_step_proof", "= n/(2*lam) - sum(r(i)*(x(i) - mu)**2 for i in points)/2",
     "a derivative for the value"),
    ("square_proof", "= kappa*(mu - m)**2 + n*(xbar - mu)**2", "the scatter lost"),
    ("square_proof", "= kappa*(mu - m)**2 + n*(xbar - mu)**2 + S\n= (kappa + n)*(mu - m_new)**2 + S",
     "the left-over term lost"),
    ("square_proof", "= kappa*(mu - m)**2 + n*(xbar - mu)**2 + S\n"
     "= (kappa + n)*(mu - m_new)**2 + kappa*n*(xbar - m)**2 + S", "κn, undivided"),
    ("square_proof", "= kappa*(mu - m)**2 + n*(xbar - mu)**2 + S\n"
     "= (kappa + n)*mu**2 - 2*(kappa*m + n*xbar)*mu + kappa*m**2 + n*xbar**2 + S\n"
     "= (kappa + n)*(mu - (kappa*m + n*xbar))**2 + kappa*n/(kappa + n)*(xbar - m)**2 + S",
     "not divided by κ + n"),
    ("conjugate_proof", "= (nu + n - L - 1)/2*logdet - (tr(Winv) + tr(S) + n*dist(xbar, mu) "
     "+ kappa*dist(mu, m))/2", "a determinant lost"),
    ("conjugate_proof", "= (nu + n + 1 - L - 1)/2*logdet + logdet/2 - (tr(Winv) + tr(S) + n*dist(xbar, mu) "
     "+ kappa*dist(mu, m))/2", "one degree too many"),
    ("conjugate_proof", "= (nu + n - L)/2*logdet - (tr(Winv) + tr(S))/2 - (kappa + n)*dist(mu, m_new)/2",
     "the pull of the mean lost"),
    ("label_gap_proof", "= sum(q(x)*log(p(x)/comp(x, z)) for x in values)", "the gap turned round"),
    ("label_gap_proof", "= sum(q(x)*log(comp(x, z)/p(x)) for x in values)\n= -log(pi(z))",
     "the whole of −log π"),
    ("label_gap_proof", "= sum(q(x)*log(comp(x, z)/p(x)) for x in values)\n"
     "= sum(q(x)*log(gamma(x, z)) for x in values)", "the responsibility alone"),
    ("label_gap_proof", "= sum(q(x)*log(comp(x, z)/p(x)) for x in values)\n"
     "= sum(q(x)*(log(gamma(x, z)) + log(pi(z))) for x in values)", "log π with a plus"),
    ("saddle_proof", "= sum(w(x)*x*tanh(u*x) for x in values)\n= sum(w(x)*x*u*x for x in values)",
     "tanh for its argument"),
    ("saddle_proof", "= sum(w(x)*x*tanh(u*x) for x in values)\n= u - u**3*m4/3\n= eps - eps**3*m4/3",
     "the variance left at 1"),
    ("saddle_proof", "= sum(w(x)*x*tanh(u*x) for x in values)\n"
     "= sum(w(x)*x*(u*x - u**3*x/3) for x in values)",
     "the square of the variance for the fourth moment"),
    ("saddle_proof", "= sum(w(x)*gamma(x)*x for x in values)", "γ for tanh"),
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
