"""GNvpro: the reduced gradient, Gauss-Newton's matrix in Kaufman's form, and Steihaug's step."""

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from surrogate.errors import ConfigError
from surrogate.models.heads import head_of
from surrogate.models.separable import Separable
from surrogate.optim.gnvpro import GNvpro, KrylovPath

HEADS = {
    "dense": (lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh()), lambda: nn.Linear(5, 2), (9, 3), (9, 2)),
    "conv": (
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3, padding=1), nn.Tanh()),
        lambda: nn.Conv1d(3, 1, 3, padding=1),
        (4, 2, 8),
        (4, 1, 8),
    ),
    "transposed": (
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3, padding=1), nn.Tanh()),
        lambda: nn.ConvTranspose1d(3, 2, 4, stride=2, padding=1),
        (4, 2, 6),
        (4, 2, 12),
    ),
}


@pytest.fixture(params=HEADS)
def problem(request: pytest.FixtureRequest) -> tuple[Separable, Tensor, Tensor]:
    torch.manual_seed(0)
    features, head, inputs, targets = HEADS[request.param]
    network = Separable(features(), head_of(head())).double()
    return network, torch.randn(inputs, dtype=torch.float64), torch.randn(targets, dtype=torch.float64)


def optimizer_of(network: Separable, **options: float) -> GNvpro:
    return GNvpro(network.features, network.head, **{"regularization": 1e-3, **options})


def reduced(network: Separable, x: Tensor, y: Tensor, parameters: Tensor, *, decay: float = 0.0) -> float:
    """F by a dense solve."""
    vector_to_parameters(parameters, network.features.parameters())
    A, C = network.head.design(network.features(x)).detach(), network.head.rows(y)
    alpha, eye = 1e-3 * len(x), torch.eye(A.shape[1], dtype=A.dtype)
    W = torch.linalg.solve(A.mT @ A + alpha * eye, A.mT @ C)
    fit = (A @ W - C).square().sum() + alpha * W.square().sum()
    return float(fit / y.numel() + 0.5 * decay * parameters.square().sum())


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_gradient_is_that_of_the_reduced_functional(problem: tuple[Separable, Tensor, Tensor], decay: float) -> None:
    network, x, y = problem
    optimizer_of(network, weight_decay=decay).backward([(x[:2], y[:2]), (x[2:], y[2:])])
    found = parameters_to_vector(p.grad for p in network.features.parameters())
    start = parameters_to_vector(network.features.parameters()).detach().clone()
    h = 1e-5 * torch.eye(len(start), dtype=torch.float64)
    differences = [
        (reduced(network, x, y, start + e, decay=decay) - reduced(network, x, y, start - e, decay=decay)) / 2e-5
        for e in h
    ]
    torch.testing.assert_close(found, torch.tensor(differences, dtype=torch.float64), rtol=1e-6, atol=1e-9)


def test_products_are_those_of_the_projected_jacobian(problem: tuple[Separable, Tensor, Tensor]) -> None:
    network, x, y = problem
    optimizer = optimizer_of(network, weight_decay=0.2)
    pairs = [(x[:2], y[:2]), (x[2:], y[2:])]
    optimizer.backward(pairs)
    product = optimizer._product(pairs)
    names = [name for name, _ in network.features.named_parameters()]
    count = sum(p.numel() for p in network.features.parameters())
    found = torch.stack([product(e) for e in torch.eye(count, dtype=torch.float64)])

    def outputs(vector: Tensor) -> Tensor:
        shapes = [p.shape for p in network.features.parameters()]
        parts = vector.split([shape.numel() for shape in shapes])
        values = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        z = torch.func.functional_call(network.features, values, (x,))
        return network.head.rows(network.head(z))

    T = torch.func.jacfwd(outputs)(parameters_to_vector(network.features.parameters()).detach())  # (n, M, parameters)
    A = network.head.design(network.features(x)).detach()
    damped = A.mT @ A + 1e-3 * len(x) * torch.eye(A.shape[1], dtype=A.dtype)
    P = torch.eye(len(A), dtype=A.dtype) - A @ torch.linalg.solve(damped, A.mT)
    expected = 2 / y.numel() * torch.einsum("nmp,nk,kmq->pq", T, P, T) + 0.2 * torch.eye(count, dtype=A.dtype)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("radius", [0.01, 0.3, 1e3])
def test_steihaug_step_stays_within_the_radius_and_beats_steepest_descent(radius: float) -> None:
    torch.manual_seed(0)
    root, g = torch.randn(6, 6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    H = root @ root.mT + 0.1 * torch.eye(6, dtype=torch.float64)
    path = KrylovPath.of(lambda v: H @ v, g, radius=radius, most=50, tolerance=1e-12)
    step, predicted = path.step(radius)
    model = g @ step + 0.5 * step @ (H @ step)
    assert predicted == pytest.approx(float(-model))
    assert step.norm() <= radius * (1 + 1e-9)
    cauchy = min(float(g @ g / (g @ H @ g)), float(radius / g.norm())) * -g
    assert model <= g @ cauchy + 0.5 * cauchy @ (H @ cauchy) + 1e-12
    if radius > 100:
        torch.testing.assert_close(step, -torch.linalg.solve(H, g))


def test_every_step_lowers_the_functional_and_the_radius_is_in_the_state(
    problem: tuple[Separable, Tensor, Tensor],
) -> None:
    network, x, y = problem
    optimizer = optimizer_of(network)
    values = []
    for _ in range(8):
        optimizer.backward([(x, y)])
        values.append(optimizer._value)
        optimizer.step([(x, y)])
    assert all(b <= a for a, b in itertools.pairwise(values))
    assert values[-1] < 0.5 * values[0]
    other = optimizer_of(network)
    other.load_state_dict(optimizer.state_dict())
    assert other.radius == optimizer.radius


def test_features_without_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="no parameter to train"):
        GNvpro(nn.Tanh(), head_of(nn.Linear(2, 1)))
