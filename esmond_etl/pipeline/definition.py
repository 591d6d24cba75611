"""What a pipeline is made of: plain data until its stages are opened."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from esmond_etl.model.errors import ConfigError
from esmond_etl.model.interval import Interval, ceil, floor, parse_moment
from esmond_etl.pipeline import positions
from esmond_etl.pipeline.settings import Settings
from esmond_etl.pipeline.tests import Case
from esmond_etl.plugin.sink import Sink
from esmond_etl.plugin.source import Source
from esmond_etl.plugin.stage import Stage
from esmond_etl.plugin.transform import Transform


@dataclass(frozen=True)
class Definition:
    """What a pipeline file says, or a program that builds a pipeline from Python objects."""

    file: str
    settings: Settings
    source: Source
    transforms: tuple[Transform, ...]
    sinks: tuple[Sink, ...]
    labels: tuple[str, ...]  #: what people call its sinks: "sink[0] (parquet)"
    tests: tuple[Case, ...] = ()  #: what its `[[test]]` tables say

    @property
    def name(self) -> str:
        """What its ledger is called."""
        return self.settings.name or Path(self.file).stem

    @property
    def named_at(self) -> positions.Position:
        """Where its file gives it a name; the file's beginning if it does not."""
        text = Path(self.file).read_text(encoding="utf-8")
        return positions.locate(positions.positions(text), ("name",))

    @property
    def ledger_path(self) -> Path:
        """Where its ledger is."""
        beside = Path(self.file).parent
        own = beside / self.settings.ledger if self.settings.ledger else None
        folder = own or Path(os.environ.get("ESMOND_ETL_LEDGER") or beside / ".esmond-etl")
        return folder / f"{self.name}.ledger"

    def wanted(self, now: int, from_: object = None, to: object = None) -> Interval:
        """The whole windows that it wants and that have ended, given that it is `now`; `from_` and `to` replace the file's own.

        Raises ConfigError if one of these is not a time.
        """
        window = self.settings.window
        try:
            start = floor(parse_moment(self.settings.from_ if from_ is None else from_, now), window)
            end = ceil(parse_moment(self.settings.to if to is None else to, now), window)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        closed = floor(now - self.settings.settle, window)
        return Interval(start, max(start, min(end, closed)))

    def looking_back(self, seconds: int) -> Definition:
        """The same pipeline, that reads at least the last `seconds` again."""
        lookback = max(seconds, self.settings.lookback)
        return replace(self, settings=self.settings.model_copy(update={"lookback": lookback}))

    @property
    def source_place(self) -> dict[str, Any]:
        """The options that say where the source is."""
        return _place(self.source)

    @property
    def sink_places(self) -> list[dict[str, Any]]:
        """The options that say where each sink is."""
        return [_place(sink) for sink in self.sinks]

    @property
    def delivery(self) -> str:
        """A digest of what is delivered where: what one delivery has done does not count for another."""
        parts = [f"{self.settings.window}"]
        parts += [
            f"{type(stage).__qualname__} {stage.model_dump_json()} {stage.fingerprint()}".rstrip() for stage in self.transforms
        ]
        parts += sorted(f"{type(sink).__qualname__} {sink.model_dump_json(include=set(sink.place))}" for sink in self.sinks)
        return sha256("\n".join(parts).encode()).hexdigest()[:16]


def _place(stage: Stage) -> dict[str, Any]:
    place: dict[str, Any] = stage.model_dump(mode="json", include=set(stage.place), exclude_none=True)
    return {"type": type(stage).__name__, **place}
