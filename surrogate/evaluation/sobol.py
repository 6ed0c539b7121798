r"""Global sensitivity: Sobol indices of outputs with respect to independent parameters, estimated as SALib does.

The first-order index is the share of an output's variance that a parameter explains on its own, the total index the
share that it explains on its own and together with others:

.. math:: S_i = \frac{V\bigl[E(q \mid y_i)\bigr]}{V[q]}, \qquad
          T_i = 1 - \frac{V\bigl[E(q \mid y_{\sim i})\bigr]}{V[q]} .

Source: Saltelli et al., Computer Physics Communications 181, 2010, doi 10.1016/j.cpc.2009.09.018 (design and
estimators); Herman, Usher, Journal of Open Source Software 2(9), 2017, doi 10.21105/joss.00097 (SALib).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import norm

from surrogate.errors import ConfigError
from surrogate.evaluation.bootstrap import LEVEL

__all__ = ["Parameter", "sobol_indices", "sobol_inputs"]

RESAMPLES = 100
CONSTANT = 1e-6  # deviation over the largest value, below which an output in float32 is constant


@dataclass(frozen=True)
class Parameter:
    """A parameter and the range that it is drawn from.

    Arguments:
        name: Its name.
        low: Lower end.
        high: Upper end, above the lower one.
        log: True where its logarithm is uniform.
    """

    name: str
    low: float
    high: float
    log: bool = False


def sobol_inputs(parameters: Sequence[Parameter], samples: int = 1024, *, seed: int = 1) -> np.ndarray:
    """Return the inputs at which Sobol indices need the outputs: Saltelli's design.

    Arguments:
        parameters: The d parameters.
        samples: Number n of base samples, a power of two.
        seed: Of the scrambled sequence.

    Returns:
        With shape (n (d + 2), d): for each base sample a, a with one parameter after the other taken from b, and b.

    Raises:
        ConfigError: SALib is not installed.
    """
    problem = {
        "num_vars": len(parameters),
        "names": [parameter.name for parameter in parameters],
        "bounds": [[parameter.low, parameter.high] for parameter in parameters],
        "dists": ["logunif" if parameter.log else "unif" for parameter in parameters],
    }
    return np.asarray(_salib("sample").sample(problem, samples, calc_second_order=False, seed=seed))


def sobol_indices(
    outputs: xr.DataArray, parameters: Sequence[Parameter], *, resamples: int = RESAMPLES, seed: int = 1
) -> xr.Dataset:
    """Estimate first-order and total Sobol indices of outputs at the inputs of `sobol_inputs`.

    Arguments:
        outputs: With dimensions (sample, ...), a row for each input.
        parameters: As for `sobol_inputs`.
        resamples: Bootstrap samples of the base samples for the intervals; 0 for none.
        seed: Of the bootstrap.

    Returns:
        `first` and `total` with dimensions (parameter, ...), and half the widths of their 90 % intervals,
        `first_half_width` and `total_half_width`. NaN where an output is constant.

    Raises:
        ConfigError: SALib is not installed.
    """
    salib, d = _salib("analyze"), len(parameters)
    values = np.asarray(outputs.values, dtype=np.float64).reshape(len(outputs), -1)
    deviation = values.std(0)
    varies = deviation > CONSTANT * np.abs(values).max(0)
    values = (values - values.mean(0)) / np.where(varies, deviation, 1.0)
    rows = values.reshape(-1, d + 2, values.shape[1])

    def both(chosen: Any) -> tuple[np.ndarray, np.ndarray]:
        a, b = rows[chosen, 0], rows[chosen, -1]
        mixed = [rows[chosen, 1 + parameter] for parameter in range(d)]
        first = np.stack([salib.first_order(a, ab, b) for ab in mixed])
        return first, np.stack([salib.total_order(a, ab, b) for ab in mixed])

    found = dict(zip(("first", "total"), both(slice(None)), strict=True))
    if resamples:
        rng = np.random.default_rng(seed)
        draws = [both(rng.integers(len(rows), size=len(rows))) for _ in range(resamples)]
        spread = [norm.ppf(0.5 + LEVEL / 2) * np.std(part, axis=0, ddof=1) for part in zip(*draws, strict=True)]
        found |= dict(zip(("first_half_width", "total_half_width"), spread, strict=True))
    dims, shape = ("parameter", *outputs.dims[1:]), (d, *outputs.shape[1:])
    fields = {name: (dims, np.where(varies, array, np.nan).reshape(shape)) for name, array in found.items()}
    coords = {name: kept for name, kept in outputs.coords.items() if outputs.dims[0] not in kept.dims}
    return xr.Dataset(fields, coords | {"parameter": [parameter.name for parameter in parameters]}, {"level": LEVEL})


def _salib(part: str) -> Any:
    """Import SALib's module of Sobol indices for `sample` or `analyze`."""
    if importlib.util.find_spec("SALib") is None:
        raise ConfigError("Sobol indices need the package SALib; pip install 'slim-surrogate[sensitivity]'")
    return importlib.import_module(f"SALib.{part}.sobol")
