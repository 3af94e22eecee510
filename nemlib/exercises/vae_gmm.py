"""The exercises of chapter 5, a VAE and a Gaussian mixture. `nemlib.exercises` tells how to add one.

No truth below comes from the models' own code: shares are worked out point by point, a posterior by taking
one point after the other, divergences by sums over a fine grid; derivations are judged on a few numbers.
"""

import ast
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from nemlib.exercises.core import FunctionExercise, Help, Trial, agree, wrong
from nemlib.exercises.derivation import Instance, LongDerivation, Step
from nemlib.exercises.expressions import expression, names_in
from nemlib.exercises.forms import normal_form
from nemlib.exercises.layers import GradualExercise, ShapedExercise, Slip
from nemlib.exercises.quiz import QuizExercise
from nemlib.exercises.verdict import Verdict

__all__ = ["EXERCISES", "hint", "solution", "responsibility", "m_step_proof", "square_proof",
           "conjugate_proof", "posterior", "kl_bounds", "label_gap_proof", "saddle_proof", "diagnose"]

LOG_TWO_PI = math.log(2 * math.pi)


def _shares(generator: torch.Generator, count: int) -> tuple[float, ...]:
    """A law of tenths that add to 1, none of them 0, and not all the same."""
    while True:
        cuts = (torch.randperm(9, generator=generator)[:count - 1].sort().values + 1).tolist()
        law = tuple((end - start) / 10 for start, end in zip((0, *cuts), (*cuts, 10)))
        if count == 1 or len(set(law)) > 1:
            return law


def _tenths(generator: torch.Generator, low: int, high: int, count: int) -> list[float]:
    """Different tenths from low/10 to high/10, none of them 0 or 1."""
    values = [value for value in range(low, high + 1) if value not in (0, 10)]
    return [values[k] / 10 for k in torch.randperm(len(values), generator=generator)[:count].tolist()]


def _shown(table: Sequence[float]) -> str:
    return "(" + ", ".join(f"{number:g}" for number in table) + ")"


def _own(tree: ast.expr, *given: str) -> bool:
    """Whether a line is none of these expressions rearranged."""
    return normal_form(tree) not in {normal_form(expression(text)) for text in given}


# --- the M-step (derivation) --------------------------------------------------------------------------------

def _shared_instances(generator: torch.Generator) -> list[Instance]:
    """A few points on a line, a share of each, and a component that is not the best one."""
    return [_shared_instance(count, generator) for count in (2, 3, 3, 4, 4)]


def _shared_instance(count: int, generator: torch.Generator) -> Instance:
    r, x = _tenths(generator, 1, 9, count), _tenths(generator, -30, 30, count)
    mu, (lam,) = _tenths(generator, -20, 20, 1)[0], _tenths(generator, 3, 30, 1)
    n = math.fsum(r)
    xbar = math.fsum(one * at for one, at in zip(r, x)) / n
    v = math.fsum(one * (at - xbar)**2 for one, at in zip(r, x)) / n
    symbols = {"r": r.__getitem__, "x": x.__getitem__, "points": tuple(range(count)), "mu": mu, "lam": lam,
               "n": n, "xbar": xbar, "v": v}
    return Instance(f"x = {_shown(x)}, r = {_shown(r)}, mu = {mu:g}, lam = {lam:g}", symbols)


def _weighed(term: str, weight: str = "r(i)*") -> str:
    return f"sum({weight}{term} for i in points)"


_Q = "sum(r(i)*(log(lam) - lam*(x(i) - mu)**2)/2 for i in points)"
_Q_BEST = "-n*(log(v) + 1)/2"
_Q_RESULT = f"{_Q_BEST} - n*(lam*v - 1 - log(lam*v))/2 - n*lam*(xbar - mu)**2/2"
_Q_FORMS = ("n*(log(1/v) - 1)/2 - n*(lam*v - 1 - log(lam*v))/2 - n*lam*(xbar - mu)**2/2",
            "-n*(log(v) + 1)/2 - n*(lam*v - 1 + log(1/(lam*v)))/2 - n*lam*(xbar - mu)**2/2",
            "n*(log(1/v) - 1)/2 - n*(lam*v - 1 + log(1/(lam*v)))/2 - n*lam*(xbar - mu)**2/2")


def _centred(tree: ast.expr) -> bool:
    """A line of the reader's own, before the result, in which distances are taken from the mean x̄."""
    names = names_in(tree)
    return {"xbar", "mu", "lam"} <= names and ("v" in names or "sum" in names) and _own(
        tree, _Q, _Q_RESULT, *_Q_FORMS)


m_step_proof = LongDerivation(
    name="m_step_proof", title="The best mean and variance, without a derivative", chapter=5, difficulty=2,
    minutes=15, points=3, equations=("eq-vg-m-step", "eq-vg-scatter"),
    statement="""
        What one component contributes to the M-step's $Q$, in one dimension and without what holds neither
        its mean $\\mu$ nor its precision $\\Lambda$, is the first line below. Let $n = \\sum_i r_i$,
        $\\bar x = \\frac1n \\sum_i r_i x_i$ and $v = \\frac1n \\sum_i r_i (x_i - \\bar x)^2$. Show that

        $$\\begin{aligned}
        \\sum_i r_i\\, \\tfrac12 \\big[\\log \\Lambda - \\Lambda (x_i - \\mu)^2\\big] = {}&
        -\\tfrac n2 (\\log v + 1) \\\\
        &- \\tfrac n2 \\big[\\Lambda v - 1 - \\log(\\Lambda v)\\big] - \\tfrac n2 \\Lambda (\\bar x - \\mu)^2
        \\end{aligned}$$

        The bracket is never negative, and 0 only where $\\Lambda v = 1$; the last term is 0 only where
        $\\mu = \\bar x$. So $\\bar x$ and $v$ are the best mean and variance, of all there are. The
        chapter found them by a derivative; this way you also see what every other choice loses. Fill in
        the lines marked `...`, or write a chain of your own.""",
    symbols=(("x(i), r(i)", "x_i,\\; r_i", "a point, and the component's share in it"),
             ("points", "i", "all points"),
             ("mu, lam", "\\mu,\\; \\Lambda", "any mean, and any precision above 0"),
             ("n", "n", "sum of all `r(i)`"),
             ("xbar", "\\bar x", "mean of the points, weighed by their shares"),
             ("v", "v", "variance about `xbar`, weighed by the shares")),
    chain=f"""
        {_Q}
        = n*log(lam)/2
          - lam*{_weighed("(x(i) - mu)**2")}/2      # the shares add to n
        = n*log(lam)/2 - lam*(n*v + n*(xbar - mu)**2)/2      # x − μ = (x − x̄) + (x̄ − μ)
        = {_Q_BEST} - n*(lam*v - 1 - log(lam*v))/2
          - n*lam*(xbar - mu)**2/2      # log v and 1, out and in
        """,
    blanks=(2, 3), least_lines=2, instances=_shared_instances, forms=_Q_FORMS,
    nearly="One more line: add the shares in one step, and measure from the mean x̄ in another.",
    landmarks=(Step("Show the mean coming in: a line of your own, before the result, in which distances are "
                    "measured from `xbar`.", test=_centred),),
    hints=("log Λ holds no i. What do the shares in front of it add to?",
           "In the sum of squares write x − μ as (x − x̄) + (x̄ − μ). Three sums come; one of them is 0, one "
           "is n v, and one has no i under the square.",
           "You have n/2 times log Λ − Λ v − Λ (x̄ − μ)². Now log Λ is log(Λ v) − log v. Add 1 and take it "
           "away: one 1 belongs into the bracket, which is then 0 at Λ v = 1."),
    misconceptions=(
        wrong("points counted, not shares",
              f"len(points)*log(lam)/2 - lam*{_weighed('(x(i) - mu)**2')}/2",
              "len(points)*(log(lam) - lam*v - lam*(xbar - mu)**2)/2",
              _Q_RESULT.replace("n*", "len(points)*").replace("-n", "-len(points)"),
              says="You count every point as a whole one. The component answers for its share of a point: "
                   "the number of its points is n, the sum of the shares.",
              hint="What do r(0), r(1) and so on add to in your instance?"),
        wrong("shares forgotten in the sum", f"n*log(lam)/2 - lam*{_weighed('(x(i) - mu)**2', '')}/2",
              "sum((log(lam) - lam*(x(i) - mu)**2)/2 for i in points)",
              says="The squares are added without their shares. A point that hardly belongs to the component "
                   "must hardly pull at it.",
              hint="Which factor stands in front of the bracket in the given line?"),
        wrong("½ forgotten", f"n*log(lam) - lam*{_weighed('(x(i) - mu)**2')}",
              "n*log(lam) - lam*(n*v + n*(xbar - mu)**2)", f"2*({_Q_RESULT})",
              says="The ½ is gone: every line is twice too large.",
              hint="Which factor do the logarithm and the square have in common in the given line?"),
        wrong("½ for one of the two only", f"n*log(lam) - lam*{_weighed('(x(i) - mu)**2')}/2",
              "n*log(lam) - lam*(n*v + n*(xbar - mu)**2)/2",
              f"n*log(lam)/2 - lam*{_weighed('(x(i) - mu)**2')}",
              "n*log(lam)/2 - lam*(n*v + n*(xbar - mu)**2)",
              says="One of the two parts has lost its ½. The root of the precision stands in front of the "
                   "exponential, and the exponent has a ½ as well.",
              hint="Open the bracket of the given line: what does each part get?"),
        wrong("n forgotten at the logarithm", f"log(lam)/2 - lam*{_weighed('(x(i) - mu)**2')}/2",
              "log(lam)/2 - lam*(n*v + n*(xbar - mu)**2)/2",
              says="log Λ comes once in your line. It comes with every point, weighed by its share.",
              hint="What is the sum of r(i) log Λ over all points?"),
        wrong("n forgotten at the distance of the means", "n*log(lam)/2 - lam*(n*v + (xbar - mu)**2)/2",
              f"{_Q_BEST} - n*(lam*v - 1 - log(lam*v))/2 - lam*(xbar - mu)**2/2",
              says="(x̄ − μ)² comes once in your line. It holds no i, and so it comes with the sum of all "
                   "shares, n times.",
              hint="What is the sum of r(i)·c over all points, if c is the same for all?"),
        wrong("variance for scatter", "n*log(lam)/2 - lam*(v + n*(xbar - mu)**2)/2",
              "n*log(lam)/2 - lam*(v + (xbar - mu)**2)/2",
              "(log(lam) - lam*v - lam*(xbar - mu)**2)/2",
              says="v is the mean of the squares; the sum of the squares, which stands here, is n v.",
              hint="By what must you multiply v to get the sum of r(i)·(x(i) − x̄)²?"),
        wrong("the cross term's sign", "n*log(lam)/2 - lam*(n*v - n*(xbar - mu)**2)/2",
              f"{_Q_BEST} - n*(lam*v - 1 - log(lam*v))/2 + n*lam*(xbar - mu)**2/2",
              says="The distance of the means has the wrong sign: the sum of squares about any μ is larger "
                   "than that about x̄, never smaller.",
              hint="From which μ is the sum of squares least?"),
        wrong("the distance of the means lost", "n*log(lam)/2 - lam*n*v/2",
              f"{_Q_BEST} - n*(lam*v - 1 - log(lam*v))/2",
              f"n*log(lam)/2 - lam*{_weighed('(x(i) - xbar)**2')}/2",
              says="μ is gone: you took v for the mean square about μ. It is that about x̄; about any other "
                   "point the mean square is larger by the squared distance.",
              hint="If μ is far from all points, what should become of Q?"),
        wrong("the cross term kept", "n*log(lam)/2 - lam*(n*v + 2*n*(xbar - mu)**2)/2",
              "n*log(lam)/2 - lam*n*(v + (xbar - mu)**2 + 2*v*(xbar - mu))/2",
              "n*log(lam)/2 - lam*n*(sqrt(v) + xbar - mu)**2/2",
              says="A mixed term is left. The points' distances from x̄, weighed by their shares, add to 0: "
                   "that is what x̄ is.",
              hint="What is the sum of r(i)·(x(i) − x̄)?"),
        wrong("x̄ in place of every point", "n*log(lam)/2 - lam*n*(xbar - mu)**2/2",
              "sum(r(i)*(log(lam) - lam*(xbar - mu)**2)/2 for i in points)",
              says="You put the mean in for every point. The mean of a square is not the square of the mean: "
                   "v is missing.",
              hint="Two points, at −1 and at 1, and μ = 0: what is the sum of squares?"),
        wrong("a square taken apart", f"n*log(lam)/2 - lam*{_weighed('(x(i)**2 - mu**2)')}/2",
              f"n*log(lam)/2 - lam*{_weighed('(x(i)**2 + mu**2)')}/2",
              f"n*log(lam)/2 - lam*({_weighed('x(i)**2')} - n*mu**2)/2 + n",
              says="(x − μ)² was taken apart to x² and μ². There is a mixed term, −2 x μ.",
              hint="What is (3 − 1)²?"),
        wrong("the precision forgotten at the means", "n*(log(lam) - lam*v - (xbar - mu)**2)/2",
              f"{_Q_BEST} - n*(lam*v - 1 - log(lam*v))/2 - n*(xbar - mu)**2/2",
              says="The distance of the means has lost its Λ. It comes out of the same square as v does.",
              hint="Which factor stands in front of the square in the given line?"),
        wrong("variance and precision exchanged", "n*log(lam)/2 - (n*v + n*(xbar - mu)**2)/(2*lam)",
              f"n*log(lam)/2 - {_weighed('(x(i) - mu)**2')}/(2*lam)",
              "-n*log(lam)/2 - lam*(n*v + n*(xbar - mu)**2)/2",
              f"-n*log(lam)/2 - lam*{_weighed('(x(i) - mu)**2')}/2",
              f"{_Q_BEST} - n*(v/lam - 1 - log(v/lam))/2 - n*lam*(xbar - mu)**2/2",
              says="Λ was taken for a variance somewhere: a precision multiplies the square, and its "
                   "logarithm comes with a plus.",
              hint="A sharp component has a large Λ. Is it the more, or the less, punished for a far point?"),
        wrong("log v with a plus", "n*(log(v) - 1)/2 - n*(lam*v - 1 - log(lam*v))/2 - n*lam*(xbar - mu)**2/2",
              "n*(log(v) + 1)/2 - n*(lam*v - 1 - log(lam*v))/2 - n*lam*(xbar - mu)**2/2",
              says="The best value has the wrong sign of log v. log Λ is log(Λ v) minus log v; a narrow "
                   "cloud can be described well, so Q is large where v is small.",
              hint="log 3 = log(3·2) − log of what?"),
        wrong("the 1 once only", "-n*log(v)/2 - n*(lam*v - 1 - log(lam*v))/2 - n*lam*(xbar - mu)**2/2",
              f"{_Q_BEST} - n*(lam*v - log(lam*v))/2 - n*lam*(xbar - mu)**2/2",
              says="A 1 was put in and not taken out (or the other way round). It stands in the bracket, "
                   "where it makes it 0 at the best Λ, and in the best value.",
              hint="Put Λ v = 1 and μ = x̄ into the given line. What is left of it?"),
        wrong("the logarithm's sign in the bracket",
              f"{_Q_BEST} - n*(lam*v - 1 + log(lam*v))/2 - n*lam*(xbar - mu)**2/2",
              f"{_Q_BEST} + n*(lam*v - 1 - log(lam*v))/2 - n*lam*(xbar - mu)**2/2",
              f"{_Q_BEST} - n*(lam*v + 1 - log(lam*v))/2 - n*lam*(xbar - mu)**2/2",
              says="A sign in the bracket (or in front of it) is turned. Λ v − 1 − log(Λ v) is never "
                   "negative, and it is what Q loses.",
              hint="The tangent of the logarithm at 1 is u − 1. On which side of it is log u?"),
        wrong("the best value for every choice", _Q_BEST, "n*(log(1/v) - 1)/2",
              says="This is Q at the best mean and variance. Every other choice loses something against it.",
              hint="Where in your line are μ and Λ?"),
        wrong("one point fewer", "n*log(lam)/2 - lam*((n - 1)*v + n*(xbar - mu)**2)/2",
              "(n - 1)*log(lam)/2 - lam*(n*v + n*(xbar - mu)**2)/2",
              says="An n − 1 came in, as in an unbiased variance. The M-step makes Q large, and Q knows n "
                   "only.",
              hint="By what did you divide when you defined v?"),
        wrong("a derivative for the value", f"n/(2*lam) - {_weighed('(x(i) - mu)**2')}/2",
              "n/lam - (n*v + n*(xbar - mu)**2)", "n/(2*lam) - (n*v + n*(xbar - mu)**2)/2",
              f"lam*{_weighed('(x(i) - mu)')}",
              says="You took a derivative. Here every line is the value itself; where it is largest can be "
                   "seen from the last line.",
              hint="What can be added to log Λ and taken away again, so that Λ v stands alone?"),
        wrong("the shares under the logarithm",
              f"log(lam*n)/2 - lam*{_weighed('(x(i) - mu)**2')}/2",
              "sum(log(r(i)*lam)/2 - r(i)*lam*(x(i) - mu)**2/2 for i in points)",
              says="A share (or their sum) went under the logarithm. It weighs the logarithm.",
              hint="Two times log 3: is that log 6, or log 9?"),
    ),
    teaching_notes="Let the class draw Λ v − 1 − log(Λ v) over Λ v, and read off that too narrow a component "
                   "costs more than too wide a one. In L dimensions Λ v becomes ΛS/n, and the bracket a sum "
                   "over its eigenvalues: ask why all of them must be 1.")


# --- completing the square (derivation) ---------------------------------------------------------------------

def _square_instances(generator: torch.Generator) -> list[Instance]:
    return [_square_instance(count, generator) for count in (2, 3, 2, 4, 3)]


def _square_instance(count: int, generator: torch.Generator) -> Instance:
    """Points on a line, a prior mean that counts as `kappa` points, and any mean."""
    x = _tenths(generator, -30, 30, count)
    kappa, (m, mu) = _tenths(generator, 2, 50, 1)[0], _tenths(generator, -20, 20, 2)
    kappa = kappa + 0.05      # never as many as there are points
    xbar = math.fsum(x) / count
    symbols = {"x": x.__getitem__, "points": tuple(range(count)), "kappa": kappa, "m": m, "mu": mu,
               "n": count, "xbar": xbar, "S": math.fsum((at - xbar)**2 for at in x),
               "m_new": (kappa * m + count * xbar) / (kappa + count)}
    return Instance(f"x = {_shown(x)}, kappa = {kappa:g}, m = {m:g}, mu = {mu:g}", symbols)


_SQUARE = "kappa*(mu - m)**2 + sum((x(i) - mu)**2 for i in points)"
_ABOUT = "kappa*(mu - m)**2 + n*(mu - xbar)**2 + S"
_NEW = "(kappa + n)*(mu - m_new)**2"
_LEFT = "kappa*n/(kappa + n)*(xbar - m)**2"
_SQUARE_RESULT = f"{_NEW} + {_LEFT} + S"
_SQUARE_FORMS = (f"{_NEW} + (xbar - m)**2/(1/kappa + 1/n) + S",)


def _about_the_mean(tree: ast.expr) -> bool:
    """A line of the reader's own in which the points are gone into S, and the two squares are still two."""
    names = names_in(tree)
    return {"S", "kappa", "n", "mu"} <= names and "x" not in names and _own(
        tree, _SQUARE, _SQUARE_RESULT, *_SQUARE_FORMS)


square_proof = LongDerivation(
    name="square_proof", title="Completing the square twice", chapter=5, difficulty=2, minutes=15, points=3,
    equations=("eq-vg-scatter", "eq-vg-square", "eq-vg-posterior-mean"),
    statement="""
        A prior that holds the mean at $m$ as firmly as $\\kappa$ points would, and $n$ points that pull it
        to themselves: in one dimension all that is quadratic in $\\mu$ is the first line below. Let $S =
        \\sum_i (x_i - \\bar x)^2$ and $m_k = (\\kappa m + n \\bar x)/(\\kappa + n)$, which you write
        `m_new`. Show that

        $$\\kappa (\\mu - m)^2 + \\sum_i (x_i - \\mu)^2 =
        (\\kappa + n)(\\mu - m_k)^2 + \\frac{\\kappa n}{\\kappa + n} (\\bar x - m)^2 + S$$

        The square is completed twice: first the points' squares are gathered about their mean, and then
        the two squares that are left become one. In $L$ dimensions the same lines hold with $(\\cdot)
        (\\cdot)^\\top$ for each square. Fill in the lines marked `...`, or write a chain of your own.""",
    symbols=(("x(i)", "x_i", "a point; `points` are all of them"),
             ("points", "i", "all points"),
             ("n, xbar", "n,\\; \\bar x", "number and mean of the points"),
             ("S", "S", "sum of the squares about `xbar`"),
             ("kappa, m", "\\kappa,\\; m", "the prior's weight, in points, and its mean"),
             ("mu", "\\mu", "any mean"),
             ("m_new", "m_k", "`(kappa*m + n*xbar)/(kappa + n)`")),
    chain=f"""
        {_SQUARE}
        = {_ABOUT}      # x − μ = (x − x̄) + (x̄ − μ)
        = (kappa + n)*mu**2 - 2*(kappa*m + n*xbar)*mu
          + kappa*m**2 + n*xbar**2 + S      # sorted by powers of μ
        = {_NEW} - (kappa*m + n*xbar)**2/(kappa + n)
          + kappa*m**2 + n*xbar**2 + S      # the square completed
        = {_SQUARE_RESULT}
        """,
    blanks=(2, 3, 4), least_lines=2, instances=_square_instances, forms=_SQUARE_FORMS,
    nearly="One more line: gather the points about their mean first, and complete the square in μ after "
           "that.",
    landmarks=(Step("Show the points gathered: a line of your own, before the result, in which `S` stands in "
                    "their place.", test=_about_the_mean),),
    hints=("Each x − μ is (x − x̄) + (x̄ − μ). What do the mixed terms of the squares add to?",
           "Now two squares in μ are left. Sort by powers of μ: κ + n times μ², and −2 (κ m + n x̄) μ. Which "
           "square has these two?",
           "(κ + n)(μ − m_k)² has one term too many, (κ m + n x̄)²/(κ + n). Take it away from κ m² + n x̄²; "
           "on the common denominator κ + n, κ n (x̄ − m)² is left."),
    misconceptions=(
        wrong("the left-over term lost", f"{_NEW} + S", "(kappa + n)*(mu - m_new)**2 + S",
              says="The two squares in μ are not one square: what their centres lie apart is left over. It "
                   "holds no μ, but it does hold Λ, in the posterior.",
              hint="At which μ is your line's square 0? Is the given line 0 there, if S is?"),
        wrong("the scatter lost", "kappa*(mu - m)**2 + n*(mu - xbar)**2", f"{_NEW} + {_LEFT}",
              says="S is gone. You put the mean of the points in for each of them; their squares about their "
                   "own mean are left.",
              hint="Points at −1 and 1, and μ = 0: what is the sum of squares, and what does your line say?"),
        wrong("κn, undivided", f"{_NEW} + kappa*n*(xbar - m)**2 + S",
              says="The distance of the two means is weighed by κn. On the common denominator κ + n it is "
                   "divided by κ + n.",
              hint="If κ is enormous, the prior's mean is certain. What should the weight then be?"),
        wrong("the weight upside down", f"{_NEW} + (kappa + n)/(kappa*n)*(xbar - m)**2 + S",
              f"{_NEW} + (1/kappa + 1/n)*(xbar - m)**2 + S",
              says="The weight stands upside down. It is κn/(κ + n), which is less than both κ and n.",
              hint="Without any points, n = 0, what should be left of this term?"),
        wrong("the weight of one side alone", f"{_NEW} + n*(xbar - m)**2 + S",
              f"{_NEW} + kappa*(xbar - m)**2 + S", f"{_NEW} + (kappa + n)*(xbar - m)**2 + S",
              says="The distance of the two means has the weight of one of them (or of both together). It is "
                   "κn/(κ + n): two springs one behind the other, softer than each.",
              hint="For κ = n = 1 the best μ lies in the middle. What do two squares of half the distance "
                   "add to?"),
        wrong("a share for the weight", f"{_NEW} + kappa/(kappa + n)*(xbar - m)**2 + S",
              f"{_NEW} + n/(kappa + n)*(xbar - m)**2 + S", f"{_NEW} + kappa**2/(kappa + n)*(xbar - m)**2 + S",
              f"{_NEW} + n**2/(kappa + n)*(xbar - m)**2 + S",
              says="One of the two factors above κ + n is missing, or stands there twice. It is κn/(κ + n), "
                   "the same for both.",
              hint="Exchange the roles of prior and points. Should the weight change?"),
        wrong("½ of the left-over term", f"{_NEW} + kappa*n/(2*(kappa + n))*(xbar - m)**2 + S",
              f"{_NEW} + 2*kappa*n/(kappa + n)*(xbar - m)**2 + S",
              says="The left-over term has a factor 2 too little or too many.",
              hint="κ = n = 1, m = 0, x̄ = 2: what is the given line at μ = 1, without S?"),
        wrong("the left-over term subtracted", f"{_NEW} - {_LEFT} + S",
              says="The left-over term has the wrong sign. A sum of squares is never negative, and at μ = "
                   "m_k this is all that is left of it.",
              hint="Can two squares cancel?"),
        wrong("distance of μ in the left-over term", f"{_NEW} + kappa*n/(kappa + n)*(xbar - mu)**2 + S",
              f"{_NEW} + kappa*n/(kappa + n)*(mu - m)**2 + S",
              says="μ is still in the left-over term. All that holds μ has gone into the square.",
              hint="Which powers of μ are left after the square (κ + n)(μ − m_k)²?"),
        wrong("κ + n forgotten in front of the square", f"(mu - m_new)**2 + {_LEFT} + S",
              f"kappa*(mu - m_new)**2 + {_LEFT} + S", f"n*(mu - m_new)**2 + {_LEFT} + S",
              says="The square's weight is not κ + n: μ² comes κ times from the prior and once from each "
                   "point.",
              hint="How often does μ² come in the given line?"),
        wrong("means averaged without weights", f"(kappa + n)*(mu - (m + xbar)/2)**2 + {_LEFT} + S",
              f"(kappa + n)*(mu - m - xbar)**2 + {_LEFT} + S",
              says="Your new mean gives prior and points equal weights (or adds the two means). Each counts "
                   "for as many points as it has.",
              hint="A hundred points, and κ = 1: where should the new mean be?"),
        wrong("weights exchanged", f"(kappa + n)*(mu - (n*m + kappa*xbar)/(kappa + n))**2 + {_LEFT} + S",
              says="In your new mean the prior's mean has the weight of the points, and the points that of "
                   "the prior.",
              hint="A hundred points, and κ = 1: where should the new mean be?"),
        wrong("not divided by κ + n", f"(kappa + n)*(mu - (kappa*m + n*xbar))**2 + {_LEFT} + S",
              says="Your new mean is κ m + n x̄, which is a sum of κ + n points, not their mean.",
              hint="If x̄ = m, where is the new mean?"),
        wrong("the mean of the points for the new mean", f"(kappa + n)*(mu - xbar)**2 + {_LEFT} + S",
              f"(kappa + n)*(mu - m)**2 + {_LEFT} + S",
              says="The new square stands at one of the old means. It stands between them, at m_k.",
              hint="What is the coefficient of μ in the given line?"),
        wrong("the mean's square subtracted", "kappa*(mu - m)**2 - n*(mu - xbar)**2 + S",
              says="The square of x̄ − μ has the wrong sign: about any μ the points' squares add to more "
                   "than about x̄.",
              hint="From which μ is the sum of squares least?"),
        wrong("n forgotten", "kappa*(mu - m)**2 + (mu - xbar)**2 + S",
              says="(x̄ − μ)² comes with every point, n times.",
              hint="What is the sum over all points of a number that is the same for all?"),
        wrong("mixed terms kept", "kappa*(mu - m)**2 + 2*n*(mu - xbar)**2 + S",
              "kappa*(mu - m)**2 + n*(mu - xbar)**2 + S + 2*S*(xbar - mu)",
              "kappa*(mu - m)**2 + n*(mu - xbar)**2 + S + 2*(xbar - mu)*n*xbar",
              says="A mixed term is left. The points' distances from their own mean add to 0.",
              hint="What is the sum of x(i) − x̄ over all points?"),
        wrong("variance for scatter", "kappa*(mu - m)**2 + n*(mu - xbar)**2 + S/n", f"{_NEW} + {_LEFT} + S/n",
              "kappa*(mu - m)**2 + n*(mu - xbar)**2 + n*S", f"{_NEW} + {_LEFT} + n*S",
              says="S was divided by n, or multiplied by it. S is the sum of the squares already.",
              hint="Is S a sum or a mean?"),
        wrong("squares taken apart", "kappa*(mu**2 + m**2) + sum(x(i)**2 + mu**2 for i in points)",
              "kappa*(mu**2 - m**2) + sum(x(i)**2 - mu**2 for i in points)",
              "(kappa + n)*mu**2 + kappa*m**2 + n*xbar**2 + S",
              says="A square of a difference was taken apart without its mixed term.",
              hint="What is (3 − 1)²?"),
        wrong("the mixed term once", "(kappa + n)*mu**2 - (kappa*m + n*xbar)*mu + kappa*m**2 + n*xbar**2 + S",
              "(kappa + n)*mu**2 + 2*(kappa*m + n*xbar)*mu + kappa*m**2 + n*xbar**2 + S",
              says="The term that is linear in μ has lost its 2, or its minus.",
              hint="What is (a − b)²?"),
        wrong("the completing term not taken away", f"{_NEW} + kappa*m**2 + n*xbar**2 + S",
              says="(κ + n) m_k² came in with the square, and was not taken away again.",
              hint="Put μ = 0 into your line and into the one before."),
        wrong("the completing term with a plus",
              f"{_NEW} + (kappa*m + n*xbar)**2/(kappa + n) + kappa*m**2 + n*xbar**2 + S",
              f"{_NEW} + (kappa + n)*m_new**2 + kappa*m**2 + n*xbar**2 + S",
              says="What came in with the square was added once more. It must be taken away.",
              hint="Put μ = 0 into your line and into the one before."),
        wrong("the completing term not divided",
              f"{_NEW} - (kappa*m + n*xbar)**2 + kappa*m**2 + n*xbar**2 + S",
              f"{_NEW} - m_new**2 + kappa*m**2 + n*xbar**2 + S",
              says="The term taken away is not (κ + n) m_k²: its weight is wrong.",
              hint="Open (κ + n)(μ − m_k)²: which term holds no μ?"),
    ),
    teaching_notes="Ask for the two limits, κ → 0 and κ → ∞, in both terms. Then let the class say why the "
                   "left-over term must go into the posterior of the precision: points far from m are "
                   "evidence for a wide component.")


# --- the posterior of mean and precision (derivation) -------------------------------------------------------

def _conjugate_instances(generator: torch.Generator) -> list[Instance]:
    """Points in one, two or three dimensions, a precision matrix, and a normal-Wishart prior."""
    return [_conjugate_instance(*sizes, generator) for sizes in ((1, 2), (2, 3), (2, 2), (3, 4), (2, 4))]


def _conjugate_instance(dimensions: int, count: int, generator: torch.Generator) -> Instance:
    def point() -> tuple[float, ...]:
        return tuple(_tenths(generator, -20, 20, dimensions))

    x, mu, m = [point() for _ in range(count)], point(), point()
    precision, inverse_scale = (_definite(generator, 1, dimensions)[0] for _ in range(2))
    kappa, nu = _tenths(generator, 2, 30, 1)[0] + 0.05, dimensions + _tenths(generator, 2, 30, 1)[0]
    xbar = tuple(math.fsum(column) / count for column in zip(*x))
    m_new = tuple((kappa * one + count * other) / (kappa + count) for one, other in zip(m, xbar))

    rows = precision.tolist()

    def dist(a: tuple, b: tuple) -> float:
        apart = [one - other for one, other in zip(a, b, strict=True)]
        return math.fsum(one * entry * other for one, row in zip(apart, rows)
                         for entry, other in zip(row, apart))

    def tr(matrix: tuple) -> float:
        return math.fsum(a * b for one, other in zip(matrix, rows, strict=True) for a, b in zip(one, other))

    centred = torch.tensor(x, dtype=torch.float64) - torch.tensor(xbar, dtype=torch.float64)
    tables = {"Winv": inverse_scale, "S": centred.T @ centred}
    symbols = {"x": x.__getitem__, "points": tuple(range(count)), "n": count, "mu": mu, "m": m, "xbar": xbar,
               "m_new": m_new, "kappa": kappa, "nu": nu, "L": dimensions, "dist": dist, "tr": tr,
               "logdet": torch.logdet(precision).item(),
               **{name: tuple(map(tuple, table.tolist())) for name, table in tables.items()}}
    points = ", ".join(map(_shown, x))
    return Instance(f"x = ({points}), mu = {_shown(mu)}, m = {_shown(m)}, kappa = {kappa:g}, nu = {nu:g}, "
                    f"L = {dimensions}, Lambda = {tuple(map(_shown, precision.tolist()))}, "
                    f"Winv = {tuple(map(_shown, inverse_scale.tolist()))}".replace("'", ""), symbols)


def _definite(generator: torch.Generator, count: int, dimensions: int) -> Tensor:
    """Positive definite matrices with readable entries, none of them diagonal."""
    lower = torch.randint(2, 12, (count, dimensions, dimensions), generator=generator).to(torch.float64) / 10
    sign = 2 * torch.randint(2, lower.shape, generator=generator) - 1
    lower = (lower * sign).tril()
    return (lower @ lower.mT).mul(100).round().div(100) + 0.5 * torch.eye(dimensions, dtype=torch.float64)


_POINTS = "sum(dist(x(i), mu) for i in points)"
_JOINT = ("(nu - L - 1)/2*logdet - tr(Winv)/2 + logdet/2 - kappa*dist(mu, m)/2 "
          f"+ n*logdet/2 - {_POINTS}/2")


def _after(mean: str = "(kappa + n)*dist(mu, m_new)", nu: str = "nu + n",
           pull: str = "kappa*n/(kappa + n)*dist(xbar, m)", scale: str = "tr(Winv) + tr(S)",
           root: str = "logdet/2") -> str:
    """The result, or a slip in one of its parts."""
    inner = f"{scale} + {pull}" if pull else scale
    return f"({nu} - L - 1)/2*logdet - ({inner})/2" + (f" + {root}" if root else "") + f" - {mean}/2"


_GATHERED = "kappa*dist(mu, m) + n*dist(xbar, mu)"
_CONJUGATE_RESULT = _after()
_CONJUGATE_FORMS = tuple(_after(mean=f"(kappa + n)*dist({a})", pull=f"kappa*n/(kappa + n)*dist({b})")
                         for a in ("mu, m_new", "m_new, mu") for b in ("xbar, m", "m, xbar"))[1:]


def _gathers(tree: ast.expr) -> bool:
    """A line of the reader's own in which the points have gone into S."""
    names = names_in(tree)
    return "S" in names and "x" not in names and _own(tree, _JOINT, _CONJUGATE_RESULT, *_CONJUGATE_FORMS)


def _keeps_the_root(tree: ast.expr) -> bool:
    """The result with the determinant of Wishart's law and that of the Gaussian law apart."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "logdet"]
    return len(found) > 1 and "m_new" in names_in(tree)


conjugate_proof = LongDerivation(
    name="conjugate_proof", title="Where the points go in the posterior", chapter=5, difficulty=3, minutes=20,
    points=4, equations=("eq-vg-wishart", "eq-vg-prior", "eq-vg-posterior-mean", "eq-vg-posterior-scale"),
    statement="""
        The logarithm of prior times likelihood of one component, without constants: a Wishart law of
        $\\Lambda$, a Gaussian law of $\\mu$ with the precision $\\kappa \\Lambda$, and $n$ points. Write
        `dist(a, b)` for $(a - b)^\\top \\Lambda (a - b)$ and `tr(M)` for $\\operatorname{tr} M \\Lambda$.
        Show that it is a Wishart law times a Gaussian law again,

        $$\\begin{aligned}
        &\\tfrac{\\nu + n - L - 1}{2} \\log |\\Lambda| - \\tfrac12 \\operatorname{tr} \\Lambda
        \\Big[ W^{-1} + S + \\tfrac{\\kappa n}{\\kappa + n} (\\bar x - m)(\\bar x - m)^\\top \\Big] \\\\
        &+ \\tfrac12 \\log |\\Lambda| - \\tfrac{\\kappa + n}{2} (\\mu - m_k)^\\top \\Lambda (\\mu - m_k)
        \\end{aligned}$$

        and read off $\\nu_k$, $W_k^{-1}$, $\\kappa_k$ and $m_k$. The trace of $\\Lambda (\\bar x -
        m)(\\bar x - m)^\\top$ is `dist(xbar, m)`. One $\\tfrac12 \\log |\\Lambda|$ stays outside: it
        belongs to the Gaussian law of $\\mu$. (If $\\mu$ is held instead, it belongs to $\\Lambda$: the
        Wishart law of $\\Lambda$ given $\\mu$ has $\\nu + n + 1$ degrees of freedom.) Fill in the lines
        marked `...`, or write a chain of your own.""",
    symbols=(("x(i)", "x_i", "a point; `points` are all of them"),
             ("points", "i", "all points"),
             ("n, xbar", "n,\\; \\bar x", "number and mean of the points"),
             ("S", "S", "scatter about `xbar`, a matrix: it stands in `tr(S)`"),
             ("mu, logdet", "\\mu,\\; \\log \\lvert\\Lambda\\rvert", "any mean, and the precision's "
              "log-determinant"),
             ("nu, L", "\\nu,\\; L", "degrees of freedom, dimensions"),
             ("Winv", "W^{-1}", "the prior's inverse scale: it stands in `tr(Winv)`"),
             ("kappa, m, m_new", "\\kappa,\\; m,\\; m_k", "the prior's weight and mean, and the new mean"),
             ("dist(a, b)", "(a-b)^\\top \\Lambda (a-b)", "a squared distance of two of `mu`, `m`, `m_new`, "
              "`xbar`, `x(i)`"),
             ("tr(M)", "\\operatorname{tr} M \\Lambda", "of `Winv` or `S`; a sum is `tr(Winv) + tr(S)`")),
    chain=f"""
        (nu - L - 1)/2*logdet - tr(Winv)/2 + logdet/2 - kappa*dist(mu, m)/2
          + n*logdet/2 - {_POINTS}/2
        = (nu + n - L - 1)/2*logdet - tr(Winv)/2 + logdet/2
          - kappa*dist(mu, m)/2 - (tr(S) + n*dist(xbar, mu))/2      # about x̄
        = (nu + n - L - 1)/2*logdet - tr(Winv)/2 + logdet/2 - tr(S)/2
          - ((kappa + n)*dist(mu, m_new)
             + kappa*n/(kappa + n)*dist(xbar, m))/2      # the two squares in μ
        = (nu + n - L - 1)/2*logdet
          - (tr(Winv) + tr(S) + kappa*n/(kappa + n)*dist(xbar, m))/2
          + logdet/2 - (kappa + n)*dist(mu, m_new)/2
        """,
    blanks=(2, 3), least_lines=1, instances=_conjugate_instances, forms=_CONJUGATE_FORMS,
    landmarks=(Step("Show the points gathered about their mean: a line of your own, before the result, in "
                    "which `tr(S)` stands and no point.", test=_gathers),
               Step("Show whose determinant is whose: in the result one ½ log |Λ| stands apart, that of the "
                    "Gaussian law of μ. With all of them together you would read off ν + n + 1, the degrees "
                    "of freedom of Λ where μ is held.", test=_keeps_the_root)),
    hints=("Count the powers of the determinant first: one half from each point, one half from the mean's "
           "law, and (ν − L − 1)/2 from Wishart's. Which of them do you add, and which do you leave?",
           "The points' distances from μ add to tr(S) + n·dist(xbar, mu). Two squares in μ are then left.",
           "κ·dist(mu, m) + n·dist(xbar, mu) is (κ + n)·dist(mu, m_new) + κn/(κ + n)·dist(xbar, m): the last "
           "term holds no μ and joins W⁻¹ and S."),
    misconceptions=(
        wrong("the power of a point", _after(nu="nu + 2*n"), _after(nu="nu + n/2"), _after(nu="nu + n*L"),
              says="Each point brings |Λ| to the power ½, the root of the determinant, whatever the "
                   "dimension. So ν grows by 1 a point.",
              hint="What stands in front of the exponential in the density of one point?"),
        wrong("ν left as it was", _after(nu="nu"),
              says="ν has not grown: the points' own determinants are lost. Each point brings ½ log |Λ|.",
              hint="How often does log |Λ| come in the given line?"),
        wrong("one degree too many", _after(nu="nu + n + 1"), _after(root="logdet"),
              says="The mean's ½ log |Λ| was counted twice: for ν, and outside as well. It belongs to the "
                   "Gaussian law of μ. With μ held and everything of μ moved to Λ, it would be ν + n + 1, "
                   "and nothing would be left outside.",
              hint="Add the coefficients of log |Λ| in your line, and in the given one."),
        wrong("a determinant lost", _after(nu="nu + n - 1"), _after(root=""),
              says="One ½ log |Λ| is lost: a degree of freedom is missing, or the root of the determinant in "
                   "front of the Gaussian law of μ, whose precision is (κ + n) Λ.",
              hint="Add the coefficients of log |Λ| in your line, and in the given one."),
        wrong("a determinant for every mean", _after(root="(kappa + n)*logdet/2"),
              _after(root="L*(kappa + n)*logdet/2"), _after(root="(1 + kappa + n)*logdet/2"),
              says="The mean's law has one half of log |Λ|, whatever κ and L are: the determinant of c Λ is "
                   "c to the power L times that of Λ, and c is a constant.",
              hint="log |c Λ| = L log c + which multiple of log |Λ|?"),
        wrong("the pull of the mean lost", _after(pull=""),
              says="What the prior's mean and the points' mean lie apart is lost. It holds no μ, but it "
                   "holds Λ, and belongs to W⁻¹.",
              hint="κ·dist(mu, m) + n·dist(xbar, mu): what is it at μ = m_k?"),
        wrong("the pull with another weight", _after(pull="kappa*n*dist(xbar, m)"),
              _after(pull="n*dist(xbar, m)"), _after(pull="kappa*dist(xbar, m)"),
              _after(pull="(kappa + n)/(kappa*n)*dist(xbar, m)"), _after(pull="n/(kappa + n)*dist(xbar, m)"),
              _after(pull="kappa/(kappa + n)*dist(xbar, m)"), _after(pull="dist(xbar, m)"),
              _after(pull="(kappa + n)*dist(xbar, m)"),
              says="The distance of the two means has the wrong weight: it is κn/(κ + n).",
              hint="It must vanish for κ = 0, and for n = 0 as well. Which weights do?"),
        wrong("the pull with a minus", _after(pull="(-kappa)*n/(kappa + n)*dist(xbar, m)"),
              says="The distance of the two means is subtracted. Points far from m speak for a wide "
                   "component, so W⁻¹ grows.",
              hint="W⁻¹ grows with what is spread. Is x̄ far from m a sign of much spread, or of little?"),
        wrong("the pull from the new mean", _after(pull="kappa*n/(kappa + n)*dist(xbar, m_new)"),
              _after(pull="kappa*n/(kappa + n)*dist(m, m_new)"), _after(pull="kappa*n/(kappa + n)*dist(xbar, "
                                                                             "mu)"),
              says="The distance left over is that of the points' mean from the prior's, and not of either "
                   "from the new one or from μ.",
              hint="Which of the two old centres does your term no longer know?"),
        wrong("what is left over, counted twice",
              _after(pull="kappa*dist(m, m_new) + n*dist(xbar, m_new) + kappa*n/(kappa + n)*dist(xbar, m)"),
              _after(mean=f"({_GATHERED})"),
              says="What the two old squares leave over, κn/(κ + n)·dist(xbar, m), is counted twice. Both of "
                   "them together are the new square plus that, and no more.",
              hint="κ·dist(mu, m) + n·dist(xbar, mu) became two terms. Which, and is it still there?"),
        wrong("the scatter lost", _after(scale="tr(Winv)"),
              f"(nu + n - L - 1)/2*logdet - tr(Winv)/2 + logdet/2 - ({_GATHERED})/2",
              says="tr(S) is lost: the points are more than their mean.",
              hint="Two points, at μ − 1 and μ + 1: what is the sum of their squared distances from μ?"),
        wrong("covariance for scatter", _after(scale="tr(Winv) + tr(S)/n"),
              f"(nu + n - L - 1)/2*logdet - tr(Winv)/2 + logdet/2 - ({_GATHERED} + tr(S)/n)/2",
              says="The scatter was divided by n. S is the sum of the squares, not their mean: ten times the "
                   "points weigh ten times as much.",
              hint="Is there a 1/n anywhere in the given line?"),
        wrong("the scatter counted for each point", _after(scale="tr(Winv) + n*tr(S)"),
              f"(nu + n - L - 1)/2*logdet - tr(Winv)/2 + logdet/2 - ({_GATHERED} + n*tr(S))/2",
              says="S was multiplied by n. S is a sum over all points already.",
              hint="Is S a sum or a mean?"),
        wrong("the scatter about μ", f"(nu + n - L - 1)/2*logdet - (tr(Winv) + {_POINTS} "
              "+ kappa*n/(kappa + n)*dist(xbar, m))/2 + logdet/2 - (kappa + n)*dist(mu, m_new)/2",
              f"(nu + n - L - 1)/2*logdet - tr(Winv)/2 + logdet/2 - ({_GATHERED} + {_POINTS})/2",
              says="The points' distances from μ are still there beside what they were replaced by.",
              hint="The sum over the points is tr(S) + n·dist(xbar, mu). Which of the two sides stays?"),
        wrong("n forgotten at the mean's distance", "(nu + n - L - 1)/2*logdet - tr(Winv)/2 + logdet/2 "
              "- kappa*dist(mu, m)/2 - (tr(S) + dist(xbar, mu))/2",
              says="dist(xbar, mu) comes once in your line. It comes with every point, n times.",
              hint="What is the sum over all points of a number that is the same for all?"),
        wrong("the mean's distance subtracted", "(nu + n - L - 1)/2*logdet - tr(Winv)/2 + logdet/2 "
              "- kappa*dist(mu, m)/2 - (tr(S) - n*dist(xbar, mu))/2",
              says="n·dist(xbar, mu) has the wrong sign: about any μ the distances add to more than about "
                   "x̄.",
              hint="From which μ is the sum of the squared distances least?"),
        wrong("the weight of the new mean", _after(mean="kappa*dist(mu, m_new)"),
              _after(mean="n*dist(mu, m_new)"), _after(mean="dist(mu, m_new)"),
              _after(mean="kappa*n/(kappa + n)*dist(mu, m_new)"), _after(mean="(kappa + 1)*dist(mu, m_new)"),
              says="The new mean is not held by κ + n. The prior counts as κ points, and n real ones came.",
              hint="Which multiple of μᵀΛμ does the given line have?"),
        wrong("an old mean for the new", _after(mean="(kappa + n)*dist(mu, m)"),
              _after(mean="(kappa + n)*dist(mu, xbar)"), _after(mean="(kappa + n)*dist(mu, m)", pull=""),
              _after(mean="(kappa + n)*dist(mu, xbar)", pull=""),
              says="μ is drawn to one of the old means. The new one lies between them, m_k.",
              hint="What is linear in μ in the given line?"),
        wrong("W⁻¹ lost", _after(scale="tr(S)"),
              says="The prior's own W⁻¹ is lost.",
              hint="What is the posterior without any points?"),
        wrong("½ forgotten", _after().replace("- (tr(Winv)", "- 2*(tr(Winv)"),
              _after(mean="2*(kappa + n)*dist(mu, m_new)"),
              says="A ½ is missing in front of the trace or of the square.",
              hint="Which factor do all distances in the given line have?"),
        wrong("the dimension counted otherwise", _after(nu="nu + n + 2"), _after(nu="nu + n + 2*L + 2"),
              says="The power of a Wishart law is (ν − L − 1)/2. Something happened to its −L − 1.",
              hint="Copy the power of the given Wishart law, with ν + n for ν."),
    ),
    teaching_notes="Have the class find the +1 themselves: what is p(Λ | μ, points)? Everything that holds Λ "
                   "goes together, the degrees of freedom are ν + n + 1, and the scale is W⁻¹ plus κ "
                   "(μ − m)(μ − m)ᵀ plus the scatter about μ. A sampler that mixes the two rules up fails "
                   "Geweke's test at once.")


# --- what the label is worth (derivation) -------------------------------------------------------------------

def _label_instances(generator: torch.Generator) -> list[Instance]:
    """A latent x with a few values, two or three components, and the component that is conditioned on."""
    return [_label_instance(*sizes, generator) for sizes in ((2, 2), (3, 2), (3, 3), (4, 2), (3, 3))]


def _label_instance(count: int, components: int, generator: torch.Generator) -> Instance:
    weights = _shares(generator, components)
    while True:
        q, *laws = (_shares(generator, count) for _ in range(components + 1))
        if len({tuple(law) for law in (q, *laws)}) == components + 1:
            break
    z = int(torch.randint(components, (1,), generator=generator))
    rec = -_tenths(generator, 11, 90, 1)[0]
    whole = [math.fsum(w * law[at] for w, law in zip(weights, laws)) for at in range(count)]
    symbols = {"q": q.__getitem__, "comp": lambda x, k: laws[k][x], "pi": weights.__getitem__, "z": z,
               "p": whole.__getitem__, "gamma": lambda x, k: weights[k] * laws[k][x] / whole[x], "rec": rec,
               "values": tuple(range(count)), "labels": tuple(range(components))}
    shown = ", ".join(f"comp(x, {k}) = {_shown(law)}" for k, law in enumerate(laws))
    return Instance(f"q = {_shown(q)}, pi = {_shown(weights)}, {shown}, z = {z}, rec = {rec:g}", symbols)


def _mean(term: str, weight: str = "q(x)*") -> str:
    """A mean under q."""
    return f"sum({weight}{term} for x in values)"


_CONDITIONAL = f"(rec - {_mean('log(q(x)/comp(x, z))')})"
_HONEST = f"(rec - {_mean('log(q(x)/p(x))')})"
_READ_OFF = f"{_CONDITIONAL} - {_HONEST}"
_LABEL = _mean("log(gamma(x, z))")
_LABEL_RESULT = f"-log(pi(z)) + {_LABEL}"
_LABEL_FORMS = (f"log(1/pi(z)) + {_LABEL}",)


def _one_mean(tree: ast.expr) -> bool:
    """A line of the reader's own, before the result, in which the reconstruction is gone."""
    return "rec" not in names_in(tree) and {"q", "log"} <= names_in(tree) and _own(
        tree, _READ_OFF, _LABEL_RESULT, *_LABEL_FORMS)


label_gap_proof = LongDerivation(
    name="label_gap_proof", title="What reading the label off is worth", chapter=5, difficulty=2, minutes=15,
    points=3, equations=("eq-vg-conditional", "eq-vg-label-identity", "eq-vg-label-gap"),
    statement="""
        For one image, a program reports its reconstruction minus $\\operatorname{KL}(q \\,\\Vert\\,
        \\mathcal{N}_z)$, the divergence from one component, that which it read off the image; the bound on
        $\\log p(o)$ has $\\operatorname{KL}(q \\,\\Vert\\, p)$ in its place, with the whole mixture $p =
        \\sum_k \\pi_k \\mathcal{N}_k$. Show that the first lies above the second by

        $$-\\log \\pi_z + \\mathbb{E}_q \\log \\gamma_z(x), \\qquad \\gamma_k(x) = \\frac{\\pi_k
        \\mathcal{N}_k(x)}{p(x)}$$

        A responsibility is at most 1, so this is at most $-\\log \\pi_z$: with ten even components up to
        $\\log 10$ nats of "progress" without any learning. Here $x$ has a few values only, so that each
        mean is a sum that can be worked out; no step needs more. Fill in the lines marked `...`, or write
        a chain of your own.""",
    symbols=(("rec", "\\mathbb{E}_q \\log p(o \\mid x)", "the reconstruction, the same in both"),
             ("q(x)", "q(x)", "the encoder's law; it adds to 1"),
             ("comp(x, k)", "\\mathcal{N}_k(x)", "law of component `k`"),
             ("pi(k)", "\\pi_k", "its weight"),
             ("p(x)", "p(x)", "the mixture, the sum of `pi(k)*comp(x, k)` over all `labels`"),
             ("gamma(x, k)", "\\gamma_k(x)", "`pi(k)*comp(x, k)/p(x)`"),
             ("z", "z", "the component that was read off"),
             ("values, labels", "x,\\; k", "all latent values, and all components")),
    chain=f"""
        (rec - {_mean("log(q(x)/comp(x, z))")})
          - (rec - {_mean("log(q(x)/p(x))")})
        = {_mean("(log(q(x)/p(x)) - log(q(x)/comp(x, z)))")}    # one mean
        = {_mean("log(comp(x, z)/p(x))")}      # q cancels
        = {_mean("log(gamma(x, z)/pi(z))")}    # Bayes
        = {_LABEL_RESULT}     # q adds to 1
        """,
    blanks=(2, 3, 4), least_lines=2, instances=_label_instances, forms=_LABEL_FORMS,
    nearly="One more line: let q cancel in one step, and use Bayes' rule in another.",
    landmarks=(Step("Show the two divergences becoming one mean: a line of your own, before the result, in "
                    "which `rec` is gone.", test=_one_mean),),
    hints=("The reconstruction is the same in both and goes. Two means under the same q are one mean: of "
           "what?",
           "log(q/p) − log(q/N_z) holds q twice, with opposite signs. What is left is log(N_z(x)/p(x)).",
           "Bayes: γ_z(x) = π_z N_z(x)/p(x), so N_z/p is γ_z/π_z. The logarithm of π_z holds no x, and q "
           "adds to 1."),
    misconceptions=(
        wrong("the gap turned round", f"log(pi(z)) - {_LABEL}", _mean("log(p(x)/comp(x, z))"),
              _mean("log(pi(z)/gamma(x, z))"), _mean("(log(q(x)/comp(x, z)) - log(q(x)/p(x)))"),
              says="You have the bound minus what was reported. The divergences are subtracted: what lies "
                   "above is what has the smaller divergence.",
              hint="−3 − (−5): is that the difference 3 − 5, or 5 − 3?"),
        wrong("the whole of −log π", "-log(pi(z))", "log(1/pi(z))",
              says="This is the most that the gap can be. It is that only where q is sure of the component "
                   "everywhere, γ = 1.",
              hint="In your line, what became of γ?"),
        wrong("the responsibility alone", _LABEL, _mean("log(pi(z)*comp(x, z)/p(x))"),
              says="−log π_z is missing. With this sign the reported number would lie below the bound, and "
                   "it lies above it as a rule.",
              hint="Solve γ = π N/p for N/p."),
        wrong("log π with a plus", f"log(pi(z)) + {_LABEL}", _mean("log(gamma(x, z)*pi(z))"),
              _mean("log(comp(x, z)*pi(z)**2/p(x))"),
              says="π_z stands above the line, where it must stand below: N/p is γ divided by π.",
              hint="Is a component's density at x larger than its joint density, or smaller?"),
        wrong("γ under the line", f"-log(pi(z)) - {_LABEL}", _mean("log(1/(gamma(x, z)*pi(z)))"),
              says="γ has the wrong sign, so that the gap is largest where nobody can tell the component. It "
                   "is largest where q is sure.",
              hint="γ = 1 everywhere: what is the gap? And where γ is small?"),
        wrong("logarithm of the mean", f"-log(pi(z)) + log({_mean('gamma(x, z)')})",
              f"log({_mean('comp(x, z)/p(x)')})",
              says="You took the logarithm of the mean. The mean of the logarithms stands here, which is "
                   "smaller (Jensen).",
              hint="In KL(q ‖ p), which comes first, the logarithm, or the mean?"),
        wrong("mean under another law", f"-log(pi(z)) + {_mean('log(gamma(x, z))', 'p(x)*')}",
              f"-log(pi(z)) + {_mean('log(gamma(x, z))', 'comp(x, z)*')}",
              _mean("log(comp(x, z)/p(x))", "p(x)*"), _mean("log(comp(x, z)/p(x))", "comp(x, z)*"),
              _mean("log(gamma(x, z)/pi(z))", "p(x)*"), _mean("log(gamma(x, z)/pi(z))", "comp(x, z)*"),
              says="The mean is taken under the mixture or the component. Both divergences are means under "
                   "q.",
              hint="Which law weighs the logarithm in KL(q ‖ p)?"),
        wrong("q forgotten as a weight", f"-log(pi(z)) + {_mean('log(gamma(x, z))', '')}",
              _mean("log(comp(x, z)/p(x))", ""), _mean("log(gamma(x, z)/pi(z))", ""),
              f"-len(values)*log(pi(z)) + {_LABEL}",
              f"-log(pi(z))*len(values) + {_mean('log(gamma(x, z))', '')}",
              says="Something is added over all values of x without q (log π_z comes as often as there are "
                   "values). Means weigh each value by q, and q adds to 1.",
              hint="What is the mean under q of a constant?"),
        wrong("Bayes without the prior", _mean("log(gamma(x, z)*p(x))"), _mean("log(pi(z)*comp(x, z))"),
              _mean("log(gamma(x, z)*p(x)/pi(z))"), _mean("log(comp(x, z))"),
              says="p(x) was lost on the way. Bayes: γ_z(x) = π_z N_z(x)/p(x), so log(N_z/p) has no p(x) "
                   "left over only if you divide by it.",
              hint="Which of the two divergences holds p(x), and with which sign does it come?"),
        wrong("q left over", _mean("log(q(x)*comp(x, "
                                   "z)/p(x))"), f"-log(pi(z)) + {_mean('log(gamma(x, z)*q(x))')}",
              _mean("log(comp(x, z)/(p(x)*q(x)))"), f"-log(pi(z)) + {_mean('log(gamma(x, z)/q(x))')}",
              _mean("log(q(x)/(p(x)*comp(x, z)))"),
              says="q is left under the logarithm. It stands in both divergences, once with each sign, and "
                   "cancels.",
              hint="log(a/b) − log(a/c) is the logarithm of what?"),
        wrong("one divergence lost", f"-{_mean('log(q(x)/comp(x, z))')}", _mean("log(q(x)/p(x))"),
              f"-{_mean('log(q(x)/p(x))')}",
              says="One of the two divergences is left alone. The bound has one too.",
              hint="How many divergences has the given line?"),
        wrong("the divergences added", f"-{_mean('log(q(x)/comp(x, z))')} - {_mean('log(q(x)/p(x))')}",
              f"{_mean('log(q(x)/comp(x, z))')} + {_mean('log(q(x)/p(x))')}",
              says="The two divergences have the same sign in your line. One of the brackets is subtracted, "
                   "and its minus turns into a plus.",
              hint="What is 10 − (7 − 2)?"),
        wrong("the reconstruction left "
              "over", f"rec - log(pi(z)) + {_LABEL}", f"2*rec - log(pi(z)) + {_LABEL}",
              f"2*rec + {_mean('log(comp(x, z)/p(x))')}", f"rec + {_mean('log(comp(x, z)/p(x))')}",
              says="The reconstruction is left over. It is the same in both, and cancels.",
              hint="How often does `rec` come in the given line, and with which signs?"),
        wrong("a divergence of labels", "sum(pi(k)*log(pi(k)/gamma(x, k)) for x in values for k in labels)",
              f"{_mean('sum(gamma(x, k)*log(gamma(x, k)/pi(k)) for k in labels)')}",
              f"-sum(pi(k)*log(pi(k)) for k in labels) + {_LABEL}",
              says="You took a mean over the components. One component was read off: z is not averaged "
                   "here. (On average over z ~ γ this is what tells how much the label knows of x.)",
              hint="Where in the given line is a sum over k?"),
        wrong("another component", f"-log(sum(pi(k) for k in labels if k != z)) + {_LABEL}",
              f"-log(pi(z)) + {_mean('log(1 - gamma(x, z))')}", f"-log(1 - pi(z)) + {_LABEL}",
              says="These are the other components, 1 − π or 1 − γ. The one that was read off counts.",
              hint="Which weight belongs to the component z?"),
        wrong("even weights", f"log(len(labels)) + {_LABEL}", "log(len(labels))",
              says="log K is −log π_z only where all components are used alike. Here they are not.",
              hint="What is π_z in your instance?"),
        wrong("a quotient of logarithms", _mean("log(comp(x, z))/log(p(x))"),
              f"-log(pi(z)) + {_mean('log(pi(z)*comp(x, z))/log(p(x))')}",
              says="You divided logarithms. The logarithm of a quotient is their difference.",
              hint="log(8/2) is log 4. What is log 8 divided by log 2?"),
        wrong("logarithm forgotten", _mean("comp(x, z)/p(x)"), _mean("gamma(x, z)/pi(z)"),
              f"1/pi(z)*{_mean('gamma(x, z)')} + 1", f"-log(pi(z)) + {_mean('gamma(x, z)')}",
              says="A logarithm is missing: responsibilities themselves are averaged.",
              hint="Which function stands in the mean of a divergence?"),
        wrong("the joint for the component", _mean("(log(gamma(x, z)) - 2*log(pi(z)))"),
              f"-2*log(pi(z)) + {_LABEL}",
              says="log π_z is counted twice. It comes in once, by Bayes' rule.",
              hint="N_z/p = γ_z/π_z: how often is π in it?"),
    ),
    teaching_notes="Ask what a program reports that conditions on a component drawn at random, and then on "
                   "the best one. Then average over z ~ p(z | o): the mean gap is the mutual information of "
                   "image and label, at most log K. The label was read off the image: so log p(o | z) is no "
                   "more an achievement than an answer copied from the question.")


# --- how slowly symmetry breaks (derivation) ----------------------------------------------------------------

SMALL = (0.003, 0.0035, 0.0025, 0.004, 0.0028)      # ε, so small that ε⁵ is nothing beside ε³


def _saddle_instances(generator: torch.Generator) -> list[Instance]:
    return [_saddle_instance(eps, generator) for eps in SMALL]


def _saddle_instance(eps: float, generator: torch.Generator) -> Instance:
    """A law on four or five points, symmetric about 0 and of variance 1; two components near 0."""
    while True:
        (outer,) = _tenths(generator, 12, 18, 1)
        share = int(torch.randint(10, 40, (1,), generator=generator)) / 100
        rest = 1 - share * outer**2
        if rest > 0.05 and abs(share * outer**4 + rest**2 / (1 - share) - 2) > 0.1:
            break
    inner = math.sqrt(rest / (1 - share))
    law = {-outer: share / 2, -inner: (1 - share) / 2, inner: (1 - share) / 2, outer: share / 2}
    m4 = math.fsum(weight * at**4 for at, weight in law.items())

    def gamma(x: float) -> float:
        """Responsibility of the component on the right, from both densities."""
        right, left = (math.exp(-(x - side * eps)**2 / (2 * (1 - eps**2))) for side in (1, -1))
        return right / (right + left)

    symbols = {"w": law.__getitem__, "values": tuple(law), "eps": eps, "u": eps / (1 - eps**2), "m4": m4,
               "gamma": gamma}
    return Instance(f"x = ±{outer:g} with probability {share:g}, else ±{inner:.5g}, eps = {eps:g}", symbols)


def _over(term: str) -> str:
    """A mean over the data."""
    return f"sum(w(x)*{term} for x in values)"


_STEP = f"{_over('gamma(x)*x')}/{_over('gamma(x)')}"
_SADDLE_RESULT = "eps + (1 - m4/3)*eps**3"


def _expands(tree: ast.expr) -> bool:
    """A line of the reader's own, without γ and tanh, in which u still stands, or what it is."""
    names = names_in(tree)
    return not {"gamma", "tanh", "exp"} & names and ("u" in names or "eps" in names) and _own(
        tree, _SADDLE_RESULT)


saddle_proof = LongDerivation(
    name="saddle_proof", title="How slowly symmetry breaks", chapter=5, difficulty=3, minutes=20, points=4,
    equations=("eq-vg-symmetric", "eq-vg-saddle"),
    statement="""
        Data that are symmetric about 0 and have variance 1, and two components of equal weight at
        $\\pm\\varepsilon$, both with the variance $1 - \\varepsilon^2$ that is left to them. One EM step
        moves the right one to $\\varepsilon' = \\sum_n \\gamma(x_n) x_n / \\sum_n \\gamma(x_n)$. Show that

        $$\\varepsilon' = \\varepsilon + \\Big(1 - \\frac{m_4}{3}\\Big) \\varepsilon^3 + O(\\varepsilon^5),
        \\qquad m_4 = \\mathbb{E}\\, x^4$$

        The factor of $\\varepsilon$ is 1: a small asymmetry neither grows nor dies, at first order. It
        grows by the cube, and only if $m_4 < 3$, if the data are flatter than a Gaussian. With $u =
        \\varepsilon/(1 - \\varepsilon^2)$ a responsibility is $\\gamma(x) = (1 + \\tanh(u x))/2$; you may
        use $\\tanh a = a - a^3/3 + O(a^5)$. The check takes an $\\varepsilon$ near 0.003 and compares nine
        digits, so terms of order $\\varepsilon^5$ are nothing to it, and a line may leave them out. Fill
        in the lines marked `...`, or write a chain of your own.""",
    symbols=(("w(x)", "\\tfrac1N", "weight of a value among the data; the weights add to 1"),
             ("values", "x", "all values of the data; with each $x$ also $-x$, equally often"),
             ("eps", "\\varepsilon", "place of the right component; the left one is at `-eps`"),
             ("u", "u", "`eps/(1 - eps**2)`"),
             ("gamma(x)", "\\gamma(x)", "responsibility of the right component, `(1 + tanh(u*x))/2`"),
             ("m4", "m_4", "mean of `x**4`; that of `x**2` is 1")),
    chain=f"""
        {_over("gamma(x)*x")}
          /{_over("gamma(x)")}
        = {_over("(1 + tanh(u*x))*x")}
          /{_over("(1 + tanh(u*x))")}      # γ; the halves cancel
        = {_over("x*tanh(u*x)")}      # x and tanh have mean 0
        = {_over("x*(u*x - (u*x)**3/3)")}      # tanh a = a − a³/3
        = u - u**3*m4/3      # E x² = 1, E x⁴ = m₄
        = {_SADDLE_RESULT}      # u = ε + ε³, u³ = ε³
        """,
    blanks=(2, 3, 4, 5), least_lines=2, instances=_saddle_instances,
    nearly="One more line: use the symmetry in one step, and expand tanh in another.",
    landmarks=(Step("Show the expansion: a line of your own, before the result, in which tanh is replaced by "
                    "its first two terms.", test=_expands),),
    hints=("Put γ = (1 + tanh(u x))/2 above and below. Which of the sums are 0, since with each x there is "
           "−x?",
           "Below, 1 is left: the sum of the weights. Above, the mean of x tanh(u x). Expand tanh to its "
           "cube, and take both moments.",
           "u − m₄ u³/3 is left. 1/(1 − ε²) = 1 + ε² + …, so u = ε + ε³ up to ε⁵, and u³ = ε³ up to ε⁵."),
    misconceptions=(
        wrong("tanh for its argument", _over("x*(u*x)"), "u", "eps + eps**3", "eps/(1 - eps**2)",
              says="tanh a is a − a³/3, and its cube is of the same order as the ε³ that you look for. "
                   "Without it every asymmetry would grow, in Gaussian data as well.",
              hint="Which powers of ε does (u x)³ have?"),
        wrong("the variance left at 1", "eps - eps**3*m4/3", _over("x*tanh(eps*x)"),
              _over("x*(eps*x - (eps*x)**3/3)"), "eps - m4*eps**3/3",
              says="ε stands where u belongs (or u was taken for ε): the components have the variance 1 − ε² "
                   "only, since what lies between them is the rest, and u = ε + ε³. With ε alone, every "
                   "asymmetry would die.",
              hint="The total variance is 1. How much of it is between the components?"),
        wrong("the cube with a plus", "eps + (1 + m4/3)*eps**3", "u + u**3*m4/3",
              _over("x*(u*x + (u*x)**3/3)"),
              says="The cube of tanh has the wrong sign: tanh bends down, a − a³/3.",
              hint="Is tanh a larger or smaller than a, for a > 0?"),
        wrong("the cube of the sine", "eps + (1 - m4/6)*eps**3", "u - u**3*m4/6",
              _over("x*(u*x - (u*x)**3/6)"),
              says="a − a³/6 is the sine. The tangent's hyperbolic sister has a third.",
              hint="tanh = sinh/cosh = (a + a³/6)/(1 + a²/2) = a + (1/6 − 1/2) a³: what is that?"),
        wrong("the third forgotten", "eps + (1 - m4)*eps**3", "u - u**3*m4", _over("x*(u*x - (u*x)**3)"),
              says="The cube has lost its third.",
              hint="tanh a = a − which multiple of a³?"),
        wrong("the square of the variance for the fourth moment", "eps + (1 - 1/3)*eps**3", "u - u**3/3",
              _over("x*(u*x - u**3*x/3)"), _over("x*(u*x - u**3*x**3/(3*m4))"), "eps + 2*eps**3/3",
              says="m₄ is gone: x² was put to 1 inside of the mean. Its mean is 1; the mean of x⁴ is m₄, and "
                   "larger.",
              hint="x (u x)³ has which power of x?"),
        wrong("the Gaussian's fourth moment", "eps", "u - u**3", "eps + 0*eps**3",
              says="In your line the cube cancels (m₄ = 3, as for a Gaussian, or terms of third order were "
                   "left out). The data's own m₄ decides whether the asymmetry grows.",
              hint="What is m₄ in your instance?"),
        wrong("the cube of x lost or too many", "eps + (1 - sqrt(m4)/3)*eps**3", "eps + (1 - m4**2/3)*eps**3",
              "u - u**3*sqrt(m4)/3", "u - u**3*m4**2/3", "u - u**3*m4/(3*m4**0.5)",
              says="The mean of x·x³ is m₄ itself, not a root of it nor a square.",
              hint="x (u x)³ has which power of x?"),
        wrong("u = ε − ε³", "eps - (1 + m4/3)*eps**3", "eps*(1 - eps**2) - eps**3*m4/3",
              _over("x*tanh(x*eps*(1 - eps**2))"),
              says="1/(1 − ε²) was taken for 1 − ε². It is 1 + ε²: dividing by something below 1 makes "
                   "larger.",
              hint="What is 1/(1 − 0.01)?"),
        wrong("half of the exponent", _over("x*tanh(u*x/2)"), "u/2 - (u/2)**3*m4/3", "eps/2 + (1/2 - "
                                                                                     "m4/24)*eps**3",
              says="The argument of tanh is halved. The difference of the two exponents is 2 u x, and the "
                   "sigmoid of 2 a is (1 + tanh a)/2.",
              hint="(x + ε)² − (x − ε)² is what?"),
        wrong("twice the exponent", _over("x*tanh(2*u*x)"), "2*u - (2*u)**3*m4/3", "2*eps + (2 - "
                                                                                   "8*m4/3)*eps**3",
              says="The argument of tanh is doubled. (1 + tanh a)/2 is the sigmoid of 2 a: the 2 is in tanh "
                   "already.",
              hint="(1 + tanh a)/2 = 1/(1 + e to the power of what?)"),
        wrong("γ for tanh", _over("gamma(x)*x"), f"{_over('gamma(x)*x')}/2", "u/2 - u**3*m4/6",
              "eps/2 + (1 - m4/3)*eps**3/2",
              says="The sum below is ½, the weight of the component. Dividing by it doubles, and takes the ½ "
                   "of γ away.",
              hint="What is the mean of γ, by symmetry?"),
        wrong("one added outside of the mean", f"1 + {_over('x*tanh(u*x)')}", "1 + u - u**3*m4/3",
              f"({_over('x*tanh(u*x)')} + 1)/2",
              says="The mean of x itself is 0, not 1: the 1 of 1 + tanh is multiplied by x.",
              hint="With each x there is −x. What is the sum of w(x)·x?"),
        wrong("doubled by symmetry", f"2*{_over('x*tanh(u*x)')}", "2*(u - u**3*m4/3)",
              "2*eps + 2*(1 - m4/3)*eps**3",
              says="The mean is twice too large. x and −x give the same, but both are in the sum already.",
              hint="What do the weights of all values add to?"),
        wrong("x forgotten", _over("tanh(u*x)*abs(x)"), _over("tanh(u*x)**2"), _over("tanh(u*abs(x))"), "0",
              _over("tanh(u*x)"),
              says="A factor x is missing (or its sign). The step is the mean of x·tanh(u x): tanh alone has "
                   "mean 0.",
              hint="What does γ weigh in the M-step for the mean?"),
        wrong("the third power of u expanded too far", "eps + (3 - m4/3)*eps**3", "eps + (1 - m4)*eps**3/3",
              says="Another cube came in with the wrong factor. u³ is ε³ up to order ε⁵, and u is ε + ε³.",
              hint="(ε + ε³)³ = ε³ + 3 ε⁵ + …: which of these count?"),
        wrong("ε lost at first order", "(1 - m4/3)*eps**3", "u - eps - u**3*m4/3",
              says="This is what one step adds. The new place is the old one plus that.",
              hint="Is ε′ larger or smaller than ε by a cube, or is it a cube?"),
        wrong("a square for the cube", "eps + (1 - m4/3)*eps**2", "u - u**2*m4/3",
              says="A square stands where the cube belongs. tanh is odd: it has no square.",
              hint="If ε becomes −ε, what should ε′ become?"),
        wrong("the sign of the coefficient", "eps - (1 - m4/3)*eps**3", "eps + (m4/3 - 1)*eps**3",
              says="The sign of the coefficient is turned: flat data (m₄ = 1, two clouds far apart) are "
                   "those in which an asymmetry grows.",
              hint="Two points, ±1: m₄ = 1. Should the components part, or meet?"),
        wrong("kurtosis in excess", "eps + (1 - (m4 - 3)/3)*eps**3", "eps + (3 - m4)*eps**3",
              says="Something was subtracted from m₄, or a factor 3 multiplied in. 1 − m₄/3 is (3 − m₄)/3.",
              hint="Bring 1 − m₄/3 on one denominator."),
    ),
    teaching_notes="Let the class solve dε/dt = c ε³ and read off 1/(2cε₀²) steps: from ε₀ = 0.01 and c = ½ "
                   "ten thousand. Then ask what a likelihood that has not moved for a hundred steps tells of "
                   "convergence, and why k-means++ begins elsewhere.")


# --- what the code exercises share --------------------------------------------------------------------------

def code_exercise(kind: type[FunctionExercise] = GradualExercise, **settings: object) -> Callable:
    """Decorates a solution, as `function_exercise` does."""
    return lambda solution: kind(name=solution.__name__, chapter=5, solution=solution, **settings)


def _float(*rows: object) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def _signed(generator: torch.Generator, *shape: int, most: int = 20) -> Tensor:
    """Random tenths of both signs up to most/10, none of them 0."""
    size = torch.randint(1, most + 1, shape, generator=generator)
    sign = 2 * torch.randint(2, shape, generator=generator) - 1
    return (size * sign).to(torch.float64) / 10


def _positive(generator: torch.Generator, *shape: int, low: int = 2, high: int = 30) -> Tensor:
    """Random tenths from low/10 to high/10, none of them 1."""
    tenths = torch.randint(low, high, shape, generator=generator)
    return (tenths + (tenths >= 10)).to(torch.float64) / 10


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PartwiseExercise(GradualExercise, ShapedExercise):
    """Several results of any shapes. Who made more than one slip is told of the first result that is wrong.

    sizes: how many numbers each part has, of how many there are in all.
    """

    sizes: Callable[[int], tuple[int, ...]]

    def judge(self, trials: Sequence[Trial], mistaken: Callable, *how: object, **more: object) -> Verdict:
        verdict = super().judge(trials, mistaken, *how, **more)
        apart = [k for k in range(len(self.parts))
                 if not all(agree(self._piece(one.yours, k), self._piece(one.truth, k)) for one in trials)]
        if verdict.passed or not apart:
            return verdict
        right = [f"`{name}`" for k, name in enumerate(self.parts) if k not in apart]
        note = f"Right on all cases: {', '.join(right) or 'none of them'}."
        verdict = replace(verdict, notes=(note, *verdict.notes))
        if verdict.misconception:
            return verdict
        named = (self._of_part(k, verdict, trials, mistaken) for k in apart)
        return next((one for one in named if one is not None), verdict)

    def _piece(self, row: Tensor, k: int) -> Tensor:
        return row.split(list(self.sizes(row.numel())))[k]

    def _of_part(self, k: int, verdict: Verdict, trials: Sequence[Trial],
                 mistaken: Callable) -> Verdict | None:
        """The verdict of the misconception that part k alone matches: of one that spoils no other, if any."""
        def fits(mutant: Slip, alone: bool) -> bool:
            others = [j for j in range(len(self.parts)) if j != k] if alone else []
            rows = ((mistaken(mutant, n), one) for n, one in enumerate(trials))
            return all(row.shape == one.truth.shape and agree(self._piece(row, k), self._piece(one.yours, k))
                       and all(agree(self._piece(row, j), self._piece(one.truth, j)) for j in others)
                       for row, one in rows)

        found = next((one for alone in (True, False) for one in self.misconceptions
                      if any(fits(mutant, alone) for mutant in one.mutants)), None)
        if found is None:
            return None
        begin = f"There may be more than one slip: look at `{self.parts[k]}` first."
        return replace(verdict, misconception=found.name, message=f"{begin} {found.says}", hint=found.hint)


# --- responsibilities ---------------------------------------------------------------------------------------

def _clouds(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """(x, weights, means, precisions): near points first, then some a thousand away."""
    for points, components, dimensions in ((1, 2, 1), (2, 2, 1), (1, 3, 1), (3, 2, 1), (2, 3, 2), (3, 3, 2),
                                           (4, 2, 2), (2, 3, 3)):
        yield (_signed(generator, points, dimensions), *_components(generator, components, dimensions))
    far = _float([1000.0, 0.5], [-0.5, 1.0], [-1000.0, 1000.0])
    yield (far, *_components(generator, 3, 2))
    yield (_float([1000.0], [-1500.0]), *_components(generator, 2, 1))


def _components(generator: torch.Generator, count: int, dimensions: int) -> tuple[Tensor, Tensor, Tensor]:
    return (torch.tensor(_shares(generator, count), dtype=torch.float64),
            _signed(generator, count, dimensions), _definite(generator, count, dimensions))


def _shares_by_loops(x: Tensor, weights: Tensor, means: Tensor, precisions: Tensor) -> Tensor:
    """Point by point, with the determinant from the eigenvalues."""
    roots = [math.fsum(map(math.log, torch.linalg.eigvalsh(each).tolist())) / 2 for each in precisions]
    rows = []
    for point in x.tolist():
        scores = []
        parts = zip(weights.tolist(), roots, means.tolist(), precisions.tolist())
        for weight, root, mean, precision in parts:
            apart = [a - b for a, b in zip(point, mean)]
            distance = math.fsum(a * entry * b for a, row in zip(apart, precision)
                                 for entry, b in zip(row, apart))
            scores.append(math.log(weight) + root - distance / 2)
        top = max(scores)
        joint = [math.exp(score - top) for score in scores]
        rows.append([part / math.fsum(joint) for part in joint])
    return _float(*rows)


def _distances(x: Tensor, means: Tensor, precisions: Tensor) -> Tensor:
    """(x − μ)ᵀ Λ (x − μ), (points, K)."""
    apart = x[:, None] - means
    return torch.einsum("nki,kij,nkj->nk", apart, precisions, apart)


def _scored(root: float = 0.5, weight: float = 1.0, distance: Callable | None = None,
            exponent: Callable[[Tensor], Tensor] = lambda d: -d / 2,
            end: Callable[[Tensor], Tensor] = lambda score: score.softmax(1)) -> Callable:
    """A mutant with another power of the determinant or weight, distance, exponent, or last step."""
    def mutant(x: Tensor, weights: Tensor, means: Tensor, precisions: Tensor) -> Tensor:
        d = (distance or _distances)(x, means, precisions)
        return end(weight * weights.log() + root * torch.logdet(precisions) + exponent(d))
    return mutant


def _plain(score: Tensor, more: float = 0.0, lift: Callable[[Tensor], Tensor] = torch.zeros_like) -> Tensor:
    """Densities by exp, divided by their sum."""
    joint = (score - lift(score)).exp()
    return joint / (joint.sum(1, keepdim=True) + more)


def _beside(rule: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    """A mutant in which the weights come in otherwise: of log-densities (points, K) and weights."""
    def mutant(x: Tensor, weights: Tensor, means: Tensor, precisions: Tensor) -> Tensor:
        return rule(_scored(weight=0, end=lambda score: score)(x, weights, means, precisions), weights)
    return mutant


def _with_two_pi(end: Callable[[Tensor], Tensor]) -> Callable:
    """A mutant with another last step, on densities with their (2π)^(−L/2)."""
    def mutant(x: Tensor, *mixture: Tensor) -> Tensor:
        return _scored(end=lambda score: end(score - x.shape[1] * LOG_TWO_PI / 2))(x, *mixture)
    return mutant


@code_exercise(
    GradualExercise, title="Responsibilities, far from everything", difficulty=1, minutes=10, points=3,
    equations=("eq-vg-log-joint", "eq-vg-responsibility", "eq-vg-logsumexp"),
    statement="""
        Compute the share of every component in every point,

        $$\\begin{aligned}
        \\gamma_k(x) &= \\frac{\\pi_k \\mathcal{N}(x;\\, \\mu_k, \\Lambda_k^{-1})}{\\sum_j \\pi_j
        \\mathcal{N}(x;\\, \\mu_j, \\Lambda_j^{-1})} \\\\
        \\log \\mathcal{N}(x;\\, \\mu, \\Lambda^{-1}) &= \\tfrac12 \\log |\\Lambda| - \\tfrac12 L
        \\log 2\\pi - \\tfrac12 (x - \\mu)^\\top \\Lambda (x - \\mu)
        \\end{aligned}$$

        `x` holds points, `(points, L)`; `weights` the $\\pi_k$, `(K,)`; `means` is `(K, L)` and
        `precisions` are the $\\Lambda_k$, `(K, L, L)`. The answer is `(points, K)`, and each of its rows
        adds to 1. In two of the cases some points lie a thousand away: there every density is 0 in
        floating point, and the shares are not.""",
    hints=("Stay with logarithms: log π_k + log N for each point and component, a table of points × K. What "
           "turns such a table into shares?",
           "A softmax over the components. Subtract the largest number of each row before exp (or use "
           "`torch.softmax`, which does): what it is cancels in the quotient.",
           "`apart = x[:, None] - means`; the distances are `torch.einsum('nki,kij,nkj->nk', apart, "
           "precisions, apart)`; then `(weights.log() + torch.logdet(precisions) / 2 - distances / "
           "2).softmax(1)`."),
    truth=_shares_by_loops, cases=_clouds,
    level=lambda x, *mixture: int(x.abs().max() > 100),
    must=(("shares are between 0 and "
           "1.", lambda yours, *case: ((yours >= -1e-6) & (yours <= 1 + 1e-6)).all()),
          ("each row adds to 1.", lambda yours, *case: (yours.sum(1) - 1).abs().max() < 1e-4)),
    on_the_way=lambda x, weights, means, precisions: {
        "squared distances": _distances(x, means, precisions),
        "log π + log N": _scored(end=lambda score: score - x.shape[1] * LOG_TWO_PI / 2)(
            x, weights, means, precisions)},
    misconceptions=(
        wrong("weights forgotten", _scored(weight=0),
              says="π is not in your answer: a rare component counts as much as a common one.",
              hint="Two components with the same density at x: what are their shares?"),
        wrong("determinant forgotten", _scored(root=0), _scored(root=0, weight=0),
              says="½ log |Λ| is missing. It is no constant: each component has its own, and a sharp one is "
                   "higher at its centre.",
              hint="A narrow and a wide component with the same mean: which has the larger density there?"),
        wrong("determinant upside down", _scored(root=-0.5),
              says="The determinant has the wrong sign: that of the covariance stands below the line, and so "
                   "that of the precision above it.",
              hint="Is a sharp component, with a large Λ, higher or lower at its centre?"),
        wrong("root of the determinant forgotten", _scored(root=1), _scored(root=2),
              says="You took |Λ| itself (or its square). The density holds its root.",
              hint="In one dimension, is it 1/σ or 1/σ² that stands in front of the exponential?"),
        wrong("determinant times the dimension",
              lambda x, w, m, p: _scored(root=0.5 * x.shape[1])(x, w, m, p),
              says="log |Λ| was multiplied by the dimension. The determinant holds all dimensions already.",
              hint="What is the determinant of a diagonal matrix?"),
        wrong("½ in the exponent forgotten", _scored(exponent=lambda d: -d),
              says="The exponent has no ½: all components are too sharp.",
              hint="Which factor stands in front of the distance in log N?"),
        wrong("sign of the exponent", _scored(exponent=lambda d: d / 2), _scored(exponent=lambda d: d),
              says="Distance is rewarded: the exponent has the wrong sign.",
              hint="A point at the centre of one component and far from the other: whose is it?"),
        wrong("distance not squared", _scored(exponent=lambda d: -d.sqrt() / 2),
              _scored(exponent=lambda d: -d.sqrt()),
              says="You took the distance, not its square.",
              hint="What is (x − μ)ᵀ Λ (x − μ) in one dimension?"),
        wrong("precision left out", _scored(distance=lambda x, m, p: torch.cdist(x, m).square()),
              _scored(distance=lambda x, m, p: torch.cdist(x, m).square(), root=0),
              says="Distances are measured with the same ruler everywhere. Each component has its own: Λ_k.",
              hint="Where in your distances does `precisions` stand?"),
        wrong("covariance for precision",
              _scored(distance=lambda x, m, p: _distances(x, m, torch.linalg.inv(p))),
              _scored(distance=lambda x, m, p: _distances(x, m, torch.linalg.inv(p)), root=-0.5),
              says="You inverted `precisions` (or divided by them), as if they were covariances. Λ "
                   "multiplies the squares.",
              hint="A sharp component has a large Λ. Is a point one unit away far from it, or near?"),
        wrong("diagonal only", _scored(distance=lambda x, m, p: _distances(x, m, torch.diag_embed(
              p.diagonal(dim1=1, dim2=2)))),
              says="You used the diagonal of Λ only. What stands beside it tilts the ellipse.",
              hint="How many products has (x − μ)ᵀ Λ (x − μ) in two dimensions?"),
        wrong("normalised over the points", _scored(end=lambda score: score.softmax(0)),
              says="Your columns add to 1: you normalised over the points. Each point divides itself among "
                   "the components.",
              hint="Which dimension of your table is K?"),
        wrong("normalised over "
              "everything", _scored(end=lambda score: score.flatten().softmax(0).view_as(score)),
              says="All of your numbers together add to 1. Each row should.",
              hint="Over which dimension does the sum in the denominator run?"),
        wrong("not normalised", _with_two_pi(torch.exp), _scored(end=torch.exp),
              says="These are π times the densities, before the division by their sum.",
              hint="What should each row add to?"),
        wrong("weights after the division", _beside(lambda score, w: score.softmax(1) * w),
              says="You multiplied by π after dividing: the rows no longer add to 1. π belongs into the sum "
                   "as well.",
              hint="What do your rows add to?"),
        wrong("weights not taken as a logarithm", _beside(lambda score, w: (score + w).softmax(1)),
              _beside(lambda score, w: (score * w).softmax(1)),
              says="π itself was put among the logarithms. A product becomes a sum of logarithms: log π.",
              hint="log(π N) = ?"),
        wrong("weights twice", _scored(weight=2), _beside(lambda score, w: (score - w.log()).softmax(1)),
              says="π counts twice (or divides) in your answer.",
              hint="How often does π_k stand above the line?"),
        wrong("logarithms "
              "returned", _scored(end=lambda score: score.log_softmax(1)), _scored(end=lambda s: s),
              _with_two_pi(lambda score: score),
              says="You returned logarithms. Shares are asked for.",
              hint="Between which two numbers does a share lie?"),
        wrong("softmax twice", _scored(end=lambda score: score.softmax(1).softmax(1)),
              says="A softmax of a softmax: the shares are nearly even now.",
              hint="What does softmax make of (1, 0)?"),
        wrong("the most probable alone",
              _scored(end=lambda score: one_hot(score.argmax(1), score.shape[1]).double()),
              says="Each point is given to one component in whole. These are labels, not shares.",
              hint="A point in the middle of two equal components: what are its shares?"),
        wrong("shares of the distance", _scored(end=lambda score: score / score.sum(1, keepdim=True)),
              lambda x, w, m, p: (1 / _distances(x, m, p)) / (1 / _distances(x, m, p)).sum(1, keepdim=True),
              says="You divided logarithms (or distances) by their sum. It is the densities that are "
                   "divided.",
              hint="Where in your answer is an exponential?"),
        wrong("one mean share for all", _scored(end=lambda score: score.softmax(1).mean(0)),
              _scored(end=lambda score: score.softmax(1).sum(0)),
              says="You averaged (or added) over the points. That is the new weight, n_k/N, of an M-step; "
                   "each point has shares of its own.",
              hint="How many numbers should come out for 3 points and 2 components?"),
        wrong("the largest of each column",
              _scored(end=lambda score: _plain(score, lift=lambda s: s.max(0, keepdim=True).values)),
              says="You took the largest number of each component out, over the points. What is taken out "
                   "must be the same for all components of a point, or it does not cancel.",
              hint="Along which dimension did you take the maximum?"),
        wrong("densities underflow", _scored(end=_plain), _with_two_pi(_plain),
              says="Right for near points. Far away every density is 0 in floating point, and 0 is divided "
                   "by 0.",
              hint="Which number may you subtract from all logarithms of one point?", credit=0.5),
        wrong("the largest of all points", _scored(end=lambda score: _plain(score, lift=torch.max)),
              says="You subtracted one number from all points' logarithms, that of the nearest point. For "
                   "the far ones nothing is gained: their densities are still 0.",
              hint="Which point needs which number?", credit=0.5),
        wrong("a small number in the denominator",
              *(_scored(end=lambda score, e=e: _plain(score, e))
                for e in (1e-6, 1e-8, 1e-10, 1e-12, 1e-20, 1e-300)),
              _scored(end=lambda score: _plain(score).nan_to_num(0)),
              says="A small number in the denominator hides the division by 0, and gives shares of 0: a far "
                   "point belongs to nobody, and its row adds to 0.",
              hint="What should each row add to, far away as well?", credit=0.25),
        wrong("logarithms cut off",
              *(_scored(end=lambda score, c=c: _plain(score.clamp(min=c)))
                for c in (-745, -700, -500, -100, -88, -50)),
              _scored(end=lambda score: _plain(score).nan_to_num(0) + _plain(score).isnan() / score.shape[1]),
              says="Cutting the logarithms off makes all far components equally likely. Far away the shares "
                   "are as sharp as ever.",
              hint="1,000 away, is the difference of two logarithms small?", credit=0.25),
    ),
    teaching_notes="Let the class print the largest logarithm of each row beside the smallest float32 that "
                   "exp can give, −103. Then ask where a point a thousand away belongs: to the widest "
                   "component in its direction, whoever is nearest.")
def responsibility(x: torch.Tensor, weights: torch.Tensor, means: torch.Tensor,
                   precisions: torch.Tensor) -> torch.Tensor:
    """Share of each component in each point, (points, K); rows add to 1.

    x: (points, L), weights: (K,), means: (K, L), precisions: (K, L, L).
    """
    apart = x[:, None] - means
    distances = torch.einsum("nki,kij,nkj->nk", apart, precisions, apart)
    scores = weights.log() + torch.logdet(precisions) / 2 - distances / 2
    return (scores - scores.logsumexp(1, keepdim=True)).exp()


# --- from points to posterior -------------------------------------------------------------------------------

def _observed(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, float, Tensor, Tensor, float]]:
    """(x, share, kappa, mean, inverse_scale, nu); then a component that no point belongs to."""
    for points, dimensions in ((2, 1), (3, 1), (2, 2), (3, 2), (4, 2), (4, 3)):
        yield _one_component(points, dimensions, generator)
    for points, dimensions in ((2, 1), (3, 2)):
        x, share, *prior = _one_component(points, dimensions, generator)
        yield x, torch.zeros_like(share), *prior


def _one_component(points: int, dimensions: int, generator: torch.Generator) -> tuple:
    share = torch.tensor(_tenths(generator, 1, 9, points), dtype=torch.float64)
    kappa, nu = (_positive(generator, low=2, high=40).item() for _ in range(2))
    return (_signed(generator, points, dimensions, most=30), share, kappa + 0.05,
            _signed(generator, dimensions), _definite(generator, 1, dimensions)[0], dimensions + nu)


def _by_one_point_after_the_other(x: Tensor, share: Tensor, kappa: float, mean: Tensor, inverse_scale: Tensor,
                                  nu: float) -> Tensor:
    """The posterior of one point is the prior of the next."""
    size = len(mean)
    m, scale = mean.tolist(), inverse_scale.tolist()
    for point, weight in zip(x.tolist(), share.tolist()):
        apart = [a - b for a, b in zip(point, m)]
        pull = kappa * weight / (kappa + weight)
        scale = [[scale[i][j] + pull * apart[i] * apart[j] for j in range(size)] for i in range(size)]
        kappa, nu = kappa + weight, nu + weight
        m = [one + weight / kappa * away for one, away in zip(m, apart)]
    return torch.cat([_float(kappa), _float(*m), _float(*sum(scale, [])), _float(nu)])


def _outer(a: Tensor, b: Tensor | None = None) -> Tensor:
    return torch.outer(a, a if b is None else b)


@dataclass(frozen=True)
class Counts:
    """What the rule of the posterior is made of."""

    x: Tensor
    share: Tensor
    kappa: float
    mean: Tensor
    inverse_scale: Tensor
    nu: float

    @property
    def n(self) -> Tensor:
        return self.share.sum()

    @property
    def xbar(self) -> Tensor:
        return self.share @ self.x / self.n

    def scatter(self, about: Tensor | None = None) -> Tensor:
        apart = self.x - (self.xbar if about is None else about)
        return (self.share[:, None] * apart).T @ apart

    @property
    def new_mean(self) -> Tensor:
        return (self.kappa * self.mean + self.n * self.xbar) / (self.kappa + self.n)

    @property
    def pull(self) -> Tensor:
        return self.kappa * self.n / (self.kappa + self.n) * _outer(self.xbar - self.mean)

    def right(self) -> dict[str, Tensor]:
        return {"kappa": self.kappa + self.n, "mean": self.new_mean,
                "scale": self.inverse_scale + self.scatter() + self.pull, "nu": self.nu + self.n}


def _slip(**other: Callable[[Counts], Tensor]) -> Slip:
    """A slip in some of the four parts."""
    def parts(*case: object) -> tuple[Tensor, ...]:
        counts = Counts(*case)
        found = {**counts.right(), **{name: rule(counts) for name, rule in other.items()}}
        return tuple(found[name] for name in ("kappa", "mean", "scale", "nu"))
    return Slip(parts)


def _of_other(change: Callable[[Counts], Counts]) -> Slip:
    """The right rule of other counts."""
    return Slip(lambda *case: tuple(change(Counts(*case)).right().values()))


def _scale(rule: Callable[[Counts], Tensor]) -> Slip:
    """A slip in W⁻¹: what is added to the prior's."""
    return _slip(scale=lambda c: c.inverse_scale + rule(c))


def _naive(*case: object) -> tuple[Tensor, ...]:
    """The right rule, with a mean that is 0/0 where all shares are 0."""
    return tuple(Counts(*case).right().values())


def _scale_of(row: Tensor, x: Tensor) -> Tensor:
    """The matrix among the four parts that stand in one row."""
    size = x.shape[1]
    return row[1 + size:-1].view(size, size)


@code_exercise(
    PartwiseExercise, title="From points to posterior", difficulty=2, minutes=15, points=4,
    equations=("eq-vg-posterior-mean", "eq-vg-posterior-scale", "eq-vg-vb-m-step"),
    parts=("kappa_k", "mean_k", "inverse_scale_k", "nu_k"),
    shapes=lambda x, *rest: ((), (x.shape[1],), (x.shape[1],) * 2, ()),
    sizes=lambda numbers: (1, math.isqrt(numbers - 2), numbers - 2 - math.isqrt(numbers - 2), 1),
    statement="""
        A component has the prior $\\Lambda \\sim \\mathcal{W}(W, \\nu)$, $\\mu \\mid \\Lambda \\sim
        \\mathcal{N}(m, (\\kappa \\Lambda)^{-1})$, and a share $r_n$ in each of a few points. Compute its
        posterior,

        $$\\begin{aligned}
        \\kappa_k &= \\kappa + n, \\qquad m_k = \\frac{\\kappa m + n \\bar x}{\\kappa + n}, \\qquad
        \\nu_k = \\nu + n, \\\\
        W_k^{-1} &= W^{-1} + S + \\frac{\\kappa n}{\\kappa + n} (\\bar x - m)(\\bar x - m)^\\top
        \\end{aligned}$$

        with $n = \\sum_n r_n$, $\\bar x = \\frac1n \\sum_n r_n x_n$ and $S = \\sum_n r_n (x_n - \\bar
        x)(x_n - \\bar x)^\\top$. `x` is `(points, L)`, `share` holds the $r_n$, `(points,)`; `mean` is
        $m$, `(L,)`, and `inverse_scale` is $W^{-1}$, `(L, L)`. Return `kappa_k`,
        `mean_k`, `inverse_scale_k` and `nu_k`, in this order. Shares of 0 and 1 are the labels of a Gibbs
        sweep. In two of the cases all shares are 0: then nothing was learnt, and the posterior is the
        prior.""",
    hints=("Four numbers sum up the points: n, x̄ and S, all with the shares as weights. What should each of "
           "them be if all shares are 0?",
           "`n = share.sum()`; a mean that survives n = 0 is `share @ x / n.clamp(min=1e-300)`; the scatter "
           "is `(share[:, None] * apart).T @ apart` with `apart = x - xbar`.",
           "`pull = kappa * n / (kappa + n) * torch.outer(xbar - mean, xbar - mean)`; return `kappa + n`, "
           "`(kappa * mean + n * xbar) / (kappa + n)`, `inverse_scale + scatter + pull` and `nu + n`."),
    truth=_by_one_point_after_the_other, cases=_observed,
    level=lambda x, share, *prior: int(share.sum() == 0),
    alike=lambda x, *rest: x.shape[0] == x.shape[1],
    must=(("`kappa_k` grows by as much as `nu_k`.",
           lambda yours, x, share, kappa, mean, scale, nu: abs(yours[0] - kappa - yours[-1] + nu) < 1e-3),
          ("`inverse_scale_k` is symmetric.",
           lambda yours, x, *rest: torch.allclose(_scale_of(yours, x), _scale_of(yours, x).T)),
          ("the trace of `inverse_scale_k` does not shrink: points are spread, or teach nothing.",
           lambda yours, x, share, kappa, mean, scale, nu:
           _scale_of(yours, x).trace() > scale.trace() - 1e-6)),
    on_the_way=lambda *case: {"n": case[1].sum(), "x̄": Counts(*case).xbar, "S": Counts(*case).scatter(),
                              "pull": Counts(*case).pull},
    misconceptions=(
        wrong("κ unchanged", _slip(kappa=lambda c: _float(c.kappa)),
              _slip(kappa=lambda c: _float(c.kappa), mean=lambda c: c.mean),
              says="κ has not grown. It counts points: those that the prior is worth, and now n more.",
              hint="How firmly should the mean be held after a thousand points?"),
        wrong("ν unchanged", _slip(nu=lambda c: _float(c.nu)),
              says="ν has not grown: the points' own determinants are lost. Each point brings one degree of "
                   "freedom, weighed by its share.",
              hint="E Λ is ν W. If W⁻¹ grows with every point and ν does not, what becomes of Λ?"),
        wrong("one degree too many", _slip(nu=lambda c: c.nu + c.n + 1),
              says="ν + n + 1 belongs to the law of Λ with μ held. Here Λ is drawn first, without any μ.",
              hint="Which of the two is drawn from its own law, and which given the other?"),
        wrong("one degree too few", _slip(nu=lambda c: c.nu + c.n - 1),
              says="ν + n − 1: as in an unbiased variance. The mean has a prior of its own here, and nothing "
                   "has to be paid for it.",
              hint="What is the posterior after no points at all?"),
        wrong("the power for the "
              "degrees", _slip(nu=lambda c: c.nu + c.n / 2), _slip(nu=lambda c: c.nu + 2 * c.n),
              _slip(nu=lambda c: c.nu + c.n * len(c.mean)),
              says="The degrees of freedom grow by another multiple of n. Each point brings |Λ| to the power "
                   "½, and the Wishart law has (ν − L − 1)/2 there: so ν grows by 1 a point.",
              hint="(ν_k − L − 1)/2 = (ν − L − 1)/2 + n/2: what is ν_k?"),
        wrong("points counted, not shares",
              _slip(kappa=lambda c: c.kappa + _float(len(c.x)).squeeze(), nu=lambda c: c.nu + len(c.x)),
              _of_other(lambda c: replace(c, share=torch.ones_like(c.share))),
              _slip(kappa=lambda c: _float(c.kappa + len(c.x)), nu=lambda c: _float(c.nu + len(c.x)),
                    mean=lambda c: (c.kappa * c.mean + len(c.x) * c.xbar) / (c.kappa + len(c.x)),
                    scale=lambda c: c.inverse_scale + c.scatter() + c.kappa * len(c.x) / (c.kappa + len(c.x))
                    * _outer(c.xbar - c.mean)),
              says="Every point counts in whole in your answer. n is the sum of the shares.",
              hint="What does `share.sum()` give in the case shown?"),
        wrong("shares scaled to 1", _of_other(lambda c: replace(c, share=c.share / c.n)),
              says="You divided the shares by their sum: all points together count as one. The shares say "
                   "how much each point counts.",
              hint="Should a hundred points weigh more than ten?"),
        wrong("mean without shares",
              _slip(mean=lambda c: (c.kappa * c.mean + c.n * c.x.mean(0)) / (c.kappa + c.n)),
              _slip(mean=lambda c: (c.kappa * c.mean + c.n * c.x.mean(0)) / (c.kappa + c.n),
                    scale=lambda c: c.inverse_scale + c.scatter(c.x.mean(0)) + c.kappa * c.n / (c.kappa + c.n)
                    * _outer(c.x.mean(0) - c.mean)),
              says="x̄ is the plain mean of all points. A point that hardly belongs to the component must "
                   "hardly pull at its mean.",
              hint="Where in your mean does `share` stand?"),
        wrong("the points' mean alone", _slip(mean=lambda c: c.xbar),
              says="m_k is the points' mean: the prior's is forgotten.",
              hint="One point, and κ = 100: where is the mean?"),
        wrong("the prior's mean alone", _slip(mean=lambda c: c.mean),
              says="m_k is still the prior's mean.", hint="A thousand points, and κ = 1: where is the mean?"),
        wrong("means averaged without weights", _slip(mean=lambda c: (c.mean + c.xbar) / 2),
              _slip(mean=lambda c: (c.mean + c.n * c.xbar) / (c.kappa + c.n)),
              _slip(mean=lambda c: (c.kappa * c.mean + c.xbar) / (c.kappa + c.n)),
              says="The two means do not count for as much as they should: the prior's for κ points, and the "
                   "points' for n.",
              hint="If m and x̄ are the same, is your m_k the same too? And if n is large?"),
        wrong("weights exchanged", _slip(mean=lambda c: (c.n * c.mean + c.kappa * c.xbar) / (c.kappa + c.n)),
              says="The prior's mean has the weight of the points, and the points' that of the prior.",
              hint="One point, and κ = 100: where is the mean?"),
        wrong("not divided", _slip(mean=lambda c: c.kappa * c.mean + c.n * c.xbar),
              _slip(mean=lambda c: (c.kappa * c.mean + c.n * c.xbar) / c.n),
              _slip(mean=lambda c: (c.kappa * c.mean + c.n * c.xbar) / c.kappa),
              says="m_k is not divided by κ + n: it is no mean.",
              hint="If m and x̄ are the same, is your m_k the same too?"),
        wrong("the pull of the mean forgotten", _scale(lambda c: c.scatter()),
              says="κn/(κ + n) (x̄ − m)(x̄ − m)ᵀ is missing: points far from m are evidence for a wide "
                   "component.",
              hint="One point, far from m: is its scatter about its own mean 0? Should W⁻¹ stay as it was?"),
        wrong("the scatter forgotten", _scale(lambda c: c.pull),
              says="S is missing: the points are more than their mean.",
              hint="Two points on both sides of m, equally far: what do they tell of the spread?"),
        wrong("the pull with another "
              "weight", *(_scale(lambda c, f=f: c.scatter() + f(c) * _outer(c.xbar - c.mean))
              for f in (lambda c: c.kappa * c.n, lambda c: c.kappa, lambda c: 1.0,
                        lambda c: (c.kappa + c.n) / (c.kappa * c.n), lambda c: c.n / (c.kappa + c.n),
                        lambda c: c.kappa / (c.kappa + c.n), lambda c: c.kappa + c.n)),
              says="The distance of the two means has the wrong weight: it is κn/(κ + n).",
              hint="It must vanish for κ = 0, and for n = 0 as well."),
        wrong("the pull from the new mean",
              _scale(lambda c: c.scatter() + c.kappa * c.n / (c.kappa + c.n) * _outer(c.xbar - c.new_mean)),
              _scale(lambda c: c.scatter() + c.kappa * c.n / (c.kappa + c.n) * _outer(c.new_mean - c.mean)),
              says="`mean` had become m_k before you measured the distance (or x̄ had). It is that of the "
                   "points' mean from the prior's.",
              hint="In which order do your lines assign?"),
        wrong("scatter about another centre", _scale(lambda c: c.scatter(c.mean)),
              _scale(lambda c: c.scatter(c.new_mean)), _scale(lambda c: c.scatter(c.mean) + c.pull),
              _scale(lambda c: c.scatter(c.new_mean) + c.pull),
              says="S is measured from m or m_k (or the pull has the weight n, which comes to the same). S "
                   "is the spread about the points' own mean; how far that is from m is the other term.",
              hint="What is S of a single point?"),
        wrong("raw second moments", _scale(lambda c: c.scatter(torch.zeros_like(c.mean))),
              _scale(lambda c: c.scatter(torch.zeros_like(c.mean)) + c.pull),
              _scale(lambda c: c.scatter(torch.zeros_like(c.mean)) + c.kappa * _outer(c.mean)),
              says="Σ r x xᵀ is measured from 0: move all points and m by the same vector, and W⁻¹ would "
                   "change. (W⁻¹ + Σ r x xᵀ + κ m mᵀ − κ_k m_k m_kᵀ would be right, and lose digits.)",
              hint="Does your W_k⁻¹ depend on where the origin is?"),
        wrong("covariance for scatter", _scale(lambda c: c.scatter() / c.n + c.pull),
              _scale(lambda c: c.scatter() / len(c.x) + c.pull),
              _scale(lambda c: (c.scatter() + c.pull) / c.n),
              says="S was divided by the number of points. It is the sum of squares: ten times the points "
                   "weigh ten times as much.",
              hint="Is S a sum or a mean?"),
        wrong("shares squared", _scale(lambda c: (c.share[:, None] * (c.x - c.xbar)).T
                                       @ (c.share[:, None] * (c.x - c.xbar)) + c.pull),
              says="The shares come squared into S: both factors of the product were weighed.",
              hint="How often does r stand in Σ r (x − x̄)(x − x̄)ᵀ?"),
        wrong("scatter without shares", _scale(lambda c: (c.x - c.xbar).T @ (c.x - c.xbar) + c.pull),
              says="S counts every point in whole. The shares weigh the squares too.",
              hint="Where in your scatter does `share` stand?"),
        wrong("squares only", _scale(lambda c: torch.diag(c.scatter().diagonal()) + c.pull),
              _scale(lambda c: c.scatter() + torch.diag(c.pull.diagonal())),
              _scale(lambda c: c.scatter() + (c.kappa * c.n / (c.kappa + c.n) * (c.xbar - c.mean)**2)),
              says="A product of two vectors was taken number by number, and spread over the rows (or put on "
                   "the diagonal). (x̄ − m)(x̄ − m)ᵀ is a matrix of all products.",
              hint="Which number stands in row 0, column 1?"),
        wrong("an inner product", _scale(lambda c: c.scatter() + c.kappa * c.n / (c.kappa + c.n)
                                         * (c.xbar - c.mean).square().sum()),
              says="`(xbar - mean) @ (xbar - mean)` is one number, the sum of the squares. A matrix is asked "
                   "for, `torch.outer`.",
              hint="Of which shape is a column times a row?"),
        wrong("the scale for its inverse", _slip(scale=lambda c: torch.linalg.inv(
              c.inverse_scale + c.scatter() + c.pull)),
              _slip(scale=lambda c: torch.linalg.inv(c.inverse_scale) + c.scatter() + c.pull),
              says="You inverted W⁻¹, before or after. It comes in inverse, scatters are added to it, and it "
                   "goes out inverse.",
              hint="What is asked for, W_k or W_k⁻¹?"),
        wrong("the mean "
              "covariance", _slip(scale=lambda c: (c.inverse_scale + c.scatter() + c.pull) / (c.nu + c.n)),
              says="You divided by ν_k: that is 1/E Λ, a covariance to look at, not the parameter.",
              hint="Where in the statement is W_k⁻¹ divided?"),
        wrong("the prior's scale forgotten", _slip(scale=lambda c: c.scatter() + c.pull),
              says="W⁻¹ of the prior is lost: with few points the matrix has no inverse.",
              hint="What is the posterior after no points at all?"),
        wrong("an empty component", Slip(_naive),
              says="Right where there are points. Where all shares are 0, the mean is 0/0: NaN. It takes one "
                   "component that nobody wants to spoil the whole chain.",
              hint="n x̄ is 0 there, whatever x̄ is. How can x̄ be kept finite?", credit=0.75),
    ),
    teaching_notes="Let the class take the points in another order, and one by one: the same posterior (that "
                   "is how this check computes its truth). Then let them add ten points with share ½ and "
                   "five with share 1 in the same places, and compare.")
def posterior(x: torch.Tensor, share: torch.Tensor, kappa: float,
              mean: torch.Tensor, inverse_scale: torch.Tensor,
              nu: float) -> tuple:
    """The posterior of one component: kappa_k, mean_k, inverse_scale_k, nu_k.

    x: (points, L), share: (points,), of this component in each point; the prior's
    kappa, mean: (L,), inverse_scale: (L, L), nu. Returns them in the same shapes.
    """
    n = share.sum()
    xbar = share @ x / n.clamp(min=1e-300)
    apart = x - xbar
    scatter = (share[:, None] * apart).T @ apart
    pull = kappa * n / (kappa + n) * torch.outer(xbar - mean, xbar - mean)
    mean_k = (kappa * mean + n * xbar) / (kappa + n)
    return kappa + n, mean_k, inverse_scale + scatter + pull, nu + n


# --- a divergence, from above and below ---------------------------------------------------------------------

def _encoded(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
    """(mean, log_variance, weights, means, variances); then images that are encoded far from everything."""
    for batch, components, latent in ((1, 2, 1), (2, 3, 1), (1, 2, 2), (3, 2, 2), (2, 3, 2), (3, 3, 3)):
        yield (_signed(generator, batch, latent), _signed(generator, batch, latent, most=24),
               *_diagonal(generator, components, latent))
    yield _float([90.0], [-0.5]), _float([-0.5], [0.4]), *_diagonal(generator, 2, 1)
    yield _float([1.5, -80.0]), _float([0.3, -1.2]), *_diagonal(generator, 3, 2)


def _diagonal(generator: torch.Generator, count: int, latent: int) -> tuple[Tensor, Tensor, Tensor]:
    return (torch.tensor(_shares(generator, count), dtype=torch.float64), _signed(generator, count, latent),
            _positive(generator, count, latent, low=3))


def _bounds_by_grids(mean: Tensor, log_variance: Tensor, weights: Tensor, means: Tensor,
                     variances: Tensor) -> Tensor:
    """Every mean under q as a sum over a fine grid, unit by unit."""
    above, below = [], []
    for centre, ell in zip(mean, log_variance):
        entropy, exact, widened = 0.0, weights.log().tolist(), weights.log().tolist()
        for j, (c, log_s2) in enumerate(zip(centre.tolist(), ell.tolist())):
            s = math.exp(log_s2 / 2)
            for k, (mu, v) in enumerate(zip(means[:, j].tolist(), variances[:, j].tolist())):
                fine, wide = min(s, math.sqrt(v)) / 6, 12 * max(s, math.sqrt(v))
                grid = torch.arange(min(c, mu) - wide, max(c, mu) + wide, fine, dtype=torch.float64)
                log_q, log_n = (-(grid - at)**2 / (2 * var) - 0.5 * (LOG_TWO_PI + math.log(var))
                                for at, var in ((c, s * s), (mu, v)))
                exact[k] += float((log_q.exp() * log_n).sum()) * fine
                widened[k] += float((log_q + log_n).logsumexp(0)) + math.log(fine)
            entropy -= float((log_q.exp() * log_q).sum()) * fine
        above.append(-entropy - _log_sum(exact))
        below.append(-entropy - _log_sum(widened))
    return _float(*above, *below)


def _log_sum(scores: Sequence[float]) -> float:
    top = max(scores)
    return top + math.log(math.fsum(math.exp(score - top) for score in scores))


@dataclass(frozen=True)
class Code:
    """What both bounds are made of: an encoder's law and a mixture with diagonal variances."""

    mean: Tensor
    log_variance: Tensor
    weights: Tensor
    means: Tensor
    variances: Tensor

    @property
    def s2(self) -> Tensor:
        return self.log_variance.exp()

    @property
    def entropy(self) -> Tensor:
        return 0.5 * (LOG_TWO_PI + 1 + self.log_variance).sum(1)

    def normal(self, more: Tensor | float = 0.0, variances: Tensor | None = None) -> Tensor:
        """log N(c; μ_k, v_k + more), (batch, K)."""
        width = (self.variances if variances is None else variances) + more
        squares = (self.mean[:, None] - self.means).square()
        return -0.5 * (LOG_TWO_PI + width.log() + squares / width).sum(-1)

    def spread(self, s2: Tensor | None = None) -> Tensor:
        """½ Σ s²/v_k, (batch, K)."""
        return 0.5 * ((self.s2 if s2 is None else s2)[:, None] / self.variances).sum(-1)

    @property
    def exact(self) -> Tensor:
        """E_q log N_k, (batch, K)."""
        return self.normal() - self.spread()

    @property
    def widened(self) -> Tensor:
        return self.normal(self.s2[:, None])

    def sum(self, scores: Tensor) -> Tensor:
        return (self.weights.log() + scores).logsumexp(1)

    def right(self) -> tuple[Tensor, Tensor]:
        return -self.entropy - self.sum(self.exact), -self.entropy - self.sum(self.widened)


def _bound(above: Callable[[Code], Tensor] | None = None, below: Callable[[Code], Tensor] | None = None,
           ) -> Slip:
    """A slip in one bound or in both."""
    def parts(*case: Tensor) -> tuple[Tensor, Tensor]:
        code = Code(*case)
        upper, lower = code.right()
        return (above(code) if above else upper), (below(code) if below else lower)
    return Slip(parts)


def _in_each(change: Callable[[Code, Tensor], Tensor]) -> tuple[Slip, ...]:
    """A slip in both bounds, and in each of them alone: of the code and its scores (batch, K)."""
    upper, lower = lambda c: change(c, c.exact), lambda c: change(c, c.widened)
    return _bound(upper, lower), _bound(above=upper), _bound(below=lower)


def _of_entropy(entropy: Callable[[Code], Tensor]) -> Slip:
    """The right bounds with another −H(q)."""
    return _bound(lambda c: entropy(c) - c.sum(c.exact), lambda c: entropy(c) - c.sum(c.widened))


def _log_mean_of_reverse(c: Code) -> Tensor:
    """−log Σ π_k exp(−KL(N_k ‖ q)), (batch,)."""
    squares = (c.mean[:, None] - c.means).square()
    width = c.s2[:, None]
    reverse = 0.5 * ((c.variances + squares) / width - 1 + width.log() - c.variances.log()).sum(-1)
    return -c.sum(-reverse)


@code_exercise(
    PartwiseExercise, title="A divergence, from above and below", difficulty=2, minutes=18, points=4,
    equations=("eq-vg-expected-log-joint", "eq-vg-kl-above", "eq-vg-kl-below"),
    parts=("above", "below"), shapes=lambda mean, *rest: ((len(mean),),) * 2,
    sizes=lambda numbers: (numbers // 2, numbers - numbers // 2),
    statement="""
        The divergence of an encoder's law $q = \\mathcal{N}(c, \\operatorname{diag} s^2)$ from a mixture
        has no closed form. Compute, for each image of a batch, a number that is never below it and one
        that is never above it,

        $$\\begin{aligned}
        \\text{above} &= -\\mathcal{H}(q) - \\log \\sum_k \\pi_k\\,
        e^{\\mathbb{E}_q \\log \\mathcal{N}_k(x)} \\\\
        \\text{below} &= -\\mathcal{H}(q) - \\log \\sum_k \\pi_k \\int q(x)\\, \\mathcal{N}_k(x)\\, dx
        \\end{aligned}$$

        The components have diagonal covariances: $v_{kj}$ is the variance of unit $j$, `variances`, `(K,
        latent)`. `mean` is $c$ and `log_variance` is $\\log s^2$, both `(batch, latent)`. All you need:
        $\\mathbb{E}_q (x_j - \\mu)^2 = (c_j - \\mu)^2 + s_j^2$, the integral of a product of two
        Gaussians, $\\int q\\, \\mathcal{N}_k\\, dx = \\mathcal{N}(c;\\, \\mu_k, v_k + s^2)$, and
        $\\mathcal{H}(q) = \\frac12 \\sum_j (\\log 2\\pi s_j^2 + 1)$. Return `above` and `below`, both
        `(batch,)`. In two of the cases an image is encoded far away from all components.""",
    hints=("Both begin with −H(q) and end with a sum over the components under a logarithm. Write the table "
           "of log-densities, batch × K, that is summed in each.",
           "Above: log N(c; μ_k, v_k) − ½ Σ_j s_j²/v_kj. Below: log N(c; μ_k, v_k + s²). Add log π_k, and "
           "use `logsumexp` over the components.",
           "With `apart = (mean[:, None] - means).square()` and `s2 = log_variance.exp()[:, None]`: above "
           "needs `-((2 * pi * variances).log() + (apart + s2) / variances).sum(-1) / 2`, below the same "
           "with `variances + s2` for the variances and `apart` alone."),
    truth=_bounds_by_grids, cases=_encoded, level=lambda mean, *rest: int(mean.abs().max() > 30),
    alike=lambda mean, log_variance, weights, *rest: len(mean) == len(weights),
    must=(("`above` is never below `below`.",
           lambda yours, mean, *rest: (yours[:len(mean)] >= yours[len(mean):] - 1e-6).all()),
          ("`above` is never negative, since the divergence is not.",
           lambda yours, mean, *rest: (yours[:len(mean)] >= -1e-6).all())),
    on_the_way=lambda *case: {"H(q)": Code(*case).entropy, "E log N_k": Code(*case).exact,
                              "log of the integrals": Code(*case).widened},
    misconceptions=(
        wrong("entropy forgotten", _of_entropy(lambda c: torch.zeros_like(c.entropy)),
              says="−H(q) is missing: this is a cross-entropy. Without it a q that shrinks to a point would "
                   "be the best.",
              hint="What is the divergence of q from itself?"),
        wrong("entropy with a plus", _of_entropy(lambda c: c.entropy),
              says="The entropy has the wrong sign: a wide q is rewarded by a divergence, which holds minus "
                   "H.",
              hint="E_q log q: is that H, or −H?"),
        wrong("entropy without its 1", _of_entropy(lambda c: len(c.means[0]) / 2 - c.entropy),
              says="The entropy has lost its ½ for each unit: it is −E log q, and the exponent of q has the "
                   "mean −½.",
              hint="E_q (x − c)²/s² = ?"),
        wrong("2π in one of the two "
              "only", _of_entropy(lambda c: len(c.means[0]) / 2 * LOG_TWO_PI - c.entropy),
              _of_entropy(lambda c: -len(c.means[0]) / 2 * LOG_TWO_PI - c.entropy),
              says="log 2π stands in the entropy or in the densities, but not in both, where it would "
                   "cancel.",
              hint="What are both bounds if there is one component, and it is q itself?"),
        wrong("standard deviation for variance in the entropy",
              _of_entropy(lambda c: -0.5 * (LOG_TWO_PI + 1 + c.log_variance / 2).sum(1)),
              _of_entropy(lambda c: -0.5 * (LOG_TWO_PI + 1 + 2 * c.log_variance).sum(1)),
              says="log s² is halved once too often (or too seldom) in the entropy.",
              hint="`log_variance` is log s². Is ½ log 2πs² ½ or ¼ of it?"),
        wrong("s for s²", _bound(lambda c: -c.entropy - c.sum(c.normal() - c.spread(c.s2.sqrt())),
                                 lambda c: -c.entropy - c.sum(c.normal(c.s2.sqrt()[:, None]))),
              _bound(lambda c: -c.entropy - c.sum(c.normal() - c.spread(c.s2.sqrt()))),
              _bound(below=lambda c: -c.entropy - c.sum(c.normal(c.s2.sqrt()[:, None]))),
              says="The standard deviation stands where the variance belongs, e to the half of "
                   "`log_variance`.",
              hint="E (x − c)² = ?"),
        wrong("s² squared", _bound(lambda c: -c.entropy - c.sum(c.normal() - c.spread(c.s2**2)),
                                   lambda c: -c.entropy - c.sum(c.normal(c.s2[:, None]**2))),
              _bound(lambda c: -c.entropy - c.sum(c.normal() - c.spread(c.s2**2))),
              _bound(below=lambda c: -c.entropy - c.sum(c.normal(c.s2[:, None]**2))),
              says="The variance is squared once more: `log_variance` is the logarithm of the variance "
                   "already.",
              hint="What is exp(log_variance)?"),
        wrong("log-variance for variance",
              _bound(lambda c: -c.entropy - c.sum(c.normal() - c.spread(c.log_variance))),
              _bound(lambda c: -c.entropy - c.sum(c.normal() - c.spread(c.log_variance)),
                     lambda c: -c.entropy - c.sum(c.normal(c.log_variance[:, None]))),
              says="`log_variance` was used as if it were the variance. It may be negative.",
              hint="Which function gives s² from `log_variance`?"),
        wrong("q taken for its mean", _bound(lambda c: -c.entropy - c.sum(c.normal())),
              _bound(lambda c: -c.entropy - c.sum(c.normal()), lambda c: -c.entropy - c.sum(c.normal())),
              _bound(below=lambda c: -c.entropy - c.sum(c.normal())),
              says="You took the density at c, the middle of q. q is spread: the mean of the squares is "
                   "larger by s², and the integral is that of a wider Gaussian.",
              hint="Where do you use `log_variance`, beside the entropy?"),
        wrong("the spread rewarded", _bound(lambda c: -c.entropy - c.sum(c.normal() + c.spread())),
              says="½ Σ s²/v is added. What is spread lies farther from the centre on average: it costs.",
              hint="Is E (x − μ)² larger or smaller than (c − μ)²?"),
        wrong("½ of the spread forgotten", _bound(lambda c: -c.entropy - c.sum(c.normal() - 2 * c.spread())),
              says="Σ s²/v has lost its ½.", hint="Which factor stands in front of the square in log N?"),
        wrong("the spread without the component's variance",
              _bound(lambda c: -c.entropy - c.sum(c.normal() - 0.5 * c.s2.sum(1, keepdim=True))),
              says="s² is not divided by the component's own v: the same spread costs more in a narrow "
                   "component.",
              hint="E (x − μ)²/v = ?"),
        wrong("widened in both", _bound(lambda c: -c.entropy - c.sum(c.widened)),
              _bound(lambda c: -c.entropy - c.sum(c.widened - c.spread())),
              says="`above` is made from the wider Gaussian (alone, or with the spread beside it). That is "
                   "the logarithm of a mean; above stands the mean of a logarithm.",
              hint="Which comes first in E_q log N_k?"),
        wrong("the spread in both", _bound(below=lambda c: -c.entropy - c.sum(c.exact)),
              _bound(below=lambda c: -c.entropy - c.sum(c.widened - c.spread())),
              says="`below` is made with the mean of the logarithm (alone, or beside the wider Gaussian). "
                   "There the integral itself stands, N(c; μ, v + s²).",
              hint="In ∫ q N_k dx, where is a logarithm?"),
        wrong("above and below exchanged", _bound(lambda c: c.right()[1], lambda c: c.right()[0]),
              says="The two have changed places.", hint="Which of your two numbers is larger?", credit=0.5),
        wrong("the middle for both bounds of a product",
              _bound(below=lambda c: -c.entropy - c.sum(c.normal(variances=1 / (1 / c.variances
                                                                 + 1 / c.s2[:, None])))),
              _bound(below=lambda c: -c.entropy
                     - c.sum(c.normal(variances=(c.variances - c.s2[:, None]).abs()))),
              says="The width of the product was taken (or a difference of variances). The product of two "
                   "Gaussians is narrow, but its integral is a Gaussian of their distance with the sum of "
                   "both variances.",
              hint="x − y of two independent Gaussians has which variance?"),
        wrong("a mean of divergences", *_in_each(lambda c, e: -c.entropy - (c.weights * e).sum(1)),
              *_in_each(lambda c, e: -c.entropy - (c.weights * (c.weights.log() + e)).sum(1)),
              says="You averaged the components' own divergences by π. That punishes q for not being near "
                   "all of them at once; under the logarithm the nearest one is enough.",
              hint="q is the first component exactly, and the second is far away. Is the divergence large?"),
        wrong("the nearest alone", *_in_each(lambda c, e: -c.entropy - (c.weights.log() + e).amax(1)),
              says="You took the largest term for the sum (the message `Hard`). It is a bound from above, "
                   "but not the best one, and none from below.",
              hint="Two equal components: which number of nats do you lose?", credit=0.25),
        wrong("conditioned on the nearest", *_in_each(lambda c, e: -c.entropy - e.amax(1)),
              says="This is the divergence from one component, without the price of saying which, −log π: "
                   "the number that flatters, and no bound from above.",
              hint="With ten copies of the same component, is the divergence from the mixture that from "
                   "one?"),
        wrong("weights forgotten", *_in_each(lambda c, e: -c.entropy - e.logsumexp(1)),
              *_in_each(lambda c, e: -c.entropy - e.logsumexp(1) + math.log(len(c.weights))),
              says="π is not in your sum (or even weights are).",
              hint="With ten copies of the same component, is the divergence from the mixture that from "
                   "one?"),
        wrong("weights not taken as a "
              "logarithm", *_in_each(lambda c, e: -c.entropy - (e + c.weights).logsumexp(1)),
              says="π itself stands among the logarithms. π·e^score is e to the power log π + score.",
              hint="log(π e^a) = ?"),
        wrong("½ of the density forgotten",
              *_in_each(lambda c, e: -c.entropy - c.sum(2 * e)),
              says="The log-densities have lost their ½.",
              hint="log N = −½ (…): what is in front?"),
        wrong("variances as standard deviations",
              _bound(lambda c: replace(c, variances=c.variances**2).right()[0],
                     lambda c: replace(c, variances=c.variances**2).right()[1]),
              _bound(lambda c: replace(c, variances=c.variances.sqrt()).right()[0],
                     lambda c: replace(c, variances=c.variances.sqrt()).right()[1]),
              _bound(lambda c: -c.entropy - c.sum(c.normal(variances=c.variances**2) - c.spread()),
                     lambda c: -c.entropy - c.sum(c.normal(variances=(c.variances + c.s2[:, None])**2))),
              _bound(lambda c: -c.entropy - c.sum(c.normal(variances=c.variances**2) - c.spread())),
              _bound(below=lambda c: -c.entropy
                     - c.sum(c.normal(variances=(c.variances + c.s2[:, None])**2))),
              says="`variances` were taken for standard deviations (or rooted once too often): they are "
                   "variances already. `torch.distributions.Normal` takes a standard deviation.",
              hint="Does log N divide by v, or by v²?"),
        wrong("widths added", _bound(below=lambda c: -c.entropy - c.sum(c.normal(variances=(
              c.variances.sqrt() + (c.log_variance[:, None] / 2).exp())**2))),
              says="You added standard deviations. Of two independent draws the variances add.",
              hint="Two draws with deviations 3 and 4: what is that of their sum, 7 or 5?"),
        wrong("mean over the units",
              _bound(lambda c: -c.entropy / len(c.means[0]) - c.sum(c.exact / len(c.means[0])),
                     lambda c: -c.entropy / len(c.means[0]) - c.sum(c.widened / len(c.means[0]))),
              says="You averaged over the units. Logarithms of densities add over the units.",
              hint="Two independent units: is the log-density the sum, or the mean?"),
        wrong("a mean over the batch", _bound(lambda c: c.right()[0].mean(), lambda c: c.right()[1].mean()),
              _bound(lambda c: c.right()[0].sum(), lambda c: c.right()[1].sum()),
              says="You averaged (or added) over the batch. Each image has its own.",
              hint="How many numbers should come out for 3 images?"),
        wrong("the divergence turned round",
              _bound(_log_mean_of_reverse),
              says="This holds the divergence of the components from q. Asked for is that of q from them.",
              hint="Under which law are the means taken?"),
        wrong("sign of both", _bound(lambda c: -c.right()[0], lambda c: -c.right()[1]),
              says="Both are negative: what the bound on log p(o) holds is minus the divergence.",
              hint="Can a divergence be negative?"),
        wrong("bits for "
              "nats", _bound(lambda c: c.right()[0] / math.log(2), lambda c: c.right()[1] / math.log(2)),
              says="Your logarithm has the base 2. Nats are asked for.",
              hint="Which logarithm has its slope 1 at 1?"),
        wrong("densities underflow", *_in_each(lambda c, e: -c.entropy - (c.weights * e.exp()).sum(1).log()),
              *(_bound(lambda c, e=e: -c.entropy - ((c.weights * c.exact.exp()).sum(1) + e).log(),
                       lambda c, e=e: -c.entropy - ((c.weights * c.widened.exp()).sum(1) + e).log())
                for e in (1e-8, 1e-10, 1e-12, 1e-20, 1e-300)),
              says="Right near the components. Far away every density is 0 in floating point, and the "
                   "logarithm of their sum infinite (or that of the small number you added).",
              hint="`logsumexp` takes the largest out first. Where could it stand?", credit=0.5),
    ),
    teaching_notes="Draw both bounds and a Monte Carlo value against the distance of two components: they "
                   "touch where q lies in one component alone, and where all components are the same. Then "
                   "ask which of the two may be trained on, and why a bound from below is no loss.")
def kl_bounds(mean: torch.Tensor, log_variance: torch.Tensor,
              weights: torch.Tensor, means: torch.Tensor,
              variances: torch.Tensor) -> tuple:
    """Bounds of KL(q ‖ p), nats: above and below, (batch,) each.

    mean, log_variance: (batch, latent), of the encoder's law;
    weights: (K,), means, variances: (K, latent), of the mixture.
    """
    s2 = log_variance.exp()[:, None]
    apart = (mean[:, None] - means).square()

    def log_normal(squares: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
        return -0.5 * ((2 * math.pi * width).log() + squares / width).sum(-1)

    entropy = 0.5 * (math.log(2 * math.pi) + 1 + log_variance).sum(1)
    exact = log_normal(apart + s2, variances)
    widened = log_normal(apart, variances + s2)
    above, below = ((weights.log() + e).logsumexp(1) for e in (exact, widened))
    return -entropy - above, -entropy - below


# --- which failure is it? -----------------------------------------------------------------------------------

# The panels of the figure, and what each of the seven runs would show. Each text is said of a wrong answer:
# the first of the run that was chosen, the second of the run that it is, without its name.
PANELS = {1: "KL divided by the batch", 2: "symmetric start", 3: "healthy", 4: "messages to the wrong images",
          5: "picked by labels", 6: "dead component"}
WOULD_SHOW = {
    "dead component": "A dead component has a weight that is next to nothing and stays there, while the "
                      "others go on.",
    "picked by labels": "Who picks by labels reports an accuracy that never falls, and a recount of the "
                        "state that is kept lies below it.",
    "healthy": "In a healthy run all components stay, the two bounds rise together, a little apart, and what "
               "is reported is what a recount finds.",
    "posterior collapse": "In a posterior collapse the divergence goes to 0, for the latent points tell "
                          "nothing of their images.",
    "messages to the wrong images": "If messages go to the wrong images, an image is drawn to where another "
                                    "belongs: its divergence from what it was sent stays far above that from "
                                    "the mixture.",
    "symmetric start": "From a symmetric start all components are the same, so the information is 0 and "
                       "every weight 1/K.",
    "KL divided by the batch": "If the KL is divided by the batch, it costs next to nothing: it is large, "
                               "and the reported bound lies far above the recomputed one.",
}
SHOWS_INSTEAD = {
    "KL divided by the batch": "Here the reported bound lies far above the recomputed one, and the "
                               "divergence is far larger than in the other panels.",
    "symmetric start": "Here the information is 0 for round after round, with all weights alike, "
                       "while the divergence is what it is elsewhere.",
    "healthy": "Here all components stay, the two bounds rise a little apart, and both accuracies are one "
               "curve.",
    "messages to the wrong images": "Here the two divergences lie far apart: what was sent is not where the "
                                    "image lies. The reported bound is as far below the recomputed one.",
    "picked by labels": "Here the bounds are as they should be, but the reported accuracy never falls, "
                        "though the recounted one does.",
    "dead component": "Here the smallest weight is next to nothing from the start, and never comes back.",
}


diagnose = QuizExercise(
    name="diagnose", title="Which failure is it?", chapter=5, difficulty=1, minutes=10, points=3,
    equations=("eq-vg-bound", "eq-vg-kl-over-batch", "eq-vg-information"),
    right=PANELS, causes=tuple(WOULD_SHOW), would_show=WOULD_SHOW, shows_instead=SHOWS_INSTEAD,
    when_right="All six are right. No curve that a run reports of itself told: what told was the same "
               "quantity computed anew, and the smallest weight.",
    look_first="Compare each dashed curve with the solid one beside it, and look at the weights then.",
    statement="""
        Six runs of the same small model, one a panel, in the last figure of the section on failures. From
        top to bottom each panel shows: the bound, as the run reports it (dashed) and recomputed with the
        whole mixture (solid); an image's mean divergence from what it was sent (dashed) and from the
        mixture (solid); the information of the assignment, over $\\log K$ (solid), and the smallest weight
        times $K$ (dotted); and the accuracy, as the run reports it (dashed) and recounted (solid). Where
        you see one curve, both are the same. Say what happened in each. Seven things may have happened,
        and each happened at most once:

        `"healthy"`; `"symmetric start"` (all components were the same at first); `"messages to the wrong
        images"` (the prior of an image was looked up by its place in the batch); `"posterior collapse"`
        (the latent points ceased to tell anything); `"KL divided by the batch"` (the reconstruction was
        not); `"dead component"` (nobody's label, and so a prior's draw); `"picked by labels"` (the true
        digits chose which state to report).""",
    hints=("Begin with the dashed curves: in which panels does what is reported lie far from what is "
           "recomputed, and is it the bound, the divergence or the accuracy?",
           "Three panels are left. Look at their third row: in one the information is 0, in one the smallest "
           "weight is.",
           "A reported bound far above the recomputed one, with a large divergence: the KL costs too little. "
           "Far below, with two divergences apart: what was sent does not fit the image. An accuracy that "
           "never falls was chosen, not reached."),
    misconceptions=(
        wrong("a reported bound believed", "1: healthy",
              says="The dashed bound is high and rises. The solid one, the same network's bound on log p(o), "
                   "is worse than in every other panel.",
              hint="By how much do the two bounds differ, and which divergence would explain it?"),
        wrong("a false bound taken for a false accuracy", "1: picked by labels",
              says="What is reported and what is recomputed differ here in the bound. The two accuracies are "
                   "one curve: nobody has looked at a label.",
              hint="In which row do the dashed and the solid curve part?"),
        wrong("above taken for below", "1: messages to the wrong images",
              says="The reported bound lies above the recomputed one, not below, and the two divergences are "
                   "nearly the same: what was sent does fit. It does not cost enough.",
              hint="What happens to a divergence that is hardly paid for?"),
        wrong("a large divergence taken for none", "1: posterior collapse",
              says="The divergence is the largest of all panels. In a collapse it would be 0.",
              hint="How many nats does the second row show?"),
        wrong("one for all taken for none", "2: posterior collapse",
              says="The mixture tells the images no more apart, but the code does: the divergence is well "
                   "above 0 and the bound as high as elsewhere. It is the components that are all the same.",
              hint="Is the divergence 0 in this panel?"),
        wrong("all alike taken for one dead", "2: dead component",
              says="The smallest weight times K is 1: all components have the same weight. None is dead, but "
                   "all are the same.",
              hint="What is the smallest weight here, times K?"),
        wrong("a good bound taken for health", "2: healthy",
              says="The VAE learns, and its bound is no worse than elsewhere. The mixture has learnt "
                   "nothing: the information is 0 for round after round.",
              hint="What does an image's number tell of its component in this panel?"),
        wrong("all alike taken for a mix-up", "2: messages to the wrong images",
              says="Every image is sent the same message here, and the two divergences agree. Whose message "
                   "it is makes no difference.",
              hint="Do the two divergences part?"),
        wrong("success taken for a choice", "3: picked by labels",
              says="The accuracy is good, and the recount gives the same curve in every round: nobody has "
                   "chosen.",
              hint="How far apart are the dashed and the solid curve of the last row?"),
        wrong("a component looked for in vain", "3: dead component",
              says="The smallest weight times K is near 1 throughout: all five components are in use.",
              hint="In which panel does the dotted curve lie at 0?"),
        wrong("the label's price taken for a mix-up", "3: messages to the wrong images",
              says="What is reported lies a little below the bound: a message names one component, and "
                   "naming costs. A message that went to the wrong image costs nats.",
              hint="Which panel shows a gap several times as wide?"),
        wrong("a bound below taken for health", "4: healthy",
              says="The reported bound rises, but it stays far below the recomputed one: the images are "
                   "drawn to components that are not theirs, and the information falls, and the accuracy "
                   "with it.",
              hint="Why is the divergence from what was sent so much larger than that from the mixture?"),
        wrong("below taken for above", "4: KL divided by the batch",
              says="The reported bound lies below the recomputed one here. A KL that is divided makes the "
                   "report look better, not worse.",
              hint="Which of the two bounds is the higher one?"),
        wrong("information that falls taken for none", "4: symmetric start", "4: posterior collapse",
              says="The information falls here, but it began high, and the divergences are not 0. What is "
                   "peculiar is that the two divergences part.",
              hint="Which two curves are far apart in this panel only?"),
        wrong("a running maximum believed", "5: healthy",
              says="All bounds are well. But the reported accuracy is a staircase that never falls, and the "
                   "state that is there at the end has a lower one.",
              hint="What does the recount say at the last round?"),
        wrong("a false accuracy taken for a false bound", "5: KL divided by the batch",
              says="The bounds are as they should be in this panel. It is the accuracy that is reported too "
                   "high.",
              hint="In which row do the dashed and the solid curve part?"),
        wrong("a false accuracy taken for a mix-up", "5: messages to the wrong images",
              says="What was sent fits the images, as in a healthy run. It is the report of the accuracy "
                   "that does not fit.",
              hint="In which row do the dashed and the solid curve part?"),
        wrong("what is missing overlooked", "6: healthy",
              says="The curves are calm, and one component is missing: two kinds of pictures share another.",
              hint="What is the smallest weight, times K?"),
        wrong("one dead taken for all alike", "6: symmetric start",
              says="The information is well above 0: four components are different, and in use. One is not.",
              hint="What would the smallest weight be if all components were the same?"),
        wrong("few components taken for a choice", "6: picked by labels",
              says="The two accuracies are one curve here: nobody has chosen. They stay low for another "
                   "reason.",
              hint="How many components answer for something?"),
        wrong("a collapse where codes tell", *(f"{panel}: posterior collapse" for panel in (3, 5, 6)),
              says="The divergence is well above 0: the latent points do tell their images apart.",
              hint="What is KL(q ‖ p) where q is the same for all images?"),
    ),
    teaching_notes="Let groups say which one number they would add to a training log. Then ask which of the "
                   "six a labelled validation set would have found (not the KL over the batch, and not the "
                   "one who picked), and which a colleague who recomputes the bound.")


EXERCISES = (responsibility, m_step_proof, square_proof, conjugate_proof, posterior, kl_bounds,
             label_gap_proof, saddle_proof, diagnose)
_help = Help(EXERCISES)
hint, solution = _help.hint, _help.solution
