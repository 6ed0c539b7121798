"""Evaluation of a surrogate: metrics per sample, averages with intervals, comparisons, example samples."""

from surrogate.evaluation.bootstrap import bootstrap_means, interval
from surrogate.evaluation.comparison import Comparison, compare_cases, holm
from surrogate.evaluation.compat import Compat, compat_table, pdebench_compat, well_compat
from surrogate.evaluation.conformal import conformal_coverage, conformal_width, cross_conformal_interval
from surrogate.evaluation.evaluate import evaluate, mean_relative_l2, merge, relative_l2_of
from surrogate.evaluation.examples import collect_examples, select_examples
from surrogate.evaluation.headline import NORMALIZED, RELATIVE, Headline, headline
from surrogate.evaluation.latent import latent_space, principal_components
from surrogate.evaluation.maps import ErrorMaps
from surrogate.evaluation.metrics import GRID_METRICS, METRICS
from surrogate.evaluation.projection import Projection, floor_of, projection_of
from surrogate.evaluation.rollout.scores import (
    Trajectories,
    channels_of,
    error_growth,
    evaluate_rollout,
    growth_factors,
    time_to_threshold,
    trajectories,
)
from surrogate.evaluation.rollout.simulations import BASELINE, evaluate_simulations, rolled_out, typical
from surrogate.evaluation.rollout.stepping import Stepping, plan_stepping
from surrogate.evaluation.rollout.summary import growth_table, lead_table, save_rollout
from surrogate.evaluation.sobol import Parameter, sobol_indices, sobol_inputs
from surrogate.evaluation.source import SampleSource
from surrogate.evaluation.summary import Row, save, save_dataset, save_uncertainty, summary, write_table
from surrogate.evaluation.table import Labels
from surrogate.evaluation.uncertainty import calibration, evaluate_uncertainty, merge_uncertainty
from surrogate.evaluation.write import Beside, labels_of, write_evaluation, write_rollout
from surrogate.experiment.evaluation_settings import EvaluationSettings

__all__ = [
    "BASELINE",
    "GRID_METRICS",
    "METRICS",
    "NORMALIZED",
    "RELATIVE",
    "Beside",
    "Comparison",
    "Compat",
    "ErrorMaps",
    "EvaluationSettings",
    "Headline",
    "Labels",
    "Parameter",
    "Projection",
    "Row",
    "SampleSource",
    "Stepping",
    "Trajectories",
    "bootstrap_means",
    "calibration",
    "channels_of",
    "collect_examples",
    "compare_cases",
    "compat_table",
    "conformal_coverage",
    "conformal_width",
    "cross_conformal_interval",
    "error_growth",
    "evaluate",
    "evaluate_rollout",
    "evaluate_simulations",
    "evaluate_uncertainty",
    "floor_of",
    "growth_factors",
    "growth_table",
    "headline",
    "holm",
    "interval",
    "labels_of",
    "latent_space",
    "lead_table",
    "mean_relative_l2",
    "merge",
    "merge_uncertainty",
    "pdebench_compat",
    "plan_stepping",
    "principal_components",
    "projection_of",
    "relative_l2_of",
    "rolled_out",
    "save",
    "save_dataset",
    "save_rollout",
    "save_uncertainty",
    "select_examples",
    "sobol_indices",
    "sobol_inputs",
    "summary",
    "time_to_threshold",
    "trajectories",
    "typical",
    "well_compat",
    "write_evaluation",
    "write_rollout",
    "write_table",
]
