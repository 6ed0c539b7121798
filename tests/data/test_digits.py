"""Values that float32 cannot tell apart: kept by all that stores them, refused by name before training."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
import yaml

from surrogate.config import parse_yaml
from surrogate.data import Stream, open_snapshots
from surrogate.data.convert import convert
from surrogate.data.streaming.digits import refuse_lost_digits
from surrogate.errors import DataError
from surrogate.experiment.run_folder import RunFolder
from surrogate.experiment.settings import read_experiment
from surrogate.models.surrogate import Surrogate
from surrogate.normalize import fit_normalizers
from surrogate.prediction.predict import predict
from surrogate.training import train

X = np.random.default_rng(0).normal(size=(24, 2, 8))


def check(values: np.ndarray) -> None:
    ds = xr.Dataset({"p": (("sample", "channel", "x"), values), "q": (("sample", "x"), X[:, 0])})
    stream = Stream(ds, ["p"], ["q"], batch_size=8)
    inputs, targets = fit_normalizers(stream, stream.input_names, stream.target_names)
    for side, of_side in ((stream.inputs, inputs), (stream.targets, targets)):
        refuse_lost_digits(ds, side, of_side.mean.tolist(), of_side.scale.tolist())


@pytest.mark.filterwarnings("ignore:channel")
@pytest.mark.parametrize("deviation", [1e-4, 1e-2, 0.1])
def test_a_deviation_of_few_steps_of_float32_is_refused(deviation: float) -> None:
    with pytest.raises(DataError, match=r"variable 'p' varies by .* around 10132.*minus a reference value"):
        check(np.stack([X[:, 0], 101325 + deviation * X[:, 1]], axis=1))
    with pytest.raises(DataError, match="variable 'p' varies"):
        check((2_000_000_000 + 10 * deviation * 100 * X).astype(np.int64))


@pytest.mark.filterwarnings("ignore:channel")
@pytest.mark.parametrize(
    "values",
    [101325 + X, (101325 + 0.01 * X).astype("f4"), np.full_like(X, 101325.1), np.zeros_like(X), X],
    ids=["large", "float32", "constant", "zero", "usual"],
)
def test_all_else_is_taken(values: np.ndarray) -> None:
    check(values)


@pytest.mark.parametrize(
    ("values", "scale", "refused"),
    [
        (101325 + 0.01 * X, None, True),  # without normalization: the deviation of the data counts
        (101325 + X, None, False),
        (np.full_like(X, 101325.1), None, False),
        (101325 + X, [1e-3, 1e-3], True),  # the deviation in training counts
        (101325 + 0.01 * X, [5000.0, 5000.0], False),
        (101325 + 0.01 * X, [5000.0, 1e-3], True),
        ((101325 + X).astype("f4"), [1e-3, 1e-3], False),
    ],
)
def test_data_without_statistics_of_their_own(values: np.ndarray, scale: list[float] | None, refused: bool) -> None:
    ds = xr.Dataset({"p": (("sample", "channel", "x"), values)})
    side = Stream(ds, ["p"], ["p"], batch_size=8).inputs
    if refused:
        with pytest.raises(DataError, match=r"variable 'p' varies by .* around 10132"):
            refuse_lost_digits(ds, side, scale=scale)
    else:
        refuse_lost_digits(ds, side, scale=scale)


def test_training_without_normalization_and_prediction_refuse(tmp_path: Path) -> None:
    ds = xr.Dataset({"p": (("sample", "x"), 101325 + 0.01 * X[:, 0]), "q": (("sample", "x"), X[:, 1])})
    ds.to_netcdf(tmp_path / "lost.nc", engine="h5netcdf")
    (ds - 101325 * (xr.Dataset({"p": 1, "q": 0}))).to_netcdf(tmp_path / "kept.nc", engine="h5netcdf")
    settings = {
        "name": "a",
        "data": {"path": str(tmp_path / "lost.nc"), "inputs": ["p"], "targets": ["q"], "normalize": "none"},
        "model": {"family": "pod", "modes": 4},
        "optimizer": {"name": "adam"},
        "training": {"epochs": 1, "batch_size": 8},
    }
    with pytest.raises(DataError, match=r"variable 'p' varies by .* around 101325"):
        train(read_experiment(parse_yaml(yaml.safe_dump(settings), "test")), tmp_path / "none", command="")
    settings["data"] |= {"path": str(tmp_path / "kept.nc"), "normalize": "channel"}
    train(read_experiment(parse_yaml(yaml.safe_dump(settings), "test")), tmp_path / "run", command="")
    surrogate = Surrogate.load(RunFolder(tmp_path / "run").checkpoints.best())
    predict(surrogate, tmp_path / "kept.nc", tmp_path / "out.nc")
    with pytest.raises(DataError, match=r"variable 'p' varies by .* around 101325"):
        predict(surrogate, tmp_path / "lost.nc", tmp_path / "out2.nc")


def test_conversion_and_lazy_reading_keep_every_value(tmp_path: Path) -> None:
    values = 101325 + 0.01 * X[:, 0]
    xr.Dataset({"p": (("sample", "x"), values)}).to_netcdf(tmp_path / "p.nc", engine="h5netcdf")
    convert(tmp_path / "p.nc", tmp_path / "shards", "shards", memory_bytes=10_000_000)
    for path in (tmp_path / "p.nc", tmp_path / "shards"):
        np.testing.assert_array_equal(open_snapshots(path)["p"], values)
    assert torch.from_numpy(values).unique().numel() == values.size
