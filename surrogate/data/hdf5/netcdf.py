"""NetCDF-4 files of small data sets, written and read with each variable opened once, so that many of them are fast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
from xarray import conventions

__all__ = ["NO_COORDINATE", "load_netcdf", "netcdf_image"]

NO_COORDINATE = "This is a netCDF dimension but not a netCDF variable.%10d"
SCALE = b"DIMENSION_SCALE"
HIDDEN = (  # attributes of dimensions and of the netCDF library
    *("CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST"),
    *("_Netcdf4Dimid", "_Netcdf4Coordinates", "_NCProperties", "_nc3_strict"),
)


def netcdf_image(dataset: xr.Dataset) -> bytes:
    """Return the bytes of a NetCDF-4 file, which xarray reads as it reads that of `to_netcdf`.

    `to_netcdf` looks up the dimensions of every variable in the file again, which takes some 10 ms for each.

    Arguments:
        dataset: Numbers, truth values, times and text over named dimensions, none of which is unlimited.
    """
    variables, attributes = conventions.encode_dataset_coordinates(dataset)
    dims = [str(dim) for dim in dataset.sizes]
    stored: dict[str, h5py.Dataset] = {}
    with h5py.File("image", "w", driver="core", backing_store=False, track_order=True) as file:
        for dim in (dim for dim in dims if dim not in variables):  # a scale that holds no data
            stored[dim] = file.create_dataset(dim, (dataset.sizes[dim],), ">f4")
            stored[dim].make_scale(NO_COORDINATE % dataset.sizes[dim])
        encoded = {str(name): conventions.encode_cf_variable(each, name=name) for name, each in variables.items()}
        for name, variable in encoded.items():
            values, kind = variable.values, variable.dtype
            if kind.kind in "OU":
                values, kind = values.astype(object), h5py.string_dtype()
            stored[name] = file.create_dataset(name, data=values, dtype=kind)
            if name in dims:
                stored[name].make_scale(name)
        for number, dim in enumerate(dims):
            stored[dim].attrs["_Netcdf4Dimid"] = np.int32(number)
        for name, variable in encoded.items():
            for axis, own in enumerate(variable.dims if name not in dims else ()):
                h5py.h5ds.attach_scale(stored[name].id, stored[str(own)].id, axis)
        written = [(file, dict(attributes)), *((stored[name], variable.attrs) for name, variable in encoded.items())]
        for target, attrs in written:
            for key, value in attrs.items():
                entry = np.atleast_1d(np.asarray(value))
                if entry.dtype.kind in "OU":
                    words = value if isinstance(value, str) else entry.astype(object)
                    target.attrs.create(str(key), words, dtype=h5py.string_dtype())
                else:
                    target.attrs[str(key)] = entry
        file.flush()
        return bytes(file.id.get_file_image())


def load_netcdf(path: Path) -> xr.Dataset:
    """Return the variables at the root of a NetCDF-4 file as `xarray.load_dataset` does; times stay numbers.

    `load_dataset` looks up the dimensions of every variable in the file again, as `to_netcdf` does.

    Raises:
        OSError: There is no HDF5 file, or it is damaged.
        ValueError: A variable has no named dimensions.
    """
    variables: dict[str, xr.Variable] = {}
    with h5py.File(path, "r") as file:
        datasets = dict(file.items())
        names = {stored.id: name for name, stored in datasets.items()}
        for name, stored in datasets.items():
            attributes = stored.attrs
            if "DIMENSION_LIST" in attributes:
                scales = (h5py.h5r.dereference(scales[0], file.id) for scales in attributes["DIMENSION_LIST"])
                dims = [names[scale] for scale in scales]
            elif attributes.get("CLASS") == SCALE:
                if attributes["NAME"].startswith(NO_COORDINATE.partition("%")[0].encode()):
                    continue
                dims = [name]
            else:
                dims = []
            text = h5py.check_string_dtype(stored.dtype) is not None
            values, encoding = (stored.asstr()[()], {"dtype": str}) if text else (stored[()], {})
            variables[name] = xr.Variable(dims, values, _attributes(stored), encoding)
        ds = xr.Dataset(variables, attrs=_attributes(file))
    return xr.decode_cf(ds, decode_times=False, decode_timedelta=False)


def _attributes(target: h5py.File | h5py.Dataset) -> dict[str, Any]:
    """Return attributes: lists of one entry as the entry, lists of text as lists."""
    found = {name: target.attrs[name] for name in target.attrs if name not in HIDDEN}
    for name, value in found.items():
        if isinstance(value, np.ndarray):
            entries = value.tolist() if value.dtype.kind in "OSU" else value
            found[name] = entries[0] if len(entries) == 1 else entries
    return found
