"""Windows straight from the files are those of the buffer, and only long runs of float32 are read like that."""

import os
import pickle

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surrogate.data import MappedVariable, Mapping, Stream, Window, open_snapshots
from surrogate.data.streaming import windows
from surrogate.errors import DataError

SIZES = {"sample": 7, "time": 8, "channel": 2, "y": 4, "x": 3}
ORDERS = {
    "channels first": ("sample", "time", "channel", "y", "x"),
    "channels last": ("sample", "time", "y", "x", "channel"),
    "space turned": ("sample", "time", "x", "y", "channel"),
    "time first": ("time", "sample", "y", "x"),
}
WINDOWS = st.builds(Window, steps_in=st.integers(1, 2), steps_out=st.integers(0, 2), stride=st.integers(1, 2))


@pytest.fixture(autouse=True)
def short_runs(monkeypatch):
    monkeypatch.setattr(windows, "SHORT_RUN", 1)
    monkeypatch.setattr(windows, "PORTION_BYTES", 250)  # two steps


def write(folder, order, dtype="f4", files=2, **options):
    rng = np.random.default_rng(0)
    for number in range(files):
        with h5py.File(folder / f"{number}.h5", "w") as file:
            data = rng.normal(size=[SIZES[axis] for axis in order]).astype(dtype)
            file.create_dataset("u", data=data, **options)
            file["k"], file["f"] = rng.normal(size=7), np.arange(8.0)
    axes = {"u": order, "k": ("sample",), "f": ("time",)}
    layout = Mapping(variables={name: MappedVariable(path=name, axes=entry) for name, entry in axes.items()})
    return open_snapshots(folder, layout)


def streams(ds, inputs=("u",), targets=("u",), **options):
    """One that reads straight from the files, one that reads through the buffer."""
    straight, buffered = (Stream(ds, inputs, targets, **options) for _ in range(2))
    assert straight._straight is not None
    buffered._straight = None
    return straight, buffered


def assert_same(one, two):
    batches = list(zip(one, two, strict=True))
    assert batches
    for a, b in batches:
        for name in ("inputs", "targets", "sample", "time"):
            np.testing.assert_array_equal(getattr(a, name).numpy(), getattr(b, name).numpy())
        assert a.inputs.is_contiguous()
        assert (a.inputs is a.targets) == (b.inputs is b.targets)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return {name: write(tmp_path_factory.mktemp("order"), order) for name, order in ORDERS.items()}


@pytest.mark.parametrize("name", ORDERS)
@settings(deadline=None, max_examples=8, suppress_health_check=list(HealthCheck))
@given(
    window=WINDOWS,
    batch=st.integers(1, 9),
    buffer=st.sampled_from([4_000, 10**6]),
    rows=st.sets(st.integers(0, 13)),
    inputs=st.sampled_from([("u",), ("u", "k", "f")]),
    shuffle=st.booleans(),
)
def test_batches_are_those_of_the_buffer(opened, name, window, batch, buffer, rows, inputs, shuffle):
    ds = opened[name].isel(sample=sorted(rows | {0, 8}))
    options = {"batch_size": batch, "window": window, "buffer_bytes": buffer, "seed": len(rows), "shuffle": shuffle}
    both = streams(ds, inputs, **options)
    for _ in range(2):
        assert_same(*both)


@pytest.mark.parametrize("rank", [0, 1])
def test_ranks_and_resumption(tmp_path, rank):
    ds = write(tmp_path, ORDERS["channels last"])
    both = streams(ds, batch_size=5, buffer_bytes=4_000, rank=rank, world=2)
    whole = list(both[0])
    both[0].load_state_dict(both[0].state_dict() | {"epoch": 0, "batches": 4})
    for batch, again in zip(whole[4:], pickle.loads(pickle.dumps(both[0])), strict=True):  # noqa: S301 (own bytes)
        np.testing.assert_array_equal(batch.inputs, again.inputs)
    assert_same(*streams(ds, batch_size=5, buffer_bytes=4_000, rank=rank, world=2))


@pytest.mark.parametrize(
    ("dtype", "options", "change"),
    [
        ("f8", {}, None),
        (">f4", {}, None),
        ("f4", {"compression": "gzip"}, None),
        ("f4", {}, {"y": slice(1, 3)}),
        ("f4", {}, {"time": [0, 2, 1, 3]}),
    ],
)
def test_everything_else_goes_through_the_buffer(tmp_path, dtype, options, change):
    ds = write(tmp_path, ORDERS["channels first"], dtype, **options).isel(change or {})
    assert Stream(ds, ["u"], ["u"], batch_size=4)._straight is None


def test_a_selection_of_steps_stays_in_the_file(tmp_path):
    ds = write(tmp_path, ORDERS["time first"]).isel(time=slice(1, None, 2))
    assert_same(*streams(ds, batch_size=4))


def test_a_bad_value_is_named_with_its_index(tmp_path):
    write(tmp_path, ORDERS["channels last"])
    with h5py.File(tmp_path / "1.h5", "r+") as file:
        file["u"][3, 2, 1, 0, 1] = np.inf
    ds = write_again(tmp_path)
    text = r"'u' of 1.h5\[3\] holds inf at \[sample 10, time 2, channel 1, y 1, x 0\]; correct the file"
    with pytest.raises(DataError, match=text):
        list(streams(ds, batch_size=4)[0])


def write_again(folder):
    layout = Mapping(variables={"u": MappedVariable(path="u", axes=ORDERS["channels last"])})
    return open_snapshots(folder, layout)


def test_sums_that_overflow_are_no_fault(tmp_path):
    write(tmp_path, ORDERS["channels last"])
    with h5py.File(tmp_path / "0.h5", "r+") as file:
        file["u"][...] = 3e38
    assert len(list(streams(write_again(tmp_path), batch_size=4)[0])) > 0


def test_a_changed_file_is_refused(tmp_path):
    stream, _ = streams(write(tmp_path, ORDERS["channels first"]), batch_size=4)
    list(stream)
    os.utime(tmp_path / "0.h5", (1, 1))
    with pytest.raises(DataError, match=r"0.h5: was replaced or changed while in use; open the data again"):
        list(stream)


@settings(deadline=None, max_examples=10, suppress_health_check=list(HealthCheck))
@given(
    window=WINDOWS, rows=st.sets(st.integers(0, 13), min_size=1), name=st.sampled_from(["channels last", "time first"])
)
def test_what_is_fetched_ahead_is_what_the_windows_need(opened, window, rows, name):
    ds = opened[name].isel(sample=sorted(rows))
    stream, _ = streams(ds, batch_size=4, window=window, buffer_bytes=4_000)
    held = stream._straight
    runs, size = held.runs["u"], 4 * held.runs["u"].count
    for group in stream.plan.groups(0):
        asked = set()
        for array, start, length in windows._byte_ranges(runs, stream.plan.blocks[group.blocks], stream._reader.extent):
            stretch = {(array.file, byte) for byte in range(start, start + length, size)}
            assert not asked & stretch
            asked |= stretch
        sample, time = stream.plan.locate(stream.plan.sequence(0, group))
        needed = set()
        for offset in [*window.input_offsets, *window.target_offsets]:
            places = zip(runs.array[sample].tolist(), runs.offsets(sample, time + offset).tolist(), strict=True)
            needed |= {(runs.arrays[number].file, byte) for number, byte in places}
        assert needed <= asked
