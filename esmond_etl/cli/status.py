"""`esmond-etl status`: how far each series has come."""

from __future__ import annotations

import time
from typing import Any

import click

from esmond_etl import cli
from esmond_etl.cli import show


@click.command(short_help=cli.COMMANDS["status"])
@click.argument("pipeline", metavar="PIPELINE", type=click.Path(dir_okay=False))
@click.option("--failed", is_flag=True, help="Only series whose last run failed, or that have gaps.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(pipeline: str, failed: bool, as_json: bool) -> int:
    """Show for each series of PIPELINE up to where it is done, its gaps, and its last error; from the ledger alone."""
    facts = _facts(pipeline)
    if failed:
        facts["series"] = [row for row in facts["series"] if row["error"] or row["gaps"]]
    if as_json:
        show.as_json(facts)
        return cli.DONE
    last = facts["last_run"]
    state = "never run" if last is None else f"last run {show_moment(last['started'])}: {last['read']:,} datapoints read"
    print(f"{facts['pipeline']}: {state}; {facts['rejected']:,} rejected datapoints wait (esmond-etl rejects)")
    if former := facts["former"]:
        print(f"{facts['pipeline']}: {len(former):,} series hold datapoints that were delivered before the pipeline changed:")
        show.table(("series", "delivered before the change"), former.items())
    head = ("metadata", "series", "source", "destination", "done to", "gaps", "last error")
    show.table(head, [_row(row) for row in facts["series"]])
    for label, keys in facts["target_keys"].items():
        show.table(("metadata", f"is in {label}"), keys.items())
    return cli.DONE


def _row(row: dict[str, Any]) -> tuple[Any, ...]:
    key, series = row["series"].split("/", 1)
    gaps = [f"{gap['from']} to {gap['to']}" for gap in row["gaps"]]
    shown = gaps[0] if len(gaps) == 1 else f"{len(gaps)}, first {gaps[0]}" if gaps else ""
    return key[:8], series.removesuffix("/base"), row["source"], row["destination"], row["done_to"], shown, row["error"]


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
            "rejected": waiting,
            "former": {str(series): ", ".join(map(str, intervals)) for series, intervals in sorted(ledger.former().items())},
            "target_keys": {label: found for label, found in keys.items() if found},
            "series": rows,
        }
    finally:
        ledger.close()


def _series(ledger: Any, wanted: Any) -> Any:
    from esmond_etl.model.interval import IntervalSet

    subjects, failures = ledger.subjects(), ledger.failures()
    done = dict(ledger.all_done())
    for series in sorted({*done, *failures}):
        intervals = done.get(series, IntervalSet())
        source, destination, _ = subjects.get(series.metadata_key, (None, None, None))
        gaps = IntervalSet.of([wanted]).minus(intervals)
        error = failures.get(series)
        yield {
            "series": str(series),
            "source": source,
            "destination": destination,
            "done_to": show_moment(intervals[-1].end) if intervals else None,
            "gaps": [{"from": show_moment(gap.start), "to": show_moment(gap.end)} for gap in gaps],
            "error": error.message if error else None,
        }
