"""The delivery of one task to OpenSearch: tests are sent as soon as enough of them are complete."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from esmond_etl import Batch, Load, Receipt, Series, SinkError, Task, moment
from esmond_etl_opensearch.portion import Portion, Sent, Target
from esmond_etl_opensearch.server import ServerError

#: Bytes of datapoints of complete tests that are sent together.
_TOGETHER: Final = 8_000_000


class OpenSearchLoad(Load):
    """Keeps the datapoints of a test until all of its series have ended, then makes documents from them."""

    def __init__(self, target: Target, task: Task, remark: str = "", reports: bool = False) -> None:
        """With `reports`, the receipt tells by host and hour which results were missing."""
        self._target, self._task, self._remark, self._reports = target, task, remark, reports
        self._lock = threading.Lock()
        self._waiting: dict[str, set[Series]] = {}  # metadata key -> its series that have not ended
        for series in task.series:
            self._waiting.setdefault(series.metadata.key, set()).add(series)
        self._batches: dict[Series, list[Batch]] = {}
        self._ended: dict[str, list[Series]] = {}
        self._complete: list[str] = []  # keys
        self._size = 0  # bytes of the datapoints of the complete tests
        self._sent: list[Sent] = []
        self._failure: Exception | None = None

    def write(self, batch: Batch) -> None:
        """Keep `batch`."""
        with suppress(ValueError, TypeError):  # a value that is not a histogram is refused later
            batch.opened()  # the digest is made of the result
        with self._lock:
            self._batches.setdefault(batch.series, []).append(batch)

    def end(self, series: Series) -> None:
        """Note that `series` is complete; sends complete tests once they have enough datapoints. Raises SinkError if that fails."""
        key = series.metadata.key
        with self._lock:
            self._ended.setdefault(key, []).append(series)
            waiting = self._waiting.get(key, set())
            waiting.discard(series)
            if waiting:
                return
            self._complete.append(key)
            self._size += sum(batch.points.nbytes for each in self._ended[key] for batch in self._batches.get(each, ()))
            if self._size < _TOGETHER:
                return
            complete, self._complete, self._size = self._complete, [], 0
        self._send(complete)

    def rollback(self) -> None:
        """Forget what has not been sent; what was sent is found unchanged when the task is delivered again."""
        with self._lock:
            self._batches.clear()
            self._ended.clear()
            self._complete.clear()

    def commit(self) -> Receipt:
        """Send the rest, and return when the server has acknowledged all documents and they can be read back."""
        if self._failure is not None:
            raise self._failure
        self._send(list(self._ended))
        missing = sum((each.missing for each in self._sent), Counter[tuple[str, int]]())
        written = sum(each.written for each in self._sent)
        remarks = {self._remark: written} if self._remark and written else {}
        if self._reports:
            remarks |= {_was_missing(*where): count for where, count in sorted(missing.items())}
        rejects = [reject for each in self._sent for reject in each.rejects]
        return Receipt(written, sum(each.unchanged for each in self._sent), rejects, remarks)

    def _send(self, keys: Iterable[str]) -> None:
        """Send the series of some tests that have ended."""
        with self._lock:
            ended = [series for key in keys for series in self._ended.pop(key, ())]
            batches = {series: self._batches.pop(series, []) for series in ended}
        if not batches:
            return
        try:
            sent = Portion(self._target, self._task.interval, batches).send()
        except ServerError as error:
            self._failure = SinkError(str(error))
            raise self._failure from None
        except Exception as error:
            self._failure = error
            raise
        with self._lock:
            self._sent.append(sent)


def _was_missing(host: str, hour: int) -> str:
    return f"results of {host} were missing in the hour from {moment(hour)}"
