"""The form of a dataset: what datasets of one kind share, so that thousands of them are described by one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import h5py

from surrogate.data.hdf5.decoding import ENCODING

__all__ = ["Form", "is_encoded"]


@dataclass(frozen=True)
class Form:
    """Shape, type and storage properties (layout, chunks, filters, fill value) of a dataset in one file.

    Arguments:
        shape: Its shape.
        kind: Its type in the file.
        properties: Properties with which it was created.
        chunks: Number of its chunks; None without chunks.
        nbytes: Bytes of its values.
    """

    shape: tuple[int, ...]
    kind: h5py.h5t.TypeID
    properties: h5py.h5p.PropDCID
    chunks: int | None
    nbytes: int

    @classmethod
    def of(cls, dataset: h5py.h5d.DatasetID) -> Form | None:
        """Return the form of a dataset; None where its values are text, empty, or in other files."""
        kind, properties, shape = dataset.get_type(), dataset.get_create_plist(), dataset.shape
        layout = properties.get_layout()
        outside = layout == h5py.h5d.VIRTUAL or properties.get_external_count()
        if outside or kind.get_class() not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT) or shape is None or 0 in shape:
            return None
        chunks = None
        if layout == h5py.h5d.CHUNKED:
            chunks = math.prod(-(-a // b) for a, b in zip(shape, properties.get_chunk(), strict=True))
        return cls(shape, kind, properties, chunks, math.prod(shape) * kind.get_size())

    def fits(self, dataset: h5py.h5d.DatasetID) -> bool:
        """Test whether another dataset of the file has this form, and all of its values were written."""
        if dataset.shape != self.shape or not dataset.get_type().equal(self.kind):
            return False
        if not dataset.get_create_plist().equal(self.properties):
            return False
        if self.chunks is None:
            return bool(dataset.get_storage_size() == self.nbytes)
        return bool(dataset.get_num_chunks() == self.chunks)


def is_encoded(dataset: h5py.h5d.DatasetID) -> bool:
    """Test whether attributes of a dataset say how its values are packed, or which of them are missing."""
    return bool(h5py.h5a.get_num_attrs(dataset)) and any(h5py.h5a.exists(dataset, name.encode()) for name in ENCODING)
