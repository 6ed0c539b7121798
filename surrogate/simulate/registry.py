"""The equations that a recipe can name."""

from __future__ import annotations

from surrogate.errors import ConfigError
from surrogate.simulate.equation import Evolution, Map
from surrogate.simulate.equations.burgers import burgers
from surrogate.simulate.equations.convection_diffusion import convection_diffusion
from surrogate.simulate.equations.convection_diffusion_reaction import convection_diffusion_reaction
from surrogate.simulate.equations.dc_resistivity import dc_resistivity
from surrogate.simulate.equations.gray_scott import gray_scott
from surrogate.simulate.equations.peaks import peaks
from surrogate.simulate.equations.reaction_diffusion import reaction_diffusion

__all__ = ["EQUATIONS", "register"]

EQUATIONS: dict[str, Evolution | Map] = {
    equation.name: equation
    for equation in (
        convection_diffusion,
        burgers,
        reaction_diffusion,
        gray_scott,
        convection_diffusion_reaction,
        dc_resistivity,
        peaks,
    )
}


def register(equation: Evolution | Map) -> None:
    """Register an equation, so that recipes can name it.

    Raises:
        ConfigError: The name belongs to another equation.
    """
    if EQUATIONS.get(equation.name, equation) is not equation:
        raise ConfigError(f"there is an equation named '{equation.name}' already; choose another name")
    EQUATIONS[equation.name] = equation
