"""Datasets and files named after training, validation and test are parts of a split: no test data in training."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from surrogate.config import parse_yaml
from surrogate.data import DataSettings, open_data, open_snapshots, split
from surrogate.data.formats.split_names import groups_of_files, split_families, without_group
from surrogate.data.inspect import Description, describe

RNG = np.random.default_rng(0)
COUNTS = {"train": 30, "val": 5, "test": 6}
U = {part: RNG.normal(size=(count, 4, 5)).astype("f4") for part, count in COUNTS.items()}


def parts_of(description: Description) -> tuple[DataSettings, dict[str, xr.Dataset]]:
    text = description.suggested_config
    assert "???" not in text, text
    settings = DataSettings.model_validate(parse_yaml(text, "proposal").tree["data"])
    return settings, split(open_data(settings), settings.split, window=settings.window)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("a_{part}", "b_{part}"),
        ("{part}_a", "{part}_b"),
        ("a{part}", "b{part}"),
        ("{part}A", "{part}B"),
        ("data/a.{part}", "data/b.{part}"),
        ("{part}/a", "{part}/b"),
        ("input-{part}/u", "output-{part}/u"),
        ("set {part}", "sol {part}"),
    ],
)
@pytest.mark.parametrize("parts", [("train", "test"), ("train", "val", "test")])
def test_datasets_of_parts_stay_in_their_parts(tmp_path: Path, name: str, target: str, parts: tuple[str, ...]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for part in parts[::-1]:
            file[name.replace("{part}", part)], file[target.replace("{part}", part)] = U[part], 2 * U[part]
        file["strain"], file["train_loss"] = np.zeros((7, 3)), np.zeros(12)
    settings, opened = parts_of(describe(tmp_path / "a.h5"))
    (inputs,), (targets,) = settings.inputs, settings.targets
    assert inputs != targets
    np.testing.assert_array_equal(opened["test"][inputs], U["test"])
    np.testing.assert_array_equal(opened["test"][targets], 2 * U["test"])
    if "val" in parts:
        np.testing.assert_array_equal(opened["validation"][inputs], U["val"])
        assert opened["train"].sizes["sample"] == 30
    else:
        assert opened["train"].sizes["sample"] + opened["validation"].sizes["sample"] == 30


def test_datasets_of_matlab_are_divided_along_their_last_axis(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.mat", "w") as file:
        for part in ("train", "test"):
            file[f"a_{part}"], file[f"u_{part}"] = U[part].T, 2 * U[part].T
            for name in (f"a_{part}", f"u_{part}"):
                file[name].attrs["MATLAB_class"] = np.bytes_("double")
    settings, opened = parts_of(describe(tmp_path / "a.mat"))
    test = opened["test"][settings.inputs[0]].transpose("sample", "y", "x")
    np.testing.assert_array_equal(test, U["test"])


def test_parts_on_other_grids_or_without_a_counterpart_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "grids.h5", "w") as file:
        file["u_train"], file["u_test"] = np.ones((9, 4, 4)), np.ones((3, 8, 8))
    with h5py.File(tmp_path / "lone.h5", "w") as file:
        file["u_train"], file["u_test"], file["v_train"] = np.ones((9, 4)), np.ones((3, 4)), np.ones((9, 4))
    for name, reason in (("grids", "differ in more than their number of simulations"), ("lone", "v_train has no")):
        description = describe(tmp_path / f"{name}.h5")
        assert not description.suggested_config
        assert any(reason in note for note in description.notes)


@pytest.mark.parametrize("form", ["{part}.h5", "flow_{part}_64.h5", "{part}/flow.h5"])
@pytest.mark.parametrize("named", [True, False])
def test_files_of_parts_stay_in_their_parts(tmp_path: Path, form: str, named: bool) -> None:
    for part in ("train", "val", "test"):
        path = tmp_path / form.replace("{part}", part)
        path.parent.mkdir(exist_ok=True)
        with h5py.File(path, "w") as file:
            for name, values in (("k", U[part]), ("T", 2 * U[part])):
                file[name] = values
                for axis, label in enumerate(("sample", "y", "x") if named else ()):
                    file[name].dims[axis].label = label
    text = describe(str(tmp_path)).suggested_config.replace('sample: "???"', "sample: n")
    settings = DataSettings.model_validate(parse_yaml(text.replace('time: "???"', "time: none"), "a").tree["data"])
    opened = split(open_data(settings), settings.split)
    for part, label in (("train", "train"), ("validation", "val"), ("test", "test")):
        np.testing.assert_array_equal(opened[part]["T"], 2 * U[label])


def test_files_of_a_split_have_its_parts_as_groups(tmp_path: Path) -> None:
    for part in ("Train", "Test"):
        ds = xr.Dataset({"u": (("sample", "x"), np.ones((3, 4)))})
        ds.to_netcdf(tmp_path / f"flow_{part}.nc", engine="h5netcdf")
    assert open_snapshots(tmp_path)["group"].values.tolist() == ["Test"] * 3 + ["Train"] * 3


def test_names_are_parts_only_with_a_counterpart() -> None:
    names = ["strain", "test", "value", "x_train", "x_val", "latest"]
    assert split_families(names) == {"x_{group}": {"train": "x_train", "val": "x_val"}}
    assert not groups_of_files([Path("a/strain_1.h5"), Path("a/stress_1.h5")])
    assert not groups_of_files([Path("test/run_0.h5"), Path("test/run_1.h5")])
    assert [without_group(n) for n in ("x_{group}", "{group}-x", "{group}X", "{group}", "x")] == [
        "x",
        "x",
        "X",
        "",
        "x",
    ]
