"""Every answer that was recorded from a real archive, served on a socket and met by the client."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from esmond_etl import BASE, Batch, Series
from esmond_etl import Metadata as Listed
from esmond_etl import Summary as SummaryId
from esmond_etl.client import wire
from esmond_etl.client.archive import Answer, Archive
from esmond_etl.client.payload import DataPayload
from esmond_etl.client.post import MetadataPost
from esmond_etl.client.query import Metadata
from esmond_etl.model.errors import StatusError
from esmond_etl.model.event_types import URL_WORDS

FILES = sorted((Path(__file__).parent / "conformance").glob("*.jsonl"))
ROOT = "/esmond/perfsonar/archive/"
KEYS = {"{KEY}": "0123456789abcdef", "{KEY2}": "123456789abcdef0", "{KEY3}": "23456789abcdef01"}
WORDS = {word: kind for kind, word in URL_WORDS.items()}


def steps(path: Path, url: str) -> Iterator[dict[str, Any]]:
    """The steps of a file, about an archive at `url`; no client deletes."""
    text = path.read_text().replace("{BASE}", url.rstrip("/")).replace('"<now>"', "1700000000")
    for placeholder, key in KEYS.items():
        text = text.replace(placeholder, key)
    return (step for step in map(json.loads, text.splitlines()) if step["request"]["method"] != "DELETE")


@pytest.fixture
def replayed(serve: Callable[..., Any], answer: Callable[..., Any]) -> Iterator[Callable[[dict[str, Any]], Archive]]:
    """Starts a server for one step: it answers the request that was recorded as it was, and any other with 418."""
    current: dict[str, Any] = {}

    def respond(asked: Any) -> Any:
        step = current["step"]
        request, response = step["request"], step["response"]
        query = {name: str(value) for name, value in (request.get("query") or {}).items()}
        if (asked.method, asked.path, asked.query) == (request["method"], request["path"], query):
            body = json.dumps(response["json"]).encode() if "json" in response else b"<html>sorry</html>"
            return answer(response["status"], body, response["headers"])
        if asked.path == response["headers"].get("Location", "").removeprefix(server.url.rstrip("/")):
            return answer(200, b'{"metadata-key": "moved", "event-types": []}')
        return answer(418)

    server = serve(respond)
    archives: list[Archive] = []

    def start(step: dict[str, Any]) -> Archive:
        current["step"] = step
        archives.append(Archive(server.url, api_key="secret", retries=0))
        return archives[-1]

    start.url = server.url  # type: ignore[attr-defined]
    yield start
    for archive in archives:
        archive.close()


def place(path: str) -> list[str]:
    """The words of a path after the archive's root: a key, an event type, a summary, a window."""
    return [word for word in path.removeprefix(ROOT).split("/") if word]


def read(archive: Archive, step: dict[str, Any]) -> Any:
    """What the client makes of an answer to a reading request, in the archive's own words."""
    path, query = step["request"]["path"], step["request"].get("query") or {}
    words = place(path)
    if not words:
        entries, _, total, _ = archive.get(path, query, wire.decode_metadata_list)
        return [as_listed(each, total if number == 0 else None) for number, each in enumerate(entries)]
    if len(words) == 1:
        return as_listed(archive.get(path, query, lambda body: wire.decode_metadata(msgspec.json.decode(body))), None)
    if len(words) == 2 or (len(words) == 3 and words[2] != "base"):
        return archive.get(path, query, msgspec.json.decode)
    summary = BASE if words[2] == "base" else SummaryId(WORDS[words[2]], int(words[3]))
    series = Series(Listed(words[0]), words[1], summary)

    def pages() -> Iterator[Batch]:
        page = archive.get(path, query, lambda body: wire.decode_page(body, series))
        return iter([page] if len(page) else [])

    return [{"ts": point.ts_epoch, "val": point.val} for point in DataPayload(series, pages, 10_000)]


def as_listed(listed: Listed, total: int | None) -> dict[str, Any]:
    """A metadata as its properties have it."""
    metadata = Metadata(listed, "http://localhost/")
    names = [name for name in dir(Metadata) if isinstance(getattr(Metadata, name), property)]
    own = {name.replace("_", "-"): getattr(metadata, name) for name in names if name not in ("dump", "event_types", "_data")}
    event_types = [
        {
            "event-type": each.event_type,
            "base-uri": each.base_uri,
            "time-updated": each._series.served.updated,
            "summaries": [
                {
                    "summary-type": summary.summary_type,
                    "summary-window": summary.summary_window,
                    "uri": summary.uri,
                    "time-updated": summary._series.served.updated,
                }
                for summary in each.get_all_summaries()
            ],
        }
        for each in metadata.get_all_event_types()
    ]
    found = {**listed.parameters, **own, "event-types": event_types}
    return {name: value for name, value in found.items() if value is not None} | ({"metadata-count-total": total} if total else {})


def as_recorded(value: Any) -> Any:
    """An answer without what the client has no use for."""
    if isinstance(value, list):
        return [as_recorded(each) for each in value]
    if isinstance(value, dict) and "metadata-key" in value:
        return {name: each for name, each in value.items() if name not in ("url", "metadata-next-page", "metadata-previous-page")}
    return value


def write(archive: Archive, step: dict[str, Any]) -> Answer:
    """Send what was sent."""
    request = step["request"]
    body = request["body"].encode() if "body" in request else json.dumps(request["json"]).encode()
    return archive.write(request["method"], request["path"], body)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_recorded_answer_is_what_the_client_says_or_raises(path: Path, replayed: Any) -> None:
    met = 0
    for step in steps(path, replayed.url):
        archive, response = replayed(step), step["response"]
        reading, status = step["request"]["method"] == "GET", response["status"]
        try:
            found = read(archive, step) if reading else write(archive, step).body
        except StatusError as error:
            reason = (response.get("json") or {}).get("detail", "")
            assert (error.status, error.detail) == (status, reason), step["name"]
            assert step["request"]["path"] in str(error) and reason in str(error), step["name"]
        else:
            assert status < 400, step["name"]
            if not reading:
                assert json.loads(found) == response["json"], step["name"]
            elif status == 200:
                assert found == as_recorded(response["json"]), step["name"]
        met += 1
    assert met == len([*steps(path, replayed.url)]) > 0


def test_a_redirect_is_followed(replayed: Any) -> None:
    moved = [step for path in FILES for step in steps(path, replayed.url) if step["response"]["status"] == 301]
    assert [read(replayed(step), step)["metadata-key"] for step in moved] == ["moved"]


def test_every_recorded_metadata_is_posted_and_read_back_by_the_library(replayed: Any) -> None:
    taken = [
        step
        for path in FILES
        for step in steps(path, replayed.url)
        if step["request"]["path"] == ROOT and step["request"]["method"] == "POST" and step["response"]["status"] == 201
    ]
    for step in taken:
        replayed(step)
        body = dict(step["request"]["json"])
        event_types = body.pop("event-types")
        known = ("subject-type", "source", "destination", "tool-name", "measurement-agent", "input-source", "input-destination")
        subject = {name.replace("-", "_"): body.pop(name) for name in known if name in body}
        post = MetadataPost(replayed.url, api_key="secret", **subject)
        for each in event_types:
            post.add_event_type(each["event-type"])
            summaries = each.get("summaries", [])
            for kind in {summary["summary-type"] for summary in summaries}:
                windows = [summary["summary-window"] for summary in summaries if summary["summary-type"] == kind]
                post.add_summary_type(each["event-type"], kind, windows)
        for name, value in body.items():
            post.add_freeform_key_value(name, value)
        metadata = post.post_metadata()
        assert as_listed(metadata._listed, None) == as_recorded(step["response"]["json"]), step["name"]
        sent = json.loads(post.json_payload())
        assert {**sent, "event-types": canonical(sent["event-types"])} == {
            **step["request"]["json"],
            "event-types": canonical(event_types),
        }
    assert len(taken) > 10


def canonical(event_types: list[dict[str, Any]]) -> list[Any]:
    """Event types and summaries in one order."""
    return sorted((each["event-type"], sorted(map(str, each.get("summaries", [])))) for each in event_types)
