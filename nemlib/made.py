"""Masked autoencoders for distribution estimation: an autoencoder whose masks make its outputs a law.

The file reads as chapter 6 does: degrees and masks, and what they connect; laws of one value given the values
before it; how values are coded as inputs; the masked network with its exact log-likelihood, mixtures over
orderings, sampling and completion; and at the end learning.

    generator = torch.Generator().manual_seed(0)
    made = MADE(784, [500], generator, order="random")
    learner = MADELearner(made, torch.optim.Adam(made.parameters(), 1e-3, fused=True))
    train(learner, binary_images, TrainingSettings(epochs=20, batch_size=100))
    print(made.log_prob(test_images).mean())                # nats, exactly

Sources: Germain, Gregor, Murray and Larochelle (2015) for the masks, the ensembles of orderings and the
likelihood; Uria, Murray and Larochelle (2014) for training over orderings; Salimans et al. (2017) for the
discretised logistic mixture.

D is the number of dimensions (pixels), and x (batch, D) holds values 0, …, k − 1, as floating-point numbers or
integers. Everything that begins with log_ is in nats.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import get_ema_multi_avg_fn

from nemlib.evaluate.likelihood import log_mean_exp
from nemlib.training import Context, Learner

__all__ = ["Bernoulli", "Categorical", "Connectivity", "LogisticMixture", "MADE", "MADELearner", "MaskedLinear",
           "connectivity", "encode", "even_degrees", "uniform_degrees"]

CODINGS = ("integers", "scaled", "one-hot")
DEGREES = ("even", "shuffled", "uniform")
LOG_SCALES = (-7.0, 30.0)           # a logistic law narrower than 1/1000 of the range gains nothing, nor a wider one


# --- degrees, and the masks that follow from them ------------------------------------------------------------


def even_degrees(dimensions: int, width: int) -> Tensor:
    """Degrees of a hidden layer spread evenly over 1, …, D − 1: m(j) = 1 + ⌊(j − 1)(D − 1) / H⌋.

    (width,) int64, in ascending order. With H ≥ D − 1 each degree is there. Equation eq-made-even.
    """
    return 1 + torch.arange(width) * (dimensions - 1) // width


def uniform_degrees(dimensions: int, width: int, generator: torch.Generator, least: int = 1) -> Tensor:
    """Degrees of a hidden layer, each drawn from `least`, …, D − 1 with one probability.

    (width,) int64. `least` is the smallest degree of the layer before: a smaller one would see nothing.
    """
    return torch.randint(least, max(dimensions, least + 1), (width,), generator=generator)


@dataclass(frozen=True, eq=False)
class Connectivity:
    """Who may see whom: an ordering of the D inputs, and a degree for each hidden unit.

    order: (D,) int64, order[t] is the input that comes at place t, counted from 0.
    degrees: one tensor a hidden layer, (width,) int64, entries in 1, …, D − 1: a unit of degree m sees the
        inputs at the first m positions, and no other.
    Raises ValueError for an order that is no permutation and for degrees outside of their range.
    """

    order: Tensor
    degrees: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        check_order(self.order)
        largest = max(1, len(self.order) - 1)
        for layer, degrees in enumerate(self.degrees, 1):
            if degrees.dim() != 1 or not len(degrees) or degrees.min() < 1 or degrees.max() > largest:
                raise ValueError(f"Degrees are one vector a hidden layer, of whole numbers from 1 to {largest} "
                                 f"for {len(self.order)} inputs; layer {layer} has others.")

    @property
    def dimensions(self) -> int:
        return len(self.order)

    @property
    def position(self) -> Tensor:
        """o(d): the position of each input in the ordering, (D,) int64, counted from 1."""
        return torch.argsort(self.order) + 1

    def masks(self) -> list[Tensor]:
        """The masks from the inputs upwards, the last that of the outputs: bool, (receiving, sending).

        Equations eq-made-hidden-mask, eq-made-deep-masks and eq-made-output-mask.
        """
        position = self.position
        senders = [position, *self.degrees]
        hidden = [degrees[:, None] >= below for degrees, below in zip(self.degrees, senders)]
        return [*hidden, position[:, None] > senders[-1]]

    def direct(self) -> Tensor:
        """The mask of direct connections from inputs to outputs, (D, D) bool. Equation eq-made-direct-mask."""
        position = self.position
        return position[:, None] > position

    def paths(self) -> Tensor:
        """N(d, i), the number of paths through hidden units from input i to output d: (D, D) float64.

        Whole numbers, exact below 2⁵³. Equations eq-made-paths and eq-made-deep-paths: the product of the masks.
        """
        product, *others = (mask.double() for mask in self.masks())
        for mask in others:
            product = mask @ product
        return product

    def connected(self) -> Tensor:
        """Whether input i reaches output d: (D, D) bool, rows outputs, columns inputs."""
        product, *others = (mask.float() for mask in self.masks())
        for mask in others:
            product = (mask @ product).clamp_max(1)
        return product > 0

    def lost(self) -> int:
        """How many of the D(D − 1)/2 pairs that the ordering allows have no path."""
        return int((self.direct() & ~self.connected()).sum())

    def staircase(self) -> bool:
        """Whether every mask is closed to the right of a line that only moves right from row to row."""
        return (torch.equal(self.order, torch.arange(self.dimensions))
                and all(bool((degrees.diff() >= 0).all()) for degrees in self.degrees))

    def blind(self) -> Tensor:
        """Outputs that see no input although one comes before them: (D,) bool."""
        return ~self.connected().any(1) & (self.position > 1)


def connectivity(
    dimensions: int, widths: Sequence[int], *, order: str | Tensor | Sequence[int] = "natural",
    degrees: str | Sequence[Tensor] = "even", seed: int = 0,
) -> Connectivity:
    """An ordering and degrees by name, or as given; what is drawn comes from `seed`, the same on every machine.

    widths: hidden units of each layer; without any, outputs see the inputs before them directly.
    order: "natural" (as they are numbered), "random", or a permutation of 0, …, D − 1: which comes first, second, …
    degrees: "even" (`even_degrees`), "shuffled" (the same, handed to the units in random order), "uniform"
        (drawn by `uniform_degrees`), or one vector a layer.
    Raises ValueError for no dimension, a width below 1, a name that is unknown, and as `Connectivity` does.
    """
    if any(number != int(number) or number < 1 for number in (dimensions, *widths)):
        raise ValueError("A MADE has at least one dimension and at least one unit in each hidden layer; "
                         f"{dimensions} dimensions and widths {list(widths)} came.")
    dimensions, widths = int(dimensions), [int(width) for width in widths]
    generator = torch.Generator().manual_seed(seed)
    ordering = torch.randperm(dimensions, generator=generator)      # always: degrees are a seed's, in any ordering
    if isinstance(order, str):
        one_of("order", order, ("natural", "random"))
        if order == "natural":
            ordering = torch.arange(dimensions)
    else:
        ordering = whole_numbers("An ordering", order)
        if ordering.shape != (dimensions,):
            raise ValueError(f"An ordering of {dimensions} inputs names each once, shape ({dimensions},), but "
                             f"{tuple(ordering.shape)} came.")
    if not isinstance(degrees, str):
        layers = tuple(whole_numbers("Degrees", layer) for layer in degrees)
        if [len(layer) for layer in layers] != list(widths):
            raise ValueError(f"Degrees came for layers of {[len(layer) for layer in layers]} units, but the "
                             f"widths are {list(widths)}.")
        return Connectivity(ordering, layers)
    return Connectivity(ordering, drawn_degrees(dimensions, widths, degrees, generator))


def whole_numbers(what: str, numbers: Tensor | Sequence[int]) -> Tensor:
    """The same numbers as int64 on the CPU, a copy. Raises ValueError for fractions."""
    found = torch.as_tensor(numbers).cpu()
    if (found != found.round() if found.is_floating_point() else torch.zeros(0)).any():
        raise ValueError(f"{what} holds whole numbers, but {str(found.tolist())[:80]} came.")
    return found.to(torch.int64, copy=True)


def drawn_degrees(
    dimensions: int, widths: Sequence[int], how: str, generator: torch.Generator
) -> tuple[Tensor, ...]:
    """The degrees of all hidden layers by the name of a rule."""
    one_of("degrees", how, DEGREES)
    layers: list[Tensor] = []
    for width in widths:
        if how == "uniform":
            least = int(layers[-1].min()) if layers else 1
            layers.append(uniform_degrees(dimensions, width, generator, least))
            continue
        even = even_degrees(dimensions, width)
        layers.append(even[torch.randperm(width, generator=generator)] if how == "shuffled" else even)
    return tuple(layers)


def check_order(order: Tensor) -> None:
    """Raises ValueError for anything but a permutation of 0, …, D − 1."""
    if order.dim() != 1 or not torch.equal(order.sort().values, torch.arange(len(order), device=order.device)):
        raise ValueError(f"An ordering names each of the inputs 0, …, {max(0, order.numel() - 1)} once, but "
                         f"{str(order.tolist())[:80]} came.")


def one_of(name: str, value: object, allowed: Sequence[object]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}, but must be one of {', '.join(map(repr, allowed))}.")


# --- laws of one value, given what the network says about it ---------------------------------------------------


@dataclass(frozen=True)
class Bernoulli:
    """0 or 1, with p(1) = σ(a). Equation eq-made-nll."""

    values = 2
    parameters = 1

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        """log p(x_d | x_{<d}), nats. x (…, D), outputs (…, D, 1) → (…, D)."""
        return -F.binary_cross_entropy_with_logits(outputs.squeeze(-1), x, reduction="none")

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draws. (…, D, 1) → (…, D)."""
        mean = self.mean(outputs)
        uniform = torch.rand(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        return (uniform < mean).to(mean.dtype)

    def mean(self, outputs: Tensor) -> Tensor:
        """σ(a), the expectation. (…, D, 1) → (…, D)."""
        return torch.sigmoid(outputs.squeeze(-1))


@dataclass(frozen=True)
class Categorical:
    """One of k values with any probabilities, by a softmax of k logits. Equation eq-made-softmax.

    Raises ValueError for fewer than two values.
    """

    values: int

    def __post_init__(self) -> None:
        check_values(self.values)

    @property
    def parameters(self) -> int:
        return self.values

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        """log p(x_d | x_{<d}), nats. x (…, D), outputs (…, D, k) → (…, D)."""
        return outputs.log_softmax(-1).gather(-1, x.long().unsqueeze(-1)).squeeze(-1)

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draws. (…, D, k) → (…, D)."""
        return draw_index(outputs, generator).to(outputs.dtype)

    def mean(self, outputs: Tensor) -> Tensor:
        """The expectation of the value. (…, D, k) → (…, D)."""
        values = torch.arange(self.values, dtype=outputs.dtype, device=outputs.device)
        return outputs.softmax(-1) @ values


@dataclass(frozen=True)
class LogisticMixture:
    """One of k values in their order: a mixture of logistic laws on the line, cut into k intervals.

    The values lie at −1, …, 1; the outer two intervals reach to infinity. Outputs of a dimension: `components`
    logits of the weights, as many means, as many log scales. Salimans et al. (2017), section 2.1; equation
    eq-made-logistic. Raises ValueError for fewer than two values or no component.
    """

    values: int
    components: int = 1

    def __post_init__(self) -> None:
        check_values(self.values)
        if self.components < 1:
            raise ValueError(f"A mixture has at least one component; {self.components} came.")

    @property
    def parameters(self) -> int:
        return 3 * self.components

    def log_prob(self, x: Tensor, outputs: Tensor) -> Tensor:
        """log p(x_d | x_{<d}), nats. x (…, D), outputs (…, D, 3 · components) → (…, D)."""
        weights, means, log_scales = outputs.chunk(3, -1)
        half, x = 1 / (self.values - 1), x.unsqueeze(-1)
        log_scales = log_scales.clamp(*LOG_SCALES)
        centre = (2 * half * x - 1 - means) * (-log_scales).exp()
        width = half * (-log_scales).exp()
        below, above = F.logsigmoid(centre + width), F.logsigmoid(width - centre)
        # σ(b) − σ(a) = σ(b) σ(−a) (1 − e^(a − b)), which loses no digits where both are near 0 or 1
        inside = below + above + torch.log(-torch.expm1(-2 * width))
        log_mass = torch.where(x < 0.5, below, torch.where(x > self.values - 1.5, above, inside))
        return (weights.log_softmax(-1) + log_mass).logsumexp(-1)

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draws: a component, a logistic number, its nearest value. (…, D, 3 · components) → (…, D)."""
        weights, means, log_scales = outputs.chunk(3, -1)
        chosen = draw_index(weights, generator).unsqueeze(-1)
        mean, scale = (part.gather(-1, chosen).squeeze(-1) for part in (means, log_scales.clamp(*LOG_SCALES).exp()))
        uniform = torch.rand(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        drawn = mean + scale * torch.logit(uniform.clamp(1e-7, 1 - 1e-7))
        return ((drawn + 1) / 2 * (self.values - 1)).round().clamp(0, self.values - 1)

    def mean(self, outputs: Tensor) -> Tensor:
        """The expectation of the value. (…, D, 3 · components) → (…, D)."""
        values = torch.arange(self.values, dtype=outputs.dtype, device=outputs.device)
        every = values.expand(*outputs.shape[:-1], -1)      # (…, D, k)
        log_probs = self.log_prob(every, outputs.unsqueeze(-2).expand(*every.shape, -1))
        return log_probs.exp() @ values


Law = Bernoulli | Categorical | LogisticMixture


def draw_index(logits: Tensor, generator: torch.Generator) -> Tensor:
    """One index from each softmax: (…, k) → (…) int64. The largest of logits + Gumbel noise has that law."""
    uniform = torch.rand(logits.shape, generator=generator, dtype=logits.dtype, device=logits.device)
    tiny = torch.finfo(logits.dtype).tiny
    return (logits - (-uniform.clamp_min(tiny).log()).clamp_min(tiny).log()).argmax(-1)


def check_values(values: int) -> None:
    if values < 2:
        raise ValueError(f"A law of whole numbers needs at least two values; {values} came.")


def encode(x: Tensor, values: int, coding: str, dtype: torch.dtype | None = None) -> Tensor:
    """Values 0, …, k − 1 as inputs of a network: (batch, D) → (batch, D · numbers a dimension).

    coding: "integers", the values as they are; "scaled", spread over −1, …, 1; "one-hot", k numbers a dimension,
    of which the value's own is 1. Equations eq-made-one-hot and eq-made-scaled.
    Raises ValueError for another name.
    """
    one_of("coding", coding, CODINGS)
    dtype = dtype or (x.dtype if x.is_floating_point() else torch.get_default_dtype())
    if coding == "one-hot":
        return (x.unsqueeze(-1) == torch.arange(values, device=x.device)).to(dtype).flatten(1)
    return x.to(dtype) if coding == "integers" else x.to(dtype) * (2 / (values - 1)) - 1


# --- the masked network ------------------------------------------------------------------------------------------


class MaskedLinear(nn.Module):
    """y = b + (W ⊙ M) x. The mask multiplies the weights in every pass and is never written into them.

    (batch, inputs) → (batch, outputs). Weights and biases begin uniform within ±1/√inputs, from `generator`;
    the mask, a buffer of the weights' type and shape, begins as ones and is not part of a checkpoint.
    Equation eq-made-network.
    """

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator, *, bias: bool = True,
                 dtype: torch.dtype | None = None) -> None:
        super().__init__()
        how = {"dtype": dtype, "device": generator.device}
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, **how).uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.empty(outputs, **how).uniform_(-bound, bound, generator=generator)) \
            if bias else None
        self.register_buffer("mask", torch.ones(outputs, inputs, **how), persistent=False)
        self.steps: tuple[Step, ...] = ()

    def put_on(self, mask: Tensor, staircase: bool = False) -> None:
        """Take another mask, (outputs, inputs) of any type; staircase: it is one, see `Connectivity.staircase`."""
        self.mask.copy_(mask)
        self.steps = steps_of(mask) if staircase else ()

    def masked(self) -> Tensor:
        """W ⊙ M, (outputs, inputs)."""
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.masked(), self.bias)

    def stepwise(self, x: Tensor) -> Tensor:
        """The same, leaving out most of what the mask closes where it is a staircase: half of the work."""
        return MaskedSteps.apply(x, self.weight, self.mask, self.bias, self.steps) if self.steps else self(x)


Step = tuple[int, int, int, int]        # rows from, rows to, how many inputs all of them see, and the last of them
STEPS, SMALLEST = 8, 125            # steps of a staircase, and how many rows each has at least


def steps_of(mask: Tensor) -> tuple[Step, ...]:
    """A staircase cut into steps of about equal height."""
    seen = mask.sum(1, dtype=torch.int64).tolist()
    count = max(1, min(STEPS, len(seen) // SMALLEST))
    edges = [len(seen) * step // count for step in range(count + 1)]
    return tuple((first, last, seen[first], seen[last - 1]) for first, last in zip(edges, edges[1:]))


class MaskedSteps(torch.autograd.Function):
    """b + (W ⊙ M) x for a staircase M, step by step: columns beyond a step's last input are neither multiplied
    nor given a gradient. Follows autocast. Its backward pass has no derivative of its own.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, mask: Tensor, bias: Tensor | None, steps: tuple) -> Tensor:
        device = x.device.type
        casts = torch.is_autocast_enabled(device) and weight.dtype == torch.float32
        number = torch.get_autocast_dtype(device) if casts else weight.dtype
        x, parts = x.to(number), []
        y = x.new_empty(len(x), len(weight))
        for first, last, _, seen in steps:
            parts.append(torch.mul(weight[first:last, :seen], mask[first:last, :seen]).to(number))
            torch.mm(x[:, :seen], parts[-1].mT, out=y[:, first:last])
        ctx.save_for_backward(x, mask, *parts)
        ctx.steps, ctx.biased = steps, bias is not None
        return y if bias is None else y.add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, mask, *parts = ctx.saved_tensors
        below, gradient = ctx.needs_input_grad[0], gradient.to(x.dtype)
        to_x, to_weight = torch.zeros_like(x) if below else None, torch.empty_like(mask)
        for (first, last, open_to_all, seen), part in zip(ctx.steps, parts):
            mine, rows = gradient[:, first:last], to_weight[first:last]
            if x.dtype == mask.dtype:
                torch.mm(mine.mT, x[:, :seen], out=rows[:, :seen])
            else:
                rows[:, :seen] = mine.mT @ x[:, :seen]
            rows[:, open_to_all:seen] *= mask[first:last, open_to_all:seen]
            rows[:, seen:] = 0
            if below:
                to_x[:, :seen].addmm_(mine, part)
        return to_x, to_weight, None, gradient.sum(0, dtype=mask.dtype) if ctx.biased else None, None


class MADE(nn.Module):
    """p(x) = Π_d p(x_d | x_{<d}): all D conditionals from one pass of a masked network.

    dimensions: D. widths: units of each hidden layer. law: of one value (`Bernoulli`, `Categorical`,
        `LogisticMixture`). coding: of the inputs, see `encode`; None: bits as they are, other values one-hot.
    order, degrees, seeds: as for `connectivity`, one set of masks for each seed; a seed's masks are made again
        when it is worn, and not kept. A range of a million seeds costs nothing.
    direct: connections from inputs to outputs past the hidden layers. residual: every hidden layer but the first
        adds to the one before it, which needs equal widths and degrees. labels: number of classes, if the law is
        one given a label. dropout: share of hidden units left out while training.
    generator: draws the first weights.
    Raises ValueError as `connectivity` and `encode` do, for no seed, and for residual layers whose degrees fall.
    Germain et al. (2015); equations eq-made-network and eq-made-chain-order.
    """

    def __init__(
        self, dimensions: int, widths: Sequence[int], generator: torch.Generator, *, law: Law = Bernoulli(),
        coding: str | None = None, order: str | Tensor | Sequence[int] = "natural",
        degrees: str | Sequence[Tensor] = "even", seeds: Sequence[int] = (0,), direct: bool = False,
        residual: bool = False, labels: int = 0, dropout: float = 0.0,
        activation: Callable[[Tensor], Tensor] = F.relu, dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.coding = coding or ("integers" if law.values == 2 else "one-hot")
        one_of("coding", self.coding, CODINGS)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is the share of units left out, in [0, 1), but {dropout} came.")
        if labels < 0:
            raise ValueError(f"labels is the number of classes, 0 for none, but {labels} came.")
        self.dimensions, self.widths, self.law, self.classes = dimensions, tuple(widths), law, labels
        self.order = order if isinstance(order, str) else whole_numbers("An ordering", order)
        self.degrees = degrees if isinstance(degrees, str) else tuple(whole_numbers("Degrees", m) for m in degrees)
        self.seeds, self.residual = whole_seeds(seeds), residual
        self.dropout, self.activation = dropout, activation
        first = self.plan(0)
        inputs = dimensions * (law.values if self.coding == "one-hot" else 1)
        sizes, how = [inputs, *widths], {"dtype": dtype}
        self.hidden = nn.ModuleList(MaskedLinear(below, width, generator, **how)
                                    for below, width in zip(sizes, widths))
        numbers = dimensions * law.parameters
        self.output = MaskedLinear(sizes[-1], numbers, generator, **how)
        self.skip = MaskedLinear(inputs, numbers, generator, bias=False, **how) if direct else None
        if labels:
            self.label_output = nn.Parameter(self.output.weight.new_zeros(labels, numbers))
            if widths:
                self.label_first = nn.Parameter(self.output.weight.new_zeros(labels, widths[0]))
        self.register_buffer("fingerprint", torch.tensor(self._fingerprint()))
        self.register_load_state_dict_pre_hook(check_fingerprint)
        self.wear(first)

    # --- masks -----------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """M, the number of seeds, each with masks of its own."""
        return len(self.seeds)

    def plan(self, index: int) -> Connectivity:
        """The ordering and the degrees of the seed at that index, made anew."""
        return connectivity(self.dimensions, self.widths, order=self.order, degrees=self.degrees,
                            seed=self.seeds[index])

    def plan_with(self, known: Tensor, seed: int = 0) -> Connectivity:
        """Masks whose ordering begins with the known inputs, so that the others can be drawn given them.

        known: (D,) bool. Within both parts the order is that of the masks worn; degrees are drawn from `seed`.
        A network is good in orderings that it has learnt, or in any if it has learnt so many that a new one is no
        surprise. One that has learnt a single ordering, or a few, knows nothing of this one.
        """
        self.check_known(known)
        order = self.connectivity.order
        first = known.cpu()[order]
        return connectivity(self.dimensions, self.widths, order=torch.cat([order[first], order[~first]]),
                            degrees=self.degrees, seed=seed)

    def wear(self, plan: int | Connectivity) -> None:
        """Put on the masks of the seed at that index, or those of a `Connectivity`; weights stay as they are.

        Raises ValueError for an index that no seed has, for masks of other sizes, and for degrees that fall along a
        residual connection.
        """
        if not isinstance(plan, Connectivity):
            if not 0 <= plan < self.count:
                raise ValueError(f"The masks of this MADE are numbered 0 to {self.count - 1}; {plan} was asked for.")
            plan = self.plan(int(plan))
        widths = tuple(len(degrees) for degrees in plan.degrees)
        if (plan.dimensions, widths) != (self.dimensions, self.widths):
            raise ValueError(f"This MADE has {self.dimensions} dimensions and hidden layers of {self.widths}, but "
                             f"the masks that came are for {plan.dimensions} and {widths}.")
        if self.residual and any(len(below) != len(above) or (above < below).any()
                                 for below, above in zip(plan.degrees, plan.degrees[1:])):
            raise ValueError("A residual layer adds unit j to unit j of the layer before, so both layers need one "
                             "width and no smaller degree above: give equal widths, and degrees 'even'.")
        device = self.output.weight.device
        position = plan.position.to(device)
        lowest = self.hidden[0] if self.hidden else self.output
        seen = position.repeat_interleave(lowest.weight.shape[1] // self.dimensions)
        rows = position.repeat_interleave(self.law.parameters)
        senders = [seen, *(degrees.to(device) for degrees in plan.degrees)]
        stairs = plan.staircase()
        for layer, below, degrees in zip(self.hidden, senders, senders[1:]):
            layer.put_on(degrees[:, None] >= below, stairs)
        self.output.put_on(rows[:, None] > senders[-1], stairs)
        if self.skip is not None:
            self.skip.put_on(rows[:, None] > seen, stairs)
        self.connectivity = plan

    def renamed(self, order: Tensor) -> MADE:
        """The same law of the same values under other names: what is input t here is input order[t] there.

        So `made.renamed(order).log_prob(x)` is `made.log_prob(x[:, order])`. It serves learning: a network whose
        ordering is natural costs half as much, so pixels are put in their order first, and back at the end.
        The new network wears the masks of its first seed. Raises ValueError for an order that is no permutation of
        the D inputs, and where the ordering differs from seed to seed.
        """
        check_order(order)
        if len(order) != self.dimensions:
            raise ValueError(f"An order of {self.dimensions} inputs is needed, and one of {len(order)} came.")
        if isinstance(self.order, str) and self.order != "natural":
            raise ValueError("Only a MADE with one ordering, natural or given, can be renamed; this one's is random.")
        other = copy.deepcopy(self)
        before = torch.arange(self.dimensions) if isinstance(self.order, str) else self.order
        other.order = order.cpu()[before]
        if torch.equal(other.order, torch.arange(self.dimensions)):
            other.order = "natural"
        places, numbers = order.to(self.output.weight.device), torch.arange(self.law.parameters)
        rows = (places[:, None] * self.law.parameters + numbers.to(places.device)).flatten()
        each = (self.hidden[0] if self.hidden else self.output).weight.shape[1] // self.dimensions
        columns = (places[:, None] * each + torch.arange(each, device=places.device)).flatten()
        with torch.no_grad():
            for layer in (other.hidden[0] if other.hidden else other.output, other.skip):
                if layer is None:
                    continue
                layer.weight[:, columns] = layer.weight.clone()
            for layer in (other.output, other.skip):
                for tensor in () if layer is None else layer.parameters():
                    tensor[rows] = tensor.clone()
            if self.classes:
                other.label_output[:, rows] = other.label_output.clone()
        other.fingerprint.fill_(other._fingerprint())
        other.wear(0)
        return other

    def _fingerprint(self) -> int:
        """A number that other masks, laws or codings do not share, so that no checkpoint of those is taken."""
        order = self.order if isinstance(self.order, str) else self.order.tolist()
        degrees = self.degrees if isinstance(self.degrees, str) else [layer.tolist() for layer in self.degrees]
        words = repr((int(self.dimensions), [int(width) for width in self.widths], self.law, self.coding, order,
                      degrees, self.seeds, self.residual))
        return int.from_bytes(hashlib.sha256(words.encode()).digest()[:7], "little")

    # --- the law -----------------------------------------------------------------------------------------------

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """What the network says of every dimension, given those before it: (batch, D) → (batch, D, parameters).

        Values are not looked at; `log_prob` checks them.
        """
        return self.network(encode(x, self.law.values, self.coding, self.output.weight.dtype), labels)

    def network(self, inputs: Tensor, labels: Tensor | None = None, training: bool = False) -> Tensor:
        """The same from coded inputs, (batch, D · numbers a dimension).

        training: with units left out, and what the masks close left out of the work where that pays.
        """
        top = self.units(self.first(inputs, labels, training), training) if self.hidden else inputs
        outputs = apply(self.output, top, training)
        if self.skip is not None:
            outputs = outputs + apply(self.skip, inputs, training)
        if labels is not None:
            outputs = outputs + self.label_output[labels.long()]
        return outputs.unflatten(-1, (self.dimensions, self.law.parameters))

    def first(self, inputs: Tensor, labels: Tensor | None = None, training: bool = False) -> Tensor:
        """The first hidden layer before its activation, (batch, width)."""
        below = apply(self.hidden[0], inputs, training)
        return below if labels is None else below + self.label_first[labels.long()]

    def units(self, below: Tensor, training: bool = False) -> Tensor:
        """The last hidden layer, from the first one before its activation."""
        drop = training and self.dropout > 0
        h = F.dropout(self.activation(below), self.dropout, drop)
        for layer in self.hidden[1:]:
            above = F.dropout(self.activation(apply(layer, h, training)), self.dropout, drop)
            h = h + above if self.residual else above
        return h

    def logits(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """a_d, the log odds of x_d = 1 given the pixels before it, (batch, D); of a Bernoulli law alone."""
        if not isinstance(self.law, Bernoulli):
            raise ValueError(f"Only bits have one logit each; this MADE has the law {self.law}: call it for all "
                             "of a dimension's numbers.")
        return self(x, labels).squeeze(-1)

    def log_conditionals(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """log p(x_d | x_{<d}) of every dimension, nats. (batch, D) → (batch, D). Raises ValueError as `check`."""
        self.check(x, labels)
        return self.terms(x, labels)

    def terms(self, x: Tensor, labels: Tensor | None = None, training: bool = False) -> Tensor:
        """`log_conditionals` without looking at the values; training: as in `network`."""
        number = self.output.weight.dtype
        outputs = self.network(encode(x, self.law.values, self.coding, number), labels, training)
        return self.law.log_prob(x.to(number), outputs.to(number))

    def log_prob(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """log p(x) under the masks worn, exactly, nats. (batch, D) → (batch,). Raises ValueError as `check`.

        Equation eq-made-nll.
        """
        return self.log_conditionals(x, labels).sum(-1)

    @torch.no_grad()
    def log_prob_by_mask(self, x: Tensor, labels: Tensor | None = None, plans: int | None = None) -> Tensor:
        """log p_m(x) under each of the first `plans` masks, nats, without a gradient: (batch, D) → (plans, batch).

        plans: None for all. The masks worn before are worn again. Raises ValueError as `check`, and for fewer than
        one set of masks or more than there are.
        """
        plans = self.count if plans is None else plans
        if not 1 <= plans <= self.count:
            raise ValueError(f"This MADE has {self.count} sets of masks, and {plans} of them were asked for.")
        self.check(x, labels)
        worn, found = self.connectivity, []
        try:
            for index in range(plans):
                self.wear(index)
                found.append(self.terms(x, labels).sum(-1))
        finally:
            self.wear(worn)
        return torch.stack(found)

    def ensemble_log_prob(self, x: Tensor, labels: Tensor | None = None, plans: int | None = None) -> Tensor:
        """log (1/M) Σ_m p_m(x), the law that first draws one of the first `plans` masks: (batch,), nats.

        Arguments and errors as in `log_prob_by_mask`. Equations eq-made-ensemble and eq-made-logsumexp.
        """
        return log_mean_exp(self.log_prob_by_mask(x, labels, plans))

    # --- drawing -------------------------------------------------------------------------------------------------

    def sample(self, count: int, generator: torch.Generator, labels: Tensor | None = None) -> Tensor:
        """Independent draws from the law under the masks worn, (count, D), one dimension after another.

        labels: (count,) for a law given labels. Equation eq-made-sampling.
        """
        x = self.output.weight.new_zeros(count, self.dimensions)
        nothing = torch.zeros(self.dimensions, dtype=torch.bool, device=x.device)
        self.check(x, labels)
        return self.draw(x, nothing, generator, labels)

    def complete(
        self, x: Tensor, known: Tensor, generator: torch.Generator, labels: Tensor | None = None
    ) -> Tensor:
        """x with all but the known dimensions drawn given the known ones. x (batch, D), known (D,) bool.

        Raises ValueError as `check`, and where a known dimension comes after an unknown one in the ordering worn:
        then the conditionals at hand are not those that are needed. Equation eq-made-completion.
        """
        self.check_known(known)
        self.check_shape(x)
        known = known.to(x.device)
        x = torch.where(known, x, torch.zeros_like(x)).to(self.output.weight.dtype)
        self.check(x, labels)
        in_order = known[self.connectivity.order.to(known.device)]
        if not in_order.long().diff().le(0).all():
            raise ValueError("What is known must come first in the ordering, and here an unknown dimension comes "
                             "before a known one: wear masks for it, made.wear(made.plan_with(known)).")
        return self.draw(x, known, generator, labels)

    @torch.no_grad()
    def draw(self, x: Tensor, known: Tensor, generator: torch.Generator, labels: Tensor | None) -> Tensor:
        """The unknown dimensions in turn. A pass needs no more than one row of the outputs, and a dimension that
        has been drawn adds its columns to the first layer: nothing else in it changes.
        """
        per, each = self.law.parameters, self.law.values if self.coding == "one-hot" else 1
        x, given = x.clone(), known.tolist()
        inputs = encode(x, self.law.values, self.coding, x.dtype) * known.repeat_interleave(each)
        columns, rows = (self.hidden[0] if self.hidden else self.output).masked(), self.output.masked()
        skips = None if self.skip is None else self.skip.masked()
        below = self.first(inputs, labels) if self.hidden else None
        for d in self.connectivity.order.tolist():
            if given[d]:
                continue
            mine, here = slice(d * per, (d + 1) * per), slice(d * each, (d + 1) * each)
            top = inputs if below is None else self.units(below)
            outputs = F.linear(top, rows[mine], self.output.bias[mine])
            if skips is not None:
                outputs = outputs + F.linear(inputs, skips[mine])
            if labels is not None:
                outputs = outputs + self.label_output[labels.long(), mine]
            x[:, d] = self.law.sample(outputs.to(x.dtype).unsqueeze(-2), generator).squeeze(-1)
            inputs[:, here] = encode(x[:, d:d + 1], self.law.values, self.coding, x.dtype)
            if below is not None:
                below = below + F.linear(inputs[:, here], columns[:, here])
        return x

    # --- what is refused -------------------------------------------------------------------------------------------

    def check(self, x: Tensor, labels: Tensor | None = None) -> None:
        """Raises ValueError for another shape than (batch, D), values other than 0, …, k − 1, and labels that are
        missing, not asked for, of another shape, or none of the classes.
        """
        self.check_shape(x)
        check_whole(x, self.law.values)
        self.check_labels(labels, len(x))

    def check_labels(self, labels: Tensor | None, count: int) -> None:
        if (labels is None) != (not self.classes):
            raise ValueError("This MADE is a law given labels, and none came." if self.classes else
                             "This MADE knows no labels, and some came: build it with labels=….")
        if labels is None:
            return
        if labels.shape != (count,) or labels.is_floating_point() or labels.dtype == torch.bool:
            raise ValueError(f"Labels are whole numbers, one for each example, shape ({count},); "
                             f"{tuple(labels.shape)} of type {labels.dtype} came.")
        if len(labels) and not (labels.min() >= 0 and labels.max() < self.classes):
            raise ValueError(f"Labels are 0 to {self.classes - 1}, but {labels.min()} to {labels.max()} came.")

    def check_shape(self, x: Tensor) -> None:
        if x.dim() != 2 or x.shape[1] != self.dimensions:
            raise ValueError(f"This MADE is for examples of shape (batch, {self.dimensions}), but "
                             f"{tuple(x.shape)} came: flatten images.")

    def check_known(self, known: Tensor) -> None:
        if known.dtype != torch.bool or known.shape != (self.dimensions,):
            raise ValueError(f"known says of each dimension whether it is given: bool, shape ({self.dimensions},); "
                             f"{known.dtype} of shape {tuple(known.shape)} came.")


def apply(layer: MaskedLinear, x: Tensor, training: bool) -> Tensor:
    return layer.stepwise(x) if training else layer(x)


def check_whole(x: Tensor, values: int) -> None:
    """Raises ValueError for values that are not 0, …, k − 1."""
    low, high = (bound.item() for bound in x.aminmax()) if x.numel() else (0, 0)
    if not (low >= 0 and high <= values - 1 and (not x.is_floating_point() or bool((x == x.round()).all()))):
        raise ValueError(f"The values are whole numbers from 0 to {values - 1}, but others came (range {low:g} to "
                         f"{high:g}): binarize grey images, or round them to levels.")


def whole_seeds(seeds: Sequence[int]) -> range | tuple[int, ...]:
    """The seeds in one way of writing them: a range where their steps are equal, else a tuple.

    Raises ValueError for none, and for anything but whole numbers.
    """
    if isinstance(seeds, int) or not len(seeds) or (
            not isinstance(seeds, range) and any(int(seed) != seed for seed in seeds)):
        raise ValueError(f"seeds is a sequence of one or more whole numbers, such as range(8); {seeds!r} came.")
    numbers = seeds if isinstance(seeds, range) else tuple(int(seed) for seed in seeds)
    steps = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    even = range(numbers[0], numbers[0] + steps * len(numbers), steps) if steps else numbers
    return even if isinstance(numbers, range) or tuple(even) == numbers else numbers


def check_fingerprint(made: MADE, state: Mapping[str, Any], prefix: str, *_: Any) -> None:
    found = state.get(prefix + "fingerprint")
    if found is not None and int(found) != int(made.fingerprint):
        raise ValueError("These weights are those of a MADE with another ordering, other degrees, seeds, widths, law "
                         "or coding: build it with the same ones.")


# --- learning --------------------------------------------------------------------------------------------------------


class LearningState(nn.Module):
    """What learning carries from step to step: the network, and its running average if there is one."""

    def __init__(self, made: MADE, averaging: float) -> None:
        super().__init__()
        self.made = made
        if averaging:
            self.averaged = copy.deepcopy(made).requires_grad_(False)
            self.follow = get_ema_multi_avg_fn(averaging)


class MADELearner(Learner):
    """Maximum likelihood by gradient; step t wears the masks of seed t mod M. Equation eq-made-agnostic.

    optimizer: of the network's parameters. Batches are (batch, D), or {"x": …, "labels": …}. binarize: draw 0 or 1
    for each pixel anew in every step, with its grey value as probability. averaging: if not 0, `averaged` follows
    the network as a mean with that decay a step. evaluated: masks in the mixture that an evaluation looks at. Dropout
    is in the loss of a step, and nowhere else.
    scheduler, clip_norm: as in `GradientLearner`. The metric of a step is the loss, −log p(x) in nats, a mean
    over the batch; an evaluation's is "nll", in nats too.
    Raises ValueError for averaging outside of [0, 1), for binarize with other values than bits, for more masks
    evaluated than there are, and in training for values that the law does not have.
    """

    module: LearningState

    def __init__(
        self, made: MADE, optimizer: Optimizer, *, binarize: bool = False, averaging: float = 0.0,
        evaluated: int = 1, scheduler: LRScheduler | None = None, clip_norm: float | None = None,
    ) -> None:
        if not 0 <= averaging < 1:
            raise ValueError(f"averaging is the decay of a mean, in [0, 1), but {averaging} came.")
        if binarize and made.law.values != 2:
            raise ValueError(f"Grey images are drawn as bits, but this MADE's law is {made.law}.")
        if not 1 <= evaluated <= made.count:
            raise ValueError(f"An evaluation looks at 1 to {made.count} sets of masks, but evaluated={evaluated} came.")
        self.module = LearningState(made, averaging)
        self.binarize, self.evaluated, self.clip_norm = binarize, evaluated, clip_norm
        self.optimizers = {"optimizer": optimizer}
        self.schedulers = {} if scheduler is None else {"optimizer": scheduler}
        self.step_loss = self.loss      # may be compiled

    @property
    def made(self) -> MADE:
        return self.module.made

    @property
    def averaged(self) -> MADE:
        """The averaged network where there is one, else the network itself."""
        return getattr(self.module, "averaged", self.module.made)

    def begin_epoch(self, context: Context) -> None:
        if context.epoch == 1:
            self.look_at(context.data)

    def look_at(self, data: Any) -> None:
        """Raises ValueError for data that cannot be learnt from; grey images can where they are drawn as bits."""
        x, labels = self.parts(data)
        if not isinstance(x, Tensor):
            raise ValueError('A MADE learns from a tensor (examples, D), or from {"x": …, "labels": …}.')
        if not self.binarize:
            return self.made.check(x, labels)
        self.made.check_shape(x)
        self.made.check_labels(labels, len(x))
        low, high = (bound.item() for bound in x.aminmax())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"Images to be drawn as bits lie in [0, 1], but their range is {low:g} to {high:g}.")

    def parts(self, batch: Any) -> tuple[Any, Tensor | None]:
        return (batch.get("x"), batch.get("labels")) if isinstance(batch, Mapping) else (batch, None)

    def training_step(self, batch: Any, context: Context) -> Mapping[str, Tensor]:
        x, labels = self.parts(batch)
        if self.made.count > 1:
            self.made.wear(context.step % self.made.count)
        with context.autocast():
            loss = self.step_loss(self.drawn(x, context.generator), labels)
        context.update(self.optimizers["optimizer"], loss, clip_norm=self.clip_norm)
        if hasattr(self.module, "averaged"):
            self.module.follow(list(self.averaged.parameters()), list(self.made.parameters()), None)
        return {"loss": loss.detach()}

    def loss(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """−log p(x), a mean over the batch, nats."""
        return -self.made.terms(x, labels, training=True).sum() / len(x)

    def drawn(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The images with each pixel drawn, or as they are."""
        if not self.binarize:
            return images
        uniform = torch.rand(images.shape, generator=generator, device=images.device)
        return torch.lt(uniform, images, out=uniform)

    def evaluate(self, data: Any, context: Context) -> Mapping[str, Tensor]:
        """−log p(x) of held-out examples under the averaged network, a mean, nats."""
        if data is None:
            return {}
        self.look_at(data)
        x, labels = self.parts(data)
        x, total = self.drawn(x, context.generator), 0.0
        for rows in torch.arange(len(x), device=x.device).split(1000):
            mine = None if labels is None else labels[rows]
            total += self.averaged.ensemble_log_prob(x[rows], mine, self.evaluated).cpu().double().sum()
        return {"nll": -total / len(x)}

    def compile(self, mode: str) -> None:
        self.step_loss: Callable[..., Tensor] = torch.compile(self.loss, mode=mode)
