"""A pipeline to run from a program: a notebook, a task of Airflow or Dagster, a script."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self

from esmond_etl.engine.changes import Redeliver
from esmond_etl.engine.delivery import Delivery
from esmond_etl.engine.forecast import Forecast, forecast, preview
from esmond_etl.engine.ledger import Ledger
from esmond_etl.engine.result import IncompleteError, Observer, Result, Unobserved
from esmond_etl.engine.run import run
from esmond_etl.engine.stream import Stream
from esmond_etl.engine.verify import Compared, Piece, verify
from esmond_etl.model.batch import DataPoint
from esmond_etl.model.interval import Interval, IntervalSet
from esmond_etl.model.series import Series
from esmond_etl.pipeline import file
from esmond_etl.pipeline.definition import Definition
from esmond_etl.plugin.stage import Stage

#: A stage, or its options as in a pipeline file, including its `type`.
StageLike = Stage | Mapping[str, Any]


class Pipeline:
    """A source, transforms and sinks, and the ledger that remembers what has been delivered."""

    definition: Definition  #: the content of the file, or of the arguments

    def __init__(
        self,
        name: str,
        *,
        source: StageLike | Sequence[StageLike],
        sinks: Sequence[StageLike],
        transforms: Sequence[StageLike] = (),
        **settings: Any,
    ) -> None:
        """A pipeline without a file; `settings` are the keys of a pipeline file, with `from_` for `from`.

        Several sources have a key `archive` each. Its ledger is in the folder `ledger`, by default in `.esmond-etl` in the current
        folder. Raises ConfigError with every mistake, a line each.
        """
        settings = {("from" if key == "from_" else key): value for key, value in settings.items()}
        sources = source if isinstance(source, Stage | Mapping) else list(source)
        data = {"name": name, "source": sources, "transform": list(transforms), "sink": list(sinks), **settings}
        self.definition = file.define(data)

    @classmethod
    def _of(cls, definition: Definition) -> Self:
        made = cls.__new__(cls)
        made.definition = definition
        return made

    @property
    def name(self) -> str:
        """The name of its ledger."""
        return self.definition.name

    def wanted(self, from_: object = None, to: object = None) -> Interval:
        """The time that a run would deliver: whole windows that have ended. `from_` and `to` replace the pipeline's own."""
        return self.definition.wanted(int(time.time()), from_, to)

    def run(
        self,
        *,
        from_: object = None,
        to: object = None,
        reload: bool = False,
        processes: int = 0,
        redeliver: Redeliver | None = None,
        take_over: bool = False,
        observer: Observer | None = None,
        stop: threading.Event | None = None,
        check: bool = True,
    ) -> Result:
        """Deliver what has not been delivered yet, and return how it went.

        `from_` and `to` replace the pipeline's own; `reload` delivers again what is done already. With `processes`, this many
        worker processes share the tasks. `redeliver` says what to do with what was delivered before the transforms, the window or the sinks
        changed: deliver "all" of it again, or "new-only" and keep it as it is. With `take_over`, places that belong to other pipelines are
        from now on this one's.

        Setting `stop` ends the run: the next one continues where it stopped.

        Raises IncompleteError, which carries the result, if something was not delivered (not with `check=False`); LockedError if
        another run of the pipeline is under way; any other EsmondEtlError if the run could not start.
        """
        result = run(self.definition, observer or Unobserved(), stop, from_, to, reload, processes, redeliver, None, take_over)
        if check and not result.complete:
            raise IncompleteError(result)
        return result

    def plan(
        self, *, from_: object = None, to: object = None, reload: bool = False, count: bool = False, estimate: bool = False
    ) -> Forecast:
        """What a run would read. Opens no sink and writes nothing.

        With `count`, the series that a sink refuses are read, and their datapoints counted. With `estimate`, a sample is read, and
        tells how many datapoints and requests a run takes.
        """
        now = int(time.time())
        with Stream(self.definition) as stream, closing(Ledger.of_all(self.definition.all_ledgers)) as ledger:
            return forecast(stream, ledger, self.definition.wanted(now, from_, to), now, reload, count, estimate)

    def preview(
        self, *, points: int = 5, series: int = 10, from_: object = None, to: object = None
    ) -> list[tuple[Series, DataPoint]]:
        """The first datapoints of the first series, after the transforms. Opens no sink and writes nothing."""
        with Stream(self.definition) as stream:
            return list(preview(stream, self.wanted(from_, to), points, series))

    def verify(self, *, from_: object = None, to: object = None) -> list[Compared]:
        """The comparison of each series in each sink with the source, value by value."""
        interval = self.wanted(from_, to)
        with (
            Stream(self.definition) as stream,
            closing(Ledger.of_all(self.definition.all_ledgers)) as ledger,
            Delivery(stream, ledger, needs_all=True) as delivery,
        ):
            pieces = [Piece(each, IntervalSet.of([interval])) for each in stream.series(interval)]
            return list(verify(delivery, ledger, pieces))


def load(path: str | Path) -> Pipeline:
    """The pipeline in the file `path`; raises ConfigError with every mistake in it, a line each."""
    return Pipeline._of(file.load(path))
