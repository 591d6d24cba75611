"""esmond forgets, in its aggregations, all but the last histogram of a window in one request: the mirror finds out and copes."""

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from esmond_etl_archive.samples import START, sample
from esmond_etl_archive.statistics import statistics

from esmond_etl import SinkError

pytestmark = pytest.mark.slow

DAY = 86400
ROWS = """
SELECT series.id, summary_type, summary_window FROM series JOIN metadata ON metadata.id = metadata
WHERE key = ? AND event_type = ? AND summary_type != 'base' AND summary_window > 0 ORDER BY summary_type
"""


class Forgetful:
    """Passes requests on to an archive, and then takes from its aggregations what esmond would not have added."""

    def __init__(self, mirror: Any, answer: Any) -> None:
        self.mirror, self.answer = mirror, answer
        self.lock = threading.Lock()
        self.failing: set[int] = set()  # which of the writes of data fail, before they are carried out
        self.writes = 0

    def respond(self, asked: Any, go: Callable[[], Any]) -> Any:
        data = json.loads(asked.body)["data"] if asked.method == "PUT" else []
        if not data:
            return go()
        with self.lock, sqlite3.connect(self.mirror.target.archive.path) as db:
            self.writes += 1
            if self.writes in self.failing:
                return self.answer(500)
            key = asked.path.strip("/").rpartition("/")[2]
            sent = [(value["event-type"], item["ts"], value["val"]) for item in data for value in item["val"]]
            wrong = {}
            for name, ts, val in sent:
                if name.startswith("histogram"):
                    for series, _, window in self.rows(db, key, name):
                        at = ts - ts % window
                        wrong[name, window, at] = self.total(db, series, at) + Counter(val)
            db.commit()
            passed_on = go()
            for (name, window, at), total in wrong.items():
                for series, kind, width in db.execute(ROWS, (key, name)).fetchall():
                    if width == window:
                        val = dict(total) if kind == "aggregation" else statistics(total)
                        text = json.dumps({"ts": at, "val": val})
                        db.execute("UPDATE datapoint SET json = ? WHERE series = ? AND ts = ?", (text, series, at))
            return passed_on

    def rows(self, db: sqlite3.Connection, key: str, name: str) -> list[tuple[int, str, int]]:
        return [row for row in db.execute(ROWS, (key, name)).fetchall() if row[1] == "aggregation"]

    def total(self, db: sqlite3.Connection, series: int, at: int) -> Counter[str]:
        row = db.execute("SELECT json FROM datapoint WHERE series = ? AND ts = ?", (series, at)).fetchone()
        return Counter(json.loads(row[0])["val"] if row else {})


@pytest.fixture
def forgetful(mirror: Any, serve: Any, answer: Any) -> tuple[Forgetful, str]:
    """An archive that forgets, and its URL."""
    forgetful, local = Forgetful(mirror, answer), threading.local()

    def respond(asked: Any) -> Any:
        def go() -> Any:
            if not hasattr(local, "session"):
                local.session = requests.Session()
            headers = {name: asked.headers[name] for name in ("Authorization", "Content-Type") if name in asked.headers}
            url = mirror.target.url + asked.path
            real = local.session.request(asked.method, url, params=asked.query, data=asked.body, headers=headers)
            return answer(real.status_code, real.content)

        return forgetful.respond(asked, go)

    return forgetful, serve(respond).url


def thinned(step: int) -> list[dict[str, Any]]:
    return [
        {**each, "datapoints": {name: points[::step] for name, points in each["datapoints"].items()}}
        for each in sample(days=2, hosts=3)
    ]


def verdicts(mirror: Any) -> list[str]:
    return [value for name, value in mirror.memory.items() if name.startswith("adds-up-in-bulk")]


def test_an_archive_that_forgets_ends_with_the_same_summaries_all_the_same(mirror: Any, forgetful: Any) -> None:
    mirror.load(*thinned(4))
    receipt = mirror.run(forgetful[1])
    assert mirror.copy == mirror.original
    assert list(receipt.rejected) == []
    assert verdicts(mirror) == ["no"]
    mirror.run(forgetful[1])
    assert mirror.copy == mirror.original


@pytest.mark.parametrize("write", range(1, 9))
def test_a_failure_while_it_is_tried_out_leaves_no_summary_wrong(mirror: Any, forgetful: Any, write: int) -> None:
    mirror.load(*[each for each in thinned(12) if "histogram-owdelay" in each["datapoints"]])
    forgetful[0].failing = {write}
    try:
        mirror.run(forgetful[1], retries=0)
    except SinkError:
        forgetful[0].failing = set()
        mirror.run(forgetful[1])
    assert mirror.copy == mirror.original
    assert not any(name.startswith("trial:") for name in mirror.memory)


def test_an_archive_that_adds_up_is_found_out_by_the_first_two_histograms_of_a_window(mirror: Any) -> None:
    mirror.load(*thinned(1))
    mirror.run()
    assert verdicts(mirror) == ["yes"]
    assert mirror.copy == mirror.original


def test_histograms_that_share_no_narrow_window_are_sent_apart_until_it_is_known(mirror: Any, tmp_path: Path) -> None:
    rows = [(START + hour * 3600, {"59": hour + 1}) for hour in range(48)]
    mirror.load({"metadata": mirror.metadata("histogram-ttl"), "datapoints": {"histogram-ttl": rows}})
    mirror.run()
    assert mirror.copy == mirror.original
    assert verdicts(mirror) == []
    assert mirror.asked["PUT"] == 24, "two days at a time"


def test_floats_with_an_aggregation_are_sent_apart_to_an_archive_that_forgets(mirror: Any) -> None:
    points = [(START + 600 * row, row / 10) for row in range(40)]
    mirror.load({"metadata": mirror.metadata("ntp-offset"), "datapoints": {"ntp-offset": points}})
    mirror.memory[f"adds-up-in-bulk:{mirror.target.archive_url}"] = "no"
    mirror.run()
    assert mirror.copy == mirror.original
    assert mirror.asked["PUT"] == 40


def test_the_target_meets_the_buckets_of_a_window_in_the_order_of_the_source(mirror: Any) -> None:
    """The last digit of a standard deviation follows that order."""
    rows = [(START, {"30.5": 0, "5": 1}), *((START + 60 * row, {str(90 - row): row, "7": 1}) for row in range(1, 20))]
    mirror.load({"metadata": mirror.metadata("histogram-owdelay"), "datapoints": {"histogram-owdelay": rows}})
    mirror.run()
    for path in ("base", "aggregations/3600", "aggregations/86400", "statistics/86400"):
        shown = []
        for archive in (mirror.source, mirror.target):
            [entry] = requests.get(archive.archive_url).json()
            shown.append(requests.get(f"{archive.archive_url}{entry['metadata-key']}/histogram-owdelay/{path}").text)
        assert shown[0] == shown[1]
