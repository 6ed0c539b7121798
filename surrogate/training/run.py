"""A run folder: the resolved configuration, the log, the checkpoints, and how to make or reopen them."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler

import surrogate
from surrogate.checks import ConfigError, ResourceError
from surrogate.config import digest, dump, read_yaml
from surrogate.data import Stream, open_snapshots, split, split_ids
from surrogate.data.fingerprint import fingerprint
from surrogate.data.layouts import find_files
from surrogate.files import check_output, claim_output, locked, replacing
from surrogate.models.surrogate import Surrogate
from surrogate.normalize import fit_normalizers
from surrogate.prediction.signature import signature_of
from surrogate.training.checkpoint import CheckpointFolder
from surrogate.training.finish import prepare_network, refit_end, refit_start
from surrogate.training.log import Reporter, RunLog
from surrogate.training.loop import Trainer
from surrogate.training.settings import Experiment, TrainingSettings, read_experiment
from surrogate.training.steps import build_method

__all__ = ["RunFolder", "evaluation_stream", "split_datasets", "train"]

PACKAGES = ("torch", "numpy", "xarray", "dask", "h5py", "safetensors", "pydantic")


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

    def log(self) -> RunLog:
        """The log."""
        return RunLog(self.path / "log.jsonl")

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


def train(
    experiment: Experiment, output: Path, *, command: str, resume: bool = False, overwrite: bool = False
) -> RunFolder:
    """Train one experiment into a run folder.

    Raises:
        ConfigError: The output exists, or a resumed run differs from the one begun.
        Interrupted: A signal came; a checkpoint is written.
    """
    check_output(output, overwrite=overwrite, resume=resume)
    run = RunFolder(output)
    files = find_files(experiment.data.path)
    experiment = _with_absolute_path(experiment)
    datasets = split_datasets(experiment)
    if "validation" not in datasets:
        raise ConfigError("data.split.validation: training chooses its best model on validation data; give it a share")
    if overwrite and any(file.resolve().is_relative_to(output.resolve()) for file in files):
        raise ConfigError(
            f"the data lie inside the output {output}, which --overwrite removes; choose another --output"
        )
    data = fingerprint(files)
    if resume and run.config.is_file():
        _refuse_changes(run, experiment, data)
    torch.manual_seed(experiment.training.seed)
    trainer = _trainer(experiment, datasets, run)
    claim_output(output, overwrite=overwrite, resume=resume)
    with locked(output):
        _fit(trainer, experiment, run, resume=resume, facts=_facts(experiment, datasets, data, command))
    return run


def _fit(trainer: Trainer, experiment: Experiment, run: RunFolder, *, resume: bool, facts: dict[str, Any]) -> None:
    """Train, from the newest checkpoint where asked to, and write down what was done."""
    _write_text(run.config, dump(experiment))
    resumed = resume and trainer.resume()
    facts["parameters"] = sum(parameter.numel() for parameter in trainer.surrogate.network.parameters())
    _write_text(run.facts, json.dumps(facts, indent=2))
    if not resumed:
        trainer.log.path.unlink(missing_ok=True)
        prepare_network(trainer)
        if experiment.training.refit in ("start", "both"):
            refit_start(trainer)
    total = experiment.training.epochs * len(trainer.train)
    reporter = Reporter(run.path.name, total, done=trainer.progressed.step)
    progressed = trainer.fit(reporter)
    if experiment.training.uncertainty or experiment.training.refit in ("end", "both"):
        refit_end(trainer, reporter)
    facts |= {"train_seconds": progressed.seconds, "steps": progressed.step}
    _write_text(run.facts, json.dumps(facts, indent=2))


def _with_absolute_path(experiment: Experiment) -> Experiment:
    """The same data wherever the run folder is read from later."""
    path = str(Path(experiment.data.path).expanduser().absolute())
    return experiment.model_copy(update={"data": experiment.data.model_copy(update={"path": path})})


def split_datasets(experiment: Experiment) -> dict[str, xr.Dataset]:
    """The lazily opened data of an experiment, split by simulation.

    Raises:
        DataError: The files cannot be used.
    """
    data = experiment.data
    return split(open_snapshots(data.path, data.layout), data.split, by=data.by)


def evaluation_stream(experiment: Experiment, dataset: xr.Dataset) -> Stream:
    """An unshuffled stream of a part of the data."""
    return _stream(experiment, dataset, shuffle=False)


def _stream(experiment: Experiment, dataset: xr.Dataset, *, shuffle: bool) -> Stream:
    data, training = experiment.data, experiment.training
    return Stream(
        dataset,
        data.inputs,
        data.targets,
        batch_size=training.batch_size,
        window=data.window,
        seed=training.seed,
        shuffle=shuffle,
        buffer_bytes=training.buffer_mb * 2**20,
    )


def _trainer(experiment: Experiment, datasets: dict[str, xr.Dataset], run: RunFolder) -> Trainer:
    training, device = experiment.training, choose_device(experiment.training.device)
    stream = _stream(experiment, datasets["train"], shuffle=True)
    signature = signature_of(stream, datasets["train"])
    unshuffled = evaluation_stream(experiment, datasets["train"])
    inputs, targets = fit_normalizers(unshuffled, stream.input_names, stream.target_names)
    model = Surrogate(experiment.model, signature, inputs, targets).to(device)
    method = build_method(experiment.optimizer, model.network)
    return Trainer(
        surrogate=model,
        method=method,
        scheduler=_scheduler(method.optimizer, training, training.epochs * len(stream)),
        train=stream,
        unshuffled=unshuffled,
        validation=evaluation_stream(experiment, datasets["validation"]),
        settings=training,
        checkpoints=run.checkpoints,
        log=run.log(),
        device=device,
    )


def _scheduler(optimizer: torch.optim.Optimizer, training: TrainingSettings, steps: int) -> LRScheduler:
    if training.schedule == "cosine":
        return CosineAnnealingLR(optimizer, T_max=max(steps, 1))
    return LambdaLR(optimizer, _constant)


def _constant(_step: int) -> float:
    return 1.0


def choose_device(name: str) -> torch.device:
    """The device of a setting.

    Raises:
        ResourceError: It is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ResourceError("training.device: no CUDA device is available here; set training.device=auto or cpu")
    return torch.device(name)


def _facts(experiment: Experiment, datasets: dict[str, xr.Dataset], data: str, command: str) -> dict[str, Any]:
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


def _refuse_changes(run: RunFolder, experiment: Experiment, data: str) -> None:
    before, now = _leaves(run.experiment().model_dump(mode="json")), _leaves(experiment.model_dump(mode="json"))
    changed = [
        f"{key}: {before.get(key)} -> {now.get(key)}" for key in sorted(before | now) if before.get(key) != now.get(key)
    ]
    free = ("training.device", "data.path")  # neither changes the result: the data have a fingerprint of their own
    changed = [line for line in changed if not line.startswith(free)]
    if changed:
        raise ConfigError(
            f"{run.path} was begun with another configuration ({'; '.join(changed)}); choose another --output"
        )
    begun = json.loads(run.facts.read_text(encoding="utf-8")).get("data_fingerprint") if run.facts.is_file() else data
    if begun != data:
        raise ConfigError(
            f"{run.path} was begun with other data (fingerprint {begun}, now {data}); choose another --output"
        )


def _leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix.removesuffix("."): tree}
    return {key: value for name, part in tree.items() for key, value in _leaves(part, f"{prefix}{name}.").items()}


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
