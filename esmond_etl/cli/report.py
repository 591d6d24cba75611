"""`esmond-etl report`: one page about what was delivered."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from esmond_etl import cli
from esmond_etl.cli import show
from esmond_etl.cli.examination import examined


@click.command(short_help=cli.COMMANDS["report"])
@click.argument("pipeline", metavar="PIPELINE", type=click.Path(dir_okay=False))
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the page.",
)
@click.option("--data", is_flag=True, help="Also read the measurements, and show those that cannot be right.")
def command(pipeline: str, output: Path, data: bool) -> int:
    """Write a page that shows what PIPELINE has delivered: coverage by series and time, rejects, failures, runs, the digest of all.

    It is one file of HTML that needs no network. It is made from the ledger alone, without the source (except with --data) and
    without the sinks.

    \b
    Examples:
      esmond-etl report mirror.toml -o report.html
      esmond-etl report mirror.toml -o report.html --data
    """
    from esmond_etl.engine.ledger import Ledger
    from esmond_etl.pipeline import file as config
    from esmond_etl.report.facts import facts
    from esmond_etl.report.page import page

    definition = config.load(pipeline)
    with closing(Ledger.of_all(definition.all_ledgers)) as ledger:
        text = page(facts(definition, ledger), examined(definition) if data else None)
    with show.writing(output):
        output.write_text(text, encoding="utf-8")
    print(f"{output} is written")
    return cli.DONE
