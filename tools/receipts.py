"""Measure what each chapter costs to run: what `make receipts` does.

    python tools/receipts.py [CHAPTER …]                 in budget $BUDGET (`book` if not set), on the CPU
    BUDGET=full python tools/receipts.py --device gpu    in the full budget, where there is a GPU

Each chapter runs in a kernel of its own, as the book's build runs it. Time is from the kernel's start to its
last cell; memory is the kernel's largest resident set. `results/receipts.json` keeps the last measurement of
each budget, and the directive `{receipt}` (book/_ext/chapter_receipt.py) prints it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import nbformat
import torch
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "book" / "_ext")]

import chapter_receipt  # noqa: E402  (the extension: what is measured here is printed there)
import sources  # noqa: E402
from nemlib import files  # noqa: E402
from nemlib.experiments import provenance  # noqa: E402

# The peak of this process alone: ru_maxrss would also count the process that started the kernel.
PEAK = """
import json, pathlib, re, resource, sys
_status = pathlib.Path("/proc/self/status")
_match = re.search(r"VmHWM:\\s+(\\d+) kB", _status.read_text()) if _status.exists() else None
_bytes = int(_match[1]) * 1024 if _match else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
    1 if sys.platform == "darwin" else 1024)
_gpu = sys.modules["torch"].cuda.max_memory_allocated() if "torch" in sys.modules else 0
print(json.dumps([_bytes, _gpu]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("chapters", nargs="*", help="such as 01-gibbs; all of them where none is named")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    arguments = parser.parse_args()
    budget = os.environ.get("BUDGET") or "book"
    if budget not in chapter_receipt.MACHINES:
        sys.exit(f"BUDGET is {budget!r}: a receipt is measured in {' or '.join(chapter_receipt.MACHINES)}.")
    if arguments.device == "gpu" and not torch.cuda.is_available():
        sys.exit("There is no CUDA GPU here: measure with --device cpu, or on a machine that has one.")
    for path in chapters(arguments.chapters):
        print(f"{path.stem}, budget {budget} …", flush=True)
        receipt = measure(path, budget, arguments.device)
        store(path.stem, budget, receipt)
        print(f"  {chapter_receipt.running(path, budget, receipt)}")


def chapters(names: list[str], root: Path = ROOT) -> list[Path]:
    """The notebooks of the table of contents, or those that are named."""
    every = {path.stem: path for page, _ in sources.pages(root)
             if (path := sources.page_path(page, root)).suffix == ".ipynb"}
    unknown = [name for name in names if name not in every]
    if unknown:
        sys.exit(f"There is no chapter {unknown[0]}: choose from {', '.join(every)}.")
    return [every[name] for name in names or every]


def measure(path: Path, budget: str, device: str = "cpu") -> dict:
    """Run one notebook and say what it took; the notebook's file is not changed."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(PEAK))
    environment = os.environ | {"BUDGET": budget, "NEMLIB_QUIET": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("MPLBACKEND", None)
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    client = NotebookClient(notebook, timeout=None, kernel_name="python3",
                            resources={"metadata": {"path": str(path.parent)}})
    started = time.perf_counter()
    try:
        client.execute(env=environment)
    except CellExecutionError as error:
        sys.exit(f"{path.stem} does not run, so there is nothing to measure:\n{error}")
    seconds = time.perf_counter() - started
    memory, gpu_memory = json.loads(notebook.cells[-1].outputs[-1].text)
    machine = provenance.hardware(torch.device("cuda" if device == "gpu" else "cpu"))
    receipt = {"seconds": round(seconds, 1), "memory_mib": round(memory / 2**20),
               "hardware": provenance.describe_hardware(machine), "code": chapter_receipt.fingerprint(path),
               "date": provenance.now(), "versions": provenance.versions()}
    return receipt | ({"gpu_memory_mib": round(gpu_memory / 2**20)} if device == "gpu" else {})


def store(chapter: str, budget: str, receipt: dict, root: Path = ROOT) -> None:
    known = chapter_receipt.measured(root)
    known.setdefault(chapter, {})[budget] = receipt
    files.write_json(root / chapter_receipt.FILE, dict(sorted(known.items())))


if __name__ == "__main__":
    main()
