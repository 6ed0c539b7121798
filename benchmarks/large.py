"""Growth of memory and time: training from shards of any size, and a study of many short cases on two workers.

    python benchmarks/large.py --gigabytes 64 --folder FOLDER    # made, trained from for one epoch and deleted
    python benchmarks/large.py --cases 1000

Memory is the resident size of processes, which does not count the page cache of the system. Given are medians over the
quarters of a run: of a run that does not grow they are the same.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import psutil
from evaluation import make_shards
from study import METHODS

from surrogate.config import Source
from surrogate.experiment.settings import read_experiment
from surrogate.simulate.generate import find_recipe, generate, load_recipe
from surrogate.training.run import train
from surrogate.workflows import Spread, find_pipeline, run_file

QUARTERS = 4


def resident_mb(process: psutil.Process) -> float:
    """Return the resident memory of a process in MB, zero if it has ended."""
    try:
        return float(process.memory_info().rss / 1e6)
    except psutil.NoSuchProcess:
        return 0.0


def by_quarters(values: list[float]) -> list[float]:
    """Return the medians over the quarters of a run."""
    size = max(1, len(values) // QUARTERS)
    return [round(statistics.median(values[k * size : (k + 1) * size]), 3) for k in range(min(QUARTERS, len(values)))]


def from_shards(folder: Path, gigabytes: float) -> dict[str, Any]:
    """Train a small network with slimTrain on all samples once."""
    begun = time.perf_counter()
    make_shards(folder / "data", gigabytes)
    made = time.perf_counter()
    tree = {
        "name": "large",
        "data": {"path": str(folder / "data"), "inputs": ["u"], "targets": ["u"], "split": {"validation": 64}},
        "model": {"family": "mlp", "width": 4, "depth": 1},
        "optimizer": {"name": "slimtrain"},
        "training": {"epochs": 1, "batch_size": 256, "log_every": 20, "buffer_mb": 256},
    }
    sizes: list[float] = []
    times: list[float] = []

    def note(*_: Any) -> None:
        sizes.append(resident_mb(psutil.Process()))
        times.append(time.perf_counter())

    train(read_experiment(Source("large", tree)), folder / "run", command="benchmarks", quiet=True, callbacks=[note])
    return {
        "gigabytes": gigabytes,
        "made_s": round(made - begun, 1),
        "to_first_record_s": round(times[0] - made, 1),
        "epoch_s": round(times[-1] - times[0], 1),
        "resident_mb": by_quarters(sizes),
        "most_mb": round(max(sizes)),
        "s_between_records": by_quarters([b - a for a, b in itertools.pairwise(times)]),
    }


def short_cases(folder: Path, cases: int) -> dict[str, Any]:
    """Run a study of cases that differ by method and seed on two workers."""
    data = generate(load_recipe(find_recipe("convection_diffusion")), "tiny", folder / "data")
    main, workers, times = [], [], []

    def note(line: str) -> None:
        if re.search(r"\[\d+/\d+\]", line):
            main.append(resident_mb(psutil.Process()))
            workers.append(max(resident_mb(child) for child in psutil.Process().children(recursive=True)))
            times.append(time.perf_counter())

    overrides = [f"data.path={data}", f"study.seeds={list(range(cases // 4))}", "training.epochs=1", "model.width=2"]
    overrides += ["study.axes={data.split.train: [4, 9]}", METHODS]
    begun = time.perf_counter()
    run_file(
        find_pipeline("scarce"),
        overrides,
        folder / "study",
        note,
        command="benchmarks",
        resume=False,
        overwrite=False,
        spread=Spread(workers=2),
    )
    return {
        "cases": len(times),
        "seconds": round(time.perf_counter() - begun, 1),
        "report_s": round(time.perf_counter() - times[-1], 1),
        "main_mb": by_quarters(main),
        "largest_worker_mb": by_quarters(workers),
        "s_between_cases": by_quarters([b - a for a, b in itertools.pairwise(times)]),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float)
    parser.add_argument("--cases", type=int)
    parser.add_argument("--folder", help="where files are made (default: the temporary folder of the system)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        if given.gigabytes:
            print(json.dumps(from_shards(Path(folder), given.gigabytes)))
        if given.cases:
            print(json.dumps(short_cases(Path(folder), given.cases)))


if __name__ == "__main__":
    main()
