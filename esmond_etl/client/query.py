"""Query an archive: ApiConnect gives metadata, metadata give event types, and event types give data.

This is the interface of the old esmond client library. A program written for it runs after changing its import lines:

    from esmond_etl.client.query import ApiConnect, ApiFilters

It differs where that library was wrong. Lists and data are never truncated. The time filters select data: no metadata is lost because
something was written to it after the window. A request that fails raises an ArchiveError, whose text names the URL and the archive's
own reason, where there were a warning and an empty list.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pprint import pformat
from typing import Any

from esmond_etl.client.archive import Archive
from esmond_etl.client.filters import ApiFilters
from esmond_etl.client.payload import DataHistogram, DataPayload, DataPoint, DataPoints, data_type
from esmond_etl.client.reading import Reader
from esmond_etl.client.selection import window
from esmond_etl.model.batch import Batch
from esmond_etl.model.series import BASE, Series
from esmond_etl.model.series import Metadata as Listed
from esmond_etl.model.series import Summary as SummaryId

__all__ = [
    "ApiConnect",
    "ApiConnectWarning",
    "ApiFilters",
    "ApiFiltersWarning",
    "DataHistogram",
    "DataPayload",
    "DataPoint",
    "DataPoints",
    "EventType",
    "EventTypeWarning",
    "Metadata",
    "MetadataWarning",
    "Summary",
    "SummaryWarning",
]


class ApiFiltersWarning(Warning):
    """No longer issued: an invalid criterion raises ConfigError."""


class ApiConnectWarning(Warning):
    """No longer issued: a list that cannot be read raises an ArchiveError."""


class MetadataWarning(Warning):
    """No longer issued."""


class EventTypeWarning(Warning):
    """No longer issued: data that cannot be read raise an ArchiveError."""


class SummaryWarning(EventTypeWarning):
    """No longer issued: data that cannot be read raise an ArchiveError."""


def connect(
    url: str, username: str = "", api_key: str = "", script_alias: str | None = "esmond", filters: ApiFilters | None = None
) -> Archive:
    """A connection to an archive with the options in `filters`; no request is made."""
    filters = filters or ApiFilters()
    verify = filters.ssl_verify
    return Archive(
        url,
        script_alias=script_alias,
        username=username or filters.auth_username or None,
        api_key=api_key or filters.auth_apikey or None,
        verify=bool(verify),
        ca=verify if isinstance(verify, str) else None,
        timeout=60 if filters.timeout is None else filters.timeout,
    )


class _Node:
    """A part of a query's result, and the way to its data."""

    def __init__(self, listed: Listed, api_url: str, filters: ApiFilters, reader: Reader) -> None:
        self._listed, self._reader = listed, reader
        self.api_url, self.filters = api_url, filters

    @property
    def _data(self) -> dict[str, Any]:
        raise NotImplementedError

    @property
    def dump(self) -> str:
        """Its entry in the archive's list, as text, for debugging."""
        return pformat(self._data, indent=4)


class Metadata(_Node):
    """The metadata of one measurement: source, destination, tool, parameters."""

    def __init__(
        self,
        data: Listed | Mapping[str, Any],
        api_url: str,
        filters: ApiFilters | None = None,
        reader: Reader | None = None,
    ) -> None:
        """The metadata of one entry of an archive's list."""
        filters = filters or ApiFilters()
        listed = data if isinstance(data, Listed) else Listed.from_json(data)
        super().__init__(listed, api_url.rstrip("/"), filters, reader or Reader(connect(api_url, filters=filters)))

    @property
    def metadata_key(self) -> str:
        """Its key in the archive."""
        return self._listed.key

    @property
    def uri(self) -> str | None:
        """Its URI in the archive, without the host."""
        return self._listed.uri

    @property
    def subject_type(self) -> str:
        """ "point-to-point" or "network-element"."""
        return self._listed.subject_type

    @property
    def source(self) -> str | None:
        """Address of the host that sends."""
        return self._listed.source

    @property
    def destination(self) -> str | None:
        """Address of the host that receives; None for a network element."""
        return self._listed.destination

    @property
    def measurement_agent(self) -> str | None:
        """Address of the host that ran the test."""
        return self._listed.measurement_agent

    @property
    def tool_name(self) -> str | None:
        """What measured."""
        return self._listed.tool_name

    @property
    def input_source(self) -> str | None:
        """The source as written in the test's configuration."""
        return self._listed.input_source

    @property
    def input_destination(self) -> str | None:
        """The destination as written in the test's configuration."""
        return self._listed.input_destination

    @property
    def ip_packet_interval(self) -> Any:
        """A free-form parameter, as the archive has it: esmond makes all of them text."""
        return self.get_freeform_key_value("ip-packet-interval")

    @property
    def ip_transport_protocol(self) -> Any:
        """A free-form parameter, such as "tcp"."""
        return self.get_freeform_key_value("ip-transport-protocol")

    @property
    def sample_bucket_width(self) -> Any:
        """A free-form parameter: width of the buckets of its delay histograms, s."""
        return self.get_freeform_key_value("sample-bucket-width")

    @property
    def time_duration(self) -> Any:
        """A free-form parameter: duration of one test, s."""
        return self.get_freeform_key_value("time-duration")

    @property
    def time_interval(self) -> Any:
        """A free-form parameter: time between tests, s."""
        return self.get_freeform_key_value("time-interval")

    @property
    def time_interval_randomization(self) -> Any:
        """A free-form parameter: random variation of that time, s."""
        return self.get_freeform_key_value("time-interval-randomization")

    def get_freeform_key_value(self, key: str) -> Any:
        """A free-form parameter by its name in the archive (`ip-tos`), or None."""
        return self._listed.parameters.get(key)

    @property
    def event_types(self) -> list[str]:
        """The names for `get_event_type`."""
        return list(self._listed.event_types)

    def get_all_event_types(self) -> Iterator[EventType]:
        """Every event type that was measured."""
        return map(self._event_type, self._listed.event_types)

    def get_event_type(self, event_type: str) -> EventType | None:
        """One event type by name; None if it was not measured."""
        return self._event_type(event_type) if event_type in self._listed.event_types else None

    def _event_type(self, name: str) -> EventType:
        return EventType(Series(self._listed, name), self.api_url, self.filters, self._reader)

    @property
    def _data(self) -> dict[str, Any]:
        event_types = [each._data for each in self.get_all_event_types()]
        return {**self._listed.to_json(), "metadata-key": self.metadata_key, "uri": self.uri, "event-types": event_types}

    def __repr__(self) -> str:
        return f"<Metadata/{self.metadata_key}: uri:{self.uri}>"


class _Measured(_Node):
    """Base class of objects that have data."""

    def __init__(self, series: Series, api_url: str, filters: ApiFilters, reader: Reader) -> None:
        super().__init__(series.metadata, api_url, filters, reader)
        self._series = series

    @property
    def data_type(self) -> str:
        """How the archive keeps the event type's values: "integer", "float", "percentage", "histogram", "subinterval" or "json"."""
        return data_type(self._series)

    def get_data(self) -> DataPayload:
        """All data in the window that the filters give now, read while they are iterated.

        Raises ArchiveError if they cannot be read; ConfigError if the filters are not valid.
        """
        series, interval = self._series, window(self._series, self.filters.interval())
        reader = self._reader
        if self.filters.verbose:
            print(f"[url: {series.served.uri}, {interval}]", file=sys.stderr)

        def read() -> Iterator[Batch]:
            return reader.datapoints(series, interval)

        return DataPayload(series, read, reader.page)


class EventType(_Measured):
    """One event type of a metadata: the way to its data and its summaries."""

    @property
    def event_type(self) -> str:
        """Its name."""
        return self._series.event_type

    @property
    def base_uri(self) -> str:
        """The URI of its data in the archive, without the host."""
        return self._series.served.uri

    @property
    def summaries(self) -> list[tuple[str, str]]:
        """Its summaries: (type, window in seconds); the window is text, as in esmond's lists."""
        return [(each.type, str(each.window)) for each in self._listed.event_types[self.event_type] if each != BASE]

    def get_all_summaries(self) -> Iterator[Summary]:
        """Every summary that the archive makes of it."""
        return (self._summary(each) for each in self._listed.event_types[self.event_type] if each != BASE)

    def get_summary(self, s_type: str, s_window: int | str) -> Summary | None:
        """One summary by its type and its window in seconds; None if the archive does not make it."""
        for each in self._listed.event_types[self.event_type]:
            if (each.type, str(each.window)) == (s_type, str(s_window)):
                return self._summary(each)
        return None

    def _summary(self, summary: SummaryId) -> Summary:
        return Summary(self._series.replace(summary=summary), self.api_url, self.filters, self._reader)

    @property
    def _data(self) -> dict[str, Any]:
        served = self._series.served
        summaries = [each._data for each in self.get_all_summaries()]
        return {"event-type": self.event_type, "base-uri": served.uri, "time-updated": served.updated, "summaries": summaries}

    def __repr__(self) -> str:
        return f"<EventType/{self.event_type}: uri:{self.base_uri}>"


class Summary(_Measured):
    """One summary of an event type: the way to its data."""

    @property
    def summary_type(self) -> str:
        """ "aggregation", "average" or "statistics"."""
        return self._series.summary.type

    @property
    def summary_window(self) -> str:
        """The window of each of its datapoints, s; text, as in esmond's lists."""
        return str(self._series.summary.window)

    @property
    def uri(self) -> str:
        """The URI of its data in the archive, without the host."""
        return self._series.served.uri

    @property
    def _data(self) -> dict[str, Any]:
        served = self._series.served
        return {
            "summary-type": self.summary_type,
            "summary-window": self.summary_window,
            "uri": served.uri,
            "time-updated": served.updated,
        }

    def __repr__(self) -> str:
        return f"<Summary/{self.summary_type}: window:{self.summary_window}>"


class ApiConnect:
    """A query: an archive, and filters."""

    def __init__(
        self,
        api_url: str,
        filters: ApiFilters | None = None,
        username: str = "",
        api_key: str = "",
        script_alias: str | None = "esmond",
    ) -> None:
        """The archive of a host, as in "https://archive.example.net/"; connects nowhere.

        `script_alias` is the path of its web server before /perfsonar; None or "/" for none.
        """
        self.api_url = api_url.rstrip("/")
        self.filters = ApiFilters() if filters is None else filters
        self.username = username
        self.script_alias = script_alias.strip("/") or None if script_alias else None
        self._api_key = api_key

    def get_metadata(self) -> Iterator[Metadata]:
        """All metadata that match the filters, each once, while the pages of the archive's list are read.

        Metadata are left out only if nothing was written to them since the time that the filters ask for. Raises ArchiveError if
        the list could not be read to its end.
        """
        asked, event_type = self.filters.listing(), self.filters.event_type
        archive = connect(self.api_url, self.username, self._api_key, self.script_alias, self.filters)
        if self.filters.verbose:
            print(f"[url: {archive.list_url}, {asked}]", file=sys.stderr)
        reader = Reader(archive)
        for listed in reader.metadata(asked):
            if event_type is None or event_type in listed.event_types:
                yield Metadata(listed, self.api_url, self.filters, reader)

    def __repr__(self) -> str:
        return f"<ApiConnect: {self.api_url} {self.filters}>"
