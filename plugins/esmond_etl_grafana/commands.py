"""The command `esmond-etl dashboard`: what it needs is imported when it is called."""

from __future__ import annotations

import click

_KINDS = ("influxdb", "influxdb1", "victoriametrics", "metrics")


@click.command(short_help="Print a dashboard for Grafana.")
@click.argument("kind", type=click.Choice(_KINDS))
@click.option("--bucket", default="perfsonar", show_default=True, help="The bucket of InfluxDB 2 that the sink writes to.")
@click.option("--prefix", default="", help="The sink's `prefix`, if it has one.")
def dashboard(kind: str, bucket: str, prefix: str) -> None:
    """Print a dashboard as JSON, to be imported into Grafana 10.1 or later.

    \b
    influxdb         measurements in InfluxDB 2 (Flux)
    influxdb1        measurements in InfluxDB 1 (InfluxQL)
    victoriametrics  measurements in VictoriaMetrics (PromQL)
    metrics          the pipelines: what `run --metrics-port` serves

    \b
    esmond-etl dashboard influxdb > perfsonar.json

    Then, in Grafana: Dashboards, New, Import. It asks for nothing; choose your data source at the top of the dashboard.
    """
    from esmond_etl import PluginError

    try:
        from esmond_etl_grafana.board import board
    except ImportError:
        raise PluginError("dashboards need grafana-foundation-sdk: pip install 'esmond-etl[grafana]'") from None
    click.echo(board(kind, bucket, prefix))
