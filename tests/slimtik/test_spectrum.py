"""A factorisation by blocks, with or without a border, is that of the whole matrix."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from surrogate.models.heads import head_of
from surrogate.slimtik import Blocks, Curve, Memory, NormalEquations, Spectrum, proximal_step, sgcv, step, supre


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Case:
    """Designs of rows that meet one block of columns each, and the border."""

    def __init__(self, sizes: list[int], *, border: bool, M: int = 2, rows: int = 6, seed: int = 0) -> None:
        K = sum(sizes) + border
        order = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(seed)).tolist()
        columns = [[order.pop() for _ in range(size)] for size in sizes]
        self.blocks = Blocks.of(columns, border=border)
        A = torch.zeros(2, len(sizes) * rows, K, dtype=torch.float64)
        for block, own in enumerate(columns):
            A[:, block * rows : (block + 1) * rows, own] = random(2, rows, len(own), seed=seed + block)
        if border:
            A[..., -1] = 1.0
        self.W, C = random(K, M, seed=seed + 1), random(len(sizes) * rows, M, seed=seed + 2)
        self.batch = NormalEquations.of(A[1], C, 3)
        self.H = (A.mT @ A).sum(0) / 3


@st.composite
def cases(draw: st.DrawFn) -> Case:
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    numbers = {"M": draw(st.integers(1, 3)), "rows": draw(st.integers(1, 5)), "seed": draw(st.integers(0, 99))}
    return Case(sizes, border=draw(st.booleans()), **numbers)


@settings(deadline=None, max_examples=60)
@given(case=cases(), shift=st.sampled_from([1e-3, 0.05, 10.0]))
def test_blocks_solve_like_the_whole(case: Case, shift: float) -> None:
    whole, blocks = Spectrum.of(case.H), Spectrum.of(case.H, case.blocks)
    torch.testing.assert_close(blocks.solve(case.W, shift), whole.solve(case.W, shift), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(blocks.condition(shift), whole.condition(shift), rtol=1e-9, atol=0)


@settings(deadline=None, max_examples=60)
@given(case=cases(), c=st.sampled_from([1e-3, 1.0]), a=st.sampled_from([0.0, 0.1]))
def test_a_proximal_step_of_blocks_is_that_of_the_whole(case: Case, c: float, a: float) -> None:
    whole, blocks = (
        proximal_step(case.W, case.batch, case.H, c, relative_ridge=a, blocks=found) for found in (None, case.blocks)
    )
    torch.testing.assert_close(blocks.weights, whole.weights, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(blocks.damping, whole.damping)
    torch.testing.assert_close(case.blocks.product(case.blocks.packed(case.H), case.W), case.H @ case.W)


@settings(deadline=None, max_examples=60)
@given(case=cases(), L=st.sampled_from([1e-3, 0.05, 10.0]))
def test_curve_of_blocks_is_that_of_the_whole(case: Case, L: float) -> None:
    sum_so_far = torch.tensor(L, dtype=torch.float64)
    points = L * torch.tensor([-0.5, -1e-9, 0.0, 1e-3, 0.5, 20.0], dtype=torch.float64)
    whole, blocks = (
        Curve.of(Spectrum.of(case.H, found), case.W, case.batch, sum_so_far)(points) for found in (None, case.blocks)
    )
    torch.testing.assert_close(blocks, whole, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("rule", [sgcv, supre(1e-2)])
@pytest.mark.parametrize("border", [True, False])
def test_a_step_by_blocks_is_the_step_of_the_whole(rule: object, border: bool) -> None:
    case = Case([3, 1, 2], border=border)
    whole, blocks = (
        step(case.W, case.batch, case.H, 0.3, rule=rule, blocks=found)  # type: ignore[arg-type]
        for found in (None, case.blocks)
    )
    torch.testing.assert_close(blocks.weights, whole.weights)
    assert blocks.diagnostics() == pytest.approx(whole.diagnostics())


def test_a_border_that_the_blocks_explain_keeps_the_system_solvable() -> None:
    case = Case([3, 3], border=True, rows=3)  # as many rows as columns: ones lie in the span of both blocks
    for shift in (1e-7, 1e-9):
        solution = Spectrum.of(case.H, case.blocks).solve(case.H @ case.W, shift)
        torch.testing.assert_close(case.H @ solution, case.H @ case.W, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(3, 1, 4, stride=2, padding=1),
        nn.ConvTranspose2d(2, 2, 3, stride=2, bias=False),
        nn.ConvTranspose1d(2, 2, 5, stride=3, dilation=2),
        nn.ConvTranspose1d(2, 2, 2, stride=5, output_padding=3),
    ],
)
def test_blocks_of_a_transposed_convolution_are_those_of_its_gram_matrix(layer: nn.Module) -> None:
    head = head_of(layer.double())
    z = random(6, head.channels, *(5,) * (layer.weight.ndim - 2))
    y = torch.randn_like(head(z)).detach()
    batch = head.normal_equations(z, y)
    memory = Memory(0).pushed(batch.G).total
    by_blocks, whole = (step(head.matrix(), batch, memory, 0.1, blocks=found) for found in (head.blocks, None))
    assert head.blocks is not None
    torch.testing.assert_close(by_blocks.weights, whole.weights, rtol=1e-9, atol=1e-10)


def test_heads_with_one_phase_have_no_blocks() -> None:
    for layer in (nn.Linear(3, 2), nn.Conv2d(2, 1, 3), nn.ConvTranspose2d(2, 1, 3)):
        assert head_of(layer).blocks is None
