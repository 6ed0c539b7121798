"""Predictions on the points of meshes as VTU files, which ParaView opens, by meshio."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import xarray as xr

from surrogate.data.mesh import CELLS, POSITIONS, geometry_of, point_axis, positions_of
from surrogate.errors import ConfigError
from surrogate.files import replacing_folder
from surrogate.models.signature import Signature

__all__ = ["check_vtu", "vtu_folder", "write_vtu"]

STEPS = ("time", "lead")  # axes of predictions, of which each entry is a file
OURS = re.compile(r"sample_\d[\d_]*\.(vtu|pvd)|MANIFEST\.json")  # files of such a folder
KINDS = {  # names of meshio for cells of some number of corners, in two and three dimensions
    2: {2: "line", 3: "triangle", 4: "quad"},
    3: {2: "line", 3: "triangle", 4: "tetra", 5: "pyramid", 6: "wedge", 8: "hexahedron"},
}


def vtu_folder(predictions: Path) -> Path:
    """Return the folder of the VTU files of a file of predictions: `out_vtu` next to `out.nc`."""
    return predictions.with_name(f"{predictions.stem}_vtu")


def check_vtu(signature: Signature, predictions: Path, *, overwrite: bool) -> None:
    """Check that predictions can be written as VTU files, before any work is done.

    Raises:
        ConfigError: The predictions are not on points, meshio is not installed, or the folder exists.
    """
    if not signature.point_axis:
        raise ConfigError("--vtu: the predictions are on a grid, which ParaView reads from NetCDF; leave out --vtu")
    if importlib.util.find_spec("meshio") is None:
        raise ConfigError("--vtu: the package meshio is not installed; pip install 'slim-surrogate[mesh]'")
    folder = vtu_folder(predictions)
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    ours = all(OURS.fullmatch(name) for name in names) if folder.is_dir() else not folder.exists()
    if not ours or (not overwrite and folder.exists()):
        remedy = "give --overwrite to replace it or " if ours else ""
        raise ConfigError(f"--vtu: {folder} exists already; {remedy}choose another --output")


def write_vtu(predictions: Path, folder: Path) -> Path:
    """Write a VTU file for every sample and step of predictions, and for every sample that has times a PVD file.

    Arguments:
        predictions: The NetCDF file of `predict`, on points with coordinates.
        folder: Replaced as a whole. `sample_0000.vtu`, or `sample_0000_0003.vtu` for step 3, holds the points that the
            sample has, its cells, and its variables as point data; `sample_0000.pvd` lists the times.

    Returns:
        The folder.

    Raises:
        ConfigError: Points have no coordinates, or move.
        ResourceError: The folder cannot be written.
    """
    meshio: Any = importlib.import_module("meshio")
    with xr.open_dataset(predictions, engine="h5netcdf", decode_times=False) as ds, replacing_folder(folder) as part:
        axis = point_axis(ds, [str(dim) for dim in ds.dims])
        if not axis or len(positions_of(ds, axis)) < 2:
            raise ConfigError(f"--vtu: {predictions} has no fixed coordinates x and y of points; leave out --vtu")
        fields = [name for name, v in ds.data_vars.items() if axis in v.dims]
        steps = {dim: ds.sizes[dim] for dim in STEPS if dim in ds.dims}
        for sample in range(ds.sizes["sample"]):
            mesh, listed = geometry_of(ds, axis, sample=sample), []
            points, kept, cells = _points_and_cells(mesh)
            for index in np.ndindex(*steps.values()):
                own = ds[fields].isel({"sample": sample, **dict(zip(steps, index, strict=True))}, missing_dims="ignore")
                data = {str(name): v.transpose(axis, ...).values[kept] for name, v in own.data_vars.items()}
                for field, values in data.items():  # two components get a third of zero, as vectors in ParaView have
                    data[field] = np.pad(values, ((0, 0), (0, 1))) if values.shape[1:] == (2,) else values
                name = "_".join([f"sample_{sample:04d}", *(f"{position:04d}" for position in index)]) + ".vtu"
                meshio.Mesh(points, cells, point_data=data).write(part / name, file_format="vtu")
                time = float(own["time"]) if "time" in own.coords else 0.0
                listed.append(f"    <DataSet timestep={quoteattr(repr(time))} file={quoteattr(name)}/>")
            if "time" in steps:
                lines = [
                    '<?xml version="1.0"?>',
                    '<VTKFile type="Collection" version="0.1">',
                    "  <Collection>",
                    *listed,
                ]
                text = "\n".join([*lines, "  </Collection>", "</VTKFile>", ""])
                (part / f"sample_{sample:04d}.pvd").write_text(text, encoding="utf-8")
    return folder


def _points_and_cells(mesh: dict[str, xr.Variable]) -> tuple[np.ndarray, np.ndarray, list[tuple[str, np.ndarray]]]:
    """Return the points (N, 3) that there are, their numbers in the file, and the cells by kind; else single points."""
    names = [name for name in POSITIONS if name in mesh]
    places = np.stack([mesh[name].values for name in names], -1).astype(float)
    kept = np.flatnonzero(np.isfinite(places).all(1))
    points = np.zeros((len(kept), 3))
    points[:, [POSITIONS.index(name) for name in names]] = places[kept]
    new = np.full(len(places) + 1, -1)  # the last entry is that of corner -1
    new[kept] = np.arange(len(kept))
    corners = new[mesh[CELLS].values] if CELLS in mesh else np.empty((0, 3), int)
    counts = (corners >= 0).sum(1)
    blocks = []
    for count in np.unique(counts[counts > 1]):
        own = corners[counts == count]
        kind = KINDS[len(names)].get(int(count), "polygon" if len(names) == 2 else "")
        if kind:
            blocks.append((kind, own[own >= 0].reshape(len(own), count)))
    return points, kept, blocks or [("vertex", np.arange(len(kept))[:, None])]
