"""Time and memory of statistics and of an evaluation over shards made for it, against reading them once in order.

    python benchmarks/evaluation.py --gigabytes 8
    python benchmarks/evaluation.py --gigabytes 8 --cold    # every pass reads from the disk

The growth of the memory is the peak of the passes over all shards less that of the same passes over the first one; the
table of metrics, which has a row for every sample, is part of it. Where files fit into the page cache, the ratios are
those of processors; with `--cold` their pages are given up before every pass, as for files larger than memory.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch
import xarray as xr
from torch import Tensor

from surrogate.data import Stream, open_snapshots
from surrogate.data.store import Manifest, write_manifest, write_shard
from surrogate.evaluation import ErrorMaps, evaluate
from surrogate.normalize import fit_normalizers

SHARD = 64_000_000  # bytes
SIDE = 64
BUFFER = 32_000_000


def make_shards(folder: Path, gigabytes: float) -> list[Path]:
    """Write shards of random fields u (sample, y, x), which differ by a factor."""
    samples, count = SHARD // (4 * SIDE**2), max(2, round(gigabytes * 1e9 / SHARD))
    fields = np.random.default_rng(0).normal(size=(samples, SIDE, SIDE)).astype("f4")
    shards = [
        write_shard(folder / f"{number}.h5", xr.Dataset({"u": (("sample", "y", "x"), (1 + number) * fields)}))
        for number in range(count)
    ]
    write_manifest(folder, Manifest(name="made", digest="0", samples=samples * count, shards=shards))
    return [folder / shard.file for shard in shards]


def resident_peak() -> float:
    """Return the largest resident memory of this process so far, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000


def stream(ds: xr.Dataset) -> Stream:
    return Stream(ds, ["u"], ["u"], batch_size=64, shuffle=False, buffer_bytes=BUFFER)


def statistics(ds: xr.Dataset) -> None:
    fit_normalizers(stream(ds), ["u"], ["u"])


def predict(inputs: Tensor) -> Tensor:
    return 0.9 * inputs


def metrics_alone(ds: xr.Dataset) -> None:
    """Score the prediction 0.9 u as on points of a mesh: without spectra and maps."""
    evaluate(predict, stream(ds), variables=["u"], on_points=True)


def evaluation(ds: xr.Dataset) -> None:
    """Score the prediction 0.9 u with all metrics, spectra and error maps."""
    evaluate(predict, stream(ds), variables=["u"], maps=ErrorMaps())


PASSES = (statistics, metrics_alone, evaluation)


def give_up_pages(shards: list[Path]) -> None:
    """Write what is not on the disk yet and take the files out of the page cache."""
    for shard in shards:
        descriptor = os.open(shard, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def read_in_order(shards: list[Path]) -> None:
    """Read every shard into one array, as fast as h5py does."""
    into = np.empty((SHARD // (4 * SIDE**2), SIDE, SIDE), "f4")
    for shard in shards:
        with h5py.File(shard) as file:
            file["u"].read_direct(into)


def measure(folder: Path, gigabytes: float, cold: bool) -> dict[str, float]:
    shards = make_shards(folder, gigabytes)

    def timed(work: Callable[[], None]) -> float:
        if cold:
            give_up_pages(shards)
        return seconds(work)

    ds = open_snapshots(folder)
    first = ds.isel(sample=slice(0, ds.sizes["sample"] // len(shards)))
    for _ in range(2):  # the second time nothing is imported or compiled
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        for work in PASSES:
            work(first)
        before = resident_peak()
    passes = {work.__name__: timed(lambda work=work: work(ds)) for work in PASSES}
    order = timed(lambda: read_in_order(shards))
    megabytes = SHARD * len(shards) / 1e6
    rates = {f"{name}_mb_per_s": megabytes / value for name, value in (passes | {"in_order": order}).items()}
    shares = {f"{name}_of_in_order": order / value for name, value in passes.items()}
    return {"megabytes": megabytes, "peak_growth_mb": resident_peak() - before, **rates, **shares}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=8.0)
    parser.add_argument("--cold", action="store_true", help="read from the disk, not from the page cache")
    parser.add_argument("--folder", help="where files are made (default: the temporary folder of the system)")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print(json.dumps(measure(Path(folder), arguments.gigabytes, arguments.cold)))


if __name__ == "__main__":
    main()
