"""Metadata, and the series of datapoints that belong to them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from esmond_etl.model.event_types import URL_WORDS, event_type, holds_numbers

#: The fixed fields of metadata; every other field is a free-form parameter.
SUBJECT_FIELDS = ("source", "destination", "measurement-agent", "tool-name", "input-source", "input-destination")

#: The columns of a table that describe the series of each datapoint.
SUBJECT_COLUMNS = ("metadata_key", *(name.replace("-", "_") for name in SUBJECT_FIELDS), "parameters")

#: Fields that the archive adds itself: they are not part of the measurement, and never posted.
MADE_UP = frozenset(
    {
        "url",
        "uri",
        "metadata-key",
        "metadata-count-total",
        "metadata-next-page",
        "metadata-previous-page",
        "time-updated",
        "base-uri",
    }
)


class Summary(NamedTuple):
    """How the datapoints of a series were made from what was measured."""

    type: str = "base"
    window: int = 0  #: s; 0 for base data and for summaries that are one to one

    @classmethod
    def parse(cls, text: str) -> "Summary":
        """The summary of "base" or "average/86400"; raises ValueError for anything else."""
        kind, _, window = text.partition("/")
        if kind not in URL_WORDS or (kind == "base") == bool(window) or not (window or "0").isdigit():
            raise ValueError(f'{text!r} is not a summary: write "base", or a type and a window in seconds such as "average/86400"')
        return cls(kind, int(window or 0))

    def __str__(self) -> str:
        return "base" if self.type == "base" else f"{self.type}/{self.window}"


BASE = Summary()


class SeriesId(NamedTuple):
    """The identity of a series within its archive."""

    metadata_key: str
    event_type: str
    summary: str = "base"  #: as `Summary` is written

    def __str__(self) -> str:
        return f"{self.metadata_key}/{self.event_type}/{self.summary}"


class Served(NamedTuple):
    """One series in an archive's list."""

    uri: str  #: where its datapoints are, as the archive gave it
    updated: int | None = None  #: `time-updated`: Unix time of the last write; None where nothing was ever written


@dataclass(frozen=True, slots=True, eq=False)
class Metadata:
    """One entry of an archive's list: the source, the destination, the tool and the parameters of a measurement."""

    key: str
    subject_type: str = "point-to-point"
    source: str | None = None
    destination: str | None = None
    measurement_agent: str | None = None
    tool_name: str | None = None
    input_source: str | None = None
    input_destination: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)  #: free-form, as the archive has them
    event_types: Mapping[str, Mapping[Summary, Served]] = field(default_factory=dict)
    uri: str | None = None  #: where the archive has it

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Metadata":
        """The metadata of one entry of an archive's list; raises KeyError, TypeError or ValueError if the entry is not valid."""
        _check_texts(entry)
        subject = {name.replace("-", "_"): entry.get(name) for name in SUBJECT_FIELDS}
        known = MADE_UP.union(SUBJECT_FIELDS, ("subject-type", "event-types"))
        return cls(
            key=entry["metadata-key"],
            subject_type=entry.get("subject-type", "point-to-point"),
            parameters={name: value for name, value in entry.items() if name not in known},
            event_types={each["event-type"]: _summaries(each) for each in entry["event-types"]},
            uri=entry.get("uri"),
            **subject,
        )

    def to_json(self) -> dict[str, Any]:
        """The metadata as an archive's post interface expects them: without the fields that archives add."""
        subject = {name: getattr(self, name.replace("-", "_")) for name in SUBJECT_FIELDS}
        return {
            "subject-type": self.subject_type,
            **{name: value for name, value in subject.items() if value is not None},
            **self.parameters,
            "event-types": [
                {
                    "event-type": name,
                    "summaries": [{"summary-type": each.type, "summary-window": each.window} for each in summaries if each != BASE],
                }
                for name, summaries in self.event_types.items()
            ],
        }

    def series(self) -> Iterator["Series"]:
        """Every series of this metadata."""
        for name, summaries in self.event_types.items():
            for summary in summaries:
                yield Series(self, name, summary)

    def __repr__(self) -> str:
        return f"<Metadata {self.key}: {self.source} to {self.destination}, {self.tool_name}>"


def _check_texts(entry: Mapping[str, Any]) -> None:
    """Raises TypeError if a field of a listed entry must be text and is not."""
    if not (isinstance(entry["metadata-key"], str) and entry["metadata-key"]):
        raise TypeError(f"its metadata-key is {entry['metadata-key']!r:.60}, not a text")
    for name in (*SUBJECT_FIELDS, "uri", "subject-type"):
        if not isinstance(entry.get(name), str | None):
            raise TypeError(f"its {name} is {entry[name]!r:.60}, not a text")


def _summaries(entry: Mapping[str, Any]) -> dict[Summary, Served]:
    served = {BASE: _served(entry, "base-uri")}
    for each in entry.get("summaries") or ():
        summary = Summary(each["summary-type"], int(each["summary-window"]))
        if summary.type not in URL_WORDS or summary.window < 0:
            raise ValueError(f"it has a summary {summary.type!r:.40} over {summary.window} s")
        served[summary] = _served(each, "uri")
    return served


def _served(entry: Mapping[str, Any], name: str) -> Served:
    uri, updated = entry[name], entry.get("time-updated")
    if not (isinstance(uri, str) and isinstance(updated, int | float | None)):
        raise TypeError(f"its {name} or its time-updated is wrong: {uri!r:.60}, {updated!r:.40}")
    return Served(uri, None if updated is None else int(updated))


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One event type, or one summary of it, of one metadata: the datapoints that one URL of an archive serves."""

    metadata: Metadata
    event_type: str
    summary: Summary = BASE
    _id: SeriesId | None = field(default=None, init=False, repr=False)  # made once: it is compared and hashed very often

    @property
    def id(self) -> SeriesId:
        """The identity of the series within its archive."""
        if self._id is None:
            object.__setattr__(self, "_id", SeriesId(self.metadata.key, self.event_type, str(self.summary)))
        return self._id  # type: ignore[return-value]

    @property
    def served(self) -> Served:
        """The URI of its datapoints in the archive; raises KeyError for a series that did not come from a list."""
        return self.metadata.event_types[self.event_type][self.summary]

    @property
    def holds_numbers(self) -> bool:
        """Whether its values are numbers; all other values are kept as JSON text."""
        return holds_numbers(self.event_type, self.summary.type)

    @property
    def data_type(self) -> str:
        """How an archive keeps a value: "integer", "float", "percentage", "histogram", "subinterval", "json", or "statistics"."""
        return "statistics" if self.summary.type == "statistics" else event_type(self.event_type).data_type

    @property
    def counts(self) -> bool:
        """Whether its values are whole numbers: those of an integer event type, and sums of them."""
        return self.data_type == "integer" and self.summary.type != "average"

    def replace(self, **changes: Any) -> "Series":
        """The same series with some fields changed."""
        return replace(self, **changes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Series) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return str(self.id)
