"""Metrics against values by hand, and the identities that hold for any fields."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surrogate.evaluation.metrics import GRID_METRICS, METRICS, FieldErrors, points

TARGET = torch.tensor([[[1.0, 2.0, 2.0, 4.0], [0.0, 0.0, 0.0, 0.0], [3.0, 3.0, 3.0, 3.0]]])
PREDICTION = TARGET + torch.tensor([[[1.0, -1.0, 1.0, -3.0], [2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 4.0]]])


def by_hand(name: str) -> list[float]:
    variance = (1.25**2 + 2 * 0.25**2 + 1.75**2) / 3
    nan = math.nan
    return {
        "squared_error": [12.0, 4.0, 16.0],
        "squared_target": [25.0, 0.0, 36.0],
        "rmse": [math.sqrt(3), 1.0, 2.0],
        "mae": [1.5, 0.5, 1.0],
        "nrmse": [math.sqrt(3 / 6.25), nan, 2 / 3],
        "relative_l2": [math.sqrt(12) / 5, nan, 2 / 3],
        "max_error": [3.0, 2.0, 4.0],
        "vrmse": [math.sqrt(3 / variance), nan, nan],
        "conserved_error": [-0.5, 0.5, 1.0],
    }[name]


def fields(seed: int, shape: tuple[int, ...] = (4, 2, 5, 6)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(shape, generator=generator, dtype=torch.float64)
    return target + 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64), target


@pytest.mark.parametrize("name", METRICS)
def test_values_by_hand(name: str) -> None:
    value = METRICS[name](PREDICTION, TARGET)
    assert value.dtype == torch.float64
    np.testing.assert_allclose(value[0], by_hand(name), rtol=1e-15)


def test_variance_and_boundary_by_hand() -> None:
    expected = [(1.25**2 + 2 * 0.25**2 + 1.75**2) / 3, 0.0, 0.0]
    np.testing.assert_allclose(FieldErrors(PREDICTION, TARGET).target_variance[0], expected, rtol=1e-15)
    np.testing.assert_allclose(FieldErrors(PREDICTION, TARGET).brmse[0], [math.sqrt(5), math.sqrt(2), math.sqrt(8)])


def test_the_boundary_of_a_plane_and_of_a_block_is_counted_once() -> None:
    plane, block = torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 3, 4, 5)
    plane[0, 0, 0, 0], plane[0, 0, 1, 1], plane[0, 0, 1, 3] = 3.0, 100.0, 1.0  # a corner, the inside, a side
    assert FieldErrors(plane, 0 * plane).brmse.item() == 1.0  # sqrt((9 + 1) / 10)
    block[0, 0, 1, 1:3, 1:4] = 100.0  # the inside is 1 x 2 x 3
    assert FieldErrors(block, 0 * block).brmse.item() == 0
    block[0, 0, 2, 3, 4] = 3.0
    assert FieldErrors(block, 0 * block).brmse.item() == pytest.approx(3 / math.sqrt(60 - 6))


@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10), seed=st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_boundary_error_and_variance_scale_and_ignore_a_shift(scale: float, shift: float, seed: int) -> None:
    prediction, target = fields(seed)
    moved = scale * prediction + shift, scale * target + shift
    np.testing.assert_allclose(FieldErrors(*moved).brmse, scale * FieldErrors(prediction, target).brmse, rtol=1e-8)
    expected = scale**2 * FieldErrors(prediction, target).target_variance
    np.testing.assert_allclose(FieldErrors(*moved).target_variance, expected, rtol=1e-6)


def test_grid_metrics_do_not_depend_on_the_order_of_samples_and_variables_or_on_mirroring() -> None:
    prediction, target = fields(2)
    rows, channels = torch.randperm(4), torch.randperm(2)
    for metric in GRID_METRICS.values():
        expected = metric(prediction, target)
        assert torch.equal(
            metric(prediction[rows][:, channels], target[rows][:, channels]), expected[rows][:, channels]
        )
        torch.testing.assert_close(metric(prediction.flip(2, 3), target.flip(2, 3)), expected)
        torch.testing.assert_close(metric(prediction.mT, target.mT), expected)


@pytest.mark.parametrize("name", METRICS)
def test_a_perfect_prediction_has_no_error(name: str) -> None:
    _, target = fields(0)
    if name != "squared_target":
        assert (METRICS[name](target, target) == 0).all()


@given(scale=st.floats(1e-6, 1e6), seed=st.integers(0, 10))
@settings(max_examples=25, deadline=None)
def test_relative_metrics_do_not_change_with_units_and_absolute_ones_do(scale: float, seed: int) -> None:
    prediction, target = fields(seed)
    for name in ("relative_l2", "nrmse", "vrmse"):
        expected = METRICS[name](prediction, target)
        torch.testing.assert_close(METRICS[name](scale * prediction, scale * target), expected, rtol=1e-12, atol=0)
    for name in ("rmse", "max_error", "conserved_error"):
        expected = scale * METRICS[name](prediction, target)
        torch.testing.assert_close(METRICS[name](scale * prediction, scale * target), expected, rtol=1e-12, atol=1e-15)


def test_a_shift_of_both_fields_changes_only_what_divides_by_the_size_of_the_target() -> None:
    prediction, target = fields(1)
    for name in ("rmse", "max_error", "conserved_error", "squared_error", "vrmse"):
        shifted = METRICS[name](prediction + 8, target + 8)
        torch.testing.assert_close(shifted, METRICS[name](prediction, target), rtol=1e-12, atol=1e-14)
    assert (FieldErrors(prediction + 8, target + 8).nrmse < FieldErrors(prediction, target).nrmse).all()


@pytest.mark.parametrize("name", METRICS)
def test_the_order_of_points_samples_and_variables_does_not_matter(name: str) -> None:
    prediction, target = fields(2)
    rows, channels, points = torch.randperm(4), torch.randperm(2), torch.randperm(6)
    expected = METRICS[name](prediction, target)
    torch.testing.assert_close(METRICS[name](prediction[..., points], target[..., points]), expected)
    exact = METRICS[name](prediction[rows][:, channels], target[rows][:, channels])
    assert torch.equal(exact, expected[rows][:, channels])


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_sample_has_the_same_number_in_any_batch(name: str, size: int) -> None:
    prediction, target = fields(3, (5, 1, 300, 300))  # large enough for torch to split a sum over threads
    pairs = zip(prediction.split(size), target.split(size), strict=True)
    parts = torch.cat([METRICS[name](p, q) for p, q in pairs])
    assert torch.equal(parts, METRICS[name](prediction, target))


def test_sums_are_taken_in_double_precision() -> None:
    target = torch.full((1, 1, 10_000), 1e4, dtype=torch.float32)
    prediction = target + 1
    assert FieldErrors(prediction, target).squared_error.item() == 10_000
    assert FieldErrors(prediction, target).rmse.item() == 1


def test_targets_without_space_are_one_point() -> None:
    prediction, target = torch.tensor([[2.0, 5.0]]), torch.tensor([[1.0, 4.0]])
    assert points(target) == 1
    np.testing.assert_allclose(FieldErrors(prediction, target).relative_l2, [[1.0, 0.25]])


def test_predicting_the_mean_has_vrmse_one_up_to_the_unbiased_variance() -> None:
    _, target = fields(4)
    mean = target.mean((2, 3), keepdim=True).expand_as(target)
    np.testing.assert_allclose(FieldErrors(mean, target).vrmse ** 2, 29 / 30)


def test_a_constant_target_has_no_vrmse() -> None:
    target = torch.full((1, 1, 50), 0.1)
    assert np.isnan(FieldErrors(target + 1e-3, target).vrmse).all()


@given(seed=st.integers(0, 50), share=st.floats(0.05, 0.95))
@settings(max_examples=30, deadline=None)
def test_points_without_a_target_are_left_out(seed: int, share: float) -> None:
    """The metric of a field with gaps is that of the points that are left, in a row."""
    prediction, target = fields(seed, (3, 2, 4, 5))
    gaps = torch.rand(target.shape, generator=torch.Generator().manual_seed(seed)) < share
    target[gaps] = torch.nan
    measures = METRICS | {name: GRID_METRICS[name] for name in ("target_variance", "scored_points")}
    for name, metric in measures.items():
        found = metric(prediction, target)
        for row, channel in np.ndindex(3, 2):
            kept = ~gaps[row, channel]
            alone = [values[row, channel][kept][None, None] for values in (prediction, target)]
            if kept.any():
                torch.testing.assert_close(
                    found[row, channel], metric(*alone)[0, 0], rtol=1e-10, atol=1e-12, equal_nan=True
                )
            else:
                assert name == "scored_points" or found[row, channel].isnan()


def test_on_the_boundary_too_gaps_are_left_out() -> None:
    prediction, target = torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 3, 3)
    prediction[0, 0, 0], prediction[0, 0, 1, 1] = 2.0, 50.0
    target[0, 0, 0, :2] = torch.nan
    assert FieldErrors(prediction, target).brmse.item() == pytest.approx(math.sqrt(4 / 6))
    target[0, 0, 1, 1] = torch.nan
    assert FieldErrors(prediction, target).brmse.item() == pytest.approx(math.sqrt(4 / 6))


def test_a_prediction_that_is_nan_is_not_hidden() -> None:
    prediction, target = fields(0)
    prediction[0, 0, 1, 1] = torch.nan
    for name in METRICS.keys() - {"squared_target"}:
        assert METRICS[name](prediction, target)[0, 0].isnan()
