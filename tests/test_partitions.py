"""Rows gathered, put by and written: none is lost, doubled or given to another series, and row groups are as large as they may be."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esmond_etl import NUMBER, TS, Metadata
from esmond_etl.tables import rows as tables_rows
from esmond_etl.tables.columns import Layout
from esmond_etl.tables.partitions import Partition
from esmond_etl.tables.parts import NewFile
from esmond_etl.tables.rows import Rows, Subjects

#: What is done with a partition: a run of so many rows of a subject is added, or the rows in memory are put by or written.
steps = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)) | st.sampled_from(["put by", "write"]), max_size=12)


def columns(start: int, length: int) -> tuple[pa.Array, pa.Array]:
    stamps = range(start, start + length)
    return pa.array(stamps, pa.int64()).cast(TS), pa.array(map(float, stamps), NUMBER)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_every_row_is_in_the_file_once_under_its_series(todo: list[Any]) -> None:
    subjects, expected = Subjects(), defaultdict[str, list[int]](list)
    with TemporaryDirectory() as folder, TemporaryFile() as spill:
        path = Path(folder, "x.parquet")
        partition = Partition(
            Layout("number"), "throughput", create=lambda: NewFile("x", pa.OSFile(str(path), "wb"), Layout("number"))
        )
        for place, step in enumerate(todo):
            if step == "put by" and partition.rows.count:
                partition.put_by(spill)
            elif step == "write":
                partition.write_group(subjects)
            elif isinstance(step, tuple):
                key, length = f"k{step[0]}", step[1]
                number = subjects.number(Metadata(key, source=f"host {key}"))
                assert partition.rows.add(number, *columns(100 * place, length)) == 16 * length
                expected[key] += range(100 * place, 100 * place + length)
        written = partition.finish(subjects, ["k0"], spill)
        assert (written is not None, path.exists()) == (bool(expected), bool(expected))
        rows = pq.ParquetFile(path).read().to_pylist() if expected else []
        if written:
            assert (written.size, written.metadata.num_rows) == (path.stat().st_size, len(rows))
    found = defaultdict[str, list[int]](list)
    for row in rows:
        found[row["metadata_key"]].append(int(row["ts"].timestamp()))
        assert (row["val"], row["source"]) == (row["ts"].timestamp(), f"host {row['metadata_key']}")
    assert {key: sorted(stamps) for key, stamps in found.items()} == {key: sorted(stamps) for key, stamps in expected.items()}


def test_the_runs_of_a_subject_come_one_after_the_other_in_their_order() -> None:
    rows = Rows()
    for number, start in ((1, 0), (0, 10), (1, 20), (0, 30)):
        rows.add(number, *columns(start, 2))
    ordered = rows.sorted()
    assert (list(ordered.subjects), list(ordered.lengths), ordered.count, ordered.bytes) == ([0, 0, 1, 1], [2] * 4, 8, 128)
    assert [int(each[0].cast(pa.int64()).as_py()) for each in ordered.ts] == [10, 30, 0, 20]
    assert [each[0].as_py() for each in ordered.val] == [10, 30, 0, 20]


def test_the_size_of_a_run_is_that_of_its_columns() -> None:
    rows = Rows()
    ts, texts = columns(0, 3)[0], pa.array(["a" * 100] * 3)
    assert rows.add(0, ts, texts) == 3 * 8 + texts.nbytes
    rows.extend(rows.sorted())
    assert (rows.count, rows.bytes) == (6, 2 * (3 * 8 + texts.nbytes))


@pytest.mark.parametrize(
    ("rows", "size", "more", "bytes_more", "fits"),
    [
        (6, 0, 4, 0, True),
        (6, 0, 5, 0, False),
        (0, 60, 0, 40, True),
        (0, 60, 0, 41, False),
        (6, 60, 4, 41, False),
        (6, 60, 5, 40, False),
    ],
)
def test_a_row_group_has_room_for_so_many_rows_and_bytes(
    monkeypatch: pytest.MonkeyPatch, rows: int, size: int, more: int, bytes_more: int, fits: bool
) -> None:
    monkeypatch.setattr(tables_rows, "GROUP_ROWS", 10)
    monkeypatch.setattr(tables_rows, "GROUP_BYTES", 100)
    assert Rows(count=rows, bytes=size).has_room(more, bytes_more) is fits


@pytest.mark.parametrize(("blocks", "expected"), [([4, 4, 4], [8, 4]), ([10, 1], [10, 1]), ([3, 3, 3, 1], [10]), ([6, 6], [6, 6])])
def test_what_was_put_by_is_gathered_into_as_few_row_groups_as_it_fills(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blocks: list[int], expected: list[int]
) -> None:
    monkeypatch.setattr(tables_rows, "GROUP_ROWS", 10)
    subjects = Subjects()
    path = str(tmp_path / "x.parquet")
    partition = Partition(Layout("number"), "throughput", create=lambda: NewFile(path, pa.OSFile(path, "wb"), Layout("number")))
    with TemporaryFile() as spill:
        for length in blocks:
            partition.rows.add(subjects.number(Metadata("k")), *columns(0, length))
            partition.put_by(spill)
        assert partition.rows.count == 0
        assert partition.finish(subjects, ["k"], spill)
    file = pq.ParquetFile(path)
    assert [file.metadata.row_group(each).num_rows for each in range(file.metadata.num_row_groups)] == expected


def test_one_key_described_in_two_ways_is_two_subjects() -> None:
    subjects = Subjects()
    numbers = [subjects.number(Metadata("k", source=source)) for source in ("a", "b", "a")]
    assert (numbers, len(subjects.values), [each.source for each in subjects.metadata]) == ([0, 1, 0], 2, ["a", "b"])
