"""`esmond_etl.read`: an archive as one table."""

import json
import tracemalloc
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from esmond_etl_archive import load, records

import esmond_etl
from esmond_etl import ArchiveError, ConfigError
from esmond_etl.client.archive import Archive

TS = 1397075053
TEXT = pa.dictionary(pa.int32(), pa.string())
SUBJECT = ("source", "destination", "measurement_agent", "tool_name", "input_source", "input_destination")
COLUMNS = ("metadata_key", *SUBJECT, "parameters", "event_type", "summary")


def record(tool: str, datapoints: dict[str, Any]) -> dict[str, Any]:
    """What an archive loads."""
    daily = {"packet-count-sent": "aggregation", "histogram-ttl": "aggregation"}
    metadata = {
        "subject-type": "point-to-point",
        "source": "198.51.100.1",
        "destination": "2001:db8::1",
        "tool-name": tool,
        "measurement-agent": "198.51.100.1",
        "input-source": "a.example.net",
        "input-destination": "b.example.net",
        "ip-tos": "32",
        "event-types": [
            {"event-type": name, "summaries": [{"summary-type": daily[name], "summary-window": 86400}] if name in daily else []}
            for name in datapoints
        ],
    }
    return {"metadata": metadata, "datapoints": datapoints}


@pytest.fixture
def filled(archive: Any) -> Any:
    """An archive with two tests."""
    sent = [[TS + number, number] for number in range(5)]
    load(
        archive.archive,
        [
            record("powstream", {"packet-count-sent": sent, "packet-count-lost": [[TS, 1]], "histogram-ttl": [[TS, {"9": 1}]]}),
            record("halfping", {"packet-count-sent": [[TS, 7]], "failures": [[TS, {"error": "x"}]]}),
        ],
    )
    return archive


def test_a_table_has_the_columns_of_the_parquet_sink(filled: Any) -> None:
    table = esmond_etl.read(filled.url, event_type="packet-count-lost")
    assert table.schema == pa.schema([("ts", pa.timestamp("s", "UTC")), ("val", pa.float64()), *((name, TEXT) for name in COLUMNS)])
    assert table.to_pylist() == [
        {
            "ts": datetime.fromtimestamp(TS, UTC),
            "val": 1.0,
            "metadata_key": table.column("metadata_key")[0].as_py(),
            "source": "198.51.100.1",
            "destination": "2001:db8::1",
            "measurement_agent": "198.51.100.1",
            "tool_name": "powstream",
            "input_source": "a.example.net",
            "input_destination": "b.example.net",
            "parameters": '{"ip-tos":"32"}',
            "event_type": "packet-count-lost",
            "summary": "base",
        }
    ]


def test_the_parquet_sink_writes_the_same_columns() -> None:
    from esmond_etl.client.table import SUBJECT
    from esmond_etl.tables.columns import SCHEMAS
    from esmond_etl.tables.typed import TYPES

    for (kind, is_named), schema in SCHEMAS.items():
        beside = [kind] if kind in TYPES else []  # what is opened beside `val`
        assert schema.names == [
            "ts",
            "val",
            *beside,
            *SUBJECT[:-2],
            *(["archive"] if is_named else []),
        ]  # the event type and the summary are in the names of its folders
        assert [schema.field(name).type for name in SUBJECT[:-2]] == [TEXT] * len(SUBJECT[:-2])


@pytest.mark.parametrize(
    ("event_type", "summaries", "val", "values"),
    [
        ("packet-count-sent", "base", pa.float64(), [0, 1, 2, 3, 4, 7]),
        ("packet-count-sent", ["aggregation/86400"], pa.float64(), [7, 10]),
        (["packet-count-sent", "packet-count-lost"], "base", pa.float64(), [0, 1, 1, 2, 3, 4, 7]),
        ("histogram-ttl", ["base", "aggregation/86400"], pa.map_(pa.string(), pa.int64()), [[("9", 1)], [("9", 1)]]),
        ("failures", "base", pa.string(), ['{"error":"x"}']),
        ("path-mtu", "base", pa.float64(), []),
    ],
)
def test_values_have_the_type_of_what_is_read(filled: Any, event_type: Any, summaries: Any, val: Any, values: list[Any]) -> None:
    table = esmond_etl.read(filled.url, event_type, summaries=summaries)
    assert table.schema.field("val").type == val
    assert sorted(table.column("val").to_pylist()) == values


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (TS + 1, TS + 3),
        (datetime.fromtimestamp(TS + 1, UTC), datetime.fromtimestamp(TS + 3, UTC)),
        ("2014-04-09T20:24:14Z", "2014-04-09T22:24:16+02:00"),
        (datetime(2014, 4, 9, 20, 24, 14), datetime(2014, 4, 9, 20, 24, 16)),
    ],
)
def test_the_end_is_not_included(filled: Any, start: Any, end: Any) -> None:
    assert esmond_etl.read(filled.url, "packet-count-sent", start=start, end=end).column("val").to_pylist() == [1, 2]


def test_a_date_begins_at_midnight_in_utc(filled: Any) -> None:
    assert esmond_etl.read(filled.url, "packet-count-sent", start=date(2014, 4, 9), end="2014-04-10").num_rows == 6


@pytest.mark.parametrize(
    ("filters", "count"),
    [({"tool_name": "halfping"}, 1), ({"source": "198.51.100.2"}, 0), ({"destination": "2001:db8::1"}, 6), ({"ip_tos": 32}, 6)],
)
def test_filters_are_the_archives_own(filled: Any, filters: dict[str, Any], count: int) -> None:
    assert esmond_etl.read(filled.url, "packet-count-sent", **filters).num_rows == count


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (
            {"event_type": ["packet-count-sent", "histogram-ttl"]},
            "one table has values of one type: .*histogram-ttl base: map<.*double",
        ),
        ({"event_type": []}, "no event types"),
        ({"event_type": "throughput", "summaries": "average"}, "'average' is not a summary"),
        ({"event_type": "throughput", "start": "soon"}, "'soon' is not a time"),
        ({"event_type": "throughput", "start": TS, "end": TS}, "does not lie after"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_asked_for(filled: Any, asked: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        esmond_etl.read(filled.url, **asked)
    assert not filled.requests


def test_batches_come_a_page_at_a_time_in_bounded_memory(archive: Any) -> None:
    load(archive.archive, [record("powstream", {"packet-count-sent": [[TS + number, number] for number in range(44_990)]})])
    reader = esmond_etl.read(archive.url, "packet-count-sent", batches=True)
    assert archive.requests["GET"] == 0
    assert isinstance(reader, pa.RecordBatchReader)
    allocated, held, rows = pa.total_allocated_bytes(), [], 0
    tracemalloc.start()
    for batch in reader:
        rows += batch.num_rows
        held.append(pa.total_allocated_bytes() - allocated)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 44_990
    assert archive.requests["GET"] == 6
    assert max(held) < 10_000 * 100
    assert peak < 10_000 * 400


def test_a_page_that_fails_on_the_way_raises_the_archives_error(
    archive: Any, proxy: Callable[..., Any], answer: Callable[..., Any]
) -> None:
    load(archive.archive, [record("powstream", {"packet-count-sent": [[TS + number, number] for number in range(20_100)]})])

    def meddle(asked: Any, real: Any) -> Any:
        return answer(404, b'{"detail": "gone"}') if asked.query.get("time-start") == str(TS + 10_000) else real

    url = proxy(archive.url, meddle).url
    reader = esmond_etl.read(url, "packet-count-sent", start=TS, batches=True)
    assert reader.read_next_batch().num_rows == 10_000
    with pytest.raises(ArchiveError, match="status 404: gone"):
        reader.read_next_batch()
    with pytest.raises(ArchiveError, match="status 404: gone"):
        esmond_etl.read(url, "packet-count-sent", start=TS)


def test_an_archive_with_options_stands_for_a_url(filled: Any) -> None:
    assert esmond_etl.read(Archive(filled.url, api_key="secret"), "packet-count-sent").num_rows == 6
    with pytest.raises(ArchiveError, match="Invalid token"):
        esmond_etl.read(Archive(filled.url, api_key="nope"), "packet-count-sent")


def test_real_measurements_come_out_as_they_went_in(archive: Any, esnet: Path) -> None:
    load(archive.archive, records(esnet))
    for entry in json.loads(esnet.read_text()):
        for name, datapoints in entry["datapoints"].items():
            table = esmond_etl.read(archive.url, name, source=entry["metadata"]["source"], tool_name=entry["metadata"]["tool-name"])
            values = [dict(val) if isinstance(val, list) else val for val in table.column("val").to_pylist()]
            seconds = table.column("ts").cast(pa.int64()).to_pylist()
            assert list(zip(seconds, values, strict=True)) == [
                (ts, val) for ts, val in sorted(datapoints, key=lambda point: point[0])
            ]
