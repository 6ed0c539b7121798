"""Training on data some of whose values are not there: they count for nothing, whatever the optimizer."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from torch import nn

from surrogate.batch import Batch
from surrogate.config import parse_yaml
from surrogate.errors import ConfigError, DataError
from surrogate.experiment.optimizers import AdamSettings, GNvproSettings, LBFGSSettings, SlimTrainSettings
from surrogate.models import Surrogate
from surrogate.models.heads import head_of
from surrogate.models.separable import Separable
from surrogate.prediction import predict
from surrogate.training import RunFolder, read_experiment, train
from surrogate.training.methods import build_method
from surrogate.training.objective import Objective
from surrogate.workflows.pipeline import evaluate_run, report_runs

pytestmark = pytest.mark.usefixtures("blank_pictures")

CONFIG = """
name: small
data:
  path: {path}
  inputs: [a, p]
  targets: [u]
  split: {{validation: 4, test: 4, seed: 1}}
  nonfinite: mask
model: {{family: convnet, width: 4, depth: 1}}
optimizer: {{name: {optimizer}}}
training: {{epochs: 2, batch_size: 5, refit: {refit}}}
"""


def masked(loss: str = "mse") -> Objective:
    return Objective(loss, torch.zeros(2), "float32", 1, every=False, masked=True)


def write(path: Path, *, gaps: bool = True) -> Path:
    """Fields, of which a third of the values is missing."""
    rng = np.random.default_rng(0)
    a, p = rng.normal(size=(24, 8)).astype("f4"), rng.normal(size=24).astype("f4")
    u = (a**2 + p[:, None]).astype("f4")
    if gaps:
        a[rng.random(a.shape) < 0.3], u[rng.random(u.shape) < 0.3], p[3] = np.nan, np.inf, np.nan
    xr.Dataset({"a": (("sample", "x"), a), "u": (("sample", "x"), u), "p": ("sample", p)}).to_netcdf(
        path, engine="h5netcdf"
    )
    return path


def run(data: Path, output: Path, optimizer: str = "slimtrain", refit: str = "none", more: str = "") -> RunFolder:
    text = CONFIG.format(path=data, optimizer=optimizer, refit=refit) + more
    return train(read_experiment(parse_yaml(text, "small.yaml")), output, command="", quiet=True)


def weights_of(network: Separable) -> torch.Tensor:
    return network.head.weight.detach().view(2, 3)


def gapped_problem() -> tuple[Separable, Batch, torch.Tensor]:
    """A linear network, targets with gaps, and the least-squares weights of each output by itself."""
    torch.manual_seed(0)
    x, y = torch.randn(60, 3), torch.randn(60, 2)
    y[torch.rand(60, 2) < 0.3] = torch.nan
    there = y.isfinite()
    best = [torch.linalg.lstsq(x[rows], y[rows, m]).solution for m, rows in enumerate(there.T)]
    head = nn.Linear(3, 2, bias=False)
    network = Separable(nn.Linear(3, 3, bias=False), head_of(head))
    network.features.weight.data = torch.eye(3)
    return network, Batch(x, y, torch.arange(60), torch.zeros(60, dtype=torch.int64), masked=True), torch.stack(best)


def test_the_head_of_slimtrain_comes_to_the_solution_of_every_output_by_itself() -> None:
    network, batch, best = gapped_problem()
    method = build_method(SlimTrainSettings(memory_depth=0, search="constant", regularization=1e-8), network, masked())
    losses = [float(method.backward(network, [batch])) for _ in range(30)]  # without an update of the features
    torch.testing.assert_close(weights_of(network), best, rtol=1e-3, atol=1e-4)
    assert all(later <= before * (1 + 1e-5) for before, later in itertools.pairwise(losses))


@pytest.mark.parametrize(
    ("settings", "steps"),
    [(AdamSettings(learning_rate=2e-2), 600), (LBFGSSettings(), 8), (GNvproSettings(regularization=1e-10), 40)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_every_optimizer_comes_to_the_solution_of_every_output_by_itself(settings: object, steps: int) -> None:
    network, batch, best = gapped_problem()
    method = build_method(settings, network, masked())
    for _ in range(steps):
        method.backward(network, [batch])
        method.update(network, [batch])
    torch.testing.assert_close(weights_of(network) @ network.features.weight.detach(), best, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("loss", ["mse", "relative_l2"])
def test_the_loss_is_that_of_the_values_and_a_gap_counts_as_met(loss: str) -> None:
    _, batch, _ = gapped_problem()
    output, targets = torch.randn(60, 2, requires_grad=True), batch.targets
    found = masked(loss).value(output, targets)
    (gradient,) = torch.autograd.grad(found, output)
    gaps = targets.isnan()
    assert (gradient[gaps] == 0).all()
    assert (gradient[~gaps] != 0).all()
    kept, truth = torch.where(gaps, 0, output), torch.where(gaps, 0, targets)
    plain = Objective(loss, torch.zeros(2), "float32", 1, every=False)
    torch.testing.assert_close(found, plain.value(kept, truth))


@pytest.mark.parametrize(
    ("optimizer", "refit"), [("slimtrain", "both"), ("adam", "end"), ("gnvpro", "none"), ("lbfgs", "none")]
)
def test_a_run_with_gaps_is_trained_evaluated_and_predicts(tmp_path: Path, optimizer: str, refit: str) -> None:
    data = write(tmp_path / "data.nc")
    with pytest.warns(UserWarning, match="'u' are NaN or Inf and left out"):
        found = run(data, tmp_path / "run", optimizer, refit)
    metrics = evaluate_run(found.path, lambda _: None)
    assert np.isfinite(metrics["relative_l2_sample"]).all()
    with xr.open_dataset(data) as ds:
        rows = [int(name.partition("[")[2][:-1]) for name in metrics["simulation"].values.tolist()]
        count = np.isfinite(ds.u.values[rows]).sum(1)
    np.testing.assert_array_equal(metrics["scored_points"].values[:, 0, 0], count)
    assert (count < 8).any()
    surrogate = Surrogate.load(found.path)
    out = predict(surrogate, data, tmp_path / "out.nc")
    with xr.open_dataset(out) as predicted:
        assert np.isfinite(predicted["u"]).all()


def test_an_input_that_is_not_there_becomes_the_mean_of_the_training_data_and_no_other(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="'a' are NaN or Inf"):
        surrogate = Surrogate.load(run(write(tmp_path / "data.nc"), tmp_path / "run").path)
    assert surrogate.signature.masked == ("a", "p", "u")
    inputs = torch.randn(3, 2, 8)
    inputs[1, 0, 2] = torch.nan
    filled = inputs.clone()
    filled[1, 0, 2] = surrogate.inputs.mean[0]
    with torch.no_grad():
        torch.testing.assert_close(surrogate(inputs), surrogate(filled))
    whole = write(tmp_path / "whole.nc", gaps=False)
    text = CONFIG.format(path=whole, optimizer="adam", refit="none").replace("  nonfinite: mask\n", "")
    strict = Surrogate.load(train(read_experiment(parse_yaml(text, "s.yaml")), tmp_path / "strict", command="").path)
    with torch.no_grad():
        assert strict(inputs)[1].isnan().any()
    with pytest.raises(DataError, match=r"'a' of data.nc\[\d+\] holds nan"):
        predict(strict, tmp_path / "data.nc", tmp_path / "out.nc")


def test_an_empty_cell_of_a_table_is_a_masked_value_and_a_word_is_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    p = rng.normal(size=(24, 2)).astype("f4")
    p[3, 1] = np.nan
    fields = {"p": ("sample", p[:, 0]), "q": ("sample", p[:, 1]), "u": (("sample", "x"), rng.normal(size=(24, 5)))}
    xr.Dataset(fields).to_netcdf(tmp_path / "data.nc", engine="h5netcdf")
    text = CONFIG.format(path=tmp_path / "data.nc", optimizer="adam", refit="none")
    text = text.replace("[a, p]", "[p, q]").replace("{family: convnet, width: 4, depth: 1}", "{family: mlp, width: 4}")
    with pytest.warns(UserWarning, match="0.062 of the values of 'q' are NaN"):
        found = train(read_experiment(parse_yaml(text, "s.yaml")), tmp_path / "run", command="", quiet=True)
    surrogate = Surrogate.load(found.path)
    table = tmp_path / "table.csv"
    pd.DataFrame({"p": [0.1, 0.1], "q": [None, float(surrogate.inputs.mean[1])]}).to_csv(table, index=False)
    with xr.open_dataset(predict(surrogate, table, tmp_path / "out.nc")) as out:
        np.testing.assert_allclose(out.u[0], out.u[1], rtol=1e-5)
    table.write_text("p,q\n0.1,none of them\n")
    with pytest.raises(DataError, match="column 'q', line 2: 'none of them' is no finite number"):
        predict(surrogate, table, tmp_path / "other.nc")


@pytest.mark.parametrize(
    ("optimizer", "more", "what"),
    [("elm", "", "optimizer elm"), ("adam", "  uncertainty: true\n", "training.uncertainty")],
)
def test_what_takes_every_target_for_measured_is_refused(optimizer: str, more: str, what: str) -> None:
    text = CONFIG.format(path="data.nc", optimizer=optimizer, refit="none")
    text = text.replace("training: {epochs: 2, batch_size: 5, refit: none}", "training:\n  batch_size: 5\n" + more)
    with pytest.raises(ConfigError, match=f"{what} takes every target for measured; choose data.nonfinite: drop"):
        read_experiment(parse_yaml(text, "small.yaml"))


def test_a_report_of_fields_with_gaps_has_no_spectra(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="'u' are NaN or Inf"):
        found = run(write(tmp_path / "data.nc"), tmp_path / "run")
    metrics = evaluate_run(found.path, lambda _: None)
    assert (metrics["scored_points"] < 8).all()
    for name in ("spectral_error", "spectral_target", "spectral_prediction", "frmse"):
        assert metrics[name].isnull().all()
    page = report_runs([found.path], tmp_path / "report.html", command="").read_text()
    assert "Power by wave number" not in page


def test_a_roll_out_on_fields_with_gaps_is_scored_beside_persistence(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    u = (rng.normal(size=(24, 1, 8)) * np.linspace(1, 0.5, 5)[:, None]).astype("f4")
    u[..., 2] = np.nan
    fields = {"u": (("sample", "time", "x"), u)}
    xr.Dataset(fields, {"time": np.arange(5.0)}).to_netcdf(tmp_path / "data.nc", engine="h5netcdf")
    text = CONFIG.format(path=tmp_path / "data.nc", optimizer="slimtrain", refit="none")
    text = text.replace("[a, p]", "[u]").replace("  nonfinite", "  window: {steps_out: 1}\n  nonfinite")
    text = text.replace("refit: none", "rollout: 2")
    with pytest.warns(UserWarning, match="0.12 of the values of .* are NaN or Inf"):
        found = train(read_experiment(parse_yaml(text, "s.yaml")), tmp_path / "run", command="", quiet=True)
    evaluate_run(found.path, lambda _: None)
    with xr.open_dataset(found.evaluation.rollout) as scores:
        assert scores.sizes["lead"] == 4
        assert np.isfinite(scores["relative_l2"]).all()
        scale = np.linspace(1, 0.5, 5)[1:]  # a state shrinks by a known factor, so persistence errs by a known share
        expected = np.broadcast_to((1 - scale) / scale, (4, 4))
        np.testing.assert_allclose(scores["persistence_relative_l2"].values.reshape(4, 4), expected, rtol=1e-4)
