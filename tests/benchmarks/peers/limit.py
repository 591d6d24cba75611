"""What the parts of a run would take if nothing but the work of the machine were left: python limit.py URL OUT EVENT-TYPE...

URL is an archive that a run has just moved into the Parquet tree OUT. Prints a JSON object: part -> CPU seconds.
"""

import json
import re
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

PAGE: Final = 10_000
LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
WRITTEN: Final = {"compression": "zstd", "compression_level": 1, "write_statistics": ["ts", "metadata_key"]}


class Number(msgspec.Struct, gc=False):
    ts: int
    val: float


def fetched(connection: socket.socket, target: str) -> bytearray:
    """The body of an answer, with no more than the calls of the system that it takes."""
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head = bytearray()
    while b"\r\n\r\n" not in head:
        head += connection.recv(65536)
    start = head.index(b"\r\n\r\n") + 4
    length = int(LENGTH.search(head)[1])  # type: ignore[index]
    body = bytearray(length)
    body[: len(head) - start] = head[start:]
    view, done = memoryview(body), len(head) - start
    while done < length:
        done += connection.recv_into(view[done:])
    return body


def pages(connection: socket.socket, types: list[str]) -> Iterator[bytearray]:
    """All pages that a run reads."""
    for entry in json.loads(fetched(connection, "/esmond/perfsonar/archive/?limit=100000")):
        for each in entry["event-types"]:
            start = 0
            while each["event-type"] in types:
                body = fetched(connection, f"{each['base-uri']}?time-start={start}&time-end=1999999999&limit={PAGE}")
                yield body
                if body.count(b"ts") < PAGE:
                    break
                start = int(body[body.rindex(b'"ts"') + 5 :].split(b",")[0]) + 1


def timed(act: Callable[[], Any]) -> float:
    """The CPU seconds of an act: the least of three."""
    found = []
    for _ in range(3):
        since = time.process_time()
        act()
        found.append(time.process_time() - since)
    return min(found)


def write(tables: list[pa.Table], folder: str) -> None:
    """All columns into files, by the library alone."""
    for number, table in enumerate(tables):
        names = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
        encodings = {"ts": "DELTA_BINARY_PACKED", "val": "PLAIN"}
        pq.write_table(table, Path(folder, f"{number}.parquet"), use_dictionary=names, column_encoding=encodings, **WRITTEN)


def record(folder: str, tasks: int) -> None:
    """A durable transaction a task."""
    db = sqlite3.connect(Path(folder, "ledger.db"), isolation_level=None)
    db.execute("pragma journal_mode = wal")
    db.execute("pragma synchronous = full")
    db.execute("create table if not exists done (task integer, note text)")
    for task in range(tasks):
        db.execute("insert into done values (?, ?)", (task, "x" * 1000))
    db.close()


def main() -> None:
    url, out, types = urlsplit(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    connection = socket.create_connection((url.hostname, url.port))
    bodies = list(pages(connection, types))
    tables = [pq.ParquetFile(path).read() for path in sorted(out.glob("event_type=*/**/*.parquet"))]
    columns = [table.column(name).combine_chunks().buffers()[1] for table in tables for name in ("ts", "val")]
    decode = msgspec.json.Decoder(list[Number]).decode
    with TemporaryDirectory() as folder:
        found = {
            "fetch": timed(lambda: [None for _ in pages(connection, types)]),
            "decode: msgspec, into objects": timed(lambda: [len(decode(body)) for body in bodies]),
            "decode: one pass over the text": timed(lambda: [body.count(b"},") for body in bodies]),
            "columns: a copy": timed(lambda: [bytes(column) for column in columns]),
            "digest: sha256 over the columns": timed(lambda: [sha256(column).digest() for column in columns]),
            "sink: Arrow's Parquet writer": timed(lambda: write(tables, folder)),
            "ledger: a durable transaction a day": timed(lambda: record(folder, 9)),
        }
    print(json.dumps({**found, "text, MB": sum(map(len, bodies)) / 1e6}))


if __name__ == "__main__":
    main()
