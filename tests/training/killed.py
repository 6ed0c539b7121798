"""Trains, kills the process without warning, resumes, and prints digests; run by test_interruption.py.

    python killed.py FOLDER OPTIMIZER KIND:NUMBER...

A case `step:7` kills when the log has taken record of step 7, `write:7` before the seventh flush to the disk, `term:7`
sends SIGTERM at step 7. Each run is a forked process of its own, so that nothing survives in memory.
"""

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import nn

from surrogate import files
from surrogate.config import parse_yaml
from surrogate.errors import Interrupted
from surrogate.models import ModelSettings, Separable, Shapes, Surrogate, head_of, register
from surrogate.training import read_experiment, train

CONFIG = """
name: killed
data: {{path: {path}, inputs: [a], targets: [u], split: {{validation: 4, test: 4, seed: 1}}}}
model: {{family: noisy}}
optimizer: {{name: {optimizer}}}
training: {{epochs: {epochs}, batch_size: 5, log_every: 1, checkpoint_every: 2, refit: {refit}}}
"""


class NoisySettings(ModelSettings):
    """A small network with all that changes while it trains."""

    family: Literal["noisy"] = "noisy"


@register(NoisySettings)
def noisy(settings: NoisySettings, shapes: Shapes) -> Separable:
    layers = [
        nn.Conv1d(shapes.inputs, 4, 3, padding=1),
        nn.BatchNorm1d(4),
        nn.Tanh(),
        nn.Dropout(0.2),
        nn.Flatten(2),
        nn.Linear(8, 8),
        nn.Tanh(),
    ]
    return Separable(nn.Sequential(*layers), head_of(nn.Conv1d(4, shapes.outputs, 1)))


def make_data(path: Path) -> None:
    a = np.random.default_rng(0).normal(size=(28, 8)).astype("f4")
    u = (np.roll(a, 1, axis=1) ** 2 + a).astype("f4")
    xr.Dataset({"a": (("sample", "x"), a), "u": (("sample", "x"), u)}).to_netcdf(path, engine="h5netcdf")


def kill_at_step(number: int, how: int) -> Callable[[Any, dict[str, Any]], None]:
    def callback(_trainer: Any, record: dict[str, Any]) -> None:
        if record["event"] == "step" and record["step"] == number:
            os.kill(os.getpid(), how)

    return callback


def kill_at_write(number: int) -> None:
    """Kill before the file or folder of this number is flushed, in the middle of a checkpoint."""
    flush, left = files.fsync_path, [number]

    def counted(path: Path) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        flush(path)

    files.fsync_path = counted


def run(folder: Path, optimizer: str, output: str, case: str, *, resume: bool) -> int:
    """Train in a forked process; its wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    callbacks = []
    kind, _, number = case.partition(":")
    if kind == "write":
        kill_at_write(int(number))
    elif kind:
        callbacks = [kill_at_step(int(number), signal.SIGTERM if kind == "term" else signal.SIGKILL)]
    full = optimizer in ("lbfgs", "gnvpro")
    refit = "none" if optimizer == "elm" else "both"
    text = CONFIG.format(path=folder / "data.nc", optimizer=optimizer, epochs=12 if full else 3, refit=refit)
    try:
        experiment = read_experiment(parse_yaml(text, "killed.yaml"))
        train(experiment, folder / output, command="", resume=resume, callbacks=callbacks)
    except Interrupted:
        os._exit(75)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        os._exit(1)
    os._exit(0)


def digest(output: Path) -> dict[str, str]:
    """Of the newest weights, the final weights and the log without what depends on the clock."""
    newest = max((output / "checkpoints").glob("step-*"))
    log = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    clock = ("seconds", "samples_per_second", "data_wait")
    kept = json.dumps([{k: v for k, v in record.items() if k not in clock} for record in log])
    weights = {"newest": Surrogate.load(newest).state_dict(), "used": Surrogate.load(output).state_dict()}
    parts = {name: b"".join(value.numpy().tobytes() for value in state.values()) for name, state in weights.items()}
    return {name: hashlib.sha256(part).hexdigest() for name, part in (parts | {"log": kept.encode()}).items()}


def main(folder: Path, optimizer: str, cases: list[str]) -> None:
    torch.set_num_threads(1)
    make_data(folder / "data.nc")
    found: dict[str, Any] = {"undisturbed": [run(folder, optimizer, "whole", "", resume=False)]}
    found["undisturbed"].append(digest(folder / "whole"))
    for case in cases:
        output = f"cut-{case.replace(':', '-')}"
        ended = run(folder, optimizer, output, case, resume=False)
        resumed = run(folder, optimizer, output, "", resume=True)
        found[case] = [ended, resumed, digest(folder / output)]
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
