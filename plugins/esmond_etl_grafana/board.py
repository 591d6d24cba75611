"""The dashboards, built with Grafana's own library for Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from grafana_foundation_sdk.builders import common, dashboard, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models.dashboard import DataSourceRef, VariableOption, VariableRefresh

from esmond_etl_grafana.languages import Flux, InfluxQL, Language, PromQL
from esmond_etl_grafana.panels import HEALTH, PANELS

#: Of a dashboard's 24 columns, and in rows of Grafana's grid.
_WIDTH, _HEIGHT = 12, 8

_DATASOURCE: Final = "${datasource}"


class _Query(Dataquery, Builder[Dataquery]):
    """A target of a panel: the library has no class for InfluxDB's targets."""

    def __init__(self, datasource: str, letter: str, says: dict[str, Any]) -> None:
        self._says = {"refId": letter, "datasource": {"type": datasource, "uid": _DATASOURCE}, **says}

    def build(self) -> Dataquery:
        return self

    def to_json(self) -> dict[str, Any]:
        """The JSON that Grafana reads."""
        return self._says


def board(kind: str, bucket: str, prefix: str) -> str:
    """A dashboard as JSON: for measurements in a database, or for the pipelines' own metrics."""
    if kind == "metrics":
        made = _empty("esmond-etl: pipelines", "esmond-etl-pipelines", "prometheus", "now-24h")
        made.with_variable(_choice("prometheus", "pipeline", "label_values(esmond_etl_lag_seconds, pipeline)"))
        panels = _health()
    else:
        language = _language(kind, bucket, prefix)
        made = _empty("perfSONAR measurements", f"perfsonar-{kind}", language.datasource, "now-7d")
        for tag in ("source", "destination"):
            made.with_variable(_choice(language.datasource, tag, language.hosts(tag)))
        panels = _measurements(language, kind)
    for panel in panels:
        made.with_panel(panel)
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build())


def _language(kind: str, bucket: str, prefix: str) -> Language:
    if kind == "influxdb":
        return Flux(bucket, prefix)
    return InfluxQL(prefix) if kind == "influxdb1" else PromQL(prefix)


def _empty(title: str, uid: str, datasource: str, since: str) -> dashboard.Dashboard:
    chosen = dashboard.DatasourceVariable("datasource").label("Data source").type(datasource)
    return dashboard.Dashboard(title).uid(uid).tags(["perfsonar"]).time(since, "now").refresh("5m").editable().with_variable(chosen)


def _choice(datasource: str, name: str, query: str) -> dashboard.QueryVariable:
    """A variable: some values of a tag or label, or all of them."""
    return (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .datasource(DataSourceRef(datasource, _DATASOURCE))
        .query(query)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(selected=True, text="All", value="$__all"))
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    )


def _measurements(language: Language, kind: str) -> Iterator[timeseries.Panel]:
    for panel in PANELS:
        about = panel.about
        if kind == "victoriametrics" and any(each.how == "changes" for each in panel.measures):
            about += " VictoriaMetrics keeps no text: only changes of the number of hops are seen."
        queries = (language.query(each) for each in panel.measures)
        yield _panel(panel.title, panel.unit, about, language.datasource, queries)


def _health() -> Iterator[timeseries.Panel]:
    for each in HEALTH:
        query = {"expr": each.query, "legendFormat": each.legend, "range": True}
        yield _panel(each.title, each.unit, each.about, "prometheus", [query])


def _panel(title: str, unit: str, about: str, datasource: str, queries: Iterable[dict[str, Any]]) -> timeseries.Panel:
    made = timeseries.Panel().title(title).unit(unit).description(about).span(_WIDTH).height(_HEIGHT)
    made.datasource(DataSourceRef(datasource, _DATASOURCE)).show_points(looks.VisibilityMode.ALWAYS)
    made.legend(common.VizLegendOptions().show_legend(True))
    made.tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI))
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        made.with_target(_Query(datasource, letter, query))
    return made
