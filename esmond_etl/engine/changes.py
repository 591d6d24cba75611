"""A pipeline whose definition has changed since it delivered: the user must learn what its sinks hold of the former definition."""

from __future__ import annotations

from typing import Literal

from esmond_etl.engine.ledger import Ledger
from esmond_etl.model.errors import ConfigError
from esmond_etl.model.interval import Interval, IntervalSet
from esmond_etl.model.series import SeriesId
from esmond_etl.pipeline.definition import Definition

#: What to do with the data that a former definition delivered: deliver all of them again, or keep them.
Redeliver = Literal["all", "new-only"]

_CHANGED = "the transforms, the window or the sinks have changed"


def begin(definition: Definition, ledger: Ledger, wanted: Interval, now: int, redeliver: Redeliver | None) -> tuple[Interval, str]:
    """The interval that a run must deliver, at least `wanted`, and a message for the user.

    Raises ConfigError, and changes nothing, if a former definition delivered something outside the time that the file wants, and
    `redeliver` does not say what to do with it: the sinks would hold both, and nobody would know.
    """
    before = ledger.about("delivery")
    changed = before not in (None, definition.delivery)
    former = _former(ledger, changed)
    if not former or not (changed or ledger.replaces or redeliver):
        ledger.set_about("delivery", definition.delivery)
        return wanted, ""
    outside = _outside(former, definition.wanted(now))
    if outside and redeliver is None:
        raise ConfigError(_refusal(definition, outside))
    if changed or redeliver:
        ledger.redefine(definition.delivery, keep=redeliver == "new-only")
    if redeliver == "new-only":
        return wanted, f"{_CHANGED}: what was delivered before is kept as it is"
    note = f"{_CHANGED}: everything is delivered again" if changed else ""
    return _hull(wanted, outside) if redeliver else wanted, note


def _former(ledger: Ledger, changed: bool) -> dict[SeriesId, IntervalSet]:
    """The data that another definition than the present one delivered."""
    former = ledger.former()
    for series, intervals in ledger.all_done() if changed else ():
        former[series] = former.get(series, IntervalSet()).union(intervals)
    return former


def _outside(former: dict[SeriesId, IntervalSet], wanted: Interval) -> dict[SeriesId, IntervalSet]:
    cut = IntervalSet.of([wanted])
    return {series: left for series, intervals in former.items() if (left := intervals.minus(cut))}


def _hull(wanted: Interval, outside: dict[SeriesId, IntervalSet]) -> Interval:
    spans = [wanted, *(span for intervals in outside.values() for span in intervals)]
    return Interval(min(span.start for span in spans), max(span.end for span in spans))


def _refusal(definition: Definition, outside: dict[SeriesId, IntervalSet]) -> str:
    first, last = min(each[0].start for each in outside.values()), max(each[-1].end for each in outside.values())
    return (
        f"{definition.file}: {_CHANGED}, and {len(outside):,} series were delivered before that, outside the time that the file "
        f"wants now ({Interval(first, last)}): add --redeliver all to deliver them again, or --redeliver new-only to keep them as they are"
    )
