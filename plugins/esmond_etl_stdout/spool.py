"""Bytes of many series, kept apart until they are wanted."""

from collections.abc import Iterator
from tempfile import SpooledTemporaryFile

from esmond_etl import Series

#: As many bytes of a task stay in memory; more go to a temporary file.
IN_MEMORY = 8 << 20


class Spool:
    """Bytes that come piecemeal, for several series in turns, and leave one series after the other."""

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._file = SpooledTemporaryFile(in_memory)  # noqa: SIM115  closed by `close`
        self._pieces: dict[Series, list[tuple[int, int]]] = {}

    def add(self, series: Series, data: bytes) -> None:
        """Keep `data` after what there is of `series`."""
        start = self._file.seek(0, 2)
        self._file.write(data)
        self._pieces.setdefault(series, []).append((start, len(data)))

    def holds(self, series: Series) -> bool:
        """Whether there are bytes of `series`."""
        return series in self._pieces

    def pieces(self, series: Series) -> Iterator[bytes]:
        """The bytes of `series`, in the order they came."""
        for start, length in self._pieces.get(series, ()):
            self._file.seek(start)
            yield self._file.read(length)

    def close(self) -> None:
        """Let go of all bytes."""
        self._file.close()
        self._pieces.clear()
