"""`esmond-etl rebuild`: a ledger that was lost, from what the sinks hold."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import click

from esmond_etl import cli
from esmond_etl.cli import show


@click.command(short_help=cli.COMMANDS["rebuild"])
@click.argument("pipeline", metavar="PIPELINE", type=click.Path(dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(pipeline: str, as_json: bool) -> int:
    """Rebuild the ledger of PIPELINE if it was lost, so that the next run does not deliver everything again.

    Parquet trees and Delta tables remember which time of each series has been delivered. This command lists the source, and reads the
    datapoints in the sinks to compute their digests. Rejected datapoints and the list of earlier runs stay lost. Run `esmond-etl
    verify` afterwards: it compares the sinks with the source.
    """
    from esmond_etl.engine import files
    from esmond_etl.engine.delivery import Delivery
    from esmond_etl.engine.ledger import Ledger
    from esmond_etl.engine.rebuild import rebuild
    from esmond_etl.engine.stream import Stream
    from esmond_etl.pipeline import file as config

    definition = config.load(pipeline)
    facts: dict[str, Any] = {"pipeline": definition.name, "series": 0, "datapoints": 0, "partly": 0}
    with (
        files.lock(definition.ledger_path.with_suffix(".lock")),
        Stream(definition) as stream,
        closing(Ledger(definition.ledger_path)) as ledger,
        Delivery(stream, ledger, needs_all=True) as delivery,
    ):
        series = list(stream.series(definition.wanted(int(time.time()))))
        for each in show.watched(rebuild(delivery, ledger, series), len(series), f"{definition.name}: rebuilding"):
            facts["series"] += bool(each.done)
            facts["datapoints"] += each.datapoints
            facts["partly"] += bool(each.partly)
    if as_json:
        show.as_json(facts)
        return cli.DONE
    some = f"; {facts['partly']:,} series that only some of the sinks have" if facts["partly"] else ""
    print(f"{definition.name}: {facts['series']:,} series with {facts['datapoints']:,} datapoints are known again{some}")
    return cli.DONE
