"""The delivery of datapoints of one metadata: read the target, send what is missing, and read it again, until all is there.

A bulk request is not a transaction, and its answer proves nothing: a 201 may have stored nothing, and a failed request may have
stored something or may still be at work. Numbers sent twice add up, histograms sent twice stay wrong in every summary. So nothing
is ever sent again before the target has been looked at, and not while an earlier request to the same metadata may still be at work.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow.compute as pc

from esmond_etl import ArchiveError, Interval, RequestError, StatusError
from esmond_etl.client.reading import Reader
from esmond_etl_esmond import bulk
from esmond_etl_esmond.bulk import Bulk, Column, Slot
from esmond_etl_esmond.comparing import Comparison, Tally, are_there
from esmond_etl_esmond.target import Pauses, Place, Target, passes
from esmond_etl_esmond.writer import Writer, clock

#: The status codes for an error in the request itself: without the wrong part, the rest may pass.
WRONG: Final = frozenset({400, 409, 413, 414, 422})

#: The status codes of a gateway that stops waiting for an archive, which may still be at work.
GATEWAY: Final = frozenset({502, 504})

#: The first pause before an archive is looked at again, s; twice as long each time.
SHORTEST_PAUSE: Final = 0.05

#: The longest time between a 201 and the moment when the archive shows the stored data, s.
SHOWN: Final = 2.0

_CONFLICT = re.compile(r"event type (\S+) at time (-?\d+)")


@dataclass
class Delivery:
    """The delivery of datapoints of one metadata in one interval; it holds the lock of the place."""

    target: Target
    reader: Reader
    place: Place
    interval: Interval
    tally: Tally

    def __post_init__(self) -> None:
        assert self.place.metadata is not None  # never used for a place that refuses
        self._writer = Writer(self.target, self.reader, self.place.metadata)
        self._comparison = Comparison(self.reader, self.tally)

    def deliver(self, columns: Sequence[Column]) -> None:
        """Make the target hold `columns`, and count the result of each datapoint in the tally.

        Raises ArchiveError if the target does not answer, StoppedError if told to stop; requests under way are then noted.
        """
        self._left = list(columns)
        self._writer.most = bulk.MOST
        self._pauses = Pauses(self.target.archive)
        was_doubtful = self.place.doubtful
        if was_doubtful and columns:  # a killed process, or a failed delivery, may have sent anything
            self._calm(self.target.journal.grace(), None)
        if columns:
            self._writer.judge_trial()
        fresh = [] if was_doubtful else [each for each in self._left if self.place.is_fresh(each.event_type, self.interval)]
        known = [column for column in self._left if column not in fresh]
        self._left = fresh + self._comparison.missing(known, is_first=True)
        while self._left:
            before = sum(map(len, self._left))
            self._round()
            if sum(map(len, self._left)) < before:
                self._pauses.taken = 0
            self._judge()
        if columns:
            self._writer.judge_trial()
            self.target.journal.end(self._writer.key)

    def _round(self) -> None:
        """Send what is left, up to the first failure, and read what the target holds of it then."""
        self._failed: Bulk | None = None
        self._error: ArchiveError | None = None
        self._waited = 0.0
        answered = self._send()
        if self.place.doubtful:
            self._calm(self.target.journal.grace(self._waited), self._sent(self._failed))
        self._left = self._comparison.missing(self._left)
        stored = {slot for each in answered for slot in each.places}
        if self._error is None and stored & self._places():  # it may be stored but not shown yet
            self._wait_until_quiet(SHOWN, self._left, True)
            self._left = self._comparison.missing(self._left)
        self._unstored = stored & self._places()

    def _send(self) -> list[Bulk]:
        """Send all, up to the first failure; if something has failed before, in small requests. Returns the failure, if there was one."""
        answered: list[Bulk] = []
        for column in self._left:
            self.place.touch(column.event_type, self.interval)
        for each in self._writer.requests(self._left):
            self.place.doubtful = True
            started = time.monotonic()
            try:
                self._writer.put(each)
            except ArchiveError as error:
                self._failed, self._error = each, error
                self._waited = time.monotonic() - started
                self.place.doubtful = self._is_doubtful(error)
                if isinstance(error, StatusError) and error.status == 409:
                    self._comparison.conflicts.add(_conflict(error))
                return answered
            self.place.doubtful = False
            answered.append(each)
            if self._writer.most < bulk.MOST:
                self._writer.most = min(max(self._writer.most * 2, 1), bulk.MOST)
                break
        return answered

    def _is_doubtful(self, error: ArchiveError) -> bool:
        """Whether the target may still be at work on the failed request."""
        if isinstance(error, StatusError):
            return error.status in GATEWAY or self._writer.flush() is not None
        return not isinstance(error, RequestError) or error.reached

    def _sent(self, failed: Bulk | None) -> list[Column]:
        """The datapoints left that were in the failed request."""
        if failed is None:
            return self._left
        return [column.only(pc.is_in(column.ts, value_set=failed.times(column.event_type))) for column in self._left]

    def _calm(self, grace: float, sent: Sequence[Column] | None) -> None:
        """Wait until no request to this metadata can be at work; `sent` are the datapoints that it may have held, None if unknown."""
        self._wait_until_quiet(grace, self._left if sent is None else [column for column in sent if len(column)], sent is not None)
        self.place.doubtful = False
        self.target.waiting("")

    def _wait_until_quiet(self, grace: float, columns: Sequence[Column], is_all: bool) -> None:
        """Wait until the target has answered for `grace` seconds without a change in its data of `columns`.

        If `is_all`, nothing else can be at work, and the wait ends when the target holds all of `columns`. The time counts from the
        target's first answer: a server that was frozen goes on with its earlier requests.
        """
        since, held, pause = 0.0, None, SHORTEST_PAUSE
        failures = Pauses(self.target.archive)
        while True:
            if error := self._writer.flush():
                held = None
                failures.wait(error)
                continue
            failures.taken = 0
            seen, now = self._comparison.look(columns), time.monotonic()
            if seen != held:
                since, held, pause = now, seen, SHORTEST_PAUSE
            remaining = since + grace - now
            if remaining <= 0 or (is_all and are_there(columns, seen)):
                return
            if self.place.doubtful:
                what = "an earlier request may still be at work in the archive"
                self.target.waiting(f"{self._writer.key}: {what}: waiting until {clock(remaining)}")
            self._pauses.sleep(min(pause, remaining))
            pause = min(pause * 2, max(1.0, grace / 8))

    def _places(self) -> set[Slot]:
        return {(column.event_type, ts) for column in self._left for ts in column.ts.to_pylist()}

    def _judge(self) -> None:
        """Decide how to go on after a failure; raises the failure if that is impossible."""
        error = self._error
        if error is None:
            if self._unstored:
                self._give_up("the archive answers 201 but does not store it", self._unstored)
        elif isinstance(error, StatusError) and error.status == 409 and self._failed and _conflict(error) in self._failed.places:
            if (conflict := {_conflict(error)}) & self._places():
                self._give_up("the archive says that it holds another value at that time, and does not show it", conflict)
        elif _is_wrong(error) or (self._pauses.is_over and passes(error) and self._writer.flush() is None):
            self._narrow(error)
        else:
            self._pauses.wait(error)

    def _give_up(self, reason: str, places: set[Slot]) -> None:
        """Reject `places` after enough tries."""
        self._pauses.taken += 1
        if self._pauses.is_over:
            for place in places:
                self._reject(place, reason)

    def _narrow(self, error: ArchiveError) -> None:
        """Send smaller requests, to find the wrong datapoint; reject it."""
        failed = self._failed
        if failed is None or (len(failed) == 1 and not isinstance(error, StatusError)):
            raise error
        if len(failed) > 1:
            self._writer.most = failed.moments // 2
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
