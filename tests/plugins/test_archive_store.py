"""The embedded archive's store: what is written, what becomes of it, and what several threads see of it."""

import json
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from esmond_etl_archive import Archive, Conflict, Refused
from esmond_etl_archive.fold import Point
from esmond_etl_archive.metadata import posted
from esmond_etl_archive.search import Slice, Times
from esmond_etl_archive.statistics import statistics

START = 1709510400


def declared(event_type: str, *summaries: tuple[str, int]) -> dict[str, Any]:
    return {
        "event-type": event_type,
        "summaries": [{"summary-type": kind, "summary-window": window} for kind, window in summaries],
    }


METADATA = {
    "subject-type": "point-to-point",
    "source": "192.0.2.1",
    "destination": "198.51.100.1",
    "measurement-agent": "192.0.2.1",
    "tool-name": "pscheduler/powstream",
    "input-source": "a.example.net",
    "input-destination": "b.example.net",
    "event-types": [
        declared("throughput", ("average", 3600), ("aggregation", 3600), ("aggregation", 0)),
        declared("time-error-estimates", ("average", 3600), ("aggregation", 3600)),
        declared("packet-loss-rate", ("aggregation", 3600)),
        declared("histogram-owdelay", ("aggregation", 3600), ("statistics", 0), ("statistics", 3600), ("statistics", 86400)),
        declared("failures"),
    ],
}
NEW_YEAR = 1704067200  # 2024-01-01


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    archive = Archive(tmp_path / "archive.db")
    yield archive
    archive.close()


@pytest.fixture
def key(archive: Archive) -> str:
    return archive.add(posted(METADATA))


def read(archive: Archive, key: str, event_type: str, kind: str = "base", window: int = 0, limit: int = 100000) -> Any:
    page = archive.page(key, event_type, kind, window, Times(), Slice(limit, 0, True))
    return [(point["ts"], point["val"]) for point in json.loads(page.json)]


def test_what_is_written_is_there_when_the_file_is_opened_again(archive: Archive, key: str) -> None:
    archive.write(key, [Point(START, "throughput", 5)])
    again = Archive(archive.path)
    assert again.add(posted(METADATA)) == key
    assert read(again, key, "throughput") == [(START, 5.0)]
    again.close()


def test_summaries_are_the_same_however_the_datapoints_are_cut_into_requests(archive: Archive, key: str) -> None:
    draw = random.Random(1)
    values = [(START + 61 * i, draw.randrange(10**10)) for i in range(500)]
    rest = [Point(ts, "throughput", value) for ts, value in values]
    while rest:
        size = draw.randrange(1, 60)
        archive.write(key, rest[:size])
        rest = rest[size:]
    bins: dict[int, list[int]] = {}
    for ts, value in values:
        bins.setdefault(ts - ts % 3600, []).append(value)
    assert read(archive, key, "throughput") == [(ts, float(value)) for ts, value in values]
    assert read(archive, key, "throughput", "aggregation") == [(ts, float(value)) for ts, value in values]
    assert read(archive, key, "throughput", "aggregation", 3600) == [(ts, float(sum(b))) for ts, b in bins.items()]
    assert read(archive, key, "throughput", "average", 3600) == [(ts, float(sum(b)) / len(b)) for ts, b in bins.items()]


def test_floats_keep_four_decimals_cut_towards_zero_and_averages_are_of_what_is_kept(archive: Archive, key: str) -> None:
    values = [0.0003, -1.99999, 0.123456]
    archive.write(key, [Point(START + i, "time-error-estimates", value) for i, value in enumerate(values)])
    assert [val for _, val in read(archive, key, "time-error-estimates")] == [0.0002, -1.9999, 0.1234]
    assert read(archive, key, "time-error-estimates", "average", 3600) == [(START, (2 - 19999 + 1234) / 30000)]
    assert read(archive, key, "time-error-estimates", "aggregation", 3600) == [(START, (2 - 19999 + 1234) / 10000)]


def test_loss_rates_are_summed_up_by_their_counts(archive: Archive, key: str) -> None:
    for i, (lost, sent) in enumerate([(1, 3), (0, 600), (7, 600)]):
        archive.write(key, [Point(START + i, "packet-loss-rate", {"numerator": lost, "denominator": sent})])
    assert read(archive, key, "packet-loss-rate", "aggregation", 3600) == [(START, 8 / 1203)]


def test_a_histogram_written_again_is_replaced_and_added_again_to_its_summaries(archive: Archive, key: str) -> None:
    archive.write(key, [Point(START, "histogram-owdelay", {"10.0": 3, "11.0": 1})])
    archive.write(key, [Point(START, "histogram-owdelay", {"12.0": 2}), Point(START, "histogram-owdelay", {"10.0": 1})])
    total = {"10.0": 4, "11.0": 1, "12.0": 2}
    assert read(archive, key, "histogram-owdelay") == [(START, {"10.0": 1})]
    assert read(archive, key, "histogram-owdelay", "aggregation", 3600) == [(START, total)]
    assert read(archive, key, "histogram-owdelay", "statistics", 3600) == [(START, statistics(total))]
    assert read(archive, key, "histogram-owdelay", "statistics") == [(START, statistics({"10.0": 1}))]


def test_statistics_without_an_aggregation_beside_them_are_of_the_last_histogram(archive: Archive, key: str) -> None:
    archive.write(key, [Point(START, "histogram-owdelay", {"1": 1}), Point(START + 60, "histogram-owdelay", {"2": 5})])
    assert read(archive, key, "histogram-owdelay", "statistics", 86400) == [(START, statistics({"2": 5}))]


def test_statistics_are_those_of_the_sample() -> None:
    assert statistics({"3": 1, "1": 2, "2.5": 2}) == {
        "mode": [1.0, 2.5],
        "mean": 2.0,
        "minimum": 1.0,
        "maximum": 3.0,
        "percentile-25": 1.0,
        "median": 2.5,
        "percentile-75": 2.75,
        "percentile-95": 3.0,
        "variance": 0.7,
        "standard-deviation": 0.7**0.5,
    }


@pytest.mark.parametrize("histogram", [{}, {"1": 0}, {"word": 3}, {"nan": 1}, {"inf": 1}, {"1": 5, "9": -1}])
def test_there_are_no_statistics_of_what_is_no_sample_of_numbers(histogram: dict[str, int]) -> None:
    assert statistics(histogram) == {}


def test_a_conflict_keeps_what_came_before_and_its_summaries_and_drops_the_rest(archive: Archive, key: str) -> None:
    archive.write(key, [Point(START + 2, "throughput", 100)])
    points = [Point(START + i, "throughput", 1) for i in range(5)]
    with pytest.raises(Conflict, match=f"throughput at time {START + 2}"):
        archive.write(key, [*points[:1], Point(START, "failures", "kept"), *points[1:], Point(START, "failures", "dropped")])
    assert read(archive, key, "throughput") == [(START, 1.0), (START + 1, 1.0), (START + 2, 100.0)]
    assert read(archive, key, "throughput", "aggregation", 3600) == [(START, 102.0)]
    assert read(archive, key, "throughput", "average", 3600) == [(START, 34.0)]
    assert read(archive, key, "failures") == [(START, "kept")]


@pytest.mark.parametrize(
    ("event_type", "value"),
    [
        ("throughput", None),
        ("throughput", "5.5"),
        ("throughput", 2**63),
        ("throughput", float("inf")),
        ("time-error-estimates", []),
        ("time-error-estimates", 1e300),
        ("packet-loss-rate", 0.5),
        ("packet-loss-rate", {"numerator": 1, "denominator": None}),
        ("histogram-owdelay", {"1": None}),
        ("histogram-owdelay", "text"),
        ("nonsense", 1),
    ],
)
def test_a_value_that_cannot_be_kept_is_refused_and_what_came_before_stays(
    archive: Archive, key: str, event_type: str, value: Any
) -> None:
    with pytest.raises(Refused):
        archive.write(key, [Point(START, "throughput", 1), Point(START + 1, event_type, value)])
    assert read(archive, key, "throughput") == [(START, 1.0)]


@pytest.mark.parametrize("ts", [None, "x", 10**15, [], float("nan")])
def test_a_time_that_is_none_is_refused(archive: Archive, key: str, ts: Any) -> None:
    with pytest.raises(Refused, match="Time must be a unix timestamp"):
        archive.write(key, [Point(ts, "throughput", 1)])


def test_a_sum_too_large_to_be_kept_is_refused_and_the_archive_goes_on(archive: Archive, key: str) -> None:
    with pytest.raises(Refused, match="too large"):
        archive.write(key, [Point(START + i, "throughput", 2**62) for i in range(3)])
    archive.write(key, [Point(START, "throughput", 2**62)])
    assert read(archive, key, "throughput") == [(START, 2.0**62)]


def test_json_of_any_kind_comes_back_as_it_was(archive: Archive, key: str) -> None:
    values: list[Any] = [None, True, 'Zeitüberschreitung\u2028\x00"\\', 1e22, 2**63 + 1, {"a": [1.5, {"": None}]}, [], 10.0, "}],{"]
    archive.write(key, [Point(START + i, "failures", value) for i, value in enumerate(values)])
    assert [value for _, value in read(archive, key, "failures")] == values


def test_pages_are_told_apart_from_the_last_as_esmond_does_it(archive: Archive, key: str) -> None:
    archive.write(key, [Point(NEW_YEAR + i, "throughput", i) for i in range(-3, 3)])

    def more(part: Slice, times: Times = Times()) -> bool:  # noqa: B008
        return archive.page(key, "throughput", "base", 0, times, part).more

    assert more(Slice(2, 0, given=True))  # two in the old year, more in the new one
    assert more(Slice(2, 0, given=False))
    assert not more(Slice(2, 0, given=True), Times(NEW_YEAR))  # of one year it does not know
    assert more(Slice(2, 0, given=False), Times(NEW_YEAR))
    assert not more(Slice(6, 0, given=False))
    assert not more(Slice(2, 4, given=False))
    assert not more(Slice(0, 0, given=True))


@pytest.mark.slow
def test_readers_see_whole_requests_while_a_writer_writes(archive: Archive, key: str) -> None:
    done = threading.Event()

    def keep_reading() -> int:
        reads = 0
        while not done.is_set() or not reads:
            points = read(archive, key, "throughput")
            assert points == [(START + i, 1.0) for i in range(len(points))]
            assert len(points) % 10 == 0
            reads += 1
        return reads

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(keep_reading) for _ in range(5)]
        try:
            for i in range(0, 2000, 10):
                archive.write(key, [Point(START + i + j, "throughput", 1) for j in range(10)])
        finally:
            done.set()
        assert all(reader.result() > 0 for reader in readers)
    assert len(read(archive, key, "throughput")) == 2000


def test_writers_take_turns_and_no_sum_is_lost(archive: Archive, key: str) -> None:
    other = Archive(archive.path)  # as another process would have it

    def keep_writing(number: int) -> None:
        for i in range(50):
            (archive, other)[number % 2].write(key, [Point(START + number * 50 + i, "throughput", 1)])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(keep_writing, range(6)))
    assert read(archive, key, "throughput", "aggregation", 3600) == [(START, 300.0)]
    other.close()


def test_a_file_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()
    with pytest.raises(sqlite3.DatabaseError, match="not an archive"):
        Archive(tmp_path / "other.db")


def test_a_new_file_is_private_to_its_owner(tmp_path: Path) -> None:
    store = Archive(tmp_path / "new.db")
    store.close()
    assert (tmp_path / "new.db").stat().st_mode & 0o777 == 0o600
