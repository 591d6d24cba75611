"""Change the code a little, many times, and list the changes that no test notices: `python -m tests.mutants [MODULE...]`.

Needs `pip install cosmic-ray`, which makes the changes, in a clone of the last commit. Each takes some seconds: leave it to a nightly job.
"""

from __future__ import annotations

import ast
import json
import os
import random
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

#: Each module with the tests that must notice a change, the quickest first.
TESTS: Final = {
    "esmond_etl/model/interval.py": "interval plan ledger config shards",
    "esmond_etl/engine/plan.py": "plan ledger sinks_apart pipelines run",
    "esmond_etl/engine/ledger.py": "ledger ledger_shards plan sinks_apart changes shards",
    "esmond_etl/engine/delivery.py": "delivery sinks_apart histograms profile",
    "esmond_etl/engine/stream.py": "stream archives delivery plugins/transforms sinks_apart estimate",
    "esmond_etl/client/wire.py": "wire client_table client_faults reading",
    "esmond_etl/tables/partitions.py": "partitions plugins/parquet plugins/parquet_replace",
    "esmond_etl/tables/rows.py": "partitions plugins/parquet plugins/parquet_replace",
    "plugins/esmond_etl_parquet/tree.py": "plugins/parquet_tree plugins/parquet plugins/parquet_replace",
}

#: A test that runs longer than this has noticed the change, s.
TIMEOUT: Final = 60


def main(arguments: list[str] | None = None) -> int:
    """Try the modules; returns 1 if fewer than 90 % of the changes of one were noticed."""
    parser = ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="parts of the names of modules; without any, all")
    parser.add_argument("--sample", type=int, default=0, help="try this many changes of each module, drawn at random")
    parser.add_argument("--seed", type=int, default=1, help="of the draw")
    options = parser.parse_args(arguments)
    chosen = [name for name in TESTS if not options.modules or any(part in name for part in options.modules)]
    rates = [tried(module, options.sample, options.seed) for module in chosen]
    return int(min(rates, default=1.0) < 0.9)


def tried(module: str, sample: int, seed: int) -> float:
    """Try the changes of a module and print those that no test noticed; returns the share that tests noticed."""
    with tempfile.TemporaryDirectory() as folder:
        clone, session = Path(folder, "clone"), Path(folder, "session.sqlite")
        subprocess.run(["git", "clone", "-q", ".", clone], check=True)
        _configure(Path(folder, "config.toml"), module)
        _cosmic_ray(clone, "init", "../config.toml", str(session))
        _draw(session, clone / module, sample, seed)
        _cosmic_ray(clone, "exec", "../config.toml", str(session))
        dump = _cosmic_ray(clone, "dump", str(session)).splitlines()
    return _report(module, [json.loads(line) for line in dump])


def _configure(file: Path, module: str) -> None:
    tests = [f"tests/{Path(each).parent}/test_{Path(each).name}.py" for each in TESTS[module].split()]
    command = f"{sys.executable} -m pytest -x -q -m 'not slow' -p no:cacheprovider --timeout {TIMEOUT} {' '.join(tests)}"
    settings = {"module-path": module, "timeout": TIMEOUT, "test-command": command}
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    file.write_text("\n".join(["[cosmic-ray]", *lines, "[cosmic-ray.distributor]", 'name = "local"']) + "\n", "utf-8")


def _cosmic_ray(clone: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{clone}{os.pathsep}{clone / 'plugins'}"}
    program = Path(sys.executable).with_name("cosmic-ray")
    return subprocess.run(
        [program, *arguments], cwd=clone, env=environment, check=True, stdout=subprocess.PIPE, encoding="utf-8"
    ).stdout


def _draw(session: Path, source: Path, sample: int, seed: int) -> None:
    """Leave out changes of annotations, which never run, and all but a sample of the others."""
    from cosmic_ray.work_db import use_db
    from cosmic_ray.work_item import WorkerOutcome, WorkResult

    places = list(_annotations(ast.parse(source.read_text("utf-8"))))
    with use_db(session) as work:
        items = list(work.work_items)
        real = [each.job_id for each in items if not any(a <= each.mutations[0].start_pos < b for a, b in places)]
        taken = set(random.Random(seed).sample(sorted(real), min(sample or len(real), len(real))))
        left_out = [each.job_id for each in items if each.job_id not in taken]
        work.set_multiple_results(left_out, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))


def _annotations(tree: ast.AST) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations start and end."""
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if isinstance(found := getattr(node, name, None), ast.expr):
                yield (found.lineno, found.col_offset), (found.end_lineno or 0, found.end_col_offset or 0)


def _report(module: str, records: list[tuple[dict[str, Any], dict[str, Any] | None]]) -> float:
    """Print the changes that no test noticed."""
    ran = [(item["mutations"][0], result) for item, result in records if result and result["worker_outcome"] == "normal"]
    noticed = Counter(result["test_outcome"] for _, result in ran)
    rate = 1 - noticed["survived"] / len(ran) if ran else 1.0
    print(f"{module}: {len(ran)} changes tried, {rate:.1%} noticed", flush=True)
    for mutation, result in ran:
        if result["test_outcome"] == "survived":
            lines = [line for line in result["diff"].splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
            print(f"  {module}:{mutation['start_pos'][0]}", *lines, sep="\n    ", flush=True)
    return rate


if __name__ == "__main__":
    sys.exit(main())
