"""What this process may use of its machine: processors and memory, within the limits of the job it runs in."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

from surrogate.errors import ResourceError

__all__ = ["THREADS", "THREADS_GIVEN", "check_memory", "memory_limit", "processors", "set_threads", "threads"]

THREADS = "OMP_NUM_THREADS"
THREADS_GIVEN = "SURROGATE_THREADS_GIVEN"  # what stood in OMP_NUM_THREADS before torchrun put a 1 there
CGROUP = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def processors(environment: Mapping[str, str] = os.environ) -> int:
    """Processors of this process: those of its affinity mask, at most `SLURM_CPUS_PER_TASK`."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = environment.get("SLURM_CPUS_PER_TASK", "")
    return max(1, min(allowed, int(given))) if given.isdecimal() else allowed


def threads(environment: Mapping[str, str] = os.environ) -> int:
    """Threads to compute with: `OMP_NUM_THREADS` where it was given, else the processors, shared by the local ranks."""
    given = environment.get(THREADS_GIVEN, environment.get(THREADS, ""))
    if given.isdecimal() and int(given):
        return int(given)
    ranks = environment.get("LOCAL_WORLD_SIZE", "1")
    return max(1, processors(environment) // (int(ranks) if ranks.isdecimal() and int(ranks) else 1))


def set_threads(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let libraries that are imported from now on use these threads."""
    environment[THREADS] = str(threads(environment))


def memory_limit(membership: Path = MEMBERSHIP, root: Path = CGROUP) -> int | None:
    """Bytes that the control groups of this process allow, of version 1 or 2; None where they set no limit."""
    limits = [limit for file in _limit_files(membership, root) if (limit := _read_limit(file)) is not None]
    return min(limits, default=None)


def check_memory(needed: int, key: str, limit: int | None) -> None:
    """Refuse a setting that cannot fit into memory, before the kernel ends the process without a word.

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


def _limit_files(membership: Path, root: Path) -> Iterator[Path]:
    """Where limits may stand: in the group of this process and in all above it."""
    try:
        lines = membership.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return
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
        for depth in range(len(parts), -1, -1):
            yield top.joinpath(*parts[:depth], name)


def _read_limit(file: Path) -> int | None:
    try:
        text = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    unlimited = not text.isdecimal() or int(text) >= 2**60  # `max`, or the largest number of version 1
    return None if unlimited else int(text)
