"""The exercises of chapter 7, generative adversarial networks. `nemlib.exercises` tells how to add one.

No truth below comes from the model's or the scores' own code: losses are sums of log1p, slopes are written
down by hand, roots of matrices come from eigenvalues of a product, and modes are counted sample by sample.
"""

import ast
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, softplus

from nemlib.exercises.answers import Refusal, quietly, show_case, within
from nemlib.exercises.core import FunctionExercise, Help, Trial, agree, matches, wrong
from nemlib.exercises.derivation import Instance, LongDerivation, Step
from nemlib.exercises.expressions import expression, names_in, sigmoid
from nemlib.exercises.forms import normal_form
from nemlib.exercises.layers import GradualExercise, ShapedExercise, Slip
from nemlib.exercises.quiz import QuizExercise
from nemlib.exercises.verdict import Verdict

__all__ = ["EXERCISES", "hint", "solution", "optimal_proof", "jsd_proof", "losses", "slopes_proof",
           "alternating_proof", "hinge_proof", "penalty", "frechet", "modes", "diagnose"]


def _shares(generator: torch.Generator, count: int) -> tuple[float, ...]:
    """A law of tenths that add to 1, none of them 0."""
    cuts = (torch.randperm(9, generator=generator)[:count - 1].sort().values + 1).tolist()
    return tuple((end - start) / 10 for start, end in zip((0, *cuts), (*cuts, 10)))


def _two_laws(generator: torch.Generator, count: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Two laws of the same states that are not each other's rearrangement."""
    while True:
        p, q = _shares(generator, count), _shares(generator, count)
        if sorted(p) != sorted(q):
            return p, q


def _tenths(generator: torch.Generator, low: int, high: int, count: int) -> list[float]:
    """Different tenths from low/10 to high/10, none of them 0."""
    values = [value for value in range(low, high + 1) if value]
    return [values[k] / 10 for k in torch.randperm(len(values), generator=generator)[:count].tolist()]


def _shown(table: Sequence[float]) -> str:
    return "(" + ", ".join(f"{number:g}" for number in table) + ")"


def _own(tree: ast.expr, *given: str) -> bool:
    """Whether a line is none of these expressions rearranged."""
    return normal_form(tree) not in {normal_form(expression(text)) for text in given}


def _over(term: str) -> str:
    """A sum over all states."""
    return f"sum({term} for x in states)"


# --- the best discriminator (derivation) --------------------------------------------------------------------

def _point_instances(generator: torch.Generator) -> list[Instance]:
    """Two densities and an answer of the discriminator, that is not the best one."""
    return [_point_instance(generator) for _ in range(5)]


def _point_instance(generator: torch.Generator) -> Instance:
    p, q = _tenths(generator, 2, 30, 2)
    t = _tenths(generator, 1, 9, 2)
    t = t[0] if abs(t[0] - p / (p + q)) > 0.05 else t[1]
    return Instance(f"p = {p:g}, q = {q:g}, t = {t:g}", {"p": p, "q": q, "t": t, "best": p / (p + q)})


def _coins(a: str, b: str) -> str:
    """KL of two coins that show heads with the probabilities a and b."""
    return f"({a}*log({a}/{b}) + (1 - {a})*log((1 - {a})/(1 - {b})))"


_POINT = "p*log(t) + q*log(1 - t)"
_AT_BEST = "p*log(best) + q*log(1 - best)"
_POINT_RESULT = f"{_AT_BEST} - (p + q)*{_coins('best', 't')}"


def _holds_best(tree: ast.expr) -> bool:
    """A line of the reader's own in which the best answer stands under a logarithm, or weighs one."""
    names = names_in(tree)
    return "log" in names and ("best" in names or {"p", "q"} <= names and _divides(tree)) and _own(
        tree, _POINT, _POINT_RESULT)


def _divides(tree: ast.expr) -> bool:
    return any(isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) for node in ast.walk(tree))


optimal_proof = LongDerivation(
    name="optimal_proof", title="The best discriminator, without a derivative", chapter=7, difficulty=1,
    minutes=12, points=3, equations=("eq-gan-value", "eq-gan-optimal-discriminator"),
    statement="""
        At one point $x$ the data have the density $p$ and the samples the density $q$. A discriminator that
        answers $t = D(x)$ there earns $p \\log t + q \\log(1 - t)$ at this point of the integral $V(D, G)$.
        Let $D^* = p/(p + q)$. Show that for every $t$ between 0 and 1

        $$\\begin{aligned}
        p \\log t + q \\log(1 - t) = {}& p \\log D^* + q \\log(1 - D^*) \\\\
        &- (p + q) \\Big[ D^* \\log \\frac{D^*}{t} + (1 - D^*) \\log \\frac{1 - D^*}{1 - t} \\Big]
        \\end{aligned}$$

        The bracket is the divergence of two coins, $D^*$ from $t$: never negative, and 0 only where $t =
        D^*$. So $D^*$ is the best answer. The chapter found it by a derivative; this way you also see what
        every other answer loses. Fill in the lines marked `...`, or write a chain of your own.""",
    symbols=(("p, q", "p,\\; q", "densities of data and samples at the point"),
             ("t", "t = D(x)", "any answer of a discriminator, between 0 and 1"),
             ("best", "D^*", "`p/(p + q)`; so `p` is `(p + q)*best`, `q` is `(p + q)*(1 - best)`")),
    chain=f"""
        {_POINT}
        = p*(log(best) - log(best/t))
          + q*(log(1 - best) - log((1 - best)/(1 - t)))      # log of a quotient
        = {_AT_BEST}
          - p*log(best/t) - q*log((1 - best)/(1 - t))      # sorted
        = {_AT_BEST}
          - (p + q)*(best*log(best/t) + (1 - best)*log((1 - best)/(1 - t)))
        """,
    blanks=(2, 3), least_lines=1, instances=_point_instances,
    landmarks=(Step("Show where the best answer comes in: a line of your own, before the result, that holds "
                    "`best`.", test=_holds_best),),
    hints=("Bring D* in without changing anything: which quotient, added to log t as a logarithm, gives "
           "log D*?",
           "log t = log(best) − log(best/t), and in the same way log(1 − t) = log(1 − best) − log((1 − "
           "best)/(1 − t)). Put both in, each with its weight.",
           "The weights p and q in front of the two quotients are (p + q) best and (p + q)(1 − best): take "
           "p + q out, and the divergence is left."),
    misconceptions=(
        wrong("data and samples exchanged", "p*log(1 - t) + q*log(t)",
              f"q*log(best) + p*log(1 - best) - (p + q)*{_coins('best', 't')}",
              "q*log(best) + p*log(1 - best) - p*log(best/t) - q*log((1 - best)/(1 - t))",
              says="p and q have changed places. The data, with density p, are what D should call 1: p "
                   "stands in front of log D.",
              hint="If p is large and q small, should the best answer be near 1, or near 0?"),
        wrong("the share of the samples", "p*log(q/(p + q)) + q*log(p/(p + q))",
              f"p*log(q/(p + q)) + q*log(p/(p + q)) - (p + q)*{_coins('(q/(p + q))', 't')}",
              says="Your best answer is q/(p + q), the probability that the point is a sample. D is the "
                   "probability that it is a datum.",
              hint="Where q is 0, what should D say?"),
        wrong("the weight p + q forgotten", f"{_AT_BEST} - {_coins('best', 't')}",
              f"{_AT_BEST} - (p + q)/2*{_coins('best', 't')}",
              f"{_AT_BEST} - {_coins('best', 't')}/(p + q)",
              says="The divergence has lost its weight (or has another). p is (p + q) best: the point counts "
                   "as much as there is data and samples at it.",
              hint="Write p and q as multiples of best and 1 − best. Which factor do both have?"),
        wrong("divided by p + q", "best*log(t) + (1 - best)*log(1 - t)",
              f"best*log(best) + (1 - best)*log(1 - best) - {_coins('best', 't')}",
              says="The whole line has been divided by p + q. Each line of the chain must be equal to the "
                   "one before, not proportional to it.",
              hint="What does best*log(t) have to be multiplied by to give p*log(t)?"),
        wrong("the divergence turned round", f"{_AT_BEST} - (p + q)*{_coins('t', 'best')}",
              f"{_AT_BEST} - p*log(t/best)*t - q*log((1 - t)/(1 - best))*(1 - t)",
              says="Your divergence is that of t from D*: it is weighed by t. The weights here come from p "
                   "and q, so they are D* and 1 − D*.",
              hint="Which letters stand in front of the two logarithms in the given line?"),
        wrong("a quotient upside down", f"{_AT_BEST} + (p + q)*{_coins('best', 't')}",
              f"{_AT_BEST} + p*log(best/t) + q*log((1 - best)/(1 - t))",
              says="The sign of the quotients' logarithms is turned: log(D*/t) is log D* − log t, so log t "
                   "is log D* minus it. With your sign, every answer would be better than the best.",
              hint="log 2 = log 6 − log of which number?"),
        wrong("only the data", "p*log(t)", "p*log(best) - p*log(best/t)",
              f"{_AT_BEST} - p*log(best/t)", f"{_AT_BEST} - (p + q)*best*log(best/t)",
              says="The term of the samples, q log(1 − t), is missing in your line (or its part of the "
                   "divergence). A discriminator that sees data alone says 1 everywhere.",
              hint="What keeps D from the answer 1?"),
        wrong("log of a difference taken apart", "p*log(t) - q*log(t)", "p*log(t) + q*(log(1) - log(t))",
              "p*log(best) - q*log(best) - p*log(best/t) + q*log(best/t)",
              says="log(1 − t) was taken apart to log 1 − log t. The logarithm of a quotient is a "
                   "difference; that of a difference stays as it is.",
              hint="t = ½: what is log(1 − t), and what is −log t?"),
        wrong("logarithm of the mean", "log(p*t + q*(1 - t))", "(p + q)*log(best*t + (1 - best)*(1 - t))",
              "(p + q)*log(p*t + q*(1 - t))",
              says="The logarithm was taken of the weighted mean. In V it stands inside: each answer's "
                   "logarithm is weighed.",
              hint="Which is taken first in E log D(x), the logarithm, or the mean?"),
        wrong("weights under the logarithm", "log(p*t) + log(q*(1 - t))", "log(t*p) + q*log(1 - t)",
              "log(p*best) + log(q*(1 - best)) - (p + q)*" + _coins("best", "t"),
              says="A weight has moved under its logarithm. p log t is log(t**p), and not log(p t).",
              hint="Two times log 3: is that log 6, or log 9?"),
        wrong("a quotient of logarithms", "p*log(best)/log(t) + q*log(1 - best)/log(1 - t)",
              f"{_AT_BEST} - p*log(best)/log(t) - q*log(1 - best)/log(1 - t)",
              f"{_AT_BEST} - (p + q)*(best*log(best)/log(t) + (1 - best)*log(1 - best)/log(1 - t))",
              says="You divided logarithms. The logarithm of D*/t is their difference.",
              hint="log(8/2) is log 4. What is log 8 divided by log 2?"),
        wrong("the best value for every answer", _AT_BEST, "p*log(p/(p + q)) + q*log(q/(p + q))",
              says="This is what the best answer earns; t is gone. It is equal to the given line only where "
                   "t = D*.",
              hint="What has become of the two quotients D*/t and (1 − D*)/(1 − t)?"),
        wrong("the divergence alone", f"-(p + q)*{_coins('best', 't')}", f"(p + q)*{_coins('best', 't')}",
              "-p*log(best/t) - q*log((1 - best)/(1 - t))",
              says="This is what t loses against the best answer. What the best answer earns belongs beside "
                   "it.",
              hint="Put t = D* into your line. What should be left?"),
        wrong("cross-entropy for the divergence",
              f"{_AT_BEST} + (p + q)*(best*log(t) + (1 - best)*log(1 - t))",
              f"{_AT_BEST} + p*log(t) + q*log(1 - t)", "p*log(best*t) + q*log((1 - best)*(1 - t))",
              says="log t stands alone where the quotient D*/t should stand under the logarithm: a "
                   "cross-entropy for the divergence. D* then comes in and does not go out again.",
              hint="A divergence is 0 for two equal coins. What is left of your line at t = D*?"),
        wrong("a bracket opened without its sign",
              f"{_AT_BEST} - p*log(best/t) + q*log((1 - best)/(1 - t))",
              f"{_AT_BEST} - (p + q)*best*log(best/t) + (1 - best)*log((1 - best)/(1 - t))",
              f"{_AT_BEST} - (p + q)*best*log(best/t) - (1 - best)*log((1 - best)/(1 - t))",
              says="A bracket was opened, and its sign (or its factor p + q) reached the first term only.",
              hint="What is 10 − 2·(3 + 1)?"),
        wrong("quotients mixed up", f"{_AT_BEST} - p*log(best/t) - q*log((1 - best)/t)",
              f"{_AT_BEST} - p*log(best/t) - q*log(best/t)",
              f"{_AT_BEST} - p*log(best/t) - q*log(best/(1 - t))",
              says="A quotient holds what belongs to the other: D* goes with t, and 1 − D* with 1 − t.",
              hint="Both coins show tails with which probabilities?"),
        wrong("the derivative for the value", "p/t - q/(1 - t)", "p/t + q/(1 - t)",
              says="You took the derivative in t. Here every line is the value itself; no derivative is "
                   "needed.",
              hint="Which quotient can be brought in under log t without changing anything?"),
        wrong("halves for the densities", "(log(t) + log(1 - t))/2", "log(t) + log(1 - t)",
              "(p + q)*(log(t) + log(1 - t))/2",
              says="Both logarithms have the same weight in your line. V takes equally many data and "
                   "samples, but at this point there are p of the one and q of the other.",
              hint="Where in your line do you see that there is more data than samples here?"),
    ),
    teaching_notes="The same line proves that a coin's cross-entropy is its entropy and a divergence. Let "
                   "the class integrate it over x: V(D) = V(D*) minus a mean divergence, so a discriminator "
                   "that is not the best gives a lower bound of the Jensen–Shannon divergence. Then ask "
                   "where p = q = 0.")


# --- the value at the best discriminator (derivation) -------------------------------------------------------

def _law_instances(generator: torch.Generator) -> list[Instance]:
    return [_law_instance(count, generator) for count in (2, 3, 2, 4, 3)]


def _law_instance(count: int, generator: torch.Generator) -> Instance:
    """Data and samples on a few states, with what the chain's last line names."""
    p, q = _two_laws(generator, count)
    m = [(one + other) / 2 for one, other in zip(p, q)]
    to_middle = [math.fsum(one * math.log(one / middle) for one, middle in zip(law, m)) for law in (p, q)]
    symbols = {"p": p.__getitem__, "q": q.__getitem__, "m": m.__getitem__, "JSD": sum(to_middle) / 2,
               "states": tuple(range(count))}
    return Instance(f"p = {_shown(p)}, q = {_shown(q)}", symbols)


_SHARES = "p(x)*log(p(x)/(p(x) + q(x))) + q(x)*log(q(x)/(p(x) + q(x)))"
_VALUE = _over(_SHARES)
_TO_MIDDLE = f"{_over('p(x)*log(p(x)/m(x))')} + {_over('q(x)*log(q(x)/m(x))')}"


def _two_divergences(tree: ast.expr) -> bool:
    """A line with the middle under a logarithm, in which log 2 stands apart from all sums, or log 4 does."""
    inside = {id(node) for one in ast.walk(tree) if isinstance(one, ast.GeneratorExp)
              for node in ast.walk(one)}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and id(node) not in inside]
    apart = any(node.func.id == "log" and not names_in(node.args[0]) for node in calls)
    return apart and "JSD" not in names_in(tree) and {"p", "q"} <= names_in(tree)


jsd_proof = LongDerivation(
    name="jsd_proof", title="What the best discriminator measures", chapter=7, difficulty=2, minutes=15,
    points=4, equations=("eq-gan-optimal-discriminator", "eq-gan-jsd", "eq-gan-value-at-optimum"),
    statement="""
        Data with the law $p$ and samples with the law $q$ on a few states; the best discriminator says
        $D^*(x) = p(x)/(p(x) + q(x))$. With the middle $m = \\frac12 (p + q)$ and

        $$\\mathrm{JSD} = \\tfrac12 \\sum_x p(x) \\log \\frac{p(x)}{m(x)} + \\tfrac12 \\sum_x q(x) \\log
        \\frac{q(x)}{m(x)}$$

        show that the value of the game is

        $$V(D^*, G) = \\sum_x \\big[ p(x) \\log D^*(x) + q(x) \\log(1 - D^*(x)) \\big] = 2\\,\\mathrm{JSD} -
        2 \\log 2$$

        So a generator that faces the best discriminator descends a divergence, and $-2 \\log 2$ is what is
        left where no one can tell. Fill in the lines marked `...`, or write a chain of your own.""",
    symbols=(("p(x), q(x)", "p(x),\\; q(x)", "laws of data and samples"),
             ("m(x)", "m(x)", "`(p(x) + q(x))/2`"),
             ("JSD", "\\mathrm{JSD}(p \\,\\Vert\\, q)", "half of the two divergences from the middle"),
             ("states", "x", "all states: `sum(… for x in states)`")),
    chain=f"""
        sum(p(x)*log(p(x)/(p(x) + q(x)))
            + q(x)*log(q(x)/(p(x) + q(x))) for x in states)
        = sum(p(x)*log(p(x)/(2*m(x)))
              + q(x)*log(q(x)/(2*m(x))) for x in states)      # p + q is 2 m
        = sum(p(x)*(log(p(x)/m(x)) - log(2))
              + q(x)*(log(q(x)/m(x)) - log(2)) for x in states)     # log of a quotient
        = sum(p(x)*log(p(x)/m(x)) for x in states)
          + sum(q(x)*log(q(x)/m(x)) for x in states) - 2*log(2)      # laws add to 1
        = 2*JSD - 2*log(2)
        """,
    blanks=(2, 3, 4), least_lines=2, instances=_law_instances,
    forms=("2*JSD - log(4)", "2*JSD + 2*log(1/2)"),
    nearly="One more line: take log 2 out of the logarithms before you add the probabilities up.",
    landmarks=(Step("Show where 2 log 2 comes from: a line before the result in which it stands outside of "
                    "all sums, beside the two divergences.", test=_two_divergences),),
    hints=("p + q stands in both denominators. What is it, in terms of m?",
           "log(p/(2m)) = log(p/m) − log 2, and the same for q. What does the sum of p(x) log 2 over all "
           "states give?",
           "p adds to 1 and q adds to 1, so log 2 comes twice: `- 2*log(2)`. The two sums that are left are "
           "2 JSD by its definition."),
    misconceptions=(
        wrong("½ forgotten in the middle", f"{_VALUE} - 2*log(2)", f"{_VALUE} - log(4)",
              f"2*({_VALUE}) - 2*log(2)",
              says="Your middle is p + q, without its ½: not a law, it adds to 2. log 2 is then still inside "
                   "of the logarithms, and taken away once more outside.",
              hint="m adds to 1. What does p + q add to?"),
        wrong("2 log 2 with a plus", "2*JSD + 2*log(2)", f"{_TO_MIDDLE} + 2*log(2)",
              "2*JSD + log(4)", "JSD + log(2)",
              says="log 2 is added. It stood in the denominator, 2 m, so it is subtracted: where p = q, "
                   "every D* is ½ and V = 2 log ½, which is negative.",
              hint="Can a sum of logarithms of probabilities be positive?"),
        wrong("log 2 only once", "2*JSD - log(2)", f"{_TO_MIDDLE} - log(2)",
              says="log 2 is subtracted once. It comes with p and with q, and each of them adds to 1.",
              hint="Take p = q. What is log D* + log(1 − D*) then?"),
        wrong("log 2 for every state", "2*JSD - 2*len(states)*log(2)", "2*JSD - len(states)*log(2)",
              f"{_TO_MIDDLE} - sum(2*log(2) for x in states)",
              says="log 2 is counted once for every state. It is weighed by p(x) and q(x), and these add to "
                   "1.",
              hint="What is the sum of p(x) log 2 over all x?"),
        wrong("2 log 2 lost", "2*JSD", _TO_MIDDLE,
              says="The 2 of 2 m is gone, and took 2 log 2 with it. Where p = q, no divergence is left, but "
                   "V is not 0.",
              hint="p + q is 2 m. What becomes of the 2 under the logarithm?"),
        wrong("½ taken out of the logarithm", "JSD", f"({_TO_MIDDLE})/2",
              _over("p(x)/2*log(p(x)/m(x)) + q(x)/2*log(q(x)/m(x))"),
              says="The ½ came out of the logarithm as a factor. It comes out as a term: log(u/2) = log u − "
                   "log 2.",
              hint="log(8/2) is log 4. What is (log 8)/2?"),
        wrong("JSD once", "JSD - 2*log(2)", f"({_TO_MIDDLE})/2 - 2*log(2)", "JSD/2 - 2*log(2)",
              says="The Jensen–Shannon divergence is half of the two divergences; here both stand in full, "
                   "so it comes twice.",
              hint="2 JSD is which sum?"),
        wrong("all divided by two", "JSD - log(2)", f"({_VALUE})/2",
              says="Half of the value. That would be the mean over a batch of data and samples together; V "
                   "is the sum of two means.",
              hint="How many expectations stand in V?"),
        wrong("four times JSD", "4*JSD - 2*log(2)", f"2*({_TO_MIDDLE}) - 2*log(2)",
              says="The two divergences from the middle are doubled. Their sum is 2 JSD already.",
              hint="Which factor stands in front of each in the definition of JSD?"),
        wrong("shares exchanged", _over("p(x)*log(q(x)/(p(x) + q(x))) + q(x)*log(p(x)/(p(x) + q(x)))"),
              f"{_over('p(x)*log(q(x)/m(x))')} + {_over('q(x)*log(p(x)/m(x))')} - 2*log(2)",
              says="The shares are exchanged: data are weighed with log(1 − D*) and samples with log D*.",
              hint="What is 1 − p/(p + q)?"),
        wrong("divergences between p and q", _over("p(x)*log(p(x)/q(x)) + q(x)*log(q(x)/p(x))"),
              _over("p(x)*log(p(x)/q(x)) + q(x)*log(q(x)/p(x))") + " - 2*log(2)",
              f"({_over('p(x)*log(p(x)/q(x)) + q(x)*log(q(x)/p(x))')})/2 - 2*log(2)",
              says="Your divergences run from p to q and back. Both must run to the middle: that keeps them "
                   "finite where one of the laws is 0.",
              hint="Which law stands in the denominators?"),
        wrong("divergences turned round",
              f"{_over('m(x)*log(m(x)/p(x))')} + {_over('m(x)*log(m(x)/q(x))')} - 2*log(2)",
              f"-({_TO_MIDDLE}) - 2*log(2)", "-2*JSD - 2*log(2)",
              says="Your divergences are those of the middle from p and q (or have their quotients upside "
                   "down). It is p and q that weigh the logarithms.",
              hint="Over which law is each expectation in V taken?"),
        wrong("logarithm of the mean",
              f"log({_over('p(x)*p(x)/(p(x) + q(x))')}) + log({_over('q(x)*q(x)/(p(x) + q(x))')})",
              f"log({_over('p(x)*p(x)/m(x)')}) + log({_over('q(x)*q(x)/m(x)')}) - 2*log(2)",
              says="You took the logarithm of a mean. In V the mean of the logarithms stands, which is "
                   "smaller (Jensen).",
              hint="Which comes first in E log D, the logarithm, or the expectation?"),
        wrong("log of a sum taken apart", _over("-p(x)*log(q(x)) - q(x)*log(p(x))"),
              _over("p(x)*(log(p(x)) - log(p(x)) - log(q(x))) + q(x)*(log(q(x)) - log(p(x)) - log(q(x)))"),
              _over("p(x)*log(1 + p(x)/q(x)) + q(x)*log(1 + q(x)/p(x))"),
              says="log(p + q) was taken apart to log p + log q (or 1/(p + q) to 1/p + 1/q). The logarithm "
                   "of a sum cannot be taken apart.",
              hint="log(1 + 1) is log 2. What is log 1 + log 1?"),
        wrong("only the data", _over("p(x)*log(p(x)/(p(x) + q(x)))"),
              f"{_over('p(x)*log(p(x)/m(x))')} - log(2)", f"{_over('p(x)*log(p(x)/m(x))')} - 2*log(2)",
              says="The samples' half of the value is missing.",
              hint="What does q weigh in V?"),
        wrong("a mean over the states", f"({_VALUE})/len(states)",
              f"({_TO_MIDDLE})/len(states) - 2*log(2)", "2*JSD/len(states) - 2*log(2)",
              says="You divided by the number of states. Expectations weigh the states by their "
                   "probabilities; nothing is divided.",
              hint="Which sums of p and q are 1?"),
        wrong("bits", "2*JSD - 2", f"{_TO_MIDDLE} - 2", f"({_VALUE})/log(2)",
              says="log 2 has become 1: your logarithm has the base 2. The book's are natural, in nats.",
              hint="What is exp(log(2))?"),
        wrong("the equilibrium's value", "-2*log(2)", "-log(4)", _over("-log(2)*(p(x) + q(x))"),
              says="This is the value where p = q. The divergences were left out.",
              hint="Is p(x)/m(x) equal to 1 here?"),
    ),
    teaching_notes="Let the class put in the two extremes first: p = q gives −2 log 2, disjoint laws give 0. "
                   "Then ask what a discriminator's loss of 1.386 after a week of training tells: that it "
                   "cannot tell, not that the samples are good.")


# --- the slopes of both losses (derivation) -----------------------------------------------------------------

def _saturating(a: float) -> float:
    """log(1 − σ(a)), for large a too."""
    return -max(a, 0.0) - math.log1p(math.exp(-abs(a)))


SLOPES = {"log": lambda u: 1 / u, "sigmoid": lambda a: sigmoid(a) * sigmoid(-a), "softplus": sigmoid,
          "saturating": lambda a: -sigmoid(a), "non_saturating": lambda a: -sigmoid(-a),
          "exp": math.exp}


def _slope_instances(generator: torch.Generator) -> list[Instance]:
    shares = [c for c in _tenths(generator, 1, 9, 9) if c != 0.5][:5]
    logits = [a for a in _tenths(generator, -30, 30, 40) if abs(a) > 0.25 and abs(a) != 1][:5]
    return [_slope_instance(c, a) for c, a in zip(shares, logits)]


def _slope_instance(c: float, a: float) -> Instance:
    functions = {"saturating": _saturating, "non_saturating": lambda a: -_saturating(-a),
                 "softplus": lambda a: -_saturating(a)}
    known = {math.log: "log", sigmoid: "sigmoid", math.exp: "exp",
             **{function: name for name, function in functions.items()}}

    def slope(function: Callable, u: float) -> float:
        return SLOPES[known[function]](u)

    return Instance(f"c = {c:g}, a = {a:g}", {"c": c, "a": a, "slope": slope, **functions})


_BOTH = "c*slope(saturating, a) + (1 - c)*slope(non_saturating, a)"
_BOTH_RESULT = "-c*sigmoid(a) - (1 - c)*(1 - sigmoid(a))"
_BOTH_FORMS = ("-c*sigmoid(a) - (1 - c)*sigmoid(-a)", "-c*(1 - sigmoid(-a)) - (1 - c)*sigmoid(-a)")


def _uses_chain_rule(tree: ast.expr) -> bool:
    """A line in which at most slopes of plain functions are left: of the logarithm, σ or softplus."""
    names = names_in(tree)
    return not {"saturating", "non_saturating"} & names and _own(tree, _BOTH_RESULT, *_BOTH_FORMS)


slopes_proof = LongDerivation(
    name="slopes_proof", title="The slopes of the generator's two losses", chapter=7, difficulty=1,
    minutes=12, points=3,
    equations=("eq-gan-saturating", "eq-gan-non-saturating", "eq-gan-logit-slopes"),
    statement="""
        A sample has the logit $a$, and the discriminator takes it for a datum with probability $D =
        \\sigma(a)$. The generator's two losses on it are

        $$\\text{saturating:}\\; \\log(1 - \\sigma(a)), \\qquad \\text{non-saturating:}\\; -\\log \\sigma(a)$$

        To get both slopes in one chain, take $c$ of the first and $1 - c$ of the second, with any number
        $c$, and show that the slope in $a$ is

        $$-c\\, \\sigma(a) - (1 - c)\\, (1 - \\sigma(a))$$

        So the first loss pulls with $D$ and the second with $1 - D$: where the discriminator is sure that
        the sample is none of the data, the first has next to no slope. Write `slope(f, u)` for the slope of
        a function `f` at `u`; `slope(log, u)` is `1/u`, and that of $\\sigma$ is $\\sigma (1 - \\sigma)$.
        Signs and factors stand outside: the slope of $-f$ is `-slope(f, u)`. (Or use `softplus`, whose slope
        is $\\sigma$.) Fill in the lines marked `...`, or write a chain of your own.""",
    symbols=(("a, c", "a,\\; c", "the sample's logit, and the share of the first loss"),
             ("saturating", "\\log(1 - \\sigma(\\cdot))", "the first loss, a function of the logit"),
             ("non_saturating", "-\\log \\sigma(\\cdot)", "the second"),
             ("slope(f, u)", "f'(u)", "slope of `f` at `u`: `log`, `sigmoid`, `exp`, `softplus`, a loss"),
             ("softplus(a)", "\\log(1 + e^a)", "the first loss is `-softplus(a)`")),
    chain=f"""
        {_BOTH}
        = c*slope(log, 1 - sigmoid(a))*(-slope(sigmoid, a))      # chain rule
          - (1 - c)*slope(log, sigmoid(a))*slope(sigmoid, a)
        = -c*slope(sigmoid, a)/(1 - sigmoid(a))
          - (1 - c)*slope(sigmoid, a)/sigmoid(a)      # slope of the logarithm
        = -c*sigmoid(a)*(1 - sigmoid(a))/(1 - sigmoid(a))      # slope of the sigmoid
          - (1 - c)*sigmoid(a)*(1 - sigmoid(a))/sigmoid(a)
        = {_BOTH_RESULT}
        """,
    blanks=(2, 3, 4), least_lines=1, instances=_slope_instances, forms=_BOTH_FORMS,
    landmarks=(Step("Show the chain rule: a line before the result in which only slopes of log, sigmoid or "
                    "softplus stand, and no longer those of the losses.", test=_uses_chain_rule),),
    hints=("Both losses are a logarithm of something. What is the slope of log u, and by what must it be "
           "multiplied?",
           "log(1 − σ(a)) has the slope 1/(1 − σ(a)) times −σ′(a); −log σ(a) has −1/σ(a) times σ′(a).",
           "σ′ = σ (1 − σ). In the first loss 1 − σ cancels, and −σ is left; in the second σ cancels, and "
           "−(1 − σ) is left."),
    misconceptions=(
        wrong("the two slopes exchanged", "-c*(1 - sigmoid(a)) - (1 - c)*sigmoid(a)",
              says="The two slopes have changed places: it is the saturating loss whose slope is −D, small "
                   "where the discriminator sees through the sample.",
              hint="In log(1 − σ(a)), which factor of σ (1 − σ) is cancelled by the logarithm's slope?"),
        wrong("both with a plus", "c*sigmoid(a) + (1 - c)*(1 - sigmoid(a))",
              "c*slope(sigmoid, a)/(1 - sigmoid(a)) + (1 - c)*slope(sigmoid, a)/sigmoid(a)",
              says="Both slopes are positive in your line. The generator wants a larger logit, so both of "
                   "its losses fall with a.",
              hint="If a grows, does −log σ(a) grow?"),
        wrong("the inner minus forgotten", "c*sigmoid(a) - (1 - c)*(1 - sigmoid(a))",
              "c*slope(sigmoid, a)/(1 - sigmoid(a)) - (1 - c)*slope(sigmoid, a)/sigmoid(a)",
              "c*slope(log, 1 - sigmoid(a))*slope(sigmoid, a) "
              "- (1 - c)*slope(log, sigmoid(a))*slope(sigmoid, a)",
              says="The first slope has lost a minus: 1 − σ(a) falls where σ(a) rises.",
              hint="What is the slope of 1 − u?"),
        wrong("the second loss's minus forgotten", "-c*sigmoid(a) + (1 - c)*(1 - sigmoid(a))",
              "-c*slope(sigmoid, a)/(1 - sigmoid(a)) + (1 - c)*slope(sigmoid, a)/sigmoid(a)",
              says="The second loss is minus the logarithm; its minus is lost, and the generator would be "
                   "driven away from the data.",
              hint="Which sign stands in front of log σ(a) in the statement?"),
        wrong("slope in D, not in the logit", "-c/(1 - sigmoid(a)) - (1 - c)/sigmoid(a)",
              "c*slope(log, 1 - sigmoid(a)) - (1 - c)*slope(log, sigmoid(a))",
              "c/(1 - sigmoid(a)) - (1 - c)/sigmoid(a)",
              says="This is the slope in D (perhaps without its sign). The logit comes before the sigmoid: "
                   "the inner slope, σ′(a), is missing.",
              hint="The chain rule has two factors. Which is the second?"),
        wrong("slope of the sigmoid: itself", "-c*sigmoid(a)/(1 - sigmoid(a)) - (1 - c)",
              "-c*sigmoid(a)/(1 - sigmoid(a)) - (1 - c)*sigmoid(a)/sigmoid(a)",
              says="You took σ for its own slope, as if it were e^a. Its slope is σ (1 − σ).",
              hint="How steep is σ where it is nearly 1?"),
        wrong("slope of the sigmoid: one factor", "-c - (1 - c)*(1 - sigmoid(a))/sigmoid(a)",
              "-c*(1 - sigmoid(a))/(1 - sigmoid(a)) - (1 - c)*(1 - sigmoid(a))/sigmoid(a)",
              says="Your slope of σ is 1 − σ. It has both factors, σ (1 − σ): σ is flat at both ends.",
              hint="How steep is σ where it is nearly 0?"),
        wrong("the logarithms left out", "-sigmoid(a)*(1 - sigmoid(a))", "-slope(sigmoid, a)",
              "-c*slope(sigmoid, a) - (1 - c)*slope(sigmoid, a)",
              says="This is the slope of −D: the logarithms are gone.",
              hint="Which outer function does each loss have?"),
        wrong("multiplied where it is divided", "-c*sigmoid(a)*(1 - sigmoid(a))**2 "
              "- (1 - c)*sigmoid(a)**2*(1 - sigmoid(a))",
              "-c*slope(sigmoid, a)*(1 - sigmoid(a)) - (1 - c)*slope(sigmoid, a)*sigmoid(a)",
              says="You multiplied by 1 − σ and by σ. The slope of log u is 1/u: they divide.",
              hint="How steep is the logarithm near 0?"),
        wrong("one loss twice", "-(1 - sigmoid(a))", "-sigmoid(a)",
              "-c*slope(sigmoid, a)/sigmoid(a) - (1 - c)*slope(sigmoid, a)/sigmoid(a)",
              "-c*slope(sigmoid, a)/(1 - sigmoid(a)) - (1 - c)*slope(sigmoid, a)/(1 - sigmoid(a))",
              says="Both parts have the same slope in your line: under one of the logarithms stands the "
                   "wrong probability.",
              hint="Of what is the logarithm taken in each of the two losses?"),
        wrong("the shares forgotten", "-1", "-sigmoid(a) - (1 - sigmoid(a))",
              "slope(saturating, a) + slope(non_saturating, a)",
              says="c and 1 − c are gone. (The two slopes add to −1: what one of the losses lacks, the other "
                   "has.)",
              hint="Which factors stand in front of the slopes in the given line?"),
        wrong("the loss for its slope", "c*log(1 - sigmoid(a)) - (1 - c)*log(sigmoid(a))",
              "c*saturating(a) + (1 - c)*non_saturating(a)",
              says="This is the loss itself. Its slope in a is asked for.",
              hint="What is `slope(log, u)`?"),
        wrong("logarithm of the logit", "-c/(1 - a) - (1 - c)/a", "c/(1 - a) - (1 - c)/a",
              says="The sigmoid is gone: you took the slopes of log(1 − a) and −log a. A logit is no "
                   "probability.",
              hint="What stands between the logit and the logarithm?"),
        wrong("the ratio of the slopes", "exp(-a)", "(1 - sigmoid(a))/sigmoid(a)", "exp(a)",
              "sigmoid(a)/(1 - sigmoid(a))",
              says="This is how many times the one slope is larger than the other. The two are added here, "
                   "with their shares.",
              hint="What stands between the two terms of the given line?"),
        wrong("right only at D = ½", "-1/2", "-c/2 - (1 - c)/2",
              says="This is the slope where D = ½, of both losses. They differ everywhere else.",
              hint="What is σ(a) for a = −3?"),
    ),
    teaching_notes="The sum of the two slopes is −1 for every logit, and their ratio is e^(−a): let the "
                   "class read both off the result. Then ask what happens to each at a = −10, where training "
                   "begins once the discriminator is ahead.")


# --- what alternating steps keep (derivation) ---------------------------------------------------------------

def _turn_instances(generator: torch.Generator) -> list[Instance]:
    return [_turn_instance(generator) for _ in range(5)]


def _turn_instance(generator: torch.Generator) -> Instance:
    theta, phi, c = _tenths(generator, -20, 20, 3)
    eta = _tenths(generator, 2, 15, 1)[0]
    new_theta = theta - eta * phi
    symbols = {"theta": theta, "phi": phi, "eta": eta, "c": c, "new_theta": new_theta,
               "new_phi": phi + eta * new_theta}
    return Instance(f"theta = {theta:g}, phi = {phi:g}, eta = {eta:g}, c = {c:g}", symbols)


def _change(new_theta: str = "new_theta", new_phi: str = "new_phi") -> str:
    """How much I changes by a step to these two."""
    return (f"({new_theta})**2 + ({new_phi})**2 + c*({new_theta})*({new_phi}) "
            "- (theta**2 + phi**2 + c*theta*phi)")


_CHANGE = "new_theta**2 + new_phi**2 + c*new_theta*new_phi - (theta**2 + phi**2 + c*theta*phi)"
_CHANGE_RESULT = "eta*(c + eta)*(new_theta**2 - phi**2)"


def _puts_steps_in(tree: ast.expr) -> bool:
    """A line that holds eta and is not the result rearranged, or has eta inside of a square."""
    squares = [node.left for node in ast.walk(tree)
               if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)]
    return "eta" in names_in(tree) and (_own(tree, _CHANGE, _CHANGE_RESULT)
                                        or any("eta" in names_in(base) for base in squares))


alternating_proof = LongDerivation(
    name="alternating_proof", title="What alternating steps keep", chapter=7, difficulty=3, minutes=20,
    points=4, equations=("eq-gan-bilinear", "eq-gan-alternating"),
    statement="""
        In the game $V = \\theta\\varphi$ the players step in turn, with step size $\\eta$:

        $$\\theta' = \\theta - \\eta\\varphi, \\qquad \\varphi' = \\varphi + \\eta\\theta'$$

        Is there something that this keeps for ever? Try $I = \\theta^2 + \\varphi^2 + c\\,\\theta\\varphi$
        with a number $c$ still to be found. Show that one round changes it by

        $$I(\\theta', \\varphi') - I(\\theta, \\varphi) = \\eta\\,(c + \\eta)\\,(\\theta'^2 - \\varphi^2)$$

        and read off the only $c$ for which $I$ stays the same wherever the players stand. (For this $c$ and
        $\\eta < 2$ all steps lie on one ellipse: neither a spiral outwards nor one to the equilibrium.)
        Fill in the lines marked `...`, or write a chain of your own.""",
    symbols=(("theta, phi", "\\theta,\\; \\varphi", "where the players stand"),
             ("new_theta", "\\theta'", "`theta - eta*phi`"),
             ("new_phi", "\\varphi'", "`phi + eta*new_theta`"),
             ("eta, c", "\\eta,\\; c", "step size, and the number to be found")),
    chain=f"""
        new_theta**2 + new_phi**2 + c*new_theta*new_phi
          - (theta**2 + phi**2 + c*theta*phi)
        = -eta*phi*(new_theta + theta) + eta*new_theta*(new_phi + phi)
          + c*(new_theta*new_phi - theta*phi)      # differences of squares
        = (c + eta)*(new_theta*(phi + eta*new_theta) - theta*phi)      # collected
        = (c + eta)*(eta*new_theta**2 + (new_theta - theta)*phi)      # sorted
        = {_CHANGE_RESULT}
        """,
    blanks=(2, 3, 4), least_lines=0, instances=_turn_instances,
    landmarks=(Step("Show the steps put in: a line of your own, before the result, that holds eta.",
                    test=_puts_steps_in),),
    hints=("θ′² − θ² is (θ′ − θ)(θ′ + θ), and θ′ − θ is −ηφ. The same with φ: what is φ′ − φ?",
           "Multiply −ηφ(θ′ + θ) + ηθ′(φ′ + φ) out: two of the four products cancel, and what is left is η "
           "times the same bracket that stands behind c.",
           "It is (c + η)(θ′φ′ − θφ). Put φ′ = φ + ηθ′ in: θ′φ + ηθ′² − θφ, and (θ′ − θ)φ is −ηφ²."),
    misconceptions=(
        wrong("φ answers to the old θ", _change("theta - eta*phi", "phi + eta*theta"),
              "-eta*phi*(new_theta + theta) + eta*theta*(new_phi + phi) + c*(new_theta*new_phi - theta*phi)",
              "(c + eta)*(new_theta*(phi + eta*theta) - theta*phi)",
              "(theta - eta*phi)**2 + (phi + eta*theta)**2 - theta**2 - phi**2",
              says="Your φ steps along the old θ: those are simultaneous steps, whose radius grows in every "
                   "round. Here φ answers to where θ stands already, θ′.",
              hint="In which of the two steps does a prime stand on the right-hand side?"),
        wrong("θ steps along the new φ",
              "-eta*new_phi*(new_theta + theta) + eta*new_theta*(new_phi + phi) "
              "+ c*(new_theta*new_phi - theta*phi)",
              "eta*(c + eta)*(new_theta**2 - phi*new_phi)",
              says="Your θ has stepped along φ′. θ goes first, and sees the old φ.",
              hint="Which of the two players steps first?"),
        wrong("signs of the steps", _change("theta + eta*phi", "phi + eta*(theta + eta*phi)"),
              _change("theta - eta*phi", "phi - eta*(theta - eta*phi)"),
              _change("theta + eta*phi", "phi - eta*(theta + eta*phi)"),
              says="A step has the wrong sign in your line. θ makes V = θφ small and steps by −ηφ; φ makes "
                   "it large and steps by +ηθ′.",
              hint="What is the slope of θφ in θ, and which way does θ want to go?"),
        wrong("the sign of η in the bracket", "eta*(c - eta)*(new_theta**2 - phi**2)",
              "(c - eta)*(new_theta*new_phi - theta*phi)",
              "(c - eta)*(new_theta*(phi + eta*new_theta) - theta*phi)",
              says="η came out with a minus, as if I were kept with c = +η. The change of the squares is "
                   "plus η(θ′φ′ − θφ).",
              hint="Multiply out: −ηφθ′ − ηφθ + ηθ′φ′ + ηθ′φ. Which two cancel?"),
        wrong("new φ in the last square", "eta*(c + eta)*(new_theta**2 - new_phi**2)",
              says="φ′² stands where φ² should: what is left of the old position is (θ′ − θ)φ = −ηφ².",
              hint="Which φ does θ′ − θ hold?"),
        wrong("old θ in the last square", "eta*(c + eta)*(theta**2 - phi**2)",
              says="θ² stands where θ′² should: φ′ − φ is ηθ′, and it is multiplied by θ′.",
              hint="φ′ = φ + ηθ′. What is θ′φ′?"),
        wrong("squares added", "eta*(c + eta)*(new_theta**2 + phi**2)",
              "(c + eta)*(eta*new_theta**2 + (theta - new_theta)*phi)",
              says="The squares are added. θ′ − θ is −ηφ, so φ² comes with a minus: the change is of either "
                   "sign, which is why the ellipse is possible.",
              hint="What is (θ′ − θ)φ?"),
        wrong("a power of η too few or too many", "(c + eta)*(new_theta**2 - phi**2)",
              "eta**2*(c + eta)*(new_theta**2 - phi**2)", "eta*(c + 1)*(new_theta**2 - phi**2)",
              "eta*(c + eta**2)*(new_theta**2 - phi**2)", "(c + 1)*(new_theta*new_phi - theta*phi)",
              says="A factor η is lost, or stands there once too often.",
              hint="Both steps are of the size η. How many of them are in each product?"),
        wrong("squares taken apart",
              "(new_theta - theta)**2 + (new_phi - phi)**2 + c*(new_theta*new_phi - theta*phi)",
              "theta**2 + eta**2*phi**2 + phi**2 + eta**2*new_theta**2 + c*new_theta*new_phi "
              "- (theta**2 + phi**2 + c*theta*phi)",
              "theta**2 + eta**2*phi**2 + new_phi**2 + c*new_theta*new_phi "
              "- (theta**2 + phi**2 + c*theta*phi)",
              "new_theta**2 + phi**2 + eta**2*new_theta**2 + c*new_theta*new_phi "
              "- (theta**2 + phi**2 + c*theta*phi)",
              "eta*(c + eta)*(new_theta - phi)**2", "eta*(c + eta)*(phi - new_theta)**2",
              says="A square was taken apart without its middle term: (θ − ηφ)² is θ² − 2ηθφ + η²φ². Or, the "
                   "same slip, a difference of squares became the square of a difference: θ′² − θ² is (θ′ − "
                   "θ)(θ′ + θ).",
              hint="5² − 3² is 16. What is (5 − 3)²?"),
        wrong("sign of a square",
              "theta**2 - 2*eta*theta*phi - eta**2*phi**2 + new_phi**2 + c*new_theta*new_phi "
              "- (theta**2 + phi**2 + c*theta*phi)",
              "theta**2 + 2*eta*theta*phi + eta**2*phi**2 + new_phi**2 + c*new_theta*new_phi "
              "- (theta**2 + phi**2 + c*theta*phi)",
              "new_theta**2 + phi**2 + 2*eta*phi*new_theta - eta**2*new_theta**2 + c*new_theta*new_phi "
              "- (theta**2 + phi**2 + c*theta*phi)",
              says="A sign is wrong where a square was expanded: (θ − ηφ)² is θ² − 2ηθφ + η²φ².",
              hint="What is (5 − 3)², by its three terms?"),
        wrong("multiplied into one term only", "(c + eta)*(new_theta*phi + eta*new_theta - theta*phi)",
              "(c + eta)*(phi + eta*new_theta**2 - theta*phi)",
              "eta*(c + eta)*(new_theta - phi**2)", "eta*(c + eta)*(new_theta**2 - phi)",
              "c + eta*(new_theta*new_phi - theta*phi)",
              says="A factor in front of a bracket reached one of its terms only: θ′(φ + ηθ′) is θ′φ + ηθ′².",
              hint="What is 2·(3 + 4), term by term?"),
        wrong("middle term once",
              "theta**2 - eta*theta*phi + eta**2*phi**2 + new_phi**2 + c*new_theta*new_phi "
              "- (theta**2 + phi**2 + c*theta*phi)",
              "new_theta**2 + phi**2 + eta*phi*new_theta + eta**2*new_theta**2 + c*new_theta*new_phi "
              "- (theta**2 + phi**2 + c*theta*phi)",
              says="The middle term of a square stands there once; it comes twice, 2ηθφ.",
              hint="(a + b)(a + b) has four products. Which?"),
        wrong("the mixed term forgotten", "new_theta**2 + new_phi**2 - theta**2 - phi**2",
              "eta*(new_theta*new_phi - theta*phi)", "eta**2*(new_theta**2 - phi**2)",
              says="The term with c is gone (or c was set to 0): this is the change of the squared radius "
                   "alone.",
              hint="Which three terms has I?"),
        wrong("the old value not taken away", "new_theta**2 + new_phi**2 + c*new_theta*new_phi",
              "-eta*phi*(new_theta + theta) + eta*new_theta*(new_phi + phi) + c*new_theta*new_phi",
              says="The old value of I (or a part of it) is not taken away: this is where I stands, not how "
                   "it changed.",
              hint="What does the minus in the given line stand in front of?"),
        wrong("turned round", f"-({_CHANGE_RESULT})", "(c + eta)*(theta*phi - new_theta*new_phi)",
              "eta*(c + eta)*(phi**2 - new_theta**2)",
              says="The sign is turned: old minus new.",
              hint="Which comes first in the given line, the new I or the old?"),
        wrong("kept whatever c is", "0",
              says="You say that nothing changes. That holds for one c only (or where θ′² = φ²).",
              hint="Which factor of the result is 0 for every θ and φ, and when?"),
        wrong("product of the differences",
              "-eta*phi*(new_theta + theta) + eta*new_theta*(new_phi + phi) "
              "+ c*(new_theta - theta)*(new_phi - phi)",
              f"{_CHANGE} - c*(new_theta*new_phi - theta*phi) - c*eta**2*phi*new_theta",
              says="θ′φ′ − θφ became (θ′ − θ)(φ′ − φ). The difference of two products is not the product of "
                   "the differences.",
              hint="3·4 − 2·1 is 10. What is (3 − 2)(4 − 1)?"),
    ),
    teaching_notes="c = −η: I is θ² + φ² − ηθφ, an ellipse whose axes lie at 45 degrees, open from η = 2 on. "
                   "Ask for the simultaneous steps too: no c does it, because θ² + φ² grows by 1 + η² in "
                   "each round. The order of two lines of code decides it.")


# --- the hinge loss (derivation) ----------------------------------------------------------------------------

def _hinge_instances(generator: torch.Generator) -> list[Instance]:
    return [_hinge_instance(count, generator) for count in (2, 3, 2, 4, 3)]


def _hinge_instance(count: int, generator: torch.Generator) -> Instance:
    """Two laws, and logits between −1 and 1 that are not the best."""
    p, q = _two_laws(generator, count)
    a = _tenths(generator, -9, 9, count)
    symbols = {"p": p.__getitem__, "q": q.__getitem__, "a": a.__getitem__, "states": tuple(range(count)),
               "TV": math.fsum(abs(one - other) for one, other in zip(p, q)) / 2}
    return Instance(f"p = {_shown(p)}, q = {_shown(q)}, a = {_shown(a)}", symbols)


_HINGE = _over("p(x)*max(0, 1 - a(x)) + q(x)*max(0, 1 + a(x))")
_GAP = _over("abs(p(x) - q(x)) - (p(x) - q(x))*a(x)")
_HINGE_RESULT = f"2 - 2*TV + {_GAP}"
_LINEAR = _over("(p(x) - q(x))*a(x)")


def _is_linear(tree: ast.expr) -> bool:
    """A line in which the hinges are gone and the absolute values have not come yet."""
    return "a" in names_in(tree) and not {"max", "abs", "TV", "min"} & names_in(tree)


hinge_proof = LongDerivation(
    name="hinge_proof", title="What the hinge loss measures", chapter=7, difficulty=2, minutes=15, points=4,
    equations=("eq-gan-hinge", "eq-gan-hinge-optimum"),
    statement="""
        Data with the law $p$ and samples with the law $q$ on a few states, and a discriminator that answers
        $a(x)$, a number from $-1$ to 1. (Beyond $\\pm 1$ the hinge loss can only grow: one of its two terms
        is 0 there, and the other rises.) Show that its hinge loss is

        $$\\sum_x \\big[ p(x) \\max(0, 1 - a(x)) + q(x) \\max(0, 1 + a(x)) \\big] = 2 - 2\\,\\lVert p - q
        \\rVert + \\sum_x \\big[ |p(x) - q(x)| - (p(x) - q(x))\\, a(x) \\big]$$

        where $\\lVert p - q \\rVert = \\frac12 \\sum_x |p(x) - q(x)|$ is the total variation. No term of the
        last sum is negative, and all are 0 if and only if $a(x) = 1$ where there is more data than samples,
        and $-1$ where there is less. So the result says both, what is best and what is left then. Fill in
        the lines marked `...`, or write a chain of your own.""",
    symbols=(("p(x), q(x)", "p(x),\\; q(x)", "laws of data and samples"),
             ("a(x)", "a(x)", "the discriminator's answer, from −1 to 1"),
             ("TV", "\\lVert p - q \\rVert", "half of the sum of `abs(p(x) - q(x))`"),
             ("states", "x", "all states: `sum(… for x in states)`")),
    chain=f"""
        {_HINGE}
        = sum(p(x)*(1 - a(x)) + q(x)*(1 + a(x)) for x in states)      # a lies in −1 … 1
        = 2 - sum((p(x) - q(x))*a(x) for x in states)      # laws add to 1
        = 2 - sum(abs(p(x) - q(x)) for x in states)      # added and taken away
          + sum(abs(p(x) - q(x)) - (p(x) - q(x))*a(x) for x in states)
        = 2 - 2*TV
          + sum(abs(p(x) - q(x)) - (p(x) - q(x))*a(x) for x in states)
        """,
    blanks=(2, 3, 4), least_lines=2, instances=_hinge_instances,
    nearly="One more line: without the hinges first, and then with the sums of p and q worked out.",
    landmarks=(Step("Show the hinges opened: a line without max, min and abs, in which a still stands.",
                    test=_is_linear),),
    hints=("a(x) is at least −1 and at most 1. Is 1 − a(x) ever negative? And 1 + a(x)?",
           "Multiply out. The sums of p and of q are 1 each, and what is left with a(x) is −(p − q) a(x).",
           "2 − sum of (p − q) a: add and take away the sum of abs(p − q), which is 2 TV."),
    misconceptions=(
        wrong("hinges exchanged", _over("p(x)*max(0, 1 + a(x)) + q(x)*max(0, 1 - a(x))"),
              f"2 + {_LINEAR}", f"2 - 2*TV + {_over('abs(p(x) - q(x)) + (p(x) - q(x))*a(x)')}",
              says="The signs in the two hinges are exchanged: data should be answered with 1, so 1 − a "
                   "belongs to p.",
              hint="For which a is the term of the data 0?"),
        wrong("the 2 forgotten", f"-{_LINEAR}", _over("q(x)*a(x) - p(x)*a(x)"),
              f"-2*TV + {_GAP}",
              says="The constant is gone: this is the critic's loss of the Wasserstein GAN. The hinges begin "
                   "at 1, for the data and for the samples.",
              hint="What is the loss of a discriminator that answers 0 everywhere?"),
        wrong("1 for 2", f"1 - {_LINEAR}", f"1 - 2*TV + {_GAP}", f"1 - TV + {_GAP}",
              says="The constant is 1 in your line. p adds to 1, and q adds to 1.",
              hint="What is the loss of a discriminator that answers 0 everywhere?"),
        wrong("1 for every state", f"2*len(states) - {_LINEAR}", f"len(states) - {_LINEAR}",
              f"2*len(states) - 2*TV + {_GAP}",
              says="The 1 of the hinge is counted once for every state. It is weighed by p(x) and q(x).",
              hint="What is the sum of p(x)·1 over all x?"),
        wrong("a mean over the states", f"({_HINGE})/len(states)", f"2 - {_LINEAR}/len(states)",
              says="You divided by the number of states. The weights p(x) and q(x) do that already.",
              hint="Which sums of p and q are 1?"),
        wrong("½ of the total variation", f"2 - TV + {_GAP}", f"2 - 4*TV + {_GAP}",
              says="A factor 2 is wrong: the total variation is half of the sum of abs(p − q), so the sum is "
                   "2 TV.",
              hint="Disjoint laws have TV = 1. What is the loss of the best discriminator there?"),
        wrong("the gap left out", "2 - 2*TV", "2 - sum(abs(p(x) - q(x)) for x in states)",
              "2*sum(min(p(x), q(x)) for x in states)",
              says="This is the best discriminator's loss. Yours is any discriminator, so what it loses "
                   "against the best must stand beside it.",
              hint="Where has a(x) gone?"),
        wrong("the gap with a minus", f"2 - 2*TV - {_GAP}", f"2 - 2*TV - {_over('abs(p(x) - q(x))')} "
              f"+ {_LINEAR}",
              says="The gap is subtracted: then every discriminator would be better than the best.",
              hint="Whatever is taken away must be added again."),
        wrong("the larger for the smaller", f"2 + 2*TV + {_GAP}",
              "2*sum(max(p(x), q(x)) for x in states)", f"2 + {_over('abs(p(x) - q(x))')} - {_LINEAR}",
              says="The total variation is added. 2 + 2 TV is twice the sum of the larger of p and q; a best "
                   "discriminator is left with the smaller.",
              hint="If data and samples never meet, what does a perfect discriminator lose?"),
        wrong("p + q for p − q", f"2 - {_over('(p(x) + q(x))*a(x)')}",
              f"2 + {_over('(p(x) + q(x))*a(x)')}",
              f"2 - 2*TV + {_over('abs(p(x) - q(x)) - (p(x) + q(x))*a(x)')}",
              says="Both terms with a(x) have the same sign in your line. a comes with a minus from the data "
                   "and with a plus from the samples.",
              hint="Multiply out q(1 + a)."),
        wrong("one law only", _over("p(x)*max(0, 1 - a(x))"), _over("q(x)*max(0, 1 + a(x))"),
              f"2 - {_over('p(x)*a(x)')}", f"2 + {_over('q(x)*a(x)')}",
              says="One of the two laws is missing, or its term with a(x).",
              hint="How many expectations has the hinge loss?"),
        wrong("a product of sums", "2", f"2 - {_over('p(x) - q(x)')}*{_over('a(x)')}",
              says="Your line is 2 whatever the answers are: a was set to 0, or the sum of products became a "
                   "product of sums (and p − q adds to 0).",
              hint="1·2 + 3·4 is 14. What is (1 + 3)(2 + 4)?"),
        wrong("answers taken out of the sum", f"2 - 2*TV*{_over('a(x)')}", f"2 - TV*{_over('a(x)')}",
              f"2 - 2*TV*{_over('a(x)')}/len(states)", f"2 - 2*TV*{_over('abs(a(x))')}",
              says="The answers a(x) were taken out of the sum, and TV was left in it. Each difference p − q "
                   "has an answer of its own, and its sign.",
              hint="Does a(x) depend on x?"),
        wrong("the larger of the two terms", _over("max(p(x)*(1 - a(x)), q(x)*(1 + a(x)))"),
              _over("min(p(x)*(1 - a(x)), q(x)*(1 + a(x)))"),
              says="You compared the two terms with each other. max(0, …) compares each of them with 0, and "
                   "both are added.",
              hint="a = 0: which of the two terms is 0?"),
        wrong("squared hinge", _over("p(x)*(1 - a(x))**2 + q(x)*(1 + a(x))**2"),
              _over("p(x)*max(0, 1 - a(x))**2 + q(x)*max(0, 1 + a(x))**2"),
              says="You squared the hinges: that is the loss of a least-squares GAN. Its best answer lies "
                   "between −1 and 1.",
              hint="Is there a square in the given line?"),
        wrong("absolute value for the sign", f"2 - {_over('abs(p(x) - q(x))*a(x)')}",
              f"2 - {_over('abs((p(x) - q(x))*a(x))')}",
              f"2 - 2*TV + {_over('abs(p(x) - q(x)) - abs(p(x) - q(x))*a(x)')}",
              f"2 - 2*TV + {_over('abs(p(x) - q(x)) - abs((p(x) - q(x))*a(x))')}",
              says="p − q became its absolute value in front of a(x). Where there is more of the samples, "
                   "p − q is negative, and a should be.",
              hint="q > p: does a larger a lower the loss there, or raise it?"),
        wrong("no margin", _over("p(x)*max(0, -a(x)) + q(x)*max(0, a(x))"),
              says="The margin 1 is gone from the hinges: then an answer of 0 costs nothing, and nothing is "
                   "learnt.",
              hint="Where does max(0, 1 − a) begin to rise?"),
        wrong("the logistic loss", _over("p(x)*log(1 + exp(-a(x))) + q(x)*log(1 + exp(a(x)))"),
              says="This is the loss of the first GAN, with softplus for the hinge.",
              hint="Which function stands in the given line?"),
        wrong("half of the loss", f"({_HINGE})/2", f"1 - {_LINEAR}/2", f"1 - TV + ({_GAP})/2",
              says="Half of the loss: the mean over data and samples together. The hinge loss is the sum of "
                   "two expectations.",
              hint="How many expectations stand in the given line?"),
    ),
    teaching_notes="Three losses, three divergences: 2 JSD − 2 log 2, 2 − 2 TV, and −W₁. Ask which of them "
                   "tell a generator that is far away how far it is. The best hinge answer has no size, "
                   "only a sign: where the data are, the generator sees a flat discriminator.")


# --- what the code exercises share --------------------------------------------------------------------------

OWN_CHANCE = "chance of your own"
CUT = "nothing to learn from"


def code_exercise(kind: type[FunctionExercise] = GradualExercise, **settings: object) -> Callable:
    """Decorates a solution, as `function_exercise` does."""
    return lambda solution: kind(name=solution.__name__, chapter=7, solution=solution, **settings)


def _float(*rows: object) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def _signed(generator: torch.Generator, *shape: int, most: int = 20) -> Tensor:
    """Random tenths of both signs up to most/10, none of them 0."""
    size = torch.randint(1, most + 1, shape, generator=generator)
    sign = 2 * torch.randint(2, shape, generator=generator) - 1
    return (size * sign).to(torch.float64) / 10


def _soft(a: Tensor) -> Tensor:
    """log(1 + e^a), for any a."""
    return softplus(a, threshold=40)


# --- the losses of the game ---------------------------------------------------------------------------------

def _batches(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """(real_logits, fake_logits): tenths, often of two sizes; then ±100 and ±800, some of them wrong."""
    for real, fake in ((1, 2), (2, 1), (2, 2), (1, 3), (3, 2), (2, 4), (4, 3)):
        yield _signed(generator, real, most=30), _signed(generator, fake, most=30)
    yield _float(-100.0, 100.0, 2.5), _float(100.0, -100.0)
    yield _float(800.0, -800.0), _float(-800.0, 1.5, 800.0)


def _losses_by_loops(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Logit by logit, from log(1 − σ)."""
    real, fake = real_logits.tolist(), fake_logits.tolist()
    of_real = math.fsum(_saturating(-a) for a in real) / len(real)
    of_fake, of_success = (math.fsum(_saturating(sign * a) for a in fake) / len(fake) for sign in (1, -1))
    return _float(-of_real - of_fake, of_fake, -of_success)


def _right_losses(r: Tensor, f: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _soft(-r).mean() + _soft(f).mean(), -_soft(f).mean(), _soft(-f).mean()


def _lost(**other: Callable[[Tensor, Tensor], Tensor]) -> Slip:
    """A slip in some of the three losses: D, S and N are functions of (real, fake)."""
    def parts(r: Tensor, f: Tensor) -> tuple[Tensor, ...]:
        return tuple(other[name](r, f) if name in other else right
                     for name, right in zip("DSN", _right_losses(r, f)))
    return Slip(parts)


def _each(change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Slip:
    """The right losses of other logits."""
    return Slip(lambda r, f: _right_losses(*change(r, f)))


def _naive(p: Callable[[Tensor], Tensor] = torch.sigmoid, e: float = 0.0, which: str = "DSN") -> Slip:
    """Logarithms of probabilities as they were computed, some constant added to each."""
    rules = {"D": lambda r, f: -(p(r) + e).log().mean() - (1 - p(f) + e).log().mean(),
             "S": lambda r, f: (1 - p(f) + e).log().mean(), "N": lambda r, f: -(p(f) + e).log().mean()}
    return _lost(**{name: rules[name] for name in which})


def _clamped(e: float) -> Slip:
    return _naive(lambda a: a.sigmoid().clamp(e, 1 - e))


def _bce(p: Tensor, label: float) -> Tensor:
    return binary_cross_entropy(p, torch.full_like(p, label))


_EDGES = (1e-6, 1e-7, 1e-8, 1e-10, 1e-12)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class NumbersExercise(ShapedExercise):
    """Several numbers. Who made more than one slip is told of the first number that is wrong.

    advice: pairs of words in the message of an error, and the hint that helps there.
    """

    advice: tuple[tuple[str, str], ...] = ()

    def judge(self, trials: Sequence[Trial], mistaken: Callable, *how: object, **more: object) -> Verdict:
        verdict = super().judge(trials, mistaken, *how, **more)
        apart = [k for k in range(len(self.parts))
                 if not all(agree(one.yours[k], one.truth[k]) for one in trials)]
        if verdict.passed or not apart:
            return verdict
        right = [f"`{name}`" for k, name in enumerate(self.parts) if k not in apart]
        note = f"Right on all cases: {', '.join(right) or 'none of them'}."
        verdict = replace(verdict, notes=(note, *verdict.notes))
        if verdict.misconception or "NaN" in verdict.message:
            return verdict
        named = (self._of_part(k, verdict, trials, mistaken) for k in apart)
        return next((one for one in named if one is not None), verdict)

    def _of_part(self, k: int, verdict: Verdict, trials: Sequence[Trial],
                 mistaken: Callable) -> Verdict | None:
        """The verdict of the misconception that number k alone matches."""
        alone = [Trial(one.shown, one.truth[k], one.yours[k]) for one in trials]
        found = next((one for one in self.misconceptions if matches(
            one, alone, lambda mutant, n: mistaken(mutant, n)[k], self.tolerance)), None)
        if found is None:
            return None
        begin = f"There may be more than one slip: look at `{self.parts[k]}` first."
        return replace(verdict, misconception=found.name, message=f"{begin} {found.says}", hint=found.hint)

    def refused(self, refusal: Refusal) -> Verdict:
        return super().refused(_advised(refusal, self.advice))


def _advised(refusal: Refusal, advice: tuple[tuple[str, str], ...]) -> Refusal:
    """The refusal with the hint that its message calls for."""
    hint = next((hint for words, hint in advice if words in refusal.message), refusal.hint)
    return Refusal(refusal.message, refusal.facts, hint)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LossExercise(GradualExercise, NumbersExercise):
    """Several numbers, judged on ordinary logits first."""


@code_exercise(
    LossExercise, title="The losses of the game", difficulty=1, minutes=12, points=3,
    equations=("eq-gan-logits", "eq-gan-saturating", "eq-gan-non-saturating"),
    parts=("discriminator", "saturating", "non_saturating"), shapes=lambda *case: ((), (), ()),
    statement="""
        A discriminator has given logits $a$ to a batch of data and to a batch of samples; $D = \\sigma(a)$ is
        its probability that a row is a datum. Compute three losses, each **to be made small**, in nats: the
        discriminator's,

        $$-V = -\\mathbb{E} \\log D(x) - \\mathbb{E} \\log(1 - D(G(z))),$$

        and the generator's two, the saturating $\\mathbb{E} \\log(1 - D(G(z)))$ and the non-saturating
        $-\\mathbb{E} \\log D(G(z))$. Expectations are means over the batch; the two batches need not be
        equally large. In two of the cases logits are $\\pm 100$ and $\\pm 800$, some of them wrong: then
        $\\log(1 - \\sigma(a))$, written as it stands, is the logarithm of 0. Return the three, in this
        order.""",
    hints=("Write log σ(a) and log(1 − σ(a)) in terms of log(1 + e^u) before you code. Which u does each of "
           "them need?",
           "log σ(a) = −log(1 + e^(−a)), and log(1 − σ(a)) = −log(1 + e^a). `torch.nn.functional.softplus` "
           "is log(1 + e^u) for any u.",
           "`softplus(-real_logits).mean() + softplus(fake_logits).mean()` for the discriminator, "
           "`-softplus(fake_logits).mean()` and `softplus(-fake_logits).mean()` for the generator."),
    truth=_losses_by_loops, cases=_batches,
    level=lambda real_logits, fake_logits: int(max(real_logits.abs().max(), fake_logits.abs().max()) > 50),
    must=(("the discriminator's loss and the non-saturating one are never negative.",
           lambda yours, *case: (yours[[0, 2]] >= -1e-6).all()),
          ("the saturating loss is never positive.", lambda yours, *case: yours[1] <= 1e-6),
          ("the generator's two losses add to minus the mean logit of the samples.", lambda yours, r, f: abs(
              yours[1] + yours[2] + f.mean()) < 1e-3 * (1 + f.abs().max()))),
    on_the_way=lambda real_logits, fake_logits: {
        "log D of the data": -_soft(-real_logits), "log(1 − D) of the samples": -_soft(fake_logits)},
    misconceptions=(
        wrong("the discriminator's sign", _lost(D=lambda r, f: -_soft(-r).mean() - _soft(f).mean()),
              says="Your first loss is V itself, which the discriminator makes large. A loss is made small, "
                   "so it is −V.",
              hint="What should the loss of a discriminator be that is always right?", credit=0.25),
        wrong("the generator's sign", _lost(S=lambda r, f: _soft(f).mean()),
              _lost(N=lambda r, f: -_soft(-f).mean()),
              _lost(S=lambda r, f: _soft(f).mean(), N=lambda r, f: -_soft(-f).mean()),
              says="One of the generator's losses (or both) has the wrong sign: an optimiser would drive the "
                   "samples away from the data.",
              hint="If a logit of a sample rises, the generator has succeeded. Does your loss fall then?",
              credit=0.25),
        wrong("the generator's two losses exchanged",
              _lost(S=lambda r, f: _soft(-f).mean(), N=lambda r, f: -_soft(f).mean()),
              says="The saturating and the non-saturating loss have changed places. The saturating one is "
                   "the term of V that holds the samples.",
              hint="Which of the two has a 1 − D in it?", credit=0.5),
        wrong("one loss for both", _lost(N=lambda r, f: -_soft(f).mean()),
              _lost(S=lambda r, f: _soft(-f).mean()),
              _lost(S=lambda r, f: -_soft(-f).mean(), N=lambda r, f: -_soft(-f).mean()),
              says="Both of the generator's losses are the same in your answer. One holds log(1 − D), the "
                   "other −log D.",
              hint="Is −log D the same as log(1 − D)? Take D = 0.01."),
        wrong("labels exchanged", _lost(D=lambda r, f: _soft(r).mean() + _soft(-f).mean()),
              says="Your discriminator learns to call data false, and samples true. log D belongs to the "
                   "data.",
              hint="Of which batch is log D the mean?"),
        wrong("one label for both batches", _lost(D=lambda r, f: _soft(-r).mean() + _soft(-f).mean()),
              _lost(D=lambda r, f: _soft(r).mean() + _soft(f).mean()),
              says="Your discriminator gives data and samples the same label: it learns to say the same "
                   "everywhere. log D belongs to the data, and log(1 − D) to the samples.",
              hint="With which sign does the logit stand in log σ(a), and in log(1 − σ(a))?"),
        wrong("logarithm of the mean",
              _lost(D=lambda r, f: -r.sigmoid().mean().log() - (1 - f.sigmoid()).mean().log(),
                    S=lambda r, f: (1 - f.sigmoid()).mean().log(), N=lambda r, f: -f.sigmoid().mean().log()),
              _lost(D=lambda r, f: -r.sigmoid().mean().log() - (1 - f.sigmoid()).mean().log()),
              _each(lambda r, f: (r.mean(), f.mean())),
              says="You took the mean of the probabilities (or of the logits) and then the logarithm. The "
                   "logarithm comes first, row by row; the other order hides single rows that are badly "
                   "wrong.",
              hint="Two rows with D = 0.5 and D = 0.001: what is the mean of −log D?"),
        wrong("a sum for the mean",
              Slip(lambda r, f: (_soft(-r).sum() + _soft(f).sum(), -_soft(f).sum(), _soft(-f).sum())),
              _lost(D=lambda r, f: _soft(-r).sum() + _soft(f).sum()),
              says="You added over the batch. An expectation is a mean; with a sum, the step size would "
                   "depend on the size of the batch.",
              hint="Does the loss of the same rows, taken twice, double?"),
        wrong("half of the discriminator's loss",
              _lost(D=lambda r, f: (_soft(-r).mean() + _soft(f).mean()) / 2),
              says="Your discriminator's loss is halved, as much code has it. V is the sum of the two means, "
                   "and a loss of log 2 would then mean what 2 log 2 means everywhere else.",
              hint="What is V where D = ½ for every row?", credit=0.5),
        wrong("one mean over both batches",
              _lost(D=lambda r, f: torch.cat([_soft(-r), _soft(f)]).mean()),
              _lost(D=lambda r, f: 2 * torch.cat([_soft(-r), _soft(f)]).mean()),
              says="You threw both batches together and took one mean. V is a mean over the data plus a mean "
                   "over the samples; the larger batch must not weigh more.",
              hint="One datum and 99 samples: how much should the datum count?"),
        wrong("one batch only", _lost(D=lambda r, f: _soft(-r).mean()), _lost(D=lambda r, f: _soft(f).mean()),
              says="Your discriminator's loss holds one of its two terms. From data alone it learns to say 1 "
                   "always, from samples alone to say 0.",
              hint="How many expectations has V?"),
        wrong("the generator judged on data",
              _lost(S=lambda r, f: -_soft(r).mean(), N=lambda r, f: _soft(-r).mean()),
              _lost(N=lambda r, f: _soft(-r).mean()), _lost(S=lambda r, f: -_soft(r).mean()),
              says="A loss of the generator was computed from the logits of the data, on which it has no "
                   "influence: its gradient would be 0.",
              hint="Which of the two arguments depends on G?"),
        wrong("the data's term in the generator's loss",
              _lost(S=lambda r, f: -_soft(-r).mean() - _soft(f).mean()),
              _lost(N=lambda r, f: _soft(-f).mean() + _soft(r).mean()),
              says="A loss of the generator holds the term of the data too. It does not depend on G: the "
                   "gradient is right, and the number is not the one asked for.",
              hint="Which batch does E log(1 − D(G(z))) run over?", credit=0.5),
        wrong("no logarithm",
              _lost(D=lambda r, f: (-r).sigmoid().mean() + f.sigmoid().mean(),
                    S=lambda r, f: -f.sigmoid().mean(), N=lambda r, f: -f.sigmoid().mean()),
              _lost(D=lambda r, f: (-r).sigmoid().mean() + f.sigmoid().mean(),
                    S=lambda r, f: (-f).sigmoid().mean(), N=lambda r, f: -f.sigmoid().mean()),
              says="You averaged probabilities without a logarithm. Being certain and wrong then costs no "
                   "more than 1.",
              hint="D = 10⁻⁶ for a datum: what does it cost in V?"),
        wrong("sigmoid applied twice", _each(lambda r, f: (r.sigmoid(), f.sigmoid())),
              says="The logits went through a sigmoid twice: a function that takes logits was given "
                   "probabilities. All D then lie between 0.5 and 0.73.",
              hint="Which of the two functions of torch has `with_logits` in its name?"),
        wrong("the critic's losses", _lost(D=lambda r, f: f.mean() - r.mean(), S=lambda r, f: -f.mean(),
                                           N=lambda r, f: -f.mean()),
              _lost(D=lambda r, f: f.mean() - r.mean()),
              says="These are the losses of the Wasserstein critic, means of the logits themselves.",
              hint="Where is the sigmoid in your answer?"),
        wrong("the hinge loss", _lost(D=lambda r, f: (1 - r).relu().mean() + (1 + f).relu().mean(),
                                      S=lambda r, f: -f.mean(), N=lambda r, f: -f.mean()),
              _lost(D=lambda r, f: (1 - r).relu().mean() + (1 + f).relu().mean()),
              says="This is the hinge loss, which comes later in the chapter.",
              hint="What is −log σ(2)? And the hinge at 2?"),
        wrong("squared error", _lost(D=lambda r, f: (r.sigmoid() - 1).square().mean()
                                     + f.sigmoid().square().mean()),
              _lost(D=lambda r, f: (r - 1).square().mean() + f.square().mean()),
              says="Your discriminator's loss is a squared error: that is another game (least squares), "
                   "whose value is no Jensen–Shannon divergence.",
              hint="Which function of D stands in V?"),
        wrong("bits for nats",
              Slip(lambda r, f: tuple(one / math.log(2) for one in _right_losses(r, f))),
              says="Your logarithm has the base 2. Nats are asked for.",
              hint="Which logarithm has its slope 1 at 1?"),
        wrong("logarithm of a probability",
              *(_naive(which=which) for which in ("DSN", "D", "S", "N", "DS", "SN", "DN")),
              *(_naive(e=e) for e in _EDGES), *map(_clamped, _EDGES),
              _lost(D=lambda r, f: _bce(r.sigmoid(), 1) + _bce(f.sigmoid(), 0),
                    S=lambda r, f: -_bce(f.sigmoid(), 0), N=lambda r, f: _bce(f.sigmoid(), 1)),
              Slip(lambda r, f: (((-r).exp() + 1).log().mean() + (f.exp() + 1).log().mean(),
                                 -(f.exp() + 1).log().mean(), ((-f).exp() + 1).log().mean())),
              *(_each(lambda r, f, c=c: (r.clamp(-c, c), f.clamp(-c, c))) for c in (10, 20, 30, 50, 80, 100)),
              says="Right for ordinary logits. But σ(100) is 1 in floating point, and the logarithm of 1 "
                   "minus it that of 0 (some functions cut it off at −100, some codes at log 1e-8); e^800 is "
                   "infinite. Where it is cut off, the slope is 0 as well, and the worst rows teach nothing.",
              hint="Take the logarithm on paper: log(1 − σ(a)) = −log(1 + e^a), `softplus`.", credit=0.5),
    ),
    teaching_notes="Print the three losses of D = ½: 2 log 2, −log 2, log 2. Then let the class say what the "
                   "halved loss of much public code changes (under Adam nothing, in a table everything).")
def losses(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> tuple:
    """Losses to be made small, nats: the discriminator's and the generator's two.

    real_logits: (rows,) of data, fake_logits: (samples,);
    returns discriminator, saturating, non_saturating, one number each.
    """
    softplus = torch.nn.functional.softplus
    discriminator = softplus(-real_logits).mean() + softplus(fake_logits).mean()
    saturating = -softplus(fake_logits).mean()
    non_saturating = softplus(-fake_logits).mean()
    return discriminator, saturating, non_saturating


# --- the gradient penalty -----------------------------------------------------------------------------------

@dataclass(frozen=True)
class Critic:
    """A critic whose slope is known by hand: a(x) = w·x + (b·x)³/3, and its slope is w + (b·x)² b.

    Called with rows (rows, numbers) it gives (rows,); w and b have gradients, as a network's weights do.
    """

    w: tuple[float, ...]
    b: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        w, b = (torch.tensor(weights, dtype=x.dtype, requires_grad=True) for weights in (self.w, self.b))
        return x @ w + (x @ b)**3 / 3

    def __repr__(self) -> str:
        return f"w·x + (b·x)³/3 with w = {_shown(self.w)}, b = {_shown(self.b)}"


def _criticised(generator: torch.Generator) -> Iterator[tuple[Critic, Tensor, Tensor, Tensor, float]]:
    """(logits, real, fake, share, weight): as many data as samples, and a share for each pair."""
    for rows, numbers, weight in ((2, 1, 2.0), (2, 2, 5.0), (3, 1, 10.0), (3, 2, 10.0), (2, 3, 0.5),
                                  (3, 3, 10.0), (4, 2, 4.0)):
        w, b = (tuple(_signed(generator, numbers, most=12).tolist()) for _ in range(2))
        share = (torch.randint(1, 10, (rows, 1), generator=generator) / 10).to(torch.float64)
        share = torch.where(share == 0.5, 0.4, share)
        yield (Critic(w, b), _signed(generator, rows, numbers, most=15),
               _signed(generator, rows, numbers, most=15), share, weight)


def _penalty_by_hand(logits: Critic, real: Tensor, fake: Tensor, share: Tensor, weight: float) -> Tensor:
    """Pair by pair, with the slope that was worked out on paper."""
    costs = []
    for datum, sample, (mix,) in zip(real.tolist(), fake.tolist(), share.tolist()):
        x = [mix * one + (1 - mix) * other for one, other in zip(datum, sample)]
        inner = math.fsum(b * number for b, number in zip(logits.b, x))
        slope = [w + inner**2 * b for w, b in zip(logits.w, logits.b)]
        costs.append((math.sqrt(math.fsum(one * one for one in slope)) - 1)**2)
    return _float(weight * math.fsum(costs) / len(costs)).squeeze()


def _slopes_at(logits: Critic, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(logits(x).sum(), x, create_graph=True)[0]


def _between(real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    return share * real + (1 - share) * fake


def _penalised(place: Callable[[Tensor, Tensor, Tensor], Tensor] = _between,
               size: Callable[[Tensor], Tensor] = lambda slopes: slopes.norm(dim=1),
               cost: Callable[[Tensor], Tensor] = lambda norm: (norm - 1).square().mean(),
               weighed: Callable[[Tensor, float], Tensor] = lambda cost, weight: weight * cost) -> Callable:
    """A mutant with another place, size of a slope, cost of a size, or use of the weight."""
    def mutant(logits: Critic, real: Tensor, fake: Tensor, share: Tensor, weight: float) -> Tensor:
        return weighed(cost(size(_slopes_at(logits, place(real, fake, share)))), weight)
    return mutant


def _own_shares(seed: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Shares of a generator that is made anew, as after torch.manual_seed."""
    def place(real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
        own = torch.Generator().manual_seed(seed)
        return _between(real, fake, torch.rand(share.shape, generator=own, dtype=share.dtype))
    return place


def _of_difference(logits: Critic, real: Tensor, fake: Tensor, share: Tensor, weight: float) -> Tensor:
    """The rise from sample to datum, divided by their distance, for the slope."""
    rise = (logits(real) - logits(fake)).abs() / (real - fake).norm(dim=1)
    return weight * (rise - 1).square().mean()


def _of_mixed_slopes(logits: Critic, real: Tensor, fake: Tensor, share: Tensor, weight: float) -> Tensor:
    """The slopes at both ends, mixed."""
    slopes = _between(_slopes_at(logits, real), _slopes_at(logits, fake), share)
    return weight * (slopes.norm(dim=1) - 1).square().mean()


def _without_graph(logits: Critic, real: Tensor, fake: Tensor, share: Tensor, weight: float) -> Tensor:
    return _penalised()(logits, real, fake, share, weight).detach()


NO_SLOPE = (
    ("does not require grad", "Before `logits` is called, x̂ must be told to keep its graph: "
                              "`.requires_grad_()`. And the slope is taken in x̂ itself."),
    ("only for scalar outputs", "A slope is that of one number. The logit of a row depends on this row "
                                "alone, so take the slope of the sum of the logits."),
    ("'tuple' object", "`torch.autograd.grad` gives a tuple, with one slope for each tensor that it is asked "
                       "for: take the first, `slopes, = …`."),
    ("not have been used in the graph", "The logits must be computed from the very tensor in which the "
                                        "slope is taken."),
)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PenaltyExercise(GradualExercise):
    """A penalty that can be learnt from: its value must hang on the critic's weights by a graph."""

    def examine(self, answer: object, generator: torch.Generator) -> Verdict:
        state = generator.get_state()
        verdict = super().examine(answer, generator)
        if not verdict.passed:
            return verdict
        case = next(iter(self.cases(generator.set_state(state))))
        with quietly():
            value = within(self.seconds, answer, *case)
        if isinstance(value, Tensor) and value.requires_grad:
            return verdict
        facts = (("smallest case", show_case(dict(zip(self.arguments, case)))),
                 ("yours", "the right number, without a graph: `requires_grad` is False"),
                 ("expected", "the same number, with a gradient in the critic's weights"))
        return self.named(CUT, facts)

    def refused(self, refusal: Refusal) -> Verdict:
        if "two answers" not in refusal.message:
            return super().refused(_advised(refusal, NO_SLOPE))
        return self.named(OWN_CHANCE, refusal.facts)


@code_exercise(
    PenaltyExercise, title="The gradient penalty", difficulty=2, minutes=18, points=4,
    equations=("eq-gan-gradient-penalty", "eq-gan-penalty-optimum"),
    statement="""
        Compute the penalty that keeps a critic's slope near 1 between data and samples,

        $$\\lambda\\; \\frac1n \\sum_{i=1}^n \\big( \\lVert \\nabla_x\\, a(\\hat x_i) \\rVert - 1 \\big)^2,
        \\qquad \\hat x_i = \\varepsilon_i\\, x_i + (1 - \\varepsilon_i)\\, G(z_i)$$

        `logits(x)` is the critic: rows in, `(rows, numbers)`, and one number a row out, `(rows,)`. `real` and
        `fake` hold the pairs, `share` the $\\varepsilon_i$, of shape `(rows, 1)`, drawn for you, and `weight`
        is $\\lambda$. The norm is taken over the numbers of a row. `torch.autograd.grad(y, x)` is the slope
        of one number $y$ in a tensor $x$ that was made with `requires_grad_()`. Your answer must be something
        that the critic can learn from: the slope itself needs a graph.""",
    hints=("Three steps: the points x̂ with a graph of their own, the slope at each of them, and then norms, "
           "distances from 1, squares, mean. In which order do these four come?",
           "The slopes of all rows come at once from the sum of the logits, because the logit of a row "
           "depends on this row alone: `torch.autograd.grad(logits(between).sum(), between, "
           "create_graph=True)`. It returns a tuple.",
           "`between = (share * real + (1 - share) * fake).requires_grad_()`, then "
           "`slopes, = torch.autograd.grad(logits(between).sum(), between, create_graph=True)`, and "
           "`weight * ((slopes.norm(dim=1) - 1)**2).mean()`."),
    truth=_penalty_by_hand, cases=_criticised,
    must=(("a penalty is never negative.", lambda yours, *case: yours >= -1e-9),),
    on_the_way=lambda logits, real, fake, share, weight: {
        "x̂": _between(real, fake, share),
        "norm of the slope at each x̂":
            _slopes_at(logits, _between(real, fake, share)).detach().norm(dim=1)},
    misconceptions=(
        wrong("one share for the whole batch", _penalised(lambda x, g, e: _between(x, g, e[0])),
              _penalised(lambda x, g, e: _between(x, g, e[-1])),
              _penalised(lambda x, g, e: _between(x, g, e.mean())),
              says="All pairs are mixed with the same share. Each has its own ε: else all points of a step "
                   "lie equally far along their segments.",
              hint="`share` has a row for each pair. Did you index or average it?"),
        wrong("norm over the whole batch", _penalised(size=torch.linalg.vector_norm),
              _penalised(size=lambda slopes: slopes.norm() / len(slopes)),
              _penalised(size=lambda slopes: slopes.norm() / len(slopes)**0.5),
              says="You took one norm over all rows. Each row has a slope of its own, and each norm should "
                   "be 1: a batch may hide a steep row behind flat ones.",
              hint="`slopes` is (rows, numbers). Over which dimension does the norm run?"),
        wrong("mean before the square", _penalised(cost=lambda norm: (norm.mean() - 1).square()),
              says="You averaged the norms before taking the square: slopes of 0 and 2 would then cost "
                   "nothing.",
              hint="Norms 0 and 2: what should the penalty be?"),
        wrong("mean of the slopes", _penalised(size=lambda slopes: slopes.mean(0).norm()),
              says="You averaged the slopes before taking the norm. Slopes in opposite directions cancel, "
                   "and are steep all the same.",
              hint="How many norms does the sum in the statement have?"),
        wrong("slope of the mean", _penalised(size=lambda slopes: (slopes / len(slopes)).norm(dim=1)),
              says="Your slopes are those of the mean logit: each is n times too small. Take the gradient of "
                   "the sum of the logits.",
              hint="By how much does the mean of n logits change if one of them changes by 1?"),
        wrong("samples only", _penalised(lambda x, g, e: g),
              says="The slopes were taken at the samples. The penalty looks in between: x̂ lies on the "
                   "segment from sample to datum.",
              hint="Where do you use `share`?"),
        wrong("data only", _penalised(lambda x, g, e: x),
              says="The slopes were taken at the data, as R1 does. The gradient penalty looks in between.",
              hint="Where do you use `share`?"),
        wrong("midpoints", _penalised(lambda x, g, e: (x + g) / 2),
              says="You took the middle of each pair. The place is drawn: anywhere on the segment.",
              hint="Where do you use `share`?"),
        wrong("the pair exchanged", _penalised(lambda x, g, e: _between(g, x, e)),
              says="ε stands at the sample. In the statement it stands at the datum. (The law of x̂ is the "
                   "same, since ε and 1 − ε have the same; this number is another.)",
              hint="Where is x̂ for ε = 1?", credit=0.5),
        wrong("shares that do not add to 1", _penalised(lambda x, g, e: x + (1 - e) * g),
              _penalised(lambda x, g, e: e * x + g), _penalised(lambda x, g, e: x + e * g),
              _penalised(lambda x, g, e: e * (x - g)), _penalised(lambda x, g, e: x + e * (x - g)),
              says="Your point is not on the segment between datum and sample: the two shares must add to 1.",
              hint="If datum and sample are the same point, where is x̂?"),
        wrong("slopes at the ends, mixed", _of_mixed_slopes,
              says="You took the slopes at the datum and at the sample and mixed these. The slope is taken "
                   "at the mixed point.",
              hint="Of which tensor do you take the gradient?"),
        wrong("rise over distance", _of_difference,
              says="You divided the rise from sample to datum by their distance. That is the mean slope "
                   "along the segment, not the slope at a point in all directions.",
              hint="What is ∇a, if a rises across the segment only?"),
        wrong("root forgotten", _penalised(size=lambda slopes: slopes.square().sum(1)),
              says="You compared the squared norm with 1. The norm has a root.",
              hint="A slope of (3, 4) has which norm?"),
        wrong("pulled to 0", _penalised(cost=lambda norm: norm.square().mean()),
              _penalised(cost=lambda norm: norm.square().mean() / 2),
              says="Your penalty is 0 where the slope is 0, as R1's is. This one pulls the slope to 1.",
              hint="Where is the 1 of the formula?"),
        wrong("square forgotten", _penalised(cost=lambda norm: (norm - 1).mean()),
              _penalised(cost=lambda norm: (norm - 1).abs().mean()),
              says="The distance from 1 is not squared. Without square (or absolute value) flat places would "
                   "be rewarded.",
              hint="What is the penalty of a slope of 0?"),
        wrong("one-sided", _penalised(cost=lambda norm: (norm - 1).relu().square().mean()),
              says="Only slopes above 1 cost something in your answer. There is such a penalty (and it has "
                   "its friends); here both sides cost.",
              hint="What does a slope of 0 cost in the formula?", credit=0.25),
        wrong("another norm", _penalised(size=lambda slopes: slopes.abs().sum(1)),
              _penalised(size=lambda slopes: slopes.abs().amax(1)),
              _penalised(size=lambda slopes: slopes.square().mean(1).sqrt()),
              _penalised(size=lambda slopes: slopes.abs().mean(1)),
              says="That is not the Euclidean norm: squares are added over the numbers of a row, and the "
                   "root is taken. (A mean in place of the sum makes it smaller the more numbers there are.)",
              hint="A slope of (3, 4) has which norm?"),
        wrong("norm of each column", _penalised(size=lambda slopes: slopes.norm(dim=0)),
              says="The norm runs over the rows, dimension 0. It runs over the numbers of one row.",
              hint="How many norms do you get for 4 rows of 2 numbers?"),
        wrong("each number for itself", _penalised(size=torch.abs), _penalised(size=lambda slopes: slopes),
              says="Each number of a slope is compared with 1. It is the length of the whole slope that "
                   "should be 1.",
              hint="Where do you take a norm?"),
        wrong("a sum over the batch", _penalised(cost=lambda norm: (norm - 1).square().sum()),
              says="You added over the rows. The penalty is their mean.",
              hint="Which factor stands in front of the sum?"),
        wrong("weight forgotten", _penalised(weighed=lambda cost, weight: cost),
              _penalised(weighed=lambda cost, weight: cost * weight / 2),
              _penalised(weighed=lambda cost, weight: 10 * cost),
              says="λ, `weight`, is not in your answer as it stands in the formula.",
              hint="What stands in front of the mean?"),
        wrong(CUT, _without_graph,
              says="The number is right, but it hangs on nothing: no gradient reaches the critic's weights, "
                   "and adding the penalty to a loss would change nothing. autograd forgets how a gradient "
                   "was computed unless it is asked not to.",
              hint="Which argument of `torch.autograd.grad` keeps the graph? And do `.item()`, `.detach()` "
                   "or `float` stand behind it?", credit=0.5),
        wrong(OWN_CHANCE, *(_penalised(_own_shares(seed)) for seed in (0, 1, 42)),
              says="You drew the shares yourself. They are given in `share`, so that your answer can be "
                   "compared.",
              hint="Which of the arguments did you not use?", credit=0.25),
    ),
    teaching_notes="The three bugs of public code are all here: one share a batch, a norm over the batch, "
                   "and a penalty without create_graph. None of them stops the training; ask for the test "
                   "that finds each. Then ask why batch normalisation in the critic spoils the trick with "
                   "the sum.")
def penalty(logits, real: torch.Tensor, fake: torch.Tensor,
            share: torch.Tensor, weight: float) -> torch.Tensor:
    """weight times the mean of (norm of the slope - 1)^2, between the pairs.

    logits: a function, (rows, numbers) to (rows,); real, fake: (rows, numbers);
    share: (rows, 1), of the datum in each pair; returns a number with a graph.
    """
    between = (share * real + (1 - share) * fake).requires_grad_()
    total = logits(between).sum()
    slopes, = torch.autograd.grad(total, between, create_graph=True)
    return weight * ((slopes.norm(dim=1) - 1)**2).mean()


# --- the Fréchet distance and its floor ---------------------------------------------------------------------

def _featured(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """(real, generated): features in tenths, correlated, of different widths; an even count of real ones."""
    for real, generated, numbers in ((6, 6, 2), (6, 8, 2), (8, 6, 2), (8, 8, 3), (10, 8, 3), (8, 12, 3),
                                     (12, 12, 2)):
        yield tuple(_correlated(count, numbers, generator) for count in (real, generated))


def _correlated(count: int, numbers: int, generator: torch.Generator) -> Tensor:
    x = _signed(generator, count, numbers) @ _signed(generator, numbers, numbers)
    return (10 * (x + _signed(generator, numbers))).round() / 10


def _moments(x: Tensor) -> tuple[list[float], Tensor]:
    """Means as a list, and the covariances, number by number, divided by the count less 1."""
    columns = x.T.tolist()
    means = [math.fsum(column) / len(column) for column in columns]
    away = [[value - mean for value in column] for column, mean in zip(columns, means)]
    covariances = [[math.fsum(map(float.__mul__, a, b)) / (len(a) - 1) for b in away] for a in away]
    return means, _float(*covariances)


def _frechet_by_eigenvalues(x: Tensor, y: Tensor) -> float:
    """The trace of the root from the eigenvalues of the product, which is not symmetric."""
    (mean, S), (other, T) = _moments(x), _moments(y)
    apart = math.fsum((a - b)**2 for a, b in zip(mean, other))
    roots = torch.linalg.eigvals(S @ T).real.clamp(min=0).sqrt()
    return apart + float(S.trace() + T.trace() - 2 * roots.sum())


def _two_frechet_distances(real: Tensor, generated: Tensor) -> Tensor:
    half = len(real) // 2
    return _float(_frechet_by_eigenvalues(real, generated), _frechet_by_eigenvalues(real[:half], real[half:]))


def _root_trace(S: Tensor, T: Tensor) -> Tensor:
    """Trace of the root of S T."""
    return torch.linalg.eigvals(S @ T).real.clamp(min=0).sqrt().sum()


def _gap(x: Tensor, y: Tensor) -> Tensor:
    return (x.mean(0) - y.mean(0)).square().sum()


def _unbiased(x: Tensor) -> Tensor:
    return torch.cov(x.T)


def _widths(S: Tensor, T: Tensor) -> Tensor:
    return S.trace() + T.trace() - 2 * _root_trace(S, T)


def _distance(gap: Callable[[Tensor, Tensor], Tensor] = _gap,
              covariance: Callable[[Tensor], Tensor] = _unbiased,
              widths: Callable[[Tensor, Tensor], Tensor] = _widths) -> Callable[[Tensor, Tensor], Tensor]:
    """A distance with another gap of the means, covariance, or comparison of two covariances."""
    return lambda x, y: gap(x, y) + widths(covariance(x), covariance(y))


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[:len(x) // 2], x[len(x) // 2:]


def _of_distance(distance: Callable[[Tensor, Tensor], Tensor]) -> Slip:
    """The slip of another distance, in both answers."""
    return Slip(lambda real, generated: (distance(real, generated), distance(*_halves(real))))


def _of_floor(floor: Callable[[Tensor, Tensor], Tensor]) -> Slip:
    """The right distance, and another floor."""
    return Slip(lambda real, generated: (_distance()(real, generated), floor(real, generated)))


def _with_cross(cross: Callable[[Tensor, Tensor], Tensor], factor: float = -2) -> Slip:
    """The slip of another term for the trace of the root, or another factor."""
    return _of_distance(_distance(widths=lambda S, T: S.trace() + T.trace() + factor * cross(S, T)))


def _among_images(x: Tensor, y: Tensor) -> Tensor:
    """With covariances of images, where both sets have as many."""
    return _distance(covariance=torch.cov)(x, y) if len(x) == len(y) else torch.tensor(math.nan)


def _deviations(S: Tensor) -> Tensor:
    return S.diag().sqrt()


@code_exercise(
    NumbersExercise, title="The Fréchet distance and its floor", difficulty=2, minutes=20, points=4,
    equations=("eq-gan-frechet", "eq-gan-frechet-bias"),
    parts=("distance", "floor"), shapes=lambda *case: ((), ()),
    alike=lambda real, generated: len(real) == len(generated),
    advice=(("cholesky", "The triangle of Cholesky is no symmetric root, and Σ₁Σ₂ is not symmetric: take "
                         "`torch.linalg.eigh` of Σ₁."),
            ("is complex", "Σ₁Σ₂ is not symmetric, so `eigvals` answers in complex numbers; the matrix in "
                           "the last bracket of the formula is symmetric.")),
    statement="""
        Features of real images and of generated ones, a row an image. Compute the Fréchet distance of the two
        sets, with means $\\mu$ and covariances $\\Sigma$ (sums divided by the count less 1),

        $$\\lVert \\mu_1 - \\mu_2 \\rVert^2 + \\operatorname{tr} \\Sigma_1 + \\operatorname{tr} \\Sigma_2 - 2
        \\operatorname{tr} \\big( \\Sigma_1^{1/2}\\, \\Sigma_2\\, \\Sigma_1^{1/2} \\big)^{1/2}$$

        and beside it what the same formula gives for two sets of real images: the first half of the rows of
        `real` against the second half. No generator is to be blamed for that number, and it is not 0: it is
        the floor that belongs beside every Fréchet distance, with the counts. (Take the rows here as being in
        random order. Digits often come writer by writer: shuffle a set before you halve it.) A root of a
        symmetric matrix with eigenvalues $\\lambda_i \\ge 0$ has the same eigenvectors and the eigenvalues
        $\\sqrt{\\lambda_i}$; its trace is their sum. Return the distance and the floor.""",
    hints=("Write the distance of two sets as a function of its own, and call it twice. `torch.cov` wants "
           "the features in rows: `torch.cov(x.T)`.",
           "`values, vectors = torch.linalg.eigh(S)`; the root is `vectors * values.clamp(min=0).sqrt() @ "
           "vectors.T` (each column times its root); `root @ root` gives S back. The matrix in the last "
           "bracket is symmetric too.",
           "`inner = root @ T @ root`, and `torch.linalg.eigvalsh(inner).clamp(min=0).sqrt().sum()` is the "
           "trace that is taken away twice. The floor is the same function of `real[:half]` and "
           "`real[half:]`."),
    truth=_two_frechet_distances, cases=_featured,
    must=(("a Fréchet distance is never negative.", lambda yours, *case: (yours >= -1e-6).all()),
          ("it is at least the squared distance of the two means.",
           lambda yours, real, generated: yours[0] >= _gap(real, generated) - 1e-3)),
    on_the_way=lambda real, generated: {
        "squared distance of the means": _gap(real, generated),
        "tr Σ₁": _unbiased(real).trace(), "tr Σ₂": _unbiased(generated).trace(),
        "tr of the root": _root_trace(_unbiased(real), _unbiased(generated))},
    misconceptions=(
        wrong("root of each element", _with_cross(lambda S, T: (S @ T).sqrt().trace()),
              _with_cross(lambda S, T: (S @ T).abs().sqrt().trace()),
              _with_cross(lambda S, T: (S @ T).clamp(min=0).sqrt().trace()),
              _with_cross(lambda S, T: (S.abs().sqrt() @ T.abs().sqrt()).trace()),
              says="You took the root of each element (`torch.sqrt`). The root of a matrix is another "
                   "matrix, which times itself gives the first: it takes eigenvalues.",
              hint="Square the matrix [[2, 1], [1, 2]] by hand, and root the elements. Do you get it back?"),
        wrong("a symmetric routine for a product",
              _with_cross(lambda S, T: torch.linalg.eigvalsh(S @ T).clamp(min=0).sqrt().sum()),
              _with_cross(lambda S, T: torch.linalg.eigvalsh(T @ S).clamp(min=0).sqrt().sum()),
              _with_cross(lambda S, T: torch.linalg.eigvalsh(S @ T).sqrt().sum()),
              _with_cross(lambda S, T: torch.linalg.eigvalsh(S @ T).abs().sqrt().sum()),
              says="`eigh` and `eigvalsh` read one triangle of their matrix and take the other for the same. "
                   "Σ₁Σ₂ is not symmetric; Σ₁^½ Σ₂ Σ₁^½ is, and has the same eigenvalues.",
              hint="Is the product of two symmetric matrices symmetric? Print S @ T."),
        wrong("features as if independent",
              _with_cross(lambda S, T: (_deviations(S) * _deviations(T)).sum()),
              says="Only the variances of the single features went in: what goes together with what is lost. "
                   "The formula needs whole covariance matrices.",
              hint="Which elements of Σ does your number use?"),
        wrong("roots multiplied", _with_cross(
            lambda S, T: (torch.linalg.eigvalsh(S).clamp(min=0) * torch.linalg.eigvalsh(T).clamp(min=0))
            .sqrt().sum()),
              says="You multiplied the roots of the two matrices' eigenvalues, in order. That holds only if "
                   "both have the same eigenvectors.",
              hint="Of which one matrix are the eigenvalues taken?"),
        wrong("divided by the count", _of_distance(_distance(covariance=lambda x: torch.cov(
            x.T, correction=0))),
              says="Your covariances are divided by the count (as `numpy.cov(…, bias=True)` does). By the "
                   "count less 1 is asked for; for a few rows that is a large difference.",
              hint="What is the variance of the two numbers 0 and 2, as the statement has it?", credit=0.5),
        wrong("not centred", _of_distance(_distance(covariance=lambda x: x.T @ x / (len(x) - 1))),
              _of_distance(_distance(covariance=lambda x: x.T @ x / len(x))),
              says="The means were not taken away: these are second moments. The means enter in a term of "
                   "their own.",
              hint="What is the covariance of features that are all 5?"),
        wrong("correlations for covariances", _of_distance(_distance(covariance=lambda x: torch.corrcoef(
            x.T))),
              says="You used correlations. Then a set ten times as wide has the same shape, and how far the "
                   "samples scatter does not count.",
              hint="What is the trace of a matrix of correlations?"),
        wrong("rows for columns", _of_distance(_among_images),
              says="`torch.cov` takes a variable a row, and your features stand in columns: you have the "
                   "covariances of images. Transpose first.",
              hint="Which shape should Σ have, with 64 features of 10,000 images?"),
        wrong("means only", _of_distance(_gap),
              says="This is the distance of the means. A generator that always makes the mean image would be "
                   "perfect.",
              hint="Which term of the formula sees how far the samples scatter?"),
        wrong("covariances only", _of_distance(_distance(gap=lambda x, y: torch.tensor(0.0))),
              says="The distance of the means is missing.",
              hint="What becomes of your number if all generated features are moved by 5?"),
        wrong("norm of the means not squared", _of_distance(_distance(gap=lambda x, y: _gap(x, y).sqrt())),
              says="The distance of the means is not squared. All terms have the unit of a variance.",
              hint="Which power stands at the norm?"),
        wrong("means over all numbers", _of_distance(_distance(gap=lambda x, y: (x.mean() - y.mean())**2)),
              _of_distance(_distance(gap=lambda x, y: (x.mean(0) - y.mean(0)).square().mean())),
              says="Your gap is that of one mean over all features (or is averaged over the features). There "
                   "is a mean for each, and their squared differences are added.",
              hint="`x.mean(0)` has how many numbers?"),
        wrong("factor 2 forgotten", _with_cross(_root_trace, -1),
              says="The last trace is taken away once. Then even two equal sets are far apart.",
              hint="What should the distance of a set from itself be?"),
        wrong("a plus", _with_cross(_root_trace, 2),
              says="The last trace is added. It is subtracted.",
              hint="What should the distance of a set from itself be?"),
        wrong("no root", _with_cross(lambda S, T: (S @ T).trace()),
              says="The root is missing: you took the trace of the product of the two covariances.",
              hint="Which unit has Σ₁Σ₂, and which has Σ?"),
        wrong("root of the trace", _with_cross(lambda S, T: (S @ T).trace().sqrt()),
              says="You took the root of a trace. It is the trace of a root: first the root of each "
                   "eigenvalue, then the sum.",
              hint="√(4 + 9), or √4 + √9?"),
        wrong("difference of the covariances",
              _of_distance(_distance(widths=lambda S, T: (S - T).square().sum())),
              _of_distance(_distance(widths=lambda S, T: (S - T).square().sum().sqrt())),
              _of_distance(_distance(widths=lambda S, T: (S - T).diag().abs().sum())),
              says="You compared the covariances by their difference. In the formula their roots are "
                   "compared: on the line it is (σ₁ − σ₂)².",
              hint="One feature, variances 4 and 9: what does the formula give?"),
        wrong("root of the whole", _of_distance(lambda x, y: _distance()(x, y).sqrt()),
              says="You took the root of the result. By custom (and in the statement) the number is the "
                   "squared distance.",
              hint="What is the distance of two sets whose means are 3 apart, of the same covariance?",
              credit=0.5),
        wrong("a mean over the features", _of_distance(lambda x, y: _distance()(x, y) / x.shape[1]),
              says="You divided by the number of features. Traces are sums.",
              hint="Is there a division in the formula?"),
        wrong("a floor of 0", _of_floor(lambda real, generated: torch.tensor(0.0)),
              _of_floor(lambda real, generated: _distance()(real, real)),
              says="Your floor is the distance of a set from itself, which is 0. The floor compares two "
                   "different sets of real images.",
              hint="Which rows of `real` are compared with which?"),
        wrong("a floor of generated images",
              _of_floor(lambda real, generated: _distance()(*_halves(generated))),
              _of_floor(lambda real, generated: _distance()(_halves(real)[0], generated)),
              _of_floor(lambda real, generated: _distance()(_halves(real)[0], _halves(generated)[0])),
              says="Generated images went into your floor. It is made of real ones only.",
              hint="What would a perfect generator give?"),
        wrong("other halves", _of_floor(lambda real, generated: _distance()(real[::2], real[1::2])),
              _of_floor(lambda real, generated: _distance()(_halves(real)[0], real)),
              says="Your floor compares other rows: every second one, or a half with the whole (which "
                   "shares half of its rows). First half against second half is asked for.",
              hint="Which rows are `real[:half]`?", credit=0.5),
    ),
    teaching_notes="Let the class halve the number of rows and watch the floor double: the bias goes as 1/N. "
                   "Then let them compute it for 64 and for 2048 features with the same 10,000 images, and "
                   "say what two published numbers with different N are worth.")
def frechet(real: torch.Tensor, generated: torch.Tensor) -> tuple:
    """The Fréchet distance of two sets of features, and of the first's halves.

    real: (even count, numbers), generated: (count, numbers);
    returns distance, floor, in the features' unit squared.
    """
    def distance(x, y):
        S, T = torch.cov(x.T), torch.cov(y.T)
        values, vectors = torch.linalg.eigh(S)
        root = vectors * values.clamp(min=0).sqrt() @ vectors.T
        inner = torch.linalg.eigvalsh(root @ T @ root)
        apart = (x.mean(0) - y.mean(0)).square().sum()
        return apart + S.trace() + T.trace() - 2 * inner.clamp(min=0).sqrt().sum()

    half = len(real) // 2
    return distance(real, generated), distance(real[:half], real[half:])


# --- counting modes -----------------------------------------------------------------------------------------

# where samples lie around a centre, in thirds of the reach: inside of the ball, outside, between two centres
INSIDE = ((0.3, -0.4), (2.0, 1.8), (-2.9, 0.2), (1.1, -0.6), (-0.2, 2.7))
OUTSIDE = ((2.5, 2.4), (4.0, 0.3), (-3.6, 1.0), (0.5, -6.0), (-2.2, -2.6))


def _mixtures(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, float, float]]:
    """(samples, centres, deviation, reach): modes hit, modes only brushed, modes left out, and close ones."""
    for modes, deviation, reach in ((2, 0.5, 3.0), (2, 0.2, 3.0), (3, 2.0, 3.0), (4, 0.5, 2.0), (5, 0.1, 3.0),
                                    (4, 0.2, 4.0)):
        third = deviation * reach / 3
        apart = 20 * third * torch.randperm(9, generator=generator)[:modes].to(torch.float64)
        centres = torch.stack([apart, apart.flip(0)], dim=1)
        picks = [OUTSIDE[int(torch.randint(5, (), generator=generator))]]
        picks += [pair for _ in range(modes - 1) for pair in _around(generator)]
        owner = [0, *(k for k in range(1, modes) for _ in range(2))]
        if modes > 3:      # the last mode brushed too, and one with good samples only
            picks[-2:] = OUTSIDE[:2]
            picks[1:3] = INSIDE[:2]
        yield centres[owner] + third * _float(*picks), centres, deviation, reach
    centres = _float([0.0, 0.0], [2.0, 0.0], [40.0, 0.0])      # two closer together than the reach
    yield _float([0.7, 0.0], [0.2, 0.1], [0.9, -0.2], [40.0, 3.0]), centres, 0.5, 3.0


def _around(generator: torch.Generator) -> tuple[tuple[float, float], tuple[float, float]]:
    """A place inside of the ball and one outside."""
    inside, outside = torch.randint(5, (2,), generator=generator).tolist()
    return INSIDE[inside], OUTSIDE[outside]


def _modes_one_by_one(samples: Tensor, centres: Tensor, deviation: float, reach: float) -> Tensor:
    """Sample by sample; and the share of a round Gaussian in a ball, by rings of equal probability."""
    hit = []
    for x in samples.tolist():
        distance, nearest = min((math.dist(x, centre), k) for k, centre in enumerate(centres.tolist()))
        if distance < reach * deviation:
            hit.append(nearest)
    return _float(len(set(hit)), len(hit) / len(samples), -math.expm1(-reach * reach / 2))


def _good(samples: Tensor, centres: Tensor, radius: float, p: float = 2.0) -> tuple[Tensor, Tensor]:
    """Which samples are good, and the mode of each."""
    distance, mode = torch.cdist(samples, centres, p=p).min(1)
    return distance < radius, mode


def _ceiling(reach: float) -> Tensor:
    return torch.tensor(1 - math.exp(-reach**2 / 2))


def _counted(radius: Callable[[float, float], float] = lambda deviation, reach: reach * deviation,
             p: float = 2.0, found: Callable | None = None, share: Callable | None = None,
             ceiling: Callable[[float], float | Tensor] = _ceiling) -> Slip:
    """A slip in the radius, the norm, or one of the three answers.

    found and share: functions of (good, mode, samples, centres, radius).
    """
    def parts(samples: Tensor, centres: Tensor, deviation: float, reach: float) -> tuple:
        size = radius(deviation, reach)
        good, mode = _good(samples, centres, size, p)
        rest = (good, mode, samples, centres, size)
        return (found(*rest) if found else len(set(mode[good].tolist())),
                share(*rest) if share else good.double().mean(), ceiling(reach))
    return Slip(parts)


def _within_any(good: Tensor, mode: Tensor, samples: Tensor, centres: Tensor, size: float) -> int:
    return int((torch.cdist(samples, centres) < size).any(0).sum())


def _nearest_to_each_centre(good: Tensor, mode: Tensor, samples: Tensor, centres: Tensor,
                            size: float) -> Tensor:
    return (torch.cdist(samples, centres).min(0).values < size).double().mean()


@code_exercise(
    NumbersExercise, title="Counting modes", difficulty=1, minutes=12, points=3,
    equations=("eq-gan-modes", "eq-gan-good-share"),
    parts=("found", "good", "ceiling"), shapes=lambda *case: ((), (), ()),
    statement="""
        Samples in the plane are to come from a mixture of round Gaussians, all with the same standard
        deviation. A sample belongs to the mode whose centre is nearest, and it is *good* if it lies within
        `reach` standard deviations of that centre. Return three numbers: how many modes have at least one
        good sample; the share of samples that are good; and the share of good samples that the true mixture
        itself would have, if its modes lie far apart. Predict the third for a reach of 3 before you compute
        it: it is the ceiling, and not 1. In the plane the distance $r$ from the centre, in standard
        deviations, has

        $$\\mathbb{P}(r > t) = e^{-t^2 / 2}$$

        A generator above the ceiling is no better than the data: its samples are too narrow.""",
    hints=("Work out a table of distances first, a row a sample and a column a centre: `torch.cdist(samples, "
           "centres)`. What do you need of each row?",
           "`distance, mode = torch.cdist(samples, centres).min(1)`. Good are those with "
           "`distance < reach * deviation`; the modes found are the different values of `mode[good]`.",
           "`len(mode[good].unique())`, `good.double().mean()`, and `1 - math.exp(-reach**2 / 2)`."),
    truth=_modes_one_by_one, cases=_mixtures,
    must=(("the number of modes found is a whole number, at most the number of centres.",
           lambda yours, samples, centres, *rest: yours[0] == yours[0].round() and 0 <= yours[0] <= len(
               centres)),
          ("shares lie between 0 and 1.", lambda yours, *case: ((yours[1:] >= 0) & (yours[1:] <= 1)).all()),
          ("the ceiling depends on the reach only.", lambda yours, samples, centres, deviation, reach: abs(
              yours[2] - _ceiling(reach)) < 1e-3)),
    on_the_way=lambda samples, centres, deviation, reach: {
        "distance to the nearest centre": torch.cdist(samples, centres).min(1).values,
        "its number": torch.cdist(samples, centres).min(1).indices, "radius": reach * deviation},
    misconceptions=(
        wrong("within three variances", _counted(lambda deviation, reach: reach * deviation**2),
              _counted(lambda deviation, reach: (reach * deviation)**2),
              says="You compared the distance with variances (a deviation was squared). Distances and "
                   "standard deviations have the same unit.",
              hint="A deviation of 0.02: how large is your radius, and how large should it be?"),
        wrong("a squared distance", _counted(lambda deviation, reach: (reach * deviation)**0.5),
              _counted(lambda deviation, reach: reach**0.5 * deviation),
              says="A squared distance was compared with the radius itself (or with `reach` variances): the "
                   "square belongs on both sides, of the reach too.",
              hint="r² < 9 σ², or r² < 3 σ?"),
        wrong("one deviation", _counted(lambda deviation, reach: deviation),
              _counted(lambda deviation, reach: reach),
              says="The radius is not the reach times the deviation: one of the two is missing.",
              hint="Which two arguments make the radius?"),
        wrong("always three", _counted(lambda deviation, reach: 3 * deviation),
              _counted(lambda deviation, reach: 3 * deviation, ceiling=lambda reach: _ceiling(3.0)),
              _counted(ceiling=lambda reach: _ceiling(3.0)),
              says="A 3 is written into your code. The reach is an argument; some cases have another.",
              hint="What changes in your function if `reach` is 2?", credit=0.5),
        wrong("any sample near a centre", _counted(found=lambda good, mode, *rest: len(set(mode.tolist()))),
              says="You counted the modes that are nearest to any sample. Every sample is nearest to some "
                   "centre: noise all over the plane would find all modes. A mode needs a good sample.",
              hint="A sample 6 deviations away: does it find a mode?"),
        wrong("not the nearest", _counted(found=_within_any),
              says="A sample counts for every centre within its reach. It belongs to the nearest only: where "
                   "two modes lie close together, one sample must not find both.",
              hint="How many modes can one sample belong to?"),
        wrong("the highest number for how many",
              _counted(found=lambda good, mode, *rest: int(mode[good].max()) + 1 if good.any() else 0),
              _counted(found=lambda good, mode, samples, centres, size: len(centres)),
              says="You took the highest number of a mode (or the number of centres). How many different "
                   "ones occur is asked for.",
              hint="Modes 0 and 7 were hit, and no other: how many are found?"),
        wrong("modes missed", _counted(found=lambda good, mode, samples, centres, size:
                                       len(centres) - len(set(mode[good].tolist()))),
              says="You counted the modes that are missing.",
              hint="What should the number be for a perfect generator?"),
        wrong("samples for modes", _counted(found=lambda good, *rest: int(good.sum())),
              says="You counted good samples, and called them modes. Two samples of the same mode find it "
                   "once. (A `set` of tensors holds each of them: take `.tolist()` or `.unique()` first.)",
              hint="Can there be more modes found than centres?"),
        wrong("a share of the modes", _counted(found=lambda good, mode, samples, centres, size: len(
            set(mode[good].tolist())) / len(centres)),
              says="You divided the modes found by their number.",
              hint="How many modes: is that a whole number?", credit=0.5),
        wrong("a box for the ball", _counted(p=math.inf),
              says="Each coordinate was compared by itself: a box. In its corners lie samples that are "
                   "further away than the reach.",
              hint="How far is (2.5, 2.5) from the origin?"),
        wrong("coordinates added", _counted(p=1.0),
              says="The differences of the coordinates were added: that is the distance along the streets of "
                   "a town.",
              hint="How far is (2, 2) from the origin?"),
        wrong("good centres for good samples", _counted(share=_nearest_to_each_centre),
              says="Your share runs over the centres: how many have a sample near. It runs over the samples.",
              hint="Which dimension of the table of distances is a sample, and which a centre?"),
        wrong("a count for a share", _counted(share=lambda good, *rest: good.double().sum()),
              says="The number of good samples, not their share.",
              hint="What is the largest that a share can be?", credit=0.5),
        wrong("the bad ones", _counted(share=lambda good, *rest: 1 - good.double().mean()),
              says="This is the share of samples that are not good.",
              hint="Which way does the comparison point?"),
        wrong("good ones among the modes", _counted(
            share=lambda good, mode, samples, centres, size: good.double().sum() / len(centres)),
              says="You divided by the number of centres. A share of the samples is divided by their number.",
              hint="How many samples are there?"),
        wrong("the rule of the line", _counted(ceiling=lambda reach: math.erf(reach / 2**0.5)),
              _counted(ceiling=lambda reach: 0.9973),
              says="Your ceiling is that of one dimension (99.73 % for three deviations). In the plane there "
                   "are two ways out.",
              hint="Put t = 3 into the formula of the statement. What is left?"),
        wrong("a ceiling of 1", _counted(ceiling=lambda reach: 1.0),
              says="Your ceiling is 1. A Gaussian has tails: some true samples lie beyond any reach.",
              hint="How probable is r > 3?"),
        wrong("the tail for the ceiling", _counted(ceiling=lambda reach: 1 - _ceiling(reach)),
              says="This is the share of true samples outside. The ceiling is what lies within.",
              hint="For a large reach, should the ceiling be near 0, or near 1?"),
        wrong("½ forgotten in the exponent", _counted(ceiling=lambda reach: 1 - math.exp(-reach**2)),
              _counted(ceiling=lambda reach: 1 - math.exp(-reach / 2)),
              _counted(ceiling=lambda reach: 1 - math.exp(-reach)),
              says="The exponent is not t²/2: a half or a square is missing.",
              hint="Copy the exponent from the statement: which two operations act on t?"),
        wrong("the ceiling from these samples", Slip(lambda *case: [_counted().parts(*case)[k]
                                                                    for k in (0, 1, 1)]),
              says="Your ceiling is the share of these samples. It is a property of the true mixture, and "
                   "depends on the reach only.",
              hint="Which argument does the formula of the statement need?"),
    ),
    teaching_notes="A published table has 99.3 % of good samples, above the ceiling of 98.889 %: ask what "
                   "such a generator looks like. Then ask for a rule that one stray sample cannot meet: a "
                   "mode counted from, say, 20 samples on, and the reverse KL beside it.")
def modes(samples: torch.Tensor, centres: torch.Tensor, deviation: float,
          reach: float) -> tuple:
    """Modes found, the share of good samples, and that of the true mixture.

    samples: (count, 2), centres: (modes, 2), deviation: of each mode;
    reach: deviations a good sample may be away; returns found, good, ceiling.
    """
    distance, mode = torch.cdist(samples, centres).min(1)
    good = distance < reach * deviation
    found = len(mode[good].unique())
    return found, good.double().mean(), 1 - math.exp(-reach**2 / 2)


# --- which failure is it? -----------------------------------------------------------------------------------

# The panels of the figure, and what each of the seven runs would show. Each text is said of a wrong answer:
# the first of the run that was chosen, the second of the run that it is, without its name.
PANELS = {1: "discriminator wins", 2: "healthy", 3: "NaN of the discriminator", 4: "memorises", 5: "collapse",
          6: "oscillation"}
WOULD_SHOW = {
    "healthy": "In a healthy run the modes are found and kept, and held-out data have the logits of training "
               "data.",
    "collapse": "After a collapse the modes found stay at one or two of eight, whatever the losses do.",
    "discriminator wins": "A discriminator that wins tells held-out data from samples just as well as "
                          "training data, and the generator's gradient shrinks by powers of ten.",
    "memorises": "A discriminator that memorises gives training data higher logits than held-out data, and "
                 "the gap opens.",
    "oscillation": "An oscillation swings to and fro, in the losses, the logits and the modes.",
    "NaN of the discriminator": "A NaN ends the curves, and it is the discriminator's if its loss is the "
                                "first number that is not finite, while what was generated is.",
    "NaN of the generator": "A NaN ends the curves, and it is the generator's if the largest number that it "
                            "made is the first that is not finite.",
}
SHOWS_INSTEAD = {
    "collapse": "Here nothing swings and nothing breaks off, but the modes found stay at the bottom.",
    "discriminator wins": "Here held-out data have the same high logits as training data, far above those of "
                          "the samples, and the generator's gradient dies away.",
    "healthy": "Here training and held-out data have the same logits, and the modes stay found.",
    "memorises": "Here the curves of training data and of held-out data part, and go on parting.",
    "NaN of the discriminator": "Here the curves break off, and the panel tells which number was the first "
                                "that is none.",
    "oscillation": "Here losses and logits swing to and fro, and the modes come and go.",
}


diagnose = QuizExercise(
    name="diagnose", title="Which failure is it?", chapter=7, difficulty=2, minutes=12, points=3,
    equations=("eq-gan-vanishing", "eq-gan-value-at-optimum", "eq-gan-batch-bound"),
    right=PANELS, causes=tuple(WOULD_SHOW), would_show=WOULD_SHOW,
    shows_instead=SHOWS_INSTEAD,
    when_right="All six are right. It was never the loss alone that told: the modes, the held-out data, the "
               "gradient and the end of the curve did.",
    look_first="Look at the modes first, then at held-out data and the gradient, at the losses last.",
    statement="""
        Six runs, one a panel, in the last figure of the section on failures. Each panel shows both losses;
        the mean logits of training data, of held-out data and of samples; the size of the generator's
        gradient; and how many of the modes were found. Say what happened in each. Seven things may have
        happened, and each happened at most once:

        `"healthy"`; `"collapse"` (the generator makes a few of the modes only); `"discriminator wins"` (it is
        right everywhere, and the generator learns nothing more); `"memorises"` (the discriminator knows its
        training data by heart); `"oscillation"`; `"NaN of the discriminator"` or `"NaN of the generator"`
        (that player's numbers were the first that ceased to be finite; the metrics come in the order: largest
        number generated, discriminator's loss, logits, generator's loss, its gradient).

        A discriminator's loss near $2 \\log 2$ tells that it cannot tell, and nothing about the samples: look
        at everything else first.""",
    hints=("Begin with what no other run has: curves that end early, and curves of training and held-out "
           "data that part.",
           "Of the four that are left, one swings. Of the other three, look at the modes found: in one they "
           "stay near 0, in one near all of them.",
           "The one that is left has logits of data and samples far apart, for held-out data too, and a "
           "generator's gradient that falls by powers of ten. For the curve that ends: which is the first of "
           "the listed metrics that is not finite?"),
    misconceptions=(
        wrong("calm losses taken for health", "5: healthy",
              says="The losses are calm, and that is all that is well here. A generator that makes one mode "
                   "perfectly keeps a discriminator as busy as one that makes all.",
              hint="How many of the modes are found at the end?"),
        wrong("calm losses taken for collapse", "2: collapse",
              says="The losses hardly move, but that they do in a good run too: both players improve "
                   "together. A collapse is seen in the modes.",
              hint="How many of the modes are found at the end, and are they kept?"),
        wrong("2 log 2 taken for defeat", "2: discriminator wins",
              says="A discriminator's loss near 2 log 2 is the loss of one that cannot tell, not of one that "
                   "wins: its loss would go to 0.",
              hint="Which loss has a discriminator that is always right?"),
        wrong("noise taken for oscillation", "2: oscillation",
              says="Every curve of single batches trembles. An oscillation has a period, keeps or gains in "
                   "size, and takes the modes with it.",
              hint="Do the modes come and go?"),
        wrong("no gap taken for one", "2: memorises",
              says="Held-out data have the same logits as training data here: nothing was learnt by heart.",
              hint="Where are the solid and the dashed curve of the data at the end?"),
        wrong("held-out data overlooked", "1: memorises",
              says="The discriminator is nearly always right here, and on data that it has never seen as "
                   "well. That is no memory: the two laws are far apart.",
              hint="Where is the curve of held-out data, near that of training data, or near the samples?"),
        wrong("a gap taken for a victory", "4: discriminator wins",
              says="The discriminator is right about its training data only. On held-out data it is no "
                   "better than before, so it has not found what tells data from samples.",
              hint="Where is the curve of held-out data?"),
        wrong("training logits alone", "4: healthy",
              says="On the data that it learns from all looks well. The held-out data tell another story.",
              hint="Where are the solid and the dashed curve of the data at the end?"),
        wrong("a low loss taken for success", "1: healthy",
              says="The discriminator's loss is low and quiet, which is good for one player only. The "
                   "generator's gradient has died away: nothing more will be learnt.",
              hint="By how many powers of ten does the generator's gradient fall?"),
        wrong("a far generator taken for a collapse", "1: collapse",
              says="Few modes are found, true; but a collapsed generator still moves the discriminator, and "
                   "has a gradient. Here it has none.",
              hint="What does the generator's gradient do, and what do the logits?"),
        wrong("few modes taken for a victory", "5: discriminator wins",
              says="The discriminator does not win here: its loss stays well above 0, and the generator has "
                   "a gradient. It makes good samples of very few modes.",
              hint="How far apart are the logits of data and samples?"),
        wrong("one moment taken for all", "6: collapse",
              says="At some moments few modes are there. Look on: they come back, and others go. The "
                   "generator runs after the discriminator, and away again.",
              hint="What do the modes do over the whole run?"),
        wrong("a lack of modes taken for hopping", "5: oscillation",
              says="Nothing swings here: once they are gone, the modes stay away.",
              hint="What do the modes do over the second half of the run?"),
        wrong("a swing taken for a victory", "6: discriminator wins",
              says="In some steps the discriminator is far ahead. In others it is far behind: neither wins.",
              hint="Does the discriminator's loss stay near 0?"),
        wrong("swings taken for health", "6: healthy",
              says="The mean of the losses looks well. Their size does not shrink, and what was learnt is "
                   "lost again.",
              hint="Which step would you stop at, and what would you get one period later?"),
        wrong("the wrong player", "3: NaN of the generator",
              says="The numbers that the generator made are still finite where the curves end, and the "
                   "discriminator's loss is not: the order of the metrics names the player.",
              hint="Which is the first of the listed metrics that is not finite?"),
        wrong("an early end overlooked", "3: healthy", "3: collapse", "3: discriminator wins",
              "3: oscillation", "3: memorises",
              says="The curves look so until they end, and they end early: a number was none.",
              hint="At which step do the curves of this panel end, and where those of the others?"),
        wrong("an end that is none", *(f"{panel}: NaN of the {player}" for panel in (1, 2, 4, 5, 6)
                                       for player in ("discriminator", "generator")),
              says="All curves of this panel run to the last step: no number ceased to be finite.",
              hint="Which panel ends early?"),
    ),
    teaching_notes="Let groups say which single curve they would record if only one were allowed. (Modes, or "
                   "a distance of features; hardly ever a loss.) Then ask for each failure's remedy in the "
                   "section before.")


EXERCISES = (optimal_proof, jsd_proof, losses, slopes_proof, alternating_proof, hinge_proof, penalty, frechet,
             modes, diagnose)
_help = Help(EXERCISES)
hint, solution = _help.hint, _help.solution
