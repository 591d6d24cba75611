"""Documents decoded straight into columns: the same datapoints as those read document by document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, cast

import pytest
from esmond_etl_opensearch import datapoints
from esmond_etl_opensearch.search import Page
from esmond_etl_opensearch.together import Together
from hypothesis import example, given, settings
from hypothesis import strategies as st

from esmond_etl import BASE, Batch, Interval, Metadata, Series, Served

ALWAYS = Interval(0, 2**33)


class Answers:
    """The answers of a server to searches: some documents, once a minute."""

    def __init__(self, found: list[dict[str, Any]], between: tuple[str, str] = (",", ":")) -> None:
        self.hits: list[Any] = [{"sort": [1000 * 60 * row], "_source": each} for row, each in enumerate(found)]
        self.between = between

    def pages(self, query: Any, fields: Any, decode: Any = None) -> Iterator[Page]:
        hits = [hit for hit in self.hits if all(self.meets(hit["_source"]["result"], each) for each in query["bool"]["filter"])]
        text = json.dumps({"timed_out": False, "_shards": {"failed": 0}, "hits": {"hits": hits}}, separators=self.between)
        yield Page(text, "http://localhost:9200", decode)

    @staticmethod
    def meets(result: Any, condition: Any) -> bool:
        """Whether a result meets one of the conditions of `codec.reading`; all meet those on tests and times."""
        if "bool" in condition:
            return result.get("succeeded") is False or "error" in result
        wanted = condition.get("term", {}).get("result.succeeded")
        return wanted is None or result.get("succeeded") is wanted


NAMES = (
    "packet-count-sent",
    "packet-count-lost",
    "packet-loss-rate",
    "time-error-estimates",
    "histogram-owdelay",
    "histogram-ttl",
    "failures",
    "pscheduler-run-href",
)
TEST = Metadata(
    "k", "192.0.2.1", "192.0.2.2", "192.0.2.1", "powstream", event_types={name: {BASE: Served("", None)} for name in NAMES}
)
NUMBERS = st.none() | st.integers(0, 2**60) | st.sampled_from([0, 0.0, 0.25])
ODD = NUMBERS | st.booleans() | st.just("7")
BUCKETS = st.lists(st.tuples(st.sampled_from([-1, 0.1, 2, 2.5]), st.integers(0, 9)), max_size=4)


def some(**fields: Any) -> Any:
    """Objects with some of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


def results(number: Any, count: Any) -> Any:
    """Fields of results; `number` and `count` are strategies of what stands there."""
    lists = BUCKETS.map(lambda pairs: {"values": [bucket for bucket, _ in pairs], "counts": [number for _, number in pairs]})
    return some(
        succeeded=st.booleans() | st.just(True),
        error=st.text(max_size=3) | st.none(),
        packets=some(sent=number, lost=number, loss=number),
        packets_sent=number,
        packets_lost=number,
        max_clock_error=number,
        latency=some(histogram=lists | st.none()),
        ttl=some(
            histogram=st.fixed_dictionaries({"values": st.just([57.0, 58.0]), "counts": st.lists(count, min_size=2, max_size=2)})
        ),
    )


PLAIN = results(NUMBERS, st.integers(0, 9))
RESULTS = st.lists(PLAIN, max_size=3) | st.lists(
    PLAIN | results(ODD, st.sampled_from([1, 2.0, "3", None, 2**70])) | st.just({"ttl": None}), max_size=3
)
ORIGINALS: Final[Any] = st.sampled_from(
    [
        {},
        {"histogram-ttl": {"57": 3}},
        {"histogram-owdelay": None},
        {"failures": {"error": 1}},
        {"pscheduler-run-href": {"href": "x"}},
    ]
)
RUNS: Final[Any] = st.sampled_from([{}, {"run_href": None}, {"run_href": "https://x/1"}])


def read_both_ways(found: list[dict[str, Any]], name: str, between: tuple[str, str]) -> tuple[Any, Any]:
    """The datapoints and faults of one series from typed columns where that is possible, and document by document."""
    series, view = Series(TEST, name), cast(Any, Answers(found, between))

    def alone(each: Series, interval: Interval) -> Iterator[Batch]:
        return datapoints.read(view, each, interval)

    def told(batches: Iterator[Batch]) -> Any:
        read = list(batches)
        return [(batch.seconds, batch.val.to_pylist()) for batch in read], [fault for batch in read for fault in batch.faults]

    together = [Series(TEST, each) for each in NAMES]
    typed = datapoints.read_together(Together(view, ()), together, series, ALWAYS, alone)
    return told(typed), told(alone(series, ALWAYS))


@settings(max_examples=400)
@example([{"packets_sent": 0, "packets_lost": 0, "succeeded": True}], {}, {}, "packet-loss-rate", (",", ":"))
@example(
    [{"latency": {"histogram": {"values": [2, 2.0], "counts": [1, 3]}}, "succeeded": True}], {}, {}, "histogram-owdelay", (",", ":")
)
@given(RESULTS, ORIGINALS, RUNS, st.sampled_from(NAMES), st.sampled_from([(",", ":"), (", ", ": ")]))
def test_columns_hold_what_the_documents_hold(
    found: list[Any], original: Any, run: Any, name: str, between: tuple[str, str]
) -> None:
    first = {"esmond": {"json": {"values": original}}} if original else {}
    typed, one_by_one = read_both_ways(
        [{"result": result, "pscheduler": run, **(first if row == 0 else {})} for row, result in enumerate(found)], name, between
    )
    assert typed == one_by_one


def test_plain_documents_become_columns_without_a_look_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    latency = {"histogram": {"values": [0.5, 7], "counts": [3, 4]}}
    result = {"succeeded": True, "packets": {"sent": 600, "lost": 0, "loss": 0.0}, "max_clock_error": 0.1, "latency": latency}
    monkeypatch.setattr(datapoints, "read", None)
    found: list[Any] = [{"result": {**result, "ttl": {"histogram": {"values": [57], "counts": [number]}}}} for number in (3, 4)]
    found += [{"result": {"succeeded": False, "error": "no"}}, {"result": {"succeeded": True}, "pscheduler": {"run_href": "x"}}]
    series = [Series(TEST, name) for name in NAMES]
    pages = Together(cast(Any, Answers(found)), ())
    read = {each.event_type: list(datapoints.read_together(pages, series, each, ALWAYS, lambda *_: iter(()))) for each in series}
    assert {name: [val for batch in batches for val in batch.values()] for name, batches in read.items()} == {
        "packet-count-sent": [600, 600],
        "packet-count-lost": [0, 0],
        "packet-loss-rate": [0.0, 0.0],
        "time-error-estimates": [0.1, 0.1],
        "histogram-owdelay": [{"0.5": 3, "7.0": 4}] * 2,
        "histogram-ttl": [{"57.0": 3}, {"57.0": 4}],
        "failures": [{"error": "no"}],
        "pscheduler-run-href": ["x"],
    }
