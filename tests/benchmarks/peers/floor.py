"""The floor: an archive straight into Parquet, one event type and day a file; nothing is tried again, nothing remembered.

python floor.py URL OUT PAGE THREADS EVENT-TYPE...
"""

import json
import sys
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import requests

URL, OUT, PAGE, THREADS, TYPES = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:]
NAMES = ["metadata-key", "source", "destination", "measurement-agent", "tool-name", "input-source", "input-destination"]
TEXTS, TS, DAY, GROUP = pa.dictionary(pa.int32(), pa.string()), pa.timestamp("s", "UTC"), 86400, 65536


class Number(msgspec.Struct, gc=False):
    ts: int
    val: float


class Text(msgspec.Struct, gc=False):
    ts: int
    val: msgspec.Raw


NUMBERS, RAWS = msgspec.json.Decoder(list[Number]).decode, msgspec.json.Decoder(list[Text]).decode

session = requests.Session()
session.trust_env = False
adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=THREADS)
prepared = session.prepare_request(requests.Request("GET", URL + "/esmond/perfsonar/archive/", {"Accept": "application/json"}))


def get(target: str) -> bytes:
    request = prepared.copy()
    request.url = URL + target
    response = adapter.send(request, stream=True, timeout=60)
    response.raise_for_status()
    body: bytes = response.raw.read(decode_content=True)
    response.raw.release_conn()
    return body


def pages(uri: str, decode: Any) -> Iterator[tuple[array, Any]]:  # type: ignore[type-arg]
    start, length = 0, PAGE
    while length == PAGE:
        points = decode(get(f"{uri}?time-start={start}&time-end=1999999999&limit={PAGE}"))
        length = len(points)
        if points:
            start = points[-1].ts + 1
            yield array("q", [point.ts for point in points]), [point.val for point in points]


def column(type_: Any, values: array) -> Any:  # type: ignore[type-arg]
    return pa.Array.from_buffers(type_, len(values), [None, pa.py_buffer(values)])


def texts(values: Any) -> Any:
    ends = array("i", [0])
    for value in values:
        ends.append(ends[-1] + len(value))
    return pa.Array.from_buffers(pa.string(), len(values), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(values))])


class File:
    """Rows of one event type and day."""

    def __init__(self, name: str, day: int) -> None:
        self.numbers = not name.startswith("histogram")
        fields = [("ts", TS), ("val", pa.float64() if self.numbers else pa.string())]
        self.schema = pa.schema(fields + [(each.replace("-", "_"), TEXTS) for each in [*NAMES, "parameters"]])
        folder = Path(OUT, f"event_type={name}", f"date={day}")
        folder.mkdir(parents=True)
        keep = {"compression": "zstd", "compression_level": 1, "use_dictionary": self.schema.names[2:]}
        encodings = {"ts": "DELTA_BINARY_PACKED", "val": "PLAIN"}
        self.writer = pq.ParquetWriter(folder / "0.parquet", self.schema, column_encoding=encodings, **keep)
        self.clear()

    def clear(self) -> None:
        self.of, self.ts, self.val = array("i"), array("q"), array("d") if self.numbers else []

    def add(self, number: int, ts: array, val: Any) -> None:  # type: ignore[type-arg]
        self.of.extend(array("i", [number]) * len(ts))
        self.ts.extend(ts)
        self.val.extend(val)
        if len(self.ts) >= (GROUP if self.numbers else GROUP // 8):
            self.flush()

    def flush(self) -> None:
        of = column(pa.int32(), self.of)
        said = [pa.DictionaryArray.from_arrays(codes.take(of), values) for codes, values in subjects]
        val = column(pa.float64(), self.val) if isinstance(self.val, array) else texts(self.val)
        self.writer.write_batch(pa.RecordBatch.from_arrays([column(TS, self.ts), val, *said], schema=self.schema))
        self.clear()


def subject(values: list[str]) -> tuple[Any, Any]:
    """One of the columns that say what was measured: a code a metadata, and what the codes mean."""
    places = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return column(pa.int32(), array("i", [places[value] for value in values])), texts([value.encode() for value in places])


def read(job: tuple[int, str, str]) -> tuple[int, str, list[Any]]:
    return job[0], job[1], list(pages(job[2], NUMBERS if not job[1].startswith("histogram") else RAWS))


listed = json.loads(get("/esmond/perfsonar/archive/?limit=100000"))
subjects = [subject([each[name] for each in listed]) for name in NAMES]
subjects.append(subject([json.dumps({k: each[k] for k in each if k.startswith(("ip-", "time-"))}) for each in listed]))
jobs = [
    (n, e["event-type"], e["base-uri"]) for n, each in enumerate(listed) for e in each["event-types"] if e["event-type"] in TYPES
]
files: dict[str, dict[int, File]] = defaultdict(dict)
with ThreadPoolExecutor(THREADS) as pool:
    for number, name, found in map(read, jobs) if THREADS == 1 else pool.map(read, jobs):
        for ts, val in found:
            first = 0
            while first < len(ts):
                day = ts[first] // DAY
                last = bisect_left(ts, (day + 1) * DAY, first)
                file = files[name].get(day) or files[name].setdefault(day, File(name, day))
                file.add(number, ts[first:last], val[first:last])
                first = last
for file in (file for days in files.values() for file in days.values()):
    file.flush()
    file.writer.close()
