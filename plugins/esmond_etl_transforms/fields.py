"""The fields of metadata by the names that archives give them."""

from dataclasses import replace
from typing import Any

from esmond_etl import SUBJECT_FIELDS, Metadata

#: Fields that stand in attributes of their own; every other is a free-form parameter.
ATTRIBUTES = {name: name.replace("-", "_") for name in (*SUBJECT_FIELDS, "subject-type")} | {"metadata-key": "key"}


def field_of(metadata: Metadata, name: str) -> str | None:
    """The field called `name` ("source", "ip-transport-protocol", ...) as text; None where there is none."""
    value = getattr(metadata, ATTRIBUTES[name]) if name in ATTRIBUTES else metadata.parameters.get(name)
    return None if value is None else str(value)


def with_field(metadata: Metadata, name: str, value: Any) -> Metadata:
    """The same metadata with another value in the field called `name`."""
    if name in ATTRIBUTES:
        return replace(metadata, **{ATTRIBUTES[name]: value})
    return replace(metadata, parameters={**metadata.parameters, name: value})
