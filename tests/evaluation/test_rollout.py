"""Roll-outs: errors with a known growth, thresholds that are and are not reached, divergence that is not hidden."""

import numpy as np
import pytest
import torch
import xarray as xr

from surrogate.batch import Batch
from surrogate.errors import DataError
from surrogate.evaluation import (
    Trajectories,
    channels_of,
    error_growth,
    evaluate_rollout,
    growth_factors,
    time_to_threshold,
    trajectories,
)
from surrogate.evaluation.rollout.summary import geometric_mean

STARTS, LEADS = 6, 8
RATES = torch.tensor([0.0, 0.1, 0.3, 0.5, 0.7, 1.0], dtype=torch.float64)


def starts(size: int = 6) -> list[Trajectories]:
    """Constant truth of one; the first point of the inputs says how fast the prediction of a start goes wrong."""
    inputs = torch.ones(STARTS, 1, 5, dtype=torch.float64)
    inputs[:, 0, 0] = RATES
    truth = torch.ones(STARTS, LEADS, 1, 5, dtype=torch.float64)
    rows = torch.arange(STARTS).split(size)
    return [Trajectories(inputs[r], truth[r], r, torch.zeros(len(r), dtype=torch.long)) for r in rows]


def drifting(inputs: torch.Tensor, steps: int) -> torch.Tensor:
    """A relative error of 0.01 exp(rate t) at t = 1/2, 1, ... ."""
    times = torch.arange(1, steps + 1, dtype=torch.float64) / 2
    error = 0.01 * torch.exp(inputs[:, :1, :1] * times[None, :, None])[..., None]
    return (1 + error).expand(-1, -1, 1, 5)


def scored(size: int = 6) -> xr.Dataset:
    times = xr.DataArray([0.0], attrs={"units": "s"})
    return evaluate_rollout(drifting, starts(size), variables=("u",), step=0.5, times=times, given=(0,), scored=(1, 2))


def test_errors_stand_against_lead_time() -> None:
    result = scored()
    assert result["relative_l2"].dims == ("sample", "time", "lead", "variable")
    np.testing.assert_allclose(result["lead"], np.arange(1, 9) / 2)
    assert result["lead"].attrs["units"] == "s"
    expected = 0.01 * np.exp(np.outer(RATES, result["lead"]))
    np.testing.assert_allclose(result["relative_l2"][:, 0, :, 0], expected, rtol=1e-10)
    np.testing.assert_allclose(result["conserved_error"][:, 0, :, 0], expected, rtol=1e-10)
    assert (result.attrs["steps_given"], result.attrs["steps_scored"]) == ("t+0", "t+1, t+2")


def test_grouping_does_not_matter() -> None:
    xr.testing.assert_identical(scored(2), scored(6))


def test_growth_is_the_rate_that_was_put_in() -> None:
    growth = error_growth(scored())
    np.testing.assert_allclose(growth[:, 0, 0], RATES, atol=1e-10)
    assert growth.attrs["units"] == "1/s"
    factors = growth_factors(scored())[:, 0]
    assert np.isnan(factors[0])
    np.testing.assert_allclose(factors[1:], (np.exp(0.15) + np.exp(0.25)) / 2, rtol=1e-10)


@pytest.mark.filterwarnings("error")
def test_the_time_to_a_threshold_is_censored_where_it_is_not_reached() -> None:
    found = time_to_threshold(scored(), 0.05)
    exact = np.log(5) / RATES.numpy()[3:]
    assert found["censored"][:, 0, 0].values.tolist() == [True, True, True, False, False, False]
    assert found["lead_time"][:, 0, 0].values.tolist() == [4, 4, 4, *(np.ceil(2 * exact) / 2)]
    assert found["lead_time"].attrs["units"] == "s"
    assert np.isinf(found["median"].item())  # half of six are censored: the median lies between 3.5 and never
    assert time_to_threshold(scored(), 0.005)["median"].item() == 0.5
    assert not time_to_threshold(scored(), 0.005)["censored"].any()


def test_a_roll_out_that_diverges_is_infinitely_wrong_from_then_on() -> None:
    def explode(inputs: torch.Tensor, steps: int) -> torch.Tensor:
        prediction = drifting(inputs, steps).clone()
        prediction[1, 3, 0, 2] = torch.nan
        return prediction

    result = evaluate_rollout(explode, starts(), variables=("u",))
    assert result.attrs["diverged"] == 1
    assert np.isfinite(result["relative_l2"][1, 0, :3]).all()
    assert np.isinf(result["relative_l2"][1, 0, 3:]).all()
    assert np.isnan(result["conserved_error"][1, 0, 3:]).all()
    assert np.isfinite(result["squared_target"]).all()
    found = time_to_threshold(result, 0.5)
    assert (found["lead_time"][1].item(), found["censored"][1].item()) == (4.0, False)
    np.testing.assert_allclose(error_growth(result)[1].item(), 0.05, atol=1e-10)  # from the three that are finite


def test_what_was_not_scored_is_neither_reached_nor_censored() -> None:
    shifted = [Trajectories(s.inputs, s.truth, s.sample, s.sample % 2) for s in starts()]
    found = time_to_threshold(evaluate_rollout(drifting, shifted, variables=("u",)), 0.05)
    assert int(found["lead_time"].notnull().sum()) == STARTS
    assert int(found["censored"].sum()) < STARTS


def test_zero_truths_have_no_relative_error() -> None:
    empty = [Trajectories(s.inputs, 0 * s.truth, s.sample, s.time) for s in starts()]
    result = evaluate_rollout(drifting, empty, variables=("u",))
    assert result["relative_l2"].isnull().all()
    assert error_growth(result).isnull().all()
    assert time_to_threshold(result, 0.1)["lead_time"].isnull().all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match=r"gave shape \(6, 7, 1, 5\), expected \(6, 8, 1, 5\)"):
        evaluate_rollout(lambda x, n: drifting(x, n - 1), starts(), variables=("u",))
    broken = starts()
    broken[0].truth[2, 4] = torch.inf
    with pytest.raises(DataError, match="not finite for sample 2, 5 steps after step 0"):
        evaluate_rollout(drifting, broken, variables=("u",))


def test_channels_of_a_window_become_steps() -> None:
    names = ["u[t+2]", "u[t+4]", "v.x[t+2]", "v.x[t+4]"]
    targets = torch.arange(2 * 4 * 3.0).reshape(2, 4, 3)
    batch = Batch(targets, targets, torch.arange(2), torch.zeros(2, dtype=torch.long))
    variables, offsets, _ = channels_of(names)
    assert (variables, offsets) == (["u", "v.x"], [2, 4])
    truth = next(trajectories([batch], names)).truth
    assert truth.shape == (2, 2, 2, 3)
    assert torch.equal(truth[:, 0, 1], targets[:, 2])
    assert torch.equal(truth[:, 1, 0], targets[:, 1])
    with pytest.raises(DataError, match=r"no truth for v\[t\+1\]"):
        channels_of(["u[t+1]", "u[t+2]", "v[t+2]"])
    with pytest.raises(DataError, match="'k' has no time step"):
        channels_of(["k"])


def test_the_geometric_mean_counts_every_lead_time_alike() -> None:
    result = scored()
    expected = np.exp(np.log(0.01) + np.mean(np.outer(RATES, result["lead"])))
    assert geometric_mean(result["relative_l2"].values) == pytest.approx(expected)
    assert np.isinf(geometric_mean(np.array([0.1, np.inf])))
    assert geometric_mean(np.array([0.0, 1e-6, 1.0, np.nan])) == pytest.approx(1e-3)
