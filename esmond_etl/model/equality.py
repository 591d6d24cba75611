"""When two values are the same."""

from typing import Any


def same_value(left: Any, right: Any) -> bool:
    """Whether two values, as they are decoded from JSON, are the same: numbers by value (not a number too), but true is not 1."""
    if isinstance(left, float) and left != left:
        return isinstance(right, float) and right != right
    return bool(left == right) and _alike(left, right)


def _alike(left: Any, right: Any) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return all(_alike(value, right[name]) for name, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return all(map(_alike, left, right))
    return isinstance(left, bool) is isinstance(right, bool)
