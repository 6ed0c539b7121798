"""Equations of the user against references of their own, and what happens when an integrator does not fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
import xarray as xr
from scipy.integrate import solve_ivp
from torch import Tensor

from surrogate.errors import ConfigError, NumericalError
from surrogate.simulate import (
    EQUATIONS,
    Description,
    Evolution,
    Grid,
    Laplacian,
    Numerics,
    Quantity,
    Recipe,
    Symbols,
    load_recipe,
    own_equation,
    register,
    simulate_members,
    smooth_field,
    spectral_derivative,
)
from surrogate.simulate.card import write_card
from surrogate.simulate.generate import generate
from surrogate.simulate.measure import relative_error

TOY = """
from surrogate.simulate import Description, Quantity, own_equation, register, smooth_field, spectral_derivative

about = Description(formula="u_t = -u_x", boundary="periodic", initial="random", scheme="Fourier.")
register(own_equation(
    "toy_transport", lambda u, p, grid: -spectral_derivative(u, grid),
    lambda grid, p, rng: smooth_field(grid, 0.2, rng)[None],
    fields={"u": Quantity("1", "height")}, parameters={}, description=about, points=16,
))
"""
ABOUT = Description(formula="u_t = f(u)", boundary="periodic", initial="given", scheme="As tested.")


def make(rate, name: str = "tested", parameters: Mapping[str, Quantity] | None = None, **options) -> Evolution:
    def start(grid: Grid, p: Mapping[str, float], rng: np.random.Generator) -> np.ndarray:
        return smooth_field(grid, 0.2 * grid.lengths[-1], rng)[None]

    fields = {"u": Quantity("1", "field")}
    return own_equation(name, rate, start, fields=fields, parameters=parameters or {}, description=ABOUT, **options)


def advance(
    equation: Evolution, grid: Grid, u: np.ndarray, time: float, tolerance: float | None = None, steps: int = 2
):
    stepper = equation.stepper({}, grid, time / 2, Numerics(tolerance=tolerance))
    state = torch.from_numpy(u)[None, None]
    for _ in range(2):
        state = stepper(state)
    return state[0, 0].numpy(), stepper


def reference(rate, u: np.ndarray, time: float) -> np.ndarray:
    return solve_ivp(lambda t, v: rate(v), (0, time), u.ravel(), "DOP853", rtol=1e-12, atol=1e-12).y[:, -1]


def waves(points: int, length: float) -> tuple[np.ndarray, np.ndarray]:
    """Wave numbers, and i k without the Nyquist mode."""
    k = 2 * np.pi * np.fft.rfftfreq(points, length / points)
    ik = 1j * k
    ik[-1] = 0
    return k, ik


def kuramoto_sivashinsky(time: float = 10.0) -> tuple[Evolution, Grid, np.ndarray, np.ndarray, float]:
    points, length = 96, 24 * np.pi
    grid = Grid((points,), (length,))
    x, (k, ik) = grid.coordinates["x"], waves(points, length)
    u = np.cos(x / 12) * (1 + np.sin(x / 12))

    def rate(v: np.ndarray) -> np.ndarray:
        return np.fft.irfft((k**2 - k**4) * np.fft.rfft(v) - 0.5 * ik * np.fft.rfft(v * v), points)

    equation = make(lambda u, p, g: -0.5 * spectral_derivative(u * u, g), linear=lambda d, p: -d(2) - d(4))
    return equation, grid, u, reference(rate, u, time), time


def solitons(points: int = 128, length: float = 40.0) -> tuple[Grid, np.ndarray]:
    grid = Grid((points,), (length,))
    x = grid.coordinates["x"]
    pairs = ((2.0, 8.0), (0.8, 18.0))
    return grid, sum(
        0.5 * c / np.cosh(0.5 * np.sqrt(c) * ((x - place + length / 2) % length - length / 2)) ** 2
        for c, place in pairs
    )


def korteweg_de_vries(time: float = 0.5) -> tuple[Evolution, Grid, np.ndarray, np.ndarray, float]:
    grid, u = solitons()
    _, ik = waves(128, 40.0)

    def rate(v: np.ndarray) -> np.ndarray:
        return np.fft.irfft(-(ik**3) * np.fft.rfft(v) - 3 * ik * np.fft.rfft(v * v), 128)

    equation = make(lambda u, p, g: -3 * spectral_derivative(u * u, g), linear=lambda d, p: -d(3))
    return equation, grid, u, reference(rate, u, time), time


def allen_cahn() -> tuple[Evolution, Grid, np.ndarray, np.ndarray, float]:
    grid, time = Grid((32, 32), (1.0, 1.0), "no_flux"), 4.0
    u = smooth_field(grid, 0.1, np.random.default_rng(0))

    def rate(v: np.ndarray) -> np.ndarray:
        v = v.reshape(32, 32)
        p = np.pad(v, 1, mode="edge")
        lap = (p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * v) * 32**2
        return (1e-3 * lap + v - v**3).ravel()

    equation = make(lambda u, p, g: 1e-3 * Laplacian(g.spacing, g.boundary)(u) + u - u**3, boundary="no_flux")
    return equation, grid, u, reference(rate, u, time).reshape(32, 32), time


@pytest.mark.parametrize(
    ("problem", "fine"), [(kuramoto_sivashinsky, 1e-5), (korteweg_de_vries, 1e-6), (allen_cahn, 1e-6)]
)
def test_own_equations_agree_with_dop853(problem, fine: float) -> None:
    """At the default tolerance to 1e-4, and to `fine` at one of 1e-7."""
    equation, grid, u, truth, time = problem()
    assert relative_error(advance(equation, grid, u, time)[0], truth) < 1e-4
    assert relative_error(advance(equation, grid, u, time, 1e-7)[0], truth) < fine


@pytest.mark.slow
def test_the_default_tolerance_does_for_stiff_equations_without_a_linear_part() -> None:
    """Kuramoto and Sivashinsky's equation as one right-hand side, by rkc2, up to its predictable time."""
    _, grid, u, truth, time = kuramoto_sivashinsky(30.0)
    equation = make(
        lambda u, p, g: (
            -spectral_derivative(u, g, 2) - spectral_derivative(u, g, 4) - 0.5 * spectral_derivative(u * u, g)
        )
    )
    state, stepper = advance(equation, grid, u, time)
    assert stepper.names == ["rkc2"]
    assert relative_error(state, truth) < 1e-4


def two_solitons(x: np.ndarray, time: float, speeds: tuple[float, float], places: tuple[float, float]) -> np.ndarray:
    """u = 2 (log F)'', F = 1 + e1 + e2 + A e1 e2 with e = exp(k (x - x0) - k^3 t): the exact solution on the line."""
    k, a = np.sqrt(speeds), (np.subtract(*np.sqrt(speeds)) / np.add(*np.sqrt(speeds))) ** 2
    e1, e2 = (np.exp(ki * (x - place) - ki**3 * time) for ki, place in zip(k, places, strict=True))
    f, both = 1 + e1 + e2 + a * e1 * e2, k.sum()
    first = k[0] * e1 + k[1] * e2 + both * a * e1 * e2
    second = k[0] ** 2 * e1 + k[1] ** 2 * e2 + both**2 * a * e1 * e2
    return 2 * (second / f - (first / f) ** 2)


@pytest.mark.slow
@pytest.mark.parametrize(("tolerance", "allowed"), [(None, 1e-5), (1e-7, 1e-6)])
def test_two_solitons_pass_each_other(tolerance: float | None, allowed: float) -> None:
    """The faster one starts behind, overtakes, and both leave with their heights and a shift of their places."""
    grid, speeds, places, time = Grid((256,), (60.0,)), (4.0, 1.0), (15.0, 25.0), 6.0
    x = grid.coordinates["x"]
    equation = make(lambda u, p, g: -3 * spectral_derivative(u * u, g), linear=lambda d, p: -d(3))
    state, _ = advance(equation, grid, two_solitons(x, 0.0, speeds, places), time, tolerance)
    truth = two_solitons(x, time, speeds, places)
    assert x[truth.argmax()] > 35
    assert relative_error(state, truth) < allowed


def kdv_rate(u: Tensor, p: Mapping[str, Tensor], grid: Grid) -> Tensor:
    return -spectral_derivative(u, grid, 3) - 3 * spectral_derivative(u * u, grid)


def test_waves_are_integrated_by_a_method_that_is_stable_for_them() -> None:
    """The eigenvalues of Korteweg and de Vries's equation are imaginary and reach 1000."""
    _, grid, u, truth, time = korteweg_de_vries(1.5)
    state, stepper = advance(make(kdv_rate), grid, u, time)
    assert stepper.names == ["ssprk3"]
    assert relative_error(state, truth) < 1e-6


def test_diffusion_is_integrated_by_rkc2() -> None:
    grid = Grid((128,), (1.0,), "no_flux")
    u = smooth_field(grid, 0.1, np.random.default_rng(0))
    equation = make(lambda u, p, g: Laplacian(g.spacing, g.boundary)(u), boundary="no_flux")
    assert advance(equation, grid, u, 0.1)[1].names == ["rkc2"]


@pytest.mark.parametrize(
    ("rate", "options", "reason"),
    [
        (kdv_rate, {"integrator": "rkc2"}, "rkc2 is stable near the negative real axis only; choose ssprk3"),
        (lambda u, p, g: 1e9 * spectral_derivative(u, g), {}, "evaluations of it and max_evaluations is"),
        (lambda u, p, g: 1e6 * spectral_derivative(u, g, 2), {"integrator": "dopri5"}, "choose rkc2"),
        (lambda u, p, g: u / 0.0 - u / 0.0, {}, "not finite at the initial fields"),
        (lambda u, p, g: u * u * 1e3, {}, "grow without bound"),
    ],
)
def test_an_integrator_that_does_not_fit_is_refused_with_a_sentence(rate, options, reason: str) -> None:
    grid, u = solitons()
    state, stepper = advance(make(rate, **options), grid, u, 2.0)
    assert np.isnan(state).all()
    assert reason in stepper.effort.failures[0]


def test_a_refused_simulation_ends_the_command_with_its_reason(tmp_path: Path) -> None:
    register(make(kdv_rate, "kdv_refused", integrator="rkc2", points=20))
    recipe = Recipe.model_validate(
        {
            "name": "kdv-refused",
            "equation": "kdv_refused",
            "seed": 1,
            "lengths": [40.0],
            "parameters": {},
            "sizes": {"tiny": {"simulations": 2, "grid": [128], "snapshots": 2, "final_time": 5.0, "shard": 2}},
        }
    )
    try:
        with pytest.raises(NumericalError, match="rkc2 is stable near the negative real axis only"):
            generate(recipe, "tiny", tmp_path / "data")
        with pytest.raises(NumericalError, match="rkc2 is stable near the negative real axis only"):
            simulate_members(recipe, "tiny", [0])
    finally:
        del EQUATIONS["kdv_refused"]


def test_a_member_alone_equals_the_member_in_a_batch_bit_for_bit() -> None:
    """Members of different stiffness, by etdrk4 with their own symbols and by chosen integrators."""
    grid, rng = Grid((32,), (1.0,)), np.random.default_rng(0)
    u = torch.from_numpy(np.stack([smooth_field(grid, 0.2, rng)[None] for _ in range(3)]))
    values = {"d": np.array([1e-4, 1.0, 1e-2])}
    name = {"d": Quantity("1", "d")}
    for equation in (
        make(lambda u, p, g: u - u**3, parameters=name, linear=lambda d, p: p["d"] * d(2) - 1e-5 * d(3)),
        make(lambda u, p, g: p["d"] * spectral_derivative(u, g, 2) + u - u**3, parameters=name),
    ):
        together = equation.stepper(values, grid, 0.1, Numerics())(u)
        assert torch.isfinite(together).all()
        for member in range(3):
            alone = equation.stepper({"d": values["d"][[member]]}, grid, 0.1, Numerics())(u[[member]])
            assert torch.equal(alone[0], together[member])


def test_a_linear_equation_is_solved_exactly_by_any_symbol() -> None:
    """u_t = -u_xxx - lap lap u: one wave moves with speed -k^2 and decays with k^4."""
    grid = Grid((32,), (2 * np.pi,))
    x = grid.coordinates["x"]
    equation = make(lambda u, p, g: torch.zeros_like(u), linear=lambda d, p: -d(3) - d.laplacian**2)
    state, _ = advance(equation, grid, np.sin(2 * x), 0.3)
    np.testing.assert_allclose(state, np.exp(-16 * 0.3) * np.sin(2 * x + 8 * 0.3), atol=1e-12)


def test_mistakes_of_an_equation_are_named() -> None:
    with pytest.raises(ConfigError, match="no integrator 'rk2'; did you mean 'rkc2'"):
        make(kdv_rate, integrator="rk2")
    with pytest.raises(ConfigError, match="etdrk4 needs the symbol of the linear part"):
        make(kdv_rate, integrator="etdrk4")
    with pytest.raises(ConfigError, match="dopri5 takes no separate linear part"):
        make(kdv_rate, integrator="dopri5", linear=lambda d, p: d(2))
    with pytest.raises(ConfigError, match="order 3 is not diagonal between walls"):
        Symbols(Grid((8,), (1.0,), "no_flux"))(3)
    grid, u = solitons()
    with pytest.raises(ConfigError, match="it must have that of the fields"):
        advance(make(lambda u, p, g: u[..., 1:]), grid, u, 1.0)


def test_an_installed_package_adds_equations_to_the_command(tmp_path: Path) -> None:
    """A toy package registers one under the entry points; the command simulates it from a recipe."""
    info = tmp_path / "site" / "toy_waves-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-waves\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[surrogate.equations]\ntoy = toy_waves\nbroken = toy_that_is_not_there\n")
    (tmp_path / "site" / "toy_waves.py").write_text(TOY)
    recipe = {
        "name": "toy",
        "equation": "toy_transport",
        "seed": 1,
        "lengths": [1.0],
        "parameters": {},
        "sizes": {"tiny": {"simulations": 2, "grid": [32], "snapshots": 3, "final_time": 0.5, "shard": 2}},
    }
    (tmp_path / "toy.yaml").write_text(json.dumps(recipe))
    words = ("simulate", "toy.yaml", "--size", "tiny", "--output", "data")
    done = forked.run("-m", "surrogate", *words, folder=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == 0, done.stderr
    assert "entry point 'broken' (toy_that_is_not_there) cannot be used" in done.stderr
    with xr.open_mfdataset(str(tmp_path / "data" / "*.h5"), engine="h5netcdf") as data:
        u = data["u"].values
    np.testing.assert_allclose(u[:, 2], np.roll(u[:, 0], 16, axis=-1), atol=1e-4)  # half a period later


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("gray_scott", "sizes.tiny.final_time=1e12"),
        ("reaction_diffusion", "sizes.tiny.final_time=1e12"),
        ("burgers", "parameters.speed={low: 1e6, high: 1e6, units: m s-1}"),
    ],
)
def test_a_catalogue_case_that_would_run_without_end_is_refused(name: str, override: str) -> None:
    with pytest.raises(NumericalError, match=r"evaluations of the right-hand side|needs steps far below"):
        simulate_members(load_recipe(name, [override, "sizes.tiny.snapshots=2"]), "tiny", [0])


def test_the_card_of_a_users_equation_names_no_licence_and_no_command(tmp_path: Path) -> None:
    register(make(lambda u, p, g: spectral_derivative(u, g, 2), "heat_of_a_user", points=20))
    recipe = Recipe.model_validate(
        {
            "name": "heat",
            "equation": "heat_of_a_user",
            "seed": 1,
            "lengths": [1.0],
            "parameters": {},
            "sizes": {"tiny": {"simulations": 2, "grid": [32], "snapshots": 3, "final_time": 0.01, "shard": 2}},
        }
    )
    try:
        card = write_card(recipe, "tiny", tmp_path).read_text()
    finally:
        del EQUATIONS["heat_of_a_user"]
    assert "surrogate simulate" not in card
    assert "Licence" not in card
    assert "MIT" not in card
    assert "The equation `heat_of_a_user` is not part of `slim-surrogate`" in card
