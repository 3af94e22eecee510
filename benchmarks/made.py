"""What an epoch of MADE training costs: against plain masked linear layers and Adam as it comes.

    python benchmarks/made.py [--threads 1] [--rounds 5] [--images 60000]

One epoch of MNIST, one hidden layer of 500, batches of 100, Adam at 1e-3. The peer is what one finds most often:
layers that multiply weight and mask in the forward pass, an optimiser that is not fused, a loss read in every
step. Ours runs in the shared training loop and does more: it draws the binary pixels anew in each step, checks
the data, keeps a history, and looks for NaN. It is timed twice: with matrix products in float32, as the peer's, and
with the option `precision="bfloat16"`, which rounds their factors (weights, sums and the loss stay float32).

Before anything is timed, the gradients of both on one batch are compared in float64. Then they take turns, so that a
busy machine disturbs all alike; a ratio is one of times in the same round, and what is printed is the median over
the rounds with the smallest and the largest. On one thread the times are the processor's own, which on an idle
machine is what a clock shows; on several they are the clock's.
"""

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from turns import clock_for, measure, report

from nemlib.data import mnist
from nemlib.made import MADE, MADELearner, connectivity
from nemlib.training import Context, TrainingSettings, seeded, train

HIDDEN, BATCH, LEARNING_RATE = 500, 100, 1e-3


def our_network(dtype: torch.dtype = torch.float32) -> MADE:
    return MADE(784, [HIDDEN], torch.Generator().manual_seed(0), dtype=dtype)


def our_epoch(images: Tensor, precision: str = "float32") -> None:
    network = our_network()
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE, fused=True)
    settings = TrainingSettings(epochs=1, batch_size=BATCH, precision=precision)
    train(MADELearner(network, optimizer, binarize=True), images, settings, device="cpu", progress=False)


class PeerLinear(nn.Linear):
    """A linear layer with a mask."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.float())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.mask * self.weight, self.bias)


def peer_network() -> nn.Sequential:
    below, above = connectivity(784, [HIDDEN]).masks()
    return nn.Sequential(PeerLinear(below), nn.ReLU(), PeerLinear(above))


def peer_loss(network: nn.Module, x: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(network(x), x, reduction="sum") / len(x)


def peer_epoch(images: Tensor) -> None:
    with seeded(0):
        network, total = peer_network(), 0.0
        optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
        for rows in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            loss = peer_loss(network, torch.bernoulli(images[rows]))
            loss.backward()
            optimizer.step()
            total += loss.item()


def largest_difference(images: Tensor) -> float:
    """Between the gradients of both on one batch of 0 and 1, relative to the largest entry."""
    x, ours, peer = images[:BATCH].double().round(), our_network(torch.float64), peer_network().double()
    with torch.no_grad():
        for mine, theirs in zip((ours.hidden[0], ours.output), (peer[0], peer[2])):
            theirs.weight.copy_(mine.weight)
            theirs.bias.copy_(mine.bias)
    peer_loss(peer, x).backward()
    generator = torch.Generator().manual_seed(0)
    learner = MADELearner(ours, torch.optim.SGD(ours.parameters(), 0.0))
    learner.training_step(x, Context(torch.device("cpu"), generator, generator, BATCH, data=x))
    mine = torch.cat([ours.hidden[0].weight.grad.flatten(), ours.output.weight.grad.flatten()])
    theirs = torch.cat([peer[0].weight.grad.flatten(), peer[2].weight.grad.flatten()])
    return ((mine - theirs).abs().max() / theirs.abs().max()).item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=60_000)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    images, theirs = mnist("train").subset(arguments.images).flat(), "plain masked layers"
    print(f"one epoch of {len(images):,} images, 784-{HIDDEN}-784, batches of {BATCH}, {arguments.threads} "
          f"thread(s), {arguments.rounds} rounds, torch {torch.__version__}")
    difference = largest_difference(images)
    print(f"in float64 the gradients of both differ by {difference:.0e}, relatively")
    if difference > 1e-9:
        raise SystemExit("The two gradients are not the same: the times cannot be compared.")
    epochs = {theirs: lambda: peer_epoch(images),
              "ours, float32": lambda: our_epoch(images),
              "ours, products in bfloat16": lambda: our_epoch(images, "bfloat16")}
    report(measure(epochs, arguments.rounds, clock_for(arguments.threads)), theirs, "their")


if __name__ == "__main__":
    main()
