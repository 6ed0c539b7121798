"""The findings of a report: sentences and tables, every number of them from a file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from surrogate.evaluation import Comparison, compare_cases
from surrogate.report.runs import Case

__all__ = [
    "Table",
    "case_table",
    "compare",
    "facts_table",
    "findings",
    "number",
    "scale_table",
    "uncertainty_table",
    "variable_table",
]

FEW = 10  # simulations; a bootstrap of fewer says little
MISSING = "–"
BAND_NAMES = {"low": "[0, 4)", "middle": "[4, 12)", "high": "[12, …)"}
SHOWN_LEVELS = ("0.5", "0.9", "0.99")


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Arguments:
        caption: What stands in it.
        header: Names of the columns.
        rows: Texts; the first is the row's name.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def number(value: Any) -> str:
    """A number with four digits, as text."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return MISSING
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def compare(cases: Sequence[Case]) -> dict[str, Comparison] | None:
    """Every case against the best one, paired by test sample; None where the cases had different test samples."""
    first = cases[0]
    for case in cases[1:]:
        same = case.facts.get("data_fingerprint") == first.facts.get("data_fingerprint")
        if not same or not _index(case).equals(_index(first)):
            return None
    errors = {case.name: case.metrics["relative_l2_sample"].values for case in cases}
    return compare_cases(errors, clusters=first.metrics["simulation"].values)


def _index(case: Case) -> Any:
    kept = case.metrics[["simulation", "time", "step", "variable"]].reset_coords()
    return kept.assign(split=str(case.metrics.attrs.get("split", "")))


def ranked(cases: Sequence[Case]) -> list[Case]:
    """Cases by mean error, the lowest first; a case without a number comes last."""
    means = {case.name: case.number("relative_l2", "mean") for case in cases}
    return sorted(cases, key=lambda case: (math.isnan(means[case.name]), means[case.name]))


def findings(cases: Sequence[Case], comparison: Mapping[str, Comparison] | None) -> list[str]:
    """The summary in plain words, a paragraph each."""
    best = ranked(cases)[0]
    paragraphs = [_how_good(best, alone=len(cases) == 1)]
    if len(cases) > 1 and comparison is None:
        paragraphs.append(
            "The cases were not evaluated on the same test samples of the same data, so they are not told apart here."
        )
    if comparison:
        paragraphs.append(" ".join(_verdict(name, item, best.name) for name, item in comparison.items()))
    return paragraphs + _cautions(cases)


def _how_good(case: Case, *, alone: bool) -> str:
    if not math.isfinite(case.number("relative_l2", "mean")):
        return "There is no relative L2 error to report: every target is zero everywhere."
    subject = f"{case.name} has" if alone else f"{case.name} has the lowest mean error:"
    samples, units = (int(case.number("relative_l2", key)) for key in ("samples", "simulations"))
    low, high = case.number("relative_l2", "low"), case.number("relative_l2", "high")
    spread = (
        f"90 % bootstrap interval {number(low)} to {number(high)}"
        if math.isfinite(low)
        else "no interval from one sample"
    )
    return (
        f"{subject} a relative L2 error of {number(case.number('relative_l2', 'mean'))} on average over "
        f"{_samples(samples, units)} of the split “{_stated(case, 'split')}” ({spread}; median "
        f"{number(case.number('relative_l2', 'median'))}). The error is taken over all points and times of a "
        f"sample{_over_variables(case)}. Steps given: {_stated(case, 'steps_given')}; "
        f"steps scored: {_stated(case, 'steps_scored')}."
    )


def _over_variables(case: Case) -> str:
    return (
        f", then averaged over {len(case.variables)} variables, each in its own unit" if len(case.variables) > 1 else ""
    )


def _verdict(name: str, item: Comparison, best: str) -> str:
    paired = (
        f"on the same {_samples(item.samples, item.simulations)} the paired difference in relative L2 error is "
        f"{number(item.difference)} ({100 * item.level:.3g} % interval {number(item.low)} to {number(item.high)}; "
        f"signed rank test p = {number(item.p_value)})"
    )
    if item.verdict == "worse":
        return f"{best} is better than {name}: {paired}."
    if item.low > 0:
        return f"{best} and {name} are not told apart: {paired}, which is too few simulations, or too mixed, to say."
    return f"{best} and {name} are not told apart: {paired}, which does not exclude zero."


def _samples(samples: int, simulations: int) -> str:
    """Samples, and of how many simulations where several belong to one."""
    return f"{samples} samples" + (f" of {simulations} simulations" if simulations != samples else "")


def _cautions(cases: Sequence[Case]) -> list[str]:
    units = min(int(case.number("relative_l2", "simulations")) for case in cases)
    samples = min(int(case.number("relative_l2", "samples")) for case in cases)
    cautions = []
    if units < FEW:
        what = "test samples" if units == samples else "independent test simulations"
        cautions.append(f"With {units} {what}, the intervals are rough.")
    if len(cases) > 1:
        seeds = ", ".join(f"{case.name} {case.facts.get('seed', MISSING)}" for case in cases)
        cautions.append(
            f"Each case was trained once (seeds: {seeds}). The verdict is about these trained models; "
            "another seed may change it."
        )
    for case in cases:
        cautions += _unfinished(case) + _uncertain(case)
        zero = int(case.metrics.attrs.get("zero_targets", 0))
        constant = int(case.metrics.attrs.get("constant_targets", 0))
        if zero or constant:
            cautions.append(
                f"{case.name}: {zero} targets are zero everywhere and have no relative error, {constant} are constant "
                "in space and have no VRMSE; they are left out of these averages."
            )
    return cautions


def _uncertain(case: Case) -> list[str]:
    """Whether the predicted standard deviations can be trusted."""
    if not case.uncertainty_rows:
        return []
    texts = []
    for name in case.variables:
        row = case.uncertainty_rows["coverage_0.9", name]
        mean, low, high = (number(100 * float(row[key])) for key in ("mean", "low", "high"))
        texts.append(f"{mean} % of the values of {name} ({low} to {high})")
    exact = 0 if case.uncertainty is None else int(case.uncertainty.attrs.get("degenerate_points", 0))
    lost = f" {exact} values have a standard deviation of zero and no likelihood." if exact else ""
    return [f"{case.name}: the 90 % intervals of its predicted standard deviations hold {', '.join(texts)}.{lost}"]


def _unfinished(case: Case) -> list[str]:
    """A run that was stopped is not what its configuration says."""
    if case.facts.get("train_seconds") is None:
        planned = f" of {case.planned_epochs}" if case.planned_epochs else ""
        return [
            f"{case.name}: training was interrupted after {case.epochs.sizes['epoch']}{planned} epochs. The numbers "
            "are those of the best checkpoint so far; go on with --resume, then evaluate again."
        ]
    if not case.metrics.attrs.get("training_finished", 1):
        return [f"{case.name}: evaluated before its training had ended; run `surrogate evaluate` again."]
    return []


def _stated(case: Case, key: str) -> str:
    return str(case.metrics.attrs.get(key, "not stated"))


def case_table(cases: Sequence[Case], comparison: Mapping[str, Comparison] | None) -> Table:
    """One row per case, the lowest error first."""
    single = cases[0].variables[0] if all(case.variables == cases[0].variables[:1] for case in cases) else None
    header = ["case", "against the best"] if len(cases) > 1 else ["case"]
    header += ["relative L2, mean", "90 % interval", "median"]
    header += [f"nRMSE {single}", _with_unit("max error", cases[0].units[single])] if single else []
    header += ["parameters", "epochs", "best validation loss", "training [s]"]
    best = ranked(cases)[0].name
    verdicts = {name: item.verdict for name, item in (comparison or {}).items()}
    rows = []
    for case in ranked(cases):
        row = [case.name]
        row += [verdicts.get(case.name, "best" if case.name == best else "not compared")] if len(cases) > 1 else []
        row += _relative_l2(case)
        row += [_entry(case, "nrmse", "mean", single), _entry(case, "max_error", "largest", single)] if single else []
        row += [number(case.facts.get("parameters")), number(case.epochs.sizes["epoch"]), _validation(case)]
        row += [number(case.facts.get("train_seconds"))]
        rows.append(row)
    return Table(f"Cases ({_steps(cases[0])}).", header, rows)


def _relative_l2(case: Case) -> list[str]:
    mean, low, high, median = (case.number("relative_l2", key) for key in ("mean", "low", "high", "median"))
    return [number(mean), f"{number(low)} … {number(high)}", number(median)]


def _entry(case: Case, metric: str, column: str, variable: str) -> str:
    return number(case.number(metric, column, variable))


def _validation(case: Case) -> str:
    losses = case.epochs["validation_loss"].dropna("epoch")
    return number(float(losses.min())) if losses.size else MISSING


def _with_unit(name: str, unit: str) -> str:
    return f"{name} [{unit}]" if unit else name


def variable_table(cases: Sequence[Case]) -> Table:
    """One row per case and variable."""
    header = [
        "case",
        "variable",
        "relative L2",
        "nRMSE",
        "nRMSE, 90 % interval",
        "RMSE",
        "VRMSE, median",
        "cRMSE",
        "max error",
        "unit",
    ]
    rows = []
    for case in ranked(cases):
        for name in case.variables:
            low, high = _entry(case, "nrmse", "low", name), _entry(case, "nrmse", "high", name)
            row = [case.name, name, _entry(case, "relative_l2", "mean", name)]
            row += [_entry(case, "nrmse", "mean", name), f"{low} … {high}"]
            row += [_entry(case, "rmse", "mean", name), _entry(case, "vrmse", "median", name)]
            row += [_entry(case, "crmse", "mean", name), _entry(case, "max_error", "largest", name)]
            rows.append([*row, case.units[name] or MISSING])
    caption = "Every variable: averages over time, then over samples; the largest error is over everything"
    return Table(f"{caption} ({_steps(cases[0])}).", header, rows)


def scale_table(cases: Sequence[Case]) -> Table | None:
    """Where and at which scales cases err, one row per case and variable; None without space."""
    bands = [band for band in ("low", "middle", "high") if (f"frmse_{band}", cases[0].variables[0]) in cases[0].rows]
    if not bands:
        return None
    header = ["case", "variable", "bRMSE", *(f"fRMSE {BAND_NAMES[band]}" for band in bands), "unit"]
    rows = []
    for case in ranked(cases):
        for name in case.variables:
            keys = ["brmse", *(f"frmse_{band}" for band in bands)]
            numbers = [_entry(case, key, "mean", name) if (key, name) in case.rows else MISSING for key in keys]
            rows.append([case.name, name, *numbers, case.units[name] or MISSING])
    return Table(f"Boundary, and bands of the wave number in cycles per box ({_steps(cases[0])}).", header, rows)


def uncertainty_table(cases: Sequence[Case]) -> Table | None:
    """How good predicted standard deviations are, one row per case and variable; None where there are none."""
    header = ["case", "variable", "CRPS", "negative log likelihood", "mean standard deviation", "RMSE"]
    header += [f"inside {100 * float(level):g} %" for level in SHOWN_LEVELS]
    rows = []
    for case in [case for case in ranked(cases) if case.uncertainty_rows]:
        for name in case.variables:
            keys = ["crps", "nll", "sharpness", "rmse", *(f"coverage_{level}" for level in SHOWN_LEVELS)]
            rows.append([case.name, name, *(number(float(case.uncertainty_rows[key, name]["mean"])) for key in keys)])
    return Table(f"Predicted standard deviations ({_steps(cases[0])}).", header, rows) if rows else None


def _steps(case: Case) -> str:
    split, given, scored = (_stated(case, key) for key in ("split", "steps_given", "steps_scored"))
    return f"split {split}, steps given {given}, scored {scored}"


def facts_table(case: Case) -> Table:
    """What is needed to repeat a case."""
    facts = case.facts
    versions = ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items())
    splits = ", ".join(f"{name} {count}" for name, count in facts.get("splits", {}).items())
    rows = [
        ("command", facts.get("command", MISSING)),
        ("seed", str(facts.get("seed", MISSING))),
        ("samples per split", splits or MISSING),
        ("data fingerprint", facts.get("data_fingerprint", MISSING)),
        ("configuration digest", facts.get("config_digest", MISSING)),
        ("versions", versions or MISSING),
    ]
    return Table("", [], [[name, str(value)] for name, value in rows])
