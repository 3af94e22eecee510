"""Chapter 7's recorded runs: a classifier of digits whose features scores are made of, and adversarial networks on
laws in the plane, on MNIST, and on MNIST stacked three deep.

    from nemlib.experiments import gan as recorded
    machine = recorded.trained("gan-mnist", "full")       # the averaged generator, in an nemlib.gan.GAN
    curves = recorded.curves("gan-mnist", "full")         # {"frechet": (steps, values), …}
    film = recorded.film("gan-mnist", "full")             # samples of fixed z while it learnt
    network = recorded.features()                         # the classifier, an nemlib.evaluate.fid.FeatureNetwork
    counts = recorded.remedies("gan-ring")                # {words: [(modes, good share) of each seed, …], …}

The classifier learns from the first half of the training images, so that the other half is as new to it as the
test images are: Fréchet distances stand beside that of 10,000 images of that half, which no generator made. What
is measured and shipped is the averaged generator with its numbers rounded to half precision; discriminators are
not shipped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from nemlib import data
from nemlib.evaluate import fid
from nemlib.evaluate.fid import FeatureNetwork
from nemlib.experiments import results
from nemlib.experiments.experiment import Built, Experiment, generator
from nemlib.experiments.record import Record
from nemlib.experiments.results import Metric
from nemlib.gan import (
    GAN, R1, AdversarialLearner, Gaussians, LearningState, NonSaturating, dcgan_discriminator, dcgan_generator, grid,
    ring,
)
from nemlib.networks import fully_connected
from nemlib.training import Context, Learner, TrainingSettings, cosine_schedule, derived_seed, seeded

LAWS = {"ring": ring(), "grid": grid()}


# --- The classifier whose features are compared ---------------------------------------------------------------


@dataclass(frozen=True)
class Classifier:
    width: int = 32                         # channels of the first convolution
    numbers: int = 64                       # features


@dataclass(frozen=True)
class ClassifierDigits:
    """The first training images are learnt from, and the next ones watched; the floor is measured with some of all
    that were not learnt from.
    """

    training_images: int = 30_000
    validation_images: int = 10_000
    floor_images: int = 10_000
    test_images: int = 10_000


@dataclass(frozen=True)
class ClassifierLearning:
    """Adam with a rate that rises over `warm_up` steps and falls to 0; each batch is moved by up to `shift` pixels."""

    epochs: int = 12
    batch_size: int = 100
    learning_rate: float = 2e-3
    warm_up: int = 200
    shift: int = 2


@dataclass(frozen=True)
class ClassifierSettings:
    network: Classifier = Classifier()
    digits: ClassifierDigits = ClassifierDigits()
    learning: ClassifierLearning = ClassifierLearning()


CLASSIFIER = {
    "smoke": ClassifierSettings(Classifier(4, 8), ClassifierDigits(200, 50, 50, 50), ClassifierLearning(1, 50, warm_up=2)),
    "book": ClassifierSettings(learning=ClassifierLearning(3)),
    "full": ClassifierSettings(),
}


class Classification(Learner):
    """Trains a `FeatureNetwork` by cross entropy on digits that are moved about."""

    module: FeatureNetwork

    def __init__(self, network: FeatureNetwork, how: ClassifierLearning, steps: int) -> None:
        optimizer = torch.optim.Adam(network.parameters(), how.learning_rate, fused=True)
        self.module, self.shift = network, how.shift
        self.optimizers = {"optimizer": optimizer}
        self.schedulers = {"optimizer": cosine_schedule(optimizer, steps, how.warm_up)}

    def training_step(self, batch: Mapping[str, Tensor], context: Context) -> Mapping[str, Tensor]:
        by = torch.randint(-self.shift, self.shift + 1, (2,), generator=context.common_generator).tolist()
        images = batch["x"].unflatten(1, (self.module.side, -1)).roll(by, (1, 2)).flatten(1)
        with context.autocast():
            loss = F.cross_entropy(self.module.train()(images), batch["labels"])
        context.update(self.optimizers["optimizer"], loss)
        return {"loss": loss.detach()}

    def evaluate(self, data: Mapping[str, Tensor] | None, context: Context) -> Mapping[str, Tensor]:
        return {} if data is None else {"error": wrong(self.module, data["x"], data["labels"])}


def wrong(network: FeatureNetwork, images: Tensor, labels: Tensor) -> Tensor:
    """The share of images whose most probable class is not their label."""
    return (network.classify(images)[0].long() != labels).double().mean()


def load_digits(split: str, start: int = 0, count: int | None = None) -> dict[str, Tensor]:
    """MNIST images, flat and in [0, 1], and their labels, from that one on."""
    found = data.mnist(split)
    rows = slice(start, None if count is None else start + count)
    return {"x": found.images[rows].flatten(1), "labels": found.labels[rows].long()}


def make_classifier(how: Classifier, seed: int) -> FeatureNetwork:
    with seeded(derived_seed(seed, "weights")):
        return FeatureNetwork(width=how.width, numbers=how.numbers)


def build_classifier(settings: ClassifierSettings, seed: int) -> Built:
    how, digits = settings.learning, settings.digits
    steps_per_epoch = digits.training_images // how.batch_size
    learner = Classification(make_classifier(settings.network, seed), how, how.epochs * steps_per_epoch)
    loop = TrainingSettings(epochs=how.epochs, batch_size=how.batch_size, report_every=min(100, steps_per_epoch))
    return Built(learner, load_digits("train", 0, digits.training_images),
                 load_digits("train", digits.training_images, digits.validation_images), loop)


def measure_classifier(
    built: Built, settings: ClassifierSettings, device: torch.device, seed: int
) -> dict[str, Metric]:
    """Errors on digits, and the Fréchet distances of real digits to test digits: the floor for generators."""
    network, digits = built.learner.module, settings.digits
    network.load_state_dict(classifier_weights(built.learner))
    halves = {"learnt": load_digits("train", 0, digits.training_images),
              "new": load_digits("train", digits.training_images)}
    test = {key: value.to(device) for key, value in load_digits("test", 0, digits.test_images).items()}
    real, count = network.features(test["x"]), min(digits.floor_images, digits.training_images)
    seen = {name: network.features(half["x"].to(device)) for name, half in halves.items()}
    against = f"and the {len(real):,} MNIST test images, {settings.network.numbers} features"
    new, drawn = "training images that the classifier has not learnt from", f"{count:,} images at random of the "
    found = {
        "test_error": Metric(100 * wrong(network, test["x"], test["labels"]).item(),
                             f"{len(real):,} MNIST test images", "%", better="lower"),
        "new_error": Metric(100 * wrong(network, *(each.to(device) for each in halves["new"].values())).item(),
                            f"all {len(halves['new']['x']):,} {new}", "%", better="lower"),
    }
    try:
        floor = {name: torch.tensor([fid.frechet_distance(real, features[rows]) for rows in draws(len(features), count)])
                 for name, features in seen.items()}
        bias = fid.expected_bias(torch.cov(real.T), len(real), count)
    except ValueError:                      # fewer images than features, in the smoke preset
        return found
    scores = fid.precision_recall(real, seen["new"][draws(len(seen["new"]), count)[0]])
    return found | {
        "floor": Metric(floor["new"].mean().item(), f"Fréchet distance between {drawn}{new} {against}; mean of ten draws"),
        "floor_spread": Metric(floor["new"].std().item(), "standard deviation of that distance over the ten draws"),
        "floor_learnt": Metric(floor["learnt"].mean().item(),
                               f"the same with images that it has learnt from, {against}; mean of ten draws"),
        "bias": Metric(bias, "what two such sets from one Gaussian law with the test images' covariance give on "
                       "average, to first order"),
        "floor_precision": Metric(scores.precision, f"{drawn}{new} {against}, balls to the third neighbour; one draw"),
        "floor_recall": Metric(scores.recall, f"{drawn}{new} {against}, balls to the third neighbour; one draw"),
    }


def draws(examples: int, count: int) -> list[Tensor]:
    """Ten choices of so many rows, at random: MNIST's files are not, their blocks are of different writers."""
    random = generator(0, "floor")
    return [torch.randperm(examples, generator=random)[:count] for _ in range(10)]


def classifier_weights(learner: Classification) -> Mapping[str, Tensor]:
    """The network rounded to half precision."""
    return {name: tensor.detach().half().float() for name, tensor in learner.module.state_dict().items()}


def show_digits(built: Built, settings: Any, count: int, random: torch.Generator) -> Tensor:
    """Digits that the classifier learns from: it makes none."""
    rows = torch.randint(len(built.data["x"]), (count,), generator=random, device=random.device).cpu()
    return built.data["x"].cpu()[rows].unflatten(1, (28, 28))


@cache
def features() -> FeatureNetwork:
    """The recorded classifier of digits, on the CPU, for features and labels; raises ResultError where it is missing."""
    network = make_classifier(CLASSIFIER["full"].network, 0)
    network.load_state_dict(results.load("digit-features", "full").weights())
    return network.requires_grad_(False).eval()


# --- Settings of the adversarial runs ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Learning:
    """Two Adams with these rates, which stay for the first part of the run and then fall to 0 in a straight line.

    penalty: weight of R1, 0 for none, in every `every`-th step; without it the discriminator has batch normalisation.
    averaging: decay a step of the averaged generator, 0 for none.
    """

    steps: int = 3_000
    batch_size: int = 256
    generator_rate: float = 1e-3
    discriminator_rate: float = 1e-3
    betas: tuple[float, float] = (0.5, 0.999)
    constant: float = 1.0                   # share of the steps before the rates fall
    penalty: float = 0.0
    every: int = 1
    averaging: float = 0.0
    precision: str = "float32"


def falling(optimizer: torch.optim.Optimizer, how: Learning) -> LRScheduler:
    """The rate as `Learning` says."""
    falls = max(1.0, (1 - how.constant) * how.steps)
    return LambdaLR(optimizer, lambda step: min(1.0, max(0.0, (how.steps - step) / falls)))


def adversaries(machine: GAN, how: Learning, make: type[AdversarialLearner] = AdversarialLearner,
                **options: Any) -> AdversarialLearner:
    """The learner of a machine, with both optimizers and their schedules."""
    optimizers = {
        name: torch.optim.Adam(part.parameters(), rate, betas=how.betas, fused=True)
        for name, part, rate in (("generator", machine.generator, how.generator_rate),
                                 ("discriminator", machine.discriminator, how.discriminator_rate))}
    return make(machine, *optimizers.values(), NonSaturating(),
                penalty=R1(how.penalty, how.every) if how.penalty else None, averaging=how.averaging,
                schedulers={name: falling(each, how) for name, each in optimizers.items()}, **options)


def shipped_generator(state: LearningState, prefix: str = "generator.") -> dict[str, Tensor]:
    """The averaged generator where there is one, else the generator, in half precision."""
    network = state.gan.generator if state.averaged is None else state.averaged
    return {prefix + name: tensor.detach().half() if tensor.is_floating_point() else tensor
            for name, tensor in network.state_dict().items()}


def everywhere(state: LearningState, tensors: Mapping[str, Tensor], prefix: str = "generator.") -> dict[str, Tensor]:
    """A learner's state in which the generator and its average are the shipped one, and the rest is as it is."""
    found = dict(state.state_dict())
    for name, tensor in tensors.items():
        for place in ("gan.generator.", "averaged."):
            key = place + name.removeprefix(prefix)
            if name.startswith(prefix) and key in found:
                found[key] = tensor.to(found[key].dtype)
    return found


# --- Laws in the plane: one run trains a ladder of remedies ---------------------------------------------------------


@dataclass(frozen=True)
class Remedy:
    """One machine of the ladder: what it has that the one before has not, and how many samples are judged together."""

    words: str
    learning: Learning
    packed: int = 1


@dataclass(frozen=True)
class Plane:
    law: str = "ring"
    width: int = 128                        # of two hidden layers, in both networks
    latent: int = 2
    examples: int = 100_000
    samples: int = 2_500                    # that modes are counted in


@dataclass(frozen=True)
class PlaneSettings:
    remedies: tuple[Remedy, ...]
    plane: Plane = Plane()


REMEDIES = [Remedy("a discriminator ten times slower", Learning(discriminator_rate=1e-4))]
for _words, _packed, _change in (
    ("equal rates", 1, {"discriminator_rate": 1e-3}),
    ("two samples judged together", 2, {}),
    ("the generator averaged", 2, {"averaging": 0.99}),
):
    REMEDIES.append(Remedy(_words, replace(REMEDIES[-1].learning, **_change), _packed))
REMEDIES.append(Remedy("averaged, but one sample judged alone", REMEDIES[-1].learning, 1))
REMEDIES.append(Remedy("averaged and alone, with a penalty (R1)", replace(REMEDIES[-1].learning, penalty=1.0), 1))


def remedies_for(steps: int, batch_size: int = 256) -> tuple[Remedy, ...]:
    return tuple(replace(each, learning=replace(each.learning, steps=steps, batch_size=batch_size)) for each in REMEDIES)


def plane_presets(law: str, book: int, full: int) -> dict[str, PlaneSettings]:
    return {
        "smoke": PlaneSettings(remedies_for(4, 16), Plane(law, 8, examples=64, samples=50)),
        "book": PlaneSettings(remedies_for(book), Plane(law)),
        "full": PlaneSettings(remedies_for(full), Plane(law)),
    }


class Several(nn.ModuleList):
    """What the learners of all remedies carry from step to step."""

    def shipped(self) -> dict[str, Tensor]:
        return {name: tensor for number, state in enumerate(self)
                for name, tensor in shipped_generator(state, f"remedy{number}.").items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Takes what a checkpoint holds, or what `shipped` gives."""
        if any(name.startswith("remedy0.") for name in state_dict):
            state_dict = {f"{number}.{name}": tensor for number, state in enumerate(self)
                          for name, tensor in everywhere(state, state_dict, f"remedy{number}.").items()}
        return super().load_state_dict(state_dict, strict, assign)


class Ladder(Learner):
    """Trains the machines of all remedies on the same batches; each has optimizers of its own."""

    module: Several

    def __init__(self, learners: Sequence[AdversarialLearner], law: Gaussians, samples: int) -> None:
        self.learners, self.law, self.samples = learners, law, samples
        self.module = Several(learner.module for learner in learners)
        self.optimizers = {f"{name} {number}": optimizer for number, learner in enumerate(learners)
                           for name, optimizer in learner.optimizers.items()}
        self.schedulers = {f"{name} {number}": scheduler for number, learner in enumerate(learners)
                           for name, scheduler in learner.schedulers.items()}

    def training_step(self, batch: Tensor, context: Context) -> Mapping[str, Tensor]:
        return {f"{name}_{number}": value for number, learner in enumerate(self.learners)
                for name, value in learner.training_step(batch, context).items()}

    def modes(self, number: int, random: torch.Generator) -> fid.Modes:
        """What samples of that machine's averaged generator show."""
        drawn = self.learners[number].averaged.sample(self.samples, random).cpu()
        return fid.mode_count(drawn, self.law.centres, self.law.deviation)

    def evaluate(self, data: Tensor | None, context: Context) -> Mapping[str, float]:
        return {f"modes_{number}": float(self.modes(number, context.generator).found)
                for number in range(len(self.learners))}


def make_plane(how: Plane, packed: int, seed: int) -> GAN:
    """Fully connected networks with their first weights, which depend on the seed alone."""
    with seeded(derived_seed(seed, "weights")):
        return GAN(fully_connected([how.latent, how.width, how.width, 2]),
                   fully_connected([2 * packed, how.width, how.width, 1], lambda: nn.LeakyReLU(0.2)), how.latent,
                   packed=packed)


def build_plane(settings: PlaneSettings, seed: int) -> Built:
    how, law = settings.plane, LAWS[settings.plane.law]
    learners = [adversaries(make_plane(how, remedy.packed, seed), remedy.learning) for remedy in settings.remedies]
    first = settings.remedies[0].learning
    loop = TrainingSettings(steps=first.steps, batch_size=first.batch_size, report_every=min(100, first.steps),
                            evaluate_every=max(1, first.steps // 30))
    examples, fresh = (law.sample(how.examples, generator(seed, purpose)) for purpose in ("data", "held out"))
    return Built(Ladder(learners, law, how.samples), examples, fresh, loop)


def measure_plane(built: Built, settings: PlaneSettings, device: torch.device, seed: int) -> dict[str, Metric]:
    """Modes and good samples of each machine as it is shipped."""
    ladder, found = built.learner, {}
    ladder.module.load_state_dict(ladder.module.shipped())
    most = len(ladder.law.centres)
    for number, remedy in enumerate(settings.remedies):
        modes = ladder.modes(number, generator(seed, "samples", device))
        words = f"{ladder.samples:,} samples of {settings.plane.law}; {remedy.words}"
        found[f"modes_{number}"] = Metric(modes.found, f"modes of {most} with a good sample, {words}", better="higher")
        found[f"good_{number}"] = Metric(100 * modes.good, f"within three deviations of a mode, {words}", "%")
        found[f"reverse_kl_{number}"] = Metric(
            min(modes.reverse_kl, math.log(most)), f"KL of the modes' shares to equal shares, log {most} where no "
            f"sample is good, {words}", "nats", better="lower")
    return found


def sample_plane(built: Built, settings: PlaneSettings, count: int, random: torch.Generator) -> Tensor:
    """Clouds of samples of the machine of the first rungs, as pictures; the last rung again and again after them."""
    numbers = [min(number, len(built.learner.learners) - 1) for number in range(count)]
    extent = 1.25 * built.learner.law.centres.abs().max()
    clouds = [built.learner.learners[number].averaged.sample(500, random).cpu() for number in numbers]
    return torch.stack([torch.histogramdd(cloud, 64, range=[-extent.item(), extent.item()] * 2).hist.clamp(max=1).T.flip(0)
                        for cloud in clouds]).float()


# --- Digits ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Networks:
    width: int = 32                         # channels of the generator before its last layer
    discriminator_width: int = 32
    hidden: int = 256                       # units of the layer next to z, and of the one before the logit
    latent: int = 64
    classes: int = 0
    packed: int = 1
    stacked: int = 1                        # digits in an image, one a channel


@dataclass(frozen=True)
class Digits:
    training_images: int = 60_000
    test_images: int = 10_000
    samples: int = 10_000                   # that are scored at the end
    quick_samples: int = 2_000              # while it learns
    looks: int = 30                         # how often
    shown: int = 10                         # samples of fixed z that are kept at each look


@dataclass(frozen=True)
class Settings:
    networks: Networks
    learning: Learning
    digits: Digits = Digits()


class RecordedState(LearningState):
    """`LearningState` with the record of its looks and a film of samples of fixed z."""

    def __init__(self, machine: GAN, averaging: float, shown: int, looks: int, curves: tuple[str, ...],
                 numbers: int) -> None:
        super().__init__(machine, averaging, shown)
        self.record = Record(looks, curves)
        self.register_buffer("film", torch.zeros(looks, shown, numbers, dtype=torch.uint8))

    def keep(self, step: int, values: Mapping[str, float], images: Tensor) -> None:
        """One look: what was measured, and the samples, in [0, 1]."""
        row = int(self.record.steps.count_nonzero())
        self.record.add(step, values)
        if row < len(self.film):
            self.film[row] = (255 * images).round().to(torch.uint8)

    def shipped(self) -> dict[str, Tensor]:
        return (shipped_generator(self) | {"film": self.film, "fixed": self.fixed}
                | {f"record.{name}": value for name, value in self.record.state_dict().items()})

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Takes what a checkpoint holds, or what `shipped` gives."""
        if any(name.startswith("generator.") for name in state_dict):
            kept = {name: tensor for name, tensor in state_dict.items() if not name.startswith("generator.")}
            state_dict = everywhere(self, state_dict) | kept
        return super().load_state_dict(state_dict, strict, assign)


class RecordedLearning(AdversarialLearner):
    """`AdversarialLearner` on digits, which keeps its looks at what the averaged generator makes."""

    module: RecordedState
    curves = ("frechet", "precision", "recall")

    def __init__(self, machine: GAN, *players: Any, digits: Digits, stacked: int = 1, averaging: float = 0.0,
                 **options: Any) -> None:
        super().__init__(machine, *players, averaging=averaging, **options)
        self.digits, self.stacked, self.at = digits, stacked, 0
        self.module = RecordedState(machine, averaging, digits.shown, digits.looks + 1, self.curves, 784 * stacked)

    def training_step(self, batch: Any, context: Context) -> Mapping[str, Tensor]:
        self.at = context.step
        return super().training_step(batch, context)

    def evaluate(self, data: Tensor | None, context: Context) -> Mapping[str, float]:
        """Scores of the averaged generator's samples beside test images in [0, 1]: nothing is chosen by them."""
        if data is None:
            return {}
        labels = self.labels(self.digits.shown, self.module.fixed.device)
        shown = unit(self.averaged.generate(self.module.fixed, labels))
        found = self.scores(self.drawn(self.digits.quick_samples, context.generator), data.cpu())
        if self.at:
            self.module.keep(self.at, found, shown)
        return found

    def labels(self, count: int, device: torch.device) -> Tensor | None:
        """0, 1, …, 9, 0, …: as many of each class, or None."""
        return torch.arange(count, device=device) % self.gan.classes if self.gan.classes else None

    @torch.no_grad()
    def drawn(self, count: int, random: torch.Generator) -> Tensor:
        """Samples in [0, 1], (count, numbers), on the CPU."""
        machine, labels = self.averaged, self.labels(count, random.device)
        parts = [None] * math.ceil(count / 500) if labels is None else labels.split(500)
        sizes = [min(500, count - 500 * number) for number in range(len(parts))]
        return torch.cat([unit(machine.sample(size, random, part)).cpu() for size, part in zip(sizes, parts)])

    def scores(self, images: Tensor, test: Tensor) -> dict[str, float]:
        """Fréchet distance, precision and recall to as many test images, or all there are."""
        network = features()
        real, made = network.features(test[:len(images)]), network.features(images)
        if len(made) <= made.shape[1]:      # the smoke preset
            return dict.fromkeys(self.curves, 0.0)
        shares = fid.precision_recall(real, made)
        return {"frechet": fid.frechet_distance(real, made), "precision": shares.precision, "recall": shares.recall}


class StackedLearning(RecordedLearning):
    """The same on digits stacked three deep: a batch is of single digits, and three that follow make an image."""

    curves = ("modes", "reverse_kl", "sure")

    def training_step(self, batch: Tensor, context: Context) -> Mapping[str, Tensor]:
        return super().training_step(batch.reshape(-1, self.stacked * batch.shape[1]), context)

    def check(self, x: Tensor, labels: Tensor | None) -> None:
        whole = len(x) - len(x) % self.stacked
        super().check(x[:whole].reshape(-1, self.stacked * x.shape[1]), labels)

    def scores(self, images: Tensor, test: Tensor) -> dict[str, float]:
        found = fid.stacked_modes(features(), images)
        return {"modes": found.found, "reverse_kl": found.reverse_kl, "sure": found.good}


def unit(x: Tensor) -> Tensor:
    """From [−1, 1] to [0, 1]."""
    return 0.5 * (x.float().clamp(-1, 1) + 1)


def make_machine(how: Networks, seed: int, penalised: bool) -> GAN:
    """A DCGAN with its first weights, which depend on the seed alone."""
    with seeded(derived_seed(seed, "weights")):
        return GAN(
            dcgan_generator(how.latent, channels=how.stacked, width=how.width, hidden=how.hidden,
                            classes=how.classes),
            dcgan_discriminator(channels=how.stacked, width=how.discriminator_width, hidden=how.hidden,
                                classes=how.classes, packed=how.packed, normalise=not penalised),
            how.latent, classes=how.classes, packed=how.packed)


def build(settings: Settings, seed: int) -> Built:
    how, digits, networks = settings.learning, settings.digits, settings.networks
    train = load_digits("train", 0, digits.training_images)
    images = 2 * train["x"] - 1
    test = load_digits("test", 0, digits.test_images)["x"]
    test = test[torch.randperm(len(test), generator=generator(0, "order"))]     # its halves are of different writers
    learner = adversaries(
        make_machine(networks, seed, how.penalty > 0), how, StackedLearning if networks.stacked > 1 else RecordedLearning,
        digits=digits, stacked=networks.stacked)
    loop = TrainingSettings(steps=how.steps, batch_size=how.batch_size * networks.stacked,
                            report_every=min(100, how.steps), precision=how.precision,
                            evaluate_every=max(1, how.steps // digits.looks))
    return Built(learner, {"x": images, "labels": train["labels"]} if networks.classes else images, test, loop)


def measure(built: Built, settings: Settings, device: torch.device, seed: int) -> dict[str, Metric]:
    """Scores of samples of the averaged generator as it is shipped, beside those of real digits."""
    learner, digits = built.learner, settings.digits
    learner.module.load_state_dict(learner.module.shipped())
    images = learner.drawn(digits.samples, generator(seed, "samples", device))
    if settings.networks.stacked > 1:
        return measure_stacked(images)
    test = built.evaluation_data.cpu()
    how = f"{len(images):,} samples and {len(test):,} MNIST test images, features of digit-features"
    found = learner.scores(images, test)
    metrics = {
        "frechet": Metric(found["frechet"], f"Fréchet distance, {how}", better="lower"),
        "precision": Metric(found["precision"], f"share of samples near a test image, third neighbour, {how}"),
        "recall": Metric(found["recall"], f"share of test images near a sample, third neighbour, {how}"),
    }
    if settings.networks.classes:
        labels = learner.labels(len(images), images.device)
        metrics["label_error"] = Metric(100 * wrong(features(), images, labels).item(), f"{len(images):,} samples whose class, as "
                                        "digit-features sees it, is not the one asked for", "%", better="lower")
    return metrics


def measure_stacked(images: Tensor) -> dict[str, Metric]:
    """Modes among 1,000, in two countings, and how even they are."""
    network = features()
    modes, how = fid.stacked_modes(network, images), f"{len(images):,} samples, classes as digit-features sees them"
    label, probability = network.classify(images.unflatten(1, (3, -1)).flatten(0, 1))
    sure = (probability.unflatten(0, (-1, 3)) >= 0.9).all(1)
    triples = label.long().unflatten(0, (-1, 3)) @ torch.tensor([100, 10, 1])
    return {
        "modes": Metric(modes.found, f"triples of 1,000 with at least one of {how}", better="higher"),
        "sure_modes": Metric(triples[sure].unique().numel(), f"the same among samples all three of whose digits are at "
                             f"least .9 sure, {how}", better="higher"),
        "sure": Metric(100 * modes.good, f"share of samples all three of whose digits are at least .9 sure, {how}", "%"),
        "reverse_kl": Metric(modes.reverse_kl, f"KL of the shares of triples to equal shares, {how}", "nats",
                             better="lower"),
    }


def weights(learner: Ladder | RecordedLearning) -> Mapping[str, Tensor]:
    return learner.module.shipped()


def sample(built: Built, settings: Settings, count: int, random: torch.Generator) -> Tensor:
    """Samples of the averaged generator; of stacked digits the mean of the three."""
    return built.learner.drawn(count, random).unflatten(1, (-1, 28, 28)).mean(1)


# --- Reading what was recorded ----------------------------------------------------------------------------------------


def settings_of(name: str, preset: str) -> Any:
    return next(each for each in EXPERIMENTS if each.name == name).presets[preset]


def trained(name: str, preset: str = "full", seed: int | None = None) -> GAN:
    """The machine of a recorded run on digits, on the CPU in float32, with its averaged generator. Its discriminator is
    not a trained one.

    seed: None for the first recorded one. Raises ResultError where nothing is recorded.
    """
    tensors, how = results.load(name, preset).weights(seed), settings_of(name, preset)
    machine = make_machine(how.networks, 0, how.learning.penalty > 0)
    machine.generator.load_state_dict(taken(tensors, "generator."))
    return machine.requires_grad_(False).eval()


def trained_plane(name: str, preset: str = "book", remedy: int = 0, seed: int | None = None) -> GAN:
    """The machine of one remedy of a recorded run in the plane, as `trained` gives those on digits."""
    tensors, how = results.load(name, preset).weights(seed), settings_of(name, preset)
    machine = make_plane(how.plane, how.remedies[remedy].packed, 0)
    machine.generator.load_state_dict(taken(tensors, f"remedy{remedy}."))
    return machine.requires_grad_(False).eval()


def taken(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What stands under that prefix, in float32 where it is no whole number."""
    return {name.removeprefix(prefix): tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in tensors.items() if name.startswith(prefix)}


def curves(name: str, preset: str = "full", seed: int | None = None) -> dict[str, tuple[Tensor, Tensor]]:
    """A recorded run's looks while it learnt, {"frechet": (steps, values), …}; "modes", "reverse_kl", "sure" for stacked
    digits. Raises ResultError where nothing is recorded.
    """
    tensors, how = results.load(name, preset).weights(seed), settings_of(name, preset)
    names = StackedLearning.curves if how.networks.stacked > 1 else RecordedLearning.curves
    steps, values = tensors["record.steps"], tensors["record.values"]
    done = steps > 0
    return {key: (steps[done], values[done, column]) for column, key in enumerate(names)}


def film(name: str, preset: str = "full", seed: int | None = None) -> tuple[Tensor, Tensor]:
    """Steps, (looks,), and samples of fixed z at those steps, in [0, 1]: (looks, samples, numbers)."""
    tensors = results.load(name, preset).weights(seed)
    done = tensors["record.steps"] > 0
    return tensors["record.steps"][done], tensors["film"][done].float() / 255


def remedies(name: str, preset: str = "book") -> dict[str, list[tuple[int, float]]]:
    """For each remedy of a recorded run in the plane, modes found and share of good samples in per cent, of every seed.

    Raises ResultError where nothing is recorded.
    """
    runs = results.load(name, preset).runs
    return {remedy.words: [(round(run.metrics[f"modes_{number}"].value), run.metrics[f"good_{number}"].value) for run in runs]
            for number, remedy in enumerate(settings_of(name, preset).remedies)}


SMOKE = Digits(60, 50, 50, 10, 2, 2)
PLAYERS = Learning(batch_size=64, constant=0.5, averaging=0.999, precision="bfloat16")


def small(networks: Networks) -> Settings:
    return Settings(replace(networks, width=4, discriminator_width=4, hidden=8, latent=4),
                    replace(PLAYERS, steps=4, batch_size=4, averaging=0.5, precision="float32"), SMOKE)


def presets(networks: Networks, book: int, full: int, **change: Any) -> dict[str, Settings]:
    scored = Digits(samples=26_000, quick_samples=5_000) if networks.stacked > 1 else Digits()
    return {"smoke": small(networks)} | {
        preset: Settings(networks, replace(PLAYERS, steps=steps, **change), scored)
        for preset, steps in (("book", book), ("full", full))}


EXPERIMENTS = (
    Experiment("digit-features", "a classifier of digits, whose features measure samples (chapter 7)",
               CLASSIFIER, build_classifier, measure_classifier, show_digits, classifier_weights),
    Experiment("gan-ring", "a ring of eight Gaussians: mode collapse and its remedies (chapter 7)",
               plane_presets("ring", 3_000, 20_000), build_plane, measure_plane, sample_plane, weights),
    Experiment("gan-grid", "a grid of twenty-five Gaussians, the same remedies (chapter 7)",
               plane_presets("grid", 5_000, 20_000), build_plane, measure_plane, sample_plane, weights),
    Experiment("gan-mnist", "a DCGAN on MNIST (chapter 7)",
               presets(Networks(), 3_000, 45_000), build, measure, sample, weights),
    Experiment("gan-mnist-labels", "a DCGAN on MNIST that is told which digit to draw (chapter 7)",
               presets(Networks(16, 16, classes=10), 4_000, 45_000, averaging=0.995), build, measure, sample, weights),
    Experiment("gan-stacked", "a packed DCGAN on MNIST stacked three deep, a law of 1,000 modes (chapter 7)",
               presets(Networks(latent=100, packed=2, stacked=3), 3_000, 45_000), build, measure, sample, weights),
)
