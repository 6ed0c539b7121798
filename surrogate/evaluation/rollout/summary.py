"""Tables of roll-outs: errors at every lead time, the persistence baseline, times to a threshold; and their files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from surrogate.evaluation.rollout.scores import error_growth, growth_factors, time_to_threshold
from surrogate.evaluation.rollout.simulations import BASELINE
from surrogate.evaluation.summary import STATED, save_dataset, write_csv, write_table
from surrogate.experiment.folders import EvaluationFolder
from surrogate.quantiles import quantiles

__all__ = ["Growth", "LeadRow", "geometric_mean", "growth_table", "lead_table", "save_rollout"]


@dataclass(frozen=True)
class LeadRow:
    """Relative L2 error of one variable at one lead time, over all roll-outs.

    Arguments:
        variable: Name of the variable.
        lead: Lead time, in the unit of the times of the data; in steps without them.
        median: Median over roll-outs; infinite where half of them have diverged.
        low: 10 % quantile over roll-outs.
        high: 90 % quantile.
        persistence: Median error of the persistence baseline, which keeps the last state given.
        factor: Factor of the error from the previous lead time, median over roll-outs.
        rollouts: Number of roll-outs that count.
        diverged: Number of them that have diverged by then.
        degenerate: Number of roll-outs left out because the target is zero.
    """

    variable: str
    lead: float
    median: float
    low: float
    high: float
    persistence: float
    factor: float
    rollouts: int
    diverged: int
    degenerate: int


@dataclass(frozen=True)
class Growth:
    """Growth of the error of one variable.

    Arguments:
        variable: Name of the variable.
        geometric_mean: Geometric mean of the error over roll-outs and lead times; infinite where one has diverged.
        rate: Median over roll-outs of the slope of log error against lead time.
        threshold: A relative L2 error.
        time: Median lead time at which the error is larger than the threshold; infinite where more than half stay
            below it.
        persistence: The same of the persistence baseline.
        passed: Number of roll-outs that passed the threshold.
        censored: Number of roll-outs that stayed below it to their end.
        degenerate: Number of roll-outs without any relative error, since the target is always zero.
    """

    variable: str
    geometric_mean: float
    rate: float
    threshold: float
    time: float
    persistence: float
    passed: int
    censored: int
    degenerate: int


def lead_table(scores: xr.Dataset) -> list[LeadRow]:
    """Make a row per variable and lead time from the result of `evaluate_simulations`."""
    factors = growth_factors(scores).transpose("lead", "variable").values
    of_leads = ("relative_l2", BASELINE + "relative_l2", "rmse", "squared_target")
    errors, kept, rmse, target = (scores[name].transpose("lead", "variable", ...).values for name in of_leads)
    rows = []
    for v, variable in enumerate(scores["variable"].values):
        for index, lead in enumerate(scores["lead"].values):
            here = errors[index, v].ravel()
            low, median, high = map(float, quantiles(here, [0.1, 0.5, 0.9]))
            rows.append(
                LeadRow(
                    variable=str(variable),
                    lead=float(lead),
                    median=median,
                    low=low,
                    high=high,
                    persistence=float(quantiles(kept[index, v].ravel(), [0.5])[0]),
                    factor=float(factors[index, v]),
                    rollouts=int((~np.isnan(here)).sum()),
                    diverged=int(np.isinf(rmse[index, v]).sum()),
                    degenerate=int((target[index, v] == 0).sum()),
                )
            )
    return rows


def growth_table(scores: xr.Dataset, threshold: float) -> list[Growth]:
    """Make a row per variable from the result of `evaluate_simulations`.

    Arguments:
        scores: The scores.
        threshold: A relative L2 error.
    """
    rates = error_growth(scores).median(("sample", "time"))
    reached = time_to_threshold(scores, threshold)
    kept = time_to_threshold(scores, threshold, metric=BASELINE + "relative_l2")
    rows = []
    for v, variable in enumerate(scores["variable"].values):
        here, there = reached.isel(variable=v), kept.isel(variable=v)
        scored, censored = int(np.isfinite(here["lead_time"].values).sum()), int(here["censored"].values.sum())
        rows.append(
            Growth(
                variable=str(variable),
                geometric_mean=geometric_mean(scores["relative_l2"].isel(variable=v).values),
                rate=float(rates[v]),
                threshold=threshold,
                time=float(here["median"]),
                persistence=float(there["median"]),
                passed=scored - censored,
                censored=censored,
                degenerate=scores.sizes["sample"] - scored,
            )
        )
    return rows


def geometric_mean(errors: np.ndarray) -> float:
    """Return exp(mean log error), in which each lead time counts alike, however small its error; zeros are left out.

    Arguments:
        errors: Errors of any shape; NaN is left out, and one that is infinite makes the mean infinite.
    """
    kept = errors[errors > 0]
    return float(np.exp(np.log(kept).mean())) if kept.size else float("nan")


def save_rollout(scores: xr.Dataset, folder: Path, *, threshold: float) -> None:
    """Write `rollout.nc`, `rollout.csv`, `rollout_summary.csv` and `rollout_growth.csv`.

    `rollout.csv` has a row per simulation, lead time and variable.

    Raises:
        ResourceError: The folder cannot be written; earlier files are intact.
    """
    stated = {name: scores.attrs.get(name, "not stated") for name in STATED}
    files = EvaluationFolder(folder)
    save_dataset(scores, files.rollout)
    names = ("sample", "simulation", "lead", "variable", *map(str, scores.data_vars))
    frame = scores.isel(time=0, drop=True).to_dataframe().reset_index().assign(**stated)
    header = [*names, *STATED]
    write_csv(files.rollout_table, header, frame[header].itertuples(index=False))
    write_table(files.rollout_summary, lead_table(scores), stated)
    write_table(files.rollout_growth, growth_table(scores, threshold), stated)
