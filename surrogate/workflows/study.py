"""Run a study: its data, its cases here or on workers, its table and its report."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from surrogate.config import Source, apply_overrides, dump, dump_tree, leaves, read_yaml
from surrogate.data import open_data, split
from surrogate.data.fingerprint import fingerprint
from surrogate.data.layouts import find_files
from surrogate.errors import ConfigError, DataError, NumericalError, ResourceError
from surrogate.experiment.folders import ProjectFolder
from surrogate.experiment.settings import Experiment, case_sources, read_experiment
from surrogate.files import claim_output, locked, refuse_links, replacing
from surrogate.numbers import number
from surrogate.progress import ProgressBar
from surrogate.report import write_study_report
from surrogate.runtime.dask import dask_executor
from surrogate.runtime.signals import StopRequest
from surrogate.simulate.generate import find_recipe, is_made, load_recipe
from surrogate.studies import (
    STUDY,
    GridStudy,
    PlannedPoint,
    Point,
    StudyPlan,
    case_name,
    choose,
    expand,
    read_failure,
    read_plan,
    read_result,
    read_study,
    save_table,
    study_table,
    write_note,
)
from surrogate.studies.settings import TRAIN_SIZE
from surrogate.workflows.active_learning import plan_loops
from surrogate.workflows.cases import with_own_data
from surrogate.workflows.execute import Job, Outcome, Work, raise_if_stopped, run_jobs
from surrogate.workflows.pipeline import read_by, report_runs, run_cases, simulate

__all__ = ["Spread", "read_part", "report_folders", "run_file"]

Say = Callable[[str], None]
SIZES = 4  # of a learning curve without sizes


@dataclass(frozen=True)
class Spread:
    """Processes that run the cases of a study; by default this one, one case after the other.

    Arguments:
        workers: Processes of a dask cluster on this machine.
        scheduler: Address of a running dask scheduler.
        part: (K, N): only every N-th case, from the K-th; other processes run the others.
    """

    workers: int = 0
    scheduler: str | None = None
    part: tuple[int, int] | None = None

    @property
    def plain(self) -> bool:
        """True if all cases run in this process."""
        return not self.workers and self.scheduler is None and self.part is None


def read_part(text: str | None) -> tuple[int, int] | None:
    """Read `K/N` as two numbers.

    Raises:
        ConfigError: The text is not of this form, or K is not in 1 to N.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"--part {text}: write it as K/N with K from 1 to N, for instance 2/8")
    return int(match[1]), int(match[2])


def run_file(
    config: Path | Source,
    overrides: list[str],
    output: Path | None,
    say: Say,
    *,
    command: str,
    resume: bool,
    overwrite: bool,
    spread: Spread = Spread(),
) -> Path | None:
    """Run a pipeline, or a study where the file has a section `study`.

    Returns:
        The report; None if other parts of a study are not finished.
    """
    source = apply_overrides(read_yaml(config) if isinstance(config, Path) else config, overrides)
    if STUDY in source.tree:
        folder = output or Path("runs") / str(source.tree.get("name", Path(source.name).stem))
        return _run_study(source, folder, say, command=command, resume=resume, overwrite=overwrite, spread=spread)
    if not spread.plain:
        raise ConfigError(f"{source.name} has no section `study`: --workers, --scheduler and --part are for studies")
    return run_cases(source, output, say, command=command, resume=resume, overwrite=overwrite)


def _run_study(
    source: Source, output: Path, say: Say, *, command: str, resume: bool, overwrite: bool, spread: Spread
) -> Path | None:
    study = read_study(source)
    methods = {name: with_own_data(case, ProjectFolder(output).data) for name, case in case_sources(source).items()}
    bases = {name: read_experiment(case) for name, case in methods.items()}
    reads = read_by(source, list(bases.values()), ProjectFolder(output).data)
    if study.propose is not None:
        loops = plan_loops(study, bases, output, command)
        claim_output(output, overwrite=overwrite, resume=resume or spread.part is not None, reads=reads)
        return _finish(source, loops[0], loops[1], output, say, spread)
    _check(study, methods, bases)
    claim_output(output, overwrite=overwrite, resume=resume or spread.part is not None, reads=reads)
    own = [base for base in bases.values() if base.data.path == str(ProjectFolder(output).data)]
    with locked(output, wait=True):  # of several parts that start together, one simulates
        made = own[0].simulate if own else None
        if made and not is_made(
            load_recipe(find_recipe(made.recipe)), made.size, ProjectFolder(output).data
        ):  # finished data are not checked again by every part
            with _executor(spread) as executor:
                simulate(own[0], ProjectFolder(output).data, say, executor)
    study = _with_sizes(study, next(iter(bases.values())))
    experiments = _experiments(study, methods, bases)
    opened: dict[str, xr.Dataset] = {}
    for experiment in {e.data.model_dump_json(): e for _, e in experiments}.values():
        content = experiment.data.model_dump_json(exclude={"split"})
        if content not in opened:
            opened[content] = open_data(experiment.data)
        _refuse_long(experiment, opened[content])  # before anything is trained
    plan, jobs = _plan(study, bases, experiments, output, command)
    return _finish(source, plan, jobs, output, say, spread)


def _finish(
    source: Source, plan: StudyPlan, jobs: Sequence[Work], output: Path, say: Say, spread: Spread
) -> Path | None:
    _refuse_other_study(source, plan, output)
    with replacing(ProjectFolder(output).study) as part:
        part.write_text(dump_tree(source.tree), encoding="utf-8")
    write_note(ProjectFolder(output).plan, plan)
    lost = [outcome for outcome in _run(plan, jobs, output, say, spread) if outcome.lost]
    report = _close(plan, output, say)
    if lost:
        raise ResourceError(
            f"{len(lost)} of {len(plan.cases)} cases are not finished, the first for this reason: {lost[0].why}; "
            "remove the reason, then --resume"
        )
    return report


def _refuse_other_study(source: Source, plan: StudyPlan, output: Path) -> None:
    """Refuse to go on in the folder of another study; one with more points, such as more seeds, is the same study.

    Raises:
        ConfigError: The name, the kind or the metric is another one, or a case that was planned is missing.
    """
    files = ProjectFolder(output)
    if not files.plan.exists():
        if files.cases.is_dir() and any(files.cases.iterdir()):
            raise ConfigError(
                f"output {output} holds cases but no {files.plan.name}, so it is unknown what they belong to; restore "
                "the file, give --overwrite or choose another --output"
            )
        return
    before = read_plan(output)
    same = all(getattr(before.study, key) == getattr(plan.study, key) for key in ("kind", "metric"))
    if same and before.name == plan.name and set(before.cases) <= set(plan.cases):
        return
    old, new = leaves(read_yaml(files.study).tree if files.study.is_file() else {}), leaves(source.tree)
    keys = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
    changed = "; ".join(f"{key}: {old.get(key, 'absent')} -> {new.get(key, 'absent')}" for key in keys)
    raise ConfigError(
        f"output {output} holds a study with another configuration ({changed or 'other data'}); resume with the old "
        "one, give --overwrite or choose another --output"
    )


def _check(study: GridStudy, methods: Mapping[str, Source], bases: Mapping[str, Experiment]) -> None:
    """Check the study before a simulation runs."""
    for name, base in bases.items():
        if base.data.split.test == 0:
            raise ConfigError(f"data.split.test: case {name} keeps no simulation for the test; give it a share")
    experiments = _experiments(study, methods, bases)
    for _, experiment in experiments:
        if experiment.simulate is None or experiment.data.by is not None or Path(experiment.data.path).exists():
            continue
        size = {str(k): v for k, v in load_recipe(find_recipe(experiment.simulate.recipe)).sizes.items()}
        if experiment.simulate.size in size:
            planned = xr.Dataset(coords={"sample": range(size[experiment.simulate.size].simulations)})
            _refuse_long(experiment, planned)


def _experiments(
    study: GridStudy, methods: Mapping[str, Source], bases: Mapping[str, Experiment]
) -> list[tuple[Point, Experiment]]:
    """Return every point of a study with its validated configuration."""
    points = expand(study, methods, {name: _keys(base) for name, base in bases.items()})
    return [(point, read_experiment(point.source)) for point in points]


def _refuse_long(experiment: Experiment, data: xr.Dataset) -> None:
    """Refuse a learning curve that needs more simulations than there are."""
    try:
        split(data, experiment.data.split, by=experiment.data.by, window=experiment.data.window)
    except DataError as error:
        if experiment.data.split.train is None:
            raise
        raise DataError(f"study: with {TRAIN_SIZE} = {experiment.data.split.train}, {error}") from error


def _with_sizes(study: GridStudy, base: Experiment) -> GridStudy:
    """Give a learning curve without sizes all training simulations, a half, a quarter and an eighth of them."""
    if study.kind != "learning_curve" or TRAIN_SIZE in study.keys:
        return study
    everything = base.data.model_copy(update={"split": base.data.split.model_copy(update={"train": None})})
    parts = split(open_data(everything), everything.split, by=everything.by, window=everything.window)
    simulations = parts["train"][everything.by].values if everything.by else parts["train"]["sample"].values
    total = len(set(simulations.tolist()))
    sizes = sorted({max(1, total >> halving) for halving in range(SIZES)})
    grids = [{TRAIN_SIZE: sizes, **grid} for grid in study.grids]
    return study.model_copy(update={"axes": grids[0] if len(grids) == 1 else grids})


def _keys(base: Experiment) -> dict[str, Any]:
    """Return the values of a configuration by dotted key."""
    tree = base.model_dump(mode="json")
    return leaves({section: tree[section] for section in ("data", "model", "optimizer", "training")})


def _plan(
    study: GridStudy,
    bases: Mapping[str, Experiment],
    experiments: Sequence[tuple[Point, Experiment]],
    output: Path,
    command: str,
) -> tuple[StudyPlan, list[Job]]:
    layouts = {e.data.path: e.data.layout for _, e in experiments}
    prints = {path: fingerprint(find_files(path, layout)) for path, layout in layouts.items()}
    points, jobs = [], {}
    for point, experiment in experiments:
        name = case_name(point.method, experiment.model_dump(mode="json"), prints[experiment.data.path])
        values = {key: getattr(point, key) for key in ("method", "grid", "values", "trial", "seed")}
        points.append(PlannedPoint(**values, case=name))
        training = experiment.training
        cost = training.members * (training.epochs or math.inf) * (experiment.data.split.train or math.inf)
        jobs[name] = Job(str(ProjectFolder(output).case(name).absolute()), dump(experiment), command, cost)
    base = {name: {key: _keys(experiment).get(key) for key in study.keys} for name, experiment in bases.items()}
    first = next(iter(bases.values()))
    data = prints.get(first.data.path, "")
    plan = StudyPlan(name=first.name, study=study, base=base, points=points, command=command, fingerprint=data)
    return plan, list(jobs.values())


def _run(plan: StudyPlan, jobs: Sequence[Work], output: Path, say: Say, spread: Spread) -> list[Outcome]:
    first, step = spread.part or (1, 1)
    mine = jobs[first - 1 :: step]
    left = [job for job in mine if job.open]
    total, here = len(plan.cases), len(plan.cases) * len(mine) // len(jobs)
    todo = sum(len(job.open) for job in left)
    kept = f", {here - todo} of them finished before" if todo < here else ""
    say(f"study {plan.name}: {total} cases, {here} of them here{kept}")
    stop = StopRequest()
    with ExitStack() as stack:
        stack.enter_context(stop.listening())
        executor = stack.enter_context(_executor(spread)) if left else None
        outcomes, progress = [], ProgressBar("study", "cases", quiet=True)  # for the time left
        progress(0, todo)
        for outcome in run_jobs(left, executor, lambda: raise_if_stopped(stop)):
            outcomes.append(outcome)
            progress(len(outcomes), todo)
            point = next(point for point in plan.points if point.case == outcome.name)
            values = {key: value for key, value in {**point.values, **point.trial}.items() if value is not None}
            settings = (f"{key.rpartition('.')[2]} {value}" for key, value in values.items())
            about = f"[{len(outcomes)}/{todo}] {', '.join([point.method, *settings, f'seed {point.seed}'])}"
            if outcome.status != "done":
                say(f"{about}: {outcome.status}{': ' if outcome.why else ''}{outcome.why}")
                continue
            result = read_result(ProjectFolder(output).case(outcome.name))
            error = result.test.get(plan.study.metric) if result else None
            seconds = f", {result.seconds:.1f} s" if result else ""
            score = "none" if error is None else number(error)
            say(f"{about}: {plan.study.metric} {score}{seconds}{progress.left}")
    return outcomes


def _executor(spread: Spread) -> AbstractContextManager[Executor | None]:
    """Return the executor of a study; None if all cases run in this process."""
    if not spread.workers and spread.scheduler is None:
        return nullcontext()
    return dask_executor(spread.workers, spread.scheduler)


def _close(plan: StudyPlan, output: Path, say: Say) -> Path | None:
    """Write the table and the report, unless other parts are not finished."""
    cases = [ProjectFolder(output).case(name) for name in plan.cases]
    open_cases = [case for case in cases if read_result(case) is None and read_failure(case) is None]
    if open_cases:
        say(
            f"{len(cases) - len(open_cases)} of {len(cases)} cases are finished; when the other parts are done: "
            f"surrogate report {output}"
        )
        return None
    report = _report(plan, output, plan.command)
    failed = [case for case in cases if read_result(case) is None]
    failures = [failure for case in failed if (failure := read_failure(case)) is not None]
    if len(failed) == len(cases) and all(failure.final for failure in failures):
        raise NumericalError(f"every case of the study failed, the first with: {failures[0].error}")
    if failed:
        say(f"{len(failed)} of {len(cases)} cases failed; the report says which and why")
    say(f"report: {report}")
    return report


def report_folders(folders: list[Path], output: Path | None, *, command: str) -> Path:
    """Write one report about evaluated runs, or about a study, complete or not."""
    studies = [folder for folder in folders if ProjectFolder(folder).plan.is_file()]
    refuse_links(output or folders[0])
    if not studies:
        return report_runs(folders, output, command=command)
    if len(folders) > 1:
        raise ConfigError(f"{studies[0]} is the folder of a study, which has its own report; give it alone")
    return _report(read_plan(studies[0]), studies[0], command, output)


def _report(plan: StudyPlan, folder: Path, command: str, output: Path | None = None) -> Path:
    table = study_table(plan, ProjectFolder(folder).cases)
    save_table(table, output or folder)
    return write_study_report(output or folder, folder, plan, choose(table, plan), command=command)
