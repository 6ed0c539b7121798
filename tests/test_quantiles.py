"""Quantiles agree with those of finite numbers, and know what lies beside an infinite one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from surrogate.quantiles import quantiles

SHARES = [0.1, 0.5, 0.9]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_of_finite_numbers_they_are_numpys(values: list[float]) -> None:
    np.testing.assert_array_equal(quantiles(np.array(values), SHARES), np.quantile(values, SHARES))


def test_nan_is_left_out_in_every_column() -> None:
    values = np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, np.nan]])
    np.testing.assert_array_equal(quantiles(values, [0.5]), [[2.0, np.nan]])
    np.testing.assert_array_equal(quantiles(values[:0], [0.5]), [[np.nan, np.nan]])


def test_a_quantile_between_a_finite_and_an_infinite_number_is_infinite() -> None:
    """Of four, the median lies between the second and the third."""
    np.testing.assert_array_equal(quantiles(np.array([1.0, np.inf, 2.0, 3.0]), [0.5, 0.9]), [2.5, np.inf])
    np.testing.assert_array_equal(quantiles(np.array([1.0, np.inf, 2.0, np.inf]), [0.1, 0.5]), [1.3, np.inf])
