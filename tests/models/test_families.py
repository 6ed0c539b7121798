"""Every family: shapes in 1-, 2- and 3-d, an exact linear head, no dead parameter."""

from typing import Any

import pytest
import torch

from surrogate.checks import ConfigError
from surrogate.models import (
    AutoencoderSettings,
    ConvNetSettings,
    ModelSettings,
    Separable,
    Shapes,
    build,
    convnet,
    families,
    register,
)

GRIDS = [(16,), (8, 16), (8, 8, 8)]
FAMILIES = [
    AutoencoderSettings(width=4, latent=5, levels=2),
    AutoencoderSettings(width=4, latent=5, levels=1, batch_norm=True),
    AutoencoderSettings(width=2, latent=5, levels=3, batch_norm=True),
    ConvNetSettings(width=6, depth=2, coordinates=True),
    ConvNetSettings(width=6, depth=1, padding="circular", head_kernel=3),
]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("settings", FAMILIES, ids=str)
def test_fields_to_fields(settings: ModelSettings, grid: tuple[int, ...]) -> None:
    network = build(settings, Shapes(inputs=2, outputs=3, grid=grid))
    assert network(torch.randn(4, 2, *grid)).shape == (4, 3, *grid)


@pytest.mark.parametrize("settings", FAMILIES, ids=str)
def test_output_is_linear_in_the_head(settings: ModelSettings) -> None:
    network = build(settings, Shapes(inputs=1, outputs=2, grid=(8, 8))).double()
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    z = network.features(x)
    torch.testing.assert_close(network.head.design(z) @ network.head.matrix(), network.head.rows(network(x)))


@pytest.mark.parametrize("settings", FAMILIES, ids=str)
def test_every_parameter_receives_gradient(settings: ModelSettings) -> None:
    network = build(settings, Shapes(inputs=1, outputs=1, grid=(16, 16)))
    network(torch.randn(8, 1, 16, 16)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_circular_network_commutes_with_shifts() -> None:
    settings = ConvNetSettings(width=6, depth=2, padding="circular")
    network = convnet(settings, Shapes(inputs=1, outputs=1, grid=(12, 12))).double()
    x = torch.randn(2, 1, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(network(x.roll(5, -1)), network(x).roll(5, -1))


@pytest.mark.parametrize("grid", [(10, 8), ()])
def test_a_grid_that_cannot_be_halved_is_refused(grid: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"model\.levels: 2 halvings need a grid divisible by 4"):
        build(AutoencoderSettings(), Shapes(inputs=1, outputs=1, grid=grid))


def test_fields_of_four_axes_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 to 3 space axes"):
        build(ConvNetSettings(), Shapes(inputs=1, outputs=1, grid=(4, 4, 4, 4)))


def test_a_name_is_registered_once() -> None:
    class Other(ModelSettings):
        family: str = "convnet"

    def builder(settings: Any, shapes: Shapes) -> Separable:
        raise NotImplementedError

    with pytest.raises(ConfigError, match="'convnet' is registered already"):
        register(Other)(builder)
    assert "convnet" in families()
