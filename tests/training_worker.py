"""Four toy models of the kinds the book trains, and a script that trains one in a process of its own.

    python tests/training_worker.py KIND FOLDER             train, or resume, in FOLDER
    python tests/training_worker.py KIND FOLDER --slow-disk the same, on a disk that takes its time
    accelerate launch … tests/training_worker.py parallel FOLDER
                                                            several processes; each result goes into FOLDER
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from nemlib import files
from nemlib.training import (
    Context, GradientLearner, History, Learner, TrainingSettings, cosine_schedule, seeded, train,
)

SETTINGS = {
    "autoencoder": TrainingSettings(epochs=4, batch_size=8, report_every=3, checkpoint_every=4,
                                    evaluate_every=5),
    "gan": TrainingSettings(steps=25, batch_size=8, report_every=4, checkpoint_every=6),
    "rbm": TrainingSettings(epochs=3, batch_size=8, report_every=4, checkpoint_every=5),
    "ising": TrainingSettings(steps=30, report_every=4, checkpoint_every=7),
    "mixture": TrainingSettings(epochs=5, batch_size=8, report_every=4, checkpoint_every=7),
}


def make_data(kind: str) -> Tensor | None:
    """67 examples of six binary pixels (the last batch of an epoch is not full); none for the sampler."""
    if kind == "ising":
        return None
    return (torch.rand(67, 6, generator=torch.Generator().manual_seed(1)) < 0.4).double()


def make_learner(kind: str, common_noise: bool = False) -> Learner:
    with seeded(0):
        return {"autoencoder": make_autoencoder, "gan": GAN, "rbm": PersistentRBM, "ising": IsingSampler,
                "mixture": AlternatingMixture}[kind](common_noise)


def make_autoencoder(common_noise: bool) -> Learner:
    """One loss and one optimizer with a schedule; noise from the generator, dropout from PyTorch's own."""
    module = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Dropout(0.2), nn.Linear(4, 6)).double()
    optimizer = torch.optim.Adam(module.parameters(), 0.01)

    def loss(module: nn.Module, batch: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        noisy = batch + 0.1 * torch.randn(batch.shape, generator=generator, dtype=batch.dtype)
        error = (module(noisy) - batch).square().sum(1).mean()
        return {"loss": error, "root": error.sqrt()}

    schedule = cosine_schedule(optimizer, 32, warm_up=4)
    return GradientLearner(module, loss, optimizer, scheduler=schedule, clip_norm=1.0)


class GAN(Learner):
    """Two players with an optimizer each; with `common_noise` several processes equal one."""

    def __init__(self, common_noise: bool) -> None:
        self.common_noise = common_noise
        self.module = nn.ModuleDict({
            "generator": nn.Linear(2, 6),
            "discriminator": nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1)),
        }).double()
        self.optimizers = {
            "discriminator": torch.optim.Adam(self.module["discriminator"].parameters(), 0.01),
            "generator": torch.optim.SGD(self.module["generator"].parameters(), 0.01, momentum=0.5),
        }

    def noise(self, batch: Tensor, context: Context) -> Tensor:
        if self.common_noise:
            return context.local(torch.randn(context.batch_size, 2, generator=context.common_generator,
                                             dtype=batch.dtype))
        return torch.randn(len(batch), 2, generator=context.generator, dtype=batch.dtype)

    def training_step(self, batch: Tensor, context: Context) -> dict[str, Tensor]:
        judge, make, softplus = self.module["discriminator"], self.module["generator"], nn.functional.softplus
        fake = make(self.noise(batch, context))
        loss_discriminator = (softplus(-judge(batch)) + softplus(judge(fake.detach()))).mean()
        context.update(self.optimizers["discriminator"], loss_discriminator)
        loss_generator = softplus(-judge(fake)).mean()
        context.update(self.optimizers["generator"], loss_generator)
        return {"loss_discriminator": loss_discriminator, "loss_generator": loss_generator}


class PersistentRBM(Learner):
    """Gradients by hand from samples; the persistent chains are a buffer."""

    def __init__(self, common_noise: bool) -> None:
        self.common_noise = common_noise
        self.module = nn.Module()
        self.module.w = nn.Parameter(0.1 * torch.randn(6, 3, dtype=torch.float64))
        self.module.register_buffer("chains", torch.zeros(8, 6, dtype=torch.float64))
        self.module.register_buffer("binary", torch.tensor([True, False]))
        self.optimizers = {"rbm": torch.optim.SGD(self.module.parameters(), 0.05, momentum=0.5)}

    def draw(self, probability: Tensor, context: Context) -> Tensor:
        if not self.common_noise:
            return (torch.rand(probability.shape, generator=context.generator) < probability).double()
        whole = torch.rand(context.batch_size, probability.shape[1], generator=context.common_generator)
        return (context.local(whole) < probability).double()

    def training_step(self, batch: Tensor, context: Context) -> dict[str, Tensor]:
        module, chains = self.module, context.local(self.module.chains)
        with torch.no_grad():
            hidden = self.draw(torch.sigmoid(chains @ module.w), context)
            chains = self.draw(torch.sigmoid(hidden @ module.w.T), context)
            data_term = batch.T @ torch.sigmoid(batch @ module.w)
            model_term = chains.T @ torch.sigmoid(chains @ module.w)
            module.chains.copy_(context.gather(chains))
        context.update(self.optimizers["rbm"], gradients={module.w: (model_term - data_term) / len(batch)})
        return {"activity": chains.mean()}


class IsingSampler(Learner):
    """No data, no optimizer, no parameter: a 4 × 5 grid of spins is the state."""

    def __init__(self, common_noise: bool) -> None:
        self.module = nn.Module()
        self.module.register_buffer("spins", torch.ones(4, 5, dtype=torch.float64))

    def training_step(self, batch: None, context: Context) -> dict[str, Tensor]:
        spins = self.module.spins
        checkerboard = (torch.arange(4)[:, None] + torch.arange(5)) % 2
        for colour in (0, 1):
            field = nn.functional.pad(spins, (1, 1, 1, 1))
            field = field[:-2, 1:-1] + field[2:, 1:-1] + field[1:-1, :-2] + field[1:-1, 2:]
            up = torch.rand(4, 5, generator=context.generator) < torch.sigmoid(2 * 0.3 * field)
            spins = torch.where(checkerboard == colour, 2.0 * up - 1, spins)
        self.module.spins.copy_(spins)
        return {"magnetisation": spins.mean()}

    def evaluate(self, data: None, context: Context) -> dict[str, Tensor]:
        return {"size": self.module.spins.abs().mean()}


class AlternatingMixture(Learner):
    """Two phases: each epoch samples means given all latents; then gradient steps towards them."""

    def __init__(self, common_noise: bool) -> None:
        self.module = nn.Linear(6, 2).double()
        self.module.register_buffer("means", torch.randn(3, 2, dtype=torch.float64))
        self.optimizers = {"encoder": torch.optim.Adam(self.module.parameters(), 0.01)}

    def begin_epoch(self, context: Context) -> None:
        with torch.no_grad():
            latents = self.module(context.data)
            nearest = torch.cdist(latents, self.module.means).argmin(1)
            for k in range(3):
                if (nearest == k).any():
                    self.module.means[k] = latents[nearest == k].mean(0)
            noise = torch.randn(3, 2, generator=context.generator, dtype=latents.dtype)
            self.module.means.add_(0.1 * noise)
        context.record(largest_cluster=nearest.bincount().max())

    def training_step(self, batch: Tensor, context: Context) -> dict[str, Tensor]:
        distance = torch.cdist(self.module(batch), self.module.means).amin(1).mean()
        context.update(self.optimizers["encoder"], distance)
        return {"distance": distance}


def run(kind: str, out: Path | None, **options) -> tuple[Learner, History]:
    learner, data = make_learner(kind), make_data(kind)
    evaluation_data = data if kind == "autoencoder" else None
    history = train(learner, data, SETTINGS[kind], device="cpu", seed=3, out=out,
                    evaluation_data=evaluation_data, **options)
    return learner, history


def run_slowly(kind: str, out: Path, slow_disk: bool) -> None:
    """Train with a pause after each row, so that a kill can come at any moment; say when training begins."""
    if slow_disk:
        flush = files._flush
        files._flush = lambda path: (time.sleep(0.3), flush(path))
    print("ready", flush=True)
    run(kind, out, resume=True, watch=lambda *_: time.sleep(0.05))


def run_parallel(folder: Path) -> None:
    """Train on this process's share of the batches; tensors and rows of every process go into `folder`."""
    for kind in ("gan", "rbm"):
        keep(folder, kind, *run_share(kind, folder / kind))
        averaging, Context._average_gradients = Context._average_gradients, lambda *_: None
        keep(folder, f"{kind}-mutant", *run_share(kind, folder / f"{kind}-mutant"))
        Context._average_gradients = averaging
    keep(folder, "whole", *run_share("gan", folder / "whole", common_noise=False))
    run_share("gan", folder / "resumed", common_noise=False, steps=12)
    keep(folder, "resumed", *run_share("gan", folder / "resumed", common_noise=False))


def run_share(kind: str, out: Path, common_noise: bool = True, **changes) -> tuple[Learner, History, int]:
    watched: list[int] = []
    learner = make_learner(kind, common_noise)
    history = train(learner, make_data(kind), replace(SETTINGS[kind], **changes), device="cpu", seed=3,
                    out=out, resume=True, watch=lambda _, __, context: watched.append(context.step))
    return learner, history, len(watched)


def keep(folder: Path, name: str, learner: Learner, history: History, watched: int) -> None:
    path = folder / f"{name}-{torch.distributed.get_rank()}.safetensors"
    files.save_tensors(path, learner.module.state_dict(), {"rows": history.rows, "watched": watched})


if __name__ == "__main__":
    torch.set_num_threads(1)
    kind, folder = sys.argv[1], Path(sys.argv[2])
    if kind == "parallel":
        run_parallel(folder)
    else:
        run_slowly(kind, folder, slow_disk="--slow-disk" in sys.argv)
