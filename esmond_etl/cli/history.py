"""`esmond-etl history`: the last runs of a pipeline."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from esmond_etl import cli
from esmond_etl.cli import show


@click.command(short_help=cli.COMMANDS["history"])
@click.argument("pipeline", metavar="PIPELINE", type=click.Path(dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(pipeline: str, as_json: bool) -> int:
    """List the last hundred runs of PIPELINE: start, duration, what was read and written, and whether everything was delivered."""
    from esmond_etl.engine.ledger import Ledger
    from esmond_etl.pipeline import file as config

    with closing(Ledger.of_all(config.load(pipeline).all_ledgers)) as ledger:
        runs = ledger.runs()
    if as_json:
        show.as_json(runs)
    elif runs:
        show.table(("started", "seconds", "read", "written", "rejected", "requests", "outcome"), map(_row, runs))
    else:
        print("no run has ended yet")
    return cli.DONE


def _row(run: dict[str, Any]) -> tuple[Any, ...]:
    from esmond_etl.model.interval import moment

    sinks = run.get("sinks", {}).values()
    written, rejected = (sum(sink[name] for sink in sinks) for name in ("written", "rejected"))
    outcome = "complete" if run.get("complete") else "stopped" if run.get("stopped") else "incomplete"
    note = run.get("note")
    return (
        moment(run["started"]),
        round(run.get("seconds", 0), 1),
        run.get("read", 0),
        written,
        rejected,
        run.get("requests", 0),
        f"{outcome}; {note}" if note else outcome,
    )
