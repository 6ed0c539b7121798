"""Text in shards, which hold only numbers: UTF-8 bytes along an additional axis."""

from __future__ import annotations

import numpy as np
import xarray as xr

__all__ = ["decode_text", "encode_text"]

MARK = "text"
ENCODING = "utf-8"


def encode_text(ds: xr.Dataset) -> xr.Dataset:
    """Encode variables of text as bytes; a coordinate of an axis becomes `<axis>_names`."""
    for name, variable in list(ds.variables.items()):
        if variable.dtype.kind not in "UO":
            continue
        raw = np.char.encode(np.asarray(variable.values).astype(str), ENCODING)
        width = max(raw.dtype.itemsize, 1)
        letters = np.frombuffer(raw.tobytes().ljust(raw.size * width, b"\0"), np.uint8).reshape(*raw.shape, width)
        stored = f"{name}_names" if name in ds.dims else str(name)
        attributes = variable.attrs | {MARK: ENCODING}
        ds = ds.drop_vars(str(name)).assign({stored: ((*variable.dims, f"{name}_letters"), letters, attributes)})
    return ds


def decode_text(ds: xr.Dataset) -> xr.Dataset:
    """Invert `encode_text`: bytes become text coordinates."""
    for name, variable in list(ds.variables.items()):
        if variable.attrs.get(MARK) != ENCODING or variable.dtype != np.uint8 or not variable.ndim:
            continue
        letters = np.ascontiguousarray(variable.values)
        raw = letters.view(f"S{letters.shape[-1]}")[..., 0]
        attributes = {key: value for key, value in variable.attrs.items() if key not in (MARK, "coordinates")}
        axis = str(name).removesuffix("_names")
        own = axis if variable.dims[:-1] == (axis,) else str(name)
        text = np.char.decode(raw, ENCODING)
        ds = ds.drop_vars(str(name)).assign_coords({own: (variable.dims[:-1], text, attributes)})
    return ds
