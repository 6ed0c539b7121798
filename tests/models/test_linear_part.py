"""The linear part: the exact solve contains ridge regression, training starts from it, and files keep it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from surrogate.batch import Batch
from surrogate.config import Source
from surrogate.errors import ConfigError, DataError
from surrogate.experiment.settings import read_experiment
from surrogate.models import MlpSettings, PodSettings, Separable, Shapes, Signature, Surrogate, build, ensemble, prepare
from surrogate.models.export import export_surrogate
from surrogate.models.layers.linear_part import LinearPart, with_linear_part
from surrogate.normalize import Normalizer
from surrogate.optim.refit import refit
from surrogate.optim.slimtrain import SlimTrain
from surrogate.slimtik import NormalEquations, tikhonov

FAMILIES = [MlpSettings(width=6, depth=1, linear=5), PodSettings(modes=4, width=6, depth=1, linear=5)]
SHAPES = Shapes(inputs=2, outputs=1, grid=(3, 4), input_grid=(7,))


def batch_of(samples: int = 40, rank: int = 14, curved: float = 0.1) -> Batch:
    """Inputs with modes of falling energy; targets that are linear in them, and something more."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(samples, rank)) * 0.7 ** np.arange(rank) @ rng.normal(size=(rank, 14)) + 1.0
    u = y @ rng.normal(size=(14, 12)) + 2.0 + curved * np.sin(y[:, :12])
    inputs, targets = torch.from_numpy(y).float().view(-1, 2, 7), torch.from_numpy(u).float().view(-1, 1, 3, 4)
    return Batch(inputs, targets, torch.arange(samples), torch.zeros(samples, dtype=torch.int64))


def prepared(settings: MlpSettings | PodSettings, batch: Batch) -> Separable:
    torch.manual_seed(0)
    network = build(settings, SHAPES)
    prepare(settings, network, lambda: [batch])
    return network


def without_learned_features(network: Separable) -> Separable:
    """Let the learned features be zero for every input."""
    for layer in network.features.modules():
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    return network


def coefficients(batch: Batch, rank: int) -> np.ndarray:
    """Coefficients of the leading modes, the first with variance 1, by the dense singular value decomposition."""
    y = batch.inputs.flatten(1).double().numpy()
    U, S, _ = np.linalg.svd(y - y.mean(0), full_matrices=False)
    return U[:, :rank] * S[:rank] / S[0] * len(y) ** 0.5


@pytest.mark.parametrize("settings", FAMILIES, ids=lambda settings: settings.family)
def test_without_learned_features_the_exact_solve_is_ridge_regression(settings: MlpSettings | PodSettings) -> None:
    batch, alpha = batch_of(), 1e-2
    network = without_learned_features(prepared(settings, batch))
    refit(network, [batch], regularization=alpha)
    A = np.column_stack([coefficients(batch, settings.linear), np.ones(len(batch))])
    u = batch.targets.flatten(1).double().numpy()
    if settings.family == "pod":
        mean, modes = network.head.mean.double().numpy(), network.head.modes.double().numpy()
        ridge = Ridge(alpha * len(A), fit_intercept=False).fit(A, (u - mean) @ modes)
        expected = ridge.predict(A) @ modes.T + mean
    else:
        expected = Ridge(alpha * len(A), fit_intercept=False).fit(A, u).predict(A)
    with torch.no_grad():
        np.testing.assert_allclose(network(batch.inputs).flatten(1).numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", FAMILIES, ids=lambda settings: settings.family)
def test_training_starts_at_ridge_regression_with_generalised_cross_validation(
    settings: MlpSettings | PodSettings,
) -> None:
    batch = batch_of()
    network = prepared(settings, batch)
    x = coefficients(batch, settings.linear)
    A = torch.from_numpy(np.column_stack([x, np.ones(len(x))]))
    C = network.head.rows(batch.targets).double()
    sums = NormalEquations.of(A, C, len(A))
    if settings.family == "pod":
        energy = (batch.targets.flatten(1) - network.head.mean).double().square().sum()
        sums = NormalEquations(sums.packed, sums.cross, energy, sums.rows, sums.samples)
    expected = A @ tikhonov(sums).weights
    with torch.no_grad():
        found = network.head.layer(network.features(batch.inputs)).double()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert not network.head.matrix()[:6].any()  # nothing of the learned features yet


@pytest.mark.parametrize("settings", FAMILIES, ids=lambda settings: settings.family)
def test_linear_data_are_met_on_samples_not_seen(settings: MlpSettings | PodSettings) -> None:
    """Five directions in the inputs, a linear map to four directions in the targets: both families are exact."""
    rng = np.random.default_rng(1)
    y = rng.normal(size=(60, 5)) @ rng.normal(size=(5, 14)) + 1.0
    u = y @ rng.normal(size=(14, 4)) @ rng.normal(size=(4, 12)) - 2.0
    inputs, targets = torch.from_numpy(y).float().view(-1, 2, 7), torch.from_numpy(u).float().view(-1, 1, 3, 4)
    batch = Batch(inputs[:40], targets[:40], torch.arange(40), torch.zeros(40, dtype=torch.int64))
    network = prepared(settings, batch)
    with torch.no_grad():
        error = (network(inputs[40:]) - targets[40:]).norm() / targets[40:].norm()
    assert float(error) < 1e-5


def test_slimtrain_stays_at_the_linear_map_where_it_is_exact() -> None:
    settings, batch = FAMILIES[0], batch_of(rank=5, curved=0.0)
    network = prepared(settings, batch)
    optimizer = SlimTrain(torch.optim.Adam(network.features.parameters(), 1e-2), network.head)
    for part in torch.arange(40).split(8):
        z = network.features(batch.inputs[part])
        optimizer.solve(z.detach(), batch.targets[part])
        loss = (network.head(z) - batch.targets[part]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        error = (network(batch.inputs) - batch.targets).norm() / batch.targets.norm()
    assert float(error) < 1e-5


def test_with_all_modes_it_starts_at_ridge_regression_on_the_inputs() -> None:
    """Fewer samples than numbers in an input, and a penalty that is the same for every direction of the inputs."""
    batch = batch_of(samples=12)
    settings = MlpSettings(width=6, depth=1, linear=11)
    network = without_learned_features(prepared(settings, batch))
    part = network.features
    assert isinstance(part, LinearPart)
    y, u = batch.inputs.flatten(1).double().numpy(), batch.targets.flatten(1).double().numpy()
    largest, alpha = np.linalg.svd(y - y.mean(0))[1][0] / 12**0.5, 0.1
    refit(
        network,
        [Batch(batch.inputs, batch.targets - batch.targets.mean(0), batch.sample, batch.time)],
        regularization=alpha,
    )
    expected = Ridge(alpha * 12 * largest**2).fit(y, u - u.mean(0)).predict(y)
    with torch.no_grad():
        np.testing.assert_allclose(network(batch.inputs).flatten(1).numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.1, 1000.1])
def test_inputs_that_are_all_alike_are_no_features(value: float) -> None:
    batch = batch_of()
    constant = Batch(torch.full_like(batch.inputs, value), batch.targets, batch.sample, batch.time)
    network = prepared(FAMILIES[0], constant)
    with torch.no_grad():
        assert not network.features(constant.inputs + 1e-6)[:, 6:].any()
        torch.testing.assert_close(network(constant.inputs)[0], batch.targets.mean(0), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("settings", FAMILIES, ids=lambda settings: settings.family)
def test_a_surrogate_with_a_linear_part_is_saved_exported_and_averaged(
    settings: MlpSettings | PodSettings, tmp_path: Path
) -> None:
    batch = batch_of()
    signature = Signature(inputs=("a", "b"), targets=("u",), grid={"y": 3, "x": 4}, input_grid={"sensor": 7})
    sides = Normalizer(torch.tensor([1.0, 2.0]), torch.ones(2)), Normalizer(torch.zeros(1), torch.ones(1))
    surrogates = []
    for seed in range(2):
        torch.manual_seed(seed)
        surrogates.append(Surrogate(settings, signature, *sides))
        prepare(settings, surrogates[-1].network, lambda: [surrogates[-1].normalized(batch)])
        refit(surrogates[-1].network, [surrogates[-1].normalized(batch)])

    def predictions(surrogate: Surrogate) -> Tensor:
        with torch.no_grad():
            return surrogate.eval()(batch.inputs)

    surrogates[0].save(tmp_path)
    assert torch.equal(predictions(Surrogate.load(tmp_path)), predictions(surrogates[0]))
    program = torch.export.load(export_surrogate(surrogates[0], tmp_path / "model.pt2")).module()
    torch.testing.assert_close(program(batch.inputs), predictions(surrogates[0]))
    mean = Surrogate.mean_of(surrogates)
    expected = (predictions(surrogates[0]) + predictions(surrogates[1])) / 2
    torch.testing.assert_close(predictions(mean), expected, rtol=1e-4, atol=1e-4)
    folder = tmp_path / "mean"
    folder.mkdir()
    mean.save(folder)
    assert torch.equal(predictions(Surrogate.load(folder)), predictions(mean))
    assert ensemble([surrogate.network for surrogate in surrogates]).head.channels == 22


def test_more_modes_than_there_are() -> None:
    with pytest.raises(ConfigError, match=r"model\.linear: 15 modes of inputs with 14 numbers; choose at most 14"):
        build(MlpSettings(linear=15), SHAPES)
    with pytest.raises(DataError, match=r"model\.linear: 5 modes need more than 5 training samples"):
        prepared(FAMILIES[0], batch_of(samples=5))


def test_families_without_a_linear_part_refuse_the_setting() -> None:
    tree = {"name": "x", "data": {"inputs": ["u"], "targets": ["u"]}, "model": {"family": "fno", "linear": 4}}
    with pytest.raises(ConfigError, match="linear"):
        read_experiment(Source("x.yaml", tree, {}))


def test_none_changes_nothing() -> None:
    features = nn.Flatten()
    assert with_linear_part(features, 0, SHAPES) is features
