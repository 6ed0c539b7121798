"""Every optimizer reaches the known minimum of a problem that has one."""

import copy

import pytest
import torch
from torch import Tensor, nn

from surrogate.batch import Batch
from surrogate.errors import ConfigError
from surrogate.experiment.optimizers import (
    AdamSettings,
    AdamWSettings,
    ExtremeLearningSettings,
    GNvproSettings,
    LBFGSSettings,
    MuonSettings,
    SgdSettings,
    SlimTrainSettings,
)
from surrogate.models.heads import head_of
from surrogate.models.separable import Separable
from surrogate.optim.combined import Combined
from surrogate.slimtik import tikhonov
from surrogate.training.methods import build_method
from surrogate.training.objective import Objective

CONVEX = [  # settings, steps, tolerance of the distance from the least-squares solution
    (AdamSettings(learning_rate=2e-2), 1500, 1e-2),
    (AdamWSettings(learning_rate=2e-2, weight_decay=0), 1500, 1e-2),
    (SgdSettings(learning_rate=5e-2), 500, 1e-3),
    (MuonSettings(learning_rate=2e-2, weight_decay=0), 1500, 1e-2),
    (LBFGSSettings(), 8, 1e-3),
]
SEPARABLE = [  # settings, steps, loss to reach from 1
    (SlimTrainSettings(learning_rate=2e-2), 400, 1e-3),
    (SlimTrainSettings(learning_rate=2e-2, base="adamw"), 400, 1e-3),
    (SlimTrainSettings(learning_rate=2e-1, base="sgd"), 400, 1e-2),
    (GNvproSettings(), 60, 1e-4),
    (LBFGSSettings(), 100, 1e-4),
]


def objective(**changes: object) -> Objective:
    options: dict = {"loss": "mse", "offset": torch.zeros(1), "precision": "float32", "rollout": 1, "every": False}
    return Objective(**(options | changes))


def batch(x: Tensor, y: Tensor) -> Batch:
    return Batch(x, y, torch.arange(len(x)), torch.zeros(len(x), dtype=torch.int64))


def descend(settings: object, network: Separable, whole: Batch, steps: int) -> float:
    """Loss before the last of so many steps on one batch."""
    method = build_method(settings, network, objective())
    method.prepare(network, [whole])
    for _ in range(steps):
        loss = float(method.backward(network, [whole]))
        method.update(network, [whole])
    return loss


def convex_problem() -> tuple[Separable, Batch, Tensor]:
    """A linear network whose features are fixed but for one matrix, so that the minimum is the least-squares one."""
    torch.manual_seed(0)
    x = torch.randn(60, 4)
    y = x @ torch.randn(4, 2) + 0.3 * torch.randn(60, 2)
    features = nn.Linear(4, 2, bias=False)
    head = nn.Linear(2, 2, bias=False)
    head.weight.data = torch.eye(2)
    network = Separable(features, head_of(head))
    return network, batch(x, y), torch.linalg.lstsq(x, y).solution


@pytest.mark.parametrize(("settings", "steps", "tolerance"), CONVEX, ids=lambda value: getattr(value, "name", ""))
def test_least_squares_is_found(settings: object, steps: int, tolerance: float) -> None:
    network, whole, expected = convex_problem()
    descend(settings, network, whole, steps)
    found = network(torch.eye(4)).detach()
    assert torch.linalg.norm(found - expected) <= tolerance * torch.linalg.norm(expected)


def teacher_problem(width: int = 3) -> tuple[Separable, Batch]:
    """Targets made by a network of the same kind, so that the minimum is zero; the student starts near the teacher."""
    torch.manual_seed(1)
    x = torch.rand(100, 2) * 2 - 1
    teacher = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 1))
    with torch.no_grad():
        y = teacher(x)
        y = (y - y.mean()) / y.std()
        features = nn.Sequential(teacher[0], teacher[1])
        for parameter in features.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return Separable(features, head_of(nn.Linear(width, 1))), batch(x, y)


@pytest.mark.parametrize(("settings", "steps", "goal"), SEPARABLE, ids=lambda value: getattr(value, "name", ""))
def test_the_network_that_made_the_data_is_found(settings: object, steps: int, goal: float) -> None:
    network, whole = teacher_problem()
    assert descend(settings, network, whole, steps) < goal


@pytest.mark.parametrize("regularization", [None, 1e-2])
def test_extreme_learning_is_one_exact_solve(regularization: float | None) -> None:
    network, whole = teacher_problem(width=20)
    before = [parameter.clone() for parameter in network.features.parameters()]
    descend(ExtremeLearningSettings(regularization=regularization), network, whole, 3)
    z = network.features(whole.inputs)
    expected = tikhonov(network.head.normal_equations(z, whole.targets), regularization=regularization).weights
    torch.testing.assert_close(network.head.matrix(), expected.float())
    assert all(map(torch.equal, network.features.parameters(), before))


def many_layers() -> Separable:
    torch.manual_seed(0)
    features = nn.Sequential(
        nn.Conv1d(1, 3, 3, padding=1), nn.BatchNorm1d(3), nn.Tanh(), nn.Flatten(), nn.Linear(24, 8)
    )
    return Separable(features, head_of(nn.Linear(8, 1)))


SETTINGS = [AdamSettings(), SgdSettings(), MuonSettings(), LBFGSSettings(), GNvproSettings()]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda value: value.name)
def test_several_batches_are_one_large_batch(settings: object) -> None:
    x, y = torch.randn(12, 1, 8), torch.randn(12, 1)
    parts = [batch(x[:5], y[:5]), batch(x[5:], y[5:])]
    gradients = []
    for batches in (parts, [batch(x, y)]):
        network = many_layers().eval()
        loss = build_method(settings, network, objective()).backward(network, batches)
        gradients.append([loss, *(p.grad for p in network.parameters() if p.grad is not None)])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_slimtrain_solves_for_all_batches_and_leaves_noise_and_averages_alone() -> None:
    x, y = torch.randn(12, 1, 8), torch.randn(12, 1)
    found = []
    for batches in ([batch(x[:5], y[:5]), batch(x[5:], y[5:])], [batch(x, y)]):
        network = many_layers().eval()
        network.features[1].eval()
        build_method(SlimTrainSettings(), network, objective()).backward(network, batches)
        found.append([network.head.matrix(), *(parameter.grad for parameter in network.features.parameters())])
    torch.testing.assert_close(found[0], found[1])
    network = many_layers()  # in training mode: BatchNorm counts each batch once, though features are made twice
    build_method(SlimTrainSettings(), network, objective()).backward(network, [batch(x[:5], y[:5])] * 2)
    assert network.features[1].num_batches_tracked == 2


def test_bf16_features_are_solved_for_in_full_precision() -> None:
    network, whole = teacher_problem()
    half = objective(precision="bf16")
    z = half.features(network, whole.inputs)
    assert z.dtype == torch.float32
    assert torch.equal(z, z.bfloat16().float())
    loss = build_method(SlimTrainSettings(), network, half).backward(network, [whole])
    assert float(loss) == pytest.approx(float(nn.functional.mse_loss(network.head(z), whole.targets)))
    assert all(parameter.grad.dtype == torch.float32 for parameter in network.features.parameters())


@pytest.mark.parametrize("scale", [0.1, 30.0])
def test_relative_loss_is_that_of_physical_units(scale: float) -> None:
    torch.manual_seed(0)
    y, t, mean = torch.randn(5, 1, 8), torch.randn(5, 1, 8), torch.tensor([7.0])
    physical = [value * scale + mean for value in (y, t)]
    expected = ((physical[0] - physical[1]).flatten(1).norm(dim=1) / physical[1].flatten(1).norm(dim=1)).mean()
    torch.testing.assert_close(objective(loss="relative_l2", offset=mean / scale).value(y, t), expected)


def test_muon_takes_the_matrices_of_the_features_and_its_state_is_kept() -> None:
    x, y = torch.randn(12, 1, 8), torch.randn(12, 1)
    networks = [many_layers(), many_layers()]
    methods = [build_method(MuonSettings(), network, objective()) for network in networks]
    optimizer = methods[0].optimizer
    assert isinstance(optimizer, Combined)
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 7]
    step(networks[0], methods[0], x, y)
    networks[1].load_state_dict(networks[0].state_dict())
    methods[1].optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for network, method in zip(networks, methods, strict=True):
        step(network, method, x, y)
    assert all(map(torch.equal, networks[0].parameters(), networks[1].parameters()))
    methods[1].optimizer.param_groups[0]["lr"] = 0.5  # as a schedule does
    assert methods[1].optimizer.parts[0].param_groups[0]["lr"] == 0.5
    with pytest.raises(ConfigError, match="not of 2 optimizers"):
        methods[1].optimizer.load_state_dict({})


def step(network: Separable, method: object, x: Tensor, y: Tensor) -> None:
    method.backward(network, [batch(x, y)])
    method.update(network, [batch(x, y)])


class Rotated(nn.Module):
    """Features with a complex weight, which torch's fused optimizers do not take."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Parameter(torch.ones(4, dtype=torch.complex64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.view_as_real(x * self.turn).flatten(1)


@pytest.mark.parametrize("base", ["adam", "adamw", "sgd"])
def test_complex_weights_are_trained(base: str) -> None:
    torch.manual_seed(0)
    network = Separable(Rotated(), head_of(nn.Linear(8, 1)))
    x = torch.randn(40, 4)
    y = (x * torch.tensor([1.0, 0.0, -1.0, 2.0])).sum(dim=1, keepdim=True)
    settings = SlimTrainSettings(base=base, learning_rate=1e-3)
    assert descend(settings, network, batch(x, y), 30) < 1e-4
    assert not torch.equal(network.features.turn, torch.ones(4, dtype=torch.complex64))
