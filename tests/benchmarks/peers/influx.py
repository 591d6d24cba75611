"""Numbers into an InfluxDB write endpoint with influxdb-client, in batches of 5000.

python influx.py points|joined SOURCE-URL TARGET-URL PAGE EVENT-TYPE...: `Point` objects and the client's own batching, or lines joined
by hand and given to the client as one text a batch.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

import influxdb_client
import msgspec
import requests
from influxdb_client import Point, WriteOptions, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS

HOW, URL, TARGET, PAGE, TYPES = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5:]
BATCH = 5000
FIELDS = ["metadata-key", "source", "destination", "measurement-agent", "tool-name", "input-source", "input-destination"]


class Number(msgspec.Struct, gc=False):
    ts: int
    val: float


decode = msgspec.json.Decoder(list[Number]).decode
session = requests.Session()
session.trust_env = False


def pages(uri: str) -> Iterator[list[Number]]:
    start, length = 0, PAGE
    while length == PAGE:
        rows = decode(session.get(f"{URL}{uri}?time-start={start}&time-end=1999999999&limit={PAGE}", timeout=60).content)
        length = len(rows)
        if rows:
            start = rows[-1].ts + 1
            yield rows


def all_pages() -> Iterator[tuple[str, dict[str, str], list[Number]]]:
    for each in json.loads(session.get(f"{URL}/esmond/perfsonar/archive/?limit=100000", timeout=60).text):
        tags = {field.replace("-", "_"): each[field] for field in FIELDS}
        for event_type in each["event-types"]:
            if event_type["event-type"] in TYPES:
                for rows in pages(event_type["base-uri"]):
                    yield event_type["event-type"].replace("-", "_"), tags, rows


def points(client: Any) -> None:
    with client.write_api(write_options=WriteOptions(batch_size=BATCH, flush_interval=10_000)) as api:
        for name, tags, rows in all_pages():
            for row in rows:
                point = Point(name).field("value", row.val).time(row.ts, WritePrecision.S)
                for tag, value in tags.items():
                    point = point.tag(tag, value)
                api.write("bucket", record=point, write_precision=WritePrecision.S)


def joined(client: Any) -> None:
    api = client.write_api(write_options=SYNCHRONOUS)
    lines: list[str] = []
    for name, tags, rows in all_pages():
        head = ",".join([name, *(f"{tag}={value}" for tag, value in tags.items())])
        lines += [f"{head} value={row.val!r} {row.ts}" for row in rows]
        while len(lines) >= BATCH:
            api.write("bucket", record="\n".join(lines[:BATCH]), write_precision=WritePrecision.S)
            del lines[:BATCH]
    if lines:
        api.write("bucket", record="\n".join(lines), write_precision=WritePrecision.S)


with influxdb_client.InfluxDBClient(TARGET, "token", org="org") as connected:
    {"points": points, "joined": joined}[HOW](connected)
