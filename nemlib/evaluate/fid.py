"""Scores of samples: distances between clouds of features, coverage of the data, modes found, and a score to
distrust.

    network = FeatureNetwork(); network.load_state_dict(...)             # results/digit-features
    real, fake = network.features(test), network.features(samples)
    print(frechet_distance(real, fake), "floor", frechet_distance(real, network.features(new_training_images)))
    print(precision_recall(real, fake))

Sources: Heusel et al. (2017) for the Fréchet distance, Chong and Forsyth (2020) for its bias; Kynkäänniemi et
al. (2019) for precision and recall; Srivastava et al. (2017) and Lin et al. (2018) for the count of modes;
Theis et al. (2016) for what Parzen windows are worth.

Features are (count, numbers), and there is no unit to them: a Fréchet distance means something beside its
floor, by the same network and with equally many samples.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["FeatureNetwork", "Modes", "PrecisionRecall", "expected_bias", "frechet_distance",
           "frechet_gaussian", "mode_count", "nearest", "parzen_log_prob", "precision_recall",
           "stacked_modes"]


class FeatureNetwork(nn.Module):
    """A small classifier of digits; the numbers in front of its last layer are the features.

    Images are (count, side²), in [0, 1]. width: channels of the first convolution. numbers: how many
    features.
    """

    def __init__(self, side: int = 28, width: int = 32, numbers: int = 64, classes: int = 10) -> None:
        super().__init__()
        if side % 4:
            raise ValueError(f"The side of the images is halved twice: a multiple of 4, but {side} came.")
        self.side = side
        self.body = nn.Sequential(
            nn.Unflatten(1, (1, side, side)),
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Dropout(0.25), nn.Linear(2 * width * (side // 4)**2, numbers), nn.ReLU())
        self.head = nn.Linear(numbers, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the classes, (count, classes)."""
        return self.head(self.body(images))

    def features(self, images: Tensor, batch: int = 500) -> Tensor:
        """(count, side²) → (count, numbers), float64, without dropout.

        Raises ValueError for images of another shape, none, or pixels outside [0, 1].
        """
        return self.by_parts(self.body, images, batch).double()

    def classify(self, images: Tensor, batch: int = 500) -> Tensor:
        """The most probable class of each image and its probability: two rows, (2, count). Raises as `features`."""
        probability, label = self.by_parts(self, images, batch).softmax(1).max(1)
        return torch.stack([label.to(probability.dtype), probability])

    @torch.no_grad()
    def by_parts(self, network: nn.Module, images: Tensor, batch: int) -> Tensor:
        """What that network gives for the images, `batch` at a time, in eval mode for as long as it takes."""
        if images.dim() != 2 or not len(images) or images.shape[1] != self.side**2:
            raise ValueError(f"Images are (count, {self.side**2}), one at least, but {tuple(images.shape)} came.")
        low, high = (bound.item() for bound in images.aminmax())
        if not (low >= -1e-6 and high <= 1 + 1e-6):
            raise ValueError(f"The network has learnt from pixels in [0, 1], but {low:g} to {high:g} came: "
                             "for a generator with Tanh give (x + 1) / 2.")
        training = self.training
        try:
            self.eval()
            return torch.cat([network(part) for part in images.split(batch)])
        finally:
            self.train(training)


# --- Fréchet distance ------------------------------------------------------------------------------------


def square_root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a symmetric matrix without negative eigenvalues (rounding below 0 counts
    as 0).
    """
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.mT


def frechet_gaussian(
    mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor
) -> Tensor:
    """‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁^½ Σ₂ Σ₁^½)^½): the squared W₂ distance of two Gaussians, a scalar.

    (numbers,), (numbers, numbers), twice. The last trace is the sum of the singular values of Σ₁^½ Σ₂^½, so
    no complex number can come of rounding. Dowson and Landau (1982); equation eq-gan-frechet.
    """
    cross = torch.linalg.svdvals(square_root(covariance) @ square_root(other_covariance)).sum()
    traces = covariance.diagonal().sum() + other_covariance.diagonal().sum()
    return (mean - other_mean).square().sum() + traces - 2 * cross


def frechet_distance(real: Tensor, generated: Tensor) -> float:
    """The same of the means and covariances (divisor N − 1) of two sets of features, (count, numbers) each.

    Heusel et al. (2017), equation 6. Raises ValueError for features that differ in number, or fewer samples
    than features: then the covariance is singular, and the bias larger than what is measured.
    """
    if (real.dim() != 2 or generated.dim() != 2 or real.shape[1] != generated.shape[1]
            or min(len(real), len(generated)) <= real.shape[1]):
        raise ValueError("Two sets of features of one kind, (count, numbers), are needed, each with more "
                         f"samples than numbers, but {tuple(real.shape)} and {tuple(generated.shape)} came.")
    if not (real.isfinite().all() and generated.isfinite().all()):
        raise ValueError("There is nan or inf in the features: look at the samples first.")
    real, generated = real.double(), generated.double()
    covariances = (torch.cov(each.T).reshape(2 * [each.shape[1]]) for each in (real, generated))
    first, second = covariances
    return frechet_gaussian(real.mean(0), first, generated.mean(0), second).item()


def expected_bias(covariance: Tensor, count: int, other_count: int) -> float:
    """What the Fréchet distance of two sets from one Gaussian law is on average, to first order in 1/count.

    (1/N₁ + 1/N₂) (5/4 Σᵢ λᵢ + ½ Σᵢⱼ λᵢλⱼ / (λᵢ + λⱼ)), with the eigenvalues λ of the covariance. Equation
    eq-gan-frechet-bias.
    """
    values = torch.linalg.eigvalsh(covariance.double()).clamp_min(torch.finfo(torch.float64).tiny)
    pairs = values[:, None] * values / (values[:, None] + values)
    return ((1 / count + 1 / other_count) * (1.25 * values.sum() + 0.5 * pairs.sum())).item()


# --- coverage --------------------------------------------------------------------------------------------


class PrecisionRecall(NamedTuple):
    """precision: share of generated samples among the data; recall: share of data among the generated
    samples.
    """

    precision: float
    recall: float


def precision_recall(
    real: Tensor, generated: Tensor, neighbours: int = 3, batch: int = 1000
) -> PrecisionRecall:
    """How much of each set lies within the other's balls: around each point one that reaches its k-th
    neighbour.

    real, generated: features, (count, numbers). Kynkäänniemi et al. (2019), equations 1 and 2; equation
    eq-gan-precision-recall. Raises ValueError for k outside of 1 … count − 1.
    """
    most = min(len(real), len(generated)) - 1
    if not 1 <= neighbours <= most:
        raise ValueError(f"The k-th neighbour is needed with k from 1 to {most}; {neighbours} came.")
    return PrecisionRecall(
        covered(generated, real, neighbours, batch), covered(real, generated, neighbours, batch))


def radii(points: Tensor, neighbours: int, batch: int) -> Tensor:
    """The distance of each point to its k-th neighbour, itself not counted, (count,)."""
    distances = (torch.cdist(part, points) for part in points.split(batch))
    return torch.cat([part.kthvalue(neighbours + 1, dim=1).values for part in distances])


def covered(points: Tensor, centres: Tensor, neighbours: int, batch: int) -> float:
    """The share of points that lie in the ball of at least one centre."""
    reach = radii(centres, neighbours, batch)
    inside = [(torch.cdist(part, centres) <= reach).any(1) for part in points.split(batch)]
    return torch.cat(inside).double().mean().item()


def nearest(samples: Tensor, data: Tensor, batch: int = 500) -> tuple[Tensor, Tensor]:
    """The number of the datum next to each sample, and its distance, (count,) both: does the generator
    copy?
    """
    found = torch.cat([torch.cdist(part, data).argmin(1) for part in samples.split(batch)])
    return found, (samples - data[found]).norm(dim=1)       # cdist's own distance of a copy is not quite 0


# --- modes -----------------------------------------------------------------------------------------------


class Modes(NamedTuple):
    """found: modes with at least one sample that counts; good: share of good samples; counts: samples that
    count, of each mode (in the plane the good ones; of stacked digits all); reverse_kl: KL(share of each mode ‖
    equal shares), nats, of those; inf where none counts.
    """

    found: int
    good: float
    counts: Tensor
    reverse_kl: float


def mode_count(samples: Tensor, centres: Tensor, deviation: float, reach: float = 3.0) -> Modes:
    """Samples (count, numbers) of a mixture of round Gaussians with those centres, (modes, numbers), and one
    deviation.

    A sample is good within `reach` deviations of the nearest centre: of true samples in the plane, 1 −
    e^(−reach²/2) are. Srivastava et al. (2017), section 4.1; equations eq-gan-modes and eq-gan-good-share.
    Raises ValueError for no samples, or a deviation or reach that is not above 0.
    """
    if not len(samples) or not deviation > 0 or not reach > 0:
        raise ValueError("Modes are counted in one sample at least, with a deviation and a reach above 0, but "
                         f"{len(samples)}, {deviation} and {reach} came.")
    distance, mode = torch.cdist(samples.double(), centres.double()).min(1)
    good = distance < reach * deviation
    counts = torch.bincount(mode[good], minlength=len(centres))
    return Modes(int((counts > 0).sum()), good.double().mean().item(), counts, reverse_kl(counts))


def reverse_kl(counts: Tensor) -> float:
    """KL of the shares to equal shares, nats: log(modes) − entropy. inf where nothing was counted."""
    if not counts.sum():
        return math.inf
    shares = counts.double() / counts.sum()
    return max(0.0, (math.log(len(counts)) + torch.special.xlogy(shares, shares).sum()).item())


def stacked_modes(network: FeatureNetwork, images: Tensor) -> Modes:
    """Three digits stacked as channels, (count, 3 · side²): which of 1,000 triples each image shows, by the
    classifier.

    A triple counts as found with one image, as in the published tables; good is the share of images all of
    whose digits the classifier gives at least .9. Metz et al. (2017), Srivastava et al. (2017).
    """
    label, probability = network.classify(images.unflatten(1, (3, -1)).flatten(0, 1))
    digits = label.long().unflatten(0, (-1, 3))
    counts = torch.bincount((digits * digits.new_tensor([100, 10, 1])).sum(1), minlength=1000)
    sure = (probability.unflatten(0, (-1, 3)) >= 0.9).all(1)
    return Modes(int((counts > 0).sum()), sure.double().mean().item(), counts, reverse_kl(counts))


# --- a score to distrust ---------------------------------------------------------------------------------


def parzen_log_prob(x: Tensor, centres: Tensor, deviation: float, batch: int = 100) -> Tensor:
    """log (1/C) Σ_c N(x; c, deviation² I), nats, summed over pixels. x (count, pixels), centres (C, pixels) →
    (count,).

    Equation eq-gan-parzen. Raises ValueError for a deviation that is not above 0.
    """
    if not deviation > 0:
        raise ValueError(f"The deviation of a Parzen window is above 0, but {deviation} came.")
    centres = centres.double()
    constant = math.log(len(centres)) + x.shape[1] * math.log(deviation * math.sqrt(2 * math.pi))
    squares = [torch.cdist(part.double(), centres).square() for part in x.split(batch)]
    return torch.cat([(-0.5 * part / deviation**2).logsumexp(1) for part in squares]) - constant
