"""The equations that a recipe can name."""

from __future__ import annotations

import warnings
from functools import lru_cache
from importlib.metadata import entry_points

from surrogate.errors import ConfigError
from surrogate.simulate.equation import Evolution, Map
from surrogate.simulate.equations.burgers import burgers
from surrogate.simulate.equations.convection_diffusion import convection_diffusion
from surrogate.simulate.equations.convection_diffusion_reaction import convection_diffusion_reaction
from surrogate.simulate.equations.dc_resistivity import dc_resistivity
from surrogate.simulate.equations.gray_scott import gray_scott
from surrogate.simulate.equations.korteweg_de_vries import korteweg_de_vries
from surrogate.simulate.equations.kuramoto_sivashinsky import kuramoto_sivashinsky
from surrogate.simulate.equations.obstacle import obstacle
from surrogate.simulate.equations.peaks import peaks
from surrogate.simulate.equations.reaction_diffusion import reaction_diffusion

__all__ = ["CATALOGUE", "EQUATIONS", "load_installed", "register"]

ENTRY_POINTS = "surrogate.equations"  # the group under which an installed package names modules that register equations

EQUATIONS: dict[str, Evolution | Map] = {
    equation.name: equation
    for equation in (
        convection_diffusion,
        burgers,
        reaction_diffusion,
        gray_scott,
        convection_diffusion_reaction,
        dc_resistivity,
        kuramoto_sivashinsky,
        korteweg_de_vries,
        peaks,
        obstacle,
    )
}

CATALOGUE = frozenset(EQUATIONS)  # those of this package


def register(equation: Evolution | Map) -> None:
    """Register an equation, so that recipes can name it.

    Raises:
        ConfigError: The name belongs to another equation.
    """
    if EQUATIONS.get(equation.name, equation) is not equation:
        raise ConfigError(f"there is an equation named '{equation.name}' already; choose another name")
    EQUATIONS[equation.name] = equation


@lru_cache(maxsize=1)
def load_installed() -> None:
    """Import the modules that installed packages name under the entry points `surrogate.equations`, once.

    A module that cannot be imported gives a warning of one line, and the command goes on without its equations.
    """
    for point in entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0]
            warnings.warn(
                f"the equations of entry point '{point.name}' ({point.value}) cannot be used: "
                f"{type(error).__name__}: {reason}; repair or remove that package"
            )
