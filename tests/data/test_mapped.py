"""Declared layouts: names in braces, attributes, blocks, tables, and files of other kinds; values as h5py has them."""

from __future__ import annotations

import os

import h5py
import numpy as np
import pytest
import scipy.io
import xarray as xr
from pydantic import ValidationError

from surrogate.data import Mapping, SplitSettings, Stream, Window, open_snapshots, split, split_ids
from surrogate.data.inspect import describe
from surrogate.data.layouts import find_files
from surrogate.errors import DataError

RNG = np.random.default_rng(0)


def layout(**entries):
    return Mapping.model_validate(entries)


def values_of(ds, name):
    """The values that a stream hands out, in the order of the samples."""
    axes = ds[name].dims
    window = Window(steps_in=1, steps_out=0) if "time" in axes else None
    batches = list(Stream(ds, [name], [name], batch_size=1, window=window, shuffle=False))
    return np.concatenate([batch.inputs.numpy() for batch in batches])


def test_steps_are_numbered_datasets_whose_times_are_attributes(tmp_path):
    steps = RNG.normal(size=(12, 6)).astype("f4")
    with h5py.File(tmp_path / "steps.h5", "w") as file:
        for i in range(12):
            file[f"fields/step_{i}/u"] = steps[i]
            file[f"fields/step_{i}"].attrs["time"] = 0.5 * i
    ds = open_snapshots(
        tmp_path / "steps.h5",
        layout(
            variables={"u": {"path": "fields/step_{time}/u", "axes": ["x"]}},
            coordinates={"time": {"path": "fields/step_{time}", "attribute": "time"}},
        ),
    )
    np.testing.assert_array_equal(ds["u"].values[0], steps)  # 10 comes after 9
    np.testing.assert_array_equal(ds["time"], 0.5 * np.arange(12))
    np.testing.assert_array_equal(values_of(ds, "u")[:, 0], steps)


def test_names_of_groups_files_and_folders_are_parameters(tmp_path):
    cases = {(nu, re): RNG.normal(size=(4, 5)) for nu in (0.1, 1e-3) for re in (1, 10)}
    for (nu, re), field in cases.items():
        folder = tmp_path / f"results_{nu}"
        folder.mkdir(exist_ok=True)
        with h5py.File(folder / "out.h5", "a") as file:
            file[f"Re_{re}/u"] = field
    ds = open_snapshots(
        tmp_path,
        layout(files="results_{nu}/out.h5", variables={"u": {"path": "Re_{Re}/u", "axes": ["y", "x"]}}),
    )
    assert dict(ds.sizes) == {"sample": 4, "y": 4, "x": 5}
    for i in range(4):
        np.testing.assert_array_equal(ds["u"][i], cases[float(ds["nu"][i]), int(ds["Re"][i])])
    assert str(ds["origin"].values[0]) == "nu=0.001:Re=1"


def test_one_file_per_step_and_variable_and_a_mesh_in_another(tmp_path):
    field = RNG.normal(size=(2, 3, 7))
    points = RNG.normal(size=(7, 2))
    for run in range(2):
        (tmp_path / f"run{run}").mkdir()
        for step in range(3):
            with h5py.File(tmp_path / f"run{run}" / f"p_{step}", "w") as file:
                file["p"] = field[run, step][:, None]
            with h5py.File(tmp_path / f"run{run}" / f"v_{step}", "w") as file:
                file["v"] = 2 * field[run, step]
    with h5py.File(tmp_path / "mesh.h5", "w") as file:
        file["points"] = points
    mapping = layout(
        variables={
            "p": {"file": "run{sample}/p_{time}", "path": "p", "axes": ["point", "_"]},
            "v": {"file": "run{sample}/v_{time}", "path": "v", "axes": ["point"]},
        },
        coordinates={
            "x": {"file": "mesh.h5", "path": "points", "axes": ["point", "channel"], "select": {"channel": 0}},
            "y": {"file": "mesh.h5", "path": "points", "axes": ["point", "channel"], "select": {"channel": 1}},
        },
    )
    ds = open_snapshots(tmp_path, mapping)
    assert dict(ds.sizes) == {"sample": 2, "time": 3, "point": 7}
    np.testing.assert_array_equal(ds["p"], field)
    np.testing.assert_array_equal(ds["v"], 2 * field)
    np.testing.assert_array_equal(ds["y"], points[:, 1])
    assert len(find_files(tmp_path, mapping)) == 13
    (tmp_path / "run1" / "v_2").unlink()
    with pytest.raises(DataError, match="time"):
        open_snapshots(tmp_path, mapping)


def test_blocks_flat_grids_and_domain_parts_become_one_grid(tmp_path):
    field = RNG.normal(size=(5, 6, 8)).astype("f4")  # time, y, x
    blocks = field.reshape(5, 2, 3, 4, 2).transpose(0, 1, 3, 2, 4).reshape(5, 8, 3, 2)
    with h5py.File(tmp_path / "blocks.h5", "w") as file:
        file["flat"], file["blocks"], file["folded"] = field.reshape(5, 48), blocks, field.reshape(-1)
    ds = open_snapshots(
        tmp_path / "blocks.h5",
        layout(
            variables={
                "a": {"path": "flat", "axes": ["time", {"y": 6, "x": 8}]},
                "b": {"path": "blocks", "axes": ["time", {"y": 2, "x": 4}, "y", "x"]},
                "c": {"path": "folded", "axes": [{"time": 5, "y": 6, "x": 8}]},
            },
            coordinates={"x": {"start": 0.5, "step": 1, "axes": ["x"]}},
        ),
    )
    for name in "abc":
        np.testing.assert_array_equal(ds[name].values[0], field, err_msg=name)
        np.testing.assert_array_equal(values_of(ds, name)[:, 0], field)
    np.testing.assert_array_equal(ds["x"], np.arange(8) + 0.5)
    for part in range(3):  # parts of space with a guard cell at both ends
        with h5py.File(tmp_path / f"dump.{part}.h5", "w") as file:
            file["u"] = np.pad(field[:, 2 * part : 2 * part + 2], ((0, 0), (1, 1), (0, 0)), constant_values=np.nan)
    parts = layout(
        files="dump.{y}.h5", variables={"u": {"path": "u", "axes": ["time", "y", "x"], "select": {"y": [1, -1]}}}
    )
    np.testing.assert_array_equal(open_snapshots(tmp_path, parts)["u"].values[0], field)
    wrong = layout(variables={"a": {"path": "flat", "axes": ["time", {"y": 5, "x": 8}]}})
    with pytest.raises(DataError, match="48 entries, but the layout declares 5 x 8"):
        open_snapshots(tmp_path / "blocks.h5", wrong)


def test_components_are_datasets_and_tables_hold_scalars(tmp_path):
    names = [(b"time  ", 0.25), (b"dt  ", 0.1)]
    with h5py.File(tmp_path / "c.h5", "w") as file:
        for axis in "xyz":
            file[f"B/{axis}"] = np.full((3, 4), ord(axis), "f4")
        file["real scalars"] = np.array(names, [("name", "S6"), ("value", "f8")])
        file["pair"] = np.array([(1.0, 2.0)] * 3, [("real", "f8"), ("imag", "f8")])
    ds = open_snapshots(
        tmp_path / "c.h5",
        layout(
            variables={
                "B": {"path": "B/{channel}", "axes": ["y", "x"], "units": "T"},
                "im": {"path": "pair", "entry": "imag", "axes": ["y"]},
                "t": {"path": "real scalars", "entry": "time"},
            }
        ),
    )
    assert ds["channel"].values.tolist() == ["x", "y", "z"]
    assert ds["B"].dims == ("sample", "channel", "y", "x")
    assert ds["B"].attrs["units"] == "T"
    assert float(ds["t"][0]) == 0.25
    assert (ds["im"] == 2).all()


@pytest.mark.parametrize("key", ["run", None])
def test_a_table_next_to_the_files_has_the_parameters(tmp_path, key):
    for run in range(3):
        with h5py.File(tmp_path / f"sim_{run}.h5", "w") as file:
            file["u"] = np.full((4, 4), run, "f4")
    rows = [2, 0, 1] if key else [0, 1, 2]
    (tmp_path / "table.csv").write_text("run,Re\n" + "".join(f"{i:02d},{100 * i}\n" for i in rows))
    table = {"file": "table.csv"} | ({"key": key} if key else {})
    ds = open_snapshots(
        tmp_path, layout(files="sim_{run}.h5", table=table, variables={"u": {"path": "u", "axes": ["y", "x"]}})
    )
    np.testing.assert_array_equal(ds["Re"], 100 * ds["u"][:, 0, 0])
    (tmp_path / "table.csv").write_text("run,Re\n0,1\n1,1\n")
    with pytest.raises(DataError, match="row"):
        open_snapshots(
            tmp_path, layout(files="sim_{run}.h5", table=table, variables={"u": {"path": "u", "axes": ["y", "x"]}})
        )


def test_simulations_as_datasets_or_groups(tmp_path):
    x = RNG.normal(size=(11, 5, 4)).astype("f4")
    with h5py.File(tmp_path / "many.h5", "w") as file:
        for i in range(11):
            file[str(i)], file[f"g/{i}/u"] = x[i], x[i]
            file[f"g/{i}"].attrs["Re"] = float(i)
    ds = open_snapshots(
        tmp_path / "many.h5",
        layout(
            variables={
                "a": {"path": "{sample}", "axes": ["time", "x"]},
                "b": {"path": "g/{sample}/u", "axes": ["time", "x"]},
                "Re": {"path": "g/{sample}", "attribute": "Re"},
            }
        ).only(["a", "b", "Re"]),
    )
    np.testing.assert_array_equal(ds["a"], x)
    np.testing.assert_array_equal(ds["b"], x)
    np.testing.assert_array_equal(ds["Re"], np.arange(11))


def test_blanks_are_asked_and_answers_name_axes():
    variables = {"u": {"path": "u", "axes": ["n", "x"]}}
    with pytest.raises(ValidationError, match=r"which axis counts the simulations\? Write one of n, x, none"):
        layout(variables=variables, sample="???")
    with pytest.raises(ValidationError, match="no variable has the axis 'm'"):
        layout(variables=variables, sample="m")
    with pytest.raises(ValidationError, match="both simulations and time"):
        layout(variables=variables, sample="n", time="n")
    assert layout(variables=variables, sample="n", time="none").axis("n") == "sample"


def test_a_long_simulation_is_split_in_time(tmp_path):
    u = np.arange(40.0)[None, :, None] + np.zeros((2, 1, 3))
    ds = open_snapshots(xr.Dataset({"u": (("sample", "time", "x"), u)}))
    window = Window(steps_in=2, steps_out=1)
    with pytest.warns(
        UserWarning, match="of 40 steps train 0 to 25, validation 29 to 32, test 36 to 39, with gaps of 3"
    ):
        parts = split(ds, SplitSettings(by="time"), window=window)
    steps = {name: set(part["u"].values[0, :, 0].astype(int).tolist()) for name, part in parts.items()}
    assert min(steps["validation"]) - max(steps["train"]) > 3
    assert min(steps["test"]) - max(steps["validation"]) > 3
    assert split_ids(parts)["test"] == ["dataset[0] steps 36 to 39", "dataset[1] steps 36 to 39"]
    with pytest.raises(DataError, match="too few"):
        split(ds.isel(time=slice(0, 5)), SplitSettings(by="time"), window=window)


def test_other_kinds_of_files_open_by_their_content(tmp_path):
    u, x = RNG.normal(size=(6, 5, 4)), np.linspace(0, 1, 4)
    ds = xr.Dataset({"u": (("sample", "time", "x"), u)}, {"x": x, "time": ("time", np.arange(5.0))})
    ds.to_netcdf(tmp_path / "classic", engine="scipy")
    np.testing.assert_array_equal(open_snapshots(tmp_path / "classic")["u"], u)
    np.savez(tmp_path / "arrays.npz", u=u)
    scipy.io.savemat(tmp_path / "arrays.mat", {"u": u})
    mapping = layout(variables={"u": {"path": "u", "axes": ["sample", "time", "x"]}})
    for name in ("arrays.npz", "arrays.mat", "classic"):
        opened = open_snapshots(tmp_path / name, mapping)
        np.testing.assert_array_equal(opened["u"], u, err_msg=name)
        np.testing.assert_allclose(values_of(opened, "u")[:, 0].reshape(u.shape), u, rtol=1e-6)
    with pytest.raises(DataError, match="does not name the axes of 'u'"):
        open_snapshots(tmp_path / "arrays.mat")


def test_zarr_is_read_through_its_library(tmp_path):
    pytest.importorskip("zarr")
    u, x = RNG.normal(size=(6, 5, 4)), np.linspace(0, 1, 4)
    ds = xr.Dataset({"u": (("sample", "time", "x"), u, {"units": "m"})}, {"x": x, "time": ("time", np.arange(5.0))})
    ds["packed"] = (("sample",), np.arange(6.0))
    encoding = {"packed": {"dtype": "i2", "scale_factor": 0.5, "_FillValue": -1}, "u": {"chunks": (2, 5, 4)}}
    ds.to_zarr(tmp_path / "u.zarr", encoding=encoding)
    opened = open_snapshots(tmp_path / "u.zarr")
    np.testing.assert_array_equal(opened["u"], u)
    np.testing.assert_array_equal(opened["packed"], np.arange(6.0))
    np.testing.assert_array_equal(opened["x"], x)
    assert opened["u"].attrs["units"] == "m"
    np.testing.assert_allclose(values_of(opened, "u")[:, 0].reshape(u.shape), u, rtol=1e-6)
    assert "targets: [u" in describe(tmp_path / "u.zarr").suggested_config


def test_a_file_reached_twice_counts_once(tmp_path):
    for i in range(3):
        with h5py.File(tmp_path / f"run_{i}.H5", "w") as file:
            file["u"] = np.zeros((4, 4))
    os.symlink("run_2.H5", tmp_path / "latest.h5")
    os.link(tmp_path / "run_1.H5", tmp_path / "best")
    (tmp_path / "notes.txt").write_text("no data")
    assert len(find_files(tmp_path)) == 3
    assert tmp_path / "run_2.H5" in find_files(tmp_path)
    assert len(find_files(str(tmp_path / "*"))) == 4  # the pattern names the text too


def test_odd_variables_are_left_out_and_clocks_are_time(tmp_path):
    ds = xr.Dataset(
        {"u": (("ocean_time", "x"), RNG.normal(size=(5, 4)))},
        {"ocean_time": ("ocean_time", np.arange(5.0), {"units": "hours since 2001-01-01"})},
    )
    ds.to_netcdf(tmp_path / "odd.nc", engine="h5netcdf")
    with h5py.File(tmp_path / "odd.nc", "a") as file:
        file["meta"] = np.array([(1, 2.0)], dtype=[("id", "i4"), ("t", "f8")])
        h5py.h5d.create(file.id, b"flag", h5py.h5t.NATIVE_INT32, h5py.h5s.create(h5py.h5s.SCALAR))
    opened = open_snapshots(tmp_path / "odd.nc")
    assert set(opened.data_vars) == {"u"}
    assert opened["u"].dims == ("sample", "time", "x")
