"""Simulations with parameters far outside of any use end: finished, or with one line and exit code 3, 4 or 5."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from surrogate.catalogue import entries
from surrogate.errors import NumericalError, SurrogateError
from surrogate.simulate import EQUATIONS, Description, Quantity, Recipe, load_recipe, own_equation, register
from surrogate.simulate.generate import generate
from surrogate.simulate.steppers import limits

VALUES = ("1e9", "1e12", "-5", "0", ".nan")
BRIEF = {
    ("burgers", "speed", "1e9"),
    ("burgers", "viscosity", "0"),
    ("convection_diffusion_box", "diffusivity", "-5"),
    ("gray_scott", "final_time", "1e12"),
    ("korteweg_de_vries", "amplitude", "1e9"),
    ("kuramoto_sivashinsky", "final_time", "1e12"),
    ("kuramoto_sivashinsky", "viscosity", "-5"),
    ("reaction_diffusion_smooth", "k", "1e12"),
}
EVALUATIONS = 20_000  # a bound for the tests


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Most evaluations of a simulation after each step."""
    taken: list[float] = []
    plain = limits.Effort.spent

    def spent(self: limits.Effort, *arguments: object) -> np.ndarray:
        over = plain(self, *arguments)  # type: ignore[arg-type]
        taken.append(float(self._count.max()))
        return over

    monkeypatch.setattr(limits.Effort, "spent", spent)
    return taken


def extremes() -> Iterator[object]:
    for recipe in sorted(entries("datasets")):
        for parameter in [*EQUATIONS[load_recipe(recipe).equation].ranges, "final_time", "lengths"]:
            for value in VALUES:
                marks = [] if (recipe, parameter, value) in BRIEF else pytest.mark.slow
                yield pytest.param(recipe, parameter, value, marks=marks, id=f"{recipe}-{parameter}-{value}")


def extreme(recipe: str, parameter: str, value: str) -> list[str]:
    """Return the settings that give a parameter of a recipe, its final time or the size of its box a value."""
    plain = load_recipe(recipe)
    if parameter == "final_time":
        return [f"sizes.tiny.final_time={value}"]
    if parameter == "lengths":
        return [f"lengths=[{', '.join([value] * len(plain.lengths))}]"]
    return [f"parameters.{parameter}={{low: {value}, high: {value}, units: '{plain.parameters[parameter].units}'}}"]


@pytest.mark.parametrize(("recipe", "parameter", "value"), list(extremes()))
def test_extreme_parameters_end(
    recipe: str, parameter: str, value: str, tmp_path: Path, evaluations: list[float]
) -> None:
    small = ["sizes.tiny.simulations=2", f"max_evaluations={EVALUATIONS}"]
    said, code = "", 0
    try:
        generate(load_recipe(recipe, [*small, *extreme(recipe, parameter, value)]), "tiny", tmp_path / "data")
    except SurrogateError as error:
        said, code = str(error), error.exit_code
    assert code in (0, 2, 4)
    assert "\n" not in said or code == 2  # one line for each mistake in a file
    assert len(said) < 2000
    assert max(evaluations, default=0) <= EVALUATIONS + 200


def test_a_run_stops_at_the_first_failures_that_are_too_many(tmp_path: Path) -> None:
    settings = ["parameters.amplitude={low: 1e9, high: 1e9}", "sizes.tiny.simulations=1000", "sizes.tiny.shard=1000"]
    with pytest.raises(NumericalError, match=r"^2 of 1000 simulations blew up when 2 had run, .*max_evaluations"):
        generate(load_recipe("korteweg_de_vries", [*settings, "max_failed=0.001"]), "tiny", tmp_path / "data", batch=1)
    assert not list((tmp_path / "data").glob("*.h5"))


GROWING = {
    "grows as exp(t^2)": lambda u, p, g: u * 1e3,
    "grows to infinity in finite time": lambda u, p, g: u * u,
    "oscillates fast": lambda u, p, g: torch.cat([1e9 * u[:, 1:], -1e9 * u[:, :1]], 1),
    "is stiff": lambda u, p, g: -1e9 * u,
    "is not finite": lambda u, p, g: u / 0,
    "is zero": lambda u, p, g: torch.zeros_like(u),
}


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("rkc2", "ssprk3", "dopri5")]


@pytest.mark.parametrize("integrator", ["auto", "etdrk4", *SLOW])
@pytest.mark.parametrize("name", GROWING)
def test_equations_of_the_user_end(name: str, integrator: str, tmp_path: Path, evaluations: list[float]) -> None:
    linear = {"linear": lambda d, p: 5.0 * d(4)} if integrator == "etdrk4" else {}
    equation = own_equation(
        "growing",
        GROWING[name],
        lambda grid, p, rng: np.ones((2, *grid.shape)),
        fields={"u": Quantity("1", "u"), "v": Quantity("1", "v")},
        parameters={},
        description=Description("u_t = f(u)", "periodic", "1", "adaptive"),
        integrator=integrator,  # type: ignore[arg-type]
        **linear,  # type: ignore[arg-type]
    )
    size = {"simulations": 2, "grid": [32], "snapshots": 3, "final_time": 1e6, "shard": 2}
    content = {"name": "growing", "equation": "growing", "seed": 1, "lengths": [1.0], "parameters": {}}
    register(equation)
    try:
        recipe = Recipe.model_validate({**content, "sizes": {"tiny": size}, "max_evaluations": EVALUATIONS})
        may_finish = name in ("is zero", "is stiff")
        with contextlib.suppress(NumericalError) if may_finish else pytest.raises(NumericalError):
            generate(recipe, "tiny", tmp_path / "data")
    finally:
        del EQUATIONS["growing"]
    assert max(evaluations, default=0) <= EVALUATIONS + 200
