"""Fields are known by their relative error, single numbers by their error in units of all of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from surrogate.batch import Batch
from surrogate.evaluation import NORMALIZED, RELATIVE, evaluate, headline, merge, save, select_examples

TRUTH = torch.tensor([[3.0, -10.0], [1e-6, 20.0], [-4.0, 0.0], [2.0, 5.0]])  # four samples of two numbers
ERROR = torch.tensor([[0.1, 2.0], [0.2, 1.0], [-0.3, -4.0], [0.05, 1.0]])


def score(truth: Tensor = TRUTH, error: Tensor = ERROR, samples: list[int] | None = None) -> xr.Dataset:
    samples = samples or list(range(len(truth)))
    sample = torch.tensor(samples)
    batch = Batch(truth[sample] + error[sample], truth[sample], sample, torch.zeros_like(sample))
    return evaluate(lambda inputs: inputs, [batch], variables=("c", "d"))


def test_the_normalised_error_is_over_the_size_of_all_numbers() -> None:
    metrics = score()
    expected = (ERROR.abs() / TRUTH.square().mean(0).sqrt()).numpy()
    np.testing.assert_allclose(metrics["normalized_error_variable"], expected, rtol=1e-6)
    np.testing.assert_allclose(metrics["normalized_error_sample"], expected.mean(1), rtol=1e-6)
    assert headline(metrics) is NORMALIZED


def test_it_does_not_change_with_the_unit_and_no_sample_near_zero_decides_it() -> None:
    one, other = score(), score(1000 * TRUTH, 1000 * ERROR)
    xr.testing.assert_allclose(one["normalized_error_sample"], other["normalized_error_sample"])
    assert float(one["relative_l2_sample"].max()) > 1e4
    assert float(one["normalized_error_sample"].max()) < 1


def test_parts_merge_to_the_whole() -> None:
    xr.testing.assert_identical(merge([score(samples=[0, 2]), score(samples=[1, 3])]), score())


def test_numbers_that_are_all_zero_have_no_normalised_error() -> None:
    truth = TRUTH.clone()
    truth[:, 1] = 0.0
    metrics = score(truth)
    assert metrics["normalized_error_variable"].isel(variable=1).isnull().all()
    np.testing.assert_allclose(
        metrics["normalized_error_sample"], metrics["normalized_error_variable"].isel(variable=0)
    )


@pytest.mark.parametrize("kind", ["field", "times"])
def test_fields_and_series_keep_the_relative_error(kind: str) -> None:
    values = torch.randn(6, 1, 4) if kind == "field" else torch.randn(6, 1)
    sample, time = (torch.arange(6), torch.zeros(6)) if kind == "field" else (torch.arange(6) % 3, torch.arange(6) // 3)
    metrics = evaluate(lambda x: 1.1 * x, [Batch(values, values, sample, time.long())], variables=("u",))
    assert headline(metrics) is RELATIVE
    assert headline(metrics, score()) is RELATIVE  # what all of them have
    assert "normalized_error_sample" not in metrics


def test_examples_are_ranked_by_it() -> None:
    picks = select_examples(score())
    errors = score()["normalized_error_sample"].values
    assert dict(zip(picks["example"].values, picks["sample"].values, strict=True)) == {
        "worst": errors.argmax(), "median": np.argsort(errors)[1], "best": errors.argmin()
    }  # fmt: skip
    assert picks["error_of_pair"].attrs["long_name"] == "normalised error"


def test_the_summary_has_a_row_of_it_for_all_and_for_each(tmp_path: Path) -> None:
    rows = {(row.metric, row.variable): row for row in save(score(), tmp_path)}
    metrics = score()
    assert rows["normalized_error", "all"].mean == pytest.approx(float(metrics["normalized_error_sample"].mean()))
    for name in ("c", "d"):
        errors = metrics["normalized_error_variable"].sel(variable=name)
        assert rows["normalized_error", name].largest == pytest.approx(float(errors.max()))
