"""Chapter 1's exercises: solutions pass, every misconception is a mutant recognised under its own name."""

import ast
import itertools
import math
import re

import numpy as np
import pytest
import torch

from nemlib import gibbs
from nemlib.exercises import gibbs as check
from nemlib.exercises.answers import Refusal
from nemlib.exercises.core import agree
from nemlib.exercises.derivation import Derivation
from nemlib.exercises.expressions import Evaluation, expression, read_chain

SEEDS = (1, 2, 3)
FUNCTIONS = [exercise for exercise in check.EXERCISES if not isinstance(exercise, Derivation)]
DERIVATIONS = [exercise for exercise in check.EXERCISES if isinstance(exercise, Derivation)]
EACH = pytest.mark.parametrize("exercise", check.EXERCISES, ids=lambda exercise: exercise.name)
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
    return mutant


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


def test_the_chapter_has_what_it_promises():
    assert [exercise.name for exercise in check.EXERCISES] == [
        "standard_error", "inverse_exponential", "stationary_law", "detailed_balance", "ising_conditional",
        "ising_conditional_proof", "gaussian_tau", "effective_sample_size"]
    assert len(DERIVATIONS) == 3
    named = {(exercise.name, misconception.name) for exercise in check.EXERCISES
             for misconception in exercise.misconceptions}
    assert len(named) >= 25 and len({name for _, name in named}) >= 25


@EACH
def test_the_definition_is_complete(exercise):
    assert getattr(check, exercise.name) is exercise and exercise.chapter == 1
    assert exercise.equations and all(label.startswith("eq-gibbs-") for label in exercise.equations)
    assert exercise.minutes > 0 and exercise.points > 0 and exercise.teaching_notes
    said = [*exercise.hints, *(text for m in exercise.misconceptions for text in (m.says, m.hint))]
    for text in said:      # these are shown by a kernel, where no formula is typeset
        assert text[-1] in ".?:)" and not re.search(r"[$\\]|\*\w+\*", text)
    assert exercise.statement.count("$") % 2 == 0


@EACH
@pytest.mark.parametrize("seed", [None, *SEEDS])
def test_the_solution_passes_its_own_check(exercise, seed):
    answer = executed(exercise.solution_source())[exercise.name]
    verdict = exercise(answer, **({} if seed is None else {"generator": generator(seed)}))
    assert verdict.passed and verdict.points == exercise.points, verdict


@EACH
def test_the_stub_has_the_solutions_signature_and_is_known_as_a_stub(exercise):
    stub, solution = exercise.stub_source(), exercise.solution_source()
    assert stub.startswith(exercise.signature) and solution.startswith(exercise.signature)
    verdict = exercise(executed(stub)[exercise.name])
    assert not verdict.passed and verdict.points <= exercise.points / 2
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


@pytest.mark.parametrize("exercise, misconception", MISCONCEPTIONS)
def test_each_misconception_is_recognised_under_its_own_name(exercise, misconception):
    for seed, mutant in itertools.product(SEEDS, misconception.mutants):
        verdict = exercise(mistaken(exercise, mutant), generator=generator(seed))
        assert not verdict.passed and verdict.misconception == misconception.name, (mutant, verdict)
        assert misconception.says in verdict.message and verdict.hint == misconception.hint
        facts = dict(verdict.facts)
        if verdict.rows and verdict.rows[1].finding == "has no value":
            assert list(facts) == ["instance"]
        else:      # where, both values, and they differ
            assert len(facts) == 3 and len(set(facts.values())) == 3
        if not isinstance(exercise, Derivation):
            assert verdict.points == math.floor(misconception.credit * exercise.points * 4) / 4


@EACH
@pytest.mark.parametrize("seed", SEEDS)
def test_no_two_misconceptions_are_the_same_answer(exercise, seed):
    answers = [(misconception.name, values(exercise, mutant, seed))
               for misconception in exercise.misconceptions for mutant in misconception.mutants]
    for (one, first), (other, second) in itertools.combinations(answers, 2):
        same = all(agree(a, b, 1e-4) for a, b in zip(first, second))
        assert one == other or not same, f"{one} and {other} give the same answers"


@pytest.mark.parametrize("exercise", FUNCTIONS, ids=lambda exercise: exercise.name)
def test_the_truth_keeps_the_rules_that_answers_are_held_to(exercise):
    for seed in SEEDS:
        for case in exercise.cases(generator(seed)):
            truth = torch.as_tensor(exercise.truth(*case), dtype=torch.float64)
            assert all(bool(test(truth, *case)) for _, test in exercise.must)
            assert truth.isfinite().all() and exercise.on_the_way(*case)


@pytest.mark.parametrize("exercise", FUNCTIONS, ids=lambda exercise: exercise.name)
def test_the_first_case_tells_most_misconceptions_apart_from_the_truth(exercise):
    """The smallest case is small enough to work by hand."""
    smallest = min(exercise.cases(generator(1)),
                   key=lambda case: sum(torch.as_tensor(part).numel() for part in case))
    assert all(torch.as_tensor(part).numel() <= 4 for part in smallest)


def spins_around(spins, i, j):
    padded = np.pad(spins.numpy(), 1)
    return padded[i, j + 1] + padded[i + 2, j + 1] + padded[i + 1, j] + padded[i + 1, j + 2]


def weights_of_both(spins, i, j, coupling, field):
    """By the energies of the whole grid, in numpy."""
    weights = []
    for value in (-1, 1):
        s = spins.numpy().copy()
        s[i, j] = value
        bonds = (s[1:] * s[:-1]).sum() + (s[:, 1:] * s[:, :-1]).sum()
        weights.append(np.exp(coupling * bonds + field * s.sum()))
    return weights[1] / sum(weights)


def left_null_vector(T):
    system = torch.cat([T.T - torch.eye(len(T)), torch.ones(1, len(T))])
    return torch.linalg.lstsq(system, torch.eye(len(T) + 1, dtype=T.dtype)[-1:].T).solution[:, 0]


def by_numpy(T):
    values, vectors = np.linalg.eig(T.numpy().T)
    law = np.real(vectors[:, np.argmax(np.real(values))])
    return law / law.sum()


def ess_by_numpy(chain):
    d = chain.numpy() - chain.numpy().mean()
    rho = np.correlate(d, d, "full")[len(d) - 1:] / (d @ d)
    stop = np.argmax(np.append(rho, -1) <= 0)
    return len(d) / (2 * rho[:stop].sum() - 1)


RIGHT = {
    "standard_error": [lambda s: np.std(s.numpy(), ddof=1) / np.sqrt(len(s)),
                       lambda s: float((s.var() / len(s)).sqrt()),
                       lambda s: s.float().std() / len(s)**0.5,
                       lambda s: s.std(correction=0) / (len(s) - 1)**0.5,
                       lambda s: math.sqrt(sum((v - s.mean())**2 for v in s) / (len(s) - 1) / len(s))],
    "inverse_exponential": [lambda u, rate: -torch.log(1 - u) / rate, lambda u,
                            rate: -np.log1p(-u.numpy()) / rate,
                            lambda u, rate: torch.log(1 / (1 - u)) / rate, lambda u,
                            rate: -torch.log1p(-u.float()) / rate,
                            lambda u, rate: torch.distributions.Exponential(rate).icdf(u),
                            gibbs.exponential_quantile],
    "stationary_law": [left_null_vector, by_numpy, lambda T: torch.linalg.matrix_power(T, 100)[-1],
                       gibbs.stationary_law,
                       lambda T: torch.linalg.matrix_power(T.float(), 60).mean(0).tolist()],
    "ising_conditional": [weights_of_both,
                          lambda s, i, j, J, b: 1 / (1 + math.exp(-2 * (J * spins_around(s, i, j) + b))),
                          lambda s, i, j, J, b: (1 + np.tanh(J * spins_around(s, i, j) + b)) / 2],
    "effective_sample_size": [ess_by_numpy, lambda c: torch.tensor(ess_by_numpy(c)).float()],
    "detailed_balance": [
        "= pi(x)*pi(y)/sum(pi(z) for z in states if rest(z, i) == rest(x, i))\n"
        "= pi(x)*pi(y)/sum(pi(z) for z in states if rest(z, i) == rest(y, i)) = pi(y)*T(i, y, x)",
        ["pi(x)*T(i, x, y)", "pi(y)/sum(pi(put(x, i, k)) for k in levels)*pi(x)",
         "pi(y)/sum(pi(put(y, i, k)) for k in levels)*pi(x)", "pi(y)*T(i,y,x)"]],
    "ising_conditional_proof": [
        ["1/(1 + exp(E(plus))/exp(E(minus)))", "sigmoid(E(minus) - E(plus))",
         "sigmoid(2*J*sum(s[j] for j in neighbours(i)) + 2*b)"],
        ["1/(1 + exp(E(plus) - E(minus)))", "1/(1 + exp(-2*sum(J*s[j] for j in neighbours(i)) - 2*b))"],
        ["exp(J*sum(plus[j]*plus[k] for j, k in edges) + b*sum(plus[j] for j in sites))"
         "/(exp(-E(plus)) + exp(-E(minus)))",
         "sigmoid(2*(J*sum(s[j] for j in neighbours(i)) + b))"]],
    "gaussian_tau": [
        ["sum(r**(2*abs(t)) for t in all_lags)", "2*sum(r**(2*t) for t in lags_from_0) - 1",
         "2/(1 - r**2) - 1", "(1 + r*r)/(1 - r*r)"],
        "1 + 2*sum(r**(2*t) for t in lags)\n= 1 + 2*(1/(1 - r**2) - 1)  # the series from 0, less its first\n"
        "= (1 + r**2)/(1 - r**2)"],
}


@pytest.mark.parametrize("name, answer",
                         [(name, answer) for name, answers in RIGHT.items() for answer in answers])
def test_equivalent_right_answers_pass(name, answer):
    verdict = getattr(check, name)(answer)
    assert verdict.passed, verdict


def window(chain):
    """A stopping rule of its own: nearly right."""
    rho = check._rho(chain)
    return len(chain) / (1 + 2 * float(sum(itertools.takewhile(lambda value: value > 0.05, rho.tolist()))))


UNLISTED = [      # three for each: what the verdict says beside "not yet"
    ("standard_error", lambda s: -s.std() / len(s)**0.5, "negative of the right one"),
    ("standard_error", lambda s: s.median() - 9, "an error bar is never negative"),
    ("standard_error", lambda s: s / len(s)**0.5, "one number is expected"),
    ("inverse_exponential", lambda u, rate: torch.exp(rate * u), "put into F"),
    ("inverse_exponential", lambda u, rate: math.log(1 - u) / rate, "take a whole tensor"),
    ("inverse_exponential", lambda u, rate: 1 - torch.log(1 - u) / rate, "1 more than"),
    ("stationary_law", lambda T: torch.linalg.eig(T.T)[1][:, 0], "`.real`"),
    ("stationary_law", lambda T: torch.linalg.matrix_power(T, 25)[0], "too few steps"),
    ("stationary_law", lambda T: torch.linalg.matrix_power(T, 3)[0], "gives the same law again"),
    ("stationary_law", lambda T: T.sum(0), "a law sums to 1"),
    ("ising_conditional", lambda s, i, j, J, b: s[i + 1, j] + b, "IndexError"),
    ("ising_conditional", lambda s, i, j, J, b: 2 + J * s.sum() + s[i, j], "between 0 and 1"),
    ("ising_conditional", lambda s, i, j, J, b: 0.5, "whatever the case"),
    ("effective_sample_size", window, "a wrong stopping rule"),
    ("effective_sample_size", lambda c: 0 / (0 * c.sum()), "NaN"),
    ("effective_sample_size", lambda c: c.cumsum(0), "one number is expected"),
    ("detailed_balance", ["pi(x)*T(i, x, y)", "pi(y)*T(i, y, x)"], "Show what happens in between"),
    ("detailed_balance",
     "= pi(x)*pi(y)/sum(pi(z) for z in states if rest(z, i) == rest(x, i))\n= pi(y)*T(i, y, x)",
     "1 came. Right idea"),
    ("detailed_balance", ["pi(x)*T(i, x, y)", "pi(x)*T(x, y)"], "takes 3 arguments, 2 came"),
    ("detailed_balance", ["pi(x)*T(i, x, y)", "2*pi(x)*T(i, x, y)*1", "pi(y)*T(i, y, x)"],
     "2 times that of line 1"),
    ("detailed_balance",
     ["pi(x)*T(i, x, y)", "pi(x)*T(i, x, y)*sqrt(1)", "exp(log(pi(x)*T(i, x, y)))", "pi(y)*T(i, y, x)"],
     "Write `T` out by its definition"),
    ("ising_conditional_proof", ["1/(1 + exp(E(plus) - E(minus)))"], "not yet the result in the form"),
    ("ising_conditional_proof", ["sigmoid(E(minus) - E(plus)) + J"], "compare the numbers"),
    ("ising_conditional_proof", ["sigmoid(E(s))"], "first that does not equal"),
    ("gaussian_tau", "1 + 2*sum(r^(2*t) for t in lags)", "write `**`"),
    ("gaussian_tau", "1 + 2*sum(r**(2*t) for t in lags)\n= 5/3", "special case"),
    ("gaussian_tau", "1 + 2*sum(r**(2*t) for t in lags) = 1 + 2r**2", "`*` missing"),
]


@pytest.mark.parametrize("name, answer, words", UNLISTED)
def test_an_unlisted_wrong_answer_is_told_more_than_that_it_is_wrong(name, answer, words):
    verdict = getattr(check, name)(answer)
    assert not verdict.passed and verdict.misconception is None
    assert words in f"{verdict.message} {verdict.hint}", verdict


def ess_all_lags(chain):
    n, d, tau = len(chain), chain - chain.mean(), 1.0
    for t in range(1, n):
        tau += 2 * float((d[:n - t] * d[t:]).sum() / (d * d).sum())
    return n / tau


def ess_by_means(chain):
    n, d, tau = len(chain), chain - chain.mean(), 1.0
    for t in range(1, n):
        rho = (d[:-t] * d[t:]).mean() / chain.var()
        if rho <= 0:
            break
        tau += 2 * rho
    return n / tau


def ess_added_first(chain):
    n, d, tau, t, rho = len(chain), chain - chain.mean(), 1.0, 0, 1
    while rho > 0:
        t += 1
        rho = (d[:n - t] * d[t:]).sum() / (d * d).sum()
        tau += 2 * rho
    return n / tau


def ess_by_corrcoef(chain):
    x, tau = chain.numpy(), 1.0
    for t in range(1, len(x)):
        rho = np.corrcoef(x[:-t], x[t:])[0, 1]
        if rho <= 0:
            break
        tau += 2 * rho
    return len(x) / tau


def first_eigenvector(T):
    law = torch.linalg.eig(T.T)[1][:, 0].real
    return law / law.sum()


def first_eigenvector_by_numpy(T):
    law = np.real(np.linalg.eig(T.numpy().T)[1][:, 0])
    return law / law.sum()


def by_eigh(T):
    law = torch.linalg.eigh(T)[1][:, -1]
    return law / law.sum()


SEEN_IN_CLASS = [      # answers as readers wrote them, with the name under which each is recognised
    ("effective_sample_size", ess_all_lags, "summed all lags"),
    ("effective_sample_size", ess_by_means, "divided by n − t"),
    ("effective_sample_size", ess_added_first, "added before testing"),
    ("effective_sample_size", ess_by_corrcoef, "each piece centred by its own mean"),
    ("effective_sample_size", lambda x: len(x) / (2 * check._up_to_zero(check._rho(x))), "lost lag 0"),
    ("stationary_law", by_eigh, "eigh for eig"),
    ("stationary_law", first_eigenvector, "took the first eigenvector"),
    ("stationary_law", first_eigenvector_by_numpy, "took the first eigenvector"),
    ("detailed_balance", "= pi(x)*pi(y)/sum(pi(put(x, i, k)) for k in range(1, 3))", "levels counted from 1"),
    ("gaussian_tau", "1 + 2*sum(r**(2*t) for t in lags)\n= (1+2*r**2)/(1-r**2)", "no common denominator"),
    ("ising_conditional_proof", "= exp(-(E(minus)-E(plus)))", "odds of down"),
    ("ising_conditional_proof", "= 1/(1+exp(-2*J*sum(s[j] for j in neighbours(i)) + b))",
     "the −2 multiplies the coupling only"),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name, answer, misconception", SEEN_IN_CLASS)
def test_answers_as_readers_write_them_are_recognised(name, answer, misconception):
    verdict = getattr(check, name)(answer)
    assert not verdict.passed and verdict.misconception == misconception, verdict


@EACH
def test_code_fits_the_page(exercise):
    for source in (exercise.stub_source(), exercise.solution_source(), exercise.check_source()):
        assert max(map(len, source.splitlines())) <= 82


def test_hints_and_solutions_are_at_hand():
    assert check.hint("gaussian_tau", step=3).text == check.gaussian_tau.hints[2]
    assert "std(correction=1)" in check.solution("standard_error").code


@pytest.mark.parametrize("exercise", DERIVATIONS, ids=lambda exercise: exercise.name)
def test_tables_of_symbols_name_what_the_instances_know(exercise):
    known = set(exercise.instances(generator(1))[0].symbols) | {"sigmoid"}
    named = {node.id for code, _, _ in exercise.symbols for node in ast.walk(ast.parse(code))
             if isinstance(node, ast.Name)}
    assert named <= known | {"k", "j", "a", "x", "y",
                             "i"} and "|" not in "".join(map("".join, exercise.symbols))


def test_the_sum_over_lags_is_cut_where_nothing_is_left():
    for instance in check.gaussian_tau.instances(generator(1)):
        r, last = instance.symbols["r"], instance.symbols["lags"][-1]
        assert r**(2 * (last + 1)) / (1 - r**2) < 1e-28


@pytest.mark.parametrize("exercise", DERIVATIONS, ids=lambda exercise: exercise.name)
def test_the_lines_that_the_stub_gives_away_earn_nothing(exercise):
    assert exercise(executed(exercise.stub_source())[exercise.name]).points == 0
