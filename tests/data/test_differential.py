"""Random HDF5 files: stream, conversion and lazy reading give what h5py and xarray give, or refuse in one line."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surrogate.data import MappedVariable, Mapping, Stream, mask_missing, open_snapshots
from surrogate.data.convert import convert
from surrogate.data.hdf5 import autotune, reading

PLAIN = [order + kind for kind in ("f2", "f4", "f8", "i2", "i4", "i8", "u2", "u4", "u8") for order in "<>"]
PLAIN += ["i1", "u1", "?", "longdouble"]
OWN = ["bfloat16", "float14", "float20", "int12", "uint24in32", "shifted"]
NETCDF_FILL = 9.969209968386869e36


@dataclass(frozen=True)
class Recipe:
    """A random file with one dataset `u` of axes (sample, y)."""

    kind: str
    libver: str
    layout: str
    shape: tuple[int, int]
    chunks: tuple[int, int]
    filters: tuple[str, ...]
    skipped: int
    userblock: int
    attributes: tuple[tuple[str, Any], ...]
    fill: float | None
    seed: int


NUMBERS = st.sampled_from([0, 1, 2, 3, 100])
ATTRIBUTES = st.fixed_dictionaries(
    {},
    optional={
        "_FillValue": NUMBERS,
        "missing_value": NUMBERS,
        "scale_factor": st.sampled_from([0.5, np.float32(0.25), 2.0, "0.125"]),
        "add_offset": st.sampled_from([10.0, np.float32(-3.5), 1000.0, "273.15"]),
        "_Unsigned": st.sampled_from(["true", "false"]),
        "valid_range": st.just((np.float64(1), np.float64(90))),
    },
)


@st.composite
def recipes(draw):
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    layout = draw(st.sampled_from(["contiguous", "compact", "chunked", "chunked", "chunked", "virtual", "external"]))
    filters = draw(st.lists(st.sampled_from(["shuffle", "gzip", "lzf", "fletcher32"]), unique=True, max_size=3))
    return Recipe(
        kind=draw(st.sampled_from(PLAIN + OWN)),
        libver=draw(st.sampled_from(["earliest", "latest"])),
        layout=layout,
        shape=shape,
        chunks=tuple(draw(st.integers(1, size)) for size in shape),
        filters=tuple(filters) if layout == "chunked" else (),
        skipped=draw(st.sampled_from([0, 0, 0, 1, 2, 3])),
        userblock=draw(st.sampled_from([0, 0, 0, 512])),
        attributes=tuple(draw(ATTRIBUTES).items()) if draw(st.booleans()) else (),
        fill=draw(st.sampled_from([None, 0, 7, NETCDF_FILL])),
        seed=draw(st.integers(0, 1000)),
    )


def stored_kind(kind: str) -> h5py.h5t.TypeID:
    """Make an HDF5 type, of NumPy's or with bits of its own."""
    if kind in PLAIN:
        return h5py.h5t.py_create(np.dtype(kind), logical=True)
    if kind == "bfloat16":
        own = h5py.h5t.IEEE_F16LE.copy()
        own.set_fields(15, 7, 8, 0, 7)
        own.set_ebias(127)
    elif kind == "float14":
        own = h5py.h5t.IEEE_F32LE.copy()
        own.set_fields(13, 8, 5, 0, 8)
        own.set_size(2)
        own.set_precision(14)
        own.set_ebias(15)
    elif kind == "float20":
        own = h5py.h5t.IEEE_F32LE.copy()
        own.set_fields(19, 12, 7, 0, 12)
        own.set_precision(20)
        own.set_ebias(63)
    elif kind == "int12":
        own = h5py.h5t.STD_I16LE.copy()
        own.set_precision(12)
    elif kind == "uint24in32":
        own = h5py.h5t.STD_U32BE.copy()
        own.set_precision(24)
    else:
        own = h5py.h5t.STD_I32LE.copy()
        own.set_precision(16)
        own.set_offset(8)
    return own


def values_of(recipe: Recipe) -> np.ndarray:
    rng = np.random.default_rng(recipe.seed)
    return rng.integers(0, 120, recipe.shape).astype("f8") + (0.5 if recipe.seed % 2 else 0)


def write_part(file: h5py.File, name: str, recipe: Recipe, values: np.ndarray, folder: Path) -> h5py.Dataset:
    plan, kind = h5py.h5p.create(h5py.h5p.DATASET_CREATE), stored_kind(recipe.kind)
    layout = "contiguous" if recipe.layout == "virtual" else recipe.layout
    if layout == "chunked":
        plan.set_chunk(recipe.chunks)
        setters = {"shuffle": plan.set_shuffle, "gzip": plan.set_deflate, "fletcher32": plan.set_fletcher32}
        for name_of_filter in recipe.filters:
            if name_of_filter == "lzf":
                plan.set_filter(h5py.h5z.FILTER_LZF, h5py.h5z.FLAG_OPTIONAL, None)
            else:
                setters[name_of_filter]()
        if recipe.libver == "latest" and recipe.seed % 3 == 0:
            no_edge_filters(plan)
    elif layout == "compact":
        plan.set_layout(h5py.h5d.COMPACT)
    elif layout == "external":
        (folder / "raw.bin").write_bytes(b"")
        plan.set_external(str(folder / "raw.bin").encode(), 0, h5py.h5f.UNLIMITED)
    if recipe.fill is not None and recipe.kind in PLAIN and recipe.kind not in ("?", "longdouble"):
        fill = np.float64(recipe.fill)
        if (np.dtype(recipe.kind).kind == "f" and np.dtype(recipe.kind).itemsize > 2) or fill < 100:
            plan.set_fill_value(np.array(fill).astype(recipe.kind))
    made = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(values.shape), plan)
    made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(values, bool if recipe.kind == "?" else "f8"))
    dataset = h5py.Dataset(made)
    if recipe.skipped and recipe.filters and recipe.chunks == values.shape:  # one chunk that skips filters
        plain = [f for i, f in enumerate(recipe.filters) if not recipe.skipped >> i & 1]
        if not plain:
            raw = values.astype(np.dtype(recipe.kind)).tobytes() if recipe.kind in PLAIN else None
            if raw is not None:
                made.write_direct_chunk((0, 0), raw, filter_mask=(1 << len(recipe.filters)) - 1)
    return dataset


def no_edge_filters(plan: h5py.h5p.PropDCID) -> None:
    """Store chunks at the edge without filters, by the function of the library that h5py does not offer."""
    import ctypes
    import glob
    import os

    pattern = os.path.join(os.path.dirname(h5py.__file__), "..", "h5py.libs", "libhdf5-*.so*")
    libraries = glob.glob(pattern)
    if libraries:
        function = ctypes.CDLL(libraries[0]).H5Pset_chunk_opts
        function.argtypes = [ctypes.c_int64, ctypes.c_uint]
        function(plan.id, 2)


def write(recipe: Recipe, folder: Path) -> Path:
    path, values = folder / "u.h5", values_of(recipe)
    userblock = {"userblock_size": recipe.userblock} if recipe.userblock else {}
    with h5py.File(path, "w", libver=recipe.libver, **userblock) as file:
        if recipe.layout != "virtual":
            dataset = write_part(file, "u", recipe, values, folder)
        else:
            half = recipe.shape[0] // 2
            sources = [(0, half), (half, recipe.shape[0])]
            target = h5py.VirtualLayout(recipe.shape, stored_kind(recipe.kind).dtype)
            for number, (first, end) in enumerate(sources):
                if first < end:
                    with h5py.File(folder / f"part{number}.h5", "w", libver=recipe.libver) as other:
                        write_part(other, "v", recipe, values[first:end], folder)
                    target[first:end] = h5py.VirtualSource(f"part{number}.h5", "v", (end - first, recipe.shape[1]))
            dataset = file.create_virtual_dataset("u", target, fillvalue=recipe.fill and int(min(recipe.fill, 7)))
        for name, value in recipe.attributes:
            text = isinstance(value, str)
            own = np.dtype(recipe.kind) if recipe.kind in PLAIN and not text else None
            typed = own is not None and name in ("_FillValue", "missing_value") and own.kind in "fiu"
            dataset.attrs[name] = np.array(value).astype(own.newbyteorder("=")) if typed else value
        for axis, dim in enumerate(("sample", "y")):
            dataset.dims[axis].label = dim
    return path


def expected(path: Path) -> np.ndarray:
    """Values as h5py reads and xarray decodes them, numbers in text aside; then what is missing by other attributes."""
    with h5py.File(path) as file:
        dataset = file["u"]
        raw, attributes = dataset[...], dict(dataset.attrs)
        plan = dataset.id.get_create_plist()
        filled = np.zeros(1, raw.dtype.newbyteorder("=") if raw.dtype.kind in "fiu" else "f8")
        if plan.fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED and raw.dtype.kind == "f":
            plan.get_fill_value(filled)
    if raw.dtype.kind == "b":
        return raw
    raw = raw.astype("f8" if raw.dtype.itemsize > 8 else raw.dtype.newbyteorder("="))
    known = {k: v for k, v in attributes.items() if k in ("_FillValue", "missing_value", "_Unsigned")}
    known |= {
        k: float(v) if isinstance(v, str) else v for k, v in attributes.items() if k in ("scale_factor", "add_offset")
    }
    raw = raw.astype("f4") if raw.dtype == "f2" else raw
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        variable = xr.Variable(("sample", "y"), raw, known)
        decoded = xr.conventions.decode_cf_variable("u", variable, decode_times=False).values
    missing = np.zeros(raw.shape, bool)
    if "valid_range" in attributes:
        low, high = attributes["valid_range"]
        packed = raw.dtype.kind in "iu" and {"scale_factor", "add_offset"} & {*attributes}
        seen = decoded if packed else view_of(raw, attributes.get("_Unsigned"))
        missing |= (seen < low) | (seen > high)
    if filled.dtype.itemsize > 2 and filled[0] == NETCDF_FILL and not {"_FillValue", "missing_value"} & {*attributes}:
        missing |= raw == NETCDF_FILL
    return np.where(missing, np.nan, decoded) if missing.any() else decoded


def view_of(raw: np.ndarray, unsigned: str | None) -> np.ndarray:
    other = {("true", "i"): "u", ("false", "u"): "i"}.get((unsigned, raw.dtype.kind))
    return raw.astype(f"{other}{raw.dtype.itemsize}") if other else raw


def check(recipe: Recipe, folder: Path, *, often: int) -> None:
    """Compare all ways of reading a file; opening by labels, a second pass and conversion only at some seeds."""
    path = write(recipe, folder)
    want = expected(path)
    reading._ways.clear()
    autotune._measured.clear()
    layout = Mapping(variables={"u": MappedVariable(path="u", axes=("sample", "y"))})
    ds = open_snapshots(path, layout)
    np.testing.assert_array_equal(ds.u.values, want)
    if recipe.seed % (3 * often) < 3:
        np.testing.assert_array_equal(open_snapshots(path).u.values, want)  # axes by their labels
    rows = np.arange(recipe.shape[0])[:: 2 if recipe.seed % 5 == 0 else 1]
    part = ds.isel(sample=rows)
    if recipe.seed % 2 == 0 or np.isnan(want.astype("f8")).any():
        part = mask_missing(part, ["u"])
    stream = Stream(part, ["u"], ["u"], batch_size=3, shuffle=False)
    for _ in range(2 if recipe.seed % (3 * often) < 3 else 1):
        streamed = np.concatenate([batch.inputs.numpy()[:, 0] for batch in stream])
        np.testing.assert_array_equal(streamed, want[rows].astype("f4"))
    if recipe.seed % (4 * often) == 0:  # conversions take longer than everything else
        convert(path, folder / "out", "shards", layout=layout)
        np.testing.assert_array_equal(open_snapshots(folder / "out").u.values, want)


RELAXED = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=60, derandomize=True, **RELAXED)
@given(recipes())
def test_files_read_as_h5py_and_xarray_read_them(recipe):
    with dask.config.set(scheduler="synchronous"), tempfile.TemporaryDirectory() as folder:
        check(recipe, Path(folder), often=4)


@pytest.mark.slow
@settings(max_examples=2000, **RELAXED)
@given(recipes())
def test_thousands_of_files_read_as_h5py_and_xarray_read_them(recipe):
    with tempfile.TemporaryDirectory() as folder:
        check(recipe, Path(folder), often=1)
