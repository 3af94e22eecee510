"""The walls of the house: inside nemlib imports run downwards only, and models leave files, pictures and printing alone."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NEMLIB = ROOT / "nemlib"

# Each room with the rooms it may import from; nemlib's models are what is in no other room.
ROOMS = {
    "files": set(),
    "data": {"files"},
    "checkpoint": {"files"},
    "history": {"files"},
    "training": {"files", "checkpoint", "history"},
    "evaluate": {"files", "data"},
    "networks": set(),
    "models": {"networks", "training", "evaluate"},
    "plot": set(),
    "exercises": {"models", "networks", "training", "evaluate", "data"},
    "explore": {"models", "networks", "training", "evaluate", "data", "plot"},
    "experiments": {"models", "networks", "training", "evaluate", "data", "plot", "files", "history", "checkpoint"},
}
MEETING_PLACES = {"vae_gmm": {"vae", "gmm"}}      # the one model that may use others
FOREIGN = {"matplotlib", "IPython", "ipywidgets", "argparse", "pathlib", "h5py"}      # what a model never imports


def room_of(module: str) -> str:
    name = module.split(".")[1] if "." in module else ""
    return name if name in ROOMS else "models"


def imports(source: str, package: str = "nemlib") -> set[str]:
    """The modules that a file imports, `from nemlib import gibbs` as nemlib.gibbs."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == package:
                found |= {f"{package}.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    return found - {f"{package}.__version__"}


def breaches(module: str, source: str) -> list[str]:
    """The imports of one module of nemlib that break a wall."""
    room, found = room_of(module), []
    for imported in sorted(imports(source)):
        if not imported.startswith("nemlib."):
            if room == "models" and imported.split(".")[0] in FOREIGN:
                found.append(f"{module} is a model and imports {imported}")
            continue
        other = room_of(imported)
        neighbours = MEETING_PLACES.get(module.split(".")[1], set())
        if room == other and (room != "models" or imported.split(".")[1] in neighbours):
            continue
        if other not in ROOMS[room]:
            found.append(f"{module} ({room}) imports {imported} ({other})")
    return found


def modules() -> dict[str, Path]:
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path
            for path in sorted(NEMLIB.rglob("*.py")) if path != NEMLIB / "__init__.py"}


def test_imports_run_downwards():
    assert [line for name, path in modules().items() for line in breaches(name, path.read_text())] == []


@pytest.mark.parametrize("module, source", [
    ("nemlib.gibbs", "from nemlib import plot"), ("nemlib.gibbs", "import matplotlib.pyplot as plt"),
    ("nemlib.rbm", "from nemlib.gibbs import Ising"), ("nemlib.data.mnist", "from nemlib import training"),
    ("nemlib.training", "from nemlib.gibbs import Ising"), ("nemlib.exercises.gibbs", "import nemlib.explore"),
])
def test_a_broken_wall_is_noticed(module, source):
    assert breaches(module, source)


def test_the_meeting_place_may_use_its_two_models():
    assert breaches("nemlib.vae_gmm", "from nemlib.vae import VAE\nfrom nemlib import gmm") == []


def test_models_and_training_print_nothing():
    speakers = [name for name, path in modules().items() if room_of(name) in {"models", "training", "data", "evaluate"}
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"]
    assert speakers == []
