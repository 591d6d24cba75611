"""Move network measurements out of, and between, perfSONAR measurement archives (esmond).

This is the public face: what a plugin or a notebook imports. Names are loaded when they are first used.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from esmond_etl.client.table import read
    from esmond_etl.model.batch import JSON_TEXT, NUMBER, TS, Batch, DataPoint
    from esmond_etl.model.errors import (
        ArchiveError,
        ConfigError,
        EsmondEtlError,
        LockedError,
        PluginError,
        SinkError,
        SourceError,
        StoppedError,
    )
    from esmond_etl.model.event_types import EVENT_TYPES, EventType, event_type
    from esmond_etl.model.interval import Interval, IntervalSet
    from esmond_etl.model.series import BASE, Metadata, Series, SeriesId, Served, Summary
    from esmond_etl.model.traffic import Traffic
    from esmond_etl.plugin.hookspecs import hookimpl
    from esmond_etl.plugin.sink import Load, Receipt, Reject, Sink, Task
    from esmond_etl.plugin.source import Source
    from esmond_etl.plugin.stage import Context, Duration, Stage
    from esmond_etl.plugin.transform import BatchTransform, PointTransform, Transform

_HOMES = {
    "model.batch": ("JSON_TEXT", "NUMBER", "TS", "Batch", "DataPoint"),
    "model.errors": (
        "ArchiveError",
        "ConfigError",
        "EsmondEtlError",
        "LockedError",
        "PluginError",
        "SinkError",
        "SourceError",
        "StoppedError",
    ),
    "model.event_types": ("EVENT_TYPES", "EventType", "event_type"),
    "plugin.hookspecs": ("hookimpl",),
    "model.interval": ("Interval", "IntervalSet"),
    "model.series": ("BASE", "Metadata", "Series", "SeriesId", "Served", "Summary"),
    "model.traffic": ("Traffic",),
    "plugin.sink": ("Load", "Receipt", "Reject", "Sink", "Task"),
    "plugin.source": ("Source",),
    "plugin.stage": ("Context", "Duration", "Stage"),
    "plugin.transform": ("BatchTransform", "PointTransform", "Transform"),
    "client.table": ("read",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "BASE",
    "EVENT_TYPES",
    "JSON_TEXT",
    "NUMBER",
    "TS",
    "ArchiveError",
    "Batch",
    "BatchTransform",
    "ConfigError",
    "Context",
    "DataPoint",
    "Duration",
    "EsmondEtlError",
    "EventType",
    "Interval",
    "IntervalSet",
    "Load",
    "LockedError",
    "Metadata",
    "PluginError",
    "PointTransform",
    "Receipt",
    "Reject",
    "Series",
    "SeriesId",
    "Served",
    "Sink",
    "SinkError",
    "Source",
    "SourceError",
    "Stage",
    "StoppedError",
    "Summary",
    "Task",
    "Traffic",
    "Transform",
    "__version__",
    "event_type",
    "hookimpl",
    "read",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
