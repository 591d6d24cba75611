"""Values as an archive accepts, stores and serves them, by data type. No I/O.

A number is stored as a fraction of two integers, so that summaries can add to it; any other value is stored as the JSON text that
is served.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from esmond_etl import DataType
from esmond_etl_archive.refusal import Refused

Fraction = tuple[int, int]  #: numerator, denominator

FLOAT_SCALE = 10000  #: a float is kept as this many times itself, cut towards zero

_MOST = 2**63  # larger than SQLite's integers
_LAST_TIME = 253402300799  # s; the end of the year 9999

text = msgspec.json.Encoder().encode  #: the JSON text of a value, as bytes


def whole(value: Any, otherwise: str) -> int:
    """`value` as an integer, cut towards zero; digits in a string count."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise Refused(otherwise) from None
    if abs(number) >= _MOST:
        raise Refused(otherwise)
    return number


def time_of(value: Any) -> int:
    """A datapoint's `ts` as whole Unix seconds."""
    ts = whole(value, "Time must be a unix timestamp")
    if abs(ts) > _LAST_TIME:
        raise Refused("Time must be a unix timestamp")
    return ts


def _integer(value: Any) -> Fraction:
    return whole(value, "Value must be an integer"), 1


def _float(value: Any) -> Fraction:
    refusal = "Value must be a floating point number"
    try:
        return whole(float(value) * FLOAT_SCALE, refusal), 1
    except (TypeError, ValueError):
        raise Refused(refusal) from None


def _percentage(value: Any) -> Fraction:
    if not isinstance(value, dict):
        raise Refused("Value must be an object with 'numerator' and 'denominator'")
    for field in ("numerator", "denominator"):
        if field not in value:
            raise Refused(f"Missing required field '{field}'")
    numerator, denominator = (whole(value[f], f"The field '{f}' must be an integer") for f in ("numerator", "denominator"))
    if denominator <= 0:
        raise Refused("The field 'denominator' must be greater than 0")
    if numerator < 0:
        raise Refused("The field 'numerator' cannot be negative")
    return numerator, denominator


#: How a number is read from what is posted, by data type.
FRACTIONS: dict[DataType, Callable[[Any], Fraction]] = {"integer": _integer, "float": _float, "percentage": _percentage}


def number_text(data_type: DataType, summary_type: str, numerator: int, denominator: int) -> str:
    """The JSON text of a number: aggregations and integers are sums, other values are ratios."""
    parts = FLOAT_SCALE if data_type == "float" else 1
    if data_type == "percentage" or summary_type == "average" or (data_type == "float" and summary_type == "base"):
        parts *= denominator
    return repr(float(numerator) / parts)


def datapoint_text(ts: int, value: str) -> str:
    """The JSON text of a datapoint as served."""
    return f'{{"ts":{ts},"val":{value}}}'


def base_text(data_type: DataType, value: Any) -> str:
    """The JSON text of a base value that is posted."""
    if data_type in FRACTIONS:
        return number_text(data_type, "base", *FRACTIONS[data_type](value))
    if data_type == "histogram":
        value = histogram(value)
    elif data_type == "subinterval":
        value = subintervals(value)
    return text(value).decode()


def histogram(value: Any) -> dict[str, int]:
    """A histogram's counts by bucket."""
    if not isinstance(value, dict):
        raise Refused("Invalid histogram provided")
    try:
        return {bucket: int(count) for bucket, count in value.items()}
    except (ValueError, OverflowError):
        raise Refused("Value of histogram must be an integer") from None
    except TypeError:
        raise Refused("Invalid histogram provided") from None


def add_histogram(total: dict[str, int], more: dict[str, int]) -> dict[str, int]:
    """`total` with `more` added to it bucket by bucket, in place."""
    for bucket, count in more.items():
        total[bucket] = total.get(bucket, 0) + count
    return total


def subintervals(value: Any) -> Any:
    """`value` itself, if it is a list of subintervals."""
    if not isinstance(value, list) or not value or not all(isinstance(each, dict) for each in value):
        raise Refused("Invalid subintervals provided")
    for position, each in enumerate(value, 1):
        for field in ("start", "duration", "val"):
            if field not in each:
                raise Refused(f"Interval must contain '{field}' field at position {position}")
        _duration(each["start"])
        _duration(each["duration"])
    return value


def _duration(value: Any) -> float:
    try:
        return float(value)
    except ValueError:
        raise Refused("Subinterval 'start' and 'duration' must be floating point numbers") from None
    except TypeError:
        raise Refused("Invalid subintervals provided") from None
