"""The obstacle recipe: finite elements against analytic solutions, distances, meshes, and files from start to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from surrogate.data import open_snapshots
from surrogate.data.inspect import describe
from surrogate.data.mesh import geometry_of, volumes_of
from surrogate.errors import ConfigError
from surrogate.simulate import load_recipe, simulate_members
from surrogate.simulate.generate import generate
from surrogate.simulate.measure import measure_errors
from surrogate.simulate.steppers.triangles import Ellipse, Triangles, mesh_around, solve_laplace

BOX = np.array([-1.0, -1.0]), np.array([1.0, 1.0])
ELLIPSES = [Ellipse(0.0, 0.0, 0.3, 0.3), Ellipse(0.2, -0.3, 0.4, 0.2, 0.7), Ellipse(-0.4, 0.1, 0.15, 0.38, 1.2)]


def to_circle(points: np.ndarray, ellipse: Ellipse) -> np.ndarray:
    """Map the outside of an ellipse conformally to that of the unit circle, by Joukowski's map.

    In the frame of the ellipse z = (a + b) w / 2 + (a - b) / (2 w), hence w = z (1 + sqrt(1 - c^2 / z^2)) / (a + b)
    with c^2 = a^2 - b^2.
    """
    z = (points - ellipse.centre) @ [1, 1j] * np.exp(-1j * ellipse.angle)
    return z * (1 + np.sqrt(1 - (ellipse.a**2 - ellipse.b**2) / z**2)) / (ellipse.a + ellipse.b)


def refined(ellipse: Ellipse, *levels: int) -> list[Triangles]:
    return [mesh_around(ellipse, 4 * level, 16 * level, *BOX) for level in levels]


def error(mesh: Triangles, u: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt((mesh.volumes * (u - truth) ** 2).sum() / (mesh.volumes * truth**2).sum()))


@pytest.mark.parametrize("ellipse", ELLIPSES)
@pytest.mark.parametrize("flow", [False, True], ids=["given on the obstacle", "no flux through the obstacle"])
def test_finite_elements_have_order_two_against_analytic_solutions(ellipse: Ellipse, flow: bool) -> None:
    """log |w|, and the potential Re(w + 1 / w) of a flow past the obstacle; for a circle (r + a^2 / r) cos(theta)."""
    errors = []
    for mesh in refined(ellipse, 4, 8):
        w, wall = to_circle(mesh.points, ellipse), np.arange(len(mesh.points))[-mesh.rays :]
        truth = (w * np.exp(0.4j) + np.exp(-0.4j) / w).real if flow else 1 - np.log(abs(w))
        fixed = wall if flow else np.concatenate([np.arange(mesh.rays), wall])
        errors.append(error(mesh, solve_laplace(mesh, fixed, truth[fixed]), truth))
    assert errors[1] < 0.003
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.15)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.05, 0.5), st.floats(0.05, 0.5), st.floats(-7, 7), st.floats(0, 2 * np.pi), st.floats(0, 2))
def test_distances_are_those_to_a_fine_polygon(a: float, b: float, turn: float, at: float, away: float) -> None:
    ellipse, t = Ellipse(0.1, -0.2, a, b, turn), np.linspace(0, 2 * np.pi, 20001)
    curve = ellipse.centre + ellipse.radius(t)[:, None] * np.stack([np.cos(t), np.sin(t)], -1)
    point = ellipse.centre + (ellipse.radius(np.array(at)) + away) * np.array([np.cos(at), np.sin(at)])
    nearest = np.linalg.norm(curve - point, axis=1).min()
    assert ellipse.distance(point[None])[0] == pytest.approx(nearest, abs=1e-3 * nearest + 1e-4)


@pytest.mark.parametrize("ellipse", ELLIPSES)
def test_meshes_cover_the_box_outside_of_the_obstacle_and_nest(ellipse: Ellipse) -> None:
    coarse, fine, finest = refined(ellipse, 1, 2, 8)
    assert (coarse.volumes > 0).all()
    assert finest.volumes.sum() == pytest.approx(4 - np.pi * ellipse.a * ellipse.b, rel=1e-3)
    gaps = np.linalg.norm(coarse.points[:, None] - fine.points, axis=-1).min(1)
    assert gaps.max() < 1e-12
    assert {(x, y) for x in (-1.0, 1.0) for y in (-1.0, 1.0)} <= set(map(tuple, coarse.points))
    np.testing.assert_allclose(ellipse.distance(coarse.points[: coarse.rays]), 0, atol=1e-12)


def test_the_recipe_converges() -> None:
    recipes = [load_recipe("obstacle", [f"sizes.tiny.grid={grid}"]) for grid in ([8, 32], [16, 64])]
    errors = [measure_errors(recipe, "tiny").space for recipe in recipes]
    assert errors[0] is not None
    assert errors[1] is not None
    assert errors[1] < 0.01
    assert np.log2(errors[0] / errors[1]) > 1.5


def test_fields_and_meshes_of_a_member() -> None:
    ds = simulate_members(load_recipe("obstacle"), "tiny", [0, 7])
    counts = np.isfinite(ds["x"]).sum("point").values
    assert len(set(counts)) == 2
    for sample, count in enumerate(counts):
        own = ds.isel(sample=sample, point=slice(count))
        assert np.isfinite(own["temperature"]).all()
        assert float(own["temperature"].min()) > -1e-6
        assert float(own["temperature"].max()) < 1 + 1e-6
        np.testing.assert_allclose(own["temperature"].values[own["boundary"] == 1], 1)
        np.testing.assert_allclose(own["temperature"].values[own["boundary"] == 2], 0)
        np.testing.assert_allclose(abs(own["x"].values[own["boundary"] == 2]), 1)
        np.testing.assert_allclose(abs(own["y"].values[own["boundary"] == 3]), 1)
        assert set(np.unique(own["boundary"])) == {0, 1, 2, 3}
        mesh = geometry_of(ds, "point", sample=sample)
        cells = mesh["cells"].values[(mesh["cells"].values >= 0).all(1)]
        plain = xr.Dataset({"u": ("point", np.ones(count))}, {"x": own["x"], "y": own["y"]})
        again = volumes_of(plain.drop_vars("volume", errors="ignore").assign(cells=(("e", "c"), cells)), "point")
        np.testing.assert_allclose(own["volume"], again)
        assert np.isnan(ds["temperature"][sample, count:]).all()


def test_an_obstacle_that_reaches_the_walls_is_refused() -> None:
    recipe = load_recipe("obstacle", ["parameters.centre_x={low: 0.7, high: 0.9, units: m}"])
    with pytest.raises(ConfigError, match=r"the obstacle at .* reaches the walls; narrow the ranges"):
        simulate_members(recipe, "tiny", [0, 1, 2, 3])


def test_files_hold_what_was_simulated_and_a_damaged_one_is_made_again(tmp_path: Path) -> None:
    recipe = load_recipe("obstacle", ["sizes.tiny={simulations: 4, grid: [8, 32], shard: 2}"])
    folder = generate(recipe, "tiny", tmp_path / "data", batch=2)
    files = {path.name: path.read_bytes() for path in folder.glob("*.h5")}
    direct = simulate_members(recipe, "tiny", range(4))
    read = open_snapshots(folder)
    for name in ("temperature", "distance", "boundary", "x", "y", "volume", "cells", "angle"):
        np.testing.assert_array_equal(read[name].values, direct[name].values)
    (folder / "obstacle-00001.h5").write_bytes(b"cut off")
    (folder / "manifest.json").rename(folder / "progress.json")
    generate(recipe, "tiny", folder, batch=1, resume=True)
    assert {path.name: path.read_bytes() for path in folder.glob("*.h5")} == files


def test_points_that_a_simulation_does_not_have_are_no_fault(tmp_path: Path) -> None:
    folder = generate(
        load_recipe("obstacle", ["sizes.tiny={simulations: 3, grid: [8, 32], shard: 3}"]), "tiny", tmp_path / "d"
    )
    described = describe(str(folder))
    assert not [note for note in described.notes if "NaN" in note]
    (report,) = [report for report in described.variables if report.path == "temperature"]
    assert report.decoded == ("NaN where a simulation has no such point",)
