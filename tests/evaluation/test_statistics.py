"""Intervals that cover what they say, and comparisons that are paired."""

import numpy as np
import pytest

from surrogate.evaluation import compare_cases, interval
from surrogate.evaluation.statistics import bootstrap_means


def test_interval_agrees_with_the_normal_approximation() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    low, high = interval(values)
    half = 1.6449 * values.std() / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)


def test_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    bounds = [interval(generator.normal(size=30), seed=i) for i in range(200)]
    covered = sum(low <= 0 <= high for low, high in bounds)
    assert 165 <= covered <= 195  # 180 expected, standard deviation 4.2; small samples cover a little less


def test_interval_scales_and_is_seeded() -> None:
    values = np.random.default_rng(2).random(20)
    assert interval(values) == interval(values)
    assert interval(4 * values) == tuple(4 * end for end in interval(values))
    assert interval(values, level=0.99)[0] < interval(values, level=0.5)[0]


def test_one_value_has_no_interval_and_equal_values_an_empty_one() -> None:
    assert np.isnan(interval(np.array([1.0]))).all()
    assert interval(np.full(5, 2.0)) == (2.0, 2.0)


def test_draws_are_bounded_in_memory_and_complete() -> None:
    means = bootstrap_means(np.arange(3000.0), draws=700)
    assert means.shape == (700,)
    assert means.std() == pytest.approx(3000 / np.sqrt(12 * 3000), rel=0.1)


def test_a_small_but_steady_difference_is_told_apart_only_by_pairing() -> None:
    spread = np.random.default_rng(3).lognormal(size=25)
    errors = {"adam": spread * 1.02, "slimtrain": spread}
    assert interval(errors["adam"])[0] < interval(errors["slimtrain"])[1]  # the intervals overlap widely
    result = compare_cases(errors)
    assert list(result) == ["adam"]
    assert result["adam"].verdict == "worse"
    assert result["adam"].difference == pytest.approx(0.02 * spread.mean())


def test_noise_is_not_told_apart() -> None:
    generator = np.random.default_rng(4)
    result = compare_cases({"a": generator.random(12), "b": generator.random(12)})
    assert [item.verdict for item in result.values()] == ["not told apart"]


def test_equal_cases_and_single_samples_are_not_told_apart() -> None:
    values = np.arange(5.0)
    assert compare_cases({"a": values, "b": values})["b"].verdict == "not told apart"
    assert compare_cases({"a": np.array([1.0]), "b": np.array([2.0])})["b"].verdict == "not told apart"


def test_more_cases_ask_for_more_evidence() -> None:
    values = np.random.default_rng(5).random(10)
    three = compare_cases({name: values + shift for name, shift in (("a", 0.0), ("b", 1.0), ("c", 2.0))})
    assert list(three) == ["b", "c"]
    assert three["b"].level == pytest.approx(1 - 0.1 / 3)


def test_samples_without_a_number_are_left_out_everywhere() -> None:
    a, b = np.array([1.0, np.nan, 3.0, 4.0]), np.array([2.0, 9.0, 4.0, np.nan])
    result = compare_cases({"a": a, "b": b})
    assert (result["b"].samples, result["b"].difference) == (2, 1.0)
    assert compare_cases({"a": np.array([np.nan]), "b": np.array([1.0])}) == {}
