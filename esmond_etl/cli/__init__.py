"""The command line: one module a command, each imported only when it is used."""

import os
import sys
from importlib import import_module
from typing import NoReturn

from esmond_etl import __version__
from esmond_etl.plugin.commands import COMMANDS as COMMANDS

DONE, INCOMPLETE, WRONG, LOCKED = 0, 1, 2, 3


def logs_json() -> bool:
    """Whether messages on stderr are JSON."""
    return os.environ.get("ESMOND_ETL_LOG") == "json"


def main() -> NoReturn:
    """Run the command that the arguments name, and exit with its code."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        print(f"esmond-etl {__version__}")
        sys.exit(DONE)
    os.environ.setdefault(
        "PYDANTIC_DISABLE_PLUGINS", "__all__"
    )  # to look for them, it reads the metadata of every installed package
    sys.exit(import_module("esmond_etl.cli.group").run())
