"""A run folder: the resolved configuration, the log, the checkpoints, the evaluation, the facts of the run."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import xarray as xr
from pydantic import BaseModel, ConfigDict, ValidationError

import surrogate
from surrogate.config import changes, digest, leaves, read_yaml
from surrogate.data import split_ids
from surrogate.errors import ConfigError, DataError
from surrogate.experiment.checkpoint import CheckpointFolder
from surrogate.experiment.folders import Entry, EvaluationFolder, Folder
from surrogate.experiment.log import RunLog
from surrogate.experiment.settings import Experiment, read_experiment
from surrogate.files import read_json, replacing
from surrogate.models.surrogate import CHECKPOINTS

__all__ = ["RunFolder", "facts_of", "refuse_changes", "write_text"]

PACKAGES = ("torch", "numpy", "xarray", "dask", "h5py", "safetensors", "pydantic")
FREE = (  # options that do not change the result: the data have a fingerprint of their own
    "training.device",
    "data.path",
    "training.checkpoint_every",
    "training.tensorboard",
)


class _Facts(BaseModel):
    """What `run.json` holds at least."""

    model_config = ConfigDict(extra="allow", strict=True)

    name: str
    command: str
    seed: int
    versions: dict[str, str]
    data_fingerprint: str
    splits: dict[str, int]
    train_seconds: float | None


class RunFolder(Folder):
    """The folder of a run, which is also the folder of a case of a study."""

    config = Entry("config.yaml")  # the resolved configuration
    facts = Entry("run.json")  # versions, fingerprints, counts, the command; times and losses at the end
    log_file = Entry("log.jsonl")  # a record per line
    tensorboard = Entry("tensorboard")
    input_range = Entry("input_range.safetensors")  # the training inputs that new ones are compared with
    members = Entry("members")  # run folders of the networks of an ensemble
    candidates = Entry("candidates")  # run folders of the optimizers of a race
    result = Entry("result.json")  # of a case of a study that is finished; written last
    failure = Entry("failed.json")  # why a case of a study failed
    case_lock = Entry(".case.lock")  # held by the process that trains and scores the case

    @property
    def checkpoints(self) -> CheckpointFolder:
        """The checkpoints."""
        return CheckpointFolder(self.path / CHECKPOINTS)

    @property
    def evaluation(self) -> EvaluationFolder:
        """The evaluation on the test part, which reports and studies read."""
        return self.evaluation_on("test")

    def evaluation_on(self, part: str) -> EvaluationFolder:
        """Return the evaluation on a part of the split."""
        return EvaluationFolder(self.path / ("evaluation" if part == "test" else f"evaluation-{part}"))

    def member(self, number: int) -> RunFolder:
        """Return the run folder of a member of an ensemble; they count from 1."""
        return RunFolder(self.members / str(number))

    def candidate(self, number: int) -> RunFolder:
        """Return the run folder of a candidate of a race; they count from 1."""
        return RunFolder(self.candidates / str(number))

    def log(self) -> RunLog:
        """Return the log."""
        return RunLog(self.log_file)

    def records(self) -> list[dict[str, Any]]:
        """Return the records of the log.

        Raises:
            DataError: A line is damaged.
        """
        return self.log().records()

    def begun(self) -> dict[str, Any]:
        """Return the content of `run.json`; empty where there is no file.

        Raises:
            DataError: It is damaged.
        """
        if not self.facts.exists():
            return {}
        try:
            return _Facts.model_validate(read_json(self.facts)).model_dump()
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"])) or "content"
            raise DataError(f"{self.facts} holds no facts of a run ({where}); it was edited or damaged") from error

    @property
    def trained(self) -> bool:
        """True if there is a checkpoint, of this run, a member of its ensemble or a candidate of its race."""
        folders = (self.path, *self.members.glob("*"), *self.candidates.glob("*"))
        return any(any(folder.glob(f"{CHECKPOINTS}/step-*")) for folder in folders)

    def experiment(self) -> Experiment:
        """Read the resolved configuration.

        Raises:
            ConfigError: This is no run folder.
            DataError: The file is not the one that the run wrote, except for settings that do not change the result.
        """
        if not self.config.is_file():
            raise ConfigError(
                f"{self.path} is no run folder: it has no config.yaml; name a folder made by `surrogate train`"
            )
        source = read_yaml(self.config)
        if self.begun().get("config_sha256", _checksum(source.tree)) != _checksum(source.tree):
            raise DataError(
                f"{self.config} was edited or damaged after the run began; restore it, or train again (only "
                f"{', '.join(FREE)} may be changed)"
            )
        return read_experiment(source)


def _checksum(tree: Any) -> str:
    """Return the SHA-256 of a configuration without the settings that do not change the result."""
    kept = {key: value for key, value in leaves(tree).items() if not key.startswith(FREE)}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


_version = functools.cache(importlib.metadata.version)  # it parses all the metadata of a package


def facts_of(experiment: Experiment, datasets: dict[str, xr.Dataset], data: str, command: str) -> dict[str, Any]:
    """Collect the facts of a run that are known before it begins, for `run.json`."""
    return {
        "name": experiment.name,
        "command": command,
        "seed": experiment.training.seed,
        "versions": {
            "surrogate": surrogate.__version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in PACKAGES},
        },
        "config_digest": digest(experiment),
        "config_sha256": _checksum(experiment.model_dump(mode="json")),  # `read_yaml` is the inverse of `dump`
        "data_fingerprint": data,
        "splits": {name: int(part.sizes["sample"]) for name, part in datasets.items()},
        "simulations": split_ids(datasets, by=experiment.data.by),
        "train_seconds": None,
    }


def refuse_changes(run: RunFolder, experiment: Experiment, data: str) -> None:
    """Check that a resumed run has the configuration and the data that it was begun with.

    Raises:
        ConfigError: It has not, and the message lists every difference; or it does not say what it was begun with.
    """
    for file in (run.config, run.facts):
        if run.trained and not file.is_file():
            raise ConfigError(
                f"{run.path} holds checkpoints but no {file.name}, so it is unknown what they belong to; restore "
                "the file, or choose another --output"
            )
    if not run.config.is_file():
        return
    changed = [
        f"{key}: {change}" for key, change in changes(run.experiment(), experiment).items() if not key.startswith(FREE)
    ]
    if changed:
        raise ConfigError(
            f"{run.path} was begun with another configuration ({'; '.join(changed)}); choose another --output"
        )
    begun = run.begun().get("data_fingerprint")
    if begun is None and not run.trained:
        return
    if begun != data:
        raise ConfigError(
            f"{run.path} was begun with other data (fingerprint {begun}, now {data}); choose another --output"
        )


def write_text(path: Path, text: str) -> None:
    """Replace a text file as a unit."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
