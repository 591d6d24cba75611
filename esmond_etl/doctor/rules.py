"""Rules for one series, or for the series of one metadata."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final

from esmond_etl.doctor.course import DELAYS, Course
from esmond_etl.doctor.finding import Finding, at
from esmond_etl.doctor.steps import Step, steps
from esmond_etl.model.series import Series

#: Event types whose values can be negative.
_SIGNED: Final = frozenset({"ntp-offset", "ntp-wander"})

#: Fewer datapoints whose clock error exceeds the delay mean nothing: an NTP daemon that has just started is uncertain for some minutes.
_CLOCK_ERRORS: Final = 3

#: A ratio counts as a power of ten within this tolerance.
_NEAR: Final = 0.03

#: A loss rate and its counts agree within this tolerance.
_ROUNDING: Final = 1e-3


def of_series(course: Course) -> Iterator[Finding]:
    """The findings of one series."""
    series = course.series
    equal = [after for before, after in pairwise(course.ts) if before == after]
    if equal:
        yield at("doubled", series, equal, f"{len(equal):,} datapoints have the time of the one before them")
    negative = [ts for ts, val in zip(course.ts, course.val, strict=True) if val < 0]
    if negative and course.series.event_type in DELAYS:
        least = min(val for val in course.val if not math.isnan(val))
        yield at("negative-delay", series, negative, f"delays down to {least:g} ms")
    elif negative and course.series.event_type not in _SIGNED:
        yield at(_negative_kind(series), series, negative, f"values down to {min(course.val):g}")


def _negative_kind(series: Series) -> str:
    return "impossible-loss" if "loss" in series.event_type or "lost" in series.event_type else "negative-number"


def delay_steps(course: Course) -> list[Step]:
    """The moments at which the smallest delay changes for good; an empty list for other event types."""
    return steps(course.ts, course.val) if course.series.event_type in DELAYS else []


def of_steps(course: Course, found: list[Step]) -> Iterator[Finding]:
    """Changes by a power of ten."""
    for step in found:
        if power := power_of_ten(step):
            times = f"{10 ** abs(power):,} times {'more' if power > 0 else 'less'}"
            evidence = f"the smallest delay went from {step.before:g} to {step.after:g} ms: {times}"
            yield at("bucket-width", course.series, [step.ts], evidence)


def power_of_ten(step: Step) -> int:
    """The power of ten by which the level changed, within a few percent; 0 if it is not one."""
    if step.before <= 0 or step.after <= 0:
        return 0
    ratio = math.log10(step.after / step.before)
    return round(ratio) if abs(10 ** (ratio - round(ratio)) - 1) < _NEAR else 0


def of_metadata(courses: Mapping[str, Course]) -> Iterator[Finding]:
    """The contradictions between the series of one metadata, by event type."""
    yield from _clock_error(courses)
    yield from _received(courses)
    for suffix in ("", "-bidir"):
        yield from _loss(courses, suffix)


def _clock_error(courses: Mapping[str, Course]) -> Iterator[Finding]:
    errors, delays = courses.get("time-error-estimates"), courses.get("histogram-owdelay")
    if errors is None or delays is None:
        return
    delay_at = dict(zip(delays.ts, delays.median, strict=True))
    worse = [(ts, error, delay_at[ts]) for ts, error in errors.at.items() if 0 <= delay_at.get(ts, -1) < error]
    if len(worse) >= _CLOCK_ERRORS:
        _, error, delay = max(worse, key=lambda each: each[1] - each[2])
        evidence = f"{len(worse):,} of {len(errors.ts):,} datapoints; at worst an error of {error:g} ms in a delay of {delay:g} ms"
        yield at("clock-error", errors.series, [each[0] for each in worse], evidence)


def _received(courses: Mapping[str, Course]) -> Iterator[Finding]:
    delays, sent, lost = (courses.get(name) for name in ("histogram-owdelay", "packet-count-sent", "packet-count-lost"))
    if delays is None or sent is None or lost is None:
        return
    sent_at, lost_at = sent.at, lost.at
    doubled_at = courses["packet-duplicates"].at if "packet-duplicates" in courses else {}
    wrong = []
    for ts, counted in zip(delays.ts, delays.total, strict=True):
        received = sent_at.get(ts, math.nan) - lost_at.get(ts, math.nan)
        if counted < received or counted > received + doubled_at.get(ts, 0):
            wrong.append((ts, counted, received))
    if wrong:
        ts, counted, received = wrong[0]
        evidence = (
            f"{len(wrong):,} of {len(delays.ts):,} datapoints; the first counts {counted:,} packets, {received:,.0f} were received"
        )
        yield at("count-mismatch", delays.series, [each[0] for each in wrong], evidence)


def _loss(courses: Mapping[str, Course], suffix: str) -> Iterator[Finding]:
    names = ("packet-loss-rate" + suffix, "packet-count-lost" + suffix, "packet-count-sent")
    rate, lost, sent = (courses.get(name) for name in names)
    if rate is not None:
        above = [ts for ts, val in zip(rate.ts, rate.val, strict=True) if val > 1]
        if above:
            yield at("impossible-loss", rate.series, above, f"loss rates up to {max(rate.val):g}")
    if lost is None or sent is None:
        return
    sent_at = sent.at
    more = [ts for ts, val in lost.at.items() if val > sent_at.get(ts, math.inf)]
    if more:
        evidence = f"{lost.at[more[0]]:,.0f} packets lost of {sent_at[more[0]]:,.0f} at first"
        yield at("impossible-loss", lost.series, more, evidence)
    if rate is not None:
        yield from _mismatch(rate, lost.at, sent_at)


def _mismatch(rate: Course, lost: Mapping[int, float], sent: Mapping[int, float]) -> Iterator[Finding]:
    wrong = [
        (ts, val, lost[ts] / sent[ts])
        for ts, val in rate.at.items()
        if 0 <= val <= 1 and sent.get(ts) and ts in lost and abs(val - lost[ts] / sent[ts]) > _ROUNDING
    ]
    if wrong:
        _, val, expected = wrong[0]
        yield at("loss-mismatch", rate.series, [each[0] for each in wrong], f"at first {val:g} where the counts give {expected:g}")
