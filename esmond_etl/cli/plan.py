"""`esmond-etl plan`: what a run would read."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from typing import Any

import click

from esmond_etl import cli
from esmond_etl.cli import show


@click.command(short_help=cli.COMMANDS["plan"])
@click.argument("pipeline", metavar="PIPELINE", type=click.Path(dir_okay=False))
@click.option("--from", "from_", metavar="TIME", help='Start here instead: a date, a time, or an age such as "30d".')
@click.option("--to", metavar="TIME", help="End here instead.")
@click.option("--reload", is_flag=True, help="Count what is done already, too.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(pipeline: str, as_json: bool, **options: Any) -> int:
    """Show what a run of PIPELINE would read, by event type: series, windows, requests. Reads nothing but the list."""
    facts = _facts(pipeline, **options)
    if as_json:
        show.as_json(facts)
        return cli.DONE
    print(f"{facts['pipeline']}: from {facts['from']} to {facts['to']}, windows of {facts['window']}")
    head = ("event type", "summary", "series", "windows", "requests")
    show.table(head, [tuple(row.values()) for row in facts["series"]])
    totals = [sum(row[name] for row in facts["series"]) for name in ("series", "windows", "requests")]
    print("{:,} series, {:,} windows, about {:,} requests at least".format(*totals))
    return cli.DONE


def _facts(path: str, from_: Any, to: Any, reload: bool) -> dict[str, Any]:
    from esmond_etl.engine import plan
    from esmond_etl.engine.run import opened
    from esmond_etl.model.interval import moment
    from esmond_etl.pipeline import file as config

    pipeline = config.load(path)
    now = int(time.time())
    interval = pipeline.wanted(now, from_, to)
    window = pipeline.settings.window
    rows: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    with opened(pipeline, threading.Event()) as (ledger, mover):
        series = list(pipeline.source.series(interval)) if interval.seconds else []
        pace = plan.Pace(window)
        for intervals, group in plan.todo(pipeline, ledger, series, interval, now, reload or not _same(ledger, pipeline)):
            tasks = sum(1 for _ in plan.tasks([plan.Todo(intervals, group[:1])], pace))
            for each in group:
                if mover.becomes(each) is not None:
                    row = rows[each.event_type, str(each.summary)]
                    row[:] = row[0] + 1, row[1] + intervals.seconds // window, row[2] + tasks
    names = ("event_type", "summary", "series", "windows", "requests")
    return {
        "pipeline": pipeline.name,
        "from": moment(interval.start),
        "to": moment(interval.end),
        "window": show.duration(window),
        "series": [dict(zip(names, (*key, *row), strict=True)) for key, row in sorted(rows.items())],
    }


def _same(ledger: Any, pipeline: Any) -> bool:
    return ledger.about("delivery") in (None, pipeline.delivery)
