"""The exercises of chapter 4, variational autoencoders. `nemlib.exercises` tells how to add one.

No truth below comes from the model's own code. Means under a Gaussian are sums over the points of
Gauss–Hermite quadrature, which are exact for the polynomials that stand here; means under a law of few codes
are enumerated.
"""

import ast
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, softplus

from nemlib.exercises.answers import Refusal, as_tensor, quietly, show, show_case, within
from nemlib.exercises.core import FunctionExercise, Help, agree, wrong
from nemlib.exercises.derivation import Instance, LongDerivation, Step
from nemlib.exercises.expressions import expression, names_in
from nemlib.exercises.forms import normal_form
from nemlib.exercises.layers import GradualExercise
from nemlib.exercises.verdict import Verdict

__all__ = ["EXERCISES", "hint", "solution", "elbo_proof", "kl_proof", "gaussian_kl", "score_proof",
           "reparameterise", "negative_elbo", "iwae_proof", "importance_bound", "free_bits"]

LOG_TWO = math.log(2)


# --- small laws, and means that are exact -------------------------------------------------------------------

def _quadrature(points: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Points and weights that give the mean of e^k under N(0, 1) exactly for k < 2·points."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    return tuple(nodes.tolist()), tuple((weights / weights.sum()).tolist())


def _shares(generator: torch.Generator, count: int) -> tuple[float, ...]:
    """A law of tenths that add to 1, none of them 0."""
    cuts = (torch.randperm(9, generator=generator)[:count - 1].sort().values + 1).tolist()
    return tuple((end - start) / 10 for start, end in zip((0, *cuts), (*cuts, 10)))


def _tenth(generator: torch.Generator, low: int, high: int) -> float:
    """A random number of tenths from low/10 to high/10, but not 1."""
    value = int(torch.randint(low, high, (1,), generator=generator))
    return (value + (value >= 10)) / 10


def _shown(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def _own(tree: ast.expr, *given: str) -> bool:
    """Whether a line is none of these expressions rearranged."""
    return normal_form(tree) not in {normal_form(expression(text)) for text in given}


# --- the exact identity (derivation) ------------------------------------------------------------------------

def _code_instances(generator: torch.Generator) -> list[Instance]:
    """One picture x and a latent variable with two to four values; all laws are tables."""
    return [_code_instance(count, generator) for count in (2, 2, 3, 3, 4)]


def _tables(count: int, generator: torch.Generator) -> tuple[tuple[float, ...], tuple, tuple]:
    """p(z), p(x | z) and q(z); q is neither the prior nor, since p(x | z) is not flat, the posterior."""
    prior = _shares(generator, count)
    like = tuple((torch.randperm(9, generator=generator)[:count] + 1).div(10).tolist())
    like = tuple(round(value, 1) for value in like)
    q = _shares(generator, count)
    while sorted(q) == sorted(prior):
        q = _shares(generator, count)
    return prior, like, q


def _code_instance(count: int, generator: torch.Generator) -> Instance:
    prior, like, q = _tables(count, generator)
    joint = [one * other for one, other in zip(prior, like)]
    px = math.fsum(joint)
    post = [value / px for value in joint]
    tables = {"prior": prior, "like": like, "joint": joint, "post": post, "q": q}
    symbols = {name: dict(enumerate(table)).__getitem__ for name, table in tables.items()}
    shown = f"prior = {_shown(prior)}, like = {_shown(like)}, q = {_shown(q)}"
    return Instance(shown, {**symbols, "px": px, "codes": tuple(range(count))})


def _under_q(term: str, weight: str = "q(z)*", rest: str = "") -> str:
    return f"sum({weight}{term} for z in codes{rest})"


_ELBO = _under_q("log(joint(z)/q(z))")
_GAP = _under_q("log(q(z)/post(z))")


def _shows_bayes(tree: ast.expr) -> bool:
    """A line of the reader's own in which a mean under q holds the evidence or the posterior."""
    names = names_in(tree)
    bayes = "post" in names or {"px", "joint"} <= names
    return {"q", "log"} <= names and bayes and _own(tree, f"{_ELBO} + {_GAP}", _GAP)


elbo_proof = LongDerivation(
    name="elbo_proof", title="The bound, and what is missing from it", chapter=4, difficulty=1, minutes=12,
    points=3, equations=("eq-vae-marginal", "eq-vae-elbo", "eq-vae-identity"),
    statement="""
        Jensen's inequality says that the bound is at most $\\log p(x)$. It does not say by how much. Show
        that the gap is a divergence, exactly and for every $q$ that gives each code some probability:

        $$\\log p(x) = \\mathbb{E}_q \\log \\frac{p(x, z)}{q(z)} + \\mathrm{KL}(q \\,\\|\\, p(z \\mid x))$$

        Here $z$ has a few values only, the codes, so that each mean is a sum that can be worked out; no step
        needs more. The inequality follows, since a divergence is never negative. Fill in the lines marked
        `...`, or write a chain of your own.""",
    symbols=(("px", "p(x)", "probability of the picture, the sum of $p(x, z)$ over all codes"),
             ("prior(z), like(z)", "p(z),\\; p(x \\mid z)", "prior, and likelihood of the picture"),
             ("joint(z)", "p(x, z)", "`prior(z)*like(z)`, also `px*post(z)`"),
             ("post(z)", "p(z \\mid x)", "posterior, `joint(z)/px`"),
             ("q(z)", "q(z)", "any law of the codes; it adds to 1"),
             ("codes", "z", "all codes")),
    chain=f"""
        log(px)
        = {_under_q("log(px)")}                  # q adds to 1
        = {_under_q("log(joint(z)/post(z))")}    # Bayes, for p(x)
        = {_under_q("(log(joint(z)) - log(post(z)))")}    # log of a quotient
        = {_ELBO}
          + {_GAP}     # log q(z), out and in
        """,
    blanks=(2, 3, 4), least_lines=2, instances=_code_instances,
    nearly="One more line: bring the mean under q in first, and use Bayes then (or the other way round).",
    landmarks=(Step("Show where the posterior comes from: a line of your own with a mean under q of log "
                    "p(x), or of a logarithm that holds p(z | x).", test=_shows_bayes),),
    hints=("log p(x) holds no z. So its mean under any law of z is log p(x) itself: write that mean down.",
           "Bayes' rule, solved for the evidence: p(x) = p(x, z)/p(z | x), whichever z you take. Put it "
           "under the mean.",
           "In log(joint/post), multiply and divide by q(z): log(joint/q) + log(q/post). Their two means "
           "under q are the bound and the divergence."),
    misconceptions=(
        wrong("the gap left out", _ELBO,
              says="This is the bound alone. It equals log p(x) only where q is the posterior: the chain is "
                   "of equals signs, and Jensen's inequality is none.",
              hint="What do you have to add to log(joint/q) to get log(joint/post)?"),
        wrong("the gap alone", _GAP,
              says="This is the divergence of q from the posterior, the gap. The bound is missing.",
              hint="How does p(x) itself enter your line?"),
        wrong("gap subtracted", f"{_ELBO} - {_GAP}", f"{_ELBO} + {_under_q('log(post(z)/q(z))')}",
              says="The divergence has the wrong sign. It is never negative, and the bound is below log "
                   "p(x), so it must be added (with q above and the posterior below).",
              hint="log(joint/post) = log(joint/q) + log(what over what)?"),
        wrong("divergence the other way round", f"{_ELBO} + {_under_q('log(post(z)/q(z))', 'post(z)*')}",
              says="You have KL(posterior ‖ q), a mean under the posterior. Every mean here is under q: KL(q "
                   "‖ posterior). The two are different numbers.",
              hint="Under which law did you take the mean in the first step?"),
        wrong("gap to the prior", f"{_ELBO} + {_under_q('log(q(z)/prior(z))')}", _under_q("log(like(z))"),
              says="That is the divergence from the prior, which is a part of the bound; with it only the "
                   "reconstruction, the mean of log p(x | z), is left. The gap is the divergence from the "
                   "posterior.",
              hint="If q were the posterior, the gap must vanish. Does yours?"),
        wrong("prior lost", f"{_under_q('log(like(z)/q(z))')} + {_GAP}", _under_q("log(like(z)/post(z))"),
              _under_q("log(like(z)/q(z))"),
              says="You have p(x | z) in the place of p(x, z) = p(z) p(x | z): the prior is lost.",
              hint="What does Bayes' rule have above the line, and what below?"),
        wrong("entropy lost", f"{_under_q('log(joint(z))')} + {_GAP}", _under_q("log(joint(z))"),
              says="The mean of log p(x, z) has lost what divides it: q(z) in the bound (whose mean "
                   "logarithm is minus the entropy), or the posterior in Bayes' rule.",
              hint="Which quotient stood under the logarithm?"),
        wrong("entropy with the wrong sign", f"{_under_q('log(joint(z)*q(z))')} + {_GAP}",
              _under_q("log(joint(z)*q(z))"),
              says="p(x, z) is multiplied by q(z) under the logarithm. It is divided by it: a weight of "
                   "importance sampling is target over proposal.",
              hint="Is minus the mean of log q an entropy, or is plus?"),
        wrong("not divided by the proposal", f"log({_under_q('joint(z)')})", f"log({_under_q('like(z)')})",
              says="This is the logarithm of a mean of p(x, z) (or of p(x | z)) under q. It is p(x, z)/q(z) "
                   "whose mean is p(x).",
              hint="Which terms has the sum of p(x, z) over all codes, and which has yours?"),
        wrong("weights of the mean forgotten", _under_q("log(px)", ""), "len(codes)*log(px)",
              _under_q("log(joint(z)/post(z))", ""),
              says="You added over the codes without q(z): every code counts fully, and log p(x) comes as "
                   "often as there are codes.",
              hint="What does your sum give for a constant, say 1 in the place of the logarithm?"),
        wrong("mean under another law", f"{_under_q('log(joint(z)/q(z))', 'post(z)*')} + {_GAP}",
              f"{_under_q('log(joint(z)/q(z))', 'prior(z)*')} + {_GAP}",
              _under_q("log(joint(z)/q(z))", "post(z)*"), _under_q("log(joint(z)/q(z))", "prior(z)*"),
              says="The mean of log(p(x, z)/q(z)) is taken under the posterior or the prior. It is a mean "
                   "under q: the codes are drawn from q.",
              hint="Which law can you draw from, if nobody knows the posterior?"),
        wrong("Bayes upside down", _under_q("log(post(z)/joint(z))"), "-log(px)",
              says="This is −log p(x). Bayes: the posterior is p(x, z)/p(x), so p(x) is p(x, z) over the "
                   "posterior.",
              hint="Which is larger, p(x, z) or p(z | x)?"),
        wrong("Bayes as a product", _under_q("log(joint(z)*post(z))"),
              f"{_under_q('(log(joint(z)) + log(post(z)))')}",
              says="You multiplied p(x, z) by the posterior (or added their logarithms). Bayes' rule "
                   "divides.",
              hint="posterior = joint/evidence. Solve it for the evidence."),
        wrong("posterior for the joint", f"{_under_q('log(post(z)/q(z))')} + {_GAP}",
              _under_q("log(post(z)/q(z))"), _under_q("log(post(z))"),
              says="The posterior stands where p(x, z) must: it has been divided by p(x) already, and so "
                   "p(x) is lost.",
              hint="Add your numerator over all codes. Do you get p(x), or 1?"),
        wrong("logarithm lost", "px", _under_q("joint(z)/post(z)"), "exp(-log(px))",
              says="The logarithm is gone (or one too many exponentials came): this is p(x) itself, or its "
                   "inverse.",
              hint="Is log p(x) positive or negative here?"),
        wrong("quotient of logarithms", _under_q("log(joint(z))/log(post(z))"),
              f"{_under_q('log(joint(z))/log(q(z))')} + {_under_q('log(q(z))/log(post(z))')}",
              says="You divided logarithms. The logarithm of a quotient is a difference of logarithms.",
              hint="log(8/2) is log 4. What is log 8/log 2?"),
    ),
    teaching_notes="Ask what changes with q on the left side: nothing. So whatever raises the bound lowers "
                   "the gap, and training q is approximating the posterior though nobody ever computed it. "
                   "Then ask the same of the decoder's parameters: there the left side moves too.")


# --- the divergence of a Gaussian from the prior (derivation) -----------------------------------------------

def _gaussian_instances(generator: torch.Generator) -> list[Instance]:
    """q = N(μ, σ²) with a μ of either sign, neither 0 nor ±1, and a σ that is not 1."""
    return [_gaussian_instance(sign * _tenth(generator, 2, 20), _tenth(generator, low, low + 8))
            for sign, low in ((1, 2), (-1, 11), (1, 12), (-1, 3), (1, 5))]


def _gaussian_instance(mu: float, sigma: float) -> Instance:
    nodes, weights = _quadrature(6)
    mass = {mu + sigma * node: weight for node, weight in zip(nodes, weights)}

    def density(mean: float, deviation: float) -> Callable[[float], float]:
        scale = deviation * math.sqrt(2 * math.pi)
        return lambda z: math.exp(-(((z - mean) / deviation) ** 2) / 2) / scale

    symbols = {"mu": mu, "sigma": sigma, "pi": math.pi, "q": density(mu, sigma), "p": density(0.0, 1.0),
               "w": mass.__getitem__, "points": tuple(mass)}
    return Instance(f"mu = {mu:g}, sigma = {sigma:g}", symbols)


def _mean(term: str) -> str:
    return f"sum(w(z)*{term} for z in points)"


_KL = "(mu**2 + sigma**2 - 1 - log(sigma**2))/2"
_KL_GIVEN = _mean("log(q(z)/p(z))")


def _written_out(tree: ast.expr) -> bool:
    """A mean over the points in which the densities have been replaced by what they are."""
    sums = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.func.id == "sum"]
    return any("points" in names_in(node) and not names_in(node) & {"p", "q"} for node in sums)


kl_proof = LongDerivation(
    name="kl_proof", title="The divergence in closed form", chapter=4, difficulty=2, minutes=18, points=3,
    equations=("eq-vae-entropy", "eq-vae-cross", "eq-vae-kl"),
    statement="""
        The encoder's $q = \\mathcal{N}(\\mu, \\sigma^2)$ and the prior $p = \\mathcal{N}(0, 1)$, for one
        latent unit. Show, step by step, that

        $$\\mathrm{KL}(q \\,\\|\\, p) = \\int q(z) \\log \\frac{q(z)}{p(z)} \\, dz
        = \\frac12 \\big(\\mu^2 + \\sigma^2 - 1 - \\log \\sigma^2\\big)$$

        A mean under $q$ is written as a sum over points: `sum(w(z)*f(z) for z in points)` is $\\int q(z) f(z)
        dz$. (There are six points, those of Gauss–Hermite quadrature; for a polynomial $f$ of a degree below
        12 the sum is the integral, exactly.) The first two moments are all you need: $\\mathbb{E} z = \\mu$
        and $\\mathbb{E} (z - \\mu)^2 = \\sigma^2$. Fill in the lines marked `...`, or write a chain of your
        own.""",
    symbols=(("mu, sigma", "\\mu,\\; \\sigma", "mean and standard deviation of $q$"),
             ("q(z), p(z)", "q(z),\\; p(z)", "the two densities"),
             ("w(z)", "q(z)\\, dz", "weight of a point; the weights add to 1"),
             ("points", "z \\in \\mathbb{R}", "the points"),
             ("pi", "\\pi", "3.14159…")),
    chain=f"""
        {_KL_GIVEN}
        = {_mean("(log(q(z)) - log(p(z)))")}      # log of a quotient
        = sum(w(z)*(-log(2*pi*sigma**2)/2 - (z - mu)**2/(2*sigma**2)
                    + log(2*pi)/2 + z**2/2) for z in points)      # both densities
        = ({_mean("(z**2 - (z - mu)**2/sigma**2)")}
           - log(sigma**2))/2      # 2π cancels
        = ({_mean("z**2")} - 1 - log(sigma**2))/2      # the variance is σ²
        = {_KL}
        """,
    blanks=(2, 3, 4, 5), least_lines=2, instances=_gaussian_instances,
    forms=("(mu**2 + sigma**2 - 1)/2 - log(sigma)", "(mu**2 + sigma**2 - 1 + log(1/sigma**2))/2",
           "(mu**2 + sigma**2 - 1 + log(sigma**-2))/2", "(mu**2 + sigma**2 - 1)/2 + log(1/sigma)"),
    nearly="One more line: put both densities in first, and take the moments in a second step.",
    landmarks=(Step("Show the moments: a line in which the densities are written out, and a mean of z² or of "
                    "(z − μ)² over the points is still to be taken.", test=_written_out),),
    hints=("Write the logarithm as a difference, and then both log-densities out. log q(z) is −log(2πσ²)/2 − "
           "(z − μ)²/(2σ²); what is log p(z)?",
           "What holds no z comes out of the mean, since the weights add to 1. What cancels between the two "
           "normalisers? Two means are left, one of z² and one of (z − μ)².",
           "The mean of (z − μ)² is σ², which over σ² makes 1. The mean of z² is the variance plus the "
           "square of the mean, μ² + σ². Halve all of it."),
    misconceptions=(
        wrong("one half forgotten", "mu**2 + sigma**2 - 1 - log(sigma**2)",
              says="Every term is twice too large: the exponent of a Gaussian has a ½, and the normaliser is "
                   "a root.",
              hint="What stands before (z − μ)² in the exponent?"),
        wrong("sign of the log-variance", "(mu**2 + sigma**2 - 1 + log(sigma**2))/2",
              says="log σ² is added. log q(z) holds −log(σ²)/2, and it comes with a plus: the divergence "
                   "grows without bounds as σ goes to 0.",
              hint="For μ = 0, at which σ is your result least? It should be 0 at σ = 1, and least there."),
        wrong("log σ for log σ²", "(mu**2 + sigma**2 - 1 - log(sigma))/2",
              says="You have log σ under the ½. The normaliser of q is the root of 2πσ², so it is half of "
                   "log σ², or the whole of log σ.",
              hint="Is log σ² twice log σ, or half of it?"),
        wrong("standard deviation for variance", "(mu**2 + sigma - 1 - log(sigma))/2",
              "(mu**2 + sigma - 1 - log(sigma**2))/2", "(mu**2 + sigma**2 - 1)/2 - log(sigma**2)",
              says="σ and σ² are mixed up. The mean of (z − μ)² is the variance, σ²; beside it stands log "
                   "σ², both under the same ½.",
              hint="Put μ = 0 and look for the least value over σ. A divergence is never negative: is "
                   "yours?"),
        wrong("variance squared", "(mu**2 + sigma**4 - 1 - log(sigma**4))/2",
              "(mu**2 + sigma**4 - 1 - log(sigma**2))/2",
              says="σ² has been squared once more. The variance of N(μ, σ²) is σ².",
              hint="What is the mean of (z − μ)²?"),
        wrong("1 forgotten", "(mu**2 + sigma**2 - log(sigma**2))/2",
              says="The −1 is lost. It is the mean of (z − μ)²/σ², the exponent of q itself.",
              hint="At μ = 0 and σ = 1 the two laws are the same. Is your result 0 there?"),
        wrong("1 added", "(mu**2 + sigma**2 + 1 - log(sigma**2))/2",
              says="The 1 has the wrong sign: −(z − μ)²/(2σ²) stands in log q, and log q is added.",
              hint="At μ = 0 and σ = 1 the two laws are the same. Is your result 0 there?"),
        wrong("mean not squared", "(mu + sigma**2 - 1 - log(sigma**2))/2",
              "(abs(mu) + sigma**2 - 1 - log(sigma**2))/2",
              says="μ stands there without its square. The mean of z² is μ² + σ².",
              hint="Should the divergence change if μ becomes −μ?"),
        wrong("mean forgotten", "(sigma**2 - 1 - log(sigma**2))/2",
              says="You took the mean of z² for the variance. z is measured from 0 in the prior, not from μ: "
                   "its mean square is μ² + σ².",
              hint="Does it cost nothing to move q away from the prior?"),
        wrong("square of the mean for the mean of the square", "(mu**2 - 1 - log(sigma**2))/2",
              says="You took the mean of z² for μ². The mean of a square is the square of the mean plus the "
                   "variance.",
              hint="For μ = 0, is the mean of z² zero?"),
        wrong("variance subtracted", "(mu**2 - sigma**2 - 1 - log(sigma**2))/2",
              says="You have μ² − σ² for the mean of z². The variance is E z² − (E z)², so E z² is the sum "
                   "of both.",
              hint="Can the mean of a square be negative?"),
        wrong("not divided by the variance", "(mu**2 - log(sigma**2))/2",
              f"({_mean('(z**2 - (z - mu)**2)')} - log(sigma**2))/2",
              says="(z − μ)² has lost its σ² in the denominator: its mean then cancels the σ² of the mean of "
                   "z², and the 1 is lost.",
              hint="Write the exponent of N(μ, σ²) out."),
        wrong("divergence the other way round", "((1 + mu**2)/sigma**2 - 1 + log(sigma**2))/2",
              says="This is KL(p ‖ q), a mean under the prior. Asked for is KL(q ‖ p), a mean under the "
                   "encoder's law.",
              hint="Which of the two divides by σ²? In which does a σ near 0 cost most?"),
        wrong("sign of the divergence", f"-{_KL}", _mean("log(p(z)/q(z))"), _mean("(log(p(z)) - log(q(z)))"),
              says="The sign is turned: this is the mean of log p − log q, which is what the bound holds. "
                   "The divergence is its negative.",
              hint="Is a divergence ever negative?"),
        wrong("one of the two densities only", _mean("log(q(z))"), f"-{_mean('log(p(z))')}",
              "-(1 + log(2*pi*sigma**2))/2", "(log(2*pi) + mu**2 + sigma**2)/2",
              says="This is minus the entropy of q alone, or the cross-entropy alone. The divergence is the "
                   "second minus the first: cross-entropy minus entropy.",
              hint="log(q/p) has two parts. Where is the other?"),
        wrong("2π left over", f"{_KL} + log(2*pi)/2", f"{_KL} - log(2*pi)/2", f"{_KL} + log(2*pi)",
              says="A log(2π) is left over. It stands in both normalisers, and cancels.",
              hint="What is log p(z) at z = 0?"),
    ),
    teaching_notes="Let one half of the class do the entropy and the other the cross-entropy, and put the "
                   "two together on the board. Then ask for the least value when the σ of the second term is "
                   "taken for a variance: −0.193 at log σ² = 1.386. A negative divergence is a bug that one "
                   "can see.")


# --- what the code exercises share --------------------------------------------------------------------------

OWN_NOISE, CUT, FREE_GREY = "noise of your own", "the path is cut", "grey pictures cost nothing"


def code_exercise(kind: type[FunctionExercise] = GradualExercise, **settings: object) -> Callable:
    """Decorates a solution, as `function_exercise` does."""
    return lambda solution: kind(name=solution.__name__, chapter=4, solution=solution, **settings)


def _signed(generator: torch.Generator, *shape: int, most: int = 20) -> Tensor:
    """Random tenths of both signs up to most/10, none of them 0."""
    size = torch.randint(1, most + 1, shape, generator=generator)
    sign = 2 * torch.randint(2, shape, generator=generator) - 1
    return (size * sign).to(torch.float64) / 10


def _float(*rows: object) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


# --- the divergence of a batch ------------------------------------------------------------------------------

# batch and latent units; in one case both are the same
SIZES = ((1, 1), (1, 2), (2, 1), (2, 3), (3, 2), (3, 3), (4, 2))


def _encoded(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """(mean, log_variance): small ones in tenths; then a variance too small for a float64."""
    for batch, latent in SIZES:
        yield _signed(generator, batch, latent), _signed(generator, batch, latent, most=24)
    yield _float([0.5, -1.0], [1.5, 0.5]), _float([-800.0, 0.5], [-1.0, -900.0])


def _kl_by_quadrature(mean: Tensor, log_variance: Tensor) -> Tensor:
    """The mean of log q − log p over six points of each unit's own law, unit by unit."""
    nodes, weights = _quadrature(6)

    def divergence(mu: float, ell: float) -> float:
        logs = [-ell / 2 - e**2 / 2 + (mu + math.exp(ell / 2) * e)**2 / 2 for e in nodes]
        return math.fsum(weight * value for weight, value in zip(weights, logs))

    rows = zip(mean.tolist(), log_variance.tolist())
    return _float(*(math.fsum(map(divergence, *row)) for row in rows))


def _each(mean: Tensor, log_variance: Tensor) -> Tensor:
    """The right divergence of each unit, (batch, latent)."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)


def _units(rule: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    """A mutant with another divergence for a unit, summed over the units as it should be."""
    return lambda mean, log_variance: rule(mean, log_variance).sum(1)


def _reduced(rule: Callable[[Tensor], Tensor]) -> Callable:
    """A mutant with the right divergences of the units, put together otherwise."""
    return lambda mean, log_variance: rule(_each(mean, log_variance))


_WITH_SD = (lambda m, s: 0.5 * (m**2 + (s / 2).exp() - 1 - s),
            lambda m, s: 0.5 * (m**2 + (s / 2).exp() - 1 - s / 2),
            lambda m, s: 0.5 * (m**2 + s.exp() - 1 - s / 2))


@code_exercise(
    title="The divergence of a batch", difficulty=1, minutes=8, points=2, equations=("eq-vae-kl",),
    statement="""
        The encoder gives, for each image and each of $L$ latent units, a mean $\\mu$ and a log-variance
        $\\ell = \\log \\sigma^2$. Compute the divergence from the prior for each image, in nats,

        $$\\mathrm{KL}\\big(\\mathcal{N}(\\mu, \\operatorname{diag} \\sigma^2) \\,\\|\\,
        \\mathcal{N}(0, I)\\big)
        = \\frac12 \\sum_{j=1}^L \\big(\\mu_j^2 + \\sigma_j^2 - 1 - \\log \\sigma_j^2\\big)$$

        without a loop. In one of the cases $\\ell$ is $-800$: then $\\sigma^2$ is 0 in floating point, and
        the answer is an ordinary number all the same.""",
    hints=("Write the divergence of one unit with σ² = exp(ℓ), and look which terms need σ² and which need "
           "its logarithm, which you have already.",
           "Units are independent, so their divergences add. Images stay apart: the answer has shape "
           "(batch,).",
           "0.5 times (mean**2 + exp(log_variance) − 1 − log_variance), summed over the last dimension, "
           "`.sum(-1)`."),
    truth=_kl_by_quadrature, cases=_encoded, level=lambda mean, log_variance: int(log_variance.min() < -100),
    must=(("a divergence is never negative.", lambda yours, *case: (yours >= -1e-6).all()),
          ("it is at least half of the sum of the squared means.",
           lambda yours, mean, log_variance: (yours >= mean.square().sum(1) / 2 - 1e-3).all())),
    on_the_way=lambda mean, log_variance: {"variances": log_variance.exp(),
                                           "of each unit": _each(mean, log_variance)},
    misconceptions=(
        wrong("one half forgotten", _reduced(lambda kl: 2 * kl.sum(1)),
              says="Your divergence is twice too large: the ½ is missing.",
              hint="Where does the exponent of a Gaussian have its ½?"),
        wrong("standard deviation used as variance", *map(_units, _WITH_SD),
              says="A standard deviation stands where the variance must (or half of a log-variance for the "
                   "whole). The variance is exp(ℓ), and exp(ℓ/2) is its root. Such a divergence can be "
                   "negative.",
              hint="With μ = 0 and ℓ = 1.386, is your divergence at least 0?"),
        wrong("log-variance used as variance", _units(lambda m, s: 0.5 * (m**2 + s - 1 - s.log())),
              _units(lambda m, s: 0.5 * (m**2 + s.abs() - 1 - s.abs().log())),
              says="You read the encoder's second output as σ² itself. It is log σ²: any real number, and "
                   "below 0 wherever σ is below 1.",
              hint="What is σ² where ℓ = −2?"),
        wrong("log-variance used as standard deviation",
              _units(lambda m, s: 0.5 * (m**2 + s**2 - 1 - (s**2).log())),
              says="You read the encoder's second output as σ. It is log σ².",
              hint="A standard deviation is positive. Is this number?"),
        wrong("log-variance used as log of σ", _units(lambda m, s: 0.5 * (m**2 + (2 * s).exp() - 1 - 2 * s)),
              says="You took ℓ for log σ and doubled it. It is log σ² already.",
              hint="Is σ² the exponential of ℓ or of 2ℓ?"),
        wrong("exponential forgotten", _units(lambda m, s: 0.5 * (m**2 + s - 1 - s)),
              says="ℓ stands in the place of σ² = exp(ℓ), and then cancels against itself: the variance has "
                   "no part in your divergence.",
              hint="Which of the four terms needs the variance, and which its logarithm?"),
        wrong("a mean over the units", _reduced(lambda kl: kl.mean(1)),
              says="You averaged over the latent units. Independent units' divergences add; the mean is "
                   "smaller by a factor L, and beside a reconstruction that is summed it is a β-VAE in "
                   "disguise.",
              hint="If a second unit with the same μ and σ is put beside the first, what happens to the "
                   "divergence?"),
        wrong("one number for the batch", _reduced(torch.sum), _reduced(torch.mean),
              _reduced(lambda kl: kl.sum(1).mean()), _reduced(lambda kl: kl.sum(1).mean(0, keepdim=True)),
              says="You added (or averaged) over the images too. Each image has its own divergence; average "
                   "when a single loss is wanted.",
              hint="The answer has shape (batch,)."),
        wrong("added over the images", _reduced(lambda kl: kl.sum(0)), _reduced(lambda kl: kl.mean(0)),
              says="You added over the batch, dimension 0, and kept the units apart. Asked for is a number "
                   "for each image.",
              hint="In a tensor of shape (batch, latent), which dimension holds the units?"),
        wrong("not added", _each,
              says="These are the divergences of the single units. Their sum over the units is asked for, "
                   "one number an image.",
              hint="The answer has shape (batch,)."),
        wrong("sign of the divergence", _reduced(lambda kl: -kl.sum(1)),
              says="This is minus the divergence: it is the form that stands in the bound, where the "
                   "divergence is subtracted.",
              hint="Is a divergence ever negative?"),
        wrong("sign of the log-variance", _units(lambda m, s: 0.5 * (m**2 + s.exp() - 1 + s)),
              says="log σ² is added. It is subtracted: without it a law narrower than the prior would cost "
                   "nothing.",
              hint="At which σ is your divergence least, with μ = 0?"),
        wrong("1 forgotten", _units(lambda m, s: 0.5 * (m**2 + s.exp() - s)),
              says="The −1 is lost, which makes L/2 too much.",
              hint="With μ = 0 and ℓ = 0 the two laws are the same. Is your divergence 0?"),
        wrong("1 counted once", lambda m, s: 0.5 * ((m**2 + s.exp() - s).sum(1) - 1),
              says="The −1 is subtracted once an image. It belongs to each unit: it stands under the sum.",
              hint="With μ = 0 and ℓ = 0 for two units, is your divergence 0?"),
        wrong("mean not squared", _units(lambda m, s: 0.5 * (m + s.exp() - 1 - s)),
              _units(lambda m, s: 0.5 * (m.abs() + s.exp() - 1 - s)),
              lambda m, s: 0.5 * (m.sum(1)**2 + (s.exp() - 1 - s).sum(1)),
              says="The squares of the means are not those of the formula: μ stands there bare, or the sum "
                   "was squared and not each mean.",
              hint="Two units with means 1 and −1: what do they cost together?"),
        wrong("mean forgotten", _units(lambda m, s: 0.5 * (s.exp() - 1 - s)),
              says="μ has no part in your divergence. It is μ² that keeps the codes of all images near 0.",
              hint="Does it cost nothing to send every image to a place of its own?"),
        wrong("divergence the other way round", _units(lambda m, s: 0.5 * (s + (1 + m**2) * (-s).exp() - 1)),
              says="This is KL(prior ‖ q). In the bound stands KL(q ‖ prior), a mean under q.",
              hint="Which of the two laws are the codes drawn from?"),
        wrong("bits for nats", _reduced(lambda kl: kl.sum(1) / LOG_TWO),
              says="Your divergence is in bits. Nats are asked for: natural logarithms.",
              hint="Which logarithm has its slope 1 at 1?"),
        wrong("logarithm of an exponential", _units(lambda m, s: 0.5 * (m**2 + s.exp() - 1 - s.exp().log())),
              *(_units(lambda m, s, e=e: 0.5 * (m**2 + s.exp() - 1 - (s.exp() + e).log()))
                for e in (1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-16, 1e-20)),
              *(_units(lambda m, s, e=e: 0.5 * (m**2 + s.exp() - 1 - s.exp().clamp(min=e).log()))
                for e in (1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-16, 1e-20)),
              *(_units(lambda m, s, e=e: 0.5 * (m**2 + s.exp() - 1 - s.clamp(min=e)))
                for e in (-10, -20, -30, -50, -100)),
              says="Right for ordinary variances. You take the logarithm of exp(ℓ) (or hold it off 0 with a "
                   "constant): exp(−800) is 0 in floating point, and log σ² is ℓ itself.",
              hint="Why does the encoder give log σ² and not σ²?", credit=0.5),
    ),
    teaching_notes="Three bugs of the web's VAEs live in this one line: the standard deviation taken for the "
                   "variance, the mean for the sum, the divergence added over a batch and divided later by "
                   "the wrong size. Ask for a test that finds each: a divergence below 0, two equal units, a "
                   "batch of one.")
def gaussian_kl(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """KL(N(mean, exp(log_variance)) ‖ N(0, I)) of each image, nats.

    mean, log_variance: (batch, latent); returns (batch,).
    """
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1)


# --- a draw that gradients pass through ---------------------------------------------------------------------

def _noises(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(mean, log_variance, noise): all in tenths."""
    for count, batch, latent in ((1, 1, 1), (2, 1, 2), (1, 2, 2), (3, 2, 1), (2, 3, 2), (3, 2, 4), (2, 2, 2)):
        yield (_signed(generator, batch, latent), _signed(generator, batch, latent, most=24),
               _signed(generator, count, batch, latent))


def _drawn_by_loops(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Number by number, with the root of the variance."""
    rows, logs = mean.tolist(), log_variance.tolist()
    return _float(*([[mu + math.sqrt(math.exp(ell)) * e for mu, ell, e in zip(*three)]
                     for three in zip(rows, logs, sample)] for sample in noise.tolist()))


def _scaled(scale: Callable[[Tensor], Tensor]) -> Callable:
    """A mutant with another number in the place of σ."""
    return lambda mean, log_variance, noise: mean + scale(log_variance) * noise


def _noised(change: Callable[[Tensor], Tensor]) -> Callable:
    """A mutant that does something to the noise first."""
    return lambda mean, log_variance, noise: mean + (log_variance / 2).exp() * change(noise)


def _fresh(seed: int) -> Callable[[Tensor], Tensor]:
    """Noise of a generator that is made anew, as after torch.manual_seed."""
    return lambda noise: torch.randn(noise.shape, generator=torch.Generator().manual_seed(seed),
                                     dtype=noise.dtype)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PathExercise(GradualExercise):
    """A function of (mean, log_variance, noise) through which the gradients must pass, beside its values."""

    def examine(self, answer: object, generator: torch.Generator) -> Verdict:
        state = generator.get_state()
        smallest = list(self.cases(generator))[0]
        try:
            verdict = super().examine(answer, generator.set_state(state))
        except Refusal as refusal:
            if "two answers" in refusal.message and self._draws(answer, smallest):
                return self.named(OWN_NOISE, refusal.facts)
            raise
        if not verdict.passed or self._passes(answer, smallest):
            return verdict
        mean, log_variance, noise = smallest
        facts = (("smallest case", show_case(dict(zip(self.arguments, smallest)))),
                 ("yours", "no gradient, or a wrong one, at mean and log_variance"),
                 ("expected", "dz/dmean = 1 and dz/dlog_variance = "
                              f"{float((log_variance / 2).exp() * noise / 2):.4g}"))
        return self.named(CUT, facts)

    def _draws(self, answer: Callable, case: tuple) -> bool:
        """Whether two calls agree once torch's own generator is set back: then chance comes from there."""
        twice = []
        with quietly():
            for _ in range(2):
                torch.manual_seed(0)
                z = within(self.seconds, answer, *(part.clone() for part in case))
                twice.append(as_tensor(z, case[2]))
        return agree(*twice)

    def _passes(self, answer: Callable, case: tuple) -> bool:
        """Whether the slopes of z at mean and log_variance are 1 and σε/2."""
        mean, log_variance = (part.clone().requires_grad_(True) for part in case[:2])
        try:
            with quietly():
                z = within(self.seconds, answer, mean, log_variance, case[2].clone())
            z = z if isinstance(z, Tensor) else torch.stack(list(z))
            slopes = torch.autograd.grad(z.sum(), (mean, log_variance))
        except Exception:      # no tensor, one without a graph, or code that cannot stand a graph
            return False
        expected = case[2].sum(0) * (case[1] / 2).exp() / 2
        return agree(slopes[0], torch.full_like(mean, len(case[2]))) and agree(slopes[1], expected)


@code_exercise(
    PathExercise, title="A draw that gradients pass through", difficulty=1, minutes=8, points=2,
    equations=("eq-vae-reparameterise", "eq-vae-path-gradient"),
    statement="""
        Turn standard normal noise $\\varepsilon$ into draws of $q = \\mathcal{N}(\\mu, \\operatorname{diag}
        \\sigma^2)$,

        $$z = \\mu + \\sigma \\varepsilon, \\qquad \\sigma = e^{\\ell / 2},$$

        with several draws for each image of the batch: `noise` is (samples, batch, latent), `mean` and
        `log_variance` are (batch, latent). The noise is given, so there is one right answer. The check also
        asks for the gradients of $z$ by $\\mu$ and by $\\ell$, for which all of this is done: stay with the
        operations of `torch`.""",
    hints=("ℓ is the logarithm of σ². What is the logarithm of σ?",
           "A tensor of shape (batch, latent) fits beside one of shape (samples, batch, latent): torch "
           "repeats it along the dimension that it lacks.",
           "`torch.exp(log_variance / 2)` is σ. Multiply the noise by it, and add the mean."),
    truth=_drawn_by_loops, cases=_noises,
    must=(("a draw lies above its mean where the noise is positive, and below it where that is negative.",
           lambda yours, mean, log_variance, noise: ((yours - mean) * noise >= -1e-4).all()),),
    on_the_way=lambda mean, log_variance, noise: {"σ": (log_variance / 2).exp(),
                                                  "σ times noise": (log_variance / 2).exp() * noise},
    misconceptions=(
        wrong("variance for standard deviation", _scaled(torch.exp),
              says="The noise is multiplied by the variance, exp(ℓ). A draw deviates from its mean by "
                   "standard deviations: σ = exp(ℓ/2).",
              hint="If all lengths are measured in millimetres and not in metres, by which factor do σ and "
                   "σ² grow? And z?"),
        wrong("log-variance for standard deviation", _scaled(lambda s: s),
              says="The noise is multiplied by ℓ itself. It is a logarithm, and often negative.",
              hint="What is σ where ℓ = 0?"),
        wrong("half of the log-variance", _scaled(lambda s: s / 2),
              says="ℓ/2 is the logarithm of σ. Its exponential is missing.",
              hint="What is σ where ℓ = 0?"),
        wrong("root of the log-variance", _scaled(torch.sqrt), _scaled(lambda s: s.abs().sqrt()),
              says="You took the root of ℓ. The root of the variance is wanted, and the variance is exp(ℓ).",
              hint="What is σ where ℓ is negative?"),
        wrong("log-variance doubled", _scaled(lambda s: (2 * s).exp()), _scaled(lambda s: s.exp().square()),
              says="The exponent is doubled where it must be halved (or the variance squared where its root "
                   "is taken).",
              hint="σ is the root of exp(ℓ). What does a root do to an exponent?"),
        wrong("one half outside of the exponential", _scaled(lambda s: s.exp() / 2),
              says="You halved the variance. The ½ belongs into the exponent, where it makes a root.",
              hint="What is σ where ℓ = 0?"),
        wrong("one over σ", _scaled(lambda s: (-s / 2).exp()), _scaled(lambda s: (-s).exp()),
              says="You divide by σ (or by σ²), as one does to standardise a draw. This goes the other way: "
                   "from standard noise to N(μ, σ²).",
              hint="Does a large ℓ make your draws spread more, or less?"),
        wrong("root taken twice", _scaled(lambda s: (s / 4).exp()),
              says="exp(ℓ/4) is the root of σ: the root was taken twice.",
              hint="Is a root left over beside the ½ of the exponent?"),
        wrong("softplus for the exponential", _scaled(softplus), _scaled(lambda s: softplus(s).sqrt()),
              _scaled(lambda s: softplus(s / 2)),
              says="Softplus is another way to make a positive number. Some codes have it; here ℓ is a "
                   "log-variance by its name, and the divergence in closed form counts on it.",
              hint="Which function undoes a logarithm?", credit=0.25),
        wrong("noise not scaled", _scaled(torch.ones_like),
              says="The noise is added as it is: the variance has no part in the draw.",
              hint="Where does log_variance enter your answer?"),
        wrong("no noise", lambda mean, log_variance, noise: mean.expand(noise.shape),
              lambda mean, log_variance, noise: mean,
              says="You return the mean. That is how one encodes a picture for a plot; the bound needs "
                   "draws.",
              hint="Should two samples of one image be the same?"),
        wrong("mean forgotten", lambda mean, log_variance, noise: (log_variance / 2).exp() * noise,
              says="The mean is missing: your draws lie around 0, whatever the image.",
              hint="What should z be where the noise is 0?"),
        wrong("mean scaled too", lambda mean, log_variance, noise: (log_variance / 2).exp() * (mean + noise),
              says="σ multiplies the mean as well. A bracket stands too far to the left.",
              hint="What should z be where the noise is 0?"),
        wrong("σ added", lambda mean, log_variance, noise: mean + (log_variance / 2).exp() + noise,
              says="σ is added. It multiplies the noise: it stretches a law, and the mean shifts it.",
              hint="What should z be where the noise is 0?"),
        wrong("noise subtracted", _noised(torch.neg),
              says="You subtract σ times the noise. The law is the same, since the noise is symmetric; the "
                   "draw that is asked for is the one with a plus.",
              hint="Compare the sign in the formula.", credit=0.5),
        wrong("one noise for all images", _noised(lambda noise: noise[:, :1]),
              says="All images get the noise of the first. Their draws are then no longer independent, and "
                   "the errors of a batch no longer average out.",
              hint="noise is (samples, batch, latent). Which of its dimensions did you index?"),
        wrong("one noise for all samples", _noised(lambda noise: noise[:1].expand(noise.shape)),
              _noised(lambda noise: noise[0]),
              says="Only the first noise of each image is used: all of its samples are the same draw.",
              hint="noise is (samples, batch, latent). Which of its dimensions did you index?"),
        wrong("one noise for all units", _noised(lambda noise: noise[..., :1]),
              says="All units of an image get the noise of the first. The covariance of q is diagonal: each "
                   "unit has its own.",
              hint="noise is (samples, batch, latent). Which of its dimensions did you index?"),
        wrong(OWN_NOISE, *(_noised(_fresh(seed)) for seed in (0, 1, 42)),
              says="You draw noise yourself. It is given, as an argument: whoever calls the function decides "
                   "about chance, and gets the same draws again if need be.",
              hint="Where do you use `noise`?"),
        wrong("a mean over the samples", lambda mean, log_variance, noise: mean + (
                  (log_variance / 2).exp() * noise).mean(0),
              says="You averaged over the samples. Each of them is a draw of its own; the average goes to "
                   "the mean and is no draw of q.",
              hint="The answer has the shape of the noise."),
        wrong(CUT, lambda mean, log_variance, noise: (mean + (log_variance / 2).exp() * noise).detach(),
              says="The numbers are right, and no gradient comes back (or a wrong one): something takes z "
                   "off the graph, such as `.detach()`, `.data`, `torch.no_grad()`, `.item()` or numpy.",
              hint="An encoder behind this function would never learn. Stay with operations of torch from "
                   "mean and log_variance to z.", credit=0.5),
    ),
    teaching_notes="One line. Ask what would be lost with `torch.normal(mean, std)`, which draws the same "
                   "law: the gradient. The check looks for it.")
def reparameterise(mean: torch.Tensor, log_variance: torch.Tensor,
                   noise: torch.Tensor) -> torch.Tensor:
    """Draws of N(mean, exp(log_variance)), made of standard normal noise.

    mean, log_variance: (batch, latent); noise: (samples, batch, latent);
    returns (samples, batch, latent).
    """
    return mean + torch.exp(log_variance / 2) * noise


# --- two estimators of one gradient (derivation) ------------------------------------------------------------

def _noise_instances(generator: torch.Generator) -> list[Instance]:
    return [_noise_instance(sign * _tenth(generator, 2, 20), _tenth(generator, low, low + 8))
            for sign, low in ((1, 3), (-1, 11), (1, 12), (-1, 2), (1, 6))]


def _noise_instance(mu: float, sigma: float) -> Instance:
    nodes, weights = _quadrature(7)
    mass = dict(zip(nodes, weights))

    def mean(function: Callable[[float], float]) -> float:
        return math.fsum(weight * function(node) for node, weight in mass.items())

    def variance(function: Callable[[float], float]) -> float:
        centre = mean(function)
        return mean(lambda e: (function(e) - centre) ** 2)

    moments = {k: 0 if k % 2 else math.prod(range(1, k, 2)) for k in range(13)}
    symbols = {"mu": mu, "sigma": sigma, "z": lambda e: mu + sigma * e,
               "score": lambda e: (mu + sigma * e)**2 * e / sigma, "path": lambda e: 2 * (mu + sigma * e),
               "n": mass.__getitem__, "noise": nodes, "m": moments.__getitem__, "variance": variance}
    return Instance(f"mu = {mu:g}, sigma = {sigma:g}", symbols)


def _noise_mean(term: str) -> str:
    return f"sum(n(e)*{term} for e in noise)"


_SQUARES = f"{_noise_mean('score(e)**2')} - {_noise_mean('path(e)**2')}"
_SCORE_SQUARE = "(mu**4/sigma**2 + 18*mu**2 + 15*sigma**2)"
_PATH_SQUARE = "4*(mu**2 + sigma**2)"
_DIFFERENCE = "mu**4/sigma**2 + 14*mu**2 + 11*sigma**2"


def _in_noise(tree: ast.expr) -> bool:
    """A line without the estimators' names: both are written in the noise, under a mean or in moments."""
    names = names_in(tree)
    return bool(names & {"noise", "m"}) and not names & {"score", "path", "variance"}


score_proof = LongDerivation(
    name="score_proof", title="One gradient, two estimators, two variances", chapter=4, difficulty=3,
    minutes=22, points=4,
    equations=("eq-vae-score-gradient", "eq-vae-path-gradient", "eq-vae-gradient-variances"),
    statement="""
        The gradient of $\\mathbb{E}_{\\mathcal{N}(\\mu, \\sigma^2)}[z^2] = \\mu^2 + \\sigma^2$ by $\\mu$ is
        $2\\mu$. With $z = \\mu + \\sigma\\varepsilon$, one draw of the noise estimates it in two ways: by the
        score function and along the path,

        $$g_\\text{score} = z^2\\, \\frac{z - \\mu}{\\sigma^2} = \\frac{z^2 \\varepsilon}{\\sigma},
        \\qquad g_\\text{path} = 2 z$$

        Show that both have the same mean, and that the first varies more, by

        $$\\mathrm{Var}[g_\\text{score}] - \\mathrm{Var}[g_\\text{path}]
        = \\frac{\\mu^4}{\\sigma^2} + 14 \\mu^2 + 11 \\sigma^2$$

        (Along the path it is $4\\sigma^2$ and goes to 0 with $\\sigma$; the score's grows without bounds
        there, unless $\\mu = 0$.) A mean over the noise is written as a sum over points, `sum(n(e)*f(e) for e
        in noise)`, which is exact here. Fill in the lines marked `...`, or write a chain of your own.""",
    symbols=(("mu, sigma", "\\mu,\\; \\sigma", "mean and standard deviation of $z$"),
             ("z(e)", "z", "`mu + sigma*e`"),
             ("score(e), path(e)", "g_\\text{score},\\; g_\\text{path}", "the estimators at a noise"),
             ("variance(score)", "\\mathrm{Var}[g_\\text{score}]", "variance of an estimator"),
             ("n(e), noise", "\\mathcal{N}(\\varepsilon; 0, 1)\\, d\\varepsilon,\\; \\varepsilon",
              "weights, which add to 1, and points"),
             ("m(k)", "\\mathbb{E}\\, \\varepsilon^k", "moments: 1, 0, 1, 0, 3, 0, 15 for $k = 0, …, 6$")),
    chain=f"""
        variance(score) - variance(path)
        = {_noise_mean("score(e)**2")} - {_noise_mean("score(e)")}**2
          - {_noise_mean("path(e)**2")}
          + {_noise_mean("path(e)")}**2      # E g² − (E g)²
        = {_noise_mean("score(e)**2")}
          - {_noise_mean("path(e)**2")}      # both means are 2μ
        = {_noise_mean("(mu + sigma*e)**4*e**2")}/sigma**2
          - 4*{_noise_mean("(mu + sigma*e)**2")}      # both in the noise
        = (mu**4*m(2) + 6*mu**2*sigma**2*m(4) + sigma**4*m(6))/sigma**2
          - 4*(mu**2 + sigma**2*m(2))      # odd moments vanish
        = {_DIFFERENCE}
        """,
    blanks=(2, 3, 4, 5), least_lines=2, instances=_noise_instances,
    nearly="One more line: write both estimators in the noise first, and take the moments then.",
    landmarks=(Step("Show where the numbers come from: a line in which both estimators are written out in "
                    "the noise (no score, path or variance in it), as means over the noise or in moments "
                    "m(k).",
                    test=_in_noise),),
    hints=("A variance is the mean of the square minus the square of the mean. Both estimators have the mean "
           "2μ: what cancels?",
           "Left are E[z⁴ε²]/σ² and 4 E[z²]. Write z = μ + σε and expand its fourth power: 1, 4, 6, 4, 1.",
           "Times ε², the even powers of ε are 2, 4 and 6, with the moments 1, 3 and 15: μ⁴ + 6·3 μ²σ² + 15 "
           "σ⁴, over σ². And 4 E[z²] is 4(μ² + σ²)."),
    misconceptions=(
        wrong("path minus score", f"-({_DIFFERENCE})", "variance(path) - variance(score)",
              says="The sign is turned: this is how much the path's variance is above the score's.",
              hint="At σ near 0, which of the two estimators is nearly certain?"),
        wrong("one of the two variances only", "mu**4/sigma**2 + 14*mu**2 + 15*sigma**2", "variance(score)",
              "4*sigma**2", "-4*sigma**2", "variance(path)",
              says="This is the variance of one estimator alone. The difference of both is asked for.",
              hint="What became of the other one?"),
        wrong("variances added", "variance(score) + variance(path)",
              "mu**4/sigma**2 + 14*mu**2 + 19*sigma**2",
              says="The two variances are added. They are compared: subtract.",
              hint="Where does a plus come from?"),
        wrong("one squared mean only", f"{_noise_mean('score(e)**2')} - variance(path)",
              f"{_SCORE_SQUARE} - 4*sigma**2", f"variance(score) - {_noise_mean('path(e)**2')}",
              says="One of the two is a mean of squares and the other a variance: 4μ², the square of the "
                   "mean, was taken away from one of them only. (Or E[z²], which is μ² + σ², has lost its "
                   "μ².)",
              hint="Var g = E g² − (E g)², for both of them."),
        wrong("squared means added", f"{_SQUARES} - 8*mu**2", f"{_SQUARES} + 8*mu**2",
              says="The squares of the two means do not cancel in your line. Both are (2μ)², and one comes "
                   "with a minus, the other with a plus.",
              hint="Write both variances in brackets, and then take the brackets away."),
        wrong("moments of a Gaussian",
              "(mu**4 + 6*mu**2*sigma**2 + sigma**4)/sigma**2 - 4*(mu**2 + sigma**2)",
              *(f"mu**4/sigma**2 + {6 * fourth}*mu**2 + {sixth}*sigma**2 - 4*(mu**2 + sigma**2)"
                for fourth, sixth in ((2, 6), (3, 1), (3, 5), (3, 6), (3, 9), (3, 27), (4, 6), (4, 15))),
              says="The moments are not those of N(0, 1). E ε² = 1, E ε⁴ = 3 and E ε⁶ = 15: each is the one "
                   "before, times the next odd number.",
              hint="E ε⁶ is 5 times E ε⁴, which is 3 times E ε². What do you have?"),
        wrong("fourth power without its middle", "mu**4/sigma**2 + 15*sigma**2 - 4*(mu**2 + sigma**2)",
              *(f"mu**4/sigma**2 + {3 * c}*mu**2 + 15*sigma**2 - 4*(mu**2 + sigma**2)" for c in (1, 2, 4)),
              says="(μ + σε)⁴ is not expanded rightly: the term with μ²σ²ε² has the coefficient 6.",
              hint="Pascal's triangle: 1, 4, 6, 4, 1."),
        wrong("a product of means for the mean of a product",
              f"({_noise_mean('(mu + sigma*e)**4')})*m(2)/sigma**2 - 4*(mu**2 + sigma**2)",
              "(mu**4 + 6*mu**2*sigma**2 + 3*sigma**4)/sigma**2 - 4*(mu**2 + sigma**2)",
              says="You took E[z⁴] E[ε²] for E[z⁴ε²]. z is made of this very ε: they are not independent.",
              hint="Put z = μ + σε in first, and take one mean over ε then."),
        wrong("2 not squared", f"{_SCORE_SQUARE} - 2*(mu**2 + sigma**2)",
              says="The factor 2 of the path's estimator was not squared.",
              hint="What is (2z)²?"),
        wrong("σ of the score lost", "mu**4 + 18*mu**2*sigma**2 + 15*sigma**4 - 4*(mu**2 + sigma**2)",
              f"{_noise_mean('((mu + sigma*e)**4*e**2)')} - 4*(mu**2 + sigma**2)",
              says="The score is z²ε/σ, and its σ in the denominator is lost.",
              hint="(z − μ)/σ², with z − μ = σε, is ε over what?"),
        wrong("σ of the score not squared",
              "(mu**4 + 18*mu**2*sigma**2 + 15*sigma**4)/sigma - 4*(mu**2 + sigma**2)",
              says="The square of z²ε/σ has σ² in its denominator; yours has σ.",
              hint="Square all three factors."),
        wrong("σ of the score counted twice",
              "(mu**4 + 18*mu**2*sigma**2 + 15*sigma**4)/sigma**4 - 4*(mu**2 + sigma**2)",
              says="You have z²ε/σ² for the score. Of the σ² in the denominator one σ cancels with z − μ = "
                   "σε.",
              hint="(z − μ)/σ², with z − μ = σε, is ε over what?"),
        wrong("the function forgotten", "1/sigma**2 - 4*sigma**2", "1/sigma**2 - 4*(mu**2 + sigma**2)",
              f"{_noise_mean('(e/sigma)**2')} - {_noise_mean('path(e)**2')}",
              says="z² is missing from the score's estimator: this is the square of the score alone.",
              hint="The score multiplies the function whose mean is differentiated."),
        wrong("the function for its slope", "variance(score) - (4*mu**2*sigma**2 + 2*sigma**4)",
              f"{_noise_mean('score(e)**2')} - {_noise_mean('z(e)**4')}",
              says="In the path's estimator the function z² stands, and not its slope 2z.",
              hint="The derivative of f(μ + σε) by μ, by the chain rule?"),
        wrong("quotient for the difference",
              "variance(score)/variance(path)", f"({_DIFFERENCE})/(4*sigma**2)",
              says="You divided one by the other. That is a good way to compare them; here the difference is "
                   "asked for.",
              hint="Which sign stands in the given line?"),
        wrong("standard deviations", "sqrt(variance(score)) - sqrt(variance(path))",
              says="A root was taken: these are standard deviations.",
              hint="Which of the two, variance or standard deviation, is a mean of squares?"),
    ),
    teaching_notes="Both estimators use the same draw. Ask what each knows: the score's the value of f "
                   "alone, the path's its slope. Then let the class set μ = 0 and σ = 1 (11 more, 15 against "
                   "4), and ask what happens with twenty latent units.")


# --- more samples, a tighter bound (derivation) -------------------------------------------------------------

def _weight_instances(generator: torch.Generator) -> list[Instance]:
    """The laws of `elbo_proof`, with the two bounds summed term by term."""
    return [_weight_instance(count, generator) for count in (2, 2, 3, 3, 4)]


def _weight_instance(count: int, generator: torch.Generator) -> Instance:
    prior, like, q = _tables(count, generator)
    joint = [one * other for one, other in zip(prior, like)]
    w = [one / other for one, other in zip(joint, q)]
    pairs = list(itertools.product(range(count), repeat=2))
    tables = {"joint": joint, "q": q, "w": w}
    symbols = {name: dict(enumerate(table)).__getitem__ for name, table in tables.items()}
    bounds = {"L1": math.fsum(q[z] * math.log(w[z]) for z in range(count)),
              "L2": math.fsum(q[z] * q[u] * math.log((w[z] + w[u]) / 2) for z, u in pairs)}
    shown = f"prior = {_shown(prior)}, like = {_shown(like)}, q = {_shown(q)}"
    return Instance(shown, {**symbols, **bounds, "codes": tuple(range(count))})


def _over_pairs(term: str, weight: str = "q(z)*q(u)*", rest: str = "") -> str:
    return f"sum({weight}{term} for z in codes for u in codes{rest})"


_L1 = "sum(q(z)*log(w(z)) for z in codes)"
_L2 = _over_pairs("log((w(z) + w(u))/2)")
_ROOTS = "log(1 + (sqrt(w(z)) - sqrt(w(u)))**2/(2*sqrt(w(z)*w(u))))"
_BOTH_LOGS = "(log(w(z)) + log(w(u)))/2"


def _all_over_pairs(tree: ast.expr) -> bool:
    """A line of the reader's own in which every sum runs over pairs, and neither bound has its name."""
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.GeneratorExp)
             for part in ast.walk(node) if part is not node}
    sums = [node for node in ast.walk(tree) if isinstance(node, ast.GeneratorExp) and id(node) not in inner]
    indices = [sum(isinstance(part, ast.comprehension) for part in ast.walk(node)) for node in sums]
    return bool(sums) and min(indices) > 1 and not names_in(tree) & {"L1", "L2"} and _own(tree, _RESULT)


_RESULT = _over_pairs(_ROOTS)

iwae_proof = LongDerivation(
    name="iwae_proof", title="Two samples bound better than one", chapter=4, difficulty=2, minutes=18,
    points=3, equations=("eq-vae-iwae", "eq-vae-iwae-average", "eq-vae-iwae-grows"),
    statement="""
        With weights $w(z) = p(x, z)/q(z)$, the bounds from one draw and from two are

        $$L_1 = \\mathbb{E}_q \\log w(z), \\qquad
        L_2 = \\mathbb{E}_{z, u \\sim q} \\log \\frac{w(z) + w(u)}{2}$$

        with $z$ and $u$ independent. Show what the second draw gains,

        $$L_2 - L_1 = \\mathbb{E}_{z, u \\sim q} \\log \\Big(1 +
        \\frac{(\\sqrt{w(z)} - \\sqrt{w(u)})^2}{2 \\sqrt{w(z)\\, w(u)}}\\Big)$$

        No term on the right is negative, so $L_2 \\ge L_1$, and the two are equal only if all weights are.
        The step is the one that proves $L_{K+1} \\ge L_K$: write the smaller bound as an average over the
        draws of the larger one. Fill in the lines marked `...`, or write a chain of your own.""",
    symbols=(("L1, L2", "L_1,\\; L_2", "the two bounds, given as numbers"),
             ("w(z)", "w(z)", "weight of a draw, `joint(z)/q(z)`"),
             ("joint(z), q(z)", "p(x, z),\\; q(z)", "the joint law at the picture, and the encoder's"),
             ("codes", "z,\\; u", "all values of the latent variable")),
    chain=f"""
        L2 - L1
        = {_L2}
          - {_L1}      # definitions
        = {_L2}
          - {_over_pairs("log(w(z))")}      # Σ q(u) = 1
        = {_L2}
          - sum(q(z)*q(u)*{_BOTH_LOGS}
                for z in codes for u in codes)      # either draw
        = sum(q(z)*q(u)*log((w(z) + w(u))/(2*sqrt(w(z)*w(u))))
              for z in codes for u in codes)      # one logarithm
        = sum(q(z)*q(u)*{_ROOTS}
              for z in codes for u in codes)
        """,
    blanks=(2, 3, 4, 5), least_lines=2, instances=_weight_instances,
    forms=(_over_pairs("log(1 + (sqrt(w(z)) - sqrt(w(u)))**2/(2*sqrt(w(z))*sqrt(w(u))))"),
           _over_pairs("log(1 + (w(z)**0.5 - w(u)**0.5)**2/(2*(w(z)*w(u))**0.5))")),
    nearly="One more line: write L1 over two draws first, and join the logarithms then.",
    landmarks=(Step("Show the averaging: a line of your own in which L1, too, is a sum over two draws z and "
                    "u.",
                    test=_all_over_pairs),),
    hints=("Write both definitions as sums over codes. L1 has one draw, L2 has two: how can a second draw, "
           "which does nothing, be put into L1?",
           "In L1 over two draws, log w(z) may be replaced by log w(u), as both are drawn alike, and so by "
           "the average of the two logarithms.",
           "Half of log w(z) + log w(u) is the log of the geometric mean, sqrt(w(z)*w(u)). The arithmetic "
           "mean over it is 1 + (√w(z) − √w(u))²/(2√(w(z)w(u))): expand the square."),
    misconceptions=(
        wrong("one minus two", "L1 - L2", _over_pairs("log(2*sqrt(w(z)*w(u))/(w(z) + w(u)))"),
              says="The sign is turned: this is L1 − L2, or the quotient under the logarithm stands upside "
                   "down.",
              hint="Which is larger, the arithmetic or the geometric mean? And which of them is above the "
                   "line?"),
        wrong("mean of the logarithms", f"{_over_pairs(_BOTH_LOGS)} - {_L1}", "0",
              _over_pairs("log((w(z) + w(z))/2)") + f" - {_L1}",
              says="Nothing is gained in your line: L2 became a mean of two logarithms (or the same draw was "
                   "used twice). In L2 the mean of the two weights is taken first, and its logarithm then.",
              hint="Two weights, 1 and 9: what are the log of their mean and the mean of their logs?"),
        wrong("one half forgotten", _over_pairs("log(w(z) + w(u))") + f" - {_L1}", f"{_RESULT} + log(2)",
              says="The two weights are added and not averaged: log 2 too much.",
              hint="If all weights are equal, does your difference vanish?"),
        wrong("one half counted twice", f"{_RESULT} - log(2)",
              _over_pairs("log((w(z) + w(u))/4)") + f" - {_L1}",
              says="A ½ too many stands under the logarithm: log 2 is lacking.",
              hint="If all weights are equal, does your difference vanish?"),
        wrong("logarithm of the mean over all draws", f"log({_over_pairs('(w(z) + w(u))/2')}) - L1",
              f"log(sum(joint(z) for z in codes)) - {_L1}", f"log(sum(q(z)*w(z) for z in codes)) - {_L1}",
              says="The mean over q was taken inside of the logarithm: that is log p(x), the limit of "
                   "infinitely many draws. With two draws only their own mean stands inside.",
              hint="Which of the sums stands before the logarithm in L2?"),
        wrong("geometric mean without its root", _over_pairs("log((w(z) + w(u))/(2*w(z)*w(u)))"),
              _over_pairs("log((w(z) + w(u))/(w(z)*w(u)))"), f"{_L2} - 2*{_L1}", "L2 - 2*L1",
              says="log w(z) + log w(u) is subtracted in full: L1 is counted twice. It is the average of "
                   "both, half of their sum, which makes a root.",
              hint="What is half of log a + log b, as one logarithm?"),
        wrong("second draw without its weight", _over_pairs("log((w(z) + w(u))/2)", "q(z)*") + f" - {_L1}",
              f"{_L2} - {_over_pairs('log(w(z))', 'q(z)*')}", _over_pairs(_ROOTS, "q(z)*"),
              _over_pairs(_ROOTS, ""),
              says="A sum runs over a draw without its q: every value counts fully. A mean over two draws "
                   "has q(z) q(u) before it.",
              hint="What does your sum give for a constant, say 1 in the place of the logarithm?"),
        wrong("equal draws left out", _over_pairs("log((w(z) + w(u))/2)", rest=" if u != z") + f" - {_L1}",
              f"{_L2} - {_over_pairs('log(w(z))', rest=' if u != z')}",
              says="You left out the pairs with u = z. The two draws are independent, so they may be equal "
                   "(only in the last line such pairs bring nothing).",
              hint="What do q(z) q(u) of all pairs add to, and those of your pairs?"),
        wrong("each pair once", _over_pairs(_ROOTS, rest=" if u > z"), f"({_RESULT})/2",
              says="Each pair of values is counted in one order only, or all is halved: half of the "
                   "difference. z first and u then, or the other way round, are two events.",
              hint="Two coins: how probable is one head and one tail?"),
        wrong("p(x, z) not divided by q", _over_pairs("log((joint(z) + joint(u))/2)") + f" - {_L1}",
              _over_pairs("log((joint(z) + joint(u))/2)") + " - sum(q(z)*log(joint(z)) for z in codes)",
              f"{_L2} - sum(q(z)*log(joint(z)) for z in codes)",
              says="p(x, z) stands in the place of the weight. A draw of q weighs p(x, z)/q(z).",
              hint="Whose mean under q is p(x), that of p(x, z) or that of w?"),
        wrong("weights instead of their roots",
              _over_pairs("log(1 + (w(z) - w(u))**2/(2*sqrt(w(z)*w(u))))"),
              _over_pairs("log(1 + (w(z) - w(u))**2/(2*w(z)*w(u)))"),
              says="The square is that of the difference of the weights. Arithmetic minus geometric mean is "
                   "half of the square of the difference of their roots.",
              hint="Expand (√a − √b)². Which terms does a + b − 2√(ab) have?"),
        wrong("2 under the square", _over_pairs("log(1 + (sqrt(w(z)) - sqrt(w(u)))**2/sqrt(w(z)*w(u)))"),
              _over_pairs("log(1 + (sqrt(w(z)) - sqrt(w(u)))**2/(4*sqrt(w(z)*w(u))))"),
              says="The factor beside the root is wrong. (a + b)/2 over √(ab) is 1 + (√a − √b)²/(2√(ab)).",
              hint="Try a = 4 and b = 1: arithmetic mean 2.5, geometric mean 2."),
        wrong("1 lost", _over_pairs("(sqrt(w(z)) - sqrt(w(u)))**2/(2*sqrt(w(z)*w(u)))"),
              says="The logarithm is gone: you have log(1 + y) = y, which holds for small y only.",
              hint="Is log(1 + y) below or above y?"),
        wrong("logarithms lost", f"{_over_pairs('(w(z) + w(u))/2')} - {_L1}",
              says="A logarithm is lost: the mean of the weights is p(x) with one draw as with two. It is "
                   "the logarithm that makes the difference.",
              hint="How many logarithms stand in L2?"),
        wrong("logarithm of a sum as a sum of logarithms",
              f"{_over_pairs('(log(w(z)/2) + log(w(u)/2))')} - {_L1}",
              f"{_over_pairs('(log(w(z)) + log(w(u)))')} - {_L1}",
              says="You took the logarithm of each term of a sum. The logarithm of a product is a sum; that "
                   "of a sum cannot be taken apart.",
              hint="log(1 + 1) is log 2. What is log 1 + log 1?"),
    ),
    teaching_notes="The general step: L_K is the mean over all ways to leave one of K + 1 draws out, and a "
                   "mean of logarithms is at most the logarithm of the mean. Ask why the proof does not say "
                   "how fast the bound grows; then show that each doubling gains about half of the one "
                   "before once K is large.")


# --- the bound from K draws ---------------------------------------------------------------------------------

def _log_weights(generator: torch.Generator) -> Iterator[tuple[Tensor]]:
    """(log_weights,): small tenths; weights that over- and underflow; then images that are far apart."""
    for draws, batch in ((2, 1), (2, 2), (3, 1), (2, 3), (4, 2), (3, 4), (5, 3)):
        yield (_signed(generator, draws, batch, most=30),)
    for around in (-900, 900):
        yield (around + _signed(generator, 4, 3, most=20),)
    yield (_float([-60.0], [-1000.0], [-2200.0]).T + _signed(generator, 4, 3, most=20),)


def _hardness(log_weights: Tensor) -> int:
    """1 where exponentials leave the range of float64, 2 where no one shift helps all images."""
    spread = log_weights.max() - log_weights.min()
    return 2 if spread > 700 else int(log_weights.abs().max() > 700)


def _bound_by_loops(log_weights: Tensor) -> Tensor:
    """Image by image: the largest weight, and one plus the others relative to it."""
    bounds = []
    for logs in log_weights.T.tolist():
        *others, top = sorted(logs)
        relative = math.fsum(math.exp(one - top) for one in others)
        bounds.append(top + math.log1p(relative) - math.log(len(logs)))
    return _float(*bounds)


def _right_bound(logs: Tensor) -> Tensor:
    return logs.logsumexp(0) - math.log(len(logs))


def _of_bound(rule: Callable[[Tensor], Tensor]) -> Callable:
    return lambda logs: rule(_right_bound(logs))


def _summed_logs(rule: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    """A mutant of the log of the sum of the weights, and the log weights."""
    return lambda logs: rule(logs.logsumexp(0), logs)


@code_exercise(
    title="The bound from K draws", difficulty=2, minutes=12, points=3,
    equations=("eq-vae-iwae", "eq-vae-iwae-bias"),
    statement="""
        For each image of a batch, $K$ codes were drawn from the encoder, and their log weights $\\log w_k =
        \\log p(x, z_k) - \\log q(z_k \\mid x)$ are given, a row a draw. Compute the importance-weighted bound
        of each image, in nats,

        $$\\hat L_K = \\log \\frac1K \\sum_{k=1}^K w_k$$

        Log weights of images are far from 0: in some of the cases they lie around $-900$ or $900$, where the
        exponential is 0 or infinite in floating point, and in one case the images lie $1000$ nats apart.""",
    hints=("What happens to the bound if the same number is added to all log weights of an image?",
           "Take the largest log weight of each image out: subtract it before the exponential, add it back "
           "after the logarithm. `torch.logsumexp` does that for you.",
           "`torch.logsumexp(log_weights, dim=0)` is the logarithm of the sum over the draws. A mean has 1/K "
           "before the sum: subtract log K."),
    truth=_bound_by_loops, cases=_log_weights, level=_hardness,
    must=(("the log of the mean lies between the mean of the logs and the largest of them.",
           lambda yours, logs: ((yours >= logs.mean(0) - 1e-3)
                                & (yours <= logs.max(0).values + 1e-3)).all()),),
    on_the_way=lambda logs: {"largest of each image": logs.max(0).values,
                             "weights over the largest": (logs - logs.max(0).values).exp()},
    misconceptions=(
        wrong("mean of the logarithms", lambda logs: logs.mean(0),
              says="You averaged the logarithms: that is the ordinary bound, K times over. The weights are "
                   "averaged first, and the logarithm of that is higher (Jensen).",
              hint="Two weights, 1 and e^10: is the log of their mean near 5, or near 10?"),
        wrong("log K forgotten", _summed_logs(lambda total, logs: total),
              says="This is the log of the sum of the weights. The mean is smaller by log K: as it stands, "
                   "more draws would raise any bound without limit.",
              hint="If all weights are the same w, what should the bound be?"),
        wrong("log K added", _summed_logs(lambda total, logs: total + math.log(len(logs))),
              says="log K is added. The mean is the sum over K, so its logarithm is smaller by log K.",
              hint="If all weights are the same w, what should the bound be?"),
        wrong("K for log K", _summed_logs(lambda total, logs: total - len(logs)),
              _summed_logs(lambda total, logs: total / len(logs)),
              _summed_logs(lambda total, logs: total / math.log(len(logs))),
              says="K is divided out of the logarithm, or K itself is subtracted. The 1/K stands inside of "
                   "the logarithm: outside it is − log K.",
              hint="What is log(s/K), as a difference?"),
        wrong("log of the number of images",
              _summed_logs(lambda total, logs: total - math.log(logs.shape[1])),
              says="You subtract the logarithm of the number of images. The mean is over the K draws.",
              hint="Which dimension of log_weights counts the draws?"),
        wrong("over the images", lambda logs: logs.logsumexp(1) - math.log(logs.shape[1]),
              lambda logs: logs.logsumexp(1) - math.log(len(logs)), lambda logs: logs.logsumexp(1),
              lambda logs: logs.mean(1),
              says="You averaged over the images, and kept the draws apart. Asked for is one number an "
                   "image.",
              hint="log_weights is (K, batch): which dimension do the draws have?"),
        wrong("one number for the batch", _of_bound(torch.mean), _of_bound(torch.sum),
              lambda logs: logs.mean(0).mean(),
              says="You averaged (or added) over the images too. Each image has its own bound; their mean is "
                   "what one reports.",
              hint="The answer has shape (batch,)."),
        wrong("weights of all images in one mean",
              lambda logs: logs.flatten().logsumexp(0) - math.log(logs.numel()),
              says="The weights of all images went into one mean, before the logarithm. Log-likelihoods of "
                   "images are averaged after the logarithm; in your number the best image is all that "
                   "counts.",
              hint="Over which dimension did you not mean to sum?"),
        wrong("the largest weight only", lambda logs: logs.max(0).values,
              _summed_logs(lambda total, logs: logs.max(0).values - math.log(len(logs))),
              says="You kept only the largest weight of each image. The others are in the mean as well.",
              hint="Four equal weights: is their mean a quarter of the largest?"),
        wrong("the shift is not undone",
              lambda logs: (logs - logs.max(0).values).exp().mean(0).log(),
              says="You took the largest log weight out before the exponential (well done) and did not add "
                   "it back.",
              hint="log of the mean of w = m + log of the mean of e^(log w − m)."),
        wrong("mean of the inverse weights", lambda logs: math.log(len(logs)) - (-logs).logsumexp(0),
              says="This is the harmonic mean: you averaged 1/w. Its log lies below the ordinary bound.",
              hint="Which expectation under q is p(x), that of w or that of 1/w?"),
        wrong("log weights weighed by themselves", lambda logs: (logs.softmax(0) * logs).sum(0),
              says="You averaged the logarithms with normalised weights. Such a sum appears in the gradient "
                   "of the bound; it is not its value, and may well be above log p(x).",
              hint="How many logarithms has the bound of one image?"),
        wrong("sign of the bound", _of_bound(torch.neg),
              says="This is minus the bound, as a loss would be. The bound itself is asked for.",
              hint="Should better weights make your number larger?"),
        wrong("not the logarithm", _of_bound(torch.exp), lambda logs: logs.exp().sum(0),
              says="This is the mean weight (or their sum), an estimate of p(x). Its logarithm is asked for.",
              hint="p(x) of an image of 784 pixels is of the order of e^(−90). Can you add such numbers in "
                   "float32?"),
        wrong("bits for nats", _of_bound(lambda bound: bound / LOG_TWO),
              _of_bound(lambda bound: bound / math.log(10)),
              says="Your logarithm is not the natural one.", hint="Nats are asked for."),
        wrong("log weights not exponentiated", lambda logs: logs.mean(0).log(),
              lambda logs: logs.abs().mean(0).log(),
              says="You took the log weights for the weights, and their mean's logarithm. They are "
                   "logarithms already.",
              hint="Can a weight be negative?"),
        wrong("e^x that overflows", lambda logs: logs.exp().mean(0).log(),
              *(lambda logs, e=e: (logs.exp().mean(0) + e).log()
                for e in (1e-6, 1e-8, 1e-10, 1e-12, 1e-20, 1e-30)),
              *(lambda logs, c=c: logs.clamp(-c, c).exp().mean(0).log() for c in (50, 80, 88, 100, 500, 700)),
              says="Right for small log weights. e^900 is infinite in floating point and e^(−900) is 0 "
                   "(float32 gives up at 89 and −104 already), and no clipping mends it.",
              hint="Subtract the largest log weight of each image first, or use "
                   "`torch.logsumexp`.", credit=0.5),
        wrong("one shift for all images",
              lambda logs: (logs - logs.max()).exp().mean(0).log() + logs.max(),
              lambda logs: (logs - logs.mean()).exp().mean(0).log() + logs.mean(),
              says="You shift the log weights of all images by the same number. It fits the best image; one "
                   "that is 1000 nats below has only weights of 0 left, and log 0.",
              hint="Take the maximum over the draws only: `.max(0)`.", credit=0.5),
    ),
    teaching_notes="Ask for the bound of K equal weights before any code. Then for what a single draw with a "
                   "weight e^20 times the others does to the bound, and to its error.")
def importance_bound(log_weights: torch.Tensor) -> torch.Tensor:
    """The importance-weighted bound on log p(x) of each image, nats.

    log_weights: (K, batch), log p(x, z_k) − log q(z_k | x), of any size;
    returns (batch,).
    """
    return torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))


# --- the loss -----------------------------------------------------------------------------------------------

def _decoded(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """(x, logits, mean, log_variance): tenths and binary pixels; logits of ±800; then a grey picture."""
    yield _float([1.0]), _float([0.5]), _signed(generator, 1, 1), _signed(generator, 1, 1)
    for batch, pixels, latent in ((1, 2, 1), (2, 3, 2), (3, 2, 2), (2, 4, 3), (3, 3, 3)):
        x = torch.randint(2, (batch, pixels), generator=generator).to(torch.float64)
        x[0, 0] = 1.0
        yield (x, _signed(generator, batch, pixels, most=30), _signed(generator, batch, latent),
               _signed(generator, batch, latent, most=20))
    yield (_float([1.0, 0.0], [0.0, 1.0]), _float([800.0, -800.0], [800.0, 1.5]), _float([0.5], [-1.5]),
           _float([-1.0], [0.5]))
    yield (_float([0.6, 0.0], [0.0, 1.0]), _float([1.0, -2.0], [-1.5, 0.5]), _float([0.5], [-1.0]),
           _float([-0.5], [0.8]))


def _grey(x: Tensor) -> Tensor:
    """Which images have a pixel that is neither 0 nor 1, (batch,)."""
    return ((x != 0) & (x != 1)).any(1)


def _loss_by_loops(x: Tensor, logits: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """The probability of each pixel's value, as one of two shares, and a divergence by quadrature."""
    def surprise(pixel: float, logit: float) -> float:
        if pixel not in (0, 1):
            return math.inf
        wrong_way = -logit if pixel else logit
        return max(wrong_way, 0.0) + math.log1p(math.exp(-abs(wrong_way)))

    pixels = [sum(map(surprise, *row)) for row in zip(x.tolist(), logits.tolist())]
    return _float(*pixels) + _kl_by_quadrature(mean, log_variance)


def _surprise(x: Tensor, logits: Tensor) -> Tensor:
    """Cross-entropy of each pixel, (batch, pixels)."""
    return softplus(logits, threshold=40) - x * logits


def _loss(pixels: Callable = lambda x, a: _surprise(x, a).sum(1),
          divergence: Callable = lambda m, s: _each(m, s).sum(1),
          whole: Callable = lambda value: value) -> Callable:
    """A mutant with another reconstruction, another divergence, or something done to their sum."""
    return lambda x, a, m, s: whole(pixels(x, a) + divergence(m, s))


def _of_pixels(rule: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    """A mutant with another term for each pixel."""
    return _loss(lambda x, a: rule(x, a).sum(1))


def _of_chance(p: Callable[[Tensor], Tensor]) -> Callable:
    """A mutant that takes the logarithm of a probability as it was computed."""
    return _of_pixels(lambda x, a: -(x * p(a).log() + (1 - x) * (1 - p(a)).log()))


def _off_the_edge(x: Tensor, a: Tensor, e: float) -> Tensor:
    return -(x * (a.sigmoid() + e).log() + (1 - x) * (1 - a.sigmoid() + e).log())


def _no_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    return torch.zeros_like(mean[:, 0])


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LossExercise(GradualExercise):
    """A loss that may be infinite. Minus infinity, which counts as equally infinite, is told from it."""

    def _read(self, value: object, truth: Tensor, arguments: Mapping[str, object]) -> Tensor:
        tensor = super()._read(value, truth, arguments)
        if tensor.shape == truth.shape and bool(((tensor == -math.inf) & (truth == math.inf)).any()):
            found = next(one for one in self.misconceptions if one.name == FREE_GREY)
            raise Refusal(found.says, (("case", show_case(dict(arguments))), ("yours", show(tensor)),
                                       ("expected", show(truth))), found.hint)
        return tensor


@code_exercise(
    LossExercise, title="The loss of a variational autoencoder", difficulty=2, minutes=15, points=4,
    equations=("eq-vae-reading-kl", "eq-vae-bernoulli", "eq-vae-kl"),
    statement="""
        Compute what a VAE descends: minus the bound, for each image, in nats. The decoder gives a logit $a_i$
        for each of $D$ pixels (from one draw of the code), $P(x_i = 1) = \\sigma(a_i)$; the encoder gives
        $\\mu_j$ and $\\ell_j = \\log \\sigma_j^2$ for each of $L$ units, and the prior is standard
        normal:

        $$-\\mathrm{ELBO} = -\\sum_{i=1}^D \\log p(x_i \\mid a_i) + \\frac12 \\sum_{j=1}^L \\big(\\mu_j^2 +
        e^{\\ell_j} - 1 - \\ell_j\\big)$$

        Two things to take care of. One of the cases has logits of 800 and $-800$, wrong ones among them: such
        a pixel costs 800 nats. And a Bernoulli decoder gives a picture with a **grey pixel**, neither 0 nor
        1, no probability at all: return infinity, `math.inf`, for such pictures, and the right number for the
        others. (The cross-entropy goes on giving a number there. It is no likelihood.)""",
    hints=("Two terms, each a sum: one over pixels, one over units. Write them one after the other; the "
           "answer has shape (batch,).",
           "−log p(x | a) of a pixel is log(1 + e^a) − x a: `torch.nn.functional.softplus` for the first "
           "part. `torch.nn.functional.binary_cross_entropy_with_logits` does it too; mind its `reduction`.",
           "`((x == 0) | (x == 1)).all(1)` tells which pictures are binary. `torch.where(binary, value, "
           "math.inf)` puts infinity in the place of the others."),
    truth=_loss_by_loops, cases=_decoded,
    level=lambda x, a, m, s: 2 if bool(_grey(x).any()) else int(a.abs().max() > 100),
    must=(("both terms are at least 0: a pixel is given a probability, and a divergence is never negative.",
           lambda yours, *case: (yours >= -1e-6).all()),
          ("the loss is at least the divergence.",
           lambda yours, x, a, m, s: (yours >= _each(m, s).sum(1) - 1e-3).all()),
          ("the loss is at least the reconstruction term.",
           lambda yours, x, a, m, s: (yours >= _surprise(x, a).sum(1) - 1e-3).all())),
    on_the_way=lambda x, a, m, s: {"−log p of each pixel": _surprise(x, a),
                                   "divergence of each unit": _each(m, s)},
    misconceptions=(
        wrong("a mean over the pixels", _loss(lambda x, a: _surprise(x, a).mean(1)),
              says="The reconstruction is averaged over the pixels, and the divergence is not. On MNIST that "
                   "is a β of 784 in disguise: all units collapse onto the prior.",
              hint="The probability of a picture is the product over its pixels. What is its logarithm?"),
        wrong("a mean over the units", _loss(divergence=lambda m, s: _each(m, s).mean(1)),
              says="The divergence is averaged over the units, and the reconstruction is not: a β of 1/L in "
                   "disguise.",
              hint="Divergences of independent units add."),
        wrong("a mean of both", _loss(lambda x, a: _surprise(x, a).mean(1), lambda m, s: _each(m, s).mean(1)),
              says="Both terms are averaged, one over D pixels and the other over L units. What is left is "
                   "no bound on anything, and a β of D/L.",
              hint="Which of the two sums in the formula has a 1 over something before it?"),
        wrong("divided by the pixels",
              lambda x, a, m, s: (_surprise(x, a).sum(1) + _each(m, s).sum(1)) / x.shape[1],
              says="The whole loss is divided by the number of pixels: nats a pixel. Nats an image are asked "
                   "for.",
              hint="Published numbers of MNIST are near 80 or 90. Are they a pixel, or an "
                   "image?", credit=0.5),
        wrong("divergence subtracted", _loss(divergence=lambda m, s: -_each(m, s).sum(1)),
              says="The divergence is subtracted, as in the bound. But the loss is minus the bound: a "
                   "training with yours would drive q away from the prior for ever.",
              hint="−(reconstruction − KL): which sign has KL?"),
        wrong("the bound, not minus it", _loss(whole=torch.neg),
              says="This is the bound itself. The loss is its negative.",
              hint="An optimizer descends. Should it make the bound smaller?"),
        wrong("sign of the reconstruction", _loss(lambda x, a: -_surprise(x, a).sum(1)),
              says="log p(x | z) is added to the divergence. The loss holds −log p(x | z).",
              hint="Is a better reconstruction to make your loss smaller, or larger?"),
        wrong("divergence forgotten", _loss(divergence=_no_divergence),
              says="Only the reconstruction is there: that is the loss of a plain autoencoder with noise.",
              hint="What keeps the codes where the prior will look for them?"),
        wrong("reconstruction forgotten", lambda x, a, m, s: _each(m, s).sum(1),
              says="Only the divergence is there. How well the picture comes back has no part in it.",
              hint="Where do the logits enter?"),
        wrong("one half forgotten", _loss(divergence=lambda m, s: 2 * _each(m, s).sum(1)),
              says="The divergence is twice too large: its ½ is missing.",
              hint="Is this β = 2, on purpose?"),
        wrong("standard deviation used as variance",
              *(_loss(divergence=_units(rule)) for rule in _WITH_SD),
              says="In the divergence a standard deviation stands where the variance must, exp(ℓ), or half "
                   "of a log-variance for the whole. Such a divergence can be negative.",
              hint="With μ = 0 and ℓ = 1.386, is your divergence at least 0?"),
        wrong("sign of the log-variance",
              _loss(divergence=_units(lambda m, s: 0.5 * (m**2 + s.exp() - 1 + s))),
              says="In the divergence ℓ is added. It is subtracted.",
              hint="At which ℓ is your divergence least, with μ = 0?"),
        wrong("sigmoid applied twice", _of_pixels(lambda x, a: _surprise(x, a.sigmoid())),
              _of_chance(lambda a: a.sigmoid().sigmoid()),
              says="The logits went through a sigmoid twice: the function that takes logits was given "
                   "probabilities. All pixels are then between 0.5 and 0.73.",
              hint="Which of the two functions of torch has `with_logits` in its name?"),
        wrong("logits used as probabilities", _of_chance(lambda a: a),
              _of_chance(lambda a: a.clamp(0, 1)),
              says="The logits are used as probabilities. They are any real numbers; the sigmoid makes "
                   "probabilities of them.",
              hint="What is the logarithm of −2?"),
        wrong("squared error", _of_pixels(lambda x, a: (x - a.sigmoid())**2),
              _of_pixels(lambda x, a: (x - a.sigmoid())**2 / 2), _of_pixels(lambda x, a: (x - a)**2),
              _of_pixels(lambda x, a: (x - a)**2 / 2),
              says="You have a squared error: the likelihood of a Gaussian decoder, but for its constants. "
                   "These pixels are 0 or 1, and the decoder gives the probability of 1.",
              hint="How much should it cost to be certain and wrong?"),
        wrong("only the pixels that are on", _of_pixels(lambda x, a: x * softplus(-a)),
              says="Only pixels that are on are counted. A pixel that is off has the probability 1 − σ(a), "
                   "which costs too.",
              hint="What does your loss give for a decoder that paints everything white?"),
        wrong("pixels inverted", _of_pixels(lambda x, a: _surprise(1 - x, a)), _of_pixels(
                  lambda x, a: _surprise(x, -a)),
              says="x and 1 − x are exchanged, or the sign of the logits is turned: being right is what "
                   "costs.",
              hint="A pixel that is on, and a logit of 5: is that cheap, or dear?"),
        wrong("pixels and probabilities exchanged",
              _of_pixels(lambda x, a: binary_cross_entropy(x, a.sigmoid(), reduction="none")),
              _of_pixels(lambda x, a: -(a.sigmoid() * x.log() + (1 - a.sigmoid()) * (1 - x).log())),
              _of_pixels(lambda x, a: softplus(x) - x * a),
              _of_pixels(lambda x, a: softplus(x) - a.sigmoid() * x),
              says="The two arguments of the cross-entropy are exchanged: the logarithm of the pixels is "
                   "taken. First the decoder's output, then the target.",
              hint="Of which of the two is a logarithm taken in the formula?"),
        wrong("one number for the batch", _loss(whole=torch.mean), _loss(whole=torch.sum),
              lambda x, a, m, s: _surprise(x, a).sum() + _each(m, s).sum(1),
              lambda x, a, m, s: _surprise(x, a).mean() + _each(m, s).sum(1),
              lambda x, a, m, s: _surprise(x, a).mean() + _each(m, s).mean(),
              lambda x, a, m, s: _surprise(x, a).mean() + _each(m, s).sum(1).mean(),
              lambda x, a, m, s: _surprise(x, a).mean() + _each(m, s).sum(),
              says="You added or averaged over the images too, in one term or in both (the default of "
                   "torch's cross-entropies is a mean over everything). Each image has its own loss.",
              hint="The answer has shape (batch,). Write `reduction=\"none\"` and sum over dimension 1."),
        wrong("bits for nats", _loss(whole=lambda value: value / LOG_TWO),
              says="Your loss is in bits. Nats are asked for: natural logarithms.",
              hint="Which logarithm has its slope 1 at 1?"),
        wrong("logarithm of a sigmoid", _of_chance(torch.sigmoid),
              _of_pixels(lambda x, a: binary_cross_entropy(a.sigmoid(), x, reduction="none")),
              _of_pixels(lambda x, a: (1 + a.exp()).log() - x * a),
              _of_pixels(lambda x, a: -torch.where(x > 0.5, a.sigmoid(), 1 - a.sigmoid()).log()),
              *(_of_pixels(lambda x, a, e=e: _off_the_edge(x, a, e))
                for e in (1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-15)),
              *(_of_pixels(lambda x, a, e=e: binary_cross_entropy(a.sigmoid().clamp(e, 1 - e), x,
                                                                  reduction="none"))
                for e in (1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-15)),
              *(_of_pixels(lambda x, a, c=c: _surprise(x, a.clamp(-c, c)))
                for c in (10, 15, 20, 30, 50, 80, 88, 100)),
              says="Right for ordinary logits. A sigmoid of 800 is 1 in floating point, and the logarithm of "
                   "1 minus it is that of 0 (which some functions cut off at −100, and some codes at log "
                   "1e-8); or e^800 came up, which is infinite.",
              hint="Take the logarithm on paper: log(1 + e^a) − x a, with `softplus`.", credit=0.5),
        wrong("a number for grey pixels", _loss(), _of_pixels(lambda x, a: _surprise(x.round(), a)),
              _of_pixels(lambda x, a: _surprise((x > 0).to(x.dtype), a)),
              _of_pixels(lambda x, a: _surprise((x == 1).to(x.dtype), a)),
              _of_pixels(lambda x, a: _surprise(x, a) * (x == x.round())),
              says="Right for binary pictures. A picture with a grey pixel gets a number from you: the "
                   "cross-entropy (or a rounded pixel's). Under a Bernoulli decoder its probability is 0, "
                   "and minus the logarithm infinite.",
              hint="What is P(x_i = 0.6), if x_i is 0 with one probability and 1 with the "
                   "other?", credit=0.5),
        wrong("all pictures refused for one",
              lambda x, a, m, s: _loss()(x, a, m, s) + (math.inf if _grey(x).any() else 0.0),
              says="One grey picture makes the loss of the whole batch infinite. The others are sound, and "
                   "get their own numbers.",
              hint="Ask for each image: `.all(1)`, and not `.all()`.", credit=0.5),
        wrong(FREE_GREY, lambda x, a, m, s: torch.where(_grey(x), 0.0, _loss()(x, a, m, s)),
              lambda x, a, m, s: torch.where(_grey(x), math.nan, _loss()(x, a, m, s)),
              says="Grey pictures get 0, minus infinity or NaN from you. The probability is 0, so the loss "
                   "is plus infinity.",
              hint="What is −log 0?", credit=0.5),
    ),
    teaching_notes="The two lines that most VAEs of the web get wrong. Ask for the loss of a machine that "
                   "knows nothing (all logits 0, q the prior): D log 2, 543.4 nats on MNIST. Then let the "
                   "class find the mean in the place of the sum from a printed loss of 0.69.")
def negative_elbo(x: torch.Tensor, logits: torch.Tensor, mean: torch.Tensor,
                  log_variance: torch.Tensor) -> torch.Tensor:
    """Minus the bound on log p(x) of each image, nats; infinite for grey images.

    x: (batch, pixels) of 0 and 1, or grey; logits: (batch, pixels);
    mean, log_variance: (batch, latent); returns (batch,).
    """
    surprise = (torch.nn.functional.softplus(logits) - x * logits).sum(1)
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
    binary = ((x == 0) | (x == 1)).all(1)
    return torch.where(binary, surprise + kl, math.inf)


# --- free bits ----------------------------------------------------------------------------------------------

def _divergences(generator: torch.Generator) -> Iterator[tuple[Tensor, float]]:
    """(kl, nats): units that differ in scale, the first of several switched off; λ lies among them."""
    for batch, latent in ((1, 1), (1, 2), (2, 1), (2, 2), (3, 4), (4, 3), (5, 5), (2, 4)):
        scale = torch.randint(2, 16, (latent,), generator=generator)
        if latent > 1:
            scale[0] = 0
        size = (torch.rand((batch, latent), generator=generator) * 2 * scale).ceil()
        nats = int(torch.randint(5, 10, (1,), generator=generator)) / 10
        yield size.to(torch.float64) / 10, nats


def _free_by_loops(kl: Tensor, nats: float) -> Tensor:
    """Unit by unit: its mean over the images, or the free nats where it is below."""
    rows = kl.tolist()
    means = [math.fsum(row[j] for row in rows) / len(rows) for j in range(kl.shape[1])]
    return torch.tensor(math.fsum(value if value > nats else nats for value in means), dtype=torch.float64)


@code_exercise(
    title="Free bits", difficulty=2, minutes=10, points=3, equations=("eq-vae-reading-kl",),
    statement="""
        A unit that is worth little is soon switched off: its divergence goes to 0, and with it every reason
        to come back. *Free bits* take away what drives it there. A unit's divergence, averaged over the $N$
        images of the batch, counts as at least $\\lambda$ nats, so that below $\\lambda$ nothing is gained by
        lowering it:

        $$\\sum_{j=1}^L \\max\\Big(\\lambda,\\; \\frac1N \\sum_{n=1}^N
        \\mathrm{KL}\\big(q(z_j \\mid x_n) \\,\\|\\, p(z_j)\\big)\\Big)$$

        Compute it from the divergences of single units, (batch, latent). The name says bits; $\\lambda$ is in
        nats, as everything here.""",
    hints=("Three operations in a row: a mean, a maximum, a sum. Each has its own dimension (or none): "
           "which?",
           "The mean is over the images, dimension 0, and comes before the maximum: λ is for a unit, not for "
           "a unit at an image.",
           "`kl.mean(0)` has shape (latent,). `.clamp(min=nats)` is its maximum with λ; then `.sum()`."),
    truth=_free_by_loops, cases=_divergences,
    must=(("every unit counts at least λ.", lambda yours, kl, nats: yours >= kl.shape[1] * nats - 1e-4),
          ("what is counted is at least the mean divergence of an image.",
           lambda yours, kl, nats: yours >= kl.sum(1).mean() - 1e-4)),
    on_the_way=lambda kl, nats: {"mean of each unit": kl.mean(0), "with λ": kl.mean(0).clamp(min=nats)},
    misconceptions=(
        wrong("the maximum image by image", lambda kl, nats: kl.clamp(min=nats).mean(0).sum(),
              says="You took the maximum for each image and averaged then. A unit that is worth much for few "
                   "images is then paid λ for all others as well; the mean over the batch comes first.",
              hint="A unit with 0 nats at one image and 2λ at the other: what does it count?"),
        wrong("the maximum over the sum", lambda kl, nats: kl.sum(1).clamp(min=nats).mean(),
              lambda kl, nats: kl.sum(1).mean().clamp(min=nats),
              lambda kl, nats: kl.sum(1).mean().clamp(min=nats * kl.shape[1]),
              lambda kl, nats: kl.sum(1).clamp(min=nats * kl.shape[1]).mean(),
              says="You compare λ with the divergence of all units together. Then one strong unit pays for "
                   "all, and the others may switch off: λ is for each unit.",
              hint="Which stands inside, the sum over the units or the maximum?"),
        wrong("minimum for maximum", lambda kl, nats: kl.mean(0).clamp(max=nats).sum(),
              says="You took the minimum: a unit counts at most λ. Then strong units are free, and weak ones "
                   "are still driven to 0.",
              hint="A unit with a mean of 0 nats: what does it count?"),
        wrong("only what is above counts", lambda kl, nats: (kl.mean(0) - nats).clamp(min=0).sum(),
              says="You count what a unit has above λ, and 0 below. The gradient is the same, and the number "
                   "is smaller by λ for each unit: with it, minus the loss is no bound any more.",
              hint="A unit with a mean of 0 nats: what does it count?", credit=0.5),
        wrong("units below cost nothing",
              lambda kl, nats: torch.where(kl.mean(0) > nats, kl.mean(0), 0.0).sum(),
              says="A unit below λ counts 0 with you, and one above counts fully: at λ it jumps. Below λ it "
                   "counts λ.",
              hint="What is max(λ, 0)?"),
        wrong("λ added", lambda kl, nats: (kl.mean(0) + nats).sum(),
              says="λ is added to each unit. That is a constant, and changes nothing in the gradient.",
              hint="max(a, b) is not a + b."),
        wrong("λ subtracted", lambda kl, nats: (kl.mean(0) - nats).sum(),
              says="λ is subtracted from each unit, which is a constant and may make the sum negative.",
              hint="What does a unit count that has 0 nats?"),
        wrong("λ ignored", lambda kl, nats: kl.mean(0).sum(),
              says="This is the mean divergence, without free bits.", hint="Where do you use `nats`?"),
        wrong("a mean over the units", lambda kl, nats: kl.mean(0).clamp(min=nats).mean(),
              lambda kl, nats: kl.mean().clamp(min=nats),
              says="You averaged over the units. Divergences of units add.",
              hint="If a copy of all units is put beside them, what happens to the sum?"),
        wrong("a sum over the images", lambda kl, nats: kl.sum(0).clamp(min=nats).sum(),
              lambda kl, nats: kl.sum(0).clamp(min=nats).sum() / len(kl),
              lambda kl, nats: kl.clamp(min=nats).sum(),
              says="You added over the images before the maximum. The larger the batch, the sooner a unit "
                   "would pass λ: take the mean.",
              hint="Should λ depend on the size of the batch?"),
        wrong("over the wrong dimension", lambda kl, nats: kl.mean(1).clamp(min=nats).sum(),
              lambda kl, nats: kl.mean(1).clamp(min=nats).mean(), lambda kl, nats: kl.mean(1).clamp(min=nats),
              says="You averaged over the units of each image, dimension 1. The mean is over the images, and "
                   "the units stay apart until the maximum is taken.",
              hint="kl is (batch, latent). Which dimension are the images?"),
        wrong("one number an image", lambda kl, nats: kl.clamp(min=nats).sum(1),
              lambda kl, nats: kl.sum(1).clamp(min=nats), lambda kl, nats: kl.sum(1),
              says="You give a number for each image. The mean over the images stands inside of the maximum, "
                   "so that one number for the batch is left.",
              hint="In the formula, which index is summed first?"),
        wrong("one number a unit", lambda kl, nats: kl.mean(0).clamp(min=nats),
              says="These are the units' numbers. Their sum is asked for.",
              hint="Which Σ of the formula is still to be done?"),
        wrong("bits for nats", lambda kl, nats: kl.mean(0).clamp(min=nats * LOG_TWO).sum(),
              lambda kl, nats: kl.mean(0).clamp(min=nats / LOG_TWO).sum(),
              says="You took λ for bits and converted it (or the other way round). In spite of the name it "
                   "is in nats here, as the divergences are.",
              hint="In which unit is `kl`?", credit=0.5),
        wrong("λ shared by the units", lambda kl, nats: kl.mean(0).clamp(min=nats / kl.shape[1]).sum(),
              says="You divide λ among the units. Each unit has the whole of it.",
              hint="Is there a 1/L beside λ in the formula?"),
    ),
    teaching_notes="Let the class say what the gradient of a unit below λ is (0 from this term), and what "
                   "then moves it: the reconstruction alone. Ask whether the loss is still a bound: yes, a "
                   "looser one, since more than the divergence is subtracted.")
def free_bits(kl: torch.Tensor, nats: float) -> torch.Tensor:
    """The divergence of a batch with free bits: one number, nats.

    kl: (batch, latent), divergences of single units at single images;
    nats: λ, what a unit counts at least.
    """
    return kl.mean(0).clamp(min=nats).sum()


EXERCISES = (elbo_proof, kl_proof, gaussian_kl, score_proof, reparameterise, negative_elbo, iwae_proof,
             importance_bound, free_bits)
_help = Help(EXERCISES)
hint, solution = _help.hint, _help.solution
