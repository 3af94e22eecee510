"""Chapter 3's exercises: solutions pass, every misconception is a wrong answer known under its own name."""

import ast
import itertools
import math
import re

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nemlib.exercises import autoencoder as check
from nemlib.exercises.answers import Refusal
from nemlib.exercises.core import agree
from nemlib.exercises.derivation import Derivation
from nemlib.exercises.expressions import Evaluation, expression, read_chain
from nemlib.exercises.forms import normal_form

SEEDS = (1, 2)
DERIVATIONS = [exercise for exercise in check.EXERCISES if isinstance(exercise, Derivation)]
CODE = [exercise for exercise in check.EXERCISES if not isinstance(exercise, Derivation)]


def named(exercise):
    return exercise.name


EACH = pytest.mark.parametrize("exercise", check.EXERCISES, ids=named)
EACH_DERIVATION = pytest.mark.parametrize("exercise", DERIVATIONS, ids=named)
EACH_CODE = pytest.mark.parametrize("exercise", CODE, ids=named)


def misconceptions(exercises):
    return [pytest.param(exercise, misconception, id=f"{exercise.name}: {misconception.name}")
            for exercise in exercises for misconception in exercise.misconceptions]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def executed(source):
    scope = {"torch": torch, "math": math}
    exec(source, scope)
    return scope


def wrong_chain(exercise, mutant):
    """What a reader with this misconception hands in: a chain whose second line is wrong."""
    lines = read_chain(exercise.chain)
    return [lines[0].text, mutant, lines[-1].text]


def wrong_function(exercise, mutant):
    """The same where code is asked for; of several things, each by itself."""
    return mutant.parts if isinstance(mutant, check.Slip) else mutant


def number(mutant, instance):
    """A mutant's value as a tensor; an empty one where it has no value."""
    try:
        value = Evaluation(mutant, instance.symbols).number(expression(mutant))
    except Refusal:
        return torch.empty(0)
    return torch.tensor(value, dtype=torch.float64)


def values(exercise, mutant, seed):
    """A mutant's answers on all instances or cases, one tensor each."""
    if isinstance(exercise, Derivation):
        return [number(mutant, instance) for instance in exercise.instances(generator(seed))]
    return [torch.as_tensor(mutant(*case), dtype=torch.float64) for case in exercise.cases(generator(seed))]


# --- what every exercise keeps ------------------------------------------------------------------------------

def test_the_chapter_has_what_it_promises():
    assert [exercise.name for exercise in check.EXERCISES] == [
        "gaussian_proof", "cross_entropy_from_logits", "logit_gradient_proof", "pca_proof", "pca", "backprop",
        "denoising_loss"]
    assert len(DERIVATIONS) == 3 and all(len(exercise.misconceptions) >= 12 for exercise in check.EXERCISES)


@EACH
def test_the_definition_is_complete(exercise):
    assert getattr(check, exercise.name) is exercise and exercise.chapter == 3
    assert exercise.equations and all(label.startswith("eq-ae-") for label in exercise.equations)
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
def test_code_fits_the_page(exercise):
    for source in (exercise.stub_source(), exercise.solution_source(), exercise.check_source()):
        assert max(map(len, source.splitlines())) <= 82


@EACH
def test_hints_and_solutions_are_at_hand(exercise):
    for step in (1, 2, 3):
        assert check.hint(exercise.name, step=step).text == exercise.hints[step - 1]
    assert check.solution(exercise.name).code == exercise.solution_source().rstrip()


@EACH_CODE
def test_the_stub_has_the_solutions_signature_and_none_of_its_lines(exercise):
    stub, solution = exercise.stub_source(), exercise.solution_source()
    assert stub.startswith(exercise.signature) and solution.startswith(exercise.signature)
    verdict = exercise(executed(stub)[exercise.name])
    assert not verdict.passed and verdict.points == 0 and "still the stub" in verdict.message
    hidden = [ast.unparse(statement) for statement in ast.parse(solution).body[0].body[1:]]
    assert hidden and not [text for text in hidden if text in stub]
    assert ast.parse(exercise.check_source()) and ast.parse(exercise.grade_source())


@EACH_DERIVATION
def test_the_stub_leaves_whole_steps_open_and_earns_nothing(exercise):
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


# --- misconceptions -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("exercise, misconception", misconceptions(DERIVATIONS))
def test_each_wrong_line_is_recognised_under_its_own_name(exercise, misconception):
    for seed, mutant in [*((1, mutant) for mutant in misconception.mutants), (2, misconception.mutants[0])]:
        verdict = exercise(wrong_chain(exercise, mutant), generator=generator(seed))
        assert not verdict.passed and verdict.misconception == misconception.name, (seed, mutant, verdict)
        assert misconception.says in verdict.message and verdict.hint == misconception.hint
        facts = dict(verdict.facts)
        assert len(facts) == 3 and len(set(facts.values())) == 3      # both lines' values, and where


@pytest.mark.parametrize("exercise, misconception", misconceptions(CODE))
def test_each_wrong_function_is_recognised_under_its_own_name(exercise, misconception):
    mutants = misconception.mutants
    for seed, mutant in [*((None, mutant) for mutant in mutants), (1, mutants[0])]:
        chance = {} if seed is None else {"generator": generator(seed)}
        verdict = exercise(wrong_function(exercise, mutant), **chance)
        assert verdict.misconception == misconception.name and not verdict.passed, (seed, mutant, verdict)
        assert misconception.says in verdict.message and verdict.hint == misconception.hint
        facts = dict(verdict.facts)
        assert len(facts) == 3 and len(set(facts.values())) == 3      # where, both values, and they differ
        assert verdict.points == math.floor(misconception.credit * exercise.points * 4) / 4


@EACH
def test_no_two_misconceptions_are_the_same_answer_and_none_is_right(exercise, seed=1):
    answers = [(misconception.name, values(exercise, mutant, seed))
               for misconception in exercise.misconceptions for mutant in misconception.mutants]
    right = values(exercise, exercise.truth if exercise in CODE else read_chain(exercise.chain)[0].text, seed)
    for name, found in answers:
        assert not all(agree(a, b, 1e-4) for a, b in zip(found, right)), name
    for (one, first), (other, second) in itertools.combinations(answers, 2):
        if one != other:
            same = all(agree(a, b, 1e-4) for a, b in zip(first, second))
            assert not same, f"{one} and {other} give the same answers"


# --- derivations --------------------------------------------------------------------------------------------

@EACH_DERIVATION
def test_tables_of_symbols_name_what_the_instances_know(exercise):
    known = set(exercise.instances(generator(1))[0].symbols)
    inside = {node.id for code, _, _ in exercise.symbols for node in ast.walk(ast.parse(code))
              if isinstance(node, ast.Name)}
    assert inside - {"i", "j", "n"} == known
    assert "|" not in "".join(map("".join, exercise.symbols))


@EACH_DERIVATION
def test_every_instance_shows_all_that_it_was_made_of(exercise):
    shown = [instance.shown for instance in exercise.instances(generator(1))]
    assert len(set(shown)) == len(shown) and all(text.startswith("x = ") for text in shown)


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


@EACH_DERIVATION
def test_right_lines_before_the_first_wrong_one_earn_part_of_the_points(exercise):
    lines = [line.text for line in read_chain(exercise.chain)]
    verdict = exercise([*lines[:3], exercise.misconceptions[0].mutants[0]])
    assert 0 < verdict.points < exercise.points and verdict.misconception == exercise.misconceptions[0].name


def test_the_gaussian_instances_are_torchs_normal_law():
    for instance in check.gaussian_proof.instances(generator(1)):
        s = instance.symbols
        x, xhat = (torch.tensor(s[name], dtype=torch.float64) for name in ("x", "xhat"))
        expected = -torch.distributions.Normal(xhat, s["s"]).log_prob(x).sum()
        given = read_chain(check.gaussian_proof.chain)[0].text
        assert number(given, instance) == pytest.approx(float(expected))
        # the best variance is the mean squared error: every other one costs more
        at_best = -torch.distributions.Normal(xhat, math.sqrt(s["mse"])).log_prob(x).sum()
        assert number(check._BEST, instance) == pytest.approx(float(at_best)) and expected > at_best


def test_the_given_slopes_are_those_of_autograd():
    for instance in check.logit_gradient_proof.instances(generator(1)):
        s = instance.symbols
        a = torch.tensor(s["a"], dtype=torch.float64, requires_grad=True)
        loss = F.binary_cross_entropy_with_logits(a, torch.tensor(s["x"], dtype=torch.float64))
        assert s["dloss"] == pytest.approx(float(torch.autograd.grad(loss, a)[0]), abs=1e-12)
        assert s["dxhat"] == pytest.approx(float(torch.autograd.grad(a.sigmoid(), a)[0]), abs=1e-12)
        assert s["xhat"] == pytest.approx(float(a.detach().sigmoid()), abs=1e-12)
        assert s["softplus"](s["a"]) == pytest.approx(float(F.softplus(a.detach())), abs=1e-12)


def test_eigenvalues_and_coordinates_are_those_of_torch():
    for seed in range(5):
        for instance in check.pca_proof.instances(generator(seed)):
            s = instance.symbols
            x, u = (torch.tensor(s[name], dtype=torch.float64) for name in ("x", "u"))
            assert x.sum(0).abs().max() == 0 and u.norm() == pytest.approx(1, abs=1e-15)
            found, vectors = torch.linalg.eigh(x.T @ x / len(x))
            assert torch.allclose(torch.tensor(s["S"], dtype=torch.float64), x.T @ x / len(x), atol=1e-12)
            assert found.tolist() == pytest.approx([s["lambda_2"], s["lambda_1"]], abs=1e-12)
            assert (u @ vectors).abs().tolist() == pytest.approx([abs(s["c2"]), abs(s["c1"])], abs=1e-12)
            assert s["z"] == pytest.approx((x @ u).tolist(), abs=1e-12)


RESULT = {exercise.name: read_chain(exercise.chain)[-1].text for exercise in DERIVATIONS}
GIVEN = {exercise.name: read_chain(exercise.chain)[0].text for exercise in DERIVATIONS}
RIGHT_CHAINS = [
    # one pixel's density inside the logarithm; s² as the book writes it
    ("gaussian_proof", "= -sum(log(exp(-(x[i] - xhat[i])²/(2*s²))/sqrt(2*π*s²)) for i in pixels)\n"
     "= sum((x[i] - xhat[i])²/(2*s²) + log(sqrt(2*π*s²)) for i in pixels)\n"
     "= D*mse/(2*s²) + D*log(sqrt(2*π*s²))\n"
     "= D/2*(1 + log(2*π*mse)) + D/2*(mse/s² - 1 - log(mse/s²))"),
    # all pixels in one exponential
    ("gaussian_proof", f"= -log((2*pi*s**2)**(-D/2)*exp(-{check._SSE}/(2*s**2)))\n"
     f"= D/2*log(2*pi*s**2) + {check._SSE}/(2*s**2)\n"
     "= D/2*(log(2*pi*mse) + log(s**2/mse)) + D/2*mse/s**2\n"
     "= D/2*log(2*pi*exp(1)*mse) + D/2*(mse/s**2 - 1 + log(s**2/mse))"),
    ("gaussian_proof", [f"{check._SSE}/(2*s**2) + D/2*log(2*pi*s**2)",
                        "D/2*(mse/s**2 + log(2*pi) + 2*log(s))",
                        "D/2*(1 + log(2*pi*mse)) + D/2*(mse/s**2 - 1 - log(mse) + 2*log(s))"]),
    # softplus
    ("logit_gradient_proof", "= exp(a)/(1 + exp(a)) - x\n= sigmoid(a) - x"),
    ("logit_gradient_proof", ["1 - 1/(1 + exp(a)) - x", "xhat - x"]),
    ("logit_gradient_proof", ["-x*dxhat/xhat + (1 - x)*dxhat/(1 - xhat)", "-x*(1 - xhat) + (1 - x)*xhat",
                              "xhat - x"]),
    ("logit_gradient_proof", ["(xhat - x)/(xhat*(1 - xhat))*dxhat", "1/(1 + exp(-a)) - x"]),
    ("logit_gradient_proof", ["-x*(1 - xhat) + (1 - x)*xhat", "xhat - x"]),
    # what is lost is the variance along the other direction, (−u_1, u_0)
    ("pca_proof", "= sum((u[0]*x[n][1] - u[1]*x[n][0])**2 for n in data)/N\n"
     "= u[0]**2*S[1][1] - 2*u[0]*u[1]*S[0][1] + u[1]**2*S[0][0]\n"
     "= lambda_1*c2**2 + lambda_2*c1**2\n= lambda_2 + (lambda_1 - lambda_2)*c2**2"),
    ("pca_proof", ["sum(sum(x[n][i]**2 for i in axes) - sum(u[i]*x[n][i] for i in axes)**2 for n in data)/N",
                   f"sum(S[i][i] for i in axes) - {check._USU}",
                   "λ1 + λ2 - λ1*c1² - λ2*c2²", "λ2 + (λ1 - λ2)*c2²"]),
    ("pca_proof", [f"{check._TRACE} - {check._ZZ}/N", f"{check._TRACE} - {check._USU}",
                   "lambda_1 - (lambda_1 - lambda_2)*c1**2"]),
]


@pytest.mark.parametrize("name, answer", RIGHT_CHAINS)
def test_equivalent_right_derivations_pass(name, answer):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert verdict.passed, verdict


UNFINISHED = [      # what the verdict says beside "not yet"
    ("gaussian_proof", [RESULT["gaussian_proof"]], "at least 2 lines"),
    ("gaussian_proof", ["-sum(log(N(x[i], xhat[i], s**2)) for i in pixels)", RESULT["gaussian_proof"]],
     "1 came. One more line"),
    ("gaussian_proof", ["-sum(log(N(x[i], xhat[i], s**2)) for i in pixels)",
                        "D/2*(mse/s**2 + log(2*pi*s**2))", RESULT["gaussian_proof"]],
     "outside every logarithm"),
    ("gaussian_proof", [f"{check._SSE}/(2*s**2) + D/2*log(2*pi*s**2)"], "not yet the result"),
    ("gaussian_proof", [f"3*({RESULT['gaussian_proof']})"], "3 times that of line 1"),
    ("logit_gradient_proof", [RESULT["logit_gradient_proof"]], "what the two logarithms become"),
    ("logit_gradient_proof", ["dloss*1", "xhat - x"], "what the two logarithms become"),
    ("logit_gradient_proof", ["exp(a)/(1 + exp(a)) - x"], "not yet the result"),
    ("logit_gradient_proof", ["y - x"], "no symbol of this name"),
    ("pca_proof", [RESULT["pca_proof"]], "at least 2 lines"),
    ("pca_proof", [f"{check._TRACE} - {check._USU}", RESULT["pca_proof"]], "1 came. One more line"),
    ("pca_proof", [f"({check._XX} - {check._ZZ})/N", "lambda_1 + lambda_2 - lambda_1*c1**2 - lambda_2*c2**2",
                   RESULT["pca_proof"]], "the covariance S stands and no picture"),
    ("pca_proof", [f"{check._TRACE} - {check._USU}"], "not yet the result"),
    ("pca_proof", [f"{check._TRACE} - {check._USU} + 1"], "1 more than"),
    ("pca_proof", ["S[2][2]"], "index 2 is not one of 0 … 1"),
]


@pytest.mark.parametrize("name, lines, words", UNFINISHED)
def test_an_unlisted_wrong_chain_is_told_more_than_that_it_is_wrong(name, lines, words):
    verdict = getattr(check, name)([GIVEN[name], *lines])
    assert not verdict.passed and verdict.misconception is None
    assert words in f"{verdict.message} {verdict.hint}", verdict


JUNK_CHAINS = [(None, "written as text"), ("", "is empty"), (3.5, "written as text"), (["…"], "still blank"),
               ("= (x", "cannot be read"), ("= 1/0", "division by zero"), (len, "written as text")]


@EACH_DERIVATION
@pytest.mark.parametrize("answer, words", JUNK_CHAINS, ids=repr)
def test_junk_for_a_derivation_is_answered_with_a_sentence(exercise, answer, words):
    verdict = exercise(answer)
    assert not verdict.passed and verdict.points == 0 and words in verdict.message, verdict


CHAINS_SEEN_IN_CLASS = [
    ("gaussian_proof", "= sum((x[i] - xhat[i])**2 for i in pixels)/(2*s**2)", "normaliser forgotten"),
    ("gaussian_proof", "= sum((x[i] - xhat[i])²/s² + log(2*π*s²) for i in pixels)/2\n"
     "= D/2*(mse/s² + log(2*π*s²))\n= D/2*(mse/s²) + log(2*π*s²)/2", "normaliser of one pixel only"),
    ("gaussian_proof", "= -sum(log(exp(-(x[i] - xhat[i])²/s²)/sqrt(2*pi*s²)) for i in pixels)",
     "half of the squared error lost"),
    ("gaussian_proof", "= -sum(log(N(x[i], xhat[i], s)) for i in pixels)", "standard deviation for variance"),
    ("gaussian_proof", "= sum(log(N(x[i], xhat[i], s²)) for i in pixels)", "the minus of −log lost"),
    ("gaussian_proof", "= -sum(log(N(x[i], xhat[i], s²)) for i in pixels)/D", "mean over the pixels"),
    ("gaussian_proof", "= -sum(log(N(x[i], xhat[i], mse)) for i in pixels)", "best s² put in for every s²"),
    ("logit_gradient_proof", "= x/xhat - (1 - x)/(1 - xhat)", None),
    ("logit_gradient_proof", "= -x/xhat + (1 - x)/(1 - xhat)", "the inner derivative is missing"),
    ("logit_gradient_proof",
     "= (-x/xhat + (1 - x)/(1 - xhat))*dxhat\n= (xhat - x)*sigmoid(a)*(1 - sigmoid(a))",
     "the slope is left in"),
    ("logit_gradient_proof", "= exp(a)/(1 + exp(a)) - x\n= x - sigmoid(a)", "sign of the error"),
    ("pca_proof", f"= {check._XX}/N - 2*{check._ZZ}/N", "the last term lost"),
    ("pca_proof", f"= {check._TRACE} + {check._USU}", "the cross term lost"),
    ("pca_proof", f"= {check._TRACE} - {check._USU}\n= lambda_1 + (lambda_2 - lambda_1)*c2²",
     "kept for lost"),
    ("pca_proof", f"= {check._TRACE} - {check._USU}\n= lambda_2", "the best u put in for every u"),
    ("pca_proof", f"= {check._TRACE} - (u[0]²*S[0][0] + u[1]²*S[1][1])", "the covariances left out"),
]


@pytest.mark.parametrize("name, answer, misconception", CHAINS_SEEN_IN_CLASS)
def test_chains_as_readers_write_them_are_recognised(name, answer, misconception):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert not verdict.passed and verdict.misconception == misconception, verdict


# --- code: the truths, computed in a third way --------------------------------------------------------------

@EACH_CODE
def test_the_truth_keeps_the_rules_that_answers_are_held_to(exercise):
    for seed in SEEDS:
        for case in exercise.cases(generator(seed)):
            truth = torch.as_tensor(exercise.truth(*case), dtype=torch.float64)
            assert all(bool(test(truth, *case)) for _, test in exercise.must)
            assert truth.isfinite().all() and exercise.on_the_way(*case)


@EACH_CODE
def test_the_smallest_case_can_be_worked_by_hand(exercise):
    smallest = min(exercise.cases(generator(1)),
                   key=lambda case: sum(torch.as_tensor(part).numel() for part in case))
    assert all(torch.as_tensor(part).numel() <= 6 for part in smallest)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_truths_are_those_of_torch(seed):
    for x, a in check.cross_entropy_from_logits.cases(generator(seed)):
        expected = F.binary_cross_entropy_with_logits(a, x, reduction="none").sum(1)
        assert torch.allclose(check.cross_entropy_from_logits.truth(x, a), expected, atol=1e-12)
    for x, W1, W2 in check.backprop.cases(generator(seed)):
        one, two = (W.clone().requires_grad_(True) for W in (W1, W2))
        logits = (x @ one.T).sigmoid() @ two.T
        loss = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        expected = check.flat(*torch.autograd.grad(loss, (one, two)))
        assert torch.allclose(check.backprop.truth(x, W1, W2), expected, atol=1e-12)
    for x, uniforms, share, W, b in check.denoising_loss.cases(generator(seed)):
        layer = torch.nn.Linear(*W.shape, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(W)
            layer.bias.copy_(b)
            logits = layer(x.masked_fill(uniforms < share, 0.0))
        expected = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        assert torch.allclose(check.denoising_loss.truth(x, uniforms, share, W, b), expected, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_components_are_the_best_projection_and_lose_the_other_eigenvalues(seed):
    for x, latent in check.pca.cases(generator(seed)):
        C, mean, pictures = check._pca_parts(check.pca.truth(x, latent), x, latent)
        found = torch.linalg.eigvalsh((x - mean).T @ (x - mean) / len(x))
        lost = (x - pictures).square().sum(1).mean()
        assert lost == pytest.approx(float(found[:-latent].sum()), abs=1e-10)
        s = torch.linalg.svdvals(x - x.mean(0))
        assert (C.T @ (x - mean).T @ (x - mean) @ C - torch.diag(s[:latent]**2)).abs().max() < 1e-9
        assert torch.allclose(mean, x.mean(0), atol=1e-12)


def test_the_cases_hold_what_tells_slips_apart():
    logits = list(check.cross_entropy_from_logits.cases(generator(1)))
    assert logits[-1][1].abs().max() == 800 and logits[-1][1].exp().isinf().any()
    assert any(((x > 0) & (x < 1)).any() for x, _ in logits)
    sizes = {W1.shape[0] - W1.shape[1] for _, W1, _ in check.backprop.cases(generator(1))}
    assert min(sizes) < 0 < max(sizes) and 0 in sizes      # a bottleneck, one size, over-complete
    for x, latent in check.pca.cases(generator(3)):
        assert latent < x.shape[1] < len(x) and x.mean() > 0.3
    for x, uniforms, share, _, _ in check.denoising_loss.cases(generator(3)):
        masked = uniforms < share
        assert masked.any() and not masked.all() and (x[masked] > 0).any()


# --- right answers of other kinds ---------------------------------------------------------------------------

def cross_entropy_by_loops(x, a):
    return [sum(float(np.logaddexp(0, float(logit))) - float(value) * float(logit)
                for value, logit in zip(*pair)) for pair in zip(x, a)]


def pca_by_svd(x, latent):
    mean = x.mean(dim=0)
    U, s, Vh = torch.linalg.svd(x - mean, full_matrices=False)
    return Vh[:latent].T, mean, mean + U[:, :latent] @ torch.diag(s[:latent]) @ Vh[:latent]


def pca_by_numpy(x, latent):
    x = x.numpy()
    found, vectors = np.linalg.eigh(np.cov(x, rowvar=False))
    C = vectors[:, np.argsort(found)[::-1][:latent]]
    return -C, x.mean(0), x.mean(0) + (x - x.mean(0)) @ C @ C.T


def pca_by_power(x, latent):
    """The leading eigenvectors one after the other, by squaring the covariance many times."""
    mean = x.mean(0)
    S = (x - mean).T @ (x - mean)
    columns = []
    for _ in range(latent):
        power = S
        for _ in range(30):
            power = power @ power
            power = power / power.norm()
        u = power[:, power.norm(dim=0).argmax()]
        columns.append(u / u.norm())
        S = S - (u @ S @ u / (u @ u)) * torch.outer(columns[-1], columns[-1])
    C = torch.stack(columns, 1)
    return C, mean, mean + ((x - mean) @ C) @ C.T


def pca_in_float32(x, latent):
    return [part.float() for part in pca_by_svd(x, latent)]


def backprop_by_einsum(x, W1, W2):
    h = torch.einsum("nd,ld->nl", x, W1).sigmoid()
    error = torch.einsum("nl,dl->nd", h, W2).sigmoid() - x
    back = torch.einsum("nd,dl->nl", error, W2) * h * (1 - h)
    return torch.einsum("nl,nd->ld", back, x) / len(x), torch.einsum("nd,nl->dl", error, h) / len(x)


def backprop_picture_by_picture(x, W1, W2):
    dW1, dW2 = torch.zeros_like(W1), torch.zeros_like(W2)
    for picture in x:
        h = torch.sigmoid(W1 @ picture)
        delta2 = torch.sigmoid(W2 @ h) - picture
        delta1 = (W2.T @ delta2) * (h - h.square())
        dW1 += torch.outer(delta1, picture) / len(x)
        dW2 += torch.outer(delta2, h) / len(x)
    return dW1, dW2


def backprop_by_autograd(x, W1, W2):
    one, two = (W.clone().requires_grad_(True) for W in (W1, W2))
    a = F.linear(torch.sigmoid(F.linear(x, one)), two)
    return torch.autograd.grad(F.binary_cross_entropy_with_logits(a, x, reduction="sum") / len(x), (one, two))


def denoising_by_product(x, uniforms, share, W, b):
    seen = x * (uniforms >= share).double()
    return F.binary_cross_entropy_with_logits(F.linear(seen, W, b), x, reduction="none").sum(dim=1)


def denoising_in_place(x, uniforms, share, W, b):
    seen = x.clone()
    seen[uniforms < share] = 0
    a = (W @ seen.T + b[:, None]).T
    return -(x * F.logsigmoid(a) + (1 - x) * F.logsigmoid(-a)).sum(1)


RIGHT = {
    "cross_entropy_from_logits": [
        lambda x, a: F.binary_cross_entropy_with_logits(a, x, reduction="none").sum(1),
        lambda x, a: -(x * F.logsigmoid(a) + (1 - x) * F.logsigmoid(-a)).sum(-1),
        lambda x, a: (a.clamp(min=0) - x * a + torch.log1p(torch.exp(-a.abs()))).sum(1),
        lambda x, a: (F.softplus(a.float()) - x.float() * a.float()).sum(1),
        lambda x, a: -torch.distributions.Bernoulli(logits=a, validate_args=False).log_prob(x).sum(1),
        lambda x, a: (np.logaddexp(0, a.numpy()) - x.numpy() * a.numpy()).sum(1), cross_entropy_by_loops],
    "pca": [pca_by_svd, pca_by_numpy, pca_by_power, pca_in_float32],
    "backprop": [backprop_by_einsum, backprop_picture_by_picture, backprop_by_autograd,
                 lambda *case: [part.float() for part in backprop_by_einsum(*case)]],
    "denoising_loss": [denoising_by_product, denoising_in_place,
                       lambda x, u, share, W, b: denoising_in_place(
                           x.float(), u, share, W.float(), b.float())],
}


@pytest.mark.parametrize("name, answer",
                         [(name, answer) for name, answers in RIGHT.items() for answer in answers])
def test_equivalent_right_answers_pass(name, answer):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert verdict.passed, verdict


def test_the_signs_of_components_are_free_and_nothing_else_is():
    def turned(signs):
        return lambda x, latent: (pca_by_svd(x, latent)[0] * torch.tensor(signs)[:latent],
                                  *pca_by_svd(x, latent)[1:])

    assert all(check.pca(turned(signs)).passed for signs in itertools.product((1.0, -1.0), repeat=3))
    verdict = check.pca(lambda x, latent: (pca_by_svd(x, latent)[0].abs(), *pca_by_svd(x, latent)[1:]))
    assert not verdict.passed and verdict.misconception is None


# --- answers as readers write them --------------------------------------------------------------------------

def pca_rows_first(x, latent):
    C, mean, pictures = pca_by_svd(x, latent)
    return C.T, mean, pictures


def pca_uncentred(x, latent):
    found, vectors = torch.linalg.eigh(x.T @ x)
    C = vectors.flip(1)[:, :latent]
    return C, x.mean(0), x @ C @ C.T


def pca_first_of_eigh(x, latent):
    mean = x.mean(0)
    C = torch.linalg.eigh((x - mean).T @ (x - mean))[1][:, :latent]
    return C, mean, (x - mean) @ C @ C.T + mean


def pca_columns_of_vh(x, latent):
    mean = x.mean(0)
    C = torch.linalg.svd(x - mean)[2][:, :latent]
    return C, mean, (x - mean) @ C @ C.T + mean


def pca_forgot_s(x, latent):
    mean = x.mean(0)
    U, s, Vh = torch.linalg.svd(x - mean, full_matrices=False)
    return Vh[:latent].T, mean, U[:, :latent] @ Vh[:latent] + mean


def pca_of_scikit_scaled(x, latent):
    z = (x - x.mean(0)) / x.std(0)
    C = pca_by_svd(z, latent)[0]
    return C, x.mean(0), (z @ C @ C.T) * x.std(0) + x.mean(0)


def backprop_without_slope(x, W1, W2):
    h = torch.sigmoid(x @ W1.T)
    d2 = (torch.sigmoid(h @ W2.T) - x) / len(x)
    return (d2 @ W2).T @ x, d2.T @ h


def backprop_wrong_way(x, W1, W2):
    h = torch.sigmoid(x @ W1.T)
    d2 = (torch.sigmoid(h @ W2.T) - x) / len(x)
    return ((d2 @ W2.T) * h * (1 - h)).T @ x, d2.T @ h


def backprop_transposed(x, W1, W2):
    h = torch.sigmoid(x @ W1.T)
    d2 = (torch.sigmoid(h @ W2.T) - x) / len(x)
    return x.T @ (d2 @ W2 * h * (1 - h)), h.T @ d2


def backprop_of_mean_squares(x, W1, W2):
    one, two = (W.clone().requires_grad_(True) for W in (W1, W2))
    loss = (((x @ one.T).sigmoid() @ two.T).sigmoid() - x).square().sum(1).mean()
    return torch.autograd.grad(loss, (one, two))


def backprop_of_mean_over_everything(x, W1, W2):
    one, two = (W.clone().requires_grad_(True) for W in (W1, W2))
    loss = F.binary_cross_entropy_with_logits((x @ one.T).sigmoid() @ two.T, x)
    return torch.autograd.grad(loss, (one, two))


def backprop_summed(x, W1, W2):
    return [len(x) * part for part in backprop_by_einsum(x, W1, W2)]


def denoising_own_noise(x, uniforms, share, W, b):
    return denoising_by_product(x, torch.rand_like(x), share, W, b)


def denoising_by_dropout(x, uniforms, share, W, b):
    return denoising_by_product(x, uniforms, share, W / (1 - share), b)


def with_logits(a, x):
    return F.binary_cross_entropy_with_logits(a, x, reduction="none")


SEEN_IN_CLASS = [
    ("cross_entropy_from_logits", lambda x, a: F.binary_cross_entropy_with_logits(a, x),
     "one number for the batch"),
    ("cross_entropy_from_logits", lambda x, a: F.binary_cross_entropy(a, x, reduction="none").sum(1),
     check.UNSQUASHED),
    ("cross_entropy_from_logits",
     lambda x, a: F.binary_cross_entropy(a.sigmoid(), x, reduction="none").sum(1), "logarithms cut off"),
    ("cross_entropy_from_logits", lambda x, a: -(x * torch.sigmoid(a).log()
                                                 + (1 - x) * (1 - torch.sigmoid(a)).log()).sum(1),
     "0 · log 0, and log 0"),
    ("cross_entropy_from_logits", lambda x, a: (torch.log(1 + torch.exp(a)) - x * a).sum(1),
     "e^a that overflows"),
    ("cross_entropy_from_logits", lambda x, a: with_logits(a.sigmoid(), x).sum(1), "sigmoid twice"),
    ("cross_entropy_from_logits", lambda x, a: with_logits(x, a).sum(1), "x and x̂ exchanged"),
    ("cross_entropy_from_logits", lambda x, a: F.mse_loss(a.sigmoid(), x, reduction="none").sum(1),
     "squared error"),
    ("cross_entropy_from_logits", lambda x, a: with_logits(a, x).mean(-1), "mean over the pixels"),
    ("pca", pca_rows_first, "components lie in rows"),
    ("pca", pca_uncentred, "not centred"),
    ("pca", pca_first_of_eigh, "the smallest eigenvalues"),
    ("pca", pca_columns_of_vh, "rows for columns"),
    ("pca", pca_forgot_s, "codes divided by their spread"),
    ("pca", pca_of_scikit_scaled, "pixels divided by their spread"),
    ("pca", lambda x, latent: (*pca_by_svd(x, latent)[:2], (x - x.mean(0)) @ pca_by_svd(x, latent)[0]),
     "codes for the reconstruction"),
    ("backprop", backprop_without_slope, "slope of the code forgotten"),
    ("backprop", backprop_wrong_way, "W2 the wrong way round"),
    ("backprop", backprop_transposed, "gradients transposed"),
    ("backprop", backprop_of_mean_squares, "slope at the output left in"),
    ("backprop", backprop_of_mean_over_everything, "mean over the pixels"),
    ("backprop", backprop_summed, "sum over the batch"),
    ("backprop", lambda *case: backprop_by_einsum(*case)[::-1], "the two exchanged"),
    ("denoising_loss", denoising_own_noise, check.OWN_CHANCE),
    ("denoising_loss", denoising_by_dropout, "kept pixels scaled"),
    ("denoising_loss", lambda x, u, share, W, b: denoising_by_product(x, u[0], share, W, b),
     "one mask for all pictures"),
    ("denoising_loss", lambda x, u, share, W, b: F.binary_cross_entropy(
        F.linear(x * (u >= share), W, b), x, reduction="none").sum(1), check.UNSQUASHED),
    ("denoising_loss", lambda x, u, share, W, b: denoising_by_product(x * (u >= share), 0 * u + 1, 0, W, b),
     "compared with the corrupted picture"),
]


@pytest.mark.parametrize("name, answer, misconception", SEEN_IN_CLASS)
def test_answers_as_readers_write_them_are_recognised(name, answer, misconception):
    for seed in SEEDS:
        verdict = getattr(check, name)(answer, generator=generator(seed))
        assert not verdict.passed and verdict.misconception == misconception, verdict


def test_a_slip_that_stops_the_check_is_named_with_what_stopped_it():
    verdict = check.backprop(backprop_wrong_way)
    assert "two sizes are equal" in verdict.notes[0] and "stopped with an error" in verdict.notes[0]
    verdict = check.pca(pca_rows_first)
    assert "`components`" in verdict.notes[0] and "shape (1, 2)" in verdict.notes[0]
    verdict = check.cross_entropy_from_logits(lambda x, a: F.binary_cross_entropy(a, x))
    assert "stopped with an error" in verdict.message and verdict.misconception == check.UNSQUASHED


# --- wrong answers that are on no list, and junk ------------------------------------------------------------

def changes_its_input(x, W1, W2):
    answer = backprop_by_einsum(x, W1, W2)
    W1 -= 0.1 * answer[0]
    return answer


UNLISTED = [      # what the verdict says beside "not yet"
    ("cross_entropy_from_logits", lambda x, a: 3 * F.softplus(a).sum(1) - 3 * (x * a).sum(1), "3 times"),
    ("cross_entropy_from_logits", lambda x, a: (F.softplus(a) - x * a).sum(1) + 1, "1 more than"),
    ("cross_entropy_from_logits", lambda x, a: (F.softplus(a) - x * a).sum(1, keepdim=True), "keepdim"),
    ("cross_entropy_from_logits", lambda x, a: -a.sum(1) ** 2, "never negative"),
    ("pca", lambda x, latent: pca_by_svd(x, latent)[0], "3 things are asked for"),
    ("pca", lambda x, latent: (pca_by_svd(x, latent)[0][:, 0], *pca_by_svd(x, latent)[1:]), "`components`"),
    ("pca", lambda x, latent: (pca_by_svd(x, latent)[0], x.mean(0, keepdim=True), pca_by_svd(x, latent)[2]),
     "`mean`"),
    ("pca", lambda x, latent: (torch.ones(x.shape[1], latent), x.mean(0), x), "right angles"),
    ("pca", lambda x, latent: (pca_by_svd(x, latent)[0], x.mean(0), 0 * x), "mean of the reconstructions"),
    ("backprop", lambda x, W1, W2: W1, "2 things are asked for"),
    ("backprop", lambda x, W1, W2: (W1, W2 + 9), "beyond −1 or 1"),
    ("backprop", lambda x, W1, W2: (W1 + 99, 0 * W2), "¼ at most"),
    ("backprop", changes_its_input, "changed its argument `W1` in place"),
    ("denoising_loss", lambda x, u, share, W, b: denoising_by_product(x, u, share, W, b) / 7, "times"),
    ("denoising_loss", lambda x, u, share, W, b: -W.sum() + 0 * x[:, 0], "differs on all"),
]


@pytest.mark.parametrize("name, answer, words", UNLISTED)
def test_an_unlisted_wrong_answer_is_told_more_than_that_it_is_wrong(name, answer, words):
    verdict = getattr(check, name)(answer)
    assert not verdict.passed and verdict.misconception is None
    assert words in f"{verdict.message} {verdict.hint}", verdict


def raises(*case):
    raise KeyError("no such digit")


def no_return(*case):
    case[0].sum()


def junk(exercise):
    """(an answer, what the verdict says)."""
    several = isinstance(exercise, check.ShapedExercise)

    def everywhere(value):
        """A function that gives the right answer's shapes with this value in them."""
        def answer(*case):
            right = torch.as_tensor(exercise.truth(*case), dtype=torch.float64) * 0 + value
            return exercise.parted(right, case) if several else right
        return answer

    shape = "asked for" if several else "shape"
    return [(None, "no answer yet"), (..., "no answer yet"), (3.0, "wants your function itself"),
            ("text", "wants your function itself"), (lambda: 1, "must take"), (raises, "no such digit"),
            (no_return, "`return` missing"), (lambda *case: "1", "is text"),
            (lambda *case: torch.zeros(7, 7), shape),
            (lambda *case: {}, "asked for" if several else "read as numbers"),
            (everywhere(math.nan), "NaN"), (everywhere(math.inf), "infinite"),
            (everywhere(0.25), "right angles" if exercise is check.pca else "0.25 whatever the case")]


@EACH_CODE
def test_junk_for_a_function_is_answered_with_a_sentence(exercise):
    for answer, words in junk(exercise):
        verdict = exercise(answer)
        assert not verdict.passed and verdict.points == 0 and verdict.misconception is None, (words, verdict)
        assert words in verdict.message, (words, verdict)
        assert "Traceback" not in repr(verdict) and verdict._repr_html_()


@pytest.mark.parametrize("exercise", [check.pca, check.backprop], ids=named)
def test_junk_in_one_of_several_parts_names_the_part(exercise):
    def with_last(value):
        return lambda *case: (*exercise.parted(exercise.truth(*case), case)[:-1], value)

    last = exercise.parts[-1]
    for value, words in ((torch.zeros(9), f"`{last}`"), (None, "`return` missing"),
                         (torch.tensor(0.0), f"`{last}`")):
        verdict = exercise(with_last(value))
        assert not verdict.passed and verdict.misconception is None and words in verdict.message, verdict


@pytest.mark.parametrize("exercise", [check.pca, check.backprop], ids=named)
def test_parts_are_taken_apart_as_they_were_put_together(exercise):
    case = list(exercise.cases(generator(1)))[-1]
    shapes = exercise.shapes(*case)
    row = torch.arange(float(sum(map(math.prod, shapes))))
    parts = exercise.parted(row, case)
    assert tuple(tuple(part.shape) for part in parts) == shapes
    assert torch.equal(check.flat(*parts), row.double())


def test_lines_of_each_derivation_say_something_new():
    """Each step but the multiplied-out ones differs in form from all others."""
    for exercise in DERIVATIONS:
        forms = [normal_form(line.tree) for line in read_chain(exercise.chain)]
        assert len(set(forms)) >= len(forms) - 1
