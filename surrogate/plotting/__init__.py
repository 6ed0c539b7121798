"""Figures: `plot_x(data, *, ax=None) -> Axes`, from arrays and xarray objects; no global state, no display needed."""

from surrogate.plotting.canvas import ERROR_COLOURS, FIELD_COLOURS, PALETTE, new_figure, save_figure
from surrogate.plotting.errors import plot_error_histogram, plot_error_over_time, plot_intervals
from surrogate.plotting.fields import plot_comparison
from surrogate.plotting.training import plot_damping, plot_running_sum, plot_training

__all__ = [
    "ERROR_COLOURS",
    "FIELD_COLOURS",
    "PALETTE",
    "new_figure",
    "plot_comparison",
    "plot_damping",
    "plot_error_histogram",
    "plot_error_over_time",
    "plot_intervals",
    "plot_running_sum",
    "plot_training",
    "save_figure",
]
