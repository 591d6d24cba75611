"""A pipeline whose transforms changed: what was delivered before is delivered again, or kept knowingly, but never forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from esmond_etl import ConfigError, Interval, IntervalSet, Metadata, Pipeline, Series
from esmond_etl.cli.group import run as command_line
from esmond_etl.engine.ledger import Ledger
from esmond_etl.testing import RecordedSource

DAY = 86400
SERIES = Series(Metadata("k", source="192.0.2.1", destination="192.0.2.2"), "throughput")


def pipeline(folder: Path, factor: float, first: int = 0) -> Pipeline:
    recorded = {SERIES: [[(day * DAY + 5, 100.0) for day in range(10)]]}
    return Pipeline(
        "p",
        source=RecordedSource(recorded=recorded),
        transforms=[{"type": "scale", "event_types": ["throughput"], "factor": factor}],
        sinks=[{"type": "parquet", "path": str(folder / "out")}],
        ledger=str(folder),
        from_=first * DAY,
        to=10 * DAY,
    )


def values(folder: Path) -> list[float]:
    table = ds.dataset(folder / "out" / "event_type=throughput", format="parquet", partitioning="hive").to_table()
    return table.sort_by("ts")["val"].to_pylist()  # type: ignore[no-any-return]


def former(folder: Path) -> Any:
    ledger = Ledger(folder / "p.ledger")
    found = ledger.former()
    ledger.close()
    return found


def test_a_changed_transform_whose_from_moved_is_refused_until_told_what_to_do(tmp_path: Path) -> None:
    pipeline(tmp_path, 1.0).run()
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"1 series .* \(1970-01-01 to 1970-01-08\): add --redeliver all .* new-only"):
            pipeline(tmp_path, 2.0, first=7).run()
    assert values(tmp_path) == [100.0] * 10
    result = pipeline(tmp_path, 2.0, first=7).run(redeliver="all")
    assert "everything is delivered again" in result.note
    assert values(tmp_path) == [200.0] * 10
    assert former(tmp_path) == {}
    assert pipeline(tmp_path, 2.0, first=7).run().read == 0


def test_what_is_kept_is_known(tmp_path: Path) -> None:
    pipeline(tmp_path, 1.0, first=2).run(to=8 * DAY)
    result = pipeline(tmp_path, 2.0, first=5).run(redeliver="new-only")
    assert "kept as it is" in result.note
    assert values(tmp_path) == [100.0] * 6 + [200.0] * 2
    assert former(tmp_path) == {SERIES.id: IntervalSet([Interval(2 * DAY, 8 * DAY)])}
    assert pipeline(tmp_path, 2.0, first=5).run().read == 0
    pipeline(tmp_path, 2.0, first=5).run(redeliver="all")
    assert values(tmp_path) == [200.0] * 8
    assert former(tmp_path) == {}


def test_a_changed_transform_of_the_same_time_delivers_all_again_without_being_told(tmp_path: Path) -> None:
    pipeline(tmp_path, 1.0).run()
    assert "everything is delivered again" in pipeline(tmp_path, 2.0).run().note
    assert values(tmp_path) == [200.0] * 10
    assert former(tmp_path) == {}


def test_a_part_that_was_not_delivered_again_is_not_forgotten_when_from_moves_later(tmp_path: Path) -> None:
    pipeline(tmp_path, 1.0).run()
    pipeline(tmp_path, 2.0).run(from_=6 * DAY)
    assert values(tmp_path) == [100.0] * 6 + [200.0] * 4
    assert former(tmp_path) == {SERIES.id: IntervalSet([Interval(0, 6 * DAY)])}
    with pytest.raises(ConfigError, match="--redeliver all"):
        pipeline(tmp_path, 2.0, first=6).run()
    pipeline(tmp_path, 2.0, first=6).run(redeliver="new-only")
    assert pipeline(tmp_path, 2.0, first=6).run().read == 0
    assert former(tmp_path) == {SERIES.id: IntervalSet([Interval(0, 6 * DAY)])}


def test_status_and_verify_show_what_was_delivered_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = tmp_path / "recorded"
    source = RecordedSource(recorded={SERIES: [[(day * DAY + 5, 100.0) for day in range(10)]]})
    parquet = {"type": "parquet", "path": str(recorded)}
    Pipeline("r", source=source, sinks=[parquet], ledger=str(tmp_path), from_=0, to=10 * DAY).run()
    file = tmp_path / "p.toml"

    def write(factor: int, first: str) -> None:
        file.write_text(f"""from = {first}
to = 1970-01-11

[source]
type = "parquet"
path = "recorded"

[[transform]]
type = "scale"
event_types = ["throughput"]
factor = {factor}.0

[[sink]]
type = "parquet"
path = "out"
""")

    write(1, "1970-01-01")
    assert command_line(["run", str(file)]) == 0
    write(2, "1970-01-08")
    capsys.readouterr()
    assert command_line(["run", str(file)]) == 2
    assert "outside the time that the file wants now" in capsys.readouterr().err
    assert command_line(["run", str(file), "--redeliver", "new-only"]) == 0
    capsys.readouterr()
    command_line(["status", str(file)])
    assert "1 series hold datapoints that were delivered before the pipeline changed" in capsys.readouterr().out
    command_line(["verify", str(file)])
    assert "1 series hold datapoints that were delivered before the pipeline changed" in capsys.readouterr().out
