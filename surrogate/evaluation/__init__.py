"""How good a surrogate is: metrics per sample, averages with intervals, examples worth a look."""

from surrogate.evaluation.comparison import Comparison, compare_cases, holm
from surrogate.evaluation.compat import Compat, compat_table, pdebench_compat, well_compat
from surrogate.evaluation.evaluate import evaluate, mean_relative_l2, merge, relative_l2_of
from surrogate.evaluation.examples import collect_examples, select_examples
from surrogate.evaluation.maps import ErrorMaps
from surrogate.evaluation.metrics import GRID_METRICS, METRICS
from surrogate.evaluation.statistics import bootstrap_means, interval
from surrogate.evaluation.summary import Row, save, save_dataset, summary, write_table

__all__ = [
    "GRID_METRICS",
    "METRICS",
    "Comparison",
    "Compat",
    "ErrorMaps",
    "Row",
    "bootstrap_means",
    "collect_examples",
    "compare_cases",
    "compat_table",
    "evaluate",
    "holm",
    "interval",
    "mean_relative_l2",
    "merge",
    "pdebench_compat",
    "relative_l2_of",
    "save",
    "save_dataset",
    "select_examples",
    "summary",
    "well_compat",
    "write_table",
]
