"""Where data files lie: the repository's own `data/`, then a folder of the user's.

The second is `$NEMLIB_DATA` where that is set, else the place that the operating system has for caches.
What is downloaded or generated goes there, never into the repository.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import platformdirs
from filelock import FileLock

from nemlib.data.checks import DataUnavailable
from nemlib.files import write_atomically

__all__ = ["cache_folder", "find", "find_or_generate", "make_once", "repository_folder"]


def repository_folder() -> Path:
    """`data/` beside the package; it does not exist where nemlib was installed without its repository."""
    return Path(__file__).resolve().parents[2] / "data"


def cache_folder() -> Path:
    """The folder for what was downloaded or generated: `$NEMLIB_DATA`, or the user's cache."""
    chosen = os.environ.get("NEMLIB_DATA")
    return Path(chosen).expanduser().absolute() if chosen else platformdirs.user_cache_path("nemlib")


def find(*names: str) -> Path | None:
    """The first file with one of these names in `repository_folder()`, then in `cache_folder()`."""
    candidates = [folder / name for folder in (repository_folder(), cache_folder()) for name in names]
    return next((path for path in candidates if path.is_file()), None)


def find_or_generate(name: str, make: Callable[[Path], None]) -> Path:
    """The file as `find` finds it; where nemlib came without it, it is generated once, with a warning.

    Errors as in `make_once`.
    """
    found = find(name)
    if found is None:
        warnings.warn(f"{name} is not beside the package: it is generated into {cache_folder()}, "
                      "once, which takes some seconds.", stacklevel=3)
    return found or make_once(name, make)


def make_once(name: str, make: Callable[[Path], None]) -> Path:
    """The cached file `name`; where it is missing, `make(path)` writes it, whole or not at all.

    Processes that ask at the same time wait for the first one, and then share its file.

    Raises:
        DataUnavailable: the folder cannot be written, or `make` says so.
    """
    target = cache_folder() / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{name}.lock")):
            if not target.is_file():   # another process may have made it while we waited
                for stale in target.parent.glob(f".{name}.*.part"):   # left by one that was killed
                    stale.unlink()
                with write_atomically(target) as temporary:
                    make(temporary)
    except DataUnavailable:
        raise
    except OSError as error:
        raise DataUnavailable(
            f"{target} cannot be written ({error.strerror or error}): "
            "set NEMLIB_DATA to a folder that can, or put the file there yourself."
        ) from error
    return target
