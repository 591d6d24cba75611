"""The simplest fraction whose quotient is a given double."""

import math
from fractions import Fraction


def simplest(value: float) -> tuple[int, int] | None:
    """The fraction (numerator, denominator) with the smallest denominator whose quotient is `value`, a finite double, 0 or more.

    None if its parts are too large for an archive.
    """
    low, high = _rounded_to(value)
    numerator, denominator = _simplest_between(low, high)
    if numerator >= 2**63 or denominator >= 2**63 or numerator / denominator != value:
        return None
    return numerator, denominator


def _rounded_to(value: float) -> tuple[Fraction, Fraction]:
    """The bounds of the real numbers that round to `value`, made slightly narrower: at the bound itself a tie is rounded to even."""
    exact = Fraction(value)
    below, above = (Fraction(math.nextafter(value, end)) for end in (-math.inf, math.inf))
    low, high = (exact + below) / 2, (exact + above) / 2
    hair = (high - low) / 2**40
    return max(low + hair, Fraction(0)), high - hair


def _simplest_between(low: Fraction, high: Fraction) -> tuple[int, int]:
    """The fraction with the smallest denominator from `low` to `high`, by their continued fractions."""
    terms = []
    while (whole := math.ceil(low)) > high:
        term = whole - 1
        terms.append(term)
        low, high = 1 / (high - term), 1 / (low - term)
    numerator, denominator = whole, 1
    for term in reversed(terms):
        numerator, denominator = term * numerator + denominator, numerator
    return numerator, denominator
