"""The way of the old client: one request after the other, an object a datapoint, a dictionary a row, a CSV file a series.

python old_client.py URL OUT PAGE EVENT-TYPE...
"""

import csv
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

FIELDS = ["source", "destination", "event_type", "timestamp", "date", "value"]
URL, OUT, PAGE, TYPES = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]


class DataPoint:
    """One datapoint."""

    def __init__(self, data: dict[str, Any]) -> None:
        self._data = data

    @property
    def ts(self) -> datetime:
        return datetime.fromtimestamp(self._data["ts"], UTC)

    @property
    def ts_epoch(self) -> int:
        return int(self._data["ts"])

    @property
    def val(self) -> Any:
        return self._data["val"]


def payload(uri: str) -> Iterator[DataPoint]:
    start, length = 0, PAGE
    while length == PAGE:
        params = {"time-start": start, "time-end": 1999999999, "limit": PAGE}
        rows = json.loads(requests.get(URL + uri, params=params, headers={"Accept": "application/json"}, timeout=60).text)
        length = len(rows)
        if rows:
            start = rows[-1]["ts"] + 1
        yield from map(DataPoint, rows)


OUT.mkdir(parents=True)
for each in json.loads(requests.get(f"{URL}/esmond/perfsonar/archive/?limit=100000", timeout=60).text):
    for event_type in each["event-types"]:
        name = event_type["event-type"]
        if name in TYPES:
            with (OUT / f"{each['source']}_{each['destination']}_{name}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, FIELDS)
                writer.writeheader()
                for point in payload(event_type["base-uri"]):
                    row = [each["source"], each["destination"], name, point.ts_epoch, point.ts.isoformat(), point.val]
                    writer.writerow(dict(zip(FIELDS, row, strict=True)))
