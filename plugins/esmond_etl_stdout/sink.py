"""The stdout sink: what was committed, in lines."""

import sys
import threading
from typing import ClassVar, Literal

from pydantic import Field, PrivateAttr

from esmond_etl import Batch, Context, Features, Load, Receipt, Series, Sink, SinkError, Task
from esmond_etl_stdout.formats import FORMATS, Format
from esmond_etl_stdout.spool import Spool

#: There is one standard output in a process, for all writers.
_STDOUT = threading.Lock()


class StdoutSink(Sink):
    """Print the datapoints: a table for people, CSV or JSON lines for programs.

    A task is printed when it is complete: series by series, oldest first. What is printed cannot be taken back: if the run dies after
    a task was printed and before that was recorded, the next run prints its lines again.
    """

    example: ClassVar[str] = """
        [[sink]]
        type = "stdout"
        format = "csv"
    """

    place: ClassVar[tuple[str, ...]] = ("format",)

    format: Literal["table", "csv", "jsonl"] = Field(
        "table", description="table (for people, long values shortened), csv, or jsonl (one JSON object a line)"
    )

    _widths: list[int] = PrivateAttr(default_factory=list)  #: of the columns printed so far

    def open(self, context: Context) -> None:
        """Start anew, with a heading."""
        self._widths = []

    @property
    def features(self) -> Features:
        """What is printed cannot be taken back."""
        return Features(repeats=False, replaces=False, reads_back=False, prints=True)

    def begin(self, task: Task) -> Load:
        """Lines that are printed when the task is committed."""
        return _StdoutLoad(self, task)

    def show(self, load: "_StdoutLoad") -> None:
        """Print what `load` has collected; raises SinkError if nobody reads it any more."""
        with _STDOUT:
            try:
                for lines in load.format.printed(load.ended, load.spool, self._widths):
                    _print(lines)
                sys.stdout.flush()
            except BrokenPipeError:
                raise SinkError("standard output was closed by the program that read it") from None
            except OSError as error:
                raise SinkError(f"standard output: {error.strerror}") from None


def _print(lines: bytes) -> None:
    if hasattr(sys.stdout, "buffer"):
        sys.stdout.buffer.write(lines)  # as bytes, without the locale's encoding or other line ends
    else:
        sys.stdout.write(lines.decode())  # a notebook


class _StdoutLoad(Load):
    """The lines of one task, kept in memory, or in a temporary file once they are many."""

    def __init__(self, sink: StdoutSink, task: Task) -> None:
        self.format: Format = FORMATS[sink.format]()
        self.spool = Spool()
        self.ended: list[Series] = []
        self._sink, self._task = sink, task
        self._written: dict[Series, int] = {}
        self._lock = threading.Lock()

    def write(self, batch: Batch) -> None:
        """Keep the lines of `batch`."""
        if not len(batch):
            return
        lines = self.format.lines(batch)
        with self._lock:
            self.spool.add(batch.series, lines)
            self._written[batch.series] = self._written.get(batch.series, 0) + len(batch)

    def end(self, series: Series) -> None:
        """Note that `series` is complete."""
        with self._lock:
            self.ended.append(series)

    def commit(self) -> Receipt:
        """Print the lines of the series that are complete, in the task's order."""
        places = {series: place for place, series in enumerate(self._task.series)}
        self.ended.sort(key=lambda series: (places.get(series, len(places)), series.id))
        self._sink.show(self)
        self.spool.close()
        return Receipt(written=sum(self._written.get(series, 0) for series in self.ended))

    def rollback(self) -> None:
        """Forget them."""
        self.spool.close()
