"""The exercises of chapter 6, masked autoencoders. `nemlib.exercises` tells how to add one.

No truth below comes from the model's own code: paths are counted unit by unit, degrees are enumerated, the
probability of a pixel is a share of two, and pictures are drawn bit by bit.
"""

import ast
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, logsigmoid, softplus

from nemlib.exercises.answers import Refusal, as_tensor, quietly, show, show_case
from nemlib.exercises.core import FunctionExercise, Help, agree, wrong
from nemlib.exercises.derivation import Instance, LongDerivation, Step
from nemlib.exercises.expressions import expression, names_in
from nemlib.exercises.forms import normal_form
from nemlib.exercises.layers import GradualExercise, ShapedExercise, Slip
from nemlib.exercises.verdict import Verdict

__all__ = ["EXERCISES", "hint", "solution", "normalised_proof", "paths_proof", "masks_from_degrees",
           "log_likelihood", "lost_proof", "mixture_proof", "ensemble_log_prob", "ancestral_sample"]

LOG_TWO = math.log(2)


def _shares(generator: torch.Generator, count: int) -> tuple[float, ...]:
    """A law of tenths that add to 1, none of them 0."""
    cuts = (torch.randperm(9, generator=generator)[:count - 1].sort().values + 1).tolist()
    return tuple((end - start) / 10 for start, end in zip((0, *cuts), (*cuts, 10)))


def _integers(generator: torch.Generator, low: int, high: int, count: int) -> tuple[int, ...]:
    """Random whole numbers from low to high."""
    return tuple(torch.randint(low, high + 1, (count,), generator=generator).tolist())


def _ordering(generator: torch.Generator, dimensions: int) -> list[int]:
    """A random order of the pixels in which no two have just changed places: it is not its own inverse."""
    while True:
        order = torch.randperm(dimensions, generator=generator).tolist()
        if dimensions < 3 or any(order[order[t]] != t for t in range(dimensions)):
            return order


def _own(tree: ast.expr, *given: str) -> bool:
    """Whether a line is none of these expressions rearranged."""
    return normal_form(tree) not in {normal_form(expression(text)) for text in given}


# --- the sum over all pictures (derivation) -----------------------------------------------------------------

def _law_instances(generator: torch.Generator) -> list[Instance]:
    """Three pixels of two or three values; the conditionals are tables of tenths."""
    return [_law_instance(count, generator) for count in (2, 3, 2, 3, 2)]


def _law_instance(count: int, generator: torch.Generator) -> Instance:
    first = _shares(generator, count)
    second = tuple(_shares(generator, count) for _ in range(count))
    third = tuple(tuple(_shares(generator, count) for _ in range(count)) for _ in range(count))
    symbols = {"p1": lambda u: first[u], "p2": lambda v, u: second[u][v],
               "p3": lambda w, u, v: third[u][v][w], "values": tuple(range(count))}
    return Instance(f"p1 = {_shown(first)}, p2 = {_shown(second)}, p3 = {_shown(third)}", symbols)


def _shown(table: object) -> str:
    if isinstance(table, tuple):
        return "(" + ", ".join(map(_shown, table)) + ")"
    return f"{table:g}"


def _pictures(term: str, names: str = "uvw", rest: str = "") -> str:
    """A sum over the values of some of the three pixels."""
    return f"sum({term}" + "".join(f" for {name} in values" for name in names) + f"{rest})"


_PRODUCT = "p1(u)*p2(v, u)*p3(w, u, v)"
_LAST = f"{_pictures('p3(w, u, v)', 'w')}"


def _sums_the_last_alone(tree: ast.expr) -> bool:
    """A sum over one pixel, with nothing under it but p3 of that pixel and two that stand outside."""
    for node in ast.walk(tree):
        if isinstance(node, ast.GeneratorExp) and len(node.generators) == 1:
            target, inner = node.generators[0].target, node.elt
            if (isinstance(target, ast.Name) and isinstance(inner, ast.Call) and inner.func.id == "p3"
                    and [target.id in names_in(part) for part in inner.args] == [True, False, False]):
                return True
    return False


def _without_the_last(tree: ast.expr) -> bool:
    """A line in which the last pixel is gone and the one before is not."""
    return "p2" in names_in(tree) and "p3" not in names_in(tree)


normalised_proof = LongDerivation(
    name="normalised_proof", title="A product of conditionals is a law", chapter=6, difficulty=1, minutes=12,
    points=3, equations=("eq-made-chain-order", "eq-made-normalised"),
    statement="""
        Three pixels, named in the order in which they come: $u$ first, then $v$, then $w$. A network gives
        $p_1(u)$, and for every $u$ a law $p_2(v \\mid u)$, and for every $u$ and $v$ a law $p_3(w \\mid u,
        v)$. Each of these adds to 1 over the pixel in front of its bar; nothing else is known about them.
        Show that their product is a law of pictures,

        $$\\sum_u \\sum_v \\sum_w p_1(u)\\, p_2(v \\mid u)\\, p_3(w \\mid u, v) = 1$$

        Here lies the reason for all masks: take the sums in the right order, and one factor after the other
        goes. (No other order works: under $p_3$, neither $u$ nor $v$ is summed.) Fill in the lines marked
        `...`, or write a chain of your own.""",
    symbols=(("p1(u)", "p_1(u)", "law of the pixel that comes first"),
             ("p2(v, u)", "p_2(v \\mid u)", "law of the second, given the first"),
             ("p3(w, u, v)", "p_3(w \\mid u, v)", "law of the last, given both"),
             ("values", "0, …, k-1", "all values of a pixel")),
    chain=f"""
        sum({_PRODUCT}
            for u in values for v in values for w in values)
        = sum(p1(u)*p2(v, u)*{_LAST}
              for u in values for v in values)      # no w in p1 and p2
        = {_pictures("p1(u)*p2(v, u)", "uv")}      # p3 adds to 1
        = {_pictures("p1(u)*" + _pictures("p2(v, u)", "v"), "u")}      # no v in p1
        = {_pictures("p1(u)", "u")}      # p2 adds to 1
        = 1
        """,
    blanks=(2, 3, 4, 5), least_lines=2, instances=_law_instances,
    nearly="One more line: after the last pixel, the one before it.",
    landmarks=(Step("Show which sum is taken first: a line in which the sum over the last pixel stands "
                    "around its own conditional alone, with all other factors in front of it.",
                    test=_sums_the_last_alone),
               Step("Show the picture with its last pixel summed out: a line without p3, in which p2 still "
                    "stands.", test=_without_the_last)),
    hints=("Which of the three factors changes if w changes, and u and v stay?",
           "p1(u) and p2(v, u) hold no w: they may stand in front of the sum over w. What is left under that "
           "sum, and what does it add to?",
           "Write `sum(p1(u)*p2(v, u)*sum(p3(w, u, v) for w in values) for u in values for v in values)`. "
           "The inner sum is 1; do the same with v, then with u."),
    misconceptions=(
        wrong("conditions counted and not weighed", "len(values)", "len(values)**2", "len(values)**3",
              _pictures("p2(v, u)*p3(w, u, v)"), _pictures("p1(u)*p2(v, u)"), _pictures("p3(w, u, v)"),
              f"{_pictures('p1(u)', 'u')}*{_pictures('p2(v, u)', 'uv')}*{_pictures('p3(w, u, v)')}",
              says="You get a power of the number of values, k. A factor is gone and its sum has stayed (or "
                   "a conditional was added up over its condition too, which gives 1 for each condition).",
              hint="p2 adds to 1 for each u. If u = 0 and u = 1 are both counted, what do you get, and what "
                   "weighs them?"),
        wrong("a mean for the sum", "1/len(values)**3", "1/len(values)", "1/len(values)**2",
              f"{_pictures(_PRODUCT)}/len(values)**3",
              says="You divided by the number of values or of pictures: a mean. Probabilities are added.",
              hint="What is p1(0) + p1(1)? And half of it?"),
        wrong("conditionals added", _pictures("(p1(u) + p2(v, u) + p3(w, u, v))"), "3*len(values)**2", "3",
              says="You added the three conditionals. The chain rule multiplies them.",
              hint="Two coins: the probability of head and head?"),
        wrong("a logarithm came in", "0", _pictures("(log(p1(u)) + log(p2(v, u)) + log(p3(w, u, v)))"),
              _pictures("p1(u)*p2(v, u)*log(p3(w, u, v))"),
              says="Logarithms of probabilities are summed over the pictures (or the logarithm of 1 was "
                   "taken). It is the probabilities that add to 1.",
              hint="Is log p(x) negative for each picture? Can the sum be 1 then?"),
        wrong("value and condition exchanged", _pictures("p1(u)*p2(u, v)", "uv"),
              _pictures("p1(u)*p2(u, v)*p3(w, u, v)"), _pictures("p1(u)*p2(v, u)*p3(u, v, w)"),
              _pictures("p1(u)*p2(v, u)*p3(v, u, w)"), _pictures("p1(u)*" + _pictures("p2(u, v)", "v"), "u"),
              says="A conditional has its value and its condition exchanged: the first argument stands in "
                   "front of the bar. Over its condition it adds to nothing in particular.",
              hint="p2(v, u) is p(v given u). Over which of the two does it add to 1?"),
        wrong("one index for all pixels", _pictures("p1(u)*p2(u, u)*p3(u, u, u)", "u"),
              _pictures("p1(u)*p2(u, u)", "u"),
              says="All pixels have the same value in your sum: only the pictures of one colour are counted.",
              hint="How many pictures are there, and how many terms has your sum?"),
        wrong("only pixels that are on", _pictures("p1(u)*p2(v, u)*p3(1, u, v)", "uv"), "p1(1)",
              _pictures("p1(u)*p2(1, u)", "u"), "p1(1)*p2(1, 1)*p3(1, 1, 1)",
              says="One value only of a pixel is counted, that of 1: the probability that it is on. A pixel "
                   "that is off has a probability too.",
              hint="What does p3(0, u, v) + p3(1, u, v) give for two values?"),
        wrong("the largest for the sum", _pictures("max(p1(u)*p2(v, u)*p3(w, u, v) for w in values)", "uv"),
              _pictures("p1(u)*p2(v, u)*max(p3(w, u, v) for w in values)", "uv"),
              "max(p1(u) for u in values)",
              says="The most probable value was taken in the place of the sum over all.",
              hint="Does the improbable value not count at all?"),
        wrong("pictures left out", _pictures(_PRODUCT, rest=" if u != v"),
              _pictures("p1(u)*p2(v, u)", "uv", " if u != v"), _pictures("p1(u)*p2(v, u)", "uv", " if v >= "
                                                                                                 "u"),
              _pictures(_PRODUCT, rest=" if w != v"),
              says="Some pictures are left out by an `if`. Pixels may have equal values, in any order.",
              hint="Is the picture of ones a picture?"),
        wrong("one picture for all", "p1(0)*p2(0, 0)*p3(0, 0, 0)", "p1(0)*p2(1, 0)*p3(1, 0, 1)",
              says="This is the probability of one picture. All of them are added.",
              hint="Which sums stand in the given line?"),
        wrong("free numbers counted", "len(values)**3 - 1", "2**3 - 1", "2**3",
              says="You counted how many numbers such a law needs. Here their sum is asked for.",
              hint="Is a sum of probabilities ever above 1?"),
        wrong("a factor counted twice", _pictures("p1(u)*p2(v, u)*p3(w, u, v)**2"),
              _pictures("p1(u)**2*p2(v, u)*p3(w, u, v)"), _pictures("p1(u)*p2(v, u)**2", "uv"),
              _pictures("p1(u)**2", "u"),
              says="A conditional stands in your line twice (squared).",
              hint="How often does each pixel appear in the chain rule?"),
    ),
    teaching_notes="Ask where the proof would break if the network let the first pixel see the last: p1 "
                   "would hold a w, and could not leave the sum. Then ask what changes for another ordering: "
                   "the names only. The two-line version for D pixels is an induction; let the class state "
                   "it.")


# --- paths through a hidden layer (derivation) --------------------------------------------------------------

PATH_SIZES = ((3, 3, 1), (4, 5, 2), (4, 6, -1), (5, 7, 3), (4, 5, 0), (5, 6, 1))


def _path_instances(generator: torch.Generator) -> list[Instance]:
    """A hidden layer, an output d and an input i: allowed pairs, one of them one way round, and d itself.

    Drawn anew until positions could not be mistaken for the pixels' own numbers.
    """
    while True:
        instances = [_path_instance(*size, generator) for size in PATH_SIZES]
        by_number = [[max(s["below"](s["d"] + k) - s["below"](s["i"] + k), 0) for s, (_, _, distance) in
                      zip((one.symbols for one in instances), PATH_SIZES) if distance > 0] for k in (0, 1)]
        paths = [one.symbols["below"](one.symbols["o"](one.symbols["d"]))
                 - one.symbols["below"](one.symbols["o"](one.symbols["i"])) for one in instances]
        if all(any(row) and row != [n for n in paths if n > 0] for row in by_number):
            return instances


def _path_instance(dimensions: int, width: int, distance: int, generator: torch.Generator) -> Instance:
    """distance: how far the output comes after the input in the ordering. Each degree has a unit at least."""
    order = _ordering(generator, dimensions)
    o = {d: place for place, d in enumerate(order, 1)}
    more = _integers(generator, 1, dimensions - 1, width - dimensions + 1)
    degrees = [*range(1, dimensions), *more]
    m = [degrees[j] for j in torch.randperm(width, generator=generator).tolist()]
    start = _integers(generator, max(1, 1 - distance), dimensions - max(0, distance), 1)[0]
    i, d = order[start - 1], order[start + distance - 1]
    symbols = {"o": o.__getitem__, "m": m.__getitem__, "d": d, "i": i, "units": tuple(range(width)),
               "W": lambda j, pixel: int(m[j] >= o[pixel]), "V": lambda pixel, j: int(o[pixel] > m[j]),
               "below": lambda t: sum(degree < t for degree in m)}
    positions = tuple(o[pixel] for pixel in range(dimensions))
    return Instance(f"o = {positions}, m = {tuple(m)}, d = {d}, i = {i}", symbols)


def _over_units(term: str) -> str:
    return f"sum({term} for j in units)"


_PATHS = _over_units("V(d, j)*W(j, i)")
_PATHS_RESULT = "max(below(o(d)) - below(o(i)), 0)"


def _compares_degrees(tree: ast.expr) -> bool:
    """A line in which the masks have been replaced by the comparisons that define them, of both pixels."""
    compared = set().union(*(names_in(node) for node in ast.walk(tree) if isinstance(node, ast.Compare)))
    return {"m", "o"} <= compared and {"d", "i"} <= names_in(tree) and not names_in(tree) & {"V", "W"}


paths_proof = LongDerivation(
    name="paths_proof", title="How many paths, and the "
                              "triangle", chapter=6, difficulty=2, minutes=18, points=4,
    equations=("eq-made-hidden-mask", "eq-made-output-mask", "eq-made-paths", "eq-made-triangular"),
    statement="""
        One hidden layer. Unit $j$ has the degree $m(j)$; pixel $d$ comes at the position $o(d)$, the first
        at 1. The masks are $M^W_{ji} = 1$ where $m(j) \\ge o(i)$, and $M^V_{dj} = 1$ where $o(d) > m(j)$.
        With

        $$F(t) = \\#\\{j : m(j) < t\\},$$

        the number of units whose degree is below $t$, show that input $i$ reaches output $d$ by

        $$N(d, i) = \\sum_j M^V_{dj}\\, M^W_{ji} = \\max\\big(F(o(d)) - F(o(i)),\\; 0\\big)$$

        paths. The triangle follows at once: $F$ never falls, so $N(d, i) = 0$ wherever $o(i) \\ge o(d)$. So
        does what is lost: an allowed pair has no path where no degree lies in $o(i), …, o(d) - 1$. A
        comparison counts as 1 if it holds and as 0 if not: `(m(j) < 3)*(m(j) >= 2)`. Fill in the lines
        marked `...`, or write a chain of your own.""",
    symbols=(("o(d), o(i)", "o(d),\\; o(i)", "positions in the ordering, from 1; `d` and `i` are pixels"),
             ("m(j)", "m(j)", "degree of a hidden unit"),
             ("W(j, i)", "M^W_{ji}", "1 where `m(j) >= o(i)`, else 0"),
             ("V(d, j)", "M^V_{dj}", "1 where `o(d) > m(j)`, else 0"),
             ("below(t)", "F(t)", "number of units with `m(j) < t`"),
             ("units", "j = 1, …, H", "the hidden units (from 0 in code)")),
    chain=f"""
        {_PATHS}
        = {_over_units("(o(d) > m(j))*(m(j) >= o(i))")}      # the masks
        = {_over_units("(m(j) < o(d))*(1 - (m(j) < o(i)))")}      # not below
        = below(o(d)) - {_over_units("(m(j) < o(d))*(m(j) < o(i))")}      # F(o(d))
        = below(o(d)) - below(min(o(d), o(i)))      # below both: below the smaller
        = {_PATHS_RESULT}
        """,
    blanks=(2, 3, 4, 5), least_lines=2, instances=_path_instances,
    forms=("max(0, below(o(d)) - below(o(i)))", "max(below(o(d)), below(o(i))) - below(o(i))",
           "max(below(o(i)), below(o(d))) - below(o(i))", "below(o(d)) - below(o(i)) if o(i) < o(d) else 0",
           "below(o(d)) - below(o(i)) if o(d) > o(i) else 0", "0 if o(i) >= o(d) else below(o(d)) - "
                                                              "below(o(i))",
           "0 if o(d) <= o(i) else below(o(d)) - below(o(i))"),
    nearly="One more line: write the masks out, and turn `>=` round before you count.",
    landmarks=(Step("Show where the degrees come in: a line without V and W, in which they are compared with "
                    "the positions.", test=_compares_degrees),),
    hints=("Replace each mask by the comparison that defines it. For a unit to count, both must hold: a "
           "product.",
           "m(j) ≥ o(i) is the opposite of m(j) < o(i), so it is `1 - (m(j) < o(i))`. Multiply out: the "
           "first term is F(o(d)).",
           "A unit that is below o(d) and below o(i) is below the smaller of the two: "
           "`below(min(o(d), o(i)))`. If o(i) is the smaller, that is F(o(i)); if not, nothing is left."),
    misconceptions=(
        wrong("an output that sees itself", _over_units("(o(d) >= m(j))*(m(j) >= o(i))"),
              "max(below(o(d) + 1) - below(o(i)), 0)",
              says="In your line the output takes units whose degree equals its own position. Such a unit "
                   "has seen the pixel itself, and N(d, d) is not 0.",
              hint="A unit of degree m has seen the first m pixels. Which of them is the pixel at position "
                   "m?"),
        wrong("a unit that misses its last pixel", _over_units("(o(d) > m(j))*(m(j) > o(i))"),
              _over_units("(m(j) < o(d))*(1 - (m(j) <= o(i)))"), "max(below(o(d)) - below(o(i) + 1), 0)",
              says="Your hidden mask is strict. A unit of degree m sees the first m pixels, the one at "
                   "position m among them.",
              hint="Does a unit of degree 1 see anything?"),
        wrong("equality at the wrong end", _over_units("(o(d) >= m(j))*(m(j) > o(i))"),
              "max(below(o(d) + 1) - below(o(i) + 1), 0)",
              says="Both comparisons have changed places with their strict forms. The triangle would "
                   "survive; but degrees from 1 to D − 1 then leave the wrong units idle, and these are "
                   "other numbers.",
              hint="Which of the two has the equals sign, M^W or M^V?"),
        wrong("input and output exchanged", _over_units("(o(i) > m(j))*(m(j) >= o(d))"),
              "max(below(o(i)) - below(o(d)), 0)", _over_units("V(i, j)*W(j, d)"),
              says="d and i are exchanged: this counts the paths from d to i.",
              hint="In N(d, i), which comes first in the ordering where there are paths?"),
        wrong("a negative number of paths", "below(o(d)) - below(o(i))",
              says="Right where i comes before d. Where it comes after, your number of paths is negative: "
                   "the units below both are those below the smaller position.",
              hint="Take o(d) = 1: nothing is below it. What do you subtract?"),
        wrong("paths both ways", "abs(below(o(d)) - below(o(i)))",
              says="The absolute value counts the paths of the pair in whichever direction they run. Above "
                   "the diagonal there are none.",
              hint="If i comes after d, may the output of d see it?"),
        wrong("numbers of pixels for positions", _over_units("(d > m(j))*(m(j) >= i)"),
              _over_units("(d + 1 > m(j))*(m(j) >= i + 1)"), "max(below(d) - below(i), 0)",
              "max(below(d + 1) - below(i + 1), 0)",
              says="You compare degrees with the pixels' numbers, not with their positions in the ordering.",
              hint="Where does `o` stand in the masks' definitions?"),
        wrong("or for and", _over_units("((o(d) > m(j)) + (m(j) >= o(i)))"),
              "below(o(d)) + len(units) - below(o(i))",
              says="The two comparisons are added: a unit with one of both connections counts. A path needs "
                   "both.",
              hint="A unit that sees i and is not seen by d: how many paths go through it?"),
        wrong("one half of the path", "below(o(d))", "len(units) - below(o(i))", _over_units("V(d, j)"),
              _over_units("W(j, i)"),
              says="Only one of the two masks is in your line: the connections of one pixel.",
              hint="Where is the other end of the path?"),
        wrong("a product of sums", f"{_over_units('V(d, j)')}*{_over_units('W(j, i)')}",
              "below(o(d))*(len(units) - below(o(i)))",
              says="You multiplied two sums. A path goes in and out through the same unit: the product "
                   "stands under one sum.",
              hint="Two units, one seen by d and the other seeing i: is that a path?"),
        wrong("whether and not how many", "max(V(d, j)*W(j, i) for j in units)", f"min({_PATHS}, 1)",
              "1 if o(i) < o(d) else 0",
              says="This is 1 where there is a path, else 0. Their number is asked for.",
              hint="Two units of the same degree between i and d: how many paths?"),
        wrong("degrees counted, not units", "max(o(d) - o(i), 0)",
              says="You counted the degrees that fit, o(i), …, o(d) − 1. Right if each degree belonged to "
                   "one unit; here some have several.",
              hint="Which numbers does F add up?"),
        wrong("the complement forgotten", _over_units("(m(j) < o(d))*(m(j) < o(i))"), "below(min(o(d), "
                                                                                      "o(i)))",
              says="m(j) ≥ o(i) was turned into m(j) < o(i) without its `1 -`: you count the units that "
                   "do not see i.",
              hint="What is 1 minus a comparison?"),
        wrong("below the larger", "below(o(d)) - below(max(o(d), o(i)))",
              says="A unit below both positions is below the smaller of the two. You took the larger.",
              hint="3 and 7: what is below both?"),
        wrong("a share of the units", f"{_PATHS}/len(units)", f"{_PATHS_RESULT}/len(units)",
              says="You divided by the number of units. Paths are counted.",
              hint="Is there a 1/H in the product of the masks?"),
    ),
    teaching_notes="The picture to draw is a line with the positions on it and the degrees as ticks: N(d, i) "
                   "is the number of ticks from o(i) up to, not including, o(d). Ask which degrees never "
                   "help: D and 0. Then ask for the rank of the whole matrix.")


# --- pairs that uniform degrees lose (derivation) -----------------------------------------------------------

def _lost_instances(generator: torch.Generator) -> list[Instance]:
    """Few pixels and few units, so that all degrees that can be drawn are listed."""
    sizes = ((3, 2), (4, 1), (4, 2), (5, 2), (4, 3), (3, 3), (5, 1))
    chosen = torch.randperm(len(sizes), generator=generator)[:5].sort().values.tolist()
    return [_lost_instance(*sizes[k]) for k in chosen]


def _lost_instance(dimensions: int, width: int) -> Instance:
    degrees = tuple(range(1, dimensions))

    def lost(m: tuple, t: int, u: int) -> int:
        return int(not any(t <= degree < u for degree in m))

    symbols = {"D": dimensions, "H": width, "degrees": degrees, "places": tuple(range(1, dimensions + 1)),
               "choices": tuple(itertools.product(degrees, repeat=width)), "units": tuple(range(width)),
               "lost": lost}
    return Instance(f"D = {dimensions}, H = {width}", symbols)


_PAIRS = "for t in places for u in places if t < u"


def _over_pairs(term: str, pairs: str = _PAIRS) -> str:
    return f"sum({term} {pairs})"


def _distances(term: str) -> str:
    return f"sum({term} for s in range(1, D))"


_LOST = f"sum(lost(m, t, u) {_PAIRS} for m in choices)/len(choices)"
_LOST_RESULT = _distances("(D - s)*(1 - s/(D - 1))**H")


_LOST_FORMS = (
    _distances("(D - s)*((D - 1 - s)/(D - 1))**H"), _distances("(D - s)*(D - 1 - s)**H/(D - 1)**H"),
    _distances("(D - s)*(D - 1 - s)**H") + "/(D - 1)**H", "sum((D - s)*(1 - s/(D - 1))**H for s in degrees)",
    "sum((D - s)*((D - 1 - s)/(D - 1))**H for s in degrees)")


def _missed_by_all(tree: ast.expr) -> bool:
    """A line of the reader's own without the word lost, with a power H or a product over the units."""
    names = names_in(tree)
    missed = "H" in names or {"prod", "units"} <= names
    return missed and "lost" not in names and _own(tree, _LOST_RESULT, *_LOST_FORMS)


lost_proof = LongDerivation(
    name="lost_proof", title="What uniform degrees lose", chapter=6, difficulty=3, minutes=22, points=4,
    equations=("eq-made-paths", "eq-made-lost", "eq-made-lost-count"),
    statement="""
        $H$ hidden units draw their degrees uniformly from $1, …, D - 1$, each by itself. A pair of pixels at
        the positions $t < u$ is *lost* if no degree lies in $t, …, u - 1$: then no path leads from the first
        to the second, though the ordering would allow it. Show that the expected number of lost pairs is

        $$\\mathbb{E}[\\text{lost}] = \\sum_{s=1}^{D-1} (D - s)\\Big(1 - \\frac{s}{D - 1}\\Big)^H$$

        All $(D - 1)^H$ ways to draw the degrees are equally probable, so the expectation is a sum over them
        divided by their number; expectations of a sum over pairs may be taken pair by pair. Units are drawn
        independently, so a sum over all choices of a product over units is a product over units of sums.
        Fill in the lines marked `...`, or write a chain of your own.""",
    symbols=(("D, H", "D,\\; H", "pixels, and hidden units"),
             ("degrees", "1, …, D - 1", "what a unit may draw"),
             ("choices", "\\{1, …, D - 1\\}^H", "all ways to draw, `m`; `len(choices)` is $(D - 1)^H$"),
             ("units, m[j]", "j,\\; m(j)", "the units (from 0 in code), and a degree of a choice"),
             ("places", "t,\\; u = 1, …, D", "the positions in the ordering"),
             ("lost(m, t, u)", "[\\text{lost}]", "1 if no degree of `m` lies in $t, …, u - 1$, else 0")),
    chain=f"""
        sum(lost(m, t, u)
            {_PAIRS} for m in choices)/len(choices)
        = sum(prod((m[j] < t) + (m[j] >= u) for j in units)      # every unit misses
              for m in choices {_PAIRS})/len(choices)
        = sum(prod(sum((k < t) + (k >= u) for k in degrees)/(D - 1) for j in units)
              {_PAIRS})      # each unit by itself
        = sum((1 - (u - t)/(D - 1))**H      # u − t degrees lie between
              {_PAIRS})
        = {_LOST_RESULT}      # D − s pairs
        """,
    blanks=(2, 3, 4), least_lines=2, instances=_lost_instances,
    forms=_LOST_FORMS,
    nearly="One more line: write what it takes for one pair to be lost, for all units.",
    landmarks=(Step("Show where the power comes from: a line of your own without `lost`, in which the pair "
                    "is missed by every unit (a product over units, or a power H, under a sum over pairs).",
                    test=_missed_by_all),),
    hints=("When is one pair lost? Every single unit must have a degree below t, or u and above: a product "
           "over units of `(m[j] < t) + (m[j] >= u)`.",
           "Of the D − 1 degrees, how many lie in t, …, u − 1? What is then the probability that one unit "
           "misses them, and that all H do?",
           "u − t of them do, so it is 1 − (u − t)/(D − 1) for a unit, to the power H for all. How many "
           "pairs of positions have the distance s?"),
    misconceptions=(
        wrong("off by one", _distances("(D - s)*(1 - (s - 1)/(D - 1))**H"),
              _distances("(D - s)*(1 - (s + 1)/(D - 1))**H"), _over_pairs("(1 - (u - t - 1)/(D - 1))**H"),
              _over_pairs("(1 - (u - t + 1)/(D - 1))**H"),
              _over_pairs("(sum((k < t) + (k > u) for k in degrees)/(D - 1))**H"),
              _over_pairs("(sum((k <= t) + (k >= u) for k in degrees)/(D - 1))**H"),
              says="The number of degrees between is off by one. They are t, t + 1, …, u − 1: t is among "
                   "them, u is not.",
              hint="Neighbours, u = t + 1: which degree connects them?"),
        wrong("D degrees", _distances("(D - s)*(1 - s/D)**H"), _over_pairs("(1 - (u - t)/D)**H"),
              says="You divide by D. There are D − 1 degrees, 1, …, D − 1: a unit of degree D would be seen "
                   "by no output, and one of degree 0 would see nothing.",
              hint="The pair of the first and the last pixel: can it be lost?"),
        wrong("found for missed", _distances("(D - s)*(s/(D - 1))**H"), _over_pairs("((u - t)/(D - 1))**H"),
              says="This is the probability that every unit lies between the two. The pair is lost where "
                   "none does.",
              hint="Are neighbours lost more often than pixels far apart, or more seldom?"),
        wrong("pairs that are kept", _distances("(D - s)*(1 - (1 - s/(D - 1))**H)"),
              f"D*(D - 1)/2 - {_LOST_RESULT}", _over_pairs("(1 - (1 - (u - t)/(D - 1))**H)"),
              says="You counted the pairs that have a path. The lost ones are asked for.",
              hint="What happens to your number if H grows?"),
        wrong("one unit that misses", _distances("(D - s)*(1 - (s/(D - 1))**H)"),
              _over_pairs("(1 - ((u - t)/(D - 1))**H)"),
              says="1 − (s/(D − 1))^H is the probability that some unit misses. A pair is lost if all of "
                   "them do.",
              hint="The opposite of all units between is: not all. And of none?"),
        wrong("one unit only", _distances("(D - s)*(1 - s/(D - 1))"), _over_pairs("(1 - (u - t)/(D - 1))"),
              says="The H is gone: this is the probability that a single unit misses.",
              hint="Two units miss independently. What is the probability that both do?"),
        wrong("added over the units", _distances("(D - s)*H*(1 - s/(D - 1))"),
              _distances("(D - s)*(1 - H*s/(D - 1))"), _over_pairs("(1 - H*(u - t)/(D - 1))"),
              _over_pairs("H*(1 - (u - t)/(D - 1))"),
              says="Probabilities of the single units are added. That all of them miss is a product: a "
                   "power.",
              hint="Can your number be negative, or above the number of pairs?"),
        wrong("pairs at a distance counted wrongly", _distances("(D - s + 1)*(1 - s/(D - 1))**H"),
              _distances("(D - s - 1)*(1 - s/(D - 1))**H"), _distances("(1 - s/(D - 1))**H"),
              _distances("s*(1 - s/(D - 1))**H"), _distances("D*(1 - s/(D - 1))**H"),
              says="The number of pairs at the distance s is not D − s in your line.",
              hint="Five positions: how many pairs at distance 1, and how many at 4?"),
        wrong("both orders", f"2*{_LOST_RESULT}",
              _over_pairs("(1 - abs(u - t)/(D - 1))**H", "for t in places for u in places if t != u"),
              says="Each pair is counted twice. The ordering allows one direction only.",
              hint="How many pairs t < u are there among three positions?"),
        wrong("pairs that the ordering forbids", f"{_LOST_RESULT} + D", f"{_LOST_RESULT} + D*(D + 1)/2",
              _over_pairs("(1 - (u - t)/(D - 1))**H", "for t in places for u in places if t <= u"),
              "sum((D - s)*(1 - s/(D - 1))**H for s in range(D))",
              says="Your sum holds pairs with u = t (or u < t). A pixel must not reach itself: nothing is "
                   "lost there.",
              hint="With which distance does the sum begin?"),
        wrong("a share of the pairs", f"{_LOST_RESULT}/(D*(D - 1)/2)",
              f"{_LOST_RESULT}/D", f"{_LOST_RESULT}/(D - 1)",
              says="You divided by the number of pairs (or of pixels): a share. The number of lost pairs is "
                   "asked for.",
              hint="What is your number for H = 0, without any units?"),
        wrong("not divided by the choices", _distances("(D - s)*(D - 1 - s)**H"),
              f"sum(lost(m, t, u) {_PAIRS} for m in choices)", _over_pairs("(D - 1 - (u - t))**H"),
              says="You counted over all ways to draw the degrees and did not divide by their number, "
                   "(D − 1)^H.",
              hint="Is an expected number of pairs larger than the number of pairs?"),
        wrong("units and degrees exchanged", _distances("(D - s)*(1 - s/H)**(D - 1)"),
              _distances("(D - s)*(1 - 1/(D - 1))**(H*s)"), _distances("(D - s)*(1 - 1/(D - 1))**(H + s)"),
              says="The roles are mixed up: each of H units draws one of D − 1 degrees, and s of these lie "
                   "between. (One degree misses s times over is another event.)",
              hint="What is the base of the power, one unit's chance, or one degree's?"),
        wrong("the mean distance for all", "D*(D - 1)/2*(1 - (D + 1)/(3*(D - 1)))**H",
              says="You put the mean distance, (D + 1)/3, into the power. A mean of powers is not the power "
                   "of the mean: the close pairs are most of what is lost.",
              hint="Take the sum over the distances outside of the power."),
        wrong("an exponential for the power", _distances("(D - s)*exp(-H*s/(D - 1))"),
              _over_pairs("exp(-H*(u - t)/(D - 1))"),
              says="e^(−Hs/(D − 1)) is what the power comes near to for many pixels. Here it is exact.",
              hint="The pair of the first and the last pixel: can it be lost?"),
    ),
    teaching_notes="Let the class guess before it derives: 784 pixels and 500 units, how many of the 306,936 "
                   "pairs are lost? The sum says; then ask which pairs they are (close ones: nearly half are "
                   "neighbours in the ordering), and why that hurts a digit most. With evenly spaced degrees "
                   "and H ≥ D − 1, none is.")


# --- a mixture and its best member (derivation) -------------------------------------------------------------

def _mixture_instances(generator: torch.Generator) -> list[Instance]:
    return [_mixture_instance(count, generator) for count in (2, 3, 4, 3, 5)]


def _mixture_instance(count: int, generator: torch.Generator) -> Instance:
    """Log-likelihoods of one picture under a few masks, in tenths, the best of which is not the first."""
    while True:
        values = [-tenth / 10 for tenth in _integers(generator, 12, 49, count)]
        best = max(range(count), key=values.__getitem__)
        if best and len(set(values)) == count:
            break
    symbols = {"l": values.__getitem__, "p": lambda m: math.exp(values[m]), "b": best, "M": count,
               "masks": tuple(range(count))}
    return Instance(f"l = {_shown(tuple(values))}, b = {best}", symbols)


def _over_masks(term: str, rest: str = "") -> str:
    return f"sum({term} for m in masks{rest})"


_MIXTURE = f"log({_over_masks('p(m)')}/M)"
_OTHERS = _over_masks("exp(l(m) - l(b))", " if m != b")
_MIXTURE_RESULT = f"l(b) - log(M) + log(1 + {_OTHERS})"


_MIXTURE_FORMS = (
    f"log(p(b)) - log(M) + log(1 + {_OTHERS})",
    f"log(p(b)) - log(M) + log(1 + {_over_masks('p(m)/p(b)', ' if m != b')})",
    f"l(b) - log(M) + log(1 + {_over_masks('p(m)/p(b)', ' if m != b')})",
    f"l(b) - log(M) + log(1 + {_over_masks('p(m)', ' if m != b')}/p(b))",
    f"l(b) - log(M) + log(1 + {_over_masks('exp(l(m))/exp(l(b))', ' if m != b')})")


def _best_taken_out(tree: ast.expr) -> bool:
    """A line of the reader's own in which the best mask stands beside the sum over masks, or under it."""
    names = names_in(tree)
    return bool(names & {"b", "max"}) and {"sum", "log"} <= names and _own(tree, _MIXTURE_RESULT,
                                                                           *_MIXTURE_FORMS)


mixture_proof = LongDerivation(
    name="mixture_proof", title="A mixture is never far below its best", chapter=6, difficulty=1, minutes=12,
    points=3, equations=("eq-made-ensemble", "eq-made-logsumexp", "eq-made-jensen"),
    statement="""
        $M$ masks give a picture the probabilities $p_1(x), …, p_M(x)$, and their mixture is $\\bar p(x) =
        \\frac1M \\sum_m p_m(x)$. Let $b$ be the mask that is best for this picture. Show that

        $$\\log \\bar p(x) = \\log p_b(x) - \\log M + \\log\\Big(1 + \\sum_{m \\ne b} e^{\\log p_m(x) -
        \\log p_b(x)}\\Big)$$

        The last term is at least 0 and at most $\\log M$, so the mixture lies between its best member and
        $\\log M$ nats below it, and that price is paid only where all other masks fail. The line before the
        last is how `logsumexp` computes: every exponent is at most 0, so nothing overflows. Fill in the lines
        marked `...`, or write a chain of your own.""",
    symbols=(("p(m)", "p_m(x)", "probability of the picture under a mask"),
             ("l(m)", "\\log p_m(x)", "its logarithm, nats: `p(m)` is `exp(l(m))`"),
             ("b", "b", "the best mask for this picture"),
             ("M, masks", "M,\\; m = 1, …, M", "number of masks, and all of them (from 0 in code)")),
    chain=f"""
        {_MIXTURE}
        = log({_over_masks("exp(l(m))")}) - log(M)      # log of a quotient
        = log(exp(l(b))*{_over_masks("exp(l(m) - l(b))")}) - log(M)     # b taken out
        = l(b) + log({_over_masks("exp(l(m) - l(b))")}) - log(M)     # log of a product
        = {_MIXTURE_RESULT}
        """,
    blanks=(2, 3, 4), least_lines=2, instances=_mixture_instances,
    forms=_MIXTURE_FORMS,
    nearly="One more line: take the best probability out of the sum, and the logarithm of the product then.",
    landmarks=(Step("Show the best taken out: a line of your own, before the result, in which b stands under "
                    "the logarithm or in front of it.", test=_best_taken_out),),
    hints=("The logarithm of a quotient comes first: what becomes of the M?",
           "e^a = e^b e^(a − b). Take e^(l(b)) out of every term of the sum; it comes in front of it, still "
           "under the logarithm.",
           "log(e^(l(b)) times a sum) is l(b) plus the logarithm of the sum. In the sum, the term with m = b "
           "is e^0, the 1 of the result."),
    misconceptions=(
        wrong("mean of the logarithms", f"{_over_masks('l(m)')}/M", _over_masks("log(p(m))/M"),
              says="You took the mean of the log-likelihoods. By Jensen's inequality it lies below the "
                   "logarithm of the mean: it is what the agnostic training descends, not the mixture's "
                   "value.",
              hint="Two probabilities, 1/10 and 1/1000: what is their mean, and what the mean of their "
                   "logarithms?"),
        wrong("log M forgotten", f"log({_over_masks('p(m)')})", f"{_MIXTURE_RESULT} + log(M)",
              says="The probabilities are added and not averaged: −log M is missing. Added, they are no law.",
              hint="If all masks agree, what must the mixture say?"),
        wrong("log M added", f"log({_over_masks('p(m)')}) + log(M)", f"log(M*{_over_masks('p(m)')})",
              says="log M is added. The sum is divided by M, so its logarithm is subtracted.",
              hint="If all masks agree, what must the mixture say?"),
        wrong("the best alone", "l(b)", "log(p(b))", "max(l(m) for m in masks)",
              says="This is the best mask's own log-likelihood. Nobody knows the best one beforehand; the "
                   "mixture pays for that.",
              hint="What do the other masks bring, and what do they cost?"),
        wrong("the bound for the value", "l(b) - log(M)",
              says="This is the lower bound: the other masks were left out. The chain is of equals signs.",
              hint="Which term of the result is at least 0?"),
        wrong("sum of the logarithms", _over_masks("l(m)"), f"{_over_masks('l(m)')} - log(M)",
              says="You took the logarithm of each term of a sum. The logarithm of a product is a sum; that "
                   "of a sum cannot be taken apart.",
              hint="log(1 + 1) is log 2. What is log 1 + log 1?"),
        wrong("1 forgotten", f"l(b) - log(M) + log({_OTHERS})",
              says="The best mask itself is missing in the sum: e^0 = 1 (or log(1 + y) became log 1 + log "
                   "y).",
              hint="What is e^(l(b) − l(b))?"),
        wrong("the best counted twice", f"l(b) - log(M) + log(1 + {_over_masks('exp(l(m) - l(b))')})",
              says="The best mask is there twice: as the 1, and in a sum that runs over all masks.",
              hint="Which masks does the last sum of the result run over?"),
        wrong("the difference turned round", f"l(b) - log(M) + log({_over_masks('exp(l(b) - l(m))')})",
              f"l(b) - log(M) + log(1 + {_over_masks('exp(l(b) - l(m))', ' if m != b')})",
              f"log(exp(l(b))*{_over_masks('exp(l(b) - l(m))')}) - log(M)",
              says="The exponents are l(b) − l(m), which are at least 0: then the worst masks count most "
                   "(and the exponentials may overflow).",
              hint="Write p(m)/p(b) as one exponential."),
        wrong("the best not put back", f"log({_over_masks('exp(l(m) - l(b))')}) - log(M)",
              f"log(1 + {_OTHERS}) - log(M)", f"log({_over_masks('exp(l(m) - l(b))')}) - log(M) - l(b)",
              says="e^(l(b)) was taken out of the sum and then lost (or taken away once more). Its "
                   "logarithm, l(b), stands in front.",
              hint="log of a product: which two terms?"),
        wrong("a factor in front of the logarithm", f"p(b)*log({_over_masks('exp(l(m) - l(b))')}) - log(M)",
              f"l(b)*log({_over_masks('exp(l(m) - l(b))')}) - log(M)",
              f"exp(l(b))*log({_over_masks('exp(l(m) - l(b))')}/M)",
              says="A factor under the logarithm came out as a factor. It comes out as a term: log(a y) = "
                   "log a + log y.",
              hint="What is log(10 · 10)?"),
        wrong("the logarithm of 1 + y lost", f"l(b) - log(M) + {_OTHERS}",
              says="The last logarithm is gone: y stands for log(1 + y), which holds for small y only.",
              hint="Is log(1 + y) below or above y?"),
        wrong("divided outside of the logarithm", f"log({_over_masks('p(m)')})/M",
              f"log({_over_masks('p(m)')})/log(M)",
              says="The division by M left the logarithm as a division. The logarithm of a quotient is a "
                   "difference.",
              hint="log(8/2) is log 4. What is (log 8)/2?"),
        wrong("a quotient of logarithms", _over_masks("exp(l(m)/l(b))") + " - log(M)",
              f"l(b) - log(M) + log({_over_masks('exp(l(m)/l(b))')})",
              f"l(b) - log(M) + log({_over_masks('l(m)/l(b)')})",
              says="You divided logarithms. p(m)/p(b) is the exponential of their difference.",
              hint="e^5/e^3 is e to which power?"),
    ),
    teaching_notes="Ask what 32 masks can cost at most: log 32 = 3.47 nats. So an ensemble whose gain is 5 "
                   "nats is made of masks of which different ones are best for different pictures. Then let "
                   "the class say why the average of logits obeys no such bound.")


# --- what the code exercises share --------------------------------------------------------------------------

OWN_CHANCE = "chance of your own"


def code_exercise(kind: type[FunctionExercise] = GradualExercise, **settings: object) -> Callable:
    """Decorates a solution, as `function_exercise` does."""
    return lambda solution: kind(name=solution.__name__, chapter=6, solution=solution, **settings)


def _numbers(value: object) -> object:
    """Truth values count as 0 and 1 in masks and pictures."""
    return value.to(torch.float64) if isinstance(value, Tensor) and value.dtype is torch.bool else value


def _bits(generator: torch.Generator, *shape: int) -> Tensor:
    """Random pixels of 0 and 1, the first of them on."""
    x = torch.randint(2, shape, generator=generator).to(torch.float64)
    x[(0,) * len(shape)] = 1.0
    return x


def _signed(generator: torch.Generator, *shape: int, most: int = 20) -> Tensor:
    """Random tenths of both signs up to most/10, none of them 0."""
    size = torch.randint(1, most + 1, shape, generator=generator)
    sign = 2 * torch.randint(2, shape, generator=generator) - 1
    return (size * sign).to(torch.float64) / 10


def _float(*rows: object) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


# --- masks from degrees -------------------------------------------------------------------------------------

# pixels, and units of two hidden layers; in one case all are as many
LAYERS = ((3, 2, 1), (3, 1, 2), (3, 3, 3), (4, 3, 5), (5, 4, 2), (4, 6, 3), (6, 5, 7))


def _layers(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(order, first, second): degrees in random order; those of the larger layers meet each other."""
    for pixels, below, above in LAYERS:
        first, second = (_integers(generator, 1, pixels - 1, width) for width in (below, above))
        if min(below, above) > 1:
            first, second = (1, *first[1:]), (*second[:-1], 1)
        yield tuple(torch.tensor(part) for part in (_ordering(generator, pixels), first, second))


def _masks_by_sets(order: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """By what each unit may have seen: the pixels that come first, as many as its degree says."""
    sequence = order.tolist()
    seen_first, seen_second = ([set(sequence[:degree]) for degree in layer.tolist()]
                               for layer in (first, second))
    hidden = [float(d in seen) for seen in seen_first for d in range(len(sequence))]
    between = [float(below <= seen) for seen in seen_second for below in seen_first]
    before = {d: set(sequence[:place]) for place, d in enumerate(sequence)}
    output = [float(seen <= before[d]) for d in range(len(sequence)) for seen in seen_second]
    return _float(*hidden, *between, *output)


def _positions(order: Tensor) -> Tensor:
    return order.argsort() + 1


def _slip(hidden: Callable = torch.ge, between: Callable = torch.ge, output: Callable = torch.gt,
          position: Callable[[Tensor], Tensor] = _positions) -> Slip:
    """A slip in what is compared, (what receives, what sends), or in the positions."""
    def parts(order: Tensor, first: Tensor, second: Tensor) -> tuple:
        o = position(order)
        return (hidden(first[:, None], o), between(second[:, None], first), output(o[:, None], second))
    return Slip(parts)


def _turned(*which: int) -> Slip:
    """The slip of some masks the wrong way round."""
    def parts(order: Tensor, first: Tensor, second: Tensor) -> tuple:
        o = _positions(order)
        right = (first[:, None] >= o, second[:, None] >= first, o[:, None] > second)
        return tuple(mask.T.contiguous() if k in which else mask for k, mask in enumerate(right))
    return Slip(parts)


def _from_first_layer(order: Tensor, first: Tensor, second: Tensor) -> tuple:
    o = _positions(order)
    return first[:, None] >= o, second[:, None] >= first, o[:, None] > first


def _triangles(diagonal: int) -> Slip:
    """Triangles of ones, whatever the degrees."""
    def parts(order: Tensor, first: Tensor, second: Tensor) -> tuple:
        sizes = ((len(first), len(order)), (len(second), len(first)), (len(order), len(second)))
        return tuple(torch.ones(size).tril(diagonal) for size in sizes)
    return Slip(parts)


def _outputs_by_number(order: Tensor, first: Tensor, second: Tensor) -> tuple:
    """The last mask compares with the pixels' numbers, the first with their positions."""
    o, number = _positions(order), torch.arange(1, len(order) + 1)
    return first[:, None] >= o, second[:, None] >= first, number[:, None] > second


def _always(receive: Tensor, send: Tensor) -> Tensor:
    return torch.ones_like(receive * send)


def _through(yours: Tensor, order: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The product of the three masks, outputs by inputs, of a row of all their values."""
    D, H, G = len(order), len(first), len(second)
    hidden, between, output = yours.split([H * D, G * H, D * G])
    return output.view(D, G) @ between.view(G, H) @ hidden.view(H, D)


def _is_triangular(yours: Tensor, order: Tensor, first: Tensor, second: Tensor) -> bool:
    o = _positions(order)
    return not _through(yours, order, first, second)[o[:, None] <= o].abs().any()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MaskExercise(ShapedExercise):
    """Masks of several layers; they may be of truth values. The first that differs is shown, row by row."""

    def examine(self, answer: object, generator: torch.Generator) -> Verdict:
        state = generator.get_state()
        verdict = super().examine(answer, generator)
        where = dict(verdict.facts).get("smallest case")
        for case in self.cases(generator.set_state(state)):
            if show_case(dict(zip(self.arguments, case))) == where:
                notes = tuple(note for note in verdict.notes if not note.startswith("Shown are"))
                facts = (verdict.facts[0], *self._first_apart(answer, case), *verdict.facts[3:])
                return replace(verdict, facts=facts, notes=notes)
        return verdict

    def _first_apart(self, answer: Callable, case: tuple) -> tuple[tuple[str, str], ...]:
        with quietly():
            value = answer(*(part.clone() for part in case))
        for name, mine, right in zip(self.parts, value, self.parted(self.truth(*case), case)):
            mine = as_tensor(_numbers(mine), right)
            if not agree(mine, right):
                return (f"your `{name}`", show(mine)), ("expected", show(right))
        return ()

    def _read(self, value: object, truth: Tensor, arguments: Mapping[str, object]) -> Tensor:
        if isinstance(value, (tuple, list)):
            value = tuple(_numbers(part) for part in value)
        return super()._read(value, truth, arguments)


@code_exercise(
    MaskExercise, title="Masks from degrees", difficulty=2, minutes=15, points=4,
    equations=("eq-made-hidden-mask", "eq-made-deep-masks", "eq-made-output-mask"),
    parts=("hidden", "between", "output"),
    shapes=lambda order, first, second: ((len(first), len(order)), (len(second), len(first)),
                                         (len(order), len(second))),
    alike=lambda order, first, second: len(order) == len(first) == len(second),
    statement="""
        Make the masks of a network with two hidden layers. `order[t]` is the pixel that comes at place $t$ of
        the ordering, counted from 0 as all numbers of pixels are; the position $o(d)$ of a pixel is counted
        from 1. The degrees $m^1$ of the first hidden layer and $m^2$ of the second lie in $1, …, D - 1$, in
        any order:

        $$M^{W_1}_{ji} = [\\, m^1(j) \\ge o(i) \\,], \\qquad M^{W_2}_{j'j} = [\\, m^2(j') \\ge m^1(j) \\,],
        \\qquad M^V_{dj} = [\\, o(d) > m^2(j) \\,]$$

        A bracket is 1 where the comparison holds, and 0 elsewhere; rows are the units that receive, columns
        those that send, as in a weight matrix of torch. Return the three, in this order. (Numbers or truth
        values, as you like.)""",
    hints=("First the positions: o(d) is not order[d], but the place at which d stands in `order`. Which "
           "function of torch inverts a permutation?",
           "`torch.argsort(order) + 1` is o, a row a pixel. To compare each unit with each pixel, give one "
           "of them a second dimension: `first[:, None] >= position` has the shape (H_1, D).",
           "Rows receive: `second[:, None] >= first`, and `position[:, None] > second` for the outputs."),
    truth=_masks_by_sets, cases=_layers,
    must=(("no output has a path from its own pixel or a later one: the product of the three masks is 0 "
           "there.", _is_triangular),),
    on_the_way=lambda order, first, second: {"o(d) of each pixel": _positions(order)},
    misconceptions=(
        wrong("an output that sees itself", _slip(output=torch.ge),
              says="The outputs take units whose degree equals their own position: `>=` in the last mask. "
                   "Such a unit has seen the pixel itself. The likelihood becomes beautiful, and is none: "
                   "the sum over all pictures is no longer 1.",
              hint="A unit of degree m has seen the first m pixels. Which outputs may use it?"),
        wrong("a unit that misses its last pixel", _slip(hidden=torch.gt),
              says="The first mask is strict. A unit of degree m sees the pixels at positions 1, …, m; yours "
                   "sees one less, and one of degree 1 nothing.",
              hint="How many ones should the row of a unit of degree 1 have?"),
        wrong("strict between the hidden layers", _slip(between=torch.gt), _slip(torch.gt, torch.gt),
              says="The mask between the hidden layers is strict. A unit of degree m may use units of the "
                   "same degree: they have seen the same pixels.",
              hint="If all degrees were equal, would your second layer see anything?"),
        wrong("degrees from 0", _slip(torch.gt, torch.ge, torch.ge), _slip(torch.gt, torch.gt, torch.ge),
              says="Your masks treat the degrees as if the smallest were 0 (the same as > where ≥ must be, "
                   "and ≥ at the outputs). No pixel sees itself this way either, but units of the smallest "
                   "degree see nothing, and feed outputs for nothing.",
              hint="Does a unit of degree 1 see a pixel in your masks?", credit=0.25),
        wrong("masks the wrong way "
              "round", _turned(0, 1, 2), _turned(0, 1), _turned(0), _turned(1), _turned(2),
              _turned(0, 2), _turned(1, 2),
              says="A mask is transposed. It multiplies a weight matrix of torch, whose rows receive and "
                   "whose columns send.",
              hint="The first mask has the shape (H_1, D). Which of the two gets the `[:, "
                   "None]`?", credit=0.25),
        wrong("the ordering for its inverse", _slip(position=lambda order: order + 1),
              _slip(position=lambda order: order),
              says="You used `order` as positions. `order[t]` is the pixel that comes at place t; the "
                   "position of pixel d is the place where d stands in it. The two agree only where pixels "
                   "have merely changed places two by two.",
              hint="order = (2, 0, 1): at which place does pixel 0 come?"),
        wrong("positions from 0", _slip(position=lambda order: order.argsort()),
              says="Your positions begin with 0, and the degrees with 1. Then a unit of degree m sees one "
                   "pixel too many, and the outputs use one degree less: with degrees from 1, o must be "
                   "counted from 1.",
              hint="Which pixels should a unit of degree 1 see?"),
        wrong("the ordering ignored", _slip(position=lambda order: torch.arange(1, len(order) + 1)),
              _slip(position=lambda order: torch.arange(len(order))),
              says="You compare with the numbers of the pixels: the natural ordering. The positions come "
                   "from `order`.",
              hint="Where do you use the values of `order`?"),
        wrong("the ordering at one end only", Slip(_outputs_by_number),
              _slip(hidden=lambda m, o: m >= torch.arange(1, len(o) + 1)),
              says="One of the outer masks follows the ordering and the other does not. Then some outputs "
                   "see themselves.",
              hint="Which of your masks use the positions?"),
        wrong("the ordering backwards", _slip(position=lambda order: len(order) - order.argsort()),
              says="Your positions run backwards: the pixel that comes first has the position D.",
              hint="Which pixel comes first?"),
        wrong("the last mask turned", _slip(output=torch.le), _slip(output=torch.lt),
              says="The comparison in the last mask points the other way: each output takes the units that "
                   "know too much, and none of those that it may use.",
              hint="The pixel that comes first: may its output use any unit?"),
        wrong("the first mask turned", _slip(hidden=torch.le), _slip(hidden=torch.lt),
              says="The comparison in the first mask points the other way: a unit of degree m takes the "
                   "pixels from position m on.",
              hint="A unit of degree 1: which pixel does it see?"),
        wrong("the mask between turned", _slip(between=torch.le), _slip(between=torch.lt),
              says="The comparison between the hidden layers points the other way: a unit takes those that "
                   "have seen more than its degree allows.",
              hint="May a unit of degree 1 use one that has seen three pixels?"),
        wrong("all turned", _slip(torch.le, torch.le, torch.lt), _slip(torch.lt, torch.lt, torch.le),
              says="All comparisons point the other way.",
              hint="A unit of degree m sees the first m pixels."),
        wrong("no mask between the hidden layers", _slip(between=_always),
              says="The hidden layers are fully connected: a unit of degree 1 sees through its neighbours "
                   "what it must not.",
              hint="Through how many masks does a path go?"),
        wrong("equal degrees only", _slip(between=torch.eq), _slip(torch.eq, torch.eq, torch.eq),
              _slip(hidden=torch.eq), _slip(torch.eq, torch.eq),
              says="You connect what is equal. A unit of degree m sees all of the first m pixels.",
              hint="How many ones should the row of a unit of degree 3 have in the first mask?"),
        wrong("degrees of the first layer at the outputs", Slip(_from_first_layer),
              says="The outputs are compared with the degrees of the first hidden layer. The second sends to "
                   "them.",
              hint="Which layer does the last mask come from?"),
        wrong("triangles of ones", _triangles(0), _triangles(-1),
              says="These are triangles, whatever the degrees. The product is triangular in the ordering; "
                   "the masks themselves are not.",
              hint="Where do you use the degrees?"),
    ),
    teaching_notes="Three comparisons, and the whole chapter rests on which of them is strict. Let the class "
                   "multiply the three masks of the smallest case, and find each slip's leak in the product. "
                   "The inverse of the ordering is the slip that a natural ordering hides for ever.")
def masks_from_degrees(order: torch.Tensor, first: torch.Tensor,
                       second: torch.Tensor) -> tuple:
    """The masks of a network with two hidden layers; rows receive, columns send.

    order: (D,), the pixels in the order in which they come, from 0;
    first: (H_1,) and second: (H_2,), degrees in 1, ..., D - 1;
    returns hidden (H_1, D), between (H_2, H_1), output (D, H_2).
    """
    position = torch.argsort(order) + 1
    hidden = first[:, None] >= position
    between = second[:, None] >= first
    output = position[:, None] > second
    return hidden, between, output


# --- the log-likelihood of a batch --------------------------------------------------------------------------

def _scored(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """(x, logits): tenths and binary pixels; then logits of ±800, wrong ones among them."""
    for batch, pixels in ((1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 2), (3, 4)):
        yield _bits(generator, batch, pixels), _signed(generator, batch, pixels, most=30)
    yield _float([1.0, 0.0], [0.0, 1.0]), _float([800.0, -800.0], [800.0, 1.5])


def _log_share(pixel: float, logit: float) -> float:
    """log of the probability of a pixel's value, one of two shares."""
    away = -logit if pixel else logit
    return -max(away, 0.0) - math.log1p(math.exp(-abs(away)))


def _scored_by_loops(x: Tensor, logits: Tensor) -> Tensor:
    return _float(*(math.fsum(map(_log_share, *row)) for row in zip(x.tolist(), logits.tolist())))


def _log_pixels(x: Tensor, logits: Tensor) -> Tensor:
    """log p of each pixel, of the same shape."""
    return x * logits - softplus(logits, threshold=40)


def _collected(rule: Callable[[Tensor], Tensor]) -> Callable:
    """A mutant with the right terms, put together otherwise."""
    return lambda x, a: rule(_log_pixels(x, a))


def _termwise(rule: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    """A mutant with another term for each pixel."""
    return lambda x, a: rule(x, a).sum(1)


def _of_share(p: Callable[[Tensor], Tensor]) -> Callable:
    """A mutant that takes logarithms of a probability as it was computed."""
    return _termwise(lambda x, a: x * p(a).log() + (1 - x) * (1 - p(a)).log())


_EDGES = (1e-6, 1e-7, 1e-8, 1e-10, 1e-12)


def _off_the_edge(x: Tensor, a: Tensor, e: float) -> Tensor:
    return x * (a.sigmoid() + e).log() + (1 - x) * (1 - a.sigmoid() + e).log()


def _clamped_share(x: Tensor, a: Tensor, e: float) -> Tensor:
    p = a.sigmoid().clamp(e, 1 - e)
    return x * p.log() + (1 - x) * (1 - p).log()


@code_exercise(
    title="The log-likelihood, in nats", difficulty=1, minutes=8, points=2, equations=("eq-made-nll",),
    statement="""
        One pass of the masked network has given a logit $a_d$ for each pixel of each picture of a batch, and
        $p(x_d = 1 \\mid x_{<d}) = \\sigma(a_d)$. Compute the log-likelihood of each picture, in nats,

        $$\\log p(x) = \\sum_{d=1}^D \\log p(x_d \\mid x_{<d})$$

        It is exact: no bound, no normaliser, and published numbers are means of just this. In one of the
        cases the logits are 800 and $-800$, some of them wrong; such a pixel costs 800 nats.""",
    hints=("The probability of a pixel's value is σ(a) where it is on, and 1 − σ(a) = σ(−a) where it is off. "
           "Write both logarithms as one formula in x.",
           "log σ(a) = a − log(1 + e^a), and log σ(−a) = −log(1 + e^a). `torch.nn.functional.softplus` is "
           "the second logarithm for any a.",
           "x a − softplus(a), summed over the pixels: `.sum(1)`."),
    truth=_scored_by_loops, cases=_scored, level=lambda x, logits: int(logits.abs().max() > 100),
    must=(("a log-likelihood of pixels is never positive.", lambda yours, *case: (yours <= 1e-6).all()),
          ("it is at most the log-probability of any single pixel.",
           lambda yours, x, a: (yours[:, None] <= _log_pixels(x, a) + 1e-3).all())),
    on_the_way=lambda x, logits: {"log p of each pixel": _log_pixels(x, logits)},
    misconceptions=(
        wrong("a mean over the pixels", _collected(lambda log_p: log_p.mean(1)),
              says="You averaged over the pixels: nats a pixel. The probability of a picture is the product "
                   "of its conditionals, so their logarithms add.",
              hint="Two pixels, each with probability ½: what is the probability of the "
                   "picture?", credit=0.5),
        wrong("the loss", _collected(lambda log_p: -log_p.sum(1)),
              _termwise(lambda x, a: softplus(-a) + (1 - x) * a),
              says="This is −log p, the loss that training descends. The log-likelihood is its negative.",
              hint="Can the logarithm of a probability be positive?", credit=0.5),
        wrong("one number for the batch", _collected(torch.sum), _collected(torch.mean),
              _collected(lambda log_p: log_p.sum(1).mean()), _collected(lambda log_p: -log_p.mean()),
              _collected(lambda log_p: -log_p.sum()), _collected(lambda log_p: -log_p.sum(1).mean()),
              says="You added (or averaged) over the pictures too. Each has its own log-likelihood; the mean "
                   "over a test set comes later.",
              hint="The answer has the shape (batch,)."),
        wrong("added over the pictures", _collected(lambda log_p: log_p.sum(0)),
              _collected(lambda log_p: log_p.mean(0)),
              says="You added over the batch, dimension 0, and kept the pixels apart. (That is how the map "
                   "of where the nats go is made.)",
              hint="In a tensor of shape (batch, pixels), which dimension holds the pixels?"),
        wrong("not added", _log_pixels,
              says="These are the log-probabilities of the single pixels. Their sum is asked for, one number "
                   "a picture.",
              hint="The answer has the shape (batch,)."),
        wrong("bits for nats", _collected(lambda log_p: log_p.sum(1) / LOG_TWO),
              _collected(lambda log_p: log_p.sum(1) / math.log(10)),
              _collected(lambda log_p: log_p.mean(1) / LOG_TWO),
              says="Your logarithm is not the natural one: with base 2 the unit is bits (bits are nats "
                   "divided by log 2).",
              hint="Which logarithm has its slope 1 at 1?"),
        wrong("sigmoid applied twice", _termwise(lambda x, a: _log_pixels(x, a.sigmoid())),
              says="The logits went through a sigmoid twice: a function that takes logits was given "
                   "probabilities. Every pixel then has a probability between 0.5 and 0.73 of being on.",
              hint="Which of the two functions of torch has `with_logits` in its name?"),
        wrong("logits used as probabilities", _of_share(lambda a: a), _of_share(lambda a: a.clamp(0, 1)),
              says="The logits are used as probabilities. They are any real numbers; the sigmoid makes "
                   "probabilities of them.",
              hint="What is the logarithm of −2?"),
        wrong("only the pixels that are on", _termwise(lambda x, a: x * logsigmoid(a)),
              _termwise(lambda x, a: x * a.sigmoid()), _termwise(lambda x, a: logsigmoid(a)),
              says="Pixels that are off do not enter as they should. They have the probability 1 − σ(a), "
                   "which costs too.",
              hint="What does your number say of a network that paints everything white?"),
        wrong("pixels inverted", _termwise(lambda x, a: _log_pixels(1 - x, a)),
              _termwise(lambda x, a: _log_pixels(x, -a)),
              says="x and 1 − x are exchanged, or the sign of the logits is turned: being right is what "
                   "costs.",
              hint="A pixel that is on, and a logit of 5: is that cheap, or dear?"),
        wrong("the normaliser forgotten", _termwise(lambda x, a: x * a),
              _termwise(lambda x, a: (2 * x - 1) * a), _termwise(lambda x, a: x * a - (1 - x) * a),
              says="Only the logits are there, without log(1 + e^a). Then a large logit costs nothing where "
                   "it is wrong, and your number may be positive.",
              hint="Do the probabilities of on and off add to 1?"),
        wrong("probabilities "
              "added", _termwise(lambda x, a: torch.where(x > 0.5, a.sigmoid(), (-a).sigmoid())),
              lambda x, a: torch.where(x > 0.5, a.sigmoid(), (-a).sigmoid()).sum(1).log(),
              says="You added probabilities of pixels. They multiply, and their logarithms add.",
              hint="Two coins: the probability of head and head?"),
        wrong("the probability", _collected(lambda log_p: log_p.sum(1).exp()),
              says="This is p(x) itself. Its logarithm is asked for: for 784 pixels, p is of the order of "
                   "e^(−90).",
              hint="Multiply 784 numbers below 1 in float32. What is left?"),
        wrong("squared error", _termwise(lambda x, a: -(x - a.sigmoid())**2),
              _termwise(lambda x, a: (x - a.sigmoid())**2), _termwise(lambda x, a: -(x - a)**2),
              says="You have a squared error, which is the log-likelihood of no binary pixel.",
              hint="How much should it cost to be certain and wrong?"),
        wrong("thresholded first", _termwise(lambda x, a: _log_pixels(x, 2 * (a > 0).to(a.dtype) - 1)),
              _termwise(lambda x, a: (x == (a > 0)).to(a.dtype)),
              _termwise(lambda x, a: -(x != (a > 0)).to(a.dtype)),
              says="The network's output was made 0 or 1 first, and pixels that agree were counted. How sure "
                   "it was is lost.",
              hint="σ(a) = 0.51 and σ(a) = 0.99: the same log-likelihood?"),
        wrong("pixels and probabilities exchanged",
              _termwise(lambda x, a: -binary_cross_entropy(x, a.sigmoid(), reduction="none")),
              _termwise(lambda x, a: x * a.sigmoid() - softplus(x)),
              _termwise(lambda x, a: x * a - softplus(x)),
              says="The two arguments of the cross-entropy are exchanged: the logarithm of the pixels is "
                   "taken. First the network's output, then the target.",
              hint="Of which of the two is a logarithm taken in the formula?"),
        wrong("logarithm of a sigmoid", _of_share(torch.sigmoid),
              _termwise(lambda x, a: -binary_cross_entropy(a.sigmoid(), x, reduction="none")),
              _termwise(lambda x, a: x * a - (1 + a.exp()).log()),
              lambda x, a: torch.where(x > 0.5, a.sigmoid(), 1 - a.sigmoid()).prod(1).log(),
              _termwise(lambda x, a: torch.where(x > 0.5, a.sigmoid(), 1 - a.sigmoid()).log()),
              *(_termwise(lambda x, a, e=e: _off_the_edge(x, a, e)) for e in _EDGES),
              *(_termwise(lambda x, a, e=e: _clamped_share(x, a, e)) for e in _EDGES),
              *(_termwise(lambda x, a, c=c: _log_pixels(x, a.clamp(-c, c)))
                for c in (10, 20, 30, 50, 80, 88, 100)),
              says="Right for ordinary logits. A sigmoid of 800 is 1 in floating point, and the logarithm of "
                   "1 minus it that of 0 (some functions cut it off at −100, some codes at log 1e-8); or "
                   "e^800 came up, which is infinite.",
              hint="Take the logarithm on paper: x a − log(1 + e^a), with `softplus`.", credit=0.5),
    ),
    teaching_notes="The same line as in the chapters before, and for the first time it is log p(x) itself. "
                   "Ask for the value of a network that knows nothing (−D log 2, −543.4 on MNIST), and of "
                   "one that knows each pixel's frequency only. A mean over the pixels reads about −0.11 for "
                   "a good model.")
def log_likelihood(x: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """log p(x) of each picture, nats.

    x: (batch, D) of 0 and 1; logits: (batch, D); returns (batch,).
    """
    return (x * logits - torch.nn.functional.softplus(logits)).sum(1)


# --- the average over an ensemble ---------------------------------------------------------------------------

def _ensembles(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """(x, logits): tenths; then probabilities below all floating-point numbers; then pictures far apart."""
    for masks, batch, pixels in ((2, 1, 1), (2, 1, 2), (2, 2, 1), (3, 2, 2), (2, 3, 2), (3, 3, 2), (4, 2, 3)):
        yield _bits(generator, batch, pixels), _signed(generator, masks, batch, pixels, most=30)
    x = _bits(generator, 2, 3)
    yield x, (1 - 2 * x) * (300 + _signed(generator, 3, 2, 3))
    x = _bits(generator, 3, 2)
    size = _float([[400.0, 500.0], [1.0, 2.0], [1300.0, 1200.0]])
    yield x, (1 - 2 * x) * (size + _signed(generator, 3, 3, 2, most=9))


def _hardness(x: Tensor, logits: Tensor) -> int:
    """1 where all probabilities of a batch underflow, 2 where they do for some pictures only."""
    best = _log_pixels(x, logits).sum(2).max(0).values
    return 0 if best.min() > -700 else 1 if best.max() < -700 else 2


def _ensemble_by_loops(x: Tensor, logits: Tensor) -> Tensor:
    """Picture by picture: the best mask's log-likelihood and what all of them are beside it."""
    found = []
    for n, picture in enumerate(x.tolist()):
        logs = [math.fsum(map(_log_share, picture, rows[n])) for rows in logits.tolist()]
        found.append(max(logs) + math.log(math.fsum(math.exp(one - max(logs)) for one in logs) / len(logs)))
    return _float(*found)


def _averaged(rule: Callable[[Tensor], Tensor], terms: Callable = _log_pixels) -> Callable:
    """A mutant of the log-likelihoods under each mask, (M, batch)."""
    return lambda x, a: rule(terms(x, a).sum(2))


def _mixed(logs: Tensor) -> Tensor:
    """The right average of log-likelihoods, over the first dimension."""
    return logs.logsumexp(0) - math.log(len(logs))


def _mean_conditionals(x: Tensor, a: Tensor) -> Tensor:
    p = a.sigmoid().mean(0)
    return (x * p.log() + (1 - x) * (1 - p).log()).sum(1)


def _one_shift(logs: Tensor) -> Tensor:
    return (logs - logs.max()).exp().mean(0).log() + logs.max()


@code_exercise(
    title="The likelihood of an ensemble", difficulty=2, minutes=15, points=4,
    equations=("eq-made-ensemble", "eq-made-logsumexp", "eq-made-logit-average"),
    statement="""
        The same batch went through a network under each of $M$ masks (or orderings), and the logits are
        stacked: `logits[m, n, d]` is that of pixel $d$ of picture $n$ under mask $m$. Compute the
        log-likelihood of each picture under the mixture of the $M$ laws, in nats,

        $$\\log \\bar p(x) = \\log \\frac1M \\sum_{m=1}^M p_m(x), \\qquad
        p_m(x) = \\prod_{d=1}^D p_m(x_d \\mid \\text{the pixels before } d \\text{ under mask } m)$$

        It is whole pictures whose probabilities are averaged: an average of logits, or of conditionals, is no
        law (each of its pixels would see all others, under one mask or another). Probabilities of pictures
        are small: in some of the cases they are around $e^{-900}$, which is 0 in floating point, and in one
        case the pictures lie far apart.""",
    hints=("Two steps: the log-likelihood of each picture under each mask, of shape (M, batch), by a sum "
           "over the pixels; then the logarithm of the mean over the masks.",
           "The logarithm of a mean of exponentials: `torch.logsumexp` over the masks, dimension 0, minus "
           "the logarithm of their number.",
           "`log_p = (x * logits - torch.nn.functional.softplus(logits)).sum(2)`, and then "
           "`torch.logsumexp(log_p, dim=0) - math.log(len(logits))`."),
    truth=_ensemble_by_loops, cases=_ensembles, level=_hardness,
    must=(("the mixture is at most as good as its best mask, and at most log M below it.",
           lambda yours, x, a: all(best - math.log(len(a)) - 1e-3 <= value <= best + 1e-3 for value, best in
                                   zip(yours.tolist(), _log_pixels(x, a).sum(2).max(0).values.tolist()))),),
    on_the_way=lambda x, a: {"log p of each picture under each mask": _log_pixels(x, a).sum(2),
                             "log M": math.log(len(a))},
    misconceptions=(
        wrong("average of the logits", lambda x, a: _log_pixels(x, a.mean(0)).sum(1),
              lambda x, a: _log_pixels(x, a.sum(0)).sum(1),
              says="You averaged the logits. Under different masks a pixel sees different others; after the "
                   "average two pixels may see each other, and each forecast rests on the other's result. "
                   "The number is often better than any mask's, and the sum over all pictures is not 1.",
              hint="At which step does a law of whole pictures first stand in your code?"),
        wrong("average of the log-likelihoods", _averaged(lambda logs: logs.mean(0)),
              says="You averaged the log-likelihoods. That is the mean score of a single mask, a lower bound "
                   "on the mixture's (Jensen): the average is taken before the logarithm.",
              hint="log ½(a + b) or ½(log a + log b)?"),
        wrong("average of the conditionals", _mean_conditionals,
              lambda x, a: (_log_pixels(x, a).logsumexp(0) - math.log(len(a))).sum(1),
              says="You averaged pixel by pixel, and multiplied then. These averages depend on pixels that "
                   "come later under some mask: their product is no law. Multiply under each mask first.",
              hint="A mean of products or a product of means?"),
        wrong("log M forgotten", _averaged(lambda logs: logs.logsumexp(0)),
              says="The probabilities are added, not averaged: −log M is missing. Two equal masks would make "
                   "every picture twice as probable.",
              hint="If all masks agree, what must the mixture say?"),
        wrong("log M added", _averaged(lambda logs: logs.logsumexp(0) + math.log(len(logs))),
              says="log M is added. The sum is divided by M, so its logarithm is subtracted.",
              hint="If all masks agree, what must the mixture say?"),
        wrong("the wrong number in the logarithm",
              lambda x, a: _log_pixels(x, a).sum(2).logsumexp(0) - math.log(len(x)),
              lambda x, a: _log_pixels(x, a).sum(2).logsumexp(0) - math.log(x.shape[1]),
              lambda x, a: _log_pixels(x, a).sum(2).logsumexp(0) - len(a),
              says="What you subtract is not log M: the logarithm of the number of pictures or of pixels, or "
                   "M itself.",
              hint="`logits` is (M, batch, D). What is its length?"),
        wrong("the best mask", _averaged(lambda logs: logs.max(0).values),
              says="You took the best mask for each picture. It is chosen after seeing the picture, so it is "
                   "no law: the maxima over all pictures add to more than 1.",
              hint="Which mask would you choose before you see the picture?"),
        wrong("the bound for the value", _averaged(lambda logs: logs.max(0).values - math.log(len(logs))),
              says="This is the lower bound, best mask minus log M. The others count too.",
              hint="If all masks agree, what must the mixture say?"),
        wrong("over the pictures", lambda x, a: _mixed(_log_pixels(x, a).sum(2).T),
              _averaged(lambda logs: logs.logsumexp(1) - math.log(len(logs))),
              says="The average runs over the pictures, and a number for each mask is left. It runs over the "
                   "masks.",
              hint="log p has the shape (M, batch). Which dimension are the masks?"),
        wrong("masks multiplied", _averaged(lambda logs: logs.sum(0)),
              _averaged(lambda logs: logs.sum(0) - math.log(len(logs))),
              says="You added the log-likelihoods of all masks: a product of laws, which is not normalised.",
              hint="If all masks agree, what must the mixture say?"),
        wrong("a mean over the pixels", lambda x, a: _mixed(_log_pixels(x, a).mean(2)),
              lambda x, a: _mixed(_log_pixels(x, a).sum(2)) / x.shape[1],
              says="You averaged over the pixels. Nats an image are asked for; and averaged before the "
                   "exponential, the number is that of no law at all.",
              hint="The probability of a picture is the product over its pixels. What is its logarithm?"),
        wrong("mean of the inverse probabilities", _averaged(lambda logs: -_mixed(-logs)),
              _averaged(lambda logs: _mixed(-logs)),
              says="You took `logsumexp` of the losses, −log p: that averages 1/p. The sign comes after the "
                   "average.",
              hint="Is e to the loss a probability?"),
        wrong("the loss", _averaged(lambda logs: -_mixed(logs)),
              says="This is minus the log-likelihood, as a loss would be.",
              hint="Can the logarithm of a probability be positive?", credit=0.5),
        wrong("the probability", _averaged(lambda logs: logs.exp().mean(0)),
              _averaged(lambda logs: logs.exp().sum(0)),
              says="This is the mean probability (or the sum). Its logarithm is asked for.",
              hint="Which function stands in front in the formula?"),
        wrong("divided outside of the logarithm", _averaged(lambda logs: logs.logsumexp(0) / len(logs)),
              _averaged(lambda logs: logs.logsumexp(0) / math.log(len(logs))),
              says="You divided the logarithm by M (or by log M). The sum under it is divided; outside, that "
                   "is a difference.",
              hint="log(8/2) is log 4. What is (log 8)/2?"),
        wrong("one number for the batch", _averaged(lambda logs: _mixed(logs).sum()),
              _averaged(lambda logs: _mixed(logs).mean()),
              _averaged(lambda logs: logs.flatten().logsumexp(0) - math.log(logs.numel())),
              _averaged(lambda logs: _mixed(logs.sum(1))), _averaged(lambda logs: _mixed(logs.mean(1))),
              says="You added (or averaged) over the pictures too. Each has a likelihood of its own, and the "
                   "average over masks is taken for each.",
              hint="The answer has the shape (batch,)."),
        wrong("bits for nats", _averaged(lambda logs: _mixed(logs) / LOG_TWO),
              _averaged(lambda logs: logs.logsumexp(0) - math.log2(len(logs))),
              says="A logarithm to base 2 is in your answer. Nats are asked for: natural logarithms.",
              hint="Which logarithm has its slope 1 at 1?"),
        wrong("sigmoid applied twice", _averaged(_mixed, lambda x, a: _log_pixels(x, a.sigmoid())),
              says="The logits went through a sigmoid twice: a function that takes logits was given "
                   "probabilities.",
              hint="Which of the two functions of torch has `with_logits` in its name?"),
        wrong("only the pixels that are on", _averaged(_mixed, lambda x, a: x * logsigmoid(a)),
              says="Only pixels that are on are counted. A pixel that is off has the probability 1 − σ(a), "
                   "which costs too.",
              hint="What does your number say of a network that paints everything white?"),
        wrong("masks weighed by themselves", _averaged(lambda logs: (logs.softmax(0) * logs).sum(0)),
              says="You averaged the logarithms with normalised weights. Such weights appear in the gradient "
                   "of the mixture; this is not its value.",
              hint="How many logarithms has the mixture of one picture?"),
        wrong("e^x that underflows", _averaged(lambda logs: logs.exp().mean(0).log()),
              *(_averaged(lambda logs, e=e: (logs.exp().mean(0) + e).log())
                for e in (1e-6, 1e-8, 1e-10, 1e-12, 1e-20, 1e-30)),
              *(_averaged(lambda logs, e=e: logs.exp().mean(0).clamp(min=e).log())
                for e in (1e-6, 1e-8, 1e-10, 1e-12, 1e-20, 1e-30)),
              _averaged(_mixed, lambda x, a: x * a.sigmoid().log() + (1 - x) * (1 - a.sigmoid()).log()),
              _averaged(_mixed, lambda x, a: -binary_cross_entropy(a.sigmoid(), x.expand_as(a),
                                                                   reduction="none")),
              says="Right for pictures of a few pixels. e^(−900) is 0 in floating point (and 1 − σ(300) as "
                   "well), and the logarithm of 0 is no answer; no small constant mends it.",
              hint="`torch.logsumexp` takes the largest out first; `softplus` does it for one pixel.",
              credit=0.5),
        wrong("one shift for all pictures", _averaged(_one_shift),
              _averaged(lambda logs: (logs - logs.mean()).exp().mean(0).log() + logs.mean()),
              says="You shift the log-likelihoods of all pictures by the same number. It fits the most "
                   "probable picture; one that is 1000 nats below has only zeros left.",
              hint="Take the maximum over the masks only: `.max(0)`.", credit=0.5),
    ),
    teaching_notes="Print the four averages side by side on the trained model: of log-likelihoods, of "
                   "probabilities, of conditionals, of logits. The last two are the flattering ones, and the "
                   "only test that tells is the sum over all pictures of a small model.")
def ensemble_log_prob(x: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """log of the mean over M masks of p_m(x), of each picture, nats.

    x: (batch, D) of 0 and 1; logits: (M, batch, D); returns (batch,).
    """
    log_p = (x * logits - torch.nn.functional.softplus(logits)).sum(2)
    return torch.logsumexp(log_p, dim=0) - math.log(len(logits))


# --- drawing a picture --------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Network:
    """A masked network so small that it can be worked by hand: logits c + A x, A zero where it must be.

    Called with pictures (batch, D), or one, (D,), it gives logits of the same shape.
    """

    A: tuple[tuple[float, ...], ...]
    c: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        x = torch.as_tensor(x)
        x = x if x.is_floating_point() else x.to(torch.float64)
        return x @ torch.tensor(self.A, dtype=x.dtype).T + torch.tensor(self.c, dtype=x.dtype)

    def __repr__(self) -> str:
        return f"c + A x with A = {_shown(self.A)}, c = {_shown(self.c)}"


def _draws(generator: torch.Generator) -> Iterator[tuple[Network, Tensor, Tensor]]:
    """(logits, order, uniforms): networks in which each pixel sees all that come before it."""
    for count, pixels in ((1, 3), (2, 3), (3, 4), (5, 3), (4, 4), (6, 5), (5, 5)):
        order = torch.tensor(_ordering(generator, pixels))
        o = _positions(order)
        A = (_signed(generator, pixels, pixels, most=15) * 2) * (o[:, None] > o) + 0.0
        network = Network(tuple(map(tuple, A.tolist())), tuple(_signed(generator, pixels, most=12).tolist()))
        uniforms = torch.randint(100, (count, pixels), generator=generator).to(torch.float64)
        yield network, order, (uniforms + 0.5) / 100


def _drawn_bit_by_bit(logits: Network, order: Tensor, uniforms: Tensor) -> Tensor:
    """Every picture by itself, from the network's numbers: on where the share of on is above the chance."""
    pictures = []
    for chance in uniforms.tolist():
        x = [0.0] * len(chance)
        for d in order.tolist():
            a = logits.c[d] + math.fsum(weight * value for weight, value in zip(logits.A[d], x))
            x[d] = float(math.log(chance[d] / (1 - chance[d])) < a)
        pictures.append(x)
    return _float(*pictures)


def _bit(a: Tensor, u: Tensor) -> Tensor:
    return (u < a.sigmoid()).to(u)


def _in_order(order: Tensor) -> Sequence[int]:
    return order.tolist()


def _draw(sequence: Callable[[Tensor], Sequence[int]] = _in_order,
          chance: Callable = lambda u, t, d: u[:, d], bit: Callable = _bit,
          after: Callable[[Tensor, Tensor], Tensor] = lambda x, order: x) -> Callable:
    """A mutant with another sequence of pixels, use of the chance, way to a bit, or last line."""
    def mutant(logits: Network, order: Tensor, uniforms: Tensor) -> Tensor:
        x = torch.zeros_like(uniforms)
        for t, d in enumerate(sequence(order)):
            x[:, d] = bit(logits(x)[:, d], chance(uniforms, t, d))
        return after(x, order)
    return mutant


def _passes(count: int, start: Callable[[Tensor], Tensor] = torch.zeros_like) -> Callable:
    """A mutant that draws all pixels at once, some times over."""
    def mutant(logits: Network, order: Tensor, uniforms: Tensor) -> Tensor:
        x = start(uniforms)
        for _ in range(count):
            x = _bit(logits(x), uniforms)
        return x
    return mutant


def _fresh(seed: int) -> Callable:
    """Chance of a generator that is made anew, as after torch.manual_seed."""
    def chance(u: Tensor, t: int, d: int) -> Tensor:
        own = torch.Generator().manual_seed(seed)
        return torch.rand(u.shape, generator=own, dtype=u.dtype)[:, d]
    return chance


def _probabilities_at_the_end(logits: Network, order: Tensor, uniforms: Tensor) -> Tensor:
    return logits(_draw()(logits, order, uniforms)).sigmoid()


def _late(logits: Network, order: Tensor, uniforms: Tensor) -> Tensor:
    """Each pixel drawn from logits that were computed before the pixel in front of it was there."""
    x = torch.zeros_like(uniforms)
    a = before = logits(x)
    for d in order.tolist():
        x[:, d] = _bit(before[:, d], uniforms[:, d])
        before, a = a, logits(x)
    return x


def _of_first_picture(logits: Network, order: Tensor, uniforms: Tensor) -> Tensor:
    """All pictures drawn with the logits of the first."""
    x = torch.zeros_like(uniforms)
    for d in order.tolist():
        x[:, d] = _bit(logits(x)[0, d], uniforms[:, d])
    return x


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DrawExercise(GradualExercise):
    """Pictures, drawn with a chance that is given: who draws for himself answers each call differently."""

    def _read(self, value: object, truth: Tensor, arguments: Mapping[str, object]) -> Tensor:
        return super()._read(_numbers(value), truth, arguments)

    def refused(self, refusal: Refusal) -> Verdict:
        if "two answers" not in refusal.message:
            return super().refused(refusal)
        verdict = self.named(OWN_CHANCE, refusal.facts)
        return replace(verdict, message=f"{verdict.message} {refusal.message}")


@code_exercise(
    DrawExercise, title="Draw a picture, pixel by pixel", difficulty=2, minutes=15, points=4,
    equations=("eq-made-sampling", "eq-made-chain-order"),
    statement="""
        Draw pictures from a masked network. `logits(x)` is a pass of it: pictures (count, D) in, logits of
        all pixels (count, D) out; the logit of pixel $d$ depends only on the pixels that come before $d$ in
        the ordering. `order[t]` is the pixel that comes at place $t$, from 0. Pixel after pixel,

        $$x_d \\sim \\text{Bernoulli}\\big(\\sigma(a_d(x_{<d}))\\big)$$

        with one pass for each pixel. The chance is given to you: pixel $d$ of picture $n$ is 1 if
        `uniforms[n, d]` is **below** its probability, and 0 otherwise. So there is one right answer. Pixels
        that are not drawn yet may hold anything; begin with zeros, and draw all pictures at once.""",
    hints=("Which pixel's logit is right while the picture is still empty? And which one once that pixel is "
           "drawn?",
           "A loop over `order`, and in each turn a new pass: `logits(x)[:, d]` are the logits of pixel d in "
           "all pictures, given what has been drawn so far.",
           "`x[:, d] = (uniforms[:, d] < torch.sigmoid(logits(x)[:, d])).to(x.dtype)` in a loop `for d in "
           "order`, with `x = torch.zeros_like(uniforms)` before it."),
    truth=_drawn_bit_by_bit, cases=_draws,
    must=(("a drawn pixel is 0 or 1.", lambda yours, *case: ((yours == 0) | (yours == 1)).all()),
          ("the pixel that comes first is on exactly where its uniform number is below σ of its own logit in "
           "an empty picture.", lambda yours, a, order, u: (
               yours[:, order[0]] == _bit(a(torch.zeros_like(u)), u)[:, order[0]]).all())),
    on_the_way=lambda logits, order, uniforms: {
        "the pixel that comes first": order[0],
        "its probability": logits(torch.zeros_like(uniforms))[0, order[0]].sigmoid()},
    misconceptions=(
        wrong("raster order", _draw(lambda order: range(len(order))),
              says="You drew the pixels in the order of their numbers. The ordering is another: a pixel was "
                   "drawn while pixels that it depends on were still empty.",
              hint="Which pixel does `order` say comes first?"),
        wrong("the ordering for its inverse", _draw(lambda order: order.argsort().tolist()),
              says="You ran through the positions of the pixels. `order[t]` is the pixel that comes at place "
                   "t: run through `order` itself.",
              hint="order = (2, 0, 1): which pixel is drawn first?"),
        wrong("all pixels at once", _passes(1), _passes(1, torch.ones_like),
              _passes(1, lambda u: torch.full_like(u, 0.5)), _draw(lambda order: order.flip(0).tolist()),
              says="Each pixel was drawn from the logits of an empty picture: one pass for all, or a loop "
                   "that begins with the pixel that comes last. Every pixel but the first must know those "
                   "before it: D pixels need D passes, in the order of the ordering.",
              hint="When pixel d is drawn, which pixels has the network seen?"),
        wrong("nothing drawn", lambda logits, order, uniforms: torch.zeros_like(uniforms),
              lambda logits, order, uniforms: uniforms,
              says="You return the empty picture (or the chance itself): nothing was drawn, or it was not "
                   "written into `x`.",
              hint="Which line of yours changes `x`?"),
        wrong("too few passes", _passes(2), _late,
              says="The passes come too late: a pixel was drawn from logits that were computed before the "
                   "pixel in front of it was there (or two passes were made for all pixels).",
              hint="After which assignment must the next pass come?"),
        wrong("thresholded", _draw(bit=lambda a, u: (a > 0).to(u)),
              _draw(bit=lambda a, u: a.sigmoid().round()),
              says="You took the more probable value, on where σ(a) is above ½. Nothing is drawn: all "
                   "pictures are the same.",
              hint="Where do you use `uniforms`?"),
        wrong("probabilities for draws", _draw(bit=lambda a, u: a.sigmoid()), _probabilities_at_the_end,
              says="Your pixels are probabilities. A pixel is 0 or 1, and the pixels after it must see "
                   "which.",
              hint="Has the network ever seen a pixel of 0.3?"),
        wrong("drawn the wrong way round", _draw(bit=lambda a, u: (u > a.sigmoid()).to(u)),
              _draw(bit=lambda a, u: (u < (-a).sigmoid()).to(u)),
              _draw(bit=lambda a, u: (u > 1 - a.sigmoid()).to(u)),
              says="The comparison does not say on where `uniforms` is below the probability: it is turned "
                   "round (or 1 − p, or 1 − u, came in).",
              hint="With probability 1, is your pixel on?"),
        wrong("sigmoid forgotten", _draw(bit=lambda a, u: (u < a).to(u)),
              says="You compared with the logit. The probability is its sigmoid.",
              hint="What is the probability of a pixel whose logit is −0.5?"),
        wrong("sigmoid applied twice", _draw(bit=lambda a, u: (u < a.sigmoid().sigmoid()).to(u)),
              says="The sigmoid was applied twice: all probabilities lie between 0.5 and 0.73.",
              hint="What does `logits` give, and what is the sigmoid of it?"),
        wrong("the chance of another pixel", _draw(chance=lambda u, t, d: u[:, t]),
              says="You took the uniform numbers in the order of drawing, `uniforms[:, t]`. Pixel d has "
                   "`uniforms[:, d]`. (The law is the same; this picture is another.)",
              hint="Which index does the statement give?", credit=0.5),
        wrong("one chance for all pixels", _draw(chance=lambda u, t, d: u[:, 0]),
              _draw(chance=lambda u, t, d: u[:, -1]),
              says="All pixels of a picture use the same uniform number. Each draw needs its own.",
              hint="Which of the two indices of `uniforms` changes in your loop?"),
        wrong("one chance for all pictures", _draw(chance=lambda u, t, d: u[0, d]),
              says="All pictures use the numbers of the first: they are all the same.",
              hint="uniforms is (count, D). Which of its dimensions did you index?"),
        wrong("one logit for all pictures", _of_first_picture,
              says="All pictures are drawn with the logits of the first. From the second pixel on, each has "
                   "its own.",
              hint="`logits(x)` is (count, D). Which of its dimensions did you index?"),
        wrong("columns in the order of drawing", _draw(after=lambda x, order: x[:, order]),
              _draw(after=lambda x, order: x[:, order.argsort()]),
              says="The right draws, and then the columns were sorted by the ordering (or back). Column d is "
                   "pixel d.",
              hint="Where did you write pixel d when it was drawn?"),
        wrong("the first pixel left out", _draw(lambda order: order.tolist()[1:]),
              says="The first pixel of the ordering was never drawn: its law is σ of its bias, and not 0.",
              hint="Where does your loop begin?"),
        wrong("the last pixel left out", _draw(lambda order: order.tolist()[:-1]),
              says="The last pixel of the ordering was never drawn.",
              hint="How many turns does your loop take?"),
        wrong("bits of −1 and 1", _draw(bit=lambda a, u: 2 * _bit(a, u) - 1),
              says="Your pixels are −1 and 1. Here they are 0 and 1, and the network has learnt them so.",
              hint="What does a pixel that is off add to the logits?"),
        wrong("pixels inverted", _draw(after=lambda x, order: 1 - x),
              says="Every pixel is the opposite of what was drawn.",
              hint="1 if below, 0 if not."),
        wrong(OWN_CHANCE, *(_draw(chance=_fresh(seed)) for seed in (0, 1, 42)),
              says="You drew random numbers of your own. The chance is given in `uniforms`, so that your "
                   "answer can be compared.",
              hint="Which of the arguments did you not use?", credit=0.25),
    ),
    teaching_notes="Ask for the cost: D passes for a picture, one for its likelihood. Then ask which of the "
                   "wrong loops a natural ordering would hide, and why the pictures of a bad loop do not "
                   "look wrong at once: how often each pixel is on may be nearly right, and what goes "
                   "together with what is not.")
def ancestral_sample(logits, order: torch.Tensor,
                     uniforms: torch.Tensor) -> torch.Tensor:
    """Pictures drawn pixel by pixel, in the ordering's order.

    logits: a function, pictures (count, D) to logits (count, D);
    order: (D,), the pixels in the order in which they come, from 0;
    uniforms: (count, D), the chance of each pixel; returns (count, D) of 0 and 1.
    """
    x = torch.zeros_like(uniforms)
    for d in order:
        probability = torch.sigmoid(logits(x)[:, d])
        x[:, d] = (uniforms[:, d] < probability).to(x.dtype)
    return x


EXERCISES = (normalised_proof, paths_proof, masks_from_degrees, log_likelihood, lost_proof, mixture_proof,
             ensemble_log_prob, ancestral_sample)
_help = Help(EXERCISES)
hint, solution = _help.hint, _help.solution
