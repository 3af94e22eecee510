"""What an epoch of RBM training costs: against scikit-learn's `BernoulliRBM`.

    python benchmarks/rbm.py [--threads 1] [--rounds 5] [--images 60000]

One epoch of binarized MNIST, 500 hidden units, batches of 100, float32, the same learning rate. `BernoulliRBM`
trains with persistent chains and one sweep an update, so that is what ours does beside it; contrastive
divergence with one sweep needs the same matrix products and is timed too. Ours runs in the shared training
loop: it shuffles, keeps a history, looks for NaN, and checks that the data are 0 and 1.

Before anything is timed, one update of both on the same batch with the same random numbers is compared in
float64. Then they take turns, so that a busy machine disturbs all alike; a ratio is one of times in the same
round, and what is printed is the median over the rounds with the smallest and the largest. On one thread the
times are the processor's own, which on an idle machine is what a clock shows; on several they are the clock's.
"""

import argparse

import sklearn
import torch
from numpy import ndarray
from sklearn.neural_network import BernoulliRBM
from threadpoolctl import threadpool_limits
from torch import Tensor
from turns import clock_for, measure, report

from nemlib.data import binarize, mnist
from nemlib.rbm import RBM, ContrastiveDivergence, bernoulli
from nemlib.training import Context, TrainingSettings, train

HIDDEN, BATCH, LEARNING_RATE = 500, 100, 0.05


def our_epoch(images: Tensor, persistent: int) -> None:
    machine = RBM(images.shape[1], HIDDEN, torch.Generator().manual_seed(0))
    learner = ContrastiveDivergence(machine, persistent=persistent, learning_rate=LEARNING_RATE)
    settings = TrainingSettings(epochs=1, batch_size=BATCH)
    train(learner, images, settings, device="cpu", progress=False)


def their_machine() -> BernoulliRBM:
    return BernoulliRBM(HIDDEN, learning_rate=LEARNING_RATE, batch_size=BATCH, n_iter=1, random_state=0)


class Given:
    """Stands in for a random state of numpy: its uniform numbers are these."""

    def __init__(self, *numbers: Tensor) -> None:
        self.numbers = iter(numbers)

    def uniform(self, size: tuple[int, ...]) -> ndarray:
        return next(self.numbers).reshape(size).numpy()


def largest_difference(images: Tensor) -> float:
    """Of one update of W, a and b by both, relative to its largest entry: in float64, on one batch.

    Ours is CD-1, and theirs is given the hidden states that ours begins with; from there both do the same.
    """
    batch, generator = images[:BATCH].double(), torch.Generator().manual_seed(0)
    machine = RBM(images.shape[1], HIDDEN, generator, scale=0.1, dtype=torch.float64)
    before = {name: value.detach().clone() for name, value in machine.named_parameters()}
    theirs, same = their_machine(), torch.Generator().manual_seed(1)
    theirs.components_ = before["W"].T.numpy().copy()
    theirs.intercept_visible_, theirs.intercept_hidden_ = (before[name].numpy().copy() for name in "ab")
    with torch.no_grad():
        theirs.h_samples_ = bernoulli(machine.hidden_given(batch), same).numpy()
    theirs._fit(batch.numpy(), Given(*(torch.rand(BATCH, units, generator=same, dtype=torch.float64)
                                       for units in (images.shape[1], HIDDEN))))
    context = Context(torch.device("cpu"), torch.Generator().manual_seed(1), generator, BATCH, data=batch)
    ContrastiveDivergence(machine, learning_rate=LEARNING_RATE).training_step(batch, context)
    differences = []
    for name, found in (("W", theirs.components_.T), ("a", theirs.intercept_visible_),
                        ("b", theirs.intercept_hidden_)):
        ours, other = getattr(machine, name).detach() - before[name], torch.from_numpy(found) - before[name]
        differences.append(((ours - other).abs().max() / other.abs().max()).item())
    return max(differences)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=60_000)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    threadpool_limits(arguments.threads)
    images = binarize(mnist("train").images[:arguments.images].flatten(1), torch.Generator().manual_seed(0))
    rows, theirs = images.numpy(), "BernoulliRBM"
    print(f"one epoch of {len(images):,} × {images.shape[1]} pixels, {HIDDEN} hidden units, batches of {BATCH}, "
          f"float32, {arguments.threads} thread(s), {arguments.rounds} rounds, torch {torch.__version__}, "
          f"scikit-learn {sklearn.__version__}")
    difference = largest_difference(images)
    print(f"in float64 one update of both differs by {difference:.0e}, relatively")
    if difference > 1e-9:
        raise SystemExit("The two updates are not the same update: their times cannot be compared.")
    epochs = {theirs: lambda: their_machine().fit(rows),
              "ours, persistent chains": lambda: our_epoch(images, persistent=BATCH),
              "ours, CD-1": lambda: our_epoch(images, persistent=0)}
    seconds = measure(epochs, arguments.rounds, clock_for(arguments.threads))
    report(seconds, theirs, "their")


if __name__ == "__main__":
    main()
