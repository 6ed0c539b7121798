"""Intervals that cover what they say, over simulations and seeds."""

import numpy as np
import pytest

from surrogate.evaluation import bootstrap_means, interval
from surrogate.evaluation.bootstrap import selected_error


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


def test_samples_of_one_simulation_count_as_one() -> None:
    generator = np.random.default_rng(6)
    simulations = generator.normal(size=12)
    values, labels = np.repeat(simulations, 30), np.repeat(list("abcdefghijkl"), 30)
    assert interval(values, clusters=labels) == pytest.approx(interval(simulations), abs=1e-12)
    width, naive = (np.diff(interval(values, clusters=c))[0] for c in (labels, None))
    assert width > 4 * naive  # sqrt(30) without the correction for few


def test_clusters_may_come_in_any_order_and_differ_in_size() -> None:
    generator = np.random.default_rng(7)
    values, labels = generator.random(40), generator.integers(9, size=40)
    order = generator.permutation(40)
    shuffled = interval(values[order], clusters=labels[order])
    assert shuffled == pytest.approx(interval(values, clusters=labels), rel=1e-12)
    means = bootstrap_means(values, clusters=labels, draws=4000)
    assert means.mean() == pytest.approx(values.mean(), abs=0.02)
    with pytest.raises(ValueError, match="one label for each of 40 values"):
        interval(values, clusters=labels[:3])


def test_clustered_intervals_cover_as_often_as_they_say() -> None:
    generator = np.random.default_rng(8)
    labels = np.repeat(np.arange(10), 5)
    covered = naive = 0
    for run in range(300):
        values = generator.normal(size=10)[labels] + 0.5 * generator.normal(size=50)
        low, high = interval(values, clusters=labels, seed=run)
        covered += low <= 0 <= high
        low, high = interval(values, seed=run)
        naive += low <= 0 <= high
    assert 255 <= covered <= 285  # 270 expected, standard deviation 5.2
    assert naive < 220


@pytest.mark.parametrize("count", [5, 8])
def test_few_normal_values_are_covered_as_often_as_many(count: int) -> None:
    generator = np.random.default_rng(count)
    bounds = [interval(generator.normal(size=count), seed=i) for i in range(300)]
    assert 252 <= sum(low <= 0 <= high for low, high in bounds) <= 288


def test_seeds_and_simulations_both_widen_an_interval() -> None:
    generator = np.random.default_rng(9)
    seeds, simulations = generator.normal(size=(6, 1)), generator.normal(size=(1, 40))
    alone = np.diff(interval(simulations[0]))[0]
    both = np.diff(interval(seeds + simulations))[0]
    assert both > np.diff(interval(np.broadcast_to(simulations, (6, 40))))[0]
    assert both > 2 * alone  # six seeds say less than forty simulations
    assert np.isnan(interval(simulations)).all()  # one seed tells nothing about seeds


def test_intervals_over_seeds_and_simulations_cover_as_often_as_they_say() -> None:
    generator = np.random.default_rng(10)
    covered = 0
    for run in range(300):
        values = generator.normal(size=(5, 1)) + generator.normal(size=(1, 20)) + generator.normal(size=(5, 20))
        low, high = interval(values, seed=run)
        covered += low <= 0 <= high
    assert covered >= 258  # 270 expected; it errs on the wide side


def test_the_error_of_a_choice_is_that_of_simulations_that_did_not_choose() -> None:
    """Of twenty equal methods the lowest mean is too low; the error of the choice is not."""
    lowest, chosen = [], []
    for seed in range(30):
        errors = np.random.default_rng(seed).lognormal(size=(20, 15))
        lowest.append(errors.mean(1).min())
        chosen.append(selected_error(errors, draws=300))
    truth = np.exp(0.5)
    assert np.mean(lowest) < 0.75 * truth
    assert abs(np.mean(chosen) - truth) < 0.15 * truth


def test_the_choice_of_a_clear_winner_costs_nothing() -> None:
    errors = np.random.default_rng(0).uniform(1, 1.1, (3, 40)) * np.array([[1.0], [10.0], [100.0]])
    assert selected_error(errors) == pytest.approx(errors[0].mean(), rel=1e-3)
    assert np.isnan(selected_error(errors, clusters=np.zeros(40)))
