"""The field of a document's `result` for each event type, by the type of the test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from esmond_etl import Metadata, Summary

#: A path: the names of objects from the outside in.
Path = tuple[str, ...]

FAILURES: Final = "failures"
RUN_HREF: Final = "pscheduler-run-href"
RAW: Final = "pscheduler-raw"
#: A whole document: not an event type of perfSONAR, and offered only if it is asked for by name.
DOCUMENT: Final = "pscheduler-document"

_COUNTS: Final[dict[str, Path]] = {
    "packet-count-lost": ("packets", "lost"),
    "packet-loss-rate": ("packets", "loss"),
    "packet-duplicates": ("packets", "duplicated"),
    "packet-reorders": ("packets", "reordered"),
}
_LATENCY: Final[dict[str, Path]] = {
    "packet-count-sent": ("packets", "sent"),
    "histogram-owdelay": ("latency", "histogram"),
    "histogram-ttl": ("ttl", "histogram"),
    **_COUNTS,
    "time-error-estimates": ("max_clock_error",),
}
_RTT: Final[dict[str, Path]] = {
    "packet-count-sent": ("packets", "sent"),
    "histogram-rtt": ("rtt", "histogram"),
    "histogram-ttl-reverse": ("ttl", "histogram"),
    **{f"{name}-bidir": path for name, path in _COUNTS.items()},
}
_THROUGHPUT: Final[dict[str, Path]] = {
    "throughput": ("throughput",),
    "throughput-subintervals": ("intervals", "json"),
    "streams-throughput": ("streams", "json"),
    "streams-throughput-subintervals": ("intervals", "json"),
    "packet-retransmits": ("retransmits",),
    "packet-retransmits-subintervals": ("intervals", "json"),
    "streams-packet-retransmits": ("streams", "json"),
    "streams-packet-retransmits-subintervals": ("intervals", "json"),
    "packet-loss-rate": ("packets", "loss"),
    "packet-count-lost": ("packets", "lost"),
    "packet-count-sent": ("packets", "sent"),
}
_TRACE: Final[dict[str, Path]] = {"packet-trace": ("json",), "packet-trace-multi": ("json",), "path-mtu": ("mtu",)}

#: Type of test -> event type -> its field in `result`.
PLACES: Final[dict[str, dict[str, Path]]] = {
    "latency": _LATENCY,
    "latencybg": _LATENCY,
    "rtt": _RTT,
    "throughput": _THROUGHPUT,
    "trace": _TRACE,
}

#: Other fields for the same in live documents.
ALSO_AT: Final[dict[Path, Path]] = {("packets", "sent"): ("packets_sent",), ("packets", "lost"): ("packets_lost",)}

#: The fields of a throughput test over UDP that replace a loss rate: sent and lost packets.
UDP_PACKETS: Final[tuple[Path, Path]] = (("packets_sent",), ("packets_lost",))

#: Histogram -> the path of its statistics, and their unit in esmond's unit.
STATISTICS: Final[dict[str, tuple[Path, float]]] = {
    "histogram-owdelay": (("latency",), 1.0),
    "histogram-ttl": (("ttl",), 1.0),
    "histogram-ttl-reverse": (("ttl",), 1.0),
    "histogram-rtt": (("rtt",), 1000.0),
}

#: A statistic in a document -> in esmond.
STATISTIC_NAMES: Final = {
    "min": "minimum",
    "max": "maximum",
    "mean": "mean",
    "median": "median",
    "mode": "mode",
    "p_25": "percentile-25",
    "p_75": "percentile-75",
    "p_95": "percentile-95",
    "stddev": "standard-deviation",
    "variance": "variance",
}

_WINDOWS: Final = (300, 3600, 86400)
_BASE: Final = Summary()
_TOOLS: Final = {
    "powstream": "latencybg",
    "owping": "latency",
    "twping": "latency",
    "halfping": "latency",
    "ping": "rtt",
    "traceroute": "trace",
    "tracepath": "trace",
    "paris-traceroute": "trace",
    "iperf": "throughput",
    "iperf3": "throughput",
    "nuttcp": "throughput",
}


def test_type(metadata: Metadata) -> str | None:
    """The type of the test of `metadata`: from its parameter, or else from its event types or its tool; None if unknown."""
    known = metadata.parameters.get("pscheduler-test-type")
    if isinstance(known, str) and known.replace("-", "").replace("_", "").isalnum():
        return known.lower()
    tool = (metadata.tool_name or "").rpartition("/")[2]
    if "histogram-owdelay" in metadata.event_types:
        return "latencybg" if tool in ("powstream", "") else "latency"
    for event_type, kind in (("histogram-rtt", "rtt"), ("throughput", "throughput"), ("packet-trace", "trace")):
        if event_type in metadata.event_types:
            return kind
    return _TOOLS.get(tool)


def test_types(metadata: Metadata) -> list[str]:
    """The possible types of the test: usually one, none if unknown, several for the event types of all tests together."""
    if metadata.event_types.keys() >= {
        "throughput",
        "histogram-owdelay",
        "packet-trace",
    }:  # not a real test: `check` asks for all at once
        return [*PLACES, "other"]
    kind = test_type(metadata)
    return [kind] if kind else []


def place(kind: str | None, event_type: str) -> Path | None:
    """The field of `result` that holds `event_type` in a test of this type; None if there is none. A whole result is at ()."""
    if event_type == FAILURES:
        return ("error",)
    if kind is not None and kind not in PLACES:
        return () if event_type == RAW else None
    return PLACES.get(kind or "", {}).get(event_type)


def offered(kind: str, spec: Mapping[str, Any]) -> dict[str, list[Summary]]:
    """The event types that elmond offers of a test of this type, each with its summaries."""
    if kind not in PLACES:
        return {RAW: [_BASE], RUN_HREF: [_BASE]}
    names = [FAILURES, *(name for name in PLACES[kind] if _is_offered(name, kind, spec)), RUN_HREF]
    return {name: [_BASE, *_summaries(name)] for name in names}


def _is_offered(name: str, kind: str, spec: Mapping[str, Any]) -> bool:
    if name == "packet-trace-multi":
        return False
    if kind != "throughput":
        return True
    if name.startswith("streams-") and not _exceeds_one(spec.get("parallel")):
        return False
    if name.startswith("packet-") and "retransmits" not in name:
        return bool(spec.get("udp"))
    return not ("retransmits" in name and spec.get("udp"))


def _exceeds_one(value: Any) -> bool:
    return isinstance(value, int | float) and value > 1


def _summaries(name: str) -> list[Summary]:
    if name == "throughput":
        return [Summary("average", 86400)]
    if name in ("histogram-owdelay", "histogram-rtt"):
        return [Summary("statistics", window) for window in (0, *_WINDOWS)]
    if name in ("packet-count-sent", "packet-count-lost", "packet-count-lost-bidir", "packet-loss-rate", "packet-loss-rate-bidir"):
        return [Summary("aggregation", window) for window in _WINDOWS]
    return []
