"""Describe many datasets of one structure: the first with every check, the others by comparison with it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np

from surrogate.data.hdf5.array import H5Array
from surrogate.data.hdf5.decoding import ENCODING
from surrogate.data.hdf5.faults import HDF5_ERRORS
from surrogate.data.hdf5.form import Form
from surrogate.data.hdf5.storage import h5_array

__all__ = ["Alike"]

DIGITS = re.compile(r"\d+")
NAMES = tuple(name.encode() for name in ENCODING)


@dataclass(frozen=True)
class _Example:
    """A dataset that was described in full, and what others have to share with it."""

    array: H5Array
    form: Form
    encoding: str


class Alike:
    """Lazy arrays of the datasets of one open file.

    A file may hold thousands of datasets of one structure. Of each name, digits aside, the first is described by
    `h5_array`; one of the same type, shape, storage properties (layout, filters, fill value) and encoding is described
    in the same way, at its own place in the file.

    Arguments:
        external: Whether links and storage that leave the folder of the file are followed.
    """

    def __init__(self, *, external: bool = False) -> None:
        self.external = external
        self.examples: dict[str, _Example] = {}
        self.place: dict[str, Any] = {}  # file and stamp, where the examples are of another file

    def array(self, dataset: h5py.h5d.DatasetID, path: str) -> H5Array:
        """Return the lazy array of a dataset.

        Raises:
            DataError: It is empty, of an unusable type, compression or storage, or was never written.
        """
        name = DIGITS.sub("", path.rpartition("/")[2])
        example = self.examples.get(name)
        if example is not None and _is_like(dataset, example):
            offset = None if example.array.offset is None else dataset.get_offset()
            return replace(example.array, path=path, offset=offset, **self.place)
        array = h5_array(h5py.Dataset(dataset), external=self.external)
        form = Form.of(dataset)
        if form is not None:
            self.examples[name] = _Example(array, form, _encoding(dataset))
        return array


def _is_like(dataset: h5py.h5d.DatasetID, example: _Example) -> bool:
    """Test whether a dataset can be described as an example; False where a check of it is needed."""
    try:
        return example.form.fits(dataset) and _encoding(dataset) == example.encoding
    except HDF5_ERRORS:
        return False


def _encoding(dataset: h5py.h5d.DatasetID) -> str:
    """Write the attributes that say how values are decoded as text; empty where there is none."""
    if not h5py.h5a.get_num_attrs(dataset):
        return ""
    values: dict[bytes, Any] = {}
    for name in NAMES:
        if h5py.h5a.exists(dataset, name):
            value = np.asarray(h5py.AttributeManager(h5py.Dataset(dataset))[name.decode()])
            values[name] = value.dtype.str, value.tolist()
    return repr(values) if values else ""
