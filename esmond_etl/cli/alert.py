"""Reports a run that did not deliver everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esmond_etl.cli import show

if TYPE_CHECKING:
    from esmond_etl.engine.result import Result

#: Tries of the request, and its time-out, s.
_TRIES, _PATIENCE = 4, 20


def alert(url: str, result: Result) -> None:
    """POST the summary of a run to `url`; if that fails, the run reports it and goes on."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    retries = Retry(_TRIES, backoff_factor=0.5, status_forcelist=(429, 502, 503, 504), allowed_methods=("POST",))
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retries))
        try:
            session.post(url, json=result.to_json(), timeout=_PATIENCE).raise_for_status()
        except requests.RequestException as error:
            show.say(f"{result.pipeline}: on_failure could not be told: {type(error).__name__}")
