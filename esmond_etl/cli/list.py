"""The command `list`: what an archive has measured."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from esmond_etl import cli
from esmond_etl.cli import selecting
from esmond_etl.cli.printing import PRINTERS
from esmond_etl.model.interval import Interval, moment

if TYPE_CHECKING:
    from esmond_etl.model.series import Metadata

#: Columns of a list of metadata, of its extended form, and of a list of endpoints.
COLUMNS = ("source", "destination", "measurement_agent", "input_source", "input_destination", "tool_name")
EXTENDED = (*COLUMNS, "subject_type", "metadata_key", "event_types")
ENDPOINTS = ("source", "destination", "measurement_agent", "tool_name", "event_type")

EPILOG = """\b
Examples:
  Sources, destinations and event types of the last 24 hours:
    esmond-etl list https://archive.example.net/ --endpoints
  Every test with powstream since the beginning of the year:
    esmond-etl list https://archive.example.net/ --tool pscheduler/powstream -S "January 1"
  All metadata of the tests of one host, as JSON lines:
    esmond-etl list https://archive.example.net/ -s 198.51.100.1 -S 5000d --extended -o jsonl

A test is listed if data were written to it since --start-time. When its datapoints were measured the list does not say: that is
for `esmond-etl get`."""


@click.command(epilog=EPILOG)
@click.argument("url")
@selecting.options(selecting.SELECTING)
@click.option(
    "-S", "--start-time", metavar="TIME", help='As in "January 1", 2014-03-01T12:00Z, or 30d for that long ago.  [default: 24h]'
)
@click.option("-T", "--summary-type", metavar="TYPE", help="Tests with summaries of this type.")
@click.option(
    "-W", "--summary-window", type=click.IntRange(0), metavar="SECONDS", help="Tests with summaries over windows of this length, s."
)
@click.option("--endpoints", is_flag=True, help="One row per tool and pair of hosts, with its event types.")
@click.option("-M", "--metadata-extended", "--extended", "extended", is_flag=True, help="All metadata, with every parameter.")
@selecting.options(selecting.ANSWERING, selecting.CONNECTING)
def command(url: str, **given: Any) -> int:
    """Print the tests whose results the archive at URL has."""
    from esmond_etl.client.reading import Reader  # imports pyarrow and requests
    from esmond_etl.client.selection import Selection

    now = selecting.now()
    start = selecting.moment_of("--start-time", given["start_time"], now - 86400, now)
    criteria = {**selecting.criteria(given), "summary-type": given["summary_type"], "summary-window": given["summary_window"]}
    selection = Selection(criteria | {"time-start": start}, frozenset(given["event_types"]) or None, None, Interval(start, now + 1))
    reader = Reader(selecting.connect(url, given))
    columns, rows = _rows(selection.metadata(reader), given, selecting.namer(given["ip"]))
    code = cli.INCOMPLETE if selecting.invalid(reader) else cli.DONE
    if not rows:
        print(f"{url}: no such tests since {moment(start)}", file=sys.stderr)
        return code
    printer = PRINTERS[selecting.format_of(given, "table")](sys.stdout, columns)
    printer.rows(columns, rows)
    printer.end()
    return code


def _rows(
    listed: Iterable[Metadata], given: dict[str, Any], name: Callable[[str | None], str | None]
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """The columns, and the sorted rows."""
    if given["endpoints"]:
        return ENDPOINTS, sorted(_endpoints(listed, name), key=str)
    entries = list(listed)
    parameters = sorted({parameter for each in entries for parameter in each.parameters}) if given["extended"] else []
    columns = EXTENDED if given["extended"] else COLUMNS
    rows = [(*_cells(each, columns, name), *(each.parameters.get(parameter) for parameter in parameters)) for each in entries]
    return (*columns, *(parameter.replace("-", "_") for parameter in parameters)), sorted(rows, key=str)


def _endpoints(listed: Iterable[Metadata], name: Callable[[str | None], str | None]) -> Iterator[tuple[Any, ...]]:
    found: dict[tuple[Any, ...], dict[str, None]] = {}
    for each in listed:
        row = tuple(_cells(each, ENDPOINTS[:-1], name))
        found.setdefault(row, {}).update(dict.fromkeys(each.event_types))
    for row, event_types in found.items():
        yield (*row, sorted(event_types))


def _cells(metadata: Metadata, columns: Iterable[str], name: Callable[[str | None], str | None]) -> Iterator[Any]:
    own = {
        "source": name(metadata.source),
        "destination": name(metadata.destination),
        "measurement_agent": name(metadata.measurement_agent),
        "metadata_key": metadata.key,
        "event_types": sorted(metadata.event_types),
    }
    return (own[column] if column in own else getattr(metadata, column) for column in columns)
