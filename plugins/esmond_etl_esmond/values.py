"""From values in an archive's answers to the JSON text that makes another archive answer the same; in columns, no I/O."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import JSON_TEXT, NUMBER, bool_column, nullable_number_column, nullable_text_column, same_value, text_column
from esmond_etl_esmond.fractions import simplest

#: An archive keeps a float as `int(v * 10000)`.
FLOAT_SCALE: Final = 10000.0
#: Added to a float, away from zero, so that truncation gives the original value: half of the last decimal kept.
NUDGE: Final = 0.5 / FLOAT_SCALE
#: Larger than an archive's integers.
TOO_LARGE: Final = 2.0**63

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def column(val: pa.Array, numbers: bool) -> pa.Array:
    """`val`, of any Arrow type that a transform may return, as float64 if it should be numbers, otherwise as JSON text.

    A value that is not a number becomes null among numbers; a null among JSON texts is the JSON null.
    """
    if numbers:
        return val if val.type == NUMBER else _numbers(val)
    texts = val if val.type == JSON_TEXT else text_column([_text(value) for value in _plain(val)])
    return texts.fill_null("null") if texts.null_count else texts


def _numbers(val: pa.Array) -> pa.Array:
    if not pa.types.is_string(val.type):
        return val.cast(NUMBER)
    found = (_decode(text) if text else None for text in val.to_pylist())
    return nullable_number_column(
        [each if isinstance(each, int | float) and not isinstance(each, bool) else None for each in found]
    )


def _plain(val: pa.Array) -> list[Any]:
    values: list[Any] = val.to_pylist()
    if pa.types.is_map(val.type):
        return [None if value is None else dict(value) for value in values]
    return values


def _text(value: Any) -> str:
    return _encode(value).decode()


def texts(data_type: str, val: pa.Array) -> pa.Array:
    """The texts to post for `val` (as `column` returns it); null if the archive cannot keep the value, and `fault` says why.

    Percentages are made by `fractions` instead, which knows their counts.
    """
    if data_type == "integer":
        return _integers(val)
    if data_type == "float":
        return _nudged(val)
    if data_type == "json":
        return val
    impossible = pc.equal(val, "null")
    if data_type == "subinterval":
        impossible = pc.or_(impossible, pc.equal(val, "[]"))
    return pc.if_else(impossible, pa.scalar(None, JSON_TEXT), val)


def _integers(val: pa.Array) -> pa.Array:
    fits = pc.and_(pc.equal(pc.trunc(val), val), pc.less(pc.abs(val), TOO_LARGE))
    return pc.if_else(fits, val, pa.scalar(None, NUMBER)).cast(pa.int64()).cast(JSON_TEXT)


def _nudged(val: pa.Array) -> pa.Array:
    nudged = pc.add(val, pc.if_else(pc.less(val, 0.0), -NUDGE, NUDGE))
    scaled = pc.multiply(nudged, FLOAT_SCALE)
    kept = pc.and_(pc.equal(pc.divide(pc.trunc(scaled), FLOAT_SCALE), val), pc.less(pc.abs(scaled), TOO_LARGE))
    texts = pc.if_else(kept, nudged, pa.scalar(None, NUMBER)).cast(JSON_TEXT)
    if not pc.all(kept).as_py():
        repaired = [_nearby(value) for value in val.filter(pc.is_null(texts)).to_pylist()]
        texts = pc.replace_with_mask(texts, pc.is_null(texts), nullable_text_column(repaired))
    return texts


def _nearby(value: float | None) -> str | None:
    """A float close to `value` that the archive stores as `value`: for numbers that are too large for adding half a decimal."""
    if value is None or not math.isfinite(value):
        return None
    for near in (value, math.nextafter(value, math.inf), math.nextafter(value, -math.inf)):
        scaled = near * FLOAT_SCALE
        if abs(scaled) < TOO_LARGE and int(scaled) / FLOAT_SCALE == value:
            return repr(near)
    return None


def fractions(val: pa.Array, lost: pa.Array, sent: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The texts to post for ratios (null if impossible), and a mask of those whose weight is a guess.

    `lost` and `sent` are the counts at the same times (null if missing). They are used if their quotient is the ratio; otherwise it
    is the fraction with the smallest denominator that reads back the same.
    """
    counted = pc.and_(pc.greater(sent, 0.0), pc.greater_equal(lost, 0.0))
    counted = pc.and_(counted, pc.equal(pc.divide(lost, sent), val)).fill_null(False)
    fits = pc.and_(_is_count(lost), _is_count(sent)).fill_null(False)
    known = pc.and_(counted, fits)
    made = _fraction_texts(pc.if_else(known, lost, 0.0), pc.if_else(known, sent, 1.0))
    if pc.all(known).as_py():
        return made, pc.invert(known)
    guessed = nullable_text_column([simplest_text(value) for value in val.filter(pc.invert(known)).to_pylist()])
    made = pc.replace_with_mask(made, pc.invert(known), guessed)
    return made, pc.and_(pc.invert(known), pc.is_valid(made))


def _is_count(val: pa.Array) -> pa.Array:
    return pc.and_(pc.equal(pc.trunc(val), val), pc.less(val, 2.0**53))


def _fraction_texts(numerators: pa.Array, denominators: pa.Array) -> pa.Array:
    above, below = (part.cast(pa.int64()).cast(JSON_TEXT) for part in (numerators, denominators))
    return pc.binary_join_element_wise('{"numerator":', above, ',"denominator":', below, "}", "")


@lru_cache(4096)
def simplest_text(value: float | None) -> str | None:
    """The fraction with the smallest denominator that reads back as `value`, as it is posted; None if there is none."""
    found = simplest(value) if value is not None and math.isfinite(value) and 0 <= value < TOO_LARGE else None
    return f'{{"numerator":{found[0]},"denominator":{found[1]}}}' if found else None


def fault(data_type: str, value: Any) -> str:
    """Why an archive cannot store `value` (as `column` returns it) as this data type."""
    if value is None or value == "null":
        return f"the archive keeps no null as {_a(data_type)}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a number"
    if data_type == "subinterval":
        return "the archive keeps no empty list of subintervals"
    if abs(value) >= TOO_LARGE / (FLOAT_SCALE if data_type == "float" else 1):
        return f"{value} is too large for the archive"
    if data_type == "integer":
        return f"{value} is not a whole number, and the archive cuts it to {int(value)}"
    if data_type == "float":
        return f"{value} has more than 4 decimals, and the archive cuts it to {int(value * FLOAT_SCALE) / FLOAT_SCALE}"
    if value < 0:
        return f"{value} is negative, and the archive keeps no such percentage"
    return f"no fraction that the archive can keep reads back as {value}"


def _a(data_type: str) -> str:
    return f"{'an' if data_type[0] in 'aeiou' else 'a'} {data_type}"


def shown(value: Any) -> str:
    """A value of a column as JSON text, for people and for the ledger."""
    if isinstance(value, str):
        return value
    if value is None or not math.isfinite(value):
        return "null"
    return _text(int(value) if value == int(value) and abs(value) < 2**53 else value)


def same(left: pa.Array, right: pa.Array) -> pa.Array:
    """A mask: two columns of one length hold equal values. Numbers compare by value, JSON texts without blanks and order of keys."""
    equal = pc.equal(left, right).fill_null(False)
    if left.type == NUMBER or pc.all(equal).as_py():
        return equal
    plain = pc.and_(pc.match_substring_regex(left, _PLAIN), pc.match_substring_regex(right, _PLAIN)).fill_null(False)
    rows = zip(equal.to_pylist(), plain.to_pylist(), left.to_pylist(), right.to_pylist(), strict=True)
    return bool_column(
        [
            known or (is_plain and one.replace(" ", "") == other.replace(" ", "")) or same_json(one, other)
            for known, is_plain, one, other in rows
        ]
    )


#: JSON texts that are equal without blanks: no string in them contains any.
_PLAIN: Final = r'^[^"\\]*("[^" \\]*"[^"\\]*)*$'


def same_json(left: str | None, right: str | None) -> bool:
    """Whether two JSON texts are equal: blanks, the order of keys and the notation of numbers do not count."""
    if left is None or right is None:
        return left is right
    if left == right:
        return True
    return same_value(_decode(left), _decode(right))
