"""Compute the moments of training data before any training, in parallel, and keep them next to the data."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import dask

from surrogate.config import dump, parse_yaml
from surrogate.data import Stream
from surrogate.errors import ConfigError, ResourceError
from surrogate.experiment.settings import Experiment, read_experiment
from surrogate.files import cache_folder
from surrogate.normalize import Moments, keep_moments, stream_moments
from surrogate.progress import ProgressBar
from surrogate.training.build import evaluation_stream, split_datasets
from surrogate.training.run import with_absolute_path

__all__ = ["keep_statistics"]

PARTS = 32  # whatever the number of workers, so that the sums have the same bits


def keep_statistics(experiment: Experiment, executor: Executor | None = None) -> Path:
    """Compute the means and deviations that inputs and targets are normalised by; return the file.

    Arguments:
        experiment: The resolved configuration.
        executor: Reads parts of the data at the same time, for instance on a dask cluster; the numbers are the same.

    Raises:
        DataError: The data cannot be read, or hold no sample.
        ResourceError: The file cannot be written.
    """
    experiment = with_absolute_path(experiment)
    folder = cache_folder(Path(experiment.data.path))
    if folder is None:
        raise ResourceError(f"statistics of {experiment.data.path} cannot be kept: its folder is read-only; set HOME")
    stream = _stream(experiment)
    count, text = split_datasets(experiment)["train"].sizes["sample"], dump(experiment)
    if not count:
        raise ConfigError("data.split leaves no simulation for training; lower its other shares")
    step = -(-count // PARTS)
    tasks = [_Part(text, slice(first, first + step)) for first in range(0, count, step)]
    spread = executor.map if executor is not None else map
    pairs: list[tuple[Moments, Moments]] = []
    with ProgressBar("computing statistics", "parts of the data") as progress:
        progress(0, len(tasks))
        for pair in spread(_moments_of, tasks):
            pairs.append(pair)
            progress(len(pairs), len(tasks))
    inputs, targets = zip(*pairs, strict=True)
    moments = [reduce(Moments.__add__, inputs), reduce(Moments.__add__, targets)]
    return keep_moments(stream, folder, moments, per_pixel=experiment.data.normalize == "pixel")


@dataclass(frozen=True)
class _Part:
    """Some training simulations, described in plain text for another process."""

    config: str
    simulations: slice


def _moments_of(part: _Part) -> tuple[Moments, Moments]:
    """Compute the moments of inputs and targets of a part."""
    experiment = read_experiment(parse_yaml(part.config, "statistics"))
    with dask.config.set(scheduler="threads"):  # a worker would send its reading to its scheduler
        return stream_moments(_stream(experiment, part.simulations), per_pixel=experiment.data.normalize == "pixel")


def _stream(experiment: Experiment, simulations: slice = slice(None)) -> Stream:
    """Return the training data as a run reads them before its first step, or some of their simulations."""
    return evaluation_stream(experiment, split_datasets(experiment)["train"].isel(sample=simulations))
