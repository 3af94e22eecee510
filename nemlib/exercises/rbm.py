"""The exercises of chapter 2, restricted Boltzmann machines. `nemlib.exercises` tells how to add one.

No truth below comes from the model's own code: sums over all states are enumerated term by term, derivatives
are taken by a complex step, chains are run unit by unit, errors are taken from pairs.
"""

import ast
import cmath
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from nemlib.exercises.core import Help, agree, wrong
from nemlib.exercises.derivation import Instance, LongDerivation, Step
from nemlib.exercises.expressions import expression, names_in
from nemlib.exercises.forms import normal_form
from nemlib.exercises.layers import DRAWN, LayerExercise, PartsExercise

__all__ = ["EXERCISES", "hint", "solution", "conditional_proof", "hidden_given", "free_energy_proof",
           "free_energy", "gradient_proof", "cd_gradient", "ais_proof", "ais_log_weight", "ais_estimate"]

STEP = 1e-30      # of the complex step: a derivative exact to rounding, since nothing is subtracted


# --- small machines -----------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Machine:
    """An RBM so small that all of its states can be written down; numbers in tenths, none of them 0."""

    W: tuple[tuple[float, ...], ...]
    a: tuple[float, ...]
    b: tuple[float, ...]

    @property
    def pictures(self) -> tuple[tuple[int, ...], ...]:
        """All states of the visible units."""
        return _states(len(self.a))

    @property
    def states(self) -> tuple[tuple[int, ...], ...]:
        """All states of the hidden units."""
        return _states(len(self.b))

    def energy(self, v: tuple, h: tuple) -> float:
        """E(v, h), term by term as in its definition; a state of another length is refused."""
        pairs = math.fsum(v[i] * self.W[i][j] * h[j] for i in range(len(self.a)) for j in range(len(self.b)))
        return -pairs - math.fsum(x * y for x, y in zip(self.a, v, strict=True)) - math.fsum(
            x * y for x, y in zip(self.b, h, strict=True))

    def input(self, v: tuple, j: int) -> float:
        """b_j + Σ_i v_i W_ij."""
        return self.b[j] + math.fsum(on * row[j] for on, row in zip(v, self.W, strict=True))

    def weight(self, v: tuple) -> float:
        """Σ_h e^(−E(v, h)), every hidden state by itself."""
        return math.fsum(math.exp(-self.energy(v, h)) for h in self.states)

    def shown(self) -> str:
        rows = "; ".join(", ".join(f"{w:g}" for w in row) for row in self.W)
        a, b = (", ".join(f"{value:g}" for value in values) for values in (self.a, self.b))
        return f"W = ({rows}), a = ({a}), b = ({b})"


def _states(units: int) -> tuple[tuple[int, ...], ...]:
    return tuple(itertools.product((0, 1), repeat=units))


def _machine(visible: int, hidden: int, generator: torch.Generator) -> Machine:
    rows = tuple(_signed_tenths(generator, hidden) for _ in range(visible))
    return Machine(rows, _signed_tenths(generator, visible), _signed_tenths(generator, hidden))


def _signed_tenths(generator: torch.Generator, count: int) -> tuple[float, ...]:
    """Random numbers from ±0.1 to ±1.4."""
    sizes = torch.randint(1, 15, (count,), generator=generator).tolist()
    signs = torch.randint(2, (count,), generator=generator).tolist()
    return tuple((size if sign else -size) / 10 for size, sign in zip(sizes, signs))


def _picture(generator: torch.Generator, units: int) -> tuple[int, ...]:
    """A random state with its first unit on."""
    return (1, *torch.randint(2, (units - 1,), generator=generator).tolist())


def put(state: tuple, i: int, value: int) -> tuple:
    """The state with unit i set to a value."""
    return (*state[:i], value, *state[i + 1:])


SIZES = ((2, 1), (2, 2), (3, 2), (2, 3), (4, 2))      # visible and hidden units: seldom as many of both


def _layer_instances(generator: torch.Generator) -> list[Instance]:
    """Machines with a picture v and a hidden unit j."""
    instances = []
    for visible, hidden in SIZES:
        machine, v = _machine(visible, hidden, generator), _picture(generator, visible)
        j = int(torch.randint(hidden, (1,), generator=generator))
        symbols = {"E": machine.energy, "W": machine.W, "a": machine.a, "b": machine.b, "v": v, "j": j,
                   "x": tuple(machine.input(v, k) for k in range(hidden)), "visible": tuple(range(visible)),
                   "hidden": tuple(range(hidden)), "states": machine.states,
                   "on": tuple(h for h in machine.states if h[j] == 1)}
        instances.append(Instance(f"v = {v}, j = {j}, {machine.shown()}", symbols))
    return instances


_AV = "sum(a[i]*v[i] for i in visible)"
_VW = "sum(v[i]*W[i][j] for i in visible)"
_IN = f"b[j] + {_VW}"

_LAYER_SYMBOLS = (
    ("E(v, h)", "E(v, h)", "the energy"),
    ("v[i], h[j]", "v_i,\\; h_j", "units of a picture and of a hidden state, 0 or 1"),
    ("W[i][j], a[i], b[j]", "W_{ij},\\; a_i,\\; b_j", "weights and biases"),
    ("x[j]", "x_j", "input of unit $j$, $b_j + \\sum_i v_i W_{ij}$"),
    ("visible, hidden", "i = 1, …, D;\\; j = 1, …, H", "the units (from 0 in code)"),
    ("states", "h \\in \\{0, 1\\}^H", "all hidden states"))


def _product_alone(tree: ast.expr) -> bool:
    """A product over units that stands in no sum over states."""
    names = names_in(tree)
    return "prod" in names and not names & {"states", "on"}


def _two_terms(tree: ast.expr) -> bool:
    """A sum over hidden states in which 1 + exp(…) stands already: all other units were summed in pairs."""
    terms = [(node.left, node.right) for node in ast.walk(tree)
             if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)]
    found = any(isinstance(one, ast.Constant) and isinstance(other, ast.Call) and other.func.id == "exp"
                for pair in terms for one, other in (pair, pair[::-1]))
    return found and bool(names_in(tree) & {"states", "on"})


# --- the conditional of a hidden unit (derivation) ----------------------------------------------------------

_UNITS = "prod(exp(h[k]*x[k]) for k in hidden)"
_OTHERS = "prod(1 + exp(x[k]) for k in hidden if k != j)"
_ALL = "prod(1 + exp(x[k]) for k in hidden)"

conditional_proof = LongDerivation(
    name="conditional_proof", title="Where the sigmoid of a hidden unit comes from",
    chapter=2, difficulty=2, minutes=15, points=3,
    equations=("eq-rbm-energy", "eq-rbm-sum-product", "eq-rbm-hidden-given"),
    statement="""
        By definition, the probability that hidden unit $j$ is on, given a picture $v$, is a ratio of two sums
        over hidden states: those with $h_j = 1$ above, all of them below ($Z$ stands in both and cancels).
        Show that, with $E(v, h) = -v^\\top W h - a^\\top v - b^\\top h$,

        $$P(h_j = 1 \\mid v) = \\frac{\\sum_{h : h_j = 1} e^{-E(v, h)}}{\\sum_h e^{-E(v, h)}}
        = \\sigma\\Big(b_j + \\sum_i v_i W_{ij}\\Big)$$

        On the left stand $2^{H-1}$ terms over $2^H$, on the right one sigmoid. Between the two, sums of
        products become products of sums. Fill in the lines marked `...`, or write a chain of your own.""",
    symbols=(*_LAYER_SYMBOLS, ("on", "h : h_j = 1", "those of them in which unit $j$ is on"),
             ("sigmoid(y)", "\\sigma(y)", "$1/(1 + e^{-y})$")),
    chain=f"""
        sum(exp(-E(v, h)) for h in on)/sum(exp(-E(v, h)) for h in states)
        = sum({_UNITS} for h in on)   # exp(aᵀv) cancels
          /sum({_UNITS} for h in states)
        = exp(x[j])*{_OTHERS}
          /{_ALL}     # sums of products are products of sums
        = exp(x[j])/(1 + exp(x[j]))      # the other units cancel
        = sigmoid({_IN})
        """,
    blanks=(2, 3, 4), least_lines=2, instances=_layer_instances,
    forms=(f"1/(1 + exp(-({_IN})))", "sigmoid(x[j])", "1/(1 + exp(-x[j]))"),
    nearly="One more line: first turn the sums of products into products of sums, then cancel.",
    landmarks=(Step("Show how the sum over all hidden states is done: a line in which it has become a "
                    "product over the units.", test=lambda tree: _product_alone(tree) or _two_terms(tree)),),
    hints=("Write −E(v, h) as aᵀv plus one term for each hidden unit, h_k times its input x_k. What cancels "
           "between the two sums, because it holds no h?",
           "The sum over all h of a product with one factor for each unit is the product of the units' own "
           "sums, 1 + exp(x_k). Above, unit j is on: what is its own sum there?",
           "Above stands exp(x_j) times the factors 1 + exp(x_k) of all other units, below all factors. The "
           "other units cancel, exp(x_j)/(1 + exp(x_j)) is left. Divide above and below by exp(x_j)."),
    misconceptions=(
        wrong("sign of the energy", f"sigmoid(-({_IN}))",
              says="The sign is turned: this is the probability that unit j is off. It comes from exp(+E) in "
                   "place of exp(−E), or from 1 + exp(+x) in the denominator of the sigmoid.",
              hint="If all weights into unit j are large and positive, does ink in v switch it on or off?"),
        wrong("hidden bias forgotten", f"sigmoid({_VW})",
              says="The bias b_j is lost. It stands in the energy as −b_j h_j, so it differs between the "
                   "states with unit j on and off, and does not cancel.",
              hint="How probable is it that the unit fires at an empty picture, v = 0?"),
        wrong("layers exchanged", "sigmoid(b[j] + sum(v[i]*W[j][i] for i in visible))",
              says="An index runs over the wrong layer (W transposed, perhaps): in W[i][j] the first index "
                   "is a visible unit, the second a hidden one. v and a go with i, h, x and b with j.",
              hint="W has D rows and H columns. Over which of the two do you sum for one hidden unit?"),
        wrong("softmax over the hidden units", "exp(x[j])/sum(exp(x[k]) for k in hidden)",
              says="This is a softmax: it lets exactly one hidden unit be on, the classes of a classifier. "
                   "Here every unit chooses between its own two values, whatever the others do.",
              hint="How many hidden units may be on at once? Which states does your denominator leave out?"),
        wrong("sum over units for the product", f"exp(x[j])*{_OTHERS}/sum(1 + exp(x[k]) for k in hidden)",
              "exp(x[j])/sum(1 + exp(x[k]) for k in hidden)",
              "exp(x[j])/(1 + sum(exp(x[k]) for k in hidden))",
              says="The units' factors 1 + exp(x_k) are added. The sum over all states is their product: "
                   "two units have four states, (1 + e^x)(1 + e^y) = 1 + e^x + e^y + e^(x + y).",
              hint="Set all x to 0: the sum over all hidden states has 2 to the power H terms, each 1."),
        wrong("odds for the probability", "exp(x[j])",
              says="This is exp(x_j), the odds of on against off, which can exceed 1. In the numerator unit "
                   "j has the factor exp(x_j) alone, in the denominator 1 + exp(x_j), and that stays.",
              hint="Which factor of the denominator has no partner above?"),
        wrong("odds of off", "exp(-x[j])",
              says="This is exp(−x_j), the odds of off against on. The denominator has two terms, and so "
                   "1/(1 + exp(−x_j)) is left when you divide above and below by exp(x_j).",
              hint="Divide both terms of 1 + exp(x_j) by exp(x_j)."),
        wrong("upside down", "1 + exp(-x[j])", "(1 + exp(x[j]))/exp(x[j])",
              says="The fraction is upside down: this is 1/P, which is never below 1.",
              hint="Which of the two sums has fewer terms, the one above or the one below?"),
        wrong("visible biases left in", f"sigmoid({_AV} + {_IN})", f"exp({_AV})*sigmoid({_IN})",
              f"sigmoid({_IN})/exp({_AV})",
              says="exp(aᵀv) is left in. It holds no h, so it is a factor of every term above and of every "
                   "term below, and cancels.",
              hint="Take the factor exp(aᵀv) out of both sums before you do anything else."),
        wrong("the other units forced off", f"exp(x[j])/{_ALL}",
              says="The numerator has one state only, that with j alone on. The sum above runs over all "
                   "states of the other units, which gives a factor 1 + exp(x_k) for each of them.",
              hint="With three hidden units, how many states have h_j = 1?"),
        wrong("all units forced on", f"exp(sum(x[k] for k in hidden))/{_ALL}",
              says="This is the probability that all hidden units are on together. Only unit j is asked for; "
                   "the others are summed over both of their values.",
              hint="What is the sum of exp(h x) over h = 0 and h = 1?"),
        wrong("normaliser forgotten", "sum(exp(-E(v, h)) for h in on)", f"exp(x[j])*{_OTHERS}",
              says="This is the numerator alone, a weight and no probability. The sum over all states must "
                   "still divide it.",
              hint="What must P(h_j = 1 | v) and P(h_j = 0 | v) add to?"),
        wrong("inputs of all units added", "sigmoid(sum(x[k] for k in hidden))",
              "sigmoid(sum(b[k] for k in hidden) + sum(v[i]*W[i][j] for i in visible))",
              says="You added over all hidden units. In the energy each unit is multiplied by its own input, "
                   "and those of the others cancel.",
              hint="Which terms of the energy hold h_j?"),
        wrong("pixels lost from the input", "sigmoid(b[j] + sum(W[i][j] for i in visible))",
              says="The weights are added for all pixels, on or off. In the energy W_ij stands beside v_i: "
                   "pixels that are off bring nothing.",
              hint="What is the input of unit j at the empty picture?"),
        wrong("the 2 of a spin", f"sigmoid(2*({_IN}))", f"tanh({_IN})",
              says="That is for spins, −1 and +1, as in chapter 1. A unit goes from 0 to 1, so the energy "
                   "changes by the input once.",
              hint="What is exp(h x) at h = 0, and what is it at h = −1?"),
        wrong("log-odds for the probability", _IN,
              says="This is the input, the logarithm of the odds. The probability is its sigmoid.",
              hint="May a probability be negative?"),
    ),
    teaching_notes="Two roads are right: the chapter's, over products of sums, and pairing each state that "
                   "has unit j on with its twin that has it off, whose weight is exp(−x_j) times as large. "
                   "The second never needs the product, and is worth showing.")


# --- the free energy (derivation) ---------------------------------------------------------------------------

_SOFTPLUS = f"sum(log(1 + exp({_IN})) for j in hidden)"
_FREE_UNITS = "prod(exp(h[j]*x[j]) for j in hidden)"


def _free_instances(generator: torch.Generator) -> list[Instance]:
    """The same machines, with no unit of their own: j is the reader's to bind."""
    return [Instance(instance.shown.replace(f", j = {instance.symbols['j']}", ""),
                     {name: value for name, value in instance.symbols.items() if name not in ("j", "on")})
            for instance in _layer_instances(generator)]


free_energy_proof = LongDerivation(
    name="free_energy_proof", title="The free energy", chapter=2, difficulty=1, minutes=12, points=3,
    equations=("eq-rbm-energy", "eq-rbm-sum-product", "eq-rbm-free-energy"),
    statement="""
        The free energy of a picture stands for all hidden states together,
        $F(v) = -\\log \\sum_h e^{-E(v, h)}$. Its sum has $2^H$ terms. Show that $H$ logarithms are enough:

        $$-\\log \\sum_h e^{-E(v, h)}
        = -a^\\top v - \\sum_j \\log\\Big(1 + e^{b_j + \\sum_i v_i W_{ij}}\\Big)$$

        Fill in the lines marked `...`, or write a chain of your own.""",
    symbols=_LAYER_SYMBOLS,
    chain=f"""
        -log(sum(exp(-E(v, h)) for h in states))
        = -log(exp({_AV})
               *sum({_FREE_UNITS} for h in states))    # by units
        = -log(exp({_AV})
               *prod(1 + exp(x[j]) for j in hidden))      # the product of sums
        = -{_AV}
          - log(prod(1 + exp(x[j]) for j in hidden))    # log of a product
        = -{_AV}
          - {_SOFTPLUS}
        """,
    blanks=(2, 3, 4), least_lines=2, instances=_free_instances,
    forms=(f"-{_AV} - sum(log(1 + exp(x[j])) for j in hidden)",),
    nearly="One more line: write the weight exp(−E) by units, or take the logarithm apart.",
    landmarks=(Step("Show how the sum over all hidden states is done: a line in which it has become a "
                    "product over the units.", test=_product_alone),),
    hints=("Write −E(v, h) as aᵀv plus the sum of h_j x_j over the hidden units. What does the exponential "
           "make of this sum?",
           "exp(aᵀv) comes out of the sum over h. What is left is a sum over all states of a product with "
           "one factor for each unit: the product of the units' own sums.",
           "Each unit's own sum is exp(0) + exp(x_j) = 1 + exp(x_j). So the weight is exp(aᵀv) times their "
           "product; minus its logarithm is −aᵀv minus a sum of logarithms."),
    misconceptions=(
        wrong("the minus of −log lost", f"{_AV} + {_SOFTPLUS}",
              says="All signs are turned: this is log Σ exp(−E), which is −F.",
              hint="A picture that the machine likes must have a low free energy."),
        wrong("sign of the hidden part", f"-{_AV} + {_SOFTPLUS}",
              says="The hidden part has the wrong sign. It comes out of −log of a product, so the minus "
                   "stands before every logarithm.",
              hint="Write −log(A B) as two terms and look at both signs."),
        wrong("sign of the visible part", f"{_AV} - {_SOFTPLUS}",
              says="The visible part has the wrong sign: in the energy it is −aᵀv, in exp(−E) a factor "
                   "exp(+aᵀv), and the −log turns it back.",
              hint="Set W and b to 0. What is E(v, h) then, and what must F be but for a constant?"),
        wrong("visible biases forgotten", f"-{_SOFTPLUS}", "-log(prod(1 + exp(x[j]) for j in hidden))",
              says="−aᵀv is lost. It cancels in the conditional P(h | v), a ratio; here nothing divides it "
                   "away.",
              hint="Which part of e^(−E) holds no h? It comes out of the sum as a factor, and stays."),
        wrong("log of a sum as a sum of logs", "sum(E(v, h) for h in states)",
              "-sum(log(exp(-E(v, h))) for h in states)",
              f"-{_AV} - sum(sum(log(exp(h[j]*x[j])) for j in hidden) for h in states)",
              says="log Σ_h is not Σ_h log. A logarithm turns products into sums; a sum stays inside until "
                   "it has become a product.",
              hint="Try two states of energy 0: −log 2 against 0."),
        wrong("sum over units for the product", f"-{_AV} - log(sum(1 + exp(x[j]) for j in hidden))",
              f"-{_AV} - log(1 + sum(exp(x[j]) for j in hidden))",
              f"-{_AV} - log(sum(exp(x[j]) for j in hidden))",
              says="Under the logarithm the units' factors are added. The sum over all states is their "
                   "product: (1 + e^x)(1 + e^y) has the four terms of two units, the last with both on.",
              hint="Set all x to 0: the sum over the hidden states is 2 to the power H."),
        wrong("one exponential for all units", f"-{_AV} - log(1 + exp(sum(x[j] for j in hidden)))",
              says="This knows two hidden states only: all off and all on. Each unit chooses for itself.",
              hint="For two units, multiply out (1 + e^x)(1 + e^y)."),
        wrong("the state off forgotten", f"-{_AV} - sum(x[j] for j in hidden)",
              says="The 1 is lost: each unit is on in your sum. This is the energy of v with all hidden "
                   "units on, since log exp(x) = x.",
              hint="What is exp(h x) at h = 0?"),
        wrong("hidden bias forgotten", f"-{_AV} - sum(log(1 + exp({_VW})) for j in hidden)",
              says="The bias b_j is lost from the input of unit j. In the energy it stands as −b_j h_j.",
              hint="What is multiplied by h_j in −E(v, h)?"),
        wrong("hidden bias outside", f"-{_AV} - sum(b[j] for j in hidden) - "
              f"sum(log(1 + exp({_VW})) for j in hidden)",
              says="The bias b_j was taken out of the sum over h_j, as if it stood there in both states. It "
                   "is multiplied by h_j, and is absent where the unit is off.",
              hint="1 + exp(b + y) is not exp(b) (1 + exp(y)). Which of the two has the state off right?"),
        wrong("sign of the energy", f"-{_AV} - sum(log(1 + exp(-x[j])) for j in hidden)",
              f"{_AV} - sum(log(1 + exp(-x[j])) for j in hidden)",
              says="Your weights are exp(+E), at least for the hidden units: then states of high energy "
                   "would count most.",
              hint="−E(v, h) has +h_j x_j in it. Which sign has x_j in the exponent?"),
        wrong("the logarithm lost", f"-{_AV} - {_ALL}",
              f"-{_AV} - sum(1 + exp(x[j]) for j in hidden)", f"-{_AV} - sum(exp(x[j]) for j in hidden)",
              says="The logarithm has reached exp(aᵀv) only. It must be taken of every factor.",
              hint="log(A B C) = log A + log B + log C."),
        wrong("log of a product as a product of logs", f"-{_AV} - prod(log(1 + exp(x[j])) for j in hidden)",
              says="The logarithms are multiplied. The log of a product is the sum of the logs.",
              hint="Try log(2·2): twice log 2, or its square?"),
        wrong("visible part in every hidden factor", f"-sum(log(1 + exp({_AV} + x[j])) for j in hidden)",
              f"-len(hidden)*{_AV} - {_SOFTPLUS}", f"-len(states)*{_AV} - {_SOFTPLUS}",
              says="aᵀv has got into every hidden unit's (or state's) term. exp(aᵀv) is one factor of the "
                   "whole sum: Σ c f(h) = c Σ f(h), with c once.",
              hint="Take exp(aᵀv) out of the sum over h first."),
        wrong("the best hidden state only", f"-{_AV} - sum(max(0, x[j]) for j in hidden)",
              says="This is the energy of the most probable h alone, min E(v, h). The free energy is lower, "
                   "since the other states count too.",
              hint="At x = 0 a unit has two equal states. Is its term 0, or log 2?"),
        wrong("mean energy", f"-{_AV} - sum(sigmoid(x[j])*x[j] for j in hidden)",
              "sum(E(v, h) for h in states)/len(states)",
              says="This is an energy averaged over h. The free energy is the mean energy under P(h | v) "
                   "minus the entropy of h, and that is missing.",
              hint="With E = 0 for all states, the mean energy is 0. And −log of the number of states?"),
        wrong("sigmoid for softplus", f"-{_AV} - sum(sigmoid(x[j]) for j in hidden)",
              says="The sigmoid is the slope of log(1 + exp(x)), not its value.",
              hint="Which of the two grows without bounds as x does?"),
        wrong("layers exchanged", f"-{_AV} - sum(log(1 + exp(b[j] + sum(v[i]*W[j][i] for i in visible))) "
              "for j in hidden)",
              says="An index runs over the wrong layer (W transposed, perhaps): in W[i][j] the first index "
                   "is a visible unit, the second a hidden one. v and a go with i, h, x and b with j.",
              hint="W has D rows and H columns. Which index does the sum over visible units run over?"),
    ),
    teaching_notes="Ask what F is with W = 0: −aᵀv minus a constant, so the free energy holds all that the "
                   "hidden units add. And what each unit adds, −log(1 + exp(x)), is a hinge with a round "
                   "corner: it rewards input, and never punishes.")


# --- the gradient of the log-likelihood (derivation) --------------------------------------------------------

def _gradient_instances(generator: torch.Generator) -> list[Instance]:
    """Machines with a picture v and a weight W_ij; slopes by that weight from a complex step."""
    sizes = ((2, 1, 1), (2, 2, 1), (3, 1, 0), (2, 3, 1), (3, 2, 0))
    return [_gradient_instance(*size, generator) for size in sizes]


def _gradient_instance(visible: int, hidden: int, pixel: int, generator: torch.Generator) -> Instance:
    """pixel: the value of v_i."""
    machine = _machine(visible, hidden, generator)
    i, j = (int(torch.randint(units, (1,), generator=generator)) for units in (visible, hidden))
    v = put(_picture(generator, visible), i, pixel)
    pictures, states = machine.pictures, machine.states
    total = math.fsum(map(machine.weight, pictures))

    def free_energy(u: tuple, shift: complex = 0.0) -> complex:
        """F(u) after W_ij has grown by shift, every hidden state by itself."""
        return -cmath.log(sum(cmath.exp(-machine.energy(u, h) + shift * u[i] * h[j]) for h in states))

    def slope(function: Callable[[complex], complex]) -> float:
        return function(complex(0, STEP)).imag / STEP

    def log_z(shift: complex) -> complex:
        return cmath.log(sum(cmath.exp(-free_energy(u, shift)) for u in pictures))

    def joint(u: tuple, h: tuple) -> float:
        return math.exp(-machine.energy(u, h)) / total

    def fires(u: tuple) -> float:
        return math.fsum(joint(u, h) for h in states if h[j]) / math.fsum(joint(u, h) for h in states)

    symbols = {"dlogp": slope(lambda t: -free_energy(v, t) - log_z(t)), "dlogZ": slope(log_z), "Z": total,
               "dF": lambda u: slope(lambda t: free_energy(u, t)), "F": lambda u: free_energy(u).real,
               "E": machine.energy, "p": lambda u: machine.weight(u) / total, "joint": joint, "fires": fires,
               "x": lambda u: machine.input(u, j), "v": v, "i": i, "j": j, "pictures": pictures,
               "states": states}
    return Instance(f"v = {v}, i = {i}, j = {j}, {machine.shown()}", symbols)


_DATA = "v[i]*fires(v)"
_MODEL = "sum(p(u)*u[i]*fires(u) for u in pictures)"
_MODEL_FORMS = ("sum(joint(u, h)*u[i]*h[j] for u in pictures for h in states)",
                "sum(joint(u, h)*u[i]*h[j] for h in states for u in pictures)", _MODEL,
                "sum(p(u)*u[i]*sigmoid(x(u)) for u in pictures)")
_GRADIENT_FORMS = tuple(f"{data} - {model}" for data in (_DATA, "v[i]*sigmoid(x(v))")
                        for model in _MODEL_FORMS)


def _sums_pictures(tree: ast.expr) -> bool:
    """A sum over pictures in which the law of the machine still stands as weights over Z, or as slopes."""
    names = names_in(tree)
    return "pictures" in names and bool(names & {"F", "E", "dF", "Z"}) and not names & {"dlogp", "dlogZ"}


gradient_proof = LongDerivation(
    name="gradient_proof", title="Data term minus model term", chapter=2, difficulty=2, minutes=18, points=3,
    equations=("eq-rbm-free-energy", "eq-rbm-log-prob", "eq-rbm-gradient"),
    statement="""
        The log-likelihood of one picture is $\\log p(v) = -F(v) - \\log Z$, with
        $F(v) = -a^\\top v - \\sum_k \\log(1 + e^{x_k(v)})$, $x_k(v) = b_k + \\sum_l v_l W_{lk}$, and
        $Z = \\sum_u e^{-F(u)}$ over all pictures $u$. Differentiate it by one weight and show that

        $$\\frac{\\partial \\log p(v)}{\\partial W_{ij}} = v_i\\, P(h_j = 1 \\mid v)
        - \\langle v_i h_j \\rangle_\\text{model}, \\qquad
        \\langle v_i h_j \\rangle_\\text{model} = \\sum_u \\sum_h p(u, h)\\, u_i h_j$$

        The first term comes from $-F$, the second from $-\\log Z$; over many pictures the first becomes
        $\\langle v_i h_j \\rangle_\\text{data}$. The derivatives of $\\log p(v)$, of $\\log Z$ and of $F$ are
        given as numbers: say what they are. Fill in the lines marked `...`, or write a chain of your own.""",
    symbols=(("dlogp", "\\partial \\log p(v) / \\partial W_{ij}", "the derivative, given as a number"),
             ("dlogZ", "\\partial \\log Z / \\partial W_{ij}", "that of log Z, given as a number"),
             ("F(u), dF(u)", "F(u),\\; \\partial F(u) / \\partial W_{ij}",
              "free energy of a picture, and its slope"),
             ("x(u)", "x_j(u)", "input of unit $j$ at a picture"),
             ("fires(u)", "P(h_j = 1 \\mid u)", "`exp(x(u))/(1 + exp(x(u)))`, also `sigmoid(x(u))`"),
             ("p(u), joint(u, h)", "p(u),\\; p(u, h)",
              "laws of the machine: `exp(-F(u))/Z`, `exp(-E(u, h))/Z`"),
             ("E(u, h), Z", "E(u, h),\\; Z", "energy, and the normaliser"),
             ("v[i], h[j]", "v_i,\\; h_j", "the two units of $W_{ij}$ (and `u[i]`)"),
             ("pictures, states", "u,\\; h", "all states of the visible, of the hidden layer")),
    chain="""
        dlogp
        = -dF(v) - dlogZ                                 # log p = −F − log Z
        = v[i]*exp(x(v))/(1 + exp(x(v))) - dlogZ         # chain rule in log(1 + exp(x))
        = v[i]*fires(v) - dlogZ                          # the conditional
        = v[i]*fires(v) - sum(exp(-F(u))*u[i]*fires(u) for u in pictures)/Z   # Z′/Z
        = v[i]*fires(v) - sum(joint(u, h)*u[i]*h[j] for u in pictures for h in states)
        """,
    blanks=(2, 3, 4, 5), least_lines=2, instances=_gradient_instances, forms=_GRADIENT_FORMS,
    nearly="One more line: write the slopes of −F and of log Z in two steps.",
    landmarks=(Step("Show where the expectation comes from: a line in which the derivative of log Z is a sum "
                    "over all pictures, with exp(−F(u))/Z or with dF(u) in it.", test=_sums_pictures),),
    hints=("Two terms, −F(v) and −log Z, and W_ij stands in both. The slope of log(1 + exp(x)) is the "
           "sigmoid; what is the slope of the input x_j by W_ij?",
           "The slope of log Z is that of Z, over Z. Z is the sum of exp(−F(u)) over all pictures, so each "
           "picture brings exp(−F(u)) times −dF(u), and you know −dF(u) from the first term.",
           "exp(−F(u))/Z is p(u). So the slope of log Z is the sum of p(u) u_i P(h_j = 1 | u) over u. "
           "And p(u) P(h_j = 1 | u) is the sum of p(u, h) h_j over h."),
    misconceptions=(
        wrong("model minus data", f"{_MODEL} - {_DATA}",
              says="The two terms are exchanged: this is the slope of −log p, the loss, which is descended. "
                   "Here log p is climbed.",
              hint="If unit j fires at the data and hardly ever in the machine's dreams, should W_ij grow?"),
        wrong("gradient of log Z forgotten", _DATA, "-dF(v)",
              says="The second term is lost: log Z depends on W_ij as well. With the first term alone all "
                   "weights would grow for ever.",
              hint="What happens to all other pictures' free energies when W_ij grows?"),
        wrong("data term forgotten", f"-{_MODEL}",
              says="Only the slope of −log Z is here. The picture v itself enters by −F(v).",
              hint="This would be the same for every picture. What does the machine learn from v?"),
        wrong("sign of the gradient of log Z", f"{_DATA} + {_MODEL}",
              says="The model term is added. log p = −F − log Z: Z divides.",
              hint="At the optimum the data's mean and the machine's are equal. Is your gradient 0 there?"),
        wrong("sign of the free energy", f"-{_DATA} - {_MODEL}",
              says="The data term has the wrong sign. F holds −log(1 + exp(x)), and log p holds −F.",
              hint="Two minus signs stand before log(1 + exp(x_j)). What do they make?"),
        wrong("data minus data", f"{_DATA} - sum(p(u)*{_DATA} for u in pictures)",
              f"{_DATA} - v[i]*sum(p(u)*fires(u) for u in pictures)",
              f"{_DATA} - fires(v)*sum(p(u)*u[i] for u in pictures)",
              says="The picture v stands in the model term. Z sums over all pictures u, each with its own "
                   "u_i and its own P(h_j = 1 | u): nothing of the data is left in it.",
              hint="Does Z know which picture you have shown to the machine?"),
        wrong("product of means",
              f"{_DATA} - sum(p(u)*u[i] for u in pictures)*sum(p(u)*fires(u) for u in pictures)",
              says="You multiplied two means, ⟨v_i⟩ and ⟨h_j⟩ (mean-field values). The two units are not "
                   "independent: W_ij itself ties them. The mean of the product is asked for.",
              hint="Two coins that always agree: what is the mean of their product, and the product of "
                   "means?"),
        wrong("not weighed by the law", f"{_DATA} - sum(u[i]*fires(u) for u in pictures)",
              f"{_DATA} - sum(u[i]*fires(u) for u in pictures)/len(pictures)",
              f"{_DATA} - sum(u[i]*h[j] for u in pictures for h in states)",
              says="All pictures count alike in your model term. Each has the weight p(u) = exp(−F(u))/Z, "
                   "which is what the derivative of exp(−F(u)) leaves in front.",
              hint="The derivative of exp(y) is exp(y) times that of y. Where is the exp?"),
        wrong("Z for log Z", f"{_DATA} - sum(exp(-F(u))*u[i]*fires(u) for u in pictures)",
              says="This has the slope of Z. That of log Z is the slope of Z divided by Z.",
              hint="What is the derivative of log y?"),
        wrong("gradient by a visible bias", "v[i] - sum(p(u)*u[i] for u in pictures)",
              says="This is the gradient by a_i: the hidden unit is lost. W_ij stands beside v_i h_j in the "
                   "energy, a_i beside v_i alone.",
              hint="What is the derivative of x_j by W_ij, and that of log(1 + exp(x_j)) by x_j?"),
        wrong("gradient by a hidden bias", "fires(v) - sum(p(u)*fires(u) for u in pictures)",
              says="This is the gradient by b_j: the pixel is lost. The derivative of the input x_j by W_ij "
                   "is v_i.",
              hint="If pixel i is off in v, can W_ij change F(v) at all?"),
        wrong("one term of a bias", f"fires(v) - {_MODEL}", f"v[i] - {_MODEL}",
              says="The data term is that of a bias, the model term that of the weight. Both terms hold the "
                   "same quantity, v_i P(h_j = 1 | v), once at the data and once in the mean.",
              hint="Chain rule: slope of log(1 + exp(x)), times slope of x by W_ij."),
        wrong("slope of the sigmoid", f"{_DATA}*(1 - fires(v)) - dlogZ",
              f"{_DATA}*(1 - fires(v)) - sum(p(u)*u[i]*fires(u)*(1 - fires(u)) for u in pictures)",
              says="You differentiated once more: P (1 − P) is the slope of the sigmoid. F holds the "
                   "softplus, whose slope is the sigmoid.",
              hint="Which function has the slope exp(x)/(1 + exp(x))?"),
        wrong("slope of p for that of log p", f"p(v)*({_DATA} - {_MODEL})", f"p(v)*{_DATA} - {_MODEL}",
              says="A factor p(v) stands in front: the slope of p(v) itself has it, the slope of log p(v) "
                   "does not. (The data's picture is given, not drawn from the machine.)",
              hint="The derivative of log p is that of p over p. Which of the two did you take?"),
        wrong("input for its exponential", f"v[i]*x(v) - {_MODEL}",
              f"v[i]*x(v) - sum(p(u)*u[i]*x(u) for u in pictures)",
              says="The input x_j stands where the probability P(h_j = 1 | v) must: the hidden unit would be "
                   "a linear one.",
              hint="What is the slope of log(1 + exp(x)) for very negative x?"),
    ),
    teaching_notes="Let readers say both terms in words: what the unit does while it looks at data, minus "
                   "what it does while it dreams. Then ask at which machine the gradient by every W_ij "
                   "vanishes, and whether that machine must have the data's law.")


# --- why AIS is unbiased (derivation) -----------------------------------------------------------------------

def _annealing_instances(generator: torch.Generator) -> list[Instance]:
    """Three laws on the way from a base rate to a machine, and a sweep that keeps the middle one."""
    return [_annealing_instance(visible, hidden, generator)
            for visible, hidden in ((1, 1), (1, 2), (2, 1), (2, 2), (3, 1))]


def _annealing_instance(visible: int, hidden: int, generator: torch.Generator) -> Instance:
    machine, base = _machine(visible, hidden, generator), _signed_tenths(generator, visible)
    middle = int(torch.randint(2, 9, (1,), generator=generator)) / 10
    laws = [_annealed(machine, base, beta) for beta in (0.0, middle, 1.0)]
    weights = [{u: law.weight(u) for u in machine.pictures} for law in laws]
    totals = [math.fsum(weight.values()) for weight in weights]
    sweep = _sweep(laws[1])
    symbols = {"p0": lambda u: weights[0][u] / totals[0], "T": lambda u, v: sweep[u, v],
               "pictures": machine.pictures}
    for t in range(3):
        symbols |= {f"f{t}": weights[t].__getitem__, f"Z{t}": totals[t]}
    shown = f"{machine.shown()}, base rate {base}, middle at beta = {middle:g}"
    return Instance(shown, symbols)


def _annealed(machine: Machine, base: Sequence[float], beta: float) -> Machine:
    """The machine on the way: visible biases (1 − β) base + β a, all else multiplied by β."""
    return Machine(tuple(tuple(beta * w for w in row) for row in machine.W),
                   tuple((1 - beta) * start + beta * end for start, end in zip(base, machine.a)),
                   tuple(beta * bias for bias in machine.b))


def _sweep(machine: Machine) -> dict[tuple, float]:
    """T(u, v) = Σ_h P(h | u) P(v | h), from the joint law by its definition."""
    joint = {(u, h): math.exp(-machine.energy(u, h)) for u in machine.pictures for h in machine.states}
    columns = {h: math.fsum(joint[u, h] for u in machine.pictures) for h in machine.states}
    return {(u, v): math.fsum(joint[u, h] / machine.weight(u) * joint[v, h] / columns[h]
                              for h in machine.states)
            for u in machine.pictures for v in machine.pictures}


_PAIRS = "for u in pictures for v in pictures"
_AIS_GIVEN = f"sum(p0(u)*f1(u)/f0(u)*T(u, v)*f2(v)/f1(v) {_PAIRS})"


def _uses_sweep(tree: ast.expr) -> bool:
    """A line of the reader's own with a transition in it."""
    return "T" in names_in(tree) and normal_form(tree) != normal_form(expression(_AIS_GIVEN))


ais_proof = LongDerivation(
    name="ais_proof", title="A short chain, and no bias", chapter=2, difficulty=3, minutes=20, points=4,
    equations=("eq-rbm-block-gibbs", "eq-rbm-importance", "eq-rbm-ais-weight", "eq-rbm-ais"),
    statement="""
        Annealed importance sampling on a short path: from a base law $f_0$ to the machine's $f_2$, with one
        law $f_1$ in between. Draw $u$ from $p_0 = f_0/Z_0$, make *one* sweep $T$ of the middle law from
        $u$ to $v$, and take the weight

        $$w = \\frac{f_1(u)}{f_0(u)} \\cdot \\frac{f_2(v)}{f_1(v)}$$

        One sweep does not bring the chain to the middle law. Show that the mean is right all the same,

        $$\\mathbb{E}\\, w = \\sum_u \\sum_v p_0(u)\\, T(u, v)\\, \\frac{f_1(u)}{f_0(u)}\\,
        \\frac{f_2(v)}{f_1(v)} = \\frac{Z_2}{Z_0}$$

        All you need of the sweep is that it is a transition, $\\sum_v T(u, v) = 1$, in detailed balance
        with the middle law, $f_1(u)\\, T(u, v) = f_1(v)\\, T(v, u)$. Fill in the lines marked `...`, or
        write a chain of your own.""",
    symbols=(("p0(u)", "p_0(u)", "the base law, `f0(u)/Z0`"),
             ("f0(u), f1(u), f2(u)", "f_0, f_1, f_2", "the three laws before they are normalised"),
             ("Z0, Z1, Z2", "Z_0, Z_1, Z_2", "their sums over all pictures"),
             ("T(u, v)", "T(u, v)", "probability that a sweep leads from $u$ to $v$"),
             ("pictures", "u,\\; v", "all states of the visible layer")),
    chain=f"""
        {_AIS_GIVEN}
        = sum(f1(u)*T(u, v)*f2(v)/f1(v)
              {_PAIRS})/Z0       # p0 = f0/Z0
        = sum(f1(v)*T(v, u)*f2(v)/f1(v)
              {_PAIRS})/Z0       # detailed balance
        = sum(f2(v)*sum(T(v, u) for u in pictures) for v in pictures)/Z0   # f1 cancels
        = sum(f2(v) for v in pictures)/Z0           # from v the sweep leads somewhere
        = Z2/Z0
        """,
    blanks=(2, 3, 4, 5), least_lines=2, instances=_annealing_instances,
    nearly="One more line: write what detailed balance does, and what T sums to, in two steps.",
    landmarks=(Step("Show what becomes of the sweep: a line of your own in which T(u, v) or T(v, u) still "
                    "stands.", test=_uses_sweep),),
    hints=("Put in p0(u) = f0(u)/Z0. Which factors cancel at u, and what stands beside T(u, v) then?",
           "f1(u) T(u, v) is one side of detailed balance. Write the other side, and look what cancels at v.",
           "After balance, f2(v) T(v, u)/Z0 is left, and u stands in T(v, u) only. Sum over u first: from v, "
           "a sweep leads somewhere, so that sum is 1. Then the sum of f2(v) is Z2."),
    misconceptions=(
        wrong("upside down", "Z0/Z2", f"sum(p0(u)*f0(u)/f1(u)*T(u, v)*f1(v)/f2(v) {_PAIRS})",
              says="The ratios are upside down: the new law stands above, the old one below.",
              hint="In plain importance sampling w = f_B/f_A, and its mean under p_A is Z_B/Z_A."),
        wrong("base law not normalised", "Z2", f"sum(f1(u)*T(u, v)*f2(v)/f1(v) {_PAIRS})",
              says="Z0 is lost: you put in p0 = f0. A law sums to 1, f0 sums to Z0.",
              hint="p0(u)/f0(u) is the same number for every u. Which one?"),
        wrong("Z0 on the wrong side", "Z2*Z0", f"sum(f1(u)*T(u, v)*f2(v)/f1(v) {_PAIRS})*Z0",
              says="You multiplied by Z0. p0 = f0/Z0, so p0/f0 is 1/Z0.",
              hint="If f0 is multiplied by 2, what happens to p0, and what to p0/f0?"),
        wrong("base law used up twice", f"sum(p0(u)*f1(u)*T(u, v)*f2(v)/f1(v) {_PAIRS})/Z0",
              f"sum(f1(u)/f0(u)*T(u, v)*f2(v)/f1(v) {_PAIRS})/Z0",
              says="p0(u)/f0(u) is 1/Z0 as a whole. One of the two is still there beside the 1/Z0.",
              hint="Write p0(u) as f0(u)/Z0, and cancel f0(u) once."),
        wrong("sweep turned round without paying", f"sum(f1(u)*T(v, u)*f2(v)/f1(v) {_PAIRS})/Z0",
              f"sum(p0(u)*f1(u)/f0(u)*T(v, u)*f2(v)/f1(v) {_PAIRS})",
              says="T(u, v) became T(v, u), and f1 stayed at u. A sweep is not symmetric: it likes to go "
                   "where the law is high. Detailed balance turns both together.",
              hint="f1(u) T(u, v) = f1(v) T(v, u): where does f1 stand on the right?"),
        wrong("balance upside down", f"sum(f1(u)*T(v, u)*f1(u)/f1(v)*f2(v)/f1(v) {_PAIRS})/Z0",
              says="You used T(u, v) = T(v, u) f1(u)/f1(v). Detailed balance gives T(v, u) f1(v)/f1(u).",
              hint="Divide f1(u) T(u, v) = f1(v) T(v, u) by f1(u)."),
        wrong("columns of T summed to 1", f"sum(f1(u)*f2(v)/f1(v) {_PAIRS})/Z0",
              "sum(f2(v)*sum(T(u, v) for u in pictures) for v in pictures)/Z0",
              says="T was summed over where it comes from (or left out). It sums to 1 over its second "
                   "argument, where it goes: Σ_v T(u, v) = 1, for every u.",
              hint="If all pictures lead to the same one, what is the sum of T(u, v) over u?"),
        wrong("a sum left over", f"sum(f2(v) {_PAIRS})/Z0",
              says="T is gone, and the sum over u is still there: every f2(v) is counted once for each u. "
                   "The sum over u was used up when the T(v, u) added to 1.",
              hint="Which of the two sums does Σ_u T(v, u) = 1 take away?"),
        wrong("stopped half way", "Z1/Z0", "sum(p0(u)*f1(u)/f0(u) for u in pictures)",
              says="This is the mean of the first ratio alone, one step of importance sampling from the base "
                   "to the middle law.",
              hint="What became of f2(v)/f1(v)?"),
        wrong("the first ratio lost", "Z2/Z1", f"sum(p0(u)*T(u, v)*f2(v)/f1(v) {_PAIRS})",
              says="The first ratio, f1(u)/f0(u), is lost. (Z2/Z1 would be the mean of the second ratio, if "
                   "v were a true draw of the middle law; after one sweep it is not.)",
              hint="Which two factors stand at u?"),
        wrong("product of means", "sum(p0(u)*f1(u)/f0(u) for u in pictures)*"
              f"sum(p0(u)*T(u, v)*f2(v)/f1(v) {_PAIRS})",
              says="You took the mean of each ratio by itself. They are not independent: v was reached from "
                   "u, and it is this tie that corrects for the short chain.",
              hint="Keep both ratios under one sum over u and v."),
        wrong("ratio at the new state", f"sum(p0(u)*T(u, v)*f1(v)/f0(v)*f2(v)/f1(v) {_PAIRS})",
              f"sum(p0(u)*T(u, v)*f2(v)/f0(v) {_PAIRS})",
              says="Both ratios are taken at v. The first belongs to u, where the chain stood when the "
                   "temperature changed from the base to the middle law.",
              hint="In which order: ratio, then sweep, or sweep, then ratio?"),
        wrong("mean of the logarithm", f"sum(p0(u)*T(u, v)*log(f1(u)/f0(u)*f2(v)/f1(v)) {_PAIRS})",
              says="This is the mean of log w. It is at most log(Z2/Z0) by Jensen's inequality; unbiased is "
                   "w itself.",
              hint="Average the weights, and take the logarithm of the average afterwards."),
        wrong("the logarithm of the result", "log(Z2/Z0)", "log(Z2) - log(Z0)",
              says="The logarithm was taken on the way. The mean of w is Z2/Z0; log of the mean is log Z2 − "
                   "log Z0.",
              hint="Is there a logarithm in the first line?"),
    ),
    teaching_notes="Ask where equilibrium was assumed: nowhere. Then where it pays: in the variance, which "
                   "the proof says nothing about. There is a second proof, by Σ_u f1(u) T(u, v) = f1(v), "
                   "that needs the middle law to be kept and no detailed balance; the grader takes it.")


# --- what the code exercises share --------------------------------------------------------------------------

# batch, visible, hidden: layers of one size and of two; but for the first, no batch has the size of a layer
SIZES_OF_LAYERS = ((1, 1, 1), (1, 2, 2), (2, 3, 1), (3, 2, 2), (3, 2, 4), (4, 3, 3), (2, 5, 3))


def layer_exercise(kind: type[LayerExercise] = LayerExercise, **settings: object) -> Callable:
    """Decorates a solution, as `function_exercise` does."""
    return lambda solution: kind(name=solution.__name__, chapter=2, solution=solution, **settings)


def _flat(*parts: Tensor) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


def _signed(generator: torch.Generator, *shape: int, most: int = 20) -> Tensor:
    """Random tenths of both signs up to most/10, none of them 0."""
    size = torch.randint(1, most + 1, shape, generator=generator)
    sign = 2 * torch.randint(2, shape, generator=generator) - 1
    return (size * sign).to(torch.float64) / 10


def _pictures(generator: torch.Generator, batch: int, visible: int) -> Tensor:
    """Visible states; the first unit of the first is on."""
    v = torch.randint(2, (batch, visible), generator=generator).to(torch.float64)
    v[0, 0] = 1.0
    return v


def _uniforms(generator: torch.Generator, *shape: int) -> Tensor:
    """Uniform numbers .005, .015, … .995: none is the probability ½, whatever it is rounded to."""
    return (torch.randint(100, shape, generator=generator).to(torch.float64) + 0.5) / 100


def _loud() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(v, W, a, b) in which hidden units are given 800 and −800, where e^x has no float64."""
    v = [[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]
    W = [[500.0, -450.0, 0.5], [300.0, -350.0, -1.0]]
    return tuple(torch.tensor(part, dtype=torch.float64)
                 for part in (v, W, [0.5, -1.5], [0.5, -0.5, 1.0]))


def _log_sum_exp(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))


def _hidden_states(inputs: Sequence[float]) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every hidden state, with the sum of the inputs of those units that are on."""
    for h in itertools.product((0, 1), repeat=len(inputs)):
        yield h, math.fsum(x for bit, x in zip(h, inputs) if bit)


def _inputs_by_loops(v: Sequence[float], W: Sequence[Sequence[float]], b: Sequence[float]) -> list[float]:
    return [b[j] + math.fsum(v[i] * W[i][j] for i in range(len(v))) for j in range(len(b))]


def _one_size(rule: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A mutant that has an answer only where the two layers have one size; W is its second argument."""
    def mutant(*case: Tensor) -> Tensor:
        return rule(*case) if len(set(case[1].shape)) == 1 else torch.empty(0, dtype=torch.float64)
    return mutant


def _softplus(x: Tensor) -> Tensor:
    return -logsigmoid(-x)


# --- the hidden units given the visible ones ----------------------------------------------------------------

def _layers(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(v, W, b): small ones in tenths, layers of one size and of two; then one with very large inputs."""
    for batch, visible, hidden in SIZES_OF_LAYERS:
        yield (_pictures(generator, batch, visible), _signed(generator, visible, hidden),
               _signed(generator, hidden, most=15))
    v, W, _, b = _loud()
    yield v, W, b


def _hidden_by_enumeration(v: Tensor, W: Tensor, b: Tensor) -> Tensor:
    """P(h_j = 1 | v) as a share of the weights of all 2^H hidden states."""
    table = []
    for picture in v.tolist():
        inputs = _inputs_by_loops(picture, W.tolist(), b.tolist())
        states = list(_hidden_states(inputs))
        top = max(gain for _, gain in states)
        weights = [(h, math.exp(gain - top)) for h, gain in states]
        total = math.fsum(weight for _, weight in weights)
        table.append([math.fsum(weight for h, weight in weights if h[j]) / total for j in range(len(inputs))])
    return torch.tensor(table, dtype=torch.float64)


def _of_input(rule: Callable[[Tensor], Tensor]) -> Callable:
    """A mutant that is right up to the input of the hidden units."""
    return lambda v, W, b: rule(v @ W + b)


def _fired(x: Tensor) -> Tensor:
    """Units that are drawn, from a generator that is made anew."""
    fresh = torch.Generator().manual_seed(0)
    return (torch.rand(x.shape, generator=fresh, dtype=x.dtype) < x.sigmoid()).to(x.dtype)


@layer_exercise(
    title="The hidden units, given a picture", difficulty=1, minutes=8, points=2,
    equations=("eq-rbm-hidden-given", "eq-rbm-factorises"),
    statement="""
        Compute the probability that each hidden unit is on, for each picture of a batch,

        $$P(h_j = 1 \\mid v) = \\sigma\\Big(b_j + \\sum_{i=1}^D v_i W_{ij}\\Big), \\qquad
        \\sigma(x) = \\frac{1}{1 + e^{-x}}$$

        without a loop. One of the cases has inputs of 800 and $-800$; the answers there are 1 and 0 and not
        NaN.""",
    hints=("What does one hidden unit see of one picture? Write that sum for one unit first, and then look "
           "for the operation that does it for all pictures and all units at once.",
           "v is (batch, visible) and W is (visible, hidden), so `v @ W` is (batch, hidden): entry (n, j) is "
           "the sum over i of v_ni W_ij. A bias of shape (hidden,) is added to every row.",
           "`torch.sigmoid` of (v @ W + b). It is exact at 800 and at −800."),
    truth=_hidden_by_enumeration, cases=_layers,
    must=(("a probability lies between 0 and 1.", lambda yours, *case: ((yours >= 0) & (yours <= 1)).all()),
          ("a unit is more probably on than off where its input is positive.",
           lambda yours, v, W, b: ((yours - 0.5) * (v @ W + b) >= 0).all())),
    on_the_way=lambda v, W, b: {"v @ W, a row a picture": v @ W, "with b": v @ W + b},
    misconceptions=(
        wrong("b forgotten", lambda v, W, b: (v @ W).sigmoid(),
              says="Your input has no bias. A unit with b_j = −3 would rather be off, and says so where the "
                   "picture is empty.",
              hint="Let v be all zeros: what is P(h_j = 1 | v) then?"),
        wrong("W the wrong way round", _one_size(lambda v, W, b: (v @ W.T + b).sigmoid()),
              lambda v, W, b: (v @ W.reshape(W.shape[1], W.shape[0]).T + b).sigmoid(),
              says="W_ij belongs to visible unit i and hidden unit j: its rows are visible. You sum over the "
                   "hidden index (or have reshaped W, which shuffles its entries).",
              hint="v is (batch, visible), W is (visible, hidden). Which product is (batch, hidden) with no "
                   "transpose?"),
        wrong("softmax for sigmoid", _of_input(lambda x: x.softmax(1)), _of_input(lambda x: x.softmax(0)),
              says="Softmax lets exactly one of several units be on. The hidden units are independent given "
                   "v: none, some or all of them may be on.",
              hint="What do your probabilities of one picture sum to, and must they?"),
        wrong("thresholded at ½", _of_input(lambda x: (x > 0).to(x.dtype)),
              _of_input(lambda x: (x >= 0).to(x.dtype)), _of_input(lambda x: x.sigmoid().round()),
              says="Your units fire whenever their input is positive: these are perceptrons, the limit of a "
                   "temperature of 0. The machine's units fire by chance.",
              hint="Leave out the comparison: the sigmoid itself is asked for."),
        wrong(DRAWN, _of_input(_fired),
              says="You drew the units, 0 or 1. Asked for is the probability of 1. In a gradient the "
                   "probability is the better one, too: it is the mean of what you drew, without the noise.",
              hint="Where does the random number come in? Return what stands before it."),
        wrong("sign of the energy", _of_input(lambda x: (-x).sigmoid()),
              says="This is P(h_j = 0 | v), the complement. The energy has a minus before each of its terms, "
                   "and the probability is e to minus the energy: the two cancel.",
              hint="A positive weight to a pixel that is on: should the unit be more or less probably on?"),
        wrong("a threshold for a bias", lambda v, W, b: (v @ W - b).sigmoid(),
              says="You subtract b, as one subtracts a neuron's threshold. Here b_j is a bias: the larger, "
                   "the more probably the unit is on.",
              hint="The energy holds −b_j h_j. Is a state with h_j = 1 more or less probable if b_j grows?"),
        wrong("the 2 of the Ising model", _of_input(lambda x: (2 * x).sigmoid()),
              says="You doubled the input. That is right for the spins of chapter 1: −1 and 1 are two apart. "
                   "These units are 0 and 1.",
              hint="How much does the energy change as h_j goes from 0 to 1?"),
        wrong("tanh for sigmoid", _of_input(torch.tanh),
              says="tanh is the mean of a unit that is −1 or 1. It goes from −1 to 1, and a probability does "
                   "not.",
              hint="What should the answer be for an input of 0?"),
        wrong("pixels of −1 and 1", lambda v, W, b: ((2 * v - 1) @ W + b).sigmoid(),
              says="You turned pixels that are 0 into −1. In this energy a pixel that is off adds nothing.",
              hint="Let v be all zeros: then the input is b alone."),
        wrong("a mean over the pixels", lambda v, W, b: (v @ W / len(W) + b).sigmoid(),
              says="You divided by the number of pixels. The input is the sum of the weights of all pixels "
                   "that are on.",
              hint="Compare with the energy: is there a 1/D in it?"),
        wrong("b after the sigmoid", lambda v, W, b: (v @ W).sigmoid() + b,
              says="The bias is added after the sigmoid: the result may leave the interval from 0 to 1.",
              hint="b_j is a part of the input. Check your brackets."),
        wrong("not squashed", _of_input(lambda x: x), _of_input(torch.exp),
              says="This is the input (or e to the input, the odds of being on), not yet a probability.",
              hint="The odds are e^x to 1. What share of the two is e^x?"),
        wrong("all units at once", lambda v, W, b: (v @ W + b).sigmoid().prod(1),
              lambda v, W, b: (v @ W + b).sigmoid().prod(1, keepdim=True),
              says="You multiplied over the hidden units: the probability that all of them are on together. "
                   "Asked for is one number for each unit.",
              hint="The answer has shape (batch, hidden)."),
        wrong("e^x that overflows", _of_input(lambda x: x.exp() / (1 + x.exp())),
              says="Right on ordinary inputs. At 800 e^x is infinite in floating point, and infinity over "
                   "infinity is NaN.",
              hint="Divide above and below by e^x, or use `torch.sigmoid`.", credit=0.5),
    ),
    teaching_notes="One line. Ask for the shapes aloud, and for what an empty picture gives. The exercise "
                   "that draws pictures from hidden units differs by a transpose only: let the class say it.")
def hidden_given(v: torch.Tensor, W: torch.Tensor,
                 b: torch.Tensor) -> torch.Tensor:
    """P(h_j = 1 | v) of each hidden unit, for each picture.

    v: (batch, visible) of 0 and 1; W: (visible, hidden); b: (hidden,);
    returns (batch, hidden).
    """
    return torch.sigmoid(v @ W + b)


# --- the free energy ----------------------------------------------------------------------------------------

def _machines(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """(v, W, a, b): small ones in tenths, layers of one size and of two; then one with very large inputs."""
    for batch, visible, hidden in SIZES_OF_LAYERS:
        yield (_pictures(generator, batch, visible), _signed(generator, visible, hidden),
               _signed(generator, visible, most=15), _signed(generator, hidden, most=15))
    yield _loud()


def _free_by_enumeration(v: Tensor, W: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """−log of the sum of e^(−E) over all 2^H hidden states."""
    energies = []
    for picture in v.tolist():
        inputs = _inputs_by_loops(picture, W.tolist(), b.tolist())
        lean = math.fsum(x * y for x, y in zip(picture, a.tolist()))
        energies.append(-_log_sum_exp([lean + gain for _, gain in _hidden_states(inputs)]))
    return torch.tensor(energies, dtype=torch.float64)


def _free(rule: Callable[[Tensor], Tensor], lean: float = -1.0) -> Callable:
    """The mutants that are right up to the inputs: lean·(a·v) plus a rule of the inputs, (batch,)."""
    return lambda v, W, a, b: lean * (v @ a) + rule(v @ W + b)


def _right_free(v: Tensor, W: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return -v @ a - _softplus(v @ W + b).sum(1)


def _careless(x: Tensor) -> Tensor:
    """log(1 + e^x) as it is written, infinite at 800."""
    return (1 + x.exp()).log()


def _both_ways(rule: Callable[[Callable[[Tensor], Tensor]], Callable]) -> tuple[Callable, ...]:
    """The mutants of a slip beside log(1 + e^x): with a stable one, and with one that overflows."""
    return rule(_softplus), rule(_careless)


@layer_exercise(
    title="The free energy of a picture", difficulty=2, minutes=12, points=3,
    equations=("eq-rbm-free-energy", "eq-rbm-sum-product"),
    statement="""
        Compute the free energy of each picture of a batch, in nats,

        $$F(v) = -a^\\top v - \\sum_{j=1}^H \\log\\Big(1 + e^{\\,b_j + \\sum_i v_i W_{ij}}\\Big)$$

        in a form that holds for large inputs too: one of the cases has inputs of 800 and $-800$, and
        $e^{800}$ is infinite in floating point. (What is $\\log(1 + e^x)$ for large $x$?)""",
    hints=("Three steps: the inputs of the hidden units, a table (batch, hidden); log(1 + e^x) of each "
           "entry; a sum over the hidden units and the visible part, each with its minus.",
           "log(1 + e^x) = max(x, 0) + log(1 + e^(−|x|)), and no exponent is positive on the right. "
           "`torch.nn.functional.softplus` does it for you, and so does `torch.logaddexp` with 0.",
           "`x = v @ W + b`, then `-v @ a - torch.nn.functional.softplus(x).sum(1)`."),
    truth=_free_by_enumeration, cases=_machines,
    must=(("the free energy is at most the energy of any one hidden state.",
           lambda yours, v, W, a, b: (yours <= -v @ a - (v @ W + b).clamp(min=0).sum(1) + 1e-3).all()),
          ("2^H states lower it by no more than H log 2 below the lowest energy.",
           lambda yours, v, W, a, b: (yours >= -v @ a - (v @ W + b).clamp(min=0).sum(1)
                                      - len(b) * math.log(2) - 1e-3).all())),
    on_the_way=lambda v, W, a, b: {"inputs, a row a picture": v @ W + b, "log(1 + e^x)": _softplus(v @ W + b),
                                   "a·v": v @ a},
    misconceptions=(
        wrong("a forgotten", *_both_ways(lambda soft: _free(lambda x: -soft(x).sum(1), lean=0.0)),
              says="The visible biases are missing: −aᵀv is a part of the energy whatever the hidden units "
                   "do.",
              hint="Let W and b be 0. Then F(v) = −aᵀv − H log 2. What is yours?"),
        wrong("b forgotten", *_both_ways(lambda soft: lambda v, W, a, b: -v @ a - soft(v @ W).sum(1)),
              says="The hidden biases are missing from the inputs.",
              hint="What is the input of a hidden unit if no pixel is on?"),
        wrong("sign of the free energy", *_both_ways(lambda soft: _free(lambda x: soft(x).sum(1), lean=1.0)),
              says="This is −F(v), the logarithm of the unnormalised probability. Probable pictures have a "
                   "low free energy.",
              hint="p(v) is e to the minus F, over Z."),
        wrong("sign of a", *_both_ways(lambda soft: _free(lambda x: -soft(x).sum(1), lean=1.0)),
              says="The visible part has the wrong sign: a positive a_i makes pixel i more probably on, so "
                   "it lowers the energy where the pixel is on.",
              hint="Compare with the energy: is it −aᵀv or +aᵀv?"),
        wrong("mean over the hidden units", *_both_ways(lambda soft: _free(lambda x: -soft(x).mean(1))),
              says="You averaged over the hidden units. Each of them multiplies p(v) by a factor, so the "
                   "logarithms add.",
              hint="Would a copy of a machine's hidden units, put beside them, leave F as it is?"),
        wrong("log of a sum",
              _free(lambda x: -torch.cat([torch.zeros_like(x[:, :1]), x], 1).logsumexp(1)),
              _free(lambda x: -(1 + x.exp().sum(1)).log()), _free(lambda x: -(1 + x.exp()).sum(1).log()),
              _free(lambda x: -_softplus(x).logsumexp(1)), _free(lambda x: -x.logsumexp(1)),
              says="You take one logarithm of a sum over the units. The sum over all hidden states is a "
                   "product over units, so there is one logarithm for each unit, and then a sum.",
              hint="Two units: (1 + e^x)(1 + e^y) has four terms, one a state. How many terms has yours?"),
        wrong("the best hidden state only", _free(lambda x: -x.clamp(min=0).sum(1)),
              says="max(x, 0) is log(1 + e^x) for very large and very small inputs only: this is the energy "
                   "of the one hidden state that fits best, and the free energy counts all of them.",
              hint="At x = 0 both states of a unit weigh 1. What is the log of their sum?"),
        wrong("energy at the mean", _free(lambda x: -(x * x.sigmoid()).sum(1)),
              says="You put P(h_j = 1 | v) into the energy in the place of h. That is the mean energy; the "
                   "free energy is lower, by the entropy of the hidden units.",
              hint="Compare σ(x) x with log(1 + e^x) at x = 0."),
        wrong("sigmoid for softplus", _free(lambda x: -x.sigmoid().sum(1)),
              _free(lambda x: -logsigmoid(x).sum(1)),
              says="You summed the sigmoid (or its logarithm). σ(x) is the slope of log(1 + e^x), not its "
                   "value.",
              hint="Which function grows like x for large inputs?"),
        wrong("input of the wrong sign", *_both_ways(lambda soft: _free(lambda x: -soft(-x).sum(1))),
              says="You have log(1 + e^(−x)). A unit with a large input must lower the free energy by that "
                   "much; yours leaves it alone.",
              hint="The state h_j = 1 weighs e^x. What does h_j = 0 weigh?"),
        wrong("a inside the logarithm",
              *_both_ways(lambda soft: lambda v, W, a, b: -soft(v @ W + b + (v @ a)[:, None]).sum(1)),
              says="You added aᵀv to the input of every hidden unit. It has no h in it: it stands before the "
                   "sum over h, once.",
              hint="If a hidden unit is off, is the bias of the pixels lost?"),
        wrong("hidden units of −1 and 1", _free(lambda x: -(_softplus(2 * x) - x).sum(1)),
              _free(lambda x: -(x.exp() + (-x).exp()).log().sum(1)),
              says="You summed over h_j = −1 and 1. The hidden units are 0 and 1: 1 + e^x.",
              hint="What does a unit that is off add to the energy?"),
        wrong("W the wrong way round",
              _one_size(lambda v, W, a, b: -v @ a - _softplus(v @ W.T + b).sum(1)),
              _one_size(lambda v, W, a, b: -v @ a - _careless(v @ W.T + b).sum(1)),
              lambda v, W, a, b: -v @ a - _softplus(v @ W.reshape(W.shape[1], W.shape[0]).T + b).sum(1),
              says="W_ij belongs to visible unit i and hidden unit j. You sum over its hidden index (or have "
                   "reshaped it).",
              hint="v is (batch, visible) and W (visible, hidden): `v @ W`."),
        wrong("not the logarithm", lambda *case: (-_right_free(*case)).exp(),
              says="This is e^(−F), the probability but for Z. For real pictures it overflows or is 0; the "
                   "free energy is its logarithm, negated.",
              hint="Take minus the logarithm first, on paper: the product becomes a sum."),
        wrong("one number for the batch", lambda *case: _right_free(*case).sum(),
              lambda *case: _right_free(*case).mean(),
              says="You added (or averaged) over the pictures as well. Each picture has its own free energy.",
              hint="Sum over the hidden units only: `.sum(1)`."),
        wrong("log(1 + e^x) that overflows", _free(lambda x: -_careless(x).sum(1)),
              says="Right on ordinary inputs. At 800 your e^x is infinite, though log(1 + e^x) is 800. In "
                   "float32, in which machines are trained, e^x is infinite at 89 already.",
              hint="For which x is the 1 lost beside e^x, and what is left of the logarithm?", credit=0.5),
        wrong("inputs clipped", *(_free(lambda x, most=most: -_softplus(x.clamp(max=most)).sum(1))
                                  for most in (20, 30, 50, 80, 88, 100, 500, 700)),
              says="You cut large inputs off. That avoids the overflow and gives another number: log(1 + "
                   "e^x) goes on growing.",
              hint="For large x, log(1 + e^x) is x. Which of its forms has no positive "
                   "exponent?", credit=0.5),
    ),
    teaching_notes="Let the class find the stable form: take max(0, x) out of the bracket. PyTorch's "
                   "softplus returns x above 20; ask how wrong that is (2e-9).")
def free_energy(v: torch.Tensor, W: torch.Tensor, a: torch.Tensor,
                b: torch.Tensor) -> torch.Tensor:
    """The free energy of each picture, nats; finite for inputs of any size.

    v: (batch, visible) of 0 and 1; W: (visible, hidden); a: (visible,);
    b: (hidden,); returns (batch,).
    """
    x = v @ W + b
    return -v @ a - torch.nn.functional.softplus(x).sum(1)


# --- contrastive divergence ---------------------------------------------------------------------------------

def _chains(generator: torch.Generator) -> Iterator[tuple]:
    """(v, W, a, b, k, uniforms_h, uniforms_v): one unit a layer and one sweep first, then up to three."""
    sizes = ((1, 1, 1, 1), (2, 2, 2, 1), (3, 2, 2, 2), (4, 3, 2, 2), (5, 2, 3, 1), (5, 3, 3, 3), (6, 4, 3, 2),
             (7, 3, 4, 3))
    for batch, visible, hidden, k in sizes:
        yield (_pictures(generator, batch, visible), _signed(generator, visible, hidden, most=25),
               _signed(generator, visible, most=15), _signed(generator, hidden, most=15), k,
               _uniforms(generator, k, batch, hidden), _uniforms(generator, k, batch, visible))


def _cd_by_loops(v: Tensor, W: Tensor, a: Tensor, b: Tensor, k: int, uniforms_h: Tensor,
                 uniforms_v: Tensor) -> Tensor:
    """Every picture by itself, unit by unit, and the terms added up one by one."""
    rows, back = W.tolist(), W.T.tolist()

    def means(state: Sequence[float], weights: Sequence, biases: Tensor) -> list[float]:
        return [0.5 + 0.5 * math.tanh(x / 2) for x in _inputs_by_loops(state, weights, biases.tolist())]

    def added(state: Sequence[float], sign: int) -> list[float]:
        on = means(state, rows, b)
        return [sign * value for value in (*(x * p for x in state for p in on), *state, *on)]

    total = [0.0] * (W.numel() + len(a) + len(b))
    for n, picture in enumerate(v.tolist()):
        state = picture
        for t in range(k):
            drawn = [float(u < p) for u, p in zip(uniforms_h[t, n].tolist(), means(state, rows, b))]
            state = [float(u < p) for u, p in zip(uniforms_v[t, n].tolist(), means(drawn, back, a))]
        total = [sum(three) for three in zip(total, added(picture, 1), added(state, -1))]
    return torch.tensor(total, dtype=torch.float64) / len(v)


@dataclass(frozen=True)
class Walk:
    """What a chain passes: v and P(h = 1 | v) at its k + 1 states; drawn h and P(v = 1 | h) of k sweeps."""

    v: list[Tensor]
    p: list[Tensor]
    h: list[Tensor]
    mean_v: list[Tensor]
    up: Callable[[Tensor], Tensor]
    last_h: Tensor


def _on(mean: Tensor, uniform: Tensor) -> Tensor:
    return (uniform < mean).to(mean.dtype)


def _walk(v: Tensor, W: Tensor, a: Tensor, b: Tensor, k: int, uniforms_h: Tensor, uniforms_v: Tensor, *,
          hidden: Callable = _on, visible: Callable = _on, which: Callable = lambda t: t,
          again: bool = False, back: Callable = lambda W: W.T) -> Walk:
    """The k sweeps, with room for slips: rules of drawing, which uniforms, a fresh start, the way back."""
    def up(state: Tensor) -> Tensor:
        return (state @ W + b).sigmoid()

    states, p, h, mean_v = [v], [up(v)], [], []
    for t in range(k):
        h.append(hidden(p[0] if again else p[-1], uniforms_h[which(t)]))
        mean_v.append((h[-1] @ back(W) + a).sigmoid())
        states.append(visible(mean_v[-1], uniforms_v[which(t)]))
        p.append(up(states[-1]))
    return Walk(states, p, h, mean_v, up, _on(p[-1], uniforms_h[-1]))


def _terms(v: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means over the batch of v_i h_j, v_i and h_j."""
    return v.T @ h / len(v), v.mean(0), h.mean(0)


def _cd(data: Callable = lambda walk: _terms(walk.v[0], walk.p[0]),
        model: Callable = lambda walk: _terms(walk.v[-1], walk.p[-1]), **slips: object) -> Callable:
    """A mutant with another data term, another model term or a slip in the sweeps."""
    def mutant(*case: object) -> Tensor:
        walk = _walk(*case, **slips)
        return _flat(*data(walk)) - _flat(*model(walk))
    return mutant


def _with(place: int, value: Callable) -> Callable:
    """The right gradient of another case: one of its arguments is exchanged."""
    return lambda *case: _cd()(*(value(part) if n == place else part for n, part in enumerate(case)))


def _some(parts: str, one: Callable, other: Callable = _cd()) -> Callable:
    """A mutant that takes the named parts ("Wab") from one mutant and the rest from another."""
    def mutant(*case: object) -> Tensor:
        visible, hidden = case[1].shape
        mine = torch.cat([torch.full((count,), name in parts) for name, count in
                          (("W", visible * hidden), ("a", visible), ("b", hidden))])
        return torch.where(mine, one(*case), other(*case))
    return mutant


def _summed(*case: object) -> Tensor:
    return len(case[0]) * _cd()(*case)


def _model_of(choose: Callable[[Walk], tuple[Tensor, Tensor]]) -> Callable:
    return _cd(model=lambda walk: _terms(*choose(walk)))


def _data_of(choose: Callable[[Walk], tuple[Tensor, Tensor]]) -> Callable:
    return _cd(data=lambda walk: _terms(*choose(walk)))


def _product_of_means(v: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.outer(v.mean(0), h.mean(0)), v.mean(0), h.mean(0)


_H_KEPT = _model_of(lambda walk: (walk.v[-1], walk.p[0]))
_H_OLD = _model_of(lambda walk: (walk.v[-1], walk.p[-2]))
_H_LAST_DRAWN = _model_of(lambda walk: (walk.v[-1], walk.h[-1]))
_H_DATA_DRAWN = _data_of(lambda walk: (walk.v[0], walk.h[0]))
_H_MODEL_DRAWN = _model_of(lambda walk: (walk.v[-1], walk.last_h))
_H_BOTH_DRAWN = _cd(data=lambda walk: _terms(walk.v[0], walk.h[0]),
                    model=lambda walk: _terms(walk.v[-1], walk.last_h))
_H_SWEEP_DRAWN = _cd(data=lambda walk: _terms(walk.v[0], walk.h[0]),
                     model=lambda walk: _terms(walk.v[-1], walk.h[-1]))


@layer_exercise(
    PartsExercise, title="Contrastive divergence", difficulty=3, minutes=25, points=4,
    equations=("eq-rbm-cd", "eq-rbm-gradient", "eq-rbm-hidden-given", "eq-rbm-visible-given"),
    parts=("dW", "da", "db"),
    shapes=lambda v, W, a, b, *rest: (tuple(W.shape), tuple(a.shape), tuple(b.shape)),
    statement="""
        Write the gradient of CD-$k$ for one batch: data term minus the statistics after $k$ sweeps that start
        at the data,

        $$\\Delta W_{ij} = \\langle v_i h_j \\rangle_\\text{data} - \\langle v_i h_j \\rangle_k, \\qquad
        \\Delta a_i = \\langle v_i \\rangle_\\text{data} - \\langle v_i \\rangle_k, \\qquad
        \\Delta b_j = \\langle h_j \\rangle_\\text{data} - \\langle h_j \\rangle_k$$

        Each $\\langle \\cdot \\rangle$ is a mean over the batch, and in both terms $P(h_j = 1 \\mid v)$ of
        the term's own $v$ stands in the place of $h_j$. Sweep $t$ draws all hidden units and then all visible
        ones, and its chance is given to you: a hidden unit is 1 if its number in `uniforms_h[t]` is **below**
        its probability, and 0 otherwise; a visible unit likewise with `uniforms_v[t]`. So there is one right
        answer. Return $\\Delta W$, $\\Delta a$ and $\\Delta b$, without the learning rate.""",
    hints=("Four parts: P(h = 1 | data); a loop over k sweeps that carries the visible states along; P(h = 1 "
           "| v) at the last v; the differences of three means.",
           "In a sweep: `h = (uniforms_h[t] < p).to(v.dtype)` with p from the present v; then the visible "
           "units in the same way, from h @ W.T + a. Keep the batch itself under its own name: you need it "
           "for the data term.",
           "With `data_h` at the data, and `sample`, `h` (probabilities) after the last sweep: dW is (v.T @ "
           "data_h - sample.T @ h) / len(v), da is (v - sample).mean(0), db is (data_h - h).mean(0)."),
    truth=_cd_by_loops, cases=_chains,
    must=(("no entry is beyond −1 or 1: it is a difference of two means of numbers from 0 to 1.",
           lambda yours, *case: (yours.abs() <= 1 + 1e-4).all()),
          ("v is 0 or 1 in both terms, so the batch's size times da is whole.",
           lambda yours, v, W, a, *rest: agree(*(part(len(v) * yours[W.numel():W.numel() + len(a)])
                                                 for part in (torch.clone, torch.round)), 1e-2))),
    on_the_way=lambda *case: {"P(h = 1 | data)": _walk(*case).p[0], "h of the first sweep": _walk(*case).h[0],
                              "v after k sweeps": _walk(*case).v[-1],
                              "P(h = 1 | v after k sweeps)": _walk(*case).p[-1]},
    misconceptions=(
        wrong("model minus data", lambda *case: -_cd()(*case),
              says="The sign is turned: model term minus data term. That is what an optimizer that descends "
                   "is given. Here it is the direction in which the likelihood rises.",
              hint="Two units that are on together in the data: should their weight grow?"),
        wrong("the chain never moves", _model_of(lambda walk: (walk.v[0], walk.p[0])),
              says="Both terms are computed at the data, so all differences are 0: the sweeps are lost.",
              hint="After the loop, which name holds the last v, and do you use it?"),
        wrong("h kept from the start", _H_KEPT, _some("W", _H_KEPT), _some("b", _H_KEPT),
              says="Your model term pairs the last v with P(h = 1 | data). Each term needs the hidden units "
                   "of its own v.",
              hint="Compute P(h = 1 | v) once more, after the last sweep."),
        wrong("h from before the last v", _H_OLD, _H_LAST_DRAWN, _some("W", _H_OLD), _some("b", _H_OLD),
              _some("W", _H_LAST_DRAWN), _some("b", _H_LAST_DRAWN),
              says="The hidden units of your model term are those that the last sweep began with. They made "
                   "the last v and do not answer to it.",
              hint="Compute P(h = 1 | v) once more, after the last sweep."),
        wrong("a sweep is missing", _model_of(lambda walk: (walk.v[-2], walk.p[-2])),
              says="Your statistics are those after k − 1 sweeps: of CD-1, nothing is left.",
              hint="For k = 1 the visible units must be drawn once."),
        wrong("drawn h in the data term", _H_DATA_DRAWN, _some("W", _H_DATA_DRAWN),
              says="In the data term you use the h that were drawn for the first sweep. They drive the "
                   "chain; in the statistics their probability has the same mean and no noise.",
              hint="Use the sampled h for going back to v only.", credit=0.25),
        wrong("drawn h in the model term", _H_MODEL_DRAWN, _some("W", _H_MODEL_DRAWN),
              _H_BOTH_DRAWN, _H_SWEEP_DRAWN, _some("W", _H_BOTH_DRAWN), _some("W", _H_SWEEP_DRAWN),
              says="Your statistics after the sweeps are taken with hidden units that were drawn. On average "
                   "that is right too, with more noise; asked for is P(h = 1 | v) of the last v.",
              hint="The chain ends at v. Then take the probability and stop.", credit=0.25),
        wrong("db from drawn h", *(_some("b", one) for one in
                                   (_H_DATA_DRAWN, _H_MODEL_DRAWN, _H_BOTH_DRAWN, _H_SWEEP_DRAWN)),
              says="Your dW has probabilities in it and your db the units that were drawn. Take the same h "
                   "for both.",
              hint="db_j is dW_ij with a pixel that is always on.", credit=0.25),
        wrong("a sum over the batch", _summed, _some("W", _summed), _some("ab", _summed),
              says="You added over the batch and did not divide. A learning rate would have to change with "
                   "the size of the batch.",
              hint="Divide by len(v), in all three parts.", credit=0.5),
        wrong("probabilities for the pixels", _cd(visible=lambda mean, _: mean),
              _model_of(lambda walk: (walk.mean_v[-1], walk.up(walk.mean_v[-1]))),
              _model_of(lambda walk: (walk.mean_v[-1], walk.p[-1])),
              says="You send P(v_i = 1 | h) on (or put it into the statistics) in the place of pixels that "
                   "are 0 or 1. Many codes do, for pixels that are grey; then the chain is no Gibbs sampler.",
              hint="Compare with `uniforms_v[t]`, in each sweep.", credit=0.25),
        wrong("probabilities sent back", _cd(hidden=lambda mean, _: mean),
              says="You compute the pixels from P(h = 1 | v) and not from hidden units that were drawn. All "
                   "hidden units then tell a little of everything, and the chain is no Gibbs sampler.",
              hint="Compare with `uniforms_h[t]` before you go back."),
        wrong("thresholded at ½",
              _cd(hidden=lambda mean, _: mean.round(), visible=lambda mean, _: mean.round()),
              _cd(hidden=lambda mean, _: mean.round()), _cd(visible=lambda mean, _: mean.round()),
              says="You rounded probabilities to 0 or 1. Then every sweep from the same picture does the "
                   "same: the chain runs into a valley and stays.",
              hint="Which of the arguments did you not use?"),
        wrong("uniforms compared the wrong way", _cd(hidden=lambda mean, u: _on(u, mean),
                                                    visible=lambda mean, u: _on(u, mean)),
              _cd(hidden=lambda mean, u: _on(u, mean)), _cd(visible=lambda mean, u: _on(u, mean)),
              says="Your units are on where the uniform number is above the probability: that happens with "
                   "probability 1 − p.",
              hint="If p is nearly 1, which uniform numbers should turn the unit on?"),
        wrong("the first sweep's uniforms in all", _cd(which=lambda t: 0),
              says="Every sweep uses `uniforms_h[0]` and `uniforms_v[0]`. The sweeps of a chain must be "
                   "independent.",
              hint="What is the index of your loop used for?"),
        wrong("each sweep starts at the data", _cd(again=True),
              says="Every sweep starts from the data again, so k sweeps are one.",
              hint="At the end of the loop's body, what becomes of the new v?"),
        wrong("W the wrong way round", _one_size(_cd(back=lambda W: W)),
              _one_size(_with(1, lambda W: W.T)),
              _cd(back=lambda W: W.reshape(W.shape[1], W.shape[0])),
              says="On the way up you sum over W's visible index, and on the way back over its hidden index: "
                   "there W must be transposed (a reshape shuffles its entries).",
              hint="h is (batch, hidden). Which product with W or its transpose is (batch, visible)?"),
        wrong("a forgotten", _with(2, torch.zeros_like),
              says="The visible biases do not enter your sweeps: P(v_i = 1 | h) has a_i in it.",
              hint="If no hidden unit is on, what is the probability of a pixel?"),
        wrong("b forgotten", _with(3, torch.zeros_like),
              says="The hidden biases do not enter your probabilities: P(h_j = 1 | v) has b_j in it.",
              hint="If no pixel is on, what is the probability of a hidden unit?"),
        wrong("product of means", _cd(data=lambda walk: _product_of_means(walk.v[0], walk.p[0]),
                                      model=lambda walk: _product_of_means(walk.v[-1], walk.p[-1])),
              says="Your dW multiplies the mean of v by the mean of h. What matters is how often the two are "
                   "on together in the same picture.",
              hint="Multiply first, for each picture, and average then: `v.T @ h / len(v)`."),
    ),
    teaching_notes="Half of the class will write h where P(h | v) is meant, or the reverse. Ask each time: "
                   "does this number drive the chain, or is it a statistic? What drives is drawn, what is "
                   "averaged is not.")
def cd_gradient(v: torch.Tensor, W: torch.Tensor, a: torch.Tensor,
                b: torch.Tensor, k: int, uniforms_h: torch.Tensor,
                uniforms_v: torch.Tensor
                ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The direction of CD-k for one batch, means over the batch.

    v: (batch, visible) of 0 and 1; W: (visible, hidden); a: (visible,);
    b: (hidden,); uniforms_h: (k, batch, hidden); uniforms_v: (k, batch, visible);
    returns dW, (visible, hidden), da, (visible,), and db, (hidden,).
    """
    data_h = torch.sigmoid(v @ W + b)
    sample, h = v, data_h
    for t in range(k):
        drawn = (uniforms_h[t] < h).to(v.dtype)
        sample = (uniforms_v[t] < torch.sigmoid(drawn @ W.T + a)).to(v.dtype)
        h = torch.sigmoid(sample @ W + b)
    dW = (v.T @ data_h - sample.T @ h) / len(v)
    return dW, (v - sample).mean(0), (data_h - h).mean(0)


# --- the weight of a path of annealed importance sampling ---------------------------------------------------

def _paths(generator: torch.Generator) -> Iterator[tuple]:
    """(states, betas, W, a, b, base): two temperatures first; the last one has very large inputs."""
    sizes = ((1, 1, 1), (2, 1, 2), (2, 2, 2), (3, 3, 2), (3, 2, 3), (4, 3, 3), (5, 4, 3))
    for steps, visible, hidden in sizes:
        inner = torch.randperm(9, generator=generator)[:steps - 1].sort().values + 1
        betas = torch.cat([torch.zeros(1), inner / 10, torch.ones(1)]).to(torch.float64)
        yield (_pictures(generator, steps + 1, visible), betas, _signed(generator, visible, hidden),
               _signed(generator, visible, most=15), _signed(generator, hidden, most=15),
               _signed(generator, visible, most=15))
    v, W, a, b = _loud()
    yield v, torch.tensor([0.0, 0.9, 1.0], dtype=torch.float64), W, a, b, torch.tensor([1.0, -0.5]).to(v)


def _log_weight_by_enumeration(states: Tensor, betas: Tensor, W: Tensor, a: Tensor, b: Tensor,
                               base: Tensor) -> float:
    """log f as a sum over all 2^H hidden states, at two temperatures for each state but the last."""
    def log_f(beta: float, state: list[float]) -> float:
        inputs = [beta * x for x in _inputs_by_loops(state, W.tolist(), b.tolist())]
        lean = math.fsum(x * ((1 - beta) * start + beta * end)
                         for x, start, end in zip(state, base.tolist(), a.tolist()))
        return lean + _log_sum_exp([gain for _, gain in _hidden_states(inputs)])

    beta, path = betas.tolist(), states.tolist()
    return math.fsum(log_f(after, path[t]) - log_f(before, path[t])
                     for t, (before, after) in enumerate(zip(beta, beta[1:])))


def _log_f(beta: Tensor, x: Tensor, start: Tensor, end: Tensor, soft: Callable = _softplus) -> Tensor:
    """log f_β of states whose hidden inputs are x, and whose visible parts are start (base) and end (a)."""
    return (1 - beta) * start + beta * end + soft(beta[:, None] * x).sum(-1)


def _gains(log_f: Callable, states: Callable = lambda path: path[:-1]) -> Callable:
    """The mutant that sums log f at β_{t+1} minus log f at β_t, with another law or at other states."""
    def mutant(path: Tensor, betas: Tensor, W: Tensor, a: Tensor, b: Tensor, base: Tensor) -> Tensor:
        v = states(path)
        after, before = (log_f(beta, v @ W + b, v @ base, v @ a) for beta in (betas[1:], betas[:-1]))
        return (after - before).sum()
    return mutant


def _ends(first: Callable, last: Callable) -> Callable:
    """The mutant of two states only: log f_1 of one minus log f_0 of the other."""
    def mutant(path: Tensor, betas: Tensor, W: Tensor, a: Tensor, b: Tensor, base: Tensor) -> Tensor:
        values = [_log_f(betas[place], v @ W + b, v @ base, v @ a)
                  for place, v in ((slice(-1, None), last(path)), (slice(0, 1), first(path)))]
        return (values[0] - values[1]).sum()
    return mutant


_right_log_weight = _gains(_log_f)


def _kept(choose: Callable[[Tensor], Tensor]) -> Callable:
    """The right sum over some of the steps only."""
    def mutant(path: Tensor, betas: Tensor, W: Tensor, a: Tensor, b: Tensor, base: Tensor) -> Tensor:
        v = path[:-1]
        after, before = (_log_f(beta, v @ W + b, v @ base, v @ a) for beta in (betas[1:], betas[:-1]))
        return choose(after - before).sum()
    return mutant


def _by_slope(path: Tensor, betas: Tensor, W: Tensor, a: Tensor, b: Tensor, base: Tensor) -> Tensor:
    """A step of β times the slope of log f there: thermodynamic integration."""
    v, x = path[:-1], path[:-1] @ W + b
    slope = v @ (a - base) + (x * (betas[:-1, None] * x).sigmoid()).sum(1)
    return (betas.diff() * slope).sum()


def _against(after: Callable[[Tensor], Tensor], before: Callable[[Tensor], Tensor]) -> Callable:
    """The sum of ratios whose temperatures are chosen otherwise."""
    def mutant(path: Tensor, betas: Tensor, W: Tensor, a: Tensor, b: Tensor, base: Tensor) -> Tensor:
        v = path[:-1]
        parts = v @ W + b, v @ base, v @ a
        return (_log_f(after(betas), *parts) - _log_f(before(betas), *parts)).sum()
    return mutant


def _log_z_0(W: Tensor, base: Tensor) -> Tensor:
    return W.shape[1] * math.log(2) + _softplus(base).sum()


@layer_exercise(
    title="The weight of one path", difficulty=3, minutes=20, points=4,
    equations=("eq-rbm-ais-path", "eq-rbm-ais-weight"),
    statement="""
        One chain of annealed importance sampling has walked through the temperatures
        $0 = \\beta_0 < \\beta_1 < \\dots < \\beta_m = 1$ and left its states $v_0, v_1, \\dots, v_m$ behind:
        $v_0$ was drawn at $\\beta_0$, and $v_t$ by a sweep at $\\beta_t$ from $v_{t-1}$. Compute the
        logarithm of its weight,

        $$\\log w = \\sum_{t=0}^{m-1} \\Big[ \\log f_{\\beta_{t+1}}(v_t) - \\log f_{\\beta_t}(v_t) \\Big]$$

        for the path of machines

        $$f_\\beta(v) = e^{(1 - \\beta)\\, a^{(0)\\top} v + \\beta\\, a^\\top v}
        \\prod_{j=1}^H \\Big(1 + e^{\\,\\beta (b_j + \\sum_i v_i W_{ij})}\\Big)$$

        with $a^{(0)}$ in the argument `base`. One of the cases has inputs of 800, so take the logarithm on
        paper first.""",
    hints=("Write log f_β(v) as a small function of beta and v first: a visible part, and a sum of log(1 + "
           "e^…) over the hidden units. Then add up differences of two of its values.",
           "Both values of a difference are taken at the same state, the one where the chain stands when the "
           "temperature changes: v_t for the change from β_t to β_{t+1}. The last state, v_m, is not used.",
           "`zip(betas[:-1], betas[1:], states)` gives β_t, β_{t+1} and v_t (and stops before v_m). log f is "
           "v @ ((1 - beta) * base + beta * a) + softplus(beta * (v @ W + b)).sum()."),
    truth=_log_weight_by_enumeration, cases=_paths,
    on_the_way=lambda states, betas, W, a, b, base: {
        "inputs b + v_t W, a row a state": states @ W + b,
        "log f at β_t of v_t": _log_f(betas[:-1], states[:-1] @ W + b, states[:-1] @ base, states[:-1] @ a),
        "log f at β_{t+1} of v_t": _log_f(betas[1:], states[:-1] @ W + b, states[:-1] @ base,
                                          states[:-1] @ a)},
    misconceptions=(
        wrong("weight at the new state", _gains(_log_f, lambda path: path[1:]),
              says="You take each ratio at v_{t+1}, which was drawn at the new temperature. The ratio "
                   "belongs to the state where the chain stands when the temperature changes, v_t.",
              hint="At the first change, which state is a draw of the law at β = 0?"),
        wrong("each law at its own state", _ends(lambda path: path[:1], lambda path: path[-1:]),
              says="You subtract log f at β_t of v_t from log f at β_{t+1} of v_{t+1}. Such a sum "
                   "telescopes: only the two ends of the path are left, and the way between does not count.",
              hint="In the bracket, how many different states are there?"),
        wrong("one jump from end to end", _ends(lambda path: path[:1], lambda path: path[:1]),
              _ends(lambda path: path[-1:], lambda path: path[-1:]),
              _ends(lambda path: path[-2:-1], lambda path: path[-2:-1]),
              says="This is f at β = 1 over f at β = 0 at one single state: importance sampling in one step, "
                   "without the path.",
              hint="How many terms has the sum for m = 3?"),
        wrong("the way back", lambda *case: -_right_log_weight(*case),
              says="The sign is turned: this is the weight of the way from β = 1 down to 0, whose mean is "
                   "Z_0/Z_1.",
              hint="Which of the two values is subtracted, the one at β_t or the one at β_{t+1}?"),
        wrong("base forgotten", _gains(lambda beta, x, start, end: beta * end + _softplus(
                  beta[:, None] * x).sum(1)),
              says="The base rates drop out of your weight: they are left out, or lack their factor 1 − β "
                   "(then they cancel in each ratio, which comes to the same).",
              hint="What is the law of the pixels at β = 0, and at β = 1?"),
        wrong("a forgotten", _gains(lambda beta, x, start, end: (1 - beta) * start + _softplus(
                  beta[:, None] * x).sum(1)),
              says="The visible biases a drop out of your weight: they are left out, or lack their factor β "
                   "(then they cancel in each ratio, which comes to the same).",
              hint="Let W and b be 0. Then log w is the sum of (β_{t+1} − β_t)(a − base)·v_t. What is "
                   "yours?"),
        wrong("base and a exchanged", _gains(lambda beta, x, start, end: _log_f(beta, x, end, start)),
              says="Your visible biases go from a to the base rates. The path begins at the machine without "
                   "edges, whose biases are the base rates.",
              hint="Put β = 0 into your log f: is it the law that v_0 was drawn from?"),
        wrong("b at full strength",
              lambda path, betas, W, a, b, base: _gains(
                  lambda beta, x, start, end: _log_f(torch.ones_like(beta), beta[:, None] * (x - b) + b, 0, 0)
                  + (1 - beta) * start + beta * end)(path, betas, W, a, b, base),
              says="β multiplies the weights only in your code, and b as it is. In this path β stands before "
                   "the whole input, b_j included.",
              hint="What are the hidden units given at β = 0?"),
        wrong("b forgotten", lambda path, betas, W, a, b, base: _right_log_weight(
                  path, betas, W, a, torch.zeros_like(b), base),
              says="The hidden biases are missing from the inputs.",
              hint="What is the input of a hidden unit if no pixel is on?"),
        wrong("β before the logarithm",
              _gains(lambda beta, x, start, end: _log_f(torch.ones_like(beta), x, 0, 0) * beta
                     + (1 - beta) * start + beta * end),
              _gains(lambda beta, x, start, end: (_log_f(torch.ones_like(beta), x, 0, 0) * beta
                     + (1 - beta) * (start + x.shape[1] * math.log(2)) + beta * end)),
              says="You multiply log(1 + e^x) by β. That is another path between the same two ends, and no "
                   "path of machines: its laws have no sweep that one could draw. Here β stands in the "
                   "exponent, before x.",
              hint="log(1 + e^(βx)) is not β log(1 + e^x). Try x = 0."),
        wrong("hidden units forgotten", _gains(lambda beta, x, start, end: (1 - beta) * start + beta * end),
              says="Only the visible biases are in your weight. The hidden units' factors 1 + e^… change "
                   "with β too, and all of the coupling is in them.",
              hint="How does W enter your answer?"),
        wrong("sign of the hidden part",
              _gains(lambda beta, x, start, end: (1 - beta) * start + beta * end
                     - _softplus(beta[:, None] * x).sum(1)),
              says="The hidden part has the wrong sign. f is e to the minus free energy, so both parts of "
                   "log f are added.",
              hint="Take the logarithm of the product once more: which sign has each factor's?"),
        wrong("always against the start", _against(lambda betas: betas[1:],
                                                   lambda betas: torch.zeros_like(betas[1:])),
              says="Each of your ratios compares with β = 0. A step's ratio compares with the temperature "
                   "before.",
              hint="Where the path has three steps, the first change of β is counted three times in your "
                   "sum."),
        wrong("always against the end", _against(lambda betas: torch.ones_like(betas[1:]),
                                                 lambda betas: betas[:-1]),
              says="Each of your ratios goes up to β = 1 at once. A step's ratio goes to the next "
                   "temperature.",
              hint="How far does the temperature change while the chain stands at v_t?"),
        wrong("a slope for a difference", _by_slope,
              says="You multiply the step of β by the slope of log f (thermodynamic integration). For many "
                   "small steps that is nearly the same; the weight is exact for steps of any size.",
              hint="Compute log f twice, and subtract.", credit=0.25),
        wrong("first step missing", _kept(lambda gains: gains[1:]),
              says="Your sum lacks t = 0, the change from β = 0 to the first temperature above.",
              hint="Where does your loop begin?"),
        wrong("last step missing", _kept(lambda gains: gains[:-1]),
              says="Your sum lacks t = m − 1, the change to β = 1.",
              hint="m + 1 temperatures have m changes."),
        wrong("mean over the steps", lambda path, *case: _right_log_weight(path, *case) / (len(path) - 1),
              lambda path, *case: _right_log_weight(path, *case) / len(path),
              says="You averaged over the steps. The ratios multiply, so their logarithms add.",
              hint="Should a path with twice the temperatures have half the logarithm?"),
        wrong("log Z_0 added", lambda path, betas, W, a, b, base: _right_log_weight(
                  path, betas, W, a, b, base) + _log_z_0(W, base),
              says="You added the logarithm of Z_0. That makes it one chain's estimate of log Z; the weight "
                   "alone estimates the ratio Z_1/Z_0.",
              hint="Leave the constant for the estimate.", credit=0.5),
        wrong("not the logarithm", lambda *case: _right_log_weight(*case).exp(),
              says="This is w itself. Its logarithm is asked for: w of a real machine is e to some hundreds.",
              hint="Return the sum, without its exponential.", credit=0.25),
        wrong("W the wrong way round", lambda path, betas, W, *rest: _right_log_weight(
                  path, betas, W.T, *rest) if len(W) == W.shape[1] else torch.empty(0, dtype=torch.float64),
              lambda path, betas, W, *rest: _right_log_weight(
                  path, betas, W.reshape(W.shape[1], W.shape[0]).T, *rest),
              says="W_ij belongs to visible unit i and hidden unit j. You sum over its hidden index (or have "
                   "reshaped it).",
              hint="A state is (visible,) and W (visible, hidden): `v @ W`."),
        wrong("log(1 + e^x) that overflows",
              _gains(lambda beta, x, start, end: _log_f(beta, x, start, end, _careless)),
              says="Right on ordinary inputs. At 800 your e^x is infinite, and infinite minus infinite is "
                   "NaN.",
              hint="`torch.nn.functional.softplus`, or `torch.logaddexp` with 0.", credit=0.5),
    ),
    teaching_notes="Draw the staircase: β goes up along one axis, the state changes along the other, never "
                   "both at once. The weight is what is gained on the risers. Whoever takes the new state "
                   "has turned the stairs around.")
def ais_log_weight(states: torch.Tensor, betas: torch.Tensor, W: torch.Tensor,
                   a: torch.Tensor, b: torch.Tensor,
                   base: torch.Tensor) -> torch.Tensor:
    """The log weight of one path of annealed importance sampling, nats.

    states: (m + 1, visible) of 0 and 1, a state for each temperature;
    betas: (m + 1,), from 0 up to 1; W: (visible, hidden); a, base: (visible,);
    b: (hidden,); returns one number.
    """
    def log_f(beta, v):
        hidden = torch.nn.functional.softplus(beta * (v @ W + b)).sum()
        return v @ ((1 - beta) * base + beta * a) + hidden

    return sum(log_f(after, v) - log_f(before, v)
               for before, after, v in zip(betas[:-1], betas[1:], states))


# --- the estimate and its error -----------------------------------------------------------------------------

def _log_weights(generator: torch.Generator) -> Iterator[tuple[Tensor]]:
    """Small log weights in tenths; then around 900 and −900, where e^x is infinite and 0."""
    for chains in (2, 3, 4, 6, 9):
        yield (_signed(generator, chains, most=20),)
    for around in (900, -900):
        yield (around + _signed(generator, 5, most=20),)


def _estimate_by_pairs(log_weights: Tensor) -> Tensor:
    """The variance from all pairs: the sum of (w − w')² over pairs, over C(C − 1)."""
    logs = log_weights.tolist()
    count, log_mean = len(logs), _log_sum_exp(logs) - math.log(len(logs))
    relative = [math.exp(value - log_mean) for value in logs]
    pairs = math.fsum((one - other)**2 for one, other in itertools.combinations(relative, 2))
    return torch.tensor([log_mean, math.sqrt(pairs / (count * (count - 1)) / count)], dtype=torch.float64)


def _log_mean(logs: Tensor) -> Tensor:
    return logs.logsumexp(0) - math.log(len(logs))


def _relative(logs: Tensor) -> Tensor:
    """Weights of mean 1."""
    return (logs - _log_mean(logs)).exp()


def _error(logs: Tensor) -> Tensor:
    return _relative(logs).std() / math.sqrt(len(logs))


def _pair(value: Callable = _log_mean, error: Callable = _error) -> Callable:
    return lambda logs: torch.stack([torch.as_tensor(value(logs)), torch.as_tensor(error(logs))])


def _top(logs: Tensor) -> Tensor:
    return (logs - logs.max()).exp()


def _plain_error(logs: Tensor) -> Tensor:
    return logs.exp().std() / (logs.exp().mean() * math.sqrt(len(logs)))


def _plain_log_mean(logs: Tensor) -> Tensor:
    return logs.exp().mean().log()


@layer_exercise(
    PartsExercise, title="An estimate and its error", difficulty=2, minutes=15, points=3,
    equations=("eq-rbm-ais", "eq-rbm-ais-bias", "eq-rbm-ais-error"),
    parts=("log_ratio", "error"), shapes=lambda log_weights: ((), ()),
    statement="""
        $C$ chains of annealed importance sampling came back with log weights $\\log w_1, \\dots, \\log w_C$.
        Return the estimate of $\\log (Z_1 / Z_0)$ and its standard error, in nats,

        $$\\log \\hat w, \\quad \\hat w = \\frac1C \\sum_{c=1}^C w_c, \\qquad\\text{and}\\qquad
        \\frac{s_w}{\\hat w \\sqrt C}, \\quad s_w^2 = \\frac{1}{C - 1} \\sum_{c=1}^C (w_c - \\hat w)^2$$

        Some of the cases have log weights around 900 and around $-900$: $e^{900}$ is infinite in floating
        point and $e^{-900}$ is 0, and the two answers are ordinary numbers all the same.""",
    hints=("If all weights are multiplied by the same number, what happens to the error? And to the "
           "logarithm of their mean?",
           "Subtract the largest log weight before you exponentiate: then the largest weight is 1. Add it "
           "back to the logarithm of the mean. The error needs no correction: a ratio does not see the "
           "factor.",
           "`w = (log_weights - log_weights.max()).exp()`; the estimate is log_weights.max() + "
           "w.mean().log(), the error w.std() / (w.mean() * len(w)**0.5)."),
    truth=_estimate_by_pairs, cases=_log_weights,
    must=(("the log of the mean lies between the mean of the logs and their maximum.",
           lambda yours, logs: logs.mean() - 1e-2 <= yours[0] <= logs.max() + 1e-2),
          ("an error is never negative, and this one is never above 1: one chain that carries all.",
           lambda yours, logs: 0 <= yours[1] <= 1 + 1e-6)),
    on_the_way=lambda logs: {"weights over the largest": _top(logs), "their mean": _top(logs).mean(),
                             "their standard deviation": _top(logs).std()},
    misconceptions=(
        wrong("mean of the "
              "logs", _pair(torch.mean), _pair(torch.mean, lambda logs: logs.std() / len(logs)**0.5),
              _pair(torch.mean, _plain_error),
              says="You averaged the logarithms. It is the mean of the weights that is right on average; the "
                   "mean of their logarithms lies below its logarithm (Jensen), and with it log Z.",
              hint="Two weights, 1 and e^10: where is the log of their mean, near 5 or near 10?"),
        wrong("error of the logs", _pair(error=lambda logs: logs.std() / len(logs)**0.5),
              _pair(_plain_log_mean, lambda logs: logs.std() / len(logs)**0.5),
              says="Your error is that of a mean of log weights. The estimate is the log of a mean of "
                   "weights; a chain with a tiny weight hardly moves it, however far off its logarithm is.",
              hint="Which quantity did you average? Its relative error is wanted."),
        wrong("sd without the root of C", _pair(error=lambda logs: _relative(logs).std()),
              _pair(_plain_log_mean, lambda logs: logs.exp().std() / logs.exp().mean()),
              says="This is the spread of one weight. The mean of C chains is surer by the square root of C.",
              hint="What should four times as many chains do to the error?"),
        wrong("divided by C for its root", _pair(error=lambda logs: _relative(logs).std() / len(logs)),
              says="You divided by C. The error of a mean falls with the square root of C only.",
              hint="Variances add: what is the variance of a mean of C weights?"),
        wrong("error of the mean, not of its log",
              _pair(error=lambda logs: logs.exp().std() / len(logs)**0.5),
              _pair(error=lambda logs: _top(logs).std() / len(logs)**0.5),
              _pair(_plain_log_mean, lambda logs: logs.exp().std() / len(logs)**0.5),
              says="This is the standard error of the mean weight. That of its logarithm is the relative "
                   "one: the slope of the logarithm is one over the mean.",
              hint="Divide by the mean weight (with the same factor taken out of both)."),
        wrong("variance for sd", _pair(error=lambda logs: _relative(logs).var() / len(logs)),
              _pair(error=lambda logs: _relative(logs).var() / len(logs)**0.5),
              says="You have a variance where a standard deviation must stand.",
              hint="Is a root missing?"),
        wrong("C for C − 1", _pair(error=lambda logs: _relative(logs).std(unbiased=False) / len(logs)**0.5),
              says="Your standard deviation divides by C. The mean is taken from the same weights, so divide "
                   "by C − 1; with a hundred chains nobody sees the difference, with two it is a factor of "
                   "1.4.",
              hint="`torch.std` does it by default, numpy's does not.", credit=0.5),
        wrong("from the effective number of chains",
              _pair(error=lambda logs: _relative(logs).square().sum().sqrt() / _relative(logs).sum()),
              says="This is 1 over the root of the effective number of chains. It is not 0 even if all "
                   "weights are equal, when the estimate is exact.",
              hint="Which spread do equal weights have?"),
        wrong("sum for mean", _pair(lambda logs: logs.logsumexp(0)),
              _pair(lambda logs: logs.exp().sum().log(), _plain_error),
              says="You took the log of the sum of the weights: too large by log C.",
              hint="Equal weights w: what should the estimate be?"),
        wrong("the largest weight only", _pair(torch.max),
              says="You return the largest log weight. It dominates the mean, and C − 1 other chains are in "
                   "it too, and the division by C.",
              hint="Equal weights apart, is the mean as large as the largest?"),
        wrong("the shift is not undone", _pair(lambda logs: _top(logs).mean().log()),
              says="You took the largest log weight out before exponentiating (well done) and did not add it "
                   "back to the logarithm.",
              hint="log of the mean of w = m + log of the mean of e^(log w − m)."),
        wrong("the way back", _pair(lambda logs: -_log_mean(-logs)), _pair(lambda logs: -_log_mean(logs)),
              says="You averaged 1/w (or turned the sign): that is for chains that come down from β = 1, "
                   "whose weights estimate Z_0/Z_1. These went up.",
              hint="What is the mean of w for chains that go up?"),
        wrong("not the logarithm", _pair(lambda logs: logs.exp().mean()),
              _pair(lambda logs: logs.exp().mean(), _plain_error),
              says="This is the mean weight; its logarithm is asked for.",
              hint="At log weights around 900, can the mean weight be written down?"),
        wrong("the two exchanged", lambda logs: _pair()(logs).flip(0),
              says="The numbers are right and come in the other order.",
              hint="First the estimate, then its error.", credit=0.5),
        wrong("e^x that overflows", _pair(_plain_log_mean, _plain_error), _pair(error=_plain_error),
              _pair(_plain_log_mean),
              says="Right for small log weights. e^900 is infinite in floating point and e^(−900) is 0, so "
                   "the logarithm of the mean is infinite, and the error infinity over infinity or 0/0.",
              hint="Subtract the largest log weight first, or use `torch.logsumexp`.", credit=0.5),
    ),
    teaching_notes="Give the class two weights, 1 and e^10, before any code: mean of logs 5, log of mean "
                   "9.3, largest 10. Then ask what a third chain with log weight 20 would do to the error "
                   "bar.")
def ais_estimate(log_weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """log of the mean weight of the chains, and its standard error, nats.

    log_weights: (C,), of any size, two or more; returns two numbers.
    """
    top = log_weights.max()
    w = (log_weights - top).exp()
    return top + w.mean().log(), w.std() / (w.mean() * len(w)**0.5)


EXERCISES = (conditional_proof, hidden_given, free_energy_proof, free_energy, gradient_proof, cd_gradient,
             ais_proof, ais_log_weight, ais_estimate)
_help = Help(EXERCISES)
hint, solution = _help.hint, _help.solution
