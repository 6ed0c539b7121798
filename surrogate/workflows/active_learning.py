"""Active learning: train, choose the next simulations from their parameters alone, run them, train again."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from surrogate.config import Settings, digest, dump, parse_yaml
from surrogate.data.hdf5.array import open_file
from surrogate.data.store import MANIFEST, Manifest, Shard, write_manifest
from surrogate.data.verified import verified
from surrogate.errors import ConfigError, DataError, Interrupted, InUse, NumericalError
from surrogate.experiment.folders import ProjectFolder
from surrogate.experiment.run_folder import RunFolder
from surrogate.experiment.settings import Experiment, SimulateSettings, read_experiment
from surrogate.files import claim_output, locked, replacing
from surrogate.models.surrogate import Surrogate
from surrogate.prediction.sources import source_of_data
from surrogate.simulate import Ensemble, simulate_members
from surrogate.simulate.generate import find_recipe, load_recipe
from surrogate.studies import (
    GridStudy,
    PlannedPoint,
    StudyPlan,
    case_name,
    grams_of,
    greedy_batch,
    read_note,
    read_result,
    write_note,
)
from surrogate.studies.settings import TRAIN_SIZE, Proposing
from surrogate.workflows.execute import IN_USE, Job, Outcome, note_failure, run_case

__all__ = ["LoopJob", "plan_loops", "run_loop"]

DATA = "data.h5"
CHOSEN = "chosen.json"
BATCH = 256


@dataclass(frozen=True)
class LoopJob:
    """A loop to run, one case after another.

    Arguments:
        folder: Folder of the loop's data and choices.
        cases: Folders of its cases, one per round.
        config: Configuration of the training, as YAML.
        propose: The loop's settings, as JSON.
        way: Method of choosing the next simulations.
        seed: The seed.
        command: The command that asked for it.
    """

    folder: str
    cases: tuple[str, ...]
    config: str
    propose: str
    way: str
    seed: int
    command: str
    cost: float = 0.0

    @property
    def open(self) -> list[Path]:
        """Folders of its cases that have no result."""
        return [Path(case) for case in self.cases if read_result(Path(case)) is None]

    def run(self) -> list[Outcome]:
        """Run the rounds without a result; stop after a failure."""
        try:
            return run_loop(self)
        except InUse:
            return [Outcome(case.name, "in use", IN_USE, ran=False, lost=True) for case in self.open]
        except Interrupted:
            raise
        except Exception as error:  # whatever it is, the other loops go on
            return [note_failure(case, error) for case in self.open]


def plan_loops(
    study: GridStudy, bases: dict[str, Experiment], output: Path, command: str
) -> tuple[StudyPlan, list[LoopJob]]:
    """Plan a loop for every method, way of choosing and seed.

    Raises:
        ConfigError: The file does not simulate, its split is not in numbers, or there are too few candidates.
    """
    loop = study.propose
    if loop is None:
        raise ConfigError("study.propose: this kind of study needs the section")
    points, jobs = [], []
    for method, base in bases.items():
        held_out(base, loop)
        simulate = base.simulate or SimulateSettings(recipe="")
        recipe = digest(load_recipe(find_recipe(simulate.recipe)))
        for way in loop.ways:
            # what determines a loop besides its training; the number of rounds does not
            identity = json.dumps([recipe, simulate.size, loop.initial, loop.batch, way])
            label = way if len(bases) == 1 else f"{method}-{way}"
            for seed in study.seeds:
                training = base.training.model_copy(update={"seed": seed, "uncertainty": True})
                experiment = base.model_copy(update={"training": training})
                name = case_name(label, experiment.model_dump(mode="json"), identity)
                cases = [f"{name}-{size}" for size in loop.sizes]
                points += [
                    PlannedPoint(method=label, grid=0, values={TRAIN_SIZE: size}, trial={}, seed=seed, case=case)
                    for size, case in zip(loop.sizes, cases, strict=True)
                ]
                folders = tuple(str(ProjectFolder(output).case(case).absolute()) for case in cases)
                folder = str((ProjectFolder(output).loops / name).absolute())
                config, settings = dump(experiment), loop.model_dump_json()
                jobs.append(LoopJob(folder, folders, config, settings, way, seed, command))
    laid = study.model_copy(update={"axes": {TRAIN_SIZE: loop.sizes}})
    first = next(iter(bases.values()))
    labels = {point.method: {TRAIN_SIZE: None} for point in points}
    return StudyPlan(
        name=first.name, study=laid, base=labels, points=points, command=command, fingerprint="made as it goes"
    ), jobs


def held_out(experiment: Experiment, loop: Proposing) -> tuple[int, int]:
    """Return the numbers of validation and of test simulations.

    Raises:
        ConfigError: They are not numbers, or too few candidates are left.
    """
    if experiment.simulate is None:
        raise ConfigError("simulate: a study that proposes runs simulations; name a recipe and a size")
    split = experiment.data.split
    counts = (split.validation, split.test)
    if not all(isinstance(count, int) and count > 0 for count in counts):
        raise ConfigError("data.split: give validation and test as numbers of simulations, such as 100")
    recipe = load_recipe(find_recipe(experiment.simulate.recipe))
    total = Ensemble(recipe, experiment.simulate.size).size.simulations
    left = total - int(str(counts[0])) - int(str(counts[1]))
    if left < loop.sizes[-1]:
        raise DataError(
            f"study.propose: {loop.sizes[-1]} training simulations in the end, but {left} of the {total} of size "
            f"{experiment.simulate.size} are candidates; choose fewer rounds or a larger size"
        )
    return int(str(counts[0])), int(str(counts[1]))


def run_loop(job: LoopJob) -> list[Outcome]:
    """Run the rounds that are not finished; each is a case of the study."""
    experiment, loop = read_experiment(parse_yaml(job.config, job.folder)), Proposing.model_validate_json(job.propose)
    folder = Path(job.folder)
    claim_output(folder, resume=True)
    outcomes: list[Outcome] = []
    with locked(folder, RunFolder(folder).case_lock.name):
        candidates = _Candidates(experiment, loop, job.seed)
        chosen, data = candidates.start, folder / DATA
        for number, case in enumerate(job.cases):
            if number:
                note = folder / f"round-{number}" / CHOSEN
                kept = read_note(note, _Chosen)
                if kept is None:
                    more = candidates.choose(chosen, Path(job.cases[number - 1]), job.way)
                    kept = _Chosen(simulations=[*chosen, *more])
                    write_note(note, kept)
                chosen = kept.simulations
            before = data if number else folder.parent / f"held-out-{candidates.identity}" / DATA
            data = folder / f"round-{number}" / DATA
            if not (before.parent / MANIFEST).is_file():
                candidates.write(before, [], None)
            if not (data.parent / MANIFEST).is_file():
                candidates.write(data, chosen, before)
            outcome = run_case(Job(case, dump(candidates.experiment(data)), job.command))
            if outcome.ran:
                outcomes.append(outcome)
            if outcome.status != "done":
                later = [Path(name) for name in job.cases[number + 1 :]]
                error = NumericalError(f"the round before failed: {outcome.why}")
                return outcomes + [note_failure(name, error) for name in later]
    return outcomes


class _Chosen(Settings):
    """The simulations of a round, by their numbers in the recipe."""

    simulations: list[int]


class _Candidates:
    """The simulations of a recipe: those held out and those to choose from.

    Arguments:
        base: Configuration of the training.
        loop: Settings of the loop.
        seed: Seed of the first simulations and of random choice.
    """

    def __init__(self, base: Experiment, loop: Proposing, seed: int) -> None:
        self.base, self.loop, self.seed = base, loop, seed
        validation, test = held_out(base, loop)
        simulate = base.simulate or SimulateSettings(recipe="")
        self.size, self.recipe = simulate.size, load_recipe(find_recipe(simulate.recipe))
        self.ensemble = Ensemble(self.recipe, self.size)
        order = np.random.default_rng(base.data.split.seed).permutation(self.ensemble.size.simulations).tolist()
        self.test, self.validation = order[:test], order[test : test + validation]
        self.pool = sorted(order[test + validation :])

    @property
    def start(self) -> list[int]:
        """The first training simulations, the same for every way of choosing."""
        generator = np.random.default_rng([self.seed, 0])
        return [int(number) for number in generator.choice(self.pool, self.loop.initial, replace=False)]

    def choose(self, chosen: list[int], case: Path, way: str) -> list[int]:
        """Choose more simulations, given those that have run and the surrogate trained on them."""
        left = [number for number in self.pool if number not in set(chosen)]
        if way == "random":
            generator = np.random.default_rng([self.seed, len(chosen)])
            return [int(number) for number in generator.choice(left, self.loop.batch, replace=False)]
        surrogate = Surrogate.load(RunFolder(case).checkpoints.best())
        if surrogate.posterior is None:
            raise DataError(f"{case}: its surrogate has no posterior; remove the folder and resume")
        source = source_of_data(surrogate.signature, self.ensemble.candidates(left), batch_size=BATCH)
        grams = [grams_of(surrogate.network, surrogate.normalized_inputs(inputs)) for _, inputs in source.batches()]
        return [left[position] for position in greedy_batch(torch.cat(grams), surrogate.posterior, self.loop.batch)]

    @property
    def identity(self) -> str:
        """Short hash of the simulations that are held out."""
        text = json.dumps([digest(self.recipe), self.size, self.test, self.validation, self.names])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def names(self) -> list[str]:
        """Variables among inputs and targets."""
        return list(dict.fromkeys([*self.base.data.inputs, *self.base.data.targets]))

    def write(self, path: Path, chosen: list[int], before: Path | None) -> None:
        """Write one file with a group for each part, and then a manifest that all who read the file compare it with.

        Simulations in the file before it are not run again.
        """
        known: dict[str, dict[str, np.ndarray]] = {"train": {}, "validation": {}, "test": {}}
        if before:
            verified([before])
            with open_file(before) as file:
                for part in known:
                    known[part] = {name: values[()] for name, values in file.get(part, {}).items()}
        done = len(next(iter(known["train"].values()), ()))
        wanted = {"train": chosen[done:]} if before else {"validation": self.validation, "test": self.test}
        for part, numbers in wanted.items():
            made = simulate_members(self.recipe, self.size, numbers)
            for name in self.names:
                earlier = [known[part][name]] if name in known[part] else []
                known[part][name] = np.concatenate([*earlier, made[name].values])
        memory = io.BytesIO()
        with h5py.File(memory, "w") as file:
            for part, variables in known.items():
                for name, values in variables.items():
                    file.create_dataset(f"{part}/{name}", data=values)
        content = memory.getvalue()
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        samples = sum(len(next(iter(variables.values()), ())) for variables in known.values())
        shard = Shard(file=path.name, samples=samples, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        write_manifest(
            path.parent, Manifest(name=self.recipe.name, digest=self.identity, samples=samples, shards=[shard])
        )

    def experiment(self, data: Path) -> Experiment:
        """Return the configuration that trains on a file of `write`."""
        first = simulate_members(self.recipe, self.size, self.test[:1])
        variables: dict[str, Any] = {
            name: {"path": name, "axes": list(map(str, first[name].dims)), "units": first[name].attrs.get("units")}
            for name in self.names
        }
        settings = self.base.data.model_dump(mode="json") | {
            "path": str(data),
            "layout": {"groups": ["train", "validation", "test"], "variables": variables},
            "split": {"validation": {"group": "validation"}, "test": {"group": "test"}},
        }
        return self.base.model_copy(update={"data": type(self.base.data).model_validate(settings), "simulate": None})
