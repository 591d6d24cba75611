"""`esmond-etl plan`: what a run would read."""

from __future__ import annotations

from typing import Any

import click

from esmond_etl import cli
from esmond_etl.cli import show


@click.command(short_help=cli.COMMANDS["plan"])
@click.argument("pipeline", metavar="PIPELINE", type=click.Path(dir_okay=False))
@click.option("--from", "from_", metavar="TIME", help='Start here instead: a date, a time, or an age such as "30d".')
@click.option("--to", metavar="TIME", help="End here instead.")
@click.option("--reload", is_flag=True, help="Also count what is done already.")
@click.option("--count", is_flag=True, help="Also read the series that will not be delivered, and count their datapoints.")
@click.option("--estimate", is_flag=True, help="Read a small sample, and estimate the datapoints and requests of a run.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(pipeline: str, as_json: bool, **options: Any) -> int:
    """Show what a run of PIPELINE would read, by event type: series, windows, requests. Reads only the list, unless you give
    --count or --estimate.
    """
    facts = _facts(pipeline, **options)
    if as_json:
        show.as_json(facts)
        return cli.DONE
    print(f"{facts['pipeline']}: from {facts['from']} to {facts['to']}, windows of {facts['window']}")
    named = ("series", "windows", "requests", *(["datapoints"] if options["estimate"] else []))
    show.table(
        ("event type", "summary", *named),
        [(row["event_type"], row["summary"], *(row[name] for name in named)) for row in facts["series"]],
    )
    print(_summed(facts, {name: sum(row[name] for row in facts["series"]) for name in named}))
    if facts["refused"]:
        print("\nThese series will not be delivered:")
        counted = ["datapoints"] if options["count"] else []
        show.table(
            ("event type", "summary", "sink", "reason", "series", *counted), [tuple(row.values()) for row in facts["refused"]]
        )
    return cli.DONE


def _summed(facts: dict[str, Any], total: dict[str, int]) -> str:
    start = f"{total['series']:,} series, {total['windows']:,} windows, "
    if "datapoints" not in total:
        return f"{start}at least {total['requests']:,} requests"
    requests = total["requests"] + facts["list_requests"]
    return (
        f"{start}about {total['datapoints']:,} datapoints in about {requests:,} requests to the source\n"
        f"({facts['list_requests']:,} of them for the list; estimated from a sample of {facts['sample_reads']:,} reads)"
    )


def _facts(path: str, from_: Any, to: Any, reload: bool, count: bool, estimate: bool) -> dict[str, Any]:
    from esmond_etl.engine.pipeline import load
    from esmond_etl.model.interval import moment

    pipeline = load(path)
    found = pipeline.plan(from_=from_, to=to, reload=reload, count=count, estimate=estimate)
    return {
        "pipeline": pipeline.name,
        "from": moment(found.interval.start),
        "to": moment(found.interval.end),
        "window": show.duration(pipeline.definition.settings.window),
        "series": [
            {name: value for name, value in {**kind._asdict(), **vars(amount)}.items() if value is not None}
            for kind, amount in sorted(found.amounts.items())
        ],
        **({"list_requests": found.listing, "sample_reads": found.sample} if estimate else {}),
        "refused": [
            {**refusal._asdict(), "series": number, **({"datapoints": found.lost[refusal]} if count else {})}
            for refusal, number in sorted(found.refused.items())
        ],
    }
