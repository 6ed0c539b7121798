"""Tables of a report, with all numbers taken from files."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from surrogate.evaluation import RELATIVE, Comparison, Headline, headline
from surrogate.experiment.loss import common_loss
from surrogate.numbers import ABSENT, number
from surrogate.report.runs import Case

__all__ = [
    "MISSING",
    "Table",
    "case_table",
    "comparison_table",
    "facts_table",
    "known_by",
    "more",
    "ranked",
    "rollout_table",
    "scale_table",
    "sort_key",
    "stated",
    "uncertainty_table",
    "variable_table",
]

MISSING = ABSENT
BAND_NAMES = {"low": "[0, 4)", "middle": "[4, 12)", "high": "[12, …)"}
VARIABLE_COLUMNS = {  # metric and column of `summary.csv`
    "relative L2": ("relative_l2", "mean"),
    "nRMSE": ("nrmse", "mean"),
    "nRMSE, 90 % interval": ("nrmse", "interval"),
    "RMSE": ("rmse", "mean"),
    "VRMSE, median": ("vrmse", "median"),
    "cRMSE": ("crmse", "mean"),
    "max error": ("max_error", "largest"),
    "R²": ("r2", "mean"),
}
NUMBER_COLUMNS = {  # where a sample is one number of each variable
    "normalised error": ("normalized_error", "mean"),
    "90 % interval": ("normalized_error", "interval"),
    "RMSE": ("rmse", "mean"),
    "MAE": ("mae", "mean"),
    "max error": ("max_error", "largest"),
    "R²": ("r2", "mean"),
}
SHOWN_LEVELS = ("0.5", "0.9", "0.99")


@dataclass(frozen=True)
class Table:
    """Table of the page.

    Arguments:
        caption: Its caption.
        header: Names of the columns.
        rows: Texts; the first names the row.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def places(self) -> list[list[int]]:
        """Return the place of every row if the table were sorted by a column: numbers ascending, then text."""
        columns = [[sort_key(cell) for cell in column] for column in zip(*self.rows, strict=True)]
        orders = [sorted(range(len(column)), key=column.__getitem__) for column in columns]
        return [[order.index(row) for order in orders] for row in range(len(self.rows))]


def sort_key(cell: str) -> tuple[bool, float, str]:
    """Order cells by the number that they open with, such as the lower end of an interval, those without one last."""
    opening = re.match(r"(?:> )?([-+−]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?)\s*(ms|min)?", cell)
    if opening is None:
        return True, 0.0, cell
    unit = {"ms": 1e-3, "min": 60.0}.get(opening[2] or "", 1.0)
    return False, unit * float(opening[1].replace(",", "").replace("−", "-")), cell


def more(ratio: float) -> str:
    """Say how much larger an error is: in percent, or as a factor from 2 on."""
    return f"{number(100 * (ratio - 1), 2)} % more" if ratio < 2 else f"{number(ratio, 3)} times as large"


def known_by(cases: Sequence[Case]) -> Headline:
    """Return the headline error of the cases."""
    return headline(*(case.metrics for case in cases))


def ranked(cases: Sequence[Case]) -> list[Case]:
    """Sort cases by mean error, the lowest first, a case without a number last."""
    means = {case.name: case.number(known_by(cases).metric, "mean") for case in cases}
    return sorted(cases, key=lambda case: (math.isnan(means[case.name]), means[case.name]))


def stated(case: Case, key: str) -> str:
    """Return an attribute of an evaluation, such as its split."""
    return str(case.metrics.attrs.get(key, "not stated"))


def case_table(cases: Sequence[Case], comparison: Mapping[str, Comparison] | None) -> Table:
    """Make a row per case, the lowest error first."""
    error = known_by(cases)
    single = cases[0].variables[0] if all(case.variables == cases[0].variables[:1] for case in cases) else None
    header = ["case", "against the best"] if len(cases) > 1 else ["case"]
    header += [f"{error.short}, mean", "90 % interval", "median"]
    second, name = ("nrmse", f"nRMSE {single}") if error is RELATIVE else ("rmse", "RMSE")
    if single:
        unit = cases[0].units[single]
        header += [name if error is RELATIVE else _with_unit(name, unit), _with_unit("max error", unit)]
    header += ["parameters", "epochs", "best validation loss", "training [s]"]
    loss = common_loss(case.loss for case in cases)
    best = ranked(cases)[0].name
    verdicts = {name: item.verdict for name, item in (comparison or {}).items()}
    rows = []
    for case in ranked(cases):
        row = [case.name]
        row += [verdicts.get(case.name, "best" if case.name == best else "not compared")] if len(cases) > 1 else []
        mean, low, high, median = (case.number(error.metric, key) for key in ("mean", "low", "high", "median"))
        row += [number(mean), f"{number(low)} … {number(high)}", number(median)]
        row += [_entry(case, second, "mean", single), _entry(case, "max_error", "largest", single)] if single else []
        losses = case.epochs["validation_loss"].dropna("epoch")
        validation = case.facts.get("validation_loss", float(losses.min()) if losses.size else None)
        row += [number(case.facts.get("parameters")), number(case.epochs.sizes["epoch"]), number(validation)]
        row += [number(case.facts.get("train_seconds"))]
        rows.append(row)
    return Table(f"Cases ({_steps(cases[0])}). Validation loss: {loss}.", header, rows)


def _entry(case: Case, metric: str, column: str, variable: str) -> str:
    return number(case.number(metric, column, variable))


def _with_unit(name: str, unit: str) -> str:
    return f"{name} [{unit}]" if unit else name


def comparison_table(cases: Sequence[Case], comparison: Mapping[str, Comparison] | None) -> Table | None:
    """List the paired comparisons of all models with the best one; None without any."""
    if not comparison:
        return None
    error, best = known_by(cases), ranked(cases)[0].name
    header = ["model", "ratio of means", "typical ratio", "90 % interval", "p", "against the best"]
    rows = [
        [
            name,
            number(item.ratio),
            number(item.typical),
            f"{number(item.low)} … {number(item.high)}",
            number(item.p_value, 2),
            item.verdict,
        ]
        for name, item in comparison.items()
    ]
    caption = (
        f"The {error.short} of each model over that of {best}, on the same test samples; typical: the geometric mean"
    )
    return Table(f"{caption}.", header, rows)


def variable_table(cases: Sequence[Case]) -> Table:
    """Make a row per case and variable."""
    columns = VARIABLE_COLUMNS if known_by(cases) is RELATIVE else NUMBER_COLUMNS
    rows = []
    for case in ranked(cases):
        for name in case.variables:
            entries = [
                f"{_entry(case, metric, 'low', name)} … {_entry(case, metric, 'high', name)}"
                if column == "interval"
                else _entry(case, metric, column, name)
                for metric, column in columns.values()
            ]
            rows.append([case.name, name, *entries, case.units[name] or MISSING])
    caption = "Every variable: averages over time, then over samples; the largest error is over everything"
    return Table(f"{caption} ({_steps(cases[0])}).", ["case", "variable", *columns, "unit"], rows)


def scale_table(cases: Sequence[Case]) -> Table | None:
    """List errors on the boundary and by scale, a row per case and variable; None without space."""
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
    """List scores of predicted standard deviations, a row per case and variable; None where there are none."""
    header = ["case", "variable", "CRPS", "negative log likelihood", "mean standard deviation", "RMSE"]
    header += [f"inside {100 * float(level):g} %" for level in SHOWN_LEVELS]
    rows = []
    for case in [case for case in ranked(cases) if case.uncertainty_rows]:
        for name in case.variables:
            keys = ["crps", "nll", "sharpness", "rmse", *(f"coverage_{level}" for level in SHOWN_LEVELS)]
            rows.append([case.name, name, *(number(float(case.uncertainty_rows[key, name]["mean"])) for key in keys)])
    return Table(f"Predicted standard deviations ({_steps(cases[0])}).", header, rows) if rows else None


def rollout_table(cases: Sequence[Case]) -> Table | None:
    """List the growth of errors of roll-outs, a row per case and variable; None where there are none."""
    rolled = [case for case in ranked(cases) if case.rollout is not None]
    if not rolled:
        return None
    threshold = float(rolled[0].rollout_growth[0]["threshold"])
    header = ["case", "variable", "first step", "halfway", "end", "geometric mean", "persistence, end", "growth rate"]
    header += [f"time to {threshold:g}", "persistence", "passed", "diverged", "zero targets"]
    rows = []
    for case, growth in ((each, row) for each in rolled for row in each.rollout_growth):
        leads = [row for row in case.rollout_rows if row["variable"] == growth["variable"]]
        first, middle, last = leads[0], leads[(len(leads) - 1) // 2], leads[-1]
        end = f"> {number(float(last['lead']))}"
        rows.append(
            [
                case.name,
                growth["variable"],
                *(_rolled(row["median"]) for row in (first, middle, last)),
                _rolled(growth.get("geometric_mean", "nan")),
                _rolled(last["persistence"]),
                number(float(growth["rate"])),
                *(_rolled(growth[key], beyond=end) for key in ("time", "persistence")),
                f"{growth['passed']} of {int(growth['passed']) + int(growth['censored'])}",
                last["diverged"],
                str(sum(int(row["degenerate"]) for row in leads)),
            ]
        )
    given, scored = (rolled[0].rollout_growth[0].get(f"steps_{name}", "not stated") for name in ("given", "scored"))
    unit = rolled[0].lead_unit or "steps"
    caption = (
        f"Roll-outs from the first step of each simulation (split {stated(rolled[0], 'split')}, steps given {given}, "
        f"scored {scored}): median "
        f"relative L2 error after the first step, halfway and at the end, its geometric mean, and of the "
        f"persistence baseline, which keeps "
        f"the last state given; times in {unit}"
    )
    return Table(f"{caption}.", header, rows)


def _rolled(text: str, beyond: str = "diverged") -> str:
    value = float(text)
    return beyond if math.isinf(value) else number(value)


def _steps(case: Case) -> str:
    split, given, scored = (stated(case, key) for key in ("split", "steps_given", "steps_scored"))
    return f"split {split}, steps given {given}, scored {scored}"


def facts_table(case: Case) -> Table:
    """List the facts that are needed to repeat a case."""
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
