"""Train one experiment into a run folder; everything is checked before anything is written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from surrogate.data.fingerprint import fingerprint
from surrogate.data.layouts import files_behind, find_files
from surrogate.data.mesh import point_axis
from surrogate.data.staging import stage
from surrogate.errors import ConfigError
from surrogate.experiment.optimizers import RaceSettings
from surrogate.experiment.run_folder import RunFolder, refuse_changes
from surrogate.experiment.settings import Experiment
from surrogate.files import check_output, claim_output, locked
from surrogate.models.input_range import MOST_INPUTS, InputRange
from surrogate.training.build import evaluation_stream, split_datasets
from surrogate.training.ensemble import fit_members, members_of
from surrogate.training.job import Job
from surrogate.training.race import candidates_of, fit_race
from surrogate.training.ranks import joined
from surrogate.training.setup import Callback

__all__ = ["keep_input_range", "train", "with_absolute_path"]


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
        command: The command line, for the report.
        resume: Continue from the newest checkpoint.
        overwrite: Replace an earlier run.
        callbacks: Functions called with the trainer and every record of the log, on the first rank.
        staging: Node-local folder that the data are copied to first, once for all ranks of the node.
        quiet: Show no progress.

    Raises:
        ConfigError: The output exists, or a resumed run differs from the one begun.
        Interrupted: A signal came; a checkpoint is written.
    """
    with joined(experiment.training.device) as ranks, _deterministic(experiment.training.deterministic):
        check_output(output, overwrite=overwrite, resume=resume)
        run, data = RunFolder(output), experiment.data
        files = find_files(data.path, data.layout)
        experiment = staged = with_absolute_path(experiment)
        if staging is not None:  # the run folder keeps the path of the originals
            staged = _with_path(experiment, stage(experiment.data.path, staging, experiment.data.layout))
        datasets = split_datasets(staged)
        if "validation" not in datasets:
            raise ConfigError(
                "data.split.validation: training chooses its best model on validation data; give it a share"
            )
        check_output(output, overwrite=overwrite, resume=resume, reads=files_behind(data.path, data.layout))
        contents = fingerprint(files)
        if resume:
            refuse_changes(run, experiment, contents)
        job = Job(datasets, contents, command, ranks, resume, callbacks, quiet)
        trainer = job.trainer(
            members_of(candidates_of(experiment)[0])[0], run
        )  # refuses what it must before anything is written
        ranks.alone(lambda: claim_output(output, overwrite=overwrite, resume=resume))
        with locked(output) if ranks.first else nullcontext():
            if isinstance(experiment.optimizer, RaceSettings):
                fit_race(job, experiment, experiment.optimizer, run)
            elif experiment.training.members == 1:
                job.fit(trainer, experiment, run, title=output.name)
            else:
                fit_members(job, experiment, run)
            if ranks.first and not run.input_range.is_file():
                keep_input_range(staged, datasets["train"], run)
    return run


def keep_input_range(experiment: Experiment, train: xr.Dataset, run: RunFolder) -> None:
    """Keep the range of the training inputs in the run folder.

    There is none of a single training input, and none where predictions may be at other points than those of training.
    """
    most = MOST_INPUTS
    if train.sizes["sample"] > most:  # few samples of each are enough
        train = train.isel(sample=np.linspace(0, train.sizes["sample"] - 1, most).astype(int))
    stream = evaluation_stream(experiment, train)
    if stream.samples > 1 and not (experiment.model.at_points != "never" and point_axis(train, stream.spatial_dims)):
        InputRange.of(stream).save(run.input_range)


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    """Let torch refuse operations whose result depends on the order of threads, inside the block."""
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
    """Return the experiment with an absolute path to its data, so that the run folder can be read from anywhere."""
    return _with_path(experiment, str(Path(experiment.data.path).expanduser().absolute()))


def _with_path(experiment: Experiment, path: str) -> Experiment:
    return experiment.model_copy(update={"data": experiment.data.model_copy(update={"path": path})})
