"""Two ranks under `surrogate launch torchrun`: stopped, killed and gone on, they end where undisturbed ones do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from surrogate.files import sha256
from surrogate.simulate.generate import find_recipe, generate, load_recipe

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = [sys.executable, "-m", "surrogate", "launch", sys.executable, "-m", "torch.distributed.run"]
LAUNCH += ["--standalone", "--max-restarts=3", "--nproc-per-node=2", "-m", "surrogate", "train", "snapshots"]
LAUNCH += ["--case", "slimtrain", "--set", "data.path=data", "--set", "training.device=cpu"]
LAUNCH += ["--set", "training.log_every=1", "--set", "training.epochs=30", "--resume", "--output"]


def start(folder: Path, output: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with open(folder / f"{output}.log", "ab") as log:
        return subprocess.Popen([*LAUNCH, output], cwd=folder, env=environment, stdout=log, stderr=log)


def wait_for_steps(run: Path, count: int) -> None:
    end = time.monotonic() + 120
    while not (run / "log.jsonl").exists() or (run / "log.jsonl").read_text().count('"event": "step"') < count:
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def ranks(launch: int) -> dict[int, int]:
    """Process ids of the ranks below a launch, by rank."""
    found: dict[int, int] = {}
    below = [launch]
    while below:
        pid = below.pop()
        try:
            below += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        found.update({int(v[5:]): pid for v in variables if v.startswith(b"RANK=")})
    return found


@pytest.mark.slow
def test_a_stopped_and_a_killed_run_end_in_the_same_bits(tmp_path: Path) -> None:
    generate(load_recipe(find_recipe("convection_diffusion"), []), "tiny", tmp_path / "data")
    assert start(tmp_path, "calm").wait(300) == 0
    first = start(tmp_path, "rough")
    wait_for_steps(tmp_path / "rough", 20)
    first.send_signal(signal.SIGUSR1)
    assert first.wait(60) == 75
    assert not ranks(first.pid)
    second = start(tmp_path, "rough")
    wait_for_steps(tmp_path / "rough", 90)
    os.kill(ranks(second.pid)[1], signal.SIGKILL)
    assert second.wait(300) == 0
    calm, rough = (tmp_path / name / "checkpoints" for name in ("calm", "rough"))
    latest = (calm / "LATEST").read_text()
    assert (rough / "LATEST").read_text() == latest
    for file in ("model.safetensors", "optim.safetensors"):
        assert sha256(rough / latest.strip() / file) == sha256(calm / latest.strip() / file)
    assert not list((tmp_path / "rough").rglob("*.part"))
