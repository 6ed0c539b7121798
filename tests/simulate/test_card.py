"""Cards and pictures: written by one command, and those in the catalogue are what it writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import xarray as xr
from typer.testing import CliRunner

from surrogate.cli import app
from surrogate.simulate import load_recipe, simulate_members
from surrogate.simulate.picture import draw_dataset, write_picture

CATALOGUE = Path(__file__).resolve().parents[2] / "datasets"
NAMES = sorted(path.parent.name for path in CATALOGUE.glob("*/recipe.yaml"))
QUICK = {"peaks", "reaction_diffusion"}
PNG = b"\x89PNG"


MEASURED = r"\d\.\de[+-]\d\d"


def without_measurements(card: str) -> str:
    return re.sub(MEASURED, "#", card)


def measurements(card: str) -> list[float]:
    return [float(number) for number in re.findall(MEASURED, card)]


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_the_command_writes_the_card_of_the_catalogue(name: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["simulate", name, "--size", "tiny", "--card", str(tmp_path / name)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / name / "picture.png").read_bytes()[:4] == PNG
    made, kept = ((folder / name / "README.md").read_text() for folder in (tmp_path, CATALOGUE))
    assert without_measurements(made) == without_measurements(kept)
    assert measurements(made) == pytest.approx(measurements(kept), rel=0.3)


@pytest.mark.parametrize("name", NAMES)
def test_cards_are_complete_and_pictures_small(name: str) -> None:
    card = (CATALOGUE / name / "README.md").read_text()
    for heading in ("Problem", "Parameters", "Discretisation", "Files", "Sizes", "Making it again", "Licence"):
        assert f"## {heading}" in card
    assert "(picture.png)" in card
    picture = (CATALOGUE / name / "picture.png").read_bytes()
    assert picture[:4] == PNG
    assert len(picture) < 70_000
    recipe = load_recipe(name)
    assert recipe.about in card
    assert all(f"`{parameter}`" in card for parameter in recipe.parameters)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_pictures_of_any_dimension(axes: int, tmp_path: Path) -> None:
    sizes = f"sizes={{tiny: {{simulations: 3, grid: {[18] * axes}, snapshots: 3, final_time: 1.0, shard: 3}}}}"
    recipe = load_recipe("convection_diffusion", [f"lengths={[1.0] * axes}", sizes])
    ds: xr.Dataset = simulate_members(recipe, "tiny", [0, 2])
    write_picture(ds, ["u"], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes()[:4] == PNG


def test_colour_bars_name_their_field_and_its_unit() -> None:
    ds = xr.Dataset(
        {"T": (("sample", "y", "x"), [[[0.0, 1.0], [2.0, 3.0]]], {"units": "K"})}, {"y": [0, 1], "x": [0, 1]}
    )
    labels = [ax.get_ylabel() for ax in draw_dataset(ds, ["T"]).axes]
    assert labels == ["y", "T [K]"]
