"""A launch passes on one request to stop, ends with what its ranks say, and leaves no process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from surrogate.errors import ConfigError, ResourceError
from surrogate.runtime.launch import Launch, Requests, requeue

ROOT = Path(__file__).resolve().parents[2]

# What stands for torchrun starts two ranks, waits for them and fails where one has; a rank notes that it is ready.
AGENT = """
import os, signal, subprocess, sys
ranks = []
def end(number, frame):
    for rank in ranks:
        rank.send_signal(number)
    sys.exit(1)
signal.signal(signal.SIGHUP, end)
ranks += [subprocess.Popen([sys.executable, "-c", sys.argv[1], str(n)], env={**os.environ, "RANK": str(n)},
                          start_new_session=True) for n in range(2)]
sys.exit(max(rank.wait() != 0 for rank in ranks))
"""
RANK = """
import os, pathlib, sys, time
from surrogate.runtime.launch import Launch
launch = Launch.of(os.environ)
pathlib.Path(f"ready-{sys.argv[1]}").write_text(str(os.getpid()))
while launch.requested() is None:
    time.sleep(0.01)
sys.exit(launch.leave(75))
"""
DEAF = """
import os, pathlib, sys, time, signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
pathlib.Path(f"ready-{sys.argv[1]}").write_text(str(os.getpid()))
time.sleep(600)
"""


@contextmanager
def launched(rank: str, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """A launch of two ranks that are ready, and their process ids."""
    command = [sys.executable, "-m", "surrogate", "launch", sys.executable, "-c", AGENT, rank]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    environment |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary(folder))}
    process = subprocess.Popen(command, cwd=folder, env=environment)
    try:
        notes = [folder / f"ready-{number}" for number in range(2)]
        wait(lambda: all(note.exists() and note.read_text() for note in notes))
        yield process, [int(note.read_text()) for note in notes]
    finally:
        process.kill()
        process.wait()


def temporary(folder: Path) -> Path:
    """The temporary folder of a test's launches, which each of them leaves empty."""
    place = folder / "tmp"
    place.mkdir(exist_ok=True)
    return place


def left_behind(folder: Path) -> list[Path]:
    return sorted(temporary(folder).iterdir())


def wait(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    """The agent and the guard of a launch."""
    guard, agent = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [agent, guard]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT])
def test_one_signal_stops_every_rank_and_ends_with_75(number: signal.Signals, tmp_path: Path) -> None:
    with launched(RANK, tmp_path) as (process, ranks):
        process.send_signal(number)
        assert process.wait(120) == 75
        assert not any(map(alive, ranks))
        assert not left_behind(tmp_path)


def test_a_signal_to_every_process_as_slurm_sends_it_is_one_request(tmp_path: Path) -> None:
    with launched(RANK, tmp_path) as (process, ranks):
        agent, guard = children_of(process.pid)
        process.send_signal(signal.SIGSTOP)  # the others have it first
        for pid in [agent, guard, *ranks]:
            os.kill(pid, signal.SIGUSR1)
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.1)
        assert all(map(alive, [agent, guard, *ranks]))
        process.send_signal(signal.SIGUSR1)
        process.send_signal(signal.SIGCONT)
        assert process.wait(120) == 75
        assert not any(map(alive, [agent, guard, *ranks]))
        assert not left_behind(tmp_path)


def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    with launched(DEAF, tmp_path) as (process, ranks):
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 128 + signal.SIGTERM
        assert not any(map(alive, ranks))
        assert not left_behind(tmp_path)


def test_nothing_goes_on_when_the_agent_is_killed(tmp_path: Path) -> None:
    with launched(RANK, tmp_path) as (process, ranks):
        agent, _ = children_of(process.pid)
        os.kill(agent, signal.SIGKILL)
        assert process.wait(120) == 128 + signal.SIGKILL
        assert not any(map(alive, ranks))
        assert not left_behind(tmp_path)


@pytest.mark.parametrize("rank", [RANK, DEAF])
def test_nothing_stays_when_the_launch_is_killed(rank: str, tmp_path: Path) -> None:
    with launched(rank, tmp_path) as (process, ranks):
        below = [*children_of(process.pid), *ranks]
        assert left_behind(tmp_path)
        process.kill()
        wait(lambda: not any(map(alive, below)))
        assert not left_behind(tmp_path)


def test_the_next_launch_removes_what_a_killed_one_and_its_guard_left(tmp_path: Path) -> None:
    with launched(RANK, tmp_path) as (process, ranks):
        for pid in [process.pid, *children_of(process.pid)]:
            os.kill(pid, signal.SIGKILL)
        assert process.wait(120) == -signal.SIGKILL
        assert all(map(alive, ranks))
        assert left_behind(tmp_path)
    assert run_launch(tmp_path, sys.executable, "-c", "").returncode == 0
    assert not any(map(alive, ranks))
    assert not left_behind(tmp_path)


def test_a_launch_leaves_the_folders_of_others_alone(tmp_path: Path) -> None:
    foreign = temporary(tmp_path) / "surrogate-launch-elsewhere-abc"
    foreign.mkdir()
    with launched(RANK, tmp_path) as (process, ranks):
        before = left_behind(tmp_path)
        assert run_launch(tmp_path, sys.executable, "-c", "").returncode == 0
        assert left_behind(tmp_path) == before
        assert all(map(alive, ranks))
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 75
    assert left_behind(tmp_path) == [foreign]


def run_launch(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary(folder))}
    start = [sys.executable, "-m", "surrogate", "launch", *command]
    return subprocess.run(start, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("code", [0, 4])
def test_the_exit_code_of_the_command_is_kept(code: int, tmp_path: Path) -> None:
    assert run_launch(tmp_path, sys.executable, "-c", f"raise SystemExit({code})").returncode == code
    assert not left_behind(tmp_path)


def test_an_absent_command_is_one_line(tmp_path: Path) -> None:
    done = run_launch(tmp_path, "torchrunn")
    assert not left_behind(tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot start torchrunn" in done.stderr


def test_echoes_are_told_from_second_requests() -> None:
    step, shell = Requests(60.0), Requests(0.0)
    assert [step.again(15), step.again(15), step.again(15)] == [False, False, False]
    assert [shell.again(10), shell.again(15)] == [False, True]


def test_only_ranks_below_a_launch_change_their_code(tmp_path: Path) -> None:
    rank = Launch.of({"SURROGATE_LAUNCH": str(tmp_path), "RANK": "0"})
    assert rank.leave(4) == 4
    assert not list(tmp_path.iterdir())
    assert rank.leave(75) == 0
    assert (tmp_path / "stopped").exists()
    assert Launch.of({"SURROGATE_LAUNCH": str(tmp_path)}).leave(75) == 75
    assert Launch.of({"RANK": "0"}).leave(75) == 75


def test_requeue_calls_scontrol_for_75_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "scontrol"
    fake.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert "not put back" in requeue(4, {"SLURM_JOB_ID": "7"})
    assert not (tmp_path / "calls").exists()
    assert "job 7 is put back" in requeue(75, {"SLURM_JOB_ID": "7"})
    assert (tmp_path / "calls").read_text() == "requeue 7\n"
    with pytest.raises(ConfigError, match="SLURM_JOB_ID"):
        requeue(75, {"SLURM_JOB_ID": "7; rm"})
    fake.write_text("#!/bin/sh\necho 'Access denied' >&2\nexit 1\n")
    with pytest.raises(ResourceError, match="Access denied"):
        requeue(75, {"SLURM_JOB_ID": "7"})
