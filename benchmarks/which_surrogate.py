"""Pictures of docs/which-surrogate.md: a decision chart, a leaderboard and a learning curve.

The data are 60 pulses that two parameters describe, 20 of them for the test. The comparison takes two minutes.

Example: python benchmarks/which_surrogate.py --output docs/figures
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import xarray as xr

import surrogate
from surrogate.plotting import PALETTE, new_figure, save_figure

SIMULATIONS = 60
STEPS = (
    (
        "surrogate inspect my.h5\nsurrogate new my.h5 --output mine.yaml",
        "what is in the file, what to try first,\nand a configuration",
    ),
    ("surrogate compare mine.yaml --minutes 10", "baselines, classical surrogates, networks"),
)
QUESTIONS = (
    (
        "Is the mean, the nearest sample or\npersistence as good as anything?",
        "Check inputs and targets: they do not\ndetermine the output, or simulations are too few",
    ),
    (
        "Is a fitted surrogate best, or not\nsignificantly worse than a network?",
        "Take it: linear, kernel ridge, POD with a\nGaussian process. Intervals: predict --intervals",
    ),
    (
        "Would twice the simulations help\n(study of kind learning_curve)?",
        "Run more simulations before a larger network,\nor start from a neighbour's surrogate",
    ),
)
LAST = "Train the best network longer than the comparison did, in a study with several seeds"


def decision() -> Any:
    """Draw the way from a file to a decision."""
    figure, axes = new_figure(width=9.0, height=6.2)
    ax = axes[0, 0]
    ax.set_axis_off()
    ax.set(xlim=(0, 10), ylim=(0, 10.4))
    box = {"boxstyle": "round,pad=0.45", "facecolor": "white", "edgecolor": PALETTE[0]}
    answer = {**box, "edgecolor": PALETTE[2], "facecolor": "#eef7f3"}
    arrow = {"arrowstyle": "->", "color": "0.35", "shrinkA": 16, "shrinkB": 18}
    heights = [9.7, 8.2, 6.3, 4.4, 2.5]
    for height, (command, what) in zip(heights, STEPS, strict=False):
        ax.text(2.4, height, command, ha="center", va="center", family="monospace", fontsize=8.5, bbox=box)
        ax.text(5.4, height, what, va="center", fontsize=9, color="0.3")
    for height, (question, advice) in zip(heights[2:], QUESTIONS, strict=True):
        ax.text(2.4, height, question, ha="center", va="center", fontsize=9.5, bbox=box)
        ax.text(7.6, height, advice, ha="center", va="center", fontsize=9.5, bbox=answer)
        ax.annotate("", (5.35, height), (4.2, height), arrowprops=arrow | {"shrinkA": 0, "shrinkB": 0})
        ax.text(4.75, height + 0.15, "yes", fontsize=9, color="0.35", ha="center")
    for row, (above, below) in enumerate(zip(heights, [*heights[1:], 0.7], strict=True)):
        ax.annotate("", (2.4, below), (2.4, above), arrowprops=arrow)
        if row > 1:
            ax.text(2.55, (above + below) / 2 - 0.1, "no", fontsize=9, color="0.35")
    ax.text(2.4, 0.7, LAST.replace(", ", ",\n"), ha="center", va="center", fontsize=9.5, bbox=answer)
    return figure


def pulses() -> xr.Dataset:
    """Return pulses that a speed and a width describe, at a given time."""
    rng, x = np.random.default_rng(0), np.linspace(0, 1, 64)
    speed, width = rng.uniform(0.2, 0.8, SIMULATIONS), rng.uniform(0.03, 0.1, SIMULATIONS)
    u = np.exp(-((x - speed[:, None]) ** 2) / width[:, None] ** 2)
    variables = {"speed": ("sample", speed), "width": ("sample", width), "u": (("sample", "x"), u)}
    return xr.Dataset(variables, {"x": x})


def main() -> None:
    """Draw the chart, compare, run the study, and copy their figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=1.5)
    parser.add_argument("--only", choices=["decision", "leaderboard", "learning_curve"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    output, only = arguments.output, arguments.only
    if only in (None, "decision"):
        save_figure(decision(), output / "which_decision.png")
    data: dict[str, Any] = {"inputs": ["speed", "width"], "targets": ["u"]}
    tree: dict[str, Any] = {"name": "pulses", "data": data, "model": {"family": "mlp", "width": 32, "depth": 2}}
    tree |= {"optimizer": {"name": "slimtrain", "learning_rate": 3e-3}, "training": {"batch_size": 8}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if only in (None, "leaderboard"):
            data["split"] = {"validation": 6, "test": 20}
            surrogate.compare(tree, folder / "compare", data=pulses(), minutes=arguments.minutes)
            shutil.copy(folder / "compare" / "figures" / "leaderboard.png", output / "which_leaderboard.png")
        if only in (None, "learning_curve"):
            data["split"] = {"train": 32, "validation": 8, "test": 20}
            del tree["optimizer"], tree["training"]
            tree["model"] = {"family": "pod_gp", "modes": 8, "restarts": 0}
            tree["cases"] = {"pod_gp": {}, "kernel_ridge": {"model": {"family": "kernel_ridge"}}}
            tree["study"] = {"kind": "learning_curve", "axes": {"data.split.train": [8, 16, 32]}, "seeds": [0, 1, 2]}
            project = surrogate.run(tree, folder / "study", data=pulses())
            curves = sorted((project.path / "figures").glob("*learning*.png")) or sorted(project.path.glob("figures/*"))
            shutil.copy(curves[0], output / "which_learning_curve.png")


if __name__ == "__main__":
    main()
