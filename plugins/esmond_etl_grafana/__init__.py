"""Dashboards for Grafana: `esmond-etl dashboard influxdb > perfsonar.json`."""

from typing import TYPE_CHECKING

from esmond_etl import hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def esmond_etl_commands() -> "dict[str, click.Command]":
    """The command `dashboard`."""
    from esmond_etl_grafana.commands import dashboard  # late import: click is loaded when a command is looked up

    return {"dashboard": dashboard}
