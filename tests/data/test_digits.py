"""Values that float32 cannot tell apart: kept by all that stores them, refused by name before training."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from surrogate.data import Stream, open_snapshots
from surrogate.data.convert import convert
from surrogate.data.streaming.digits import refuse_lost_digits
from surrogate.errors import DataError
from surrogate.normalize import fit_normalizers

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


def test_conversion_and_lazy_reading_keep_every_value(tmp_path: Path) -> None:
    values = 101325 + 0.01 * X[:, 0]
    xr.Dataset({"p": (("sample", "x"), values)}).to_netcdf(tmp_path / "p.nc", engine="h5netcdf")
    convert(tmp_path / "p.nc", tmp_path / "shards", "shards", memory_bytes=10_000_000)
    for path in (tmp_path / "p.nc", tmp_path / "shards"):
        np.testing.assert_array_equal(open_snapshots(path)["p"], values)
    assert torch.from_numpy(values).unique().numel() == values.size
