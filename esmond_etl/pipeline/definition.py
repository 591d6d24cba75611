"""The definition of a pipeline: plain data until its stages are opened."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass, replace
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

from esmond_etl.model.errors import ConfigError
from esmond_etl.model.interval import Interval, ceil, floor, moment, parse_moment
from esmond_etl.pipeline import positions
from esmond_etl.pipeline.settings import Settings
from esmond_etl.pipeline.tests import Case
from esmond_etl.plugin.archives import Archives
from esmond_etl.plugin.sink import Sink
from esmond_etl.plugin.source import Source
from esmond_etl.plugin.stage import Stage
from esmond_etl.plugin.transform import Transform

SHARD: Final = re.compile(r"\.shard-\d+-of-\d+\.ledger$")


class Shard(NamedTuple):
    """A fixed part of the series of a pipeline: those of one metadata are in the same one."""

    number: int  #: from 1
    of: int

    @property
    def suffix(self) -> str:
        """The suffix of its ledger's name."""
        return f".shard-{self.number}-of-{self.of}"

    def has(self, metadata_key: str) -> bool:
        """Whether the series under a metadata belong to it."""
        return part_of(metadata_key, self.of) == self.number - 1


def part_of(text: str, parts: int) -> int:
    """The part, from 0, of `parts` that a text belongs to; the same on every host."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") % parts


@dataclass(frozen=True)
class Definition:
    """The content of a pipeline file, or of a pipeline that a program builds from Python objects."""

    file: str
    settings: Settings
    source: Source
    transforms: tuple[Transform, ...]
    sinks: tuple[Sink, ...]
    labels: tuple[str, ...]  #: labels of its sinks for people: "sink[0] (parquet)"
    tests: tuple[Case, ...] = ()  #: its `[[test]]` tables
    shard: Shard | None = None  #: the part of the series that it is limited to; None: all of them

    @property
    def name(self) -> str:
        """The name of its ledger."""
        return self.settings.name or Path(self.file).stem

    def position(self, path: positions.Path) -> positions.Position:
        """The position of the key at `path` in its file, or of the nearest table around it."""
        text = Path(self.file).read_text(encoding="utf-8")
        return positions.locate(positions.positions(text), path)

    @property
    def ledger_path(self) -> Path:
        """Where its ledger is."""
        beside = Path(self.file).parent
        own = beside / self.settings.ledger if self.settings.ledger else None
        folder = own or Path(os.environ.get("ESMOND_ETL_LEDGER") or beside / ".esmond-etl")
        return folder / (f"{self.name}.ledger" if self.shard is None else f"{self.name}{self.shard.suffix}.ledger")

    @property
    def all_ledgers(self) -> list[Path]:
        """The ledgers of the whole pipeline and of all its shards, as far as they are there."""
        whole = replace(self, shard=None).ledger_path
        shards = sorted(
            each for each in whole.parent.glob(f"{glob.escape(self.name)}.shard-*-of-*.ledger") if SHARD.search(each.name)
        )
        return [whole, *shards] if whole.exists() else shards

    def of_shard(self, shard: Shard) -> Definition:
        """The same pipeline, limited to a part of its series."""
        return replace(self, shard=shard)

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
        if start > end:
            raise ConfigError(f"from ({moment(start)}) lies after to ({moment(end)}): nothing would be delivered")
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
        """A digest of everything that decides on the delivered data and their places: when it changes, earlier deliveries do not count."""
        parts = [f"{self.settings.window}"]
        parts += [
            f"{type(stage).__qualname__} {stage.model_dump_json()} {stage.fingerprint()}".rstrip() for stage in self.transforms
        ]
        parts += sorted(f"{type(sink).__qualname__} {sink.model_dump_json(include=set(sink.place))}" for sink in self.sinks)
        return sha256("\n".join(parts).encode()).hexdigest()[:16]


def _place(stage: Stage) -> dict[str, Any]:
    if isinstance(stage, Archives):
        return {name: _place(part) for name, part in stage.parts.items()}
    place: dict[str, Any] = stage.model_dump(mode="json", include=set(stage.place), exclude_none=True)
    return {"type": type(stage).__name__, **place}
