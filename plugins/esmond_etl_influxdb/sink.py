"""The InfluxDB sink."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, PrivateAttr, SecretStr, field_validator, model_validator
from urllib3.util import parse_url

from esmond_etl import (
    Backoff,
    Batch,
    CaFile,
    CertFile,
    CheckCertificate,
    Context,
    Duration,
    Features,
    Interval,
    KeyFile,
    Load,
    PluginError,
    Retries,
    Series,
    Sink,
    Task,
    Traffic,
    histograms,
)
from esmond_etl.client.urls import is_url
from esmond_etl_influxdb import fields, lines, reading
from esmond_etl_influxdb.fields import Points
from esmond_etl_influxdb.load import InfluxDBLoad
from esmond_etl_influxdb.server import Server
from esmond_etl_influxdb.values import FIELDS

_TAKEN = frozenset({*lines.TAGS, *lines.SUMMARY_TAGS, "time", "_field", "_measurement", *FIELDS})


class InfluxDBSink(Sink):
    """InfluxDB 2 (`token`, `org`, `bucket`), InfluxDB 1.8 (`username`, `password`, `database`), or a server with the same write interface.

    A series becomes points in the measurement named after its event type, with underscores; its metadata become tags. Fields: `value`
    of numbers; `count`, `min`, `mean`, `median`, `p25`, `p75`, `p95`, `max`, `stddev`, `variance` of histograms and statistics, in
    milliseconds where they are delays; `hops`, `reached`, `rtt`, `path` of packet traces; `error` of failures; `value`, `start`,
    `duration` of subintervals, a point each; `json` of everything else. What is delivered again overwrites itself.
    """

    paths: ClassVar[tuple[str, ...]] = ("ca", "cert", "cert_key")
    place: ClassVar[tuple[str, ...]] = ("url", "org", "bucket", "database", "prefix", "tags")

    example: ClassVar[str] = """
        [[sink]]
        type = "influxdb"
        url = "https://influxdb.example.net:8086"
        token = "${INFLUXDB_TOKEN}"
        org = "noc"
        bucket = "perfsonar"
    """

    url: str = Field(description="URL of the server", examples=["https://influxdb.example.net:8086"])
    token: SecretStr | None = Field(None, description='API token; write "${NAME}" to take it from the environment')
    org: str | None = Field(None, description="organization that the bucket belongs to")
    bucket: str | None = Field(None, description="bucket to write to")
    username: str | None = Field(None, description="user of InfluxDB 1.8, instead of a token")
    password: SecretStr | None = Field(None, description="the user's password")
    database: str | None = Field(
        None, description="database of InfluxDB 1.8, instead of a bucket", examples=["perfsonar", "perfsonar/five_years"]
    )
    prefix: str = Field("", description="prefix of the measurement names, before the event type", examples=["perfsonar_"])
    tags: list[str] = Field(
        default_factory=list, description="metadata parameters to add as tags", examples=[["ip-transport-protocol"]]
    )
    gzip: bool = Field(False, description="whether to compress requests: 20 times fewer bytes for twice the work")
    verify: CheckCertificate = True
    ca: CaFile = None
    cert: CertFile = None
    cert_key: KeyFile = None
    timeout: Duration = Field(60, gt=0, description="time-out of a request")
    retries: Retries = 4
    backoff: Backoff = 0.3

    _server: Server = PrivateAttr()

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if not is_url(value):
            raise ValueError("is not the URL of a server: write https://HOST:8086")
        if parse_url(value).auth is not None:
            raise ValueError("the URL must not contain a user and password: write them as username and password, or use a token")
        return value.rstrip("/")

    @field_validator("prefix")
    @classmethod
    def _is_prefix(cls, value: str) -> str:
        if value.startswith(("#", "_")):
            raise ValueError('InfluxDB does not accept a measurement whose name starts with "#" or "_"')
        return value

    @field_validator("tags")
    @classmethod
    def _are_new(cls, value: list[str]) -> list[str]:
        names = [lines.tag_name(each) for each in value]
        for name in names:
            if not name or name in _TAKEN or names.count(name) > 1:
                raise ValueError(f"{name!r} cannot be added: it is a tag already, or a name that InfluxDB keeps for itself")
        return value

    @model_validator(mode="after")
    def _one_place(self) -> InfluxDBSink:
        if (self.bucket is None) == (self.database is None):
            raise ValueError("write either bucket (InfluxDB 2) or database (InfluxDB 1.8)")
        if self.database is None and (self.username or self.password):
            raise ValueError("username and password go with database (InfluxDB 1.8); a bucket needs a token")
        if self.bucket is None and (self.token or self.org):
            raise ValueError("token and org go with bucket (InfluxDB 2); a database needs username and password")
        return self

    def open(self, context: Context) -> None:
        """Prepare the connection; sends no request."""
        try:
            import influxdb_client
        except ImportError:
            raise PluginError("the influxdb sink needs influxdb-client: pip install 'esmond-etl[influxdb]'") from None
        if not self.verify:
            import urllib3

            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        if (
            not logging.getLogger().handlers
        ):  # the client logs an unreadable answer in a way that makes all libraries print warnings
            logging.getLogger().addHandler(logging.NullHandler())
        client = influxdb_client.InfluxDBClient(
            self.url,
            self._authorization(),
            timeout=self.timeout * 1000,
            verify_ssl=self.verify,
            ssl_ca_cert=self.ca,
            cert_file=self.cert,
            cert_key_file=self.cert_key,
            connection_pool_maxsize=context.parallel,
        )
        self._server = Server(
            client,
            self.url,
            org=self.org or "-",  # the client requires one; only InfluxDB 2 uses it
            bucket=self.bucket or self.database or "",
            old=self.database is not None,
            retries=self.retries,
            backoff=self.backoff,
            timeout=self.timeout,
            compress=self.gzip,
            stop=context.stop,
            traffic=Traffic(),
        )

    def reach(self, context: Context) -> str:
        """The server's name and version; raises SinkError if it does not answer, or would refuse the writes of a run."""
        self.open(context)
        try:
            server = self._server.ping()
            self._server.try_write()
        finally:
            self.close()
        return f"opens: {server}"

    def ready(self) -> None:
        """Check that the server answers and would accept writes; raises SinkError if not."""
        self._server.ping()
        self._server.try_write()

    def _authorization(self) -> str | None:
        if self.username:
            return f"{self.username}:{self.password.get_secret_value() if self.password else ''}"
        return self.token.get_secret_value() if self.token else None

    def close(self) -> None:
        """Close the connections."""
        self._server.client.close()

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes so far."""
        return self._server.traffic

    def refusal(self, series: Series) -> str | None:
        """Why the series cannot have a measurement, or why its buckets cannot be milliseconds."""
        name = lines.measurement(series, self.prefix)
        if not name or name.startswith(("#", "_")):
            return f"{series}: InfluxDB does not accept a measurement with the name {name!r}"
        try:
            histograms.bucket_width(series)
        except ValueError as error:
            return str(error)
        return None

    @property
    def features(self) -> Features:
        """A point overwrites the point with the same tags and time; nothing is deleted."""
        return Features(replaces=False, undoes=False, several_hosts=True, one_a_second=True, overwrites=True)

    def begin(self, task: Task) -> Load:
        """The way into InfluxDB for one task."""
        return InfluxDBLoad(self._server, self._encoded)

    def _encoded(self, batch: Batch) -> tuple[Points, pa.Array]:
        points = fields.points(batch)
        text = lines.encode(lines.head(self._measurement(batch.series), lines.tags(batch.series, self.tags)), points)
        errors = points.columns.get("error")
        if errors is not None and pc.any(pc.match_substring(errors, "\n")).as_py() and self._server.is_victoria_metrics:
            text = lines.on_one_line(text)  # it would take the text after the line feed for another line
        return points, text

    def _measurement(self, series: Series) -> str:
        return lines.measurement(series, self.prefix)

    def read(self, series: Series, interval: Interval) -> Iterator[Batch]:
        """The server's datapoints of `series` in `interval`, oldest first: numbers, or an object of fields for each point.

        Raises SinkError if they cannot be read, or if the server keeps no text and the series has only text.
        """
        return reading.read(self._server, self._measurement(series), series, interval)

    def shows(self, batch: Batch) -> Batch:
        """The fields of the points that `batch` becomes."""
        return reading.shown(batch, self._server.is_victoria_metrics)
