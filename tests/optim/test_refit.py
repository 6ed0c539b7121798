"""Refit of the head: the exact solution of the whole data in evaluation mode, in one pass and over ranks."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from surrogate.batch import Batch
from surrogate.errors import DataError, NumericalError
from surrogate.models.heads import head_of
from surrogate.models.separable import Separable
from surrogate.optim.refit import gather, gather_groups, refit
from surrogate.optim.slimtrain import SlimTrain
from surrogate.slimtik import NormalEquations, Posterior, tikhonov


def network(seed: int = 0, *, normalised: bool = False) -> Separable:
    torch.manual_seed(seed)
    mode_dependent = nn.BatchNorm1d(8) if normalised else nn.Dropout(0.2)
    return Separable(nn.Sequential(nn.Linear(2, 8), mode_dependent, nn.Tanh()), head_of(nn.Linear(8, 2)))


def data(count: int = 60) -> tuple[Tensor, Tensor]:
    x = 2 * torch.rand(count, 2, generator=torch.Generator().manual_seed(5)) - 1
    return x, torch.stack([torch.sin(4 * x[:, 0]) * x[:, 1], x.square().sum(1)], 1)


def batches(x: Tensor, y: Tensor, size: int = 7) -> Iterator[Batch]:
    for first in range(0, len(x), size):
        part = slice(first, first + size)
        position = torch.zeros(len(x[part]), dtype=torch.int64)
        yield Batch(x[part], y[part], position, position)


@torch.no_grad()
def objective(model: Separable, x: Tensor, y: Tensor, alpha: float) -> float:
    W = model.head.matrix()
    return float((model.eval()(x) - y).square().sum() / len(x) + alpha * W.square().sum())


def slimtrained(model: Separable, x: Tensor, y: Tensor, *, epochs: int = 15) -> Separable:
    optimizer = SlimTrain(torch.optim.Adam(model.features.parameters(), lr=3e-2), model.head)
    model.train()
    for _ in range(epochs):
        for batch in batches(x, y, 10):
            z = model.features(batch.inputs)
            optimizer.solve(z.detach(), batch.targets)
            loss = nn.functional.mse_loss(model.head(z), batch.targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def test_refit_is_least_squares_on_the_whole_design() -> None:
    model, (x, y) = network().double(), data()
    x, y = x.double(), y.double()
    with torch.no_grad():
        A = model.head.design(model.eval().features(x))
    fit = refit(model, batches(x, y), regularization=0.0)
    expected = torch.linalg.lstsq(A, y).solution
    torch.testing.assert_close(model.head.matrix(), expected)
    torch.testing.assert_close(fit.weights, expected)
    assert fit.residual == pytest.approx(float((A @ expected - y).square().mean()))


def test_size_and_order_of_batches_do_not_matter() -> None:
    x, y = (values.double() for values in data())  # in single precision another batch may round features otherwise
    whole, parts = network().double(), network().double()
    one, other = refit(whole, batches(x, y, 60)), refit(parts, batches(x.flip(0), y.flip(0), 4))
    torch.testing.assert_close(one.weights, other.weights, rtol=1e-7, atol=1e-9)


def test_sums_of_two_halves_give_the_weights_of_the_whole() -> None:
    model, (x, y) = network(), data()
    (first, _), (second, _) = gather(model, batches(x[:25], y[:25])), gather(model, batches(x[25:], y[25:]))
    fit = refit(model, batches(x, y))
    torch.testing.assert_close(tikhonov(first + second).weights, fit.weights, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_regularised_objective_never_rises(seed: int, normalised: bool) -> None:
    model, (x, y) = network(seed, normalised=normalised), data()
    before = slimtrained(model, x, y, epochs=2).head.matrix()
    fit = refit(model, batches(x, y))
    after = objective(model, x, y, fit.regularization)
    model.head.assign_(before)
    assert after <= objective(model, x, y, fit.regularization)


@pytest.mark.parametrize("seed", range(3))
def test_refit_repairs_what_batch_norm_does_to_the_trained_weights(seed: int) -> None:
    model, (x, y) = slimtrained(network(seed, normalised=True), *data()), data()
    before = objective(model, x, y, 0.0)
    refit(model, batches(x, y))
    assert objective(model, x, y, 0.0) < 0.8 * before


def test_training_flags_and_running_statistics_are_left_as_found() -> None:
    model, (x, y) = network(normalised=True), data()
    model.train()
    model.features[1].eval()
    buffers = [buffer.clone() for buffer in model.features.buffers()]
    flags = [module.training for module in model.modules()]
    refit(model, batches(x, y))
    assert [module.training for module in model.modules()] == flags
    assert all(map(torch.equal, model.features.buffers(), buffers))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_only_the_head_changes_and_in_place() -> None:
    model, (x, y) = network(), data()
    features, weight = [p.detach().clone() for p in model.features.parameters()], model.head.weight
    before = weight.detach().clone()
    refit(model, batches(x, y))
    assert all(map(torch.equal, model.features.parameters(), features))
    assert model.head.weight is weight
    assert not torch.equal(weight, before)


def test_convolutional_heads_are_refitted() -> None:
    torch.manual_seed(0)
    model = Separable(nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Tanh()), head_of(nn.Conv2d(3, 2, 3, padding=1)))
    x = torch.randn(5, 1, 6, 6)
    truth = Separable(model.features, head_of(nn.Conv2d(3, 2, 3, padding=1)))
    refit(model, batches(x, truth(x).detach(), 2))
    torch.testing.assert_close(model.head.matrix(), truth.head.matrix(), rtol=1e-3, atol=1e-4)


def test_one_pass_serves_weights_and_posterior() -> None:
    model, (x, y) = network(), data()
    sums, energies = gather(model, batches(x, y))
    torch.testing.assert_close(energies, y.double().square().sum(0))
    assert Posterior.of(sums, energies).noise.shape == (2,)


@pytest.mark.parametrize("culprit", ["inputs", "targets"])
def test_data_that_are_not_finite_change_nothing(culprit: str) -> None:
    model, (x, y) = network(), data()
    (x if culprit == "inputs" else y)[30, 0] = math.nan
    before = model.head.matrix()
    model.train()
    with pytest.raises(NumericalError, match="features or targets of batch 4 are not finite, weights left as they are"):
        refit(model, batches(x, y))
    assert torch.equal(model.head.matrix(), before)
    assert model.features[1].training


def test_no_data_and_data_that_do_not_fit_change_nothing() -> None:
    model, (x, y) = network(), data()
    before = model.head.matrix()
    with pytest.raises(NumericalError, match="refit: there are no samples"):
        refit(model, [])
    with pytest.raises(DataError, match="targets have shape"):
        refit(model, batches(x, y[:, :1]))
    assert torch.equal(model.head.matrix(), before)


def test_a_group_of_one_rank_changes_nothing(tmp_path: Path) -> None:
    x, y = data()
    alone, grouped = network(), network()
    fit = refit(alone, batches(x, y))
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        assert torch.equal(refit(grouped, batches(x, y), process_group=distributed.group.WORLD).weights, fit.weights)
    finally:
        distributed.destroy_process_group()
    assert torch.equal(alone.head.matrix(), grouped.head.matrix())


def refit_on_rank(rank: int, folder: str) -> None:
    """Rank 0 holds 25 samples, rank 1 the other 35."""
    store = distributed.FileStore(f"{folder}/store", 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    torch.set_num_threads(1)
    x, y = data()
    part = slice(0, 25) if rank == 0 else slice(25, None)
    model = network()
    sums, energies = gather(model, batches(x[part], y[part]))
    refit(model, batches(x[part], y[part]))
    torch.save({"weights": model.head.matrix(), "gram": sums.gram, "energies": energies}, f"{folder}/{rank}.pt")
    x[-1, 0] = math.nan  # of rank 1 alone
    try:
        refit(model, batches(x[part], y[part]))
    except NumericalError as error:
        Path(f"{folder}/{rank}.txt").write_text(str(error))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_agree_with_one_process_and_fail_together(tmp_path: Path) -> None:
    multiprocessing.start_processes(refit_on_rank, (str(tmp_path),), nprocs=2, start_method="forkserver")
    model, (x, y) = network(), data()
    sums, energies = gather(model, batches(x, y))
    refit(model, batches(x, y))
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found["gram"], sums.gram, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found["energies"], energies, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found["weights"], model.head.matrix(), rtol=1e-6, atol=1e-6)
    assert "a batch of another rank are not finite" in (tmp_path / "0.txt").read_text()
    assert "batch 4 are not finite" in (tmp_path / "1.txt").read_text()


@pytest.mark.parametrize("convolution", [False, True])
def test_groups_hold_whole_simulations_and_add_up_to_all(convolution: bool) -> None:
    torch.manual_seed(0)
    if convolution:
        model = Separable(nn.Conv1d(1, 4, 3, padding=1), head_of(nn.ConvTranspose1d(4, 1, 4, stride=2, padding=1)))
        x, y = torch.randn(20, 1, 6), torch.randn(20, 1, 12)
    else:
        model, (x, y) = network(), data(20)
    model = model.double()
    x, y, simulation = x.double(), y.double(), torch.randint(0, 5, (20,))
    parts = [Batch(x[i : i + 7], y[i : i + 7], simulation[i : i + 7], torch.zeros(7)) for i in (0, 7, 14)]
    groups, energies = gather_groups(model, parts, 3)
    whole, expected_energies = gather(model, parts)
    torch.testing.assert_close(energies, expected_energies)
    torch.testing.assert_close(sum(group.gram for group in groups), whole.gram)
    with torch.no_grad():
        for number, group in enumerate(groups):
            own = simulation % 3 == number
            A = model.head.design(model.eval().features(x[own]))
            expected = NormalEquations.of(A, model.head.rows(y[own]), int(own.sum()))
            torch.testing.assert_close(group.gram, expected.gram)
            torch.testing.assert_close(group.cross, expected.cross)
            assert (group.rows, group.samples) == (expected.rows, expected.samples)
