"""The report of a study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from surrogate.config import read_yaml
from surrogate.experiment.folders import ProjectFolder, ReportFolder
from surrogate.experiment.loss import common_loss, loss_words
from surrogate.experiment.run_folder import RunFolder
from surrogate.plotting import TOGETHER, figure_of, new_panels, plot_learning_curves, plot_sensitivity
from surrogate.report.figures import Picture, save_picture
from surrogate.report.html import Embedder, write_page
from surrogate.report.study_findings import failure_table, metric_name, short, study_findings, study_tables
from surrogate.report.tables import MISSING, Table
from surrogate.studies import StudyPlan, on_grid

__all__ = ["write_study_report"]

GREY = " Grey lines are the medians of the methods in the other panels."


def write_study_report(output: Path, folder: Path, plan: StudyPlan, table: xr.Dataset, *, command: str) -> Path:
    """Write `report.html` and its figures for a study.

    Arguments:
        output: Folder of the report; figures also go to `output/figures/`.
        folder: Folder of the study.
        plan: Its plan.
        table: Its table with the chosen trial of every place and seed.
        command: The command line that reproduces the report.

    Raises:
        ResourceError: The report cannot be written; an earlier one is intact.
    """
    grids = [on_grid(table, plan, number) for number in range(len(plan.study.grids))]
    embed, files = Embedder(output), ReportFolder(output)
    loss = _loss(ProjectFolder(folder).study)
    pictures = [
        embed(picture)
        for number, (axes, laid) in enumerate(zip(plan.study.grids, grids, strict=True), start=1)
        for picture in GridFigures(plan, laid, list(axes), loss).save(files.figures / f"grid{number}")
    ]
    failures = failure_table(plan, table)
    return write_page(
        files.page,
        "study.html.j2",
        title=plan.name,
        command=command,
        findings=study_findings(plan, grids),
        pictures=pictures,
        tables=[*study_tables(plan, grids, loss), *([failures] if failures else [])],
        facts=_facts(plan, folder),
        config=ProjectFolder(folder).study.read_text(encoding="utf-8"),
    )


def _loss(path: Path) -> str:
    """Name the loss of a study and its units, from its configuration."""
    tree = read_yaml(path).tree
    words = []
    for case in (tree.get("cases") or {"main": {}}).values():
        flat: dict[str, Any] = {}
        for layer in (tree, case or {}):
            flat |= {key: value for key, value in layer.items() if "." in key}
            sections = {key: layer[key] for key in ("training", "data") if isinstance(layer.get(key), dict)}
            flat |= {f"{key}.{name}": value for key, section in sections.items() for name, value in section.items()}
        words.append(loss_words(flat.get("training.loss"), flat.get("data.normalize")))
    return common_loss(words)


def _facts(plan: StudyPlan, folder: Path) -> Table:
    """List the facts that are needed to repeat the study."""
    begun = (RunFolder(ProjectFolder(folder).case(case)).begun() for case in plan.cases)
    facts = next(filter(None, begun), {})
    versions = ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items())
    splits = {part: len(names) for part, names in facts.get("simulations", {}).items() if part != "train"}
    trials = plan.study.trials_of(plan.methods[0])
    rows = [
        ["command", plan.command],
        ["training runs", f"{len(plan.cases)}, each in its own folder of cases/"],
        ["seeds", ", ".join(map(str, plan.study.seeds))],
        ["trials per method, place and seed", f"{trials}, the same for every method"],
        ["held out", ", ".join(f"{part} {count} simulations" for part, count in splits.items()) or MISSING],
        ["data fingerprint", plan.fingerprint],
        ["versions", versions or MISSING],
    ]
    return Table("", [], rows)


class GridFigures:
    """Figures of one grid of a study; each is None where there is nothing to draw.

    Arguments:
        plan: The plan of the study.
        laid: Its results over (method, *axes, seed).
        axes: Keys of the axes.
        loss: Name and units of the loss.
    """

    def __init__(self, plan: StudyPlan, laid: xr.Dataset, axes: Sequence[str], loss: str) -> None:
        self.plan, self.axes, self.loss = plan, axes, loss
        self.laid = laid.drop_vars("case", errors="ignore")
        self.metric = metric_name(plan.study.metric)

    def save(self, stem: Path) -> Iterator[Picture]:
        """Draw all figures of the grid and write each as `<stem>_<name>.png`."""
        axes, plan = self.axes, self.plan
        figures: dict[str, tuple[Figure | None, str]] = {}
        grey = GREY if len(plan.methods) > TOGETHER else ""
        if len(axes) == 1 and self.laid[axes[0]].dtype.kind == "f":
            what = f"Error against {short(axes[0])}: median over seeds with their range; every dot is a seed.{grey}"
            figures["curve"] = (self.curve(), what)
            if plan.study.kind == "budget":
                what = f"The same errors against the time spent training (median over seeds of the time).{grey}"
                figures["seconds"] = (self.against_seconds(), what)
        if len(axes) == 2:
            what = (
                f"Median error over seeds against {short(axes[0])} and {short(axes[1])}, on one scale for all methods; "
                "crossed out where no seed finished. A method without one of the settings is the same all along it."
            )
            figures["map"] = (self.maps(), what)
        if plan.study.kind == "budget" and not axes:
            what = f"Validation loss after every epoch: median over seeds with their range.{grey}"
            figures["epochs"] = (self.over_epochs(), what)
        for name, (figure, what) in figures.items():
            if figure is not None:
                yield save_picture(figure, stem.with_name(f"{stem.name}_{name}.png"), what)

    def curve(self) -> Figure | None:
        """Draw the error against the only axis."""
        errors = self._labelled(self.laid["error"])
        return _lines({method: errors.sel({"method": method}) for method in self.plan.methods})

    def against_seconds(self) -> Figure | None:
        """Draw the error against the time of training."""
        axis, curves = self.axes[0], {}
        for method in self.plan.methods:
            chosen = self.laid[["error", "seconds"]].sel({"method": method})
            seconds = np.nanmedian(chosen["seconds"].transpose(axis, "seed").values, axis=1)
            label: dict[str, Any] = {"long_name": "training time", "units": "s"}
            along = xr.DataArray(chosen["error"].transpose(axis, "seed").values, dims=("seconds", "seed"))
            along = along.assign_coords(seconds=("seconds", seconds, label))
            curves[method] = along.assign_attrs(chosen["error"].attrs | {"long_name": self.metric})
        return _lines(curves)

    def over_epochs(self) -> Figure | None:
        """Draw the validation loss after every epoch."""
        losses = self.laid["curve_loss"].assign_attrs(long_name=f"validation loss, {self.loss}", units="")
        return _lines({method: losses.sel({"method": method}) for method in self.plan.methods})

    def maps(self) -> Figure | None:
        """Draw the median error over both axes, a panel per method."""
        medians = self._labelled(self.laid["error"].median("seed", skipna=True))
        methods = [name for name in self.plan.methods if bool(np.isfinite(medians.sel({"method": name})).any())]
        if not methods:
            return None
        finite = medians.values[np.isfinite(medians.values)]
        limits = (float(finite.min()), float(finite.max()))
        figure, panels = new_panels(len(methods))
        for method, panel in zip(methods, panels, strict=True):
            plot_sensitivity(medians.sel({"method": method}).transpose(*self.axes), limits=limits, ax=panel)
            panel.set_title(method, fontsize="medium")
        return figure

    def _labelled(self, errors: xr.DataArray) -> xr.DataArray:
        errors = errors.assign_attrs(long_name=self.metric)
        return errors.assign_coords({axis: errors[axis].assign_attrs(long_name=short(axis)) for axis in self.axes})


def _lines(curves: Mapping[str, xr.DataArray]) -> Figure | None:
    """Draw the curves that have a number."""
    curves = {name: curve for name, curve in curves.items() if bool(np.isfinite(curve).any())}
    return figure_of(plot_learning_curves(curves)[0]) if curves else None
