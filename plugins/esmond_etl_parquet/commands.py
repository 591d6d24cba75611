"""The command `esmond-etl compact`: what it needs is imported when it is called."""

from __future__ import annotations

from collections.abc import Iterator

import click


@click.command(short_help="Merge the small files of a Parquet tree.")
@click.argument("places", metavar="PIPELINE_OR_PATH...", nargs=-1, required=True)
def compact(places: tuple[str, ...]) -> None:
    """Merge small Parquet files, until no event type has more than two a day.

    Each PIPELINE_OR_PATH is a pipeline file, for all its Parquet sinks, or a sink's path or URL. Rows stay as they are. It may be
    killed, and run while pipelines and readers are at work.
    """
    from esmond_etl import ConfigError, SinkError
    from esmond_etl_parquet.compact import compact as compacted
    from esmond_etl_parquet.tree import Tree, spoken, without_secrets

    for path in (path for place in places for path in _paths(place)):
        before = after = days = 0
        with spoken(SinkError, without_secrets(path)):
            tree = Tree(path)
            if not tree.names(""):
                raise ConfigError(f"{tree.shown}: there is nothing there")
            tree.open()
            try:
                for each in compacted(tree):
                    before, after, days = before + each.before, after + each.after, days + 1
            finally:
                tree.close()
        click.echo(f"{tree.shown}: {before:,} files in {days:,} folders merged into {after:,}")


def _paths(place: str) -> Iterator[str]:
    """The paths of the Parquet sinks that `place` stands for."""
    if not place.endswith(".toml"):
        yield place
        return
    from esmond_etl import ConfigError, load
    from esmond_etl_parquet.sink import ParquetSink

    paths = [sink.path for sink in load(place).definition.sinks if isinstance(sink, ParquetSink)]
    if not paths:
        raise ConfigError(f"{place}: this pipeline has no sink of type parquet")
    yield from paths
