"""What one recorded experiment is: settings in three sizes, and four functions over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from nemlib import training
from nemlib.experiments.results import Metric
from nemlib.training import Learner, TrainingSettings


@dataclass(frozen=True)
class Built:
    """What `nemlib.training.train` is given: learner, data (None for a sampler), and the loop's settings."""

    learner: Learner
    data: Tensor | Mapping[str, Tensor] | None
    evaluation_data: Tensor | Mapping[str, Tensor] | None
    training: TrainingSettings


def all_tensors(learner: Learner) -> Mapping[str, Tensor]:
    return learner.module.state_dict()


@dataclass(frozen=True)
class Experiment:
    """One experiment that `nemlib train NAME` knows.

    name: as the command line and the folder of `results/` have it. summary: one line for `nemlib list`.
    presets: settings under "smoke" (seconds: does it run?), "book" (minutes) and "full" (the numbers we
    print).
    build: called as build(settings, seed); makes learner and data; initial weights depend on the seed alone.
    measure: called as measure(built, settings, device, seed) when training has ended; the metrics to record,
        each with its protocol. It must give the same numbers from shipped weights as at the end of training.
    sample: called as sample(built, settings, count, generator); images in [0, 1], (count, height, width).
    weights: the tensors to ship, which `learner.module.load_state_dict` must accept; small ones.
    """

    name: str
    summary: str
    presets: Mapping[str, Any]
    build: Callable[[Any, int], Built]
    measure: Callable[[Built, Any, torch.device, int], dict[str, Metric]]
    sample: Callable[[Built, Any, int, torch.Generator], Tensor]
    weights: Callable[[Learner], Mapping[str, Tensor]] = all_tensors

    def settings(self, preset: str) -> dict[str, Any]:
        """A preset as JSON would hold it, group by group."""
        return _plain(asdict(self.presets[preset]))


def generator(seed: int, purpose: str, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator for one purpose of one run: different purposes share no random numbers."""
    return torch.Generator(device).manual_seed(training.derived_seed(seed, purpose))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
