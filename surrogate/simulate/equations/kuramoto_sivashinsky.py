"""The Kuramoto-Sivashinsky equation: chaos of flame fronts and films on a periodic line."""

from __future__ import annotations

from surrogate.simulate.equation import Description, Evolution, Member, Quantity
from surrogate.simulate.equations.own import semilinear_stepper
from surrogate.simulate.initial import MODES, smooth_field
from surrogate.simulate.steppers.derivatives import spectral_derivative

__all__ = ["kuramoto_sivashinsky"]

TOLERANCE = 1e-6
KEEP = 2 / 3  # of the wave numbers in the product

_RANGES = {
    "viscosity": Quantity("1", "coefficient nu of the fourth derivative"),
    "amplitude": Quantity("1", "root mean square of the initial field"),
    "correlation_length": Quantity("1", "correlation length of the initial field"),
}

kuramoto_sivashinsky = Evolution(
    name="kuramoto_sivashinsky",
    description=Description(
        formula="u_t = -u u_x - u_xx - nu u_xxxx",
        boundary="periodic",
        initial=(
            "a random sum of waves below the 9th order, with Gaussian weights of the given correlation length and a "
            "given root mean square; its mean stays as it is"
        ),
        scheme=(
            "Fourier in space; products keep two thirds of the wave numbers, so that they have no aliasing error. "
            "Exponential time differencing of order 4 (ETDRK4) with error control, exact in the linear part. Each "
            "simulation has its own steps, the time between snapshots over powers of two. Errors grow as fast as "
            "neighbouring solutions separate, so long simulations are right in their statistics, not point by point."
        ),
        invariants="the mean of u is conserved to rounding",
        source=(
            "Kuramoto and Tsuzuki, Prog. Theor. Phys. 55 (1976); Sivashinsky, Acta Astronautica 4 (1977); the method "
            "of Kassam and Trefethen, SIAM J. Sci. Comput. 26 (2005)"
        ),
    ),
    fields={"u": Quantity("1", "velocity of the front")},
    ranges=_RANGES,
    recorded=lambda axes: _RANGES,
    points=3 * MODES + 3,
    draw=lambda values, grid, rng: Member(
        dict(values), float(values["amplitude"]) * smooth_field(grid, float(values["correlation_length"]), rng)[None]
    ),
    stepper=lambda parameters, grid, step, numerics: semilinear_stepper(
        lambda u, p: spectral_derivative(u * u, grid, keep=KEEP).mul_(-0.5),
        lambda d, p: -d(2) - p["viscosity"] * d(4),
        parameters,
        grid,
        step,
        numerics,
        TOLERANCE,
    ),
    dimensions=(1,),
    length_units="1",
    time_units="1",
)
