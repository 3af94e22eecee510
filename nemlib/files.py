"""Files that are whole or absent: atomic writing, JSON, and tensors in safetensors.

Everything the package writes goes through `write_atomically`: the data go into a temporary
file beside the target, are flushed to the disk, and are then moved over the target in one step
of the file system. A process that is killed at any moment leaves the old file or the new one,
never half of one, and two processes that write the same file do each other no harm.
"""

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

__all__ = ["load_tensors", "read_json", "save_tensors", "write_atomically", "write_json"]

TEMPORARY = ".part"   # the suffix of a file that is still being written


@contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it into place when the block ends without an error.

    The folder is made where it is missing. If the block raises, the temporary file is removed,
    the old file stays as it was, and the error goes on.

        with write_atomically("weights.bin") as temporary:
            temporary.write_bytes(data)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}")
    try:
        yield temporary
        _share(temporary)
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)   # the new name, too, must outlive a power cut
    finally:
        temporary.unlink(missing_ok=True)


def _share(file: Path) -> None:
    """Give the file the permissions of any new file: some libraries make theirs readable by one user only."""
    umask = os.umask(0)
    os.umask(umask)
    file.chmod(0o666 & ~umask)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON, atomically; a value JSON cannot hold (NaN too) is a ValueError."""
    try:
        text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} was not written, because JSON cannot hold the value: {error}.") from error
    with write_atomically(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value in a JSON file; FileNotFoundError or ValueError say in a sentence what is wrong."""
    path = _existing(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:   # not JSON, or not even text
        raise ValueError(f"{path} is not a complete JSON file ({error}): restore it or remove it.") from error


def save_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write named tensors and their metadata as one safetensors file, atomically.

    `metadata` may hold whatever JSON holds; it is stored in the header of the same file, so that
    the two can never come from different moments. By convention `metadata["model"]` names the
    model, and `load_tensors(path, model=...)` refuses the weights of another.
    """
    # a copy each: safetensors refuses tensors that share memory, as tied weights do
    copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    header = {key: json.dumps(value) for key, value in (metadata or {}).items()}
    with write_atomically(path) as temporary:
        save_file(copies, temporary, metadata=header)


def load_tensors(
    path: str | os.PathLike[str],
    expect: Mapping[str, torch.Tensor | tuple[int, ...]] | None = None,
    model: str | None = None,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote: the tensors, on the CPU, and the metadata.

    expect: names and shapes the file must have, exactly these (a `state_dict()` will do).
    model: the name the file's metadata must give as its model.

    Raises FileNotFoundError, or ValueError where the file is truncated or foreign, belongs to
    another model, lacks a tensor or has one too many, has another shape, or holds NaN.
    """
    path = _existing(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is truncated or foreign, no whole safetensors file ({error}): restore it "
                         "or remove it.") from error
    metadata = {key: _decoded(text) for key, text in header.items()}
    if model is not None and metadata.get("model") != model:
        named = metadata.get("model", "a model without a name")
        raise ValueError(f"{path} is of another model, {named}, but {model} was expected: choose its file.")
    if expect is not None:
        _check_names_and_shapes(path, tensors, expect)
    _refuse_nan(path, tensors)
    return tensors, metadata


def _refuse_nan(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.isnan().any():
            raise ValueError(f"{path} holds NaN in {name!r}, so its run failed: use an earlier file.")


def _check_names_and_shapes(
    path: Path, tensors: Mapping[str, torch.Tensor], expect: Mapping[str, torch.Tensor | tuple[int, ...]]
) -> None:
    missing, foreign = expect.keys() - tensors.keys(), tensors.keys() - expect.keys()
    if missing:
        raise ValueError(f"{path} lacks the tensor {min(missing)!r} ({len(missing)} missing): "
                         "it is another model's file.")
    if foreign:
        raise ValueError(f"{path} has the unexpected tensor {min(foreign)!r}: it is another model's file.")
    for name, wanted in expect.items():
        shape = tuple(wanted.shape) if isinstance(wanted, torch.Tensor) else tuple(wanted)
        if tuple(tensors[name].shape) != shape:
            came = tuple(tensors[name].shape)
            raise ValueError(f"{path} has {name!r} of shape {came}, but {shape} was expected: "
                             "build the model it was made with.")


def _existing(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: check the path.")
    return path


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:   # a file that other software wrote: its metadata are plain strings
        return text


def _flush(path: Path) -> None:
    """Force a file, or a folder's list of names, to the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:   # Windows does not open folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
