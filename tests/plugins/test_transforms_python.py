"""`python`: functions of one's own."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from esmond_etl_transforms.histogram_stats import HistogramStats
from esmond_etl_transforms.python import Python
from pydantic import ValidationError

from esmond_etl import Batch, ConfigError, Context, EsmondEtlError, Metadata, PluginError, Series

COUNT = Series(Metadata("k"), "packet-count-lost")
FAILURES = Series(Metadata("k"), "failures")
DELAY = Series(Metadata("k"), "histogram-owdelay")

Write = Callable[[str], str]
_NUMBERS = count()


@pytest.fixture
def module(tmp_path: Path) -> Write:
    """Writes a module, and gives back its name, which no other has."""

    def write(source: str) -> str:
        name = f"own_transforms_{next(_NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return write


def through(python: Python, series: Series, *pages: list[tuple[int, Any]]) -> list[tuple[int, Any]]:
    python.open(Context())
    batches = python.apply([Batch.from_points(series, page) for page in pages])
    return [tuple(point) for batch in batches for point in batch.to_points()]


def mistake(python: Python, series: Series, points: list[tuple[int, Any]]) -> tuple[type[EsmondEtlError], str]:
    with pytest.raises(EsmondEtlError) as caught:
        through(python, series, points)
    return caught.type, str(caught.value)


POINTWISE = """
from esmond_etl import DataPoint

def without_negatives(point: DataPoint) -> DataPoint | None:
    return point._replace(val=point.val * 2) if point.val >= 0 else None

def message(point):
    return point.ts, point.val["error"]
"""

BATCHWISE = """
from __future__ import annotations
import pyarrow.compute as pc
from esmond_etl import Batch

def large(batch: Batch) -> Batch:
    return batch.filter(pc.greater(batch.val, 2))

def unsaid(batch):
    return large(batch)
"""


def test_a_function_of_points_changes_them_or_leaves_them_out(module: Write, tmp_path: Path) -> None:
    name = module(POINTWISE)
    doubled = Python(call=f"{name}:without_negatives", path=str(tmp_path))
    assert through(doubled, COUNT, [(1, 5), (2, -1)], [(3, -1)], [(4, 0)]) == [(1, 10.0), (4, 0.0)]
    assert through(Python(call=f"{name}:message", path=str(tmp_path)), FAILURES, [(1, {"error": "no route"})]) == [(1, "no route")]


def test_a_function_of_points_is_given_numbers_where_an_earlier_transform_made_them(module: Write, tmp_path: Path) -> None:
    medians = HistogramStats(statistic="median").apply([Batch.from_points(DELAY, [(1, {"28": 3}), (2, {"3": 1})])])
    doubled = Python(call=f"{module(POINTWISE)}:without_negatives", path=str(tmp_path)).apply(medians)
    assert [batch.val.to_pylist() for batch in doubled] == [[56.0, 6.0]]


def test_a_function_of_batches_is_known_by_its_annotation_or_by_the_option(module: Write, tmp_path: Path) -> None:
    name, points = module(BATCHWISE), [(1, 5), (2, 1), (3, 3)]
    assert through(Python(call=f"{name}:large", path=str(tmp_path)), COUNT, points) == [(1, 5.0), (3, 3.0)]
    assert through(Python(call=f"{name}:unsaid", by="batch", path=str(tmp_path)), COUNT, points) == [(1, 5.0), (3, 3.0)]


@pytest.mark.parametrize(
    ("source", "call", "reason"),
    [
        (None, "no_such_module:f", "no_such_module cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        ("import math\n1/0", "{}:f", "{} cannot be imported: ZeroDivisionError: division by zero"),
        ("f = 3", "{}:f", "{} has no function f"),
        ("def g(x): ...", "{}:f", "{} has no function f"),
    ],
)
def test_what_cannot_be_imported_is_one_sentence(module: Write, tmp_path: Path, source: str | None, call: str, reason: str) -> None:
    name = module(source) if source else ""
    call = call.format(name)
    with pytest.raises(ConfigError) as caught:
        Python(call=call, path=str(tmp_path)).open(Context())
    assert str(caught.value) == f"call = {call!r}: {reason.format(name)}"


def test_a_function_that_fails_or_returns_nonsense_is_named_with_the_datapoint(module: Write, tmp_path: Path) -> None:
    name = module(
        "def fails(p): return p._replace(val=1 / (p.val - 1))\n"
        "def word(p): return p._replace(val='a')\n"
        "def bare(p): return p.val\n"
        "def none(batch): return None\n"
    )
    calls = {each: f"{name}:{each}" for each in ("fails", "word", "bare", "none")}
    point = "must return DataPoint(ts, a number) or None, not"
    found = {
        each: mistake(Python(call=call, path=str(tmp_path), by="batch" if each == "none" else None), COUNT, [(1, 0), (2, 1)])
        for each, call in calls.items()
    }
    assert found == {
        "fails": (
            PluginError,
            f"k/packet-count-lost/base at 2: {calls['fails']} failed: ZeroDivisionError: division by zero",
        ),
        "word": (PluginError, f"k/packet-count-lost/base at 1: {calls['word']} {point} DataPoint(ts=1, val='a')"),
        "bare": (PluginError, f"k/packet-count-lost/base at 1: {calls['bare']} {point} 0"),
        "none": (PluginError, f"k/packet-count-lost/base: {calls['none']} must return a Batch, not None"),
    }


@pytest.mark.parametrize("call", ["f", "a:", ":f", "a/b:f", "a.py:f()"])
def test_a_call_that_names_no_function_of_a_module_is_refused(call: str) -> None:
    with pytest.raises(ValidationError, match="call"):
        Python(call=call)
