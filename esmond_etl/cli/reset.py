"""`esmond-etl reset`: forget what has been delivered."""

from __future__ import annotations

import time
from typing import Any

import click

from esmond_etl import cli


@click.command(short_help=cli.COMMANDS["reset"])
@click.argument("pipeline", metavar="PIPELINE", type=click.Path(dir_okay=False))
@click.option("--from", "from_", metavar="TIME", help="Forget from here on; default: from the beginning.")
@click.option("--to", metavar="TIME", help="Forget up to here.")
@click.option("--series", "names", multiple=True, metavar="KEY/EVENT-TYPE/SUMMARY", help="Only this series; may be repeated.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def command(pipeline: str, from_: Any, to: Any, names: tuple[str, ...], yes: bool) -> int:
    """Forget what PIPELINE has delivered, so that the next run delivers it again. The data in its sinks do not change."""
    from esmond_etl.engine import files
    from esmond_etl.engine.ledger import Ledger
    from esmond_etl.model.interval import Interval
    from esmond_etl.model.series import SeriesId
    from esmond_etl.pipeline import file as config

    loaded = config.load(pipeline)
    interval = None if from_ is None and to is None else Interval(*loaded.wanted(int(time.time()), from_, to))
    series = [SeriesId(*name.split("/", 2)) for name in names] or None
    if not yes:
        click.confirm(f"Forget what {loaded.name} has moved ({interval or 'all of it'})?", abort=True)
    with files.lock(loaded.ledger_path.with_suffix(".lock")):
        opened = Ledger(loaded.ledger_path)
        try:
            count = opened.forget(interval, series)
        finally:
            opened.close()
    print(f"{loaded.name}: {count:,} series will be delivered again")
    return cli.DONE
