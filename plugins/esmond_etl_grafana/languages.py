"""Measures as queries, in the language of each database. `$source` and `$destination` are chosen at the top of the dashboard."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

from esmond_etl_grafana.panels import Measure


class Language(Protocol):
    """The query language of one kind of database."""

    @property
    def datasource(self) -> str:
        """Grafana's type of data source."""

    def query(self, measure: Measure) -> dict[str, Any]:
        """The query of a panel's target."""

    def hosts(self, tag: str) -> str:
        """The query that lists the values of a tag."""


@dataclass(frozen=True)
class Flux:
    """InfluxDB 2."""

    bucket: str
    prefix: str

    datasource: ClassVar[str] = "influxdb"

    def query(self, measure: Measure) -> dict[str, Any]:
        """The query of a panel's target."""
        functions = {"changes": "(tables=<-, column) => tables |> unique(column: column) |> count(column: column)"}
        lines = [
            f"from(bucket: {json.dumps(self.bucket)})",
            "range(start: v.timeRangeStart, stop: v.timeRangeStop)",
            f"filter(fn: (r) => r._measurement == {json.dumps(self.prefix + measure.measurement)} and r._field =="
            f" {json.dumps(measure.field)})",
            "filter(fn: (r) => not exists r.summary_type)",
            "filter(fn: (r) => r.source =~ /^${source:regex}$/ and r.destination =~ /^${destination:regex}$/)",
            'group(columns: ["source", "destination"])',
            f"aggregateWindow(every: v.windowPeriod, fn: {functions.get(measure.how, measure.how)}, createEmpty: false)",
        ]
        if measure.how == "changes":
            lines.append("map(fn: (r) => ({r with _value: r._value - 1}))")
        return {"query": "\n  |> ".join(lines)}

    def hosts(self, tag: str) -> str:
        """The query that lists the values of a tag."""
        bucket = json.dumps(self.bucket)
        return f'import "influxdata/influxdb/schema"\nschema.tagValues(bucket: {bucket}, tag: "{tag}", start: v.timeRangeStart)'


@dataclass(frozen=True)
class InfluxQL:
    """InfluxDB 1."""

    prefix: str

    datasource: ClassVar[str] = "influxdb"

    def query(self, measure: Measure) -> dict[str, Any]:
        """The query of a panel's target."""
        field = _quoted(measure.field)
        value = f"count(distinct({field})) - 1" if measure.how == "changes" else f"{measure.how}({field})"
        text = (
            f"SELECT {value} FROM {_quoted(self.prefix + measure.measurement)} WHERE \"summary_type\" = ''"
            ' AND "source" =~ /^${source:regex}$/ AND "destination" =~ /^${destination:regex}$/ AND $timeFilter'
            ' GROUP BY time($__interval), "source", "destination" fill(none)'
        )
        return {"query": text, "rawQuery": True, "resultFormat": "time_series", "alias": _alias(measure)}

    def hosts(self, tag: str) -> str:
        """The query that lists the values of a tag."""
        return f"SHOW TAG VALUES WITH KEY = {_quoted(tag)}"


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _alias(measure: Measure) -> str:
    return f"$tag_source to $tag_destination {measure.label}".rstrip()


_FUNCTIONS: Final = {
    "mean": "avg by (source, destination) (avg_over_time({}[$__interval]))",
    "max": "max by (source, destination) (max_over_time({}[$__interval]))",
    "count": "sum by (source, destination) (count_over_time({}[$__interval]))",
    "changes": "sum by (source, destination) (changes({}[$__interval]))",
}


@dataclass(frozen=True)
class PromQL:
    """VictoriaMetrics, which makes a metric of each field."""

    prefix: str

    datasource: ClassVar[str] = "prometheus"

    def query(self, measure: Measure) -> dict[str, Any]:
        """The query of a panel's target."""
        field = "hops" if measure.field == "path" else measure.field  # it keeps only numbers
        name = json.dumps(f"{self.prefix}{measure.measurement}_{field}")
        series = f'{{__name__={name}, summary_type="", source=~"$source", destination=~"$destination"}}'
        legend = f"{{{{source}}}} to {{{{destination}}}} {measure.label}".rstrip()
        return {"expr": _FUNCTIONS[measure.how].format(series), "legendFormat": legend, "range": True}

    def hosts(self, tag: str) -> str:
        """The query that lists the values of a tag."""
        return f"label_values({tag})"
