"""Standard deviations: closed forms against quadrature, calibration where it is due, nothing degenerate hidden."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from surrogate.batch import Batch
from surrogate.errors import DataError, NumericalError
from surrogate.evaluation import calibration, evaluate_uncertainty, merge_uncertainty
from surrogate.evaluation.table import Labels
from surrogate.evaluation.uncertainty import LEVELS, UncertaintyScores, coverage, crps, negative_log_likelihood, pit

SAMPLES, TIMES = 12, 2
numbers = st.floats(-3, 3)


def arrays(*values: float) -> list[np.ndarray]:
    return [np.array(value) for value in values]


@given(target=numbers, mean=numbers, std=st.floats(0.05, 4))
@settings(max_examples=30, deadline=None)
def test_crps_is_the_integral_it_stands_for(target: float, mean: float, std: float) -> None:
    """Of the squared difference between the distribution function and the step at the target, in pieces of 2 std."""

    def squared(y: float) -> float:
        return float((norm.cdf if y < target else norm.sf)(y, mean, std) ** 2)

    ends = sorted([target, *(mean + std * np.arange(-10, 11, 2))])
    integral = sum(quad(squared, low, high)[0] for low, high in pairwise(ends))
    assert float(crps(*arrays(target, mean, std))) == pytest.approx(integral, rel=1e-6, abs=1e-8)


@given(target=numbers, mean=numbers, std=st.floats(0.05, 4), scale=st.floats(1e-3, 1e3), shift=numbers)
@settings(max_examples=30, deadline=None)
def test_scores_follow_the_unit(target: float, mean: float, std: float, scale: float, shift: float) -> None:
    here, there = arrays(target, mean, std), arrays(scale * target + shift, scale * mean + shift, scale * std)
    assert float(crps(*there)) == pytest.approx(scale * float(crps(*here)), rel=1e-6, abs=1e-9 * scale)
    nll = float(negative_log_likelihood(*here))
    assert float(negative_log_likelihood(*there)) == pytest.approx(nll + math.log(scale), abs=1e-4)
    assert nll == pytest.approx(-norm.logpdf(target, mean, std), abs=1e-9)
    assert float(pit(*here)) == pytest.approx(norm.cdf(target, mean, std), abs=1e-12)


def test_crps_and_likelihood_are_best_for_the_true_distribution() -> None:
    target = np.random.default_rng(0).normal(1.0, 2.0, 200_000)
    for score in (crps, negative_log_likelihood):
        truth = score(target, np.full_like(target, 1.0), np.full_like(target, 2.0)).mean()
        for mean, std in ((1.2, 2.0), (1.0, 1.6), (1.0, 2.5)):
            assert score(target, np.full_like(target, mean), np.full_like(target, std)).mean() > truth


def test_crps_tends_to_the_absolute_error() -> None:
    assert float(crps(*arrays(2.0, 0.5, 0.0))) == 1.5
    assert float(crps(*arrays(2.0, 0.5, 1e-9))) == pytest.approx(1.5)


def test_what_claims_to_be_exact_is_covered_only_if_it_is() -> None:
    target, mean, std = np.array([1.0, 1.0, 1.0]), np.array([1.0, 0.9, 1.1]), np.zeros(3)
    assert coverage(target, mean, std, 0.9).tolist() == [True, False, False]
    assert pit(target, mean, std).tolist() == [0.5, 1.0, 0.0]
    assert np.isnan(negative_log_likelihood(target, mean, std)).all()


def data(factor: float = 1.0) -> tuple[list[Batch], dict[str, torch.Tensor]]:
    """Targets that are normal about the inputs; the predictor claims `factor` times the true standard deviation."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(SAMPLES * TIMES, 2, 30, 30, generator=generator, dtype=torch.float64)
    std = torch.rand(inputs.shape, generator=generator, dtype=torch.float64) + 0.2
    targets = inputs + std * torch.randn(inputs.shape, generator=generator, dtype=torch.float64)
    sample, time = (torch.from_numpy(index.ravel()) for index in np.mgrid[:SAMPLES, :TIMES])
    rows = torch.arange(SAMPLES * TIMES).split(5)
    return [Batch(inputs[r], targets[r], sample[r], time[r]) for r in rows], {
        str(float(x[0, 0, 0])): factor * s for x, s in zip(inputs, std, strict=True)
    }


def scored(factor: float = 1.0) -> xr.Dataset:
    batches, stds = data(factor)

    def predict(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return inputs, torch.stack([stds[str(float(x[0, 0, 0]))] for x in inputs])

    return evaluate_uncertainty(predict, batches, variables=("u", "v"))


def test_true_standard_deviations_are_calibrated_at_every_level() -> None:
    found = calibration(scored())
    for variable in ("u", "v"):
        np.testing.assert_allclose(found["coverage"].sel(variable=variable), LEVELS, atol=0.01)
        np.testing.assert_allclose(found["pit"].sel(variable=variable), 0.1, atol=0.01)
    assert (found["low"] <= found["coverage"]).all()
    assert (found["coverage"] <= found["high"]).all()
    scores = scored()
    np.testing.assert_allclose(scores["rmse"].mean(), scores["spread"].mean(), rtol=0.02)


@pytest.mark.parametrize(("factor", "sign"), [(0.5, -1), (2.0, 1)])
def test_too_narrow_and_too_wide_are_seen(factor: float, sign: int) -> None:
    found = calibration(scored(factor))["coverage"]
    assert (sign * (found - found["level"]) > 0).sel(level=slice(0.2, 0.95)).all()
    np.testing.assert_allclose(found.sel(level=0.9), 2 * norm.cdf(factor * 1.6449) - 1, atol=0.01)
    np.testing.assert_allclose(scored(factor)["sharpness"], factor * scored()["sharpness"], rtol=1e-12)
    assert float(scored(factor)["crps"].mean()) > float(scored()["crps"].mean())


def test_parts_merge_to_the_bits_of_the_whole() -> None:
    batches, stds = data()

    def predict(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return inputs, torch.stack([stds[str(float(x[0, 0, 0]))] for x in inputs])

    parts = [evaluate_uncertainty(predict, batches[i::3], variables=("u", "v")) for i in range(3)]
    xr.testing.assert_identical(merge_uncertainty(parts), scored())


def test_points_without_spread_are_counted_and_have_no_likelihood() -> None:
    targets = torch.zeros(2, 1, 4, dtype=torch.float64)
    std = torch.tensor([[[0.0, 1.0, 1.0, 1.0]], [[0.0, 0.0, 0.0, 0.0]]], dtype=torch.float64)
    batch = Batch(targets, targets, torch.arange(2), torch.zeros(2, dtype=torch.long))
    scores = evaluate_uncertainty(lambda x: (x, std), [batch], variables=("u",))
    assert scores.attrs["degenerate_points"] == 5
    assert scores["degenerate_std"].values.ravel().tolist() == [0.25, 1.0]
    assert scores["nll"].values.ravel().tolist() == pytest.approx([0.5 * math.log(2 * math.pi), math.nan], nan_ok=True)
    assert (scores["coverage"] == 1).all()


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_a_standard_deviation_that_is_none_is_named(bad: float) -> None:
    targets = torch.zeros(1, 1, 4)
    batch = Batch(targets, targets, torch.tensor([3]), torch.tensor([5]))
    with pytest.raises(
        NumericalError, match="standard deviation of 'u' is negative or not finite for sample 3 at step 5"
    ):
        evaluate_uncertainty(lambda x: (x, torch.full_like(x, bad)), [batch], variables=("u",))
    with pytest.raises(DataError, match=r"standard deviations of shape \(1, 4\)"):
        evaluate_uncertainty(lambda x: (x, x[0]), [batch], variables=("u",))


def test_targets_that_are_missing_count_nowhere() -> None:
    target, mean = torch.randn(3, 1, 12).double(), torch.randn(3, 1, 12).double()
    target[..., 7:] = math.nan
    results = []
    for last in (12, 7):
        scores = UncertaintyScores(["u"])
        part = target[..., :last]
        batch = Batch(part, part, torch.arange(3), torch.zeros(3, dtype=torch.int64), masked=True)
        scores.add(batch, mean[..., :last], torch.full_like(part, 0.7))
        results.append(scores.dataset(Labels(["u"])).drop_attrs())
    xr.testing.assert_allclose(*results)
    assert float(results[0]["pit"].sum("pit_bin").min()) == pytest.approx(1)
