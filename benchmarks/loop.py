"""One epoch of the training loop against a bare loop over tensors in memory: time and peak memory, as ratios.

    python benchmarks/loop.py --output loop.json

Both train the same network on the same samples with Adam, in batches of the same size. The bare loop has the samples
normalised in memory; ours streams them from an HDF5 file, normalises, checks for what is not finite, seeds, logs,
and validates. Runs take turns; of each the faster of two warm epochs counts. The checkpoint is not in the time.
The bare loop runs with torch's default Adam and with `fused=True`, which ours sets by itself on the CPU.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from surrogate.config import Source
from surrogate.models import AutoencoderSettings, Shapes, build
from surrogate.training import read_experiment, train

SAMPLES, SIDE, BATCH = 1280, 32, 32
HELD_OUT = 64  # validation and test each


def make_data(path: Path) -> None:
    """Fields in, rolled and squared fields out."""
    a = np.random.default_rng(0).normal(size=(SAMPLES + 2 * HELD_OUT, SIDE, SIDE)).astype("f4")
    u = (np.roll(a, 1, axis=2) ** 2 + a).astype("f4")
    axes = ("sample", "y", "x")
    xr.Dataset({"a": (axes, a), "u": (axes, u)}).to_netcdf(path, engine="h5netcdf")


def experiment(folder: Path, epochs: int) -> Any:
    """The configuration that both sides train."""
    tree = {
        "name": "loop",
        "data": {
            "path": str(folder / "data.nc"),
            "inputs": ["a"],
            "targets": ["u"],
            "split": {"validation": HELD_OUT, "test": HELD_OUT, "seed": 0},
        },
        "model": {"family": "autoencoder", "width": 16, "latent": 50, "levels": 2},
        "optimizer": {"name": "adam"},
        "training": {"epochs": epochs, "batch_size": BATCH, "device": "cpu"},
    }
    return read_experiment(Source("loop", tree))


def ours(folder: Path, epochs: int) -> list[float]:
    """Seconds of each epoch with its validation, the checkpoint that follows not included."""
    found: list[float] = []

    def note(_trainer: Any, record: dict[str, Any]) -> None:
        if record["event"] == "epoch":
            found.append(record["seconds"])

    with tempfile.TemporaryDirectory(dir=folder) as output:
        train(experiment(folder, epochs), Path(output) / "run", command="", callbacks=[note])
    return found


def bare(folder: Path, epochs: int, *, fused: bool | None = None) -> list[float]:
    """Seconds of each epoch of a plain loop, its validation included as it is in ours."""
    torch.manual_seed(0)
    with xr.open_dataset(folder / "data.nc", engine="h5netcdf") as ds:
        x, y = (torch.from_numpy(ds[name].values)[:, None] for name in ("a", "u"))
    x, y = ((value - value[:SAMPLES].mean()) / value[:SAMPLES].std() for value in (x, y))
    settings = AutoencoderSettings(width=16, latent=50, levels=2)
    network = build(settings, Shapes(inputs=1, outputs=1, grid=(SIDE, SIDE)))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, fused=fused)
    seconds = []
    for _ in range(epochs):
        started = time.perf_counter()
        network.train()
        for rows in torch.randperm(SAMPLES).split(BATCH):
            loss = nn.functional.mse_loss(network(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            for rows in torch.arange(SAMPLES, SAMPLES + HELD_OUT).split(BATCH):
                float(nn.functional.mse_loss(network(x[rows]), y[rows]))
        seconds.append(time.perf_counter() - started)
    return seconds


SIDES = {"ours": ours, "bare": bare, "bare fused": partial(bare, fused=True)}


def ratio(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Median and quartiles of the ratios."""
    ratios = [a / b for a, b in pairs]
    return {"median": statistics.median(ratios), "quartiles": statistics.quantiles(ratios, n=4)}


def peak(folder: Path, side: str) -> float:
    """Largest resident size of a process of its own, in MiB."""
    done = subprocess.run(
        [sys.executable, __file__, "--only", side, "--folder", str(folder)], capture_output=True, text=True, check=True
    )
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", choices=["ours", "bare"])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.only:
        SIDES[options.only](options.folder, 2)
        status = Path("/proc/self/status").read_text()  # ru_maxrss would be inherited from the parent
        print(int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder / "data.nc")
        ours(folder, 1), bare(folder, 1)
        times = [[min(run(folder, 3)[1:]) for run in SIDES.values()] for _ in range(options.repeats)]
        memory = [peak(folder, side) for side in ("ours", "bare")]
    result = {
        "seconds": dict(zip(SIDES, map(statistics.median, zip(*times, strict=True)), strict=True)),
        "to bare": ratio([(a, b) for a, b, _ in times]),
        "to bare fused": ratio([(a, c) for a, _, c in times]),
        "peak_mib": {"ours": memory[0], "bare": memory[1]},
        "memory_ratio": memory[0] / memory[1],
        "repeats": options.repeats,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(result, indent=2))
    if options.output:
        options.output.write_text(json.dumps(result, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
