"""How good a surrogate is: metrics per sample, averages with intervals, examples worth a look."""

from surrogate.evaluation.comparison import Comparison, compare_cases, holm
from surrogate.evaluation.compat import Compat, compat_table, pdebench_compat, well_compat
from surrogate.evaluation.evaluate import evaluate, mean_relative_l2, merge, relative_l2_of
from surrogate.evaluation.examples import collect_examples, select_examples
from surrogate.evaluation.latent import latent_space, principal_components
from surrogate.evaluation.maps import ErrorMaps
from surrogate.evaluation.metrics import GRID_METRICS, METRICS
from surrogate.evaluation.rollout import (
    Trajectories,
    channels_of,
    error_growth,
    evaluate_rollout,
    growth_factors,
    time_to_threshold,
    trajectories,
)
from surrogate.evaluation.statistics import bootstrap_means, interval
from surrogate.evaluation.summary import Row, save, save_dataset, save_uncertainty, summary, write_table
from surrogate.evaluation.table import Labels
from surrogate.evaluation.uncertainty import calibration, evaluate_uncertainty, merge_uncertainty
from surrogate.evaluation.write import labels_of, write_evaluation

__all__ = [
    "GRID_METRICS",
    "METRICS",
    "Comparison",
    "Compat",
    "ErrorMaps",
    "Labels",
    "Row",
    "Trajectories",
    "bootstrap_means",
    "calibration",
    "channels_of",
    "collect_examples",
    "compare_cases",
    "compat_table",
    "error_growth",
    "evaluate",
    "evaluate_rollout",
    "evaluate_uncertainty",
    "growth_factors",
    "holm",
    "interval",
    "labels_of",
    "latent_space",
    "mean_relative_l2",
    "merge",
    "merge_uncertainty",
    "pdebench_compat",
    "principal_components",
    "relative_l2_of",
    "save",
    "save_dataset",
    "save_uncertainty",
    "select_examples",
    "summary",
    "time_to_threshold",
    "trajectories",
    "well_compat",
    "write_evaluation",
    "write_table",
]
