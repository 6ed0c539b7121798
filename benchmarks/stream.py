"""Speed and memory of `Stream`, as ratios in one run on the same files.

    python benchmarks/stream.py --output stream.json         # tables of speed, about three minutes
    python benchmarks/stream.py --full --output stream.json  # also resident memory over a file of 8 GB

Every figure is the median over rounds; in each round all variants of a row run one after another, so that a busy
machine slows all of them. `--quiet` waits before each round until at most a quarter of the machine is busy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np
import psutil
import torch
from torch import nn

from surrogate.data import MappedVariable, Mapping, Stream, Window, open_snapshots
from surrogate.models import AutoencoderSettings, Signature, build

SNAPSHOT = (128, 128, 2)
SNAPSHOTS = Mapping(variables={"u": MappedVariable(path="u", axes=("sample", "y", "x", "channel"))})
BATCH = 32
SEED = 0


@dataclass
class Row:
    """A ratio of the table: median and spread over the rounds."""

    case: str
    target: str
    ratio: float
    lowest: float
    highest: float
    stream_mb_s: float
    other_mb_s: float
    reading: str


# files


def fields(count: int, seed: int) -> np.ndarray:
    """Smooth fields with a little noise, which compress about as simulations do: (count, 128, 128, 2)."""
    rng = np.random.default_rng(seed)
    x = np.linspace(0, np.pi, SNAPSHOT[0], dtype=np.float32)
    modes = np.sin(np.arange(1, 9, dtype=np.float32)[:, None] * x)
    weights = rng.normal(size=(count, 8, 2)).astype(np.float32)
    smooth = np.einsum("bkc,ky,kx->byxc", weights, modes, modes, optimize=True)
    return smooth + 1e-3 * rng.normal(size=(count, *SNAPSHOT)).astype(np.float32)


def write_snapshots(path: Path, count: int, **options: object) -> Path:
    with h5py.File(path, "w") as file:
        u = file.create_dataset("u", (count, *SNAPSHOT), "f4", **options)
        for first in range(0, count, 64):
            u[first : first + 64] = fields(min(64, count - first), first)
    return path


def write_pdebench(path: Path, seeds: int) -> tuple[Path, Mapping]:
    """Groups 0000, 0001, ... with `data` (101, 128, 128, 2), lzf, in the chunks that h5py chooses."""
    names = tuple(f"{seed:04d}" for seed in range(seeds))
    with h5py.File(path, "w") as file:
        for seed, name in enumerate(names):
            data = fields(101, seed)
            file.create_dataset(f"{name}/data", data=data, compression="lzf", chunks=True)
    axes = ("time", "y", "x", "channel")
    return path, Mapping(groups=names, variables={"u": MappedVariable(path="data", axes=axes)})


# what is compared: each returns the samples it handed out


def drain(batches: Iterable[object]) -> int:
    return sum(len(batch) for batch in batches)  # type: ignore[arg-type]


def read_in_order(path: Path) -> int:
    """h5py, blocks of 64 snapshots, one after another."""
    with h5py.File(path) as file:
        u = file["u"]
        for first in range(0, len(u), 64):
            u[first : first + 64]
        return len(u)


class SingleSamples(torch.utils.data.Dataset):
    """What most tutorial loaders do: one snapshot a read, through h5py."""

    def __init__(self, path: Path, names: tuple[str, ...] = ("u",)) -> None:
        self.file = h5py.File(path)
        self.sets = [self.file[name] for name in names]
        self.steps = len(self.sets[0])

    def __len__(self) -> int:
        return self.steps * len(self.sets)

    def __getitem__(self, index: int) -> torch.Tensor:
        seed, step = divmod(index, self.steps)
        return torch.from_numpy(self.sets[seed][step]).movedim(-1, 0)


def read_single(data: SingleSamples, samples: int) -> int:
    """Some samples in random order, in batches."""
    chosen = np.random.default_rng(SEED).permutation(len(data))[:samples].tolist()
    loader = torch.utils.data.DataLoader(data, BATCH, sampler=chosen)
    return drain(loader)


# timing


def quiet(wanted: bool) -> None:
    """Wait, at most a minute a round, for an idle moment."""
    for _ in range(60 if wanted else 0):
        if psutil.cpu_percent(1.0) < 25:
            return


def speeds(variants: dict[str, Callable[[], int]], rounds: int, wait: bool) -> dict[str, list[float]]:
    """Samples a second of each variant in each round; the first, untimed round fills caches."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        quiet(wait and turn > 0)
        for name, run in variants.items():
            start = time.perf_counter()
            samples = run()
            if turn:
                found[name].append(samples / (time.perf_counter() - start))
    return found


def row(
    case: str, target: str, found: dict[str, list[float]], other: str, stream: Stream, *, times: bool = False
) -> Row:
    """The ratio of speeds, or of times."""
    ratios = [b / a if times else a / b for a, b in zip(found["stream"], found[other], strict=True)]
    megabytes = 4 * np.prod(SNAPSHOT) / 1e6
    own, others = (float(statistics.median(found[name]) * megabytes) for name in ("stream", other))
    result = Row(
        case,
        target,
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        own,
        others,
        ", ".join(stream.reading.values()),
    )
    print(
        f"{case:62} {result.ratio:7.2f} (target {target}; {result.lowest:.2f} to {result.highest:.2f}) "
        f"{own:6.0f} against {others:6.0f} MB/s, {result.reading}",
        flush=True,
    )
    return result


# rows


def snapshot_rows(path: Path, name: str, targets: tuple[str, str], rounds: int, wait: bool) -> list[Row]:
    stream = Stream(open_snapshots(path, SNAPSHOTS), ["u"], ["u"], batch_size=BATCH, seed=SEED)
    single = SingleSamples(path)
    variants = {
        "stream": lambda: drain(stream),
        "in order": lambda: read_in_order(path),
        "single": lambda: read_single(single, 256),
    }
    found = speeds(variants, rounds, wait)
    return [
        row(f"{name}: against h5py in order, blocks of 64", targets[0], found, "in order", stream),
        row(f"{name}: against single random samples", targets[1], found, "single", stream),
    ]


def pdebench_row(folder: Path, seeds: int, rounds: int, wait: bool) -> Row:
    path, layout = write_pdebench(folder / "pdebench.h5", seeds)
    opened = open_snapshots(path, layout)
    stream = Stream(opened, ["u"], ["u"], batch_size=BATCH, window=Window(steps_out=0), seed=SEED)
    single = SingleSamples(path, tuple(f"{name}/data" for name in layout.groups))
    variants = {"stream": lambda: drain(stream), "single": lambda: read_single(single, 64)}
    found = speeds(variants, rounds, wait)
    return row("PDEBench, lzf, chunks (13,16,32,1): against single snapshots", ">= 10", found, "single", stream)


def step_row(path: Path, rounds: int, wait: bool) -> Row:
    """An Adam step of the quickstart autoencoder on batches of the stream, and on batches in memory."""
    stream = Stream(open_snapshots(path, SNAPSHOTS), ["u"], ["u"], batch_size=BATCH, seed=SEED)
    grid = dict(zip(stream.spatial_dims, stream.spatial_shape, strict=True))
    shapes = Signature(inputs=stream.input_names, targets=stream.target_names, grid=grid).shapes
    network = build(AutoencoderSettings(width=16, latent=16, levels=2), shapes)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    held = [next(iter(stream)).inputs.clone() for _ in range(2)]

    def train(batches: Iterable[torch.Tensor], steps: int = 12) -> int:
        for _, values in zip(range(steps), batches, strict=False):
            loss = nn.functional.mse_loss(network(values), values)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return steps * BATCH

    batches = (batch.inputs for _ in range(1000) for batch in stream)
    variants = {
        "stream": lambda: train(batches),
        "memory": lambda: train(held[k % 2] for k in range(100)),
    }
    found = speeds(variants, rounds, wait)
    return row(
        "Adam step of the quickstart autoencoder: time against memory", "<= 1.05", found, "memory", stream, times=True
    )


def xbatcher_row(path: Path, python: str, rounds: int) -> dict[str, float]:
    """xbatcher in an environment of its own: shuffling is left to the loader, so batches come in order."""
    script = (
        "import sys, time, xarray as xr, xbatcher\n"
        "ds = xr.open_dataset(sys.argv[1], engine='h5netcdf', phony_dims='sort', chunks={})\n"
        "first = list(ds.u.dims)[0]\n"
        "for _ in range(int(sys.argv[2])):\n"
        "    start, count = time.perf_counter(), 0\n"
        "    for batch in xbatcher.BatchGenerator(ds, {d: (32 if d == first else n) for d, n in ds.sizes.items()}):\n"
        "        count += batch.u.values.shape[0]\n"
        "    print(count / (time.perf_counter() - start))\n"
    )
    output = subprocess.run([python, "-c", script, str(path), str(rounds)], capture_output=True, text=True, check=True)
    rate = statistics.median(map(float, output.stdout.split()))
    print(f"{'xbatcher, batches of 32 in order (' + path.stem + ')':62} {rate * 4 * np.prod(SNAPSHOT) / 1e6:7.0f} MB/s")
    return {"file": path.stem, "mb_s": float(rate * 4 * np.prod(SNAPSHOT) / 1e6)}


# memory

MEASURE = """
import os, sys
from pathlib import Path
import psutil
from surrogate.data import MappedVariable, Mapping, Stream, open_snapshots
axes = ("sample", "y", "x", "channel")
opened = open_snapshots(Path(sys.argv[1]), Mapping(variables={"u": MappedVariable(path="u", axes=axes)}))
stream = Stream(opened, ["u"], ["u"], batch_size=32, buffer_bytes=256_000_000)
process = psutil.Process()
print(process.memory_info().rss, flush=True)
for epoch in range(2):
    for k, batch in enumerate(stream):
        if k % 25 == 0:
            print(process.memory_info().rss, flush=True)
"""


def memory(path: Path) -> dict[str, float]:
    """Resident memory of a process of its own, over two epochs."""
    command = [sys.executable, "-c", MEASURE, str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    resident = [int(line) / 1e6 for line in output.stdout.split()]
    steady = resident[len(resident) // 4 :]
    result = {
        "file_mb": path.stat().st_size / 1e6,
        "before_mb": resident[0],
        "largest_mb": max(resident),
        "steady_lowest_mb": min(steady),
        "steady_highest_mb": max(steady),
    }
    print(
        f"{'resident memory, ' + path.stem + ', buffer 256 MB':62} {max(resident):7.0f} MB at most (target 700), "
        f"after a quarter {min(steady):.0f} to {max(steady):.0f} MB; {resident[0]:.0f} MB before the first batch"
    )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="memory over files of 8 GB instead of 1 GB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quiet", action="store_true", help="wait for idle moments")
    parser.add_argument("--folder", type=Path, help="where the files are made (default: the temporary folder)")
    parser.add_argument("--xbatcher", help="Python of an environment with xbatcher, dask and h5netcdf")
    parser.add_argument("--output", type=Path, help="JSON file of all figures")
    options = parser.parse_args()
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    peers: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        plain = write_snapshots(folder / "contiguous.h5", 8192)
        packed = write_snapshots(
            folder / "gzip.h5", 4096, chunks=(16, *SNAPSHOT), compression="gzip", compression_opts=4, shuffle=True
        )
        rows = snapshot_rows(plain, "contiguous", (">= 0.5", ""), options.rounds, options.quiet)
        rows += snapshot_rows(packed, "gzip-4 + shuffle", (">= 1.3", ">= 15"), options.rounds, options.quiet)
        rows.append(pdebench_row(folder, 10, options.rounds, options.quiet))
        rows.append(step_row(plain, options.rounds, options.quiet))
        if options.xbatcher:
            peers = [xbatcher_row(path, options.xbatcher, 3) for path in (plain, packed)]
        resident = [memory(packed)]
        packed.unlink()
        if options.full:
            plain.unlink()
            plain = write_snapshots(folder / "contiguous.h5", 61_440)
        resident.append(memory(plain))
    if options.output:
        document = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end",
            "versions": {m.__name__: m.__version__ for m in (torch, np, h5py)} | {"python": platform.python_version()},
            "rows": [asdict(entry) for entry in rows],
            "peers": peers,
            "resident": resident,
        }
        options.output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
