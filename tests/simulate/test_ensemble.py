"""Ensembles: one seed per simulation, names and units, members that blow up."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from surrogate.errors import ConfigError, NumericalError, ResourceError
from surrogate.simulate import Ensemble, Recipe, load_recipe, simulate_members

SMALL = ["sizes.tiny.grid=[18, 20]", "sizes.tiny.snapshots=4", "sizes.tiny.simulations=12"]


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe("convection_diffusion", SMALL)


@pytest.fixture(scope="module")
def whole(recipe: Recipe) -> xr.Dataset:
    return simulate_members(recipe, "tiny", range(12))


@settings(max_examples=10, deadline=None)
@given(numbers=st.lists(st.integers(0, 11), min_size=1, max_size=5, unique=True), batch=st.integers(1, 6))
def test_members_are_the_same_in_any_batch_and_order(
    recipe: Recipe, whole: xr.Dataset, numbers: list[int], batch: int
) -> None:
    ensemble = Ensemble(recipe, "tiny")
    again = ensemble.dataset(ensemble.run(numbers, batch=batch))
    xr.testing.assert_identical(again, whole.isel(sample=numbers))


def test_seed_and_number_make_members_differ(recipe: Recipe, whole: xr.Dataset) -> None:
    assert len(np.unique(whole.diffusivity)) == 12
    other = simulate_members(recipe.model_copy(update={"seed": recipe.seed + 1}), "tiny", [0])
    assert not np.array_equal(other.u, whole.u[:1])


def test_names_units_and_ranges(whole: xr.Dataset, recipe: Recipe) -> None:
    assert whole.u.dims == ("sample", "time", "y", "x")
    assert whole.u.dtype == np.float32
    assert all(variable.attrs.keys() >= {"units", "long_name"} for variable in whole.variables.values())
    speed = np.hypot(whole.velocity_x, whole.velocity_y)
    for values, name in ((speed, "speed"), (whole.diffusivity, "diffusivity")):
        bounds = recipe.parameters[name]
        assert bounds.low <= values.min() < values.max() <= bounds.high
    np.testing.assert_allclose(whole.time, np.linspace(0, 1, 4))
    np.testing.assert_allclose(whole.x, np.arange(20) / 20)


def test_stored_members_solve_the_equation(whole: xr.Dataset) -> None:
    """The stored parameters, the initial field and the equation give the last snapshot."""
    one = whole.isel(sample=3)
    ky = 2 * np.pi * np.fft.fftfreq(18, 1 / 18)[:, None]
    kx = 2 * np.pi * np.fft.fftfreq(20, 1 / 20)[None]
    exponent = -1j * (ky * float(one.velocity_y) + kx * float(one.velocity_x)) - float(one.diffusivity) * (
        ky**2 + kx**2
    )
    exact = np.fft.ifft2(np.exp(exponent) * np.fft.fft2(one.u.values[0].astype(float))).real
    np.testing.assert_allclose(one.u.values[-1], exact, atol=5e-7)


def test_a_member_that_blows_up_leaves_the_data(recipe: Recipe) -> None:
    ensemble = Ensemble(recipe, "tiny")
    results = ensemble.run(range(4), batch=4)
    results.states[1, 2, 0, 3, 3] = torch.inf
    bad = type(results)(results.numbers, results.parameters, results.states, torch.tensor([True, False, True, True]))
    assert list(ensemble.dataset(bad).simulation.values) == [0, 2, 3]
    assert list(bad.failed) == [1]
    bad.check(limit=1)
    with pytest.raises(NumericalError, match=r"1 of 4 simulations blew up, first number 1 \(velocity_y=.*diffusivity="):
        bad.check()


def test_messages(recipe: Recipe) -> None:
    with pytest.raises(ConfigError, match="no size 'tine'; did you mean 'tiny'"):
        Ensemble(recipe, "tine")
    with pytest.raises(ConfigError, match="give numbers from 0 to 11"):
        simulate_members(recipe, "tiny", [12])
    with pytest.raises(ResourceError, match=r"device cuda:77 cannot be used: .*; use --device cpu"):
        Ensemble(recipe, "tiny", "cuda:77")
    with pytest.raises(ResourceError, match="device gpu cannot be used"):
        Ensemble(recipe, "tiny", "gpu")
