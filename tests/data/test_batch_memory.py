"""Batches belong to whoever holds them; the memory of those that nobody holds is used again."""

import gc

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from surrogate.data import Stream
from surrogate.data.streaming import batch_memory
from surrogate.data.streaming.batch_memory import KEPT, BatchMemory


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch):
    monkeypatch.setattr(batch_memory, "SMALL", 1)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["drop", "tensor", "row", "array"])), max_size=20))
def test_what_is_held_keeps_its_values(takes):
    memory, held = BatchMemory((2, 3)), []
    for number, (samples, how) in enumerate(takes):
        tensor = memory.take(samples).fill_(number)
        assert tensor.shape == (samples, 2, 3)
        assert tensor.is_contiguous()
        view = {"tensor": tensor, "row": tensor[-1], "array": tensor.numpy()[0]}.get(how)
        if view is not None:
            held.append((number, view))
        del tensor, view
    assert all((np.asarray(view) == number).all() for number, view in held)


def test_memory_without_a_batch_is_used_again_and_little_of_it_is_kept():
    memory = BatchMemory((4,))
    first = memory.take(8)
    place = first.data_ptr()
    del first
    assert memory.take(3).data_ptr() == place
    many = [memory.take(8) for _ in range(3 * KEPT)]
    del many
    gc.collect()
    assert len(memory._free) == KEPT


def test_memory_lives_as_long_as_the_graph_that_saved_it():
    memory, weight = BatchMemory((3,)), torch.ones(3, requires_grad=True)
    product = (memory.take(2).fill_(5.0) * weight).sum()
    memory.take(2).fill_(-1.0)
    product.backward()
    assert weight.grad.tolist() == [10.0, 10.0, 10.0]


@pytest.mark.parametrize("workers", [None, 1])
def test_a_list_of_all_batches_has_all_samples(workers):
    ds = xr.Dataset({"u": (("sample", "x"), np.arange(40.0).reshape(20, 2)), "k": ("sample", np.arange(20.0))})
    stream = Stream(ds, ["u"], ["k"], batch_size=3, buffer_bytes=100)
    source = stream if workers is None else DataLoader(stream, batch_size=None, num_workers=workers)
    batches = list(source)
    assert torch.equal(
        torch.cat([batch.inputs for batch in batches])[:, 0, 0] / 2, torch.cat([b.sample for b in batches])
    )
    assert torch.equal(torch.cat([batch.targets for batch in batches])[:, 0], torch.cat([b.sample for b in batches]))
