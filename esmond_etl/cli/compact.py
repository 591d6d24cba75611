"""`esmond-etl compact`: merge the small files that frequent runs leave."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from esmond_etl import cli

if TYPE_CHECKING:
    from esmond_etl.plugin.sink import Sink


@click.command(short_help=cli.COMMANDS["compact"])
@click.argument("places", metavar="PIPELINE_OR_PATH...", nargs=-1, required=True)
def command(places: tuple[str, ...]) -> int:
    """Merge the small files of a Parquet tree, or of Delta tables, until no event type has more than two a day.

    Each PIPELINE_OR_PATH is a pipeline file, for all its sinks that keep files, or the path or URL of such a sink. Rows stay as they
    are. You may kill it, or run it while pipelines and readers are at work.

    \b
    Examples:
      esmond-etl compact warehouse.toml
      esmond-etl compact /data/perfsonar
    """
    for sink in [sink for place in places for sink in _sinks(place)]:
        click.echo(sink.compact())
    return cli.DONE


def _sinks(place: str) -> Iterator[Sink]:
    """The sinks for `place`."""
    from esmond_etl.model.errors import ConfigError
    from esmond_etl.pipeline import file
    from esmond_etl.plugin.registry import installed

    is_file = place.endswith(".toml")
    if is_file:
        found = [sink for sink in file.load(place).sinks if sink.features.compacts]
    else:
        found = [sink for kind in installed("sink").of("sink").values() if (sink := kind.at(place)) is not None]
    if not found:
        raise ConfigError(f"{place}: {'no sink of this pipeline keeps files' if is_file else 'nothing to compact there'}")
    yield from found
