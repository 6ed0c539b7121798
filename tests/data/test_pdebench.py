"""The four families of PDEBench, from files exact to their layout."""

from pathlib import Path

import h5py
import makers
import numpy as np
import pytest

from surrogate.data import Stream, Window, open_snapshots
from surrogate.data.formats.detect import detect
from surrogate.errors import DataError


def detected(path: Path) -> tuple[str, str]:
    with h5py.File(path) as file:
        found = detect(file)
    return found.name, found.reason


def test_per_seed(tmp_path: Path) -> None:
    path = tmp_path / "2D_diff-react_NA_NA.h5"
    data = makers.make_per_seed(path)
    ds = open_snapshots(path)
    assert detected(path) == ("pdebench", "PDEBench, family per seed: its 3 groups 0000 to 0002 hold 'data'")
    assert ds.data.dims == ("sample", "time", "channel", "y", "x")
    assert ds.data.chunks is not None
    np.testing.assert_array_equal(ds.data, np.moveaxis(data, -1, 2))
    assert ds.seed.values.tolist() == [0, 1, 2]
    assert ds.channel.values.tolist() == ["u", "v"]
    assert (float(ds.Du[0]), float(ds.k[2])) == (1e-3, 5e-3)
    assert ds.attrs["config"].startswith("Du: 1.0e-3\n")
    assert ds.time.values[[0, -1]].tolist() == [0, 5]
    assert -1 < ds.x.values[0] < ds.x.values[-1] < 1
    assert float(ds.data[:, 0].std()) > 5 * float(ds.data[:, 1:].std())  # the white noise at the start is kept


def test_per_seed_in_one_dimension(tmp_path: Path) -> None:
    path = tmp_path / "1D_diff-sorp_NA_NA.h5"
    data = makers.make_per_seed(path, axes=1)
    ds = open_snapshots(path)
    assert ds.data.sizes == {"sample": 3, "time": 26, "channel": 1, "x": 32}
    np.testing.assert_array_equal(ds.data[:, :, 0], data[..., 0])


@pytest.mark.parametrize("shuffle", [True, False])
def test_per_seed_streams_every_window_once(tmp_path: Path, shuffle: bool) -> None:
    data = np.moveaxis(makers.make_per_seed(tmp_path / "a.h5"), -1, 2)
    stream = Stream(
        open_snapshots(tmp_path / "a.h5"), ["data", "Du"], ["data"], batch_size=8, window=Window(), shuffle=shuffle
    )
    seen = []
    for batch in stream:
        for row, (sample, time) in enumerate(zip(batch.sample.tolist(), batch.time.tolist(), strict=True)):
            np.testing.assert_array_equal(batch.inputs[row, :2], data[sample, time])
            np.testing.assert_array_equal(batch.targets[row], data[sample, time + 1])
            seen.append((sample, time))
    assert len(seen) == len(set(seen)) == 3 * 25


def test_scalar_takes_the_first_times_and_the_number_in_the_name(tmp_path: Path) -> None:
    path = tmp_path / "1D_Advection_Sols_beta0.1.hdf5"
    data = makers.make_scalar(path)
    ds = open_snapshots(path, "pdebench")
    assert ds.tensor.dims == ("sample", "time", "x")
    np.testing.assert_array_equal(ds.tensor, data)
    np.testing.assert_allclose(ds.time, [0, 0.2, 0.4, 0.6, 0.8], rtol=1e-6)
    assert ds.beta.dims == ("sample",)
    assert set(ds.beta.values) == {0.1}


def test_scalar_attributes_win_over_the_name(tmp_path: Path) -> None:
    makers.make_scalar(tmp_path / "ReacDiff_Nu0.5_Rho1.0.hdf5", attributes={"Nu": 0.25})
    ds = open_snapshots(tmp_path / "ReacDiff_Nu0.5_Rho1.0.hdf5")
    assert (float(ds.Nu[0]), float(ds.rho[0])) == (0.25, 1.0)


def test_many_files_with_their_parameters(tmp_path: Path) -> None:
    for beta in (0.1, 0.4):
        makers.make_scalar(tmp_path / f"1D_Advection_Sols_beta{beta}.hdf5")
    ds = open_snapshots(str(tmp_path / "*.hdf5"))
    assert ds.beta.values.tolist() == [0.1] * 6 + [0.4] * 6


def test_darcy(tmp_path: Path) -> None:
    tensor, nu = makers.make_darcy(tmp_path / "2D_DarcyFlow_beta1.0_Train.hdf5")
    ds = open_snapshots(tmp_path / "2D_DarcyFlow_beta1.0_Train.hdf5")
    assert ds.tensor.dims == ds.nu.dims == ("sample", "x", "y")
    np.testing.assert_array_equal(ds.tensor, tensor[:, 0])
    np.testing.assert_array_equal(ds.nu, nu)
    assert "time" not in ds.dims
    assert float(ds.beta[3]) == 1
    stream = Stream(ds, ["nu"], ["tensor"], batch_size=8, shuffle=False)
    np.testing.assert_array_equal(next(iter(stream)).targets, tensor)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_flow(tmp_path: Path, axes: int) -> None:
    data = makers.make_flow(tmp_path / "a.hdf5", axes=axes)
    ds = open_snapshots(tmp_path / "a.hdf5")
    for name, values in data.items():
        assert ds[name].dims == ("sample", "time", "x", "y", "z")[: 2 + axes]
        np.testing.assert_array_equal(ds[name], values)
    assert ds.time.values.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose([float(ds[name][0]) for name in ("eta", "zeta", "M")], [0.01, 0.02, 0.1])


def test_incompressible(tmp_path: Path) -> None:
    data = makers.make_incompressible(tmp_path / "a.h5")
    ds = open_snapshots(tmp_path / "a.h5")
    np.testing.assert_array_equal(ds.velocity, np.moveaxis(data["velocity"], -1, 2))
    np.testing.assert_array_equal(ds.particles, data["particles"][..., 0])
    np.testing.assert_array_equal(ds.force, np.moveaxis(data["force"], -1, 1))
    assert ds.channel.values.tolist() == ["x", "y"]
    assert ds.time.values.tolist() == [0, 1, 2, 3]
    stream = Stream(ds, ["velocity", "force"], ["particles"], batch_size=4)
    assert stream.input_names == ("velocity.x[t+0]", "velocity.y[t+0]", "force.x", "force.y")


def test_incompressible_times_of_every_sample(tmp_path: Path) -> None:
    data = makers.make_incompressible(tmp_path / "a.h5", same_times=False)
    ds = open_snapshots(tmp_path / "a.h5")
    assert "time" not in ds.coords
    np.testing.assert_array_equal(ds.sample_time, data["t"])


def test_a_users_file_with_such_a_name_alone_is_not_taken_for_it(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["density"] = np.ones((2, 3, 4))
    assert detected(tmp_path / "a.h5")[0] == "unknown"
    with pytest.raises(DataError, match="declare a layout"):
        open_snapshots(tmp_path / "a.h5")
    assert open_snapshots(tmp_path / "a.h5", "pdebench").density.dims == ("sample", "time", "x")


def damaged(path: Path, change) -> Path:
    makers.make_per_seed(path)
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def _short(file):
    del file["0001/data"]
    file["0001/data"] = np.ones((5, 32, 32, 2), "f4")


def _moved(file):
    file["0002/grid/x"][0] = 7


def _half(file):
    del file["0001/data"]
    file.create_dataset("0001/data", (26, 32, 32, 2), "f4", chunks=(13, 16, 32, 1))[:13] = 1


def _flat(file):
    for seed in ("0000", "0001", "0002"):
        del file[f"{seed}/data"]
        file[f"{seed}/data"] = np.ones((5, 32), "f4")


def _linked(file):
    del file["0001/data"]
    file["0001/data"] = h5py.ExternalLink("/elsewhere.h5", "data")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_short, r"0000/data is \(26, 32, 32, 2\) float32, but 0001/data is \(5, 32, 32, 2\)"),
        (_moved, "0002/grid/x differs from that of 0000"),
        (_half, "0001/data: 4 of 8 chunks were never written and would read as 0.0"),
        (_flat, r"0000/data: has shape \(5, 32\), PDEBench prescribes"),
        (_linked, "an external link leads to /elsewhere.h5, outside of"),
    ],
)
def test_deviations_are_refused(tmp_path: Path, change, text: str) -> None:
    with pytest.raises(DataError, match=text):
        open_snapshots(damaged(tmp_path / "a.h5", change))


def test_asked_for_but_not_found(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["u"] = np.ones((2, 3))
    with pytest.raises(DataError, match=r"a.h5: is not in PDEBench's layout: .*the file holds u \(2, 3\)"):
        open_snapshots(tmp_path / "a.h5", "pdebench")
