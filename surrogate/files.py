"""Atomic writing of files (temporary file, fsync, rename), output folders and locks."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from surrogate.errors import ConfigError, DataError, InUse, ResourceError

__all__ = [
    "MANIFEST",
    "check_output",
    "claim_output",
    "fsync_path",
    "locked",
    "read_json",
    "read_pointer",
    "replacing",
    "replacing_folder",
    "sha256",
    "verify_manifest",
    "write_manifest",
    "write_pointer",
]

MARKER = ".surrogate"
LOCK = ".lock"
MANIFEST = "MANIFEST.json"
JSON_BYTES = 64 * 2**20  # of one file, above which it is none of ours


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; on success it replaces `path`, on failure it is removed.

    Raises:
        ResourceError: The disk is full, read-only or out of quota; the previous version is intact.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        fsync_path(part)
        os.replace(part, path)
        fsync_path(path.parent)
    except OSError as error:
        raise ResourceError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another folder"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def fsync_path(path: Path) -> None:
    """Flush a file or a folder entry to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """Parse a JSON file of bounded size.

    Raises:
        DataError: It is missing, too large, or not JSON.
    """
    try:
        if path.stat().st_size > JSON_BYTES:
            raise DataError(f"{path} is larger than {JSON_BYTES} bytes; it is no file of this package")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # a JSON or Unicode error is a ValueError
        if isinstance(error, DataError):
            raise
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read: {reason}; it was edited or damaged") from error


def write_manifest(folder: Path, names: Iterable[str] | None = None) -> None:
    """Write the SHA-256 of files of a folder into its manifest, and flush them to the disk.

    Arguments:
        folder: The folder.
        names: The files; all of them unless given.
    """
    names = sorted(names or (path.name for path in folder.iterdir() if path.name != MANIFEST))
    sums = {name: sha256(folder / name) for name in names}
    (folder / MANIFEST).write_text(json.dumps(sums, indent=2), encoding="utf-8")
    for name in (*names, MANIFEST):
        fsync_path(folder / name)


def verify_manifest(folder: Path, required: Iterable[str], *, what: str, remedy: str) -> None:
    """Compare every file of a folder with its manifest.

    Arguments:
        folder: The folder.
        required: Names that the manifest must list.
        what: Kind of the folder for the message, such as `checkpoint`.
        remedy: What to do about damage, for the message.

    Raises:
        DataError: The manifest or a file is missing or damaged, or a listed name is not plain.
    """
    if not (folder / MANIFEST).is_file():
        raise DataError(f"{what} {folder} has no {MANIFEST}, so its files cannot be verified; {remedy}")
    try:
        sums = read_json(folder / MANIFEST)
    except DataError as error:
        raise DataError(f"{what} {folder} is damaged: {error}; {remedy}") from error
    damage = _damage(folder, sums, set(required))
    if damage:
        raise DataError(f"{what} {folder} is damaged: {damage}; {remedy}")


def _damage(folder: Path, sums: Any, required: set[str]) -> str:
    """Describe the first difference between a folder and the content of its manifest; empty where there is none."""
    if not isinstance(sums, dict):
        return f"{MANIFEST} holds no names and checksums"
    missing = sorted(required - sums.keys())
    if missing:
        return f"{', '.join(missing)} not listed in {MANIFEST}"
    for name, expected in sums.items():
        if not _is_plain(name):
            return f"{MANIFEST} lists {name!r:.80}, which is no plain file name"
        try:
            if sha256(folder / name) != expected:
                return f"{name} differs from its checksum"
        except OSError as error:
            return f"{name}: {error.strerror or error}"
    return ""


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder next to `path`; on success it gets a manifest and replaces `path` as a whole.

    A process that is killed leaves the earlier folder, the new one, or, between two renames, none.

    Raises:
        ResourceError: The disk is full, read-only or out of quota; the earlier folder is intact.
    """
    part, old = (path.with_name(f".{path.name}.{kind}") for kind in ("part", "old"))
    try:
        for left in (part, old):
            _remove(left)
        part.mkdir(parents=True)
        yield part
        write_manifest(part)
        if path.is_symlink() or path.exists():
            os.replace(path, old)
        os.replace(part, path)
        fsync_path(path.parent)
        _remove(old)
    except OSError as error:
        raise ResourceError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _remove(path: Path) -> None:
    """Remove a folder if there is one; of a link only the link."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _is_plain(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_.+-]+", name) is not None and name not in (".", "..")


def write_pointer(path: Path, target: Path) -> None:
    """Write the name of the folder `target` next to `path`, and the SHA-256 of its manifest, into a file."""
    with replacing(path) as part:
        part.write_text(f"{target.name} {sha256(target / MANIFEST)}\n", encoding="utf-8")


def read_pointer(path: Path) -> Path:
    """Return the folder next to `path` that the text in it names.

    Raises:
        DataError: The text is no plain name, or the folder is not the one that was meant.
    """
    try:
        name, _, expected = path.read_text(encoding="utf-8").strip().partition(" ")
        target = path.with_name(name) if _is_plain(name) else None
        if target is not None and (not expected or sha256(target / MANIFEST) == expected):
            return target
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise DataError(f"{path} cannot be followed: {reason}; it was edited or damaged") from error
    if target is None:
        raise DataError(f"{path} names {name!r:.80}, which is no file next to it; the file was edited or damaged")
    raise DataError(f"{path} and the {MANIFEST} of {name} do not belong together; one was edited or damaged")


def check_output(folder: Path, *, overwrite: bool = False, resume: bool = False) -> None:
    """Refuse an output folder that already holds something, before any work is done.

    Raises:
        ConfigError: The folder is not empty and neither `overwrite` nor `resume` applies.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output {folder} is a file; choose a folder with --output")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite and not resume:
        raise ConfigError(
            f"output {folder} exists already; give --overwrite to replace it, --resume to go on with an "
            "interrupted run, or choose another --output"
        )
    if not (folder / MARKER).exists():
        raise ConfigError(f"output {folder} was not made by surrogate; it is left alone: choose another --output")


def claim_output(folder: Path, *, overwrite: bool = False, resume: bool = False) -> None:
    """Make an output folder, or refuse one that already holds something.

    A marker file is left in every folder made here, and only marked folders are ever removed.

    Raises:
        ConfigError: The folder is not empty and neither `overwrite` nor `resume` applies.
        ResourceError: The folder cannot be made.
    """
    check_output(folder, overwrite=overwrite, resume=resume)
    try:
        if folder.exists() and overwrite and not resume:
            with locked(folder):
                shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).touch()
    except OSError as error:
        raise ResourceError(f"cannot make output folder {folder}: {error.strerror}; choose another --output") from error


@contextmanager
def locked(output: Path, name: str = LOCK, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes out of a folder for as long as this one lives.

    Arguments:
        output: The folder.
        name: Name of the lock, where a folder has several.
        wait: Wait for the other process instead of raising.

    Raises:
        InUse: Another process is in it.
    """
    with open(output / name, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise InUse(f"another process writes to {output}; wait for it or choose another --output") from error
        yield
