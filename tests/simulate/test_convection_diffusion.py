"""The exact step of the convection-diffusion equation, in 1, 2 and 3 dimensions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from surrogate.errors import ConfigError, DataError
from surrogate.simulate import ConvectionDiffusion, Grid, rollout, smooth_field

GRIDS = [
    Grid((24,), (1.5,)),
    Grid((18, 20), (1.0, 2.0)),
    Grid((21, 20), (0.7, 1.0)),
    Grid((18, 19, 20), (1.0, 1.5, 2.0)),
]
grids = pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: "x".join(map(str, grid.shape)))


def stepper(grid: Grid, velocity: list[float], diffusivity: float, step: float) -> ConvectionDiffusion:
    return ConvectionDiffusion(np.array([velocity]), np.array([diffusivity]), grid, step)


def smooth(grid: Grid, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(smooth_field(grid, 0.1, np.random.default_rng(seed)))[None, None]


def rough(grid: Grid, members: int = 1) -> torch.Tensor:
    """White noise holds every mode, the Nyquist modes too."""
    return torch.randn(members, 1, *grid.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@grids
def test_whole_period_returns_the_field(grid: Grid) -> None:
    step = stepper(grid, list(grid.lengths), 0.0, 1.0)
    u = rough(grid)
    torch.testing.assert_close(step(u), u, rtol=0, atol=1e-13)


@grids
def test_advection_is_a_shift(grid: Grid) -> None:
    """In a time of one grid spacing per speed, a band-limited field moves by one point."""
    velocity = [length / points for points, length in zip(grid.shape, grid.lengths, strict=True)]
    u = smooth(grid)
    shifted = torch.roll(u, [1] * len(grid.shape), dims=list(range(2, u.ndim)))
    torch.testing.assert_close(stepper(grid, velocity, 0.0, 1.0)(u), shifted, rtol=0, atol=1e-12)


@grids
def test_single_mode_decays_and_moves(grid: Grid) -> None:
    D, t, orders = 3e-3, 0.7, np.arange(1, len(grid.shape) + 1)
    k = 2 * np.pi * orders / np.array(grid.lengths)
    velocity = 0.3 + 0.2 * np.arange(len(k))
    points = np.meshgrid(*grid.coordinates.values(), indexing="ij")
    phase = sum(wave * x for wave, x in zip(k, points, strict=True))
    u = torch.from_numpy(np.cos(phase))[None, None]
    exact = np.exp(-D * (k**2).sum() * t) * np.cos(phase - (k * velocity).sum() * t)
    result = stepper(grid, list(velocity), D, t)(u)
    torch.testing.assert_close(result[0, 0], torch.from_numpy(exact), rtol=0, atol=1e-13)


@grids
def test_mass_is_conserved_and_energy_decays(grid: Grid) -> None:
    states = rollout(stepper(grid, [0.4] * len(grid.shape), 2e-3, 0.05), rough(grid), 30, torch.float64).flatten(2)
    mass = states.mean(-1)
    torch.testing.assert_close(mass, mass[:, :1].expand_as(mass), rtol=0, atol=1e-15)
    assert (states.square().sum(-1).diff(dim=1) < 0).all()


@grids
def test_energy_is_conserved_without_diffusion(grid: Grid) -> None:
    u = rough(grid)
    moved = stepper(grid, [0.37] * len(grid.shape), 0.0, 0.41)(u)
    torch.testing.assert_close(moved.square().sum(), u.square().sum(), rtol=1e-13, atol=0)


def test_diffusion_keeps_the_bounds_of_a_resolved_front() -> None:
    grid = Grid((256,), (1.0,))
    (x,) = grid.coordinates.values()
    u = torch.from_numpy(np.exp(-0.5 * ((x - 0.5) / 0.03) ** 2))[None, None]
    states = rollout(stepper(grid, [0.8], 1e-3, 0.02), u, 51, torch.float64)
    assert states.amax(dim=(2, 3)).diff(dim=1).max() < 1e-4  # the sampled maximum wobbles between points
    assert states.min() > -1e-12


@settings(max_examples=25, deadline=None)
@given(
    velocity=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
    diffusivity=st.floats(0, 0.1),
    step=st.floats(1e-3, 1.0),
    even=st.booleans(),
)
def test_two_half_steps_are_one_step(
    velocity: tuple[float, float], diffusivity: float, step: float, even: bool
) -> None:
    grid = Grid((12, 14) if even else (11, 13), (1.0, 1.3))
    whole = stepper(grid, list(velocity), diffusivity, step)
    half = stepper(grid, list(velocity), diffusivity, step / 2)
    u = rough(grid)
    torch.testing.assert_close(half(half(u)), whole(u), rtol=0, atol=1e-11)


@grids
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threads", [1, 2])
def test_member_alone_equals_member_in_batch_bit_for_bit(grid: Grid, dtype: torch.dtype, threads: int) -> None:
    rng = np.random.default_rng(3)
    velocity, D = rng.normal(size=(7, len(grid.shape))), rng.uniform(0, 1e-2, 7)
    u = rough(grid, members=7).to(dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = rollout(ConvectionDiffusion(velocity, D, grid, 0.1, dtype=dtype), u, 4, dtype)
    finally:
        torch.set_num_threads(before)
    assert together.dtype == dtype
    for i in range(7):
        alone = ConvectionDiffusion(velocity[i : i + 1], D[i : i + 1], grid, 0.1, dtype=dtype)
        assert torch.equal(rollout(alone, u[i : i + 1], 4, dtype)[0], together[i])


def finite_differences(u: np.ndarray, grid: Grid, velocity: np.ndarray, D: float) -> np.ndarray:
    """Right-hand side by central differences of second order."""
    rate = np.zeros_like(u)
    for axis, (points, length, v) in enumerate(zip(grid.shape, grid.lengths, velocity, strict=True)):
        h = length / points
        after, before = np.roll(u, -1, axis), np.roll(u, 1, axis)
        rate += D * (after - 2 * u + before) / h**2 - v * (after - before) / (2 * h)
    return rate


def spectral(u: np.ndarray, grid: Grid, velocity: np.ndarray, D: float) -> np.ndarray:
    """Right-hand side by derivatives of the trigonometric interpolant."""
    rate = np.zeros_like(u)
    for axis, (points, length, v) in enumerate(zip(grid.shape, grid.lengths, velocity, strict=True)):
        k = 2 * np.pi * np.fft.fftfreq(points, length / points)
        k = k.reshape([-1 if other == axis else 1 for other in range(u.ndim)])
        rate += np.fft.ifft((-1j * k * v - D * k**2) * np.fft.fft(u, axis=axis), axis=axis).real
    return rate


def reference(rate: Callable[..., np.ndarray], grid: Grid, velocity: np.ndarray, D: float, t: float) -> np.ndarray:
    u = smooth(grid).numpy()[0, 0]
    result = solve_ivp(
        lambda _, y: rate(y.reshape(grid.shape), grid, velocity, D).ravel(),
        (0, t),
        u.ravel(),
        "DOP853",
        rtol=1e-11,
        atol=1e-12,
    )
    return result.y[:, -1].reshape(grid.shape)


def test_agrees_with_an_adaptive_integrator_of_the_spectral_equation() -> None:
    grid, velocity, D, t = Grid((24, 20), (1.0, 1.2)), np.array([0.6, -0.8]), 4e-3, 0.5
    exact = stepper(grid, list(velocity), D, t)(smooth(grid))[0, 0].numpy()
    np.testing.assert_allclose(reference(spectral, grid, velocity, D, t), exact, rtol=0, atol=1e-9)


def test_finite_differences_converge_to_it_with_order_two() -> None:
    velocity, D, t = np.array([0.5, -0.3]), 5e-3, 0.2
    errors = []
    for points in (48, 96):
        grid = Grid((points, points), (1.0, 1.0))
        exact = stepper(grid, list(velocity), D, t)(smooth(grid))[0, 0].numpy()
        errors.append(np.linalg.norm(reference(finite_differences, grid, velocity, D, t) - exact) / points)
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.15)


def test_smooth_field_is_one_function_on_all_grids() -> None:
    coarse, fine = Grid((18, 20), (1.0, 2.0)), Grid((36, 60), (1.0, 2.0))
    a, b = (smooth_field(grid, 0.1, np.random.default_rng(5)) for grid in (coarse, fine))
    np.testing.assert_allclose(a, b[::2, ::3], rtol=0, atol=1e-13)
    assert np.mean(a**2) == pytest.approx(1, rel=1e-12)


def test_smooth_field_correlates_over_its_length() -> None:
    """A longer correlation length leaves less in high wave numbers: smaller gradients."""
    grid = Grid((64,), (1.0,))
    slopes = [
        np.mean([np.square(np.diff(smooth_field(grid, length, np.random.default_rng(i)))).sum() for i in range(50)])
        for length in (0.08, 0.12, 0.16)
    ]
    assert slopes[0] > slopes[1] > slopes[2]


def test_refuses_a_coarse_grid_and_wrong_shapes() -> None:
    with pytest.raises(ConfigError, match=r"grid \[16, 32\] is too coarse: smooth fields need 18 points"):
        smooth_field(Grid((16, 32), (1.0, 1.0)), 0.1, np.random.default_rng(0))
    with pytest.raises(DataError, match=r"velocity has shape \(2, 1\), expected \(2, 2\)"):
        ConvectionDiffusion(np.zeros((2, 1)), np.zeros(2), Grid((18, 18), (1.0, 1.0)), 0.1)
