"""Make the environment that the book and its tests use, from the one lock; do nothing if it stands.

    python tools/install.py            the Python environment in .venv and the page's assets
    python tools/install.py --test     and what the browser tests need

Written with the standard library alone: it runs before anything is installed.
"""

from __future__ import annotations      # so that an older Python gets as far as the sentence about its age

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
LOCK = ROOT / "requirements.lock"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CHROMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test", action="store_true", help="also install what the browser tests need")
    arguments = parser.parse_args()
    require_tools()
    install_python()
    install_node(with_tests=arguments.test)
    if arguments.test:
        install_browser()


def stop(sentence: str) -> None:
    sys.exit(f"\n{sentence}\n")


def run(*command: str | Path, **options) -> None:
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT, **options)


def require_tools() -> None:
    """Say in one sentence what is missing, before anything is downloaded."""
    if sys.version_info < (3, 11):
        stop(f"Python 3.11 or newer is needed and this is {platform.python_version()}: install it, or say "
             "`make PYTHON=/path/to/python3.11 book`.")
    if not (shutil.which("node") and shutil.which("npm")):
        stop("Node.js 18 or newer with npm is needed (the pages carry their own MathJax and fonts, which npm "
             "fetches): install it from https://nodejs.org and run the same command again.")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < 18:
        stop(f"Node.js 18 or newer is needed and this is {version}: install a newer one from https://nodejs.org.")


def fingerprint(*files: Path) -> str:
    digest = hashlib.sha256(platform.python_version().encode())
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def done(stamp: Path, key: str) -> bool:
    return stamp.exists() and stamp.read_text() == key


def install_python() -> None:
    stamp, key = VENV / ".installed", fingerprint(LOCK, ROOT / "pyproject.toml", Path(__file__))
    if done(stamp, key):
        return
    print("Making the Python environment in .venv (about two minutes the first time) …", flush=True)
    if not PYTHON.exists():
        try:
            venv.EnvBuilder(with_pip=True, clear=VENV.exists()).create(VENV)
        except (subprocess.CalledProcessError, ImportError):
            stop("Python's venv module cannot make an environment here: on Debian or Ubuntu run "
                 "`sudo apt-get install python3-venv` and then the same command again.")
    try:
        install_torch()
        pip("install", "-r", LOCK)
        pip("install", "--no-deps", "--no-build-isolation", "--editable", ROOT)
    except subprocess.CalledProcessError as error:
        stop(f"Installing the Python packages failed (pip's message stands above, exit code {error.returncode}): "
             "check the network and run the same command again; what was installed is kept.")
    stamp.write_text(key)


def pip(*arguments: str | Path, **options) -> None:
    run(PYTHON, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments, **options)


def install_torch() -> None:
    """On Linux without an NVIDIA GPU ask for the CPU build, so that no gigabytes of CUDA are pulled."""
    pinned = next(line for line in LOCK.read_text().splitlines() if line.startswith("torch=="))
    wants_cpu = sys.platform == "linux" and not (shutil.which("nvidia-smi") or Path("/dev/nvidia0").exists())
    if wants_cpu:
        try:
            pip("install", "--retries", "1", "--timeout", "15", "--constraint", LOCK, "--index-url", CPU_INDEX,
                pinned, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            return
        except subprocess.CalledProcessError:
            print("The index of PyTorch's CPU builds cannot be reached; taking the plain pinned version.", flush=True)
    pip("install", "--constraint", LOCK, pinned)


def install_node(with_tests: bool) -> None:
    stamp = ROOT / "node_modules" / ".installed"
    key = fingerprint(ROOT / "package-lock.json")
    if any(done(stamp, key + kind) for kind in ([" test"] if with_tests else [" test", " book"])):
        return
    print("Fetching what the pages carry with them (MathJax, fonts, widgets) with npm …", flush=True)
    omit = [] if with_tests else ["--omit=dev"]
    try:
        run(shutil.which("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", *omit)
    except subprocess.CalledProcessError as error:
        stop(f"`npm ci` failed (its message stands above, exit code {error.returncode}): check the network and "
             "run the same command again.")
    stamp.write_text(key + (" test" if with_tests else " book"))


def find_browser() -> str | None:
    """The path of a Chrome-like browser: $CHROME, one on the PATH, or where macOS keeps it."""
    named = [os.environ["CHROME"]] if os.environ.get("CHROME") else []
    found = [shutil.which(name) for name in named + list(CHROMES)]
    found.append("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
    return next((path for path in found if path and Path(path).exists()), None)


def install_browser() -> None:
    if find_browser():
        return
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        print("Installing chromium for the browser tests …", flush=True)
        quiet = {"stdout": subprocess.DEVNULL}
        try:
            run("apt-get", "update", **quiet)
            run("apt-get", "install", "--yes", "--no-install-recommends", "chromium", **quiet)
            return
        except subprocess.CalledProcessError:
            pass
    stop("The tests open every page in a browser and none was found: install Chrome or Chromium "
         "(Debian: `sudo apt-get install chromium`), or name one with `CHROME=/path/to/it make test`.")


if __name__ == "__main__":
    main()
