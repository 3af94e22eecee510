"""What `make test` runs: nemlib's tests, every chapter as a test, and every page in a browser.

    python tools/test.py [pytest arguments]

Two workers share the files; a notebook stays with one of them. The arguments are pytest's own.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    environment = os.environ | {
        "BUDGET": os.environ.get("BUDGET", "smoke"),
        "OMP_NUM_THREADS": "1",            # one thread a worker: two workers share two cores
        "NEMLIB_QUIET": "1",
        "MPLBACKEND": "agg",
        "PYTHONWARNINGS": "ignore::DeprecationWarning",
    }
    command = [sys.executable, "-m", "pytest", "tests", "book", "--nbval-lax", "--nbval-current-env",
               "--numprocesses", os.environ.get("WORKERS", "2"), "--dist", "loadscope",
               "--no-loadscope-reorder",   # else two files that need the built book come last and wait together
               "--quiet",
               "--durations", "12", *sys.argv[1:]]
    started = time.perf_counter()
    code = subprocess.run(command, cwd=ROOT, env=environment).returncode
    print(f"make test took {time.perf_counter() - started:.0f} s in budget {environment['BUDGET']}.", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
