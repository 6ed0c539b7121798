"""Many files of one structure, each a simulation, are put together at once: as one by one, in fewer steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from surrogate.data import Mapping, Stream, open_snapshots
from surrogate.data.formats import mapped
from surrogate.errors import DataError

ENTRIES = {
    "variables": {
        "u": {"path": "u", "axes": ["time", "y"]},
        "mask": {"path": "mask", "axes": ["y"]},
        "nu": {"attribute": "nu", "path": "/"},
    },
    "coordinates": {"y": {"path": "y", "axes": ["y"]}, "date": {"path": "date"}},
}


def write(folder: Path, count: int, change: Callable[[int, h5py.File], None] = lambda number, file: None) -> None:
    rng = np.random.default_rng(0)
    for number in range(count):
        with h5py.File(folder / f"run_{number}.h5", "w") as file:
            file.attrs["nu"], file.attrs["program"] = 0.5 * number, "solver"
            file["u"], file["mask"] = rng.normal(size=(3, 4)), rng.normal(size=4)
            file["y"], file["date"] = np.arange(4.0), 2000.0 + number
            file["u"].attrs["units"] = "m"
            change(number, file)


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> Callable[..., xr.Dataset]:
    def opened(*arguments: object) -> xr.Dataset:
        with monkeypatch.context() as patch:
            patch.setattr(mapped, "_one_simulation_a_file", lambda layout: False)
            return open_snapshots(*arguments)

    return opened


def other_date(number: int, file: h5py.File) -> None:
    file.attrs["written"] = number


def a_link(number: int, file: h5py.File) -> None:
    """All files but the first show the field of the first."""
    if number:
        del file["u"]
        file["u"] = h5py.ExternalLink("run_0.h5", "/u")


def other_place(number: int, file: h5py.File) -> None:
    """The datasets are at other bytes, and stored in chunks in one file."""
    file["filler"] = np.zeros(100 * number)
    if number == 3:
        values = file["u"][()]
        del file["u"]
        file.create_dataset("u", data=values, chunks=(1, 4)).attrs["units"] = "m"


def other_length(number: int, file: h5py.File) -> None:
    if number == 2:
        del file["u"]
        file["u"] = np.ones((5, 4))


def other_units(number: int, file: h5py.File) -> None:
    file["u"].attrs["units"] = "m" if number < 2 else "mm"


def other_grid(number: int, file: h5py.File) -> None:
    file["y"][...] = np.arange(4.0) + 0.1 * (number == 1)


def other_type(number: int, file: h5py.File) -> None:
    if number == 1:
        del file["u"]
        file["u"] = np.ones((3, 4), "f4")


@pytest.mark.parametrize("files", [{}, {"files": "run_{run}.h5"}], ids=["listed", "by pattern"])
@pytest.mark.filterwarnings("ignore:run_0.h5 left out")
@pytest.mark.parametrize("change", [lambda number, file: None, other_date, other_place, a_link])
def test_many_files_at_once_are_the_files_one_by_one(tmp_path, one_by_one, files, change) -> None:
    write(tmp_path, 12, change)
    layout = Mapping.model_validate({**ENTRIES, **files})
    whole = open_snapshots(tmp_path, layout)
    xr.testing.assert_identical(whole.compute(), one_by_one(tmp_path, layout).compute())
    assert len(whole["u"].data.dask) < 12
    batches = list(Stream(whole, ["mask"], ["u"], batch_size=5, shuffle=False))
    assert sum(len(batch.inputs) for batch in batches) == 2 * whole.sizes["sample"]


@pytest.mark.parametrize("files", [{}, {"files": "run_{run}.h5"}], ids=["listed", "by pattern"])
@pytest.mark.parametrize("change", [other_length, other_units, other_grid, other_type])
def test_files_that_differ_are_told_as_one_by_one(tmp_path, one_by_one, files, change) -> None:
    write(tmp_path, 4, change)
    layout = Mapping.model_validate({**ENTRIES, **files})
    said = []
    for opened in (open_snapshots, one_by_one):
        with pytest.raises(DataError) as refused:
            opened(tmp_path, layout)
        said.append(str(refused.value))
    assert said[0] == said[1]


def test_the_files_of_a_simulation_are_looked_up_and_not_searched(tmp_path, monkeypatch) -> None:
    """Two patterns, so that files are put together simulation by simulation, in linear time."""
    for number in range(60):
        for kind in "ab":
            with h5py.File(tmp_path / f"{kind}_{number}.h5", "w") as file:
                file["u"] = np.full(3, number)
    asked = []
    plain = mapped._identity
    monkeypatch.setattr(mapped, "_identity", lambda *arguments: asked.append(1) or plain(*arguments))
    names = {kind: {"file": f"{kind}_{{run}}.h5", "path": "u", "axes": ["x"]} for kind in "ab"}
    opened = open_snapshots(tmp_path, Mapping.model_validate({"variables": names}))
    np.testing.assert_array_equal(opened["a"][:, 0], np.arange(60))
    np.testing.assert_array_equal(opened["b"], opened["a"])
    assert len(asked) <= 2 * 120 + 4
