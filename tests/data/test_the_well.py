"""The Well, from files exact to its layout."""

from pathlib import Path

import h5py
import makers
import numpy as np
import pytest
import xarray as xr

from surrogate.data import Stream, Window, open_snapshots, split
from surrogate.data.convert import convert
from surrogate.data.formats.detect import detect
from surrogate.data.missing import drop_incomplete, mask_missing
from surrogate.data.settings import SplitSettings
from surrogate.data.streaming import windows
from surrogate.errors import ConfigError, DataError


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


LENGTHS = {"0.hdf5": (5, 3), "1.hdf5": (7, 2), "2.hdf5": (4, 1)}  # steps and trajectories


def ragged(folder: Path) -> tuple[xr.Dataset, list[dict[str, np.ndarray]]]:
    truths = []
    for seed, (name, (steps, samples)) in enumerate(LENGTHS.items()):
        path = folder / "w" / "data" / "train" / name
        truths.append(makers.make_well(path, steps=steps, samples=samples, seed=seed))
    return open_snapshots(folder / "w"), truths


def test_trajectories_and_steps_may_differ_between_files(tmp_path: Path) -> None:
    ds, truths = ragged(tmp_path)
    assert dict(ds.sizes) | {"sample": 6, "time": 7} == dict(ds.sizes)
    assert ds.time_steps.values.tolist() == [5, 5, 5, 7, 7, 4]
    assert ds.time.values.tolist() == list(range(7))
    for first, truth in zip((0, 3, 5), truths, strict=True):
        count, steps = truth["A"].shape[:2]
        np.testing.assert_array_equal(ds.A[first : first + count, :steps], truth["A"])
        assert ds.A[first : first + count, steps:].isnull().all()
        np.testing.assert_array_equal(ds.forcing[first : first + count, :steps], np.tile(truth["forcing"], (count, 1)))


@pytest.mark.parametrize("runs", [1, 10**9], ids=["from the files", "through the buffer"])
@pytest.mark.parametrize("buffer", [2_000, 10**7])
def test_windows_stay_within_the_steps_of_a_trajectory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: int, buffer: int
) -> None:
    monkeypatch.setattr(windows, "SHORT_RUN", runs)
    ds, truths = ragged(tmp_path)
    window = Window(steps_in=2, steps_out=2)
    stream = Stream(
        ds.isel(sample=[0, 2, 3, 4, 5]), ["A", "F"], ["A"], batch_size=3, window=window, buffer_bytes=buffer
    )
    assert (stream._straight is not None) == (runs == 1)
    assert stream.reading["A"] == "direct"
    seen = set()
    places = [(0, 0), (0, 2), (1, 0), (1, 1), (2, 0)]  # file and trajectory of each sample
    for batch in stream:
        for row, (sample, time) in enumerate(zip(batch.sample.tolist(), batch.time.tolist(), strict=True)):
            file, trajectory = places[sample]
            np.testing.assert_array_equal(batch.inputs[row, 0], truths[file]["A"][trajectory, time])
            np.testing.assert_array_equal(batch.targets[row, 1], truths[file]["A"][trajectory, time + 3])
            seen.add((sample, time))
    assert seen == {(s, t) for s, steps in enumerate((5, 5, 7, 7, 4)) for t in range(steps - 3)}
    assert len(seen) == stream.samples


def test_a_window_longer_than_some_trajectories_leaves_them_out(tmp_path: Path) -> None:
    ds, _ = ragged(tmp_path)
    stream = Stream(ds, ["A"], ["A"], batch_size=2, window=Window(steps_in=3, steps_out=3))
    assert {int(s) for batch in stream for s in batch.sample} == {3, 4}
    with pytest.raises(ConfigError, match="spans 8 time steps, the data have 7"):
        Stream(ds, ["A"], ["A"], batch_size=2, window=Window(steps_in=4, steps_out=4))


def test_absent_steps_are_no_missing_values(tmp_path: Path) -> None:
    ds, _ = ragged(tmp_path)
    assert drop_incomplete(ds, ["A", "velocity"]).sizes["sample"] == 6
    assert mask_missing(ds, ["A"])["A_valid"].all()


def test_times_that_differ_are_kept_for_every_trajectory(tmp_path: Path) -> None:
    ragged(tmp_path)
    with h5py.File(tmp_path / "w" / "data" / "train" / "1.hdf5", "r+") as file:
        file["dimensions/time"][...] = np.arange(7) / 2
    ds = open_snapshots(tmp_path / "w")
    assert "time" not in ds.coords
    np.testing.assert_array_equal(ds.sample_time[3], np.arange(7) / 2)
    np.testing.assert_array_equal(ds.sample_time[5], [0, 1, 2, 3, np.nan, np.nan, np.nan])


def test_unequal_lengths_survive_shards_and_are_refused_by_layouts_of_one_length(tmp_path: Path) -> None:
    ds, _ = ragged(tmp_path)
    again = open_snapshots(convert(tmp_path / "w", tmp_path / "shards", "shards"))
    assert again.time_steps.values.tolist() == ds.time_steps.values.tolist()
    window = Window(steps_in=2, steps_out=1)
    one, two = (
        Stream(data, ["A"], ["A"], batch_size=30, window=window, shuffle=False, buffer_bytes=10**6)
        for data in (ds, again)
    )
    for a, b in zip(one, two, strict=True):
        assert (a.inputs == b.inputs).all()
        assert (a.time == b.time).all()
    for target in ("the_well", "pdebench"):
        with pytest.raises(DataError, match="simulations differ in their number of time steps"):
            convert(tmp_path / "w", tmp_path / target, target)


def test_masks_tell_where_boundaries_lie(tmp_path: Path) -> None:
    path, _ = one(tmp_path)
    ds = open_snapshots(path)
    assert ds.x_periodic_mask.dims == ("x",)
    assert ds.x_periodic_mask.values.tolist() == [True, False, False, True]
    wall = np.random.default_rng(0).random((3, 4, 3)) > 0.5
    with h5py.File(path, "r+") as file:
        group = file.create_group("boundary_conditions/maze_wall")
        group.attrs["bc_type"], group.attrs["associated_dims"] = "wall", ["x", "y"]
        group.attrs["sample_varying"], group.attrs["time_varying"] = True, False
        group["mask"] = wall
    ds = open_snapshots(path)
    assert ds.maze_wall_mask.dims == ("sample", "x", "y")
    np.testing.assert_array_equal(ds.maze_wall_mask, wall)
    batch = next(iter(Stream(ds, ["A", "maze_wall_mask"], ["A"], batch_size=12, shuffle=False)))
    np.testing.assert_array_equal(batch.inputs[4, 1], wall[1])
    again = open_snapshots(convert(path, tmp_path / "again", "the_well"))
    np.testing.assert_array_equal(again.maze_wall_mask, wall)
    assert again.maze_wall_mask.dims == ("sample", "x", "y")


def test_masks_that_differ_between_files_belong_to_their_samples(tmp_path: Path) -> None:
    base = tmp_path / "w" / "data" / "train"
    for seed in range(3):
        makers.make_well(base / f"{seed}.hdf5", seed=seed, samples=2)
    with h5py.File(base / "1.hdf5", "r+") as file:
        file["boundary_conditions/x_periodic/mask"][...] = [True, False, False, False]
    with h5py.File(base / "2.hdf5", "r+") as file:
        del file["boundary_conditions/x_periodic"]
    masks = open_snapshots(tmp_path / "w").x_periodic_mask
    assert masks.dims == ("sample", "x")
    assert masks.values[:, [0, 3]].tolist() == [[True, True]] * 2 + [[True, False]] * 2 + [[False, False]] * 2


def test_asked_for_but_not_found(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["u"] = np.ones((2, 3))
    with pytest.raises(DataError, match="is not in The Well's layout: no groups 'dimensions'"):
        open_snapshots(tmp_path / "a.h5", "the_well")
