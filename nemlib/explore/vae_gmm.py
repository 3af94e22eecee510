"""The interactive figure of chapter 5: a VAE and a Gaussian mixture that teach each other, in the plane."""

import copy as copies
import math
from typing import NamedTuple

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from torch import Tensor, nn

from nemlib.explore.figure import INK, LINE, MUTED, Figure, pack, picture
from nemlib.explore.vae import _packed, _shades
from nemlib.gmm import GaussianMixture, Prior, assignment_information, k_means_plus_plus, moments
from nemlib.plot import COLOURS, PALETTE, SLOTS
from nemlib.vae import VAE, BernoulliPixels, Gaussian
from nemlib.vae_gmm import expected_log_joint, kl_bound, kl_to_component

__all__ = ["Readings", "em_on", "moved", "mutual_figure", "readings", "start_mixture"]

MOST_COMPONENTS = 10
FEWEST_IMAGES, MOST_IMAGES = 20, 800
BETAS = (0, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)          # of the slider
SHOWN = 8                   # pictures in a row of the strip
ROUNDS = 40                 # after which the page rests
LARGEST_MUTUAL = 400_000    # bytes: a decoder's weights and 600 small images
STILL_ROUNDS = 12


def mutual_figure(
    vae: VAE, images: Tensor, *, components: int = 10, beta: float = 10, seed: int = 1, copy: int = 1,
) -> Figure:
    """A VAE with two latent units and a Gaussian mixture: the page sends their messages, one step at a time.

    vae: trained, with Bernoulli pixels; its decoder linear layers with activations of `nemlib.explore.vae`.
    images: (n, pixels), square and of even sides, n from 20 to 800, in [0, 1]: the encoder gives each its
    first q = N(c, diag s²).  components: K at first, 1 to 10.  beta: weight of the message at first, one of
    BETAS.  seed: of the starts and draws.  copy: 2 for a second copy on the same page.
    The page holds the decoder's factor as the Gaussian N(c, diag s²), so that a step of the VAE is
    eq-vg-figure, `moved`; the mixture learns by EM on the messages, `em_on`, or by sweeps of the Gibbs
    sampler; bounds are `readings`. It decodes pictures of half the side with the weights of
    `small_decoder(vae.decoder)`, rounded to 8 bits. No label of the images comes in.
    Raises ValueError for what does not fit together, or not on a page.
    """
    if not 1 <= components <= MOST_COMPONENTS:
        raise ValueError(f"components is {components}: it should be from 1 to {MOST_COMPONENTS}.")
    if beta not in BETAS:
        raise ValueError(f"beta is {beta}: it should be one of {', '.join(map(str, BETAS))}.")
    if not 1 <= seed <= 999:
        raise ValueError(f"seed is {seed}: it should be from 1 to 999.")
    side = _checked(vae, images)
    first = page_guess(vae, images)
    small = images.detach().cpu().unflatten(1, (side // 2, 2, side // 2, 2)).mean((2, 4))
    roles = {"ink": "ink", "paper": "paper", "bound": "blue", "conditional": "vermilion", "muted": "muted"}
    return Figure(
        name="vg-mutual", title="A VAE and a Gaussian mixture that teach each other", copy=copy,
        scripts=("random.js", "vae_network.js", "vg_mutual_maths.js", "rbm_parts.js", "nem_slots.js",
                 "vg_mutual.js", "rbm.css", "vg_mutual.css"),
        data={"decoder": _packed(small_decoder(vae.decoder)), "mean": pack(first.mean, "float16"),
              "logVariance": pack(first.log_variance, "float16"), "images": _shades(small.numpy()),
              "side": side // 2, "components": components, "mostComponents": MOST_COMPONENTS, "betas": BETAS,
              "beta": beta, "seed": seed, "rounds": ROUNDS, "shown": SHOWN,
              "slots": [PALETTE[name] for name in SLOTS],
              "palette": {role: PALETTE[name] for role, name in roles.items()}},
        still=_still(first, components, beta, seed), largest=LARGEST_MUTUAL,
        words="Interactive figure «A VAE and a Gaussian mixture that teach each other»: the mixture moves to "
              "where the points are, its message pulls the points, and the mixture follows.")


def page_guess(vae: VAE, images: Tensor) -> Gaussian:
    """The encoder's q of every image as the page holds it: float64 of numbers rounded to float16."""
    with torch.no_grad():
        q = vae.encode(images)
    return Gaussian(*(part.cpu().half().double() for part in (q.mean, q.log_variance)))


def small_decoder(decoder: nn.Sequential) -> nn.Sequential:
    """The decoder for pictures of half the side: each logit is the mean of four neighbours' logits."""
    small = copies.deepcopy(decoder).double().cpu().requires_grad_(False)
    last = small[-1]
    half = math.isqrt(last.out_features) // 2

    def pooled(rows: Tensor) -> Tensor:
        return rows.unflatten(0, (half, 2, half, 2)).mean((1, 3)).flatten(0, 1)

    small[-1] = made = nn.Linear(last.in_features, half * half, dtype=torch.float64).requires_grad_(False)
    made.weight.copy_(pooled(last.weight))
    made.bias.copy_(torch.zeros(half * half) if last.bias is None else pooled(last.bias))
    return small


def _checked(vae: VAE, images: Tensor) -> int:
    """The side of the images, pixels. Raises ValueError for a model or images that the page cannot show."""
    if vae.latent != 2:
        raise ValueError(f"The page shows a plane, and this VAE has {vae.latent} latent units: train one "
                         "with two.")
    if not isinstance(vae.observation, BernoulliPixels):
        raise ValueError(f"The page decodes Bernoulli pixels, and {type(vae.observation).__name__} came.")
    if images.dim() != 2 or not FEWEST_IMAGES <= len(images) <= MOST_IMAGES:
        raise ValueError(f"images has shape {tuple(images.shape)}: it should be (n, pixels), n from "
                         f"{FEWEST_IMAGES} to {MOST_IMAGES}.")
    side = math.isqrt(images.shape[1])
    if side * side != images.shape[1] or side % 2:
        raise ValueError(f"Images of {images.shape[1]} pixels came: the page halves squares with an even "
                         "side.")
    if not ((images >= 0) & (images <= 1)).all():
        raise ValueError("Pixels of images lie in [0, 1], and other values (or NaN) came.")
    last = vae.decoder[-1] if isinstance(vae.decoder, nn.Sequential) and len(vae.decoder) else vae.decoder
    if not isinstance(last, nn.Linear) or last.out_features != images.shape[1]:
        raise ValueError(f"The decoder should end in a linear layer of {images.shape[1]} pixels, one for "
                         "each of the images'.")
    return side


# --- what the page computes -----------------------------------------------------------------------------


def moved(first: Gaussian, r: Tensor, mixture: GaussianMixture, beta: float) -> Tensor:
    """Where a message moves the points while the decoder's factor is held as the Gaussian `first`, N(c, S):

    x = (S⁻¹ + βΛ̃)⁻¹ (S⁻¹ c + βΛ̃ μ̃), Λ̃ = Σ_k r_k Λ_k, Λ̃ μ̃ = Σ_k r_k Λ_k μ_k. Equation eq-vg-figure.

    first: mean and log-variance (N, 2).  r: the shares that are sent, (N, K).  Returns (N, 2).
    """
    precisions = mixture.precisions
    precision = torch.einsum("nk,kij->nij", r, precisions)
    pull = r @ (precisions @ mixture.means[..., None])[..., 0]
    held = (-first.log_variance).exp()
    both = torch.diag_embed(held) + beta * precision
    return torch.linalg.solve(both, held * first.mean + beta * pull)


def em_on(q: Gaussian, mixture: GaussianMixture) -> GaussianMixture:
    """One EM step on what the VAE sends: shares eq-vg-soft-labels, moments eq-vg-message-moments.

    With log-variances of −∞ it is `nemlib.gmm.em_step`. A component that answers for nothing keeps its place.
    """
    found = moments(q.mean, expected_log_joint(q, mixture).softmax(1), q.log_variance.exp())
    alive = found.count > 0
    n = torch.where(alive, found.count, 1.0)
    covariances = torch.where(alive[:, None, None], found.scatter / n[:, None, None], mixture.covariances)
    means = torch.where(alive[:, None], found.mean, mixture.means)
    return GaussianMixture.of_covariances(found.count / len(q.mean), means, covariances)


class Readings(NamedTuple):
    """What the model is worth with the decoder's factor held, nats an image, counted from log p(o | c).

    log_prob: log p(o), exact for the held factor.  soft: its bound, eq-vg-soft-bound with the best shares;
    the honest bound lies between the two.  conditional: with the divergence from the most probable component
    alone, no bound (eq-vg-conditional).  fit: E_q log p(o | x).  divergence: eq-vg-kl-above, so that
    soft = fit − divergence.  information: `assignment_information` of the shares.
    """

    log_prob: float
    soft: float
    conditional: float
    fit: float
    divergence: float
    information: float

    def objective(self, beta: float) -> float:
        """fit − β divergence: what steps with that weight and soft messages never lower."""
        return self.fit - beta * self.divergence


def readings(first: Gaussian, x: Tensor, mixture: GaussianMixture) -> Readings:
    """Means over the images, where q = N(x, diag s²) has the encoder's variances. x: (N, 2)."""
    q, variance = Gaussian(x, first.log_variance), first.log_variance.exp()
    fit = -0.5 * ((x - first.mean).square() / variance + 1).sum(1)
    divergence = kl_bound(q, mixture)
    e = expected_log_joint(q, mixture)
    conditional = fit - kl_to_component(q, mixture).gather(1, e.argmax(1, keepdim=True))[:, 0]
    widened = mixture.covariances + torch.diag_embed(variance)[:, None]
    normal = torch.distributions.MultivariateNormal(mixture.means.expand(len(x), -1, -1), widened)
    log_prob = (normal.log_prob(first.mean[:, None]) + mixture.weights.log()).logsumexp(1)
    log_prob = log_prob + math.log(2 * math.pi) + 0.5 * first.log_variance.sum(1)
    values = (log_prob, fit - divergence, conditional, fit, divergence)
    return Readings(*(value.mean().item() for value in values), assignment_information(e.softmax(1)).item())


def start_mixture(points: Tensor, means: Tensor) -> GaussianMixture:
    """Equal weights, these means (K, 2), and the covariance that `Prior.weak` of the points expects."""
    K, prior = len(means), Prior.weak(points, len(means))
    spread = prior.inverse_scale / (prior.nu - points.shape[1] - 1)[:, None, None]
    return GaussianMixture.of_covariances(torch.full((K,), 1 / K, dtype=torch.float64), means, spread)


# --- the still picture ----------------------------------------------------------------------------------


@rc_context({"font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9})
def _still(first: Gaussian, components: int, beta: float, seed: int) -> str:
    """Points and mixture at the start and after some rounds, and what the model is worth on the way."""
    generator = torch.Generator().manual_seed(seed)
    mixture = start_mixture(first.mean, k_means_plus_plus(first.mean, components, generator))
    x = first.mean
    seen = [readings(first, x, mixture)]
    figure = Canvas(figsize=(7.6, 3.0), layout="constrained")
    before, after, chart = figure.subplots(1, 3)
    low, high = x.amin(0), x.amax(0)
    half = 0.53 * (high - low).max()
    square = torch.stack([(low + high) / 2 - half, (low + high) / 2 + half], 1).tolist()
    _draw_plane(before, first, x, mixture, square, "the encoder's points, a first mixture")
    for _ in range(STILL_ROUNDS):
        mixture = em_on(Gaussian(x, first.log_variance), mixture)
        seen.append(readings(first, x, mixture))
        r = expected_log_joint(Gaussian(x, first.log_variance), mixture).softmax(1)
        x = moved(first, r, mixture, beta)
        seen.append(readings(first, x, mixture))
    _draw_plane(after, first, x, mixture, square, f"after {STILL_ROUNDS} rounds with β = {beta:g}")
    steps = np.arange(len(seen)) / 2
    for name, colour, look, label in (("log_prob", "ink", "-", "log p"), ("soft", "blue", "-", "soft bound"),
                                      ("conditional", "vermilion", "--", "conditional: no bound")):
        chart.plot(steps, [getattr(one, name) for one in seen], look, color=COLOURS[colour], linewidth=1.2,
                   label=label)
    chart.set(xlabel="round", title="nats an image, above log p(o | c)")
    chart.legend(fontsize=7, frameon=False, labelcolor=MUTED)
    chart.spines[["top", "right"]].set_visible(False)
    chart.spines[["bottom", "left"]].set_color(LINE)
    chart.tick_params(color=LINE, labelcolor=MUTED, labelsize=8)
    far = (x - first.mean).norm(dim=1).mean().item()
    return picture(figure, alt=(
        f"Left, {len(x)} images as points of a latent plane, in the colours of the {components} components "
        "of a mixture whose ellipses still are all alike. Middle, the same points after "
        f"{STILL_ROUNDS} rounds: the ellipses have taken the shapes of clouds, and the points have moved by "
        f"{far:.2f} on average towards the middles of their ellipses. Right, by round: log p from "
        f"{seen[0].log_prob:.2f} to {seen[-1].log_prob:.2f} nats an image, the soft bound from "
        f"{seen[0].soft:.2f} to {seen[-1].soft:.2f}, and the conditional reading, which is no bound, from "
        f"{seen[0].conditional:.2f} to {seen[-1].conditional:.2f}."))


def _draw_plane(
    ax: Axes, first: Gaussian, x: Tensor, mixture: GaussianMixture, square: list[list[float]], title: str
) -> None:
    leaders = expected_log_joint(Gaussian(x, first.log_variance), mixture).argmax(1)
    turn = torch.linspace(0, 2 * math.pi, 33, dtype=torch.float64)
    circle = math.sqrt(2 * math.log(2)) * torch.stack([turn.cos(), turn.sin()])      # half of a component
    rings = mixture.means[:, :, None] + torch.linalg.cholesky(mixture.covariances) @ circle
    for k in range(mixture.components):
        colour = COLOURS[SLOTS[k % len(SLOTS)]]
        own = x[leaders == k]
        dots = torch.stack([own, own + 0.01, torch.full_like(own, torch.nan)], 1).flatten(0, 1)
        ax.plot(*dots.T, color=colour, linewidth=1.8, solid_capstyle="round")
        ax.plot(*rings[k], color=colour, linewidth=1)
        ax.text(*mixture.means[k], str(k + 1), color=INK, fontsize=8, ha="center", va="center")
    ax.set(xlim=square[0], ylim=square[1], aspect="equal", xticks=[], yticks=[], title=title)
    ax.spines[:].set_color(LINE)
