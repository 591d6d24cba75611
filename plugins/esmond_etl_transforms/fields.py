"""The fields of metadata by their names in archives."""

from dataclasses import replace
from typing import Any

from esmond_etl import SUBJECT_FIELDS, Metadata

#: Fields that are attributes; every other field is a free-form parameter.
ATTRIBUTES = {name: name.replace("-", "_") for name in (*SUBJECT_FIELDS, "subject-type")} | {"metadata-key": "key"}


def field_of(metadata: Metadata, name: str) -> str | None:
    """The field `name` ("source", "ip-transport-protocol", ...) as text; None if it is missing."""
    value = getattr(metadata, ATTRIBUTES[name]) if name in ATTRIBUTES else metadata.parameters.get(name)
    return None if value is None else str(value)


def with_field(metadata: Metadata, name: str, value: Any) -> Metadata:
    """The same metadata with another value in the field `name`."""
    if name in ATTRIBUTES:
        return replace(metadata, **{ATTRIBUTES[name]: value})
    return replace(metadata, parameters={**metadata.parameters, name: value})
