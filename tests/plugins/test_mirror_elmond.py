"""From elmond, perfSONAR 5's read-only service, to an archive: an exact copy of what it serves, and a list of what it does not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from esmond_etl_archive.samples import START

from esmond_etl import EQUAL_IN_A_SECOND

ROOT = "/esmond/perfsonar/archive"
KEY = "0cb19291fb6d40eaa1955376772bf5d2"
SERVED: dict[str, list[tuple[int, Any]]] = {
    "histogram-ttl": [(START, {"59.0": 600}), (START + 60, {"59.0": 599, "60.0": 1})],
    "histogram-rtt": [(START, {"41.099999999999994": 1, "41.2": 4})],
    "throughput": [(START, 1e9), (START + 3600, 2e9), (START + 3600, 3e9), (START + 3600, 2e9), (START + 7200, 4e9)],
    "packet-count-sent": [(START, 600.0), (START + 60, 600.0)],
    "packet-count-lost": [(START, 7.0), (START + 60, 0.0)],
    "packet-loss-rate": [(START, 7 / 600), (START + 60, 0.0)],
    "time-error-estimates": [(START, 0.0003)],
    "throughput-subintervals": [(START, [])],
    "streams-throughput": [(START, [None, None])],
    "pscheduler-run-href": [(START, "https://host.example.net/runs/1")],
    "packet-trace": [],
}
NOT_SERVED = {"histogram-ttl-reverse": 400, "ntp-offset": 400, "histogram-owdelay": 500}


def entry() -> dict[str, Any]:
    def event_type(name: str) -> dict[str, Any]:
        base = f"{ROOT}/{KEY}/{name}/base/0"
        summaries = [
            {"uri": f"{ROOT}/{KEY}/{name}/aggregations/{w}", "summary-type": "aggregation", "summary-window": w}
            for w in (3600, 86400)
        ]
        has_summaries = name.startswith("histogram") or name.startswith("packet-count")
        return {"event-type": name, "base-uri": base, "time-updated": 1, "summaries": summaries if has_summaries else []}

    return {
        "metadata-key": KEY,
        "uri": f"{ROOT}/{KEY}",
        "url": f"http://elmond{ROOT}/{KEY}",
        "metadata-count-total": 1,
        "metadata-next-page": None,
        "metadata-previous-page": None,
        "subject-type": "point-to-point",
        "source": "198.51.100.1",
        "destination": "203.0.113.2",
        "measurement-agent": "198.51.100.1",
        "input-source": "ps1.example.net",
        "input-destination": "ps2.example.net",
        "tool-name": "powstream",
        "sample-size": 600,
        "sample-bucket-width": 0.001,
        "mode-flip": True,
        "ip-tos": None,
        "event-types": [event_type(name) for name in (*SERVED, *NOT_SERVED)],
    }


def elmond(asked: Any, answer: Any) -> Any:
    """Answers as elmond does: whole seconds are shared, a limit is cut before values are left out, some series fail."""
    if asked.method != "GET":
        return answer(405, b'{"detail": "Method not allowed."}')
    if asked.path.rstrip("/") == ROOT:
        return answer(200, json.dumps([entry()] if not asked.query.get("offset") else []).encode())
    parts = asked.path.removeprefix(ROOT).strip("/").split("/")
    if len(parts) != 4 or parts[2:] != ["base", "0"]:
        return answer(404, b'{"detail": "Not found."}')
    if parts[1] in NOT_SERVED:
        return answer(NOT_SERVED[parts[1]], b'{"detail": "No such thing."}')
    start, end = (int(asked.query[name]) for name in ("time-start", "time-end"))
    rows = [{"ts": ts, "val": val} for ts, val in SERVED[parts[1]] if start <= ts <= end]
    return answer(200, json.dumps(rows[: int(asked.query["limit"])]).encode())


PIPELINE = """
name = "elmond"
from = {start}
to = {end}

[source]
type = "esmond"
url = "{source}"
retries = 0
spacing = "1m"

[[sink]]
type = "esmond"
url = "{target}"
api_key = "{key}"
"""


@pytest.fixture
def run(mirror: Any, serve: Any, answer: Any, tmp_path: Path) -> Any:
    """Runs the pipeline in a process of its own; returns its exit code and what it says of the run."""
    url = serve(lambda asked: elmond(asked, answer)).url
    file = tmp_path / "elmond.toml"
    file.write_text(PIPELINE.format(start=START, end=START + 86400, source=url, target=mirror.target.url, key=mirror.target.token))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}

    def start(*arguments: str) -> tuple[int, Any]:
        command = [sys.executable, "-m", "esmond_etl", *arguments[:1], str(file), *arguments[1:]]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return ended.returncode, ended.stdout

    return start


def test_what_elmond_serves_is_copied_and_what_it_does_not_is_listed(mirror: Any, run: Any) -> None:
    code, output = run("run", "--json")
    result = json.loads(output)
    assert code == 1
    assert sorted(result["failures"]) == [f"{KEY}/{name}/base" for name in sorted(NOT_SERVED)]
    assert (result["written"], result["unchanged"], result["rejected"]) == (15, 1, 2)
    assert result["remarks"] == {EQUAL_IN_A_SECOND: 1}
    [held] = mirror.copy.values()
    kept = SERVED | {
        "throughput": [SERVED["throughput"][0], SERVED["throughput"][1], SERVED["throughput"][4]],
        "throughput-subintervals": [],
    }
    base = kept | {name: [] for name in NOT_SERVED}
    assert {name.removesuffix("/base"): points for name, points in held.items() if name.endswith("/base")} == base
    assert held["histogram-ttl/aggregation/86400"] == [(START, {"59.0": 1199, "60.0": 1})]

    [shown] = requests.get(mirror.target.archive_url).json()
    parameters = {name: shown[name] for name in ("sample-size", "sample-bucket-width", "mode-flip", "ip-tos")}
    assert parameters == {"sample-size": "600", "sample-bucket-width": "0.001", "mode-flip": "true", "ip-tos": "null"}

    code, output = run("rejects", "--json")
    rejected = [json.loads(line) for line in output.splitlines()]
    assert code == 1
    assert sorted((each["series"], each["ts"], each["val"], each["reason"]) for each in rejected) == [
        (f"{KEY}/throughput-subintervals/base", START, "[]", "the archive keeps no empty list of subintervals"),
        (
            f"{KEY}/throughput/base",
            START + 3600,
            "3000000000",
            "the source has another value in that second, which is kept: 2000000000",
        ),
    ]


def test_a_second_run_sends_nothing_of_it_again(mirror: Any, run: Any) -> None:
    run("run", "--json")
    before = mirror.copy
    mirror.target.requests.clear()
    code, output = run("run", "--json", "--reload")
    result = json.loads(output)
    assert (code, result["written"], result["unchanged"], result["rejected"]) == (1, 0, 16, 2)
    assert mirror.target.requests["PUT"] == 0
    assert mirror.copy == before


def test_elmond_takes_nothing_and_says_so(mirror: Any, serve: Any, answer: Any) -> None:
    from esmond_etl import SinkError

    mirror.load({"metadata": mirror.metadata("failures"), "datapoints": {"failures": [(START, {})]}})
    with pytest.raises(SinkError, match="status 405: Method not allowed"):
        mirror.run(serve(lambda asked: elmond(asked, answer)).url)


def test_verify_knows_that_the_target_keeps_one_of_equal_datapoints(run: Any) -> None:
    run("run", "--json")
    _, output = run("verify", "--json")
    compared = json.loads(output)["differing"]
    differing = {each["series"]: (each["missing"], each["rejected"]) for each in compared if each["missing"]}
    assert differing == {f"{KEY}/throughput/base": (1, 1), f"{KEY}/throughput-subintervals/base": (1, 1)}
