"""A Slurm of two nodes on the loopback address, for tests: everything in one temporary folder, nothing left behind.

Needs root, Debian's `slurm-wlm` and `munge` (no service is touched). From a shell, for as long as a command runs:

    python tests/cluster/local_slurm.py CMD ...
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo")
NODES = ("n1", "n2")

# No cgroups: processes are found by their parents (linuxproc), which works in containers too. A requeued job waits
# cred_expire seconds before it starts again. Both nodes are this machine, and each may promise all of its processors.
CONFIG = """\
ClusterName=surrogate-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldLogFile={root}/log/slurmctld
SlurmdLogFile={root}/log/slurmd-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
MailProg=/bin/true
SchedulerParameters=sched_interval=2,batch_sched_delay=0
KillWait=15
InactiveLimit=0
MinJobAge=600
{nodes}
PartitionName=debug Nodes={names} Default=YES MaxTime=60 State=UP OverTimeLimit=0
"""


def missing() -> str:
    """Why no Slurm can be started here; empty where one can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if absent:
        return f"{', '.join(absent)} not found: install Debian's slurm-wlm and munge"
    return "" if os.geteuid() == 0 else "only root can start slurmd"


@contextlib.contextmanager
def cluster() -> Iterator[dict[str, str]]:
    """Start a Slurm; yields the environment in which its commands find it, and takes it down afterwards."""
    root = Path(tempfile.mkdtemp(prefix="surrogate-slurm-"))
    environment = {**os.environ, "PATH": _path(), "SLURM_CONF": f"{root}/slurm.conf"}
    started: list[subprocess.Popen[bytes]] = []
    try:
        _configure(root)
        _start(root, environment, started)
        yield environment
    finally:
        _stop(root, environment, started)


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def _configure(root: Path) -> None:
    root.chmod(0o755)
    for folder in ("munge", "state", "log", *(f"spool-{name}" for name in NODES)):
        (root / folder).mkdir(mode=0o755)
    key = root / "munge" / "key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(1024))
    host, ports = socket.gethostname().split(".")[0], _free_ports(1 + len(NODES))
    nodes = [
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=2000 State=UNKNOWN"
        for name, port in zip(NODES, ports[1:], strict=True)
    ]
    text = CONFIG.format(root=root, host=host, controller=ports[0], nodes="\n".join(nodes), names=",".join(NODES))
    (root / "slurm.conf").write_text(text, encoding="utf-8")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _start(root: Path, environment: dict[str, str], started: list[subprocess.Popen[bytes]]) -> None:
    munge = [f"--{name}={root}/munge/{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
    daemons = [["munged", "--foreground", f"--key-file={root}/munge/key", *munge], ["slurmctld", "-D"]]
    daemons += [["slurmd", "-D", "-N", name] for name in NODES]
    with open(root / "log" / "output", "ab") as output:
        for command in daemons:
            started.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))
            if command[0] == "munged":
                _wait(lambda: (root / "munge" / "socket").exists(), root, "munged")

    def idle() -> bool:
        answer = subprocess.run(["sinfo", "-h", "-t", "idle", "-o", "%D"], env=environment, capture_output=True)
        return answer.stdout.strip() == str(len(NODES)).encode()

    _wait(idle, root, "slurm")


def _wait(ready, root: Path, name: str) -> None:  # type: ignore[no-untyped-def]
    for _ in range(150):
        if ready():
            return
        time.sleep(0.2)
    logs = "".join(path.read_text(errors="replace")[-2000:] for path in sorted((root / "log").iterdir()))
    raise RuntimeError(f"{name} did not start in 30 s:\n{logs}")


def _stop(root: Path, environment: dict[str, str], started: list[subprocess.Popen[bytes]]) -> None:
    """Cancel all jobs, end the daemons, then whatever still runs with our configuration, and remove the folder."""
    if len(started) > 1:
        subprocess.run(["scancel", "--full", "--signal=KILL", "--user=root"], env=environment, capture_output=True)
        subprocess.run(["scancel", "--user=root"], env=environment, capture_output=True)
        for _ in range(50):
            left = subprocess.run(["squeue", "-h"], env=environment, capture_output=True)
            if not left.stdout.strip():
                break
            time.sleep(0.2)
    for process in reversed(started):
        process.terminate()
    for process in reversed(started):
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pid in processes_of(environment["SLURM_CONF"]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(root)


def processes_of(conf: str) -> list[int]:
    """Processes whose environment names this configuration, this one left out."""
    mark = f"SLURM_CONF={conf}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(entry.name) != os.getpid() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


if __name__ == "__main__":
    if missing():
        sys.exit(f"error: no Slurm can be started here: {missing()}")
    with cluster() as given:
        code = subprocess.run(sys.argv[1:] or ["sinfo"], env=given).returncode
    sys.exit(code)
