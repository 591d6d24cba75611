"""Output formats of rows: aligned columns, CSV, JSON lines."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Final, TextIO

import msgspec

#: Rows that decide on the width of a table's columns.
LOOK_AT: Final = 1000


class Printer(ABC):
    """Writes rows to `out` in one format."""

    def __init__(self, out: TextIO, columns: Sequence[str]) -> None:
        self._out, self._columns = out, columns

    @abstractmethod
    def rows(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write rows that have `columns`, which are some of the printer's."""

    def end(self) -> None:  # noqa: B027
        """Write the rows held back."""

    def _texts(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterable[list[str]]:
        """The rows with a text for each of the printer's columns, "" where they have none."""
        places = [columns.index(name) if name in columns else -1 for name in self._columns]
        return (["" if place < 0 else text(row[place]) for place in places] for row in rows)


class Csv(Printer):
    """Comma-separated values under a heading."""

    def __init__(self, out: TextIO, columns: Sequence[str]) -> None:
        super().__init__(out, columns)
        self._writer = csv.writer(out, lineterminator="\n")
        self._writer.writerow(columns)

    def rows(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write rows."""
        self._writer.writerows(self._texts(columns, rows))


class Spreadsheet(Csv):
    """CSV for spreadsheets: a text that they would take for a formula gets an apostrophe in front."""

    def _texts(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterable[list[str]]:
        return ([_no_formula(cell) for cell in row] for row in super()._texts(columns, rows))


class JsonLines(Printer):
    """One JSON object per line, with the columns that the row has."""

    def rows(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write rows."""
        encode = msgspec.json.Encoder().encode
        self._out.writelines(encode(dict(zip(columns, row, strict=True))).decode() + "\n" for row in rows)


class Table(Printer):
    """Aligned columns under a heading, as wide as the first rows need them."""

    def __init__(self, out: TextIO, columns: Sequence[str]) -> None:
        super().__init__(out, columns)
        self._held: list[list[str]] = [list(columns)]
        self._widths: list[int] = []

    def rows(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write rows, or hold the first ones back."""
        for row in self._texts(columns, rows):
            cells = [cell if cell.isprintable() else _harmless(cell) for cell in row]
            if self._widths:
                self._line(cells)
            else:
                self._held.append(cells)
                if len(self._held) > LOOK_AT:
                    self.end()

    def end(self) -> None:
        """Write the rows held back."""
        if not self._widths:
            self._widths = [max(map(len, column)) for column in zip(*self._held, strict=True)]
        for row in self._held:
            self._line(row)
        self._held = []

    def _line(self, row: list[str]) -> None:
        cells = (cell.ljust(width) for cell, width in zip(row, self._widths, strict=True))
        self._out.write("  ".join(cells).rstrip() + "\n")


PRINTERS: Final[dict[str, type[Printer]]] = {"table": Table, "csv": Csv, "spreadsheet": Spreadsheet, "jsonl": JsonLines}

#: The old tools' names of the formats.
OLD_NAMES: Final = {"human": "table", "json": "jsonl"}


def text(value: Any) -> str:
    """A value as one cell: nothing for None, lists of numbers or texts with commas between, other structures as JSON."""
    if isinstance(value, str):
        return value
    if type(value) is float or type(value) is int:
        return repr(value)
    if value is None:
        return ""
    if isinstance(value, list) and value and not any(isinstance(each, list | dict) for each in value):
        return ", ".join(map(text, value))
    if isinstance(value, bool | list | dict):
        return msgspec.json.encode(value).decode()
    return str(value)


def _no_formula(cell: str) -> str:
    if not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def _harmless(cell: str) -> str:
    """A text whose control characters are escaped."""
    return "".join(each if each.isprintable() else " " if each.isspace() else "\N{REPLACEMENT CHARACTER}" for each in cell)
