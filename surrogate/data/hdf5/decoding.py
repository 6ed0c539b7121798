"""Decode packed and missing values after the CF conventions, with the result of xarray.

    value = stored * scale_factor + add_offset,    NaN where stored is a fill value

`_Unsigned` turns signed integers into unsigned ones and back. Beyond xarray, numbers may be written as text, values
outside of `valid_range` are missing, and so are default fill values of netCDF in floating-point variables that declare
no fill value.

NetCDF Climate and Forecast (CF) Metadata Conventions, sections 2.5 and 8.1; NetCDF Users Guide, appendix A.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import xarray as xr

from surrogate.data.hdf5.faults import HDF5_ERRORS
from surrogate.errors import DataError

__all__ = ["ENCODING", "Decoding", "decoding_of"]

FILLS = ("_FillValue", "missing_value")
PACKING = ("scale_factor", "add_offset")
VALID = ("valid_range", "valid_min", "valid_max")
ENCODING = (*FILLS, *PACKING, "_Unsigned", *VALID)
NETCDF = "_NCProperties"  # attribute that the netCDF library leaves at the root
DEFAULT_FILL = 9.969209968386869e36  # of netCDF, in single and double precision


@dataclass(frozen=True, eq=False)
class Decoding:
    """Decode stored values.

    Arguments:
        dtype: Type of the results.
        integer: Integer type to which the stored ones are converted first; None keeps them.
        fills: Numbers that stand for missing values, as they are stored.
        valid: Smallest and largest valid number; None where any is valid.
        valid_stored: `valid` refers to stored numbers, otherwise to results.
        scale: Factor; None for none.
        offset: Summand; None for none.
        reasons: A phrase for each step, for people.
    """

    dtype: np.dtype
    integer: np.dtype | None
    fills: tuple[Any, ...]
    valid: tuple[float, float] | None
    valid_stored: bool
    scale: Any
    offset: Any
    reasons: tuple[str, ...]

    @property
    def masks_only(self) -> bool:
        """True where no step but marking missing values by NaN is needed."""
        return self.integer is None and self.scale is None and self.offset is None

    def __call__(self, stored: np.ndarray) -> np.ndarray:
        """Decode values; the result is new memory."""
        if self.integer is not None:
            stored = np.asarray(stored).astype(self.integer)
        values = np.array(stored, self.dtype)
        missing = self._missing(values) if self.fills or (self.valid and self.valid_stored) else None
        if self.scale is not None:
            values *= self.scale
        if self.offset is not None:
            values += self.offset
        if self.valid and not self.valid_stored:
            with np.errstate(invalid="ignore"):
                outside = (values < self.valid[0]) | (values > self.valid[1])
            missing = outside if missing is None else missing | outside
        if missing is not None:
            values[missing] = np.nan
        return values

    def mask(self, values: np.ndarray) -> bool:
        """Mark missing values in place, only where `masks_only`; return True where there is one."""
        missing = self._missing(values)
        any_missing = bool(missing.any())
        if any_missing:
            values[missing] = np.nan
        return any_missing

    def _missing(self, values: np.ndarray) -> np.ndarray:
        missing = np.zeros(values.shape, bool)
        for fill in self.fills:
            missing |= values == fill
        if self.valid and self.valid_stored:
            with np.errstate(invalid="ignore"):
                missing |= (values < self.valid[0]) | (values > self.valid[1])
        return missing


def decoding_of(dataset: h5py.Dataset, native: np.dtype, where: str) -> Decoding | None:
    """Return how the values of a dataset are decoded; None where they are stored as they are.

    Arguments:
        dataset: The dataset.
        native: Native type of its stored values.
        where: The dataset, for messages.

    Raises:
        DataError: An attribute cannot be read, or is not a number.
    """
    if native.kind not in "fiu":
        return None
    attributes = {name: _number(dataset, name, where) for name in ENCODING if name in dataset.attrs}
    fills = _default_fills(dataset, native) if not {*FILLS} & {*attributes} else ()
    reasons = [f"{float(fill):g} is missing (default fill value of netCDF)" for fill in fills]
    if not attributes and not fills:
        return None
    probe = xr.Variable(("i",), np.zeros(0, native), {k: v for k, v in attributes.items() if k not in VALID})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of several fill values, all of which are missing
        try:
            decoded = xr.conventions.decode_cf_variable("", probe, decode_times=False, decode_timedelta=False)
        except (TypeError, ValueError, OverflowError, KeyError) as error:
            names = ", ".join(attributes)
            raise DataError(f"{where}: its attributes {names} contradict each other ({error}); correct them") from error
    unsigned = attributes.get("_Unsigned")
    integer = None
    if (unsigned == "true" and native.kind == "i") or (unsigned == "false" and native.kind == "u"):
        integer = np.dtype(f"{'u' if native.kind == 'i' else 'i'}{native.itemsize}")
        reasons.append(f"read as {integer} (_Unsigned)")
    for name in FILLS:
        for fill in np.ravel(attributes.get(name, [])):
            if fill == fill:  # NaN is missing anyway
                stored = np.asarray(fill).tolist()
                if integer is not None and name == "_FillValue":  # as it is after their conversion to this type
                    held = np.array(fill)
                    stored = int(held.astype(native).view(integer) if integer.kind == "u" else held.astype(integer))
                fills = (*fills, stored)
                reasons.append(f"{stored} is missing ({name})")
    scale, offset = attributes.get("scale_factor"), attributes.get("add_offset")
    reasons += [f"times {scale} (scale_factor)"] if scale is not None else []
    reasons += [f"plus {offset} (add_offset)"] if offset is not None else []
    valid, valid_stored = _valid(attributes, native)
    reasons += [f"missing outside of [{valid[0]:g}, {valid[1]:g}] (valid_range)"] if valid else []
    dtype = decoded.dtype
    if (valid or fills) and dtype.kind != "f":
        dtype = np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)
    if not reasons:
        return None
    return Decoding(dtype, integer, tuple(fills), valid, valid_stored, scale, offset, tuple(reasons))


def _number(dataset: h5py.Dataset, name: str, where: str) -> Any:
    """Read an attribute as a number or, of several, an array; numbers may be written as text."""
    try:
        value = dataset.attrs[name]
    except HDF5_ERRORS as error:
        raise DataError(f"{where}: its attribute {name} cannot be read ({error}); write it as a number") from error
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.ravel()[0]
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if name == "_Unsigned":
        return str(value).strip().lower()
    if isinstance(value, h5py.Empty):
        raise DataError(f"{where}: its attribute {name} is empty, expected a number; write a number, or remove it")
    if not isinstance(value, str) and np.asarray(value).dtype.kind in "fiub":
        return value
    try:
        if isinstance(value, str):
            numbers = [float(part) for part in value.replace(",", " ").split()]
        else:
            numbers = [float(part) for part in np.ravel(value)]
        return numbers[0] if len(numbers) == 1 else np.array(numbers)
    except (TypeError, ValueError) as error:
        text = f"{value!r:.60}"
        raise DataError(f"{where}: its attribute {name} is {text}, expected a number; correct or remove it") from error


def _valid(attributes: dict[str, Any], native: np.dtype) -> tuple[tuple[float, float] | None, bool]:
    """Return the range of valid values, and True where it refers to stored values.

    It does unless it is of floating-point type and the values are packed integers.
    """
    limits = {name: np.ravel(attributes[name]) for name in VALID if name in attributes}
    if not limits:
        return None, True
    pair = limits.get("valid_range", np.array([]))
    low = pair[0] if len(pair) == 2 else limits.get("valid_min", [-np.inf])[0]
    high = pair[1] if len(pair) == 2 else limits.get("valid_max", [np.inf])[0]
    packed = native.kind in "iu" and bool({*PACKING} & {*attributes})
    stored = not packed or all(np.asarray(limit).dtype.kind in "iu" for limit in limits.values())
    return (float(low), float(high)), stored


def _default_fills(dataset: h5py.Dataset, native: np.dtype) -> tuple[Any, ...]:
    """Return the default fill value of netCDF where it is in use: in its files, and where HDF5 would fill with it."""
    if native.kind != "f" or native.itemsize < 4:
        return ()
    properties = dataset.id.get_create_plist()
    filled = np.zeros(1, native)
    if properties.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED:
        properties.get_fill_value(filled)
    return (DEFAULT_FILL,) if NETCDF in dataset.file.attrs or filled[0] == DEFAULT_FILL else ()
