"""Run cases, each once, in this process or on workers; a failed case does not stop the others."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path
from typing import Protocol

import dask
import numpy as np
import xarray as xr

from surrogate.config import parse_yaml
from surrogate.errors import Interrupted, InUse, NumericalError, ResourceError, SurrogateError, failure_of
from surrogate.evaluation import METRICS, headline
from surrogate.experiment.run_folder import RunFolder
from surrogate.experiment.settings import read_experiment
from surrogate.files import claim_output, locked
from surrogate.quantiles import mean_error
from surrogate.runtime.futures import as_finished
from surrogate.runtime.signals import StopRequest
from surrogate.studies import Failure, Result, per_sample, read_failure, read_result, write_note
from surrogate.training.run import train
from surrogate.workflows.pipeline import evaluate_run

__all__ = ["IN_USE", "Job", "Outcome", "Work", "note_failure", "raise_if_stopped", "run_case", "run_jobs"]


IN_USE = "another process runs it"


class Work(Protocol):
    """One case, or several that depend on one another."""

    @property
    def cost(self) -> float:
        """Rough duration, in arbitrary units."""

    @property
    def open(self) -> list[Path]:
        """Folders of the cases without a result."""

    def run(self) -> list[Outcome]:
        """Run the cases without a result."""


@dataclass(frozen=True)
class Job:
    """A case to run, as plain text, so that any process can run it.

    Arguments:
        folder: Folder of the case.
        config: Its resolved configuration as YAML.
        command: The command that asked for it.
        cost: Rough duration, in arbitrary units.
        metrics_alone: Write of its evaluation nothing but the metrics and their tables.
    """

    folder: str
    config: str
    command: str
    cost: float = 0.0
    metrics_alone: bool = False

    @property
    def name(self) -> str:
        """Name of the case."""
        return Path(self.folder).name

    @property
    def open(self) -> list[Path]:
        """Folders of the cases without a result."""
        return [Path(self.folder)] if read_result(Path(self.folder)) is None else []

    def run(self) -> list[Outcome]:
        """Run the case."""
        return [run_case(self)]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a case.

    Arguments:
        name: Name of the case.
        status: `done`, `failed`, or `in use` by another process.
        why: Reason of a failure, one line.
        ran: True if it ran now, False if an earlier run had finished it.
        lost: True where the case may still succeed: another process runs it, or the disk was full.
        starved: True where the machine ended it, not the case: no space, memory or threads.
    """

    name: str
    status: str
    why: str = ""
    ran: bool = True
    lost: bool = False
    starved: bool = False


def run_case(job: Job) -> Outcome:
    """Train and score a case unless that was done before; write `result.json` last, or `failed.json`.

    Raises:
        Interrupted: A signal came; a checkpoint is written.
    """
    folder = Path(job.folder)
    try:
        claim_output(folder, resume=True)
        # on a dask worker, dask would send reads and locks to the scheduler
        with locked(folder, RunFolder(folder).case_lock.name), dask.config.set(scheduler="threads"):
            if read_result(folder) is not None:
                return Outcome(job.name, "done", ran=False)
            failure = read_failure(folder)
            if failure and failure.final:
                return Outcome(job.name, "failed", failure.error, ran=False)
            (RunFolder(folder).failure).unlink(missing_ok=True)
            experiment = read_experiment(parse_yaml(job.config, job.folder))
            run = train(experiment, folder, command=job.command, resume=True, quiet=True)
            metrics = evaluate_run(folder, lambda _: None, metrics_alone=job.metrics_alone)
            write_note(RunFolder(folder).result, _result(run, metrics))
            return Outcome(job.name, "done")
    except InUse:
        return Outcome(job.name, "in use", IN_USE, ran=False, lost=True)
    except Interrupted:
        raise
    except Exception as error:  # whatever it is, the other cases go on
        return note_failure(folder, error)


def raise_if_stopped(stop: StopRequest) -> None:
    """Raise `Interrupted` if a signal has come; cases that are finished are kept."""
    if stop.signal is not None:
        name = signal.Signals(stop.signal).name
        raise Interrupted(f"stopped by {name}; finished cases are kept: continue with --resume")


def note_failure(folder: Path, error: BaseException) -> Outcome:
    """Write `failed.json`; a numerical failure is final, since it would come again."""
    text = str(error) if isinstance(error, SurrogateError) else f"{type(error).__name__}: {error}"
    why = " ".join(text.split())
    kind, final = type(error).__name__, isinstance(error, NumericalError)
    try:
        write_note(RunFolder(folder).failure, Failure(error=why, kind=kind, final=final))
    except (OSError, SurrogateError) as second:  # most likely a full disk: only the message says so
        why = f"{why}; and it could not be written down ({second})"
    ended = failure_of(error)
    starved = ended is not None and ended[1] == ResourceError.exit_code
    return Outcome(folder.name, "failed", why, lost=not final, starved=starved)


def _result(run: RunFolder, metrics: xr.Dataset) -> Result:
    facts = run.begun()
    epochs = [record for record in run.records() if record["event"] == "epoch"]
    elapsed = np.cumsum([record["seconds"] for record in epochs])
    names = (*METRICS, headline(metrics).metric)
    means = {name: mean_error(name, per_sample(metrics, name).values) for name in names}
    return Result(
        validation_loss=facts["validation_loss"],
        test={name: value if math.isfinite(value) else None for name, value in means.items()},
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


def run_jobs(
    jobs: Sequence[Work], executor: Executor | None, stopped: Callable[[], None] = lambda: None
) -> Iterator[Outcome]:
    """Run all jobs; yield their outcomes as they finish.

    Arguments:
        jobs: What to run.
        executor: Where to run them; None runs one after the other in this process.
        stopped: Called between jobs; raises if a signal has come.

    Raises:
        Interrupted: A signal came.
    """
    longest_first = jobs if executor is None else sorted(jobs, key=lambda job: -job.cost)  # so that none is left over
    for _, outcomes in as_finished(executor, methodcaller("run"), longest_first, failed=_failed, poll=stopped):
        yield from outcomes


def _failed(job: Work, error: BaseException) -> list[Outcome]:
    """Record that the worker of a job was lost."""
    return [note_failure(case, error) for case in job.open]
