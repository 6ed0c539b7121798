"""The order of samples: every window once, in bounded groups, whoever takes part."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surrogate.data.streaming.read_plan import Consumer, ReadPlan, make_blocks, merge_chunks
from surrogate.errors import ConfigError

CHUNKS = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@st.composite
def plans(draw):
    samples, times = draw(CHUNKS), draw(CHUNKS)
    extent = draw(st.integers(1, sum(times)))
    capacity = draw(st.integers(1, 40))
    blocks = make_blocks(samples, times, extent, capacity)
    plan = ReadPlan(
        blocks,
        capacity,
        draw(st.integers(1, 12)),
        seed=draw(st.integers(0, 3)),
        shuffle=draw(st.booleans()),
        drop_last=draw(st.booleans()),
    )
    return plan, sum(samples), sum(times) - extent + 1


def batches(plan, epoch, consumer=Consumer()):  # noqa: B008 (frozen)
    """Windows by batch, in the order in which a consumer sees them."""
    seen: dict[int, list[int]] = {}
    for group in plan.groups(epoch):
        for batch, windows in plan.share(epoch, group, consumer).items():
            seen.setdefault(batch, []).extend(windows.tolist())
    return seen


@settings(deadline=None, max_examples=60)
@given(plans(), st.integers(0, 3))
def test_every_window_once(case, epoch):
    plan, simulations, starts = case
    taken = [window for batch in batches(plan, epoch).values() for window in batch]
    kept = plan.batches * plan.batch_size if plan.drop_last else simulations * starts
    assert len(taken) == len(set(taken)) == min(kept, simulations * starts)
    sample, start = plan.locate(np.arange(plan.windows))
    assert set(zip(sample.tolist(), start.tolist(), strict=True)) == set(np.ndindex(simulations, starts))


@settings(deadline=None, max_examples=60)
@given(plans(), st.integers(1, 3), st.integers(1, 3))
def test_ranks_and_workers_restore_the_sequence(case, world, workers):
    plan, _, _ = case
    whole = batches(plan, 1)
    assert list(whole) == list(range(plan.batches))
    for batch, windows in whole.items():
        shares = [batches(plan, 1, Consumer(r, world, batch % workers, workers))[batch] for r in range(world)]
        assert sum(shares, []) == windows
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    for worker in range(workers):
        assert list(batches(plan, 1, Consumer(0, world, worker, workers))) == list(range(worker, plan.batches, workers))


@settings(deadline=None, max_examples=60)
@given(plans(), st.integers(0, 9))
def test_resuming_leaves_out_only_what_was_done(case, first):
    plan, _, _ = case
    whole = batches(plan, 2)
    assert batches(plan, 2, Consumer(first=first)) == {k: windows for k, windows in whole.items() if k >= first}


@settings(deadline=None, max_examples=60)
@given(plans(), st.integers(0, 3))
def test_groups_are_bounded_and_full(case, epoch):
    plan, _, _ = case
    groups = plan.groups(epoch)
    sizes = [int(plan.sizes[group.blocks].sum()) for group in groups]
    assert max(sizes) <= plan.capacity
    assert all(
        size + plan.sizes[after.blocks[0]] > plan.capacity for size, after in zip(sizes, groups[1:], strict=False)
    )
    assert [group.stop - group.start for group in groups] == sizes


@settings(deadline=None, max_examples=60)
@given(plans(), st.integers(1, 4))
def test_a_share_needs_the_blocks_of_its_windows(case, world):
    plan, _, _ = case
    for group in plan.groups(0):
        share = plan.share(0, group, Consumer(0, world))
        needed = plan.needed(share)
        assert set(needed.tolist()) <= set(group.blocks.tolist())
        held = {w for block in needed for w in range(plan.offsets[block], plan.offsets[block + 1])}
        assert {w for windows in share.values() for w in windows.tolist()} <= held


@given(CHUNKS, CHUNKS, st.integers(1, 5), st.integers(1, 60))
def test_blocks_are_whole_chunks_unless_one_chunk_is_too_large(samples, times, extent, largest):
    if extent > sum(times):
        return
    edges = set(np.cumsum([0, *samples]).tolist())
    starts = sum(times) - extent + 1
    time_edges = {min(int(edge), starts) for edge in np.cumsum([0, *times])}
    blocks = make_blocks(samples, times, extent, largest)
    assert ((blocks[:, 1] - blocks[:, 0]) * (blocks[:, 3] - blocks[:, 2])).max() <= largest
    if max(samples) * max(times) <= largest:
        assert set(blocks[:, :2].ravel().tolist()) <= edges
        assert set(blocks[:, 2:].ravel().tolist()) <= time_edges


@given(CHUNKS, st.integers(1, 20))
def test_merged_chunks_keep_their_edges(chunks, largest):
    merged = merge_chunks(chunks, largest)
    assert set(np.cumsum(merged).tolist()) <= set(np.cumsum(chunks).tolist())
    assert sum(merged) == sum(chunks)
    assert all(chunk <= max(largest, *chunks) for chunk in merged)


def test_order_depends_on_seed_and_epoch():
    def order(seed, epoch):
        plan = ReadPlan(make_blocks([4] * 16, [1], 1, 64), 16, 8, seed=seed)
        return sum(batches(plan, epoch).values(), [])

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_a_block_larger_than_the_buffer_is_refused():
    with pytest.raises(ConfigError, match="buffer holds 3 samples, a block 8"):
        ReadPlan(make_blocks([8], [1], 1, 8), 3, 2)
    with pytest.raises(ConfigError, match="batch_size is 0"):
        ReadPlan(make_blocks([8], [1], 1, 8), 8, 0)
