"""Fields on meshes that differ
============================

The temperature around a hot obstacle, on a mesh of its own for every place and shape of the obstacle. Transolver takes
the points in any order and number, so that nothing is interpolated to a grid; its inputs are the distance from the
obstacle, the mark of the boundary, and the coordinates of the points, which training adds. The recipe needs
scikit-fem: `pip install 'slim-surrogate[mesh]'`.
"""

from pathlib import Path

import numpy as np
import xarray as xr

import surrogate as sg
from surrogate.plotting import new_figure, plot_comparison, save_figure

data = sg.make_data("obstacle", "data/obstacle", size="tiny")
points = np.isfinite(data["x"]).sum("point").values
print(f"{data.sizes['sample']} simulations on meshes of {points.min()} to {points.max()} points")

# %%
# Points that a simulation does not have are NaN; statistics, errors and the solve for the last layer leave them out.
settings = {
    "data": {
        "path": "data/obstacle",
        "inputs": ["distance", "boundary"],
        "targets": ["temperature"],
        "split": {"validation": 4, "test": 6, "seed": 0},
    },
    "model": {"family": "transolver", "width": 32, "depth": 2, "slices": 16},
    "optimizer": {"name": "slimtrain", "learning_rate": 3e-3},
    "training": {"epochs": 40, "batch_size": 5, "schedule": "cosine", "average": 0.98},
}
run = sg.train(settings, "runs/obstacle", quiet=True)
errors = run.evaluation["relative_l2_sample"]
print(f"relative L2 error on {errors.size} other obstacles, an integral over the area: {float(errors.mean()):.1%}")

# %%
# Truth, prediction and error for the obstacle of median error, on its own mesh.
with xr.open_dataset(run.path / "evaluation" / "examples.nc") as examples:
    fields = examples.sel(example="median", variable="temperature").load()
fields["truth"].attrs = {"long_name": "temperature", "units": "K"}
figure, panels = new_figure(1, 3, width=10.5, height=3.2)
plot_comparison(fields, ax=panels[0])
save_figure(figure, Path("obstacle.png"))
