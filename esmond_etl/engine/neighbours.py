"""Pipelines whose ledgers are in one folder and that deliver to one target, if the target keeps no notes of its owners (InfluxDB)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from esmond_etl.engine.ledger import Ledger
from esmond_etl.model.errors import EsmondEtlError
from esmond_etl.model.series import Series
from esmond_etl.pipeline.definition import Definition


@dataclass
class _Neighbour:
    """Another pipeline that reads the same source and delivers to the same place."""

    file: str
    label: str  #: of our sink
    ledger: Ledger
    key: str | None = None  #: whose series are in `known`
    known: set[tuple[str, str]] = field(default_factory=set)

    def has(self, series: Series) -> bool:
        """Whether it has delivered anything of `series`."""
        if series.metadata.key != self.key:
            self.key = series.metadata.key
            self.known = {*self.ledger.done(self.key), *self.ledger.partly(self.key)}
        return (series.event_type, str(series.summary)) in self.known


class Neighbours:
    """The neighbours of a pipeline, found by their ledgers. Use it in a `with`: it closes their ledgers."""

    def __init__(self, definition: Definition) -> None:
        """Look for them; the pipeline's own ledger need not exist."""
        self._found: list[_Neighbour] = []
        self._opened = ExitStack()
        if not _places(definition):
            return
        own = {each.resolve() for each in definition.all_ledgers}
        left_out = _taken_over(definition)
        for path in sorted(definition.ledger_path.parent.glob("*.ledger")):
            if path.resolve() not in own and path.name not in left_out:
                self._found += self._look(path, definition)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _look(self, path: Path, definition: Definition) -> Iterator[_Neighbour]:
        try:
            ledger = Ledger.to_read(path)
        except EsmondEtlError:  # of another version, or damaged: its own pipeline will report that
            return
        self._opened.callback(ledger.close)
        file = ledger.about("file") or ""
        theirs = json.loads(ledger.about("places") or "[]")
        if file != str(Path(definition.file).resolve()) and Path(file).exists():
            for label, place in _places(definition).items():
                if place in theirs:
                    yield _Neighbour(file, label, ledger)

    def obstacle(self, series: Series) -> str | None:
        """Why `series` (of the source) may not be delivered: a neighbour delivers it to the same place; None if it may."""
        for each in self._found:
            if each.has(series):
                return (
                    f"{each.label}: the pipeline {each.file} delivers {series} to the same place: leave it out here, choose another"
                    " place, or add --take-over to the run"
                )
        return None

    def take_over(self, ledger: Ledger) -> None:
        """Note that from now on this pipeline delivers what its neighbours have delivered."""
        ledger.set_about("taken over", json.dumps(sorted({each.ledger.path.name for each in self._found})))
        self._found = []


def note_places(definition: Definition, ledger: Ledger) -> None:
    """Note in the own ledger where this pipeline delivers to, for its neighbours."""
    ledger.set_about("places", json.dumps([*_places(definition).values()]))


def _places(definition: Definition) -> dict[str, dict[str, Any]]:
    """By label, the places that keep no notes, each with the source of the series."""
    return {
        label: {"source": definition.source_place, "sink": place}
        for label, sink, place in zip(definition.labels, definition.sinks, definition.sink_places, strict=True)
        if sink.features.overwrites
    }


def _taken_over(definition: Definition) -> set[str]:
    ledger = Ledger.to_read(definition.ledger_path)
    try:
        return set(json.loads(ledger.about("taken over") or "[]"))
    finally:
        ledger.close()
