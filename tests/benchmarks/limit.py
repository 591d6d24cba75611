"""Where the time of a datapoint goes, part by part, with the physical limit of each beside it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from statistics import median
from typing import Any, Final

from tests.benchmarks.data import NUMBERS
from tests.benchmarks.measure import PEERS, PYTHON, run, served
from tests.benchmarks.tables import LONGER, PARQUET, datapoints, pipeline

ROUNDS: Final = 5

#: Our part -> its limits, as peers/limit.py names them.
LIMITS: Final = {
    "fetch": ("fetch",),
    "decode": ("decode: one pass over the text", "decode: msgspec, into objects"),
    "digest": ("digest: sha256 over the columns",),
    "sink[0] (parquet)": ("sink: Arrow's Parquet writer", "columns: a copy"),
    "ledger": ("ledger: a durable transaction a day",),
}


def limit(folder: Path) -> dict[str, Any]:
    """Numbers to Parquet by `run --profile`, ns a datapoint, with what the machine alone would take."""
    place = folder / "limit"
    place.mkdir(parents=True)
    number = datapoints(LONGER, NUMBERS)
    parts: dict[str, list[float]] = {}
    with served(LONGER) as url:
        pipeline(url.url, LONGER, PARQUET.format(histograms="map"), NUMBERS)(place)
        for _ in range(ROUNDS):
            command = [PYTHON, "-m", "esmond_etl", "run", "bench.toml", "--profile", "--json", "--reload"]
            run([*command, "--quiet"], place)
            found = json.loads((place / "output.txt").read_text())["profile"]
            for part, seconds in found.items():
                parts.setdefault(part, []).append(seconds * 1e9 / number)
        done = subprocess.run(
            [PYTHON, PEERS / "limit.py", url.url, place / "out", *NUMBERS], check=True, capture_output=True, text=True
        )
    limits = json.loads(done.stdout)
    facts: dict[str, Any] = {f"{part}, ns": round(median(found)) for part, found in parts.items()}
    facts |= {
        f"limit of {part}: {name.partition(': ')[2] or 'the calls of the system'}, ns": round(limits[name] * 1e9 / number, 1)
        for part, names in LIMITS.items()
        for name in names
    }
    facts["bytes a datapoint"] = round(limits["text, MB"] * 1e6 / number, 1)
    return {"table": "limit", "contenders": [], "facts": facts, "limits": []}
