"""Small data sets written fast are those that xarray writes."""

import io
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from surrogate.data.hdf5.netcdf import load_netcdf, netcdf_image

AXES = ("sample", "time", "variable")
EVERYTHING = xr.Dataset(
    {
        "error": (AXES, np.random.default_rng(0).normal(size=(4, 3, 2)), {"units": "K", "count": 3, "band": [1, 2]}),
        "flag": ("sample", np.arange(4) % 2 == 0),
        "whole": (("sample", "band"), np.ones((4, 2), "i4"), {"share": 0.5}),
        "single": ("band", np.array([1, np.nan], "f4")),
        "number": ((), 1.5),
        "name": ("sample", np.array(["a", "", "\u00e9", "long enough"], object)),
        "date": ("time", np.array(["2020-01-01", "2020-01-02", "NaT"], "M8[ns]")),
        "lasts": ("time", np.array([1, 2, 3], "m8[s]")),
        "none": ("empty", np.zeros(0)),
    },
    {"time": [0.0, 1.0, 2.0], "variable": ["u", "v"], "split": ("sample", ["test"] * 4), "sample": np.arange(4)},
    {"title": "\u03bb of text", "count": 1, "level": 0.9, "metrics": ["rmse", "mae"], "note": ""},
)
DATASETS = {"everything": EVERYTHING, "nothing": xr.Dataset(), "plain": EVERYTHING[["error"]].drop_vars("split")}


@pytest.mark.parametrize("name", DATASETS)
def test_it_is_read_as_what_xarray_writes(name: str) -> None:
    ds = DATASETS[name]
    ours, theirs = (io.BytesIO(content) for content in (netcdf_image(ds), bytes(ds.to_netcdf(engine="h5netcdf"))))
    found, expected = (xr.load_dataset(file, engine="h5netcdf") for file in (ours, theirs))
    xr.testing.assert_identical(found, expected)
    assert [*found.variables] == [*expected.variables]
    for key, variable in expected.variables.items():
        assert found[key].dtype == variable.dtype, key
        assert str(found[key].encoding.get("_FillValue")) == str(variable.encoding.get("_FillValue")), key


@pytest.mark.parametrize("written_by", ["ours", "xarray"])
@pytest.mark.parametrize("name", DATASETS)
def test_it_is_read_as_xarray_reads_it(name: str, written_by: str, tmp_path: Path) -> None:
    path = tmp_path / "data.nc"
    content = netcdf_image(DATASETS[name]) if written_by == "ours" else DATASETS[name].to_netcdf(engine="h5netcdf")
    path.write_bytes(bytes(content))
    found = load_netcdf(path)
    expected = xr.load_dataset(path, engine="h5netcdf", decode_times=False, decode_timedelta=False)
    xr.testing.assert_identical(found, expected)
    assert [*found.variables] == [*expected.variables]
    assert {key: variable.dtype for key, variable in found.variables.items()} == {
        key: variable.dtype for key, variable in expected.variables.items()
    }
    assert {type(value) for value in found.attrs.values()} == {type(value) for value in expected.attrs.values()}


def test_the_same_data_give_the_same_bytes() -> None:
    assert netcdf_image(EVERYTHING) == netcdf_image(EVERYTHING.copy(deep=True))
