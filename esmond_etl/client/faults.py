"""Pages with invalid datapoints, decoded one by one: the valid ones are kept, byte for byte, the others are reported."""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from esmond_etl.model.batch import Batch, Fault
from esmond_etl.model.columns import json_column, nullable_number_column, ts_column
from esmond_etl.model.series import Series

#: A number that old archives write as text.
_NUMBER: Final = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")

_SPACE: Final = re.compile(r"[ \t\r\n]*")

#: Unix time that fits into a timestamp.
_TIMES: Final = range(-(2**62), 2**62)

_scan = json.JSONDecoder().raw_decode


class _Point(msgspec.Struct, gc=False):
    ts: msgspec.Raw
    val: msgspec.Raw


def one_by_one(body: bytes, series: Series) -> Batch:
    """The valid datapoints of a page, in their order, with the others as faults; raises ValueError if the page is not a list."""
    seconds, values, faults = array("q"), list[Any](), list[Fault]()
    for text, parsed in _items(body.decode("utf-8", "surrogateescape")):
        said = parsed.get("ts") if isinstance(parsed, dict) else None
        where = said if type(said) is int and said in _TIMES else None
        try:
            point = msgspec.json.decode(text.encode("utf-8", "strict"), type=_Point)
            ts = _second(point.ts)
            value = _number(point.val) if series.holds_numbers else _json(point.val)
        except ValueError as error:  # also those of msgspec and of encoding
            faults.append(Fault(where, text.encode("utf-8", "replace").decode()[:200], _reason(error)))
        else:
            seconds.append(ts)
            values.append(value)
    val = nullable_number_column(values) if series.holds_numbers else json_column(values)
    return Batch(series, Batch.of(series, ts_column(seconds), val).points, faults=tuple(faults))


def _items(text: str) -> Iterator[tuple[str, Any]]:
    """The items of a JSON list, as text and value; they may contain NaN and lone surrogates, which strict JSON does not allow."""
    place = _after_space(text, 0)
    if text[place : place + 1] != "[":
        raise ValueError(f"expected a list of datapoints, found {text[:60]!r}")
    place = _after_space(text, place + 1)
    is_over = text[place : place + 1] == "]"
    while not is_over:
        value, end = _scan(text, place)
        yield text[place:end], value
        place = _after_space(text, end)
        if is_over := text[place : place + 1] == "]":
            break
        if text[place : place + 1] != ",":
            raise ValueError(f"the list of datapoints breaks off at character {place}")
        place = _after_space(text, place + 1)
    if _after_space(text, place + 1) != len(text):
        raise ValueError(f"unexpected text after the list of datapoints, at character {place + 1}")


def _after_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _second(raw: msgspec.Raw) -> int:
    ts = msgspec.json.decode(raw, type=int)
    if not re.fullmatch(rb"-?\d+", bytes(raw)) or ts not in _TIMES:
        raise ValueError("ts is not a Unix time in whole seconds")
    return ts


def _number(raw: msgspec.Raw) -> float | None:
    value = msgspec.json.decode(raw)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("val is not a number")
    return float(value)


def _json(raw: msgspec.Raw) -> msgspec.Raw:
    msgspec.json.decode(raw)  # for example a lone surrogate, in a text that can be skipped but not decoded
    return raw


def _reason(error: ValueError) -> str:
    if isinstance(error, UnicodeError):
        return "the value is not valid UTF-8"
    return str(error) if not isinstance(error, msgspec.MsgspecError) else f"the datapoint is not valid JSON: {error}"
