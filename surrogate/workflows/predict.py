"""Predict with a trained run, on request with the conformal intervals of its evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from surrogate.data.mapping import Layout
from surrogate.errors import ConfigError
from surrogate.evaluation import channels_of
from surrogate.experiment.folders import ComparisonFolder
from surrogate.experiment.run_folder import RunFolder
from surrogate.models.folds import FoldMean
from surrogate.models.input_range import SCORE, InputRange
from surrogate.models.surrogate import Surrogate
from surrogate.numbers import number
from surrogate.prediction import predict
from surrogate.prediction.predict import HalfWidth, Interval
from surrogate.prediction.vtu import check_vtu, vtu_folder, write_vtu
from surrogate.progress import ProgressBar
from surrogate.workflows.pipeline import cases_of, load_surrogate
from surrogate.workflows.winner import CrossConformal, read_winner

__all__ = ["interval_of", "out_of_range_lines", "predict_run"]

Say = Callable[[str], None]


def quiet(line: str) -> None:
    """Say nothing."""


def predict_run(
    run: Path,
    inputs: str,
    output: Path,
    *,
    device: str,
    layout: Layout | None = None,
    intervals: bool = False,
    vtu: bool = False,
    say: Say = quiet,
    **options: Any,
) -> Path:
    """Write predictions for new inputs to a NetCDF-4 file, each with the score of its input where the run has a range.

    Arguments:
        run: A run folder, the folder of a pipeline with one case, a checkpoint, or the folder of a comparison, whose
            best surrogate predicts: of several folds their mean.
        inputs: Data in any layout, or a table of parameters.
        output: The file.
        device: Name of the device, or "auto".
        layout: Layout of the inputs; that of the training data unless given.
        intervals: Write the ends of conformal intervals too.
        vtu: Write predictions on points also as VTU files, into a folder next to the file.
        say: Called with the folder of VTU files, and a line on how many inputs are out of the range of the training
            inputs.
        options: Further ones of `surrogate.prediction.predict`.

    Returns:
        The file.

    Raises:
        ConfigError: There is no surrogate, or there are no intervals; the message says why.
    """
    predictor = _predictor(run, device)
    if vtu:
        check_vtu(predictor.surrogate.signature, output, overwrite=bool(options.get("overwrite")))
    interval = predictor.interval(options.get("rollout_steps", 0)) if intervals else None
    input_range = InputRange.load(predictor.input_range) if predictor.input_range.is_file() else None
    with ProgressBar("predicting", "bytes") as progress:
        options |= {"layout": layout or predictor.layout, "interval": interval, "progress": progress}
        predict(predictor.surrogate, inputs, output, input_range=input_range, **options)
    if vtu:
        say(f"{write_vtu(output, vtu_folder(output))}")
    if input_range is not None:
        with xr.open_dataset(output, engine="h5netcdf", decode_times=False) as predictions:
            for line in out_of_range_lines(predictions[SCORE].load()):
                say(line)
    return output


@dataclass(frozen=True)
class _Predictor:
    """What predicts, and what belongs to it.

    Arguments:
        surrogate: A surrogate, or the mean of those of folds.
        layout: Layout of its training data, where it is known.
        input_range: File of the range of its training inputs; it need not exist.
        interval: Function that returns the intervals of so many network steps of a roll-out, 0 for single steps.
    """

    surrogate: Surrogate | FoldMean
    layout: Layout | None
    input_range: Path
    interval: Callable[[int], Interval]


def _predictor(run: Path, device: str) -> _Predictor:
    """Return what predicts for a run, a checkpoint, or a comparison."""
    winner, files = read_winner(run), ComparisonFolder(run)
    if winner is None or len(winner.runs) == 1:
        folder = run if winner is None else files.case(winner.runs[0])
        surrogate, layout = load_surrogate(folder, device)
        case = cases_of(folder)[0]
        targets = surrogate.signature.targets
        return _Predictor(
            surrogate, layout, RunFolder(case).input_range, lambda steps: interval_of(case, targets, steps)
        )
    loaded = [load_surrogate(files.case(name), device) for name in winner.runs]
    mean = FoldMean([surrogate for surrogate, _ in loaded])

    def interval(steps: int) -> Interval:
        if winner.no_intervals:
            raise ConfigError(f"--intervals: {winner.no_intervals}")
        return CrossConformal(mean, xr.load_dataset(files.errors, engine="h5netcdf"))

    return _Predictor(mean, loaded[0][1], files.input_range, interval)


def out_of_range_lines(scores: xr.DataArray) -> list[str]:
    """Say how many predictions are for inputs out of the range of the training inputs; nothing where all are within."""
    beyond = int((scores > 1).sum())
    if not beyond:
        return []
    worst = np.unravel_index(int(np.nanargmax(scores.values)), scores.shape)
    where = ", ".join(f"{dim} {position}" for dim, position in zip(scores.dims, worst, strict=True))
    return [
        f"{beyond} of {scores.size} inputs are out of the range of the training inputs ({SCORE} above 1, largest "
        f"{number(float(np.nanmax(scores.values)), 3)} at {where}): farther from them than 95 % of them are from "
        "each other, so errors of the evaluation, standard deviations and intervals do not apply to these predictions"
    ]


def interval_of(run: Path, targets: tuple[str, ...], rollout_steps: int = 0) -> Interval:
    """Return the intervals of a run, calibrated by its evaluation.

    Arguments:
        run: The run folder.
        targets: Names of the M targets.
        rollout_steps: Network steps of a roll-out; 0 for one step from each window.

    Raises:
        ConfigError: There are none; the message says why.
        DataError: The evaluation is damaged.
    """
    evaluation = RunFolder(run).evaluation
    if not evaluation.metrics.is_file():
        raise ConfigError(f"--intervals: {run} was not evaluated; run `surrogate evaluate {run}` first")
    name = "rollout" if rollout_steps else "metrics"
    stored = evaluation.rollout_conformal if rollout_steps else evaluation.conformal
    if not stored.is_file():
        why = f"it holds none; run `surrogate evaluate {run}` again"
        if rollout_steps and not evaluation.rollout.is_file():
            why = f"no roll-out was evaluated; run `surrogate evaluate {run} --rollout {rollout_steps}` first"
        if getattr(evaluation, name).is_file():
            why = evaluation.read(name).attrs.get("no_conformal", why)
        raise ConfigError(f"--intervals: {why}")
    if rollout_steps:
        widths = evaluation.read("rollout_conformal")["half_width"]
        return HalfWidth(torch.from_numpy(_of_rollout(widths, targets, rollout_steps)))
    widths = evaluation.read("conformal")["half_width"]
    return HalfWidth(torch.from_numpy(widths.sel(variable=list(targets)).values))


def _of_rollout(widths: xr.DataArray, targets: tuple[str, ...], steps: int) -> np.ndarray:
    """Arrange widths (lead, variable, *space) of a roll-out by network step and target: (steps, M, *space)."""
    variables, within, channels = channels_of(targets)
    if steps * len(within) > widths.sizes["lead"]:
        raise ConfigError(
            f"--intervals: those of roll-outs are for at most {widths.sizes['lead'] // len(within)} network steps, as "
            "far as the evaluation rolled out and did not diverge; lower --rollout"
        )
    known = widths.sel(variable=variables).values
    result = np.empty((steps, len(targets), *known.shape[2:]), dtype=known.dtype)
    for step in range(steps):
        result[step, channels] = known[step * len(within) : (step + 1) * len(within)]
    return result
