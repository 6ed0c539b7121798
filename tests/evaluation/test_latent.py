"""Latent spaces: the components of a known plane, and codes from the layer that narrows."""

import numpy as np
import pytest
import torch
from torch import nn

from surrogate.batch import Batch
from surrogate.evaluation import Labels, latent_space, principal_components
from surrogate.evaluation.latent import bottleneck


def test_components_are_the_directions_of_largest_variance() -> None:
    generator = np.random.default_rng(0)
    basis = np.linalg.qr(generator.normal(size=(7, 7)))[0]
    codes = (generator.normal(size=(4000, 7)) * [5, 3, 1, 0, 0, 0, 0]) @ basis + 10
    scores, shares = principal_components(codes)
    np.testing.assert_allclose(shares, [25 / 35, 9 / 35], atol=0.02)
    np.testing.assert_allclose(scores.std(0), [5, 3], rtol=0.04)
    np.testing.assert_allclose(scores.mean(0), 0, atol=1e-9)
    assert abs(np.corrcoef(scores.T)[0, 1]) < 1e-9
    again, _ = principal_components(codes[::-1])
    np.testing.assert_allclose(again[::-1], scores, atol=1e-8)


def test_codes_that_do_not_vary_explain_nothing() -> None:
    scores, shares = principal_components(np.ones((5, 3)))
    assert np.isnan(shares).all()
    assert (scores == 0).all()
    assert principal_components(np.arange(4.0)[:, None])[0].shape == (4, 1)


def test_codes_are_those_of_the_narrowest_layer() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 3), nn.Linear(3, 6), nn.Unflatten(1, (1, 6)))
    layer = bottleneck(network)
    assert layer is network[1]
    inputs = torch.randn(8, 1, 6)
    batches = [
        Batch(
            inputs[i : i + 3],
            inputs[i : i + 3],
            torch.arange(i, min(i + 3, 8)),
            torch.zeros(min(3, 8 - i), dtype=torch.long),
        )
        for i in (0, 3, 6)
    ]
    found = latent_space(network, layer, batches, Labels(("u",)))
    with torch.no_grad():
        expected, shares = principal_components(layer(inputs[:, 0]).double().numpy())
    np.testing.assert_allclose(found["latent"][:, 0], expected, atol=1e-6)
    np.testing.assert_allclose(found["explained"], shares, atol=1e-6)
    assert found.attrs["latent_size"] == 3
    assert not layer._forward_hooks
    assert bottleneck(nn.Sequential(nn.Linear(3, 5), nn.Conv1d(1, 1, 3))) is None


def test_a_network_that_fails_keeps_no_hook() -> None:
    network = nn.Sequential(nn.Linear(6, 3), nn.Linear(4, 6))
    batch = Batch(torch.zeros(1, 6), torch.zeros(1, 6), torch.zeros(1), torch.zeros(1))
    with pytest.raises(RuntimeError):
        latent_space(network, network[0], [batch], Labels(("u",)))
    assert not network[0]._forward_hooks
