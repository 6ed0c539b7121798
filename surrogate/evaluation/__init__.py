"""How good a surrogate is: metrics per sample, averages with intervals, examples worth a look."""

from surrogate.evaluation.evaluate import evaluate, relative_l2_of
from surrogate.evaluation.examples import collect_examples, select_examples
from surrogate.evaluation.metrics import METRICS
from surrogate.evaluation.statistics import Comparison, compare_cases, interval
from surrogate.evaluation.summary import Row, save, save_dataset, summary

__all__ = [
    "METRICS",
    "Comparison",
    "Row",
    "collect_examples",
    "compare_cases",
    "evaluate",
    "interval",
    "relative_l2_of",
    "save",
    "save_dataset",
    "select_examples",
    "summary",
]
