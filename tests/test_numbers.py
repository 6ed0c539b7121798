"""Numbers as text keep their significant digits, whatever their size."""

import math

from hypothesis import given
from hypothesis import strategies as st

from surrogate.numbers import ABSENT, number


@given(value=st.floats(1e-300, 1e300), digits=st.integers(2, 6))
def test_a_number_keeps_its_digits_and_a_small_one_is_not_zero(value: float, digits: int) -> None:
    for signed in (value, -value):
        assert math.isclose(float(number(signed, digits)), signed, rel_tol=0.51 * 10 ** (1 - digits))


@given(value=st.integers())
def test_an_integer_keeps_all_digits(value: int) -> None:
    assert int(number(value).replace(",", "")) == value


def test_what_is_no_number_is_a_dash() -> None:
    assert {number(None), number(math.nan), number(math.inf)} == {ABSENT}
    assert number(0.0) == "0"
