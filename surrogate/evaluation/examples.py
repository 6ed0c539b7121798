"""The worst, the median and the best sample of an evaluation, with their fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr

from surrogate.batch import Batch
from surrogate.errors import DataError
from surrogate.evaluation.evaluate import Predict, mean_relative_l2, predict_batch
from surrogate.evaluation.headline import RELATIVE, headline
from surrogate.evaluation.maps import Axis, space_of

__all__ = ["collect_examples", "select_examples"]


def select_examples(metrics: xr.Dataset) -> xr.Dataset:
    """Choose the pairs of sample and time with the worst, the median and the best headline error, mean over variables.

    Pairs whose target is zero have no rank and are never chosen; when every target is zero, the squared error ranks
    them. Fewer than three pairs give fewer examples.

    Arguments:
        metrics: The result of `evaluate`.

    Returns:
        The metrics of the chosen pairs, with dimensions (example, variable); `sample`, `step`, `time` and `simulation`
        identify them.
    """
    known_by = headline(metrics)
    errors = mean_relative_l2(metrics)
    if known_by is not RELATIVE:
        errors = metrics[f"{known_by.metric}_sample"].expand_dims("time")
    if not errors.notnull().any():
        errors = metrics["squared_error"].sum("variable", skipna=False)
    flat = errors.transpose("sample", "time").values.ravel()
    order = np.argsort(flat, kind="stable")[: int(np.isfinite(flat).sum())]  # NaN sorts last
    ranks = {(len(order) - 1) // 2: "median", 0: "best", len(order) - 1: "worst"}  # later names win a rank
    chosen = {ranks[rank]: order[rank] for rank in sorted(ranks, reverse=True)}
    sample, time = np.unravel_index(list(chosen.values()), (metrics.sizes["sample"], metrics.sizes["time"]))
    whole = [name for name in metrics.data_vars if str(name).endswith(("_sample", "_variable"))]
    picks = metrics.drop_vars(whole).isel(
        sample=xr.DataArray(sample, dims="example"), time=xr.DataArray(time, dims="example")
    )
    error = ("example", flat[list(chosen.values())], {"long_name": known_by.words})
    return picks.assign_coords(example=list(chosen)).assign(error_of_pair=error)


def collect_examples(
    predict: Predict,
    batches: Iterable[Batch],
    picks: xr.Dataset,
    *,
    coordinates: Mapping[str, Axis] | None = None,
) -> xr.Dataset:
    """Collect truth, prediction and error of the chosen samples.

    Arguments:
        predict: Inputs to targets, both in physical units.
        batches: The samples that were evaluated, once more.
        picks: The result of `select_examples`.
        coordinates: Coordinates of the spatial axes by name, in the order of the axes; indices without them.
            The units of a `DataArray` are kept.

    Returns:
        `truth`, `prediction` and `error` (prediction less truth) with dimensions (example, variable, *space), and
        the metrics of `picks`.

    Raises:
        DataError: A chosen sample is not in the stream.
    """
    wanted = {(int(s), int(t)): i for i, (s, t) in enumerate(zip(picks["sample"], picks["step"], strict=True))}
    variables = [str(name) for name in picks["variable"].values]
    fields: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for batch in batches:
        pairs = zip(batch.sample.tolist(), batch.time.tolist(), strict=True)
        rows = {row: wanted[pair] for row, pair in enumerate(pairs) if pair in wanted}
        if rows:
            prediction, truth = predict_batch(predict, batch, variables).numpy(), batch.targets.cpu().double().numpy()
            fields |= {index: (truth[row], prediction[row]) for row, index in rows.items()}
    if len(fields) < len(wanted):
        missing = next(pair for pair, index in wanted.items() if index not in fields)
        raise DataError(
            f"examples: sample {missing[0]} at step {missing[1]} is not in the stream; pass the evaluated stream"
        )
    ordered = [fields[index] for index in range(len(wanted))]
    truth, prediction = (np.stack(side) for side in zip(*ordered, strict=True))
    space = space_of(truth.shape[2:], coordinates)
    dims = ("example", "variable", *space)
    result = picks.assign_coords(space)
    return result.assign(truth=(dims, truth), prediction=(dims, prediction), error=(dims, prediction - truth))
