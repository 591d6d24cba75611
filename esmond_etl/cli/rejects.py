"""`esmond-etl rejects`: datapoints that a sink rejected."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

import click

from esmond_etl import cli
from esmond_etl.cli import show


@click.command(short_help=cli.COMMANDS["rejects"])
@click.argument("pipeline", metavar="PIPELINE", type=click.Path(dir_okay=False))
@click.option("--retry", is_flag=True, help="Deliver their windows again, then list what is still rejected.")
@click.option("--drop", is_flag=True, help="Forget them.")
@click.option(
    "-n", "most", type=click.IntRange(0), default=20, show_default=True, help="List at most this many datapoints; 0 for all."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per datapoint; all of them.")
def command(pipeline: str, retry: bool, drop: bool, most: int, as_json: bool) -> int:
    """List the datapoints of PIPELINE that a sink rejected, and why. Exit code 1 if there are any."""
    from esmond_etl.engine import ledger
    from esmond_etl.pipeline import file as config

    loaded = config.load(pipeline)
    if retry and drop:
        raise click.UsageError("--retry and --drop exclude each other")
    if retry:
        _retry(loaded)
    opened = ledger.Ledger(loaded.ledger_path)
    try:
        if drop:
            print(f"{loaded.name}: {opened.drop_rejected():,} rejected datapoints forgotten")
            return cli.DONE
        count = _list(loaded.name, opened, most, as_json)
    finally:
        opened.close()
    return cli.INCOMPLETE if count else cli.DONE


def _list(name: str, ledger: Any, most: int, as_json: bool) -> int:
    import json

    if as_json:
        rows = [{**each._asdict(), "series": str(each.series)} for each in ledger.rejected()]
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
        return len(rows)
    reasons = Counter((each.sink, each.reason) for each in ledger.rejected())
    first = [_row(each) for each in islice(ledger.rejected(), most or None)]
    if first:
        show.table(("sink", "series", "time", "value", "reason"), first)
    total = sum(reasons.values())
    print(f"{name}: {total:,} rejected datapoints" + (f", {len(first):,} shown" if total > len(first) else ""))
    return total


def _row(each: Any) -> tuple[Any, ...]:
    from esmond_etl.model.interval import moment

    return each.sink, str(each.series), moment(each.ts), each.val if len(each.val) <= 40 else each.val[:37] + "...", each.reason


def _retry(pipeline: Any) -> None:
    """Mark the windows of all rejected datapoints as not done, and run."""
    from esmond_etl.engine.ledger import Ledger
    from esmond_etl.engine.run import run
    from esmond_etl.model.interval import Interval, floor

    window = pipeline.settings.window
    ledger = Ledger(pipeline.ledger_path)
    try:
        windows = {(each.series, floor(each.ts, window)) for each in ledger.rejected()}
        for series, start in windows:
            ledger.forget(Interval(start, start + window), [series])
    finally:
        ledger.close()
    with show.stopping() as stop, show.watching(pipeline.name) as watch:
        show.failures(run(pipeline, watch, stop))
