"""The files that `esmond-etl verify` writes: every difference, and receipts."""

from __future__ import annotations

import csv
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from esmond_etl import __version__, cli
from esmond_etl.cli import show
from esmond_etl.model.errors import ConfigError

if TYPE_CHECKING:
    from esmond_etl.engine.delivery import Delivery
    from esmond_etl.engine.verify import Compared, Difference, Piece

_COLUMNS = ("metadata_key", "event_type", "summary", "target", "kind", "ts", "source", "sink")


@contextmanager
def differences(path: Path | None) -> Iterator[Callable[[Compared, Difference], None] | None]:
    """A writer of differences to a file, as JSON lines or CSV by its suffix; None without a file."""
    if path is None:
        yield None
        return
    lock = threading.Lock()
    with show.writing(path), path.open("w", newline="", encoding="utf-8") as file:
        write = csv.writer(file).writerow
        if path.suffix == ".csv":
            write(_COLUMNS)

        def told(compared: Compared, difference: Difference) -> None:
            row = (*compared.series, compared.sink, *difference)
            with lock:
                if path.suffix == ".csv":
                    write([each if isinstance(each, str | int) else json.dumps(each) for each in row])
                else:
                    file.write(json.dumps(dict(zip(_COLUMNS, row, strict=True))) + "\n")

        yield told


def write(path: Path, delivery: Delivery, pieces: list[Piece], facts: dict[str, Any]) -> None:
    """Write a receipt: what was compared, and what each sink held."""
    definition = delivery.definition
    receipt = {
        "format": 1,
        "made": int(time.time()),
        "version": __version__,
        **{name: value for name, value in facts.items() if name not in ("differing", "former")},
        "verdict": "the same" if not facts["differing"] else f"{len(facts['differing'])} series differ",
        "source": definition.source_place,
        "sinks": _held(delivery, pieces),
    }
    with show.writing(path):
        path.write_bytes(msgspec.json.format(msgspec.json.encode(receipt), indent=2) + b"\n")


def _held(delivery: Delivery, pieces: list[Piece]) -> list[dict[str, Any]]:
    """The content of each sink: series, datapoints by event type, and one digest of all."""
    from esmond_etl.engine.proof import holdings
    from esmond_etl.model.digest import Window, root

    found: dict[str, list[tuple[str, str, Window]]] = defaultdict(list)
    for label, series, measured, whole in holdings(delivery, pieces):
        found[label].append((series.event_type, measured, whole))
    places = dict(zip(delivery.definition.labels, delivery.definition.sink_places, strict=True))
    held = []
    for label, rows in found.items():
        counts: dict[str, int] = defaultdict(int)
        for event_type, _, whole in rows:
            counts[event_type] += whole.number
        digest = root((measured, whole) for _, measured, whole in rows)
        held.append({"sink": label, "place": places[label], "datapoints": dict(sorted(counts.items())), "root": digest})
    return held


def check(delivery: Delivery, path: Path, as_json: bool) -> int:
    """Print whether the sinks still match a receipt; returns the exit code."""
    from esmond_etl.engine import proof
    from esmond_etl.engine.verify import Piece
    from esmond_etl.model.interval import Interval, IntervalSet

    try:
        receipt = json.loads(path.read_text())
        interval = Interval(receipt["from"], receipt["to"])
        before = {each["sink"]: each for each in receipt["sinks"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: is not a receipt of esmond-etl: {error}") from None
    if "sample" in receipt:
        raise ConfigError(f"{path}: is of a sample, which cannot be checked again")
    series = list(delivery.stream.series(interval))
    chosen = proof.parted(series, *map(int, receipt["part"].split("/"))) if "part" in receipt else series
    now = {each["sink"]: each for each in _held(delivery, [Piece(each, IntervalSet.of([interval])) for each in chosen])}
    changed = [label for label, held in before.items() if now.get(label, {}).get("root") != held["root"]]
    if as_json:
        show.as_json({"receipt": str(path), "same": not changed, "changed": changed, "sinks": list(now.values())})
    for label, held in before.items() if not as_json else ():
        verdict = "holds what the receipt says" if label not in changed else _changes(held, now.get(label, {}))
        print(f"{label}: {verdict}")
    return cli.INCOMPLETE if changed else cli.DONE


def _changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    counts, present = before["datapoints"], now.get("datapoints", {})
    names = sorted(name for name in {*counts, *present} if counts.get(name, 0) != present.get(name, 0))
    said = ", ".join(f"{name} {counts.get(name, 0):,} then, {present.get(name, 0):,} now" for name in names)
    return f"differs from the receipt: {said or 'as many datapoints, but others'}"
