"""A tree of files that changes by whole commits.

Commits of all processes take turns, by a lock. One goes like this:

1. new contents are staged under `_staging/`, where no reader looks, and made durable;
2. a journal there says which staged file goes where, and what is removed;
3. the journal is carried out, each step atomic: a file is moved into place or removed, or, where several files of a folder change, a
   staged folder takes the folder's place;
4. the journal is removed.

Killed before 2, the tree has not changed. Killed later, whoever commits or opens the tree next carries the journal out to its end
before anything else changes: every step may be repeated.

In file systems where folders cannot take each other's place, files change one by one, and what takes rows away comes before what
brings rows: for a moment a reader may miss rows, but it never sees a row twice.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from esmond_etl_parquet import exchange
from esmond_etl_parquet.alive import clear_dead, locked, new_owner
from esmond_etl_parquet.place import STAGING, Place


class Change(NamedTuple):
    """One step of a commit."""

    path: str  #: in the tree
    staged: str | None  #: local file with its new content; None to remove it

    @property
    def folder(self) -> str:
        """The folder of the tree that it changes."""
        return self.path.rpartition("/")[0]


class _Step(NamedTuple):
    """One line of a journal."""

    path: str
    staged: str | None  # None to remove it
    inode: int | None = None  # of a staged folder, which replaces the folder at `path`


class Tree(Place):
    """A tree in a folder, to change it."""

    def __init__(self, folder: str) -> None:
        """Raises OSError if there cannot be such a folder."""
        super().__init__(folder)
        self._numbers = count()
        self._turn = threading.Lock()
        self._owner = new_owner()
        self._alive = -1  # a file descriptor: its lock shows that this process is alive
        self._scratch = ""
        self._trash: list[str] = []  # folders that were replaced: readers may still be listing them
        self._swaps: bool | None = None  # whether folders can be exchanged; None: not tried yet

    def open(self) -> None:
        """Prepare for writing: finish the commits of killed processes, and remove what they had only staged."""
        Path(self._at(STAGING)).mkdir(parents=True, exist_ok=True)
        with self.exclusive():
            self._scratch = self._at(f"{STAGING}/{self._owner}")
            Path(self._scratch).mkdir()
            self._alive = locked(Path(self._scratch))
            self._clear_leftovers()

    def finish(self) -> None:
        """If a process was killed in the middle of a commit, finish it, so that readers see all of it."""
        if any(self.journals()):
            with self.exclusive():
                self._empty_trash()

    def _clear_leftovers(self) -> None:
        clear_dead(folder for folder in Path(self._at(STAGING)).iterdir() if folder.name != self._owner and folder.is_dir())
        for folder in self._aside.glob("*.folder"):
            if not Path(self._at(f"{STAGING}/{folder.name.rpartition('.')[0].rpartition('.')[0]}")).exists():
                shutil.rmtree(folder)
        self._tidy_aside()

    @property
    def _aside(self) -> Path:
        """A folder beside the tree, which no reader sees: its files may already have their final names."""
        root = Path(self.root)
        return root.parent / f".{root.name}.esmond-etl"

    def _tidy_aside(self) -> None:
        with suppress(OSError):  # missing, or still needed by others
            self._aside.rmdir()

    @property
    def swaps(self) -> bool:
        """Whether folders can be exchanged; call it while `exclusive`."""
        if self._swaps is None:
            self._swaps = self._try_swap()
        return self._swaps

    def _try_swap(self) -> bool:
        try:
            self._aside.mkdir(exist_ok=True)
            return exchange.is_possible(self._scratch, str(self._aside))
        except OSError:  # we must not write beside the tree
            return False
        finally:
            self._tidy_aside()

    def close(self) -> None:
        """Remove what has been staged and not committed."""
        if self._trash:
            with self.exclusive():
                self._empty_trash()
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = ""
        if self._alive >= 0:
            os.close(self._alive)
            self._alive = -1

    def scratch(self, suffix: str = "part") -> str:
        """A name for a new local file that is to be staged."""
        return f"{self._scratch}/{next(self._numbers)}.{suffix}"

    def spill(self) -> IO[bytes]:
        """A local file without a name, to spill rows that do not fit into memory."""
        return tempfile.TemporaryFile(dir=self._scratch)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Exclude other commits while the context lasts; interrupted commits are finished first."""
        with self._turn, self._locked():
            for journal in list(self.journals()):
                self._carry_out(journal)
            yield

    @contextmanager
    def _locked(self) -> Iterator[None]:
        folder = os.open(self._at(STAGING), os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def commit(self, changes: Sequence[Change]) -> None:
        """Carry out `changes` in their order, as one commit; call it while `exclusive`. Returns when all of it is durable."""
        if not changes:
            return
        self._empty_trash()
        steps = [step for folder in self._by_folder(changes) for step in self._steps(folder)]
        journal = f"{STAGING}/{self._owner}.journal"
        draft = self.scratch()
        Path(draft).write_bytes(msgspec.json.encode(steps))
        sync_all([draft, self._scratch])
        Path(draft).replace(self._at(journal))
        sync_all([self._at(STAGING)])
        self._carry_out(journal)

    def _by_folder(self, changes: Sequence[Change]) -> list[list[Change]]:
        folders: dict[str, list[Change]] = {}
        for change in changes:
            folders.setdefault(change.folder, []).append(change)
        return list(folders.values())

    def _steps(self, changes: list[Change]) -> list[_Step]:
        """The steps that change one folder."""
        folder = changes[0].folder
        if len(changes) > 1 and self.swaps and Path(self._at(folder)).exists():
            return [self._stage_folder(folder, changes)]
        return [_Step(change.path, self._stage(change.staged) if change.staged else None) for change in changes]

    def _stage_folder(self, folder: str, changes: list[Change]) -> _Step:
        """A staged copy of `folder` with the new content; unchanged files have two names until then."""
        staged, old = self._aside / f"{self._owner}.{next(self._numbers)}.folder", Path(self._at(folder))
        staged.mkdir(parents=True)
        new = {Path(change.path).name: change.staged for change in changes}
        for file in old.iterdir():
            if file.name not in new:
                os.link(file, staged / file.name)
        for name, local in new.items():
            if local:
                Path(local).replace(staged / name)
        sync_all([str(staged)])
        return _Step(folder, self._stage(str(staged)), staged.stat().st_ino)

    def _stage(self, local: str) -> str:
        """The path in the tree of a staged file or folder."""
        return os.path.relpath(local, self.root)

    def _carry_out(self, journal: str) -> None:
        with self.input(journal) as stream:
            steps = msgspec.json.decode(stream.read(), type=list[_Step])
        touched: set[str] = set()
        for step in steps:
            if step.inode is not None and step.staged is not None:
                self._swap(step.path, step.staged, step.inode)
            elif step.staged is None:
                self._remove(step.path)
            else:
                self._move(step.staged, step.path, touched)
            touched.add(step.path.rpartition("/")[0])
        sync_all([self._at(folder) for folder in touched if Path(self._at(folder)).exists()])
        self._remove(journal)

    def _swap(self, folder: str, staged: str, inode: int) -> None:
        if Path(self._at(folder)).stat().st_ino != inode:  # otherwise it was done before the process was killed
            exchange.exchange(self._at(folder), self._at(staged))
        self._trash.append(self._at(staged))

    def _empty_trash(self) -> None:
        while self._trash:
            shutil.rmtree(self._trash.pop(), ignore_errors=True)
        self._tidy_aside()

    def _move(self, staged: str, path: str, touched: set[str]) -> None:
        folder = path.rpartition("/")[0]
        while not Path(self._at(folder)).exists():
            touched.add(folder)
            folder = folder.rpartition("/")[0]
            touched.add(folder)
        Path(self._at(path)).parent.mkdir(parents=True, exist_ok=True)
        if Path(self._at(staged)).exists():  # otherwise it was moved before the process was killed
            Path(self._at(staged)).replace(self._at(path))

    def _remove(self, path: str) -> None:
        Path(self._at(path)).unlink(missing_ok=True)  # a commit that is being finished may have passed this point


def sync_all(paths: Iterable[str]) -> None:
    """Make files, or folders' lists of names, durable."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
