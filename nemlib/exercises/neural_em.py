"""The exercises of chapter 8, EM and Neural EM. `nemlib.exercises` tells how to add one.

No truth below comes from the model's own code: posteriors are enumerated over all hidden states, derivatives
are taken by a complex step, pairs are counted one by one.
"""

import ast
import cmath
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from nemlib.exercises.answers import Refusal, shape_sentence, show_case
from nemlib.exercises.core import FunctionExercise, Help, Trial, function_exercise, wrong
from nemlib.exercises.derivation import Derivation, Instance, Landmark
from nemlib.exercises.expressions import Line, expression
from nemlib.exercises.forms import normal_form
from nemlib.exercises.verdict import Verdict

STEP = 1e-30      # of the complex step: a derivative exact to rounding, since nothing is subtracted


@dataclass(frozen=True)
class Working(Landmark):
    """A line of work: neither end of the chain rearranged, unless it still holds terms to be collected.

    given, result: the two ends. A line that only expands the result counts if it is half as long again.
    """

    given: str = ""
    result: str = ""

    def seen_in(self, line: Line) -> bool:
        end, form = expression(self.result), normal_form(line.tree)
        if not super().seen_in(line) or form == normal_form(expression(self.given)):
            return False
        return form != normal_form(end) or _names(line.tree) > 1.5 * _names(end)


@dataclass(frozen=True)
class OutsideLogs(Landmark):
    """A line that uses some names and has none of them inside a logarithm."""

    def seen_in(self, line: Line) -> bool:
        inside = {name.id for call in ast.walk(line.tree)
                  if isinstance(call, ast.Call) and call.func.id == "log"
                  for name in ast.walk(call) if isinstance(name, ast.Name)}
        return super().seen_in(line) and not self.uses & inside


def _names(tree: ast.expr) -> int:
    """How often names stand in an expression."""
    return sum(isinstance(node, ast.Name) for node in ast.walk(tree))


def _slope(function: Callable[[complex], complex], at: float) -> float:
    """The derivative of an analytic function at a real number, by a complex step."""
    return function(complex(at, STEP)).imag / STEP


def _tenths(generator: torch.Generator, *shape: int, low: int = 1, high: int = 9) -> list:
    """Random tenths from low/10 to high/10, as nested lists."""
    return (torch.randint(low, high + 1, shape, generator=generator).to(torch.float64) / 10).tolist()


def _binary(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randint(2, shape, generator=generator).to(torch.float64)


# --- the gap of the bound (derivation) ----------------------------------------------------------------------

def _posteriors(generator: torch.Generator) -> list[Instance]:
    return [_posterior_instance(count, generator) for count in (2, 2, 3, 4, 5)]


def _posterior_instance(count: int, generator: torch.Generator) -> Instance:
    """A latent z of `count` values: prior and q with whole weights, likelihoods in tenths, p(x) summed."""
    states = tuple(range(count))
    drawn = [torch.randint(1, 10, (count,), generator=generator).tolist() for _ in range(3)]
    prior, likelihood, q = (dict(zip(states, weights)) for weights in drawn)
    prior = {z: weight / sum(drawn[0]) for z, weight in prior.items()}
    likelihood = {z: weight / 10 for z, weight in likelihood.items()}
    q = {z: weight / sum(drawn[2]) for z, weight in q.items()}
    joint = {z: prior[z] * likelihood[z] for z in states}
    evidence = math.fsum(joint.values())
    laws = {"prior": prior, "likelihood": likelihood, "joint": joint, "q": q,
            "posterior": {z: joint[z] / evidence for z in states}}
    listed = [", ".join(map(str, weights)) for weights in drawn]
    shown = (f"p(z) = ({listed[0]})/{sum(drawn[0])}, p(x|z) = ({listed[1]})/10, q(z) = ({listed[2]})/"
             f"{sum(drawn[2])}")
    return Instance(shown, {**{name: law.__getitem__ for name, law in laws.items()},
                            "evidence": evidence, "states": states})


def _sum_over(term: str) -> str:
    return f"sum(q(z)*{term} for z in states)"


_BOUND, _BOUND_APART = _sum_over("log(joint(z)/q(z))"), _sum_over("(log(joint(z)) - log(q(z)))")
_GAP, _GAP_APART = _sum_over("log(q(z)/posterior(z))"), _sum_over("(log(q(z)) - log(posterior(z)))")
_GAP_TURNED = _sum_over("log(posterior(z)/q(z))")

gap_proof = Derivation(
    name="gap_proof", title="What the bound leaves out", chapter=8, difficulty=1, minutes=12, points=3,
    equations=("eq-nem-bound", "eq-nem-gap"),
    statement="""
        Jensen's inequality says that $\\mathcal L(q) = \\sum_z q(z) \\log \\frac{p(x, z)}{q(z)}$ is at most
        $\\log p(x)$. By how much does it fall short? Show, for any law $q$ that is nowhere zero,
        and for $p(x, z) > 0$, that

        $$\\log p(x) = \\sum_z q(z) \\log \\frac{p(x, z)}{q(z)}
        + \\sum_z q(z) \\log \\frac{q(z)}{p(z \\mid x)}$$

        The second sum is $\\mathrm{KL}(q \\,\\|\\, p(z \\mid x))$: never negative, and zero where $q$ is the
        posterior, which is why the E-step takes that. Fill in the lines marked `...`, or write a chain of
        your own.""",
    symbols=(("evidence", "p(x)", "probability of the data"),
             ("joint(z)", "p(x, z)", "joint probability, `prior(z)*likelihood(z)`"),
             ("prior(z), likelihood(z)", "p(z),\\; p(x \\mid z)", "its two factors"),
             ("posterior(z)", "p(z \\mid x)", "`joint(z)/evidence`"),
             ("q(z)", "q(z)", "any law over the latent variable"),
             ("states", "z = 1, …, K", "the values of $z$ (from 0 in code)")),
    chain="""
        log(evidence)
        = sum(q(z)*log(evidence) for z in states)                  # q sums to 1
        = sum(q(z)*log(joint(z)/posterior(z)) for z in states)     # Bayes
        = sum(q(z)*log(joint(z)/q(z)*q(z)/posterior(z)) for z in states)   # 1 = q/q
        = sum(q(z)*log(joint(z)/q(z)) for z in states)
          + sum(q(z)*log(q(z)/posterior(z)) for z in states)
        """,
    blanks=(2, 3, 4), least_lines=2, instances=_posteriors,
    forms=(f"{_BOUND} - {_GAP_TURNED}", f"{_BOUND} + {_GAP_APART}",
           f"{_BOUND_APART} + {_GAP}", f"{_BOUND_APART} - {_GAP_TURNED}"),
    nearly="One more line: write that q sums to 1 and Bayes' rule in two steps.",
    landmarks=(OutsideLogs("Bring q in as a weight first: a line in which q stands before a logarithm and "
                           "not inside one.", uses=frozenset({"q"})),),
    hints=("log p(x) does not depend on z: what is its mean under any law q?",
           "For every z, p(x) = p(x, z)/p(z | x). Put that under the logarithm of the mean.",
           "log(evidence) = sum(q(z)*log(evidence) …) = sum(q(z)*log(joint(z)/posterior(z)) …). Now multiply "
           "inside the log by q(z)/q(z) and let the log of a product fall apart into two sums."),
    misconceptions=(
        wrong("Jensen as an equality", _BOUND,
              says="This is the bound alone. Jensen's inequality says that it is at most log p(x); what it "
                   "leaves out is the sum that you are asked for.",
              hint="Which step moved the log inside the sum? That is where the equality was lost."),
        wrong("KL the wrong way round",
              f"{_BOUND} + sum(posterior(z)*log(posterior(z)/q(z)) for z in states)",
              f"{_BOUND} - sum(posterior(z)*log(q(z)/posterior(z)) for z in states)",
              says="Your second sum is KL(posterior ‖ q): it averages under the posterior. The gap averages "
                   "under q.",
              hint="Every sum of this derivation has the weight q(z), since you began with a mean under q."),
        wrong("sign of the KL", f"{_BOUND} - {_GAP}", f"{_BOUND} + {_GAP_TURNED}",
              says="The gap is subtracted: then the bound would lie above log p(x).",
              hint="A KL is never negative, and the bound is at most log p(x)."),
        wrong("KL to the prior", f"{_BOUND} + {_sum_over('log(q(z)/prior(z))')}",
              _sum_over("log(joint(z)/prior(z))"), _sum_over("log(likelihood(z))"),
              says="Your second sum compares q with the prior p(z). The gap compares it with the posterior "
                   "p(z | x). (KL to the prior stands elsewhere: ℒ = Σ q log p(x|z) − KL(q ‖ prior).)",
              hint="Which law over z do you divide p(x, z) by to get p(x)?"),
        wrong("Bayes upside down", _sum_over("log(posterior(z)/joint(z))"),
              says="You divided the posterior by the joint: that is 1/p(x).",
              hint="p(z | x) = p(x, z)/p(x). Free p(x)."),
        wrong("multiplied where Bayes divides", _sum_over("log(joint(z)*posterior(z))"),
              says="p(x, z) is multiplied by the posterior here. It is p(x) times the posterior that gives "
                   "p(x, z).",
              hint="p(x, z) = p(x) p(z | x). Free p(x)."),
        wrong("the posterior is lost", _sum_over("log(joint(z))"),
              says="This has p(x, z) where p(x) must stand: the posterior is not divided out. It is Q, the "
                   "expected log-joint that the M-step climbs.",
              hint="For each z, p(x) = p(x, z) over what?"),
        wrong("log of a sum as a sum of logs", "sum(log(joint(z)) for z in states)",
              "sum(log(prior(z)) + log(likelihood(z)) for z in states)",
              says="log Σ p(x, z) is not Σ log p(x, z): a log turns products into sums, not sums.",
              hint="Try two values of z with p(x, z) = 1/2 each: log 1 against 2 log ½."),
        wrong("not weighed by q", "sum(log(evidence) for z in states)",
              "sum(log(joint(z)/posterior(z)) for z in states)",
              says="Without its weight q(z) every z counts fully: this is K times log p(x).",
              hint="What do the weights of a mean sum to?"),
        wrong("multiplied by q without dividing", _sum_over("log(joint(z)*q(z)/posterior(z))"),
              _sum_over("log(joint(z)/(q(z)*posterior(z)))"),
              says="q was put under the log once. To leave the value alone it must stand above and below.",
              hint="Multiply by q(z)/q(z)."),
    ),
    teaching_notes="Two readers may come from two sides: one splits log p(x), the other starts from the KL "
                   "and writes p(z | x) = p(x, z)/p(x) in it. Let them see that it is one line read both "
                   "ways.")


# --- the M-step of a mixture of Bernoullis (derivation) -----------------------------------------------------

def _weighted_bits(generator: torch.Generator) -> list[Instance]:
    return [_bits_instance(count, generator) for count in (2, 3, 3, 4, 5, 6)]


def _bits_instance(count: int, generator: torch.Generator) -> Instance:
    """Data that are on and off, responsibilities and a mean in tenths; Q differentiated by a complex step."""
    gamma, mu = tuple(_tenths(generator, count)), _tenths(generator, 1)[0]
    x = (1, 0, *map(int, _binary(generator, count - 2).tolist()))

    def q(m: complex) -> complex:
        return sum(g * (b * cmath.log(m) + (1 - b) * cmath.log(1 - m)) for g, b in zip(gamma, x))

    symbols = {"dQ": _slope(q, mu), "gamma": gamma, "x": x, "mu": mu, "data": tuple(range(count)),
               "N_k": math.fsum(gamma)}
    return Instance(f"gamma = {gamma}, x = {x}, mu = {mu:g}", symbols)


_M_RESULT = "N_k*(sum(gamma[n]*x[n] for n in data)/N_k - mu)/(mu*(1 - mu))"

bernoulli_m_step_proof = Derivation(
    name="bernoulli_m_step_proof", title="The M-step of a mixture of Bernoullis",
    chapter=8, difficulty=2, minutes=15, points=3,
    equations=("eq-nem-bernoulli", "eq-nem-bernoulli-m-step"),
    statement="""
        With the responsibilities $\\gamma_{nk}$ held fixed, the mean $\\mu_{ki}$ of one pixel in one
        component stands in one part of the expected log-likelihood only,

        $$Q(\\mu_{ki}) = \\sum_n \\gamma_{nk} \\big[x_{ni} \\log \\mu_{ki}
        + (1 - x_{ni}) \\log(1 - \\mu_{ki})\\big]$$

        Differentiate it and bring the derivative into the form

        $$\\frac{\\partial Q}{\\partial \\mu_{ki}} = \\frac{N_k}{\\mu_{ki} (1 - \\mu_{ki})}
        \\Big(\\frac{\\sum_n \\gamma_{nk} x_{ni}}{N_k} - \\mu_{ki}\\Big),
        \\qquad N_k = \\sum_n \\gamma_{nk}$$

        from which you can read where it is zero, $\\mu_{ki} = \\sum_n \\gamma_{nk} x_{ni} / N_k$, and that it
        is positive below and negative above: the only stationary point, and a maximum. Fill in the lines
        marked `...`, or write a chain of your own.""",
    symbols=(("dQ", "\\partial Q / \\partial \\mu_{ki}", "the derivative, given as a number"),
             ("gamma[n]", "\\gamma_{nk}", "responsibility of the component for datum $n$"),
             ("x[n]", "x_{ni}", "the pixel in datum $n$, 0 or 1"), ("mu", "\\mu_{ki}", "its mean, any value"),
             ("data", "n = 1, …, N", "the data (from 0 in code)"),
             ("N_k", "N_k", "$\\sum_n \\gamma_{nk}$")),
    chain=f"""
        dQ
        = sum(gamma[n]*(x[n]/mu - (1 - x[n])/(1 - mu)) for n in data)   # derivatives
        = sum(gamma[n]*(x[n] - mu) for n in data)/(mu*(1 - mu))   # common denominator
        = (sum(gamma[n]*x[n] for n in data) - mu*N_k)/(mu*(1 - mu))     # the sum apart
        = {_M_RESULT}
        """,
    blanks=(2, 3), least_lines=1, instances=_weighted_bits,
    nearly="Differentiate first: write what the two logarithms become, before you collect terms.",
    landmarks=(Working("Show the derivative itself: a line without `dQ`, before its terms are collected.",
                       avoids=frozenset({"dQ"}), given="dQ", result=_M_RESULT),),
    hints=("γ is a constant here. What are the derivatives of log μ and of log(1 − μ)? Mind the inner one.",
           "Each datum gives γ(x/μ − (1 − x)/(1 − μ)). Bring the two fractions to the denominator μ(1 − μ): "
           "what is left of x(1 − μ) − (1 − x)μ?",
           "x(1 − μ) − (1 − x)μ = x − μ. So the derivative is Σγ(x − μ)/(μ(1 − μ)); μ does not depend on n, "
           "so Σγμ = μ N_k. Take N_k out."),
    misconceptions=(
        wrong("sign of the inner derivative",
              "sum(gamma[n]*(x[n]/mu + (1 - x[n])/(1 - mu)) for n in data)",
              says="The derivative of log(1 − μ) is −1/(1 − μ): the inner function falls as μ grows.",
              hint="Both of your terms are positive. Could such a derivative ever be zero?"),
        wrong("dropped γ", "sum(x[n]/mu - (1 - x[n])/(1 - mu) for n in data)",
              "sum(x[n] - mu for n in data)/(mu*(1 - mu))",
              says="The responsibilities are lost: every datum counts fully, as with a single component.",
              hint="Which data should pull at a component's mean, and how hard?"),
        wrong("dropped the pixels that are 0", "sum(gamma[n]*x[n]/mu for n in data)",
              "sum(gamma[n]*x[n] for n in data)/mu",
              says="Only data with x = 1 are left. A 0 is evidence as well: it pulls the mean down, by "
                   "(1 − x) log(1 − μ).",
              hint="Your derivative is positive everywhere. Where would its maximum be?"),
        wrong("not differentiated",
              "sum(gamma[n]*(x[n]*log(mu) + (1 - x[n])*log(1 - mu)) for n in data)",
              says="This is Q itself, not yet its derivative by μ.",
              hint="What is the derivative of log μ?"),
        wrong("N in place of Σγ", "(sum(gamma[n]*x[n] for n in data) - mu*len(data))/(mu*(1 - mu))",
              "len(data)*(sum(gamma[n]*x[n] for n in data)/len(data) - mu)/(mu*(1 - mu))",
              says="μ is multiplied by the number of data. Each datum brings γ of it only, together N_k. "
                   "(With N the means of all components would be far too small.)",
              hint="What is the sum of γ[n]·μ over the data?"),
        wrong("lost the denominator", "sum(gamma[n]*(x[n] - mu) for n in data)",
              "sum(gamma[n]*x[n] for n in data) - mu*N_k",
              says="The denominator μ(1 − μ) is lost. The zero is right, the derivative is not: this is the "
                   "derivative by the logit of μ.",
              hint="To which common denominator did you bring 1/μ and 1/(1 − μ)?"),
        wrong("half of the denominator", "sum(gamma[n]*(x[n] - mu) for n in data)/mu",
              "sum(gamma[n]*(x[n] - mu) for n in data)/(1 - mu)",
              says="One factor of the common denominator μ(1 − μ) is lost.",
              hint="Multiply x/μ above and below by 1 − μ, and the other fraction by μ."),
        wrong("sign of the residual", "sum(gamma[n]*(mu - x[n]) for n in data)/(mu*(1 - mu))",
              says="The sign is turned: this derivative is positive where μ is too large, so its zero would "
                   "be a minimum.",
              hint="If all x are 1, should Q rise or fall as μ grows?"),
        wrong("lost the factor in front",
              "(sum(gamma[n]*x[n] for n in data)/N_k - mu)/(mu*(1 - mu))",
              says="N_k was divided out of the bracket and not put in front of it.",
              hint="S − μN = N(S/N − μ): count the N."),
        wrong("a product of sums", "(N_k*sum(x[n] for n in data) - mu*N_k)/(mu*(1 - mu))",
              "N_k*(sum(x[n] for n in data)/len(data) - mu)/(mu*(1 - mu))",
              says="Σγx is not Σγ times Σx (or the plain mean of x): each γ weighs its own datum.",
              hint="Try two data, γ = (1, 0) and x = (0, 1). What is Σγx?"),
    ),
    teaching_notes="Ask what happens at μ = 0 and 1, where Q is −∞ unless all data agree: the formula gives "
                   "just these values then, and EM can never leave them again.")


# --- one iteration of EM for a mixture of Bernoullis --------------------------------------------------------

@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class StepExercise(FunctionExercise):
    """A function that gives back (weights, means), (K,) and (K, D); judged as one tensor, (K, 1 + D)."""

    def _read(self, value: object, truth: Tensor, arguments: Mapping[str, object]) -> Tensor:
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            if not isinstance(value, (Tensor, tuple, list, dict)):
                super()._read(value, truth, arguments)      # refuses what holds no numbers at all
            raise Refusal("Two things are asked for, the new weights and the new means: end with "
                          "`return new_weights, new_means`.")
        parts = []
        for name, part, expected in zip(("weights", "means"), value, (truth[:, 0], truth[:, 1:])):
            tensor = super()._read(part, expected, arguments)
            if tensor.shape != expected.shape:
                says = f"Of your two answers, the new {name}: {shape_sentence(tensor, expected)}"
                raise Refusal(says, (("case", show_case(dict(arguments))),))
            parts.append(tensor)
        return joined(*parts)

    def judge(self, trials: Sequence[Trial], *how: object, **more: object) -> Verdict:
        verdict = super().judge(trials, *how, **more)
        note = "Shown is one row for each component: its weight, then its means."
        return verdict if verdict.passed else replace(verdict, notes=(note, *verdict.notes))


def step_exercise(**settings: object) -> Callable[[Callable], StepExercise]:
    """Decorates a solution, as `function_exercise` does."""
    return lambda solution: StepExercise(name=solution.__name__, solution=solution, **settings)


def joined(weights: Tensor, means: Tensor) -> Tensor:
    """(K,) and (K, D) side by side, (K, 1 + D)."""
    return torch.cat([weights[:, None], means], 1)


WIDE = 1200      # pixels: a product of so many probabilities near ½ is 1e-361, which float64 holds as 0


def _mixtures(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(weights, means, x): small ones in tenths; then one so wide that products of probabilities are 0.

    In the wide one the components differ in three pixels only: neither of them takes all data.
    """
    for slots, pixels, count in ((2, 1, 2), (2, 2, 2), (2, 2, 3), (3, 2, 4), (2, 4, 5), (3, 3, 6)):
        yield (*_mixture(generator, slots, pixels), _with_both(_binary(generator, count, pixels)))
    weights, means = _mixture(generator, 2, WIDE)
    means = 0.3 + 0.4 * means
    means[1, 3:] = means[0, 3:]
    yield weights, means, _binary(generator, 3, WIDE)


def _mixture(generator: torch.Generator, slots: int, pixels: int) -> tuple[Tensor, Tensor]:
    """Unequal weights in tenths (of sum 1), means in tenths, all different within a pixel."""
    weights = {2: [3, 7], 3: [2, 5, 3]}[slots]
    levels = torch.stack([torch.randperm(9, generator=generator)[:slots] + 1 for _ in range(pixels)], 1)
    return torch.tensor(weights, dtype=torch.float64) / 10, levels.to(torch.float64) / 10


def _with_both(x: Tensor) -> Tensor:
    """The data with a first column of mixed values: the first datum is on there, the second off."""
    x[0, 0], x[1, 0] = 1.0, 0.0
    return x


def _em_by_loops(weights: Tensor, means: Tensor, x: Tensor) -> Tensor:
    """The posterior by ratios of components; the M-step by weighted counts of ones and of zeros."""
    pi, mu, data = weights.tolist(), means.tolist(), x.tolist()
    slots, pixels = range(len(pi)), range(len(mu[0]))

    def log_joint(k: int, datum: list[float]) -> float:
        chances = [mu[k][i] if datum[i] == 1 else 1 - mu[k][i] for i in pixels]
        return math.log(pi[k]) + math.fsum(map(math.log, chances))

    rows = [[log_joint(k, datum) for k in slots] for datum in data]
    gamma = [[1 / math.fsum(math.exp(other - row[k]) for other in row) for k in slots] for row in rows]
    table = []
    for k in slots:
        mine = [row[k] for row in gamma]
        on = [math.fsum(g for g, datum in zip(mine, data) if datum[i] == 1) for i in pixels]
        off = [math.fsum(g for g, datum in zip(mine, data) if datum[i] == 0) for i in pixels]
        table.append([math.fsum(mine) / len(data), *(a / (a + b) for a, b in zip(on, off))])
    return torch.tensor(table, dtype=torch.float64)


def _log_likelihood(means: Tensor, x: Tensor) -> Tensor:
    """log p(x_n | k), (N, K)."""
    return x @ means.log().T + (1 - x) @ (1 - means).log().T


def _posterior(weights: Tensor, log_likelihood: Tensor) -> Tensor:
    return torch.softmax(weights.log() + log_likelihood, 1)


def _maximised(weights: Tensor, means: Tensor, x: Tensor, gamma: Tensor) -> Tensor:
    return joined(gamma.mean(0), gamma.T @ x / gamma.sum(0)[:, None])


def _em(e_step: Callable = _posterior, m_step: Callable = _maximised,
        log_likelihood: Callable = _log_likelihood) -> tuple[Callable, ...]:
    """The mutants of a slip in one of the parts: computed in logs, and with products that underflow."""
    def in_logs(weights: Tensor, means: Tensor, x: Tensor) -> Tensor:
        return m_step(weights, means, x, e_step(weights, log_likelihood(means, x)))

    def in_products(weights: Tensor, means: Tensor, x: Tensor) -> Tensor:
        return m_step(weights, means, x, e_step(weights, log_likelihood(means, x).exp().log()))

    return in_logs, in_products


def _hard(weights: Tensor, log_likelihood: Tensor) -> Tensor:
    best = (weights.log() + log_likelihood).argmax(1)
    return one_hot(best, len(weights)).to(torch.float64)


def _logs_shared(weights: Tensor, log_likelihood: Tensor) -> Tensor:
    log_joint = weights.log() + log_likelihood
    return log_joint / log_joint.sum(1, keepdim=True)


def _new_weights_first(weights: Tensor, means: Tensor, x: Tensor, gamma: Tensor) -> Tensor:
    again = _posterior(gamma.mean(0), _log_likelihood(means, x))
    return joined(gamma.mean(0), _maximised(weights, means, x, again)[:, 1:])


def _new_means_first(weights: Tensor, means: Tensor, x: Tensor, gamma: Tensor) -> Tensor:
    moved = gamma.T @ x / gamma.sum(0)[:, None]
    on, off = moved.clamp(min=1e-300).log(), (1 - moved).clamp(min=1e-300).log()      # log 0 · 0 is 0
    again = _posterior(weights, x @ on.T + (1 - x) @ off.T)
    return joined(again.mean(0), moved)


def _weights_kept(choose: Callable[[Tensor], Tensor]) -> Callable:
    return lambda weights, means, x, gamma: joined(choose(weights),
                                                   _maximised(weights, means, x, gamma)[:, 1:])


def _pixel_by_pixel(weights: Tensor, means: Tensor, x: Tensor) -> Tensor:
    """A posterior for each pixel of each datum, as in the spatial mixture, (N, K, D)."""
    chance = torch.where(x[:, None] > 0, means, 1 - means) * weights[:, None]
    gamma = chance / chance.sum(1, keepdim=True)
    return joined(gamma.mean((0, 2)), (gamma * x[:, None]).sum(0) / gamma.sum(0))


def _smoothed(added: float) -> tuple[Callable, ...]:
    def m_step(weights: Tensor, means: Tensor, x: Tensor, gamma: Tensor) -> Tensor:
        return joined(gamma.mean(0), (gamma.T @ x + added) / (gamma.sum(0)[:, None] + 2 * added))
    return _em(m_step=m_step)


@step_exercise(
    title="One iteration of EM", chapter=8, difficulty=3, minutes=25, points=4,
    equations=("eq-nem-bernoulli", "eq-nem-bernoulli-e-step", "eq-nem-bernoulli-m-step"),
    statement="""
        Write one iteration of EM for a mixture of Bernoullis. The E-step gives each component $k$ its share
        of each datum $x_n$ of $D$ pixels,

        $$\\gamma_{nk} = \\frac{\\pi_k \\prod_i \\mu_{ki}^{x_{ni}} (1 - \\mu_{ki})^{1 - x_{ni}}}
        {\\sum_j \\pi_j \\prod_i \\mu_{ji}^{x_{ni}} (1 - \\mu_{ji})^{1 - x_{ni}}}$$

        and the M-step sets

        $$\\mu_{ki} = \\frac{\\sum_n \\gamma_{nk} x_{ni}}{\\sum_n \\gamma_{nk}}, \\qquad
        \\pi_k = \\frac1N \\sum_n \\gamma_{nk}$$

        Return the new weights and the new means. One of the cases has more than a thousand pixels: a product
        of so many probabilities is 0 in floating point, so work with logarithms.""",
    hints=("Three lines: the logarithm of each joint probability p(x_n, k), a table of shape (N, K); the "
           "responsibilities from it; the weighted averages.",
           "log p(x_n | k) = Σ_i x_ni log μ_ki + (1 − x_ni) log(1 − μ_ki) is two matrix products of x with "
           "logs of the means. Add log π_k before you normalise, and normalise over k.",
           "`gamma = torch.softmax(log_joint, 1)` for log_joint of shape (N, K). Then `gamma.mean(0)` are "
           "the weights, and `gamma.T @ x / gamma.sum(0)[:, None]` the means."),
    truth=_em_by_loops, cases=_mixtures,
    must=(("weights are a law: none is negative, and they sum to 1.",
           lambda yours, *case: (yours[:, 0] >= 0).all() and (yours[:, 0].sum() - 1).abs() < 1e-4),
          ("a mean of zeros and ones lies between 0 and 1.",
           lambda yours, *case: (yours[:, 1:] >= -1e-6).all() and (yours[:, 1:] <= 1 + 1e-6).all()),
          ("the weighted sum of the new means is the plain mean of the data.",
           lambda yours, weights, means, x: torch.allclose(yours[:, 0] @ yours[:, 1:], x.mean(0),
                                                           atol=1e-4))),
    on_the_way=lambda weights, means, x: {
        "log p(x_n | k), a row a datum": _log_likelihood(means, x),
        "γ, a row a datum": _posterior(weights, _log_likelihood(means, x)),
        "Σ_n γ": _posterior(weights, _log_likelihood(means, x)).sum(0)},
    misconceptions=(
        wrong("forgot the prior weights", *_em(lambda weights, log_p: torch.softmax(log_p, 1)),
              says="Your responsibilities compare the likelihoods only. A component that is rare must "
                   "explain a datum much better to be believed.",
              hint="Bayes: prior times likelihood. Where does π_k enter your E-step?"),
        wrong("the weight in place of its logarithm",
              *_em(lambda weights, log_p: torch.softmax(weights + log_p, 1)),
              says="You added π_k to a log-likelihood. A product of probabilities is a sum of logarithms: "
                   "log π_k.",
              hint="What is log(π p)?"),
        wrong("likelihood of x = 1 only", *_em(log_likelihood=lambda means, x: x @ means.log().T),
              says="Pixels that are 0 do not enter your likelihood. They tell as much as the others, by "
                   "log(1 − μ).",
              hint="How probable is a datum of zeros only, in your code?"),
        wrong("normalised over the data",
              *_em(lambda weights, log_p: torch.softmax(weights.log() + log_p, 0)),
              says="For each component your responsibilities sum to 1 over the data. They are a law over "
                   "components: for each datum they sum to 1.",
              hint="In a table with a row for each datum, which axis is the components'?"),
        wrong("logs normalised as if they were probabilities", *_em(_logs_shared),
              says="You divided logarithms by their sum. They are negative, and the least probable component "
                   "gets most.",
              hint="Exponentiate before you normalise: that is what softmax does."),
        wrong("mean over pixels for their sum",
              *_em(log_likelihood=lambda means, x: _log_likelihood(means, x) / x.shape[1]),
              says="The log-likelihood of a datum is the sum over its pixels. A mean takes the D-th root of "
                   "the probability: all responsibilities come out too even.",
              hint="Pixels are independent given k: multiply their probabilities."),
        wrong("one posterior for each pixel", _pixel_by_pixel,
              says="Each pixel chooses its own component here. In this mixture a datum has one component for "
                   "all of its pixels; a component for each pixel is the spatial mixture, which comes next.",
              hint="What shape has your γ? It should be one number for each datum and component."),
        wrong("hard assignments", *_em(_hard),
              says="Each datum goes wholly to its most probable component, as in k-means. EM shares it out.",
              hint="Keep γ as it is after normalising: no argmax."),
        wrong("M-step divides by N", *_em(m_step=lambda weights, means, x, gamma: joined(
                  gamma.mean(0), gamma.T @ x / len(x))),
              says="Your means are divided by the number of data. A component's mean is an average over the "
                   "data that it answers for: Σγ of them.",
              hint="If all data are ones, what must every mean be?"),
        wrong("weights not divided by N", *_em(m_step=lambda weights, means, x, gamma: joined(
                  gamma.sum(0), gamma.T @ x / gamma.sum(0)[:, None])),
              says="Your weights are Σγ: numbers of data, which sum to N.",
              hint="What must the weights of a mixture sum to?"),
        wrong("weights are not updated",
              *_em(m_step=_weights_kept(lambda weights: weights)),
              *_em(m_step=_weights_kept(lambda weights: torch.full_like(weights, 1 / len(weights)))),
              says="The weights that you give back are the old ones (or all equal). The M-step moves them "
                   "too.",
              hint="What share of the data does component k answer for?"),
        wrong("means are not updated",
              *_em(m_step=lambda weights, means, x, gamma: joined(gamma.mean(0), means)),
              says="You give back the old means.",
              hint="Which line computes the new ones, and is it returned?"),
        wrong("old and new mixed", *_em(m_step=_new_weights_first), *_em(m_step=_new_means_first),
              says="Half of your M-step uses responsibilities that were computed again after the other half. "
                   "One iteration has one E-step, from the old weights and the old means.",
              hint="Compute γ once, and then both updates from it."),
        wrong("data not weighed by γ",
              *_em(m_step=lambda weights, means, x, gamma: joined(gamma.mean(0), x.mean(0).expand_as(means))),
              says="All components get the plain mean of the data: then they are equal, and stay equal for "
                   "ever.",
              hint="Weigh each datum by γ_nk before you add."),
        wrong("means that sum to 1 over pixels",
              *_em(m_step=lambda weights, means, x, gamma: joined(
                  gamma.mean(0), gamma.T @ x / (gamma.T @ x).sum(1, keepdim=True))),
              says="Your means of a component sum to 1 over its pixels: that is the M-step of a mixture of "
                   "multinomials. Here each pixel is a coin of its own.",
              hint="Divide by Σ_n γ_nk, which is the same for all pixels."),
        wrong("smoothed counts", *_smoothed(1.0), *_smoothed(0.5),
              says="You added pseudo-counts. That keeps means away from 0 and 1 and is a good idea with "
                   "little data, but it is the maximum of a posterior: the M-step asked for maximises Q "
                   "alone.",
              hint="Leave the added counts out.", credit=0.5),
        wrong("a product that underflows", _em()[1],
              says="Right on small data. With more than a thousand pixels your product of probabilities is 0 "
                   "for every component, and 0/0 is not a number.",
              hint="Add logarithms, and let `torch.softmax` or `torch.logsumexp` normalise "
                   "them.", credit=0.5),
    ),
    teaching_notes="Let readers print the log-likelihood before and after: it never falls, and that is the "
                   "quickest test of an EM code. Dividing by N shows there at once; forgetting π hardly "
                   "does.")
def bernoulli_em_step(weights: torch.Tensor, means: torch.Tensor,
                      x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One iteration of EM for a mixture of Bernoullis.

    weights: (K,), of sum 1; means: (K, D), between 0 and 1; x: (N, D) of 0 and 1;
    returns the new weights, (K,), and the new means, (K, D).
    """
    log_joint = weights.log() + x @ means.log().T + (1 - x) @ (1 - means).log().T
    gamma = torch.softmax(log_joint, 1)
    share = gamma.sum(0)
    return share / len(x), gamma.T @ x / share[:, None]


# --- responsibilities in the spatial mixture ----------------------------------------------------------------

def _pictures(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """(psi, x) in tenths; then with slots that are sure (ψ exactly 0 or 1), and a pixel that none foresaw."""
    for slots, pixels in ((2, 1), (2, 2), (3, 2), (2, 4), (4, 3), (3, 5)):
        yield _differing(generator, slots, pixels), _with_first_on(_binary(generator, pixels))
    psi, x = _differing(generator, 3, 4), torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    psi[0, 1], psi[1, 2], psi[2, 3] = 0.0, 1.0, 1.0
    psi[0, 2], psi[1, 0] = 0.0, 0.0
    yield psi, x
    psi = _differing(generator, 3, 4)
    psi[:, 2] = torch.tensor([2e-6, 5e-6, 3e-6], dtype=torch.float64)
    yield psi, x


def _differing(generator: torch.Generator, slots: int, pixels: int) -> Tensor:
    """Predictions in tenths up to 0.8, all different within a pixel."""
    columns = [torch.randperm(8, generator=generator)[:slots] + 1 for _ in range(pixels)]
    return torch.stack(columns, 1).to(torch.float64) / 10


def _with_first_on(x: Tensor) -> Tensor:
    """The first pixel on and the last, if there is another, off."""
    x[-1] = 0.0
    x[0] = 1.0
    return x


def _gamma_by_enumeration(psi: Tensor, x: Tensor) -> Tensor:
    """Bayes over all K^D ways to deal the pixels out among the slots, every way equally probable before."""
    slots, pixels = psi.shape
    rows, image = psi.tolist(), x.tolist()
    weight, total = [[0.0] * pixels for _ in range(slots)], 0.0
    for owners in itertools.product(range(slots), repeat=pixels):
        chance = math.prod(rows[k][i] if image[i] == 1 else 1 - rows[k][i] for i, k in enumerate(owners))
        total += chance
        for i, k in enumerate(owners):
            weight[k][i] += chance
    return torch.tensor(weight, dtype=torch.float64) / total


def _chances(psi: Tensor, x: Tensor) -> Tensor:
    """p(x_i; ψ_ik), (K, D)."""
    return torch.where(x > 0, psi, 1 - psi)


def _shared(weight: Tensor, axis: int = 0) -> Tensor:
    return weight / weight.sum(axis, keepdim=True)


def _careless(psi: Tensor, x: Tensor) -> Tensor:
    """log p(x; ψ) in which 0 · log 0 is NaN."""
    return x * psi.log() + (1 - x) * (1 - psi).log()


def _in_logs(rule: Callable[[Tensor], Tensor]) -> tuple[Callable, ...]:
    """The mutants of a rule of log p(x_i; ψ_ik): with exact logarithms, and with those that may be NaN."""
    return lambda psi, x: rule(_chances(psi, x).log()), lambda psi, x: rule(_careless(psi, x))


def _floors() -> Iterator[Callable]:
    """A small number under every likelihood, or ψ kept away from 0 and 1; what the check can tell apart."""
    for small in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8):
        yield lambda psi, x, small=small: _shared(_chances(psi, x) + small)
    for small in (1e-2, 1e-3, 1e-4, 1e-5):
        yield lambda psi, x, small=small: _shared(_chances(psi.clamp(small, 1 - small), x))


def _whole_image(psi: Tensor, x: Tensor) -> Tensor:
    """The posterior of a mixture whose datum is the whole image, (K,)."""
    return torch.softmax(_chances(psi, x).log().sum(1), 0)


def _gaussian(sigma: float) -> Callable:
    return lambda psi, x: torch.softmax(-(x - psi)**2 / (2 * sigma**2), 0)


@function_exercise(
    title="Which slot answers for a pixel?", chapter=8, difficulty=1, minutes=10, points=2,
    equations=("eq-nem-spatial", "eq-nem-responsibility"),
    statement="""
        In the spatial mixture each pixel has a slot of its own, all slots equally probable before it is seen.
        Slot $k$ predicts that pixel $i$ is on with probability $\\psi_{ik}$. Compute the responsibilities

        $$\\gamma_{ik} = \\frac{p(x_i; \\psi_{ik})}{\\sum_j p(x_i; \\psi_{ij})}, \\qquad
        p(x_i; \\psi_{ik}) = \\psi_{ik}^{x_i} (1 - \\psi_{ik})^{1 - x_i}$$

        in a form that holds its own at the edges: some slots are quite sure, $\\psi_{ik} = 0$ or $1$ exactly
        (every pixel is possible for at least one slot), and one pixel was foreseen by none of them.""",
    hints=("Two steps: how probable is each pixel's value for each slot, a table (K, D); then share each "
           "pixel out among the slots.",
           "A pixel that is on has probability ψ, one that is off 1 − ψ. Choose with `torch.where`, which "
           "has no 0 · log 0 in it. The shares of one pixel sum to 1: over which axis do you add?",
           "`p = torch.where(x > 0, psi, 1 - psi)`, of shape (K, D); divide it by its sum over the slots, "
           "`p.sum(0)`."),
    truth=_gamma_by_enumeration, cases=_pictures,
    must=(("a responsibility lies between 0 and 1.",
           lambda yours, psi, x: ((yours >= 0) & (yours <= 1)).all()),
          ("for each pixel the responsibilities of all slots sum to 1.",
           lambda yours, psi, x: ((yours.sum(0) - 1).abs() < 1e-4).all()),
          ("of two slots, the one that finds the pixel more probable gets more of it.",
           lambda yours, psi, x: (((yours[:, None] - yours) * (_chances(psi, x)[:, None] - _chances(psi, x)))
                                  >= 0).all())),
    on_the_way=lambda psi, x: {"p(x_i; ψ_ik), a row a slot": _chances(psi, x),
                               "its sum over the slots": _chances(psi, x).sum(0)},
    misconceptions=(
        wrong("normalised over pixels", *_in_logs(lambda log_p: torch.softmax(log_p, 1)),
              says="Each slot's responsibilities sum to 1 over the pixels here. They answer the question "
                   "\"whose is this pixel?\", so for each pixel they sum to 1 over the slots.",
              hint="psi has shape (K, D). Which axis holds the slots?"),
        wrong("normalised over everything", *_in_logs(lambda log_p: torch.softmax(log_p.flatten(), 0)
                                                      .view_as(log_p)),
              says="All of your numbers together sum to 1. Each pixel is shared out by itself.",
              hint="Sum over the slots only: `.sum(0)`."),
        wrong("one posterior for the whole image", _whole_image,
              lambda psi, x: _whole_image(psi, x)[:, None].expand_as(psi),
              says="You multiplied the pixels' probabilities: then a whole image belongs to one slot, as in "
                   "the mixture of Bernoullis. In the spatial mixture every pixel chooses for itself.",
              hint="Do not add (or multiply) over pixels at all."),
        wrong("likelihood of x = 1 only", lambda psi, x: _shared(psi),
              says="You shared out ψ itself, whatever the pixel is. Where x = 0 the probability is 1 − ψ.",
              hint="For a pixel that is off, which slot should get more: one that says .9 or one that says "
                   ".1?"),
        wrong("pixels that are 0 are left out", lambda psi, x: x * _shared(psi),
              lambda psi, x: _shared(x * psi), lambda psi, x: _shared(x * psi).nan_to_num(),
              says="Where the pixel is off you return nothing (or 0/0). The background has to be shared out "
                   "too: its probability is 1 − ψ.",
              hint="What is p(x; ψ) for x = 0?"),
        wrong("x and 1 − x exchanged", lambda psi, x: _shared(_chances(psi, 1 - x)),
              lambda psi, x: torch.softmax(_careless(psi, 1 - x), 0),
              says="You took 1 − ψ where the pixel is on and ψ where it is off.",
              hint="ψ is the probability that the pixel is on."),
        wrong("not normalised", _chances, lambda psi, x: _chances(psi, x) / len(psi),
              says="These are the probabilities p(x; ψ) (or their K-th parts), not yet shares: for one pixel "
                   "they do not sum to 1.",
              hint="Divide by the sum over the slots."),
        wrong("softmax of probabilities", lambda psi, x: torch.softmax(_chances(psi, x), 0),
              lambda psi, x: torch.softmax(psi, 0),
              says="Softmax exponentiates what it is given, so it wants logarithms of probabilities. Of "
                   "probabilities themselves it makes shares that are all nearly equal.",
              hint="For likelihoods .8 and .2 the shares are .8 and .2. What does your code give?"),
        wrong("logs normalised as if they were probabilities", *_in_logs(_shared),
              says="You divided logarithms by their sum: the least probable slot gets most.",
              hint="Exponentiate before you normalise."),
        wrong("winner takes all", *_in_logs(lambda log_p: one_hot(log_p.argmax(0), len(log_p)).T),
              says="Each pixel goes wholly to its best slot. The responsibilities are soft; argmax is taken "
                   "once, at the very end, to draw a picture.",
              hint="Where two slots predict .6 and .5, is the pixel wholly the first one's?"),
        wrong("Gaussian pixels", *(_gaussian(sigma) for sigma in (1.0, 0.25, 0.5**0.5, 0.5)),
              says="You compared by squared error, the likelihood of Gaussian pixels. These are binary: "
                   "Bernoulli.",
              hint="A slot with ψ = 0 finds a pixel that is on impossible. How probable is it in your code?"),
        wrong("slots and pixels exchanged", *_in_logs(lambda log_p: torch.softmax(log_p, 0).T),
              says="The numbers are right, and your table has a row for each pixel: it is transposed.",
              hint="Return the shape that psi has, (K, D).", credit=0.5),
        wrong("0 · log 0", _in_logs(lambda log_p: torch.softmax(log_p, 0))[1],
              says="Right inside (0, 1). Where a slot is sure and right, x log ψ + (1 − x) log(1 − ψ) holds "
                   "a 0 · log 0, which is NaN in floating point. Neural EM starts with ψ = 0 everywhere, so "
                   "this happens in its first step.",
              hint="`torch.where(x > 0, psi, 1 - psi)` takes no logarithm; `torch.xlogy(0, 0)` is "
                   "0.", credit=0.5),
        wrong("a floor under the likelihoods", *_floors(),
              says="You keep every likelihood (or ψ) away from 0 by a small number, as the authors of Neural "
                   "EM do. That shares a pixel which no slot foresaw more evenly than Bayes does, and the "
                   "exact shares are asked for here.",
              hint="Leave the small number out: at least one slot always finds the pixel "
                   "possible.", credit=0.5),
    ),
    teaching_notes="The answer is two lines. Spend the time on the difference from the mixture before: there "
                   "one γ a datum, here one γ a pixel. Ask what γ is where ψ is the same in all slots.")
def responsibilities(psi: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """How much of each pixel every slot answers for; all slots equally probable.

    psi: (K, D), probability that a pixel is on; x: (D,) of 0 and 1;
    returns (K, D).
    """
    likelihood = torch.where(x > 0, psi, 1 - psi)
    return likelihood / likelihood.sum(0)


# --- the gradient by a logit (derivation) -------------------------------------------------------------------

def _logits(generator: torch.Generator) -> list[Instance]:
    """Pixels that are off, on and grey, with logits in tenths; derivatives by a complex step."""
    pixels = (1.0, 0.0, *_tenths(generator, 5))
    logits = (0.5, *((torch.randint(-30, 31, (6,), generator=generator) * 2 + 1) / 20).tolist())
    return [_logit_instance(x, round(a, 2)) for x, a in zip(pixels, logits)]


def _logit_instance(x: float, a: float) -> Instance:
    def sigma(a: complex) -> complex:
        return 1 / (1 + cmath.exp(-a))

    def log_p(a: complex) -> complex:
        return x * cmath.log(sigma(a)) + (1 - x) * cmath.log(1 - sigma(a))

    symbols = {"dlogp": _slope(log_p, a), "dpsi": _slope(sigma, a), "psi": sigma(a).real, "x": x, "a": a,
               "softplus": softplus}
    return Instance(f"x = {x:g}, a = {a:g}, psi = {symbols['psi']:.4g}", symbols)


def softplus(a: float) -> float:
    """log(1 + exp(a)), for large |a| too."""
    return max(a, 0.0) + math.log1p(math.exp(-abs(a)))


logit_gradient_proof = Derivation(
    name="logit_gradient_proof", title="Why the gradient is x − ψ",
    chapter=8, difficulty=1, minutes=10, points=2,
    equations=("eq-nem-decoder", "eq-nem-gradient"),
    statement="""
        A decoder gives logits $a$, and $\\psi = \\sigma(a)$ is the probability that a pixel is on. Show that

        $$\\frac{\\partial}{\\partial a} \\big[x \\log \\psi + (1 - x) \\log(1 - \\psi)\\big] = x - \\psi$$

        for every pixel value $x$ between 0 and 1: the error of the prediction itself, however sure it is. It
        is what the M-step of Neural EM sends back through its decoder. Fill in the lines marked `...`, or
        write a chain of your own.""",
    symbols=(("dlogp", "\\partial [x \\log \\psi + (1 - x) \\log(1 - \\psi)] / \\partial a",
              "the derivative, given as a number"),
             ("x", "x", "the pixel, between 0 and 1"), ("a", "a", "its logit"),
             ("psi", "\\psi", "$\\sigma(a)$, also `sigmoid(a)`"),
             ("dpsi", "\\partial\\psi / \\partial a", "slope of the sigmoid at $a$"),
             ("softplus(a)", "\\log(1 + e^a)", "you may not need it")),
    chain="""
        dlogp
        = (x/psi - (1 - x)/(1 - psi))*dpsi                # the chain rule
        = (x/psi - (1 - x)/(1 - psi))*psi*(1 - psi)       # the slope of the sigmoid
        = x*(1 - psi) - (1 - x)*psi                       # multiplied out
        = x - psi
        """,
    blanks=(2, 3, 4), least_lines=0, instances=_logits,
    forms=("x - sigmoid(a)", "x - 1/(1 + exp(-a))"),
    landmarks=(Working("Show what the two logarithms become: a line without `dlogp`, before it is collected "
                       "to x − ψ.", avoids=frozenset({"dlogp"}), given="dlogp", result="x - psi"),),
    hints=("The chain rule: the derivative by ψ, times that of ψ by a. What are the derivatives of log ψ and "
           "of log(1 − ψ)?",
           "By ψ it is x/ψ − (1 − x)/(1 − ψ). And the slope of the sigmoid is ψ(1 − ψ), in ψ itself.",
           "(x/ψ − (1 − x)/(1 − ψ)) · ψ(1 − ψ) = x(1 − ψ) − (1 − x)ψ: each denominator cancels one factor. "
           "Now multiply out."),
    misconceptions=(
        wrong("sign of the residual", "psi - x", "(1 - x)*psi - x*(1 - psi)",
              says="The sign is turned: this is the derivative of the loss −log p, which is descended. Here "
                   "log p is climbed.",
              hint="If x = 1, should the logit rise or fall to make the pixel more probable?"),
        wrong("the inner derivative is missing", "x/psi - (1 - x)/(1 - psi)", "(x - psi)/(psi*(1 - psi))",
              says="This is the derivative by ψ. Asked is that by the logit a, on which ψ depends.",
              hint="Multiply by the slope of the sigmoid: the chain rule."),
        wrong("sign of the derivative of log(1 − ψ)", "(x/psi + (1 - x)/(1 - psi))*dpsi",
              "x*(1 - psi) + (1 - x)*psi",
              says="The derivative of log(1 − ψ) is −1/(1 − ψ): it falls as ψ grows.",
              hint="Yours is positive for every x. Should a pixel that is off push its logit up?"),
        wrong("σ′ = σ", "(x/psi - (1 - x)/(1 - psi))*psi", "x - (1 - x)*psi/(1 - psi)",
              says="The slope of the sigmoid is not ψ: it must vanish where ψ is near 1, too.",
              hint="Differentiate 1/(1 + exp(−a)): what stands beside ψ?"),
        wrong("σ′ = 1 − σ", "(x/psi - (1 - x)/(1 - psi))*(1 - psi)", "x*(1 - psi)/psi - (1 - x)",
              says="The slope of the sigmoid is not 1 − ψ (that is the derivative of log ψ).",
              hint="Where is the sigmoid flat? At both ends."),
        wrong("the slope is left in", "(x - psi)*psi*(1 - psi)", "(x - psi)*dpsi",
              says="A factor ψ(1 − ψ) is left: this is the gradient of a squared error through a sigmoid. "
                   "Under the Bernoulli likelihood the two denominators cancel it, so that a confident "
                   "mistake still has a large gradient.",
              hint="x/ψ times ψ(1 − ψ) is x(1 − ψ): how much of the slope is left?"),
        wrong("half of the likelihood", "x*(1 - psi)", "x*dpsi/psi", "-(1 - x)*psi",
              "-(1 - x)*dpsi/(1 - psi)",
              says="Only one of the two terms is here: a pixel that is on, or one that is off, teaches "
                   "nothing.",
              hint="Both log ψ and log(1 − ψ) depend on a."),
        wrong("logit for probability", "x - a",
              says="The logit a stands where its probability ψ = σ(a) must. (x − a is the gradient for "
                   "Gaussian pixels with a as their mean.)",
              hint="Between which bounds may a pixel's error lie?"),
    ),
    teaching_notes="x − ψ returns in every model of the book with binary visibles: it is data minus model. "
                   "The one-line route by log p = xa − softplus(a) is worth showing afterwards.")


# --- the loss of a grouping ---------------------------------------------------------------------------------

def _groupings(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(gamma, psi, x): responsibilities in twelfths; in two of the cases some are exactly 0 and 1."""
    for slots, pixels in ((1, 1), (2, 1), (2, 2), (3, 2), (2, 4), (4, 3), (3, 5)):
        throws = torch.randint(slots, (pixels, 12 - slots), generator=generator)
        shares = torch.stack([1 + torch.bincount(row, minlength=slots) for row in throws], 1)
        psi, x = _differing(generator, slots, pixels), _with_first_on(_binary(generator, pixels))
        yield shares.to(torch.float64) / 12, psi, x
    for slots, pixels in ((2, 3), (3, 4)):
        owners = torch.arange(pixels) % slots
        yield (one_hot(owners, slots).T.to(torch.float64), _differing(generator, slots, pixels),
               _with_first_on(_binary(generator, pixels)))


def _loss_by_definition(gamma: Tensor, psi: Tensor, x: Tensor) -> float:
    """Slot by slot and pixel by pixel; the divergence as a sum over both values of the pixel."""
    def divergence(p: tuple[float, float], q: tuple[float, float]) -> float:
        return sum(a * math.log(a / b) for a, b in zip(p, q) if a > 0)

    total = []
    for g, p, value in zip(gamma.flatten().tolist(), psi.flatten().tolist(), x.repeat(len(psi)).tolist()):
        chance = p if value == 1 else 1 - p
        total += [-g * math.log(chance), (1 - g) * divergence((1.0, 0.0), (1 - p, p))]
    return math.fsum(total)


def _nll(psi: Tensor, x: Tensor) -> Tensor:
    """−log p(x_i; ψ_ik), (K, D)."""
    return -_chances(psi, x).log()


def _kl(psi: Tensor) -> Tensor:
    """KL(p₀ ‖ ψ) for p₀ = 0, (K, D)."""
    return -(1 - psi).log()


def _turned_kl(psi: Tensor, small: float) -> Tensor:
    """KL(ψ ‖ p₀) with p₀ = 0 replaced by a small number (or not)."""
    on = psi.log() - math.log(small) if small else math.inf
    return psi * on + (1 - psi) * ((1 - psi) / (1 - small)).log()


def _loss(rule: Callable) -> Callable:
    """A mutant: the sum over slots and pixels of a rule of (gamma, psi, x, NLL, KL)."""
    return lambda gamma, psi, x: rule(gamma, psi, x, _nll(psi, x), _kl(psi)).sum()


def _right_loss(gamma: Tensor, psi: Tensor, x: Tensor) -> Tensor:
    return (gamma * _nll(psi, x) + (1 - gamma) * _kl(psi)).sum()


@function_exercise(
    title="The loss of a grouping", chapter=8, difficulty=2, minutes=15, points=3,
    equations=("eq-nem-loss", "eq-nem-kl"),
    statement="""
        Write the loss that trains Neural EM on one image,

        $$\\mathrm{loss} = \\sum_i \\sum_k \\Big[-\\gamma_{ik} \\log p(x_i; \\psi_{ik})
        + (1 - \\gamma_{ik})\\, \\mathrm{KL}\\big(p_0 \\,\\|\\, p(\\cdot\\,; \\psi_{ik})\\big)\\Big]$$

        in nats, for Bernoulli pixels and $p_0 = 0$: where a slot is not responsible, it should predict that
        the pixel is off. A slot is held to the image where it is responsible, and to silence where it is not.
        Begin with what the KL divergence from a pixel that is surely off to one that is on with probability
        $\\psi$ comes to.""",
    hints=("Two tables of shape (K, D), one for each term; weigh them, add them, sum everything.",
           "−log p(x; ψ) is −log ψ for a pixel that is on and −log(1 − ψ) for one that is off. In the KL the "
           "sum over the values of the pixel has one term, since p₀ puts everything on 0.",
           "KL = 1 · log(1/(1 − ψ)) = −log(1 − ψ). So L is the sum of −γ log p(x; ψ) − (1 − γ) log(1 − ψ)."),
    truth=_loss_by_definition, cases=_groupings,
    must=(("a loss of this kind is never negative.", lambda yours, *case: yours >= 0),
          ("it is at least the reconstruction alone, −Σγ log p.",
           lambda yours, gamma, psi, x: yours >= (gamma * _nll(psi, x)).sum() - 1e-6)),
    on_the_way=lambda gamma, psi, x: {"−log p(x_i; ψ_ik), a row a slot": _nll(psi, x),
                                      "the KL, a row a slot": _kl(psi)},
    misconceptions=(
        wrong("without the KL", _loss(lambda gamma, psi, x, nll, kl: gamma * nll),
              says="Only the reconstruction is here. A slot could predict anything where it is not "
                   "responsible, and nothing would pull two slots apart.",
              hint="What does the second term forbid?"),
        wrong("without the reconstruction", _loss(lambda gamma, psi, x, nll, kl: (1 - gamma) * kl),
              says="Only the KL is here. A slot that predicts 0 everywhere would be perfect.",
              hint="Who is to explain the pixels that are on?"),
        wrong("KL weighted by γ", _loss(lambda gamma, psi, x, nll, kl: gamma * (nll + kl)),
              says="Both terms have the weight γ. The KL holds a slot to silence where it is not "
                   "responsible: its weight is 1 − γ.",
              hint="Where γ = 1, should a slot be punished for predicting the object?"),
        wrong("γ and 1 − γ exchanged", _loss(lambda gamma, psi, x, nll, kl: (1 - gamma) * nll + gamma * kl),
              says="A slot explains what it is not responsible for, and is silent where it is.",
              hint="Which of the two terms asks a slot to look like the image?"),
        wrong("KL without a weight", _loss(lambda gamma, psi, x, nll, kl: gamma * nll + kl),
              says="Every slot is held to silence everywhere, also where it is responsible.",
              hint="Where γ = 1, should the KL count?"),
        wrong("reconstruction without a weight", _loss(lambda gamma, psi, x, nll, kl: nll + (1 - gamma) * kl),
              says="Every slot has to explain the whole image. γ deals the pixels out.",
              hint="What should a slot with γ = 0 at a pixel care about its value?"),
        wrong("KL direction reversed",
              *(_loss(lambda gamma, psi, x, nll, kl, small=small:
                      gamma * nll + (1 - gamma) * _turned_kl(psi, small))
                for small in (0.0, 1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)),
              says="You computed KL(ψ ‖ p₀). With p₀ = 0 that is infinite as soon as ψ > 0 (a small number "
                   "in place of 0 only hides it). The loss has KL(p₀ ‖ ψ).",
              hint="The average is taken under the first of the two: under p₀."),
        wrong("p₀ = 1 for p₀ = 0",
              _loss(lambda gamma, psi, x, nll, kl: gamma * nll - (1 - gamma) * psi.log()),
              says="Your second term is −log ψ: where a slot is not responsible it must predict that the "
                   "pixel is on. Silence is p₀ = 0.",
              hint="At which ψ is your KL zero?"),
        wrong("ψ in place of its KL", _loss(lambda gamma, psi, x, nll, kl: gamma * nll + (1 - gamma) * psi),
              _loss(lambda gamma, psi, x, nll, kl: gamma * nll + (1 - gamma) * psi**2),
              _loss(lambda gamma, psi, x, nll, kl: gamma * nll + (1 - gamma) * psi**2 / 2),
              says="You punish ψ (or its square), and not −log(1 − ψ). The two are close for small ψ only; "
                   "the square is the KL of Gaussian pixels.",
              hint="The divergence between two Bernoulli laws is a sum of logarithms."),
        wrong("sign of the KL", _loss(lambda gamma, psi, x, nll, kl: gamma * nll - (1 - gamma) * kl),
              says="The KL is subtracted: slots are paid for talking where they are not responsible. Mind "
                   "that log(1 − ψ) is negative.",
              hint="At ψ = 0 the KL is 0. Does your loss grow or fall from there?"),
        wrong("sign of the reconstruction",
              _loss(lambda gamma, psi, x, nll, kl: (1 - gamma) * kl - gamma * nll),
              _loss(lambda gamma, psi, x, nll, kl: -(1 - gamma) * kl - gamma * nll),
              says="The log-likelihood is added: a loss falls as the fit gets better, so it has −log p.",
              hint="Which is the better fit, log p = −1 or log p = −5?"),
        wrong("likelihood of x = 1 only",
              _loss(lambda gamma, psi, x, nll, kl: -gamma * x * psi.log() + (1 - gamma) * kl),
              _loss(lambda gamma, psi, x, nll, kl: -gamma * psi.log() + (1 - gamma) * kl),
              says="Your reconstruction knows log ψ only. A pixel that is off has −log(1 − ψ).",
              hint="What does it cost to predict ψ = .9 where the pixel is off?"),
        wrong("mean over pixels for their sum", lambda gamma, psi, x: _right_loss(gamma, psi, x) / len(x),
              lambda gamma, psi, x: _right_loss(gamma, psi, x) / psi.numel(),
              lambda gamma, psi, x: _right_loss(gamma, psi, x) / len(psi),
              says="You averaged (over pixels, slots or both). Likelihoods of independent pixels multiply, "
                   "so their logarithms add; nats per image are a sum.",
              hint="`.sum()`, not `.mean()`."),
        wrong("log of a sum for a sum of logs",
              lambda gamma, psi, x: (((1 - gamma) * _kl(psi)).sum()
                                     - (gamma * _chances(psi, x)).sum(0).log().sum()),
              says="Your first term is −log Σ_k γ p, the mixture's own likelihood with weights γ. The loss "
                   "has the weighted sum of logarithms, which is the larger one (Jensen).",
              hint="Take the logarithm of each slot's probability first, then weigh."),
        wrong("the entropy of γ added",
              *(_loss(lambda gamma, psi, x, nll, kl, sign=sign:
                      gamma * nll + (1 - gamma) * kl + sign * torch.xlogy(gamma, gamma)) for sign in (1, -1)),
              says="A term γ log γ is added. It belongs to the bound ℒ, which the E-step climbs; the loss of "
                   "Neural EM leaves it out.",
              hint="Two terms only: −γ log p and (1 − γ) KL."),
        wrong("bits for nats", lambda gamma, psi, x: _right_loss(gamma, psi, x) / math.log(2),
              says="Your logarithms are to base 2: these are bits.",
              hint="`torch.log` is natural, `torch.log2` is not.", credit=0.5),
    ),
    teaching_notes="Have readers put ψ = x in one slot, 0 in the others and γ = 1 for that slot: the loss is "
                   "0, and nothing has been grouped. Then a perfect grouping: 0 as well. That is the "
                   "chapter's point.")
def grouping_loss(gamma: torch.Tensor, psi: torch.Tensor,
                  x: torch.Tensor) -> torch.Tensor:
    """The loss of Neural EM for one image of Bernoulli pixels, prior 0, in nats.

    gamma: (K, D), of sum 1 over the slots; psi: (K, D), between 0 and 1;
    x: (D,) of 0 and 1; returns one number.
    """
    likelihood = torch.where(x > 0, psi, 1 - psi)
    reconstruction = -(gamma * likelihood.log()).sum()
    silence = -((1 - gamma) * (1 - psi).log()).sum()
    return reconstruction + silence


# --- the same loss in logits (derivation) -------------------------------------------------------------------

def _weighted_logits(generator: torch.Generator) -> list[Instance]:
    """Pixels off and on, responsibilities and logits in tenths."""
    pixels = (1.0, 0.0, *_tenths(generator, 5))
    logits = (0.5, *((torch.randint(-30, 31, (6,), generator=generator) * 2 + 1) / 20).tolist())
    instances = []
    for x, a, gamma in zip(pixels, logits, _tenths(generator, 7)):
        a = round(a, 2)
        symbols = {"gamma": gamma, "x": x, "a": a, "psi": 1 / (1 + math.exp(-a)), "softplus": softplus}
        instances.append(Instance(f"gamma = {gamma:g}, x = {x:g}, a = {a:g}", symbols))
    return instances


_LOSS_GIVEN = "gamma*(-x*log(psi) - (1 - x)*log(1 - psi)) + (1 - gamma)*(-log(1 - psi))"

loss_logits_proof = Derivation(
    name="loss_logits_proof", title="The loss in logits", chapter=8, difficulty=2, minutes=12, points=3,
    equations=("eq-nem-kl", "eq-nem-loss", "eq-nem-loss-logits"),
    statement="""
        With $p_0 = 0$ and $\\psi = \\sigma(a)$, show that what one slot adds to the loss at one pixel,

        $$-\\gamma \\big[x \\log \\psi + (1 - x) \\log(1 - \\psi)\\big] - (1 - \\gamma) \\log(1 - \\psi)$$

        is $\\mathrm{softplus}(a) - \\gamma\\, x\\, a$, with $\\mathrm{softplus}(a) = \\log(1 + e^a)$. No
        logarithm of a rounded probability is left in it; and every slot pays softplus at every pixel,
        responsible or not, while $\\gamma$ decides who is paid for the pixels that are on. Fill in the
        lines marked `...`, or write a chain of your own.""",
    symbols=(("gamma", "\\gamma", "responsibility of the slot for the pixel"),
             ("x", "x", "the pixel, between 0 and 1"), ("a", "a", "the slot's logit"),
             ("psi", "\\psi", "$\\sigma(a)$, also `sigmoid(a)`"),
             ("softplus(a)", "\\log(1 + e^a)", "its slope is `sigmoid(a)`")),
    chain=f"""
        {_LOSS_GIVEN}
        = -gamma*x*log(psi/(1 - psi)) - log(1 - psi)    # collected: γx, the rest
        = -gamma*x*a - log(1 - psi)                     # the log-odds of σ(a) are a
        = -gamma*x*a + log(1 + exp(a))                  # 1 − σ(a) = 1/(1 + exp(a))
        = softplus(a) - gamma*x*a
        """,
    blanks=(2, 3, 4), least_lines=0, instances=_weighted_logits, forms=("log(1 + exp(a)) - gamma*x*a",),
    landmarks=(Working("Show what becomes of log ψ or of log(1 − ψ): a line between the two, before "
                       "everything is collected.", given=_LOSS_GIVEN, result="softplus(a) - gamma*x*a"),),
    hints=("How often does log(1 − ψ) stand there? Collect all of it before you do anything else.",
           "Of log(1 − ψ) you have −γ(1 − x) − (1 − γ) = −1 + γx. Together with −γx log ψ that leaves "
           "−γx [log ψ − log(1 − ψ)] − log(1 − ψ).",
           "log ψ − log(1 − ψ) = log(ψ/(1 − ψ)) = a for ψ = σ(a). And 1 − σ(a) = 1/(1 + exp(a)), so −log(1 − "
           "ψ) is softplus(a)."),
    misconceptions=(
        wrong("lost the KL", "gamma*(softplus(a) - x*a)", "-gamma*x*a - gamma*log(1 - psi)",
              says="This is the reconstruction alone: the softplus has the weight γ. The KL brings the rest, "
                   "1 − γ of it.",
              hint="γ softplus(a) + (1 − γ) softplus(a) = ?"),
        wrong("KL not weighed by 1 − γ", "(1 + gamma)*softplus(a) - gamma*x*a",
              "-gamma*x*a - (1 + gamma)*log(1 - psi)",
              says="The KL counts fully here, and γ softplus(a) comes on top. Its weight is 1 − γ.",
              hint="Which bracket does (1 − γ) stand before?"),
        wrong("sign of γxa", "softplus(a) + gamma*x*a", "gamma*x*a - log(1 - psi)",
              "-gamma*x*log((1 - psi)/psi) - log(1 - psi)",
              says="The second term has the wrong sign: a slot would be punished for a high logit where the "
                   "pixel is on.",
              hint="log ψ − log(1 − ψ) is a, or −a?"),
        wrong("sign of the softplus", "-softplus(a) - gamma*x*a", "-gamma*x*a + log(1 - psi)",
              "-gamma*x*a - log(1 + exp(a))",
              says="−log(1 − ψ) is positive, since 1 − ψ is below 1; yours is negative.",
              hint="1 − ψ = 1/(1 + exp(a)). What is minus its logarithm?"),
        wrong("softplus of −a", "softplus(-a) - gamma*x*a", "-gamma*x*a - log(psi)",
              "-gamma*x*a + log(1 + exp(-a))",
              says="softplus(−a) is −log ψ. What is left over is −log(1 − ψ).",
              hint="For a slot that is silent (a very negative) the loss must vanish. Does yours?"),
        wrong("γ lost", "softplus(a) - x*a", "-x*a - log(1 - psi)",
              says="This has x·a without its weight γ: every slot would be paid for every pixel that is on.",
              hint="Which of the terms of the first line hold γ and x together?"),
        wrong("x lost", "softplus(a) - gamma*a", "-gamma*a - log(1 - psi)",
              says="This has γ·a without the pixel's value x, as if every pixel were on.",
              hint="Put x = 0: then both terms of the first line are −log(1 − ψ), whatever γ is."),
        wrong("log ψ for the log-odds", "-gamma*x*log(psi) - log(1 - psi)", "softplus(a) - gamma*x*log(psi)",
              says="You collected γx log ψ, but (1 − x) log(1 − ψ) holds an x too: γx stands before "
                   "log ψ − log(1 − ψ).",
              hint="Multiply out −γ(1 − x) log(1 − ψ): what has γx in it?"),
        wrong("1 − γ for γ", "softplus(a) - (1 - gamma)*x*a",
              says="x·a has the weight 1 − γ here: the slots that are not responsible would be paid.",
              hint="x stands only in the term that γ weighs."),
        wrong("sigmoid for softplus", "sigmoid(a) - gamma*x*a", "psi - gamma*x*a",
              says="The sigmoid is the slope of the softplus. −log(1 − σ(a)) is log(1 + exp(a)).",
              hint="Which of the two grows without bounds as a does?"),
        wrong("pixels that are 0 are left out", "-gamma*x*log(psi) - (1 - gamma)*log(1 - psi)",
              "gamma*x*softplus(-a) + (1 - gamma)*softplus(a)",
              says="The term (1 − x) log(1 − ψ) is lost: a slot that is responsible for a pixel may predict "
                   "what it likes if the pixel is off.",
              hint="The reconstruction has two terms, one for x = 1 and one for x = 0."),
    ),
    teaching_notes="Read the result aloud: everybody pays softplus, the responsible are refunded a where x = "
                   "1. Then ask which grouping is cheapest: no split of the refund among slots changes it "
                   "once γ is sharp, so a single slot may take all.")


# --- the adjusted Rand index --------------------------------------------------------------------------------

def _labellings(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """(labels, groups): groups with gaps in their names and 0 for background; the last two have one group."""
    sizes = ((4, 2, 2), (6, 2, 2), (7, 3, 2), (8, 3, 3), (9, 4, 3), (12, 3, 4), (15, 4, 3))
    for pixels, slots, objects in sizes:
        groups = torch.randint(objects + 1, (pixels,), generator=generator)
        groups[:3] = torch.tensor([1, 1, 2])
        groups[-1] = 0
        labels = torch.randint(slots, (pixels,), generator=generator)
        labels[:3] = torch.tensor([1, 0, 1])
        yield labels, torch.where(groups > 1, groups + 1, groups)
    yield torch.tensor([2, 0, 2, 2, 1]), torch.tensor([1, 0, 1, 1, 0])
    yield torch.tensor([2, 0, 1, 1, 2]), torch.tensor([0, 1, 2, 2, 1])


def _ari_by_pairs(labels: Tensor, groups: Tensor) -> float:
    """Every pair of pixels inside the objects is looked at: together in both, in one, or in none."""
    pixels = [(label, group) for label, group in zip(labels.tolist(), groups.tolist()) if group != 0]
    pairs = [(a[0] == b[0], a[1] == b[1]) for a, b in itertools.combinations(pixels, 2)]
    both, mine, theirs, none = (pairs.count(kind) for kind in
                                ((True, True), (True, False), (False, True), (False, False)))
    below = (both + mine) * (mine + none) + (both + theirs) * (theirs + none)
    return 2 * (both * none - mine * theirs) / below if below else 1.0


def _pairs(counts: Tensor) -> float:
    """Σ C(n, 2)."""
    return float((counts * (counts - 1) / 2).sum())


def _squares(counts: Tensor) -> float:
    return float((counts * counts).sum())


def _objects(labels: Tensor, groups: Tensor) -> Tensor:
    return groups != 0


def _table(labels: Tensor, groups: Tensor, keep: Callable = _objects) -> Tensor:
    """How many kept pixels have each label (row) and each group (column)."""
    inside = keep(labels, groups)
    return one_hot(labels[inside], 16).T @ one_hot(groups[inside], 16)


def _ari(rule: Callable, count: Callable = _pairs, keep: Callable = _objects,
         undefined: Sequence[float] = (1.0, 0.0, math.nan, math.inf)) -> tuple[Callable, ...]:
    """The mutants of a rule of (index, rows, columns, total) → numerator, denominator; one for each value
    that a reader may give to 0/0."""
    def make(value: float) -> Callable:
        def mutant(labels: Tensor, groups: Tensor) -> float:
            table = _table(labels, groups, keep)
            above, below = rule(count(table), count(table.sum(1)), count(table.sum(0)), count(table.sum()))
            return above / below if abs(below) > 1e-12 else value
        return mutant
    return tuple(map(make, undefined))


def _expected(rows: float, columns: float, total: float) -> float:
    return rows * columns / total if total else 0.0


def _corrected_by(best: Callable[[float, float], float]) -> Callable:
    """(I − E)/(best(A, B) − E) as numerator and denominator."""
    def rule(index: float, rows: float, columns: float, total: float) -> tuple[float, float]:
        expected = _expected(rows, columns, total)
        return index - expected, best(rows, columns) - expected
    return rule


_corrected = _corrected_by(lambda rows, columns: (rows + columns) / 2)


def _best_share(axis: int) -> Callable:
    """The share of pixels in the best group of each label (axis 1), or the best label of each group (0)."""
    def mutant(labels: Tensor, groups: Tensor) -> Tensor:
        table = _table(labels, groups)
        return table.amax(axis).sum() / table.sum()
    return mutant


def _same_names(labels: Tensor, groups: Tensor, shift: int = 0) -> Tensor:
    inside = groups != 0
    return (labels[inside] + shift == groups[inside]).double().mean()


@function_exercise(
    title="The adjusted Rand index", chapter=8, difficulty=2, minutes=20, points=3,
    equations=("eq-nem-ari",),
    statement="""
        How well do the slots of an image agree with its objects, whatever the slots are called? Take only the
        pixels whose true group is not 0 (0 is background or overlap), and let $n_{kg}$ be the number of them
        with label $k$ and group $g$. With $\\binom{n}{2} = n(n - 1)/2$, the number of pairs among $n$ pixels,

        $$I = \\sum_{kg} \\binom{n_{kg}}{2}, \\quad A = \\sum_k \\binom{n_{k\\cdot}}{2}, \\quad
        B = \\sum_g \\binom{n_{\\cdot g}}{2}, \\quad E = \\frac{A B}{\\binom{n}{2}}, \\qquad
        \\mathrm{ARI} = \\frac{I - E}{\\tfrac12 (A + B) - E}$$

        A dot stands for a sum over that index. $E$ is what $I$ would be on average if the labels were
        shuffled. Where the fraction is $0/0$ (all pixels in one group and in one slot, or each alone in
        both), the two agree perfectly, and the index is 1. (The letters are this exercise's own: the chapter
        writes $m$, $m_\\text{slot}$, $m_\\text{group}$ and $\\mathbb{E} m$ for them.)""",
    hints=("Three steps: drop the pixels of group 0; count how many pixels have each combination of label "
           "and group; count pairs in the table, in its row sums and in its column sums.",
           "`torch.nn.functional.one_hot` turns labels and groups into tables of 0 and 1; the transpose of "
           "one times the other is the table of counts. Write a small function for Σ n(n − 1)/2.",
           "expected = A·B/pairs(n), most = (A + B)/2. Return 1.0 if most equals expected, else "
           "(I − expected)/(most − expected)."),
    truth=_ari_by_pairs, cases=_labellings,
    must=(("no grouping agrees better than perfectly: at most 1.", lambda yours, *case: yours <= 1 + 1e-6),
          ("the names of the slots do not matter, and a perfect grouping has 1.",
           lambda yours, labels, groups: _ari_by_pairs(labels, groups) < 1 or (yours - 1).abs() < 1e-4)),
    on_the_way=lambda labels, groups: {
        "labels of the pixels with group ≠ 0": labels[groups != 0], "their groups": groups[groups != 0],
        "I": _pairs(_table(labels, groups)), "A": _pairs(_table(labels, groups).sum(1)),
        "B": _pairs(_table(labels, groups).sum(0)), "all pairs": _pairs(_table(labels, groups).sum())},
    misconceptions=(
        wrong("background counted", *_ari(_corrected, keep=lambda labels, groups: groups >= 0),
              says="The pixels of group 0 are counted as if background were an object. Most pixels of an "
                   "image are background, and any model that leaves them alone would score well.",
              hint="Keep the pixels with `groups != 0` before you count."),
        wrong("left out label 0", *_ari(_corrected, keep=lambda labels, groups: labels != 0),
              *_ari(_corrected, keep=lambda labels, groups: (labels != 0) & (groups != 0)),
              says="Pixels that slot 0 took are left out. 0 means background in the groups only; slot 0 is a "
                   "slot like the others.",
              hint="Which of the two arrays knows the truth about background?"),
        wrong("not corrected for chance",
              *_ari(lambda index, rows, columns, total: (total + 2 * index - rows - columns, total)),
              *_ari(lambda index, rows, columns, total: (index, total)),
              *_ari(lambda index, rows, columns, total: (2 * index, rows + columns)),
              says="This is a plain share of pairs (the Rand index, or I over something). Random labels "
                   "already score well in it; the adjusted index takes off what chance gives, above and "
                   "below.",
              hint="What would your index be for shuffled labels? It should be 0 on average."),
        wrong("chance taken off above only",
              *_ari(lambda index, rows, columns, total: (
                  index - _expected(rows, columns, total), (rows + columns) / 2)),
              *_ari(lambda index, rows, columns, total: (index - _expected(rows, columns, total), total)),
              says="E is subtracted from the index and not from the best value: a perfect grouping would not "
                   "reach 1.",
              hint="Let labels and groups be the same. Then I = A = B. What is your index?"),
        wrong("n² for n choose 2", *_ari(_corrected, count=_squares),
              says="You count each pixel as a pair with itself, and each pair twice: n² is not n(n − 1)/2.",
              hint="How many pairs are there among two pixels?"),
        wrong("maximum for mean below",
              *_ari(_corrected_by(max)),
              says="You normalise by the larger of A and B. The adjusted Rand index has their mean. (For the "
                   "mutual information both versions are in use, and papers do not always say which.)",
              hint="(A + B)/2.", credit=0.5),
        wrong("minimum for mean below",
              *_ari(_corrected_by(min)), *_ari(_corrected_by(lambda a, b: math.sqrt(a * b))),
              says="You normalise by the smaller of A and B, or by their geometric mean. The adjusted Rand "
                   "index has their arithmetic mean.",
              hint="(A + B)/2."),
        wrong("lost the half", *_ari(_corrected_by(lambda a, b: a + b)),
              says="A + B stands below where their mean must: a perfect grouping would get far less than 1.",
              hint="Let labels and groups be the same. What is your index?"),
        wrong("E not divided by all pairs", *_ari(lambda index, rows, columns, total: (
                  index - rows * columns, (rows + columns) / 2 - rows * columns)),
              says="Your chance level is A·B, a number of pairs squared. Divide it by the number of all "
                   "pairs.",
              hint="If each pair is together with probability A/C by labels and B/C by groups, how many of C "
                   "pairs are together in both by chance?"),
        wrong("names compared", _same_names, lambda labels, groups: _same_names(labels, groups, 1),
              lambda labels, groups: (labels == groups).double().mean(),
              says="You count pixels whose label equals their group's number. A slot's number means nothing: "
                   "rename the slots and your score changes.",
              hint="Compare pairs of pixels: together or apart?"),
        wrong("share of rightly labelled pixels", _best_share(0), _best_share(1),
              says="You give every slot its best object (or every object its best slot) and count pixels. "
                   "That is purity: a slot for each pixel would be perfect.",
              hint="Count pairs, not pixels."),
        wrong("0/0 for a single group", *_ari(_corrected, undefined=(0.0, math.nan, math.inf)),
              says="Right wherever the fraction exists. Where all pixels are in one group and one slot it is "
                   "0/0, and a score of 0 or NaN would punish a perfect grouping. (Code for this score in "
                   "use has given 0 here.)",
              hint="Look at the denominator before you divide: if it is 0, return 1.", credit=0.5),
    ),
    teaching_notes="Let the class score shuffled labels: plain Rand .6 and more, ARI about 0. Then ask why a "
                   "score over foreground pixels says nothing about how the background was dealt out.")
def adjusted_rand_index(labels: torch.Tensor, groups: torch.Tensor) -> float:
    """How well labels agree with groups, over the pixels whose group is not 0.

    labels, groups: (D,) of whole numbers from 0, two or more of the groups not 0;
    returns one number: 1 for perfect agreement, about 0 for shuffled labels.
    """
    def pairs(counts):
        return float((counts * (counts - 1) / 2).sum())

    one_hot = torch.nn.functional.one_hot
    inside = groups != 0
    table = one_hot(labels[inside]).T @ one_hot(groups[inside])
    index, rows, columns = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    expected, most = rows * columns / pairs(table.sum()), (rows + columns) / 2
    return 1.0 if most == expected else (index - expected) / (most - expected)


EXERCISES = (gap_proof, bernoulli_m_step_proof, bernoulli_em_step, responsibilities, logit_gradient_proof,
             grouping_loss, loss_logits_proof, adjusted_rand_index)
_help = Help(EXERCISES)
hint, solution = _help.hint, _help.solution
