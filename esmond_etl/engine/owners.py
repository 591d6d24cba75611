"""The owner of a place: two pipelines that deliver the same series to one place would overwrite each other, and nobody would know."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from esmond_etl.engine.ledger import Ledger
from esmond_etl.model.errors import ConfigError, EsmondEtlError, SinkError
from esmond_etl.model.interval import moment
from esmond_etl.model.series import Series
from esmond_etl.pipeline.definition import Definition
from esmond_etl.plugin.owned import OwnedSink
from esmond_etl.plugin.stage import Context


@dataclass
class Place:
    """The target of one sink, with the notes that pipelines have left in it."""

    definition: Definition
    label: str
    sink: OwnedSink
    notes: dict[str, dict[str, Any]]
    series: set[str] = field(default_factory=set)  #: digests of the series that this run delivers; only for a shared place

    @classmethod
    def of(cls, definition: Definition, label: str, sink: OwnedSink, context: Context) -> Place:
        """Read the notes in the place; raises SinkError if one of them cannot be read."""
        notes = sink.owners(context)
        try:
            return cls(definition, label, sink, {name: dict(json.loads(text)) for name, text in notes.items()})
        except (ValueError, TypeError):
            raise SinkError(
                f"{label}: a note of an owner in the target is damaged: remove it, and run the pipeline again"
            ) from None

    @property
    def own(self) -> str:
        """The name of this pipeline's note; the same for the same pipeline file with the same source."""
        whose = [self.definition.name, _file(self.definition), self.definition.source_place]
        return sha256(json.dumps(whose, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def others(self) -> dict[str, dict[str, Any]]:
        """The notes of other pipelines."""
        return {name: note for name, note in self.notes.items() if name != self.own}

    def refusal(self, former: str | None = None) -> str | None:
        """Why the place may not be used: it belongs to another pipeline, and not both say that they share it; None if it may.

        `former` is the file that this pipeline was in before.
        """
        for note in self.others.values():
            if not (self.sink.shared and note.get("shared")) and note.get("file") != former:
                return _refusal(note, self.sink.shared)
        return None

    def check(self, former: str | None = None) -> None:
        """Raise ConfigError with the `refusal` if there is one."""
        if reason := self.refusal(former):
            raise ConfigError(f"{self.definition.file}: {self.label}: {reason}")

    def take_over(self, former: str | None = None) -> None:
        """Remove the notes of all other pipelines, or only of this pipeline in its former file `former`."""
        taken = [name for name, note in self.others.items() if former in (None, note.get("file"))]
        for name in taken:
            self.sink.set_owner(name, None)
        self.notes = {name: note for name, note in self.notes.items() if name not in taken}

    def obstacle(self, target: Series) -> str | None:
        """Why `target` may not be delivered: another pipeline delivers it to the same place; None if it may."""
        if not self.sink.shared:
            return None
        short = _short(target)
        for note in self.others.values():
            if short in note["series"]:
                return f"{self.label}: the pipeline {note.get('pipeline')} ({note.get('file')}) delivers {target} to the same place"
        self.series.add(short)
        return None

    def leave_note(self) -> None:
        """Note in the place that this pipeline delivers to it; raises ConfigError if another one has done so meanwhile."""
        before = self.notes.get(self.own, {})
        note = {"pipeline": self.definition.name, "file": _file(self.definition), "since": before.get("since", int(time.time()))}
        note["shared"] = self.sink.shared
        if self.sink.shared:
            note["series"] = sorted(self.series.union(before.get("series", ())))
        if note == before:
            return
        self.sink.set_owner(self.own, json.dumps(note, separators=(",", ":")))
        again = Place.of(self.definition, self.label, self.sink, Context(self.definition.name, 1))
        try:
            again.check()
        except ConfigError:
            self.sink.set_owner(self.own, None)
            raise


def former_file(definition: Definition) -> str | None:
    """The file that a pipeline was in before, from its ledger; None if it is in the same file, or the other one still exists."""
    with closing(Ledger.to_read(definition.ledger_path)) as ledger:
        file = ledger.about("file")
    return file if file and not Path(file).exists() else None


def refusals(definition: Definition) -> Iterator[tuple[int, str]]:
    """The sinks (by number) whose places on this machine belong to other pipelines, and why; makes no connection.

    A place whose notes cannot be read is left to `check --connect`, as it may only be in use.
    """
    former = former_file(definition)
    for index, (label, sink) in enumerate(zip(definition.labels, definition.sinks, strict=True)):
        if isinstance(sink, OwnedSink) and sink.is_local:
            with suppress(EsmondEtlError):
                if reason := Place.of(definition, label, sink, Context(definition.name, 1)).refusal(former):
                    yield index, reason


def _short(series: Series) -> str:
    return sha256(str(series.id).encode()).hexdigest()[:16]


def _file(definition: Definition) -> str:
    return str(Path(definition.file).resolve())


def _refusal(note: dict[str, Any], shared: bool) -> str:
    whose = (
        f"this place belongs to the pipeline {note.get('pipeline')} ({note.get('file')}), since {moment(int(note.get('since', 0)))}"
    )
    if shared:
        return f"{whose}: write `shared = true` there too, if the two deliver different series"
    return (
        f"{whose}: two pipelines would overwrite each other. Choose another place, or write `shared = true` in both if they deliver"
        " different series; if that pipeline is gone, or is this one under its former name, add --take-over to the run"
    )


class Places:
    """The places of a pipeline that note their owners."""

    def __init__(self, definition: Definition, sinks: Iterable[tuple[str, object]]) -> None:
        """Read the notes in the places of `sinks`, which are open, by label."""
        context = Context(definition.name, 1)
        self._places = [Place.of(definition, label, sink, context) for label, sink in sinks if isinstance(sink, OwnedSink)]

    def claim(self, take_over: bool, former: str | None) -> None:
        """Raise ConfigError if a place belongs to another pipeline, unless it is to be taken over.

        `former` is the file that this pipeline was in before, from its ledger.
        """
        for place in self._places:
            if take_over or former:
                place.take_over(None if take_over else former)
            place.check()

    def obstacle(self, target: Series) -> str | None:
        """Why another pipeline's claim keeps `target` from being delivered; None if nothing does."""
        return next((reason for place in self._places if (reason := place.obstacle(target))), None)

    def leave_notes(self) -> None:
        """Note in every place that this pipeline delivers to it."""
        for place in self._places:
            place.leave_note()
