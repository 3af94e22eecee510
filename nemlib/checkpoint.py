"""Checkpoints: the whole state of a run in one file that is there or is not.

A state is a tree of dictionaries, lists and numbers with tensors as leaves. The tensors are stored as
safetensors; the rest of the tree is JSON and stands in the header of the same file. One file and one move
by the file system: a process killed at any moment can leave no half checkpoint, and no tensors of
one step beside the optimizer of another.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nemlib.files import TEMPORARY, load_tensors, save_tensors

__all__ = ["Checkpoints", "check_tensors", "pack", "random_state", "set_random_state", "unpack"]

NAME = re.compile(r"step-(\d+)\.safetensors")


class Checkpoints:
    """The numbered checkpoints of one run, step-00000100.safetensors and so on; the newest `keep` stay."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def paths(self) -> list[Path]:
        """All complete checkpoints, the oldest first."""
        found = [(NAME.fullmatch(path.name), path) for path in self.folder.glob("step-*.safetensors")]
        return [path for _, path in sorted((int(match[1]), path) for match, path in found if match)]

    def newest(self) -> Path | None:
        return self.paths()[-1] if self.paths() else None

    def save(self, step: int, state: Mapping[str, Any], model: str) -> Path:
        """Write the state of that step and remove what is older than the newest `keep`."""
        path = self.folder / f"step-{step:08d}.safetensors"
        tensors: dict[str, torch.Tensor] = {}
        tree = pack(state, tensors)
        save_tensors(path, tensors, {"model": model, "state": tree})
        for old in self.paths()[:-self.keep]:
            old.unlink(missing_ok=True)
        return path

    def load(self, path: Path, model: str) -> dict[str, Any]:
        """The state in that file, tensors on the CPU; ValueError where it is damaged or another model's."""
        tensors, metadata = load_tensors(path, model=model)
        if "state" not in metadata:
            raise ValueError(f"{path} holds weights but no state of a run: no run can resume from it.")
        return unpack(metadata["state"], tensors)

    def remove_unfinished(self) -> None:
        """Remove what a killed process was still writing."""
        for path in self.folder.glob(f".*{TEMPORARY}"):
            path.unlink(missing_ok=True)


def pack(tree: Any, tensors: dict[str, torch.Tensor], name: str = "") -> Any:
    """The tree as JSON can hold it; its tensors go into `tensors` under their place in the tree.

    Everything JSON would change becomes a list that begins with a mark: a tensor, a tuple, a
    dictionary whose keys are no strings (an optimizer numbers its parameters), and a plain list itself.
    """
    if isinstance(tree, torch.Tensor):
        tensors[name] = tree
        return ["tensor", name]
    if isinstance(tree, Mapping):
        before = f"{name}/" if name else ""
        packed = {key: pack(value, tensors, f"{before}{key}") for key, value in tree.items()}
        return packed if all(isinstance(key, str) for key in tree) else ["mapping", list(packed.items())]
    if isinstance(tree, (list, tuple)):
        values = [pack(value, tensors, f"{name}/{index}") for index, value in enumerate(tree)]
        return ["tuple" if isinstance(tree, tuple) else "list", values]
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    raise ValueError(f"A checkpoint cannot hold {name}, a {type(tree).__name__}: make it a number or tensor.")


def unpack(tree: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The tree that `pack` was given."""
    if isinstance(tree, dict):
        return {key: unpack(value, tensors) for key, value in tree.items()}
    if not isinstance(tree, list):
        return tree
    kind, content = tree
    if kind == "tensor":
        return tensors[content]
    if kind == "mapping":
        return {key: unpack(value, tensors) for key, value in content}
    values = [unpack(value, tensors) for value in content]
    return tuple(values) if kind == "tuple" else values


def check_tensors(path: Path, came: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Refuse the checkpoint at `path` whose module has other tensors, shapes or types than this one."""
    for name in sorted(came.keys() | expected.keys()):
        theirs, ours = (f"{tuple(tensors[name].shape)} {tensors[name].dtype}" if name in tensors else "absent"
                        for tensors in (came, expected))
        if theirs != ours:
            raise ValueError(f"{path} is of a model of other sizes: {name!r} is {theirs} there, {ours} here.")


def random_state(generators: Mapping[str, torch.Generator], device: torch.device) -> dict[str, torch.Tensor]:
    """The states of these generators, and of PyTorch's global one, from which its dropout draws."""
    state = {name: generator.get_state() for name, generator in generators.items()}
    state["global"] = torch.get_rng_state()
    if device.type == "cuda":
        state["global on the GPU"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(
    state: Mapping[str, torch.Tensor], generators: Mapping[str, torch.Generator], device: torch.device
) -> None:
    """Let the same generators go on from where `random_state` saw them."""
    for name, generator in generators.items():
        generator.set_state(state[name])
    torch.set_rng_state(state["global"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["global on the GPU"], device)
