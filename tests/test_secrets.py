"""Secrets come from the environment, from files, and from systemd's credentials; and no message says what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from esmond_etl.cli.group import run
from esmond_etl.model.errors import RequestError
from esmond_etl.model.text import printable
from esmond_etl.pipeline import file

SINK = '[[sink]]\ntype = "esmond"\nurl = "https://new.example.net/"\nusername = "u"\napi_key = "{key}"\n'


def pipeline(folder: Path, key: str, rest: str = "") -> Path:
    path = folder / "p.toml"
    path.write_text(
        f'from = 2014-01-01\n[source]\ntype = "esmond"\nurl = "https://old.example.net/"\n{rest}' + SINK.replace("{key}", key)
    )
    return path


def key_of(path: Path) -> str:
    (sink,) = file.load(path).sinks
    return str(sink.api_key.get_secret_value())  # type: ignore[attr-defined]


def test_a_secret_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2\n")
    assert key_of(pipeline(tmp_path, f"${{file:{tmp_path}/key}}")) == "hunter2"
    assert key_of(pipeline(tmp_path, "${file:key}")) == "hunter2"


def test_a_secret_is_read_from_the_credentials_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "TARGET_KEY").write_text("hunter2")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert key_of(pipeline(tmp_path, "${TARGET_KEY}")) == "hunter2"
    monkeypatch.setenv("TARGET_KEY", "nearer")
    assert key_of(pipeline(tmp_path, "${TARGET_KEY}")) == "nearer"


def test_a_secret_that_is_not_there_or_empty_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EMPTY", "")
    for key, said in (
        ("${file:none}", "none cannot be read: No such file or directory"),
        ("${NONE_SUCH}", "the environment has no variable NONE_SUCH"),
        ("${EMPTY}", "the secret is empty"),
    ):
        assert run(["check", str(pipeline(tmp_path, key))]) == 2
        assert said in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("option", ["timeout", "type", "url", "event_types", "match", "summaries"])
def test_what_the_environment_has_is_printed_of_no_option(
    tmp_path: Path, option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SECRET", "hunter2x")
    monkeypatch.setenv("KEY", "k")
    path = pipeline(tmp_path, "${KEY}")
    text = path.read_text()
    line = f'{option} = "${{SECRET}}"\n'
    if option in ("type", "url"):
        text = "\n".join(each for each in text.splitlines() if not each.startswith(f"{option} = ") or "new.example" in each)
    path.write_text(text.replace("[source]\n", f"[source]\n{line}", 1))
    run(["check", str(path)])
    captured = capsys.readouterr()
    assert "hunter2x" not in captured.out + captured.err


def test_control_characters_of_others_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[2Kall delivered\x9b\u202e\tb\n") == "a\\x1b[2Kall delivered\\x9b\\u202e\tb\n"
    error = RequestError("http://x/: 500: oh\x1b[1A\nmirror: all delivered", "http://x/")
    assert str(error) == "http://x/: 500: oh\\x1b[1A mirror: all delivered"


def test_a_time_that_ends_before_it_begins_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "k")
    assert run(["run", str(pipeline(tmp_path, "${KEY}")), "--from", "2015-01-01", "--to", "2014-06-01"]) == 2
    assert "from (2015-01-01) lies after to (2014-06-01)" in capsys.readouterr().err
