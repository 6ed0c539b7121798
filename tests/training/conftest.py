"""Data of the tests of training."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 24 samples of a(x) and u = a(x - 1)^2 + a(x)."""
    a = np.random.default_rng(0).normal(size=(24, 8)).astype("f4")
    u = (np.roll(a, 1, axis=1) ** 2 + a).astype("f4")
    path = tmp_path_factory.mktemp("data") / "data.nc"
    xr.Dataset({"a": (("sample", "x"), a), "u": (("sample", "x"), u)}).to_netcdf(path, engine="h5netcdf")
    return path
