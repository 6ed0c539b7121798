"""Surrogates on meshes against interpolation to a grid: errors on the obstacle recipe with 20, 50 and 200 geometries.

    python benchmarks/meshes.py --folder runs/meshes          # about half an hour of one core; goes on where it stopped
    python benchmarks/meshes.py --folder runs/meshes --table  # table, figure and JSON of what has run

Every method gets the same simulations and is scored at the points of the same 60 held-out meshes: relative L2 errors,
integrals over the area. Fields on a grid are interpolated linearly to the points. A seed draws initial weights and
which geometries are trained on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy.interpolate import RegularGridInterpolator

import surrogate as sg
from surrogate.data import Stream, open_snapshots
from surrogate.data.interpolate import on_grid
from surrogate.data.store import write_shard
from surrogate.evaluation.bootstrap import interval
from surrogate.plotting import new_figure
from surrogate.training.build import split_datasets

GEOMETRIES, VALIDATION, TEST = (20, 50, 200), 20, 60
SEEDS, GRID, TARGET = range(5), {"y": 32, "x": 32}, "temperature"
PARAMETERS = ["centre_x", "centre_y", "semi_axis_a", "semi_axis_b", "angle"]
NETWORK = {"schedule": "cosine", "average": 0.98, "batch_size": 5}
METHODS: dict[str, dict[str, Any]] = {
    "transolver": {
        "model": {"family": "transolver", "width": 32, "depth": 3, "slices": 16},
        "data": {"inputs": ["distance", "boundary"]},
        "optimizer": {"name": "slimtrain", "learning_rate": 3e-3},
        "training": NETWORK,
    },
    "U-Net on the grid": {
        "model": {"family": "unet", "width": 16, "levels": 3, "coordinates": True},
        "data": {"inputs": ["distance", "boundary"]},
        "optimizer": {"name": "slimtrain", "learning_rate": 3e-3},
        "training": NETWORK,
    },
    "POD-GP on the grid": {
        "model": {"family": "pod_gp", "modes": 18},
        "data": {"inputs": PARAMETERS},
        "optimizer": {"name": "fit"},
    },
}
EPOCHS = {20: 60, 50: 40, 200: 20}


def files_of(folder: Path) -> tuple[Path, Path]:
    """Make the simulations and their interpolation to a grid, where they are not there yet."""
    data, gridded = folder / "data", folder / "grid.h5"
    if not (data / "manifest.json").exists():
        simulations = max(GEOMETRIES) + VALIDATION + TEST
        sizes = f"sizes.tiny={{simulations: {simulations}, grid: [8, 32], shard: {simulations}}}"
        sg.make_data("obstacle", data, size="tiny", overrides=[sizes], overwrite=data.exists())
    if not gridded.exists():
        write_shard(gridded, on_grid(open_snapshots(data), GRID).drop_vars("origin").load())
    return data, gridded


def run_case(folder: Path, name: str, geometries: int, seed: int) -> np.ndarray:
    """Train a method and return its errors on the held-out meshes, with shape (test,)."""
    meshes, gridded = files_of(folder)
    case, on_mesh = METHODS[name], name == "transolver"
    split = {"validation": VALIDATION, "test": TEST, "seed": 0, "train": geometries, "train_seed": seed}
    data = {"path": str(meshes if on_mesh else gridded), "targets": [TARGET], "split": split, **case["data"]}
    training = {"seed": seed, "epochs": EPOCHS[geometries]} | case.get("training", {}) if "training" in case else {}
    config = {"data": data, "model": case["model"], "optimizer": case["optimizer"], "training": training}
    place = folder / "runs" / f"{name}-{geometries}-{seed}".replace(" ", "-")
    run = sg.train(config, place, overwrite=True, quiet=True)
    if on_mesh:
        return run.evaluate()["relative_l2_sample"].values
    test = split_datasets(run.experiment)["test"]
    stream = Stream(test, run.experiment.data.inputs, [TARGET], batch_size=TEST, shuffle=False)
    with torch.no_grad():
        fields = torch.cat([run.surrogate(batch.inputs) for batch in stream])[:, 0].numpy()
    return errors_at_points(fields, test, meshes)


def errors_at_points(fields: np.ndarray, test: xr.Dataset, meshes: Path) -> np.ndarray:
    """Interpolate fields (B, y, x) to the points of their meshes; return relative L2 errors there, with shape (B,)."""
    ds, lines, errors = open_snapshots(meshes), (test["y"].values, test["x"].values), []
    number = {int(n): position for position, n in enumerate(ds["simulation"].values)}
    for field, simulation in zip(fields, test["simulation"].values, strict=True):
        own = ds.isel(sample=number[int(simulation)])
        there = np.isfinite(own["x"].values)
        points = np.stack([own[name].values[there] for name in ("y", "x")], -1)
        truth, weights = own[TARGET].values[there].astype(float), own["volume"].values[there]
        error = RegularGridInterpolator(lines, field.astype(float))(points) - truth
        errors.append(np.sqrt((weights * error**2).sum() / (weights * truth**2).sum()))
    return np.array(errors)


def floor_of(folder: Path) -> float:
    """Return the mean error of the true fields on the grid, which no method on the grid can do much better than."""
    meshes, gridded = files_of(folder)
    ds = open_snapshots(gridded)
    return float(errors_at_points(ds[TARGET].values, ds, meshes).mean())


def summarise(folder: Path, results: dict[str, list[float]], output: Path | None) -> None:
    """Print means over the complete seeds and the held-out meshes with 90 % intervals; draw them."""
    keys = {seed: [f"{name}/{n}/{seed}" for name in METHODS for n in GEOMETRIES] for seed in SEEDS}
    complete = [seed for seed in SEEDS if all(key in results for key in keys[seed])]
    floor, table = floor_of(folder), {}
    figure, axes = new_figure(width=7.5, height=3.4)
    print(f"interpolation to the grid and back: {floor:.4f}\n\n| method | " + " | ".join(map(str, GEOMETRIES)) + " |")
    print("|---" * (1 + len(GEOMETRIES)) + "|")
    for name in METHODS:
        cells = []
        for n in GEOMETRIES:
            errors = np.array([results[f"{name}/{n}/{seed}"] for seed in complete])
            if len(errors):
                low, high = interval(errors)
                table[f"{name}/{n}"] = {"mean": float(errors.mean()), "low": low, "high": high, "seeds": len(errors)}
                cells.append(f"{errors.mean():.4f} ({low:.4f}, {high:.4f})")
        print(f"| {name} | " + " | ".join(cells) + " |")
        points = [(n, table[f"{name}/{n}"]) for n in GEOMETRIES if f"{name}/{n}" in table]
        mean = np.array([row["mean"] for _, row in points])
        bars = np.array([[row["mean"] - row["low"], row["high"] - row["mean"]] for _, row in points]).T
        axes[0][0].errorbar([n for n, _ in points], mean, bars, marker="o", capsize=3, label=name)
    axes[0][0].axhline(floor, color="grey", linestyle=":", label="interpolation to the grid and back")
    axes[0][0].axhline(0.05, color="black", linestyle="--", linewidth=0.8, label="aim with 200")
    axes[0][0].set(xscale="log", yscale="log", xlabel="training geometries", ylabel="relative L2 error")
    axes[0][0].set_xticks(GEOMETRIES, map(str, GEOMETRIES))
    axes[0][0].set_yticks([0.01, 0.02, 0.05, 0.1], ["0.01", "0.02", "0.05", "0.1"])
    axes[0][0].minorticks_off()
    axes[0][0].legend(fontsize="small", frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(folder / "meshes.png", dpi=110, bbox_inches="tight")
    if output:
        output.write_text(json.dumps({"floor": floor, "errors": table}, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--table", action="store_true", help="train nothing")
    parser.add_argument("--cases", type=int, default=1000, help="train at most this many cases")
    arguments = parser.parse_args()
    notes = arguments.folder / "errors.json"
    arguments.folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[float]] = json.loads(notes.read_text()) if notes.exists() else {}
    wanted = [(n, seed, name) for seed in SEEDS for n in GEOMETRIES for name in METHODS]
    missing = [case for case in wanted if f"{case[2]}/{case[0]}/{case[1]}" not in results]
    for n, seed, name in [] if arguments.table else missing[: arguments.cases]:
        errors = run_case(arguments.folder, name, n, seed)
        results[f"{name}/{n}/{seed}"] = errors.tolist()
        notes.write_text(json.dumps(results))
        print(f"{name}, {n} geometries, seed {seed}: {errors.mean():.4f}", flush=True)
    summarise(arguments.folder, results, arguments.output)


if __name__ == "__main__":
    main()
