"""Names in braces: many files, groups or datasets of one pattern, and their order."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from surrogate.data.mapping import PLACEHOLDER
from surrogate.errors import DataError

__all__ = ["Located", "as_number", "in_natural_order", "matching_files", "matching_paths"]

NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


class Folder(Protocol):
    """What can list the members of a group."""

    def children(self, group: str) -> Iterable[str]:
        """Names of the members of a group."""
        ...


@dataclass(frozen=True)
class Located:
    """A file, and the text in place of every name in braces."""

    file: Path
    values: dict[str, str]


def as_number(text: str) -> float | None:
    """Read a number; `1p5` and `1_5` are none."""
    return float(text) if NUMBER.fullmatch(text) else None


def in_natural_order(texts: Iterable[str]) -> list[str]:
    """Sort numbers by value, and other names with the numbers in them by value."""
    distinct = list(dict.fromkeys(texts))
    numbers = [as_number(text) for text in distinct]
    if all(number is not None for number in numbers):
        return [text for _, text in sorted(zip(numbers, distinct, strict=True))]
    return sorted(distinct, key=lambda text: [(not p.isdigit(), int(p) if p.isdigit() else p) for p in _pieces(text)])


def _pieces(text: str) -> list[str]:
    return [piece for piece in re.split(r"(\d+)", text) if piece]


def expression(pattern: str) -> re.Pattern[str]:
    """Compile a pattern: a name in braces is any text without a slash, the same wherever the name is repeated."""
    text, seen = "", set[str]()
    for index, part in enumerate(PLACEHOLDER.split(pattern)):
        if index % 2 == 0:
            text += "[^/]*".join(map(re.escape, part.split("*")))
        else:
            text += f"(?P={part})" if part in seen else f"(?P<{part}>[^/]+?)"
            seen.add(part)
    return re.compile(text)


def matching_files(folder: Path, pattern: str) -> list[Located]:
    """Find the files below a folder that have a pattern, in natural order.

    Raises:
        DataError: There is none.
    """
    form = expression(pattern)
    wildcards = "".join("*" if i % 2 else part for i, part in enumerate(PLACEHOLDER.split(glob_safe(pattern))))
    files = []
    for name in glob.glob(wildcards, root_dir=folder):
        match = form.fullmatch(name)
        if match and (folder / name).is_file():
            files.append(Located(folder / name, match.groupdict()))
    if not files:
        raise DataError(f"{folder}: no file is named {pattern}; correct layout.files, or data.path")
    order = {name: i for i, name in enumerate(in_natural_order(str(located.file) for located in files))}
    return sorted(files, key=lambda located: order[str(located.file)])


def glob_safe(pattern: str) -> str:
    """Escape brackets, which stand for themselves in a pattern."""
    return re.sub(r"([\[?])", r"[\1]", pattern)


def matching_paths(container: Folder, pattern: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the paths in a file that have a pattern, and the text in place of every name in braces."""
    if not PLACEHOLDER.search(pattern):
        yield pattern, {}
        return
    yield from _descend(container, "/" if pattern.startswith("/") else "", pattern.strip("/").split("/"), {})


def _descend(
    container: Folder, before: str, parts: list[str], values: dict[str, str]
) -> Iterator[tuple[str, dict[str, str]]]:
    if not parts:
        yield before.rstrip("/"), values
        return
    head, *rest = parts
    if not PLACEHOLDER.search(head):
        yield from _descend(container, f"{before}{head}/", rest, values)
        return
    form = expression(head)
    for name in container.children(before):
        match = form.fullmatch(name)
        if match and all(values.get(key, text) == text for key, text in match.groupdict().items()):
            yield from _descend(container, f"{before}{name}/", rest, values | match.groupdict())
