"""`esmond-etl status`: how far each series has come."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import click

from esmond_etl import cli
from esmond_etl.cli import show

#: This many of the last runs are shown.
_RUNS = 5


@click.command(short_help=cli.COMMANDS["status"])
@click.argument("pipelines", metavar="PIPELINE...", nargs=-1, required=True, type=click.Path(dir_okay=False))
@click.option("--failed", is_flag=True, help="Only series whose last run failed, or that have gaps.")
@click.option("--nagios", is_flag=True, help="Print one line for a monitoring system, and end with 0, 1 or 2 as it expects.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(pipelines: tuple[str, ...], failed: bool, nagios: bool, as_json: bool) -> int:
    """Show for each series of PIPELINE the number of delivered datapoints, the first and the last one, the time up to
    which it is done, its gaps, and its last error; then the last runs.

    Reads only the ledger. With several pipelines: one line for each. With --nagios: 0 if the last run delivered all that was due, 1
    if rejected datapoints wait, 2 if series failed or nothing has run.
    """
    found = [_facts(path) for path in pipelines]
    if nagios:
        return _nagios(found)
    for facts in found if failed else ():
        facts["series"] = [row for row in facts["series"] if row["error"] or row["gaps"]]
    if as_json:
        show.as_json(found[0] if len(found) == 1 else found)
    elif len(found) == 1:
        _print(found[0])
    else:
        head = ("pipeline", "last run", "complete", "series", "failed", "rejected", "done to")
        show.table(head, map(_summary, found))
    return cli.DONE


def _summary(facts: dict[str, Any]) -> tuple[Any, ...]:
    last, rows = facts["last_run"], facts["series"]
    done_to = min((row["done_to"] for row in rows if row["done_to"]), default="")
    started, complete = (show_moment(last["started"]), "yes" if last["complete"] else "no") if last else ("never", "")
    return facts["pipeline"], started, complete, len(rows), sum(bool(row["error"]) for row in rows), facts["rejected"], done_to


def _nagios(found: list[dict[str, Any]]) -> int:
    """One line with performance data, as plugins of monitoring systems print it."""
    failed = sum(bool(row["error"]) for facts in found for row in facts["series"])
    rejected = sum(facts["rejected"] for facts in found)
    never = [facts["pipeline"] for facts in found if facts["last_run"] is None]
    series = sum(len(facts["series"]) for facts in found)
    age = max((int(time.time()) - facts["last_run"]["ended"] for facts in found if facts["last_run"]), default=0)
    code = 2 if failed or never else 1 if rejected else 0
    reasons = [f"{failed} of {series} series failed"] if failed else []
    reasons += [f"{rejected} rejected datapoints wait"] if rejected else []
    reasons += [f"{', '.join(never)} never ran"] if never else []
    said = "; ".join(reasons) or f"{series} series, all that was due is delivered"
    print(
        f"ESMOND-ETL {('OK', 'WARNING', 'CRITICAL')[code]}: {said} | failed={failed} rejected={rejected} series={series} age={age}s"
    )
    return code


def _print(facts: dict[str, Any]) -> None:
    last = facts["last_run"]
    state = "never run" if last is None else f"last run {show_moment(last['started'])}: {last['read']:,} datapoints read"
    print(f"{facts['pipeline']}: {state}; {facts['rejected']:,} rejected datapoints wait (esmond-etl rejects)")
    if former := facts["former"]:
        print(f"{facts['pipeline']}: {len(former):,} series hold datapoints that were delivered before the pipeline changed:")
        show.table(("series", "delivered before the change"), former.items())
    for label, lacks in facts["behind"].items():
        print(
            f"{facts['pipeline']}: {label} lacks what other sinks have: {lacks['series']:,} series, {lacks['from']} to {lacks['to']};"
            " the next run delivers it"
        )
    if sys.stdout.isatty():
        show.table(("series", *_COLUMNS), _grouped(facts["series"]))
    else:
        rows = [(*row["series"].split("/", 1), row["source"], row["destination"], *_cells(row)) for row in facts["series"]]
        show.table(("metadata", "series", "source", "destination", *_COLUMNS), rows)
    if runs := facts["runs"]:
        of_runs = ("last runs", "seconds", "datapoints", "requests", "complete")
        show.table(
            of_runs, [(show_moment(run["started"]), run["seconds"], run["read"], run["requests"], _yes(run)) for run in runs]
        )
    if versions := [row for run in facts["runs"] for row in _versions(run)]:
        show.table(("versions after the run", "sink", "tables"), versions)
    for label, keys in facts["target_keys"].items():
        show.table(("metadata", f"is in {label}"), keys.items())


def _versions(run: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """A row for each sink whose tables have versions."""
    for label, sink in run.get("sinks", {}).items():
        if versions := sink.get("versions"):
            tables = (f"{name} {version}" for name, version in sorted(versions.items()))
            yield show_moment(run["started"]), label, ", ".join(tables)


def _yes(run: dict[str, Any]) -> str:
    return "yes" if run["complete"] else "no"


_COLUMNS = ("datapoints", "first", "last", "done to", "gaps", "last error")


def _grouped(rows: list[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """The rows of a table for people: one line per metadata, then one for each of its series."""
    for key, series in groupby(rows, key=lambda row: row["series"].split("/", 1)[0]):
        first, *others = series
        ends = " to ".join(end for end in (first["source"], first["destination"]) if end)
        yield f"{key[:8]}: {ends}", *(None for _ in _COLUMNS)
        for row in (first, *others):
            yield f"  {row['series'].split('/', 1)[1].removesuffix('/base')}", *_cells(row)


def _cells(row: dict[str, Any]) -> tuple[Any, ...]:
    gaps = [f"{gap['from']} to {gap['to']}" for gap in row["gaps"]]
    shown = gaps[0] if len(gaps) == 1 else f"{len(gaps)}, first {gaps[0]}" if gaps else ""
    return row["datapoints"], row["first"], row["last"], row["done_to"], shown, row["error"]


def show_moment(ts: int) -> str:
    """Unix time for people."""
    from esmond_etl.model.interval import moment

    return moment(ts)


def _facts(path: str) -> dict[str, Any]:
    from esmond_etl.engine.ledger import Ledger
    from esmond_etl.pipeline import file as config

    pipeline = config.load(path)
    ledger = Ledger.of_all(pipeline.all_ledgers)
    try:
        wanted = pipeline.wanted(int(time.time()))
        rows = list(_series(ledger, wanted))
        waiting = sum(1 for _ in ledger.rejected())
        keys = {label: sink.target_keys(ledger.memory(label)) for label, sink in zip(pipeline.labels, pipeline.sinks, strict=True)}
        return {
            "pipeline": pipeline.name,
            "last_run": ledger.last_run(),
            "runs": ledger.runs()[-_RUNS:],
            "rejected": waiting,
            "former": {str(series): ", ".join(map(str, intervals)) for series, intervals in sorted(ledger.former().items())},
            "behind": _behind(ledger, pipeline.labels),
            "target_keys": {label: found for label, found in keys.items() if found},
            "series": rows,
        }
    finally:
        ledger.close()


def _behind(ledger: Any, labels: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """What each sink lacks and another one has: number of series, first and last time."""
    found: dict[str, dict[str, Any]] = {}
    for label in labels:
        lacking = [lacks for _, sinks in ledger.all_partly() if (lacks := _lacks(sinks, label))]
        if lacking:
            first, last = min(each[0].start for each in lacking), max(each[-1].end for each in lacking)
            found[label] = {"series": len(lacking), "from": show_moment(first), "to": show_moment(last)}
    return found


def _lacks(sinks: dict[str, Any], label: str) -> Any:
    from esmond_etl.model.interval import IntervalSet

    taken = IntervalSet.of(interval for intervals in sinks.values() for interval in intervals)
    return taken.minus(sinks.get(label, IntervalSet()))


def _series(ledger: Any, wanted: Any) -> Any:
    from esmond_etl.model.interval import IntervalSet

    subjects, failures, totals = ledger.subjects(), ledger.failures(), ledger.totals()
    done = dict(ledger.all_done())
    for series in sorted({*done, *failures}):
        intervals = done.get(series, IntervalSet())
        source, destination, _ = subjects.get(series.metadata_key, (None, None, None))
        gaps = IntervalSet.of([wanted]).minus(intervals)
        error, total = failures.get(series), totals.get(series)
        yield {
            "series": str(series),
            "source": source,
            "destination": destination,
            "datapoints": total.number if total else 0,
            "first": show_moment(total.first) if total else None,
            "last": show_moment(total.last) if total else None,
            "done_to": show_moment(intervals[-1].end) if intervals else None,
            "gaps": [{"from": show_moment(gap.start), "to": show_moment(gap.end)} for gap in gaps],
            "error": error.message if error else None,
        }
