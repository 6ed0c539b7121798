"""The commands on a configuration: train, evaluate, report, run a pipeline or a study, submit jobs.

Every function is imported from its module when it is first asked for, so that a command imports what it needs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surrogate.workflows.cases import chosen_case, find_pipeline, keep_case_statistics, read_cases, train_case
    from surrogate.workflows.compare import compare as run_comparison
    from surrogate.workflows.new import Wishes, new_config
    from surrogate.workflows.pipeline import cases_of, evaluate_run, load_surrogate, run_pipeline
    from surrogate.workflows.predict import predict_run
    from surrogate.workflows.sobol import sobol_run
    from surrogate.workflows.starter import write_starter
    from surrogate.workflows.study import Spread, read_part, report_folders, run_file

__all__ = [
    "Spread",
    "Wishes",
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

_MODULES = {
    "cases": ("chosen_case", "find_pipeline", "keep_case_statistics", "read_cases", "train_case"),
    "compare": ("run_comparison",),
    "new": ("Wishes", "new_config"),
    "pipeline": ("cases_of", "evaluate_run", "load_surrogate", "run_pipeline"),
    "predict": ("predict_run",),
    "sobol": ("sobol_run",),
    "starter": ("write_starter",),
    "study": ("Spread", "read_part", "report_folders", "run_file"),
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'surrogate.workflows' has no attribute '{name}'")
    module = importlib.import_module(f"{__name__}.{_PLACES[name]}")
    return getattr(module, "compare" if name == "run_comparison" else name)
