"""A study with two dask workers over the same with one, and what a case costs beside its training.

Example: python benchmarks/study.py --output study.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import xarray as xr

from surrogate.simulate.generate import find_recipe, generate, load_recipe
from surrogate.workflows import Spread, find_pipeline, run_file

METHODS = "cases={slimtrain: {}, adam: {optimizer: {name: adam, learning_rate: 2e-3}}}"


def run(folder: Path, data: Path, workers: int, arguments: argparse.Namespace) -> tuple[float, float]:
    """Seconds that a study takes, the start of the cluster and the report included, and, of them, seconds from the end
    of one case to the end of the next without the training, mean of all with one worker."""
    moments: list[tuple[float, float]] = []

    def note(line: str) -> None:
        if found := re.search(r"\[\d+/\d+\].*?, ([\d.]+) s(?:,|$)", line):
            moments.append((time.perf_counter(), float(found[1])))

    seeds = list(range(arguments.seeds))
    overrides = [f"data.path={data}", f"study.seeds={seeds}", f"training.epochs={arguments.epochs}", METHODS]
    started = time.perf_counter()
    run_file(
        find_pipeline("scarce"),
        overrides,
        folder,
        note,
        command="benchmarks/study.py",
        resume=False,
        overwrite=False,
        spread=Spread(workers=workers),
    )
    seconds = time.perf_counter() - started
    between = moments[-1][0] - moments[0][0] - sum(trained for _, trained in moments[1:])
    return seconds, between / (len(moments) - 1)


def table(folder: Path) -> xr.Dataset:
    """The table of a study without its times."""
    return xr.load_dataset(folder / "table.nc", engine="h5netcdf").drop_vars(["seconds", "curve_seconds"])


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        data = generate(load_recipe(find_recipe("convection_diffusion")), "tiny", root / "data")
        for repeat in range(arguments.repeats):
            folders = {workers: root / f"{repeat}-{workers}" for workers in (1, 2)}
            measured = {workers: run(folder, data, workers, arguments) for workers, folder in folders.items()}
            seconds = {workers: whole for workers, (whole, _) in measured.items()}
            trained = xr.load_dataset(folders[1] / "table.nc", engine="h5netcdf")["seconds"]
            rows.append(
                {
                    "one_worker_s": seconds[1],
                    "two_workers_s": seconds[2],
                    "ratio": seconds[1] / seconds[2],
                    "cases": trained.size,
                    "beside_training_s": seconds[1] - float(trained.sum()),
                    "of_which_per_case_s": measured[1][1],
                    "report_bytes": (folders[1] / "report.html").stat().st_size,
                    "same_table": table(folders[1]).identical(table(folders[2])),
                }
            )
            print(rows[-1])
    ratio = statistics.median(row["ratio"] for row in rows)
    print(f"two workers against one: {ratio:.2f} times faster (median of {len(rows)})")
    if arguments.output:
        text = json.dumps({"machine": platform.machine(), "arguments": vars(arguments), "rows": rows}, default=str)
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
