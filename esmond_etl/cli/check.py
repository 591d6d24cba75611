"""`esmond-etl check`: every mistake in pipeline files."""

from __future__ import annotations

import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esmond_etl import cli
from esmond_etl.cli import show

if TYPE_CHECKING:
    from esmond_etl.config import Pipeline
    from esmond_etl.problems import Problem


@click.command(short_help=cli.COMMANDS["check"])
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(dir_okay=False))
@click.option("--connect", is_flag=True, help="Also list the sources, and open the sinks; nothing is read or written.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(files: tuple[str, ...], connect: bool, as_json: bool) -> int:
    """Report every mistake in each FILE, a line each: file:line:column: where: what; hint.

    Nothing is connected to without --connect. A warning does not stop a run, an error does: `esmond-etl run` refuses the file before
    it reads anything.

    \b
    Exit codes: 0 if there are no errors, 2 if there are,
    1 if a source or a sink could not be connected to.
    """
    from esmond_etl import config

    inspected = [config.inspect(path) for path in files]
    pipelines = [pipeline for pipeline, _ in inspected if pipeline]
    problems = [problem for _, found in inspected for problem in found] + list(_same_ledger(pipelines))
    errors = sum(not problem.warning for problem in problems)
    connected = [_connected(pipeline) for pipeline in pipelines] if connect and not errors else []
    if as_json:
        counts = {"errors": errors, "warnings": len(problems) - errors}
        show.as_json({**counts, "problems": [each.to_json() for each in problems], "connected": connected})
    else:
        _print(files, problems, connected)
    if errors:
        return cli.WRONG
    return cli.INCOMPLETE if any(stage["error"] for each in connected for stage in each["stages"]) else cli.DONE


def _print(files: tuple[str, ...], problems: list[Problem], connected: list[dict[str, Any]]) -> None:
    for problem in problems:
        print(_wrapped(str(problem)))
    for path in dict.fromkeys(files):
        if not any(problem.file == path for problem in problems):
            print(f"{path}: ok")
    for each in connected:
        for stage in each["stages"]:
            print(f"{each['file']}: {stage['where']}: {stage['error'] or stage['said']}")
    errors = sum(not problem.warning for problem in problems)
    if problems:
        print(f"{_count(errors, 'error')}, {_count(len(problems) - errors, 'warning')}")


def _wrapped(line: str) -> str:
    """A line as it is for programs, and broken between words for people."""
    if not sys.stdout.isatty():
        return line
    width = max(40, shutil.get_terminal_size().columns)
    return textwrap.fill(line, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _same_ledger(pipelines: list[Pipeline]) -> Iterator[Problem]:
    """Two files that would keep what they have done in one ledger, and so undo each other's."""
    from esmond_etl.problems import Problem

    seen: dict[Path, str] = {}
    for pipeline in pipelines:
        first = seen.setdefault(pipeline.ledger_path.resolve(), pipeline.file)
        if first != pipeline.file:
            what = f"{pipeline.name!r} and its ledger are also those of {first}"
            yield Problem(pipeline.file, (1, 1), "name", what, "give each pipeline a name of its own")


def _connected(pipeline: Pipeline) -> dict[str, Any]:
    with ExitStack() as stack:
        stages = list(_stages(pipeline, stack))
    return {"file": pipeline.file, "stages": stages}


def _stages(pipeline: Pipeline, stack: ExitStack) -> Iterator[dict[str, Any]]:
    """What each stage of `pipeline` says when it is opened, the source first; `stack` closes them."""
    ends: list[Any] = []
    try:
        _open(pipeline, pipeline.source, stack)
        for transform in pipeline.transforms:
            _open(pipeline, transform, stack)
        ends, said = _listed(pipeline)
        yield {"where": "source", "error": None, "said": said}
    except Exception as error:  # whatever a stranger's stage raises
        yield {"where": "source", "error": f"{error}" or type(error).__name__, "said": ""}
    for label, sink in zip(pipeline.labels, pipeline.sinks, strict=True):
        try:
            _open(pipeline, sink, stack)
            reasons = [reason for each in ends if (reason := sink.refusal(each))]
            refused = f"will not take {len(reasons):,} of the series: {reasons[0]}" if reasons else None
            yield {"where": label, "error": refused, "said": "opens"}
        except Exception as error:  # whatever a stranger's sink raises
            yield {"where": label, "error": f"{error}" or type(error).__name__, "said": ""}


def _open(pipeline: Pipeline, stage: Any, stack: ExitStack) -> None:
    from esmond_etl.stages import Context

    source = None if stage is pipeline.source else pipeline.source
    stage.open(Context(pipeline.name, pipeline.settings.parallel, source=source, stop=threading.Event()))
    stack.callback(stage.close)


def _listed(pipeline: Pipeline) -> tuple[list[Any], str]:
    """The series that sinks would be given of those that match, and how many those are, for people."""
    from esmond_etl.check import becomes

    interval = pipeline.wanted(int(time.time()))
    series = list(pipeline.source.series(interval))
    ends = [target for each in series if (target := becomes(each, pipeline.transforms))]
    keys = {each.metadata.key for each in series}
    left = f", {len(ends):,} of them after the transforms" if len(ends) < len(series) else ""
    noun = "series match" if len(series) != 1 else "series matches"
    return ends, f"{len(keys):,} metadata, {len(series):,} {noun}{left}; {interval}"
