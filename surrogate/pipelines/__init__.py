"""What the commands do with a configuration: train a case, evaluate and report runs, or all of it in a row."""

from surrogate.pipelines.run import (
    cases_of,
    evaluate_run,
    find_pipeline,
    load_surrogate,
    read_cases,
    report_runs,
    run_pipeline,
    train_case,
    write_starter,
)

__all__ = [
    "cases_of",
    "evaluate_run",
    "find_pipeline",
    "load_surrogate",
    "read_cases",
    "report_runs",
    "run_pipeline",
    "train_case",
    "write_starter",
]
