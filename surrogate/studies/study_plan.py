"""The files of a study: its plan, and the result or the failure of every case."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from surrogate.config import Settings
from surrogate.errors import ConfigError, DataError
from surrogate.experiment.folders import ProjectFolder
from surrogate.experiment.run_folder import RunFolder
from surrogate.files import read_json, write_json
from surrogate.studies.settings import GridStudy, Value

__all__ = [
    "Failure",
    "PlannedPoint",
    "Result",
    "StudyPlan",
    "read_failure",
    "read_note",
    "read_plan",
    "read_result",
    "write_note",
]


class PlannedPoint(Settings):
    """A point of a study and the folder of its case; points may share a case.

    Arguments:
        method: Name of the method.
        grid: Number of the grid.
        values: Value of every axis of the grid; None if the method has no such setting.
        trial: Tuned values, by key.
        seed: The seed.
        case: Name of the folder of its case.
    """

    method: str
    grid: int
    values: dict[str, Value | None]
    trial: dict[str, Value]
    seed: int
    case: str


class StudyPlan(Settings):
    """All that a table and a report need besides the results.

    Arguments:
        name: Name of the study.
        study: The `study:` section.
        base: Value of every axis in the base configuration, by method.
        points: All points.
        command: The command that made the plan.
        fingerprint: Fingerprint of the data.
    """

    name: str
    study: GridStudy
    base: dict[str, dict[str, Value | None]]
    points: list[PlannedPoint]
    command: str
    fingerprint: str

    @property
    def methods(self) -> list[str]:
        """Names of the methods, in order."""
        return list(dict.fromkeys(point.method for point in self.points))

    @property
    def cases(self) -> list[str]:
        """Names of all cases, each once, in order."""
        return list(dict.fromkeys(point.case for point in self.points))


class Result(Settings):
    """The result of a finished case; written last.

    Arguments:
        validation_loss: Loss of the chosen model on the validation data, as training minimises it.
        test: Mean over the test samples of every metric; None if no sample has it.
        seconds: Time spent training.
        epochs: Epochs trained.
        steps: Steps taken.
        parameters: Number of parameters of the network.
        simulations: Simulations in every part of the split.
        samples: Samples that were scored.
        curve: Epoch, seconds since the start and validation loss after every epoch.
    """

    validation_loss: float
    test: dict[str, float | None]
    seconds: float
    epochs: int
    steps: int
    parameters: int
    simulations: dict[str, int]
    samples: int
    curve: list[tuple[int, float, float | None]]


class Failure(Settings):
    """The error that ended a case.

    Arguments:
        error: One line.
        kind: Class of the error.
        final: True if the case would fail in the same way again; it is then not run again.
    """

    error: str
    kind: str
    final: bool


S = TypeVar("S", bound=Settings)


def write_note(path: Path, content: Settings) -> None:
    """Write a file of a study as a unit, with a checksum of its own."""
    write_json(path, content.model_dump(mode="json"))


def read_note(path: Path, settings: type[S]) -> S | None:
    """Read a file that `write_note` wrote; None where there is none.

    Raises:
        DataError: It is damaged.
    """
    if not path.exists():
        return None
    try:
        return settings.model_validate(read_json(path))
    except ValueError as error:  # a DataError and a ValidationError are
        raise DataError(
            f"{path}: damaged, or not written by a study; remove it, then `surrogate run ... --resume`"
        ) from error


def read_result(case: Path) -> Result | None:
    """Read the result of a case; None while there is none."""
    return read_note(RunFolder(case).result, Result)


def read_failure(case: Path) -> Failure | None:
    """Read the failure of a case; None if it has none."""
    return read_note(RunFolder(case).failure, Failure)


def read_plan(study: Path) -> StudyPlan:
    """Read the plan of a study's folder.

    Raises:
        ConfigError: There is none.
    """
    path = ProjectFolder(study).plan
    plan = read_note(path, StudyPlan)
    if plan is None:
        raise ConfigError(f"{study} is not the folder of a study: {path.name} is missing; make it with `surrogate run`")
    return plan
