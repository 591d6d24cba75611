"""Documents from their fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from esmond_etl_opensearch.codec.places import Path

_encode: Final = msgspec.json.Encoder().encode

_RESULT: Final = ("result",)


class Document(NamedTuple):
    """One document, ready to be sent."""

    ts: int
    text: str  #: JSON, on one line


def assembled(head: Mapping[str, Any], fields: Mapping[Path, pa.Array], moments: pa.Array) -> Iterator[Document]:
    """Documents of `moments`, from `head`, which they share, and the JSON texts of their other fields, null for none."""
    texts: list[str] = [""] * len(moments)
    for there, mask in _groups(fields):
        rows = range(len(moments)) if mask is None else pc.indices_nonzero(mask).to_pylist()
        parts = {path: column if mask is None else column.filter(mask) for path, column in fields.items() if path in there}
        joined = pc.binary_join_element_wise(*_pieces(head, parts), "")
        for row, text in zip(rows, joined.to_pylist(), strict=True):
            texts[row] = text
    return map(Document, moments.to_pylist(), texts)


def _groups(fields: Mapping[Path, pa.Array]) -> Iterator[tuple[set[Path], pa.Array | None]]:
    """The sets of fields that documents have, each with a mask of these documents; None if all have the same."""
    partial = [path for path, column in fields.items() if column.null_count]
    always = fields.keys() - set(partial)
    if not partial:
        yield set(always), None
        return
    # a bit for each field that some documents lack
    bits = [pc.multiply(fields[path].is_valid().cast(pa.int64()), 1 << place) for place, path in enumerate(partial)]
    group = bits[0]
    for each in bits[1:]:
        group = pc.add(group, each)
    for number in pc.unique(group).to_pylist():
        yield always | {path for place, path in enumerate(partial) if number >> place & 1}, pc.equal(group, number)


def _pieces(head: Mapping[str, Any], parts: Mapping[Path, pa.Array]) -> list[pa.Array | str]:
    """What documents are joined of: the texts of fields, and what stands between them."""
    tree: dict[str, Any] = {name: dict(each) for name, each in head.items()}
    for path, column in parts.items():
        if len(path) == 1 or path[0] != "result" or _RESULT not in parts:
            _branch(tree, path[:-1])[path[-1]] = column
    pieces: list[pa.Array | str] = []
    _write(tree, pieces)
    return pieces


def _branch(tree: dict[str, Any], path: Path) -> dict[str, Any]:
    for name in path:
        tree[name] = tree = dict(tree.get(name, ()))
    return tree


def _write(value: Any, pieces: list[pa.Array | str]) -> None:
    if isinstance(value, pa.Array):
        pieces.append(value)
    elif not isinstance(value, dict):
        _append(_encode(value).decode(), pieces)
    else:
        separator = "{"
        for name, each in value.items():
            _append(f"{separator}{_encode(name).decode()}:", pieces)
            _write(each, pieces)
            separator = ","
        _append("}" if value else "{}", pieces)


def _append(text: str, pieces: list[pa.Array | str]) -> None:
    """Add a text; neighbouring texts become one."""
    if pieces and isinstance(pieces[-1], str):
        pieces[-1] += text
    else:
        pieces.append(text)
