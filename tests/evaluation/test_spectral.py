"""Spectra: Parseval, single modes in their bands, the same in one, two and three dimensions."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surrogate.evaluation.metrics import FieldErrors
from surrogate.evaluation.spectral import (
    BAND_EDGES,
    band_power,
    coefficients,
    frmse,
    kmax,
    log_edges,
    spectral_columns,
    spectrum,
)

SHAPES = [(1,), (2,), (7,), (32,), (33,), (5, 8), (16, 16), (1, 9), (49, 3), (4, 6, 5), (8, 8, 8)]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mode(k: tuple[int, ...], shape: tuple[int, ...]) -> torch.Tensor:
    """cos(2 pi k.x) with amplitude 1 on a grid."""
    axes = [torch.arange(n, dtype=torch.float64) / n for n in shape]
    phase = sum(2 * torch.pi * ki * x for ki, x in zip(k, torch.meshgrid(*axes, indexing="ij"), strict=True))
    return torch.cos(phase)[None, None]


@pytest.mark.parametrize("shape", SHAPES)
def test_bands_add_up_to_the_mean_square(shape: tuple[int, ...]) -> None:
    field = noise(3, 2, *shape)
    mean_square = (field**2).flatten(2).mean(-1)
    for power in (band_power(field, BAND_EDGES), band_power(field, log_edges(shape)), spectrum(field)):
        torch.testing.assert_close(power.sum(-1), mean_square, rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_coefficient_is_in_one_band(shape: tuple[int, ...]) -> None:
    assert coefficients(shape, log_edges(shape)).sum() == np.prod(shape)
    assert coefficients(shape, BAND_EDGES).sum() == np.prod(shape)
    by_hand = np.zeros(3, dtype=int)
    for k in itertools.product(*(np.round(np.fft.fftfreq(n) * n) for n in shape)):
        length = np.sqrt(np.sum(np.square(k)))
        by_hand[0 if length < 4 else 1 if length < 12 else 2] += 1
    np.testing.assert_array_equal(coefficients(shape, BAND_EDGES), by_hand)


@pytest.mark.parametrize("shape", SHAPES)
def test_mean_square_coefficients_times_their_number_are_the_mse(shape: tuple[int, ...]) -> None:
    prediction, target = noise(2, 1, *shape, seed=1), noise(2, 1, *shape, seed=2)
    squares = frmse(prediction, target) ** 2 * torch.from_numpy(coefficients(shape, BAND_EDGES))
    mse = ((prediction - target) ** 2).flatten(2).mean(-1)
    torch.testing.assert_close(squares.nansum(-1), mse, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("k", "shape", "band"),
    [
        *(((0,), (32,), 0), ((3,), (32,), 0), ((4,), (32,), 1), ((11,), (32,), 1), ((12,), (32,), 2)),
        *(((3, 2), (32, 32), 0), ((3, 3), (32, 32), 1), ((-9, 8), (32, 32), 2), ((0, 12), (16, 32), 2)),
        *(((2, 2, 2), (8, 8, 8), 0), ((3, 2, 2), (8, 8, 8), 1), ((7, 7, 7), (16, 16, 16), 2)),
    ],
)
def test_a_single_mode_lies_in_its_band(k: tuple[int, ...], shape: tuple[int, ...], band: int) -> None:
    power = band_power(mode(k, shape), BAND_EDGES)[0, 0]
    expected = torch.zeros(3, dtype=torch.float64)
    expected[band] = 1.0 if not any(k) else 0.5
    torch.testing.assert_close(power, expected, rtol=0, atol=1e-13)
    edges = log_edges(shape)
    inside = int(band_power(mode(k, shape), edges)[0, 0].argmax())
    assert edges[inside] <= np.linalg.norm(k) < edges[inside + 1]


def test_the_highest_mode_of_an_even_grid_counts_once() -> None:
    assert band_power(mode((8,), (16,)), BAND_EDGES)[0, 0].tolist() == pytest.approx([0, 1, 0], abs=1e-15)


def test_bands_that_a_grid_does_not_have_are_missing_not_zero() -> None:
    value = frmse(noise(1, 1, 8), torch.zeros(1, 1, 8))[0, 0]
    assert value.isnan().tolist() == [False, False, True]


@given(scale=st.floats(1e-3, 1e3), shift=st.integers(0, 15), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_power_scales_with_the_square_and_ignores_where_a_periodic_field_starts(
    scale: float, shift: int, seed: int
) -> None:
    field = noise(1, 2, 16, 6, seed=seed)
    power = spectrum(field)
    torch.testing.assert_close(spectrum(scale * field), scale**2 * power, rtol=1e-10, atol=1e-18)
    torch.testing.assert_close(spectrum(field.roll(shift, 2)), power, rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(spectrum(field.mT), power, rtol=1e-9, atol=1e-15)
    lifted = spectrum(field + 3)
    torch.testing.assert_close(lifted[..., 1:], power[..., 1:], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("shape", [(7,), (16,), (5, 8), (4, 6, 5)])
def test_columns_are_the_spectra_of_error_target_and_prediction(shape: tuple[int, ...]) -> None:
    prediction, target = noise(3, 2, *shape, seed=1), noise(3, 2, *shape, seed=2)
    target[1, 0].view(-1)[-1] = torch.nan
    columns = spectral_columns(FieldErrors(prediction, target))
    fields = {"error": prediction - target, "target": target, "prediction": prediction}
    whole = np.array([[True, True], [False, True], [True, True]])
    for name, field in fields.items():
        expected = band_power(field, log_edges(shape)).numpy()
        np.testing.assert_allclose(columns[f"spectral_{name}"][whole], expected[whole], rtol=1e-12, atol=1e-16)
    np.testing.assert_array_equal(columns["frmse"][whole], frmse(prediction, target).numpy()[whole])
    assert all(np.isnan(values[~whole]).all() for values in columns.values())


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_field_has_the_same_bits_in_any_batch(size: int) -> None:
    field = noise(5, 2, 48, 36)
    parts = torch.cat([band_power(part, log_edges((48, 36))) for part in field.split(size)])
    assert torch.equal(parts, band_power(field, log_edges((48, 36))))


@given(st.lists(st.integers(1, 300), min_size=1, max_size=3))
def test_logarithmic_bands_cover_every_wave_number_with_whole_edges(shape: list[int]) -> None:
    edges = log_edges(shape)
    assert edges[:2] == (0.0, 1.0)
    assert edges[-1] > kmax(shape)
    assert len(edges) == 2 or edges[-2] <= kmax(shape)
    assert all(low < high <= 2 * max(low, 0.5) for low, high in itertools.pairwise(edges))
    assert all(edge == int(edge) for edge in edges)
