"""Every way of reading gives what h5py gives; what is selected lies in files, what is computed does not."""

import itertools
import os
import pickle

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from surrogate.data import MappedVariable, Mapping, Stream, Window, open_snapshots
from surrogate.data.hdf5 import autotune, reading
from surrogate.data.hdf5.array import chunk_table
from surrogate.data.hdf5.autotune import SAMPLE_BYTES, Choice, _boxes, choose
from surrogate.data.hdf5.filters import decode
from surrogate.data.hdf5.origin import trace
from surrogate.data.hdf5.reading import kind_of, possible_ways, read_box, way_of_reading
from surrogate.data.hdf5.storage import h5_array
from surrogate.errors import DataError

SHAPE = (11, 6, 5, 4)
STORAGE = {
    "contiguous": {},
    "gzip": {"chunks": (4, 6, 2, 3), "compression": "gzip"},
    "shuffle": {"chunks": (3, 2, 5, 4), "compression": "gzip", "shuffle": True},
    "lzf": {"chunks": (2, 6, 5, 1), "compression": "lzf", "shuffle": True},
    "chunks": {"chunks": (4, 6, 2, 3)},
    "checksum": {"chunks": (4, 6, 2, 3), "fletcher32": True, "compression": "gzip"},
}
WAYS = ["direct", *["threaded decoding"] * 4, "h5py"]
LAYOUT = Mapping(variables={"u": MappedVariable(path="u", axes=("sample", "time", "y", "channel"))})


def values(dtype="f4", seed=0):
    rng = np.random.default_rng(seed)
    return (100 * rng.normal(size=SHAPE)).astype(dtype)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arrays")
    found = {}
    for name, options in STORAGE.items():
        with h5py.File(folder / f"{name}.h5", "w") as file:
            found[name] = h5_array(file.create_dataset("u", data=values(), **options))
    return {name: h5_array_of(array.file) for name, array in found.items()}


def h5_array_of(path):
    with h5py.File(path) as file:
        return h5_array(file["u"])


def test_each_storage_has_its_way(arrays):
    assert [way_of_reading(array) for array in arrays.values()] == WAYS


def along(size):
    starts, counts, steps = st.integers(0, size - 1), st.integers(1, size), st.integers(1, 3)
    ranges = st.builds(lambda first, count, step: range(size)[first : first + count : step], starts, counts, steps)
    chosen = st.lists(st.integers(0, size - 1), min_size=1, unique=True)
    return st.one_of(ranges, chosen.map(lambda found: np.array(sorted(found))))


indices = st.tuples(*map(along, SHAPE))


@pytest.mark.parametrize("name", STORAGE)
@settings(deadline=None, max_examples=25)
@given(index=indices)
def test_any_box_is_that_of_numpy(arrays, name, index):
    expected = values()[np.ix_(*map(np.asarray, index))]
    np.testing.assert_array_equal(read_box(arrays[name], index), expected)


@pytest.mark.parametrize("dtype", ["f8", "f2", ">f4", "i2", "u1", ">i8"])
@pytest.mark.parametrize("options", [STORAGE["contiguous"], STORAGE["shuffle"], STORAGE["lzf"]])
def test_any_type_is_that_of_numpy(tmp_path, dtype, options):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("u", data=values(dtype), **options)
    index = [range(size) for size in SHAPE]
    np.testing.assert_array_equal(read_box(h5_array_of(tmp_path / "a.h5"), index), values(dtype))


@pytest.mark.parametrize("name", STORAGE)
def test_every_possible_way_gives_the_same(arrays, name):
    index = [range(size) for size in SHAPE]
    for way in possible_ways(arrays[name]):
        np.testing.assert_array_equal(read_box(arrays[name], index, way=way), values())


@pytest.mark.parametrize(("quick", "way"), [({"h5py": 200}, "h5py"), ({"h5py": 149}, "threaded decoding")])
def test_the_fastest_way_is_taken_for_all_that_is_stored_alike(arrays, monkeypatch, quick, way):
    monkeypatch.setattr(autotune, "_speed", lambda array, way: quick.get(way, 100))
    monkeypatch.setattr(autotune, "SMALL", 1)
    monkeypatch.setattr(autotune, "_measured", {})
    monkeypatch.setattr(reading, "_ways", {})
    array = arrays["shuffle"]
    speeds = {"threaded decoding": 100, "h5py": quick["h5py"]}
    assert choose(array) == Choice(way, speeds, f"measured: threaded decoding 100 MB/s, h5py {quick['h5py']} MB/s")
    assert way_of_reading(array) == way
    assert kind_of(array) != kind_of(arrays["gzip"])
    assert way_of_reading(arrays["gzip"]) == "threaded decoding"


def test_what_need_not_be_measured_is_not(arrays):
    assert choose(arrays["gzip"]) == Choice("threaded decoding", {}, "too small to measure")
    assert choose(arrays["checksum"]).way == "h5py"
    assert "no other way" in choose(arrays["checksum"]).reason


@pytest.mark.parametrize("chunks", [None, (1, 64, 64), (7, 64, 10), (500, 2, 2)])
def test_a_measurement_reads_a_few_megabytes_in_whole_chunks(tmp_path, chunks):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset(
            "u", data=np.zeros((500, 64, 64), "f4"), chunks=chunks, **({"shuffle": True} if chunks else {})
        )
    array = h5_array_of(tmp_path / "a.h5")
    boxes = _boxes(array)
    places = [set(itertools.product(*box)) for box in boxes]
    assert sum(map(len, places)) == len(set().union(*places)) <= SAMPLE_BYTES // 4
    for box in boxes:
        for along, size, chunk in zip(box, array.shape, array.chunks or (1, 1, 1), strict=True):
            assert along.start % chunk == 0
            assert along.stop % chunk == 0 or along.stop == size
    assert set(choose(array).speeds) == set(possible_ways(array))


def test_chunks_that_skipped_a_filter(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:  # noise does not shrink: lzf leaves those chunks as they are
        noise = np.random.default_rng(0).integers(0, 256, (4, 64), np.uint8)
        noise[2:] = 7
        file.create_dataset("u", data=noise, chunks=(2, 64), compression="lzf")
    array = h5_array_of(tmp_path / "a.h5")
    assert set(chunk_table(array).skipped.ravel()) == {0, 1}
    np.testing.assert_array_equal(read_box(array, [range(4), range(64)]), noise)


@pytest.mark.parametrize("filters", [(1,), (2, 1), (32000,), (2, 32000)])
@pytest.mark.parametrize("size", [0, 1, 40])
def test_bytes_that_do_not_decode_are_refused(filters, size):
    with pytest.raises(ValueError, match=r"\w"):
        decode(np.full(size, 0x5A, np.uint8), filters, 0, 4, 4096)


def test_a_file_cut_short_is_refused(tmp_path, arrays):
    path = tmp_path / "a.h5"
    path.write_bytes(arrays["contiguous"].file.read_bytes())
    opened = open_snapshots(path, LAYOUT)
    array = trace(opened.u.data)[0].array
    os.truncate(path, array.offset + 100)
    object.__setattr__(array, "check", lambda: None)  # as if it happened between the check and the reading
    with pytest.raises(DataError, match=r"a\.h5: ends at byte \d+: it is truncated"):
        read_box(array, [range(size) for size in SHAPE])


def make_files(folder, names=("contiguous", "gzip", "lzf")):
    paths = []
    for seed, name in enumerate(names):
        paths.append(folder / f"{seed}.h5")
        with h5py.File(paths[-1], "w") as file:
            file.create_dataset("u", data=values(seed=seed), **STORAGE[name])
    return paths


SELECTIONS = {
    "all": lambda ds: ds,
    "some samples": lambda ds: ds.isel(sample=[0, 2, 3, 11, 17, 20, 21, 32]),
    "a slice of everything": lambda ds: ds.isel(sample=slice(3, 30, 2), time=slice(1, 5), y=slice(0, 3)),
    "one point": lambda ds: ds.isel(y=slice(2, 3)),
    "turned": lambda ds: ds.transpose("y", "channel", "time", "sample"),
    "new chunks": lambda ds: ds.isel(sample=slice(5, 25)).isel(sample=[1, 4, 5, 6, 19]),
    "joined again": lambda ds: xr.concat([ds.isel(sample=[1, 2]), ds.isel(sample=slice(20, 30))], "sample"),
}
COMPUTED = {
    "arithmetic": lambda ds: 2 * ds,
    "another type": lambda ds: ds.astype("f8"),
    "a mean": lambda ds: ds.mean("y", keepdims=True),
    "a function": lambda ds: xr.apply_ufunc(np.tanh, ds, dask="allowed"),
    "filled": lambda ds: ds.fillna(0.0),
    "reversed": lambda ds: ds.isel(time=slice(None, None, -1)),
}


@pytest.mark.parametrize("change", SELECTIONS)
def test_selections_stay_in_the_files(tmp_path, change):
    opened = SELECTIONS[change](open_snapshots(make_files(tmp_path), LAYOUT)[["u"]])
    window = Window(steps_in=2, steps_out=1)
    stream = Stream(opened, ["u"], ["u"], batch_size=5, window=window, buffer_bytes=30_000)
    assert stream.reading == {"u": "direct, threaded decoding"}
    check_against_xarray(stream, opened, window)


@pytest.mark.parametrize("change", COMPUTED)
def test_what_is_computed_is_left_to_dask(tmp_path, change):
    opened = COMPUTED[change](open_snapshots(make_files(tmp_path), LAYOUT)[["u"]])
    stream = Stream(opened, ["u"], ["u"], batch_size=5, window=Window(), buffer_bytes=30_000)
    assert stream.reading == {"u": "dask"}
    check_against_xarray(stream, opened, Window())


@pytest.mark.parametrize("steps_out", [0, 1])
@pytest.mark.parametrize("names", [["contiguous"], ["shuffle"], ["contiguous", "checksum"]])
def test_files_of_one_kind(tmp_path, names, steps_out):
    opened = open_snapshots(make_files(tmp_path, names), LAYOUT)
    window = Window(steps_in=1, steps_out=steps_out)
    check_against_xarray(Stream(opened, ["u"], ["u"], batch_size=7, window=window), opened, window)


def check_against_xarray(stream, opened, window):
    loaded = opened.u.transpose("sample", "time", ..., missing_dims="ignore").compute()
    loaded = loaded.transpose("sample", "time", "channel", ...).values
    seen = 0
    for batch in stream:
        places = zip(batch.sample.tolist(), batch.time.tolist(), strict=True)
        for row, (sample, time) in enumerate(places):
            for tensor, offsets in ((batch.inputs, window.input_offsets), (batch.targets, window.target_offsets)):
                steps = [loaded[sample, time + offset] for offset in offsets]
                np.testing.assert_array_equal(tensor[row].numpy(), np.concatenate(steps).astype(np.float32))
        seen += len(batch)
    assert seen == stream.samples


def test_inputs_and_targets_are_one_tensor_where_they_are_the_same(tmp_path):
    opened = open_snapshots(make_files(tmp_path), LAYOUT)
    for batch in Stream(opened, ["u"], ["u"], batch_size=5, window=Window(steps_out=0)):
        assert batch.inputs is batch.targets
        assert batch.inputs.is_contiguous()


def test_two_iterators_of_a_stream_do_not_share_memory(tmp_path):
    stream = Stream(open_snapshots(make_files(tmp_path), LAYOUT), ["u"], ["u"], batch_size=4, buffer_bytes=6_000)
    alone = [batch.inputs for batch in stream]
    stream.set_epoch(0)
    first = iter(stream)
    head = [next(first).inputs for _ in range(3)]
    second = [batch.inputs for batch in iter_from(stream, 0)]
    tail = [batch.inputs for batch in first]
    for whole in (head + tail, second):
        assert all((a == b).all() for a, b in zip(whole, alone, strict=True))


def iter_from(stream, epoch):
    stream.set_epoch(epoch)
    return iter(stream)


def test_a_stream_can_be_sent_to_another_process(tmp_path):
    opened = open_snapshots(make_files(tmp_path), LAYOUT)
    stream = Stream(opened, ["u"], ["u"], batch_size=40, shuffle=False)
    first = next(iter(stream))
    again = next(iter(pickle.loads(pickle.dumps(stream))))  # noqa: S301 (own bytes)
    assert (first.inputs == again.inputs).all()


def test_content_names_data_selection_and_channels_but_not_the_order(tmp_path):
    opened = open_snapshots(make_files(tmp_path), LAYOUT)

    def content(ds=opened, window=None, **options):
        return Stream(ds, ["u"], ["u"], window=window, **{"batch_size": 4, **options}).content

    assert content() == content(batch_size=7, seed=3, shuffle=False, buffer_bytes=10**6)
    assert content() == content(open_snapshots(sorted(tmp_path.iterdir()), LAYOUT))
    selected, doubled, loaded = opened.isel(sample=[1, 2]), opened * 2, opened.compute()
    others = [content(), content(selected), content(doubled), content(loaded), content(window=Window(steps_in=2))]
    os.utime(tmp_path / "0.h5", (1, 1))
    others.append(content(open_snapshots(sorted(tmp_path.iterdir()), LAYOUT)))
    assert len(set(others)) == len(others)


def test_many_small_blocks_share_chunks(tmp_path):
    """The blocks of a stream follow the chunks of the file, also after a selection that dask cuts elsewhere."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("u", data=np.zeros((64, 1, 5000, 1), "f4"), chunks=(8, 1, 5000, 1), compression="gzip")
    opened = open_snapshots(tmp_path / "a.h5", LAYOUT).isel(sample=[i for i in range(64) if i % 8 != 3])
    stream = Stream(opened, ["u"], ["u"], batch_size=7, window=Window(steps_out=0), buffer_bytes=400_000)
    edges = np.unique(stream.plan.blocks[:, :2])
    assert set(edges.tolist()) <= set(range(0, 57, 7))
