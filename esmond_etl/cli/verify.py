"""`esmond-etl verify`: compare what the source has with what the sinks have."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import click

from esmond_etl import cli
from esmond_etl.cli import show


@click.command(short_help=cli.COMMANDS["verify"])
@click.argument("pipeline", metavar="PIPELINE", type=click.Path(dir_okay=False))
@click.option("--from", "from_", metavar="TIME", help='Start here instead: a date, a time, or an age such as "30d".')
@click.option("--to", metavar="TIME", help="End here instead.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(pipeline: str, from_: Any, to: Any, as_json: bool) -> int:
    """Compare, series by series and value by value, what should have arrived in the sinks of PIPELINE with what is there.

    Ends with 0 if all of it is the same, else with 1, and prints what differs: missing, extra and different datapoints.
    """
    from esmond_etl.engine.delivery import Delivery
    from esmond_etl.engine.ledger import Ledger
    from esmond_etl.engine.stream import Stream
    from esmond_etl.engine.verify import verify
    from esmond_etl.pipeline import file as config

    loaded = config.load(pipeline)
    interval = loaded.wanted(int(time.time()), from_, to)
    with (
        Stream(loaded) as stream,
        closing(Ledger.to_read(loaded.ledger_path)) as ledger,
        Delivery(stream, ledger) as delivery,
    ):
        former = ledger.former()
        series = list(stream.series(interval))
        results = list(_watched(verify(delivery, series, interval), len(series) * len(loaded.sinks), loaded.name))
    differing = [each for each in results if not each.same]
    equal = sum(each.equal for each in results)
    if as_json:
        show.as_json(
            {"pipeline": loaded.name, "series": len(series), "equal": equal, "differing": [_facts(each) for each in differing]}
            | {"former": {str(each): ", ".join(map(str, intervals)) for each, intervals in former.items()}}
        )
    else:
        _print(differing)
        verdict = "all the same" if not differing else f"{len(differing):,} series differ"
        print(f"{loaded.name}: {len(series):,} series, {equal:,} datapoints the same, {interval}: {verdict}")
        if former:
            print(
                f"{loaded.name}: {len(former):,} series hold datapoints that were delivered before the pipeline changed: see status"
            )
    return cli.INCOMPLETE if differing else cli.DONE


#: What to do about numbers that an archive has added up.
_MULTIPLES = (
    "  {count:,} of the different values are a multiple of what they should be: the archive has added up what it was sent more than once. "
    "Its interface cannot change them. An administrator of the archive must delete these datapoints, and the summaries of the windows "
    "that they are in, from its database; `esmond-etl run --reload` with --from and --to then delivers them again."
)


def _watched(results: Any, total: int, name: str) -> Any:
    import sys

    if not sys.stderr.isatty():
        yield from results
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(results, f"{name}: comparing", total, console=Console(stderr=True))


def _facts(each: Any) -> dict[str, Any]:
    first = [difference._asdict() for difference in each.first]
    return {**vars(each), "series": str(each.series), "first": first}


def _print(differing: list[Any]) -> None:
    from esmond_etl.model.interval import moment

    for each in differing:
        counts = ", ".join(f"{getattr(each, kind):,} {kind}" for kind in ("missing", "extra", "different") if getattr(each, kind))
        print(f"{each.series} in {each.sink}: {'; '.join(filter(None, (counts, each.error)))}")
        if each.multiples:
            print(show.filled(_MULTIPLES.format(count=each.multiples), 80))
        rows = [(f.kind, f.ts, moment(f.ts), _short(f.source), _short(f.sink)) for f in each.first]
        if rows:
            show.table(("", "ts", "time", "source", "sink"), [(kind, str(ts), *rest) for kind, ts, *rest in rows])


def _short(value: Any) -> str:
    text = "" if value is None else repr(value) if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
