"""Conformal intervals cover at their level whatever the errors are like, and are refused where they cannot."""

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.linear_model import Ridge

from surrogate.errors import DataError
from surrogate.evaluation.conformal import (
    RolloutResiduals,
    conformal_coverage,
    conformal_width,
    cross_conformal_interval,
    simulations_needed,
)
from surrogate.evaluation.rollout.stepping import Piece
from surrogate.evaluation.table import Labels

REPEATS = 200


def errors_of(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    draws = {"normal": rng.normal, "cauchy": rng.standard_cauchy, "lognormal": lambda size: rng.lognormal(0, 2, size)}
    return np.abs(draws[kind](size=shape))


@pytest.mark.parametrize("kind", ["normal", "cauchy", "lognormal"])
def test_with_20_simulations_held_out_90_percent_intervals_cover_88_to_93_percent(kind: str) -> None:
    """Expected are ceil(21 * 0.9) / 21 = 19 / 21 = 90.5 %: over 200 repeats, with fields of 20 correlated points."""
    rng, inside = np.random.default_rng(0), []
    for _ in range(REPEATS):
        errors = errors_of(kind, rng, (20 + 200, 1)) * np.exp(0.3 * rng.normal(size=(220, 20)))
        inside.append((errors[20:] <= conformal_width(errors[:20])).mean())
    assert 0.88 < np.mean(inside) < 0.93


def test_intervals_of_roll_outs_cover_88_to_93_percent_at_every_lead_time() -> None:
    """A step with a slightly wrong factor and noise, rolled out over 10 steps from 20 simulations: 200 repeats."""
    rng, inside = np.random.default_rng(5), []
    for _ in range(REPEATS):
        truth = prediction = rng.normal(size=(20 + 100, 6))
        errors = []
        for _ in range(10):
            truth = 0.95 * np.roll(truth, 1, axis=1) + 0.1 * rng.standard_t(3, truth.shape)
            prediction = 0.9 * np.roll(prediction, 1, axis=1)
            errors.append(np.abs(truth - prediction))
        along = np.stack(errors, axis=1)  # (simulations, leads, points)
        inside.append((along[20:] <= conformal_width(along[:20])).mean((0, 2)))
    assert np.mean(inside, axis=0).min() > 0.88
    assert np.mean(inside, axis=0).max() < 0.93


def test_several_samples_of_a_simulation_cover_new_simulations() -> None:
    """Simulations differ in difficulty and in their number of samples; theory has 90 to 90 + 1 / 21 = 94.8 %."""
    rng, inside = np.random.default_rng(1), []
    for _ in range(REPEATS):
        counts = rng.integers(1, 8, 20)
        clusters = np.repeat(np.arange(20), counts)
        size = rng.lognormal(0, 1, 20)[clusters]
        width = conformal_width(size * np.abs(rng.normal(size=len(clusters))), clusters=clusters)
        inside.append((rng.lognormal(0, 1, 500) * np.abs(rng.normal(size=500)) <= width).mean())
    assert 0.89 < np.mean(inside) < 0.95


def test_cross_conformal_intervals_cover_with_folds_of_a_surrogate() -> None:
    """CV+ of a ridge regression from 40 simulations in 5 folds, on targets with skewed noise: 200 repeats."""
    rng, inside = np.random.default_rng(2), []
    folds = np.arange(40) % 5
    for _ in range(REPEATS):
        x = rng.normal(size=(60, 3))
        y = x @ [1.0, -2.0, 0.5] + rng.exponential(size=60)
        train, new = slice(40), slice(40, 60)
        models = [Ridge(1.0).fit(x[train][folds != k], y[train][folds != k]) for k in range(5)]
        left = np.array([abs(y[i] - models[folds[i]].predict(x[i : i + 1])[0]) for i in range(40)])
        by_fold = np.stack([model.predict(x[new]) for model in models])
        low, high = cross_conformal_interval(by_fold, np.repeat(left[:, None], 20, 1), folds)
        inside.append(((low <= y[new]) & (y[new] <= high)).mean())
    assert 0.88 < np.mean(inside) < 0.94


def test_one_sample_a_simulation_is_an_order_statistic() -> None:
    errors = np.random.default_rng(3).permutation(np.arange(1.0, 21.0))
    assert conformal_width(errors) == 19.0  # the ceil(21 * 0.9)-th smallest
    assert conformal_width(errors[:9], level=0.9) == errors[:9].max()
    assert conformal_width(errors, level=0.5) == 11.0


def test_coverage_by_leaving_out_each_simulation_is_that_of_loops() -> None:
    errors, clusters = np.abs(np.random.default_rng(4).normal(size=(36, 4))), np.repeat(np.arange(12), 3)
    expected = [
        np.mean(errors[clusters == j] <= conformal_width(errors[clusters != j], clusters=clusters[clusters != j]))
        for j in range(12)
    ]
    np.testing.assert_allclose(conformal_coverage(errors, clusters=clusters), expected)


@pytest.mark.parametrize(("diverged", "leads"), [(0, 4), (1, 4), (5, 2)])
def test_roll_outs_that_diverge_bound_the_lead_times(diverged: int, leads: int) -> None:
    """Pieces of two steps each; from the third step on some of 20 roll-outs are not finite."""
    truth = torch.from_numpy(np.random.default_rng(7).normal(size=(20, 4, 1, 3)))
    prediction = truth + 1.0
    prediction[:diverged, 2:] = torch.nan
    residuals = RolloutResiduals()
    for part in (slice(0, 2), slice(2, 4)):
        offsets = tuple(range(part.start + 1, part.stop + 1))
        residuals.add(Piece(prediction[:, part], truth[:, part], truth[:, 0], torch.arange(20), offsets))
    scores = xr.Dataset(coords={"lead": np.arange(1.0, 5.0), "variable": ["u"], "units": ("variable", ["m"])})
    intervals = residuals.dataset(scores, Labels(["u"]))
    assert intervals.sizes == {"lead": leads, "variable": 1, "axis_0": 3, "simulation": 20}
    np.testing.assert_allclose(intervals["half_width"], 1.0)
    if leads == 4:
        assert intervals["coverage"].values.sum() == 20 - diverged / 2


def test_roll_outs_without_intervals_say_why() -> None:
    truth, scores = torch.zeros(20, 1, 1, 3), xr.Dataset()
    missing, diverged = RolloutResiduals(), RolloutResiduals()
    missing.add(Piece(truth, truth + torch.nan, truth[:, 0], torch.arange(20), (1,)))
    diverged.add(Piece(truth + torch.inf, truth, truth[:, 0], torch.arange(20), (1,)))
    with pytest.raises(DataError, match="some targets are missing"):
        missing.dataset(scores, Labels(["u"]))
    with pytest.raises(DataError, match="too many of them diverge within the first step"):
        diverged.dataset(scores, Labels(["u"]))


def test_equal_errors_are_inside() -> None:
    """Where a value is prescribed, as on a wall, every error is zero, and so is the width."""
    assert (conformal_coverage(np.zeros((24, 3)), clusters=np.repeat(np.arange(12), 2)) == 1).all()


def test_samples_of_one_simulation_share_its_weight_in_cross_conformal_intervals() -> None:
    """Samples that are repeated change nothing."""
    rng = np.random.default_rng(6)
    errors, folds, predictions = np.abs(rng.normal(size=(20, 4))), np.arange(20) % 5, rng.normal(size=(5, 4))
    once = cross_conformal_interval(predictions, errors, folds)
    twice = cross_conformal_interval(
        predictions, np.repeat(errors, 2, 0), np.repeat(folds, 2), clusters=np.repeat(np.arange(20), 2)
    )
    np.testing.assert_allclose(once, twice)


def test_too_few_simulations_are_refused_in_one_line() -> None:
    assert [simulations_needed(level) for level in (0.5, 0.8, 0.9, 0.95)] == [1, 4, 9, 19]
    with pytest.raises(DataError, match="at 90 % need 9 simulations held out, there are 8; hold out more") as refusal:
        conformal_width(np.ones((16, 3)), clusters=np.repeat(np.arange(8), 2))
    assert "\n" not in str(refusal.value)
    with pytest.raises(DataError, match="need 9 simulations, there are 3"):
        cross_conformal_interval(np.ones((3, 2)), np.ones((3, 2)), np.arange(3))
