"""The Korteweg-de Vries equation: long waves on a periodic line that break up into solitons."""

from __future__ import annotations

from surrogate.simulate.equation import Description, Evolution, Member, Quantity
from surrogate.simulate.equations.own import semilinear_stepper
from surrogate.simulate.initial import MODES, smooth_field
from surrogate.simulate.steppers.derivatives import spectral_derivative

__all__ = ["korteweg_de_vries"]

TOLERANCE = 1e-6
KEEP = 2 / 3  # of the wave numbers in the product

_RANGES = {
    "dispersion": Quantity("1", "dispersion length delta"),
    "amplitude": Quantity("1", "root mean square of the initial field"),
    "correlation_length": Quantity("1", "correlation length of the initial field"),
}

korteweg_de_vries = Evolution(
    name="korteweg_de_vries",
    description=Description(
        formula="u_t = -u u_x - delta^2 u_xxx",
        boundary="periodic",
        initial=(
            "a random sum of waves below the 9th order, with Gaussian weights of the given correlation length and a "
            "given root mean square"
        ),
        scheme=(
            "Fourier in space; products keep two thirds of the wave numbers, so that they have no aliasing error. "
            "Exponential time differencing of order 4 (ETDRK4) with error control, exact in the linear part. Each "
            "simulation has its own steps, the time between snapshots over powers of two."
        ),
        invariants="the mean of u is conserved to rounding; its mean square and higher invariants to the error in time",
        source="Korteweg and de Vries (1895); the scaling of Zabusky and Kruskal, Phys. Rev. Lett. 15 (1965)",
    ),
    fields={"u": Quantity("1", "height of the wave")},
    ranges=_RANGES,
    recorded=lambda axes: _RANGES,
    points=3 * MODES + 3,
    draw=lambda values, grid, rng: Member(
        dict(values), float(values["amplitude"]) * smooth_field(grid, float(values["correlation_length"]), rng)[None]
    ),
    stepper=lambda parameters, grid, step, numerics: semilinear_stepper(
        lambda u, p: spectral_derivative(u * u, grid, keep=KEEP).mul_(-0.5),
        lambda d, p: -(p["dispersion"] ** 2) * d(3),
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
