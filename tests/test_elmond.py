"""Reading a series from elmond takes few requests and loses nothing, although its pages leave results out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esmond_etl import Batch, Interval, Metadata, Series, Summary
from esmond_etl.client import elmond as client
from esmond_etl.client.archive import Archive
from esmond_etl.client.pages import Page
from esmond_etl.client.reading import Reader

ROOT = "/esmond/perfsonar/archive/"
RUNS = "pscheduler-run-href"


class Document(NamedTuple):
    """A result of a test; what it has no value for is not in `values`."""

    ts: int
    values: dict[str, Any]
    succeeded: bool = True


class Elmond:
    """Finds the documents that succeeded, or that failed for failures, cuts at the limit, and leaves out those without a value after."""

    def __init__(self, answer: Any, documents: list[Document]) -> None:
        self.answer, self.documents = answer, documents
        self.broken: set[str] = set()  # event types that answer 500
        self.asked: list[str] = []  # event types
        self.before: Callable[[], None] = lambda: None  # is called before each answer

    def __call__(self, asked: Any) -> Any:
        self.before()
        name, *kind = asked.path.removeprefix(ROOT + "k/").split("/")
        self.asked.append(name)
        if name in self.broken:
            return self.answer(500, b'{"detail": "no"}')
        start, end, limit = (int(asked.query[each]) for each in ("time-start", "time-end", "limit"))
        found = [each for each in self.documents if start <= each.ts <= end and each.succeeded == (name != "failures")]
        if kind[0] != "base":
            return self._page(self._sums(found, name, int(kind[1]))[:limit])
        return self._page([(each.ts, each.values[name]) for each in found[:limit] if name in each.values])

    def _page(self, rows: list[tuple[int, Any]]) -> Any:
        return self.answer(200, json.dumps([{"ts": ts, "val": val} for ts, val in rows]).encode())

    @staticmethod
    def _sums(found: list[Document], name: str, window: int) -> list[tuple[int, Any]]:
        sums: dict[int, float] = {}
        for each in found:
            start = each.ts - each.ts % window
            sums[start] = sums.get(start, 0) + each.values.get(name, 0)
        return sorted(sums.items())


def series(name: str, summary: str | None = None, names: tuple[str, ...] = ("throughput", "failures", RUNS)) -> Series:
    summaries = [
        {"uri": f"{ROOT}k/{name}/aggregations/{w}", "summary-type": "aggregation", "summary-window": w} for w in (300, 86400)
    ]
    event_types = [{"event-type": each, "base-uri": f"{ROOT}k/{each}/base/0", "summaries": summaries} for each in {*names, name}]
    found = Metadata.from_json({"metadata-key": "k", "event-types": event_types}).series()
    return next(each for each in found if (each.event_type, str(each.summary)) == (name, summary or "base"))


def read(reader: Reader, name: str, interval: Interval, **more: Any) -> list[tuple[int, Any]]:
    return [tuple(point) for batch in reader.datapoints(series(name, **more), interval) for point in batch.to_points()]


def held(documents: list[Document], name: str, interval: Interval) -> list[tuple[int, Any]]:
    """What a reader must find: what the documents have, unlimited."""
    found = [each for each in documents if each.succeeded == (name != "failures") and name in each.values]
    return [(each.ts, each.values[name]) for each in found if interval.start <= each.ts < interval.end]


@pytest.fixture
def served(serve: Any, answer: Any) -> Callable[..., tuple[Elmond, Reader]]:
    def start(documents: list[Document], page: int = 10_000) -> tuple[Elmond, Reader]:
        elmond = Elmond(answer, documents)
        return elmond, Reader(Archive(serve(elmond).url, retries=0), page=page)

    return start


def each_minute(start: int, days: float, **more: Any) -> Iterator[Document]:
    for number in range(int(days * 1440)):
        yield Document(start + 60 * number, {RUNS: f"https://ps.example.net/runs/{number}", "throughput": float(number), **more})


@pytest.mark.slow
def test_a_test_that_runs_each_minute_takes_three_requests_for_ten_thousand_datapoints(served: Any) -> None:
    elmond, reader = served(list(each_minute(0, days=40)))
    interval = Interval(0, 40 * 86400)
    assert read(reader, "throughput", interval) == held(elmond.documents, "throughput", interval)
    assert len(elmond.asked) <= 3 * 5.76 + 3


def test_a_test_with_few_results_takes_three_requests_over_ten_years(served: Any) -> None:
    elmond, reader = served([Document(ts, {RUNS: "x", "throughput": 1.0}) for ts in range(0, 10 * 365 * 86400, 6 * 86400)])
    interval = Interval(0, 10 * 365 * 86400)
    for name in ("throughput", "packet-loss-rate"):
        assert read(reader, name, interval) == held(elmond.documents, name, interval)
    assert elmond.asked == [RUNS, RUNS, "throughput", "packet-loss-rate"]  # what is known of the test serves all its event types


def test_pieces_of_an_interval_read_one_after_the_other_find_out_only_once_when_the_test_ran(served: Any) -> None:
    elmond, reader = served([Document(ts, {RUNS: "x", "throughput": 1.0}) for ts in range(0, 100 * 86400, 4000)])
    found = [
        point for start in range(0, 100, 10) for point in read(reader, "throughput", Interval(start * 86400, (start + 10) * 86400))
    ]
    assert found == held(elmond.documents, "throughput", Interval(0, 100 * 86400))
    assert (elmond.asked.count(RUNS), elmond.asked.count("throughput")) == (2, 10)


def test_results_without_a_value_hide_nothing(served: Any) -> None:
    documents = [Document(ts, {RUNS: "x"} | ({"throughput": float(ts)} if ts % 97 == 0 else {})) for ts in range(0, 5000, 3)]
    elmond, reader = served(documents, page=50)
    assert read(reader, "throughput", Interval(0, 5000)) == held(elmond.documents, "throughput", Interval(0, 5000))
    assert len(elmond.asked) < 100


def test_results_that_no_run_tells_of_hide_nothing(served: Any) -> None:
    documents = [Document(ts, {"throughput": float(ts)} if ts % 10 == 0 else {}) for ts in range(0, 5000)]
    documents[3] = Document(3, {RUNS: "x"})
    elmond, reader = served(documents, page=50)
    assert read(reader, "throughput", Interval(0, 5000)) == held(elmond.documents, "throughput", Interval(0, 5000))


@pytest.mark.parametrize("name", ["throughput", "failures"])
def test_an_archive_that_does_not_tell_of_runs_is_read_in_narrow_windows(served: Any, name: str) -> None:
    elmond, reader = served([Document(ts, {"throughput": 1.0, "failures": {}}, ts % 2 == 0) for ts in range(0, 3000, 50)], page=100)
    elmond.broken = {RUNS}
    assert read(reader, name, Interval(0, 3000)) == held(elmond.documents, name, Interval(0, 3000))
    assert elmond.asked.count(name) >= 30


def test_results_that_arrive_while_they_are_read_are_found(served: Any) -> None:
    elmond, reader = served([Document(100, {RUNS: "x", "throughput": 0.0})])
    new = [Document(ts, {RUNS: "x", "throughput": float(ts)}) for ts in range(101, 160)]

    def arrive() -> None:
        if elmond.asked[-2:] == [RUNS, RUNS]:
            elmond.documents += new
            new.clear()

    elmond.before = arrive
    assert read(reader, "throughput", Interval(0, 1000)) == held(elmond.documents, "throughput", Interval(0, 1000))
    assert (len(elmond.documents), elmond.asked.count("throughput")) == (60, 2)


def test_failed_runs_are_read_with_few_requests(served: Any) -> None:
    documents = list(each_minute(0, days=30))
    for place in range(100, len(documents), 400):
        documents[place] = Document(documents[place].ts, {"failures": {"error": str(place)}}, succeeded=False)
    elmond, reader = served(documents)
    interval = Interval(0, 30 * 86400)
    assert read(reader, "failures", interval) == held(elmond.documents, "failures", interval)
    assert elmond.asked.count("failures") <= 30


def test_an_interval_without_a_second_has_no_datapoints(served: Any) -> None:
    _, reader = served([Document(5, {RUNS: "x"})])
    assert [read(reader, name, Interval(5, 5)) for name in ("throughput", "failures")] == [[], []]


def test_equal_results_in_one_second_are_all_there(served: Any) -> None:
    values = {RUNS: "x", "throughput": 2.5}
    _, reader = served([Document(1, values), *[Document(2, values)] * 3, Document(3, values)], page=4)
    assert read(reader, "throughput", Interval(0, 10)) == [(1, 2.5), *[(2, 2.5)] * 3, (3, 2.5)]


def test_a_summary_is_asked_for_in_whole_windows(served: Any) -> None:
    _, reader = served([Document(ts, {RUNS: "x", "throughput": 1.0}) for ts in range(0, 4 * 86400, 7200)], page=4)
    found = [read(reader, "throughput", Interval(*each), summary="aggregation/86400") for each in ((0, 90000), (90000, 400000))]
    assert found == [[(0, 12.0), (86400, 12.0)], [(2 * 86400, 12.0), (3 * 86400, 12.0)]]
    assert Summary("aggregation", 86400) == series("throughput", "aggregation/86400").summary


STEPS = st.sampled_from([0, 0, 1, 1, 2, 60, 4000])
KINDS = st.sampled_from(["both", "both", "run", "run", "value", "neither", "failed"])


def page_of(documents: list[Document], series: Series, asked: Interval, limit: int) -> Page:
    """What elmond answers, without a server: cut at `limit` documents, those without a value left out after."""
    name = series.event_type
    found = [each for each in documents if asked.start <= each.ts < asked.end and each.succeeded == (name != "failures")][:limit]
    points = [(each.ts, each.values[name]) for each in found if name in each.values]
    return Page(len(points), Batch.from_points(series, points))


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(made=st.lists(st.tuples(STEPS, KINDS), max_size=120), cuts=st.sets(st.integers(0, 9000), max_size=3))
def test_whatever_results_there_are_they_are_read_once(made: list[tuple[int, str]], cuts: set[int]) -> None:
    """Unless half a page of results in a row has no run, or one second has more than that, nothing is lost."""
    documents, ts, number, in_second, silent = list[Document](), 0, 0, 0, 0
    for step, kind in made:
        ts, number = ts + step, number + 1
        in_second = 0 if step else in_second
        if in_second == 3 or (kind in ("neither", "value") and silent == 3):
            continue
        in_second += 1
        silent = {"neither": silent + 1, "value": silent + 1, "failed": silent}.get(kind, 0)
        values: dict[str, Any] = {RUNS: str(number)} if kind in ("both", "run") else {}
        values |= {"throughput": float(number % 3)} if kind in ("both", "value") else {}
        values |= {"failures": {"error": str(number)}} if kind == "failed" else {}
        documents.append(Document(ts, values, kind != "failed"))
    elmond = client.Elmond(partial(page_of, documents), page=8, spacing=1)
    edges = sorted({0, *cuts, ts + 1})
    for name in ("throughput", "failures", RUNS):
        pieces = [elmond.datapoints(series(name), Interval(*each)) for each in pairwise(edges)]
        found = [tuple(point) for piece in pieces for batch in piece for point in batch.to_points()]
        assert found == held(documents, name, Interval(0, edges[-1]))
