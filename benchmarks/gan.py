"""What training steps of a DCGAN cost: against a loop over a DataLoader, as PyTorch's own example has it.

    python benchmarks/gan.py [--threads 1] [--rounds 5] [--steps 100] [--width 32]

Steps on MNIST: images of 28 × 28, 64 latent variables, batches of 64, Adam at 2e-4 for both players. The peer does
what `pytorch/examples` does in `dcgan/main.py`: a data set that gives one image at a time (out of a byte array, by way
of Pillow, into a float tensor from −1 to 1, as torchvision's MNIST with `ToTensor` and `Normalize`), a DataLoader
that shuffles and collates, a sigmoid at the end of the discriminator and `BCELoss`, a tensor of labels filled anew
for each use, two backward passes for the discriminator, whose parameters get a gradient in the generator's step
too, Adam as it comes, and five numbers read in every step. Both networks have the layers and parameters of ours.
Ours runs in the shared training loop and does more: it draws new samples for the generator's step, where the peer
uses the discriminator's once more, checks the data, keeps a history, and looks for NaN. It is timed twice: with
matrix products in float32, as the peer's, and with the option `precision="bfloat16"`, which rounds their factors
(weights, sums and the loss stay float32). A last loop is the peer's on a tensor that is already in memory, which
shows what the loading costs.

Before anything is timed, the gradients of both players, ours and the peer's, on the same batch with the same noise
are compared in float64. Then the loops take turns, so that a busy machine disturbs all alike; a ratio is one of
times in the same round, and what is printed is the median over the rounds with the smallest and the largest. On one
thread the times are the processor's own, which on an idle machine is what a clock shows; on several they are the
clock's.
"""

import argparse
import functools
from collections.abc import Iterable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from turns import clock_for, measure, report

from nemlib.data import mnist
from nemlib.gan import GAN, AdversarialLearner, dcgan_discriminator, dcgan_generator
from nemlib.training import Context, TrainingSettings, seeded, train

LATENT, BATCH, LEARNING_RATE, BETAS = 64, 64, 2e-4, (0.5, 0.999)


def our_networks(width: int) -> GAN:
    with seeded(0):
        return GAN(dcgan_generator(LATENT, width=width), dcgan_discriminator(width=width), LATENT)


def our_steps(images: Tensor, width: int, precision: str = "float32") -> None:
    gan = our_networks(width)
    generator, discriminator = (torch.optim.Adam(network.parameters(), LEARNING_RATE, BETAS, fused=True)
                                for network in (gan.generator, gan.discriminator))
    settings = TrainingSettings(epochs=1, batch_size=BATCH, precision=precision)
    train(AdversarialLearner(gan, generator, discriminator), images, settings, device="cpu", progress=False)


def peer_networks(width: int) -> tuple[nn.Sequential, nn.Sequential]:
    """As the example writes them, for images of 28 × 28: latent variables are an image of one pixel."""
    generator = nn.Sequential(
        nn.ConvTranspose2d(LATENT, 2 * width, 7, 1, 0, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(True),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True),
        nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Tanh())
    discriminator = nn.Sequential(
        nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(2 * width, 1, 7, 1, 0), nn.Sigmoid())
    for network in (generator, discriminator):
        network.apply(weights_init)
    return generator, discriminator


def weights_init(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
        nn.init.zeros_(layer.bias)


class OneByOne(Dataset):
    """One image and its label at a time, the bytes through Pillow to a float tensor (1, 28, 28) in [−1, 1]."""

    def __init__(self, images: np.ndarray, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.images[row], mode="L")
        pixels = torch.from_numpy(np.array(picture, np.uint8, copy=True))
        pixels = pixels.view(1, 28, 28).contiguous().to(torch.float32).div(255)
        return pixels.sub_(0.5).div_(0.5), int(self.labels[row])


def peer_step(networks: tuple[nn.Module, nn.Module], optimizers: tuple[torch.optim.Optimizer, ...], x: Tensor,
              noise: Tensor) -> tuple[float, ...]:
    """The body of the example's loop; what it returns, the example prints."""
    (generator, discriminator), criterion = networks, nn.BCELoss()
    discriminator.zero_grad()
    label = torch.full((len(x),), 1.0, dtype=x.dtype)
    output = discriminator(x).view(-1)
    real_loss = criterion(output, label)
    real_loss.backward()
    real_mean = output.mean().item()
    fake = generator(noise)
    label.fill_(0)
    output = discriminator(fake.detach()).view(-1)
    fake_loss = criterion(output, label)
    fake_loss.backward()
    fake_mean = output.mean().item()
    optimizers[1].step()

    generator.zero_grad()
    label.fill_(1)
    output = discriminator(fake).view(-1)
    loss = criterion(output, label)
    loss.backward()
    optimizers[0].step()
    return (real_loss + fake_loss).item(), loss.item(), real_mean, fake_mean, output.mean().item()


def peer_steps(batches: Iterable[tuple[Tensor, Tensor]], width: int) -> None:
    with seeded(0):
        networks = peer_networks(width)
        optimizers = tuple(torch.optim.Adam(network.parameters(), LEARNING_RATE, BETAS) for network in networks)
        for x, _ in batches:
            peer_step(networks, optimizers, x, torch.randn(len(x), LATENT, 1, 1))


def sliced(images: Tensor, labels: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    for rows in torch.randperm(len(images)).split(BATCH):
        yield images[rows].view(-1, 1, 28, 28), labels[rows]


def largest_difference(images: Tensor, width: int) -> float:
    """Between the gradients of both players on one batch with the same noise, relative to the largest entry."""
    x, noise = images[:BATCH].double(), torch.randn(BATCH, LATENT, dtype=torch.float64)
    gan, networks = our_networks(width).double(), tuple(n.double() for n in peer_networks(width))
    ours = [parameter for network in (gan.generator, gan.discriminator) for parameter in network.parameters()]
    theirs = [parameter for network in networks for parameter in network.parameters()]
    with torch.no_grad():
        for mine, other in zip(ours, theirs, strict=True):
            other.copy_(mine.t().view_as(other) if mine.shape[1:] == (LATENT,) else mine.view_as(other))
    gan.draw = lambda count, generator: noise
    still = [torch.optim.SGD(network.parameters(), 0.0)
             for network in (gan.generator, gan.discriminator, *networks)]
    generator = torch.Generator().manual_seed(0)
    context = Context(torch.device("cpu"), generator, generator, BATCH, data=x)
    AdversarialLearner(gan, *still[:2]).training_step(x, context)
    kept = GradientsKept(networks[1])
    peer_step(networks, (still[2], kept), x.view(-1, 1, 28, 28), noise[..., None, None])
    found = [parameter.grad for parameter in networks[0].parameters()] + kept.gradients
    rows = [(mine.grad.t().reshape(-1) if mine.shape[1:] == (LATENT,) else mine.grad.reshape(-1), other.reshape(-1))
            for mine, other in zip(ours, found, strict=True)]
    return max((mine - other).abs().max() / other.abs().max() for mine, other in rows).item()


class GradientsKept:
    """Stands for the discriminator's optimizer: keeps its gradients, and changes nothing."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def step(self) -> None:
        self.gradients = [parameter.grad.clone() for parameter in self.network.parameters()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--width", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    digits, width = mnist("train").subset(BATCH * arguments.steps), arguments.width
    images, bytes_ = 2 * digits.flat() - 1, (digits.images * 255).round().to(torch.uint8).numpy()
    print(f"{arguments.steps} steps of a DCGAN of width {width} on batches of {BATCH} digits, {arguments.threads} "
          f"thread(s), {arguments.rounds} rounds, torch {torch.__version__}")
    difference = largest_difference(images, width)
    print(f"in float64 the gradients of both differ by {difference:.0e}, relatively")
    if difference > 1e-9:
        raise SystemExit("The two updates are not the same update: their times cannot be compared.")
    loader = DataLoader(OneByOne(bytes_, digits.labels), batch_size=BATCH, shuffle=True)
    peer = "DataLoader, by image"
    loops = {peer: lambda: peer_steps(loader, width), "nemlib, float32": functools.partial(our_steps, images, width),
             "nemlib, bfloat16 products": functools.partial(our_steps, images, width, "bfloat16"),
             "the peer's model, sliced": lambda: peer_steps(sliced(images, digits.labels), width)}
    report(measure(loops, arguments.rounds, clock_for(arguments.threads)), peer, "the peer's")


if __name__ == "__main__":
    main()
