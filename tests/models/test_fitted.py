"""Fitted families equal scripts with scikit-learn and scipy, are saved without pickle, and refuse what does not fit."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.interpolate import RBFInterpolator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut
from torch import Tensor

from surrogate.batch import Batch
from surrogate.errors import ConfigError, DataError, NumericalError
from surrogate.files import write_manifest
from surrogate.models import (
    KernelRidgeSettings,
    LinearSettings,
    MeanSettings,
    ModelSettings,
    NearestSettings,
    PersistenceSettings,
    PodGpSettings,
    PodRbfSettings,
    Separable,
    Shapes,
    Signature,
    Surrogate,
    build,
    prepare,
)
from surrogate.models.export import export_surrogate
from surrogate.models.families.kernel_ridge import ALPHAS, LENGTHS, left_out_errors, median_distance
from surrogate.normalize import Normalizer

POINTS = 30
SHAPES = Shapes(inputs=2, outputs=1, grid=(POINTS,), input_grid=())


def waves(count: int, seed: int, noise: float = 0.0) -> tuple[Tensor, Tensor]:
    """Two parameters, and waves whose speed and amplitude they are: (n, 2) and (n, 1, POINTS)."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(count, 2)).astype(np.float32)
    x = np.linspace(0, 1, POINTS)
    u = (1 + 0.3 * y[:, 1:]) * np.sin(2 * np.pi * (x + 0.2 * y[:, :1])) + np.exp(-((y[:, :1] - 4 * x) ** 2))
    u = u + noise * rng.normal(size=u.shape)
    return torch.from_numpy(y), torch.from_numpy(u.astype(np.float32))[:, None]


def batches_of(y: Tensor, u: Tensor, group: int = 2) -> Callable[[], list[Batch]]:
    """Batches of 7 samples; every `group` successive samples are of one simulation."""
    rows = torch.arange(len(y)).split(7)
    return lambda: [Batch(y[part], u[part], part // group, torch.zeros(len(part))) for part in rows]


def fitted(settings: ModelSettings, count: int = 40, noise: float = 0.0) -> Separable:
    network = build(settings, SHAPES)
    prepare(settings, network, batches_of(*waves(count, seed=0, noise=noise)))
    return network.eval()


def dense(count: int = 40, modes: int = 6, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, POD coefficients, modes and mean by plain numpy."""
    y, u = (part.numpy().astype(np.float64) for part in waves(count, seed=0, noise=noise))
    u = u.reshape(count, -1)
    V = np.linalg.svd(u - u.mean(0), full_matrices=False)[2][:modes]
    return y, (u - u.mean(0)) @ V.T, V, u.mean(0)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("kernel", "shape"), [("gaussian", RBF), ("matern52", Matern)])
def test_pod_gp_is_scikit_learns(kernel: str, shape: type) -> None:
    network = fitted(PodGpSettings(modes=4, kernel=kernel, restarts=0), noise=0.05)
    y, c, V, mean = dense(modes=4, noise=0.05)
    test = waves(50, seed=1)[0].double()
    expected, variances = [], []
    for column in c.T:
        options = {"nu": 2.5} if shape is Matern else {}
        form = shape(np.ones(2) * 2**0.5, (1e-2, 1e4), **options)
        prior = ConstantKernel(1.0, (1e-4, 1e6)) * form + WhiteKernel(1e-6, (1e-12, 1.0))
        process = GaussianProcessRegressor(prior, normalize_y=True, random_state=0).fit(y, column)
        prediction, std = process.predict(test.numpy(), return_std=True)
        expected.append(prediction)
        variances.append(std**2)
    u = np.stack(expected, axis=1) @ V + mean
    train = waves(40, seed=0, noise=0.05)[1].double().flatten(1).numpy()
    rest = ((train - mean) - (train - mean) @ V.T @ V).var(0)
    std = np.sqrt(np.stack(variances, axis=1) @ V**2 + rest)
    assert np.abs(network(test).flatten(1).numpy() - u).max() < 1e-6 * np.abs(u).max()
    assert np.abs(network.std(test).flatten(1).numpy() / std - 1).max() < 1e-6


@pytest.mark.parametrize("kernel", ["linear", "thin_plate_spline", "cubic"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_pod_rbf_is_scipys(kernel: str, smoothing: float) -> None:
    network = fitted(PodRbfSettings(modes=6, kernel=kernel, smoothing=smoothing))
    y, c, V, mean = dense()
    test = waves(50, seed=1)[0].double()
    expected = RBFInterpolator(y, c, kernel=kernel, smoothing=smoothing, degree=1)(test.numpy()) @ V + mean
    assert np.abs(network(test).flatten(1).numpy() - expected).max() < 1e-6 * np.abs(expected).max()


def test_kernel_ridge_is_scikit_learns_with_its_search_over_simulations() -> None:
    network = fitted(KernelRidgeSettings(), count=12)
    y, u = (part.numpy().astype(np.float64).reshape(12, -1) for part in waves(12, seed=0))
    grid = {"gamma": [0.5 / (share * median_distance(y)) ** 2 for share in LENGTHS], "alpha": list(ALPHAS)}
    search = GridSearchCV(KernelRidge(kernel="rbf"), grid, cv=LeaveOneGroupOut(), scoring="neg_mean_squared_error")
    search.fit(y, u - u.mean(0), groups=np.arange(12) // 2)
    test = waves(50, seed=1)[0].double()
    expected = search.predict(test.numpy()) + u.mean(0)
    assert np.abs(network(test).flatten(1).numpy() - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("group", [1, 2, 5])
@pytest.mark.parametrize("outputs", [3, 90])
def test_errors_without_fitting_anew_are_those_of_fits_without_each_group(group: int, outputs: int) -> None:
    rng = np.random.default_rng(group)
    x, groups = rng.normal(size=(30, 2)), np.arange(30) // group
    c = np.sin(x @ rng.normal(size=(2, outputs)))
    errors = left_out_errors(x, c, groups, [0.5, 2.0], [1e-6, 1e-2])
    for (row, length), (column, alpha) in product(enumerate([0.5, 2.0]), enumerate([1e-6, 1e-2])):
        total = 0.0
        for one in np.unique(groups):
            model = KernelRidge(kernel="rbf", gamma=0.5 / length**2, alpha=alpha).fit(
                x[groups != one], c[groups != one]
            )
            total += ((c[groups == one] - model.predict(x[groups == one])) ** 2).sum()
        assert errors[row, column] == pytest.approx(total / c.size, rel=1e-5)


def test_linear_is_least_squares() -> None:
    network = fitted(LinearSettings(regularization=0.0))
    y, u = (part.numpy().astype(np.float64).reshape(40, -1) for part in waves(40, seed=0))
    test = waves(50, seed=1)[0].double()
    expected = LinearRegression().fit(y, u).predict(test.numpy())
    assert np.abs(network(test).flatten(1).numpy() - expected).max() < 1e-9


def test_a_linear_map_is_recovered() -> None:
    generator = torch.Generator().manual_seed(0)
    y, W = torch.randn(30, 5, generator=generator), torch.randn(5, 8, generator=generator)
    settings, shapes = LinearSettings(), Shapes(inputs=5, outputs=8, grid=())
    network = build(settings, shapes)
    prepare(settings, network, batches_of(y, y @ W + 3))
    new = torch.randn(10, 5, generator=generator)
    torch.testing.assert_close(network(new), new @ W + 3, rtol=1e-5, atol=1e-5)


def test_mean_and_nearest_say_what_they_promise() -> None:
    y, u = waves(40, seed=0)
    torch.testing.assert_close(fitted(MeanSettings())(y[:3]), u.mean(0).expand(3, 1, POINTS))
    torch.testing.assert_close(fitted(NearestSettings())(y + 1e-4), u)


def test_persistence_takes_the_latest_step_of_the_same_quantity() -> None:
    signature = Signature(inputs=("v[t-1]", "k", "u[t-1]", "u[t+0]"), targets=("u[t+1]", "u[t+2]"), grid={"x": 4})
    network = build(PersistenceSettings(), signature.shapes)
    inputs = torch.randn(3, 4, 4)
    torch.testing.assert_close(network(inputs), inputs[:, [3, 3]])
    with pytest.raises(ConfigError, match="every target must be an input at an earlier time"):
        build(PersistenceSettings(), SHAPES)


STEP = Signature(inputs=("u[t-1]", "k", "u[t+0]"), targets=("u[t+1]",), grid={"x": 4})


@pytest.mark.parametrize(
    "settings",
    [
        LinearSettings(increments=True),
        KernelRidgeSettings(increments=True, modes=3),
        PodRbfSettings(increments=True),
        PodGpSettings(increments=True, modes=2, restarts=0),
    ],
    ids=lambda settings: settings.family,
)
def test_increments_start_from_the_latest_state(settings: ModelSettings, tmp_path: Path) -> None:
    """Where every increment is one field, the prediction adds it, however different the states; saved and exported."""
    generator = torch.Generator().manual_seed(0)
    inputs, change = torch.randn(30, 3, 4, generator=generator), torch.tensor([1.0, 2.0, 0.0, -1.0])
    surrogate = Surrogate(settings, STEP, Normalizer.identity(3), Normalizer.identity(1))
    prepare(settings, surrogate.network, batches_of(inputs, inputs[:, 2:] + change))
    surrogate.eval().save(tmp_path)
    new = 5 * torch.randn(9, 3, 4, generator=generator)
    predicted = Surrogate.load(tmp_path)(new)
    torch.testing.assert_close(predicted, new[:, 2:] + change, rtol=0, atol=2e-2)
    program = torch.export.load(export_surrogate(Surrogate.load(tmp_path), tmp_path / "model.pt2")).module()
    torch.testing.assert_close(program(new), predicted)
    with pytest.raises(ConfigError, match=r"model\.increments is for time steppers"):
        build(settings, SHAPES)


def test_a_penalty_on_increments_pulls_towards_persistence() -> None:
    inputs = torch.randn(30, 3, 4, generator=torch.Generator().manual_seed(0))
    for increments, expected in ((True, inputs[:, 2:]), (False, torch.zeros(30, 1, 4))):
        settings = LinearSettings(increments=increments, regularization=1e9)
        network = build(settings, STEP.shapes)
        prepare(settings, network, batches_of(inputs, 0.9 * inputs[:, 2:]))
        torch.testing.assert_close(network(inputs), expected, rtol=0, atol=1e-5)


def test_samples_beyond_the_limit_are_thinned_evenly_and_memory_is_bounded() -> None:
    network = fitted(NearestSettings(samples=12), count=40)
    y, _ = waves(40, seed=0)
    torch.testing.assert_close(network.get_parameter("inputs"), y[::4].double())  # 40, 20, 10
    with pytest.raises(ConfigError, match=r"model\.memory_mb: .* raise it, or lower model\.samples"):
        fitted(KernelRidgeSettings(memory_mb=1), count=500)
    with pytest.raises(ConfigError, match=r"model\.memory_mb: to fit a linear map from 3000 to 3000"):
        build(LinearSettings(memory_mb=100), Shapes(inputs=1, outputs=1, grid=(3000,)))
    with pytest.raises(DataError, match="at least 2 training samples"):
        fitted(KernelRidgeSettings(), count=1)


def test_equal_inputs_are_refused_by_interpolation_and_smoothed_otherwise() -> None:
    y, u = waves(20, seed=0)
    twice = batches_of(torch.cat([y, y[:1]]), torch.cat([u, u[:1]]))
    settings = PodRbfSettings()
    with pytest.raises(NumericalError, match="two training samples have the same inputs"):
        prepare(settings, build(settings, SHAPES), twice)
    settings = PodRbfSettings(smoothing=0.1)
    network = build(settings, SHAPES)
    prepare(settings, network, twice)
    assert torch.isfinite(network(y)).all()


def test_fields_with_a_conserved_mean_are_no_obstacle_for_interpolation() -> None:
    """Inputs in a subspace: the polynomial is taken along the directions that vary."""
    _, u = waves(60, seed=0)
    u = u - u.mean(2, keepdim=True)
    settings, shapes = PodRbfSettings(input_modes=None), Shapes(inputs=1, outputs=1, grid=(POINTS,))
    network = build(settings, shapes)
    prepare(settings, network, batches_of(u, 2 * u))
    torch.testing.assert_close(network(u), 2 * u, rtol=0, atol=1e-3)


EVERY = [
    PodGpSettings(modes=4, restarts=0),
    PodRbfSettings(input_modes=2),
    KernelRidgeSettings(modes=5, length=2.0, alpha=1e-6),
    KernelRidgeSettings(length=2.0, alpha=1e-6),
    LinearSettings(),
    NearestSettings(),
    MeanSettings(),
]


@pytest.mark.parametrize("settings", EVERY, ids=lambda settings: settings.family)
@pytest.mark.parametrize("place", [0, 2])
def test_a_constant_channel_changes_no_prediction(settings: ModelSettings, place: int) -> None:
    """Normalised it is zero, whatever it becomes later; twelve: a Gaussian process has a length for each of few."""
    y, u = waves(30, seed=0)
    new = waves(9, seed=1)[0]

    def prediction(channels: int, value: float) -> Tensor:
        def with_channels(part: Tensor, constant: float) -> Tensor:
            return torch.cat([part[:, :place], torch.full((len(part), channels), constant), part[:, place:]], 1)

        network = build(settings, Shapes(inputs=2 + channels, outputs=1, grid=(POINTS,), input_grid=()))
        prepare(settings, network, batches_of(with_channels(y, 0.0), u))
        return network(with_channels(new, value))

    for value in (0.0, 1.0):
        torch.testing.assert_close(prediction(12, value), prediction(0, 0.0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("settings", EVERY, ids=lambda settings: settings.family)
def test_a_surrogate_is_saved_loaded_and_exported(settings: ModelSettings, tmp_path: Path) -> None:
    signature = Signature(inputs=("a", "b"), targets=("u",), grid={"x": POINTS}, input_grid={})
    y, u = waves(30, seed=0)
    normalizers = (Normalizer(y.mean(0), y.std(0)), Normalizer(u.mean((0, 2)), u.std((0, 2))))
    surrogate = Surrogate(settings, signature, *normalizers)
    prepare(settings, surrogate.network, lambda: [surrogate.normalized(batch) for batch in batches_of(y, u)()])
    surrogate.save(tmp_path)
    loaded = Surrogate.load(tmp_path)
    assert torch.equal(loaded(y), surrogate(y))
    assert loaded.has_std == (settings.family == "pod_gp")
    if loaded.has_std:
        assert torch.equal(loaded.predict_with_std(y)[1], surrogate.predict_with_std(y)[1])
    program = torch.export.load(export_surrogate(loaded, tmp_path / "model.pt2")).module()
    torch.testing.assert_close(program(y[:5]), surrogate(y[:5]))


def test_arrays_that_do_not_fit_one_another_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    signature = Signature(inputs=("a", "b"), targets=("u",), grid={"x": POINTS}, input_grid={})
    surrogate = Surrogate(NearestSettings(), signature, Normalizer.identity(2), Normalizer.identity(1))
    prepare(surrogate.settings, surrogate.network, batches_of(*waves(10, seed=0)))
    surrogate.save(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["network.targets"] = tensors["network.targets"][:5]
    save_file(tensors, tmp_path / "model.safetensors")
    write_manifest(tmp_path)
    with pytest.raises(ConfigError, match=r"network\.targets has shape \(5, 30\), the model needs \(10, 30\)"):
        Surrogate.load(tmp_path)


@pytest.mark.parametrize("modes", [4, 15])
def test_pod_rbf_agrees_with_ezyrb(modes: int) -> None:
    """EZyRB takes modes about zero, so it gets fields less their mean."""
    ezyrb = pytest.importorskip("ezyrb")
    (y, u), (z, _) = waves(20, 0), waves(9, 1)
    settings = PodRbfSettings(modes=modes)
    network = build(settings, SHAPES)
    prepare(settings, network, batches_of(y, u))
    mean = u[:, 0].double().mean(0).numpy()
    database = ezyrb.Database(y.double().numpy(), u[:, 0].double().numpy() - mean)
    theirs = ezyrb.ReducedOrderModel(database, ezyrb.POD("svd", rank=modes), ezyrb.RBF(kernel="thin_plate_spline"))
    predicted = theirs.fit().predict(z.double().numpy())
    predicted = getattr(predicted, "snapshots_matrix", predicted)
    np.testing.assert_allclose(network(z)[:, 0].numpy(), predicted + mean, rtol=0, atol=1e-6)
