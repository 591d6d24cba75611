"""What a real esmond archive was seen to answer, the embedded one answers too."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pytest
import requests
from esmond_etl_archive import Running

VECTORS = sorted((Path(__file__).parent.parent / "conformance").glob("*.jsonl"))
TOKEN = "a token"
HEADERS = ("Location", "Allow", "Link", "WWW-Authenticate")  # Content-Type is compared beside them


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with esmond_etl_archive.serve(tmp_path / "archive.db", token=TOKEN) as running:
        yield running


def filled(template: Any, names: dict[str, str]) -> Any:
    """The template with {KEY}, {BASE} and the like replaced."""
    text = json.dumps(template)
    for name, value in names.items():
        text = text.replace("{" + name + "}", value)
    return json.loads(text)


def comparable(value: Any, within: str = "") -> Any:
    """The value without what differs from run to run: an order that is not fixed, the wall clock, a detail's wording."""
    if isinstance(value, list):
        values = [comparable(each) for each in value]
        return sorted(values, key=json.dumps) if within in ("event-types", "summaries", "metadata") else values
    if isinstance(value, dict):
        paging = {"metadata-count-total", "metadata-previous-page", "metadata-next-page", "detail"}
        return {name: comparable(each, name) for name, each in sorted(value.items()) if name not in paging}
    return value


def is_now(value: Any) -> Any:
    """The value with the times that lie in the last minutes called that."""
    return json.loads(re.sub(r'"time-updated": 1?[0-9]{9,}', '"time-updated": "<now>"', json.dumps(value)))


def send(running: Running, request: dict[str, Any]) -> requests.Response:
    headers = dict(request.get("headers") or {})
    if request["auth"]:
        headers["Authorization"] = f"Token {TOKEN}" if request["auth"] == "valid" else request["auth"]
    data = json.dumps(request["json"]) if "json" in request else request.get("body")
    if data is not None:
        headers.setdefault("Content-Type", "application/json")
    return requests.request(
        request["method"],
        running.url + request["path"],
        params=request.get("query"),
        data=data,
        headers=headers,
        allow_redirects=False,
    )


def is_page_of_metadata(request: dict[str, Any]) -> bool:
    return "limit" in request.get("query", {}) and request["path"].endswith("/archive/")


def check(request: dict[str, Any], expected: dict[str, Any], answer: requests.Response) -> None:
    if expected["status"] >= 500:
        assert (answer.status_code, list(answer.json())) == (400, ["detail"])
        return
    assert answer.status_code == expected["status"]
    recorded = expected["headers"]
    assert {h: answer.headers.get(h) for h in HEADERS} == {h: recorded.get(h) for h in HEADERS} | allowed(answer, recorded)
    assert answer.headers["Content-Type"] == recorded["Content-Type"]
    if "json" in expected and is_page_of_metadata(request):
        assert [len(answer.json()), *paging(answer.json())] == [len(expected["json"]), *paging(expected["json"])]
    elif "json" in expected:
        within = "metadata" if request["path"].endswith("/archive/") else "event-types"
        points = within if "/base" not in request["path"] else ""
        assert comparable(is_now(answer.json()), points) == comparable(is_now(expected["json"]), points)


def allowed(answer: requests.Response, recorded: dict[str, str]) -> dict[str, str | None]:
    """A redirect says nothing of methods."""
    return {} if "Allow" in recorded else {"Allow": answer.headers.get("Allow")}


def paging(served: list[dict[str, Any]]) -> list[Any]:
    return [served[0][f"metadata-{name}"] for name in ("count-total", "previous-page", "next-page")] if served else []


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_every_recorded_step_is_answered_as_recorded(running: Running, path: Path) -> None:
    names = {"BASE": running.url}
    for line in path.read_text().splitlines():
        step = json.loads(line)
        request = filled(step["request"], names)
        answer = send(running, request)
        for name, field in step.get("bind", {}).items():
            names[name] = answer.json()[field]
        names |= {"KEY3": answer.json()["metadata-key"]} if "{KEY3}" in line else {}
        try:
            check(request, filled(step["response"], names), answer)
        except AssertionError as error:
            raise AssertionError(f"{path.stem}: {step['name']}: {error}") from None
