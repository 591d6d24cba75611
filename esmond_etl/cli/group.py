"""The command `esmond-etl` itself: finds its commands by name and turns errors into one sentence and an exit code."""

from __future__ import annotations

import os
import sys
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from esmond_etl import __version__, cli
from esmond_etl.model.errors import ConfigError, EsmondEtlError, LockedError, PluginError, described
from esmond_etl.model.text import printable

EPILOG = """\b
Exit codes:
  0 all that was due has been delivered 1 some of it has not: the output says which, and the next run tries again
  2  a command line or a pipeline file is wrong
  3  another run of the pipeline is under way

Start with `esmond-etl demo`, then copy one of the files in pipelines/ and change its URLs."""


class Commands(click.Group):
    """Commands that are imported when they are used: ours, then those of plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, ours first."""
        return [*cli.COMMANDS, *_plugin_commands()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name in cli.COMMANDS:
            module = import_module(f"esmond_etl.cli.{cmd_name.replace('-', '_')}")
            command: click.Command = module.command
            return command
        return _plugin_commands().get(cmd_name) or _hidden_command(cmd_name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that `args` begin with; the error for an unknown one names the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0], self.list_commands(ctx), 1)
            if not near:
                raise
            raise click.UsageError(f"{error.message.rstrip('.')}: did you mean {near[0]!r}?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One line per command, without importing ours."""
        others = {name: command.get_short_help_str(60) for name, command in _plugin_commands().items()}
        with formatter.section("Commands"):
            formatter.write_dl([*cli.COMMANDS.items(), *others.items()])


def _plugin_commands() -> dict[str, click.Command]:
    """The commands of plugins, except those with the name of one of ours."""
    from esmond_etl.plugin.registry import load_commands

    return {name: command for name, command in load_commands().of("command").items() if name not in cli.COMMANDS}


def _hidden_command(name: str) -> click.Command | None:
    """The command of a plugin that is installed in an unusual way; if there is none, reports the broken plugins."""
    from esmond_etl.plugin.registry import installed

    registry = installed()
    command: click.Command | None = registry.of("command").get(name)
    for problem in registry.problems if command is None else ():
        print(f"esmond-etl: {problem}", file=sys.stderr)
    return command


@click.command(cls=Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", prog_name="esmond-etl", message="%(prog)s %(version)s")
def esmond_etl() -> None:
    """Move network measurements out of, and between, perfSONAR measurement archives (esmond)."""


def run(arguments: list[str] | None = None) -> int:
    """Run a command line (default: the process's own) and return its exit code; errors become one sentence on stderr."""
    try:
        result: Any = esmond_etl.main(arguments, prog_name="esmond-etl", standalone_mode=False)
        return result if isinstance(result, int) else cli.DONE
    except click.ClickException as error:
        error.show() if not cli.logs_json() else _complain(error.format_message(), cli.WRONG)
        return cli.WRONG
    except click.Abort:
        return _complain("stopped", cli.INCOMPLETE)
    except BrokenPipeError:  # `esmond-etl get ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return cli.INCOMPLETE
    except EsmondEtlError as error:
        return _complain(f"esmond-etl: {printable(str(error))}", _exit_code(error))
    except Exception as error:  # of our own code, or of a plugin's: a person gets a sentence all the same
        if os.environ.get("ESMOND_ETL_TRACEBACK"):
            raise
        hint = "this is a mistake in esmond-etl or in a plugin; set ESMOND_ETL_TRACEBACK=1 to see where"
        return _complain(f"esmond-etl: {printable(described(error))}: {hint}", cli.INCOMPLETE)


def _complain(text: str, code: int) -> int:
    """Print on stderr why the command ends with `code`; as JSON if logs are JSON."""
    if cli.logs_json():
        from esmond_etl.cli import show

        show.say(text.removeprefix("esmond-etl: "), error=True, exit_code=code)
    else:
        print(text, file=sys.stderr)
    return code


def _exit_code(error: EsmondEtlError) -> int:
    if isinstance(error, LockedError):
        return cli.LOCKED
    return cli.WRONG if isinstance(error, ConfigError | PluginError) else cli.INCOMPLETE
