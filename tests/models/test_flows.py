"""Networks that are flows: stable, of the order of their integrator, symplectic, and reversible."""

import pytest
import torch
from torch import Tensor

from surrogate.models import AntisymmetricSettings, HamiltonianSettings
from surrogate.models.families.antisymmetric import AntisymmetricFlow
from surrogate.models.families.hamiltonian import HamiltonianFlow


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def antisymmetric(**settings: float) -> AntisymmetricFlow:
    flow = AntisymmetricFlow(AntisymmetricSettings.model_validate({"width": 6, "depth": 3, **settings})).double()
    for parameter in flow.parameters():
        parameter.data = torch.randn_like(parameter)
    return flow


def refined(flow: AntisymmetricFlow, factor: int) -> AntisymmetricFlow:
    """The same weights over the same times, in steps smaller by a factor."""
    settings = AntisymmetricSettings(width=6, depth=3 * factor, final_time=3 * flow.step, damping=flow.damping)
    fine = AntisymmetricFlow(settings).double()
    fine.weights.data = flow.weights.data.repeat_interleave(factor, 0)
    fine.biases.data = flow.biases.data.repeat_interleave(factor, 0)
    return fine


@pytest.mark.parametrize("damping", [0.0, 1e-4, 0.5])
def test_eigenvalues_of_the_jacobian_are_not_to_the_right(damping: float) -> None:
    flow = antisymmetric(damping=damping)
    z = torch.randn(6, dtype=torch.float64)
    for A, b in zip(flow.matrices(), flow.biases, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda x, A=A, b=b: torch.tanh(x @ A + b), z)
        assert float(torch.linalg.eigvals(jacobian).real.max()) < 1e-12
        symmetric = (A + A.T) / 2
        torch.testing.assert_close(symmetric, -damping * torch.eye(6, dtype=torch.float64))


@torch.no_grad()
def test_runge_kutta_has_order_four() -> None:
    flow = antisymmetric(final_time=0.9)
    z = torch.randn(4, 6, dtype=torch.float64)
    exact = refined(flow, 64)(z)
    coarse, fine = (float((refined(flow, factor)(z) - exact).norm()) for factor in (2, 4))
    assert 12 < coarse / fine < 20  # 2^4


def at_nodes(flow: AntisymmetricFlow, weights: Tensor, biases: Tensor) -> AntisymmetricFlow:
    settings = AntisymmetricSettings(width=6, depth=len(biases) // 2, final_time=0.9, damping=0.1, weights="nodes")
    result = AntisymmetricFlow(settings).double()
    result.weights.data, result.biases.data = weights, biases
    return result


@torch.no_grad()
def test_weights_at_nodes_that_are_constant_over_a_step_are_weights_of_the_step() -> None:
    flow = antisymmetric(final_time=0.9, damping=0.1, depth=1)
    z = torch.randn(4, 6, dtype=torch.float64)
    same = at_nodes(flow, flow.weights.data.repeat(3, 1, 1), flow.biases.data.repeat(3, 1))
    torch.testing.assert_close(same(z), flow(z), rtol=0, atol=0)


@torch.no_grad()
def test_weights_that_change_in_time_keep_order_four() -> None:
    slopes, offsets = torch.randn(2, 6, 6, dtype=torch.float64), torch.randn(2, 6, dtype=torch.float64)
    z = torch.randn(4, 6, dtype=torch.float64)

    def solved(depth: int) -> Tensor:
        t = torch.linspace(0, 1, 2 * depth + 1, dtype=torch.float64)
        weights = slopes[0] + t[:, None, None] * slopes[1]
        return at_nodes(antisymmetric(), weights, offsets[0] + torch.sin(t)[:, None] * offsets[1])(z)

    exact = solved(256)
    assert 12 < float((solved(8) - exact).norm() / (solved(16) - exact).norm()) < 20  # 2^4


def test_initial_weights_that_are_constant_in_time_have_the_deviation_of_the_source() -> None:
    settings = AntisymmetricSettings(width=64, depth=4, initial="constant", weights="nodes")
    weights = AntisymmetricFlow(settings).weights.detach()
    assert torch.equal(weights, weights[:1].expand(9, 64, 64))
    assert abs(float(weights.std()) / (2 / 64) ** 0.5 - 1) < 0.05


def hamiltonian(depth: int = 3, final_time: float = 2.0) -> HamiltonianFlow:
    flow = HamiltonianFlow(HamiltonianSettings(width=8, depth=depth, final_time=final_time)).double()
    flow.biases.data = torch.randn_like(flow.biases)
    return flow


def test_a_hamiltonian_flow_is_symplectic() -> None:
    """J' Omega J = Omega for the Jacobian J, whatever the step."""
    flow = hamiltonian()
    J = torch.autograd.functional.jacobian(lambda z: flow(z[None])[0], torch.randn(8, dtype=torch.float64))
    eye, zero = torch.eye(4, dtype=torch.float64), torch.zeros(4, 4, dtype=torch.float64)
    omega = torch.cat([torch.cat([zero, eye], 1), torch.cat([-eye, zero], 1)])
    torch.testing.assert_close(J.T @ omega @ J, omega)


@torch.no_grad()
def test_a_hamiltonian_flow_can_be_undone() -> None:
    flow, start = hamiltonian(depth=20), torch.randn(5, 8, dtype=torch.float64)
    p, q = flow(start).chunk(2, 1)
    for (K, L), (b, c) in zip(flow.weights.flip(0), flow.biases.flip(0), strict=True):
        q = q + flow.step * torch.tanh(p @ L.T + c) @ L
        p = p - flow.step * torch.tanh(q @ K.T + b) @ K
    torch.testing.assert_close(torch.cat([p, q], 1), start)


@torch.no_grad()
def test_energy_is_kept_to_the_order_of_the_step() -> None:
    """With weights that do not change in time the error of the Hamiltonian falls with the step, and does not drift."""

    def energy(flow: HamiltonianFlow, state: Tensor) -> Tensor:
        (K, L), (b, c) = flow.weights[0], flow.biases[0]
        p, q = state.chunk(2, 1)
        return torch.log(torch.cosh(q @ K.T + b)).sum(1) + torch.log(torch.cosh(p @ L.T + c)).sum(1)

    base, start = hamiltonian(), torch.randn(5, 8, dtype=torch.float64)
    errors = []
    for depth in (400, 800):
        flow = hamiltonian(depth, final_time=20.0)
        flow.weights.data = base.weights.data[:1].repeat(depth, 1, 1, 1)
        flow.biases.data = base.biases.data[:1].repeat(depth, 1, 1)
        errors.append(float((energy(flow, flow(start)) - energy(flow, start)).abs().max()))
    assert errors[1] < 0.7 * errors[0] < 0.1


def test_uniform_initial_weights_lie_in_the_unit_interval() -> None:
    flow = AntisymmetricFlow(AntisymmetricSettings(width=4, depth=50, initial="uniform"))
    assert 0 <= float(flow.weights.min()) < 0.05
    assert 0.95 < float(flow.weights.max()) <= 1
