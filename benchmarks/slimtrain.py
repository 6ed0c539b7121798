"""Time and memory of a slimTrain step as ratios to an Adam step of the same network, in one run.

python benchmarks/slimtrain.py --output slimtrain.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from surrogate.models import (
    AntisymmetricSettings,
    AutoencoderSettings,
    MlpSettings,
    Separable,
    Shapes,
    antisymmetric,
    autoencoder,
    head_of,
    mlp,
)
from surrogate.optim.slimtrain import SlimTrain


@dataclass(frozen=True)
class Case:
    """A network with a batch of random data.

    Arguments:
        network: Makes the network.
        inputs: Shape of the inputs, samples first.
        targets: Shape of the targets.
        memory_depth: Memory depth r.
        steps: Steps that are timed together.
        bound: Ratio of times to reach; None where a case is only reported.
    """

    network: Callable[[], Separable]
    inputs: tuple[int, ...]
    targets: tuple[int, ...]
    memory_depth: int
    steps: int
    bound: float | None

    def step(self, method: str, device: str) -> Callable[[], None]:
        """A step of training by `adam` or `slimtrain`."""
        torch.manual_seed(0)
        model = self.network().to(device)
        x, y = torch.randn(self.inputs, device=device), torch.randn(self.targets, device=device)
        if method == "adam":
            adam = torch.optim.Adam(model.parameters())
            return lambda: finish(model(x), y, adam)
        slim = SlimTrain(torch.optim.Adam(model.features.parameters()), model.head, memory_depth=self.memory_depth)

        def step() -> None:
            z = model.features(x)
            slim.solve(z.detach(), y)
            finish(model.head(z), y, slim)

        return step


def finish(outputs: Tensor, targets: Tensor, optimizer: torch.optim.Optimizer) -> None:
    loss = nn.functional.mse_loss(outputs, targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def mnist() -> Separable:
    settings = AutoencoderSettings(width=16, latent=50, levels=2, batch_norm=True)
    return autoencoder(settings, Shapes(inputs=1, outputs=1, grid=(28, 28)))


def residual() -> Separable:
    return antisymmetric(AntisymmetricSettings(width=16, depth=8), Shapes(inputs=55, outputs=72, grid=()))


def perceptron() -> Separable:
    return mlp(MlpSettings(width=16, depth=2), Shapes(inputs=55, outputs=72, grid=()))


def convolutions(
    layer: type[nn.Conv1d] | type[nn.Conv2d], inputs: int, width: int, outputs: int, taps: int
) -> Separable:
    """Three convolutions with GELU between them."""
    first, second, last = (
        layer(a, b, taps, padding=taps // 2) for a, b in ((inputs, width), (width, width), (width, outputs))
    )
    return Separable(nn.Sequential(first, nn.GELU(), second, nn.GELU()), head_of(last))


CASES = {
    "mnist autoencoder": Case(mnist, (32, 1, 28, 28), (32, 1, 28, 28), 5, 10, 1.4),
    "dense 55-16-72, residual network": Case(residual, (5, 55), (5, 72), 10, 10, 1.5),
    "dense 55-16-72, perceptron": Case(perceptron, (5, 55), (5, 72), 10, 50, 2.0),
    "conv 16-2 on 256x256": Case(
        partial(convolutions, nn.Conv2d, 2, 16, 2, 3), (16, 2, 256, 256), (16, 2, 256, 256), 5, 1, 1.15
    ),
    "conv 8-1, kernel 7, on 128x128": Case(
        partial(convolutions, nn.Conv2d, 1, 8, 1, 7), (16, 1, 128, 128), (16, 1, 128, 128), 5, 1, 1.5
    ),
    "conv 16-1 on 1024 points": Case(
        partial(convolutions, nn.Conv1d, 1, 16, 1, 3), (32, 1, 1024), (32, 1, 1024), 5, 5, 1.5
    ),
}
FIELDS = "conv 16-2 on 256x256"
MEMORY_BOUND = 1.3


def seconds(step: Callable[[], None], steps: int, device: str) -> float:
    """Seconds of one step."""
    if device != "cuda":
        start = time.perf_counter()
        for _ in range(steps):
            step()
        return (time.perf_counter() - start) / steps
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(steps):
        step()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3 / steps


def timed(case: Case, device: str, repeats: int) -> dict[str, float | None]:
    """Median times of both methods, taken in turns, and the median and quartiles of their ratio."""
    adam, slim = case.step("adam", device), case.step("slimtrain", device)
    for step in (adam, slim):
        seconds(step, case.memory_depth + 2, device)
    pairs = [(seconds(adam, case.steps, device), seconds(slim, case.steps, device)) for _ in range(repeats)]
    low, ratio, high = statistics.quantiles((slim / adam for adam, slim in pairs), n=4)
    first, second = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
    return {"adam_ms": first, "slimtrain_ms": second, "ratio": ratio, "low": low, "high": high, "bound": case.bound}


def _peak(method: str, steps: int, threads: int, queue: multiprocessing.Queue[int]) -> None:
    torch.set_num_threads(threads)
    step = CASES[FIELDS].step(method, "cpu")
    for _ in range(steps):
        step()
    queue.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def peak_memory(method: str, threads: int, steps: int = 8) -> float:
    """Peak resident memory in MiB of a process that trains on the large fields."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_peak, args=(method, steps, threads, queue))
    process.start()
    peak = queue.get()
    process.join()
    return peak / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--case", choices=CASES, help="one case alone; all unless given")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    names = [arguments.case] if arguments.case else list(CASES)
    found: dict[str, dict[str, float | None]] = {}
    print(f"{'case':36}{'Adam ms':>10}{'slim ms':>10}{'ratio':>8}  quartiles   bound")
    for name in names:
        row = found[name] = timed(CASES[name], arguments.device, arguments.repeats)
        print(
            f"{name:36}{row['adam_ms']:10.2f}{row['slimtrain_ms']:10.2f}{row['ratio']:8.2f}"
            f"  {row['low']:.2f}-{row['high']:.2f}   {row['bound'] or ''}",
            flush=True,
        )
    if arguments.device == "cpu" and FIELDS in names:
        adam, slim = (peak_memory(method, arguments.threads) for method in ("adam", "slimtrain"))
        found["memory"] = {"adam_mib": adam, "slimtrain_mib": slim, "ratio": slim / adam, "bound": MEMORY_BOUND}
        print(f"{'peak memory of the last, MiB':36}{adam:10.0f}{slim:10.0f}{slim / adam:8.2f}{'':14}{MEMORY_BOUND}")
    if arguments.output:
        about = {
            "device": arguments.device,
            "machine": platform.machine(),
            "torch": torch.__version__,
            "threads": arguments.threads,
            "repeats": arguments.repeats,
            "date": time.strftime("%Y-%m-%d"),
        }
        arguments.output.write_text(json.dumps({"about": about, "cases": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
