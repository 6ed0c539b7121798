"""Variables of one file, by the names of their dimensions or by a declared mapping."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from surrogate.data.formats.patterns import as_number
from surrogate.data.hdf5.decoding import ENCODING
from surrogate.data.hdf5.faults import HDF5_ERRORS
from surrogate.data.hdf5.storage import dataset_at, describe_names, h5_array, missing_chunks
from surrogate.errors import DataError

__all__ = [
    "FileVariable",
    "attributes",
    "is_odd",
    "is_own_dataset",
    "is_variable",
    "named_axes",
    "named_variables",
    "plain",
    "variable_at",
]

INTERNAL = (  # attributes that HDF5 and NetCDF-4 keep for themselves
    "CLASS",
    "NAME",
    "DIMENSION_LIST",
    "DIMENSION_LABELS",
    "REFERENCE_LIST",
    "_Netcdf4Dimid",
    "_Netcdf4Coordinates",
    "_NCProperties",
    "_nc3_strict",
)
NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"


@dataclass(frozen=True)
class FileVariable:
    """A dataset with the names of its axes; `values` is lazy, or an array of text."""

    name: str
    values: Any  # H5Array, H5Stack, a numpy or dask array
    axes: tuple[str, ...]
    is_coordinate: bool = False
    attributes: dict[str, Any] = field(default_factory=dict)


def attributes(item: h5py.HLObject, unread: list[str] | None = None) -> dict[str, Any]:
    """Return attributes as plain Python values, without those of the file format and of the encoding of values.

    Arguments:
        item: A group or dataset.
        unread: Takes the names of attributes that cannot be read, which are left out.
    """
    kept = {}
    for name in item.attrs:
        if name not in INTERNAL and name not in ENCODING:
            try:
                kept[_text_of(name)] = plain(item.attrs[name])
            except HDF5_ERRORS:
                if unread is not None:
                    unread.append(_text_of(name))
    return kept


def _text_of(text: str | bytes) -> str:
    """Replace what is not UTF-8, which h5py keeps as surrogates, or as bytes."""
    kept = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    return kept.decode("utf-8", "replace")


def plain(value: Any) -> Any:
    """Convert the value of an attribute to text, a number, a list of text or an array."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, str):
        return _text_of(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "OSU":
        return [plain(entry) for entry in value.ravel()]
    if isinstance(value, np.ndarray) and value.size == 1:
        return value.ravel()[0].item()
    return value.item() if isinstance(value, np.generic) else value


def named_axes(dataset: h5py.Dataset) -> tuple[str, ...] | None:
    """Return the axis names of a dataset from its dimension scales or labels; None where one has no name.

    Scales name the axes; labels do where an axis has none, its name is a number, or two axes share one.
    """
    if dataset.is_scale and dataset.ndim == 1:
        return (_bare(dataset.name),)
    labels = [dimension.label for dimension in dataset.dims]
    scales = [scale_path(dimension) for dimension in dataset.dims]
    axes = [_bare(scale) or label for scale, label in zip(scales, labels, strict=True)]
    if all(labels) and (len(set(axes)) < len(axes) or any(as_number(axis) is not None for axis in axes)):
        axes = labels
    return tuple(axes) if all(axes) and len(set(axes)) == len(axes) else None


def scale_path(dimension: h5py._hl.dims.DimensionProxy) -> str:
    """Return the path of the dimension scale of an axis; empty where there is none.

    A scale that was removed may lead to what was written in its place since.
    """
    scale = dimension[0] if len(dimension) else None
    return str(scale.name) if isinstance(scale, h5py.Dataset) and scale.is_scale and scale.name else ""


def _bare(name: str) -> str:
    return name.rpartition("/")[2].removeprefix("_nc4_non_coord_")


def variable_at(
    handle: h5py.File, path: str, axes: tuple[str, ...], *, name: str = "", external: bool = False
) -> FileVariable:
    """Describe the dataset at a path, whose axes a known layout prescribes.

    It is a coordinate where it is named like its only axis.

    Raises:
        DataError: It is missing, cannot be used, or has another rank.
    """
    with dataset_at(handle, path, external=external) as dataset:
        values, attrs = h5_array(dataset, external=external), attributes(dataset)
    if values.ndim != len(axes):
        raise DataError(
            f"{handle.filename}:{path}: has shape {values.shape}, but its layout prescribes the axes "
            f"[{', '.join(axes)}]; declare a mapping if the file deviates from the layout"
        )
    name = name or _bare(path)
    return FileVariable(name, values, axes, axes == (name,), attrs)


def named_variables(handle: h5py.File, *, external: bool = False) -> list[FileVariable]:
    """Describe the datasets at the root of a file whose dimensions are named; links are left to declared layouts.

    Raises:
        DataError: A dataset has an axis without a name, or the root holds no dataset.
    """
    variables = []
    for name in handle:
        if not is_own_dataset(handle, name):
            continue
        item = handle[name]
        if is_variable(item) and not is_odd(item):
            variables.append(_named(handle, item, external))
    if not any(not variable.is_coordinate for variable in variables):
        raise DataError(_declare(handle, "has no variable with named dimensions at its root"))
    return variables


def is_own_dataset(group: h5py.Group, name: str | bytes) -> bool:
    """Test whether a group holds a dataset of this name itself, not by a soft or external link."""
    if isinstance(name, bytes):  # h5py returns names that are not UTF-8 as bytes; such a dataset is left out
        return False
    kind = h5py.h5g.get_objinfo(group.id, name.encode("utf-8", "surrogateescape"), follow_link=False).type
    return bool(kind == h5py.h5g.DATASET)


def is_odd(dataset: h5py.Dataset) -> bool:
    """Test whether a dataset can only be left out: neither numbers nor text, empty, a scalar never written."""
    try:
        if h5py.check_string_dtype(dataset.dtype) is not None:
            return dataset.shape is None
        real = dataset.dtype.kind in "fiubc" and bool(dataset.size)
    except (TypeError, ValueError, OSError):  # a type that numpy does not have
        return True
    return not real or (dataset.ndim == 0 and missing_chunks(dataset)[0] > 0)


def is_variable(dataset: h5py.Dataset) -> bool:
    """Test whether a dataset holds values; some only stand for a dimension of NetCDF-4."""
    label = dataset.attrs.get("NAME", b"") if dataset.is_scale else b""
    return not (label if isinstance(label, bytes) else str(label).encode()).startswith(NO_VARIABLE)


def _named(handle: h5py.File, dataset: h5py.Dataset, external: bool) -> FileVariable:
    axes = named_axes(dataset)
    if axes is None:
        raise DataError(_declare(handle, f"does not name the axes of '{_bare(dataset.name)}' {dataset.shape}"))
    name = _bare(dataset.name)
    text = h5py.check_string_dtype(dataset.dtype) is not None
    values = _text(dataset) if text and dataset.shape is not None else h5_array(dataset, external=external)
    return FileVariable(name, values, axes, text or axes == (name,), attributes(dataset))


def _text(dataset: h5py.Dataset) -> np.ndarray:
    return np.asarray(dataset.asstr(errors="replace")[()]).astype(str)


def _declare(handle: h5py.File, problem: str) -> str:
    return (
        f"{handle.filename}: {problem}; declare a layout (data.layout.variables: name: {{path, axes}}), which "
        f"`surrogate inspect {handle.filename}` proposes; {describe_names(handle)}"
    )
