"""A dense head laid out as a field is the dense head of the flattened targets."""

import pytest
import torch
from torch import nn

from surrogate.errors import ConfigError, DataError
from surrogate.models import FieldHead, head_of
from surrogate.slimtik import Posterior, predictive_std, tikhonov


def parts(sizes: tuple[int, ...]) -> tuple[FieldHead, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    layer = nn.Linear(7, torch.Size(sizes).numel()).double()
    return FieldHead(layer, sizes), torch.randn(30, 7).double(), torch.randn(30, *sizes).double()


@pytest.mark.parametrize("sizes", [(3,), (2, 4), (1, 3, 5)], ids=str)
def test_it_is_the_dense_head_of_flattened_targets(sizes: tuple[int, ...]) -> None:
    head, z, targets = parts(sizes)
    flat = head_of(head.layer)
    torch.testing.assert_close(head(z).flatten(1), flat(z), rtol=0, atol=0)
    found, expected = head.normal_equations(z, targets), flat.normal_equations(z, targets.flatten(1))
    for name in ("gram", "cross", "energy"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0)
    assert (found.rows, found.samples) == (expected.rows, expected.samples) == (30, 30)


def test_standard_deviations_come_in_the_shape_of_the_targets() -> None:
    head, z, targets = parts((2, 4))
    sums = head.normal_equations(z, targets)
    posterior = Posterior.of(sums, head.rows(targets).square().sum(0))
    head.assign_(tikhonov(sums).weights)
    std = predictive_std(head, posterior, z)
    assert std.shape == (30, 2, 4)
    torch.testing.assert_close(std[4], posterior.std(head.design(z))[4].view(2, 4))


def test_shapes_that_do_not_fit_are_refused() -> None:
    head, z, targets = parts((2, 4))
    with pytest.raises(DataError, match=r"targets have shape \(30, 4, 2\), but the output of .* is \(30, 2, 4\)"):
        head.normal_equations(z, targets.movedim(1, 2))
    with pytest.raises(ConfigError, match="they have 6 numbers"):
        FieldHead(nn.Linear(7, 8), (2, 3))
