"""Running cases: each once, here or on workers, whatever happens to the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import dask
import numpy as np
import xarray as xr

from surrogate.config import parse_yaml
from surrogate.errors import Interrupted, InUse, NumericalError, SurrogateError
from surrogate.evaluation import METRICS, headline
from surrogate.experiment.run_folder import RunFolder
from surrogate.experiment.settings import read_experiment
from surrogate.files import claim_output, locked
from surrogate.studies import Failure, Result, per_sample, read_failure, read_result, write_json
from surrogate.training.run import train
from surrogate.workflows.pipeline import evaluate_run

__all__ = ["Job", "Outcome", "Work", "note_failure", "run_case", "run_jobs"]

LOOK = 0.5  # seconds between two looks at whether to stop


class Work(Protocol):
    """One case, or several that follow from one another."""

    @property
    def cost(self) -> float:
        """Roughly how long it takes, in units of its own."""

    @property
    def open(self) -> list[Path]:
        """Folders of its cases that have no result."""

    def run(self) -> list[Outcome]:
        """Run what is open."""


@dataclass(frozen=True)
class Job:
    """A case to run; plain text, so that any process can.

    Arguments:
        folder: Folder of the case.
        config: Its resolved configuration as YAML.
        command: The command that asked for it.
        cost: Roughly how long it takes, in units of its own.
    """

    folder: str
    config: str
    command: str
    cost: float = 0.0

    @property
    def name(self) -> str:
        """Name of the case."""
        return Path(self.folder).name

    @property
    def open(self) -> list[Path]:
        """Folders of its cases that have no result."""
        return [Path(self.folder)] if read_result(Path(self.folder)) is None else []

    def run(self) -> list[Outcome]:
        """Run it."""
        return [run_case(self)]


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Arguments:
        name: Name of the case.
        status: `done`, `failed`, or `in use` by another process.
        why: Of a failure, one line.
        ran: Whether it ran now; False where an earlier run had finished it.
    """

    name: str
    status: str
    why: str = ""
    ran: bool = True


def run_case(job: Job) -> Outcome:
    """Train and score a case unless that was done before, and write `result.json` last; a failure is written down too.

    Raises:
        Interrupted: A signal came; a checkpoint is written.
    """
    folder = Path(job.folder)
    try:
        claim_output(folder, resume=True)
        # a dask worker would send its reading and its locks for writing to the scheduler
        with locked(folder, RunFolder(folder).case_lock.name), dask.config.set(scheduler="threads"):
            return _known(folder) or _run(job, folder)
    except InUse:
        return Outcome(job.name, "in use", ran=False)
    except Interrupted:
        raise
    except Exception as error:  # whatever it is, the other cases go on
        return note_failure(folder, error)


def _known(folder: Path) -> Outcome | None:
    """What an earlier run came to, where that is final."""
    if read_result(folder) is not None:
        return Outcome(folder.name, "done", ran=False)
    failure = read_failure(folder)
    return Outcome(folder.name, "failed", failure.error, ran=False) if failure and failure.final else None


def _run(job: Job, folder: Path) -> Outcome:
    RunFolder(folder).failure.unlink(missing_ok=True)
    experiment = read_experiment(parse_yaml(job.config, job.folder))
    run = train(experiment, folder, command=job.command, resume=True, quiet=True)
    metrics = evaluate_run(folder, _silent)
    write_json(run.result, _result(run, metrics))
    return Outcome(job.name, "done")


def _silent(_line: str) -> None:
    """A listener that says nothing."""


def note_failure(folder: Path, error: BaseException) -> Outcome:
    """Write down why a case failed; numerical failures would come again and are final."""
    text = str(error) if isinstance(error, SurrogateError) else f"{type(error).__name__}: {error}"
    why = " ".join(text.split())
    kind, final = type(error).__name__, isinstance(error, NumericalError)
    try:
        write_json(RunFolder(folder).failure, Failure(error=why, kind=kind, final=final))
    except (OSError, SurrogateError) as second:  # a full disk, most likely: it is told, not written
        why = f"{why}; and it could not be written down ({second})"
    return Outcome(folder.name, "failed", why)


def _result(run: RunFolder, metrics: xr.Dataset) -> Result:
    facts = run.begun()
    epochs = [record for record in run.records() if record["event"] == "epoch"]
    elapsed = np.cumsum([record["seconds"] for record in epochs])
    return Result(
        validation_loss=facts["validation_loss"],
        test={name: _mean(per_sample(metrics, name)) for name in (*METRICS, headline(metrics).metric)},
        seconds=facts["train_seconds"],
        epochs=len(epochs),
        steps=facts["steps"],
        parameters=facts["parameters"],
        simulations={part: len(names) for part, names in facts["simulations"].items()},
        samples=metrics.sizes["sample"],
        curve=[
            (record["epoch"], float(second), record["validation_loss"])
            for record, second in zip(epochs, elapsed, strict=True)
        ],
    )


def _mean(values: xr.DataArray) -> float | None:
    mean = float(values.mean())
    return mean if math.isfinite(mean) else None


def run_jobs(
    jobs: Sequence[Work], executor: Executor | None, stopped: Callable[[], None] = lambda: None
) -> Iterator[Outcome]:
    """Outcomes of all jobs as they come.

    Arguments:
        jobs: What to run.
        executor: Where; without it here, one after the other.
        stopped: Called between jobs; raises where a signal has come.

    Raises:
        Interrupted: A signal came.
    """
    if executor is None:
        for job in jobs:
            yield from job.run()
            stopped()
        return
    longest_first = sorted(jobs, key=lambda job: -job.cost)  # so that none is left over at the end
    futures = {executor.submit(_perform, job): job for job in longest_first}
    try:
        yield from _as_they_come(futures, stopped)
    finally:
        for future in futures:
            future.cancel()


def _perform(job: Work) -> list[Outcome]:
    return job.run()


def _as_they_come(futures: dict[Future[list[Outcome]], Work], stopped: Callable[[], None]) -> Iterator[Outcome]:
    left = set(futures)
    while left:
        done, left = wait(left, timeout=LOOK, return_when=FIRST_COMPLETED)
        for future in done:
            job = futures.pop(future)  # what dask still holds it computes again when the worker that did it dies
            error = future.exception()
            yield from [note_failure(case, error) for case in job.open] if error else future.result()
        stopped()
