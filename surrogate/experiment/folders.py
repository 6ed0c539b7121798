"""The folders of this package and the name of every file in them, each in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from surrogate.data.hdf5.netcdf import load_netcdf
from surrogate.errors import DataError
from surrogate.files import MANIFEST, read_json, replacing_folder, verify_manifest

__all__ = ["ComparisonFolder", "EvaluationFolder", "Folder", "ProjectFolder", "ReportFolder", "SobolFolder"]


@dataclass(frozen=True)
class Folder:
    """A folder whose files are attributes.

    Arguments:
        path: The folder; it need not exist.
    """

    path: Path


class Entry:
    """A file of a `Folder` as a class attribute: on an instance it is the path of the file."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: Folder, owner: type[Folder]) -> Path:
        """Return the path of the file in a folder."""
        return folder.path / self.name


class EvaluationFolder(Folder):
    """The results of an evaluation on one part of the split."""

    metrics = Entry("metrics.nc")  # per sample, time and variable
    metrics_table = Entry("metrics.csv")
    summary = Entry("summary.csv")  # averages with intervals
    compat = Entry("compat.csv")  # averages as other benchmarks define them
    examples = Entry("examples.nc")  # fields of the worst, the median and the best sample
    maps = Entry("maps.nc")  # errors at every grid point
    latent = Entry("latent.nc")  # principal components of an autoencoder's codes
    uncertainty = Entry("uncertainty.nc")  # scores of predicted standard deviations
    uncertainty_table = Entry("uncertainty.csv")
    conformal = Entry("conformal.nc")  # half the width of conformal intervals at every grid point
    rollout = Entry("rollout.nc")  # errors of roll-outs at every lead time
    rollout_table = Entry("rollout.csv")
    rollout_summary = Entry("rollout_summary.csv")
    rollout_growth = Entry("rollout_growth.csv")
    rollout_example = Entry("rollout_example.nc")  # fields of one roll-out
    rollout_conformal = Entry("rollout_conformal.nc")  # half the width of conformal intervals at every lead and point

    @contextmanager
    def replacing(self) -> Iterator[EvaluationFolder]:
        """Yield an empty folder for a new evaluation, which replaces this one as a whole when the block ends.

        Raises:
            ResourceError: The disk is full or refuses; the earlier evaluation is intact.
        """
        with replacing_folder(self.path) as part:
            yield EvaluationFolder(part)

    def verify(self) -> None:
        """Check that the files are those that one evaluation wrote.

        Raises:
            DataError: A file is missing, damaged, or of another evaluation.
        """
        remedy = f"run `surrogate evaluate {self.path.parent}` again"
        verify_manifest(self.path, (self.metrics.name, self.summary.name), what="evaluation", remedy=remedy)
        listed = read_json(self.path / MANIFEST)
        entries = [entry.name for entry in vars(EvaluationFolder).values() if isinstance(entry, Entry)]
        foreign = [name for name in entries if name not in listed and (self.path / name).exists()]
        if foreign:
            raise DataError(f"evaluation {self.path}: {', '.join(foreign)} is of another evaluation; {remedy}")

    def read(self, name: str) -> xr.Dataset:
        """Return the numbers of a file, such as `metrics`, after all files are verified.

        Raises:
            DataError: A file is missing, damaged, or of another evaluation.
        """
        self.verify()
        return load_netcdf(getattr(self, name))

    @property
    def of_rollouts(self) -> list[Path]:
        """All files about roll-outs."""
        tables = [self.rollout, self.rollout_table, self.rollout_summary, self.rollout_growth]
        return [*tables, self.rollout_example, self.rollout_conformal]


class SobolFolder(Folder):
    """Sobol indices of a surrogate's outputs."""

    indices = Entry("sobol.nc")  # of summaries, and at every grid point
    table = Entry("sobol.csv")  # of summaries
    bars = Entry("sobol.png")
    maps = Entry("sobol_maps.png")


class ReportFolder(Folder):
    """A report: one page, and its figures as files."""

    page = Entry("report.html")
    figures = Entry("figures")


class ProjectFolder(Folder):
    """The folder of a pipeline or a study: data of its own, a run folder for each case, and what compares them."""

    data = Entry("data")  # shards that the pipeline simulates
    cases = Entry("cases")
    study = Entry("study.yaml")  # configuration of a study
    plan = Entry("plan.json")  # its points and the case of each
    table = Entry("table.nc")  # its results
    table_csv = Entry("table.csv")
    loops = Entry("loops")  # data and choices of active learning
    slurm = Entry("slurm")  # job scripts and their logs

    def case(self, name: str) -> Path:
        """Return the run folder of a case."""
        return self.cases / name

    @property
    def runs(self) -> list[Path]:
        """Run folders of all cases; a run folder is its own only case."""
        return sorted(path for path in self.cases.glob("*") if path.is_dir()) or [self.path]


class ComparisonFolder(ProjectFolder):
    """The folder of a comparison of surrogates."""

    settled = Entry("compare.json")  # budget, folds, and the epochs of every candidate
    leaderboard = Entry("leaderboard.csv")
    winner = Entry("winner.json")  # the best surrogate
    errors = Entry("cross_conformal.nc")  # its errors on the simulations that each fold left out
    input_range = Entry("input_range.safetensors")  # all of its training inputs, with which new ones are compared
