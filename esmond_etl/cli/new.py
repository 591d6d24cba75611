"""`esmond-etl new`: a pipeline file, or a plugin, to start from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from esmond_etl import cli
from esmond_etl.cli import show
from esmond_etl.model.errors import ConfigError


@click.group(short_help=cli.COMMANDS["new"])
def command() -> None:
    """Write a pipeline file, or a plugin, to start from. Existing files are never overwritten."""


@command.command(name="pipeline", short_help="Write a pipeline file that passes check, with comments.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@click.option("--source", metavar="URL", help="URL of the archive to read from.")
@click.option("--sink", metavar="NAME", help="Type of the sink, one of the installed ones (see esmond-etl plugins).")
@click.option("--target", metavar="PLACE", help="Target of the sink: a folder, or a URL.")
@click.option("--from", "from_", metavar="TIME", help='Start of the measurements: a date, a time, or an age such as "30d".')
@click.option("--event-types", metavar="NAME,...", help='Event types to read, separated by commas; "all" for all.')
def pipeline(file: Path | None, **answers: str | None) -> int:
    """Write a pipeline to FILE, with comments; asks for missing options.

    \b
    Example:
      esmond-etl new pipeline mirror.toml --source https://archive.example.net/ \\
          --sink parquet --target out/ --from 2014-01-01 --event-types all
    """
    from esmond_etl.pipeline import scaffold

    path = file or Path(_asked_for("File to write", "pipeline.toml", lambda answer: _refuse(Path(answer))))
    _refuse(path)
    text, unset = scaffold.pipeline(path, _answered(answers))
    with show.writing(path):
        path.write_text(text, encoding="utf-8")
    needs = f"set {', '.join(unset)} in the environment, then: " if unset else ""
    print(f"{path} is written; next: {needs}esmond-etl check {path}")
    return cli.DONE


@command.command(name="plugin", short_help="Write an installable plugin, with tests that pass.")
@click.argument("name")
@click.option(
    "-d",
    "--directory",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write to; default: NAME, in the current folder.",
)
def plugin(name: str, directory: Path | None) -> int:
    """Write an installable plugin called NAME: a transform, a sink, and their tests, which pass without changes."""
    from esmond_etl.pipeline import scaffold

    folder = directory or Path(name)
    files = scaffold.plugin(name)
    _refuse_to_overwrite(folder)
    with show.writing(folder):
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    print("\n".join(str(folder / path) for path in files))  # only after everything is written: the reader of stdout may go away
    print(f"next: pip install -e '{folder}[test]' && pytest {folder}, and see it in: esmond-etl plugins")
    return cli.DONE


def _refuse_to_overwrite(path: Path) -> None:
    with show.writing(path):
        free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    if not free:
        raise ConfigError(f"{path} exists already: give another name")


def _refuse(path: Path) -> None:
    _refuse_to_overwrite(path)
    if not path.parent.is_dir():
        raise ConfigError(f"{path} cannot be written: there is no folder {path.parent}: make it, or give another path")


def _asked_for(text: str, default: str, check: Callable[[str], None]) -> str:
    """The first answer that `check` accepts."""

    def checked(answer: str) -> str:
        try:
            check(answer)
        except ConfigError as error:
            raise click.UsageError(str(error)) from None
        return answer

    return str(click.prompt(text, default=default, value_proc=checked))


def _answered(given: dict[str, str | None]) -> dict[str, str]:
    """The values of the options, and answers to questions for the others."""
    from esmond_etl.pipeline import scaffold

    answers: dict[str, str] = {}
    for name in scaffold.QUESTIONS:
        answer = given[name]
        question = scaffold.question(name, answers) if answer is None else None
        if question:
            text, default, choices = question
            if choices:
                answer = str(click.prompt(text, default=default, type=click.Choice(choices)))
            else:
                answer = _asked_for(text, default, partial(_check, name, answers))
        answers[name] = answer or ""
    return answers


def _check(name: str, answers: dict[str, str], answer: str) -> None:
    from esmond_etl.pipeline import scaffold

    scaffold.check(name, {**answers, name: answer})
