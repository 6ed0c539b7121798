"""Does the error measured with twice the simulations fall into the 90 % interval that the learning curve predicts?

Studies of fitted families on data of the catalogue, 5 seeds each: errors with 8, 16 and 32 training simulations
predict that with 64. Every seed draws its own training simulations; the 100 test simulations are the same.

Example: python benchmarks/learning_curves.py --output learning_curves.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from surrogate.batch import Batch
from surrogate.data import open_snapshots
from surrogate.models import Shapes
from surrogate.models.registry import build, prepare, settings_of
from surrogate.simulate import Size
from surrogate.simulate.generate import find_recipe, generate, load_recipe
from surrogate.studies.learning_curve import forecast

SIZES, TWICE, SEEDS, TEST = (8, 16, 32), 64, 5, 100
FIELD = {"grid": [32], "snapshots": 2, "final_time": 0.3}
DATA: dict[str, tuple[dict[str, Any], list[str], str, list[str]]] = {
    "peaks": ({}, ["y1", "y2"], "c", ["kernel_ridge", "pod_rbf"]),
    "burgers": (FIELD, ["u", "viscosity"], "u", ["kernel_ridge", "linear", "pod_rbf"]),
    "convection_diffusion": (
        {"grid": [18, 18], "snapshots": 2, "final_time": 0.2},
        ["u", "velocity_y", "velocity_x", "diffusivity"],
        "u",
        ["kernel_ridge", "linear", "pod_rbf"],
    ),
    "convection_diffusion_reaction": (
        {"grid": [16, 16], "snapshots": 5, "final_time": 0.4},
        ["y"],
        "u",
        ["kernel_ridge", "linear"],
    ),
    "korteweg_de_vries": (
        {"grid": [64], "snapshots": 2, "final_time": 0.05},
        ["u"],
        "u",
        ["kernel_ridge", "linear", "pod_rbf"],
    ),
    "kuramoto_sivashinsky": (
        {"grid": [64], "snapshots": 2, "final_time": 2.0},
        ["u"],
        "u",
        ["kernel_ridge", "linear"],
    ),
}


def arrays(recipe: str, size: dict[str, Any], inputs: list[str], target: str) -> list[torch.Tensor]:
    """Simulate, and return inputs at the first step and targets at the others, one row a simulation, standardised."""
    count = TWICE * 4 + TEST
    loaded = load_recipe(find_recipe(recipe))
    made = Size.model_validate({"simulations": count, "shard": count, "snapshots": 1, **size})
    with tempfile.TemporaryDirectory() as folder:
        generate(loaded.model_copy(update={"sizes": {"tiny": made}}), "tiny", Path(folder) / "data")
        data = open_snapshots(Path(folder) / "data").load()
    columns = [data[name].isel(time=0) if "time" in data[name].dims else data[name] for name in inputs]
    x = np.concatenate([column.values.reshape(count, -1) for column in columns], axis=1)
    q = data[target].isel(time=slice(1, None)) if "time" in data[target].dims else data[target]
    y = q.values.reshape(count, -1)
    return [torch.from_numpy((part - part.mean(0)) / (part.std() or 1)).float() for part in (x, y)]


def error(family: str, x: torch.Tensor, y: torch.Tensor, chosen: np.ndarray) -> float:
    """Fit a family to the chosen simulations and return the relative error on the last ones."""
    settings = settings_of({"family": family} | ({"modes": None} if family == "pod_rbf" else {}))
    network = build(settings, Shapes(inputs=x.shape[1], outputs=y.shape[1], grid=()))
    steps = torch.zeros(len(chosen), dtype=torch.int64)
    batch = Batch(x[chosen], y[chosen], torch.arange(len(chosen)), steps)
    prepare(settings, network, lambda: [batch])
    truth = y[-TEST:]
    with torch.no_grad():
        return float((network(x[-TEST:]) - truth).square().mean().sqrt() / truth.square().mean().sqrt())


def main() -> None:
    """Run all studies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    arguments = parser.parse_args()
    output = arguments.output
    torch.set_num_threads(1)
    rows = []
    for recipe in arguments.data:
        size, inputs, target, families = DATA[recipe]
        x, y = arrays(recipe, size, inputs, target)
        for family in families:
            errors = np.empty((len(SIZES) + 1, SEEDS))
            for seed in range(SEEDS):
                order = np.random.default_rng(seed).permutation(len(x) - TEST)
                errors[:, seed] = [error(family, x, y, order[:n]) for n in (*SIZES, TWICE)]
            found = forecast(np.array(SIZES), errors[:-1], TWICE)
            assert found is not None
            measured = float(np.exp(np.log(errors[-1]).mean()))
            inside = found.low <= measured <= found.high
            predicted = {"error": found.error, "low": found.low, "high": found.high}
            rows.append({"data": recipe, "family": family, **predicted, "measured": measured, "inside": inside})
            print(
                f"{recipe} {family}: {found.last:.3g} with {SIZES[-1]}, predicted {found.error:.3g} ({found.low:.3g} "
                f"to {found.high:.3g}), measured {measured:.3g}: "
                f"{'inside' if inside else 'outside'}"
            )
    print(f"inside in {sum(row['inside'] for row in rows)} of {len(rows)}")
    output.write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
