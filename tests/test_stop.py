"""A run that is told to stop does not wait for a target that takes connections and never answers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import esmond_etl_archive
import pytest

from esmond_etl import SinkError, StoppedError, unless_stopped
from esmond_etl.engine.result import Unobserved
from esmond_etl.engine.run import run
from esmond_etl.pipeline.file import load

START, DAY = 1388534400, 86400  # 2014-01-01

SINKS = {
    "influxdb": 'type = "influxdb"\nurl = "http://{place}"\ntoken = "t"\norg = "o"\nbucket = "b"',
    "opensearch": 'type = "opensearch"\nurl = "http://{place}"',
    "esmond": 'type = "esmond"\nurl = "http://{place}/"\nusername = "u"\napi_key = "k"',
    "sql": 'type = "sql"\nurl = "postgresql://u@{place}/x"',
}


@pytest.fixture
def silent() -> Iterator[tuple[str, threading.Event]]:
    """Host and port of a server that never answers, and what tells of its first connection."""
    asked = threading.Event()
    kept = []
    with socket.create_server(("127.0.0.1", 0), backlog=20) as server:

        def accept() -> None:
            while True:
                try:
                    kept.append(server.accept()[0])
                except OSError:
                    return
                asked.set()

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}", asked
    for connection in kept:
        connection.close()


@pytest.mark.parametrize("sink", SINKS)
def test_a_target_that_never_answers_holds_no_run_up_that_is_told_to_stop(
    archive: Any, tmp_path: Path, silent: tuple[str, threading.Event], sink: str
) -> None:
    place, asked = silent
    entry = {"source": "192.0.2.1", "destination": "192.0.2.2", "measurement-agent": "192.0.2.1", "tool-name": "t"}
    metadata = {**entry, "subject-type": "point-to-point", "event-types": [{"event-type": "throughput"}]}
    esmond_etl_archive.load(archive.archive, [{"metadata": metadata, "datapoints": {"throughput": [[START, 5]]}}])
    file = tmp_path / "p.toml"
    source = f'[source]\ntype = "esmond"\nurl = "{archive.url}"\n'
    file.write_text(f"from = {START}\nto = {START + DAY}\n{source}[[sink]]\n{SINKS[sink].format(place=place)}\n")
    stop = threading.Event()
    told: list[float] = []

    def tell() -> None:
        asked.wait()
        told.append(time.monotonic())
        stop.set()

    threading.Thread(target=tell, daemon=True).start()
    with suppress(SinkError, StoppedError):  # of a sink that connects when it is opened
        assert run(load(str(file)), Unobserved(), stop).stopped
    assert time.monotonic() - told[0] < 2


def test_what_is_done_in_time_is_returned_or_raised() -> None:
    stop = threading.Event()
    assert unless_stopped(lambda: 5, stop) == 5
    with pytest.raises(ZeroDivisionError):
        unless_stopped(lambda: 1 // 0, stop)
