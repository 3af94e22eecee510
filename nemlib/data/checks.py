"""What a data file must be before its numbers are used: two errors, and the checks that raise them."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["BadDataFile", "DataUnavailable", "chosen", "reading", "sha256"]


class BadDataFile(ValueError):
    """A data file is truncated, foreign, or holds what it must not hold; the sentence names the file."""


class DataUnavailable(OSError):
    """A data file is on no shelf and cannot be fetched; the sentence says where to get it and put it."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while `path` is read into one sentence that names the file.

    Raises:
        FileNotFoundError: there is no such file.
        BadDataFile: a library could not read it, or a check refused what was read.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist or is no file.")
    try:
        yield
    except (BadDataFile, MemoryError):
        raise
    except ValueError as error:   # a check of ours, or of Dataset: it says itself what is wrong
        raise BadDataFile(
            f"{path} is not what it should be, so restore or remove it: {_words(error)}."
        ) from error
    except Exception as error:   # h5py, zlib and scipy raise nearly anything on damaged files
        raise BadDataFile(
            f"{path} cannot be read, so restore or remove it: it is truncated, damaged or of another format "
            f"({_words(error)})."
        ) from error


def chosen(split: str, splits: Sequence[str]) -> str:
    """`split` itself if it is one of `splits`, else a ValueError that lists them."""
    if split not in splits:
        raise ValueError(f"there is no split {split!r}: choose one of {', '.join(map(repr, splits))}.")
    return split


def sha256(*parts: bytes | memoryview) -> str:
    """The SHA-256 checksum, in hexadecimal, of the parts laid end to end."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _words(error: Exception) -> str:
    """The first line of an error's message, to stand within a sentence."""
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
