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
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from nemlib import data
from nemlib.evaluate.likelihood import log_mean_exp
from nemlib.experiments import results
from nemlib.experiments.experiment import Built, Experiment, generator
from nemlib.experiments.record import Record
from nemlib.experiments.results import Metric
from nemlib.made import MADE, LearningState, MADELearner, connectivity
from nemlib.training import Context, Learner, TrainingSettings, cosine_schedule, derived_seed

CURVES = ("valid_nll", "train_nll")


# --- Settings -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """The MADE, its arguments under their own names.

    order: that of `MADE`; or "scans", row by row for the first member, and column by column, rows from the last pixel
    backwards, columns backwards for the next ones. masks: how many seeds, 0, 1, …, its masks come from. members: how
    many such networks there are, each with weights and an ordering of its own; what is recorded is their mixture.
    """

    widths: tuple[int, ...] = (500,)
    order: str = "random"
    degrees: str = "even"
    masks: int = 1
    members: int = 1
    direct: bool = False
    residual: bool = False
    dropout: float = 0.0


@dataclass(frozen=True)
class Digits:
    """binarization: "fixed", Larochelle's files; "dynamic", each training pixel of MNIST drawn anew whenever it is
    used, held-out images drawn once; "once", all drawn once.
    redrawn: the share of training pixels that are drawn anew in every step from what the bits around them say (see
    `guessed`), where the grey values are not to be had.
    """

    binarization: str = "dynamic"
    training_images: int = 50_000
    validation_images: int = 10_000
    test_images: int = 10_000
    seed: int = 0                           # of what is drawn once
    redrawn: float = 0.0


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


ONE_LAYER = {
    "smoke": smoke(Network((16,))),
    "book": Settings(Network(order="natural", direct=True)),
    "full": Settings(Network(order="natural", direct=True), learning=Learning(100), likelihood=Likelihood(4)),
}
# Images that never change can be learnt by heart: a third of their pixels are drawn anew, and units left out.
REDRAWN = Digits("fixed", redrawn=0.35)
BEST_OF_ONE = {
    "smoke": smoke(Network((16,), "natural", direct=True, dropout=0.2)),
    "book": Settings(Network((500,), "natural", direct=True, dropout=0.2), REDRAWN, Learning(20)),
    "full": Settings(Network((2000,), "natural", direct=True, dropout=0.2), REDRAWN,
                     Learning(200, 200, 1e-3, 500, averaging=0.999, precision="bfloat16"), Likelihood(5)),
}
BEST = {
    "smoke": smoke(Network((16,), "scans", members=2, direct=True, dropout=0.2)),
    "book": Settings(Network((500,), "scans", members=2, direct=True, dropout=0.2), REDRAWN, Learning(20)),
    "full": Settings(Network((2000,), "scans", members=2, direct=True, dropout=0.2), REDRAWN,
                     Learning(100, 200, 1e-3, 500, averaging=0.999, precision="bfloat16"), Likelihood(5)),
}
MASKS = {
    "smoke": smoke(Network((16,), masks=4), 4),
    "book": Settings(Network((500,), masks=16), learning=Learning(40, precision="bfloat16"),
                     likelihood=Likelihood(8, 4)),
    "full": Settings(Network((2000,), masks=32), learning=Learning(300, precision="bfloat16"),
                     likelihood=Likelihood(10, 8)),
}
FOR_THE_PAGE = {
    "smoke": smoke(Network((16,), "natural")),
    "book": Settings(Network((180,), "natural", direct=True), learning=Learning(40), likelihood=Likelihood(4)),
    "full": Settings(Network((180,), "natural", direct=True), learning=Learning(100), likelihood=Likelihood(10)),
}


# --- The learner: training that keeps its curves and its best networks ---------------------------------------


class RecordedState(nn.Module):
    """What the members' learning carries from step to step, the best network of each, and the evaluations."""

    def __init__(self, members: Sequence[LearningState], evaluations: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.best = nn.ModuleList(copy.deepcopy(state.made).requires_grad_(False) for state in members)
        self.register_buffer("best_nll", torch.full((len(self.best),), torch.inf))
        self.record = Record(evaluations, CURVES)

    def shipped(self) -> dict[str, Tensor]:
        """The best networks, matrices as bytes, and the curves."""
        found = {f"record.{name}": value for name, value in self.record.state_dict().items()}
        for number, network in enumerate(self.best):
            found |= packed(network, f"best{number}.")
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Takes what a checkpoint holds, or what `shipped` gives: then every network is the best one."""
        if "best0.fingerprint" in state_dict:
            found = {name: value for name, value in state_dict.items() if name.startswith("record.")}
            found["best_nll"] = self.best_nll
            for number, state in enumerate(self.members):
                best = unpacked(state_dict, state.made, f"best{number}.")
                found |= {f"members.{number}.{name}": value for name, value in everywhere(state, best).items()}
                found |= {f"best.{number}.{name}": value for name, value in best.items()}
            state_dict = found
        return super().load_state_dict(state_dict, strict, assign)


def everywhere(state: LearningState, network: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A learner's state in which the network and its average are this one."""
    found = {f"made.{name}": value for name, value in network.items()}
    if hasattr(state, "averaged"):
        found |= {f"averaged.{name}": value for name, value in network.items()}
    return found


def packed(made: MADE, prefix: str) -> dict[str, Tensor]:
    """A network's state under that prefix: matrices as bytes with one scale a row, compressed without loss; everything
    else as it is. Of a network with one set of masks, only the weights that its masks let through are there.
    """
    found = {}
    for name, value in made.state_dict().items():
        if value.dim() == 2:
            shown = let_through(made, name)
            scale = (value * shown).abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
            found[f"{prefix}{name}.scale"] = scale
            numbers = (value / scale).round().to(torch.int8)[shown].cpu().numpy()
            value = torch.frombuffer(bytearray(zlib.compress(numbers.tobytes(), 9)), dtype=torch.uint8)
        found[prefix + name] = value
    return found


def unpacked(tensors: Mapping[str, Tensor], made: MADE, prefix: str) -> dict[str, Tensor]:
    """The state of a network built like `made` from what `packed` gave, in float32; what is masked is 0.

    Raises ValueError where the numbers are those of a network of another size.
    """
    found = {}
    for name, like in made.state_dict().items():
        value, scale = tensors[prefix + name], tensors.get(f"{prefix}{name}.scale")
        if scale is not None:
            shown = let_through(made, name).to(scale.device)
            numbers = torch.frombuffer(bytearray(zlib.decompress(value.cpu().numpy().tobytes())), dtype=torch.int8)
            if numbers.numel() != shown.sum() or len(scale) != len(like):
                raise ValueError(f"{prefix}{name} holds {numbers.numel()} weights, but this network has "
                                 f"{int(shown.sum())}: these are the weights of another one.")
            value = torch.zeros(like.shape, device=scale.device).masked_scatter(
                shown, numbers.to(scale.device, torch.float32)) * scale
        found[name] = value
    return found


def let_through(made: MADE, name: str) -> Tensor:
    """Which entries of a matrix are ever used: those of the one set of masks, or all. Bool, the matrix's shape."""
    mask = dict(made.named_buffers()).get(name.replace("weight", "mask")) if made.count == 1 else None
    like = made.state_dict()[name]
    return torch.ones_like(like, dtype=torch.bool) if mask is None else mask.bool()


class RecordedLearning(Learner):
    """Trains its members side by side, keeps what it saw of held-out images, and each member at its best on them.

    orders: which pixel comes first, second, … for each member, or None for pixels as they are numbered (see
    `ordering`). sample: training images, of 0 and 1, that are looked at as well.
    """

    module: RecordedState

    def __init__(self, members: Sequence[MADELearner], orders: Sequence[Tensor | None], sample: Tensor,
                 evaluations: int, likelihood: Likelihood) -> None:
        self.members, self.orders, self.sample = members, orders, sample
        self.likelihood, self.at = likelihood, 0
        self.module = RecordedState([member.module for member in members], evaluations)
        self.optimizers = {f"member {k}": member.optimizers["optimizer"] for k, member in enumerate(members)}
        self.schedulers = {f"member {k}": member.schedulers["optimizer"] for k, member in enumerate(members)}

    def training_step(self, batch: Tensor, context: Context) -> Mapping[str, Tensor]:
        self.at = context.step
        losses = [member.training_step(arranged(batch, order), context)["loss"]
                  for member, order in zip(self.members, self.orders)]
        return {"loss": torch.stack(losses).mean()}

    def log_prob(self, networks: Sequence[MADE], images: Tensor, masks: int) -> Tensor:
        """log p of each image under each network's first masks: (networks · masks, images), on the CPU."""
        return torch.cat([torch.cat([network.log_prob_by_mask(part, plans=masks).cpu().double()
                                     for part in arranged(images, order).split(1000)], 1)
                          for network, order in zip(networks, self.orders)])

    def evaluate(self, data: Tensor | None, context: Context) -> Mapping[str, float | Tensor]:
        """−log p(x), nats, under the mixture of the averaged networks, of held-out and of training images."""
        if data is None:
            return {}
        masks, networks = self.likelihood.masks, [member.averaged for member in self.members]
        valid = self.log_prob(networks, data, masks)
        train = self.log_prob(networks, self.sample.to(data.device), masks)
        found = {"valid_nll": -log_mean_exp(valid).mean(), "train_nll": -log_mean_exp(train).mean()}
        if self.at:
            self.module.record.add(self.at, found)
            for number, log_p in enumerate(valid.split(masks)):
                self.keep(number, -log_mean_exp(log_p).mean())
        return found

    def keep(self, number: int, nll: Tensor) -> None:
        """That member as its best, where it is."""
        if nll < self.module.best_nll[number]:
            self.module.best_nll[number] = nll
            self.module.best[number].load_state_dict(self.members[number].averaged.state_dict())


def arranged(images: Tensor, order: Tensor | None) -> Tensor:
    """The pixels in that order, as the network sees them."""
    return images if order is None else images[:, order.to(images.device)]


# --- Building and measuring -----------------------------------------------------------------------------------


def load_digits(digits: Digits) -> dict[str, Tensor]:
    """Images (images, 784) by split: "valid" and "test" of 0 and 1, "train" too unless its pixels are drawn anew:
    then it holds the chance of ink.
    """
    if digits.binarization == "fixed":
        images = {split: data.binarized_mnist(split).flat() for split in ("train", "valid", "test")}
    else:
        grey, test = (data.mnist(split).images for split in ("train", "test"))
        drawn = data.binarize_fixed(grey, digits.seed).flatten(1)
        images = {"train": (grey.flatten(1) if digits.binarization == "dynamic" else drawn)[:50_000],
                  "valid": drawn[50_000:], "test": data.binarize_fixed(test, digits.seed).flatten(1)}
    counts = {"train": digits.training_images, "valid": digits.validation_images, "test": digits.test_images}
    images = {split: each[:counts[split]] for split, each in images.items()}
    if digits.redrawn:
        images["train"] = torch.lerp(images["train"], guessed(images["train"]), digits.redrawn)
    return images


NEIGHBOURS = sorted(((y, x) for y in range(-2, 3) for x in range(-2, 3) if 0 < abs(y) + abs(x) < 4),
                    key=lambda at: (at[0]**2 + at[1]**2, at))
RINGS, WEIGHTS = (8, 12, 20), (2.0, 2.0, 4.0)


def guessed(bits: Tensor) -> Tensor:
    """How probable ink is for each pixel, from the bits around it and never from itself: (images, 784) likewise.

    A table of these very images: how often is a pixel on whose 8 neighbours, 12, 20, have this pattern? What is
    counted never includes the pixel in question, and each table leans on the one before where a pattern is rare.
    """
    bits, codes = bits.float(), torch.zeros(bits.shape, dtype=torch.int64, device=bits.device)
    wide, found = nn.functional.pad(bits.unflatten(1, (28, 28)), (2, 2, 2, 2)).to(torch.int64), 0.5
    for number, (y, x) in enumerate(NEIGHBOURS):
        codes += wide[:, 2 + y:30 + y, 2 + x:30 + x].flatten(1) << number
        if number + 1 in RINGS:
            weight, size = WEIGHTS[RINGS.index(number + 1)], 2**(number + 1)
            seen = torch.bincount(codes.flatten(), minlength=size).float()
            on = torch.bincount(codes.flatten(), bits.flatten(), minlength=size).float()
            found = (on[codes] - bits + weight * found) / (seen[codes] - 1 + weight)
    return found


def ordering(how: Network, member: int = 0) -> Tensor | None:
    """The ordering of a member with one set of masks, (784,); None where it is natural or there are several.

    Such a member learns from pixels in this order, and is natural to itself, which costs half as much as masks
    without a pattern; `trained` gives the pixels their names back.
    """
    if how.order == "scans":
        pixels = torch.arange(784).unflatten(0, (28, 28))
        pixels = (pixels.T if member % 2 else pixels).flatten()
        return pixels.flip(0) if member // 2 % 2 else pixels
    if how.order != "random" or how.masks > 1:
        return None
    return connectivity(784, [], order="random", seed=member).order


def make_network(how: Network, seed: int, member: int = 0) -> MADE:
    """A member with its first weights, which depend on the seed alone."""
    order = how.order if ordering(how) is None else "natural"
    return MADE(784, how.widths, generator(seed, f"weights {member}"), order=order, degrees=how.degrees,
                seeds=range(how.masks), direct=how.direct, residual=how.residual, dropout=how.dropout)


def make_member(settings: Settings, seed: int, number: int, steps: int) -> MADELearner:
    how, network = settings.learning, make_network(settings.network, seed, number)
    optimizer = torch.optim.AdamW(network.parameters(), how.learning_rate, weight_decay=how.weight_decay,
                                  fused=True)
    drawn = settings.digits.binarization == "dynamic" or settings.digits.redrawn > 0
    return MADELearner(network, optimizer, binarize=drawn, averaging=how.averaging,
                       scheduler=cosine_schedule(optimizer, steps, how.warm_up))


def build(settings: Settings, seed: int) -> Built:
    how, digits, images = settings.learning, settings.digits, load_digits(settings.digits)
    steps_per_epoch, numbers = len(images["train"]) // how.batch_size, range(settings.network.members)
    learner = RecordedLearning(
        [make_member(settings, seed, number, how.epochs * steps_per_epoch) for number in numbers],
        [ordering(settings.network, number) for number in numbers],
        data.binarize_fixed(images["train"][:len(images["valid"])], digits.seed),
        how.epochs // settings.likelihood.every + 1, settings.likelihood)
    loop = TrainingSettings(epochs=how.epochs, batch_size=how.batch_size, precision=how.precision,
                            evaluate_every=settings.likelihood.every * steps_per_epoch,
                            report_every=min(100, steps_per_epoch))
    return Built(learner, images["train"], images["valid"], loop)


def sizes(parts: int) -> list[int]:
    """Numbers of masks or members whose mixture is measured: 1, 2, 4, … and all."""
    return sorted({min(2**k, parts) for k in range(parts.bit_length() + 1)})


def protocol(digits: Digits, split: str, count: int) -> str:
    once = f"each pixel drawn once from its grey value, seed {digits.seed}"
    how = {"fixed": "fixed binarization of the literature"}.get(digits.binarization, once)
    return f"{count:,} MNIST {split} images, {how}; exact"


@torch.no_grad()
def measure(built: Built, settings: Settings, device: torch.device, seed: int) -> dict[str, Metric]:
    """−log p(x) of held-out images under the best networks as they are shipped: the first mask, and mixtures."""
    learner, found = built.learner, {}
    learner.module.load_state_dict(learner.module.shipped())
    network = settings.network
    parts, of = network.masks * network.members, "networks" if network.members > 1 else "masks"
    for split, words in (("valid", "validation"), ("test", "test")):
        images = load_digits(settings.digits)[split].to(device)
        log_p, how = learner.log_prob(learner.module.best, images, network.masks), protocol(
            settings.digits, words, len(images))
        for count in sizes(parts):
            nll = -log_mean_exp(log_p[:count])
            found[f"{split}_nll" if count == parts else f"{split}_nll_{count}"] = Metric(
                nll.mean().item(), f"{how}; " + (f"mixture of {count} {of}" if count > 1 else f"one of the {of}"
                if parts > 1 else "one set of masks"), "nats", better="lower")
        found[f"{split}_spread"] = Metric((nll.std() / len(nll)**0.5).item(), "standard error of that mean over the "
                                          f"{len(nll):,} images, as a sample of all images", "nats")
    return found


def weights(learner: RecordedLearning | Ladder) -> Mapping[str, Tensor]:
    return learner.module.shipped()


def sample(built: Built, settings: Settings, count: int, random: torch.Generator) -> Tensor:
    """Draws of the first best network under its first mask."""
    drawn, order = built.learner.module.best[0].sample(count, random), ordering(settings.network)
    return (drawn if order is None else drawn[:, order.argsort().to(drawn.device)]).unflatten(1, (28, 28))


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
    ("the natural ordering again", {"network": Network((500,), "natural", direct=True)}),
):
    RUNGS.append(replace(RUNGS[-1], words=_words, **_change))
LADDER = {
    "smoke": LadderSettings(tuple(replace(rung, network=replace(rung.network, widths=rung.network.widths and (16,)))
                                  for rung in RUNGS), Digits("dynamic", 200, 50, 50), Learning(2, 50)),
    "book": LadderSettings(tuple(RUNGS)),
    "full": LadderSettings(tuple(RUNGS), learning=Learning(60)),
}


def made(how: Network, seed: int) -> MADE:
    """A rung's network, all of the first weights that rungs share alike."""
    return MADE(784, how.widths, generator(seed, "weights"), order=how.order, degrees=how.degrees, direct=how.direct)


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
            network = made(rung.network, seed)
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


def trained(name: str, preset: str = "full", seed: int | None = None, member: int = 0) -> MADE:
    """The network of a recorded run, on the CPU in float32: the one that its metrics are about.

    seed: None for the first recorded one. member: which one, where the run is a mixture of several networks.
    Raises ResultError where nothing is recorded.
    """
    tensors, how = results.load(name, preset).weights(seed), settings_of(name, preset).network
    network, order = make_network(how, 0), ordering(how, member)
    network.load_state_dict(unpacked(tensors, network, f"best{member}."))
    return (network if order is None else network.renamed(order)).requires_grad_(False).eval()


def settings_of(name: str, preset: str) -> Settings:
    return next(each for each in EXPERIMENTS if each.name == name).presets[preset]


def curves(name: str, preset: str = "full", seed: int | None = None) -> dict[str, tuple[Tensor, Tensor]]:
    """A recorded run's evaluations while it trained, {"valid_nll": (steps, values), …}: `CURVES`.

    Raises ResultError where nothing is recorded.
    """
    tensors = results.load(name, preset).weights(seed)
    steps, values = tensors["record.steps"], tensors["record.values"]
    done = steps > 0
    return {key: (steps[done], values[done, column]) for column, key in enumerate(CURVES)}


def mixture(name: str, preset: str = "full", split: str = "test") -> dict[int, float]:
    """−log p of a recorded run's mixtures, nats, by their number of masks or members.

    Raises ResultError where nothing is recorded.
    """
    found, how = results.load(name, preset), settings_of(name, preset).network
    parts = how.masks * how.members
    names = {count: f"{split}_nll" if count == parts else f"{split}_nll_{count}" for count in sizes(parts)}
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
    Experiment("made-fixed-1", "one hidden layer on the fixed binarization of the literature (chapter 6)",
               BEST_OF_ONE, build, measure, sample, weights),
    Experiment("made-fixed-2", "a mixture of two networks that scan by rows and by columns (chapter 6)",
               BEST, build, measure, sample, weights),
    Experiment("made-masks", "one network that learns sixteen orderings in turn (chapter 6)",
               MASKS, build, measure, sample, weights),
    Experiment("made-pixels", "a small MADE in the natural ordering, to draw digits in the page (chapter 6)",
               FOR_THE_PAGE, build, measure, sample, weights),
)
