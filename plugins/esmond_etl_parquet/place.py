"""Where a tree of files is, and how it is read: in a folder, or in an object store that an older version wrote to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.fs as pafs

from esmond_etl import EsmondEtlError
from esmond_etl.tables.places import without_secrets

#: The folder of a tree where commits are prepared.
STAGING: Final = "_staging"


class Place:
    """The tree at `url`, to read: a local path, or the URL of an object store (`s3://`, `gs://`, `hdfs://`)."""

    def __init__(self, url: str) -> None:
        """Find the file system; raises OSError if that is impossible."""
        self.shown = without_secrets(url)  #: for people
        try:
            self._fs, root = pafs.FileSystem.from_uri(url if "://" in url else str(Path(url).absolute()))
        except (OSError, pa.ArrowException) as problem:
            raise OSError(str(problem).replace(url, self.shown)) from None
        self.root = root.rstrip("/")

    def finish(self) -> None:
        """Raises OSError if a commit was interrupted."""
        if any(self.journals()):
            raise OSError("only the version of esmond-etl that began it can finish it: run its pipeline once more")

    def files(self, folder: str) -> list[pafs.FileInfo]:
        """The entries directly in `folder`; none if it does not exist."""
        infos: list[pafs.FileInfo] = self._fs.get_file_info(pafs.FileSelector(self._at(folder), allow_not_found=True))
        return infos

    def names(self, folder: str) -> list[str]:
        """The names of the entries directly in `folder`, sorted."""
        return sorted(info.base_name for info in self.files(folder))

    def input(self, path: str) -> pa.NativeFile:
        """The file at `path`, to read; raises FileNotFoundError."""
        return self._fs.open_input_file(self._at(path))

    def journals(self) -> Iterator[str]:
        """The journals of commits that have not ended."""
        return (f"{STAGING}/{name}" for name in self.names(STAGING) if name.endswith(".journal"))

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root


@contextmanager
def reported(error: type[EsmondEtlError], *places: object) -> Iterator[None]:
    """Turn errors of the file system and of Arrow into an `error` that names the places."""
    try:
        yield
    except (OSError, pa.ArrowException, ValueError) as problem:
        raise error(": ".join(map(str, [*places, " ".join(str(problem).split())]))) from problem
