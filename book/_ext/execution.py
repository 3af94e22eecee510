"""When a chapter has to run again, and how quietly.

jupyter-cache looks at a notebook's code alone: it would show old outputs after a change in ``nemlib``, in the
data or in the budget. So the folder of the cache carries a hash of all three in its name, and since that name
is part of Sphinx's configuration, a new name makes Sphinx read the chapters again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

KEPT_CACHES = 4     # budgets and branches that a reader goes back and forth between
SKIPPED = {"__pycache__", ".ipynb_checkpoints"}
QUIET_KERNEL = "c.IPKernelApp.log_level = 40\n"     # ipykernel 7 prints a line about TCP for each kernel


def budget() -> str:
    return os.environ.get("BUDGET") or "book"


def execution_inputs(root: Path) -> list[Path]:
    """The files whose change can change an output: the package, the data, the recorded runs and the lock.

    Files directly in ``results/`` are written by the tests and read by the extensions, never by a chapter.
    """
    files = [root / "requirements.lock"]
    for folder in (root / "nemlib", root / "data", *sorted((root / "results").glob("*/"))):
        files += [path for path in folder.rglob("*") if path.is_file() and not SKIPPED & set(path.parts)]
    return sorted(path for path in files if path.exists())


def execution_key(root: Path, budget: str) -> str:
    """Budget and a hash over names and contents, such as ``book-3f2a9c1d5e6b7a80``."""
    digest = hashlib.sha256()
    for path in execution_inputs(root):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{budget}-{digest.hexdigest()[:16]}"


def forget_old_caches(folder: Path, keep: str) -> None:
    """Keep the caches used last."""
    caches = sorted((path for path in folder.glob("*-*") if path.name != keep),
                    key=lambda path: path.stat().st_mtime, reverse=True)
    for path in caches[KEPT_CACHES - 1:]:
        shutil.rmtree(path, ignore_errors=True)


def prepare(app: Sphinx, config: Config) -> None:
    root = Path(app.srcdir)
    folder, key = root / "_build" / ".execution", execution_key(root, budget())
    (folder / key).mkdir(parents=True, exist_ok=True)
    os.utime(folder / key)
    forget_old_caches(folder, keep=key)
    config.nb_execution_cache_path = str(folder / key)
    if budget() == "full":
        config.nb_execution_timeout = -1
    profile = root / "_build" / ".ipython" / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "ipython_kernel_config.py").write_text(QUIET_KERNEL)
    os.environ["IPYTHONDIR"] = str(profile.parent)
    os.environ.pop("MPLBACKEND", None)      # a figure is an output only with IPython's own backend
    os.environ["NEMLIB_QUIET"] = "1"        # a progress bar that has stopped is no part of a page


def setup(app: Sphinx) -> dict:
    app.connect("config-inited", prepare, priority=100)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
