"""A spectral convolution is the dense periodic convolution whose kernel has those modes, on every grid."""

from itertools import product

import pytest
import torch
from torch import Tensor

from surrogate.errors import DataError
from surrogate.models import SpectralConvolution

GRIDS = [(15,), (16,), (8, 11), (10, 8), (7, 6, 8)]
MODES = {1: (5,), 2: (3, 2), 3: (2, 1, 2)}


def layer(dimensions: int, dtype: torch.dtype = torch.float64) -> SpectralConvolution:
    torch.manual_seed(0)
    return SpectralConvolution(3, 2, MODES[dimensions]).to(dtype)


def dense(convolution: SpectralConvolution, fields: Tensor) -> Tensor:
    """u(x) = sum over y of kappa(x - y) v(y), the real kernel from all modes and their conjugates."""
    grid, modes = fields.shape[2:], convolution.modes
    mesh = torch.stack(
        torch.meshgrid(*(torch.arange(side, dtype=torch.float64) / side for side in grid), indexing="ij")
    )
    weight = torch.view_as_complex(convolution.weight.detach())
    kernel = torch.zeros(3, 2, *grid, dtype=torch.complex128)
    for k in product(*(range(-m, m + 1) for m in modes[:-1]), range(modes[-1] + 1)):
        index = (*(wave + m for wave, m in zip(k[:-1], modes[:-1], strict=True)), k[-1])
        angle = 2 * torch.pi * sum(wave * axis for wave, axis in zip(k, mesh, strict=True))
        wave = weight[index].reshape(3, 2, *[1] * len(grid)) * torch.exp(1j * angle)
        # of modes with k_d = 0 both k and -k are there, of the others the conjugate is added
        kernel += wave.real + 0j if k[-1] == 0 else wave + wave.conj()
    kernel = kernel.real / mesh[0].numel()
    out = torch.zeros(len(fields), 2, *grid, dtype=torch.float64)
    for y in product(*map(range, grid)):
        moved = kernel.roll(y, tuple(range(2, 2 + len(grid))))
        out += torch.einsum("bc,cm...->bm...", fields[(..., *y)], moved)
    return out


def smooth(grid: tuple[int, ...], highest: int) -> Tensor:
    """One real field per channel with random modes up to a wave number, sampled on a grid: (2, 3, *grid)."""
    generator = torch.Generator().manual_seed(3)
    axes = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) / side for side in grid), indexing="ij")
    out = torch.zeros(2, 3, *grid, dtype=torch.float64)
    for k in product(range(-highest, highest + 1), repeat=len(grid)):
        amplitude, phase = torch.randn(2, 2, 3, *[1] * len(grid), generator=generator, dtype=torch.float64)
        out += amplitude * torch.cos(2 * torch.pi * sum(w * x for w, x in zip(k, axes, strict=True)) + phase)
    return out


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_it_is_a_dense_convolution(grid: tuple[int, ...]) -> None:
    convolution, fields = layer(len(grid)), torch.randn(2, 3, *grid, dtype=torch.float64)
    torch.testing.assert_close(convolution(fields), dense(convolution, fields))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_it_agrees_with_fast_fourier_transforms(grid: tuple[int, ...]) -> None:
    """Whole transforms, cut off, with weights on both halves of the spectrum."""
    convolution, fields = layer(len(grid)), torch.randn(2, 3, *grid, dtype=torch.float64)
    spectrum = torch.fft.fftn(fields, dim=tuple(range(2, fields.ndim)))
    weight = torch.view_as_complex(convolution.weight.detach())
    mixed = torch.zeros(2, 2, *grid, dtype=torch.complex128)
    for k in product(*(range(-m, m + 1) for m in convolution.modes)):
        negative = k[-1] < 0
        half = tuple(-wave for wave in k) if negative else k
        index = (*(w + m for w, m in zip(half[:-1], convolution.modes[:-1], strict=True)), half[-1])
        opposite = (*(m - w for w, m in zip(half[:-1], convolution.modes[:-1], strict=True)), 0)
        R = weight[index].conj() if negative else weight[index]
        if k[-1] == 0:  # a real field allows only the part with R(-k) = conj R(k)
            R = (R + weight[opposite].conj()) / 2
        mixed[(..., *k)] = spectrum[(..., *k)] @ R
    expected = torch.fft.ifftn(mixed, dim=tuple(range(2, fields.ndim)))
    torch.testing.assert_close(convolution(fields), expected.real)
    assert float(expected.imag.abs().max()) < 1e-12


@pytest.mark.parametrize(("grid", "finer"), [((16,), (37,)), ((9, 10), (18, 24)), ((6, 7, 7), (8, 9, 12))], ids=str)
def test_it_does_not_depend_on_the_grid_for_band_limited_fields(grid: tuple[int, ...], finer: tuple[int, ...]) -> None:
    """Both outputs are samples of one trigonometric polynomial: equal coefficients, and nothing beside them."""
    convolution = layer(len(grid))
    outputs = [convolution(smooth(points, 2)) for points in (grid, finer)]
    dims = tuple(range(2, 2 + len(grid)))
    coarse, fine = (torch.fft.fftn(u, dim=dims, norm="forward") for u in outputs)
    for k in product(range(-2, 3), repeat=len(grid)):
        torch.testing.assert_close(coarse[(..., *k)], fine[(..., *k)])
    torch.testing.assert_close(*(u.square().mean(dims) for u in outputs))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_it_commutes_with_shifts(grid: tuple[int, ...]) -> None:
    convolution, fields = layer(len(grid)), torch.randn(2, 3, *grid, dtype=torch.float64)
    for axis in range(2, fields.ndim):
        torch.testing.assert_close(convolution(fields.roll(3, axis)), convolution(fields).roll(3, axis))


def test_a_coarse_grid_has_only_the_modes_below_half_of_its_points() -> None:
    convolution = layer(1)
    fields = torch.randn(2, 3, 6, dtype=torch.float64)
    cut = SpectralConvolution(3, 2, (2,)).double()
    with torch.no_grad():
        cut.weight.copy_(convolution.weight[:3])
    torch.testing.assert_close(convolution(fields), cut(fields))


def test_types_and_gradients() -> None:
    single, double = layer(2, torch.float32), layer(2)
    fields = torch.randn(2, 3, 8, 9, dtype=torch.float64, requires_grad=True)
    found = single(fields.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), double(fields), rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        half = single(fields.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), double(fields), rtol=0.05, atol=0.05)
    assert torch.autograd.gradcheck(double, fields)


def test_fields_of_other_dimensions_are_refused() -> None:
    with pytest.raises(DataError, match=r"fields have shape \(2, 3, 8\), expected \(B, C\) and 2 space axes"):
        layer(2)(torch.zeros(2, 3, 8))
