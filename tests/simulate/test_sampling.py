"""Designs and tables of parameters; a member stays one that can be made alone."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import qmc

from surrogate.errors import ConfigError
from surrogate.simulate import Ensemble, Recipe, load_recipe, simulate_members
from surrogate.simulate.generate import generate
from surrogate.simulate.sampling import design

SMALL = ["lengths=[1.0]", "sizes={tiny: {simulations: 8, grid: [18], snapshots: 2, final_time: 1.0, shard: 4}}"]


def recipe(*more: str) -> Recipe:
    return load_recipe("convection_diffusion", [*SMALL, *more])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), simulations=st.integers(1, 60), parameters=st.integers(1, 60))
def test_latin_hypercube_has_one_simulation_in_every_layer(seed: int, simulations: int, parameters: int) -> None:
    shares = design("latin_hypercube", seed, simulations, parameters)
    layers = np.sort(np.floor(shares * simulations), axis=0)
    np.testing.assert_array_equal(layers, np.tile(np.arange(simulations)[:, None], (1, parameters)))


def test_sobol_covers_better_than_chance_and_goes_on_where_it_stopped() -> None:
    shares = design("sobol", 3, 128, 3)
    assert qmc.discrepancy(shares) < 0.3 * qmc.discrepancy(np.random.default_rng(0).random((128, 3)))
    np.testing.assert_array_equal(design("sobol", 3, 50, 3), shares[:50])
    assert not np.array_equal(design("sobol", 4, 50, 3), shares[:50])


@pytest.mark.parametrize("method", ["random", "latin_hypercube", "sobol"])
def test_a_member_can_be_made_alone_by_any_method(method: str) -> None:
    chosen = recipe(f"sampling.method={method}")
    whole = simulate_members(chosen, "tiny", range(8))
    xr.testing.assert_identical(simulate_members(chosen, "tiny", [6]), whole.isel(sample=[6]))
    assert len(np.unique(whole.diffusivity)) == 8


def test_vectors_get_a_number_for_every_entry() -> None:
    small = [
        "sizes.tiny.grid=[16, 16]",
        "sizes.tiny.snapshots=2",
        "sizes.tiny.final_time=0.01",
        "sampling.method=sobol",
    ]
    ensemble = Ensemble(load_recipe("convection_diffusion_reaction", small), "tiny")
    y = np.stack([ensemble.member(number).parameters["y"] for number in range(24)])
    assert y.shape == (24, 55)
    assert len(np.unique(y)) == y.size
    assert -3 <= y.min() < -2
    assert 2 < y.max() <= 3


def write_table(path: Path, **columns: list[float]) -> str:
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name, values in columns.items():
                file[name] = values
    else:
        rows = zip(*columns.values(), strict=True)
        path.write_text("\n".join([", ".join(columns), *(", ".join(map(str, row)) for row in rows)]) + "\n")
    return f"sampling={{method: table, table: {path}}}"


GOOD = {"speed": [0.5] * 8, "diffusivity": list(np.linspace(1e-3, 8e-3, 8)), "correlation_length": [0.1] * 8}


@pytest.mark.parametrize("file", ["table.csv", "table.h5"])
def test_a_table_gives_every_parameter(tmp_path: Path, file: str) -> None:
    table = write_table(tmp_path / file, remark=[1.0] * 8, **GOOD)
    made = simulate_members(recipe(table), "tiny", [7, 2])
    np.testing.assert_allclose(made.diffusivity, [8e-3, 3e-3])
    np.testing.assert_allclose(np.abs(made.velocity_x), 0.5)


def test_a_vector_in_a_table_has_numbered_columns(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (24, 55))
    table = write_table(tmp_path / "y.csv", **{f"y_{i}": list(values[:, i]) for i in range(55)})
    ensemble = Ensemble(load_recipe("convection_diffusion_reaction", [table]), "tiny")
    np.testing.assert_allclose(ensemble.member(5).parameters["y"], values[5])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (GOOD | {"speed": [0.5] * 7 + [7.0]}, r"speed in row 7 is outside 0.2 to 1; correct the table or widen"),
        (GOOD | {"speed": [0.5] * 7 + [np.nan]}, "speed in row 7 is not a finite number"),
        ({name: values[:3] for name, values in GOOD.items()}, "has 3 rows of .*, the size has 8 simulations"),
        (
            {"sped": GOOD["speed"]} | {k: v for k, v in GOOD.items() if k != "speed"},
            "no column 'speed'; did you mean 'sped'",
        ),
    ],
)
@pytest.mark.parametrize("file", ["table.csv", "table.h5"])
def test_mistakes_of_a_table_are_named(tmp_path: Path, columns: dict, message: str, file: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Ensemble(recipe(write_table(tmp_path / file, **columns)), "tiny")


def test_files_that_are_no_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("speed, diffusivity\n1, 2, 3\n")
    with pytest.raises(ConfigError, match=r"cannot read table .* as CSV"):
        Ensemble(recipe(f"sampling={{method: table, table: {tmp_path / 'a.csv'}}}"), "tiny")
    with pytest.raises(ConfigError, match=r"cannot read table .*No such file"):
        Ensemble(recipe(f"sampling={{method: table, table: {tmp_path / 'b.csv'}}}"), "tiny")
    with pytest.raises(ConfigError, match="goes with `method: table` only"):
        recipe("sampling={method: table}")


def test_a_run_goes_on_with_the_table_it_was_begun_with(tmp_path: Path) -> None:
    table = write_table(tmp_path / "table.csv", **GOOD)
    output = generate(recipe(table), "tiny", tmp_path / "data")
    assert len(load_recipe(output / "recipe.yaml").sampling.sha256 or "") == 64
    write_table(tmp_path / "table.csv", **GOOD | {"speed": [0.6] * 8})
    with pytest.raises(ConfigError, match="was changed since the data set was begun"):
        Ensemble(load_recipe(output / "recipe.yaml"), "tiny")
    with pytest.raises(ConfigError, match=r"sampling.sha256"):
        generate(recipe(table), "tiny", output, resume=True)
