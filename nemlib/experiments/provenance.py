"""Where a recorded number comes from: the machine, the versions and the commit that made it."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlparse
from urllib.request import url2pathname

import nemlib

CODE = ("nemlib", "data", "pyproject.toml", "requirements.lock")   # what a run's numbers depend on


def source_tree() -> Path | None:
    """The clone that this nemlib comes from: the folder it stands in, or the one pip installed it from."""
    beside = Path(nemlib.__file__).resolve().parents[1]
    if (beside / "pyproject.toml").is_file():
        return beside
    try:
        record = metadata.distribution("nemlib").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return None
    address = urlparse(json.loads(record).get("url", "")) if record else None
    folder = Path(url2pathname(unquote(address.path))) if address and address.scheme == "file" else None
    return folder if folder and (folder / "nemlib").is_dir() else None


def now() -> str:
    """The present moment, UTC, to the second: `2026-01-31T12:00:00Z`."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def commit() -> dict[str, object]:
    """`{"hash": str | None, "clean": bool | None}`: the commit whose code runs, and whether it was changed
    since.

    Only what a number depends on is looked at (the package, its data and its pins): a chapter being written,
    or a result just recorded, does not make a run's code differ. Both are None outside a clone.
    """
    tree = source_tree()
    if tree is None:
        return {"hash": None, "clean": None}
    head = _git(tree, "rev-parse", "--verify", "--quiet", "HEAD")
    changes = _git(tree, "status", "--porcelain", "--untracked-files=all", "--", *CODE)
    if head is None or changes is None:
        return {"hash": None, "clean": None}
    return {"hash": head.strip(), "clean": changes.strip() == ""}


def _git(tree: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(["git", "-C", str(tree), *arguments], capture_output=True, text=True,
                                timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer.returncode == 0 else None


def versions() -> dict[str, str]:
    """The versions that can change a number: Python, PyTorch, NumPy and nemlib."""
    found = {"python": platform.python_version(), "nemlib": nemlib.__version__}
    for name in ("torch", "numpy"):
        found[name] = metadata.version(name)
    return found


def hardware(device) -> dict[str, object]:
    """The machine: processor, cores it may use, threads it did use, memory in GiB, and the device of the run.

    device: `torch.device` that the run used; for a GPU its name and memory are given too.
    """
    import torch

    machine: dict[str, object] = {
        "cpu": _cpu_name(), "cores": _cores(), "threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(), "system": platform.system(), "device": device.type,
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        machine |= {"gpu": properties.name, "gpu_memory_gib": round(properties.total_memory / 2**30, 1)}
    return machine


def describe_hardware(machine: dict) -> str:
    """One short phrase for a table, e.g. "AMD EPYC, 2 cores" or "NVIDIA H200"."""
    where = machine.get("gpu") or f"{machine['cpu']}, {machine['cores']} cores"
    many = machine.get("processes", 1)
    return f"{many} × {where}" if many > 1 else where


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
        names = re.findall(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    except OSError:
        names = []
    if sys.platform == "darwin" and not names:
        answer = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)
        names = [answer.stdout.strip()]
    return " ".join((names[0] if names and names[0] else platform.processor() or platform.machine()).split())


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
