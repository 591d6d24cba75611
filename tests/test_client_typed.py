"""A program that uses the library passes mypy --strict, and one that misuses it does not."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROGRAM = """
from datetime import datetime, timezone

import esmond_etl
from esmond_etl.client.post import EventTypeBulkPost, EventTypePost, MetadataPost, MetadataPostException
from esmond_etl.client.query import ApiConnect, ApiFilters, DataPoint


def latest(url: str) -> list[tuple[datetime, int, float]]:
    filters = ApiFilters()
    filters.source = "198.51.100.1"
    filters.time_start = datetime.now(timezone.utc)
    filters.time_end = 1397075053.5
    filters.ip_tos = 32
    filters.verbose = True
    filters.timeout = 5
    filters.ssl_verify = False
    found: list[tuple[datetime, int, float]] = []
    for metadata in ApiConnect(url, filters, username="u", api_key="k", script_alias=None).get_metadata():
        event_type = metadata.get_event_type("throughput")
        if event_type is None:
            continue
        payload = event_type.get_data()
        points: list[DataPoint] = payload.data[:10].data
        found += [(point.ts, point.ts_epoch, float(point.val)) for point in payload]
        for kind, window in event_type.summaries:
            summary = event_type.get_summary(kind, window)
            assert summary is not None
            print(len(summary.get_data().data), len(points), metadata.destination or "nowhere")
    return found


def post(url: str) -> str:
    new = MetadataPost(url, username="u", api_key="k", subject_type="network-element", source="198.51.100.1", timeout=5)
    new.add_event_type("throughput")
    new.add_summary_type("throughput", "average", [3600])
    try:
        key: str = new.post_metadata().metadata_key
    except MetadataPostException as error:
        raise SystemExit(str(error)) from error
    one = EventTypePost(url, metadata_key=key, event_type="throughput")
    one.add_data_point(1397075053, 23)
    one.post_data()
    bulk = EventTypeBulkPost(url, metadata_key=key, ssl_verify=False)
    bulk.add_data_point("histogram-ttl", datetime.now(timezone.utc), {28: 33})
    bulk.post_data()
    return key


table = esmond_etl.read("https://archive.example.net/", event_type="throughput", start="30d", tool_name="pscheduler/iperf3")
"""

MISUSES = {
    'EventTypePost("u").add_data_point("now", 1)': "arg-type",
    'ApiConnect("u").get_metadata(1)': "call-arg",
    'next(ApiConnect("u").get_metadata()).get_event_type("x").get_data()': "union-attr",
    "esmond_etl.read(1, event_type=2)": "arg-type",
}


def check(path: Path, program: str) -> subprocess.CompletedProcess[str]:
    """What mypy says of a program that knows the packages as they are installed."""
    path.joinpath("program.py").write_text(program)
    root = Path(__file__).parents[1]
    config = (
        f"[mypy]\nmypy_path = {root}:{root / 'plugins'}\n[mypy-pyarrow.*]\nignore_missing_imports = True\nfollow_imports = skip\n"
    )
    path.joinpath("mypy.ini").write_text(config)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--explicit-package-bases",
        "--cache-dir",
        str(path / "cache"),
        "program.py",
    ]
    return subprocess.run(command, cwd=path, capture_output=True, text=True, check=False)


@pytest.mark.timeout(280)
def test_a_program_that_uses_the_library_is_typed_and_one_that_misuses_it_is_told(tmp_path: Path) -> None:
    good = check(tmp_path, PROGRAM)
    assert (good.returncode, good.stdout) == (0, "Success: no issues found in 1 source file\n")
    bad = check(tmp_path, PROGRAM + "\n".join(MISUSES))
    first = PROGRAM.count("\n") + 1
    for number, (line, code) in enumerate(MISUSES.items()):
        assert any(f"program.py:{first + number}: " in said and f"[{code}]" in said for said in bad.stdout.splitlines()), (
            line,
            bad.stdout,
        )


def test_the_package_says_that_it_is_typed() -> None:
    import esmond_etl

    assert (Path(esmond_etl.__file__).parent / "py.typed").exists()
