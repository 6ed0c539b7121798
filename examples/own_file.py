"""A first surrogate from your own HDF5 file
=========================================

`sg.inspect` says what is in a file and proposes the `data:` section of a configuration. Here the file is made first,
as a solver of one's own would write it: heat sources at four places, and the steady temperatures.
"""

from pathlib import Path

import h5py
import numpy as np
import torch
import xarray as xr

import surrogate as sg
from surrogate.plotting import new_figure, plot_comparison, save_figure

rng, x = np.random.default_rng(0), np.linspace(0, 1, 24)
powers = rng.uniform(0.2, 1, (60, 4)).astype("f4")
wells = [np.exp(-30 * ((x - a) ** 2 + (x[:, None] - b) ** 2)) for a in (0.3, 0.7) for b in (0.3, 0.7)]
with h5py.File("heat.h5", "w") as file:
    file["power"] = powers
    file["T"] = np.tanh(np.einsum("nk,kyx->nyx", powers, wells)).astype("f4")
    file["x"], file["y"] = x, x

# %%
# What the file does not say is filled in by its reader: the names of the axes, here, and the units.
print(*(f"{report.path}: {report.shape}" for report in sg.inspect("heat.h5").variables), sep="\n")
layout = {
    "variables": {
        "power": {"path": "power", "axes": ["sample", "channel"], "units": "W"},
        "T": {"path": "T", "axes": ["sample", "y", "x"], "units": "K"},
    },
    "coordinates": {"x": {"path": "x", "axes": ["x"], "units": "m"}, "y": {"path": "y", "axes": ["y"], "units": "m"}},
}
settings = {
    "data": {"path": "heat.h5", "layout": layout, "inputs": ["power"], "targets": ["T"], "split": {"test": 0.25}},
    "model": {"family": "pod_gp"},
}
run = sg.train(settings, "runs/own_file", quiet=True)
print(f"mean relative L2 error on {run.evaluation.sizes['sample']} simulations not used for training: {run.error:.2%}")

# %%
# The surrogate is a torch module in physical units.
new = powers[:1] * np.array([1, 0.5, 0.2, 1], "f4")
with torch.no_grad():
    prediction = run.surrogate(torch.from_numpy(new))[0, 0].numpy()
grid = {"y": ("y", x, {"units": "m"}), "x": ("x", x, {"units": "m"})}
truth = np.tanh(np.einsum("nk,kyx->nyx", new, wells))[0]
fields = xr.Dataset({"truth": (("y", "x"), truth), "prediction": (("y", "x"), prediction)}, grid)
fields["truth"].attrs = {"long_name": "temperature", "units": "K"}
figure, panels = new_figure(1, 3, width=10.5, height=3.2)
plot_comparison(fields, ax=panels[0])
save_figure(figure, Path("own_file.png"))
