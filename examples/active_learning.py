"""Active learning: which simulations to run next
==============================================

The posterior of the last layer tells, before they are run, which of many candidates the surrogate knows least about.
They are chosen one by one, each given those before, so that no two are alike. `surrogate run propose` compares such a
choice with random ones.
"""

from pathlib import Path

import torch
import xarray as xr

import surrogate as sg
from surrogate.plotting import PALETTE, new_figure, save_figure
from surrogate.studies import grams_of, greedy_batch

torch.manual_seed(0)
points = 4 * torch.rand(60, 2) - 3  # nothing was simulated where a or b is above 1
values = torch.sin(points[:, 0]) * torch.cos(points[:, 1])
data = xr.Dataset({name: ("sample", column) for name, column in zip("abc", [*points.T, values], strict=True)})
settings = {
    "data": {"inputs": ["a", "b"], "targets": ["c"], "split": {"validation": 10, "test": 10}},
    "model": {"family": "mlp", "width": 12, "depth": 2},
    "optimizer": {"name": "slimtrain", "learning_rate": 1e-2},
    "training": {"epochs": 20, "batch_size": 10, "uncertainty": True},
}
surrogate = sg.train(settings, "runs/active", data=data, quiet=True).surrogate

# %%
# Two thousand candidates, eight chosen.
candidates = 6 * torch.rand(2000, 2) - 3
with torch.no_grad():
    std = surrogate.predict_with_std(candidates)[1].flatten()
grams = grams_of(surrogate.network, surrogate.normalized_inputs(candidates))
chosen = candidates[greedy_batch(grams, surrogate.posterior, 8)]
figure, panels = new_figure(width=6, height=4.4)
shown = panels[0, 0].tripcolor(*candidates.T, std, shading="gouraud", cmap="cividis")
figure.colorbar(shown, label="predicted standard deviation")
panels[0, 0].plot(*points.T, "o", color="white", markeredgecolor="black", markersize=4, label="simulated")
panels[0, 0].plot(*chosen.T, "D", color=PALETTE[1], label="to run next")
panels[0, 0].set(xlabel="a", ylabel="b")
panels[0, 0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
save_figure(figure, Path("active_learning.png"))
print(f"{(chosen > 1).any(1).sum()} of {len(chosen)} are in the part that was never simulated")
