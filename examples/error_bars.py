"""Error bars
==========

A Gaussian process on POD modes predicts a standard deviation at every point. Ten waves are few, and the band shows
where.
"""

from pathlib import Path

import numpy as np
import torch
import xarray as xr

import surrogate as sg
from surrogate.plotting import PALETTE, new_figure, save_figure

rng, x = np.random.default_rng(1), np.linspace(0, 1, 64)


def wave(phase: np.ndarray, steepness: np.ndarray) -> np.ndarray:
    """Return a front for every phase and steepness, with shape (samples, x)."""
    return np.tanh(steepness[:, None] * (np.sin(2 * np.pi * x) + phase[:, None]))


phase, steepness = rng.uniform(-0.6, 0.6, 24), rng.uniform(1, 5, 24)
data = xr.Dataset(
    {"u": (("sample", "x"), wave(phase, steepness)), "phase": ("sample", phase), "steepness": ("sample", steepness)},
    {"x": x},
)
settings = {
    "data": {"inputs": ["phase", "steepness"], "targets": ["u"], "split": {"test": 12}},
    "model": {"family": "pod_gp"},
}
run = sg.train(settings, "runs/error_bars", data=data, quiet=True)

# %%
# One wave inside the range of the training data, one outside of it.
cases = np.array([[0.1, 3.0], [0.8, 6.0]])
truth = wave(*cases.T)
mean, std = (part.detach().numpy()[:, 0] for part in run.surrogate.predict_with_std(torch.tensor(cases).float()))
figure, panels = new_figure(1, 2, width=9, height=3.4)
for ax, name, u, m, s in zip(panels[0], ("inside", "outside of"), truth, mean, std, strict=True):
    ax.fill_between(x, m - 1.645 * s, m + 1.645 * s, color=PALETTE[0], alpha=0.25, label="90 % interval")
    ax.plot(x, m, color=PALETTE[0], label="prediction")
    ax.plot(x, u, ":", color=PALETTE[1], label="truth")
    ax.set(title=f"{name} the range of the training data", xlabel="x", ylabel="u")
    print(f"{name} the range: {np.mean(abs(u - m) < 1.645 * s):.0%} of the points are inside their 90 % intervals")
panels[0, 0].legend(frameon=False)
save_figure(figure, Path("error_bars.png"))
