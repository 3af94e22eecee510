"""One training loop for all models of the book.

    settings = TrainingSettings(epochs=choose(smoke=1, book=5, full=50), batch_size=100)
    with seeded(0):
        autoencoder = Autoencoder()
    learner = GradientLearner(autoencoder, loss, torch.optim.Adam(autoencoder.parameters(), 1e-3))
    history = train(learner, images, settings, seed=0, evaluation_data=test_images)

`train` is the loop; everything peculiar to a model stands in its `Learner`: how one step is made,
and what is measured. The file reads from the top: budget and settings, the learner, what a step is
given (`Context`), the loop, and then what the loop leans on (batches, metrics, options). The table that
comes back is in `history.py`, the files of a run that can be resumed are in `checkpoint.py`.

**Determinism.** The order of the batches, the noise of the training steps and that of evaluations come
from generators of their own, all derived from `seed`; so evaluating more often changes no trained number.
(PyTorch's dropout knows its global generator only: that one is seeded too, and put back at the end.)
The same seed gives the same bits again on the same machine with the same versions and number of
threads; another processor, or another number of threads, adds floating-point numbers in another order.
On a GPU a few operations (scatter, some convolutions) add in whatever order comes:
`torch.use_deterministic_algorithms(True)` forbids those.

**Several GPUs or machines.** `accelerate launch --multi_gpu --num_processes 4 -m …` starts the same script
that many times (without GPUs the processes use the CPU). Each takes its share of every batch, and the
gradients are averaged before each update. `out` must be a folder that all of them see; process 0 writes.
"""

import hashlib
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import psutil
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from nemlib.checkpoint import Checkpoints, check_tensors, random_state, set_random_state
from nemlib.history import Display, History

__all__ = [
    "Context", "GradientLearner", "History", "Learner", "TrainingDiverged", "TrainingSettings",
    "available_memory", "budget", "choose", "cosine_schedule", "device", "evaluate", "seeded", "train",
]

Data = Tensor | Mapping[str, Tensor] | None
Choice = TypeVar("Choice")


# --- what the reader chooses: budget, device, seed, settings ---------------------------------------------

def budget() -> str:
    """How long the chapters may train, from $BUDGET: "smoke", "book" (where it is not set) or "full"."""
    value = os.environ.get("BUDGET") or "book"
    if value not in ("smoke", "book", "full"):
        raise ValueError(f"BUDGET is {value!r}, but only smoke, book and full are known: set one of these.")
    return value


def choose(*, smoke: Choice, book: Choice, full: Choice) -> Choice:
    """The argument that belongs to the present budget: `epochs = choose(smoke=1, book=5, full=100)`."""
    return {"smoke": smoke, "book": book, "full": full}[budget()]


def find_device(name: str | torch.device = "auto") -> torch.device:
    """The device of that name; "auto" is the GPU ("cuda", else "mps") where there is one, else the CPU."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, is_there in present.items() if is_there))
    try:
        found = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"There is no device {name!r}: choose auto, cuda, mps or cpu.") from error
    if not present.get(found.type, False) or (found.index or 0) >= max(1, torch.cuda.device_count()):
        raise ValueError(f"The device {str(found)!r} is not on this machine: choose auto or cpu.")
    return found


device = find_device   # the short name for notebooks: training.device("auto")


def available_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device; None where it cannot be asked (mps)."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available if device.type == "cpu" else None


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let PyTorch's own initialisation and dropout draw from `seed` inside, and leave no trace outside.

        with seeded(0):
            model = nn.Linear(784, 20)
    """
    gpus = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        yield


def derived_seed(seed: int, purpose: str, rank: int = 0) -> int:
    """A seed for one purpose in one process; different purposes never share a stream of random numbers."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@dataclass(frozen=True)
class TrainingSettings:
    """How long, in which portions, and how often the loop looks up.

    The last, incomplete batch of an epoch is left out: all batches have one size (which torch.compile
    wants), and since every epoch has a new order, no example is left out for good.
    """

    steps: int | None = None              # give steps, or epochs
    epochs: int | None = None
    batch_size: int | None = None         # None: all examples in every step, in their own order
    report_every: int = 50                # steps between rows of the history and checks for NaN
    evaluate_every: int | None = None     # steps; None: after each epoch, or at the end if `steps` is given
    checkpoint_every: int | None = None   # steps; None: as evaluate_every
    keep: int = 2                         # the newest checkpoints that stay on the disk
    precision: str = "float32"            # the module's own numbers; "bfloat16": autocast, which pays on GPUs
    compile: str | None = None            # torch.compile's mode; "reduce-overhead" captures CUDA graphs

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(f"Give steps or epochs, one of them; {self.steps} and {self.epochs} came.")
        for name in ("steps", "epochs", "batch_size", "report_every", "evaluate_every", "checkpoint_every",
                     "keep"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ValueError(f"{name} must be a whole number of at least 1, but {value!r} came.")
        _one_of("precision", self.precision, ("float32", "bfloat16"))
        _one_of("compile", self.compile, (None, "default", "reduce-overhead", "max-autotune"))

    def steps_per_epoch(self, examples: int) -> int:
        """Full batches in one pass over that many examples."""
        return examples // (self.batch_size or examples)

    def total_steps(self, examples: int | None) -> int:
        """Steps of the whole run on that many examples (None: no data), as a schedule needs to know them."""
        if self.steps is not None:
            return self.steps
        if examples is None:
            raise ValueError("A run without data has no epochs: give steps instead.")
        return self.epochs * self.steps_per_epoch(examples)


def _one_of(name: str, value: object, allowed: tuple) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}, but must be one of {', '.join(map(repr, allowed))}.")


def cosine_schedule(optimizer: Optimizer, steps: int, warm_up: int = 0) -> LRScheduler:
    """Raise the learning rate linearly over `warm_up` steps, then let it fall to zero as half a cosine."""
    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / (warm_up + 1)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, steps - warm_up))))
    return LambdaLR(optimizer, factor)


# --- what a model brings ---------------------------------------------------------------------------------

class Learner:
    """The protocol between a model and the loop. Inherit from it, set `module`, write `training_step`.

    module: holds every tensor that a checkpoint must keep, as parameters or persistent buffers: weights,
        persistent chains, the parameters of a mixture. The loop moves it to the device, so read
        `self.module.chains` anew in each step instead of keeping a reference to a buffer.
    optimizers: by name; empty for a sampler, two for a GAN. Build them on `module`'s parameters.
    schedulers: by name, of the optimizers that have one; the loop steps each once per training step.
    hints: by metric, a sentence on what to do where it is the first that is not finite.

    Whatever else a learner keeps (plain attributes) is not in its checkpoints.
    """

    module: nn.Module
    optimizers: Mapping[str, Optimizer] = MappingProxyType({})
    schedulers: Mapping[str, LRScheduler] = MappingProxyType({})
    hints: Mapping[str, str] = MappingProxyType({})

    def training_step(self, batch: Any, context: "Context") -> Mapping[str, Tensor]:
        """Make one update and return its metrics as scalars on the device, the same names in every step.

        batch: the rows `context.rows` of the data, a tensor or a mapping of tensors as the data are
            (with several processes, this process's share); None where the run has no data.
        Call `context.update(optimizer, loss)` once per optimizer step, take noise from
        `context.generator`, and do not call `.item()`: it makes the device wait.
        """
        raise NotImplementedError(f"{type(self).__name__} must define training_step(batch, context).")

    def begin_epoch(self, context: "Context") -> None:
        """Called before each epoch's first batch, for phases that alternate; `context.data` is all data."""

    def evaluate(self, data: Any, context: "Context") -> Mapping[str, float | Tensor]:
        """Numbers on held-out data, called without gradients; in the history they are named evaluation_…"""
        return {}

    def picture(self, context: "Context") -> Tensor | None:
        """Images in [0, 1] that show what was learnt, shape (images, height, width), for those who watch."""
        return None

    def compile(self, mode: str) -> None:
        """Replace the function that costs the time by a compiled one; here, the module's `forward`."""
        if type(self.module).forward is nn.Module.forward:
            raise ValueError(f"{type(self.module).__name__} has no forward to compile: leave it at None.")
        self.module.compile(mode=mode)


class GradientLearner(Learner):
    """The common case: one module, one loss, one optimizer.

    loss: called as `loss(module, batch, generator)`; returns the loss as the **mean over the batch's
        examples** (a scalar), or a mapping of metrics in which that scalar is called "loss".
    evaluation: called as `evaluation(module, data, generator)` with all held-out data; without it, the
        loss is averaged over the held-out data.
    clip_norm: the longest gradient that is let through, if given.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Callable[[nn.Module, Any, torch.Generator], Tensor | Mapping[str, Tensor]],
        optimizer: Optimizer,
        *,
        scheduler: LRScheduler | None = None,
        evaluation: Callable[[nn.Module, Any, torch.Generator], Mapping[str, float | Tensor]] | None = None,
        clip_norm: float | None = None,
    ) -> None:
        self.module, self.evaluation, self.clip_norm = module, evaluation, clip_norm
        self.loss = self.step_loss = loss   # the second may be compiled; evaluations keep to the first
        self.optimizers = {"optimizer": optimizer}
        self.schedulers = {} if scheduler is None else {"optimizer": scheduler}

    def training_step(self, batch: Any, context: "Context") -> Mapping[str, Tensor]:
        with context.autocast():
            metrics = named(self.step_loss(self.module, batch, context.generator))
        context.update(self.optimizers["optimizer"], metrics["loss"], clip_norm=self.clip_norm)
        return metrics

    def evaluate(self, data: Any, context: "Context") -> Mapping[str, float | Tensor]:
        if data is None:
            return {}
        if self.evaluation is not None:
            return self.evaluation(self.module, data, context.generator)
        total: dict[str, Tensor] = {}
        count = number_of_examples(data)
        for start in range(0, count, context.batch_size):
            batch = take(data, slice(start, start + context.batch_size))
            share = number_of_examples(batch) / count
            for name, value in named(self.loss(self.module, batch, context.generator)).items():
                total[name] = total.get(name, 0.0) + share * value
        return total

    def compile(self, mode: str) -> None:
        self.step_loss = torch.compile(self.loss, mode=mode)


def named(loss: Tensor | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return {"loss": loss} if isinstance(loss, Tensor) else loss


# --- what a step is given --------------------------------------------------------------------------------

@dataclass
class Context:
    """Where a step stands and what it may use.

    generator: the noise of this process's steps, on the device.
    common_generator: the same stream in every process. Noise drawn for the whole batch and cut by `local`
        makes any number of processes equal to one:
        `context.local(torch.randn(context.batch_size, 20, generator=context.common_generator, device=...))`.
    batch_size: examples per step over all processes.
    step, epoch: the step and epoch under way, counted from 1 (an epoch needs data; without, it stays 1).
    rows: which rows of the data this batch is, shape (batch,); data: all examples, on the device.
    """

    device: torch.device
    generator: torch.Generator
    common_generator: torch.Generator
    batch_size: int
    step: int = 0
    epoch: int = 0
    rows: Tensor | None = None
    data: Data = None
    precision: str = "float32"
    accelerator: Any = None                               # accelerate's, where there are several processes
    recorded: dict[str, float] = field(default_factory=dict)
    casts: bool = False                                   # whether autocast() was ever entered

    @property
    def rank(self) -> int:
        """The number of this process, from 0; only process 0 writes files."""
        return 0 if self.accelerator is None else self.accelerator.process_index

    @property
    def processes(self) -> int:
        return 1 if self.accelerator is None else self.accelerator.num_processes

    def autocast(self) -> AbstractContextManager:
        """`with context.autocast():` around the forward pass is where `precision="bfloat16"` takes effect."""
        self.casts = True
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def update(
        self,
        optimizer: Optimizer,
        loss: Tensor | None = None,
        *,
        gradients: Mapping[nn.Parameter, Tensor] | None = None,
        clip_norm: float | None = None,
    ) -> None:
        """One step of `optimizer` down `loss`, or along gradients computed by hand: `{parameter: gradient}`.

        Only the optimizer's own parameters receive gradients, so that in a GAN no player disturbs the other.
        With several processes the gradients are averaged first; loss and gradients are therefore means
        over the batch's examples, never sums.
        """
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if gradients is None:
            optimizer.zero_grad()
            loss.backward(inputs=parameters)
        else:
            for parameter, gradient in gradients.items():
                parameter.grad = gradient
        self._average_gradients(parameters)
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(parameters, clip_norm)
        optimizer.step()

    def record(self, **values: float) -> None:
        """Put values into the next row of the history, from wherever a learner computes them now and then."""
        self.recorded.update(values)

    def local(self, whole: Tensor) -> Tensor:
        """This process's share of a tensor whose first dimension runs over the whole batch."""
        return whole if self.accelerator is None else whole.chunk(self.processes)[self.rank]

    def gather(self, share: Tensor) -> Tensor:
        """The whole batch's tensor again, from all processes' shares: the other way round from `local`."""
        return share if self.accelerator is None else self.accelerator.gather(share)

    def average(self, tensor: Tensor) -> Tensor:
        """The mean of a tensor over the processes."""
        return tensor if self.accelerator is None else self.accelerator.reduce(tensor, "mean")

    def _average_gradients(self, parameters: list[nn.Parameter]) -> None:
        if self.accelerator is None:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        averaged = self.average(torch.cat([gradient.reshape(-1) for gradient in gradients]))   # one message
        for gradient, part in zip(gradients, averaged.split([gradient.numel() for gradient in gradients])):
            gradient.copy_(part.view_as(gradient))


# --- the loop --------------------------------------------------------------------------------------------

def train(
    learner: Learner,
    data: Data,
    settings: TrainingSettings,
    *,
    device: str | torch.device = "auto",
    seed: int = 0,
    evaluation_data: Data = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool | None = None,
    tensorboard: bool = False,
    watch: Callable[[Learner, History, Context], None] | None = None,
    accelerator: Any = None,
) -> History:
    """Train `learner` on `data` and return the history of its metrics.

    data: a tensor, or a mapping of tensors with one first dimension, that fits on the device; or None.
    evaluation_data: what `learner.evaluate` is given; nothing is evaluated where data are and this is None.
    out: the run's folder, for checkpoints and history.csv; None writes nothing.
    resume: go on from the newest checkpoint in `out`; the end is bit for bit that of an unbroken run.
    progress: show a bar; None shows one in a terminal or notebook, unless $NEMLIB_QUIET is set.
    tensorboard: write curves into `out`/tensorboard as well.
    watch: called as watch(learner, history, context) after each new row of the history.
    accelerator: accelerate's; made here where `accelerate launch` started several processes.

    Raises TrainingDiverged at the first metric or parameter that is not finite, ValueError for settings,
    data or a checkpoint that do not fit.
    """
    accelerator = accelerator or launched_accelerator(device)
    context = make_context(settings, seed, device if accelerator is None else accelerator.device, accelerator)
    with seeded(derived_seed(seed, "global", context.rank)):
        run = Run(learner, data, evaluation_data, settings, seed, context, out, resume)
        with Display(run, progress, tensorboard, watch) as display:
            while context.step < run.last_step:
                batch = run.next_batch()
                run.metrics.add(learner.training_step(batch, context))
                for scheduler in learner.schedulers.values():
                    scheduler.step()
                display.advance()
                if run.row_is_due():
                    run.close_row()
                    display.show()
                if run.checkpoint_is_due():
                    run.save()
    return run.history


class TrainingDiverged(ArithmeticError):
    """Training met a number that is not finite; the message says when, where, and what to look at."""

    def __init__(self, step: int, message: str) -> None:
        super().__init__(message)
        self.step = step


class Run:
    """One run under way: what a checkpoint keeps, and what is due after which step."""

    def __init__(
        self, learner: Learner, data: Data, evaluation_data: Data, settings: TrainingSettings, seed: int,
        context: Context, out: str | os.PathLike[str] | None, resume: bool,
    ) -> None:
        check_options(learner, settings, context)
        self.learner, self.settings, self.seed, self.context = learner, settings, seed, context
        learner.module.to(context.device).train()
        context.data = on_device(data, context.device)
        self.evaluation_data = on_device(evaluation_data, context.device)
        self.batches = Batches(context, settings.batch_size, derived_generator(seed, "order", "cpu"))
        self.last_step = settings.total_steps(self.batches.count)
        self.generators = {"own": context.generator, "common": context.common_generator}
        self.metrics = Metrics(settings.report_every, context)
        self.history, self.started = History(), time.monotonic()
        self.out = None if out is None else Path(out)
        self.checkpoints = None if out is None else Checkpoints(self.out / "checkpoints", settings.keep)
        if settings.compile is not None:
            learner.compile(settings.compile)
        if self.checkpoints is not None:
            self._begin_in_folder(resume)
        share_tensors(learner.module, context)

    def next_batch(self) -> Any:
        """The batch of the next step; an epoch begins with a new order and the learner's `begin_epoch`."""
        if self.batches.at_end:
            self.batches.shuffle()
            self.context.epoch += 1
            self.learner.begin_epoch(self.context)
        self.context.step += 1
        self.context.rows, batch = self.batches.take()
        return batch

    def row_is_due(self) -> bool:
        regular = self.context.step % self.settings.report_every == 0 or self.context.step == self.last_step
        return regular or self.evaluation_is_due() or self.checkpoint_is_due()

    def evaluation_is_due(self) -> bool:
        is_wanted = self.evaluation_data is not None or self.context.data is None
        return is_wanted and self._is_due(self.settings.evaluate_every)

    def checkpoint_is_due(self) -> bool:
        every = self.settings.checkpoint_every or self.settings.evaluate_every
        return self.out is not None and self._is_due(every)

    def close_row(self) -> None:
        """Move the metrics off the device, refuse NaN, evaluate if that is due, add a row to the history."""
        context = self.context
        if context.precision == "bfloat16" and not context.casts:
            raise ValueError(f"precision is 'bfloat16', but {type(self.learner).__name__} never enters "
                             "context.autocast(): put its forward pass there, or keep to 'float32'.")
        row = {"step": context.step, "epoch": context.epoch} | self._training_means()
        self._refuse_bad_tensors()
        if self.evaluation_is_due():
            values = evaluate(self.learner, self.evaluation_data, device=context.device, seed=self.seed,
                              batch_size=context.batch_size)
            row |= {f"evaluation_{name}": value for name, value in values.items()}
        row |= {name: float(value) for name, value in context.recorded.items()}
        context.recorded.clear()
        for name, value in row.items():
            if not math.isfinite(value):
                raise self._diverged(context.step, f"the metric {name!r} is {value}", name)
        self.history.rows.append(row)
        self.history.seconds = time.monotonic() - self.started

    def save(self) -> None:
        """Write a checkpoint; with several processes all of them call this, and process 0 writes."""
        share_tensors(self.learner.module, self.context)
        state = self.state()
        if self.context.rank == 0:
            self.checkpoints.save(self.context.step, state, model_name(self.learner))
        if self.context.accelerator is not None:
            self.context.accelerator.wait_for_everyone()   # nobody goes on before the file is there

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on, and the history so far."""
        learner, context = self.learner, self.context
        return {
            "identity": self._identity(),
            "step": context.step,
            "epoch": context.epoch,
            "module": learner.module.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in learner.optimizers.items()},
            "schedulers": {name: scheduler.state_dict() for name, scheduler in learner.schedulers.items()},
            "batches": self.batches.state(),
            "random": gathered(random_state(self.generators, context.device), context),
            "history": self.history.rows,
            "seconds": self.history.seconds,
        }

    def restore(self, path: Path) -> None:
        """Continue where that checkpoint was written; ValueError if it belongs to another run."""
        learner, context = self.learner, self.context
        state = self.checkpoints.load(path, model_name(learner))
        for name, value in self._identity().items():
            before = state["identity"].get(name)
            if before != value:
                raise ValueError(f"{path} was written with {name}={before}, but now it is {value}: resume "
                                 "with the same, or begin in another folder.")
        check_tensors(path, state["module"], learner.module.state_dict())
        learner.module.load_state_dict(state["module"])
        for name, optimizer in learner.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        for name, scheduler in learner.schedulers.items():
            scheduler.load_state_dict(state["schedulers"][name])
        context.step, context.epoch = state["step"], state["epoch"]
        self.batches.restore(state["batches"])
        set_random_state(state["random"][context.rank], self.generators, context.device)
        self.history = History(state["history"], state["seconds"])
        self.started = time.monotonic() - self.history.seconds

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to be continued bit for bit."""
        return {
            "seed": self.seed, "batch_size": self.settings.batch_size, "precision": self.settings.precision,
            "examples": self.batches.count, "processes": self.context.processes,
            "optimizers": sorted(self.learner.optimizers), "schedulers": sorted(self.learner.schedulers),
        }

    def _begin_in_folder(self, resume: bool) -> None:
        newest = self.checkpoints.newest()
        if newest is not None and not resume:
            raise ValueError(f"{self.out} holds a run already ({newest.name}): pass resume=True to go on "
                             "with it, or choose another folder.")
        if self.context.rank == 0:
            self.checkpoints.remove_unfinished()
        if newest is not None:
            self.restore(newest)

    def _is_due(self, every: int | None) -> bool:
        if self.context.step == self.last_step:
            return True
        if every is not None:
            return self.context.step % every == 0
        return self.settings.epochs is not None and self.batches.at_end

    def _training_means(self) -> dict[str, float]:
        """The means of the metrics since the last row; the first value that is not finite ends the run."""
        table = self.metrics.take()
        bad = (~table.isfinite()).nonzero()
        if len(bad):
            row, column = bad[0].tolist()   # the earliest step; in it, the metric named first
            step, name = self.context.step - len(table) + 1 + row, self.metrics.names[column]
            raise self._diverged(step, f"the metric {name!r} is {table[row, column].item()}", name)
        return dict(zip(self.metrics.names, table.mean(0).tolist()))

    def _refuse_bad_tensors(self) -> None:
        bad = bad_tensors(self.learner.module)
        if bad:
            raise self._diverged(self.context.step, f"{bad[0]!r} holds nan or inf", bad[0])

    def _diverged(self, step: int, what: str, where: str) -> TrainingDiverged:
        """The error, with what a person needs to find the reason."""
        rates = [f"{name} {group['lr']:g}" for name, optimizer in self.learner.optimizers.items()
                 for group in optimizer.param_groups]
        message = f"Training stopped at step {step}: {what}. Look "
        message += f"at the learning rate ({', '.join(rates)}) and " if rates else ""
        message += f"at the logarithms, exponentials and divisions behind {where!r}."
        if where in self.learner.hints:
            message += f" {self.learner.hints[where]}"
        bad = bad_tensors(self.learner.module)
        if bad:
            message += f" By now nan or inf stands in {', '.join(bad[:3])}{' and others' if bad[3:] else ''}."
        newest = self.checkpoints.newest() if self.checkpoints else None
        if newest:
            message += f" The last good checkpoint is {newest}."
        return TrainingDiverged(step, message)


def evaluate(
    learner: Learner, data: Data, *, device: str | torch.device = "auto", seed: int = 0,
    batch_size: int = 1000,
) -> dict[str, float]:
    """The learner's numbers on `data`, without gradients; the same seed gives the same noise each time."""
    context = make_context(None, derived_seed(seed, "evaluation"), device, None)
    context.batch_size = batch_size
    module = learner.module.to(context.device)
    context.data = on_device(data, context.device)
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.no_grad(), seeded(derived_seed(seed, "evaluation")):
            values = learner.evaluate(context.data, context)
    finally:
        for part in training:
            part.training = True
    return {name: float(value) for name, value in values.items()}


# --- data on the device ----------------------------------------------------------------------------------

class Batches:
    """Mini-batches sliced from tensors that live on the device, in a new order every epoch.

    The order is drawn on the CPU, so that every device and every process has the same one.
    """

    def __init__(self, context: Context, batch_size: int | None, generator: torch.Generator) -> None:
        self.context, self.generator = context, generator
        self.count = None if context.data is None else number_of_examples(context.data)
        self.whole = batch_size is None and self.count is not None
        self.size = context.batch_size = batch_size or self.count or 1
        self.per_epoch = math.inf if self.count is None else self.count // self.size
        self.position: int | None = None   # batches of this epoch that are used; None before the first epoch
        if self.per_epoch == 0:
            raise ValueError(f"batch_size is {self.size}, but there are only {self.count} examples: make it "
                             "smaller.")
        if self.count is not None and self.size % context.processes:
            raise ValueError(f"A batch of {self.size} cannot be split evenly among {context.processes} "
                             "processes: choose a multiple.")

    @property
    def at_end(self) -> bool:
        return self.position is None or self.position == self.per_epoch

    def shuffle(self) -> None:
        """Begin an epoch: a new permutation of the examples."""
        self.drawn_from = self.generator.get_state()
        self.position = 0
        if self.whole:
            self.order = torch.arange(self.count, device=self.context.device)
        elif self.count is not None:
            self.order = torch.randperm(self.count, generator=self.generator).to(self.context.device)

    def take(self) -> tuple[Tensor | None, Any]:
        """The next batch's rows and data; with several processes, this process's share of them."""
        if self.count is None:
            return None, None
        rows = self.context.local(self.order[self.position * self.size:(self.position + 1) * self.size])
        self.position += 1
        if self.whole and self.context.processes == 1:
            return rows, self.context.data   # all of them, in their own order: nothing to copy
        return rows, take(self.context.data, rows)

    def state(self) -> dict[str, Any]:
        """The generator before this epoch's permutation, and how many of its batches are used."""
        return {"drawn_from": self.drawn_from, "position": self.position}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.generator.set_state(state["drawn_from"])
        self.shuffle()
        self.position = state["position"]


def number_of_examples(data: Tensor | Mapping[str, Tensor]) -> int:
    return len(data) if isinstance(data, Tensor) else len(next(iter(data.values())))


def take(data: Tensor | Mapping[str, Tensor], rows: Tensor | slice) -> Any:
    """Those rows of a tensor, or of every tensor in a mapping."""
    if not isinstance(data, Tensor):
        return {name: take(tensor, rows) for name, tensor in data.items()}
    return data[rows] if isinstance(rows, slice) else data.index_select(0, rows)


def on_device(data: Data, device: torch.device) -> Data:
    """The data on the device, once they are seen to be tensors of one length, not empty, and finite."""
    if data is None:
        return None
    tensors = {"the data": data} if isinstance(data, Tensor) else data
    if not isinstance(tensors, Mapping) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ValueError("The data must be a tensor, a mapping of tensors, or None, but "
                         f"{type(data).__name__} came: of a Dataset, give .images or .flat().")
    lengths = {name: len(tensor) for name, tensor in tensors.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"The data must be tensors of one first dimension, at least 1, but {lengths} came.")
    moved = {name: tensor.to(device) for name, tensor in tensors.items()}
    for name, tensor in moved.items():
        if tensor.is_floating_point() and not extremes(tensor).isfinite().all():
            raise ValueError(f"There is nan or inf in {name}: remove or replace such examples.")
    return moved["the data"] if isinstance(data, Tensor) else moved


def extremes(tensor: Tensor) -> Tensor:
    """The smallest and the largest number, nan if any is: the quickest way to find nan and inf."""
    tensor = tensor.detach()
    return torch.stack(tensor.aminmax()) if tensor.numel() else tensor.new_zeros(2)


# --- metrics ---------------------------------------------------------------------------------------------

class Metrics:
    """The metrics of the steps since the last row: one table on the device, moved off it once per row."""

    def __init__(self, capacity: int, context: Context) -> None:
        self.capacity, self.context, self.count = capacity, context, 0
        self.names: tuple[str, ...] | None = None

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Write one step's metrics into the next line of the table; nothing waits for the device."""
        if self.names is None:
            self._make_table(metrics)
        if tuple(metrics) != self.names:
            raise ValueError(f"training_step returned the metrics {tuple(metrics)}, but {self.names} before: "
                             "return the same ones in every step.")
        if metrics:
            with torch.no_grad():
                torch.stack(tuple(metrics.values()), out=self.table[self.count])
        self.count += 1

    def take(self) -> Tensor:
        """The table so far, on the CPU, shape (steps, metrics), a mean over processes; then empty it."""
        table = self.context.average(self.table[:self.count]).cpu()
        self.count = 0
        return table

    def _make_table(self, metrics: Mapping[str, Tensor]) -> None:
        for name, value in metrics.items():
            if not isinstance(value, Tensor) or value.dim() != 0:
                came = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"The metric {name!r} must be a scalar tensor, but {came} came.")
        self.names = tuple(metrics)
        number = torch.float32 if self.context.device.type == "mps" else torch.float64
        self.table = torch.zeros(self.capacity, len(metrics), dtype=number, device=self.context.device)


# --- options, random numbers, several processes ----------------------------------------------------------

def check_options(learner: Learner, settings: TrainingSettings, context: Context) -> None:
    """Refuse what cannot work before anything is moved or written."""
    if not isinstance(learner, Learner) or not isinstance(getattr(learner, "module", None), nn.Module):
        raise ValueError(f"{type(learner).__name__} is no learner: inherit from nemlib.training.Learner and "
                         "set `module`.")
    if settings.compile == "reduce-overhead" and context.device.type != "cuda":
        raise ValueError("compile='reduce-overhead' captures CUDA graphs, but the device is "
                         f"{context.device}: use 'default' or None here.")
    compilers = (os.environ.get("CXX"), "c++", "g++", "clang++", "cl")
    found = any(compiler and shutil.which(compiler) for compiler in compilers)
    if settings.compile and context.device.type == "cpu" and not found:
        raise ValueError("torch.compile needs a C++ compiler on the CPU, and there is none: install one, or "
                         "leave settings.compile at None.")


def model_name(learner: Learner) -> str:
    return f"{type(learner).__name__} of {type(learner.module).__name__}"


def bad_tensors(module: nn.Module) -> list[str]:
    """Names of parameters that hold nan or inf, and of buffers that hold nan (a mask may hold inf)."""
    flags = {name: ~extremes(tensor).isfinite().all() for name, tensor in module.named_parameters()}
    flags |= {name: extremes(tensor).isnan().any() for name, tensor in module.named_buffers()
              if tensor.is_floating_point()}
    bad = torch.stack(list(flags.values())).tolist() if flags else []   # one wait for the device, not many
    return [name for name, is_bad in zip(flags, bad) if is_bad]


def make_context(
    settings: TrainingSettings | None, seed: int, device: str | torch.device, accelerator: Any
) -> Context:
    where = find_device(device)
    rank = 0 if accelerator is None else accelerator.process_index
    return Context(
        where, derived_generator(seed, "noise", where, rank), derived_generator(seed, "common noise", where),
        batch_size=1, accelerator=accelerator,
        precision="float32" if settings is None else settings.precision,
    )


def derived_generator(seed: int, purpose: str, device: str | torch.device, rank: int = 0) -> torch.Generator:
    return torch.Generator(device).manual_seed(derived_seed(seed, purpose, rank))


def launched_accelerator(device: str | torch.device) -> Any:
    """accelerate's Accelerator where this process is one of several that it launched, else None."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    from accelerate import Accelerator
    return Accelerator(cpu=find_device(device).type == "cpu")


def share_tensors(module: nn.Module, context: Context) -> None:
    """Give every process the tensors of process 0."""
    if context.accelerator is None:
        return
    from accelerate.utils import broadcast
    for tensor in module.state_dict().values():
        tensor.copy_(broadcast(tensor))


def gathered(value: Any, context: Context) -> list[Any]:
    """That value of every process, in their order."""
    if context.accelerator is None:
        return [value]
    from accelerate.utils import gather_object
    return gather_object([value])
