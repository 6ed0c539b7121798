"""Speed and error of the simulators, against `scipy.integrate.solve_ivp` in the same run.

    python benchmarks/simulate.py                      # FitzHugh-Nagumo against solve_ivp, two cores each
    python benchmarks/simulate.py --default            # also the `default` size of reaction_diffusion: time and memory

Results go to benchmarks/results/simulate.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from scipy.integrate import solve_ivp

from surrogate.simulate import Ensemble, load_recipe

POINTS, MEMBERS, CORES = 128, 16, 2
TIMES = np.linspace(0.0, 5.0, 101)
SIZES = (
    f"sizes={{full: {{simulations: {MEMBERS}, grid: [{POINTS}, {POINTS}], snapshots: 101, final_time: 5.0, shard: 8}}}}"
)
REFERENCE = {"method": "DOP853", "rtol": 1e-10, "atol": 1e-10}
PEER = {"method": "RK45", "rtol": 1e-3}


def right_hand_side() -> Callable[[float, np.ndarray], np.ndarray]:
    """The equations as PDEBench's users write them: numpy and a sparse Laplacian."""
    second = -2.0 * np.ones(POINTS)
    second[[0, -1]] = -1.0
    along = sparse.diags([np.ones(POINTS - 1), second, np.ones(POINTS - 1)], [-1, 0, 1])
    one = sparse.eye(POINTS)
    laplacian = ((sparse.kron(along, one) + sparse.kron(one, along)) * (POINTS / 2.0) ** 2).tocsr()

    def rate(_: float, w: np.ndarray) -> np.ndarray:
        u, v = np.split(w, 2)
        return np.concatenate([1e-3 * (laplacian @ u) + u - u**3 - 5e-3 - v, 5e-3 * (laplacian @ v) + u - v])

    return rate


def ensemble() -> Ensemble:
    """PDEBench's problem with 16 members."""
    return Ensemble(load_recipe("reaction_diffusion", [SIZES]), "full")


def ours(numbers: range) -> tuple[np.ndarray, float]:
    """Final states of some members, stepped as one batch on one core, and the CPU seconds of each."""
    torch.set_num_threads(1)
    start = time.process_time()
    finals = ensemble().run(numbers, batch=len(numbers)).states[:, -1].numpy()
    return finals, (time.process_time() - start) / len(numbers)


def theirs(number: int, options: dict[str, object]) -> tuple[np.ndarray, float]:
    """Final state of one member by solve_ivp, and its CPU seconds."""
    start = time.process_time()
    initial = ensemble().member(number).initial.astype(np.float32).astype(np.float64)
    result = solve_ivp(right_hand_side(), (0.0, 5.0), initial.ravel(), t_eval=TIMES, **options)
    return result.y[:, -1].reshape(initial.shape), time.process_time() - start


def error(values: np.ndarray, truth: np.ndarray) -> float:
    """Relative L2."""
    return float(np.linalg.norm(values - truth) / np.linalg.norm(truth))


def fitzhugh_nagumo(repeats: int) -> dict[str, float]:
    """Seconds per simulation with both cores busy, and errors at t = 5 of the first member.

    `one_by_one` is PDEBench's way, one simulation after the other; `both_cores` gives solve_ivp two processes too. CPU
    time tells more than wall time where other programs share the machine.
    """
    share = MEMBERS // CORES
    parts = [range(start, start + share) for start in range(0, MEMBERS, share)]
    with ProcessPoolExecutor(CORES, mp_context=get_context("spawn")) as pool:
        list(pool.map(ours, [range(1)] * 2 * CORES))  # start the processes, import, warm up
        mine, peer, alone, cpu, peer_cpu = [], [], [], [], []
        for _ in range(repeats):
            start = time.perf_counter()
            finals = list(pool.map(ours, parts))
            mine.append((time.perf_counter() - start) / MEMBERS)
            cpu += [seconds for _, seconds in finals]
            start = time.perf_counter()
            peer_cpu += [seconds for _, seconds in pool.map(theirs, range(2 * CORES), [PEER] * 2 * CORES)]
            peer.append((time.perf_counter() - start) / (2 * CORES))
            start = time.perf_counter()
            list(pool.map(theirs, range(1), [PEER]))
            alone.append(time.perf_counter() - start)
        truth, _ = next(iter(pool.map(theirs, range(1), [REFERENCE])))
        approximate, _ = next(iter(pool.map(theirs, range(1), [PEER])))
    seconds, solver, single = (float(np.median(values)) for values in (mine, peer, alone))
    return {
        "seconds_per_simulation": seconds,
        "solve_ivp_seconds_both_cores": solver,
        "solve_ivp_seconds_one_by_one": single,
        "speedup_both_on_two_cores": solver / seconds,
        "speedup_over_one_by_one": single / seconds,
        "cpu_seconds_per_simulation": float(np.median(cpu)),
        "solve_ivp_cpu_seconds": float(np.median(peer_cpu)),
        "speedup_in_cpu_time_per_core": float(np.median(peer_cpu) / np.median(cpu)),
        "error_at_end": error(finals[0][0][0], truth),
        "solve_ivp_error_at_end": error(approximate, truth),
    }


def default_size(workers: int) -> dict[str, float]:
    """The command a user types: minutes and resident memory of 1,000 trajectories of 64 x 64 x 101."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "surrogate", "simulate", "reaction_diffusion", "--size", "default"]
        start = time.perf_counter()
        subprocess.run([*command, "--output", f"{folder}/data", "--workers", str(workers)], check=True)
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return {"workers": workers, "seconds": seconds, "largest_process_gb": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--default", action="store_true", help="also run the default size of reaction_diffusion")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "simulate.json")
    options = parser.parse_args()
    results: dict[str, object] = {"fitzhugh_nagumo_128": fitzhugh_nagumo(options.repeats)}
    if options.default:
        results["default_size"] = [default_size(0), default_size(CORES)]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
