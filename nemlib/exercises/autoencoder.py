"""The exercises of chapter 3, autoencoders. `nemlib.exercises` tells how to add one.

No truth below comes from the model's own code or from PyTorch's decompositions: derivatives are taken by a
complex step, eigenvectors by Jacobi's rotations, losses pixel by pixel.
"""

import ast
import cmath
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, logsigmoid

from nemlib.exercises.answers import Refusal
from nemlib.exercises.core import FunctionExercise, Help, wrong
from nemlib.exercises.derivation import Instance, LongDerivation, Step
from nemlib.exercises.expressions import expression, names_in
from nemlib.exercises.forms import normal_form
from nemlib.exercises.layers import ShapedExercise, Slip, flat
from nemlib.exercises.verdict import Verdict

__all__ = ["EXERCISES", "hint", "solution", "gaussian_proof", "cross_entropy_from_logits",
           "logit_gradient_proof", "pca_proof", "pca", "backprop", "denoising_loss"]

STEP = 1e-30      # of the complex step: a derivative exact to rounding, since nothing is subtracted


def _inside(tree: ast.expr, *functions: str) -> frozenset[str]:
    """The names that stand inside a call of one of these functions."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.func.id in functions)
    return frozenset(itertools.chain.from_iterable(names_in(call) for call in calls))


def _tuple_of_tenths(generator: torch.Generator, count: int, low: int, high: int) -> tuple[float, ...]:
    return tuple(tenth / 10 for tenth in torch.randint(low, high + 1, (count,), generator=generator).tolist())


# --- the Gaussian loss and its best variance (derivation) ---------------------------------------------------

def _gaussian_instances(generator: torch.Generator) -> list[Instance]:
    """Pictures of two to five pixels, what was reconstructed, and a standard deviation."""
    return [_gaussian_instance(pixels, s, generator)
            for pixels, s in ((2, 0.5), (2, 2.0), (3, 0.4), (4, 1.5), (5, 0.8))]


def _gaussian_instance(pixels: int, s: float, generator: torch.Generator) -> Instance:
    x = _tuple_of_tenths(generator, pixels, 0, 10)
    # away from x by .1 to .6, down or up as there is room
    away = _tuple_of_tenths(generator, pixels, 1, 6)
    xhat = tuple(round(one - by if one > by else one + by, 1) for one, by in zip(x, away))
    errors = [(one - other)**2 for one, other in zip(x, xhat)]

    def density(value: float, mean: float, variance: float) -> float:
        return math.exp(-(value - mean)**2 / (2 * variance)) / math.sqrt(2 * math.pi * variance)

    symbols = {"N": density, "x": x, "xhat": xhat, "s": s, "pixels": tuple(range(pixels)), "D": pixels,
               "mse": math.fsum(errors) / pixels, "pi": math.pi}
    return Instance(f"x = {x}, xhat = {xhat}, s = {s:g}", symbols)


_SSE = "sum((x[i] - xhat[i])**2 for i in pixels)"
_BEST = "D/2*(1 + log(2*pi*mse))"
_GAP = "D/2*(mse/s**2 - 1 - log(mse/s**2))"
_GAUSSIAN_FORMS = tuple(
    f"D/2*({best}) + D/2*(mse/s**2 - 1 {gap})"
    for best in ("1 + log(2*pi*mse)", "log(2*pi*exp(1)*mse)")
    for gap in ("- log(mse/s**2)", "+ log(s**2/mse)", "- log(mse) + log(s**2)", "- log(mse) + 2*log(s)"))


def _errors_outside(tree: ast.expr) -> bool:
    """The squared errors stand outside every logarithm and exponential, the density is written out."""
    names = names_in(tree)
    return {"x", "xhat"} <= names and "N" not in names and not {"x", "xhat"} & _inside(tree, "log", "exp")


gaussian_proof = LongDerivation(
    name="gaussian_proof", title="The squared error is a likelihood", chapter=3, difficulty=2, minutes=15,
    points=3, equations=("eq-ae-gaussian", "eq-ae-gaussian-variance"),
    statement="""
        A Gaussian decoder says that pixel $x_i$ has the mean $\\hat x_i$ and the variance $s^2$, the same for
        all $D$ pixels, each drawn by itself. Show that its loss is a squared error and a constant, and
        which $s^2$ is the best:

        $$-\\log \\mathcal{N}(x; \\hat x, s^2 I) = \\frac D2 \\big(1 + \\log (2\\pi\\, \\mathrm{MSE})\\big)
        + \\frac D2 \\Big(\\frac{\\mathrm{MSE}}{s^2} - 1 - \\log \\frac{\\mathrm{MSE}}{s^2}\\Big), \\qquad
        \\mathrm{MSE} = \\frac1D \\sum_i (x_i - \\hat x_i)^2$$

        There is no $s^2$ in the first part. In the second, $r - 1 - \\log r$ is 0 at $r = 1$ and positive for
        every other $r > 0$; so you can read the best $s^2$ from the result: the mean squared
        error itself. Fill in the lines marked `...`, or write a chain of your own.""",
    symbols=(("N(x[i], xhat[i], s**2)", "\\mathcal{N}(x_i; \\hat x_i, s^2)",
              "the density of one pixel: value, mean, variance"),
             ("x[i], xhat[i]", "x_i,\\; \\hat x_i", "a pixel, and its reconstruction"),
             ("s", "s", "the standard deviation; the variance is `s**2`, also `s²`"),
             ("pixels, D", "i = 1, …, D", "the pixels (from 0 in code), and their number"),
             ("mse", "\\mathrm{MSE}", "the mean squared error, `sum((x[i] - xhat[i])**2 for i in pixels)/D`"),
             ("pi", "\\pi", "3.14159…")),
    chain=f"""
        -log(prod(N(x[i], xhat[i], s**2) for i in pixels))
        = -sum(log(N(x[i], xhat[i], s**2)) for i in pixels)    # log of a product
        = sum((x[i] - xhat[i])**2/(2*s**2) + log(2*pi*s**2)/2
              for i in pixels)                     # the log of the density
        = {_SSE}/(2*s**2)
          + D/2*log(2*pi*s**2)                     # what does not hold i
        = D/2*(mse/s**2 + log(2*pi*s**2))          # the mean squared error
        = {_BEST}
          + {_GAP}
        """,
    blanks=(2, 3, 4, 5), least_lines=2, instances=_gaussian_instances, forms=_GAUSSIAN_FORMS,
    nearly="One more line: write the squared errors and the constant side by side before you collect them.",
    landmarks=(Step("Show where the squared error comes from: a line in which (x[i] − xhat[i])**2 stands "
                    "outside every logarithm and exponential.", test=_errors_outside),),
    hints=("The density of one pixel is exp(−(x − x̂)²/(2s²)) over the root of 2πs². What is minus its "
           "logarithm? And what does the logarithm make of a product over pixels?",
           "One pixel brings (x − x̂)²/(2s²) + ½ log 2πs². The second part is the same for each of the D "
           "pixels; the sum of the squared errors is D times their mean.",
           "You have D/2 (mse/s² + log 2πs²). Now write log 2πs² as log(2π mse) − log(mse/s²), and add and "
           "take off a 1."),
    misconceptions=(
        wrong("half of the squared error lost", f"{_SSE}/s**2 + D/2*log(2*pi*s**2)",
              says="The 2 under the squared error is lost: the exponent of the density is −(x − x̂)²/(2s²).",
              hint="Which s² makes your expression least? It should be the mean squared error."),
        wrong("standard deviation for variance", f"{_SSE}/(2*s) + D/2*log(2*pi*s)",
              f"{_SSE}/(2*s) + D/2*log(2*pi*s**2)", f"{_SSE}/(2*s**2) + D/2*log(2*pi*s)",
              says="Somewhere the standard deviation s stands where the variance s² must.",
              hint="In which units is s measured, if x is measured in units of grey? Must the exponent have "
                   "a unit?"),
        wrong("normaliser forgotten", f"{_SSE}/(2*s**2)", "D*mse/(2*s**2)",
              says="The normaliser is lost: minus the log of 1 over the root of 2πs² is ½ log 2πs². It does "
                   "not hold x̂, so it moves no weight of the network; but without it the best s² would be "
                   "infinite.",
              hint="What keeps s² from growing for ever?"),
        wrong("normaliser of one pixel only", f"{_SSE}/(2*s**2) + log(2*pi*s**2)/2",
              "D*mse/(2*s**2) + log(2*pi*s**2)/2",
              says="There is one normaliser for each pixel, D of them, and yours stands there once.",
              hint="Does ½ log 2πs² hold i? What is the sum over i of something that does not?"),
        wrong("half of the normaliser lost", f"{_SSE}/(2*s**2) + D*log(2*pi*s**2)",
              says="The density is divided by the root of 2πs². The root is half of the logarithm.",
              hint="log of the root of y is ½ log y."),
        wrong("sign of the normaliser", f"{_SSE}/(2*s**2) - D/2*log(2*pi*s**2)",
              says="The normaliser divides the density, so minus its logarithm is added.",
              hint="A wide law is flat: is −log of its density, far below the hill, larger or smaller?"),
        wrong("2π lost", f"{_SSE}/(2*s**2) + D/2*log(s**2)", f"{_SSE}/(2*s**2) + D*log(s)",
              "D/2*(1 + log(mse)) + D/2*(mse/s**2 - 1 - log(mse/s**2))",
              says="The 2π is lost. It moves neither x̂ nor s², and it counts as soon as you compare the "
                   "loss with that of another model: 0.919 nats a pixel.",
              hint="What is the density of the standard normal law at 0?"),
        wrong("the minus of −log lost", f"-{_SSE}/(2*s**2) - D/2*log(2*pi*s**2)",
              says="All signs are turned: this is log N, which is climbed. The loss is −log N.",
              hint="Should a larger error make your expression larger or smaller?"),
        wrong("sign of the squared error", f"-{_SSE}/(2*s**2) + D/2*log(2*pi*s**2)",
              says="The squared error has the wrong sign: the exponent is negative, and the minus of −log "
                   "turns it round.",
              hint="If x̂ is far away, is the density large or small?"),
        wrong("mean over the pixels", f"{_SSE}/(2*D*s**2) + log(2*pi*s**2)/2",
              "(mse/s**2 + log(2*pi*s**2))/2",
              says="You divided by D: this is the loss of an average pixel. The pixels' densities are "
                   "multiplied, so their logarithms are added.",
              hint="What is the density of two pixels, if one alone has the density p?"),
        wrong("mean beside sum", "mse/(2*s**2) + D/2*log(2*pi*s**2)",
              says="The squared error is a mean over pixels and the constant a sum. Both must be sums; with "
                   "yours the best s² is D times too small. Code for this loss often has it.",
              hint="How often does each pixel bring (x − x̂)²/(2s²), and how often is it counted here?"),
        wrong("sum beside mean", "D/2*(D*mse/s**2 + log(2*pi*s**2))",
              f"D/2*({_SSE}/s**2 + log(2*pi*s**2))",
              says="The sum of the squared errors stands where their mean must: D is already in front of the "
                   "bracket.",
              hint="Write the sum as D times the mean, once."),
        wrong("absolute error", "sum(abs(x[i] - xhat[i]) for i in pixels)/(2*s**2) + D/2*log(2*pi*s**2)",
              "sum(x[i] - xhat[i] for i in pixels)/(2*s**2) + D/2*log(2*pi*s**2)",
              says="The errors are not squared. (Absolute errors belong to a law with a sharper peak, "
                   "Laplace's.)",
              hint="Which power of x − x̂ stands in the exponent of the normal law?"),
        wrong("square of a sum", "sum(x[i] - xhat[i] for i in pixels)**2/(2*s**2) + D/2*log(2*pi*s**2)",
              says="You squared the sum of the errors. Errors up and down would cancel; each is squared by "
                   "itself.",
              hint="Is the square inside or outside the sum over i?"),
        wrong("best s² put in for every s²", _BEST,
              says="This is the loss at the best s² only: in general s² has to stay, and the second part "
                   "tells what a wrong s² costs.",
              hint="Does your line still depend on s? Does the line before?"),
        wrong("the cost of a wrong s² alone", _GAP,
              says="The part without s² is lost: what remains when s² is the best one is not 0.",
              hint="Put mse for s² in the line before: what is left?"),
        wrong("sign of the log of mse/s²", f"{_BEST} + D/2*(mse/s**2 - 1 + log(mse/s**2))",
              says="log(mse/s²) has the wrong sign: log 2πs² = log(2π mse) − log(mse/s²).",
              hint="Which is larger if s² is above mse, log 2πs² or log(2π mse)?"),
        wrong("the ratio upside down", f"{_BEST} + D/2*(s**2/mse - 1 - log(s**2/mse))",
              says="The ratio is upside down. Both orders are least at s² = mse, and only mse/s² is the "
                   "cost: a variance that is too small costs far more than one that is too large.",
              hint="Let s² go to 0. Does the loss grow like 1/s²?"),
        wrong("the 1 counted once", f"D/2*log(2*pi*mse) + {_GAP}",
              "D/2*(1 + log(2*pi*mse)) + D/2*(mse/s**2 - log(mse/s**2))",
              says="The 1 that you take off in one bracket has to be added in the other.",
              hint="Put mse for s² in D/2 (mse/s² + log 2πs²). Which number stands beside the logarithm?"),
        wrong("a product of logarithms", "-prod(log(N(x[i], xhat[i], s**2)) for i in pixels)",
              says="The logarithms are multiplied. The log of a product is the sum of the logs.",
              hint="log(ab) = log a + log b."),
        wrong("log of a sum", "-log(sum(N(x[i], xhat[i], s**2) for i in pixels))",
              says="The pixels' densities are added. Pixels that are drawn each by itself multiply.",
              hint="Which rule gives the probability that two independent things happen both?"),
    ),
    teaching_notes="Plot r − 1 − log r before the proof: it is twice the KL divergence from one normal law "
                   "to another of the same mean, and it comes back in the chapter on variational "
                   "autoencoders. Then ask what is learnt if s² is fixed at 1 and pixels lie between 0 and "
                   "1: the network is told that its errors are small change.")


# --- the cross-entropy of logits ----------------------------------------------------------------------------

def _signed(generator: torch.Generator, *shape: int, most: int = 20) -> Tensor:
    """Random tenths of both signs up to most/10, none of them 0."""
    size = torch.randint(1, most + 1, shape, generator=generator)
    sign = 2 * torch.randint(2, shape, generator=generator) - 1
    return (size * sign).to(torch.float64) / 10


def _pixels(generator: torch.Generator, batch: int, pixels: int, grey: bool) -> Tensor:
    """Pixels that are 0 or 1, the first of all on; or tenths from 0.1 to 0.9."""
    if grey:
        return torch.randint(1, 10, (batch, pixels), generator=generator).to(torch.float64) / 10
    x = torch.randint(2, (batch, pixels), generator=generator).to(torch.float64)
    x[0, 0] = 1.0
    return x


def _doubles(*rows: Sequence) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(row, dtype=torch.float64) for row in rows)


def _logit_cases(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """(x, a): pixels on and off first, then grey; at last logits of ±800, where e^a has no float64."""
    yield _doubles([[1.0]], [[0.4]])      # a logit that could be a probability
    sizes = ((1, 2, False), (2, 2, False), (2, 3, True), (3, 2, True), (3, 4, False))
    for batch, pixels, grey in sizes:
        yield _pixels(generator, batch, pixels, grey), _signed(generator, batch, pixels, most=30)
    x = [[0.0, 0.3], [1.0, 1.0], [1.0, 0.0], [0.0, 0.6]]      # missed, missed, right, right
    yield _doubles(x, [[800.0, 1.5], [-800.0, -0.5], [800.0, 0.5], [-800.0, -1.5]])


def _loss_of_pixel(x: float, a: float) -> float:
    """The cross-entropy of one pixel from the shares e^a/(1 + e^a) and 1/(1 + e^a), the larger taken out."""
    top = max(a, 0.0)
    log_total = top + math.log(math.exp(-top) + math.exp(a - top))
    return -x * (a - log_total) + (1 - x) * log_total


def _losses_by_loops(x: Tensor, a: Tensor) -> Tensor:
    rows = [math.fsum(map(_loss_of_pixel, *pair)) for pair in zip(x.tolist(), a.tolist())]
    return torch.tensor(rows, dtype=torch.float64)


def _softplus(a: Tensor) -> Tensor:
    return -logsigmoid(-a)


def _bce(x: Tensor, a: Tensor) -> Tensor:
    """The cross-entropy of every pixel, stable."""
    return _softplus(a) - x * a


def _of_shares(x: Tensor, p: Tensor) -> Tensor:
    """The cross-entropy of every pixel, as it is written: 0 · log 0 is NaN."""
    return -(x * p.log() + (1 - x) * (1 - p).log())


def _of_shares_or_0(x: Tensor, p: Tensor) -> Tensor:
    """The same with 0 · log 0 = 0: infinite where log 0 counts."""
    return -(torch.special.xlogy(x, p) + torch.special.xlogy(1 - x, 1 - p))


def _of_shares_cut(x: Tensor, p: Tensor) -> Tensor:
    """PyTorch's own, in which no logarithm is below −100."""
    return binary_cross_entropy(p, x, reduction="none")


def _summed(pixel: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    """The mutant of a slip in one pixel's loss, summed over pixels."""
    return lambda x, a: pixel(x, a).sum(1)


_SHARES = (_of_shares, _of_shares_or_0, _of_shares_cut)


def _all_ways(rule: Callable[[Callable[[Tensor, Tensor], Tensor]], Callable]) -> tuple[Callable, ...]:
    """The mutants of a slip beside the cross-entropy: with a stable one, and with three that are not."""
    return tuple(rule(pixel) for pixel in (_bce, *(lambda x, a, of=of: of(x, a.sigmoid()) for of in _SHARES)))


def _floors() -> Iterator[Callable]:
    """Mutants that keep the logarithms finite by a floor under the shares."""
    for small in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-15, 1e-16):
        yield _summed(lambda x, a, e=small: _of_shares(x, a.sigmoid().clamp(e, 1 - e)))
        yield _summed(lambda x, a, e=small: -(x * (a.sigmoid() + e).log()
                                              + (1 - x) * (1 - a.sigmoid() + e).log()))


UNSQUASHED = "logits taken for probabilities"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LogitExercise(FunctionExercise):
    """A loss of logits: PyTorch's own refusal of them as probabilities is recognised as the slip it is."""

    def refused(self, refusal: Refusal) -> Verdict:
        found = next((one for one in self.misconceptions if one.name == UNSQUASHED), None)
        if found is None or "between 0 and 1" not in refusal.message:
            return super().refused(refusal)
        return self.failed(f"{found.says} {refusal.message}", misconception=found.name, facts=refusal.facts,
                           hint=found.hint, share=found.credit)


def autoencoder_exercise(kind: type[FunctionExercise], **settings: object) -> Callable:
    """Decorates a solution, as `function_exercise` does."""
    return lambda solution: kind(name=solution.__name__, chapter=3, solution=solution, **settings)


@autoencoder_exercise(
    LogitExercise, title="The cross-entropy of logits", difficulty=2, minutes=12, points=3,
    equations=("eq-ae-bernoulli", "eq-ae-logits"),
    statement="""
        A Bernoulli decoder gives a logit $a_i$ for each pixel; the pixel is on with probability
        $\\hat x_i = \\sigma(a_i)$. Compute the loss of each picture of a batch, in nats,

        $$-\\log p(x \\mid a) = -\\sum_{i=1}^D \\big[x_i \\log \\sigma(a_i)
        + (1 - x_i) \\log(1 - \\sigma(a_i))\\big]$$

        in a form that holds for large logits too: one of the cases has logits of 800 and $-800$, where
        $\\sigma(a)$ is 1 or 0 in floating point and its logarithm is not. Pixels may be grey.""",
    hints=("Take both logarithms on paper: log σ(a) = a − log(1 + e^a), and log(1 − σ(a)) = −log(1 + e^a). "
           "What is left of the bracket?",
           "Each pixel's loss is softplus(a) − x a, with softplus(a) = log(1 + e^a). For large a that is a, "
           "for very negative a it is 0: `torch.nn.functional.softplus` does it without overflow.",
           "`(torch.nn.functional.softplus(a) - x * a).sum(1)`: a sum over the pixels, one number a "
           "picture."),
    truth=_losses_by_loops, cases=_logit_cases,
    must=(("a cross-entropy is never negative.", lambda yours, *case: (yours >= -1e-6).all()),
          ("at a logit of 0 a pixel costs log 2, and no pixel costs more than |a| + log 2.",
           lambda yours, x, a: (yours <= (a.abs() + math.log(2)).sum(1) + 1e-3).all())),
    on_the_way=lambda x, a: {"σ(a)": a.sigmoid(), "log(1 + e^a)": _softplus(a), "x · a": x * a,
                             "loss of every pixel": _bce(x, a)},
    misconceptions=(
        wrong("mean over the pixels", *_all_ways(lambda pixel: lambda x, a: pixel(x, a).mean(1)),
              says="You averaged over the pixels. Their probabilities multiply, so the losses add: for "
                   "digits of 784 pixels yours is 784 times too small. Much code on the web has it.",
              hint="Two pixels that are each missed by log 2: how many nats together?"),
        wrong("one number for the batch", *_all_ways(lambda pixel: lambda x, a: pixel(x, a).sum()),
              *_all_ways(lambda pixel: lambda x, a: pixel(x, a).mean()),
              *_all_ways(lambda pixel: lambda x, a: pixel(x, a).sum(1).mean()),
              *_all_ways(lambda pixel: lambda x, a: pixel(x, a).sum(1, keepdim=True).mean()),
              says="You added (or averaged) over the pictures as well: PyTorch's losses do so unless they "
                   "are told not to. Each picture has its own loss.",
              hint="`reduction=\"none\"`, and then a sum over the pixels only: `.sum(1)`."),
        wrong("summed over the pictures", *_all_ways(lambda pixel: lambda x, a: pixel(x, a).sum(0)),
              says="You summed over the first axis, which is the batch. The pixels are the second.",
              hint="x is (batch, pixels): which `dim` are the pixels?"),
        wrong("not summed", *_all_ways(lambda pixel: pixel),
              says="This is the loss of every pixel. A picture's is their sum.",
              hint="The answer has shape (batch,)."),
        wrong("sigmoid twice", _summed(lambda x, a: _bce(x, a.sigmoid())),
              *(_summed(lambda x, a, of=of: of(x, a.sigmoid().sigmoid())) for of in _SHARES),
              says="The sigmoid is applied twice: yours, and the one inside the formula for logits. Then all "
                   "probabilities lie between 0.5 and 0.73, and the network can hardly learn.",
              hint="Does the function that you call want logits or probabilities? Give it a itself."),
        wrong(UNSQUASHED, _summed(_of_shares), _summed(_of_shares_or_0),
              *(_summed(lambda x, a, e=small: _of_shares(x, a.clamp(e, 1 - e)))
                for small in (1e-6, 1e-7, 1e-8, 1e-10, 1e-12)),
              _summed(lambda x, a: _of_shares_cut(x, a.clamp(0, 1))),
              says="You took logarithms of the logits themselves. A logit is any number; the probability is "
                   "its sigmoid.",
              hint="What is the probability of a pixel whose logit is −2?"),
        wrong("the sign", *_all_ways(lambda pixel: lambda x, a: -pixel(x, a).sum(1)),
              says="This is log p, which is climbed. The loss is −log p, never negative.",
              hint="Should a perfect reconstruction have the largest loss or the smallest?"),
        wrong("sign of the logit", *_all_ways(lambda pixel: lambda x, a: pixel(x, -a).sum(1)),
              _summed(lambda x, a: _softplus(a) + x * a), _summed(lambda x, a: _softplus(-a) - x * a),
              says="A logit (or one of its two terms) has the wrong sign: the loss of a pixel that is on "
                   "must fall as its logit rises.",
              hint="At x = 1 the loss is softplus(a) − a = softplus(−a). What is yours?"),
        wrong("x and x̂ exchanged", *(_summed(lambda x, a, of=of: of(a.sigmoid(), x)) for of in _SHARES),
              _summed(lambda x, a: _bce(a, x)),
              *(_summed(lambda x, a, e=small: _of_shares(a.sigmoid(), x.clamp(e, 1 - e)))
                for small in (1e-6, 1e-7, 1e-8, 1e-10, 1e-12)),
              says="Data and prediction are exchanged: the logarithm is of the prediction, and the data say "
                   "how much each logarithm counts.",
              hint="Data of exactly 0 or 1 under a logarithm: what is log 0?"),
        wrong("pixels that are off left out", _summed(lambda x, a: x * _softplus(-a)),
              *(_summed(lambda x, a, log=log: -x * log(a)) for log in (lambda a: a.sigmoid().log(),)),
              _summed(lambda x, a: -torch.special.xlogy(x, a.sigmoid())),
              says="Only the term of x = 1 is here. A decoder that paints everything white would be "
                   "perfect.",
              hint="What does a pixel that is off cost, if the decoder is sure that it is on?"),
        wrong("pixels that are on left out", _summed(lambda x, a: (1 - x) * _softplus(a)),
              _summed(lambda x, a: -(1 - x) * (1 - a.sigmoid()).log()), _summed(lambda x, a: _softplus(a)),
              says="The term of x = 1 is lost (or its x): what rewards ink is missing.",
              hint="What does a pixel that is on cost, if the decoder is sure that it is off?"),
        wrong("softmax over the pixels", _summed(lambda x, a: -x * a.log_softmax(1)),
              _summed(lambda x, a: _of_shares(x, a.softmax(1))),
              _summed(lambda x, a: -x * a.softmax(1).log()),
              says="Softmax lets the pixels compete, as if exactly one of them were on: that is for classes. "
                   "Here each pixel has a probability of its own.",
              hint="May two pixels both be on with probability 0.9?"),
        wrong("squared error", _summed(lambda x, a: (x - a.sigmoid())**2), _summed(lambda x, a: (x - a)**2),
              _summed(lambda x, a: (x - a.sigmoid())**2 / 2), _summed(lambda x, a: (x - a)**2 / 2),
              says="This is the squared error, the loss of a Gaussian decoder. A Bernoulli decoder has the "
                   "cross-entropy.",
              hint="How much does a sure mistake cost, x = 1 with σ(a) near 0? Is there a bound?"),
        wrong("grey pixels rounded", *_all_ways(lambda pixel: lambda x, a: pixel((x > 0.5).to(x), a).sum(1)),
              *_all_ways(lambda pixel: lambda x, a: pixel((x >= 0.5).to(x), a).sum(1)),
              says="You turned grey pixels into 0 or 1. The formula takes x as it is, as the share of the "
                   "time that the pixel is on.",
              hint="At x = 0.3, both logarithms count."),
        wrong("entropy taken off",
              *_all_ways(lambda pixel: lambda x, a: (pixel(x, a) - _of_shares_or_0(x, x)).sum(1)),
              says="You subtracted the entropy of the grey pixels: this is the KL divergence from x to x̂. "
                   "For pixels that are 0 or 1 the two are equal; the cross-entropy is asked for.",
              hint="What is the loss if σ(a) equals a grey x? Not 0.", credit=0.25),
        wrong("bits for nats", *_all_ways(lambda pixel: lambda x, a: pixel(x, a).sum(1) / math.log(2)),
              says="You have bits: logarithms to the base 2. This book counts in nats.",
              hint="`torch.log` is the natural logarithm."),
        wrong("0 · log 0, and log 0",
              *(_summed(lambda x, a, of=of: of(x, a.sigmoid())) for of in _SHARES[:2]),
              _summed(lambda x, a: torch.where(x > 0, -x * a.sigmoid().log(), 0 * a)
                      + torch.where(x < 1, -(1 - x) * (1 - a.sigmoid()).log(), 0 * a)),
              _summed(lambda x, a: -(x * logsigmoid(a) + (1 - x) * (1 - a.sigmoid()).log())),
              _summed(lambda x, a: _of_shares(x, 1 / (1 + (-a).exp()))),
              _summed(lambda x, a: x * (1 + (-a).exp()).log() + (1 - x) * (1 + a.exp()).log()),
              says="Right on ordinary logits. At 800 the sigmoid is exactly 1 in floating point, so that "
                   "log(1 − σ(a)) is −∞ (as e^800 is infinite), and 0 times that is NaN. In float32, in "
                   "which networks are trained, this begins at a logit of 17.",
              hint="Never form σ(a): go from the logit to the logarithm in one step.", credit=0.5),
        wrong("e^a that overflows", _summed(lambda x, a: (1 + a.exp()).log() - x * a),
              _summed(lambda x, a: a.exp().log1p() - x * a),
              _summed(lambda x, a: (1 + (-a).exp()).log() + (1 - x) * a),
              _summed(lambda x, a: _of_shares(x, a.exp() / (1 + a.exp()))),
              says="Right on ordinary logits. At 800 your e^a is infinite, though log(1 + e^a) is 800.",
              hint="log(1 + e^a) = max(a, 0) + log(1 + e^(−|a|)): on the right no exponent is "
                   "positive.", credit=0.5),
        wrong("logarithms cut off", _summed(lambda x, a: _of_shares_cut(x, a.sigmoid())), *_floors(),
              *(_summed(lambda x, a, most=most: _bce(x, a.clamp(-most, most)))
                for most in (10, 20, 30, 50, 80, 100)),
              says="A floor under the probabilities (PyTorch's `binary_cross_entropy` has one too, 100 nats) "
                   "keeps the loss finite and makes it wrong: a mistake with a logit of 800 costs 800 nats. "
                   "And where the floor cuts, the gradient is 0: the worst pixels teach nothing.",
              hint="The loss of logits needs no floor: which function takes logits?", credit=0.5),
    ),
    teaching_notes="Let the class guess the loss of one pixel with x = 0 as a function of a: it is a hinge "
                   "with a round corner. Then print log(1 − σ(17)) in float32. The same function serves "
                   "every Bernoulli decoder of the book.")
def cross_entropy_from_logits(x: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """The loss of each picture under a Bernoulli decoder, nats, over all pixels.

    x: (batch, pixels), from 0 to 1; a: (batch, pixels), logits of any size;
    returns (batch,).
    """
    return (torch.nn.functional.softplus(a) - x * a).sum(1)


# --- the gradient by a logit (derivation) -------------------------------------------------------------------

def _slope(function: Callable[[complex], complex], at: float) -> float:
    """The derivative of an analytic function at a real number, by a complex step."""
    return function(complex(at, STEP)).imag / STEP


def _logit_instances(generator: torch.Generator) -> list[Instance]:
    """Pixels that are on, off and grey, with logits in twentieths that are no tenths."""
    pixels = (1.0, 0.0, *_tuple_of_tenths(generator, 5, 1, 9))
    logits = (0.75, *((torch.randint(-30, 31, (6,), generator=generator) * 2 + 1) / 20).tolist())
    return [_logit_instance(x, round(a, 2)) for x, a in zip(pixels, logits)]


def _logit_instance(x: float, a: float) -> Instance:
    def sigma(a: complex) -> complex:
        return 1 / (1 + cmath.exp(-a))

    def loss(a: complex) -> complex:
        return -x * cmath.log(sigma(a)) - (1 - x) * cmath.log(1 - sigma(a))

    def softplus(a: float) -> float:
        return max(a, 0.0) + math.log1p(math.exp(-abs(a)))

    symbols = {"dloss": _slope(loss, a), "dxhat": _slope(sigma, a), "xhat": sigma(a).real, "x": x, "a": a,
               "softplus": softplus}
    return Instance(f"x = {x:g}, a = {a:g}, xhat = {symbols['xhat']:.4g}", symbols)


def _derivative_at_work(tree: ast.expr) -> bool:
    """A line without the given derivative that is more than the result's own terms in another order."""
    if "dloss" in names_in(tree):
        return False
    results = {normal_form(expression(text))
               for text in ("sigmoid(a) - x", "xhat - x", "1/(1 + exp(-a)) - x")}
    used = sum(isinstance(node, ast.Name) for node in ast.walk(tree))
    return normal_form(tree) not in results or used > 3


logit_gradient_proof = LongDerivation(
    name="logit_gradient_proof", title="Why the error is what is sent back", chapter=3, difficulty=1,
    minutes=10, points=2, equations=("eq-ae-bernoulli", "eq-ae-gradients"),
    statement="""
        The loss of one pixel under a Bernoulli decoder is
        $\\ell = -x \\log \\hat x - (1 - x) \\log(1 - \\hat x)$, with $\\hat x = \\sigma(a)$. Back-propagation
        begins with its derivative by the logit $a$. Show that

        $$\\frac{\\partial \\ell}{\\partial a} = \\sigma(a) - x$$

        for every pixel value $x$ from 0 to 1: what the decoder says minus what is, and nothing else. Fill in
        the lines marked `...`, or write a chain of your own.""",
    symbols=(("dloss", "\\partial \\ell / \\partial a", "the derivative, given as a number"),
             ("x", "x", "the pixel, from 0 to 1"), ("a", "a", "its logit"),
             ("xhat", "\\hat x", "$\\sigma(a)$, also `sigmoid(a)`"),
             ("dxhat", "\\partial \\hat x / \\partial a", "slope of the sigmoid at $a$"),
             ("softplus(a)", "\\log(1 + e^a)", "you may not need it")),
    chain="""
        dloss
        = (-x/xhat + (1 - x)/(1 - xhat))*dxhat              # the chain rule
        = (-x/xhat + (1 - x)/(1 - xhat))*xhat*(1 - xhat)    # the slope of the sigmoid
        = -x*(1 - xhat) + (1 - x)*xhat                      # each denominator cancels
        = sigmoid(a) - x
        """,
    blanks=(2, 3, 4), least_lines=0, instances=_logit_instances, forms=("xhat - x", "1/(1 + exp(-a)) - x"),
    landmarks=(Step("Show what the two logarithms become: a line without `dloss`, before it is collected to "
                    "σ(a) − x.", test=_derivative_at_work),),
    hints=("The chain rule: the derivative of the loss by x̂, times that of x̂ by a. What are the "
           "derivatives of −log x̂ and of −log(1 − x̂)?",
           "By x̂ it is −x/x̂ + (1 − x)/(1 − x̂). And the slope of the sigmoid is x̂(1 − x̂), in x̂ itself.",
           "(−x/x̂ + (1 − x)/(1 − x̂)) · x̂(1 − x̂) = −x(1 − x̂) + (1 − x)x̂. Now multiply out. Or start "
           "from softplus(a) − x a, whose derivative takes one line."),
    misconceptions=(
        wrong("sign of the error", "x - xhat", "x*(1 - xhat) - (1 - x)*xhat",
              "(x/xhat - (1 - x)/(1 - xhat))*dxhat",
              "(-x/xhat + (1 - x)/(1 - xhat))*xhat*(xhat - 1)",
              says="The sign is turned: this is the derivative of log p, which is climbed, and the loss is "
                   "−log p. (Or the slope of the sigmoid has the wrong sign: x̂(1 − x̂) is positive.)",
              hint="If the pixel is on, should the loss rise or fall as its logit grows?"),
        wrong("the inner derivative is missing", "-x/xhat + (1 - x)/(1 - xhat)",
              "(xhat - x)/(xhat*(1 - xhat))",
              says="This is the derivative by x̂. Asked is that by the logit a, on which x̂ depends.",
              hint="Multiply by the slope of the sigmoid: the chain rule."),
        wrong("sign of the derivative of log(1 − x̂)", "(-x/xhat - (1 - x)/(1 - xhat))*dxhat",
              "-x*(1 - xhat) - (1 - x)*xhat",
              says="log(1 − x̂) falls as x̂ grows, so −log(1 − x̂) rises: its derivative is +1/(1 − x̂).",
              hint="Yours is negative for every x. Should a pixel that is off pull its logit up?"),
        wrong("σ′ = σ", "(-x/xhat + (1 - x)/(1 - xhat))*xhat", "-x + (1 - x)*xhat/(1 - xhat)",
              says="The slope of the sigmoid is not x̂ alone: it must vanish where x̂ is near 1, too.",
              hint="Differentiate 1/(1 + exp(−a)): what stands beside x̂?"),
        wrong("σ′ = 1 − σ", "(-x/xhat + (1 - x)/(1 - xhat))*(1 - xhat)", "-x*(1 - xhat)/xhat + (1 - x)",
              says="The slope of the sigmoid is not 1 − x̂ alone (that is the derivative of log x̂).",
              hint="Where is the sigmoid flat? At both ends."),
        wrong("the slope is left in", "(xhat - x)*xhat*(1 - xhat)", "(xhat - x)*dxhat",
              says="A factor x̂(1 − x̂) is left: this is the gradient of half a squared error through a "
                   "sigmoid. There a decoder that is sure and wrong learns nothing, because its slope is 0; "
                   "under the cross-entropy the denominators cancel the slope.",
              hint="x/x̂ times x̂(1 − x̂) is x(1 − x̂): how much of the slope is left?"),
        wrong("squared error for cross-entropy", "2*(xhat - x)*dxhat", "2*(xhat - x)",
              says="This is the derivative of a squared error, (x̂ − x)². The loss here has two logarithms.",
              hint="What is the derivative of −log x̂ by x̂?"),
        wrong("half of the loss", "-x*(1 - xhat)", "(1 - x)*xhat", "-x*dxhat/xhat",
              "(1 - x)*dxhat/(1 - xhat)",
              says="Only one of the two terms is here: a pixel that is on, or one that is off, teaches "
                   "nothing.",
              hint="Both log x̂ and log(1 − x̂) depend on a."),
        wrong("logit for probability", "a - x",
              says="The logit a stands where its probability σ(a) must. (a − x is the gradient of a Gaussian "
                   "decoder with the mean a and the variance 1.)",
              hint="Between which bounds may a pixel's error lie?"),
        wrong("softplus not differentiated", "softplus(a) - x", "log(1 + exp(a)) - x",
              says="Of softplus(a) − x a you differentiated the second term only. The slope of softplus is "
                   "the sigmoid.",
              hint="What is the derivative of log(1 + exp(a))?"),
        wrong("x a not differentiated", "sigmoid(a) - x*a",
              says="Of softplus(a) − x a you differentiated the first term only.",
              hint="What is the derivative of x a by a?"),
        wrong("1 + exp(a) not divided", "exp(a) - x",
              says="The derivative of log(1 + exp(a)) is exp(a) over 1 + exp(a). The denominator is lost.",
              hint="What is the derivative of log y by a, if y depends on a?"),
        wrong("the loss itself", "-x*log(xhat) - (1 - x)*log(1 - xhat)", "softplus(a) - x*a",
              says="This is the loss, not yet differentiated.",
              hint="`dloss` is its slope. Apply the chain rule."),
    ),
    teaching_notes="Put the two roads side by side: the chain rule through the sigmoid, and softplus(a) − "
                   "x a, where there is nothing to cancel. Then the Gaussian: (x̂ − x)/s². Each loss that "
                   "belongs to its output sends the plain error back, and back-propagation starts alike for "
                   "both.")


# --- the best direction (derivation) ------------------------------------------------------------------------

# of length one
DIRECTIONS = ((0.6, 0.8), (0.8, -0.6), (0.28, 0.96), (-0.96, 0.28), (0.96, 0.28), (-0.6, 0.8))


def _direction_instances(generator: torch.Generator) -> list[Instance]:
    """Centred points in the plane, two coordinates each, and a unit vector."""
    order = torch.randperm(len(DIRECTIONS), generator=generator).tolist()
    return [_direction_instance(count, DIRECTIONS[which], generator)
            for count, which in zip((3, 3, 4, 4, 5), order)]


def _direction_instance(count: int, u: tuple[float, float], generator: torch.Generator) -> Instance:
    while True:      # until no direction is as good as another, and u is no eigenvector
        drawn = torch.randint(-3, 4, (count - 1, 2), generator=generator).tolist()
        x = tuple(map(tuple, [*drawn, [-sum(column) for column in zip(*drawn)]]))
        S = [[math.fsum(point[i] * point[j] for point in x) / count for j in (0, 1)] for i in (0, 1)]
        middle, half = (S[0][0] + S[1][1]) / 2, math.hypot((S[0][0] - S[1][1]) / 2, S[0][1])
        turn = math.atan2(2 * S[0][1], S[0][0] - S[1][1]) / 2      # of the first axis of the ellipse
        c1, c2 = (u[0] * one + u[1] * other for one, other in
                  ((math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))))
        if S[0][1] and min(abs(c1), abs(c2)) > 0.05 and middle - half > 0.1 and half > 0.1:
            break
    symbols = {"x": x, "u": u, "z": tuple(u[0] * one + u[1] * other for one, other in x),
               "S": tuple(map(tuple, S)), "lambda_1": middle + half, "lambda_2": middle - half, "c1": c1,
               "c2": c2, "axes": (0, 1), "data": tuple(range(count)), "N": count}
    return Instance(f"x = {x}, u = {u}", symbols)


_TRACE = "S[0][0] + S[1][1]"
_USU = "sum(u[i]*S[i][j]*u[j] for i in axes for j in axes)"
_ZZ = "sum(z[n]**2 for n in data)"
_XX = "sum(x[n][i]**2 for n in data for i in axes)"
_LOST = "sum((x[n][i] - u[i]*z[n])**2 for n in data for i in axes)"


def _in_covariances(tree: ast.expr) -> bool:
    """The covariance stands where the data stood."""
    names = names_in(tree)
    return "S" in names and not names & {"x", "z"}


pca_proof = LongDerivation(
    name="pca_proof", title="The best direction", chapter=3, difficulty=2, minutes=18, points=3,
    equations=("eq-ae-error", "eq-ae-pca"),
    statement="""
        The smallest linear autoencoder: two pixels, one number in between. For a unit vector $u$ the code
        of a picture is $z_n = u^\\top x_n$ and its reconstruction $u z_n$; the pictures are centred,
        $\\sum_n x_n = 0$. With the covariance $S = \\frac1N \\sum_n x_n x_n^\\top$, its eigenvalues
        $\\lambda_1 \\ge \\lambda_2$ and eigenvectors $u_1, u_2$, show that

        $$\\frac1N \\sum_n \\lVert x_n - u u^\\top x_n \\rVert^2 = \\operatorname{tr} S - u^\\top S u
        = \\lambda_2 + (\\lambda_1 - \\lambda_2)\\, c_2^2, \\qquad u = c_1 u_1 + c_2 u_2$$

        From the result you can read the best $u$: where $c_2 = 0$, so $u = \\pm u_1$, the first eigenvector,
        and what is lost then is $\\lambda_2$. Fill in the lines marked `...`, or write a chain of your
        own.""",
    symbols=(("x[n][i]", "x_{ni}", "pixel $i$ of picture $n$; the pictures are centred"),
             ("u[i]", "u_i", "the direction, of length 1"),
             ("z[n]", "z_n", "the code $u^\\top x_n$"),
             ("S[i][j]", "S_{ij}", "the covariance, `sum(x[n][i]*x[n][j] for n in data)/N`"),
             ("lambda_1, lambda_2", "\\lambda_1 \\ge \\lambda_2",
              "its eigenvalues; $\\lambda_1 + \\lambda_2$ is its trace"),
             ("c1, c2", "c_1,\\; c_2", "coordinates of $u$ along the eigenvectors, $c_1^2 + c_2^2 = 1$"),
             ("axes, data, N", "i;\\; n = 1, …, N", "the two pixels and the pictures (from 0 in code)")),
    chain=f"""
        {_LOST}/N
        = sum(x[n][i]**2 - 2*x[n][i]*u[i]*z[n] + u[i]**2*z[n]**2
              for n in data for i in axes)/N                     # the square
        = ({_XX}
           - {_ZZ})/N                         # u has length 1
        = {_TRACE}
          - {_USU}  # tr S - uᵀSu
        = lambda_1 + lambda_2 - lambda_1*c1**2 - lambda_2*c2**2     # along u_1 and u_2
        = lambda_2 + (lambda_1 - lambda_2)*c2**2
        """,
    blanks=(2, 3, 4, 5), least_lines=2, instances=_direction_instances,
    forms=("lambda_1 - (lambda_1 - lambda_2)*c1**2",),
    nearly="One more line: bring in the covariance first, and its eigenvalues then.",
    landmarks=(Step("Show where the data go: a line in which the covariance S stands and no picture.",
                    test=_in_covariances),),
    hints=("Multiply out the square. In the middle term the sum over i of u_i x_ni is the code z_n; in the "
           "last the sum of u_i² is 1. How often is z_n² left, and with which sign?",
           "Σ_i x_ni² − z_n², averaged over n. The first is the sum of the two variances, tr S. The second, "
           "with z_n = Σ_i u_i x_ni written twice, is Σ_ij u_i S_ij u_j.",
           "In the axes of the eigenvectors uᵀSu is λ_1 c_1² + λ_2 c_2², and tr S is λ_1 + λ_2. Put 1 − c_2² "
           "for c_1²."),
    misconceptions=(
        wrong("the cross term lost", f"{_TRACE} + {_USU}", f"({_XX} + {_ZZ})/N",
              "lambda_1 + lambda_2 + lambda_1*c1**2 + lambda_2*c2**2",
              says="The cross term of the square is lost: (p − q)² is p² − 2pq + q². It brings −2z², and "
                   "with the +z² of the last term −z² is left.",
              hint="Could what is lost be more than all that was there, tr S?"),
        wrong("sign of the cross term", f"{_TRACE} + 3*{_USU}", f"({_XX} + 3*{_ZZ})/N",
              says="The cross term has the wrong sign: x̂ is taken off, so it is −2 x x̂.",
              hint="(p − q)² or (p + q)²?"),
        wrong("the 2 of the cross term lost", _TRACE, f"{_XX}/N", "lambda_1 + lambda_2",
              says="Only one of the two cross terms is there: −z² and +z² cancel, and nothing depends on u. "
                   "All directions would be equally good.",
              hint="(p − q)² has −pq twice."),
        wrong("the last term lost", f"{_TRACE} - 2*{_USU}", f"({_XX} - 2*{_ZZ})/N",
              "lambda_1 + lambda_2 - 2*lambda_1*c1**2 - 2*lambda_2*c2**2",
              says="The square of the reconstruction is lost: −2z² from the cross term and +z² from ‖u z‖² "
                   "leave −z².",
              hint="What is the length of u z, if u has length 1?"),
        wrong("kept for lost", _USU, f"{_ZZ}/N", "lambda_1*c1**2 + lambda_2*c2**2",
              "lambda_1 - (lambda_1 - lambda_2)*c2**2", "lambda_2 + (lambda_1 - lambda_2)*c1**2",
              says="This is the variance along u, what the code keeps. The error is what it loses: tr S "
                   "minus that. (With c_1 in the place of c_2 it comes out the same.) It would be least for "
                   "the last eigenvector.",
              hint="Let u be the first eigenvector, so c_1 = 1 and c_2 = 0. What is lost?"),
        wrong("sign of the error", f"{_USU} - ({_TRACE})", f"({_ZZ} - {_XX})/N",
              "-lambda_2 - (lambda_1 - lambda_2)*c2**2",
              says="All signs are turned: an average of squares cannot be negative.",
              hint="Which is larger, tr S or uᵀSu?"),
        wrong("the trace lost", f"-{_USU}", f"-{_ZZ}/N", "-lambda_1*c1**2 - lambda_2*c2**2",
              says="tr S is lost. It does not depend on u, so the best u is the same without it; the error "
                   "is not.",
              hint="What is the error of the reconstruction 0, which keeps nothing?"),
        wrong("not averaged", _LOST, f"{_XX} - {_ZZ}", f"N*({_TRACE}) - N*{_USU}",
              f"{_XX} - {_USU}", f"{_TRACE} - {_ZZ}", f"{_XX}/N - {_ZZ}", f"{_XX} - {_ZZ}/N",
              says="1/N is lost, in the whole or in one of the two terms. S is an average over the N "
                   "pictures, and so is the error.",
              hint="Count the 1/N on both sides of each minus."),
        wrong("N − 1 for N", f"({_XX} - {_ZZ})/(N - 1)", f"N/(N - 1)*({_TRACE} - {_USU})",
              says="You divided by N − 1. The error is an average over the N pictures, and S has 1/N here.",
              hint="The first line divides by N."),
        wrong("the covariances left out", f"{_TRACE} - sum(u[i]**2*S[i][i] for i in axes)",
              says="uᵀSu has S_01 and S_10 in it as well: the square of a sum of two has four terms.",
              hint="z_n² = (u_0 x_n0 + u_1 x_n1)². Multiply it out."),
        wrong("the covariance counted once",
              f"{_TRACE} - sum(u[i]*S[i][j]*u[j] for i in axes for j in axes if i <= j)",
              says="S_01 counts twice, as S_01 and as S_10.",
              hint="(p + q)² = p² + 2pq + q²."),
        wrong("S counted whole", f"sum(S[i][j] for i in axes for j in axes) - {_USU}",
              says="The trace is the sum of the diagonal only: Σ_i x_i² has no x_0 x_1 in it.",
              hint="Which entries of S are averages of squares?"),
        wrong("u on one side only", f"{_TRACE} - sum(S[i][j]*u[j] for i in axes for j in axes)",
              f"{_TRACE} - sum(u[i]*S[i][i] for i in axes)",
              says="u stands only once beside S. The code is squared, so u comes twice.",
              hint="What happens to the error if u becomes −u? Nothing must."),
        wrong("the code not sent back", "sum((x[n][i] - z[n])**2 for n in data for i in axes)/N",
              says="The code z is taken off from every pixel. The reconstruction is u z: the decoder "
                   "multiplies by u_i.",
              hint="What has the shape of a picture, z or u z?"),
        wrong("pixel by pixel", "sum((x[n][i] - u[i]**2*x[n][i])**2 for n in data for i in axes)/N",
              says="You shrank each pixel by itself, by u_i². u uᵀ mixes the pixels: the code is a sum over "
                   "both.",
              hint="Write out the matrix u uᵀ: what stands off its diagonal?"),
        wrong("length for its square",
              "sum(sqrt(sum((x[n][i] - u[i]*z[n])**2 for i in axes)) for n in data)/N",
              says="This is the mean distance. The error is the mean squared distance.",
              hint="Is there a root in ‖x‖²?"),
        wrong("the best u put in for every u", "lambda_2",
              says="This is the error at the best u only. In general u has to stay: c_2 tells how far it is "
                   "from the best.",
              hint="Does your line still depend on u? Does the line before?"),
        wrong("coordinates not squared", "lambda_2 + (lambda_1 - lambda_2)*c2",
              "lambda_1 + lambda_2 - lambda_1*c1 - lambda_2*c2",
              "lambda_2 + (lambda_1 - lambda_2)*abs(c2)",
              "lambda_1 + lambda_2 - lambda_1*abs(c1) - lambda_2*abs(c2)",
              says="The coordinates c stand without their squares. u comes twice in uᵀSu, so they do too.",
              hint="Can the error depend on the sign of c_2?"),
        wrong("sign of the difference", "lambda_2 - (lambda_1 - lambda_2)*c2**2",
              "lambda_2 + (lambda_2 - lambda_1)*c2**2",
              says="The sign before λ_1 − λ_2 is turned: turning away from the first eigenvector would help.",
              hint="Let u be the second eigenvector: c_2 = 1. What is lost then?"),
        wrong("one eigenvalue forgotten", "lambda_1 - lambda_1*c1**2 - lambda_2*c2**2",
              "lambda_2 - lambda_1*c1**2 - lambda_2*c2**2", "lambda_1*c2**2",
              "lambda_1 + lambda_2 - lambda_1*c1**2",
              says="An eigenvalue is missing: the trace is λ_1 + λ_2, and uᵀSu holds both, each with its own "
                   "c².",
              hint="Write both traces down, and then take off uᵀSu term by term."),
    ),
    teaching_notes="Draw the ellipse and turn u with a pencil: what is kept and what is lost always add to "
                   "tr S. In D dimensions the same two lines give Σ λ_j (1 − ‖P u_j‖²), and the best "
                   "subspace of any L. Let the class say why −u_1 is as good, and what that means for "
                   "comparing two programs' components.")


# --- principal components -----------------------------------------------------------------------------------

def _clouds(generator: torch.Generator) -> Iterator[tuple[Tensor, int]]:
    """(x, latent): pictures in tenths, far from 0, whose covariances have eigenvalues well apart."""
    sizes = ((3, 2, 1), (4, 2, 1), (5, 3, 1), (4, 3, 2), (5, 3, 2), (6, 4, 2), (7, 4, 3))
    for batch, pixels, latent in sizes:
        while True:
            spread = torch.randint(4, 21, (pixels,), generator=generator) / 10
            x = (torch.randn(batch, pixels, generator=generator) * spread).to(torch.float64)
            x = (10 * (x + 1 + torch.arange(pixels) % 3)).round() / 10
            values = [0.0, *torch.linalg.eigvalsh((x - x.mean(0)).T @ (x - x.mean(0))).tolist()]
            if min(after - before for before, after in itertools.pairwise(values)) > 0.05 * values[-1]:
                break
        yield x, latent


def _jacobi(S: Tensor) -> tuple[list[float], list[list[float]]]:
    """Eigenvalues, the largest first, and eigenvectors of a symmetric matrix by Jacobi's rotations."""
    A, size = S.tolist(), len(S)
    V = [[float(i == j) for j in range(size)] for i in range(size)]
    for _ in range(8):      # sweeps: the convergence is quadratic
        for p, q in itertools.combinations(range(size), 2):
            angle = math.atan2(2 * A[p][q], A[p][p] - A[q][q]) / 2
            c, s = math.cos(angle), math.sin(angle)
            for M in (A, V):      # columns p and q
                for row in M:
                    row[p], row[q] = c * row[p] + s * row[q], c * row[q] - s * row[p]
            A[p], A[q] = ([c * one + s * other for one, other in zip(A[p], A[q])],
                          [c * other - s * one for one, other in zip(A[p], A[q])])
    pairs = sorted(((A[k][k], [row[k] for row in V]) for k in range(size)), reverse=True)
    return [value for value, _ in pairs], [vector for _, vector in pairs]


def _signs_settled(parts: Sequence[Tensor], case: Sequence) -> tuple[Tensor, ...]:
    """The sign of a component is free: each is turned to the same side of a fixed plane.

    Components that came in rows, (latent, pixels), are turned row by row; codes that came in the place of
    the reconstruction, (N, latent), are turned with them.
    """
    components, mean, pictures = parts
    if components.dim() != 2:
        return components, mean, pictures
    pixels = case[0].shape[1]
    axis = int(components.shape[0] != pixels and components.shape[1] == pixels)
    side = torch.arange(1, components.shape[axis] + 1, dtype=torch.float64).cos()
    sign = torch.tensordot(side, components.to(torch.float64), dims=([0], [axis])).sign()
    sign = torch.where(sign == 0, 1.0, sign)
    if pictures.dim() == 2 and pictures.shape[1] == len(sign) != pixels:
        pictures = pictures * sign
    return components * sign.unsqueeze(axis), mean, pictures


def _pca_by_jacobi(x: Tensor, latent: int) -> Tensor:
    """Every picture by itself: its codes, added up along the components."""
    rows = x.tolist()
    mean = [math.fsum(column) / len(rows) for column in zip(*rows)]
    centred = [[value - m for value, m in zip(row, mean)] for row in rows]
    S = [[math.fsum(row[i] * row[j] for row in centred) / len(rows) for j in range(len(mean))]
         for i in range(len(mean))]
    vectors = _jacobi(torch.tensor(S, dtype=torch.float64))[1][:latent]
    pictures = [[m + math.fsum(u[i] * math.fsum(a * b for a, b in zip(u, row)) for u in vectors)
                 for i, m in enumerate(mean)] for row in centred]
    found = [torch.tensor(part, dtype=torch.float64) for part in (vectors, mean, pictures)]
    return flat(*_signs_settled((found[0].T.contiguous(), *found[1:]), (x, latent)))


def _pca_slip(rule: Callable[[Tensor, int], tuple]) -> Slip:
    """rule: of (x, latent) gives components, mean, reconstruction."""
    return Slip(rule, _signs_settled)


def _eigen(x: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of the second moments xᵀx/N, the largest first."""
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    return values.flip(0), vectors.flip(1)


def _through(C: Tensor, centred: Tensor) -> Tensor:
    return centred @ C @ C.T


def _components(choose: Callable[[Tensor, int], Tensor]) -> Slip:
    """The slip of other components, chosen of all eigenvectors, the largest first: the rest is right."""
    def rule(x: Tensor, latent: int) -> tuple:
        centred = x - x.mean(0)
        C = choose(_eigen(centred)[1], latent)
        return C, x.mean(0), x.mean(0) + _through(C, centred)
    return _pca_slip(rule)


def _pictures_of(rule: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Slip:
    """The slip of a wrong reconstruction, of x, its mean and the right components."""
    def parts(x: Tensor, latent: int) -> tuple:
        C = _eigen(x - x.mean(0))[1][:, :latent]
        return C, x.mean(0), rule(x, x.mean(0), C)
    return _pca_slip(parts)


def _centred_by(mean: Callable[[Tensor], Tensor], told: Callable[[Tensor], Tensor] | None = None,
                back: Callable[[Tensor], Tensor] | None = None) -> Slip:
    """The slip of another mean: taken off; told, given back as the mean; back, added to the projection."""
    def parts(x: Tensor, latent: int) -> tuple:
        C = _eigen(x - mean(x))[1][:, :latent]
        return C, (told or mean)(x), (back or mean)(x) + _through(C, x - mean(x))
    return _pca_slip(parts)


def _zero(x: Tensor) -> Tensor:
    return torch.zeros_like(x[0])


def _usual(x: Tensor) -> Tensor:
    return x.mean(0)


def _uncentred_components(x: Tensor, latent: int) -> tuple:
    C = _eigen(x)[1][:, :latent]
    return C, x.mean(0), x.mean(0) + _through(C, x - x.mean(0))


def _scaled(power: float, how: Callable[[Tensor, Tensor], Tensor], less: int = 0) -> Slip:
    """Components times λ^power (λ with N − less below); how: the reconstruction from them and centred x."""
    def parts(x: Tensor, latent: int) -> tuple:
        values, vectors = _eigen(x - x.mean(0))
        C = vectors[:, :latent] * (values[:latent] * len(x) / (len(x) - less))**power
        right = x.mean(0) + _through(vectors[:, :latent], x - x.mean(0))
        return C, x.mean(0), how(C, x - x.mean(0)) + x.mean(0) if how else right
    return _pca_slip(parts)


def _codes_divided(spread: Callable[[Tensor, int], Tensor]) -> Slip:
    """Codes over something of the eigenvalues, on the way back."""
    def parts(x: Tensor, latent: int) -> tuple:
        values, vectors = _eigen(x - x.mean(0))
        C = vectors[:, :latent]
        return C, x.mean(0), x.mean(0) + ((x - x.mean(0)) @ C / spread(values[:latent], len(x))) @ C.T
    return _pca_slip(parts)


def _standardised(less: int, back: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Slip:
    """Pixels over their standard deviations; back: the pictures from projection, mean and deviation."""
    def parts(x: Tensor, latent: int) -> tuple:
        mean, deviation = x.mean(0), x.std(0, correction=less)
        scores = (x - mean) / deviation
        C = _eigen(scores)[1][:, :latent]
        return C, mean, back(_through(C, scores), mean, deviation)
    return _pca_slip(parts)


def _left_vectors(x: Tensor, latent: int) -> tuple:
    U, s, Vh = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    return U[:, :latent], x.mean(0), x.mean(0) + U[:, :latent] * s[:latent] @ Vh[:latent]


def _rows_of_svd(x: Tensor, latent: int) -> tuple:
    C = torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[:, :latent]
    return C, x.mean(0), x.mean(0) + _through(C, x - x.mean(0))


def _components_in_rows(x: Tensor, latent: int) -> tuple:
    C = _eigen(x - x.mean(0))[1][:, :latent]
    return C.T, x.mean(0), x.mean(0) + _through(C, x - x.mean(0))


def _pca_parts(yours: Tensor, x: Tensor, latent: int) -> tuple[Tensor, Tensor, Tensor]:
    pixels = x.shape[1]
    C, mean, pictures = yours.split([pixels * latent, pixels, x.numel()])
    return C.view(pixels, latent), mean, pictures.view_as(x)


def _is_orthonormal(yours: Tensor, x: Tensor, latent: int) -> bool:
    C = _pca_parts(yours, x, latent)[0]
    return bool((C.T @ C - torch.eye(latent).to(C)).abs().max() < 1e-3)


def _keeps_mean(yours: Tensor, x: Tensor, latent: int) -> bool:
    return bool((_pca_parts(yours, x, latent)[2].mean(0) - x.mean(0)).abs().max() < 1e-3)


@autoencoder_exercise(
    ShapedExercise, title="Principal components", difficulty=2, minutes=20, points=4,
    equations=("eq-ae-pca", "eq-ae-projection", "eq-ae-error"), settle=_signs_settled,
    parts=("components", "mean", "reconstruction"),
    shapes=lambda x, latent: ((x.shape[1], latent), (x.shape[1],), tuple(x.shape)),
    statement="""
        The linear autoencoder's optimum can be written down. Given pictures $x_1, \\dots, x_N$ and the number
        $L$ of the code's numbers, return

        - the `components` $U_L = (u_1 \\dots u_L)$, a matrix $(D, L)$ whose columns are the eigenvectors of
          the covariance $S$ with the largest eigenvalues, each of length 1, the largest first,
        - the `mean` $\\bar x$, a vector $(D)$,
        - the `reconstruction` of every picture, $\\bar x + U_L U_L^\\top (x_n - \\bar x)$, a table $(N, D)$.

        Signs of components are free. Use what PyTorch's `torch.linalg` offers; no loop is needed.""",
    hints=("Four lines: the mean; what is left of x without it; the eigenvectors of the covariance of that; "
           "there and back again through the first L of them.",
           "`torch.linalg.eigh` gives the eigenvalues from the smallest to the largest and the eigenvectors "
           "as columns: you want the last L columns, in reverse order. Or `torch.linalg.svd` of the centred "
           "x: the first L rows of Vh, transposed.",
           "`centred = x - x.mean(0)`; `vectors = torch.linalg.eigh(centred.T @ centred / len(x))[1]`; "
           "`components = vectors[:, -latent:].flip(1)`; the reconstruction is x.mean(0) + centred @ "
           "components @ components.T."),
    truth=_pca_by_jacobi, cases=_clouds,
    must=(("components have length 1 and stand at right angles.", _is_orthonormal),
          ("the mean of the reconstructions is the mean of the pictures.", _keeps_mean)),
    on_the_way=lambda x, latent: {"mean": x.mean(0),
                                  "covariance": (x - x.mean(0)).T @ (x - x.mean(0)) / len(x),
                                  "eigenvalues": _eigen(x - x.mean(0))[0],
                                  "codes": (x - x.mean(0)) @ _eigen(x - x.mean(0))[1][:, :latent]},
    misconceptions=(
        wrong("not centred", _centred_by(_zero), _centred_by(_zero, told=_usual),
              _pca_slip(_uncentred_components), _centred_by(_zero, told=_usual, back=_usual),
              says="The mean was not taken off before the eigenvectors: these are directions from 0, and the "
                   "first of them points at the mean picture. Variance is measured from the mean.",
              hint="Add 100 to every pixel. Should the components change?"),
        wrong("codes of pictures that are not centred", _pictures_of(lambda x, mean, C: _through(C, x)),
              _pictures_of(lambda x, mean, C: mean + _through(C, x)),
              says="The components are right, and then x itself is projected. What is projected is x without "
                   "its mean, and the mean is added back afterwards.",
              hint="Which reconstruction should the mean picture itself have?"),
        wrong("mean not added back", _pictures_of(lambda x, mean, C: _through(C, x - mean)),
              says="The reconstruction is of the centred pictures. Add the mean.",
              hint="With no component at all, what is the best reconstruction of every picture?", credit=0.5),
        wrong("the smallest eigenvalues", _components(lambda V, latent: V.flip(1)[:, :latent]),
              _components(lambda V, latent: V[:, -latent:]),
              says="These are the directions in which the pictures differ least. `eigh` sorts from the "
                   "smallest to the largest.",
              hint="Print the eigenvalues beside the vectors. Which ones belong to yours?"),
        wrong("the largest last", _components(lambda V, latent: V[:, :latent].flip(1)),
              says="The right components, the smallest of them first: `eigh` sorts from the smallest to the "
                   "largest. The subspace is the right one, and so is the reconstruction.",
              hint="`.flip(1)` turns the columns round.", credit=0.5),
        wrong("rows for columns", _components(lambda V, latent: V[:latent].T),
              _components(lambda V, latent: V.flip(1)[-latent:].flip(0).T),
              _components(lambda V, latent: V.flip(1)[-latent:].T),
              _components(lambda V, latent: V.flip(1)[:latent].T),
              _pca_slip(_rows_of_svd),
              says="You took rows of a matrix whose columns are the eigenvectors (or columns of `Vh`, whose "
                   "rows are). Both are orthonormal, so nothing complains; only one of them diagonalises S.",
              hint="Test it: is `S @ components` the components, each times a number?"),
        wrong("components lie in rows", _pca_slip(_components_in_rows),
              says="The components are right and lie in rows, (L, D), as scikit-learn keeps them. Asked for "
                   "are columns, (D, L).",
              hint="A transpose is missing.", credit=0.5),
        wrong("left singular vectors", _pca_slip(_left_vectors),
              says="You gave back U, one row a picture: that is the codes, each over its length. The "
                   "directions among the pixels are in V.",
              hint="How many numbers has a direction in which pictures can differ?"),
        wrong("components not of length 1", *(_scaled(power, how, less) for less in (0, 1)
              for power in (0.5, -0.5, 1.0) for how in (None, _through)),
              _scaled(0.5, lambda C, centred: centred @ C @ torch.linalg.pinv(C)),
              says="Your components are multiplied (or divided) by the spread along them. Statisticians call "
                   "those loadings; the projection U Uᵀ needs columns of length 1.",
              hint="What is `components.T @ components`?"),
        wrong("codes divided by their spread", _codes_divided(lambda values, count: values.sqrt()),
              _codes_divided(lambda values, count: (values * count / (count - 1)).sqrt()),
              _codes_divided(lambda values, count: (values * count).sqrt()),
              _codes_divided(lambda values, count: values),
              says="On the way back the codes are divided by their spread (whitened), or the singular values "
                   "are left out: each picture comes back at the wrong distance from the mean.",
              hint="U, s and Vh: which of the three have you not used?"),
        wrong("pixels divided by their spread",
              *(_standardised(less, back) for less in (0, 1) for back in (
                  lambda through, mean, deviation: mean + through * deviation,
                  lambda through, mean, deviation: mean + through, lambda through, mean, deviation: through)),
              says="You divided each pixel by its standard deviation: principal components of correlations. "
                   "They do not give the least squared error: a pixel that hardly ever changes counts as "
                   "much as any other, and for MNIST's border that is a division by 0.",
              hint="Is there a division by a standard deviation in the squared error?"),
        wrong("codes for the reconstruction", _pictures_of(lambda x, mean, C: (x - mean) @ C),
              _pictures_of(lambda x, mean, C: x @ C),
              says="The third answer holds the codes, L numbers a picture. The decoder is missing.",
              hint="Which matrix leads from (N, L) to (N, D)?"),
        wrong("the pictures themselves", _pictures_of(lambda x, mean, C: x),
              says="The reconstruction has no error at all: it went through all D components, or not "
                   "through the code at all.",
              hint="With L below D something must be lost. How many columns did you project on?"),
        wrong("what is lost for what is kept",
              _pictures_of(lambda x, mean, C: x - mean - _through(C, x - mean)),
              _pictures_of(lambda x, mean, C: x - _through(C, x - mean)),
              says="This is what the projection leaves behind, x minus it. The reconstruction is the "
                   "projection.",
              hint="U Uᵀ or I − U Uᵀ?"),
        wrong("each picture's own mean",
              _pca_slip(lambda x, latent: (_eigen(x - x.mean(1, keepdim=True))[1][:, :latent], x.mean(1),
                                           x.mean(1, keepdim=True) + _through(_eigen(
                                               x - x.mean(1, keepdim=True))[1][:, :latent],
                                               x - x.mean(1, keepdim=True)))),
              says="You averaged over the pixels of each picture, its brightness. The mean picture is the "
                   "average over the pictures, pixel by pixel.",
              hint="x is (N, D): over which `dim` does `x.mean(…)` leave D numbers?"),
        wrong("one mean for all pixels", _centred_by(lambda x: x.mean()),
              _centred_by(lambda x: x.mean().expand(x.shape[1])),
              _centred_by(lambda x: x.mean(), told=_usual),
              says="`x.mean()` is one number, averaged over pictures and pixels. Each pixel has its own "
                   "mean.",
              hint="`x.mean(0)`."),
    ),
    teaching_notes="Have two programs' components compared: they differ in signs, and that is no mistake. "
                   "Then let the class compute the error of the reconstruction and the sum of the "
                   "eigenvalues that were left out, and see that the two agree to the last digit.")
def pca(x: torch.Tensor, latent: int
        ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The best linear autoencoder: principal components.

    x: (N, D) pictures; latent: L, from 1 to D;
    returns components, (D, L), orthonormal columns, the largest eigenvalue
    first; mean, (D,); reconstruction, (N, D).
    """
    mean = x.mean(0)
    centred = x - mean
    vectors = torch.linalg.eigh(centred.T @ centred / len(x))[1]
    components = vectors[:, -latent:].flip(1)
    return components, mean, mean + centred @ components @ components.T


# --- back-propagation ---------------------------------------------------------------------------------------

def _networks(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(x, W1, W2): one of everything first; bottlenecks, layers of one size, an over-complete one."""
    sizes = ((1, 1, 1, False), (2, 2, 1, False), (3, 2, 2, True), (2, 3, 2, False), (4, 3, 3, False),
             (3, 2, 3, True), (5, 4, 2, True))
    for batch, pixels, latent, grey in sizes:
        yield (_pixels(generator, batch, pixels, grey), _signed(generator, latent, pixels),
               _signed(generator, pixels, latent))


def _gradient_by_complex_step(x: Tensor, W1: Tensor, W2: Tensor) -> Tensor:
    """Every weight is moved by itself, in an imaginary direction, and the loss computed anew."""
    count, sizes = W1.numel() + W2.numel(), (W1.numel(), W2.numel())
    moved = torch.cat([W1.flatten(), W2.flatten()]) + 1j * STEP * torch.eye(count, dtype=torch.float64)
    first, second = moved.split(sizes, 1)      # a machine for each weight
    h = 1 / (1 + torch.exp(-(x.to(moved.dtype) @ first.view(count, *W1.shape).mT)))
    a = h @ second.view(count, *W2.shape).mT
    losses = (torch.log(1 + torch.exp(a)) - x * a).sum(2).mean(1)
    return losses.imag / STEP


@dataclass(frozen=True)
class Pass:
    """What a picture passes on its way: inputs y and states h of the code, logits a, reconstruction."""

    x: Tensor
    y: Tensor
    h: Tensor
    a: Tensor
    xhat: Tensor
    W1: Tensor
    W2: Tensor


def _forward(x: Tensor, W1: Tensor, W2: Tensor, squash: Callable = torch.sigmoid) -> Pass:
    y = x @ W1.mT
    h = squash(y)
    a = h @ W2.mT
    return Pass(x, y, h, a, a.sigmoid(), W1, W2)


def _mean_error(p: Pass) -> Tensor:
    return (p.xhat - p.x) / len(p.x)


def _sent_back(p: Pass, delta: Tensor) -> Tensor:
    return delta @ p.W2


def _sigmoid_slope(p: Pass) -> Tensor:
    return p.h * (1 - p.h)


def _back(error: Callable = _mean_error, back: Callable = _sent_back, slope: Callable = _sigmoid_slope,
          first: Callable = lambda p, delta: delta.mT @ p.x,
          second: Callable = lambda p, delta: delta.mT @ p.h,
          squash: Callable = torch.sigmoid) -> Slip:
    """A slip in one part of back-propagation: the error at the logits, the way back, slope, products."""
    def parts(x: Tensor, W1: Tensor, W2: Tensor) -> tuple[Tensor, Tensor]:
        p = _forward(x, W1, W2, squash)
        delta = error(p)
        return first(p, back(p, delta) * slope(p)), second(p, delta)
    return Slip(parts)


def _changed(first: Callable = lambda dW, *case: dW, second: Callable = lambda dW, *case: dW) -> Slip:
    """The right gradients, each changed afterwards."""
    def parts(x: Tensor, W1: Tensor, W2: Tensor) -> tuple[Tensor, Tensor]:
        dW1, dW2 = _back().parts(x, W1, W2)
        return first(dW1, x), second(dW2, x)
    return Slip(parts)


def _only_where(alike: Callable, slip: Slip) -> Slip:
    """A slip that has an answer only on some cases."""
    def parts(*case: Tensor) -> tuple[Tensor, ...]:
        return slip.parts(*case) if alike(*case) else (torch.empty(0), torch.empty(0))
    return Slip(parts)


def _one_size(x: Tensor, W1: Tensor, W2: Tensor) -> bool:
    return W1.shape[0] == W1.shape[1]


def _ones(p: Pass) -> Tensor:
    return torch.ones_like(p.h)


def _relu_slope(p: Pass) -> Tensor:
    return (p.y > 0).to(p.y)


@autoencoder_exercise(
    ShapedExercise, title="Back-propagation by hand", difficulty=3, minutes=25, points=4,
    equations=("eq-ae-backprop", "eq-ae-gradients"), alike=_one_size,
    parts=("dW1", "dW2"), shapes=lambda x, W1, W2: (tuple(W1.shape), tuple(W2.shape)),
    statement="""
        An autoencoder of one hidden layer, without biases: encoder $y = W_1 x$, $h = \\sigma(y)$, decoder
        $a = W_2 h$, $\\hat x = \\sigma(a)$. Its loss is the cross-entropy, summed over pixels and averaged
        over the batch,

        $$\\mathcal{L} = \\frac1N \\sum_{n=1}^N \\sum_{i=1}^D \\big[\\operatorname{softplus}(a_{ni})
        - x_{ni} a_{ni}\\big]$$

        Compute $\\partial\\mathcal{L}/\\partial W_1$ and $\\partial\\mathcal{L}/\\partial W_2$ by
        back-propagation: with $\\delta_2 = \\hat x - x$ and
        $\\delta_1 = \\sigma'(y) \\odot (W_2^\\top \\delta_2)$ for each picture, the gradients are the means
        over the batch of $\\delta_1 x^\\top$ and $\\delta_2 h^\\top$. Unlike the code of the chapter's
        machine, this one is squashed by a sigmoid. Write it for the whole batch, without autograd and
        without a loop.""",
    hints=("Forward first, and keep h and x̂. Then backward: the error at the logits, (N, D); the same sent "
           "back through W2, (N, L); and at each layer a product of errors with what came in there.",
           "A picture is a row here, so y is `x @ W1.T` and the way back through W2 is `delta2 @ W2`. The "
           "slope of the sigmoid is h (1 − h), in h itself. Divide by N once.",
           "`delta2 = (xhat - x) / len(x)`, `delta1 = delta2 @ W2 * h * (1 - h)`; dW1 is `delta1.T @ x`, dW2 "
           "is `delta2.T @ h`."),
    truth=_gradient_by_complex_step, cases=_networks,
    must=(("no entry of dW2 is beyond −1 or 1: it is a mean of errors times states of the code.",
           lambda yours, x, W1, W2: (yours[W1.numel():].abs() <= 1 + 1e-4).all()),
          ("the slope of a sigmoid is ¼ at most, which bounds dW1.",
           lambda yours, x, W1, W2: (yours[:W1.numel()].view_as(W1).abs()
                                     <= 0.25 * W2.abs().sum(0)[:, None] + 1e-4).all())),
    on_the_way=lambda *case: {"h": _forward(*case).h, "xhat": _forward(*case).xhat,
                              "(xhat − x)/N": _mean_error(_forward(*case)),
                              "sent back through W2": _mean_error(_forward(*case)) @ case[2],
                              "h (1 − h)": _sigmoid_slope(_forward(*case))},
    misconceptions=(
        wrong("slope of the code forgotten", _back(slope=_ones),
              says="The error that comes back through W2 is the one behind the sigmoid of the code. On its "
                   "way through the sigmoid it is multiplied by the slope, h (1 − h).",
              hint="A unit of the code at h = 1 can hardly change. Which gradient must its weights have?"),
        wrong("slope at the output left in", _back(error=lambda p: _mean_error(p) * p.xhat * (1 - p.xhat)),
              _back(error=lambda p: _mean_error(p) * p.xhat * (1 - p.xhat), slope=_ones),
              _back(error=lambda p: 2 * _mean_error(p) * p.xhat * (1 - p.xhat)),
              says="At the output you multiplied by x̂ (1 − x̂): that is the squared error through a "
                   "sigmoid. Under the cross-entropy it cancels, and x̂ − x alone is sent back.",
              hint="The derivative of softplus(a) − x a by a is σ(a) − x. Where would another factor come "
                   "from?"),
        wrong("slope of a state that is squashed again",
              _back(slope=lambda p: p.h.sigmoid() * (1 - p.h.sigmoid())),
              says="You took the slope of the sigmoid at h. It is taken at y, the input; in terms of the "
                   "output it is h (1 − h), with no further sigmoid.",
              hint="What does your function for the slope expect: the input of the sigmoid, or its output?"),
        wrong("slope in the input for the state", _back(slope=lambda p: p.y * (1 - p.y)),
              says="You have y (1 − y), with the input of the sigmoid. The slope is h (1 − h), with its "
                   "output; it lies between 0 and ¼.",
              hint="At y = 0 the sigmoid is steepest. What is your slope there?"),
        wrong("half of the slope", _back(slope=lambda p: p.h), _back(slope=lambda p: 1 - p.h),
              says="The slope of the sigmoid is h (1 − h): both factors.",
              hint="Where is the sigmoid flat? At both ends."),
        wrong("slope of another activation", _back(slope=lambda p: 1 - p.h**2), _back(slope=_relu_slope),
              _back(slope=lambda p: 1 - p.y.tanh()**2),
              says="This is the slope of another activation (1 − h² of tanh, 0 or 1 of ReLU). The code here "
                   "is a sigmoid.",
              hint="Differentiate 1/(1 + e^(−y)) and write the result in h."),
        wrong("the code not squashed", _back(squash=lambda y: y, slope=_ones),
              _back(squash=lambda y: y, slope=lambda p: p.y.sigmoid() * (1 - p.y.sigmoid())),
              _back(squash=lambda y: y, slope=_sigmoid_slope),
              says="In your forward pass h is y itself: a linear autoencoder. Here h = σ(y).",
              hint="Print h. Does it lie between 0 and 1?"),
        wrong("input for state in dW2", _back(second=lambda p, delta: delta.mT @ p.y),
              says="dW2 pairs the error with y, the code's input. What W2 is multiplied by is h.",
              hint="a = W2 h: what is the derivative of a by an entry of W2?"),
        wrong("state for error in dW1", _back(first=lambda p, delta: p.h.mT @ p.x / len(p.x)),
              _back(second=lambda p, delta: p.xhat.mT @ p.h / len(p.x)),
              _back(second=lambda p, delta: p.x.mT @ p.h / len(p.x)),
              says="One of your gradients pairs the states of two layers, as a Boltzmann machine does. Here "
                   "it is the error of the layer above, times the state of the layer below.",
              hint="Is your gradient 0 where the reconstruction is perfect?"),
        wrong("logits for the reconstruction", _back(error=lambda p: (p.a - p.x) / len(p.x)),
              says="The error is a − x in your code. The reconstruction is σ(a).",
              hint="An error of a pixel lies between −1 and 1. Does yours?"),
        wrong("sign of the error", _back(error=lambda p: -_mean_error(p)),
              says="The sign is turned: this is the direction in which the loss falls. The gradient is that "
                   "in which it rises; descent subtracts it.",
              hint="x̂ − x or x − x̂?"),
        wrong("sum over the batch", _changed(lambda dW, x: len(x) * dW, lambda dW, x: len(x) * dW),
              _changed(first=lambda dW, x: len(x) * dW), _changed(second=lambda dW, x: len(x) * dW),
              says="At least one of the gradients is a sum over the batch. The loss is a mean over the "
                   "pictures, so both are divided by N.",
              hint="Divide the error by len(x) at once, where it begins: then everything behind is right.",
              credit=0.5),
        wrong("divided by N twice", _changed(first=lambda dW, x: dW / len(x)),
              _changed(second=lambda dW, x: dW / len(x)),
              _changed(lambda dW, x: dW / len(x), lambda dW, x: dW / len(x)),
              says="At least one of the gradients was divided by N twice: where the error begins, and again "
                   "at the product.",
              hint="Count the divisions on the way from the loss to each weight.", credit=0.5),
        wrong("mean over the pixels", _changed(lambda dW, x: dW / x.shape[1], lambda dW, x: dW / x.shape[1]),
              _changed(lambda dW, x: len(x) * dW / x.shape[1], lambda dW, x: len(x) * dW / x.shape[1]),
              says="You divided by the number of pixels, as a mean over all entries does. The loss is a sum "
                   "over pixels.",
              hint="`.mean()` of (N, D) divides by N times D.", credit=0.25),
        wrong("a factor of 2", _changed(lambda dW, x: 2 * dW, lambda dW, x: 2 * dW),
              says="Everything is twice too large: the 2 of a squared error. The cross-entropy has none.",
              hint="What is the derivative of softplus(a) − x a?"),
        wrong("the way back through W1", _back(back=lambda p, delta: delta @ p.W1.mT),
              says="The error goes back through W1. It fits, since both matrices join the same two layers; "
                   "but the logits were made with W2, and that is the way back.",
              hint="How much does the logit a_i change, if h_j changes a little?"),
        wrong("W2 the wrong way round", _only_where(_one_size, _back(back=lambda p, delta: delta @ p.W2.mT)),
              _back(back=lambda p, delta: delta @ p.W2.reshape(p.W2.shape[1], p.W2.shape[0]).mT),
              says="Back through W2 the sum is over the pixels, its first index. You sum over the second (or "
                   "have reshaped the matrix).",
              hint="The error is (N, D) and W2 is (D, L). Which product is (N, L)?"),
        wrong("gradients transposed", _changed(lambda dW, x: dW.mT, lambda dW, x: dW.mT),
              _changed(first=lambda dW, x: dW.mT), _changed(second=lambda dW, x: dW.mT),
              says="A gradient is transposed: it must have the shape of its matrix, W1 (L, D) and W2 (D, L), "
                   "so that one can be subtracted from the other.",
              hint="`delta.T @ input`, not `input.T @ delta`.", credit=0.5),
        wrong("the two exchanged", Slip(lambda *case: _back().parts(*case)[::-1]),
              says="The gradients are right and come in the other order.",
              hint="First dW1, then dW2.", credit=0.5),
        wrong("product of means", _back(first=lambda p, delta: torch.outer(delta.sum(0), p.x.mean(0)),
                                        second=lambda p, delta: torch.outer(delta.sum(0), p.h.mean(0))),
              _back(second=lambda p, delta: torch.outer(delta.sum(0), p.h.mean(0))),
              says="You averaged errors and states over the batch before you multiplied them. Each picture's "
                   "error belongs to its own state.",
              hint="Multiply first, for each picture, and average then: `delta.T @ h` does both."),
        wrong("the encoder left out", _changed(first=lambda dW, x: 0 * dW),
              says="dW1 is 0: the error was not sent back through the decoder. The code depends on W1, so "
                   "the loss does.",
              hint="If W1 changes, does h? And a?", credit=0.25),
    ),
    teaching_notes="Let the shapes lead: with a row a picture there is one product that fits at each step, "
                   "except for the two that fit and are wrong (back through W1, and square layers). Then "
                   "check by finite differences, one weight at a time; and ask how many forward passes that "
                   "would take for a million weights.")
def backprop(x: torch.Tensor, W1: torch.Tensor, W2: torch.Tensor
             ) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of the mean loss of an autoencoder with one hidden layer.

    x: (N, D), from 0 to 1; W1: (L, D), encoder; W2: (D, L), decoder;
    returns dW1, (L, D), and dW2, (D, L).
    """
    h = torch.sigmoid(x @ W1.T)
    xhat = torch.sigmoid(h @ W2.T)
    delta2 = (xhat - x) / len(x)
    delta1 = delta2 @ W2 * h * (1 - h)
    return delta1.T @ x, delta2.T @ h


# --- the loss of a denoising autoencoder --------------------------------------------------------------------

OWN_CHANCE = "chance of your own"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ChanceExercise(LogitExercise):
    """A function that is given its chance: one that draws for itself answers each call differently."""

    def refused(self, refusal: Refusal) -> Verdict:
        if "two answers" not in refusal.message:
            return super().refused(refusal)
        found = next(one for one in self.misconceptions if one.name == OWN_CHANCE)
        return self.failed(f"{found.says} {refusal.message}", misconception=found.name, facts=refusal.facts,
                           hint=found.hint, share=found.credit)


def _masked_cases(generator: torch.Generator) -> Iterator[tuple]:
    """(x, uniforms, share, W, b): small ones; in each some pixels are masked and some are kept."""
    sizes = ((1, 2, 0.4, False), (2, 2, 0.3, False), (2, 3, 0.4, True), (3, 2, 0.2, True), (3, 3, 0.7, False),
             (4, 3, 0.3, True))
    for batch, pixels, share, grey in sizes:
        uniforms = (torch.randint(100, (batch, pixels), generator=generator).to(torch.float64) + 0.5) / 100
        uniforms[0, 0], uniforms[0, 1] = 0.115, 0.855      # x[0, 0] is on, and masked
        if batch > 1:
            uniforms[1, 0], uniforms[1, 1] = 0.945, 0.075
        x = _pixels(generator, batch, pixels, grey)
        x[-1, -1] = 1.0
        W, b = _signed(generator, pixels, pixels, most=15), _signed(generator, pixels, most=9)
        if batch == 1:      # logits that could be probabilities
            W, b = W.abs() / 5, b.abs() / 3
        yield x, uniforms, share, W.round(decimals=2), b.round(decimals=2)


def _denoising_by_loops(x: Tensor, uniforms: Tensor, share: float, W: Tensor, b: Tensor) -> Tensor:
    losses, weights, biases = [], W.tolist(), b.tolist()
    for picture, chance in zip(x.tolist(), uniforms.tolist()):
        seen = [0.0 if u < share else value for value, u in zip(picture, chance)]
        logits = [bias + math.fsum(w * value for w, value in zip(row, seen))
                  for row, bias in zip(weights, biases)]
        losses.append(math.fsum(map(_loss_of_pixel, picture, logits)))
    return torch.tensor(losses, dtype=torch.float64)


def _mask(x: Tensor, uniforms: Tensor, share: float) -> Tensor:
    return torch.where(uniforms < share, 0.0, x)


def _denoise(corrupt: Callable = _mask, target: Callable = lambda x, seen, masked: x,
             pixel: Callable = _bce, collect: Callable = lambda loss, masked: loss.sum(1),
             logits: Callable = lambda seen, W, b: seen @ W.mT + b) -> Callable:
    """A mutant with another corruption, target, loss of a pixel, sum over pixels or way to the logits."""
    def mutant(x: Tensor, uniforms: Tensor, share: float, W: Tensor, b: Tensor) -> Tensor:
        seen, masked = corrupt(x, uniforms, share), uniforms < share
        return collect(pixel(target(x, seen, masked), logits(seen, W, b)), masked)
    return mutant


def _not_corrupted(x: Tensor, uniforms: Tensor, share: float) -> Tensor:
    return x


def _fresh(x: Tensor, uniforms: Tensor, share: float) -> Tensor:
    """Masked by numbers from a generator of its own, made anew."""
    own = torch.Generator().manual_seed(0)
    return _mask(x, torch.rand(x.shape, generator=own, dtype=x.dtype), share)


def _mask_on_logits(x: Tensor, uniforms: Tensor, share: float, W: Tensor, b: Tensor) -> Tensor:
    return _bce(x, _mask(x @ W.mT + b, uniforms, share)).sum(1)


@autoencoder_exercise(
    ChanceExercise, title="The loss of a denoising autoencoder", difficulty=2, minutes=15, points=3,
    equations=("eq-ae-denoising", "eq-ae-logits"),
    statement="""
        A denoising autoencoder sees a corrupted picture $\\tilde x$ and must give back the clean one. Corrupt
        by masking: each pixel of each picture is set to 0 with probability `share`, whatever becomes of the
        others. The chance is given to you: pixel $i$ of picture $n$ is masked if `uniforms[n, i]` is
        **below** `share`. So there is one right answer.

        The machine is so small that encoder and decoder are one matrix: its logits are
        $a = W \\tilde x + b$. Return the cross-entropy of each picture, in nats,

        $$\\ell_n = \\sum_{i=1}^D \\big[\\operatorname{softplus}(a_{ni}) - x_{ni}\\, a_{ni}\\big]$$""",
    hints=("Three lines: the corrupted pictures, the logits that the machine makes of them, the loss. "
           "Underline in each line whether it needs x or x̃.",
           "`torch.where(uniforms < share, 0.0, x)` is x̃, with a mask of its own for each picture. A "
           "picture is a row, so W x̃ is `corrupted @ W.T`.",
           "The target is the clean x: `(torch.nn.functional.softplus(a) - x * a).sum(1)`."),
    truth=_denoising_by_loops, cases=_masked_cases,
    must=(("a cross-entropy is never negative.", lambda yours, *case: (yours >= -1e-6).all()),
          ("a picture of which every pixel stays costs what it costs an ordinary autoencoder.",
           lambda yours, x, uniforms, share, W, b: all(
               abs(float(one - other)) < 1e-2 for one, other, row in
               zip(yours, _bce(x, x @ W.mT + b).sum(1), uniforms) if (row >= share).all()))),
    on_the_way=lambda x, uniforms, share, W, b: {
        "masked": (uniforms < share).to(x), "corrupted": _mask(x, uniforms, share),
        "logits": _mask(x, uniforms, share) @ W.mT + b},
    misconceptions=(
        wrong("compared with the corrupted picture", _denoise(target=lambda x, seen, masked: seen),
              says="The target in your loss is the corrupted picture: an ordinary autoencoder of masked "
                   "pictures, which learns to put the holes back.",
              hint="What should the machine say about a pixel that was masked?"),
        wrong("nothing is corrupted", _denoise(corrupt=_not_corrupted),
              says="The machine sees the clean picture: this is the ordinary autoencoder's loss. With as "
                   "many hidden units as pixels, the identity would be perfect.",
              hint="Which of x and x̃ goes into the machine?"),
        wrong("clean in, corrupted out",
              lambda x, uniforms, share, W, b: _bce(_mask(x, uniforms, share), x @ W.mT + b).sum(1),
              says="Input and target are exchanged: the machine sees the clean picture and is asked for the "
                   "corrupted one, so it learns to make noise.",
              hint="What will be given to it afterwards, when it is used to clean?"),
        wrong("one mask for all pictures", _denoise(corrupt=lambda x, u, share: _mask(x, u[:1], share)),
              _denoise(corrupt=lambda x, u, share: _mask(x, u[-1:], share)),
              says="All pictures of the batch have the same mask, that of one row. Then in one step the "
                   "machine sees the same pixels of every picture, and its gradients are noisier.",
              hint="Which shape has `uniforms`, and which has your mask?"),
        wrong("whole pictures masked", _denoise(corrupt=lambda x, u, share: _mask(x, u[:, :1], share)),
              _denoise(corrupt=lambda x, u, share: _mask(x, u.mean(1, keepdim=True), share)),
              says="A picture is masked as a whole or not at all. Each pixel has its own number in "
                   "`uniforms`.",
              hint="Can one guess a picture of which nothing is left?"),
        wrong("the wrong pixels masked",
              _denoise(corrupt=lambda x, u, share: torch.where(u >= share, 0.0, x)),
              _denoise(corrupt=lambda x, u, share: _mask(x, u, 1 - share)),
              _denoise(corrupt=lambda x, u, share: torch.where(u > 1 - share, 0.0, x)),
              says="You masked where the uniform number is not below `share` (or kept a share in the place "
                   "of masking it).",
              hint="With share = 0, how many pixels must be masked?"),
        wrong("kept pixels scaled", _denoise(corrupt=lambda x, u, share: _mask(x, u, share) / (1 - share)),
              _denoise(corrupt=lambda x, u, share: _mask(x, u, share) / share),
              says="You divided the pixels that stay by 1 − share, as dropout does for hidden units. A pixel "
                   "that stays has its own value here.",
              hint="`torch.nn.functional.dropout` does more than mask. What may a pixel's value be?"),
        wrong("scaled and not masked", _denoise(corrupt=lambda x, u, share: (1 - share) * x),
              _denoise(corrupt=lambda x, u, share: share * x),
              says="You multiplied every pixel by the same number. That is the mean of the corruption; no "
                   "pixel is missing.",
              hint="Where in your code is each pixel compared with its number in `uniforms`?"),
        wrong("multiplied by the chance", _denoise(corrupt=lambda x, u, share: u * x),
              _denoise(corrupt=lambda x, u, share: torch.where(u < share, u, x)),
              _denoise(corrupt=lambda x, u, share: x + share * u),
              _denoise(corrupt=lambda x, u, share: x + u),
              says="The uniform numbers themselves have got into the picture. They only decide which pixels "
                   "are masked.",
              hint="Make a mask of them, `uniforms < share`, before anything else."),
        wrong("masked to another value", _denoise(corrupt=lambda x, u, share: torch.where(u < share, 1.0, x)),
              _denoise(corrupt=lambda x, u, share: torch.where(u < share, 0.5, x)),
              _denoise(corrupt=lambda x, u, share: torch.where(u < share, -1.0, x)),
              _denoise(corrupt=lambda x, u, share: torch.where(u < share, x.mean(), x)),
              says="You set masked pixels to another value. Here it is 0, the paper of the digits.",
              hint="What does a masked pixel add to W x̃?"),
        wrong("pixels turned over", _denoise(corrupt=lambda x, u, share: torch.where(u < share, 1 - x, x)),
              says="You turned pixels over, 1 − x: another noise, in which the machine must find out which "
                   "pixels lie. Masked ones are 0.",
              hint="What becomes of a pixel that is off and is masked?"),
        wrong("share not used", _denoise(corrupt=lambda x, u, share: _mask(x, u, 0.5)),
              says="You compared with 0.5. The probability of masking is `share`.",
              hint="Which of the arguments did you not use?"),
        wrong(OWN_CHANCE, _denoise(corrupt=_fresh),
              says="You drew random numbers of your own. The chance is given in `uniforms`, so that your "
                   "answer can be compared (and a training run repeated).",
              hint="Which of the arguments did you not use?", credit=0.25),
        wrong("logits masked", _mask_on_logits,
              says="The mask falls on the logits, behind the machine. It belongs on the picture, in front of "
                   "it.",
              hint="In which order: machine, then mask, or mask, then machine?"),
        wrong("masked pixels only", _denoise(collect=lambda loss, masked: (loss * masked).sum(1)),
              _denoise(collect=lambda loss, masked: (loss * masked).sum(1) / masked.sum(1).clamp(min=1)),
              _denoise(collect=lambda loss, masked: (loss * masked).sum(1) / masked.sum(1)),
              says="Your loss counts the masked pixels only. (Masked autoencoders of a later age do that; "
                   "here every pixel of the clean picture is asked for.)",
              hint="The sum in the statement runs over all D pixels.", credit=0.25),
        wrong("kept pixels only", _denoise(collect=lambda loss, masked: (loss * ~masked).sum(1)),
              says="Your loss counts only pixels that the machine has seen: what it guesses for the others "
                   "is never judged.",
              hint="Which pixels must it learn to fill in?"),
        wrong("mean over the pixels", _denoise(collect=lambda loss, masked: loss.mean(1)),
              says="You averaged over the pixels. Losses in nats are summed.",
              hint="Two pixels that are each missed by log 2: how many nats together?", credit=0.5),
        wrong("one number for the batch", _denoise(collect=lambda loss, masked: loss.sum()),
              _denoise(collect=lambda loss, masked: loss.mean()),
              _denoise(collect=lambda loss, masked: loss.sum(1).mean()),
              says="You added (or averaged) over the pictures as well. Each picture has its own loss.",
              hint="Sum over the pixels only: `.sum(1)`.", credit=0.25),
        wrong("W the wrong way round", _denoise(logits=lambda seen, W, b: seen @ W + b),
              says="Logit i is Σ_j W_ij x̃_j: the sum is over the second index of W. It fits either way, "
                   "since W is square.",
              hint="A picture is a row here: W x̃ becomes `corrupted @ W.T`."),
        wrong("b forgotten", _denoise(logits=lambda seen, W, b: seen @ W.mT),
              says="The biases b are missing from the logits.",
              hint="What are the logits of a picture of which every pixel is masked?"),
        wrong("squared error", _denoise(pixel=lambda x, a: (x - a)**2),
              _denoise(pixel=lambda x, a: (x - a.sigmoid())**2),
              says="This is the squared error. The decoder is a Bernoulli one: cross-entropy.",
              hint="The loss of a pixel is softplus(a) − x a."),
        wrong(UNSQUASHED, _denoise(pixel=_of_shares), _denoise(pixel=_of_shares_or_0),
              says="You took logarithms of the logits themselves. The probability is their sigmoid.",
              hint="What is the probability of a pixel whose logit is −2?"),
        wrong("sigmoid twice", _denoise(pixel=lambda x, a: _bce(x, a.sigmoid())),
              says="The sigmoid is applied twice: the loss of logits wants the logit itself.",
              hint="Does the function that you call want logits or probabilities?"),
        wrong("the sign", _denoise(collect=lambda loss, masked: -loss.sum(1)),
              says="This is log p, which is climbed. The loss is −log p.",
              hint="Can a cross-entropy be negative?"),
    ),
    teaching_notes="The exercise is one line of thought: who sees what. Let the class write x or x̃ into the "
                   "three gaps before any code. Then ask what the best machine says about a masked pixel: "
                   "its mean, given the pixels that are left.")
def denoising_loss(x: torch.Tensor, uniforms: torch.Tensor, share: float,
                   W: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The loss of each picture when a share of its pixels is masked, nats.

    x: (batch, D), clean, from 0 to 1; uniforms: (batch, D), from 0 to 1;
    share: probability that a pixel is set to 0; W: (D, D), b: (D,), of the
    machine, whose logits are W x + b; returns (batch,), summed over pixels.
    """
    corrupted = torch.where(uniforms < share, 0.0, x)
    a = corrupted @ W.T + b
    return (torch.nn.functional.softplus(a) - x * a).sum(1)


EXERCISES = (gaussian_proof, cross_entropy_from_logits, logit_gradient_proof, pca_proof, pca, backprop,
             denoising_loss)
_help = Help(EXERCISES)
hint, solution = _help.hint, _help.solution
