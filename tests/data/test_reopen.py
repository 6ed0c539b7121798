"""Data that are opened again are the same object only while nothing behind them has changed."""

import os

import h5py
import numpy as np
import pytest
import xarray as xr

from surrogate.data import DataSettings, MappedVariable, Mapping, open_data, open_snapshots, reopen


@pytest.fixture
def opened(monkeypatch):
    """Count the calls of `open_snapshots`."""
    calls = []
    monkeypatch.setattr(reopen, "open_snapshots", lambda *given: calls.append(given) or open_snapshots(*given))
    monkeypatch.setattr(reopen, "_last", [])
    return calls


def write(path, value):
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = np.full((3, 4), value, "f4"), np.full((3, 4), -value, "f4")


def of(folder, name="a"):
    layout = Mapping(variables={"u": MappedVariable(path=name, axes=("sample", "x"))})
    return open_data(DataSettings(path=str(folder), layout=layout, inputs=["u"], targets=["u"]))


def test_unchanged_files_are_opened_once(tmp_path, opened):
    write(tmp_path / "1.h5", 1.0)
    first, again = of(tmp_path), of(tmp_path)
    assert len(opened) == 1
    xr.testing.assert_identical(first, again)
    first["u"] = first["u"] + 1  # what one user does to it is not seen by another
    np.testing.assert_array_equal(of(tmp_path)["u"], again["u"])


def test_another_layout_or_file_is_read(tmp_path, opened):
    write(tmp_path / "1.h5", 1.0)
    assert float(of(tmp_path)["u"].max()) == 1
    assert float(of(tmp_path, "b")["u"].max()) == -1
    write(tmp_path / "2.h5", 2.0)
    assert of(tmp_path, "b").sizes["sample"] == 6
    before = (tmp_path / "2.h5").stat()
    write(tmp_path / "new", 3.0)
    os.utime(tmp_path / "new", ns=(before.st_atime_ns, before.st_mtime_ns))  # only the inode differs
    (tmp_path / "new").rename(tmp_path / "2.h5")
    assert float(of(tmp_path, "b")["u"].min()) == -3
    assert len(opened) == 4
