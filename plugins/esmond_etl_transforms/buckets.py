"""Time in buckets: the spans between two multiples of a period."""

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import Batch, floor


def bucket_starts(ts: pa.Array, period: int) -> pa.Array:
    """The start of each time's bucket, Unix seconds (int64)."""
    return pc.multiply(pc.divide(ts.cast(pa.int64()), period), period)


def whole_buckets(batches: Iterable[Batch], period: int) -> Iterator[Batch]:
    """The same datapoints of one series, cut elsewhere: no bucket of `period` seconds is split between two batches.

    So a result for each bucket does not depend on how the series was cut into pages, to the last digit.
    """
    held: list[Batch] = []  # batches of one bucket, which may continue
    for batch in batches:
        if not len(batch):
            yield batch
            continue
        bucket = floor(last_second(batch), period)
        if held and bucket == floor(last_second(held[-1]), period):
            held.append(batch)
            continue
        cut = pc.sum(pc.less(batch.ts.cast(pa.int64()), bucket)).as_py()
        if held or cut:
            yield joined([*held, Batch(batch.series, batch.points.slice(0, cut))])
        held = [tail(batch, len(batch) - cut)]
    if held:
        yield joined(held)


def last_second(batch: Batch) -> int:
    """The last moment of a batch that is not empty, Unix seconds."""
    second: int = batch.ts[-1].cast(pa.int64()).as_py()
    return second


def tail(batch: Batch, length: int) -> Batch:
    """The last `length` datapoints."""
    return Batch(batch.series, batch.points.slice(len(batch) - length))


def joined(batches: list[Batch]) -> Batch:
    """The datapoints of one or more batches in one."""
    ts = pa.concat_arrays([batch.ts for batch in batches])
    return Batch.of(batches[0].series, ts, pa.concat_arrays([batch.val for batch in batches]))
