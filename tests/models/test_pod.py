"""Streamed modes are those of the dense singular value decomposition; the POD head solves for their coefficients."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from torch import Tensor

from surrogate.batch import Batch
from surrogate.errors import DataError
from surrogate.models import PodSettings, Separable, Shapes, build, prepare
from surrogate.models.families.pod import ModesHead
from surrogate.models.layers.modes import leading_modes
from surrogate.optim.refit import gather, refit
from surrogate.slimtik import Posterior


def snapshots(count: int = 60, size: int = 40, decay: float = 0.7) -> Tensor:
    """Snapshots about a mean that is not zero, with energies that fall at a rate."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(n, 30)))[0] for n in (count, size))
    return torch.from_numpy(left * decay ** np.arange(30) @ right.T + rng.normal(size=size)).float()


def parts(X: Tensor, size: int) -> Callable[[], Iterable[Tensor]]:
    return lambda: X.split(size)


@pytest.mark.parametrize("passes", [1, 2])
def test_modes_are_those_of_the_dense_decomposition(passes: int) -> None:
    torch.manual_seed(0)
    X = snapshots().double()
    modes = leading_modes(parts(X, 7), 40, 5, passes=passes)
    _, values, vectors = torch.linalg.svd(X - X.mean(0), full_matrices=False)
    torch.testing.assert_close(modes.mean, X.mean(0))
    torch.testing.assert_close(modes.energies, values[:5].square() / len(X), rtol=1e-5, atol=0)
    torch.testing.assert_close(modes.vectors.T @ modes.vectors, torch.eye(5, dtype=torch.float64))
    overlap = torch.linalg.svdvals(vectors[:5] @ modes.vectors)  # cosines of the angles between the spaces
    assert float(overlap.min()) > 1 - 1e-6


def test_no_other_space_leaves_less_out() -> None:
    """Eckart and Young: the error of the projection is the energy of the modes left out."""
    torch.manual_seed(0)
    X = snapshots().double()
    modes = leading_modes(parts(X, 16), 40, 5)
    centred = X - modes.mean
    error = centred - centred @ modes.vectors @ modes.vectors.T
    assert float(error.square().sum()) == pytest.approx(
        float(torch.linalg.svdvals(centred)[5:].square().sum()), rel=1e-8
    )
    torch.testing.assert_close(modes.left_out, error.square().mean(0), rtol=1e-6, atol=1e-12)
    other = torch.linalg.qr(torch.randn(40, 5, dtype=torch.float64)).Q
    assert (centred - centred @ other @ other.T).norm() > error.norm()


def test_the_cut_into_parts_does_not_matter() -> None:
    X = snapshots()
    found = []
    for size in (1, 13, 60):
        torch.manual_seed(0)
        found.append(leading_modes(parts(X, size), 40, 4).vectors)
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])


@pytest.mark.parametrize(("count", "size", "rank"), [(5, 40, 5), (60, 3, 4), (0, 40, 2)])
def test_too_few_snapshots_are_refused(count: int, size: int, rank: int) -> None:
    with pytest.raises(DataError, match=f"{rank} modes need more than {rank} training samples"):
        leading_modes(parts(snapshots()[:count, :size], 8), size, rank)


def prepared(modes: int = 4) -> tuple[Separable, ModesHead, Batch]:
    torch.manual_seed(0)
    targets = snapshots().view(60, 2, 4, 5)
    batch = Batch(torch.randn(60, 3), targets, torch.arange(60), torch.zeros(60, dtype=torch.int64))
    settings = PodSettings(modes=modes, width=6)
    network = build(settings, Shapes(inputs=3, outputs=2, grid=(4, 5), input_grid=()))
    prepare(settings, network, lambda: [batch])
    assert isinstance(network.head, ModesHead)
    return network.double(), network.head, Batch(batch.inputs.double(), targets.double(), batch.sample, batch.time)


def test_coefficients_are_recovered() -> None:
    """Fields made of the modes go through coefficients and back unchanged."""
    _, head, _ = prepared()
    coefficients = torch.randn(7, 4, dtype=torch.float64)
    fields = (coefficients @ head.modes.T + head.mean).view(7, 2, 4, 5)
    torch.testing.assert_close(head.rows(fields), coefficients, rtol=1e-5, atol=1e-5)  # modes are kept in float32


def test_the_head_solves_the_problem_of_the_whole_field() -> None:
    """The normal equations of all outputs, Phi included, have the solution of the small system."""
    network, head, batch = prepared()
    head.modes.copy_(torch.linalg.qr(head.modes).Q)
    fit = refit(network, [batch], regularization=1e-3)
    A = head.design(network.features(batch.inputs))
    whole = torch.einsum("nk,dr->ndkr", A, head.modes).reshape(-1, A.shape[1] * 4)
    C = (batch.targets.flatten(1) - head.mean).reshape(-1)
    gram = whole.T @ whole + 1e-3 * 60 * torch.eye(whole.shape[1], dtype=torch.float64)
    torch.testing.assert_close(fit.weights, torch.linalg.solve(gram, whole.T @ C).view(-1, 4))


def test_standard_deviations_hold_what_the_modes_leave_out() -> None:
    network, head, batch = prepared(modes=2)
    sums, energies = gather(network, [batch])
    posterior = Posterior.of(sums, energies)
    head.assign_(posterior.mean)
    z = network.features(batch.inputs)
    std = head.std(posterior, z)
    assert std.shape == batch.targets.shape
    assert (std.flatten(1).square() >= head.left_out).all()
    coefficients = posterior.std(head.design(z))
    expected = coefficients.square() @ head.modes.square().T + head.left_out
    torch.testing.assert_close(std.flatten(1).square(), expected)
