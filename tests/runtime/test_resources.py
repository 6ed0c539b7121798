"""Threads and memory follow the job, whatever the machine has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surrogate.errors import ResourceError
from surrogate.runtime.resources import THREADS_GIVEN, check_memory, memory_limit, processors, set_threads, threads

ALLOWED = len(os.sched_getaffinity(0))


@given(st.integers(0, 4096))
def test_processors_are_within_the_job_and_the_mask(given_cpus: int) -> None:
    assert processors({"SLURM_CPUS_PER_TASK": str(given_cpus)}) == max(1, min(ALLOWED, given_cpus))
    assert processors({}) == processors({"SLURM_CPUS_PER_TASK": "many"}) == ALLOWED


def test_the_affinity_mask_counts() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from surrogate.runtime.resources import processors; print(processors({'SLURM_CPUS_PER_TASK': '64'}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "1\n"


def test_a_given_number_of_threads_wins_over_what_torchrun_puts_there() -> None:
    assert threads({"OMP_NUM_THREADS": "3", "SLURM_CPUS_PER_TASK": "1"}) == 3
    assert threads({"OMP_NUM_THREADS": "1", THREADS_GIVEN: "3"}) == 3
    assert threads({"OMP_NUM_THREADS": "1", THREADS_GIVEN: ""}) == ALLOWED
    assert threads({"LOCAL_WORLD_SIZE": str(ALLOWED)}) == 1
    assert threads({"LOCAL_WORLD_SIZE": str(10 * ALLOWED)}) == 1
    environment = {"SLURM_CPUS_PER_TASK": "1"}
    set_threads(environment)
    assert environment["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/job/step\n", {"job/memory.max": "1000", "job/step/memory.max": "max"}, 1000),
        ("0::/job/step\n", {"job/memory.max": "1000", "job/step/memory.max": "10"}, 10),
        ("0::/\n", {"memory.max": "77\n"}, 77),
        ("4:memory:/job\n2:cpu:/x\n0::/\n", {"memory/job/memory.limit_in_bytes": "500"}, 500),
        ("4:cpuset,memory:/job\n", {"memory/job/memory.limit_in_bytes": str(2**63 - 4096)}, None),
        ("4:memory:/job\n", {"memory/memory.limit_in_bytes": "9"}, 9),  # the group is hidden, as in a container
        ("0::/../../job\n", {"job/memory.max": "5"}, 5),
        ("0::/job\n", {"job/memory.max": "garbage"}, None),
        ("nonsense\n", {}, None),
    ],
)
def test_memory_is_the_smallest_limit_above(membership: str, files: dict, expected: int, tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text(membership)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_limit(tmp_path / "cgroup", tmp_path) == expected


def test_memory_without_control_groups_is_unlimited(tmp_path: Path) -> None:
    assert memory_limit(tmp_path / "absent", tmp_path) is None


def test_too_much_memory_is_one_line() -> None:
    check_memory(10, "training.buffer_mb", 10)
    check_memory(10**12, "training.buffer_mb", None)
    with pytest.raises(ResourceError, match=r"training\.buffer_mb asks for 2048 MB, .* 1024 MB") as caught:
        check_memory(2**31, "training.buffer_mb", 2**30)
    assert "\n" not in str(caught.value)
