"""VAE and Gaussian mixture, taught by each other: one model p(o | x) p(x | z) p(z), two modules, and
messages.

The file reads as the second half of chapter 5 does: the mixture as a VAE's prior, and its divergence, for one
component, bounded in closed form for all, or by draws; what the modules say to each other; the composed model
with its bounds, classes and samples; the same model trained in one piece (VaDE); and at the end learning in
turns.

    with seeded(0):
        model = VAEGMM(fully_connected([784, 512, 256, 24]), fully_connected([12, 256, 512, 784]), latent=12,
                       components=10, examples=len(images))
    learner = MutualLearner(model, torch.optim.Adam(model.vae.parameters(), 2e-3), Exchange(first=12))
    train(learner, images, TrainingSettings(epochs=36, batch_size=200))
    learner.exchange(images, generator)          # the last message, after the last epoch

Sources: Nakamura, Nagai and Taniguchi (2018) for Serket and Taniguchi et al. (2020) for Neuro-SERKET, modules
joined by messages; Jiang et al. (2017) for VaDE, the same model as one network.

In this chapter o is an image, (batch, pixels), x its latent point, (…, latent), and z the component it comes
from. The VAE's own names stay what they are in `nemlib.vae`. Everything in nats, summed over pixels and
units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nemlib.gmm import BayesianGMM, GaussianMixture, Prior, assignment_information
from nemlib.training import Context, seeded
from nemlib.vae import VAE, Elbo, Gaussian, MixturePrior, Objective, VariationalLearner, check_log_variance

__all__ = [
    "Bounds", "ComposedPrior", "Down", "Exchange", "Hard", "Message", "MutualLearner", "Ramp", "Sampled", "Silent",
    "Soft", "Up", "VAEGMM", "VaDEPrior", "expected_log_joint", "kl_below", "kl_bound", "kl_to_component",
    "latent_prior", "standard_mixture",
]

BATCH = 5_000      # images that are encoded at a time for a message


# --- divergences from a diagonal Gaussian ----------------------------------------------------------------


def expected_log_joint(q: Gaussian, mixture: GaussianMixture) -> Tensor:
    """e_k = log π_k + E_q log N(x; μ_k, Λ_k⁻¹), (batch, K). Equation eq-vg-expected-log-joint.

    E_q of the exponent is −½ (c − μ_k)ᵀ Λ_k (c − μ_k) − ½ Σ_j Λ_k,jj s_j² for q = N(c, diag s²).
    """
    return mixture.weights.log() + expected_log_prob(q, mixture)


def expected_log_prob(q: Gaussian, mixture: GaussianMixture) -> Tensor:
    """E_q log N(x; μ_k, Λ_k⁻¹), (batch, K)."""
    with torch.autocast(q.mean.device.type, enabled=False):                  # distances in 8 bits are none
        diagonal = mixture.factors.square().sum(-1)                          # Λ_jj, (K, latent)
        return mixture.log_prob_of_components(q.mean) - 0.5 * q.log_variance.exp() @ diagonal.T


def kl_to_component(q: Gaussian, mixture: GaussianMixture) -> Tensor:
    """KL(q ‖ N(μ_k, Λ_k⁻¹)) for every k, (batch, K). Equation eq-vg-kl-component."""
    return -q.entropy()[:, None] - expected_log_prob(q, mixture)


def kl_bound(q: Gaussian, mixture: GaussianMixture) -> Tensor:
    """−H(q) − log Σ_k exp(e_k): never below KL(q ‖ p), and equal to it where every x of q has the same
    responsibilities. (batch,). Equation eq-vg-kl-above.
    """
    return -q.entropy() - expected_log_joint(q, mixture).logsumexp(1)


def kl_below(q: Gaussian, mixture: GaussianMixture) -> Tensor:
    """−H(q) − log Σ_k π_k ∫ q N_k: never above KL(q ‖ p). (batch,). Equation eq-vg-kl-below.

    ∫ q(x) N(x; μ_k, Σ_k) dx = N(c; μ_k, Σ_k + diag s²): a Cholesky factor for every image and component, so
    it is for looking at, not for training.
    """
    widened = mixture.covariances + torch.diag_embed(q.log_variance.exp())[:, None]
    means = mixture.means.expand(len(q.mean), -1, -1)
    normal = torch.distributions.MultivariateNormal(means, widened, validate_args=False)
    return -q.entropy() - (normal.log_prob(q.mean[:, None]) + mixture.weights.log()).logsumexp(1)


# --- what the mixture says to the VAE: three kinds of message ----------------------------------------------


class Message(Protocol):
    """How a component's law becomes an image's prior."""

    def begin_epoch(self, prior: ComposedPrior, generator: torch.Generator) -> None: ...

    def kl(self, prior: ComposedPrior, q: Gaussian, rows: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Soft:
    """All components, each by the share that is best for the present q: eq-vg-kl-above."""

    def begin_epoch(self, prior: ComposedPrior, generator: torch.Generator) -> None:
        """Nothing is drawn."""

    def kl(self, prior: ComposedPrior, q: Gaussian, rows: Tensor) -> Tensor:
        """(batch,)."""
        return kl_bound(q, prior.mixture(q.mean.dtype))


@dataclass(frozen=True)
class Hard:
    """The most probable component of that image alone, until the next exchange: eq-vg-kl-hard."""

    def begin_epoch(self, prior: ComposedPrior, generator: torch.Generator) -> None:
        prior.labels.copy_(prior.responsibilities.argmax(1))

    def kl(self, prior: ComposedPrior, q: Gaussian, rows: Tensor) -> Tensor:
        """KL(q ‖ N_z) − log π_z, (batch,): with the label's own cost, without which it is no bound."""
        labels = prior.labels[rows][:, None]
        return -q.entropy() - expected_log_joint(q, prior.mixture(q.mean.dtype)).gather(1, labels)[:, 0]


@dataclass(frozen=True)
class Sampled(Hard):
    """A component drawn from that image's responsibilities, anew in each epoch."""

    def begin_epoch(self, prior: ComposedPrior, generator: torch.Generator) -> None:
        prior.labels.copy_(torch.multinomial(prior.responsibilities, 1, generator=generator)[:, 0])


@dataclass(frozen=True)
class Silent:
    """Nothing: the prior stays N(0, I) while the mixture listens. The control of every comparison.

    N(0, I) is written as K equal components, as it is before the first message: so a run and its control are
    equal bit for bit until then.
    """

    def begin_epoch(self, prior: ComposedPrior, generator: torch.Generator) -> None:
        """Nothing is drawn."""

    def kl(self, prior: ComposedPrior, q: Gaussian, rows: Tensor) -> Tensor:
        """KL(q ‖ N(0, I)), (batch,)."""
        start = standard_mixture(prior.gmm.components, prior.latent)
        return kl_bound(q, GaussianMixture(*(part.to(q.mean) for part in vars(start).values())))


class ComposedPrior(nn.Module):
    """p(x) = Σ_k π_k N(x; μ_k, Λ_k⁻¹) as a VAE's prior, with the last message to every example.

    gmm: the mixture, shared with its sampler. examples: N, in the data's order. message: a Message.
    With `rows`, the divergence is the message's, which is never below the true one; without, bounds are by
    draws under the whole mixture. Buffers: responsibilities, (N, K), and labels, (N,).
    Raises ValueError for fewer than one example.
    """

    def __init__(self, gmm: BayesianGMM, examples: int, message: Message = Soft()) -> None:
        super().__init__()
        if examples < 1:
            raise ValueError(f"The messages go to the examples of a data set, but examples={examples} came.")
        self.gmm, self.message = gmm, message
        self.latent = gmm.means.shape[1]
        self.register_buffer("responsibilities", gmm.weights.expand(examples, -1).clone())
        self.register_buffer("labels", torch.zeros(examples, dtype=torch.long))

    def mixture(self, dtype: torch.dtype) -> GaussianMixture:
        """The mixture in the network's precision."""
        state = self.gmm.mixture
        return GaussianMixture(*(part.to(dtype) for part in (state.weights, state.means, state.factors)))

    def log_prob(self, z: Tensor, rows: Tensor | None = None) -> Tensor:
        """log p(x), with all components, whatever was sent. (..., latent) → (...)."""
        with torch.autocast(z.device.type, enabled=False):
            return self.mixture(z.dtype).log_prob(z.reshape(-1, self.latent)).reshape(z.shape[:-1])

    def kl(self, q: Gaussian, rows: Tensor | None = None) -> Tensor | None:
        """The message's divergence, (batch,); None without rows, and then draws take its place."""
        return None if rows is None else self.message.kl(self, q, rows)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent)."""
        return self.gmm.mixture.sample(count, generator)[0]

    def check(self, rows: Tensor | None) -> None:
        """Raises ValueError for rows that are no numbers of examples."""
        if rows is not None and len(rows) and not (rows.min() >= 0 and rows.max() < len(self.labels)):
            raise ValueError(f"Messages were sent to {len(self.labels)} examples, numbered from 0, but rows "
                             f"from {int(rows.min())} to {int(rows.max())} came.")


# --- the composed model --------------------------------------------------------------------------------


class Up(NamedTuple):
    """What the VAE says of N images: q(x_n | o_n) and a draw from it; all (N, latent), float64."""

    mean: Tensor
    variance: Tensor
    draw: Tensor


class Down(NamedTuple):
    """What the mixture says to N images. Equation eq-vg-message-down.

    responsibilities: (N, K). mean, variance: (N, latent), of the Gaussian that the mean-field factor is:
    precision Σ_k r_nk Λ_k; the variances are the diagonal of its inverse, for looking at. label: the largest
    share's, (N,).
    """

    responsibilities: Tensor
    mean: Tensor
    variance: Tensor
    label: Tensor


class Bounds(NamedTuple):
    """Three readings of one model on the same images, nats, (batch,) each.

    honest: E_q log p(o | x) p(x) / q(x), by draws, at most log p(o). soft: with the closed-form bound of the
    divergence, at most `honest` on average over the draws. conditional: with KL(q ‖ N_z) for each image's
    most probable component alone: **no bound on log p(o)**; at most −log π_z above `honest`
    (eq-vg-label-gap).
    """

    honest: Tensor
    soft: Tensor
    conditional: Tensor


def standard_mixture(components: int, latent: int) -> GaussianMixture:
    """K components that are all N(0, I): before the first message, the prior of chapter 4."""
    options = {"dtype": torch.float64}
    return GaussianMixture(torch.full((components,), 1 / components, **options),
                           torch.zeros(components, latent, **options),
                           torch.eye(latent, **options).expand(components, -1, -1).clone())


def latent_prior(components: int, latent: int, alpha: float = 1.0, kappa: float = 0.01) -> Prior:
    """A weak prior for clouds the size of N(0, I), cut into K pieces: see `Prior.weak`."""
    scale = torch.eye(latent, dtype=torch.float64) / components ** (2 / latent)
    return Prior.same(components, torch.zeros(latent), scale, alpha=alpha, kappa=kappa, nu=latent + 2)


class VAEGMM(nn.Module):
    """p(o, x, z) = p(o | x) N(x; μ_z, Λ_z⁻¹) π_z with q(x | o) q(z | o). Equations eq-vg-model and
    eq-vg-bound.

    encoder, decoder, observation: as in `nemlib.vae.VAE`. components: K. examples: N, the size of the data
    set that messages go to. message: a Message. prior: of the mixture's parameters; `latent_prior` if not
    given. Raises ValueError for a prior of another size.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, *, latent: int, components: int, examples: int,
        message: Message = Soft(), prior: Prior | None = None, observation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        prior = latent_prior(components, latent) if prior is None else prior
        if tuple(prior.mean.shape) != (components, latent):
            raise ValueError(f"The prior is one of {tuple(prior.mean.shape)} (components, latent), but "
                             f"{(components, latent)} were asked for.")
        gmm = BayesianGMM(prior)
        gmm.mixture = standard_mixture(components, latent)
        self.vae = VAE(encoder, decoder, ComposedPrior(gmm, examples, message), observation)

    @property
    def prior(self) -> ComposedPrior:
        return self.vae.prior

    @property
    def gmm(self) -> BayesianGMM:
        return self.vae.prior.gmm

    @torch.no_grad()
    def encoded(self, images: Tensor) -> Gaussian:
        """q(x | o) of images that may be new, in portions, in float64 and without a trace in a batch normalisation.

        Raises ValueError for other shapes, and where the encoder's log-variance overflows.
        """
        trained = self.vae.encoder.training
        self.vae.encoder.eval()
        try:
            parts = [self.vae.encode(part) for part in images.split(BATCH)]
        finally:
            self.vae.encoder.train(trained)
        q = Gaussian(torch.cat([part.mean for part in parts]).double(),
                     torch.cat([part.log_variance for part in parts]).double())
        check_log_variance(q)
        return q

    def up(self, images: Tensor, generator: torch.Generator) -> Up:
        """The message of the VAE, of images (N, pixels). Equation eq-vg-message-up. Raises ValueError as `encoded`
        does.
        """
        q = self.encoded(images)
        return Up(q.mean, q.log_variance.exp(), q.sample(generator))

    @torch.no_grad()
    def down(self, up: Up) -> Down:
        """The message of the mixture, to the images of that message."""
        q, mixture = Gaussian(up.mean, up.variance.log()), self.gmm.mixture
        r = expected_log_joint(q, mixture).softmax(1)
        precisions = mixture.precisions
        precision = torch.einsum("nk,kij->nij", r, precisions)
        pull = r @ (precisions @ mixture.means[..., None])[..., 0]
        covariance = torch.linalg.inv(precision)
        mean = (covariance @ pull[..., None])[..., 0]
        return Down(r, mean, covariance.diagonal(dim1=1, dim2=2), r.argmax(1))

    @torch.no_grad()
    def responsibilities(self, images: Tensor) -> Tensor:
        """q(z | o) ∝ exp e_k of images that may be new, (N, K) float64. Equation eq-vg-soft-labels."""
        return expected_log_joint(self.encoded(images), self.gmm.mixture).softmax(1)

    def classify(self, images: Tensor) -> Tensor:
        """The most probable component, (N,)."""
        return self.responsibilities(images).argmax(1)

    @torch.no_grad()
    def sample_component(self, component: int, count: int, generator: torch.Generator) -> Tensor:
        """Pictures of draws from one component, the mean of the pixels, (count, pixels).

        Raises ValueError for a component that there is not.
        """
        if not 0 <= component < self.gmm.components:
            last = self.gmm.components - 1
            raise ValueError(f"Components are numbered from 0 to {last}, but {component} came.")
        labels = torch.full((count,), component, device=self.gmm.weights.device)
        like = next(self.vae.decoder.parameters(), torch.zeros(()))
        points = self.gmm.mixture.sample_of(labels, generator).to(like.dtype)
        return self.vae.observation.mean(self.vae.decode(points))

    @torch.no_grad()
    def bounds(self, images: Tensor, generator: torch.Generator, samples: int = 1) -> Bounds:
        """The three readings from the same draws. images: (batch, pixels), such as the observation takes.

        Equations eq-vg-bound, eq-vg-soft-bound and eq-vg-conditional. Raises ValueError for samples below 1, and for
        images that the observation does not take.
        """
        if samples < 1:
            raise ValueError(f"An expectation needs at least one draw, but samples={samples} came.")
        self.vae.check(images)
        q, reconstruction, kl = self.vae.terms(images, generator, samples)
        mixture = self.prior.mixture(q.mean.dtype)
        labels = expected_log_joint(q, mixture).argmax(1, keepdim=True)
        conditional = kl_to_component(q, mixture).gather(1, labels)[:, 0]
        return Bounds(Elbo(reconstruction, kl).value, reconstruction - kl_bound(q, mixture),
                      reconstruction - conditional)


# --- the same model in one piece -----------------------------------------------------------------------


class VaDEPrior(MixturePrior):
    """VaDE (Jiang et al. 2017): diagonal components whose parameters are learnt by the same gradient as the
    networks, with the closed-form bound of the divergence. `VAE(encoder, decoder, VaDEPrior.of(mixture))`.
    """

    @classmethod
    def of(cls, mixture: GaussianMixture) -> VaDEPrior:
        """Begin at a mixture that was fitted to the latent points of a trained autoencoder."""
        prior = cls(mixture.means.shape[1], mixture.components, torch.Generator())
        prior.begin_at(mixture)
        return prior

    @torch.no_grad()
    def begin_at(self, mixture: GaussianMixture) -> None:
        """Take over a mixture's weights, means and variances; what its components' axes share is lost."""
        self.logits.copy_(mixture.weights.clamp_min(1e-6).log())
        self.mean.copy_(mixture.means)
        self.log_variance.copy_(mixture.covariances.diagonal(dim1=1, dim2=2).log())

    @torch.no_grad()
    def mixture(self) -> GaussianMixture:
        """The mixture that this prior is, in float64."""
        factors = torch.diag_embed((-0.5 * self.log_variance.double()).exp())
        return GaussianMixture(self.logits.double().softmax(0), self.mean.double(), factors)

    def expected_log_joint(self, q: Gaussian) -> Tensor:
        """e_k for diagonal components, (batch, K)."""
        part = Gaussian(self.mean, self.log_variance)
        spread = (q.log_variance[:, None] - self.log_variance).exp().sum(-1)
        return self.logits.log_softmax(0) + part.log_prob(q.mean[:, None]) - 0.5 * spread

    def kl(self, q: Gaussian, rows: Tensor | None = None) -> Tensor | None:
        """The closed-form bound, (batch,), in training; None without rows: then draws, which is honest."""
        return None if rows is None else -q.entropy() - self.expected_log_joint(q).logsumexp(1)


# --- learning in turns ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ramp:
    """β of a step: `low` for `flat` steps, then a straight line up to 1 in `rise` steps.

    Raises ValueError for negative numbers, and for a low β that no step would have.
    """

    low: float = 1.0
    flat: int = 0
    rise: int = 0

    def __post_init__(self) -> None:
        if min(self.low, self.flat, self.rise) < 0 or (self.low != 1 and self.flat == self.rise == 0):
            raise ValueError("low, flat and rise are not negative, and a low β needs steps, flat or rise, in which it "
                             f"holds; {self} came.")

    def __call__(self, step: int) -> float:
        if step <= self.flat:
            return self.low
        done = min(1.0, (step - self.flat) / self.rise) if self.rise else 1.0
        return self.low + (1 - self.low) * done


@dataclass(frozen=True)
class Exchange:
    """When and how the two modules speak.

    first: epochs of the VAE alone, with N(0, I). every: epochs between exchanges; None: never (the control).
    restarts, first_sweeps: of the sampler at the first exchange; sweeps: at each later one, from where it
    stood. means: send the means of q instead of draws. reinitialise: begin each round with new weights. start:
    called as start(points, components, generator) at the first exchange, for labels (N,) to begin with, such as
    `nemlib.gmm.neighbour_labels`; None: the best of the sampler's restarts.
    A checkpoint does not hold these numbers: resume with the ones that the run began with.
    Raises ValueError for numbers below 1 (first: below 0).
    """

    first: int = 12
    every: int | None = 1
    restarts: int = 30
    first_sweeps: int = 40
    sweeps: int = 10
    means: bool = False
    reinitialise: bool = False
    start: Callable[[Tensor, int, torch.Generator], Tensor] | None = None

    def __post_init__(self) -> None:
        counts = (self.restarts, self.first_sweeps, self.sweeps, 1 if self.every is None else self.every)
        if self.first < 0 or min(counts) < 1:
            raise ValueError("first is at least 0, and all other numbers of an exchange at least 1; "
                             f"{self} came.")

    def is_due(self, epoch: int) -> bool:
        """Whether the modules speak before this epoch, counted from 1."""
        since = epoch - 1 - self.first
        return self.every is not None and since >= 0 and since % self.every == 0


class MutualLearner(VariationalLearner):
    """The VAE learns by steps; before an epoch, when it is due, the mixture learns from its latent points and
    sends every image its prior. Batches and options are those of `VariationalLearner`.

    optimizer: of `model.vae.parameters()`; the mixture has no gradient. beta: a Ramp, times the objective's own β.
    With averaging the messages are still those of the machine that learns.
    Raises ValueError for an importance-weighted objective, and in training for another number of images than the
    model has examples. Rows of the history after an exchange hold exchanges' information (nats), and the smallest
    and largest weight. After the last epoch call `exchange` once more: the mixture that is measured has then seen
    the last weights.
    """

    def __init__(
        self, model: VAEGMM, optimizer: Optimizer, how: Exchange = Exchange(), beta: Ramp = Ramp(),
        objective: Objective = Objective(), **options,
    ) -> None:
        if objective.importance:
            raise ValueError("The importance-weighted bound takes the whole mixture, and no message reaches it: leave "
                             "importance at False.")
        super().__init__(model.vae, optimizer, objective, **options)
        self.model, self.how, self.ramp = model, how, beta

    def beta(self, step: int) -> float:
        return self.ramp(step) * super().beta(step)

    def begin_epoch(self, context: Context) -> None:
        super().begin_epoch(context)
        prior = self.model.prior
        self.check_examples(context.data)
        random = context.common_generator                 # every process must send the same message
        if self.how.is_due(context.epoch):
            information = self.exchange(context.data, random, first=context.epoch == self.how.first + 1)
            weights = prior.gmm.weights
            context.record(information=information, smallest_weight=weights.min(),
                           largest_weight=weights.max())
            if self.how.reinitialise:
                self.reinitialise(random)
        prior.message.begin_epoch(prior, random)

    def check_examples(self, images: Tensor) -> None:
        """Raises ValueError for another number of images than messages go to."""
        examples = len(self.model.prior.labels)
        if examples != len(images):
            raise ValueError(f"Messages go to {examples} examples, but {len(images)} came: make the model with "
                             "examples=len(images).")

    @torch.no_grad()
    def exchange(self, images: Tensor, generator: torch.Generator, first: bool = False) -> Tensor:
        """One round of messages: latent points up, sweeps, priors down; the information of the assignment,
        nats.

        first: from new starts. Raises ValueError for another number of images than examples, and for latent points
        that are not finite.
        """
        self.check_examples(images)
        up, gmm, prior = self.model.up(images, generator), self.model.gmm, self.model.prior
        points = up.mean if self.how.means else up.draw
        if first and self.how.start is not None:
            gmm.settle(points, self.how.start(points, gmm.components, generator))
        elif first:
            gmm.fit(points, generator, self.how.first_sweeps, self.how.restarts)
        else:
            gmm.settle(points, gmm.run(points, self.how.sweeps, generator).labels[-1])
        q = Gaussian(up.mean, up.variance.log())
        prior.responsibilities.copy_(expected_log_joint(q, gmm.mixture).softmax(1))
        return assignment_information(prior.responsibilities)

    def reinitialise(self, generator: torch.Generator) -> None:
        """New weights for both networks, and an optimizer that remembers nothing."""
        number = int(torch.randint(2**31, (1,), generator=generator, device=generator.device))
        with seeded(number):
            for module in (*self.vae.encoder.modules(), *self.vae.decoder.modules()):
                reset: Callable[[], None] | None = getattr(module, "reset_parameters", None)
                if reset is not None:
                    reset()
        self.optimizers["optimizer"].state.clear()
