"""What the SQL sink writes and keeps, what it refuses, and what it says."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import adbc_driver_postgresql.dbapi as driver
import pyarrow as pa
import pytest
from esmond_etl_sql import urls, values
from esmond_etl_sql.sink import SQLSink
from pydantic import ValidationError

from esmond_etl import Batch, Context, Interval, Metadata, Reject, Series, SinkError, StoppedError, Task
from esmond_etl.pipeline import file as config
from esmond_etl.testing import DAY, START, Points, deliver, points_of, series

pytestmark = pytest.mark.slow

TIME = Interval(START, START + DAY)

#: Ends all other connections to the database, and waits until they are gone.
ENDED = """
    select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()
"""


@contextmanager
def opened(sink: SQLSink) -> Iterator[SQLSink]:
    sink.open(Context())
    try:
        yield sink
    finally:
        sink.close()


def asked(url: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """What PostgreSQL answers."""
    with driver.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(query, values)
        return [tuple(row) for row in cursor.fetchall()] if cursor.description else []


def ordered(url: str, *statements: str) -> None:
    with driver.connect(url, autocommit=True) as connection:
        for statement in statements:
            with connection.cursor() as cursor:
                cursor.execute(statement)


def moment(ts: int) -> datetime:
    return datetime.fromtimestamp(ts, UTC)


def test_the_tables_are_those_of_the_documentation(database: str) -> None:
    subject = Metadata("k1", "point-to-point", "192.0.2.1", None, None, "bwctl/iperf3", "a", "b", {"x": [1, {"y": "“z”"}]})
    one, two = Series(subject, "throughput"), Series(subject, "failures")
    with opened(SQLSink(url=database)) as sink:
        deliver(sink, {one: [(START, 1.5), (START + 60, 2.0)], two: [(START + 30, {"error": "it's “no”\n"})]}, TIME)
    assert asked(database, "select * from esmond_datapoints order by ts") == [
        (moment(START), "k1", "throughput", "base", "192.0.2.1", None, 1.5),
        (moment(START + 60), "k1", "throughput", "base", "192.0.2.1", None, 2.0),
    ]
    assert asked(
        database, "select ts, metadata_key, event_type, summary, source, destination, val->>'error' from esmond_datapoints_json"
    ) == [(moment(START + 30), "k1", "failures", "base", "192.0.2.1", None, "it's “no”\n")]
    (row,) = asked(database, "select *, parameters #>> '{x,1,y}' from esmond_metadata")
    assert row[:8] == ("k1", "point-to-point", "192.0.2.1", None, None, "bwctl/iperf3", "a", "b")
    assert (json.loads(row[8]), *row[9:]) == ({"x": [1, {"y": "“z”"}]}, moment(START), moment(START + 60), "“z”")
    types = "select column_name, data_type from information_schema.columns where table_name = 'esmond_datapoints' order by ordinal_position"
    texts = [(name, "text") for name in ("metadata_key", "event_type", "summary", "source", "destination")]
    assert asked(database, types) == [("ts", "timestamp with time zone"), *texts, ("val", "double precision")]


def test_metadata_are_kept_as_they_are_now_and_from_first_to_last(database: str) -> None:
    with opened(SQLSink(url=database)) as sink:
        for day, tool in ((3, "iperf"), (1, "iperf3"), (2, "nuttcp")):
            each = Series(Metadata("k", tool_name=tool), "throughput")
            deliver(sink, {each: [(START + day * DAY, 1.0)]}, Interval(START + day * DAY, START + (day + 1) * DAY))
        deliver(sink, {Series(Metadata("silent"), "throughput"): []}, TIME)
    query = "select metadata_key, tool_name, first_seen, last_seen from esmond_metadata"
    assert asked(database, query) == [("k", "nuttcp", moment(START + DAY), moment(START + 3 * DAY))]


def test_values_of_another_type_take_the_place_of_those_that_were_there(database: str) -> None:
    each = series("histogram-owdelay")
    with opened(SQLSink(url=database)) as sink:
        deliver(sink, {each: [(START, {"10": 1})]}, TIME)
        load = sink.begin(Task((each,), TIME, DAY))
        number = Batch.of(each, pa.array([START], pa.timestamp("s", "UTC")), pa.array([10], pa.int64()))
        load.write(number)
        load.end(each)
        load.commit()
        assert points_of(sink.read(each, TIME)) == [(START, 10.0)]


def test_several_values_in_one_second_are_all_kept(database: str) -> None:
    each = series()
    with opened(SQLSink(url=database)) as sink:
        for _ in range(2):
            deliver(sink, {each: [(START, 1.0), (START, 1.0), (START, 2.0)]}, TIME)
        assert sorted(points_of(sink.read(each, TIME))) == [(START, 1.0), (START, 1.0), (START, 2.0)]


def test_what_postgresql_takes_for_no_json_is_rejected_alone(database: str) -> None:
    each, deep = series("failures"), "[" * 100_000 + "]" * 100_000
    texts = ['{"error": "fine"}', r'{"error": "\u0000"}', "no json", deep, r'{"error": "\\u0000 fine"}']
    batch = Batch.of(each, pa.array(range(START, START + 5)).cast(pa.timestamp("s", "UTC")), pa.array(texts))
    with opened(SQLSink(url=database)) as sink:
        load = sink.begin(Task((each, series("failures", key="b")), TIME, DAY))
        load.write(batch)
        load.write(batch.with_series(series("failures", key="b")))  # is not ended: none of its datapoints is delivered or rejected
        load.end(each)
        receipt = load.commit()
        assert points_of(sink.read(each, TIME)) == [(START, {"error": "fine"}), (START + 4, {"error": r"\u0000 fine"})]
    assert receipt.written == 2
    assert [(reject.ts, reject.val, reject.reason.split(":")[0]) for reject in receipt.rejected] == [
        (START + place, texts[place], "PostgreSQL") for place in (1, 2, 3)
    ]
    assert "unsupported Unicode escape sequence" in receipt.rejected[0].reason


def test_sqlite_rejects_the_numbers_that_it_cannot_keep_and_keeps_the_largest(tmp_path: Path) -> None:
    each, nan, largest = series(), float("nan"), 1.7976931348623157e308
    batch = Batch.of(
        each, pa.array(range(START, START + 5)).cast(pa.timestamp("s", "UTC")), pa.array([nan, largest, None, float("inf"), 0.1])
    )
    with opened(SQLSink(url=f"sqlite:{tmp_path}/out.db")) as sink:
        load = sink.begin(Task((each,), TIME, DAY))
        load.write(batch)
        load.end(each)
        receipt = load.commit()
        assert points_of(sink.read(each, TIME)) == [(START + 1, largest), (START + 3, float("inf")), (START + 4, 0.1)]
    reason = "SQLite stores neither NaN nor null as a number"
    assert (receipt.written, receipt.rejected) == (3, tuple(Reject(each, START + place, "null", reason) for place in (0, 2)))


def test_a_delivery_waits_for_another_one_that_is_still_under_way(database: str) -> None:
    each = series()
    with opened(SQLSink(url=database)) as sink, closing(driver.connect(database)) as dead, ThreadPoolExecutor(1) as pool:
        deliver(sink, {each: []}, TIME)
        # what the server still does for a process that was killed at its commit
        with dead.cursor() as cursor:
            cursor.execute(sink._tables.lock)
            cursor.execute(
                "insert into esmond_datapoints (ts, metadata_key, event_type, summary, val)"
                f" values (to_timestamp({START}), 'a1', 'throughput', 'base', 1)"
            )
        again = pool.submit(deliver, sink, {each: [(START, 1.0)]}, TIME)
        waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        while asked(database, waiting) != [(1,)]:
            assert not again.done()
        dead.commit()
        assert again.result().written == 1
        assert points_of(sink.read(each, TIME)) == [(START, 1.0)]


def test_a_delivery_that_waits_in_vain_says_so(database: str) -> None:
    with opened(SQLSink(url=database, timeout=1)) as sink, closing(driver.connect(database)) as other:
        with other.cursor() as cursor:
            cursor.execute(sink._tables.lock)
        with pytest.raises(SinkError) as error:
            deliver(sink, {series(): [(START, 1.0)]}, TIME)
    expected = "another program has been writing to these tables for 1 s; end it, or try again later"
    assert str(error.value) == f"{sink.url}: canceling statement due to lock timeout: {expected}"


def test_connections_that_the_server_has_ended_are_made_again(database: str) -> None:
    each = series()
    with opened(SQLSink(url=database)) as sink:
        deliver(sink, {each: [(START, 1.0)]}, TIME)
        assert asked(database, ENDED) >= [(1,)]
        assert deliver(sink, {each: [(START, 2.0)]}, TIME).written == 1
        assert points_of(sink.read(each, TIME)) == [(START, 2.0)]


def test_the_statements_in_the_documentation_do_what_it_says(database: str) -> None:
    queries, grants = re.findall(r"```sql\n(.*?)```", (Path(__file__).parents[2] / "docs" / "sql.md").read_text(), re.DOTALL)
    subject = Metadata("k", source="198.51.100.10", destination="192.0.2.10", tool_name="pscheduler/owping")
    throughput, delays, failures = (Series(subject, each) for each in ("throughput", "histogram-owdelay", "failures"))
    now = int(time.time())
    given: dict[Series, Points] = {
        throughput: [(START, 2e9), (START + 60, 4e9)],
        delays: [(START, {"10.5": 3, "11": 2**40})],
        failures: [(START, {"error": "long ago"}), (now, {"error": "no route"})],
    }
    with opened(SQLSink(url=database)) as sink:
        deliver(sink, given, Interval(START, now + 1))
    means, buckets, failed = (asked(database, query) for query in queries.split(";")[:3])
    assert means == [(moment(START), 3.0)]
    assert [(at, float(bucket), packets) for at, bucket, packets in buckets] == [
        (moment(START), 10.5, 3),
        (moment(START), 11.0, 2**40),
    ]
    assert failed == [("pscheduler/owping", "no route", 1)]
    role = f"loader_{uuid4().hex}"
    with opened(SQLSink(url=database, schema="perfsonar")):
        pass
    ordered(database, f"create role {role} login", *grants.replace("loader", role).strip().split(";")[:-1])
    with opened(SQLSink(url=database.replace("perfsonar@", f"{role}@"), schema="perfsonar")) as sink:
        assert deliver(sink, given, Interval(START, now + 1)).written == 5
    with pytest.raises(SinkError, match=r": permission denied for database db\w+$"):
        SQLSink(url=database.replace("perfsonar@", f"{role}@"), schema="elsewhere").open(Context())
    ordered(database, f"drop owned by {role}", f"drop role {role}")


def test_deliveries_of_two_processes_to_one_file_take_turns(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/out.db"
    parts = [{series(key=f"{number}"): [(START + ts, float(ts)) for ts in range(500)]} for number in range(8)]
    with opened(SQLSink(url=url)) as one, opened(SQLSink(url=url)) as other, ThreadPoolExecutor(8) as pool:
        sinks = [one, other] * 4
        receipts = list(pool.map(lambda pair: deliver(pair[0], pair[1], TIME), zip(sinks, parts, strict=True)))
        assert [receipt.written for receipt in receipts] == [500] * 8
        assert [points_of(one.read(each, TIME)) for part in parts for each in part] == [
            points for part in parts for points in part.values()
        ]


def test_a_delivery_that_is_told_to_stop_is_not_tried_again(database: str) -> None:
    stop = threading.Event()
    sink = SQLSink(url=database)
    sink.open(Context(stop=stop))
    deliver(sink, {series(): [(START, 1.0)]}, TIME)
    asked(database, ENDED)
    stop.set()
    with pytest.raises(StoppedError):
        deliver(sink, {series(): [(START, 1.0)]}, TIME)
    sink.close()


def test_what_is_wrong_with_the_tables_is_said(database: str) -> None:
    with opened(SQLSink(url=database)) as sink:
        ordered(database, "alter table esmond_metadata drop column tool_name")
        with pytest.raises(SinkError) as error:
            deliver(sink, {series(): [(START, 1.0)]}, TIME)
        assert str(error.value) == f'{sink.url}: column "tool_name" of relation "esmond_metadata" does not exist'
        assert points_of(sink.read(series(), TIME)) == []


@pytest.mark.parametrize(
    ("url", "shown", "password"),
    [
        ("postgresql://me:h%40sh@db/x", "postgresql://me@db/x", "h@sh"),
        (
            "postgresql://me@[::1]:5433/x?password=h%40sh&sslmode=require",
            "postgresql://me@[::1]:5433/x?sslmode=require",
            "h@sh",
        ),
        ("postgres://db/x", "postgresql://db/x", None),
        ("postgresql://me:@db/x", "postgresql://me@db/x", None),
    ],
)
def test_a_password_in_the_url_is_kept_apart(url: str, shown: str, password: str | None) -> None:
    sink = SQLSink(url=url)
    assert (sink.url, sink.password.get_secret_value() if sink.password else None) == (shown, password)
    assert not any(secret in repr(sink) + sink.model_dump_json() for secret in ("h@sh", "h%40sh"))
    assert pickle.loads(pickle.dumps(sink)) == sink
    if password:
        assert "password=h%40sh" in urls.connectable(sink.url, password)


def test_what_fails_is_said_in_one_sentence_without_the_password(database: str, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database " * 1000)
    nobody = database.replace("perfsonar@", "nobody:hush@")
    said = {}
    for url in (
        "postgresql://me:hush@127.0.0.1:1/x",
        nobody,
        f"sqlite:{tmp_path}/no/out.db",
        f"sqlite:{tmp_path}/text.db",
        f"duckdb:{tmp_path}/text.db",
    ):
        with pytest.raises(SinkError) as error:
            SQLSink(url=url).open(Context())
        said[url] = str(error.value)
    assert "hush" not in str(said.values())
    assert said.pop(nobody).endswith('role "nobody" does not exist')
    assert said.pop(f"duckdb:{tmp_path}/text.db").endswith("exists, but it is not a valid DuckDB database file!")
    refused = 'Failed to connect: connection to server at "127.0.0.1", port 1 failed: Connection refused'
    assert list(said.values()) == [
        f"postgresql://me@127.0.0.1:1/x: {refused} Is the server running on that host and accepting TCP/IP connections?",
        f"sqlite:{tmp_path}/no/out.db: there is no folder {tmp_path}/no: make it, or correct `url`",
        f"sqlite:{tmp_path}/text.db: Failed to prepare query: file is not a database",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"url": "mysql://db/x"},
            "is not the URL of a database: write postgresql://USER@HOST/DATABASE, sqlite:PATH or duckdb:PATH",
        ),
        ({"url": "sqlite:///x.db"}, "names no file: write sqlite:PATH, such as sqlite:/data/perfsonar.db"),
        ({"url": "duckdb::memory:"}, "names no file: write duckdb:PATH, such as duckdb:/data/perfsonar.db"),
        ({"url": "sqlite:x.db", "schema": "y"}, "SQLite has no schemas: leave it out"),
        ({"url": "sqlite:x.db", "password": "y"}, "SQLite has no password: leave it out"),
        (
            {"url": "sqlite:x.db", "prefix": "ü" * 30},
            "names of tables and schemas must be shorter: the longest would have 82 bytes, of at most 63",
        ),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError) as error:
        SQLSink(**options)
    assert error.value.errors()[0]["msg"] == f"Value error, {said}"


@pytest.mark.parametrize(
    ("url", "package"),
    [("sqlite:x.db", "'esmond-etl[sql]'"), ("postgresql://db/x", "'esmond-etl[sql]'"), ("duckdb:x.db", "duckdb")],
)
def test_a_driver_that_is_missing_is_named(url: str, package: str, tmp_path: Path) -> None:
    program = f"""
import sys
sys.modules.update(dict.fromkeys(["adbc_driver_sqlite", "adbc_driver_postgresql", "adbc_driver_duckdb"]))
from esmond_etl import Context, PluginError
from esmond_etl_sql.sink import SQLSink
try:
    SQLSink(url="{url}").open(Context())
except PluginError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30, cwd=tmp_path)
    assert re.fullmatch(rf"the sql sink needs the ADBC driver of \w+: pip install {re.escape(package)}\n", done.stdout)


def test_reaching_postgresql_leaves_no_table_behind_and_tells_of_a_right_that_is_missing(database: str) -> None:
    SQLSink(url=database, schema="new").reach(Context())
    assert asked(database, "select count(*) from pg_namespace where nspname = 'new'") == [(0,)]
    role = f"reader_{uuid4().hex}"
    ordered(database, f"create role {role} login")
    with pytest.raises(SinkError, match="permission denied for schema public"):
        SQLSink(url=database.replace("perfsonar@", f"{role}@")).reach(Context())
    ordered(database, f"drop role {role}")


@pytest.mark.parametrize(
    ("urls", "env"),
    [
        (("sqlite:a.db", "sqlite:./a.db"), {}),
        (("duckdb:/data/a.db", "duckdb:/data//a.db"), {}),
        (("postgresql://u@h/db", "postgres://u:s3cret@h:5432/db"), {}),
        (("postgresql:///db?host=/tmp", "postgres:///db?host=/tmp"), {"PGPORT": "5433"}),
    ],
)
def test_two_sinks_in_one_database_are_a_mistake_however_its_url_is_written(
    urls: tuple[str, str], env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    sinks = "".join(f'[[sink]]\ntype = "sql"\nurl = "{url}"\n' for url in urls)
    (tmp_path / "x.toml").write_text(f'from = 2014-01-01\n[source]\ntype = "esmond"\nurl = "https://h/"\n{sinks}')
    _, problems = config.inspect(tmp_path / "x.toml")
    assert [each.what.partition(":")[0] for each in problems if not each.warning] == ["this place is also that of sink[0]"]


def test_a_port_is_left_out_only_where_it_goes_without_saying(monkeypatch: pytest.MonkeyPatch) -> None:
    left = ["postgresql://h1:5432,h2:5432/db", "postgresql://h:5432/db?service=a", "postgresql://h:15432/db"]
    assert [SQLSink(url=url).url for url in left] == left
    monkeypatch.setenv("PGPORT", "5433")
    assert SQLSink(url="postgres://h:5432/db").url == "postgresql://h:5432/db"


def test_metadata_with_a_nul_are_refused_by_name(tmp_path: Path) -> None:
    sink = SQLSink(url=f"sqlite:{tmp_path}/out.db")
    bad = series(remark=["fine", {"x": "a\0b"}])
    assert sink.refusal(bad) == "a1/throughput/base: its metadata contain a NUL character, which no SQL database can store"
    assert sink.refusal(series(remark="a\\u0000b \\x00")) is None


def test_memory_does_not_grow_with_the_task(tmp_path: Path) -> None:
    each, rows = series("failures"), 20_000
    text = pa.array([json.dumps({"error": "x" * 500})] * rows)
    long = Interval(START, START + 60 * rows)
    with opened(SQLSink(url=f"sqlite:{tmp_path}/out.db")) as sink:
        load = sink.begin(Task((each,), long, DAY))
        before = pa.total_allocated_bytes()
        for page in range(10):
            ts = pa.array(range(START + page * rows, START + (page + 1) * rows)).cast(pa.timestamp("s", "UTC"))
            load.write(Batch.of(each, ts, text))
        held = pa.total_allocated_bytes() - before
        load.end(each)
        assert load.commit().written == 10 * rows
        assert sum(map(len, sink.read(each, long))) == 10 * rows
    assert held < 2 * text.nbytes  # 100 MB went in, 10 MB a page


def test_an_empty_opened_histogram_is_an_empty_object() -> None:
    histograms = pa.array([[], [("1", 2)], None], pa.map_(pa.string(), pa.int64()))
    assert values.column(histograms).to_pylist() == ["{}", '{"1":2}', "null"]
