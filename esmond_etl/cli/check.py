"""`esmond-etl check`: every mistake in pipeline files."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esmond_etl import cli
from esmond_etl.cli import examination, show
from esmond_etl.model.errors import ConfigError, SinkError

if TYPE_CHECKING:
    from esmond_etl.pipeline.definition import Definition
    from esmond_etl.pipeline.problems import Problem
    from esmond_etl.plugin.stage import Context

_TOO_NARROW = "nothing in the source matches the filters: check `match`, `event_types`, `summaries` and `from`"
_NONE_PASSES = "the transforms leave out every series"


@click.command(short_help=cli.COMMANDS["check"])
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(dir_okay=False))
@click.option("--connect", is_flag=True, help="Also list the sources, and try the sinks; reads no datapoint, and writes nothing.")
@click.option("--data", is_flag=True, help="Also read the measurements, and report those that cannot be right.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(files: tuple[str, ...], connect: bool, data: bool, as_json: bool) -> int:
    """Report every mistake in each FILE, a line each: file:line:column: where: what; hint.

    It makes no connection without --connect or --data. A warning does not stop a run, an error does: `esmond-etl run` refuses the
    file before it reads anything.

    \b
    Exit codes: 0 if there are no errors, 2 if there are,
    1 if a source or a sink could not be connected to, or if --data found something.
    """
    from esmond_etl.pipeline import file as config

    inspected = [config.inspect(path) for path in files]
    pipelines = [pipeline for pipeline, _ in inspected if pipeline]
    problems = [problem for _, found in inspected for problem in found] + list(_same_ledger(pipelines))
    if all(problem.warning for problem in problems):
        problems += [problem for pipeline in pipelines for problem in _of_others(pipeline)]
    errors = sum(not problem.warning for problem in problems)
    connected = [_connected(pipeline) for pipeline in pipelines] if connect and not errors else []
    examined = {pipeline.file: examination.examined(pipeline) for pipeline in pipelines} if data and not errors else {}
    if as_json:
        counts = {"errors": errors, "warnings": len(problems) - errors}
        found = {"data": {file: [each.to_json() for each in findings] for file, findings in examined.items()}} if data else {}
        show.as_json({**counts, "problems": [each.to_json() for each in problems], "connected": connected, **found})
    else:
        _print(files, problems, connected)
        for file, findings in examined.items():
            examination.show_findings(file, findings)
    if errors:
        return cli.WRONG
    if any(examined.values()):
        return cli.INCOMPLETE
    return cli.INCOMPLETE if any(stage["error"] for each in connected for stage in each["stages"]) else cli.DONE


def _print(files: tuple[str, ...], problems: list[Problem], connected: list[dict[str, Any]]) -> None:
    for problem in problems:
        print(show.wrapped(str(problem), sys.stdout))
    for path in dict.fromkeys(files):
        if not any(problem.file == path for problem in problems):
            print(f"{path}: ok")
    for each in connected:
        for stage in each["stages"]:
            said = [f"{each['file']}: {stage['where']}: {stage['error'] or stage['said']}"]
            said += [f"{each['file']}: warning: {stage['where']}: {stage['warning']}"] if stage["warning"] else []
            print(show.wrapped("\n".join(said), sys.stdout))
    errors = sum(not problem.warning for problem in problems)
    if problems:
        print(f"{_count(errors, 'error')}, {_count(len(problems) - errors, 'warning')}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _same_ledger(pipelines: list[Definition]) -> Iterator[Problem]:
    """Two files with one ledger would undo each other's work."""
    from esmond_etl.pipeline.problems import Problem

    seen: dict[Path, str] = {}
    for pipeline in pipelines:
        first = seen.setdefault(pipeline.ledger_path.resolve(), pipeline.file)
        if first != pipeline.file:
            what = f"{pipeline.name!r} and its ledger are also those of {first}"
            yield Problem(pipeline.file, pipeline.position(("name",)), "name", what, "give each pipeline a name of its own")


def _of_others(pipeline: Definition) -> Iterator[Problem]:
    """The places on this machine that belong to other pipelines."""
    from esmond_etl.engine.owners import refusals
    from esmond_etl.pipeline.problems import Problem

    for index, what in refusals(pipeline):
        yield Problem(pipeline.file, pipeline.position(("sink", index)), f"sink[{index}]", what)


def _connected(pipeline: Definition) -> dict[str, Any]:
    with ExitStack() as stack:
        return {"file": pipeline.file, "stages": list(_stages(pipeline, stack))}


def _stages(pipeline: Definition, stack: ExitStack) -> Iterator[dict[str, Any]]:
    """The result for each stage of `pipeline`, the source first; `stack` closes those that stay open."""
    opened = [_stage(label, partial(_opened, pipeline, each, stack)) for label, each in _transforms(pipeline)]
    working = not any(each["error"] for each in opened)
    series: list[Any] = []
    yield _stage("source", partial(_listed, pipeline, working, series, stack))
    yield from opened
    ends = _ends(pipeline, series) if working else []
    for label, sink in zip(pipeline.labels, pipeline.sinks, strict=True):
        yield _stage(label, partial(_reached, pipeline, label, sink, ends))


def _stage(label: str, act: Callable[[], dict[str, str]]) -> dict[str, Any]:
    """The result of `act` for a stage, or its error."""
    try:
        return {"where": label, "error": None, "warning": None, "said": "", **act()}
    except Exception as error:  # a plugin's stage may raise anything
        return {"where": label, "error": f"{error}" or type(error).__name__, "warning": None, "said": ""}


def _transforms(pipeline: Definition) -> Iterator[tuple[str, Any]]:
    from esmond_etl.plugin.registry import installed

    names = {stage: name for name, stage in installed("transform").of("transform").items()}
    for index, stage in enumerate(pipeline.transforms):
        yield f"transform[{index}] ({names.get(type(stage), type(stage).__name__)})", stage


def _opened(pipeline: Definition, stage: Any, stack: ExitStack) -> dict[str, str]:
    stage.open(_context(pipeline))
    stack.callback(stage.close)
    return {"said": "opens"}


def _context(pipeline: Definition, source: Any = None) -> Context:
    from esmond_etl.plugin.stage import Context

    return Context(pipeline.name, pipeline.settings.requests, source=source, most=pipeline.settings.most)


def _listed(pipeline: Definition, working: bool, series: list[Any], stack: ExitStack) -> dict[str, str]:
    """The number of series that match, and that pass the transforms if these are `working`; they are added to `series`."""
    _opened(pipeline, pipeline.source, stack)
    interval = pipeline.wanted(int(time.time()))
    series += pipeline.source.series(interval)
    _check_neighbours(pipeline, series)
    keys = {each.metadata.key for each in series}
    passing = len(_ends(pipeline, series)) if working else len(series)
    left = f", {passing:,} of them after the transforms" if passing < len(series) else ""
    noun = "series match" if len(series) != 1 else "series matches"
    said = {"said": f"{len(keys):,} metadata, {len(series):,} {noun}{left}; {interval}"}
    reason = _NONE_PASSES if keys else pipeline.source.unmatched() or _TOO_NARROW
    return said if passing else {**said, "warning": f"nothing would be delivered: {reason}"}


def _check_neighbours(pipeline: Definition, series: list[Any]) -> None:
    """Raise ConfigError if another pipeline delivers one of the series to the same place."""
    from esmond_etl.engine.neighbours import Neighbours

    with Neighbours(pipeline) as neighbours:
        if reasons := [reason for each in series if (reason := neighbours.obstacle(each))]:
            raise ConfigError(f"{reasons[0]} ({len(reasons):,} series in all)")


def _ends(pipeline: Definition, series: list[Any]) -> list[Any]:
    """The series that sinks would receive."""
    from esmond_etl.plugin.chain import Chain

    chain = Chain(pipeline.transforms)
    return [target for each in series if (target := chain.becomes(each))]


def _reached(pipeline: Definition, label: str, sink: Any, ends: list[Any]) -> dict[str, str]:
    """The sink's message about its target; raises an error that keeps it from delivering."""
    from esmond_etl.engine.owners import Place, former_file
    from esmond_etl.plugin.owned import OwnedSink

    said = sink.reach(_context(pipeline, pipeline.source))
    reasons = [reason for each in ends if (reason := sink.refusal(each))]
    if reasons:
        raise SinkError(f"does not accept {len(reasons):,} of the series: {reasons[0]}")
    if isinstance(sink, OwnedSink):
        Place.of(pipeline, label, sink, _context(pipeline)).check(former_file(pipeline))
    return {"said": said or "opens"}
