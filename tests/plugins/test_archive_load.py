"""Measurements loaded into an archive from a file, the sample measurements, and the plugin's face."""

import json
import subprocess
import sys
from collections import Counter
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pytest
from click.testing import CliRunner, Result
from esmond_etl_archive import Archive, Loaded, load, sample
from esmond_etl_archive.search import Search, Slice, Times

METADATA = {
    "subject-type": "network-element",
    "source": "192.0.2.1",
    "measurement-agent": "192.0.2.1",
    "tool-name": "pscheduler/snmpget",
    "input-source": "router.example.net",
    "event-types": [
        {"event-type": "throughput", "summaries": [{"summary-type": "average", "summary-window": 86400}]},
        {"event-type": "histogram-ttl", "summaries": [{"summary-type": "aggregation", "summary-window": 86400}]},
    ],
}
RECORD = {"metadata": METADATA, "datapoints": {"throughput": [[60, 5], [120, 7]], "histogram-ttl": [[60, {"59": 2}]]}}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(esmond_etl_archive.esmond_etl_commands()["archive"], arguments)


def loaded(tmp_path: Path, content: Any) -> Result:
    data = tmp_path / "data.json"
    data.write_text(content if isinstance(content, str) else json.dumps(content))
    return run("load", str(tmp_path / "archive.db"), str(data))


def held(tmp_path: Path, event_type: str, kind: str, window: int) -> Any:
    with closing(Archive(tmp_path / "archive.db")) as archive:
        key = archive.search(Search(), Slice())[1][0].key
        return json.loads(archive.page(key, event_type, kind, window, Times(), Slice()).json)


def test_a_file_is_loaded_once_however_often_it_is_loaded(tmp_path: Path) -> None:
    first, second = loaded(tmp_path, [RECORD]), loaded(tmp_path, [RECORD])
    assert first.output == "1 metadata: 3 datapoints written, 0 unchanged, 0 in conflict with what is there\n"
    assert second.output == "1 metadata: 0 datapoints written, 3 unchanged, 0 in conflict with what is there\n"
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert held(tmp_path, "throughput", "average", 86400) == [{"ts": 0, "val": 6.0}]
    assert held(tmp_path, "histogram-ttl", "aggregation", 86400) == [{"ts": 0, "val": {"59": 2}}]


def test_what_is_there_with_another_value_stays_and_is_reported(tmp_path: Path) -> None:
    loaded(tmp_path, [RECORD])
    changed = {"throughput": [[60, 6], [120, 7.9], [180, 1]], "histogram-ttl": [[60, {"59": 3}]]}
    again = loaded(tmp_path, [RECORD | {"datapoints": changed}])
    assert again.output == "1 metadata: 1 datapoints written, 1 unchanged, 2 in conflict with what is there\n"
    assert again.exit_code == 1
    assert held(tmp_path, "histogram-ttl", "aggregation", 86400) == [{"ts": 0, "val": {"59": 2}}]


def test_a_time_twice_in_a_file_is_written_once(tmp_path: Path) -> None:
    twice = loaded(tmp_path, [RECORD | {"datapoints": {"throughput": [[60, 5], [60, 5], [60, 6]]}}])
    assert twice.output == "1 metadata: 1 datapoints written, 1 unchanged, 1 in conflict with what is there\n"
    assert held(tmp_path, "throughput", "base", 0) == [{"ts": 60, "val": 5.0}]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[", "data.json: Input data was truncated"),
        ({"metadata": {}}, "data.json: Expected `array`, got `object`"),
        ([{"metadata": {}}], "data.json: Object missing required field `datapoints` - at `$[0]`"),
        ([{"metadata": {}, "datapoints": {}}], "Missing subject-type field in request"),
        ([RECORD | {"datapoints": {"failures": []}}], "datapoints of failures, which their metadata does not declare"),
        ([RECORD | {"datapoints": {"throughput": [[60, 5], [61, "x"]]}}], "throughput at 61: Value must be an integer"),
    ],
)
def test_what_cannot_be_loaded_is_told_in_a_sentence(tmp_path: Path, content: Any, sentence: str) -> None:
    result = loaded(tmp_path, content)
    assert (result.exit_code, result.output.splitlines()[-1].endswith(sentence)) == (2, True), result.output


def test_a_file_that_is_no_archive_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "archive.db").write_text("this is text, and it is long enough not to be an empty database file")
    result = loaded(tmp_path, [RECORD])
    assert (result.exit_code, result.output.splitlines()[-1]) == (
        2,
        f"Error: {tmp_path / 'archive.db'}: file is not a database",
    )


def test_the_sample_is_the_same_for_the_same_seed() -> None:
    assert list(sample(seed=3, days=2)) == list(sample(seed=3, days=2))
    assert list(sample(seed=3, days=2)) != list(sample(seed=4, days=2))


def test_the_sample_loads_without_conflicts(tmp_path: Path) -> None:
    records = list(sample(days=3))
    size = sum(len(points) for record in records for points in record["datapoints"].values())
    with closing(Archive(tmp_path / "archive.db")) as archive:
        assert load(archive, records) == Loaded(len(records), size, 0, 0)
        assert load(archive, records) == Loaded(len(records), 0, size, 0)


def test_the_sample_s_losses_agree_with_its_counts_and_histograms() -> None:
    delays = [record["datapoints"] for record in sample(days=7) if "packet-loss-rate" in record["datapoints"]]
    for points in delays:
        by_type = {name: dict(pairs) for name, pairs in points.items()}
        for ts, rate in by_type["packet-loss-rate"].items():
            sent, lost = by_type["packet-count-sent"][ts], by_type["packet-count-lost"][ts]
            assert rate == {"numerator": lost, "denominator": sent}
            assert sum(by_type["histogram-owdelay"][ts].values()) == sent - lost
        assert any(by_type["packet-count-lost"].values())


def test_the_sample_has_what_a_month_of_measurements_has() -> None:
    records = list(sample())
    sizes = Counter[str]()
    for record in records:
        sizes.update({name: len(points) for name, points in record["datapoints"].items()})
    assert 150_000 < sum(sizes.values()) < 300_000
    assert {record["metadata"]["subject-type"] for record in records} == {"point-to-point", "network-element"}
    assert any(":" in record["metadata"]["source"] for record in records)
    errors = [value["error"] for record in records for _, value in record["datapoints"].get("failures", [])]
    assert any(not error.isascii() for error in errors)
    traces = [trace for record in records for _, trace in record["datapoints"].get("packet-trace", [])]
    assert {len(trace) for trace in traces} == {7, 8}


def test_the_sample_comes_record_by_record() -> None:
    assert [next(iter(record["datapoints"])) for record in islice(sample(days=1), 2)] == ["throughput", "throughput"]


def test_importing_the_plugin_loads_neither_server_nor_command_line() -> None:
    code = "import sys, esmond_etl_archive; print({'falcon', 'waitress', 'click', 'sqlite3'} & set(sys.modules))"
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True) == "set()\n"


def test_every_name_of_the_plugin_is_there() -> None:
    assert all(getattr(esmond_etl_archive, name) for name in esmond_etl_archive.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        esmond_etl_archive.nonsense  # noqa: B018
