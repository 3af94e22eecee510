"""One lock: pyproject.toml, environment.yml, package.json and what is installed agree with it."""

import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent


def locked() -> dict[str, Version]:
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.lock").read_text().splitlines()]
    pins = [line.split("==") for line in lines if line]
    return {canonicalize_name(name): Version(version) for name, version in pins}


def declared() -> dict[str, list[Requirement]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"nemlib": project["dependencies"], **project["optional-dependencies"]}
    return {group: [Requirement(line) for line in lines] for group, lines in groups.items()}


def mismatches(pins: dict[str, Version], groups: dict[str, list[Requirement]]) -> list[str]:
    found = []
    for group, requirements in groups.items():
        for requirement in requirements:
            version = pins.get(canonicalize_name(requirement.name))
            if version is None:
                found.append(f"{requirement.name} ({group}) is not in requirements.lock")
            elif version not in requirement.specifier:
                found.append(f"{requirement} ({group}) does not admit the locked {version}")
    return found


def test_every_declared_dependency_is_locked_and_admits_its_lock():
    assert mismatches(locked(), declared()) == []


def test_a_missing_or_too_old_pin_is_noticed():
    groups = {"nemlib": [Requirement("torch>=2.4"), Requirement("h5py>=3")]}
    assert len(mismatches({"torch": Version("2.3")}, groups)) == 2


def test_each_dependency_is_explained_in_one_line():
    text = (ROOT / "pyproject.toml").read_text()
    dependencies = text[text.index("dependencies = ["):text.index("[project.optional-dependencies]")]
    unexplained = [line for line in dependencies.splitlines() if line.strip().startswith('"') and "#" not in line]
    assert unexplained == []


def test_environment_yml_takes_its_versions_from_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(part["pip"] for part in environment["dependencies"] if isinstance(part, dict))
    assert pip == ["--requirement requirements.lock", "--editable ."]
    python = next(part for part in environment["dependencies"] if str(part).startswith("python"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert python.removeprefix("python") == project["requires-python"]


def test_what_is_installed_is_what_is_locked():
    different = []
    for name, version in locked().items():
        try:
            installed = Version(importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            different.append(f"{name} {version} is not installed")
            continue
        if installed.public != version.public:
            different.append(f"{name}: {installed} is installed, {version} is locked")
    assert different == []


def test_torch_without_a_gpu_brings_no_cuda_packages():
    import torch

    if torch.version.cuda:
        pytest.skip("this is a CUDA build: the machine has a GPU, or the CPU index could not be reached")
    nvidia = [d.name for d in importlib.metadata.distributions() if (d.name or "").startswith("nvidia-")]
    assert nvidia == []


def test_the_node_lock_agrees_with_package_json():
    package = json.loads((ROOT / "package.json").read_text())
    lock = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    for group in ("dependencies", "devDependencies"):
        for name, version in package[group].items():
            assert lock[f"node_modules/{name}"]["version"] == version
    assert not re.search(r'"resolved": "(?!https://registry\.npmjs\.org/)', json.dumps(lock))


def test_one_version_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    import nemlib

    assert nemlib.__version__ == project["version"] == citation["version"]


def load_installer():
    spec = importlib.util.spec_from_file_location("install", ROOT / "tools" / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_installing_twice_costs_nothing():
    script = "import tools.install as i; i.run = lambda *a, **k: (_ for _ in ()).throw(AssertionError(a)); i.main()"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, timeout=20)


@pytest.mark.parametrize("missing, word", [("node", "nodejs.org"), ("npm", "nodejs.org")])
def test_a_missing_tool_is_named_in_one_sentence(monkeypatch, missing, word):
    installer = load_installer()
    monkeypatch.setattr(installer.shutil, "which", lambda name: None if name == missing else f"/usr/bin/{name}")
    with pytest.raises(SystemExit, match=word):
        installer.require_tools()


def test_an_old_python_is_named_in_one_sentence(monkeypatch):
    installer = load_installer()
    monkeypatch.setattr(installer.sys, "version_info", (3, 10, 4))
    with pytest.raises(SystemExit, match="Python 3.11 or newer"):
        installer.require_tools()


@pytest.mark.parametrize("has_gpu, reachable, expected", [
    (True, True, ["plain"]), (False, True, ["cpu"]), (False, False, ["cpu", "plain"]),
])
def test_torch_comes_from_the_cpu_index_unless_there_is_a_gpu_or_no_index(monkeypatch, has_gpu, reachable, expected):
    installer = load_installer()
    monkeypatch.setattr(installer.sys, "platform", "linux")
    monkeypatch.setattr(installer.shutil, "which", lambda name: "/usr/bin/nvidia-smi" if has_gpu else None)
    calls = []

    def pip(*arguments, **options):
        calls.append("cpu" if installer.CPU_INDEX in arguments else "plain")
        if calls[-1] == "cpu" and not reachable:
            raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(installer, "pip", pip)
    if not has_gpu and Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    installer.install_torch()
    assert calls == expected
