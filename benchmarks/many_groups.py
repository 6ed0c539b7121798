"""Time to inspect and to open files of thousands of groups, each with two small datasets.

Each file is opened for the first time, so that wall times include its check in a child process; processor times do not.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from surrogate.data import Mapping, open_snapshots
from surrogate.data.inspect import describe

ENTRIES = {"k": ["y", "x"], "T": ["y", "x"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=10_000)
    parser.add_argument("--declared", type=int, default=2_000, help="groups that a layout lists")
    parser.add_argument("--output", type=Path, help="JSON file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        many, again = (_file(Path(folder) / name, arguments.groups) for name in ("many.h5", "again.h5"))
        some = _file(Path(folder) / "some.h5", arguments.declared)
        pattern = {name: {"path": f"run_{{sample}}/{name}", "axes": axes} for name, axes in ENTRIES.items()}
        listed = {name: {"path": name, "axes": axes} for name, axes in ENTRIES.items()}
        groups = [f"run_{i:05d}" for i in range(arguments.declared)]
        results = {
            "h5py, every dataset opened": _seconds(lambda: _open_all(many)),
            "open_snapshots, a pattern": _seconds(
                lambda: open_snapshots(many, Mapping.model_validate({"variables": pattern}))
            ),
            "inspect": _seconds(lambda: describe(again)),
            "open_snapshots, declared groups": _seconds(
                lambda: open_snapshots(some, Mapping.model_validate({"groups": groups, "variables": listed}))
            ),
        }
    for name, (wall, processor) in results.items():
        print(f"{name:34s} {wall:7.2f} s, {processor:7.2f} s of processor time")
    if arguments.output:
        entries = {name: {"seconds": wall, "processor_seconds": cpu} for name, (wall, cpu) in results.items()}
        arguments.output.write_text(json.dumps({**vars(arguments), "output": None, "results": entries}, indent=1))


def _file(path: Path, groups: int) -> Path:
    values = np.random.default_rng(0).normal(size=(groups, 8, 8)).astype("f4")
    with h5py.File(path, "w") as file:
        for i in range(groups):
            file[f"run_{i:05d}/k"], file[f"run_{i:05d}/T"] = values[i], 2 * values[i]
    return path


def _open_all(path: Path) -> None:
    """Open every dataset and ask for its shape, type and place: the least that any reader does."""
    with h5py.File(path) as file:
        for group in file.values():
            for dataset in group.values():
                _ = dataset.shape, dataset.dtype, dataset.id.get_offset()


def _seconds(action: Callable[[], object]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - processor


if __name__ == "__main__":
    main()
