"""Names for values in metadata: from the pipeline file, or from a CSV file."""

import csv as csvs
from pathlib import Path
from typing import ClassVar

from pydantic import Field, PrivateAttr

from esmond_etl import ConfigError, Context, Transform, digest_of


class Names(Transform):
    """A transform that looks names up."""

    paths: ClassVar[tuple[str, ...]] = ("csv",)

    names: dict[str, str] = Field(default_factory=dict, description="value in the metadata -> its name")
    csv: str | None = Field(
        None,
        description="CSV file with more of these pairs (the first two columns, UTF-8); if it changes, everything is delivered again",
    )

    _of_file: dict[str, str] = PrivateAttr(default_factory=dict)

    def open(self, context: Context) -> None:
        """Read the CSV file; raises ConfigError, with file and line, if it is not valid."""
        self._of_file = _read(self.csv) if self.csv else {}

    def fingerprint(self) -> str:
        """A digest of the CSV file."""
        return digest_of(self.csv) if self.csv else ""

    def name_of(self, text: str | None) -> str | None:
        """The name for `text`, if it has one; the pipeline file has priority over the CSV file."""
        return None if text is None else self.names.get(text, self._of_file.get(text))


def _read(path: str) -> dict[str, str]:
    table: dict[str, str] = {}
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = csvs.reader(file, strict=True)
            for row in rows:
                if row:
                    _add(table, row, f"{path}:{rows.line_num}")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csvs.Error) as error:
        raise ConfigError(f"{path}: not a CSV file in UTF-8: {error}") from None
    return table


def _add(table: dict[str, str], row: list[str], place: str) -> None:
    if len(row) < 2:
        raise ConfigError(f"{place}: a row needs two columns: the value in the metadata, and its name")
    name = table.setdefault(row[0].strip(), row[1].strip())
    if name != row[1].strip():
        raise ConfigError(f"{place}: {row[0].strip()!r} has the name {name!r} already, in a row before this one")
