"""Is the surrogate that `surrogate compare` names the best on many further simulations?

Every run simulates few simulations of a recipe from a seed of its own, compares surrogates on them within a budget, and
scores the models of all folds on many other simulations of the same recipe.

Example: python benchmarks/compare.py --case parametric --seed 0 --minutes 2 --output choice/parametric-0.json
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from surrogate.config import Source
from surrogate.evaluation import evaluate, headline, labels_of
from surrogate.experiment.run_folder import RunFolder
from surrogate.models import Surrogate
from surrogate.simulate import Size
from surrogate.simulate.generate import find_recipe, generate, load_recipe
from surrogate.studies import read_result
from surrogate.training.build import evaluation_stream, split_datasets
from surrogate.workflows import run_comparison

HELD_OUT = 10_000  # added to the seed of a recipe for the simulations that score
CASES: dict[str, dict[str, Any]] = {
    "parametric": {
        "recipe": "peaks",
        "sizes": {"simulations": 40, "shard": 40},
        "held_out": 2000,
        "data": {"inputs": ["y1", "y2"], "targets": ["c"]},
        "model": {"family": "mlp", "width": 32, "depth": 2},
    },
    "fields": {
        "recipe": "burgers",
        "sizes": {"simulations": 32, "grid": [32], "snapshots": 2, "final_time": 0.3, "shard": 32},
        "held_out": 500,
        "data": {"inputs": ["u", "viscosity"], "targets": ["u"], "window": {"steps_in": 1, "steps_out": 1}},
        "model": {"family": "convnet", "width": 16, "depth": 3},
    },
    "steps": {
        "recipe": "korteweg_de_vries",
        "sizes": {"simulations": 16, "grid": [64], "snapshots": 11, "final_time": 0.5, "shard": 16},
        "held_out": 100,
        "data": {"inputs": ["u"], "targets": ["u"], "window": {"steps_in": 1, "steps_out": 1}},
        "model": {"family": "convnet", "width": 16, "depth": 3},
    },
    "autoencoder": {
        "recipe": "kuramoto_sivashinsky",
        "sizes": {"simulations": 16, "grid": [64], "snapshots": 11, "final_time": 10.0, "shard": 16},
        "held_out": 100,
        "data": {"inputs": ["u"], "targets": ["u"], "window": {"steps_in": 1, "steps_out": 0}},
        "model": {"family": "autoencoder", "width": 8, "latent": 8},
    },
}


def simulated(case: dict[str, Any], folder: Path, seed: int, **changes: int) -> Path:
    """Simulate the data of a case and return their folder."""
    recipe = load_recipe(find_recipe(case["recipe"]))
    size = Size.model_validate({"snapshots": 1, **case["sizes"], **changes})
    recipe = recipe.model_copy(update={"seed": recipe.seed + seed, "sizes": {"tiny": size}})
    return generate(recipe, "tiny", folder)


def true_errors(runs: Path, leaderboard: list[dict[str, str]], data: Path) -> dict[str, float]:
    """Return the mean error on the simulations held out of every candidate, over the models of its folds."""
    epochs = {row["name"]: int(row["epochs"]) for row in leaderboard}
    errors: dict[str, list[float]] = defaultdict(list)
    for path in sorted(runs.iterdir()):
        name, result = path.name.rsplit("-", 1)[0], read_result(path)
        if name not in epochs or result is None or result.epochs != epochs[name]:
            continue  # a pilot, or left out of the table
        experiment = RunFolder(path).experiment()
        split = {"test": 0.0, "validation": 0.0}
        changes = {"path": str(data), "split": experiment.data.split.model_copy(update={**split, "folds": None})}
        experiment = experiment.model_copy(update={"data": experiment.data.model_copy(update=changes)})
        part = split_datasets(experiment)["train"]
        stream = evaluation_stream(experiment, part)
        surrogate = Surrogate.load(path)
        metrics = evaluate(surrogate, stream, **vars(labels_of(stream, part)))
        errors[name].append(float(metrics[f"{headline(metrics).metric}_sample"].mean()))
    return {name: float(np.mean(values)) for name, values in errors.items()}


def main() -> None:
    """Run one case with one seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    case = CASES[arguments.case]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = simulated(case, folder / "data", arguments.seed)
        held_out = simulated(case, folder / "held-out", HELD_OUT, simulations=case["held_out"], shard=case["held_out"])
        tree = {"name": arguments.case, "data": {"path": str(data), **case["data"]}, "model": case["model"]}
        tree |= {"optimizer": {"name": "slimtrain", "learning_rate": 3e-3}, "training": {"batch_size": 16}}
        began = time.monotonic()
        run_comparison(
            Source(arguments.case, tree), [], folder / "run", print, minutes=arguments.minutes, command="benchmarks"
        )
        seconds = time.monotonic() - began
        with open(folder / "run" / "leaderboard.csv", encoding="utf-8") as file:
            leaderboard = list(csv.DictReader(file))
        truth = true_errors(folder / "run" / "cases", leaderboard, held_out)
    named, best = leaderboard[0]["name"], min(truth, key=truth.__getitem__)
    tied = [row["name"] for row in leaderboard if row["no_significant_difference_from_best"] == "True"]
    result = {
        "case": arguments.case,
        "seed": arguments.seed,
        "seconds": seconds,
        "named": named,
        "best": best,
        "tied": tied,
        "ratio": truth[named] / truth[best],
        "estimated": {row["name"]: float(row["error"]) for row in leaderboard},
        "truth": truth,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2), encoding="utf-8")
    print(f"named {named}, best on {case['held_out']} simulations {best}, ratio {result['ratio']:.3f}")


if __name__ == "__main__":
    main()
