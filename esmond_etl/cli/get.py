"""The command `get`: datapoints of an archive, printed or in files."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

from esmond_etl import cli
from esmond_etl.cli import selecting
from esmond_etl.cli.printing import PRINTERS, Printer
from esmond_etl.model.errors import ConfigError, EsmondEtlError
from esmond_etl.model.event_types import EVENT_TYPES, URL_WORDS
from esmond_etl.model.interval import Interval

if TYPE_CHECKING:
    from esmond_etl.client.reading import Reader
    from esmond_etl.model.batch import Batch
    from esmond_etl.model.series import Series, Summary

EPILOG = """\b
Examples:
  All measurements with powstream in the last 24 hours:
    esmond-etl get https://archive.example.net/ --tool pscheduler/powstream
  Throughput between two hosts since January:
    esmond-etl get https://archive.example.net/ -s 198.51.100.1 -d 203.0.113.2 -e throughput -S "January 1"
  Daily averages of a year, as CSV:
    esmond-etl get https://archive.example.net/ -e throughput -T average -W 86400 -S 2014-01-01 -E 2015-01-01 -o csv
  Everything that one host measured in March, a file for each series:
    esmond-etl get https://archive.example.net/ -a 198.51.100.1 -S 2014-03-01 -E 2014-04-01 --directory march/
  Loss of the tests over UDP, as JSON lines, for jq:
    esmond-etl get https://archive.example.net/ -e packet-loss-rate -F ip-transport-protocol:udp -o jsonl | jq .value

Every row begins with source, destination, event_type, tool, summary_type, summary_window and timestamp (UTC). Then come:

\b
  numbers           value (throughput in bit/s, loss rates from 0 to 1)
  histograms        bucket, value (one-way delays: buckets of the test's
                    sample-bucket-width, which is mostly, not always, 1 ms)
  statistics        min, median, max, mean, mode, standard_deviation, variance,
                    percentile_25, percentile_75, percentile_95
  failures          msg
  packet traces     ttl, query, success, ip, rtt, mtu, error_message
                    (packet-trace-multi: trace_num first)
  subintervals      start, duration, value
  streams           stream_num, value
  their subintervals  stream_num, start, duration, value
  whatever else     value, as JSON

A series that cannot be read does not stop the others: it is reported, and the exit code is 1."""


@click.command(epilog=EPILOG)
@click.argument("url")
@selecting.options(selecting.SELECTING)
@click.option(
    "-S", "--start-time", metavar="TIME", help='As in "January 1", 2014-03-01T12:00Z, or 30d for that long ago.  [default: 24h]'
)
@click.option("-E", "--end-time", metavar="TIME", help="End here (not included). [default: now]")
@click.option("-T", "--summary-type", type=click.Choice([*URL_WORDS]), help="Summaries instead of base data.")
@click.option(
    "-W", "--summary-window", type=click.IntRange(0), metavar="SECONDS", help="Only summaries over windows of this length, s."
)
@selecting.options(selecting.ANSWERING)
@click.option("-D", "--directory", type=click.Path(file_okay=False, path_type=Path), help="Write a file for each series here.")
@selecting.options(selecting.CONNECTING)
def command(url: str, **given: Any) -> int:
    """Print the datapoints of the archive at URL.

    Without options, that is everything of the last 24 hours: use options to select.
    """
    from esmond_etl.client.reading import Reader  # imports pyarrow and requests

    interval = _interval(given)
    format_name = selecting.format_of(given, "csv" if given["directory"] else "table")
    if given["directory"] and format_name == "table":
        raise ConfigError("--directory takes --format csv, spreadsheet or jsonl")
    reader = Reader(selecting.connect(url, given))
    series = sorted(_selected(reader, given, interval), key=_place)
    code = cli.INCOMPLETE if selecting.invalid(reader) else cli.DONE
    if not series:
        print(f"{url}: no such series from {interval}", file=sys.stderr)
        return code
    reading = _Reading(reader, interval, selecting.namer(given["ip"]), show=bool(given["directory"]) or not sys.stdout.isatty())
    if given["directory"]:
        reading.into(given["directory"], series, format_name)
    else:
        reading.to(sys.stdout, series, format_name)
    return cli.INCOMPLETE if reading.failed else code


def _interval(given: dict[str, Any]) -> Interval:
    now = selecting.now()
    start = selecting.moment_of("--start-time", given["start_time"], now - 86400, now)
    end = selecting.moment_of("--end-time", given["end_time"], now + 1, now)
    if end <= start:
        raise ConfigError("--end-time does not lie after --start-time")
    return Interval(start, end)


def _selected(reader: Reader, given: dict[str, Any], interval: Interval) -> Iterator[Series]:
    from esmond_etl.client.selection import Selection

    names = frozenset(given["event_types"]) or None
    listed = list(Selection(selecting.criteria(given), names, None, interval).metadata(reader))
    unknown = sorted(set(names or ()).difference(EVENT_TYPES, *(metadata.event_types for metadata in listed)))
    if unknown:
        near = get_close_matches(unknown[0], EVENT_TYPES, 1)
        raise ConfigError(f"there is no event type {unknown[0]}" + (f": did you mean {near[0]}?" if near else ""))
    for series in Selection(event_types=names, summaries=None).series(listed):
        if _wanted(series.summary, given["summary_type"], given["summary_window"]):
            yield series


def _place(series: Series) -> tuple[str, ...]:
    """The sort key of a series for people: metadata keys are random."""
    metadata = series.metadata
    return (metadata.source or "", metadata.destination or "", *series.id[1:], metadata.tool_name or "", metadata.key)


def _wanted(summary: Summary, kind: str | None, window: int | None) -> bool:
    if not kind and not window:
        return summary.type == "base"
    if kind == "base":
        return summary.type == "base"
    return summary.type in ((kind,) if kind else URL_WORDS) and window in (None, summary.window)


class _Reading:
    """Reads series from an archive as rows; one that fails is reported, and the next one follows."""

    def __init__(self, reader: Reader, interval: Interval, name: Callable[[str | None], str | None], show: bool) -> None:
        self.failed = 0
        self._reader, self._interval, self._name = reader, interval, name
        self._progress = _Progress(show and sys.stderr.isatty())

    def to(self, out: TextIO, series: list[Series], format_name: str) -> None:
        """Print the rows of all `series` under one heading."""
        from esmond_etl.cli.rows import columns

        printer = PRINTERS[format_name](out, columns(series))
        self._each(series, lambda each, batches: self._print(each, batches, printer))
        printer.end()

    def into(self, directory: Path, series: list[Series], format_name: str) -> None:
        """Write a file for each of `series` that has datapoints, and print its name."""
        from esmond_etl.cli.rows import columns

        directory.mkdir(parents=True, exist_ok=True)
        names = file_names(series, self._interval, self._name)

        def write(each: Series, batches: Iterator[Batch]) -> None:
            first = list(islice(batches, 1))
            if first:
                target = directory / f"{names[each]}.{'csv' if format_name == 'spreadsheet' else format_name}"
                with _aside(target) as out:
                    printer = PRINTERS[format_name](out, columns([each]))
                    self._print(each, chain(first, batches), printer)
                    printer.end()
                print(target)

        self._each(series, write)

    def _print(self, series: Series, batches: Iterable[Batch], printer: Printer) -> None:
        from esmond_etl.cli.rows import columns, rows

        for batch in batches:
            printer.rows(columns([series]), rows(batch, self._name))
            self._progress.points += len(batch)
            self._progress.show()

    def _each(self, series: list[Series], take: Callable[[Series, Iterator[Batch]], None]) -> None:
        from esmond_etl.client.selection import window

        self._progress.series = len(series)
        for each in series:
            self._progress.show()
            try:
                take(each, self._reader.datapoints(each, window(each, self._interval)))
            except EsmondEtlError as error:
                self.failed += 1
                self._progress.clear()
                print(f"esmond-etl: {each}: {error}", file=sys.stderr)
            self._progress.done += 1
        self._progress.clear()


@dataclass
class _Progress:
    """One line of progress on a terminal."""

    wanted: bool
    series: int = 0
    done: int = 0
    points: int = 0

    def show(self) -> None:
        if self.wanted:
            print(f"\r{self.done}/{self.series} series, {self.points:,} datapoints\033[K", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self.wanted:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


#: Bytes of a file's name, without its suffix: file systems allow 255.
LONGEST_NAME: Final = 200


def file_names(series: list[Series], interval: Interval, name: Callable[[str | None], str | None]) -> dict[Series, str]:
    """The name of each series' file: source, destination, event type, first and last day; and its key if that is not unique."""
    days = [datetime.fromtimestamp(ts, UTC).strftime("%Y-%m-%d") for ts in interval]
    names = {}
    for each in series:
        hosts = [name(each.metadata.source), name(each.metadata.destination)]
        summary = [] if each.summary.type == "base" else [each.summary.type, str(each.summary.window)]
        parts = [part for part in [*hosts, each.event_type, *summary, *days] if part]
        names[each] = "_".join(parts)
    count = Counter(names.values())
    return {each: _file_name(text if count[text] == 1 else f"{text}_{each.metadata.key}") for each, text in names.items()}


def _file_name(text: str) -> str:
    """`text` as the name of a file, without its suffix: characters that are special in a shell become hyphens; long names end in a hash."""
    name = re.sub(r"[^\w.:+-]", "-", text).lstrip(".-")
    if name == text and len(name.encode()) <= LONGEST_NAME:
        return name
    # two names may have differed only in what was replaced or cut off
    return f"{name.encode()[: LONGEST_NAME - 9].decode(errors='ignore')}_{sha256(text.encode()).hexdigest()[:8]}"


@contextmanager
def _aside(target: Path) -> Iterator[TextIO]:
    """A file that replaces `target` once it is complete."""
    part = target.with_name(f".{target.name}.part")
    with ExitStack() as stack:
        stack.callback(part.unlink, missing_ok=True)
        with part.open("w", encoding="utf-8", newline="") as out:
            yield out
        part.replace(target)
