"""The OpenSearch sink: results of esmond as documents of perfSONAR 5."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import ClassVar

from pydantic import Field, PrivateAttr, field_validator

from esmond_etl import Batch, Context, Features, Interval, Load, Series, Sink, SinkError, Task, View
from esmond_etl.client.archive import Archive
from esmond_etl.client.urls import is_url
from esmond_etl_opensearch import datapoints, setup
from esmond_etl_opensearch.bulk import Bulk
from esmond_etl_opensearch.codec import metadata as tests
from esmond_etl_opensearch.codec import places
from esmond_etl_opensearch.codec.places import DOCUMENT, RUN_HREF
from esmond_etl_opensearch.connection import Connection
from esmond_etl_opensearch.load import OpenSearchLoad
from esmond_etl_opensearch.portion import Target
from esmond_etl_opensearch.search import PointInTime
from esmond_etl_opensearch.server import ServerError
from esmond_etl_opensearch.through import Elmond

_DAYS = "perfSONAR's policy deletes an index 180 days after its creation, whatever the age of the data"


class OpenSearchSink(Connection, Sink):
    """Documents in the OpenSearch of perfSONAR 5, as its own pipeline writes them.

    Each test result (all event types of one test at one time) becomes one document, which Grafana and elmond show like any other. The
    metadata key of esmond becomes its `test_checksum`, so old URLs go on working. A document that is delivered twice is stored
    once. Where perfSONAR has stored the same result itself, nothing is written. Summaries are not written: elmond and Grafana compute them.
    """

    place: ClassVar[tuple[str, ...]] = ("url", "stream")

    example: ClassVar[str] = """
        [[sink]]
        type = "opensearch"
        url = "https://archive.example.net/opensearch"
        username = "pscheduler_logstash"
        password = "${OPENSEARCH_PASSWORD}"
    """

    stream: str = Field(
        "pscheduler_esmond_{type}",
        description="data stream to write to; {type} is replaced by the type of the test",
        pattern=r"^pscheduler_[a-z0-9_{}.-]+$",
    )
    index: str = Field("pscheduler_*", description="data streams whose documents count as present already", pattern=r"^[^\s/?#]+$")
    keep: bool = Field(True, description="whether to create a policy so that the server never deletes the written documents")

    report_missing: bool = Field(
        False, description="whether a run that copies whole documents reports by host and hour how many were missing"
    )
    elmond: str | None = Field(
        None,
        description="URL of the elmond of the same archive: `verify` compares what it shows, too",
        examples=["https://archive.example.net/"],
    )

    _target: Target = PrivateAttr()
    _executor: ThreadPoolExecutor = PrivateAttr()
    _lock: Lock = PrivateAttr()
    _ready: bool = PrivateAttr(False)
    _remark: str = PrivateAttr("")
    _elmond: Elmond | None = PrivateAttr(None)

    @field_validator("elmond")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None and not is_url(value):
            raise ValueError("is not the URL of an elmond: write https://HOST/")
        return value

    @property
    def features(self) -> Features:
        """A document is replaced as a whole; documents of other programs are compared, and kept."""
        return Features(undoes=False, merges=True, several_hosts=True, one_a_second=True)

    @property
    def _pattern(self) -> str:
        return self.stream.replace("{type}", "*")

    def open(self, context: Context) -> None:
        """Prepare the connection; sends no request."""
        super().open(context)
        self._executor = ThreadPoolExecutor(max(context.parallel, 1), "bulk")
        bulk = Bulk(self._server, self._executor)
        self._target = Target(self._server, bulk, f"{self.index},{self._pattern}", self._pattern, self.stream)
        self._ready, self._lock = False, Lock()
        self._elmond = self._opened(self.elmond, context) if self.elmond else None

    def _opened(self, url: str, context: Context) -> Elmond:
        return Elmond(
            Archive(
                url,
                verify=self.verify,
                ca=self.ca,
                timeout=self.timeout,
                retries=self.retries,
                backoff=self.backoff,
                parallel=context.parallel,
                stop=context.stop,
            )
        )

    def close(self) -> None:
        """Close the connections."""
        self._executor.shutdown(cancel_futures=True)
        if self._elmond is not None:
            self._elmond.close()
        super().close()

    def refusal(self, series: Series) -> str | None:
        """Why no document can hold `series`."""
        if series.event_type == DOCUMENT:
            return None
        if series.summary.type != "base":
            return "documents are results: elmond and Grafana make the summaries of them"
        kinds = places.test_types(series.metadata)
        if not kinds:
            return "the type of this test is not known"
        if series.event_type != RUN_HREF and all(places.place(kind, series.event_type) is None for kind in kinds):
            return "no document has a place for it" if len(kinds) > 1 else f"a document of a {kinds[0]} test has no place for it"
        return tests.unfit(series.metadata)

    def begin(self, task: Task) -> Load:
        """Begin the delivery of one task; before the first one, missing templates and policies are created."""
        with self._lock:
            if not self._ready:
                self._prepare()
                self._ready = True
        return OpenSearchLoad(self._target, task, self._remark, self.report_missing)

    def _prepare(self) -> None:
        try:
            if setup.template_of(self._server, self._pattern) is None:
                setup.make_template(self._server, self._pattern)
            self._remark = self._kept() if self.keep and self._is_own else ""
        except ServerError as error:
            raise SinkError(str(error)) from None

    @property
    def _is_own(self) -> bool:
        """Whether perfSONAR itself does not write to the streams."""
        return self._pattern not in ("pscheduler_*", "*")

    def _kept(self) -> str:
        """Make sure that no policy deletes what is written; returns a message for the user."""
        try:
            policy = setup.policy_of(self._server, self._pattern)
        except setup.NotThere:
            return "datapoints are in a server without index state management: nothing there deletes them"
        if policy and policy.deletes:
            setup.make_policy(self._server, self._pattern, policy.priority + 100)
        return ""

    def reach(self, context: Context) -> str:
        """Check that the server answers, and return what a run would do; raises SinkError with what an administrator must do first."""
        self.open(context)
        try:
            return self._prospect()
        except ServerError as error:
            raise SinkError(str(error)) from None
        finally:
            self.close()

    def _prospect(self) -> str:
        version = self._server.ask("GET", "/")["version"]["number"]
        template = setup.template_of(self._server, self._pattern)
        said = f"opens: OpenSearch {version}; "
        said += f"index template {template}" if template else f"a run makes the index template {setup.template_name(self._pattern)}"
        return f"{said}; {self._future()}"

    def _future(self) -> str:
        try:
            policy = setup.policy_of(self._server, self._pattern)
        except setup.NotThere:
            return "no index state management: nothing deletes what is written"
        if not policy:
            return "no policy applies: nothing deletes what is written"
        if not policy.deletes:
            return f"the policy {policy.name} deletes nothing"
        if self.keep and self._is_own:
            return (
                f"a run makes the policy {setup.policy_name(self._pattern)}, so that {policy.name} does not delete what is written"
            )
        return f"the policy {policy.name} will delete what is written ({_DAYS}): write keep = true, and your own stream"

    def read(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """The server's datapoints of `series` in `interval`, oldest first; raises SinkError if they cannot be read."""
        try:
            with PointInTime(self._server, self._target.pattern) as view:
                yield from datapoints.read(view, series, interval)
        except ServerError as error:
            raise SinkError(f"{series}: {error}") from None

    def views(self) -> Mapping[str, View]:
        """What elmond shows of the documents, if its URL is known."""
        return {} if self._elmond is None else {"through elmond": self._elmond}
