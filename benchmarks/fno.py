"""Error and time of our Fourier neural operator against that of the `neuraloperator` package, in one run.

    pip install neuraloperator                                   # into an environment of its own
    python benchmarks/fno.py --data darcy16.h5 --output fno.json  # about six minutes with two threads

Permeability to pressure on 16x16 points; the file has the groups `train` and `test` with both. The two networks have
the same modes, width, number of layers, projection, coordinates as further channels, and see the same batches in the
same order: Adam on the mean squared error, half a cosine down to zero. Epochs are taken in turns, so that a busy
machine slows both; the time ratio is the median over epochs. A second table has the time of a step on other grids.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import torch
from neuralop.models import FNO
from torch import Tensor, nn

from surrogate.models import FnoSettings, Shapes, fno

MODES, WIDTH, LAYERS, PROJECTION = 6, 32, 4, 64
BATCH, RATE, VALIDATION = 32, 1e-3, 100
GRIDS = {(256,): 32, (16, 16): 32, (64, 64): 16, (16, 16, 16): 4}  # and the batch


def ours(grid: tuple[int, ...]) -> nn.Module:
    settings = FnoSettings(width=WIDTH, depth=LAYERS, modes=MODES, projection=PROJECTION, coordinates=True)
    return fno(settings, Shapes(inputs=1, outputs=1, grid=grid))


def theirs(grid: tuple[int, ...]) -> nn.Module:
    modes = (2 * MODES + 1,) * len(grid)  # their count of modes from -MODES to MODES
    return FNO(
        n_modes=modes,
        in_channels=1,
        out_channels=1,
        hidden_channels=WIDTH,
        n_layers=LAYERS,
        projection_channel_ratio=PROJECTION / WIDTH,
    )


NETWORKS: dict[str, Callable[[tuple[int, ...]], nn.Module]] = {"ours": ours, "neuraloperator": theirs}


@dataclass(frozen=True)
class Fields:
    """Normalised inputs and targets, (n, 1, y, x) each, and what takes targets back to their units."""

    inputs: Tensor
    targets: Tensor
    mean: float
    scale: float

    def part(self, index: Tensor | slice) -> Fields:
        return Fields(self.inputs[index], self.targets[index], self.mean, self.scale)

    @torch.no_grad()
    def error(self, network: nn.Module) -> float:
        """Mean relative L2 error in physical units."""
        truth = (self.targets * self.scale + self.mean).flatten(1)
        difference = ((network(self.inputs) - self.targets) * self.scale).flatten(1)
        return float((difference.norm(dim=1) / truth.norm(dim=1)).mean())


def read(path: Path) -> dict[str, Fields]:
    with h5py.File(path) as file:
        groups = {
            name: [torch.from_numpy(file[name][key][:]).float()[:, None] for key in ("permeability", "pressure")]
            for name in ("train", "test")
        }
    x, y = groups["train"]
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    kept = order[VALIDATION:]
    (mx, sx), (my, sy) = ((float(v[kept].mean()), float(v[kept].std())) for v in (x, y))
    whole = {name: Fields((a - mx) / sx, (b - my) / sy, my, sy) for name, (a, b) in groups.items()}
    return {
        "train": whole["train"].part(kept),
        "validation": whole["train"].part(order[:VALIDATION]),
        "test": whole["test"],
    }


class Run:
    """The training of one network."""

    def __init__(self, name: str, data: dict[str, Fields], epochs: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.network = NETWORKS[name](tuple(data["train"].inputs.shape[2:]))
        self.data, self.seed = data, seed
        self.optimizer = torch.optim.Adam(self.network.parameters(), RATE)
        steps = epochs * math.ceil(len(data["train"].inputs) / BATCH)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, steps)

    def epoch(self, number: int) -> float:
        """Seconds of one pass over the training data."""
        train = self.data["train"]
        generator = torch.Generator().manual_seed(1000 * self.seed + number)
        order = torch.randperm(len(train.inputs), generator=generator)
        start = time.perf_counter()
        for index in order.split(BATCH):
            step(self.network, self.optimizer, train.inputs[index], train.targets[index])
            self.schedule.step()
        return time.perf_counter() - start


def step(network: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    loss = nn.functional.mse_loss(network(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def trained(data: dict[str, Fields], epochs: int, seed: int) -> tuple[dict[str, dict[str, float]], list[float]]:
    """Errors of both networks after the last epoch, and the ratio of times of every epoch."""
    runs = {name: Run(name, data, epochs, seed) for name in NETWORKS}
    ratios = []
    for number in range(epochs):
        seconds = {name: run.epoch(number) for name, run in runs.items()}
        ratios.append(seconds["ours"] / seconds["neuraloperator"])
    errors = {
        name: {part: data[part].error(run.network.eval()) for part in ("validation", "test")}
        for name, run in runs.items()
    }
    return errors, ratios


def timed(grid: tuple[int, ...], batch: int, repeats: int) -> dict[str, float]:
    """Median milliseconds of a step of both on a grid, taken in turns, and the median of their ratio."""
    torch.manual_seed(0)
    x, y = torch.randn(2, batch, 1, *grid)
    networks = {name: make(grid) for name, make in NETWORKS.items()}
    optimizers = {name: torch.optim.Adam(network.parameters()) for name, network in networks.items()}
    times: dict[str, list[float]] = {name: [] for name in NETWORKS}
    for _ in range(repeats + 2):
        for name, network in networks.items():
            start = time.perf_counter()
            step(network, optimizers[name], x, y)
            times[name].append(1e3 * (time.perf_counter() - start))
    kept = {name: values[2:] for name, values in times.items()}
    ratio = statistics.median(a / b for a, b in zip(*kept.values(), strict=True))
    return {name: statistics.median(values) for name, values in kept.items()} | {"ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="HDF5 file with the groups train and test")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=11)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = read(arguments.data)
    found: dict[str, object] = {}
    print(f"{'seed':6}{'':14}{'ours':>10}{'theirs':>10}{'epoch ratio':>13}")
    errors, ratios = [], []
    for seed in arguments.seeds:
        error, ratio = trained(data, arguments.epochs, seed)
        errors.append(error)
        ratios += ratio
        for part in ("validation", "test"):
            values = [error[name][part] for name in NETWORKS]
            print(f"{seed:<6}{part:14}{values[0]:10.4f}{values[1]:10.4f}{statistics.median(ratio):13.2f}", flush=True)
    found["training"] = {"errors": errors, "epoch_ratio": statistics.median(ratios), "epochs": arguments.epochs}
    print(f"ratio of epoch times, median over {len(ratios)} epochs: {statistics.median(ratios):.2f}")
    print(f"{'grid':16}{'ours ms':>10}{'theirs ms':>11}{'ratio':>8}")
    found["step"] = {}
    for grid, batch in GRIDS.items():
        row = timed(grid, batch, arguments.repeats)
        found["step"]["x".join(map(str, grid))] = row
        print(f"{grid!s:16}{row['ours']:10.1f}{row['neuraloperator']:11.1f}{row['ratio']:8.2f}", flush=True)
    if arguments.output:
        about = {
            "machine": platform.machine(),
            "torch": torch.__version__,
            "threads": arguments.threads,
            "date": time.strftime("%Y-%m-%d"),
        }
        arguments.output.write_text(json.dumps({"about": about, **found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
