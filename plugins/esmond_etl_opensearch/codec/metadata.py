"""A test: esmond's metadata, and the part of a document that all results of the test share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Final

from esmond_etl import BASE, Metadata, Served, Summary
from esmond_etl_opensearch.codec import places

#: Type of test -> metadata parameter -> field of `test.spec`.
_SPEC: Final[dict[str, dict[str, str]]] = {
    "latency": {
        "sample-size": "packet-count",
        "sample-bucket-width": "bucket-width",
        "time-probe-interval": "packet-interval",
        "ip-tos": "ip-tos",
        "mode-flip": "flip",
    },
    "rtt": {"sample-size": "count", "time-probe-interval": "interval", "ip-packet-size": "length", "ip-tos": "ip-tos"},
    "throughput": {
        "bw-parallel-streams": "parallel",
        "bw-target-bandwidth": "bandwidth",
        "bw-ignore-first-seconds": "omit",
        "tcp-window-size": "window-size",
        "ip-tos": "ip-tos",
    },
    "trace": {
        "trace-max-ttl": "hops",
        "trace-algorithm": "algorithm",
        "time-probe-interval": "sendwait",
        "ip-transport-protocol": "probe-type",
        "ip-packet-size": "length",
        "ip-tos": "ip-tos",
    },
}
_SPEC["latencybg"] = _SPEC["latency"]

_TOOL: Final = "pscheduler/"
_REFERENCE: Final = "pscheduler-reference-"
_SUBJECT: Final = ("source", "destination", "measurement-agent", "tool-name", "input-source", "input-destination")


def unfit(metadata: Metadata) -> str | None:
    """Why no document can be about `metadata`; None if one can."""
    for name in ("source", "destination", "measurement_agent"):
        value = getattr(metadata, name)
        if value is not None and not _is_address(value):
            return f"its {name.replace('_', '-')} is {value!r:.60}, and a document accepts only IP addresses"
    return None


def head(metadata: Metadata, kind: str) -> dict[str, Any]:
    """The common part of all documents of one test of the type `kind`.

    What cannot be restored from it is under `esmond.json.metadata`: a parameter without a field, or the name of a missing parameter
    (null) that a reader would otherwise add.
    """
    document = _plain_head(metadata, kind)
    left = _left(metadata, from_document(document))
    if left:
        document["esmond"] = {"json": {"metadata": left}}
    return document


def _plain_head(metadata: Metadata, kind: str) -> dict[str, Any]:
    parameters = metadata.parameters
    observer = metadata.measurement_agent or metadata.source
    input_source, input_destination = metadata.input_source, metadata.input_destination
    names = {metadata.source: input_source or metadata.source, metadata.destination: input_destination or metadata.destination}
    meta = {"observer": _host(observer, names.get(observer, observer)), "source": _host(metadata.source, input_source)}
    meta["destination"] = _host(metadata.destination, input_destination)
    spec = {"schema": 1, "source": input_source or metadata.source, "dest": input_destination or metadata.destination}
    tool = (metadata.tool_name or "").removeprefix(_TOOL)
    duration = _number(parameters.get("time-duration"))
    pscheduler: dict[str, Any] = {"tool": tool or "unknown", "test_checksum": metadata.key}
    if isinstance(duration, int | float):
        pscheduler["duration"] = float(duration)
    reference = {name.removeprefix(_REFERENCE): value for name, value in parameters.items() if name.startswith(_REFERENCE)}
    return {
        "meta": {**{name: host for name, host in meta.items() if host}, "ip_version": 6 if ":" in (metadata.source or "") else 4},
        "test": {"type": kind, "spec": {name: each for name, each in spec.items() if each is not None} | _spec(metadata, kind)},
        "pscheduler": pscheduler,
        **({"reference": reference} if reference else {}),
    }


def _host(address: str | None, name: str | None) -> dict[str, str] | None:
    return {"ip": address, "hostname": name or address} if address else None


def _spec(metadata: Metadata, kind: str) -> dict[str, Any]:
    fields, own = _SPEC.get(kind, {}), f"pscheduler-{kind}-"
    spec = {}
    for name, value in metadata.parameters.items():
        if name in fields:
            spec[fields[name]] = _number(value)
        elif name.startswith(own) and not name.startswith(_REFERENCE):
            spec[name.removeprefix(own)] = _number(value)
    if kind == "throughput" and str(metadata.parameters.get("ip-transport-protocol")).lower() == "udp":
        spec["udp"] = True
    return spec


def _left(metadata: Metadata, again: Metadata) -> dict[str, Any]:
    """The differences between `metadata` and `again`, which was made from its document; null for a parameter that only `again` has."""
    own, others = _flat(metadata), _flat(again)
    left = {name: value for name, value in own.items() if str(others.get(name)) != str(value)}
    left |= dict.fromkeys(others.keys() - own.keys())
    if (declared := _declared(metadata)) != _declared(again):
        left["event-types"] = declared
    return left


def _flat(metadata: Metadata) -> dict[str, Any]:
    subject = {name: getattr(metadata, name.replace("-", "_")) for name in _SUBJECT}
    subject = {name: value for name, value in subject.items() if value is not None}
    return {"subject-type": metadata.subject_type, **subject, **metadata.parameters}


def _declared(metadata: Metadata) -> dict[str, list[str]]:
    return {
        name: sorted(str(each) for each in summaries if each != BASE) for name, summaries in sorted(metadata.event_types.items())
    }


def from_document(document: Mapping[str, Any]) -> Metadata:
    """The metadata of the test that a document is of, as elmond shows it.

    Raises ValueError, naming the field, if the document lacks something that elmond needs.
    """
    meta, spec = _object(document, "meta"), _object(document, "test", "spec")
    kind, pscheduler = _text(document, "test", "type"), _object(document, "pscheduler")
    flat: dict[str, Any] = {"subject-type": "point-to-point" if _both(meta) else "network-element"}
    flat["source"], flat["measurement-agent"] = _ip(meta, "source"), _text(document, "meta", "observer", "ip")
    flat["destination"] = _ip(meta, "destination")
    flat["tool-name"] = _TOOL + _text(document, "pscheduler", "tool")
    flat["input-source"], flat["input-destination"] = _name(meta, "source", spec), _name(meta, "destination", spec, "dest")
    flat["pscheduler-test-type"] = kind
    flat |= _parameters(kind, spec)
    flat["time-duration"] = pscheduler.get("duration")
    reference = document.get("reference")
    if isinstance(reference, Mapping):
        flat |= {f"{_REFERENCE}{name}": value for name, value in reference.items()}
    left = _object(document, "esmond", "json", "metadata", needed=False)
    flat |= left
    declared = flat.pop("event-types", None)
    flat = {name: value for name, value in flat.items() if value is not None}
    event_types = _event_types(declared) if isinstance(declared, Mapping) else places.offered(kind, spec)
    return Metadata(
        key=_text(document, "pscheduler", "test_checksum"),
        subject_type=flat.pop("subject-type"),
        event_types={name: dict.fromkeys(summaries, Served("")) for name, summaries in event_types.items()},
        **{name.replace("-", "_"): flat.pop(name, None) for name in _SUBJECT},
        parameters=flat,
    )


def _parameters(kind: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    if kind not in _SPEC:
        return {f"pscheduler-{kind}-{name}": value for name, value in spec.items()}
    fields = {field: name for name, field in _SPEC[kind].items()} | {"tos": "ip-tos"}
    found = {fields[field]: value for field, value in spec.items() if field in fields}
    if kind == "throughput":
        found["ip-transport-protocol"] = "udp" if spec.get("udp") else "tcp"
    return found


def _event_types(declared: Mapping[str, Any]) -> dict[str, list[Summary]]:
    return {name: [BASE, *map(Summary.parse, summaries)] for name, summaries in declared.items()}


def _both(meta: Mapping[str, Any]) -> bool:
    return bool(_ip(meta, "source") and _ip(meta, "destination"))


def _ip(meta: Mapping[str, Any], end: str) -> str | None:
    value = _object(meta, end, needed=False).get("ip")
    return value if isinstance(value, str) else None


def _name(meta: Mapping[str, Any], end: str, spec: Mapping[str, Any], field: str = "source") -> str | None:
    value = _object(meta, end, needed=False).get("hostname") or spec.get(field)
    return value if isinstance(value, str) else None


def _object(document: Mapping[str, Any], *path: str, needed: bool = True) -> Mapping[str, Any]:
    value: Any = document
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping) and (value or not needed):
        return value
    if needed:
        raise ValueError(f"it has no {'.'.join(path)}")
    return {}


def _text(document: Mapping[str, Any], *path: str) -> str:
    value = _object(document, *path[:-1], needed=False).get(path[-1])
    if not (isinstance(value, str) and value):
        raise ValueError(f"it has no {'.'.join(path)}")
    return value


def _is_address(value: str) -> bool:
    try:
        return bool(ip_address(value))
    except ValueError:
        return False


def _number(value: Any) -> Any:
    """A text of an archive as a number, if it is one; otherwise unchanged."""
    if not isinstance(value, str) or not value.strip():
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    if not math.isfinite(number):
        return value
    return int(value) if value.strip().lstrip("-").isdigit() else number
