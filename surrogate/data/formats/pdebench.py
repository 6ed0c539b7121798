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
from dataclasses import dataclass
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
    """List root groups whose name is all digits, sorted, where the first one holds `data`."""
    names = sorted(name for name in handle if isinstance(name, str) and name.isdigit())
    if not names or not holds(handle, f"{names[0]}/data"):
        return []
    told = holds(handle, f"{names[0]}/grid") or "config" in handle[names[0]].attrs
    return names if told else []


def family_of(handle: h5py.File) -> tuple[str, str] | None:
    """Name the family of a file and the reason; None where it is none of PDEBench's."""
    names = seeds(handle)
    if names:
        return "per seed", f"its {len(names)} groups {names[0]} to {names[-1]} hold 'data'"
    for family, members in (("scalar", ("tensor",)), ("flow", ("density",)), ("incompressible", FIELDS)):
        if all(isinstance(handle.get(name, getlink=True), h5py.HardLink) for name in members):
            return family, f"it holds {' and '.join(map(repr, members))} at its root"
    return None


def known_axes(dataset: h5py.Dataset) -> tuple[str, ...] | None:
    """Name the axes of a dataset in the order of the file; None where the layout prescribes none."""
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
    """Read a file of any of the families.

    Raises:
        DataError: It is of none, or deviates from the layout.
    """
    family = family_of(handle)
    if family is None:
        raise DataError(
            f"{handle.filename}: is not in PDEBench's layout: no numbered groups with 'data', no 'tensor', 'density', "
            f"or 'velocity' and 'particles'; choose another layout or declare a mapping; {describe_names(handle)}"
        )
    reader = _Reader(handle, external)
    read = {
        "per seed": reader.per_seed,
        "scalar": reader.scalar,
        "flow": reader.flow,
        "incompressible": reader.incompressible,
    }[family[0]]
    ds = read() if family[0] == "per seed" else reader.with_parameters(read())
    return ds.assign_attrs(pdebench_family=family[0])


@dataclass(frozen=True)
class _Reader:
    """Reads the variables of one file, whichever family it is of."""

    handle: h5py.File
    external: bool

    @property
    def file(self) -> Path:
        return Path(self.handle.filename)

    def variable(self, path: str, axes: tuple[str, ...], name: str = "") -> FileVariable:
        return variable_at(self.handle, path, axes, name=name, external=self.external)

    def dataset(self, path: str) -> contextlib.AbstractContextManager[h5py.Dataset]:
        """Open a dataset as `dataset_at` does, with a short way for thousands of datasets that no link leads to."""
        node = self.handle.id
        for part in path.encode().split(b"/"):
            if not isinstance(node, h5py.h5f.FileID | h5py.h5g.GroupID) or not node.links.exists(part):
                break
            if node.links.get_info(part).type != h5py.h5l.TYPE_HARD:
                break
            node = h5py.h5o.open(node, part)
        if isinstance(node, h5py.h5d.DatasetID):
            return contextlib.nullcontext(h5py.Dataset(node))
        return dataset_at(self.handle, path, external=self.external)

    def values(self, path: str) -> np.ndarray:
        with self.dataset(path) as dataset:
            return np.asarray(dataset[()])

    # per seed

    def per_seed(self) -> xr.Dataset:
        """One variable `data`, a simulation for every group; numbers in their `config` are parameters."""
        names = seeds(self.handle)
        arrays = self.seed_arrays(names)
        space = ("z", "y", "x")[5 - arrays[0].ndim :]
        variables = [FileVariable("data", H5Stack(tuple(arrays)), ("sample", "time", *space, "channel"))]
        for axis, path in (("time", "t"), *zip(space, space, strict=True)):
            if holds(self.handle, f"{names[0]}/grid/{path}"):
                variables.append(self.variable(f"{names[0]}/grid/{path}", (axis,), axis))
                self.check_grids(names, path)
        ds = assemble(_first_times(variables), self.file)
        configs = [str(attributes(self.handle[name]).get("config", "")) for name in names]
        numbers = [{name: float(value) for name, value in SETTING.findall(text)} for text in configs]
        ds = ds.assign_coords(seed=("sample", np.array([int(name) for name in names])))
        for name in numbers[0]:
            if name not in (*ds.variables, *ds.dims) and all(name in entry for entry in numbers):
                ds = ds.assign_coords({name: ("sample", np.array([entry[name] for entry in numbers]))})
        match = CHANNELS.search(configs[0])
        labels = [name.strip() for name in match[1].split(",")] if match else []
        labels = labels or next((names for key, names in KNOWN_CHANNELS.items() if key in self.file.name), [])
        if len(labels) == ds.sizes["channel"]:
            ds = ds.assign_coords(channel=labels)
        return ds.assign_attrs(attributes(self.handle)).assign_attrs({"config": configs[0]} if configs[0] else {})

    def seed_arrays(self, names: list[str]) -> list[H5Array]:
        """`data` of every seed, all of one shape and type."""
        arrays = []
        for name in names:
            with self.dataset(f"{name}/data") as dataset:
                array = h5_array(dataset, external=self.external)
            if not 3 <= array.ndim <= 5:
                raise DataError(
                    f"{self.file}:{name}/data: has shape {array.shape}, PDEBench prescribes (time, [z, y,] x, "
                    "channel); declare a mapping if the file deviates from the layout"
                )
            arrays.append(array)
            if (array.shape, array.dtype) != (arrays[0].shape, arrays[0].dtype):
                raise DataError(
                    f"{self.file}: {names[0]}/data is {arrays[0].shape} {arrays[0].dtype}, but {name}/data is "
                    f"{array.shape} {array.dtype}; split the file into seeds of one shape"
                )
        return arrays

    def check_grids(self, names: list[str], path: str) -> None:
        grids = [self.values(f"{name}/grid/{path}") for name in names]
        for name, grid in zip(names, grids, strict=True):
            if not np.array_equal(grid, grids[0]):
                raise DataError(
                    f"{self.file}: {name}/grid/{path} differs from that of {names[0]}; split the file into seeds "
                    "of one grid"
                )

    # arrays at the root

    def scalar(self) -> xr.Dataset:
        """`tensor` and, for steady Darcy flow, `nu`."""
        shape = self.handle["tensor"].shape or ()
        space = ("x", "y", "z")[: len(shape) - 2]
        steady = holds(self.handle, "nu") and shape[1:2] == (1,)
        axes = ("sample", "step" if steady else "time", *space)
        variables = [self.variable("nu", ("sample", *space))] if holds(self.handle, "nu") else []
        variables.append(self.variable("tensor", axes))
        variables += self.coordinates(space if steady else ("time", *space))
        ds = assemble(_first_times(variables), self.file)
        return ds.isel(step=0) if steady else ds

    def flow(self) -> xr.Dataset:
        """`density`, `pressure` and velocities of compressible flow."""
        space = ("x", "y", "z")[: len(self.handle["density"].shape or ()) - 2]
        names = [name for name in FLOW if holds(self.handle, name)]
        variables = [self.variable(name, ("sample", "time", *space)) for name in names]
        variables += self.coordinates(("time", *space))
        return assemble(_first_times(variables), self.file)

    def coordinates(self, axes: tuple[str, ...]) -> list[FileVariable]:
        paths = COORDINATES | {"time": TIME}
        present = [axis for axis in axes if holds(self.handle, paths[axis])]
        return [self.variable(paths[axis], (axis,), axis) for axis in present]

    def incompressible(self) -> xr.Dataset:
        """`velocity`, `particles` and `force`; times are the coordinate of `time` where all samples share them."""
        space = ("x", "y", "z")[: len(self.handle["velocity"].shape or ()) - 3]
        axes = ("sample", "time", *space)
        variables = [
            self.variable("velocity", (*axes, "channel")),
            self.variable("particles", (*axes, "particle_channel")),
        ]
        if holds(self.handle, "force"):
            variables.append(self.variable("force", ("sample", *space, "channel")))
        ds = assemble(variables, self.file)
        if ds.sizes["particle_channel"] == 1:
            ds = ds.isel(particle_channel=0)
        if ds.sizes["channel"] == len(space):
            ds = ds.assign_coords(channel=list(space))
        if not holds(self.handle, "t"):
            return ds
        times = self.values("t")[..., : ds.sizes["time"]]
        if times.shape != (ds.sizes["sample"], ds.sizes["time"]):
            raise DataError(
                f"{self.file}:t: has shape {times.shape}, expected (sample, time) = "
                f"({ds.sizes['sample']}, {ds.sizes['time']}); write one time for every step"
            )
        if (times == times[:1]).all():
            return ds.assign_coords(time=times[0])
        return ds.assign_coords(sample_time=(("sample", "time"), times))

    def with_parameters(self, ds: xr.Dataset) -> xr.Dataset:
        """Add numbers in the attributes of the file, or else in its name, as parameters of all simulations."""
        known = attributes(self.handle)
        numbers = {name: value for name, value in known.items() if _is_number(value)}
        numbers = {PARAMETERS.get(name.lower(), name): float(value) for name, value in numbers.items()}
        for name, value in IN_NAME.findall(self.file.stem):
            numbers.setdefault(PARAMETERS[name.lower()], float(value))
        taken = {*map(str, ds.variables), *map(str, ds.dims)}
        count = ds.sizes["sample"]
        parameters = {name: ("sample", np.full(count, value)) for name, value in numbers.items() if name not in taken}
        rest = {name: value for name, value in known.items() if not _is_number(value)}
        return ds.assign_coords(parameters).assign_attrs(rest)


def _first_times(variables: list[FileVariable]) -> list[FileVariable]:
    """Cut coordinates of time, which have one entry more than there are steps, to the first T."""
    fields = [v for v in variables if "time" in v.axes and not v.is_coordinate]
    steps = fields[0].values.shape[fields[0].axes.index("time")] if fields else 0
    return [
        FileVariable(v.name, v.values[:steps], v.axes, True, v.attributes)
        if v.axes == ("time",) and v.values.shape[0] == steps + 1
        else v
        for v in variables
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
