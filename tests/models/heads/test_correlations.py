"""Sums from correlations are those of the design; they are taken where they save work."""

from itertools import product
from math import prod
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from surrogate.models.heads import head_of
from surrogate.models.heads.geometry import as_lines
from surrogate.models.heads.gram import cheaper_plan, correlated, plan_of
from surrogate.models.heads.transforms import faster_by_transforms
from surrogate.slimtik import NormalEquations

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


@st.composite
def layers(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """A layer with a bias whose taps move in single steps, and the shape of its features."""
    dimensions, transposed = draw(st.integers(1, 3)), draw(st.booleans())
    axes = range(dimensions)
    kernel, dilation = (tuple(draw(st.integers(1, most)) for _ in axes) for most in (4, 2))
    stride = tuple(draw(st.integers(1, 3)) if transposed else 1 for _ in axes)
    padding = tuple(draw(st.integers(0, d * (k - 1))) for k, d in zip(kernel, dilation, strict=True))
    options = {"stride": stride, "dilation": dilation, "padding": padding}
    if transposed:
        most = [max(s, d) - 1 for s, d in zip(stride, dilation, strict=True)]
        options["output_padding"] = tuple(draw(st.integers(0, extra)) for extra in most)
    least = padding if transposed else [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    sizes = [draw(st.integers(1, 6 if dimensions < 3 else 3)) + size for size in least]
    channels, outputs, samples = (draw(st.integers(1, 3)) for _ in range(3))
    kind = (TRANSPOSED if transposed else CONVOLUTIONS)[dimensions]
    return kind(channels, outputs, kernel, **options).double(), (samples, channels, *sizes)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def check(layer: nn.Module, z: Tensor, *budgets: int) -> bool:
    """Whether the layer has a plan; its sums are those of the design."""
    head = head_of(layer)
    targets = random(*head(z).shape, seed=1)
    expected = NormalEquations.of(head.design(z), head.rows(targets), len(z))
    layout, fields, C = head._layout(tuple(z.shape[2:])), z.movedim(1, 0), targets.movedim(1, 0)
    if z.ndim == 3:
        layout, fields, C = as_lines(layout, len(z)), fields[:, None], C[:, None]
    plan = plan_of(layout)
    if plan is None:
        return False
    for budget, by_transforms in product(budgets, (False, True)):
        found = correlated(plan, fields, C, byte_budget=budget, by_transforms=by_transforms)
        for name in ("gram", "cross", "energy"):
            torch.testing.assert_close(getattr(found, name), getattr(expected, name))
        assert (found.rows, found.samples) == (expected.rows, fields.shape[1])
        assert torch.equal(found.gram, found.gram.mT)
    return True


@settings(deadline=None, max_examples=80)
@given(case=layers(), budget=st.sampled_from([1, 20_000, 2**25]))
def test_sums_from_correlations_are_those_of_the_design(case: tuple[nn.Module, tuple[int, ...]], budget: int) -> None:
    layer, shape = case
    check(layer, random(*shape), budget)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(3, 2, 3, padding=1), (2, 3, 9)),
        (nn.Conv2d(2, 3, 3, padding=1), (3, 2, 7, 6)),
        (nn.Conv2d(2, 1, (3, 2), dilation=(1, 2)), (2, 2, 7, 6)),
        (nn.Conv3d(2, 1, 3, padding=1), (2, 2, 4, 3, 5)),
        (nn.ConvTranspose1d(2, 2, 4, stride=2, padding=1), (2, 2, 6)),
        (nn.ConvTranspose2d(2, 1, 4, stride=2, padding=1), (3, 2, 5, 6)),
        (nn.ConvTranspose2d(2, 1, 3, stride=2, padding=1, output_padding=1), (3, 2, 5, 6)),
        (nn.ConvTranspose3d(2, 1, 4, stride=2, padding=1), (2, 2, 4, 3, 5)),
    ],
)
def test_the_usual_layers_have_a_plan(layer: nn.Module, shape: tuple[int, ...]) -> None:
    assert check(layer.double(), random(*shape), 1, 5000, 2**25)


def test_a_3x3_kernel_needs_thirteen_distances_and_a_4x4_kernel_of_stride_two_five() -> None:
    conv, transposed = nn.Conv2d(2, 1, 3, padding=1), nn.ConvTranspose2d(2, 1, 4, stride=2, padding=1)
    plans = [plan_of(head_of(layer)._layout((8, 8))) for layer in (conv, transposed)]
    assert [len(plan.distances) for plan in plans if plan] == [13, 5]


def test_strided_convolutions_and_fields_of_edges_alone_have_no_plan() -> None:
    assert plan_of(head_of(nn.Conv2d(2, 1, 3, stride=2))._layout((9, 9))) is None
    assert plan_of(head_of(nn.Conv2d(2, 1, (1, 7), padding=(0, 3)))._layout((3, 5))) is None
    assert plan_of(head_of(nn.Linear(2, 1))._layout(())) is None


def test_correlations_are_taken_for_large_fields_alone() -> None:
    layout, point = (head_of(nn.Conv2d(16, 2, size))._layout((64, 64)) for size in (3, 1))
    assert cheaper_plan(layout, 16, 2, 16) is not None
    assert cheaper_plan(point, 16, 2, 16) is None
    assert cheaper_plan(head_of(nn.Conv2d(1, 1, 3))._layout((5, 5)), 1, 1, 2) is None


def test_transforms_are_taken_for_many_taps_and_few_channels() -> None:
    small, wide = (plan_of(head_of(nn.Conv2d(8, 1, k, padding=k // 2))._layout((128, 128))) for k in (3, 7))
    assert small is not None
    assert wide is not None
    assert not faster_by_transforms(small, 16, 1, 16)
    assert faster_by_transforms(wide, 8, 1, 16)
    assert not faster_by_transforms(wide, 64, 1, 16)  # 0.7 GB of products in the frequency domain


class Largest(TorchDispatchMode):
    """Records the size in bytes of the largest tensor made."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and not function.is_view and function.overloadpacket.__name__[-1] != "_":
            self.bytes = max(self.bytes, found.nbytes)
        return found


@pytest.mark.parametrize("budget", [100_000, 1_000_000])
def test_nothing_made_is_larger_than_the_byte_budget(budget: int) -> None:
    layer = nn.Conv2d(4, 2, 3, padding=1)
    z, targets = random(4, 9, 64, 64), random(2, 9, 64, 64)
    plan = plan_of(head_of(layer)._layout((64, 64)))
    assert plan is not None
    with Largest() as largest:
        correlated(plan, z, targets, byte_budget=budget, by_transforms=False)
    one_sample = prod(plan.frame.sizes) * 8 * 6
    assert 0 < largest.bytes <= max(budget, one_sample)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_heads_on_large_fields_sum_like_their_design(bias: bool, dtype: torch.dtype) -> None:
    head = head_of(nn.Conv2d(16, 2, 3, padding=1, bias=bias))
    z, targets = random(4, 16, 40, 40).to(dtype), random(4, 2, 40, 40, seed=1).float()
    assert cheaper_plan(head._layout((40, 40)), 16, 2, 4) is not None
    expected = NormalEquations.of(head.design(z), head.rows(targets), 4)
    found = head.normal_equations(z, targets)
    torch.testing.assert_close(found.gram, expected.gram)
    torch.testing.assert_close(found.cross, expected.cross)
