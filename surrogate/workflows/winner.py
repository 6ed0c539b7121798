"""The best surrogate of a comparison: the runs of its folds, kept for predictions with cross-conformal intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from surrogate.config import Settings
from surrogate.data.mesh import is_one_mesh, point_axis
from surrogate.errors import ConfigError, DataError
from surrogate.evaluation import cross_conformal_interval, labels_of, save_dataset
from surrogate.evaluation.conformal import Residuals, simulations_needed
from surrogate.evaluation.write import MESHES_DIFFER
from surrogate.experiment.folders import ComparisonFolder
from surrogate.experiment.run_folder import RunFolder
from surrogate.models.folds import FoldMean
from surrogate.models.surrogate import Surrogate
from surrogate.studies import read_note, write_note
from surrogate.training.build import evaluation_stream, split_datasets
from surrogate.training.run import keep_input_range

__all__ = ["CrossConformal", "Winner", "keep_winner", "read_winner"]


class Winner(Settings):
    """The best surrogate of a comparison.

    Arguments:
        name: Its name.
        runs: Names of the run folders of its folds.
        no_intervals: Why there are no cross-conformal intervals; empty where there are.
    """

    name: str
    runs: tuple[str, ...]
    no_intervals: str = ""


def read_winner(folder: Path) -> Winner | None:
    """Return the best surrogate of a comparison; None for any other folder."""
    return read_note(ComparisonFolder(folder).winner, Winner)


@torch.no_grad()
def keep_winner(folder: Path, name: str, runs: Sequence[Path]) -> str:
    """Keep the best surrogate of a comparison, and of several folds its errors on the simulations that each left out.

    Arguments:
        folder: Folder of the comparison.
        name: Name of the surrogate.
        runs: Run folders of its folds.

    Returns:
        A sentence on how to predict with it.
    """
    files, why = ComparisonFolder(folder), ""
    if len(runs) > 1:
        experiment = RunFolder(runs[0]).experiment()
        whole = experiment.data.split.model_copy(update={"test": 0, "validation": 0, "folds": None, "train": None})
        everything = experiment.model_copy(update={"data": experiment.data.model_copy(update={"split": whole})})
        keep_input_range(everything, split_datasets(everything)["train"], RunFolder(folder))
        try:
            save_dataset(_errors_left_out(runs), files.errors)
        except DataError as refusal:
            why = str(refusal)
    write_note(files.winner, Winner(name=name, runs=tuple(run.name for run in runs), no_intervals=why))
    what = f"the mean of its {len(runs)} folds predicts" if len(runs) > 1 else "it predicts"
    with_intervals = f", without intervals ({why})" if why else ", with 90 % intervals by --intervals"
    return f"{what}: surrogate predict {folder} NEW_DATA{with_intervals}"


def _errors_left_out(runs: Sequence[Path]) -> xr.Dataset:
    """Return absolute errors (sample, variable, *space) on what each fold left out, with `fold` and `simulation`."""
    errors, clusters = [], []
    for run in runs:
        experiment = RunFolder(run).experiment()
        part = split_datasets(experiment)["test"]
        stream, residuals, surrogate = evaluation_stream(experiment, part), Residuals(), Surrogate.load(run)
        if not is_one_mesh(part, point_axis(part, stream.spatial_dims)):
            raise DataError(f"conformal intervals: {MESHES_DIFFER}")
        for batch in stream:
            residuals.add(batch, surrogate(batch.inputs))
        of_fold, simulations = residuals.errors(labels_of(stream, part, by=experiment.data.by))
        errors.append(of_fold)
        clusters.append(simulations.astype(str))
    names = np.concatenate(clusters)
    if len(np.unique(names)) < simulations_needed():
        raise DataError(f"90 % intervals need {simulations_needed()} simulations, there are {len(np.unique(names))}")
    folds = np.repeat(np.arange(len(runs)), [len(part) for part in errors])
    values = np.concatenate(errors)
    space = [f"axis_{axis}" for axis in range(values.ndim - 2)]
    labels = {"fold": ("sample", folds), "simulation": ("sample", names)}
    return xr.Dataset({"error": (("sample", "variable", *space), values)}, labels)


class CrossConformal:
    """Cross-conformal (CV+) intervals of the mean of folds.

    Arguments:
        mean: The surrogates of the folds.
        stored: Their errors on what each left out, as a comparison keeps them.
    """

    def __init__(self, mean: FoldMean, stored: xr.Dataset) -> None:
        self.mean, self.errors = mean, stored["error"].values
        self.folds, self.clusters = stored["fold"].values, stored["simulation"].values

    def __call__(self, inputs: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ends of the intervals of predictions (B, 1, M, *S) for inputs (B, C, *input_grid).

        Raises:
            ConfigError: It is a roll-out, or at other points than those of the training.
        """
        if prediction.shape[1] > 1:
            raise ConfigError(
                "cross-conformal intervals are those of one step; predict without --rollout, or train the best "
                "surrogate alone, whose evaluation calibrates intervals of roll-outs"
            )
        if prediction.shape[2:] != self.errors.shape[1:]:
            raise ConfigError(
                "intervals hold at the points of the training data; predict at others without --intervals"
            )
        by_fold = self.mean.each(inputs).cpu().numpy()
        ends = [
            cross_conformal_interval(by_fold[:, row], self.errors, self.folds, clusters=self.clusters)
            for row in range(by_fold.shape[1])
        ]
        low, high = (torch.from_numpy(np.stack(end))[:, None].to(prediction) for end in zip(*ends, strict=True))
        return low, high
