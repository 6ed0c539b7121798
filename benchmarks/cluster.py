"""What the paper estimate of docs/cluster.md rests on: bytes that ranks read, times of reductions, sizes of both.

python benchmarks/cluster.py --output cluster.json      # about a minute
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
from pathlib import Path

import h5py
import numpy as np
import torch
from slimtrain import CASES, FIELDS
from stream_files import SNAPSHOT, fields

from surrogate.data import MappedVariable, Mapping, Stream, open_snapshots
from surrogate.models import AutoencoderSettings, Shapes, build

SNAPSHOTS = 2048
BUFFER = 64_000_000  # a quarter of the file, as little of it as can be had with few samples
PER_RANK = 16
SIZES = (12_000, 170_000, 4_000_000, 40_000_000)  # bytes
REDUCE = """
import os, sys, time, statistics, torch
from torch import distributed
distributed.init_process_group("gloo")
for size in map(int, sys.argv[1:]):
    values, times = torch.ones(size // 4), []
    for _ in range(15):
        distributed.barrier()
        start = time.perf_counter()
        distributed.all_reduce(values)
        times.append(time.perf_counter() - start)
        values.fill_(1)
    if os.environ["RANK"] == "0":
        print(size, statistics.median(times), flush=True)
distributed.destroy_process_group()
"""


def write(path: Path, kind: str) -> None:
    """The same snapshots without chunks, or in compressed chunks of 16."""
    options = {"chunks": (16, *SNAPSHOT), "compression": "gzip", "shuffle": True} if kind == "gzip" else {}
    with h5py.File(path, "w") as file:
        u = file.create_dataset("u", (SNAPSHOTS, *SNAPSHOT), "f4", **options)
        for first in range(0, SNAPSHOTS, 64):
            u[first : first + 64] = fields(64, first)


def bytes_read() -> int:
    """Bytes that this process has read from files so far."""
    (line,) = [line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar")]
    return int(line.split()[1])


def reading(path: Path, world: int) -> dict[str, float]:
    """What one of so many ranks reads in a shuffled epoch, over its share of the file, and its speed."""
    layout = Mapping(variables={"u": MappedVariable(path="u", axes=("sample", "y", "x", "channel"))})
    data = open_snapshots(path, layout)
    stream = Stream(data, ["u"], ["u"], batch_size=PER_RANK * world, buffer_bytes=BUFFER, rank=world // 2, world=world)
    for _ in stream:  # the first epoch also checks the values
        pass
    before, start, samples = bytes_read(), time.perf_counter(), 0
    for batch in stream:
        samples += len(batch)
    seconds = time.perf_counter() - start
    share = path.stat().st_size / world
    return {
        "read_over_share": (bytes_read() - before) / share,
        "MB_per_second": samples * 4 * np.prod(SNAPSHOT) / seconds / 1e6,
    }


def reductions(folder: Path) -> dict[str, float]:
    """Seconds of an all-reduce of two processes on this machine (gloo, loopback), by bytes."""
    (folder / "reduce.py").write_text(REDUCE)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PET_LOG_DIR": str(folder / "torchrun")}
    command = [*start, str(folder / "reduce.py"), *map(str, SIZES)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return {line.split()[0]: float(line.split()[1]) for line in done.stdout.splitlines()}


def sizes() -> dict[str, dict[str, int]]:
    """Bytes that a step reduces: gradients in float32, and the sums of slimTrain's solve in float64."""
    autoencoder = build(AutoencoderSettings(width=16, latent=16, levels=2), Shapes(inputs=1, outputs=1, grid=(32, 32)))
    found = {}
    for name, network, shape in (
        ("quickstart autoencoder", autoencoder, (2, 1, 32, 32)),
        (FIELDS, CASES[FIELDS].network(), (2, 2, 256, 256)),
    ):
        values = torch.randn(shape)
        sums = network.head.normal_equations(network.features(values).detach(), values).arranged(network.head.blocks)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        found[name] = {
            "parameters": parameters,
            "gradient_bytes": 4 * parameters,
            "sum_bytes": 8 * (sums.packed.numel() + sums.cross.numel() + 3),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    results: dict[str, object] = {"sizes": sizes()}
    with tempfile.TemporaryDirectory() as name:
        for kind in ("contiguous", "gzip"):
            path = Path(name) / f"{kind}.h5"
            write(path, kind)
            for world in (1, 8, 64):
                found = [reading(path, world) for _ in range(options.repeats)]
                results[f"{kind}, rank of {world}"] = {
                    key: statistics.median(f[key] for f in found) for key in found[0]
                }
        results["seconds of an all-reduce, by bytes"] = reductions(Path(name))
    print(json.dumps(results, indent=1))
    if options.output:
        options.output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
