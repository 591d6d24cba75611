"""What is posted for a value makes an archive answer just that value."""

import json
import math
from typing import Any

import pyarrow as pa
import pytest
from esmond_etl_archive.values import FRACTIONS, number_text
from esmond_etl_esmond import values
from esmond_etl_esmond.fractions import simplest
from hypothesis import given
from hypothesis import strategies as some


def answers(data_type: Any, text: str | None) -> float | None:
    """What an archive answers after `text` has been posted to it."""
    return None if text is None else json.loads(number_text(data_type, "base", *FRACTIONS[data_type](json.loads(text))))


def posted(data_type: str, numbers: list[float | None]) -> list[str | None]:
    texts: list[str | None] = values.texts(data_type, pa.array(numbers, pa.float64())).to_pylist()
    return texts


def test_each_of_the_10000_steps_below_1_is_kept_as_it_was_on_both_sides_of_0() -> None:
    steps: list[float | None] = [sign * step / 10000 for step in range(10000) for sign in (1, -1)]
    assert [answers("float", text) for text in posted("float", steps)] == steps


@given(some.integers(-(2**53), 2**53))  # beyond, no double leads to every value that an archive can hold
def test_whatever_float_an_archive_holds_is_kept(kept: int) -> None:
    value = kept / 10000
    assert [answers("float", text) for text in posted("float", [value])] == [value]


@given(some.floats(-(2.0**62), 2.0**62).map(lambda value: float(int(value))))
def test_whatever_integer_an_archive_holds_is_kept(value: float) -> None:
    assert [answers("integer", text) for text in posted("integer", [value])] == [value]


def test_integers_are_posted_as_integers() -> None:
    assert posted("integer", [23.0, -7.0, 0.0, 2.0**53]) == ["23", "-7", "0", "9007199254740992"]


@pytest.mark.parametrize(
    ("data_type", "value", "reason"),
    [
        ("integer", 1.5, "1.5 is not a whole number, and the archive cuts it to 1"),
        ("integer", math.inf, "inf is not a number"),
        ("integer", 2.0**63, "9.223372036854776e+18 is too large for the archive"),
        ("integer", None, "the archive keeps no null as an integer"),
        ("float", 0.12345, "0.12345 has more than 4 decimals, and the archive cuts it to 0.1234"),
        ("float", 1e15, "1000000000000000.0 is too large for the archive"),
        ("float", math.nan, "nan is not a number"),
        ("float", None, "the archive keeps no null as a float"),
    ],
)
def test_a_number_that_an_archive_cannot_keep_is_refused_with_the_reason(data_type: str, value: Any, reason: str) -> None:
    assert (posted(data_type, [value]), values.fault(data_type, value)) == ([None], reason)


def test_what_is_no_number_is_posted_byte_for_byte_but_for_what_cannot_be() -> None:
    given = ['{"59.0": 600,  "60":1}', "null", "[]", '"é"']
    texts = {kind: values.texts(kind, pa.array(given)).to_pylist() for kind in ("histogram", "subinterval", "json")}
    assert texts == {"histogram": [given[0], None, "[]", '"é"'], "subinterval": [given[0], None, None, '"é"'], "json": given}
    assert values.fault("histogram", "null") == "the archive keeps no null as a histogram"
    assert values.fault("subinterval", "[]") == "the archive keeps no empty list of subintervals"


def test_a_percentage_is_posted_as_its_counts_where_they_give_it() -> None:
    val, lost, sent = (pa.array(each, pa.float64()) for each in ([0.5, 0.0, 0.25, 0.1], [300, 0, 2, None], [600, 600, 4, 10]))
    texts, guessed = values.fractions(val, lost, sent)
    assert texts.to_pylist() == [
        '{"numerator":300,"denominator":600}',
        '{"numerator":0,"denominator":600}',
        '{"numerator":1,"denominator":4}',
        '{"numerator":1,"denominator":10}',
    ]
    assert guessed.to_pylist() == [False, False, True, True]


def test_a_percentage_without_counts_that_fit_is_a_guess_or_impossible() -> None:
    val, none = pa.array([7 / 600, 1.8, -0.1, None, math.nan]), pa.nulls(5, pa.float64())
    texts, guessed = values.fractions(val, none, none)
    assert [answers("percentage", text) for text in texts.to_pylist()] == [7 / 600, 1.8, None, None, None]
    assert guessed.to_pylist() == [True, True, False, False, False]
    assert values.fault("percentage", -0.1) == "-0.1 is negative, and the archive keeps no such percentage"


@given(some.integers(1, 5000).flatmap(lambda below: some.tuples(some.integers(0, below), some.just(below))))
def test_the_simplest_fraction_reads_back_the_same_and_no_smaller_denominator_does(fraction: tuple[int, int]) -> None:
    value = fraction[0] / fraction[1]
    found = simplest(value)
    assert found is not None and found[0] / found[1] == value
    assert not any(round(value * below) / below == value for below in range(1, found[1]))


@given(some.floats(1e-9, 1e9))
def test_the_simplest_fraction_of_any_double_reads_back_the_same(value: float) -> None:
    found = simplest(value)
    assert found is not None and found[0] / found[1] == value


def test_columns_of_other_types_are_posted_as_what_they_mean() -> None:
    histogram = pa.array([[("1", 2)], None], pa.map_(pa.string(), pa.int64()))
    assert values.column(histogram, numbers=False).to_pylist() == ['{"1":2}', "null"]
    assert values.column(pa.array([1, None], pa.int32()), numbers=True).to_pylist() == [1.0, None]
    assert values.column(pa.array(["1.5", "null", '"x"', "true"]), numbers=True).to_pylist() == [1.5, None, None, None]
    assert values.column(pa.array([1.5]), numbers=False).to_pylist() == ["1.5"]


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ('{"a": [1, 2.0], "b": null}', '{"b":null,"a":[1.0,2]}', True),
        ('{"59.0":600}', '{"59":600}', False),
        ("true", "1", False),
        ('[{"a": true}]', '[{"a":1}]', False),
        ('{"a": [false, "true"]}', '{"a":[false,"true"]}', True),
        ("[1, 2]", "[2, 1]", False),
        ("[1]", "[1, 1]", False),
        ('"caf\\u00e9"', '"café"', True),
        ('{"a b": 1}', '{"ab": 1}', False),
        ('{"a": "b, c"}', '{"a":"b, c"}', True),
        ('["a\\" b"]', '["a\\"b"]', False),
        (None, None, True),
        (None, "null", False),
    ],
)
def test_json_is_compared_by_what_it_says(left: str | None, right: str | None, same: bool) -> None:
    assert values.same_json(left, right) is same
    texts = [pa.array([each], pa.string()) for each in (left, right)]
    assert values.same(*texts).to_pylist() == [same]
