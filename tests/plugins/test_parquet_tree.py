"""The tree of files: a commit is done as a whole, even if the process that began it was killed."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from esmond_etl_parquet import exchange, tree
from esmond_etl_parquet.place import Place, reported
from esmond_etl_parquet.tree import Change, Tree

from esmond_etl import SinkError
from esmond_etl.tables.places import without_secrets


@pytest.fixture(params=["folders change places", "files change one by one"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tree]:
    if request.param == "files change one by one":
        monkeypatch.setattr(exchange, "is_possible", lambda *_: False)
    made = Tree(str(tmp_path / "out"))
    made.open()
    yield made
    made.close()


def commit(into: Tree, **contents: str | None) -> None:
    """Change files of the folder `f`: to a text, or away."""
    changes = []
    for name, text in contents.items():
        staged = into.scratch() if text is not None else None
        if staged is not None and text is not None:
            Path(staged).write_text(text)
        changes.append(Change(f"f/{name}", staged))
    with into.exclusive():
        into.commit(changes)


def held(of: Tree) -> dict[str, str]:
    return {path.name: path.read_text() for path in Path(of.root, "f").glob("*")}


def test_a_commit_adds_replaces_and_removes_and_leaves_the_rest(opened: Tree) -> None:
    commit(opened, a="1", b="2", c="3")
    commit(opened, a="4", b=None, d="5")
    assert held(opened) == {"a": "4", "c": "3", "d": "5"}
    commit(opened, c=None)
    assert held(opened) == {"a": "4", "d": "5"}
    commit(opened)
    assert opened.names("f") == ["a", "d"]
    assert opened.names("nowhere") == []


def test_nothing_is_left_behind(opened: Tree, tmp_path: Path) -> None:
    commit(opened, a="1", b="2")
    commit(opened, a="3", b="4")
    commit(opened, a="5", b=None)
    opened.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["_staging", "f"]
    assert list((tmp_path / "out/_staging").iterdir()) == []


def test_what_was_staged_and_not_committed_is_removed_at_the_end(opened: Tree) -> None:
    Path(opened.scratch()).write_text("x")
    opened.close()
    assert list(Path(opened.root, "_staging").iterdir()) == []


def test_every_file_to_stage_has_a_name_of_its_own(opened: Tree) -> None:
    names = [opened.scratch() for _ in range(3)] + [opened.scratch("x")]
    assert len(set(names)) == 4
    assert names[0].endswith(".part")
    assert names[3].endswith(".x")


KILLED = """
import os, sys
from pathlib import Path
from esmond_etl_parquet import tree
from esmond_etl_parquet.place import Place, reported
from esmond_etl_parquet.tree import Change, Tree

made = Tree(sys.argv[1])
made.open()
step = int(sys.argv[2])
count = 0

def dying(act):
    def acts(*arguments):
        global count
        if count == step:
            os._exit(9)
        count += 1
        return act(*arguments)
    return acts

for name in ("_swap", "_move", "_remove", "_carry_out"):
    setattr(Tree, name, dying(getattr(Tree, name)))
changes = []
for name, text in (("a", "new"), ("b", None), ("c", "new")):
    staged = made.scratch() if text else None
    if staged:
        Path(staged).write_text(text)
    changes.append(Change(f"f/{name}", staged))
changes.append(Change("g/a", made.scratch()))
Path(changes[-1].staged).write_text("new")
with made.exclusive():
    made.commit(changes)
"""

BEFORE, AFTER = {"a": "old", "b": "old", "d": "old"}, {"a": "new", "c": "new", "d": "old"}


@pytest.mark.parametrize("step", range(5))
@pytest.mark.parametrize("reader", ["open", "finish"])
def test_a_commit_of_a_killed_process_is_finished_by_the_next_one(tmp_path: Path, step: int, reader: str) -> None:
    first = Tree(str(tmp_path / "out"))
    first.open()
    commit(first, a="old", b="old", d="old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "out"), str(step)], check=False, timeout=60)
    assert done.returncode in (0, 9)
    next_one = Tree(str(tmp_path / "out"))
    getattr(next_one, reader)()
    assert held(next_one) == AFTER
    assert Path(next_one.root, "g/a").read_text() == "new"
    assert not [name for name in next_one.names("_staging") if name.endswith(".journal")]
    next_one.close()
    first.close()


def test_opening_clears_away_what_dead_processes_left_and_nothing_of_living_ones(opened: Tree, tmp_path: Path) -> None:
    dead = Path(opened.root, "_staging/dead")
    dead.mkdir()
    (dead / "0.part").touch()
    living = Path(opened.scratch())
    living.touch()
    aside = tmp_path / ".out.esmond-etl"
    aside.mkdir(exist_ok=True)
    (aside / "dead.1.folder").mkdir()
    mine = aside / f"{living.parent.name}.7.folder"
    mine.mkdir()
    other = Tree(opened.root)
    other.open()
    assert (dead.exists(), living.exists(), (aside / "dead.1.folder").exists(), mine.exists()) == (False, True, False, True)
    other.close()
    mine.rmdir()


def test_commits_take_turns(opened: Tree) -> None:
    other, entered = Tree(opened.root), threading.Event()
    other.open()

    def enter() -> None:
        with other.exclusive():
            entered.set()

    with opened.exclusive():
        waiting = threading.Thread(target=enter)
        waiting.start()
        handle = os.open(Path(opened.root, "_staging"), os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)
        assert not entered.is_set()
    waiting.join(30)
    assert entered.is_set()
    other.close()


def test_a_folder_that_is_being_read_stays_until_the_next_commit(opened: Tree) -> None:
    commit(opened, a="1", b="2")
    with os.scandir(Path(opened.root, "f")) as listing:
        first = next(listing)
        commit(opened, a="3", b="4")
        assert {first.name, *(each.name for each in listing)} == {"a", "b"}
    assert held(opened) == {"a": "3", "b": "4"}


def test_a_file_is_read_by_its_path(opened: Tree) -> None:
    commit(opened, a="text")
    with opened.input("f/a") as stream:
        assert stream.read() == b"text"
    with pytest.raises(FileNotFoundError):
        opened.input("f/none")
    assert [info.base_name for info in opened.files("f")] == ["a"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://key:secret@bucket/path/?endpoint_override=x", "s3://bucket/path"),
        ("s3://bucket", "s3://bucket"),
        ("/data/out/", "/data/out"),
        ("/", "/"),
        ("a@b", "a@b"),
    ],
)
def test_secrets_are_not_shown(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


def test_a_url_of_nothing_is_an_error_without_its_secrets() -> None:
    with pytest.raises(OSError) as raised:
        Place("nothing://key:secret@bucket/path")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("problem", [OSError(5, "broken"), ValueError("broken\n here")])
def test_errors_name_the_place_in_one_line(problem: Any) -> None:
    with pytest.raises(SinkError) as raised, reported(SinkError, "out", "f/a"):
        raise problem
    assert str(raised.value).startswith("out: f/a: ")
    assert "\n" not in str(raised.value)


def test_one_file_that_changes_is_moved_and_several_take_their_folder_with_them(tmp_path: Path) -> None:
    made = Tree(str(tmp_path / "out"))
    made.open()
    commit(made, a="1", b="2")
    inode = Path(made.root, "f").stat().st_ino
    commit(made, a="3")
    assert Path(made.root, "f").stat().st_ino == inode
    commit(made, a="4", b="5")
    assert Path(made.root, "f").stat().st_ino != inode
    made.close()


def test_folders_that_cannot_take_each_others_place_are_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Any] = []

    def is_possible(*places: str) -> bool:
        tried.append(places)
        return False

    monkeypatch.setattr(exchange, "is_possible", is_possible)
    made = Tree(str(tmp_path / "out"))
    made.open()
    for text in ("1", "2", "3"):
        commit(made, a=text, b=text)
    assert len(tried) == 1
    made.close()


def test_the_folders_that_a_commit_makes_and_changes_are_made_durable(opened: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(tree, "sync_all", lambda paths: synced.extend(os.path.relpath(path, opened.root) for path in paths))
    staged = opened.scratch()
    Path(staged).write_text("1")
    with opened.exclusive():
        opened.commit([Change("g/h/a", staged)])
    assert set(synced) >= {"g/h", "g", ".", "_staging"}
    synced.clear()
    with opened.exclusive():
        opened.commit([Change("g/h/a", None)])
    assert "g/h" in synced


def test_a_tree_lets_go_of_its_lock_once(tmp_path: Path) -> None:
    made = Tree(str(tmp_path / "out"))
    made.close()  # never opened: there is nothing to let go of
    made.open()
    held_by = made._alive
    made.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(held_by)
    taken = os.open(tmp_path, os.O_RDONLY)  # gets the same number
    made.close()
    os.fstat(taken)
    os.close(taken)


def test_opening_clears_away_folders_of_the_dead_whatever_they_are_called(opened: Tree) -> None:
    dead = [Path(opened.root, "_staging", name) for name in ("!first", "~last")]
    for folder in dead:
        folder.mkdir()
    other = Tree(opened.root)
    other.open()
    assert [folder.exists() for folder in dead] == [False, False]
    other.close()


def test_files_change_one_by_one_where_nothing_can_be_put_beside_the_tree(tmp_path: Path) -> None:
    (tmp_path / ".out.esmond-etl").touch()
    made = Tree(str(tmp_path / "out"))
    made.open()
    commit(made, a="1", b="2")
    commit(made, a="3", b="4")
    assert held(made) == {"a": "3", "b": "4"}
    made.close()
