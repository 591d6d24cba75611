"""The number of requests in flight at an archive: fixed, or adapted to what the archive can bear."""

from __future__ import annotations

import math
import threading
from typing import Final, NamedTuple

#: Requests in flight at first, if the number adapts.
FIRST: Final = 4

#: The number is reviewed after at least this many answers.
ROUND: Final = 10

#: Too many are in flight if answers take SLOW times as long as the quickest ones; more are allowed below QUICK times.
SLOW, QUICK = 2.0, 1.5

#: An answer may take this much longer, s, without a sign of overload: switching between threads costs time, too.
NOISE: Final = 0.01

#: Slow answers alone never lower the number below this: while one answer is on its way, the other can be decoded.
PAIR: Final = 2

#: If fewer requests in flight gave this much more per second, there are too many.
WORSE: Final = 1.1

#: Too many are in flight if this share of a round's requests fails.
FAILING: Final = 0.2

#: A number that was too high is tried again after this many times as many answers.
PATIENCE: Final = 40

#: With each answer, the quickest time of its size moves towards it by this share: networks change.
FORGETTING: Final = 0.002


class Turn(NamedTuple):
    """Permission to send a request."""

    change: int  #: how often the limit had changed before it was sent


class _Step(NamedTuple):
    """The speed of answers with a certain number in flight."""

    now: int
    slowness: float

    def was_better_than(self, more: int, slowness: float) -> bool:
        """Whether clearly more was answered per second than with `more` in flight."""
        return self.now / self.slowness > WORSE * more / slowness


class Limit:
    """Lets at most `now` requests go at once.

    With `follows`, that number follows the archive by additive increase and multiplicative decrease on round-trip times and failures, as
    Vector's adaptive request concurrency does (https://vector.dev/blog/adaptive-request-concurrency/): one more, or a quarter more as
    long as nothing went wrong, while answers come as quickly as before; fewer when they take twice as long or a fifth of them fails.
    """

    def __init__(self, most: int, follows: bool = False) -> None:
        """`most` is the number, or its upper limit."""
        self.most, self.follows = most, follows
        self.now = min(FIRST, most) if follows else most
        self._in_flight = 0
        self._changes = 0
        self._free = threading.Condition()
        self._quickest: dict[int, float] = {}  # by size
        self._too_many, self._patience, self._since = math.inf, PATIENCE, 0
        self._before: _Step | None = None  # set if the last round was the first with more than that
        self._reset()

    def _reset(self) -> None:
        self._answers, self._failures, self._slowness, self._was_full = 0, 0, 0.0, False

    def take(self) -> Turn:
        """Wait until a request may be sent; return the permission with `give` after the answer."""
        with self._free:
            while self._in_flight >= self.now:
                self._free.wait()
            self._in_flight += 1
            self._was_full = self._was_full or self._in_flight >= self.now
            return Turn(self._changes)

    def give(self, turn: Turn, seconds: float | None, size: int = 0) -> None:
        """Report an answer after `seconds`, None if the request failed, with `size` bytes in both directions."""
        with self._free:
            self._in_flight -= 1
            if (
                self.follows and turn.change == self._changes
            ):  # requests sent before the change were sent with another number in flight
                self._learn(seconds, size)
            self._free.notify()

    def _learn(self, seconds: float | None, size: int) -> None:
        self._answers += 1
        self._since += 1
        if seconds is None:
            self._failures += 1
        else:
            self._slowness += seconds / (self._usual(seconds, size) + NOISE)
        round_ = max(ROUND, self.now)
        if self._failures >= max(2, FAILING * round_):
            self._lower(0.7)
        elif self._answers >= round_:
            self._judge(self._slowness / max(1, self._answers - self._failures))

    def _usual(self, seconds: float, size: int) -> float:
        """The time of the quickest answers of about this size."""
        kind = size.bit_length()
        usual = self._quickest.get(kind, seconds)
        usual = seconds if seconds < usual else usual + (seconds - usual) * FORGETTING
        self._quickest[kind] = usual
        return usual

    def _judge(self, slowness: float) -> None:
        """Change the limit, or not, after a round in which answers took `slowness` times as long as the quickest."""
        before, self._before = self._before, None
        if self.now > PAIR and (slowness > SLOW or (before and before.was_better_than(self.now, slowness))):
            self._lower(before.now / self.now if before else 0.8)
            return
        if self._was_full and slowness < QUICK:
            if self.now >= self._too_many:
                self._too_many, self._patience = math.inf, PATIENCE  # the archive can bear that now
            step = max(1, self.now // 4) if self._too_many == math.inf else 1
            wanted = min(self.now + step, self.most)
            if wanted > self.now and (wanted < self._too_many or self._since >= self._patience * self._too_many):
                self._before = _Step(self.now, slowness)
                self._set(wanted)
        self._reset()

    def _lower(self, factor: float) -> None:
        self._patience = self._patience * 2 if self.now >= self._too_many else PATIENCE
        self._too_many = self.now
        self._set(max(1, self.now - 1 if self._patience > PATIENCE else round(self.now * factor)))
        self._since = 0

    def _set(self, number: int) -> None:
        self._changes += number != self.now
        self.now = number
        self._reset()
        self._free.notify_all()
