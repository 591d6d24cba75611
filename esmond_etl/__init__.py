"""Move network measurements out of, and between, perfSONAR measurement archives (esmond).

This is the public face: what a plugin or a notebook imports. Names are loaded when they are first used.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from esmond_etl.batch import JSON_TEXT, NUMBER, TS, Batch, DataPoint
    from esmond_etl.errors import (
        ArchiveError,
        ConfigError,
        EsmondEtlError,
        LockedError,
        PluginError,
        SinkError,
        SourceError,
        StoppedError,
    )
    from esmond_etl.event_types import EVENT_TYPES, EventType, event_type
    from esmond_etl.hookspecs import hookimpl
    from esmond_etl.interval import Interval, IntervalSet
    from esmond_etl.series import BASE, Metadata, Series, SeriesId, Served, Summary
    from esmond_etl.stages import (
        BatchTransform,
        Context,
        Duration,
        Load,
        PointTransform,
        Receipt,
        Reject,
        Sink,
        Source,
        Stage,
        Task,
        Traffic,
        Transform,
    )
    from esmond_etl.table import read

_HOMES = {
    "batch": ("JSON_TEXT", "NUMBER", "TS", "Batch", "DataPoint"),
    "errors": (
        "ArchiveError",
        "ConfigError",
        "EsmondEtlError",
        "LockedError",
        "PluginError",
        "SinkError",
        "SourceError",
        "StoppedError",
    ),
    "event_types": ("EVENT_TYPES", "EventType", "event_type"),
    "hookspecs": ("hookimpl",),
    "interval": ("Interval", "IntervalSet"),
    "series": ("BASE", "Metadata", "Series", "SeriesId", "Served", "Summary"),
    "stages": (
        "BatchTransform",
        "Context",
        "Duration",
        "Load",
        "PointTransform",
        "Receipt",
        "Reject",
        "Sink",
        "Source",
        "Stage",
        "Task",
        "Traffic",
        "Transform",
    ),
    "table": ("read",),
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
