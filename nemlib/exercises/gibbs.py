"""The exercises of chapter 1, sampling and Gibbs. `nemlib.exercises` tells how to add one."""

import itertools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nemlib import gibbs as model
from nemlib.exercises.core import Help, function_exercise, wrong
from nemlib.exercises.derivation import Derivation, Instance, Landmark


# --- the standard error of a Monte Carlo mean ---------------------------------------------------------------

def _draws(generator: torch.Generator) -> Iterator[tuple[Tensor]]:
    for n in (2, 3, 4, 5, 8, 12):
        yield ((1 + 3 * torch.randn(n, generator=generator, dtype=torch.float64)).round(decimals=1),)


def _standard_error_by_pairs(samples: Tensor) -> float:
    """s² as the mean of ½(x − y)² over all pairs of draws: no mean, no n − 1."""
    pairs = list(itertools.combinations(samples.tolist(), 2))
    return math.sqrt(sum((x - y)**2 / 2 for x, y in pairs) / len(pairs) / len(samples))


@function_exercise(
    title="The standard error of a mean", chapter=1, difficulty=1, minutes=8, points=2,
    equations=("eq-gibbs-monte-carlo", "eq-gibbs-monte-carlo-variance"),
    statement="""
        A Monte Carlo estimate is worth as much as its error bar. Given $n$ independent draws, estimate the
        standard deviation of their **mean**, $\\sigma/\\sqrt{n}$, with $\\sigma^2$ estimated without bias
        from the same draws.""",
    hints=("Two steps: how far does one draw spread, and how much less does a mean of n of them?",
           "The variance of the mean is σ²/n. Its root is asked for. For σ², remember that the "
           "mean was estimated from the same draws: one degree of freedom is gone.",
           "`samples.std()` divides by n − 1 unless it is told otherwise. Divide it by the root of "
           "`len(samples)`."),
    truth=_standard_error_by_pairs, cases=_draws,
    must=(("an error bar is never negative.", lambda yours, samples: yours >= 0),
          ("the error of a mean is smaller than the spread of the draws.",
           lambda yours, samples: yours <= samples.max() - samples.min())),
    on_the_way=lambda samples: {"n": len(samples), "mean": samples.mean(),
                                "sum of squared deviations": (samples - samples.mean()).square().sum()},
    misconceptions=(
        wrong("standard deviation for standard error", lambda x: x.std(),
              says="This is the spread of one draw. It does not shrink when you draw more, and an error bar "
                   "must.",
              hint="With four times as many draws, by how much should your answer fall? Try it."),
        wrong("divided by n in place of its root", lambda x: x.std() / len(x),
              says="You divided the standard deviation by n. It is the variance of the mean that falls "
                   "like 1/n.",
              hint="Var(mean) = σ²/n. What is its square root?"),
        wrong("variance for standard deviation", lambda x: x.var() / len(x),
              says="This is the variance of the mean, in squared units; the standard error is its root.",
              hint="If the draws were metres, what unit would your answer have?"),
        wrong("n in place of n − 1", lambda x: x.std(correction=0) / math.sqrt(len(x)),
              says="The squares around the estimated mean are too small by the factor (n − 1)/n, and "
                   "dividing by n keeps that bias. (numpy's `std` does so by default, torch's does not.)",
              hint="Divide the sum of squares by n − 1: `correction=1` in torch, `ddof=1` in numpy.",
              credit=0.5),
        wrong("n − 1 twice", lambda x: x.std() / math.sqrt(len(x) - 1),
              says="n − 1 belongs into the estimate of σ² only. The mean is still a mean of n draws.",
              hint="Which of your two divisions counts degrees of freedom, and which counts draws?"),
        wrong("the mean was not subtracted", lambda x: (x.square().mean() / len(x)).sqrt(),
              lambda x: (x.square().sum() / (len(x) - 1) / len(x)).sqrt(),
              says="You averaged x² and not (x − mean)²: an estimate far from zero looks uncertain then.",
              hint="Add 1000 to every draw. Should the error bar change?"),
        wrong("a sum of squares, not their mean",
              lambda x: (x - x.mean()).square().sum().sqrt() / math.sqrt(len(x)),
              lambda x: (x - x.mean()).square().sum().sqrt(),
              says="The squared deviations are added and never divided by n − 1: the answer grows with n or "
                   "stays.",
              hint="Which division turns a sum of squares into a variance?"),
    ),
    teaching_notes="Let two readers compare n = 100 and n = 400 draws before they write code. Those who "
                   "return σ confuse the spread of the draws with the uncertainty of their mean: show both "
                   "on one axis.")
def standard_error(samples: torch.Tensor) -> torch.Tensor:
    """The standard error of the mean of independent draws.

    samples: (n,) with n ≥ 2; returns one number.
    """
    n = len(samples)
    return samples.std(correction=1) / n**0.5


# --- inverse transform --------------------------------------------------------------------------------------

def _uniforms(generator: torch.Generator) -> Iterator[tuple[Tensor, float]]:
    for shape, rate in (((1,), 2.0), ((1,), 0.5), ((2,), 2.5), ((3,), 0.4), ((2, 3), 1.5), ((6,), 3.0)):
        u = 0.05 + 0.9 * torch.rand(shape, generator=generator, dtype=torch.float64)
        yield u.round(decimals=2), rate


def _exponential_by_bisection(u: Tensor, rate: float) -> Tensor:
    """The x at which the distribution function 1 − exp(−rate · x) reaches u, found by halving an interval."""
    low, high = torch.zeros_like(u), torch.full_like(u, 100 / rate)
    for _ in range(80):
        middle = (low + high) / 2
        below = 1 - torch.exp(-rate * middle) < u
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


@function_exercise(
    title="From a uniform to an exponential", chapter=1, difficulty=1, minutes=8, points=2,
    equations=("eq-gibbs-inverse-transform",),
    statement="""
        The exponential law of rate $\\lambda$ has the distribution function $F(x) = 1 - e^{-\\lambda x}$ for
        $x \\ge 0$. Turn uniform numbers $u$ into exponential ones by its inverse, $x = F^{-1}(u)$. The rate
        is one over the mean.""",
    hints=("Set u = F(x) and free x. Do it on paper first.",
           "1 − u = exp(−λx). Now take the log of both sides; mind the sign.",
           "x = −log(1 − u)/λ. `torch.log1p(-u)` computes log(1 − u) well for small u."),
    truth=_exponential_by_bisection, cases=_uniforms,
    must=(("a waiting time is never negative.", lambda yours, u, rate: (yours >= 0).all()),
          ("put into F, your x gives u back: 1 − exp(−rate · x) = u.",
           lambda yours, u, rate: torch.allclose(1 - torch.exp(-rate * yours), u, atol=1e-4))),
    on_the_way=lambda u, rate: {"exp(−rate · x) must be": 1 - u, "so −rate · x must be": (1 - u).log()},
    misconceptions=(
        wrong("u in place of 1 − u", lambda u, rate: -torch.log(u) / rate,
              says="Your numbers have the right law, because 1 − U is uniform when U is, but they are not "
                   "F⁻¹(u): your function falls where u grows. (As a sampler it is used everywhere; as an "
                   "inverse it is wrong.)",
              hint="F⁻¹(0) must be 0. What is yours as u goes to 0?", credit=0.5),
        wrong("mean in place of rate", lambda u, rate: -torch.log1p(-u) * rate,
              says="You multiplied by the rate. A high rate means short waiting times.",
              hint="The mean of the law is 1/λ. What is the mean of your numbers for λ = 10?"),
        wrong("sign of the log", lambda u, rate: torch.log1p(-u) / rate,
              says="All your numbers are negative: log(1 − u) is, and a minus must turn it round.",
              hint="From exp(−λx) = 1 − u, what is −λx?"),
        wrong("dropped the rate", lambda u, rate: -torch.log1p(-u),
              says="This is the exponential law of rate 1: the rate is not used.",
              hint="Call your function with two rates and the same u."),
        wrong("the distribution function, not its inverse", lambda u, rate: 1 - torch.exp(-rate * u),
              says="This is F(u), which takes a waiting time to a probability. Its inverse goes the other "
                   "way.",
              hint="Can your function ever return a number above 1? A waiting time can be longer."),
        wrong("the density, not the inverse", lambda u, rate: rate * torch.exp(-rate * u),
              says="This is the density λe^(−λx) at u. A density says how often values fall near a place; it "
                   "is no sample.",
              hint="Solve u = 1 − exp(−λx) for x; the density does not enter."),
        wrong("log to base 10", lambda u, rate: -torch.log10(1 - u) / rate,
              says="The inverse of e^x is the natural logarithm.",
              hint="`torch.log` and `math.log` are natural, `log10` is not."),
        wrong("log(1 + u) for log(1 − u)", lambda u, rate: torch.log1p(u) / rate,
              lambda u, rate: -torch.log1p(u) / rate,
              says="The sign inside the log is lost: `log1p(u)` is log(1 + u).",
              hint="`log1p(-u)` is log(1 − u)."),
    ),
    teaching_notes="−log(u)/λ earns half the points: it samples correctly, and saying why (1 − U is uniform) "
                   "is worth a minute in class. It fails where monotonicity matters: quantiles, common "
                   "random numbers.")
def inverse_exponential(u: torch.Tensor, rate: float) -> torch.Tensor:
    """Exponential numbers F⁻¹(u) of a rate > 0.

    u: uniform in [0, 1), of any shape; returns that shape.
    """
    return -torch.log1p(-u) / rate


# --- the stationary law of a chain --------------------------------------------------------------------------

def _chains(generator: torch.Generator) -> Iterator[tuple[Tensor]]:
    """Matrices in tenths, every entry at least 1/10: irreducible, aperiodic, quick to forget. Then the roads.

    On the chapter's road map eigenvalue 1 is not the first that is found.
    """
    for levels in (2, 2, 3, 3, 4, 5):
        throws = torch.randint(levels, (levels, 10 - levels), generator=generator)
        rows = [1 + torch.bincount(row, minlength=levels) for row in throws]
        yield (torch.stack(rows).to(torch.float64) / 10,)
    roads = torch.tensor([[2, 1, 0, 0, 1], [1, 1, 2, 0, 0], [0, 2, 1, 1, 0], [0, 0, 1, 6, 1],
                          [1, 0, 0, 1, 2]], dtype=torch.float64)
    yield (roads / roads.sum(1, keepdim=True),)


def _law_after_many_steps(T: Tensor) -> Tensor:
    return torch.linalg.matrix_power(T, 4096)[0]


def _perron(matrix: Tensor) -> Tensor:
    """The eigenvector of eigenvalue 1 as it comes: of length one, of either sign."""
    values, vectors = torch.linalg.eig(matrix)
    return vectors[:, (values - 1).abs().argmin()].real


def _symmetric(matrix: Tensor) -> Tensor:
    """What eigh gives for eigenvalue nearest 1: it reads the lower triangle as if the upper were the same."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors[:, (values - 1).abs().argmin()]


def _normalised(vector: Tensor) -> Tensor:
    return vector / vector.sum()


@function_exercise(
    title="The stationary law of a chain", chapter=1, difficulty=2, minutes=15, points=3,
    equations=("eq-gibbs-chain", "eq-gibbs-stationarity"),
    statement="""
        $T$ is the transition matrix of an irreducible, aperiodic chain,
        $T(x, y) = P(X_{t+1} = y \\mid X_t = x)$: rows sum to 1. Find its stationary law, the row vector with
        $\\pi T = \\pi$. Any method will do: an eigenvector, a linear system, or many steps.""",
    hints=("πT = π: which eigenvector is that, with which eigenvalue, and of which matrix?",
           "A left eigenvector of T is an ordinary (right) eigenvector of its transpose. Numerical "
           "libraries give eigenvectors of length 1 and of any sign; a law sums to 1.",
           "Take `values, vectors = torch.linalg.eig(T.T)`, pick the column whose eigenvalue is nearest 1, "
           "take `.real`, and divide by its sum. Or take any row of a high power of T."),
    truth=_law_after_many_steps, cases=_chains,
    must=(("a law has no negative entries.", lambda yours, T: (yours >= 0).all()),
          ("a law sums to 1.", lambda yours, T: (yours.sum() - 1).abs() < 1e-4),
          ("one more step, π times T, gives the same law again.",
           lambda yours, T: torch.allclose(yours @ T, yours, atol=1e-5))),
    on_the_way=lambda T: {"law after 1 step from state 0": T[0], "after 2 steps": (T @ T)[0],
                          "after 4 steps": torch.linalg.matrix_power(T, 4)[0]},
    misconceptions=(
        wrong("right for left eigenvector",
              lambda T: torch.ones(len(T)) / len(T), lambda T: torch.ones(len(T)),
              lambda T: torch.ones(len(T)) / len(T)**0.5, lambda T: -torch.ones(len(T)) / len(T)**0.5,
              says="All your entries are equal: you solved Tπ = π, and the rows of T sum to 1, so a constant "
                   "vector always solves that. The law stands on the left: πT = π.",
              hint="Transpose T before you ask for its eigenvectors, or multiply from the left."),
        wrong("took the first eigenvector", lambda T: _normalised(torch.linalg.eig(T.T)[1][:, 0].real),
              lambda T: torch.linalg.eig(T.T)[1][:, 0].real,
              says="You took the first column, and the eigenvalues come in no particular order: only "
                   "sometimes is the first the one that belongs to eigenvalue 1.",
              hint="Print the eigenvalues of the chapter's road map. Choose the column whose eigenvalue is "
                   "nearest 1: `(values - 1).abs().argmin()`."),
        wrong("eigh for eig", lambda T: _normalised(_symmetric(T.T)), lambda T: _normalised(_symmetric(T)),
              lambda T: _normalised(torch.linalg.eigh(T.T)[1][:, -1]),
              lambda T: _normalised(torch.linalg.eigh(T)[1][:, -1]),
              says="T is not symmetric: `eigh` reads one triangle only and takes the other for its mirror "
                   "image.",
              hint="Use `torch.linalg.eig` and take `.real`."),
        wrong("forgot the normaliser", lambda T: _perron(T.T), lambda T: -_perron(T.T),
              says="This is the right direction with length 1 (or the opposite sign): a law is non-negative "
                   "and sums to 1.",
              hint="Divide by the sum; that mends the sign too."),
        wrong("one step from the uniform law", lambda T: T.mean(0),
              says="You averaged the rows of T: the law after one step from a uniform start.",
              hint="Take another step with your answer: does it stay the same?"),
        wrong("one row of T", lambda T: T[0],
              says="The first row is the law after one step from state 0. The chain has not forgotten its "
                   "start.",
              hint="Compare your answer with the second row. A stationary law knows no start."),
        wrong("staying for being", lambda T: T.diagonal() / T.diagonal().sum(), lambda T: T.diagonal(),
              says="The diagonal holds the chance to stay in a state once there. How often the chain comes "
                   "there counts too.",
              hint="Check πT = π with your answer."),
        wrong("the limit matrix, not its row", lambda T: torch.linalg.matrix_power(T, 4096),
              says="You return the whole limit of Tⁿ. All its rows are equal, and each is the stationary "
                   "law.",
              hint="Take one row.", credit=0.5),
    ),
    teaching_notes="The uniform answer is the most frequent one. Ask for the meaning of T·1 = 1 (rows sum to "
                   "one) against πT = π (mass is conserved and balanced).")
def stationary_law(T: torch.Tensor) -> torch.Tensor:
    """The stationary law of a chain.

    T: (L, L), rows sum to 1; returns (L,), non-negative, of sum 1.
    """
    values, vectors = torch.linalg.eig(T.T)
    law = vectors[:, (values - 1).abs().argmin()].real
    return law / law.sum()


# --- each Gibbs step is in detailed balance (derivation) ----------------------------------------------------

def _law_instances(generator: torch.Generator) -> list[Instance]:
    return [_law_instance(p, levels, generator) for p, levels in ((2, 2), (2, 3), (3, 2), (2, 4), (3, 3))]


def _law_instance(p: int, levels: int, generator: torch.Generator) -> Instance:
    """A random law on {0..levels−1}^p with whole weights, and two states that differ in coordinate i."""
    states = tuple(itertools.product(range(levels), repeat=p))
    weights = torch.randint(1, 10, (len(states),), generator=generator).tolist()
    law = {state: weight / sum(weights) for state, weight in zip(states, weights)}
    i = int(torch.randint(p, (), generator=generator))
    x = states[int(torch.randint(len(states), (), generator=generator))]
    y = put(x, i, (x[i] + 1) % levels)

    def kernel(i: int, x: tuple, y: tuple) -> float:
        if rest(x, i) != rest(y, i):
            return 0.0
        return law[y] / sum(law[z] for z in states if rest(z, i) == rest(x, i))

    listed = ", ".join(map(str, weights))
    shown = f"i = {i}, x = {x}, y = {y}, π = ({listed})/{sum(weights)} over the states in order"
    return Instance(shown, {"pi": lambda x: law[x], "T": kernel, "put": put, "rest": rest, "x": x, "y": y,
                            "i": i, "states": states, "levels": tuple(range(levels))})


def put(x: tuple, i: int, k: int) -> tuple:
    """The state x with its coordinate i set to k."""
    return (*x[:i], k, *x[i + 1:])


def rest(x: tuple, i: int) -> tuple:
    """All coordinates of x but coordinate i."""
    return (*x[:i], *x[i + 1:])


detailed_balance = Derivation(
    name="detailed_balance", title="Each Gibbs step is in detailed balance",
    chapter=1, difficulty=2, minutes=15, points=3,
    equations=("eq-gibbs-detailed-balance", "eq-gibbs-conditional", "eq-gibbs-kernel", "eq-gibbs-reversible"),
    statement="""
        The Gibbs step $T_i$ draws coordinate $i$ from its conditional and leaves the others. Show that for
        two states $x$ and $y$ that differ in coordinate $i$ only,
        $\\pi(x)\\,T_i(x, y) = \\pi(y)\\,T_i(y, x)$. Fill in the lines marked `...`, or write a chain of your
        own.""",
    symbols=(("pi(x)", "\\pi(x)", "probability of the state $x$"),
             ("T(i, x, y)", "T_i(x, y)", "probability that step $i$ leads from $x$ to $y$"),
             ("put(x, i, k)", "(x_1, …, x_i = k, …, x_p)", "$x$ with coordinate $i$ set to $k$"),
             ("levels", "1, …, L", "the values of a coordinate (from 0 in code)"),
             ("states", "\\mathcal X", "all states"),
             ("rest(x, i)", "x_{-i}", "all coordinates of $x$ but the $i$-th")),
    chain="""
        pi(x) * T(i, x, y)
        = pi(x) * pi(y) / sum(pi(put(x, i, k)) for k in levels)   # the definition of T_i
        = pi(y) * pi(x) / sum(pi(put(y, i, k)) for k in levels)   # x and y agree off i
        = pi(y) * T(i, y, x)      # the definition, read backwards
        """,
    blanks=(2, 3), least_lines=2, instances=_law_instances,
    nearly="Right idea: now show that the sum is the same for y, with one line for x's sum and one for y's.",
    landmarks=(Landmark("Write `T` out by its definition in at least one line.",
                        uses=frozenset({"pi"}), avoids=frozenset({"T"})),),
    hints=("Which probability is T_i(x, y)? Step i draws the new coordinate from a conditional: write that "
           "as a joint over a marginal.",
           "T_i(x, y) = π(y) / Σ_k π(x with x_i = k). The sum runs over the values of coordinate i only; the "
           "others are held where they are in x.",
           "x and y agree in all other coordinates, so Σ_k π(put(x, i, k)) and Σ_k π(put(y, i, k)) are the "
           "same number: exchange them, and read the definition of T_i(y, x) backwards."),
    misconceptions=(
        wrong("dropped the marginal", "pi(x) * pi(y)",
              says="The step to y is taken with probability π(y) here. But step i cannot choose all of y: "
                   "given the other coordinates it chooses x_i only, so π(y) must be divided by their "
                   "marginal Σ_k π(x_i = k, x_-i). (A sum over all states is 1 and does not mend it.)",
              hint="Do the probabilities T(i, x, put(x, i, k)) sum to 1 over k?"),
        wrong("conditioned on the wrong variables",
              "pi(x) * pi(y) / sum(pi(z) for z in states if z[i] == y[i])",
              "pi(x) * pi(y) / sum(pi(z) for z in states if z[i] == x[i])",
              says="Your sum holds coordinate i and runs over the others: that is the law of the others "
                   "given x_i. Step i needs the law of x_i given the others.",
              hint="Which coordinates does step i leave where they are? These stand behind the bar."),
        wrong("old and new state mixed up", "pi(x) * pi(x) / sum(pi(put(x, i, k)) for k in levels)",
              "pi(y) * pi(y) / sum(pi(put(x, i, k)) for k in levels)",
              says="The same state stands twice. T_i(x, y) has the state it goes to above the fraction "
                   "line, π(y), and the state it comes from is weighed by π(x).",
              hint="In T(i, x, y), which of the two is the new state?"),
        wrong("dropped the starting weight", "pi(y) / sum(pi(put(x, i, k)) for k in levels)",
              "pi(x) / sum(pi(put(x, i, k)) for k in levels)",
              says="A factor is lost: this is a transition probability alone. Detailed balance weighs it by "
                   "the probability of being where it starts.",
              hint="Count the factors π above the fraction line: two are needed, one for each state."),
        wrong("a uniform move", "pi(x) / len(levels)", "pi(y) / len(levels)",
              says="You let step i choose each value with probability 1/L. The Gibbs step chooses from the "
                   "conditional.",
              hint="Where does π(y) enter T_i(x, y)?"),
        wrong("left the present value out",
              "pi(x) * pi(y) / sum(pi(put(x, i, k)) for k in levels if k != x[i])",
              says="Your sum skips the value that x_i has now. The Gibbs step may draw it again.",
              hint="Let k run over all levels."),
        wrong("levels counted from 1",
              "pi(x) * pi(y) / sum(pi(put(x, i, k)) for k in range(1, len(levels) + 1))",
              says="There is no such state: the levels are 1, …, L in the book and count from 0 in code.",
              hint="Write `for k in levels`, which is right for every L."),
    ),
    teaching_notes="Two ideas only: the definition, and that the normaliser depends on x_-i alone. Ask "
                   "afterwards why the sweep T_1 ⋯ T_p is *not* reversible although each factor is.")


# --- the conditional of an Ising spin -----------------------------------------------------------------------

def _grids(generator: torch.Generator) -> Iterator[tuple[Tensor, int, int, float, float]]:
    """Every site of small grids, some of them not square, with fields and couplings in tenths."""
    for height, width in ((1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 3)):
        for i, j in itertools.product(range(height), range(width)):
            spins = 2.0 * torch.randint(2, (height, width), generator=generator).to(torch.float64) - 1
            tenths = torch.randint(1, 10, (2,), generator=generator).tolist()
            yield spins, i, j, tenths[0] / 10, (tenths[1] - 5 or 2) / 10


def _conditional_by_energies(spins: Tensor, i: int, j: int, coupling: float, field: float) -> float:
    """e^{−E(+)} over e^{−E(+)} + e^{−E(−)}, with the energy of the whole grid added bond by bond."""
    def weight(value: float) -> float:
        s = spins.tolist()
        s[i][j] = value
        height, width = len(s), len(s[0])
        bonds = sum(s[a][b] * s[a + 1][b] for a in range(height - 1) for b in range(width))
        bonds += sum(s[a][b] * s[a][b + 1] for a in range(height) for b in range(width - 1))
        return math.exp(coupling * bonds + field * sum(map(sum, s)))
    return weight(1.0) / (weight(1.0) + weight(-1.0))


def _around(spins: Tensor, i: int, j: int, moves: str = "4") -> list[float]:
    """The neighbours inside the grid: of the four sides, or of sides and corners ("8")."""
    steps = [(-1, 0), (1, 0), (0, -1), (0, 1)] + [(-1, -1), (-1, 1), (1, -1), (1, 1)] * (moves == "8")
    inside = [(i + a, j + b) for a, b in steps if 0 <= i + a < spins.shape[0] and 0 <= j + b < spins.shape[1]]
    return [float(spins[place]) for place in inside]


def _up(spins: Tensor, i: int, j: int) -> int:
    return sum(spin > 0 for spin in _around(spins, i, j))


def _mean(values: list[float]) -> float:
    return sum(values) / max(len(values), 1)


def _sigmoid(a: float) -> float:
    return 1 / (1 + math.exp(-a))


def _spin(rule: Callable) -> Callable:
    """A mutant from a rule of (the neighbours' sum, coupling, field, the spin itself)."""
    return lambda spins, i, j, J, b: rule(sum(_around(spins, i, j)), J, b, float(spins[i, j]))


def _periodic(spins: Tensor, i: int, j: int, J: float, b: float) -> float:
    around = sum(float(spins.roll(shift, dim)[i, j]) for dim in (0, 1) for shift in (-1, 1))
    return _sigmoid(2 * (J * around + b))


def _half_periodic(spins: Tensor, i: int, j: int, J: float, b: float) -> float:
    """spins[i − 1, j] without a guard: Python's index −1 is the last row."""
    height, width = spins.shape
    around = spins[i - 1, j] + spins[i, j - 1]
    around = around + (spins[i + 1, j] if i + 1 < height else 0) + (spins[i, j + 1] if j + 1 < width else 0)
    return _sigmoid(2 * (J * float(around) + b))


@function_exercise(
    title="The conditional of one Ising spin", chapter=1, difficulty=2, minutes=15, points=3,
    equations=("eq-gibbs-ising-energy", "eq-gibbs-ising-law", "eq-gibbs-ising-conditional"),
    statement="""
        The energy of a grid of spins $\\pm 1$ is

        $$E(s) = -J \\sum_{k \\sim l} s_k s_l - b \\sum_k s_k$$

        with each pair of neighbours $k \\sim l$ counted once and nothing beyond the grid's edge (a *free*
        boundary). Its law is $\\pi(s) \\propto e^{-E(s)}$. Compute the probability that the spin in row
        $i$, column $j$ is $+1$ given all the others.""",
    hints=("Only two states matter: the grid with this spin up and with it down. What is the difference of "
           "their energies?",
           "All terms without this spin cancel. What is left is E(−) − E(+) = 2(J·m + b), with m the sum of "
           "its neighbours' spins: where does the 2 come from?",
           "P(+1 | rest) = σ(2(J·m + b)). Add a neighbour to m only if it lies in the grid: guard "
           "all four sides, since Python takes the index −1 for the last row."),
    truth=_conditional_by_energies, cases=_grids,
    must=(("a probability lies between 0 and 1.", lambda yours, *case: 0 <= yours <= 1),
          ("where J·m + b is positive, +1 is more probable than −1; where negative, less.",
           lambda yours, spins, i, j, J, b: (yours - 0.5) * (J * sum(_around(spins, i, j)) + b) >= 0)),
    on_the_way=lambda spins, i, j, J, b: {"neighbours in the grid": _around(spins, i, j),
                                          "J·m + b": J * sum(_around(spins, i, j)) + b},
    misconceptions=(
        wrong("missing factor 2", _spin(lambda m, J, b, s: _sigmoid(J * m + b)),
              says="Your log-odds are J·m + b, half of what they are: the spin goes from −1 to +1, a change "
                   "by 2. (With units in {0, 1} there would be no 2.)",
              hint="Write E(+) and E(−) for a single spin without neighbours, and subtract."),
        wrong("sign of the energy", _spin(lambda m, J, b, s: _sigmoid(-2 * (J * m + b))),
              says="You computed the probability of −1: low energy must mean high probability.",
              hint="With a strong positive field, which way should the spin point? Try b = 5."),
        wrong("field not doubled", _spin(lambda m, J, b, s: _sigmoid(2 * J * m + b)),
              says="The 2 belongs to the field as well: −b·s changes by 2b when s goes from +1 to −1.",
              hint="Put the brackets: 2(J·m + b)."),
        wrong("dropped the field", _spin(lambda m, J, b, s: _sigmoid(2 * J * m)),
              says="The field b is not used: without neighbours your spin is a fair coin.",
              hint="Look at the grid of a single spin: what should its probability be?"),
        wrong("periodic for free boundary", _periodic,
              says="Your grid is closed to a ring: a spin at the edge sees the opposite edge. Here the edge "
                   "is free.",
              hint="How many neighbours does a corner have? (`torch.roll` wraps round.)"),
        wrong("index −1 wraps round", _half_periodic,
              says="At the first row or column you read index −1, which is the last one in Python: the "
                   "spin sees the opposite edge on two of four sides.",
              hint="Guard the lower end too: `if i > 0`."),
        wrong("counted the spin itself", _spin(lambda m, J, b, s: _sigmoid(2 * (J * (m + s) + b))),
              says="The spin's own value is among its neighbours: then the conditional depends on what it is "
                   "about to draw.",
              hint="Flip spins[i, j]: your answer changes, and it must not."),
        wrong("0/1 spins for ±1", lambda spins, i, j, J, b: _sigmoid(2 * (J * _up(spins, i, j) + b)),
              lambda spins, i, j, J, b: _sigmoid(J * _up(spins, i, j) + b),
              says="You counted up-spins only, as if spins were 0 and 1. A −1 must pull down.",
              hint="A neighbour that is −1 contributes −J, not 0."),
        wrong("mean for sum of the neighbours",
              lambda spins, i, j, J, b: _sigmoid(2 * (J * _mean(_around(spins, i, j)) + b)),
              says="You averaged the neighbours; the energy adds them. Four agreeing neighbours pull harder "
                   "than one.",
              hint="Sum over bonds: no division."),
        wrong("diagonal neighbours too",
              lambda spins, i, j, J, b: _sigmoid(2 * (J * sum(_around(spins, i, j, "8")) + b)),
              says="The corners are counted as neighbours. On this grid only the four sides are bonds.",
              hint="Which sites differ in one index by one?"),
        wrong("the spin's mean, not a probability", _spin(lambda m, J, b, s: math.tanh(J * m + b)),
              says="tanh(J·m + b) is the conditional mean of the spin, between −1 and 1.",
              hint="mean = P(+1) − P(−1) = 2 P(+1) − 1."),
        wrong("forgot the normaliser", _spin(lambda m, J, b, s: math.exp(J * m + b)),
              lambda spins, i, j, J, b: math.exp(2 * (J * sum(_around(spins, i, j)) + b)),
              says="This is a weight (or the odds), not yet a probability: it can exceed 1.",
              hint="Divide by the sum of both weights, spin up and spin down."),
        wrong("probability of the present spin", _spin(lambda m, J, b, s: _sigmoid(2 * s * (J * m + b))),
              says="You give the probability of the value that the spin has now. Asked is that of +1, "
                   "whatever it is now.",
              hint="Flip spins[i, j]: your answer changes, and it must not."),
        wrong("Metropolis for Gibbs", _spin(lambda m, J, b, s: min(1.0, math.exp(-2 * s * (J * m + b)))),
              says="min(1, e^(−ΔE)) is the Metropolis probability of accepting a flip. Gibbs draws from the "
                   "conditional.",
              hint="Normalise the two weights in place of taking their ratio."),
    ),
    teaching_notes="The factor 2 and the boundary make most of the errors. Have readers test a single spin "
                   "and a pair by hand first. The RBM of the next chapter has 0/1 units and no 2: say so "
                   "here.")
def ising_conditional(spins: torch.Tensor, i: int, j: int,
                      coupling: float, field: float) -> float:
    """P(spin i, j = +1 | all others).

    spins: (height, width) of ±1; coupling J, field b; returns one number.
    """
    height, width = spins.shape
    total = 0.0
    for row, column in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
        if 0 <= row < height and 0 <= column < width:
            total = total + spins[row, column]
    return torch.sigmoid(torch.as_tensor(2 * (coupling * total + field)))


# --- the same conditional, derived --------------------------------------------------------------------------

def _spin_instances(generator: torch.Generator) -> list[Instance]:
    graphs = (("one bond 0–1", 2, ((0, 1),)), ("a path 0–1–2", 3, ((0, 1), (1, 2))),
              ("a star round 0", 4, ((0, 1), (0, 2), (0, 3))),
              ("a ring of 4", 4, ((0, 1), (1, 2), (2, 3), (0, 3))),
              ("a path 0–1–2–3–4", 5, ((0, 1), (1, 2), (2, 3), (3, 4))))
    return [_spin_instance(*graph, i, generator) for graph in graphs for i in range(2)]


def _spin_instance(name: str, count: int, edges: tuple, i: int, generator: torch.Generator) -> Instance:
    s = tuple((2 * torch.randint(2, (count,), generator=generator) - 1).tolist())
    tenths = torch.randint(1, 10, (2,), generator=generator).tolist()
    J, b = tenths[0] / 10, (tenths[1] - 5 or 2) / 10

    def energy(s: tuple) -> float:
        return -J * sum(s[a] * s[c] for a, c in edges) - b * sum(s)

    def neighbours(i: int) -> tuple:
        return tuple(a + c - i for a, c in edges if i in (a, c))

    symbols = {"E": energy, "s": s, "plus": put(s, i, 1), "minus": put(s, i, -1), "i": i, "J": J, "b": b,
               "put": put, "neighbours": neighbours, "edges": edges, "sites": tuple(range(count))}
    return Instance(f"{name}, i = {i}, s = {s}, J = {J:g}, b = {b:g}", symbols)


ising_conditional_proof = Derivation(
    name="ising_conditional_proof", title="Where the sigmoid of an Ising spin comes from",
    chapter=1, difficulty=2, minutes=15, points=3,
    equations=("eq-gibbs-ising-energy", "eq-gibbs-ising-law", "eq-gibbs-ising-conditional"),
    statement="""
        Let $s^+$ and $s^-$ be the state $s$ with spin $i$ set to $+1$ and to $-1$, and let

        $$E(s) = -J \\sum_{k \\sim l} s_k s_l - b \\sum_k s_k$$

        Show that

        $$\\frac{e^{-E(s^+)}}{e^{-E(s^+)} + e^{-E(s^-)}}
        = \\sigma\\Big(2\\Big(J \\sum_{j \\sim i} s_j + b\\Big)\\Big)$$

        The left side is $P(s_i = +1 \\mid \\text{rest})$. Fill in the lines marked `...`, or write a chain of
        your own.""",
    symbols=(("E(plus), E(minus)", "E(s^+), E(s^-)", "energy with spin $i$ up, down"),
             ("s[j]", "s_j", "spin $j$, −1 or +1"), ("J, b", "J, b", "coupling and field"),
             ("neighbours(i)", "j \\sim i", "the sites bonded to $i$"),
             ("sites, edges", "k,\\; k \\sim l", "all sites; all bonds"),
             ("sigmoid(a)", "\\sigma(a)", "$1/(1 + e^{-a})$")),
    chain="""
        exp(-E(plus)) / (exp(-E(plus)) + exp(-E(minus)))
        = 1/(1 + exp(-(E(minus) - E(plus))))               # divide by exp(-E(plus))
        = 1/(1 + exp(-2*(J*sum(s[j] for j in neighbours(i)) + b)))   # the rest cancels
        = sigmoid(2*(J*sum(s[j] for j in neighbours(i)) + b))   # definition of sigmoid
        """,
    blanks=(2, 3), instances=_spin_instances,
    forms=("1 / (1 + exp(-2*(J*sum(s[j] for j in neighbours(i)) + b)))",),
    hints=("Divide above and below by exp(-E(plus)): only the difference of two energies is left.",
           "Every bond and every field term without spin i is the same in E(plus) and E(minus). What is left "
           "of E(minus) - E(plus)?",
           "Spin i contributes -s_i (J Σ s_j + b) to the energy, so E(minus) - E(plus) = 2 (J Σ s_j + b): "
           "once with s_i = −1, once with +1. Then 1/(1 + exp(-a)) is sigmoid(a)."),
    misconceptions=(
        wrong("lost the factor 2", "sigmoid(J*sum(s[j] for j in neighbours(i)) + b)",
              says="The two energies differ by twice the local field, because s_i goes from −1 to +1.",
              hint="Subtract E(plus) from E(minus) for one spin alone: b − (−b)."),
        wrong("sign of the energy", "sigmoid(-2*(J*sum(s[j] for j in neighbours(i)) + b))",
              says="The sign is turned: this is the probability of spin down. It comes from exp(+E), or "
                   "from E(plus) - E(minus) where E(minus) - E(plus) should stand.",
              hint="In 1/(1 + exp(-a)), is a = E(minus) - E(plus) or the other way round?"),
        wrong("field not doubled", "sigmoid(2*J*sum(s[j] for j in neighbours(i)) + b)",
              says="Only the coupling carries the 2. The field term changes by 2b too.",
              hint="Put the brackets: 2*(J*… + b)."),
        wrong("dropped the field", "sigmoid(2*J*sum(s[j] for j in neighbours(i)))",
              says="The field of spin i does not cancel: it is −b in E(plus) and +b in E(minus).",
              hint="Which terms hold s_i? Bonds and one field term."),
        wrong("each bond counted twice", "sigmoid(2*(2*J*sum(s[j] for j in neighbours(i)) + b))",
              says="The energy's sum runs over bonds, each once. You have each bond of spin i twice, as a "
                   "double sum over ordered pairs would.",
              hint="For a single bond 0–1, how often does J stand in E?"),
        wrong("odds for probability",
              "exp(2*(J*sum(s[j] for j in neighbours(i)) + b))", "exp(E(minus) - E(plus))",
              says="This is the ratio of the two weights, the odds, which can exceed 1.",
              hint="With odds a/c, the probability is a/(a + c) = 1/(1 + c/a): where is the 1 +?"),
        wrong("odds of down", "exp(-(E(minus) - E(plus)))",
              says="This is the odds of down, P(−1)/P(+1): the 1 of the denominator is lost.",
              hint="Divide above and below by exp(-E(plus)): the denominator has two terms, 1/(1 + …)."),
        wrong("the −2 multiplies the coupling only", "1/(1 + exp(-2*J*sum(s[j] for j in neighbours(i)) + b))",
              "1/(1 + exp(-2*J*sum(s[j] for j in neighbours(i)) + 2*b))",
              says="In your exponent the minus (and the 2) reaches the coupling only: the field comes with "
                   "the wrong sign.",
              hint="Bracket: -2*(J*… + b)."),
        wrong("forgot the normaliser", "exp(-E(plus))", "exp(J*sum(s[j] for j in neighbours(i)) + b)",
              says="This is the weight of the up-state alone. Dividing above and below must leave the "
                   "denominator's two terms.",
              hint="Divide both terms of the denominator by exp(-E(plus))."),
        wrong("all spins for the neighbours", "sigmoid(2*(J*sum(s[j] for j in sites if j != i) + b))",
              says="You let spin i feel all other spins. Only its bonds hold s_i; the rest cancels.",
              hint="Sum over neighbours(i)."),
        wrong("counted the spin itself", "sigmoid(2*(J*(sum(s[j] for j in neighbours(i)) + s[i]) + b))",
              says="Spin i stands among its own neighbours: no bond joins a spin to itself.",
              hint="Is s[i] allowed on the right-hand side at all? Both of its values have been put in."),
    ),
    teaching_notes="The same three lines return for every binary model of the book: log-odds are a "
                   "difference of energies. A reader who has them derives the RBM's conditionals alone.")


# --- the integrated autocorrelation time of the Gaussian sampler --------------------------------------------

def _correlations(generator: torch.Generator) -> list[Instance]:
    """r = 1/2 first, then random ones up to 0.8: of Σ r^(2t), 150 lags leave less than 1e-28."""
    drawn = (torch.randint(-80, 81, (6,), generator=generator) / 100).tolist()
    lags = {"lags": range(1, 151), "lags_from_0": range(151), "all_lags": range(-150, 151)}
    return [Instance(f"r = {r:g}", {"r": r, **lags}) for r in (0.5, -0.6, 0.3, *(round(r, 2) for r in drawn))]


gaussian_tau = Derivation(
    name="gaussian_tau", title="How long a correlated Gaussian remembers",
    chapter=1, difficulty=1, minutes=12, points=3,
    equations=("eq-gibbs-tau", "eq-gibbs-gaussian-lag", "eq-gibbs-gaussian-tau"),
    statement="""
        One coordinate of the Gibbs sampler on a bivariate Gaussian of correlation $r$ has the autocorrelation
        $\\rho_t = r^{2t}$. Sum its integrated autocorrelation time
        $\\tau = 1 + 2 \\sum_{t \\ge 1} r^{2t}$ to $\\tau = (1 + r^2)/(1 - r^2)$. (The check stops sums over
        lags after 150 of them; with $|r| \\le 0.8$ what is left out is below $10^{-28}$.)""",
    symbols=(("r", "r", "correlation, between −1 and 1"), ("lags", "t = 1, 2, 3, …", "lags from 1"),
             ("lags_from_0", "t = 0, 1, 2, …", "lags from 0"),
             ("all_lags", "t = …, −1, 0, 1, …", "lags on both sides")),
    chain="""
        1 + 2*sum(r**(2*t) for t in lags)
        = 1 + 2*sum((r**2)**t for t in lags)          # powers of one number q = r²
        = 1 + 2*r**2/(1 - r**2)                       # the geometric series from t = 1
        = (1 - r**2 + 2*r**2)/(1 - r**2)              # a common denominator
        = (1 + r**2)/(1 - r**2)
        """,
    blanks=(3, 4), instances=_correlations,
    hints=("Which well-known series is Σ qᵗ, with q = r²? Mind where it starts.",
           "Σ qᵗ from t = 0 is 1/(1 − q); from t = 1 the first term 1 is missing, so it is q/(1 − q).",
           "1 + 2q/(1 − q) = (1 − q)/(1 − q) + 2q/(1 − q). Add the fractions."),
    misconceptions=(
        wrong("missing factor 2", "1/(1 - r**2)",
              says="Each lag counts once here. A covariance at lag t occurs for t and for −t: twice.",
              hint="Write τ as a sum over all lags, negative ones too."),
        wrong("series from 0 for series from 1", "1 + 2/(1 - r**2)", "2/(1 - r**2)",
              says="1/(1 − r²) is the series from t = 0. Yours must start at t = 1: lag 0 stands in front, "
                   "counted once.",
              hint="Put r = 0: no memory at all, τ = 1. What does your line give?"),
        wrong("lost lag 0", "2*r**2/(1 - r**2)",
              says="The 1 in front is lost: lag 0 is the variance of a draw itself.",
              hint="Put r = 0: independent draws have τ = 1."),
        wrong("r for r²", "(1 + r)/(1 - r)",
              says="This is τ of a chain with ρ_t = rᵗ. A full sweep passes the correlation twice, hence r².",
              hint="What is r**(2*t) as a power of one number?"),
        wrong("sign in the geometric series", "1 + 2*r**2/(1 + r**2)", "1 + 2/(1 + r**2)",
              says="1/(1 + q) is the alternating series 1 − q + q² − …; here all signs are plus.",
              hint="Should τ grow beyond all bounds as r goes to 1?"),
        wrong("upside down", "(1 - r**2)/(1 + r**2)",
              says="This is 1/τ: the share of a draw's worth that remains, and no time.",
              hint="Must τ be more or less than 1 for positively correlated draws?"),
        wrong("sign between the fractions", "1 - 2*r**2/(1 - r**2)", "(1 - 3*r**2)/(1 - r**2)",
              says="The series is subtracted and not added.",
              hint="All autocorrelations are positive here: can τ be below 1?"),
        wrong("no common denominator", "(1 + 2*r**2)/(1 - r**2)",
              says="The 1 in front was not brought to the denominator.",
              hint="1 = (1 − r²)/(1 − r²). Add that to 2r²/(1 − r²)."),
    ),
    teaching_notes="r = 0 and r → 1 are the two checks to teach before any algebra.")


# --- the effective sample size of a chain -------------------------------------------------------------------

def _paths(generator: torch.Generator) -> Iterator[tuple[Tensor]]:
    """Short autoregressive chains in tenths, away from zero."""
    for n in (4, 5, 6, 8, 12, 20, 30):
        noise, value, chain = torch.randn(n, generator=generator, dtype=torch.float64), 0.0, []
        for draw in noise.tolist():
            value = 0.8 * value + draw
            chain.append(2 + value)
        yield (torch.tensor(chain, dtype=torch.float64).round(decimals=1),)


def _effective_size_by_loops(chain: Tensor) -> float:
    x = chain.tolist()
    n, mean = len(x), sum(x) / len(x)
    squares, tau = sum((a - mean)**2 for a in x), 1.0
    for t in range(1, n):
        rho = sum((x[k] - mean) * (x[k + t] - mean) for k in range(n - t)) / squares
        if rho <= 0:
            break
        tau += 2 * rho
    return n / tau


def _rho(x: Tensor, centred: bool = True, overlap: bool = False) -> Tensor:
    """Estimated autocorrelations at lags 1 … n − 1, with the slips that mutants need."""
    d, n = x - x.mean() * centred, len(x)
    values = torch.stack([(d[:n - t] * d[t:]).sum() / d.square().sum() for t in range(1, n)])
    return values * n / torch.arange(n - 1, 0, -1) if overlap else values


def _up_to_zero(rho: Tensor) -> float:
    """The sum of the values before the first that is not positive."""
    return float(sum(itertools.takewhile(lambda value: value > 0, rho.tolist())))


def _and_one_more(rho: Tensor) -> float:
    """The same sum, and the first that is not positive."""
    positive = len(list(itertools.takewhile(lambda value: value > 0, rho.tolist())))
    return float(rho[:positive + 1].sum())


def _piecewise(x: Tensor) -> Tensor:
    """corrcoef of head and tail at lags 1 … n − 1, each centred by its own mean; NaN for a single pair."""
    pieces = ((x[:-t] - x[:-t].mean(), x[t:] - x[t:].mean()) for t in range(1, len(x)))
    return torch.stack([(a * b).sum() / (a.square().sum() * b.square().sum()).sqrt() for a, b in pieces])


def _up_to_negative(rho: Tensor) -> float:
    """The sum as `if value <= 0: break` takes it, which no NaN stops."""
    return float(sum(itertools.takewhile(lambda value: not value <= 0, rho.tolist())))


def _over(a: float, b: float) -> float:
    return a / b if b else math.inf


@function_exercise(
    title="The effective sample size of a chain", chapter=1, difficulty=3, minutes=25, points=4,
    equations=("eq-gibbs-autocorrelation", "eq-gibbs-tau", "eq-gibbs-ess"),
    statement="""
        How many independent draws is a chain of $n$ dependent ones worth? Estimate the autocorrelations by

        $$\\hat\\rho_t = \\frac{\\sum_{k=1}^{n-t} (x_k - \\bar x)(x_{k+t} - \\bar x)}
        {\\sum_{k=1}^n (x_k - \\bar x)^2}$$

        Add them up from $t = 1$ until just before the first that is not positive (beyond it there is mostly
        noise), and return $n / \\hat\\tau$ with $\\hat\\tau = 1 + 2 \\sum_t \\hat\\rho_t$. (This is the
        simplest place to stop. `nemlib.gibbs.effective_sample_size` stops by pairs of lags, which is
        finer.)""",
    hints=("Three steps: centre the chain, compute ρ̂ lag by lag, stop at the first that is not positive.",
           "For lag t, multiply the chain's head `x[:n - t]` by its tail `x[t:]`, both centred by the mean "
           "of the whole chain, and divide the sum by the sum of squares of the whole chain.",
           "Start with tau = 1. For t = 1, 2, …: compute ρ̂_t; if it is ≤ 0, stop; else add 2ρ̂_t. At the "
           "end return n / tau."),
    truth=_effective_size_by_loops, cases=_paths,
    must=(("an effective size is positive.", lambda yours, chain: yours > 0),
          ("where only positive autocorrelations are added, it is at most the number of draws.",
           lambda yours, chain: yours <= len(chain) + 1e-6)),
    on_the_way=lambda chain: {"mean": chain.mean(), "ρ̂ at lags 1, 2, …": _rho(chain),
                              "sum before the first ρ̂ ≤ 0": _up_to_zero(_rho(chain))},
    misconceptions=(
        wrong("missing factor 2", lambda x: len(x) / (1 + _up_to_zero(_rho(x))),
              says="Every lag counts twice in the variance of a mean, for the pair (k, k + t) and the pair "
                   "(k + t, k).",
              hint="Write out the variance of the mean of three draws: how often does ρ₁ stand there?"),
        wrong("lag 0 counted more than once", lambda x: len(x) / (3 + 2 * _up_to_zero(_rho(x))),
              lambda x: len(x) / (2 + 2 * _up_to_zero(_rho(x))),
              says="Your sum starts at lag 0, where ρ̂ is 1, and the 1 in front counts that already.",
              hint="For independent draws τ must be 1, and the effective size n."),
        wrong("lost lag 0", lambda x: _over(len(x), 2 * _up_to_zero(_rho(x))),
              says="The 1 in front of the sum is missing: with little correlation your effective size has no "
                   "bound.",
              hint="For independent draws τ must be 1, not 0."),
        wrong("τ in place of n/τ", lambda x: 1 + 2 * _up_to_zero(_rho(x)),
              says="This is the autocorrelation time: how many draws make one. Asked is how many such groups "
                   "the chain holds.",
              hint="A chain of n draws holds n/τ."),
        wrong("multiplied by τ", lambda x: len(x) * (1 + 2 * _up_to_zero(_rho(x))),
              says="Correlation made your chain worth more than n draws.",
              hint="Divide n by τ."),
        wrong("no correlation taken into account", lambda x: len(x),
              says="You return n: the number of draws, not their worth. (If your loop stops at once, look at "
                   "its test.)",
              hint="Print ρ̂₁ for the case below: is it positive?"),
        wrong("the mean was not subtracted", lambda x: len(x) / (1 + 2 * _up_to_zero(_rho(x, centred=False))),
              says="Your products are of the draws themselves. A chain far from zero then looks correlated "
                   "for ever.",
              hint="Add 1000 to the chain. Should its effective size change?"),
        wrong("summed all lags", lambda x: _over(len(x), round(1 + 2 * float(_rho(x).sum()), 9)),
              says="You added every lag. The ρ̂_t of a whole chain always sum to exactly −½, so your τ is 0 "
                   "up to rounding, and n/τ is anything or a division by zero.",
              hint="Stop before the first ρ̂_t that is not positive."),
        wrong("only positive lags, without stopping",
              lambda x: len(x) / (1 + 2 * float(_rho(x).clamp(min=0).sum())),
              says="You skip the lags with negative ρ̂ and go on behind them. What comes later is noise, and "
                   "picking its positive half adds up.",
              hint="`break` at the first that is not positive, where you have `continue` or a clamp."),
        wrong("covariance for correlation",
              lambda x: len(x) / (1 + 2 * _up_to_zero(_rho(x) * x.var(correction=0))),
              lambda x: len(x) / (1 + 2 * _up_to_zero(_rho(x) * x.var(correction=1))),
              lambda x: len(x) / (1 + 2 * _up_to_zero(_rho(x) * (x - x.mean()).square().sum())),
              says="Your lagged products are not divided by the sum of squares: their size depends on the "
                   "chain's unit.",
              hint="Multiply the chain by 10. Should its effective size change?"),
        wrong("from lag 1 alone", lambda x: float(len(x) * (1 - _rho(x)[0]) / (1 + _rho(x)[0])),
              lambda x: len(x) / (1 + 2 * max(float(_rho(x)[0]), 0.0)),
              says="You used lag 1 only, as if the rest followed from it. That holds for an AR(1) chain's "
                   "exact autocorrelations, not for these estimates.",
              hint="Go on: t = 2, 3, … until the first that is not positive."),
        wrong("added before testing", lambda x: _over(len(x), 1 + 2 * _and_one_more(_rho(x))),
              says="The first ρ̂ that is not positive is added too.",
              hint="Test before adding: compute ρ̂_t, `break` if it is ≤ 0, and only then add."),
        wrong("each piece centred by its own mean",
              lambda x: len(x) / (1 + 2 * _up_to_zero(_piecewise(x))),
              lambda x: len(x) / (1 + 2 * _up_to_negative(_piecewise(x))),
              says="`corrcoef` centres and scales each piece by its own mean and spread; at far lags a piece "
                   "is a few draws, and at the last a single one (0/0).",
              hint="Use the mean and the sum of squares of the whole chain at every lag.", credit=0.5),
        wrong("divided by n − t", lambda x: len(x) / (1 + 2 * _up_to_zero(_rho(x, overlap=True))),
              lambda x: len(x) / (1 + 2 * _up_to_zero(_rho(x, overlap=True) * (len(x) - 1) / len(x))),
              says="Each lag is divided by its own n − t, as a `.mean()` over its pairs does. That removes a "
                   "small bias and makes the far lags, made of few pairs, very noisy; the estimate asked for "
                   "divides every lag by the same.",
              hint="One denominator for all lags: the sum of squares of the whole chain.", credit=0.5),
        wrong("stopped by pairs of lags", model.effective_sample_size,
              says="You sum the autocorrelations in pairs, as the package does (Geyer's window). That is a "
                   "better estimator than the one asked for here, and gives another number.",
              hint="Stop at the first single ρ̂_t that is not positive.", credit=0.5),
    ),
    teaching_notes="'Summed all lags' is the mistake to plan for: let the class find why Σ ρ̂_t = −½ (the "
                   "centred chain sums to 0; square that). It shows in one line why every estimator of τ "
                   "truncates.")
def effective_sample_size(chain: torch.Tensor) -> float:
    """How many independent draws a chain is worth.

    chain: (n,), not constant; returns one number.
    """
    n = len(chain)
    centred = chain - chain.mean()
    tau = 1.0
    for t in range(1, n):
        rho = (centred[:n - t] * centred[t:]).sum() / centred.square().sum()
        if rho <= 0:
            break
        tau = tau + 2 * rho
    return n / tau


EXERCISES = (standard_error, inverse_exponential, stationary_law, detailed_balance, ising_conditional,
             ising_conditional_proof, gaussian_tau, effective_sample_size)
_help = Help(EXERCISES)
hint, solution = _help.hint, _help.solution
