"""What the shared training loop costs: against a bare loop, and against one with a DataLoader.

    python benchmarks/training.py [--threads 1] [--rounds 7]

One epoch of a small classifier on tensors of MNIST's size, four ways that do the same steps with the same
optimizer: written out by hand; `nemlib.training.train`; `DataLoader(TensorDataset(...), shuffle=True)`; and a
DataLoader over a data set that gives one image at a time, as PyTorch's own examples do. They take turns, so
that a busy machine disturbs all alike; the ratios are medians over the rounds. What our loop does beyond the
bare one: it checks data, metrics and parameters for NaN, keeps a history, and reports every 50 steps.
"""

import argparse
import functools
import statistics

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from turns import measure

from nemlib.training import GradientLearner, TrainingSettings, seeded, train

EXAMPLES, PIXELS, CLASSES, BATCH = 60_000, 28 * 28, 10, 100
WIDTHS = {"tiny (784-32-10)": 32, "small (784-256-10)": 256}


def make_model(width: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    with seeded(0):
        model = nn.Sequential(nn.Linear(PIXELS, width), nn.ReLU(), nn.Linear(width, CLASSES))
    return model, torch.optim.Adam(model.parameters(), lr=1e-3)


def bare_loop(images: Tensor, labels: Tensor, width: int) -> float:
    model, optimizer = make_model(width)
    order = torch.randperm(EXAMPLES, generator=torch.Generator().manual_seed(0))
    total = torch.zeros(())
    for start in range(0, EXAMPLES, BATCH):
        rows = order[start:start + BATCH]
        loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()
    return total.item() * BATCH / EXAMPLES


def our_loop(images: Tensor, labels: Tensor, width: int) -> float:
    model, optimizer = make_model(width)

    def loss(module: nn.Module, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        return nn.functional.cross_entropy(module(batch["images"]), batch["labels"])

    history = train(GradientLearner(model, loss, optimizer), {"images": images, "labels": labels},
                    TrainingSettings(epochs=1, batch_size=BATCH), device="cpu", progress=False)
    return statistics.fmean(history.column("loss"))


class Pairs(Dataset):
    """One image and its label at a time."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.images[row], self.labels[row]


def loader_loop(images: Tensor, labels: Tensor, width: int, dataset: type[Dataset] = TensorDataset) -> float:
    model, optimizer = make_model(width)
    loader = DataLoader(dataset(images, labels), batch_size=BATCH, shuffle=True)
    total = torch.zeros(())
    for batch, targets in loader:
        loss = nn.functional.cross_entropy(model(batch), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()
    return total.item() * BATCH / EXAMPLES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(EXAMPLES, PIXELS, generator=generator)
    labels = torch.randint(CLASSES, (EXAMPLES,), generator=generator)
    print(f"one epoch of {EXAMPLES} images in batches of {BATCH}, {arguments.threads} thread(s), "
          f"median of {arguments.rounds} rounds, torch {torch.__version__}")
    for title, width in WIDTHS.items():
        loops = {"bare loop": bare_loop, "nemlib.training": our_loop, "DataLoader, by batch": loader_loop,
                 "DataLoader, by image": functools.partial(loader_loop, dataset=Pairs)}
        seconds = measure({name: lambda f=f: f(images, labels, width) for name, f in loops.items()},
                          arguments.rounds)
        print(title)
        for name, values in seconds.items():
            ratios = [value / bare for value, bare in zip(values, seconds["bare loop"])]
            print(f"  {name:20} {statistics.median(values):6.3f} s   "
                  f"{statistics.median(ratios):5.2f} of the bare loop's time")


if __name__ == "__main__":
    main()
