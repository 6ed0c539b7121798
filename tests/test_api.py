"""The commands as functions: the same results from a dictionary, settings, a file and data in memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import surrogate as sg
from surrogate.config import dump_tree

pytestmark = pytest.mark.usefixtures("blank_pictures")

SETTINGS = {
    "data": {"inputs": ["phase", "amplitude"], "targets": ["u"], "split": {"validation": 0.2, "test": 0.2}},
    "model": {"family": "mlp", "width": 8, "depth": 1},
    "optimizer": {"name": "slimtrain"},
    "training": {"epochs": 2, "batch_size": 8},
}


@pytest.fixture(scope="module")
def waves() -> xr.Dataset:
    """u(x) = amplitude sin(2 pi (x + phase))."""
    phase, amplitude = np.random.default_rng(0).normal(size=(2, 30)).astype("f4")
    x = np.linspace(0, 1, 16, dtype="f4")
    u = amplitude[:, None] * np.sin(2 * np.pi * (x + phase[:, None]))
    values = {"u": (("sample", "x"), u), "phase": ("sample", phase), "amplitude": ("sample", amplitude)}
    return xr.Dataset(values, {"x": x})


@pytest.fixture(scope="module")
def run(waves: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> sg.Run:
    return sg.train(SETTINGS, tmp_path_factory.mktemp("api") / "waves", data=waves, quiet=True)


def test_the_evaluation_is_that_of_the_loaded_surrogate(run: sg.Run, waves: xr.Dataset) -> None:
    metrics = run.evaluation
    samples = np.abs(waves["phase"].values - metrics["parameter_phase"].values[:, None]).argmin(1)
    inputs = torch.from_numpy(np.stack([waves["phase"], waves["amplitude"]], 1)[samples])
    with torch.no_grad():
        prediction = run.surrogate(inputs).squeeze().numpy()
    truth = waves["u"].values[samples]
    expected = np.linalg.norm(prediction - truth, axis=1) / np.linalg.norm(truth, axis=1)
    np.testing.assert_allclose(metrics["relative_l2_sample"], expected, rtol=1e-5)
    assert run.error == pytest.approx(expected.mean(), rel=1e-5)


def test_a_dictionary_settings_and_a_file_train_the_same_surrogate(run: sg.Run, tmp_path: Path) -> None:
    file = tmp_path / "waves.yaml"
    path = run.experiment.data.path
    file.write_text(dump_tree({"name": "waves", **SETTINGS, "data": {**SETTINGS["data"], "path": path}}))
    for name, config in {"file": file, "settings": run.experiment}.items():
        again = sg.train(config, tmp_path / name, quiet=True)
        assert again.log["validation_loss"].tolist() == run.log["validation_loss"].tolist()


def test_a_run_is_shown_with_its_error(run: sg.Run) -> None:
    assert run.error > 0
    assert all(word in run._repr_html_() for word in ("mlp", "slimtrain", "test relative L2"))


def test_predictions_are_opened_as_a_data_set(run: sg.Run, waves: xr.Dataset, tmp_path: Path) -> None:
    predicted = run.predict(run.experiment.data.path, tmp_path / "predictions.nc")
    inputs = torch.from_numpy(np.stack([waves["phase"], waves["amplitude"]], 1))
    with torch.no_grad():
        expected = run.surrogate(inputs).squeeze().numpy()
    np.testing.assert_allclose(predicted["u"], expected, rtol=1e-5, atol=1e-6)


def test_other_data_in_memory_do_not_replace_those_of_an_earlier_run(run: sg.Run, waves: xr.Dataset) -> None:
    with pytest.raises(sg.ConfigError, match="other data of an earlier run"):
        sg.train(SETTINGS, run.path, data=waves * 2, quiet=True)
    np.testing.assert_array_equal(sg.open_snapshots(run.experiment.data.path)["u"], waves["u"])


def test_a_project_has_a_run_for_every_case(waves: xr.Dataset, tmp_path: Path) -> None:
    cases = {"slimtrain": {}, "adam": {"optimizer": {"name": "adam"}}}
    lines: list[str] = []
    project = sg.run({**SETTINGS, "cases": cases}, tmp_path / "p", data=waves, say=lines.append)
    assert set(project.cases) == set(cases)
    assert project.errors["adam"] == project["adam"].error
    assert project.report.is_file()
    assert lines[-1] == f"report: {project.report}"
    with pytest.raises(KeyError, match=r"no case .sdam.*adam"):
        project["sdam"]


def test_values_that_no_configuration_can_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(sg.ConfigError, match="the configuration holds object"):
        sg.train({**SETTINGS, "model": {"family": object()}}, tmp_path / "run")


def test_simulated_data_are_opened(tmp_path: Path) -> None:
    data = sg.make_data("dc_resistivity", tmp_path / "data", size="tiny")
    assert data.sizes["sample"] > 0
    assert sg.inspect(tmp_path / "data").layout == "shards"
