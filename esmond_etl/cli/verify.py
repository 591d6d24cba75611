"""`esmond-etl verify`: compare what the source has with what the sinks have."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esmond_etl import cli
from esmond_etl.cli import show
from esmond_etl.model.errors import EsmondEtlError
from esmond_etl.model.text import printable

if TYPE_CHECKING:
    from esmond_etl.engine.delivery import Delivery
    from esmond_etl.engine.ledger import Ledger
    from esmond_etl.engine.verify import Compared, Piece
    from esmond_etl.model.interval import Interval
    from esmond_etl.model.series import Series, SeriesId
    from esmond_etl.pipeline.definition import Definition


def _share(_context: click.Context, _option: click.Parameter, text: str | None) -> float | None:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text or "100%")
    if not found or not 0 < float(found[1]) <= 100:
        raise click.BadParameter(f"{text!r} is not a share: write 2% or 0.5%")
    return float(found[1]) / 100 if text else None


def _part(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[int, int] | None:
    found = re.fullmatch(r"(\d+)/(\d+)", text or "1/1")
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise click.BadParameter(f"{text!r} is not a part: write 3/30 for the third of thirty")
    return (int(found[1]), int(found[2])) if text else None


@click.command(short_help=cli.COMMANDS["verify"])
@click.argument("pipelines", metavar="PIPELINE...", nargs=-1, required=True, type=click.Path(dir_okay=False))
@click.option("--from", "from_", metavar="TIME", help='Start here instead: a date, a time, or an age such as "30d".')
@click.option("--to", metavar="TIME", help="End here instead.")
@click.option(
    "--quick", is_flag=True, help="Compare the sinks with the ledger's digests; read the source only where these say nothing."
)
@click.option("--summaries", is_flag=True, help="Compare the summaries that the sinks made with those of the source instead.")
@click.option(
    "--sample", metavar="SHARE", callback=_share, help="Compare a share of the windows of each series, such as 2%; others each day."
)
@click.option(
    "--part", metavar="K/N", callback=_part, help="Compare part K of N of the series: 3/30 for the third of thirty nights."
)
@click.option("--repair", is_flag=True, help="Deliver the windows that differ again, then compare them once more.")
@click.option(
    "--output", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write every difference: .jsonl or .csv."
)
@click.option(
    "--receipt",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what was compared, and the digest of it.",
)
@click.option(
    "--check-receipt",
    metavar="FILE",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="Say whether the sinks still hold what a receipt says; compares nothing else.",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(pipelines: tuple[str, ...], from_: Any, to: Any, check_receipt: Path | None, as_json: bool, **options: Any) -> int:
    """Compare, series by series and value by value, what should have arrived in the sinks of each PIPELINE with what is there.

    Ends with 0 if all of it is the same, else with 1, and prints what differs: missing, extra and different datapoints. Summaries may
    differ for a known reason: these are counted by reason.

    \b
    Examples:
      esmond-etl verify mirror.toml --quick
      esmond-etl verify mirror.toml --part 3/30 --output differences.jsonl
      esmond-etl verify mirror.toml --repair --receipt receipt.json
    """
    from esmond_etl.pipeline import file as config

    definitions = [config.load(each) for each in pipelines]
    if check_receipt or options["output"] or options["receipt"]:
        if len(definitions) > 1:
            raise click.UsageError("--output, --receipt and --check-receipt go with one pipeline")
        if check_receipt:
            return _receipt_checked(definitions[0], check_receipt, as_json)
    found, failed = [], False
    for each in definitions:
        try:
            found.append(_verified(each, from_, to, options))
        except EsmondEtlError as error:
            if len(definitions) == 1:
                raise
            show.say(f"{each.name}: {error}")
            failed = True
    if as_json:
        show.as_json(found[0].facts() if len(definitions) == 1 else [each.facts() for each in found])
    for verification in found if not as_json else ():
        verification.report()
    return cli.INCOMPLETE if failed or any(each.differing or each.invalid for each in found) else cli.DONE


def _receipt_checked(definition: Definition, receipt: Path, as_json: bool) -> int:
    from esmond_etl.cli import receipts

    with _opened(definition) as (delivery, _):
        return receipts.check(delivery, receipt, as_json)


def _verified(loaded: Definition, from_: Any, to: Any, options: dict[str, Any]) -> _Verification:
    """Compare one pipeline, and return the result."""
    if options["summaries"] and (options["quick"] or options["repair"] or options["receipt"]):
        raise click.UsageError("--summaries goes with --sample, --part and --output: base data are what is repaired and proven")
    if options["summaries"] and not any(sink.features.summarizes for sink in loaded.sinks):
        raise click.UsageError(f"--summaries: no sink of {loaded.name} makes summaries")
    checked_format(options["output"])
    verification = _Verification(loaded, loaded.wanted(int(time.time()), from_, to), **options)
    verification.go()
    return verification


def checked_format(path: Path | None) -> Path | None:
    """The path; raises UsageError if its name does not say in which format to write."""
    if path is not None and path.suffix not in (".jsonl", ".csv"):
        raise click.UsageError(f"--output {path}: the name must end with .jsonl or .csv")
    return path


@contextmanager
def _opened(definition: Definition) -> Iterator[tuple[Delivery, Ledger]]:
    """A pipeline's delivery and ledger, open while the context lasts; the ledger is only read."""
    from esmond_etl.engine.delivery import Delivery
    from esmond_etl.engine.ledger import Ledger
    from esmond_etl.engine.stream import Stream

    with (
        Stream(definition) as stream,
        closing(Ledger.of_all(definition.all_ledgers)) as ledger,
        Delivery(stream, ledger, needs_all=True) as delivery,
    ):
        yield delivery, ledger


@dataclass
class _Verification:
    """One verification of a pipeline: what is compared, and what came of it."""

    definition: Definition
    interval: Interval
    quick: bool
    summaries: bool
    sample: float | None
    part: tuple[int, int] | None
    repair: bool
    output: Path | None
    receipt: Path | None
    series: list[Series] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    results: list[Compared] = field(default_factory=list)
    equal: int = 0  #: datapoints
    by_digest: int = 0  #: windows
    explained: Counter[str] = field(default_factory=Counter)  #: summaries that differ for a known reason
    former: dict[Any, Any] = field(default_factory=dict)
    repaired: int = 0  #: windows
    invalid: dict[str, str] = field(default_factory=dict)  #: entries of the source's list that are not valid -> the error

    @property
    def differing(self) -> list[Compared]:
        """The series that are not the same in a sink."""
        return [each for each in self.results if not each.same]

    @property
    def left_out(self) -> Counter[str]:
        """How many series were not compared, by the reason."""
        return Counter(each.left_out for each in self.results if each.left_out)

    def go(self) -> None:
        """Compare; repair what differs, if that is wanted; then write the receipt."""
        from esmond_etl.cli import receipts
        from esmond_etl.engine.repair import damaged, repair

        with receipts.differences(self.output) as told:
            with _opened(self.definition) as (delivery, ledger):
                self.former = ledger.former()
                self.series = list(delivery.stream.series(self.interval))
                self.invalid = dict(delivery.stream.source.unusable())
                self.pieces = self._pieces()
                self._compare(delivery, ledger, told)
            broken = damaged(self.differing, self.series, self.definition.settings.window) if self.repair else []
            if broken:
                with show.watching(self.definition.name) as observer:
                    repair(self.definition, broken, observer)
                self._compare_again(broken, told)
        if self.receipt:
            with _opened(self.definition) as (delivery, _):
                receipts.write(self.receipt, delivery, self.pieces, self.facts())

    def _pieces(self) -> list[Piece]:
        from esmond_etl.engine import proof
        from esmond_etl.engine.verify import Piece
        from esmond_etl.model.interval import IntervalSet

        chosen = list(proof.parted(self.series, *self.part)) if self.part else self.series
        if self.sample is None:
            return [Piece(each, IntervalSet.of([self.interval])) for each in chosen]
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        return list(proof.sampled(chosen, self.interval, self.definition.settings.window, self.sample, today))

    def _compare(self, delivery: Delivery, ledger: Ledger, told: Any) -> None:
        from esmond_etl.engine.verify import count, verify

        if self.summaries:
            self._compare_summaries(delivery, told)
            return
        pieces = self._not_proven(delivery, ledger) if self.quick else self.pieces
        self.results += show.watched(
            verify(delivery, ledger, pieces, told), count(self.definition, pieces), f"{self.definition.name}: comparing"
        )
        self.equal += sum(each.equal for each in self.results)

    def _compare_summaries(self, delivery: Delivery, told: Any) -> None:
        from esmond_etl.engine import summaries

        total = summaries.count(delivery, self.pieces)
        for each in show.watched(summaries.verify(delivery, self.pieces, told), total, f"{self.definition.name}: comparing"):
            self.results.append(each.compared)
            self.explained += each.explained
            self.equal += each.compared.equal

    def _not_proven(self, delivery: Delivery, ledger: Ledger) -> list[Piece]:
        """What digests do not show to be the same: it is left to be compared with the source."""
        from esmond_etl.engine import proof
        from esmond_etl.engine.verify import Compared, Piece
        from esmond_etl.model.interval import IntervalSet

        left: dict[Series, IntervalSet] = {}
        failed: dict[tuple[SeriesId, str], Compared] = {}
        total = proof.count(delivery, self.pieces)
        for each in show.watched(proof.quick(delivery, ledger, self.pieces), total, f"{self.definition.name}: comparing"):
            self.by_digest += each.windows - each.differing
            self.equal += each.held.number if not each.differing else 0
            if each.error:
                failed[each.series.id, each.sink] = Compared(each.series.id, each.sink, error=each.error)
            elif each.open:
                left[each.series] = left.get(each.series, IntervalSet()).union(IntervalSet.of(sorted(each.open)))
        self.results += failed.values()
        return [Piece(series, intervals) for series, intervals in left.items()]

    def _compare_again(self, broken: list[Piece], told: Any) -> None:
        from esmond_etl.engine.verify import verify

        ids = {piece.series.id for piece in broken}
        self.results = [each for each in self.results if each.series not in ids]
        self.repaired = sum(len(list(piece.intervals)) for piece in broken)
        with _opened(self.definition) as (delivery, ledger):
            self.results += verify(delivery, ledger, broken, told)

    def facts(self) -> dict[str, Any]:
        """What was compared, and what came of it, as plain data."""
        depth = "quick" if self.quick else "summaries" if self.summaries else "full"
        scope = {"sample": self.sample, "part": "/".join(map(str, self.part)) if self.part else None}
        return {
            "pipeline": self.definition.name,
            "from": self.interval.start,
            "to": self.interval.end,
            "depth": depth,
            **{name: value for name, value in scope.items() if value is not None},
            "series": len({piece.series for piece in self.pieces}),
            "equal": self.equal,
            "windows_by_digest": self.by_digest,
            "repaired": self.repaired,
            **({"explained": dict(self.explained)} if self.summaries else {}),
            "left_out": dict(self.left_out),
            "differing": [facts(each) for each in self.differing],
            "invalid": self.invalid,
            "former": {str(each): ", ".join(map(str, intervals)) for each, intervals in self.former.items()},
        }

    def report(self) -> None:
        """Print it."""
        name, differing = self.definition.name, self.differing
        show_differences(differing)
        for reason in self.invalid.values():
            print(show.wrapped(f"{name}: not compared: {reason}", sys.stdout))
        if self.repaired:
            print(f"{name}: {self.repaired:,} windows were delivered again")
        verdict = "all the same" if not differing else f"{len(differing):,} series differ"
        for reason, number in self.explained.most_common():
            print(show.wrapped(f"{name}: {number:,} summaries differ for a known reason: {reason}", sys.stdout))
        how = f"{self.by_digest:,} windows by digest, " if self.quick else ""
        for reason, number in self.left_out.most_common():
            print(show.wrapped(f"{name}: {number:,} series are not compared: {reason}", sys.stdout))
        compared = len({each.series for each in self.results} if self.summaries else {piece.series for piece in self.pieces})
        looked_at = {each.series for each in self.results if not each.left_out}
        compared -= len({each.series for each in self.results} - looked_at)
        print(f"{name}: {compared:,} series, {how}{self.equal:,} datapoints the same, {self.interval}: {verdict}")
        if self.former:
            print(
                f"{name}: {len(self.former):,} series hold datapoints that were delivered before the pipeline changed: see status"
            )


#: What to do about numbers that an archive has added up.
_MULTIPLES = (
    "  {count:,} of the different values are a multiple of what they should be: the archive has added up what it was sent more than once. "
    "Its interface cannot change them. An administrator of the archive must delete these datapoints, and the summaries of the windows "
    "that they are in, from its database; `esmond-etl run --reload` with --from and --to then delivers them again."
)


def facts(each: Compared) -> dict[str, Any]:
    """How a series compares, as plain data."""
    first = [difference._asdict() for difference in each.first]
    counts = {name: getattr(each, name) for name in ("equal", "missing", "extra", "different", "multiples", "rejected", "error")}
    return {"series": str(each.series), "sink": each.sink, **counts, "first": first}


def show_differences(differing: list[Compared]) -> None:
    """Print what differs: counts, and the first differences of each series."""
    from esmond_etl.model.interval import moment

    for each in differing:
        counts = ", ".join(f"{getattr(each, kind):,} {kind}" for kind in ("missing", "extra", "different") if getattr(each, kind))
        known = f" ({each.rejected:,} of the missing ones are known rejects: see rejects)" if each.rejected else ""
        print(printable(f"{each.series} in {each.sink}: {'; '.join(filter(None, (counts + known, each.error)))}", one_line=True))
        if each.multiples:
            print(show.filled(_MULTIPLES.format(count=each.multiples), 80))
        rows = [(f.kind, str(f.ts), moment(f.ts), _short(f.source), _short(f.sink)) for f in each.first]
        if rows:
            show.table(("", "ts", "time", "source", "sink"), rows)


def _short(value: Any) -> str:
    text = "" if value is None else repr(value) if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
