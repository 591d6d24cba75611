"""`esmond-etl check --data`: the doctor's findings, for people."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING

from esmond_etl.cli import show

if TYPE_CHECKING:
    from esmond_etl.doctor.finding import Finding
    from esmond_etl.pipeline.definition import Definition


def examined(definition: Definition) -> list[Finding]:
    """The findings in the measurements that a pipeline reads, before its transforms; shows progress in a terminal."""
    from esmond_etl.doctor.examine import examine
    from esmond_etl.engine.stream import Stream

    now = int(time.time())
    with Stream(definition) as stream, _progress(definition.name) as seen:
        return examine(stream.source, definition.wanted(now), now, definition.settings.threads, seen)


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int], None] | None]:
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{name}: examining", total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)


def show_findings(file: str, findings: list[Finding]) -> None:
    """Print the findings by kind: the meaning, then one or two lines for each series."""
    from esmond_etl.doctor.finding import MEANINGS
    from esmond_etl.model.interval import moment

    if not findings:
        print(f"{file}: data: no problems found")
    for kind, group in groupby(findings, key=lambda each: each.kind):
        of_kind = list(group)
        print(show.wrapped(f"{file}: data: {kind}, {len(of_kind):,} found. {MEANINGS[kind]}", sys.stdout))
        for each in of_kind:
            when = moment(each.start) if each.start == each.end else f"{moment(each.start)} to {moment(each.end)}"
            entry = each.series.metadata
            ends = f"{entry.source} to {entry.destination}" if entry.destination else f"{entry.source}"
            print(show.wrapped(f"  {ends}, {each.series.event_type} ({entry.key}), {when}: {each.evidence}", sys.stdout))
