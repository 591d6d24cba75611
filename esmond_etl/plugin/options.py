"""Options that many stages have: one type each, so that they mean the same everywhere.

class MySink(Sink):
    ca: CaFile = None
    retries: Retries = 4
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from esmond_etl.model.interval import DURATION_PATTERN, parse_duration


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


#: A length of time: "90s", "15m", "6h", "1d" in the TOML, seconds in Python.
Duration = Annotated[
    int,
    BeforeValidator(_duration),
    Field(strict=True, ge=0),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "examples": ["15m", "6h", "1d"]}),
]

#: Whether to check a server's certificate.
CheckCertificate = Annotated[bool, Field(description="whether the server's certificate must be valid")]

#: The path of a file of certificates.
CaFile = Annotated[str | None, Field(description="file of certificates to trust, for a self-signed server")]

#: The path of a client certificate.
CertFile = Annotated[str | None, Field(description="file of a client certificate (PEM)")]

#: The path of the key of a client certificate.
KeyFile = Annotated[str | None, Field(description="file of its key, if `cert` does not hold it")]

#: How often a request is repeated after a transient failure.
Retries = Annotated[int, Field(ge=0, description="number of retries after a transient failure")]

#: The pause before the first retry, s.
Backoff = Annotated[float, Field(ge=0, description="seconds before the first retry; each later pause is twice as long")]
