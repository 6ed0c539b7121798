"""Networks at the points of a mesh: any order, any number, and heads that are exact where samples differ in number."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from surrogate.batch import Batch
from surrogate.errors import ConfigError
from surrogate.models import (
    DeepONetSettings,
    GinoSettings,
    ModelSettings,
    Separable,
    Shapes,
    TransolverSettings,
    build,
    settings_union,
)
from surrogate.models.heads.point import PointHead
from surrogate.models.registry import prepare, settings_of
from surrogate.optim.refit import refit
from surrogate.training.objective import Objective

SHAPES = Shapes(
    inputs=4, outputs=2, grid=(30,), input_grid=(30,), point_axis="point", positions=(2, 3), parameters=(0, 1)
)
FAMILIES = [
    TransolverSettings(width=8, depth=2, heads=2, slices=5),
    DeepONetSettings(width=8, depth=2, products=6),
    GinoSettings(width=8, depth=2, modes=2, side=6, padding=2),
]


def network_of(settings: ModelSettings, shapes: Shapes = SHAPES) -> Separable:
    torch.manual_seed(0)
    return build(settings, shapes).double()


def samples(points: int = 30, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    parameters = torch.randn(3, 2, 1, generator=generator, dtype=torch.float64).expand(3, 2, points)
    return torch.cat([parameters, torch.randn(3, 2, points, generator=generator, dtype=torch.float64)], dim=1)


@pytest.mark.parametrize("settings", FAMILIES, ids=lambda s: s.family)
def test_the_order_of_the_points_does_not_matter(settings: ModelSettings) -> None:
    network, inputs, order = network_of(settings), samples(), torch.randperm(30)
    torch.testing.assert_close(network(inputs[..., order]), network(inputs)[..., order], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("settings", FAMILIES, ids=lambda s: s.family)
def test_padded_points_change_nothing(settings: ModelSettings) -> None:
    network, inputs = network_of(settings, SHAPES.model_copy(update={"ragged": True})), samples()
    padded = torch.nn.functional.pad(inputs, (0, 11), value=math.nan)
    padded[:, :2] = inputs[:, :2, :1]  # parameters are known at every point
    torch.testing.assert_close(network(padded)[..., :30], network(inputs), rtol=1e-12, atol=1e-12)
    assert torch.isfinite(network(padded)).all()


def test_a_grid_is_points_too() -> None:
    shapes = Shapes(inputs=1, outputs=1, grid=(5, 4))
    network = network_of(TransolverSettings(width=8, depth=1, heads=1, slices=3), shapes)
    fields = torch.randn(2, 1, 5, 4).double()
    turned = network(fields.transpose(2, 3).flip(2))
    assert network(fields).shape == (2, 1, 5, 4)
    assert turned.shape == (2, 1, 4, 5)


def test_the_head_of_ragged_samples_is_that_of_all_their_points() -> None:
    head = PointHead(torch.nn.Conv1d(5, 2, 1).double())
    counts, z, targets = (7, 4, 1), torch.randn(3, 5, 7).double(), torch.randn(3, 2, 7).double()
    for row, count in enumerate(counts):
        targets[row, :, count:] = math.nan
    there = ~targets.isnan().any(1)
    A = torch.cat([z.movedim(1, -1)[there], torch.ones(sum(counts), 1).double()], dim=1)
    C = targets.movedim(1, -1)[there]
    sums = head.normal_equations(z, targets)
    torch.testing.assert_close(sums.gram, A.T @ A)
    torch.testing.assert_close(sums.cross, A.T @ C)
    torch.testing.assert_close(sums.energy, C.square().sum())
    assert (sums.rows, sums.samples) == (sum(counts), 3)
    torch.testing.assert_close(head.rows(targets), C)
    parts = [head.normal_equations(z[r : r + 1, :, :n], targets[r : r + 1, :, :n]) for r, n in enumerate(counts)]
    torch.testing.assert_close(sums.gram, sum(parts[1:], parts[0]).gram)
    assert replace(sums, samples=0).rows == 12


@pytest.mark.parametrize("family", ["convnet", "unet", "fno", "autoencoder"])
def test_families_of_a_grid_are_refused_by_name(family: str) -> None:
    shapes = Shapes(inputs=1, outputs=1, grid=(16,), point_axis="node")
    with pytest.raises(ConfigError, match=rf"{family} needs a grid.*'node'.*transolver, gino or deeponet"):
        build(settings_of({"family": family}), shapes)
    assert settings_union() is not None


def test_a_family_of_one_mesh_is_refused_where_meshes_differ() -> None:
    with pytest.raises(ConfigError, match="mlp needs the same points in every simulation"):
        build(settings_of({"family": "mlp"}), SHAPES.model_copy(update={"ragged": True}))


def test_deeponet_on_points_says_what_it_takes() -> None:
    without = Shapes(inputs=2, outputs=1, grid=(16,), input_grid=(), point_axis="point")
    with pytest.raises(ConfigError, match="deeponet maps parameters and coordinates"):
        build(DeepONetSettings(), without)
    with pytest.raises(ConfigError, match="transolver for input fields"):
        build(DeepONetSettings(), SHAPES.model_copy(update={"parameters": (0,)}))


def test_gino_averages_over_the_neighbours_of_a_dense_search() -> None:
    """Grid points closer than the radius, and their weights, against the distances of all pairs."""
    network = network_of(FAMILIES[2])
    operator, places = network.features, samples()[:, 2:].transpose(1, 2)
    node, offset, weight = operator.neighbours(places, torch.ones(3, 30, dtype=torch.bool))
    line = torch.linspace(-2, 2, 6, dtype=torch.float64)
    grid, radius = torch.cartesian_prod(line, line), 2 * float(line[1] - line[0])
    distance = torch.cdist(places, grid) / radius
    dense = (1 - distance.square()).clamp_min(0).square()
    torch.testing.assert_close(torch.zeros_like(dense).scatter_add(2, node, weight), dense, rtol=1e-9, atol=1e-12)
    there = weight > 0
    torch.testing.assert_close((places[:, :, None] - grid[node])[there] / radius, offset[there], rtol=1e-9, atol=1e-12)


def test_gino_is_continuous_in_the_place_of_a_point() -> None:
    network, inputs = network_of(FAMILIES[2]), samples()
    along = inputs[:1].repeat(400, 1, 1)
    along[:, 2, 7] = torch.linspace(-1.5, 1.5, 400)
    path = network(along)[..., 7].detach()
    assert float((path[1:] - path[:-1]).abs().max()) < 0.1 * float(path.max() - path.min())


def test_gino_fits_its_latent_grid_to_the_points_of_the_training() -> None:
    settings, inputs = FAMILIES[2], samples()
    network = network_of(settings, SHAPES.model_copy(update={"ragged": True}))
    inputs[0, 2:, 20:] = math.nan
    batch = Batch(inputs, inputs[:, :2], torch.arange(3), torch.zeros(3, dtype=torch.int64), masked=True)
    prepare(settings, network, lambda: [batch])
    places = inputs[:, 2:].transpose(0, 1).flatten(1)
    torch.testing.assert_close(network.features.low, places.nan_to_num(nan=9).amin(1))
    torch.testing.assert_close(network.features.high, places.nan_to_num(nan=-9).amax(1))
    with pytest.raises(ConfigError, match="choose fno on a grid"):
        build(settings, Shapes(inputs=1, outputs=1, grid=(5, 4)))


def test_the_loss_and_the_solve_of_a_ragged_batch_are_those_of_its_points() -> None:
    shapes = SHAPES.model_copy(update={"ragged": True})
    network, inputs = network_of(FAMILIES[0], shapes), samples()
    targets = torch.randn(3, 2, 30, dtype=torch.float64)
    for row, count in enumerate((30, 21, 5)):
        inputs[row, 2:, count:] = math.nan
        targets[row, :, count:] = math.nan
    batch = Batch(inputs, targets, torch.arange(3), torch.zeros(3, dtype=torch.int64), masked=True)
    objective = Objective("mse", torch.zeros(2), "float32", 1, False, masked=True, position=2)
    there = ~targets.isnan()
    residuals = (network(inputs) - targets)[there]
    torch.testing.assert_close(objective.of_batch(network, batch), residuals.square().sum() / targets.numel())
    refit(network, [objective.whole(network, batch)], regularization=1e-3)
    z = network.features(inputs).movedim(1, -1)[there[:, 0]]
    A = torch.cat([z, torch.ones(len(z), 1).double()], dim=1)
    C = targets.movedim(1, -1)[there[:, 0]]
    normal = A.T @ A / 3 + 1e-3 * torch.eye(A.shape[1]).double()
    torch.testing.assert_close(network.head.matrix(), torch.linalg.solve(normal, A.T @ C / 3), rtol=1e-5, atol=1e-6)
