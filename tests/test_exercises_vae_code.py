"""Chapter 4's code exercises: solutions pass, every misconception is a mutant recognised under its name."""

import ast
import itertools
import math
import re

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence
from torch.nn import functional as F

from nemlib import vae as model
from nemlib.evaluate import likelihood
from nemlib.exercises import vae as check
from nemlib.exercises.core import agree

SEEDS = (1, 2)
NAMES = ("gaussian_kl", "reparameterise", "importance_bound", "negative_elbo", "free_bits")
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
        "elbo_proof", "kl_proof", "gaussian_kl", "score_proof", "reparameterise", "negative_elbo",
        "iwae_proof", "importance_bound", "free_bits"]
    assert set(check.EXERCISES) >= set(EXERCISES)


@EACH
def test_the_definition_is_complete(exercise):
    assert getattr(check, exercise.name) is exercise and exercise.chapter == 4
    assert len(exercise.misconceptions) >= 12
    assert exercise.equations and all(label.startswith("eq-vae-") for label in exercise.equations)
    assert exercise.minutes > 0 and exercise.points > 0 and exercise.teaching_notes
    said = [*exercise.hints, *(text for m in exercise.misconceptions for text in (m.says, m.hint))]
    for text in said:      # these are shown by a kernel, where no formula is typeset
        prose = re.sub(r"`[^`]*`", "", text)
        assert text[-1] in ".?:)" and not re.search(r"[$\\]|\*\w+\*", prose), text
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
    mutants = misconception.mutants
    for seed, mutant in [*((None, mutant) for mutant in mutants), (1, mutants[0])]:
        chance = {} if seed is None else {"generator": generator(seed)}
        verdict = exercise(mutant, **chance)
        assert verdict.misconception == misconception.name and not verdict.passed, (seed, verdict)
        assert misconception.says in verdict.message and verdict.hint == misconception.hint
        facts = dict(verdict.facts)
        assert len(facts) == 3 and len(set(facts.values())) == 3      # where, both values, and they differ
        assert verdict.points == math.floor(misconception.credit * exercise.points * 4) / 4


@EACH
@pytest.mark.parametrize("seed", SEEDS)
def test_no_two_misconceptions_are_the_same_answer_and_none_is_right(exercise, seed):
    truth = values(exercise, exercise.truth, seed)
    answers = [(misconception.name, values(exercise, mutant, seed))
               for misconception in exercise.misconceptions for mutant in misconception.mutants]
    for name, one in answers:      # a path that is cut has the right numbers, and no gradient
        assert name == check.CUT or not all(map(agree, one, truth)), name
    for (one, first), (other, second) in itertools.combinations(answers, 2):
        if one != other:
            assert not all(map(agree, first, second)), f"{one} and {other} give the same answers"


# --- the truths, computed in a third way --------------------------------------------------------------------

@EACH
def test_the_truth_keeps_the_rules_that_answers_are_held_to(exercise):
    for seed in SEEDS:
        for case in exercise.cases(generator(seed)):
            truth = torch.as_tensor(exercise.truth(*case), dtype=torch.float64)
            assert not truth.isnan().any() and exercise.on_the_way(*case)
            if truth.isfinite().all():
                assert all(bool(test(truth, *case)) for _, test in exercise.must)


@EACH
def test_the_smallest_case_can_be_worked_by_hand(exercise):
    smallest = min(exercise.cases(generator(1)),
                   key=lambda case: sum(torch.as_tensor(part).numel() for part in case))
    assert all(torch.as_tensor(part).numel() <= 2 for part in smallest)


@EACH
def test_shapes_in_which_two_sizes_agree_are_not_the_only_ones(exercise):
    shapes = [case[0].shape for case in exercise.cases(generator(1))]
    assert {shape[0] == shape[1] for shape in shapes if max(shape) > 1} == {True, False}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_divergence_is_the_models_and_that_of_torch(seed):
    for mean, log_variance in check.gaussian_kl.cases(generator(seed)):
        truth = check.gaussian_kl.truth(mean, log_variance)
        own = model.Gaussian(mean, log_variance).kl().sum(-1)
        assert torch.allclose(truth, own, rtol=1e-12, atol=1e-12)
        if not check.gaussian_kl.level(mean, log_variance):
            q, p = Normal(mean, (log_variance / 2).exp()), Normal(0 * mean, 1 + 0 * mean)
            assert torch.allclose(truth, kl_divergence(q, p).sum(1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_draw_is_the_models_with_the_same_noise(seed, monkeypatch):
    for mean, log_variance, noise in check.reparameterise.cases(generator(seed)):
        monkeypatch.setattr(torch, "randn", lambda *shape, **how: noise)
        own = model.Gaussian(mean, log_variance).sample(generator(0), len(noise))
        monkeypatch.undo()
        assert torch.allclose(check.reparameterise.truth(mean, log_variance, noise), own, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_bound_is_that_of_the_evaluation(seed):
    for (logs,) in check.importance_bound.cases(generator(seed)):
        expected = likelihood.log_mean_exp(logs, 0)
        assert torch.allclose(check.importance_bound.truth(logs), expected, rtol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_loss_is_the_models_where_pictures_are_binary(seed):
    for x, logits, mean, log_variance in check.negative_elbo.cases(generator(seed)):
        binary = ~check._grey(x)
        pixels = model.BernoulliPixels()
        own = model.Gaussian(mean, log_variance).kl().sum(-1) - pixels.log_prob(x, logits)
        truth = check.negative_elbo.truth(x, logits, mean, log_variance)
        assert torch.allclose(truth[binary], own[binary], rtol=1e-12) and (truth[~binary] == math.inf).all()
        if not binary.all():
            with pytest.raises(ValueError, match="0 or 1"):
                pixels.check(x)


@pytest.mark.parametrize("seed", SEEDS)
def test_free_bits_are_at_most_what_the_same_units_cost_one_image_at_a_time(seed):
    for kl, nats in check.free_bits.cases(generator(seed)):
        truth = check.free_bits.truth(kl, nats)
        assert kl.mean(0).sum() <= truth + 1e-12 and truth <= kl.clamp(min=nats).mean(0).sum() + 1e-12
        assert check.free_bits.truth(kl, 0.0) == pytest.approx(kl.mean(0).sum().item(), abs=1e-12)


def test_the_cases_hold_what_breaks_careless_code():
    """Logarithms of 0, exponentials that overflow, one shift for all, a grey picture among binary ones."""
    log_variances = torch.cat([case[1].flatten() for case in check.gaussian_kl.cases(generator(1))])
    assert (log_variances.exp() == 0).any()
    logs = [case[0] for case in check.importance_bound.cases(generator(1))]
    assert any(one.exp().mean(0).isinf().all() for one in logs)
    assert any((one.exp().mean(0) == 0).all() for one in logs)
    assert any(((one - one.max()).exp().mean(0) == 0).any() for one in logs)
    for kind in (check.importance_bound, check.negative_elbo):
        assert {kind.level(*case) for case in kind.cases(generator(1))} == {0, 1, 2}
    pictures = [case[0] for case in check.negative_elbo.cases(generator(1))]
    assert any(0 < check._grey(x).sum() < len(x) for x in pictures)
    for kl, nats in list(check.free_bits.cases(generator(1)))[4:]:
        assert (kl > nats).any() and (kl < nats).any()


# --- right answers of other kinds ---------------------------------------------------------------------------

def loss_by_torch(x, logits, mean, log_variance):
    rec = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
    kl = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp(), dim=1)
    grey = ((x > 0) & (x < 1)).any(dim=1)
    return (rec + kl).masked_fill(grey, float("inf"))


def loss_by_distributions(x, logits, mean, log_variance):
    p = Independent(Bernoulli(logits=logits, validate_args=False), 1)
    q = Independent(Normal(mean, (log_variance / 2).exp()), 1)
    kl = kl_divergence(q, Independent(Normal(0 * mean, 1 + 0 * mean), 1))
    return torch.where((x % 1 == 0).all(1), kl - p.log_prob(x), math.inf)


def loss_by_loops(x, logits, mean, log_variance):
    losses = []
    for row in zip(x.tolist(), logits.tolist(), mean.tolist(), log_variance.tolist()):
        if any(pixel not in (0.0, 1.0) for pixel in row[0]):
            losses.append(math.inf)
            continue
        pixels = sum(np.logaddexp(0, -a if pixel else a) for pixel, a in zip(*row[:2]))
        losses.append(pixels + sum((m * m + math.exp(s) - 1 - s) / 2 for m, s in zip(*row[2:])))
    return losses


def draw_by_einsum(mean, log_variance, noise):
    return mean + torch.einsum("bl,kbl->kbl", torch.sqrt(torch.exp(log_variance)), noise)


def draw_one_by_one(mean, log_variance, noise):
    return [torch.addcmul(mean, (0.5 * log_variance).exp(), one) for one in noise]


RIGHT = {
    "gaussian_kl": [
        lambda m, s: -0.5 * torch.sum(1 + s - m.pow(2) - s.exp(), dim=1),
        lambda m, s: ((m * m).sum(1) + s.exp().sum(1) - s.sum(1) - m.shape[1]) / 2,
        lambda m, s: (0.5 * (m.float()**2 + s.float().expm1() - s.float())).sum(-1),
        lambda m, s: [sum((a * a + math.exp(b) - 1 - b) / 2 for a, b in zip(*row))
                      for row in zip(m.tolist(), s.tolist())],
        lambda m, s: np.einsum("ij->i", (m**2 + s.exp() - 1 - s).numpy()) / 2],
    "reparameterise": [
        draw_by_einsum, draw_one_by_one,
        lambda m, s, e: m[None] + e * s.div(2).exp()[None],
        lambda m, s, e: m.float() + (s.float() / 2).exp() * e.float(),
        lambda m, s, e: Normal(m, (s / 2).exp()).icdf(Normal(0 * e, 1 + 0 * e).cdf(e)),
        lambda m, s, e: m.expand(e.shape) + torch.exp(s)**0.5 * e],
    "importance_bound": [
        lambda w: w.logsumexp(0) - math.log(len(w)),
        lambda w: w.max(0).values + (w - w.max(0).values).exp().mean(0).log(),
        lambda w: torch.logsumexp(w.T - math.log(w.shape[0]), dim=1),
        lambda w: np.logaddexp.reduce(w.numpy(), axis=0) - np.log(w.shape[0]),
        lambda w: [float(torch.logcumsumexp(column, 0)[-1]) - math.log(len(column)) for column in w.T],
        lambda w: (w.float().logsumexp(0) - math.log(len(w)))],
    "negative_elbo": [loss_by_torch, loss_by_distributions, loss_by_loops,
                      lambda *case: loss_by_torch(*(part.float() for part in case))],
    "free_bits": [
        lambda kl, nats: torch.maximum(kl.mean(0), torch.full_like(kl[0], nats)).sum(),
        lambda kl, nats: sum(max(nats, float(unit.mean())) for unit in kl.T),
        lambda kl, nats: float(np.maximum(kl.numpy().mean(axis=0), nats).sum()),
        lambda kl, nats: (kl.sum(0) / len(kl) - nats).relu().sum() + nats * kl.shape[1]],
}


@pytest.mark.parametrize("name, answer",
                         [(name, answer) for name, answers in RIGHT.items() for answer in answers])
def test_equivalent_right_answers_pass(name, answer):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert verdict.passed, verdict


# --- answers as readers write them --------------------------------------------------------------------------

def loss_with_means(x, logits, mean, log_variance):
    rec = F.binary_cross_entropy_with_logits(logits, x)
    return rec - 0.5 * torch.mean(1 + log_variance - mean**2 - log_variance.exp())


def loss_with_a_mean_over_pixels(x, logits, mean, log_variance):
    rec = F.binary_cross_entropy_with_logits(logits, x, reduction="none").mean(1)
    return rec + check.gaussian_kl.solution(mean, log_variance)


def loss_of_probabilities(x, logits, mean, log_variance):
    p = torch.sigmoid(logits)
    rec = -(x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum(1)
    return rec + check.gaussian_kl.solution(mean, log_variance)


def loss_of_grey_too(x, logits, mean, log_variance):
    rec = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    return rec + check.gaussian_kl.solution(mean, log_variance)


def loss_with_two_sigmoids(x, logits, mean, log_variance):
    rec = F.binary_cross_entropy_with_logits(torch.sigmoid(logits), x, reduction="none").sum(1)
    return torch.where(check._grey(x), math.inf, rec + check.gaussian_kl.solution(mean, log_variance))


def loss_with_a_wrong_sign(x, logits, mean, log_variance):
    rec = loss_by_torch(x, logits, 0 * mean, 0 * log_variance)
    return rec - check.gaussian_kl.solution(mean, log_variance)


def draw_of_torchs_own(mean, log_variance, noise):
    return mean + torch.exp(log_variance / 2) * torch.randn_like(noise)


def draw_of_torchs_normal(mean, log_variance, noise):
    return torch.normal(mean.expand(noise.shape), (log_variance / 2).exp().expand(noise.shape))


def draw_without_a_graph(mean, log_variance, noise):
    with torch.no_grad():
        return mean + torch.exp(log_variance / 2) * noise


def draw_by_numpy(mean, log_variance, noise):
    return mean.numpy() + np.exp(log_variance.numpy() / 2) * noise.numpy()


SEEN_IN_CLASS = [
    ("gaussian_kl", lambda m, s: -0.5 * torch.sum(1 + s - m**2 - s.exp()), "one number for the batch"),
    ("gaussian_kl", lambda m, s: -0.5 * torch.mean(1 + s - m**2 - s.exp(), dim=1), "a mean over the units"),
    ("gaussian_kl", lambda m, s: 0.5 * torch.sum(1 + s - m**2 - s.exp(), dim=1), "sign of the divergence"),
    ("gaussian_kl", lambda m, s: 0.5 * (m**2 + torch.exp(0.5 * s) - 1 - s).sum(1),
     "standard deviation used as variance"),
    ("gaussian_kl", lambda m, s: kl_divergence(Normal(m, s.exp().sqrt(), validate_args=False),
                                               Normal(0 * m, 1 + 0 * m)).sum(1),
     "logarithm of an exponential"),
    ("reparameterise", lambda m, s, e: m + e * torch.exp(s), "variance for standard deviation"),
    ("reparameterise", draw_of_torchs_own, check.OWN_NOISE),
    ("reparameterise", draw_of_torchs_normal, check.OWN_NOISE),
    ("reparameterise", draw_without_a_graph, check.CUT),
    ("reparameterise", draw_by_numpy, check.CUT),
    ("reparameterise", lambda m, s, e: m + torch.exp(s.detach() / 2) * e, check.CUT),
    ("reparameterise", lambda m, s, e: (m.tolist() + (s / 2).exp() * e), None),
    ("importance_bound", lambda w: torch.log(torch.mean(torch.exp(w), 0)), "e^x that overflows"),
    ("importance_bound", lambda w: torch.logsumexp(w, 1) - math.log(w.shape[1]), "over the images"),
    ("importance_bound", lambda w: w.mean(dim=0), "mean of the logarithms"),
    ("importance_bound", lambda w: torch.logsumexp(w, 0), "log K forgotten"),
    ("importance_bound", lambda w: torch.log(torch.exp(w - w.max()).mean(0)) + w.max(),
     "one shift for all images"),
    ("negative_elbo", loss_with_means, "one number for the batch"),
    ("negative_elbo", loss_with_a_mean_over_pixels, "a mean over the pixels"),
    ("negative_elbo", loss_of_probabilities, "logarithm of a sigmoid"),
    ("negative_elbo", loss_of_grey_too, "a number for grey pixels"),
    ("negative_elbo", loss_with_two_sigmoids, "sigmoid applied twice"),
    ("negative_elbo", loss_with_a_wrong_sign, "divergence subtracted"),
    ("free_bits", lambda kl, nats: torch.clamp(kl, min=nats).sum(1).mean(), "the maximum image by image"),
    ("free_bits", lambda kl, nats: torch.clamp(kl.sum(1), min=nats).mean(), "the maximum over the sum"),
    ("free_bits", lambda kl, nats: F.relu(kl.mean(0) - nats).sum(), "only what is above counts"),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name, answer, misconception", SEEN_IN_CLASS)
def test_answers_as_readers_write_them_are_recognised(name, answer, misconception):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert not verdict.passed and verdict.misconception == misconception, verdict


def test_chance_from_elsewhere_is_not_called_noise_of_torch():
    calls = itertools.count()
    verdict = check.reparameterise(lambda m, s, e: m + (s / 2).exp() * e + next(calls))
    assert verdict.misconception is None and "two answers" in verdict.message


def test_hard_cases_are_asked_only_when_ordinary_ones_are_right():
    """An answer that is wrong on ordinary cases, and stops at hard ones, is told of the ordinary ones."""
    def twice(logs):
        if logs.abs().max() > 700:
            raise OverflowError("math range error")
        return logs.logsumexp(0)

    assert check.importance_bound(twice).misconception == "log K forgotten"
    verdict = check.importance_bound(lambda logs: twice(logs) - math.log(len(logs)))
    assert verdict.misconception is None and "OverflowError" in verdict.message


# --- wrong answers that are on no list ----------------------------------------------------------------------

def changes_its_argument(kl, nats):
    kl.clamp_(min=nats)
    return kl.sum()


UNLISTED = [      # what the verdict says beside "not yet"
    ("gaussian_kl", lambda m, s: 3 * check.gaussian_kl.solution(m, s), "3 times"),
    ("gaussian_kl", lambda m, s: check.gaussian_kl.solution(m, s) + 2, "2 more than"),
    ("gaussian_kl", lambda m, s: -m.square().sum(1), "divergence is never negative"),
    ("gaussian_kl", lambda m, s: check.gaussian_kl.solution(m, s)[:, None], "shape"),
    ("reparameterise", lambda m, s, e: 2 * m + (s / 2).exp() * e, "differs"),
    ("reparameterise", lambda m, s, e: (m + (s / 2).exp() * e).flatten(), "shape"),
    ("reparameterise", lambda m, s, e: m - e.abs(), "above its mean where"),
    ("importance_bound", lambda w: w.logsumexp(0, keepdim=True) - math.log(len(w)), "shape"),
    ("importance_bound", lambda w: w.max(0).values + 1, "between"),
    ("importance_bound", lambda w: w.logsumexp(0) - math.log(len(w)) + 1e-2, "0.01 more than"),
    ("negative_elbo", lambda x, a, m, s: torch.where(check._grey(x), -math.inf, loss_of_grey_too(x, a, m, s)),
     "the loss is plus infinity"),
    ("negative_elbo", lambda x, a, m, s: -x.sum(1), "is never negative"),
    ("negative_elbo", lambda x, a, m, s: 0 * x.sum(1), "at least the divergence"),
    ("negative_elbo", lambda x, a, m, s: check.gaussian_kl.solution(m, s) + 1e-3, "the reconstruction term"),
    ("free_bits", lambda kl, nats: nats * kl.shape[1], "at least the mean divergence"),
    ("free_bits", lambda kl, nats: 0 * kl.sum(), "at least λ"),
    ("free_bits", changes_its_argument, "changed its argument `kl` in place"),
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


def endless(*case):
    while True:
        case = case


JUNK = [      # what comes, and what is said about it
    (None, "no answer yet"), (3.0, "wants your function itself"), (lambda: 0, "must take"),
    (without_return, "`return` missing"), (lambda *case: "0.5", "is text"),
    (unfinished, "still open"), (lambda *case: case[0].sum, "are the brackets"),
    (lambda *case: math.nan * case[0].sum(), None), (lambda *case: torch.zeros(2, 7, 3), "shape"),
    (lambda *case: case[0] > 0, "True or False"), (raises, "ValueError: nothing doing"),
    (lambda *case: [case[0], 1.0, "two"], "cannot be read"), (lambda *case: 1j * case[0], "complex")]


@EACH
@pytest.mark.parametrize("answer, words", JUNK)
def test_what_is_no_answer_gets_a_sentence(exercise, answer, words):
    verdict = exercise(answer)
    assert not verdict.passed and verdict.points == 0 and verdict.misconception is None
    words = words or ("NaN" if exercise is check.free_bits else "shape")
    assert words in verdict.message, verdict


@EACH
def test_numbers_that_are_none_are_named(exercise):
    verdict = exercise(lambda *case: math.nan * torch.as_tensor(exercise.truth(*case)))
    assert not verdict.passed and verdict.misconception is None and "NaN" in verdict.message, verdict


def test_a_loop_without_end_is_stopped():
    exercise = type(check.free_bits)(**{**vars(check.free_bits), "seconds": 0.1})
    assert "had not returned" in exercise(endless).message
