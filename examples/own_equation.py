"""An equation of your own
=======================

Its right-hand side, an ensemble, shards and a card.

The Allen-Cahn equation, u_t = D lap u + u - u^3, is not in the catalogue. Run with `python examples/own_equation.py`;
the files go to the folder given, or to runs/own_equation.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from surrogate.data import open_snapshots
from surrogate.plotting import new_figure, plot_error_map, save_figure
from surrogate.simulate import (
    Array,
    Description,
    Grid,
    Laplacian,
    Quantity,
    Recipe,
    own_equation,
    register,
    smooth_field,
)
from surrogate.simulate.card import write_card
from surrogate.simulate.generate import generate


def allen_cahn(u: Tensor, p: Mapping[str, Tensor], grid: Grid) -> Tensor:
    """du/dt of fields (B, 1, *S); each parameter has shape (B, 1, 1...)."""
    return p["diffusivity"] * Laplacian(grid.spacing, grid.boundary)(u) + u - u * u * u


def start(grid: Grid, p: Mapping[str, float | Array], rng: np.random.Generator) -> Array:
    """A smooth random field, with shape (1, *S)."""
    return smooth_field(grid, 0.1, rng)[None]


EQUATION = own_equation(
    "allen_cahn",
    allen_cahn,
    start,
    fields={"u": Quantity("1", "order parameter")},
    parameters={"diffusivity": Quantity("m2 s-1", "diffusivity D")},
    description=Description(
        formula="u_t = D lap u + u - u^3",
        boundary="no flux through the walls",
        initial="a random sum of cosines below the 9th order, correlation length 0.1 m, root mean square 1",
        scheme="Cell-centred finite volumes of order 2; RKC2 with error control in time.",
        invariants="the energy, integral of D |grad u|^2 / 2 + (1 - u^2)^2 / 4, decays",
        source="Allen and Cahn, Acta Metallurgica 27 (1979)",
    ),
    boundary="no_flux",
)

RECIPE = {
    "name": "allen_cahn",
    "equation": "allen_cahn",
    "about": "Two phases that part and coarsen.",
    "seed": 1,
    "lengths": [1.0, 1.0],
    "sampling": {"method": "latin_hypercube"},
    "parameters": {"diffusivity": {"low": 2e-4, "high": 2e-3, "units": "m2 s-1", "scale": "log"}},
    "sizes": {"tiny": {"simulations": 8, "grid": [24, 24], "snapshots": 6, "final_time": 5.0, "shard": 4}},
}


def main(folder: Path) -> None:
    """Simulate, describe and open the data."""
    register(EQUATION)
    recipe = Recipe.model_validate(RECIPE)
    data = generate(recipe, "tiny", folder / "data", resume=True)
    card = write_card(recipe, "tiny", folder / "card")
    u = open_snapshots(str(data))["u"]
    phases = float((abs(u.isel(time=-1)) > 0.5).mean())
    figure, panels = new_figure(1, 3, width=10.5, height=3.2)
    for step, ax in zip((0, 2, 5), panels[0], strict=True):
        plot_error_map(u.isel(sample=0, time=step).load(), ax=ax)
        ax.set_title(f"time {float(u['time'][step]):g} s", fontsize="medium")
    save_figure(figure, Path("own_equation.png"))
    print(f"{dict(u.sizes)}; {phases:.0%} of the box is in one of the phases at the end; card: {card}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/own_equation"))
