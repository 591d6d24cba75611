"""The options that select an archive, tests, and a time: the same for `get` and `list`."""

from __future__ import annotations

import socket
import sys
import time
import warnings
from collections.abc import Callable
from functools import cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar

import click

from esmond_etl.cli.printing import OLD_NAMES, PRINTERS
from esmond_etl.model.errors import ConfigError
from esmond_etl.model.interval import parse_moment
from esmond_etl.model.text import printable

if TYPE_CHECKING:
    from esmond_etl.client.reading import Reader

Command = TypeVar("Command", bound=Callable[..., Any])

#: Option -> the archive's own filter.
CRITERIA = {"source": "source", "destination": "destination", "agent": "measurement-agent", "tool": "tool-name"}


SELECTING = (
    click.option(
        "-s",
        "--src",
        "--source",
        "source",
        metavar="HOST",
        help="Source host. Prefer an IP address: host names are resolved by the server.",
    ),
    click.option("-d", "--dest", "--destination", "destination", metavar="HOST", help="Destination host."),
    click.option("-a", "--agent", metavar="HOST", help="Host that ran the test (measurement agent)."),
    click.option("-e", "--event-type", "event_types", multiple=True, metavar="NAME", help="Event type; may be repeated."),
    click.option("-t", "--tool", metavar="NAME", help="Tool, such as pscheduler/iperf3."),
    click.option(
        "-F",
        "--filter",
        "filters",
        multiple=True,
        metavar="KEY:VALUE",
        help="Any other parameter of the tests, such as ip-transport-protocol:udp; may be repeated.",
    ),
)
ANSWERING = (
    click.option("-I", "--ip", is_flag=True, help="Show IP addresses; otherwise they are shown as host names if they have one."),
    click.option(
        "-o",
        "--format",
        "--output-format",
        "format_name",
        type=click.Choice([*PRINTERS, *OLD_NAMES]),
        help="Aligned columns; CSV; CSV without texts that a spreadsheet takes for formulas; or a JSON object a line. human and json "
        "are older names.",
    ),
)
CONNECTING = (
    click.option("--script-alias", default="esmond", show_default=True, help='Path before /perfsonar; "/" for none.'),
    click.option("--api-key", envvar="ESMOND_ETL_API_KEY", help="API key, if the archive needs one; safer in $ESMOND_ETL_API_KEY."),
    click.option(
        "--ca", type=click.Path(exists=True, dir_okay=False), help="File of certificates to trust, for a self-signed archive."
    ),
    click.option("--insecure", is_flag=True, help="Do not check the archive's certificate."),
    click.option("--timeout", type=click.FloatRange(0, min_open=True), default=60, show_default=True, help="In seconds."),
)


def options(*groups: tuple[Callable[[Command], Command], ...]) -> Callable[[Command], Command]:
    """Decorate a command with groups of options, in the order they are given."""

    def decorate(command: Command) -> Command:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


def criteria(given: dict[str, Any]) -> dict[str, str]:
    """The archive's own filters, from a command's options; raises ConfigError for one that is not KEY:VALUE."""
    found = {parameter: given[name] for name, parameter in CRITERIA.items() if given[name]}
    for each in given["filters"]:
        key, colon, value = each.partition(":")  # an IPv6 address has more colons
        if not key or not colon:
            raise ConfigError(f"--filter {each}: write KEY:VALUE")
        found[key.replace("_", "-")] = value
    return found


def format_of(given: dict[str, Any], default: str) -> str:
    """The format that was given to a command, by its present name."""
    name = given["format_name"] or default
    return OLD_NAMES.get(name, name)


def moment_of(option: str, text: str | None, default: int, now: int) -> int:
    """Unix time of a date as people write it, in UTC unless it has a zone; raises ConfigError if it is not a date."""
    if text is None:
        return default
    try:
        return parse_moment(text, now)
    except ValueError:
        return _free_form(option, text, now)


def _free_form(option: str, text: str, now: int) -> int:
    from datetime import UTC, datetime

    from dateutil import parser  # only for dates that are not ISO 8601

    midnight = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an unknown time zone would otherwise be taken for UTC
            return parse_moment(parser.parse(text, default=midnight), now)
    except (ValueError, OverflowError, Warning):
        raise ConfigError(
            f'{option} {text}: not a date: write "2014-03-01", "March 1 2014 5pm", "2014-03-01T17:00Z", or "30d"'
        ) from None


def namer(ip: bool) -> Callable[[str | None], str | None]:
    """A function from an address to its host name; it keeps the address if there is no name, or with `ip`."""
    return (lambda address: address) if ip else _name


@cache
def _name(address: str | None) -> str | None:
    try:
        ip_address(address or "")
        return socket.gethostbyaddr(address or "")[0]
    except (ValueError, OSError):
        return address


def connect(url: str, given: dict[str, Any]) -> Any:
    """A connection to the archive at `url`, with a command's options."""
    from esmond_etl.client.archive import Archive  # imports requests

    return Archive(
        url,
        script_alias=given["script_alias"],
        api_key=given["api_key"],
        verify=not given["insecure"],
        ca=given["ca"],
        timeout=given["timeout"],
    )


def now() -> int:
    """Unix time."""
    return int(time.time())


def invalid(reader: Reader) -> bool:
    """Print the entries of the archive's list that are not valid, on stderr; returns whether there were any."""
    for reason in reader.unusable.values():
        print(f"esmond-etl: {printable(reason)}", file=sys.stderr)
    return bool(reader.unusable)
