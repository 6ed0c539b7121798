"""Extrapolated learning curves cover the error measured with more simulations; factors and counts are exact."""

import math

import numpy as np
import pytest

from surrogate.studies.learning_curve import break_even, crossing, data_efficiency, forecast

SIZES = np.array([4, 8, 16, 32])


def curve(rng: np.random.Generator, sizes: np.ndarray, rate: float, floor: float, noise: float) -> np.ndarray:
    """Draw errors of 5 seeds about a power law with a floor."""
    expected = (1 - floor) * (sizes / 32.0) ** -rate + floor
    return 0.1 * expected[:, None] * np.exp(noise * rng.standard_normal((len(sizes), 5)))


@pytest.mark.parametrize("noise", [0.05, 0.3])
def test_intervals_cover_the_error_measured_at_twice_the_data(noise: float) -> None:
    rng, inside = np.random.default_rng(0), []
    for _ in range(80):
        rate, floor = rng.uniform(0.1, 1.8), rng.choice([0.0, rng.uniform(0, 0.9)])
        errors = curve(rng, np.append(SIZES, 64), rate, floor, noise)
        found = forecast(SIZES, errors[:-1], 64)
        inside.append(found.low <= np.exp(np.log(errors[-1]).mean()) <= found.high)
    assert np.mean(inside) >= 0.84


def test_the_interval_narrows_with_the_number_of_sizes_and_scales_with_the_error() -> None:
    rng = np.random.default_rng(1)
    sizes = np.array([2, 4, 8, 16, 32])
    errors = curve(rng, sizes, 0.7, 0.0, 0.02)
    many, few = forecast(sizes, errors, 64), forecast(sizes[-3:], errors[-3:], 64)
    assert math.log(many.high / many.low) < math.log(few.high / few.low)
    tenfold = forecast(sizes, 10 * errors, 64)
    np.testing.assert_allclose([tenfold.error, tenfold.low], [10 * many.error, 10 * many.low], rtol=1e-6)
    assert many.low < 0.1 * 2**-0.7 < many.high
    assert forecast(sizes[:2], errors[:2], 64) is None


def test_failed_trainings_are_left_out() -> None:
    errors = curve(np.random.default_rng(2), SIZES, 0.5, 0.0, 0.01)
    whole = forecast(SIZES, errors, 64)
    errors[1, 3] = np.nan
    assert forecast(SIZES, errors, 64).error == pytest.approx(whole.error, rel=0.05)
    errors[:2] = np.nan
    assert forecast(SIZES, errors, 64) is None


def test_the_factor_of_shifted_power_laws_is_the_shift() -> None:
    better, worse = (np.outer(factor * SIZES**-0.8, np.ones(5)) for factor in (1.0, 3.0**0.8))
    found = data_efficiency(SIZES, better, worse, draws=50)
    assert found.factor == pytest.approx(3.0)
    assert (found.low, found.high) == (pytest.approx(3.0), pytest.approx(3.0))
    assert data_efficiency(SIZES, worse, better) is None
    far = data_efficiency(SIZES, better / 1e3, worse)
    assert far.at_least
    assert (far.factor, far.high) == (pytest.approx(8.0), math.inf)


def test_the_interval_of_the_factor_covers_the_shift() -> None:
    rng, inside = np.random.default_rng(3), []
    for _ in range(40):
        better, worse = (f * curve(rng, SIZES, 0.8, 0.0, 0.1) for f in (1.0, 2.5**0.8))
        found = data_efficiency(SIZES, better, worse, draws=100)
        inside.append(found.low <= 2.5 <= found.high)
    assert np.mean(inside) > 0.7  # a percentile bootstrap of five seeds is somewhat too narrow


def test_crossings_and_break_even() -> None:
    n = np.log(SIZES)
    assert crossing(n, np.array([8.0, 4.0, 2.0, 1.0]), 2.0) == pytest.approx(math.log(2))
    assert crossing(n, np.array([8.0, 4.0, 2.0, 1.0]), 0.5) == 0.0
    k = break_even(20, solve_seconds=10.0, train_seconds=100.0, predict_seconds=0.5)
    assert 20 * 10 + 100 + k * 0.5 <= k * 10
    assert 20 * 10 + 100 + (k - 1) * 0.5 > (k - 1) * 10
    assert math.isinf(break_even(20, 0.1, 1.0, 0.2))
