"""PDEBench: its four families of files, recognised and read.

| family         | recognised by                              | variables                                     |
|----------------|--------------------------------------------|-----------------------------------------------|
| per seed       | groups `0000`, `0001`, ... that hold `data` | `data` (sample, time, channel, [z, y,] x)     |
| scalar         | `tensor`                                   | `tensor` (sample, time, x); Darcy with `nu`   |
| flow           | `density`                                  | `density`, `pressure`, `Vx`, `Vy`, `Vz`       |
| incompressible | `velocity` and `particles`                 | `velocity`, `particles`, `force`              |

Takamoto et al. 2022, PDEBench: an extensive benchmark for scientific machine learning.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from surrogate.data.formats.lazy import assemble
from surrogate.data.formats.stack import H5Stack
from surrogate.data.formats.variables import FileVariable, attributes, variable_at
from surrogate.data.hdf5.array import H5Array
from surrogate.data.hdf5.storage import dataset_at, describe_names, h5_array, holds
from surrogate.errors import DataError

__all__ = ["COORDINATES", "FLOW", "TIME", "family_of", "known_axes", "read_pdebench", "seeds"]

FIELDS = ("velocity", "particles")
FLOW = ("density", "pressure", "Vx", "Vy", "Vz")
COORDINATES = {"x": "x-coordinate", "y": "y-coordinate", "z": "z-coordinate"}
TIME = "t-coordinate"
PARAMETERS = {"beta": "beta", "nu": "Nu", "rho": "rho", "eta": "eta", "zeta": "zeta", "m": "M"}
IN_NAME = re.compile(r"(?:^|_)(beta|nu|rho|eta|zeta|m)(\d+(?:\.\d+)?(?:e-?\d+)?)(?=_|$)", re.IGNORECASE)
SETTING = re.compile(r"^\s*([A-Za-z]\w*):\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*$", re.MULTILINE)
CHANNELS = re.compile(r"^channels: \[(.*)\]\s*$", re.MULTILINE)
KNOWN_CHANNELS = {"diff-react": ["u", "v"], "diff-sorp": ["u"], "rdb": ["h"]}  # by the name of the file


def seeds(handle: h5py.File) -> list[str]:
    """Root groups whose name is all digits, sorted, where the first one holds `data`."""
    names = sorted(name for name in handle if name.isdigit())
    return names if names and holds(handle, f"{names[0]}/data") else []


def family_of(handle: h5py.File) -> tuple[str, str] | None:
    """Family of a file and what it is recognised by; None where it is none of PDEBench's."""
    found = seeds(handle)
    if found:
        return "per seed", f"its {len(found)} groups {found[0]} to {found[-1]} hold 'data'"
    for family, names in (("scalar", ("tensor",)), ("flow", ("density",)), ("incompressible", FIELDS)):
        if all(isinstance(handle.get(name, getlink=True), h5py.HardLink) for name in names):
            return family, f"it holds {' and '.join(map(repr, names))} at its root"
    return None


def known_axes(dataset: h5py.Dataset) -> tuple[str, ...] | None:
    """Axes of a dataset in the order of the file; None where the layout prescribes none."""
    name, rank = dataset.name.rpartition("/")[2], dataset.ndim
    if name == "data" and 3 <= rank <= 5:
        return ("time", *("z", "y", "x")[5 - rank :], "channel")
    if name in ("tensor", *FLOW) and 3 <= rank <= 5:
        return ("sample", "time", *("x", "y", "z")[: rank - 2])
    if name in FIELDS and 4 <= rank <= 6:
        return ("sample", "time", *("x", "y", "z")[: rank - 3], "channel")
    if name in ("nu", "force"):
        return ("sample", *("x", "y", "z")[: rank - 1 - (name == "force")], *["channel"] * (name == "force"))
    return None


def read_pdebench(handle: h5py.File, *, external: bool = False) -> xr.Dataset:
    """A file of any of the families.

    Raises:
        DataError: It is of none, or deviates from the layout.
    """
    family = family_of(handle)
    if family is None:
        raise DataError(
            f"{handle.filename}: is not in PDEBench's layout: no numbered groups with 'data', no 'tensor', 'density', "
            f"or 'velocity' and 'particles'; choose another layout or declare a mapping; {describe_names(handle)}"
        )
    ds = READERS[family[0]](handle, external)
    ds = _with_parameters(ds, handle) if family[0] != "per seed" else ds
    return ds.assign_attrs(pdebench_family=family[0])


# --- per seed ---------------------------------------------------------------------------------------------------------


def _per_seed(handle: h5py.File, external: bool) -> xr.Dataset:
    names = seeds(handle)
    arrays = [_seed(handle, name, external) for name in names]
    _same(handle, names, arrays)
    space = ("z", "y", "x")[5 - arrays[0].ndim :]
    first = f"{names[0]}/grid"
    found = [FileVariable("data", H5Stack(tuple(arrays)), ("sample", "time", *space, "channel"))]
    for axis, path in (("time", "t"), *zip(space, space, strict=True)):
        if holds(handle, f"{first}/{path}"):
            found.append(variable_at(handle, f"{first}/{path}", (axis,), name=axis, external=external))
            _same_grid(handle, names, path, external)
    ds = assemble(_first_times(found), Path(handle.filename))
    settings = [str(attributes(handle[name]).get("config", "")) for name in names]
    ds = ds.assign_coords(seed=("sample", np.array([int(name) for name in names])))
    ds = ds.assign_coords(_settings(settings, taken={*map(str, ds.variables), *map(str, ds.dims)}))
    labels = _channel_names(settings[0], Path(handle.filename).name)
    if len(labels) == ds.sizes["channel"]:
        ds = ds.assign_coords(channel=labels)
    return ds.assign_attrs(attributes(handle)).assign_attrs({"config": settings[0]} if settings[0] else {})


def _seed(handle: h5py.File, name: str, external: bool) -> H5Array:
    with _dataset(handle, f"{name}/data", external) as dataset:
        array = h5_array(dataset, external=external)
    if not 3 <= array.ndim <= 5:
        raise DataError(
            f"{handle.filename}:{name}/data: has shape {array.shape}, PDEBench prescribes (time, [z, y,] x, channel); "
            "declare a mapping if the file deviates from the layout"
        )
    return array


def _same(handle: h5py.File, names: list[str], arrays: list[H5Array]) -> None:
    for name, array in zip(names, arrays, strict=True):
        if (array.shape, array.dtype) != (arrays[0].shape, arrays[0].dtype):
            raise DataError(
                f"{handle.filename}: {names[0]}/data is {arrays[0].shape} {arrays[0].dtype}, but {name}/data is "
                f"{array.shape} {array.dtype}; split the file into seeds of one shape"
            )


def _same_grid(handle: h5py.File, names: list[str], path: str, external: bool) -> None:
    grids = [_values(handle, f"{name}/grid/{path}", external) for name in names]
    for name, grid in zip(names, grids, strict=True):
        if not np.array_equal(grid, grids[0]):
            raise DataError(
                f"{handle.filename}: {name}/grid/{path} differs from that of {names[0]}; split the file into seeds "
                "of one grid"
            )


def _values(handle: h5py.File, path: str, external: bool) -> np.ndarray:
    with _dataset(handle, path, external) as dataset:
        return np.asarray(dataset[()])


def _dataset(handle: h5py.File, path: str, external: bool) -> contextlib.AbstractContextManager[h5py.Dataset]:
    """`dataset_at`, with a short way for thousands of datasets that no link leads to."""
    node = handle.id
    for part in path.encode().split(b"/"):
        if not isinstance(node, h5py.h5f.FileID | h5py.h5g.GroupID) or not node.links.exists(part):
            break
        if node.links.get_info(part).type != h5py.h5l.TYPE_HARD:
            break
        node = h5py.h5o.open(node, part)
    if isinstance(node, h5py.h5d.DatasetID):
        return contextlib.nullcontext(h5py.Dataset(node))
    return dataset_at(handle, path, external=external)


def _settings(texts: list[str], taken: set[str]) -> dict[str, tuple[str, np.ndarray]]:
    """Numbers that stand in the `config` of every seed, as parameters of the simulations."""
    numbers = [{name: float(value) for name, value in SETTING.findall(text)} for text in texts]
    shared = [name for name in numbers[0] if name not in taken and all(name in entry for entry in numbers)]
    return {name: ("sample", np.array([entry[name] for entry in numbers])) for name in shared}


def _channel_names(config: str, file: str) -> list[str]:
    match = CHANNELS.search(config)
    if match:
        return [name.strip() for name in match[1].split(",")]
    return next((names for key, names in KNOWN_CHANNELS.items() if key in file), [])


# --- arrays at the root -----------------------------------------------------------------------------------------------


def _scalar(handle: h5py.File, external: bool) -> xr.Dataset:
    shape = handle["tensor"].shape or ()
    space = ("x", "y", "z")[: len(shape) - 2]
    steady = holds(handle, "nu") and shape[1:2] == (1,)
    axes = ("sample", "step" if steady else "time", *space)
    found = [variable_at(handle, "nu", ("sample", *space), external=external)] if holds(handle, "nu") else []
    found.append(variable_at(handle, "tensor", axes, external=external))
    found += _coordinates(handle, space if steady else ("time", *space), external)
    ds = assemble(_first_times(found), Path(handle.filename))
    return ds.isel(step=0) if steady else ds


def _flow(handle: h5py.File, external: bool) -> xr.Dataset:
    space = ("x", "y", "z")[: len(handle["density"].shape or ()) - 2]
    names = [name for name in FLOW if holds(handle, name)]
    found = [variable_at(handle, name, ("sample", "time", *space), external=external) for name in names]
    found += _coordinates(handle, ("time", *space), external)
    return assemble(_first_times(found), Path(handle.filename))


def _coordinates(handle: h5py.File, axes: tuple[str, ...], external: bool) -> list[FileVariable]:
    paths = COORDINATES | {"time": TIME}
    present = [axis for axis in axes if holds(handle, paths[axis])]
    return [variable_at(handle, paths[axis], (axis,), name=axis, external=external) for axis in present]


def _first_times(found: list[FileVariable]) -> list[FileVariable]:
    """Coordinates of time have one entry more than there are steps: the first T count."""
    steps = next((v.values.shape[v.axes.index("time")] for v in found if "time" in v.axes and not v.is_coordinate), 0)
    return [
        FileVariable(v.name, v.values[:steps], v.axes, True, v.attributes)
        if v.axes == ("time",) and v.values.shape[0] == steps + 1
        else v
        for v in found
    ]


def _incompressible(handle: h5py.File, external: bool) -> xr.Dataset:
    space = ("x", "y", "z")[: len(handle["velocity"].shape or ()) - 3]
    axes = ("sample", "time", *space)
    found = [
        variable_at(handle, "velocity", (*axes, "channel"), external=external),
        variable_at(handle, "particles", (*axes, "particle_channel"), external=external),
    ]
    if holds(handle, "force"):
        found.append(variable_at(handle, "force", ("sample", *space, "channel"), external=external))
    ds = assemble(found, Path(handle.filename))
    if ds.sizes["particle_channel"] == 1:
        ds = ds.isel(particle_channel=0)
    if ds.sizes["channel"] == len(space):
        ds = ds.assign_coords(channel=list(space))
    return _with_times(ds, handle, external) if holds(handle, "t") else ds


def _with_times(ds: xr.Dataset, handle: h5py.File, external: bool) -> xr.Dataset:
    """Times (sample, time): the coordinate of `time` where all samples share them, else `sample_time`."""
    times = _values(handle, "t", external)[..., : ds.sizes["time"]]
    if times.shape != (ds.sizes["sample"], ds.sizes["time"]):
        raise DataError(
            f"{handle.filename}:t: has shape {times.shape}, expected (sample, time) = "
            f"({ds.sizes['sample']}, {ds.sizes['time']}); write one time for every step"
        )
    if (times == times[:1]).all():
        return ds.assign_coords(time=times[0])
    return ds.assign_coords(sample_time=(("sample", "time"), times))


def _with_parameters(ds: xr.Dataset, handle: h5py.File) -> xr.Dataset:
    """Numbers in the attributes of the file, or else in its name, as parameters of all of its simulations."""
    found = attributes(handle)
    numbers = {name: value for name, value in found.items() if _is_number(value)}
    numbers = {PARAMETERS.get(name.lower(), name): float(value) for name, value in numbers.items()}
    for name, value in _in_name(Path(handle.filename).stem):
        numbers.setdefault(name, value)
    taken = {*map(str, ds.variables), *map(str, ds.dims)}
    count = ds.sizes["sample"]
    parameters = {name: ("sample", np.full(count, value)) for name, value in numbers.items() if name not in taken}
    rest = {name: value for name, value in found.items() if not _is_number(value)}
    return ds.assign_coords(parameters).assign_attrs(rest)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _in_name(stem: str) -> Iterator[tuple[str, float]]:
    for name, value in IN_NAME.findall(stem):
        yield PARAMETERS[name.lower()], float(value)


READERS: dict[str, Callable[[h5py.File, bool], xr.Dataset]] = {
    "per seed": _per_seed,
    "scalar": _scalar,
    "flow": _flow,
    "incompressible": _incompressible,
}
