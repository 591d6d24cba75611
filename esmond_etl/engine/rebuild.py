"""A ledger that was lost, rebuilt: targets that remember what was delivered say so, and what they hold gives the digests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial, reduce
from typing import NamedTuple

from esmond_etl.engine.delivery import Delivery
from esmond_etl.engine.ledger import Ledger
from esmond_etl.engine.proof import windows_of
from esmond_etl.model.digest import Window
from esmond_etl.model.errors import ConfigError
from esmond_etl.model.interval import Interval, IntervalSet, floor
from esmond_etl.model.series import Series, SeriesId
from esmond_etl.pipeline.definition import Definition
from esmond_etl.plugin.sink import Sink


class Rebuilt(NamedTuple):
    """What is known again of one series."""

    series: Series
    done: IntervalSet  #: what every sink has
    partly: dict[str, IntervalSet]  #: what single sinks have besides, by label
    windows: list[tuple[Interval, list[Window]]]  #: of what is done

    @property
    def datapoints(self) -> int:
        """Their number in what is done."""
        return sum(window.number for _, windows in self.windows for window in windows)


def rebuild(delivery: Delivery, ledger: Ledger, series: Iterable[Series]) -> Iterator[Rebuilt]:
    """Note in an empty ledger what the sinks of a pipeline remember of `series`, and return it.

    The newest time of each series, as long as the pipeline's `lookback`, counts as not delivered: the next run reads it again for late
    data. Raises ConfigError if the ledger is not empty, or if no sink of the pipeline says what was delivered.
    """
    sinks = {label: sink for label, sink in delivery.opened.items() if sink.features.remembers}
    if not sinks:
        raise ConfigError(f"{delivery.definition.file}: no sink of this pipeline remembers what was delivered")
    if next(ledger.all_done(), None) or next(ledger.all_partly(), None):
        raise ConfigError(f"{ledger.path}: this ledger knows what was delivered: move it away if you do not trust it")
    known = {label: sink.delivered() for label, sink in sinks.items()}
    if not any(known.values()):
        raise ConfigError(
            f"{delivery.definition.file}: its sinks do not say what was delivered: nothing was, or an older version delivered it"
        )
    ledger.set_about("delivery", delivery.definition.delivery)
    with ThreadPoolExecutor(delivery.definition.settings.threads, "rebuild") as pool:
        for each in pool.map(partial(_rebuilt, delivery, sinks, known), series):
            _note(ledger, each)
            yield each


def _rebuilt(
    delivery: Delivery, sinks: Mapping[str, Sink], known: Mapping[str, Mapping[SeriesId, IntervalSet]], series: Series
) -> Rebuilt:
    definition, target = delivery.definition, delivery.stream.becomes(series)
    if target is None:
        return Rebuilt(series, IntervalSet(), {}, [])
    has = {label: _settled(definition, of_sink.get(target.id, IntervalSet())) for label, of_sink in known.items()}
    done = reduce(_both, has.values()) if len(has) == len(definition.labels) else IntervalSet()
    left = {label: rest for label, intervals in has.items() if (rest := intervals.minus(done))}
    sink = next(iter(sinks.values()))
    return Rebuilt(series, done, left, [(each, windows_of(sink, target, each, definition.settings.window)) for each in done])


def _settled(definition: Definition, intervals: IntervalSet) -> IntervalSet:
    """The time that was read late enough: no late data can have come since."""
    if not intervals:
        return intervals
    last, settings = intervals[-1].end, definition.settings
    return intervals.minus(IntervalSet.of([(floor(last - settings.lookback, settings.window), last)]))


def _both(one: IntervalSet, other: IntervalSet) -> IntervalSet:
    return one.minus(one.minus(other))


def _note(ledger: Ledger, rebuilt: Rebuilt) -> None:
    series = rebuilt.series
    for interval, windows in rebuilt.windows:
        ledger.record([series.id], interval, [series.metadata], digests={series.id: windows})
    for label, intervals in rebuilt.partly.items():
        for interval in intervals:
            ledger.record([], interval, [series.metadata], partly={label: [series.id]})
