"""Curves that a run keeps of its evaluations, as tensors of its module: they survive an interruption and are
shipped with the weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["Record"]


class Record(nn.Module):
    """The values of all evaluations so far, as buffers: rows that are not there yet have step 0."""

    def __init__(self, rows: int, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names
        self.register_buffer("steps", torch.zeros(rows, dtype=torch.int64))
        self.register_buffer("values", torch.zeros(rows, len(names)))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Keep the values of that training step; nothing if there is a row of it or of a later one."""
        row = int(self.steps.count_nonzero())
        if step > int(self.steps.max()) and row < len(self.steps):
            self.steps[row] = step
            self.values[row] = torch.tensor([float(values[name]) for name in self.names])

    def curves(self) -> dict[str, tuple[Tensor, Tensor]]:
        """By name, the steps and the values of each metric, two tensors of one length."""
        done = self.steps > 0
        return {name: (self.steps[done], self.values[done, column]) for column, name in enumerate(self.names)}
