"""Time stepping with a roll-out
=============================

A network that maps the state of the Burgers equation to the next one is fed its own predictions. The error of one
step says little about the error after twenty, so time steppers are scored by roll-outs.
"""

from pathlib import Path

import xarray as xr

import surrogate as sg
from surrogate.plotting import new_figure, plot_comparison, save_figure

data = sg.make_data("burgers", "burgers")
settings = {
    "data": {
        "path": "burgers",
        "inputs": ["u", "viscosity"],
        "targets": ["u"],
        "window": {"steps_in": 1, "steps_out": 1},
        "split": {"train": 16, "validation": 4, "test": 4},
    },
    "model": {"family": "convnet", "width": 16, "depth": 3, "padding": "circular"},
    "optimizer": {"name": "slimtrain", "learning_rate": 1e-2, "memory_depth": 5},
    "training": {"epochs": 8, "batch_size": 16, "schedule": "cosine", "refit": "end"},
}
run = sg.train(settings, "runs/stepping", quiet=True)
print(f"mean relative L2 error of one step: {run.error:.3f}")

# %%
# `predict` starts at the first state of a file and rolls out as many steps as it is told.
rolled = run.predict("burgers", "rollout.nc", rollout_steps=20)
print(rolled)
test = list(data["origin"].values).index(run.evaluation["simulation"].values[0])  # not used for training
prediction = rolled["u"].isel(sample=test)
truth = data["u"].isel(sample=test, time=slice(1, 21)).load()
fields = xr.Dataset({"truth": truth})
fields["prediction"] = truth.copy(data=prediction.transpose(*truth.dims).values)
figure, panels = new_figure(1, 3, width=10.5, height=3.2)
plot_comparison(fields, ax=panels[0])
save_figure(figure, Path("time_stepping.png"))
