"""Samples of an evaluation: all of them in one stream, or chosen ones by position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import xarray as xr

from surrogate.batch import Batch
from surrogate.data import DataSettings, Stream

__all__ = ["SampleSource"]

FLOAT = 4  # bytes
BUFFER = 64_000_000  # bytes; larger windows enlarge it


@dataclass(frozen=True)
class SampleSource:
    """A split of the data with the settings that read it.

    Arguments:
        stream: All samples, in the order of the data.
        dataset: The data set of the stream.
        data: Names of inputs and targets, and the window.
    """

    stream: Stream
    dataset: xr.Dataset
    data: DataSettings

    def windows(self, samples: Sequence[int], time: int = 0, *, steps: int = 1) -> tuple[Batch, tuple[str, ...]]:
        """Read the windows of some simulations that start at one time, and nothing else.

        Arguments:
            samples: Positions of the simulations.
            time: Position of the first step given.
            steps: Network steps that the targets cover.

        Returns:
            A batch in any order of samples, and the names of its target channels.

        Raises:
            DataError: A value is not finite.
        """
        dataset, window = self.dataset.isel(sample=list(samples)), self.stream.window
        if window is not None:
            window = window.model_copy(update={"steps_out": window.steps_out * steps})
            dataset = dataset.isel(time=slice(time, time + window.extent))
        stream = Stream(
            dataset,
            self.data.inputs,
            self.data.targets,
            batch_size=len(samples),
            window=window,
            shuffle=False,
            buffer_bytes=max(BUFFER, 2 * len(samples) * self.bytes_of(steps)),
        )
        (batch,) = stream
        positions = torch.as_tensor(samples)[batch.sample]
        return replace(batch, sample=positions, time=batch.time + time), stream.target_names

    def bytes_of(self, steps: int = 1) -> int:
        """Return the bytes of a window whose targets cover a number of network steps."""
        return FLOAT * (math.prod(self.stream.inputs.shape) + steps * math.prod(self.stream.targets.shape))
