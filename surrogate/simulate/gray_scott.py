"""Pattern formation by the Gray-Scott reaction, with the six regimes of The Well."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from surrogate.simulate.equation import Array, Description, Evolution, Grid, Member, Numerics, Quantity, Stepper
from surrogate.simulate.etdrk4 import ETDRK4

__all__ = ["REGIMES", "gray_scott", "gray_scott_stepper"]

REGIMES = {  # feed rate F and kill rate k
    "gliders": (0.014, 0.054),
    "bubbles": (0.098, 0.057),
    "maze": (0.029, 0.057),
    "worms": (0.058, 0.065),
    "spirals": (0.018, 0.051),
    "spots": (0.030, 0.062),
}
DIFFUSIVITY = (2e-5, 1e-5)  # of A and B
LONGEST_STEP = 2.5
CLUMPS = 20


def gray_scott_stepper(
    parameters: Mapping[str, Array], grid: Grid, interval: float, numerics: Numerics, *, steps: int
) -> ETDRK4:
    """A stepper of the Gray-Scott equations.

        A_t = dA lap A - A B^2 + F (1 - A),    B_t = dB lap B + A B^2 - (F + k) B

    Arguments:
        parameters: `feed_rate` F and `kill_rate` k, each with shape (B,).
        grid: The grid of *S, periodic or without flux.
        interval: Time between snapshots.
        numerics: Type and device of the fields.
        steps: Steps in an interval.
    """
    columns = numerics.columns(parameters, grid)
    feed, loss = columns["feed_rate"], columns["feed_rate"] + columns["kill_rate"]

    def nonlinear(u: Tensor) -> Tensor:
        a, b = u[:, :1], u[:, 1:]
        reaction = a * b.square()
        return torch.cat([(1.0 - a) * feed - reaction, reaction - b * loss], dim=1)

    diffusivity = np.tile(np.array(DIFFUSIVITY), (len(parameters["feed_rate"]), 1))
    return ETDRK4(nonlinear, diffusivity, grid, interval, steps, numerics)


def _draw(values: Mapping[str, float | Array], grid: Grid, rng: np.random.Generator) -> Member:
    """Clumps of B in a box full of A; their places do not depend on the grid."""
    regime = int(float(values["regime"]))
    feed, kill = list(REGIMES.values())[regime]
    corners = [axis[0] for axis in grid.coordinates.values()]
    b = np.zeros(grid.shape)
    for _ in range(CLUMPS):
        centre, width, height = rng.random(len(grid.shape)), rng.uniform(0.03, 0.08), rng.uniform(0.7, 1.0)
        clump = np.array(height)
        for x, corner, length, share in zip(grid.coordinates.values(), corners, grid.lengths, centre, strict=True):
            distance = np.abs(x - corner - share * length)
            if grid.boundary == "periodic":
                distance = np.minimum(distance, length - distance)
            clump = np.multiply.outer(clump, np.exp(-0.5 * (distance / (width * length)) ** 2))
        b = np.maximum(b, clump)
    return Member({"regime": float(regime), "feed_rate": feed, "kill_rate": kill}, np.stack([1.0 - 0.6 * b, 0.4 * b]))


def _stepper(parameters: Mapping[str, Array], grid: Grid, step: float, numerics: Numerics) -> Stepper:
    steps = math.ceil(step / LONGEST_STEP - 1e-9) * numerics.refine
    return gray_scott_stepper(parameters, grid, step, numerics, steps=steps)


_REGIME = Quantity("1", "number of the named regime", options=tuple(REGIMES))

gray_scott = Evolution(
    name="gray_scott",
    description=Description(
        formula="A_t = dA lap A - A B^2 + F (1 - A)\nB_t = dB lap B + A B^2 - (F + k) B",
        boundary="periodic, or no flux with `boundary: no_flux`",
        initial=(
            f"A = 1 - 0.6 B0 and B = 0.4 B0, where B0 is the largest of {CLUMPS} Gaussian clumps at random places, of "
            "random width (3 to 8 % of the box) and height (0.7 to 1); a few gliders die out and end at A = 1, B = 0"
        ),
        scheme=(
            "Spectral in space (Fourier on a periodic box, cosine without flux), exponential time differencing of "
            "order "
            f"4 (ETDRK4) with steps of at most {LONGEST_STEP:g} in time: exact for diffusion."
        ),
        invariants="without reaction the means of A and B are conserved to rounding",
        constants="dA = 2e-5, dB = 1e-5. "
        + "; ".join(f"{name}: F = {feed:g}, k = {kill:g}" for name, (feed, kill) in REGIMES.items()),
        source=(
            "the six regimes of the Gray-Scott data set of The Well (Ohana et al., NeurIPS 2024), made here anew with "
            "initial fields of our own; Pearson, Science 261 (1993)"
        ),
    ),
    fields={"A": Quantity("1", "concentration of the substance that is fed"), "B": Quantity("1", "catalyst")},
    ranges={"regime": _REGIME},
    recorded=lambda axes: {
        "regime": _REGIME,
        "feed_rate": Quantity("1", "feed rate F"),
        "kill_rate": Quantity("1", "kill rate k"),
    },
    points=8,
    draw=_draw,
    stepper=_stepper,
    dimensions=(1, 2, 3),
    boundaries=("periodic", "no_flux"),
    length_units="1",
    time_units="1",
)
