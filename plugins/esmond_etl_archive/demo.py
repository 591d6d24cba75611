"""`esmond-etl demo`: sample measurements moved between two archives on this machine."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

import esmond_etl
from esmond_etl import ConfigError, EsmondEtlError
from esmond_etl.cli import show

if TYPE_CHECKING:
    from esmond_etl import Pipeline, Result

#: Marks a folder that the demo created, and may overwrite.
MARK = ".esmond-etl-demo"

TOKEN = "demo"

_TARGETS = {"delta": "Delta", "sql": "SQL", "influxdb": "InfluxDB"}


@click.command(short_help="Move sample measurements between two archives on this machine.")
@click.option(
    "--directory", type=click.Path(file_okay=False, path_type=Path), default="esmond-etl-demo", show_default=True, help="Where."
)
@click.option("--days", type=click.IntRange(1, 365), default=28, show_default=True, help="Days of sample measurements.")
@click.option("--with", "more", metavar="NAME,...", default="", help="Also deliver to these: delta, sql, influxdb.")
def demo(directory: Path, days: int, more: str) -> int:
    """Fill an archive with sample measurements, mirror it into another, export it to Parquet, and compare all three.

    Both archives run on this machine, on free ports, and stop at the end; the data stay in the directory.

    With --with, the measurements also go to other targets, and are compared there. Delta tables and an SQLite database are made in
    the directory. InfluxDB must be running: INFLUXDB_URL, INFLUXDB_TOKEN, INFLUXDB_ORG and INFLUXDB_BUCKET say where.
    """
    chosen = {"Parquet": "to-warehouse.toml"} | {_named(name): f"to-{name}.toml" for name in more.split(",") if name}
    _prepare(directory)
    with _archives(directory, days) as (source, target):
        here = directory.absolute()
        os.environ |= {"SOURCE_URL": source, "TARGET_URL": target, "TARGET_USER": "demo", "TARGET_KEY": TOKEN}
        os.environ |= {"WAREHOUSE": str(here / "parquet"), "LAKE": str(here / "lake"), "ESMOND_ETL_LEDGER": str(directory)}
        os.environ.setdefault("DATABASE_URL", f"sqlite:{here}/warehouse.db")
        pipelines = [_load(name) for name in ("mirror.toml", *chosen.values())]
        results = [_run(pipeline) for pipeline in pipelines]
        compared = {pipeline.name: _compare(pipeline) for pipeline in pipelines}
    _report(compared, [*chosen], sum(result.requests for result in results), sum(result.seconds for result in results))
    _read_back(directory / "parquet")
    _next(directory)
    differing = sum(row[2] for rows in compared.values() for row in rows.values())
    complete = all(result.complete for result in results) and not differing
    return 0 if complete else 1


def _named(name: str) -> str:
    """The name of a target for people."""
    if name not in _TARGETS:
        raise ConfigError(f"--with {name}: the demo knows {', '.join(_TARGETS)}")
    return _TARGETS[name]


def _prepare(directory: Path) -> None:
    if directory.exists():
        if any(directory.iterdir()) and not (directory / MARK).exists():
            raise ConfigError(f"{directory}: is not empty, and not from an earlier demo; choose another one with --directory")
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    (directory / MARK).touch()


@contextmanager
def _archives(directory: Path, days: int) -> Iterator[tuple[str, str]]:
    """The URLs of an archive with sample measurements, and of an empty one."""
    try:
        import falcon  # noqa: F401
        import waitress  # noqa: F401

        import esmond_etl_archive as archives
    except ImportError as error:
        raise ConfigError(f"the demo needs the embedded archive ({error}): pip install 'esmond-etl[demo]'") from None
    store = archives.Archive(directory / "source.db")
    with show.working("filling an archive with sample measurements"):
        loaded = archives.load(store, archives.sample(days=days))
    show.say(f"an archive with {loaded.written:,} sample datapoints of {days} days under {loaded.metadata} metadata")
    with archives.serve(store, token=TOKEN) as source, archives.serve(directory / "target.db", token=TOKEN) as target:
        yield source.url, target.url
    store.close()


def _load(name: str) -> Pipeline:
    from esmond_etl import load  # late imports: `--help` needs neither pydantic nor pyarrow

    package = Path(esmond_etl.__file__).parent
    installed = package / "pipelines" / name
    return load(installed if installed.exists() else package.parent / "pipelines" / name)


def _run(pipeline: Pipeline) -> Result:
    with show.stopping() as stop, show.watching(pipeline.name) as observer:
        result = pipeline.run(observer=observer, stop=stop, check=False)
    show.failures(result)
    if result.stopped:
        raise EsmondEtlError("stopped")
    return result


def _compare(pipeline: Pipeline) -> dict[str, list[int]]:
    """Event type -> series, datapoints that are the same in source and sink, datapoints that are not."""
    rows: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    with show.working(f"comparing every datapoint of {pipeline.name}"):
        for each in pipeline.verify():
            row = rows[each.series.event_type]
            row[:] = row[0] + 1, row[1] + each.equal, row[2] + each.missing + each.extra + each.different + bool(each.error)
    return rows


def _report(compared: dict[str, dict[str, list[int]]], targets: list[str], requests: int, seconds: float) -> None:
    mirror, *others = compared.values()
    rows: list[tuple[str | int, ...]] = []
    for name, (series, same, other) in sorted(mirror.items()):
        found = [each[name] for each in others]
        rows.append((name, series, same, *(each[1] for each in found), other + sum(each[2] for each in found)))
    totals = [sum(int(row[index]) for row in rows) for index in range(1, len(rows[0]))]
    print()
    heads = ("event type", "series", "mirrored", *(f"in {name}" for name in targets), "not the same")
    show.table(heads, [*rows, ("all", *totals)])
    print(f"\nmoved in {seconds:.0f} s with {requests:,} requests; then every datapoint was read back and compared\n")


def _read_back(folder: Path) -> None:
    import pyarrow.dataset as ds

    print(f"from {folder}/event_type=throughput:")
    data = ds.dataset(folder / "event_type=throughput", format="parquet", partitioning="hive")
    head = data.head(5, columns=["ts", "input_source", "input_destination", "val"])
    show.table(head.column_names, [list(row.values()) for row in head.to_pylist()])


def _next(directory: Path) -> None:
    print(f"""
Next, look at the archive that was filled, through the pipeline of your choice:

  esmond-etl archive serve {directory}/source.db --port 8000 --token demo &
  SOURCE_URL=http://127.0.0.1:8000/ esmond-etl preview {_pipelines()}/demo.toml --from 2024-03-04 --to 2024-04-01
""")


def _pipelines() -> Path:
    package = Path(esmond_etl.__file__).parent
    folder = package / "pipelines"
    return folder if folder.exists() else Path(os.path.relpath(package.parent / "pipelines"))
