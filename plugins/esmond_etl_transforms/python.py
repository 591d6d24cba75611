"""A function that the user wrote."""

import importlib
import inspect
import sys
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec
from pydantic import Field, PrivateAttr

from esmond_etl import (
    Batch,
    BatchTransform,
    ConfigError,
    Context,
    DataPoint,
    PluginError,
    digest_of,
    json_column,
    number_column,
    ts_column,
)

_ENCODE = msgspec.json.Encoder().encode


class Python(BatchTransform):
    """Call a function of your own with each datapoint, or with each batch of datapoints in columns.

    A function of a point takes a DataPoint (ts, val) and returns one, or None to leave it out; values that are not numbers are
    Python objects. A function of a batch takes a Batch and returns one. If the function's first parameter is annotated as Batch, it
    gets batches. Batches are pages of a series: their edges mean nothing. A datapoint must stay in its window of time.
    """

    example: ClassVar[str] = """
        [[transform]]
        type = "python"
        event_types = ["packet-count-lost"]
        call = "my_transforms:without_negatives"
    """

    call: str = Field(description="the function, as module:function", pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    by: Literal["point", "batch"] | None = Field(None, description="what the function gets; default: according to its annotation")
    path: str = Field(
        ".",
        description="folder of the module, unless it is installed; if the module changes, everything is delivered again",
    )

    paths: ClassVar[tuple[str, ...]] = ("path",)

    @classmethod
    def located(cls, options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Look for the module in the folder of the pipeline file, unless another one is given."""
        return super().located({"path": ".", **options}, folder)

    def fingerprint(self) -> str:
        """A digest of the module's own file; "" if it is installed, or cannot be found."""
        return digest_of(Path(self.path, *self.call.partition(":")[0].split(".")).with_suffix(".py"))

    _function: Callable[[Any], Any] | None = PrivateAttr(default=None)
    _by_batch: bool = PrivateAttr(default=False)

    def open(self, context: Context) -> None:
        """Import the function; raises ConfigError if that fails, saying why."""
        self._function = self._imported()
        self._by_batch = self.by == "batch" if self.by else _takes_batches(self._function)

    def _imported(self) -> Callable[[Any], Any]:
        module_name, _, name = self.call.partition(":")
        folder = str(Path(self.path).resolve())
        if folder not in sys.path:
            sys.path.append(folder)  # added permanently: the module may import others when it is called
        try:
            function: Any = getattr(importlib.import_module(module_name), name, None)
        except Exception as error:  # a plugin's module may raise anything
            raise ConfigError(f"call = {self.call!r}: {module_name} cannot be imported: {_told(error)}") from None
        if not callable(function):
            raise ConfigError(f"call = {self.call!r}: {module_name} has no function {name}")
        imported: Callable[[Any], Any] = function
        return imported

    def apply_batch(self, batch: Batch) -> Batch:
        """The function's result for one batch; raises PluginError if the function fails, or returns something invalid."""
        if self._function is None:
            self.open(Context())
        return self._of_batch(batch) if self._by_batch else self._of_points(batch)

    def _of_batch(self, batch: Batch) -> Batch:
        result = self._called(batch, batch)
        if not isinstance(result, Batch):
            raise PluginError(f"{batch.series}: {self.call} must return a Batch, not {result!r:.80}")
        return result

    def _of_points(self, batch: Batch) -> Batch:
        function = self._function
        assert function is not None  # opened
        try:
            return _made(batch, [result for point in batch.to_points() if (result := function(point)) is not None])
        except Exception:  # a user's function may raise or return anything
            raise self._misfit(batch) from None

    def _called(self, argument: Batch | DataPoint, batch: Batch) -> Any:
        assert self._function is not None  # opened
        try:
            return self._function(argument)
        except Exception as error:  # a user's function may raise anything
            place = f" at {argument.ts}" if isinstance(argument, DataPoint) else ""
            raise PluginError(f"{batch.series}{place}: {self.call} failed: {_told(error)}") from None

    def _misfit(self, batch: Batch) -> PluginError:
        """The error about the first datapoint for which the function returns something invalid; raises it if the function fails."""
        kind = "JSON" if batch.is_json else "a number"
        for point in batch.to_points():
            result = self._called(point, batch)
            try:
                _made(batch, [] if result is None else [result])
            except (TypeError, ValueError, OverflowError):
                must = f"must return DataPoint(ts, {kind}) or None, not {result!r:.80}"
                return PluginError(f"{batch.series} at {point.ts}: {self.call} {must}")
        return PluginError(f"{batch.series}: {self.call} must always return the same result for the same input")


def _made(batch: Batch, points: list[tuple[int, Any]]) -> Batch:
    """A batch of `points`, with values like those of `batch`; raises TypeError, ValueError or OverflowError if they are not valid."""
    ts = array("q", [ts for ts, _ in points])
    if batch.is_json:
        return Batch.of(batch.series, ts_column(ts), json_column([_ENCODE(val) for _, val in points]))
    return Batch.of(batch.series, ts_column(ts), number_column(array("d", [val for _, val in points])))


def _takes_batches(function: Callable[..., Any]) -> bool:
    try:
        first = next(iter(inspect.signature(function).parameters.values())).annotation
    except (StopIteration, TypeError, ValueError):  # it has no parameter, or is not a Python function
        return False
    return first is Batch or (isinstance(first, str) and first.rpartition(".")[2] == "Batch")


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
