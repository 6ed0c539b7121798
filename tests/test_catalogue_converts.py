"""Data of every recipe, written by `convert` in the layouts of the field, are read back equal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from surrogate.data import open_snapshots
from surrogate.data.convert import convert
from surrogate.errors import DataError
from surrogate.simulate.generate import generate, load_recipe

SMALL = {
    "reaction_diffusion": ["grid=[18, 20]", "snapshots=4", "final_time=0.3"],
    "reaction_diffusion_smooth": ["grid=[18, 20]", "snapshots=4", "final_time=0.3"],
    "burgers": ["grid=[32]", "snapshots=4", "final_time=0.1"],
    "burgers_2d": ["grid=[18, 20]", "snapshots=3", "final_time=0.1"],
    "gray_scott": ["grid=[34, 36]", "snapshots=3", "final_time=10.0"],
    "convection_diffusion": ["grid=[18, 20]", "snapshots=3"],
    "convection_diffusion_box": ["grid=[18, 20]", "snapshots=3", "final_time=0.2"],
    "convection_diffusion_reaction": ["grid=[16, 16]", "snapshots=3", "final_time=0.1"],
    "dc_resistivity": ["grid=[8, 8, 8]"],
    "peaks": [],
    "obstacle": ["grid=[8, 32]"],
}
PERIODIC = {"burgers", "gray_scott", "convection_diffusion"}
IN_TIME = sorted(SMALL.keys() - {"convection_diffusion_reaction", "dc_resistivity", "peaks", "obstacle"})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Five simulations of every recipe in shards of two."""
    folder = tmp_path_factory.mktemp("catalogue")

    def make(name: str) -> Path:
        entries = [f"sizes.tiny.{entry}" for entry in [*SMALL[name], "simulations=5", "shard=2"]]
        return generate(load_recipe(name, entries), "tiny", folder / name)

    return {name: make(name) for name in SMALL}


def assert_same(found: xr.Dataset, expected: xr.Dataset, *, dtype: type = np.float64, units: bool = True) -> None:
    """Fields bit for bit; coordinates and parameters, which we hold in double precision, as `dtype` holds them."""
    added = ["origin", "group", "x_wall_mask", "y_wall_mask", "x_periodic_mask", "y_periodic_mask"]  # by the layout
    found, expected = (ds.drop_vars(added, errors="ignore").reset_coords() for ds in (found, expected))
    assert {*found.variables} == {*expected.variables}
    for name, variable in expected.variables.items():
        values = variable.values if variable.dtype == np.float32 else variable.values.astype(dtype)
        other = found.variables[name]
        np.testing.assert_array_equal(other.transpose(*variable.dims).values.astype(values.dtype), values, str(name))
        assert not units or other.attrs.get("units") == variable.attrs.get("units"), name


@pytest.mark.parametrize("name", [*IN_TIME, "dc_resistivity"])
def test_the_well(made: dict[str, Path], tmp_path: Path, name: str) -> None:
    """Float32 throughout, as The Well stores everything; and from there to shards without a further loss."""
    source = open_snapshots(made[name])
    convert(made[name], tmp_path / "well", "the_well")
    well = open_snapshots(tmp_path / "well", "the_well")
    assert_same(well if "time" in source.dims else well.isel(time=0, drop=True), source, dtype=np.float32)
    convert(tmp_path / "well", tmp_path / "shards", "shards")
    assert_same(open_snapshots(tmp_path / "shards"), well)
    kinds = {entry["bc_type"] for entry in json.loads(well.attrs.get("boundary_conditions", "{}")).values()}
    assert kinds == (set() if name == "dc_resistivity" else {"periodic" if name in PERIODIC else "wall"})


@pytest.mark.parametrize("name", IN_TIME)
def test_pdebench(made: dict[str, Path], tmp_path: Path, name: str) -> None:
    """One group for each simulation: a float32 array of all fields, float32 axes, parameters as text, no units."""
    source = open_snapshots(made[name])
    convert(made[name], tmp_path / "pdebench", "pdebench")
    found = open_snapshots(tmp_path / "pdebench", "pdebench")
    np.testing.assert_array_equal(found.seed, source.simulation)  # the name of the group
    fields = {str(channel): found.data.sel(channel=channel, drop=True) for channel in found.channel.values}
    found = found.assign(fields).drop_vars(["data", "channel", "seed"])
    assert_same(found, source, dtype=np.float32, units=False)
    for parameter in load_recipe(name).parameters.keys() & source.variables.keys():
        np.testing.assert_array_equal(found[parameter], source[parameter])


@pytest.mark.parametrize("name", SMALL)
def test_shards(made: dict[str, Path], tmp_path: Path, name: str) -> None:
    convert(made[name], tmp_path / "again", "shards")
    assert_same(open_snapshots(tmp_path / "again"), open_snapshots(made[name]))


@pytest.mark.parametrize(
    ("name", "target"),
    [("peaks", "the_well"), ("peaks", "pdebench"), ("dc_resistivity", "pdebench")]
    + [(name, target) for name in ("convection_diffusion_reaction", "obstacle") for target in ("the_well", "pdebench")],
)
def test_what_is_no_field_in_time_is_refused(made: dict[str, Path], tmp_path: Path, name: str, target: str) -> None:
    with pytest.raises(DataError, match=r"spatial ax|other fields|there is no field|needs sample, time"):
        convert(made[name], tmp_path / "out", target)
