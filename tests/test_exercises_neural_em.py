"""Chapter 8's exercises: solutions pass, every misconception is a mutant recognised under its own name."""

import ast
import itertools
import math
import re

import numpy as np
import pytest
import torch
from sklearn import metrics

from nemlib import neural_em as model
from nemlib.exercises import neural_em as check
from nemlib.exercises.answers import Refusal
from nemlib.exercises.core import agree
from nemlib.exercises.derivation import Derivation
from nemlib.exercises.expressions import Evaluation, expression, read_chain, read_line

SEEDS = (1, 2)
FUNCTIONS = [exercise for exercise in check.EXERCISES if not isinstance(exercise, Derivation)]
DERIVATIONS = [exercise for exercise in check.EXERCISES if isinstance(exercise, Derivation)]
EACH = pytest.mark.parametrize("exercise", check.EXERCISES, ids=lambda exercise: exercise.name)
EACH_FUNCTION = pytest.mark.parametrize("exercise", FUNCTIONS, ids=lambda exercise: exercise.name)
EACH_DERIVATION = pytest.mark.parametrize("exercise", DERIVATIONS, ids=lambda exercise: exercise.name)
MISCONCEPTIONS = [pytest.param(exercise, misconception, id=f"{exercise.name}: {misconception.name}")
                  for exercise in check.EXERCISES for misconception in exercise.misconceptions]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def executed(source):
    scope = {"torch": torch, "math": math}
    exec(source, scope)
    return scope


def mistaken(exercise, mutant):
    """What a reader with this misconception hands in: a function, or a chain whose second line is wrong."""
    if isinstance(exercise, Derivation):
        return [read_chain(exercise.chain)[0].text, mutant, read_chain(exercise.chain)[-1].text]
    return apart(mutant) if isinstance(exercise, check.StepExercise) else mutant


def apart(mutant):
    """A mutant of the EM step gives one table; a reader gives weights and means."""
    def answer(*case):
        table = mutant(*case)
        return table[:, 0], table[:, 1:]
    return answer


def values(exercise, mutant, seed):
    """A mutant's answers on all cases, one tensor each: an empty one where it has no value."""
    if isinstance(exercise, Derivation):
        return [number(mutant, instance) for instance in exercise.instances(generator(seed))]
    return [torch.as_tensor(mutant(*case), dtype=torch.float64) for case in exercise.cases(generator(seed))]


def number(mutant, instance):
    try:
        value = Evaluation(mutant, instance.symbols).number(expression(mutant))
    except Refusal:
        return torch.empty(0)
    return torch.tensor(value, dtype=torch.float64)


# --- what every exercise keeps ------------------------------------------------------------------------------

def test_the_chapter_has_what_it_promises():
    assert [exercise.name for exercise in check.EXERCISES] == [
        "gap_proof", "bernoulli_m_step_proof", "bernoulli_em_step", "responsibilities",
        "logit_gradient_proof", "grouping_loss", "loss_logits_proof", "adjusted_rand_index"]
    assert len(DERIVATIONS) == 4
    assert all(len(exercise.misconceptions) >= 8 for exercise in check.EXERCISES)


@EACH
def test_the_definition_is_complete(exercise):
    assert getattr(check, exercise.name) is exercise and exercise.chapter == 8
    assert exercise.equations and all(label.startswith("eq-nem-") for label in exercise.equations)
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
def test_the_stub_has_the_solutions_signature_and_is_known_as_a_stub(exercise):
    stub, solution = exercise.stub_source(), exercise.solution_source()
    assert stub.startswith(exercise.signature) and solution.startswith(exercise.signature)
    verdict = exercise(executed(stub)[exercise.name])
    assert not verdict.passed and verdict.points == 0
    assert "still the stub" in verdict.message or "still blank" in verdict.message
    assert ast.parse(exercise.check_source()) and ast.parse(exercise.grade_source())


@EACH
def test_the_stub_holds_no_line_of_the_solution(exercise):
    if isinstance(exercise, Derivation):
        lines = read_chain(exercise.chain)
        hidden = [lines[number - 1].text for number in exercise.blanks]
    else:
        body = ast.parse(exercise.solution_source()).body[0].body[1:]
        hidden = [ast.unparse(statement) for statement in body]
    assert hidden and not [text for text in hidden if text in exercise.stub_source()]


@EACH
def test_code_fits_the_page(exercise):
    for source in (exercise.stub_source(), exercise.solution_source(), exercise.check_source()):
        assert max(map(len, source.splitlines())) <= 82


@EACH
def test_hints_and_solutions_are_at_hand(exercise):
    for step in (1, 2, 3):
        assert check.hint(exercise.name, step=step).text == exercise.hints[step - 1]
    assert check.solution(exercise.name).code == exercise.solution_source().rstrip()


# --- misconceptions -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("exercise, misconception", MISCONCEPTIONS)
def test_each_misconception_is_recognised_under_its_own_name(exercise, misconception):
    for seed, mutant in itertools.product(SEEDS, misconception.mutants):
        verdict = exercise(mistaken(exercise, mutant), generator=generator(seed))
        assert not verdict.passed and verdict.misconception == misconception.name, (seed, mutant, verdict)
        assert misconception.says in verdict.message and verdict.hint == misconception.hint
        facts = dict(verdict.facts)
        assert len(facts) == 3 and len(set(facts.values())) == 3      # where, both values, and they differ
        if not isinstance(exercise, Derivation):
            assert verdict.points == math.floor(misconception.credit * exercise.points * 4) / 4


@EACH
@pytest.mark.parametrize("seed", SEEDS)
def test_no_two_misconceptions_are_the_same_answer(exercise, seed):
    answers = [(misconception.name, values(exercise, mutant, seed))
               for misconception in exercise.misconceptions for mutant in misconception.mutants]
    for (one, first), (other, second) in itertools.combinations(answers, 2):
        if one != other:
            same = all(agree(a, b, 1e-4) for a, b in zip(first, second))
            assert not same, f"{one} and {other} give the same answers"


# --- the truths, computed in a third way --------------------------------------------------------------------

@EACH_FUNCTION
def test_the_truth_keeps_the_rules_that_answers_are_held_to(exercise):
    for seed in SEEDS:
        for case in exercise.cases(generator(seed)):
            truth = torch.as_tensor(exercise.truth(*case), dtype=torch.float64)
            assert all(bool(test(truth, *case)) for _, test in exercise.must)
            assert truth.isfinite().all() and exercise.on_the_way(*case)


@EACH_FUNCTION
def test_the_smallest_case_can_be_worked_by_hand(exercise):
    smallest = min(exercise.cases(generator(1)),
                   key=lambda case: sum(torch.as_tensor(part).numel() for part in case))
    assert all(torch.as_tensor(part).numel() <= 4 for part in smallest)


def test_the_adjusted_rand_index_is_what_shuffling_the_labels_leaves():
    """(R − E R)/(1 − E R) for the share R of pairs that agree, with E over all orders of the labels."""
    def share(labels, groups):
        pairs = list(itertools.combinations(range(len(labels)), 2))
        return sum((labels[a] == labels[b]) == (groups[a] == groups[b]) for a, b in pairs) / len(pairs)

    labels, groups = torch.tensor([0, 1, 0, 2, 2, 1, 1]), torch.tensor([1, 1, 3, 0, 3, 3, 1])
    mine, theirs = labels[groups != 0].tolist(), groups[groups != 0].tolist()
    shares = [share(order, theirs) for order in itertools.permutations(mine)]
    chance = sum(shares) / len(shares)
    expected = (share(mine, theirs) - chance) / (1 - chance)
    assert check.adjusted_rand_index.truth(labels, groups) == pytest.approx(expected, abs=1e-12)


def test_the_truths_are_those_of_other_codes():
    for seed in SEEDS:
        for labels, groups in check.adjusted_rand_index.cases(generator(seed)):
            inside = groups != 0
            expected = metrics.adjusted_rand_score(groups[inside], labels[inside])
            assert check.adjusted_rand_index.truth(labels, groups) == pytest.approx(expected, abs=1e-12)
        for weights, means, x in check.bernoulli_em_step.cases(generator(seed)):
            start = model.BernoulliMixture(weights, means)
            after = start.m_step(x, start.responsibilities(x))
            truth = check.bernoulli_em_step.truth(weights, means, x)
            assert torch.allclose(truth, check.joined(after.weights, after.means), atol=1e-10)
        for psi, x in check.responsibilities.cases(generator(seed)):
            log_likelihood = torch.xlogy(x, psi) + torch.xlogy(1 - x, 1 - psi)
            gamma = model.e_step(log_likelihood[None])[0]
            assert torch.allclose(check.responsibilities.truth(psi, x), gamma, atol=1e-12)
        for gamma, psi, x in check.grouping_loss.cases(generator(seed)):
            parts = model.bernoulli_losses(x[None, None], psi.logit()[None], gamma[None])
            assert check.grouping_loss.truth(gamma, psi, x) == pytest.approx(float(sum(parts)), abs=1e-10)


def test_the_wide_case_underflows_and_leaves_no_component_without_data():
    weights, means, x = list(check.bernoulli_em_step.cases(generator(1)))[-1]
    chances = torch.where(x[:, None] > 0, means, 1 - means)
    assert (chances.prod(2) == 0).all()
    assert (check.bernoulli_em_step.truth(weights, means, x)[:, 0] > 0.01).all()


def by_autograd(function, at):
    variable = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    return float(torch.autograd.grad(function(variable), variable)[0])


def test_given_derivatives_are_those_of_autograd():
    for instance in check.logit_gradient_proof.instances(generator(1)):
        s = instance.symbols
        slope = by_autograd(lambda a: s["x"] * a.sigmoid().log() + (1 - s["x"]) * (1 - a.sigmoid()).log(), s["a"])
        assert s["dlogp"] == pytest.approx(slope, abs=1e-12)
        assert s["dpsi"] == pytest.approx(by_autograd(torch.sigmoid, s["a"]), abs=1e-14)
    for instance in check.bernoulli_m_step_proof.instances(generator(1)):
        s = instance.symbols
        gamma, x = (torch.tensor(s[name], dtype=torch.float64) for name in ("gamma", "x"))
        slope = by_autograd(lambda mu: (gamma * (x * mu.log() + (1 - x) * (1 - mu).log())).sum(), s["mu"])
        assert s["dQ"] == pytest.approx(slope, abs=1e-11)


def test_the_m_step_is_where_the_derived_slope_is_zero():
    """The statement's last sentence: zero at Σγx/Σγ, positive below, negative above."""
    instance = check.bernoulli_m_step_proof.instances(generator(1))[3]
    gamma, x = (instance.symbols[name] for name in ("gamma", "x"))
    best = sum(g * b for g, b in zip(gamma, x)) / sum(gamma)
    result = read_chain(check.bernoulli_m_step_proof.chain)[-1]
    slopes = [Evaluation(result.text, {**instance.symbols, "mu": best + shift}).number(result.tree)
              for shift in (-0.01, 0.0, 0.01)]
    assert slopes[0] > 0 > slopes[2] and abs(slopes[1]) < 1e-12


def test_the_gap_is_a_divergence_and_zero_at_the_posterior():
    gap = read_line(1, check._GAP)
    for instance in check.gap_proof.instances(generator(1)):
        assert Evaluation(gap.text, instance.symbols).number(gap.tree) >= 0
        at_posterior = {**instance.symbols, "q": instance.symbols["posterior"]}
        assert abs(Evaluation(gap.text, at_posterior).number(gap.tree)) < 1e-12


# --- right answers of other kinds ---------------------------------------------------------------------------

def em_by_numpy(weights, means, x):
    pi, mu, data = weights.numpy(), means.numpy(), x.numpy()
    log_joint = np.log(pi) + np.where(data[:, None] == 1, np.log(mu), np.log(1 - mu)).sum(2)
    gamma = np.exp(log_joint - np.logaddexp.reduce(log_joint, axis=1, keepdims=True))
    return gamma.mean(0), (gamma[:, :, None] * data[:, None]).sum(0) / gamma.sum(0)[:, None]


def em_by_loops(weights, means, x):
    gamma = []
    for datum in x:
        logs = [float(pi.log() + torch.where(datum == 1, mu, 1 - mu).log().sum()) for pi, mu in zip(weights, means)]
        odds = [math.exp(value - max(logs)) for value in logs]
        gamma.append([value / sum(odds) for value in odds])
    share = [sum(row[k] for row in gamma) for k in range(len(weights))]
    moved = [[sum(row[k] * float(datum[i]) for row, datum in zip(gamma, x)) / share[k]
              for i in range(x.shape[1])] for k in range(len(weights))]
    return [value / len(x) for value in share], moved


def em_by_bernoulli(weights, means, x):
    law = torch.distributions.Bernoulli(means)
    log_joint = law.log_prob(x[:, None]).sum(2) + weights.log()
    gamma = (log_joint - log_joint.logsumexp(1, keepdim=True)).exp()
    return gamma.sum(0) / gamma.sum(), torch.einsum("nk,nd->kd", gamma, x) / gamma.sum(0).unsqueeze(1)


def ari_by_sklearn(labels, groups):
    keep = groups != 0
    return metrics.adjusted_rand_score(groups[keep].numpy(), labels[keep].numpy())


def ari_by_combinations(labels, groups):
    pairs = lambda values: sum(math.comb(values.count(v), 2) for v in set(values))      # noqa: E731
    kept = [(a, b) for a, b in zip(labels.tolist(), groups.tolist()) if b]
    index, rows, columns = pairs(kept), pairs([a for a, _ in kept]), pairs([b for _, b in kept])
    expected = rows * columns / math.comb(len(kept), 2)
    if (rows + columns) / 2 == expected:
        return 1
    return (index - expected) / ((rows + columns) / 2 - expected)


Q_LOG_JOINT = "sum(q(z)*log(joint(z)) for z in states)"
ENTROPY = "sum(q(z)*log(q(z)) for z in states)"
RIGHT = {
    "responsibilities": [
        lambda psi, x: torch.softmax(torch.xlogy(x, psi) + torch.xlogy(1 - x, 1 - psi), 0),
        lambda psi, x: psi**x * (1 - psi)**(1 - x) / (psi**x * (1 - psi)**(1 - x)).sum(0, keepdim=True),
        lambda psi, x: (x * psi + (1 - x) * (1 - psi)) / (x * psi + (1 - x) * (1 - psi)).sum(0),
        lambda psi, x: torch.softmax(torch.where(x == 1, psi, 1 - psi).log(), dim=0),
        lambda psi, x: torch.softmax(torch.distributions.Bernoulli(psi).log_prob(x), 0),
        lambda psi, x: torch.where(x.float() == 1, psi.float(), 1 - psi.float()).div(
            torch.where(x == 1, psi, 1 - psi).float().sum(0)),
        lambda psi, x: (lambda p: p / p.sum(0))(np.where(x.numpy() == 1, psi.numpy(), 1 - psi.numpy()))],
    "bernoulli_em_step": [em_by_numpy, em_by_loops, em_by_bernoulli, lambda *case: list(em_by_numpy(*case)),
                          lambda *case: em_by_numpy(*(part.float() for part in case))],
    "grouping_loss": [
        lambda gamma, psi, x: (torch.nn.functional.softplus(psi.logit()) - gamma * x * psi.logit()).sum(),
        lambda gamma, psi, x: float((gamma * torch.nn.functional.binary_cross_entropy(
            psi, x.expand_as(psi), reduction="none") - (1 - gamma) * torch.log1p(-psi)).sum()),
        lambda gamma, psi, x: -(gamma * torch.distributions.Bernoulli(psi.float()).log_prob(x.float())
                                + (1 - gamma) * (1 - psi).log()).sum(),
        lambda gamma, psi, x: sum(-g * math.log(p if v else 1 - p) - (1 - g) * math.log(1 - p)
                                  for gs, ps in zip(gamma.tolist(), psi.tolist())
                                  for g, p, v in zip(gs, ps, x.tolist()))],
    "adjusted_rand_index": [ari_by_sklearn, ari_by_combinations,
                            lambda labels, groups: torch.tensor(ari_by_sklearn(labels, groups)).float()],
    "gap_proof": [
        ["log(evidence)", "sum(q(z)*(log(joint(z)) - log(posterior(z))) for z in states)",
         f"{Q_LOG_JOINT} - {ENTROPY} + {ENTROPY} - sum(q(z)*log(posterior(z)) for z in states)",
         "sum(q(z)*log(evidence) for z in states)", f"{check._BOUND} + {check._GAP}"],
        f"log(sum(joint(z) for z in states))\n= log(evidence)*sum(q(z) for z in states)\n"
        f"= sum(q(z)*log(joint(z)/posterior(z)) for z in states)\n= {check._BOUND} - {check._GAP_TURNED}",
        f"= sum(q(z)*log(prior(z)*likelihood(z)/posterior(z)) for z in states)\n"
        f"= sum(q(z)*(log(joint(z)/q(z)) + log(q(z)/posterior(z))) for z in states)\n"
        f"= sum(q(z)*log(evidence) for z in states)\n= {check._BOUND_APART} + {check._GAP}"],
    "bernoulli_m_step_proof": [
        ["dQ", "sum(gamma[n]*x[n] for n in data)/mu - sum(gamma[n]*(1 - x[n]) for n in data)/(1 - mu)",
         check._M_RESULT],
        "= sum(gamma[n]*x[n]/mu for n in data) - sum(gamma[n]*(1 - x[n])/(1 - mu) for n in data)\n"
        "= (sum(gamma[n]*x[n] for n in data) - mu*N_k)/(mu*(1 - mu))",
        ["dQ", "sum(gamma[n]/mu if x[n] == 1 else -gamma[n]/(1 - mu) for n in data)", check._M_RESULT]],
    "logit_gradient_proof": [
        ["dlogp", "x - exp(a)/(1 + exp(a))", "x - psi"], "= x*(1 - psi) - (1 - x)*psi\n= x - psi",
        "= x*dpsi/psi - (1 - x)*dpsi/(1 - psi) = x*(1 - sigmoid(a)) - (1 - x)*sigmoid(a) = x - sigmoid(a)",
        "= (x - psi)/(psi*(1 - psi))*dpsi\n= x - 1/(1 + exp(-a))"],
    "loss_logits_proof": [
        "= gamma*(-x*(a - softplus(a)) + (1 - x)*softplus(a)) + (1 - gamma)*softplus(a)\n"
        "= softplus(a) - gamma*x*a",
        "= gamma*(x*softplus(-a) + (1 - x)*softplus(a)) + (1 - gamma)*softplus(a)\n"
        "= gamma*(x*(softplus(a) - a) + (1 - x)*softplus(a)) + (1 - gamma)*softplus(a)\n"
        "= softplus(a) - gamma*x*a",
        "= -gamma*x*(log(psi) - log(1 - psi)) - log(1 - psi)\n= -γ·x·a + log(1 + exp(a))",
        [check._LOSS_GIVEN, "-gamma*x*log(psi) + gamma*x*log(1 - psi) - log(1 - psi)",
         "log(1 + exp(a)) - gamma*x*a"]],
}


@pytest.mark.parametrize("name, answer",
                         [(name, answer) for name, answers in RIGHT.items() for answer in answers])
def test_equivalent_right_answers_pass(name, answer):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert verdict.passed, verdict


# --- wrong answers that are on no list ----------------------------------------------------------------------

def no_return(weights, means, x):
    em_by_bernoulli(weights, means, x)


def changes_the_means(weights, means, x):
    means += 0.01
    return weights, means


def endless(weights, means, x):
    while True:
        weights = weights + 1


UNLISTED = [      # what the verdict says beside "not yet"
    ("responsibilities", lambda psi, x: _chances_of(psi, x)**2 / (_chances_of(psi, x)**2).sum(0), "differs"),
    ("responsibilities", lambda psi, x: 1 - check._shared(_chances_of(psi, x)), "sum to 1"),
    ("responsibilities", lambda psi, x: check._shared(_chances_of(psi, x)) * math.nan, "NaN"),
    ("responsibilities", lambda psi, x: psi[:, 0], "shape"),
    ("responsibilities", lambda psi, x: psi / psi.sum(1), "stopped with an error"),
    ("bernoulli_em_step", lambda w, m, x: check.joined(w, m), "Two things are asked for"),
    ("bernoulli_em_step", lambda w, m, x: (w, m, x), "Two things are asked for"),
    ("bernoulli_em_step", no_return, "`return` missing"),
    ("bernoulli_em_step", lambda w, m, x: em_by_bernoulli(w, m, x)[::-1], "the new weights"),
    ("bernoulli_em_step", lambda w, m, x: (em_by_bernoulli(w, m, x)[0], em_by_bernoulli(w, m, x)[1].T[:1]),
     "the new means"),
    ("bernoulli_em_step", lambda w, m, x: (w, None), "`return` missing"),
    ("bernoulli_em_step", lambda w, m, x: (w * math.nan, m), "NaN"),
    ("bernoulli_em_step", lambda w, m, x: (w, 1 - m), "weighted sum of the new means"),
    ("bernoulli_em_step", lambda w, m, x: (w + 1, m), "they sum to 1"),
    ("bernoulli_em_step", lambda w, m, x: (w, x @ m), "stopped with an error"),
    ("bernoulli_em_step", changes_the_means, "changed its argument `means` in place"),
    ("grouping_loss", lambda gamma, psi, x: -check._right_loss(gamma, psi, x) * 3, "-3 times"),
    ("grouping_loss", lambda gamma, psi, x: check._right_loss(gamma, psi, x) + 1, "1 more than"),
    ("grouping_loss", lambda gamma, psi, x: gamma * check._nll(psi, x), "one number is expected"),
    ("grouping_loss", lambda gamma, psi, x: (psi - x).square().sum(), "at least the reconstruction"),
    ("adjusted_rand_index", lambda labels, groups: 0.5, "whatever the case"),
    ("adjusted_rand_index", lambda labels, groups: -check._ari_by_pairs(labels, groups), "negative of"),
    ("adjusted_rand_index", lambda labels, groups: 1 + check._ari_by_pairs(labels, groups), "1 more than"),
    ("adjusted_rand_index", lambda labels, groups: labels == groups, "True or False"),
    ("gap_proof", ["log(evidence)", f"{check._BOUND} + {check._GAP}"], "at least 2 lines"),
    ("gap_proof", ["log(evidence)", "sum(q(z)*log(joint(z)/posterior(z)) for z in states)",
                   f"{check._BOUND} + {check._GAP}"], "1 came. One more line"),
    ("gap_proof", ["log(evidence)", "log(exp(log(evidence)))", "log(sqrt(evidence**2))",
                   f"{check._BOUND} + {check._GAP}"], "Bring q in as a weight"),
    ("gap_proof", ["log(evidence)", "sum(q(z)*log(evidence) for z in states)"], "not yet the result"),
    ("gap_proof", ["log(evidence)", "log(posterior(0))"], "first that does not equal"),
    ("bernoulli_m_step_proof", ["dQ", check._M_RESULT], "at least one line"),
    ("bernoulli_m_step_proof", ["dQ", "exp(log(dQ**2)/2)*dQ/abs(dQ)", check._M_RESULT],
     "Show the derivative itself"),
    ("bernoulli_m_step_proof", ["dQ", "2*sum(gamma[n]*(x[n] - mu) for n in data)/(mu*(1 - mu))"],
     "2 times that of line 1"),
    ("logit_gradient_proof", ["dlogp", "x - psi"], "Show what the two logarithms become"),
    ("logit_gradient_proof", ["dlogp", "dlogp + log(1)", "x - psi"], "Show what the two logarithms become"),
    ("logit_gradient_proof", ["dlogp", "-psi + x", "x - psi"], "Show what the two logarithms become"),
    ("logit_gradient_proof", ["dlogp", "(x/psi - (1 - x)/(1 - psi))*dpsi"], "not yet the result"),
    ("logit_gradient_proof", ["dlogp", "x*x - psi"], "special case"),
    ("loss_logits_proof", [check._LOSS_GIVEN, "softplus(a) - gamma*x*a"], "Show what becomes of"),
    ("loss_logits_proof", [check._LOSS_GIVEN, "-gamma*x*log(psi) - gamma*(1 - x)*log(1 - psi) - (1 - gamma)"
                           "*log(1 - psi)", "softplus(a) - a*x*gamma"], "Show what becomes of"),
    ("loss_logits_proof", [check._LOSS_GIVEN, "-gamma*x*a - log(1 - psi)"], "not yet the result"),
]


def _chances_of(psi, x):
    return torch.where(x > 0, psi, 1 - psi)


@pytest.mark.parametrize("name, answer, words", UNLISTED)
def test_an_unlisted_wrong_answer_is_told_more_than_that_it_is_wrong(name, answer, words):
    verdict = getattr(check, name)(answer)
    assert not verdict.passed and verdict.misconception is None
    assert words in f"{verdict.message} {verdict.hint}", verdict


def test_an_endless_em_step_is_stopped():
    exercise = check.StepExercise(**{**vars(check.bernoulli_em_step), "seconds": 0.2})
    assert "had not returned" in exercise(endless).message


def test_the_table_of_the_em_step_is_explained():
    verdict = check.bernoulli_em_step(lambda weights, means, x: (weights, means))
    assert verdict.notes[0] == "Shown is one row for each component: its weight, then its means."
    assert not check.bernoulli_em_step(em_by_numpy).notes


# --- answers as readers write them --------------------------------------------------------------------------

def em_with_products(weights, means, x):
    p = (means**x[:, None] * (1 - means)**(1 - x[:, None])).prod(2) * weights
    gamma = p / p.sum(1, keepdim=True)
    return gamma.mean(0), gamma.T @ x / gamma.sum(0)[:, None]


def em_with_products_and_no_prior(weights, means, x):
    p = (means**x[:, None] * (1 - means)**(1 - x[:, None])).prod(2)
    gamma = p / p.sum(1, keepdim=True)
    return gamma.mean(0), gamma.T @ x / gamma.sum(0)[:, None]


def em_divided_by_n(weights, means, x):
    logp = weights.log() + (x[:, None] * means.log() + (1 - x[:, None]) * (1 - means).log()).sum(2)
    gamma = logp.softmax(1)
    return gamma.mean(0), gamma.T @ x / len(x)


def em_wrong_axis(weights, means, x):
    gamma = torch.softmax(torch.distributions.Bernoulli(means).log_prob(x[:, None]).sum(2) + weights.log(), 0)
    return gamma.mean(0), (gamma.T @ x) / gamma.sum(0)[:, None]


def gamma_like_the_authors(psi, x):
    p = x * psi + (1 - x) * (1 - psi) + 1e-6
    return p / p.sum(0)


def ari_without_a_guard(labels, groups):
    keep = groups != 0
    n = [[int(((labels == k) & (groups == g) & keep).sum()) for g in range(1, 8)] for k in range(8)]
    pairs = lambda v: sum(c * (c - 1) / 2 for c in v)      # noqa: E731
    index = sum(map(pairs, n))
    rows, columns = pairs(map(sum, n)), pairs(map(sum, zip(*n)))
    expected = rows * columns / pairs([int(keep.sum())])
    return (index - expected) / ((rows + columns) / 2 - expected)


def ari_of_everything(labels, groups):
    return metrics.adjusted_rand_score(groups.numpy(), labels.numpy())


SEEN_IN_CLASS = [
    ("responsibilities", lambda psi, x: torch.softmax(psi, 0), "softmax of probabilities"),
    ("responsibilities", lambda psi, x: torch.softmax(x * psi.log() + (1 - x) * (1 - psi).log(), 1),
     "normalised over pixels"),
    ("responsibilities", gamma_like_the_authors, "a floor under the likelihoods"),
    ("responsibilities", lambda psi, x: torch.softmax((x * (psi + 1e-6).log() + (1 - x) * (1 - psi + 1e-6).log()), 0),
     "a floor under the likelihoods"),
    ("bernoulli_em_step", em_with_products, "a product that underflows"),
    ("bernoulli_em_step", em_with_products_and_no_prior, "forgot the prior weights"),
    ("bernoulli_em_step", em_divided_by_n, "M-step divides by N"),
    ("bernoulli_em_step", em_wrong_axis, "normalised over the data"),
    ("grouping_loss", lambda gamma, psi, x: (-gamma * _chances_of(psi, x).log()
                                             + (1 - gamma) * torch.distributions.kl_divergence(
                                                 torch.distributions.Bernoulli(psi),
                                                 torch.distributions.Bernoulli(torch.zeros_like(psi)))).sum(),
     "KL direction reversed"),
    ("grouping_loss", lambda gamma, psi, x: (-gamma * _chances_of(psi, x).log()
                                             - (1 - gamma) * (1 - psi).log()).mean(),
     "mean over pixels for their sum"),
    ("grouping_loss", lambda gamma, psi, x: torch.nn.functional.binary_cross_entropy(
        psi, x.expand_as(psi), weight=gamma, reduction="sum"), "without the KL"),
    ("adjusted_rand_index", ari_without_a_guard, "0/0 for a single group"),
    ("adjusted_rand_index", ari_of_everything, "background counted"),
    ("adjusted_rand_index", lambda labels, groups: metrics.rand_score(groups[groups != 0], labels[groups != 0]),
     "not corrected for chance"),
    ("gap_proof", f"= {check._BOUND}", "Jensen as an equality"),
    ("gap_proof", "= sum(q(z)*log(evidence) for z in states)\n= sum(q(z)*log(joint(z)) for z in states)",
     "the posterior is lost"),
    ("bernoulli_m_step_proof", "= sum(gamma[n]*(x[n] - mu) for n in data)", "lost the denominator"),
    ("logit_gradient_proof", "= x/psi - (1 - x)/(1 - psi)", "the inner derivative is missing"),
    ("loss_logits_proof", "= -gamma*x*log(psi) - log(1 - psi)", "log ψ for the log-odds"),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name, answer, misconception", SEEN_IN_CLASS)
def test_answers_as_readers_write_them_are_recognised(name, answer, misconception):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert not verdict.passed and verdict.misconception == misconception, verdict


# --- derivations --------------------------------------------------------------------------------------------

@EACH_DERIVATION
def test_tables_of_symbols_name_what_the_instances_know(exercise):
    known = set(exercise.instances(generator(1))[0].symbols)
    named = {node.id for code, _, _ in exercise.symbols for node in ast.walk(ast.parse(code))
             if isinstance(node, ast.Name)}
    assert named <= known | {"n", "z", "a"} and known <= named | {"n", "z", "a"}
    assert "|" not in "".join(map("".join, exercise.symbols))


@EACH_DERIVATION
def test_the_lines_that_the_stub_gives_away_earn_nothing(exercise):
    assert exercise(executed(exercise.stub_source())[exercise.name]).points == 0


@EACH_DERIVATION
def test_the_first_wrong_line_is_named(exercise):
    lines = [line.text for line in read_chain(exercise.chain)]
    for place in range(1, len(lines)):
        broken = [*lines[:place], f"({lines[place]})*1.001", *lines[place + 1:]]
        verdict = exercise(broken)
        assert not verdict.passed and f"Line {place + 1} is the first" in verdict.message
        assert verdict.rows[place + 1].finding == "not judged" if place + 1 < len(lines) else True


@EACH_DERIVATION
def test_other_forms_of_the_result_are_its_value_in_another_form(exercise):
    given = read_chain(exercise.chain)
    for form in exercise.forms:
        verdict = exercise([*(line.text for line in given[:-1]), form])
        assert verdict.passed, verdict
