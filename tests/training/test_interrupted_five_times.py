"""Five interruptions at random moments, by signals that can be handled and by kill -9: the same bits, nothing left."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from surrogate.files import sha256
from surrogate.simulate.generate import find_recipe, generate, load_recipe

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ["-m", "surrogate", "train", "snapshots", "--case", "slimtrain", "--set", "data.path=data", "--resume"]
TRAIN += ["--set", "training.device=cpu", "--set", "training.log_every=1", "--set", "training.epochs=40", "--output"]
RANKS = [sys.executable, "-m", "surrogate", "launch", sys.executable, "-m", "torch.distributed.run"]
RANKS += ["--standalone", "--max-restarts=9", "--nproc-per-node=2"]
COMMANDS = {"one process": [sys.executable], "two ranks": RANKS}

Fault = Callable[[subprocess.Popen[bytes]], None]


@dataclass
class Runs:
    """Runs of one command in a folder, with a temporary folder of their own."""

    folder: Path
    command: list[str]

    def start(self, output: str) -> subprocess.Popen[bytes]:
        (self.folder / "tmp").mkdir(exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(self.temporary)}
        with open(self.folder / f"{output}.log", "ab") as log:
            command = [*self.command, *TRAIN, output]
            return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    def records(self, output: str) -> list[dict]:
        log = self.folder / output / "log.jsonl"
        lines = log.read_bytes().split(b"\n")[:-1] if log.exists() else []
        return [json.loads(line) for line in lines]

    def step(self, output: str) -> int:
        return max((record.get("step", 0) for record in self.records(output)), default=0)

    def told(self, output: str) -> str:
        return (self.folder / f"{output}.log").read_text()[-3000:]

    def left(self) -> list[str]:
        """What is left in the temporary folder, and processes that still know it."""
        mark = f"TMPDIR={self.temporary}".encode()
        found = [path.name for path in self.temporary.iterdir()]
        found = [name for name in found if not name.startswith("torchinductor_")]  # torch's one cache of a user
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                known = mark in (entry / "environ").read_bytes().split(b"\0")
                found += [(entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()] * known
            except OSError:
                continue
        return found


def wait(condition: Callable[[], bool], why: Callable[[], str]) -> None:
    end = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {why()}"
        time.sleep(0.005)


def below(launch: int) -> dict[str, int]:
    """The agent and the ranks of a launch: process ids by name."""
    found: dict[str, int] = {}
    for pid in map(int, Path(f"/proc/{launch}/task/{launch}/children").read_text().split()):
        if "distributed.run" in Path(f"/proc/{pid}/cmdline").read_text():
            found["agent"] = pid
            for rank in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
                variables = Path(f"/proc/{rank}/environ").read_text().split("\0")
                found.update({f"rank {v[5:]}": rank for v in variables if v.startswith("RANK=")})
    return found


def send(number: signal.Signals) -> Fault:
    return lambda process: process.send_signal(number)


def kill(name: str) -> Fault:
    return lambda process: os.kill(below(process.pid)[name], signal.SIGKILL)


FAULTS: dict[str, list[tuple[Fault, int | None]]] = {  # and the exit code; None where the run goes on by itself
    "one process": [(send(signal.SIGTERM), 75), (send(signal.SIGUSR1), 75)] + [(send(signal.SIGKILL), -9)] * 3,
    "two ranks": [
        (send(signal.SIGTERM), 75), (send(signal.SIGUSR1), 75), (send(signal.SIGKILL), -9), (kill("agent"), 137),
        (kill("rank 1"), None),
    ],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", COMMANDS)
def test_five_interruptions_at_random_moments_change_no_bit_and_leave_nothing(kind: str, tmp_path: Path) -> None:
    generate(load_recipe(find_recipe("convection_diffusion"), []), "tiny", tmp_path / "data")
    runs, chance = Runs(tmp_path, COMMANDS[kind]), random.Random()
    assert runs.start("calm").wait(400) == 0, runs.told("calm")
    total = runs.step("calm")
    assert not runs.left()
    faults = random.sample(FAULTS[kind], 5)
    for number, (fault, code) in enumerate(faults):
        before = runs.step("rough")
        moment = before + chance.randrange(1, total // 8)
        process = runs.start("rough")
        wait(lambda: runs.step("rough") > moment, lambda: runs.told("rough"))  # noqa: B023
        time.sleep(chance.random() / 50)
        assert process.poll() is None, f"{number}: it ended before it could be interrupted"
        fault(process)
        if code is None:
            wait(lambda: runs.step("rough") > moment + 8, lambda: runs.told("rough"))  # noqa: B023
            process.send_signal(signal.SIGTERM)
        assert process.wait(120) == (75 if code is None else code), runs.told("rough")
        wait(lambda: not runs.left(), lambda: str(runs.left()))
    assert runs.start("rough").wait(400) == 0, runs.told("rough")
    assert not runs.left()
    same(tmp_path / "calm", tmp_path / "rough")
    assert runs.records("rough")[-1]["train_loss"] == runs.records("calm")[-1]["train_loss"]
    curves = [[r["validation_loss"] for r in runs.records(name) if r["event"] == "epoch"] for name in ("calm", "rough")]
    assert curves[0] == curves[1]


def same(calm: Path, rough: Path) -> None:
    """Parameters and state of the optimizer, of the newest and the best checkpoint, have the same bits."""
    for pointer in ("LATEST", "BEST"):
        name = (calm / "checkpoints" / pointer).read_text()
        assert (rough / "checkpoints" / pointer).read_text() == name
        for file in ("model.safetensors", "optim.safetensors"):
            expected, found = (run / "checkpoints" / name.strip() / file for run in (calm, rough))
            assert sha256(found) == sha256(expected)
    assert not list(rough.rglob("*.part"))
