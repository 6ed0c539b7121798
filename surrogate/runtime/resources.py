"""Processors and memory that this process may use, within the limits of its job."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from surrogate.errors import ResourceError

__all__ = ["THREADS", "THREADS_GIVEN", "check_memory", "memory_limit", "processors", "set_threads", "threads"]

THREADS = "OMP_NUM_THREADS"
THREADS_GIVEN = "SURROGATE_THREADS_GIVEN"  # the value of OMP_NUM_THREADS before torchrun set it to 1
CGROUP = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def processors(environment: Mapping[str, str] = os.environ) -> int:
    """Count the processors of this process: its affinity mask, at most `SLURM_CPUS_PER_TASK`."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = environment.get("SLURM_CPUS_PER_TASK", "")
    return max(1, min(allowed, int(given))) if given.isdecimal() else allowed


def threads(environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of threads: `OMP_NUM_THREADS` if given, else the processors divided by the local ranks."""
    given = environment.get(THREADS_GIVEN, environment.get(THREADS, ""))
    if given.isdecimal() and int(given):
        return int(given)
    ranks = environment.get("LOCAL_WORLD_SIZE", "1")
    return max(1, processors(environment) // (int(ranks) if ranks.isdecimal() and int(ranks) else 1))


def set_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set `OMP_NUM_THREADS` for libraries that are imported later."""
    environment[THREADS] = str(threads(environment))


def memory_limit(membership: Path = MEMBERSHIP, root: Path = CGROUP) -> int | None:
    """Return the memory limit in bytes of the control groups (version 1 or 2) of this process; None without limit."""
    try:
        lines = membership.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            top, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        parts = [part for part in group.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):  # the group of this process and all above it
            try:
                text = top.joinpath(*parts[:depth], name).read_text(encoding="ascii").strip()
            except (OSError, UnicodeDecodeError):
                continue
            if text.isdecimal() and int(text) < 2**60:  # else `max`, or the largest number of version 1
                limits.append(int(text))
    return min(limits, default=None)


def check_memory(needed: int, key: str, limit: int | None) -> None:
    """Refuse a setting that cannot fit into memory, before the kernel kills the process.

    Arguments:
        needed: Bytes that it asks for.
        key: The setting, for the message.
        limit: Bytes there are; None is no limit.

    Raises:
        ResourceError: They are more than the limit.
    """
    if limit is not None and needed > limit:
        raise ResourceError(
            f"{key} asks for {needed / 2**20:.0f} MB, but this job may use {limit / 2**20:.0f} MB of memory (its "
            "control group); lower it, or ask for more memory"
        )
