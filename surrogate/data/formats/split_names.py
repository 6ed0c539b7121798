"""Names that say which part of a split data are: datasets `x_train` and `x_test`, files `train.h5` and `test.h5`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["GROUP", "PARTS", "groups_of_files", "split_families", "without_group"]

PARTS = {"train": "train(?:ing)?", "validation": "val(?:id(?:ation)?)?", "test": "test(?:ing)?"}
WORD = re.compile("|".join(PARTS.values()), re.IGNORECASE)
TRAIN = re.compile(PARTS["train"], re.IGNORECASE)
NUMBER = re.compile(r"\d+(?:\.\d+)?")
GROUP = "{group}"  # in place of the word for a part


def split_families(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Put names together that differ in the word for a part alone, with the word of each.

    `x_train` and `x_test` give `{"x_{group}": {"train": "x_train", "test": "x_test"}}`. A name without a counterpart,
    such as `strain`, is in no family.
    """
    families: dict[str, dict[str, str]] = {}
    for name in names:
        for match in WORD.finditer(name):
            pattern = name[: match.start()] + GROUP + name[match.end() :]
            families.setdefault(pattern, {})[match[0]] = name
    return {
        pattern: members for pattern, members in families.items() if len(members) > 1 and any(map(TRAIN.match, members))
    }


def groups_of_files(files: Sequence[Path]) -> dict[Path, tuple[str, str]]:
    """Return the part of a split of each file, by its name or that of its folder, and the name with `{group}` instead.

    Empty where the names, numbers aside, differ in more than that.
    """
    options: list[dict[str, tuple[str, str]]] = []  # of each file: a pattern without numbers, and the word and pattern
    for file in files:
        text = f"{file.parent.name}/{file.name}"
        found: dict[str, tuple[str, str]] = {}
        for match in WORD.finditer(text):
            pattern = text[: match.start()] + GROUP + text[match.end() :]
            found[NUMBER.sub("\0", pattern)] = match[0], pattern
        options.append(found)
    shared = set.intersection(*map(set, options)) if options else set()
    for pattern in sorted(shared):
        words = {found[pattern][0] for found in options}
        if len(words) > 1 and any(map(TRAIN.match, words)):
            return {file: found[pattern] for file, found in zip(files, options, strict=True)}
    return {}


def without_group(name: str) -> str:
    """Remove the place of the word for a part from a name, with what separates it: `x_{group}` gives `x`."""
    place = re.escape(GROUP)
    return re.sub(rf"(?:^|[-_. ]){place}|{place}[-_. ]?", "", name).strip("-_. ")
