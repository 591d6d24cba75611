"""The OpenSearch source: from perfSONAR 5's documents to streams of datapoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, PrivateAttr

from esmond_etl import Batch, Context, Interval, Metadata, Series, Source, SourceError, Summary
from esmond_etl_opensearch import datapoints, search
from esmond_etl_opensearch.codec import metadata as tests
from esmond_etl_opensearch.codec import typed
from esmond_etl_opensearch.codec.places import DOCUMENT, STATISTICS
from esmond_etl_opensearch.connection import Connection
from esmond_etl_opensearch.search import KEY, START, PointInTime
from esmond_etl_opensearch.server import ServerError
from esmond_etl_opensearch.together import Together

_BASE = Summary()
_PLAIN = Summary("statistics", 0)
#: Tests per list request.
_LISTED = 1000
#: The fields for metadata.
_HEAD = ["meta", "test", "pscheduler.test_checksum", "pscheduler.tool", "pscheduler.duration", "reference", "esmond.json.metadata"]


class OpenSearchSource(Connection, Source):
    """The results in perfSONAR 5's OpenSearch, read directly: the series that its elmond offers, and those that elmond cannot show.

    The event type "pscheduler-document", which is offered only if `event_types` names it, returns whole documents, unchanged: with it the
    opensearch sink copies or completes an archive of perfSONAR 5.
    """

    example: ClassVar[str] = """
        [source]
        type = "opensearch"
        url = "https://archive.example.net/opensearch"
        username = "reader"
        password = "${OPENSEARCH_PASSWORD}"
        event_types = ["throughput", "histogram-owdelay"]
    """

    index: str = Field("pscheduler_*", description="the data streams to read", pattern=r"^[^\s/?#]+$")
    event_types: list[str] | None = Field(None, description="only these event types; default: all")
    summaries: list[str] = Field(
        ["base"], description='"base", and "statistics/0" for the statistics of histograms in the documents', min_length=1
    )
    match: dict[str, str | int | float | bool] = Field(
        default_factory=dict,
        description="only documents with these values in fields",
        examples=[{"test.type": "latencybg", "meta.source.ip": "198.51.100.1"}],
    )

    _view: PointInTime = PrivateAttr()
    _pages: Together = PrivateAttr()
    _unusable: dict[str, str] = PrivateAttr(default_factory=dict)
    _remarks: Counter[str] = PrivateAttr(default_factory=Counter)

    @classmethod
    def at(cls, place: str) -> Self | None:
        """The OpenSearch at a URL such as opensearch+https://HOST:9200."""
        return cls(url=place.removeprefix("opensearch+")) if place.startswith("opensearch+http") else None

    def wanted_event_types(self) -> list[str] | None:
        """The event types that the options name."""
        return self.event_types

    def wanted_summaries(self) -> list[str]:
        """The summaries that the options name."""
        return self.summaries

    def open(self, context: Context) -> None:
        """Prepare the connection; sends no request."""
        super().open(context)
        self._view = PointInTime(self._server, self.index)
        self._pages = Together(self._view, self._conditions)
        self._unusable, self._remarks = {}, Counter()

    def close(self) -> None:
        """Close the connections."""
        self._view.__exit__()
        super().close()

    def series(self, interval: Interval) -> Iterator[Series]:
        """Every series of the tests that have documents in `interval`; raises SourceError if the list is not complete."""
        try:
            for metadata in self._tests(interval):
                yield from self._selected(metadata)
        except ServerError as error:
            raise SourceError(str(error)) from None

    def _selected(self, metadata: Metadata) -> Iterator[Series]:
        for series in metadata.series():
            is_kept = series.summary == _BASE or (series.summary == _PLAIN and series.event_type in STATISTICS)
            if is_kept and self._is_wanted(series):
                yield series
        if self.event_types and DOCUMENT in self.event_types:
            yield Series(metadata, DOCUMENT)

    def _is_wanted(self, series: Series) -> bool:
        if self.event_types is not None and series.event_type not in self.event_types:
            return False
        return "all" in self.summaries or str(series.summary) in self.summaries

    def _tests(self, interval: Interval) -> Iterator[Metadata]:
        """The metadata of every test that has documents in `interval`, by key; one request for each thousand."""
        after: dict[str, Any] | None = None
        while True:
            sources = [{"key": {"terms": {"field": f"{KEY}.keyword"}}}]
            last = {"top_hits": {"size": 1, "sort": [{START: "desc"}], "_source": _HEAD}}
            composite = {"size": _LISTED, "sources": sources, **({"after": after} if after else {})}
            body = {
                "size": 0,
                "query": {"bool": {"filter": [search.within(interval), *self._conditions]}},
                "aggs": {"tests": {"composite": composite, "aggs": {"last": last}}} | ({} if after else {"without": _missing()}),
            }
            found = self._server.ask("POST", f"/{self.index}/_search", body, allow_no_indices="true", ignore_unavailable="true")
            self._check(found)
            buckets = found.get("aggregations", {}).get("tests", {}).get("buckets", [])
            yield from self._metadata(buckets)
            if len(buckets) < _LISTED:
                return
            after = buckets[-1]["key"]

    def _check(self, found: Mapping[str, Any]) -> None:
        if found["timed_out"] or found["_shards"]["failed"]:
            raise SourceError(f"{self._server.url}: the list of tests is not complete: a part of the server did not answer")
        without = found.get("aggregations", {}).get("without", {}).get("doc_count", 0)
        if without:
            self._unusable["documents without pscheduler.test_checksum"] = f"{without:,} of them belong to no test"

    def _metadata(self, buckets: list[dict[str, Any]]) -> Iterator[Metadata]:
        for bucket in buckets:
            (hit,) = bucket["last"]["hits"]["hits"]
            try:
                yield tests.from_document(hit["_source"])
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                self._unusable[bucket["key"]["key"]] = f"its documents cannot be used: {error}; elmond does not show them either"

    @property
    def _conditions(self) -> list[dict[str, Any]]:
        return [{"term": {name: value}} if not isinstance(value, str) else _text(name, value) for name, value in self.match.items()]

    def unusable(self) -> Mapping[str, str]:
        """Tests, and documents without a test, that lack required fields."""
        return self._unusable

    def remarks(self) -> Mapping[str, int]:
        """The number of duplicate documents."""
        return self._remarks

    def read(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """The datapoints of `series` in `interval`, oldest first; raises SourceError if any could not be read."""
        together = self._together(series)
        try:
            if together:
                yield from datapoints.read_together(self._pages, together, series, interval, self._one_by_one)
            else:
                yield from self._one_by_one(series, interval)
        except ServerError as error:
            raise SourceError(f"{series}: {error}") from None

    def _one_by_one(self, series: Series, interval: Interval) -> Iterator[Batch]:
        return datapoints.read(self._view, series, interval, self._conditions, self._remarks)

    def _together(self, series: Series) -> list[Series]:
        """The series of the same test that are read with `series`, and itself; none if it is read alone."""
        if typed.typed(series) is None:
            return []
        base = (Series(series.metadata, name) for name in series.metadata.event_types)
        return [each for each in base if self._is_wanted(each) and typed.typed(each)]


def _missing() -> dict[str, Any]:
    return {"missing": {"field": f"{KEY}.keyword"}}


def _text(name: str, value: str) -> dict[str, Any]:
    """A condition on a text, which is stored as a whole under `.keyword`, or on an address, which is not."""
    return {"bool": {"should": [{"term": {f"{name}.keyword": value}}, {"term": {name: value}}], "minimum_should_match": 1}}
