"""What a training step of RNN-EM costs: against the same step written plainly, and over K, steps and H.

    python benchmarks/neural_em.py [--threads 1] [--rounds 15]

The plain step is RNN-EM as one would write it down from the paper: a Python loop over the slots, each with
its own matrix products; `torch.where` for the likelihood of a binary pixel, normalised over the slots; and a
binary cross-entropy for each of the loss's two terms. Ours puts the slots into the batch and works on logits,
where one softplus serves the E-step and both terms. Both draw the same random numbers: before anything is
timed, losses and gradients are compared. Then the two take turns, so that a busy machine disturbs both alike;
the ratio is the median over the rounds. A step is loss, gradient and Adam.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from nemlib import neural_em
from nemlib.training import seeded

BATCH, SIDE, NOISE = 64, 28, 0.1
WIDTHS = (16, 48, 128, 250)
BOOK = {"slots": 4, "steps": 6, "hidden": 48}          # as the chapter trains
PUBLISHED = {"slots": 4, "steps": 15, "hidden": 250}


def make_model(hidden: int) -> tuple[neural_em.RNNEM, torch.optim.Optimizer]:
    with seeded(0):
        model = neural_em.RNNEM(SIDE, SIDE, hidden, noise=NOISE)
    return model, torch.optim.Adam(model.parameters(), lr=1e-3)


def our_loss(
    model: neural_em.RNNEM, images: Tensor, slots: int, steps: int, generator: torch.Generator
) -> Tensor:
    return model.loss(images, slots, steps, generator)["loss"]


def plain_loss(
    model: neural_em.RNNEM, images: Tensor, slots: int, steps: int, generator: torch.Generator
) -> Tensor:
    """The same loss with the same layers, slot by slot. images: (batch, height, width)."""
    x = images.flatten(1)
    gamma = torch.randn(len(x), slots, SIDE, SIDE, generator=generator).abs().flatten(2)
    gamma = gamma / gamma.sum(1, keepdim=True)
    hidden = [torch.zeros(len(x), model.hidden) for _ in range(slots)]
    psi = [torch.zeros_like(x) for _ in range(slots)]
    total = 0.0
    for _ in range(steps):
        noisy = torch.where(torch.rand(x.shape, generator=generator) < NOISE, 1 - x, x)
        for k in range(slots):
            delta = gamma[:, k] * (psi[k] - noisy)
            hidden[k] = torch.sigmoid(model.encoder(delta) + model.recurrence(hidden[k]))
            psi[k] = torch.sigmoid(model.decoder(hidden[k]))
        predictions = torch.stack(psi, 1)
        probabilities = torch.where(x[:, None] == 1, predictions, 1 - predictions)
        gamma = probabilities / probabilities.sum(1, keepdim=True)
        for k in range(slots):
            intra = F.binary_cross_entropy(psi[k], x, reduction="none")
            inter = F.binary_cross_entropy(psi[k], torch.zeros_like(x), reduction="none")      # KL, p₀ = 0
            total = total + (gamma[:, k] * intra + (1 - gamma[:, k]) * inter).sum(1).mean()
    return total / steps


def largest_difference(images: Tensor, slots: int, steps: int, hidden: int) -> tuple[float, float]:
    """Of the two losses, relative, and of the two gradients, relative to the longest: in float64."""
    results = []
    for loss in (our_loss, plain_loss):
        model = make_model(hidden)[0].double()
        torch.set_default_dtype(torch.float64)
        value = loss(model, images.double(), slots, steps, torch.Generator().manual_seed(0))
        torch.set_default_dtype(torch.float32)
        value.backward()
        results.append((value.item(), torch.cat([weight.grad.flatten() for weight in model.parameters()])))
    (ours, our_gradient), (plain, plain_gradient) = results
    scale = our_gradient.abs().max()
    return abs(ours - plain) / abs(plain), float((our_gradient - plain_gradient).abs().max() / scale)


def step_of(loss: Callable, images: Tensor, slots: int, steps: int, hidden: int) -> Callable[[], None]:
    """A training step, to be called again and again."""
    model, optimizer = make_model(hidden)
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        optimizer.zero_grad()
        loss(model, images, slots, steps, generator).backward()
        optimizer.step()

    return step


def seconds(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each step in each round, taking turns; two rounds before them warm up."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 2):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            found[name].append(time.perf_counter() - begin)
    return {name: values[2:] for name, values in found.items()}


def compare(images: Tensor, setting: dict[str, int], rounds: int) -> float:
    """Median over the rounds of our step's time as a share of the plain one's; prints both."""
    steps = {"ours": step_of(our_loss, images, **setting), "plain": step_of(plain_loss, images, **setting)}
    found = seconds(steps, rounds)
    ratio = statistics.median(a / b for a, b in zip(found["ours"], found["plain"]))
    ours, plain = (1000 * statistics.median(found[name]) for name in steps)
    title = f"K = {setting['slots']}, {setting['steps']:2} steps, H = {setting['hidden']:3}"
    print(f"{title}: ours {ours:6.1f} ms, plain {plain:6.1f} ms: {ratio:.2f} of its time")
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    images = (torch.rand(BATCH, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) < 0.16).float()
    print(f"one training step, {BATCH} images of {SIDE} × {SIDE}, {arguments.threads} thread(s), median of "
          f"{arguments.rounds} rounds, torch {torch.__version__}")
    of_loss, of_gradient = largest_difference(images, **BOOK)
    print(f"in float64 the losses differ by {of_loss:.0e} and the gradients by {of_gradient:.0e}, relatively")
    if of_loss > 1e-9 or of_gradient > 1e-9:
        raise SystemExit("The two steps are not the same step: their times cannot be compared.")
    for setting in (BOOK, PUBLISHED):
        compare(images, setting, arguments.rounds)
    print("milliseconds of our step:")
    print("  K  steps " + "".join(f"{f'H = {hidden}':>10}" for hidden in WIDTHS))
    for slots in (2, 4, 8):
        for steps in (3, 6, 15):
            cells = {str(hidden): step_of(our_loss, images, slots, steps, hidden) for hidden in WIDTHS}
            times = seconds(cells, max(3, arguments.rounds // 3)).values()
            shown = "".join(f"{1000 * statistics.median(some):10.1f}" for some in times)
            print(f"  {slots}  {steps:5} {shown}")


if __name__ == "__main__":
    main()
