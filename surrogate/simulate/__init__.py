"""Equations and their steppers (callables on a batch of fields (B, C, *S)), recipes and ensembles."""

from surrogate.simulate.ensemble import Ensemble, Results, describe_parameters, simulate_members
from surrogate.simulate.equation import (
    Array,
    Coordinate,
    Description,
    Equation,
    Evolution,
    Grid,
    Map,
    Member,
    Numerics,
    Quantity,
    Stepper,
    rollout,
)
from surrogate.simulate.equations.burgers import viscous_burgers
from surrogate.simulate.equations.convection_diffusion import ConvectionDiffusion, convection_diffusion, settling
from surrogate.simulate.equations.convection_diffusion_reaction import reacting_flow
from surrogate.simulate.equations.gray_scott import gray_scott_stepper
from surrogate.simulate.equations.own import own_equation
from surrogate.simulate.equations.reaction_diffusion import fitzhugh_nagumo
from surrogate.simulate.initial import smooth_field, white_noise
from surrogate.simulate.recipe import Range, Recipe, Size, find_recipe, load_recipe
from surrogate.simulate.registry import EQUATIONS, register
from surrogate.simulate.sampling import Sampling
from surrogate.simulate.steppers.basis import Symbols
from surrogate.simulate.steppers.derivatives import (
    Dirichlet,
    Neumann,
    finite_difference,
    laplacian,
    spectral_derivative,
)
from surrogate.simulate.steppers.dopri import DOPRI5
from surrogate.simulate.steppers.etdrk4 import ETDRK4, AdaptiveETDRK4, Linear
from surrogate.simulate.steppers.rkc import RKC2
from surrogate.simulate.steppers.ssprk import SSPRK3
from surrogate.simulate.steppers.stencils import Laplacian
from surrogate.simulate.steppers.stiffness import jacobian_spectrum, power_radius

__all__ = [
    "DOPRI5",
    "EQUATIONS",
    "ETDRK4",
    "RKC2",
    "SSPRK3",
    "AdaptiveETDRK4",
    "Array",
    "ConvectionDiffusion",
    "Coordinate",
    "Description",
    "Dirichlet",
    "Ensemble",
    "Equation",
    "Evolution",
    "Grid",
    "Laplacian",
    "Linear",
    "Map",
    "Member",
    "Neumann",
    "Numerics",
    "Quantity",
    "Range",
    "Recipe",
    "Results",
    "Sampling",
    "Size",
    "Stepper",
    "Symbols",
    "convection_diffusion",
    "describe_parameters",
    "find_recipe",
    "finite_difference",
    "fitzhugh_nagumo",
    "gray_scott_stepper",
    "jacobian_spectrum",
    "laplacian",
    "load_recipe",
    "own_equation",
    "power_radius",
    "reacting_flow",
    "register",
    "rollout",
    "settling",
    "simulate_members",
    "smooth_field",
    "spectral_derivative",
    "viscous_burgers",
    "white_noise",
]
