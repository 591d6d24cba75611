"""Every block of code that documents the library runs: those of the library of old, and those of its own documentation."""

import ast
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from esmond_etl_archive import load

from esmond_etl.client.post import EventTypePost
from esmond_etl.client.query import ApiConnect, Metadata

ROOT = Path(__file__).parents[1]
SEED = ROOT.parent / "shared" / "docs" / "seed-esmond-client.txt"
OWN = ROOT / "docs" / "client.md"


@pytest.fixture
def filled(archive: Any) -> Any:
    """An archive with a test that ran just now."""
    now = int(time.time())
    histogram = {"summary-type": "aggregation", "summary-window": 86400}
    metadata = {
        "subject-type": "point-to-point",
        "source": "198.129.254.30",
        "destination": "198.124.252.141",
        "tool-name": "pscheduler/iperf3",
        "measurement-agent": "198.129.254.30",
        "input-source": "lbl-pt1.es.net",
        "input-destination": "chic-pt1.es.net",
        "ip-packet-interval": "0.1",
        "event-types": [{"event-type": "throughput"}, {"event-type": "histogram-owdelay", "summaries": [histogram]}],
    }
    datapoints = {"throughput": [[now - 60, 5], [1391212800, 7]], "histogram-owdelay": [[now - 60, {"3": 4}]]}
    load(archive.archive, [{"metadata": metadata, "datapoints": datapoints}])
    return archive


def adapted(code: str, archive: Any) -> str:
    """A block as Python 3, with our import lines, about an archive that is there."""
    code = re.sub(r"^( *)print ([^#\n]*[^#\s])", r"\1print(\2)", code, flags=re.MULTILINE)
    code = code.replace("esmond.api.client.perfsonar.", "esmond_etl.client.")
    code = code.replace("summary-type, summary-window", "'aggregation', 86400")  # these stand for arguments
    return re.sub(r"https://(localhost|archive\.example\.net)/", archive.url, code).replace(
        "api-key-generated-by-auth-database", archive.token
    )


def is_code(paragraph: str) -> bool:
    """Whether a paragraph of a text without markup is Python."""
    try:
        ast.parse(paragraph)
    except SyntaxError:
        return False
    return any(sign in paragraph for sign in ("(", "=", "import "))


def points(metadata: Metadata, name: str) -> list[tuple[int, Any]]:
    """What the archive has of one event type."""
    found = metadata.get_event_type(name)
    assert found
    return [(point.ts_epoch, point.val) for point in found.get_data().data]


@pytest.mark.skipif(not SEED.exists(), reason=f"{SEED} is not there")
def test_every_block_of_the_document_of_the_library_of_old_runs(filled: Any, capsys: pytest.CaptureFixture[str]) -> None:
    paragraphs = [adapted(each, filled) for each in SEED.read_text().split("\n\n")]
    blocks = [each for each in paragraphs if is_code(each)]
    names: dict[str, Any] = {"time": time}
    for block in blocks:
        if block.startswith("summ = "):
            names["et"] = names["md"].get_event_type("histogram-owdelay")
        if "{28: 33}" in block:  # "or in the case of histograms": of another event type
            names["et"].post_data()
            key = names["new_meta"].metadata_key
            names["et"] = EventTypePost(filled.url, api_key=filled.token, metadata_key=key, event_type="histogram-ttl")
        exec(compile(block, str(SEED), "exec"), names)
    assert len(blocks) == 24
    names["filters"].time_start = time.time() - 2 * 86400
    assert [point.val for point in names["summ"].get_data().data] == [{"3": 4}]
    new = names["new_meta"]
    assert isinstance(new, Metadata)
    assert points(new, "throughput") == [(1397075053, 23), (1397075113, 55)]
    assert points(new, "histogram-ttl") == [(1397075053, {"28": 33}), (1397075113, {"9": 12})]
    assert points(new, "time-error-estimates") == [(1397075053, 23), (1397075113, 55)]
    assert points(new, "packet-loss-rate") == [(1397075053, 11 / 33), (1397075113, 5 / 8)]
    printed = capsys.readouterr().out
    assert "<Metadata/" in printed
    assert "198.124.252.141\n0.1\n" in printed


def test_every_block_of_our_own_document_runs(filled: Any, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", OWN.read_text(), flags=re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(adapted(block, filled), str(OWN), "exec"), names)
    assert len(blocks) == 16
    found = {each.metadata_key: each for each in ApiConnect(filled.url).get_metadata()}
    new = found[names["new_meta"].metadata_key]
    assert {name: points(new, name) for name in ("throughput", "time-error-estimates", "histogram-ttl", "packet-loss-rate")} == {
        "throughput": [(1397075053, 23), (1397075113, 55)],
        "time-error-estimates": [(1397075053, 23), (1397075113, 55)],
        "histogram-ttl": [(1397075053, {"28": 33}), (1397075113, {"9": 12})],
        "packet-loss-rate": [(1397075053, 11 / 33), (1397075113, 5 / 8)],
    }
    assert capsys.readouterr().out.startswith("1 ['ts', 'val', 'metadata_key'")


@pytest.mark.slow
def test_every_command_of_our_own_document_runs(filled: Any, tmp_path: Path) -> None:
    commands = re.findall(r"^\$ esmond-etl (.*)$", OWN.read_text(), flags=re.MULTILINE)
    printed = []
    for command in commands:
        arguments = shlex.split(adapted(command, filled))
        done = subprocess.run(
            [sys.executable, "-m", "esmond_etl", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    assert "throughput" in printed[0]
    assert "198.129.254.30" in printed[1]
    assert printed[2].split()[-1] == "7"
    assert len(list((tmp_path / "out").iterdir())) == 2
