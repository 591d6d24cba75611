"""Output for people and programs: tables, progress bars in a terminal, plain lines or JSON elsewhere."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from esmond_etl import cli
from esmond_etl.model.errors import ConfigError
from esmond_etl.model.interval import format_duration
from esmond_etl.model.text import printable

if TYPE_CHECKING:
    from pathlib import Path

    from esmond_etl.engine.delivery import Outcome
    from esmond_etl.engine.result import Result
    from esmond_etl.pipeline.definition import Definition

T = TypeVar("T")

#: The shortest time between two plain progress lines, s.
EVERY = 10


def table(head: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None, file: Any = None) -> None:
    """Print a table; columns of numbers are aligned to the right.

    In a terminal, numbers and times are never shortened, other cells continue in the next line, a constant column is shown above
    the table, and an empty column is left out.
    """
    from rich.console import Console
    from rich.table import Table

    cells = [list(row) for row in rows]
    console = Console(file=file or sys.stdout, highlight=False, markup=False)
    if not console.is_terminal:
        _print_whole(head, cells, title, file or sys.stdout)
        return
    constant = _constant(cells)
    empty = [index for index in range(1, len(head)) if cells and not any(row[index] for row in cells)]
    shown = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="bold", pad_edge=False)
    for index in constant:
        console.print(f"{head[index]}: {_cell(next(row[index] for row in cells if row[index]))}")
    kept = [index for index in range(len(head)) if index not in (*constant, *empty)]
    for index in kept:
        numbers = _are_numbers([row[index] for row in cells])
        if numbers or _are_times([row[index] for row in cells]):
            shown.add_column(head[index], justify="right" if numbers else "left", no_wrap=True, min_width=_width(cells, index))
        else:
            shown.add_column(head[index], overflow="fold")
    for row in cells:
        shown.add_row(*(_cell(row[index]) for index in kept))
    console.print(shown)


def _print_whole(head: Sequence[str], cells: list[list[object]], title: str | None, file: TextIO) -> None:
    """Print a complete table, however wide: a reader outside a terminal wants everything, and the table may be very long."""
    texts = [head, *([_cell(cell) for cell in row] for row in cells)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    numbers = [_are_numbers([row[index] for row in cells]) for index in range(len(head))]
    line = "  ".join(f"{{:{'>' if right else '<'}{width}}}" for width, right in zip(widths, numbers, strict=True))
    file.writelines(f"{each}\n" for each in ([title] if title else []) + [line.format(*row) for row in texts])


def _constant(cells: list[list[object]]) -> list[int]:
    """The columns, except the first, that are constant over several rows; a row with only a first cell is a heading."""
    rows = [row for row in cells if any(cell is not None for cell in row[1:])]
    first = rows[0] if len(rows) > 1 else []
    return [index for index in range(1, len(first)) if first[index] and all(row[index] == first[index] for row in rows)]


def _are_numbers(cells: list[object]) -> bool:
    return any(isinstance(cell, int | float) for cell in cells) and all(isinstance(cell, int | float | None) for cell in cells)


def _are_times(cells: list[object]) -> bool:
    return any(cells) and all(not cell or re.match(r"\d{4}-\d\d-\d\d", str(cell)) for cell in cells)


def _width(cells: list[list[object]], index: int) -> int:
    return max(len(_cell(row[index])) for row in cells)


def _cell(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else printable(str(value), one_line=True)


def filled(text: str, width: int, indent: int = 4) -> str:
    """Lines of at most `width` characters, broken only between words; continuation lines are indented."""
    wrapper = textwrap.TextWrapper(width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(map(wrapper.fill, text.split("\n")))


def wrapped(text: str, file: TextIO) -> str:
    """Print lines, unchanged for programs, broken between words for people; control characters are escaped."""
    text = printable(text)
    return filled(text, max(40, shutil.get_terminal_size().columns)) if file.isatty() else text


def as_json(value: Any, file: Any = None) -> None:
    """Print a value as one JSON document."""
    print(json.dumps(value, ensure_ascii=False, indent=2), file=file)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the file system at `path` into a ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}: give another path") from None


def output(pipeline: Definition) -> TextIO:
    """The stream for the summary of a run: stderr if the datapoints go to stdout."""
    return sys.stderr if any(sink.features.prints for sink in pipeline.sinks) else sys.stdout


def say(text: str, **facts: Any) -> None:
    """Print a line on stderr; as JSON, with `facts`, if the environment asks for JSON logs."""
    if cli.logs_json():
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        print(json.dumps({"at": now, "message": text, **facts}, ensure_ascii=False), file=sys.stderr, flush=True)
    else:
        print(wrapped(text, sys.stderr), file=sys.stderr, flush=True)


class Lines:
    """Shows the progress of a run as plain lines on stderr."""

    def __init__(self, name: str, quiet: bool = False) -> None:
        self.name, self.quiet = name, quiet
        self.total = self.done = 0
        self.last = time.monotonic()

    def listed(self, series: int) -> None:
        """Print nothing: listing is short."""

    def planned(self, amount: int) -> None:
        """Note how much there is to do."""
        self.total = amount

    def moved(self, amount: int, outcome: Outcome, result: Result) -> None:
        """Print the progress, if the last line is some time ago."""
        self.done += amount
        if not self.quiet and time.monotonic() - self.last >= EVERY:
            self.last = time.monotonic()
            share = 100 * self.done / max(self.total, 1)
            text = f"{self.name}: {share:.0f} % done, {result.read} datapoints read, {len(result.failures)} series failed"
            say(text, pipeline=self.name, share=round(share, 1), read=result.read, failed=len(result.failures))

    def waiting(self, text: str) -> None:
        """Print what the run waits for."""
        if text and not self.quiet:
            say(f"{self.name}: {text}", pipeline=self.name)


def watched(results: Iterable[T], total: int, what: str) -> Iterator[T]:
    """The same results, with a progress bar in a terminal."""
    if not sys.stderr.isatty():
        yield from results
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(results, what, total, console=Console(stderr=True))


class Bar:
    """Shows the progress of a run as a bar on stderr."""

    def __init__(self, progress: Any, name: str) -> None:
        self.progress = progress
        self.task = progress.add_task(f"{name}: listing", total=None, points="")
        self.name, self.began = name, time.monotonic()

    def listed(self, series: int) -> None:
        """Show the number of series."""
        self.progress.update(self.task, points=f"{series:,} series")

    def waiting(self, text: str) -> None:
        """Print above the bar what the run waits for."""
        if text:
            self.progress.console.print(f"{self.name}: {text}", markup=False, highlight=False)

    def planned(self, amount: int) -> None:
        """Start the bar."""
        self.began = time.monotonic()
        self.progress.update(self.task, description=self.name, total=amount or 1, completed=0 if amount else 1)

    def moved(self, amount: int, outcome: Outcome, result: Result) -> None:
        """Advance the bar, and show the rate."""
        seconds = time.monotonic() - self.began
        rate = f", {result.read / seconds:,.0f}/s" if seconds >= 1 else ""
        self.progress.update(self.task, advance=amount, points=f"{result.read:,} datapoints{rate}")


@contextmanager
def watching(name: str, quiet: bool = False) -> Iterator[Lines | Bar]:
    """A progress bar if stderr is a terminal, otherwise plain lines."""
    if quiet or not sys.stderr.isatty():
        yield Lines(name, quiet)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(24), TaskProgressColumn(), TextColumn("{task.fields[points]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        yield Bar(progress, name)


#: At most this many remarks are printed.
REMARKS = 40


def result(result: Result, file: Any = None) -> None:
    """Print the summary of a run: one line per sink, and requests, bytes and time."""
    lines = [f"{result.pipeline}: {result.note}"] if result.note else []
    lines.append(f"{result.pipeline}: {result.series:,} series, {result.read:,} datapoints read, {result.interval}")
    if result.faulty:
        lines.append(f"  {result.faulty:,} datapoints of the source are not valid and were left out: see `esmond-etl rejects`")
    lines += _receipts(result)
    amount = f"{result.received / 1e6:,.1f} MB" if result.received >= 1e5 else f"{result.received:,} bytes"
    lines.append(f"  {result.requests:,} requests, {amount}, {result.seconds:.1f} s")
    if result.waiting:
        lines.append(f"  {result.waiting:,} rejected datapoints wait: list them with `esmond-etl rejects`, send them with --retry")
    remarks = list(result.remarks.items())
    lines += [f"  {count:,} {remark}" for remark, count in remarks[:REMARKS]]
    if len(remarks) > REMARKS:
        lines.append(f"  and {len(remarks) - REMARKS:,} more remarks: --json has all")
    print(wrapped("\n".join(lines), file or sys.stdout), file=file)


def _receipts(result: Result) -> Iterator[str]:
    """One line per sink, as wide as the numbers need."""
    rows = [(label, f"{sink.written:,}", f"{sink.unchanged:,}", f"{sink.rejected:,}") for label, sink in result.sinks.items()]
    name, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    for label, *numbers in rows:
        written, unchanged, rejected = map(str.rjust, numbers, widths)
        yield f"  {label:<{name}}  {written} written  {unchanged} unchanged  {rejected} rejected"


def profile(result: Result) -> None:
    """Print on stderr the CPU seconds of each part."""
    total = sum(result.profile.values())
    rows = [(part, round(seconds, 2), round(100 * seconds / total)) for part, seconds in result.profile.items()]
    table(("part", "CPU s", "%"), [*rows, ("all", round(total, 2), 100)], file=sys.stderr)


def failures(result: Result, most: int = 20) -> None:
    """Print on stderr which series are not done, and why: one line per reason."""
    by_reason: dict[str, list[str]] = {}
    for series, message in result.failures.items():
        by_reason.setdefault(message, []).append(str(series))
    for message, (first, *others) in list(by_reason.items())[:most]:
        which = f"{first} and {len(others):,} more series" if others else first
        say(f"  not done: {which}: {message}", series=first, more=len(others), reason=message)
    if len(by_reason) > most:
        say(f"  and for {len(by_reason) - most} more reasons; `esmond-etl status` lists all series")


def duration(seconds: int) -> str:
    """A length of time for people."""
    return format_duration(seconds)


@contextmanager
def working(text: str) -> Iterator[None]:
    """A spinner on stderr, in a terminal, during work of unknown length."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second signal ends the process at once."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: object) -> None:
        stop.set()
        say("stopping: what is in flight is finished or rolled back ...")
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
