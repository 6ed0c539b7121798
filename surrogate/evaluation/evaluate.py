"""Score a predictor on a stream: metrics per sample, time and variable, from which every average follows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from surrogate.batch import Batch
from surrogate.errors import DataError, NumericalError
from surrogate.evaluation.headline import normalized_errors
from surrogate.evaluation.maps import ErrorMaps
from surrogate.evaluation.metrics import GRID_METRICS, METRICS, FieldErrors, points
from surrogate.evaluation.spectral import BANDS, coefficients, log_edges, spectral_columns
from surrogate.evaluation.table import Columns, Labels, Rows, grid, join_tables
from surrogate.evaluation.volumes import Volumes

__all__ = ["SPECTRA", "Predict", "evaluate", "mean_relative_l2", "merge", "predict_batch", "relative_l2_of"]

Predict = Callable[[Tensor], Tensor]

DESCRIPTIONS = {
    "relative_l2": "relative L2 error of one sample, time and variable",
    "nrmse": "root mean square error over root mean square target",
    "rmse": "root mean square error",
    "vrmse": "root mean square error over standard deviation of the target in space",
    "mae": "mean absolute error",
    "max_error": "largest absolute error",
    "conserved_error": "mean over space of the error",
    "squared_error": "sum over space of the squared error",
    "squared_target": "sum over space of the squared target",
    "brmse": "root mean square error over the boundary cells",
    "target_mean": "mean of the target over space",
    "target_variance": "variance of the target over space",
    "scored_points": "number of grid points that have a target",
    "frmse": "root mean square Fourier coefficient of the error, by band of the wave number",
    "spectral_error": "power of the error, by band of the wave number",
    "spectral_target": "power of the target, by band of the wave number",
    "spectral_prediction": "power of the prediction, by band of the wave number",
}
TOGETHER = 131_072  # values that are scored together
SPECTRA = ("spectral_error", "spectral_target", "spectral_prediction")


def evaluate(
    predict: Predict,
    batches: Iterable[Batch],
    *,
    maps: ErrorMaps | None = None,
    volumes: Volumes | None = None,
    on_points: bool = False,
    also: Callable[[Batch, Tensor], None] | None = None,
    variables: Sequence[str],
    **labels: Any,
) -> xr.Dataset:
    """Score every sample of a stream.

    Arguments:
        predict: Inputs (B, C, *S) to targets (B, M, *S), both in physical units.
        batches: The samples, in any order and any grouping; the result does not depend on it.
        maps: Errors per grid point, to which every batch is added.
        volumes: Weights of the points, by which sums over space become integrals.
        on_points: The points are those of a mesh, in no order: there are no spectra and no boundary errors.
        also: Callback with every batch and its checked prediction, in float64 on the host, so that further statistics
            need no second pass.
        variables: Names of the M target variables.
        labels: `units`, `times`, `simulations`, `given` and `scored`, as `Labels` explains them.

    Returns:
        Dimensions (sample, time, variable), where time is that of the first step given; one variable per metric and the
        sums they derive from. On a grid, `frmse` has the further dimension `band`, and the spectra `wave_number`.
        `relative_l2_variable` (sample, variable) is the error over all times of a sample, and `relative_l2_sample`
        (sample,) its mean over the variables, so that no unit weighs more than another. Where a sample is one number of
        each variable, `normalized_error_variable` and `normalized_error_sample` are its error in units of all of them.
        NaN marks a metric that does not exist because its target is zero or constant; the attributes count them.

    Raises:
        NumericalError: A prediction is not finite.
        DataError: Shapes do not fit, a target is not finite, a sample appears twice, or there are none.
    """
    rows = Rows()
    shape: tuple[int, ...] = ()
    size = 0
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads, "scores") as pool:
        for batch in batches:
            prediction = predict_batch(predict, batch, variables)
            pieces = _pieces(prediction, batch, volumes, on_points)
            for piece, columns in zip(pieces, (pool.map if threads > 1 else map)(_Piece.scores, pieces), strict=True):
                rows.add(columns)
                if maps is not None:
                    maps.add_errors(piece.errors)
            size, shape = points(batch.targets), tuple(batch.targets.shape[2:])
            if also is not None:
                also(batch, prediction)
    dims, coords = _axes(shape, variables, on_points)
    result = grid(rows.columns(), dims, coords)
    for name in dims:
        result[name].attrs["long_name"] = DESCRIPTIONS[name]
    result = Labels(variables, **labels).put_on(result)
    return _complete(result.assign_attrs(points=size, weighted=int(volumes is not None), on_points=int(on_points)))


def merge(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Merge evaluations of disjoint chunks or ranks into one, bit for bit that of all samples together.

    Raises:
        DataError: There are none, a pair of sample and time is in two of them, or they were scored in different ways.
    """
    return _complete(join_tables(parts))


def predict_batch(predict: Predict, batch: Batch, variables: Sequence[str]) -> Tensor:
    """Predict a batch and check the result, in float64 on the host.

    Raises:
        NumericalError: It is not finite.
        DataError: It has another shape than the targets, or the targets are not finite.
    """
    with torch.no_grad():
        return checked_prediction(predict(batch.inputs), batch, variables)


def checked_prediction(prediction: Tensor, batch: Batch, variables: Sequence[str]) -> Tensor:
    """Return a prediction in float64 on the host, with the checks of `predict_batch`."""
    prediction = prediction.detach().to("cpu", torch.float64)
    check_shape(prediction, batch, variables)
    refuse_non_finite_targets(batch, variables)
    remedy = "train longer, with a smaller learning rate, or on data that cover this case"
    _refuse_non_finite(prediction, batch, variables, NumericalError, "prediction", remedy)
    return prediction


def check_shape(prediction: Tensor, batch: Batch, variables: Sequence[str]) -> None:
    """Raise `DataError` where a prediction has another shape than the targets."""
    if prediction.shape != batch.targets.shape or prediction.shape[1] != len(variables):
        raise DataError(
            f"evaluation: the predictor gave shape {tuple(prediction.shape)}, expected {tuple(batch.targets.shape)} "
            f"with {len(variables)} variables ({', '.join(variables)}); does it belong to these data?"
        )


def refuse_non_finite_targets(batch: Batch, variables: Sequence[str]) -> None:
    """Raise `DataError` where a target is not finite; in a masked batch NaN is allowed."""
    _refuse_non_finite(batch.targets, batch, variables, DataError, "target", "clean the data, or drop this sample")


def relative_l2_of(metrics: xr.Dataset, dims: Sequence[str]) -> xr.DataArray:
    """Return ||p - q|| / ||q|| over space and `dims`, from the stored sums; NaN where the target is zero.

    Over several variables the one with the largest values dominates: see `mean_relative_l2`.
    """
    error, target = metrics["squared_error"].sum(dims), metrics["squared_target"].sum(dims)
    return (error / target.where(target > 0)) ** 0.5


def mean_relative_l2(metrics: xr.Dataset, dims: Sequence[str] = ()) -> xr.DataArray:
    """Return ||p - q|| / ||q|| over space and `dims` of every variable, averaged over variables.

    A variable whose target is zero is left out of the average; NaN where all are zero.
    """
    return relative_l2_of(metrics, dims).mean("variable")


def _refuse_non_finite(
    values: Tensor, batch: Batch, variables: Sequence[str], error: type[Exception], what: str, remedy: str
) -> None:
    if math.isfinite(values.sum()):  # a sum is much cheaper than a test of every value
        return
    wrong = values.isinf() if error is DataError and batch.masked else ~values.isfinite()
    if not wrong.any():
        return
    row, channel = wrong.nonzero()[0, :2].tolist()
    raise error(
        f"evaluation: the {what} of '{variables[channel]}' is not finite for sample {int(batch.sample[row])} "
        f"at step {int(batch.time[row])}; {remedy}"
    )


@dataclass(frozen=True)
class _Piece:
    """Errors of a few samples of a batch, with their positions: all that follows from them stays in the cache."""

    errors: FieldErrors
    positions: Columns
    on_points: bool

    def scores(self) -> Columns:
        columns = self.positions | {name: getattr(self.errors, name) for name in _measures(self.on_points)}
        return columns if self.on_points or not self.errors.space else columns | spectral_columns(self.errors)


def _pieces(prediction: Tensor, batch: Batch, volumes: Volumes | None, on_points: bool) -> list[_Piece]:
    targets = batch.targets.detach().to("cpu", torch.float64)
    weights = None if volumes is None else volumes.at(batch.sample)
    samples = max(1, TOGETHER // max(1, targets[:1].numel()))
    pieces = []
    for first in range(0, len(targets), samples):
        rows = slice(first, first + samples)
        errors = FieldErrors(prediction[rows], targets[rows], None if weights is None else weights[rows])
        positions = {"sample": batch.sample[rows].cpu().numpy(), "step": batch.time[rows].cpu().numpy()}
        pieces.append(_Piece(errors, positions, on_points))
    return pieces


def _measures(on_points: bool) -> list[str]:
    """Return the names of the metrics; points of a mesh have no boundary cells."""
    return [name for name in (METRICS | GRID_METRICS) if name != "brmse" or not on_points]


def _axes(
    shape: tuple[int, ...], variables: Sequence[str], on_points: bool
) -> tuple[dict[str, tuple[str, ...]], dict[str, Any]]:
    """Return the dimensions after (sample, time) of every metric, and their coordinates."""
    dims: dict[str, tuple[str, ...]] = dict.fromkeys(_measures(on_points), ("variable",))
    coords: dict[str, Any] = {"variable": list(variables)}
    if not shape or on_points:
        return dims, coords
    edges = np.array(log_edges(shape))
    dims |= {"frmse": ("variable", "band")} | dict.fromkeys(SPECTRA, ("variable", "wave_number"))
    coords |= {
        "band": list(BANDS),
        "band_range": ("band", [f"[{low:g}, {high:g})" for low, high in BANDS.values()]),
        "wave_number": ("wave_number", edges[:-1], {"long_name": "wave number from", "units": "cycles per box"}),
        "wave_number_to": ("wave_number", edges[1:], {"units": "cycles per box"}),
        "coefficients": ("wave_number", coefficients(shape, edges.tolist())),
    }
    return dims, coords


def _complete(result: xr.Dataset) -> xr.Dataset:
    """Add the errors per sample that follow from the stored sums, and count zero and constant targets."""
    per_variable = relative_l2_of(result, ("time",)).transpose("sample", "variable")
    result["relative_l2_variable"] = per_variable.assign_attrs(
        long_name="relative L2 error over all times of a sample, by variable"
    )
    result["relative_l2_sample"] = per_variable.mean("variable").assign_attrs(
        long_name="relative L2 error over all times of a sample, mean over variables"
    )
    normalized = normalized_errors(result)
    if normalized is not None:
        result["normalized_error_variable"] = normalized.assign_attrs(
            long_name="error over the root mean square of the targets of all samples, by variable"
        )
        result["normalized_error_sample"] = normalized.mean("variable").assign_attrs(
            long_name="error over the root mean square of the targets of all samples, mean over variables"
        )
    scored = result["squared_target"].notnull()
    size = int(result.attrs["points"])
    return result.assign_attrs(
        zero_targets=int((result["squared_target"] == 0).sum()),
        constant_targets=int((scored & result["vrmse"].isnull()).sum()) if size > 1 else 0,
    )
