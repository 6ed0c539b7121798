"""Speed and memory of `Stream`, as ratios in one run on the same files.

    python benchmarks/stream.py --output stream.json                  # every case but the 8 GB file
    python benchmarks/stream.py --case gzip --repeats 9 --folder FOLDER
    python benchmarks/stream.py --case memory --folder FOLDER         # 8 GB are made, streamed and deleted
    python benchmarks/stream.py --case gzip --case well --xbatcher PYTHON --the-well PYTHON

Every figure is the median over repeats; in each repeat all variants of a case run one after another, so that a busy
machine slows all of them. A folder that is named keeps the files for the next call; the 8 GB go in any case. Peers run
in the environments whose Python is named.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from stream_files import SNAPSHOT, SNAPSHOT_MB, make
from torch import nn

from surrogate.data import MappedVariable, Mapping, Stream, Window, open_snapshots
from surrogate.models import AutoencoderSettings, Signature, build

AXES = {"shards": ("sample", "channel", "y", "x")}
CHANNELS_LAST = ("sample", "y", "x", "channel")
BATCH = 32
SEED = 0
STEPS = 40  # of a repeat
PEERS = Path(__file__).with_name("stream_peers.py")

Variants = dict[str, Callable[[], int]]  # each returns the snapshots that it handed out


@dataclass
class Row:
    """A ratio of the table: median and quartiles over the repeats."""

    case: str
    against: str
    target: str
    ratio: float
    lower: float
    upper: float
    stream_mb_s: float
    other_mb_s: float
    reading: str
    repeats: int


@dataclass
class Options:
    """What the command line asked for."""

    folder: Path
    repeats: int
    xbatcher: str | None
    the_well: str | None


# timing


def speeds(variants: Variants, repeats: int) -> dict[str, list[float]]:
    """Snapshots a second of each variant in each repeat; a first, untimed one fills caches."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(repeats + 1):
        for name, run in variants.items():
            start = time.perf_counter()
            samples = run()
            if turn:
                found[name].append(samples / (time.perf_counter() - start))
    return found


def row(case: str, against: str, target: str, found: dict[str, list[float]], stream: Stream) -> Row:
    """The ratio of speeds; where a time is bounded from above, of times."""
    inverted = target.startswith("<")
    ratios = [b / a if inverted else a / b for a, b in zip(found["stream"], found[against], strict=True)]
    lower, middle, upper = np.quantile(ratios, [0.25, 0.5, 0.75]).tolist()
    own, other = (SNAPSHOT_MB * statistics.median(found[name]) for name in ("stream", against))
    reading = ", ".join(dict.fromkeys(stream.reading.values()))
    print(
        f"{case + ', against ' + against:66} {middle:7.2f} ({lower:.2f}-{upper:.2f}; target {target or 'none'})"
        f" {own:6.0f} / {other:6.0f} MB/s, {reading}",
        flush=True,
    )
    return Row(case, against, target, middle, lower, upper, own, other, reading, len(ratios))


def drain(batches: Iterable[object]) -> int:
    return sum(len(batch) for batch in batches)  # type: ignore[arg-type]


# what is compared


def read_in_order(path: Path) -> int:
    """h5py, blocks of 64 snapshots, one after another."""
    with h5py.File(path) as file:
        u = file["u"]
        for first in range(0, len(u), 64):
            u[first : first + 64]
        return len(u)


class SingleSamples(torch.utils.data.Dataset):
    """What most tutorial loaders do: one snapshot a read, through h5py."""

    def __init__(self, path: Path, names: Iterable[str] = ("u",)) -> None:
        self.file = h5py.File(path)
        self.sets = [self.file[name] for name in names]
        self.steps = len(self.sets[0])

    def __len__(self) -> int:
        return self.steps * len(self.sets)

    def __getitem__(self, index: int) -> torch.Tensor:
        seed, step = divmod(index, self.steps)
        return torch.from_numpy(self.sets[seed][step])


def read_single(data: SingleSamples, samples: int, seed: int) -> int:
    """Some samples in random order, in batches; HDF5 keeps a few chunks of each dataset, so never the same twice."""
    chosen = np.random.default_rng(seed).permutation(len(data))[:samples].tolist()
    return drain(torch.utils.data.DataLoader(data, BATCH, sampler=chosen))


def peer(python: str, name: str, path: Path, samples: int) -> float:
    """Seconds that a peer takes for some samples, by its own clock."""
    command = [python, str(PEERS), name, str(path), str(samples)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return samples / float(output)


def against_peers(peers: dict[str, tuple[str, int]], python: str | None, path: Path, options: Options) -> dict:
    """Snapshots a second of peers in each repeat; each runs in a process of its own and times itself."""
    names = peers if python else {}
    return {
        label: [samples / peer(str(python), name, path, samples) for _ in range(options.repeats)]
        for label, (name, samples) in names.items()
    }


# cases


def snapshots(path: Path, kind: str) -> Stream:
    layout = Mapping(variables={"u": MappedVariable(path="u", axes=AXES.get(kind, CHANNELS_LAST))})
    return Stream(open_snapshots(path, layout), ["u"], ["u"], batch_size=BATCH, seed=SEED)


def snapshot_rows(kind: str, targets: tuple[str, str], options: Options) -> list[Row]:
    path = make(options.folder, kind)
    stream, single, rounds = snapshots(path, kind), SingleSamples(path), itertools.count()
    found = speeds(
        {
            "stream": lambda: drain(stream),
            "h5py in order": lambda: read_in_order(path),
            "single random samples": lambda: read_single(single, 256, next(rounds)),
        },
        options.repeats,
    )
    peers = {"xbatcher in order": ("xbatcher", 2048), "xbatcher, single": ("xbatcher-single", 128)}
    others = against_peers(peers, options.xbatcher, path, options)
    wanted = {"h5py in order": targets[0], "single random samples": targets[1]} | dict.fromkeys(others, "")
    return [row(kind, against, target, found | others, stream) for against, target in wanted.items()]


def shards(options: Options) -> list[Row]:
    """Contiguous shards, channels first."""
    return snapshot_rows("shards", (">= 0.5", ""), options)


def contiguous(options: Options) -> list[Row]:
    """A contiguous file with the channels last, which have to be brought to the front."""
    return snapshot_rows("contiguous", ("", ""), options)


def gzip(options: Options) -> list[Row]:
    return snapshot_rows("gzip", (">= 1.3", ">= 15"), options)


def pdebench(options: Options) -> list[Row]:
    """Single snapshots of per-seed files in the chunks (13,16,32,1) that h5py chose."""
    path = make(options.folder, "pdebench")
    opened = open_snapshots(path)
    stream = Stream(opened, ["data"], ["data"], batch_size=BATCH, window=Window(steps_out=0), seed=SEED)
    names = [f"{seed:04d}/data" for seed in opened.seed.values]
    rounds = itertools.count()
    variants = {
        "stream": lambda: drain(stream),
        "single snapshots": lambda: read_single(SingleSamples(path, names), 64, next(rounds)),
    }
    found = speeds(variants, options.repeats)
    return [row("pdebench", "single snapshots", ">= 10", found, stream)]


def well(options: Options) -> list[Row]:
    """One step in, one out, shuffled, on a file of The Well."""
    path = make(options.folder, "well")
    stream = Stream(open_snapshots(path), ["A", "B"], ["A", "B"], batch_size=BATCH, seed=SEED)
    found = speeds({"stream": lambda: drain(stream)}, options.repeats)
    others = against_peers({"The Well's package": ("the_well", 1024)}, options.the_well, path, options)
    return [row("well", against, "", found | others, stream) for against in others]


def step(options: Options) -> list[Row]:
    """An Adam step of the quickstart autoencoder on batches of the stream, and on batches in memory."""
    stream = snapshots(make(options.folder, "shards"), "shards")
    grid = dict(zip(stream.spatial_dims, stream.spatial_shape, strict=True))
    shapes = Signature(inputs=stream.input_names, targets=stream.target_names, grid=grid).shapes
    network = build(AutoencoderSettings(width=16, latent=16, levels=2), shapes)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    held = [batch.inputs.clone() for _, batch in zip(range(16), stream, strict=False)]
    stream.set_epoch(0)
    sources = {
        "stream": (batch.inputs for _ in itertools.count() for batch in stream),
        "memory": itertools.cycle(held),
    }

    def train(batches: Iterator[torch.Tensor]) -> float:
        start = time.perf_counter()
        values = next(batches)
        loss = nn.functional.mse_loss(network(values), values)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return time.perf_counter() - start

    found: dict[str, list[float]] = {name: [] for name in sources}
    for turn in range(options.repeats + 1):
        seconds = dict.fromkeys(sources, 0.0)
        for _, name in itertools.product(range(STEPS), sources):  # step by step in turns
            seconds[name] += train(sources[name])
        for name in sources if turn else ():
            found[name].append(STEPS * BATCH / seconds[name])
    return [row("adam step", "memory", "<= 1.05", found, stream)]


CASES: dict[str, Callable[[Options], list[Row]]] = {
    "shards": shards,
    "contiguous": contiguous,
    "gzip": gzip,
    "pdebench": pdebench,
    "well": well,
    "step": step,
}

# memory

MEASURE = """
import sys
from pathlib import Path
import psutil
from surrogate.data import MappedVariable, Mapping, Stream, open_snapshots
axes = ("sample", "channel", "y", "x")
opened = open_snapshots(Path(sys.argv[1]), Mapping(variables={"u": MappedVariable(path="u", axes=axes)}))
stream = Stream(opened, ["u"], ["u"], batch_size=32, buffer_bytes=256_000_000)
process = psutil.Process()
print(process.memory_info().rss, flush=True)
for k, batch in enumerate(stream):
    if k % 25 == 0:
        print(process.memory_info().rss, flush=True)
"""


def memory(path: Path) -> dict[str, float]:
    """Resident memory of a process of its own over an epoch with a buffer of 256 MB."""
    output = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    before, *resident = [int(line) / 1e6 for line in output.stdout.split()]
    quarters = [statistics.mean(part) for part in np.array_split(resident, 4)]
    print(
        f"{'resident memory, ' + path.stem + ', buffer 256 MB':66} {max(resident):7.0f} MB at most (target 700); means "
        f"over the quarters of the epoch {', '.join(f'{mean:.0f}' for mean in quarters)} MB; {before:.0f} MB before"
    )
    return {"file_mb": path.stat().st_size / 1e6, "before": before, "largest": max(resident)} | {
        f"quarter {index}": mean for index, mean in enumerate(quarters, 1)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=[*CASES, "memory"], help="may be repeated")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="keeps the files for the next call (default: a temporary folder)")
    parser.add_argument("--xbatcher", help="Python of an environment with xbatcher, dask and h5netcdf")
    parser.add_argument("--the-well", help="Python of an environment with the_well")
    parser.add_argument("--output", type=Path, help="JSON file of all figures")
    given = parser.parse_args()
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    rows: list[Row] = []
    resident: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        options = Options(given.folder or Path(temporary), given.repeats, given.xbatcher, given.the_well)
        for name in given.case or CASES:
            if name == "memory":
                large = make(options.folder, "large")
                resident = memory(large)
                large.unlink()
            else:
                rows += CASES[name](options)
    if given.output:
        document = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end",
            "versions": {m.__name__: m.__version__ for m in (torch, np, h5py)} | {"python": platform.python_version()},
            "snapshot": SNAPSHOT,
            "rows": [asdict(entry) for entry in rows],
            "resident": resident,
        }
        given.output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
