"""The signature that data have, to give to a surrogate or to compare with that of one."""

from __future__ import annotations

import numpy as np
import xarray as xr

from surrogate.data import Stream
from surrogate.data.streaming.columns import MASKED, Side, pick
from surrogate.models.signature import Signature, variable_and_step

__all__ = ["signature_of"]

LONGEST = 100_000  # points of an axis whose positions are written into a signature


def signature_of(stream: Stream, dataset: xr.Dataset) -> Signature:
    """The signature of a surrogate trained on a stream of a data set."""
    sides = (stream.inputs, stream.targets)
    variables = list(dict.fromkeys(column.variable for side in sides for column in side.columns))
    axes = list(dict.fromkeys(dim for side in sides for dim in side.dims))
    named = [name for name in [*variables, *axes, "time"] if "units" in getattr(dataset.get(name), "attrs", {})]
    return Signature(
        inputs=stream.input_names,
        targets=stream.target_names,
        units={name: str(dataset[name].attrs["units"]) for name in named},
        components={name: labels for name in variables if (labels := _components(dataset, name))},
        grid=_grid(stream.targets),
        input_grid=_grid(stream.inputs),
        coordinates={axis: tuple(found) for axis in axes if (found := _positions(dataset, axis))},
        time_step=_time_step(stream, dataset),
        times=_times(stream, dataset),
        masked=tuple(name for name in variables if MASKED in pick(dataset, name).attrs),
    )


def _grid(side: Side) -> dict[str, int]:
    return dict(zip(side.dims, side.shape[1:], strict=True))


def _components(dataset: xr.Dataset, name: str) -> tuple[str, ...]:
    array = pick(dataset, name)
    return tuple(str(label) for label in array["channel"].values) if "channel" in array.dims else ()


def _positions(dataset: xr.Dataset, axis: str) -> list[float]:
    """Positions along an axis; none where they are unknown, no numbers, or too many to write down."""
    if axis not in dataset.coords or dataset[axis].dtype.kind not in "fiu" or dataset.sizes[axis] > LONGEST:
        return []
    positions: list[float] = dataset[axis].values.astype(np.float64).tolist()
    return positions


def _time_step(stream: Stream, dataset: xr.Dataset) -> float | None:
    """Time between neighbouring steps of the file; None where it is unknown or not always the same."""
    steps = np.diff(_positions(dataset, "time"))
    if stream.window is None or not len(steps) or not np.allclose(steps, steps[0], rtol=1e-3):
        return None
    return float(steps.mean())


def _times(stream: Stream, dataset: xr.Dataset) -> tuple[float, ...] | None:
    """Times of the targets where inputs without time are mapped to the one window of every simulation."""
    times = _positions(dataset, "time")
    moving = any(variable_and_step(name)[1] is not None for name in stream.input_names)
    if stream.window is None or stream.window.extent != len(times) or moving:
        return None
    return tuple(times[offset] for offset in stream.window.target_offsets)
