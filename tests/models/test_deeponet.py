"""A DeepONet is a sum of products of a function of the parameters and a function of the coordinates."""

import torch

from surrogate.models import DeepONetSettings, Shapes, build


def test_it_is_the_sum_of_products() -> None:
    torch.manual_seed(0)
    network = build(DeepONetSettings(width=8, products=3), Shapes(inputs=2, outputs=2, grid=(4, 5), input_grid=()))
    y = torch.randn(6, 2)
    branch, trunk = network.features.branch(y), network.features.trunk(network.features.coordinates)
    W, b = network.head.weight[:, :, 0, 0], network.head.bias
    expected = torch.einsum("bk,xk,mk->bmx", branch, trunk, W) + b[:, None]
    torch.testing.assert_close(network(y), expected.view(6, 2, 4, 5))


def test_fields_have_the_rank_of_the_products() -> None:
    torch.manual_seed(0)
    network = build(DeepONetSettings(width=16, products=3), Shapes(inputs=4, outputs=1, grid=(20,), input_grid=()))
    fields = (network.double()(torch.randn(50, 4).double()) - network.head.bias).flatten(1)
    assert torch.linalg.matrix_rank(fields, rtol=1e-10) == 3
