"""The contents of the dashboards, the same for every database."""

from __future__ import annotations

from typing import Final, NamedTuple


class Measure(NamedTuple):
    """A field of an event type, one line for each pair of hosts, as the InfluxDB sink names it."""

    measurement: str
    field: str
    how: str  #: the value for an interval: "mean", "max", "changes" of the value in it, or the "count" of datapoints
    label: str = ""  #: its label among the measures of its panel


class Panel(NamedTuple):
    """A panel with some measures."""

    title: str
    unit: str  #: Grafana's name of it
    about: str
    measures: tuple[Measure, ...]


PANELS: Final = (
    Panel("Throughput", "bps", "Mean of the tests in each interval.", (Measure("throughput", "value", "mean"),)),
    Panel(
        "Packet loss", "percentunit", "Mean share of the packets that were lost.", (Measure("packet_loss_rate", "value", "mean"),)
    ),
    Panel(
        "One-way delay",
        "ms",
        "Median and 95th percentile. Negative where the clocks of the two hosts differ by more than the delay.",
        (Measure("histogram_owdelay", "median", "mean", "median"), Measure("histogram_owdelay", "p95", "max", "95 %")),
    ),
    Panel(
        "Round-trip time",
        "ms",
        "Median and 95th percentile.",
        (Measure("histogram_rtt", "median", "mean", "median"), Measure("histogram_rtt", "p95", "max", "95 %")),
    ),
    Panel("Path length", "short", "Number of hops.", (Measure("packet_trace", "hops", "max"),)),
    Panel("Path changes", "short", "Number of path changes.", (Measure("packet_trace", "path", "changes"),)),
    Panel(
        "Coverage",
        "short",
        "Datapoints in each interval: a gap means that nothing was measured, or that it has not been delivered yet.",
        (
            Measure("throughput", "value", "count", "throughput"),
            Measure("packet_loss_rate", "value", "count", "loss"),
            Measure("histogram_owdelay", "count", "count", "delay"),
            Measure("packet_trace", "hops", "count", "path"),
        ),
    ),
)


class Health(NamedTuple):
    """A panel with esmond-etl's own metrics."""

    title: str
    unit: str
    about: str
    query: str  #: PromQL
    legend: str


_BY: Final = '{pipeline=~"$pipeline"}'

HEALTH: Final = (
    Health(
        "Lag", "s", "Age of the time up to which everything has been delivered.", f"esmond_etl_lag_seconds{_BY}", "{{pipeline}}"
    ),
    Health(
        "Since the last complete run",
        "s",
        "Alert when it is several times the pause between runs.",
        f"time() - esmond_etl_last_success_timestamp_seconds{_BY}",
        "{{pipeline}}",
    ),
    Health(
        "Datapoints delivered",
        "short",
        "A second, by sink.",
        f"sum by (pipeline, sink) (rate(esmond_etl_datapoints_total{_BY}[$__rate_interval]))",
        "{{pipeline}} to {{sink}}",
    ),
    Health(
        "Datapoints read",
        "short",
        "A second.",
        f"sum by (pipeline) (rate(esmond_etl_datapoints_read_total{_BY}[$__rate_interval]))",
        "{{pipeline}}",
    ),
    Health(
        "Rejected datapoints",
        "short",
        "Datapoints that sinks rejected: `esmond-etl rejects` lists them.",
        f"sum by (pipeline, sink) (increase(esmond_etl_rejects_total{_BY}[$__rate_interval]))",
        "{{pipeline}} to {{sink}}",
    ),
    Health("Series that failed", "short", "In the last run.", f"esmond_etl_failed_series{_BY}", "{{pipeline}}"),
    Health(
        "Runs",
        "short",
        "By outcome.",
        f"sum by (pipeline, outcome) (increase(esmond_etl_runs_total{_BY}[$__rate_interval]))",
        "{{pipeline}}: {{outcome}}",
    ),
    Health("Length of the last run", "s", "Of each pipeline.", f"esmond_etl_last_run_seconds{_BY}", "{{pipeline}}"),
    Health(
        "Requests",
        "reqps",
        "To sources and sinks.",
        f"sum by (pipeline) (rate(esmond_etl_requests_total{_BY}[$__rate_interval]))",
        "{{pipeline}}",
    ),
)
