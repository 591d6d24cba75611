"""Rules that need several series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any, Final

from esmond_etl.doctor.course import DELAYS, SKETCH, Summary
from esmond_etl.doctor.finding import Finding, at
from esmond_etl.doctor.rules import power_of_ten
from esmond_etl.doctor.steps import Step
from esmond_etl.model.interval import format_duration, moment
from esmond_etl.model.series import Metadata, Series

_DAY: Final = 86400

#: A series is silent after this many times its usual spacing, and at least a day; fewer datapoints do not tell a usual spacing.
_LONG: Final = 20
_FEW: Final = 10

#: If two delays change by opposite amounts, up to this share of them, a clock has jumped.
_OPPOSITE: Final = 0.25

#: Event types whose values differ so much that equal values cannot be two measurements.
_RICH: Final = frozenset({"throughput", *DELAYS})

#: Two series must have at least this many of their smallest digests in common.
_TWINS: Final = 5


def silent(summaries: Sequence[Summary], continued: set[str]) -> Iterator[Finding]:
    """Tests that stopped long before others; without those, by metadata key, that `continued` under another key."""
    end = max((each.last for each in summaries), default=0)
    by_key: dict[str, list[Summary]] = defaultdict(list)
    for each in summaries:
        by_key[each.series.metadata.key].append(each)
    for key, series in by_key.items():
        latest = max(series, key=lambda each: each.last)
        limit = max(_DAY, _LONG * min(each.spacing for each in series))
        if key not in continued and latest.count >= _FEW and end - latest.last > limit:
            usual = format_duration(round(latest.spacing))
            evidence = f"nothing for {(end - latest.last) / _DAY:.1f} days, where a datapoint came every {usual}"
            yield at("silent", latest.series, [latest.last], evidence)


def changed_keys(summaries: Sequence[Summary]) -> list[tuple[Finding, str]]:
    """Tests whose metadata changed, each with its former metadata key."""
    found: dict[tuple[str, str], tuple[Finding, str]] = {}
    for group in _alike(summaries).values():
        for before, after in pairwise(sorted(group, key=lambda each: each.first)):
            keys = before.series.metadata.key, after.series.metadata.key
            gap = after.first - before.last
            if keys[0] != keys[1] and 0 < gap <= max(_DAY, _LONG * before.spacing) and keys not in found:
                found[keys] = _changed(before, after), keys[0]
    return list(found.values())


def _alike(summaries: Iterable[Summary]) -> dict[tuple[Any, ...], list[Summary]]:
    """Series of one event type between the same hosts, by their common properties."""
    groups: dict[tuple[Any, ...], list[Summary]] = defaultdict(list)
    for each in summaries:
        entry = each.series.metadata
        groups[entry.source, entry.destination, each.series.event_type].append(each)
    return groups


def _changed(before: Summary, after: Summary) -> Finding:
    old, new = before.series.metadata, after.series.metadata
    changes = [f"{name}: {old.get(name)} -> {new.get(name)}" for name, old, new in _differing(old, new)]
    evidence = f"follows {before.series.metadata.key}, which ended at {moment(before.last)}; {', '.join(changes) or 'nothing else differs'}"
    return at("changed-key", after.series, [after.first], evidence)


def _differing(old: Metadata, new: Metadata) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    here, there = _said(old), _said(new)
    for name in sorted({*here, *there}):
        if here.get(name) != there.get(name):
            yield name, here, there


def _said(entry: Metadata) -> dict[str, Any]:
    subject = {"tool-name": entry.tool_name, "measurement-agent": entry.measurement_agent}
    return {**subject, **entry.parameters}


def doubled(summaries: Sequence[Summary]) -> Iterator[Finding]:
    """Series that contain datapoints of a series of another metadata key."""
    for group in _alike(each for each in summaries if each.series.event_type in _RICH).values():
        for one, other in combinations(group, 2):
            if one.last < other.first or other.last < one.first:
                continue
            equal = len({*one.sketch} & {*other.sketch})
            if equal >= _TWINS:
                share = equal / min(SKETCH, len({*one.sketch, *other.sketch}))
                evidence = f"about {share:.0%} of the datapoints of both are those of {other.series.metadata.key}, too"
                yield Finding("doubled", one.series, max(one.first, other.first), min(one.last, other.last), one.count, evidence)


def clock_jumps(steps: Mapping[Series, list[Step]], spacing: Mapping[Series, float]) -> Iterator[Finding]:
    """Delays of two hosts that changed by opposite amounts at the same time."""
    one_way = {series: found for series, found in steps.items() if series.event_type == "histogram-owdelay"}
    back: dict[tuple[str | None, str | None], list[Series]] = defaultdict(list)
    for series in one_way:
        back[series.metadata.destination, series.metadata.source].append(series)
    seen = set()
    for series, found in one_way.items():
        for other in back[series.metadata.source, series.metadata.destination]:
            for step, opposite in _opposite(found, one_way[other], 3 * max(spacing[series], spacing[other])):
                if (other, opposite) not in seen:
                    seen.add((series, step))
                    evidence = _jumped(series.metadata, step, opposite)
                    yield at("clock-jump", series, [step.ts], evidence)


def _jumped(entry: Metadata, there: Step, back: Step) -> str:
    forward, backward = (entry.destination, entry.source) if there.change > 0 else (entry.source, entry.destination)
    return (
        f"{there.change:+.1f} ms from {entry.source} to {entry.destination}, {back.change:+.1f} ms on the way back: the clock of {forward}"
        f" went forward, or that of {backward} back, by {abs(there.change - back.change) / 2:.1f} ms"
    )


def _opposite(there: list[Step], back: list[Step], tolerance: float) -> Iterator[tuple[Step, Step]]:
    for step in there:
        for other in back:
            most = max(abs(step.change), abs(other.change))
            same_time = abs(step.ts - other.ts) <= tolerance
            if (
                same_time
                and abs(step.change + other.change) <= _OPPOSITE * most
                and not (power_of_ten(step) or power_of_ten(other))
            ):
                yield step, other
