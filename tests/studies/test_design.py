"""Names of cases, places of grids, choice among trials."""

import numpy as np
import pytest
import xarray as xr

from surrogate.config import Source
from surrogate.errors import ConfigError
from surrogate.studies import GridStudy, PlannedPoint, StudyPlan, case_name, choose, expand, on_grid, read_study

EXPERIMENT = {
    "name": "a",
    "simulate": None,
    "data": {"path": "x", "inputs": ["u"]},
    "training": {"device": "cpu", "seed": 0},
}
KEYS = {"one": ["training.seed", "a", "b"], "two": ["training.seed", "a"]}


def methods() -> dict[str, Source]:
    return {name: Source("s.yaml", {"a": 0, "b": 0}) for name in KEYS}


def test_device_and_place_of_the_data_do_not_count_and_all_else_does() -> None:
    name = case_name("m", EXPERIMENT, "data")
    moved = EXPERIMENT | {"data": {"path": "elsewhere", "inputs": ["u"]}, "training": {"device": "cuda", "seed": 0}}
    assert case_name("m", moved, "data") == name
    others = [
        case_name("m", EXPERIMENT, "other data"),
        case_name("m", EXPERIMENT | {"training": {"device": "cpu", "seed": 1}}, "data"),
        case_name("m", EXPERIMENT | {"data": {"path": "x", "inputs": ["v"]}}, "data"),
    ]
    assert len({name, *others}) == 4


def test_every_place_trial_and_seed_once_for_every_method() -> None:
    study = GridStudy.model_validate({"kind": "sensitivity", "axes": {"a": [1, 2], "b": [3, 4, 5]}, "seeds": [7, 8]})
    points = expand(study, methods(), KEYS)
    assert [sum(point.method == name for point in points) for name in KEYS] == [12, 4]  # `two` has no b
    first = points[0]
    assert first.source.tree["a"] == 1
    assert first.source.tree["b"] == 3
    assert first.source.tree["training"]["seed"] == first.source.tree["data"]["split"]["train_seed"] == 7


def test_of_the_trials_the_lowest_validation_loss_is_kept_and_a_failure_passed_over() -> None:
    study = GridStudy.model_validate({"kind": "budget", "seeds": [0], "tuning": {"a": [1, 2, 3]}})
    points = [PlannedPoint(method="m", grid=0, values={}, trial={"a": a}, seed=0, case=f"m-{a}") for a in (1, 2, 3)]
    plan = StudyPlan(name="n", study=study, base={"m": {}}, points=points, command="", fingerprint="")
    table = xr.Dataset({"validation_loss": ("point", [np.nan, 0.5, 0.7]), "error": ("point", [np.nan, 9.0, 1.0])})
    assert choose(table, plan)["error"].values.tolist() == [9.0]


def test_a_method_without_an_axis_is_the_same_all_along_it() -> None:
    study = GridStudy.model_validate({"kind": "sensitivity", "axes": {"a": [1, 2]}, "seeds": [0]})
    values = [("one", 1), ("one", 2), ("two", None)]
    points = [
        PlannedPoint(method=method, grid=0, values={"a": value}, trial={}, seed=0, case=f"{method}-{value}")
        for method, value in values
    ]
    plan = StudyPlan(
        name="n", study=study, base={"one": {"a": 0}, "two": {}}, points=points, command="", fingerprint=""
    )
    coords = {"grid": ("point", [0, 0, 0]), "number": ("point", [0, 1, 2]), "case": ("point", ["x", "y", "z"])}
    laid = on_grid(xr.Dataset({"error": ("point", [1.0, 2.0, 3.0])}, coords), plan, 0)
    assert laid["error"].transpose("method", "a", "seed").values[..., 0].tolist() == [[1.0, 2.0], [3.0, 3.0]]


@pytest.mark.parametrize(
    ("study", "told"),
    [
        ({"kind": "budget", "axes": {"training.seed": [1]}}, "training.seed is set by `seeds`"),
        ({"kind": "budget", "axes": {"a": [1]}, "tuning": {"a": [1]}}, "a is both an axis and tuned"),
        ({"kind": "budget", "seeds": [1, 1]}, "a seed appears twice"),
        ({"kind": "budget", "axes": {"a": [1, 1]}}, "a has a value twice"),
        ({"kind": "propose"}, "a section `propose` goes with kind propose"),
    ],
)
def test_mistakes_are_told(study: dict, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_study(Source("s.yaml", {"study": study}))
