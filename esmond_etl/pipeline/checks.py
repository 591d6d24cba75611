"""Mistakes in a pipeline whose options are each right by themselves; found without any connection."""

from __future__ import annotations

import os
import pathlib
import re
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from esmond_etl.model.batch import Batch
from esmond_etl.model.errors import ConfigError
from esmond_etl.model.event_types import EVENT_TYPES, event_type, meant_event_type
from esmond_etl.model.interval import format_duration, moment, parse_moment
from esmond_etl.model.series import BASE, Metadata, Series, Served, Summary
from esmond_etl.pipeline.positions import Path
from esmond_etl.pipeline.problems import Mistake, json_types, nouns
from esmond_etl.pipeline.settings import Settings
from esmond_etl.pipeline.tests import Case
from esmond_etl.plugin.chain import Chain
from esmond_etl.plugin.sink import Sink
from esmond_etl.plugin.source import Source
from esmond_etl.plugin.stage import Stage
from esmond_etl.plugin.transform import Transform

#: What to do about two stages at one place, by their kinds.
_ELSEWHERE: Final = {
    ("sink", "sink"): "give each sink a place of its own",
    ("source", "source"): "name each archive once",
}

#: Names of this machine, and the one that stands for all of them.
_LOOPBACKS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_LOOPBACK: Final = "localhost"

_PORTS: Final = {"http": 80, "https": 443}
_DAY: Final = 86400

#: The valid names of archives.
ARCHIVE_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")

#: Options that are files or folders although they are plain text.
_PATHS: Final = frozenset({"path", "file", "folder", "directory"})


@dataclass(frozen=True)
class Draft:
    """The stages that could be made from a pipeline file; None for a stage that could not be made."""

    settings: Settings | None
    sources: tuple[tuple[Path, Source], ...]  #: each with its place in the file
    transforms: tuple[Transform | None, ...]
    sinks: tuple[Sink | None, ...]
    wrong: frozenset[Path] = frozenset()  #: wrong options: the stages have the defaults instead

    def right(self, *path: str | int) -> bool:
        """Whether the option at `path`, and all below it, are right by themselves."""
        return not any(each[: len(path)] == path for each in self.wrong)

    def stages(self) -> Iterator[tuple[Path, Stage]]:
        """Its stages, each with its place in the file."""
        yield from self.sources
        for kind, stages in (("transform", self.transforms), ("sink", self.sinks)):
            yield from (((kind, index), stage) for index, stage in enumerate(stages) if stage is not None)


def mistakes(draft: Draft) -> Iterator[Mistake]:
    """The mistakes in `draft` between its parts, and in the event types and summaries that it names."""
    if draft.settings is not None and draft.right("from") and draft.right("to"):
        yield from _times(draft.settings)
    if draft.settings is not None and draft.right("window"):
        yield from _periods(draft.settings.window, draft.transforms)
    for path, stage in draft.stages():
        yield from _event_types(path, _named_event_types(stage))
    said: set[Mistake] = set()  # a transform's or a sink's limits are the same for several sources
    for path, source in draft.sources:
        if draft.right(*path, "event_types") and draft.right(*path, "summaries"):
            yield from _impossible_summaries(path, source)
            for found in (*_refusals(source, draft), *_unworkable(source, draft)):
                if found not in said:
                    said.add(found)
                    yield found
    yield from _shared_places(draft)


def archive(path: Path, name: object, others: Collection[object], is_needed: bool) -> Iterator[Mistake]:
    """The mistakes in the name of a source's archive; `others` are the names before it."""
    if name is None:
        if is_needed:
            yield Mistake((*path, "archive"), "is missing", "several sources are told apart by the names of their archives")
    elif not (isinstance(name, str) and ARCHIVE_NAME.fullmatch(name)):
        yield Mistake((*path, "archive"), "must be a name of letters, digits, dots, dashes and underscores")
    elif name in others:
        yield Mistake((*path, "archive"), f"{name!r} is also the name of another source's archive", "give each its own")


def _times(settings: Settings) -> Iterator[Mistake]:
    now = int(time.time())
    start, end = parse_moment(settings.from_, now), parse_moment(settings.to, now)
    if start >= end:
        yield Mistake(("from",), f"{moment(start)} is not before `to`, {moment(end)}", "swap them, or leave `to` out for now")


def _periods(window: int, transforms: Iterable[Transform | None]) -> Iterator[Mistake]:
    for index, transform in enumerate(transforms):
        for name in transform.divides_window if transform is not None else ():
            period = getattr(transform, name)
            if isinstance(period, int) and period and window % period:
                what = f"{format_duration(period)} does not divide the window of {format_duration(window)}"
                hint = "results would depend on where tasks are cut: take one that does, or another window"
                yield Mistake(("transform", index, name), what, hint)


def unknown_event_type(path: Path, name: str) -> Mistake | None:
    """A mistake if `name` is much like an event type that is known, a warning if it is unlike all, None if it is known."""
    if name in EVENT_TYPES:
        return None
    if meant := meant_event_type(name):
        return Mistake(path, f"unknown event type {name!r}", f"did you mean {meant!r}?")
    return Mistake(path, f"unknown event type {name!r}: its values travel as JSON", warning=True)


def _is_slip(name: str) -> bool:
    mistake = unknown_event_type((), name)
    return mistake is not None and not mistake.warning


def _named_event_types(stage: Stage) -> Collection[str] | None:
    if isinstance(stage, Source):
        return stage.wanted_event_types()
    return stage.event_types if isinstance(stage, Transform) else None


def _event_types(path: Path, names: Collection[str] | None) -> Iterator[Mistake]:
    if names is not None and not names:
        yield Mistake((*path, "event_types"), "is empty, so it selects no event type", "name some, or leave the option out for all")
    for index, name in enumerate(names or ()):
        mistake = unknown_event_type((*path, "event_types", index), name)
        if mistake:
            yield mistake


def wrong_values(path: Path, case: Case) -> Iterator[Mistake]:
    """Datapoints of a test that no series of its event type can have."""
    series = case.series()
    for index, (_, value) in enumerate(case.points):
        if series.holds_numbers and not _is_number(value):
            what = f"{series.event_type} holds numbers, not {nouns(json_types(value))}"
        elif series.data_type == "histogram" and not isinstance(value, dict):
            what = f'{series.event_type} holds histograms: write a table, such as {{ "10" = 5 }}'
        else:
            continue
        yield Mistake((*path, "points", index, 1), what)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _summaries(source: Source) -> list[Summary]:
    """The summaries that a source asks for, without "all"."""
    return [Summary.parse(each) for each in source.wanted_summaries() if each != "all"]


def _has(name: str, summary: Summary) -> bool:
    """Whether an archive can have this summary of an event type; of one that is not known, it may."""
    return summary == BASE or name not in EVENT_TYPES or summary.type in event_type(name).summaries


def _impossible_summaries(path: Path, source: Source) -> Iterator[Mistake]:
    names = source.wanted_event_types()
    wanted = _summaries(source)
    if not names or "all" in source.wanted_summaries():
        return
    for index, summary in enumerate(wanted):
        if not any(_has(name, summary) for name in names):
            what = f"none of the event types has a summary of type {summary.type!r}"
            yield Mistake((*path, "summaries", index), what, _possible(names))
    for index, name in enumerate(names):
        if not any(_has(name, summary) for summary in wanted) and any(_has(other, each) for other in names for each in wanted):
            what = f"{name} has no summary of type {' or '.join(sorted({repr(each.type) for each in wanted}))}"
            yield Mistake((*path, "event_types", index), what, _possible([name]))


def _possible(names: Iterable[str]) -> str:
    return "; ".join(f"of {name} there is {', '.join(('base', *event_type(name).summaries))}" for name in names)


def _candidates(source: Source, known: Iterable[str] = EVENT_TYPES) -> list[Series]:
    """One series of each kind that the source may offer, of a made-up metadata that has them all; of `known` types if it names none."""
    names = source.wanted_event_types() or list(dict.fromkeys(known))
    kinds = [*_summaries(source)]
    if "all" in source.wanted_summaries():
        kinds += [BASE, *(Summary(kind, _DAY) for kind in ("aggregation", "average", "statistics"))]
    offered = {name: {kind: Served("") for kind in dict.fromkeys([BASE, *kinds]) if _has(name, kind)} for name in EVENT_TYPES}
    offered |= {name: {kind: Served("") for kind in [BASE, *kinds]} for name in names if name not in EVENT_TYPES}
    near, far = "192.0.2.1", "192.0.2.2"
    metadata = Metadata("0" * 32, "point-to-point", near, far, near, "pscheduler/powstream", near, far, event_types=offered)
    return [Series(metadata, name, kind) for name in names for kind in dict.fromkeys(kinds) if _has(name, kind)]


def _refusals(source: Source, draft: Draft) -> Iterator[Mistake]:
    if not draft.right("transform"):
        return
    chain = Chain(tuple(each for each in draft.transforms if each is not None))
    try:
        ends = [target for series in _candidates(source) if (target := chain.becomes(series))]
    except Exception as error:  # some transforms know only once they are open
        yield Mistake(("transform",), f"cannot say offline which series come out: {error}", warning=True)
        return
    for index, sink in enumerate(draft.sinks):
        if sink is not None:
            found = _refused(("sink", index), sink, ends, source.wanted_event_types() is not None)
            yield from (each for each in found if not each.warning or draft.right("sink", index))


def _refused(path: Path, sink: Sink, ends: Iterable[Series], named: bool) -> Iterator[Mistake]:
    """Series that a sink never accepts: an error if the file asks for them, a warning if the source may have them."""
    try:
        answers = {series: sink.refusal(series) for series in ends}
    except Exception as error:  # some sinks know only once they are open
        yield Mistake(path, f"cannot say offline which series it takes: {error}", warning=True)
        return
    taken = {series.summary for series, reason in answers.items() if not reason}
    refused: dict[tuple[str, bool], list[Series]] = defaultdict(list)
    for series, reason in answers.items():
        if reason:
            refused[reason.removeprefix(f"{series.summary}: "), series.summary not in taken].append(series)
    for (reason, whole), all_series in refused.items():
        names = dict.fromkeys(str(series.summary) if whole else series.event_type for series in all_series)
        hint = (
            "leave out of the source's summaries what it does not accept" if whole else "leave them out of the source's event_types"
        )
        yield Mistake(path, f"does not accept {', '.join(names)}: {reason}", hint, not (named or whole))


def _unworkable(source: Source, draft: Draft) -> Iterator[Mistake]:
    """Transforms that can never work on an event type although the file names it."""
    others = [name for each in draft.transforms if each is not None for name in each.event_types or ()]
    for series in _candidates(source, others):
        sure = series.summary == BASE or "all" not in source.wanted_summaries()  # of other summaries there may be none
        if sure and not _is_slip(series.event_type):
            yield from _stumbling(series, draft, source.wanted_event_types() is not None)


def _stumbling(series: Series, draft: Draft, named: bool) -> Iterator[Mistake]:
    """The error of the first transform that raises for an empty batch of `series`, if the file asks it to work on that."""
    batch = Batch.from_points(series, [])
    for index, transform in enumerate(draft.transforms):
        if transform is None or not draft.right("transform", index):
            return
        if not (named or series.event_type in EVENT_TYPES or _is_tried(transform)):  # which may be what makes them
            return
        try:
            found = _tried(transform, batch)
        except ConfigError as error:
            yield from _asked(("transform", index), transform.event_types or [], batch.series, str(error), named)
            return
        except Exception:  # some transforms know only once they are open
            return
        if found is None:
            return
        batch = found


def _asked(path: Path, names: list[str], series: Series, error: str, named: bool) -> Iterator[Mistake]:
    """A transform's `error` as a mistake if it is the file that asks for `series`: the transform's `names`, or the source's."""
    what = error.removeprefix(f"{series}: ")
    if series.event_type in names:
        yield Mistake((*path, "event_types", names.index(series.event_type)), what)
    elif named:
        yield Mistake(path, what)


def _tried(transform: Transform, batch: Batch) -> Batch | None:
    """The result of `transform` for an empty batch, for the type of its values; None if there is none, or it is not known offline."""
    if not transform.concerns(batch.series):
        return batch
    series = transform.becomes(batch.series)
    if series is None or not _is_tried(transform):
        return None
    made = list(transform.apply([batch]))
    return made[-1].with_series(series) if made else None


def _is_tried(transform: Transform) -> bool:
    """Whether a transform declares that its `apply` has no side effects, and does not need `open`."""
    return transform.tried_offline


def _shared_places(draft: Draft) -> Iterator[Mistake]:
    seen: dict[Any, Path] = {}
    for path, stage in draft.stages():
        if path[0] == "transform" or not all(draft.right(*path, option) for option in stage.place):
            continue
        place = location(stage)
        if not place:
            continue
        first = seen.setdefault(frozenset(place.items()), path)
        if first is not path:
            option = next((name for name in stage.place if name in stage.model_fields_set), None)
            both = "the source itself" if first == ("source",) else f"also that of {first[0]}[{first[1]}]"
            hint = _ELSEWHERE.get((str(first[0]), str(path[0])), "write elsewhere")
            yield Mistake((*path, option) if option else path, f"this place is {both}: {_said(stage)}", hint)


def _said(stage: Stage) -> str:
    """A place as it was written, without the other parts of a URL."""
    options = [(getattr(stage, name), found) for name, found in location(stage).items()]
    return ", ".join(_shown(found if "://" in str(value) else value) for value, found in options if value not in (None, "", []))


def _shown(value: object) -> str:
    """A path relative to the current folder, if it lies in it."""
    text = str(value)
    return os.path.relpath(text) if text.startswith(str(pathlib.Path.cwd())) else text


def location(stage: Stage) -> dict[str, Any]:
    """The options that say where a stage's data are, in a normal form: different ways to write one place are equal."""
    options: Mapping[str, Any] = {name: getattr(stage, name) for name in stage.place}
    place = {name: _place(name, value) for name, value in options.items()}
    if "script_alias" in place and isinstance(options.get("url"), str):
        alias = "/".join(word for word in str(place.pop("script_alias") or "").split("/") if word)
        bare = place["url"].removesuffix("/perfsonar/archive")
        if bare == place["url"]:
            bare = f"{bare}/{alias}" if alias else bare
        place["url"] = bare
    return place


def _place(name: str, value: Any) -> Any:
    if isinstance(value, str) and "://" in value:
        return _url(value)
    if isinstance(value, os.PathLike) or (isinstance(value, str) and name in _PATHS):
        return os.path.realpath(value)
    return value if isinstance(value, str | int | float | None) else str(value)


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        port = parts.port if parts.port != _PORTS.get(parts.scheme) else None
    except ValueError:  # no port, or no address: the connection will report that
        return text
    host = _LOOPBACK if parts.hostname in _LOOPBACKS else parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    path = "/".join(["", *(word for word in parts.path.split("/") if word)])
    return urlunsplit((parts.scheme, f"{host}:{port}" if port else host, path, "", ""))
