"""Chapter 3's recorded runs: autoencoders of six layers on MNIST, beside as many principal components.

    from nemlib.experiments import autoencoder as recorded
    machine = recorded.trained("autoencoder-mnist", "full")   # the autoencoder of a recorded run
    pca = recorded.principal_components(3)                    # of the same training images
    curves = recorded.curves("autoencoder-mnist", "full")     # {"valid_squared_error": (steps, values), …}

The loss is that of Gaussian pixels, the squared error. Grey pixels are numbers in [0, 1], so this is a
likelihood, which the cross-entropy of Bernoulli pixels would not be; it is the measure in which principal
components are the best that a linear code can do; and it led to lower squared errors in as many steps. x̂ may
then leave [0, 1] a little: clamp it where it is drawn.

The first 50,000 training images are learnt from, the last 10,000 watched, and the autoencoder of the lowest
error on these is kept. The long run with 30 numbers learns from all 60,000, as the one in its published
protocol did, and keeps the autoencoder of the end. What is measured and shipped has its numbers rounded to
half precision.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from nemlib import data
from nemlib.autoencoder import Autoencoder, PrincipalComponents, reconstruction, six_layers
from nemlib.experiments import results
from nemlib.experiments.experiment import Built, Experiment
from nemlib.experiments.record import Record
from nemlib.experiments.results import Metric
from nemlib.training import (
    Context,
    GradientLearner,
    TrainingSettings,
    cosine_schedule,
    derived_seed,
    seeded,
)

CURVES = ("valid_squared_error", "train_squared_error")
WORDS = {"train": "training", "valid": "validation", "test": "test"}


# --- Settings -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """The autoencoder: widths down to the code, the same back; rectified linear units between its layers."""

    latent: int = 3
    widths: tuple[int, ...] = (784, 512, 128)


@dataclass(frozen=True)
class Digits:
    """Data: grey MNIST digits. The validation images are the last ones of the 60,000 training images, and are
    among those learnt from where these are more than 50,000.
    """

    training_images: int = 50_000
    validation_images: int = 10_000
    test_images: int = 10_000


@dataclass(frozen=True)
class Learning:
    """Learning by Adam: the rate rises over `warm_up` steps, then falls to 0 as half a cosine."""

    epochs: int = 14
    batch_size: int = 100
    learning_rate: float = 3e-3
    warm_up: int = 200
    every: int = 2                          # epochs between looks at the validation images


@dataclass(frozen=True)
class Settings:
    machine: Machine = Machine()
    digits: Digits = Digits()
    learning: Learning = Learning()


LONG = Settings(learning=Learning(epochs=120, learning_rate=1e-3, every=6))     # many epochs, smaller steps
# To stand beside a published autoencoder with 30 numbers, which learnt from all 60,000 images.
ALL = Settings(digits=Digits(60_000), learning=Learning(epochs=75, learning_rate=2e-3, every=3))


def presets(latent: int, full: Settings = LONG) -> dict[str, Settings]:
    """The three sizes of a run with a code of so many numbers."""
    machine = Machine(latent)
    return {
        "smoke": Settings(replace(machine, widths=(784, 16, 8)), Digits(200, 50, 50),
                          Learning(epochs=2, batch_size=50, warm_up=2, every=1)),
        "book": Settings(machine),
        "full": replace(full, machine=machine),
    }


# --- The learner: training that keeps its curves and its best autoencoder -----------------------------------


class RecordedState(nn.Module):
    """The autoencoder that learns, the best one so far, and the record of the evaluations."""

    def __init__(self, autoencoder: Autoencoder, evaluations: int) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.best = copy.deepcopy(autoencoder).requires_grad_(False)
        self.record = Record(evaluations, CURVES)

    def shipped(self) -> dict[str, Tensor]:
        """The best autoencoder in half precision, and the curves."""
        return ({f"best.{name}": tensor.half() for name, tensor in self.best.state_dict().items()}
                | {f"record.{name}": value for name, value in self.record.state_dict().items()})

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Takes what a checkpoint holds, or what `shipped` gives: then both autoencoders are the best one."""
        best = {name: tensor for name, tensor in state_dict.items() if name.startswith("best.")}
        if not any(name.startswith("autoencoder.") for name in state_dict):
            state_dict = {**state_dict, **{name.replace("best.", "autoencoder.", 1): tensor
                                           for name, tensor in best.items()}}
        return super().load_state_dict(state_dict, strict, assign)


def loss(state: RecordedState, batch: Tensor, generator: torch.Generator) -> Mapping[str, Tensor]:
    return reconstruction(state.autoencoder, batch, generator)


class RecordedLearning(GradientLearner):
    """`GradientLearner` that looks at held-out images, and keeps the best autoencoder.

    sample: training images that are looked at as well; evaluations: how many looks there will be; keep_last:
    keep the newest autoencoder instead of the best.
    """

    module: RecordedState

    def __init__(
        self, autoencoder: Autoencoder, sample: Tensor, evaluations: int, keep_last: bool, **options: Any
    ) -> None:
        super().__init__(RecordedState(autoencoder, evaluations), loss, **options)
        self.sample, self.keep_last, self.at = sample, keep_last, 0

    def training_step(self, batch: Tensor, context: Context) -> Mapping[str, Tensor]:
        self.at = context.step
        return super().training_step(batch, context)

    def evaluate(self, data: Tensor | None, context: Context) -> Mapping[str, float | Tensor]:
        """The mean squared error on held-out and on some training images."""
        if data is None:
            return {}
        valid, train = super().evaluate(data, context), super().evaluate(self.sample.to(data.device), context)
        found = {"valid_squared_error": valid["squared_error"], "train_squared_error": train["squared_error"]}
        if self.at:
            self.keep(found)
        return found

    def keep(self, found: Mapping[str, Tensor]) -> None:
        """Record the errors, and keep this autoencoder if it is the best, with the best s² for the training
        images that were looked at (eq-ae-gaussian-variance).
        """
        state, error = self.module, found["valid_squared_error"]
        before = state.record.curves()["valid_squared_error"][1]
        state.record.add(self.at, found)
        if self.keep_last or len(before) == 0 or error < before.min():
            state.best.load_state_dict(state.autoencoder.state_dict())
            state.best.variance.copy_(found["train_squared_error"] / self.sample.shape[1])

    @torch.no_grad()
    def picture(self, context: Context) -> Tensor | None:
        """Each of 32 training digits with its reconstruction to the right."""
        if context.data is None:
            return None
        images = context.data[:32]
        pairs = torch.stack([images, self.module.autoencoder.reconstruct(images).clamp(0, 1)], 1)
        return pairs.flatten(0, 1).unflatten(1, (28, 28))


# --- Building and measuring ---------------------------------------------------------------------------------


def load_digits(digits: Digits) -> dict[str, data.Dataset]:
    """Grey images with labels, by split: "train", "valid" and "test"."""
    grey, test = data.mnist("train"), data.mnist("test")
    return {"train": grey.subset(digits.training_images),
            "valid": grey.subset(slice(len(grey) - digits.validation_images, None)),
            "test": test.subset(digits.test_images)}


def trains_on_all(digits: Digits) -> bool:
    return digits.training_images > 50_000


def principal_components(latent: int, digits: Digits = Digits()) -> PrincipalComponents:
    """Of the training images that the recorded runs learn from."""
    return PrincipalComponents.fit(load_digits(digits)["train"].flat(), latent)


def make_machine(how: Machine, seed: int) -> Autoencoder:
    """The autoencoder with its first weights, which depend on the seed alone."""
    with seeded(derived_seed(seed, "weights")):
        return six_layers(how.latent, how.widths, pixels="gaussian")


def build(settings: Settings, seed: int) -> Built:
    how, digits = settings.learning, load_digits(settings.digits)
    images, valid = digits["train"].flat(), digits["valid"].flat()
    machine = make_machine(settings.machine, seed)
    steps_per_epoch = len(images) // how.batch_size
    optimizer = torch.optim.Adam(machine.parameters(), how.learning_rate, fused=True)
    learner = RecordedLearning(
        machine, images[:len(valid)], evaluations=how.epochs // how.every + 1,
        keep_last=trains_on_all(settings.digits), optimizer=optimizer,
        scheduler=cosine_schedule(optimizer, how.epochs * steps_per_epoch, how.warm_up))
    loop = TrainingSettings(epochs=how.epochs, batch_size=how.batch_size,
                            evaluate_every=how.every * steps_per_epoch,
                            report_every=min(100, steps_per_epoch))
    return Built(learner, images, valid, loop)


def measure(built: Built, settings: Settings, device: torch.device, seed: int) -> dict[str, Metric]:
    """Errors of the autoencoder as it is shipped, and of principal components, by split."""
    module = built.learner.module
    module.load_state_dict(module.shipped())
    digits = {split: each.to(device) for split, each in load_digits(settings.digits).items()}
    machine, latent = module.best, settings.machine.latent
    components = on_device(PrincipalComponents.fit(digits["train"].flat().cpu(), latent), device)
    found: dict[str, Metric] = {}
    for split, each in digits.items():
        if split == "valid" and trains_on_all(settings.digits):
            continue
        found |= errors(machine, components, each.flat(), split, len(digits["train"]))
    centre = (digits["test"].flat() - components.mean).square().sum(1).mean().item()
    test = f"{len(digits['test']):,} MNIST test images"
    found["test_mean_squared_error"] = Metric(
        centre, f"{test}; ‖x − x̄‖² with x̄ the mean of the {len(digits['train']):,} training images")
    found |= neighbours({"": machine.encode, "pca_": components.encode}, digits, latent)
    return found


def on_device(components: PrincipalComponents, device: torch.device) -> PrincipalComponents:
    return PrincipalComponents(*(tensor.to(device) for tensor in vars(components).values()))


def errors(
    machine: Autoencoder, components: PrincipalComponents, x: Tensor, split: str, training_images: int
) -> dict[str, Metric]:
    """The metrics of one split's images (images, 784): the loss, and both squared errors."""
    images, latent = f"{len(x):,} MNIST {WORDS[split]} images", components.latent
    means = {
        "loss": torch.cat([machine.reconstruction_loss(part) for part in x.split(1_000)]),
        "squared_error": torch.cat([machine.squared_error(part) for part in x.split(1_000)]),
        "pca_squared_error": components.squared_error(x),
    }
    words = {
        "loss": (f"{images}; −log N(x; x̂, s² I), a density of 784 grey pixels, with s² the mean squared "
                 "error per pixel of some training images", "nats"),
        "squared_error": (f"{images}; ‖x − x̂‖², summed over 784 pixels, a code of {latent} numbers", ""),
        "pca_squared_error": (f"{images}; ‖x − x̂‖² of the first {latent} principal components of the "
                              f"{training_images:,} training images", ""),
    }
    return {f"{split}_{name}": Metric(value.cpu().double().mean().item(), *words[name], better="lower")
            for name, value in means.items()}


def neighbours(
    encoders: Mapping[str, Callable[[Tensor], Tensor]], digits: Mapping[str, data.Dataset], latent: int
) -> dict[str, Metric]:
    """How often the nearest training code of a test digit belongs to a digit of its class, by encoder."""
    train, test, found = digits["train"], digits["test"], {}
    for name, encode in encoders.items():
        codes, asked = encode(train.flat()).cpu().double(), encode(test.flat()).cpu().double()
        right = (train.labels[nearest(asked, codes)] == test.labels).double().mean().item()
        found[f"{name}neighbour_accuracy"] = Metric(
            right, f"{len(test):,} MNIST test images; the label of the nearest of {len(train):,} training "
            f"codes, {latent} numbers each", better="higher")
    return found


def nearest(asked: Tensor, codes: Tensor) -> Tensor:
    """Which of the codes (codes, latent) each of the asked (asked, latent) is nearest to, (asked,)."""
    centre = codes.mean(0)
    codes, asked = codes - centre, asked - centre
    squares = codes.square().sum(1)     # ‖a − c‖² less ‖a‖², which is the same for all codes
    return torch.cat([torch.addmm(squares, part, codes.mT, alpha=-2).argmin(1) for part in asked.split(200)])


def weights(learner: RecordedLearning) -> Mapping[str, Tensor]:
    return learner.module.shipped()


def sample(built: Built, settings: Settings, count: int, random: torch.Generator) -> Tensor:
    """Pictures of codes drawn from a Gaussian with the training codes' mean and covariance: an autoencoder
    has no law of codes, and many of these fall into holes.
    """
    machine = built.learner.module.best
    codes = machine.encode(built.data.to(random.device)).cpu().double()
    spread = torch.linalg.cholesky(codes.T.cov() + 1e-9 * torch.eye(codes.shape[1]))
    noise = torch.randn(count, codes.shape[1], generator=random, device=random.device).cpu().double()
    drawn = (codes.mean(0) + noise @ spread.mT).float().to(random.device)
    return machine.mean(drawn).clamp(0, 1).unflatten(1, (28, 28))


# --- Reading what was recorded ------------------------------------------------------------------------------


def trained(name: str, preset: str = "full", seed: int | None = None) -> Autoencoder:
    """The autoencoder of a recorded run, on the CPU in float32: the one that its metrics are about.

    seed: None for the first recorded one. Raises ResultError where nothing is recorded.
    """
    found = results.load(name, preset)
    tensors, how = found.weights(seed), found.settings["machine"]
    machine = make_machine(Machine(how["latent"], tuple(how["widths"])), 0)
    machine.load_state_dict({key.removeprefix("best."): tensor.float() for key, tensor in tensors.items()
                             if key.startswith("best.")})
    return machine.requires_grad_(False).eval()


def curves(
    name: str, preset: str = "full", seed: int | None = None
) -> dict[str, tuple[Tensor, Tensor]]:
    """A recorded run's evaluations while it trained, by the names in `CURVES`: {name: (steps, values)}.

    Raises ResultError where nothing is recorded.
    """
    tensors = results.load(name, preset).weights(seed)
    steps, values = tensors["record.steps"], tensors["record.values"]
    done = steps > 0
    return {key: (steps[done], values[done, column]) for column, key in enumerate(CURVES)}


EXPERIMENTS = (
    Experiment("autoencoder-mnist", "an autoencoder of six layers with a code of 3 numbers (chapter 3)",
               presets(3), build, measure, sample, weights),
    *(Experiment(f"autoencoder-{latent}", f"the same with a code of {latent} numbers (chapter 3)",
                 presets(latent, full), build, measure, sample, weights)
      for latent, full in ((2, LONG), (8, LONG), (30, ALL))),
)
