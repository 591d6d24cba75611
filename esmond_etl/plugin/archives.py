"""Several sources as one; the name of the archive tells their series apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Final, Self

from pydantic import PrivateAttr, SerializeAsAny

from esmond_etl.model.batch import Batch
from esmond_etl.model.errors import EsmondEtlError, SourceError, StoppedError
from esmond_etl.model.interval import Interval
from esmond_etl.model.series import Metadata, Series
from esmond_etl.model.traffic import Traffic
from esmond_etl.plugin.source import Source
from esmond_etl.plugin.stage import Context

#: The metadata parameter that names the archive.
ARCHIVE: Final = "archive"

#: Separates the name of an archive from its metadata key.
_BETWEEN: Final = ":"


class Archives(Source):
    """Several sources, by the name of their archive.

    A metadata key becomes `NAME:KEY`, as two archives may have the same key, and the metadata gets the parameter `archive`, so that
    metadata that are the same in two archives stay two.
    """

    parts: dict[str, SerializeAsAny[Source]]

    _opened: ExitStack = PrivateAttr(default_factory=ExitStack)
    _absent: dict[str, str] = PrivateAttr(default_factory=dict)

    def wanted_event_types(self) -> Sequence[str] | None:
        """The event types that all archives together are asked for."""
        names = [each.wanted_event_types() for each in self.parts.values()]
        return None if None in names else list(dict.fromkeys(name for some in names for name in some or ()))

    def wanted_summaries(self) -> Sequence[str]:
        """The summaries that all archives together are asked for."""
        return list(dict.fromkeys(name for each in self.parts.values() for name in each.wanted_summaries()))

    def open(self, context: Context) -> None:
        """Open each; raises SourceError, with the name of the archive, if one of them cannot be opened."""
        with ExitStack() as opened:
            for name, part in self.parts.items():
                with _named(name):
                    part.open(context)
                opened.callback(part.close)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Close each."""
        self._opened.close()

    def unopened(self) -> Self:
        """The same sources, not open."""
        return type(self)(parts={name: part.unopened() for name, part in self.parts.items()})

    def share(self, parts: int) -> Self:
        """Each source with its share of its limits."""
        return type(self)(parts={name: part.share(parts) for name, part in self.parts.items()})

    @property
    def traffic(self) -> Traffic:
        """The traffic with all of them."""
        each = [part.traffic for part in self.parts.values()]
        return Traffic(sum(one.requests for one in each), sum(one.received for one in each), sum(one.sent for one in each))

    def series(self, interval: Interval) -> Iterator[Series]:
        """The series of all archives, one archive after the other; `absent` names those that could not be listed."""
        self._absent = {}
        for name, part in self.parts.items():
            try:
                last: tuple[Metadata, Metadata] | None = None
                for each in part.series(interval):
                    if last is None or last[0] is not each.metadata:
                        last = each.metadata, _of(name, each.metadata)
                    yield each.replace(metadata=last[1])
            except StoppedError:
                raise
            except EsmondEtlError as error:
                self._absent[name] = str(error)

    def unmatched(self) -> str | None:
        """Why no series of any archive can match the options."""
        reasons = [part.unmatched() for name, part in self.parts.items() if name not in self._absent]
        return "; ".join(reason for reason in reasons if reason) if reasons and all(reasons) else None

    def absent(self) -> Mapping[str, str]:
        """The archives that could not be listed the last time, and why."""
        return self._absent

    def _in(self, series: Series) -> tuple[Source, Series]:
        """The source that a series is of, and the series as it is called there."""
        name, _, key = series.metadata.key.partition(_BETWEEN)
        parameters = {each: value for each, value in series.metadata.parameters.items() if each != ARCHIVE}
        return self.parts[name], series.replace(metadata=replace(series.metadata, key=key, parameters=parameters))

    def read(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """The datapoints of `series`, from its archive; raises what that raises."""
        source, own = self._in(series)
        return (batch.with_series(series) for batch in source.read(own, interval))

    def unusable(self) -> Mapping[str, str]:
        """Entries of the lists that cannot be read, with the name of the archive."""
        return {f"{name}{_BETWEEN}{key}": reason for name, part in self.parts.items() for key, reason in part.unusable().items()}

    def remarks(self) -> Mapping[str, int]:
        """The messages of all archives together."""
        return sum((Counter(part.remarks()) for part in self.parts.values()), Counter[str]())

    def requests(self, series: Series, datapoints: float) -> int:
        """As many requests as its archive needs."""
        source, own = self._in(series)
        return source.requests(own, datapoints)

    def first(self, series: Series, interval: Interval) -> int:
        """The answer of its archive."""
        source, own = self._in(series)
        return source.first(own, interval)

    def last(self, series: Series) -> float:
        """The answer of its archive."""
        source, own = self._in(series)
        return source.last(own)

    def written(self, series: Series) -> float:
        """The answer of its archive."""
        source, own = self._in(series)
        return source.written(own)


def _of(name: str, metadata: Metadata) -> Metadata:
    """A metadata with the name of its archive."""
    parameters = {**metadata.parameters, ARCHIVE: name}
    return replace(metadata, key=f"{name}{_BETWEEN}{metadata.key}", parameters=parameters)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors say which archive they are about."""
    try:
        yield
    except StoppedError:
        raise
    except EsmondEtlError as error:
        raise SourceError(f"{name}: {error}") from error
