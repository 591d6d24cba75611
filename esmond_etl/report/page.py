"""The page: one file of HTML that needs no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Final

from esmond_etl import __version__
from esmond_etl.doctor.finding import MEANINGS, Finding
from esmond_etl.model.errors import PluginError
from esmond_etl.model.interval import format_duration, moment
from esmond_etl.report.facts import STATES, Facts

#: At most this many findings of a kind are shown.
MOST: Final = 100


def page(facts: Facts, findings: Sequence[Finding] | None = None) -> str:
    """The page as HTML, with what the doctor found if it was asked; raises PluginError if jinja2 is not installed."""
    try:
        from jinja2 import Environment
    except ImportError:
        raise PluginError("the report needs jinja2: pip install 'esmond-etl[report]'") from None
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    return template.render(
        facts=facts,
        states=STATES,
        columns=[(moment(column.start), moment(column.end)) for column in facts.columns],
        each=format_duration(facts.columns[0].seconds),
        runs=_runs(facts),
        data=_data(facts),
        moment=moment,
        findings=findings,
        meanings=MEANINGS,
        most=MOST,
        version=__version__,
    )


def _runs(facts: Facts) -> list[dict[str, object]]:
    """The runs, oldest first, with the height of a bar in percent."""
    most = max((run.get("read", 0) for run in facts.runs), default=0) or 1
    return [
        {
            "started": moment(run["started"]),
            "seconds": round(run.get("seconds", 0), 1),
            "read": run.get("read", 0),
            "height": max(2, round(100 * run.get("read", 0) / most)),
            "complete": run.get("complete", False),
        }
        for run in facts.runs
    ]


def _data(facts: Facts) -> str:
    """The series as JSON that may stand in a script element."""
    rows = [
        [str(each.id), each.source, each.destination, each.number, each.states, each.rejected, each.error[:200]]
        for each in facts.series
    ]
    return json.dumps(rows, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")
