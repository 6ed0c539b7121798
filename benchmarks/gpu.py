"""Training and simulators on a GPU: samples per second, waits for data, memory, and times against the processor's.

    make bench-gpu                                    # with benchmarks/slimtrain.py --device cuda, about ten minutes
    python benchmarks/gpu.py --device cpu --samples 128 --side 32 --epochs 2        # the same script anywhere

Training streams shards of two fields from the page cache through pinned memory and a stream of its own (convolutional
network of width 32), with Adam and slimTrain, in single and in half precision, compiled and not. The first epoch, which
compiles and warms up, does not count.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from surrogate.config import Source
from surrogate.data.store import write_shard
from surrogate.simulate import Ensemble, load_recipe
from surrogate.training import read_experiment, train

HELD_OUT = 32  # validation and test each
RECIPES = {"reaction_diffusion": 32, "burgers_2d": 32, "gray_scott": 32}  # members in a batch


def make_data(path: Path, samples: int, side: int) -> None:
    """Write fields in, rolled and squared fields out."""
    a = np.random.default_rng(0).normal(size=(samples + 2 * HELD_OUT, side, side)).astype("f4")
    axes = ("sample", "y", "x")
    write_shard(path, xr.Dataset({"a": (axes, a), "u": (axes, np.roll(a, 1, axis=2) ** 2 + a)}))


def trained(folder: Path, optimizer: str, epochs: int, **training: Any) -> dict[str, float]:
    """Train once; return medians over the epochs after the first, and the largest memory of the device in MB."""
    split = {"validation": HELD_OUT, "test": HELD_OUT, "seed": 0}
    tree = {
        "name": "gpu",
        "data": {"path": str(folder / "data.h5"), "inputs": ["a"], "targets": ["u"], "split": split},
        "model": {"family": "convnet", "width": 32, "depth": 4},
        "optimizer": {"name": optimizer},
        "training": {"epochs": epochs, "batch_size": 32, "log_every": 50, **training},
    }
    records: list[dict[str, Any]] = []
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory(dir=folder) as output:
        settings = read_experiment(Source("gpu", tree))
        train(
            settings, Path(output) / "run", command="", quiet=True, callbacks=[lambda _, record: records.append(record)]
        )
    later = [record for record in records if record["event"] == "epoch"][1:]
    found = {key: statistics.median(record[key] for record in later) for key in ("samples_per_second", "data_wait")}
    memory = torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else 0.0
    return found | {"device_mb": memory}


def simulated(name: str, members: int, device: str, repeats: int = 3) -> float:
    """Return the median seconds of a batch of simulations of the size `tiny`, after one that warms up."""
    ensemble, seconds = Ensemble(load_recipe(name, [f"sizes.tiny.simulations={members}"]), "tiny", device), []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        ensemble.run(range(members), batch=members).states.cpu()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--samples", type=int, default=4096)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="compiled runs too")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    name = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    results: dict[str, Any] = {"device": name, "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder) / "data.h5", options.samples, options.side)
        kinds = itertools.product(
            ("adam", "slimtrain"), ("float32", "bf16"), (False, True) if options.compile else (False,)
        )
        for optimizer, precision, compiled in kinds:
            training = {"device": options.device, "precision": precision, "compile": compiled}
            key = f"{optimizer} {precision}{' compiled' * compiled}"
            results[key] = trained(Path(folder), optimizer, options.epochs, **training)
            print(key, results[key], flush=True)
    for recipe, members in RECIPES.items():
        cpu, device = (simulated(recipe, members, where) for where in ("cpu", options.device))
        results[f"simulate {recipe}"] = {"cpu_seconds": cpu, "device_seconds": device, "ratio": cpu / device}
        print(recipe, results[f"simulate {recipe}"], flush=True)
    if options.output:
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
