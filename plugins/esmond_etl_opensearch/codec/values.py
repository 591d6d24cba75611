"""Single values: in esmond, and in the fields of a document."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from itertools import zip_longest
from typing import Any, Final

#: A value of an event type, or of several that share one field.
Json = Any

#: Event type -> the key of a stream or of an interval's summary that it is at.
_KEYS: Final = {"throughput": "throughput-bits", "packet-retransmits": "retransmits"}
_DURATION: Final = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")


def histogram_field(value: Mapping[str, int], scale: float) -> dict[str, list[Any]]:
    """A histogram in a document:

    `values` (buckets by `scale`), ascending, and their `counts`. Raises ValueError if a bucket is not a finite number.
    """
    buckets = sorted((float(bucket) / scale, count) for bucket, count in value.items())
    if not all(math.isfinite(bucket) for bucket, _ in buckets):
        raise ValueError("a bucket is not a finite number")
    return {"values": [bucket for bucket, _ in buckets], "counts": [count for _, count in buckets]}


def histogram(field: Mapping[str, Any], scale: float) -> dict[str, int]:
    """The histogram of a document, as elmond shows it."""
    return {str(float(bucket) * scale): int(count) for bucket, count in zip(field["values"], field["counts"], strict=True)}


def statistics(field: Mapping[str, Any], names: Mapping[str, str], scale: float) -> dict[str, Any] | None:
    """The statistics of a histogram in a document, with esmond's names; None if there are none. A missing statistic is null."""
    if not any(isinstance(field.get(name), int | float) for name in names):
        return None
    return {name: _scaled(field.get(short), scale**2 if short == "variance" else scale) for short, name in names.items()}


def _scaled(value: Any, scale: float) -> Any:
    if isinstance(value, list):
        return [_scaled(each, scale) for each in value]
    return value * scale if isinstance(value, int | float) and scale != 1 else value


def trace_field(paths: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Paths (lists of hops) in a document: all of them as `json`, and a digest of the first as `hop`."""
    found = [[_hop_field(hop) for hop in path] for path in paths]
    first = found[0] if found else []
    systems = [hop.get("as") or {} for hop in first]
    facts = {
        "ip": [hop["ip"] for hop in first if hop.get("ip")],
        "as_number": [each["number"] for each in systems if each.get("number") is not None],
        "as_organization": [each["owner"] for each in systems if each.get("owner")],
    }
    answered = sum(1 for hop in first if hop.get("ip"))
    counts = {"count": len(first), "success_count": answered, "error_count": len(first) - answered}
    texts = {f"{name}_str": " ".join(map(str, each)) for name, each in facts.items()}
    return {"json": found, "hop": {**counts, **{name: each for name, each in facts.items() if each}, **texts}}


def _hop_field(hop: Mapping[str, Any]) -> dict[str, Any]:
    field = {name: hop[name] for name in ("ip", "hostname", "as", "mtu") if hop.get(name) is not None}
    if hop.get("rtt") is not None:
        field["rtt"] = _iso_duration(hop["rtt"])
    error = hop.get("error-message") or hop.get("error_message")
    return field | ({"error": error} if error else {})


def _iso_duration(milliseconds: Any) -> str:
    try:
        return f"PT{Decimal(str(milliseconds)) / 1000:f}S"
    except InvalidOperation:
        raise ValueError(f"the rtt of a hop is {milliseconds!r}") from None


def trace(path: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The hops of one path of a document, as elmond shows them: an MTU applies from its hop to the last one."""
    mtu, hops = None, []
    for number, field in enumerate(path, 1):
        mtu = field.get("mtu") or mtu
        hops.append(_hop(number, field) | ({"mtu": mtu} if mtu else {}))
    return hops


def _hop(number: int, field: Mapping[str, Any]) -> dict[str, Any]:
    hop: dict[str, Any] = {"ttl": number, "query": 1, "success": int(bool(field.get("ip")))}
    hop |= {name: field[name] for name in ("ip", "hostname", "as") if field.get(name) is not None}
    if field.get("rtt") is not None:
        hop["rtt"] = _seconds(field["rtt"]) * 1000
    return hop | ({"error-message": field["error"]} if field.get("error") else {})


def _seconds(text: str) -> float:
    found = _DURATION.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is not a duration")
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def intervals_field(given: Mapping[str, Json]) -> list[dict[str, Any]]:
    """The subintervals of a throughput test in a document: event type -> its value; raises any error of a wrong structure."""
    summaries = [(kind, given[f"{kind}-subintervals"]) for kind in _KEYS if f"{kind}-subintervals" in given]
    streams = [(kind, given[f"streams-{kind}-subintervals"]) for kind in _KEYS if f"streams-{kind}-subintervals" in given]
    found: list[dict[str, Any]] = []
    for row in range(
        max(len(each) for _, value in (*summaries, *streams) for each in ([value] if not _is_nested(value) else value))
    ):
        interval: dict[str, Any] = {}
        for kind, value in summaries:
            _put(interval.setdefault("summary", {}), kind, value[row])
        for kind, lists in streams:
            for number, each in enumerate(lists):
                known = interval.setdefault("streams", [])
                while len(known) <= number:
                    known.append({"stream-id": len(known) + 1})
                _put(known[number], kind, each[row])
        found.append(interval)
    return found


def _is_nested(value: Any) -> bool:
    return bool(value) and isinstance(value[0], list)


def _put(field: dict[str, Any], kind: str, value: Mapping[str, Any]) -> None:
    start, duration = value["start"], value["duration"]
    field |= {"start": start, "end": start + duration, "duration": duration, _KEYS[kind]: value["val"]}
    if kind == "throughput":
        field["throughput"] = value["val"]  # elmond looks for this


def subintervals(field: Sequence[Mapping[str, Any]], event_type: str) -> Json | None:
    """The value of an event type in a document's intervals; None if there is none."""
    kind = event_type.removeprefix("streams-").removesuffix("-subintervals")
    if not event_type.startswith("streams-"):
        return _one_list([interval.get("summary") or {} for interval in field], kind)
    streams = list(zip_longest(*(interval.get("streams") or () for interval in field)))
    lists = [_one_list([each for each in stream if each], kind) for stream in streams]
    return lists if lists and None not in lists else None


def _one_list(fields: Sequence[Mapping[str, Any]], kind: str) -> list[dict[str, Any]] | None:
    key = _KEYS[kind]
    found = [
        {
            "start": each["start"],
            "duration": each["duration"] if "duration" in each else each["end"] - each["start"],
            "val": each[key],
        }
        for each in fields
        if each.get(key) is not None
    ]
    return found or None


def streams_field(given: Mapping[str, Json]) -> list[dict[str, Any]]:
    """The streams of a throughput test in a document: event type -> its value."""
    found: list[dict[str, Any]] = []
    for kind, key in _KEYS.items():
        for number, value in enumerate(given.get(f"streams-{kind}", ())):
            while len(found) <= number:
                found.append({"stream-id": len(found) + 1})
            found[number][key] = value
            if kind == "throughput":
                found[number]["throughput"] = value
    return found


def streams(field: Sequence[Mapping[str, Any]], event_type: str) -> Json | None:
    """The value of an event type in a document's streams; None if there is none."""
    key = _KEYS[event_type.removeprefix("streams-")]
    found = [each.get(key) for each in field]
    return found if found and None not in found else None
