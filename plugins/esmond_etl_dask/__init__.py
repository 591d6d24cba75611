"""Dask as an executor: `esmond-etl run --executor dask --scheduler tcp://HOST:8786`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esmond_etl import hookimpl

if TYPE_CHECKING:
    from esmond_etl import Connect


@hookimpl
def esmond_etl_executors() -> dict[str, Connect]:
    """The executor `dask`."""
    from esmond_etl_dask.engine import connect

    return {"dask": connect}
