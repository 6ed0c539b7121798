"""Recognise the layout of a file, with the reason; nothing is concluded from a shape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py

from surrogate.data.formats.pdebench import COORDINATES, family_of
from surrogate.data.formats.the_well import is_well
from surrogate.data.formats.variables import is_own_dataset, is_variable, named_axes
from surrogate.data.store import MANIFEST

__all__ = ["UNKNOWN", "Detection", "detect"]

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Detection:
    """A layout by name (`unknown` where a mapping has to be declared) and the reason, a phrase about the file."""

    name: str
    reason: str


def detect(handle: h5py.File) -> Detection:
    """Recognise the layout of a file by what the file itself names."""
    if is_well(handle):
        return Detection("the_well", "it has the groups 'dimensions' (with spatial_dims) and 't0_fields'")
    named = _named(handle)
    if named:
        manifest = Path(handle.filename).parent / MANIFEST
        if manifest.is_file():
            return Detection("shards", f"{named}, and {MANIFEST} is next to it")
        return Detection("netcdf", named)
    detected = family_of(handle)
    if detected:
        family, reason = detected
        gridded = any(name in handle for name in COORDINATES.values())
        if family in ("per seed", "incompressible") or gridded:
            return Detection("pdebench", f"PDEBench, family {family}: {reason}")
    return Detection(UNKNOWN, "it names no axes, and is laid out neither as PDEBench nor as The Well")


def _named(handle: h5py.File) -> str | None:
    """Describe the first variable at the root whose axes are named."""
    for name in handle:
        if not is_own_dataset(handle, name):
            continue
        item = handle[name]
        if item.shape is None or not item.ndim or not is_variable(item):
            continue
        axes = None if item.is_scale else named_axes(item)
        if axes:
            return f"dimension scales or labels name the axes of '{name}': {', '.join(axes)}"
    return None
