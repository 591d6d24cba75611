"""All measurements of a source are read once and examined, metadata by metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby

from esmond_etl.doctor import across, rules
from esmond_etl.doctor.course import Course, Summary, follow, is_examined
from esmond_etl.doctor.finding import Finding, at
from esmond_etl.doctor.steps import Step
from esmond_etl.model.errors import described
from esmond_etl.model.interval import Interval
from esmond_etl.model.series import Series
from esmond_etl.plugin.source import Source

#: Datapoints this far after now are in the future: clocks may differ a little, s.
_TOLERANCE = 3600

#: How far ahead to look, s.
_AHEAD = 31 * 86400


@dataclass
class _Examined:
    """The findings of one metadata."""

    findings: list[Finding] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    steps: dict[Series, list[Step]] = field(default_factory=dict)


def examine(
    source: Source, interval: Interval, now: int, parallel: int, seen: Callable[[int, int], None] | None = None
) -> list[Finding]:
    """All findings in the data of `source`, which is open, in `interval`: by kind, series and time.

    If `interval` reaches up to now, datapoints in the future are reported, too. `seen` is told how many metadata are done, of how many.
    Memory grows with the number of series and with the longest of them, not with all datapoints. Raises SourceError if the source
    cannot be listed; a series that cannot be read is a finding.
    """
    series = sorted(filter(is_examined, source.series(interval)), key=lambda each: each.metadata.key)
    groups = [list(group) for _, group in groupby(series, key=lambda each: each.metadata.key)]
    whole = _Examined()
    with ThreadPoolExecutor(parallel, "doctor") as pool:
        for number, each in enumerate(pool.map(lambda group: _metadata(source, group, interval, now), groups), 1):
            whole.findings += each.findings
            whole.summaries += each.summaries
            whole.steps |= each.steps
            if seen:
                seen(number, len(groups))
    whole.findings += _together(whole)
    return sorted(set(whole.findings), key=lambda each: (each.kind, each.series.id, each.start))


def _metadata(source: Source, group: Iterable[Series], interval: Interval, now: int) -> _Examined:
    examined = _Examined()
    courses: dict[str, Course] = {}
    for series in group:
        try:
            courses[series.event_type] = follow(series, source.read(series, interval))
            if interval.end >= now - _AHEAD:
                examined.findings += _future(source, series, now)
        except Exception as error:  # whatever a source raises
            examined.findings.append(at("unreadable", series, [interval.start], described(error)))
    for course in courses.values():
        steps = rules.delay_steps(course)
        examined.findings += [*rules.of_series(course), *rules.of_steps(course, steps)]
        if steps:
            examined.steps[course.series] = steps
        if summary := Summary.of(course):
            examined.summaries.append(summary)
    examined.findings += rules.of_metadata(courses)
    return examined


def _future(source: Source, series: Series, now: int) -> Iterator[Finding]:
    batches = source.read(series, Interval(now + _TOLERANCE, now + _AHEAD))
    moments = [ts for batch in batches for ts in batch.seconds]
    if moments:
        yield at("future", series, moments, f"{len(moments):,} datapoints, the last {(moments[-1] - now) / 3600:.1f} hours ahead")


def _together(whole: _Examined) -> Iterator[Finding]:
    changed = across.changed_keys(whole.summaries)
    yield from (finding for finding, _ in changed)
    yield from across.silent(whole.summaries, {key for _, key in changed})
    yield from across.doubled(whole.summaries)
    spacing = {each.series: each.spacing for each in whole.summaries}
    yield from across.clock_jumps(whole.steps, spacing)
