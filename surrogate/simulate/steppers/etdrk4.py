"""Exponential integration of semilinear equations on a Fourier or cosine basis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surrogate.errors import ConfigError
from surrogate.simulate.equation import Array, Grid, Numerics
from surrogate.simulate.steppers.basis import Fourier, basis_of
from surrogate.simulate.steppers.limits import Effort
from surrogate.simulate.steppers.members import Members, Rate
from surrogate.simulate.steppers.stencils import error_ratio

__all__ = ["ETDRK4", "AdaptiveETDRK4", "Linear"]

POINTS = 32  # on the contour of the phi functions
CHECKED = 50  # steps after which a batch that has blown up is noticed
Symbol = NDArray[Any]  # real or complex


class Linear:
    """A linear operator that is diagonal in the basis of a grid, and the weights of ETDRK4 for it.

        v <- e^z v + f1 N(v) + f2 (N(a) + N(b)) + f3 N(c),   z = dt l(k)
        a = e^(z/2) v + q N(v),  b = e^(z/2) v + q N(a),  c = e^(z/2) a + q (2 N(b) - N(v))

    Source: Cox and Matthews, J. Comput. Phys. 176 (2002), equations 26 to 29. The weights q, f1, f2, f3 are divided
    differences of exp that cancel near z = 0; they are means over a circle of radius 1 about z, which is exact for
    analytic functions: Kassam and Trefethen, SIAM J. Sci. Comput. 26 (2005).

    Arguments:
        symbol: l(k), real or complex, with shape (B or 1, C or 1, *spectrum).
        grid: The grid, periodic or without flux.
        numerics: Type and device of the fields.

    Raises:
        ConfigError: The grid has no spectral basis, or the symbol does not fit its spectrum.
    """

    def __init__(self, symbol: Symbol, grid: Grid, numerics: Numerics) -> None:
        self.basis, self.numerics = basis_of(grid), numerics
        symbol = np.asarray(symbol)
        fourier = isinstance(self.basis, Fourier)
        spectrum = self.basis.eigenvalues.shape[:-1] if fourier else self.basis.eigenvalues.shape
        try:
            self.symbol = np.broadcast_to(symbol, (*symbol.shape[:2], *spectrum))
        except ValueError as error:
            raise ConfigError(
                f"the symbol of the linear part has shape {symbol.shape}, expected (members, channels, *{spectrum})"
            ) from error
        if np.iscomplexobj(symbol) and not fourier:
            raise ConfigError("a complex symbol needs a periodic grid; between walls derivatives have even orders")
        self._tables: dict[float, list[tuple[Tensor, Tensor | None]]] = {}

    def tables(self, dt: float) -> list[tuple[Tensor, Tensor | None]]:
        """Return e^z, e^(z/2), q, f1, f2, f3 for a step dt, real and imaginary part each; the last four are kept."""
        if dt not in self._tables:
            while len(self._tables) >= 4:
                del self._tables[next(iter(self._tables))]
            self._tables[dt] = [self._tensor(table) for table in _weights(self.symbol * dt, dt)]
        return self._tables[dt]

    def _tensor(self, table: Symbol) -> tuple[Tensor, Tensor | None]:
        if isinstance(self.basis, Fourier):
            table = table[..., None]  # over real and imaginary part of the spectrum
        real = torch.from_numpy(np.ascontiguousarray(table.real)).to(self.numerics.device, self.numerics.dtype)
        if not np.iscomplexobj(table):
            return real, None
        imaginary = torch.from_numpy(np.concatenate([-table.imag, table.imag], axis=-1))
        return real, imaginary.to(self.numerics.device, self.numerics.dtype)

    def apply(self, u: Tensor, chosen: NDArray[np.intp] | None = None) -> Tensor:
        """Return L u for fields (B, C, *S)."""
        table = self._tensor(self.symbol)
        return self.basis.backward(_times(_choose(table, chosen), self.basis.forward(u)))

    def step(
        self, v: Tensor, first: Tensor, dt: float, rate: Callable[[Tensor], Tensor], chosen: NDArray[np.intp] | None
    ) -> Tensor:
        """Advance spectra by one step.

        Arguments:
            v: Spectra of the chosen members.
            first: The spectrum of N at v.
            dt: The step.
            rate: The spectrum of N from the spectrum of u.
            chosen: The members; None are all.
        """
        whole, half, q, f1, f2, f3 = (_choose(table, chosen) for table in self.tables(dt))
        halved = _times(half, v)
        a = halved + _times(q, first)
        rate_a = rate(a)
        rate_b = rate(halved + _times(q, rate_a))
        rate_c = rate(_times(half, a) + _times(q, 2.0 * rate_b - first))
        return _times(whole, v) + _times(f1, first) + _times(f2, rate_a + rate_b) + _times(f3, rate_c)


def _choose(table: tuple[Tensor, Tensor | None], chosen: NDArray[np.intp] | None) -> tuple[Tensor, Tensor | None]:
    """Return the rows of a table that belong to members; a table of one row belongs to all."""
    real, imaginary = table
    if chosen is None or len(real) in (1, len(chosen)):
        return table
    index = torch.from_numpy(chosen).to(real.device)
    return real[index], None if imaginary is None else imaginary[index]


def _times(table: tuple[Tensor, Tensor | None], v: Tensor) -> Tensor:
    """Multiply a spectrum by a table, by single real operations, whose bits do not depend on the batch."""
    real, imaginary = table
    product = real * v
    return product if imaginary is None else product + imaginary * v.flip(-1)


def _weights(z: Symbol, dt: float) -> list[Symbol]:
    """Return exp(z), exp(z/2) and the four weights of the method for z = dt l(k)."""
    roots = np.exp(1j * np.pi * (np.arange(POINTS) + 0.5) / POINTS)
    complex_symbol = np.iscomplexobj(z)
    if complex_symbol:
        roots = np.concatenate([roots, roots.conj()])
    sums = [np.zeros_like(z) for _ in range(4)]
    with np.errstate(over="ignore", invalid="ignore"):  # steps whose weights overflow give fields that are not finite
        for root in roots:
            w = z + root
            e = np.exp(w)
            terms = (
                (np.exp(w / 2) - 1) / w,
                (-4 - w + e * (4 - 3 * w + w**2)) / w**3,
                2 * (2 + w + e * (w - 2)) / w**3,
                (-4 - 3 * w - w**2 + e * (4 - w)) / w**3,
            )
            for total, term in zip(sums, terms, strict=True):
                total += term if complex_symbol else term.real
        return [np.exp(z), np.exp(z / 2), *[dt * total / len(roots) for total in sums]]


class ETDRK4:
    """Exponential time differencing of order 4 with a fixed step for du/dt = L u + N(u), exact in its linear part.

    Arguments:
        nonlinear: N(u) for fields (B, C, *S).
        linear: Diffusivity D of every member and channel, with shape (B, C), for L = D lap; or the symbol of any L,
            with shape (B or 1, C or 1, *spectrum), made with `Symbols`.
        grid: The grid, periodic or without flux.
        interval: Time between snapshots.
        steps: Steps in an interval.
        numerics: Type and device of the fields.

    Raises:
        ConfigError: The grid has no spectral basis, or the symbol does not fit it.
    """

    def __init__(
        self,
        nonlinear: Callable[[Tensor], Tensor],
        linear: Symbol,
        grid: Grid,
        interval: float,
        steps: int,
        numerics: Numerics,
    ) -> None:
        if linear.ndim == 2:
            basis = basis_of(grid)
            eigenvalues = basis.eigenvalues[..., 0] if isinstance(basis, Fourier) else basis.eigenvalues
            linear = linear.reshape(*linear.shape, *(1,) * eigenvalues.ndim) * eigenvalues
        self.nonlinear, self.linear = nonlinear, Linear(linear, grid, numerics)
        self.steps, self.dt = steps, interval / steps
        self.effort = Effort(interval)

    def __call__(self, u: Tensor) -> Tensor:
        """Advance fields (B, C, *S) by one interval; a member that blows up or takes too many steps is not finite."""
        self.effort.begin(u)
        if not self.effort.affords(4 * self.steps):
            return self.effort.end(torch.full_like(u, torch.nan))
        v = self.linear.basis.forward(u)
        for number in range(self.steps):
            v = self.linear.step(v, self._rate(v), self.dt, self._rate, None)
            if number % CHECKED == CHECKED - 1 and not v.isfinite().any():
                break
        return self.effort.end(self.linear.basis.backward(v))

    def _rate(self, spectrum: Tensor) -> Tensor:
        basis = self.linear.basis
        return basis.forward(self.nonlinear(basis.backward(spectrum)))


START, DEEPEST = 3, 40  # steps are interval / 2^level
SAFETY = 0.9


class AdaptiveETDRK4:
    """ETDRK4 with error control for du/dt = L u + N(u): the step of each member is the interval over a power of two.

    A step is taken once whole and once as two halves, which are kept; 1/15 of the difference estimates their error. A
    member is stepped from its own state and parameters alone, so its bits do not depend on the batch.

    Called on the state it returned last, it goes on with those steps; on any other state it starts afresh.

    Arguments:
        rate: N(u, parameters) for fields (B, C, *S) and parameters (B, 1, 1...).
        linear: The linear part L.
        parameters: Parameters of the members.
        interval: Time between snapshots.
        tolerance: Largest error of a step, relative to the largest value of the channel.
    """

    def __init__(
        self,
        rate: Rate,
        linear: Linear,
        parameters: Mapping[str, Tensor],
        interval: float,
        *,
        tolerance: float = 1e-6,
    ) -> None:
        self.rate, self.linear, self.parameters = rate, linear, parameters
        self.interval, self.tolerance = interval, tolerance
        self.effort = Effort(interval)
        self._level = np.empty(0, dtype=int)

    def __call__(self, u: Tensor) -> Tensor:
        """Advance fields (B, C, *S) by one interval; a member that blows up becomes NaN."""
        basis, effort = self.linear.basis, self.effort
        if effort.begin(u):
            self._level = np.full(len(u), START)
        members, v = Members(self.parameters, len(u)), basis.forward(u)
        place = np.zeros(len(u))  # share of the interval that is done; a sum of powers of two, so exact
        while (active := np.flatnonzero(place < 1)).size:
            level = int(self._level[active].max())  # the smallest steps first; those of one size together
            group = active[self._level[active] == level]
            part, error = self._try(members.take(v, group), members.parameters_of(group), level, group, len(u))
            good = error <= 1
            place[group[good]] += 0.5**level
            self._choose_levels(group, error, place)
            dt, left = self.interval * 0.5 ** self._level[group], self.interval * (1 - place[group])
            dead = (self._level[group] > DEEPEST) | effort.spent(group, 11, dt, left)
            effort.blow_up(group[self._level[group] > DEEPEST])
            part[torch.from_numpy(dead).to(part.device)] = torch.nan
            place[group[dead]] = 1.0
            v = members.put(v, part, group, good | dead)
        return effort.end(basis.backward(v))

    def _try(
        self, v: Tensor, parameters: Mapping[str, Tensor], level: int, group: NDArray[np.intp], count: int
    ) -> tuple[Tensor, Array]:
        """Return the spectra after two half steps, and their error over the allowed one."""
        basis, dt = self.linear.basis, self.interval * 0.5**level
        chosen = None if len(group) == count else group

        def rate(spectrum: Tensor) -> Tensor:
            return basis.forward(self.rate(basis.backward(spectrum), parameters))

        first = rate(v)
        whole = self.linear.step(v, first, dt, rate, chosen)
        half = self.linear.step(v, first, dt / 2, rate, chosen)
        fine = self.linear.step(half, rate(half), dt / 2, rate, chosen)
        error = error_ratio(basis.backward(fine - whole), basis.backward(fine), 15.0 * self.tolerance)
        return fine, error

    def _choose_levels(self, group: NDArray[np.intp], error: Array, place: Array) -> None:
        """Set the steps of members from their errors; a longer step must end on a multiple of itself."""
        factor = np.clip(SAFETY * np.maximum(error, 1e-12) ** -0.2, 0.01, 4.0)
        for member, f, bad in zip(group, factor, error > 1, strict=True):
            level = self._level[member] + (max(1, int(np.ceil(-np.log2(f)))) if bad else 0)
            while not bad and f >= 2 and level > 0 and (place[member] * 2 ** (level - 1)) % 1 == 0:
                level, f = level - 1, f / 2
            self._level[member] = level
