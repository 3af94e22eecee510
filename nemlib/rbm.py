"""Restricted Boltzmann machines: two layers of binary units, and no edge within a layer.

The file reads as chapter 2 does: energy and joint law; the conditionals, which factorise; the free energy;
the normaliser by enumeration; the gradient of the log-likelihood as data term minus model term; block Gibbs
sampling, in-painting and parallel tempering; log Z by annealed importance sampling; and at the end learning,
by contrastive divergence or with persistent chains.

    generator = torch.Generator().manual_seed(0)
    machine = RBM(784, 500, generator)
    learner = ContrastiveDivergence(machine, persistent=100)
    train(learner, binary_images, TrainingSettings(epochs=10, batch_size=100))

Sources: Smolensky (1986) for the model; Hinton (2002) for contrastive divergence; Tieleman (2008) for
persistent chains; Salakhutdinov and Murray (2008) for log Z by annealed importance sampling.

Visible units v are (batch, visible), hidden units h (batch, hidden), both 0 or 1 as floating-point numbers.
Energies, free energies and everything that begins with log_ are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nemlib.evaluate import ais
from nemlib.training import Context, Learner

__all__ = ["RBM", "ContrastiveDivergence", "Penalties", "Statistics", "base_rate", "bernoulli",
           "enumerate_binary"]

MOST_ENUMERATED = 22        # units: 4 million states
PART = 2**14                # states that are looked at in one go


def enumerate_binary(units: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Every state of so many binary units, (2^units, units), in the order of counting.

    Raises ValueError for a negative number of units, or one above 22.
    """
    if not 0 <= units <= MOST_ENUMERATED:
        raise ValueError(f"The states of 0 to {MOST_ENUMERATED} units can be enumerated; {units} units came.")
    numbers = torch.arange(2**units)[:, None]
    return (numbers >> torch.arange(units - 1, -1, -1) & 1).to(dtype)


def softplus(x: Tensor) -> Tensor:
    """log(1 + eˣ), exact in float64 (PyTorch's own gives x itself above 20, which is 2e-9 off)."""
    return F.softplus(x, threshold=40.0)


def bernoulli(mean: Tensor, generator: torch.Generator) -> Tensor:
    """0 or 1 with P(1) = mean, any shape: a uniform number below the mean, which is three times as fast as
    `torch.bernoulli`.
    """
    uniform = torch.rand(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
    return torch.lt(uniform, mean, out=uniform)


def check_betas(betas: Tensor) -> None:
    if len(betas) < 2 or betas[0] != 0 or betas[-1] != 1 or not (betas.diff() > 0).all():
        raise ValueError("betas go up from 0 to 1, as `ais.temperatures` gives them, and others came.")


def base_rate(v: Tensor, smoothing: float = 1.0) -> Tensor:
    """log odds of each visible unit in the data: but for the smoothing, the best machine's biases if W = 0.

    smoothing: counts added for on and for off. (batch, visible) → (visible,).
    """
    return torch.logit((v.sum(0) + smoothing) / (len(v) + 2 * smoothing))


@dataclass(frozen=True)
class Statistics:
    """What a term of the gradient is made of: means over a batch, or under a law.

    products: E v_i h_j, (visible, hidden). visible: E v_i, (visible,). hidden: E h_j, (hidden,).
    """

    products: Tensor
    visible: Tensor
    hidden: Tensor

    def __sub__(self, other: Statistics) -> Statistics:
        return Statistics(self.products - other.products, self.visible - other.visible,
                          self.hidden - other.hidden)


class RBM(nn.Module):
    """p(v, h) = e^(−E(v, h)) / Z with E(v, h) = −vᵀ W h − aᵀ v − bᵀ h, all units 0 or 1.

    visible, hidden: numbers of units. W is (visible, hidden), a (visible,), b (hidden,). Weights begin as
    N(0, scale²) from `generator`, biases at 0; `set_base_rate` gives a the data's own rates.
    Equations eq-rbm-energy and eq-rbm-joint. Raises ValueError for a layer without units.
    """

    def __init__(
        self, visible: int, hidden: int, generator: torch.Generator, *, scale: float = 0.01,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if visible < 1 or hidden < 1:
            raise ValueError(f"An RBM has units in both layers; {visible} visible and {hidden} hidden came.")
        weights = torch.randn(visible, hidden, generator=generator, dtype=dtype, device=generator.device)
        self.W = nn.Parameter(scale * weights)
        self.a = nn.Parameter(weights.new_zeros(visible))
        self.b = nn.Parameter(weights.new_zeros(hidden))

    @property
    def visible(self) -> int:
        return self.W.shape[0]

    @property
    def hidden(self) -> int:
        return self.W.shape[1]

    # --- the joint law, and one layer given the other ---

    def energy(self, v: Tensor, h: Tensor) -> Tensor:
        """E(v, h), nats. (batch, visible), (batch, hidden) → (batch,). Equation eq-rbm-energy."""
        return -((v @ self.W) * h).sum(-1) - v @ self.a - h @ self.b

    def hidden_given(self, v: Tensor) -> Tensor:
        """P(h_j = 1 | v) = σ(b_j + Σ_i v_i W_ij). (batch, visible) → (batch, hidden). Equation
        eq-rbm-hidden-given.
        """
        return torch.sigmoid(torch.addmm(self.b, v, self.W))

    def visible_given(self, h: Tensor) -> Tensor:
        """P(v_i = 1 | h) = σ(a_i + Σ_j W_ij h_j). (batch, hidden) → (batch, visible). Equation
        eq-rbm-visible-given.
        """
        return torch.sigmoid(torch.addmm(self.a, h, self.W.mT))

    def free_energy(self, v: Tensor) -> Tensor:
        """F(v) = −log Σ_h e^(−E(v, h)) = −aᵀ v − Σ_j log(1 + e^(b_j + Σ_i v_i W_ij)), nats.

        (batch, visible) → (batch,). Equation eq-rbm-free-energy.
        """
        return -v @ self.a - softplus(torch.addmm(self.b, v, self.W)).sum(-1)

    def hidden_free_energy(self, h: Tensor) -> Tensor:
        """The same with the layers exchanged: −log Σ_v e^(−E(v, h)). (batch, hidden) → (batch,)."""
        return -h @ self.b - softplus(torch.addmm(self.a, h, self.W.mT)).sum(-1)

    # --- the normaliser, exactly where a layer is small ---

    def log_z(self) -> Tensor:
        """log Z = log Σ_v Σ_h e^(−E(v, h)), exactly: the smaller layer is enumerated, and the other is summed
        in closed form. Differentiable, (). Equation eq-rbm-log-z.

        Raises ValueError where the smaller layer has more than 22 units.
        """
        marginal = self.hidden_free_energy if self.hidden < self.visible else self.free_energy
        return torch.logsumexp(torch.cat([-marginal(part) for part in self._smaller_states().split(PART)]), 0)

    def log_prob(self, v: Tensor, log_z: Tensor | float | None = None) -> Tensor:
        """log p(v) = −F(v) − log Z, nats; with log Z given where it is known or estimated.

        (batch, visible) → (batch,). Equation eq-rbm-log-prob.
        """
        return -self.free_energy(v) - (self.log_z() if log_z is None else log_z)

    def _smaller_states(self) -> Tensor:
        smaller = min(self.visible, self.hidden)
        if smaller > MOST_ENUMERATED:
            raise ValueError(f"The smaller layer has {smaller} units, and 2^{smaller} states are too many to "
                             "enumerate: estimate log Z by annealed importance sampling, `ais_up`.")
        return enumerate_binary(smaller, self.W.dtype).to(self.W.device)

    # --- the gradient: data term minus model term ---

    def statistics(self, v: Tensor, weights: Tensor | None = None) -> Statistics:
        """E v h, E v and E h over a batch of visible states, with its mean given v in the place of h.

        weights: of the states, (batch,), of sum 1; equal ones if not given. Of the data this is the data
        term, of draws from the machine an estimate of the model term. Equation eq-rbm-gradient.
        """
        weights = v.new_full((len(v),), 1 / len(v)) if weights is None else weights
        h = self.hidden_given(v)
        return Statistics((v * weights[:, None]).mT @ h, weights @ v, weights @ h)

    @torch.no_grad()
    def model_statistics(self) -> Statistics:
        """The model term exactly, by enumerating the smaller layer. Equation eq-rbm-gradient.

        Raises ValueError where the smaller layer has more than 22 units.
        """
        states, log_z = self._smaller_states(), self.log_z()
        if self.visible <= self.hidden:
            return self.statistics(states, (-self.free_energy(states) - log_z).exp())
        products, visible = torch.zeros_like(self.W), torch.zeros_like(self.a)
        weights = (-self.hidden_free_energy(states) - log_z).exp()
        for h, weight in zip(states.split(PART), weights.split(PART)):
            v = self.visible_given(h)
            products += v.mT @ (h * weight[:, None])
            visible += weight @ v
        return Statistics(products, visible, weights @ states)

    @torch.no_grad()
    def likelihood_gradient(self, v: Tensor) -> Statistics:
        """∂/∂W, ∂/∂a and ∂/∂b of the mean log p(v) over a batch, exactly. Equation eq-rbm-gradient."""
        return self.statistics(v) - self.model_statistics()

    # --- block Gibbs sampling ---

    def sample_hidden(self, v: Tensor, generator: torch.Generator) -> Tensor:
        """h ~ p(h | v), all units at once. (batch, visible) → (batch, hidden)."""
        return bernoulli(self.hidden_given(v), generator)

    def sample_visible(self, h: Tensor, generator: torch.Generator) -> Tensor:
        """v ~ p(v | h), all units at once. (batch, hidden) → (batch, visible)."""
        return bernoulli(self.visible_given(h), generator)

    @torch.no_grad()
    def gibbs(self, v: Tensor, steps: int, generator: torch.Generator) -> Tensor:
        """`steps` times h ~ p(h | v) and then v ~ p(v | h). (batch, visible) → (batch, visible)."""
        for _ in range(steps):
            v = self.sample_visible(self.sample_hidden(v, generator), generator)
        return v

    @torch.no_grad()
    def inpaint(
        self, v: Tensor, known: Tensor, sweeps: int, burn_in: int, generator: torch.Generator
    ) -> Tensor:
        """P(v_i = 1 | the known units): Gibbs with the known ones put back after each sweep, averaged.

        v: (batch, visible), of which only the known units are looked at; known: bool, (visible,) or (batch,
        visible). The mean of P(v_i = 1 | h) over `sweeps` sweeps after `burn_in` others, with the known units
        as they came, (batch, visible). Raises ValueError for sweeps < 1, burn_in < 0, a mask not of bool.
        """
        if known.dtype != torch.bool:
            raise ValueError(f"known is a mask, a tensor of bool; one of {known.dtype} came.")
        if sweeps < 1 or burn_in < 0:
            raise ValueError(f"At least 1 sweep after a burn-in of at least 0; {sweeps} and {burn_in} came.")
        state = torch.where(known, v, bernoulli(torch.full_like(v, 0.5), generator))
        total = torch.zeros_like(v)
        for sweep in range(burn_in + sweeps):
            mean = self.visible_given(self.sample_hidden(state, generator))
            state = torch.where(known, v, bernoulli(mean, generator))
            if sweep >= burn_in:
                total += mean
        return torch.where(known, v, total / sweeps)

    # --- the path from a machine without edges: annealed importance sampling, parallel tempering ---

    def tempered_input(self, v: Tensor, beta: float | Tensor) -> Tensor:
        """β (b + vᵀ W): what the hidden units are given at β. (…, visible) → (…, hidden)."""
        return beta * (v @ self.W + self.b)

    def tempered_visible(self, h: Tensor, beta: float | Tensor, base: Tensor) -> Tensor:
        """P(v_i = 1 | h) at β: σ(β (a_i + Σ_j W_ij h_j) + (1 − β) base_i). (…, hidden) → (…, visible)."""
        return torch.sigmoid(beta * (h @ self.W.mT + self.a) + (1 - beta) * base)

    def base_log_z(self, base: Tensor) -> float:
        """log Z at β = 0: hidden units free, visible ones with the biases `base`. (visible,) → nats."""
        return self.hidden * math.log(2) + softplus(base.cpu().double()).sum().item()

    def ais_up(
        self, chains: int, betas: Tensor, base: Tensor, generator: torch.Generator
    ) -> ais.Estimate:
        """log Z by annealed importance sampling from the machine without edges. Equations eq-rbm-ais-path,
        eq-rbm-ais-weight, eq-rbm-ais.

        betas: from 0 to 1, as `ais.temperatures` gives them. base: biases of the visible units at β = 0,
        (visible,), as `base_rate` gives them. On average it lies below the truth.
        Raises ValueError for betas that do not go up from 0 to 1, and for fewer than two chains.
        """
        check_betas(betas)
        base = base.to(self.W)
        start = bernoulli(torch.sigmoid(base).expand(chains, -1), generator)
        log_weights = ais.anneal(start, self._anneal_step(base, generator), betas)
        return ais.estimate(log_weights + self.base_log_z(base))

    def ais_down(
        self, v: Tensor, betas: Tensor, base: Tensor, generator: torch.Generator
    ) -> ais.Estimate:
        """log Z by the way back, from draws v of the machine: on average above the truth, if v is drawn from
        the machine. Chains that have run long give such draws nearly, and the bound nearly. Equation
        eq-rbm-ais-down.

        v: (chains, visible); the rest as for `ais_up`.
        """
        check_betas(betas)
        base = base.to(self.W)
        found = ais.estimate(ais.anneal(v, self._anneal_step(base, generator), betas.flip(0)))
        start = self.base_log_z(base)
        return replace(found, log_z=start - found.log_z, log_weights=start - found.log_weights, way=-1)

    def _anneal_step(self, base: Tensor, generator: torch.Generator) -> ais.Step:
        """From β to the next: what log p(v) unnormalised gains, and one Gibbs sweep there. On the way down
        the sweep comes first (it must leave the law at `before` as it is).
        """
        lean = self.a - base

        def step(v: Tensor, before: float, after: float) -> tuple[Tensor, Tensor]:
            if after < before:
                h = bernoulli(torch.sigmoid(self.tempered_input(v, before)), generator)
                v = bernoulli(self.tempered_visible(h, before, base), generator)
            inputs = torch.addmm(self.b, v, self.W)
            gain = (softplus(after * inputs) - softplus(before * inputs)).sum(1)
            gain += (after - before) * (v @ lean)
            if after > before:
                h = bernoulli(torch.sigmoid(after * inputs), generator)
                v = bernoulli(self.tempered_visible(h, after, base), generator)
            return gain, v

        return step

    @torch.no_grad()
    def tempering(
        self, v: Tensor, betas: Tensor, base: Tensor, steps: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Parallel tempering: a chain at each β, block Gibbs in all, and then an offer to neighbours to swap.

        v: (temperatures, batch, visible); betas: (temperatures,), the last 1; base as for `ais_up`. A swap of
        neighbours is accepted with min(1, p_β(v') p_β'(v) / (p_β(v) p_β'(v'))), pairs (0, 1), (2, 3) … and
        (1, 2), (3, 4) … in turn. Returns the states after `steps` sweeps, and at each sweep those at β = 1,
        (steps, batch, visible). Equation eq-rbm-swap.
        """
        base, beta = base.to(self.W), betas.to(self.W)[:, None, None]
        kept = v.new_empty(steps, *v.shape[1:])
        for step in range(steps):
            h = bernoulli(torch.sigmoid(self.tempered_input(v, beta)), generator)
            v = self._swap(bernoulli(self.tempered_visible(h, beta, base), generator), beta, base, step % 2,
                           generator)
            kept[step] = v[-1]
        return v, kept

    def _swap(self, v: Tensor, beta: Tensor, base: Tensor, first: int, generator: torch.Generator) -> Tensor:
        """Offer each pair of neighbours from `first` on to exchange their states."""
        pairs = (len(v) - first) // 2
        if not pairs:
            return v
        low, high = slice(first, first + 2 * pairs, 2), slice(first + 1, first + 2 * pairs, 2)
        inputs, lean, rest = v @ self.W + self.b, v @ (self.a - base), v @ base

        def log_f(which: slice, at: slice) -> Tensor:
            return rest[which] + beta[at, :, 0] * lean[which] + softplus(beta[at] * inputs[which]).sum(-1)

        gain = log_f(high, low) + log_f(low, high) - log_f(low, low) - log_f(high, high)
        drawn = torch.rand(gain.shape, generator=generator, dtype=gain.dtype, device=gain.device)
        swap = (drawn.log() < gain)[..., None]
        swapped = v.clone()
        swapped[low], swapped[high] = torch.where(swap, v[high], v[low]), torch.where(swap, v[low], v[high])
        return swapped

    # --- what a fresh machine begins with, and what it refuses ---

    @torch.no_grad()
    def set_base_rate(self, v: Tensor, smoothing: float = 1.0) -> None:
        """Set a to `base_rate`. Raises ValueError as `check` does."""
        self.check(v)
        self.a.copy_(base_rate(v, smoothing))

    def check(self, v: Tensor) -> None:
        """Raises ValueError for visible states of another width or type of number, an empty batch, or values
        other than 0 and 1 (NaN among them).
        """
        if v.dim() != 2 or v.shape[1] != self.visible:
            raise ValueError(f"Visible states have shape (batch, {self.visible}); {tuple(v.shape)} came: "
                             "flatten the images, or take an RBM of their size.")
        if v.dtype != self.W.dtype:
            raise ValueError(f"The machine computes in {self.W.dtype}, and {v.dtype} came: convert the states "
                             f"with .to({self.W.dtype}).")
        if not len(v):
            raise ValueError("An empty batch came: give at least one visible state.")
        # v − v² is 0 at 0 and 1 only, and nan at nan; in portions that stay in a processor's cache
        if not all((torch.addcmul(part, part, part, value=-1).abs_().max() == 0) for part in v.split(500)):
            raise ValueError("Visible units are 0 or 1, and other values (or NaN) came: binarize the images "
                             "first, with `nemlib.data.binarize`.")


# --- Learning: contrastive divergence, persistent chains ----------------------------------------------------


@dataclass(frozen=True)
class Penalties:
    """What may be added to the gradient; nothing by default.

    weight_decay: λ of −λ W. sparsity_cost, sparsity_target: −cost (q_j − target) on b_j, with q_j the mean of
    P(h_j = 1 | v) over the batch (Hinton 2010, section 11).
    """

    weight_decay: float = 0.0
    sparsity_cost: float = 0.0
    sparsity_target: float = 0.05


class LearningState(nn.Module):
    """What learning carries from step to step: the machine, the persistent chains, the averaged machine."""

    def __init__(self, machine: RBM, chains: int, averaging: float) -> None:
        super().__init__()
        self.machine = machine
        if chains:
            self.register_buffer("chains", machine.W.new_zeros(chains, machine.visible))
            self.register_buffer("chains_h", machine.W.new_zeros(chains, machine.hidden))
        if averaging:
            self.averaged = AveragedModel(machine, multi_avg_fn=get_ema_multi_avg_fn(averaging))


class ContrastiveDivergence(Learner):
    """Learning along an estimate of the gradient: data term minus the statistics of chains after k sweeps.

    CD-k: the chains begin at the batch (Hinton 2002). PCD-k: that many `persistent` chains go on from where
    the last update left them, with the h of that update (Tieleman 2008). Batches are (batch, visible) of 0 and 1.

    learning_rate: constant, or falling linearly to 0 over so many `steps` if they are given. momentum: of the
    update. centred: the gradient about the batch's mean activities (Melchior, Fischer and Wiskott 2016).
    averaging: if not 0, `averaged` follows the machine as a mean with that decay a step.
    The chains and the averaged machine are part of a checkpoint. Equations eq-rbm-cd and eq-rbm-pcd.
    Raises ValueError for k < 1, a negative number of chains, an averaging outside of [0, 1), steps < 1.
    """

    module: LearningState

    def __init__(
        self, machine: RBM, *, k: int = 1, persistent: int = 0, learning_rate: float = 0.05,
        steps: int | None = None, momentum: float = 0.0, penalties: Penalties = Penalties(),
        centred: bool = False, averaging: float = 0.0,
    ) -> None:
        if k < 1 or persistent < 0 or not 0 <= averaging < 1:
            raise ValueError(f"k is at least 1, the number of chains at least 0 and averaging in [0, 1); {k}, "
                             f"{persistent} and {averaging} came.")
        if steps is not None and steps < 1:
            raise ValueError(f"The learning rate falls over at least 1 step; {steps} came.")
        self.module = LearningState(machine, persistent, averaging)
        self.k, self.persistent, self.penalties, self.centred = k, persistent, penalties, centred
        optimizer = torch.optim.SGD(machine.parameters(), learning_rate, momentum=momentum)
        self.optimizers = {"sgd": optimizer}
        if steps is not None:
            self.schedulers = {"sgd": LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))}

    @property
    def machine(self) -> RBM:
        return self.module.machine

    @property
    def averaged(self) -> RBM:
        """The averaged machine where there is one, else the machine itself."""
        return self.module.averaged.module if hasattr(self.module, "averaged") else self.module.machine

    def begin_epoch(self, context: Context) -> None:
        if context.epoch > 1:
            return
        if not isinstance(context.data, Tensor):
            raise ValueError("An RBM learns from one tensor of visible states, (batch, visible): give the "
                             "images, flattened.")
        self.machine.check(context.data)
        if self.persistent:
            rows = torch.randint(len(context.data), (self.persistent,), generator=context.generator,
                                 device=context.device)
            self.module.chains.copy_(context.data[rows])
            with torch.no_grad():
                self.module.chains_h.copy_(self.machine.sample_hidden(self.module.chains, context.generator))

    @torch.no_grad()
    def training_step(self, batch: Tensor, context: Context) -> Mapping[str, Tensor]:
        v, h = self.states(batch, context)
        self.update(v, h, len(batch), context)
        if hasattr(self.module, "averaged"):
            self.module.averaged.update_parameters(self.machine)
        return {"visible_gap": self.machine.a.grad.abs().mean(), "hidden_activity": h[:len(batch)].mean()}

    def states(self, batch: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """The batch and below it the chains after k sweeps, and P(h = 1 | v) of all rows.

        Persistent chains keep h between updates and begin with v ~ p(v | h): so one product gives P(h = 1 | v)
        of data and chains together. CD's chains begin at the data's own h.
        """
        machine, generator = self.machine, context.generator
        data_h = None if self.persistent else machine.hidden_given(batch)
        h = context.local(self.module.chains_h) if self.persistent else bernoulli(data_h, generator)
        v = machine.gibbs(machine.sample_visible(h, generator), self.k - 1, generator)
        states = torch.cat([batch, v])
        if not self.persistent:
            return states, torch.cat([data_h, machine.hidden_given(v)])
        h = machine.hidden_given(states)
        self.module.chains.copy_(context.gather(v))
        self.module.chains_h.copy_(context.gather(bernoulli(h[len(batch):], generator)))
        return states, h

    def update(self, v: Tensor, h: Tensor, count: int, context: Context) -> None:
        """Move the machine along `gradients(v, h, count)`.

        Where the update of W is its gradient and nothing else (no momentum, one process), the product is
        added to W in place and the optimizer moves a and b only, so that no pass over W is spent on a
        gradient; the numbers are the same but for rounding.
        """
        machine, optimizer = self.machine, self.optimizers["sgd"]
        group = optimizer.param_groups[0]
        if group["momentum"] or context.processes > 1:
            context.update(optimizer, gradients=self.gradients(v, h, count))
            return
        left, right, a, b = self.terms(v, h, count)
        machine.W.grad = None       # another's gradient must not be climbed
        machine.W.addmm_(left.mT, right, beta=1 - group["lr"] * self.penalties.weight_decay, alpha=-group["lr"])
        context.update(optimizer, gradients={machine.a: a, machine.b: b})

    def gradients(self, v: Tensor, h: Tensor, count: int) -> dict[nn.Parameter, Tensor]:
        """What an optimizer that descends is given: model term − data term, plus the penalties.

        v, h: (rows, …), the first `count` rows of the data and the others of the chains.
        """
        machine = self.machine
        left, right, a, b = self.terms(v, h, count)
        W = left.mT @ right
        if self.penalties.weight_decay:
            W.add_(machine.W, alpha=self.penalties.weight_decay)
        return {machine.W: W, machine.a: a, machine.b: b}

    def terms(self, v: Tensor, h: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Two factors whose product leftᵀ right is the gradient of W without decay, and those of a and b.

        Both terms are one product, with weight −1/count for a row of the data and 1/chains for one of the
        chains: left (rows, visible), right (rows, hidden).
        """
        chains, penalties = len(v) - count, self.penalties
        weights = torch.cat([v.new_full((count,), -1 / count), v.new_full((chains,), 1 / chains)])
        a, b, active = weights @ v, weights @ h, h[:count].mean(0)
        if self.centred:
            middle = v[:count].mean(0)
            v, h = v - middle, h - active
            a -= v.mT @ (weights * (h @ active))
            b -= h.mT @ (weights * (v @ middle))
        if penalties.sparsity_cost:
            b += penalties.sparsity_cost * (active - penalties.sparsity_target)
        return v, h.mul(weights[:, None]), a, b

    def evaluate(self, data: Tensor | None, context: Context) -> Mapping[str, Tensor]:
        """Of the averaged machine: mean free energy (nats) and reconstruction error on held-out states.

        The reconstruction error is Σ_i (v_i − P(v_i = 1 | h))² with h ~ p(h | v), a mean over the states.
        """
        if data is None:
            return {}
        self.machine.check(data)
        machine = self.averaged
        again = machine.visible_given(machine.sample_hidden(data, context.generator))
        return {"free_energy": machine.free_energy(data).mean(),
                "reconstruction_error": (data - again).square().sum(1).mean()}

    def picture(self, context: Context) -> Tensor | None:
        """What 64 chains are about: P(v = 1) given their mean hidden activities. The persistent chains where
        there are some, else chains after 200 sweeps from noise. (64, side, side); None for other shapes.
        """
        machine = self.averaged
        side = math.isqrt(machine.visible)
        if side * side != machine.visible:
            return None
        if self.persistent:
            v = self.module.chains[:64]
        else:
            noise = torch.full((64, machine.visible), 0.5, dtype=machine.W.dtype, device=machine.W.device)
            v = machine.gibbs(bernoulli(noise, context.generator), 200, context.generator)
        return machine.visible_given(machine.hidden_given(v)).unflatten(1, (side, side))
