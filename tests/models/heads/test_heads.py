"""Every head is its design times its weights; sums by slices and phases are those of the whole design."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from surrogate.errors import ConfigError, DataError
from surrogate.models.heads import Head, head_of
from surrogate.slimtik import NormalEquations

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
FIXED: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "dense": (nn.Linear(5, 3), (7, 5)),
    "dense without bias, over axes": (nn.Linear(5, 3, bias=False), (2, 3, 4, 5)),
    "conv": (nn.Conv2d(3, 2, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2)), (2, 3, 9, 8)),
    "conv same": (nn.Conv1d(3, 2, 4, dilation=2, padding="same"), (2, 3, 9)),
    "conv valid": (nn.Conv2d(3, 2, 3, padding="valid", bias=False), (2, 3, 5, 4)),
    "conv in space": (nn.Conv3d(2, 3, 2, stride=(1, 2, 1), padding=(1, 0, 1), dilation=(1, 1, 2)), (2, 2, 3, 4, 4)),
    "transposed in space": (
        nn.ConvTranspose3d(2, 3, 2, stride=(2, 1, 2), padding=(0, 1, 0), dilation=(1, 2, 1), output_padding=(1, 1, 0)),
        (2, 2, 2, 3, 2),
    ),
    "transposed": (nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1), (3, 3, 5, 4)),
    "transposed, phases without taps": (nn.ConvTranspose1d(2, 3, 2, stride=5, output_padding=3), (2, 2, 4)),
    "transposed, no bias": (nn.ConvTranspose3d(2, 2, (1, 2, 3), stride=(3, 2, 1), bias=False), (2, 2, 2, 3, 2)),
}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def check(layer: nn.Module, z: Tensor) -> None:
    """The two laws of a head."""
    head = head_of(layer.double())
    output = head(z).detach()
    torch.testing.assert_close(output, layer(z).detach())
    A, W = head.design(z), head.matrix()
    assert A.shape == (output.numel() // head.shape[1], head.shape[0])
    torch.testing.assert_close(A @ W, head.rows(output))
    targets = torch.randn_like(output)
    whole = NormalEquations.of(A, head.rows(targets), len(z))
    for budget in (1, 8 * A.shape[1] * 7, 2**25):
        same(head.normal_equations(z, targets, byte_budget=budget), whole)


def same(found: NormalEquations, expected: NormalEquations) -> None:
    for name in ("gram", "cross", "energy"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))
    assert (found.rows, found.samples) == (expected.rows, expected.samples)


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_design_times_weights_is_forward(name: str) -> None:
    layer, shape = FIXED[name]
    check(layer, random(*shape))


@st.composite
def convolutions(draw: st.DrawFn, *, transposed: bool) -> tuple[nn.Module, Tensor]:
    dimensions = draw(st.integers(1, 2))
    kernel, stride, dilation = (tuple(draw(st.integers(1, most)) for _ in range(dimensions)) for most in (4, 3, 3))
    padding = tuple(draw(st.integers(0, d * (k - 1))) for k, d in zip(kernel, dilation, strict=True))
    options = {"stride": stride, "dilation": dilation, "padding": padding, "bias": draw(st.booleans())}
    if transposed:
        most = [max(s, d) - 1 for s, d in zip(stride, dilation, strict=True)]
        options["output_padding"] = tuple(draw(st.integers(0, extra)) for extra in most)
        sizes = [draw(st.integers(1, 5)) + p for p in padding]
    else:
        sizes = [draw(st.integers(1, 5)) + d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    kind = (TRANSPOSED if transposed else CONVOLUTIONS)[dimensions]
    channels, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return kind(channels, outputs, kernel, **options), random(draw(st.integers(1, 3)), channels, *sizes)


@settings(deadline=None, max_examples=60)
@given(case=convolutions(transposed=False))
def test_convolutions_of_any_setting(case: tuple[nn.Module, Tensor]) -> None:
    check(*case)


@settings(deadline=None, max_examples=80)
@given(case=convolutions(transposed=True))
def test_transposed_convolutions_of_any_setting(case: tuple[nn.Module, Tensor]) -> None:
    check(*case)


def test_gram_of_a_transposed_convolution_is_block_diagonal_but_for_the_bias() -> None:
    head = head_of(nn.ConvTranspose2d(2, 1, 4, stride=2, padding=1).double())
    gram = head.normal_equations(random(3, 2, 5, 4), random(3, 1, 10, 8)).gram[:-1, :-1].reshape(2, 4, 4, 2, 4, 4)
    for tap in range(4):
        assert not gram[:, tap, :, :, (tap + 1) % 2 :: 2].any()
        assert gram[:, tap, :, :, tap % 2 :: 2].any()


@pytest.mark.parametrize("name", FIXED)
def test_weights_assigned_are_read_back_and_in_place(name: str) -> None:
    head = head_of(FIXED[name][0].double())
    places = [parameter.data_ptr() for parameter in head.parameters()]
    W = random(*head.shape)
    head.assign_(W)
    assert torch.equal(head.matrix(), W)
    assert [parameter.data_ptr() for parameter in head.parameters()] == places


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(DataError, match=r"head weights have shape \(3, 5\), but Linear.* needs \(6, 3\)"):
        head_of(nn.Linear(5, 3)).assign_(torch.zeros(3, 5))


def test_sums_over_micro_batches_are_those_of_the_batch() -> None:
    head = head_of(nn.ConvTranspose2d(3, 2, 3, stride=2).double())
    z, targets = random(5, 3, 4, 4), random(5, 2, 9, 9)
    parts = head.normal_equations(z[:2], targets[:2]) + head.normal_equations(z[2:], targets[2:])
    same(parts, head.normal_equations(z, targets))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_sums_of_low_precision_features_are_exact_products_of_what_they_hold(dtype: torch.dtype) -> None:
    head: Head = head_of(nn.Conv1d(3, 2, 3, padding=1))
    z, targets = random(4, 3, 20).to(dtype), random(4, 2, 20).float()
    exact = head_of(nn.Conv1d(3, 2, 3, padding=1).double()).normal_equations(z.double(), targets.double())
    found = head.normal_equations(z, targets)
    assert found.gram.dtype == torch.float64
    same(found, exact)
    assert head.design(z).dtype == torch.float32


def test_statistics_carry_no_graph() -> None:
    head = head_of(nn.Linear(5, 3))
    z = torch.randn(7, 5, requires_grad=True)
    assert not head.normal_equations(z, torch.randn(7, 3)).gram.requires_grad


def test_slices_stay_within_the_byte_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    head = head_of(nn.Conv2d(4, 2, 3, padding=1).double())
    largest, gather = [], head._gather

    def watched(*arguments: object) -> Tensor:
        block = gather(*arguments)
        largest.append(block.numel() * block.element_size())
        return block

    monkeypatch.setattr(head, "_gather", watched)
    for budget in (8 * 37 * 32, 8 * 37 * 32 * 40, 2**24):
        largest.clear()
        head.normal_equations(random(3, 4, 32, 32), random(3, 2, 32, 32), byte_budget=budget)
        assert max(largest) <= budget


def test_features_and_targets_that_do_not_fit_are_refused() -> None:
    conv, dense = head_of(nn.Conv2d(3, 2, 3)), head_of(nn.Linear(5, 3))
    with pytest.raises(DataError, match=r"features have shape \(3, 8, 8\), but Conv2d.* takes \(B, 3, \*S\)"):
        conv.normal_equations(torch.zeros(3, 8, 8), torch.zeros(2, 6, 6))
    with pytest.raises(
        DataError, match=r"targets have shape \(4, 2, 8, 8\), but the output of Conv2d.* is \(4, 2, 6, 6\)"
    ):
        conv.normal_equations(torch.zeros(4, 3, 8, 8), torch.zeros(4, 2, 8, 8))
    with pytest.raises(DataError, match=r"features of size \(2, 8\) are too small for Conv2d"):
        conv.normal_equations(torch.zeros(4, 3, 2, 8), torch.zeros(4, 2, 1, 6))
    with pytest.raises(DataError, match=r"features have shape \(4, 6\), but Linear.* takes \(B, \*, 5\)"):
        dense.normal_equations(torch.zeros(4, 6), torch.zeros(4, 3))
    with pytest.raises(DataError, match=r"targets have shape \(4,\), but the output of Linear.* is \(4, 3\)"):
        dense.normal_equations(torch.zeros(4, 5), torch.zeros(4))


class Halved(nn.Linear):
    """A layer whose forward is not torch's."""

    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z) / 2


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Conv2d(4, 4, 3, groups=2), "groups=2 of the head Conv2d is not supported"),
        (nn.Conv1d(4, 4, 3, padding_mode="circular"), "padding_mode='circular' of the head Conv1d is not supported"),
        (nn.BatchNorm1d(4), "BatchNorm1d cannot be a head"),
        (nn.ReLU(), "ReLU cannot be a head: .*; use Linear, Conv1d"),
        (Halved(2, 2), "Halved cannot be a head"),
        (weight_norm(nn.Linear(2, 2)), "Linear cannot be a head|is reparametrized"),
        (nn.LazyLinear(2), "the weight of the head LazyLinear is not initialised yet"),
        (nn.Linear(2, 2, dtype=torch.complex64), "the weight of the head Linear is of type complex64"),
    ],
)
def test_unsupported_layers_are_refused_by_name(layer: nn.Module, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        head_of(layer)
