"""From a recipe to shards on disk; interrupted runs resume and write the same files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path

from surrogate.config import changes, digest, dump, load
from surrogate.data.store import (
    MANIFEST,
    Failure,
    Manifest,
    Shard,
    is_whole,
    read_manifest,
    write_manifest,
    write_shard,
)
from surrogate.errors import ConfigError, DataError, NumericalError
from surrogate.files import claim_output, locked, replacing
from surrogate.runtime.futures import as_finished
from surrogate.simulate import (
    EQUATIONS,
    Ensemble,
    Evolution,
    Map,
    Recipe,
    describe_parameters,
    find_recipe,
    load_recipe,
    register,
    simulate_members,
)

__all__ = ["Recipe", "find_recipe", "generate", "is_made", "load_recipe", "simulate_members"]

RECIPE = "recipe.yaml"
PROGRESS = "progress.json"

Progress = Callable[[int, int], None]


def generate(
    recipe: Recipe,
    size: str,
    output: Path,
    *,
    batch: int = 16,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> Path:
    """Simulate the data set of a recipe: write its shards, and last its manifest.

    Arguments:
        recipe: The recipe.
        size: Name of one of its sizes.
        output: Folder of the data set.
        batch: Simulations that are stepped together.
        resume: Keep the complete shards that an interrupted run left in the folder.
        overwrite: Replace a data set in the folder.
        device: Where to compute.
        progress: Called with the simulations done and their total, at the start and after every batch; with an executor
            after every shard.
        executor: Computes and writes shards at the same time, for instance on a dask cluster; the files are the same.

    Returns:
        The folder.

    Raises:
        ConfigError: The folder is in use for something else, or holds data of another recipe.
        NumericalError: More simulations blew up than the recipe allows.
        ResourceError: The disk is full, the device is absent, or another process writes to the folder.
    """
    if batch < 1:
        raise ConfigError(f"batch is {batch}; at least one simulation is stepped at a time")
    ensemble = Ensemble(recipe, size, device)
    chosen = ensemble.recipe.model_copy(update={"sizes": {size: ensemble.size}})
    claim_output(output, overwrite=overwrite, resume=resume, reads=recipe.reads)
    with locked(output):
        run = _Run(ensemble, output, digest(chosen), progress or (lambda done, total: None))
        tasks = run.keep(_start(output, chosen), _Job(chosen, size, output.resolve(), batch, device))
        run.serve(tasks, executor) if executor else run.work(tasks)
        write_manifest(output, run.manifest)
        (output / PROGRESS).unlink(missing_ok=True)
    return output


def is_made(recipe: Recipe, size: str, output: Path) -> bool:
    """Return True if a folder holds the finished data set of a recipe, by its manifest and the sizes of its files."""
    try:
        manifest = read_manifest(output)
        sizes = [(output / shard.file).stat().st_size for shard in manifest.shards]
    except (DataError, OSError):
        return False
    ensemble = Ensemble(recipe, size, "cpu")
    chosen = ensemble.recipe.model_copy(update={"sizes": {size: ensemble.size}})
    return manifest.digest == digest(chosen) and sizes == [shard.bytes for shard in manifest.shards]


@dataclass(frozen=True)
class _Job:
    """The recipe, size and folder that all shards of a run share."""

    recipe: Recipe
    size: str
    output: Path
    batch: int
    device: str


@dataclass(frozen=True)
class _Task:
    """One shard to make."""

    index: int
    numbers: range
    file: str
    job: _Job
    equation: Evolution | Map  # sent along, since another process does not know equations of your own


@dataclass(frozen=True)
class _Outcome:
    """A shard that was made; None where every simulation of it blew up."""

    task: _Task
    shard: Shard | None
    failed: list[Failure]
    ran: int = 0  # simulations that have run; the others of the shard were left out after too many failures
    reason: str = ""  # of the first failure, where the integrator gives one


def _make_shard(task: _Task, ensemble: Ensemble | None = None, done: Callable[[int], None] | None = None) -> _Outcome:
    """Run the simulations of a shard and write those that did not blow up."""
    job = task.job
    if ensemble is None:
        if task.equation.name not in EQUATIONS:
            register(task.equation)
        ensemble = Ensemble(job.recipe, job.size, job.device)
    results = ensemble.run(
        task.numbers, batch=job.batch, done=done, allowed=job.recipe.max_failed * ensemble.size.simulations
    )
    failed = [Failure(simulation=number, parameters=values) for number, values in results.failed.items()]
    ran = len(results.numbers)
    useful = ran == len(task.numbers) and bool(results.finite.any())
    shard = write_shard(job.output / task.file, ensemble.dataset(results)) if useful else None
    return _Outcome(task, shard, failed, ran, next(iter(results.reasons.values()), ""))


@dataclass
class _Run:
    """One run of an ensemble into a folder: the shards it has written and the simulations that failed, by shard."""

    ensemble: Ensemble
    output: Path
    digest: str
    progress: Progress
    shards: dict[int, Shard] = field(default_factory=dict)
    failed: dict[int, list[Failure]] = field(default_factory=dict)
    reason: str = ""
    done: int = 0

    @property
    def manifest(self) -> Manifest:
        return Manifest(
            name=self.ensemble.recipe.name,
            digest=self.digest,
            samples=sum(shard.samples for shard in self.shards.values()),
            shards=[self.shards[index] for index in sorted(self.shards)],
            failed=[failure for index in sorted(self.failed) for failure in self.failed[index]],
        )

    def keep(self, earlier: Manifest | None, job: _Job) -> list[_Task]:
        """Keep the complete shards of an earlier run; return the tasks that remain."""
        total, step = self.ensemble.size.simulations, self.ensemble.size.shard
        known = {shard.file: shard for shard in earlier.shards} if earlier else {}
        tasks = []
        for index, first in enumerate(range(0, total, step)):
            numbers = range(first, min(first + step, total))
            file = f"{self.ensemble.recipe.name}-{index:05d}.h5"
            if earlier and file in known and is_whole(self.output, known[file]):
                self.shards[index] = known[file]
                self.failed[index] = [failure for failure in earlier.failed if failure.simulation in numbers]
                self.done += len(numbers)
            else:
                tasks.append(_Task(index, numbers, file, job, self.ensemble.equation))
        self.progress(self.done, total)
        return tasks

    def work(self, tasks: Sequence[_Task]) -> None:
        """Make shards one after the other."""
        for task in tasks:
            self._record(_make_shard(task, self.ensemble, self._tell))

    def _tell(self, count: int) -> None:
        """Report progress within a shard."""
        self.progress(self.done + count, self.ensemble.size.simulations)

    def serve(self, tasks: Sequence[_Task], executor: Executor) -> None:
        """Make shards in parallel; record each as it finishes."""
        for _, outcome in as_finished(executor, _make_shard, tasks):
            self._record(outcome)
            self.progress(self.done, self.ensemble.size.simulations)

    def _refuse_many(self, failed: list[Failure]) -> None:
        total, share = self.ensemble.size.simulations, self.ensemble.recipe.max_failed
        if len(failed) > share * total:
            first = describe_parameters(failed[0].parameters)
            reason = f"; the reason: {self.reason}" if self.reason else ""
            raise NumericalError(
                f"{len(failed)} of {total} simulations blew up when {self.done} had run, more than max_failed "
                f"{share:g} allows; first number {failed[0].simulation} ({first}){reason}: narrow the ranges of the "
                "recipe"
            )

    def _record(self, outcome: _Outcome) -> None:
        """Record a shard, unless too many simulations have blown up."""
        index = outcome.task.index
        self.done += outcome.ran
        self.failed[index] = outcome.failed
        self.reason = self.reason or outcome.reason
        self._refuse_many(self.manifest.failed)
        if outcome.shard is not None:
            self.shards[index] = outcome.shard
            write_manifest(self.output, self.manifest, PROGRESS)


def _start(output: Path, recipe: Recipe) -> Manifest | None:
    """Prepare a claimed folder; return the manifest of an earlier run of the same recipe, None if there is none.

    Raises:
        ConfigError: The folder holds data of another recipe, or something else.
    """
    for part in output.glob(".*.part"):
        part.unlink()
    if (output / RECIPE).exists():
        changed = [f"{key}: {change}" for key, change in changes(load(output / RECIPE, Recipe), recipe).items()]
        if changed:
            raise ConfigError(
                f"output {output} was made with another recipe ({'; '.join(changed)}); "
                "resume with the old one, give --overwrite or choose another --output"
            )
        noted = [file for file in (PROGRESS, MANIFEST) if (output / file).exists()]
        return read_manifest(output, noted[0]) if noted else None
    foreign = sorted(path.name for path in output.iterdir() if not path.name.startswith("."))
    if foreign:
        raise ConfigError(
            f"output {output} holds {foreign[0]} but no {RECIPE}: not a simulation; choose another --output"
        )
    with replacing(output / RECIPE) as part:
        part.write_text(dump(recipe), encoding="utf-8")
    return None
