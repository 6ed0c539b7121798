"""An autoencoder and its latent space
===================================

A convolutional autoencoder compresses the states of the Burgers equation to 8 numbers; the picture shows them along
their first two principal components, where every simulation is a path through time.
"""

from pathlib import Path

import numpy as np
import xarray as xr

import surrogate as sg
from surrogate.plotting import new_figure, plot_latent, save_figure

sg.make_data("burgers", "states")
settings = {
    "data": {
        "path": "states",
        "inputs": ["u"],
        "targets": ["u"],
        "window": {"steps_in": 1, "steps_out": 0},  # the targets are the inputs
        "split": {"validation": 0.15, "test": 0.2},
    },
    "model": {"family": "autoencoder", "width": 8, "latent": 8, "levels": 2},
    "optimizer": {"name": "slimtrain", "learning_rate": 1e-3},
    "training": {"epochs": 12, "batch_size": 32, "refit": "end"},
}
run = sg.train(settings, "runs/autoencoder", quiet=True)
print(f"mean relative L2 error of states that were not used for training: {run.error:.3f}")

# %%
# The evaluation keeps the latent numbers of the test samples.
latent = xr.load_dataset(run.path / "evaluation" / "latent.nc")
print(f"the first two components hold {float(latent['explained'][:2].sum()):.0%} of the variance")
figure, panels = new_figure(height=3.8)
values = latent["latent"].transpose("sample", "time", "component").values
points = xr.DataArray(values.reshape(-1, 2), {"explained": latent["explained"]}, ("sample", "component"))
time = xr.DataArray(np.tile(latent["time"], len(values)), dims="sample", attrs={"long_name": "time", "units": "s"})
plot_latent(points, colour=time, ax=panels[0, 0])
save_figure(figure, Path("autoencoder.png"))
