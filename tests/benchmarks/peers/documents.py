"""Results of one-way latency as documents of perfSONAR 5, into an OpenSearch.

python documents.py joined|bulk SOURCE-URL TARGET-URL PAGE: lines joined by hand and posted with requests, or dictionaries given to
`helpers.bulk` of opensearch-py. python documents.py scan TARGET-URL [FIELD...]: all documents, read with `helpers.scan`.
"""

import json
import sys
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

import msgspec
import requests
from opensearchpy import OpenSearch, helpers

STREAM = "pscheduler_esmond_latencybg"
NUMBERS = {
    "packet-count-sent": ("packets", "sent"),
    "packet-count-lost": ("packets", "lost"),
    "packet-loss-rate": ("packets", "loss"),
    "time-error-estimates": ("max_clock_error",),
}


class Number(msgspec.Struct, gc=False):
    ts: int
    val: float


class Histogram(msgspec.Struct, gc=False):
    ts: int
    val: dict[str, int]


session = requests.Session()
session.trust_env = False


def pages(url: str, page: int, kind: Any) -> Iterator[Any]:
    decode = msgspec.json.Decoder(list[kind]).decode
    start, length = 0, page
    while length == page:
        rows = decode(session.get(f"{url}?time-start={start}&time-end=1999999999&limit={page}", timeout=60).content)
        length = len(rows)
        if rows:
            start = rows[-1].ts + 1
            yield from rows


def statistics(histogram: dict[str, int]) -> tuple[list[float], list[int], dict[str, Any]]:
    """The buckets, their counts, and the statistics that perfSONAR's own documents have beside them."""
    pairs = sorted((float(bucket), count) for bucket, count in histogram.items())
    values, counts = [value for value, _ in pairs], [count for _, count in pairs]
    total, up_to = sum(counts), list(accumulate(counts))
    mean = sum(value * count for value, count in pairs) / total
    variance = sum(count * (value - mean) ** 2 for value, count in pairs) / total
    most = max(counts)
    found = {
        "min": values[0],
        "max": values[-1],
        "mean": mean,
        "mode": [value for value, count in pairs if count == most],
        "stddev": variance**0.5,
        "variance": variance,
    }
    for name, part in (("p_25", 0.25), ("median", 0.5), ("p_75", 0.75), ("p_95", 0.95)):
        found[name] = values[bisect_left(up_to, part * total)]
    return values, counts, found


def results(url: str, page: int) -> Iterator[tuple[dict[str, Any], int, dict[str, float], dict[str, int]]]:
    """The entry of the test, the time, the numbers and the histogram of each result."""
    for each in json.loads(session.get(f"{url}/esmond/perfsonar/archive/?limit=100000", timeout=60).text):
        uris = {event_type["event-type"]: url + event_type["base-uri"] for event_type in each["event-types"]}
        numbers: dict[int, dict[str, float]] = {}
        for name in NUMBERS:
            for row in pages(uris[name], page, Number):
                numbers.setdefault(row.ts, {})[name] = row.val
        for row in pages(uris["histogram-owdelay"], page, Histogram):
            yield each, row.ts, numbers[row.ts], row.val


def head(entry: dict[str, Any]) -> dict[str, Any]:
    source, destination = ({"ip": entry[name], "hostname": entry[f"input-{name}"]} for name in ("source", "destination"))
    return {
        "meta": {"observer": source, "source": source, "destination": destination},
        "pscheduler": {"tool": "powstream", "test_checksum": entry["metadata-key"], "duration": 30.0, "duration_seconds": 30.0},
        "test": {
            "type": "latencybg",
            "spec": {"schema": 1, "source": entry["input-source"], "dest": entry["input-destination"], "duration": "PT30S"},
        },
    }


def documents(url: str, page: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The id and the document of each result."""
    for entry, ts, numbers, histogram in results(url, page):
        start, end = (datetime.fromtimestamp(each, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for each in (ts, ts + 30))
        document = head(entry)
        document["@timestamp"] = start
        document["pscheduler"] |= {"start_time": start, "end_time": end, "added": start}
        values, counts, found = statistics(histogram)
        result = document["result"] = {"succeeded": True, "latency": {"histogram": {"values": values, "counts": counts}, **found}}
        result["packets"] = {path[-1]: numbers[name] for name, path in NUMBERS.items() if len(path) == 2}
        result["packets"]["received"] = numbers["packet-count-sent"] - numbers["packet-count-lost"]
        result["max_clock_error"] = numbers["time-error-estimates"]
        yield f"{entry['metadata-key']}-{ts}", document


def lines(url: str, page: int) -> Iterator[str]:
    """The same, joined by hand."""
    heads: dict[str, tuple[str, str, str]] = {}
    for entry, ts, numbers, histogram in results(url, page):
        key = entry["metadata-key"]
        if key not in heads:
            parts = head(entry)
            heads[key] = tuple(json.dumps(parts[name]) for name in ("meta", "pscheduler", "test"))  # type: ignore[assignment]
        meta, pscheduler, test = heads[key]
        start, end = (datetime.fromtimestamp(each, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for each in (ts, ts + 30))
        values, counts, found = statistics(histogram)
        sent, lost = numbers["packet-count-sent"], numbers["packet-count-lost"]
        yield (
            f'{{"create":{{"_index":"{STREAM}","_id":"{key}-{ts}"}}}}\n'
            f'{{"@timestamp":"{start}","meta":{meta},"test":{test},'
            f'"pscheduler":{pscheduler[:-1]},"start_time":"{start}","end_time":"{end}","added":"{start}"}},'
            f'"result":{{"succeeded":true,"latency":{{"histogram":{{"values":{values},"counts":{counts}}},"min":{found["min"]},'
            f'"max":{found["max"]},"mean":{found["mean"]},"mode":{found["mode"]},"stddev":{found["stddev"]},'
            f'"variance":{found["variance"]},"p_25":{found["p_25"]},"median":{found["median"]},"p_75":{found["p_75"]},'
            f'"p_95":{found["p_95"]}}},"packets":{{"sent":{sent},"lost":{lost},"loss":{numbers["packet-loss-rate"]},'
            f'"received":{sent - lost}}},"max_clock_error":{numbers["time-error-estimates"]}}}}}\n'
        )


def joined(source: str, target: str, page: int) -> None:
    portion: list[str] = []
    size = 0

    def post() -> None:
        answer = session.post(
            f"{target}/_bulk?filter_path=errors",
            "".join(portion).encode(),
            headers={"Content-Type": "application/json"},
            timeout=60,
        )
        assert not answer.json()["errors"]

    for line in lines(source, page):
        portion.append(line)
        size += len(line)
        if size > 5_000_000:
            post()
            portion, size = [], 0
    post()


def bulk(source: str, target: str, page: int) -> None:
    actions = (
        {"_op_type": "create", "_index": STREAM, "_id": name, "_source": document} for name, document in documents(source, page)
    )
    helpers.bulk(OpenSearch(target, timeout=60), actions, chunk_size=2000)


if __name__ == "__main__":
    if sys.argv[1] == "scan":
        client = OpenSearch(sys.argv[2], timeout=60)
        query = {"query": {"match_all": {}}, **({"_source": sys.argv[3:]} if sys.argv[3:] else {})}
        print(sum(1 for _ in helpers.scan(client, query, index="pscheduler_*", size=5000)))
    else:
        {"joined": joined, "bulk": bulk}[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4]))
