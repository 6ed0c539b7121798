"""Streaming against a gather in NumPy, resuming, sharing, and what a bad value looks like."""

import threading

import dask.array as da
import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from surrogate.data import Stream, Window
from surrogate.errors import ConfigError, DataError


def make_data(samples=13, times=7, chunks=(4, 3)):
    rng = np.random.default_rng(0)
    u = rng.normal(size=(samples, times, 2, 3, 4))
    ds = xr.Dataset(
        {
            "u": (("sample", "time", "channel", "y", "x"), da.from_array(u, chunks=(*chunks, 2, 3, 4)), {"units": "m"}),
            "k": (("sample", "y", "x"), da.from_array(rng.normal(size=(samples, 3, 4)), chunks=(5, 3, 4))),
            "nu": (("sample",), rng.normal(size=samples)),
            "mask": (("y", "x"), rng.normal(size=(3, 4))),
            "f": (("time",), rng.normal(size=times)),
        },
        coords={"x": ("x", np.linspace(0, 1, 4))},
    )
    return ds


def reference(ds, names, sample, start, offsets):
    """The channels of one window by the definition, in NumPy."""
    moving = [name for name in names if "time" in ds[name].dims]
    steps = [(name, start + offset) for offset in offsets for name in moving]
    channels = []
    for name, step in steps + [(name, 0) for name in names if name not in moving]:
        place = {"sample": sample, "time": step}
        array = ds[name]
        values = array.values[tuple(place.get(dim, slice(None)) for dim in array.dims)]
        values = values if "channel" in array.dims else values[None]
        channels += [np.broadcast_to(value, (3, 4)) for value in values]
    return np.array(channels, np.float32)


def identity(batch):
    return [(int(s), int(t)) for s, t in zip(batch.sample, batch.time, strict=True)]


def order(stream):
    return [identity(batch) for batch in stream]


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps_in=st.integers(1, 2),
    steps_out=st.integers(0, 2),
    stride=st.integers(1, 2),
    batch_size=st.integers(1, 9),
    buffer=st.sampled_from([6_000, 20_000, 10_000_000]),
    chunks=st.tuples(st.integers(1, 5), st.integers(1, 8)),
)
def test_equals_a_gather_in_numpy(steps_in, steps_out, stride, batch_size, buffer, chunks):
    ds = make_data(samples=5, times=8, chunks=chunks)
    loaded, window = ds.compute(), Window(steps_in=steps_in, steps_out=steps_out, stride=stride)
    inputs, targets = ["mask", "u", "nu", "f", "k", "x"], ["u"]
    stream = Stream(ds, inputs, targets, batch_size=batch_size, window=window, buffer_bytes=buffer)
    seen = []
    for batch in stream:
        assert batch.inputs.dtype == batch.targets.dtype == torch.float32
        for row, (sample, start) in enumerate(identity(batch)):
            seen.append((sample, start))
            expected = reference(loaded, inputs, sample, start, window.input_offsets)
            np.testing.assert_array_equal(batch.inputs[row].numpy(), expected)
            expected = reference(loaded, targets, sample, start, window.target_offsets)
            np.testing.assert_array_equal(batch.targets[row].numpy(), expected)
    assert sorted(seen) == list(np.ndindex(5, 8 - window.extent + 1))
    assert len(seen) == stream.samples


def test_names_units_and_shapes():
    stream = Stream(make_data(), ["u", "nu"], ["u"], batch_size=4, window=Window(steps_in=2, steps_out=1))
    assert stream.input_names == ("u.0[t-1]", "u.1[t-1]", "u.0[t+0]", "u.1[t+0]", "nu")
    assert stream.target_names == ("u.0[t+1]", "u.1[t+1]")
    assert stream.inputs.units == ("m", "m", "m", "m", "")
    assert stream.inputs.shape == (5, 3, 4)
    assert (stream.spatial_dims, stream.spatial_shape) == (("y", "x"), (3, 4))
    assert len(stream) == -(-13 * 5 // 4)


def test_parameters_alone_have_no_space():
    stream = Stream(make_data(), ["nu"], ["k"], batch_size=13, shuffle=False)
    (batch,) = stream
    assert batch.inputs.shape == (13, 1)
    assert batch.targets.shape == (13, 1, 3, 4)
    assert batch.sample.tolist() == list(range(13))


def test_what_xarray_does_flows_into_the_batches():
    ds = make_data()
    doubled = ds.assign(k=2 * ds.k).isel(sample=[1, 4, 9], x=slice(1, 3))
    (batch,) = Stream(doubled, ["k"], ["k"], batch_size=8, shuffle=False)
    np.testing.assert_array_equal(batch.inputs[:, 0], (2 * ds.k.values[[1, 4, 9], :, 1:3]).astype(np.float32))


@pytest.mark.parametrize("buffer", [6_000, 10_000_000])
def test_resumes_at_any_batch(buffer):
    def make():
        return Stream(make_data(), ["u"], ["k"], batch_size=6, buffer_bytes=buffer, seed=3)

    whole = make()
    epochs = [order(whole), order(whole)]
    assert epochs[0] != epochs[1]
    for stop in range(len(whole) + 1):
        first = make()
        first.set_epoch(1)
        iterator = iter(first)
        head = [identity(next(iterator)) for _ in range(stop)]
        state = first.state_dict()
        iterator.close()
        second = make()
        second.load_state_dict(state)
        assert head + order(second) == epochs[1]
        assert second.state_dict() == {**state, "epoch": 2, "batches": 0}


def test_a_state_of_another_order_is_refused():
    state = Stream(make_data(), ["u"], ["k"], batch_size=6).state_dict()
    with pytest.raises(ConfigError, match="another order of samples; resume with the same data"):
        Stream(make_data(), ["u"], ["k"], batch_size=5).load_state_dict(state)


def test_looking_at_the_first_batch_loses_nothing():
    stream = Stream(make_data(), ["u"], ["k"], batch_size=6)
    first = next(iter(stream))
    again = list(stream)
    assert len(again) == len(stream)
    assert torch.equal(first.inputs, again[0].inputs)


@pytest.mark.parametrize("buffer", [6_000, 10_000_000])
def test_ranks_together_see_the_batches_of_one(buffer):
    def make(rank, world):
        options = {"batch_size": 6, "buffer_bytes": buffer, "rank": rank, "world": world}
        return Stream(make_data(), ["u"], ["k"], **options)

    alone, ranks = make(0, 1), [make(rank, 3) for rank in range(3)]
    for _ in range(2):
        shares = [order(stream) for stream in ranks]
        assert [sum(parts, []) for parts in zip(*shares, strict=True)] == order(alone)


@pytest.mark.parametrize("workers", [1, 2])
def test_loader_workers_keep_the_order(workers):
    stream = Stream(make_data(), ["u"], ["k"], batch_size=10, buffer_bytes=20_000)
    loader = DataLoader(stream, batch_size=None, num_workers=workers)
    assert len(loader) == len(stream)
    assert [identity(batch) for batch in loader] == order(stream)


def test_drop_last_leaves_out_the_ragged_batch():
    stream = Stream(make_data(), ["k"], ["k"], batch_size=5, drop_last=True)
    assert [len(batch) for batch in stream] == [5, 5]


def test_the_reading_thread_ends_with_its_consumer():
    before = threading.active_count()
    iterator = iter(Stream(make_data(), ["u"], ["k"], batch_size=1, buffer_bytes=6_000))
    next(iterator)
    iterator.close()
    assert threading.active_count() == before


def test_a_bad_value_is_named_with_its_index():
    ds = make_data().assign_coords(origin=("sample", [f"a.h5[{i}]" for i in range(13)]))
    values = ds.u.values
    values[9, 5, 1, 2, 3] = np.nan
    stream = Stream(ds.assign(u=(ds.u.dims, values)), ["u"], ["k"], batch_size=4, buffer_bytes=6_000)
    text = r"variable 'u' of a.h5\[9\] holds nan at \[sample 9, time 5, channel 1, y 2, x 3\]; correct the file"
    with pytest.raises(DataError, match=text):
        list(stream)


def test_a_value_too_large_for_float32_is_named():
    ds = make_data()
    values = ds.k.values
    values[2, 0, 1] = 1e300
    text = r"'k' holds 1e\+300, too large for float32, at \[sample 2, y 0, x 1\]; rescale it"
    with pytest.raises(DataError, match=text):
        list(Stream(ds.assign(k=(ds.k.dims, values)), ["k"], ["k"], batch_size=4))


def test_large_sums_of_finite_values_are_no_fault():
    ds = xr.Dataset({"k": (("sample", "x"), np.full((4, 8), 3e38, np.float32))})
    (batch,) = Stream(ds, ["k"], ["k"], batch_size=4)
    assert torch.isfinite(batch.inputs).all()


@pytest.mark.parametrize(
    ("change", "options", "error", "text"),
    [
        ({}, {"inputs": ["v"]}, DataError, "no variable 'v' in the data; .*the data hold u "),
        ({}, {"inputs": ["maks"]}, DataError, "did you mean 'mask'"),
        ({}, {"targets": []}, DataError, "name at least one input and one target"),
        ({"s": (("sample",), np.array(["a"] * 13))}, {"inputs": ["s"]}, DataError, "expected real numbers"),
        ({"w": (("sample", "z"), np.ones((13, 2)))}, {"inputs": ["k", "w"]}, DataError, "'k' .*'w' .*different grids"),
        ({}, {"window": Window(steps_in=6, steps_out=2)}, ConfigError, "spans 8 time steps, the data have 7"),
        ({}, {"inputs": ["k"], "targets": ["k"], "window": Window()}, ConfigError, "none of k, k has a time axis"),
        ({}, {"buffer_bytes": 100}, ConfigError, "buffer_bytes is 100, but two samples take"),
        ({}, {"rank": 2, "world": 2}, ConfigError, "rank 2 of 2"),
        ({}, {"batch_size": 1, "world": 2}, ConfigError, "every rank needs a sample"),
    ],
)
def test_refusals(change, options, error, text):
    options = {"inputs": ["u"], "targets": ["k"], "batch_size": 4} | options
    with pytest.raises(error, match=text):
        Stream(make_data().assign(change), **options)


def test_no_samples_left():
    with pytest.raises(DataError, match="no sample"):
        Stream(make_data().isel(sample=slice(0)), ["u"], ["k"], batch_size=4)
