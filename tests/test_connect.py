"""`check --connect`: what each stage says when it is tried, and that nothing is left behind."""

from __future__ import annotations

import pytest
from esmond_etl_influxdb.sink import InfluxDBSink
from pydantic import ValidationError


@pytest.mark.parametrize("host", ["h:port", "h:99999", "...", "in flux.example.net", "[::1"])
def test_a_server_of_influxdb_needs_a_host_and_a_port_that_there_can_be(host: str) -> None:
    with pytest.raises(ValidationError, match="is not the URL of a server: write https://HOST:8086"):
        InfluxDBSink(url=f"http://{host}", bucket="b")
