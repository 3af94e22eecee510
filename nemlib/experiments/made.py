"""Chapter 6's recorded runs: masked autoencoders on binarized MNIST.

    from nemlib.experiments import made as recorded
    network = recorded.trained("made-fixed-2", "full")          # the network of a recorded run, a nemlib.made.MADE
    curves = recorded.curves("made-fixed-2", "full")            # {"valid_nll": (steps, values), …}
    gain = recorded.mixture("made-fixed-2", "full")             # {1: nats, 2: nats, …} by the number of masks

50,000 images are learnt from, 10,000 watched, and the network that did best on those is kept; settings were
chosen on them, too. What is measured and shipped is that network with its weights rounded to bytes, row by row.
The ladder is one run of several networks, each with one choice more than the one before.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from nemlib import data
from nemlib.experiments import results
from nemlib.experiments.experiment import Built, Experiment, generator
from nemlib.experiments.record import Record
from nemlib.experiments.results import Metric
from nemlib.made import MADE, LearningState, MADELearner
from nemlib.training import Context, Learner, TrainingSettings, cosine_schedule, derived_seed, seeded

CURVES = ("valid_nll", "train_nll")


# --- Settings -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """The MADE, its arguments under their own names; masks: how many seeds, 0, 1, …, its masks come from."""

    widths: tuple[int, ...] = (500,)
    order: str = "random"
    degrees: str = "even"
    masks: int = 1
    direct: bool = False
    residual: bool = False
    dropout: float = 0.0


@dataclass(frozen=True)
class Digits:
    """binarization: "fixed", Larochelle's files; "dynamic", each training pixel of MNIST drawn anew whenever it is
    used, held-out images drawn once; "once", all drawn once.
    """

    binarization: str = "dynamic"
    training_images: int = 50_000
    validation_images: int = 10_000
    test_images: int = 10_000
    seed: int = 0                           # of what is drawn once


@dataclass(frozen=True)
class Learning:
    """Learning by Adam: the rate rises over `warm_up` steps, then falls to 0 as half a cosine."""

    epochs: int = 12
    batch_size: int = 100
    learning_rate: float = 3e-3
    warm_up: int = 200
    weight_decay: float = 0.0               # AdamW's
    averaging: float = 0.995                # decay a step of the averaged network
    precision: str = "float32"


@dataclass(frozen=True)
class Likelihood:
    every: int = 1                          # epochs between looks at the validation images
    masks: int = 1                          # in the mixture that those looks are at


@dataclass(frozen=True)
class Settings:
    network: Network = Network()
    digits: Digits = Digits()
    learning: Learning = Learning()
    likelihood: Likelihood = Likelihood()


def smoke(network: Network, masks: int = 1) -> Settings:
    return Settings(network, Digits("once", 200, 50, 50), Learning(2, 50, warm_up=2, averaging=0.5),
                    Likelihood(masks=masks))


FIXED = Digits("fixed")
ONE_LAYER = {
    "smoke": smoke(Network((16,))),
    "book": Settings(),
    "full": Settings(learning=Learning(100)),
}
FOR_THE_PAGE = {
    "smoke": smoke(Network((16,), "natural")),
    "book": Settings(Network((256,), "natural"), learning=Learning(40), likelihood=Likelihood(4)),
    "full": Settings(Network((256,), "natural"), learning=Learning(100), likelihood=Likelihood(10)),
}


# --- The learner: training that keeps its curves and its best network ----------------------------------------


class RecordedState(LearningState):
    """`LearningState` with the record of its evaluations and the best network so far."""

    def __init__(self, made: MADE, averaging: float, evaluations: int) -> None:
        super().__init__(made, averaging)
        self.best = copy.deepcopy(made).requires_grad_(False)
        self.record = Record(evaluations, CURVES)

    def shipped(self) -> dict[str, Tensor]:
        """The best network, matrices as bytes, and the curves."""
        return packed(self.best, "best.") | {f"record.{name}": value
                                             for name, value in self.record.state_dict().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Takes what a checkpoint holds, or what `shipped` gives: then every network is the best one."""
        if "best.fingerprint" in state_dict and "made.fingerprint" not in state_dict:
            best = unpacked(state_dict, self.made, "best.")
            state_dict = {name: value for name, value in state_dict.items() if name.startswith("record.")}
            state_dict |= everywhere(self, best) | {f"best.{name}": value for name, value in best.items()}
        return super().load_state_dict(state_dict, strict, assign)


def everywhere(state: LearningState, network: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A learner's state in which the network and its average are this one."""
    found = {f"made.{name}": value for name, value in network.items()}
    if hasattr(state, "averaged"):
        found |= {f"averaged.{name}": value for name, value in network.items()}
    return found


def packed(made: MADE, prefix: str) -> dict[str, Tensor]:
    """A network's state under that prefix: matrices as bytes with one scale a row, everything else as it is.

    Of a network with one set of masks, only the weights that its masks let through are there.
    """
    found, masks = {}, dict(made.named_buffers())
    for name, value in made.state_dict().items():
        if value.dim() == 2:
            mask = masks.get(name.replace("weight", "mask")) if made.count == 1 else None
            value = value if mask is None else value * mask
            scale = value.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
            found[f"{prefix}{name}.scale"] = scale
            value = (value / scale).round().to(torch.int8)
            value = value if mask is None else value[mask.bool()]
        found[prefix + name] = value
    return found


def unpacked(tensors: Mapping[str, Tensor], made: MADE, prefix: str) -> dict[str, Tensor]:
    """The state of a network built like `made` from what `packed` gave, in float32; what is masked is 0."""
    found, masks = {}, dict(made.named_buffers())
    for name, like in made.state_dict().items():
        value, scale = tensors[prefix + name], tensors.get(f"{prefix}{name}.scale")
        if scale is not None and value.dim() == 1:
            mask = masks[name.replace("weight", "mask")].bool()
            value = torch.zeros(like.shape, dtype=value.dtype, device=value.device).masked_scatter(
                mask.to(value.device), value)
        found[name] = value if scale is None else value.float() * scale
    return found


class RecordedLearning(MADELearner):
    """`MADELearner` that keeps what it saw of held-out images, and the network that did best on them.

    sample: training images, of 0 and 1, that are looked at as well; the rest as for `MADELearner`.
    """

    module: RecordedState

    def __init__(self, made: MADE, sample: Tensor, evaluations: int, averaging: float, **options: Any) -> None:
        super().__init__(made, averaging=averaging, **options)
        self.sample, self.at = sample, 0
        self.module = RecordedState(made, averaging, evaluations)

    def training_step(self, batch: Tensor, context: Context) -> Mapping[str, Tensor]:
        self.at = context.step
        return super().training_step(batch, context)

    def evaluate(self, data: Tensor | None, context: Context) -> Mapping[str, float | Tensor]:
        """−log p(x), nats, of the averaged network on held-out and on some training images."""
        if data is None:
            return {}
        drawn, self.binarize = self.binarize, False         # these images are 0 and 1 already
        try:
            found = {"valid_nll": super().evaluate(data, context)["nll"],
                     "train_nll": super().evaluate(self.sample.to(data.device), context)["nll"]}
        finally:
            self.binarize = drawn
        if self.at:
            before = self.module.record.curves()["valid_nll"][1]
            self.module.record.add(self.at, found)
            if len(before) == 0 or found["valid_nll"] < before.min():
                self.module.best.load_state_dict(self.averaged.state_dict())
        return found


# --- Building and measuring -----------------------------------------------------------------------------------


def load_digits(digits: Digits) -> dict[str, Tensor]:
    """Images (images, 784) by split: "valid" and "test" of 0 and 1, "train" too unless its pixels are drawn anew."""
    if digits.binarization == "fixed":
        images = {split: data.binarized_mnist(split).flat() for split in ("train", "valid", "test")}
    else:
        grey, test = (data.mnist(split).images for split in ("train", "test"))
        drawn = data.binarize_fixed(grey, digits.seed).flatten(1)
        images = {"train": (grey.flatten(1) if digits.binarization == "dynamic" else drawn)[:50_000],
                  "valid": drawn[50_000:], "test": data.binarize_fixed(test, digits.seed).flatten(1)}
    counts = {"train": digits.training_images, "valid": digits.validation_images, "test": digits.test_images}
    return {split: each[:counts[split]] for split, each in images.items()}


def make_network(how: Network, seed: int) -> MADE:
    """The network with its first weights, which depend on the seed alone."""
    return MADE(784, how.widths, generator(seed, "weights"), order=how.order, degrees=how.degrees,
                seeds=range(how.masks), direct=how.direct, residual=how.residual, dropout=how.dropout)


def optimiser(network: MADE, how: Learning) -> torch.optim.Optimizer:
    return torch.optim.AdamW(network.parameters(), how.learning_rate, weight_decay=how.weight_decay, fused=True)


def build(settings: Settings, seed: int) -> Built:
    how, digits, images = settings.learning, settings.digits, load_digits(settings.digits)
    network = make_network(settings.network, seed)
    steps_per_epoch = len(images["train"]) // how.batch_size
    optimizer = optimiser(network, how)
    sample = images["train"][:len(images["valid"])]
    learner = RecordedLearning(
        network, data.binarize_fixed(sample, digits.seed),
        evaluations=how.epochs // settings.likelihood.every + 1, averaging=how.averaging, optimizer=optimizer,
        binarize=digits.binarization == "dynamic", evaluated=settings.likelihood.masks,
        scheduler=cosine_schedule(optimizer, how.epochs * steps_per_epoch, how.warm_up))
    loop = TrainingSettings(epochs=how.epochs, batch_size=how.batch_size, precision=how.precision,
                            evaluate_every=settings.likelihood.every * steps_per_epoch,
                            report_every=min(100, steps_per_epoch))
    return Built(learner, images["train"], images["valid"], loop)


def sizes(masks: int) -> list[int]:
    """Numbers of masks whose mixture is measured: 1, 2, 4, … and all."""
    return sorted({min(2**k, masks) for k in range(masks.bit_length() + 1)})


def protocol(digits: Digits, split: str, count: int) -> str:
    how = {"fixed": "fixed binarization of the literature",
           "dynamic": f"each pixel drawn once from its grey value, seed {digits.seed}"}
    how["once"] = how["dynamic"]
    return f"{count:,} MNIST {split} images, {how[digits.binarization]}; exact"


@torch.no_grad()
def measure(built: Built, settings: Settings, device: torch.device, seed: int) -> dict[str, Metric]:
    """−log p(x) of held-out images under the best network as it is shipped: first mask, and mixtures of masks."""
    module = built.learner.module
    module.load_state_dict(module.shipped())
    network, found = module.best, {}
    for split, words in (("valid", "validation"), ("test", "test")):
        images = load_digits(settings.digits)[split].to(device)
        parts = [network.log_prob_by_mask(part).cpu().double() for part in images.split(1000)]
        by_mask, how = torch.cat(parts, 1), protocol(settings.digits, words, len(images))
        for count in sizes(network.count):
            nll = -(by_mask[:count].logsumexp(0) - torch.tensor(float(count)).log())
            name = f"{split}_nll" if count == network.count else f"{split}_nll_{count}"
            words_of = f"mixture of {count} masks" if count > 1 else "one mask"
            found[name] = Metric(nll.mean().item(), f"{how}; {words_of}", "nats", better="lower")
        found[f"{split}_spread"] = Metric((nll.std() / len(nll)**0.5).item(), "standard error of that mean over the "
                                          f"{len(nll):,} images, as a sample of all images", "nats")
    return found


def weights(learner: RecordedLearning | Ladder) -> Mapping[str, Tensor]:
    return learner.module.shipped()


def sample(built: Built, settings: Settings, count: int, random: torch.Generator) -> Tensor:
    """Draws of the best network under its first mask."""
    return built.learner.module.best.sample(count, random).unflatten(1, (28, 28))


# --- The ladder: several networks, each with one choice more -----------------------------------------------------


@dataclass(frozen=True)
class Rung:
    """What one network of the ladder is, and how it is trained: each field as in `Network` and `Learning`."""

    words: str
    network: Network
    learning_rate: float
    dynamic: bool = False                   # pixels drawn anew, or the training images drawn once
    cosine: bool = False
    averaging: bool = False
    adam: bool = True                       # else plain stochastic gradients


@dataclass(frozen=True)
class LadderSettings:
    rungs: tuple[Rung, ...]
    digits: Digits = Digits()
    learning: Learning = Learning()


PLAIN = Rung("no hidden layer, plain gradients", Network((), "natural"), 0.02, adam=False)
RUNGS = [PLAIN]
for _words, _change in (
    ("500 hidden units, degrees drawn at random", {"network": Network((500,), "natural", "uniform")}),
    ("degrees evenly spaced", {"network": Network((500,), "natural")}),
    ("Adam in the place of plain gradients", {"adam": True, "learning_rate": 1e-3}),
    ("a larger rate that falls to nothing", {"learning_rate": 3e-3, "cosine": True}),
    ("pixels drawn anew in every step", {"dynamic": True}),
    ("weights averaged", {"averaging": True}),
    ("a random ordering", {"network": Network((500,), "random")}),
    ("direct connections", {"network": Network((500,), "random", direct=True)}),
):
    RUNGS.append(replace(RUNGS[-1], words=_words, **_change))
LADDER = {
    "smoke": LadderSettings(tuple(replace(rung, network=replace(rung.network, widths=rung.network.widths and (16,)))
                                  for rung in RUNGS), Digits("dynamic", 200, 50, 50), Learning(2, 50)),
    "book": LadderSettings(tuple(RUNGS)),
    "full": LadderSettings(tuple(RUNGS), learning=Learning(60)),
}


class LadderState(nn.ModuleList):
    """What the learners of all rungs carry from step to step."""

    def shipped(self) -> dict[str, Tensor]:
        """The networks as they are measured, matrices as bytes."""
        found: dict[str, Tensor] = {}
        for number, state in enumerate(self):
            found |= packed(getattr(state, "averaged", state.made), f"rung{number}.")
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Takes what a checkpoint holds, or what `shipped` gives."""
        if "rung0.fingerprint" in state_dict:
            state_dict = {f"{number}.{name}": value for number, state in enumerate(self)
                          for name, value in everywhere(
                              state, unpacked(state_dict, state.made, f"rung{number}.")).items()}
        return super().load_state_dict(state_dict, strict, assign)


class Ladder(Learner):
    """Trains all networks of the ladder on the same batches; each has an optimizer and a schedule of its own."""

    def __init__(self, rungs: Sequence[Rung], how: Learning, steps: int, seed: int) -> None:
        self.learners, self.optimizers, self.schedulers = [], {}, {}
        for number, rung in enumerate(rungs):
            network = make_network(rung.network, seed)
            optimizer = (torch.optim.Adam(network.parameters(), rung.learning_rate, fused=True) if rung.adam
                         else torch.optim.SGD(network.parameters(), rung.learning_rate))
            self.learners.append(MADELearner(network, optimizer, averaging=how.averaging if rung.averaging else 0.0))
            self.optimizers[f"rung {number}"] = optimizer
            if rung.cosine:
                self.schedulers[f"rung {number}"] = cosine_schedule(optimizer, steps, how.warm_up)
        self.rungs = rungs
        self.module = LadderState(learner.module for learner in self.learners)

    def training_step(self, batch: Mapping[str, Tensor], context: Context) -> Mapping[str, Tensor]:
        uniform = torch.rand(batch["grey"].shape, generator=context.generator, dtype=batch["grey"].dtype,
                             device=batch["grey"].device)
        drawn = {True: (uniform < batch["grey"]).to(uniform.dtype), False: batch["once"].to(uniform.dtype)}
        return {f"rung {number}": learner.training_step(drawn[rung.dynamic], context)["loss"]
                for number, (rung, learner) in enumerate(zip(self.rungs, self.learners))}

    def evaluate(self, data: Tensor | None, context: Context) -> Mapping[str, Tensor]:
        return {} if data is None else {f"rung {number}": learner.evaluate(data, context)["nll"]
                                        for number, learner in enumerate(self.learners)}


def build_ladder(settings: LadderSettings, seed: int) -> Built:
    how, images = settings.learning, load_digits(settings.digits)
    steps_per_epoch = len(images["train"]) // how.batch_size
    learner = Ladder(settings.rungs, how, how.epochs * steps_per_epoch, derived_seed(seed, "ladder") % 2**31)
    once = data.binarize_fixed(images["train"], settings.digits.seed).to(torch.uint8)
    loop = TrainingSettings(epochs=how.epochs, batch_size=how.batch_size, report_every=min(100, steps_per_epoch))
    return Built(learner, {"grey": images["train"], "once": once}, images["valid"], loop)


@torch.no_grad()
def measure_ladder(
    built: Built, settings: LadderSettings, device: torch.device, seed: int
) -> dict[str, Metric]:
    """−log p(x) of test images under each network as it is shipped, from the first rung to the last."""
    built.learner.module.load_state_dict(built.learner.module.shipped())
    test = load_digits(settings.digits)["test"].to(device)
    found = {}
    for number, (rung, learner) in enumerate(zip(settings.rungs, built.learner.learners)):
        nll = -torch.cat([learner.averaged.log_prob(part) for part in test.split(1000)]).double()
        found[f"rung_{number}"] = Metric(nll.mean().item(), f"{protocol(settings.digits, 'test', len(test))}; "
                                         f"{rung.words}", "nats", better="lower")
    return found


def sample_ladder(built: Built, settings: LadderSettings, count: int, random: torch.Generator) -> Tensor:
    """Draws of the last network."""
    return built.learner.learners[-1].averaged.sample(count, random).unflatten(1, (28, 28))


# --- Reading what was recorded -----------------------------------------------------------------------------------


def trained(name: str, preset: str = "full", seed: int | None = None) -> MADE:
    """The network of a recorded run, on the CPU in float32: the one that its metrics are about.

    seed: None for the first recorded one. Raises ResultError where nothing is recorded.
    """
    tensors = results.load(name, preset).weights(seed)
    settings = next(each for each in EXPERIMENTS if each.name == name).presets[preset]
    network = make_network(settings.network, 0)
    network.load_state_dict(unpacked(tensors, network, "best."))
    return network.requires_grad_(False).eval()


def curves(name: str, preset: str = "full", seed: int | None = None) -> dict[str, tuple[Tensor, Tensor]]:
    """A recorded run's evaluations while it trained, {"valid_nll": (steps, values), …}: `CURVES`.

    Raises ResultError where nothing is recorded.
    """
    tensors = results.load(name, preset).weights(seed)
    steps, values = tensors["record.steps"], tensors["record.values"]
    done = steps > 0
    return {key: (steps[done], values[done, column]) for column, key in enumerate(CURVES)}


def mixture(name: str, preset: str = "full", split: str = "test") -> dict[int, float]:
    """−log p of a recorded run's mixtures, nats, by their number of masks.

    Raises ResultError where nothing is recorded.
    """
    found = results.load(name, preset)
    masks = next(each for each in EXPERIMENTS if each.name == name).presets[preset].network.masks
    names = {count: f"{split}_nll" if count == masks else f"{split}_nll_{count}" for count in sizes(masks)}
    return {count: found.metrics[metric] for count, metric in names.items()}


def ladder(preset: str = "book") -> list[tuple[str, float]]:
    """The rungs of the recorded ladder: what each adds to the one before, and −log p of test images, nats.

    Raises ResultError where nothing is recorded.
    """
    found = results.load("made-ladder", preset)
    return [(rung.words, found.metrics[f"rung_{number}"]) for number, rung in enumerate(LADDER[preset].rungs)]


EXPERIMENTS = (
    Experiment("made-mnist", "a MADE with one hidden layer of 500 on dynamically binarized MNIST (chapter 6)",
               ONE_LAYER, build, measure, sample, weights),
    Experiment("made-ladder", "the choices that lead there, one after another (chapter 6)",
               LADDER, build_ladder, measure_ladder, sample_ladder, weights),
    Experiment("made-pixels", "a small MADE in the natural ordering, to draw digits in the page (chapter 6)",
               FOR_THE_PAGE, build, measure, sample, weights),
)
