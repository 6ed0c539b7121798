"""Every family: shapes in 0- to 3-d, an exact linear head, no dead block or parameter, a round trip through files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from surrogate.batch import Batch
from surrogate.errors import ConfigError
from surrogate.models import (
    AntisymmetricSettings,
    AutoencoderSettings,
    ConvNetSettings,
    DeepONetSettings,
    FnoSettings,
    GinoSettings,
    HamiltonianSettings,
    MlpSettings,
    ModelSettings,
    PodSettings,
    ResNetSettings,
    Separable,
    Shapes,
    Signature,
    Surrogate,
    TransolverSettings,
    UNetSettings,
    build,
    families,
    prepare,
    register,
)
from surrogate.models.registry import is_fitted
from surrogate.normalize import Normalizer
from surrogate.optim.refit import refit
from surrogate.optim.slimtrain import SlimTrain

GRIDS = [(16,), (8, 16), (8, 8, 8)]
FIELDS = [
    AutoencoderSettings(width=4, latent=5, levels=2),
    AutoencoderSettings(width=4, latent=5, levels=1, batch_norm=True),
    AutoencoderSettings(width=2, latent=5, levels=3, batch_norm=True),
    ConvNetSettings(width=6, depth=2, coordinates=True),
    ConvNetSettings(width=6, depth=1, padding="circular", head_kernel=3),
    ConvNetSettings(width=6, depth=1, padding="replicate", head_kernel=5),
    ConvNetSettings(width=6, depth=1, dropout=0.2, symmetry="nodes"),
    UNetSettings(width=4, levels=2),
    UNetSettings(width=4, levels=1, blocks=2, padding="circular", coordinates=True),
    FnoSettings(width=4, depth=2, modes=3, projection=6),
    FnoSettings(width=4, depth=1, modes=2, projection=6, padding=3, coordinates=True),
    TransolverSettings(width=6, depth=2, heads=2, slices=4),
]
PARAMETERS = [
    MlpSettings(width=6),
    ResNetSettings(width=6, depth=3),
    AntisymmetricSettings(width=6, depth=3),
    HamiltonianSettings(width=6, depth=3),
    PodSettings(modes=3, width=6),
    DeepONetSettings(width=6, depth=2, products=5),
]
OPERATORS = ("deeponet",)  # parameters to fields only
MESHES = [GinoSettings(width=6, depth=2, modes=2, side=6, padding=2)]  # coordinates are the inputs


@dataclass(frozen=True)
class Case:
    """A network with what it maps."""

    settings: ModelSettings
    shapes: Shapes

    def __str__(self) -> str:
        options = [f"{key}={value}" for key, value in self.settings.model_dump(exclude_defaults=True).items()]
        grid = "x".join(map(str, self.shapes.grid)) or "numbers"
        return f"{self.settings.family} {' '.join(options)} to {grid}"

    def build(self, dtype: torch.dtype = torch.float32) -> Separable:
        torch.manual_seed(0)
        network = build(self.settings, self.shapes).to(dtype)
        prepare(self.settings, network, lambda: [self.batch(20, dtype)])
        return network

    def batch(self, samples: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(samples, self.shapes.inputs, *self.shapes.input_grid, generator=generator, dtype=dtype)
        targets = torch.randn(samples, self.shapes.outputs, *self.shapes.grid, generator=generator, dtype=dtype)
        position = torch.arange(samples)
        return Batch(inputs, targets, position, position)


def cases(inputs: int, outputs: int) -> Iterator[Case]:
    for settings in FIELDS:
        yield from (Case(settings, Shapes(inputs=inputs, outputs=outputs, grid=grid)) for grid in GRIDS)
    for settings in PARAMETERS:
        for grid in [(), *GRIDS] if settings.family not in OPERATORS else GRIDS:
            shapes = Shapes(inputs=inputs, outputs=outputs, grid=grid, input_grid=(7,) if grid else ())
            yield Case(settings, shapes)
    for settings in MESHES:
        positions = tuple(range(inputs))
        yield Case(settings, Shapes(inputs=inputs, outputs=outputs, grid=(16,), point_axis="s0", positions=positions))


ALL = pytest.mark.parametrize("case", list(cases(2, 3)), ids=str)


def test_every_family_is_tested() -> None:
    tested = {settings.family for settings in FIELDS + PARAMETERS + MESHES}
    assert tested == {name for name in families() if not is_fitted(name)}


@ALL
def test_shapes(case: Case) -> None:
    assert case.build()(case.batch(4).inputs).shape == (4, 3, *case.shapes.grid)


@ALL
def test_output_is_linear_in_the_head(case: Case) -> None:
    network, batch = case.build(torch.float64), case.batch(3, torch.float64)
    torch.manual_seed(2)  # of what training leaves out or turns
    z = network.features(batch.inputs)
    torch.manual_seed(2)
    rows = network.head.rows(network(batch.inputs))
    torch.testing.assert_close(network.head.design(z) @ network.head.matrix(), rows)


@ALL
def test_refit_is_the_dense_least_squares_solution(case: Case) -> None:
    """The separable law: with the features held, the head minimises the loss over all its weights."""
    network = case.build(torch.float64).eval()
    batch = case.batch(12 if len(case.shapes.grid) < 3 else 2, torch.float64)
    A = network.head.design(network.features(batch.inputs))
    C = network.head.rows(batch.targets)
    alpha = 1e-2
    stacked = torch.cat([A, (alpha * len(batch)) ** 0.5 * torch.eye(A.shape[1], dtype=A.dtype)])
    oracle = torch.linalg.lstsq(stacked, torch.cat([C, C.new_zeros(A.shape[1], C.shape[1])])).solution
    refit(network, [batch], regularization=alpha)
    torch.testing.assert_close(network.head.matrix(), oracle, rtol=1e-6, atol=1e-8)


@ALL
def test_the_residual_of_slimtrain_is_that_of_the_whole_output(case: Case) -> None:
    network, batch = case.build(torch.float64).eval(), case.batch(12, torch.float64)
    optimizer = SlimTrain(torch.optim.Adam(network.features.parameters()), network.head)
    with torch.no_grad():
        optimizer.solve(network.features(batch.inputs), batch.targets)
        error = (network(batch.inputs) - batch.targets).square().sum() / network.head.rows(batch.targets).numel()
    assert optimizer.diagnostics["residual"] == pytest.approx(float(error), rel=1e-8)


@ALL
def test_every_parameter_receives_gradient(case: Case) -> None:
    network, batch = case.build(), case.batch(8)
    (network(batch.inputs) - batch.targets).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@ALL
def test_every_block_changes_the_output(case: Case) -> None:
    """Perturbed by itself, every parameter, and every step of one that holds the steps of a flow, is seen."""
    network, inputs = case.build(torch.float64).eval(), case.batch(4, torch.float64).inputs
    with torch.no_grad():
        before = network(inputs)
        for name, parameter in network.named_parameters():
            for step in parameter if "biases" in name or "weights" in name else [parameter]:
                kept = step.clone()
                step += 0.1 * torch.randn_like(step)
                assert float((network(inputs) - before).abs().max()) > 1e-9, name
                step.copy_(kept)


@ALL
def test_a_surrogate_of_it_is_loaded_as_it_was_saved(case: Case, tmp_path: Path) -> None:
    shapes = case.shapes
    signature = Signature(
        inputs=tuple(f"a{index}" for index in range(shapes.inputs)),
        targets=tuple(f"b{index}" for index in range(shapes.outputs)),
        grid={f"s{axis}": side for axis, side in enumerate(shapes.grid)},
        input_grid={f"i{axis}": side for axis, side in enumerate(shapes.input_grid)},
        point_axis=shapes.point_axis,
        positions=tuple(f"a{index}" for index in shapes.positions),
    )
    normalizers = [Normalizer(torch.randn(n), torch.rand(n) + 1) for n in (shapes.inputs, shapes.outputs)]
    surrogate = Surrogate(case.settings, signature, *normalizers).eval()
    prepare(case.settings, surrogate.network, lambda: [case.batch(20)])
    surrogate.save(tmp_path)
    loaded = Surrogate.load(tmp_path)
    inputs = case.batch(3).inputs
    assert loaded.settings == case.settings
    assert torch.equal(loaded(inputs), surrogate(inputs))


def _periodic() -> list[ModelSettings]:
    return [
        ConvNetSettings(width=6, depth=2, padding="circular"),
        ConvNetSettings(width=6, depth=1, padding="circular", head_kernel=5),
        FnoSettings(width=6, depth=3, modes=4, projection=8),
        UNetSettings(width=6, levels=2, padding="circular"),
    ]


@pytest.mark.parametrize("settings", _periodic(), ids=lambda settings: settings.family)
@pytest.mark.parametrize("grid", [(24,), (12, 16), (12, 12, 12)], ids=str)
def test_a_periodic_network_commutes_with_shifts(settings: ModelSettings, grid: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = build(settings, Shapes(inputs=1, outputs=1, grid=grid)).double()
    x = torch.randn(2, 1, *grid, dtype=torch.float64)
    shift = 4  # a multiple of the factor by which the U-Net coarsens

    def moved(fields: Tensor) -> Tensor:
        return fields.roll(shift, -1)

    torch.testing.assert_close(network(moved(x)), moved(network(x)))


@pytest.mark.parametrize("settings", [AutoencoderSettings(), UNetSettings()], ids=lambda settings: settings.family)
@pytest.mark.parametrize("grid", [(10, 8), ()])
def test_a_grid_that_cannot_be_halved_is_refused(settings: ModelSettings, grid: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"model\.levels: 2 halvings need a grid divisible by 4"):
        build(settings, Shapes(inputs=1, outputs=1, grid=grid))


@pytest.mark.parametrize("settings", [ConvNetSettings(), FnoSettings(modes=1)], ids=lambda settings: settings.family)
def test_fields_of_four_axes_are_refused(settings: ModelSettings) -> None:
    with pytest.raises(ConfigError, match="1 to 3 space axes"):
        build(settings, Shapes(inputs=1, outputs=1, grid=(4, 4, 4, 4)))


@pytest.mark.parametrize("settings", FIELDS, ids=lambda settings: settings.family)
def test_families_of_fields_refuse_parameters(settings: ModelSettings) -> None:
    with pytest.raises(ConfigError, match=rf"the family {settings.family} maps fields to fields"):
        build(settings, Shapes(inputs=3, outputs=1, grid=(16,), input_grid=()))


@pytest.mark.parametrize(
    ("settings", "grid", "message"),
    [
        (FnoSettings(modes=8), (16, 16), "model.modes: wave number 8 on an axis of 16 points, which holds up to 7"),
        (FnoSettings(modes=(2, 2)), (16,), r"model.modes: \[2, 2\] are for 2 axes, the data have 1"),
        (DeepONetSettings(), (), "data.targets have no grid"),
        (PodSettings(modes=9), (4,), "model.modes: 9 modes of targets with 4 numbers; choose at most 4"),
    ],
    ids=["modes beyond the grid", "modes of other axes", "no grid", "too many modes"],
)
def test_what_a_family_cannot_map_is_refused(settings: ModelSettings, grid: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(settings, Shapes(inputs=1, outputs=1, grid=grid))


def test_a_name_is_registered_once() -> None:
    class Other(ModelSettings):
        family: str = "convnet"

    def builder(settings: Any, shapes: Shapes) -> Separable:
        raise NotImplementedError

    with pytest.raises(ConfigError, match="'convnet' is registered already"):
        register(Other)(builder)
    assert "convnet" in families()
