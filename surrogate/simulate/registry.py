"""The equations that a recipe can name."""

from __future__ import annotations

from surrogate.simulate.convection_diffusion import convection_diffusion
from surrogate.simulate.equation import Equation

__all__ = ["EQUATIONS"]

EQUATIONS: dict[str, Equation] = {equation.name: equation for equation in (convection_diffusion,)}
