"""Numbers as text: significant digits on terminals, in tables and in figures."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["ABSENT", "DIGITS", "number"]

ABSENT = "–"
DIGITS = 4


def number(value: Any, digits: int = DIGITS) -> str:
    """Format a number with significant digits, so that a small one is never rounded to zero.

    Arguments:
        value: Any real number; integers keep all digits, None and what is not finite becomes a dash.
        digits: Significant digits.

    Example:
        >>> number(0.000123456), number(1234567), number(float("inf"))
        ('0.0001235', '1,234,567', '–')
    """
    if value is None or not math.isfinite(value):
        return ABSENT
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.{digits}g}"
