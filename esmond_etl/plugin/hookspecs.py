"""What a plugin may register: one function a hook, marked with `esmond_etl.hookimpl`.

A plugin is a module that a distribution names under the entry point group `esmond_etl`. Each hook is called once, when its
answer is first needed, and should import what is heavy only when a stage is opened.
"""

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from esmond_etl.plugin.executor import Connect
    from esmond_etl.plugin.sink import Sink
    from esmond_etl.plugin.source import Source
    from esmond_etl.plugin.transform import Transform

hookspec = pluggy.HookspecMarker("esmond_etl")
hookimpl = pluggy.HookimplMarker("esmond_etl")


@hookspec
def esmond_etl_sources() -> "dict[str, type[Source]]":
    """Sources by the names that pipelines know them by: `[source] type = NAME`."""
    return {}


@hookspec
def esmond_etl_transforms() -> "dict[str, type[Transform]]":
    """Transforms by the names that pipelines know them by: `[[transform]] type = NAME`."""
    return {}


@hookspec
def esmond_etl_sinks() -> "dict[str, type[Sink]]":
    """Sinks by the names that pipelines know them by: `[[sink]] type = NAME`."""
    return {}


@hookspec
def esmond_etl_executors() -> "dict[str, Connect]":
    """Engines that deliver tasks on other machines, by the names that `esmond-etl run --executor` knows them by."""
    return {}


@hookspec
def esmond_etl_commands() -> "dict[str, click.Command]":
    """Commands of `esmond-etl` by name; called when a command is looked up that esmond-etl itself does not have."""
    return {}
