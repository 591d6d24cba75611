"""Bulk requests to one metadata of the target."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from esmond_etl import BASE, ArchiveError, Interval, Metadata, Series, Summary
from esmond_etl.client import wire
from esmond_etl.client.reading import Reader
from esmond_etl_esmond import bulk, summing
from esmond_etl_esmond.bulk import Bulk, Column
from esmond_etl_esmond.target import Target

#: An empty bulk request: it makes an archive show what it has stored but does not show yet.
NOTHING: Final = b'{"data":[]}'


@dataclass
class Writer:
    """Sends to one metadata of the target; there is only one writer at a time."""

    target: Target
    reader: Reader
    metadata: Metadata
    most: int = field(default=bulk.MOST, init=False)  #: timestamps per request; 0: one value per request

    @property
    def key(self) -> str:
        """The metadata's key."""
        return self.metadata.key

    def put(self, each: Bulk) -> None:
        """Send one request, which is noted first; raises ArchiveError if it fails."""
        self.target.journal.begin(self.key)
        answer = self._put(each.body)
        self.target.journal.measure(answer)
        self.target.size.learn(len(each), answer)

    def _put(self, body: bytes) -> float:
        """How long the target took, s."""
        return self.target.archive.write("PUT", f"{self.target.archive.list_url}{self.key}/", body).seconds

    def flush(self) -> ArchiveError | None:
        """Make the target show what it has stored; returns why it does not answer, or None."""
        try:
            self._put(NOTHING)
        except ArchiveError as error:
            return error
        return None

    def requests(self, columns: Sequence[Column]) -> Iterator[Bulk]:
        """Send `columns` in requests that the target adds up correctly; each after the answer to the one before."""
        careful = [column for column in columns if summing.windows(column)]
        verdict = self.target.verdict
        if verdict.adds_up is None and (two := summing.pair(careful)):
            yield from self._trial(two)
            columns, careful = summing.without(columns, two), summing.without(careful, two)
        if verdict.adds_up or not careful:
            yield from self._bulks(columns)
            return
        yield from self._bulks([column for column in columns if not summing.windows(column)])
        for part in summing.apart(careful):
            yield from self._bulks(part)

    def _bulks(self, columns: Sequence[Column]) -> Iterator[Bulk]:
        if not columns:
            return iter(())
        fitting: Callable[[], int] = lambda: min(self.most, max(1, self.target.size.values // len(columns)))  # noqa: E731
        return bulk.bulks(columns, fitting)

    def _trial(self, two: Column) -> Iterator[Bulk]:
        """Two histograms in one request, after which it is known whether the target adds up both."""
        first, second = two.ts.to_pylist()
        window = summing.windows(two)[0]
        before = self._total(two.event_type, window, first)
        self.target.verdict.begin(self.key, summing.Trial(two.event_type, window, first, second, dict(before), two.text[0].as_py()))
        yield from bulk.bulks([two])
        self.judge_trial()

    def judge_trial(self) -> None:
        """Read the result of a trial; send again what the target has not added."""
        verdict = self.target.verdict
        trial = verdict.trial(self.key)
        if trial is None:
            return
        self.flush()
        held = [self._histogram(trial.event_type, BASE, ts) for ts in (trial.first, trial.second)]
        if all(held):
            first, second = (summing.counts(text) for text in held)
            is_lossy = trial.is_lossy(first, second, self._total(trial.event_type, trial.window, trial.first))
            verdict.note(is_lossy is False)
            if is_lossy:
                self.target.journal.begin(self.key)
                text = trial.text or held[0]  # in the source's order of buckets, if it is known
                self._put(wire.encode_bulk([(trial.first, [(trial.event_type, text.encode())])]))
        verdict.end(self.key)

    def _total(self, event_type: str, window: int, ts: int) -> Counter[str]:
        """The target's aggregation of the window around `ts`."""
        return summing.counts(self._histogram(event_type, summing.aggregation(window), ts - ts % window) or "{}")

    def _histogram(self, event_type: str, summary: Summary, ts: int) -> str:
        """The target's value at `ts`, JSON text; "" if there is none."""
        series = Series(self.metadata, event_type, summary)
        batches = list(self.reader.datapoints(series, Interval(ts, ts + 1)))
        return str(batches[0].val[0].as_py()) if batches else ""


def clock(seconds: float) -> str:
    """The time of the day (UTC) after `seconds`."""
    return time.strftime("%H:%M:%S UTC", time.gmtime(time.time() + seconds))
