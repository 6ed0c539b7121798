"""Averages as the codes of PDEBench and The Well compute them, for comparison with published numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

__all__ = ["PDEBENCH_BATCH", "Compat", "compat_table", "pdebench_compat", "well_compat"]

PDEBENCH_BATCH = 50  # the batch size of PDEBench's own configurations
WELL_EPSILON = 1e-7


@dataclass(frozen=True)
class Compat:
    """An average as another code computes it, and the true one, over all samples, times and variables.

    Arguments:
        protocol: `pdebench` or `the_well`.
        metric: Name of the metric.
        value: The number that code would print.
        mean: The true average.
        note: How they differ.
    """

    protocol: str
    metric: str
    value: float
    mean: float
    note: str


def pdebench_compat(metrics: xr.Dataset, *, batch_size: int = PDEBENCH_BATCH) -> dict[str, float]:
    """Return RMSE, nRMSE, cRMSE and maximal error as PDEBench's evaluation prints them.

    It averages each batch over samples, then times and variables (the maximal error is the largest of a batch, cRMSE
    the root of the mean square over a batch), adds the batches up, and divides by the number of batches less one: too
    large by a factor of batches / (batches - 1), and without a value for one batch. Its steps that were given count
    as errors of zero, which these never do. Its bRMSE counts edges of the grid once for every face, and its fRMSE keeps
    only the quadrant of positive wave numbers and averages whole shells; neither follows from numbers kept per sample.

    Arguments:
        metrics: The result of `evaluate`.
        batch_size: Samples in a batch of its loader, in the order of the data.

    Returns:
        `rmse`, `nrmse`, `crmse` and `max_error`; NaN for a single batch.

    Source: PDEBench, pdebench/models/metrics.py, versions in which `itot` comes from `enumerate`.
    """
    starts = range(0, metrics.sizes["sample"], batch_size)
    batches = [metrics.isel(sample=slice(start, start + batch_size)) for start in starts]
    divisor = len(batches) - 1 or float("nan")
    totals = {
        "rmse": sum(float(batch["rmse"].mean("sample").mean()) for batch in batches),
        "nrmse": sum(float(batch["nrmse"].mean("sample").mean()) for batch in batches),
        "crmse": sum(float(((batch["conserved_error"] ** 2).mean("sample") ** 0.5).mean()) for batch in batches),
        "max_error": sum(float(batch["max_error"].max("sample").mean()) for batch in batches),
    }
    return {name: total / divisor for name, total in totals.items()}


def well_compat(metrics: xr.Dataset) -> dict[str, float]:
    """Return NRMSE and VRMSE as The Well computes them: 1e-7 is added to the mean square or variance of the target.

    The constant is absolute, so that the numbers change with the unit of a field; a constant target gives a large
    number instead of none, which can dominate the mean; compare the median too.

    Returns:
        `nrmse`, `vrmse` and `vrmse_median`, over samples, times and variables.

    Source: The Well, the_well/benchmark/metrics/spatial.py.
    """
    square = metrics["rmse"] ** 2
    nrmse = (square / (metrics["squared_target"] / metrics["scored_points"] + WELL_EPSILON)) ** 0.5
    vrmse = (square / (metrics["target_variance"] + WELL_EPSILON)) ** 0.5
    return {"nrmse": float(nrmse.mean()), "vrmse": float(vrmse.mean()), "vrmse_median": float(vrmse.median())}


def compat_table(metrics: xr.Dataset, *, batch_size: int = PDEBENCH_BATCH) -> list[Compat]:
    """List the averages of both codes with the true ones."""
    true = {name: float(metrics[name].mean()) for name in ("rmse", "nrmse", "vrmse")}
    true["vrmse_median"] = float(metrics["vrmse"].median())
    true["crmse"] = float(((metrics["conserved_error"] ** 2).mean("sample") ** 0.5).mean())
    true["max_error"] = float(metrics["max_error"].max("sample").mean())
    batches = int(np.ceil(metrics.sizes["sample"] / batch_size))
    note = f"{batches} batches of {batch_size} added up and divided by {batches - 1}"
    if batches == 1:
        note = f"no number: one batch of at most {batch_size} is divided by zero there; see the mean"
    eps = "1e-7 added to the denominator; constant and zero targets count"
    pdebench = pdebench_compat(metrics, batch_size=batch_size)
    return [Compat("pdebench", name, value, true[name], note) for name, value in pdebench.items()] + [
        Compat("the_well", name, value, true[name], eps) for name, value in well_compat(metrics).items()
    ]
