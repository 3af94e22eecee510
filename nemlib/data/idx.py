"""The idx format of the original MNIST files: two zero bytes, type, rank, sizes, and then the numbers.

http://yann.lecun.com/exdb/mnist/ describes it. Only unsigned bytes (type 8) are needed here.
"""

import gzip
import struct
from pathlib import Path

import numpy as np

from nemlib.data.checks import reading

__all__ = ["decode_idx", "idx_header", "read_idx"]

UNSIGNED_BYTE = 8


def idx_header(shape: tuple[int, ...]) -> bytes:
    """The bytes that stand before an array of unsigned bytes of this shape."""
    return struct.pack(f">HBB{len(shape)}I", 0, UNSIGNED_BYTE, len(shape), *shape)


def decode_idx(data: bytes) -> np.ndarray:
    """The uint8 array that an uncompressed idx file holds, of the shape that it states; read only.

    Raises:
        ValueError: the header is not that of an idx file of bytes, or the length does not fit it.
    """
    if len(data) < 4 or data[:3] != bytes([0, 0, UNSIGNED_BYTE]):
        raise ValueError(f"an idx file begins with 00 00 08, but this with {data[:3].hex(' ') or 'nothing'}.")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise ValueError(f"its header needs {start} bytes, but only {len(data)} are there.")
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    expected = start + int(np.prod(shape, dtype=object))
    if len(data) != expected:
        raise ValueError(f"shape {shape} needs {expected:,} bytes, but {len(data):,} are there.")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array in an idx file, compressed by gzip or not (told by its first bytes).

    Raises:
        BadDataFile: it is truncated or another kind of file; FileNotFoundError: it is not there.
    """
    with reading(path):
        data = Path(path).read_bytes()
        return decode_idx(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
