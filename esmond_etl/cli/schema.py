"""`esmond-etl schema`: the JSON Schema of pipeline files."""

from __future__ import annotations

from pathlib import Path

import click

from esmond_etl import cli
from esmond_etl.cli import show


@click.command(short_help=cli.COMMANDS["schema"])
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write to; default: standard output.",
)
def command(output: Path | None) -> int:
    """Print the JSON Schema (draft 2020-12) of pipeline files, made from the options of all installed plugins.

    With it, editors complete and explain pipeline files as they are written (Even Better TOML, taplo, Zed, Helix, Neovim):

    \b
      esmond-etl schema -o pipeline.schema.json
      and as the first line of mirror.toml:
      #:schema ./pipeline.schema.json
    """
    import json

    from esmond_etl.pipeline.schema import schema
    from esmond_etl.plugin.registry import installed

    registry = installed()
    made = schema(registry)
    if output:
        with show.writing(output):
            output.write_text(json.dumps(made, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    else:
        show.as_json(made)
    for problem in registry.problems:
        show.say(problem)
    return cli.DONE
