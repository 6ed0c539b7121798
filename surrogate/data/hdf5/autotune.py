"""Choose the fastest way of reading a dataset on this machine, measured on a few megabytes of it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from surrogate.data.hdf5.array import H5Array
from surrogate.data.hdf5.reading import kind_of, possible_ways, read_box, use_way

__all__ = ["READERS", "Choice", "choose"]

READERS = min(4, os.cpu_count() or 1)  # threads that read and decode
SAMPLE_BYTES = 4_000_000
SMALL = 1_000_000  # bytes of a dataset that are read before they are measured
FAVOUR = 1.5  # the first way may be slower by this factor: HDF5 holds a lock for which other readers wait
ROUNDS = 2


@dataclass(frozen=True)
class Choice:
    """A way of reading and the reason for it.

    Arguments:
        way: Its name.
        speeds: Megabytes of values a second of every way that is possible; empty where they were not measured.
        reason: A phrase.
    """

    way: str
    speeds: dict[str, float]
    reason: str


_measured: dict[object, Choice] = {}


def choose(array: H5Array) -> Choice:
    """Choose how to read a dataset and all others that are stored alike; measured once in a process."""
    ways = possible_ways(array)
    if len(ways) == 1:
        return Choice(ways[0], {}, "no other way undoes its filters or finds its values in the file")
    if math.prod(array.shape) * array.stored.itemsize < SMALL:
        return Choice(ways[0], {}, "too small to measure")
    kind = kind_of(array)
    if kind not in _measured:
        speeds = {way: _speed(array, way) for way in ways}
        fastest = max(ways, key=lambda way: speeds[way] * (FAVOUR if way == ways[0] else 1))
        shown = ", ".join(f"{way} {speed:.0f} MB/s" for way, speed in speeds.items())
        _measured[kind] = Choice(fastest, speeds, f"measured: {shown}")
        use_way(kind, fastest)
    return _measured[kind]


def _speed(array: H5Array, way: str) -> float:
    """Measure megabytes per second: the best of several rounds, all readers at work."""
    boxes = _boxes(array)
    size = sum(math.prod(map(len, box)) for box in boxes) * array.stored.itemsize
    best = math.inf
    with ThreadPoolExecutor(READERS, "measure") as pool:
        for _ in range(ROUNDS):
            start = time.perf_counter()
            for job in [pool.submit(read_box, array, box, way=way) for box in boxes]:
                job.result()
            best = min(best, time.perf_counter() - start)
    return size / 1e6 / best


def _boxes(array: H5Array) -> list[Sequence[range]]:
    """Cut the first few megabytes into boxes of whole chunks, one for every reader."""
    chunks = array.chunks or (1,) * array.ndim
    lengths = list(array.shape)
    for axis, chunk in enumerate(chunks):
        others = math.prod(lengths) // lengths[axis] * array.stored.itemsize
        lengths[axis] = min(lengths[axis], max(1, SAMPLE_BYTES // others // chunk) * chunk)
    counts = [-(-length // chunk) for length, chunk in zip(lengths, chunks, strict=True)]
    axis = counts.index(max(counts))
    step = -(-counts[axis] // READERS) * chunks[axis]
    parts = [range(first, min(first + step, lengths[axis])) for first in range(0, lengths[axis], step)]
    return [[part if i == axis else range(length) for i, length in enumerate(lengths)] for part in parts]
