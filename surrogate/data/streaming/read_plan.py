"""Plan the order in which samples are read: integers only, no I/O.

A *window* is a sample of the stream: a simulation and a first time step. A *block* is a box of whole chunks over
(simulation, start). Blocks are visited in an order drawn from (seed, epoch); consecutive blocks fill a *group*, the
buffer; windows are shuffled within their group. The sequence of all groups is cut into batches, so that batch k is
the same set of windows for any number of ranks and workers. Within a batch windows are sorted by block, so that a
rank, which takes a slice of every batch, needs only some of the blocks.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from surrogate.errors import ConfigError

__all__ = ["Consumer", "Group", "ReadPlan", "make_blocks", "merge_chunks"]


def merge_chunks(chunks: Sequence[int], largest: int) -> list[int]:
    """Join consecutive chunks while they hold at most `largest` entries."""
    merged: list[int] = []
    for chunk in chunks:
        if merged and merged[-1] + chunk <= largest:
            merged[-1] += chunk
        elif chunk:
            merged.append(chunk)
    return merged


def make_blocks(samples: Sequence[int], times: Sequence[int], extent: int, largest: int) -> np.ndarray:
    """Make blocks of whole chunks: rows (first simulation, end, first start, end), with shape (blocks, 4).

    Arguments:
        samples: Chunks along the simulations.
        times: Chunks along time; (1,) where there is no time axis.
        extent: Time steps that a window spans.
        largest: Windows that a block may hold; a block of one chunk with more is cut, and its chunk read again.
    """
    starts = sum(times) - extent + 1
    time_edges = [min(edge, starts) for edge in itertools.accumulate(times, initial=0)]
    sample_edges = list(itertools.accumulate(samples, initial=0))
    rows: list[tuple[int, int, int, int]] = []
    boxes = itertools.product(itertools.pairwise(sample_edges), itertools.pairwise(time_edges))
    for (a, b), (c, d) in boxes:  # [a, b) x [c, d) is cut to fewer simulations first, then to fewer starts
        if a >= b or c >= d:
            continue
        simulations = max(1, min(b - a, largest // (d - c)))
        steps = min(d - c, max(1, largest // simulations))
        for first, start in itertools.product(range(a, b, simulations), range(c, d, steps)):
            rows.append((first, min(first + simulations, b), start, min(start + steps, d)))
    return np.array(rows, np.int64).reshape(-1, 4)


@dataclass(frozen=True)
class Consumer:
    """Slice `rank` of `world` of the batches k with k mod `workers` == `worker`, from batch `first` on."""

    rank: int = 0
    world: int = 1
    worker: int = 0
    workers: int = 1
    first: int = 0

    def takes(self, batch: int) -> bool:
        return batch >= self.first and batch % self.workers == self.worker


@dataclass(frozen=True, eq=False)
class Group:
    """Consecutive blocks of an epoch: windows `start` to `stop` of its sequence."""

    index: int
    blocks: np.ndarray
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class ReadPlan:
    """The batches of an epoch, as a function of (seed, epoch) alone.

    Arguments:
        blocks: Boxes of windows, with shape (blocks, 4).
        capacity: Windows that a group may hold.
        batch_size: Windows of a global batch, over all ranks.
        seed: Seed of the order.
        shuffle: Draw the order; otherwise blocks and windows keep their order in the data.
        drop_last: Leave out the last batch where it is smaller.
    """

    blocks: np.ndarray
    capacity: int
    batch_size: int
    seed: int = 0
    shuffle: bool = True
    drop_last: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size is {self.batch_size}, expected at least 1")
        if self.sizes.size and self.capacity < self.sizes.max():
            raise ConfigError(f"the buffer holds {self.capacity} samples, a block {self.sizes.max()}; enlarge it")

    @cached_property
    def sizes(self) -> np.ndarray:
        """Windows of each block."""
        return (self.blocks[:, 1] - self.blocks[:, 0]) * (self.blocks[:, 3] - self.blocks[:, 2])

    @cached_property
    def offsets(self) -> np.ndarray:
        """Number of the first window of each block, and of all windows at the end."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)

    @cached_property
    def _one_each(self) -> bool:
        """True where windows are numbered as the simulations are: one of each."""
        first, _, start, end = self.blocks.T
        return bool((first == self.offsets[:-1]).all() and (start == 0).all() and (end == 1).all())

    @property
    def windows(self) -> int:
        return int(self.offsets[-1])

    @property
    def batches(self) -> int:
        whole, rest = divmod(self.windows, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    @cached_property
    def fingerprint(self) -> int:
        """A checksum that changes with everything that changes the order, except the seed."""
        rest = f"{self.capacity} {self.batch_size} {self.shuffle} {self.drop_last}"
        return zlib.crc32(self.blocks.tobytes(), zlib.crc32(rest.encode()))

    def locate(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return simulation and first time step of windows by their number."""
        if self._one_each:
            return windows, np.zeros_like(windows)
        block = np.searchsorted(self.offsets, windows, side="right") - 1
        first, _, start, end = self.blocks[block].T
        simulation, step = np.divmod(windows - self.offsets[block], end - start)
        return first + simulation, start + step

    def groups(self, epoch: int) -> list[Group]:
        """List the groups of an epoch, in order."""
        order = np.arange(len(self.blocks))
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(order)
        edges, total, filled = [0], 0, 0
        starts = [0]
        for position, size in enumerate(self.sizes[order].tolist()):
            if filled + size > self.capacity:
                edges.append(position)
                starts.append(total)
                filled = 0
            filled += size
            total += size
        edges.append(len(order))
        starts.append(total)
        return [
            Group(index, order[edges[index] : edges[index + 1]], starts[index], starts[index + 1])
            for index in range(len(edges) - 1)
        ]

    def sequence(self, epoch: int, group: Group) -> np.ndarray:
        """Return the numbers of the windows of a group in the order in which batches take them."""
        runs = [np.arange(self.offsets[block], self.offsets[block + 1]) for block in group.blocks]
        windows, slot = np.concatenate(runs), np.repeat(np.arange(len(runs)), self.sizes[group.blocks])
        if not self.shuffle:
            return windows
        order = np.random.default_rng([self.seed, epoch, group.index + 1]).permutation(len(windows))
        batch = np.arange(group.start, group.stop) // self.batch_size
        return windows[order][np.lexsort((windows[order], slot[order], batch))]

    def share(self, epoch: int, group: Group, consumer: Consumer) -> dict[int, np.ndarray]:
        """Return the windows that a consumer takes from a group, by batch; a batch may continue in the next group."""
        sequence = self.sequence(epoch, group)
        last = min(-(-group.stop // self.batch_size), self.batches)
        taken = {}
        for batch in range(group.start // self.batch_size, last):
            if consumer.takes(batch):
                start, stop = self._slice(batch, consumer)
                taken[batch] = sequence[max(start - group.start, 0) : max(stop - group.start, 0)]
        return taken

    def size_of(self, batch: int, consumer: Consumer) -> int:
        """Return the number of windows that a rank takes of a batch."""
        start, stop = self._slice(batch, consumer)
        return stop - start

    def _slice(self, batch: int, consumer: Consumer) -> tuple[int, int]:
        """Return the positions in the epoch's sequence that a rank takes of a batch."""
        start = batch * self.batch_size
        size = min(self.batch_size, self.windows - start)
        return start + size * consumer.rank // consumer.world, start + size * (consumer.rank + 1) // consumer.world

    def ends_in(self, batch: int, group: Group) -> bool:
        """Return True where the last window of a batch is in a group."""
        return min((batch + 1) * self.batch_size, self.windows) <= group.stop

    def needed(self, share: dict[int, np.ndarray]) -> np.ndarray:
        """Return the blocks that contain the windows of a share, in increasing order."""
        windows = np.concatenate([np.empty(0, np.int64), *share.values()])
        return np.unique(np.searchsorted(self.offsets, windows, side="right") - 1)
