"""Atomic writing of files (temporary file, fsync, rename), output folders and locks."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from surrogate.errors import ConfigError, DataError, InUse, ResourceError

__all__ = ["check_output", "claim_output", "fsync_path", "locked", "read_pointer", "replacing", "sha256"]

MARKER = ".surrogate"
LOCK = ".lock"


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


def read_pointer(path: Path) -> Path:
    """Return the file or folder next to `path` that the text in it names.

    Raises:
        DataError: The text is not a plain name.
    """
    name = path.read_text(encoding="utf-8").strip()
    if Path(name).name != name:
        raise DataError(f"{path} names '{name}', which is no file next to it; the file was edited or damaged")
    return path.with_name(name)


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
