"""Several archives in one pipeline: told apart, delivered to one target, and not held up by one that is down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import duckdb
import esmond_etl_archive
import jsonschema
import pytest
from deltalake import DeltaTable
from esmond_etl_archive.samples import START

import esmond_etl
from esmond_etl import ConfigError, SourceError
from esmond_etl.cli.group import run as command
from esmond_etl.engine.processes import _closed
from esmond_etl.pipeline.schema import schema
from esmond_etl.plugin.registry import installed

DAY = 86400
TIMES = f'from = {START}\nto = {START + 2 * DAY}\nwindow = "6h"\n'


@pytest.fixture
def twins(tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    """An archive and its copy, which goes on: metadata keys and metadata are the same in both, and values are not."""
    with ExitStack() as running:
        made = []
        for name, seed in (("old", 1), ("new", 2)):
            store = esmond_etl_archive.Archive(tmp_path / f"{name}.db")
            esmond_etl_archive.load(store, esmond_etl_archive.sample(days=2, hosts=2, seed=seed))
            made.append(running.enter_context(esmond_etl_archive.serve(store)))
        yield made[0], made[1]


def source(url: str, *more: str) -> str:
    return "\n".join(["[[source]]", 'type = "esmond"', f'url = "{url}"', "retries = 0", *more, ""])


def written(folder: Path, *parts: str, sink: str = 'type = "parquet"\npath = "out"') -> Path:
    file = folder / "p.toml"
    file.write_text("\n".join([TIMES, *parts, "[[sink]]", sink, ""]))
    return file


def both(twins: tuple[Any, Any], *more: str) -> list[str]:
    return [source(each.url, f'archive = "{name}"', *more) for name, each in zip(("old", "new"), twins, strict=True)]


def alone(folder: Path, archive: Any, *more: str) -> Any:
    """What a pipeline with one source delivers."""
    folder.mkdir()
    return esmond_etl.load(written(folder, source(archive.url, *more).replace("[[source]]", "[source]"))).run()


def test_all_archives_are_delivered_and_told_apart(twins: tuple[Any, Any], tmp_path: Path) -> None:
    pipeline = esmond_etl.load(written(tmp_path, *both(twins)))
    result = pipeline.run()
    apart = [alone(tmp_path / str(number), each) for number, each in enumerate(twins)]
    assert result.complete
    assert result.read == sum(each.read for each in apart)
    assert all(each.same for each in pipeline.verify())
    assert pipeline.run().read == 0
    rows = duckdb.sql(
        f"select parameters ->> 'archive', split_part(metadata_key, ':', 1), count(*), count(distinct metadata_key)"
        f" from read_parquet('{tmp_path}/out/event_type=throughput/**/*.parquet') group by all order by all"
    ).fetchall()
    assert [row[:2] for row in rows] == [("new", "new"), ("old", "old")]
    assert rows[0][3] == rows[1][3] > 0


def test_a_column_names_the_archive(twins: tuple[Any, Any], tmp_path: Path) -> None:
    sinks = 'type = "parquet"\npath = "out"\n[[sink]]\ntype = "delta"\npath = "lake"'
    pipeline = esmond_etl.load(written(tmp_path, *both(twins), sink=sinks))
    assert pipeline.run().complete
    assert all(each.same for each in pipeline.verify())
    lake = DeltaTable(tmp_path / "lake" / "histogram-owdelay").to_pyarrow_dataset()  # noqa: F841 - DuckDB finds it by its name
    for place in (f"read_parquet('{tmp_path}/out/event_type=histogram-owdelay/**/*.parquet')", "lake"):
        found = duckdb.sql(f"select archive, split_part(metadata_key, ':', 1), count(*) from {place} group by all order by all")
        (new, number), (old, same) = (((row[0], row[1]), row[2]) for row in found.fetchall())
        assert (new, old) == (("new", "new"), ("old", "old"))
        assert number == same > 0


def test_metadata_that_are_the_same_stay_apart_in_one_mirror(twins: tuple[Any, Any], tmp_path: Path) -> None:
    with esmond_etl_archive.serve(tmp_path / "target.db", token="t") as target:
        sink = f'type = "esmond"\nurl = "{target.url}"\nusername = "u"\napi_key = "t"'
        pipeline = esmond_etl.load(written(tmp_path, *both(twins, 'event_types = ["throughput", "histogram-owdelay"]'), sink=sink))
        result = pipeline.run()
        assert result.complete
        assert result.sinks["sink[0] (esmond)"].written == result.read
        assert all(each.same for each in pipeline.verify())


def test_an_archive_that_is_down_does_not_hold_up_the_others(twins: tuple[Any, Any], tmp_path: Path, capsys: Any) -> None:
    down = source("http://127.0.0.1:9/", 'archive = "down"')
    file = written(tmp_path, down, *both(twins))
    code = command(["run", str(file), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert (code, said["complete"]) == (1, False)
    assert said["read"] > 0
    assert "127.0.0.1:9" in said["failures"]["down/*/*"]
    with pytest.raises(SourceError, match=r"^down: .*127\.0\.0\.1:9"):
        esmond_etl.load(file).verify()
    for name in ("verify", "plan"):
        assert command([name, str(file)]) == 1
        assert "down: GET http://127.0.0.1:9" in capsys.readouterr().err
    file = written(tmp_path, *both(twins))
    again = esmond_etl.load(file).run()
    assert (again.complete, again.read) == (True, 0)


def test_each_source_has_its_own_options(twins: tuple[Any, Any], tmp_path: Path) -> None:
    old, new = twins
    file = written(
        tmp_path,
        source(old.url, 'archive = "old"', 'event_types = ["throughput"]'),
        source(new.url, 'archive = "new"', 'event_types = ["packet-loss-rate"]', 'summaries = ["all"]'),
    )
    pipeline = esmond_etl.load(file)
    assert pipeline.run().complete
    assert {(each.series.metadata_key.split(":")[0], each.series.event_type) for each in pipeline.verify()} == {
        ("old", "throughput"),
        ("new", "packet-loss-rate"),
    }


def test_processes_share_several_archives(twins: tuple[Any, Any], tmp_path: Path) -> None:
    file = written(tmp_path, *both(twins))
    pipeline = esmond_etl.load(file)
    result = pipeline.run(processes=2)
    assert result.complete
    assert all(each.same for each in pipeline.verify())
    definition = _closed(pipeline.definition)
    assert definition.source.model_dump_json() == pipeline.definition.source.model_dump_json()
    assert definition.source is not pipeline.definition.source


def test_one_source_may_name_its_archive_too(twins: tuple[Any, Any], tmp_path: Path) -> None:
    text = source(twins[0].url, 'archive = "old"', 'event_types = ["throughput"]').replace("[[source]]", "[source]")
    pipeline = esmond_etl.load(written(tmp_path, text))
    assert pipeline.run().complete
    assert {each.series.metadata_key.split(":")[0] for each in pipeline.verify()} == {"old"}


URL = "https://a.example.net/"


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        (
            [source(URL), source("https://b.example.net/", 'archive = "b"')],
            r":5:1: source\[0\]\.archive: is missing; several sources",
        ),
        (
            [source(URL, 'archive = "a"'), source("https://b.example.net/", 'archive = "a"')],
            r":15:1: source\[1\]\.archive: 'a' is also the name of another source's archive",
        ),
        ([source(URL, 'archive = "a b"')], r"source\[0\]\.archive: must be a name of letters"),
        (
            [source(URL, 'archive = "a"'), source(URL, 'archive = "b"')],
            r"source\[1\]\.url: this place is also that of source\[0\]: .*; name each archive once",
        ),
        (
            [source(URL, 'archive = "a"', 'event_type = "x"')],
            r"source\[0\]\.event_type: unknown option; did you mean 'event_types'",
        ),
    ],
)
def test_mistakes_name_the_source(tmp_path: Path, sources: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        esmond_etl.load(written(tmp_path, *sources))


def test_editors_know_several_sources(tmp_path: Path) -> None:
    rules = schema(installed())
    good = {"from": "30d", "sink": [{"type": "stdout"}], "source": [{"type": "esmond", "url": URL, "archive": "a"}]}
    jsonschema.validate(good, rules)
    jsonschema.validate({**good, "source": good["source"][0]}, rules)
    for wrong in ([{"type": "esmond", "url": URL}], [], [{"type": "esmond", "url": URL, "archive": "a b"}]):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**good, "source": wrong}, rules)
