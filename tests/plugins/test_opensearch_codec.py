"""Documents and datapoints: held to what elmond answers of recorded documents, and to what esmond has, in both directions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pytest
from esmond_etl_esmond.source import EsmondSource
from esmond_etl_opensearch.codec import documents, places, reading
from esmond_etl_opensearch.codec import metadata as tests
from esmond_etl_opensearch.codec.fields import Refused
from esmond_etl_opensearch.codec.reading import MISSING
from hypothesis import given
from hypothesis import strategies as st

from esmond_etl import BASE, Batch, Context, Interval, Metadata, Series, Served, Summary

RECORDED = Path(__file__).parents[3] / "shared" / "perfsonar5"
ALWAYS = Interval(0, 2**33)

#: What elmond fails to show although the document has it.
BEYOND_ELMOND = {
    "throughput-subintervals",
    "streams-throughput",
    "streams-throughput-subintervals",
    "packet-loss-rate",
    "packet-count-lost",
    "packet-count-sent",
}


@pytest.fixture(scope="module")
def recorded() -> dict[str, list[dict[str, Any]]]:
    """The recorded documents, by the key of their test, oldest first."""
    if not RECORDED.exists():
        pytest.skip(f"{RECORDED} is not there")
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in (RECORDED / "documents.jsonl").read_text().splitlines():
        document = json.loads(line)
        found[document["pscheduler"]["test_checksum"]].append(document)
    return {key: sorted(each, key=lambda document: str(document["pscheduler"]["start_time"])) for key, each in found.items()}


@pytest.fixture(scope="module")
def answers() -> list[dict[str, Any]]:
    """What elmond answered."""
    if not RECORDED.exists():
        pytest.skip(f"{RECORDED} is not there")
    return [json.loads(line) for line in (RECORDED / "elmond.jsonl").read_text().splitlines()]


def ts_of(document: dict[str, Any]) -> int:
    return int(datetime.fromisoformat(document["pscheduler"]["start_time"]).timestamp())


def datapoints(series: Series, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The datapoints that a search for `series` would find in documents."""
    value = reading.reader(series)
    is_failure, any_run = series.event_type == "failures", series.event_type == "pscheduler-run-href"
    wanted = [each for each in found if any_run or each["result"]["succeeded"] is not is_failure]
    values = [(ts_of(document), value(document)) for document in wanted]
    return [{"ts": ts, "val": each} for ts, each in values if each is not MISSING]


def test_metadata_and_event_types_are_those_that_elmond_lists(recorded: Any, answers: Any) -> None:
    listed = {each["metadata-key"]: Metadata.from_json(each) for each in answers[0]["response"]["json"]}
    assert listed.keys() == recorded.keys()
    for key, expected in listed.items():
        ours = tests.from_document(recorded[key][-1])
        assert tests._flat(ours) == tests._flat(expected)
        assert tests._declared(ours) == tests._declared(expected)


def test_values_are_those_that_elmond_answers(recorded: Any, answers: Any) -> None:
    compared = beyond = 0
    for each in answers:
        query, parts = each["request"].get("query", {}), each["request"]["path"].split("/")
        if (
            each["response"]["status"] != 200
            or query.get("limit") != "10000"
            or parts[6:] not in (["base", "0"], ["statistics", "0"])
        ):
            continue
        key, event_type = parts[4], parts[5]
        summary = BASE if parts[6] == "base" else Summary("statistics", 0)
        series = Series(tests.from_document(recorded[key][0]), event_type, summary)
        ours, expected = datapoints(series, recorded[key]), each["response"]["json"]
        if ours == expected:
            compared += len(ours)
        else:
            assert event_type in BEYOND_ELMOND, each["name"]
            assert len(ours) >= len(expected)
            beyond += len(ours)
    assert (compared, beyond) == (1497, 88)


def test_what_elmond_leaves_empty_is_what_the_document_has(recorded: Any) -> None:
    found = recorded["e68c95660931d3d28602983fbca8b8b8cf5a5bbe4b45187c0a98dc5649a89310"]
    metadata = tests.from_document(found[0])
    assert datapoints(Series(metadata, "streams-throughput"), found)[0]["val"] == [4348401274.5, 4348401274.5]
    first = datapoints(Series(metadata, "throughput-subintervals"), found)[0]["val"][0]
    assert first == {"start": 0.0, "duration": 1.0, "val": 8696802549.0}


def made(metadata: Metadata, points: dict[str, list[tuple[int, Any]]]) -> tuple[list[dict[str, Any]], list[Refused]]:
    """The documents that datapoints become."""
    refused: list[Refused] = []
    batches = {name: [Batch.from_points(Series(metadata, name), each)] for name, each in points.items()}
    return [json.loads(each.text) for each in documents.documents(metadata, batches, refused)], refused


def metadata_of(*event_types: str, **parameters: Any) -> Metadata:
    ends = ("192.0.2.1", "192.0.2.2", "192.0.2.1", "pscheduler/powstream", "a.example.net", "b.example.net")
    offered = {name: {BASE: Served("")} for name in event_types}
    return Metadata("k1", "point-to-point", *ends, {name.replace("_", "-"): each for name, each in parameters.items()}, offered)


def read_back(metadata: Metadata, name: str, found: list[dict[str, Any]]) -> list[tuple[int, Any]]:
    value = reading.reader(Series(metadata, name))
    return [(ts_of(each), got) for each in found if (got := value(each)) is not MISSING]


NUMBERS = st.one_of(st.integers(0, 2**53), st.floats(0, 1e12, allow_nan=False)).map(float)
BUCKETS = st.one_of(
    st.integers(0, 255).map(str), st.decimals(0, 1000, places=2, allow_nan=False).map(str), st.floats(0, 1e4).map(str)
)
HISTOGRAMS = st.dictionaries(BUCKETS, st.integers(1, 10**9), max_size=6)
JSON = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)
TIMES = st.integers(1_300_000_000, 1_900_000_000)
INTERVALS = st.lists(
    st.fixed_dictionaries({"start": st.floats(0, 60), "duration": st.floats(0, 2), "val": st.integers(0, 10**12)}),
    min_size=1,
    max_size=4,
)
HOPS = st.lists(
    st.fixed_dictionaries(
        {"ttl": st.integers(1, 30), "query": st.just(1), "success": st.integers(0, 1)},
        optional={
            "ip": st.just("192.0.2.9"),
            "rtt": st.floats(0, 1000),
            "mtu": st.just(1500),
            "error-message": st.text(max_size=5),
        },
    ),
    max_size=4,
)
VALUES = {
    "latencybg": {
        "packet-count-sent": NUMBERS,
        "packet-loss-rate": NUMBERS,
        "time-error-estimates": NUMBERS,
        "histogram-owdelay": HISTOGRAMS,
        "histogram-ttl": HISTOGRAMS,
        "failures": JSON,
        "pscheduler-run-href": JSON,
    },
    "rtt": {"histogram-rtt": HISTOGRAMS, "histogram-ttl-reverse": HISTOGRAMS, "packet-count-lost-bidir": NUMBERS, "failures": JSON},
    "throughput": {
        "throughput": NUMBERS,
        "packet-retransmits": NUMBERS,
        "throughput-subintervals": st.one_of(INTERVALS, JSON),
        "packet-retransmits-subintervals": INTERVALS,
        "streams-throughput": st.one_of(st.lists(st.integers(0, 10**10), max_size=3), JSON),
        "streams-throughput-subintervals": st.one_of(st.lists(INTERVALS, max_size=3), JSON),
    },
    "trace": {
        "packet-trace": st.one_of(HOPS, JSON),
        "packet-trace-multi": st.one_of(st.lists(HOPS, max_size=2), JSON),
        "path-mtu": NUMBERS,
    },
    "dns": {"pscheduler-raw": JSON, "failures": JSON},
}


@st.composite
def measured_tests(draw: Any) -> tuple[Metadata, dict[str, list[tuple[int, Any]]]]:
    kind = draw(st.sampled_from(sorted(VALUES)))
    names = draw(st.lists(st.sampled_from(sorted(VALUES[kind])), min_size=1, unique=True))
    parameters = draw(
        st.dictionaries(
            st.sampled_from(
                ["sample-size", "sample-bucket-width", "ip-tos", "time-duration", "trace-max-ttl", "x-y", f"pscheduler-{kind}-z"]
            ),
            st.one_of(st.integers(0, 999).map(str), st.sampled_from(["0.001", "1e3", " 5", "05", "nan", "text", ""])),
        )
    )
    times = draw(st.lists(TIMES, min_size=1, max_size=4, unique=True))
    points = {
        name: [(ts, draw(VALUES[kind][name])) for ts in sorted(draw(st.lists(st.sampled_from(times), unique=True)))]
        for name in names
    }
    return metadata_of(*names, pscheduler_test_type=kind, **parameters), points


@pytest.mark.slow
@given(measured_tests())
def test_what_documents_are_made_of_comes_out_of_them_again(case: tuple[Metadata, dict[str, list[tuple[int, Any]]]]) -> None:
    metadata, points = case
    found, refused = made(metadata, points)
    assert [ts_of(each) for each in found] == sorted({ts for each in points.values() for ts, _ in each})
    assert refused == []
    for document in found:
        again = tests.from_document(document)
        assert {name: str(each) for name, each in tests._flat(again).items()} == tests._flat(metadata)
        assert tests._declared(again) == tests._declared(metadata)
    for name, each in points.items():
        assert read_back(metadata, name, found) == each


def test_all_that_was_measured_at_one_moment_becomes_one_document_like_a_live_one() -> None:
    metadata = metadata_of(
        "packet-count-sent", "packet-count-lost", "packet-loss-rate", "histogram-owdelay", sample_bucket_width="0.001"
    )
    points: dict[str, list[tuple[int, Any]]] = {
        "packet-count-sent": [(1711929600, 4.0)],
        "packet-count-lost": [(1711929600, 1.0)],
        "packet-loss-rate": [(1711929600, 0.25)],
        "histogram-owdelay": [(1711929600, {"8.59": 1, "9.5": 2})],
    }
    (document,), refused = made(metadata, points)
    assert refused == []
    assert document["test"] == {
        "type": "latencybg",
        "spec": {"schema": 1, "source": "a.example.net", "dest": "b.example.net", "bucket-width": 0.001},
    }
    assert document["pscheduler"]["start_time"] == document["@timestamp"] == "2024-04-01T00:00:00Z"
    assert document["result"]["packets"] == {"sent": 4, "lost": 1, "loss": 0.25, "received": 3}
    latency = document["result"]["latency"]
    assert latency["histogram"] == {"values": [8.59, 9.5], "counts": [1, 2]}
    assert (latency["min"], latency["max"], latency["median"], latency["mode"]) == (8.59, 9.5, 9.5, [9.5])
    assert "values" not in document["esmond"]["json"]


def test_statistics_of_histograms_are_those_of_the_live_pipeline(recorded: Any) -> None:
    for found in recorded.values():
        metadata = tests.from_document(found[0])
        for name in ("histogram-owdelay", "histogram-ttl"):
            if name not in metadata.event_types:
                continue
            place = places.STATISTICS[name][0][0]
            by_moment = {
                ts_of(each): each["result"][place] for each in found if place in each["result"]
            }  # of two in a second, the last
            points = [(ts, {str(b): n for b, n in zip(*each["histogram"].values(), strict=True)}) for ts, each in by_moment.items()]
            for document in made(metadata, {name: points})[0]:
                ours, live = document["result"][place], by_moment[ts_of(document)]
                assert ours.keys() == live.keys()
                for statistic in ours.keys() - {"histogram"}:
                    assert ours[statistic] == pytest.approx(live[statistic], rel=1e-12)


def test_what_no_document_can_hold_is_refused_with_its_moment_and_a_reason() -> None:
    metadata = metadata_of("packet-count-sent", "histogram-owdelay", "failures")
    points: dict[str, list[tuple[int, Any]]] = {
        "packet-count-sent": [(1, 1.0), (1, 2.0), (2, float("nan")), (3, None)],
        "histogram-owdelay": [(1, {"word": 1}), (2, [1]), (3, None)],
        "failures": [(9, None)],
    }
    found, refused = made(metadata, points)
    assert [document["result"] for document in found] == [{"packets": {"sent": 1}, "succeeded": True}]
    assert sorted((each.event_type, each.ts) for each in refused) == [
        ("failures", 9),
        *(("histogram-owdelay", ts) for ts in (1, 2, 3)),
        *(("packet-count-sent", ts) for ts in (1, 2, 3)),
    ]


def test_numbers_beyond_64_bits_do_not_stop_the_others() -> None:
    metadata = metadata_of("packet-count-sent", "packet-count-lost", "histogram-owdelay")
    points: dict[str, list[tuple[int, Any]]] = {
        "packet-count-sent": [(1, 1e22), (2, 7.0)],
        "packet-count-lost": [(1, 1.0), (2, 1.0)],
        "histogram-owdelay": [(1, {"0.5": 10**20}), (2, {"0.5": 6})],
    }
    found, refused = made(metadata, points)
    assert [document["result"]["packets"] for document in found] == [
        {"sent": 10**22, "lost": 1},
        {"sent": 7, "lost": 1, "received": 6},
    ]
    assert [document["result"].get("latency", {}).get("histogram") for document in found] == [
        None,
        {"values": [0.5], "counts": [6]},
    ]
    assert [(each.event_type, each.ts) for each in refused] == [("histogram-owdelay", 1)]


def test_the_type_of_a_test_is_told_by_what_there_is() -> None:
    assert places.test_type(metadata_of("throughput")) == "throughput"
    assert places.test_type(metadata_of("histogram-owdelay")) == "latencybg"
    assert places.test_type(metadata_of("failures")) == "latencybg"  # by its tool
    assert places.test_type(metadata_of("pscheduler-raw", pscheduler_test_type="dns")) == "dns"
    nothing = Metadata("k", tool_name="x/unknown", event_types={"failures": {BASE: Served("")}})
    assert places.test_type(nothing) is None


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EsmondSource]:
    store = esmond_etl_archive.Archive(tmp_path_factory.mktemp("samples") / "archive.db")
    esmond_etl_archive.load(store, esmond_etl_archive.sample(days=2))
    with esmond_etl_archive.serve(store) as running:
        source = EsmondSource(url=running.url)
        source.open(Context())
        yield source
        source.close()


def test_the_samples_survive_the_way_there_and_back(samples: EsmondSource) -> None:
    by_key: dict[str, list[Series]] = defaultdict(list)
    for series in samples.series(ALWAYS):
        by_key[series.metadata.key].append(series)
    assert len(by_key) == 19
    for all_series in by_key.values():
        metadata = all_series[0].metadata
        points = {each.event_type: [tuple(p) for b in samples.read(each, ALWAYS) for p in b.to_points()] for each in all_series}
        found, refused = made(metadata, points)
        assert refused == []
        for name, each in points.items():
            assert read_back(tests.from_document(found[0]), name, found) == each
