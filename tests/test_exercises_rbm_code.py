"""Chapter 2's code exercises: solutions pass, every misconception is a mutant recognised under its name."""

import ast
import itertools
import math
import re

import numpy as np
import pytest
import torch
from torch.nn.functional import softplus

from nemlib import rbm as model
from nemlib.evaluate import ais
from nemlib.exercises import rbm as check
from nemlib.exercises.core import agree

SEEDS = (1, 2)
NAMES = ("hidden_given", "free_energy", "cd_gradient", "ais_log_weight", "ais_estimate")
EXERCISES = [getattr(check, name) for name in NAMES]
EACH = pytest.mark.parametrize("exercise", EXERCISES, ids=NAMES)
MISCONCEPTIONS = [pytest.param(exercise, misconception, id=f"{exercise.name}: {misconception.name}")
                  for exercise in EXERCISES for misconception in exercise.misconceptions]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def executed(source):
    scope = {"torch": torch, "math": math}
    exec(source, scope)
    return scope


def mistaken(exercise, mutant):
    """What a reader with this misconception hands in: of several things, each by itself."""
    if not isinstance(exercise, check.PartsExercise):
        return mutant
    return lambda *case: exercise.parted(mutant(*case), case)


def values(exercise, mutant, seed):
    """A mutant's answers on all cases, one tensor each: an empty one where it has no value."""
    return [torch.as_tensor(mutant(*case), dtype=torch.float64) for case in exercise.cases(generator(seed))]


# --- what every exercise keeps ------------------------------------------------------------------------------

@EACH
def test_the_definition_is_complete(exercise):
    assert exercise.chapter == 2 and len(exercise.misconceptions) >= 8
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
    assert verdict.passed and verdict.points == exercise.points and not verdict.notes, verdict


@EACH
def test_the_stub_has_the_solutions_signature_and_none_of_its_lines(exercise):
    stub, solution = exercise.stub_source(), exercise.solution_source()
    assert stub.startswith(exercise.signature) and solution.startswith(exercise.signature)
    verdict = exercise(executed(stub)[exercise.name])
    assert not verdict.passed and verdict.points == 0 and "still the stub" in verdict.message
    hidden = [ast.unparse(statement) for statement in ast.parse(solution).body[0].body[1:]]
    assert hidden and not [text for text in hidden if text in stub]
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


# --- misconceptions -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("exercise, misconception", MISCONCEPTIONS)
def test_each_misconception_is_recognised_under_its_own_name(exercise, misconception):
    for seed, mutant in itertools.product((None, 1), misconception.mutants):
        chance = {} if seed is None else {"generator": generator(seed)}
        verdict = exercise(mistaken(exercise, mutant), **chance)
        assert verdict.misconception == misconception.name and not verdict.passed, (seed, mutant, verdict)
        assert misconception.says in verdict.message and verdict.hint == misconception.hint
        facts = dict(verdict.facts)
        assert len(facts) == 3 and len(set(facts.values())) == 3      # where, both values, and they differ
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

@EACH
def test_the_truth_keeps_the_rules_that_answers_are_held_to(exercise):
    for seed in SEEDS:
        for case in exercise.cases(generator(seed)):
            truth = torch.as_tensor(exercise.truth(*case), dtype=torch.float64)
            assert all(bool(test(truth, *case)) for _, test in exercise.must)
            assert truth.isfinite().all() and exercise.on_the_way(*case)


@EACH
def test_the_smallest_case_can_be_worked_by_hand(exercise):
    smallest = min(exercise.cases(generator(1)),
                   key=lambda case: sum(torch.as_tensor(part).numel() for part in case))
    assert all(torch.as_tensor(part).numel() <= 4 for part in smallest)


def machine(W, a, b):
    """nemlib's own, with these numbers."""
    made = model.RBM(*W.shape, generator(0), dtype=torch.float64)
    with torch.no_grad():
        for parameter, value in ((made.W, W), (made.a, a), (made.b, b)):
            parameter.copy_(value)
    return made.requires_grad_(False)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_truths_are_those_of_the_model(seed):
    for v, W, b in check.hidden_given.cases(generator(seed)):
        expected = machine(W, torch.zeros(len(W)), b).hidden_given(v)
        assert torch.allclose(check.hidden_given.truth(v, W, b), expected, atol=1e-12)
    for v, W, a, b in check.free_energy.cases(generator(seed)):
        expected = machine(W, a, b).free_energy(v)
        assert torch.allclose(check.free_energy.truth(v, W, a, b), expected, atol=1e-10)
    for (log_weights,) in check.ais_estimate.cases(generator(seed)):
        found = ais.estimate(log_weights)
        truth = check.ais_estimate.truth(log_weights)
        assert truth.tolist() == pytest.approx([found.log_z, found.standard_error], abs=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_contrastive_divergence_is_that_of_the_model_with_the_same_chance(seed, monkeypatch):
    for v, W, a, b, k, uniforms_h, uniforms_v in check.cd_gradient.cases(generator(seed)):
        chance = itertools.chain.from_iterable(zip(uniforms_h, uniforms_v))
        monkeypatch.setattr(model, "bernoulli", lambda mean, _: (next(chance) < mean).to(mean.dtype))
        made = machine(W, a, b)
        gradient = made.statistics(v) - made.statistics(made.gibbs(v, k, generator(0)))
        expected = torch.cat([gradient.products.flatten(), gradient.visible, gradient.hidden])
        assert torch.allclose(check.cd_gradient.truth(v, W, a, b, k, uniforms_h, uniforms_v), expected,
                              atol=1e-12)
        assert next(chance, None) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_the_weight_of_a_path_is_made_of_free_energies_of_tempered_machines(seed):
    for states, betas, W, a, b, base in check.ais_log_weight.cases(generator(seed)):
        at = [machine(beta * W, (1 - beta) * base + beta * a, beta * b) for beta in betas]
        expected = sum(before.free_energy(v[None]) - after.free_energy(v[None])
                       for before, after, v in zip(at, at[1:], states))
        truth = check.ais_log_weight.truth(states, betas, W, a, b, base)
        assert truth == pytest.approx(float(expected), abs=1e-9)


def test_the_cases_hold_inputs_that_overflow_and_layers_of_one_size_and_of_two():
    for exercise in EXERCISES[:4]:
        place = exercise.arguments.index("W")
        sizes = {case[place].shape[0] == case[place].shape[1] and len(case[place]) > 1
                 for case in exercise.cases(generator(1))}
        assert sizes == {True, False}
    v, W, a, b = list(check.free_energy.cases(generator(1)))[-1]
    inputs = v @ W + b
    assert inputs.max() > 800 and inputs.min() < -800 and inputs.exp().isinf().any()
    assert any(logs.exp().mean().isinf() for (logs,) in check.ais_estimate.cases(generator(1)))
    assert any(logs.exp().mean() == 0 for (logs,) in check.ais_estimate.cases(generator(1)))


# --- right answers of other kinds ---------------------------------------------------------------------------

def cd_by_numpy(v, W, a, b, k, uniforms_h, uniforms_v):
    v, W, a, b, uniforms_h, uniforms_v = (part.numpy() for part in (v, W, a, b, uniforms_h, uniforms_v))
    up = lambda x: 1 / (1 + np.exp(-(x @ W + b)))      # noqa: E731
    x = v
    for u_h, u_v in zip(uniforms_h, uniforms_v):
        h = np.where(u_h < up(x), 1.0, 0.0)
        x = np.where(u_v < 1 / (1 + np.exp(-(h @ W.T + a))), 1.0, 0.0)
    products = np.einsum("ni,nj->nij", v, up(v)) - np.einsum("ni,nj->nij", x, up(x))
    return products.mean(0), v.mean(0) - x.mean(0), up(v).mean(0) - up(x).mean(0)


def cd_by_logits(v, W, a, b, k, uniforms_h, uniforms_v):
    x = v.clone()
    for t in range(k):
        h = (uniforms_h[t].logit() < x @ W + b).double()
        x = (uniforms_v[t].logit() < h @ W.mT + a).double()
    p, q = (v @ W + b).sigmoid(), (x @ W + b).sigmoid()
    return [sum(torch.outer(*pair) for pair in zip(v, p)) / len(v) - x.mT @ q / len(x), v.mean(0) - x.mean(0),
            p.mean(0) - q.mean(0)]


def cd_by_autograd(v, W, a, b, k, uniforms_h, uniforms_v):
    """Minus the slope of the mean free energy at the data, less that at the chains' ends."""
    made = machine(W, a, b).requires_grad_(True)
    x = v
    with torch.no_grad():
        for u_h, u_v in zip(uniforms_h, uniforms_v):
            x = (u_v < made.visible_given((u_h < made.hidden_given(x)).double())).double()
    loss = made.free_energy(x).mean() - made.free_energy(v).mean()
    return torch.autograd.grad(loss, (made.W, made.a, made.b))


def weight_in_one_go(states, betas, W, a, b, base):
    v, x = states[:-1], states[:-1] @ W + b
    gain = softplus(betas[1:, None] * x) - softplus(betas[:-1, None] * x)
    return gain.sum() + (betas.diff() * (v @ (a - base))).sum()


def weight_by_loops(states, betas, W, a, b, base):
    def log_f(beta, v):
        total = sum(float(x) * ((1 - beta) * float(s) + beta * float(e)) for x, s, e in zip(v, base, a))
        return total + sum(float(np.logaddexp(0, beta * float(x))) for x in v @ W + b)

    beta = betas.tolist()
    return sum(log_f(beta[t + 1], states[t]) - log_f(beta[t], states[t]) for t in range(len(beta) - 1))


RIGHT = {
    "hidden_given": [
        lambda v, W, b: 1 / (1 + torch.exp(-(v @ W + b))),
        lambda v, W, b: torch.einsum("ni,ij->nj", v, W).add(b).sigmoid(),
        lambda v, W, b: (v.float() @ W.float() + b.float()).sigmoid(),
        lambda v, W, b: ((v[:, :, None] * W).sum(1) + b).div(2).tanh().add(1).div(2),
        lambda v, W, b: [[1 / (1 + math.exp(min(-float(x), 700))) for x in row] for row in v @ W + b]],
    "free_energy": [
        lambda v, W, a, b: -(v * a).sum(1) - torch.logaddexp(v @ W + b, torch.zeros(1).double()).sum(1),
        lambda v, W, a, b: -(v @ a + softplus(v @ W + b).sum(dim=-1)),
        lambda v, W, a, b: -v.float() @ a.float() - softplus(v.float() @ W.float() + b.float()).sum(1),
        lambda v, W, a, b: -v @ a + torch.nn.functional.logsigmoid(-(v @ W + b)).sum(1),
        lambda v, W, a, b: -v @ a - ((v @ W + b).clamp(min=0) + (-(v @ W + b).abs()).exp().log1p()).sum(1),
        lambda v, W, a, b: -np.logaddexp(0, (v @ W + b).numpy()).sum(1) - (v @ a).numpy()],
    "cd_gradient": [cd_by_numpy, cd_by_logits, cd_by_autograd,
                    lambda v, W, a, b, k, u_h, u_v: cd_by_numpy(
                        *(part.float() for part in (v, W, a, b)), k, u_h.float(), u_v.float())],
    "ais_log_weight": [weight_in_one_go, weight_by_loops,
                       lambda *case: weight_in_one_go(*(part.float() for part in case))],
    "ais_estimate": [
        lambda logs: (logs.logsumexp(0) - math.log(len(logs)),
                      (logs - logs.logsumexp(0)).exp().std() * math.sqrt(len(logs))),
        lambda logs: [float(logs.mean() + (logs - logs.mean()).exp().mean().log()),
                      np.std(np.exp((logs - logs.mean()).numpy()), ddof=1)
                      / np.exp((logs - logs.mean()).numpy()).mean() / len(logs)**0.5],
        lambda logs: (ais.estimate(logs).log_z, ais.estimate(logs).standard_error)],
}


@pytest.mark.parametrize("name, answer",
                         [(name, answer) for name, answers in RIGHT.items() for answer in answers])
def test_equivalent_right_answers_pass(name, answer):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert verdict.passed, verdict


# --- answers as readers write them --------------------------------------------------------------------------

def cd_the_wrong_way_back(v, W, a, b, k, uniforms_h, uniforms_v):
    p = (v @ W + b).sigmoid()
    x = v
    for t in range(k):
        h = (uniforms_h[t] < (x @ W + b).sigmoid()).double()
        x = (uniforms_v[t] < (h @ W + a).sigmoid()).double()
    q = (x @ W + b).sigmoid()
    return (v.T @ p - x.T @ q) / len(v), (v - x).mean(0), (p - q).mean(0)


def cd_with_the_loops_h(v, W, a, b, k, uniforms_h, uniforms_v):
    p = (v @ W + b).sigmoid()
    x = v
    for t in range(k):
        q = (x @ W + b).sigmoid()
        x = (uniforms_v[t] < ((uniforms_h[t] < q).double() @ W.T + a).sigmoid()).double()
    return (v.T @ p - x.T @ q) / len(v), (v - x).mean(0), (p - q).mean(0)


def cd_for_an_optimizer(v, W, a, b, k, uniforms_h, uniforms_v):
    return tuple(-part for part in cd_by_logits(v, W, a, b, k, uniforms_h, uniforms_v))


def weight_of_the_next_state(states, betas, W, a, b, base):
    def log_f(beta, v):
        return v @ ((1 - beta) * base + beta * a) + softplus(beta * (v @ W + b)).sum()

    return sum(log_f(betas[t], states[t]) - log_f(betas[t - 1], states[t]) for t in range(1, len(betas)))


def weight_of_geometric_path(states, betas, W, a, b, base):
    v = states[:-1]
    easy, hard = v @ base + len(b) * math.log(2), v @ a + softplus(v @ W + b).sum(1)
    return (betas.diff() * (hard - easy)).sum()


SEEN_IN_CLASS = [
    ("hidden_given", lambda v, W, b: torch.sigmoid(v @ W.T + b), "W the wrong way round"),
    ("hidden_given", lambda v, W, b: torch.sigmoid(W @ v.T + b[:, None]).T, "W the wrong way round"),
    ("hidden_given", lambda v, W, b: torch.bernoulli(torch.sigmoid(v @ W + b)), check.DRAWN),
    ("hidden_given", lambda v, W, b: torch.rand(len(v), len(b)) < torch.sigmoid(v @ W + b), None),
    ("hidden_given", lambda v, W, b: (torch.rand(len(v), len(b)) < torch.sigmoid(v @ W + b)).float(),
     check.DRAWN),
    ("hidden_given", lambda v, W, b: torch.softmax(v @ W + b, -1), "softmax for sigmoid"),
    ("hidden_given", lambda v, W, b: np.where((v @ W + b).numpy() > 0, 1.0, 0.0), "thresholded at ½"),
    ("free_energy", lambda v, W, a, b: -(v @ a) - torch.log(1 + torch.exp(v @ W + b)).sum(1),
     "log(1 + e^x) that overflows"),
    ("free_energy", lambda v, W, a, b: -v @ a - torch.log1p(torch.exp(v @ W + b)).sum(1),
     "log(1 + e^x) that overflows"),
    ("free_energy", lambda v, W, a, b: -v @ a - torch.log(torch.prod(1 + torch.exp(v @ W + b), 1)),
     "log(1 + e^x) that overflows"),
    ("free_energy", lambda v, W, a, b: -v @ a - softplus(v @ W.T + b).sum(1), "W the wrong way round"),
    ("free_energy", lambda v, W, a, b: -softplus(v @ W + b).sum(1), "a forgotten"),
    ("free_energy", lambda v, W, a, b: -v @ a - softplus(v @ W + b).mean(1), "mean over the hidden units"),
    ("free_energy", lambda v, W, a, b: (-v @ a - softplus(v @ W + b).sum(1)).mean(),
     "one number for the batch"),
    ("cd_gradient", cd_the_wrong_way_back, "W the wrong way round"),
    ("cd_gradient", cd_with_the_loops_h, "h from before the last v"),
    ("cd_gradient", cd_for_an_optimizer, "model minus data"),
    ("ais_log_weight", weight_of_the_next_state, "weight at the new state"),
    ("ais_log_weight", weight_of_geometric_path, "β before the logarithm"),
    ("ais_log_weight", lambda states, betas, W, *rest: weight_in_one_go(states, betas, W.T, *rest),
     "W the wrong way round"),
    ("ais_estimate", lambda logs: (logs.exp().mean().log(),
                                   logs.exp().std() / logs.exp().mean() / len(logs)**0.5),
     "e^x that overflows"),
    ("ais_estimate", lambda logs: (np.log(np.mean(np.exp(logs.numpy()))),
                                   np.std(np.exp(logs.numpy()), ddof=1) / np.mean(np.exp(logs.numpy()))
                                   / np.sqrt(len(logs))), "e^x that overflows"),
    ("ais_estimate", lambda logs: (logs.mean(), logs.std() / math.sqrt(len(logs))), "mean of the logs"),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name, answer, misconception", SEEN_IN_CLASS)
def test_answers_as_readers_write_them_are_recognised(name, answer, misconception):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert not verdict.passed and verdict.misconception == misconception, verdict


def test_a_matrix_the_wrong_way_round_is_named_with_what_stops_elsewhere():
    verdict = check.cd_gradient(cd_the_wrong_way_back)
    assert "layers of one size" in verdict.notes[0] and "stopped with an error" in verdict.notes[0]
    other = check.cd_gradient(lambda *case: cd_the_wrong_way_back(*case)[0] @ case[4])
    assert other.misconception is None and "stopped with an error" in other.message


def test_an_answer_that_is_drawn_and_not_binary_is_not_called_a_draw_of_units():
    verdict = check.hidden_given(lambda v, W, b: torch.rand(len(v), len(b)))
    assert verdict.misconception is None and "two answers" in verdict.message
    verdict = check.free_energy(lambda v, W, a, b: torch.randint(2, (len(v),)))
    assert verdict.misconception is None and "two answers" in verdict.message


# --- wrong answers that are on no list ----------------------------------------------------------------------

def no_return(v, W, a, b, k, uniforms_h, uniforms_v):
    cd_by_logits(v, W, a, b, k, uniforms_h, uniforms_v)


def changes_the_batch(v, W, a, b, k, uniforms_h, uniforms_v):
    answer = cd_by_logits(v, W, a, b, k, uniforms_h, uniforms_v)
    v += 1
    return answer


def endless(v, W, a, b, k, uniforms_h, uniforms_v):
    while True:
        v = v + 1


UNLISTED = [      # what the verdict says beside "not yet"
    ("hidden_given", lambda v, W, b: torch.rand(len(v), len(b)) < (v @ W + b).sigmoid(), "True or False"),
    ("hidden_given", lambda v, W, b: (v @ W + b).sigmoid().square(), "the square of"),
    ("hidden_given", lambda v, W, b: (v @ W + b).sigmoid() * math.nan, "NaN"),
    ("hidden_given", lambda v, W, b: (v @ W + b).sigmoid().T, "transpose"),
    ("hidden_given", lambda v, W, b: 0.5 + (v @ W + b).sigmoid(), "between 0 and 1"),
    ("free_energy", lambda v, W, a, b: -v @ a - softplus(v @ W + b).sum(1) + 3, "3 more than"),
    ("free_energy", lambda v, W, a, b: -2 * (v @ a) - 2 * softplus(v @ W + b).sum(1), "2 times"),
    ("free_energy", lambda v, W, a, b: -v @ a - softplus(v @ W + b), "shape"),
    ("free_energy", lambda v, W, a, b: (v @ W + b).square().sum(1) + 9, "at most the energy"),
    ("cd_gradient", lambda v, W, a, b, *rest: W, "3 things are asked for"),
    ("cd_gradient", lambda v, W, a, b, *rest: (W, a), "return dW, da, db"),
    ("cd_gradient", lambda v, W, a, b, *rest: (W.T[:1], a, b), "`dW`"),
    ("cd_gradient", lambda v, W, a, b, *rest: (W, a, torch.outer(a, b)), "`db`"),
    ("cd_gradient", lambda v, W, a, b, *rest: (W, a, None), "`return` missing"),
    ("cd_gradient", lambda v, W, a, b, *rest: (0 * W + 0.25, 0 * a + 0.123, 0 * b), "size times da is whole"),
    ("cd_gradient", lambda v, W, a, b, *rest: (W + 7, 0 * a, 0 * b), "beyond −1 or 1"),
    ("cd_gradient", no_return, "`return` missing"),
    ("cd_gradient", changes_the_batch, "changed its argument `v` in place"),
    ("ais_log_weight", lambda *case: weight_in_one_go(*case) + 1, "1 more than"),
    ("ais_log_weight", lambda *case: weight_in_one_go(*case).expand(2), "one number is expected"),
    ("ais_log_weight", lambda states, betas, *rest: betas.sum() * math.inf, "infinite"),
    ("ais_estimate", lambda logs: logs.logsumexp(0), "2 things are asked for"),
    ("ais_estimate", lambda logs: (logs.logsumexp(0), logs), "`error`"),
    ("ais_estimate", lambda logs: (logs.max() + 1, logs.std()), "between the mean of the logs and their max"),
    ("ais_estimate", lambda logs: (logs.max() / 2 + logs.mean() / 2, 0.1), "differs"),
]


@pytest.mark.parametrize("name, answer, words", UNLISTED)
def test_an_unlisted_wrong_answer_is_told_more_than_that_it_is_wrong(name, answer, words):
    verdict = getattr(check, name)(answer)
    assert not verdict.passed and verdict.misconception is None
    assert words in f"{verdict.message} {verdict.hint}", verdict


def test_a_sweep_without_end_is_stopped():
    exercise = check.PartsExercise(**{**vars(check.cd_gradient), "seconds": 0.2})
    assert "had not returned" in exercise(endless).message


def test_the_row_of_several_answers_is_explained():
    verdict = check.cd_gradient(cd_for_an_optimizer)
    assert verdict.notes[0] == "Shown are `dW`, then `da`, then `db`, all values in one row."
    assert not check.cd_gradient(cd_by_numpy).notes


def test_parts_are_taken_apart_as_they_were_put_together():
    case = list(check.cd_gradient.cases(generator(1)))[-1]
    visible, hidden = case[1].shape
    row = torch.arange(float(visible * hidden + visible + hidden))
    dW, da, db = check.cd_gradient.parted(row, case)
    assert dW.shape == (visible, hidden) and da.shape == (visible,) and db.shape == (hidden,)
    assert torch.equal(torch.cat([dW.flatten(), da, db]), row)
