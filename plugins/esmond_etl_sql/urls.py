"""The URL of a database, without the password."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from esmond_etl_sql.dialects import POSTGRESQL, SCHEMES, Dialect

#: Variables from which libpq takes a port if the URL has none.
_SETTERS_OF_PORTS: Final = frozenset({"PGPORT", "PGSERVICE"})


def dialect_of(url: str) -> Dialect:
    """The kind of database of `url`; raises ValueError if the URL is not valid."""
    scheme, colon, rest = url.partition(":")
    dialect = SCHEMES.get(scheme)
    if not colon or dialect is None:
        raise ValueError("is not the URL of a database: write postgresql://USER@HOST/DATABASE, sqlite:PATH or duckdb:PATH")
    if dialect is POSTGRESQL:
        if not rest.startswith("//"):
            raise ValueError("is not the URL of a database: write postgresql://USER@HOST/DATABASE")
    elif not rest or rest.startswith(("//", ":")):
        raise ValueError(f"names no file: write {scheme}:PATH, such as {scheme}:/data/perfsonar.db")
    return dialect


def located(url: str, folder: Path) -> str:
    """The URL of a file with its path made absolute, from `folder` on; any other text as it is."""
    scheme, _, path = url.partition(":")
    if SCHEMES.get(scheme) in (None, POSTGRESQL) or not path or path.startswith(("//", ":")):
        return url
    return f"{scheme}:{folder / path}"


def plain(url: str) -> str:
    """The URL in a normal form: different ways to write one database are equal."""
    scheme, _, rest = url.partition(":")
    if SCHEMES[scheme] is not POSTGRESQL:
        return f"{scheme}:{Path(rest)}"
    parts = urlsplit(url)
    netloc = parts.netloc
    if (
        "," not in netloc
        and _SETTERS_OF_PORTS.isdisjoint(os.environ)
        and "port=" not in parts.query
        and "service=" not in parts.query
    ):
        netloc = netloc.removesuffix(":5432")
    return _joined(netloc, parts.path, parts.query)


def _joined(netloc: str, path: str, query: str) -> str:
    return f"postgresql://{netloc}{path}" + (f"?{query}" if query else "")


def without_password(url: str) -> tuple[str, str | None]:
    """A URL of PostgreSQL without the password in it, and that password."""
    parts = urlsplit(url)
    user, colon, password = parts.netloc.rpartition("@")[0].partition(":")
    host = parts.netloc.rpartition("@")[2]
    query = parse_qsl(parts.query, keep_blank_values=True)
    found = [unquote(password)] if colon else []
    found += [value for name, value in query if name == "password"]
    kept = urlencode([each for each in query if each[0] != "password"], quote_via=quote)
    netloc = f"{user}@{host}" if user else host
    return _joined(netloc, parts.path, kept), found[0] if found else None


def connectable(url: str, password: str | None) -> str:
    """The address for the driver: for a file, its path."""
    scheme, _, path = url.partition(":")
    if SCHEMES[scheme] is not POSTGRESQL:
        return str(Path(path).absolute())
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    query = {"connect_timeout": "30", "application_name": "esmond-etl", **query, **({"password": password} if password else {})}
    return _joined(parts.netloc, parts.path, urlencode(query, quote_via=quote))
