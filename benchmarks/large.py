"""Growth of memory: training from shards of any size, and many short cases in one process.

    python benchmarks/large.py --gigabytes 8       # shards are made, trained from for one epoch and deleted
    python benchmarks/large.py --cases 200         # cases of a study, one after another as a worker runs them

Memory is the resident size of this process, which does not count the page cache of the system.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import psutil
from evaluation import make_shards

from surrogate.config import Source, dump
from surrogate.experiment.settings import Experiment, read_experiment
from surrogate.simulate.generate import find_recipe, generate, load_recipe
from surrogate.training.run import train
from surrogate.workflows.cases import find_pipeline, read_cases
from surrogate.workflows.execute import Job, run_case

QUARTERS = 4


def resident() -> float:
    """Return the resident memory of this process in MB."""
    return psutil.Process().memory_info().rss / 1e6


def by_quarters(values: list[float]) -> list[float]:
    """Return the medians over the quarters of a run."""
    size = max(1, len(values) // QUARTERS)
    return [round(statistics.median(values[k * size : (k + 1) * size]), 4) for k in range(min(QUARTERS, len(values)))]


def from_shards(folder: Path, gigabytes: float) -> dict[str, Any]:
    """Train a small network with slimTrain on all samples once."""
    make_shards(folder / "data", gigabytes)
    experiment = read_experiment(
        Source(
            "large",
            {
                "data": {"path": str(folder / "data"), "inputs": ["u"], "targets": ["u"], "split": {"validation": 64}},
                "model": {"family": "convnet", "width": 2, "depth": 1},
                "optimizer": {"name": "slimtrain"},
                "training": {"epochs": 1, "batch_size": 256, "log_every": 20, "buffer_mb": 256},
            },
            {},
        )
    )
    sizes: list[float] = []
    begun = time.perf_counter()
    train(
        experiment,
        folder / "run",
        command="benchmarks/large.py",
        quiet=True,
        callbacks=[lambda trainer, record: sizes.append(resident())],
    )
    seconds = time.perf_counter() - begun
    return {"gigabytes": gigabytes, "seconds": round(seconds, 1), "resident_mb": by_quarters(sizes), "most": max(sizes)}


def short_cases(folder: Path, count: int) -> dict[str, Any]:
    """Run cases that differ by their seed alone; return memory and processor time of a case by quarters of the run."""
    data = generate(load_recipe(find_recipe("convection_diffusion")), "tiny", folder / "data")
    settings = [f"data.path={data}", "data.split.train=4", "data.split.validation=2", "data.split.test=2"]
    base = read_cases(find_pipeline("scarce"), [*settings, "training.epochs=1", "model.width=2"])["slimtrain"]
    sizes, seconds = [], []
    for seed in range(count):
        training = base.training.model_copy(update={"seed": seed})
        experiment: Experiment = base.model_copy(update={"training": training})
        begun = time.process_time()
        outcome = run_case(Job(str(folder / f"case-{seed}"), dump(experiment), "benchmarks/large.py"))
        if outcome.status != "done":
            raise SystemExit(f"case {seed} failed: {outcome.why}")
        seconds.append(time.process_time() - begun)
        sizes.append(resident())
    return {"cases": count, "resident_mb": by_quarters(sizes), "processor_s_per_case": by_quarters(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
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
