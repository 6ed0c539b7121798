"""Comparison of surrogates on one data set within a budget of time: which is best, what it costs, in plain words."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from surrogate.config import Settings, Source, apply_overrides, assign, dump, read_yaml
from surrogate.data import Stream, open_data, split, split_ids
from surrogate.data.fingerprint import fingerprint
from surrogate.data.layouts import find_files
from surrogate.errors import ConfigError, NumericalError, ResourceError
from surrogate.evaluation import headline
from surrogate.evaluation.bootstrap import interval, selected_error
from surrogate.evaluation.comparison import UNDECIDED, compare_cases
from surrogate.evaluation.headline import NORMALIZED, RELATIVE
from surrogate.experiment.folders import ComparisonFolder, ProjectFolder
from surrogate.experiment.run_folder import RunFolder
from surrogate.experiment.settings import Experiment, read_experiment
from surrogate.files import claim_output, locked
from surrogate.models import Surrogate
from surrogate.models.signature import signature_of
from surrogate.numbers import number
from surrogate.report.leaderboard import Entry, Leaderboard, write_leaderboard
from surrogate.runtime.dask import dask_executor
from surrogate.runtime.signals import StopRequest
from surrogate.studies import case_name, per_sample, read_failure, read_note, read_result, write_note
from surrogate.workflows.budget import LEAST, Pilot, epochs_within
from surrogate.workflows.candidates import Candidate, candidates_for
from surrogate.workflows.cases import with_own_data
from surrogate.workflows.execute import Job, Outcome, raise_if_stopped, run_jobs
from surrogate.workflows.pipeline import evaluate_run, read_by, simulate
from surrogate.workflows.study import Say, Spread
from surrogate.workflows.winner import keep_winner

__all__ = ["FEW", "FOLDS", "compare"]

FEW = 50  # simulations below which one test part says little, so that folds are taken
FOLDS = 5
PILOT = 2  # epochs that measure what an epoch takes
FITS = 0.5  # share of the budget that fits may take where there are networks
TIMED = 32  # samples of one prediction that is timed
HERE = Spread()


class ComparePlan(Settings):
    """What is compared: written before anything is trained, and read by a resumed run.

    Arguments:
        minutes: The budget.
        folds: Number of folds; 1 for the test part of the configuration.
        epochs: Epochs of every candidate that is trained by steps; those of the pilots are measured first.
    """

    minutes: float
    folds: int
    epochs: dict[str, int]


@dataclass(frozen=True)
class Comparison:
    """A comparison that runs: its candidates and where they go.

    Arguments:
        source: The configuration of the user, with the data that it names or simulates.
        base: The same, validated.
        output: Folder of everything.
        command: What was typed.
        folds: Number of folds; 1 for the test part of the configuration.
        candidates: What is compared.
        data: Fingerprint of the data.
    """

    source: Source
    base: Experiment
    output: Path
    command: str
    folds: int
    candidates: Sequence[Candidate]
    data: str

    def job(self, candidate: Candidate, fold: int, epochs: int | None) -> Job:
        """Return the training and evaluation of a candidate on a fold."""
        keep = {key: value for key, value in self.source.tree.items() if key in ("name", "simulate", "data")}
        tree = keep | {"model": candidate.model, "training": self._training(candidate, epochs)}
        tree |= {"evaluation": {"rollout_steps": 0}}  # surrogates are ranked by single steps
        tree |= {"optimizer": candidate.optimizer} if candidate.optimizer else {}
        source = Source(self.source.name, tree)
        changes: dict[str, Any] = {"data.split.folds": self.folds, "data.split.fold": fold}
        experiment = read_experiment(assign(source, changes) if self.folds > 1 else source)
        name = case_name(candidate.name, experiment.model_dump(mode="json"), self.data)
        folder = ProjectFolder(self.output).case(name).absolute()
        return Job(str(folder), dump(experiment), self.command, float(epochs or 0), metrics_alone=True)

    def _training(self, candidate: Candidate, epochs: int | None) -> dict[str, Any]:
        given = self.base.training
        training: dict[str, Any] = {"batch_size": given.batch_size, "seed": given.seed, "device": given.device}
        return training if epochs is None else training | candidate.training | {"epochs": epochs}

    def jobs(self, epochs: Mapping[str, int | None]) -> dict[str, list[Job]]:
        """Return the jobs of the candidates named, one for each fold; of those that are fitted, the epochs are None."""
        return {
            candidate.name: [self.job(candidate, fold, epochs[candidate.name]) for fold in range(self.folds)]
            for candidate in self.candidates
            if candidate.name in epochs
        }


def compare(
    config: Path | Source,
    overrides: list[str],
    output: Path | None,
    say: Say,
    *,
    minutes: float,
    command: str,
    resume: bool = False,
    overwrite: bool = False,
    spread: Spread = HERE,
    solve_seconds: float | None = None,
) -> Path:
    """Train simple surrogates and networks on one data set, and rank them by their error on simulations left out.

    Families that are fitted come first and take at most half of the budget. The time that is left is shared equally by
    the networks (`epochs_within`): two epochs of each measure how many epochs it gets. With fewer than 50 simulations,
    and unless the configuration says otherwise, errors are those of a 5-fold cross-validation over simulations.

    Arguments:
        config: A configuration file, or its parsed content; its model and optimizer are one of the candidates.
        overrides: `key=value` changes.
        output: Folder; `runs/<name>-compare` unless given.
        say: Called with a line for the user.
        minutes: Budget for all training together.
        command: What was typed, for the report.
        resume: Keep finished cases of an earlier run.
        overwrite: Replace an earlier run.
        spread: Workers.
        solve_seconds: Time of one simulation, for the number of solves after which the best surrogate pays back.

    Returns:
        The report.

    Raises:
        ConfigError: The configuration is wrong, or there is no time for anything.
        Interrupted: A signal came; finished cases are kept.
    """
    source = apply_overrides(read_yaml(config) if isinstance(config, Path) else config, overrides)
    source = Source(source.name, {key: value for key, value in source.tree.items() if key not in ("cases", "study")})
    folder = output or Path("runs") / f"{source.tree.get('name', Path(source.name).stem)}-compare"
    source = with_own_data(source, ProjectFolder(folder).data)
    base = read_experiment(source)
    if base.data.nonfinite == "mask":
        raise ConfigError("compare: families that are fitted need every target; choose data.nonfinite: drop")
    reads = read_by(source, [base], ProjectFolder(folder).data)
    claim_output(folder, overwrite=overwrite, resume=resume, reads=reads)
    with locked(folder), ExitStack() as stack:
        if base.data.path == str(ProjectFolder(folder).data):
            simulate(base, ProjectFolder(folder).data, say)
        comparison = _set_up(source, base, folder, command)
        executor = None
        if spread.workers or spread.scheduler:
            executor = stack.enter_context(dask_executor(spread.workers, spread.scheduler))
        stop = StopRequest()
        stack.enter_context(stop.listening())

        starved: list[Outcome] = []

        def run(jobs: Sequence[Job], title: str) -> None:
            left = [job for job in jobs if job.open]
            for number, outcome in enumerate(run_jobs(left, executor, lambda: raise_if_stopped(stop)), start=1):
                say(f"{title} [{number}/{len(left)}] {_described(outcome.name, outcome.status, outcome.why, folder)}")
                starved.extend([outcome] if outcome.starved else [])

        began = time.monotonic()
        names = ", ".join(candidate.name for candidate in comparison.candidates)
        how = f"{comparison.folds}-fold cross-validation" if comparison.folds > 1 else "the test simulations"
        say(f"comparing {len(comparison.candidates)} surrogates by {how} within {minutes:g} minutes: {names}")
        fits = _fit(comparison, minutes, began, run, say, max(1, spread.workers))
        epochs = _epochs(comparison, minutes, began, run, say, max(1, spread.workers))
        trained = comparison.jobs(epochs)
        run([job for jobs in trained.values() for job in jobs], "train")
        if starved:
            raise ResourceError(
                f"{len(starved)} of the trainings are not finished, the first for this reason: {starved[0].why}; "
                "remove the reason, then --resume"
            )
        leaderboard = replace(_ranked(comparison, fits | trained), solve_seconds=solve_seconds)
        report, best = write_leaderboard(leaderboard, folder), leaderboard.entries[0].name
        winners = [Path(job.folder) for job in (fits | trained)[best]]
        for winner in winners:  # with examples and intervals; of the others there are the metrics
            evaluate_run(winner, lambda _: None)
        advice = keep_winner(folder, best, winners)
    for line in leaderboard.sentences():
        say(line)
    say(advice)
    say(f"report: {report}")
    return report


def _set_up(source: Source, base: Experiment, folder: Path, command: str) -> Comparison:
    """Open the data, decide on folds and candidates."""
    dataset = open_data(base.data)
    parts = split(dataset, base.data.split, by=base.data.by)
    simulations = sum(len(set(names)) for names in split_ids(parts, by=base.data.by).values())
    given = base.data.split
    if given.folds is not None:
        folds = simulations if given.folds == "leave_one_out" else given.folds
    elif given.by == "time" or given.extrapolate or simulations >= FEW or not isinstance(given.test, int | float):
        folds = 1
    else:
        folds = min(FOLDS, simulations)
    if folds == 1 and "test" not in parts:
        raise ConfigError("data.split.test: compare needs simulations for the test; give it a share")
    data = base.data
    stream = Stream(
        parts["train"], data.inputs, data.targets, batch_size=1, window=data.window, shuffle=False, buffer_bytes=2**24
    )
    signature = signature_of(stream, parts["train"])
    source = assign(source, {"data.split.test": SPLIT_TEST}) if folds > 1 and given.folds is None else source
    reconstruct = set(signature.targets) <= set(signature.inputs)
    candidates = candidates_for(signature.shapes, base, samples=stream.samples, reconstruct=reconstruct)
    return Comparison(source, base, folder, command, folds, candidates, fingerprint(find_files(data.path)))


SPLIT_TEST = 0.1  # the default, which folds replace


def _fit(
    comparison: Comparison, minutes: float, began: float, run: Any, say: Say, workers: int
) -> dict[str, list[Job]]:
    """Run the fits, in at most half of the time where networks need the rest; return the jobs of those that ran.

    The first fold of every family comes first; the others follow in the order of the errors on it, so that where time
    is short the families that promise most are finished. The first, the training mean, is always finished.
    """
    networks = any(not candidate.fitted for candidate in comparison.candidates)
    share = 60 * minutes * (FITS if networks else 1.0)
    fitted = [candidate.name for candidate in comparison.candidates if candidate.fitted]
    begun: dict[str, tuple[float, float]] = {}  # error of the first fold, and its time
    jobs = comparison.jobs(dict.fromkeys(fitted))
    for name, of_folds in jobs.items():
        if begun and time.monotonic() - began >= share and any(job.open for job in of_folds):
            say(f"{name} is left out: fits have {share / 60:.3g} minutes; give --minutes more than {minutes:g}")
            continue
        start = time.monotonic()
        run(of_folds[:workers], "fit")
        begun[name] = (_error_of(Path(of_folds[0].folder))[1], time.monotonic() - start)
    kept: dict[str, list[Job]] = {}
    for name, (_, each) in sorted(begun.items(), key=lambda item: item[1][0]):
        rounds = math.ceil(sum(bool(job.open) for job in jobs[name][workers:]) / workers)
        if name != fitted[0] and rounds * each > share - (time.monotonic() - began):
            say(f"{name} is left out: one fold takes {each:.2g} s, there is no time for {comparison.folds} of them")
            continue
        run(jobs[name][workers:], "fit")
        kept[name] = jobs[name]
    return kept


def _error_of(case: Path) -> tuple[str, float]:
    """Return the name and the mean of the headline error of a case; infinite where it has no result."""
    result = read_result(case)
    if result is None:
        return "", math.inf
    chosen = NORMALIZED if NORMALIZED.metric in result.test else RELATIVE
    error = result.test[chosen.metric]
    return chosen.short, math.inf if error is None else error


def _epochs(comparison: Comparison, minutes: float, began: float, run: Any, say: Say, workers: int) -> dict[str, int]:
    """Train each network for two epochs to measure its pace, then share the time that is left."""
    path = ComparisonFolder(comparison.output).settled
    plan = read_note(path, ComparePlan)
    if plan is not None and plan.folds == comparison.folds:
        return plan.epochs
    pilots: dict[str, Pilot] = {}
    networks = [candidate for candidate in comparison.candidates if not candidate.fitted]
    for tried, candidate in enumerate(networks):
        if time.monotonic() - began >= 60 * minutes:
            names = ", ".join(other.name for other in networks[tried:])
            say(f"no time is left for {names}; give --minutes more than {minutes:g}")
            break
        pilot, start = comparison.job(candidate, 0, PILOT), time.monotonic()
        run([pilot], "pilot")
        result = read_result(Path(pilot.folder))
        if result is not None:
            overhead = max(0.0, time.monotonic() - start - result.seconds)
            error = _error_of(Path(pilot.folder))[1]
            pilots[candidate.name] = Pilot(error, max(result.seconds, 1e-6) / max(result.epochs, 1), overhead)
    left = max(0.0, 60 * minutes - (time.monotonic() - began))
    epochs = epochs_within(pilots, left * workers, comparison.folds)
    for name in [name for name in pilots if name not in epochs]:
        each = number(pilots[name].epoch)
        say(f"{name} is left out: an epoch takes {each} s, there is no time for {LEAST} of them in every fold")
    write_note(path, ComparePlan(minutes=minutes, folds=comparison.folds, epochs=epochs))
    return epochs


def _described(name: str, status: str, why: str, folder: Path) -> str:
    case = ProjectFolder(folder).case(name)
    result = read_result(case)
    if result is None:
        return f"{name}: {status}{': ' if why else ''}{why}"
    words, error = _error_of(case)
    return f"{name}: {words} {number(error) if math.isfinite(error) else 'none'}, {result.seconds:.1f} s"


def _ranked(comparison: Comparison, jobs: dict[str, list[Job]]) -> Leaderboard:
    """Pool the errors of every candidate over the folds, and compare them on the same simulations."""
    errors: dict[str, np.ndarray] = {}
    entries: dict[str, Entry] = {}
    failed: dict[str, str] = {}
    labels: np.ndarray | None = None
    words = ""
    fitted = {candidate.name for candidate in comparison.candidates if candidate.fitted}
    for name, parts in jobs.items():
        folders = [RunFolder(Path(job.folder)) for job in parts]
        results = [read_result(folder.path) for folder in folders]
        if any(result is None for result in results):
            failure = next(filter(None, (read_failure(folder.path) for folder in folders)), None)
            failed[name] = failure.error if failure else "not run"
            continue
        metrics = [run.evaluation.read("metrics") for run in folders]
        chosen, words = headline(*metrics).metric, headline(*metrics).words
        errors[name] = np.concatenate([per_sample(part, chosen).values for part in metrics])
        labels = np.concatenate([[f"{k} {label}" for label in m["simulation"].values] for k, m in enumerate(metrics)])
        kept = [result for result in results if result is not None]
        low, high = interval(errors[name], clusters=labels)
        entries[name] = Entry(
            name=name,
            error=float(errors[name].mean()),
            low=low,
            high=high,
            train_seconds=float(np.mean([result.seconds for result in kept])),
            predict_seconds=_seconds_of_prediction(folders[0]),
            parameters=kept[0].parameters,
            epochs=kept[0].epochs,
            fitted=name in fitted,
        )
    if not entries:
        raise NumericalError(f"every candidate failed, the first with: {next(iter(failed.values()), 'nothing ran')}")
    verdicts = compare_cases(errors, clusters=labels)
    best = min(entries, key=lambda name: entries[name].error)
    ties = {name for name, item in verdicts.items() if item.verdict == UNDECIDED} | {best}
    first = read_result(Path(jobs[best][0].folder))
    return Leaderboard(
        name=comparison.base.name,
        metric=words,
        entries=sorted(entries.values(), key=lambda entry: entry.error),
        ties=ties,
        selected=selected_error(np.stack(list(errors.values())), clusters=labels),
        failed=failed,
        folds=comparison.folds,
        simulations={} if first is None else first.simulations,
        command=comparison.command,
        left_out=[candidate.name for candidate in comparison.candidates if candidate.name not in jobs],
    )


@torch.no_grad()
def _seconds_of_prediction(run: RunFolder) -> float:
    """Return the time of one prediction, of a batch of 32, on the CPU of this machine."""
    surrogate = Surrogate.load(run.checkpoints.best())
    signature = surrogate.signature
    normal = torch.randn(TIMED, len(signature.inputs), *signature.input_grid.values())
    inputs = surrogate.inputs.inverse(normal)
    surrogate(inputs)
    began, count = time.perf_counter(), 0
    while count < 3 or time.perf_counter() - began < 0.05:
        surrogate(inputs)
        count += 1
    return (time.perf_counter() - began) / (count * TIMED)
