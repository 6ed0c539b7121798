"""Fine-tuning a surrogate of a neighbouring problem with 4 simulations against training from scratch with 4.

The neighbour has 60 simulations of the same recipe with one parameter in the lower half of its range, the new problem 4
for training and 4 for validation in the upper half, and 100 for the test. Typical ratios of the errors to those from
scratch, over seeds and test simulations, with 90 % intervals.

Example: python benchmarks/fine_tuning.py --output fine_tuning.json
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

from surrogate.config import Source
from surrogate.evaluation import compare_cases, evaluate, headline, labels_of
from surrogate.experiment.settings import read_experiment
from surrogate.models import Surrogate
from surrogate.simulate import Size
from surrogate.simulate.generate import find_recipe, generate, load_recipe
from surrogate.training import train
from surrogate.training.build import evaluation_stream, split_datasets

ADAM = {"name": "adam", "learning_rate": 3e-3}
CASES: dict[str, dict[str, Any]] = {
    "peaks": {
        "size": {},
        "parameter": "y1",
        "data": {"inputs": ["y1", "y2"], "targets": ["c"]},
        "model": {"family": "mlp", "width": 32, "depth": 2},
    },
    "burgers": {
        "size": {"grid": [32], "snapshots": 2, "final_time": 0.3},
        "parameter": "viscosity",
        "data": {"inputs": ["u", "viscosity"], "targets": ["u"], "window": {"steps_in": 1, "steps_out": 1}},
        "model": {"family": "convnet", "width": 16, "depth": 3},
    },
}
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "scratch": (ADAM, {}),
    "all": (ADAM, {"start_what": "all"}),
    "features": (ADAM, {"start_what": "features"}),
    "head": ({"name": "elm"}, {"start_what": "head"}),
}


def simulated(name: str, folder: Path, count: int, *, upper: bool, seed: int) -> Path:
    """Simulate one half of the range of the first parameter."""
    case, recipe = CASES[name], load_recipe(find_recipe(name))
    full = recipe.parameters[case["parameter"]]
    half = {"low": full.at(0.5)} if upper else {"high": full.at(0.5)}
    parameters = recipe.parameters | {case["parameter"]: full.model_copy(update=half)}
    size = Size.model_validate({"simulations": count, "shard": count, "snapshots": 1, **case["size"]})
    changes = {"parameters": parameters, "seed": recipe.seed + seed, "sizes": {"tiny": size}}
    return generate(recipe.model_copy(update=changes), "tiny", folder)


def errors_of(name: str, data: Path, folder: Path, optimizer: dict[str, Any], training: dict[str, Any]) -> np.ndarray:
    """Train on data and return the error of every test simulation, in the order of the data."""
    case = CASES[name]
    split = training.pop("split")
    tree = {"name": name, "data": {"path": str(data), "split": split, **case["data"]}, "model": case["model"]}
    tree |= {"optimizer": optimizer, "training": {"batch_size": 4, "device": "cpu", **training}}
    experiment = read_experiment(Source(name, tree))
    run = train(experiment, folder, command="benchmarks", quiet=True)
    part = split_datasets(experiment)["test"]
    stream = evaluation_stream(experiment, part)
    metrics = evaluate(Surrogate.load(run.path), stream, **vars(labels_of(stream, part)))
    errors: np.ndarray = metrics[f"{headline(metrics).metric}_sample"].values
    return errors


def main() -> None:
    """Run all ways on both recipes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in CASES:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            many = simulated(name, folder / "many", 60, upper=False, seed=0)
            few = simulated(name, folder / "few", 4 * arguments.seeds + 104, upper=True, seed=1)
            split = {"validation": 6, "test": 6, "seed": 0}
            errors_of(name, many, folder / "big", ADAM, {"epochs": arguments.epochs, "split": split})
            errors: dict[str, list[np.ndarray]] = {way: [] for way in WAYS}
            for seed in range(arguments.seeds):
                for way, (optimizer, options) in WAYS.items():
                    split = {"train": 4, "validation": 4, "test": 100, "seed": 0, "train_seed": seed}
                    training = {"split": split, "seed": seed} | options
                    training |= {} if way == "head" else {"epochs": arguments.epochs}
                    training |= {} if way == "scratch" else {"start_from": str(folder / "big")}
                    errors[way].append(errors_of(name, few, folder / f"{way}-{seed}", optimizer, training))
        tables = {way: np.stack(values) for way, values in errors.items()}
        for way, found in compare_cases(tables, reference="scratch").items():
            rows.append({"data": name, "way": way, **{key: getattr(found, key) for key in ("typical", "low", "high")}})
            print(
                f"{name} {way}: {np.median(tables[way].mean(1)):.3g}, from scratch "
                f"{np.median(tables['scratch'].mean(1)):.3g}; typical ratio {found.typical:.3g} "
                f"({found.low:.3g} to {found.high:.3g}), {found.verdict}",
                flush=True,
            )
    arguments.output.write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
