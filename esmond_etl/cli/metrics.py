"""Metrics of runs for Prometheus, over prometheus-client."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from esmond_etl.engine.ledger import Ledger
from esmond_etl.engine.result import Result
from esmond_etl.model.errors import ConfigError, PluginError
from esmond_etl.pipeline.definition import Definition

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, start_http_server
except ImportError:
    raise PluginError("--metrics-port needs prometheus-client: pip install 'esmond-etl[metrics]'") from None


class Metrics:
    """The metrics of some pipelines; they begin with the last run in their ledgers."""

    def __init__(self, pipelines: Iterable[Definition]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._runs = self._counter("runs", "Runs that have ended", "outcome")
        self._read = self._counter("datapoints_read", "Datapoints read from the source")
        self._delivered = self._counter("datapoints", "Datapoints delivered to a sink, or found there unchanged", "sink", "outcome")
        self._rejects = self._counter("rejects", "Datapoints that a sink rejected", "sink")
        self._requests = self._counter("requests", "Requests to source and sinks")
        self._received = self._counter("received_bytes", "Bytes received from source and sinks")
        self._success = self._gauge("last_success_timestamp_seconds", "When the last complete run ended")
        self._last = self._gauge("last_run_timestamp_seconds", "When the last run ended")
        self._seconds = self._gauge("last_run_seconds", "How long the last run took")
        self._series = self._gauge("failed_series", "Series of the last run that are not done")
        self._lag = self._gauge("lag_seconds", "Age of the time up to which everything has been delivered")
        for pipeline in pipelines:
            self._remember(pipeline)

    def _counter(self, name: str, text: str, *labels: str) -> Any:
        return Counter(f"esmond_etl_{name}", text, ("pipeline", *labels), registry=self._registry)

    def _gauge(self, name: str, text: str) -> Any:
        return Gauge(f"esmond_etl_{name}", text, ("pipeline",), registry=self._registry)

    def _remember(self, pipeline: Definition) -> None:
        for outcome in ("complete", "incomplete", "failed"):
            self._runs.labels(pipeline.name, outcome)
        for label in pipeline.labels:
            self._rejects.labels(pipeline.name, label)
        begins = pipeline.wanted(int(time.time())).start
        self._lag.labels(pipeline.name).set_function(lambda: time.time() - begins)
        if not pipeline.ledger_path.exists():
            return
        with closing(Ledger(pipeline.ledger_path)) as ledger:
            last = ledger.last_run()
        if last and last["complete"]:
            self._succeeded(pipeline.name, last["ended"], last["to"])

    def _succeeded(self, pipeline: str, ended: float, until: int) -> None:
        self._success.labels(pipeline).set(ended)
        self._lag.labels(pipeline).set_function(lambda: time.time() - until)

    def ran(self, result: Result) -> None:
        """Note a run that has ended, complete or not."""
        name, now = result.pipeline, time.time()
        self._runs.labels(name, "complete" if result.complete else "incomplete").inc()
        self._last.labels(name).set(now)
        self._seconds.labels(name).set(result.seconds)
        self._series.labels(name).set(len(result.failures))
        self._read.labels(name).inc(result.read)
        self._requests.labels(name).inc(result.requests)
        self._received.labels(name).inc(result.received)
        for label, sink in result.sinks.items():
            self._delivered.labels(name, label, "written").inc(sink.written)
            self._delivered.labels(name, label, "unchanged").inc(sink.unchanged)
            self._rejects.labels(name, label).inc(sink.rejected)
        if result.complete:
            self._succeeded(name, now, result.interval.end)

    def failed(self, pipeline: str) -> None:
        """Note a run that could not begin."""
        self._runs.labels(pipeline, "failed").inc()
        self._last.labels(pipeline).set(time.time())

    @contextmanager
    def served(self, port: int) -> Iterator[None]:
        """Serve http://HOST:port/metrics while the context lasts; raises ConfigError if the port is taken."""
        try:
            server, thread = start_http_server(port, registry=self._registry)
        except OSError as error:
            raise ConfigError(f"--metrics-port {port}: {error.strerror}: choose another port") from None
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
