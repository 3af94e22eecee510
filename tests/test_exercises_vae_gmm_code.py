"""Chapter 5's exercises in code and its quiz: right answers pass, each misconception is known by its name."""

import ast
import itertools
import math
import re

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from nemlib import gmm as model
from nemlib import vae_gmm as composed
from nemlib.exercises import vae_gmm as check
from nemlib.exercises.core import SEED, agree
from nemlib.vae import Gaussian

SEEDS = (1, 2)
NAMES = ("responsibility", "posterior", "kl_bounds")
EXERCISES = [getattr(check, name) for name in NAMES]
EACH = pytest.mark.parametrize("exercise", EXERCISES, ids=NAMES)
ALL = pytest.mark.parametrize("exercise", [*EXERCISES, check.diagnose], ids=[*NAMES, "diagnose"])
MISCONCEPTIONS = [pytest.param(exercise, misconception, id=f"{exercise.name}: {misconception.name}")
                  for exercise in EXERCISES for misconception in exercise.misconceptions]
DIAGNOSES = [pytest.param(misconception, id=misconception.name)
             for misconception in check.diagnose.misconceptions]


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

def test_the_chapter_has_derivations_and_code_and_a_quiz():
    assert [one.name for one in check.EXERCISES] == [
        "responsibility", "m_step_proof", "square_proof", "conjugate_proof", "posterior", "kl_bounds",
        "label_gap_proof", "saddle_proof", "diagnose"]


@ALL
def test_the_definition_is_complete(exercise):
    assert getattr(check, exercise.name) is exercise and exercise.chapter == 5
    assert len(exercise.misconceptions) >= 12
    assert exercise.equations and all(label.startswith("eq-vg-") for label in exercise.equations)
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
    assert verdict.passed and verdict.points == exercise.points, verdict
    assert not verdict.notes


@EACH
def test_the_stub_has_the_solutions_signature_and_none_of_its_lines(exercise):
    stub, solution = exercise.stub_source(), exercise.solution_source()
    assert stub.startswith(exercise.signature) and solution.startswith(exercise.signature)
    verdict = exercise(executed(stub)[exercise.name])
    assert not verdict.passed and verdict.points == 0 and "still the stub" in verdict.message
    hidden = [ast.unparse(statement) for statement in ast.parse(solution).body[0].body[1:]]
    assert hidden and not [text for text in hidden if text in stub]
    assert ast.parse(exercise.check_source()) and ast.parse(exercise.grade_source())


@ALL
def test_code_fits_the_page(exercise):
    for source in (exercise.stub_source(), exercise.solution_source(), exercise.check_source()):
        assert max(map(len, source.splitlines())) <= 82


@ALL
def test_hints_and_solutions_are_at_hand(exercise):
    for step in (1, 2, 3):
        assert check.hint(exercise.name, step=step).text == exercise.hints[step - 1]
    assert check.solution(exercise.name).code == exercise.solution_source().rstrip()


# --- misconceptions -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("exercise, misconception", MISCONCEPTIONS)
def test_each_misconception_is_recognised_under_its_own_name(exercise, misconception):
    for seed, mutant in zip(itertools.cycle((None, 1)), misconception.mutants):
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
            assert truth.isfinite().all()
            for says, test in exercise.must:
                assert bool(test(truth, *case)), says
            assert exercise.on_the_way(*case)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_shares_are_the_models(seed):
    for x, weights, means, precisions in check.responsibility.cases(generator(seed)):
        mixture = model.GaussianMixture(weights, means, torch.linalg.cholesky(precisions))
        torch.testing.assert_close(check.responsibility.truth(x, weights, means, precisions),
                                   mixture.responsibilities(x), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_posterior_is_the_models_and_keeps_the_evidence(seed):
    """log p(x) at the posterior's four parts is the ratio of normalisers, and Bayes' rule holds with it."""
    for x, share, kappa, mean, inverse, nu in check.posterior.cases(generator(seed)):
        prior = model.Prior.same(1, mean, inverse, alpha=1.0, kappa=kappa, nu=nu)
        found = model.moments(x, share[:, None])
        after, row = prior.posterior(found), check.posterior.truth(x, share, kappa, mean, inverse, nu)
        expected = torch.cat([after.kappa, after.mean[0], after.inverse_scale[0].flatten(), after.nu])
        torch.testing.assert_close(row, expected, rtol=1e-10, atol=1e-10)
        state = prior.sample(generator(seed))
        likelihood = share @ state.log_prob_of_components(x)[:, 0]
        left = (prior.log_prob(state) + likelihood).item()
        assert left == pytest.approx((prior.log_evidence(found) + after.log_prob(state)).item(), abs=1e-8)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_bounds_are_the_models_and_hold_the_divergence_between_them(seed):
    for case in check.kl_bounds.cases(generator(seed)):
        mean, log_variance, weights, means, variances = case
        truth = check.kl_bounds.truth(*case).view(2, -1)
        mixture = model.GaussianMixture.of_covariances(weights, means, torch.diag_embed(variances))
        q = Gaussian(mean, log_variance)
        torch.testing.assert_close(truth[0], composed.kl_bound(q, mixture), rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(truth[1], composed.kl_below(q, mixture), rtol=1e-8, atol=1e-8)
        draws = mean + (log_variance / 2).exp() * torch.randn(4_000, *mean.shape, generator=generator(7),
                                                               dtype=torch.float64)
        logs = Normal(mean, (log_variance / 2).exp()).log_prob(draws).sum(-1)
        logs = logs - mixture.log_prob(draws.flatten(0, 1)).view(4_000, -1)
        error = logs.std(0) / 4_000**0.5
        assert (logs.mean(0) < truth[0] + 4 * error).all() and (logs.mean(0) > truth[1] - 4 * error).all()


def test_the_cases_hold_what_breaks_careless_code():
    """Points out of reach of exp; empty components; images far away; two sizes that are equal, and not."""
    for exercise in EXERCISES:
        assert {exercise.level(*case) for case in exercise.cases(generator(1))} == {0, 1}
    cases = list(check.responsibility.cases(generator(1)))
    assert {len(x) == len(weights) for x, weights, *_ in cases} == {True, False}
    assert not check._scored(end=torch.exp)(*cases[-1]).any()
    assert {share.sum().item() == 0 for _, share, *_ in check.posterior.cases(generator(1))} == {True, False}
    assert {x.shape[0] == x.shape[1] for x, *_ in check.posterior.cases(generator(1))} == {True, False}


# --- right answers of other kinds ---------------------------------------------------------------------------

def shares_of_torch(x, weights, means, precisions):
    laws = MultivariateNormal(means, precision_matrix=precisions)
    return torch.softmax(laws.log_prob(x[:, None]) + weights.log(), 1)


def shares_of_numpy(x, weights, means, precisions):
    x, weights, means, precisions = (part.numpy() for part in (x, weights, means, precisions))
    joint = np.empty((len(x), len(weights)))
    for k, (weight, mean, precision) in enumerate(zip(weights, means, precisions)):
        apart = x - mean
        log_det = np.linalg.slogdet(precision)[1]
        joint[:, k] = np.log(weight) + 0.5 * log_det - 0.5 * (apart @ precision * apart).sum(1)
    joint = np.exp(joint - joint.max(1, keepdims=True))
    return joint / joint.sum(1, keepdims=True)


def shares_in_float32(*case):
    return shares_of_torch(*(part.float() for part in case))


def shares_as_lists(*case):
    return shares_of_numpy(*case).tolist()


def posterior_of_the_design(x, share, kappa, mean, inverse_scale, nu):
    """With raw moments: right, and loses digits where the points are far from 0."""
    n = share.sum()
    total = share @ x
    mean_k = (kappa * mean + total) / (kappa + n)
    raw = torch.einsum("n,ni,nj->ij", share, x, x) + kappa * torch.outer(mean, mean)
    return kappa + n, mean_k, inverse_scale + raw - (kappa + n) * torch.outer(mean_k, mean_k), nu + n


def posterior_of_numpy(x, share, kappa, mean, inverse_scale, nu):
    x, r, m, scale = (part.numpy() for part in (x, share, mean, inverse_scale))
    n = r.sum()
    centre = np.average(x, axis=0, weights=r) if n else m
    scatter = (r * (x - centre).T) @ (x - centre)
    gap = (centre - m)[:, None]
    return [kappa + n, m + n / (kappa + n) * (centre - m), scale + scatter + gap @ gap.T / (1 / kappa + 1 / n)
            if n else scale, nu + n]


def bounds_of_torch(mean, log_variance, weights, means, variances):
    q = torch.distributions.Independent(Normal(mean, (log_variance / 2).exp()), 1)
    inside = Normal(means, variances.sqrt()).log_prob(mean[:, None])
    inside = (inside - log_variance.exp()[:, None] / variances / 2).sum(2) + weights.log()
    wide = Normal(means, (variances + log_variance.exp()[:, None]).sqrt()).log_prob(mean[:, None]).sum(2)
    return -q.entropy() - inside.logsumexp(1), -q.entropy() - (wide + weights.log()).logsumexp(1)


def bounds_by_components(mean, log_variance, weights, means, variances):
    """Above from the closed forms of KL(q ‖ N_k): −log Σ π_k exp(−KL_k)."""
    kl = 0.5 * ((log_variance.exp()[:, None] + (mean[:, None] - means)**2) / variances - 1
                + variances.log() - log_variance[:, None]).sum(-1)
    below = bounds_of_torch(mean, log_variance, weights, means, variances)[1]
    return -(weights.log() - kl).logsumexp(1), below


RIGHT = {
    "responsibility": [shares_of_torch, shares_of_numpy, shares_in_float32, shares_as_lists],
    "posterior": [posterior_of_the_design, posterior_of_numpy],
    "kl_bounds": [bounds_of_torch, bounds_by_components],
}


@pytest.mark.parametrize("name, answer",
                         [(name, answer) for name, answers in RIGHT.items() for answer in answers])
def test_equivalent_right_answers_pass(name, answer):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert verdict.passed, verdict


# --- answers as readers write them --------------------------------------------------------------------------

def shares_without_logs(x, weights, means, precisions):
    densities = MultivariateNormal(means, precision_matrix=precisions).log_prob(x[:, None]).exp() * weights
    return densities / densities.sum(1, keepdim=True)


def shares_with_epsilon(x, weights, means, precisions):
    densities = MultivariateNormal(means, precision_matrix=precisions).log_prob(x[:, None]).exp() * weights
    return densities / (densities.sum(1, keepdim=True) + 1e-20 * (2 * math.pi)**(-x.shape[1] / 2))


def posterior_with_labels_in_mind(x, share, kappa, mean, inverse_scale, nu):
    n = len(x)
    xbar = x.mean(0)
    S = (x - xbar).T @ (x - xbar)
    gap = xbar - mean
    return (kappa + n, (kappa * mean + n * xbar) / (kappa + n),
            inverse_scale + S + kappa * n / (kappa + n) * torch.outer(gap, gap), nu + n)


def posterior_in_the_wrong_order(x, share, kappa, mean, inverse_scale, nu):
    n = share.sum()
    xbar = share @ x / n.clamp(min=1e-300)
    S = (share[:, None] * (x - xbar)).T @ (x - xbar)
    mean = (kappa * mean + n * xbar) / (kappa + n)
    gap = xbar - mean
    return kappa + n, mean, inverse_scale + S + kappa * n / (kappa + n) * torch.outer(gap, gap), nu + n


def posterior_with_naive_mean(x, share, kappa, mean, inverse_scale, nu):
    n = share.sum()
    xbar = (share[:, None] * x).sum(0) / n
    S = (share[:, None] * (x - xbar)).T @ (x - xbar)
    return (kappa + n, (kappa * mean + n * xbar) / (kappa + n),
            inverse_scale + S + kappa * n / (kappa + n) * torch.outer(xbar - mean, xbar - mean), nu + n)


def bounds_of_the_nearest(*case):
    mean, log_variance, weights, means, variances = case
    kl = 0.5 * ((log_variance.exp()[:, None] + (mean[:, None] - means)**2) / variances - 1
                + variances.log() - log_variance[:, None]).sum(-1)
    return kl.min(1).values, bounds_of_torch(*case)[1]


def bounds_without_log_domain(mean, log_variance, weights, means, variances):
    s2 = log_variance.exp()[:, None]
    entropy = 0.5 * (math.log(2 * math.pi) + 1 + log_variance).sum(1)
    squares = (mean[:, None] - means)**2 + s2
    exact = torch.exp(-0.5 * ((2 * math.pi * variances).log() + squares / variances).sum(-1))
    wide = torch.exp(Normal(means, (variances + s2).sqrt()).log_prob(mean[:, None]).sum(-1))
    return -entropy - (exact @ weights).log(), -entropy - (wide @ weights).log()


SEEN_IN_CLASS = [
    ("responsibility", shares_without_logs, "densities underflow"),
    ("responsibility", shares_with_epsilon, "a small number in the denominator"),
    ("responsibility", lambda *case: shares_of_torch(*case).argmax(1, keepdim=True)
     == torch.arange(len(case[1])), None),
    ("responsibility", lambda x, w, m, p: shares_of_torch(x, torch.ones_like(w) / len(w), m, p),
     "weights forgotten"),
    ("responsibility", lambda x, w, m, p: shares_of_torch(x, w, m, torch.linalg.inv(p)),
     "covariance for precision"),
    ("responsibility", lambda *case: shares_of_torch(*case).log(), "logarithms returned"),
    ("responsibility", lambda *case: shares_of_torch(*case).mean(0), "one mean share for all"),
    ("posterior", posterior_with_labels_in_mind, "points counted, not shares"),
    ("posterior", posterior_in_the_wrong_order, "the pull from the new mean"),
    ("posterior", posterior_with_naive_mean, "an empty component"),
    ("kl_bounds", bounds_of_the_nearest, "conditioned on the nearest"),
    ("kl_bounds", bounds_without_log_domain, "densities underflow"),
    ("kl_bounds", lambda *case: bounds_of_torch(*case)[::-1], "above and below exchanged"),
    ("kl_bounds", lambda *case: [bound.mean() for bound in bounds_of_torch(*case)], "a mean over the batch"),
]


@pytest.mark.parametrize("name, answer, misconception", SEEN_IN_CLASS)
def test_answers_as_readers_write_them_are_recognised(name, answer, misconception):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert not verdict.passed and verdict.misconception == misconception, verdict


TWO_SLIPS = [      # the first part that is wrong is named
    ("posterior", lambda x, r, kappa, m, scale, nu: (kappa, (m + x.mean(0)) / 3, scale, nu),
     "kappa_k", "κ unchanged", "none of them"),
    ("posterior", lambda x, r, kappa, m, scale, nu: (
        kappa + r.sum(), posterior_of_numpy(x, r, kappa, m, scale, nu)[1], scale + 7, nu + r.sum() + 1),
     "nu_k", "one degree too many", "`kappa_k`, `mean_k`"),
    ("posterior", lambda x, r, kappa, m, scale, nu: (kappa + r.sum() + 0.5, m, scale - 9, nu + r.sum() + 0.5),
     "mean_k", "the prior's mean alone", "none of them"),
    ("kl_bounds", lambda c, ell, w, m, v: (bounds_of_torch(c, ell, torch.ones_like(w), m, v)[0],
                                           bounds_of_torch(c, 2 * ell, w, m, v)[1]),
     "above", "weights forgotten", "none of them"),
]


@pytest.mark.parametrize("name, answer, part, misconception, right", TWO_SLIPS)
def test_of_several_slips_the_first_part_that_is_known_is_named(name, answer, part, misconception, right):
    verdict = getattr(check, name)(answer)
    assert not verdict.passed and verdict.misconception == misconception and verdict.points == 0, verdict
    assert f"look at `{part}` first" in verdict.message
    assert f"Right on all cases: {right}." in verdict.notes


# --- wrong answers that are on no list ----------------------------------------------------------------------

def changes_its_argument(x, weights, means, precisions):
    x -= means[0]
    return torch.ones(len(x), len(weights)) / len(weights)


UNLISTED = [      # what the verdict says beside "not yet"
    ("responsibility", lambda *case: 3 * shares_of_torch(*case), "between 0 and 1"),
    ("responsibility", lambda *case: 0.5 * shares_of_torch(*case), "each row adds to 1"),
    ("responsibility", lambda *case: shares_of_torch(*case).T.contiguous(), "shape"),
    ("responsibility", changes_its_argument, "changed its argument `x` in place"),
    ("responsibility", lambda x, w, m, p: (x - m) @ p, "stopped with an error"),
    ("responsibility", lambda *case: shares_of_torch(*case) > 0.5, "True or False"),
    ("posterior", lambda *case: posterior_of_numpy(*case)[:3], "4 things are asked for"),
    ("posterior", lambda *case: [2 * part for part in posterior_of_numpy(*case)], "grows by as much as"),
    ("posterior", lambda x, r, kappa, m, scale, nu: (kappa + r.sum(), m, scale[0], nu + r.sum()),
     "`inverse_scale_k`: Your answer has shape"),
    ("posterior", lambda x, r, kappa, m, scale, nu: (kappa + 2, m + 1, scale - 9, nu + 2), "trace"),
    ("kl_bounds", lambda *case: bounds_of_torch(*case)[0], "2 things are asked for"),
    ("kl_bounds", lambda *case: (bounds_of_torch(*case)[0], torch.cat([bounds_of_torch(*case)[1], case[2]])),
     "`below`: Your answer has shape"),
    ("kl_bounds", lambda *case: [bound - 50 for bound in bounds_of_torch(*case)], "never negative"),
    ("kl_bounds", lambda *case: (lambda a, b: (a, a + 1))(*bounds_of_torch(*case)), "never below"),
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


@EACH
def test_numbers_that_are_none_are_named(exercise):
    def nowhere(*case):
        found = exercise.solution(*case)
        return math.nan * found if exercise is check.responsibility else [math.nan * part for part in found]

    verdict = exercise(nowhere)
    assert not verdict.passed and verdict.misconception is None and "NaN" in verdict.message, verdict


# --- the quiz -----------------------------------------------------------------------------------------------

def quiz(**other):
    """The right answer, with some panels answered otherwise: quiz(p5="healthy")."""
    return {**check.PANELS, **{int(panel[1:]): cause for panel, cause in other.items()}}


@pytest.mark.parametrize("answer", [
    check.PANELS, list(check.PANELS.values()), {str(panel): cause for panel, cause in check.PANELS.items()},
    {panel: f" {cause.upper()} " for panel, cause in reversed(check.PANELS.items())}])
def test_the_right_diagnosis_passes_in_any_writing(answer):
    verdict = check.diagnose(answer)
    assert verdict.passed and verdict.points == check.diagnose.points
    assert verdict.message == check.diagnose.when_right


def test_the_quizs_own_solution_passes_and_its_stub_is_open():
    assert check.diagnose(executed(check.diagnose.solution_source())["diagnose"]).passed
    verdict = check.diagnose(executed(check.diagnose.stub_source())["diagnose"])
    assert not verdict.passed and verdict.points == 0 and "Panel 1 is still open" in verdict.message
    assert not [cause for cause in check.PANELS.values() if cause in check.diagnose.stub_source()]


@pytest.mark.parametrize("misconception", DIAGNOSES)
def test_each_misread_panel_is_recognised_under_its_own_name(misconception):
    for mutant in misconception.mutants:
        panel, cause = mutant.split(": ")
        verdict = check.diagnose(quiz(**{f"p{panel}": cause}))
        assert not verdict.passed and verdict.misconception == misconception.name
        assert f"Panel {panel}: {misconception.says}" in verdict.message
        assert verdict.hint == misconception.hint
        assert verdict.facts == ((f"panel {panel}", f"you say: {cause}"),)
        assert verdict.points == 2.5 and verdict.message.startswith("5 of 6 panels are right.")


def test_every_wrong_choice_is_told_why_it_is_another_failure():
    one, texts = check.diagnose, {}
    for panel, right in one.right.items():
        for cause in one.causes:
            if cause != right:
                text = one.explained(panel, cause)
                assert text.startswith(f"Panel {panel}: ") and text.endswith((".", ")")) and len(text) > 60
                assert right not in text or one.known(panel, cause)
                texts.setdefault(text.partition(": ")[2], []).append((panel, cause))
    assert all(len(group) == 1 for text, group in texts.items()
               if not any(text == known.says for known in one.misconceptions))
    unlisted = [(panel, cause) for group in texts.values() for panel, cause in group
                if not one.known(panel, cause)]
    verdict = one(quiz(**{f"p{unlisted[0][0]}": unlisted[0][1]}))
    assert verdict.misconception is None and verdict.hint == one.look_first


def test_no_misread_panel_is_listed_twice_and_none_is_right():
    mutants = [mutant for one in check.diagnose.misconceptions for mutant in one.mutants]
    assert len(set(mutants)) == len(mutants)
    for mutant in mutants:
        panel, cause = mutant.split(": ")
        assert cause in check.diagnose.causes and check.PANELS[int(panel)] != cause


def test_the_quiz_is_not_solved_by_any_order_it_shows():
    """Neither the causes as they are listed, nor backwards, nor shifted, earn more than a guess would."""
    causes = list(check.diagnose.causes)
    text = " ".join(check.diagnose.statement.split())
    named = [found for found in re.findall(r'`"([^"]+)"`', text) if found in causes]
    assert set(named) == set(causes) == set(check.WOULD_SHOW) and len(named) == 7
    for order in (causes, named):
        for row in (order, order[::-1]):
            for shift in range(7):
                guess = [row[(shift + k) % 7] for k in range(6)]
                right = sum(a == b for a, b in zip(guess, check.PANELS.values()))
                assert right <= 2, guess
    assert check.diagnose(["healthy"] * 6).points == 0


@pytest.mark.parametrize("answer, words", [
    (None, "is a dictionary"), (3, "is a dictionary"), ("healthy", "is a dictionary"),
    ({1: "healthy"}, "There are 6 panels"), ({}, "none came"), (["healthy"] * 5, "is a dictionary"),
    ({**check.PANELS, 7: "healthy"}, "There are 6 panels"),
    (quiz(p3=None), "Panel 3 is still open"), (quiz(p3="..."), "Panel 3 is still open"),
    (quiz(p3="dead components"), "is none of the causes"), (quiz(p3=5), "Panel 3 is still open")])
def test_what_is_no_diagnosis_gets_a_sentence(answer, words):
    verdict = check.diagnose(answer)
    assert not verdict.passed and verdict.points == 0 and words in verdict.message, verdict


def test_several_misread_panels_are_all_told_of():
    verdict = check.diagnose(quiz(p5="healthy", p2="posterior collapse", p6="symmetric start"))
    assert verdict.message.startswith("3 of 6 panels are right. Panel 2:") and verdict.points == 1.5
    assert [note.partition(":")[0] for note in verdict.notes[:2]] == ["Panel 5", "Panel 6"]
    assert "four components" in verdict.notes[1] and "hint" in verdict.notes[2]
