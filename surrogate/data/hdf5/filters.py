"""Decode HDF5 chunks (gzip, shuffle, lzf) outside the lock of the HDF5 library, in parallel threads."""

from __future__ import annotations

import ctypes
import threading
import zlib
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

try:
    from isal import isal_zlib as fast_zlib  # optional: inflates nearly twice as fast
except ImportError:
    fast_zlib = None

__all__ = ["decodable", "decode", "scratch"]

GZIP, SHUFFLE, LZF = 1, 2, 32000
ZLIB_ERRORS = (zlib.error,) if fast_zlib is None else (zlib.error, fast_zlib.error)


try:  # the LZF decoder that h5py carries (liblzf), where its library exports it
    _LZF: Any = ctypes.CDLL(h5py.h5z.__file__).lzf_decompress
    _LZF.argtypes = [ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_uint]
    _LZF.restype = ctypes.c_uint
except (OSError, AttributeError):
    _LZF = None


class _Scratch(threading.local):
    """Memory that a thread reuses: fresh pages for each chunk would cost as much as reading it."""

    def __init__(self) -> None:
        self.memory: dict[str, np.ndarray] = {}


_scratches = _Scratch()


def scratch(purpose: str, size: int) -> np.ndarray:
    """Return reusable memory of this thread for a purpose; its old content is overwritten."""
    memory = _scratches.memory.get(purpose)
    if memory is None or len(memory) < size:
        memory = _scratches.memory[purpose] = np.empty(size, np.uint8)
    return memory[:size]


def decodable(filters: Sequence[int]) -> bool:
    """Return True for gzip, for lzf if h5py exports its decoder, or for no compression, each also after shuffle.

    In any other order a filter meets bytes of another length than those of the chunk; HDF5 reads these.
    """
    compression = tuple(filters)[1:] if tuple(filters)[:1] == (SHUFFLE,) else tuple(filters)
    return compression in ((), (GZIP,)) or (compression == (LZF,) and _LZF is not None)


def decode(stored: np.ndarray, filters: Sequence[int], skipped: int, itemsize: int, size: int) -> np.ndarray:
    """Decode a chunk; the bytes returned are valid until the same thread decodes again.

    Arguments:
        stored: The bytes that the file holds.
        filters: Codes of the filters, in the order of writing.
        skipped: Bit mask of the filters that were not applied to this chunk.
        itemsize: Bytes of a value.
        size: Bytes of the chunk.

    Raises:
        ValueError: The stored bytes do not decode to `size` bytes.
    """
    values = stored
    for position in reversed(range(len(filters))):
        if skipped >> position & 1:
            continue
        if filters[position] == GZIP:
            try:
                if fast_zlib is not None:
                    inflated = fast_zlib.decompressobj().decompress(values, size)
                else:
                    inflated = zlib.decompress(values.data, bufsize=size)
            except ZLIB_ERRORS as error:
                raise ValueError(str(error)) from error
            values = np.frombuffer(inflated, np.uint8)
        elif filters[position] == LZF:
            out = scratch("expanded", size)
            if _LZF(values.ctypes.data, len(values), out.ctypes.data, size) != size:
                raise ValueError("lzf data do not decode")
            values = out
        else:  # interleave bytes that are stored as all first bytes, all second bytes, ... of the values
            if len(values) % itemsize:
                raise ValueError(f"shuffled bytes ({len(values)}) are not a multiple of {itemsize}")
            planes = values.reshape(itemsize, -1)
            out = scratch("unshuffled", len(values)).reshape(-1, itemsize)
            for byte, plane in enumerate(planes):  # several times faster than a transposed copy
                out[:, byte] = plane
            values = out.reshape(-1)
    if len(values) != size:
        raise ValueError(f"a chunk holds {len(values)} of {size} bytes")
    return values
