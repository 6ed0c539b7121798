"""The report of one or several runs: one HTML file without network access or scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from surrogate.errors import ConfigError
from surrogate.experiment.folders import ReportFolder
from surrogate.report.case_figures import draw_case
from surrogate.report.figures import draw_comparison
from surrogate.report.findings import compare, findings
from surrogate.report.html import Embedder, Shown, write_page
from surrogate.report.runs import read_case
from surrogate.report.tables import (
    Table,
    case_table,
    comparison_table,
    facts_table,
    rollout_table,
    scale_table,
    uncertainty_table,
    variable_table,
)

__all__ = ["write_report"]


@dataclass(frozen=True)
class Section:
    """Section of the page about one case."""

    name: str
    pictures: Sequence[Shown]
    facts: Table
    config: str
    examples: bool


def write_report(output: Path, runs: dict[str, Path], *, title: str, command: str) -> Path:
    """Write `report.html` and its figures from the files of the run folders.

    Arguments:
        output: Folder of the report; figures also go to `output/figures/` as PNG files.
        runs: Run folder by name of the case.
        title: Heading of the page.
        command: The command line that reproduces the report.

    Returns:
        The HTML file.

    Raises:
        ConfigError: There are no runs, or one of them was not evaluated.
        DataError: A file of a run cannot be read.
        ResourceError: The report cannot be written; an earlier one is intact.
    """
    if not runs:
        raise ConfigError("report: no runs were given; name at least one run folder")
    cases = [read_case(name, Path(folder)) for name, folder in runs.items()]
    comparison = compare(cases)
    embed, files = Embedder(output), ReportFolder(output)
    tables = [
        case_table(cases, comparison),
        comparison_table(cases, comparison),
        variable_table(cases),
        rollout_table(cases),
        scale_table(cases),
        uncertainty_table(cases),
    ]
    overview = [embed(picture) for picture in draw_comparison(cases, files.figures)]
    sections = [
        Section(
            name=case.name,
            pictures=[embed(picture) for picture in draw_case(case, i, files.figures)],
            facts=facts_table(case),
            config=case.config,
            examples=case.examples is not None,
        )
        for i, case in enumerate(cases)
    ]
    return write_page(
        files.page,
        "report.html.j2",
        title=title,
        command=command,
        findings=findings(cases, comparison),
        tables=[table for table in tables if table is not None],
        overview=overview,
        sections=sections,
    )
