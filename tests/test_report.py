"""The report in a real browser, and the history of runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pytest
from esmond_etl_archive.samples import START

import esmond_etl
from esmond_etl import Interval, Metadata, Reject, Series, SeriesId, Summary
from esmond_etl.cli.group import run
from esmond_etl.doctor.finding import at
from esmond_etl.engine.ledger import Ledger
from esmond_etl.model.digest import Window
from esmond_etl.pipeline import file
from esmond_etl.report.facts import facts
from esmond_etl.report.page import MOST, page

DAY = 86400


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    path = tmp_path / "p.toml"
    path.write_text(
        f'name = "p"\nfrom = {START}\nto = {START + 60 * DAY}\n[source]\ntype = "esmond"\nurl = "http://127.0.0.1:9/"\n'
        '[[sink]]\ntype = "sql"\nurl = "sqlite:out.db"\n'
    )
    return path


@pytest.fixture
def ledger(pipeline: Path) -> Iterator[Ledger]:
    with closing(Ledger(file.load(pipeline).ledger_path)) as opened:
        yield opened


def test_each_column_says_what_is_known_of_its_time(pipeline: Path, ledger: Ledger) -> None:
    series, metadata = SeriesId("k1", "throughput"), Metadata("k1", source="192.0.2.1", destination="192.0.2.2", tool_name="x")
    windows = [Window(START + day * DAY, 24, bytes(16)) for day in range(10)]
    reject = Reject(Series(metadata, "throughput", Summary()), START + 3 * DAY, "1", "too large")
    ledger.record([series], Interval(START, START + 20 * DAY), [metadata], {"sink": [reject]}, None, {series: windows})
    ledger.record([], Interval(START + 30 * DAY, START + 40 * DAY), failures={series: "timed out"})
    found = facts(file.load(pipeline), ledger)
    (row,) = found.series
    assert row.states == "ddd" + "r" + "d" * 6 + "e" * 10 + "t" * 10 + "f" * 10 + "t" * 20
    assert (row.number, row.rejected, row.error, found.total) == (240, 1, "timed out", 240)
    assert found.rejects == {("sink", "too large"): 1}
    assert found.root == facts(file.load(pipeline), ledger).root != ""
    text = page(found)
    assert "<script src" not in text
    assert "http" not in re.sub(r'"http://www.w3.org/2000/svg"', "", text)


def test_what_an_archive_says_cannot_break_out_of_the_page(pipeline: Path, ledger: Ledger) -> None:
    series = SeriesId("</script><script>alert(1)</script>", "throughput")
    ledger.record([], Interval(START, START + DAY), failures={series: "<img src=x onerror=alert(1)>"})
    text = page(facts(file.load(pipeline), ledger))
    assert "<script>alert" not in text
    assert "<img" not in text


def chromium(*arguments: str) -> str:
    """What headless Chromium prints."""
    program = shutil.which("chromium")
    if not program:
        pytest.skip("chromium is not installed")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", "--virtual-time-budget=3000"]
    done = subprocess.run([program, *flags, *arguments], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def test_what_cannot_be_right_is_shown_by_kind(pipeline: Path, ledger: Ledger) -> None:
    series = Series(Metadata("k", source="192.0.2.1", destination="192.0.2.2"), "histogram-owdelay")
    found = [at("negative-delay", series, [START, START + 60], f"<b>{number}</b>") for number in range(MOST + 2)]
    text = page(facts(file.load(pipeline), ledger), found)
    assert "No packet arrives before it was sent" in text
    assert text.count("&lt;b&gt;") == MOST
    assert "2 more: <code>esmond-etl check --data</code> lists all." in text
    assert "<b>" not in text
    assert "no problems found" in page(facts(file.load(pipeline), ledger), [])
    assert "cannot be right" not in page(facts(file.load(pipeline), ledger))


@pytest.mark.slow
def test_a_browser_shows_it_and_finds_a_series_among_many(pipeline: Path, ledger: Ledger, tmp_path: Path) -> None:
    for number in range(300):
        metadata = Metadata(f"key{number:04}", source=f"192.0.2.{number % 250}", destination="192.0.2.2", tool_name="x")
        series = SeriesId(metadata.key, "throughput")
        ledger.record(
            [series], Interval(START, START + 30 * DAY), [metadata], None, None, {series: [Window(START, number, bytes(16))]}
        )
    assert run(["report", str(pipeline), "-o", str(tmp_path / "report.html")]) == 0
    text = (tmp_path / "report.html").read_text()
    script = "find.value = 'key0123'; find.dispatchEvent(new Event('input'));"
    (tmp_path / "typed.html").write_text(text.replace("\nshow();\n</script>", f"\nshow();\n{script}\n</script>"))
    (tmp_path / "next.html").write_text(text.replace("\nshow();\n</script>", "\nshow();\nnext.click();\n</script>"))

    def seen(name: str) -> str:
        return chromium(f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{tmp_path / name}")

    first = seen("report.html")
    assert "1 to 50 of 300 series" in first
    assert "key0049/throughput/base" in first.split("<tbody>")[-1]
    assert "51 to 100 of 300 series" in seen("next.html")
    typed = seen("typed.html").split("<tbody>")[-1]
    assert "key0123/throughput/base" in typed
    assert "key0124" not in typed.partition("</tbody>")[0]


@pytest.mark.slow
def test_history_lists_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = esmond_etl_archive.Archive(tmp_path / "source.db")
    esmond_etl_archive.load(store, esmond_etl_archive.sample(days=1, hosts=2))
    with esmond_etl_archive.serve(store) as source:
        path = tmp_path / "h.toml"
        path.write_text(
            f'from = {START}\nto = {START + DAY}\n[source]\ntype = "esmond"\nurl = "{source.url}"\n'
            '[[sink]]\ntype = "sql"\nurl = "sqlite:o.db"\n'
        )
        assert run(["history", str(path)]) == 0
        assert capsys.readouterr().out == "no run has ended yet\n"
        for _ in range(2):
            esmond_etl.load(path).run()
    assert run(["history", str(path), "--json"]) == 0
    runs: list[Any] = json.loads(capsys.readouterr().out)
    assert [each["complete"] for each in runs] == [True, True]
    assert runs[0]["read"] > runs[1]["read"] == 0
    assert run(["history", str(path)]) == 0
    assert capsys.readouterr().out.count("complete") == 2
