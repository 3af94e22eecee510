"""Set the repository's address everywhere: what `make repository URL=https://github.com/you/your-fork` does.

    python tools/repository.py                 say the present address
    python tools/repository.py URL             set another

The address stands in _config.yml (`repository: url:`). Wherever else it is written out (the README's badges,
pyproject.toml, CITATION.cff, the notebooks' set-up cells) it is replaced, and the set-up cells are written
anew.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "book" / "_ext")]

import setup_cell  # noqa: E402
import sources  # noqa: E402

ADDRESS = re.compile(
    r"https://github\.com/([A-Za-z0-9](?:[A-Za-z0-9-]{0,37}[A-Za-z0-9])?)/([A-Za-z0-9_.-]{1,100})"
)
TEXTS = {".md", ".toml", ".yml", ".yaml", ".cff", ".ipynb", ".py", ".js", ".css", ".html", ".txt"}
SKIPPED = {"node_modules", "_build", "vendor", "runs", "__pycache__"}


def main(arguments: list[str]) -> None:
    if len(arguments) != 1 or not arguments[0]:
        sys.exit(
            f"The repository's address is {sources.repository()[0]}; "
            "`make repository URL=https://github.com/OWNER/NAME` sets another."
        )
    for path in set_address(arguments[0]):
        print(f"changed {path.relative_to(ROOT)}")


def parse(url: str) -> str:
    """The address in its plain form, https://github.com/OWNER/NAME; exits with a sentence if it is none."""
    plain = url.strip().rstrip("/").removesuffix(".git")
    match = ADDRESS.fullmatch(plain)
    if not match or match[2] in {".", ".."}:
        sys.exit(
            f"{url!r} is not the address of a GitHub repository: write https://github.com/OWNER/NAME (Colab "
            "opens notebooks from GitHub only)."
        )
    return plain


def texts(root: Path) -> list[Path]:
    """Every file of the project that may name the repository."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in SKIPPED and not name.startswith("."))
        found += [Path(folder) / name for name in sorted(names) if Path(name).suffix in TEXTS]
    return found


def set_address(url: str, root: Path = ROOT) -> list[Path]:
    """Replace the present address by `url` in all files under `root`; returns the files that changed."""
    new, old = parse(url), sources.repository(root)[0]
    old_name, new_name = ("/".join(address.split("/")[-2:]) for address in (old, new))
    # github.com/OWNER/NAME, Colab's …/github/OWNER/NAME, and the pages at OWNER.github.io/NAME
    named = re.compile(rf"(?:(?<=github\.com/)|(?<=/github/)){re.escape(old_name)}(?![\w-])")
    pages = "https://{}.github.io/{}".format
    changed = []
    for path in texts(root):
        before = path.read_text(encoding="utf-8")
        after = named.sub(new_name, before).replace(pages(*old_name.split("/")), pages(*new_name.split("/")))
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed.append(path)
    sources.configuration.cache_clear()
    for path in setup_cell.stale(root):
        setup_cell.update(path, root)
        changed.append(path)
    return sorted(set(changed))


if __name__ == "__main__":
    main(sys.argv[1:])
