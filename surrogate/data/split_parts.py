"""Parts of a split in a proposal: groups or datasets of a file that are named after training, validation and test."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from surrogate.data.formats.split_names import PARTS, split_families
from surrogate.data.survey import Item
from surrogate.errors import DataError

__all__ = ["group_split", "parts_together", "split_groups"]


def group_split(groups: set[str]) -> dict[str, object] | None:
    """Divide by groups with the usual names."""
    named = {part: sorted(g for g in groups if re.fullmatch(PARTS[part], g, re.I)) for part in ("validation", "test")}
    if not any(named.values()):
        return None
    parts = {part: {"group": groups_of[0]} if groups_of else 0.1 for part, groups_of in named.items()}
    return {**parts, "seed": 0}


def split_groups(fields: Sequence[Item]) -> list[str]:
    """List groups that are parts of a split by their names and hold datasets of the same names and ranks."""
    members: dict[str, set[tuple[str, int]]] = {}
    for item in fields:
        group, _, name = item.path.partition("/")
        if name:
            members.setdefault(group, set()).add((name, len(item.shape)))
    parts = [g for g in members if any(re.fullmatch(form, g, re.IGNORECASE) for form in PARTS.values())]
    parts.sort(key=lambda g: [bool(re.fullmatch(form, g, re.IGNORECASE)) for form in PARTS.values()], reverse=True)
    return parts if len(parts) > 1 and len({frozenset(members[g]) for g in parts}) == 1 else []


def parts_together(fields: Sequence[Item], reversed_axes: bool) -> tuple[list[Item], set[str], bool]:
    """Put datasets together that differ in the word for a part alone: `x_train` and `x_test` become `x_{group}`.

    Arguments:
        fields: Datasets of numbers.
        reversed_axes: Axes are in the order of MATLAB, simulations last.

    Returns:
        The datasets, each family as one; the words for its parts; True where the parts differ in the number of entries
        along the first axis, which then counts simulations.

    Raises:
        DataError: A family differs in more, or in its parts from another.
    """
    by_path = {item.path: item for item in fields}
    families = {p: m for p, m in split_families(by_path).items() if len({by_path[n].role for n in m.values()}) == 1}
    words: set[str] = set()
    differ = False
    together: dict[str, Item] = {}
    for pattern, members in families.items():
        items = [by_path[name] for name in members.values()]
        shapes = [item.shape[::-1] if reversed_axes else item.shape for item in items]
        first = items[0]
        alike = all(len(s) == len(shapes[0]) and s[1:] == shapes[0][1:] for s in shapes) and all(
            (item.axes, item.numbers.keys()) == (first.axes, first.numbers.keys()) for item in items
        )
        if not alike or (words and {*members} != words):
            described = ", ".join(f"{name} {by_path[name].shape}" for name in members.values())
            raise DataError(
                f"{described} have the names of parts of one split, but differ in more than their number of "
                f"simulations, or from {', '.join(sorted(words)) or 'each other'}; declare those that belong together"
            )
        words, differ = {*members}, differ or len(set(shapes)) > 1
        together |= dict.fromkeys(members.values(), replace(first, path=pattern))
    counts = {by_path[name].shape[:: -1 if reversed_axes else 1][:1] for name in together}
    between = re.compile(
        rf"(?<![A-Za-z0-9])({'|'.join(words)})(?![A-Za-z0-9])"
    )  # the word for a part between separators
    lone = [n for n in by_path if words and n not in together and between.search(n)]
    needed = [n for n in lone if by_path[n].shape[:: -1 if reversed_axes else 1][:1] in counts]
    if needed:
        raise DataError(f"{needed[0]} has no counterpart for {', '.join(sorted(words))}; declare the datasets to use")
    kept = {n: item for n, item in by_path.items() if n not in lone}
    return list({item.path: item for n in kept for item in [together.get(n, kept[n])]}.values()), words, differ
