"""What the commands do with a configuration: train a case, evaluate and report runs, or all of it in a row."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import xarray as xr
from torch import Tensor

from surrogate.checks import ConfigError, DataError, did_you_mean
from surrogate.config import Source, apply_overrides, read_yaml
from surrogate.data import Stream
from surrogate.data.fingerprint import fingerprint
from surrogate.data.layouts import find_files
from surrogate.evaluation import collect_examples, evaluate, save, save_dataset, select_examples
from surrogate.files import claim_output, replacing
from surrogate.generate import find_recipe, generate, load_recipe
from surrogate.models.surrogate import Surrogate
from surrogate.report import write_report
from surrogate.training.run import RunFolder, choose_device, evaluation_stream, signature_of, split_datasets, train
from surrogate.training.settings import CASES, Experiment, case_sources, read_experiment

__all__ = [
    "cases_of",
    "evaluate_run",
    "find_pipeline",
    "read_cases",
    "report_runs",
    "run_pipeline",
    "train_case",
    "write_starter",
]

STARTER = """\
model: {family: convnet, width: 32, depth: 4}
optimizer: {name: slimtrain, learning_rate: 1e-3}
training: {epochs: 20, batch_size: 16, seed: 0, schedule: cosine}
"""

Say = Callable[[str], None]

CATALOGUES = (Path(__file__).parents[2] / "pipelines", Path(__file__).parents[1] / "share" / "pipelines")


def find_pipeline(name: str) -> Path:
    """A configuration file by path, or by its name in the catalogue of pipelines.

    Raises:
        ConfigError: There is neither.
    """
    if Path(name).is_file():
        return Path(name)
    known = {path.stem: path for folder in CATALOGUES for path in sorted(folder.glob("*.yaml"))}
    if name in known:
        return known[name]
    raise ConfigError(f"no configuration '{name}': neither a file nor a shipped pipeline; {did_you_mean(name, known)}")


def write_starter(path: Path, name: str, data: str) -> None:
    """Write a configuration to start from: the data section that `inspect` proposes, and plain settings of the rest.

    Raises:
        ConfigError: The file exists.
    """
    if path.exists():
        raise ConfigError(f"{path} exists already; choose another name for --write-config")
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", name).lstrip("_.-") or "mine"
    with replacing(path) as part:
        part.write_text(f"name: {name}\n{data.rstrip()}\n{STARTER}", encoding="utf-8")


def read_cases(path: Path, overrides: list[str], data: Path | None = None) -> dict[str, Experiment]:
    """Every case of a configuration, validated before anything runs.

    Arguments:
        path: The configuration file.
        overrides: `key.subkey=value` entries that win over it.
        data: Where a pipeline keeps its own simulations; used when the file simulates and names no data.
    """
    cases = case_sources(apply_overrides(read_yaml(path), overrides))
    return {name: read_experiment(_with_own_data(case, data)) for name, case in cases.items()}


def _with_own_data(case: Source, data: Path | None) -> Source:
    section = case.tree.get("data")
    if data is None or not case.tree.get("simulate") or not isinstance(section, dict) or "path" in section:
        return case
    return Source(case.name, case.tree | {"data": {"path": str(data), **section}}, case.lines)


def train_case(
    path: Path,
    overrides: list[str],
    output: Path | None,
    *,
    case: str | None,
    command: str,
    resume: bool,
    overwrite: bool,
    staging: Path | None = None,
) -> Path:
    """Train one case of a configuration; `case` may be left out where there is only one."""
    experiments = read_cases(path, overrides)
    if case is None and len(experiments) > 1:
        raise ConfigError(
            f"{path} has the cases {', '.join(experiments)}; choose one with --case, or use `surrogate run`"
        )
    name = case or next(iter(experiments))
    if name not in experiments:
        raise ConfigError(f"{path} has no case '{name}'; {did_you_mean(name, experiments)}")
    experiment = experiments[name]
    folder = output or Path("runs") / (experiment.name if case is None else f"{experiment.name}-{case}")
    return train(experiment, folder, command=command, resume=resume, overwrite=overwrite, staging=staging).path


def run_pipeline(
    path: Path, overrides: list[str], output: Path | None, say: Say, *, command: str, resume: bool, overwrite: bool
) -> Path:
    """Simulate where the file says so, train every case, evaluate each on the test split and write one report."""
    name = next(iter(read_cases(path, overrides, Path("data")).values())).name
    output = output or Path("runs") / name
    experiments = read_cases(path, overrides, output / "data")
    for case, experiment in experiments.items():
        if experiment.data.split.test == 0:
            raise ConfigError(f"data.split.test: case {case} keeps no simulation for the test; give it a share")
    claim_output(output, overwrite=overwrite, resume=resume)
    first = next(iter(experiments.values()))
    if first.data.path == str(output / "data"):
        _simulate(first, output / "data", say)
    runs = {}
    for case, experiment in experiments.items():
        say(f"training {case}: {experiment.optimizer.name}, {experiment.training.length}")
        runs[case] = train(experiment, output / CASES / case, command=command, resume=True).path
        evaluate_run(runs[case], say)
    report = write_report(output, runs, title=name, command=command)
    say(f"report: {report}")
    return report


def _simulate(experiment: Experiment, output: Path, say: Say) -> None:
    if experiment.simulate is None:
        return
    recipe = load_recipe(find_recipe(experiment.simulate.recipe))
    say(f"simulating {recipe.name}, size {experiment.simulate.size}")
    generate(recipe, experiment.simulate.size, output, resume=True)


def evaluate_run(folder: Path, say: Say, *, part: str = "test") -> xr.Dataset:
    """Score the best checkpoint of a run on one part of the split and write the metrics beside it.

    Raises:
        ConfigError: The folder is no run, has no checkpoint yet, or its split has no such part.
        DataError: The data no longer fit the surrogate.
    """
    run = RunFolder(folder)
    experiment = run.experiment()
    device = choose_device("auto")
    surrogate = Surrogate.load(run.checkpoints.best(), device)
    _refuse_other_data(run, experiment)
    datasets = split_datasets(experiment)
    if part not in datasets:
        raise ConfigError(f"{folder} has no part '{part}' in its split; {did_you_mean(part, datasets)}")
    stream = evaluation_stream(experiment, datasets[part])
    names = [*experiment.data.inputs, *experiment.data.targets]
    surrogate.signature.refuse_other(signature_of(stream, datasets[part], names))
    metrics = _score(surrogate, stream, datasets[part], run, part)
    say(f"{folder.name}: mean relative L2 on {part} {float(metrics['relative_l2_sample'].mean()):.4f}")
    return metrics


def _refuse_other_data(run: RunFolder, experiment: Experiment) -> None:
    """With other files the split is another one, and training samples could be scored as unseen."""
    trained = json.loads(run.facts.read_text(encoding="utf-8"))["data_fingerprint"]
    if fingerprint(find_files(experiment.data.path)) != trained:
        raise DataError(
            f"{experiment.data.path}: the data are not those {run.path} was trained on, so the split would differ; "
            "restore them, or train again"
        )


def _score(surrogate: Surrogate, stream: Stream, dataset: xr.Dataset, run: RunFolder, part: str) -> xr.Dataset:
    """Metrics and examples of a part of the data, written into the run folder."""
    device = next(surrogate.parameters()).device

    def predict(inputs: Tensor) -> Tensor:
        return surrogate(inputs.to(device))

    metrics = evaluate(
        predict,
        stream,
        variables=stream.target_names,
        times=dataset["time"] if "time" in dataset.coords else None,
        simulations=dataset["origin"].values if "origin" in dataset.coords else None,
        units=stream.targets.units,
        given=stream.window.input_offsets if stream.window else (),
        scored=stream.window.target_offsets if stream.window else (),
    )
    metrics.attrs["split"] = part
    coordinates = {name: dataset[name] for name in stream.spatial_dims}
    examples = collect_examples(predict, stream, select_examples(metrics), coordinates=coordinates)
    save(metrics, run.evaluation)
    save_dataset(examples, run.evaluation / "examples.nc")
    return metrics


def cases_of(folder: Path) -> list[Path]:
    """The run folders of a pipeline's folder; a run folder stands for itself."""
    return sorted(path for path in (folder / CASES).glob("*") if path.is_dir()) or [folder]


def report_runs(folders: list[Path], output: Path | None, *, command: str) -> Path:
    """One report about evaluated runs; the folder of a pipeline stands for all of its cases."""
    runs: dict[str, Path] = {}
    for folder in folders:
        for run in cases_of(folder):
            if run.name in runs:
                raise ConfigError(f"two runs are named '{run.name}'; rename one of the folders")
            RunFolder(run).experiment()
            runs[run.name] = run
    title = " and ".join(folder.name for folder in folders)
    return write_report(output or folders[0], runs, title=title, command=command)
