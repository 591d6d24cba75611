"""`esmond-etl preview`: the first datapoints after the transforms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from esmond_etl import cli
from esmond_etl.cli import show


@click.command(short_help=cli.COMMANDS["preview"])
@click.argument("pipeline", metavar="PIPELINE", type=click.Path(dir_okay=False))
@click.option("-n", "count", type=click.IntRange(1), default=5, show_default=True, help="Datapoints of each series.")
@click.option("--series", "most", type=click.IntRange(1), default=10, show_default=True, help="Series at most.")
@click.option("--from", "from_", metavar="TIME", help='Start here instead: a date, a time, or an age such as "30d".')
@click.option("--to", metavar="TIME", help="End here instead.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per datapoint.")
def command(pipeline: str, count: int, most: int, as_json: bool, **options: Any) -> int:
    """Show the first datapoints that PIPELINE would deliver, after its transforms. Writes nothing."""
    import json

    rows = list(_rows(pipeline, count, most, **options))
    if as_json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
        return cli.DONE
    names = ("time", "source", "destination", "event_type", "summary", "val")
    shortened = [[*list(row.values())[1:-1], _short(row["val"])] for row in rows]
    show.table([name.replace("_", " ") for name in names], shortened)
    return cli.DONE


def _rows(path: str, count: int, most: int, from_: Any, to: Any) -> Iterator[dict[str, Any]]:
    from esmond_etl.engine.pipeline import load
    from esmond_etl.model.interval import moment

    for series, point in load(path).preview(points=count, series=most, from_=from_, to=to):
        metadata = series.metadata
        ends = {"source": metadata.input_source or metadata.source, "destination": metadata.input_destination}
        kind = {"event_type": series.event_type, "summary": str(series.summary)}
        yield {"ts": point.ts, "time": moment(point.ts), **ends, **kind, "val": point.val}


def _short(value: Any) -> Any:
    text = str(value)
    return value if isinstance(value, int | float) else text if len(text) <= 30 else text[:27] + "..."
