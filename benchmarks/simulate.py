"""Speed and error of the simulators, against `scipy.integrate.solve_ivp` in the same run.

    python benchmarks/simulate.py                      # FitzHugh-Nagumo, 16 members of 128 x 128, against solve_ivp
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


def ours(members: int = MEMBERS) -> tuple[np.ndarray, float]:
    """Snapshots of the first member, and wall seconds per member of one batch in this process on all cores."""
    torch.set_num_threads(CORES)
    start = time.perf_counter()
    states = ensemble().run(range(members), batch=members).states
    return states[0].numpy(), (time.perf_counter() - start) / members


def theirs(number: int, options: dict[str, object]) -> np.ndarray:
    """Snapshots of one member by solve_ivp."""
    initial = ensemble().member(number).initial.astype(np.float32).astype(np.float64)
    result = solve_ivp(right_hand_side(), (0.0, 5.0), initial.ravel(), t_eval=TIMES, **options)
    return result.y.T.reshape(-1, *initial.shape)


def timed_peer(pool: ProcessPoolExecutor, members: int) -> float:
    """Wall seconds per member of PDEBench's way, as many at a time as there are processes."""
    start = time.perf_counter()
    list(pool.map(theirs, range(members), [PEER] * members))
    return (time.perf_counter() - start) / members


def errors(values: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Relative L2 at t = 5, and the largest of all snapshots."""
    each = [float(np.linalg.norm(v - t) / np.linalg.norm(t)) for v, t in zip(values, truth, strict=True)]
    return {"error_at_end": each[-1], "largest_error": max(each)}


def fitzhugh_nagumo(repeats: int) -> dict[str, object]:
    """A batch of 16 in float32 against `solve_ivp`, one simulation after the other and one on each core, in turns."""
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as one,
        ProcessPoolExecutor(CORES, mp_context=get_context("spawn")) as all_cores,
    ):
        for pool in (one, all_cores):
            list(pool.map(theirs, range(CORES), [PEER] * CORES))  # start the processes, import
        ours(2)
        seconds, alone, both = [], [], []
        for _ in range(repeats):
            states, each = ours()
            seconds.append(each)
            alone.append(timed_peer(one, 1))
            both.append(timed_peer(all_cores, CORES))
    truth = theirs(0, REFERENCE)
    return {
        "seconds_per_simulation": spread(seconds),
        "solve_ivp_seconds_one_by_one": spread(alone),
        "solve_ivp_seconds_on_all_cores": spread(both),
        "times_faster_than_one_by_one": spread(np.divide(alone, seconds)),
        "times_faster_than_all_cores": spread(np.divide(both, seconds)),
        "ours": errors(states, truth),
        "solve_ivp": errors(theirs(0, PEER), truth),
    }


def spread(values: list[float] | np.ndarray) -> list[float]:
    """Lower quartile, median and upper quartile."""
    return [float(f"{quartile:.4g}") for quartile in np.quantile(values, [0.25, 0.5, 0.75])]


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
    parser.add_argument("--repeats", type=int, default=5)
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
