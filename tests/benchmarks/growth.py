"""What grows: planning, the run in which nothing is new, a year of hourly loads."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

from tests.benchmarks.data import NUMBERS, Size
from tests.benchmarks.limit import limit
from tests.benchmarks.measure import HERE, PYTHON, Served, in_turn, run, served
from tests.benchmarks.tables import to_parquet

NAMES: Final = ("planning", "million", "nothing_new", "curve", "year", "limit")

MANY = Size(100_000, 1250, 1)  #: by five event types

DECADE = "from = 2014-04-13\nto = 2024-04-10"

PIPELINE = """
{times}
window = "1d"
parallel = 8

[source]
type = "esmond"
url = "{url}/"
trust_time_updated = {trust}

[[sink]]
type = "parquet"
path = "out"
"""


def measured(name: str, folder: Path) -> dict[str, Any]:
    """One of the tables, as plain data."""
    return {"planning": planning, "million": million, "nothing_new": nothing_new, "curve": curve, "year": year, "limit": limit}[
        name
    ](folder)


def planning(folder: Path) -> dict[str, Any]:
    """Ten years of daily windows of half a million series: with an empty ledger, with one that has nine years, with gaps in those."""
    limits: list[dict[str, Any]] = []
    with served(MANY, "--alike") as url:
        list_alone = _planned(_place(folder, "list", url, DECADE) / "bench.toml", "list")
        found = {"list alone": list_alone}
        for label, gaps in (("empty ledger", None), ("nine years done", 0), ("with gaps in one of 100 series", 100)):
            place = _place(folder, label, url, DECADE)
            if gaps is not None:
                subprocess.run(
                    [PYTHON, "-m", "tests.benchmarks.ledgers", place / "bench.toml", str(gaps)], cwd=HERE.parents[1], check=True
                )
            found[label] = facts = _planned(place / "bench.toml")
            plan = facts["planned: cpu"] - list_alone["listed: cpu"]
            first = facts["first task: wall"] - facts["listed: wall"]
            memory = facts["planned: memory"] - list_alone["listed: memory"]
            for what, value, most in (
                ("planning, s of CPU", plan, 10),
                ("first task after the list, s", first, 2),
                ("memory, MB", memory, 200),
            ):
                limits.append(_limit(f"{label}: {what}", value, most))
    return {"table": "planning", "contenders": [], "facts": found, "limits": limits}


def million(folder: Path) -> dict[str, Any]:
    """A day of a million series, planned, handed out and recorded; the tasks themselves take no time."""
    with served(Size(200_000, 1250, 1), "--alike") as url:
        day = "from = 2014-04-14\nto = 2014-04-15"
        list_alone = _planned(_place(folder, "million-list", url, day) / "bench.toml", "list")
        facts = _planned(_place(folder, "million", url, day) / "bench.toml", "record")
    limits = [
        _limit("s of CPU beyond the list", facts["recorded: cpu"] - list_alone["listed: cpu"], 60),
        _limit("MB beyond the list", facts["peak"] - list_alone["peak"], 1000),
    ]
    return {"table": "million", "contenders": [], "facts": {"list alone": list_alone, "to the end": facts}, "limits": limits}


def _planned(pipeline: Path, *options: str) -> dict[str, float]:
    command = [PYTHON, "-m", "tests.benchmarks.planning", str(pipeline), *options]
    done = subprocess.run(command, cwd=HERE.parents[1], check=True, capture_output=True, text=True)
    facts: dict[str, float] = json.loads(done.stdout)
    return facts


def _place(folder: Path, label: str, url: Served, times: str, trust: bool = False) -> Path:
    place = folder / label.replace(" ", "-")
    place.mkdir(exist_ok=True)
    (place / "bench.toml").write_text(PIPELINE.format(url=url.url, times=times, trust=str(trust).lower()))
    return place


def nothing_new(folder: Path) -> dict[str, Any]:
    """A run over the month after all of a hundred thousand series had ended, on an archive whose `time-updated` is trusted."""
    with served(Size(20_000, 1250, 1), "--empty") as url:
        runs = []
        for end in ("2014-04-16", "2014-05-16"):
            place = _place(folder, "nothing-new", url, f"from = 2014-04-13\nto = {end}", trust=True)
            before = asked(url)
            cost = run([PYTHON, "-m", "esmond_etl", "run", "bench.toml", "--quiet"], place)
            runs.append({**cost._asdict(), "data requests": asked(url) - before})
    limits = [_limit("data requests", runs[1]["data requests"], 0), _limit("s of wall time", runs[1]["wall"], 15)]
    facts = {"first run": runs[0], "second run": runs[1]}
    return {"table": "nothing_new", "contenders": [], "facts": facts, "limits": limits}


def curve(folder: Path) -> dict[str, Any]:
    """CPU seconds at 10^5, 10^6 and 10^7 numbers (one, ten, a hundred times as many series), and of a run over nothing."""
    cost = {}
    for metadata, runs in ((0, 5), (20, 5), (200, 5), (2000, 3)):
        size = Size(metadata or 1, 1250 if metadata else 0)
        with served(size, *(() if metadata else ("--empty",))) as url:
            mine = to_parquet("curve", url.url, size, NUMBERS)
            in_turn([mine], runs, folder)
            cost[metadata * 5000] = mine.middle("cpu")
    start_up = cost.pop(0)
    each = {numbers: (cpu - start_up) / numbers * 1e6 for numbers, cpu in cost.items()}
    found = {
        "CPU of a run over nothing, s": round(start_up, 3),
        "CPU, s, by datapoints": {numbers: round(cpu, 3) for numbers, cpu in cost.items()},
        "CPU over that, s a million, by datapoints": {numbers: round(cpu, 3) for numbers, cpu in each.items()},
    }
    limits = [_limit("a million of ten million to a million", each[10_000_000] / each[1_000_000], 1.1)]
    return {"table": "curve", "contenders": [], "facts": found, "limits": limits}


def year(folder: Path) -> dict[str, Any]:
    """A year of a thousand series, loaded hour by hour, and compacted every night, into Parquet and into Delta tables: takes two hours."""
    facts = {kind: _loaded(folder, kind) for kind in ("parquet", "delta")}
    what, cpu = "most files of an event type and day in the end", "loading: s of CPU"
    limits = [_limit(f"{kind}: {what}", found[what], 2) for kind, found in facts.items()]
    ratio = facts["delta"][cpu] / facts["parquet"][cpu]
    return {"table": "year", "contenders": [], "facts": facts, "limits": [*limits, _limit("CPU of Delta to Parquet", ratio, 1.3)]}


def _loaded(folder: Path, kind: str) -> dict[str, float]:
    command = [PYTHON, "-m", "tests.benchmarks.year", str(folder / kind), "365", kind]
    done = subprocess.run(command, cwd=HERE.parents[1], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def asked(url: Served) -> int:
    with urlopen(f"{url.url}/asked") as answer:
        return int(answer.read())


def _limit(what: str, found: float, most: float) -> dict[str, Any]:
    return {"of": what, "against": "", "at_most": most, "what": "", "more": True, "found": round(found, 3), "kept": found <= most}
