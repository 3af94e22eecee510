"""Chapter 7's code exercises and quiz: solutions pass, every misconception is recognised under its name."""

import ast
import itertools
import math
import re

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nemlib import gan as model
from nemlib.evaluate import fid as scores
from nemlib.exercises import gan as check
from nemlib.exercises.core import SEED, agree
from nemlib.exercises.layers import flat

SEEDS = (1, 2)
NAMES = ("losses", "penalty", "frechet", "modes")
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
    return [torch.as_tensor(mutant(*case), dtype=torch.float64).detach()
            for case in exercise.cases(generator(seed))]


# --- what every exercise keeps ------------------------------------------------------------------------------

def test_the_chapter_has_derivations_and_code_and_a_quiz():
    assert [one.name for one in check.EXERCISES] == [
        "optimal_proof", "jsd_proof", "losses", "slopes_proof", "alternating_proof", "hinge_proof", "penalty",
        "frechet", "modes", "diagnose"]


@ALL
def test_the_definition_is_complete(exercise):
    assert getattr(check, exercise.name) is exercise and exercise.chapter == 7
    assert len(exercise.misconceptions) >= 12
    assert exercise.equations and all(label.startswith("eq-gan-") for label in exercise.equations)
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
    for name, one in answers:      # only a missing graph has the right numbers
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
            assert truth.isfinite().all()
            for says, test in exercise.must:
                assert bool(test(truth, *case)), says
            assert exercise.on_the_way(*case)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_losses_are_the_models(seed):
    zero_sum, other = model.Saturating(), model.NonSaturating()
    for real, fake in check.losses.cases(generator(seed)):
        expected = flat(zero_sum.discriminator(real, fake), zero_sum.generator(fake),
                        other.generator(fake))
        torch.testing.assert_close(check.losses.truth(real, fake), expected, rtol=1e-9, atol=1e-9)
        assert -check.losses.truth(real, fake)[0] == pytest.approx(model.value(real, fake).item(), rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_penalty_is_the_models_with_the_same_shares(seed, monkeypatch):
    for logits, real, fake, share, weight in check.penalty.cases(generator(seed)):
        monkeypatch.setattr(torch, "rand", lambda *size, share=share, **more: share)
        found = model.GradientPenalty(weight).of(logits, real, fake, generator(seed))
        truth = check.penalty.truth(logits, real, fake, share, weight)
        torch.testing.assert_close(truth, found.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_critics_slope_is_what_is_written_down(seed):
    for logits, real, *_ in check.penalty.cases(generator(seed)):
        for number in range(real.shape[1]):
            step = 1e-6 * torch.eye(real.shape[1], dtype=torch.float64)[number]
            rise = (logits(real + step) - logits(real - step)) / 2e-6
            slope = check._slopes_at(logits, real)[:, number]
            torch.testing.assert_close(slope, rise, rtol=1e-6, atol=1e-6)
        assert repr(logits).startswith("w·x + (b·x)³/3")


@pytest.mark.parametrize("seed", SEEDS)
def test_the_frechet_distance_is_that_of_the_scores(seed):
    for real, generated in check.frechet.cases(generator(seed)):
        distance, floor = check.frechet.truth(real, generated).tolist()
        assert distance == pytest.approx(scores.frechet_distance(real, generated), rel=1e-8)
        half = len(real) // 2
        assert floor == pytest.approx(scores.frechet_distance(real[:half], real[half:]), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("seed", SEEDS)
def test_modes_are_counted_as_by_the_scores(seed):
    for samples, centres, deviation, reach in check.modes.cases(generator(seed)):
        found, good, ceiling = check.modes.truth(samples, centres, deviation, reach).tolist()
        counted = scores.mode_count(samples, centres, deviation, reach)
        assert (found, good) == (counted.found, pytest.approx(counted.good))
        draws = torch.randn(20_000, 2, dtype=torch.float64, generator=generator(7)).norm(dim=1)
        share = (draws < reach).double().mean().item()
        assert abs(share - ceiling) < 5 * math.sqrt(ceiling * (1 - ceiling) / 20_000)


def test_the_ceiling_of_three_deviations_is_the_books():
    assert check.modes.truth(torch.zeros(1, 2), torch.zeros(1, 2), 1.0, 3.0)[2].item() == pytest.approx(
        0.988891, abs=1e-6)


def test_the_cases_hold_what_breaks_careless_code():
    """Logits that overflow; batches of two sizes; as many rows as numbers, and not; modes out of reach."""
    levels = [check.losses.level(*case) for case in check.losses.cases(generator(1))]
    assert set(levels) == {0, 1} and {100.0, 800.0} <= {
        case[0].abs().max().item() for case in check.losses.cases(generator(1))}
    assert {len(real) == len(fake) for real, fake in check.losses.cases(generator(1))} == {True, False}
    shapes = [real.shape for _, real, *_ in check.penalty.cases(generator(1))]
    assert {rows == numbers for rows, numbers in shapes} == {True, False}
    counts = [(len(real), len(other)) for real, other in check.frechet.cases(generator(1))]
    assert {one == other for one, other in counts} == {True, False} and all(one % 2 == 0 for one, _ in counts)
    for seed in SEEDS:
        cases = list(check.modes.cases(generator(seed)))
        assert all(check.modes.truth(*case)[0] < len(case[1]) for case in cases)
        assert {case[3] for case in cases} == {2.0, 3.0, 4.0}


# --- right answers of other kinds ---------------------------------------------------------------------------

def losses_by_bce(real, fake):
    bce = F.binary_cross_entropy_with_logits
    of_real, of_fake = bce(real, torch.ones_like(real)), bce(fake, torch.zeros_like(fake))
    return of_real + of_fake, -of_fake, bce(fake, torch.ones_like(fake))


def losses_by_logsigmoid(real, fake):
    return (-F.logsigmoid(real).mean() - F.logsigmoid(-fake).mean(), F.logsigmoid(-fake).mean(),
            -F.logsigmoid(fake).mean())


def losses_by_numpy(real, fake):
    r, f = real.numpy(), fake.numpy()
    return [np.logaddexp(0, -r).mean() + np.logaddexp(0, f).mean(), -np.logaddexp(0, f).mean(),
            np.logaddexp(0, -f).mean()]


def losses_in_float32(real, fake):
    return losses_by_logsigmoid(real.float(), fake.float())


def penalty_row_by_row(logits, real, fake, share, weight):
    total = 0
    for x, g, e in zip(real, fake, share):
        point = (e * x + (1 - e) * g).detach().requires_grad_()
        slope, = torch.autograd.grad(logits(point[None])[0], point, create_graph=True)
        total = total + (slope.square().sum().sqrt() - 1)**2
    return weight * total / len(real)


def penalty_by_lerp(logits, real, fake, share, weight):
    point = torch.lerp(fake, real, share).requires_grad_(True)
    a = logits(point)
    slope = torch.autograd.grad(a, point, grad_outputs=torch.ones_like(a), create_graph=True,
                                retain_graph=True)[0]
    return (weight * (slope.flatten(1).norm(2, dim=1) - 1).pow(2)).mean()


def penalty_by_differences(logits, real, fake, share, weight, step=1e-5):
    point = share * real + (1 - share) * fake
    rises = [(logits(point + step * e) - logits(point - step * e)) / (2 * step)
             for e in torch.eye(real.shape[1], dtype=real.dtype)]
    return weight * (torch.stack(rises, 1).norm(dim=1) - 1).square().mean()


def frechet_by_scipy(real, generated):
    from scipy.linalg import sqrtm

    def distance(x, y):
        S, T = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
        root = sqrtm(S @ T)
        return np.sum((x.mean(0) - y.mean(0))**2) + np.trace(S + T - 2 * np.real(root))
    real, generated = real.numpy(), generated.numpy()
    half = len(real) // 2
    return distance(real, generated), distance(real[:half], real[half:])


def frechet_by_singular_values(real, generated):
    """The trace of the root is the sum of the singular values of X'ᵀ Y' of the centred sets' triangles."""
    def triangle(x):
        return torch.linalg.qr(x - x.mean(0), mode="r").R / (len(x) - 1)**0.5

    def distance(x, y):
        r, s = triangle(x), triangle(y)
        return ((x.mean(0) - y.mean(0)).square().sum() + r.square().sum() + s.square().sum()
                - 2 * torch.linalg.svdvals(r @ s.T).sum())
    return distance(real, generated), distance(*real.split(len(real) // 2))


def modes_by_loops(samples, centres, deviation, reach):
    hit = set()
    good = 0
    for x in samples:
        squares = ((centres - x)**2).sum(1)
        if squares.min() <= (reach * deviation)**2:
            hit.add(int(squares.argmin()))
            good += 1
    return len(hit), good / len(samples), 1 - math.exp(-0.5 * reach**2)


def modes_by_bincount(samples, centres, deviation, reach):
    distance = (samples[:, None] - centres).norm(dim=2)
    nearest = distance.argmin(1)
    good = (distance / deviation < reach).any(1)
    counts = torch.bincount(nearest[good], minlength=len(centres))
    return (counts > 0).sum(), good.float().mean(), -torch.expm1(torch.tensor(-reach**2 / 2))


RIGHT = {
    "losses": [losses_by_bce, losses_by_logsigmoid, losses_by_numpy, losses_in_float32],
    "penalty": [penalty_row_by_row, penalty_by_lerp, penalty_by_differences],
    "frechet": [frechet_by_scipy, frechet_by_singular_values,
                lambda x, y: frechet_of_eigenvalues(torch.linalg.eigvals, x, y)],
    "modes": [modes_by_loops, modes_by_bincount],
}


@pytest.mark.parametrize("name, answer",
                         [(name, answer) for name, answers in RIGHT.items() for answer in answers])
def test_equivalent_right_answers_pass(name, answer):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert verdict.passed, verdict


# --- answers as readers write them --------------------------------------------------------------------------

def losses_of_sigmoids(real, fake):
    D_real, D_fake = torch.sigmoid(real), torch.sigmoid(fake)
    return (-(torch.log(D_real).mean() + torch.log(1 - D_fake).mean()), torch.log(1 - D_fake).mean(),
            -torch.log(D_fake).mean())


def losses_of_a_tutorial(real, fake):
    """As in much public code: sigmoid and BCELoss, half of the sum."""
    bce = torch.nn.BCELoss()
    p, q = real.sigmoid(), fake.sigmoid()
    of_real, of_fake = bce(p, torch.ones_like(p)), bce(q, torch.zeros_like(q))
    return (of_real + of_fake) / 2, -of_fake, bce(q, torch.ones_like(q))


def losses_with_bce_loss(real, fake):
    half, *rest = losses_of_a_tutorial(real, fake)
    return 2 * half, *rest


def losses_all_negated(real, fake):
    D, S, N = losses_by_bce(real, fake)
    return D, -S, -N


def losses_with_two_sigmoids(real, fake):
    return losses_by_bce(real.sigmoid(), fake.sigmoid())


def penalty_with_one_share(logits, real, fake, share, weight):
    return penalty_by_lerp(logits, real, fake, share[0].expand_as(share), weight)


def penalty_of_flat_norm(logits, real, fake, share, weight):
    point = (share * real + (1 - share) * fake).requires_grad_()
    slope = torch.autograd.grad(logits(point).sum(), point, create_graph=True)[0]
    return weight * (torch.norm(slope) - 1)**2


def penalty_without_graph(logits, real, fake, share, weight):
    point = (share * real + (1 - share) * fake).requires_grad_()
    slope, = torch.autograd.grad(logits(point).sum(), point)
    return weight * ((slope.norm(dim=1) - 1)**2).mean()


def penalty_as_a_number(logits, real, fake, share, weight):
    return penalty_by_lerp(logits, real, fake, share, weight).item()


def penalty_with_backward(logits, real, fake, share, weight):
    point = (share * real + (1 - share) * fake).requires_grad_()
    logits(point).mean().backward()
    return weight * ((point.grad.norm(dim=1) - 1)**2).mean()


def penalty_with_own_chance(logits, real, fake, share, weight):
    return penalty_by_lerp(logits, real, fake, torch.rand_like(share), weight)


def frechet_of_numpy(real, generated):
    def distance(x, y):
        S, T = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
        return np.sum((x.mean(0) - y.mean(0))**2) + np.trace(S + T - 2 * np.sqrt(np.maximum(S @ T, 0)))
    real, generated = real.numpy(), generated.numpy()
    return distance(real, generated), distance(*np.split(real, 2))


def frechet_of_images(real, generated):
    def distance(x, y):
        S, T = torch.cov(x), torch.cov(y)
        roots = torch.linalg.eigvals(S @ T).real.clamp(min=0).sqrt().sum()
        return (x.mean(0) - y.mean(0)).square().sum() + S.trace() + T.trace() - 2 * roots
    return distance(real, generated), distance(*real.chunk(2))


def frechet_of_eigenvalues(eigenvalues, real, generated):
    def distance(x, y):
        S, T = torch.cov(x.T), torch.cov(y.T)
        roots = eigenvalues(S @ T).real.clamp(min=0).sqrt().sum()
        return (x.mean(0) - y.mean(0)).square().sum() + S.trace() + T.trace() - 2 * roots
    return distance(real, generated), distance(*real.chunk(2))


def frechet_with_itself(real, generated):
    D = check.frechet.solution
    return D(real, generated)[0], D(torch.cat([real, real]), generated)[1]


def modes_good(samples, centres, deviation, reach):
    return torch.cdist(samples, centres).min(1).values < reach * deviation


def modes_near_anything(samples, centres, deviation, reach):
    distance, mode = torch.cdist(samples, centres).min(1)
    return len(mode.unique()), (distance < reach * deviation).double().mean(), 1 - math.exp(-reach**2 / 2)


def modes_in_a_square(samples, centres, deviation, reach):
    mode = torch.cdist(samples, centres).argmin(1)
    good = ((samples - centres[mode]).abs() < reach * deviation).all(1)
    return len(mode[good].unique()), good.double().mean(), 1 - math.exp(-reach**2 / 2)


def modes_by_squares(samples, centres, deviation, reach):
    squares, mode = torch.cdist(samples, centres).square().min(1)
    good = squares < reach * deviation
    return len(mode[good].unique()), good.double().mean(), 1 - math.exp(-reach**2 / 2)


def modes_with_the_rule_of_the_line(samples, centres, deviation, reach):
    found, good, _ = check.modes.solution(samples, centres, deviation, reach)
    return found, good, math.erf(reach / math.sqrt(2))


SEEN_IN_CLASS = [
    ("losses", losses_of_sigmoids, "logarithm of a probability"),
    ("losses", losses_with_bce_loss, "logarithm of a probability"),
    ("losses", losses_of_a_tutorial, "half of the discriminator's loss"),
    ("losses", losses_all_negated, "the generator's sign"),
    ("losses", losses_with_two_sigmoids, "sigmoid applied twice"),
    ("losses", lambda r, f: (-losses_by_bce(r, f)[0], *losses_by_bce(r, f)[1:]), "the discriminator's sign"),
    ("losses", lambda r, f: (losses_by_bce(r, -f)[0], *losses_by_bce(r, f)[1:]),
     "one label for both batches"),
    ("penalty", penalty_with_one_share, "one share for the whole batch"),
    ("penalty", penalty_of_flat_norm, "norm over the whole batch"),
    ("penalty", penalty_without_graph, check.CUT),
    ("penalty", penalty_as_a_number, check.CUT),
    ("penalty", penalty_with_backward, "slope of the mean"),
    ("penalty", penalty_with_own_chance, check.OWN_CHANCE),
    ("penalty", lambda a, x, g, e, w: penalty_by_lerp(a, g, x, e, w), "the pair exchanged"),
    ("frechet", frechet_of_numpy, "root of each element"),
    ("frechet", frechet_of_images, "rows for columns"),
    ("frechet", frechet_with_itself, "a floor of 0"),
    ("frechet", lambda x, y: [d**0.5 for d in check.frechet.solution(x, y)], "root of the whole"),
    ("frechet", lambda x, y: frechet_of_eigenvalues(torch.linalg.eigvalsh, x, y),
     "a symmetric routine for a product"),
    ("modes", lambda s, c, d, r: (len(set(torch.cdist(s, c).argmin(1)[modes_good(s, c, d, r)])),
                                  *check.modes.solution(s, c, d, r)[1:]), "samples for modes"),
    ("modes", modes_near_anything, "any sample near a centre"),
    ("modes", modes_in_a_square, "a box for the ball"),
    ("modes", modes_by_squares, "a squared distance"),
    ("modes", modes_with_the_rule_of_the_line, "the rule of the line"),
    ("modes", lambda s, c, d, r: check.modes.solution(s, c, d**2, r), "within three variances"),
]


@pytest.mark.parametrize("name, answer, misconception", SEEN_IN_CLASS)
def test_answers_as_readers_write_them_are_recognised(name, answer, misconception):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert not verdict.passed and verdict.misconception == misconception, verdict


TWO_SLIPS = [      # the first number that is wrong is named
    ("losses", lambda r, f: (-losses_by_bce(r, f)[0], losses_by_bce(r, f)[1], -losses_by_bce(r, f)[2]),
     "discriminator", "the discriminator's sign", "`saturating`."),
    ("modes", lambda s, c, d, r: (*modes_near_anything(s, c, d, r)[:2], math.exp(-r**2 / 2)),
     "found", "any sample near a centre", "`good`."),
    ("modes", lambda s, c, d, r: (check._within_any(0, 0, s, c, r * d), check.modes.solution(s, c, d, r)[1],
                                  0.9973), "found", "not the nearest", "`good`."),
    ("modes", lambda s, c, d, r: (check.modes.solution(s, c, d, r)[0], 7.7, 0.9973),
     "ceiling", "the rule of the line", "`found`."),
    ("frechet", lambda x, y: (check.frechet.solution(x, y)[0]**0.5, 0.0), "distance", "root of the whole",
     "none of them."),
]


@pytest.mark.parametrize("name, answer, part, misconception, right", TWO_SLIPS)
def test_of_several_slips_the_first_number_that_is_wrong_is_named(name, answer, part, misconception, right):
    verdict = getattr(check, name)(answer)
    assert not verdict.passed and verdict.misconception == misconception and verdict.points == 0, verdict
    assert f"look at `{part}` first" in verdict.message
    assert f"Right on all cases: {right}" in verdict.notes


ERRORS = [      # what goes wrong, and the advice that is given
    ("penalty", lambda a, x, g, e, w: torch.autograd.grad(a(x).sum(), x)[0], "told to keep its graph"),
    ("penalty", lambda a, x, g, e, w: torch.autograd.grad(a(x.requires_grad_()), x)[0], "sum of the logits"),
    ("penalty", lambda a, x, g, e, w: torch.autograd.grad(a(x.requires_grad_()).sum(), x).norm(), "a tuple"),
    ("penalty", lambda a, x, g, e, w: torch.autograd.grad(a(x).sum(), g.requires_grad_())[0],
     "from the very tensor"),
    ("frechet", lambda x, y: (torch.linalg.cholesky(-torch.cov(x.T)).trace(), 0), "no symmetric root"),
    ("frechet", lambda x, y: (torch.linalg.eigvals(torch.cov(x.T)).sum(), 0), "answers in complex numbers"),
]


@pytest.mark.parametrize("name, answer, words", ERRORS)
def test_errors_that_belong_to_the_exercise_get_its_own_advice(name, answer, words):
    verdict = getattr(check, name)(answer)
    assert not verdict.passed and verdict.points == 0
    assert words in verdict.hint, verdict


def test_hard_logits_are_asked_only_when_ordinary_ones_are_right():
    def careless(real, fake):
        if max(real.abs().max(), fake.abs().max()) > 50:
            raise OverflowError("math range error")
        return losses_by_bce(real, fake)

    assert "OverflowError" in check.losses(careless).message
    halved = check.losses(lambda r, f: (careless(r, f)[0] / 2, *careless(r, f)[1:]))
    assert halved.misconception == "half of the discriminator's loss"


# --- wrong answers that are on no list ----------------------------------------------------------------------

def changes_its_argument(logits, real, fake, share, weight):
    fake += share * (real - fake)
    return penalty_by_lerp(logits, fake, fake, share, weight)


UNLISTED = [      # what the verdict says beside "not yet"
    ("losses", lambda r, f: [3 * one for one in losses_by_bce(r, f)], "3 times"),
    ("losses", lambda r, f: [one - 20 for one in losses_by_bce(r, f)], "never negative"),
    ("losses", lambda r, f: losses_by_bce(r, f)[0], "3 things are asked for"),
    ("losses", lambda r, f: [one[None] for one in losses_by_bce(r, f)], "shape"),
    ("penalty", lambda a, x, g, e, w: 2 * penalty_by_lerp(a, x, g, e, w), "2 times"),
    ("penalty", lambda a, x, g, e, w: penalty_by_lerp(a, x, g, e, w) - 99, "never negative"),
    ("penalty", changes_its_argument, "changed its argument `fake` in place"),
    ("penalty", lambda a, x, g, e, w: torch.autograd.grad(a(x).sum(), x)[0], "stopped with an error"),
    ("frechet", lambda x, y: check.frechet.solution(x, y)[0], "2 things are asked for"),
    ("frechet", lambda x, y: [-d for d in check.frechet.solution(x, y)], "never negative"),
    ("frechet", lambda x, y: [0.01 * d for d in check.frechet.solution(x, y)], "at least the squared"),
    ("modes", lambda s, c, d, r: (0.5, 0.5, 0.5), "a whole number"),
    ("modes", lambda s, c, d, r: (1, 1.5, 0.5), "between 0 and 1"),
    ("modes", lambda s, c, d, r: (*check.modes.solution(s, c, d, r)[:2], 0.98), "depends on the reach"),
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
        truth = math.nan * exercise.truth(*case)
        return truth if exercise is check.penalty else list(truth)

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
    quiz_, texts = check.diagnose, {}
    for panel, right in quiz_.right.items():
        for cause in quiz_.causes:
            if cause != right:
                text = quiz_.explained(panel, cause)
                assert text.startswith(f"Panel {panel}: ") and text.endswith(".") and len(text) > 60
                assert right not in text.replace("discriminator's", "") or quiz_.known(panel, cause)
                texts.setdefault(text.partition(": ")[2], []).append((panel, cause))
    assert all(len(group) == 1 for text, group in texts.items()
               if not any(text == one.says for one in quiz_.misconceptions))


def test_no_misread_panel_is_listed_twice_and_none_is_right():
    mutants = [mutant for one in check.diagnose.misconceptions for mutant in one.mutants]
    assert len(set(mutants)) == len(mutants)
    for mutant in mutants:
        panel, cause = mutant.split(": ")
        assert cause in check.diagnose.causes and check.PANELS[int(panel)] != cause


def test_the_quiz_is_not_solved_by_any_order_it_shows():
    """Neither the causes as they are listed, nor backwards, nor shifted, earn more than a guess would."""
    causes = list(check.diagnose.causes)
    named = [found for found in re.findall(r'`"([^"]+)"`', check.diagnose.statement) if found in causes]
    assert set(named) == set(causes) == set(check.WOULD_SHOW)
    for order in (causes, named):
        for row in (order, order[::-1]):
            for shift in range(7):
                guess = [row[(shift + k) % 7] for k in range(6)]
                right = sum(a == b for a, b in zip(guess, check.PANELS.values()))
                assert right <= 2, guess
    assert check.diagnose(["healthy"] * 6).points == 0


@pytest.mark.parametrize("answer, words", [
    (None, "is a dictionary"), (3, "is a dictionary"), ("collapse", "is a dictionary"),
    ({1: "collapse"}, "There are 6 panels"), ({}, "none came"), (["collapse"] * 5, "is a dictionary"),
    ({**check.PANELS, 7: "collapse"}, "There are 6 panels"),
    (quiz(p3=None), "Panel 3 is still open"), (quiz(p3="..."), "Panel 3 is still open"),
    (quiz(p3="mode colapse"), "is none of the causes"), (quiz(p3=5), "Panel 3 is still open")])
def test_what_is_no_diagnosis_gets_a_sentence(answer, words):
    verdict = check.diagnose(answer)
    assert not verdict.passed and verdict.points == 0 and words in verdict.message, verdict


def test_several_misread_panels_are_all_told_of():
    verdict = check.diagnose(quiz(p5="healthy", p2="collapse", p6="memorises"))
    assert verdict.message.startswith("3 of 6 panels are right. Panel 2:") and verdict.points == 1.5
    assert [note.partition(":")[0] for note in verdict.notes[:2]] == ["Panel 5", "Panel 6"]
    assert "swing" in verdict.notes[1] and "hint" in verdict.notes[2]
