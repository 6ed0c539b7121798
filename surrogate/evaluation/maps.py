"""Error maps: sums over samples of the error at every grid point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import xarray as xr

from surrogate.errors import DataError
from surrogate.evaluation.metrics import FieldErrors

__all__ = ["ErrorMaps", "space_of"]

Axis = np.ndarray | xr.DataArray


class ErrorMaps:
    """Sums of e, |e| and e^2 over samples and times, e = p - q, with shape (M, *S) each; merging adds them.

    They are summed in the order of the samples, so another order or grouping agrees to rounding. A target that is NaN
    is missing and counts nowhere.
    """

    def __init__(self) -> None:
        self.count = 0
        self.sums: dict[str, np.ndarray] = {}

    def add(self, prediction: np.ndarray, target: np.ndarray) -> None:
        """Add a batch of fields with shape (B, M, *S)."""
        self.add_errors(FieldErrors(torch.from_numpy(prediction), torch.from_numpy(target)))

    def add_errors(self, errors: FieldErrors) -> None:
        """Add the errors of a batch of fields."""
        e, missing = errors.error, errors.missing
        there = np.full(e.shape[1:], len(e)) if missing is None else (~missing).sum(0)
        sums = {"bias": e.sum(0), "mean": errors.absolute.sum(0), "square": errors.squares.sum(0), "there": there}
        self._add(len(e), {name: values.reshape(-1, *errors.space) for name, values in sums.items()})

    def merge(self, other: ErrorMaps) -> None:
        """Add the sums of other samples."""
        self._add(other.count, other.sums)

    def _add(self, count: int, sums: Mapping[str, np.ndarray]) -> None:
        self.sums = {name: self.sums.get(name, 0.0) + values for name, values in sums.items()}
        self.count += count

    def dataset(
        self, variables: Sequence[str], units: Sequence[str], coordinates: Mapping[str, Axis] | None = None
    ) -> xr.Dataset:
        """Return `bias` (mean error), `mean_error` (mean |e|) and `rms_error` with dimensions (variable, *space).

        Raises:
            DataError: Nothing was added, or the coordinates do not fit.
        """
        if not self.count:
            raise DataError("error maps: no sample was added; evaluate with `maps=` first")
        space = space_of(self.sums["mean"].shape[1:], coordinates)
        dims = ("variable", *space)
        count = np.where(self.sums["there"] > 0, self.sums["there"], np.nan)
        fields = {
            "bias": self.sums["bias"] / count,
            "mean_error": self.sums["mean"] / count,
            "rms_error": np.sqrt(self.sums["square"] / count),
        }
        coords = {**space, "variable": list(variables), "units": ("variable", list(units))}
        return xr.Dataset({name: (dims, field) for name, field in fields.items()}, coords, {"count": self.count})


def space_of(shape: tuple[int, ...], coordinates: Mapping[str, Axis] | None) -> dict[str, xr.Variable]:
    """Return coordinates of the spatial axes, indices where there are none.

    Raises:
        DataError: They do not fit the shape.
    """
    given: Mapping[str, Axis] = coordinates or {f"axis_{i}": np.arange(n) for i, n in enumerate(shape)}
    if tuple(len(axis) for axis in given.values()) != shape:
        lengths = {name: len(axis) for name, axis in given.items()}
        raise DataError(f"examples: coordinates {lengths} do not fit fields of shape {shape}; give one per axis")
    return {
        name: xr.Variable((name,), np.asarray(axis), dict(getattr(axis, "attrs", {}))) for name, axis in given.items()
    }
