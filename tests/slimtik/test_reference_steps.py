"""Steps solved by the two published codes, from their own files."""

from pathlib import Path

import h5py
import pytest
import torch
from torch import Tensor, nn

from surrogate.models.heads import head_of
from surrogate.slimtik import Bounded, Bounds, Constant, HalfSum, Memory, NormalEquations, sdp, sgcv, step, supre

RULES = {"sGCV": sgcv, "sDP": sdp(1e-2), "sUPRE": supre(1e-2)}


def distance(found: Tensor, expected: Tensor) -> float:
    return float(torch.linalg.norm(found - expected) / torch.linalg.norm(expected))


def tolerance(running_sum: float) -> float:
    return 1e-4 if running_sum < 1e-6 else 1e-8


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("search", ["trialPoints", "constant", "fminbnd"])
def test_steps_of_the_matlab_code(shared_data: Path, rule: str, search: str) -> None:
    with h5py.File(shared_data / "slimtik_meganet.h5") as file:
        cases = [case for case in file.values() if (case.attrs["rule"], case.attrs["search"]) == (rule, search)]
        assert len(cases) == 30
        for case in cases:
            Z, C, M, W, expected = (torch.from_numpy(case[name][...]) for name in ("Z", "C", "M", "W", "W_new"))
            L, damping, b = float(case.attrs["L"]), float(case.attrs["lam"]), len(Z)
            among = {"trialPoints": HalfSum(), "constant": Constant(L), "fminbnd": Bounded()}[search]
            bound = 1e-7 if search == "trialPoints" else 0.0  # only the trial points are clamped in that code
            batch, memory = NormalEquations.of(Z, C, b), M.T @ M / b
            found = step(W, batch, memory, L, rule=RULES[rule], search=among, lower_bound=bound)
            # The scalar search stops within its own tolerance, so its weights are compared at the published damping.
            assert abs(float(found.damping) - damping) <= (1e-6 if search == "fminbnd" else 1e-8) * abs(damping)
            assert abs(float(found.damping) - damping) <= 1e-6
            if search == "fminbnd":
                found = step(W, batch, memory, L, search=Constant(damping), lower_bound=0.0)
            assert distance(found.weights, expected) <= tolerance(L + damping), case.name


@pytest.mark.parametrize("search", ["trial_points", "none"])
def test_runs_of_the_python_code(shared_data: Path, search: str) -> None:
    with h5py.File(shared_data / "slimtik_python.h5") as file:
        runs = [run for run in file.values() if run.attrs["search"] == search]
        assert len(runs) == 9
        for run in runs:
            follow(run)


def follow(run: h5py.Group) -> None:
    """Follow a run step by step, with memory and running sum of our own."""
    about = run.attrs
    trial = Bounds(float(about["upper_bound"]), equations="samples")
    search = trial if about["search"] == "trial_points" else Constant(float(about["lam0"]))
    memory, L = Memory(int(about["memory_depth"])), torch.tensor(float(about["L0"]), dtype=torch.float64)
    for number in sorted(run, key=int):
        saved = {name: torch.from_numpy(value[...]) for name, value in run[number].items()}
        head = head_of(nn.ConvTranspose2d(saved["z"].shape[1], 1, 4, stride=2, padding=1).double())
        head.load_state_dict({"layer.weight": saved["weight"], "layer.bias": saved["bias"]})
        batch = head.normal_equations(saved["z"], saved["target"])
        memory = memory.pushed(batch.G)
        bound = float(about["lower_bound"])
        found = step(head.matrix(), batch, memory.total, L, search=search, lower_bound=bound)
        damping, L = float(run[number].attrs["lam"]), found.running_sum
        assert float(L) == pytest.approx(float(run[number].attrs["L"]), rel=1e-8)
        assert float(found.damping) == pytest.approx(damping, rel=1e-8, abs=1e-15)
        head.assign_(found.weights)
        for name in ("weight", "bias"):
            assert distance(getattr(head, name).detach(), saved[f"{name}_new"]) <= tolerance(float(L)), run.name
