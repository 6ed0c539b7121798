"""Training one experiment into a run folder: what is read, what is built, and in which order."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from surrogate.checks import ConfigError, ResourceError
from surrogate.config import dump
from surrogate.data import Stream, Window, open_data, split
from surrogate.data.fingerprint import fingerprint
from surrogate.data.layouts import find_files
from surrogate.data.staging import stage
from surrogate.files import check_output, claim_output, locked
from surrogate.machine import check_memory, memory_limit
from surrogate.models.rollout import Feedback
from surrogate.models.surrogate import Surrogate
from surrogate.normalize import Normalizer, cached_normalizers, statistics_folder
from surrogate.prediction.signature import signature_of
from surrogate.training.finish import prepare_network, refit_end, refit_start
from surrogate.training.folder import RunFolder, facts_of, refuse_changes, write_text
from surrogate.training.log import Reporter
from surrogate.training.loop import Callback, Trainer
from surrogate.training.objective import Objective
from surrogate.training.optimizers import FullBatchSettings
from surrogate.training.ranks import Ranks, joined
from surrogate.training.schedule import scheduler_of
from surrogate.training.settings import Experiment
from surrogate.training.steps import build_method
from surrogate.training.tensorboard import to_tensorboard

__all__ = ["RunFolder", "choose_device", "evaluation_stream", "split_datasets", "train", "with_absolute_path"]


def train(
    experiment: Experiment,
    output: Path,
    *,
    command: str,
    resume: bool = False,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
    staging: Path | None = None,
    quiet: bool = False,
) -> RunFolder:
    """Train one experiment into a run folder, together with the other processes where a launcher started several.

    Arguments:
        experiment: The resolved configuration.
        output: The run folder.
        command: What was typed, for the report.
        resume: Go on from the newest checkpoint.
        overwrite: Replace an earlier run.
        callbacks: Functions called with the trainer and every record of the log, on the first rank.
        staging: Node-local folder that the data are copied to first, once for all ranks of the node.
        quiet: Tell nothing of its progress.

    Raises:
        ConfigError: The output exists, or a resumed run differs from the one begun.
        Interrupted: A signal came; a checkpoint is written.
    """
    with joined(experiment.training.device) as ranks, _deterministic(experiment.training.deterministic):
        return _train(experiment, output, ranks, command, resume, overwrite, callbacks, staging, quiet)


def _train(
    experiment: Experiment,
    output: Path,
    ranks: Ranks,
    command: str,
    resume: bool,
    overwrite: bool,
    callbacks: Sequence[Callback],
    staging: Path | None,
    quiet: bool,
) -> RunFolder:
    check_output(output, overwrite=overwrite, resume=resume)
    run = RunFolder(output)
    files = find_files(experiment.data.path)
    experiment = with_absolute_path(experiment)
    datasets = split_datasets(_staged(experiment, staging))
    if "validation" not in datasets:
        raise ConfigError("data.split.validation: training chooses its best model on validation data; give it a share")
    if overwrite and any(file.resolve().is_relative_to(output.resolve()) for file in files):
        raise ConfigError(
            f"the data lie inside the output {output}, which --overwrite removes; choose another --output"
        )
    data = fingerprint(files)
    if resume and run.config.is_file():
        refuse_changes(run, experiment, data)
    torch.manual_seed(experiment.training.seed)
    trainer = _trainer(experiment, datasets, run, ranks)
    trainer.callbacks = [*callbacks, *to_tensorboard(experiment.training.tensorboard and ranks.first, run.path)]
    ranks.alone(lambda: claim_output(output, overwrite=overwrite, resume=resume))
    with locked(output) if ranks.first else nullcontext():
        whole = evaluation_stream(experiment, datasets["train"])
        facts = facts_of(experiment, datasets, data, command)
        _fit(trainer, experiment, run, whole=whole, resume=resume, facts=facts, quiet=quiet)
    return run


def _fit(
    trainer: Trainer,
    experiment: Experiment,
    run: RunFolder,
    *,
    whole: Stream,
    resume: bool,
    facts: dict[str, Any],
    quiet: bool,
) -> None:
    """Train, from the newest checkpoint where asked to, and write down what was done."""
    training, ranks = experiment.training, trainer.ranks
    facts["parameters"] = sum(parameter.numel() for parameter in trainer.surrogate.network.parameters())
    ranks.alone(lambda: write_text(run.config, dump(experiment)))
    ranks.alone(lambda: write_text(run.facts, json.dumps(facts, indent=2)))
    if not (resume and trainer.resume()):
        ranks.alone(lambda: trainer.log.path.unlink(missing_ok=True))
        prepare_network(trainer, whole)
        if training.refit in ("start", "both"):
            refit_start(trainer)
    reporter = Reporter(run.path.name, trainer.total, done=trainer.progressed.step, quiet=quiet or not ranks.first)
    progressed = trainer.fit(reporter)
    if training.uncertainty or training.refit in ("end", "both"):
        refit_end(trainer, reporter)
    done = facts | {"train_seconds": progressed.seconds, "steps": progressed.step}
    ranks.alone(lambda: write_text(run.facts, json.dumps(done, indent=2)))


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    """Inside the block torch refuses operations whose result depends on the order of threads."""
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def with_absolute_path(experiment: Experiment) -> Experiment:
    """The same data wherever the run folder is read from later."""
    path = str(Path(experiment.data.path).expanduser().absolute())
    return experiment.model_copy(update={"data": experiment.data.model_copy(update={"path": path})})


def _staged(experiment: Experiment, staging: Path | None) -> Experiment:
    """The same experiment on copies of its data; what is written down keeps the path of the data themselves."""
    if staging is None:
        return experiment
    data = experiment.data.model_copy(update={"path": stage(experiment.data.path, staging)})
    return experiment.model_copy(update={"data": data})


def split_datasets(experiment: Experiment) -> dict[str, xr.Dataset]:
    """The lazily opened data of an experiment, split by simulation.

    Raises:
        DataError: The files cannot be used.
    """
    data = experiment.data
    return split(open_data(data), data.split, by=data.by)


def evaluation_stream(
    experiment: Experiment, dataset: xr.Dataset, *, ranks: Ranks | None = None, steps: int = 1
) -> Stream:
    """An unshuffled stream of a part of the data, or of a rank's share of it, for one or several network steps."""
    return _stream(experiment, dataset, ranks or Ranks(), shuffle=False, steps=steps)


def _stream(experiment: Experiment, dataset: xr.Dataset, ranks: Ranks, *, shuffle: bool, steps: int) -> Stream:
    data, training = experiment.data, experiment.training
    window = data.window
    if steps > 1:
        window = window or Window()
        window = window.model_copy(update={"steps_out": window.steps_out * steps})
    return Stream(
        dataset,
        data.inputs,
        data.targets,
        batch_size=training.batch_size,
        rank=ranks.rank,
        world=ranks.world,
        window=window,
        seed=training.seed,
        shuffle=shuffle,
        buffer_bytes=training.buffer_mb * 2**20,
    )


def _trainer(experiment: Experiment, datasets: dict[str, xr.Dataset], run: RunFolder, ranks: Ranks) -> Trainer:
    training, device = experiment.training, choose_device(experiment.training.device, ranks.local)
    check_memory(training.buffer_mb * 2**20, "training.buffer_mb", memory_limit())
    full = experiment.optimizer.full_batch
    train = _stream(experiment, datasets["train"], ranks, shuffle=not full, steps=training.rollout)
    _refuse_large(experiment, train, ranks)
    unshuffled = evaluation_stream(experiment, datasets["train"], ranks=ranks)
    model = _surrogate(experiment, datasets["train"], unshuffled, ranks).to(device)
    objective = Objective.of(training, model)
    method = build_method(experiment.optimizer, model.network, objective)
    if training.compile:
        model.network.features.compile()
    per_step = len(train) if full else training.accumulate
    epochs = training.epochs if method.epochs is None else method.epochs
    total = training.steps or (epochs or 0) * math.ceil(len(train) / per_step)
    return Trainer(
        surrogate=model,
        method=method,
        objective=objective,
        scheduler=scheduler_of(method.optimizer, training, total),
        train=train,
        unshuffled=unshuffled,
        validation=evaluation_stream(experiment, datasets["validation"], ranks=ranks, steps=training.rollout),
        settings=training,
        per_step=per_step,
        total=total,
        checkpoints=run.checkpoints,
        log=run.log(),
        device=device,
        ranks=ranks,
    )


def _surrogate(experiment: Experiment, dataset: xr.Dataset, unshuffled: Stream, ranks: Ranks) -> Surrogate:
    """The untrained surrogate, alike on every rank."""
    signature = signature_of(unshuffled, dataset)
    if experiment.training.rollout > 1:
        Feedback.of(signature.inputs, signature.targets)  # refuses what is no time stepper
    return Surrogate(experiment.model, signature, *_normalizers(experiment, unshuffled, ranks))


def _normalizers(experiment: Experiment, unshuffled: Stream, ranks: Ranks) -> tuple[Normalizer, Normalizer]:
    """Normalisation by the training data, of which every rank reads its share."""
    names, kind = (unshuffled.input_names, unshuffled.target_names), experiment.data.normalize
    if kind == "none":
        return Normalizer.identity(len(names[0])), Normalizer.identity(len(names[1]))
    folder = statistics_folder(Path(experiment.data.path))
    return cached_normalizers(unshuffled, folder, per_pixel=kind == "pixel", peers=ranks)


def _refuse_large(experiment: Experiment, stream: Stream, ranks: Ranks) -> None:
    """Refuse data that a full-batch method would have to hold in memory, and several ranks."""
    optimizer = experiment.optimizer
    if not isinstance(optimizer, FullBatchSettings):
        return
    numbers = torch.Size(stream.inputs.shape).numel() + torch.Size(stream.targets.shape).numel()
    megabytes = 4 * numbers * stream.samples / 2**20
    if megabytes > optimizer.memory_mb:
        raise ConfigError(
            f"optimizer {optimizer.name} holds all training data in memory: {stream.samples} samples of {numbers} "
            f"numbers are {megabytes:.0f} MB, optimizer.memory_mb is {optimizer.memory_mb}; raise it, take fewer "
            "samples (data.split.train), or another optimizer"
        )
    if ranks.world > 1:
        raise ConfigError(f"optimizer {optimizer.name} runs on one process, for small data; start it without torchrun")


def choose_device(name: str, local: int = 0) -> torch.device:
    """The device of a setting.

    Arguments:
        name: `auto`, `cpu` or `cuda`.
        local: Number of this process on its machine, which takes the GPU of that number.

    Raises:
        ResourceError: It is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if count else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    if not count:
        raise ResourceError("training.device: no CUDA device is available here; set training.device=auto or cpu")
    if local >= count:
        raise ResourceError(
            f"process {local} of this machine finds {count} GPUs; start at most {count} processes on it "
            "(--nproc-per-node), or set training.device=cpu"
        )
    return torch.device("cuda", local)
