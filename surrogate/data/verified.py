"""Verify shards against their manifest when data are opened, each once as long as it does not change."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from surrogate.data.store import MANIFEST, MANIFEST_BYTES, check_shard, read_manifest
from surrogate.errors import DataError, ResourceError
from surrogate.files import cache_folder, read_json, replacing

__all__ = ["verified", "verified_shards"]

PREFIX = ".verified-"

_Stamp = list[int | str]
_verified: dict[str, dict[str, _Stamp]] = {}  # in this process, by folder and file


def verified(files: Sequence[Path]) -> Sequence[Path]:
    """Return files after comparing those of them that a manifest next to them lists as shards with it.

    A file of the same name that some other program wrote lists no shards.

    Raises:
        DataError: A shard is damaged, or a manifest is.
    """
    names: dict[Path, set[str]] = {}
    for file in files:
        names.setdefault(file.parent, set()).add(file.name)
    for folder, held in names.items():
        manifest = folder / MANIFEST
        ours = manifest.is_file() and manifest.stat().st_size <= MANIFEST_BYTES
        if ours and b'"shards"' in manifest.read_bytes():
            verified_shards(folder, held)
    return files


def verified_shards(folder: Path, names: Collection[str] | None = None) -> list[Path]:
    """Return the shards of a data set after comparing their SHA-256 with the manifest.

    Shards that were verified before and have the size, times and inode that they had then are not read again; they are
    noted in a file next to the data, or in the user's cache where that folder is read-only.

    Arguments:
        folder: The folder.
        names: The shards to compare and return, by the names of their files; None are all.

    Raises:
        DataError: A shard is missing, cut short or damaged, or the manifest is.
    """
    shards = [shard for shard in read_manifest(folder).shards if names is None or shard.file in names]
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    notes = cache_folder(folder)
    note = notes / f"{PREFIX}{name}.json" if notes is not None else None
    known = _verified.setdefault(str(folder.resolve()), {})
    if not known and note is not None and note.is_file():
        with contextlib.suppress(DataError, TypeError, ValueError):  # a note that is damaged is written anew
            known.update(read_json(note))
    before = dict(known)
    for shard in shards:
        if known.get(shard.file) != _stamp(folder / shard.file, shard.sha256):
            check_shard(folder, shard)
            known[shard.file] = _stamp(folder / shard.file, shard.sha256)
    if known != before and note is not None:
        with contextlib.suppress(ResourceError), replacing(note) as part:  # it saves time and nothing else
            part.write_text(json.dumps(known), encoding="utf-8")
    return [folder / shard.file for shard in shards]


def _stamp(file: Path, sha256: str) -> _Stamp:
    """Return what changes when a file is written, replaced or copied; the time of change cannot be set back."""
    try:
        status = os.stat(file)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, sha256]
