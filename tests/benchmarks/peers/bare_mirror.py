"""A bare loop that copies: reads a metadata's datapoints, PUTs them a thousand timestamps at a time, and reads them back.

python bare_mirror.py SOURCE-URL TARGET-URL KEY PAGE EVENT-TYPE...
"""

import json
import sys
from fractions import Fraction
from functools import cache
from typing import Any

import msgspec
import requests

URL, TARGET, KEY, PAGE, TYPES = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5:]
BULK, ROOT = 1000, "/esmond/perfsonar/archive/"


class Raw(msgspec.Struct, gc=False):
    ts: int
    val: msgspec.Raw


decode = msgspec.json.Decoder(list[Raw]).decode
session = requests.Session()
session.trust_env = False
session.headers["Authorization"] = f"Token {KEY}"
session.headers["Content-Type"] = "application/json"


def read(url: str) -> list[Raw]:
    found: list[Raw] = []
    start, length = 0, PAGE
    while length == PAGE:
        answer = session.get(f"{url}?time-start={start}&time-end=1999999999&limit={PAGE}", timeout=60)
        answer.raise_for_status()
        rows = decode(answer.content)
        length = len(rows)
        found += rows
        if rows:
            start = rows[-1].ts + 1
    return found


@cache
def fraction(val: bytes) -> bytes:
    """What a rate has to be written as; a rate of 600 packets is one of a few hundred."""
    return b'{"numerator":%d,"denominator":%d}' % Fraction(float(val)).limit_denominator(600).as_integer_ratio()


def post(entry: dict[str, Any]) -> str:
    left_out = ("url", "uri", "metadata-key", "metadata-count-total", "event-types")
    names = [{"event-type": each["event-type"]} for each in entry["event-types"] if each["event-type"] in TYPES]
    body = {**{name: value for name, value in entry.items() if name not in left_out}, "event-types": names}
    answer = session.post(TARGET + ROOT, json.dumps(body), timeout=60)
    answer.raise_for_status()
    key: str = answer.json()["metadata-key"]
    return key


for entry in json.loads(session.get(f"{URL}{ROOT}?limit=100000", timeout=60).text):
    key = post(entry)
    values: dict[int, list[bytes]] = {}
    sent: dict[str, int] = {}
    wanted = {each["event-type"]: each["base-uri"] for each in entry["event-types"] if each["event-type"] in TYPES}
    for name, uri in wanted.items():
        found = read(URL + uri)
        sent[name] = len(found)
        for row in found:
            val = fraction(bytes(row.val)) if name == "packet-loss-rate" else bytes(row.val)
            values.setdefault(row.ts, []).append(b'{"event-type":"%b","val":%b}' % (name.encode(), val))
    rows = [b'{"ts":%d,"val":[%b]}' % (ts, b",".join(values[ts])) for ts in sorted(values)]
    for first in range(0, len(rows), BULK):
        body = b'{"data":[%b]}' % b",".join(rows[first : first + BULK])
        answer = session.put(f"{TARGET}{ROOT}{key}/", body, timeout=60)
        if not answer.ok:
            sys.exit(f"{answer.url}: {answer.status_code} {answer.text[:500]}")
    for name, length in sent.items():
        if len(read(f"{TARGET}{ROOT}{key}/{name}/base")) != length:
            sys.exit(f"{key}/{name}: not all of it has arrived")
