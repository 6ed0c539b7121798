"""What a study says: one statistic in a sentence, no verdict from one seed, losses with their units."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml
from matplotlib.colors import to_rgb

from surrogate import plotting
from surrogate.experiment.loss import common_loss, loss_words
from surrogate.report.study import _loss
from surrogate.report.study_findings import learning_curve_answers, study_findings, study_tables
from surrogate.studies import StudyPlan
from surrogate.studies.settings import TRAIN_SIZE

SAMPLES = 60


def plan_of(methods: list[str], seeds: int) -> StudyPlan:
    points = [
        {"method": name, "grid": 0, "values": {}, "trial": {}, "seed": seed, "case": f"{name}-{seed}"}
        for name in methods
        for seed in range(seeds)
    ]
    study = {"kind": "budget", "metric": "rmse", "seeds": list(range(seeds)), "epochs": [1]}
    return StudyPlan.model_validate(
        {
            "name": "s",
            "study": study,
            "base": {n: {} for n in methods},
            "points": points,
            "command": "c",
            "fingerprint": "f",
        }
    )


def results(factors: Mapping[str, list[float]]) -> xr.Dataset:
    """Errors of every method and seed: the same samples, times a factor for each seed."""
    sample = np.random.default_rng(0).lognormal(-3, 0.3, SAMPLES)
    errors = np.stack([[factor * sample for factor in each] for each in factors.values()])
    dims = ("method", "seed", "sample")
    return xr.Dataset(
        {
            "sample_error": (dims, errors),
            "error": (dims[:2], np.sqrt((errors**2).mean(-1))),
            "status": (dims[:2], np.full(errors.shape[:2], "done")),
            "curve_loss": ((*dims[:2], "epoch"), errors[..., :1]),
        },
        {"method": list(factors), "seed": np.arange(errors.shape[1]), "epoch": [1]},
    )


def test_a_sentence_has_the_ratio_of_the_medians_of_the_table() -> None:
    """Medians give 50 %; the means over seeds, drawn up by one seed, give 81 %."""
    factors = {"a": [1.0, 1.0, 0.99, 1.01, 1.0], "b": [1.5, 1.5, 1.49, 1.55, 3.0]}
    grid = results(factors)
    text = " ".join(study_findings(plan_of(["a", "b"], 5), [grid]))
    assert "a is better than b, 50 % more" in text
    assert "Percentages compare the medians over seeds of the table." in text
    assert "81" not in text
    table = study_tables(plan_of(["a", "b"], 5), [grid], "loss")[0]
    medians = np.median(grid["error"], axis=1)
    assert [float(cell.split()[0]) for cell in table.rows[0][:2]] == pytest.approx(medians, rel=5e-4)
    assert medians[1] / medians[0] == pytest.approx(1.5)


def test_a_learning_curve_says_what_more_simulations_would_bring() -> None:
    """Of two power laws, one needs three times the simulations of the other."""
    sizes = np.array([8, 16, 32])
    curves = np.stack([np.outer(c * sizes**-0.8, np.exp(0.01 * np.arange(5))) for c in (1.0, 3.0**0.8)])
    labels = {"method": ["a", "b"], TRAIN_SIZE: sizes, "seed": np.arange(5)}
    laid = xr.Dataset({"error": (("method", TRAIN_SIZE, "seed"), curves)}, labels)
    first, second = learning_curve_answers(laid, "relative L2 error")
    assert "Twice the simulations, 64, would bring the relative L2 error of a from 0.06" in first
    assert "b needs 3 times (90 % interval 3 to 3) the simulations of a for an error of 0.15" in second
    assert learning_curve_answers(laid.isel({TRAIN_SIZE: [0]}), "error") == []


def test_one_seed_gives_no_verdict_about_methods() -> None:
    plan, grid = plan_of(["a", "b"], 1), results({"a": [1.0], "b": [10.0]})
    text = " ".join(study_findings(plan, [grid]))
    assert "only one training in common, which gives no verdict about methods" in text
    assert "better" not in text
    assert study_tables(plan, [grid], "loss")[0].rows[0][-1].endswith("(these models, one seed)")


@pytest.mark.parametrize(
    ("loss", "normalize", "words"),
    [
        (None, None, "mean squared error, normalised units"),
        ("mse", "pixel", "mean squared error, normalised units"),
        ("mse", "none", "mean squared error, physical units"),
        ("relative_l2", "none", "relative L2 error"),
    ],
)
def test_a_loss_is_named_with_its_units(tmp_path: Path, loss: str | None, normalize: str | None, words: str) -> None:
    assert loss_words(loss, normalize) == words
    tree = {"training": {"loss": loss} if loss else {}, "data": {"normalize": normalize} if normalize else {}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(tree | {"cases": {"a": {}, "b": {"training.epochs": 3}}}))
    assert _loss(tmp_path / "study.yaml") == words
    assert words in study_tables(plan_of(["a", "b"], 2), [results({"a": [1, 2], "b": [1, 2]})], words)[-1].caption
    assert common_loss([words, "another"]) == "loss of each case"


@pytest.mark.parametrize("count", [2, 14, 20])
def test_curves_of_many_cases_have_their_own_styles_and_a_legend_beside_the_data(tmp_path: Path, count: int) -> None:
    epochs = np.arange(1, 11)
    columns = dict.fromkeys(("train_loss", "validation_loss"), ("epoch", 1.0 / epochs))
    curves = {f"a method with the number {i}": xr.Dataset(columns, {"epoch": epochs}) for i in range(count)}
    figure, axes = plotting.new_figure(height=3.8)
    ax = plotting.plot_training(curves, ax=axes[0, 0])
    plotting.save_figure(figure, tmp_path / "curves.png")
    solid = [line for line in ax.lines if line.get_label() in set(curves)]
    assert len({(to_rgb(line.get_color()), line.get_linestyle()) for line in solid}) == count
    box = ax.get_window_extent()
    for legend in [*figure.legends, *([ax.get_legend()] if ax.get_legend() else [])]:
        shown = legend.get_window_extent()
        assert len(legend.get_texts()) == count
        assert not shown.overlaps(box.shrunk(0.98, 0.98))
        assert figure.bbox.expanded(1.02, 1.02).contains(shown.x1, shown.y1)
    assert box.width > 0.4 * figure.bbox.width


@pytest.mark.parametrize("span", [1.0, 40.0, 900.0])
def test_axes_show_every_value_and_ticks_do_not_overlap(span: float) -> None:
    values = xr.DataArray(np.geomspace(0.02, 0.02 * span, 30), dims="sample", attrs={"long_name": "error"})
    ax = plotting.plot_error_histogram({"a": values, "b": 1.2 * values})
    figure = plotting.figure_of(ax)
    figure.canvas.draw()
    assert ax.get_xlim()[1] > 1.2 * float(values.max())
    ticks = [label.get_window_extent() for label in ax.get_xticklabels() if label.get_text()]
    ticks = [tick for tick in ticks if ax.bbox.x0 <= tick.x0 and tick.x1 <= ax.bbox.x1]
    assert len(ticks) >= 2
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(ticks))
