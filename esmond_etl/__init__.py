"""Move network measurements out of, and between, perfSONAR measurement archives (esmond).

This is the public face: what a plugin or a notebook imports. Names are loaded when they are first used.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from esmond_etl.client.table import (
        read,
    )
    from esmond_etl.engine.pipeline import (
        Pipeline,
        load,
    )
    from esmond_etl.engine.result import (
        IncompleteError,
        Observer,
        Result,
    )
    from esmond_etl.model import histograms
    from esmond_etl.model.batch import (
        Batch,
        Count,
        DataPoint,
        Fault,
    )
    from esmond_etl.model.columns import (
        JSON_TEXT,
        NUMBER,
        TS,
        bool_column,
        int_column,
        json_column,
        nullable_number_column,
        nullable_text_column,
        number_column,
        text_column,
        ts_bounds,
        ts_column,
    )
    from esmond_etl.model.equality import (
        same_value,
    )
    from esmond_etl.model.errors import (
        ArchiveError,
        ConfigError,
        ContentError,
        EsmondEtlError,
        LockedError,
        NotComparableError,
        PluginError,
        RequestError,
        SinkError,
        SourceError,
        StatusError,
        StoppedError,
        described,
    )
    from esmond_etl.model.event_types import (
        EVENT_TYPES,
        URL_WORDS,
        DataType,
        EventType,
        event_type,
    )
    from esmond_etl.model.interval import (
        Interval,
        IntervalSet,
        ceil,
        floor,
        format_duration,
        moment,
        parse_moment,
    )
    from esmond_etl.model.series import (
        BASE,
        SUBJECT_FIELDS,
        Metadata,
        Series,
        SeriesId,
        Served,
        Summary,
    )
    from esmond_etl.model.stopping import (
        unless_stopped,
    )
    from esmond_etl.model.traffic import (
        Traffic,
    )
    from esmond_etl.plugin.archives import (
        ARCHIVE,
    )
    from esmond_etl.plugin.executor import (
        Connect,
        Engine,
    )
    from esmond_etl.plugin.hookspecs import (
        hookimpl,
    )
    from esmond_etl.plugin.options import (
        Backoff,
        CaFile,
        CertFile,
        CheckCertificate,
        Duration,
        KeyFile,
        Retries,
    )
    from esmond_etl.plugin.owned import (
        OwnedSink,
    )
    from esmond_etl.plugin.sink import (
        EQUAL_IN_A_SECOND,
        Features,
        Load,
        Receipt,
        Reject,
        Sink,
        Task,
        View,
    )
    from esmond_etl.plugin.source import (
        Source,
    )
    from esmond_etl.plugin.stage import (
        Context,
        Stage,
        digest_of,
    )
    from esmond_etl.plugin.transform import (
        BatchTransform,
        PointTransform,
        Transform,
    )

_HOMES = {
    "client.table": ("read",),
    "engine.pipeline": (
        "Pipeline",
        "load",
    ),
    "engine.result": (
        "IncompleteError",
        "Observer",
        "Result",
    ),
    "model.batch": (
        "Batch",
        "Count",
        "DataPoint",
        "Fault",
    ),
    "model.columns": (
        "JSON_TEXT",
        "NUMBER",
        "TS",
        "bool_column",
        "int_column",
        "json_column",
        "nullable_number_column",
        "nullable_text_column",
        "number_column",
        "text_column",
        "ts_bounds",
        "ts_column",
    ),
    "model.equality": ("same_value",),
    "model.errors": (
        "ArchiveError",
        "ConfigError",
        "ContentError",
        "EsmondEtlError",
        "LockedError",
        "NotComparableError",
        "PluginError",
        "RequestError",
        "SinkError",
        "SourceError",
        "StatusError",
        "StoppedError",
        "described",
    ),
    "model.event_types": (
        "DataType",
        "EVENT_TYPES",
        "EventType",
        "URL_WORDS",
        "event_type",
    ),
    "model.interval": (
        "Interval",
        "IntervalSet",
        "ceil",
        "floor",
        "format_duration",
        "moment",
        "parse_moment",
    ),
    "model.series": (
        "BASE",
        "Metadata",
        "SUBJECT_FIELDS",
        "Series",
        "SeriesId",
        "Served",
        "Summary",
    ),
    "model.stopping": ("unless_stopped",),
    "model.traffic": ("Traffic",),
    "plugin.archives": ("ARCHIVE",),
    "plugin.executor": (
        "Connect",
        "Engine",
    ),
    "plugin.hookspecs": ("hookimpl",),
    "plugin.options": (
        "Backoff",
        "CaFile",
        "CertFile",
        "CheckCertificate",
        "Duration",
        "KeyFile",
        "Retries",
    ),
    "plugin.owned": ("OwnedSink",),
    "plugin.sink": (
        "EQUAL_IN_A_SECOND",
        "Features",
        "Load",
        "Receipt",
        "Reject",
        "Sink",
        "Task",
        "View",
    ),
    "plugin.source": ("Source",),
    "plugin.stage": (
        "Context",
        "Stage",
        "digest_of",
    ),
    "plugin.transform": (
        "BatchTransform",
        "PointTransform",
        "Transform",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ARCHIVE",
    "BASE",
    "EQUAL_IN_A_SECOND",
    "EVENT_TYPES",
    "JSON_TEXT",
    "NUMBER",
    "SUBJECT_FIELDS",
    "TS",
    "URL_WORDS",
    "ArchiveError",
    "Backoff",
    "Batch",
    "BatchTransform",
    "CaFile",
    "CertFile",
    "CheckCertificate",
    "ConfigError",
    "Connect",
    "ContentError",
    "Context",
    "Count",
    "DataPoint",
    "DataType",
    "Duration",
    "Engine",
    "EsmondEtlError",
    "EventType",
    "Fault",
    "Features",
    "IncompleteError",
    "Interval",
    "IntervalSet",
    "KeyFile",
    "Load",
    "LockedError",
    "Metadata",
    "NotComparableError",
    "Observer",
    "OwnedSink",
    "Pipeline",
    "PluginError",
    "PointTransform",
    "Receipt",
    "Reject",
    "RequestError",
    "Result",
    "Retries",
    "Series",
    "SeriesId",
    "Served",
    "Sink",
    "SinkError",
    "Source",
    "SourceError",
    "Stage",
    "StatusError",
    "StoppedError",
    "Summary",
    "Task",
    "Traffic",
    "Transform",
    "View",
    "__version__",
    "bool_column",
    "ceil",
    "described",
    "digest_of",
    "event_type",
    "floor",
    "format_duration",
    "histograms",
    "hookimpl",
    "int_column",
    "json_column",
    "load",
    "moment",
    "nullable_number_column",
    "nullable_text_column",
    "number_column",
    "parse_moment",
    "read",
    "same_value",
    "text_column",
    "ts_bounds",
    "ts_column",
    "unless_stopped",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "histograms":
        value: Any = import_module(f"{__name__}.model.histograms")
    elif name in _HOME:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
