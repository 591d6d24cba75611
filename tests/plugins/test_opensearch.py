"""esmond to perfSONAR 5 and back, documents of perfSONAR 5 read as elmond shows them, and gaps healed: on a real OpenSearch."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import esmond_etl_archive
import pytest
import requests
from esmond_etl_archive.samples import START
from esmond_etl_opensearch import load
from esmond_etl_opensearch.sink import OpenSearchSink
from esmond_etl_opensearch.source import OpenSearchSource

import esmond_etl
from esmond_etl import BASE, Context, DataPoint, Interval, Metadata, Result, Series, Served, SinkError, SourceError, Task, moment
from esmond_etl.cli.group import run as command
from esmond_etl.client.archive import Archive
from esmond_etl.client.reading import Reader
from esmond_etl.testing.datapoints import deliver, points_of, write
from tests.servers.opensearch_node import OpenSearch

pytestmark = pytest.mark.slow

DAY = 86400
RECORDED = Path(__file__).parents[3] / "shared" / "perfsonar5"
KILLS = int(os.environ.get("ESMOND_ETL_KILLS", "6"))


@dataclass
class Place:
    """Data streams of a test's own on the server."""

    url: str
    name: str

    @property
    def stream(self) -> str:
        return f"pscheduler_{self.name}_{{type}}"

    @property
    def index(self) -> str:
        return f"pscheduler_{self.name}_*"

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        response = requests.request(method, self.url + path, json=body, timeout=60)
        assert response.ok, response.text
        return response.json()

    def put(self, documents: list[dict[str, Any]], kind: str = "") -> None:
        """Post documents as perfSONAR's own pipeline does: with no id."""
        lines = []
        for document in documents:
            lines += [{"create": {"_index": f"pscheduler_{self.name}_{kind or document['test']['type']}"}}, document]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        headers = {"content-type": "application/json"}
        answer = requests.post(f"{self.url}/_bulk?refresh=true", data=text, headers=headers, timeout=60).json()
        assert not answer["errors"], [item for item in answer["items"] if "error" in item["create"]][:1]

    def held(self) -> list[dict[str, Any]]:
        """All documents."""
        self.ask("POST", f"/{self.index}/_refresh")
        found = self.ask("POST", f"/{self.index}/_search", {"size": 10_000, "query": {"match_all": {}}})
        return list(found["hits"]["hits"])

    def twice(self) -> list[Any]:
        """Tests and moments of which there are several documents, counted by the server."""
        self.ask("POST", f"/{self.index}/_refresh")
        key, start = {"field": "pscheduler.test_checksum.keyword"}, {"field": "pscheduler.start_time"}
        moments = {"terms": {**start, "size": 10_000, "min_doc_count": 2}}
        tests = {"terms": {**key, "size": 1000}, "aggs": {"twice": moments}}
        found = self.ask("POST", f"/{self.index}/_search", {"size": 0, "aggs": {"tests": tests}})
        return [each for bucket in found["aggregations"]["tests"]["buckets"] for each in bucket["twice"]["buckets"]]


@pytest.fixture
def place(opensearch_node: OpenSearch) -> Place:
    """Where a test writes."""
    return Place(opensearch_node.url, uuid4().hex[:8])


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Any]:
    """An archive with samples of two days."""
    store = esmond_etl_archive.Archive(tmp_path / "source.db")
    esmond_etl_archive.load(store, esmond_etl_archive.sample(days=2, hosts=3))
    with esmond_etl_archive.serve(store) as running:
        yield running


def written(folder: Path, name: str, source: str, sink: str, **settings: str) -> Path:
    """A pipeline file."""
    lines = [f'name = "{name}"', *(f"{key} = {value}" for key, value in settings.items())]
    path = folder / f"{name}.toml"
    path.write_text("\n".join([*lines, f"[source]\n{source}", f"[[sink]]\n{sink}", ""]))
    return path


TIMES = {"from": f"{START}", "to": f"{START + 3 * DAY}", "window": '"6h"'}


def to_opensearch(folder: Path, source: str, place: Place, *extra: str, **settings: str) -> Path:
    sink = f'type = "opensearch"\nurl = "{place.url}"\nstream = "{place.stream}"\nindex = "{place.index}"\nbackoff = 0.05'
    return written(folder, "to", "\n".join([f'type = "esmond"\nurl = "{source}"', *extra]), sink, **{**TIMES, **settings})


def ran(path: Path) -> Result:
    return esmond_etl.load(path).run()


def compared(path: Path) -> tuple[int, list[Any]]:
    """How many datapoints are equal, and the series that differ."""
    found = list(esmond_etl.load(path).verify())
    return sum(each.equal for each in found), [each for each in found if not each.same]


def test_what_elmond_shows_is_compared_too(filled: Any, place: Place, tmp_path: Path) -> None:
    def through(url: str) -> tuple[int, list[Any]]:
        path.write_text(text + f'elmond = "{url}"\n')
        return compared(path)

    path = to_opensearch(tmp_path, filled.url, place)
    result, text = ran(path), path.read_text()
    assert through(filled.url) == (2 * result.read, [])  # the archive shows what elmond should: the same keys and datapoints
    shorter = esmond_etl_archive.Archive(tmp_path / "shorter.db")
    esmond_etl_archive.load(shorter, esmond_etl_archive.sample(days=1, hosts=3))
    with esmond_etl_archive.serve(shorter) as elmond:
        equal, differing = through(elmond.url)
    assert 0 < sum(each.missing for each in differing) == 2 * result.read - equal
    assert {each.sink for each in differing} == {"sink[0] (opensearch) through elmond"}
    with esmond_etl_archive.serve(tmp_path / "empty.db") as elmond:
        equal, differing = through(elmond.url)
    assert sum(each.missing for each in differing) == result.read == equal


def test_an_event_type_that_elmond_does_not_list_is_left_out(
    filled: Any, place: Place, tmp_path: Path, serve: Any, answer: Any
) -> None:
    def respond(asked: Any) -> Any:
        """The archive without one event type."""
        real = requests.get(filled.url + asked.path, params=asked.query, timeout=30)
        entry = real.json() if real.ok else None
        if isinstance(entry, dict):
            entry["event-types"] = [each for each in entry["event-types"] if each["event-type"] != "throughput"]
        return answer(real.status_code, json.dumps(entry).encode())

    path = to_opensearch(tmp_path, filled.url, place)
    result = ran(path)
    path.write_text(path.read_text() + f'elmond = "{serve(respond).url}"\n')
    found = list(esmond_etl.load(path).verify())
    left_out = [each for each in found if each.left_out]
    assert {(each.series.event_type, each.left_out) for each in left_out} == {
        ("throughput", "elmond does not list throughput for such a test")
    }
    assert all(each.same for each in found)
    missed = sum(each.equal for each in found if each.series.event_type == "throughput")
    assert sum(each.equal for each in found) == 2 * result.read - missed


def test_an_archive_goes_to_opensearch_and_back_value_for_value(filled: Any, place: Place, tmp_path: Path) -> None:
    there = to_opensearch(tmp_path, filled.url, place)
    result = ran(there)
    assert result.complete
    assert compared(there) == (result.read, [])
    assert place.twice() == []
    with esmond_etl_archive.serve(tmp_path / "back.db", token="t") as target:
        back = written(
            tmp_path,
            "back",
            f'type = "opensearch"\nurl = "{place.url}"\nindex = "{place.index}"',
            f'type = "esmond"\nurl = "{target.url}"\nusername = "u"\napi_key = "t"',
            **TIMES,
        )
        again = ran(back)
        assert again.complete
        assert again.read == result.read
        assert compared(back) == (result.read, [])
        assert everything(target.url) == everything(filled.url)


def everything(url: str) -> dict[Any, Any]:
    """All that an archive holds, by what is measured."""
    with closing(Archive(url)) as archive:
        reader = Reader(archive)
        found = {}
        for metadata in reader.metadata({}):
            for series in metadata.series():
                if series.summary == BASE:
                    named = json.dumps({**metadata.to_json(), "event-types": ""}, sort_keys=True), series.event_type
                    found[named] = points_of(reader.datapoints(series, Interval(START, START + 3 * DAY)))
        return found


def test_a_second_run_finds_everything_and_writes_nothing(filled: Any, place: Place, tmp_path: Path) -> None:
    path = to_opensearch(tmp_path, filled.url, place)
    first = ran(path)
    versions = {hit["_id"]: hit["_index"] for hit in place.held()}
    again = esmond_etl.load(path).run(reload=True)
    assert [again.sinks["sink[0] (opensearch)"].written, again.sinks["sink[0] (opensearch)"].unchanged] == [0, first.read]
    assert {hit["_id"]: hit["_index"] for hit in place.held()} == versions


def test_documents_of_a_narrower_run_get_the_event_types_that_they_lack(filled: Any, place: Place, tmp_path: Path) -> None:
    (tmp_path / "narrow").mkdir()
    narrow = to_opensearch(tmp_path / "narrow", filled.url, place, 'event_types = ["packet-count-sent", "throughput"]')
    ran(narrow)
    few = len(place.held())
    place.ask(
        "POST", f"/pscheduler_{place.name}_latencybg/_rollover"
    )  # what there is cannot be changed through the stream any more
    wide = to_opensearch(tmp_path, filled.url, place)
    result = ran(wide)
    assert result.complete
    assert few < len(place.held())
    assert place.twice() == []
    assert compared(wide) == (result.read, [])


def test_delivered_again_after_a_rollover_each_document_is_there_once(filled: Any, place: Place, tmp_path: Path) -> None:
    path = to_opensearch(tmp_path, filled.url, place)
    ran(path)
    before = sorted(hit["_id"] for hit in place.held())
    for kind in ("latencybg", "throughput", "trace"):
        place.ask("POST", f"/pscheduler_{place.name}_{kind}/_rollover")
    (tmp_path / ".esmond-etl").rename(tmp_path / "lost")  # the ledger
    assert ran(path).complete
    assert sorted(hit["_id"] for hit in place.held()) == before


def one_test(name: str, *event_types: str, kind: str = "latencybg", **changes: Any) -> Metadata:
    ends = {"source": "192.0.2.1", "destination": "192.0.2.2", "measurement_agent": "192.0.2.1", **changes}
    offered = {each: {BASE: Served("")} for each in event_types}
    return Metadata(name, tool_name="pscheduler/powstream", parameters={"pscheduler-test-type": kind}, event_types=offered, **ends)


@pytest.fixture
def opened(place: Place) -> Iterator[Callable[..., OpenSearchSink]]:
    """Opens a sink with these options."""
    sinks = []

    def start(**options: Any) -> OpenSearchSink:
        sink = OpenSearchSink(**{"url": place.url, "stream": place.stream, "index": place.index, "backoff": 0.01, **options})
        sink.open(Context(parallel=4))
        sinks.append(sink)
        return sink

    yield start
    for sink in sinks:
        sink.close()


SPAN = Interval(START, START + DAY)


def test_a_busy_server_gets_fewer_documents_at_a_time_until_it_takes_them(
    place: Place, opened: Any, proxy: Any, answer: Any
) -> None:
    sizes: list[int] = []

    def meddle(asked: Any, real: Any) -> Any:
        if not asked.path.startswith("/_bulk"):
            return real
        sizes.append(len(asked.body))
        if len(sizes) == 1:
            return answer(429, b'{"error": {"reason": "rejected execution"}, "status": 429}', {"Content-Type": "application/json"})
        if len(sizes) == 2:  # all were made, but the server says that it took the first half alone
            items = json.loads(real.body)["items"]
            for item in items[len(items) // 2 :]:
                item["create"] = {"status": 429, "error": {"type": "busy", "reason": "queue is full"}}
            return answer(200, json.dumps({"items": items}).encode(), {"Content-Type": "application/json"})
        return real

    sink = opened(url=proxy(place.url, meddle).url)
    series = Series(one_test(f"{place.name}k", "time-error-estimates"), "time-error-estimates")
    points = [DataPoint(START + second, second + 0.5) for second in range(3000)]
    receipt = deliver(sink, {series: points}, SPAN)
    assert (receipt.written + receipt.unchanged, list(receipt.rejected)) == (3000, [])
    assert sizes[0] == sizes[1] > sizes[2]
    assert (points_of(sink.read(series, SPAN)), place.twice()) == (points, [])


def test_what_the_server_refuses_is_rejected_one_by_one_with_its_reason(place: Place, opened: Any) -> None:
    sink = opened()
    metadata = one_test(f"{place.name}k", "pscheduler-raw", kind="dns")
    series = Series(metadata, "pscheduler-raw")
    good = {"succeeded": True, "time": 0.5}
    deliver(sink, {series: [DataPoint(START, good)]}, Interval(START, START + 60))
    points = [DataPoint(START + 60, good), DataPoint(START + 120, {"succeeded": True, "time": {"not": "a number"}})]
    receipt = deliver(sink, {series: points}, Interval(START + 60, START + 180))
    assert receipt.written == 1
    (reject,) = receipt.rejected
    assert (reject.ts, json.loads(reject.val)) == (START + 120, points[1].val)
    assert "time" in reject.reason
    assert points_of(sink.read(series, SPAN)) == [(START, good), (START + 60, good)]


def test_what_no_document_has_a_place_for_is_refused_before_anything_is_read(place: Place, opened: Any) -> None:
    sink = opened()
    test = one_test("k", "packet-count-sent", "ntp-offset")
    assert sink.refusal(Series(test, "packet-count-sent")) is None
    assert "no place for it" in sink.refusal(Series(test, "ntp-offset"))
    assert "summaries" in sink.refusal(Series(test, "packet-count-sent", esmond_etl.Summary("aggregation", 300)))
    assert "a.example.net" in sink.refusal(Series(one_test("k", "failures", source="a.example.net"), "failures"))
    assert "the type of this test is not known" in sink.refusal(Series(Metadata("k", event_types={}), "failures"))


@pytest.fixture
def live(place: Place) -> tuple[Place, list[dict[str, Any]]]:
    """The recorded documents, on the server."""
    if not RECORDED.exists():
        pytest.skip(f"{RECORDED} is not there")
    lines = (RECORDED / "documents.jsonl").read_text().replace('"test_checksum": "', f'"test_checksum": "{place.name}')
    documents = [json.loads(line) for line in lines.splitlines()]
    sink = OpenSearchSink(url=place.url, stream=place.stream)
    sink.open(Context())
    sink._prepare()
    sink.close()
    place.put(documents)
    return place, documents


@pytest.fixture
def reads() -> Iterator[Callable[..., OpenSearchSource]]:
    """Opens a source with these options."""
    sources = []

    def start(place: Place, **options: Any) -> OpenSearchSource:
        source = OpenSearchSource(**{"url": place.url, "index": place.index, **options})
        source.open(Context())
        sources.append(source)
        return source

    yield start
    for source in sources:
        source.close()


ALWAYS = Interval(1_600_000_000, 1_800_000_000)


def test_a_live_archive_is_read_as_elmond_shows_it(live: Any, reads: Any) -> None:
    place, _ = live
    source = reads(place, summaries=["base", "statistics/0"])
    found = {
        (each.metadata.key.removeprefix(place.name), each.event_type, str(each.summary)): each for each in source.series(ALWAYS)
    }
    answers = [json.loads(line) for line in (RECORDED / "elmond.jsonl").read_text().splitlines()]
    compared = 0
    for each in answers:
        parts = each["request"]["path"].split("/")
        if each["request"].get("query", {}).get("limit") != "10000" or parts[6:] not in (["base", "0"], ["statistics", "0"]):
            continue
        series = found[parts[4], parts[5], "base" if parts[6] == "base" else "statistics/0"]
        ours = [{"ts": ts, "val": val} for ts, val in points_of(source.read(series, ALWAYS))]
        if ours and each["response"]["status"] == 200 and len(ours) == len(each["response"]["json"]):
            ours.sort(key=lambda point: (point["ts"], json.dumps(point["val"], sort_keys=True)))
            expected = sorted(each["response"]["json"], key=lambda point: (point["ts"], json.dumps(point["val"], sort_keys=True)))
            compared += sum(map(lambda a, b: esmond_etl.same_value(a, b), ours, expected))
    assert compared == 1497
    assert (source.unusable(), source.remarks()) == ({}, {})


def test_a_document_that_was_posted_twice_is_read_once_and_counted(live: Any, reads: Any) -> None:
    place, documents = live
    place.put(documents[:10])
    source = reads(place, event_types=["packet-count-sent"])
    points = Counter(ts for series in source.series(ALWAYS) for ts, _ in points_of(source.read(series, ALWAYS)))
    results = [(each, each["result"]) for each in documents if each["result"]["succeeded"]]
    expected = Counter(
        int(time_of(each)) for each, result in results if "sent" in result.get("packets", {}) or "packets_sent" in result
    )
    assert points == expected
    assert sum(source.remarks().values()) == 10


def time_of(document: dict[str, Any]) -> float:
    from datetime import datetime

    return datetime.fromisoformat(document["pscheduler"]["start_time"]).timestamp()


def test_documents_that_lack_what_is_needed_are_reported(live: Any, reads: Any) -> None:
    place, documents = live
    orphan = json.loads(json.dumps(documents[0]))
    del orphan["pscheduler"]["test_checksum"]
    toolless = json.loads(json.dumps(documents[0]))
    toolless["pscheduler"]["test_checksum"] = f"{place.name}toolless"
    del toolless["pscheduler"]["tool"]
    place.put([orphan, toolless])
    source = reads(place)
    assert len({series.metadata.key for series in source.series(ALWAYS)}) == 8
    assert source.unusable() == {
        "documents without pscheduler.test_checksum": "1 of them belong to no test",
        f"{place.name}toolless": "its documents cannot be used: it has no pscheduler.tool; elmond does not show them either",
    }


def test_more_documents_in_one_second_than_a_page_holds_are_all_read(place: Place, reads: Any, live: Any) -> None:
    _, documents = live
    many = []
    for number in range(1200):
        document = json.loads(json.dumps(documents[0]))
        document["pscheduler"] |= {"test_checksum": f"{place.name}many", "run_href": f"https://x/{number}"}
        document["result"]["packets"]["sent"] = number
        many.append(document)
    place.put(many)
    source = reads(place, event_types=["packet-count-sent"], match={"test.type": "latencybg"})
    (series,) = [each for each in source.series(ALWAYS) if each.metadata.key.endswith("many")]
    from esmond_etl_opensearch import search

    query = search.of_test(series.metadata.key, ALWAYS)
    with search.PointInTime(source._server, place.index) as view:
        pages = list(view.pages(query, [], most=100))
    assert [len(page.hits) for page in pages] == [1200]
    assert sorted(val for _, val in points_of(source.read(series, ALWAYS))) == [float(number) for number in range(1200)]


def test_a_run_in_which_nothing_is_new_costs_one_request(live: Any, tmp_path: Path) -> None:
    place, _ = live
    path = written(
        tmp_path,
        "out",
        f'type = "opensearch"\nurl = "{place.url}"\nindex = "{place.index}"',
        'type = "parquet"\npath = "out"',
        **{"from": "2021-01-01", "to": "2021-02-01"},
    )
    result = ran(path)
    assert (result.requests, result.read) == (1, 0)


def test_gaps_are_healed_and_nothing_is_doubled(opensearch_node: OpenSearch, live: Any, tmp_path: Path) -> None:
    local, documents = live
    central = Place(local.url, uuid4().hex[:8])
    gone = set(random.Random(5).sample(range(len(documents)), 20))
    central.put([document for number, document in enumerate(documents) if number not in gone])
    environment = {
        "TESTPOINT_URL": local.url,
        "CENTRAL_URL": central.url,
    }
    text = (Path(esmond_etl.__file__).parents[1] / "pipelines" / "heal.toml").read_text()
    for name, value in environment.items():
        text = text.replace(f"${{{name}}}", value)
    text = text.replace('stream = "pscheduler_{type}"', f'stream = "{central.stream}"\nindex = "{central.index}"')
    text = text.replace('type = "opensearch"', f'type = "opensearch"\nindex = "{local.index}"', 1)
    text = "\n".join(line for line in text.splitlines() if not line.startswith(("username", "password")))
    path = tmp_path / "heal.toml"
    path.write_text(text.replace('from = "7d"', "from = 2024-01-01\nto = 2025-01-01"))
    result = ran(path)
    assert result.sinks["sink[0] (opensearch)"].written == len(gone)
    from esmond_etl_opensearch.codec.metadata import from_document

    missing = Counter(
        (from_document(documents[number]).measurement_agent, moment(int(time_of(documents[number])) // 3600 * 3600))
        for number in gone
    )
    assert result.remarks == {
        f"results of {host} were missing in the hour from {hour}": count for (host, hour), count in missing.items()
    }
    held = central.held()
    assert len(held) == len(documents)
    assert counted([hit["_source"] for hit in held]) == counted(documents)
    again = esmond_etl.load(path).run(reload=True)
    assert again.sinks["sink[0] (opensearch)"].written == 0
    assert len(central.held()) == len(documents)


def counted(documents: list[dict[str, Any]]) -> Counter[str]:
    return Counter(json.dumps(each, sort_keys=True) for each in documents)


def test_of_a_moment_that_perfsonar_has_a_document_of_nothing_is_written(live: Any, opened: Any) -> None:
    place, documents = live
    document = documents[0]
    from esmond_etl_opensearch.codec.metadata import from_document

    sent = Series(from_document(document), "packet-count-sent")
    ts = int(time_of(document))
    sink = opened()
    right, wrong = document["result"]["packets"]["sent"], DataPoint(ts, 1.0)
    span = Interval(ts, ts + 60)
    receipt = deliver(sink, {sent: [DataPoint(ts, float(right))]}, span)
    assert (receipt.written, receipt.unchanged, list(receipt.rejected)) == (0, 1, [])
    receipt = deliver(sink, {sent: [wrong]}, span)
    assert [(each.ts, each.val) for each in receipt.rejected] == [(ts, "1")]
    assert "perfSONAR's own document" in receipt.rejected[0].reason
    assert len(place.held()) == len(documents)


def test_check_says_what_will_become_of_the_data(
    place: Place, proxy: Any, answer: Any, filled: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    default = {
        "policy": {
            "policy_id": "pscheduler_default_policy",
            "states": [{"name": "hot", "actions": [{"rollover": {}}]}, {"name": "delete", "actions": [{"delete": {}}]}],
            "ism_template": [{"index_patterns": ["pscheduler*"], "priority": 100}],
        }
    }
    policies, asked_for = [default], []

    def meddle(asked: Any, real: Any) -> Any:
        if not asked.path.startswith("/_plugins/_ism/policies"):
            return real
        asked_for.append((asked.method, asked.path))
        if asked.method == "PUT":
            made = json.loads(asked.body)["policy"]
            policies.append({"policy": {**made, "policy_id": asked.path.rpartition("/")[2]}})
        return answer(200, json.dumps({"policies": policies}).encode(), {"Content-Type": "application/json"})

    path = to_opensearch(tmp_path, filled.url, Place(proxy(place.url, meddle).url.rstrip("/"), place.name))
    assert command(["check", "--connect", str(path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"a run makes the index template pscheduler_{place.name}" in said
    assert f"a run makes the policy pscheduler_{place.name}_keep" in said
    assert [method for method, _ in asked_for] == ["GET"]
    assert ran(path).complete
    assert asked_for[-1] == ("PUT", f"/_plugins/_ism/policies/pscheduler_{place.name}_keep")
    made = policies[-1]["policy"]
    assert made["ism_template"] == [{"index_patterns": [place.index], "priority": 200}]
    assert "delete" not in json.dumps(made["states"])
    assert command(["check", "--connect", str(path)]) == 0
    assert f"the policy pscheduler_{place.name}_keep deletes nothing" in " ".join(capsys.readouterr().out.split())


def test_a_server_that_is_not_there_or_lets_nobody_in_is_named(place: Place, serve: Any, answer: Any, reads: Any) -> None:
    nobody = reads(Place("http://127.0.0.1:9", "x"), retries=0)
    with pytest.raises(SourceError, match=r"http://127\.0\.0\.1:9: no answer"):
        list(nobody.series(ALWAYS))
    closed = serve(lambda asked: answer(401, b"Unauthorized"))
    sink = OpenSearchSink(url=closed.url, username="u", password="geheim")
    with pytest.raises(SinkError, match=r"401.*check username and password") as caught:
        sink.reach(Context())
    assert "geheim" not in str(caught.value)


def started(path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "esmond_etl", "run", str(path)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def killed(path: Path, after: float) -> int:
    """The exit code of a run that is killed after so many seconds, if it lasts as long."""
    with started(path) as run:
        try:
            return run.wait(after)
        except subprocess.TimeoutExpired:
            run.kill()
            return run.wait()


def test_runs_that_are_killed_leave_each_document_once(filled: Any, place: Place, tmp_path: Path) -> None:
    began = time.monotonic()
    assert ran(to_opensearch(tmp_path, filled.url, Place(place.url, f"{place.name}timed"))).complete
    whole = time.monotonic() - began
    (tmp_path / ".esmond-etl").rename(tmp_path / "timed")
    path = to_opensearch(tmp_path, filled.url, place)
    codes = Counter(killed(path, 0.4 + whole * moment / KILLS) for moment in range(KILLS))
    assert codes[-signal.SIGKILL] > 0
    result = ran(path)
    assert result.complete
    equal, differing = compared(path)
    assert (differing, place.twice()) == ([], [])
    assert equal == sum(len(points) for points in everything(filled.url).values())


@pytest.fixture
def two_tests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Series, list[tuple[int, Any]]]]:
    """A series of each of two tests; each is sent as soon as it has ended."""
    monkeypatch.setattr(load, "_TOGETHER", 0)
    moments = [(START + 60 * row, float(row)) for row in range(10)]
    ends = ("192.0.2.1", "192.0.2.2", "192.0.2.1", "pscheduler/powstream", "a.example.net", "b.example.net")
    offered = {"packet-count-sent": {BASE: Served("")}}
    tests = [Metadata(key, "point-to-point", *ends, {"pscheduler-test-type": "latencybg"}, offered) for key in ("k1", "k2")]
    return [(Series(each, "packet-count-sent"), moments) for each in tests]


def begun(sink: OpenSearchSink, two_tests: Any) -> Any:
    return sink.begin(Task(tuple(series for series, _ in two_tests), Interval(START, START + DAY), DAY))


def test_tests_are_sent_before_the_commit_and_found_after_a_rollback(place: Place, two_tests: Any) -> None:
    sink = OpenSearchSink(url=place.url, stream=place.stream, index=place.index)
    sink.open(Context())
    with closing(sink):
        first = begun(sink, two_tests)
        write(first, *two_tests[0])
        assert stored(place) == 0
        first.end(two_tests[0][0])
        assert stored(place) == 10
        first.rollback()
        again = begun(sink, two_tests)
        for series, points in two_tests:
            write(again, series, points)
            again.end(series)
        receipt = again.commit()
    assert (receipt.written, receipt.unchanged, len(place.held()), place.twice()) == (10, 10, 20, [])


def test_what_fails_before_the_commit_fails_the_commit(place: Place, two_tests: Any, proxy: Any, answer: Any) -> None:
    failing = [True]

    def meddle(asked: Any, real: Any) -> Any:
        return answer(400, b'{"error": {"reason": "broken"}}') if "_bulk" in asked.path and failing.pop(0) else real

    sink = OpenSearchSink(url=proxy(place.url, meddle).url, stream=place.stream, index=place.index)
    sink.open(Context())
    with closing(sink):
        task = begun(sink, two_tests)
        write(task, *two_tests[0])
        with pytest.raises(SinkError, match="broken"):
            task.end(two_tests[0][0])
        with pytest.raises(SinkError, match="broken"):
            task.commit()


def test_a_node_that_is_killed_and_started_again_has_each_document_once(filled: Any, tmp_path: Path) -> None:
    node = OpenSearch(tmp_path / "node")
    node.folder.mkdir()
    node.start()
    try:
        place = Place(node.url, "own")
        path = to_opensearch(tmp_path, filled.url, place)
        path.write_text(path.read_text() + "retries = 1\n")
        with started(path) as run:
            while run.poll() is None and not stored(place):
                time.sleep(0.02)
            node.kill()
            assert run.wait() == 1
        node.start()
        assert ran(path).complete
        assert compared(path)[1] == []
        assert place.twice() == []
    finally:
        node.kill()


def stored(place: Place) -> int:
    return int(requests.get(f"{place.url}/{place.index}/_count", timeout=10).json().get("count", 0))
