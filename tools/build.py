"""Build the book: what `make book` runs, and what the tests look at.

    python tools/build.py                the chapters run in the budget of $BUDGET, into _build/html
    python tools/build.py --for-tests    the same into _build/tests, where something has changed
    python tools/build.py --fresh        everything read and written again

A warning fails the build. A chapter runs again only when its code, nemlib, the data or the budget has changed
(book/_ext/execution.py).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "book" / "vendor"
NODE = ROOT / "node_modules"
BUDGETS = ("smoke", "book", "full")
# What a change of must lead to a new build; node_modules by its lock.
INPUTS = ("_config.yml", "_toc.yml", "requirements.lock", "package-lock.json", "tools/build.py",
          "book", "nemlib", "data", "results")
SKIPPED = {"vendor", "exports", "_build", "__pycache__", ".ipynb_checkpoints"}
# What the pages carry: (folder below node_modules, pattern, folder below book/vendor).
ASSETS = (
    ("mathjax/es5", "tex-chtml.js", "mathjax"),
    ("mathjax/es5/output/chtml/fonts/woff-v2", "*.woff", "mathjax/output/chtml/fonts/woff-v2"),
    ("@jupyter-widgets/html-manager/dist", "embed.js", "widgets"),
    ("@jupyter-widgets/html-manager/dist", "*.woff2", "widgets"),
    ("@fontsource-variable/source-serif-4/files", "*-latin-opsz-*.woff2", "fonts"),
    ("@fontsource-variable/source-serif-4/files", "*-latin-ext-wght-*.woff2", "fonts"),
    ("@fontsource-variable/source-serif-4/files", "*-greek-wght-*.woff2", "fonts"),
    ("@fontsource-variable/source-sans-3/files", "*-latin-wght-*.woff2", "fonts"),
    ("@fontsource-variable/source-sans-3/files", "*-latin-ext-wght-*.woff2", "fonts"),
    ("@fontsource-variable/source-sans-3/files", "*-greek-wght-*.woff2", "fonts"),
    ("@fontsource-variable/source-code-pro/files", "*-latin-wght-*.woff2", "fonts"),
    ("@fontsource-variable/source-code-pro/files", "*-greek-wght-normal.woff2", "fonts"),
)


# What a build prints that helps nobody to find a fault.
NOISE = re.compile(
    r"^\s*$|^=+$|^done$|^[a-z][\w \[\]-]*:|^[a-z].*\.\.\. |"
    r"^(?:Running|Source Folder|Config Path|Output Path|\[etoc\]|Copying the source path|Using jupyter-cache|"
    r"Finished generating|Building your book)|"
    r"Execut(?:ed|ing) notebook|Using cached notebook|Cached executed|Config\(|multitoc-numbering v"
)
COLOUR = re.compile(r"\x1b\[[\d;]*m")
TITLE = "From Gibbs sampling to Neural Expectation-Maximization"
FRONT_DOOR = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{TITLE}</title>
<meta http-equiv="refresh" content="0; url=book/index.html"></head>
<body><main><h1><a href="book/index.html">{TITLE}</a></h1></main></body>
</html>
"""


class BuildFailed(Exception):
    """The book did not build; the message ends with a sentence that says what to do."""


def main() -> None:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("--for-tests", action="store_true", help="into _build/tests, where something changed")
    parser.add_argument("--fresh", action="store_true", help="read and write every page again")
    arguments = parser.parse_args()
    started = time.perf_counter()
    try:
        print(f"Building the book in budget {budget()}: chapters that have not run with this code run now.",
              flush=True)
        pages = build_for_tests() if arguments.for_tests else build(ROOT, fresh=arguments.fresh)
    except BuildFailed as error:
        sys.exit(f"\n{error}\n")
    index = pages / "index.html"
    print(f"\nThe book is built ({budget()} budget, {time.perf_counter() - started:.0f} s). Open it:\n\n"
          f"    {index.as_uri()}\n\nor run `make serve` and open http://127.0.0.1:8000.\n")


def budget() -> str:
    name = os.environ.get("BUDGET") or "book"
    if name not in BUDGETS:
        raise BuildFailed(f"BUDGET is {name!r}: choose one of {', '.join(BUDGETS)}.")
    return name


def build(output: Path, *, fresh: bool = False, quiet: bool = False) -> Path:
    """Run jupyter-book on the repository and return the folder of the pages, ``output/_build/html``.

    Raises BuildFailed where a warning or an error occurred.
    """
    environment = os.environ | {"BUDGET": budget(), "PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1",
                                "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    vendor_assets()
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(ROOT),
               "--path-output", str(output), "-W", "-n", "--keep-going", *(["--all"] if fresh else [])]
    with one_at_a_time(output / "_build"):
        process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT)
        printed = []
        for line in process.stdout:
            printed.append(COLOUR.sub("", line))
            tell(printed[-1], quiet)
        code = process.wait()
    if code:
        # Sphinx warns about a page only when it reads it: without this a second build would pass
        shutil.rmtree(output / "_build" / ".doctrees", ignore_errors=True)
        lines = [line for line in printed if not NOISE.search(line)]
        raise BuildFailed("".join(lines[-150:]) + "\nThe book did not build: what is wrong stands above.")
    pages = output / "_build" / "html"
    (pages / "index.html").write_text(FRONT_DOOR, encoding="utf-8")
    return pages


def tell(line: str, quiet: bool) -> None:
    """Say which chapter runs, which is what takes the time, and how long it took."""
    event = re.search(r"([^/\\:]+)\.(?:ipynb|md): Execut(?:ing|ed) notebook(?: in ([\d.]+) seconds)?", line)
    if event and not quiet:
        name, seconds = event.groups()
        print(f"  {name} took {float(seconds):.0f} s" if seconds else f"  {name} runs …", flush=True)


def build_for_tests() -> Path:
    """The book for the tests, built where something has changed; two workers may ask at the same time."""
    output = ROOT / "_build" / "tests"
    pages, stamp = output / "_build" / "html", output / "up-to-date"
    with one_at_a_time(output, name="tests"):
        key = fingerprint()
        if not (pages.exists() and stamp.exists() and stamp.read_text() == key):
            stamp.unlink(missing_ok=True)
            build(output, quiet=True)
            stamp.write_text(key)
    return pages


def fingerprint() -> str:
    """A hash over the budget and every file that goes into the book."""
    digest = hashlib.sha256(budget().encode())
    for name in INPUTS:
        top = ROOT / name
        files = [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.is_file())
        for path in files:
            if not SKIPPED & set(path.relative_to(ROOT).parts):
                digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def python_path() -> str:
    """The chapters import nemlib from this tree, also where it is not installed."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def vendor_assets() -> None:
    """Copy what the pages carry out of node_modules into book/vendor, where it is not there yet."""
    stamp, lock = VENDOR / "stamp", ROOT / "package-lock.json"
    key = hashlib.sha256(lock.read_bytes() + repr(ASSETS).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == key:
        return
    with one_at_a_time(ROOT / "_build", name="vendor"):
        shutil.rmtree(VENDOR, ignore_errors=True)
        for source, pattern, target in ASSETS:
            found = sorted((NODE / source).glob(pattern))
            if not found:
                raise BuildFailed(f"node_modules/{source}/{pattern} is missing: run `make book` with Node.js "
                                  "18 or newer on the PATH, or `npm ci` in this folder.")
            (VENDOR / target).mkdir(parents=True, exist_ok=True)
            for file in found:
                shutil.copyfile(file, VENDOR / target / file.name)
        stamp.write_text(key)


@contextlib.contextmanager
def one_at_a_time(folder: Path, name: str = "build") -> Iterator[None]:
    """Hold a lock in ``folder``; where the platform has none (Windows), go on without."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(folder / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    main()
