"""Chapter 4's derivations: solutions pass, each misconception is a wrong line known under its own name."""

import ast
import itertools
import math
import re

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from nemlib import vae as model
from nemlib.exercises import vae as check
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
        "elbo_proof", "kl_proof", "score_proof", "iwae_proof"]
    assert all(len(exercise.misconceptions) >= 12 for exercise in DERIVATIONS)
    assert 6 <= len(check.EXERCISES) <= 9


@EACH
def test_the_definition_is_complete(exercise):
    assert getattr(check, exercise.name) is exercise and exercise.chapter == 4
    assert exercise.equations and all(label.startswith("eq-vae-") for label in exercise.equations)
    assert exercise.minutes > 0 and exercise.points > 0 and exercise.teaching_notes
    said = [*exercise.hints, *(text for m in exercise.misconceptions for text in (m.says, m.hint))]
    for text in said:      # these are shown by a kernel, where no formula is typeset
        assert text[-1] in ".?:)" and not re.search(r"[$\\]|\*\w+\*", text.replace("`", "")), text
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
    bound = {"z", "u", "e", "k"}
    assert named <= known | bound and known <= named | bound
    assert "|" not in "".join(map("".join, exercise.symbols))


@EACH
def test_every_instance_shows_what_it_was_made_of_and_none_is_like_another(exercise):
    shown = [instance.shown for instance in exercise.instances(generator(1))]
    assert len(set(shown)) == len(shown) and all(" = " in text for text in shown)


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

def tables(instance):
    """The three laws that an instance shows, as tensors."""
    return [torch.tensor(ast.literal_eval(re.search(rf"{name} = (\([^)]*\))", instance.shown)[1]),
                         dtype=torch.float64) for name in ("prior", "like", "q")]


@pytest.mark.parametrize("seed", SEEDS)
def test_tables_of_codes_are_laws_and_the_bound_is_below_the_evidence(seed):
    for instance in check.elbo_proof.instances(generator(seed)):
        (prior, like, q), s = tables(instance), instance.symbols
        joint = prior * like
        for law in (prior, q, joint / joint.sum()):
            assert law.sum() == pytest.approx(1, abs=1e-12) and (law > 0).all()
        for z in s["codes"]:
            assert s["joint"](z) == pytest.approx(joint[z].item(), abs=1e-15)
            assert s["post"](z) == pytest.approx((joint / joint.sum())[z].item(), abs=1e-15)
        bound, gap = (number(text, instance) for text in (check._ELBO, check._GAP))
        assert s["px"] == pytest.approx(joint.sum().item(), abs=1e-15)
        assert gap > 1e-4 and bound + gap == pytest.approx(joint.sum().log().item(), abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_sums_over_points_are_means_under_the_gaussian(seed):
    for instance in check.kl_proof.instances(generator(seed)):
        s = instance.symbols
        mean, deviation, one = torch.tensor([s["mu"], s["sigma"], 1.0], dtype=torch.float64)
        q, p = Normal(mean, deviation), Normal(0 * one, one)
        expected = kl_divergence(q, p).item()
        own = model.Gaussian(q.mean[None], q.variance.log()[None]).kl()
        assert number(check._KL_GIVEN, instance).item() == pytest.approx(expected, abs=1e-12)
        assert own.item() == pytest.approx(expected, abs=1e-12)
        for z in s["points"]:
            assert s["q"](z) == pytest.approx(q.log_prob(torch.tensor(z)).exp().item(), rel=1e-6)
            assert s["p"](z) == pytest.approx(p.log_prob(torch.tensor(z)).exp().item(), rel=1e-6)
        for k, moment in enumerate((1, s["mu"], s["mu"]**2 + s["sigma"]**2)):
            assert number(check._mean(f"z**{k}"), instance).item() == pytest.approx(moment, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_both_estimators_have_the_mean_2_mu_and_the_variances_that_draws_have(seed):
    noise = torch.randn(200_000, generator=generator(seed), dtype=torch.float64)
    for instance in check.score_proof.instances(generator(seed)):
        s = instance.symbols
        z = s["mu"] + s["sigma"] * noise
        for name, drawn in (("path", 2 * z), ("score", z**2 * (z - s["mu"]) / s["sigma"]**2)):
            assert number(check._noise_mean(f"{name}(e)"), instance).item() == pytest.approx(2 * s["mu"])
            assert abs(drawn.mean().item() - 2 * s["mu"]) < 4 * (s["variance"](s[name]) / len(z))**0.5
            squares = (drawn - 2 * s["mu"]).square()
            error = squares.std().item() / len(z)**0.5
            assert abs(squares.mean().item() - s["variance"](s[name])) < 5 * error
        for k in range(13):
            assert s["m"](k) == pytest.approx(number(check._noise_mean(f"e**{k}"), instance).item(), abs=1e-8)


@pytest.mark.parametrize("seed", SEEDS)
def test_bounds_from_one_draw_and_two_grow_towards_the_evidence(seed):
    for instance in check.iwae_proof.instances(generator(seed)):
        (prior, like, q), s = tables(instance), instance.symbols
        w = prior * like / q
        pairs = (w[:, None] + w) / 2
        assert s["L1"] == pytest.approx((q @ w.log()).item(), abs=1e-12)
        assert s["L2"] == pytest.approx((q @ pairs.log() @ q).item(), abs=1e-12)
        assert s["L1"] < s["L2"] < (prior @ like).log()


# --- right answers of other kinds ---------------------------------------------------------------------------

GIVEN = {exercise.name: read_chain(exercise.chain)[0].text for exercise in DERIVATIONS}
RESULT = {exercise.name: read_chain(exercise.chain)[-1].text for exercise in DERIVATIONS}
PAIRS = "for z in codes for u in codes"
EXPANDED = ("mu**4*e**2 + 4*mu**3*sigma*e**3 + 6*mu**2*sigma**2*e**4 + 4*mu*sigma**3*e**5 "
            "+ sigma**4*e**6")
MOMENTS = re.sub(r"e\*\*([2-6])", r"m(\1)", EXPANDED)
RIGHT = {
    "elbo_proof": [
        # the sum of q as a factor
        ["sum(q(z) for z in codes)*log(px)", "sum(q(z)*log(prior(z)*like(z)/post(z)) for z in codes)",
         RESULT["elbo_proof"]],
        "= sum(q(z)*log(px) for z in codes)\n"
        "= sum(q(z)*(log(px) + log(q(z)) - log(q(z))) + 0*q(z) for z in codes)\n"
        "= sum(q(z)*log(joint(z)/q(z)) for z in codes) - sum(q(z)*log(joint(z)/px/q(z)) for z in codes)\n"
        f"= {RESULT['elbo_proof']}",
        ["log(sum(joint(z) for z in codes))",
         "sum(q(z)*(log(joint(z)/q(z)) - log(post(z)/q(z))) for z in codes)",
         f"{check._GAP} + {check._ELBO}"]],
    "kl_proof": [
        # entropy and cross-entropy, each by itself
        "= sum(w(z)*log(q(z)) for z in points) - sum(w(z)*log(p(z)) for z in points)\n"
        "= -log(2*pi*sigma**2)/2 - sum(w(z)*(z - mu)**2 for z in points)/(2*sigma**2)"
        " + log(2*pi)/2 + sum(w(z)*z**2 for z in points)/2\n"
        "= -(1 + log(2*pi*sigma**2))/2 + (log(2*pi) + mu**2 + sigma**2)/2\n"
        "= (mu**2 + sigma**2 - 1 - log(sigma**2))/2",
        # in a standardised variable, and with log σ
        ["sum(w(z)*(-log(sigma) - ((z - mu)/sigma)**2/2 + z**2/2) for z in points)",
         "-log(sigma) - 1/2 + sum(w(z)*((z - mu) + mu)**2 for z in points)/2 + 0*mu",
         "-log(sigma) - 1/2 + (sigma**2 + mu**2)/2"],
        "= Σ(w(z)*(−log(σ²)/2 − (z − μ)²/(2*σ²) + z²/2) for z in points)\n"
        "= −log(σ²)/2 − 1/2 + Σ(w(z)*z² for z in points)/2\n= −(1 + log(σ²) − μ² − σ²)/2"],
    "score_proof": [
        # each variance by itself
        f"= {check._noise_mean('(z(e)**2*e/sigma)**2')} - (2*mu)**2"
        f" - {check._noise_mean('(2*z(e) - 2*mu)**2')}\n"
        f"= {check._noise_mean('(mu + sigma*e)**4*e**2')}/sigma**2 - 4*mu**2 - 4*sigma**2*m(2)\n"
        f"= {check._DIFFERENCE}",
        # the fourth power, term by term
        [check._SQUARES, f"{check._noise_mean(f'({EXPANDED})')}/sigma**2 - {check._PATH_SQUARE}",
         f"({MOMENTS})/sigma**2 - {check._PATH_SQUARE}",
         "11*sigma**2 + 14*mu**2 + mu**4/sigma**2"],
        ["variance(score) - 4*sigma**2",
         f"{check._noise_mean('z(e)**4*e**2')}/sigma**2 - 4*mu**2 - 4*sigma**2", check._DIFFERENCE]],
    "iwae_proof": [
        # the logarithm of the quotient with one draw, then both exchanged
        [f"{check._L2} - {check._L1}", f"sum(q(z)*q(u)*log((w(z) + w(u))/(2*w(z))) {PAIRS})",
         f"sum(q(z)*q(u)*(log((w(z) + w(u))/(2*w(z))) + log((w(z) + w(u))/(2*w(u))))/2 {PAIRS})",
         RESULT["iwae_proof"]],
        [f"L2 - sum(q(z)*q(u)*log(w(u)) {PAIRS})",
         f"sum(q(z)*q(u)*log((w(z) + w(u))/2/sqrt(w(z)*w(u))) {PAIRS})",
         RESULT["iwae_proof"]],
        # with sums inside of sums
        ["sum(q(z)*sum(q(u)*log((w(z) + w(u))/2) for u in codes) for z in codes)"
         " - sum(q(z)*sum(q(u)*log(sqrt(w(z)*w(u))) for u in codes) for z in codes)",
         f"sum(q(z)*q(u)*(log((w(z) + w(u))/2) - log(w(z)*w(u))/2) {PAIRS})", RESULT["iwae_proof"]]],
}


@pytest.mark.parametrize("name, answer",
                         [(name, answer) for name, answers in RIGHT.items() for answer in answers])
def test_equivalent_right_answers_pass(name, answer):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert verdict.passed, verdict


# --- wrong answers that are on no list ----------------------------------------------------------------------

UNLISTED = [      # what the verdict says beside "not yet"
    ("elbo_proof", [RESULT["elbo_proof"]], "at least 2 lines"),
    ("elbo_proof", ["sum(q(z)*log(px) for z in codes)", RESULT["elbo_proof"]], "1 came. One more line"),
    ("elbo_proof", ["log(sum(joint(z) for z in codes))", "log(sum(prior(z)*like(z) for z in codes))",
                    RESULT["elbo_proof"]], "where the posterior comes from"),
    ("elbo_proof", ["sum(q(z)*log(px) for z in codes)", "sum(q(z)*log(joint(z)/post(z)) for z in codes)"],
     "not yet the result"),
    ("elbo_proof", ["sum(q(z)*log(joint(5)/q(z)) for z in codes)"], "no value"),
    ("elbo_proof", ["2*log(px)"], "2 times that of line 1"),
    ("kl_proof", [RESULT["kl_proof"]], "at least 2 lines"),
    ("kl_proof", ["sum(w(z)*log(q(z)) for z in points) - sum(w(z)*log(p(z)) for z in points)",
                  "-(1 + log(2*pi*sigma**2))/2 - sum(w(z)*log(p(z)) for z in points)", RESULT["kl_proof"]],
     "Show the moments"),
    ("kl_proof", ["sum(w(z)*(z**2 - (z - mu)**2/sigma**2) for z in points)/2 - log(sigma)",
                  "(sum(w(z)*z**2 for z in points) - 1)/2 - log(sigma)"], "not yet the result"),
    ("kl_proof", [f"{RESULT['kl_proof']} + mu"], "first that does not equal"),
    ("kl_proof", ["sum(w(z)*log(q(0)/p(z)) for z in points)"], "first that does not equal"),
    ("kl_proof", ["sum(w(0)*z for z in points)"], "no value"),
    ("score_proof", [RESULT["score_proof"]], "at least 2 lines"),
    ("score_proof", [check._SQUARES, "variance(score) - 4*sigma**2", RESULT["score_proof"]],
     "where the numbers come from"),
    ("score_proof", [f"{check._noise_mean('(mu + sigma*e)**4*e**2')}/sigma**2 - 4*(mu**2 + sigma**2)",
                     check._SQUARES], "not yet the result"),
    ("score_proof", ["variance(score) - path(0)"], "first that does not equal"),
    ("score_proof", ["variance(3) - variance(path)"], "no value"),
    ("iwae_proof", [RESULT["iwae_proof"]], "at least 2 lines"),
    ("iwae_proof", ["L2 - sum(q(z)*log(w(z)) for z in codes)", f"{check._L2} - {check._L1}",
                    RESULT["iwae_proof"]], "Show the averaging"),
    ("iwae_proof", [f"{check._L2} - {check._L1}",
                    f"{check._L2} - {check._over_pairs(check._BOTH_LOGS)}"], "not yet the result"),
    ("iwae_proof", [f"{check._L2} - 0.5*{check._L1}"], "first that does not equal"),
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
    ("elbo_proof", "= log(sum(q(z)*joint(z)/q(z) for z in codes))\n"
     "= sum(q(z)*log(joint(z)/q(z)) for z in codes)",
     "the gap left out"),
    ("elbo_proof", "= sum(q(z)*log(px) for z in codes)\n= sum(q(z)*log(joint(z)*post(z)) for z in codes)",
     "Bayes as a product"),
    ("elbo_proof", "= sum(q(z)*log(like(z)) for z in codes) - sum(q(z)*log(q(z)/prior(z)) for z in codes)",
     "the gap left out"),
    ("elbo_proof", "= sum(q(z)*log(like(z)) for z in codes) - sum(q(z)*log(q(z)/prior(z)) for z in codes)"
     " - sum(q(z)*log(q(z)/post(z)) for z in codes)", "gap subtracted"),
    ("elbo_proof", "= sum(log(px) for z in codes)", "weights of the mean forgotten"),
    ("elbo_proof", "= sum(post(z)*log(joint(z)/q(z)) for z in codes)", "mean under another law"),
    ("elbo_proof", "= sum(q(z)*log(post(z)/joint(z)) for z in codes)", "Bayes upside down"),
    ("kl_proof", "= sum(w(z)*log(q(z)) for z in points) - sum(w(z)*log(p(z)) for z in points)\n"
     "= -log(2*pi*sigma**2)/2 - 1/2 + log(2*pi)/2 + mu**2/2",
     "square of the mean for the mean of the square"),
    ("kl_proof", "= -log(sigma) - 1/2 + (mu**2 + sigma)/2", "standard deviation for variance"),
    ("kl_proof", "= (1 + log(sigma**2) - mu**2 - sigma**2)/2", "sign of the divergence"),
    ("kl_proof", "= -(1 + log(sigma**2) - mu**2 - sigma**2)", "one half forgotten"),
    ("kl_proof", "= sum(w(z)*((z - mu)**2/(2*sigma**2) - z**2/2) for z in points) + log(sigma)",
     "sign of the divergence"),
    ("score_proof", f"= {check._SQUARES}\n= mu**4/sigma**2 + 18*mu**2 + 15*sigma**2 - 4*sigma**2",
     "one squared mean only"),
    ("score_proof", "= mu**4/sigma**2 + 6*mu**2 + sigma**2 - 4*mu**2 - 4*sigma**2", "moments of a Gaussian"),
    ("score_proof", "= variance(path) - variance(score)", "path minus score"),
    ("score_proof", f"= {check._SQUARES}\n= {check._noise_mean('(mu + sigma*e)**4*e**2')}"
     " - 4*(mu**2 + sigma**2)", "σ of the score lost"),
    ("iwae_proof", f"= sum(q(z)*q(u)*log(w(z) + w(u)) {PAIRS}) - {check._L1}", "one half forgotten"),
    ("iwae_proof", f"= {check._L2} - {check._L1}\n= sum(q(z)*q(u)*log((w(z) + w(u))/(2*w(z)*w(u))) {PAIRS})",
     "geometric mean without its root"),
    ("iwae_proof", f"= log(sum(q(z)*w(z) for z in codes)) - {check._L1}",
     "logarithm of the mean over all draws"),
    ("iwae_proof", f"= sum(q(z)*log((w(z) + w(u))/2) {PAIRS}) - {check._L1}",
     "second draw without its weight"),
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
