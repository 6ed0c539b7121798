"""The projection floor and the parts of an error agree with numpy, and no coefficients are below the floor."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
import yaml

from surrogate.batch import Batch
from surrogate.evaluation import floor_of, projection_of
from surrogate.evaluation.volumes import Volumes
from surrogate.models import Surrogate
from surrogate.models.input_range import SCORE
from surrogate.report.findings import findings
from surrogate.report.runs import read_case
from surrogate.workflows import evaluate_run, predict_run, run_file

POINTS = np.linspace(0, 1, 12)

pytestmark = pytest.mark.usefixtures("blank_pictures")


def fields(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return 3 + np.sin(6 * a[:, None] * POINTS) + b[:, None] ** 2 * POINTS + 0.1 * np.cos(20 * a[:, None] * POINTS)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of each family that has modes, on the same 30 simulations."""
    folder = tmp_path_factory.mktemp("modes")
    a, b = np.random.default_rng(0).uniform(0, 1, (2, 30))
    variables = {"a": ("sample", a), "b": ("sample", b), "u": (("sample", "x"), fields(a, b))}
    xr.Dataset(variables, {"x": POINTS}).to_netcdf(folder / "waves.nc", engine="h5netcdf")
    data = {"path": str(folder / "waves.nc"), "layout": "netcdf", "inputs": ["a", "b"], "targets": ["u"]}
    data["split"] = {"validation": 5, "test": 8}
    fit = {"optimizer": {"name": "fit"}}
    cases = {
        "kernel": {"model": {"family": "kernel_ridge", "modes": 3}, **fit},
        "network": {"model": {"family": "pod", "modes": 3, "width": 4}},
        "code": {"model": {"family": "autoencoder", "latent": 3, "levels": 1, "width": 2}, "data.inputs": ["u"]},
    }
    tree = {"name": "waves", "data": data, "model": {"family": "pod"}, "optimizer": {"name": "adam"}}
    tree |= {"training": {"epochs": 2}, "cases": cases}
    (folder / "waves.yaml").write_text(yaml.safe_dump(tree))
    run_file(folder / "waves.yaml", [], folder / "run", lambda _: None, command="c", resume=False, overwrite=False)
    return folder / "run"


def oracle(run: Path, modes: int) -> np.ndarray:
    """Return the relative error of the projection of each test field onto modes of the training fields, by numpy."""
    from surrogate.experiment.run_folder import RunFolder
    from surrogate.training.build import split_datasets

    parts = split_datasets(RunFolder(run).experiment())
    train, test = (parts[name]["u"].values.astype(float) for name in ("train", "test"))
    mean = train.mean(0)
    v = np.linalg.svd(train - mean, full_matrices=False)[2][:modes]
    rest = (test - mean) - (test - mean) @ v.T @ v
    return np.linalg.norm(rest, axis=1) / np.linalg.norm(test, axis=1)


@pytest.mark.parametrize("case", ["kernel", "network"])
def test_the_error_splits_into_reconstruction_and_regression(runs: Path, case: str) -> None:
    run = read_case(case, runs / "cases" / case)
    metrics = run.metrics
    parts = floor_of(metrics)
    floor = oracle(run.folder, 3)
    target = metrics["projected_target"].isel(time=0).values
    found = np.sqrt(metrics["reconstruction"].isel(time=0).values / target)
    np.testing.assert_allclose(found, floor, rtol=1e-3)
    total = np.sqrt((metrics["reconstruction"] + metrics["regression"]).isel(time=0).values / target)
    np.testing.assert_allclose(total, metrics["relative_l2_sample"].values, rtol=1e-4)
    assert parts["floor"] == pytest.approx(floor.mean(), rel=1e-3)
    assert parts["floor"] <= parts["total"]
    text = " ".join(findings([run], None))
    assert f"{case}: 3 modes allow no error below" in text
    assert "of 8 inputs are out of the range of the training inputs" in text


def test_on_meshes_the_projection_is_the_best_in_the_norm_of_their_volumes(runs: Path) -> None:
    surrogate, rng = Surrogate.load(runs / "cases" / "kernel"), np.random.default_rng(0)
    projection = projection_of(surrogate, lambda: [])
    q = torch.from_numpy(fields(*rng.uniform(0, 1, (2, 4))))[:, None]
    p = surrogate(torch.rand(4, 2)).detach().double()  # in the span of the modes, as the split needs
    batch = Batch(q[:, :, :2], q, torch.arange(4), torch.zeros(4, dtype=torch.int64))
    mean, modes = projection.mean.numpy(), projection.modes.numpy()
    normalised, wanted = (surrogate.targets(part).flatten(1).numpy() for part in (q, p))
    plain = projection.sums(batch, p)
    for rows in (1, 4):
        volumes = Volumes(rng.uniform(0.2, 2, (rows, 12)))
        sums = projection.sums(batch, p, volumes)
        for index in range(4):
            root = np.sqrt(volumes.values[index % rows])
            fit = np.linalg.lstsq(root[:, None] * modes, root * (normalised[index] - mean))
            assert sums["reconstruction"][index] == pytest.approx(float(fit[1][0]), rel=1e-6)
            total = (root**2 * (wanted[index] - normalised[index]) ** 2).sum()
            assert sums["reconstruction"][index] + sums["regression"][index] == pytest.approx(total, rel=1e-6)
    equal = projection.sums(batch, p, Volumes(np.ones((1, 12))))
    for name, values in plain.items():
        np.testing.assert_allclose(equal[name], values, rtol=1e-6)


def test_an_autoencoder_is_compared_with_as_many_modes(runs: Path) -> None:
    lines: list[str] = []
    metrics = evaluate_run(runs / "cases" / "code", lines.append)
    assert floor_of(metrics)["floor"] == pytest.approx(oracle(runs / "cases" / "code", 3).mean(), rel=1e-3)
    assert floor_of(metrics)["regression"] == pytest.approx(float(metrics["relative_l2_sample"].mean()), rel=1e-4)
    assert "projection onto 3 POD modes of the training data, as many as the latent size" in " ".join(lines)


def test_predictions_have_a_score_and_a_line_about_those_out_of_range(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "wanted.csv").write_text("a,b\n0.5,0.5\n9,0.5\n0.4,0.6\n")
    lines: list[str] = []
    run = runs / "cases" / "kernel"
    output = predict_run(run, str(tmp_path / "wanted.csv"), tmp_path / "out.nc", device="cpu", say=lines.append)
    with xr.open_dataset(output, engine="h5netcdf") as found:
        assert found[SCORE].dims == ("sample",)
        assert found[SCORE].values.argmax() == 1
        assert float(found[SCORE][1]) > 5 * float(found[SCORE][[0, 2]].max())
        assert found["u"].dims == ("sample", "x")
    assert "largest" in lines[0]
    assert "at sample 1)" in lines[0]
