"""`esmond-etl compare`: two archives, or exports of them, without a pipeline."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from esmond_etl import cli
from esmond_etl.cli import show

_PARALLEL = 8


@click.command(short_help=cli.COMMANDS["compare"])
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@click.option("--from", "from_", metavar="TIME", default="2000-01-01", show_default=True, help="Start of the comparison.")
@click.option("--to", metavar="TIME", default="now", show_default=True, help="End of the comparison.")
@click.option(
    "--event-type", "event_types", metavar="NAME", multiple=True, help="Only this event type; may be given several times."
)
@click.option("--summaries", is_flag=True, help="Compare summaries, too: averages, aggregations and statistics.")
@click.option(
    "--output", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write every difference: .jsonl or .csv."
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(
    one: str, other: str, from_: str, to: str, event_types: tuple[str, ...], summaries: bool, output: Path | None, as_json: bool
) -> int:
    """Compare A with B, value by value. Each is the URL of an archive (elmond, too), or the folder of a Parquet tree or of Delta
    tables.

    Metadata are matched by their content, because a copy has other keys, then by their keys. Exit code 0 if all is the same, else 1.

    \b
    Examples:
      esmond-etl compare https://old.example.net/ https://new.example.net/
      esmond-etl compare https://old.example.net/ warehouse/ --from 2020-01-01
    """
    from esmond_etl.cli import receipts, verify
    from esmond_etl.engine import comparison

    interval = _interval(from_, to)
    with ExitStack() as stack, receipts.differences(verify.checked_format(output)) as told:
        left, right = (_opened(place, stack) for place in (one, other))
        matched = comparison.pairs(left, right, interval, frozenset(event_types), not summaries)
        found = comparison.compared(left, right, matched, interval, _PARALLEL, told)
        results = list(show.watched(found, len(matched), "compare: comparing"))
    differing = [each for each in results if not each.same]
    equal = sum(each.equal for each in results)
    alone = [sum(pair[side] is None for pair in matched) for side in (1, 0)]
    if as_json:
        facts = {"series": len(matched), "only_in_a": alone[0], "only_in_b": alone[1], "equal": equal}
        show.as_json(facts | {"differing": [verify.facts(each) for each in differing]})
    else:
        verify.show_differences(differing)
        verdict = "all the same" if not differing else f"{len(differing):,} series differ"
        print(
            f"{len(matched):,} series ({alone[0]:,} in A alone, {alone[1]:,} in B alone), {equal:,} datapoints the same,"
            f" {interval}: {verdict}"
        )
    return cli.INCOMPLETE if differing else cli.DONE


def _interval(from_: str, to: str) -> Any:
    from esmond_etl.model.errors import ConfigError
    from esmond_etl.model.interval import Interval, parse_moment

    now = int(time.time())
    try:
        start, end = parse_moment(from_, now), parse_moment(to, now)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if start >= end:
        raise ConfigError("--from lies after --to: nothing would be compared")
    return Interval(start, end)


def _opened(place: str, stack: ExitStack) -> Any:
    """The source that `place` means, open."""
    from esmond_etl.model.errors import ConfigError
    from esmond_etl.plugin.registry import installed
    from esmond_etl.plugin.stage import Context

    found = [source for kind in installed("source").of("source").values() if (source := kind.at(place)) is not None]
    if not found:
        raise ConfigError(f"{place!r} cannot be read: give the URL of an archive, or the folder of an export")
    found[0].open(Context("compare", _PARALLEL))
    stack.callback(found[0].close)
    return found[0]
