"""The command line: one module a command, each imported only when it is used."""

import os
import sys
from importlib import import_module
from typing import NoReturn

from esmond_etl import __version__

#: Command -> what it is for. Each lives in the module of its name, as the click command `command`.
COMMANDS = {
    "demo": "Move sample measurements between two archives on this machine.",
    "new": "Write a pipeline file, or a plugin, to start from.",
    "check": "Report every mistake in pipeline files, without connecting.",
    "test": "Send the test datapoints in pipeline files through the transforms.",
    "plan": "Show what a run would read; reads nothing but the list.",
    "preview": "Show the first datapoints after the transforms; writes nothing.",
    "run": "Move what has not been moved yet.",
    "status": "Show how far each series has come.",
    "verify": "Compare what the source has with what the sinks have.",
    "rejects": "List, send or forget the datapoints that a sink would not take.",
    "reset": "Forget what has been moved.",
    "get": "Print datapoints of an archive.",
    "list": "Print the metadata of an archive.",
    "plugins": "Explain the installed sources, transforms and sinks.",
    "schema": "Print the JSON Schema of pipeline files, for editors.",
}

DONE, INCOMPLETE, WRONG, LOCKED = 0, 1, 2, 3


def main() -> NoReturn:
    """Run the command that the arguments name, and exit with its code."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        print(f"esmond-etl {__version__}")
        sys.exit(DONE)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # to look for them, it reads what every installed package says
    sys.exit(import_module("esmond_etl.cli.group").run())
