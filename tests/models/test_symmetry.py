"""A symmetrised network commutes with every reflection of the grid and every exchange of equal axes."""

import pytest
import torch
from pydantic import ValidationError

from surrogate.models import ConvNetSettings, FnoSettings, ModelSettings, Shapes, UNetSettings, build
from surrogate.models.layers.symmetry import Symmetrized

GROUPS = {(12,): 2, (8, 12): 4, (8, 8): 8, (8, 8, 4): 16, (4, 4, 4): 48}
SETTINGS = [
    ConvNetSettings(width=4, depth=1, coordinates=True, symmetry="cells"),
    ConvNetSettings(width=4, depth=1, dropout=0.5, symmetry="nodes"),
    UNetSettings(width=2, levels=1, symmetry="nodes"),
    FnoSettings(width=4, depth=2, modes=1, coordinates=True, symmetry="cells"),
]


@pytest.mark.parametrize("grid", GROUPS, ids=str)
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: f"{settings.family} {settings.symmetry}")
def test_it_is_equivariant(settings: ModelSettings, grid: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = build(settings, Shapes(inputs=1, outputs=1, grid=grid)).double().eval()
    features, x = network.features, torch.randn(2, 1, *grid, dtype=torch.float64)
    assert isinstance(features, Symmetrized)
    assert len(features.elements) == GROUPS[grid]
    found = network(x)
    for element in features.elements:
        torch.testing.assert_close(features.moved_back(features.moved(x, element), element), x, rtol=0, atol=0)
    for element in features.elements[1 :: 1 + len(features.elements) // 16]:
        torch.testing.assert_close(network(features.moved(x, element)), features.moved(found, element))


def test_reflections_about_a_node_keep_the_first_point() -> None:
    x = torch.arange(5.0)[None, None]
    assert Symmetrized(torch.nn.Identity(), (5,), nodes=True).moved(x, ((0,), (0,))).flatten().tolist() == [
        0,
        4,
        3,
        2,
        1,
    ]
    assert Symmetrized(torch.nn.Identity(), (5,), nodes=False).moved(x, ((0,), (0,))).flatten().tolist() == [
        4,
        3,
        2,
        1,
        0,
    ]


def test_training_takes_one_view_at_a_time_and_all_of_them_in_time() -> None:
    torch.manual_seed(0)
    features = build(SETTINGS[0], Shapes(inputs=1, outputs=1, grid=(6, 6))).double().features
    x = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    views = [features.moved_back(features.features(features.moved(x, e)), e) for e in features.elements]
    torch.testing.assert_close(torch.stack(views).mean(0), features.eval()(x))
    features.train()
    drawn = [features(x) for _ in range(80)]
    seen = {next(i for i, view in enumerate(views) if torch.allclose(view, draw)) for draw in drawn}
    assert seen == set(range(8))


def test_a_wide_head_is_refused() -> None:
    with pytest.raises(ValidationError, match="symmetry: nodes needs head_kernel: 1"):
        ConvNetSettings(symmetry="nodes", head_kernel=3)
