"""The page and the table about a comparison of surrogates: a leaderboard in sentences, figures and numbers."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from surrogate.experiment.folders import ComparisonFolder, ReportFolder
from surrogate.files import replacing
from surrogate.report.figures import Picture
from surrogate.report.html import Embedder, write_page
from surrogate.report.tables import Table
from surrogate.studies.learning_curve import break_even

__all__ = ["Entry", "Leaderboard", "write_leaderboard"]

TRIVIAL = ("mean", "nearest", "persistence")
HEADER = (
    "surrogate",
    "error",
    "90 % interval",
    "against the best",
    "training",
    "one prediction",
    "parameters",
    "epochs",
)
NAMES = {
    "mean": "the training mean",
    "nearest": "the nearest training sample",
    "persistence": "persistence",
    "linear": "a linear map",
    "kernel_ridge": "kernel ridge regression",
    "linear-increments": "a linear map of increments",
    "kernel_ridge-increments": "kernel ridge regression of increments",
    "pod_rbf": "radial basis functions on POD modes",
    "pod_gp": "a Gaussian process on POD modes",
    "elm": "random features with an exact fit of the last layer",
    "pod_modes": "projection onto the leading POD modes",
    "yours": "the model of your configuration",
}


@dataclass(frozen=True)
class Entry:
    """One surrogate of a comparison.

    Arguments:
        name: Its name.
        error: Mean error over all simulations that were left out.
        low: Lower end of its 90 % interval.
        high: Upper end.
        train_seconds: Mean time of one training.
        predict_seconds: Time of one prediction.
        parameters: Numbers that training decides.
        epochs: Epochs of training; without a meaning for a fit.
        fitted: True for families that are fitted, not trained by steps.
    """

    name: str
    error: float
    low: float
    high: float
    train_seconds: float
    predict_seconds: float
    parameters: int
    epochs: int
    fitted: bool


@dataclass(frozen=True)
class Leaderboard:
    """A finished comparison.

    Arguments:
        name: Of the configuration.
        metric: The error, in words.
        entries: Surrogates by ascending error.
        ties: The best one and those without a significant difference from it.
        selected: Error of the choice of the best, on simulations that did not take part in it.
        failed: Why others have no result.
        folds: Number of folds; 1 for the test part.
        simulations: Simulations in each part of a fold.
        command: What was typed.
        left_out: Surrogates for which there was no time.
        solve_seconds: Time of one simulation, where it was given.
    """

    name: str
    metric: str
    entries: Sequence[Entry]
    ties: set[str]
    selected: float
    failed: dict[str, str]
    folds: int
    simulations: dict[str, int]
    command: str
    left_out: Sequence[str] = ()
    solve_seconds: float | None = None

    def sentences(self) -> list[str]:
        """Say in plain words which surrogate is best, what is as good, and what to try."""
        best = self.entries[0]
        train, test = (self.simulations.get(part, 0) for part in ("train", "test"))
        how = f"{self.folds}-fold cross-validation" if self.folds > 1 else f"{test} test simulations"
        lines = [
            f"With {train} training simulations {_named(best.name)} is best: {self.metric} {best.error:.3g} "
            f"(90 % interval {best.low:.3g} to {best.high:.3g}) by {how}."
        ]
        if len(self.entries) > 1 and math.isfinite(self.selected):
            lines.append(
                f"It was chosen from {len(self.entries)} by these simulations; on simulations that take no part in the "
                f"choice, the best has an error of {self.selected:.3g} (bootstrap)."
            )
        others = [entry for entry in self.entries[1:] if entry.name in self.ties]
        if others:
            cheapest = min([best, *others], key=lambda entry: entry.train_seconds)
            *rest, last = (_named(entry.name) for entry in others)
            listed = f"{', '.join(rest)} and {last}" if rest else last
            lines.append(
                f"No significant difference from it: {listed}. The cheapest "
                f"of these to train is {_named(cheapest.name)} ({_seconds(cheapest.train_seconds)})."
            )
        elif len(self.entries) > 1:
            lines.append("It is significantly better than every other surrogate here.")
        trivial = min((entry for entry in self.entries if entry.name in TRIVIAL), key=lambda e: e.error, default=None)
        if trivial is not None and trivial.name in self.ties:
            lines.append(
                f"Nothing is significantly better than {_named(trivial.name)}: there are too few simulations to tell, "
                "or the inputs do not determine the targets."
            )
        elif trivial is not None:
            lines.append(f"The error of {_named(trivial.name)}, which learns nothing, is {trivial.error:.3g}.")
        networks = [entry for entry in self.entries if not entry.fitted]
        if networks and best.fitted:
            ratio = networks[0].error / best.error if best.error else float("inf")
            lines.append(
                f"The best network within this budget is {_named(networks[0].name)}, its error {ratio:.2g} times that "
                "of the best: try more simulations or longer training before a larger network."
            )
        fitted = [entry for entry in self.entries if entry.fitted and entry.name not in TRIVIAL]
        if fitted and not best.fitted:
            lines.append(
                f"Of those that need no training by steps, {_named(fitted[0].name)} has the lowest error, "
                f"{fitted[0].error:.3g}, in {_seconds(fitted[0].train_seconds)}."
            )
        linear = next((entry for entry in self.entries if entry.name == "linear"), None)
        if linear is not None and linear.name in self.ties and linear is not best:
            lines.append(
                f"A linear map (error {linear.error:.3g}) does not differ significantly from the best; with few "
                "simulations such a test misses real differences, so compare the errors and intervals too."
            )
        if self.solve_seconds is not None:
            count = break_even(train, self.solve_seconds, best.train_seconds, best.predict_seconds)
            lines.append(
                f"Its {train} simulations of {_seconds(self.solve_seconds)} and its training are paid back after "
                f"{count:,.0f} solves that it replaces."
                if math.isfinite(count)
                else f"A prediction takes as long as a simulation ({_seconds(self.solve_seconds)}): no time is saved."
            )
        if self.left_out:
            lines.append(
                f"Not compared for lack of time, and perhaps better: {', '.join(self.left_out)}; give --minutes more."
            )
        if self.failed:
            lines.append(f"Without a result: {'; '.join(f'{name} ({why})' for name, why in self.failed.items())}.")
        return lines

    @property
    def table(self) -> Table:
        """Return the leaderboard as a table of text."""
        rows = [
            (
                entry.name,
                f"{entry.error:.3g}",
                f"{entry.low:.3g} to {entry.high:.3g}",
                "best"
                if entry is self.entries[0]
                else "no significant difference"
                if entry.name in self.ties
                else "worse",
                _seconds(entry.train_seconds),
                f"{1e3 * entry.predict_seconds:.3g} ms",
                f"{entry.parameters:,}",
                "fit" if entry.fitted else str(entry.epochs),
            )
            for entry in self.entries
        ]
        return Table(f"Surrogates by {self.metric}", HEADER, rows)


def _named(name: str) -> str:
    return NAMES.get(name, name)


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 100 else f"{seconds / 60:.2g} min"


def write_leaderboard(leaderboard: Leaderboard, folder: Path) -> Path:
    """Write `leaderboard.csv` and the page; return the path of the page."""
    with replacing(ComparisonFolder(folder).leaderboard) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer: Any = csv.writer(file, lineterminator="\n")
        names = [column.name for column in fields(Entry)]
        writer.writerow([*names, "no_significant_difference_from_best"])
        for entry in leaderboard.entries:
            writer.writerow([*(getattr(entry, name) for name in names), entry.name in leaderboard.ties])
    report = ReportFolder(folder)
    report.figures.mkdir(exist_ok=True)
    caption = "Errors with 90 % intervals; filled where there is no significant difference from the best."
    picture = Picture(report.figures / "leaderboard.png", caption)
    entries = list(reversed(leaderboard.entries))  # the best on top
    figure = Figure(figsize=(7, 0.7 + 0.32 * len(entries)), layout="constrained", dpi=120)
    ax = figure.subplots()
    for row, entry in enumerate(entries):
        ax.plot([entry.low, entry.high], [row, row], color="0.5", linewidth=2)
        color = "C0" if entry.name in leaderboard.ties else "white"
        ax.plot(entry.error, row, "o", color="C0", markerfacecolor=color)
    ax.set_yticks(range(len(entries)), [entry.name for entry in entries])
    ax.set_xscale("log" if min(entry.error for entry in entries) > 0 else "linear")
    ax.set_xlabel(leaderboard.metric)
    ax.grid(axis="x", alpha=0.3)
    figure.savefig(picture.path)
    return write_page(
        report.page,
        "leaderboard.html.j2",
        title=f"Which surrogate for {leaderboard.name}?",
        findings=leaderboard.sentences(),
        pictures=[Embedder(folder)(picture)],
        table_of_all=leaderboard.table,
        command=leaderboard.command,
    )
