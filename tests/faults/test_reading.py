"""Input files that cannot be used: each one line that says what, where, why and what to do.

The number in the name of a test is the number of the fault:
1 truncated or empty, 2 not HDF5, 3 missing or refused, 4 variable missing, 5 not an array, 6 wrong axes or rank,
7 shards that differ, 8 train and test overlap, 9 zero length, 10 NaN or Inf, 11 constant field, 12 range of numbers,
13 types, 14 compression filter missing, 15 open in a writer, 16 chunks never written, 17 flipped bytes,
18 replaced while in use, 19 4 TB declared, 20 hostile chunks, 21 links and storage outside of the folder.
"""

import os
import resource
import stat
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
import xarray as xr

from surrogate.data import Mapping, SplitSettings, Stream, open_snapshots, split, split_ids
from surrogate.data.inspect import describe, render
from surrogate.data.layouts import _each_once
from surrogate.data.store import Manifest, verify, write_manifest, write_shard
from surrogate.errors import DataError
from surrogate.normalize import fit_normalizers


def mapping(**variables):
    return Mapping.model_validate({"variables": {k: {"path": k, "axes": axes} for k, axes in variables.items()}})


LAYOUT = mapping(u=["sample", "x"])


def write(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return path


def message(paths, layout=LAYOUT):
    with pytest.raises(DataError) as caught:
        open_snapshots(paths, layout)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_1_truncated_and_empty(tmp_path):
    path = write(tmp_path / "a.h5", u=np.ones((100, 100)))
    os.truncate(path, 5000)
    assert "a.h5: truncated: holds 5000 of 8" in message(path)
    os.truncate(path, 0)
    assert "is not HDF5: it looks like empty (0 bytes)" in message(path)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"x,y\n1,2\n", "CSV text"),
        (b"some words\n", "plain text"),
        (b'{"a": 1}', "JSON"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "PNG"),
        (b"\x93NUMPY\x01\x00", "NumPy .npy"),
        (b"MATLAB 5.0 MAT-file, Platform", "cannot be read as matlab5"),
        (b"<!DOCTYPE html><html>", "HTML page, probably the error page of a download"),
        (b"\x1f\x8b\x08", "gzip-compressed; run gunzip"),
        (b"CDF\x01\x00", "cannot be read as netcdf3"),
        (b"\x80\x04\x95", "pickle file, which is never opened"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        (bytes(600), "zeros"),
        (b"\xf3\x01\xff\xfe\x00", "unknown binary data"),
    ],
)
def test_2_not_hdf5(tmp_path, content, kind):
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    assert kind in message(path)


def test_2_a_zip_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a", "b")
    assert "zip archive (NumPy .npz" in message(tmp_path / "a.npz")


def test_3_missing_or_refused(tmp_path):
    assert "b.h5: no such file; check the path" in message(tmp_path / "b.h5")
    assert "no file matches" in message(str(tmp_path / "*.nc"))
    assert "holds no file that can be read" in message(tmp_path)
    assert "no file was given" in message([])


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_3_permission(tmp_path):
    path = write(tmp_path / "a.h5", u=np.ones((2, 2)))
    path.chmod(stat.S_IWUSR)
    assert "permission denied; ask its owner" in message(path)


def test_4_missing_variable(tmp_path):
    text = message(write(tmp_path / "a.h5", uu=np.ones((2, 3)), w=np.ones(4)))
    assert "no dataset 'u'; did you mean 'uu'? the file holds uu (2, 3), w (4,)" in text
    layout = Mapping.model_validate({"groups": ["tests"], "variables": {"u": {"path": "u", "axes": ["x"]}}})
    assert "no dataset 'tests/u'; did you mean 'test/u'?" in message(
        write(tmp_path / "b.h5", **{"test/u": np.ones(3)}), layout
    )


def test_5_not_an_array(tmp_path):
    assert "a.h5:u: is a group, expected a dataset; it holds v" in message(write(tmp_path / "a.h5", **{"u/v": 1.0}))
    assert "has 0 axes, shape (), but the layout declares 2" in message(write(tmp_path / "b.h5", u=1.0))
    assert "empty (null) dataset" in message(write(tmp_path / "c.h5", u=h5py.Empty("f4")))


def test_6_wrong_rank_or_length(tmp_path):
    text = message(write(tmp_path / "a.h5", u=np.ones((2, 3, 4))))
    assert (
        "a.h5:u: has 3 axes, shape (2, 3, 4), but the layout declares 2: [sample, x]; correct layout.variables.u.axes"
        in text
    )
    path = write(tmp_path / "b.h5", u=np.ones((2, 3)), k=np.ones((2, 4)))
    assert "axis 'x' has 3 entries in 'u' but 4 in 'k'" in message(path, mapping(u=["sample", "x"], k=["sample", "x"]))


def test_6_axes_without_names_are_not_guessed(tmp_path):
    text = message(write(tmp_path / "a.h5", u=np.ones((2, 3))), None)
    assert "does not name the axes of 'u' (2, 3); declare a layout" in text
    assert "surrogate inspect" in text
    text = message(write(tmp_path / "b.h5", **{"g/u": np.ones((2, 3))}), None)
    assert "no variable with named dimensions at its root" in text


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"u": np.ones((2, 4))}, "'u' has 3 and 4 entries along x"),
        ({"u": np.ones((2, 3), "f4")}, "'u' has type float64 and float32"),
        ({"u": np.ones((2, 3)), "x": [0.0, 1, 3]}, "'x' has other values (they differ by up to 1) and no sample axis"),
    ],
)
def test_7_shards_that_differ(tmp_path, other, difference):
    coordinate = {"x": {"path": "x", "axes": ["x"]}}
    layout = Mapping.model_validate(LAYOUT.model_dump() | {"coordinates": coordinate})
    write(tmp_path / "a.h5", **({"u": np.ones((2, 3)), "x": [0.0, 1, 2]}))
    write(tmp_path / "b.h5", **({"x": np.arange(float(np.shape(other["u"])[1]))} | other))
    text = message(tmp_path, layout)
    assert "a.h5 and b.h5 cannot be joined: " + difference in text


def test_7_variables_and_units_that_differ(tmp_path):
    field = (("sample", "x"), np.ones((2, 3)))
    xr.Dataset({"u": (*field, {"units": "m"})}).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    xr.Dataset({"u": (*field, {"units": "cm"})}).to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    xr.Dataset({"v": field}).to_netcdf(tmp_path / "c.nc", engine="h5netcdf")
    assert "'u' has units 'm' and 'cm'" in message([tmp_path / "a.nc", tmp_path / "b.nc"], None)
    assert "only one of them has u, v" in message([tmp_path / "a.nc", tmp_path / "c.nc"], None)


def test_8_train_and_test_overlap():
    ds = xr.Dataset(
        {"u": (("sample", "x"), np.ones((6, 2)))},
        {"run": ("sample", [*"aabbcc"]), "group": ("sample", ["train", "test"] * 3)},
    )
    groups = SplitSettings.model_validate({"validation": {"group": "train"}, "test": {"group": "test"}})
    with pytest.raises(DataError) as caught:
        split(ds, groups, by="run")
    assert str(caught.value) == (
        "data.split: validation and test share 3 simulations; choose groups that do not overlap"
    )
    parts = split(ds, SplitSettings(validation=1, test=1), by="run")
    ids = split_ids(parts, by="run")
    assert sorted(sum(ids.values(), [])) == ["a", "b", "c"]
    assert all(part.sizes["sample"] == 2 for part in parts.values())


def test_9_zero_length(tmp_path):
    assert "holds no values (shape (0, 3)); leave it out" in message(write(tmp_path / "a.h5", u=np.ones((0, 3))))


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
@pytest.mark.parametrize("options", [{}, {"chunks": (2, 3), "compression": "gzip"}])
def test_10_not_finite(tmp_path, value, shown, options):
    values = np.ones((5, 4, 3))
    values[3, 1, 2] = values[3, 2, 0] = value
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("u", data=values, **({} if not options else options | {"chunks": (2, 4, 3)}))
    opened = open_snapshots(tmp_path / "a.h5", mapping(u=["sample", "y", "x"]))
    with pytest.raises(DataError) as caught:
        list(Stream(opened, ["u"], ["u"], batch_size=2, shuffle=False))
    text = str(caught.value)
    assert f"'u' of a.h5[3] holds {shown} at [sample 3, y 1, x 2] and 1 more" in text
    assert "correct the file, or choose data.nonfinite" in text


def test_11_constant_field(tmp_path):
    path = write(tmp_path / "a.h5", u=np.full((6, 3), 4.0))
    stream = Stream(open_snapshots(path, LAYOUT), ["u"], ["u"], batch_size=6)
    with pytest.warns(UserWarning, match=r"channel 'u' is constant \(4\): it is shifted, not scaled"):
        inputs, _ = fit_normalizers(stream, stream.input_names, stream.target_names)
    (batch,) = stream
    normal = inputs(batch.inputs)
    assert float(normal.abs().max()) == 0
    assert "u: every value looked at is 4; it carries no information" in describe(path).notes


@pytest.mark.parametrize("scale", [1e-30, 1e4, 1e30])
def test_12_huge_range_and_half_precision(tmp_path, scale):
    values = np.random.default_rng(0).normal(size=(200, 3)) * scale + scale
    kind = "f2" if scale == 1e4 else "f4"
    path = write(tmp_path / "a.h5", u=values.astype(kind))
    stream = Stream(open_snapshots(path, LAYOUT), ["u"], ["u"], batch_size=50)
    inputs, _ = fit_normalizers(stream, stream.input_names, stream.target_names)
    normal = inputs(next(iter(stream)).inputs)
    assert 0.5 < float(normal.std()) < 1.5


def test_12_values_too_large_for_float32(tmp_path):
    path = write(tmp_path / "a.h5", u=np.full((4, 3), 1e39))
    with pytest.raises(DataError, match=r"'u' of a.h5\[0\] holds 1e\+39, too large for float32, .*rescale it"):
        list(Stream(open_snapshots(path, LAYOUT), ["u"], ["u"], batch_size=2))


@pytest.mark.parametrize("stored", [">f4", ">i2", "i8", "?"])
def test_13_types_with_another_form_are_converted(tmp_path, stored):
    values = np.array([[0, 1, 1], [1, 0, 1]]).astype(stored)
    path = write(tmp_path / "a.h5", u=values)
    (batch,) = Stream(open_snapshots(path, LAYOUT), ["u"], ["u"], batch_size=2, shuffle=False)
    np.testing.assert_array_equal(batch.inputs[:, 0], values.astype("f4"))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.ones((2, 3), complex), "complex type (complex128), expected real numbers; write real and imaginary"),
        (np.zeros((2, 3), [("a", "f4")]), "compound or opaque type"),
    ],
)
def test_13_types_without_real_numbers(tmp_path, values, kind):
    assert f"a.h5:u: has {kind}" in message(write(tmp_path / "a.h5", u=values))


def test_13_text_is_refused_where_numbers_are_needed(tmp_path):
    dataset = open_snapshots(write(tmp_path / "a.h5", u=np.array([["a", "b"]], "S1")), LAYOUT)
    with pytest.raises(DataError, match="variable 'u' has type <U1, expected real numbers"):
        list(Stream(dataset, ["u"], ["u"], batch_size=1))


def test_14_missing_compression_filter(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("u", data=np.ones((2, 3)), compression="gzip")
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: False)
    text = message(tmp_path / "a.h5")
    assert "a.h5:u: compressed with filter 1 (gzip-4), which is not installed; pip install hdf5plugin" in text


def test_15_open_in_a_writer(tmp_path):
    path = write(tmp_path / "a.h5", u=np.ones((2, 3)))
    hold = "import h5py, sys; f = h5py.File(sys.argv[1], 'a'); print('open', flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", hold, str(path)], **pipes) as writer:
        writer.stdout.readline()
        text = message(path)
        writer.stdin.close()
    assert "is open for writing in another program; wait until it has closed the file" in text


def test_16_chunks_never_written(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("u", (9, 4), "f4", chunks=(2, 4))[:4] = 1
    assert "3 of 5 chunks were never written and would read as 0.0" in message(tmp_path / "a.h5")


def test_17_flipped_bytes_of_a_shard(tmp_path):
    ds = xr.Dataset({"u": (("sample", "x"), np.random.default_rng(0).normal(size=(4, 64)))})
    shard = write_shard(tmp_path / "a.h5", ds)
    write_manifest(tmp_path, Manifest(name="a", digest="0", samples=4, shards=[shard]))
    with open(tmp_path / "a.h5", "r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(b"\xff" * 8)
    with pytest.raises(DataError, match=r"a.h5 was changed after it was written \(SHA-256 differs\); copy or make"):
        verify(tmp_path)


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"fletcher32": True}])
def test_17_flipped_bytes(tmp_path, options):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        u = file.create_dataset("u", data=np.random.rand(4, 64), chunks=(4, 64), **options)
        offset = u.id.get_chunk_info(0).byte_offset
    with open(tmp_path / "a.h5", "r+b") as file:
        file.seek(offset + 40)
        file.write(b"\xff" * 40)
    opened = open_snapshots(tmp_path / "a.h5", LAYOUT)
    with pytest.raises(DataError, match=r"a.h5:/u\[0:4, 0:64\]: cannot be read \(.*\); the file is damaged"):
        list(Stream(opened, ["u"], ["u"], batch_size=2))


@pytest.mark.parametrize("options", [{}, {"chunks": (1, 3)}])
def test_18_replaced_while_in_use(tmp_path, options):
    def make(name):
        with h5py.File(tmp_path / name, "w") as file:
            file.create_dataset("u", data=np.ones((4, 3)), **options)

    make("a.h5")
    stream = Stream(open_snapshots(tmp_path / "a.h5", LAYOUT), ["u"], ["u"], batch_size=2)
    make("b.h5")
    os.replace(tmp_path / "b.h5", tmp_path / "a.h5")
    with pytest.raises(DataError, match=r"a.h5: was replaced or changed while in use; open the data again"):
        list(stream)


@pytest.mark.parametrize("chunks", [None, (1, 1000)])
def test_19_a_small_file_that_declares_4_tb(tmp_path, chunks):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("u", (10**9, 1000), "f4", chunks=chunks)
    assert (tmp_path / "a.h5").stat().st_size < 10_000
    assert "(4,000,000.0 MB), but no value was ever written" in message(tmp_path / "a.h5")


def test_20_hostile_chunks(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("u", data=np.zeros((2000, 1024), "f4"), chunks=(2000, 2), compression="gzip")
        file["u"][0] = 1
    text = "\n".join(render(describe(tmp_path / "a.h5")))
    assert "one random snapshot decodes 2000 times its size from chunks (2000, 2)" in text
    assert f"rechunk with `surrogate convert {tmp_path}/a.h5 a-shards --to shards --config CONFIG.yaml`" in text


@pytest.fixture
def elsewhere(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "in").mkdir()
    write(tmp_path / "out" / "o.h5", u=np.ones((2, 3)))
    write(tmp_path / "in" / "i.h5", u=np.full((2, 3), 7.0))
    return tmp_path


def virtual(source):
    layout = h5py.VirtualLayout((2, 3), "f8")
    layout[:] = h5py.VirtualSource(source, "u", (2, 3))
    return layout


def test_21_external_links(elsewhere):
    path = write(elsewhere / "in" / "a.h5", u=h5py.ExternalLink("../out/o.h5", "u"))
    text = message(path)
    assert "a.h5:u: an external link leads to ../out/o.h5, outside of" in text
    assert "refused; copy the data into one folder, or set layout.allow_external: true" in text
    path = write(elsewhere / "in" / "b.h5", u=h5py.ExternalLink("i.h5", "u"))
    assert (open_snapshots(path, LAYOUT).u == 7).all()
    path = write(elsewhere / "in" / "c.h5", u=h5py.ExternalLink("a.h5", "u"))
    assert "outside of" in message(path)
    path = write(elsewhere / "in" / "d.h5", u=h5py.ExternalLink("none.h5", "u"))
    assert "leads to none.h5, which is missing" in message(path)


def test_21_soft_links(elsewhere):
    path = elsewhere / "in" / "a.h5"
    write(path, v=np.full((2, 3), 5.0), u=h5py.SoftLink("/v"))
    assert (open_snapshots(path, LAYOUT).u == 5).all()
    path = write(elsewhere / "in" / "b.h5", u=h5py.SoftLink("/u"))
    assert "more than 16 links in a row" in message(path)
    path = write(elsewhere / "in" / "c.h5", u=h5py.SoftLink("/w"), w=h5py.ExternalLink("../out/o.h5", "u"))
    assert "outside of" in message(path)


def test_21_virtual_and_external_storage(elsewhere):
    for name, source, refused in (("a", "../out/o.h5", True), ("b", "i.h5", False)):
        with h5py.File(elsewhere / "in" / f"{name}.h5", "w") as file:
            file.create_virtual_dataset("u", virtual(source), fillvalue=-1)
        if refused:
            assert "a virtual dataset leads to ../out/o.h5, outside of" in message(elsewhere / "in" / f"{name}.h5")
        else:
            assert (open_snapshots(elsewhere / "in" / f"{name}.h5", LAYOUT).u == 7).all()
    secret = elsewhere / "out" / "raw.bin"
    secret.write_bytes(bytes(48))
    with h5py.File(elsewhere / "in" / "c.h5", "w") as file:
        file.create_dataset("u", (2, 3), "f8", external=[(str(secret), 0, 48)])
    assert "external storage leads to" in message(elsewhere / "in" / "c.h5")


def test_21_allowed(elsewhere):
    allowed = LAYOUT.model_copy(update={"allow_external": True})
    linked = write(elsewhere / "in" / "a.h5", u=h5py.ExternalLink("../out/o.h5", "u"))
    with h5py.File(elsewhere / "in" / "b.h5", "w") as file:
        file.create_virtual_dataset("u", virtual(str(elsewhere / "out" / "o.h5")), fillvalue=-1)
    (elsewhere / "out" / "raw.bin").write_bytes(np.ones(6).tobytes())
    with h5py.File(elsewhere / "in" / "c.h5", "w") as file:
        file.create_dataset("u", (2, 3), "f8", external=[(str(elsewhere / "out" / "raw.bin"), 0, 48)])
    for path in (linked, elsewhere / "in" / "b.h5", elsewhere / "in" / "c.h5"):
        assert (open_snapshots(path, allowed).u == 1).all()
        assert (open_snapshots(path, LAYOUT, allow_external=True).u == 1).all()
        assert "outside of" in message(path)


def test_names_and_units_of_any_length_make_short_lines(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x" * 5000], file["y" * 5000] = np.ones((3, 4)), np.ones(3, complex)
        file["z" * 5000] = file["z"] = h5py.ExternalLink("b" * 4000, "/u")
        file["u"] = np.ones((4, 5))
        file["u"].attrs["m" * 3000] = "m" * 6000
        file["u"].attrs["units"] = "m" * 2500
    description = describe(tmp_path / "a.h5")
    assert sum("its name has 5000 letters" in note for note in description.notes) == 3
    before = render(description)[: render(description).index("suggested configuration:")]
    assert max(map(len, before)) <= 2000
    assert "path: u" in description.suggested_config


def test_a_pipe_is_refused_and_passed_over_in_a_folder(tmp_path):
    write(tmp_path / "a.h5", u=np.ones((2, 3)))
    os.mkfifo(tmp_path / "b.h5")
    with pytest.raises(DataError, match=r"b\.h5 is a pipe or a device; give a file"):
        open_snapshots(tmp_path / "b.h5", LAYOUT)
    assert (open_snapshots(tmp_path, LAYOUT).u == 1).all()
    assert (open_snapshots(str(tmp_path / "*.h5"), LAYOUT).u == 1).all()
    assert describe(tmp_path).files == [str(tmp_path / "a.h5")]
    with pytest.raises(DataError, match=r"b\.h5 is a pipe or a device; give a file"):
        describe(tmp_path / "b.h5")


def test_a_folder_of_many_files_is_listed_in_linear_time(tmp_path):
    """Each path is looked up a few times, not once with every other path."""
    hashed = []

    class Counted(type(tmp_path)):
        def __hash__(self):
            hashed.append(1)
            return super().__hash__()

    paths = [Counted(tmp_path, f"{number}.h5") for number in range(2000)]
    assert _each_once(paths) == paths
    assert len(hashed) < 20 * len(paths)


def test_more_files_than_descriptors(tmp_path):
    """A process may have 40 more files open; a folder holds 80, whose rows are long enough to be read in place."""
    content = write(tmp_path / "0.h5", u=np.ones((2, 4096))).read_bytes()
    for number in range(1, 80):
        (tmp_path / f"{number}.h5").write_bytes(content)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 40, limits[1]))
    try:
        stream = Stream(open_snapshots(tmp_path, LAYOUT), ["u"], ["u"], batch_size=100)
        assert sum(len(batch.inputs) for batch in stream) == 160
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
