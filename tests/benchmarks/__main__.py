"""Measure, print the tables, write them as JSON: `python -m tests.benchmarks [--only numbers,threads] [--rounds 5] [--json FILE]`."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks import growth
from tests.benchmarks.measure import Cost
from tests.benchmarks.tables import OTHERS, SERVED, Limit, Table, measured

NAMES = (*SERVED, *OTHERS, *growth.NAMES)


def compared(table: Table, limit: Limit) -> dict[str, Any]:
    """How a limit is kept."""
    by_name = {each.name: each for each in table.contenders}
    place = Cost._fields.index(limit.what)
    mine = [cost[place] for cost in by_name[limit.of].costs]
    other = [cost[place] for cost in by_name[limit.against].costs] if limit.against else [0.0] * len(mine)
    # round by round: what disturbs the machine disturbs neighbours alike
    found = median(one - two if limit.more else one / two for one, two in zip(mine, other, strict=True))
    return {**limit._asdict(), "found": round(found, 3), "kept": found <= limit.at_most}


def as_data(table: Table) -> dict[str, Any]:
    """A table as plain data."""
    return {
        "table": table.name,
        "contenders": [
            {
                "name": each.name,
                "runs": len(each.costs),
                **{what: round(each.middle(what), 3) for what in ("cpu", "wall", "peak")},
                "all": [[round(figure, 3) for figure in cost] for cost in each.costs],
            }
            for each in table.contenders
        ],
        "limits": [compared(table, limit) for limit in table.limits],
    }


def show(data: dict[str, Any]) -> None:
    """Print a table."""
    print(f"\n{data['table']}")
    for each in data["contenders"]:
        print(
            f"  {each['name']:34} {each['cpu']:8.2f} s of CPU {each['wall']:8.2f} s {each['peak']:6.0f} MB  ({each['runs']} runs)"
        )
    for label, fact in data.get("facts", {}).items():
        print(f"  {label}: {fact}")
    for each in data["limits"]:
        unit = {"peak": " MB", "cpu": " s"}.get(each["what"], "") if each["more"] else ""
        against = f"{'over' if each['more'] else 'to'} {each['against']}" if each["against"] else ""
        verdict = "" if each["kept"] else "  MISSED"
        what = {"cpu": "CPU of ", "wall": "wall time of ", "peak": "memory of "}.get(each["what"], "")
        print(f"  {what}{each['of']} {against}: {each['found']:.2f}{unit}, at most {each['at_most']:g}{unit}{verdict}")
    sys.stdout.flush()


def main() -> None:
    """Measure what is asked for."""
    parser = ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(NAMES), help=f"some of {', '.join(NAMES)}")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each contender")
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"), help="where the tables go as JSON")
    options = parser.parse_args()
    about = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "command": " ".join(["python -m tests.benchmarks", *sys.argv[1:]]),
        "machine": f"{len(os.sched_getaffinity(0))} cores, {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    print(", ".join(about.values()))
    tables = []
    with tempfile.TemporaryDirectory(prefix="esmond-etl-benchmark-") as folder:
        for name in options.only:
            try:
                data = (
                    growth.measured(name, Path(folder))
                    if name in growth.NAMES
                    else as_data(measured(name, options.rounds, Path(folder)))
                )
            except ModuleNotFoundError as error:
                print(f"\n{name}: left out: {error}")
                continue
            show(data)
            tables.append(data)
            options.json.write_text(json.dumps({**about, "tables": tables}, indent=1))


if __name__ == "__main__":
    main()
