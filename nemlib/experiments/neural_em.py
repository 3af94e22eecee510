"""Chapter 8's recorded runs: RNN-EM as published, N-EM, ours, what each choice is worth, and sequences.

    from nemlib.experiments import neural_em
    model = neural_em.trained("shapes-ours", "full")              # the network of a recorded run
    curves = neural_em.curves("shapes-published", "full")         # {"loss": (steps, values), …} of that run

Each run keeps the curves of its evaluations, and where the settings say so the weights of the lowest
validation loss, as tensors of its module: so they survive an interruption and are shipped with the weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nemlib import data, neural_em
from nemlib.experiments.experiment import Built, Experiment, generator
from nemlib.experiments.results import Metric
from nemlib.neural_em import Grouping, SpatialMixture
from nemlib.training import Context, TrainingSettings, cosine_schedule

SCORES = ("ami_arithmetic", "ami_max", "ari", "homogeneity", "completeness")
SHOWN_STEPS = (0, 1, 2, 3, 5, 10, 15)      # of EM, in the picture for those who watch


# --- Settings ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """Architecture: what a slot's θ is, and how it becomes a prediction."""

    kind: str = "RNN-EM"                    # or "N-EM", whose encoder is the decoder's transpose
    hidden: int = 48                        # numbers in a slot's θ
    decoder: str = "linear"                 # θ → logits: "linear", or "layered" or "convolutional"
    decoder_features: int = 0               # of the hidden layer of the latter two
    channels: tuple[int, ...] = ()          # of the convolutions of the last
    initialisation: str = "torch"           # or "glorot" with biases of 0, as TensorFlow begins
    output_bias: float = -2.0
    step_size: float = 1.0                  # N-EM's η at the start; it is learnt
    inputs: str = "residual"
    gradient_through_gamma: bool = True
    floor: float = 0.0                      # added to every p(x; ψ) in the E-step
    kl_weight: float = 1.0


@dataclass(frozen=True)
class Shapes:
    """Data: binary 28 × 28 images of three shapes each."""

    training_images: int = 50_000
    validation_images: int = 1_000
    test_images: int = 10_000


@dataclass(frozen=True)
class Optimisation:
    """Optimisation: Adam on the loss of unrolled EM, in nats per image."""

    steps: int = 2_200
    batch_size: int = 64
    learning_rate: float = 5e-3
    warm_up: int = 50
    schedule: str = "cosine"                # to 0, or "constant"
    slots: int = 4                          # K
    em_steps: int = 6
    weighting: str = "mean"                 # of the EM steps' losses: "mean" or "last"
    noise: float = 0.1                      # share of the input's pixels that are turned over in each step
    keep_best: bool = False                 # keep the weights of the lowest validation loss beside the last


@dataclass(frozen=True)
class Evaluation:
    """Evaluation: argmax of γ after the last step, over pixels of exactly one shape; a mean over images."""

    every: int = 200                        # training steps between evaluations on validation images
    slots: int = 4
    em_steps: int = 15
    noises: tuple[float, ...] = (0.0, 0.1)  # of the input at test; on validation images the first of them


@dataclass(frozen=True)
class ShapesSettings:
    network: Network = Network()
    shapes: Shapes = Shapes()
    optimisation: Optimisation = Optimisation()
    evaluation: Evaluation = Evaluation()


SMOKE = Shapes(200, 20, 20)
BOOK = Shapes(20_000, 500, 1_000)

# The published setting (Greff et al. 2017, their code): at most 500 epochs of 781 steps, with a patience of 10.
# The full preset makes 24 epochs, 4.8 % of that, in about 85 minutes on one thread.
PUBLISHED_NETWORK = Network(hidden=250, initialisation="glorot", output_bias=0.0, floor=1e-6)
PUBLISHED_OPTIMISATION = Optimisation(
    steps=24 * 781, learning_rate=1e-3, warm_up=0, schedule="constant", em_steps=15, weighting="last",
    keep_best=True)
PUBLISHED_EVALUATION = Evaluation(noises=(0.1, 0.0))       # the authors leave the noise on at test as well
PUBLISHED = {
    "smoke": ShapesSettings(
        replace(PUBLISHED_NETWORK, hidden=8), SMOKE, replace(PUBLISHED_OPTIMISATION, steps=4, em_steps=3),
        replace(PUBLISHED_EVALUATION, every=2, em_steps=3)),
    "book": ShapesSettings(
        PUBLISHED_NETWORK, BOOK, replace(PUBLISHED_OPTIMISATION, steps=1_000),
        replace(PUBLISHED_EVALUATION, every=100)),
    "full": ShapesSettings(PUBLISHED_NETWORK, Shapes(), PUBLISHED_OPTIMISATION, PUBLISHED_EVALUATION),
}


# --- The learner: training that keeps its curves ---------------------------------------------------------------


class Record(nn.Module):
    """The values of all evaluations so far, as buffers: rows that are not there yet have step 0."""

    def __init__(self, rows: int, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        self.register_buffer("steps", torch.zeros(rows, dtype=torch.int64))
        self.register_buffer("values", torch.zeros(rows, len(names)))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the values of that training step; nothing if there is a row of it or of a later one."""
        row = int(self.steps.count_nonzero())
        if step > int(self.steps.max()) and row < len(self.steps):
            self.steps[row] = step
            self.values[row] = torch.tensor([float(values[name]) for name in self.names])

    def curves(self) -> dict[str, tuple[Tensor, Tensor]]:
        """By name, the steps and the values of each metric, two tensors of one length."""
        done = self.steps > 0
        return {name: (self.steps[done], self.values[done, column]) for column, name in enumerate(self.names)}


class RecordedGrouping(Grouping):
    """`Grouping` that keeps the curves of its evaluations, in `module.record`, and with `keep_best` the weights
    of the lowest validation loss, in `module.best`. noise: of the input in evaluations.
    """

    def __init__(
        self, model: SpatialMixture, *args: object, evaluations: int, noise: float, keep_best: bool,
        names: tuple[str, ...] = ("loss", *SCORES), **options: object,
    ) -> None:
        super().__init__(model, *args, **options)
        self.noise, self.at = noise, 0
        if keep_best:
            model.best = copy.deepcopy(model).requires_grad_(False)
        model.record = Record(evaluations, names)

    def training_step(self, batch: Tensor, context: Context) -> Mapping[str, Tensor]:
        self.at = context.step
        return super().training_step(batch, context)

    def evaluate(self, data: Mapping[str, Tensor] | None, context: Context) -> dict[str, Tensor]:
        if data is None:
            return {}
        found = neural_em.grouping_scores(
            self.module, data["images"], data["groups"], self.evaluation_slots, self.evaluation_steps,
            context.generator, self.evaluation_batch, self.noise)
        means = {name: values.nanmean() for name, values in found.items()}
        if self.at:
            self.keep(means)
        return means

    def keep(self, means: Mapping[str, Tensor]) -> None:
        record = self.module.record
        before = record.curves()["loss"][1]
        record.add(self.at, means)
        if hasattr(self.module, "best") and (len(before) == 0 or means["loss"] < before.min()):
            own = {name: value for name, value in self.module.state_dict().items()
                   if not name.startswith(("best.", "record."))}
            self.module.best.load_state_dict(own)

    def picture(self, context: Context) -> Tensor | None:
        """Two examples, a row for each of some EM steps: image, γ in colour, ψ of each slot.

        (rows, columns, height, width, 3).
        """
        if context.data is None:
            return None
        return slots_over_steps(self.module, context.data[:2], self.evaluation_slots, self.evaluation_steps,
                                context.generator)


def slots_over_steps(
    model: SpatialMixture, images: Tensor, slots: int, steps: int | None, random: torch.Generator
) -> Tensor:
    """Image, γ in colour and ψ_1 … ψ_K side by side, a row for each EM step shown; example beside example.

    images: (batch, height, width), or with time on axis 1. Returns (rows, batch · (2 + K), height, width, 3).
    """
    from nemlib.plot import slot_colours

    run = model(images, slots, steps, random)
    shown = [t for t in SHOWN_STEPS if t < len(run.gamma)]
    rows = []
    for t in shown:
        now = images if images.dim() == 3 else images[:, t]
        coloured = slot_colours(run.gamma[t], now, "dark").to(now)
        grey = torch.cat([now[:, None], run.psi[t]], 1)[..., None].expand(-1, -1, -1, -1, 3)
        tiles = torch.cat([grey[:, :1], coloured[:, None], grey[:, 1:]], 1)
        rows.append(tiles.flatten(0, 1))
    return torch.stack(rows).clamp(0, 1)


# --- Building ---------------------------------------------------------------------------------------------------


def make_network(
    network: Network, height: int, width: int, noise: float
) -> SpatialMixture:
    """The model of these settings, untrained."""
    options = {"kl_weight": network.kl_weight, "noise": noise, "floor": network.floor,
               "gradient_through_gamma": network.gradient_through_gamma}
    if network.kind == "N-EM":
        return neural_em.NeuralEM(height, width, network.hidden, step_size=network.step_size,
                                  output_bias=network.output_bias, **options)
    if network.kind != "RNN-EM":
        raise ValueError(f"kind is 'RNN-EM' or 'N-EM', and {network.kind!r} came.")
    model = neural_em.RNNEM(height, width, network.hidden, output_bias=network.output_bias,
                            inputs=network.inputs, decoder=make_decoder(network, height, width), **options)
    if network.initialisation == "glorot":
        begin_as_tensorflow(model, network.output_bias)
    return model


def make_decoder(network: Network, height: int, width: int) -> nn.Module | None:
    """θ → logits, (N, hidden) → (N, pixels); None for RNNEM's own linear layer."""
    if network.decoder == "linear":
        return None
    if network.decoder == "convolutional":
        return neural_em.ConvolutionalDecoder(height, width, network.hidden, network.channels,
                                              network.decoder_features, network.output_bias)
    if network.decoder != "layered":
        raise ValueError(f"decoder is 'linear', 'layered' or 'convolutional', and {network.decoder!r} came.")
    last = nn.Linear(network.decoder_features, height * width)
    nn.init.constant_(last.bias, network.output_bias)
    return nn.Sequential(nn.Linear(network.hidden, network.decoder_features), nn.ELU(), last)


def begin_as_tensorflow(model: neural_em.RNNEM, output_bias: float) -> None:
    """Glorot's uniform law, as the authors' TensorFlow begins: V and R are one matrix there; biases are 0."""
    inputs, hidden = model.pixels, model.hidden
    reach = math.sqrt(6 / (inputs + hidden + hidden))
    for weight in (model.encoder.weight, model.recurrence.weight):
        nn.init.uniform_(weight, -reach, reach)
    nn.init.zeros_(model.recurrence.bias)
    nn.init.xavier_uniform_(model.decoder.weight)
    nn.init.constant_(model.decoder.bias, output_bias)


def make_learner(
    model: SpatialMixture, optimisation: Optimisation, evaluation: Evaluation,
    names: tuple[str, ...] = ("loss", *SCORES),
) -> RecordedGrouping:
    optimizer = torch.optim.Adam(model.parameters(), optimisation.learning_rate)
    schedule = None
    if optimisation.schedule == "cosine":
        schedule = cosine_schedule(optimizer, optimisation.steps, optimisation.warm_up)
    return RecordedGrouping(
        model, optimizer, slots=optimisation.slots, steps=optimisation.em_steps,
        weighting=optimisation.weighting, scheduler=schedule, evaluation_slots=evaluation.slots,
        evaluation_steps=evaluation.em_steps, evaluations=math.ceil(optimisation.steps / evaluation.every),
        noise=evaluation.noises[0], keep_best=optimisation.keep_best, names=names)


def loop_settings(optimisation: Optimisation, evaluation: Evaluation) -> TrainingSettings:
    return TrainingSettings(steps=optimisation.steps, batch_size=optimisation.batch_size,
                            evaluate_every=evaluation.every)


def build_shapes(settings: ShapesSettings, seed: int) -> Built:
    del seed   # the initial weights are drawn from it around this call
    shapes, optimisation = settings.shapes, settings.optimisation
    model = make_network(settings.network, 28, 28, optimisation.noise)
    learner = make_learner(model, optimisation, settings.evaluation)
    held_out = data.static_shapes("validation", shapes.validation_images)
    return Built(learner, data.static_shapes("training", shapes.training_images).images,
                 {"images": held_out.images, "groups": held_out.groups},
                 loop_settings(optimisation, settings.evaluation))


# --- Measuring --------------------------------------------------------------------------------------------------


def measure_shapes(
    built: Built, settings: ShapesSettings, device: torch.device, seed: int
) -> dict[str, Metric]:
    """Scores and loss on test images for each noise; of the kept weights, and of the last ones as "last_…"."""
    model, test = built.learner.module, data.static_shapes("test", settings.shapes.test_images)
    images, groups = test.images.to(device), test.groups.to(device)
    networks = {"": model}
    if hasattr(model, "best"):
        networks = {"": model.best, "last_": model}
    found = {}
    for prefix, network in networks.items():
        for index, noise in enumerate(settings.evaluation.noises):
            ending = f"_noise_{noise:g}" if index else ""
            random = generator(seed, f"test{noise}", device)
            protocol = shapes_protocol(settings, noise, prefix, hasattr(model, "best"))
            values = score_shapes(network, images, groups, settings.evaluation, noise, random, protocol)
            found |= {f"{prefix}{name}{ending}": metric for name, metric in values.items()}
    return found


def shapes_protocol(settings: ShapesSettings, noise: float, prefix: str, keeps_best: bool) -> str:
    evaluation, text = settings.evaluation, ""
    if keeps_best:
        text = "the weights at the end of training; " if prefix else (
            f"the weights of the lowest validation loss, looked at every {evaluation.every} steps; ")
    turned = f"{100 * noise:g} % of the input's pixels turned over in each step" if noise else "no noise"
    return (f"{text}{settings.shapes.test_images:,} test images, K = {evaluation.slots}, γ after step "
            f"{evaluation.em_steps} of one random start, {turned}; per image over the pixels of exactly one "
            "shape, then a mean over images")


def score_shapes(
    network: SpatialMixture, images: Tensor, groups: Tensor, evaluation: Evaluation, noise: float,
    random: torch.Generator, protocol: str,
) -> dict[str, Metric]:
    """The metrics of one network on static images, and AMI and ARI apart for images with overlap."""
    values = neural_em.grouping_scores(network, images, groups, evaluation.slots, evaluation.em_steps, random,
                                       noise=noise)
    overlap = ((images > 0.5) & (groups == 0)).flatten(1).any(1)
    found = {name: Metric(values[name].nanmean().item(), protocol, better="higher") for name in SCORES}
    found["loss"] = Metric(values["loss"].double().mean().item(), f"{protocol}; the loss of that step, summed "
                           "over pixels and slots", "nats", better="lower")
    for name in ("ami_arithmetic", "ami_max", "ari"):
        for which, rows in (("overlap", overlap), ("apart", ~overlap)):
            if rows.any():
                kind = "with" if which == "overlap" else "without"
                found[f"{name}_{which}"] = Metric(values[name][rows].nanmean().item(),
                                                  f"{protocol}, of those {kind} overlap", better="higher")
    return found


def sample_shapes(built: Built, settings: ShapesSettings, count: int, random: torch.Generator) -> Tensor:
    """γ in colour on test images. (count, height, width, 3)."""
    from nemlib.plot import slot_colours

    model, evaluation = built.learner.module, settings.evaluation
    images = data.static_shapes("test", count).images.to(random.device)
    run = model(images, evaluation.slots, evaluation.em_steps, random)
    return slot_colours(run.gamma[-1], images, "dark")


EXPERIMENTS = (
    Experiment(
        "shapes-published",
        "RNN-EM on static shapes in the published setting: loss falls, AMI does not (chapter 8)",
        PUBLISHED, build_shapes, measure_shapes, sample_shapes),
)
