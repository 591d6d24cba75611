"""The InfluxDB sink: datapoints as points in InfluxDB 2, InfluxDB 1.8, or whatever else speaks its line protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esmond_etl import hookimpl

if TYPE_CHECKING:  # imports are late: the command line loads every plugin to look for commands
    from esmond_etl import Sink


@hookimpl
def esmond_etl_sinks() -> dict[str, type[Sink]]:
    """The sink `influxdb`."""
    from esmond_etl_influxdb.sink import InfluxDBSink

    return {"influxdb": InfluxDBSink}
