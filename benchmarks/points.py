"""Time and memory of a training step of Transolver on many points, against a bare implementation, in one run.

    python benchmarks/points.py --output points.json

The bare implementation is the same network written plainly: full tensors, no masks, no coordinates told from fields,
no head object. Both take the same batch, the mean squared error and Adam; steps are taken in turns, so that a busy
machine slows both, and the ratios are those of the medians, of wall time and of processor time. Peak memory is
that of a process that takes two steps.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from surrogate.models import Shapes, TransolverSettings, transolver

POINTS, BATCH = 16_384, 4
WIDTH, DEPTH, HEADS, SLICES, RATIO, CHANNELS = 64, 4, 4, 32, 2, 5


class BareBlock(nn.Module):
    """Physics attention and a perceptron on (B, N, width)."""

    def __init__(self) -> None:
        super().__init__()
        size = WIDTH // HEADS
        self.one, self.two = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.f, self.x, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.slice, self.qkv = nn.Linear(size, SLICES), nn.Linear(size, 3 * size, bias=False)
        self.temperature = nn.Parameter(torch.full((1, HEADS, 1, 1), 0.5))
        self.mlp = nn.Sequential(nn.Linear(WIDTH, RATIO * WIDTH), nn.GELU(), nn.Linear(RATIO * WIDTH, WIDTH))

    def forward(self, z: Tensor) -> Tensor:
        B, N, C = z.shape
        h = self.one(z)
        f = self.f(h).reshape(B, N, HEADS, C // HEADS).permute(0, 2, 1, 3)
        x = self.x(h).reshape(B, N, HEADS, C // HEADS).permute(0, 2, 1, 3)
        w = torch.softmax(self.slice(x) / self.temperature, dim=-1)
        token = torch.einsum("bhnc,bhng->bhgc", f, w) / (w.sum(2) + 1e-5)[..., None]
        q, k, v = self.qkv(token).chunk(3, -1)
        attention = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
        y = torch.einsum("bhgc,bhng->bhnc", attention @ v, w)
        z = z + self.out(y.permute(0, 2, 1, 3).reshape(B, N, C))
        return z + self.mlp(self.two(z))


class Bare(nn.Module):
    """(B, N, channels) -> (B, N, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Sequential(nn.Linear(CHANNELS, RATIO * WIDTH), nn.GELU(), nn.Linear(RATIO * WIDTH, WIDTH))
        self.blocks = nn.Sequential(*(BareBlock() for _ in range(DEPTH)))
        self.last = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.blocks(self.lift(x)))


class Run:
    """A network, its optimizer and its batch."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(0)
        fields, target = torch.randn(BATCH, CHANNELS, POINTS), torch.randn(BATCH, 1, POINTS)
        if name == "ours":
            settings = TransolverSettings(width=WIDTH, depth=DEPTH, heads=HEADS, slices=SLICES, ratio=RATIO)
            shapes = Shapes(inputs=CHANNELS, outputs=1, grid=(POINTS,), point_axis="point", positions=(3, 4))
            self.network: nn.Module = transolver(settings, shapes)
            self.x, self.y = fields, target
        else:
            self.network = Bare()
            self.x, self.y = fields.transpose(1, 2).contiguous(), target.transpose(1, 2).contiguous()
        self.optimizer = torch.optim.Adam(self.network.parameters(), 1e-3)

    def step(self) -> tuple[float, float]:
        """Take a step; return its seconds, and those of the processor, which other jobs on the machine disturb less."""
        start = time.perf_counter(), time.process_time()
        loss = nn.functional.mse_loss(self.network(self.x), self.y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return time.perf_counter() - start[0], time.process_time() - start[1]


def peak_megabytes(name: str) -> float:
    """Return the peak memory of a process that takes two steps of one network."""
    child = subprocess.run([sys.executable, __file__, "--memory", name], capture_output=True, text=True, check=True)
    return float(child.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--memory", choices=["ours", "bare"])
    arguments = parser.parse_args()
    if arguments.memory:
        run = Run(arguments.memory)
        run.step(), run.step()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    memory = {name: peak_megabytes(name) for name in ("ours", "bare")}  # first: a child inherits the peak of its parent
    runs = {name: Run(name) for name in ("ours", "bare")}
    weights = {name: sum(p.numel() for p in run.network.parameters()) for name, run in runs.items()}
    for run in runs.values():
        run.step()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(arguments.steps):
        for name, run in runs.items():
            seconds[name].append(run.step())
    median = {name: statistics.median(wall for wall, _ in values) for name, values in seconds.items()}
    processor = {name: statistics.median(own for _, own in values) for name, values in seconds.items()}
    result = {
        "points": POINTS,
        "batch": BATCH,
        "weights": weights,
        "seconds": median,
        "megabytes": memory,
        "processor_seconds": processor,
        "time_ratio": median["ours"] / median["bare"],
        "processor_ratio": processor["ours"] / processor["bare"],
        "memory_ratio": memory["ours"] / memory["bare"],
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
    }
    print(json.dumps(result, indent=2))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
