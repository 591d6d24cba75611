"""Datapoints and metadata that are not valid: they are reported, and everything beside them goes through, byte for byte."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from esmond_etl import IncompleteError, Metadata, Pipeline, Series
from esmond_etl.cli import group
from esmond_etl.client import wire
from esmond_etl.engine.ledger import Ledger

NUMBERS, TEXTS = Series(Metadata("k"), "throughput"), Series(Metadata("k"), "failures")
Kept = list[tuple[int, Any]]
KIND = {"event-type": "throughput", "base-uri": "/x"}


def kept(body: bytes, series: Series) -> tuple[Kept, list[tuple[int | None, str]]]:
    batch = wire.decode_page(body, series)
    return list(zip(batch.seconds, batch.val.to_pylist(), strict=True)), [(fault.ts, fault.reason) for fault in batch.faults]


@pytest.mark.parametrize(
    ("val", "reason"),
    [
        (b'{"error":"Zeit\xfcber"}', "the value is not valid UTF-8"),
        (b'{"error":"\\ud800"}', "the datapoint is not valid JSON"),
        (b'{"error":NaN}', "the datapoint is not valid JSON"),
    ],
)
def test_a_text_that_is_not_valid_is_left_out_alone(val: bytes, reason: str) -> None:
    good = '{"error": "no route,  “really” \\ud83d\\ude00"}'
    page = b'[{"ts": 1, "val": ' + good.encode() + b'}, {"ts":2,"val":' + val + b'} ,{"val":"x","ts":3}]'
    points, faults = kept(page, TEXTS)
    assert points == [(1, good), (3, '"x"')]
    assert len(faults) == 1
    assert faults[0][1].startswith(reason)


@pytest.mark.parametrize("val", [b'"Null"', b'"NaN"', b'"Infinity"', b"true", b'"12x"', b"[1]", b'""', b"1e999", b'"1e999"', b"{}"])
def test_what_is_no_number_is_left_out_and_the_numbers_beside_it_stay(val: bytes) -> None:
    points, faults = kept(
        b'[{"ts":1,"val":7283024174},{"ts":2,"val":' + val + b'},{"ts":3,"val":"1.5"},{"ts":4,"val":null}]', NUMBERS
    )
    assert points == [(1, 7283024174.0), (3, 1.5), (4, None)]
    assert len(faults) == 1


@pytest.mark.parametrize("ts", [b'"2"', b"2e0", b"2.0", b"2.5", b"null", b"true", b"99999999999999999999", b"-1e3"])
def test_a_ts_that_is_no_whole_second_is_a_fault(ts: bytes) -> None:
    for series in (NUMBERS, TEXTS):
        points, faults = kept(b'[{"ts":1,"val":1},{"ts":' + ts + b',"val":1},{"ts":3,"val":1}]', series)
        assert [ts for ts, _ in points] == [1, 3]
        assert len(faults) == 1


@pytest.mark.parametrize("body", [b"", b"{}", b"[", b'[{"ts":1,"val":1}', b'[{"ts":1,"val":1};', b"null", b"[1,", b"\xff"])
def test_what_is_no_list_is_an_error(body: bytes) -> None:
    for series in (NUMBERS, TEXTS):
        with pytest.raises(ValueError):  # the reason is that of the JSON reader
            wire.decode_page(body, series)


def test_mutated_pages_are_read_as_json_reads_them_or_refused() -> None:
    dice = random.Random(5)
    page = json.dumps(
        [{"ts": 1400000000 + row, "val": {"error": f"no route {row} é"}} for row in range(4)], ensure_ascii=False
    ).encode()
    for _ in range(20_000):
        mutated = bytearray(page)
        for _ in range(dice.randint(1, 3)):
            mutated[dice.randrange(len(mutated))] = dice.choice(b'[]{}",:0123456789tfn\\ \xff\xc3eNu-.')
        try:
            points, faults = kept(bytes(mutated), TEXTS)
        except ValueError:
            continue
        expected = json.loads(bytes(mutated).decode("utf-8", "replace"))
        assert len(points) + len(faults) == len(expected)
        read = [(each["ts"], each["val"]) for each in expected if isinstance(each, dict) and {"ts", "val"} <= each.keys()]
        assert all((ts, json.loads(text)) in read for ts, text in points)


@pytest.fixture
def archive_of(serve: Any, answer: Any) -> Callable[[list[Any], bytes], str]:
    """Starts an archive that lists some entries, and answers every request for data with one page."""

    def start(entries: list[Any], page: bytes) -> str:
        def respond(asked: Any) -> Any:
            if asked.path.endswith("/archive/"):
                return answer(200, json.dumps(entries if asked.query.get("offset") is None else []).encode())
            return answer(200, page if int(asked.query["time-start"]) <= 1 else b"[]")

        return str(serve(respond).url)

    return start


def entry(key: Any, **more: Any) -> dict[str, Any]:
    kinds = [{"event-type": "failures", "base-uri": f"/esmond/perfsonar/archive/{key}/failures/base", "summaries": []}]
    return {"metadata-key": key, "source": "192.0.2.1", "destination": "192.0.2.2", "event-types": kinds, **more}


def pipeline(url: str, folder: Path) -> Pipeline:
    source = {"type": "esmond", "url": url, "retries": 0}
    return Pipeline(
        "p", source=source, sinks=[{"type": "parquet", "path": str(folder / "out")}], from_=0, to="1970-01-02", ledger=str(folder)
    )


def test_a_faulty_datapoint_is_rejected_with_its_place_and_the_others_can_be_read(archive_of: Any, tmp_path: Path) -> None:
    made = pipeline(archive_of([entry("a")], b'[{"ts":1,"val":{"error":"Zeit\xfcber"}},{"ts":2,"val":{"error":"ok"}}]'), tmp_path)
    with pytest.raises(IncompleteError, match="1 rejected datapoints wait"):
        made.run()
    table = ds.dataset(tmp_path / "out" / "event_type=failures", format="parquet", partitioning="hive").to_table()
    assert table["val"].to_pylist() == ['{"error":"ok"}']
    [rejected] = Ledger(tmp_path / "p.ledger").rejected()
    assert (rejected.sink, str(rejected.series), rejected.ts) == ("source", "a/failures/base", 1)
    assert rejected.reason == "the value is not valid UTF-8"


@pytest.mark.parametrize(
    "wrong",
    [
        entry("b", **{"tool-name": {}}),
        entry(None),
        entry(["b"]),
        entry(""),
        {"metadata-key": "b"},
        entry(
            "b",
            **{
                "event-types": [
                    {
                        "event-type": "throughput",
                        "base-uri": "/x",
                        "summaries": [{"summary-type": "average", "summary-window": -1, "uri": "/y"}],
                    }
                ]
            },
        ),
        entry("b", **{"event-types": [{"event-type": "throughput", "base-uri": 5}]}),
        entry("b", **{"event-types": "none"}),
    ],
)
def test_a_metadata_that_is_none_is_set_aside_and_the_rest_is_delivered(archive_of: Any, tmp_path: Path, wrong: Any) -> None:
    made = pipeline(archive_of([entry("a"), wrong, entry("c")], b'[{"ts":2,"val":{"error":"ok"}}]'), tmp_path)
    result = made.run(check=False)
    assert result.sinks["sink[0] (parquet)"].written == 2
    assert len(result.failures) == 1
    assert "the archive lists an invalid entry" in next(iter(result.failures.values()))
    again = made.run(check=False)
    assert (again.read, len(again.failures)) == (0, 1)


@pytest.mark.parametrize("command_line", [["list"], ["get"]], ids=lambda each: each[0])
def test_entries_that_are_not_valid_are_reported_by_list_and_get(
    serve: Any, answer: Any, command_line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    entry = {"metadata-key": "k", "source": "192.0.2.1", "event-types": None}
    server = serve(lambda asked: answer(200, json.dumps([entry]).encode()))
    assert group.run([*command_line, server.url]) == 1
    assert "the archive lists an invalid entry (TypeError" in capsys.readouterr().err


def test_a_moment_beyond_all_integers_of_the_ledger_is_a_fault_without_a_time() -> None:
    batch = wire.decode_page(b'[{"ts": 1%b, "val": 1.0}, {"ts": 1, "val": 2.0}]' % (b"0" * 40), NUMBERS)
    assert ([fault.ts for fault in batch.faults], batch.moments.tolist()) == ([None], [1])


def test_a_number_too_large_for_a_double_is_an_error_with_its_place() -> None:
    batch = wire.decode_page(
        b'[{"ts": 1, "val": {"1": 2}}, {"ts": 5, "val": {"1": 1e400}}]', Series(Metadata("k"), "histogram-ttl")
    )
    with pytest.raises(ValueError, match=r"^k/histogram-ttl/base at 5: the value cannot be read"):
        batch.values()
