"""The names of tables, columns and partitions, and errors that name them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Final

import pyarrow as pa

from esmond_etl import EsmondEtlError, PluginError, Summary

#: The tables besides those of the event types.
METADATA: Final = "metadata"
OWNERS: Final = "owners"

#: The partition columns of the tables of event types.
PARTITIONS: Final = ("summary", "date")

#: Microseconds, as Delta stores times.
MOMENT: Final = pa.timestamp("us", "UTC")

#: Characters that are not used in table names: readers encode them differently in URLs.
_ODD: Final = re.compile(r"[^A-Za-z0-9.-]")


def table_of(event_type: str, summary: Summary) -> str:
    """The name of the table that holds the datapoints. Statistics are always JSON text, and have their own table."""
    name = _ODD.sub(lambda found: "".join(f"_{byte:02x}" for byte in found[0].encode()), event_type)
    return f"{name}-statistics" if summary.type == "statistics" else name


def partition_of(summary: Summary) -> str:
    """A summary as in the column `summary`: its folders then have names without escapes."""
    return str(summary).replace("/", "-")


def schema_of(fields: pa.Schema) -> pa.Schema:
    """Columns with the types that Delta has."""
    return pa.schema([pa.field(field.name, _type(field.type)) for field in fields])


def _type(given: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(given):
        return given.value_type
    return MOMENT if pa.types.is_timestamp(given) else given


def plain(path: str) -> str:
    """The path; raises ValueError for one that the library would take for another."""
    if "%" in path and "://" not in path:
        raise ValueError('a "%" would be taken for an escape: choose a path without it')
    return path


def needed() -> None:
    """Raises PluginError if the library is not installed."""
    if not find_spec("deltalake"):
        raise PluginError("delta needs deltalake: pip install 'esmond-etl[delta]'")


@contextmanager
def reported(error: type[EsmondEtlError], *places: object) -> Iterator[None]:
    """Turn errors of Delta or Arrow into an `error` that names the places."""
    try:
        yield
    except EsmondEtlError:
        raise
    except Exception as problem:  # a damaged log is a bare Exception in some versions of the library
        said = " ".join(str(problem).split())
        raise error(": ".join(map(str, [*places, said]))) from problem
