"""The settings of a pipeline: the keys before its stages."""

from __future__ import annotations

import time
from datetime import date, datetime
from datetime import time as clock
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, WithJsonSchema

from esmond_etl.model.interval import moment, parse_moment
from esmond_etl.plugin.options import Duration

#: With `parallel = "auto"`: requests in flight at a server that cannot tell how many it can bear, and at most at one that can.
CAREFUL, MOST = 8, 16


def _may_be_moment(value: object) -> object:
    if isinstance(value, date | int | str) and not isinstance(value, bool):
        return value
    said = f"{value} is a time of day without a day" if isinstance(value, clock) else "is not a time"
    raise ValueError(f'{said}: write a date or time such as 2014-03-01 or 2014-03-01T12:00:00Z, or an age such as "30d"')


def _moment(value: object) -> object:
    ts = parse_moment(value, int(time.time()))
    try:
        moment(ts)
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"{_written(value)} is outside the range of dates") from None
    return value


def _written(value: object) -> str:
    """A time as it was written, shortened to fit into a line."""
    if isinstance(value, int) and abs(value) > 10**30:
        return "this number"
    return value.isoformat() if isinstance(value, date) else f"{value!r:.40}"


#: A time in a pipeline file; its meaning may depend on the present time.
Moment = Annotated[
    datetime | date | int | str,
    BeforeValidator(_may_be_moment),
    AfterValidator(_moment),
    WithJsonSchema(
        {
            "type": ["string", "integer"],
            "pattern": r"^\s*(now|[0-9]+[smhdw]|[0-9]{9,}|[0-9]{4}-?[0-9W].*)\s*$",
            "examples": ["2013-10-01", "2014-03-01T12:00:00Z", "30d"],
        }
    ),
]


class Settings(BaseModel):
    """The settings of a pipeline: the keys before its stages."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: str | None = Field(None, pattern=r"^[\w.-]+$", description="names the ledger; default: the file's name")
    from_: Moment = Field(alias="from", description='start of the measurements to deliver: a date, a time, or an age such as "30d"')
    to: Moment = Field("now", description="end of the measurements to deliver; default: now")
    window: Duration = Field(
        86400, gt=0, description="length of the windows that time is divided into (UTC); only windows that have ended are read"
    )
    settle: Duration = Field(600, description="how long to wait after the end of a window before it is read")
    lookback: Duration = Field(21600, description="how much of the past each run reads again, to find late data")
    parallel: Annotated[int, Field(strict=True, ge=1, le=256)] | Literal["auto"] = Field(
        "auto", description='requests in flight at most at each server; "auto": as many as an archive can bear, up to 16'
    )
    rejects: Literal["report", "accept"] = Field(
        "report", description='whether a run ends with 1 while rejected datapoints wait; "accept": they are listed, and no failure'
    )
    on_failure: str | None = Field(
        None,
        pattern=r"^https?://",
        description="URL that gets a POST with the run's summary (JSON) when a run did not deliver everything",
        examples=["https://alerts.example.net/hook"],
    )
    ledger: str | None = Field(None, description="folder of the ledger; default: .esmond-etl beside the pipeline file")

    _workers: int = PrivateAttr(1)

    @property
    def threads(self) -> int:
        """How many series are read at once."""
        return self._part(MOST if self.parallel == "auto" else self.parallel)

    @property
    def requests(self) -> int:
        """Requests in flight at most, at a server that cannot tell how many it can bear."""
        return self._part(CAREFUL if self.parallel == "auto" else self.parallel)

    @property
    def most(self) -> int:
        """The same, at a server that can tell; 0 if the file gives a number."""
        return self._part(MOST) if self.parallel == "auto" else 0

    def share(self, workers: int) -> Self:
        """The settings for one of `workers` workers that are open at once."""
        copy = self.model_copy()
        copy._workers = workers
        return copy

    def _part(self, number: int) -> int:
        return max(1, -(-number // self._workers))
