"""What an epoch of VAE training costs: against a loop over a DataLoader, as PyTorch's own example has it.

    python benchmarks/vae.py [--threads 1] [--rounds 5] [--images 60000]

One epoch of MNIST, 784-400-20, batches of 128, float32, Adam at 1e-3. The peer does what `pytorch/examples`
does in `vae/main.py`: a data set that gives one image at a time (out of a byte array, by way of Pillow, into a
float tensor, as torchvision's MNIST with `ToTensor`), a DataLoader that shuffles and collates, the loss as
binary cross-entropy of probabilities plus the KL, Adam as it comes, and a running loss read in every step. Ours
runs in the shared training loop and does more: it draws the binary pixels anew in each step, keeps a history, and
looks for NaN. It is timed twice: with matrix products in float32, as the peer's, and with the option
`precision="bfloat16"`, which rounds their factors (weights, sums and the loss stay float32). A last loop is the
peer's on a tensor that is already in memory, which shows what the loading costs.

Before anything is timed, one update of ours and the peer's on the same batch with the same noise is compared in
float64. Then they take turns, so that a busy machine disturbs all alike; a ratio is one of times in the same
round, and what is printed is the median over the rounds with the smallest and the largest. On one thread the
times are the processor's own, which on an idle machine is what a clock shows; on several they are the clock's.
"""

import argparse
import functools
from collections.abc import Iterable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from turns import clock_for, measure, report

from nemlib.data import mnist
from nemlib.training import Context, TrainingSettings, seeded, train
from nemlib.vae import VAE, VariationalLearner, vae_784

BATCH, LEARNING_RATE = 128, 1e-3


def our_epoch(images: Tensor, precision: str = "float32") -> None:
    with seeded(0):
        machine = vae_784()
    optimizer = torch.optim.Adam(machine.parameters(), LEARNING_RATE, fused=True)
    settings = TrainingSettings(epochs=1, batch_size=BATCH, precision=precision)
    train(VariationalLearner(machine, optimizer), images, settings, device="cpu", progress=False)


class Peer(nn.Module):
    """The four layers as the example has them: two heads, and probabilities as output."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.mean, self.log_variance = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.back, self.pixels = nn.Linear(20, 400), nn.Linear(400, 784)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = F.relu(self.hidden(x.view(-1, 784)))
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        deviation = torch.exp(0.5 * log_variance)
        z = mean + torch.randn_like(deviation) * deviation
        return torch.sigmoid(self.pixels(F.relu(self.back(z)))), mean, log_variance


def peer_loss(machine: Peer, x: Tensor) -> Tensor:
    """Summed over the batch, as the example does it."""
    found, mean, log_variance = machine(x)
    cross_entropy = F.binary_cross_entropy(found, x.view(-1, 784), reduction="sum")
    return cross_entropy - 0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())


class OneByOne(Dataset):
    """One image and its label at a time, the bytes through Pillow to a float tensor of (1, 28, 28)."""

    def __init__(self, images: np.ndarray, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.images[row], mode="L")
        pixels = torch.from_numpy(np.array(picture, np.uint8, copy=True))
        return pixels.view(1, 28, 28).contiguous().to(torch.float32).div(255), int(self.labels[row])


def peer_epoch(batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    with seeded(0):
        machine = Peer()
        optimizer, total = torch.optim.Adam(machine.parameters(), LEARNING_RATE), 0.0
        for x, _ in batches:
            optimizer.zero_grad()
            loss = peer_loss(machine, x)
            loss.backward()
            total += loss.item()
            optimizer.step()


def sliced(images: Tensor, labels: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    for rows in torch.randperm(len(images)).split(BATCH):
        yield images[rows], labels[rows]


def largest_difference(images: Tensor) -> float:
    """Between the gradients of both on one batch of 0 and 1 with the same noise, relative to the largest entry."""
    x = images[:BATCH].double().round()
    with seeded(0):
        machine, peer = vae_784().double(), Peer().double()
    with torch.no_grad():
        for name, theirs in (("0", peer.hidden), ("2", peer.mean)):
            layer = machine.encoder.get_submodule(name)
            theirs.weight.copy_(layer.weight[:len(theirs.weight)])
            theirs.bias.copy_(layer.bias[:len(theirs.bias)])
        peer.log_variance.weight.copy_(machine.encoder[2].weight[20:])
        peer.log_variance.bias.copy_(machine.encoder[2].bias[20:])
        peer.back.load_state_dict(machine.decoder[0].state_dict())
        peer.pixels.load_state_dict(machine.decoder[2].state_dict())
    with seeded(1):
        peer_loss(peer, x).backward()
    learner = VariationalLearner(machine, torch.optim.SGD(machine.parameters(), 0.0), binarize=False)
    generator = torch.Generator().manual_seed(1)
    learner.training_step(x, Context(torch.device("cpu"), generator, generator, BATCH, data=x))
    ours, theirs = gradient(machine) * BATCH, torch.cat([p.grad.flatten() for p in (
        peer.hidden.weight, peer.pixels.weight)])
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def gradient(machine: VAE) -> Tensor:
    return torch.cat([machine.encoder[0].weight.grad.flatten(), machine.decoder[2].weight.grad.flatten()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=60_000)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    digits = mnist("train").subset(arguments.images)
    images, bytes_ = digits.flat(), (digits.images * 255).round().to(torch.uint8).numpy()
    print(f"one epoch of {len(images):,} images, 784-400-20, batches of {BATCH}, float32, {arguments.threads} "
          f"thread(s), {arguments.rounds} rounds, torch {torch.__version__}")
    difference = largest_difference(images)
    print(f"in float64 the gradients of both differ by {difference:.0e}, relatively")
    if difference > 1e-9:
        raise SystemExit("The two updates are not the same update: their times cannot be compared.")
    loader = DataLoader(OneByOne(bytes_, digits.labels), batch_size=BATCH, shuffle=True)
    peer = "DataLoader, by image"
    epochs = {peer: lambda: peer_epoch(loader), "nemlib, float32": functools.partial(our_epoch, images),
              "nemlib, bfloat16 products": functools.partial(our_epoch, images, "bfloat16"),
              "the peer's model, sliced": lambda: peer_epoch(sliced(images, digits.labels))}
    seconds = measure(epochs, arguments.rounds, clock_for(arguments.threads))
    report(seconds, peer, "the peer's")


if __name__ == "__main__":
    main()
