"""Families that are fitted in one pass go through the same commands as networks."""

from pathlib import Path

import h5netcdf
import numpy as np
import pytest
import xarray as xr
import yaml

from surrogate.config import Source
from surrogate.errors import ConfigError
from surrogate.experiment.settings import read_experiment
from surrogate.models import Surrogate
from surrogate.prediction import predict
from surrogate.workflows import run_pipeline

pytestmark = pytest.mark.usefixtures("blank_pictures")

DATA = {"path": "waves.nc", "inputs": ["a"], "targets": ["u"], "split": {"validation": 4, "test": 6, "seed": 0}}


def experiment(**sections: object):
    tree = {"name": "fit", "data": DATA, **sections}
    return read_experiment(Source("fit.yaml", tree, {}))


def test_a_fitted_family_needs_no_optimizer_and_takes_no_other() -> None:
    assert experiment(model={"family": "pod_gp"}).optimizer.name == "fit"
    with pytest.raises(ConfigError, match=r"pod_gp is fitted .* use optimizer: \{name: fit\}"):
        experiment(model={"family": "pod_gp"}, optimizer={"name": "adam"})
    with pytest.raises(ConfigError, match="optimizer fit is for families that are fitted in one pass, mlp is trained"):
        experiment(model={"family": "mlp"}, optimizer={"name": "fit"})
    with pytest.raises(ConfigError, match=r"training\.schedule has no effect with optimizer fit"):
        experiment(model={"family": "linear"}, training={"schedule": "cosine"})
    with pytest.raises(ConfigError, match="optimizer fit takes every target for measured"):
        experiment(model={"family": "linear"}, data={**DATA, "nonfinite": "mask"})


def test_a_gaussian_process_is_evaluated_reported_and_predicts_with_deviations(tmp_path: Path) -> None:
    assert h5netcdf
    a = np.random.default_rng(0).uniform(-1, 1, 30)
    x = np.linspace(0, 1, 16)
    dataset = xr.Dataset({"a": ("sample", a), "u": (("sample", "x"), np.sin(6 * x + a[:, None]))}, {"x": x})
    dataset.to_netcdf(tmp_path / "waves.nc", engine="h5netcdf")
    config = tmp_path / "fit.yaml"
    data = {**DATA, "path": str(tmp_path / "waves.nc"), "layout": "netcdf"}
    cases = {"gp": {}, "mean": {"model": {"family": "mean"}}}
    tree = {"name": "fit", "data": data, "model": {"family": "pod_gp", "restarts": 0}, "cases": cases}
    config.write_text(yaml.safe_dump(tree))
    report = run_pipeline(config, [], tmp_path / "run", lambda _: None, command="test", resume=False, overwrite=False)
    assert report.is_file()
    run = tmp_path / "run" / "cases" / "gp"
    assert (run / "evaluation" / "uncertainty.csv").is_file()
    surrogate = Surrogate.load(run)
    output = tmp_path / "predictions.nc"
    predict(surrogate, data["path"], output)
    predicted = xr.open_dataset(output, engine="h5netcdf")
    error = float(abs(predicted["u"] - dataset["u"]).max())
    assert error < 1e-2
    assert float(predicted["u_std"].max()) < 0.1
