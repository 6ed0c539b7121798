"""Stream batches of samples from lazy data: shuffled, prefetched, bounded in memory, resumable at any batch."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from surrogate.batch import Batch
from surrogate.data.formats.ragged import lengths_of, of_equal_length
from surrogate.data.hdf5.autotune import READERS
from surrogate.data.settings import Window
from surrogate.data.streaming.batch_memory import BatchMemory
from surrogate.data.streaming.buffer import Buffer, Reader
from surrogate.data.streaming.channels import make_side, pick
from surrogate.data.streaming.device import Numbered, in_thread, on_device
from surrogate.data.streaming.read_plan import Consumer, Group, ReadPlan, make_blocks, merge_chunks
from surrogate.data.streaming.windows import FileWindows, file_windows
from surrogate.errors import ConfigError, DataError

__all__ = ["Stream"]

BLOCK_BYTES = 8_000_000
FLOAT = 4  # bytes
SMALLEST_SHARE = 16  # part of the buffer that a block may take to keep a simulation in one piece

Share = dict[int, np.ndarray]  # windows by batch
Held = Buffer | FileWindows


class Stream(IterableDataset[Batch]):
    """Iterate over batches of a data set, in float32 and physical units.

    Channels are stacked in the order given: for each time step each variable that changes in time and each of its
    channels; then, once, variables without time. Parameters (sample,) next to fields become constant channels.
    Inputs and targets are one tensor where they have the same channels: do not change a batch in place.
    The batches of an epoch are a function of (seed, epoch) alone; ranks share every batch, workers take turns.
    A `DataLoader(stream, batch_size=None, num_workers=n)` keeps the order; call `set_epoch` before each of its epochs.

    Arguments:
        ds: Lazy or loaded data with axis `sample`.
        inputs: Names of the input variables.
        targets: Names of the target variables.
        batch_size: Samples of a batch over all ranks.
        window: Steps of a sample; None for one step in and the next one out, where there is a time axis.
        seed: Seed of the order.
        shuffle: Draw a new order every epoch.
        buffer_bytes: Bound of the samples in memory: one half is consumed while the other is loaded.
        rank: Number of the slice to take of every batch.
        world: Number of slices.
        drop_last: Leave out the last batch where it is smaller.
        device: Device of the batches. To a GPU each is copied from pinned memory while the previous one is used.

    Raises:
        ConfigError: The options contradict each other or the data.
        DataError: A variable is missing or cannot be used, or a value is not finite (while iterating).

    Example:
        >>> ds = xr.Dataset({"nu": ("sample", np.ones(10)), "u": (("sample", "y", "x"), np.zeros((10, 4, 6)))})
        >>> batch = next(iter(Stream(ds, ["nu"], ["u"], batch_size=8)))
        >>> batch.inputs.shape, batch.targets.shape
        (torch.Size([8, 1]), torch.Size([8, 1, 4, 6]))
    """

    def __init__(
        self,
        ds: xr.Dataset,
        inputs: Sequence[str],
        targets: Sequence[str],
        *,
        batch_size: int,
        window: Window | None = None,
        seed: int = 0,
        shuffle: bool = True,
        buffer_bytes: int = 256_000_000,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        if not 0 <= rank < world or batch_size < world:
            raise ConfigError(f"rank {rank} of {world} with batch_size {batch_size}: every rank needs a sample a batch")
        if ds.sizes.get("sample", 0) == 0:
            raise DataError(f"the data have no sample (sizes {dict(ds.sizes)}); select some, or name the axis 'sample'")
        self.rank, self.world = rank, world
        window = _window(ds, [*inputs, *targets], window)
        self.window, extent = window, window.extent if window else 1
        present = window.input_offsets[-1] if window else 0
        self.inputs = make_side(ds, inputs, window.input_offsets if window else (0,), present)
        self.targets = make_side(ds, targets, window.target_offsets if window else (0,), present)
        self._reader = Reader(ds, self.inputs, self.targets, extent)
        values = math.prod(self.inputs.shape) + (0 if self._reader.shared else math.prod(self.targets.shape))
        capacity = buffer_bytes // 2 // (FLOAT * values)  # samples that half of the buffer holds
        if capacity < 1:
            needed = 2 * FLOAT * values
            raise ConfigError(f"buffer_bytes is {buffer_bytes}, but two samples take {needed}; give at least that")
        blocks = _blocks(self._reader, lengths_of(ds), extent, capacity, buffer_bytes)
        self.plan = ReadPlan(blocks, capacity, batch_size, seed=seed, shuffle=shuffle, drop_last=drop_last)
        self._straight = file_windows(self._reader, self.plan)
        self._epoch = self._first = self._done = 0
        self._held: Buffer | None = None
        self._memory: list[list[Tensor]] | None = None
        self.device = torch.device(device)

    @property
    def samples(self) -> int:
        """Number of samples of an epoch: windows of all simulations."""
        return self.plan.windows

    @property
    def reading(self) -> dict[str, str]:
        """Way of reading of each variable: `in memory`, `direct`, `threaded decoding`, `h5py` or `dask`."""
        return self._reader.reading

    @cached_property
    def content(self) -> str:
        """A hash that changes with the files, the selection, the variables and the window; not with the order."""
        return self._reader.content()

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the input channels."""
        return self.inputs.names

    @property
    def target_names(self) -> tuple[str, ...]:
        """Names of the target channels."""
        return self.targets.names

    @property
    def spatial_dims(self) -> tuple[str, ...]:
        """Names of the spatial axes of the targets."""
        return self.targets.dims

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Lengths of the spatial axes of the targets."""
        return self.targets.shape[1:]

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self.plan.batches

    @property
    def epoch(self) -> int:
        """The epoch that is being read, or is read next."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch."""
        self._epoch, self._first, self._done = epoch, 0, 0

    def state_dict(self) -> dict[str, int]:
        """Return seed, epoch and batches done, and a checksum of the order."""
        return {
            "seed": self.plan.seed,
            "epoch": self._epoch,
            "batches": self._done,
            "fingerprint": self.plan.fingerprint,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the batch after the last one done.

        Raises:
            ConfigError: The state belongs to other data or options, whose order differs.
        """
        mine = {"seed": self.plan.seed, "fingerprint": self.plan.fingerprint}
        if any(state.get(key) != value for key, value in mine.items()):
            raise ConfigError(
                "the saved position belongs to another order of samples; resume with the same data, selection, seed, "
                "batch_size, window and buffer_bytes"
            )
        self._epoch, self._first, self._done = state["epoch"], state["batches"], state["batches"]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": None, "_memory": None}  # a worker process reads for itself

    def __iter__(self) -> Iterator[Batch]:
        epoch, worker = self._epoch, get_worker_info()
        consumer = Consumer(
            self.rank, self.world, worker.id if worker else 0, worker.num_workers if worker else 1, self._first
        )
        self._done = self._first
        batches = self._numbered(epoch, consumer)
        with contextlib.closing(batches):
            ready = batches if self._straight is None else in_thread(batches)  # the buffer is read ahead already
            for done, batch in on_device(ready, self.device):
                self._done = done
                yield batch
        self.set_epoch(epoch + 1)

    def _numbered(self, epoch: int, consumer: Consumer) -> Generator[Numbered]:
        """Yield batches on the host, each with the number of batches that are done after it."""
        sides = [self.inputs] if self._reader.shared else [self.inputs, self.targets]
        memory = [BatchMemory(side.shape) for side in sides]
        tensors: list[Tensor] = []
        taken: list[np.ndarray] = []  # windows of a batch, from neighbouring groups
        for group, held, share in self._buffers(epoch, consumer):
            for number, windows in share.items():
                if not taken:
                    size = self.plan.size_of(number, consumer)
                    tensors = [of_side.take(size) for of_side in memory]
                done = sum(map(len, taken))
                held.fill(windows, [tensor[done : done + len(windows)] for tensor in tensors])
                taken.append(windows)
                if self.plan.ends_in(number, group):
                    batch, tensors, taken = self._batch(taken, tensors), [], []
                    yield number + 1, batch
                    del batch  # its memory may be used for the next one

    def _batch(self, taken: Sequence[np.ndarray], tensors: Sequence[Tensor]) -> Batch:
        sample, time = self.plan.locate(np.concatenate(taken) if len(taken) > 1 else taken[0])
        return Batch(tensors[0], tensors[-1], torch.from_numpy(sample), torch.from_numpy(time), self._reader.masked)

    def _buffers(self, epoch: int, consumer: Consumer) -> Iterator[tuple[Group, Held, Share]]:
        """Yield the groups of an epoch with their windows, while the next group is read."""
        groups = self.plan.groups(epoch)
        alone = len(groups) == 1
        groups = [group for group in groups if group.stop > consumer.first * self.plan.batch_size]
        if not groups:
            return
        if self._straight is not None:
            yield from self._from_files(self._straight, groups, epoch, consumer)
            return
        whole = alone or consumer.world == consumer.workers == 1
        if alone and self._held is not None:
            yield from ((group, self._held, self.plan.share(epoch, group, consumer)) for group in groups)
            return
        stop = threading.Event()
        memory, self._memory = self._memory or [], None  # another iterator of this stream allocates its own
        while len(memory) < len(groups[:2]):  # neighbouring groups take turns
            memory.append(self._reader.allocate(min(self.plan.capacity, self.plan.windows)))

        def load(group: Group) -> tuple[Group, Buffer, Share]:
            share = self.plan.share(epoch, group, consumer)
            blocks = np.sort(group.blocks) if whole else self.plan.needed(share)
            taken = memory[group.index % len(memory)]
            return group, self._reader.read(self.plan, blocks, taken, stop=stop, pool=readers), share

        with ThreadPoolExecutor(READERS, "read") as readers, ThreadPoolExecutor(1, "stream") as pool:
            try:
                ahead = [pool.submit(load, group) for group in groups[:1]]
                for following in [*groups[1:], None]:
                    ready = [future.result() for future in ahead]
                    ahead = [pool.submit(load, following)] if following else []
                    yield from ready
                    self._held = ready[0][1] if alone and ready else None
            finally:
                stop.set()
        self._memory = None if alone else memory

    def _from_files(
        self, windows: FileWindows, groups: Sequence[Group], epoch: int, consumer: Consumer
    ) -> Iterator[tuple[Group, Held, Share]]:
        """Yield groups whose windows are read from the files, while the system fetches the next group."""
        with ThreadPoolExecutor(1, "stream") as pool:
            pool.submit(windows.fetch, groups[0].blocks)
            for number, group in enumerate(groups, 1):
                if number < len(groups):
                    pool.submit(windows.fetch, groups[number].blocks)
                windows.check()
                yield group, windows, self.plan.share(epoch, group, consumer)


def _window(ds: xr.Dataset, names: Sequence[str], window: Window | None) -> Window | None:
    """Return the window to use; None where no variable has a time axis."""
    moving = any("time" in pick(ds, name).dims for name in names)
    if not moving and window is not None:
        raise ConfigError(f"a window was given, but none of {', '.join(names)} has a time axis; remove the window")
    if not moving:
        return None
    window = window or Window()
    steps = lengths_of(ds).max()
    if window.extent > steps:
        raise ConfigError(
            f"a window of {window.steps_in} + {window.steps_out} steps with stride {window.stride} spans "
            f"{window.extent} time steps, the data have {steps}; choose fewer steps"
        )
    return window


def _blocks(reader: Reader, lengths: np.ndarray, extent: int, capacity: int, buffer_bytes: int) -> np.ndarray:
    """Make blocks that follow the chunks of the largest variable, small chunks joined to about 8 MB.

    Time is cut as little as the buffer allows, since the steps at a cut are read twice.
    """
    arrays, samples = list(reader.arrays.values()), len(lengths)
    main = max(arrays, key=lambda array: ("sample" in array.dims, array.nbytes))
    timed = max(arrays, key=lambda array: ("time" in array.dims, array is main, array.nbytes))
    steps = timed.sizes.get("time", 1)
    step_bytes = max(1, sum(array.nbytes for array in arrays) // (samples * steps))
    longest = max(BLOCK_BYTES, buffer_bytes // SMALLEST_SHARE)
    longest_steps = max(1, min(longest // step_bytes, capacity + extent - 1))
    in_time = reader.sources[str(timed.name)].chunks("time")
    edges = np.cumsum(reader.sources[str(main.name)].chunks("sample") if "sample" in main.dims else (1,) * samples)
    blocks = []
    for first, end, length in of_equal_length(lengths if "time" in timed.dims else np.ones(samples, int)):
        if length < extent:
            continue
        cut = [min(max(in_time), length - start) for start in range(0, length, max(in_time))]
        times = merge_chunks(in_time if sum(in_time) == length else cut, longest_steps)
        joint = min(BLOCK_BYTES // (step_bytes * length), capacity // (length - extent + 1)) if len(times) == 1 else 1
        inner = edges[(edges > first) & (edges < end)]
        boxes = make_blocks(merge_chunks(np.diff([first, *inner, end]).tolist(), joint), times, extent, capacity)
        blocks.append(np.add(boxes, [first, first, 0, 0]))
    return np.concatenate(blocks)
