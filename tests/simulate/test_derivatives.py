"""Derivatives: their order on known functions, walls with values and slopes, and stability of diffusion."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from surrogate.errors import ConfigError
from surrogate.simulate import Dirichlet, Grid, Neumann, finite_difference, laplacian, spectral_derivative


def batch(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack([values, 2 * values]))[:, None]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("boundary", ["periodic", "no_flux", "dirichlet"])
def test_spectral_derivatives_are_exact_for_waves(order: int, boundary: str) -> None:
    grid = Grid((20, 24), (1.0, 2.0), boundary)
    y, x = np.meshgrid(*grid.coordinates.values(), indexing="ij")
    k, across = 2 * np.pi, np.sin(3 * y)
    shift = 0.5 * np.pi if boundary == "no_flux" else 0.0
    u = across * np.sin(k * x + shift)
    truth = across * k**order * np.sin(k * x + shift + order * np.pi / 2)
    result = spectral_derivative(batch(u), grid, order, "x")
    np.testing.assert_allclose(result[1, 0], 2 * truth, atol=1e-9 * k**order)


@pytest.mark.parametrize("accuracy", [2, 4])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("walls", ["periodic", "values", "slopes", "mixed"])
def test_finite_differences_have_their_order_up_to_the_walls(order: int, accuracy: int, walls: str) -> None:
    """u = exp(sin(2 pi x) / 2) + ..., which is zero in no derivative on a wall."""
    wave = 2 * np.pi

    def u(x: np.ndarray, n: int) -> np.ndarray:
        base = np.sin(wave * x + 0.4 + n * np.pi / 2) * wave**n
        return base if walls == "periodic" else base + np.exp(x)

    ends = {
        "periodic": None,
        "values": (Dirichlet(u(0.0, 0)), Dirichlet(u(1.0, 0))),
        "slopes": (Neumann(-u(0.0, 1)), Neumann(u(1.0, 1))),
        "mixed": (Dirichlet(u(0.0, 0)), Neumann(u(1.0, 1))),
    }[walls]
    errors = []
    for points in (40, 80):
        grid = Grid((points,), (1.0,), "periodic" if walls == "periodic" else "no_flux")
        (x,) = grid.coordinates.values()
        fields = torch.from_numpy(u(x, 0))[None, None]
        result = finite_difference(fields, grid, order, accuracy=accuracy, walls=ends)
        errors.append(np.abs(result[0, 0].numpy() - u(x, order)).max())
    assert np.log2(errors[0] / errors[1]) > accuracy - 0.35


@pytest.mark.parametrize("accuracy", [2, 4])
@pytest.mark.parametrize("walls", [(Dirichlet(), Dirichlet()), (Neumann(), Neumann()), (Dirichlet(), Neumann())])
def test_diffusion_between_walls_is_stable(accuracy: int, walls: tuple) -> None:
    grid = Grid((24,), (1.0,), "no_flux")
    columns = laplacian(torch.eye(24, dtype=torch.float64)[:, None], grid, accuracy=accuracy, walls={"x": walls})
    assert np.linalg.eigvals(columns[:, 0].numpy().T).real.max() < 1e-8


def test_values_of_walls_may_differ_between_members() -> None:
    grid = Grid((16,), (1.0,), "dirichlet")
    (x,) = grid.coordinates.values()
    u = torch.from_numpy(np.stack([1 + x, 3 - x]))[:, None]
    left, right = (torch.tensor(values, dtype=torch.float64).reshape(2, 1, 1) for values in ([1.0, 3.0], [2.0, 2.0]))
    result = finite_difference(u, grid, walls=(Dirichlet(left), Dirichlet(right)))
    np.testing.assert_allclose(result[:, 0], np.array([[1.0], [-1.0]]) * np.ones(16), atol=1e-12)


def test_mistakes_of_a_derivative_are_named() -> None:
    u = torch.zeros(1, 1, 8)
    with pytest.raises(ConfigError, match="the grid has no axis 'y'"):
        spectral_derivative(u, Grid((8,), (1.0,)), axis="y")
    with pytest.raises(ConfigError, match="axis x is periodic and has no walls"):
        finite_difference(u, Grid((8,), (1.0,)), walls=(Dirichlet(), Dirichlet()))
    with pytest.raises(ConfigError, match="axis x has 4 points"):
        finite_difference(torch.zeros(1, 1, 4), Grid((4,), (1.0,)), 4, accuracy=4)
    with pytest.raises(ConfigError, match="an even accuracy"):
        finite_difference(u, Grid((8,), (1.0,)), accuracy=3)
