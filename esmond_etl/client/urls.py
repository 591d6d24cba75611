"""Where an archive is."""

from __future__ import annotations

import re
from base64 import b64encode
from urllib.parse import urlsplit, urlunsplit

import requests

from esmond_etl.model.errors import ConfigError


def is_url(url: str) -> bool:
    """Whether `url` is a valid HTTP URL with a valid host and port."""
    try:
        requests.Request("GET", url).prepare()
        parts = urlsplit(url)
        host = parts.hostname or ""
        return parts.scheme in ("http", "https") and bool(host.encode("idna")) and not any(map(str.isspace, host))
    except ValueError:  # InvalidURL of requests, and UnicodeError, are also ValueErrors
        return False


def list_url(url: str, script_alias: str | None) -> tuple[str, str | None]:
    """The URL of the list of metadata, and the Authorization header of a user and password in `url`, if any."""
    if not is_url(url):
        raise ConfigError(f"{re.sub('//.*@', '//', url)!r} is not the URL of an archive: write https://HOST/")
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    path = parts.path.rstrip("/")
    if not path.endswith("/perfsonar/archive"):
        path += "/".join(["", *(word for word in (script_alias or "").split("/") if word), "perfsonar/archive"])
    basic = "Basic " + b64encode(user.encode()).decode() if user else None
    return urlunsplit((parts.scheme, host, path + "/", "", "")), basic
