"""Verdicts: paired, corrected, wrong about as often as stated, and right where there is a difference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp, wilcoxon

from surrogate.errors import ConfigError
from surrogate.evaluation import compare_cases, holm, interval
from surrogate.evaluation.comparison import ratio_test

NONE = "no significant difference"


def test_a_small_but_steady_difference_is_significant_only_by_pairing() -> None:
    spread = np.random.default_rng(3).lognormal(size=25)
    errors = {"adam": spread * 1.02, "slimtrain": spread}
    assert interval(errors["adam"])[0] < interval(errors["slimtrain"])[1]  # the intervals overlap widely
    result = compare_cases(errors)
    assert list(result) == ["adam"]
    assert result["adam"].verdict == "worse"
    assert result["adam"].ratio == pytest.approx(1.02)
    assert result["adam"].typical == pytest.approx(1.02)


def test_noise_is_not_significant() -> None:
    generator = np.random.default_rng(4)
    result = compare_cases({"a": generator.random(12), "b": generator.random(12)})
    assert [item.verdict for item in result.values()] == [NONE]


def test_equal_cases_and_single_samples_are_not_significant() -> None:
    values = np.arange(5.0)
    assert compare_cases({"a": values, "b": values})["b"].verdict == NONE
    assert compare_cases({"a": values, "b": values * (1 + 1e-7)})["b"].verdict == NONE  # equal but for rounding
    assert compare_cases({"a": np.array([1.0]), "b": np.array([2.0])})["b"].verdict == NONE
    zeros = np.zeros(5)
    assert compare_cases({"a": zeros, "b": zeros})["b"].verdict == NONE
    assert compare_cases({"a": zeros, "b": zeros + 1})["b"].verdict == "worse"


@pytest.mark.parametrize("simulations", [3, 4, 6, 12])
def test_errors_that_are_decades_apart_are_significant_where_a_rank_test_is_blind(simulations: int) -> None:
    generator = np.random.default_rng(simulations)
    hits = ranks = 0
    for _ in range(100):
        a, b = (size * generator.lognormal(size=simulations) for size in (6e-6, 0.40))
        item = compare_cases({"a": a, "b": b})["b"]
        hits += item.verdict == "worse"
        ranks += wilcoxon(b - a).pvalue < 0.1
        assert item.typical == pytest.approx(np.exp(np.mean(np.log(b / a))))
    assert hits >= 99
    assert ranks == (0 if simulations < 5 else 100)


def test_a_reference_is_compared_with_both_ways() -> None:
    values = np.random.default_rng(6).lognormal(size=20)
    result = compare_cases({"slow": values * 1.2, "adam": values, "fast": values * 0.8}, reference="adam")
    assert {name: item.verdict for name, item in result.items()} == {"fast": "better", "slow": "worse"}
    assert result["fast"].ratio == pytest.approx(0.8)
    assert (result["fast"].level, result["fast"].seeds) == (0.9, 1)
    with pytest.raises(ConfigError, match="no case 'adm' to compare with; did you mean 'adam'"):
        compare_cases({"adam": values}, reference="adm")


def test_samples_without_a_number_are_left_out_everywhere() -> None:
    a, b = np.array([1.0, np.nan, 3.0, 4.0]), np.array([2.0, 9.0, 4.0, np.nan])
    result = compare_cases({"a": a, "b": b})
    assert (result["b"].samples, result["b"].ratio) == (2, 1.5)
    assert compare_cases({"a": np.array([np.nan]), "b": np.array([1.0])}) == {}


def test_a_verdict_needs_table_and_test_to_agree() -> None:
    base = np.random.default_rng(8).lognormal(size=20)
    b = base * 0.8
    b[0] = 100 * base.sum()  # better on 19 simulations, lost on one
    item = compare_cases({"a": base, "b": b})["b"]
    assert item.ratio > 1 > item.typical * 0.7
    assert item.verdict == NONE
    steady = compare_cases({"a": base, "b": base * 1.5}, scores={"a": 1.0, "b": 0.9})["a"]
    assert (steady.verdict, steady.ratio) == (NONE, pytest.approx(1 / 0.9))


def test_times_of_one_simulation_are_no_evidence_of_their_own() -> None:
    generator = np.random.default_rng(7)
    shifts = np.array([0.1, -0.1, 0.2, -0.05, 0.08, -0.12, 0.1, 0.05])
    base, labels = 1 + generator.random(8 * 50), np.repeat(np.arange(8), 50)
    errors = {"a": base, "b": base * np.exp(shifts[labels])}
    assert compare_cases(errors, reference="a")["b"].verdict == "worse"
    item = compare_cases(errors, reference="a", clusters=labels)["b"]
    assert (item.verdict, item.samples, item.simulations) == (NONE, 400, 8)


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("cases", [2, 3])
def test_equal_cases_of_one_seed_differ_about_as_often_as_stated(cases: int, heavy: bool) -> None:
    generator = np.random.default_rng(cases + 10 * heavy)
    draw = (lambda *s: generator.standard_t(3, s)) if heavy else (lambda *s: generator.normal(size=s))
    wrong = 0
    for _ in range(600):
        logs = 2 * draw(1, 12) + draw(cases, 12)  # simulations of very different difficulty
        wrong += any(item.verdict != NONE for item in compare_cases(dict(enumerate(np.exp(logs)))).values())
    assert (0 if heavy or cases > 2 else 30) <= wrong <= 60 + 2 * 7.3  # 10 % of 600, and two standard deviations


@pytest.mark.parametrize(("seeds", "simulations"), [(3, 12), (5, 12), (5, 60)])
@pytest.mark.parametrize("spreads", [(1, 0, 0.3), (0, 1, 0.3), (1, 1, 1), (0, 0, 1)])
def test_equal_methods_over_seeds_differ_about_as_often_as_stated(
    seeds: int, simulations: int, spreads: tuple[float, float, float]
) -> None:
    generator = np.random.default_rng(seeds * simulations)
    of_seed, of_simulation, of_both = spreads
    wrong = 0
    for _ in range(2000):
        logs = of_seed * generator.normal(size=(seeds, 1)) + of_simulation * generator.normal(size=(1, simulations))
        wrong += ratio_test(logs + of_both * generator.normal(size=(seeds, simulations))).p_value < 0.1
    assert wrong <= 200 + 2.5 * 13.4
    assert wrong >= (20 if spreads[2] == 1 else 150)  # conservative where seed and simulation both have no effect


def test_a_difference_of_the_size_of_the_noise_is_seen_nearly_always() -> None:
    generator = np.random.default_rng(12)
    seen = 0
    for _ in range(200):
        base = generator.lognormal(size=20)
        seen += compare_cases({"a": base, "b": base * np.exp(1 + generator.normal(size=20))})["b"].verdict == "worse"
    assert seen >= 190


def test_one_seed_is_a_t_test_of_the_log_ratios() -> None:
    logs = np.random.default_rng(1).normal(0.3, size=(1, 15))
    ours, expected = ratio_test(logs), ttest_1samp(logs[0], 0)
    assert ours.p_value == pytest.approx(expected.pvalue)
    bounds = expected.confidence_interval(0.9)
    assert np.log([ours.low, ours.high]) == pytest.approx([bounds.low, bounds.high])


def test_the_ratio_and_its_inverse_agree() -> None:
    logs = np.random.default_rng(2).normal(0.3, size=(3, 8))
    there, back = ratio_test(logs), ratio_test(-logs)
    assert (there.ratio, there.low, there.high) == pytest.approx((1 / back.ratio, 1 / back.high, 1 / back.low))
    assert there.p_value == pytest.approx(back.p_value)


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
