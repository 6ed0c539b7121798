"""Predictions as VTU files: read back by meshio, point by point."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from importlib import util
from pathlib import Path
from typing import Any

import meshio
import numpy as np
import pytest
import xarray as xr

from surrogate.errors import ConfigError
from surrogate.models import Signature
from surrogate.prediction.vtu import check_vtu, vtu_folder, write_vtu

SQUARE = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1], [2, 0.5]])


def predictions(path: Path, **more: Any) -> xr.Dataset:
    """Two samples on a quadrilateral and a triangle; the second lacks the last point, and so the triangle."""
    rng, x, y = np.random.default_rng(0), *SQUARE.T
    u = rng.normal(size=(2, 5)).astype(np.float32)
    places = {name: (("sample", "point"), np.stack([v, v])) for name, v in (("x", x), ("y", y))}
    ds = xr.Dataset({"u": (("sample", "point"), u)}).assign_coords(places)
    ds["x"][1, 4] = ds["y"][1, 4] = ds["u"][1, 4] = np.nan
    cells = np.array([[[0, 1, 2, 3], [1, 4, 2, -1]], [[0, 1, 2, 3], [-1, -1, -1, -1]]])
    ds = ds.assign(more).assign_coords(cells=(("sample", "element", "corner"), cells))
    ds.to_netcdf(path, engine="h5netcdf")
    return ds


def test_points_cells_and_values_come_back(tmp_path: Path) -> None:
    velocity = (("sample", "channel", "point"), np.random.default_rng(1).normal(size=(2, 2, 5)))
    ds = predictions(tmp_path / "out.nc", velocity=velocity)
    folder = write_vtu(tmp_path / "out.nc", vtu_folder(tmp_path / "out.nc"))
    assert folder.name == "out_vtu"
    for sample, count in enumerate((5, 4)):
        mesh = meshio.read(folder / f"sample_{sample:04d}.vtu")
        np.testing.assert_array_equal(mesh.points[:, :2], SQUARE[:count])
        np.testing.assert_array_equal(mesh.point_data["u"], ds["u"].values[sample, :count])
        vectors = mesh.point_data["velocity"]
        np.testing.assert_array_equal(vectors[:, :2], ds["velocity"].values[sample, :, :count].T)
        assert not vectors[:, 2].any()
        np.testing.assert_array_equal(mesh.cells_dict["quad"], [[0, 1, 2, 3]])
        assert ("triangle" in mesh.cells_dict) == (sample == 0)


def test_every_time_is_a_file_and_a_collection_lists_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ds = xr.Dataset({"u": (("sample", "time", "point"), rng.normal(size=(1, 3, 5)))}, {"time": [0.5, 1.0, 2.0]})
    ds = ds.assign_coords(x=("point", SQUARE[:, 0]), y=("point", SQUARE[:, 1]), z=("point", np.ones(5)))
    ds.to_netcdf(tmp_path / "out.nc", engine="h5netcdf")
    folder = write_vtu(tmp_path / "out.nc", tmp_path / "v")
    sets = ElementTree.parse(folder / "sample_0000.pvd").getroot().findall("Collection/DataSet")
    assert [float(part.attrib["timestep"]) for part in sets] == [0.5, 1.0, 2.0]
    for step, part in enumerate(sets):
        mesh = meshio.read(folder / part.attrib["file"])
        np.testing.assert_array_equal(mesh.point_data["u"], ds["u"].values[0, step])
        assert mesh.points[:, 2].tolist() == [1.0] * 5
        assert mesh.cells_dict["vertex"].shape == (5, 1)  # no cells are known


def test_what_cannot_be_written_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Signature(inputs=("u",), targets=("u",), grid={"x": 4})
    points = Signature(inputs=("u",), targets=("u",), grid={"point": 4}, point_axis="point")
    with pytest.raises(ConfigError, match="--vtu: the predictions are on a grid"):
        check_vtu(grid, tmp_path / "out.nc", overwrite=False)
    predictions(tmp_path / "out.nc")
    check_vtu(points, tmp_path / "out.nc", overwrite=False)
    write_vtu(tmp_path / "out.nc", tmp_path / "out_vtu")
    check_vtu(points, tmp_path / "out.nc", overwrite=True)
    with pytest.raises(ConfigError, match="out_vtu exists already; give --overwrite"):
        check_vtu(points, tmp_path / "out.nc", overwrite=False)
    (tmp_path / "out_vtu" / "notes.txt").touch()  # of the user, who would lose it
    with pytest.raises(ConfigError, match="out_vtu exists already; choose another"):
        check_vtu(points, tmp_path / "out.nc", overwrite=True)
    (tmp_path / "other_vtu").mkdir()
    (tmp_path / "other_vtu" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="other_vtu exists already; choose another"):
        check_vtu(points, tmp_path / "other.nc", overwrite=True)
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="meshio is not installed; pip install"):
        check_vtu(points, tmp_path / "new.nc", overwrite=False)
