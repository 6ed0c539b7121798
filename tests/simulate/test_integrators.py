"""Integrators: their order, their error control, and bits that do not depend on the batch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torch import Tensor

from surrogate.errors import ConfigError
from surrogate.simulate import ETDRK4, RKC2, SSPRK3, Grid, Laplacian, Numerics, power_radius
from surrogate.simulate.steppers.basis import Cosine, Fourier
from surrogate.simulate.steppers.rkc import coefficients

SPEEDS = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64).reshape(3, 1, 1)


def logistic(u: Tensor, p: Mapping[str, Tensor]) -> Tensor:
    return p["speed"] * u * (1.0 - u)


def exact_logistic(t: float) -> Tensor:
    start = torch.linspace(0.1, 0.6, 5, dtype=torch.float64).expand(3, 1, 5)
    growth = torch.exp(SPEEDS * t)
    return start * growth / (1 + start * (growth - 1))


def order(errors: list[float]) -> float:
    return float(np.log2(errors[-2] / errors[-1]))


@pytest.mark.parametrize("stages", [2, 3, 5, 12])
def test_rkc_has_order_two_for_any_number_of_stages(stages: int) -> None:
    method = RKC2(logistic, lambda u, p: torch.ones(len(u)), {"speed": SPEEDS}, 1.0)
    errors = []
    for steps in (8, 16, 32):
        u, h = exact_logistic(0.0), torch.full((3, 1, 1), 1.0 / steps, dtype=torch.float64)
        for _ in range(steps):
            u = method._stages(u, logistic(u, {"speed": SPEEDS}), {"speed": SPEEDS}, h, stages)
        errors.append(float((u - exact_logistic(1.0)).abs().max()))
    assert order(errors) == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("stages", [2, 5, 20, 150])
def test_rkc_is_damped_over_its_whole_interval(stages: int) -> None:
    """|P(z)| < 1 for -0.65 (s^2 - 1) <= z < 0: the growth of u' = lambda u in one step."""
    z = -np.linspace(1e-3, 0.65 * (stages**2 - 1), 2000)
    first, rest = coefficients(stages)
    before, now = np.ones_like(z), 1 + first * z
    for m, n, mt, gt in rest:
        before, now = now, (1 - m - n) + m * now + n * before + mt * z * now + gt * z
    assert np.abs(now).max() < 1


def test_rkc_error_follows_its_tolerance() -> None:
    """A step of a method of order 2 errs by its length cubed, so the whole errs as the tolerance to the power 2/3."""
    errors = []
    for tolerance in (1e-4, 1e-7):
        method = RKC2(logistic, lambda u, p: p["speed"].flatten(), {"speed": SPEEDS}, 2.0, tolerance=tolerance)
        errors.append(float((method(exact_logistic(0.0)) - exact_logistic(2.0)).abs().max()))
    assert errors[0] < 1e-3
    assert 30 < errors[0] / errors[1] < 300


def test_ssprk_has_order_three() -> None:
    errors = []
    for step in (0.2, 0.1, 0.05):
        limit = torch.full((3,), step, dtype=torch.float64)
        method = SSPRK3(logistic, lambda u, p, limit=limit: limit[: len(u)], {"speed": SPEEDS}, 1.0)
        errors.append(float((method(exact_logistic(0.0)) - exact_logistic(1.0)).abs().max()))
    assert order(errors) == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize("boundary", ["periodic", "no_flux"])
def test_etdrk_has_order_four(boundary: str) -> None:
    """u_t = D lap u + u - u^3 against itself with very short steps."""
    grid = Grid((24,), (1.0,), boundary)
    (x,) = grid.coordinates.values()
    u = torch.from_numpy(0.3 + 0.5 * np.cos(2 * np.pi * x))[None, None]

    def run(steps: int) -> Tensor:
        return ETDRK4(lambda u: u - u * u * u, np.array([[0.05]]), grid, 2.0, steps, Numerics())(u)

    truth = run(320)
    errors = [float((run(steps) - truth).abs().max()) for steps in (10, 20)]
    assert order(errors) == pytest.approx(4, abs=0.3)


@pytest.mark.parametrize("shape", [(8,), (9,), (8, 9), (7, 8, 10)])
def test_bases_transform_there_and_back(shape: tuple[int, ...]) -> None:
    u = torch.randn(2, 3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for basis in (Fourier(Grid(shape, (1.0,) * len(shape))), Cosine(Grid(shape, (1.0,) * len(shape), "no_flux"))):
        torch.testing.assert_close(basis.backward(basis.forward(u)), u, rtol=0, atol=1e-13)
    axes = tuple(range(2, u.ndim))
    expected = dctn(u.numpy(), axes=axes) / 2 ** len(shape)
    np.testing.assert_allclose(Cosine(Grid(shape, (1.0,) * len(shape), "no_flux")).forward(u), expected, atol=1e-12)


def test_no_basis_for_fixed_walls() -> None:
    with pytest.raises(ConfigError, match="boundary dirichlet has no spectral basis"):
        ETDRK4(lambda u: u, np.ones((1, 1)), Grid((8,), (1.0,), "dirichlet"), 1.0, 1, Numerics())


@pytest.mark.parametrize("boundary", ["periodic", "no_flux", "dirichlet"])
def test_laplacian_has_order_two_and_conserves(boundary: str) -> None:
    wave = {"periodic": 2, "no_flux": 1, "dirichlet": 1}[boundary] * np.pi
    shape = np.sin if boundary == "dirichlet" else np.cos
    errors = []
    for n in (32, 64):
        grid = Grid((n, n + 2), (1.0, 1.0), boundary)
        y, x = grid.coordinates.values()
        u = torch.from_numpy(np.multiply.outer(shape(wave * y), shape(2 * wave * x)))[None, None]
        result = Laplacian(grid.spacing, boundary)(u)
        errors.append(float((result + 5 * wave**2 * u).abs().max()))
        if boundary != "dirichlet":
            noise = torch.randn(2, 2, n, n + 2, dtype=torch.float64)
            total = Laplacian(grid.spacing, boundary)(noise).sum(dim=(2, 3))
            torch.testing.assert_close(total, torch.zeros(2, 2, dtype=torch.float64), rtol=0, atol=1e-7)
    assert order(errors) == pytest.approx(2, abs=0.15)


def test_power_iterations_find_the_radius() -> None:
    grid = Grid((20, 24), (1.0, 1.0), "no_flux")
    laplacian = Laplacian(grid.spacing, "no_flux")
    truth = 4 * (20**2 + 24**2)
    u = torch.randn(2, 1, 20, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = power_radius(lambda u, p: laplacian(u))(u, {})
    assert ((found > 0.98 * truth) & (found < 1.3 * truth)).all()


def exploding(u: Tensor, p: Mapping[str, Tensor]) -> Tensor:
    return p["speed"] * u * u


@pytest.mark.parametrize("method", ["rkc", "ssprk"])
def test_a_member_that_blows_up_becomes_nan_and_leaves_the_others_alone(method: str) -> None:
    p = {"speed": torch.tensor([0.1, 50.0, 0.2], dtype=torch.float64).reshape(3, 1, 1)}
    u = torch.ones(3, 1, 4, dtype=torch.float64)

    def radius(u: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        return 2 * (p["speed"] * u).abs().amax(dim=(1, 2))

    make = {
        "rkc": lambda p: RKC2(exploding, radius, p, 1.0, tolerance=1e-6),
        "ssprk": lambda p: SSPRK3(exploding, lambda u, p: 0.1 / radius(u, p), p, 1.0),
    }[method]
    state = make(p)(u)
    assert torch.isnan(state[1]).all()
    np.testing.assert_allclose(state[[0, 2], 0, 0], [1 / 0.9, 1 / 0.8], rtol=1e-3)
    for member in (0, 2):
        alone = make({"speed": p["speed"][member : member + 1]})(u[member : member + 1])
        assert torch.equal(alone[0], state[member])
