"""Training on two processes of one thread over one process of one thread: same global batch, same steps.

python benchmarks/ranks.py --repeats 3 --output ranks.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SIMULATE = ["simulate", "convection_diffusion", "--size", "tiny", "--output", "data"]
TRAIN = ["train", "quickstart", "--set", "data.path=data", "--set", "training.device=cpu"]


def surrogate(folder: Path, ranks: int, arguments: list[str]) -> None:
    """Run a command of the package on so many ranks of one thread."""
    start = [sys.executable, "-m"]
    if ranks > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    environment["PET_LOG_DIR"] = str(folder / "torchrun")  # else it leaves a temporary folder
    subprocess.run([*start, "surrogate", *arguments], cwd=folder, env=environment, check=True, capture_output=True)


def rate(folder: Path, case: str, ranks: int, number: int, epochs: int) -> float:
    """Samples per second of all ranks, median over the epochs after the first."""
    output = f"{case}-{ranks}-{number}"
    given = ["--case", case, "--output", output, "--set", f"training.epochs={epochs}"]
    surrogate(folder, ranks, [*TRAIN, *given])
    records = [json.loads(line) for line in (folder / output / "log.jsonl").read_text().splitlines()]
    rates = [record["samples_per_second"] for record in records if record["event"] == "epoch"]
    return statistics.median(rates[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as name:
        surrogate(Path(name), 1, SIMULATE)
        for case in ("adam", "slimtrain"):
            pairs = [
                [rate(Path(name), case, ranks, number, options.epochs) for ranks in (1, 2)]
                for number in range(options.repeats)
            ]  # in turns, since the machine is not the same from minute to minute
            ratios = [two / one for one, two in pairs]
            results[case] = {"samples_per_second": pairs, "ratios": ratios, "median": statistics.median(ratios)}
            print(f"{case:10} {pairs[0][0]:7.0f} -> {pairs[0][1]:7.0f} samples/s  ratio {results[case]['median']:.2f}")
    if options.output:
        options.output.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
