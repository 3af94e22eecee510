"""Fetching a published file, once, by its checksum: whole, the right one, or not at all."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pooch
import requests

from nemlib.data.checks import DataUnavailable
from nemlib.data.folders import cache_folder, find, make_once

__all__ = ["RemoteFile", "fetch"]

TIMEOUT = (10, 60)   # seconds to connect, and between two pieces of the answer


@dataclass(frozen=True)
class RemoteFile:
    """A file that others publish: its name, its published SHA-256, and its addresses in order of trial."""

    name: str
    sha256: str
    addresses: tuple[str, ...]


def fetch(remote: RemoteFile, *also_called: str) -> Path:
    """The path of a remote file: found in one of the data folders, else downloaded and checked.

    `also_called` are other names under which a file that someone put there by hand is accepted.
    A found file is not checked here: whoever reads it checks what it holds.

    Raises:
        DataUnavailable: it is nowhere and no address gives it; the sentence says what to do.
    """
    return find(remote.name, *also_called) or make_once(remote.name, partial(_download, remote))


def _download(remote: RemoteFile, target: Path) -> None:
    """Write the file to `target` from the first address that gives the right bytes."""
    quiet = bool(os.environ.get("NEMLIB_QUIET"))
    failures = []
    for address in remote.addresses:
        download = pooch.HTTPDownloader(progressbar=not quiet, chunk_size=2**16, timeout=TIMEOUT)
        try:
            download(address, str(target), None)
        except requests.RequestException as error:
            failures.append(_reason(error))
            continue
        if pooch.file_hash(str(target)) == remote.sha256:
            return
        failures.append("its bytes are not those of the published checksum")
    reasons = "; ".join(f"{address}: {why}" for address, why in zip(remote.addresses, failures))
    raise DataUnavailable(
        f"{remote.name} is not on this machine and could not be fetched ({reasons}): "
        f"download {remote.addresses[0]} elsewhere and put it into {cache_folder()}."
    )


def _reason(error: requests.RequestException) -> str:
    """Why a request failed, in a few words."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the answer broke off"
    return "no connection" if isinstance(error, requests.ConnectionError) else type(error).__name__
