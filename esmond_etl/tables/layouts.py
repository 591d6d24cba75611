"""The layout of the files of each place: it is that of the files that are there already, or of the first batch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from esmond_etl.model.batch import Batch
from esmond_etl.model.errors import SinkError
from esmond_etl.tables.columns import NOUNS, Kind, Layout, natural_layout
from esmond_etl.tables.load import Shelf


@dataclass
class Layouts:
    """The layouts of a sink's files; thread-safe."""

    shown: str  #: the sink's path, for people
    noun: str  #: what a place is: a folder, a table
    place: Callable[[Shelf], str]  #: the name of the place that a shelf is in
    held: Callable[[Shelf], Layout | None]  #: returns the layout of the files that are there; None if there are none
    histograms: Kind
    lists: bool
    _known: dict[str, Layout] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, batch: Batch) -> Layout:
        """The layout of the files that `batch` belongs to; raises SinkError if it does not fit there."""
        shelf = Shelf.of(batch.series)
        place, wanted = self.place(shelf), natural_layout(batch, self.histograms, self.lists)
        with self._lock:
            layout = self._known.get(place)
            if layout is None:
                layout = self._known[place] = self.held(shelf) or wanted
        has, new = NOUNS[layout.kind], NOUNS[wanted.kind]
        if has != new:  # files without the typed list stay without it
            raise SinkError(
                f"{batch.series}: {self.shown}/{place} holds {has}, and this would be {new}: write to another path, or move that"
                f" {self.noun} away"
            )
        return layout
