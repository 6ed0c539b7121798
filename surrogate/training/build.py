"""Build streams, model and optimizer of a run from its configuration and data."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import xarray as xr

from surrogate.data import DataSettings, Stream, Window, open_data, split
from surrogate.data.mesh import absent_share, point_axis, positions_of
from surrogate.data.streaming.channels import make_side
from surrogate.data.streaming.digits import refuse_lost_digits
from surrogate.errors import ConfigError, ResourceError
from surrogate.experiment.optimizers import FullBatchSettings
from surrogate.experiment.run_folder import RunFolder
from surrogate.experiment.settings import Experiment
from surrogate.files import cache_folder
from surrogate.models.rollout import Feedback
from surrogate.models.signature import signature_of
from surrogate.models.surrogate import Surrogate
from surrogate.normalize import Normalizer, cached_normalizers
from surrogate.runtime.resources import check_memory, memory_limit
from surrogate.training.loop import Trainer
from surrogate.training.methods import build_method
from surrogate.training.objective import Objective
from surrogate.training.ranks import Ranks
from surrogate.training.schedule import scheduler_of
from surrogate.training.setup import Setup
from surrogate.training.start import slow_features_, trained_start

__all__ = ["choose_device", "data_of", "evaluation_stream", "setup_of", "split_datasets", "trainer_of"]


def split_datasets(experiment: Experiment) -> dict[str, xr.Dataset]:
    """Open the data of an experiment lazily and split them by simulation.

    Raises:
        DataError: The files cannot be used.
    """
    data = experiment.data
    return split(open_data(data), data.split, by=data.by, window=data.window)


def data_of(experiment: Experiment, dataset: xr.Dataset) -> DataSettings:
    """Return the data settings with the coordinates of points among the inputs, for a family that takes them.

    Raises:
        ConfigError: The family takes coordinates and the data have none, or they are normalised point by point.
    """
    data, model = experiment.data, experiment.model
    targets = make_side(dataset, data.targets, (0,), 0)
    axis = point_axis(dataset, targets.dims)
    if model.at_points == "never" or not targets.dims or (model.at_points == "meshes" and not axis):
        return data
    names = positions_of(dataset, axis) if axis else tuple(dim for dim in targets.dims if dim in dataset.coords)
    if axis and not names:
        raise ConfigError(
            f"model.family: {model.family} takes the coordinates of the points along '{axis}', which the data do not "
            "have; declare x, y (and z) under data.layout.coordinates, or choose mlp, pod or pod_gp"
        )
    if data.normalize == "pixel":
        raise ConfigError(f"data.normalize: pixel is for one grid; {model.family} needs channel or none")
    complete = len(names) == len(targets.dims) or axis
    added = [name for name in names if name not in data.inputs] if complete else []
    return data.model_copy(update={"inputs": [*data.inputs, *added]})


def evaluation_stream(
    experiment: Experiment, dataset: xr.Dataset, *, ranks: Ranks | None = None, steps: int = 1
) -> Stream:
    """Return an unshuffled stream of a part of the data, or of a rank's share of it, for so many network steps."""
    return _stream(experiment, dataset, ranks or Ranks(), shuffle=False, steps=steps)


def _stream(experiment: Experiment, dataset: xr.Dataset, ranks: Ranks, *, shuffle: bool, steps: int) -> Stream:
    data, training = data_of(experiment, dataset), experiment.training
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


def setup_of(
    experiment: Experiment,
    datasets: dict[str, xr.Dataset],
    run: RunFolder,
    ranks: Ranks,
    surrogate: Surrogate | None = None,
) -> Setup:
    """Build the set-up of a run.

    Arguments:
        experiment: The configuration.
        datasets: Its data, split.
        run: Its folder.
        ranks: The processes that share it.
        surrogate: The model; unless given, an untrained one, the same on every rank.
    """
    training, device = experiment.training, choose_device(experiment.training.device, ranks.local)
    unshuffled = evaluation_stream(experiment, datasets["train"], ranks=ranks)
    if surrogate is None:
        signature, kind = signature_of(unshuffled, datasets["train"]), experiment.data.normalize
        if training.rollout > 1:
            Feedback.of(signature.inputs, signature.targets)  # refuses what is no time stepper
        if training.start_from is not None:
            surrogate = trained_start(Path(training.start_from).expanduser(), experiment.model, signature)
    if surrogate is None:
        if kind == "none" or experiment.model.physical:
            names = (unshuffled.input_names, unshuffled.target_names)
            inputs, targets = (Normalizer.identity(len(of_side)) for of_side in names)
            for side in (unshuffled.inputs, unshuffled.targets):
                refuse_lost_digits(datasets["train"], side)
        else:  # each rank reads its share of the data
            folder = cache_folder(Path(experiment.data.path))
            absent = absent_share(datasets["train"], signature.point_axis)
            inputs, targets = cached_normalizers(
                unshuffled, folder, per_pixel=kind == "pixel", peers=ranks, absent=absent
            )
            for side, of_side in ((unshuffled.inputs, inputs), (unshuffled.targets, targets)):
                statistics = (v.double().flatten(1).mean(1) if v.ndim > 1 else v for v in (of_side.mean, of_side.scale))
                refuse_lost_digits(datasets["train"], side, *(v.tolist() for v in statistics))
        surrogate = Surrogate(experiment.model, signature, inputs, targets)
    model = surrogate.to(device)
    return Setup(
        surrogate=model,
        objective=Objective.of(training, model),
        unshuffled=unshuffled,
        validation=evaluation_stream(experiment, datasets["validation"], ranks=ranks, steps=training.rollout),
        settings=training,
        checkpoints=run.checkpoints,
        log=run.log(),
        device=device,
        ranks=ranks,
    )


def trainer_of(experiment: Experiment, datasets: dict[str, xr.Dataset], run: RunFolder, ranks: Ranks) -> Trainer:
    """Build the trainer of a new model."""
    training = experiment.training
    check_memory(training.buffer_mb * 2**20, "training.buffer_mb", memory_limit())
    optimizer, full = experiment.optimizer, experiment.optimizer.full_batch
    train = _stream(experiment, datasets["train"], ranks, shuffle=not full, steps=training.rollout)
    if isinstance(optimizer, FullBatchSettings):
        numbers = torch.Size(train.inputs.shape).numel() + torch.Size(train.targets.shape).numel()
        megabytes = 4 * numbers * train.samples / 2**20
        if megabytes > optimizer.memory_mb:
            raise ConfigError(
                f"optimizer {optimizer.name} holds all training data in memory: {train.samples} samples of {numbers} "
                f"numbers are {megabytes:.0f} MB, optimizer.memory_mb is {optimizer.memory_mb}; raise it, take fewer "
                "samples (data.split.train), or another optimizer"
            )
        if ranks.world > 1:
            raise ConfigError(
                f"optimizer {optimizer.name} runs on one process, for small data; start it without torchrun"
            )
    setup = setup_of(experiment, datasets, run, ranks)
    network = setup.surrogate.network
    if optimizer.name == "gnvpro" and setup.objective.position is not None:
        raise ConfigError(
            "optimizer.name: gnvpro needs the same number of points in every simulation; choose slimtrain or adam"
        )
    method = build_method(optimizer, network, setup.objective)
    if training.start_what == "features":
        slow_features_(method.optimizer, network.features)
    if training.compile:
        network.features.compile()
    per_step = len(train) if full else training.accumulate
    epochs = training.epochs if method.epochs is None else method.epochs
    total = training.steps or (epochs or 0) * math.ceil(len(train) / per_step)
    method.begin(total)
    scheduler = scheduler_of(method.optimizer, training, total)
    return Trainer(**vars(setup), method=method, scheduler=scheduler, train=train, per_step=per_step, total=total)


def choose_device(name: str, local: int = 0) -> torch.device:
    """Return the device that a setting names.

    Arguments:
        name: `auto`, `cpu` or `cuda`.
        local: Number of this process on its machine, which takes the GPU of that number.

    Raises:
        ResourceError: There is no such device.
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
