"""From a recipe to shards on the disk: restartable, and the same files however often it was interrupted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from surrogate.checks import ConfigError, DataError, NumericalError
from surrogate.config import digest, dump, load
from surrogate.data.store import (
    MANIFEST,
    Failure,
    Manifest,
    Shard,
    check_shard,
    read_manifest,
    write_manifest,
    write_shard,
)
from surrogate.files import claim_output, locked, replacing
from surrogate.simulate import Ensemble, Recipe, find_recipe, load_recipe, simulate_members

__all__ = ["Recipe", "find_recipe", "generate", "load_recipe", "simulate_members"]

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
) -> Path:
    """Make the data set of a recipe: shards, and last its manifest.

    Arguments:
        recipe: The recipe.
        size: Name of one of its sizes.
        output: Folder of the data set.
        batch: Simulations that are stepped together.
        resume: Keep the whole shards that an interrupted run left in the folder.
        overwrite: Replace a data set in the folder.
        device: Where to compute.
        progress: Called with the simulations done and their total after every batch.

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
    chosen = recipe.model_copy(update={"sizes": {size: ensemble.size}})
    claim_output(output, overwrite=overwrite, resume=resume)
    with locked(output):
        run = _Run(ensemble, output, digest(chosen), batch, progress or _silent)
        run.fill(_start(output, chosen))
        write_manifest(output, run.manifest)
        (output / PROGRESS).unlink(missing_ok=True)
    return output


def _silent(done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass
class _Run:
    """One run of an ensemble into a folder, and what it has put there."""

    ensemble: Ensemble
    output: Path
    digest: str
    batch: int
    progress: Progress
    shards: list[Shard] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)

    @property
    def manifest(self) -> Manifest:
        return Manifest(
            name=self.ensemble.recipe.name,
            digest=self.digest,
            samples=sum(shard.samples for shard in self.shards),
            shards=self.shards,
            failed=self.failed,
        )

    def fill(self, earlier: Manifest | None) -> None:
        """Write all shards but the whole ones of an earlier run."""
        total, step = self.ensemble.size.simulations, self.ensemble.size.shard
        known = {shard.file: shard for shard in earlier.shards} if earlier else {}
        for index, first in enumerate(range(0, total, step)):
            numbers = range(first, min(first + step, total))
            file = f"{self.ensemble.recipe.name}-{index:05d}.h5"
            if earlier and file in known and _is_whole(self.output, known[file]):
                self.shards.append(known[file])
                self.failed += [failure for failure in earlier.failed if failure.simulation in numbers]
                self.progress(numbers.stop, total)
            else:
                self._simulate(numbers, file)

    def _simulate(self, numbers: range, file: str) -> None:
        """Run the simulations of one shard and write those that did not blow up."""
        total = self.ensemble.size.simulations
        results = self.ensemble.run(
            numbers, batch=self.batch, done=lambda count: self.progress(numbers.start + count, total)
        )
        self.failed += [Failure(simulation=number, parameters=values) for number, values in results.failed.items()]
        share = self.ensemble.recipe.max_failed
        if len(self.failed) > share * total:
            worst = self.failed[0]
            values = ", ".join(f"{name}={value:.6g}" for name, value in worst.parameters.items())
            raise NumericalError(
                f"{len(self.failed)} of {total} simulations blew up by number {numbers.stop - 1}, more than max_failed "
                f"{share:g} allows; first number {worst.simulation} ({values}): narrow the ranges of the recipe"
            )
        if results.finite.any():
            self.shards.append(write_shard(self.output / file, self.ensemble.dataset(results)))
            write_manifest(self.output, self.manifest, PROGRESS)


def _start(output: Path, recipe: Recipe) -> Manifest | None:
    """Ready a claimed folder; returns what an earlier run of the same recipe noted there, if there was one."""
    for part in output.glob(".*.part"):
        part.unlink()
    if (output / RECIPE).exists():
        _refuse_other(recipe, load(output / RECIPE, Recipe), output)
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


def _refuse_other(recipe: Recipe, stored: Recipe, output: Path) -> None:
    now, then = _leaves(recipe.model_dump(mode="json")), _leaves(stored.model_dump(mode="json"))
    changed = [
        f"{key}: {then.get(key, 'absent')} -> {now.get(key, 'absent')}"
        for key in sorted(now.keys() | then.keys())
        if now.get(key) != then.get(key)
    ]
    if changed:
        raise ConfigError(
            f"output {output} was made with another recipe ({'; '.join(changed)}); "
            "resume with the old one, give --overwrite or choose another --output"
        )


def _leaves(tree: Any, key: str = "") -> dict[str, Any]:
    """Leaves of nested mappings by dotted key."""
    if not isinstance(tree, dict):
        return {key: tree}
    return {name: leaf for k, below in tree.items() for name, leaf in _leaves(below, f"{key}.{k}".lstrip(".")).items()}


def _is_whole(output: Path, shard: Shard) -> bool:
    try:
        check_shard(output, shard)
    except DataError:
        return False
    return True
