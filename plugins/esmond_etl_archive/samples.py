"""Plausible measurements between hosts that do not exist, the same ones for the same seed."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise, permutations
from random import Random
from typing import Any, NamedTuple

START = 1709510400  #: s; Monday, 2024-03-04

Datapoints = defaultdict[str, list[tuple[int, Any]]]

_DAY = 86400  # s
_SITES = ("aachen", "bergen", "caceres", "dublin")
_NETWORKS = ("192.0.2", "198.51.100", "203.0.113")
_ERRORS = (
    "Timeout – no answer from the other side after 35 s",
    "Zeitüberschreitung: Gegenstelle nicht erreichbar",
    "Délai dépassé, hôte injoignable : vérifiez le pare-feu",
    "接続がタイムアウトしました",
)
_DELAY_SUMMARIES = [
    {"summary-type": "statistics", "summary-window": 0},
    *({"summary-type": kind, "summary-window": w} for kind in ("aggregation", "statistics") for w in (3600, _DAY)),
]
_COUNT_SUMMARIES = [{"summary-type": "aggregation", "summary-window": window} for window in (3600, _DAY)]


class _Host(NamedTuple):
    number: int
    name: str
    v4: str
    v6: str

    def address(self, version: int) -> str:
        return self.v4 if version == 4 else self.v6


class _Pair(NamedTuple):
    source: _Host
    destination: _Host
    version: int  # of IP
    distance: float  # ms

    def metadata(self, tool: str, test: str, event_types: Sequence[Any], **parameters: Any) -> dict[str, Any]:
        source = self.source.address(self.version)
        return {
            "subject-type": "point-to-point",
            "source": source,
            "destination": self.destination.address(self.version),
            "measurement-agent": source,
            "tool-name": f"pscheduler/{tool}",
            "input-source": self.source.name,
            "input-destination": self.destination.name,
            "pscheduler-test-type": test,
            **{name.replace("_", "-"): value for name, value in parameters.items()},
            "event-types": [_declared(each) for each in event_types],
        }


def sample(seed: int = 1, start: int = START, days: int = 28, hosts: int = 4) -> Iterator[dict[str, Any]]:
    """Measurements as `load` takes them: throughput between all hosts, delay and paths along the chain of them, and one router.

    The last two hosts of the chain measure over IPv6. In the middle of the time, paths change.
    """
    known = [_host(number) for number in range(hosts)]
    chain = [_Pair(a, b, 6 if b is known[-1] else 4, _distance(a, b)) for a, b in pairwise(known)]
    for a, b in permutations(known, 2):
        yield _throughput(Random(f"{seed} throughput {a.name} {b.name}"), _Pair(a, b, 4, _distance(a, b)), start, days)
    for pair in chain:
        yield _delay(Random(f"{seed} delay {pair.source.name}"), pair, start, days)
        yield _paths(Random(f"{seed} path {pair.source.name}"), pair, start, days)
    yield _router(Random(f"{seed} router"), start, days)


def _host(number: int) -> _Host:
    site = _SITES[number] if number < len(_SITES) else f"site{number}"
    v4 = f"{_NETWORKS[number % 3]}.{10 + number // 3}"
    return _Host(number, f"ps-{site}.example.net", v4, f"2001:db8:{number + 1:x}::10")


def _distance(a: _Host, b: _Host) -> float:
    return 6.4 + 4.7 * abs(a.number - b.number) + 0.3 * min(a.number, b.number)


def _busy(ts: int) -> float:
    """How busy the network is, from 0 to 1: most on the afternoons of working days."""
    day = 0.5 - 0.5 * math.cos(2 * math.pi * ((ts % _DAY) / _DAY - 0.12))
    weekend = (ts // _DAY + 3) % 7 >= 5
    return day * (0.45 if weekend else 1)


def _times(random: Random, start: int, days: int, every: int) -> Iterator[int]:
    """Regular times, each a little late."""
    offset = random.randrange(every // 2)
    for ts in range(start + offset, start + days * _DAY, every):
        yield ts + random.randrange(every // 20)


def _throughput(random: Random, pair: _Pair, start: int, days: int) -> dict[str, Any]:
    average = [{"summary-type": "average", "summary-window": _DAY}]
    event_types = [
        ("throughput", average),
        "throughput-subintervals",
        "streams-throughput",
        "packet-retransmits",
        "packet-retransmits-subintervals",
        "streams-packet-retransmits",
        "failures",
    ]
    points: Datapoints = defaultdict(list)
    for ts in _times(random, start, days, 21600):
        if random.random() < 0.02:
            points["failures"].append((ts, {"error": random.choice(_ERRORS)}))
        else:
            _throughput_at(random, pair, ts, points)
    parameters = {"ip_transport_protocol": "tcp", "time_duration": 10, "bw_parallel_streams": 2, "time_probe_interval": 21600}
    return {"metadata": pair.metadata("iperf3", "throughput", event_types, **parameters), "datapoints": dict(points)}


def _throughput_at(random: Random, pair: _Pair, ts: int, points: Datapoints) -> None:
    best = 9.4e9 * (1 - 0.35 * _busy(ts)) * (1 - pair.distance / 200)
    seconds = [int(best * random.uniform(0.86, 1.0) * min(1.0, (i + 1) / 2)) for i in range(10)]
    lost = [random.choice((0, 0, 0, 4, 37)) if random.random() < 0.3 + 0.4 * _busy(ts) else 0 for _ in seconds]
    total, retransmits, share = sum(seconds) // 10, sum(lost), random.uniform(0.44, 0.56)
    points["throughput"].append((ts, total))
    points["throughput-subintervals"].append((ts, _subintervals(seconds)))
    points["streams-throughput"].append((ts, [int(total * share), total - int(total * share)]))
    points["packet-retransmits"].append((ts, retransmits))
    points["packet-retransmits-subintervals"].append((ts, _subintervals(lost)))
    points["streams-packet-retransmits"].append((ts, [retransmits // 2, retransmits - retransmits // 2]))


def _subintervals(seconds: Sequence[int]) -> list[dict[str, float]]:
    return [{"start": i, "duration": 1, "val": value} for i, value in enumerate(seconds)]


def _delay(random: Random, pair: _Pair, start: int, days: int) -> dict[str, Any]:
    event_types = [
        ("histogram-owdelay", _DELAY_SUMMARIES),
        "histogram-ttl",
        ("packet-count-sent", _COUNT_SUMMARIES),
        ("packet-count-lost", _COUNT_SUMMARIES),
        ("packet-loss-rate", _COUNT_SUMMARIES),
        "packet-duplicates",
        "packet-reorders",
        "time-error-estimates",
        "failures",
    ]
    points: Datapoints = defaultdict(list)
    for ts in range(start, start + days * _DAY, 300):
        if random.random() < 0.0005:
            points["failures"].append((ts, {"error": random.choice(_ERRORS)}))
        else:
            changed = ts >= start + days * _DAY // 2
            _delay_at(random, pair.distance + 3.2 * changed, 59 - changed, ts, points)
    parameters = {"ip_transport_protocol": "udp", "sample_size": 3000, "sample_bucket_width": "0.001", "ip_packet_interval": "0.1"}
    return {"metadata": pair.metadata("powstream", "latencybg", event_types, **parameters), "datapoints": dict(points)}


def _delay_at(random: Random, delay: float, ttl: int, ts: int, points: Datapoints) -> None:
    busy = _busy(ts)
    sent = 3000
    lost = int(random.expovariate(0.25)) if random.random() < 0.04 + 0.1 * busy else 0
    histogram = _histogram(random, delay, busy, sent - lost)
    points["histogram-owdelay"].append((ts, histogram))
    points["histogram-ttl"].append((ts, {str(ttl): sent - lost}))
    points["packet-count-sent"].append((ts, sent))
    points["packet-count-lost"].append((ts, lost))
    points["packet-loss-rate"].append((ts, {"numerator": lost, "denominator": sent}))
    points["packet-duplicates"].append((ts, int(random.random() < 0.002)))
    points["packet-reorders"].append((ts, int(random.random() < 0.01) * random.randrange(1, 9)))
    points["time-error-estimates"].append((ts, round(0.12 + 0.2 * random.random(), 4)))


def _histogram(random: Random, delay: float, busy: float, packets: int) -> dict[str, int]:
    """Packets by delay in ms: most with the shortest delay, the others in a tail that is longer when the network is busy."""
    at, left = delay + 0.05 * random.random(), packets
    counts: dict[str, int] = {}
    while left:
        here = min(left, int(left * (0.55 - 0.2 * busy)) + 1)
        counts[f"{at:.2f}"] = here
        left -= here
        at += 0.01 + 0.05 * busy * random.random() + (random.random() < 0.02) * 2.5
    return counts


def _paths(random: Random, pair: _Pair, start: int, days: int) -> dict[str, Any]:
    points: Datapoints = defaultdict(list)
    for ts in _times(random, start, days, 1200):
        changed = ts >= start + days * _DAY // 2
        points["packet-trace"].append((ts, [_hop(random, pair, ttl, changed) for ttl in range(1, 8 + changed)]))
        points["path-mtu"].append((ts, 9000 if not changed else 1500))
    event_types = ["packet-trace", "path-mtu", "failures"]
    metadata = pair.metadata("traceroute", "trace", event_types, trace_max_ttl=30, time_probe_interval=1200)
    return {"metadata": metadata, "datapoints": dict(points)}


def _hop(random: Random, pair: _Pair, ttl: int, changed: bool) -> dict[str, Any]:
    last = 7 + changed
    silent = ttl == 4 or random.random() < 0.01
    if silent and ttl != last:
        return {"ttl": ttl, "query": 1, "success": 0, "error-message": "requestTimedOut"}
    number = 64496 + (pair.source.number if ttl < 3 else pair.destination.number if ttl > last - 2 else 8 + changed)
    subnet = 100 + 8 * pair.source.number + (ttl if not changed else ttl + 40)
    router = f"198.51.100.{subnet}" if pair.version == 4 else f"2001:db8:ff:{subnet:x}::1"
    end = ttl == last
    return {
        "ttl": ttl,
        "query": 1,
        "success": 1,
        "ip": pair.destination.address(pair.version) if end else router,
        "hostname": pair.destination.name if end else f"r{subnet}.example.net",
        "rtt": round(2 * pair.distance * ttl / last + random.random(), 2),
        "as": {"number": number, "owner": f"EXAMPLE-{number}"},
    }


def _router(random: Random, start: int, days: int) -> dict[str, Any]:
    """The interface counter of a router: a network element, which has no destination."""
    metadata = {
        "subject-type": "network-element",
        "source": "203.0.113.1",
        "measurement-agent": "203.0.113.10",
        "tool-name": "pscheduler/snmpget",
        "input-source": "core.example.net",
        "pscheduler-test-type": "snmpget",
        "event-types": [_declared("pscheduler-raw"), _declared("failures")],
    }
    octets, points = 0, []
    for ts in range(start, start + days * _DAY, 3600):
        octets += int(4e11 * (0.2 + _busy(ts)) * random.uniform(0.9, 1.1))
        data = [{"oid": "1.3.6.1.2.1.31.1.1.1.6.1", "type": "Counter64", "value": str(octets)}]
        points.append((ts, {"succeeded": True, "time": "PT0.2S", "data": data}))
    return {"metadata": metadata, "datapoints": {"pscheduler-raw": points}}


def _declared(event_type: Any) -> dict[str, Any]:
    name, summaries = event_type if isinstance(event_type, tuple) else (event_type, [])
    return {"event-type": name, "summaries": summaries}
