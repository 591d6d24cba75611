"""`esmond-etl run`: deliver what has not been delivered yet."""

from __future__ import annotations

import re
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from esmond_etl import cli
from esmond_etl.cli import show
from esmond_etl.cli.alert import alert
from esmond_etl.model import profile
from esmond_etl.model.interval import parse_duration

if TYPE_CHECKING:
    from esmond_etl.engine.result import Result


def _duration(_context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    try:
        seconds = parse_duration(text) if text is not None else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if seconds == 0:
        raise click.BadParameter("must be longer than 0")
    return seconds


def _shard(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[int, int] | None:
    found = re.fullmatch(r"(\d+)/(\d+)", text or "1/1")
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise click.BadParameter(f"{text!r} is not a part: write 3/8 for the third of eight parts")
    return (int(found[1]), int(found[2])) if text else None


@click.command(short_help=cli.COMMANDS["run"])
@click.argument("pipelines", metavar="PIPELINE...", nargs=-1, required=True, type=click.Path(dir_okay=False))
@click.option("--from", "from_", metavar="TIME", help='Start here instead: a date, a time, or an age such as "30d".')
@click.option("--to", metavar="TIME", help="End here instead.")
@click.option("--reload", is_flag=True, help="Deliver again what is done already; no datapoint is duplicated.")
@click.option(
    "--redeliver",
    type=click.Choice(["all", "new-only"]),
    help="Replace, or keep, what was delivered before the pipeline changed.",
)
@click.option("--take-over", is_flag=True, help="Deliver to a place that belongs to another pipeline, and become its owner.")
@click.option("--recheck", metavar="TIME", callback=_duration, help='Look for late datapoints this far back, such as "90d".')
@click.option(
    "--executor",
    metavar="NAME",
    default="threads",
    show_default=True,
    help="How tasks run: in threads, in worker processes, or by an engine such as dask.",
)
@click.option("--scheduler", metavar="ADDRESS", help="Address of the engine's scheduler, such as tcp://HOST:8786.")
@click.option("--processes", metavar="N", type=click.IntRange(1), default=2, show_default=True, help="Number of worker processes.")
@click.option(
    "--shard",
    metavar="K/N",
    callback=_shard,
    help="Deliver part K of N of the series, with its own ledger: for batch systems.",
)
@click.option(
    "--every",
    metavar="TIME",
    callback=_duration,
    help='Repeat the run, for example every "15m", until told to stop; prints one line of JSON per run.',
)
@click.option(
    "--metrics-port", metavar="PORT", type=click.IntRange(1, 65535), help="With --every: serve Prometheus metrics at /metrics."
)
@click.option(
    "--profile",
    "is_profiled",
    is_flag=True,
    help="Print at the end where the CPU time went: list, fetch, decode, each stage, ledger.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, one document per pipeline.")
@click.option("--quiet", is_flag=True, help="Print neither progress nor summary, only errors.")
def command(
    pipelines: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    every: int | None,
    metrics_port: int | None,
    is_profiled: bool,
    **options: Any,
) -> int:
    """Deliver what each PIPELINE wants and has not delivered yet.

    A ledger beside the pipeline file records what is done: run it again after a crash, or every few minutes, and it goes on where
    it stopped. You can interrupt it at any time.

    \b
    Examples:
      esmond-etl run mirror.toml
      esmond-etl run mirror.toml --from 2013-10-01 --to 2014-03-01 --reload
      esmond-etl run mirror.toml --every 15m --metrics-port 9184
    """
    if metrics_port and not every:
        raise click.UsageError("--metrics-port needs --every: a single run is over before Prometheus asks")
    if is_profiled and every:
        raise click.UsageError("--profile is for a single run: leave out --every")
    from esmond_etl.engine import allocator

    allocator.stay_small()
    if options["executor"] == "processes":
        from esmond_etl.engine import processes

        processes.prepare()
    if every:
        return _again_and_again(pipelines, every, metrics_port, **options)
    with show.stopping() as stop:
        with allocator.loading():
            from esmond_etl.pipeline import file as config

            loaded = [config.load(path) for path in pipelines]
        codes = [_run(pipeline, stop, as_json, quiet, is_profiled, **options) for pipeline in loaded if not stop.is_set()]
    return max(codes) if len(codes) == len(loaded) else cli.INCOMPLETE


def _again_and_again(pipelines: tuple[str, ...], every: int, metrics_port: int | None, **options: Any) -> int:
    from esmond_etl.engine import allocator

    with allocator.loading():
        from esmond_etl.cli.every import keep_going

    if options["reload"]:
        raise click.UsageError("--reload would deliver everything again every time: leave out --every or --reload")
    with show.stopping() as stop:
        return keep_going(pipelines, every, metrics_port, stop, lambda pipeline: _moved(pipeline, stop, True, **options))


def _run(pipeline: Any, stop: threading.Event, as_json: bool, quiet: bool, is_profiled: bool, **options: Any) -> int:
    if is_profiled:
        profile.start()
    result = _moved(pipeline, stop, quiet, **options)
    output = show.output(pipeline)
    if as_json:
        show.as_json(result.to_json(), output)
    elif not quiet:
        show.result(result, output)
    if is_profiled and not as_json:
        show.profile(result)
    show.failures(result)
    if result.stopped:
        show.say(f"{pipeline.name}: stopped; what was in flight is rolled back, the next run goes on from here")
    return cli.DONE if result.complete else cli.INCOMPLETE


def _moved(
    pipeline: Any,
    stop: threading.Event,
    quiet: bool,
    from_: Any,
    to: Any,
    reload: bool,
    redeliver: Any,
    recheck: int | None,
    executor: str,
    processes: int,
    scheduler: str | None,
    shard: tuple[int, int] | None,
    take_over: bool,
) -> Result:
    from esmond_etl.engine.run import run
    from esmond_etl.pipeline.definition import Shard

    pipeline = pipeline if recheck is None else pipeline.looking_back(recheck)
    pipeline = pipeline if shard is None else pipeline.of_shard(Shard(*shard))
    with show.watching(pipeline.name, quiet) as watch:
        result = run(
            pipeline,
            watch,
            stop,
            from_,
            to,
            reload,
            processes if executor == "processes" else 0,
            redeliver,
            _engine(executor, scheduler),
            take_over,
        )
    if pipeline.settings.on_failure and not result.complete and not result.stopped:
        alert(pipeline.settings.on_failure, result)
    return result


def _engine(name: str, scheduler: str | None) -> Any:
    """The function that connects to the engine of that name; None for threads and processes."""
    if name in ("threads", "processes"):
        return None
    from esmond_etl.plugin.registry import installed

    known = installed("executor").of("executor")
    if name not in known:
        raise click.UsageError(f"--executor {name}: known are threads, processes, {', '.join(sorted(known))}")
    return partial(known[name], scheduler)
