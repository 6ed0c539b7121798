"""Batches on their device: in order, one started ahead, positions of what was handed out."""

import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from surrogate.batch import Batch
from surrogate.data.streaming.device import in_thread, on_device, one_ahead
from surrogate.errors import DataError


def numbered(count):
    for k in range(count):
        values, index = torch.full((2, 3), float(k)), torch.zeros(2, dtype=torch.int64)
        yield k + 1, Batch(values, values if k % 2 else -values, index, index)


@given(st.integers(0, 6))
def test_the_next_is_started_before_an_item_is_handed_out(count):
    started, finished = [], []

    def start(item):
        started.append(item)
        return item

    for item in one_ahead(range(count), start, lambda item: item):
        finished.append(item)
        assert len(started) == min(len(finished) + 1, count)
    assert finished == started == list(range(count))


def test_on_the_host_nothing_is_copied():
    batches = list(numbered(3))
    assert [a is b for a, b in zip(on_device(batches, torch.device("cpu")), batches, strict=True)] == [True] * 3


def test_other_devices_get_each_batch():
    moved = list(on_device(numbered(3), torch.device("meta")))
    assert [(done, batch.inputs.device.type) for done, batch in moved] == [(1, "meta"), (2, "meta"), (3, "meta")]


@pytest.mark.gpu
def test_copies_on_a_side_stream_arrive_before_use():
    batches = [(k, batch) for k, batch in numbered(50)]
    for (done, batch), (expected, host) in zip(on_device(batches, torch.device("cuda")), batches, strict=True):
        assert done == expected
        assert torch.equal((2 * batch.inputs).cpu(), 2 * host.inputs)
        assert torch.equal(batch.targets.cpu(), host.targets)
        assert (batch.targets is batch.inputs) == (host.targets is host.inputs)


def test_a_thread_makes_each_item_while_the_one_before_is_used():
    made = []

    def items():
        for number in range(4):
            made.append((number, threading.current_thread() is threading.main_thread()))
            yield number

    found = in_thread(items())
    assert next(found) == 0
    while len(made) < 2:
        time.sleep(0.001)
    assert made == [(0, True), (1, False)]
    assert [*found] == [1, 2, 3]


def test_a_thread_ends_with_its_consumer_and_passes_errors_on():
    closed = []

    def items():
        try:
            yield 1
            yield 2
            raise DataError("bad")
        finally:
            closed.append(True)

    found = in_thread(items())
    next(found)
    found.close()
    assert closed == [True]
    with pytest.raises(DataError, match="bad"):
        list(in_thread(items()))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stream")]
