"""Chapter 6's code exercises: solutions pass, every misconception is a mutant recognised under its name."""

import ast
import itertools
import math
import re

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Independent
from torch.nn import functional as F

from nemlib import made as model
from nemlib.evaluate import likelihood
from nemlib.exercises import made as check
from nemlib.exercises.core import SEED, agree

SEEDS = (1, 2)
NAMES = ("masks_from_degrees", "log_likelihood", "ensemble_log_prob", "ancestral_sample")
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


def values(exercise, mutant, seed):
    """A mutant's answers on all cases, one tensor each."""
    return [torch.as_tensor(mutant(*case), dtype=torch.float64) for case in exercise.cases(generator(seed))]


# --- what every exercise keeps ------------------------------------------------------------------------------

def test_the_chapter_has_derivations_and_code():
    assert [one.name for one in check.EXERCISES] == [
        "normalised_proof", "paths_proof", "masks_from_degrees", "log_likelihood", "lost_proof",
        "mixture_proof", "ensemble_log_prob", "ancestral_sample"]


@EACH
def test_the_definition_is_complete(exercise):
    assert getattr(check, exercise.name) is exercise and exercise.chapter == 6
    assert len(exercise.misconceptions) >= 12
    assert exercise.equations and all(label.startswith("eq-made-") for label in exercise.equations)
    assert exercise.minutes > 0 and exercise.points > 0 and exercise.teaching_notes
    said = [*exercise.hints, *(text for m in exercise.misconceptions for text in (m.says, m.hint))]
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
    mutants = misconception.mutants
    for seed, mutant in [*((None, mutant) for mutant in mutants), (1, mutants[0])]:
        answer = mutant.parts if isinstance(mutant, check.Slip) else mutant
        chance = {} if seed is None else {"generator": generator(seed)}
        verdict = exercise(answer, **chance)
        assert verdict.misconception == misconception.name and not verdict.passed, (seed, verdict)
        assert misconception.says in verdict.message and verdict.hint == misconception.hint
        facts = dict(verdict.facts)
        assert len(facts) == 3 and len(set(facts.values())) == 3      # where, both values, and they differ
        assert verdict.points == math.floor(misconception.credit * exercise.points * 4) / 4


@EACH
@pytest.mark.parametrize("seed", [*SEEDS, SEED])
def test_no_two_misconceptions_are_the_same_answer_and_none_is_right(exercise, seed):
    truth = values(exercise, exercise.truth, seed)
    answers = [(misconception.name, values(exercise, mutant, seed))
               for misconception in exercise.misconceptions for mutant in misconception.mutants]
    for name, one in answers:
        assert not all(map(agree, one, truth)), name
    for (one, first), (other, second) in itertools.combinations(answers, 2):
        if one != other:
            assert not all(map(agree, first, second)), f"{one} and {other} give the same answers"


# --- the truths, computed in a third way --------------------------------------------------------------------

@EACH
def test_the_truth_keeps_the_rules_that_answers_are_held_to(exercise):
    for seed in SEEDS:
        for case in exercise.cases(generator(seed)):
            truth = torch.as_tensor(exercise.truth(*case), dtype=torch.float64)
            assert truth.isfinite().all() and exercise.on_the_way(*case)
            assert all(bool(test(truth, *case)) for _, test in exercise.must)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_masks_are_the_models(seed):
    shapes = set()
    for order, first, second in check.masks_from_degrees.cases(generator(seed)):
        plan = model.connectivity(len(order), (len(first), len(second)), order=order, degrees=(first, second))
        truth = check.masks_from_degrees.truth(order, first, second)
        assert torch.equal(truth, torch.cat([mask.flatten().double() for mask in plan.masks()]))
        paths = check._through(truth, order, first, second)
        assert torch.equal(paths.long(), plan.paths()) and not paths[~plan.direct()].any()
        assert (plan.order[plan.order] != torch.arange(len(order))).any()      # its inverse is another
        shapes.add(len({len(order), len(first), len(second)}))
    assert shapes == {1, 3}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_log_likelihood_is_the_models(seed):
    law = model.Bernoulli()
    for x, logits in check.log_likelihood.cases(generator(seed)):
        own = law.log_prob(x, logits.unsqueeze(-1)).sum(1)
        assert torch.allclose(check.log_likelihood.truth(x, logits), own, rtol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_mixture_is_the_evaluations_average(seed):
    law = model.Bernoulli()
    for x, logits in check.ensemble_log_prob.cases(generator(seed)):
        logs = law.log_prob(x.expand_as(logits), logits.unsqueeze(-1)).sum(2)
        truth = check.ensemble_log_prob.truth(x, logits)
        assert torch.allclose(truth, likelihood.log_mean_exp(logs, 0), rtol=1e-12)


def test_the_mixture_of_a_models_masks_is_its_own_and_sums_to_one():
    made = model.MADE(4, (5,), generator(3), order="random", seeds=(0, 1, 2), dtype=torch.float64)
    x = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)), dtype=torch.float64)
    logits = []
    for index in range(made.count):
        made.wear(index)
        logits.append(made(x).squeeze(-1).detach())
    mixture = check.ensemble_log_prob.truth(x, torch.stack(logits))
    assert torch.allclose(mixture, made.ensemble_log_prob(x).detach(), rtol=1e-12)
    assert mixture.exp().sum().item() == pytest.approx(1, abs=1e-12)
    flattering = check.ensemble_log_prob.misconceptions[0].mutants[0](x, torch.stack(logits))
    assert abs(flattering.exp().sum().item() - 1) > 1e-4


@pytest.mark.parametrize("seed", SEEDS)
def test_draws_have_the_law_that_the_network_says(seed):
    """Pictures are drawn for a fine grid of chances: their shares are the probabilities of the chain rule."""
    network, order, _ = next(check.ancestral_sample.cases(generator(seed)))
    points = (torch.arange(20, dtype=torch.float64) + 0.5) / 20
    grid = torch.cartesian_prod(points, points, points)
    pictures = check.ancestral_sample.truth(network, order, grid)
    x = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)), dtype=torch.float64)
    law = check._log_pixels(x, network(x)).sum(1).exp()
    shares = (pictures[:, None] == x).all(2).double().mean(0)
    assert law.sum().item() == pytest.approx(1, abs=1e-12) and (shares - law).abs().max() < 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_network_sees_only_what_comes_before(seed):
    for network, order, uniforms in check.ancestral_sample.cases(generator(seed)):
        slopes = torch.autograd.functional.jacobian(network, torch.zeros(uniforms.shape[1]).double())
        plan = model.connectivity(len(order), (), order=order)
        assert torch.equal(slopes != 0, plan.direct())
        assert torch.allclose(network(uniforms[0]), network(uniforms)[0], rtol=1e-12)
        assert repr(network).startswith("c + A x") and "-0," not in repr(network)


@EACH
def test_the_smallest_case_can_be_worked_by_hand(exercise):
    smallest = min(exercise.cases(generator(1)),
                   key=lambda case: sum(part.numel() for part in case if isinstance(part, torch.Tensor)))
    assert all(part.numel() <= 3 for part in smallest if isinstance(part, torch.Tensor))


def test_the_cases_hold_what_breaks_careless_code():
    """Probabilities that underflow, for all pictures and for some; as many pixels as pictures, and not."""
    assert {check.log_likelihood.level(*case) for case in check.log_likelihood.cases(generator(1))} == {0, 1}
    levels = [check.ensemble_log_prob.level(*case) for case in check.ensemble_log_prob.cases(generator(1))]
    assert set(levels) == {0, 1, 2}
    for kind in (check.log_likelihood, check.ensemble_log_prob):
        shapes = [case[0].shape for case in kind.cases(generator(1))]
        assert {shape[0] == shape[1] for shape in shapes if max(shape) > 1} == {True, False}
    counts = [uniforms.shape for _, _, uniforms in check.ancestral_sample.cases(generator(1))]
    assert {count == pixels for count, pixels in counts} == {True, False}


# --- right answers of other kinds ---------------------------------------------------------------------------

def masks_by_loops(order, first, second):
    o = {int(d): t + 1 for t, d in enumerate(order)}
    hidden = [[int(m >= o[d]) for d in range(len(order))] for m in first.tolist()]
    between = [[1.0 if above >= below else 0.0 for below in first.tolist()] for above in second.tolist()]
    return hidden, between, np.array([[o[d] > m for m in second.tolist()] for d in range(len(order))]) * 1


def masks_by_scatter(order, first, second):
    position = torch.empty_like(order)
    position[order] = torch.arange(1, len(order) + 1)
    return [(first.unsqueeze(1) >= position.unsqueeze(0)).float(),
            (second.unsqueeze(1) - first.unsqueeze(0) >= 0).float(),
            (position.unsqueeze(1) - 1 >= second.unsqueeze(0)).int()]


def masks_from_zero(order, first, second):
    """All counted from 0: positions from 0, and so degrees less 1."""
    degrees = [order.argsort(), first - 1, second - 1]
    hidden = [above[:, None] >= below for below, above in itertools.pairwise(degrees)]
    return (*hidden, degrees[0][:, None] > degrees[-1])


def mixture_by_torch(x, logits):
    nll = F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
    return torch.logsumexp(-nll, 0) - math.log(logits.shape[0])


def mixture_by_shifting(x, logits):
    log_p = (x * F.logsigmoid(logits) + (1 - x) * F.logsigmoid(-logits)).sum(-1)
    best = log_p.max(0).values
    return best + (log_p - best).exp().mean(0).log()


def mixture_by_numpy(x, logits):
    found = None
    for rows in logits.numpy():
        log_p = -np.logaddexp(0, (1 - 2 * x.numpy()) * rows).sum(axis=1)
        found = log_p if found is None else np.logaddexp(found, log_p)
    return found - np.log(len(logits))


def draw_one_by_one(logits, order, uniforms):
    pictures = []
    for chance in uniforms:
        x = torch.zeros(len(order), dtype=torch.float64)
        for d in order.tolist():
            x[d] = 1.0 if chance[d] < torch.sigmoid(logits(x[None])[0, d]) else 0.0
        pictures.append(x)
    return torch.stack(pictures)


def draw_in_float32(logits, order, uniforms):
    x = uniforms.float().clone()      # not drawn yet: anything
    for t in range(len(order)):
        x[:, order[t]] = (uniforms[:, order[t]] < logits(x).sigmoid()[:, order[t]]).float()
    return x


def draw_until_settled(logits, order, uniforms):
    """All pixels again and again: after D passes each has seen what comes before it."""
    x = torch.zeros_like(uniforms)
    for _ in order:
        x = (uniforms < torch.sigmoid(logits(x))).to(x.dtype)
    return x


def draw_truth_values(logits, order, uniforms):
    x = torch.zeros(uniforms.shape, dtype=torch.bool)
    for d in order:
        x[:, d] = uniforms[:, d].logit() < logits(x.double())[:, d]
    return x


RIGHT = {
    "masks_from_degrees": [masks_by_loops, masks_by_scatter, masks_from_zero,
                           lambda order, *degrees: model.Connectivity(order, degrees).masks()],
    "log_likelihood": [
        lambda x, a: -F.binary_cross_entropy_with_logits(a, x, reduction="none").sum(-1),
        lambda x, a: (x * F.logsigmoid(a) + (1 - x) * F.logsigmoid(-a)).sum(1),
        lambda x, a: F.logsigmoid((2 * x - 1) * a).sum(dim=1),
        lambda x, a: Independent(Bernoulli(logits=a), 1).log_prob(x),
        lambda x, a: -np.logaddexp(0, (1 - 2 * x.numpy()) * a.numpy()).sum(axis=1),
        lambda x, a: [sum(map(check._log_share, *row)) for row in zip(x.tolist(), a.tolist())],
        lambda x, a: torch.einsum("nd->n", x.float() * a.float() - F.softplus(a.float()))],
    "ensemble_log_prob": [mixture_by_torch, mixture_by_shifting, mixture_by_numpy,
                          lambda x, a: mixture_by_torch(x.float(), a.float())],
    "ancestral_sample": [draw_one_by_one, draw_in_float32, draw_until_settled, draw_truth_values],
}


@pytest.mark.parametrize("name, answer",
                         [(name, answer) for name, answers in RIGHT.items() for answer in answers])
def test_equivalent_right_answers_pass(name, answer):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert verdict.passed, verdict


# --- answers as readers write them --------------------------------------------------------------------------

def masks_the_wrong_way_round(order, first, second):
    o = order.argsort() + 1
    return first >= o[:, None], second >= first[:, None], o > second[:, None]


def masks_without_a_new_dimension(order, first, second):
    o = order.argsort() + 1
    return first >= o, second >= first, o > second


def masks_with_a_leak(order, first, second):
    o = torch.argsort(order) + 1
    return (o <= first[:, None]).float(), (first <= second[:, None]).float(), (second <= o[:, None]).float()


def masks_of_a_naive_position(order, first, second):
    return first[:, None] >= order + 1, second[:, None] >= first, (order + 1)[:, None] > second


def draw_with_a_generator(logits, order, uniforms):
    x = torch.zeros_like(uniforms)
    for d in order:
        x[:, d] = torch.bernoulli(logits(x).sigmoid()[:, d])
    return x


def draw_from_one_pass(logits, order, uniforms):
    return (uniforms < torch.sigmoid(logits(torch.zeros_like(uniforms)))).double()


def draw_from_logits_computed_once(logits, order, uniforms):
    x = torch.zeros_like(uniforms)
    p = logits(x).sigmoid()
    for d in order:
        x[:, d] = (uniforms[:, d] < p[:, d]).double()
    return x


def draw_by_rounding(logits, order, uniforms):
    x = torch.zeros_like(uniforms)
    for d in order:
        x[:, d] = torch.round(torch.sigmoid(logits(x)[:, d]))
    return x


def draw_in_raster_order(logits, order, uniforms):
    x = torch.zeros_like(uniforms)
    for d in range(uniforms.shape[1]):
        x[:, d] = (uniforms[:, d] < torch.sigmoid(logits(x)[:, d])).double()
    return x


SEEN_IN_CLASS = [
    ("masks_from_degrees", masks_the_wrong_way_round, "masks the wrong way round"),
    ("masks_from_degrees", masks_with_a_leak, "an output that sees itself"),
    ("masks_from_degrees", masks_of_a_naive_position, "the ordering for its inverse"),
    ("masks_from_degrees", lambda o, *m: model.Connectivity(torch.arange(len(o)), m).masks(),
     "the ordering ignored"),
    ("masks_from_degrees", lambda o, a, b: [torch.tril(torch.ones(len(a), len(o))),
                                            torch.tril(torch.ones(len(b), len(a))),
                                            torch.tril(torch.ones(len(o), len(b)), -1)], None),
    ("log_likelihood", lambda x, a: F.binary_cross_entropy_with_logits(a, x), "one number for the batch"),
    ("log_likelihood", lambda x, a: -F.binary_cross_entropy_with_logits(a, x, reduction="none").mean(1),
     "a mean over the pixels"),
    ("log_likelihood", lambda x, a: F.binary_cross_entropy_with_logits(a, x, reduction="none").sum(1),
     "the loss"),
    ("log_likelihood", lambda x, a: -F.binary_cross_entropy(a.sigmoid(), x, reduction="none").sum(1),
     "logarithm of a sigmoid"),
    ("log_likelihood", lambda x, a: torch.log2(torch.where(x == 1, a.sigmoid(), 1 - a.sigmoid())).sum(1),
     "bits for nats"),
    ("ensemble_log_prob", lambda x, a: log_p(x, a.mean(0)), "average of the logits"),
    ("ensemble_log_prob", lambda x, a: torch.stack([log_p(x, one) for one in a]).mean(0),
     "average of the log-likelihoods"),
    ("ensemble_log_prob", lambda x, a: log_p(x, torch.logit(a.sigmoid().mean(0))), "average of the "
                                                                                   "conditionals"),
    ("ensemble_log_prob", lambda x, a: torch.stack([log_p(x, one) for one in a]).exp().mean(0).log(),
     "e^x that underflows"),
    ("ensemble_log_prob", lambda x, a: torch.logsumexp(torch.stack([log_p(x, one) for one in a]), 0),
     "log M forgotten"),
    ("ancestral_sample", draw_from_one_pass, "all pixels at once"),
    ("ancestral_sample", draw_from_logits_computed_once, "all pixels at once"),
    ("ancestral_sample", draw_by_rounding, "thresholded"),
    ("ancestral_sample", draw_in_raster_order, "raster order"),
    ("ancestral_sample", draw_with_a_generator, check.OWN_CHANCE),
]


def log_p(x, logits):
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)


@pytest.mark.parametrize("name, answer, misconception", SEEN_IN_CLASS)
def test_answers_as_readers_write_them_are_recognised(name, answer, misconception):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert not verdict.passed and verdict.misconception == misconception, verdict


def test_a_mask_of_another_shape_is_judged_as_its_numbers_and_told_of_its_shape():
    verdict = check.masks_from_degrees(masks_the_wrong_way_round)
    assert "has shape" in verdict.notes[0] and verdict.points == 1


def test_sizes_that_do_not_fit_are_answered_by_where_it_stops():
    verdict = check.masks_from_degrees(masks_without_a_new_dimension)
    assert not verdict.passed and verdict.misconception is None
    assert "Write the shapes of both operands" in verdict.message or "has shape" in verdict.message


def test_hard_cases_are_asked_only_when_ordinary_ones_are_right():
    """An answer that is wrong on ordinary cases, and stops at hard ones, is told of the ordinary ones."""
    def careless(x, logits):
        logs = [log_p(x, one) for one in logits]
        if min(map(torch.min, logs)) < -700:
            raise OverflowError("math range error")
        return torch.logsumexp(torch.stack(logs), 0)

    assert check.ensemble_log_prob(careless).misconception == "log M forgotten"
    verdict = check.ensemble_log_prob(lambda x, a: careless(x, a) - math.log(len(a)))
    assert verdict.misconception is None and "OverflowError" in verdict.message


# --- wrong answers that are on no list ----------------------------------------------------------------------

def changes_its_argument(logits, order, uniforms):
    for d in order:
        uniforms[:, d] = (uniforms[:, d] < logits(uniforms)[:, d].sigmoid()).to(uniforms.dtype)
    return uniforms


def leaks(order, first, second):
    hidden, between, output = model.Connectivity(order, (first, second)).masks()
    return hidden, between, torch.ones_like(output)


UNLISTED = [      # what the verdict says beside "not yet"
    ("masks_from_degrees", leaks, "no output has a path"),
    ("masks_from_degrees", lambda o, a, b: check.masks_from_degrees.solution(o, a, b)[0], "3 things are "
                                                                                          "asked"),
    ("masks_from_degrees", lambda o, a, b: check.masks_from_degrees.solution(o, a, b)[::-1], "has shape"),
    ("log_likelihood", lambda x, a: 2 * log_p(x, a), "2 times"),
    ("log_likelihood", lambda x, a: log_p(x, a) - 3, "3 less than"),
    ("log_likelihood", lambda x, a: x.sum(1) + 1, "is never positive"),
    ("log_likelihood", lambda x, a: log_p(x, a) / 2, "most the log-probability of any single pixel"),
    ("log_likelihood", lambda x, a: log_p(x, a)[:, None], "shape"),
    ("ensemble_log_prob", lambda x, a: log_p(x, a[0]), "at most as good"),
    ("ensemble_log_prob", lambda x, a: check._log_pixels(x, a).sum(2).max(0).values + 1, "at most as good"),
    ("ensemble_log_prob", lambda x, a: check._log_pixels(x, a).sum(2).median(0).values - 2, "at most log M "
                                                                                            "below"),
    ("ancestral_sample", lambda a, order, u: 2 * u, "is 0 or 1"),
    ("ancestral_sample", lambda a, order, u: (u > 0.5).to(u), "comes first is on exactly"),
    ("ancestral_sample", lambda a, order, u: draw_one_by_one(a, order, u)[0], "shape"),
    ("ancestral_sample", changes_its_argument, "changed its argument `uniforms` in place"),
]


@pytest.mark.parametrize("name, answer, words", UNLISTED)
def test_an_unlisted_wrong_answer_is_told_more_than_that_it_is_wrong(name, answer, words):
    verdict = getattr(check, name)(answer)
    assert not verdict.passed and verdict.misconception is None
    assert words in f"{verdict.message} {verdict.hint}", verdict


def without_return(*case):
    case = case[::-1]


def unfinished(*case):
    case = case[::-1]
    return ...


def raises(*case):
    raise ValueError("nothing doing")


JUNK = [      # what comes, and what is said about it
    (None, "no answer yet"), (3.0, "wants your function itself"), (lambda: 0, "must take"),
    (without_return, "`return` missing"), (lambda *case: "0.5", "is text"),
    (unfinished, "still open"), (lambda *case: case[1].sum, "are the brackets"),
    (raises, "ValueError: nothing doing")]


@EACH
@pytest.mark.parametrize("answer, words", JUNK)
def test_what_is_no_answer_gets_a_sentence(exercise, answer, words):
    verdict = exercise(answer)
    assert not verdict.passed and verdict.points == 0 and verdict.misconception is None
    assert words in verdict.message, verdict


SHAPED = [check.log_likelihood, check.ensemble_log_prob, check.ancestral_sample]


@pytest.mark.parametrize("exercise", SHAPED, ids=lambda exercise: exercise.name)
def test_numbers_that_are_none_and_shapes_that_do_not_fit_are_named(exercise):
    verdict = exercise(lambda *case: math.nan * torch.as_tensor(exercise.truth(*case)))
    assert not verdict.passed and verdict.misconception is None and "NaN" in verdict.message, verdict
    assert "shape" in exercise(lambda *case: torch.zeros(2, 7, 3)).message
    assert "complex" in exercise(lambda *case: 1j * torch.as_tensor(exercise.truth(*case))).message


@pytest.mark.parametrize("exercise", SHAPED[:2], ids=lambda exercise: exercise.name)
def test_truth_values_are_no_likelihoods(exercise):
    assert "True or False" in exercise(lambda *case: exercise.truth(*case) > 0).message


def test_the_first_mask_that_differs_is_shown_row_by_row():
    verdict = check.masks_from_degrees(masks_with_a_leak)
    order, first, second = ast.literal_eval(re.sub(r"\w+ = ", "", verdict.facts[0][1]))
    (name, mine), (_, expected) = verdict.facts[1:]
    assert name == "your `output`" and np.shape(ast.literal_eval(mine)) == (len(order), len(second))
    position = [order.index(d) + 1 for d in range(len(order))]
    assert ast.literal_eval(expected) == [[int(o > m) for m in second] for o in position]
    assert not any(note.startswith("Shown are") for note in verdict.notes)
