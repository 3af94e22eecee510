"""Chapter 4's recorded runs: variational autoencoders on dynamically binarized MNIST.

    from nemlib.experiments import vae as recorded
    machine = recorded.trained("vae-conv", "full")        # the machine of a recorded run, an nemlib.vae.VAE
    curves = recorded.curves("vae-conv", "full")          # {"valid_elbo": (steps, values), …}

The first 50,000 training images are learnt from, the last 10,000 watched; nothing is chosen by them, the
machine of the end is kept, averaged over the last steps. What is measured and shipped is that machine with its
numbers rounded to half precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nemlib import data
from nemlib.experiments import results
from nemlib.experiments.experiment import Built, Experiment, generator
from nemlib.experiments.record import Record
from nemlib.experiments.results import Metric
from nemlib.networks import convolutional_decoder, convolutional_encoder, fully_connected
from nemlib.training import Context, TrainingSettings, cosine_schedule, derived_seed, seeded
from nemlib.vae import VAE, LearningState, MixturePrior, Objective, StandardNormal, VariationalLearner

CURVES = ("valid_elbo", "valid_reconstruction", "valid_kl", "valid_bound", "train_elbo")
WORDS = {"train": "training", "valid": "validation", "test": "test"}
ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}


# --- Settings -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """The VAE: fully connected with these hidden widths, the decoder's the other way round; or, where channels
    are given, two convolutions each way and one hidden layer of widths[0].
    """

    widths: tuple[int, ...] = (400,)
    latent: int = 20
    activation: str = "relu"
    channels: tuple[int, int] | None = None
    blocks: int = 0                         # residual ones, at a quarter of the side
    components: int = 0                     # of a mixture as prior; 0: the standard normal


@dataclass(frozen=True)
class Digits:
    """Data: MNIST, each training pixel drawn anew whenever it is used; held-out images drawn once."""

    training_images: int = 50_000
    validation_images: int = 10_000
    test_images: int = 10_000
    seed: int = 0                           # of the held-out images' draw


@dataclass(frozen=True)
class Learning:
    """Learning by Adam: the rate rises over `warm_up` steps, then falls to 0 as half a cosine."""

    epochs: int = 30
    batch_size: int = 100
    learning_rate: float = 2e-3
    warm_up: int = 500
    samples: int = 1
    importance: bool = False                # climb the bound of that many weights
    averaging: float = 0.998                # decay a step of the averaged machine


@dataclass(frozen=True)
class Likelihood:
    """Evaluation by importance sampling from the encoder."""

    every: int = 3                          # epochs between looks at the validation images
    quick_samples: int = 50                 # for those looks, on `more_images` images
    samples: int = 500                      # at the end, on all test images
    more_samples: int = 5_000               # at the end, on the first `more_images` test images
    more_images: int = 1_000
    chunk: int = 50


@dataclass(frozen=True)
class Settings:
    machine: Machine = Machine()
    digits: Digits = Digits()
    learning: Learning = Learning()
    likelihood: Likelihood = Likelihood()


def smoke(machine: Machine) -> Settings:
    return Settings(machine, Digits(200, 50, 50), Learning(epochs=2, batch_size=50, warm_up=2, averaging=0.5),
                    Likelihood(1, 3, 5, 10, 20, 5))


# Four layers: 784-400-20-400-784.
CLASSICAL = {
    "smoke": smoke(Machine((16,), 4)),
    "book": Settings(),
    "full": Settings(learning=Learning(epochs=300), likelihood=Likelihood(every=30)),
}
# Two latent units, to be looked at in the plane.
PLANE = {
    "smoke": smoke(Machine((16,), 2)),
    "book": Settings(Machine((256, 128), 2, "silu"), likelihood=Likelihood(samples=500)),
    "full": Settings(Machine((256, 128), 2, "silu"), learning=Learning(epochs=300),
                     likelihood=Likelihood(every=30)),
}


def published(samples: int, importance: bool, epochs: int) -> dict[str, Settings]:
    """The network of Burda et al. (2016) with one stochastic layer: 784-200-200-50, hyperbolic tangents."""
    machine = Machine((200, 200), 50, "tanh")
    return {
        "smoke": smoke(Machine((16, 16), 4, "tanh")),
        "book": Settings(machine, learning=Learning(samples=samples, importance=importance)),
        "full": Settings(machine, learning=Learning(epochs, learning_rate=1e-3, samples=samples,
                                                    importance=importance, averaging=0.999),
                         likelihood=Likelihood(every=max(1, epochs // 30))),
    }


CONVOLUTIONAL = Machine((256,), 40, "silu", channels=(16, 32), blocks=1)
STRONG = {
    "smoke": smoke(Machine((16,), 4, "silu", channels=(2, 4), blocks=1)),
    "book": Settings(CONVOLUTIONAL, learning=Learning(epochs=10)),
    "full": Settings(CONVOLUTIONAL, learning=Learning(epochs=150, averaging=0.9995),
                     likelihood=Likelihood(every=5)),
}


# --- The learner: training that keeps its curves ------------------------------------------------------------


class RecordedState(LearningState):
    """`LearningState` with the record of its evaluations."""

    def __init__(self, vae: VAE, averaging: float, evaluations: int) -> None:
        super().__init__(vae, averaging)
        self.record = Record(evaluations, CURVES)

    def shipped(self) -> dict[str, Tensor]:
        """The averaged machine in half precision, and the curves."""
        machine = self.averaged.module.state_dict()
        return ({f"machine.{name}": tensor.detach().half() for name, tensor in machine.items()}
                | {f"record.{name}": value for name, value in self.record.state_dict().items()})

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Takes what a checkpoint holds, or what `shipped` gives: then both machines are that one."""
        machine = {name.removeprefix("machine."): tensor for name, tensor in state_dict.items()
                   if name.startswith("machine.")}
        if machine:
            state_dict = {"averaged.n_averaged": self.averaged.n_averaged} | {
                name: tensor for name, tensor in state_dict.items() if name.startswith("record.")} | {
                f"{place}.{name}": tensor for name, tensor in machine.items()
                for place in ("vae", "averaged.module")}
        return super().load_state_dict(state_dict, strict, assign)


class RecordedLearning(VariationalLearner):
    """`VariationalLearner` that keeps what it saw of held-out images.

    sample: training images whose bound is looked at as well; the rest as for `VariationalLearner`.
    """

    module: RecordedState

    def __init__(self, vae: VAE, likelihood: Likelihood, sample: Tensor, evaluations: int, averaging: float,
                 **options: Any) -> None:
        super().__init__(vae, averaging=averaging, **options)
        self.likelihood, self.sample, self.at = likelihood, sample, 0
        self.module = RecordedState(vae, averaging, evaluations)

    def training_step(self, batch: Tensor, context: Context) -> Mapping[str, Tensor]:
        self.at = context.step
        return super().training_step(batch, context)

    def evaluate(self, data: Tensor | None, context: Context) -> Mapping[str, float | Tensor]:
        """Bounds of the averaged machine on held-out images (0 and 1), and on some training images."""
        if data is None:
            return {}
        how, found = self.likelihood, super().evaluate(data, context)
        train = super().evaluate(self.sample.to(data.device), context)
        quick = self.averaged.importance_bound(data[:how.more_images], how.quick_samples, context.generator,
                                               how.chunk)
        found = {f"valid_{name}": value for name, value in found.items()} | {
            "valid_bound": quick.mean, "train_elbo": train["elbo"]}
        if self.at:
            self.module.record.add(self.at, found)
        return found


# --- Building and measuring ---------------------------------------------------------------------------------


def load_digits(digits: Digits) -> dict[str, Tensor]:
    """Grey training images, and "valid" and "test" images of 0 and 1, each (images, 784)."""
    grey, test = data.mnist("train").images, data.mnist("test").images
    return {
        "train": grey[:digits.training_images].flatten(1),
        "valid": data.binarize_fixed(grey[-digits.validation_images:], digits.seed).flatten(1),
        "test": data.binarize_fixed(test, digits.seed)[:digits.test_images].flatten(1),
    }


def make_machine(how: Machine, seed: int) -> VAE:
    """The VAE with its first weights, which depend on the seed alone."""
    with seeded(derived_seed(seed, "weights")):
        activation = ACTIVATIONS[how.activation]
        if how.channels is None:
            encoder = fully_connected([784, *how.widths, 2 * how.latent], activation)
            decoder = fully_connected([how.latent, *reversed(how.widths), 784], activation)
        else:
            options = {"channels": how.channels, "width": how.widths[0], "blocks": how.blocks,
                       "activation": activation}
            encoder = convolutional_encoder(2 * how.latent, **options)
            decoder = convolutional_decoder(how.latent, **options)
    prior = StandardNormal(how.latent) if not how.components else MixturePrior(
        how.latent, how.components, generator(seed, "prior"))
    return VAE(encoder, decoder, prior)


def build(settings: Settings, seed: int) -> Built:
    how, images = settings.learning, load_digits(settings.digits)
    machine = make_machine(settings.machine, seed)
    steps_per_epoch = len(images["train"]) // how.batch_size
    optimizer = torch.optim.Adam(machine.parameters(), how.learning_rate, fused=True)
    learner = RecordedLearning(
        machine, settings.likelihood,
        data.binarize_fixed(images["train"][:len(images["valid"])], settings.digits.seed),
        evaluations=how.epochs // settings.likelihood.every + 1, averaging=how.averaging, optimizer=optimizer,
        objective=Objective(samples=how.samples, importance=how.importance),
        scheduler=cosine_schedule(optimizer, how.epochs * steps_per_epoch, how.warm_up))
    loop = TrainingSettings(epochs=how.epochs, batch_size=how.batch_size,
                            evaluate_every=settings.likelihood.every * steps_per_epoch,
                            report_every=min(100, steps_per_epoch))
    return Built(learner, images["train"], images["valid"], loop)


def measure(built: Built, settings: Settings, device: torch.device, seed: int) -> dict[str, Metric]:
    """Bounds of the machine as it is shipped on held-out images, and what its latent units do."""
    module, how = built.learner.module, settings.likelihood
    module.load_state_dict(module.shipped())
    machine, digits = module.averaged.module, settings.digits
    test = load_digits(digits)["test"].to(device)
    words = f"{len(test):,} MNIST test images, each pixel drawn once from its grey value (seed {digits.seed})"
    found = one_draw(machine, test, words, generator(seed, "one draw", device))
    estimate = machine.importance_bound(test, how.samples, generator(seed, "bound", device), how.chunk)
    found["test_bound"] = Metric(
        estimate.mean, f"{words}; {how.samples:,} importance samples from the encoder an image, the error from "
        "these draws alone", "nats", estimate.mean_error, "higher")
    found["test_spread"] = Metric(estimate.spread, f"standard error of that mean over the {len(test):,} images",
                                  "nats")
    first = test[:how.more_images]
    few = estimate.log_prob[:how.more_images].cpu().double().mean().item()
    many = machine.importance_bound(first, how.more_samples, generator(seed, "more", device), how.chunk)
    words = words.replace(f"{len(test):,}", f"the first {len(first):,}", 1)
    found["test_bound_first"] = Metric(few, f"{words}; {how.samples:,} importance samples", "nats")
    found["test_bound_more"] = Metric(many.mean, f"{words}; {how.more_samples:,} importance samples", "nats",
                                      many.mean_error, "higher")
    units = machine.active_units(test)
    found["active_units"] = Metric(units.count, f"of {machine.latent} units, those whose posterior mean has a "
                                   f"variance above 0.01 over the {len(test):,} test images")
    return found


def one_draw(machine: VAE, test: Tensor, words: str, random: torch.Generator) -> dict[str, Metric]:
    """The evidence lower bound with one draw an image, its terms, and the parts of its divergence."""
    with torch.no_grad():
        bound = machine.elbo(test, random)
    some = test[:5_000]
    parts = machine.surgery(some, random)
    protocol = f"{words}; one draw of z an image"
    aggregate = f"the first {len(some):,} of these images, which make the aggregated posterior; one draw each"
    return {
        "test_elbo": Metric(bound.value.mean().item(), protocol, "nats", better="higher"),
        "test_reconstruction": Metric(bound.reconstruction.mean().item(), protocol, "nats"),
        "test_kl": Metric(bound.kl.mean().item(), protocol, "nats"),
        "mutual_information": Metric(parts.mutual_information, aggregate, "nats"),
        "marginal_kl": Metric(parts.marginal_kl, aggregate, "nats"),
    }


def weights(learner: RecordedLearning) -> Mapping[str, Tensor]:
    return learner.module.shipped()


def sample(built: Built, settings: Settings, count: int, random: torch.Generator) -> Tensor:
    """The mean of the pixels at draws from the prior."""
    return built.learner.averaged.sample(count, random).unflatten(1, (28, 28))


# --- Reading what was recorded ------------------------------------------------------------------------------


def trained(name: str, preset: str = "full", seed: int | None = None) -> VAE:
    """The machine of a recorded run, on the CPU in float32: the one that its metrics are about.

    seed: None for the first recorded one. Raises ResultError where nothing is recorded.
    """
    found = results.load(name, preset)
    tensors = found.weights(seed)
    settings = next(each for each in EXPERIMENTS if each.name == name).presets[preset]
    machine = make_machine(settings.machine, 0)
    machine.load_state_dict({key.removeprefix("machine."): tensor.float() for key, tensor in tensors.items()
                             if key.startswith("machine.")})
    return machine.requires_grad_(False).eval()


def curves(
    name: str, preset: str = "full", seed: int | None = None
) -> dict[str, tuple[Tensor, Tensor]]:
    """A recorded run's evaluations while it trained, {"valid_elbo": (steps, values), …}: `CURVES`.

    Raises ResultError where nothing is recorded.
    """
    tensors = results.load(name, preset).weights(seed)
    steps, values = tensors["record.steps"], tensors["record.values"]
    done = steps > 0
    return {key: (steps[done], values[done, column]) for column, key in enumerate(CURVES)}


EXPERIMENTS = (
    Experiment("vae-mnist", "a VAE of four fully connected layers, 784-400-20, on MNIST (chapter 4)",
               CLASSICAL, build, measure, sample, weights),
    Experiment("vae-plane", "a VAE with two latent units, to be looked at (chapter 4)",
               PLANE, build, measure, sample, weights),
    Experiment("vae-published", "the VAE of Burda et al. with one stochastic layer, 784-200-200-50 (chapter 4)",
               published(1, False, 50), build, measure, sample, weights),
    Experiment("iwae-published", "the same by the bound of five importance weights (chapter 4)",
               published(5, True, 50), build, measure, sample, weights),
    Experiment("vae-conv", "a VAE with convolutions and one stochastic layer of 40 units (chapter 4)",
               STRONG, build, measure, sample, weights),
)
