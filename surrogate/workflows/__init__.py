"""The commands on a configuration: train, evaluate, report, run a pipeline or a study, submit jobs."""

from surrogate.workflows.advice import advice
from surrogate.workflows.compare import compare as run_comparison
from surrogate.workflows.new import Wishes, new_config
from surrogate.workflows.pipeline import (
    cases_of,
    chosen_case,
    evaluate_run,
    find_pipeline,
    keep_case_statistics,
    load_surrogate,
    read_cases,
    run_pipeline,
    train_case,
)
from surrogate.workflows.predict import predict_run
from surrogate.workflows.sobol import sobol_run
from surrogate.workflows.starter import write_starter
from surrogate.workflows.study import Spread, read_part, report_folders, run_file

__all__ = [
    "Spread",
    "Wishes",
    "advice",
    "cases_of",
    "chosen_case",
    "evaluate_run",
    "find_pipeline",
    "keep_case_statistics",
    "load_surrogate",
    "new_config",
    "predict_run",
    "read_cases",
    "read_part",
    "report_folders",
    "run_comparison",
    "run_file",
    "run_pipeline",
    "sobol_run",
    "train_case",
    "write_starter",
]
