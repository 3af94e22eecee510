# Set-up: finds nemlib, or fetches it beside the PyTorch that is here. Written by tools/setup_cell.py.
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = os.environ.get("NEMLIB_REPOSITORY") or "ADDRESS"
VERSION = "v0.0.0"
KEPT = {"torch", "torchvision", "torchaudio", "numpy"}      # what pip must leave as it is


def stop(sentence):
    raise SystemExit(sentence)


def run(*command):
    """Run a command; returns None, or its last words where it failed."""
    quiet = os.environ | {"GIT_TERMINAL_PROMPT": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    try:
        done = subprocess.run(command, env=quiet, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no word"])[-1]


def is_clone(folder):
    return (folder / "nemlib" / "__init__.py").is_file() and (folder / "pyproject.toml").is_file()


def clone_into(folder):
    """The repository at the book's version, or as it is now where that version has no tag."""
    clone = ["git", "clone", "--depth", "1"]
    if run(*clone, "--branch", VERSION, REPOSITORY, str(folder)):
        words = run(*clone, REPOSITORY, str(folder))
        if words:
            stop(f"git failed ({words}): check the network and that git is installed, or put a clone of "
                 f"{REPOSITORY} into {folder.parent}.")


def install(folder):
    """nemlib and what it lacks; the versions of KEPT stay."""
    installed = {part.metadata["Name"]: part.version for part in importlib.metadata.distributions()}
    with tempfile.TemporaryDirectory() as scratch:
        kept = Path(scratch) / "kept.txt"
        kept.write_text("".join(f"{name}=={installed[name]}\n" for name in KEPT & set(installed)))
        words = run(sys.executable, "-m", "pip", "install", "--quiet", "-c", str(kept), "-e", str(folder))
    if words:
        stop(f"pip failed ({words}): try `%pip install -e {folder}`, which says more.")


if sys.version_info < (3, 11):
    stop(f"nemlib needs Python 3.11 and this kernel is {sys.version.split()[0]}: choose a newer kernel.")
found = importlib.util.find_spec("nemlib")
if found is None or found.origin is None:
    here = Path.cwd()
    clone = next((folder for folder in (here, *here.parents) if is_clone(folder)), None)
    if clone is None:
        clone = here / "nemlib-book"
        if not is_clone(clone):
            clone_into(clone)
        install(clone)
    sys.path.insert(0, str(clone))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(clone), os.environ.get("PYTHONPATH")]))
    importlib.invalidate_caches()
try:
    import torch

    import nemlib
    from nemlib import training
except ModuleNotFoundError as error:
    stop(f"nemlib is here and {error.name} is missing: run `make book` in the clone and choose the kernel of "
         "its .venv, or run `%pip install -e .` there.")
print(f"nemlib {nemlib.__version__} · PyTorch {torch.__version__} · device {training.device('auto')} · "
      f"budget {training.budget()}")
