"""The commands `esmond-etl archive serve` and `esmond-etl archive load`: each imports what it needs when it is called."""

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click

_FILE = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@click.group()
def archive() -> None:
    """A small esmond archive in one file, in one process."""


@archive.command(name="serve")
@_FILE
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8085, show_default=True, help="Port to listen on; 0 picks a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--token", envvar="ESMOND_ETL_ARCHIVE_TOKEN", help="Token that writers must send; without it the archive is read-only."
)
@click.option("--script-alias", default="esmond", show_default=True, help="Path before /perfsonar/archive/ in URLs.")
@click.option(
    "--slow", type=click.FloatRange(0, min_open=True), metavar="N", help="Write N values per second, as slowly as a real esmond."
)
def serve_command(file: Path, port: int, host: str, token: str | None, script_alias: str, slow: float | None) -> None:
    """Serve the archive in FILE until interrupted; FILE is created if it is missing."""
    try:
        from esmond_etl_archive.server import serve
    except ImportError as error:
        raise click.UsageError(f"the embedded archive is not installed ({error}): pip install 'esmond-etl[archive]'") from None
    stop = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)  # blocked in all threads, so that sigwait gets them
    with _one_sentence(file), serve(file, port, token, host, script_alias, slow) as running:
        click.echo(f"{file} is served at {running.archive_url}")
        signal.sigwait(stop)


@archive.command(name="load")
@_FILE
@click.argument("data", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def load_command(file: Path, data: Path) -> None:
    """Load the measurements in DATA into the archive in FILE, which is created if it is missing.

    DATA is a JSON list of {"metadata": what is posted to an archive, "datapoints": {event type: [[ts, val], ...]}}. Existing
    datapoints do not change.
    """
    from esmond_etl_archive.loading import load, records
    from esmond_etl_archive.store import Archive

    with _one_sentence(file), closing(Archive(file)) as store:
        loaded = load(store, records(data))
    click.echo(
        f"{loaded.metadata} metadata: {loaded.written} datapoints written, {loaded.unchanged} unchanged, "
        f"{loaded.conflicts} in conflict with what is there"
    )
    if loaded.conflicts:
        raise SystemExit(1)


@contextmanager
def _one_sentence(file: Path) -> Iterator[None]:
    """Ends the command with the error, and exit code 2."""
    import sqlite3

    from esmond_etl_archive.refusal import Refused

    try:
        yield
    except Refused as error:
        raise click.UsageError(str(error)) from None
    except (sqlite3.Error, OSError) as error:
        raise click.UsageError(f"{file}: {error}") from None
