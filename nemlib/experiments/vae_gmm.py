"""Chapter 5's recorded runs: VAE and Gaussian mixture on MNIST, with and without an exchange, and the method of
the project that the chapter starts from.

    from nemlib.experiments import vae_gmm as recorded
    curves = recorded.curves("vae-gmm-mnist", "book", seed=0)   # {"accuracy": (epochs, values), …}
    latents = recorded.latents("vae-gmm-mnist", "book")         # of some images, before and after the exchange

True digits are looked at by scores alone: no start, epoch or sweep of a run is chosen by them. (The settings of
the recipe were settled in short trials whose accuracy was seen as well; the chapter says which.) The images are
drawn from the training file at random, since the file is sorted by its writers.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nemlib import data
from nemlib.evaluate import clustering
from nemlib.experiments import results
from nemlib.experiments.experiment import Built, Experiment, generator
from nemlib.experiments.record import Record
from nemlib.experiments.results import Metric
from nemlib.gmm import Prior, assignment_information, neighbour_labels
from nemlib.networks import fully_connected
from nemlib.training import Context, TrainingSettings, cosine_schedule, derived_seed, seeded
from nemlib.vae import Gaussian, LearningState
from nemlib.vae_gmm import (
    VAEGMM, ComposedPrior, Exchange, Hard, Message, MutualLearner, Ramp, Sampled, Silent, Soft, VaDEPrior,
    expected_log_joint,
)

BOUNDS = ("honest", "soft", "conditional")
SCORES = ("accuracy", "nmi", "ari")
CURVES = (*(f"{part}_{name}" for part in ("train", "test") for name in BOUNDS),
          *SCORES, *(f"test_{name}" for name in SCORES), "information", "smallest_weight")
MESSAGES = {"soft": Soft(), "hard": Hard(), "sampled": Sampled(), "silent": Silent()}


# --- Settings -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """The VAE, fully connected with these hidden widths, the decoder's the other way round, and the mixture."""

    widths: tuple[int, ...] = (512, 256)
    latent: int = 12
    components: int = 10


@dataclass(frozen=True)
class Digits:
    """MNIST; each training pixel is drawn anew whenever it is used, for bounds once."""

    images: int = 10_000                    # drawn at random from the training file
    test_images: int = 10_000
    bound_images: int = 2_000               # of each kind, for the bounds of a look
    every: int = 1                          # epochs between looks
    shown: int = 1_500                      # whose latent points are shipped
    seed: int = 0                           # of that choice and of the pixels of bounds


@dataclass(frozen=True)
class Learning:
    """Adam, its rate falling to 0 as half a cosine; β is `low` in the first epochs, then rises to 1."""

    first: int = 12                         # epochs before the modules speak
    rounds: int = 24                        # epochs after that
    batch_size: int = 200
    learning_rate: float = 2e-3
    low: float = 0.2
    rise: float = 0.7                       # share of the rounds in which β rises


@dataclass(frozen=True)
class Talk:
    """What the modules say, and how the mixture begins."""

    message: str = "soft"                   # a key of MESSAGES; "silent" is the control
    restarts: int = 30                      # of the sampler, from k-means++; its best begins
    first_sweeps: int = 40
    landmarks: int = 0                      # if there are any, the start is by neighbours
    sweeps: int = 1                         # a round; many of them leave a good start before the VAE follows
    means: bool = False
    reinitialise: bool = False


@dataclass(frozen=True)
class Settings:
    machine: Machine = Machine()
    digits: Digits = Digits()
    learning: Learning = Learning()
    talk: Talk = Talk()
    ships_networks: bool = False            # or what they learnt alone: latent points, mixture, curves


def presets(**talk: Any) -> dict[str, Settings]:
    """A pair of modules that talk so. The book's settings are those of one minute on one core."""
    how = Talk(**talk)
    many = replace(how, landmarks=20_000 if how.landmarks else 0)
    return {
        "smoke": Settings(Machine((16,), 3), Digits(200, 100, 50, shown=50), Learning(2, 2, 50),
                          replace(how, restarts=2, first_sweeps=2, landmarks=min(how.landmarks, 100)), True),
        "book": Settings(talk=how),
        "full": Settings(digits=Digits(60_000, every=2), learning=Learning(100, 80, rise=0.25), talk=many,
                         ships_networks=True),
    }


# --- The learner: training that keeps its curves ------------------------------------------------------------


class RecordedState(LearningState):
    """`LearningState` with the record of its looks, latent points before and after, and the last table.

    Accuracy and information of two more mixtures: start, as the first exchange left it, before anything was learnt
    from its message; fresh, fitted anew to the last latent points.
    """

    def __init__(self, model: VAEGMM, looks: int, shown: int, ships_networks: bool) -> None:
        super().__init__(model.vae, 0.0)
        self.record, self.ships_networks = Record(looks, CURVES), ships_networks
        self.register_buffer("fresh", torch.zeros(2))
        self.register_buffer("start", torch.zeros(2))
        for name in ("before", "after"):
            self.register_buffer(name, torch.zeros(shown, model.vae.latent))
        self.register_buffer("component", torch.zeros(shown, dtype=torch.long))
        self.register_buffer("table", torch.zeros(model.gmm.components, 10, dtype=torch.long))

    def shipped(self) -> dict[str, Tensor]:
        """Latent points and networks, if these are shipped, in half precision, the rest as it is."""
        kept = {f"mixture.{name}": getattr(self.vae.prior.gmm, name) for name in PARTS}
        kept |= {"before": self.before.half(), "after": self.after.half(), "component": self.component,
                 "table": self.table, "start": self.start, "fresh": self.fresh}
        kept |= {f"record.{name}": value for name, value in self.record.state_dict().items()}
        if self.ships_networks:
            kept |= {f"network.{name}": tensor.detach().half() for name, tensor in self.vae.state_dict().items()
                     if not name.startswith("prior.")}
        return kept

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Takes what a checkpoint holds, or what `shipped` gives: networks that are not in it stay as they are."""
        if "mixture.weights" in state_dict:
            places = {"mixture.": "vae.prior.gmm.", "network.": "vae."}
            state_dict = super().state_dict() | {renamed(name, places): tensor for name, tensor in state_dict.items()}
        return super().load_state_dict(state_dict, strict, assign)


PARTS = ("weights", "means", "factors")      # of a mixture


def renamed(name: str, places: Mapping[str, str]) -> str:
    """The name with its beginning exchanged, if it is one of these."""
    for short, place in places.items():
        if name.startswith(short):
            return place + name.removeprefix(short)
    return name


class Pictures(NamedTuple):
    """What a look needs beside the training images: their digits, and images of 0 and 1 for bounds."""

    digits: Tensor
    test: Tensor
    test_digits: Tensor
    bounds: dict[str, Tensor]


class RecordedLearning(MutualLearner):
    """`MutualLearner` that keeps what it sees: bounds, scores beside the true digits, latent points."""

    module: RecordedState

    def __init__(
        self, model: VAEGMM, pictures: Pictures, state: RecordedState, last_step: int, **options: Any
    ) -> None:
        super().__init__(model, **options)
        self.module, self.pictures, self.last_step, self.at, self.epoch = state, pictures, last_step, 0, 0

    def training_step(self, batch: Tensor, context: Context) -> Mapping[str, Tensor]:
        self.at, self.epoch = context.step, context.epoch       # an evaluation's own context counts neither
        return super().training_step(batch, context)

    def evaluate(self, data: Tensor | None, context: Context) -> Mapping[str, float]:
        """One look with the present weights of both modules; data: the training images, grey."""
        if data is None or not self.at:
            return {}
        found = self.look(data, context)
        self.module.record.add(self.at, found)
        shown = self.module.before.shape[0]
        latents = self.model.up(data[:shown], context.generator).mean
        if self.epoch <= self.how.first:
            self.module.before.copy_(latents)
        self.module.after.copy_(latents)
        if self.at == self.last_step:
            self.module.fresh.copy_(self.anew(data, context.generator))
        return found

    @torch.no_grad()
    def exchange(self, images: Tensor, random: torch.Generator, first: bool = False) -> Tensor:
        information = super().exchange(images, random, first)
        if first:
            labels = self.model.prior.responsibilities.argmax(1).cpu()
            self.module.start.copy_(torch.tensor([scored(labels, self.pictures.digits)["accuracy"], information]))
        return information

    def anew(self, images: Tensor, random: torch.Generator) -> Tensor:
        """Accuracy and information of a mixture fitted to the present latent points from k-means++ starts."""
        gmm = copy.deepcopy(self.model.gmm)
        gmm.fit(self.model.up(images, random).draw, random, self.how.first_sweeps, self.how.restarts)
        r = expected_log_joint(self.model.encoded(images), gmm.mixture).softmax(1)
        return torch.tensor([scored(r.argmax(1).cpu(), self.pictures.digits)["accuracy"], assignment_information(r)])

    def look(self, images: Tensor, context: Context) -> dict[str, float]:
        model, pictures, found = self.model, self.pictures, {}
        for part, drawn in pictures.bounds.items():
            read = model.bounds(drawn.to(images.device), context.generator)
            found |= {f"{part}_{name}": getattr(read, name).mean().item() for name in BOUNDS}
        r = model.responsibilities(images)
        labels = r.argmax(1).cpu()
        found |= scored(labels, pictures.digits)
        test = model.classify(pictures.test.to(images.device)).cpu()
        found |= {f"test_{name}": value for name, value in scored(test, pictures.test_digits).items()}
        self.module.component.copy_(labels[:len(self.module.component)])
        self.module.table.copy_(table_of(labels, pictures.digits, model.gmm.components))
        return found | {"information": assignment_information(r).item(),
                        "smallest_weight": model.gmm.weights.min().item()}


def table_of(labels: Tensor, digits: Tensor, components: int) -> Tensor:
    """How many images of each component, (components, 10), show which digit."""
    return torch.bincount(10 * labels + digits, minlength=10 * components).reshape(components, 10)


def scored(labels: Tensor, digits: Tensor) -> dict[str, float]:
    """Accuracy by the best matching one to one, NMI and ARI: `SCORES`."""
    tables = table_of(labels, digits, int(labels.max()) + 1)[None]
    scores = (clustering.accuracy, clustering.normalised_mutual_information, clustering.adjusted_rand_index)
    return {name: score(tables).item() for name, score in zip(SCORES, scores)}


# --- Building and measuring ---------------------------------------------------------------------------------


def load_digits(how: Digits) -> tuple[Tensor, Pictures]:
    """Training images, grey, (images, 784), in an order of their own; and what the looks need."""
    train, test = data.mnist("train"), data.mnist("test")
    rows = torch.randperm(len(train.images), generator=generator(how.seed, "choice"))[:how.images]
    others = torch.randperm(len(test.images), generator=generator(how.seed, "test"))[:how.test_images]
    images, held = train.images[rows].flatten(1), test.images[others].flatten(1)
    bounds = {name: data.binarize_fixed(grey[:how.bound_images], how.seed)
              for name, grey in (("train", images), ("test", held))}
    return images, Pictures(train.labels[rows].long(), held, test.labels[others].long(), bounds)


def make_model(how: Machine, examples: int, message: Message, seed: int, prior: Prior | None = None) -> VAEGMM:
    """VAE and mixture with the first weights, which depend on the seed alone."""
    with seeded(derived_seed(seed, "weights")):
        encoder = fully_connected([784, *how.widths, 2 * how.latent])
        decoder = fully_connected([how.latent, *reversed(how.widths), 784])
    return VAEGMM(encoder, decoder, latent=how.latent, components=how.components, examples=examples,
                  message=message, prior=prior)


def build(settings: Settings, seed: int) -> Built:
    how, talk = settings.learning, settings.talk
    images, pictures = load_digits(settings.digits)
    model = make_model(settings.machine, len(images), MESSAGES[talk.message], seed)
    steps, epochs = len(images) // how.batch_size, how.first + how.rounds
    optimizer = torch.optim.Adam(model.vae.parameters(), how.learning_rate, fused=True)
    start = functools.partial(neighbour_labels, landmarks=talk.landmarks) if talk.landmarks else None
    every = settings.digits.every
    learner = RecordedLearning(
        model, pictures, RecordedState(model, epochs // every + 1, settings.digits.shown, settings.ships_networks),
        epochs * steps, optimizer=optimizer,
        how=Exchange(first=how.first, restarts=talk.restarts, first_sweeps=talk.first_sweeps, sweeps=talk.sweeps,
                     means=talk.means, reinitialise=talk.reinitialise, start=start),
        beta=Ramp(how.low, how.first * steps, int(how.rise * how.rounds * steps)),
        scheduler=cosine_schedule(optimizer, epochs * steps))
    loop = TrainingSettings(epochs=epochs, batch_size=how.batch_size, report_every=steps,
                            evaluate_every=every * steps)
    return Built(learner, images, images, loop)


PROTOCOLS = {
    "honest": ("evidence lower bound under the mixture of the last exchange, one draw an image", "nats"),
    "soft": ("the same with the closed-form bound of the divergence", "nats"),
    "conditional": ("conditioned on each image's most probable component: no bound on log p(o)", "nats"),
    "accuracy": ("share of images whose component stands for their digit, best matching one to one, the mixture that of "
                 "the last exchange, before the last epoch", "%"),
    "nmi": ("mutual information of component and digit over the mean of their entropies", ""),
    "ari": ("adjusted Rand index of components and digits", ""),
}


def measure(built: Built, settings: Any, device: torch.device, seed: int) -> dict[str, Metric]:
    """The last look, as it was recorded while the run went on: most runs ship no networks to look at again."""
    record, how = built.learner.module.record, settings.digits
    row = int(record.steps.count_nonzero()) - 1
    last = dict(zip(record.names, record.values[row].tolist()))
    found = {}
    for part, images, count in (("train", "images that were learnt from", how.images),
                                ("test", "MNIST test images", how.test_images)):
        for name, (words, unit) in PROTOCOLS.items():
            number = min(count, how.bound_images) if name in BOUNDS else count
            value = last[f"{part}_{name}" if part == "test" or name in BOUNDS else name]
            found[f"{part}_{name}"] = Metric(100 * value if unit == "%" else value, f"{words}; {number:,} {images}",
                                             unit, better="" if name == "conditional" else "higher")
    found["information"] = Metric(last["information"], "information of the assignment, which knows no digits; at most "
                                  "the logarithm of the number of components", "nats")
    accuracy, information = built.learner.module.fresh.tolist()
    found["fresh_accuracy"] = Metric(100 * accuracy, "of a mixture fitted anew to the last latent points, from "
                                     f"k-means++ starts chosen by information; {how.images:,} images", "%")
    found["fresh_information"] = Metric(information, "the information of that mixture's assignment", "nats")
    accuracy, information = built.learner.module.start.tolist()
    found["start_accuracy"] = Metric(100 * accuracy, "of the first exchange's assignment, before anything was learnt from its "
                                     f"message; {how.images:,} images that were learnt from", "%")
    found["start_information"] = Metric(information, "the information of that assignment", "nats")
    return found


def weights(learner: RecordedLearning) -> Mapping[str, Tensor]:
    return learner.module.shipped()


def sample(built: Built, settings: Any, count: int, random: torch.Generator) -> Tensor:
    """A picture of each component in turn, the mean of the pixels."""
    model = built.learner.model
    pictures = [model.sample_component(number % model.gmm.components, 1, random) for number in range(count)]
    return torch.cat(pictures).unflatten(1, (28, 28))


# --- The same model in one piece: VaDE ----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Learnt(Soft):
    """VaDE's prior, which learns by the same gradient as the networks, in the place of what the mixture would say."""

    learnt: VaDEPrior

    def kl(self, prior: ComposedPrior, q: Gaussian, rows: Tensor) -> Tensor:
        return self.learnt.kl(q, rows)


class OnePieceLearning(RecordedLearning):
    """The same network and steps; at the time of the first exchange VaDE's prior begins at the mixture that would
    have been sent, and learns with the networks from then on.
    """

    def training_step(self, batch: Tensor, context: Context) -> Mapping[str, Tensor]:
        late = context.epoch > self.how.first
        self.model.prior.message = Learnt(self.module.one_piece) if late else Silent()
        return super().training_step(batch, context)

    def begin_epoch(self, context: Context) -> None:
        super().begin_epoch(context)
        if context.epoch == self.how.first + 1:
            self.exchange(context.data, context.common_generator, first=True)
            self.module.one_piece.begin_at(self.model.gmm.mixture)

    def look(self, images: Tensor, context: Context) -> dict[str, float]:
        if self.epoch > self.how.first:
            self.model.gmm.mixture = self.module.one_piece.mixture()
        return super().look(images, context)


def build_one_piece(settings: Settings, seed: int) -> Built:
    machine, built = settings.machine, build(settings, seed)
    old = built.learner
    old.module.one_piece = VaDEPrior(machine.latent, machine.components, generator(seed, "prior"))
    parameters = [*old.model.vae.parameters(), *old.module.one_piece.parameters()]
    optimizer = torch.optim.Adam(parameters, settings.learning.learning_rate, fused=True)
    learner = OnePieceLearning(
        old.model, old.pictures, old.module, old.last_step, optimizer=optimizer, how=replace(old.how, every=None),
        beta=old.ramp, scheduler=cosine_schedule(optimizer, old.last_step))
    return replace(built, learner=learner)


# --- The project that the chapter starts from ---------------------------------------------------------------
# As its code was (is0383kk, 2022), with its two faults; the same without any message; and mended. What differs
# from its code: pixels are drawn instead of grey values under a cross-entropy; images are drawn at random instead
# of the first 10,000; batches are shuffled (image n still gets the message to image n // batch); k-means++ starts
# the sampler; the last labels' mean parameters are sent instead of a draw.


class OwnComponent(Hard):
    """The project's message: mean and variances of the image's component, and no price for its label."""

    def kl(self, prior: ComposedPrior, q: Gaussian, rows: Tensor) -> Tensor:
        """KL(q ‖ N(μ_z, diag Σ_z)), (batch,)."""
        mixture, labels = prior.mixture(q.mean.dtype), prior.labels[rows]
        variances = mixture.covariances.diagonal(dim1=1, dim2=2)
        return q.kl(Gaussian(mixture.means[labels], variances[labels].log())).sum(-1)


@dataclass(frozen=True)
class ByBatchNumber(OwnComponent):
    """The first fault: images come in their order, and batch b is given the message to image b."""

    batch_size: int = 10

    def kl(self, prior: ComposedPrior, q: Gaussian, rows: Tensor) -> Tensor:
        return super().kl(prior, q, rows // self.batch_size)


@dataclass(frozen=True)
class ProjectLearning:
    epochs: int = 30                        # of each of the two rounds
    batch_size: int = 10
    learning_rate: float = 1e-3
    sweeps: int = 100
    starts: int = 5                         # of the sampler, one sweep after another, when a round is looked at
    alpha: float = 0.3
    kappa: float = 1.0
    scale: float = 0.55                     # W = scale · I, with as many degrees of freedom as dimensions


@dataclass(frozen=True)
class ProjectSettings:
    message: str                            # a key of PROJECT
    divide: bool                            # the second fault: the KL of round 2 over the batch size
    machine: Machine = Machine((256,))
    digits: Digits = Digits(bound_images=10_000, shown=0)
    learning: ProjectLearning = ProjectLearning()


PROJECT_CURVES = ("own", "train_honest", "test_honest", "accuracy", "best_accuracy")


class ProjectState(LearningState):
    """`LearningState` with what was seen at the end of each round."""

    def __init__(self, model: VAEGMM) -> None:
        super().__init__(model.vae, 0.0)
        self.record = Record(2, PROJECT_CURVES)

    def shipped(self) -> dict[str, Tensor]:
        return {f"record.{name}": value for name, value in self.record.state_dict().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Takes what a checkpoint holds, or what `shipped` gives: then the networks stay as they are."""
        return super().load_state_dict(super().state_dict() | dict(state_dict), strict, assign)


class ProjectLearner(MutualLearner):
    """Two rounds with new weights for the second one; everything else as in `MutualLearner`."""

    module: ProjectState

    def __init__(
        self, model: VAEGMM, pictures: Pictures, project: ProjectSettings, steps: int, **options: Any
    ) -> None:
        super().__init__(model, **options)
        self.module, self.pictures, self.project = ProjectState(model), pictures, project
        self.steps, self.at = steps, 0

    def beta(self, step: int) -> float:
        """1; and 1 / batch in the second round where that fault is made."""
        late = step > self.project.learning.epochs * self.steps
        return 1 / self.project.learning.batch_size if self.project.divide and late else 1.0

    def training_step(self, batch: Tensor, context: Context) -> Mapping[str, Tensor]:
        self.at = context.step
        return super().training_step(batch, context)

    @torch.no_grad()
    def evaluate(self, data: Tensor | None, context: Context) -> Mapping[str, float]:
        """At the end of a round: the project's own figure, and the bound under a mixture fitted to this VAE."""
        if data is None or not self.at:
            return {}
        model, how, random = copy.deepcopy(self.model), self.project.learning, context.generator
        found = {"own": self.own(data, context)}
        up, accuracies, best = model.up(data, random), [], 0.0
        for _ in range(how.starts):
            model.gmm.start(up.draw, random)
            chain = model.gmm.run(up.draw, how.sweeps, random, keep=True)
            each = [scored(labels, self.pictures.digits)["accuracy"] for labels in chain.labels]
            accuracies.append(each[-1])
            best = max(best, *each)
        model.gmm.settle(up.draw, chain.labels[-1])
        for part, drawn in self.pictures.bounds.items():
            found[f"{part}_honest"] = model.bounds(drawn.to(data.device), random).honest.mean().item()
        found |= {"accuracy": sum(accuracies) / len(accuracies), "best_accuracy": best}
        self.module.record.add(self.at, found)
        return found

    def own(self, data: Tensor, context: Context) -> float:
        """Reconstruction less the KL as the training loss weighs it, the project's "ELBO"."""
        rows = torch.arange(len(data), device=data.device)
        drawn = self.drawn(data, context.generator)
        _, reconstruction, kl = self.vae.terms(drawn, context.generator, 1, rows)
        return (reconstruction - self.beta(self.at) * kl).mean().item()


class Unsent(OwnComponent):
    """No message: every image keeps N(0, I)."""

    def kl(self, prior: ComposedPrior, q: Gaussian, rows: Tensor) -> Tensor:
        return q.kl().sum(-1)


PROJECT = {"coded": ByBatchNumber(), "own": OwnComponent(), "silent": Unsent()}


def build_project(settings: ProjectSettings, seed: int) -> Built:
    how, machine = settings.learning, settings.machine
    images, pictures = load_digits(settings.digits)
    prior = Prior.same(machine.components, torch.zeros(machine.latent),
                       torch.eye(machine.latent) / how.scale, alpha=how.alpha, kappa=how.kappa, nu=machine.latent)
    model = make_model(machine, len(images), PROJECT[settings.message], seed, prior)
    steps = len(images) // how.batch_size
    optimizer = torch.optim.Adam(model.vae.parameters(), how.learning_rate, fused=True)
    learner = ProjectLearner(
        model, pictures, settings, steps, optimizer=optimizer,
        how=Exchange(first=how.epochs, every=how.epochs, restarts=1, first_sweeps=how.sweeps, reinitialise=True))
    loop = TrainingSettings(epochs=2 * how.epochs, batch_size=how.batch_size, report_every=steps,
                            evaluate_every=how.epochs * steps)
    return Built(learner, images, images, loop)


PROJECT_PROTOCOLS = {
    "own": "reconstruction less the divergence as the loss weighs it, {images:,} images that were learnt from",
    "train_honest": "evidence lower bound under the last of {starts} mixtures fitted to this VAE, one draw an image, {bounds:,} images that "
                    "were learnt from",
    "test_honest": "the same on {test:,} MNIST test images",
    "accuracy": "share of images whose component stands for their digit, best matching, {images:,} images that were "
                "learnt from; mean of the last sweeps of {starts} chains",
    "best_accuracy": "the best sweep of all {starts} chains, which only the true digits can point out",
}


def measure_project(built: Built, settings: ProjectSettings, device: torch.device, seed: int) -> dict[str, Metric]:
    """What was seen at the end of both rounds, as it was recorded: the networks are not shipped."""
    record, digits, found = built.learner.module.record, settings.digits, {}
    counts = {"images": digits.images, "bounds": min(digits.images, digits.bound_images),
              "test": min(digits.test_images, digits.bound_images), "starts": settings.learning.starts}
    for number, values in enumerate(record.values.tolist(), 1):
        for name, value in zip(record.names, values):
            unit = "%" if "accuracy" in name else "nats"
            words = f"round {number}: {PROJECT_PROTOCOLS[name].format(**counts)}"
            found[f"round{number}_{name}"] = Metric(100 * value if unit == "%" else value, words, unit,
                                                    better="" if name in ("own", "best_accuracy") else "higher")
    return found


def project_presets(message: str, divide: bool) -> dict[str, ProjectSettings]:
    how = ProjectSettings(message, divide)
    return {
        "smoke": replace(how, machine=Machine((16,), 3), digits=Digits(200, 100, 50, shown=0),
                         learning=ProjectLearning(1, 10, sweeps=2, starts=2)),
        "book": how,
        "full": replace(how, learning=ProjectLearning(epochs=100)),
    }


# --- Reading what was recorded ------------------------------------------------------------------------------


def curves(name: str, preset: str = "book", seed: int | None = None) -> dict[str, tuple[Tensor, Tensor]]:
    """A recorded run's looks, {"accuracy": (epochs, values), …}: `CURVES`.

    Raises ResultError where nothing is recorded.
    """
    tensors, how = results.load(name, preset).weights(seed), settings_of(name, preset)
    steps, values = tensors["record.steps"], tensors["record.values"]
    done = steps > 0
    epochs = steps[done] // (how.digits.images // how.learning.batch_size)
    return {key: (epochs, values[done, column]) for column, key in enumerate(CURVES)}


class Shown(NamedTuple):
    """Some images of a recorded run: grey, (shown, 784), their digits and last components, (shown,), and their latent
    points before the first message and after the last, (shown, latent).
    """

    images: Tensor
    digits: Tensor
    component: Tensor
    before: Tensor
    after: Tensor


def latents(name: str, preset: str = "book", seed: int | None = None) -> Shown:
    """The images whose latent points were shipped. Raises ResultError where nothing is recorded."""
    tensors = results.load(name, preset).weights(seed)
    images, pictures = load_digits(settings_of(name, preset).digits)
    count = len(tensors["component"])
    return Shown(images[:count], pictures.digits[:count], tensors["component"], tensors["before"].float(),
                 tensors["after"].float())


def table(name: str, preset: str = "book", seed: int | None = None) -> Tensor:
    """How many images of each component show which digit, (components, 10), after the last epoch."""
    return results.load(name, preset).weights(seed)["table"]


def trained(name: str, preset: str = "full", seed: int | None = None) -> VAEGMM:
    """The machine of a recorded run whose networks are shipped, on the CPU. It holds no messages to single images.

    Raises ResultError where nothing is recorded.
    """
    tensors, how = results.load(name, preset).weights(seed), settings_of(name, preset)
    model = make_model(how.machine, 1, MESSAGES[how.talk.message], 0)
    places = {"mixture.": "prior.gmm.", "network.": ""}
    state = {renamed(key, places): tensor.float() if key.startswith("network.") else tensor
             for key, tensor in tensors.items() if key.startswith(tuple(places))}
    model.vae.load_state_dict(model.vae.state_dict() | state)
    return model.requires_grad_(False).eval()


def settings_of(name: str, preset: str) -> Any:
    return next(each for each in EXPERIMENTS if each.name == name).presets[preset]


def exchanges(name: str, words: str, **talk: Any) -> Experiment:
    return Experiment(name, f"{words} (chapter 5)", presets(**talk), build, measure, sample, weights)


def project(name: str, words: str, message: str, divide: bool) -> Experiment:
    return Experiment(name, f"{words} (chapter 5)", project_presets(message, divide), build_project, measure_project,
                      sample, weights)


EXPERIMENTS = (
    exchanges("vae-gmm-mnist", "VAE and mixture that learn from each other", sweeps=10),
    exchanges("vae-gmm-control", "the same without a message to the VAE", message="silent", sweeps=10),
    exchanges("vae-gmm-neighbours", "VAE and mixture that learn from each other, started by neighbours",
              landmarks=5_000),
    exchanges("vae-gmm-neighbours-control", "the same start without a message to the VAE", message="silent",
              landmarks=5_000),
    Experiment("vae-gmm-one-piece", "the same model in one piece, VaDE: the mixture learns by gradient (chapter 5)",
               presets(), build_one_piece, measure, sample, weights),
    project("vae-gmm-coded", "the project's method as it was coded, with its two faults", "coded", True),
    project("vae-gmm-unsent", "the project's method without any message", "silent", True),
    project("vae-gmm-mended", "the project's method, mended", "own", False),
)
