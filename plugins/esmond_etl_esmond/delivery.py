"""Datapoints of one metadata on their way into the target: look, send what is missing, read back, and again if need be.

A bulk request is not a transaction, and its answer proves nothing: a 201 may have stored nothing, a failed request something, or
may still be at work. Numbers sent twice add up, histograms sent twice stay wrong in every summary. So nothing is ever sent
again before the target has been looked at, and not while an earlier request with it may still be at work (it is *held* until then).
"""

from __future__ import annotations

import re
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import BASE, ArchiveError, Interval, Metadata, Reject, RequestError, Series, StatusError, Summary, ts_column
from esmond_etl.client import wire
from esmond_etl.client.reading import Reader
from esmond_etl_esmond import bulk, summing, values
from esmond_etl_esmond.bulk import Bulk, Column, Slot
from esmond_etl_esmond.target import LINGERING, Pauses, Place, Target, passes

#: The statuses that say that something in the request is wrong: without it, the rest may pass.
WRONG: Final = frozenset({400, 409, 413, 414, 422})

#: The statuses with which a gateway gives up waiting for an archive that may still be at work.
GATEWAY: Final = frozenset({502, 504})

#: A bulk request of nothing: it brings out what an archive has taken but does not show yet.
NOTHING: Final = b'{"data":[]}'

#: The first pause before an archive is looked at again, s; twice as long each time, up to the longest.
SHORTEST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0

_CONFLICT = re.compile(r"event type (\S+) at time (-?\d+)")


@dataclass
class Tally:
    """What became of datapoints."""

    written: int = 0
    unchanged: int = 0
    guessed: int = 0  #: percentages among the written whose weight is a guess
    mixed: int = 0  #: of metadata that are one in the target with another
    rejected: list[Reject] = field(default_factory=list)

    def reject(self, column: Column, mask: pa.Array, reasons: Sequence[str]) -> None:
        """Reject the datapoints where `mask` is true, for a reason each."""
        out = column.only(mask)
        rows = zip(out.ts.to_pylist(), out.val.to_pylist(), reasons, strict=True)
        self.rejected += [Reject(column.source, ts, values.shown(val), reason) for ts, val, reason in rows]


@dataclass
class Delivery:
    """Datapoints of one metadata in one interval, on their way; the place's lock is held meanwhile."""

    target: Target
    reader: Reader
    place: Place
    interval: Interval
    tally: Tally

    def deliver(self, columns: Sequence[Column]) -> None:
        """See to it that the target holds `columns`, and count in the tally what became of each datapoint.

        Raises ArchiveError if the target does not answer, StoppedError if told to stop; what is then under way is noted.
        """
        self._left = list(columns)
        self._most = bulk.MOST
        self._pauses = Pauses(self.target.archive)
        self._conflicts: set[Slot] = set()
        self._forget_round()
        if columns:
            self._judge_trial()
        self._look_first()
        while self._left:
            before = sum(map(len, self._left))
            self._round()
            if sum(map(len, self._left)) < before:
                self._pauses.taken = 0
            self._judge()
        self.place.doubt = 0.0
        if columns:
            self._judge_trial()

    def _forget_round(self) -> None:
        self._answered: list[Bulk] = []
        self._failed: Bulk | None = None
        self._error: ArchiveError | None = None
        self._flushed = False
        self._unstored: set[Slot] = set()  # answered with 201, and not there

    def _look_first(self) -> None:
        """Leave out what the target has already; hold what is missing as long as an earlier request may be at work."""
        self._until = max(self.place.doubt, self.target.doubt)
        # what came in since the target was asked for its metadata makes that out of date
        was_doubtful = self.place.asked < self._until
        fresh = [] if was_doubtful else [column for column in self._left if self.place.is_fresh(column.event_type, self.interval)]
        known = [column for column in self._left if column not in fresh]
        is_doubtful = time.monotonic() < self._until
        if known and was_doubtful:
            self._flush()
        self._left = fresh + self._compared(known, is_first=True)
        self._held = self._places() if is_doubtful else set()
        self._pause = SHORTEST_PAUSE

    def _round(self) -> None:
        """Send what may be sent, or wait for what may not, and look."""
        self._forget_round()
        ready = self._ready()
        try:
            if ready:
                self._send(ready)
            else:
                self._linger()
            self._left = self._compared(self._left)
        finally:
            if self._left:
                self._hold()

    def _ready(self) -> list[Column]:
        """What is left, but for what is held."""
        if not self._held or time.monotonic() >= self._until:
            self._held = set()
            return self._left
        columns = []
        for column in self._left:
            held = _times(array("q", [ts for name, ts in self._held if name == column.event_type]))
            rest = column.only(pc.invert(pc.is_in(column.ts, held)))
            if len(rest):
                columns.append(rest)
        return columns

    def _send(self, columns: Sequence[Column]) -> None:
        """Send all, up to the first failure; where something has failed before, a little at a time."""
        self.target.mark()
        for column in columns:
            self.place.touch(column.event_type, self.interval)
        for each in self._requests(columns):
            try:
                self._put(each.body)
            except ArchiveError as error:
                self._failed, self._error = each, error
                if isinstance(error, StatusError) and error.status == 409:
                    self._conflicts.add(_conflict(error))
                self._flushed = getattr(error, "reached", True) and self._flush()
                return
            self._answered.append(each)
            if self._most < bulk.MOST:
                self._most = min(max(self._most * 2, 1), bulk.MOST)
                return

    def _requests(self, columns: Sequence[Column]) -> Iterator[Bulk]:
        """All of `columns` in requests that the target adds up right; goes on when the last one has been answered."""
        careful = [column for column in columns if summing.windows(column)]
        verdict = self.target.verdict
        if verdict.adds_up is None and (two := summing.pair(careful)):
            yield from self._trial(two)
            columns, careful = summing.without(columns, two), summing.without(careful, two)
        if verdict.adds_up or not careful:
            yield from bulk.bulks(columns, self._most) if columns else ()
            return
        if free := [column for column in columns if not summing.windows(column)]:
            yield from bulk.bulks(free, self._most)
        for part in summing.apart(careful):
            yield from bulk.bulks(part, self._most)

    def _trial(self, two: Column) -> Iterator[Bulk]:
        """Two histograms in one request, after which it is known whether the target adds up both."""
        first, second = two.ts.to_pylist()
        window = summing.windows(two)[0]
        before = self._total(two.event_type, window, first)
        self.target.verdict.begin(self._key, summing.Trial(two.event_type, window, first, second, dict(before)))
        yield from bulk.bulks([two])
        self._judge_trial()

    def _judge_trial(self) -> None:
        """Look what has become of a trial; send what the target has not added once more."""
        verdict = self.target.verdict
        trial = verdict.trial(self._key)
        if trial is None:
            return
        self._pauses.sleep(max(0.0, self.target.doubt - time.monotonic()))
        self._flush()
        held = [self._histogram(trial.event_type, BASE, ts) for ts in (trial.first, trial.second)]
        if all(held):
            first, second = (summing.counts(text) for text in held)
            is_lossy = trial.is_lossy(first, second, self._total(trial.event_type, trial.window, trial.first))
            verdict.note(is_lossy is False)
            if is_lossy:
                self._put(wire.encode_bulk([(trial.first, [(trial.event_type, held[0].encode())])]))
        verdict.end(self._key)

    def _total(self, event_type: str, window: int, ts: int) -> Counter[str]:
        """The target's aggregation of the window around `ts`."""
        return summing.counts(self._histogram(event_type, summing.aggregation(window), ts - ts % window) or "{}")

    def _histogram(self, event_type: str, summary: Summary, ts: int) -> str:
        """What the target has at `ts`, JSON text; "" if nothing."""
        series = Series(self._metadata, event_type, summary)
        batches = list(self.reader.datapoints(series, Interval(ts, ts + 1)))
        return str(batches[0].val[0].as_py()) if batches else ""

    @property
    def _metadata(self) -> Metadata:
        assert self.place.metadata is not None  # nothing is delivered to a place that refuses
        return self.place.metadata

    @property
    def _key(self) -> str:
        return self._metadata.key

    def _linger(self) -> None:
        """Wait a little, and bring out what the target has taken but does not show."""
        self._pauses.sleep(max(0.0, min(self._pause, self._until - time.monotonic())))
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        self._flush()

    def _put(self, body: bytes) -> None:
        self.target.archive.write("PUT", f"{self.target.archive.list_url}{self._key}/", body)

    def _flush(self) -> bool:
        """Whether the target takes a request: if so, it shows what it took before a request of ours failed."""
        try:
            self._put(NOTHING)
        except ArchiveError:
            return False
        return True

    def _compared(self, columns: Sequence[Column], is_first: bool = False) -> list[Column]:
        """What of `columns` the target does not hold; what it holds is counted, or rejected if it is something else."""
        compared = (self._compare(column, is_first) for column in columns)
        return [column for column in compared if len(column)]

    def _compare(self, column: Column, is_first: bool) -> Column:
        ts, val = self._read(column)
        where = pc.index_in(column.ts, value_set=ts)
        seen = pc.is_valid(where)
        mine, theirs = column.only(seen), val.take(where.filter(seen))
        equal = values.same(mine.val, theirs)
        self._count(mine.only(equal), is_first)
        if not pc.all(equal).as_py():
            differs = pc.invert(equal)
            held = map(values.shown, theirs.filter(differs).to_pylist())
            self.tally.reject(mine, differs, [f"the archive holds {_short(each)} at that time" for each in held])
        return column.only(pc.invert(seen))

    def _read(self, column: Column) -> tuple[pa.Array, pa.Array]:
        """`ts` and `val` of what the target holds in the column's span."""
        batches = list(self.reader.datapoints(column.target, column.span))
        if not batches:
            none = pa.nulls(0, pa.int64())
            return none, column.val[:0]
        return pa.concat_arrays([each.ts.cast(pa.int64()) for each in batches]), pa.concat_arrays([each.val for each in batches])

    def _count(self, column: Column, is_first: bool) -> None:
        if is_first:
            self.tally.unchanged += len(column)
            return
        others = sum((column.event_type, ts) in self._conflicts for ts in column.ts.to_pylist()) if self._conflicts else 0
        self.tally.unchanged += others
        self.tally.written += len(column) - others
        if column.guessed is not None:
            self.tally.guessed += pc.sum(column.guessed).as_py() or 0

    def _places(self) -> set[Slot]:
        return {(column.event_type, ts) for column in self._left for ts in column.ts.to_pylist()}

    def _hold(self) -> None:
        """Hold what the target may have taken in this round though it does not show it."""
        left = self._places()
        self._unstored = left.intersection(place for each in self._answered for place in each.places)
        if doubtful := self._unstored | left.intersection(self._doubtful(self._failed) if self._failed else ()):
            self._until = self.place.doubt = time.monotonic() + self._grace()
            self._pause = SHORTEST_PAUSE
        self._held = (self._held & left) | doubtful

    def _doubtful(self, failed: Bulk) -> Sequence[Slot]:
        """What of a failed request may be taken all the same, or may yet be."""
        error = self._error
        if error is None or isinstance(error, RequestError):
            return failed.places if getattr(error, "reached", True) else ()
        if isinstance(error, StatusError) and error.status == 409:
            places, conflict = failed.places, _conflict(error)
            return places[: places.index(conflict) + 1] if conflict in places else places
        is_over = isinstance(error, StatusError) and error.status not in GATEWAY and self._flushed
        return () if is_over else failed.places

    def _grace(self) -> float:
        """For how long what is held may be at work, s."""
        error, timeout = self._error, self.target.archive.timeout
        gave_up = isinstance(error, StatusError) and error.status in GATEWAY
        return timeout if gave_up or getattr(error, "timed_out", False) else min(timeout, LINGERING)

    def _judge(self) -> None:
        """Decide how to go on after a failure; raises it if there is no going on."""
        error = self._error
        if error is None:
            if self._unstored:
                self._give_up("the archive answers 201 but does not store it", self._unstored)
        elif isinstance(error, StatusError) and error.status == 409 and self._failed and _conflict(error) in self._failed.places:
            if (conflict := {_conflict(error)}) & self._places():
                self._give_up("the archive says that it holds another value at that time, and does not show it", conflict)
        elif _is_wrong(error) or (self._pauses.is_over and passes(error) and self._flush()):
            self._narrow(error)
        else:
            self._pauses.wait(error)

    def _give_up(self, reason: str, places: set[Slot]) -> None:
        """Reject `places` if they have been tried often enough."""
        self._pauses.taken += 1
        if self._pauses.is_over:
            for place in places:
                self._reject(place, reason)

    def _narrow(self, error: ArchiveError) -> None:
        """Send less in one request, to find what is wrong in it; reject that."""
        failed = self._failed
        if failed is None or (len(failed) == 1 and not isinstance(error, StatusError)):
            raise error
        if len(failed) > 1:
            self._most = failed.moments // 2
            return
        self._reject(failed.places[0], f"the archive refuses it: {getattr(error, 'detail', '') or error}")

    def _reject(self, place: Slot, reason: str) -> None:
        name, ts = place
        left = []
        for column in self._left:
            refused = pc.and_(pc.equal(column.ts, ts), column.event_type == name)
            if pc.any(refused).as_py():
                self.tally.reject(column, refused, [reason])
            left.append(column.only(pc.invert(refused)))
        self._left = [column for column in left if len(column)]


def _is_wrong(error: ArchiveError) -> bool:
    return isinstance(error, StatusError) and error.status in WRONG


def _conflict(error: StatusError) -> Slot:
    found = _CONFLICT.search(error.detail)
    return (found[1], int(found[2])) if found else ("", 0)


def _times(seconds: array[int]) -> pa.Array:
    return ts_column(seconds).cast(pa.int64())


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}..."
