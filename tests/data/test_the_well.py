"""The Well, from files exact to its layout."""

from pathlib import Path

import h5py
import makers
import numpy as np
import pytest

from surrogate.checks import DataError
from surrogate.data import Stream, open_snapshots, split
from surrogate.data.detect import detect
from surrogate.data.settings import SplitSettings


def one(folder: Path, **options) -> tuple[Path, dict[str, np.ndarray]]:
    path = folder / "gray_scott" / "data" / "train" / "a.hdf5"
    return path, makers.make_well(path, **options)


def test_fields_of_every_order_with_absent_dimensions(tmp_path: Path) -> None:
    path, truth = one(tmp_path)
    ds = open_snapshots(path)
    with h5py.File(path) as file:
        assert detect(file).name == "the_well"
    assert ds.A.dims == ("sample", "time", "x", "y")
    np.testing.assert_array_equal(ds.A, truth["A"])
    np.testing.assert_array_equal(ds.height, np.repeat(truth["height"][:, None], 4, axis=1))
    assert ds["mask"].dims == ("x", "y")
    np.testing.assert_array_equal(ds["mask"], truth["mask"])
    np.testing.assert_array_equal(ds.velocity, np.moveaxis(truth["velocity"], -1, 2))
    assert ds.channel.values.tolist() == ["x", "y"]
    assert ds.stress.dims == ("sample", "time", "tensor_channel", "x", "y")
    assert ds.tensor_channel.values.tolist() == ["xx", "xy", "yx", "yy"]
    for index, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        expected = np.repeat(truth["stress"][..., i, j][..., None], 3, axis=-1)
        np.testing.assert_array_equal(ds.stress[:, :, index], expected)
    assert all(ds[name].chunks for name in ("A", "height", "velocity", "stress"))


def test_every_form_of_a_scalar(tmp_path: Path) -> None:
    path, truth = one(tmp_path)
    ds = open_snapshots(path)
    np.testing.assert_array_equal(ds.F, np.full(3, truth["F"]))
    np.testing.assert_array_equal(ds.k, truth["k"])
    assert {"F", "k"} <= set(ds.coords)
    np.testing.assert_array_equal(ds.forcing, truth["forcing"])
    np.testing.assert_array_equal(ds.energy, truth["energy"])
    assert (ds.forcing.dims, ds.energy.dims) == (("time",), ("sample", "time"))


def test_attributes_and_boundary_conditions(tmp_path: Path) -> None:
    ds = open_snapshots(one(tmp_path)[0])
    assert ds.attrs["simulation_parameters"] == ["F", "k"]
    assert ds.attrs["boundary_conditions"] == (
        '{"x_periodic": {"bc_type": "periodic", "associated_dims": ["x"], "associated_fields": ["A"]}}'
    )


@pytest.mark.parametrize(
    "stats",
    [{"mean": {"A": 0.5, "velocity": [1.0, 2.0]}}, {"A": {"mean": 0.5}, "velocity": {"mean": [1.0, 2.0]}}, None],
)
def test_statistics_may_miss_keys(tmp_path: Path, stats: dict | None) -> None:
    ds = open_snapshots(one(tmp_path, stats=stats)[0])
    assert ds.A.attrs == ({"mean": 0.5} if stats else {})
    assert ds.velocity.attrs.get("mean") == ([1.0, 2.0] if stats else None)
    assert "std" not in ds.A.attrs


def test_a_folder_opens_with_its_splits_as_groups(tmp_path: Path) -> None:
    base = tmp_path / "gray_scott"
    truths = [
        makers.make_well(base / "data" / name / f"F{seed}.hdf5", feed=seed / 10, seed=seed)
        for seed, name in enumerate(("train", "valid", "test"))
    ]
    ds = open_snapshots(base)
    assert ds.group.values.tolist() == ["train"] * 3 + ["valid"] * 3 + ["test"] * 3
    np.testing.assert_allclose(ds.F, [0] * 3 + [0.1] * 3 + [0.2] * 3, rtol=1e-6)
    for index, truth in enumerate(truths):  # a field that differs between files is broadcast along their samples
        np.testing.assert_array_equal(ds["mask"][3 * index], truth["mask"])
    chosen = SplitSettings.model_validate({"validation": {"group": "valid"}, "test": {"group": "test"}})
    parts = split(ds, chosen)
    assert {name: part.sizes["sample"] for name, part in parts.items()} == {"train": 3, "validation": 3, "test": 3}


def test_files_of_the_same_name_in_two_folders_keep_their_identity(tmp_path: Path) -> None:
    for name in ("train", "test"):
        makers.make_well(tmp_path / "w" / "data" / name / "a.hdf5")
    origins = open_snapshots(tmp_path / "w").origin.values.tolist()
    assert origins[0] == "train/a.hdf5[0]"
    assert len(set(origins)) == 6


def test_streams_channels_of_vectors_and_tensors(tmp_path: Path) -> None:
    path, truth = one(tmp_path)
    stream = Stream(open_snapshots(path), ["velocity", "height", "F"], ["stress", "A"], batch_size=12, shuffle=False)
    assert stream.input_names == ("velocity.x[t+0]", "velocity.y[t+0]", "height", "F")
    assert stream.target_names == (*(f"stress.{c}[t+1]" for c in ("xx", "xy", "yx", "yy")), "A[t+1]")
    batch = next(iter(stream))
    np.testing.assert_array_equal(batch.inputs[0, 1], truth["velocity"][0, 0, ..., 1])
    np.testing.assert_array_equal(batch.inputs[0, 2], np.broadcast_to(truth["height"][0], (4, 3)))
    np.testing.assert_array_equal(batch.targets[3, 2, :, 1], truth["stress"][0, 4, :, 1, 0])


def test_times_of_every_trajectory(tmp_path: Path) -> None:
    path, _ = one(tmp_path)
    with h5py.File(path, "r+") as file:
        del file["dimensions/time"]
        times = np.arange(5, dtype="f4") * np.array([[1], [2], [3]], "f4")
        item = file.create_dataset("dimensions/time", data=times)
        item.attrs["sample_varying"], item.attrs["time_varying"] = True, True
    ds = open_snapshots(path)
    np.testing.assert_array_equal(ds.sample_time, times)
    assert "time" not in ds.coords


def test_empty_groups_and_fields_without_names(tmp_path: Path) -> None:
    path, truth = one(tmp_path)
    with h5py.File(path, "r+") as file:
        del file["t2_fields"], file["scalars"], file["boundary_conditions"]
        file.create_group("t2_fields")
        del file["t0_fields"].attrs["field_names"]
        del file.attrs["n_trajectories"]
    ds = open_snapshots(path, "the_well")
    assert set(ds.data_vars) == {"A", "height", "mask", "velocity"}
    np.testing.assert_array_equal(ds.A, truth["A"])


def _flags(file):
    file["t0_fields/A"].attrs["dim_varying"] = [True]


def _rank(file):
    file["t0_fields/A"].attrs["time_varying"] = False


def _length(file):
    file.attrs["n_trajectories"] = 2


def _lost(file):
    del file["dimensions/time"]


def _absent(file):
    del file["t0_fields/A"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_flags, r"t0_fields/A: dim_varying has 1 entries, but there are 2 spatial dimensions \['x', 'y'\]"),
        (_rank, r"t0_fields/A: has shape \(3, 5, 4, 3\), but its layout prescribes the axes \[sample, x, y\]"),
        (_length, "t0_fields/A: has 3 entries along 'sample', the file says 2"),
        (_lost, "no dataset 'dimensions/time', which The Well prescribes"),
        (_absent, "no dataset 't0_fields/A'"),
    ],
)
def test_deviations_are_refused(tmp_path: Path, change, text: str) -> None:
    path, _ = one(tmp_path)
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(DataError, match=text):
        open_snapshots(path)


def test_files_of_other_lengths_are_refused(tmp_path: Path) -> None:
    for steps, seed in ((5, 0), (6, 1)):
        makers.make_well(tmp_path / "w" / "data" / "train" / f"{seed}.hdf5", steps=steps, seed=seed)
    with pytest.raises(DataError, match=r"0.hdf5 and 1.hdf5 cannot be joined: .*5 and 6 entries along time"):
        open_snapshots(tmp_path / "w")


def test_asked_for_but_not_found(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["u"] = np.ones((2, 3))
    with pytest.raises(DataError, match="is not in The Well's layout: no groups 'dimensions'"):
        open_snapshots(tmp_path / "a.h5", "the_well")
