"""Every number of docs/metrics.md is recomputed from predictions and targets by its formula in numpy."""

import csv
import math
from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats
from sklearn.metrics import r2_score

from surrogate.batch import Batch
from surrogate.evaluation import ErrorMaps, evaluate, evaluate_uncertainty, save, save_uncertainty
from surrogate.evaluation.bootstrap import interval
from surrogate.evaluation.uncertainty import LEVELS
from surrogate.report.definitions import Definitions, definitions
from surrogate.report.tables import Table

SAMPLES, TIMES, VARIABLES, SIDES = 8, 3, 2, (5, 6)
AXES = (3, 4)  # of space
SIMULATION = np.arange(SAMPLES) // 2  # two samples of each simulation


def fields(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets (sample, time, variable, y, x); of the second variable a third is missing."""
    rng = np.random.default_rng(seed)
    target = rng.normal(size=(SAMPLES, TIMES, VARIABLES, *SIDES)) * np.array([1.0, 50.0])[:, None, None]
    prediction = target + rng.normal(size=target.shape) * rng.lognormal(-2, 1, (SAMPLES, 1, VARIABLES, 1, 1))
    target[:, :, 1][rng.random((SAMPLES, TIMES, *SIDES)) < 1 / 3] = np.nan
    return prediction, target


def batch_of(values: np.ndarray, target: np.ndarray) -> Batch:
    sample, time = (torch.from_numpy(index.ravel()) for index in np.mgrid[:SAMPLES, :TIMES])
    flat = (torch.from_numpy(each.reshape(-1, *each.shape[2:])) for each in (values, target))
    return Batch(*flat, sample, time, masked=bool(np.isnan(target).any()))


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[xr.Dataset, dict[tuple[str, str, str], dict[str, float]]]:
    """The metrics, and `summary.csv` by metric, variable and band."""
    prediction, target = fields()
    folder = tmp_path_factory.mktemp("scored")
    batch = batch_of(prediction, target)
    metrics = evaluate(lambda inputs: inputs, [batch], variables=("u", "v"), simulations=SIMULATION)
    save(metrics, folder)
    with open(folder / "summary.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = ("mean", "median", "low", "high", "largest", "samples", "simulations")
    keyed = {(r["metric"], r["variable"], r["band"]): {name: float(r[name]) for name in numbers} for r in rows}
    return metrics, keyed


def boundary(e: np.ndarray) -> np.ndarray:
    edge = np.ones(SIDES, bool)
    edge[1:-1, 1:-1] = False
    return np.sqrt(np.nanmean(e[..., edge] ** 2, axis=-1))


def wave_numbers() -> np.ndarray:
    return np.hypot(*np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in SIDES), indexing="ij"))


def bands(e: np.ndarray) -> np.ndarray:
    power, k = np.abs(np.fft.fft2(e, norm="forward")) ** 2, wave_numbers()
    groups = [k < 4, (k >= 4) & (k < 12)]  # the grid has no wave number of 12
    with np.errstate(invalid="ignore", divide="ignore"):
        each = [np.sqrt(power[..., group].sum(-1) / group.sum()) for group in groups]
    return np.stack([*each, np.full_like(each[0], np.nan)], -1)


def variance(q: np.ndarray) -> np.ndarray:
    return np.nanvar(q, axis=AXES, ddof=1)


FORMULAS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {  # of e and q
    "squared_error": lambda e, q: np.nansum(e**2, axis=AXES),
    "squared_target": lambda e, q: np.nansum(q**2, axis=AXES),
    "scored_points": lambda e, q: np.isfinite(q).sum(axis=AXES),
    "relative_l2": lambda e, q: np.sqrt(np.nansum(e**2, axis=AXES) / np.nansum(q**2, axis=AXES)),
    "rmse": lambda e, q: np.sqrt(np.nanmean(e**2, axis=AXES)),
    "nrmse": lambda e, q: np.sqrt(np.nanmean(e**2, axis=AXES)) / np.sqrt(np.nanmean(q**2, axis=AXES)),
    "mae": lambda e, q: np.nanmean(np.abs(e), axis=AXES),
    "max_error": lambda e, q: np.nanmax(np.abs(e), axis=AXES),
    "target_mean": lambda e, q: np.nanmean(q, axis=AXES),
    "target_variance": lambda e, q: variance(q),
    "vrmse": lambda e, q: np.sqrt(np.nanmean(e**2, axis=AXES) / variance(q)),
    "conserved_error": lambda e, q: np.nanmean(e, axis=AXES),
    "brmse": lambda e, q: boundary(e),
    "frmse": lambda e, q: bands(e),
}
OTHERS = {  # tested below, each under its own name
    "spectral_error", "relative_l2_variable", "relative_l2_sample", "normalized_error_variable",
    "normalized_error_sample", "mean of relative_l2", "mean of nrmse, vrmse, mae, max_error",
    "mean of rmse, brmse, frmse", "mean of crmse", "median", "r2", "largest", "samples, simulations", "coverage",
    "crps", "nll", "sharpness", "spread", "pit", "degenerate_std",
}  # fmt: skip
SECTIONS = (
    "Errors of one sample, time and variable", "Errors of one sample", "Averages over samples",
    "Predicted standard deviations",
)  # fmt: skip


def rows_of(section: Definitions) -> list[list[str]]:
    return [
        [cell.replace("`", "") for cell in row]
        for block in section.blocks
        if isinstance(block, Table)
        for row in block.rows
    ]


def test_every_definition_of_an_error_has_a_test() -> None:
    named = {row[0] for section in definitions() if section.title in SECTIONS for row in rows_of(section)}
    assert named == FORMULAS.keys() | OTHERS


@pytest.mark.parametrize("name", FORMULAS)
def test_a_metric_is_its_formula(name: str, scored) -> None:
    prediction, target = fields()
    metrics, _ = scored
    expected = FORMULAS[name](prediction - target, target)
    np.testing.assert_allclose(metrics[name].transpose("sample", "time", "variable", ...), expected, rtol=1e-10)


def test_spectra_are_sums_of_squared_fourier_coefficients() -> None:
    prediction, target = fields()
    target = np.where(np.isnan(target), 0.0, target)
    metrics = evaluate(lambda x: x, [batch_of(prediction, target)], variables=("u", "v"))
    k, edges = wave_numbers(), [*metrics["wave_number"].values, metrics["wave_number_to"].values[-1]]
    for name, field in (("error", prediction - target), ("target", target), ("prediction", prediction)):
        power = np.abs(np.fft.fft2(field) / k.size) ** 2
        expected = [power[..., (k >= low) & (k < high)].sum(-1) for low, high in pairwise(edges)]
        np.testing.assert_allclose(metrics[f"spectral_{name}"], np.stack(expected, -1), rtol=1e-10)


def of_samples(e: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.sqrt(np.nansum(e**2, axis=(1, *AXES)) / np.nansum(q**2, axis=(1, *AXES)))


def test_the_relative_error_of_a_sample_is_over_its_times_and_its_mean_over_variables(scored) -> None:
    prediction, target = fields()
    metrics, summary = scored
    expected = of_samples(prediction - target, target)
    np.testing.assert_allclose(metrics["relative_l2_variable"], expected, rtol=1e-10)
    np.testing.assert_allclose(metrics["relative_l2_sample"], expected.mean(1), rtol=1e-10)
    for number, variable in enumerate(("u", "v", "all")):
        values = expected.mean(1) if variable == "all" else expected[:, number]
        row = summary["relative_l2", variable, ""]
        assert (row["mean"], row["median"]) == pytest.approx((values.mean(), np.median(values)), rel=1e-10)
        assert (row["largest"], row["samples"], row["simulations"]) == pytest.approx((values.max(), 8, 4))


@pytest.mark.parametrize(("name", "variable"), list(product(["nrmse", "vrmse", "mae", "max_error"], ["u", "v"])))
def test_a_mean_is_over_times_and_then_over_samples(name: str, variable: str, scored) -> None:
    prediction, target = fields()
    values = FORMULAS[name](prediction - target, target)[:, :, "uv".index(variable)]
    row = scored[1][name, variable, ""]
    assert row["mean"] == pytest.approx(values.mean(1).mean(), rel=1e-10)
    assert row["median"] == pytest.approx(np.median(values.mean(1)), rel=1e-10)
    assert row["largest"] == pytest.approx(values.max(), rel=1e-10)


@pytest.mark.parametrize(("name", "variable"), [*product(["rmse", "brmse", "crmse"], ["u", "v"]), ("frmse", "u")])
def test_a_mean_of_root_mean_squares_is_the_root_of_a_mean(name: str, variable: str, scored) -> None:
    prediction, target = fields()
    metric = "conserved_error" if name == "crmse" else name
    values = FORMULAS[metric](prediction - target, target)[:, :, "uv".index(variable)]
    values = values[..., 0] if name == "frmse" else values
    row = scored[1][name, variable, "low" if name == "frmse" else ""]
    assert row["mean"] == pytest.approx(math.sqrt((values**2).mean()), rel=1e-10)
    assert row["median"] == pytest.approx(math.sqrt(np.median((values**2).mean(1))), rel=1e-10)


@pytest.mark.parametrize("variable", ["u", "v"])
def test_r2_is_over_all_samples_together(variable: str, scored) -> None:
    prediction, target = (each[:, :, "uv".index(variable)] for each in fields())
    there = np.isfinite(target)
    p, q = prediction[there], target[there]
    assert scored[1]["r2", variable, ""]["mean"] == pytest.approx(r2_score(q, p), rel=1e-10)


def test_one_number_per_sample_has_a_root_mean_square_error_and_not_its_mean_absolute_error(tmp_path: Path) -> None:
    """What was once printed as the root mean square error of such data was their mean absolute error."""
    rng = np.random.default_rng(1)
    target = rng.normal(size=(50, 1))
    prediction = target + rng.standard_t(3, size=(50, 1))
    batch = Batch(*map(torch.from_numpy, (prediction, target)), torch.arange(50), torch.zeros(50, dtype=torch.long))
    metrics = evaluate(lambda x: x, [batch], variables=("c",))
    rows = {row.metric: row for row in save(metrics, tmp_path) if row.variable == "c"}
    e, size = np.abs(prediction - target)[:, 0], math.sqrt((target**2).mean())
    assert rows["rmse"].mean == pytest.approx(math.sqrt((e**2).mean()))
    assert rows["mae"].mean == pytest.approx(e.mean())
    assert rows["rmse"].mean > 1.1 * rows["mae"].mean
    np.testing.assert_allclose(metrics["normalized_error_variable"][:, 0], e / size)
    np.testing.assert_allclose(metrics["normalized_error_sample"], e / size)
    assert rows["normalized_error"].mean == pytest.approx((e / size).mean())


def test_intervals_are_expanded_percentiles_of_means_over_drawn_simulations() -> None:
    """With a hundred times as many draws of its own the interval agrees to the noise of 2000 draws."""
    values = np.random.default_rng(4).lognormal(size=(20, 2))  # two samples of each simulation
    means = values.mean(1)[np.random.default_rng(5).integers(20, size=(200_000, 20))].mean(1)
    tail = stats.norm.cdf(-math.sqrt(20 / 19) * stats.t.ppf(0.95, 19))
    low, high = interval(values.ravel(), clusters=np.repeat(np.arange(20), 2))
    assert (low, high) == pytest.approx(np.quantile(means, [tail, 1 - tail]), abs=0.1 * means.std())


def test_maps_are_means_over_samples_and_times_at_each_point() -> None:
    prediction, target = fields()
    maps = ErrorMaps()
    maps.add(*(each.reshape(-1, VARIABLES, *SIDES) for each in (prediction, target)))
    result, e = maps.dataset(["u", "v"], ["", ""]), prediction - target
    np.testing.assert_allclose(result["bias"], np.nanmean(e, axis=(0, 1)))
    np.testing.assert_allclose(result["mean_error"], np.nanmean(np.abs(e), axis=(0, 1)))
    np.testing.assert_allclose(result["rms_error"], np.sqrt(np.nanmean(e**2, axis=(0, 1))))


def test_scores_of_standard_deviations_are_their_formulas(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    target, _ = fields()
    prediction, s = target + rng.normal(size=target.shape), rng.uniform(0.5, 2, target.shape)
    s[0, 0, 0, 0, 0] = 0.0
    both = batch_of(np.concatenate([prediction, s], axis=2), target)
    scores = evaluate_uncertainty(lambda x: (x[:, :2], x[:, 2:]), [both], variables=("u", "v"))
    rows = {(row.metric, row.variable, row.band): row.mean for row in save_uncertainty(scores, tmp_path)}
    e, safe = target - prediction, np.where(s > 0, s, np.nan)
    z = e / safe
    share = np.where(s > 0, stats.norm.cdf(np.nan_to_num(z)), (e > 0).astype(float))
    closed = safe * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / math.sqrt(math.pi))
    expected = {
        "crps": np.where(s > 0, closed, np.abs(e)).mean(AXES),
        "nll": np.nanmean(-stats.norm.logpdf(e, scale=safe), axis=AXES),
        "sharpness": s.mean(AXES),
        "spread": np.sqrt((s**2).mean(AXES)),
        "degenerate_std": (s == 0).mean(AXES),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(scores[name], values, rtol=1e-8, err_msg=name)
        for number, variable in enumerate("uv"):
            assert rows[name, variable, ""] == pytest.approx(values[:, :, number].mean(), rel=1e-8), name
    for level in LEVELS:
        inside = np.abs(e) <= s * stats.norm.ppf((1 + level) / 2)
        np.testing.assert_allclose(scores["coverage"].sel(level=level), inside.mean(AXES))
        assert rows["coverage", "u", f"{level:g}"] == pytest.approx(inside[:, :, 0].mean())
    counts = np.stack([((share >= low) & (share < low + 0.1)).mean(AXES) for low in np.arange(9) / 10], -1)
    np.testing.assert_allclose(scores["pit"][..., :9], counts)
