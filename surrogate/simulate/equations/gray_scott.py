"""Pattern formation by the Gray-Scott reaction, with the six regimes and the initial fields of The Well."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from scipy.fft import dct, idct
from scipy.signal import resample
from torch import Tensor

from surrogate.simulate.equation import Array, Description, Evolution, Grid, Member, Numerics, Quantity
from surrogate.simulate.steppers.etdrk4 import ETDRK4

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
LONGEST_STEP = 1.0
INITIALS = ("gaussians", "fourier")
COUNT, HEIGHT, SHARPNESS = (10, 100), (1.0, 3.0), (150.0, 300.0)  # of the Gaussians
WAVES = 32  # random values along each axis of a Fourier series
EXTREMES = 128  # points along an axis of the grid on which extremes are taken, the same for every grid of the data


def gray_scott_stepper(
    parameters: Mapping[str, Array], grid: Grid, interval: float, numerics: Numerics, *, steps: int
) -> ETDRK4:
    """Return a stepper of the Gray-Scott equations.

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
    """Draw random clusters or a random series; the same functions on every grid."""
    regime, initial = int(float(values["regime"])), int(float(values["initial"]))
    feed, kill = list(REGIMES.values())[regime]
    fields = _clusters(grid, rng) if INITIALS[initial] == "gaussians" else _series(feed, kill, grid, rng)
    parameters = {"regime": float(regime), "initial": float(initial), "feed_rate": feed, "kill_rate": kill}
    return Member(parameters, fields)


def _clusters(grid: Grid, rng: np.random.Generator) -> Array:
    """Draw A = 1 - (sum of Gaussians) and B = (another sum of Gaussians), both scaled to the interval from 0 to 1."""
    reference = replace(grid, shape=(EXTREMES,) * len(grid.shape))
    fields = []
    for sign in (-1.0, 1.0):
        count = int(rng.integers(COUNT[0], COUNT[1] + 1))
        height, sharpness = (rng.uniform(*bounds, count) for bounds in (HEIGHT, SHARPNESS))
        centres = rng.random((count, len(grid.shape))) * grid.lengths
        values, wide = (sign * _gaussians(height, sharpness, centres, where) for where in (grid, reference))
        fields.append((values - wide.min()) / (wide.max() - wide.min()))
    return np.stack(fields)


def _gaussians(height: Array, sharpness: Array, centres: Array, grid: Grid) -> Array:
    """Sum height exp(-sharpness |x - centre|^2) over the Gaussians and their images beyond the boundary."""
    letters = "zyx"[3 - len(grid.shape) :]
    factors = []
    for axis, (points, h, length) in enumerate(zip(grid.shape, grid.spacing, grid.lengths, strict=True)):
        shift = 0.0 if grid.boundary == "periodic" else 0.5
        x, centre = (np.arange(points) + shift) * h, centres[:, axis]
        turns = np.arange(-1, 2)[:, None]
        if grid.boundary == "periodic":
            images = centre + turns * length
        else:
            images = np.concatenate([centre + 2 * turns * length, -centre + 2 * turns * length])
        distance = x - images[..., None]
        factors.append(np.exp(-sharpness[:, None] * distance**2).sum(axis=0))
    terms = ",".join("m" + letter for letter in letters)
    return np.asarray(np.einsum(f"m,{terms}->{letters}", height, *factors, optimize=True))


def _series(feed: float, kill: float, grid: Grid, rng: np.random.Generator) -> Array:
    """Draw interpolants of random values about a steady state: the third one where it exists, else A = 1, B = 0."""
    mean, spread = (1.0, 0.0), (1.0, 1.0)
    if kill < 0.5 * (math.sqrt(feed) - 2.0 * feed):
        ratio = math.sqrt(feed) / (feed + kill)
        root = math.sqrt(ratio**2 - 4.0)
        mean = (0.5 * (ratio - root) / ratio, 0.5 * math.sqrt(feed) * (ratio + root))
        spread = (0.9 * min(mean[0], 1.0 - mean[0]), 0.9 * min(mean[1], 1.0 - mean[1]))
    drawn = rng.random((2, *(WAVES,) * len(grid.shape))) - 0.5
    return np.stack([m + 0.5 * s * _interpolant(u, grid) for m, s, u in zip(mean, spread, drawn, strict=True)])


def _interpolant(values: Array, grid: Grid) -> Array:
    """Interpolate values on a coarse grid of the same box by waves, or by cosines between walls."""
    for axis, points in enumerate(grid.shape):
        values = np.moveaxis(values, axis, -1)
        if grid.boundary == "periodic":
            values = resample(values, points, axis=-1)
        else:
            modes = dct(values, axis=-1, norm="ortho")
            padded = np.concatenate([modes, np.zeros((*modes.shape[:-1], points - WAVES))], axis=-1)
            values = idct(padded, axis=-1, norm="ortho") * math.sqrt(points / WAVES)
        values = np.moveaxis(values, -1, axis)
    return values


_RANGES = {
    "regime": Quantity("1", "number of the named regime", options=tuple(REGIMES)),
    "initial": Quantity("1", "kind of the initial fields", options=INITIALS),
}

gray_scott = Evolution(
    name="gray_scott",
    description=Description(
        formula="A_t = dA lap A - A B^2 + F (1 - A)\nB_t = dB lap B + A B^2 - (F + k) B",
        boundary="periodic, or no flux with `boundary: no_flux`",
        initial=(
            "as in The Well, with equal chances: *gaussians*, A = 1 - S and B = S' stretched to the interval from 0 to "
            f"1, where S and S' are sums of {COUNT[0]} to {COUNT[1]} Gaussians a exp(-s r^2) at random places, a from "
            f"{HEIGHT[0]:g} to {HEIGHT[1]:g}, s from {SHARPNESS[0]:g} to {SHARPNESS[1]:g}; *fourier*, trigonometric "
            f"interpolants of {WAVES} x {WAVES} uniform random numbers about A = 1, B = 0 (amplitude 1/4), for bubbles "
            "about the upper steady state"
        ),
        scheme=(
            "Spectral in space (Fourier on a periodic box, cosine without flux), exponential time differencing of "
            f"order 4 (ETDRK4) with steps of at most {LONGEST_STEP:g} in time, both as in The Well but without its "
            "de-aliasing: exact for diffusion."
        ),
        invariants="without reaction the means of A and B are conserved to rounding",
        constants="dA = 2e-5, dB = 1e-5. "
        + "; ".join(f"{name}: F = {feed:g}, k = {kill:g}" for name, (feed, kill) in REGIMES.items()),
        source=(
            "the Gray-Scott data set of The Well (Ohana et al., NeurIPS 2024), made here anew; coefficients, regimes, "
            "domain, times and initial fields are those of its page `gray_scott_reaction_diffusion` and of the "
            "program it was made with (D. Fortunato, github.com/danfortunato/spectral-gray-scott, `gen_gs.m`); the "
            "random numbers differ. That page prints the reaction term of B with the wrong sign; the program has it "
            "as above. Pearson, Science 261 (1993)"
        ),
    ),
    fields={"A": Quantity("1", "concentration of the substance that is fed"), "B": Quantity("1", "catalyst")},
    ranges=_RANGES,
    recorded=lambda axes: {
        **_RANGES,
        "feed_rate": Quantity("1", "feed rate F"),
        "kill_rate": Quantity("1", "kill rate k"),
    },
    points=WAVES + 2,
    draw=_draw,
    stepper=lambda parameters, grid, step, numerics: gray_scott_stepper(
        parameters, grid, step, numerics, steps=math.ceil(step / LONGEST_STEP - 1e-9) * numerics.refine
    ),
    dimensions=(1, 2, 3),
    boundaries=("periodic", "no_flux"),
    length_units="1",
    time_units="1",
)
