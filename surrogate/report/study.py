"""The page about a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from surrogate.experiment.folders import ProjectFolder, ReportFolder
from surrogate.experiment.run_folder import RunFolder
from surrogate.plotting import TOGETHER, figure_of, new_panels, plot_learning_curves, plot_sensitivity, save_figure
from surrogate.report.figures import Picture
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
        table: Its table, of every place and seed the chosen trial.
        command: The command line that repeats everything.

    Raises:
        ResourceError: The report cannot be written; an earlier one is intact.
    """
    grids = [on_grid(table, plan, number) for number in range(len(plan.study.grids))]
    embed = Embedder(output)
    pictures = [embed(it) for number in range(len(grids)) for it in _draw(plan, grids[number], number, output)]
    failures = failure_table(plan, table)
    return write_page(
        ReportFolder(output).page,
        "study.html.j2",
        title=plan.name,
        command=command,
        findings=study_findings(plan, grids),
        pictures=pictures,
        tables=[*study_tables(plan, grids), *([failures] if failures else [])],
        facts=_facts(plan, folder),
        config=ProjectFolder(folder).study.read_text(encoding="utf-8"),
    )


def _facts(plan: StudyPlan, folder: Path) -> Table:
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


def _draw(plan: StudyPlan, laid: xr.Dataset, number: int, output: Path) -> list[Picture]:
    axes = list(plan.study.grids[number])
    figures: dict[str, tuple[Figure | None, str]] = {}
    numeric = [axis for axis in axes if laid[axis].dtype.kind == "f"]
    grey = GREY if len(plan.methods) > TOGETHER else ""
    if len(axes) == 1 and numeric:
        what = f"Error against {short(axes[0])}: median over seeds with their range; every dot is a seed.{grey}"
        figures["curve"] = (_curve(laid, axes[0], plan), what)
        if plan.study.kind == "budget":
            what = f"The same errors against the time spent training (median over seeds of the time).{grey}"
            figures["seconds"] = (_against_seconds(laid, axes[0], plan), what)
    if len(axes) == 2:
        what = (
            f"Median error over seeds against {short(axes[0])} and {short(axes[1])}, on one scale for all methods; "
            "crossed out where no seed finished. A method without one of the settings is the same all along it."
        )
        figures["map"] = (_maps(laid, axes, plan), what)
    if plan.study.kind == "budget" and not axes:
        what = f"Validation loss after every epoch: median over seeds with their range.{grey}"
        figures["epochs"] = (_over_epochs(laid, plan), what)
    folder = ReportFolder(output).figures
    return [_save(figure, folder / f"grid{number + 1}_{name}.png", what) for name, (figure, what) in
            figures.items() if figure is not None]  # fmt: skip


def _save(figure: Figure, path: Path, caption: str) -> Picture:
    save_figure(figure, path)
    return Picture(path, caption)


def _named(errors: xr.DataArray, plan: StudyPlan, axis: str) -> xr.DataArray:
    errors = errors.assign_attrs(long_name=metric_name(plan.study.metric))
    return errors.assign_coords({axis: errors[axis].assign_attrs(long_name=short(axis))})


def _lines(curves: Mapping[str, xr.DataArray]) -> Figure | None:
    curves = {name: curve for name, curve in curves.items() if bool(np.isfinite(curve).any())}
    return figure_of(plot_learning_curves(curves)[0]) if curves else None


def _curve(laid: xr.Dataset, axis: str, plan: StudyPlan) -> Figure | None:
    errors = _named(laid["error"].drop_vars("case", errors="ignore"), plan, axis)
    return _lines({method: errors.sel({"method": method}) for method in plan.methods})


def _against_seconds(laid: xr.Dataset, axis: str, plan: StudyPlan) -> Figure | None:
    curves = {}
    for method in plan.methods:
        chosen = laid[["error", "seconds"]].drop_vars("case", errors="ignore").sel({"method": method})
        seconds = np.nanmedian(chosen["seconds"].transpose(axis, "seed").values, axis=1)
        label: dict[str, Any] = {"long_name": "training time", "units": "s"}
        along = xr.DataArray(chosen["error"].transpose(axis, "seed").values, dims=("seconds", "seed"))
        along = along.assign_coords(seconds=("seconds", seconds, label))
        curves[method] = along.assign_attrs(chosen["error"].attrs | {"long_name": metric_name(plan.study.metric)})
    return _lines(curves)


def _over_epochs(laid: xr.Dataset, plan: StudyPlan) -> Figure | None:
    losses = laid["curve_loss"].drop_vars("case", errors="ignore")
    losses = losses.assign_attrs(long_name="validation loss", units="normalised units")
    return _lines({method: losses.sel({"method": method}) for method in plan.methods})


def _maps(laid: xr.Dataset, axes: Sequence[str], plan: StudyPlan) -> Figure | None:
    medians = laid["error"].drop_vars("case", errors="ignore").median("seed", skipna=True)
    medians = _named(_named(medians, plan, axes[0]), plan, axes[1])
    methods = [method for method in plan.methods if bool(np.isfinite(medians.sel({"method": method})).any())]
    if not methods:
        return None
    finite = medians.values[np.isfinite(medians.values)]
    limits = (float(finite.min()), float(finite.max()))
    figure, panels = new_panels(len(methods))
    for method, panel in zip(methods, panels, strict=True):
        plot_sensitivity(medians.sel({"method": method}).transpose(*axes), limits=limits, ax=panel)
        panel.set_title(method, fontsize="medium")
    return figure
