"""Values that are JSON objects or lists, one at a time: text to fields."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec

#: The fields that are texts, and those that are true or false; all others are floats, so that a field never changes its type.
TEXTS: Final = frozenset({"json", "error", "path"})
TRUTHS: Final = frozenset({"reached"})

#: All fields there are.
FIELDS: Final = (
    *("value", "start", "duration"),
    *("count", "min", "mean", "median", "p25", "p75", "p95", "max", "stddev", "variance"),
    *("hops", "reached", "rtt", "path", "error", "json"),
)

Fields = dict[str, Any]

_JSON = msgspec.json.Decoder()


def one(ts: int, fields: Fields | None) -> list[tuple[int, Fields]] | None:
    """The one point of a datapoint whose value was read as `fields`."""
    return [(ts, fields)] if fields else None


def statistics(text: str, names: Mapping[str, str], width: float) -> Fields | None:
    """The fields `names` (field -> statistic) of an archive's statistics, in the unit of `width`; variances scale with its square."""
    value = decoded(text)
    if not isinstance(value, dict):
        return None
    found = {name: number(value.get(each)) for name, each in names.items()}
    return {
        name: each * (width * width if name == "variance" else width) for name, each in found.items() if each is not None
    } or None


def failure(text: str) -> Fields | None:
    """The error text, of {"error": "..."}."""
    value = decoded(text)
    if isinstance(value, dict) and value.keys() == {"error"} and isinstance(value["error"], str):
        return {"error": value["error"]}
    return None


def subintervals(ts: int, text: str) -> list[tuple[int, Fields]] | None:
    """One point for each subinterval, at the second nearest to its start; if that is taken, at the next free one."""
    value = decoded(text)
    if not isinstance(value, list):
        return None
    found = [subinterval(each) for each in value]
    if None in found:
        return None
    second, points = -math.inf, list[tuple[int, Fields]]()
    for each in sorted((each for each in found if each), key=lambda each: float(each["start"])):
        second = max(ts + math.floor(each["start"] + 0.5), second + 1)
        points.append((int(second), each))
    return points


def subinterval(value: Any) -> Fields | None:
    """`value`, `start` and `duration` (s) of one subinterval; None if one of them is missing."""
    if not isinstance(value, dict) or value.keys() != {"start", "duration", "val"}:
        return None
    numbers = [number(value[name]) for name in ("val", "start", "duration")]
    if None in numbers:
        return None
    return dict(zip(("value", "start", "duration"), numbers, strict=True))


def packet_trace(text: str, destination: str | None) -> Fields | None:
    """`hops`, `reached`, `rtt` (ms, of the last hop that answered) and `path` of one trace; None if it is not a trace.

    `hops` is the greatest TTL. `reached`: the destination's address answered, or the last hop did, and did not complain. `path` is a
    digest of the addresses in their order: it changes when they do.
    """
    value = decoded(text)
    if not isinstance(value, list) or not value:
        return None
    hops = [hop for hop in map(_hop, value) if hop]
    if len(hops) != len(value):
        return None
    hops.sort(key=lambda hop: hop[0])
    furthest = hops[-1][0]
    answered = [hop for hop in hops if hop[1]]
    last = [hop for hop in answered if hop[0] == answered[-1][0]]
    times = [rtt for _, _, rtt, _ in last if rtt is not None]
    at_end = any(ttl == furthest and not complaint for ttl, _, _, complaint in last)
    fields = {
        "hops": float(furthest),
        "reached": at_end or any(address == destination for _, address, _, _ in last),
        "path": _digest((ttl, address) for ttl, address, _, _ in answered),
    }
    return fields | ({"rtt": min(times)} if times else {})


def _hop(value: Any) -> tuple[int, str, float | None, bool] | None:
    """TTL, address ("" if nothing answered), round trip time in ms, and whether there was an error message."""
    if not isinstance(value, dict) or (ttl := number(value.get("ttl"))) is None:
        return None
    success = str(value.get("success", "")).lower() in ("1", "true")
    address = value.get("ip") or value.get("hostname")
    complaint = value.get("error-message") or value.get("error_message")
    if not isinstance(address, str) or not (success or complaint):
        address = ""
    return int(ttl), address, number(value.get("rtt")), bool(complaint)


def _digest(hops: Iterable[tuple[int, str]]) -> str:
    """Of the first address that answered at each TTL."""
    first: dict[int, str] = {}
    for ttl, address in hops:
        first.setdefault(ttl, address)
    return sha256(" ".join(first.values()).encode()).hexdigest()[:16]


def decoded(text: str) -> Any:
    """The value of a JSON text; None if it is not valid."""
    try:
        return _JSON.decode(text)
    except msgspec.DecodeError:
        return None


def number(value: Any) -> float | None:
    """`value` as a finite number, from a number or a text; otherwise None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None
