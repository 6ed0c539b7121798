"""Verdicts: paired, corrected, wrong no more often than they say, and right when there is something to see."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surrogate.errors import ConfigError
from surrogate.evaluation import compare_cases, holm, interval
from surrogate.evaluation.comparison import rank_biserial, signed_rank


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
    assert [item.verdict for item in result.values()] == ["no significant difference"]


def test_equal_cases_and_single_samples_are_not_told_apart() -> None:
    values = np.arange(5.0)
    assert compare_cases({"a": values, "b": values})["b"].verdict == "no significant difference"
    assert compare_cases({"a": np.array([1.0]), "b": np.array([2.0])})["b"].verdict == "no significant difference"


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


def test_a_reference_is_compared_with_both_ways() -> None:
    values = np.random.default_rng(6).lognormal(size=20)
    result = compare_cases({"slow": values * 1.2, "adam": values, "fast": values * 0.8}, reference="adam")
    assert {name: item.verdict for name, item in result.items()} == {"fast": "better", "slow": "worse"}
    assert result["fast"].level == pytest.approx(0.95)  # two comparisons, not three pairs
    assert result["fast"].relative == pytest.approx(-0.2)
    assert (result["fast"].rank_effect, result["slow"].rank_effect) == (-1, 1)
    with pytest.raises(ConfigError, match="no case 'adm' to compare with; did you mean 'adam'"):
        compare_cases({"adam": values}, reference="adm")


def test_three_simulations_are_too_few_whatever_they_say() -> None:
    item = compare_cases({"a": np.array([1.0, 1.1, 1.2]), "b": np.array([2.0, 2.2, 2.3])})["b"]
    assert item.low > 0
    assert (item.verdict, item.p_value) == ("no significant difference", 0.25)


def test_times_of_one_simulation_are_no_evidence_of_their_own() -> None:
    generator = np.random.default_rng(7)
    shifts = np.array([0.1, -0.1, 0.2, -0.05, 0.08, -0.12, 0.1, 0.05])
    base, labels = generator.random(8 * 50), np.repeat(np.arange(8), 50)
    errors = {"a": base, "b": base + shifts[labels]}
    assert compare_cases(errors, reference="a")["b"].verdict == "worse"
    item = compare_cases(errors, reference="a", clusters=labels)["b"]
    assert (item.verdict, item.samples, item.simulations) == ("no significant difference", 400, 8)


@pytest.mark.parametrize(("cases", "skewed"), [(2, False), (2, True), (3, False)])
def test_cases_that_do_not_differ_are_told_apart_no_more_often_than_stated(cases: int, skewed: bool) -> None:
    generator = np.random.default_rng(cases + 10 * skewed)
    wrong = 0
    for run in range(300):
        noise = generator.lognormal(size=(cases, 15)) if skewed else generator.normal(size=(cases, 15))
        errors = {str(i): row for i, row in enumerate(noise + generator.lognormal(size=15))}
        wrong += any(item.verdict != "no significant difference" for item in compare_cases(errors, seed=run).values())
    assert wrong <= 30 + 2 * 5.2  # 10 % of 300 runs, and two standard deviations


def test_cases_that_do_not_differ_over_seeds_and_simulations_are_not_told_apart() -> None:
    generator = np.random.default_rng(11)
    wrong = 0
    for run in range(200):
        seeds, noise = generator.normal(size=(2, 5, 1)), generator.normal(size=(2, 5, 20))
        errors = dict(zip("ab", seeds + noise, strict=True))
        wrong += compare_cases(errors, seed=run)[max(errors, key=lambda n: errors[n].mean())].verdict == "worse"
    assert wrong <= 20 + 2 * 4.2


def test_a_difference_of_the_size_of_the_noise_is_found_nearly_always() -> None:
    generator = np.random.default_rng(12)
    found = 0
    for run in range(200):
        base = generator.lognormal(size=20)
        errors = {"a": base, "b": base + 1 + generator.normal(size=20)}
        found += compare_cases(errors, reference="a", seed=run)["b"].verdict == "worse"
    assert found >= 190


def test_effect_sizes_by_hand() -> None:
    zero = np.zeros(4)
    item = compare_cases({"a": zero + 1.0, "b": 1.0 + np.array([1.0, 2.0, 3.0, -1.0])}, reference="a")["b"]
    assert item.effect == pytest.approx(1.25 / np.std([1, 2, 3, -1], ddof=1))
    assert item.rank_effect == pytest.approx((1.5 + 3 + 4 - 1.5) / 10)
    assert item.relative == pytest.approx(1.25)
    assert compare_cases({"a": zero, "b": zero})["b"].effect == 0
    assert compare_cases({"a": zero, "b": zero + 1})["b"].effect == np.inf


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=7))
def test_signed_ranks_agree_with_all_signs_tried(values: list[int]) -> None:
    """Without ties the p-value counts sign patterns at least as extreme; the effect changes sign with the data."""
    differences = np.array(values, dtype=float)
    assert rank_biserial(-differences) == -rank_biserial(differences)
    sizes = np.abs(differences[differences != 0])
    if len(np.unique(sizes)) < len(sizes) or not len(sizes):
        return
    ranks = sizes.argsort().argsort() + 1
    found = abs((ranks * np.sign(differences[differences != 0])).sum())
    patterns = [abs(np.dot(signs, ranks)) for signs in itertools.product((-1, 1), repeat=len(ranks))]
    assert signed_rank(differences) == pytest.approx(np.mean(np.array(patterns) >= found))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for raw, new in zip(p_values, adjusted, strict=True):
        assert raw <= new <= min(1.0, len(p_values) * raw) + 1e-15
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
