"""Cases of a configuration: find and validate them, train one, keep the statistics of their data."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from pathlib import Path

from surrogate.catalogue import find
from surrogate.config import Source, apply_overrides, read_yaml
from surrogate.errors import ConfigError, did_you_mean
from surrogate.experiment.settings import Experiment, case_sources, read_experiment
from surrogate.files import check_output
from surrogate.training.moments import keep_statistics
from surrogate.training.run import train

__all__ = [
    "chosen_case",
    "find_pipeline",
    "keep_case_statistics",
    "read_cases",
    "train_case",
    "validate_cases",
    "with_own_data",
]


def find_pipeline(name: str) -> Path:
    """Return a configuration file by its path, or by its name in the catalogue of pipelines.

    Raises:
        ConfigError: There is neither.
    """
    return Path(name) if Path(name).is_file() else find("pipelines", name)


def read_cases(path: Path, overrides: list[str], data: Path | None = None) -> dict[str, Experiment]:
    """Read and validate every case of a configuration before anything runs.

    Arguments:
        path: The configuration file.
        overrides: `key.subkey=value` entries that win over it.
        data: Folder of the simulations of a pipeline; used if the file simulates and names no data.
    """
    return validate_cases(apply_overrides(read_yaml(path), overrides), data)


def validate_cases(source: Source, data: Path | None = None) -> dict[str, Experiment]:
    """Validate every case of a parsed configuration; `data` as in `read_cases`."""
    return {name: read_experiment(with_own_data(case, data)) for name, case in case_sources(source).items()}


def with_own_data(case: Source, data: Path | None) -> Source:
    """Set `data.path` to the folder `data` if a configuration simulates and names no data."""
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
    """Train one case of a configuration; `case` may be None if there is only one."""
    name, experiment = _one_case(path, overrides, case)
    folder = output or Path("runs") / (experiment.name if case is None else f"{experiment.name}-{name}")
    check_output(folder, overwrite=overwrite, resume=resume, reads=[path])
    return train(experiment, folder, command=command, resume=resume, overwrite=overwrite, staging=staging).path


def _one_case(path: Path, overrides: list[str], case: str | None) -> tuple[str, Experiment]:
    experiments = read_cases(path, overrides)
    name = chosen_case(experiments, case, str(path), remedy="choose one with --case, or use `surrogate run`")
    return name, experiments[name]


def chosen_case(cases: Iterable[str], case: str | None, where: str, *, remedy: str) -> str:
    """Return the name of the case to train: the given one, or the only one.

    Raises:
        ConfigError: There is no such case, or none is given and there are several; `where` names the configuration.
    """
    names = list(cases)
    if case is None and len(names) > 1:
        raise ConfigError(f"{where} has the cases {', '.join(names)}; {remedy}")
    name = case or names[0]
    if name not in names:
        raise ConfigError(f"{where} has no case '{name}'; {did_you_mean(name, names)}")
    return name


def keep_case_statistics(path: Path, overrides: list[str], case: str | None, executor: Executor | None) -> list[Path]:
    """Compute and keep the statistics of the training data of one case, or of all cases."""
    experiments = read_cases(path, overrides) if case is None else dict([_one_case(path, overrides, case)])
    own = {experiment.data.model_dump_json(): experiment for experiment in experiments.values()}
    return [keep_statistics(experiment, executor) for experiment in own.values()]
