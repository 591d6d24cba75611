"""The notes of the pipelines that deliver to a tree."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from esmond_etl_parquet.place import Place
from esmond_etl_parquet.tree import Change, Tree

FOLDER: Final = "_owners"


def read(tree: Place) -> dict[str, str]:
    """The notes, by name; raises OSError."""
    found = {}
    for name in tree.names(FOLDER):
        if name.endswith(".json"):
            with tree.input(f"{FOLDER}/{name}") as stream:
                found[name.removesuffix(".json")] = stream.read().decode()
    return found


def write(tree: Tree, name: str, note: str | None) -> None:
    """Replace a note, or remove it; raises OSError."""
    staged = tree.scratch() if note is not None else None
    if staged is not None and note is not None:
        Path(staged).write_text(note)
    with tree.exclusive():
        tree.commit([Change(f"{FOLDER}/{name}.json", staged)])
