"""An ensemble is the mean of its members, whatever their heads, and as much a separable network as they are."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from surrogate.errors import ConfigError
from surrogate.models import (
    AutoencoderSettings,
    ConvNetSettings,
    DeepONetSettings,
    FieldHead,
    FnoSettings,
    Head,
    MlpSettings,
    ModelSettings,
    PodSettings,
    Separable,
    Shapes,
    Signature,
    Surrogate,
    build,
    ensemble,
    head_of,
)
from surrogate.models.families.pod import ModesHead
from surrogate.normalize import Normalizer
from surrogate.slimtik import NormalEquations, Posterior, predictive_std

LAYERS: list[tuple[Any, tuple[int, ...]]] = [
    (lambda: nn.Linear(5, 3), (7, 5)),
    (lambda: nn.Linear(5, 3, bias=False), (2, 3, 5)),
    (lambda: nn.Conv1d(3, 2, 4, dilation=2, padding="same"), (2, 3, 9)),
    (lambda: nn.Conv2d(3, 2, (3, 2), stride=(2, 1), padding=1, bias=False), (2, 3, 9, 8)),
    (lambda: nn.Conv3d(2, 3, 2), (2, 2, 3, 4, 4)),
    (lambda: nn.ConvTranspose1d(2, 3, 2, stride=5, output_padding=3), (2, 2, 4)),
    (lambda: nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1), (3, 3, 5, 4)),
    (lambda: nn.ConvTranspose3d(2, 2, (1, 2, 3), stride=(3, 2, 1), bias=False), (2, 2, 2, 3, 2)),
]


class Bent(nn.Module):
    """Features of the shape of the inputs, with a weight of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.randn(()))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.slope * x)


def networks(make: Any, count: int = 3) -> list[Separable]:
    torch.manual_seed(0)
    return [Separable(Bent(), head_of(make())).double() for _ in range(count)]


def mean(members: list[Separable], x: Tensor) -> Tensor:
    return torch.stack([member(x) for member in members]).mean(0)


@pytest.mark.parametrize(("make", "shape"), LAYERS, ids=lambda value: None if callable(value) else str(value))
def test_the_ensemble_is_the_mean_and_its_head_keeps_the_laws_of_heads(make: Any, shape: tuple[int, ...]) -> None:
    members, x = networks(make), torch.randn(*shape, dtype=torch.float64)
    whole = ensemble(members)
    with torch.no_grad():
        output, z = whole(x), whole.features(x)
        torch.testing.assert_close(output, mean(members, x))
        head = whole.head
        A, targets = head.design(z), torch.randn_like(output)
        torch.testing.assert_close(A @ head.matrix(), head.rows(output))
        found, expected = head.normal_equations(z, targets), NormalEquations.of(A, head.rows(targets), len(z))
        torch.testing.assert_close(found.gram, expected.gram)
        torch.testing.assert_close(found.cross, expected.cross)
    assert (getattr(head.layer, "in_features", None) or head.layer.in_channels) == head.channels
    assert head.channels == 3 * members[0].head.channels


@pytest.mark.parametrize(
    ("settings", "shapes"),
    [
        (MlpSettings(width=6), Shapes(inputs=2, outputs=3, grid=(4, 5), input_grid=())),
        (PodSettings(modes=3, width=6), Shapes(inputs=2, outputs=1, grid=(8,), input_grid=())),
        (DeepONetSettings(width=6, products=5), Shapes(inputs=2, outputs=2, grid=(8,), input_grid=())),
        (ConvNetSettings(width=6, depth=1, symmetry="nodes"), Shapes(inputs=1, outputs=2, grid=(8, 8))),
        (AutoencoderSettings(width=2, latent=3, levels=1, batch_norm=True), Shapes(inputs=1, outputs=1, grid=(8, 8))),
        (FnoSettings(width=4, depth=1, modes=3), Shapes(inputs=1, outputs=1, grid=(8, 8))),
    ],
    ids=lambda value: value.family if isinstance(value, ModelSettings) else "",
)
def test_every_kind_of_family(settings: ModelSettings, shapes: Shapes) -> None:
    torch.manual_seed(0)
    members = [build(settings, shapes).eval() for _ in range(4)]
    for member in members:
        if isinstance(member.head, ModesHead):  # those of the data, alike for all
            member.head.modes.copy_(torch.linalg.qr(torch.arange(24.0).sin().reshape(8, 3)).Q)
            member.head.mean.fill_(2.0)
    x = torch.randn(5, shapes.inputs, *shapes.input_grid)
    with torch.no_grad():
        torch.testing.assert_close(ensemble(members).eval()(x), mean(members, x), rtol=1e-5, atol=1e-5)


def test_features_of_several_inputs() -> None:
    class Product(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x * y

    members = [Separable(Product(), head_of(nn.Linear(4, 2))) for _ in range(2)]
    x, y = torch.randn(3, 4), torch.randn(3, 4)
    with torch.no_grad():
        torch.testing.assert_close(ensemble(members)(x, y), (members[0](x, y) + members[1](x, y)) / 2)


def test_members_are_left_as_they_are() -> None:
    members = networks(lambda: nn.Linear(5, 3))
    before = [member.head.matrix() for member in members]
    whole = ensemble(members)
    whole.head.assign_(torch.zeros(*whole.head.shape))
    assert all(torch.equal(member.head.matrix(), W) for member, W in zip(members, before, strict=True))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (head_of(nn.Linear(5, 3)), head_of(nn.Linear(5, 3, bias=False))),
        (head_of(nn.Conv1d(5, 3, 3)), head_of(nn.ConvTranspose1d(5, 3, 3))),
        (head_of(nn.Conv1d(5, 3, 3, padding=1)), head_of(nn.Conv1d(5, 3, 3))),
        (FieldHead(nn.Linear(5, 6), (2, 3)), FieldHead(nn.Linear(5, 6), (3, 2))),
    ],
)
def test_heads_of_different_kinds_are_refused(first: Head, second: Head) -> None:
    with pytest.raises(ConfigError, match="needs heads of one kind and size"):
        ensemble([Separable(Bent(), first), Separable(Bent(), second)])


def test_modes_of_different_data_are_refused() -> None:
    members = [Separable(Bent(), ModesHead(nn.Linear(5, 3), (8,))) for _ in range(2)]
    members[1].head.get_buffer("mean").fill_(1.0)
    with pytest.raises(ConfigError, match="these ModesHeads differ in 'mean' too"):
        ensemble(members)


SIGNATURE = Signature(inputs=("a",), targets=("b",), units={"b": "Pa"}, grid={"y": 8, "x": 8})


def surrogate(shift: float = 3.0) -> Surrogate:
    inputs = Normalizer(torch.tensor([shift]), torch.tensor([2.0]))
    targets = Normalizer(torch.tensor([-100.0]), torch.tensor([50.0]))
    return Surrogate(ConvNetSettings(width=4, depth=1, dropout=0.5), SIGNATURE, inputs, targets).eval()


def test_surrogates_have_a_mean_in_physical_units_that_is_saved_and_loaded(tmp_path: Path) -> None:
    members = [surrogate() for _ in range(3)]
    whole = Surrogate.mean_of(members).eval()
    x = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(whole(x), torch.stack([member(x) for member in members]).mean(0))
        whole.save(tmp_path)
        assert torch.equal(Surrogate.load(tmp_path)(x), whole(x))


def test_the_posterior_of_an_ensemble_is_that_of_its_head(tmp_path: Path) -> None:
    whole = Surrogate.mean_of([surrogate() for _ in range(3)]).eval()
    network, x = whole.network, torch.randn(6, 1, 8, 8)
    with torch.no_grad():
        z = network.features(x)
        whole.posterior = Posterior.of(network.head.normal_equations(z, torch.randn(6, 1, 8, 8)))
        whole.save(tmp_path)
        _, std = Surrogate.load(tmp_path).predict_with_std(whole.inputs.inverse(x))
        expected = predictive_std(network.head, whole.posterior, z)
    torch.testing.assert_close(std, (50 * expected).float(), rtol=1e-4, atol=1e-4)


def test_other_data_or_ensembles_of_ensembles_are_refused() -> None:
    members = [surrogate(), surrogate()]
    for wrong in (surrogate(shift=3.1), Surrogate.mean_of(members)):
        with pytest.raises(ConfigError, match="single networks of one family, one signature and one normalisation"):
            Surrogate.mean_of([*members, wrong])
