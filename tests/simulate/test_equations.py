"""Every equation: order in space, agreement with other integrators, what it conserves, and bits of single members."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.integrate import solve_ivp
from scipy.interpolate import CubicSpline
from torch import Tensor

from surrogate.errors import NumericalError
from surrogate.simulate import (
    EQUATIONS,
    ETDRK4,
    RKC2,
    Ensemble,
    Evolution,
    Grid,
    Laplacian,
    Map,
    Numerics,
    fitzhugh_nagumo,
    gray_scott_stepper,
    load_recipe,
    reacting_flow,
    rollout,
    settling,
    smooth_field,
    viscous_burgers,
    white_noise,
)
from surrogate.simulate.equations import convection_diffusion_reaction as cdr
from surrogate.simulate.equations import dc_resistivity as dc
from surrogate.simulate.equations.dc_resistivity import conductivity
from surrogate.simulate.equations.gray_scott import REGIMES
from surrogate.simulate.equations.peaks import evaluate_peaks
from surrogate.simulate.measure import relative_error, restrict
from surrogate.simulate.steppers.steady import diffusion_matrix, solve_sparse

RECIPES = sorted(path.parent.name for path in (Path(__file__).resolve().parents[2] / "datasets").glob("*/recipe.yaml"))
SMALL = {
    "reaction_diffusion": ["grid=[18, 18]", "snapshots=4", "final_time=0.3"],
    "reaction_diffusion_smooth": ["grid=[18, 18]", "snapshots=4", "final_time=0.3"],
    "burgers": ["grid=[32]", "snapshots=4", "final_time=0.1"],
    "burgers_2d": ["grid=[18, 20]", "snapshots=3", "final_time=0.1"],
    "gray_scott": ["grid=[34, 36]", "snapshots=3", "final_time=10.0"],
    "convection_diffusion": ["grid=[18, 20]", "snapshots=3"],
    "convection_diffusion_box": ["grid=[18, 20]", "snapshots=3", "final_time=0.2"],
    "convection_diffusion_reaction": ["grid=[16, 16]", "snapshots=3", "final_time=0.1"],
    "dc_resistivity": ["grid=[8, 8, 8]"],
    "peaks": [],
    "obstacle": [],
    "kuramoto_sivashinsky": ["grid=[32]", "snapshots=3", "final_time=4.0"],
    "korteweg_de_vries": ["grid=[32]", "snapshots=3", "final_time=0.1"],
}


def equation_of(name: str) -> Evolution | Map:
    return EQUATIONS[load_recipe(name).equation]


def columns(grid: Grid, dtype: torch.dtype = torch.float64, **values: list[float]) -> dict[str, Tensor]:
    return Numerics(dtype=dtype).columns({name: np.array(v, dtype=float) for name, v in values.items()}, grid)


def order(coarse: float, fine: float) -> float:
    return float(np.log2(coarse / fine))


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_member_alone_equals_the_member_in_a_batch_bit_for_bit(name: str, precision: str) -> None:
    overrides = [f"sizes.tiny.{entry}" for entry in [*SMALL[name], "simulations=5"]]
    ensemble = Ensemble(load_recipe(name, [*overrides, f"precision={precision}"]), "tiny")
    results = ensemble.run(range(5), batch=5)
    assert results.finite.all()
    together = results.states.nan_to_num()  # NaN where a mesh has fewer points than others
    for number, batch in ((3, 1), (0, 1), (4, 2)):
        assert torch.equal(ensemble.run([number, 2], batch=batch).states[0].nan_to_num(), together[number])


@pytest.mark.parametrize("name", sorted(EQUATIONS))
def test_every_equation_is_in_the_catalogue(name: str) -> None:
    assert name in {load_recipe(recipe).equation for recipe in RECIPES}


@pytest.mark.parametrize("name", [name for name in RECIPES if isinstance(equation_of(name), Evolution)])
def test_all_of_a_step_is_on_the_device_that_was_asked_for(name: str) -> None:
    """On torch's `meta` device, which like a GPU refuses to mix its tensors with those of the CPU."""
    ensemble = Ensemble(load_recipe(name), "tiny")
    numerics = Numerics(torch.device("meta"), torch.float32)
    members = [ensemble.member(number) for number in range(2)]
    names = ensemble.equation.recorded(ensemble.grid.axes)
    parameters = {key: np.array([member.parameters[key] for member in members]) for key in names}
    u = torch.empty(2, *members[0].initial.shape, device="meta", dtype=torch.float32)
    stepper = ensemble.equation.stepper(parameters, ensemble.grid, 0.1, numerics)
    bound = getattr(stepper, "radius", getattr(stepper, "limit", None))
    result = stepper.rate(u, stepper.parameters) if hasattr(stepper, "rate") else stepper(u)
    assert result.shape == u.shape
    assert result.device == u.device
    assert result.dtype == u.dtype
    assert bound is None or bound(u, stepper.parameters).device == u.device


TIME_ORDER = {
    "burgers": (3, ["grid=[32]", "final_time=0.2", "snapshots=2"]),
    "burgers_2d": (3, ["grid=[18, 18]", "final_time=0.1", "snapshots=2"]),
    "convection_diffusion_box": (3, ["grid=[18, 18]", "final_time=0.5", "snapshots=2"]),
    "convection_diffusion_reaction": (3, ["grid=[16, 16]", "final_time=0.2", "snapshots=2"]),
    "kuramoto_sivashinsky": (4, ["grid=[48]", "final_time=4.0", "snapshots=2"]),
    "korteweg_de_vries": (4, ["grid=[64]", "final_time=0.2", "snapshots=2"]),
    "gray_scott": (4, ["grid=[34, 34]", "final_time=8.0", "snapshots=2"]),
    "reaction_diffusion": (2, ["grid=[18, 18]", "final_time=0.4", "snapshots=2"]),
    "reaction_diffusion_smooth": (2, ["grid=[18, 18]", "final_time=0.4", "snapshots=2"]),
}


@pytest.mark.parametrize("name", TIME_ORDER)
def test_every_equation_has_the_stated_order_in_time(name: str) -> None:
    """Against steps 8 times shorter on the same grid; the mean order over a quartering of the steps."""
    expected, size = TIME_ORDER[name]
    recipe = load_recipe(name, [*(f"sizes.tiny.{entry}" for entry in size), "precision=float64"])

    def final(refine: int) -> np.ndarray:
        ensemble = Ensemble(recipe, "tiny", refine=refine)
        member = ensemble.member(1)
        parameters = {key: np.array([value]) for key, value in member.parameters.items()}
        stepper = ensemble.equation.stepper(parameters, ensemble.grid, float(ensemble.times[1]), ensemble.numerics)
        return stepper(torch.from_numpy(member.initial)[None]).numpy()

    truth = final(8)
    errors = [relative_error(final(refine), truth) for refine in (1, 4)]
    observed = 0.5 * order(*errors)
    if name in ("kuramoto_sivashinsky", "korteweg_de_vries"):  # steps are rounded down to powers of two
        assert observed > expected - 0.45
    else:
        assert observed == pytest.approx(expected, abs=0.45)


# --- reaction_diffusion ----------------------------------------------------------------------------------------------


def fitzhugh_rate(w: np.ndarray, grid: Grid) -> np.ndarray:
    """The equations written out with numpy, Du = 1e-3, Dv = 5e-3, k = 5e-3."""
    u, v = w.reshape(2, *grid.shape)

    def lap(a: np.ndarray) -> np.ndarray:
        p = np.pad(a, 1, mode="edge")
        (hy, hx) = grid.spacing
        along_y = (p[2:, 1:-1] - 2 * a + p[:-2, 1:-1]) / hy**2
        return along_y + (p[1:-1, 2:] - 2 * a + p[1:-1, :-2]) / hx**2

    return np.concatenate([(1e-3 * lap(u) + u - u**3 - 5e-3 - v).ravel(), (5e-3 * lap(v) + u - v).ravel()])


def fitzhugh(
    grid: Grid, interval: float, members: int = 1, dtype: torch.dtype = torch.float64, tolerance: float = 3e-5
):
    p = columns(
        grid, dtype, activator_diffusivity=[1e-3] * members, inhibitor_diffusivity=[5e-3] * members, k=[5e-3] * members
    )
    return fitzhugh_nagumo(p, grid, interval, tolerance=tolerance)


@pytest.mark.parametrize(
    ("dtype", "kind", "tolerance"), [(torch.float32, "noise", 2e-3), (torch.float64, "smooth", 3e-5)]
)
def test_reaction_diffusion_agrees_with_dop853(dtype: torch.dtype, kind: str, tolerance: float) -> None:
    grid, rng = Grid((24, 28), (2.0, 2.0), "no_flux", (-1.0, -1.0)), np.random.default_rng(0)
    initial = (
        white_noise(grid, 2, rng) if kind == "noise" else np.stack([smooth_field(grid, 0.15, rng) for _ in range(2)])
    )
    stepper = fitzhugh(grid, 0.05, dtype=dtype, tolerance=tolerance)
    states = rollout(stepper, torch.from_numpy(initial)[None].to(dtype), 101)
    truth = solve_ivp(lambda t, w: fitzhugh_rate(w, grid), (0, 5), initial.ravel(), "DOP853", rtol=1e-10, atol=1e-10)
    error = relative_error(states[0, -1].double().numpy(), truth.y[:, -1].reshape(2, *grid.shape))
    assert error < 2e-4


def test_reaction_diffusion_has_order_two_in_space() -> None:
    def final(n: int) -> np.ndarray:
        grid = Grid((n, n), (2.0, 2.0), "no_flux", (-1.0, -1.0))
        rng = np.random.default_rng(1)
        u = torch.from_numpy(np.stack([smooth_field(grid, 0.3, rng) for _ in range(2)]))[None]
        return fitzhugh(grid, 0.5, tolerance=1e-6)(u).numpy()

    coarse, middle, fine = (final(n) for n in (20, 40, 80))
    grids = [Grid((n, n), (2.0, 2.0), "no_flux") for n in (20, 40)]
    first = np.linalg.norm(coarse - restrict(middle, grids[0]))
    second = np.linalg.norm(restrict(middle - restrict(fine, grids[1]), grids[0]))
    assert order(first, second) == pytest.approx(2, abs=0.25)


# --- burgers ---------------------------------------------------------------------------------------------------------


def test_burgers_matches_the_reference(shared_data: Path) -> None:
    with h5py.File(shared_data / "burgers_reference.h5") as file:
        x, t, truth, nu = file["x"][:], file["t"][:], file["u"][:], float(file.attrs["nu"])
    grid = Grid((320,), (2.0,), "dirichlet", (-1.0,))
    (cells,) = grid.coordinates.values()
    stepper = viscous_burgers(columns(grid, viscosity=[nu]), grid, float(t[1] - t[0]))
    start = torch.from_numpy(-np.sin(np.pi * cells))[None, None]
    states = rollout(stepper, start, len(t), torch.float64)[0, :, 0].numpy()
    walls = np.concatenate([[-1.0], cells, [1.0]])
    values = np.array([CubicSpline(walls, np.concatenate([[0.0], state, [0.0]]))(x) for state in states])
    errors = np.linalg.norm(values - truth, axis=1) / np.linalg.norm(truth, axis=1)
    assert errors.max() < 1e-2
    assert relative_error(values, truth) < 1e-2


def test_burgers_has_order_two_against_the_cole_hopf_solution() -> None:
    """u = 2 nu pi sin(pi x) a / (b + a cos(pi x)), a = exp(-pi^2 nu t): zero on the walls x = 0 and 1."""
    nu, b, t = 0.1, 2.0, 0.5

    def exact(x: np.ndarray, t: float) -> np.ndarray:
        a = np.exp(-(np.pi**2) * nu * t)
        return 2 * nu * np.pi * a * np.sin(np.pi * x) / (b + a * np.cos(np.pi * x))

    errors = []
    for n in (20, 40):
        grid = Grid((n,), (1.0,), "dirichlet")
        (x,) = grid.coordinates.values()
        u = viscous_burgers(columns(grid, viscosity=[nu]), grid, t)(torch.from_numpy(exact(x, 0.0))[None, None])
        errors.append(np.abs(u[0, 0].numpy() - exact(x, t)).max())
    assert order(*errors) == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_burgers_has_order_two_on_an_oblique_wave(axes: int) -> None:
    """u(x_1 + ... + x_d, t) solves the equation in d dimensions as Cole and Hopf's u(x, d t) does in one."""
    nu, b, t, k = 0.05, 2.0, 0.03, 2 * np.pi

    def exact(grid: Grid, t: float) -> np.ndarray:
        along = sum(np.meshgrid(*grid.coordinates.values(), indexing="ij"))
        a = np.exp(-(k**2) * nu * axes * t)
        return np.asarray(2 * nu * k * a * np.sin(k * along) / (b + a * np.cos(k * along)))

    errors = []
    for n in (24, 48) if axes < 3 else (16, 32):
        grid = Grid((n,) * axes, (1.0,) * axes)
        start = torch.from_numpy(exact(grid, 0.0))[None, None]
        u = viscous_burgers(columns(grid, viscosity=[nu]), grid, t)(start)
        errors.append(relative_error(u[0, 0].numpy(), exact(grid, t)))
    assert order(*errors) == pytest.approx(2, abs=0.25)


@pytest.mark.parametrize("shape", [(64,), (24, 20)])
def test_burgers_conserves_the_mean_loses_energy_and_stays_in_bounds(shape: tuple[int, ...]) -> None:
    """Hardly any viscosity: the cell Peclet number is in the thousands."""
    grid = Grid(shape, (1.0,) * len(shape))
    u = torch.from_numpy(smooth_field(grid, 0.12, np.random.default_rng(0)))[None, None]
    states = rollout(viscous_burgers(columns(grid, viscosity=[1e-6]), grid, 0.05), u, 9, torch.float64).flatten(2)
    torch.testing.assert_close(states.mean(-1), u.mean().expand(1, 9), rtol=0, atol=1e-14)
    assert (states.square().sum(-1).diff() < 0).all()
    width = float(u.max() - u.min())
    assert states.max() < u.max() + 5e-3 * width
    assert states.min() > u.min() - 5e-3 * width


# --- gray_scott ------------------------------------------------------------------------------------------------------


def test_gray_scott_agrees_with_an_adaptive_integrator() -> None:
    grid, rates = Grid((20, 20), (0.6, 0.6)), {"feed_rate": np.array([0.03]), "kill_rate": np.array([0.062])}
    y, x = np.meshgrid(*grid.coordinates.values(), indexing="ij")
    b = np.exp(-((y - 0.3) ** 2 + (x - 0.25) ** 2) / 0.01)
    initial = np.stack([1 - 0.5 * b, 0.3 * b])
    k = 2 * np.pi * np.fft.fftfreq(20, 0.03)
    squares = k[:, None] ** 2 + k[None] ** 2

    def rate(_: float, w: np.ndarray) -> np.ndarray:
        a, b = w.reshape(2, 20, 20)
        lap_a, lap_b = (np.fft.ifft2(-squares * np.fft.fft2(f)).real for f in (a, b))
        return np.stack([2e-5 * lap_a - a * b**2 + 0.03 * (1 - a), 1e-5 * lap_b + a * b**2 - 0.092 * b]).ravel()

    truth = solve_ivp(rate, (0, 100), initial.ravel(), "DOP853", rtol=1e-10, atol=1e-12).y[:, -1].reshape(2, 20, 20)
    stepper = gray_scott_stepper(rates, grid, 100.0, Numerics(), steps=100)
    np.testing.assert_allclose(stepper(torch.from_numpy(initial)[None])[0], truth, atol=2e-6)


@pytest.mark.parametrize("boundary", ["periodic", "no_flux"])
def test_gray_scott_is_spectral_in_space(boundary: str) -> None:
    def final(n: int) -> np.ndarray:
        grid = Grid((n,), (0.3,), boundary)
        (x,) = grid.coordinates.values()
        b = 0.5 + 0.5 * np.cos(2 * np.pi * x / 0.3)
        rates = {"feed_rate": np.array([0.03]), "kill_rate": np.array([0.06])}
        u = torch.from_numpy(np.stack([1 - 0.5 * b, 0.3 * b]))[None]
        return gray_scott_stepper(rates, grid, 50.0, Numerics(), steps=50)(u).numpy()

    coarse, fine = final(48), final(96)
    if boundary == "periodic":
        assert np.abs(coarse - fine[..., ::2]).max() < 1e-6
    else:  # the mean of the two halves of a cell differs from its centre by h^2 u'' / 32
        assert np.abs(coarse - restrict(fine, Grid((48,), (0.3,), boundary))).max() < 1e-3


@pytest.mark.parametrize("boundary", ["periodic", "no_flux"])
@pytest.mark.parametrize("initial", [0.0, 1.0])
@pytest.mark.parametrize("axes", [1, 2])
def test_gray_scott_starts_from_the_same_functions_on_every_grid(boundary: str, initial: float, axes: int) -> None:
    values = {"regime": 2.0, "initial": initial}
    grids = [Grid((n,) * axes, (2.0,) * axes, boundary, (-1.0,) * axes) for n in (40, 120)]
    coarse, fine = (EQUATIONS["gray_scott"].draw(values, g, np.random.default_rng(4)).initial for g in grids)
    for axis in range(1, 1 + axes):  # points of the coarse grid are every third one of the fine grid
        fine = fine.take(range(0 if boundary == "periodic" else 1, fine.shape[axis], 3), axis)
    np.testing.assert_allclose(coarse, fine, atol=1e-12)
    if initial == 0:
        assert fine.min() > -0.05
        assert fine.max() < 1.05


class Mean(np.random.Generator):
    """Every uniform number is its mean."""

    def random(self, size: tuple[int, ...]) -> np.ndarray:
        return np.full(size, 0.5)


def test_gray_scott_series_start_about_a_steady_state() -> None:
    grid, rng = Grid((40,), (2.0,)), Mean(np.random.PCG64(0))
    for regime, (name, (feed, kill)) in enumerate(REGIMES.items()):
        a, b = EQUATIONS["gray_scott"].draw({"regime": float(regime), "initial": 1.0}, grid, rng).initial
        np.testing.assert_allclose(feed * (1 - a), a * b**2, atol=1e-15)
        np.testing.assert_allclose(a * b**2, (feed + kill) * b, atol=1e-15)
        assert (b.mean() > 0.2) == (name == "bubbles")  # the one regime that has such a state


@pytest.mark.parametrize("boundary", ["periodic", "no_flux"])
def test_diffusion_alone_conserves_the_means(boundary: str) -> None:
    """The integrators of gray_scott and of reaction_diffusion without reaction."""
    grid, rng = Grid((20, 24), (1.0, 1.2), boundary), np.random.default_rng(0)
    u = torch.from_numpy(white_noise(grid, 2, rng))[None]
    diffusivity = columns(grid, D=[1e-3])["D"]
    laplacian = Laplacian(grid.spacing, boundary)
    stiffness = 4e-3 * sum(1 / h**2 for h in grid.spacing)
    steppers = [
        ETDRK4(torch.zeros_like, np.array([[2e-3, 1e-3]]), grid, 1.0, 4, Numerics()),
        RKC2(lambda u, p: laplacian(u, p["D"]), lambda u, p: torch.full((len(u),), stiffness), {"D": diffusivity}, 1.0),
    ]
    for stepper in steppers:
        states = rollout(stepper, u, 4, torch.float64)
        means = states.mean(dim=(3, 4))
        torch.testing.assert_close(means, means[:, :1].expand_as(means), rtol=0, atol=1e-15)
        assert (states.square().sum(dim=(2, 3, 4)).diff() < 0).all()


# --- convection_diffusion between walls ------------------------------------------------------------------------------


def drift(grid: Grid, speed: float, D: float, interval: float):
    velocity = {f"velocity_{axis}": [speed] for axis in grid.axes}
    return settling(columns(grid, diffusivity=[D], **velocity), grid, interval)


@pytest.mark.parametrize("shape", [(40,), (18, 20), (18, 18, 18)])
def test_a_closed_box_keeps_what_is_in_it(shape: tuple[int, ...]) -> None:
    grid = Grid(shape, (1.0,) * len(shape), "no_flux")
    u = torch.from_numpy(white_noise(grid, 1, np.random.default_rng(0)))[None]
    states = rollout(drift(grid, 0.5, 1e-3, 0.05), u, 4, torch.float64).flatten(2)
    torch.testing.assert_close(states.mean(-1), u.mean().expand(1, 4), rtol=0, atol=1e-14)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_closed_box_settles_to_the_exponential_profile_with_order_two(axes: int) -> None:
    """v u = D grad u at rest: u = exp(v . x / D) times a constant."""
    errors = []
    for n in {1: (16, 32), 2: (10, 20), 3: (6, 12)}[axes]:
        grid, v, D = Grid((n,) * axes, (1.0,) * axes, "no_flux"), 1.0, 0.5
        profile = np.exp(v * sum(np.meshgrid(*grid.coordinates.values(), indexing="ij")) / D)
        u = drift(grid, v, D, 0.1)(torch.from_numpy(profile)[None, None])[0, 0].numpy()
        errors.append(relative_error(u, profile))
    assert order(*errors) == pytest.approx(2, abs=0.25)


def test_a_front_in_a_closed_box_stays_without_oscillations() -> None:
    """A step carried at a cell Peclet number of 5000."""
    grid = Grid((50,), (1.0,), "no_flux")
    (x,) = grid.coordinates.values()
    u = torch.from_numpy(np.where((x > 0.2) & (x < 0.4), 1.0, 0.0))[None, None]
    moved = drift(grid, 1.0, 4e-6, 0.3)(u)[0, 0].numpy()
    assert moved.min() > -5e-3
    assert moved.max() < 1 + 5e-3
    assert x[moved > 0.5].mean() == pytest.approx(0.6, abs=0.01)


# --- convection_diffusion_reaction -----------------------------------------------------------------------------------


def test_reacting_flow_has_order_two_at_the_sensors() -> None:
    y = np.random.default_rng(0).uniform(-2, 2, (1, cdr.PARAMETERS))

    def sensors(n: int) -> np.ndarray:
        grid = Grid((n, n), (1.0, 1.0), "no_flux")
        u = reacting_flow({"y": y}, grid, 0.2, Numerics())(torch.zeros(1, 1, n, n, dtype=torch.float64))
        return cdr._observe(u, grid).numpy()

    values = [sensors(n) for n in (16, 32, 64)]
    first, second = (np.linalg.norm(values[i] - values[i + 1]) for i in (0, 1))
    assert order(first, second) > 1.6


def test_reacting_flow_conserves_what_its_source_feeds() -> None:
    grid = Grid((20, 24), (1.0, 1.0), "no_flux")
    stepper = reacting_flow({"y": np.zeros((1, cdr.PARAMETERS))}, grid, 0.1, Numerics())
    states = rollout(stepper, torch.zeros(1, 1, 20, 24, dtype=torch.float64), 4, torch.float64)
    mass = states.mean(dim=(2, 3, 4))[0]
    fed = float(np.mean(cdr._source(grid)))
    np.testing.assert_allclose(mass, fed * np.array([0, 0.1, 0.2, 0.3]), rtol=1e-12, atol=1e-15)
    v_y, v_x = cdr.face_velocities(grid)
    divergence = np.diff(v_y, axis=0) / grid.spacing[0] + np.diff(v_x, axis=1) / grid.spacing[1]
    assert np.abs(divergence).max() < 1e-12
    assert np.abs(v_y[[0, -1]]).max() < 1e-15


def test_reacting_flow_agrees_with_an_adaptive_integrator() -> None:
    grid, y = Grid((16, 16), (1.0, 1.0), "no_flux"), np.random.default_rng(1).uniform(-3, 3, (1, cdr.PARAMETERS))
    stepper = reacting_flow({"y": y}, grid, 0.3, Numerics())

    def rate(_: float, w: np.ndarray) -> np.ndarray:
        return stepper.rate(torch.from_numpy(w.reshape(1, 1, 16, 16)), stepper.parameters).numpy().ravel()

    truth = solve_ivp(rate, (0, 0.3), np.zeros(256), "DOP853", rtol=1e-9, atol=1e-11).y[:, -1]
    assert relative_error(stepper(torch.zeros(1, 1, 16, 16, dtype=torch.float64)).numpy().ravel(), truth) < 2e-5


# --- steady problems -------------------------------------------------------------------------------------------------


def test_steady_diffusion_has_order_two_on_a_manufactured_solution() -> None:
    """u = cos(pi z / 2) sin(pi y) sin(pi x), m = 1 + z / 2: no flux at z = 0, zero on the other walls."""
    errors = []
    for n in (8, 16):
        grid = Grid((n, n, n), (1.0, 1.0, 1.0), "no_flux")
        z, y, x = np.meshgrid(*grid.coordinates.values(), indexing="ij")
        across = np.sin(np.pi * y) * np.sin(np.pi * x)
        u, m = np.cos(np.pi * z / 2) * across, 1 + z / 2
        right = 2.25 * np.pi**2 * m * u + 0.25 * np.pi * np.sin(np.pi * z / 2) * across
        matrix = diffusion_matrix(m, grid, ((False, True), (True, True), (True, True)))
        assert abs(matrix - matrix.T).max() < 1e-12
        errors.append(np.abs(solve_sparse(matrix, right.ravel()).reshape(grid.shape) - u).max())
    assert order(*errors) == pytest.approx(2, abs=0.2)


def test_a_steady_problem_without_ground_is_refused() -> None:
    grid = Grid((4, 4), (1.0, 1.0), "no_flux")
    with pytest.raises(NumericalError, match="without a grounded wall"):
        diffusion_matrix(np.ones(grid.shape), grid, ((False, False), (False, False)))
    with pytest.raises(NumericalError, match="no unique solution"):
        solve_sparse(sparse.csc_matrix((16, 16)), np.ones(16))


def homogeneous_voltages(lengths: tuple[float, ...]) -> np.ndarray:
    """Voltages above ground of 1 S/m: a series of cos((l + 1/2) pi z / L_z) sin(m pi y / L_y) sin(n pi x / L_x)."""
    ks = [np.pi * (np.arange(40) + shift) / length for shift, length in zip((0.5, 1, 1), lengths, strict=True)]
    squares = sum(k**2 for k in np.meshgrid(*ks, indexing="ij"))
    weights = 8 / np.prod(lengths) * np.exp(-0.5 * squares * dc.ELECTRODE_WIDTH**2) / squares
    y, x = (dc._positions(length) for length in lengths[1:])

    def potential(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        waves = [np.sin(np.outer(k, points)) for k, points in zip(ks[1:], (y, x), strict=True)]
        feet = sum(c * np.outer(np.sin(ks[1] * b), np.sin(ks[2] * a)) for b, a, c in dc.ELECTRODES)
        return np.asarray(np.einsum("mn,my,nx->yx", weights.sum(axis=0) * feet, *waves))

    half = 0.5 * dc.DIPOLE
    return np.stack([potential(y + half, x) - potential(y - half, x), potential(y, x + half) - potential(y, x - half)])


def test_dc_resistivity_has_order_two_against_the_series_of_plain_ground() -> None:
    none = {"depth": np.array([0.2]), "radius": np.array([1e-4]), "angle": np.zeros(1)}
    lengths = (0.5, 1.0, 1.0)
    truth = homogeneous_voltages(lengths)
    grids = [Grid((n, 2 * n, 2 * n), lengths, "no_flux") for n in (8, 16)]
    errors = [relative_error(EQUATIONS["dc_resistivity"].solve(none, grid)[0], truth) for grid in grids]
    assert errors[1] < 6e-3
    assert order(*errors) > 1.8


def test_dc_resistivity_sees_the_ellipsoid() -> None:
    ensemble = Ensemble(load_recipe("dc_resistivity"), "tiny")
    plain = ensemble.equation.solve(
        {"depth": np.array([0.15, 0.15]), "radius": np.array([1e-4, 0.1]), "angle": np.zeros(2)}, ensemble.grid
    )
    assert plain.shape == (2, 2, 21, 21)
    np.testing.assert_allclose(plain[:, 1], plain[:, 1, ::-1], atol=1e-12)  # everything is symmetric about the middle
    np.testing.assert_allclose(plain[:, 0], -plain[:, 0, ::-1], atol=1e-12)
    assert relative_error(plain[1], plain[0]) > 0.05
    ground = conductivity(0.15, 0.1, 0.0, ensemble.grid)
    assert 1 <= ground.min() < 1.01
    assert 5 < ground.max() <= 10


def test_peaks_has_its_known_extrema() -> None:
    np.testing.assert_allclose(evaluate_peaks(np.array(-0.0093), np.array(1.5814)), 8.1062, atol=1e-4)
    np.testing.assert_allclose(evaluate_peaks(np.array(0.2283), np.array(-1.6255)), -6.5511, atol=1e-4)
