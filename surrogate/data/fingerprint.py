"""Fingerprint data files, to notice that they changed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from surrogate.data.hdf5.references import referenced_files

__all__ = ["fingerprint"]

SAMPLED_BYTES = 2**20


def fingerprint(files: Sequence[Path]) -> str:
    """Return the SHA-256 over name, size and both ends of every file, in the order of names.

    Files that hold values of these files count too: sources of virtual datasets, external storage and links.

    Arguments:
        files: The data files; their folders are not included, so a copied data set keeps its fingerprint.
    """
    total = hashlib.sha256()
    for path in sorted([*files, *referenced_files(files)], key=lambda path: path.name):
        size = path.stat().st_size
        total.update(f"{path.name}:{size}:".encode())
        with open(path, "rb") as file:
            total.update(file.read(SAMPLED_BYTES))
            file.seek(max(0, size - SAMPLED_BYTES))
            total.update(file.read(SAMPLED_BYTES))
    return total.hexdigest()
