"""Splits by simulation: disjoint, nested, reproducible."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from surrogate.data import SplitSettings, split, split_ids
from surrogate.errors import DataError


def make_data(count=40):
    return xr.Dataset(
        {"u": (("sample", "x"), np.arange(2 * count).reshape(count, 2))},
        coords={
            "group": ("sample", np.array(["train"] * (count - 8) + ["test"] * 8)),
            "run": ("sample", np.array([f"run{index // 4}" for index in range(count)])),
            "origin": ("sample", np.array([f"a.h5[{index}]" for index in range(count)])),
        },
    )


@settings(deadline=None, max_examples=60)
@given(
    st.integers(3, 60),
    st.one_of(st.floats(0.01, 0.4), st.integers(0, 1)),
    st.one_of(st.floats(0.01, 0.4), st.integers(0, 1)),
    st.integers(0, 5),
)
def test_parts_cover_all_and_share_nothing(count, validation, test, seed):
    parts = split(make_data(count + 8), SplitSettings(validation=validation, test=test, seed=seed))
    ids = [set(names) for names in split_ids(parts).values()]
    assert sum(map(len, ids)) == len(set.union(*ids)) == count + 8


@given(st.integers(0, 5), st.integers(1, 19))
def test_smaller_training_sets_lie_within_larger_ones(seed, size):
    small, large = (split(make_data(), SplitSettings(train=n, seed=seed)) for n in (size, size + 10))
    ids, more = split_ids(small), split_ids(large)
    assert set(ids["train"]) < set(more["train"])
    assert len(ids["train"]) == size
    assert ids["test"] == more["test"]
    assert ids["validation"] == more["validation"]


def test_a_named_group_is_the_test_set():
    parts = split(make_data(), SplitSettings.model_validate({"validation": 4, "test": {"group": "test"}}))
    assert set(parts["test"].group.values) == {"test"}
    assert {name: ds.sizes["sample"] for name, ds in parts.items()} == {"train": 28, "validation": 4, "test": 8}
    assert "test" not in parts["train"].group.values


def test_all_samples_of_a_simulation_stay_together():
    parts = split(make_data(), SplitSettings(validation=2, test=2), by="run")
    runs = [set(ds.run.values) for ds in parts.values()]
    assert len(set.union(*runs)) == sum(map(len, runs)) == 10
    assert parts["test"].sizes["sample"] == 8
    assert split_ids(parts, by="run")["test"] == list(dict.fromkeys(parts["test"].run.values))


def test_seeds_differ_and_repeat():
    draws = [tuple(split_ids(split(make_data(), SplitSettings(seed=seed)))["test"]) for seed in (0, 1, 0)]
    assert draws[0] == draws[2] != draws[1]


def test_selection_is_sorted_so_that_chunks_are_read_in_order():
    order = split(make_data(), SplitSettings())["train"].u.values[:, 0]
    assert (np.diff(order) > 0).all()


def test_empty_parts_are_left_out():
    assert set(split(make_data(), SplitSettings(validation=0, test=1))) == {"train", "test"}


@pytest.mark.parametrize(
    ("entry", "by", "text"),
    [
        ({"train": 100}, None, "train takes 100 simulations, but 32 of 40 are left"),
        ({"validation": 41}, None, "validation takes 41 simulations, but 36 of 40"),
        ({"validation": 20, "test": 20}, None, "train takes 1 simulations, but 0 of 40"),
        ({"test": {"group": "tests"}}, None, "no simulation in group 'tests'; did you mean 'test'"),
        ({}, "runs", "no coordinate 'runs' on the samples; did you mean 'run'"),
        ({"test": {"group": "test"}, "validation": {"group": "test"}}, None, "validation and test share 8 simulations"),
    ],
)
def test_refusals(entry, by, text):
    with pytest.raises(DataError, match=text):
        split(make_data(), SplitSettings.model_validate(entry), by=by)


def test_leakage_through_a_group_is_refused():
    """Windows of one run in two files: the file is no boundary, the run is."""
    ds = make_data().assign_coords(run=("sample", [f"run{index % 36}" for index in range(40)]))
    entry = SplitSettings.model_validate({"validation": 2, "test": {"group": "test"}})
    parts = split(ds, entry, by="run")
    runs = [set(part.run.values) for part in parts.values()]
    assert len(set.union(*runs)) == sum(map(len, runs))
    with pytest.raises(DataError, match=r"data.by: no coordinate 'runn' .* did you mean 'run'"):
        split(ds, entry, by="runn")


def test_a_simulation_in_two_groups_is_refused():
    ds = make_data().assign_coords(run=("sample", ["same"] * 40))
    groups = SplitSettings.model_validate({"test": {"group": "test"}, "validation": {"group": "train"}})
    with pytest.raises(DataError, match="share 1 simulations"):
        split(ds, groups, by="run")


@given(st.integers(0, 5), st.integers(0, 5), st.integers(1, 19))
def test_another_draw_of_training_simulations_keeps_what_is_held_out(seed, draw, size):
    plain, small, large = (
        split_ids(split(make_data(), SplitSettings(train=train, seed=seed, train_seed=chosen)))
        for train, chosen in ((size, None), (size, draw), (size + 10, draw))
    )
    assert (plain["test"], plain["validation"]) == (small["test"], small["validation"])
    assert not set(small["train"]) & {*small["test"], *small["validation"]}
    assert set(small["train"]) < set(large["train"])


def test_draws_of_training_simulations_differ():
    draws = {
        tuple(split_ids(split(make_data(), SplitSettings(train=8, train_seed=draw)))["train"]) for draw in range(5)
    }
    assert len(draws) == 5
