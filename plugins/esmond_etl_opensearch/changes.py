"""The fewest changes to the documents of a test that make a server hold the delivered datapoints; documents of other programs stay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from esmond_etl import Batch, Metadata, Reject, Series, same_value
from esmond_etl_opensearch.bulk import Operation
from esmond_etl_opensearch.codec import documents, places, reading
from esmond_etl_opensearch.codec.fields import Refused
from esmond_etl_opensearch.codec.places import DOCUMENT, FAILURES, PLACES, RAW, RUN_HREF
from esmond_etl_opensearch.present import Present, run_of
from esmond_etl_opensearch.search import Hit

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode

HOUR: Final = 3600

_OTHER: Final = "perfSONAR's own document of this time has another value, or none: it was not changed"


@dataclass
class Test:
    """A test, and those of its series that are delivered."""

    metadata: Metadata
    series: tuple[Series, ...]
    stream_name: str  #: with {type} for the type of the test

    @property
    def key(self) -> str:
        """The `pscheduler.test_checksum` of its documents."""
        return self.metadata.key

    @cached_property
    def stream(self) -> str:
        """The data stream of its documents."""
        return self.stream_name.replace("{type}", places.test_type(self.metadata) or "unknown")

    def others(self) -> list[Series]:
        """The series that a document of the test may hold besides the delivered ones."""
        names = {FAILURES, RUN_HREF, *PLACES.get(places.test_type(self.metadata) or "", (RAW,))}
        delivered = {series.event_type for series in self.series}
        return [Series(self.metadata, name) for name in sorted(names - delivered)]


class Wanted(NamedTuple):
    """The delivered datapoints of a test, in a part of its time."""

    test: Test
    batches: Mapping[Series, list[Batch]]


@dataclass
class Outcome:
    """The results of datapoints that need not be sent."""

    unchanged: int = 0
    rejects: list[Reject] = field(default_factory=list)
    missing: Counter[tuple[str, int]] = field(
        default_factory=Counter
    )  #: copies: (measuring host, hour) -> results that were missing


def operations(wanted: Wanted, there: Present, outcome: Outcome) -> Iterator[Operation]:
    """The operations that turn the documents that are `there` into the wanted ones; what need not be changed is noted in `outcome`."""
    for hit in there.again:
        yield _delete(wanted.test.key, hit)
    whole = next((batches for series, batches in wanted.batches.items() if series.event_type == DOCUMENT), None)
    if whole is not None:
        yield from _copies(wanted.test, whole, there, outcome)
    else:
        yield from _results(wanted, there, outcome)


def _results(wanted: Wanted, there: Present, outcome: Outcome) -> Iterator[Operation]:
    test, refused = wanted.test, list[Refused]()
    given = {series.event_type: batches for series, batches in wanted.batches.items()}
    numbers = _numbers(wanted) if there.own or there.others else Counter[int]()
    left = {hit.id: hit for hit in there.own.values() if hit.id == f"{test.key}-{hit.ts}"}
    kept = _kept(test, left.values())
    for document in documents.documents(test.metadata, {**given, **kept}, refused):
        hit = left.pop(f"{test.key}-{document.ts}", None)
        if document.ts in there.others:
            outcome.rejects += _differing(wanted, document.ts, there.others[document.ts])
            outcome.unchanged += numbers[document.ts]
            if hit is not None:
                yield _delete(test.key, hit)
        elif hit is None:
            yield _create(test, f"{test.key}-{document.ts}", document.ts, document.text)
        elif same_value(_decode(document.text), hit.source):
            outcome.unchanged += numbers[document.ts]
        else:
            yield _change(test.key, hit, document.text)
    for hit in left.values():
        yield _delete(test.key, hit)
    by_type = {series.event_type: series for series in wanted.batches}
    outcome.rejects += (Reject(by_type[each.event_type], each.ts, each.val, each.reason) for each in refused)


def _numbers(wanted: Wanted) -> Counter[int]:
    """The number of delivered datapoints of each time."""
    return Counter(ts for batches in wanted.batches.values() for batch in batches for ts in batch.moments)


def _kept(test: Test, hits: Any) -> dict[str, list[Batch]]:
    """The datapoints of documents in other series than the delivered ones."""
    kept = {}
    oldest_first = sorted(hits, key=lambda hit: hit.ts)
    for series in test.others() if oldest_first else ():
        value = reading.reader(series)
        points = [(hit.ts, each) for hit in oldest_first if (each := value(hit.source)) is not reading.MISSING]
        if points:
            kept[series.event_type] = [Batch.from_points(series, points)]
    return kept


def _differing(wanted: Wanted, ts: int, hits: Sequence[Hit]) -> Iterator[Reject]:
    """The datapoints of a time that no document of another program holds."""
    for series, batches in wanted.batches.items():
        value = reading.reader(series)
        held = [value(hit.source) for hit in hits]
        for batch in batches:
            for point in batch.to_points():
                if point.ts == ts and not any(same_value(point.val, each) for each in held):
                    yield Reject(series, ts, text_of(point.val), _OTHER)


def _copies(test: Test, batches: Sequence[Batch], there: Present, outcome: Outcome) -> Iterator[Operation]:
    """The operations for whole documents: a document with the same test, start and run is not changed."""
    known = Counter((hit.ts, run_of(hit.source)) for hit in there.own.values())
    known.update((hit.ts, run_of(hit.source)) for hits in there.others.values() for hit in hits)
    nameless = {ts for ts, run in known if run is None}
    for batch in batches:
        for ts, text in zip(batch.seconds, batch.val.to_pylist(), strict=True):
            run = run_of(_decode(text))
            name = blake2b((run or text).encode(), digest_size=8).hexdigest()
            own = f"{test.key}-{ts}-{name}"
            if (ts, run) in known or ts in nameless or own in there.own or (run is None and any(ts == each for each, _ in known)):
                outcome.unchanged += 1
            else:
                known[ts, run] += 1
                outcome.missing[test.metadata.measurement_agent or "an unknown host", ts // HOUR * HOUR] += 1
                yield _create(test, own, ts, text)


def _create(test: Test, name: str, ts: int, text: str) -> Operation:
    action = f'{{"create":{{"_index":"{test.stream}","_id":{_encode(name).decode()}}}}}'
    return Operation("create", f"{action}\n{text}\n", test.key, ts)


def _change(key: str, hit: Hit, text: str) -> Operation:
    return Operation("index", f'{{"index":{_version(hit)}}}\n{text}\n', key, hit.ts)


def _delete(key: str, hit: Hit) -> Operation:
    return Operation("delete", f'{{"delete":{_version(hit)}}}\n', key, hit.ts)


def _version(hit: Hit) -> str:
    names = {"_index": hit.index, "_id": hit.id, "if_seq_no": hit.seq_no, "if_primary_term": hit.primary_term}
    return _encode(names).decode()


def text_of(value: Any) -> str:
    """A value as JSON text."""
    return _encode(value).decode()
