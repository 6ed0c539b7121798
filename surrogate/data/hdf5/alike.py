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
from surrogate.data.hdf5.storage import h5_array, missing_chunks

__all__ = ["Alike"]

DIGITS = re.compile(r"\d+")
NAMES = tuple(name.encode() for name in ENCODING)


@dataclass(frozen=True)
class _Example:
    """A dataset that was described in full, and what others have to share with it."""

    array: H5Array
    kind: h5py.h5t.TypeID
    properties: h5py.h5p.PropDCID
    encoding: str
    nbytes: int
    chunks: int


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
        item = h5py.Dataset(dataset)
        array = h5_array(item, external=self.external)
        if not array.sources and not item.is_virtual:
            kind, properties = dataset.get_type(), dataset.get_create_plist()
            total = missing_chunks(item)[1]
            self.examples[name] = _Example(array, kind, properties, _encoding(dataset), item.nbytes, total)
        return array


def _is_like(dataset: h5py.h5d.DatasetID, example: _Example) -> bool:
    """Test whether a dataset can be described as an example; False where a check of it is needed."""
    try:
        alike = (
            dataset.shape == example.array.shape
            and dataset.get_type().equal(example.kind)
            and dataset.get_create_plist().equal(example.properties)
            and _encoding(dataset) == example.encoding
        )
        if not alike:
            return False
        if example.array.chunks is not None:
            return bool(dataset.get_num_chunks() == example.chunks)
        return bool(dataset.get_storage_size() == example.nbytes)
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
