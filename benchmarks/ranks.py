"""Training on two processes of one thread over one process of one thread: same global batch, same steps.

    python benchmarks/ranks.py --repeats 3 --output ranks.json
    python benchmarks/ranks.py --case large

`bare` is a plain loop over tensors in memory with torch's DistributedDataParallel and its fused Adam, which trains the
same network on the same samples: what torch itself makes of the machine and of gloo.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from surrogate.models import AutoencoderSettings, Shapes, build

METHODS = ("adam", "slimtrain", "bare")


@dataclass(frozen=True)
class Case:
    """Fields of `side` x `side` points, the autoencoder that is trained on them, and the batch of all ranks."""

    side: int
    samples: int
    batch: int
    model: dict[str, int]

    @property
    def network(self) -> nn.Module:
        """The network, with random weights."""
        shapes = Shapes(inputs=1, outputs=1, grid=(self.side, self.side))
        return build(AutoencoderSettings.model_validate(self.model), shapes)


CASES = {
    "small": Case(32, 1024, 32, {"width": 16, "latent": 16, "levels": 2}),
    "large": Case(128, 128, 16, {"width": 32, "latent": 32, "levels": 4}),
}


def make_data(path: Path, case: Case) -> None:
    """Write fields and the same fields rolled and squared."""
    held_out = case.batch
    a = np.random.default_rng(0).normal(size=(case.samples + 2 * held_out, case.side, case.side)).astype("f4")
    u = (np.roll(a, 1, axis=2) ** 2 + a).astype("f4")
    axes = ("sample", "y", "x")
    xr.Dataset({"a": (axes, a), "u": (axes, u)}).to_netcdf(path, engine="h5netcdf")


def configuration(data: Path, case: Case, method: str, epochs: int) -> dict[str, Any]:
    """The configuration of a run of the package."""
    split = {"validation": case.batch, "test": case.batch, "seed": 0}
    return {
        "name": "ranks",
        "data": {"path": str(data), "inputs": ["a"], "targets": ["u"], "split": split},
        "model": {"family": "autoencoder", **case.model},
        "optimizer": {"name": method, "learning_rate": 1e-3},
        "training": {"epochs": epochs, "batch_size": case.batch, "device": "cpu", "seed": 0},
    }


def started(folder: Path, ranks: int, command: list[str]) -> str:
    """Run a module or script on so many ranks of one thread and return what it prints."""
    start = [sys.executable]
    if ranks > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    environment["PET_LOG_DIR"] = str(folder / "torchrun")  # else it leaves a temporary folder
    done = subprocess.run([*start, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def rate(folder: Path, name: str, method: str, ranks: int, number: int, epochs: int) -> float:
    """Samples per second of all ranks, median over the epochs after the first."""
    case, data = CASES[name], folder / f"{name}.nc"
    if method == "bare":
        lines = started(folder, ranks, [__file__, "--bare", str(data), "--case", name, "--epochs", str(epochs)])
        return statistics.median(json.loads(lines.splitlines()[-1])[1:])
    output, tree = folder / f"{name}-{method}-{ranks}-{number}", configuration(data, case, method, epochs)
    (folder / "run.yaml").write_text(json.dumps(tree))  # JSON is YAML
    started(folder, ranks, ["-m", "surrogate", "train", "run.yaml", "--output", str(output)])
    records = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return statistics.median([record["samples_per_second"] for record in records if record["event"] == "epoch"][1:])


def bare(data: Path, case: Case, epochs: int) -> list[float]:
    """Samples per second of every epoch of a plain loop, over all ranks."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        distributed.init_process_group("gloo")
    rank = distributed.get_rank() if world > 1 else 0
    with xr.open_dataset(data, engine="h5netcdf") as ds:
        x, y = (torch.from_numpy(ds[name].values[: case.samples])[:, None] for name in ("a", "u"))
    torch.manual_seed(0)
    network = case.network
    model = DistributedDataParallel(network) if world > 1 else network
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, fused=True)
    rates = []
    for _ in range(epochs):
        began = time.perf_counter()
        for rows in torch.randperm(case.samples).split(case.batch):
            mine = rows[rank::world]
            loss = nn.functional.mse_loss(model(x[mine]), y[mine])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        rates.append(case.samples / (time.perf_counter() - began))
    if world > 1:
        distributed.destroy_process_group()
    return rates


def main() -> None:
    """Compare two ranks with one, in turns, since the machine is not the same from minute to minute."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=CASES, help="may be repeated (default: all)")
    parser.add_argument("--method", action="append", choices=METHODS, help="may be repeated (default: all)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--output", type=Path, help="JSON file of all figures")
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)  # the plain loop itself, on this file
    options = parser.parse_args()
    if options.bare:
        rates = bare(options.bare, CASES[options.case[0]], options.epochs)
        if os.environ.get("RANK", "0") == "0":
            print(json.dumps(rates))
        return
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in options.case or CASES:
            make_data(folder / f"{name}.nc", CASES[name])
            parameters = sum(weight.numel() for weight in CASES[name].network.parameters())
            for method in options.method or METHODS:
                pairs = [
                    [rate(folder, name, method, ranks, number, options.epochs) for ranks in (1, 2)]
                    for number in range(options.repeats)
                ]
                ratios = [two / one for one, two in pairs]
                median = statistics.median(ratios)
                results[f"{name} {method}"] = {
                    "parameters": parameters,
                    "samples_per_second": pairs,
                    "ratios": ratios,
                    "median": median,
                }
                one, two = (statistics.median(column) for column in zip(*pairs, strict=True))
                print(
                    f"{name:6} {method:10} {parameters:9,} parameters "
                    f"{one:7.0f} -> {two:7.0f} samples/s  ratio {median:.2f}",
                    flush=True,
                )
    if options.output:
        options.output.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
