"""Roll-outs over whole simulations: scores at every lead time, the persistence baseline, and one example roll-out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr

from surrogate.data.mesh import point_axis
from surrogate.evaluation.maps import space_of
from surrogate.evaluation.metrics import points
from surrogate.evaluation.rollout.scores import rollout_table, score_steps
from surrogate.evaluation.rollout.stepping import PIECE_BYTES, Piece, Stepping
from surrogate.evaluation.table import Columns, Labels, collect
from surrogate.evaluation.volumes import Volumes

__all__ = ["BASELINE", "evaluate_simulations", "rolled_out", "typical"]

BASELINE = "persistence_"
COMPARED = ("relative_l2", "rmse", "vrmse")
FRAMES, VARIABLES = 40, 4  # of the roll-out that is kept


def evaluate_simulations(
    stepping: Stepping,
    labels: Labels,
    *,
    piece_bytes: int = PIECE_BYTES,
    also: Callable[[Piece], None] = lambda piece: None,
) -> xr.Dataset:
    """Score roll-outs over the simulations of a plan at every lead time.

    Arguments:
        stepping: The plan.
        labels: Labels of its source.
        piece_bytes: Bytes of a roll-out in memory at a time; the result does not depend on it.
        also: Called with every piece of the roll-outs.

    Returns:
        As `evaluate_rollout`, and the errors of the persistence baseline, which keeps the last state given, named
        `persistence_...`; the attributes `steps` and `left_out` count network steps, and simulations too short for one.

    Raises:
        DataError: A value of the truth is not finite.
    """
    source = stepping.source
    volumes = Volumes.of(source.dataset, point_axis(source.dataset, source.stream.spatial_dims))
    groups = [_scored(stepping, group, piece_bytes, volumes, also) for group in stepping.groups(piece_bytes)]
    variables, offsets = stepping.variables, stepping.offsets
    present = max(labels.given, default=0)
    channel_units = labels.units if labels.units is not None else [""] * len(labels.variables)
    units = {name.partition("[t")[0]: unit for name, unit in zip(labels.variables, channel_units, strict=True)}
    named = replace(
        labels,
        variables=variables,
        units=[units.get(name, "") for name in variables],
        scored=[present + offset for offset in offsets],
    )
    leads = lead_times(labels, present, offsets)
    size = groups[0][1]
    return rollout_table(collect([columns for columns, _ in groups]), leads, named).assign_attrs(
        points=size, steps=stepping.steps, left_out=stepping.left_out, start="first step of a simulation"
    )


def lead_times(labels: Labels, present: int, offsets: Sequence[int]) -> np.ndarray:
    """Return the time from the last step given, at `present`, to each scored one; in steps without physical times."""
    steps = np.array(offsets, dtype=np.float64)
    if labels.times is None:
        return steps
    times = np.asarray(labels.times, dtype=np.float64)
    return times[present + np.array(offsets)] - times[present]


def _scored(
    stepping: Stepping,
    group: Sequence[int],
    piece_bytes: int,
    volumes: Volumes | None,
    also: Callable[[Piece], None],
) -> tuple[Columns, int]:
    """Score a group over all leads; return the columns and the points of a field."""
    parts: list[Columns] = []
    lost = still = torch.zeros(len(group), dtype=torch.bool)
    size = 0
    weights = None if volumes is None else volumes.at(torch.tensor(group))
    for piece in stepping.pieces(group, piece_bytes):
        also(piece)
        columns, lost = score_steps(piece.prediction, piece.truth, lost, weights=weights)
        start = torch.where(
            torch.isfinite(piece.start), piece.start, 0.0
        )  # a missing variable must not lose the others
        kept, _ = score_steps(start[:, None].expand_as(piece.truth), piece.truth, still, COMPARED, weights=weights)
        needed = torch.isfinite(piece.start)[:, None] | piece.truth.isnan()  # a masked target needs no start
        known = needed.reshape(*piece.truth.shape[:3], -1).all(-1).numpy()
        columns |= {BASELINE + name: np.where(known, errors, np.nan) for name, errors in kept.items()}
        parts.append(columns)
        size = points(piece.truth[:, 0])
    joined = {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}
    return joined | {"sample": np.array(group), "step": np.zeros(len(group), dtype=np.int64)}, size


def typical(scores: xr.Dataset) -> int:
    """Return the position of the simulation with the median error, mean over leads and variables."""
    errors = scores["relative_l2"].isel(time=0).mean(("lead", "variable"))
    if not errors.notnull().any():
        errors = scores["rmse"].isel(time=0).mean(("lead", "variable"))
    order = np.argsort(errors.values, kind="stable")[: int(errors.notnull().sum())]
    return int(scores["sample"].values[order[(len(order) - 1) // 2]])


def rolled_out(stepping: Stepping, sample: int, scores: xr.Dataset, coordinates: dict[str, xr.DataArray]) -> xr.Dataset:
    """Return truth and prediction of one roll-out, at most 40 lead times and four variables.

    Of fields on more than two axes the middle slice of the leading ones is kept.

    Arguments:
        stepping: The plan.
        sample: Position of the simulation.
        scores: The result of `evaluate_simulations`.
        coordinates: Coordinates of the spatial axes by name, in their order.

    Returns:
        `truth` and `prediction` with dimensions (lead, variable, *space).
    """
    offsets = stepping.offsets
    chosen = np.unique(np.linspace(0, len(offsets) - 1, FRAMES).round().astype(int))
    wanted = {offsets[index] for index in chosen}
    fields: dict[str, list[np.ndarray]] = {"truth": [], "prediction": []}
    shape: tuple[int, ...] = ()
    for piece in stepping.pieces([sample]):
        shape = tuple(piece.truth.shape[3:])
        cut = (0, [i for i, offset in enumerate(piece.offsets) if offset in wanted], slice(VARIABLES))
        middle = tuple(side // 2 for side in shape[:-2])
        for name, kept in fields.items():
            kept.append(getattr(piece, name)[cut][(slice(None), slice(None), *middle)].numpy())
    space = space_of(shape, coordinates)
    names = list(space)
    shown = scores.isel(lead=chosen, variable=slice(VARIABLES))
    coords: dict[str, Any] = {name: shown[name] for name in ("lead", "variable", "units")}
    coords |= {name: space[name] for name in names[-2:]}
    coords |= {name: space[name][len(space[name]) // 2] for name in names[:-2]}
    dims = ("lead", "variable", *names[-2:])
    finite = {name: np.concatenate(kept) for name, kept in fields.items()}
    finite["prediction"] = np.where(np.isfinite(finite["prediction"]), finite["prediction"], np.nan)
    simulation = str(scores["simulation"].sel(sample=sample).item())
    attributes = {"simulation": simulation, "steps_given": scores.attrs["steps_given"]}
    return xr.Dataset({name: (dims, values) for name, values in finite.items()}, coords, attributes)
