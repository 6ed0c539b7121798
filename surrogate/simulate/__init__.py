"""Equations and their steppers (callables on a batch of fields (B, C, *S)), recipes and ensembles."""

from surrogate.simulate.convection_diffusion import ConvectionDiffusion, convection_diffusion
from surrogate.simulate.ensemble import Ensemble, Results, simulate_members
from surrogate.simulate.equation import Equation, Grid, Member, Quantity, Stepper, rollout
from surrogate.simulate.initial import smooth_field
from surrogate.simulate.recipe import Range, Recipe, Size, find_recipe, load_recipe
from surrogate.simulate.registry import EQUATIONS

__all__ = [
    "EQUATIONS",
    "ConvectionDiffusion",
    "Ensemble",
    "Equation",
    "Grid",
    "Member",
    "Quantity",
    "Range",
    "Recipe",
    "Results",
    "Size",
    "Stepper",
    "convection_diffusion",
    "find_recipe",
    "load_recipe",
    "rollout",
    "simulate_members",
    "smooth_field",
]
