"""The files of tables: reading them, and writing new ones that no commit names yet."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from esmond_etl.tables.parts import groups_with

if TYPE_CHECKING:
    from deltalake import DeltaTable

#: Bytes of a file that is read in one piece at most.
LARGE: Final = 16 << 20


class Files:
    """The files under a path, or a URL; paths are relative to it."""

    def __init__(self, root: str, storage: Mapping[str, str]) -> None:
        """`storage`: options of the connection to the object store."""
        self._root, self._storage = root, dict(storage)
        self._is_local = "://" not in root

    @cached_property
    def _fs(self) -> pafs.FileSystem:
        if self._is_local:
            return pafs.SubTreeFileSystem(str(Path(self._root).absolute()), pafs.LocalFileSystem())
        from deltalake.fs import DeltaStorageHandler

        return pafs.PyFileSystem(DeltaStorageHandler(self._root, self._storage))

    def create(self, path: str) -> pa.NativeFile:
        """A new file, to write."""
        if self._is_local:
            self._fs.create_dir(path.rpartition("/")[0])
            return self._fs.open_output_stream(path)
        return pa.PythonFile(_Upload(self._fs.handler._handler.open_output_stream(path, None)), mode="w")

    @contextmanager
    def opened(self, path: str) -> Iterator[pq.ParquetFile]:
        """A Parquet file, to read."""
        with _opened(self._fs, path) as file:
            yield file

    def sync(self, paths: Iterable[str]) -> None:
        """Make files durable, with the folders that name them; what is in an object store is durable already."""
        if not self._is_local:
            return
        found = [Path(path) for path in paths]
        folders = {folder for path in found for folder in path.parents}
        for each in (*found, *sorted(folders, key=lambda folder: len(folder.parts), reverse=True)):
            handle = os.open(Path(self._root, each), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files that no commit names."""
        for path in paths:
            with suppress(FileNotFoundError):  # it could not even be created
                self._fs.delete_file(path)


class _Upload(io.RawIOBase):
    """A stream into an object store. The library's own one takes bytes alone, and Arrow gives it buffers."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._size = stream, 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._stream.write(bytes(content))
        self._size += len(content)
        return len(content)

    def tell(self) -> int:
        return self._size

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def whole(table: DeltaTable) -> pa.Table:
    """All rows of a table without partitions, with nulls in columns that a file lacks."""
    dataset = table.to_pyarrow_dataset()
    names = dataset.schema.names
    parts = [dataset.schema.empty_table(), *(read(fragment, names) for fragment in dataset.get_fragments())]
    return pa.concat_tables(parts, promote_options="default")


def read(fragment: Any, columns: Sequence[str], key: str | None = None) -> pa.Table:
    """Some columns of one file, of all metadata keys or of one."""
    with _opened(fragment.filesystem, fragment.path) as file:
        if key is None:
            return file.read(list(columns), use_threads=False)
        rows = file.read_row_groups(groups_with(file, key), list(columns), use_threads=False)
        return rows.filter(pc.equal(rows.column("metadata_key"), key))


@contextmanager
def _opened(fs: pafs.FileSystem, path: str) -> Iterator[pq.ParquetFile]:
    """A file, read without Arrow's scanner: if its threads hold buffers of the library when Python ends, the process aborts."""
    with fs.open_input_file(path) as opened:
        small = opened.size() <= LARGE
        with pq.ParquetFile(pa.BufferReader(opened.read()) if small else opened, pre_buffer=False) as file:
            yield file
