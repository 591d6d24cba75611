"""Damage to one of ten million datapoints, found by digests: `python -m tests.benchmarks.proof FOLDER`, facts as JSON.

A value is flipped, a datapoint removed, added, or moved by a second in the Parquet tree of a sink; `verify --quick` must find it each time.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.data import Size
from tests.benchmarks.growth import PIPELINE, asked
from tests.benchmarks.measure import PYTHON, run, served

SIZE = Size(50, 50_000)  #: by four event types

TIMES = "from = 2014-04-13\nto = 2014-06-13"


def _flipped(rows: pa.Table) -> pa.Table:
    val = rows["val"].to_pylist()
    val[len(val) // 2] += 1
    return rows.set_column(rows.schema.get_field_index("val"), "val", pa.array(val, pa.float64()))


def _removed(rows: pa.Table) -> pa.Table:
    middle = rows.num_rows // 2
    return pa.concat_tables([rows.slice(0, middle), rows.slice(middle + 1)])


def _added(rows: pa.Table) -> pa.Table:
    middle = rows.num_rows // 2
    return pa.concat_tables([rows.slice(0, middle), rows.slice(middle, 1), rows.slice(middle)])


def _moved(rows: pa.Table) -> pa.Table:
    ts = rows["ts"].cast(pa.timestamp("s", "UTC")).cast(pa.int64()).to_pylist()
    ts[len(ts) // 2] += 1
    moved = pa.array(ts, pa.int64()).cast(pa.timestamp("s", "UTC")).cast(rows.schema.field("ts").type)
    return rows.set_column(rows.schema.get_field_index("ts"), "ts", moved)


DAMAGES: dict[str, Callable[[pa.Table], pa.Table]] = {
    "flipped": _flipped,
    "removed": _removed,
    "added": _added,
    "moved": _moved,
}


def verified(folder: Path, url: Any, *options: str, code: int = 0) -> dict[str, Any]:
    """What a verification costs, and what it says."""
    before = asked(url)
    command = [PYTHON, "-m", "esmond_etl", "verify", "bench.toml", *options]
    cost = run(command, folder, code=code)
    return {**{name: round(value, 2) for name, value in cost._asdict().items()}, "requests": asked(url) - before}


def differing(folder: Path) -> list[dict[str, Any]]:
    """What differs, by digests first."""
    command = [PYTHON, "-m", "esmond_etl", "verify", "bench.toml", "--quick", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found: list[dict[str, Any]] = json.loads(done.stdout)["differing"]
    return found


def main(folder: Path) -> None:
    """Deliver, damage, verify."""
    folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {}
    with served(SIZE) as url:
        (folder / "bench.toml").write_text(PIPELINE.format(url=url.url, times=TIMES, trust="false"))
        facts["run"] = {
            **run([PYTHON, "-m", "esmond_etl", "run", "bench.toml", "--quiet"], folder)._asdict(),
            "requests": asked(url),
        }
        facts["quick"], facts["full"] = verified(folder, url, "--quick"), verified(folder, url)
        victim = sorted((folder / "out" / "event_type=throughput").glob("**/*.parquet"))[3]
        kept = folder / "kept.parquet"
        shutil.copy2(victim, kept)
        for kind, change in DAMAGES.items():
            rows = pq.read_table(kept, partitioning=None)
            pq.write_table(change(rows), victim)
            facts[kind] = {**verified(folder, url, "--quick", code=1), "differing": differing(folder)}
            shutil.copy2(kept, victim)
    facts["datapoints"] = sum(pq.read_metadata(path).num_rows for path in (folder / "out").glob("event_type=*/**/*.parquet"))
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
