"""Evaluate and report runs; simulate, train, evaluate and report as one pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import xarray as xr

from surrogate.config import Source, apply_overrides, read_yaml
from surrogate.data.fingerprint import fingerprint
from surrogate.data.layouts import files_behind, find_files
from surrogate.data.mapping import Layout
from surrogate.data.streaming.digits import refuse_lost_digits
from surrogate.errors import ConfigError, DataError, did_you_mean
from surrogate.evaluation import (
    Beside,
    SampleSource,
    headline,
    labels_of,
    projection_of,
    write_evaluation,
    write_rollout,
)
from surrogate.experiment.folders import ProjectFolder
from surrogate.experiment.run_folder import RunFolder
from surrogate.experiment.settings import Experiment
from surrogate.files import claim_output, refuse_links
from surrogate.models.input_range import InputRange
from surrogate.models.signature import signature_of
from surrogate.models.surrogate import Surrogate
from surrogate.numbers import number
from surrogate.progress import ProgressBar
from surrogate.report import beside_lines, write_report
from surrogate.simulate.generate import find_recipe, generate, load_recipe
from surrogate.training.build import choose_device, data_of, evaluation_stream, split_datasets
from surrogate.training.run import train
from surrogate.workflows.cases import validate_cases

__all__ = [
    "cases_of",
    "evaluate_run",
    "load_surrogate",
    "report_runs",
    "run_cases",
    "run_pipeline",
    "simulate",
]

Say = Callable[[str], None]


def run_pipeline(
    path: Path, overrides: list[str], output: Path | None, say: Say, *, command: str, resume: bool, overwrite: bool
) -> Path:
    """Simulate if the file says so, train every case, evaluate each on the test split and write one report."""
    source = apply_overrides(read_yaml(path), overrides)
    return run_cases(source, output, say, command=command, resume=resume, overwrite=overwrite)


def run_cases(source: Source, output: Path | None, say: Say, *, command: str, resume: bool, overwrite: bool) -> Path:
    """Run a pipeline from a parsed configuration; the output is named after it unless given."""
    output = output or Path("runs") / str(source.tree.get("name", "pipeline"))
    files = ProjectFolder(output)
    experiments = validate_cases(source, files.data)
    for case, experiment in experiments.items():
        if experiment.data.split.test == 0:
            raise ConfigError(f"data.split.test: case {case} keeps no simulation for the test; give it a share")
    claim_output(
        output, overwrite=overwrite, resume=resume, reads=read_by(source, list(experiments.values()), files.data)
    )
    first = next(iter(experiments.values()))
    if first.data.path == str(files.data):
        simulate(first, files.data, say)
    runs = {}
    for case, experiment in experiments.items():
        say(f"training {case}: {experiment.optimizer.name}, {experiment.training.length}")
        runs[case] = train(experiment, files.case(case), command=command, resume=True).path
        evaluate_run(runs[case], say)
    report = write_report(output, runs, title=first.name, command=command)
    say(f"report: {report}")
    return report


def read_by(source: Source, experiments: Sequence[Experiment], own: Path) -> Iterator[Path]:
    """Yield what a pipeline reads: its configuration, data, recipes and tables, except simulations of its `own`."""
    yield Path(source.name)
    for recipe in sorted({e.simulate.recipe for e in experiments if e.simulate is not None}):
        yield find_recipe(recipe)
        yield from load_recipe(find_recipe(recipe)).reads
    for data in {e.data.model_dump_json(include={"path", "layout"}): e.data for e in experiments}.values():
        if data.path != str(own):
            yield Path(data.path)
            yield from files_behind(data.path, data.layout)


def simulate(experiment: Experiment, output: Path, say: Say, executor: Executor | None = None) -> None:
    """Simulate the data of a configuration, shards in parallel with an executor; finished shards are kept."""
    if experiment.simulate is None:
        return
    recipe = load_recipe(find_recipe(experiment.simulate.recipe))
    say(f"simulating {recipe.name}, size {experiment.simulate.size}")
    with ProgressBar("simulating", "simulations") as progress:
        generate(recipe, experiment.simulate.size, output, resume=True, progress=progress, executor=executor)


def evaluate_run(
    folder: Path, say: Say, *, part: str = "test", rollout_steps: int | None = None, metrics_alone: bool = False
) -> xr.Dataset:
    """Score the best checkpoint of a run on one part of the split and write the metrics into its folder.

    Metrics of the test part go into `evaluation/`, which a report reads; those of another part into
    `evaluation-<part>/`. A time stepper is rolled out too.

    Arguments:
        folder: The run folder.
        say: Called with a line for the user.
        part: Part of the split.
        rollout_steps: Network steps of the roll-outs; None takes those of the configuration.
        metrics_alone: Write nothing of single steps but the metrics and their tables.

    Raises:
        ConfigError: The folder is not a run, has no checkpoint yet, or its split has no such part.
        DataError: The data no longer fit the surrogate.
    """
    run = RunFolder(folder)
    experiment = run.experiment()
    refuse_links(folder)
    device = choose_device("auto")
    surrogate = Surrogate.load(run.checkpoints.best(), device)
    if fingerprint(find_files(experiment.data.path, experiment.data.layout)) != run.begun()["data_fingerprint"]:
        # the split of other data is another one, so that training samples could be scored as unseen
        raise DataError(
            f"{experiment.data.path}: the data are not those {run.path} was trained on, so the split would differ; "
            "restore them, or train again"
        )
    datasets = split_datasets(experiment)
    if part not in datasets:
        raise ConfigError(f"{folder} has no part '{part}' in its split; {did_you_mean(part, datasets)}")
    stream = evaluation_stream(experiment, datasets[part])
    surrogate.signature.refuse_other(signature_of(stream, datasets[part]))
    for side, normalizer in ((stream.inputs, surrogate.inputs), (stream.targets, surrogate.targets)):
        refuse_lost_digits(datasets[part], side, scale=normalizer.scale_per_channel)
    source = SampleSource(stream, datasets[part], data_of(experiment, datasets[part]))
    stated: dict[str, Any] = {
        "labels": labels_of(stream, datasets[part], by=experiment.data.by),
        "facts": {"split": part, "training_finished": int(run.begun().get("train_seconds") is not None)},
    }
    settings = experiment.evaluation
    beside = Beside(
        InputRange.load(run.input_range) if run.input_range.is_file() else None,
        projection_of(surrogate, lambda: evaluation_stream(experiment, datasets["train"])),
    )
    steps = settings.rollout_steps if rollout_steps is None else rollout_steps
    with run.evaluation_on(part).replacing() as files:
        metrics = write_evaluation(surrogate, source, files.path, **stated, beside=beside, metrics_alone=metrics_alone)
        rolled = write_rollout(surrogate, source, files.path, **stated, steps=steps, threshold=settings.threshold)
    unfinished = "" if metrics.attrs["training_finished"] else " (training is not finished: continue it with --resume)"
    known_by = headline(metrics)
    error = float(metrics[f"{known_by.metric}_sample"].mean())
    say(f"{folder.name}: mean {known_by.short} on {part} {number(error)}{unfinished}")
    for line in beside_lines(metrics):
        say(f"{folder.name}: {line}")
    if rolled is not None:
        errors = rolled["relative_l2"].mean("variable").median(("sample", "time")).values
        say(
            f"{folder.name}: rolled out over {rolled.attrs['steps']} steps from the first of "
            f"{rolled.sizes['sample']} simulations, median relative L2 {number(errors[0])} after one "
            f"and {number(errors[-1])} at the end"
        )
    return metrics


def load_surrogate(folder: Path, device: str) -> tuple[Surrogate, Layout | None]:
    """Load the trained surrogate of a run folder, of the one case of a pipeline's folder, or of a checkpoint.

    Returns:
        The surrogate, and the layout of its training data; None for a checkpoint alone.

    Raises:
        ConfigError: The folder holds no surrogate, or several cases; the message names them.
        ResourceError: The device is absent.
    """
    cases = cases_of(folder)
    if len(cases) > 1:
        raise ConfigError(f"{folder} holds the cases {', '.join(case.name for case in cases)}; name one: {cases[0]}")
    run = RunFolder(cases[0])
    layout = run.experiment().data.layout if run.config.is_file() else None
    return Surrogate.load(cases[0], choose_device(device)), layout


def cases_of(folder: Path) -> list[Path]:
    """List the run folders of a pipeline's folder; of a run folder, itself."""
    return ProjectFolder(folder).runs


def report_runs(folders: list[Path], output: Path | None, *, command: str) -> Path:
    """Write one report about evaluated runs; the folder of a pipeline counts as all of its cases."""
    runs: dict[str, Path] = {}
    for folder in folders:
        for run in cases_of(folder):
            if run.name in runs:
                raise ConfigError(f"two runs are named '{run.name}'; rename one of the folders")
            RunFolder(run).experiment()
            runs[run.name] = run
    title = " and ".join(folder.name for folder in folders)
    return write_report(output or folders[0], runs, title=title, command=command)
