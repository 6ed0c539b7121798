"""Findings of a study: verdicts at every place, in sentences and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from surrogate.evaluation import NORMALIZED, RELATIVE, Comparison, compare_cases
from surrogate.evaluation.comparison import WORSE
from surrogate.numbers import number
from surrogate.report.tables import MISSING, Table, more
from surrogate.studies import StudyPlan
from surrogate.studies.learning_curve import data_efficiency, forecast
from surrogate.studies.settings import EPOCHS, TRAIN_SIZE

__all__ = [
    "Place",
    "failure_table",
    "learning_curve_answers",
    "metric_name",
    "places_of",
    "study_findings",
    "study_tables",
]

LEVEL = 0.9
NEAR = 1.5  # times the lowest error of a method: settings that are nearly as good


class Place:
    """One place of a grid, with all methods and seeds.

    Arguments:
        values: Value of every axis.
        data: Errors at this place over (method, seed), and of every sample.
        level: Probability of a comparison, corrected for the number of places.
    """

    def __init__(self, values: Mapping[str, Any], data: xr.Dataset, level: float) -> None:
        self.values, self.data, self.level = dict(values), data, level

    @property
    def name(self) -> str:
        """Name of the place in a sentence, such as `18 training simulations`."""
        words = [
            f"{shown(value)} {short(key)}" if key in (TRAIN_SIZE, EPOCHS) else f"{short(key)} {shown(value)}"
            for key, value in self.values.items()
        ]
        return ", ".join(words) or "the configuration"

    def errors(self, method: str) -> np.ndarray:
        """Return the errors of all seeds that have one."""
        values = self.data["error"].sel({"method": method}).values.ravel()
        return values[np.isfinite(values)]

    def comparisons(self) -> tuple[str, dict[str, Comparison]] | None:
        """Return the best method and all others compared with it, over the seeds that all of them finished.

        The best has the lowest median over these seeds, which is the statistic of the tables.
        """
        errors = self.data["sample_error"].transpose("method", "seed", "sample")
        seeds = np.isfinite(errors.values).any(2).all(0)
        if errors.sizes["method"] < 2 or not seeds.any():
            return None
        names = [str(name) for name in errors["method"].values]
        medians = np.median(self.data["error"].transpose("method", "seed").values[:, seeds], axis=1)
        scores = dict(zip(names, medians.tolist(), strict=True))
        tables = dict(zip(names, errors.values[:, seeds], strict=True))
        compared = compare_cases(tables, scores=scores, level=self.level)
        best = next((name for name in names if name not in compared), None)
        return (best, compared) if best is not None and compared else None


def places_of(laid: xr.Dataset, axes: Sequence[str]) -> Iterator[Place]:
    """Yield every place of a grid."""
    sizes = [range(laid.sizes[axis]) for axis in axes]
    total = int(np.prod([len(size) for size in sizes])) if sizes else 1
    for index in product(*sizes):
        chosen = laid.isel(dict(zip(axes, index, strict=True)))
        values = {axis: laid[axis].values[i].item() for axis, i in zip(axes, index, strict=True)}
        yield Place(values, chosen, 1 - (1 - LEVEL) / total)


def short(key: str) -> str:
    """Return the last part of a dotted key, in words."""
    return {TRAIN_SIZE: "training simulations"}.get(key, key.rpartition(".")[2].replace("_", " "))


def metric_name(metric: str) -> str:
    """Return the name of a metric in a sentence."""
    names = {each.metric: each.words for each in (RELATIVE, NORMALIZED)} | {
        "max_error": "largest error",
        "rmse": "root mean square error",
    }
    return names.get(metric, metric.replace("_", " "))


def counted(number: int, noun: str) -> str:
    """Return `1 seed`, `2 seeds`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def shown(value: Any) -> str:
    """Format a value of an axis."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def study_findings(plan: StudyPlan, grids: Sequence[xr.Dataset]) -> list[str]:
    """Return the paragraphs of the summary."""
    study = plan.study
    kinds = {
        "learning_curve": "How does the error fall with the number of training simulations?",
        "sensitivity": "How much does the error depend on the settings of the method?",
        "propose": "Which simulations should be run next: those of the largest predictive variance, or any?",
        "budget": "What error does a budget of epochs, seconds or simulations buy?",
    }
    trials = study.trials_of(plan.methods[0])
    tuned = f"{trials} trials for each method" if trials > 1 else "no tuning"
    paragraphs = [
        f"{kinds[study.kind]} {counted(len(plan.methods), 'method')} ({', '.join(plan.methods)}), "
        f"{counted(len(study.seeds), 'seed')}, {len(plan.cases)} training runs, {tuned}. "
        f"The error is the {metric_name(study.metric)} on the test simulations."
    ]
    for axes, laid in zip(study.grids, grids, strict=True):
        if len(plan.methods) > 1:
            paragraphs += _verdicts(list(places_of(laid, list(axes))))
        if list(axes) == [TRAIN_SIZE]:
            paragraphs += learning_curve_answers(laid, metric_name(study.metric))
        if study.kind == "sensitivity":
            paragraphs += [text for name in plan.methods if (text := _sensitivity(plan, name, laid, list(axes)))]
    if len(study.seeds) < 3:
        paragraphs.append(f"With {counted(len(study.seeds), 'seed')}, the spread over seeds is hardly known.")
    samples = max(grid.sizes["sample"] for grid in grids)
    if samples < 10:
        paragraphs.append(f"With {samples} test samples, the comparisons are rough.")
    bad = sum(int((grid["status"] == "failed").sum()) for grid in grids)
    if bad:
        paragraphs.append(f"{bad} of the training runs shown failed and have no error; they are listed below.")
    return paragraphs


def learning_curve_answers(laid: xr.Dataset, metric: str) -> list[str]:
    """Say what twice the simulations would bring to each method, and how many times the simulations others need.

    Arguments:
        laid: Errors over (method, training simulations, seed).
        metric: Name of the error in a sentence.
    """
    sizes = laid[TRAIN_SIZE].values.astype(float)
    order = np.argsort(sizes)
    table = laid["error"].transpose("method", TRAIN_SIZE, "seed").values[:, order]
    names, sizes = [str(name) for name in laid["method"].values], sizes[order]
    twice = int(2 * sizes[-1])
    forecasts = {
        name: found for name, rows in zip(names, table, strict=True) if (found := forecast(sizes, rows, twice))
    }
    more_data = [
        f"{name} from {number(found.last, 3)} to {number(found.error, 3)} ({number(found.low, 3)} to "
        f"{number(found.high, 3)}){'' if found.high < found.last else ', or no gain'}"
        for name, found in forecasts.items()
    ]
    paragraphs = []
    if more_data:
        paragraphs.append(
            f"Twice the simulations, {twice}, would bring the {metric} of {'; of '.join(more_data)}: geometric means "
            "over seeds, extrapolated by power laws with a floor, with 90 % intervals of what would be measured."
        )
    whole = [k for k in range(len(names)) if np.isfinite(table[k]).all() and (table[k] > 0).all()]
    if len(whole) < 2 or table.shape[2] < 2:
        return paragraphs
    best = min(whole, key=lambda k: float(np.median(table[k, -1])))
    needs = []
    for other in whole:
        ratio = data_efficiency(sizes, table[best], table[other])
        if ratio is not None:
            bound = "at least " if ratio.at_least else ""
            high = number(ratio.high, 3) if np.isfinite(ratio.high) else "more"
            needs.append(
                f"{names[other]} needs {bound}{number(ratio.factor, 3)} times (90 % interval {number(ratio.low, 3)} to "
                f"{high}) the simulations of {names[best]} for an error of {number(ratio.error, 3)}"
            )
    if needs:
        paragraphs.append(f"{'; '.join(needs)}. Interpolated between the sizes, with a bootstrap over seeds.")
    return paragraphs


def _verdicts(places: Sequence[Place]) -> list[str]:
    """Return a paragraph with a verdict at every place; none without a comparison."""
    sentences, undecided, single = [], [], []
    for place in places:
        comparisons = place.comparisons()
        if comparisons is None:
            continue
        best, compared = comparisons
        if next(iter(compared.values())).seeds == 1:
            single.append(place.name)
            continue
        worse = [name for name, item in compared.items() if item.verdict == WORSE]
        same = [name for name, item in compared.items() if item.verdict != WORSE]
        if worse:
            others = f" ({', '.join(same)}: no significant difference from it)" if same else ""
            medians = ", ".join(f"{name}, {more(compared[name].ratio)}" for name in worse)
            sentences.append(f"At {place.name}, {best} is better than {medians}{others}.")
        else:
            undecided.append(place.name)
    if sentences:
        sentences.insert(0, "Percentages compare the medians over seeds of the table.")
    if undecided:
        sentences.append(f"At {'; '.join(undecided)} there is no significant difference between the methods.")
    if single:
        sentences.append(
            f"At {'; '.join(single)} all methods have only one training in common, which gives no verdict about "
            "methods. The table says how these trained models differ on the test simulations."
        )
    return [" ".join(sentences)] if sentences else []


def _sensitivity(plan: StudyPlan, method: str, laid: xr.Dataset, axes: Sequence[str]) -> str:
    """State the range of errors over the settings that a method has; empty where it has none."""
    its = [point.values for point in plan.points if point.method == method]
    own = [axis for axis in axes if any(values.get(axis) is not None for values in its)]
    if not own:
        return ""
    places = list(places_of(laid.isel(dict.fromkeys((axis for axis in axes if axis not in own), 0)), own))
    medians = {place.name: float(np.median(place.errors(method))) for place in places if place.errors(method).size}
    lost = len(places) - len(medians)
    if len(medians) < 2:
        return ""
    best, worst = min(medians, key=medians.__getitem__), max(medians, key=medians.__getitem__)
    near = sum(value <= NEAR * medians[best] for value in medians.values())
    failed = f"; at {lost} no seed finished" if lost else ""
    return (
        f"Over {' x '.join(short(axis) for axis in own)}, the median error of {method} runs from "
        f"{number(medians[best])} ({best}) to {number(medians[worst])} ({worst}), a factor of "
        f"{number(medians[worst] / medians[best])}; {near} of {len(places)} settings are within {NEAR:g} times its "
        f"lowest{failed}."
    )


def study_tables(plan: StudyPlan, grids: Sequence[xr.Dataset], loss: str) -> list[Table]:
    """Make one table per grid, a row per place and a column per method, and tables of validation losses."""
    tables = []
    several = len(plan.methods) > 1
    for axes, laid in zip(plan.study.grids, grids, strict=True):
        rows = []
        for place in places_of(laid, list(axes)):
            row = [*map(shown, place.values.values()), *(spread(place.errors(method)) for method in plan.methods)]
            comparisons = place.comparisons() if several else None
            if comparisons is not None:
                best, compared = comparisons
                verdicts = [f"{name} {item.verdict} (p {number(item.p_value, 2)})" for name, item in compared.items()]
                models = " (these models, one seed)" if next(iter(compared.values())).seeds == 1 else ""
                row.append(f"best {best}; " + "; ".join(verdicts) + models)
            elif several:
                row.append(MISSING)
            rows.append(row)
        header = [*(short(axis) for axis in axes), *plan.methods, *(["verdict"] if several else [])]
        caption = f"The {metric_name(plan.study.metric)} on the test simulations: median over seeds (lowest, highest)."
        tables.append(Table(caption, header, rows))
    for laid in grids if plan.study.epochs else ():
        epochs = [epoch for epoch in plan.study.epochs if epoch in laid["epoch"].values]
        others = [dim for dim in laid["curve_loss"].dims if dim not in ("method", "epoch")]
        rows = []
        for method in plan.methods:
            curves = laid["curve_loss"].sel({"method": method}).transpose(*others, "epoch")
            columns = [curves.sel(epoch=epoch).values.ravel() for epoch in epochs]
            rows.append([method, *(spread(column[np.isfinite(column)]) for column in columns)])
        caption = f"Validation loss ({loss}) after an epoch: median over seeds (lowest, highest)."
        tables.append(Table(caption, ["method", *(f"epoch {epoch}" for epoch in epochs)], rows))
    return tables


def spread(values: np.ndarray) -> str:
    """Format median and range over seeds."""
    if not values.size:
        return MISSING
    return f"{number(float(np.median(values)))} ({number(float(values.min()))}, {number(float(values.max()))})"


def failure_table(plan: StudyPlan, table: xr.Dataset) -> Table | None:
    """List the runs without a result, with the reason."""
    bad = table.isel(point=np.flatnonzero(table["status"].values != "done"))
    if not bad.sizes["point"]:
        return None
    keys = [name for name in bad.coords if name in plan.study.keys or str(name).startswith("tuned.")]
    header = ["method", "seed", *map(str, keys), "status", "why"]
    columns = [bad[name].values.tolist() for name in ("method", "seed", *keys, "status", "why")]
    rows = [[shown(value) for value in row] for row in zip(*columns, strict=True)]
    return Table("Training runs without a result.", header, rows)
