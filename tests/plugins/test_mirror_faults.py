"""A target that fails, stalls, breaks off, restarts or lies: the copy is exact all the same, or the receipt says what is not."""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from esmond_etl_archive.samples import START, sample

from esmond_etl import IncompleteError, SinkError, StoppedError, load

pytestmark = pytest.mark.slow

DAY = 86400
NOTHING: dict[str, list[Any]] = {"data": []}


def record(metadata: dict[str, Any], **points: list[tuple[int, Any]]) -> dict[str, Any]:
    return {"metadata": metadata, "datapoints": {name.replace("_", "-"): rows for name, rows in points.items()}}


@pytest.fixture
def relay(serve: Any, answer: Any, mirror: Any) -> Callable[[Callable[[Any, Callable[[], Any]], Any]], str]:
    """Starts a server that has each request, and a way to pass it on to the target; returns its URL."""
    local = threading.local()

    def pass_on(asked: Any) -> Any:
        if not hasattr(local, "session"):
            local.session = requests.Session()
        headers = {name: asked.headers[name] for name in ("Authorization", "Content-Type") if name in asked.headers}
        url = mirror.target.url + asked.path
        real = local.session.request(asked.method, url, params=asked.query, data=asked.body, headers=headers)
        return answer(real.status_code, real.content)

    def start(respond: Callable[[Any, Callable[[], Any]], Any]) -> str:
        url: str = serve(lambda asked: respond(asked, lambda: pass_on(asked))).url
        return url

    return start


def is_data(asked: Any) -> bool:
    return bool(asked.method == "PUT" and json.loads(asked.body) != NOTHING)


Fault = Callable[[Any, Callable[[], Any], threading.Event], Any]


FAULTS: dict[str, Fault] = {
    "500 before it is stored": lambda answer, go, over: answer(500),
    "500 after it is stored": lambda answer, go, over: go() and answer(500),
    "502 of a gateway": lambda answer, go, over: go() and answer(502, b"<html>"),
    "503, come back at once": lambda answer, go, over: answer(503, headers={"Retry-After": "0"}),
    "429": lambda answer, go, over: answer(429),
    "closed before it is stored": lambda answer, go, over: answer(close=True),
    "closed after it is stored": lambda answer, go, over: go() and answer(close=True),
    "closed in the middle of the answer": lambda answer, go, over: go() and answer(201, b'"', length=10),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_when_every_write_fails_once_nothing_is_lost_or_doubled(mirror: Any, relay: Any, answer: Any, fault: str) -> None:
    mirror.load(*sample(days=1, hosts=2))
    seen: Counter[bytes] = Counter()
    over = threading.Event()

    def respond(asked: Any, go: Callable[[], Any]) -> Any:
        is_write = asked.method == "POST" or is_data(asked)
        seen[asked.body] += is_write
        return FAULTS[fault](answer, go, over) if is_write and seen[asked.body] == 1 else go()

    # what is cut anew after a failure is another request, which fails once, too
    receipt = mirror.run(relay(respond), timeout=1, retries=12)
    over.set()
    assert mirror.copy == mirror.original
    assert list(receipt.rejected) == []
    assert sum(seen.values()) > len(mirror.original)


@pytest.mark.timeout(1200)  # a mirror waits several times the longest request that it has seen: long, on a busy machine
@pytest.mark.parametrize("fault", ["500 after it is stored", "closed after it is stored", "closed before it is stored"])
def test_when_a_third_of_all_requests_fail_nothing_is_lost_or_doubled(mirror: Any, relay: Any, answer: Any, fault: str) -> None:
    mirror.load(*sample(days=1, hosts=3))
    # each third one would be the same of three that take turns
    lock, dice, over = threading.Lock(), random.Random(3), threading.Event()

    def respond(asked: Any, go: Callable[[], Any]) -> Any:
        with lock:
            fails = dice.random() < 1 / 3
        return FAULTS[fault](answer, go, over) if fails else go()

    receipt = mirror.run(relay(respond), timeout=1, retries=12)
    assert mirror.copy == mirror.original
    assert list(receipt.rejected) == []


@contextmanager
def serving(file: Path, port: int, token: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """An archive in a process of its own, and its URL."""
    command = [sys.executable, "-m", "esmond_etl_archive", "serve", str(file), "--port", str(port), "--token", token]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    assert started.stdout
    try:
        yield started, started.stdout.readline().split()[-1].partition("/esmond")[0]
    finally:
        started.kill()
        started.wait()
        started.stdout.close()


@pytest.mark.parametrize("request_number", [1, 3, 8, 14])
def test_a_target_that_is_killed_and_starts_again_has_everything_once(
    mirror: Any, relay: Any, answer: Any, tmp_path: Path, request_number: int
) -> None:
    mirror.load(*sample(days=2, hosts=3))
    file, lock, count = tmp_path / "killed.db", threading.Lock(), 0
    with ExitStack() as stack:
        process, url = stack.enter_context(serving(file, 0, mirror.target.token))
        mirror.target.url, port = url, int(url.rpartition(":")[2])

        def respond(asked: Any, go: Callable[[], Any]) -> Any:
            nonlocal count
            with lock:
                count += 1
                if count == request_number:
                    threading.Timer(0.01, process.kill).start()  # while the request is at work
                    with suppress(requests.RequestException):
                        go()
                    process.wait()
                    stack.enter_context(serving(file, port, mirror.target.token))
                    return answer(close=True)
            try:
                return go()
            except requests.RequestException:
                return answer(close=True)

        receipt = mirror.run(relay(respond), retries=8)
        assert count > request_number
        assert list(receipt.rejected) == []
        assert mirror.copy == mirror.original


def conflicting(mirror: Any, rows: int = 40) -> Callable[[Any], None]:
    """Loads a series of counts and one of histograms; what is returned gets in the way of the first write of the counts."""
    counts = [(START + 60 * row, 600 + row) for row in range(rows)]
    histograms = [(START + 60 * row, {"10": row + 1}) for row in range(rows)]
    metadata = mirror.metadata("packet-count-sent", "histogram-owdelay", "packet-reorders")
    mirror.load(record(metadata, packet_count_sent=counts, histogram_owdelay=histograms, packet_reorders=counts))
    done = threading.Event()

    def get_in_the_way(asked: Any) -> None:
        if is_data(asked) and b"packet-count-sent" in asked.body and not done.is_set():
            done.set()
            values = [{"ts": counts[5][0], "val": counts[5][1]}, {"ts": counts[20][0], "val": 99}]
            data = [{"ts": each["ts"], "val": [{"event-type": "packet-count-sent", "val": each["val"]}]} for each in values]
            url = mirror.target.url + asked.path
            requests.put(url, json={"data": data}, headers={"Authorization": f"Token {mirror.target.token}"}).raise_for_status()

    return get_in_the_way


def assert_all_but_one_arrived(mirror: Any, receipt: Any, rows: int = 40) -> None:
    [rejected] = receipt.rejected
    shown = (rejected.series.event_type, rejected.ts, rejected.val, rejected.reason)
    assert shown == ("packet-count-sent", START + 1200, "620", "the archive holds 99 at that time")
    assert (receipt.written, receipt.unchanged) == (3 * rows - 2, 1)
    [copy], [original] = mirror.copy.values(), mirror.original.values()
    expected = {
        **original,
        "packet-count-sent/base": [(ts, 99.0 if val == 620 else val) for ts, val in original["packet-count-sent/base"]],
    }
    for window in (3600, DAY):
        summed = [(ts, total + 99 - 620) for ts, total in original[f"packet-count-sent/aggregation/{window}"]]
        expected[f"packet-count-sent/aggregation/{window}"] = summed
    differs = {name for name in expected if copy[name] != expected[name] and "average" not in name}
    assert differs == set()


def test_a_conflict_in_the_middle_of_a_request_loses_nothing_after_it(mirror: Any, relay: Any) -> None:
    get_in_the_way = conflicting(mirror)

    def respond(asked: Any, go: Callable[[], Any]) -> Any:
        get_in_the_way(asked)
        return go()

    assert_all_but_one_arrived(mirror, mirror.run(relay(respond)))


class Withholding:
    """Answers PUTs as esmond does: what stands before a conflict, or before a failure, shows only after the next write."""

    def __init__(self, mirror: Any, answer: Any) -> None:
        self.mirror, self.answer = mirror, answer
        self.withheld: list[Any] = []
        self.failing: set[tuple[str, int]] = set()
        self.lock = threading.Lock()

    def put(self, asked: Any) -> Any:
        with self.lock:
            url = self.mirror.target.url + asked.path
            for item in json.loads(asked.body)["data"]:
                for value in item["val"]:
                    name, ts = value["event-type"], item["ts"]
                    at = requests.get(f"{url}{name}/base", params={"time-start": ts, "time-end": ts}).json()
                    if at and not name.startswith("histogram"):
                        detail = f"Time series value already exists with event type {name} at time {ts}"
                        return self.answer(409, json.dumps({"detail": detail}).encode())
                    if (name, ts) in self.failing:
                        return self.answer(500, b"<html>")
                    self.withheld.append({"ts": ts, "val": [value]})
            real = requests.put(url, json={"data": self.withheld}, headers={"Authorization": f"Token {self.mirror.target.token}"})
            assert real.status_code == 201, real.text
            self.withheld = []
            return self.answer(201, b'""')


def test_what_esmond_withholds_after_a_conflict_is_not_sent_again(mirror: Any, relay: Any, answer: Any) -> None:
    get_in_the_way = conflicting(mirror)
    esmond = Withholding(mirror, answer)

    def respond(asked: Any, go: Callable[[], Any]) -> Any:
        get_in_the_way(asked)
        return esmond.put(asked) if asked.method == "PUT" else go()

    assert_all_but_one_arrived(mirror, mirror.run(relay(respond)))
    assert esmond.withheld == []


def test_a_datapoint_on_which_the_target_always_fails_is_rejected_and_the_others_arrive(
    mirror: Any, relay: Any, answer: Any
) -> None:
    histograms = [(START + 60 * row, {"10": row + 1}) for row in range(50)]
    counts = [(START + 60 * row, row) for row in range(50)]
    mirror.load(record(mirror.metadata("histogram-rtt", "packet-count-sent"), histogram_rtt=histograms, packet_count_sent=counts))
    esmond = Withholding(mirror, answer)
    esmond.failing = {("histogram-rtt", START + 600), ("packet-count-sent", START + 1200)}

    receipt = mirror.run(relay(lambda asked, go: esmond.put(asked) if asked.method == "PUT" else go()))
    rejected = sorted((each.series.event_type, each.ts, each.val) for each in receipt.rejected)
    assert rejected == [("histogram-rtt", START + 600, '{"10":11}'), ("packet-count-sent", START + 1200, "20")]
    assert all("status 500" in each.reason for each in receipt.rejected)
    [copy], [original] = mirror.copy.values(), mirror.original.values()
    assert copy["histogram-rtt/base"] == [point for point in original["histogram-rtt/base"] if point[0] != START + 600]
    assert copy["histogram-rtt/aggregation/86400"] == [(START, {"10": 50 * 51 // 2 - 11})]
    assert copy["packet-count-sent/base"] == [point for point in original["packet-count-sent/base"] if point[0] != START + 1200]
    assert copy["packet-count-sent/aggregation/86400"] == [(START, 49 * 50 / 2 - 20)]


def test_a_201_that_stored_nothing_is_found_out_and_sent_again(mirror: Any, relay: Any, answer: Any) -> None:
    mirror.load(record(mirror.metadata("histogram-ttl"), histogram_ttl=[(START + row, {"59": row}) for row in range(10)]))
    lies = iter([True, True])

    def respond(asked: Any, go: Callable[[], Any]) -> Any:
        return answer(201, b'""') if is_data(asked) and next(lies, False) else go()

    assert mirror.run(relay(respond), timeout=1).written == 10
    assert mirror.copy == mirror.original


def test_a_201_that_never_stores_anything_is_a_reject_in_the_end(mirror: Any, relay: Any, answer: Any) -> None:
    mirror.load(record(mirror.metadata("throughput"), throughput=[(START, 1), (START + 1, 2)]))
    receipt = mirror.run(relay(lambda asked, go: answer(201, b'""') if is_data(asked) else go()), timeout=1, retries=2)
    assert receipt.written == 0
    assert [(each.ts, each.reason) for each in sorted(receipt.rejected, key=lambda each: each.ts)] == [
        (START, "the archive answers 201 but does not store it"),
        (START + 1, "the archive answers 201 but does not store it"),
    ]


def test_a_target_that_is_down_is_a_sink_error_that_names_it(mirror: Any, relay: Any, answer: Any) -> None:
    mirror.load(record(mirror.metadata("throughput"), throughput=[(START, 1)]))
    url = relay(lambda asked, go: answer(503))
    with pytest.raises(SinkError, match=rf"POST {url}esmond/perfsonar/archive/: status 503"):
        mirror.run(url, retries=2)


def test_a_target_that_goes_down_halfway_is_made_whole_by_the_next_run(mirror: Any, relay: Any, answer: Any) -> None:
    mirror.load(*sample(days=2, hosts=3))
    puts, lock = 0, threading.Lock()

    def respond(asked: Any, go: Callable[[], Any]) -> Any:
        nonlocal puts
        with lock:
            puts += is_data(asked)
            down = puts > 4
        return answer(close=True) if down else go()

    with pytest.raises(SinkError):
        mirror.run(relay(respond), timeout=1, retries=1)
    assert mirror.copy != mirror.original
    mirror.run()
    assert mirror.copy == mirror.original


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_target_that_forbids_writing_is_asked_once(mirror: Any, relay: Any, answer: Any, status: int) -> None:
    mirror.load(record(mirror.metadata("throughput"), throughput=[(START, 1)]))
    asked_for: list[str] = []

    def respond(asked: Any, go: Callable[[], Any]) -> Any:
        asked_for.append(asked.method)
        return answer(status, b'{"detail": "No."}')

    with pytest.raises(SinkError, match=f"status {status}: No."):
        mirror.run(relay(respond))
    assert asked_for == ["POST"]


def test_told_to_stop_it_stops_between_requests_and_the_next_run_makes_it_whole(mirror: Any, relay: Any) -> None:
    mirror.load(*sample(days=2, hosts=3))
    with mirror.reading() as source, mirror.sink() as probe:
        stop = probe._archive.stop

    def respond(asked: Any, go: Callable[[], Any]) -> Any:
        passed_on = go()
        if is_data(asked):
            stop.set()
        return passed_on

    with mirror.reading() as source, mirror.sink(relay(respond), source=source) as sink:
        sink._archive.stop = stop
        with pytest.raises((StoppedError, SinkError)):
            mirror.deliver(source, sink, mirror.time)
    mirror.run()
    assert mirror.copy == mirror.original


def test_after_a_process_has_died_what_it_sent_last_is_waited_for(mirror: Any) -> None:
    """The target is still at work on a request whose sender is gone: sending it again would double its histograms."""
    histograms = [(START + row, {"59": row + 1}) for row in range(10)]
    metadata = mirror.metadata("histogram-ttl")
    mirror.load(record(metadata, histogram_ttl=histograms))
    headers = {"Authorization": f"Token {mirror.target.token}"}
    key = requests.post(mirror.target.archive_url, json=metadata, headers=headers).json()["metadata-key"]
    data = [{"ts": ts, "val": [{"event-type": "histogram-ttl", "val": val}]} for ts, val in histograms]
    put = threading.Timer(0.4, lambda: requests.put(f"{mirror.target.archive_url}{key}/", json={"data": data}, headers=headers))
    mirror.memory["in-flight:gone"] = json.dumps({"host": "another-host", "parent": 1, "since": {key: time.time()}})
    put.start()
    receipt = mirror.run()
    put.join()
    assert receipt.written + receipt.unchanged == 10
    assert mirror.copy == mirror.original


PIPELINE = """
name = "dead"
from = {start}
to = {end}
[source]
type = "esmond"
url = "{source}"
[[sink]]
type = "esmond"
url = "{target}"
api_key = "no-such-key"
retries = 0
"""


@pytest.mark.parametrize("target", ["dead", "refusing"])
def test_nothing_is_read_for_a_target_that_is_not_there_or_refuses_the_key(mirror: Any, tmp_path: Path, target: str) -> None:
    url = "http://127.0.0.1:1/" if target == "dead" else mirror.target.url
    mirror.load({"metadata": mirror.metadata("failures"), "datapoints": {"failures": [(START, {})]}})
    file = tmp_path / "dead.toml"
    file.write_text(PIPELINE.format(start=START, end=START + 86400, source=mirror.source.url, target=url))
    before = mirror.source.requests.copy()
    with pytest.raises(IncompleteError, match="refused" if target == "dead" else "401"):
        load(file).run()
    assert (mirror.source.requests - before).total() == 1  # the list
