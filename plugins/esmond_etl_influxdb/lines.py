"""Line protocol: points to lines, in columns.

    measurement,tag=value,tag=value field=1.5,field="text" 1397075053

Characters that line protocol cannot hold are written as InfluxDB's own clients write them: a line feed, carriage return or tab in a
measurement or tag as `\\n`, `\\r`, `\\t`. A backslash at the end of a measurement or tag, or before what has to be escaped there,
would escape what follows, and becomes a slash.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl import ARCHIVE, BASE, Batch, Series
from esmond_etl_influxdb.fields import Points

#: The tags of every series, if its metadata have the field.
TAGS: Final = ("destination", "input_destination", "input_source", "measurement_agent", "metadata_key", "source", "tool_name")
#: The tags of summaries.
SUMMARY_TAGS: Final = ("summary_type", "summary_window")

_CONTROL: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_NAME: Final = str.maketrans({**_CONTROL, ",": "\\,", " ": "\\ "})
_TAG: Final = str.maketrans({**_CONTROL, ",": "\\,", " ": "\\ ", "=": "\\="})
_LOST_BACKSLASH: Final = re.compile(r"\\(?=[,= ]|\Z)")


def measurement(series: Series, prefix: str = "") -> str:
    """The measurement that `series` is in, unescaped."""
    return prefix + tag_name(series.event_type)


def tag_name(parameter: str) -> str:
    """The tag that a metadata parameter is kept as."""
    return parameter.replace("-", "_")


def tags(series: Series, parameters: Sequence[str] = ()) -> dict[str, str]:
    """The tags of all points of `series`, unescaped, by name; `parameters` are metadata parameters to add to the name of the archive."""
    metadata = series.metadata
    values = {name: getattr(metadata, "key" if name == "metadata_key" else name) for name in TAGS}
    values |= {tag_name(name): metadata.parameters.get(name) for name in (ARCHIVE, *parameters)}
    if series.summary != BASE:
        values |= zip(SUMMARY_TAGS, (series.summary.type, str(series.summary.window)), strict=True)
    texts = {name: _text(value) for name, value in sorted(values.items()) if value is not None}
    return {name: text for name, text in texts.items() if text}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def head(measurement: str, tags: Mapping[str, str]) -> str:
    """The beginning of all lines of a series."""
    parts = [f",{escaped(name, _TAG)}={escaped(value, _TAG)}" for name, value in tags.items()]
    return escaped(measurement, _NAME) + "".join(parts)


def escaped(text: str, escapes: Mapping[int, str]) -> str:
    """A measurement, or the name or value of a tag, as line protocol has it."""
    return _LOST_BACKSLASH.sub("/", text).translate(escapes) if "\\" in text else text.translate(escapes)


def encode(head: str, points: Points) -> pa.Array:
    """The lines of `points`, each with its line feed: the text of the array is one block of line protocol."""
    fields = [_field(name, column) for name, column in points.columns.items()]
    seconds = points.seconds.cast(pa.string())
    if len(fields) == 1:  # every point has it
        name, texts = fields[0]
        return pc.binary_join_element_wise(f"{head} {name}=", texts, " ", seconds, "\n", "")
    named = [pc.binary_join_element_wise(name, texts, "=") for name, texts in fields]
    joined = pc.binary_join_element_wise(*named, ",", null_handling="skip")
    return pc.binary_join_element_wise(f"{head} ", joined, " ", seconds, "\n", "")


def _field(name: str, column: pa.Array) -> tuple[str, pa.Array]:
    if not pa.types.is_string(column.type):
        return name, column.cast(pa.string())
    if name == "json":  # in a JSON text, a line feed between tokens means the same as a space
        column = pc.replace_substring(column, "\n", " ")
    quoted = pc.replace_substring(pc.replace_substring(column, "\\", "\\\\"), '"', '\\"')
    return name, pc.binary_join_element_wise('"', quoted, '"', "")


def on_one_line(lines: pa.Array) -> pa.Array:
    """The same lines with a space for each line feed inside a text."""
    return pc.binary_join_element_wise(pc.replace_substring(pc.utf8_rtrim(lines, "\n"), "\n", " "), "\n", "")


def block(lines: pa.Array) -> memoryview:
    """The bytes of `lines`, which are not copied."""
    if not len(lines):
        return memoryview(b"")
    offsets = memoryview(lines.buffers()[1]).cast("i")
    return memoryview(lines.buffers()[2])[offsets[lines.offset] : offsets[lines.offset + len(lines)]]


def value_text(batch: Batch, row: int) -> str:
    """One value of `batch` as JSON text."""
    value = batch.val[row].as_py()
    if batch.is_json and value is not None:
        return str(value)
    return msgspec.json.encode(dict(value) if pa.types.is_map(batch.val.type) and value is not None else value).decode()
