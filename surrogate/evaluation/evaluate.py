"""Scoring a predictor on a stream: metrics per sample, time and variable, so that every aggregate derives from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from surrogate.batch import Batch
from surrogate.checks import DataError, NumericalError
from surrogate.evaluation.metrics import METRICS, points

__all__ = ["Predict", "evaluate", "predict_batch", "relative_l2_of"]

Predict = Callable[[Tensor], Tensor]
Columns = dict[str, np.ndarray]

DESCRIPTIONS = {
    "relative_l2": "relative L2 error of one sample, time and variable",
    "nrmse": "root mean square error over root mean square target",
    "rmse": "root mean square error",
    "vrmse": "root mean square error over standard deviation of the target in space",
    "max_error": "largest absolute error",
    "conserved_error": "mean over space of the error",
    "squared_error": "sum over space of the squared error",
    "squared_target": "sum over space of the squared target",
}


def evaluate(
    predict: Predict,
    batches: Iterable[Batch],
    *,
    variables: Sequence[str],
    times: Sequence[float] | np.ndarray | xr.DataArray | None = None,
    simulations: Sequence[Any] | np.ndarray | xr.DataArray | None = None,
    units: Sequence[str] | None = None,
    given: Sequence[int] = (),
    scored: Sequence[int] = (),
) -> xr.Dataset:
    """Score every sample of a stream.

    Arguments:
        predict: Inputs (B, C, *S) to targets (B, M, *S), both in physical units.
        batches: The samples, in any order and any grouping; the result does not depend on it.
        variables: Names of the M target variables.
        times: Physical time of every step of the data; the index of the step without it; a `DataArray` keeps its units.
        simulations: Identity of every position along the sample axis of the data; without it, the position.
        units: Unit of every target variable; "" where unknown.
        given: Positions in the window of the steps that the predictor sees; written down, not used.
        scored: Positions of the steps that it is scored on; written down, not used.

    Returns:
        Dimensions (sample, time, variable), where time is that of the first step given; one variable per metric, the
        sums they derive from, and `relative_l2_sample` (sample,), the error over all times and variables of a sample.
        NaN marks a metric that does not exist because its target is zero or constant; the attributes count them.

    Raises:
        NumericalError: A prediction is not finite.
        DataError: Shapes do not fit, a target is not finite, a sample comes twice, or there are none.
    """
    parts: list[Columns] = []
    size = 0
    for batch in batches:
        prediction = predict_batch(predict, batch, variables)
        parts.append(_score(prediction, batch))
        size = points(batch.targets)
    if not parts:
        raise DataError("evaluation: the stream has no samples; check the split and the window")
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    result = _grid(columns, variables)
    result = result.assign_coords(
        time=("time", _pick(times, result["step"].values), dict(getattr(times, "attrs", {}))),
        simulation=("sample", _pick(simulations, result["sample"].values)),
        units=("variable", list(units) if units is not None else [""] * len(variables)),
    )
    result["relative_l2_sample"] = relative_l2_of(result, ("time", "variable"))
    result["relative_l2_sample"].attrs["long_name"] = "relative L2 error over all times and variables of a sample"
    present = max(given, default=0)
    result.attrs |= _facts(result, size)
    result.attrs |= {"steps_given": _steps(given, present), "steps_scored": _steps(scored, present)}
    return result


def predict_batch(predict: Predict, batch: Batch, variables: Sequence[str]) -> Tensor:
    """The checked prediction of a batch, in float64 on the host.

    Raises:
        NumericalError: It is not finite.
        DataError: It has another shape than the targets, or the targets are not finite.
    """
    with torch.no_grad():
        prediction = predict(batch.inputs).detach().to("cpu", torch.float64)
    if prediction.shape != batch.targets.shape or prediction.shape[1] != len(variables):
        raise DataError(
            f"evaluation: the predictor gave shape {tuple(prediction.shape)}, expected {tuple(batch.targets.shape)} "
            f"with {len(variables)} variables ({', '.join(variables)}); does it belong to these data?"
        )
    _refuse_non_finite(batch.targets, batch, variables, DataError, "target", "clean the data, or drop this sample")
    remedy = "train longer, with a smaller learning rate, or on data that cover this case"
    _refuse_non_finite(prediction, batch, variables, NumericalError, "prediction", remedy)
    return prediction


def relative_l2_of(metrics: xr.Dataset, dims: Sequence[str]) -> xr.DataArray:
    """||p - q|| / ||q|| over space and `dims`, from the stored sums; NaN where the target is zero."""
    error, target = metrics["squared_error"].sum(dims), metrics["squared_target"].sum(dims)
    return (error / target.where(target > 0)) ** 0.5


def _refuse_non_finite(
    values: Tensor, batch: Batch, variables: Sequence[str], error: type[Exception], what: str, remedy: str
) -> None:
    if bool(torch.isfinite(values).all()):
        return
    row, channel = torch.nonzero(~torch.isfinite(values))[0, :2].tolist()
    raise error(
        f"evaluation: the {what} of '{variables[channel]}' is not finite for sample {int(batch.sample[row])} "
        f"at step {int(batch.time[row])}; {remedy}"
    )


def _score(prediction: Tensor, batch: Batch) -> Columns:
    targets = batch.targets.to("cpu", torch.float64)
    columns = {name: metric(prediction, targets).numpy() for name, metric in METRICS.items()}
    return columns | {"sample": batch.sample.cpu().numpy(), "step": batch.time.cpu().numpy()}


def _grid(columns: Columns, variables: Sequence[str]) -> xr.Dataset:
    """Columns (row, variable) to (sample, time, variable), NaN where a pair of sample and time was not scored."""
    samples, row_sample = np.unique(columns["sample"], return_inverse=True)
    steps, row_step = np.unique(columns["step"], return_inverse=True)
    scored = np.zeros((len(samples), len(steps)), dtype=np.int64)
    np.add.at(scored, (row_sample, row_step), 1)
    if scored.max() > 1:
        sample, step = (int(index[0]) for index in np.nonzero(scored > 1))
        raise DataError(
            f"evaluation: sample {samples[sample]} at step {steps[step]} comes {scored[sample, step]} times; "
            "give a stream of one epoch"
        )
    dims = ("sample", "time", "variable")
    coords = {"sample": samples, "step": ("time", steps), "variable": list(variables)}
    result = xr.Dataset(coords=coords, attrs={"scored": int(scored.sum())})
    for name in METRICS:
        values = np.full((*scored.shape, len(variables)), np.nan)
        values[row_sample, row_step] = columns[name]
        result[name] = xr.DataArray(values, dims=dims, attrs={"long_name": DESCRIPTIONS[name]})
    return result


def _facts(result: xr.Dataset, size: int) -> dict[str, Any]:
    """What was scored, and how many targets allow no relative error."""
    scored = result["squared_target"].notnull()
    return {
        "samples": result.sizes["sample"],
        "times": result.sizes["time"],
        "points": size,
        "zero_targets": int((result["squared_target"] == 0).sum()),
        "constant_targets": int((scored & result["vrmse"].isnull()).sum()) if size > 1 else 0,
    }


def _pick(labels: Sequence[Any] | np.ndarray | xr.DataArray | None, positions: np.ndarray) -> np.ndarray:
    if labels is None:
        return positions
    labels = np.asarray(labels)
    if labels.ndim != 1 or positions.max() >= len(labels):
        raise DataError(
            f"evaluation: position {positions.max()} needs a label, but labels of shape {labels.shape} were given; "
            "pass one time per step and one simulation per sample of the data that are streamed"
        )
    return labels[positions]


def _steps(offsets: Sequence[int], present: int) -> str:
    """Steps counted from the last one given, as in the names of a stream's channels."""
    return ", ".join(f"t{offset - present:+d}" for offset in offsets) or "not stated"
