"""Measurements made by a seeded generator, as the texts that an archive would answer with."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple

NUMBERS: Final = ("throughput", "packet-count-sent", "packet-loss-rate", "packet-retransmits")
HISTOGRAMS: Final = ("histogram-owdelay",)

#: The event types of one test of one-way latency, of which each result has one datapoint.
LATENCY: Final = ("histogram-owdelay", "packet-count-sent", "packet-count-lost", "packet-loss-rate", "time-error-estimates")

#: When the measurements begin: 2014-04-13T20:40:00Z.
START: Final = 1397421600

ROOT: Final = "/esmond/perfsonar/archive/"


class Size(NamedTuple):
    """How much an archive holds."""

    metadata: int
    numbers: int  #: datapoints a series, on average
    histograms: int = 0


@dataclass(frozen=True)
class Texts:
    """One series: its datapoints one after the other, and where each of them begins."""

    ts: array[int]
    text: bytes
    places: array[int]  #: one more than there are datapoints

    @classmethod
    def of(cls, ts: Sequence[int], values: Sequence[str]) -> Texts:
        """The texts of datapoints."""
        points = [f'{{"ts": {each}, "val": {value}}}, ' for each, value in zip(ts, values, strict=True)]
        places = array("q", [0])
        end = 0
        for point in points:
            end += len(point)
            places.append(end)
        return cls(array("q", ts), "".join(points).encode(), places)

    def page(self, start: int, end: int, limit: int) -> bytes:
        """At most `limit` datapoints from `start` to `end`, both included, as an archive answers."""
        first = bisect_left(self.ts, start)
        last = min(bisect_left(self.ts, end + 1, first), first + limit)
        return b"[%b]" % self.text[self.places[first] : self.places[last] - 2] if last > first else b"[]"


def key_of(number: int) -> str:
    """The key of a metadata."""
    return f"{Random(number).getrandbits(128):032x}"


def entry(number: int, names: Sequence[str], updated: int = START) -> bytes:
    """One entry of the list of metadata, without its opening brace."""
    uri = f"{ROOT}{key_of(number)}/"
    return json.dumps(
        {
            "url": uri,
            "metadata-key": key_of(number),
            "uri": uri,
            "subject-type": "point-to-point",
            "source": f"10.{number // 65536}.{number // 256 % 256}.{number % 256}",
            "destination": f"10.{100 + number // 65536}.{number // 256 % 256}.{number % 256}",
            "measurement-agent": f"10.{number // 65536}.{number // 256 % 256}.{number % 256}",
            "input-source": f"ps-{number}.example.org",
            "input-destination": f"ps-{number * 7}.example.net",
            "tool-name": "powstream" if number % 2 else "bwctl/iperf3",
            "ip-transport-protocol": "tcp",
            "time-duration": "30",
            "time-interval": "21600",
            "event-types": [
                {"base-uri": f"{uri}{name}/base", "event-type": name, "summaries": [], "time-updated": updated} for name in names
            ],
        }
    ).encode()[1:]


def series(size: Size, seed: int = 7) -> Iterator[tuple[str, str, Texts]]:
    """Every series as (metadata key, event type, texts); no two are equally long, and all together are what `size` says."""
    rng = Random(seed)
    pools = _pools(rng, size)
    for number in range(size.metadata):
        key, odd = key_of(number), number % 7 - 3 if number < size.metadata // 7 * 7 else 0
        for name, pool in pools.items():
            length = (size.histograms if name in HISTOGRAMS else size.numbers) + odd
            ts = [START + 60 * row + late for row, late in enumerate(rng.choices(range(30), k=length), 1)]
            yield key, name, Texts.of(ts, rng.choices(pool, k=length))


def results(size: Size, seed: int = 7) -> Iterator[tuple[str, str, Texts]]:
    """Every series of tests of one-way latency: `size.numbers` results each, once a minute, as (metadata key, event type, texts)."""
    rng = Random(seed)
    clock = [repr(rng.randrange(1, 400) / 1000) for _ in range(400)]
    counts = {name: ["600"] * 9 + ["599"] for name in LATENCY[1:2]} | {name: ["0"] * 9 + ["1"] for name in LATENCY[2:3]}
    pools = {
        LATENCY[0]: [_histogram(rng, 40) for _ in range(5000)],
        **counts,
        LATENCY[3]: ["0.0"] * 9 + [repr(1 / 600)],
        LATENCY[4]: clock,
    }
    for number in range(size.metadata):
        ts = [START + 60 * row for row in range(1, size.numbers + 1)]
        for name, pool in pools.items():
            yield key_of(number), name, Texts.of(ts, rng.choices(pool, k=size.numbers))


def _pools(rng: Random, size: Size) -> dict[str, list[str]]:
    pools = {
        "throughput": [repr(float(rng.randrange(4_000_000, 9_999_999) * 1000)) for _ in range(50_000)],
        "packet-count-sent": ["600.0"] * 9 + [repr(float(rng.randrange(600)))],
        "packet-loss-rate": ["0.0"] * 70 + [repr(rng.randrange(1, 50) / 600) for _ in range(30)],
        "packet-retransmits": [repr(float(rng.randrange(7))) for _ in range(100)],
    }
    if size.histograms:
        pools["histogram-owdelay"] = [_histogram(rng) for _ in range(5000)]
    return pools


def _histogram(rng: Random, most: int = 200) -> str:
    first, buckets = rng.randrange(50, 2000), rng.randrange(10, most + 1)
    return "{" + ", ".join(f'"{(first + each) / 10}": {rng.randrange(1, 60)}' for each in range(buckets)) + "}"
