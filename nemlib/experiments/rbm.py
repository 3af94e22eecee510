"""Chapter 2's recorded runs: RBMs with 500 hidden units on binarized MNIST, and their likelihood by AIS.

    from nemlib.experiments import rbm as recorded
    machine = recorded.trained("rbm-mnist", "full")       # the machine of a recorded run, an nemlib.rbm.RBM
    fantasies = recorded.chains("rbm-mnist", "full")      # its persistent chains at the end, (100, 784)
    curves = recorded.curves("rbm-mnist", "full")         # {"valid_log_likelihood": (steps, values), …}

Each run keeps the curves of its evaluations and the machine of the highest validation log-likelihood. What
is measured and shipped is that machine with its numbers rounded to half precision.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nemlib import data
from nemlib.evaluate import ais
from nemlib.experiments import results
from nemlib.experiments.experiment import Built, Experiment, generator
from nemlib.experiments.record import Record
from nemlib.experiments.results import Metric
from nemlib.rbm import RBM, ContrastiveDivergence, LearningState, Penalties, base_rate
from nemlib.training import Context, TrainingSettings

CURVES = ("valid_log_likelihood", "train_log_likelihood", "log_z", "reconstruction_error")
PARAMETERS = ("W", "a", "b")
WORDS = {"train": "training", "valid": "validation", "test": "test"}


# --- Settings -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """The RBM: 784 visible units, one a pixel."""

    hidden: int = 500


@dataclass(frozen=True)
class Digits:
    """Data: binary MNIST. binarization: "fixed" is Larochelle's, which is fetched; a number is the seed of a
    draw of our own, with the last 10,000 training images kept for validation. With 60,000 training images
    the validation images are among them, and the machine of the end is kept.
    """

    binarization: str | int = "fixed"
    training_images: int = 50_000
    validation_images: int = 10_000
    test_images: int = 10_000


@dataclass(frozen=True)
class Learning:
    """Learning: chains that are persistent, or begin at the batch where `persistent` is 0."""

    k: int = 1
    persistent: int = 200
    epochs: int = 15
    batch_size: int = 200
    learning_rate: float = 0.4              # falls linearly to 0
    momentum: float = 0.0
    weight_decay: float = 1e-3
    centred: bool = True
    averaging: float = 0.998                # decay a step of the averaged machine


@dataclass(frozen=True)
class Likelihood:
    """Evaluation: log Z by annealed importance sampling from the base rates of the training images."""

    every: int = 3                          # epochs between looks at the validation images
    quick_chains: int = 100                 # for those looks
    quick_temperatures: int = 1_000
    chains: int = 100                       # at the end
    temperatures: int = 14_500
    more: int = 10                          # times the temperatures, to see whether the estimate stays
    burn_in: int = 1_000                    # sweeps of the chains before the way back begins at them


@dataclass(frozen=True)
class Settings:
    machine: Machine = Machine()
    digits: Digits = Digits()
    learning: Learning = Learning()
    likelihood: Likelihood = Likelihood()


SMOKE = Settings(
    Machine(hidden=10), Digits(0, 200, 50, 50), Learning(persistent=20, epochs=2, batch_size=50),
    Likelihood(every=1, quick_chains=10, quick_temperatures=10, chains=10, temperatures=20, more=2, burn_in=5))
OWN = Digits(0)                             # what a machine without a network can draw
QUICK = Likelihood(temperatures=3_000)
# Many epochs want smaller steps: those of the book's preset drift away into large weights.
LONG = Learning(epochs=250, learning_rate=0.1, weight_decay=6e-4)

PERSISTENT = {
    "smoke": SMOKE,
    "book": Settings(digits=OWN, likelihood=QUICK),
    "full": Settings(learning=LONG, likelihood=Likelihood(every=10)),
}
# The same on all 60,000 training images, as published machines are, which need less decay.
ALL = {
    "smoke": SMOKE,
    "book": Settings(digits=Digits(0, 60_000), likelihood=QUICK),
    "full": Settings(digits=Digits(training_images=60_000), learning=replace(LONG, weight_decay=4e-4),
                     likelihood=Likelihood(every=25)),
}


def contrastive(k: int) -> dict[str, Settings]:
    """The presets of contrastive divergence with k sweeps: the same data, updates and learning rates."""
    return {
        "smoke": Settings(SMOKE.machine, SMOKE.digits, Learning(k=k, persistent=0, epochs=2, batch_size=50),
                          SMOKE.likelihood),
        "book": Settings(digits=OWN, learning=Learning(k=k, persistent=0), likelihood=QUICK),
        "full": Settings(learning=replace(LONG, k=k, persistent=0), likelihood=Likelihood(every=10)),
    }


# --- The learner: training that keeps its curves and its best machine ---------------------------------------


class RecordedState(LearningState):
    """`LearningState` with the record of its evaluations and the best machine so far."""

    def __init__(self, machine: RBM, chains: int, averaging: float, evaluations: int) -> None:
        super().__init__(machine, chains, averaging)
        self.best = copy.deepcopy(machine).requires_grad_(False)
        self.record = Record(evaluations, CURVES)

    def shipped(self) -> dict[str, Tensor]:
        """The best machine in half precision, the chains as bytes, and the curves."""
        tensors = {f"best.{name}": getattr(self.best, name).detach().half() for name in PARAMETERS}
        if hasattr(self, "chains"):
            tensors["chains"] = self.chains.to(torch.uint8)
        return tensors | {f"record.{name}": value for name, value in self.record.state_dict().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Takes what a checkpoint holds, or what `shipped` gives: then every machine is the best one."""
        if "best.W" in state_dict and "machine.W" not in state_dict:
            others = [name for name in self.state_dict() if name not in state_dict]
            of_best = {name: f"best.{name.rsplit('.', 1)[-1]}" for name in others}
            state_dict = {**state_dict, **{name: state_dict.get(best, self.state_dict()[name])
                                           for name, best in of_best.items()}}
        return super().load_state_dict(state_dict, strict, assign)


class RecordedLearning(ContrastiveDivergence):
    """`ContrastiveDivergence` that looks at the likelihood of held-out images, and keeps the best machine.

    base: log odds of the training images' units, where annealing begins, (visible,); sample: training images
    whose likelihood is looked at as well; keep_last: keep the newest machine instead of the best; the rest as
    for `ContrastiveDivergence`.
    """

    module: RecordedState

    def __init__(
        self, machine: RBM, likelihood: Likelihood, sample: Tensor, evaluations: int, keep_last: bool,
        **options: Any,
    ) -> None:
        super().__init__(machine, **options)
        self.likelihood, self.sample, self.keep_last, self.at = likelihood, sample, keep_last, 0
        self.base = machine.a.detach().clone()
        self.module = RecordedState(machine, self.persistent, options["averaging"], evaluations)

    def training_step(self, batch: Tensor, context: Context) -> Mapping[str, Tensor]:
        self.at = context.step
        return super().training_step(batch, context)

    def evaluate(self, data: Tensor | None, context: Context) -> Mapping[str, Tensor]:
        """Mean log-likelihood, nats, of the averaged machine on held-out and on some training images."""
        if data is None:
            return {}
        found, machine, how = super().evaluate(data, context), self.averaged, self.likelihood
        log_z = torch.as_tensor(machine.ais_up(how.quick_chains, ais.temperatures(how.quick_temperatures),
                                               self.base, context.generator).log_z)
        sample = self.sample.to(data.device)
        found = {"valid_log_likelihood": -found["free_energy"] - log_z,
                 "train_log_likelihood": machine.log_prob(sample, log_z).mean(),
                 "log_z": log_z, "reconstruction_error": found["reconstruction_error"]}
        if self.at:
            self.keep(found)
        return found

    def keep(self, found: Mapping[str, Tensor]) -> None:
        before = self.module.record.curves()["valid_log_likelihood"][1]
        self.module.record.add(self.at, found)
        if self.keep_last or len(before) == 0 or found["valid_log_likelihood"] > before.max():
            self.module.best.load_state_dict(self.averaged.state_dict())


# --- Building and measuring ---------------------------------------------------------------------------------


def load_digits(digits: Digits) -> dict[str, Tensor]:
    """Binary images by split, "train", "valid" and "test", each (images, 784)."""
    counts = {"train": digits.training_images, "valid": digits.validation_images, "test": digits.test_images}
    if digits.binarization == "fixed":
        images = {split: data.binarized_mnist(split).flat() for split in counts}
    else:
        seed = int(digits.binarization)
        drawn = data.binarize_fixed(data.mnist("train").images, seed).flatten(1)
        images = {"train": drawn[:50_000], "valid": drawn[50_000:],
                  "test": data.binarize_fixed(data.mnist("test").images, seed).flatten(1)}
    if trains_on_all(digits):
        images["train"] = torch.cat([images["train"], images["valid"]])
    return {split: each[:counts[split]] for split, each in images.items()}


def trains_on_all(digits: Digits) -> bool:
    return digits.training_images > 50_000


def build(settings: Settings, seed: int) -> Built:
    how, images = settings.learning, load_digits(settings.digits)
    machine = RBM(784, settings.machine.hidden, generator(seed, "weights"))
    machine.set_base_rate(images["train"])
    steps_per_epoch = len(images["train"]) // how.batch_size
    learner = RecordedLearning(
        machine, settings.likelihood, images["train"][:len(images["valid"])],
        evaluations=how.epochs // settings.likelihood.every + 1, keep_last=trains_on_all(settings.digits),
        k=how.k, persistent=how.persistent,
        learning_rate=how.learning_rate, steps=how.epochs * steps_per_epoch, momentum=how.momentum,
        penalties=Penalties(weight_decay=how.weight_decay), centred=how.centred, averaging=how.averaging)
    every = settings.likelihood.every * steps_per_epoch
    loop = TrainingSettings(epochs=how.epochs, batch_size=how.batch_size, evaluate_every=every,
                            report_every=min(100, steps_per_epoch))
    return Built(learner, images["train"], images["valid"], loop)


def measure(built: Built, settings: Settings, device: torch.device, seed: int) -> dict[str, Metric]:
    """Mean log-likelihoods of the best machine, as it is shipped, and what their log Z is worth."""
    module, how = built.learner.module, settings.likelihood
    module.load_state_dict(module.shipped())
    images = {split: each.to(device) for split, each in load_digits(settings.digits).items()}
    machine, base = module.best, base_rate(images["train"])
    up = machine.ais_up(how.chains, ais.temperatures(how.temperatures), base,
                        generator(seed, "annealing", device))
    many = how.more * how.temperatures
    longer = machine.ais_up(how.chains, ais.temperatures(many), base,
                            generator(seed, "annealing slowly", device))
    start = getattr(module, "chains", images["train"])[:how.chains].to(machine.W)
    start = machine.gibbs(start, how.burn_in, generator(seed, "burn-in", device))
    down = machine.ais_down(start, ais.temperatures(how.temperatures), base,
                            generator(seed, "annealing back", device))
    return likelihoods(machine, images, settings, up, longer, down)


def likelihoods(
    machine: RBM, images: Mapping[str, Tensor], settings: Settings, up: ais.Estimate, longer: ais.Estimate,
    down: ais.Estimate,
) -> dict[str, Metric]:
    """The metrics: each split's mean log p(v), with the standard error of log Z, and the three log Z."""
    how, found = settings.likelihood, {}
    drawn = "Larochelle's fixed binarization" if settings.digits.binarization == "fixed" else (
        f"binarized once by drawing each pixel (seed {settings.digits.binarization})")
    way = f"{how.chains} AIS chains of {{:,}} temperatures from the base rates"
    for split, rows in images.items():
        if split == "valid" and trains_on_all(settings.digits):
            continue
        free = machine.free_energy(rows).double().mean().item()
        words = f"{len(rows):,} MNIST {WORDS[split]} images, {drawn}; log Z by "
        text = words + way.format(how.temperatures)
        found[f"{split}_log_likelihood"] = Metric(-free - up.log_z, text, "nats", up.standard_error, "higher")
        if split == "test":
            slow = words + way.format(how.more * how.temperatures)
            found["test_log_likelihood_slow"] = Metric(-free - longer.log_z, slow, "nats",
                                                       longer.standard_error, "higher")
            back = (f"{words}the way back, {how.chains} chains of {how.temperatures:,} temperatures from "
                    f"chains that had run {how.burn_in:,} sweeps")
            found["test_log_likelihood_back"] = Metric(-free - down.log_z, back, "nats", down.standard_error)
    found["log_z"] = Metric(up.log_z, way.format(how.temperatures), "nats", up.standard_error)
    found["log_z_slow"] = Metric(longer.log_z, way.format(how.more * how.temperatures), "nats",
                                 longer.standard_error)
    found["effective_chains"] = Metric(up.effective, f"(Σ w)² / Σ w² of {way.format(how.temperatures)}")
    return found


def weights(learner: RecordedLearning) -> Mapping[str, Tensor]:
    return learner.module.shipped()


def sample(built: Built, settings: Settings, count: int, random: torch.Generator) -> Tensor:
    """P(v = 1 | h) of chains, persistent ones where there are some, else 1,000 sweeps from training images."""
    module = built.learner.module
    if hasattr(module, "chains"):
        v = module.chains.repeat(-(-count // len(module.chains)), 1)[:count]
    else:
        v = module.best.gibbs(built.data[:count].to(random.device), 1_000, random)
    return module.best.visible_given(module.best.sample_hidden(v, random)).unflatten(1, (28, 28))


# --- Reading what was recorded ------------------------------------------------------------------------------


def trained(name: str, preset: str = "full", seed: int | None = None) -> RBM:
    """The machine of a recorded run, on the CPU in float32: the one that its metrics are about.

    seed: None for the first recorded one. Raises ResultError where nothing is recorded.
    """
    tensors = results.load(name, preset).weights(seed)
    machine = RBM(*tensors["best.W"].shape, torch.Generator())
    machine.load_state_dict({key: tensors[f"best.{key}"].float() for key in PARAMETERS})
    return machine.requires_grad_(False)


def chains(name: str, preset: str = "full", seed: int | None = None) -> Tensor:
    """The persistent chains at the end of a recorded run, (chains, 784) of 0 and 1.

    Raises ResultError where nothing is recorded, ValueError where the run had no persistent chains.
    """
    tensors = results.load(name, preset).weights(seed)
    if "chains" not in tensors:
        raise ValueError(f"{name} learnt without persistent chains: draw some with `trained(...).gibbs(...)`.")
    return tensors["chains"].float()


def curves(
    name: str, preset: str = "full", seed: int | None = None
) -> dict[str, tuple[Tensor, Tensor]]:
    """A recorded run's evaluations while it trained, {"valid_log_likelihood": (steps, values), …}: `CURVES`.

    Raises ResultError where nothing is recorded.
    """
    tensors = results.load(name, preset).weights(seed)
    steps, values = tensors["record.steps"], tensors["record.values"]
    done = steps > 0
    return {key: (steps[done], values[done, column]) for column, key in enumerate(CURVES)}


EXPERIMENTS = (
    Experiment("rbm-mnist", "an RBM with 500 hidden units on binary MNIST, persistent chains (chapter 2)",
               PERSISTENT, build, measure, sample, weights),
    Experiment("rbm-mnist-all", "the same on the validation images as well, all 60,000 (chapter 2)",
               ALL, build, measure, sample, weights),
    *(Experiment(f"rbm-cd{k}", f"the same by contrastive divergence, k = {k} (chapter 2)",
                 contrastive(k), build, measure, sample, weights) for k in (1, 3, 25)),
)
