"""Reading Dedalus and FEniCS
==========================

Files of many programs open by name: `inspect` recognises who wrote them. Here two small files in the layout of
Dedalus and of FEniCS are written with h5py, and read; in practice `open_snapshots` and a configuration take the files
of the solver.
"""

from pathlib import Path

import h5py
import numpy as np
import yaml

import surrogate as sg
from surrogate.data import Mapping
from surrogate.plotting import new_figure, save_figure

x, times = np.linspace(0, 2 * np.pi, 32, endpoint=False), np.linspace(0, 1, 11)
u = np.exp(-times)[:, None, None] * np.sin(x)[:, None] * np.cos(x - times[:, None, None])
with h5py.File("dedalus_s1.h5", "w") as file:
    file["tasks/u"] = u
    for name, values in (("sim_time", times), ("x_hash", x), ("y_hash", x)):
        file[f"scales/{name}"] = values
    labels = ("t", "x", "y")
    for axis, name in enumerate(("sim_time", "x_hash", "y_hash")):
        file[f"scales/{name}"].make_scale(name)
        file["tasks/u"].dims[axis].attach_scale(file[f"scales/{name}"])
        file["tasks/u"].dims[axis].label = labels[axis]

points = np.random.default_rng(0).uniform(0, 2 * np.pi, (400, 2))
with h5py.File("fenics.h5", "w") as file:
    file["Mesh/0/mesh/geometry"] = points
    file["Mesh/0/mesh/topology"] = np.arange(399).reshape(-1, 3)
    for step, time in enumerate(times):
        file[f"VisualisationVector/{step}"] = np.exp(-time) * np.sin(points[:, :1]) * np.cos(points[:, 1:] - time)

# %%
# `inspect` recognises the program and proposes a configuration, whose layout opens the file.
opened = {}
for name in ("dedalus_s1.h5", "fenics.h5"):
    description = sg.inspect(name)
    print(f"{name}: {description.reason}", description.suggested_config, sep="\n")
    section = yaml.safe_load(description.suggested_config)["data"]
    opened[name] = sg.open_snapshots(name, Mapping.model_validate(section["layout"]))
    print(dict(opened[name].sizes), "\n")

# %%
# A picture of the same state from both files.
grid, mesh = (data["u"].isel(time=5).squeeze(drop=True) for data in opened.values())
figure, panels = new_figure(1, 2, width=9, height=3.8)
panels[0, 0].pcolormesh(grid["x"], grid["y"], grid.transpose("y", "x"))
panels[0, 1].scatter(mesh["x"], mesh["y"], c=mesh, s=14)
for ax, title in zip(panels[0], ("Dedalus: a grid", "FEniCS: points of a mesh"), strict=True):
    ax.set(title=title, xlabel="x", ylabel="y", aspect="equal")
save_figure(figure, Path("simulation_codes.png"))
