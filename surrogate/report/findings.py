"""Findings of a report in sentences, with all numbers taken from files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from surrogate.evaluation import RELATIVE, Comparison, Headline, compare_cases
from surrogate.evaluation.comparison import WORSE
from surrogate.numbers import number
from surrogate.report.beside import beside_lines
from surrogate.report.runs import Case
from surrogate.report.tables import MISSING, known_by, ranked, stated

__all__ = ["compare", "findings"]

FEW = 10  # simulations; a bootstrap of fewer is rough


def compare(cases: Sequence[Case]) -> dict[str, Comparison] | None:
    """Compare every case with the best one, paired by test sample; None where the test samples differ."""
    first = cases[0]
    for case in cases[1:]:
        same = case.facts.get("data_fingerprint") == first.facts.get("data_fingerprint")
        if not same or not _index(case).equals(_index(first)):
            return None
    errors = {case.name: case.metrics[f"{known_by(cases).metric}_sample"].values for case in cases}
    means = {case.name: case.number(known_by(cases).metric, "mean") for case in cases}
    scores = means if all(map(math.isfinite, means.values())) else None
    return compare_cases(errors, scores=scores, clusters=first.metrics["simulation"].values)


def _index(case: Case) -> Any:
    kept = case.metrics[["simulation", "time", "step", "variable"]].reset_coords()
    return kept.assign(split=str(case.metrics.attrs.get("split", "")))


def findings(cases: Sequence[Case], comparison: Mapping[str, Comparison] | None) -> list[str]:
    """Return the paragraphs of the summary."""
    best, error = ranked(cases)[0], known_by(cases)
    paragraphs = [_how_good(best, error, alone=len(cases) == 1)]
    if len(cases) > 1 and comparison is None:
        paragraphs.append(
            "The cases were not evaluated on the same test samples of the same data, so they are not compared."
        )
    if comparison:
        named = {case.name: case for case in cases}
        verdicts = []
        for name, item in comparison.items():
            means = " and ".join(number(named[case].number(error.metric, "mean")) for case in (name, best.name))
            test = f"paired test on the same {_samples(item.samples, item.simulations)}: p = {number(item.p_value, 2)}"
            if item.verdict == WORSE:
                size = f"{number(item.ratio, 3)} times" if item.ratio >= 1.005 else "slightly above"
                verdicts.append(
                    f"The model {best.name} is better than the model {name}, with a mean error {size} its own "
                    f"({means}; {test})."
                )
            else:
                verdicts.append(
                    f"There is no significant difference between the models {best.name} and {name} "
                    f"(mean errors {means}; {test})."
                )
        paragraphs.append(" ".join(verdicts))
    return paragraphs + _cautions(cases, error)


def _how_good(case: Case, error: Headline, *, alone: bool) -> str:
    if not math.isfinite(case.number(error.metric, "mean")):
        return f"There is no {error.words} to report: every target is zero everywhere."
    subject = f"{case.name} has" if alone else f"{case.name} has the lowest mean error:"
    samples, units = (int(case.number(error.metric, key)) for key in ("samples", "simulations"))
    mean, median, low, high = (case.number(error.metric, key) for key in ("mean", "median", "low", "high"))
    spread = (
        f"90 % bootstrap interval {number(low)} to {number(high)}"
        if math.isfinite(low)
        else "no interval from one sample"
    )
    count = len(case.variables)
    averaged = f", then averaged over {count} variables, each in its own unit" if count > 1 else ""
    return (
        f"{subject} a {error.words} of {number(mean)} on average over "
        f"{_samples(samples, units)} of the split “{stated(case, 'split')}” ({spread}; median "
        f"{number(median)}). {error.taken}{averaged}. Steps given: {stated(case, 'steps_given')}; "
        f"steps scored: {stated(case, 'steps_scored')}."
    )


def _samples(samples: int, simulations: int) -> str:
    """Count samples, and their simulations where several samples belong to one."""
    return f"{samples} samples" + (f" of {simulations} simulations" if simulations != samples else "")


def _cautions(cases: Sequence[Case], error: Headline) -> list[str]:
    units = min(int(case.number(error.metric, "simulations")) for case in cases)
    samples = min(int(case.number(error.metric, "samples")) for case in cases)
    cautions = []
    if units < FEW:
        what = "test samples" if units == samples else "independent test simulations"
        cautions.append(f"With {units} {what}, the intervals are rough.")
    if len(cases) > 1:
        seeds = ", ".join(f"{case.name} {case.facts.get('seed', MISSING)}" for case in cases)
        cautions.append(
            f"Each case was trained once (seeds: {seeds}), so the verdicts are about these trained models, not "
            "about the methods: another seed may change them. A study with several seeds compares methods."
        )
    for case in cases:
        if case.facts.get("train_seconds") is None:
            planned = f" of {case.planned_epochs}" if case.planned_epochs else ""
            cautions.append(
                f"{case.name}: training was interrupted after {case.epochs.sizes['epoch']}{planned} epochs. The "
                "numbers are those of the best checkpoint so far; continue with --resume, then evaluate again."
            )
        elif not case.metrics.attrs.get("training_finished", 1):
            cautions.append(f"{case.name}: evaluated before its training had finished; run `surrogate evaluate` again.")
        if case.uncertainty_rows:
            cautions.append(_coverage(case))
        if "conformal_half_width" in case.metrics.attrs and len(cases) == 1:
            cautions.append(_conformal(case))
        cautions += [f"{case.name}: {line}." for line in beside_lines(case.metrics)]
        zero, constant = (int(case.metrics.attrs.get(f"{kind}_targets", 0)) for kind in ("zero", "constant"))
        if error is RELATIVE and (zero or constant):
            cautions.append(
                f"{case.name}: {zero} targets are zero everywhere and have no relative error, {constant} are constant "
                "in space and have no VRMSE; they are left out of these averages."
            )
    return cautions


def _conformal(case: Case) -> str:
    """State the width of the conformal intervals, and the coverage by leaving out each simulation."""
    width, coverage = (float(case.metrics.attrs[f"conformal_{name}"]) for name in ("half_width", "coverage"))
    checked = (
        f"; the intervals that all other simulations give contain {number(100 * coverage, 3)} % of the values of each"
        if math.isfinite(coverage)
        else ""
    )
    rolled = ""
    if case.rollout is not None and "conformal_leads" in case.rollout.attrs:
        share = float(case.rollout.attrs["conformal_coverage"])
        inside = f", which contain {number(100 * share, 3)} % of the values likewise" if math.isfinite(share) else ""
        rolled = f" So have roll-outs at {case.rollout.attrs['conformal_leads']} lead times{inside}."
    return (
        f"Predictions with `surrogate predict --intervals` have 90 % conformal intervals, calibrated on these "
        f"simulations: {number(width, 3)} to either side on average{checked}.{rolled}"
    )


def _coverage(case: Case) -> str:
    """State the coverage of the 90 % intervals of the predicted standard deviations."""
    texts = []
    for name in case.variables:
        row = case.uncertainty_rows["coverage_0.9", name]
        mean, low, high = (number(100 * float(row[key])) for key in ("mean", "low", "high"))
        texts.append(f"{mean} % of the values of {name} ({low} to {high})")
    exact = 0 if case.uncertainty is None else int(case.uncertainty.attrs.get("degenerate_points", 0))
    lost = f" {exact} values have a standard deviation of zero and no likelihood." if exact else ""
    return f"{case.name}: the 90 % intervals of its predicted standard deviations contain {', '.join(texts)}.{lost}"
