"""Patterns of the names of files, for a proposal: what a number or a word in them counts or names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from surrogate.data.formats.split_names import groups_of_files
from surrogate.data.proposal import Proposal
from surrogate.data.split_parts import group_split
from surrogate.data.survey import number_name

__all__ = ["name_folders", "state_files"]

NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)")
FEW = 10  # simulations of which a tenth would be none


def state_files(proposal: Proposal, files: Sequence[Path]) -> None:
    """State the pattern of many files whose names differ in one number, in the word for a part of a split, or in both.

    Files of parts may be in folders of their own: `train/run_0.h5`, `test/run_0.h5`.
    """
    parts, one_folder = groups_of_files(files), len({file.parent for file in files}) == 1
    if len(files) < 2 or not (parts or one_folder):
        return
    texts = [pattern for _, pattern in parts.values()] or [file.name for file in files]
    texts = [text.rpartition("/")[2] for text in texts] if one_folder else texts
    varying = _one_number(texts)
    if varying:
        before, after, _ = varying
        proposal.options["files"] = f"{before}{{{number_name(before, [])}}}{after}"
    elif parts and len(set(texts)) == 1:
        proposal.options["files"] = texts[0]
    else:
        return
    proposal.split = group_split({word for word, _ in parts.values()}) or proposal.split


def _one_number(texts: Sequence[str]) -> tuple[str, str, list[str]] | None:
    """Return what is before and after the one number in which texts differ, and the numbers; None without one."""
    pieces = [NUMBER.split(text) for text in texts]
    if len({len(piece) for piece in pieces}) > 1:
        return None
    varying = [i for i, column in enumerate(zip(*pieces, strict=True)) if len(set(column)) > 1]
    if len(varying) != 1 or varying[0] % 2 == 0:
        return None
    place = varying[0]
    return "".join(pieces[0][:place]), "".join(pieces[0][place + 1 :]), [piece[place] for piece in pieces]


def name_folders(proposal: Proposal, files: Sequence[Path]) -> None:
    """State the pattern of files in folders, one for every simulation: a number in their names is a parameter."""
    varying = _one_number([file.parent.name for file in files])
    if varying is None or len({file.name for file in files}) > 1:
        return
    before, after, texts = varying
    name = number_name(before, []) if all(text.isdigit() for text in texts) else "parameter"
    name = "sample" if name.startswith("number") or name == "time" else name
    proposal.options["files"] = f"{before}{{{name}}}{after}/{files[0].name}"
    proposal.questions.pop("sample", None)
    if name == "parameter":
        proposal.axes["parameter"] = ("sample",)
    proposal.axes = {n: tuple(a for a in axes if a != "time") for n, axes in proposal.axes.items()}
    for entry in proposal.variables.values():
        if entry.get("path", "").endswith("/{time}"):
            entry["path"] = entry["path"].removesuffix("{time}") + "0"
    small = {"validation": 1, "test": 1, "seed": 0}
    proposal.split = small if len(files) < FEW else {"validation": 0.1, "test": 0.1, "seed": 0}
