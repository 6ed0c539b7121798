"""Plan a study (configurations of its cases) and collect its results in a table; nothing here trains."""

from surrogate.studies.design import Point, expand
from surrogate.studies.identity import case_name
from surrogate.studies.propose import grams_of, greedy_batch
from surrogate.studies.settings import STUDY, GridStudy, StudySettings, read_study
from surrogate.studies.study_plan import (
    Failure,
    PlannedPoint,
    Result,
    StudyPlan,
    read_failure,
    read_note,
    read_plan,
    read_result,
    write_note,
)
from surrogate.studies.table import choose, on_grid, per_sample, save_table, study_table

__all__ = [
    "STUDY",
    "Failure",
    "GridStudy",
    "PlannedPoint",
    "Point",
    "Result",
    "StudyPlan",
    "StudySettings",
    "case_name",
    "choose",
    "expand",
    "grams_of",
    "greedy_batch",
    "on_grid",
    "per_sample",
    "read_failure",
    "read_note",
    "read_plan",
    "read_result",
    "read_study",
    "save_table",
    "study_table",
    "write_note",
]
