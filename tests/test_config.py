"""Pipeline files: what they say, and where it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esmond_etl import ConfigError, Interval
from esmond_etl.model.interval import LONGEST, parse_duration
from esmond_etl.pipeline import file as config
from esmond_etl.pipeline import positions as toml_positions
from esmond_etl.pipeline.definition import Definition

NOW = 1400000000  # 2014-05-13T16:53:20Z

PIPELINE = """
name = "mine"
from = 2014-01-01
window = "1h"
parallel = 4

[source]
type = "esmond"
url = "https://archive.example.net/"

[[transform]]
type = "scale"
factor = 2

[[sink]]
type = "parquet"
path = "out"

[[sink]]
type = "stdout"
"""


@pytest.fixture
def load(tmp_path: Path) -> Any:
    """The pipeline in a file with the given text."""

    def loaded(text: str) -> Definition:
        path = tmp_path / "pipeline.toml"
        path.write_text(text, encoding="utf-8")
        return config.load(path)

    return loaded


def test_a_file_becomes_its_settings_and_stages(load: Any, tmp_path: Path) -> None:
    pipeline = load(PIPELINE)
    assert (pipeline.name, pipeline.settings.window, pipeline.settings.parallel, pipeline.settings.lookback) == (
        "mine",
        3600,
        4,
        21600,
    )
    assert pipeline.labels == ("sink[0] (parquet)", "sink[1] (stdout)")
    assert [type(each).__name__ for each in (pipeline.source, *pipeline.transforms, *pipeline.sinks)] == [
        "EsmondSource",
        "Scale",
        "ParquetSink",
        "StdoutSink",
    ]
    assert pipeline.ledger_path == tmp_path / ".esmond-etl" / "mine.ledger"


def test_a_pipeline_without_a_name_has_that_of_its_file(load: Any) -> None:
    assert load(PIPELINE.replace('name = "mine"', "")).name == "pipeline"


def test_a_pipeline_knows_where_it_is_named(load: Any) -> None:
    assert load(PIPELINE).position(("name",)) == (2, 1)
    assert load(PIPELINE.replace('name = "mine"\n', "")).position(("name",)) == (1, 1)


def test_only_whole_windows_that_have_ended_long_enough_ago_are_wanted(load: Any) -> None:
    pipeline = load(PIPELINE)
    assert pipeline.wanted(NOW) == Interval(1388534400, NOW - 3200)  # the window that ends 53 minutes ago is the last
    assert pipeline.wanted(NOW - 3200 + 599).end == NOW - 3200 - 3600  # one that ended less than 10 minutes ago is not
    assert pipeline.wanted(NOW - 3200 + 600).end == NOW - 3200


def test_other_times_may_be_wanted(load: Any) -> None:
    assert load(PIPELINE).wanted(NOW, "2014-03-01T00:30:00Z", "2014-03-01T02:30:00Z") == Interval(1393632000, 1393642800)


def test_a_time_that_is_none_is_one_sentence(load: Any) -> None:
    with pytest.raises(ConfigError, match="'soon' is not a time: write a date or time such as"):
        load(PIPELINE).wanted(NOW, "soon")


def test_variables_are_taken_from_the_environment_wherever_they_stand(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "archive")
    monkeypatch.setenv("NAMES", "throughput")
    dedupe = 'type = "dedupe"\nevent_types = ["${NAMES}", "$${x}"]'
    text = PIPELINE.replace("//archive.", "//${HOST}-1.").replace('type = "scale"\nfactor = 2', dedupe)
    pipeline = load(text)
    assert (pipeline.source.url, pipeline.transforms[0].event_types) == ("https://archive-1.example.net/", ["throughput", "${x}"])


@pytest.mark.parametrize("far", ['"99999999w"', "99999999999999999999"])
def test_a_time_out_of_reach_is_one_sentence(load: Any, far: str) -> None:
    with pytest.raises(ConfigError, match=r"pipeline.toml:3:1: from: .* is outside the range of dates$"):
        load(PIPELINE.replace("2014-01-01", far))


@pytest.mark.parametrize(
    ("far", "said"),
    [
        ("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59-23:59"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),
        (f'"{"9" * 5000}d"', f"'{'9' * 39}"),
        ("0x" + "f" * 5000, "this number"),
    ],
    ids=["late", "early", "age", "number"],
)
def test_a_time_out_of_reach_is_shown_as_it_was_written(load: Any, far: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(PIPELINE.replace("2014-01-01", far))
    assert str(caught.value).split(": ", 1)[1] == f"from: {said} is outside the range of dates"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("parallel = [" + "[" * 3000 + "]" * 3001, "1:1: is nested too deeply to be read"),
        ("parallel = " + "{ a = " * 3000 + "1" + "}" * 3000, "1:1: is nested too deeply to be read"),
        ("parallel" + ".a" * 3000 + " = 1", "1:1: is nested too deeply to be read"),
        ("parallel = " + "9" * 5000, "5:12: not TOML: a number has too many digits"),
    ],
    ids=["lists", "tables", "dots", "digits"],
)
def test_toml_that_goes_on_and_on_is_one_sentence(load: Any, line: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(PIPELINE.replace("parallel = 4", line))
    assert str(caught.value).split("pipeline.toml:", 1)[1] == said


@pytest.mark.parametrize(
    ("text", "right"), [("36525d", True), ("36526d", False), ("876600h", True), ("876601h", False), ("9" * 5000 + "s", False)]
)
def test_no_duration_is_longer_than_a_hundred_years(text: str, right: bool) -> None:
    if right:
        assert parse_duration(text) == LONGEST
        return
    with pytest.raises(ValueError, match=r"^'9*[0-9]*[shd]?'? is too long: no duration is longer than 100 years$"):
        parse_duration(text)


def test_a_secret_from_the_environment_is_never_shown(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "s3cr3t")
    pipeline = load(PIPELINE.replace('net/"', 'net/"\napi_key = "${KEY}"'))
    assert "s3cr3t" not in repr(pipeline)
    assert "s3cr3t" not in pipeline.delivery


def test_delivery_depends_on_what_goes_where_and_on_nothing_else(load: Any) -> None:
    def delivery(old: str = "", new: str = "") -> str:
        text: str = load(PIPELINE.replace(old, new)).delivery
        return text

    same = delivery()
    assert delivery("parallel = 4", "parallel = 5") == same
    assert delivery("2014-01-01", "2015-01-01") == same
    others = [delivery("factor = 2", "factor = 3"), delivery('"out"', '"elsewhere"'), delivery('"1h"', '"1d"')]
    assert len({same, *others}) == 4


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^nowhere/x.toml:1:1: cannot be read: No such file or directory$"):
        config.load("nowhere/x.toml")


POSITIONS = """# a comment
plain = 1
dotted.key = 2
[table]
inner = { a = 1, "b c" = [10, 20] }
  indented = 3
[[list]]
x = 1
[[list]]
x = [
  1,
  # between
  { y = 2 },
]
[list.sub]
z = "äöü" # after
[a.b]
c = 1
"""


@pytest.mark.parametrize(
    ("path", "position"),
    [
        (("plain",), (2, 1)),
        (("dotted",), (3, 1)),
        (("dotted", "key"), (3, 1)),
        (("table",), (4, 1)),
        (("table", "inner"), (5, 1)),
        (("table", "inner", "a"), (5, 11)),
        (("table", "inner", "b c"), (5, 18)),
        (("table", "inner", "b c", 1), (5, 31)),
        (("table", "indented"), (6, 3)),
        (("list", 0, "x"), (8, 1)),
        (("list", 1), (9, 1)),
        (("list", 1, "x", 0), (11, 3)),
        (("list", 1, "x", 1, "y"), (13, 5)),
        (("list", 1, "sub", "z"), (16, 1)),
        (("a",), (17, 1)),
        (("a", "b", "c"), (18, 1)),
        (("list", 1, "missing"), (9, 1)),
        (("nowhere", "at", "all"), (1, 1)),
    ],
)
def test_every_key_is_found_where_it_stands(path: toml_positions.Path, position: toml_positions.Position) -> None:
    assert toml_positions.locate(toml_positions.positions(POSITIONS), path) == position


KEYS = ["from", "window", "source", "transform", "sink", "test", "type", "url", "path", "points", "expected", "event_types", "x"]
VALUES = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-5, 5),
        st.integers(),
        st.floats(allow_nan=False),
        st.sampled_from(["", "1d", "99999999w", "now", "esmond", "parquet", "scale"]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6))
def test_no_file_however_wrong_makes_more_than_messages(tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("wrong") / "x.toml"
    path.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in data.items()), encoding="utf-8")
    pipeline, problems = config.inspect(path)
    assert pipeline is not None or any(not problem.warning for problem in problems)
    assert all(str(problem).startswith(f"{path}:{problem.position[0]}:{problem.position[1]}: ") for problem in problems)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)


def test_relative_paths_start_at_the_folder_of_the_pipeline_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "p.toml").write_text(
        """
from = 2014-01-01
ledger = "ledgers"
[source]
type = "esmond"
url = "https://archive.example.net/"
ca = "ca.pem"
[[transform]]
type = "rename"
fields = ["source"]
csv = "names.csv"
[[transform]]
type = "python"
call = "mine:function"
[[sink]]
type = "parquet"
path = "out/"
[[sink]]
type = "sql"
url = "sqlite:warehouse.db"
[[sink]]
type = "parquet"
path = "/elsewhere/out"
"""
    )
    monkeypatch.chdir(tmp_path)
    relative = config.load("site/p.toml")
    monkeypatch.chdir("/")
    absolute = config.load(tmp_path / "site" / "p.toml")
    for loaded in (relative, absolute):
        stages = (loaded.source, *loaded.transforms, *loaded.sinks)
        found = [getattr(stage, name) for stage, name in zip(stages, ("ca", "csv", "path", "path", "url", "path"), strict=True)]
        folder = tmp_path / "site"
        places = [
            folder / "ca.pem",
            folder / "names.csv",
            folder,
            folder / "out",
            f"sqlite:{folder}/warehouse.db",
            "/elsewhere/out",
        ]
        assert [str(each).rstrip("/.") for each in found] == [str(each).rstrip("/.") for each in places]
    assert relative.delivery == absolute.delivery
    assert relative.ledger_path.resolve().parent != Path("/ledgers")


def test_a_changed_csv_or_function_is_a_changed_transform(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text(
        """
from = 2014-01-01
[source]
type = "esmond"
url = "https://archive.example.net/"
[[transform]]
type = "rename"
fields = ["source"]
csv = "names.csv"
[[transform]]
type = "python"
call = "changing:function"
[[sink]]
type = "stdout"
"""
    )
    (tmp_path / "names.csv").write_text("a,b\n")
    (tmp_path / "changing.py").write_text("def function(point): return point\n")
    before = config.load(file).delivery
    assert config.load(file).delivery == before
    (tmp_path / "names.csv").write_text("a,c\n")
    with_other_names = config.load(file).delivery
    (tmp_path / "changing.py").write_text("def function(point): return None\n")
    assert len({before, with_other_names, config.load(file).delivery}) == 3
