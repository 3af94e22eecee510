"""Chapter 1's recorded runs: the Ising lattice against its exact solution, and a prior that cleans noisy
digits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nemlib import data, gibbs
from nemlib.experiments.experiment import Built, Experiment, generator
from nemlib.experiments.results import Metric
from nemlib.training import TrainingSettings

CRITICAL_TEMPERATURE = 1 / gibbs.CRITICAL_COUPLING

# --- The Ising lattice: a sampler whose answers are known exactly ------------------------------------------


@dataclass(frozen=True)
class Lattice:
    """Architecture: square periodic lattices without a field, around the critical temperature; T = 1/J."""

    height: int = 64
    width: int = 64
    temperatures: tuple[float, ...] = (1.5, 2.0, 2.2, CRITICAL_TEMPERATURE, 2.4, 3.0)


@dataclass(frozen=True)
class Sampling:
    """What stands in the place of optimisation: Gibbs sweeps, white squares first, then black ones."""

    chains: int = 8             # independent lattices at each temperature, all begun with every spin up
    burn_in: int = 2000         # sweeps that are not counted
    sweeps: int = 8000          # sweeps that are


@dataclass(frozen=True)
class LatticeSettings:
    """There are no data: the law is known, and only its averages are sought."""

    lattice: Lattice = Lattice()
    sampling: Sampling = Sampling()


LATTICE = {
    "smoke": LatticeSettings(Lattice(8, 8), Sampling(chains=4, burn_in=50, sweeps=200)),
    "book": LatticeSettings(Lattice(32, 32), Sampling(chains=16, burn_in=1000, sweeps=4000)),
    "full": LatticeSettings(),
}


def build_lattice(settings: LatticeSettings, seed: int) -> Built:
    lattice, sampling = settings.lattice, settings.sampling
    learner = gibbs.IsingLattice(lattice.temperatures, lattice.height, lattice.width, sampling.chains,
                                 sampling.burn_in)
    steps = sampling.burn_in + sampling.sweeps
    every = max(1, steps // 20)
    loop = TrainingSettings(steps=steps, report_every=min(50, every), evaluate_every=every)
    return Built(learner, None, None, loop)


def measure_lattice(
    built: Built, settings: LatticeSettings, device: torch.device, seed: int
) -> dict[str, Metric]:
    """Energy and mean |magnetisation| per spin at every temperature, with errors from independent chains."""
    del device, seed   # the run itself has measured: its chains' means are tensors of the module
    lattice, sampling = settings.lattice, settings.sampling
    protocol = (f"mean over {sampling.chains} independent {lattice.height} × {lattice.width} periodic "
                f"lattices a seed, begun with every spin up, over {sampling.sweeps:,} Gibbs sweeps after "
                f"{sampling.burn_in:,} that are not counted; the standard error is from independent lattices")
    errors = built.learner.standard_errors()
    units = {key: "J per spin" if key.startswith("energy") else "" for key in errors}
    return {key: Metric(float(chains.double().mean()), protocol, units[key], errors[key])
            for key, chains in built.learner.by_temperature().items()}


def sample_lattice(built: Built, settings: LatticeSettings, count: int, random: torch.Generator) -> Tensor:
    """Lattices after 100 more sweeps, temperature after temperature: up = 1. (count, height, width)."""
    lattice, spins = built.learner.module, built.learner.module.spins
    for _ in range(100):
        spins = lattice.sweep(spins, random)
    by_chain = spins.reshape(-1, settings.sampling.chains, *spins.shape[-2:]).transpose(0, 1)
    return (by_chain.flatten(0, 1)[:count] + 1) / 2


def lattice_weights(learner: gibbs.IsingLattice) -> dict[str, Tensor]:
    """The last lattices (as bytes: a spin is ±1) and every chain's means."""
    return {key: tensor.to(torch.int8) if key == "spins" else tensor
            for key, tensor in learner.module.state_dict().items()}


# --- An Ising prior of handwritten digits ----------------------------------------------------------------


@dataclass(frozen=True)
class Prior:
    """Architecture: an Ising model on the pixels, free edges, one coupling and one field for all of them."""

    height: int = 28
    width: int = 28


@dataclass(frozen=True)
class Digits:
    """Data: MNIST, each grey pixel drawn once as black or white with its grey value as probability."""

    training_images: int = 50_000
    test_images: int = 10_000
    binarization_seed: int = 0


@dataclass(frozen=True)
class PseudoLikelihood:
    """Optimisation: Adam on the mean negative log pseudo-likelihood per pixel."""

    epochs: int = 10
    batch_size: int = 500
    learning_rate: float = 0.05


@dataclass(frozen=True)
class Denoising:
    """Evaluation: every pixel turned over with probability ε, then cleaned by Gibbs sampling or by ICM."""

    flip_probability: float = 0.1
    burn_in: int = 10           # sweeps that are not counted
    sweeps: int = 50            # sweeps whose conditionals are averaged
    icm_sweeps: int = 10        # of iterated conditional modes, the comparison


@dataclass(frozen=True)
class PriorSettings:
    prior: Prior = Prior()
    digits: Digits = Digits()
    optimisation: PseudoLikelihood = PseudoLikelihood()
    denoising: Denoising = Denoising()


PRIOR = {
    "smoke": PriorSettings(digits=Digits(500, 50), optimisation=PseudoLikelihood(epochs=2, batch_size=100),
                           denoising=Denoising(burn_in=2, sweeps=5)),
    "book": PriorSettings(digits=Digits(10_000, 1_000), optimisation=PseudoLikelihood(epochs=5)),
    "full": PriorSettings(),
}


def build_prior(settings: PriorSettings, seed: int) -> Built:
    del seed   # one coupling and one field begin at 0, whatever the seed
    digits = settings.digits
    spins = digit_spins("train", digits.training_images, digits.binarization_seed)
    test = digit_spins("test", digits.test_images, digits.binarization_seed)
    learner = gibbs.IsingPrior(gibbs.Ising(settings.prior.height, settings.prior.width),
                               settings.optimisation.learning_rate)
    loop = TrainingSettings(epochs=settings.optimisation.epochs, batch_size=settings.optimisation.batch_size,
                            report_every=10)
    return Built(learner, spins, test, loop)


def digit_spins(split: str, count: int, seed: int) -> Tensor:
    """The first `count` images of an MNIST split, binarized once, as ±1. (count, 28, 28)."""
    digits = data.mnist(split)
    binary = replace(digits, images=data.binarize_fixed(digits.images, seed))   # all of them, then the first
    return gibbs.to_spins(binary.subset(count).images)


def measure_prior(
    built: Built, settings: PriorSettings, device: torch.device, seed: int
) -> dict[str, Metric]:
    """Wrong pixels in per cent before and after cleaning, and the pseudo-likelihood of clean test digits."""
    prior, clean, how = built.learner.module, built.evaluation_data.to(device), settings.denoising
    random = generator(seed, "denoising", device)
    noisy = gibbs.add_noise(clean, how.flip_probability, random)
    marginal = gibbs.denoise(prior, noisy, how.flip_probability, how.sweeps, how.burn_in, random)
    mode = gibbs.posterior(prior, noisy, how.flip_probability).icm(noisy, how.icm_sweeps)
    cleaned = torch.where(marginal > 0.5, 1.0, -1.0)
    images = (f"{len(clean):,} MNIST test images, binarized once by drawing each pixel (seed "
              f"{settings.digits.binarization_seed})")
    noise = f"{images}, every pixel turned over with probability {how.flip_probability:g}"

    def wrong(spins: Tensor, protocol: str) -> Metric:
        return Metric(wrong_percent(spins, clean), f"{noise}; {protocol}wrong pixels", "%", better="lower")

    return {
        "noisy_error": wrong(noisy, ""),
        "icm_error": wrong(mode, f"then {how.icm_sweeps} sweeps of iterated conditional modes, begun at the "
                                 "noisy picture; "),
        "gibbs_error": wrong(cleaned, f"then the posterior's marginals from {how.sweeps} Gibbs sweeps after "
                                      f"{how.burn_in} that are not counted, cut at ½; "),
        "pseudo_log_likelihood": Metric(
            prior.pseudo_log_likelihood(clean).double().mean().item(),
            f"{images}; sum over pixels, mean over images", "nats", better="higher"),
    }


def wrong_percent(spins: Tensor, clean: Tensor) -> float:
    """The share of pixels that differ, in per cent. Both of any one shape."""
    return 100 * (spins != clean).double().mean().item()


def sample_prior(built: Built, settings: PriorSettings, count: int, random: torch.Generator) -> Tensor:
    """Pictures of the prior itself: 200 Gibbs sweeps from fair coins. (count, 28, 28)."""
    del settings
    prior = built.learner.module
    spins = prior.random_spins(count, random)
    for _ in range(200):
        spins = prior.sweep(spins, random)
    return (spins + 1) / 2


# --- Exact values to put beside them ---------------------------------------------------------------------


def onsager_energy(temperature: float) -> float:
    """Energy per spin of the infinite lattice at T = 1/J, in units of J. Onsager (1944)."""
    return float(gibbs.onsager_energy(torch.tensor(1 / temperature, dtype=torch.float64)))


def yang_magnetisation(temperature: float) -> float:
    """Spontaneous magnetisation per spin of the infinite lattice at T = 1/J. Yang (1952)."""
    return float(gibbs.yang_magnetisation(torch.tensor(1 / temperature, dtype=torch.float64)))


def correlation_length(temperature: float) -> float:
    """How far spins know of each other below T_c, in lattice spacings: 1/(4 (J − J*)), sinh 2J sinh 2J* = 1.

    Infinite at T_c. Raises ValueError above it, where another formula holds. McCoy and Wu (1973).
    """
    coupling = 1 / temperature
    distance = coupling + 0.5 * math.log(math.tanh(coupling))
    if temperature > 1.000001 * CRITICAL_TEMPERATURE:
        raise ValueError(f"The formula ends at the critical temperature, and {temperature} is above it.")
    return 1 / (4 * distance) if distance > 1e-9 else math.inf


def magnetisation_deep_in_order(temperature: float, side: int) -> float | None:
    """Mean |m| of a periodic side × side lattice where it is known: below T_c it differs from the infinite
    lattice's by a term of order exp(−side/ξ), which is nothing to us where side > 20 ξ; elsewhere None.
    """
    if temperature >= CRITICAL_TEMPERATURE or side < 20 * correlation_length(temperature):
        return None
    return yang_magnetisation(temperature)


def explain_magnetisation(temperature: float, side: int) -> str:
    """Why our mean |m| on a finite lattice is not the infinite lattice's spontaneous magnetisation."""
    if temperature > 1.000001 * CRITICAL_TEMPERATURE:
        return f"Without order mean |m| falls as 1/side, and a side of {side} leaves some."
    if temperature > 0.999999 * CRITICAL_TEMPERATURE:
        return "At the critical temperature mean |m| falls only as side to the power −⅛."
    length = correlation_length(temperature)
    if magnetisation_deep_in_order(temperature, side) is not None:
        return f"None expected: spins correlate over {length:.1f} spacings only."
    return f"Spins correlate over {length:.1f} spacings: a side of {side} is not quite infinite."


def kaufman_energy(temperature: float, height: int, width: int) -> float:
    """Energy per spin of a periodic height × width lattice at T = 1/J, in units of J, exactly.

    −(1/N) d log Z/dJ by autograd of Kaufman's (1949) closed form of log Z, in float64. Raises ValueError
    for a temperature that is not positive or a side below 3 (where two neighbours would be the same spin).
    """
    if not temperature > 0 or min(height, width) < 3:
        raise ValueError(f"A positive temperature and sides of at least 3 are needed; {temperature} and "
                         f"{height} × {width} came.")
    coupling = torch.tensor(1 / temperature, dtype=torch.float64, requires_grad=True)
    (derivative,) = torch.autograd.grad(_kaufman_log_z(coupling, height, width), coupling)
    return -derivative.item() / (height * width)


def _kaufman_log_z(coupling: Tensor, height: int, width: int) -> Tensor:
    """log Z of the torus, in nats. coupling: (), float64. Returns ()."""
    ratio = torch.cosh(2 * coupling) ** 2 / torch.sinh(2 * coupling)
    gamma = torch.stack([torch.acosh(ratio - math.cos(math.pi * r / width)) for r in range(1, 2 * width)])
    odd, even = gamma[0::2] * height / 2, gamma[1::2] * height / 2
    lowest = (2 * coupling + torch.log(torch.tanh(coupling))) * height / 2      # changes its sign at T_c

    def log_cosh(x: Tensor) -> Tensor:
        return (x + torch.log1p(torch.exp(-2 * x))).sum()      # of 2 cosh x

    def log_sinh(x: Tensor) -> Tensor:
        return (x + torch.log1p(-torch.exp(-2 * x))).sum()     # of 2 sinh x

    logs = torch.stack([log_cosh(odd), log_sinh(odd), log_cosh(even), log_sinh(even)])
    top = logs.detach().max()
    factors = torch.stack([torch.ones_like(lowest), torch.ones_like(lowest),
                           2 * torch.cosh(lowest), 2 * torch.sinh(lowest)])
    total = top + torch.log((factors * torch.exp(logs - top)).sum())
    return height * width / 2 * torch.log(2 * torch.sinh(2 * coupling)) + total - math.log(2)


EXPERIMENTS = (
    Experiment(
        "ising-lattice",
        "the Ising lattice around its critical temperature, against its exact solution (chapter 1)",
        LATTICE, build_lattice, measure_lattice, sample_lattice, lattice_weights),
    Experiment(
        "ising-prior",
        "an Ising prior of MNIST digits by pseudo-likelihood, judged by cleaning noisy ones (chapter 1)",
        PRIOR, build_prior, measure_prior, sample_prior),
)
