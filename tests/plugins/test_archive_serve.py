"""The embedded archive over HTTP, in this process and in one of its own that is killed."""

import http.client
import json
import os
import queue
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pytest
import requests
from esmond_etl_archive import Archive, Running
from esmond_etl_archive.search import Slice, Times

from esmond_etl.cli.group import run

pytestmark = pytest.mark.slow

TOKEN = "a token"
AUTH = {"Authorization": f"Token {TOKEN}"}
START = 1709510400
METADATA: dict[str, Any] = {
    "subject-type": "point-to-point",
    "source": "192.0.2.1",
    "destination": "198.51.100.1",
    "measurement-agent": "192.0.2.1",
    "tool-name": "pscheduler/powstream",
    "input-source": "a.example.net",
    "input-destination": "b.example.net",
    "event-types": [
        {"event-type": "packet-count-sent", "summaries": [{"summary-type": "aggregation", "summary-window": 86400}]},
        {"event-type": "histogram-ttl"},
    ],
}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with esmond_etl_archive.serve(tmp_path / "archive.db", token=TOKEN) as running:
        yield running


def post(running: Running, **changes: Any) -> requests.Response:
    return requests.post(running.archive_url, json=METADATA | changes, headers=AUTH)


def put(url: str, key: str, first: int, count: int) -> requests.Response:
    points = [{"ts": START + i, "val": [{"event-type": "packet-count-sent", "val": 1}]} for i in range(first, first + count)]
    return requests.put(f"{url}{key}/", json={"data": points}, headers=AUTH)


def keys(running: Running, **query: Any) -> list[str]:
    return [each["metadata-key"] for each in requests.get(running.archive_url, params=query).json()]


@contextmanager
def process(file: Path, *options: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A served archive in a process of its own, and the address of its list of metadata."""
    command = [sys.executable, "-m", "esmond_etl_archive", "serve", str(file), "--port", "0", "--token", TOKEN, *options]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    assert started.stdout
    try:
        yield started, started.stdout.readline().split()[-1]
    finally:
        started.kill()
        started.wait()
        started.stdout.close()


def test_a_page_of_ten_thousand_holds_each_point_as_it_was_written(running: Running) -> None:
    key = post(running).json()["metadata-key"]
    assert [put(running.archive_url, key, first, 1000).status_code for first in range(0, 12000, 1000)] == [201] * 12
    answer = requests.get(f"{running.archive_url}{key}/packet-count-sent/base", {"limit": 10000, "time-start": START + 5})
    assert answer.text == "[" + ",".join(f'{{"ts":{START + 5 + i},"val":1.0}}' for i in range(10000)) + "]"


def test_one_connection_serves_many_requests(running: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(running.url.rpartition(":")[2]))
    connection.connect()
    first = connection.sock
    for _ in range(3):
        connection.request("GET", "/esmond/perfsonar/archive/")
        assert connection.getresponse().read() == b"[]"
    connection.request("PUT", "/esmond/perfsonar/archive/x/", b"{}", AUTH | {"Content-Type": "application/json"})
    assert connection.getresponse().read() == b'{"detail":"Request must contain \'data\' element"}'
    assert connection.sock is first
    connection.close()


def test_requests_are_counted_by_method(running: Running) -> None:
    key = post(running).json()["metadata-key"]
    put(running.archive_url, key, 0, 1)
    requests.get(running.archive_url)
    requests.get(running.url + "/nowhere")
    assert running.requests == {"POST": 1, "PUT": 1, "GET": 2}


def test_it_stops_while_connections_are_open_and_nobody_answers_after(tmp_path: Path) -> None:
    with esmond_etl_archive.serve(tmp_path / "archive.db") as running:
        session = requests.Session()
        assert session.get(running.archive_url).json() == []
    with pytest.raises(requests.ConnectionError):
        requests.get(running.archive_url)
    session.close()


def test_the_archive_that_is_handed_over_stays_open(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive.db")
    for _ in range(2):
        with esmond_etl_archive.serve(archive, token=TOKEN) as running:
            key = post(running).json()["metadata-key"]
    assert archive.metadata(key).key == key
    archive.close()


def test_without_a_token_given_one_is_made_up(tmp_path: Path) -> None:
    with esmond_etl_archive.serve(tmp_path / "archive.db") as running:
        assert requests.post(running.archive_url, json=METADATA, headers={"Authorization": "Token "}).status_code == 401
        made_up = {"Authorization": f"Token {running.token}"}
        assert requests.post(running.archive_url, json=METADATA, headers=made_up).status_code == 201


def test_the_script_alias_may_be_another_or_none(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive.db")
    paths = []
    for alias in ("ma", ""):
        with esmond_etl_archive.serve(archive, token=TOKEN, script_alias=alias) as running:
            paths.append(post(running).json()["url"].removeprefix(running.url).rpartition("/archive/")[0])
            assert requests.get(running.url + "/esmond/perfsonar/archive/").status_code == 404
    assert paths == ["/ma/perfsonar", "/perfsonar"]
    archive.close()


def test_metadata_are_listed_by_key_and_paged(running: Running) -> None:
    made = sorted(post(running, number=i).json()["metadata-key"] for i in range(5))
    assert keys(running) == made
    assert keys(running, limit=2, offset=2) == made[2:4]
    assert keys(running, limit=0) == []
    answer = requests.get(running.archive_url, {"offset": "1", "limit": "2"})
    assert answer.links == {
        "next": {"url": f"{running.archive_url}?limit=2&offset=3", "rel": "next"},
        "prev": {"url": f"{running.archive_url}?limit=2", "rel": "prev"},
    }
    first, second = answer.json()
    assert {name: value for name, value in first.items() if name not in second} == {
        "metadata-count-total": 5,
        "metadata-previous-page": f"{running.archive_url}?limit=2",
        "metadata-next-page": f"{running.archive_url}?limit=2&offset=3",
    }


def test_at_most_1500_metadata_come_unasked(running: Running) -> None:
    from esmond_etl_archive.metadata import posted

    for i in range(1501):
        running.archive.add(posted(METADATA | {"number": i}))
    answer = requests.get(running.archive_url)
    assert len(answer.json()) == 1500
    assert answer.json()[0]["metadata-next-page"] == f"{running.archive_url}?limit=1500&offset=1500"


def test_ipv6_addresses_are_one_however_they_are_written(running: Running) -> None:
    answer = post(running, source="2001:DB8:0:0::1", destination="2001:db8::2").json()
    assert (answer["source"], answer["destination"]) == ("2001:db8::1", "2001:db8::2")
    assert keys(running, source="2001:db8:0::0:1") == [answer["metadata-key"]]
    assert keys(running, source="2001:db8::1", **{"dns-match-rule": "only-v6"}) == [answer["metadata-key"]]
    refused = requests.get(running.archive_url, {"source": "2001:db8::1", "dns-match-rule": "only-v4"})
    assert (refused.status_code, refused.json()) == (400, {"detail": "Unable to find address for host 2001:db8::1"})


def test_a_host_name_is_resolved_by_the_server(running: Running) -> None:
    key = post(running, source="127.0.0.1").json()["metadata-key"]
    assert keys(running, source="localhost") == [key]


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"source": "a.example.net"}, "The field 'source' must be an IP address, not 'a.example.net'"),
        ({"destination": None}, "The field 'destination' may not be null"),
        ({"subject-type": ["x"]}, "Invalid subject type ['x']"),
        ({"subject-type": "network-element"}, "A network-element subject has no destination"),
        ({"event-types": ["throughput"]}, "No event-type defined"),
        ({"event-types": [{"event-type": "throughput", "summaries": 3}]}, "summaries must be a list"),
    ],
)
def test_metadata_that_are_none_are_refused_with_a_reason(running: Running, changes: dict[str, Any], detail: str) -> None:
    answer = post(running, **changes)
    assert (answer.status_code, answer.json()) == (400, {"detail": detail})


def test_parameters_read_back_as_strings_and_with_dashes(running: Running) -> None:
    answer = post(running, some_flag=True, rate=1.5).json()
    assert (answer["some-flag"], answer["rate"]) == ("True", "1.5")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "nothing/", 404),
        ("GET", "nothing/throughput/", 200),
        ("GET", "nothing/throughput/base/", 200),
        ("GET", "nothing/throughput/medians", 400),
        ("GET", "nothing/throughput/averages/day", 400),
        ("HEAD", "", 200),
        ("PATCH", "nothing/", 405),
        ("POST", "nothing/throughput/", 405),
        ("GET", "a/b/c/d/e", 404),
    ],
)
def test_other_addresses_are_answered_in_json_too(running: Running, method: str, path: str, status: int) -> None:
    answer = requests.request(method, running.archive_url + path, headers=AUTH)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/json")
    if status >= 400:
        assert list(answer.json()) == ["detail"]


def test_metadata_of_another_media_type_are_refused(running: Running) -> None:
    answer = requests.post(running.archive_url, data="a=1", headers=AUTH | {"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()) == (415, {"detail": 'Unsupported media type "text/plain" in request.'})


def test_it_listens_on_ipv6(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with esmond_etl_archive.serve(tmp_path / "archive.db", host="::1") as running:
        assert running.url.startswith("http://[::1]:")
        assert requests.get(running.archive_url).json() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    with process(tmp_path / "archive.db", "--script-alias", "ma") as (server, url):
        assert requests.get(url).json() == []
        assert url.endswith("/ma/perfsonar/archive/")
        server.send_signal(number)
        assert server.communicate()[0] == ""
        assert server.returncode == 0


def test_the_command_says_in_a_sentence_that_it_cannot_listen(tmp_path: Path, running: Running) -> None:
    with process(tmp_path / "other.db", "--port", running.url.rpartition(":")[2]) as (server, _):
        said = server.communicate()[0]
        assert server.returncode == 2
        assert "Address already in use" in said
        assert "Traceback" not in said


def test_an_acknowledged_write_survives_kill_9(tmp_path: Path) -> None:
    file = tmp_path / "archive.db"
    acknowledged: set[int] = set()
    for life in range(10):
        with process(file) as (server, url):
            key = requests.post(url, json=METADATA, headers=AUTH).json()["metadata-key"]
            acknowledged |= write_until_killed(server, url, key, life * 100_000, after=3 + 7 * life)
        check_survival(file, key, acknowledged)


def write_until_killed(server: "subprocess.Popen[str]", url: str, key: str, first: int, after: int) -> set[int]:
    """The seconds whose writing was acknowledged, by four writers at once, until the server was killed."""
    done: queue.SimpleQueue[range] = queue.SimpleQueue()

    def write(mine: int) -> None:
        with suppress(requests.RequestException):
            for at in range(mine, mine + 20_000, 20):
                assert put(url, key, at, 20).status_code == 201
                done.put(range(at, at + 20))

    writers = [threading.Thread(target=write, args=(first + number * 20_000,)) for number in range(4)]
    for writer in writers:
        writer.start()
    acknowledged = {second for _ in range(after) for second in done.get()}
    server.kill()
    for writer in writers:
        writer.join()
    while not done.empty():
        acknowledged |= set(done.get())
    return acknowledged


def check_survival(file: Path, key: str, acknowledged: set[int]) -> None:
    """Every acknowledged second is there, requests are there whole, and summaries are of just what is there."""
    archive = Archive(file)

    def values(kind: str, window: int) -> dict[int, float]:
        page = archive.page(key, "packet-count-sent", kind, window, Times(), Slice(10**6, 0, True))
        return {point["ts"]: point["val"] for point in json.loads(page.json)}

    there, daily = values("base", 0), values("aggregation", 86400)
    archive.close()
    assert {START + second for second in acknowledged} <= there.keys()
    assert len(there) % 20 == 0
    assert sum(daily.values()) == len(there)


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("throughput/averages/99999999999999999999", 200, None),
        ("throughput/statistics/3600", 404, "Not found."),
        ("throughput/statistics", 404, "Not found."),
        ("histogram-owdelay/averages/86400", 404, "Not found."),
    ],
)
def test_summaries_that_cannot_be_there(running: Running, path: str, status: int, detail: str | None) -> None:
    key = post(running).json()["metadata-key"]
    answer = requests.get(f"{running.archive_url}{key}/{path}")
    assert (answer.status_code, answer.json()) == (status, {"detail": detail} if detail else [])


def test_more_filters_than_sqlite_takes_are_refused(running: Running) -> None:
    answer = requests.get(running.archive_url, params={f"p{n}": "x" for n in range(1500)})
    assert (answer.status_code, answer.json()["detail"]) == (400, "A request may have 100 parameters at most, not 1500")


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_json_that_is_nested_too_deep_is_refused(running: Running, method: str) -> None:
    key = post(running).json()["metadata-key"]
    url = running.archive_url + (f"{key}/" if method == "PUT" else "")
    headers = AUTH | {"Content-Type": "application/json"}
    answer = requests.request(method, url, data=b"[" * 100_000 + b"]" * 100_000, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["detail"]


def test_a_posted_parameter_replaces_nothing_that_the_archive_serves(running: Running) -> None:
    parameters = dict.fromkeys(("metadata_key", "event_types", "url", "uri", "subject_type", "tool_name"), "forged")
    served = post(running, **parameters).json()
    real = post(running).json()
    assert served["metadata-key"] in keys(running)
    assert served["metadata-key"] != real["metadata-key"]
    names = ("event-types", "url", "uri", "subject-type", "tool-name")
    expected = {name: real[name] for name in names}
    shown = {name: served[name] for name in names}
    assert json.loads(json.dumps(shown).replace(served["metadata-key"], real["metadata-key"])) == expected


@pytest.mark.parametrize("token", ["", "Token wrong"])
def test_who_may_not_write_sends_no_body(running: Running, token: str) -> None:
    """The answer comes while most of the body has not been sent."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as client:
        head = f"PUT /esmond/perfsonar/archive/k/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\nAuthorization: {token}\r\n\r\n"
        client.sendall(head.encode() + b"[" * 1000)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.split()[1] == b"401"
    assert b'{"detail":' in answer


def test_a_body_that_is_too_large_is_refused_before_it_is_read(running: Running) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as client:
        head = f"PUT /esmond/perfsonar/archive/k/ HTTP/1.1\r\nHost: a\r\nContent-Length: {2**30}\r\nAuthorization: Token {running.token}"
        client.sendall(head.encode() + b"\r\n\r\n")
        assert client.recv(65536).split()[1] == b"413"


def test_clients_that_ask_nothing_keep_no_others_out(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3000:
        pytest.skip(f"a process may have {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3000), hard))
    with process(tmp_path / "a.db") as (_, url), ExitStack() as stack:
        port = int(url.split(":")[2].split("/")[0])
        for _ in range(1100):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        assert requests.get(url, timeout=10).json() == []


def test_a_slow_archive_adds_up_what_two_requests_write_at_once(tmp_path: Path) -> None:
    """So does a real one: this is what a mirror must not let happen."""
    with esmond_etl_archive.serve(tmp_path / "a.db", token=TOKEN, slow=20) as running:
        key = post(running).json()["metadata-key"]
        data = {"data": [{"ts": ts, "val": [{"event-type": "packet-count-sent", "val": 600}]} for ts in range(10)]}

        def write(_: int) -> int:
            return requests.put(f"{running.archive_url}{key}/", json=data, headers=AUTH).status_code

        started = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(write, range(2))) == [201, 201]
        assert time.monotonic() - started > 0.5
        values = {each["val"] for each in requests.get(f"{running.archive_url}{key}/packet-count-sent/base").json()}
        assert values == {1200.0}
        assert write(0) == 409


def test_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "esmond_etl_archive.server", None)
    assert run(["archive", "serve", "x.db"]) == 2
    assert "pip install 'esmond-etl[archive]'" in capsys.readouterr().err
