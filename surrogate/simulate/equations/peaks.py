"""The peaks function of two variables, a toy of function approximation."""

from __future__ import annotations

import numpy as np

from surrogate.simulate.equation import Array, Description, Map, Member, Quantity

__all__ = ["evaluate_peaks", "peaks"]


def evaluate_peaks(y1: Array, y2: Array) -> Array:
    """Evaluate the sum of translated and scaled Gaussians.

    3 (1 - y1)^2 exp(-y1^2 - (y2 + 1)^2) - 10 (y1/5 - y1^3 - y2^5) exp(-y1^2 - y2^2) - exp(-(y1 + 1)^2 - y2^2) / 3
    """
    return np.asarray(
        3 * (1 - y1) ** 2 * np.exp(-(y1**2) - (y2 + 1) ** 2)
        - 10 * (y1 / 5 - y1**3 - y2**5) * np.exp(-(y1**2) - y2**2)
        - np.exp(-((y1 + 1) ** 2) - y2**2) / 3
    )


_RANGES = {"y1": Quantity("1", "first variable"), "y2": Quantity("1", "second variable")}

peaks = Map(
    name="peaks",
    description=Description(
        formula=(
            "c = 3 (1 - y1)^2 exp(-y1^2 - (y2 + 1)^2) - 10 (y1/5 - y1^3 - y2^5) exp(-y1^2 - y2^2)\n"
            "    - exp(-(y1 + 1)^2 - y2^2) / 3"
        ),
        boundary="none",
        initial="none, a function of two variables",
        scheme="The formula itself in double precision.",
        source="the function-approximation example of slimTrain (2022); `peaks` of MATLAB",
    ),
    fields={"c": Quantity("1", "value of the function")},
    ranges=_RANGES,
    recorded=lambda axes: _RANGES,
    points=1,
    draw=lambda values, grid, rng: Member(dict(values), np.empty(0)),
    solve=lambda parameters, grid: np.stack(  # one by one: same bits in any batch
        [evaluate_peaks(y1, y2).reshape(1) for y1, y2 in zip(parameters["y1"], parameters["y2"], strict=True)]
    ),
    outputs=lambda grid: {},
    dimensions=(0,),
    boundaries=("none",),
)
