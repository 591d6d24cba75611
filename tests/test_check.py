"""`esmond-etl check`: what it says of files that are wrong, each beside what it says in tests/golden/check."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from esmond_etl import Metadata, Series
from esmond_etl.cli.group import run
from esmond_etl.model.series import Served, Summary
from esmond_etl.pipeline import file as config

GOLDEN = Path(__file__).parent / "golden" / "check"
WRONG = sorted(GOLDEN.glob("*.toml"))

RIGHT = """
from = 2014-01-01

[source]
type = "esmond"
url = "https://archive.example.net/"

[[sink]]
type = "parquet"
path = "out"
"""


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Checks files of the given texts, called 1.toml, 2.toml, ...: the exit code, and the lines that were printed."""
    monkeypatch.chdir(tmp_path)

    def checked(*texts: str, options: tuple[str, ...] = ()) -> tuple[int, list[str]]:
        names = [f"{number}.toml" for number in range(1, len(texts) + 1)]
        for name, text in zip(names, texts, strict=True):
            Path(name).write_text(text, encoding="utf-8")
        code = run(["check", *names, *options])
        return code, capsys.readouterr().out.splitlines()

    return checked


def with_source(*lines: str) -> str:
    """The right file with more options of its source."""
    return RIGHT.replace('net/"\n', "\n".join(['net/"', *lines, ""]))


def with_transform(*lines: str) -> str:
    """The right file with a transform."""
    return RIGHT.replace("[[sink]]", "\n".join(["[[transform]]", *lines, "", "[[sink]]"]))


def test_there_are_forty_wrong_files() -> None:
    assert len(WRONG) >= 40


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_a_wrong_file_gets_the_messages_beside_it_and_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(GOLDEN)
    code = run(["check", path.name])
    said = capsys.readouterr().out
    if os.environ.get("ESMOND_ETL_GOLDEN") == "write":
        path.with_suffix(".txt").write_text(said, encoding="utf-8")
    assert said == path.with_suffix(".txt").read_text(encoding="utf-8")
    assert code == 2


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_run_refuses_what_check_calls_wrong_with_the_same_words(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(GOLDEN)
    code = run(["run", path.name])
    errors = [line for line in path.with_suffix(".txt").read_text().splitlines()[:-1] if ": warning: " not in line]
    assert capsys.readouterr().err == f"esmond-etl: {chr(10).join(errors)}\n"
    assert code == 2
    assert not (GOLDEN / ".esmond-etl").exists()


def test_all_files_are_reported_in_one_go(check: Any) -> None:
    wrong = RIGHT.replace("from = 2014-01-01", 'from = 2014-01-01\nwindow = "1 h"')
    code, lines = check(wrong, RIGHT, RIGHT.replace("url", "uri"))
    assert code == 2
    assert [line.split(" ")[0] for line in lines] == ["1.toml:3:1:", "3.toml:4:1:", "3.toml:6:1:", "2.toml:", "3"]
    assert lines[-2:] == ["2.toml: ok", "3 errors, 0 warnings"]


def test_a_right_file_is_ok(check: Any) -> None:
    assert check(RIGHT) == (0, ["1.toml: ok"])


def test_check_imports_nothing_that_connects_and_is_offline() -> None:
    code = "import sys, socket; socket.socket.connect = None; from esmond_etl.cli.group import run; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "check", str(GOLDEN / "many-mistakes.toml")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2


def test_a_secret_in_the_file_is_a_warning_that_does_not_show_it(check: Any) -> None:
    code, lines = check(with_source('api_key = "s3cr3t"'))
    assert code == 0
    assert lines == [
        "1.toml:7:1: warning: source.api_key: there is a secret in the file; write api_key with ${NAME} in it, and set that variable "
        "in the environment",
        "0 errors, 1 warning",
    ]


def test_a_password_in_a_url_is_a_secret_too(check: Any) -> None:
    code, lines = check(RIGHT.replace("https://archive", "https://me:s3cr3t@archive"))
    assert (code, len(lines)) == (0, 2)
    assert lines[0].startswith("1.toml:6:1: warning: source.url: there is a secret in the file")
    assert "s3cr3t" not in "".join(lines)


def test_a_secret_in_a_value_does_not_hide_that_the_value_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.toml"
    path.write_text('from = 2014-01-01\n[source]\ntype = "esmond"\nurl = "ftp://me:hidden@a/"\n[[sink]]\ntype = "stdout"\n')
    assert run(["check", str(path)]) == 2
    said = capsys.readouterr().out
    assert "there is a secret in the file" in said
    assert "1 error, 1 warning" in said
    assert "hidden" not in said


def test_a_secret_from_the_environment_is_right(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "s3cr3t")
    assert check(with_source('api_key = "${KEY}"')) == (0, ["1.toml: ok"])


@pytest.mark.parametrize("option", ["event_types", "summaries"])
def test_a_variable_that_is_not_set_is_the_only_mistake_of_its_option(check: Any, option: str) -> None:
    assert check(with_source(f'{option} = ["base", "${{ESMOND_ETL_NO_SUCH_VARIABLE}}"]'))[1][
        0 if option == "summaries" else 1 :
    ] == [
        f"1.toml:7:{len(option) + 13}: source.{option}[1]: the environment has no variable ESMOND_ETL_NO_SUCH_VARIABLE; set it, or write "
        "$${ for a literal ${",
        "1 error, 0 warnings" if option == "summaries" else "1 error, 1 warning",
    ]


def test_every_variable_that_is_not_set_is_named(check: Any) -> None:
    code, lines = check(RIGHT.replace("archive.example.net", "${NO_SUCH_HOST}:${NO_SUCH_PORT}"))
    assert [line.split(";")[0] for line in lines] == [
        "1.toml:6:1: source.url: the environment has no variable NO_SUCH_HOST",
        "1.toml:6:1: source.url: the environment has no variable NO_SUCH_PORT",
        "2 errors, 0 warnings",
    ]
    assert code == 2


def test_numbers_and_durations_may_come_from_the_environment(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("N", "3")
    monkeypatch.setenv("T", "10s")
    assert check(with_source('retries = "${N}"', 'timeout = "${T}"')) == (0, ["1.toml: ok"])


def test_an_event_type_unlike_all_known_ones_is_a_warning(check: Any) -> None:
    code, lines = check(with_source('event_types = ["wifi-signal", "histogram-owdelay-v2"]'))
    assert (code, lines) == (
        0,
        [
            "1.toml:7:16: warning: source.event_types[0]: unknown event type 'wifi-signal': its values travel as JSON",
            "1.toml:7:31: warning: source.event_types[1]: unknown event type 'histogram-owdelay-v2': its values travel as JSON",
            "0 errors, 2 warnings",
        ],
    )


@pytest.mark.parametrize(
    ("window", "period", "right"), [("1d", "1h", True), ("1d", "1d", True), ("1h", "1d", False), ("1w", "7h", True)]
)
def test_a_period_must_divide_the_window(check: Any, window: str, period: str, right: bool) -> None:
    text = with_transform('type = "resample"', f'period = "{period}"').replace("2014-01-01", f'2014-01-01\nwindow = "{window}"')
    assert (check(text)[0] == 0) is right


def test_every_transform_with_a_period_must_have_one_that_divides_the_window(check: Any) -> None:
    for name in ("resample", "merge_histograms"):
        code, lines = check(with_transform(f'type = "{name}"', 'period = "7h"'))
        assert code == 2
        assert lines[0].startswith("1.toml:10:1: transform[0].period: 7h does not divide the window of 1d")


def test_one_mistake_does_not_hide_those_that_others_make_together(check: Any) -> None:
    code, lines = check(RIGHT.replace("from = 2014-01-01", "from = 2014-01-01\nto = 2013-01-01\nparallel = 0"))
    assert code == 2
    assert [line.split(" ")[1] for line in lines] == ["from:", "parallel:", "errors,"]


SCALE = ('type = "scale"', "factor = 2")


def test_a_transform_may_work_on_what_an_earlier_one_made_of_an_event_type(check: Any) -> None:
    made = 'type = "histogram_stats"\nstatistic = "mean"\n\n[[transform]]'
    assert check(with_transform(made, *SCALE, 'event_types = ["histogram-owdelay"]')) == (0, ["1.toml: ok"])
    left_out = 'type = "drop"\nevent_types = ["failures"]\n\n[[transform]]'
    assert check(with_transform(left_out, *SCALE, 'event_types = ["failures"]')) == (0, ["1.toml: ok"])


def test_a_transform_after_one_that_nobody_knows_offline_is_not_judged(check: Any) -> None:
    python = 'type = "python"\ncall = "mine:numbers"\n\n[[transform]]'
    assert check(with_transform(python, *SCALE, 'event_types = ["histogram-owdelay"]')) == (0, ["1.toml: ok"])


def test_a_series_that_an_earlier_transform_may_make_is_not_judged(check: Any) -> None:
    python = 'type = "python"\ncall = "mine:numbers"\nevent_types = ["throughput"]\n\n[[transform]]'
    code, lines = check(with_transform(python, *SCALE, 'event_types = ["my-throughput"]'))
    assert (code, lines[-1]) == (0, "0 errors, 1 warning")


def test_what_the_file_does_not_name_is_not_judged(check: Any) -> None:
    assert check(with_transform('type = "convert"', 'to = "Gbit/s"')) == (0, ["1.toml: ok"])
    named_elsewhere = with_transform(*SCALE, 'event_types = ["failures"]').replace('net/"', 'net/"\nevent_types = ["throughput"]')
    assert check(named_elsewhere) == (0, ["1.toml: ok"])


def test_an_event_type_that_nobody_knows_holds_no_numbers(check: Any) -> None:
    code, lines = check(with_transform(*SCALE, 'event_types = ["wifi-signal"]'))
    assert code == 2
    assert "Scale works on numbers, and these values are json" in lines[0] + lines[1]


def test_of_all_summaries_only_base_data_are_sure_to_be_there(check: Any) -> None:
    text = with_transform('type = "histogram_stats"', 'statistic = "mean"', "", "[[transform]]", *SCALE).replace(
        'net/"', 'net/"\nevent_types = ["histogram-owdelay"]\nsummaries = ["all"]'
    )
    assert check(text.replace("factor = 2", 'factor = 2\nevent_types = ["histogram-owdelay"]')) == (0, ["1.toml: ok"])


def test_what_a_wrong_window_would_make_wrong_is_not_reported(check: Any) -> None:
    text = with_transform('type = "resample"', 'period = "7h"').replace("2014-01-01", '2014-01-01\nwindow = "1 w"')
    assert [line.split(" ")[1] for line in check(text)[1]] == ["window:", "error,"]


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://archive.example.net", True),
        ("https://ARCHIVE.example.net:443/", True),
        ("https://archive.example.net/esmond/perfsonar/archive", True),
        ("http://archive.example.net/", False),
        ("https://archive.example.net:8443/", False),
        ("https://archive.example.net/other/", False),
    ],
)
def test_an_archive_is_known_again_however_its_url_is_written(check: Any, url: str, same: bool) -> None:
    code, lines = check(RIGHT.replace('type = "parquet"\npath = "out"', f'type = "esmond"\nurl = "{url}"'))
    assert (code, lines[0].split(": ")[-1].split(";")[0] if same else lines) == (
        (2, "https://archive.example.net/esmond") if same else (0, ["1.toml: ok"])
    )


def test_other_script_aliases_are_other_archives(check: Any) -> None:
    sink = 'type = "esmond"\nurl = "https://archive.example.net/"\nscript_alias = "second"'
    assert check(RIGHT.replace('type = "parquet"\npath = "out"', sink)) == (0, ["1.toml: ok"])


def test_a_replay_onto_its_own_files_is_refused(check: Any) -> None:
    code, lines = check(RIGHT.replace('type = "esmond"\nurl = "https://archive.example.net/"', 'type = "parquet"\npath = "./out/"'))
    assert code == 2
    assert lines[0] == "1.toml:10:1: sink[0].path: this place is the source itself: out; write elsewhere"


def test_two_files_with_one_ledger_are_refused(check: Any) -> None:
    named = RIGHT.replace("2014-01-01", '2014-01-01\nname = "mine"')
    code, lines = check(named, named)
    assert code == 2
    assert lines[0] == "2.toml:3:1: name: 'mine' and its ledger are also those of 1.toml; give each pipeline a name of its own"


def test_json_has_the_same_problems(check: Any) -> None:
    code, lines = check(RIGHT.replace("url", "uri"), options=("--json",))
    found = json.loads("\n".join(lines))
    assert code == 2
    assert found == {
        "errors": 2,
        "warnings": 0,
        "problems": [
            {
                "file": "1.toml",
                "line": 4,
                "column": 1,
                "kind": "error",
                "where": "source.url",
                "what": "is missing: URL of the archive's host",
                "hint": "",
            },
            {
                "file": "1.toml",
                "line": 6,
                "column": 1,
                "kind": "error",
                "where": "source.uri",
                "what": "unknown option",
                "hint": "did you mean 'url'?",
            },
        ],
        "connected": [],
    }


def _archived(archive: Any) -> None:
    """Two metadata with three series each, in a served archive."""
    import requests

    head = {"Authorization": f"Token {archive.token}"}
    for number in (1, 2):
        types = [{"event-type": name} for name in ("throughput", "failures", "packet-retransmits")]
        ends = {"source": "192.0.2.1", "destination": f"192.0.3.{number}", "measurement-agent": "192.0.2.1"}
        posted = {"subject-type": "point-to-point", **ends, "tool-name": "iperf3", "event-types": types}
        requests.post(archive.archive_url, json=posted, headers=head, timeout=10).raise_for_status()


def test_connect_says_what_the_filters_match_and_writes_nothing(check: Any, archive: Any, tmp_path: Path) -> None:
    _archived(archive)
    text = RIGHT.replace("https://archive.example.net/", archive.url).replace('url = "', 'event_types = ["throughput"]\nurl = "')
    code, lines = check(text.replace("2014-01-01", "2014-01-01\nto = 2014-01-03"), options=("--connect",))
    assert (code, lines) == (
        0,
        ["1.toml: ok", "1.toml: source: 2 metadata, 2 series match; 2014-01-01 to 2014-01-03", "1.toml: sink[0] (parquet): opens"],
    )
    assert list((tmp_path / "out").rglob("*.parquet")) == []
    assert archive.requests["POST"] == 2


def test_connect_says_which_end_cannot_be_reached(check: Any) -> None:
    text = with_source("retries = 0").replace("https://archive.example.net/", "http://127.0.0.1:1/")
    code, lines = check(text, options=("--connect",))
    assert code == 1
    assert lines[1].startswith("1.toml: source: GET http://127.0.0.1:1/esmond/perfsonar/archive/")
    assert lines[2] == "1.toml: sink[0] (parquet): opens"


def test_warnings_do_not_stop_a_run(tmp_path: Path) -> None:
    path = tmp_path / "right.toml"
    path.write_text(with_source('api_key = "s3cr3t"', 'event_types = ["wifi-signal"]'))
    assert config.load(path).name == "right"


def test_the_made_up_series_have_every_event_type_and_its_summaries(tmp_path: Path) -> None:
    from esmond_etl.pipeline import checks as check
    from esmond_etl.plugin.chain import Chain

    path = tmp_path / "right.toml"
    path.write_text(with_source('summaries = ["all"]'))
    offered = {f"{each.event_type} {each.summary}" for each in check._candidates(config.load(path).source)}
    assert {"throughput base", "throughput average/86400", "histogram-rtt statistics/86400", "failures base"} <= offered
    assert not {"failures average/86400", "packet-loss-rate average/86400"} & offered
    metadata = Metadata("k", event_types={"throughput": {Summary(): Served("")}})
    assert Chain().becomes(Series(metadata, "throughput")) == Series(metadata, "throughput")


def test_lines_are_broken_between_words_in_a_terminal_alone() -> None:
    import pty

    parent, child = pty.openpty()
    env = {**os.environ, "COLUMNS": "80"}
    command = [sys.executable, "-m", "esmond_etl", "check", "from-after-to.toml"]
    assert subprocess.run(command, stdout=child, env=env, cwd=GOLDEN, check=False).returncode == 2
    os.close(child)
    assert os.read(parent, 10_000).decode().splitlines() == [
        "from-after-to.toml:1:1: from: 2014-01-01 is not before `to`, 2013-01-01; swap",
        "    them, or leave `to` out for now",
        "1 error, 0 warnings",
    ]
    os.close(parent)
