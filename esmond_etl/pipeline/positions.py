"""The positions of the keys of a TOML file, so that a mistake can be reported with line and column."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]
Position = tuple[int, int]  # line and column, both counted from 1


def positions(text: str) -> dict[Path, Position]:
    """Path of each key (("sink", 0, "url")) -> its position; also of tables and of array items."""
    import tree_sitter  # needed only for a file with a mistake
    import tree_sitter_toml

    source = text.encode()
    tree = tree_sitter.Parser(tree_sitter.Language(tree_sitter_toml.language())).parse(source)
    found: dict[Path, Position] = {(): (1, 1)}
    counts: dict[Path, int] = {}
    for node, path in _nodes(tree.root_node, counts):
        line, start = node.start_point
        column = len(source.split(b"\n")[line][:start].decode(errors="replace")) + 1
        found.setdefault(path, (line + 1, column))
    return found


def _nodes(root: Any, counts: dict[Path, int]) -> Iterator[tuple[Any, Path]]:
    for node in root.named_children:
        if node.type == "pair":
            yield from _pair(node, ())
        elif node.type in ("table", "table_array_element"):
            yield from _table(node, counts)


def _table(node: Any, counts: dict[Path, int]) -> Iterator[tuple[Any, Path]]:
    header, *rest = node.named_children
    path: Path = ()
    *parents, last = _key(header)
    for part in parents:
        path += (part,) if (*path, part) not in counts else (part, counts[*path, part])
        yield node, path
    path += (last,)
    if node.type == "table_array_element":
        yield node, path
        counts[path] = counts.get(path, -1) + 1
        path += (counts[path],)
    yield node, path
    for pair in rest:
        if pair.type == "pair":
            yield from _pair(pair, path)


def _pair(node: Any, table: Path) -> Iterator[tuple[Any, Path]]:
    key, *values = [child for child in node.named_children if child.type != "comment"]
    path = table
    for part in _key(key):
        path += (part,)
        yield node, path
    for value in values:
        yield from _value(value, path)


def _value(node: Any, path: Path) -> Iterator[tuple[Any, Path]]:
    if node.type == "inline_table":
        for child in node.named_children:
            if child.type == "pair":
                yield from _pair(child, path)
    elif node.type == "array":
        items = [child for child in node.named_children if child.type != "comment"]
        for index, item in enumerate(items):
            yield item, (*path, index)
            yield from _value(item, (*path, index))


def _key(node: Any) -> list[str]:
    if node.type == "dotted_key":
        return [part for child in node.named_children for part in _key(child)]
    return [node.text.decode().strip("\"'")]


def locate(found: dict[Path, Position], path: Path) -> Position:
    """The position of the key at `path`, or of the nearest table around it."""
    while path not in found:
        path = path[:-1]
    return found[path]
