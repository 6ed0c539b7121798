"""A run folder: the resolved configuration, the log, the checkpoints, and what was begun there."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

import surrogate
from surrogate.config import digest, leaves, read_yaml
from surrogate.data import split_ids
from surrogate.errors import ConfigError
from surrogate.experiment.checkpoint import CheckpointFolder
from surrogate.experiment.log import RunLog
from surrogate.experiment.settings import Experiment, read_experiment
from surrogate.files import replacing

__all__ = ["RunFolder", "facts_of", "refuse_changes", "write_text"]

PACKAGES = ("torch", "numpy", "xarray", "dask", "h5py", "safetensors", "pydantic")
FREE = (  # options that do not change the result: the data have a fingerprint of their own
    "training.device",
    "data.path",
    "training.checkpoint_every",
    "training.tensorboard",
)


@dataclass(frozen=True)
class RunFolder:
    """Names of what a run writes.

    Arguments:
        path: The folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def facts(self) -> Path:
        """Versions, fingerprints, counts and the command."""
        return self.path / "run.json"

    @property
    def evaluation(self) -> Path:
        """Metrics and examples."""
        return self.path / "evaluation"

    @property
    def checkpoints(self) -> CheckpointFolder:
        """The checkpoints."""
        return CheckpointFolder(self.path / "checkpoints")

    def member(self, number: int) -> RunFolder:
        """The run folder of a member of an ensemble; they count from 1."""
        return RunFolder(self.path / "members" / str(number))

    def log(self) -> RunLog:
        """The log."""
        return RunLog(self.path / "log.jsonl")

    def records(self) -> list[dict[str, Any]]:
        """The records of the log."""
        return [json.loads(line) for line in self.log().path.read_text(encoding="utf-8").splitlines()]

    def begun(self) -> dict[str, Any]:
        """What `run.json` says; nothing where there is none."""
        facts: dict[str, Any] = json.loads(self.facts.read_text(encoding="utf-8")) if self.facts.is_file() else {}
        return facts

    def experiment(self) -> Experiment:
        """The resolved configuration, read back.

        Raises:
            ConfigError: This is no run folder.
        """
        if not self.config.is_file():
            raise ConfigError(
                f"{self.path} is no run folder: it has no config.yaml; name a folder made by `surrogate train`"
            )
        return read_experiment(read_yaml(self.config))


def facts_of(experiment: Experiment, datasets: dict[str, xr.Dataset], data: str, command: str) -> dict[str, Any]:
    """What is known about a run before it begins, for `run.json`."""
    return {
        "name": experiment.name,
        "command": command,
        "seed": experiment.training.seed,
        "versions": _versions(),
        "config_digest": digest(experiment),
        "data_fingerprint": data,
        "splits": {name: int(part.sizes["sample"]) for name, part in datasets.items()},
        "simulations": split_ids(datasets, by=experiment.data.by),
        "train_seconds": None,
    }


def _versions() -> dict[str, str]:
    versions = {"surrogate": surrogate.__version__, "python": platform.python_version()}
    return versions | {name: importlib.metadata.version(name) for name in PACKAGES}


def refuse_changes(run: RunFolder, experiment: Experiment, data: str) -> None:
    """Check that a resumed run has the configuration and the data that it was begun with.

    Raises:
        ConfigError: It has not; the message lists every difference.
    """
    before, now = leaves(run.experiment().model_dump(mode="json")), leaves(experiment.model_dump(mode="json"))
    changed = [
        f"{key}: {before.get(key)} -> {now.get(key)}" for key in sorted(before | now) if before.get(key) != now.get(key)
    ]
    changed = [line for line in changed if not line.startswith(FREE)]
    if changed:
        raise ConfigError(
            f"{run.path} was begun with another configuration ({'; '.join(changed)}); choose another --output"
        )
    begun = run.begun().get("data_fingerprint", data)
    if begun != data:
        raise ConfigError(
            f"{run.path} was begun with other data (fingerprint {begun}, now {data}); choose another --output"
        )


def write_text(path: Path, text: str) -> None:
    """Replace a text file whole."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
