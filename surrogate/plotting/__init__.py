"""Figures, `plot_x(data, *, ax=None) -> Axes`, of arrays and xarray objects, without global state or a display."""

from surrogate.plotting.animation import save_animation
from surrogate.plotting.canvas import (
    ERROR_COLOURS,
    FIELD_COLOURS,
    PALETTE,
    SIZE_COLOURS,
    figure_of,
    new_figure,
    new_panels,
    save_figure,
)
from surrogate.plotting.errors import (
    plot_error_against_parameter,
    plot_error_histogram,
    plot_error_over_lead,
    plot_error_over_time,
    plot_intervals,
)
from surrogate.plotting.fields import plot_cases, plot_comparison, plot_error_map
from surrogate.plotting.latent import plot_latent
from surrogate.plotting.sobol import plot_sobol_bars, plot_sobol_maps
from surrogate.plotting.spectra import plot_spectra
from surrogate.plotting.studies import TOGETHER, plot_learning_curve, plot_learning_curves, plot_sensitivity
from surrogate.plotting.training import plot_damping, plot_effective_dof, plot_running_sum, plot_training
from surrogate.plotting.uncertainty import plot_pit, plot_reliability

__all__ = [
    "ERROR_COLOURS",
    "FIELD_COLOURS",
    "PALETTE",
    "SIZE_COLOURS",
    "TOGETHER",
    "figure_of",
    "new_figure",
    "new_panels",
    "plot_cases",
    "plot_comparison",
    "plot_damping",
    "plot_effective_dof",
    "plot_error_against_parameter",
    "plot_error_histogram",
    "plot_error_map",
    "plot_error_over_lead",
    "plot_error_over_time",
    "plot_intervals",
    "plot_latent",
    "plot_learning_curve",
    "plot_learning_curves",
    "plot_pit",
    "plot_reliability",
    "plot_running_sum",
    "plot_sensitivity",
    "plot_sobol_bars",
    "plot_sobol_maps",
    "plot_spectra",
    "plot_training",
    "save_animation",
    "save_figure",
]
