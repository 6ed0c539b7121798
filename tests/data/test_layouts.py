"""Files with named dimensions, declared mappings, joining: values, axes, chunks and what is kept."""

import contextlib
import multiprocessing

import h5py
import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError

from surrogate.config import Source, validate
from surrogate.data import DataSettings, Mapping, Stream, open_snapshots
from surrogate.data.formats.detect import detect
from surrogate.data.formats.text import encode_text
from surrogate.data.hdf5.array import HANDLES, _handles
from surrogate.data.layouts import BLOCK_BYTES, block_shape
from surrogate.data.store import Manifest, write_manifest, write_shard
from surrogate.errors import ConfigError, DataError


def mapping(**variables):
    return Mapping.model_validate({"variables": {k: {"path": k, "axes": axes} for k, axes in variables.items()}})


def snapshots(samples=6, seed=0):
    rng = np.random.default_rng(seed)
    return xr.Dataset(
        {
            "u": (("sample", "time", "y", "x"), rng.normal(size=(samples, 3, 4, 5)).astype("f4"), {"units": "m/s"}),
            "nu": (("sample",), rng.normal(size=samples)),
        },
        coords={"x": ("x", np.linspace(0, 1, 5), {"units": "m"}), "time": ("time", [0.0, 0.5, 1.0])},
        attrs={"equation": "burgers"},
    )


def test_netcdf_keeps_names_coordinates_units_and_attributes(tmp_path):
    ds = snapshots()
    ds.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    opened = open_snapshots(tmp_path / "a.nc")
    assert opened.u.chunks is not None
    xr.testing.assert_identical(opened.drop_vars("origin").compute(), ds)
    assert opened.origin.values.tolist() == [f"a.nc[{index}]" for index in range(6)]


def test_shards_of_a_manifest(tmp_path):
    parts = [snapshots(3, 1), snapshots(2, 2)]
    shards = [write_shard(tmp_path / f"part-{index}.h5", ds) for index, ds in enumerate(parts)]
    write_manifest(tmp_path, Manifest(name="toy", digest="0", samples=5, shards=shards))
    write_shard(tmp_path / "left-over.h5", parts[0])
    opened = open_snapshots(tmp_path)
    np.testing.assert_array_equal(opened.u, np.concatenate([ds.u for ds in parts]))
    assert opened.u.attrs["units"] == "m/s"
    assert opened.sizes == {"sample": 5, "time": 3, "y": 4, "x": 5}
    with open(tmp_path / "part-1.h5", "ab") as file:
        file.write(b"more")
    with pytest.raises(DataError, match=r"part-1.h5 has \d+ bytes, its manifest says \d+"):
        open_snapshots(tmp_path)


def test_packed_values_and_missing_ones_are_decoded(tmp_path):
    ds = xr.Dataset({"u": (("sample", "x"), np.array([[1.5, np.nan], [2.0, 2.5]]))})
    packed = {"u": {"dtype": "i2", "scale_factor": 0.5, "add_offset": 1.0, "_FillValue": -9}}
    ds.to_netcdf(tmp_path / "a.nc", engine="h5netcdf", encoding=packed)
    opened = open_snapshots(tmp_path / "a.nc")
    np.testing.assert_array_equal(opened.u, ds.u)
    with pytest.raises(DataError, match=r"'u' of a.nc\[0\] holds nan at \[sample 0, x 1\]"):
        list(Stream(opened, ["u"], ["u"], batch_size=2))


def test_dimension_labels_name_axes(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["u"] = np.arange(6.0).reshape(2, 3)
        file["u"].dims[0].label, file["u"].dims[1].label = "x", "sample"
    assert open_snapshots(tmp_path / "a.h5").u.dims == ("sample", "x")


def test_declared_axes_in_any_order(tmp_path):
    values = np.random.default_rng(0).normal(size=(5, 2, 4, 3))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("u", data=values, chunks=(5, 1, 2, 3))
    opened = open_snapshots(tmp_path / "a.h5", mapping(u=["x", "channel", "sample", "time"]))
    assert opened.u.dims == ("sample", "time", "channel", "x")
    np.testing.assert_array_equal(opened.u, values.transpose(2, 3, 1, 0))


def test_groups_are_joined_and_named(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["grid"] = [0.0, 1.0, 2.0]
        for group, count in (("train", 3), ("test", 2)):
            file[f"{group}/u"] = np.full((count, 3), count)
    layout = Mapping.model_validate(
        {
            "groups": ["train", "test"],
            "variables": {"u": {"path": "u", "axes": ["sample", "x"], "units": "K"}},
            "coordinates": {"x": {"path": "grid", "axes": ["x"], "units": "m"}},
        }
    )
    opened = open_snapshots(tmp_path / "a.h5", layout)
    assert opened.group.values.tolist() == ["train"] * 3 + ["test"] * 2
    assert opened.origin.values[-1] == "a.h5:test[1]"
    assert opened.u.values[:, 0].tolist() == [3, 3, 3, 2, 2]
    assert (opened.u.attrs["units"], opened.x.attrs["units"]) == ("K", "m")


def test_files_without_a_sample_axis_are_one_simulation_each(tmp_path):
    for index in range(HANDLES + 4):
        with h5py.File(tmp_path / f"{index:02d}.h5", "w") as file:
            file.create_dataset("u", data=np.full((4, 3), index), chunks=(1, 3))
            file["nu"] = index / 10
    opened = open_snapshots(str(tmp_path / "*.h5"), mapping(u=["time", "x"], nu=[]))
    assert opened.u.dims == ("sample", "time", "x")
    assert opened.nu.values.tolist() == [index / 10 for index in range(HANDLES + 4)]
    np.testing.assert_array_equal(opened.u[:, 0, 0], np.arange(HANDLES + 4))
    assert len(_handles().files) <= HANDLES
    same = open_snapshots(sorted(tmp_path.glob("*.h5")), mapping(u=["time", "x"], nu=[]))
    xr.testing.assert_identical(same.compute(), opened.compute())


@pytest.mark.parametrize("stored", [">f4", ">f8", "<f2", "i2", ">i4", "u1", "?"])
def test_stored_types_become_native(tmp_path, stored):
    values = np.array([[0, 1, 1], [1, 0, 1]]).astype(stored)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["u"] = values
    opened = open_snapshots(tmp_path / "a.h5", mapping(u=["sample", "x"]))
    assert opened.u.dtype.isnative
    (batch,) = Stream(opened, ["u"], ["u"], batch_size=2, shuffle=False)
    np.testing.assert_array_equal(batch.inputs[:, 0], values.astype("f4"))


@pytest.mark.parametrize("options", [{}, {"chunks": (2, 3, 5)}, {"chunks": (4, 2, 2), "compression": "gzip"}])
def test_streams_what_is_in_the_file(tmp_path, options):
    values = np.random.default_rng(0).normal(size=(11, 6, 5)).astype("f4")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("u", data=values, **options)
    opened = open_snapshots(tmp_path / "a.h5", mapping(u=["sample", "y", "x"]))
    for batch in Stream(opened, ["u"], ["u"], batch_size=4):
        np.testing.assert_array_equal(batch.inputs[:, 0], values[batch.sample.numpy()])


def _mean_in_child(opened, queue):
    queue.put(float(opened.u.mean(dim=["sample", "x"]).compute(scheduler="synchronous")))


def test_reading_goes_on_after_a_fork(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("u", data=np.arange(12.0).reshape(4, 3), chunks=(1, 3))
    opened = open_snapshots(tmp_path / "a.h5", mapping(u=["sample", "x"]))
    assert float(opened.u.mean()) == 5.5
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_mean_in_child, args=(opened, queue))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert queue.get() == 5.5
    assert float(opened.u.mean()) == 5.5


@pytest.mark.parametrize(
    ("shape", "axes", "chunks", "block"),
    [
        ((1000, 128, 128), ("sample", "y", "x"), None, (122, 128, 128)),
        ((1000, 128, 128), ("sample", "y", "x"), (16, 64, 64), (112, 128, 128)),
        ((50, 101, 128, 128), ("sample", "time", "y", "x"), (1, 13, 16, 32), (1, 101, 128, 128)),
        ((50, 1000, 128, 128), ("sample", "time", "y", "x"), (1, 13, 16, 32), (1, 117, 128, 128)),
        ((1000, 10, 16), ("sample", "time", "x"), None, (1000, 10, 16)),
        ((10, 4096, 4096), ("sample", "y", "x"), None, (1, 4096, 4096)),
        ((64, 64, 1000), ("y", "x", "sample"), None, (64, 64, 488)),
    ],
)
def test_blocks_are_whole_chunks_and_snapshots_of_about_8_mb(shape, axes, chunks, block):
    assert block_shape(shape, axes, chunks, 4) == block
    one = np.prod(
        [c if axis in ("sample", "time") else n for n, c, axis in zip(shape, chunks or (1,) * 9, axes, strict=False)]
    )
    assert np.prod(block) * 4 <= max(BLOCK_BYTES, one * 4)


def test_the_reference_darcy_file_opens(shared_data):
    axes = ["sample", "y", "x"]
    layout = Mapping.model_validate(
        {
            "groups": ["train", "test"],
            "variables": {name: {"path": name, "axes": axes} for name in ("permeability", "pressure")},
        }
    )
    opened = open_snapshots(shared_data / "darcy16.h5", layout)
    assert opened.sizes == {"sample": 1050, "y": 16, "x": 16}
    with h5py.File(shared_data / "darcy16.h5") as file:
        both = np.concatenate([file["train/pressure"][:], file["test/pressure"][:]])
    np.testing.assert_array_equal(opened.pressure, both)


def cloud(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return path


POINTS = {"x": {"path": "x", "axes": ["point"]}, "y": {"path": "y", "axes": ["point"]}}


@pytest.mark.parametrize("axis", ["sample", "time"])
def test_point_clouds(tmp_path, axis):
    rng = np.random.default_rng(0)
    path = cloud(tmp_path / "a.h5", p=rng.normal(size=(6, 11)).astype("f4"), x=rng.normal(size=11), y=np.ones(11))
    declared = {"variables": {"p": {"path": "p", "axes": [axis, "point"]}}, "coordinates": POINTS}
    opened = open_snapshots(path, Mapping.model_validate(declared))
    assert opened.p.dims == (("sample", "point") if axis == "sample" else ("sample", "time", "point"))
    assert opened.x.dims == ("point",)
    (batch,) = Stream(opened, ["p"], ["p"], batch_size=6, shuffle=False)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(batch.inputs[:, 0], file["p"][: len(batch.inputs)])


def test_variables_with_different_components(tmp_path):
    rng = np.random.default_rng(0)
    path = cloud(tmp_path / "a.h5", v=rng.normal(size=(3, 5, 2)), s=rng.normal(size=(3, 5, 4)))
    opened = open_snapshots(path, mapping(v=["sample", "x", "channel"], s=["sample", "x", "stress_channel"]))
    stream = Stream(opened, ["v"], ["s"], batch_size=3, shuffle=False)
    assert stream.target_names == ("s.0", "s.1", "s.2", "s.3")
    (batch,) = stream
    np.testing.assert_array_equal(batch.targets, np.moveaxis(opened.s.values, 1, 1).astype("f4"))


def test_files_of_one_name_in_many_folders_keep_their_identity(tmp_path):
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        snapshots(2).to_netcdf(tmp_path / run / "out.nc", engine="h5netcdf")
    opened = open_snapshots(str(tmp_path / "*" / "out.nc"))
    assert opened.origin.values.tolist() == ["a/out.nc[0]", "a/out.nc[1]", "b/out.nc[0]", "b/out.nc[1]"]


def test_layouts_by_name(tmp_path):
    snapshots().to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    expected = open_snapshots(tmp_path / "a.nc")
    for name in ("auto", "netcdf"):
        xr.testing.assert_identical(open_snapshots(tmp_path / "a.nc", name).compute(), expected.compute())
    with pytest.raises(DataError, match=r"has no manifest.json: these are no shards"):
        open_snapshots(tmp_path / "a.nc", "shards")
    with h5py.File(tmp_path / "a.nc") as file:
        found = detect(file)
    assert (found.name, found.reason) == (
        "netcdf", "dimension scales or labels name the axes of 'u': sample, time, y, x",
    )  # fmt: skip


def test_layouts_by_name_in_a_configuration():
    tree = {"path": "a", "inputs": ["u"], "targets": ["u"]}
    assert DataSettings.model_validate(tree | {"layout": "pdebench"}).layout == "pdebench"
    assert DataSettings.model_validate(tree).layout is None
    named = r"'auto', 'shards', 'netcdf', 'pdebench', 'the_well' or 'idx' \(got 'pdebnch'\)"
    with pytest.raises(ConfigError, match=named):
        validate(Source("a.yaml", tree | {"layout": "pdebnch"}), DataSettings)


@pytest.mark.parametrize("text", [["a", "bb", "µ"], ["", "", ""], ["one two", "x", "y"]])
def test_text_survives_a_shard(tmp_path, text):
    ds = xr.Dataset({"u": (("sample", "channel"), np.ones((3, 3)))}, {"channel": text, "group": ("sample", text)})
    write_shard(tmp_path / "a.h5", encode_text(ds))
    opened = open_snapshots(tmp_path / "a.h5")
    assert opened.channel.values.tolist() == text
    assert opened.group.values.tolist() == text
    assert opened.u.dims == ("sample", "channel")


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"variables": {}}, "at least 1 item"),
        ({"variables": {"u": {"path": "u", "axes": ["x", "x"]}}}, r"axis x is repeated in \['x', 'x'\]"),
        ({"variables": {"u": {"path": "u", "axes": ["x", ""]}}}, "has no name"),
        ({"variables": {"x": {"path": "u", "axes": ["x"]}}}, "'x' is taken"),
        ({"variables": {"origin": {"path": "u", "axes": ["x"]}}}, "'origin' is taken"),
        (
            {"variables": {"u": {"path": "u", "axes": []}}, "coordinates": {"u": {"path": "u", "axes": []}}},
            "as a variable and as a coordinate",
        ),
        ({"variables": {"u": {"path": "u", "axes": ["x"], "unit": "m"}}}, "unit"),
    ],
)
def test_declarations_are_checked(tree, text):
    with pytest.raises(ValidationError, match=text):
        Mapping.model_validate(tree)


@pytest.mark.parametrize("name", ["time_steps", "origin", "group"])
def test_variables_called_like_our_coordinates_are_kept(tmp_path, name):
    with h5py.File(tmp_path / "a.nc", "w") as file:
        for axis, size in (("sample", 5), ("time", 6)):
            file[axis] = np.arange(size)
            file[axis].make_scale(axis)
        file["u"], file[name] = np.random.default_rng(0).normal(size=(5, 6)), np.full(5, 3)
        for variable in ("u", name):
            for axis, scale in enumerate(("sample", "time")[: file[variable].ndim]):
                file[variable].dims[axis].attach_scale(file[scale])
        file["u"].attrs["coordinates"] = name
    with contextlib.nullcontext() if name == "time_steps" else pytest.warns(UserWarning, match="is called"):
        ds = open_snapshots(tmp_path / "a.nc")
    kept = ds[name if name == "time_steps" else f"{name}_"]
    assert kept.values.tolist() == [3] * 5
    assert Stream(ds, ["u"], ["u"], batch_size=2).samples == 5 * 5


@pytest.mark.parametrize(("shift", "joined"), [(1e-15, True), (1e-9, False)])
def test_grids_that_differ_by_rounding_are_one_grid(tmp_path, shift, joined):
    x = np.linspace(0, 1, 8)
    for name, moved in (("a", x), ("b", x + shift)):
        xr.Dataset({"u": (("sample", "x"), np.ones((3, 8)))}, {"x": moved}).to_netcdf(
            tmp_path / f"{name}.nc", engine="h5netcdf"
        )
    if joined:
        np.testing.assert_array_equal(open_snapshots(tmp_path)["x"], x)
    else:
        with pytest.raises(DataError, match=r"'x' has other values \(they differ by up to 1e-09\)"):
            open_snapshots(tmp_path)
