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


@settings(deadline=None, max_examples=40)
@given(st.integers(4, 40), st.one_of(st.integers(2, 4), st.just("leave_one_out")), st.integers(0, 3))
def test_every_simulation_is_the_test_of_one_fold(count, folds, seed):
    data = make_data(4 * count).assign_coords(run=("sample", [f"run{index // 4}" for index in range(4 * count)]))
    number = count if folds == "leave_one_out" else folds
    tests = []
    for fold in range(number):
        parts = split(data, SplitSettings(folds=folds, fold=fold, validation=1, seed=seed), by="run")
        ids = split_ids(parts, by="run")
        assert set(ids["train"]).isdisjoint(ids["test"])
        assert len(ids["train"]) + len(ids["validation"]) + len(ids["test"]) == count
        tests.append(ids["test"])
    assert sorted(name for ids in tests for name in ids) == sorted({f"run{index}" for index in range(count)})
    assert max(map(len, tests)) - min(map(len, tests)) <= 1


def test_extrapolation_holds_out_a_range_of_a_parameter():
    data = make_data().assign_coords(reynolds=("sample", np.linspace(100, 1000, 40)))
    parts = split(data, SplitSettings(extrapolate={"reynolds": "> 900"}, validation=4))
    assert float(parts["test"]["reynolds"].min()) > 900
    assert max(float(parts[name]["reynolds"].max()) for name in ("train", "validation")) <= 900
    with pytest.raises(DataError, match="no coordinate 'reynold' on the samples"):
        split(data, SplitSettings(extrapolate={"reynold": "> 900"}))
    with pytest.raises(DataError, match="leaves simulations on both sides"):
        split(data, SplitSettings(extrapolate={"reynolds": "> 9000"}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 5, "test": 3}, "folds and test both choose"),
        ({"folds": 5, "extrapolate": {"a": "> 1"}}, "folds and extrapolate both choose"),
        ({"folds": 5, "fold": 5}, "fold: 5 needs folds: 6 or more"),
        ({"fold": 1}, "fold: 1 needs folds"),
        ({"extrapolate": {"a": "about 3"}}, "pattern"),
    ],
)
def test_splits_that_contradict_themselves_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SplitSettings.model_validate(options)


def test_more_folds_than_simulations_are_refused():
    with pytest.raises(DataError, match="41 folds of 40 simulations"):
        split(make_data(), SplitSettings(folds=41))


def test_steps_of_time_and_folds_of_simulations_exclude_each_other():
    with pytest.raises(ValueError, match="by: time divides time steps; folds and extrapolate choose simulations"):
        SplitSettings(by="time", folds=3)
