"""Classical surrogates against networks
=====================================

With few simulations a fitted surrogate is often better than a network. Here each is trained on the same simulations
and scored on the same others; `sg.compare` does so for all that fit the data, within a budget of time, and says which
differences are significant.
"""

from pathlib import Path

import surrogate as sg
from surrogate.plotting import PALETTE, new_figure, save_figure

sg.make_data("dc_resistivity", "survey", overrides=["sizes.tiny.simulations=40"])
settings = {
    "data": {
        "path": "survey",
        "inputs": ["depth", "radius", "angle"],
        "targets": ["voltage_y"],
        "split": {"test": 0.3},
    },
}
surrogates = {
    "training mean": {"model": {"family": "mean"}},
    "kernel ridge": {"model": {"family": "kernel_ridge"}},
    "Gaussian process on POD modes": {"model": {"family": "pod_gp"}},
    "perceptron, slimTrain": {
        "model": {"family": "mlp", "width": 16, "depth": 2},
        "optimizer": {"name": "slimtrain", "learning_rate": 1e-2},
        "training": {"epochs": 30, "batch_size": 8, "refit": "end"},
    },
}
errors = {}
for number, (name, sections) in enumerate(surrogates.items()):
    run = sg.train(settings | sections, f"runs/classical-{number}", quiet=True)
    errors[name] = run.evaluation["relative_l2_sample"].values
    print(f"{name}: mean relative L2 error {run.error:.4f}")

# %%
# Every dot is a simulation that was not used for training, the line is their mean.
figure, panels = new_figure(width=7, height=3)
for row, (error, colour) in enumerate(zip(errors.values(), PALETTE, strict=False)):
    panels[0, 0].plot(error, [row] * len(error), "o", color=colour, alpha=0.5)
    panels[0, 0].plot([error.mean()] * 2, [row - 0.3, row + 0.3], color=colour)
panels[0, 0].set_yticks(range(len(errors)), list(errors))
panels[0, 0].set(xscale="log", xlabel="relative L2 error")
save_figure(figure, Path("classical_and_neural.png"))
