"""Pipelines in Python: the programs of docs/python.md and docs/schedule.md run against a real archive."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pyarrow.dataset as ds
import pytest
from esmond_etl_archive.samples import START

import esmond_etl
from esmond_etl import (
    Batch,
    ConfigError,
    IncompleteError,
    Interval,
    Load,
    LockedError,
    Pipeline,
    Receipt,
    Reject,
    Result,
    Series,
    SinkError,
    Task,
)
from esmond_etl.engine import files
from esmond_etl.engine.delivery import Outcome
from esmond_etl.engine.ledger import Ledger
from esmond_etl.engine.result import Unobserved
from esmond_etl.testing import CollectedSink, RecordedSource

DOCS = Path(__file__).parents[1] / "docs"
DAY = 86400
TIME: dict[str, Any] = {"from_": START, "to": START + 2 * DAY}


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An archive with two days of sample measurements between two hosts."""
    store = esmond_etl_archive.Archive(tmp_path_factory.mktemp("sampled") / "archive.db")
    esmond_etl_archive.load(store, esmond_etl_archive.sample(days=2, hosts=2))
    with esmond_etl_archive.serve(store, token="secret") as running:
        yield running
    store.close()


def pipeline(url: str, folder: Path, **more: Any) -> Pipeline:
    sinks = more.pop("sinks", [{"type": "parquet", "path": str(folder / "out")}])
    source = {"type": "esmond", "url": url, "event_types": ["throughput"], "retries": 0}
    return Pipeline("p", source=source, sinks=sinks, ledger=str(folder / "ledgers"), **{**TIME, **more})


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def test_a_pipeline_without_a_file_delivers_once_and_verifies(sampled: Any, tmp_path: Path) -> None:
    made = pipeline(sampled.url, tmp_path)
    first, second = made.run(), made.run()
    assert first.read == first.sinks["sink[0] (parquet)"].written > 0
    assert second.read == 0
    assert ds.dataset(tmp_path / "out" / "event_type=throughput", format="parquet", partitioning="hive").count_rows() == first.read
    compared = made.verify()
    assert [each.same for each in compared] == [True] * len(compared)
    assert sum(each.equal for each in compared) == first.read


class Narrow(CollectedSink):
    """A sink that has no place for numbers of packets."""

    def refusal(self, series: Series) -> str | None:
        return "there is no place for it" if series.event_type.startswith("packet-count") else None


def test_plan_counts_what_will_not_be_carried_over(sampled: Any, tmp_path: Path) -> None:
    source = {"type": "esmond", "url": sampled.url}
    made = Pipeline("p", source=source, sinks=[Narrow()], ledger=str(tmp_path), **TIME)
    assert made.plan().lost == {}
    found = made.plan(count=True)
    names = ["packet-count-sent", "packet-count-lost"]
    sent = len(esmond_etl.read(sampled.url, names, start=TIME["from_"], end=TIME["to"]))
    assert sum(found.lost.values()) == sent > 1000
    assert {each.event_type: number for each, number in found.refused.items()} == {"packet-count-lost": 1, "packet-count-sent": 1}
    assert found.refused.keys() == found.lost.keys()


def test_plan_and_preview_leave_no_trace_and_need_no_target(sampled: Any, tmp_path: Path) -> None:
    for sink in (
        {"type": "parquet", "path": str(tmp_path / "out")},
        {"type": "sql", "url": f"sqlite:{tmp_path}/out.db"},
        {"type": "sql", "url": "postgresql://nobody@127.0.0.1:1/none"},
        {"type": "esmond", "url": "http://127.0.0.1:1/", "api_key": "k", "username": "u"},
    ):
        made = pipeline(sampled.url, tmp_path, sinks=[sink])
        forecast = made.plan()
        assert sum(amount.windows for amount in forecast.amounts.values()) == 2 * forecast.amounts["throughput", "base"].series  # type: ignore[index]
        assert len(made.preview(points=2, series=1)) == 2
    assert everything(tmp_path) == {}


def test_what_is_not_delivered_is_an_exception_that_carries_the_result(sampled: Any, tmp_path: Path) -> None:
    class Refusing(CollectedSink):
        def begin(self, task: Any) -> Any:
            raise SinkError("the disk is full")

    made = pipeline(sampled.url, tmp_path, sinks=[Refusing()])
    with pytest.raises(IncompleteError, match=r"p: \d+ series are not done, among them .*: the disk is full") as caught:
        made.run()
    assert set(caught.value.result.failures.values()) == {"the disk is full"}
    assert made.run(check=False).complete is False


def test_two_runs_at_once_are_refused(sampled: Any, tmp_path: Path) -> None:
    made = pipeline(sampled.url, tmp_path)
    with files.lock(made.definition.ledger_path.with_suffix(".lock")), pytest.raises(LockedError):
        made.run()


def test_a_run_that_is_told_to_stop_says_so(sampled: Any, tmp_path: Path) -> None:
    class Stopping(Unobserved):
        def planned(self, amount: int) -> None:
            stop.set()

    stop = threading.Event()
    with pytest.raises(IncompleteError, match="it was told to stop"):
        pipeline(sampled.url, tmp_path).run(stop=stop, observer=Stopping())
    assert pipeline(sampled.url, tmp_path).run().read > 0


def test_an_observer_sees_the_run(sampled: Any, tmp_path: Path) -> None:
    class Seen(Unobserved):
        left = 0
        results: list[Result] = []  # noqa: RUF012

        def listed(self, series: int) -> None:
            self.series = series

        def planned(self, amount: int) -> None:
            self.left = amount

        def moved(self, amount: int, outcome: Outcome, result: Result) -> None:
            self.left -= amount
            self.results.append(result)

    seen = Seen()
    result = pipeline(sampled.url, tmp_path).run(observer=seen)
    assert (seen.series, seen.left, seen.results[-1]) == (result.series, 0, result)


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Pipeline("p", source={"type": "esmond", "uurl": "x"}, sinks=[{"type": "parket"}], windw="1d", from_="30d")
    lines = str(caught.value).splitlines()
    assert any("windw: unknown option; did you mean 'window'?" in line for line in lines)
    assert any("source.uurl: unknown option; did you mean 'url'?" in line for line in lines)
    assert any("sink[0].type: unknown sink 'parket'; did you mean 'parquet'?" in line for line in lines)


def test_stages_may_be_objects() -> None:
    source, sink = RecordedSource(recorded={}), CollectedSink()
    made = Pipeline("p", source=source, sinks=[sink], from_=0, to=DAY)
    assert (made.definition.source, made.definition.sinks, made.wanted()) == (source, (sink,), Interval(0, DAY))


def programs(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_the_programs_of_the_page_on_python_run(
    sampled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mirror.toml").write_text(
        f'from = {START}\n[source]\ntype = "esmond"\nurl = "{sampled.url}"\n[[sink]]\ntype = "parquet"\npath = "mirrored"\n'
    )
    named: dict[str, Any] = {}
    for program in programs("python.md"):
        text = program.replace("https://archive.example.net/", sampled.url).replace('from_="30d"', f"from_={START}")
        exec(compile(text, "docs/python.md", "exec"), named)
    assert re.search(r"[1-9]\d* datapoints read, [1-9]\d* requests", capsys.readouterr().out)
    assert named["differing"] == []
    assert ds.dataset("warehouse/event_type=throughput", format="parquet", partitioning="hive").count_rows() > 0


class Picky(CollectedSink):
    """A sink that refuses one datapoint of each task."""

    def begin(self, task: Task) -> Load:
        return PickyLoad(super().begin(task), task)


class PickyLoad(Load):
    def __init__(self, load: Load, task: Task) -> None:
        self._load, self._task = load, task

    def write(self, batch: Batch) -> None:
        self._load.write(batch)

    def commit(self) -> Receipt:
        return replace(self._load.commit(), rejected=[Reject(self._task.series[0], self._task.interval.start, "1", "too odd")])

    def rollback(self) -> None:
        self._load.rollback()


def test_rejected_datapoints_that_wait_end_every_run_with_an_error(sampled: Any, tmp_path: Path) -> None:
    made = pipeline(sampled.url, tmp_path, sinks=[Picky()])
    first, second = made.run(check=False), made.run(check=False)
    assert (first.complete, first.waiting, second.read, second.waiting, second.complete) == (False, 1, 0, 1, False)
    with pytest.raises(IncompleteError, match="p: 1 rejected datapoints wait"):
        made.run()
    with closing(Ledger(made.definition.ledger_path)) as opened:
        opened.drop_rejected()
    assert made.run().complete


def test_rejected_datapoints_may_be_accepted(sampled: Any, tmp_path: Path) -> None:
    result = pipeline(sampled.url, tmp_path, sinks=[Picky()], rejects="accept").run()
    assert (result.complete, sum(sink.rejected for sink in result.sinks.values())) == (True, 1)


def test_a_ledger_belongs_to_one_file(sampled: Any, tmp_path: Path) -> None:
    text = f'name = "same"\nfrom = {START}\n[source]\ntype = "esmond"\nurl = "{sampled.url}"\n[[sink]]\ntype = "parquet"\npath = "out"\n'
    first, second = (tmp_path / name for name in ("a.toml", "b.toml"))
    for file in (first, second):
        file.write_text(text)
    assert esmond_etl.load(first).run().read > 0
    with pytest.raises(
        ConfigError, match=rf"b\.toml: 'same' and its ledger are also those of {first}: give each a name of its own"
    ):
        esmond_etl.load(second).run()
    first.unlink()  # it was renamed
    assert esmond_etl.load(second).run().read == 0
