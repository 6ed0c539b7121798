"""Normal equations merge by addition; memory sums without drift."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from surrogate.errors import ConfigError, DataError
from surrogate.slimtik import Memory, NormalEquations, Spectrum


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_statistics_of_parts_add_up_to_those_of_the_whole() -> None:
    A, C = random(12, 4), random(12, 3, seed=1)
    parts = NormalEquations.of(A[:5], C[:5], 2) + NormalEquations.of(A[5:], C[5:], 4)
    whole = NormalEquations.of(A, C, 6)
    for name in ("gram", "cross", "energy", "G", "B", "e"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))
    assert (parts.rows, parts.samples, parts.equations) == (12, 6, 36)


def test_normalised_views_are_per_sample() -> None:
    A, C = random(12, 4), random(12, 3, seed=1)
    sums = NormalEquations.of(A, C, 6)
    torch.testing.assert_close(sums.G, A.T @ A / 6)
    torch.testing.assert_close(sums.B, A.T @ C / 6)
    torch.testing.assert_close(sums.e, C.square().sum() / 6)


def test_statistics_of_single_precision_are_double() -> None:
    sums = NormalEquations.of(random(5, 2).float(), random(5, 1).float(), 5)
    assert sums.gram.dtype == sums.cross.dtype == sums.energy.dtype == torch.float64


def test_rows_that_do_not_match_are_refused() -> None:
    with pytest.raises(DataError, match=r"design \(5, 2\) and targets \(4, 1\) do not match"):
        NormalEquations.of(random(5, 2), random(4, 1), 5)


@given(depth=st.integers(0, 6), count=st.integers(1, 20), seed=st.integers(0, 99))
def test_memory_is_the_sum_of_the_last_matrices(depth: int, count: int, seed: int) -> None:
    grams = random(count, 2, 2, seed=seed)
    memory = Memory(depth)
    for index, gram in enumerate(grams):
        memory = memory.pushed(gram)
        torch.testing.assert_close(memory.total, grams[max(0, index - depth) : index + 1].sum(0))
    assert len(memory) == min(depth + 1, count)


def test_memory_does_not_drift_after_large_matrices() -> None:
    memory = Memory(2)
    for gram in [random(2, 2) * 1e20, *[torch.full((2, 2), float(k), dtype=torch.float64) for k in range(1, 9)]]:
        memory = memory.pushed(gram)
    assert torch.equal(memory.total, torch.full((2, 2), 21.0, dtype=torch.float64))


@given(depth=st.integers(0, 4), count=st.integers(0, 9), more=st.integers(1, 9))
def test_memory_restored_from_its_tensors_goes_on_bit_for_bit(depth: int, count: int, more: int) -> None:
    memory = Memory(depth)
    for gram in random(count, 3, 3):
        memory = memory.pushed(gram)
    stacks = memory.tensors(3)
    twin = Memory(depth, stacks["front"].unbind(), stacks["back"].unbind())
    for gram in random(more, 3, 3, seed=1):
        memory, twin = memory.pushed(gram), twin.pushed(gram)
        assert torch.equal(memory.total, twin.total)


def test_pushing_leaves_the_memory_as_it_was() -> None:
    memory = Memory(1).pushed(random(2, 2)).pushed(random(2, 2, seed=1))
    total = memory.total.clone()
    memory.pushed(random(2, 2, seed=2))
    assert torch.equal(memory.total, total)


def test_negative_depth_and_empty_memory_are_refused() -> None:
    with pytest.raises(ConfigError, match="memory_depth is -1"):
        Memory(-1)
    with pytest.raises(ConfigError, match="memory of slimTrain is empty"):
        _ = Memory(3).total


def test_spectrum_solves_the_shifted_system() -> None:
    A, R = random(9, 4), random(4, 2, seed=1)
    H = A.T @ A
    spectrum = Spectrum.of(H)
    shifted = H + 0.3 * torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(shifted @ spectrum.solve(R, 0.3), R)
    torch.testing.assert_close(spectrum.condition(0.3), torch.linalg.cond(shifted))


def test_eigenvalues_of_a_singular_matrix_are_not_negative() -> None:
    A = random(2, 6)
    assert Spectrum.of(A.T @ A).values.min() >= 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_eigenvalues_of_a_matrix_that_is_not_finite_are_nan(value: float) -> None:
    """The step that uses them refuses the matrix; a check here would make the host wait once more."""
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[0, 1] = value
    assert Spectrum.of(matrix).values.isnan().all()
