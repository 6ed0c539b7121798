"""Recipes: found by name, strict, with messages that name the mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surrogate.errors import ConfigError
from surrogate.simulate import Range, find_recipe, load_recipe

NAME = "convection_diffusion"


def test_found_by_name_or_path(tmp_path: Path) -> None:
    path = find_recipe(NAME)
    assert load_recipe(path) == load_recipe(NAME)
    copy = tmp_path / "mine.yaml"
    copy.write_text(path.read_text())
    assert load_recipe(copy) == load_recipe(NAME)


@pytest.mark.parametrize("name", ["../convection_diffusion", "/etc/passwd", "", "convection_difusion"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"no data set '.*' in the catalogue; .*convection_diffusion"):
        find_recipe(name)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("equation=convection_difusion", "equation: unknown equation; did you mean 'convection_diffusion'"),
        ("parameters.diffusivity.units=cm2 s-1", "diffusivity is in m2 s-1, not in cm2 s-1"),
        (
            "parameters.difusivity={low: 1, high: 2, units: m}",
            "unknown parameter 'difusivity'; did you mean 'diffusivity'",
        ),
        ("parameters={}", "no range for speed"),
        ("parameters.diffusivity.low=0", "a log scale needs low above zero"),
        ("parameters.speed.low=7", "low is above high"),
        ("sizes.tiny.grid=[32]", r"tiny.grid needs 2 axes of at least 18 points, got \[32\]"),
        ("sizes.tiny.grid=[32, 8]", r"tiny.grid needs 2 axes of at least 18 points"),
        ("sizes.tiny.simulations=0", "greater than 0"),
        ("lengths=[1.0, -1.0]", "a length is not above zero"),
        ("lengths=[1.0, .nan]", "finite number"),
        ("name=../elsewhere", "name"),
        ("sizes.huge={}", "sizes"),
        ("sede=1", "did you mean 'seed'"),
    ],
)
def test_mistakes_are_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(NAME, [override])


@given(
    st.floats(1e-6, 1e3), st.floats(1e-6, 1e3), st.floats(0, 1, exclude_max=True), st.sampled_from(["linear", "log"])
)
def test_ranges_stay_within_their_bounds(a: float, b: float, share: float, scale: str) -> None:
    low, high = sorted((a, b))
    value = Range.model_validate({"low": low, "high": high, "units": "1", "scale": scale}).at(share)
    assert low * (1 - 1e-12) <= value <= high * (1 + 1e-12)
