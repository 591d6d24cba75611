"""The installed plugins: their stages and commands by name, and what is wrong with the broken ones."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import pluggy

from esmond_etl.plugin import hookspecs
from esmond_etl.plugin.commands import COMMANDS

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "esmond_etl"
OURS: Final = "esmond-etl"

Kind = Literal["source", "transform", "sink", "executor", "command"]
KINDS: Final[tuple[Kind, ...]] = ("source", "transform", "sink", "executor", "command")

_HOOKS: Final[dict[str, Kind]] = {f"esmond_etl_{kind}s": kind for kind in KINDS}


class Plugin(NamedTuple):
    """One entry point of an installed distribution."""

    name: str
    module: str
    distribution: str = OURS

    def __str__(self) -> str:
        return f"plugin {self.name} ({self.module}, of {self.distribution})"


@dataclass(frozen=True)
class Registered:
    """One thing that a plugin registered."""

    kind: Kind
    name: str
    plugin: str  #: the plugin's entry point
    thing: Any  #: a stage's class, or a click command
    distribution: str = OURS  #: what has to be installed to have it


@dataclass
class Registry:
    """What the installed plugins offer."""

    found: dict[tuple[Kind, str], Registered] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)  #: a sentence each, naming the plugin

    def of(self, kind: Kind) -> dict[str, Any]:
        """The stages (or commands) of one kind, by name."""
        return {each.name: each.thing for each in self.found.values() if each.kind == kind}

    def add(self, plugin: Plugin, kind: Kind, things: Mapping[str, Any]) -> None:
        """Add what a plugin offers; invalid objects and duplicate names are reported and skipped."""
        for name, thing in things.items():
            first = self.found.get((kind, name))
            fault = _fault(kind, name, thing)
            if first is not None:
                fault = f"the name is taken by plugin {first.plugin}, of {first.distribution}: choose another"
            if fault:
                self.problems.append(f"{plugin}: {kind} {name!r}: {fault}")
            else:
                self.found[kind, name] = Registered(kind, name, plugin.name, thing, plugin.distribution)


def load(kinds: tuple[Kind, ...] = KINDS) -> Registry:
    """What all installed plugins offer of `kinds`; a broken plugin is reported, and the others go on working."""
    return _load(map(_loader, _points()), kinds)


def plugins() -> Iterator[Plugin]:
    """All installed plugins, ours first; none is loaded."""
    return (_plugin(point) for point in _points())


def _plugin(point: EntryPoint) -> Plugin:
    return Plugin(point.name, point.value, _distribution(point))


def _loader(point: EntryPoint) -> tuple[Plugin, Any]:
    return _plugin(point), point.load


@cache
def _points() -> list[EntryPoint]:
    from importlib.metadata import entry_points  # this import takes longer than everything else in `--help`

    return sorted(entry_points(group=GROUP), key=_ours_first)


def ours(kind: Kind, name: str) -> Any:
    """The stage of that name in our own plugin of that name, if there is one: it comes first, so no other plugin need be loaded."""
    plugins = (plugin for plugin in _in_folders() if plugin.name == name and plugin.distribution == OURS)
    return _load(map(_importer, plugins), (kind,)).of(kind).get(name)


def load_commands() -> Registry:
    """The commands of plugins that are found in folders."""
    return _load(map(_importer, _in_folders()), ("command",))


@cache
def _in_folders() -> list[Plugin]:
    """The plugins of distributions that lie in folders of `sys.path`: found without `importlib.metadata`, which takes longer."""
    return sorted(set(_plugins_in_folders()), key=lambda plugin: (plugin.distribution != OURS, plugin.name))


def _importer(plugin: Plugin) -> tuple[Plugin, Any]:
    return plugin, lambda: import_module(plugin.module)


@cache
def installed(*kinds: Kind) -> Registry:
    """What all installed plugins offer of `kinds` (default: of all), loaded once."""
    return load(kinds or KINDS)


def _load(plugins: Iterable[tuple[Plugin, Any]], kinds: tuple[Kind, ...]) -> Registry:
    registry = Registry()
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    for plugin, load_module in plugins:
        if manager.has_plugin(plugin.name):
            registry.problems.append(f"{plugin}: there is a plugin of that name already: rename its entry point")
            continue
        try:
            module = load_module()
            manager.register(module, plugin.name)
        except (Exception, SystemExit) as error:  # a plugin's module may raise anything
            registry.problems.append(f"{plugin}: {_reason(error)}")
            continue
        registry.problems += [f"{plugin}: {fault}" for fault in _misnamed(module)]
        for kind in kinds:
            _collect(registry, manager, plugin, kind)
    return registry


def _collect(registry: Registry, manager: pluggy.PluginManager, plugin: Plugin, kind: Kind) -> None:
    for impl in getattr(manager.hook, f"esmond_etl_{kind}s").get_hookimpls():
        if impl.plugin_name != plugin.name:
            continue
        try:
            things = impl.function()
            if not isinstance(things, Mapping):
                raise TypeError(f"it returned {type(things).__name__}, not a dict of names")
            registry.add(plugin, kind, things)
        except (Exception, SystemExit) as error:  # a plugin's hook may raise anything
            registry.problems.append(f"{plugin}: its hook esmond_etl_{kind}s failed: {_reason(error)}")


def _misnamed(module: ModuleType) -> Iterable[str]:
    """The mistakes in functions of a plugin that are, or look like, hooks."""
    for name, function in vars(module).items():
        if not isinstance(function, FunctionType):
            continue
        marked = getattr(function, f"{GROUP}_impl", None)
        name = (marked or {}).get("specname") or name
        if name in _HOOKS and marked is None:
            yield f"{name} is not marked: write @hookimpl above it"
        elif name not in _HOOKS and (
            marked is not None or (name.startswith(f"{GROUP}_") and function.__module__ == module.__name__)
        ):
            close = get_close_matches(name, _HOOKS, 1)
            yield f"there is no hook {name}" + (f"; did you mean {close[0]}?" if close else f"; known: {', '.join(_HOOKS)}")


def _fault(kind: Kind, name: object, thing: object) -> str | None:
    """Why a plugin cannot register `thing` as this kind of thing, or None if it can."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        return "a name is made of letters, digits, '.', '_' and '-'"
    if kind == "command":
        import click

        if name in COMMANDS:
            return "the name is taken by a command of esmond-etl itself: choose another"
        return None if isinstance(thing, click.Command) else f"{thing!r} is not a click command"
    if kind == "executor":
        return None if callable(thing) else f"{thing!r} cannot be called: an executor is a function that connects"
    # pydantic and pyarrow are not for those who look for commands alone
    base = getattr(import_module(f"esmond_etl.plugin.{kind}"), kind.capitalize())
    if not (isinstance(thing, type) and issubclass(thing, base)):
        return f"{getattr(thing, '__qualname__', repr(thing))} is not a class derived from {base.__name__}"
    missing = ", ".join(sorted(getattr(thing, "__abstractmethods__", ())))
    return f"{thing.__qualname__} does not define {missing}" if missing else None


def _ours_first(point: EntryPoint) -> tuple[bool, str]:
    return not _distribution(point).startswith(f"{OURS} "), point.name


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"


def _plugins_in_folders() -> Iterable[Plugin]:
    for folder in dict.fromkeys(sys.path):
        for file in Path(folder).glob("*.*-info/entry_points.txt"):
            text = file.read_text(encoding="utf-8", errors="replace")
            distribution = file.parent.name.partition("-")[0].replace("_", "-")
            section = re.search(rf"^\[{GROUP}\]\s*$([^\[]*)", text, re.MULTILINE)
            for name, module in re.findall(r"^\s*([^#;=\s][^=]*?)\s*=\s*([\w.]+)", section[1] if section else "", re.MULTILINE):
                yield Plugin(name, module, distribution)


def _reason(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
