"""Scores of roll-outs, in which a surrogate is fed its own predictions, against lead time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from surrogate.batch import Batch
from surrogate.errors import DataError
from surrogate.evaluation.metrics import METRICS, points
from surrogate.evaluation.table import Columns, Labels, Rows, grid
from surrogate.quantiles import quantiles

__all__ = [
    "Rollout",
    "Trajectories",
    "channels_of",
    "error_growth",
    "evaluate_rollout",
    "growth_factors",
    "rollout_table",
    "score_steps",
    "time_to_threshold",
    "trajectories",
]

MOVING = re.compile(r"(.*)\[t([+-]\d+)\]")
Rollout = Callable[[Tensor, int], Tensor]
DIVERGED = ("relative_l2", "nrmse", "rmse", "vrmse", "mae", "max_error", "squared_error")


@dataclass(frozen=True)
class Trajectories:
    """Starts of `B` roll-outs and the true steps that follow.

    Arguments:
        inputs: Inputs of the first step, with shape (B, C, *S).
        truth: The steps after it, with shape (B, L, M, *S).
        sample: Position of each simulation in the data, with shape (B,).
        time: Position of the first step given, with shape (B,).
    """

    inputs: Tensor
    truth: Tensor
    sample: Tensor
    time: Tensor


def trajectories(batches: Iterable[Batch], names: Sequence[str]) -> Iterator[Trajectories]:
    """Yield starts of roll-outs from a stream whose targets are the L steps that follow.

    Arguments:
        batches: Batches of a window with `steps_out` L.
        names: Names of the target channels, such as `u[t+1], u[t+2], v[t+1], v[t+2]`.

    Raises:
        DataError: A variable lacks a step, or a name has none.
    """
    variables, offsets, channels = channels_of(names)
    flat = torch.from_numpy(channels.ravel())
    for batch in batches:
        truth = batch.targets[:, flat].unflatten(1, (len(offsets), len(variables)))
        yield Trajectories(batch.inputs, truth, batch.sample, batch.time)


def channels_of(names: Sequence[str]) -> tuple[list[str], list[int], np.ndarray]:
    """Return variables, time offsets, and the position of each channel with shape (offsets, variables).

    Raises:
        DataError: A variable lacks a step, or a name has none.
    """
    positions = {}
    for position, name in enumerate(names):
        parts = MOVING.fullmatch(name)
        if parts is None:
            raise DataError(f"roll-out: target '{name}' has no time step; choose a variable with a time axis")
        positions[parts[1], int(parts[2])] = position
    variables = list(dict.fromkeys(name for name, _ in positions))
    offsets = sorted({offset for _, offset in positions})
    missing = [f"{name}[t{t:+d}]" for t in offsets for name in variables if (name, t) not in positions]
    if missing:
        raise DataError(f"roll-out: there is no truth for {', '.join(missing)}; all variables need the same steps")
    return variables, offsets, np.array([[positions[name, offset] for name in variables] for offset in offsets])


def evaluate_rollout(
    rollout: Rollout,
    starts: Iterable[Trajectories],
    *,
    variables: Sequence[str],
    step: float = 1.0,
    **labels: Any,
) -> xr.Dataset:
    """Score roll-outs at every lead time.

    Arguments:
        rollout: Inputs (B, C, *S) and a number L of steps to predictions (B, L, M, *S), in physical units.
        starts: Starts of the roll-outs with their truth, in any order and grouping, all of one length L.
        variables: Names of the M variables.
        step: Physical time between two steps, in the unit of `times`.
        labels: `units`, `times`, `simulations`, `given` and `scored`, as `Labels` explains them.

    Returns:
        Dimensions (sample, time, lead, variable): the metrics of `evaluate` at lead times step, 2 step, ...; time is
        that of the first step given. From the first value on that is not finite a roll-out has diverged: its errors
        are infinite, its conserved error is NaN, and `diverged` counts the roll-outs.

    Raises:
        DataError: Shapes do not fit, the truth is not finite, a start appears twice, or there are none.
    """
    rows = Rows()
    size = 0
    for start in starts:
        truth = start.truth
        with torch.no_grad():
            prediction = rollout(start.inputs, truth.shape[1]).detach().to("cpu", torch.float64)
        if prediction.shape != truth.shape or truth.shape[2] != len(variables):
            raise DataError(
                f"roll-out: the predictor gave shape {tuple(prediction.shape)}, expected {tuple(truth.shape)} "
                f"with {len(variables)} variables ({', '.join(variables)}); does it belong to these data?"
            )
        if not bool(torch.isfinite(truth).all()):
            row, lead = torch.nonzero(~torch.isfinite(truth))[0, :2].tolist()
            raise DataError(
                f"roll-out: the truth is not finite for sample {int(start.sample[row])}, {lead + 1} steps after step "
                f"{int(start.time[row])}; clean the data, or drop this sample"
            )
        columns, _ = score_steps(prediction, truth, torch.zeros(len(prediction), dtype=torch.bool))
        rows.add(columns | {"sample": start.sample.cpu().numpy(), "step": start.time.cpu().numpy()})
        size = points(truth[:, 0])
    columns = rows.columns()
    leads = step * np.arange(1, columns["rmse"].shape[1] + 1)
    return rollout_table(columns, leads, Labels(variables, **labels)).assign_attrs(points=size)


def rollout_table(columns: Columns, leads: np.ndarray, labels: Labels) -> xr.Dataset:
    """Build the data set of `evaluate_rollout` from the scores of `score_steps` over all leads.

    Arguments:
        columns: Numbers with shape (rows, L, M); `sample` and `step` with shape (rows,).
        leads: The L lead times, in the unit of `labels.times`.
        labels: Names of variables, times and simulations.
    """
    names = [name for name in columns if name not in ("sample", "step")]
    units = getattr(labels.times, "attrs", {}).get("units", "")
    coords = {"variable": list(labels.variables), "lead": ("lead", leads, {"long_name": "lead time", "units": units})}
    result = labels.put_on(grid(columns, dict.fromkeys(names, ("lead", "variable")), coords))
    for name in names:
        result[name].attrs["long_name"] = name.replace("_", " ")
    diverged = int(np.isinf(result["rmse"].values).any((2, 3)).sum())
    return result.assign_attrs(diverged=diverged, lead_steps=len(leads))


def growth_factors(metrics: xr.Dataset, *, metric: str = "relative_l2") -> xr.DataArray:
    """Return the factor of the error from one lead time to the next, median over starts, as (lead, variable).

    NaN at the first lead time, and where no error is positive and finite.
    """
    errors = _usable(metrics[metric])
    factors = errors / errors.shift(lead=1)
    return factors.median(("sample", "time")).assign_attrs(long_name="factor of the error per step")


def error_growth(metrics: xr.Dataset, *, metric: str = "relative_l2") -> xr.DataArray:
    r"""Return the exponential growth rate of every roll-out, the least-squares slope of log error against lead time.

    Returns:
        Dimensions (sample, time, variable), per unit of time; NaN for fewer than two errors that are positive and
        finite.
    """
    errors = _usable(metrics[metric])
    logs = errors.copy(data=np.log(errors.values))
    lead = metrics["lead"].where(logs.notnull())
    centred = lead - lead.mean("lead")
    slope = (centred * logs).sum("lead") / (centred**2).sum("lead").where(logs.count("lead") > 1)
    units = metrics["lead"].attrs.get("units", "")
    return slope.assign_attrs(long_name="growth rate of the error", units=f"1/{units}" if units else "")


def time_to_threshold(metrics: xr.Dataset, threshold: float, *, metric: str = "relative_l2") -> xr.Dataset:
    """Return the first lead time at which the error exceeds a threshold.

    Arguments:
        metrics: The result of `evaluate_rollout`.
        threshold: In the unit of the metric.
        metric: Name of the error.

    Returns:
        With dimensions (sample, time, variable): `lead_time`, and `censored`, true where the threshold was not passed
        within the roll-out, whose last lead time is then a lower bound. A start that was not scored, or whose error
        never exists, is NaN and not censored. `median` (variable,) is infinite where more than half are censored.
    """
    lead, attributes = metrics["lead"].values, metrics["lead"].attrs
    errors = metrics[metric].transpose("sample", "time", "variable", "lead").values
    scored, passed = ~np.isnan(errors), errors > threshold
    exists, reached = scored.any(-1), passed.any(-1)
    last = np.where(scored, lead, -np.inf).max(-1)
    lead_time = np.where(exists, np.where(reached, lead[passed.argmax(-1)], last), np.nan)
    censored = exists & ~reached
    known = np.where(censored, np.inf, lead_time).reshape(-1, censored.shape[-1])
    dims = ("sample", "time", "variable")
    fields = {
        "lead_time": (dims, lead_time, attributes),
        "censored": (dims, censored),
        "median": ("variable", quantiles(known, [0.5])[0], attributes),
    }
    kept = {str(name): values for name, values in metrics.coords.items() if set(values.dims) <= set(dims)}
    return xr.Dataset(fields, kept, {"threshold": threshold, "metric": metric})


def _usable(errors: xr.DataArray) -> xr.DataArray:
    return errors.where((errors > 0) & np.isfinite(errors))


def score_steps(
    prediction: Tensor,
    truth: Tensor,
    lost: Tensor,
    metrics: Sequence[str] = tuple(METRICS),
    *,
    weights: Tensor | None = None,
) -> tuple[Columns, Tensor]:
    """Score some successive steps, with shape (B, k, M), and flag the roll-outs that have diverged by their end.

    Arguments:
        prediction: With shape (B, k, M, *S).
        truth: With shape (B, k, M, *S).
        lost: Roll-outs that had diverged before the first of these steps, with shape (B,).
        metrics: Names of the metrics.
        weights: Volumes of the points of a mesh, with shape (B, *S).
    """
    of_steps = None if weights is None else weights.repeat_interleave(truth.shape[1], 0)
    prediction, truth = prediction.to("cpu", torch.float64), truth.to("cpu", torch.float64)
    now = ~torch.isfinite(prediction).flatten(2).all(-1)  # (B, k)
    gone = lost[:, None] | (now.cumsum(1) > 0)  # steps after a value that is not finite do not count
    clean = torch.where(gone.reshape(*gone.shape, *[1] * (truth.ndim - 2)), truth, prediction)
    over = gone[..., None].numpy()
    columns: Columns = {}
    for name in metrics:
        values = METRICS[name](clean.flatten(0, 1), truth.flatten(0, 1), of_steps).reshape(truth.shape[:3]).numpy()
        if name in DIVERGED:
            values = np.where(over & np.isfinite(values), np.inf, values)
        elif name == "conserved_error":
            values = np.where(over, np.nan, values)
        columns[name] = values
    return columns, gone[:, -1]
