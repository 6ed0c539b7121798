"""Other codes' averages: against loops that do as they do, and their distance from the true averages."""

import numpy as np
import pytest
import torch
import xarray as xr

from surrogate.batch import Batch
from surrogate.evaluation import compat_table, evaluate, pdebench_compat, well_compat

SAMPLES, TIMES = 7, 3


def fields() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(SAMPLES, TIMES, 2, 5, 6, generator=generator, dtype=torch.float64)
    return target + torch.randn(target.shape, generator=generator, dtype=torch.float64), target


def scored(prediction: torch.Tensor, target: torch.Tensor) -> xr.Dataset:
    sample, time = (torch.from_numpy(index.ravel()) for index in np.mgrid[:SAMPLES, :TIMES])
    batch = Batch(prediction.flatten(0, 1), target.flatten(0, 1), sample, time)
    return evaluate(lambda inputs: inputs, [batch], variables=("u", "v"))


def test_one_batch_says_why_there_is_no_number_and_keeps_the_true_mean() -> None:
    rows = [row for row in compat_table(scored(*fields()), batch_size=SAMPLES) if row.protocol == "pdebench"]
    assert all(np.isnan(row.value) and np.isfinite(row.mean) for row in rows)
    assert {row.note for row in rows} == {
        f"no number: one batch of at most {SAMPLES} is divided by zero there; see the mean"
    }


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_pdebench_is_the_sum_over_batches_by_their_number_less_one(batch_size: int) -> None:
    prediction, target = (values.numpy() for values in fields())
    totals, batches = np.zeros(4), 0
    for start in range(0, SAMPLES, batch_size):
        p, q = prediction[start : start + batch_size], target[start : start + batch_size]
        rmse = np.sqrt(((p - q) ** 2).mean((3, 4)))
        norm = np.sqrt((q**2).mean((3, 4)))
        conserved = np.sqrt(((p.sum((3, 4)) - q.sum((3, 4))) ** 2).mean(0)) / 30
        worst = np.abs(p - q).max((3, 4)).max(0)
        totals += [rmse.mean(0).mean(), (rmse / norm).mean(0).mean(), conserved.mean(), worst.mean()]
        batches += 1
    found = pdebench_compat(scored(*fields()), batch_size=batch_size)
    np.testing.assert_allclose(list(found.values()), totals / (batches - 1), rtol=1e-12)
    assert list(found) == ["rmse", "nrmse", "crmse", "max_error"]


def test_pdebench_has_no_value_for_a_single_batch() -> None:
    assert np.isnan(list(pdebench_compat(scored(*fields()), batch_size=SAMPLES).values())).all()


def test_full_batches_differ_from_the_true_mean_by_the_factor_stated() -> None:
    rows = {(row.protocol, row.metric): row for row in compat_table(scored(*fields()), batch_size=1)}
    row = rows["pdebench", "rmse"]
    assert row.value == pytest.approx(row.mean * SAMPLES / (SAMPLES - 1), rel=1e-12)
    assert row.note == "7 batches of 1 added up and divided by 6"


def test_the_wells_numbers_come_from_its_formula_and_keep_constant_targets() -> None:
    prediction, target = fields()
    target[2, 1, 0] = 0.0
    found = well_compat(scored(prediction, target))
    mse = ((prediction - target) ** 2).mean((3, 4))
    vrmse = (mse / (target.flatten(3).var(-1) + 1e-7)).sqrt()
    assert found["vrmse"] == pytest.approx(float(vrmse.mean()), rel=1e-12)
    assert found["vrmse_median"] == pytest.approx(float(np.median(vrmse)), rel=1e-12)
    assert found["nrmse"] == pytest.approx(float((mse / ((target**2).mean((3, 4)) + 1e-7)).sqrt().mean()), rel=1e-12)
    rows = {(row.protocol, row.metric): row for row in compat_table(scored(prediction, target))}
    assert rows["the_well", "vrmse"].value > 10 * rows["the_well", "vrmse"].mean  # one frame carries their mean
