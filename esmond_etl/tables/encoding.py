"""How the columns of a file are encoded."""

from __future__ import annotations

from inspect import signature
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from esmond_etl.tables import columns, typed
from esmond_etl.tables.columns import Kind, Layout
from esmond_etl.tables.rows import GROUP_ROWS
from esmond_etl.tables.typed import Typed

_NUMBERS: Final = "DELTA_BINARY_PACKED"

#: The encodings of the typed column beside `val`.
_BESIDE: Final[dict[Typed, dict[str, str]]] = {
    "delays": {"delays.list.element.count": _NUMBERS},
    "hops": {},
    "traces": {},
    "intervals": {},
    "streams": {},
}

#: Columns with so many equal values that a dictionary pays.
_BESIDE_DICTIONARIES: Final[dict[Typed, list[str]]] = {
    "delays": ["delays.list.element.bucket_ms"],
    "hops": [f"hops.list.element.{field.name}" for field in typed.HOP if field.name not in ("rtt", "success")],
    "traces": [f"traces.list.element.list.element.{field.name}" for field in typed.HOP if field.name not in ("rtt", "success")],
    "intervals": ["intervals.list.element.duration"],
    "streams": ["streams.list.element.list.element.duration"],
}


def _encodings(kind: Kind) -> dict[str, str]:
    is_map = pa.types.is_map(columns.VAL[kind])
    val = dict.fromkeys(("val.key_value.key", "val.key_value.value") if is_map else ("val",), "PLAIN")
    return {"ts": "DELTA_BINARY_PACKED", **val, **(_BESIDE[kind] if kind in columns.TYPED else {})}


_ENCODINGS: Final[dict[Kind, dict[str, str]]] = {kind: _encodings(kind) for kind in columns.VAL}

_DICTIONARIES: Final[dict[Kind, list[str]]] = {
    kind: _BESIDE_DICTIONARIES[kind] if kind in columns.TYPED else [] for kind in columns.VAL
}

#: One page per column and row group: the smaller pages of newer versions of Arrow cost a fifth of the writing.
_PAGES: Final[dict[str, Any]] = (
    {"max_rows_per_page": GROUP_ROWS} if "max_rows_per_page" in signature(pq.ParquetWriter).parameters else {}
)


#: How Delta's files differ: times in microseconds, and no types that only Arrow knows.
_DELTA: Final[dict[str, Any]] = {"coerce_timestamps": "us", "store_schema": False}


def writer(stream: pa.NativeFile, layout: Layout, collector: list[pq.FileMetaData], is_delta: bool = False) -> pq.ParquetWriter:
    """A writer of a new file; `collector` will have its metadata when the writer is closed."""
    return pq.ParquetWriter(
        stream,
        columns.SCHEMAS[layout],
        compression="zstd",
        compression_level=1,
        use_dictionary=[*layout.subject, *_DICTIONARIES[layout.kind]],
        column_encoding=_ENCODINGS[layout.kind],
        write_statistics=["ts", "metadata_key"],  # statistics of the other dictionaries cost as much as the rest of the writing
        write_batch_size=16384,
        metadata_collector=collector,
        **_PAGES,
        **(_DELTA if is_delta else {}),
    )


def restored(batch: pa.RecordBatch, layout: Layout) -> pa.RecordBatch:
    """Rows from a file, ready to be written again: a file has no seconds, as Parquet has none, and perhaps no dictionaries."""
    schema = columns.SCHEMAS[layout]
    return pa.RecordBatch.from_arrays([batch.column(field.name).cast(field.type) for field in schema], schema=schema)
