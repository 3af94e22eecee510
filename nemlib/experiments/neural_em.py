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

from nemlib import data, neural_em, training
from nemlib.data import moving
from nemlib.evaluate import clustering
from nemlib.experiments import results
from nemlib.experiments.experiment import Built, Experiment, generator
from nemlib.experiments.record import Record
from nemlib.experiments.results import Metric
from nemlib.neural_em import Grouping, SpatialMixture
from nemlib.training import Context, Learner, TrainingSettings, cosine_schedule

SCORES = ("ami_arithmetic", "ami_max", "ari", "homogeneity", "completeness")
CURVES = ("loss", *SCORES)                  # what is kept of every evaluation
SHOWN_STEPS = (0, 1, 2, 3, 5, 10, 15)      # of EM, in the picture for those who watch


# --- Settings -----------------------------------------------------------------------------------------------


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
class NoisyNetwork(Network):
    """The same, with a bottleneck that noise makes: on θ, for the decoder's eyes only, in training."""

    theta_noise: float = 0.25


@dataclass(frozen=True)
class SeveralStarts(Evaluation):
    """The same, and for each image the start of γ with the lowest loss, which needs no label."""

    starts: int = 10


@dataclass(frozen=True)
class ShapesSettings:
    network: Network = Network()
    shapes: Shapes = Shapes()
    optimisation: Optimisation = Optimisation()
    evaluation: Evaluation = Evaluation()


SMOKE = Shapes(200, 20, 20)
BOOK = Shapes(20_000, 500, 1_000)

# The published setting (Greff et al. 2017, their code): at most 500 epochs of 781 steps, with a patience
# of 10. The full preset makes 22 epochs, 4.4 % of that, in about an hour on one thread.
PUBLISHED_NETWORK = Network(hidden=250, initialisation="glorot", output_bias=0.0, floor=1e-6)
PUBLISHED_OPTIMISATION = Optimisation(
    steps=22 * 781, learning_rate=1e-3, warm_up=0, schedule="constant", em_steps=15, weighting="last",
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


# N-EM, whose encoder is the decoder's transpose: the published slots, steps and units; our loss and bias.
TIED = Network(kind="N-EM", hidden=250, step_size=3.0)
TIED_OPTIMISATION = Optimisation(steps=1_200, learning_rate=3e-3, em_steps=15)
N_EM = {
    "smoke": ShapesSettings(replace(TIED, hidden=8), SMOKE, replace(TIED_OPTIMISATION, steps=4, em_steps=3),
                            Evaluation(every=2, em_steps=3)),
    "book": ShapesSettings(TIED, BOOK, replace(TIED_OPTIMISATION, steps=500), Evaluation(every=100)),
    "full": ShapesSettings(TIED, Shapes(), TIED_OPTIMISATION, Evaluation(every=100)),
}

# Ours: a bottleneck of noise on θ, few steps, all of them in the loss, a bias at the share of ink.
OURS = {
    "smoke": ShapesSettings(Network(hidden=8), SMOKE, Optimisation(steps=4, em_steps=2),
                            Evaluation(every=2, em_steps=3)),
    "book": ShapesSettings(NoisyNetwork(hidden=64), BOOK, Optimisation(steps=2_400), Evaluation(every=200)),
    "full": ShapesSettings(NoisyNetwork(hidden=64), optimisation=Optimisation(steps=48_000),
                           evaluation=SeveralStarts(every=1_000)),
}

# The same without a bottleneck: 250 numbers a slot, no noise on them, trained on and on.
WIDE = {
    "smoke": ShapesSettings(Network(hidden=8), SMOKE, Optimisation(steps=4, em_steps=2),
                            Evaluation(every=2, em_steps=3)),
    "book": ShapesSettings(Network(hidden=250), BOOK, Optimisation(steps=1_000), Evaluation(every=100)),
    "full": ShapesSettings(Network(hidden=250), optimisation=Optimisation(steps=8_000),
                           evaluation=Evaluation(every=250)),
}


# --- The learner: training that keeps its curves ------------------------------------------------------------


class RecordedGrouping(Grouping):
    """`Grouping` that keeps the curves of its evaluations, in `module.record`, and with `keep_best` the
    weights of the lowest validation loss, in `module.best`. noise: of the input in evaluations.
    """

    def __init__(
        self, model: SpatialMixture, *args: object, evaluations: int, noise: float, keep_best: bool,
        names: tuple[str, ...] = CURVES, **options: object,
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


# --- Building -----------------------------------------------------------------------------------------------


def make_network(
    network: Network, height: int, width: int, noise: float
) -> SpatialMixture:
    """The model of these settings, untrained."""
    options = {"kl_weight": network.kl_weight, "noise": noise, "floor": network.floor,
               "gradient_through_gamma": network.gradient_through_gamma,
               "theta_noise": getattr(network, "theta_noise", 0.0)}
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
    names: tuple[str, ...] = CURVES,
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


# --- Measuring ----------------------------------------------------------------------------------------------


def measure_shapes(
    built: Built, settings: ShapesSettings, device: torch.device, seed: int
) -> dict[str, Metric]:
    """Scores and loss on test images for each noise; of the kept weights, and of the last as "last_…"."""
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
    if isinstance(settings.evaluation, SeveralStarts):
        network, random = networks[""], generator(seed, "several starts", device)
        protocol = shapes_protocol(settings, 0.0, "", hasattr(model, "best"))
        found |= score_best_start(network, images, groups, settings.evaluation, random, protocol)
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
    return metrics_of(values, clustering.split_by_overlap(images, groups).cpu(), protocol)


def score_best_start(
    network: SpatialMixture, images: Tensor, groups: Tensor, evaluation: SeveralStarts,
    random: torch.Generator, protocol: str,
) -> dict[str, Metric]:
    """As `score_shapes`, of the start with the lowest loss of each image: "best_of_starts_SCORE"."""
    values = scores_of_starts(network, images, groups, evaluation, evaluation.starts, random)
    lowest = of_lowest_loss(values)
    text = f"that of the lowest loss of {evaluation.starts} random starts"
    text = protocol.replace("one random start", text)
    found = metrics_of(lowest, clustering.split_by_overlap(images, groups).cpu(), text)
    return {f"best_of_starts_{name}": metric for name, metric in found.items()}


def scores_of_starts(
    network: SpatialMixture, images: Tensor, groups: Tensor, evaluation: Evaluation, starts: int,
    random: torch.Generator,
) -> dict[str, Tensor]:
    """Loss and scores of each image from several random starts of γ: by name, (starts, images)."""
    runs = [neural_em.grouping_scores(network, images, groups, evaluation.slots, evaluation.em_steps, random)
            for _ in range(starts)]
    return {name: torch.stack([run[name].double().cpu() for run in runs]) for name in runs[0]}


def of_lowest_loss(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of each image the values of the start whose loss is the lowest. (starts, images) → (images,)."""
    chosen = values["loss"].argmin(0, keepdim=True)
    return {name: each.gather(0, chosen)[0] for name, each in values.items()}


def metrics_of(values: Mapping[str, Tensor], overlap: Tensor, protocol: str) -> dict[str, Metric]:
    """Means over images of their scores and loss, and AMI and ARI of those with and without overlap."""
    found = {name: Metric(values[name].nanmean().item(), protocol, better="higher") for name in SCORES}
    of_loss = f"{protocol}; the loss of that step, summed over pixels and slots"
    found["loss"] = Metric(values["loss"].double().mean().item(), of_loss, "nats", better="lower")
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

    model = getattr(built.learner.module, "best", built.learner.module)
    evaluation = settings.evaluation
    images = data.static_shapes("test", count).images.to(random.device)
    run = model(images, evaluation.slots, evaluation.em_steps, random)
    return slot_colours(run.gamma[-1], images, "dark")


# --- What each choice is worth ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """One change of the setting, or several: {"network.hidden": 16} and the like; everything else stays."""

    name: str
    changes: Mapping[str, object]


@dataclass(frozen=True)
class Sweeps:
    """What is changed at test alone, one thing at a time, with the unchanged variant's network."""

    slots: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8)
    em_steps: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 10, 12, 15, 20, 25, 30)
    noises: tuple[float, ...] = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
    starts: tuple[str, ...] = ("random", "almost uniform", "one slot a pixel", "uniform")
    tries: int = 8                          # random starts of an image, of which the lowest loss is taken


@dataclass(frozen=True)
class AblationSettings:
    network: NoisyNetwork = NoisyNetwork(theta_noise=0.0)
    shapes: Shapes = Shapes(50_000, 200, 1_000)
    optimisation: Optimisation = Optimisation(steps=800)
    evaluation: Evaluation = Evaluation(every=100, noises=(0.0,))
    variants: tuple[Variant, ...] = ()
    sweeps: Sweeps = Sweeps()

    def of(self, variant: Variant) -> AblationSettings:
        """The settings that this variant is trained with."""
        found = self
        for place, value in variant.changes.items():
            part, name = place.split(".")
            found = replace(found, **{part: replace(getattr(found, part), **{name: value})})
        return found


# An input without γ needs no run: all slots are equal for ever, and AMI is 0 whatever the weights.
VARIANTS = (
    Variant("base", {}),
    Variant("input γx", {"network.inputs": "masked"}),
    Variant("no KL term", {"network.kl_weight": 0.0}),
    Variant("H = 16", {"network.hidden": 16}),
    Variant("H = 128", {"network.hidden": 128}),
    Variant("H = 250", {"network.hidden": 250}),
    Variant("3 EM steps", {"optimisation.em_steps": 3}),
    Variant("15 EM steps", {"optimisation.em_steps": 15}),
    Variant("output bias 0", {"network.output_bias": 0.0}),
    Variant("γ detached", {"network.gradient_through_gamma": False}),
    Variant("last step's loss", {"optimisation.weighting": "last"}),
    Variant("no noise", {"optimisation.noise": 0.0}),
    Variant("noise 25 %", {"optimisation.noise": 0.25}),
    Variant("noise on θ", {"network.theta_noise": 0.25}),
)
ABLATIONS = {
    "smoke": AblationSettings(
        NoisyNetwork(hidden=8, theta_noise=0.0), SMOKE, Optimisation(steps=4, em_steps=2),
        Evaluation(every=2, em_steps=3, noises=(0.0,)), VARIANTS[:2],
        Sweeps((2, 4), (1, 3), (0.0, 0.1), tries=2)),
    "book": AblationSettings(
        shapes=Shapes(20_000, 200, 500), optimisation=Optimisation(steps=500), variants=VARIANTS),
    "full": AblationSettings(variants=VARIANTS),
}


class Ablations(Learner):
    """All variants side by side: each step moves every one of them on the same images.

    module: an `nn.ModuleList` of the variants' networks, in the order of the settings.
    """

    def __init__(self, learners: Mapping[str, RecordedGrouping]) -> None:
        self.learners = dict(learners)
        self.module = nn.ModuleList([learner.module for learner in self.learners.values()])
        self.optimizers = {name: one.optimizers["optimizer"] for name, one in self.learners.items()}
        self.schedulers = {name: one.schedulers["optimizer"] for name, one in self.learners.items()
                           if one.schedulers}

    def training_step(self, batch: Tensor, context: Context) -> dict[str, Tensor]:
        return {f"loss, {name}": learner.training_step(batch, context)["loss"]
                for name, learner in self.learners.items()}

    def evaluate(self, data: Mapping[str, Tensor] | None, context: Context) -> dict[str, Tensor]:
        return {f"{key}, {name}": value for name, learner in self.learners.items()
                for key, value in learner.evaluate(data, context).items() if key == "ami_arithmetic"}

    def picture(self, context: Context) -> Tensor | None:
        """The first variant's, as `RecordedGrouping` shows it."""
        return next(iter(self.learners.values())).picture(context)


def build_ablations(settings: AblationSettings, seed: int) -> Built:
    learners = {}
    for variant in settings.variants:
        own = settings.of(variant)
        with training.seeded(seed):         # all begin with the same draws
            model = make_network(own.network, 28, 28, own.optimisation.noise)
        learners[variant.name] = make_learner(model, own.optimisation, own.evaluation)
    held_out = data.static_shapes("validation", settings.shapes.validation_images)
    return Built(Ablations(learners), data.static_shapes("training", settings.shapes.training_images).images,
                 {"images": held_out.images, "groups": held_out.groups},
                 loop_settings(settings.optimisation, settings.evaluation))


def measure_ablations(
    built: Built, settings: AblationSettings, device: torch.device, seed: int
) -> dict[str, Metric]:
    """Each variant's scores as "VARIANT / SCORE", and those of the first under each change at test.

    The weights are rounded to half precision before, as they are shipped, and the loss has both its terms,
    with weight 1, whatever a variant was trained with: else it could not be compared.
    """
    built.learner.module.load_state_dict(ablation_weights(built.learner))
    for model in built.learner.module:
        model.kl_weight = 1.0
    test = data.static_shapes("test", settings.shapes.test_images)
    images, groups = test.images.to(device), test.groups.to(device)
    found = {}
    for variant, model in zip(settings.variants, built.learner.module, strict=True):
        found |= _scored(f"{variant.name} / ", model, images, groups, settings, seed)
    ours, sweeps = built.learner.module[0], settings.sweeps
    for slots in sweeps.slots:
        found |= _scored(f"{slots} slots / ", ours, images, groups, settings, seed, slots=slots)
    for noise in sweeps.noises:
        found |= _scored(f"noise {noise:g} / ", ours, images, groups, settings, seed, noises=(noise,))
    return found | sweep_steps(ours, images, groups, settings, seed) | sweep_starts(
        ours, images, groups, settings, seed) | sweep_tries(ours, images, groups, settings, seed)


def _scored(
    prefix: str, model: SpatialMixture, images: Tensor, groups: Tensor, settings: AblationSettings, seed: int,
    **changes: object,
) -> dict[str, Metric]:
    own = replace(settings, evaluation=replace(settings.evaluation, **changes))
    noise, random = own.evaluation.noises[0], generator(seed, "test", images.device)
    values = score_shapes(model, images, groups, own.evaluation, noise, random,
                          shapes_protocol(own, noise, "", False))
    return {f"{prefix}{name}": metric for name, metric in values.items()}


def sweep_steps(
    model: SpatialMixture, images: Tensor, groups: Tensor, settings: AblationSettings, seed: int
) -> dict[str, Metric]:
    """Scores and loss after each of some numbers of EM steps, of one run: "T steps / SCORE"."""
    wanted, parts = settings.sweeps.em_steps, {}
    random = generator(seed, "test", images.device)
    for rows in torch.arange(len(images)).split(250):
        run = model(images[rows], settings.evaluation.slots, max(wanted), random)
        for t in wanted:
            values = vars(clustering.scores(clustering.labels_of(run.gamma[t]), groups[rows]))
            for name, value in (values | {"loss": run.loss[t - 1]}).items():
                parts.setdefault((t, name), []).append(value.double().cpu())
    found = {}
    for (t, name), values in parts.items():
        own = replace(settings, evaluation=replace(settings.evaluation, em_steps=t))
        found[f"{t} steps / {name}"] = _mean_of(torch.cat(values), name, shapes_protocol(own, 0.0, "", False))
    return found


def _mean_of(values: Tensor, name: str, protocol: str) -> Metric:
    if name == "loss":
        return Metric(values.mean().item(), protocol, "nats", better="lower")
    return Metric(values.nanmean().item(), protocol, better="higher")


def starting_gamma(kind: str, batch: int, slots: int, random: torch.Generator) -> Tensor:
    """γ₀ of that kind, (batch, K, 28, 28): "random" as always; "almost uniform", 1/K with a hundredth of that
    noise; "one slot a pixel", drawn at random; "uniform", 1/K.
    """
    drawn = neural_em.random_gamma(batch, slots, 28, 28, random)
    uniform = torch.full_like(drawn, 1 / slots)
    if kind == "one slot a pixel":
        return nn.functional.one_hot(drawn.argmax(1), slots).movedim(-1, 1).to(drawn)
    mixed = {"random": drawn, "almost uniform": 0.99 * uniform + 0.01 * drawn, "uniform": uniform}
    if kind not in mixed:
        raise ValueError(f"A start is one of {', '.join(mixed)} and one slot a pixel; {kind!r} came.")
    return mixed[kind]


def sweep_starts(
    model: SpatialMixture, images: Tensor, groups: Tensor, settings: AblationSettings, seed: int
) -> dict[str, Metric]:
    """Scores by the kind of the start: "start KIND / SCORE"."""
    found, evaluation = {}, settings.evaluation
    for kind in settings.sweeps.starts:
        random, parts = generator(seed, "test", images.device), {}
        for rows in torch.arange(len(images)).split(250):
            start = starting_gamma(kind, len(rows), evaluation.slots, random)
            run = model(images[rows], evaluation.slots, evaluation.em_steps, start=start)
            values = vars(clustering.scores(clustering.labels_of(run.gamma[-1]), groups[rows]))
            for name, value in (values | {"loss": run.loss[-1]}).items():
                parts.setdefault(name, []).append(value.double().cpu())
        protocol = shapes_protocol(settings, 0.0, "", False).replace("one random start", f"one start, {kind}")
        found |= {f"start {kind} / {name}": _mean_of(torch.cat(values), name, protocol)
                  for name, values in parts.items()}
    return found


def sweep_tries(
    model: SpatialMixture, images: Tensor, groups: Tensor, settings: AblationSettings, seed: int
) -> dict[str, Metric]:
    """Several random starts an image: how far they lie apart, the one of the lowest loss, for which nobody
    needs labels, and the best.
    """
    tries, random = settings.sweeps.tries, generator(seed, "test", images.device)
    values = scores_of_starts(model, images, groups, settings.evaluation, tries, random)
    protocol = shapes_protocol(settings, 0.0, "", False)
    found = {}
    for name in ("ami_arithmetic", "ami_max"):
        text = f"the standard deviation over {tries} random starts"
        text = protocol.replace("one random start", text)
        found[f"spread of starts / {name}"] = Metric(values[name].std(0).nanmean().item(), text)
        for count in range(1, tries + 1):
            first = {key: each[:count] for key, each in values.items()}
            text = protocol.replace("one random start", f"that of the lowest loss of {count} random starts")
            found[f"lowest loss of {count} / {name}"] = _mean_of(of_lowest_loss(first)[name], name, text)
            text = protocol.replace("one random start", f"the best by its labels of {count} random starts")
            found[f"best of {count} / {name}"] = _mean_of(first[name].amax(0), name, text)
    return found


def ablation_weights(learner: Ablations) -> dict[str, Tensor]:
    """All variants' weights, rounded to half precision to halve the file; curves as they are."""
    return {name: value.half() if value.is_floating_point() and ".record." not in name else value
            for name, value in learner.module.state_dict().items()}


def sample_ablations(built: Built, settings: AblationSettings, count: int, random: torch.Generator) -> Tensor:
    """The first variant's γ in colour on test images. (count, height, width, 3)."""
    first = Built(next(iter(built.learner.learners.values())), None, None, built.training)
    return sample_shapes(first, settings, count, random)


# --- Sequences: the same network predicts the next frame ----------------------------------------------------


@dataclass(frozen=True)
class SequenceNetwork:
    """Architecture: convolutions to a slot's θ and back, with layer norm between, as the authors have.

    Without channels one matrix leads to θ and one back, without layer norm: as for static shapes.
    """

    hidden: int = 100
    channels: tuple[int, ...] = (32, 64)
    features: int = 512
    theta_noise: float = 0.0
    likelihood: str = "bernoulli"
    kl_weight: float = 1.0
    normalised_input: bool = False          # whether each slot's input is brought to mean 0 and deviation 1
    output_bias: float = 0.0
    gradient_through_gamma: bool = False
    floor: float = 1e-6


@dataclass(frozen=True)
class Sequences:
    """Data: objects that fly and bounce; the first `frames` of each sequence."""

    name: str = "flying_shapes"             # or "flying_mnist"
    frames: int = 21
    training_sequences: int = 10_000
    validation_sequences: int = 1_000
    test_sequences: int = 1_000
    drawn: bool = False                     # draw them at once instead of reading the file: for a few


@dataclass(frozen=True)
class SequenceSettings:
    network: SequenceNetwork
    sequences: Sequences
    optimisation: Optimisation
    evaluation: Evaluation

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a frame."""
        return (28, 28) if self.sequences.name == "flying_shapes" else (24, 24)


def sequence_optimisation(steps: int, slots: int, frames: int, **changes: object) -> Optimisation:
    """Every step's loss counts, and a step is a frame."""
    return replace(Optimisation(steps=steps, slots=slots, em_steps=frames - 1, noise=0.2), **changes)


def sequence_evaluation(every: int, slots: int, frames: int) -> Evaluation:
    return Evaluation(every, slots, frames - 1, (0.2, 0.0))     # the authors leave the noise on at test


# The full presets are the published settings, for a GPU: 500 epochs of our 10,000 sequences. The book's are for
# a processor: the network, the loss and the noise on θ that do for static shapes, on half as many frames.
AS_PUBLISHED = {"learning_rate": 1e-3, "schedule": "constant", "warm_up": 0, "keep_best": True}
SMALL = SequenceNetwork(64, (), 0, 0.25, output_bias=-2.0, gradient_through_gamma=True, floor=0.0)
FLYING_SHAPES = {
    "smoke": SequenceSettings(
        SequenceNetwork(8, (2, 4), 8), Sequences("flying_shapes", 4, 40, 6, 6, drawn=True),
        sequence_optimisation(4, 3, 4, batch_size=8), sequence_evaluation(2, 3, 4)),
    "book": SequenceSettings(
        SMALL, Sequences("flying_shapes", 11, 5_000, 100, 500),
        sequence_optimisation(5_000, 3, 11, batch_size=32, learning_rate=3e-3, noise=0.1),
        Evaluation(250, 3, 10, (0.0, 0.1))),
    "full": SequenceSettings(
        SequenceNetwork(), Sequences(), sequence_optimisation(500 * 156, 3, 21, **AS_PUBLISHED),
        sequence_evaluation(780, 3, 21)),
}
PUBLISHED_DIGITS = SequenceNetwork(
    250, (32, 64, 128), 512, likelihood="gaussian", kl_weight=0.2, normalised_input=True)
FLYING_MNIST = {
    "smoke": SequenceSettings(
        replace(PUBLISHED_DIGITS, hidden=8, channels=(2, 4), features=8),
        Sequences("flying_mnist", 4, 40, 6, 6, drawn=True),
        sequence_optimisation(4, 2, 4, batch_size=8), sequence_evaluation(2, 2, 4)),
    "book": SequenceSettings(
        replace(SMALL, output_bias=0.0, likelihood="gaussian", kl_weight=0.2),
        Sequences("flying_mnist", 11, 5_000, 100, 500),
        sequence_optimisation(5_000, 2, 11, batch_size=32, learning_rate=2e-3, noise=0.1),
        Evaluation(250, 2, 10, (0.0, 0.1))),
    "full": SequenceSettings(
        PUBLISHED_DIGITS, Sequences("flying_mnist"),
        sequence_optimisation(500 * 156, 2, 21, **AS_PUBLISHED | {"learning_rate": 5e-4}),
        sequence_evaluation(780, 2, 21)),
}


class NormalisedOutput(nn.Module):
    """What the decoder sees of θ = σ(a): σ(LN(a)), layer norm on the output alone, while θ recurs without it.

    (N, hidden) → (N, hidden). As in the authors' code.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)

    def forward(self, theta: Tensor) -> Tensor:
        return self.norm(torch.logit(theta, eps=1e-6)).sigmoid()


class NormalisedInput(nn.Module):
    """(u − mean) / (standard deviation over pixels + ε), row by row: (N, pixels) → (N, pixels).

    The authors' code has no ε, and 0/0 for a slot that answers for nothing.
    """

    def forward(self, signal: Tensor) -> Tensor:
        centred = signal - signal.mean(1, keepdim=True)
        return centred / (centred.square().mean(1, keepdim=True).sqrt() + 1e-3)


def make_sequence_network(settings: SequenceSettings) -> neural_em.RNNEM:
    """The model of these settings, untrained."""
    network, (height, width) = settings.network, settings.size
    encoder = decoder = None
    if network.channels:
        sizes = height, width, network.hidden, network.channels, network.features
        encoder = neural_em.ConvolutionalEncoder(*sizes)
        decoder = nn.Sequential(NormalisedOutput(network.hidden),
                                neural_em.ConvolutionalDecoder(*sizes, network.output_bias))
    if network.normalised_input:
        flat = nn.Linear(height * width, network.hidden, bias=False)
        encoder = nn.Sequential(NormalisedInput(), encoder or flat)
    return neural_em.RNNEM(
        height, width, network.hidden, encoder=encoder, decoder=decoder, output_bias=network.output_bias,
        likelihood=network.likelihood, kl_weight=network.kl_weight, noise=settings.optimisation.noise,
        floor=network.floor, theta_noise=network.theta_noise,
        gradient_through_gamma=network.gradient_through_gamma)


def load_sequences(settings: SequenceSettings, split: str, count: int) -> data.Dataset:
    """The first `count` sequences of a split, `frames` long; drawn on the spot where the settings say so."""
    sequences, shapes = settings.sequences, settings.sequences.name == "flying_shapes"
    if not sequences.drawn:
        load = data.flying_shapes if shapes else data.flying_mnist
        return load(split, samples=count, steps=sequences.frames)
    random = generator(0, f"{split} sequences")
    if shapes:
        images, groups = moving.draw_flying_shapes(count, random, steps=sequences.frames)
    else:
        digits = data.mnist("test" if split == "test" else "train").images[:1_000]      # quicker to prepare
        images, groups = moving.draw_flying_mnist(count, random, digits=digits, steps=sequences.frames)
    return data.Dataset(images.float(), None, groups.long(), sequences.name)


def build_sequences(settings: SequenceSettings, seed: int) -> Built:
    del seed
    sequences, optimisation = settings.sequences, settings.optimisation
    learner = make_learner(make_sequence_network(settings), optimisation, settings.evaluation,
                           (*CURVES, "prediction"))
    held_out = load_sequences(settings, "validation", sequences.validation_sequences)
    return Built(learner, load_sequences(settings, "training", sequences.training_sequences).images,
                 {"images": held_out.images, "groups": held_out.groups},
                 loop_settings(optimisation, settings.evaluation))


def measure_sequences(
    built: Built, settings: SequenceSettings, device: torch.device, seed: int
) -> dict[str, Metric]:
    """Scores as the mean over all steps and as "last_…" those of the last step, the losses, and after each
    step "step T / ami_arithmetic"; for the first noise, and "…_noise_…" for another.
    """
    model = getattr(built.learner.module, "best", built.learner.module)
    test = load_sequences(settings, "test", settings.sequences.test_sequences)
    found = {}
    for index, noise in enumerate(settings.evaluation.noises):
        ending = f"_noise_{noise:g}" if index else ""
        random = generator(seed, f"test{noise}", device)
        values = score_sequences(model, test.images.to(device), test.groups.to(device), settings.evaluation,
                                 noise, random)
        found |= sequence_metrics(values, sequence_protocol(settings, noise), ending)
    return found


def sequence_protocol(settings: SequenceSettings, noise: float) -> str:
    evaluation, network = settings.evaluation, settings.network
    what = "turned over" if network.likelihood == "bernoulli" else "replaced by uniform numbers"
    kept = f"the weights of the lowest validation loss, looked at every {evaluation.every} steps; "
    noisy = f"{100 * noise:g} % of the input's pixels {what} in each step" if noise else "no noise"
    return ((kept if settings.optimisation.keep_best else "")
            + f"{settings.sequences.test_sequences:,} test sequences of {settings.sequences.frames} frames, "
            f"K = {evaluation.slots}, one random start, {noisy}; γ after each step against the frame that it "
            "has explained, per frame over the pixels of exactly one object")


def score_sequences(
    model: SpatialMixture, images: Tensor, groups: Tensor, evaluation: Evaluation, noise: float,
    random: torch.Generator, batch_size: int = 100,
) -> dict[str, Tensor]:
    """Each score, the loss and the loss on the next frame before it is seen: (sequences, steps)."""
    parts: dict[str, list[Tensor]] = {}
    for rows in torch.arange(len(images)).split(batch_size):
        run = model(images[rows], evaluation.slots, evaluation.em_steps, random, noise)
        steps = len(run.loss)
        truth = groups[rows, 1:steps + 1].transpose(0, 1).flatten(0, 1)
        scores = vars(clustering.scores(clustering.labels_of(run.gamma[1:].flatten(0, 1)), truth))
        values = {name: value.view(steps, -1) for name, value in scores.items()}
        for name, value in (values | {"loss": run.loss, "prediction": run.prediction}).items():
            parts.setdefault(name, []).append(value.T.double().cpu())
    return {name: torch.cat(values) for name, values in parts.items()}


def sequence_metrics(values: Mapping[str, Tensor], protocol: str, ending: str) -> dict[str, Metric]:
    found = {}
    for name in SCORES:
        found[f"{name}{ending}"] = _mean_of(values[name], name, f"{protocol}; mean over steps and sequences")
        found[f"last_{name}{ending}"] = _mean_of(values[name][:, -1], name, f"{protocol}; the last step")
    explained = {"loss": "the loss", "prediction": "−log likelihood of the next frame before it is seen, by "
                                                   "the γ of the step before"}
    for name, text in explained.items():
        found[f"{name}{ending}"] = Metric(values[name].mean().item(), f"{protocol}; {text}, mean over steps "
                                          "and sequences", "nats per frame", better="lower")
    if not ending:
        for t in range(values["ari"].shape[1]):
            found[f"step {t + 1} / ami_arithmetic"] = _mean_of(values["ami_arithmetic"][:, t], "ami",
                                                               f"{protocol}; after step {t + 1}")
    return found


def sample_sequences(built: Built, settings: SequenceSettings, count: int, random: torch.Generator) -> Tensor:
    """γ in colour on eight frames of each test sequence, frame after frame. (count, height, width, 3)."""
    from nemlib.plot import slot_colours

    model = getattr(built.learner.module, "best", built.learner.module)
    evaluation = settings.evaluation
    images = load_sequences(settings, "test", -(-count // 8)).images.to(random.device)
    run = model(images, evaluation.slots, evaluation.em_steps, random)
    shown = torch.linspace(1, len(run.gamma) - 1, min(8, len(run.gamma) - 1)).long()
    coloured = slot_colours(run.gamma[shown.to(random.device)].transpose(0, 1), images[:, shown], "dark")
    return coloured.flatten(0, 1)[:count]


# --- Reading what was recorded ------------------------------------------------------------------------------


def trained(
    name: str, preset: str = "full", seed: int | None = None, variant: str | None = None
) -> SpatialMixture:
    """The network of a recorded run, on the CPU, in evaluation mode: the one that its metrics are about.

    seed: None for the first recorded one. variant: of "shapes-ablations", by its name.
    Raises ResultError where nothing is recorded, ValueError where the preset has been changed since.
    """
    experiment = _experiment(name)
    result = results.load(name, preset)
    if result.settings != experiment.settings(preset):
        raise ValueError(f"{name} was recorded with other settings than the preset {preset} has now: train "
                         "it again.")
    settings, prefix = experiment.presets[preset], ""
    if isinstance(settings, AblationSettings):
        names = [one.name for one in settings.variants]
        if variant not in names:
            raise ValueError(f"variant is one of {', '.join(map(repr, names))}, and {variant!r} came.")
        prefix, settings = f"{names.index(variant)}.", settings.of(settings.variants[names.index(variant)])
    weights = {key.removeprefix(prefix): value.float() for key, value in result.weights(seed).items()
               if key.startswith(prefix) and ".record." not in f".{key}"}
    best = {key.removeprefix("best."): value for key, value in weights.items() if key.startswith("best.")}
    model = network_of(settings)
    model.load_state_dict(best or weights)
    return model.eval()


def network_of(settings: object) -> SpatialMixture:
    """The untrained network of any of this file's settings."""
    if isinstance(settings, SequenceSettings):
        return make_sequence_network(settings)
    return make_network(settings.network, 28, 28, settings.optimisation.noise)


def curves(
    name: str, preset: str = "full", seed: int | None = None, variant: str | None = None
) -> dict[str, tuple[Tensor, Tensor]]:
    """A recorded run's evaluations while it trained, on validation images: {"loss": (steps, values), …}.

    The names are those of `CURVES`, and for sequences "prediction"; arguments and errors as for `trained`.
    """
    result, prefix = results.load(name, preset), ""
    if variant is not None:
        names = [one["name"] for one in result.settings["variants"]]
        if variant not in names:
            raise ValueError(f"variant is one of {', '.join(map(repr, names))}, and {variant!r} came.")
        prefix = f"{names.index(variant)}."
    weights = result.weights(seed)
    steps, values = weights[f"{prefix}record.steps"], weights[f"{prefix}record.values"]
    done = steps > 0
    return {name: (steps[done], values[done, column])
            for column, name in zip(range(values.shape[1]), (*CURVES, "prediction"), strict=False)}


def table(metric: str = "ami_arithmetic", preset: str = "full") -> dict[str, float]:
    """Each variant of "shapes-ablations" and its mean of that metric over the recorded seeds."""
    result = results.load("shapes-ablations", preset)
    return {one["name"]: result.metrics[f"{one['name']} / {metric}"] for one in result.settings["variants"]}


def sweep(
    what: str, metric: str = "ami_arithmetic", preset: str = "full"
) -> tuple[list[float], list[float]]:
    """What one thing changed at test does: its values, and the metric's mean over the recorded seeds.

    what: "slots", "steps", "noise", "lowest loss of" or "best of" (so many random starts), or "start", whose
    values are words. Raises ValueError for another.
    """
    result = results.load("shapes-ablations", preset)
    sweeps = result.settings["sweeps"]
    tries = list(range(1, sweeps["tries"] + 1))
    known = {"slots": (sweeps["slots"], "{} slots"), "steps": (sweeps["em_steps"], "{} steps"),
             "noise": (sweeps["noises"], "noise {:g}"), "start": (sweeps["starts"], "start {}"),
             "lowest loss of": (tries, "lowest loss of {}"), "best of": (tries, "best of {}")}
    if what not in known:
        raise ValueError(f"what is one of {', '.join(map(repr, known))}, and {what!r} came.")
    values, words = known[what]
    return list(values), [result.metrics[f"{words.format(value)} / {metric}"] for value in values]


def _experiment(name: str) -> Experiment:
    for experiment in EXPERIMENTS:
        if experiment.name == name:
            return experiment
    raise ValueError(f"{name!r} is none of this chapter's experiments: "
                     f"{', '.join(experiment.name for experiment in EXPERIMENTS)}.")


EXPERIMENTS = (
    Experiment(
        "shapes-published",
        "RNN-EM on static shapes in the published setting: loss falls, AMI does not (chapter 8)",
        PUBLISHED, build_shapes, measure_shapes, sample_shapes),
    Experiment(
        "shapes-nem", "N-EM, whose M-step is the gradient itself, on static shapes (chapter 8)",
        N_EM, build_shapes, measure_shapes, sample_shapes),
    Experiment(
        "shapes-ours", "RNN-EM on static shapes with a narrow bottleneck and a kinder loss (chapter 8)",
        OURS, build_shapes, measure_shapes, sample_shapes),
    Experiment(
        "shapes-wide", "the same with 250 numbers a slot: its loss falls, and so does its grouping (chapter 8)",
        WIDE, build_shapes, measure_shapes, sample_shapes),
    Experiment(
        "shapes-ablations",
        "what each choice is worth on static shapes: variants in training, and changes at test (chapter 8)",
        ABLATIONS, build_ablations, measure_ablations, sample_ablations, ablation_weights),
    Experiment(
        "flying-shapes", "RNN-EM on shapes that fly and bounce: it predicts the next frame (chapter 8)",
        FLYING_SHAPES, build_sequences, measure_sequences, sample_sequences),
    Experiment(
        "flying-mnist", "RNN-EM on two digits that fly and bounce, with Gaussian pixels (chapter 8)",
        FLYING_MNIST, build_sequences, measure_sequences, sample_sequences),
)
