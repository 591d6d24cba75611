"""The common base of sources, transforms and sinks.

A stage is a pydantic model. Its fields are its options: the keys in the TOML, their types and defaults, their description in the
schema for editors and in `esmond-etl plugins`, all from one place. A secret is a `SecretStr`. Nothing heavy is imported, and no
connection is made, before `open`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from esmond_etl.model.traffic import Traffic

if TYPE_CHECKING:
    from esmond_etl.plugin.source import Source


@dataclass
class Context:
    """What a run gives its stages while they are open."""

    pipeline: str = ""  #: its name
    parallel: int = 8  #: requests in flight at most
    memory: MutableMapping[str, str] = field(default_factory=dict)  #: a sink's own notes, kept in the ledger between runs
    source: Source | None = None  #: the pipeline's source, open: for a sink that needs a sibling of the series it is given
    waiting: Callable[[str], None] = lambda _: None  #: called with what a stage waits for, and until when; with "" once it goes on
    stop: threading.Event = field(default_factory=threading.Event)  #: set when the run has been told to stop
    most: int = (
        0  #: like `parallel`, for a stage that finds out how many requests its server can bear; 0: `parallel` holds for it too
    )


class Stage(BaseModel):
    """A source, a transform or a sink; its fields are its options."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True, defer_build=True)

    #: A pipeline file, or a part of one, that shows the stage at work: for `esmond-etl plugins` and `esmond-etl new`.
    example: ClassVar[str] = ""

    #: The options that say where the data are (of a sink: where they go).
    place: ClassVar[tuple[str, ...]] = ()

    #: The options that are paths of files or folders: a relative one starts at the folder of the pipeline file.
    paths: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def located(cls, options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """`options` with their relative paths made absolute, from `folder` on."""
        return {name: in_folder(value, folder) if name in cls.paths else value for name, value in options.items()}

    def open(self, context: Context) -> None:
        """Get ready: import what is heavy, connect; raises EsmondEtlError with a sentence that says what to do."""

    def close(self) -> None:
        """Release everything that `open` acquired."""

    def unopened(self) -> Self:
        """The same stage, not open, so that it can be sent to another process."""
        return type(self).model_validate(dict(self))

    def share(self, parts: int) -> Self:
        """The stage for one of `parts` workers that are open at once: with its share of a limit that holds for all of them."""
        return self

    @property
    def traffic(self) -> Traffic:
        """Its traffic with a server since it was opened."""
        return Traffic()


def in_folder(value: Any, folder: Path) -> Any:
    """A relative path as an absolute one that starts in `folder`; a URL, or anything else, as it is."""
    is_relative = isinstance(value, str) and value and "://" not in value and not Path(value).is_absolute()
    return str(folder / value) if is_relative else value


def digest_of(path: str | Path) -> str:
    """A digest of the contents of a file; "" if it cannot be read."""
    try:
        return sha256(Path(path).read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def options(stage: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of the options of a stage, or of any other model."""
    return stage.model_json_schema(by_alias=True)
