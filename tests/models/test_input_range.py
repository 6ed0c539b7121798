"""The score of an input is its distance from the training inputs in units of their own distances from each other."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from surrogate.data import Stream
from surrogate.errors import DataError
from surrogate.models.input_range import InputRange


def stream_of(values: np.ndarray, names: str = "ab") -> Stream:
    """Stream rows of inputs (n, C) or fields (n, C, x) whose targets do not matter."""
    dims = ("sample", "x")[: values.ndim - 1]
    data = {name: (dims, values[:, channel]) for channel, name in enumerate(names)}
    return Stream(xr.Dataset(data), list(names), list(names), batch_size=7, shuffle=False)


def dense_scores(train: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Compute the scores from all distances, each entry in units of its channel's standard deviation."""
    axes = (0, *range(2, train.ndim))
    scale = train.std(axis=axes, keepdims=True)
    y, z = ((part / scale).reshape(len(part), -1) for part in (train, new))
    between = np.linalg.norm(y[:, None] - y[None], axis=-1) + np.diag(np.full(len(y), np.inf))
    limit = np.quantile(between.min(1), 0.95, method="higher")
    return np.linalg.norm(z[:, None] - y[None], axis=-1).min(1) / limit


@pytest.mark.parametrize("shape", [(40, 2), (40, 2, 30)])
def test_scores_are_nearest_distances_over_those_of_the_training_inputs(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    train = (rng.normal(size=shape) * np.array([1.0, 1e-4]).reshape(1, 2, *[1] * (len(shape) - 2))).astype(np.float32)
    new = np.concatenate([train[:2], 3 * train[2:9], train[9:12] + 10])
    found = InputRange.of(stream_of(train)).score(torch.from_numpy(new))
    np.testing.assert_allclose(found, dense_scores(train, new), rtol=1e-3, atol=1e-3)


def test_few_inputs_drawn_as_the_training_inputs_are_out_of_range() -> None:
    rng = np.random.default_rng(1)
    train, new = rng.uniform(size=(200, 2)), rng.uniform(size=(2000, 2))
    scores = InputRange.of(stream_of(train)).score(torch.from_numpy(new))
    assert 0.02 < (scores > 1).double().mean() < 0.09
    assert (InputRange.of(stream_of(train)).score(torch.from_numpy(new + 3.0)) > 5).all()


def test_scores_do_not_depend_on_units_and_constant_channels_count_only_where_they_change() -> None:
    rng = np.random.default_rng(2)
    train = np.stack([rng.normal(size=30), np.full(30, 5.0)], axis=1)
    inputs = InputRange.of(stream_of(train))
    scaled = InputRange.of(stream_of(1000 * train))
    new = torch.from_numpy(train[:4] + np.array([0.3, 0.0]))
    torch.testing.assert_close(inputs.score(new), scaled.score(1000 * new), rtol=1e-3, atol=1e-4)
    assert (inputs.score(new + torch.tensor([0.0, 5.0])) > inputs.score(new)).all()
    assert inputs.score(torch.tensor([[torch.nan, 5.0]])).isfinite().all()
    assert inputs.score(torch.zeros(3, 2, 4)).isnan().all()  # on other points


def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path) -> None:
    inputs = InputRange.of(stream_of(np.random.default_rng(3).normal(size=(9, 2))))
    inputs.save(tmp_path / "range")
    torch.testing.assert_close(InputRange.load(tmp_path / "range").limit, inputs.limit)
    whole = (tmp_path / "range").read_bytes()
    for position in (None, *range(0, len(whole), 7)):  # cut short, or one bit flipped
        content = bytearray(whole[:-9] if position is None else whole)
        if position is not None:
            content[position] ^= 2
        (tmp_path / "range").write_bytes(content)
        with pytest.raises(DataError, match="damaged") as refused:
            InputRange.load(tmp_path / "range")
        assert "\n" not in str(refused.value)
