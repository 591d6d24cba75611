"""Every event type of perfSONAR: how the archive keeps it, its unit, and the summaries it may have."""

from difflib import get_close_matches
from typing import Final, Literal, NamedTuple

#: How similar an unknown event type must be to a known one to count as a spelling mistake.
SLIP: Final = 0.8

DataType = Literal["integer", "float", "percentage", "histogram", "subinterval", "json"]

#: A summary's type -> the word for it in the URLs of an archive.
URL_WORDS: Final = {"base": "base", "aggregation": "aggregations", "average": "averages", "statistics": "statistics"}

#: A data type -> the summaries that an archive makes of it.
SUMMARIES: Final[dict[DataType, tuple[str, ...]]] = {
    "integer": ("aggregation", "average"),
    "float": ("aggregation", "average"),
    "percentage": ("aggregation",),
    "histogram": ("aggregation", "statistics"),
    "subinterval": (),
    "json": (),
}


class EventType(NamedTuple):
    """The properties of one event type."""

    name: str
    data_type: DataType  #: how the archive keeps a value
    unit: str = ""  #: of a number, of a histogram's buckets, or of the `val` of a subinterval; "" where there is none

    @property
    def is_number(self) -> bool:
        """Whether a base value is one number."""
        return self.data_type in ("integer", "float", "percentage")

    @property
    def summaries(self) -> tuple[str, ...]:
        """The types of summary that an archive can make of it."""
        return SUMMARIES[self.data_type]


_INTEGER = {
    "throughput": "bit/s",
    "packet-retransmits": "packets",
    "packet-rtt": "us",
    "tcp-windowsize": "bytes",
    "packet-count-sent": "packets",
    "packet-count-lost": "packets",
    "packet-count-lost-bidir": "packets",
    "packet-duplicates": "packets",
    "packet-duplicates-bidir": "packets",
    "packet-reorders": "packets",
    "packet-reorders-bidir": "packets",
    "path-mtu": "bytes",
    "ntp-stratum": "",
    "ntp-reach": "",
}
_FLOAT = {
    "time-error-estimates": "ms",
    "ntp-offset": "ms",
    "ntp-jitter": "ms",
    "ntp-delay": "ms",
    "ntp-dispersion": "ms",
    "ntp-wander": "ppm",
    "ntp-polling-interval": "s",
}
_PERCENTAGE = {"packet-loss-rate": "ratio", "packet-loss-rate-bidir": "ratio"}
_HISTOGRAM = {
    "histogram-owdelay": "buckets",  # milliseconds only where the bucket width is 0.001 s
    "histogram-rtt": "ms",
    "histogram-ttl": "hops",
    "histogram-ttl-reverse": "hops",
}
_SUBINTERVAL = {
    "throughput-subintervals": "bit/s",
    "packet-retransmits-subintervals": "packets",
    "packet-rtt-subintervals": "us",
    "tcp-windowsize-subintervals": "bytes",
}
_JSON = {
    "failures": "",
    "packet-trace": "",
    "packet-trace-multi": "",
    "streams-throughput": "bit/s",
    "streams-packet-retransmits": "packets",
    "streams-packet-rtt": "us",
    "streams-tcp-windowsize": "bytes",
    "streams-throughput-subintervals": "bit/s",
    "streams-packet-retransmits-subintervals": "packets",
    "streams-packet-rtt-subintervals": "us",
    "streams-tcp-windowsize-subintervals": "bytes",
    "pscheduler-raw": "",
    "pscheduler-run-href": "",
    "tcpinfo": "",
    "streams-tcpinfo": "",
    "iostat": "",
    "mpstat": "",
    "rusage": "",
}

_TABLES: tuple[tuple[DataType, dict[str, str]], ...] = (
    ("integer", _INTEGER),
    ("float", _FLOAT),
    ("percentage", _PERCENTAGE),
    ("histogram", _HISTOGRAM),
    ("subinterval", _SUBINTERVAL),
    ("json", _JSON),
)

#: Every event type that an archive knows, by name.
EVENT_TYPES: Final[dict[str, EventType]] = {
    name: EventType(name, data_type, unit) for data_type, table in _TABLES for name, unit in table.items()
}


def event_type(name: str) -> EventType:
    """The properties of the event type `name`; the values of an unknown one are JSON."""
    return EVENT_TYPES.get(name) or EventType(name, "json")


def meant_event_type(name: str) -> str | None:
    """The known event type that is most similar to a misspelt name; None if the name is known, or similar to none."""
    if name in EVENT_TYPES:
        return None
    close = get_close_matches(name, EVENT_TYPES, 1, SLIP)
    return close[0] if close and not (name.startswith(f"{close[0]}-") or name.endswith(f"-{close[0]}")) else None


def holds_numbers(name: str, summary_type: str = "base") -> bool:
    """Whether the values of this series are numbers (float64 in a batch); all others are JSON text."""
    return event_type(name).is_number and summary_type != "statistics"
