"""Datapoints for programs: one by one, as a list, or in columns."""

from __future__ import annotations

from collections import UserList
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain, islice
from pprint import pformat
from typing import Any, Final

import pyarrow as pa

from esmond_etl.model.batch import OPENED, Batch
from esmond_etl.model.columns import JSON_TEXT, NUMBER, TS
from esmond_etl.model.errors import ContentError
from esmond_etl.model.event_types import event_type
from esmond_etl.model.series import Series

_LAST: Final = datetime(9999, 12, 29, 23, 59, 59)
_LAST_EPOCH: Final = int(_LAST.replace(tzinfo=UTC).timestamp())


class DataPoint:
    """One measured value and its time."""

    __slots__ = ("ts_epoch", "val")

    ts_epoch: int  #: Unix time, s
    val: Any  #: a number, or whatever the event type has

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.ts_epoch = int(data["ts"])
        self.val = data.get("val")

    @property
    def ts(self) -> datetime:
        """The time in UTC, as a naive datetime: programs print it, and compare it with `datetime.utcnow()`."""
        if self.ts_epoch > _LAST_EPOCH:
            return _LAST
        return datetime.fromtimestamp(self.ts_epoch, UTC).replace(tzinfo=None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataPoint) and (self.ts_epoch, self.val) == (other.ts_epoch, other.val)

    __hash__ = None  # type: ignore[assignment]  # a value may be a dict

    def __repr__(self) -> str:
        return f"<DataPoint: ts:{self.ts} val:{self.val}>"


class DataHistogram(DataPoint):
    """One histogram (a dict of bucket to count) and its time; for a `statistics` summary, a dict of its figures."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<DataHistogram: ts:{self.ts} len:{len(self.val or ())}>"


class DataPoints(UserList[DataPoint]):
    """A list of datapoints that is read while it is iterated; every other list operation reads all of them first."""

    def __init__(self, source: Iterable[DataPoint] = ()) -> None:
        self._source = source

    @cached_property
    def data(self) -> list[DataPoint]:  # type: ignore[override]  # a list to all who ask, made when they do
        """All of them."""
        return list(self._source)

    def __iter__(self) -> Iterator[DataPoint]:
        return iter(self.data if "data" in self.__dict__ else self._source)

    def __len__(self) -> int:
        return len(self.data if "data" in self.__dict__ or not isinstance(self._source, DataPayload) else self._source)

    def __bool__(self) -> bool:
        return bool(self.data) if "data" in self.__dict__ or not isinstance(self._source, DataPayload) else not self._source.empty


class DataPayload:
    """The data of one event type, or of one summary of it, over the time that the filters gave.

    The first page is there from the start. Unlike in the old library, the rest is read while the payload, or its `data`, is iterated,
    and not kept; `len()`, an index, or `to_arrow()` read it whole and keep it, in columns. It is never truncated: a page that cannot
    be read raises an ArchiveError.
    """

    def __init__(self, series: Series, read: Callable[[], Iterator[Batch]], page: int) -> None:
        self._series, self._read = series, read
        started = read()
        head = list(islice(started, 1))
        if head and len(head[0]) < page:  # probably all datapoints
            head += islice(started, 1)
        complete = not head or (len(head) == 1 and len(head[0]) < page)
        self._whole: list[Batch] | None = head if complete else None
        self._started: Iterator[Batch] | None = chain(head, started)
        self.empty = not head  #: whether there are no datapoints at all

    @property
    def data_type(self) -> str:
        """How the archive keeps the event type's values: "integer", "float", "percentage", "histogram", "subinterval" or "json"."""
        return data_type(self._series)

    @cached_property
    def data(self) -> DataPoints:
        """The datapoints, oldest first: a list of DataPoint, or of DataHistogram where the data type is "histogram"."""
        return DataPoints(self)

    @property
    def dump(self) -> str:
        """The datapoints as text, for debugging."""
        return pformat([{"ts": point.ts_epoch, "val": point.val} for point in self], indent=4)

    def batches(self) -> Iterator[Batch]:
        """The datapoints, oldest first, a page at a time, in columns."""
        if self._whole is not None:
            return iter(self._whole)
        started, self._started = self._started, None
        return started or self._read()

    def to_arrow(self) -> pa.Table:
        """The datapoints as columns: `ts` (timestamp[s, UTC]) and `val` (float64, map<string, int64> for histograms, else JSON text).

        Raises ContentError if a value is not a histogram.
        """
        schema = pa.schema([("ts", TS), ("val", val_type(self._series))])
        return pa.Table.from_batches([opened(batch).points for batch in self._kept()], schema)

    def to_pandas(self) -> Any:
        """The datapoints as a pandas.DataFrame with the columns of `to_arrow`; raises ImportError where pandas is not installed."""
        try:
            import pandas  # noqa: F401  # only for those who have it
        except ImportError:
            raise ImportError("to_pandas() needs pandas: install it, or use to_arrow()") from None
        return self.to_arrow().to_pandas(maps_as_pydicts="strict")

    def _kept(self) -> list[Batch]:
        if self._whole is None:
            self._whole = list(self.batches())
        return self._whole

    def __iter__(self) -> Iterator[DataPoint]:
        point = DataHistogram if self.data_type == "histogram" else DataPoint
        for batch in self.batches():
            for ts, val in _points(batch):
                yield point({"ts": ts, "val": val})

    def __len__(self) -> int:
        return sum(map(len, self._kept()))

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        length = "unread" if self._whole is None else sum(map(len, self._whole))
        return f"<DataPayload: len:{length} type:{self.data_type}>"


def data_type(series: Series) -> str:
    """How the archive keeps the values of a series' event type, whatever the summary."""
    return event_type(series.event_type).data_type


def val_type(series: Series) -> pa.DataType:
    """The Arrow type of the opened values of `series`."""
    return OPENED.get(series.data_type, NUMBER if series.holds_numbers else JSON_TEXT)


def _points(batch: Batch) -> Iterator[tuple[int, Any]]:
    try:
        return batch.to_points()
    except ValueError as error:
        raise ContentError(str(error), batch.series.served.uri) from None


def opened(batch: Batch) -> Batch:
    """`batch` with its histograms as maps; raises ContentError, naming the place, if a value is not a histogram."""
    try:
        return batch.opened()
    except ValueError as error:
        raise ContentError(str(error), batch.series.served.uri) from None
