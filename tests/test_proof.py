"""Digests find what a sink has lost; receipts, repair, samples and parts: on a mirror, a Parquet tree and an SQL database."""

from __future__ import annotations

import json
import random
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from esmond_etl_archive.samples import START
from hypothesis import given
from hypothesis import strategies as st

import esmond_etl
from esmond_etl import Batch, Interval, Series, moment
from esmond_etl.cli.group import run
from esmond_etl.engine.ledger import Ledger
from esmond_etl.model import buckets
from esmond_etl.model.digest import Digester, Window, canonical, root, total
from esmond_etl.testing.datapoints import series as made_up

pytestmark = pytest.mark.slow

DAY = 86400
DOCS = Path(__file__).parents[1] / "docs" / "digest.md"


def digested(series: Series, points: list[tuple[int, Any]], cuts: list[int], window: int = 3600) -> list[Window]:
    """The digests of datapoints that come in several batches."""
    found: list[Window] = []
    edges = [0, *sorted(cut % (len(points) + 1) for cut in cuts), len(points)]
    batches = [Batch.from_points(series, points[a:b]) for a, b in pairwise(edges)]
    assert list(Digester(window).through(batches, found)) == batches
    return found


POINTS = st.dictionaries(st.integers(START, START + 20_000), st.floats(allow_nan=False, width=32), max_size=30).map(
    lambda found: sorted(found.items())
)


@given(POINTS, st.lists(st.integers(0, 30), max_size=3))
def test_a_digest_does_not_depend_on_how_datapoints_are_cut_into_batches(points: list[tuple[int, float]], cuts: list[int]) -> None:
    series = made_up("throughput")
    whole = digested(series, points, [])
    assert digested(series, points, cuts) == whole
    assert sum(window.number for window in whole) == len(points)
    assert [window.start for window in whole] == sorted({ts // 3600 * 3600 for ts, _ in points})


@given(POINTS.filter(bool), st.data())
def test_a_digest_changes_with_each_value_and_each_moment(points: list[tuple[int, float]], data: st.DataObject) -> None:
    series, place = made_up("throughput"), data.draw(st.integers(0, len(points) - 1))
    before = digested(series, points, [])
    ts, val = points[place]
    others = [*points[:place], *points[place + 1 :]]
    assert digested(series, others, []) != before
    assert digested(series, [*points[:place], (ts, val + 1 if abs(val) < 1e9 else -val), *points[place + 1 :]], []) != before
    if ts + 1 not in dict(points):
        assert digested(series, sorted([*others, (ts + 1, val)]), []) != before


#: Buckets as archives write them, and counts as they do, or nearly.
BUCKETS = st.text("0123456789.-+e", min_size=1, max_size=6)
COUNTS = st.integers(0, 10**6) | st.sampled_from([1.5, -3, True, "1"])


@given(
    st.lists(st.dictionaries(BUCKETS, COUNTS, max_size=6), min_size=1, max_size=4),
    st.sampled_from([(", ", ": "), (",", ":"), (" ,", " : ")]),
)
def test_histograms_are_digested_like_any_other_json(histograms: list[dict[str, Any]], separators: tuple[str, str]) -> None:
    texts = pa.array([json.dumps(each, separators=separators) for each in histograms])
    plain = "".join(json.dumps(each, separators=(",", ":"), sort_keys=True) + "," for each in histograms)
    assert canonical(texts, are_histograms=True) == canonical(texts) == plain.encode()


def test_most_histograms_are_not_decoded_for_their_digest() -> None:
    texts = pa.array(['{"10": 1, "9.5": 2}', "{}", '{"1":3,"-1":4}'])
    assert buckets.canonical(texts) == [b'{"10":1,"9.5":2}', b"{}", b'{"-1":4,"1":3}']
    assert buckets.canonical(texts.slice(1)) == [b"{}", b'{"-1":4,"1":3}']
    assert [buckets.canonical(pa.array([text])) for text in ('{"1": 1.0}', '{"1": 1e3}', '{"a": 1}', "[1]", '{"1": 1} ')] == [
        None
    ] * 5


def test_json_is_digested_by_its_content() -> None:
    assert canonical(pa.array(['{"b": 1, "a":[1.5, "ü"]}', None])) == '{"a":[1.5,"ü"],"b":1},null,'.encode()
    assert canonical(pa.array(["{broken"])) == b"{broken,"
    assert canonical(pa.array([[("10", 1), ("9", 2)]], pa.map_(pa.string(), pa.int64()))) == b'{"10":1,"9":2},'
    one, other = (digested(made_up("throughput"), [(START, value)], []) for value in (0.0, -0.0))
    assert one == other


def test_the_root_depends_on_all_series_and_on_no_order() -> None:
    first, second = Window(0, 2, b"a" * 16), Window(3600, 1, b"b" * 16)
    whole = total([first, second])
    assert (whole.number, whole) == (3, total([second, first])._replace(start=whole.start))
    assert root([("x", first), ("y", second)]) == root([("y", second), ("x", first), ("z", Window(0, 0, b""))])
    assert root([("x", first)]) != root([("x", second)])


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Any]:
    """An archive with samples of three days."""
    store = esmond_etl_archive.Archive(tmp_path / "source.db")
    esmond_etl_archive.load(store, esmond_etl_archive.sample(days=3, hosts=3))
    with esmond_etl_archive.serve(store) as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Any]:
    with esmond_etl_archive.serve(tmp_path / "target.db", token="t") as running:
        yield running


def pipeline(folder: Path, source: str, name: str, *sinks: str, **more: str) -> Path:
    path = folder / f"{name}.toml"
    settings = {"from": START, "to": START + 4 * DAY, "window": '"1d"', **more}
    lines = [f'name = "{name}"', *(f"{key} = {value}" for key, value in settings.items())]
    lines += ["[source]", 'type = "esmond"', f'url = "{source}"', *("[[sink]]\n" + sink for sink in sinks)]
    path.write_text("\n".join([*lines, ""]))
    return path


def sql(folder: Path) -> str:
    return f'type = "sql"\nurl = "sqlite:{folder}/out.db"\n'


def answered(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON of `esmond-etl verify`."""
    code = run(["verify", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_an_archive_its_mirror_and_its_exports_have_one_root(
    source: Any, target: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror = f'type = "esmond"\nurl = "{target.url}"\nusername = "u"\napi_key = "t"\n'
    path = pipeline(tmp_path, source.url, "all", mirror, 'type = "parquet"\npath = "out"\n', sql(tmp_path))
    esmond_etl.load(path).run()
    assert run(["verify", str(path), "--quick", "--receipt", str(tmp_path / "receipt.json")]) == 0
    receipt = json.loads((tmp_path / "receipt.json").read_text())
    roots = {each["root"] for each in receipt["sinks"]}
    assert (len(receipt["sinks"]), len(roots)) == (3, 1)
    assert "api_key" not in json.dumps(receipt)
    code = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.S)
    assert code
    script = tmp_path / "root.py"
    script.write_text(code[1])
    printed = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "out"), str(DAY)], check=True, capture_output=True, text=True
    )
    assert {printed.stdout.strip()} == roots
    capsys.readouterr()
    restored = pipeline(tmp_path, source.url, "restored", sql(tmp_path / "again"))
    (tmp_path / "again").mkdir()
    text = restored.read_text().replace(f'type = "esmond"\nurl = "{source.url}"', f'type = "parquet"\npath = "{tmp_path}/out"')
    restored.write_text(text)
    esmond_etl.load(restored).run()
    assert run(["verify", str(restored), "--receipt", str(tmp_path / "second.json")]) == 0
    assert {each["root"] for each in json.loads((tmp_path / "second.json").read_text())["sinks"]} == roots


DAMAGES = {
    "flipped": "update esmond_datapoints set val = val + 1 where rowid = ?",
    "removed": "delete from esmond_datapoints where rowid = ?",
    "moved": "update esmond_datapoints set ts = ts + 1 where rowid = ?",
    "added": "insert into esmond_datapoints select * from esmond_datapoints where rowid = ?",
}


@pytest.fixture
def loaded(source: Any, tmp_path: Path) -> tuple[Path, Any]:
    path = pipeline(tmp_path, source.url, "sql", sql(tmp_path))
    esmond_etl.load(path).run()
    return path, source


def damage(folder: Path, statement: str, times: int = 1) -> None:
    with closing(sqlite3.connect(folder / "out.db")) as db, db:
        rows = [row for (row,) in db.execute("select rowid from esmond_datapoints order by rowid")]
        for row in random.Random(3).sample(rows, times):
            db.execute(statement, (row,))


@pytest.mark.parametrize("kind", DAMAGES)
def test_one_damaged_datapoint_is_found_by_digests_and_repaired(
    loaded: tuple[Path, Any], kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, source = loaded
    code, whole = answered(capsys, str(path), "--quick")
    assert (code, whole["differing"]) == (0, [])
    assert whole["windows_by_digest"] > 0
    source.requests.clear()
    damage(tmp_path, DAMAGES[kind])
    code, found = answered(capsys, str(path), "--quick", "--output", str(tmp_path / "differences.jsonl"))
    (differing,) = found["differing"]
    assert (code, differing["missing"] + differing["extra"] + differing["different"]) == (1, {"moved": 2}.get(kind, 1))
    told = [json.loads(line) for line in (tmp_path / "differences.jsonl").read_text().splitlines()]
    assert len(told) == {"moved": 2}.get(kind, 1)
    assert sum(source.requests.values()) <= 4  # the list, and the one window
    code, repaired = answered(capsys, str(path), "--quick", "--repair")
    assert (code, repaired["differing"], repaired["repaired"]) == (0, [], 1)
    assert answered(capsys, str(path))[0] == 0


def test_damage_at_random_is_repaired_and_nothing_else_is_sent(
    loaded: tuple[Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = loaded
    damage(tmp_path, DAMAGES["flipped"], 40)
    with closing(Ledger(tmp_path / ".esmond-etl" / "sql.ledger")) as ledger:
        before = ledger.last_run()
    code, repaired = answered(capsys, str(path), "--quick", "--repair", "--output", str(tmp_path / "all.csv"))
    assert (code, repaired["differing"]) == (0, [])
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 41
    with closing(Ledger(tmp_path / ".esmond-etl" / "sql.ledger")) as ledger:
        after = ledger.last_run()
    assert before and after and 0 < after["read"] < before["read"]


def test_a_receipt_says_whether_a_sink_has_changed_since(
    loaded: tuple[Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = loaded
    receipt = str(tmp_path / "receipt.json")
    assert run(["verify", str(path), "--receipt", receipt]) == 0
    assert run(["verify", str(path), "--check-receipt", receipt]) == 0
    assert "sink[0] (sql): holds what the receipt says" in capsys.readouterr().out
    damage(tmp_path, DAMAGES["removed"])
    assert run(["verify", str(path), "--check-receipt", receipt]) == 1
    assert re.search(r"differs from the receipt: \S+ [\d,]+ then, [\d,]+ now", capsys.readouterr().out)
    (tmp_path / "none.json").write_text("{}")
    assert run(["verify", str(path), "--check-receipt", str(tmp_path / "none.json")]) == 2


def test_parts_together_are_everything_and_a_sample_is_a_part(loaded: tuple[Path, Any], capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = loaded
    _, whole = answered(capsys, str(path))
    parts = [answered(capsys, str(path), "--part", f"{number}/3")[1] for number in (1, 2, 3)]
    assert sum(part["equal"] for part in parts) == whole["equal"]
    assert sum(part["series"] for part in parts) == whole["series"]
    _, sample = answered(capsys, str(path), "--sample", "30%")
    assert (sample["series"], 0 < sample["equal"] < whole["equal"]) == (whole["series"], True)
    for wrong in (["--sample", "2"], ["--part", "4/3"], ["--output", "x.txt"]):
        assert run(["verify", str(path), *wrong]) == 2
    capsys.readouterr()


def test_a_ledger_of_an_older_version_is_read_and_its_windows_are_compared_with_the_source(
    loaded: tuple[Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = loaded
    with closing(sqlite3.connect(tmp_path / ".esmond-etl" / "sql.ledger")) as db, db:
        for table in ("proven", "digest", "series"):
            db.execute(f"drop table {table}")
        db.execute("update about set value = '1' where name = 'version'")
    code, found = answered(capsys, str(path), "--quick")
    assert (code, found["windows_by_digest"], found["differing"]) == (0, 0, [])
    assert found["equal"] > 0
    interval = Interval(START, START + DAY)
    with closing(Ledger(tmp_path / ".esmond-etl" / "sql.ledger")) as ledger:
        assert ledger.about("version") == "3"
        assert ledger.digests(made_up("throughput").id, interval) == []


def test_status_has_the_times_of_the_first_and_the_last_datapoint(
    loaded: tuple[Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = loaded
    capsys.readouterr()
    assert run(["status", str(path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["series"]
    assert any(row["datapoints"] > 1 for row in rows)
    with closing(sqlite3.connect(tmp_path / "out.db")) as db:
        for row in rows:
            key, event_type, summary = row["series"].split("/", 2)
            of_series = "where metadata_key = ? and event_type = ? and summary = ?"
            tables = [f"select ts from esmond_datapoints{each} {of_series}" for each in ("", "_json")]
            query = f"select count(*), min(ts), max(ts) from ({' union all '.join(tables)})"
            number, *ends = db.execute(query, (key, event_type, summary) * 2).fetchone()
            shown = [moment(end) if end is not None else None for end in ends]
            assert [row["datapoints"], row["first"], row["last"]] == [number, *shown]


def test_windows_of_an_older_version_are_compared_without_the_times_of_their_datapoints(
    loaded: tuple[Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = loaded
    with closing(sqlite3.connect(tmp_path / ".esmond-etl" / "sql.ledger")) as db, db:
        for column in ("first", "last"):
            db.execute(f"alter table digest drop column {column}")
        db.execute("update about set value = '2' where name = 'version'")
    code, found = answered(capsys, str(path), "--quick")
    assert (code, found["windows_by_digest"] > 0, found["differing"]) == (0, True, [])
    assert run(["status", str(path), "--json"]) == 0
    firsts = [row["first"] for row in json.loads(capsys.readouterr().out)["series"] if row["datapoints"]]
    assert {len(first) for first in firsts} == {len("2024-03-04")}, "the beginnings of their windows, without a time of the day"


def test_archives_and_trees_are_compared_without_a_pipeline(
    source: Any, target: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror = f'type = "esmond"\nurl = "{target.url}"\nusername = "u"\napi_key = "t"\n'
    path = pipeline(tmp_path, source.url, "both", mirror, 'type = "parquet"\npath = "out"\n')
    result = esmond_etl.load(path).run()
    for other in (target.url, str(tmp_path / "out")):
        assert run(["compare", source.url, other, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["equal"], found["only_in_a"], found["only_in_b"]) == (result.read, 0, 0)
    assert run(["compare", source.url, target.url, "--summaries", "--event-type", "throughput"]) == 0
    capsys.readouterr()
    few = pipeline(tmp_path, source.url, "few", 'type = "parquet"\npath = "few"\n', to=str(START + DAY))
    esmond_etl.load(few).run()
    output = tmp_path / "differences.csv"
    assert run(["compare", source.url, str(tmp_path / "few"), "--output", str(output)]) == 1
    assert "series differ" in capsys.readouterr().out
    assert len(output.read_text().splitlines()) - 1 == result.read - esmond_etl.load(few).run(reload=True).read
    assert run(["compare", source.url, "ftp://x/"]) == 2
    assert "cannot be read: give the URL of an archive" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["parquet", "mirror"])
def test_one_of_a_hundred_datapoints_is_repaired_in_a_tree_and_in_a_mirror(
    source: Any, target: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    sinks = {
        "parquet": 'type = "parquet"\npath = "out"\n',
        "mirror": f'type = "esmond"\nurl = "{target.url}"\nusername = "u"\napi_key = "t"\nquiet = "1s"\n',
    }
    path = pipeline(tmp_path, source.url, kind, sinks[kind], window='"1h"')
    esmond_etl.load(path).run()
    broken = {"parquet": damage_tree, "mirror": damage_mirror}[kind](tmp_path)
    code, repaired = answered(capsys, str(path), "--repair")
    assert (code, repaired["differing"]) == (0, [])
    with closing(Ledger(tmp_path / ".esmond-etl" / f"{kind}.ledger")) as ledger:
        first, *_, last = ledger.runs()
    assert 0 < broken <= last["read"] < first["read"] / 4
    if kind == "mirror":
        assert last["written"] == broken
    assert answered(capsys, str(path))[0] == 0


def damage_tree(folder: Path) -> int:
    """Flip one of a hundred numbers in some files of a tree; returns how many."""
    count = 0
    for file in sorted((folder / "out" / "event_type=packet-count-sent").glob("**/*.parquet"))[:1]:
        rows = pq.read_table(file, partitioning=None)
        values = [value + 1 if place % 100 == 7 else value for place, value in enumerate(rows["val"].to_pylist())]
        count += sum(place % 100 == 7 for place in range(len(values)))
        pq.write_table(rows.set_column(rows.schema.get_field_index("val"), "val", pa.array(values, pa.float64())), file)
    return count


def damage_mirror(folder: Path) -> int:
    """Delete one of a hundred numbers of a kind from the file of an archive; returns how many."""
    with closing(sqlite3.connect(folder / "target.db", timeout=30)) as db, db:
        chosen = "series in (select id from series where event_type = 'packet-count-sent' and summary_type = 'base')"
        return db.execute(f"delete from datapoint where {chosen} and (ts / 300) % 100 = 7").rowcount
