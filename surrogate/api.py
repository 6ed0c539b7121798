"""The commands as functions, from a file, a dictionary or settings; runs and projects as objects."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from surrogate import training
from surrogate.config import Source, apply_overrides, dump, parse_yaml, read_yaml
from surrogate.data.inspect import Description, describe
from surrogate.data.layouts import Paths, open_snapshots
from surrogate.data.mapping import Layout
from surrogate.data.store import Manifest, Shard, read_manifest, write_manifest, write_shard
from surrogate.errors import ConfigError, did_you_mean
from surrogate.evaluation import headline
from surrogate.experiment.folders import ProjectFolder, ReportFolder
from surrogate.experiment.run_folder import RunFolder
from surrogate.experiment.settings import Experiment, case_sources, read_experiment
from surrogate.models import Surrogate
from surrogate.models.export import export_surrogate
from surrogate.numbers import number
from surrogate.runtime.dask import dask_executor
from surrogate.simulate.generate import find_recipe, generate, load_recipe
from surrogate.training.setup import Callback
from surrogate.workflows import (
    Spread,
    cases_of,
    chosen_case,
    evaluate_run,
    find_pipeline,
    predict_run,
    report_folders,
    run_comparison,
    run_file,
    sobol_run,
)

__all__ = ["Config", "Project", "Run", "compare", "inspect", "make_data", "make_report", "run", "train"]

Config = str | Path | Mapping[str, Any] | Experiment
COMMAND = "from Python"  # in reports, where a command line would be


@dataclass(frozen=True)
class Run:
    """A trained surrogate and everything its folder holds.

    Arguments:
        path: The run folder.
    """

    path: Path

    @property
    def experiment(self) -> Experiment:
        """The resolved configuration."""
        return RunFolder(self.path).experiment()

    @property
    def surrogate(self) -> Surrogate:
        """The surrogate with the lowest validation loss, on the CPU; each access loads it anew."""
        return Surrogate.load(self.path)

    @property
    def log(self) -> pd.DataFrame:
        """Losses, learning rates and times, a row per epoch."""
        records = [record for record in RunFolder(self.path).records() if record["event"] == "epoch"]
        return pd.DataFrame(records).drop(columns="event")

    @property
    def evaluation(self) -> xr.Dataset:
        """Errors of every test sample, time and variable; computed on first access, then read from the folder."""
        evaluation = RunFolder(self.path).evaluation
        return evaluation.read("metrics") if evaluation.metrics.is_file() else self.evaluate()

    @property
    def error(self) -> float:
        """Mean headline error over the test samples: the relative L2 error of fields."""
        metrics = self.evaluation
        return float(metrics[f"{headline(metrics).metric}_sample"].mean())

    def evaluate(self, part: str = "test", *, rollout_steps: int | None = None) -> xr.Dataset:
        """Score the surrogate on a part of the split and write the results into the run folder.

        Arguments:
            part: train, validation or test.
            rollout_steps: Network steps of the roll-outs of a time stepper; None takes those of the configuration.

        Raises:
            ConfigError: The split has no such part.
            DataError: The data are not those of the training.
        """
        return evaluate_run(self.path, lambda line: None, part=part, rollout_steps=rollout_steps)

    def predict(
        self,
        inputs: str | Path,
        output: str | Path,
        *,
        layout: Layout | None = None,
        rollout_steps: int = 0,
        overwrite: bool = False,
    ) -> xr.Dataset:
        """Write predictions for new inputs to a NetCDF-4 file and open it lazily.

        Arguments:
            inputs: HDF5 file, folder or pattern, or a .csv table of parameters.
            output: The file to write.
            layout: Layout of the inputs; that of the training data unless given.
            rollout_steps: Network steps to roll out from the first window.
            overwrite: Replace the file.

        Raises:
            ConfigError: The output exists.
            DataError: The inputs do not fit the surrogate.
        """
        options: dict[str, Any] = {"layout": layout, "rollout_steps": rollout_steps, "overwrite": overwrite}
        return xr.open_dataset(predict_run(self.path, str(inputs), Path(output), device="cpu", **options))

    def sobol(self, *, samples: int = 1024, ranges: Mapping[str, tuple[float, float]] | None = None) -> xr.Dataset:
        """Estimate Sobol indices of the outputs with respect to the parameters, and write them into the run folder.

        Arguments:
            samples: Base samples, rounded up to a power of two.
            ranges: Lower and upper end by name of the parameter; those of the recipe or the training data unless given.

        Raises:
            ConfigError: An input is a field, or SALib is not installed.
        """
        return sobol_run(self.path, lambda line: None, samples=samples, ranges=ranges, device="cpu")

    def export(self, output: str | Path) -> Path:
        """Write the surrogate as a program that torch runs without this package."""
        if Path(output).exists():
            raise ConfigError(f"{output} exists already; choose another file")
        return export_surrogate(self.surrogate, Path(output))

    def report(self, output: str | Path | None = None) -> Path:
        """Write an HTML page about the run, into its folder unless another is given."""
        self.evaluation  # noqa: B018 - a report reads the evaluation from the folder
        return make_report([self], output)

    def _repr_html_(self) -> str:
        experiment = self.experiment
        rows = {
            "folder": str(self.path),
            "model": experiment.model.family,
            "optimizer": experiment.optimizer.name,
            "length": experiment.training.length,
        }
        file = RunFolder(self.path).evaluation.metrics
        if file.is_file():
            rows[f"test {headline(self.evaluation).short}"] = number(self.error)
        cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows.items())
        return f"<table><caption>{escape(experiment.name)}</caption>{cells}</table>"


@dataclass(frozen=True)
class Project:
    """The folder of a pipeline, a comparison or a study: a run for every case, a table, a report.

    Arguments:
        path: The folder.
    """

    path: Path

    @property
    def cases(self) -> dict[str, Run]:
        """The run of every case, by name."""
        return {case.name: Run(case) for case in cases_of(self.path)}

    @property
    def errors(self) -> pd.Series:
        """Mean headline error of every case on the test samples."""
        return pd.Series({name: case.error for name, case in self.cases.items()}, name="error")

    @property
    def table(self) -> xr.Dataset:
        """The results of a study over all of its cases.

        Raises:
            ConfigError: This is no study, or it is not finished.
        """
        file = ProjectFolder(self.path).table
        if not file.is_file():
            raise ConfigError(f"{self.path} has no table: it is no study, or not all of its cases are finished")
        return xr.load_dataset(file)

    @property
    def report(self) -> Path:
        """The HTML page."""
        return ReportFolder(self.path).page

    def __getitem__(self, case: str) -> Run:
        """Return the run of a case."""
        cases = self.cases
        if case not in cases:
            raise KeyError(f"no case '{case}' in {self.path}; {did_you_mean(case, cases)}")
        return cases[case]

    def _repr_html_(self) -> str:
        links = "".join(f"<li>{escape(name)}</li>" for name in self.cases)
        return f"<p>{escape(str(self.path))}</p><ul>{links}</ul>"


def inspect(paths: Paths, layout: Layout | None = None) -> Description:
    """Describe files of any layout and propose a `data:` section for them; see `surrogate.data.inspect.describe`."""
    return describe(paths, layout)


def make_data(
    recipe: str | Path,
    output: str | Path,
    *,
    size: str = "tiny",
    overrides: Sequence[str] = (),
    overwrite: bool = False,
    workers: int = 0,
) -> xr.Dataset:
    """Simulate an ensemble into HDF5 shards and open it lazily.

    Arguments:
        recipe: A recipe of the catalogue, or a YAML file.
        output: The folder of the shards.
        size: One of the recipe's sizes.
        overrides: Changes of the recipe, such as `sizes.tiny.simulations=50`.
        overwrite: Replace what an earlier run wrote there.
        workers: Processes of a dask cluster on this machine.

    Raises:
        ConfigError: There is no such recipe or size, or the output exists.
        NumericalError: Too many simulations blew up.
    """
    with nullcontext() if not workers else dask_executor(workers, None) as executor:
        generate(
            load_recipe(find_recipe(recipe), list(overrides)),
            size,
            Path(output),
            overwrite=overwrite,
            executor=executor,
        )
    return open_snapshots(Path(output))


def train(
    config: Config,
    output: str | Path,
    *,
    data: str | Path | xr.Dataset | None = None,
    case: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
    quiet: bool = False,
) -> Run:
    """Train a surrogate.

    Arguments:
        config: A YAML file, the name of a shipped pipeline, or the same content as a dictionary or as settings. A
            dictionary without a name is named as the output.
        output: The run folder.
        data: Files, or a data set in memory, which is written next to the output; instead of `data.path`.
        case: The case to train, where the configuration has several.
        resume: Continue from the newest checkpoint.
        overwrite: Replace an earlier run.
        callbacks: Functions called with the trainer and every record of the log.
        quiet: Show no progress.

    Raises:
        ConfigError: The configuration is wrong, or the output exists.
        DataError: The data cannot be used.
        Interrupted: A signal came; a checkpoint is written.
    """
    cases = case_sources(_source(config, data, Path(output), overwrite))
    name = chosen_case(cases, case, "the configuration", remedy="choose one with `case`, or use `run`")
    experiment = read_experiment(cases[name])
    options: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "callbacks": callbacks, "quiet": quiet}
    return Run(training.train(experiment, Path(output), command=COMMAND, **options).path)


def run(
    config: Config,
    output: str | Path,
    *,
    data: str | Path | xr.Dataset | None = None,
    workers: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> Project:
    """Simulate, train, evaluate and report in a row; with a section `study`, run a whole study.

    Arguments:
        config: As of `train`.
        output: The folder of the project.
        data: As of `train`.
        workers: Of a study: processes of a dask cluster on this machine.
        resume: Continue; finished cases are kept.
        overwrite: Replace an earlier project.
        say: Called with every line of progress.

    Raises:
        ConfigError, DataError, Interrupted: As of `train`.
    """
    source = _source(config, data, Path(output), overwrite)
    options: dict[str, Any] = {"command": COMMAND, "resume": resume, "overwrite": overwrite}
    run_file(source, [], Path(output), say, spread=Spread(workers), **options)
    return Project(Path(output))


def compare(
    config: Config,
    output: str | Path,
    *,
    data: str | Path | xr.Dataset | None = None,
    minutes: float = 10.0,
    workers: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> Project:
    """Compare baselines, classical surrogates and networks on one data set within a budget of time.

    Arguments:
        config: As of `train`; its model and optimizer are one of the candidates.
        output: The folder of the project.
        data: As of `train`.
        minutes: Budget for all training together.
        workers: Processes of a dask cluster on this machine.
        resume: Continue; finished cases are kept.
        overwrite: Replace an earlier comparison.
        say: Called with every line of progress.

    Raises:
        ConfigError, DataError, Interrupted: As of `train`.
    """
    source = _source(config, data, Path(output), overwrite)
    options: dict[str, Any] = {"command": COMMAND, "resume": resume, "overwrite": overwrite, "minutes": minutes}
    run_comparison(source, [], Path(output), say, spread=Spread(workers), **options)
    return Project(Path(output))


def make_report(runs: Sequence[Run | Project | str | Path], output: str | Path | None = None) -> Path:
    """Write one HTML page about evaluated runs, or about a project; return its path."""
    folders = [Path(each.path) if isinstance(each, Run | Project) else Path(each) for each in runs]
    return report_folders(folders, None if output is None else Path(output), command=COMMAND)


def _source(config: Config, data: str | Path | xr.Dataset | None, output: Path, overwrite: bool) -> Source:
    """Return a parsed configuration with the path of the data in it."""
    if isinstance(config, Experiment):
        source = parse_yaml(dump(config), "settings")
    elif isinstance(config, Mapping):
        source = parse_yaml(json.dumps({"name": output.name, **config}, default=_plain), "settings")
    else:
        source = read_yaml(find_pipeline(str(config)))
    if data is None:
        return source
    return apply_overrides(source, [f"data.path={json.dumps(_stored(data, output, overwrite))}"])


def _plain(value: Any) -> Any:
    """Return paths as text and numpy's numbers as Python's."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_none=True)
    raise ConfigError(f"the configuration holds {type(value).__name__}: only text, numbers, lists and dictionaries")


def _stored(data: str | Path | xr.Dataset, output: Path, overwrite: bool) -> str:
    """Return the path of data; a data set in memory is written to the folder `<output>-data`."""
    if not isinstance(data, xr.Dataset):
        return str(data)
    folder = output.with_name(f"{output.name}-data")
    file = folder / "data-00000.h5"
    folder.mkdir(parents=True, exist_ok=True)
    earlier = read_manifest(folder).shards[0].sha256 if file.is_file() and not overwrite else None
    dataset = open_snapshots(data).drop_vars("origin", errors="ignore")
    shard: Shard = write_shard(file.with_suffix(".new.h5"), dataset)
    if earlier not in (None, shard.sha256):
        file.with_suffix(".new.h5").unlink()
        raise ConfigError(f"{folder} holds other data of an earlier run; give overwrite=True or another output")
    file.with_suffix(".new.h5").replace(file)
    shard = shard.model_copy(update={"file": file.name})
    write_manifest(folder, Manifest(name=output.name, digest=shard.sha256, samples=shard.samples, shards=[shard]))
    return str(folder)
