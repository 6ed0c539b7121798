"""Atomic writing of files (temporary file, fsync, rename), output folders and locks."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import itertools
import json
import os
import re
import shlex
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from surrogate.errors import ConfigError, DataError, InUse, ResourceError

__all__ = [
    "MANIFEST",
    "cache_folder",
    "check_file",
    "check_output",
    "claim_output",
    "fsync_path",
    "locked",
    "read_json",
    "read_pointer",
    "refuse_links",
    "regular",
    "replacing",
    "replacing_folder",
    "sha256",
    "verify_manifest",
    "write_json",
    "write_manifest",
    "write_pointer",
]

MARKER = ".surrogate"
LOCK = ".lock"
MANIFEST = "MANIFEST.json"
CHECKSUM = "sha256"  # of the rest of a JSON file, in the file itself
JSON_BYTES = 64 * 2**20  # of one file, above which it is none of ours
OWN = (MARKER, LOCK)  # a folder with these alone is empty
_unfinished: set[Path] = set()  # folders that are being written as a unit, whose files are flushed together at the end


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; on success it replaces `path`, on failure it is removed.

    Raises:
        ResourceError: The disk is full, read-only or out of quota; the previous version is intact.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)  # a link would be followed
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


def regular(path: Path) -> Path:
    """Return the path of a file to read, unless it is a pipe, a socket or a device, which could block or never end.

    Raises:
        DataError: It is one of these.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return path  # whoever opens it says why not
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise DataError(f"{path} is a pipe or a device; give a file")
    return path


def cache_folder(data: Path) -> Path | None:
    """Return the folder for results of computing from data: next to them, or the user's cache if that is read-only.

    For a pattern, it is the folder before the first wildcard. None where there is no such folder.
    """
    fixed = itertools.takewhile(lambda part: not glob.has_magic(part), data.parts)
    place = data if data.exists() else Path(*fixed)
    folder = place if place.is_dir() else place.parent
    if folder.is_dir() and os.access(folder, os.W_OK):
        return folder
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return cache / "slim-surrogate" if cache.is_absolute() else None


def fsync_path(path: Path) -> None:
    """Flush a file or a folder entry to the disk; inside a folder that is written as a unit, its end does that."""
    if not _unfinished.isdisjoint((path, *path.parents)):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with open(regular(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, content: dict[str, Any], *, indent: int | None = 2) -> None:
    """Replace a JSON file as a unit; it gets a checksum of its own, which `read_json` compares.

    Raises:
        ResourceError: The disk is full, read-only or out of quota; the previous version is intact.
    """
    with replacing(path) as part:
        part.write_text(json.dumps(content | {CHECKSUM: _digest(content)}, indent=indent), encoding="utf-8")


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_json(path: Path, *, limit: int = JSON_BYTES) -> Any:
    """Parse a JSON file of bounded size; a checksum in it is compared and left out.

    Raises:
        DataError: It is missing, too large, not JSON, or differs from its checksum.
    """
    try:
        if regular(path).stat().st_size > limit:
            raise DataError(f"{path} is larger than {limit} bytes; it is no file of this package")
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.pop(CHECKSUM, None) not in (None, _digest(content)):
            raise DataError(f"{path} differs from its checksum; it was edited or damaged")
        return content
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
        _unfinished.add(part)
        try:
            yield part
        finally:
            _unfinished.discard(part)
        write_manifest(part)
        fsync_path(part)
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


def check_file(path: Path, *, overwrite: bool, reads: Iterable[Path | str] = ()) -> None:
    """Refuse a file to write that exists already, before any work is done.

    Arguments:
        path: The file.
        overwrite: It will be replaced.
        reads: Files that the command reads; they must not be replaced.

    Raises:
        ConfigError: There is such a file and `overwrite` does not apply; it is a folder, or one of those read.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file with --output")
    if not path.exists():
        return
    if not overwrite:
        raise ConfigError(f"{path} exists already; give --overwrite to replace it or choose another --output")
    if any(path.samefile(other) for other in map(Path, reads) if other.exists()):
        raise ConfigError(f"{path} is read by this command, so it is not replaced; choose another --output")


def check_output(
    folder: Path, *, overwrite: bool = False, resume: bool = False, reads: Iterable[Path | str] = ()
) -> None:
    """Refuse an output folder that already holds something, before any work is done.

    Arguments:
        folder: The folder.
        overwrite: What is in it will be removed.
        resume: What is in it will be continued.
        reads: Files and folders that the command reads; they must not be removed.

    Raises:
        ConfigError: The folder is not empty and neither `overwrite` nor `resume` applies; it was not made by this
            package; it holds what is read or the working directory; or a link in it leads outside.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output {folder} is a file; choose a folder with --output")
    if not folder.is_dir() or not any(entry.name not in OWN for entry in os.scandir(folder)):
        return
    if not overwrite and not resume:
        raise ConfigError(
            f"output {folder} exists already; give --overwrite to replace it, --resume to go on with an "
            "interrupted run, or choose another --output"
        )
    if not os.path.lexists(folder / MARKER):
        raise ConfigError(
            f"output {folder} was not made by surrogate; it is left alone: choose another --output (or, if its file "
            f"{MARKER} was lost: touch {shlex.quote(str(folder / MARKER))})"
        )
    if resume or not overwrite:
        refuse_links(folder)
        return
    if folder.is_symlink():
        raise ConfigError(f"output {folder} is a symbolic link; give the folder that it names to --overwrite")
    top = folder.resolve()
    if Path.cwd().resolve().is_relative_to(top):
        raise ConfigError(f"output {folder} holds the working directory, which --overwrite would empty; choose another")
    for path in map(Path, reads):
        if path.resolve().is_relative_to(top) or Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder)):
            raise ConfigError(
                f"{path} is inside the output {folder}, which --overwrite empties; choose another --output"
            )


def refuse_links(folder: Path) -> None:
    """Refuse a folder with a symbolic link to something outside, through which writing would leave it.

    Raises:
        ConfigError: There is one.
    """
    top = folder.resolve()
    for where, folders, files in os.walk(folder):
        for path in (Path(where, name) for name in [*folders, *files]):
            if path.is_symlink() and not path.resolve().is_relative_to(top):
                raise ConfigError(
                    f"{path} is a symbolic link to {os.readlink(path)}, outside of the folder that is written to; "
                    "remove it, or put a copy in its place"
                )


def claim_output(
    folder: Path, *, overwrite: bool = False, resume: bool = False, reads: Iterable[Path | str] = ()
) -> None:
    """Make an output folder, or refuse one that already holds something; arguments as of `check_output`.

    A marker file is left in every folder made here, and only marked folders are ever emptied.

    Raises:
        ConfigError: The folder is refused.
        ResourceError: The folder cannot be made or emptied.
    """
    check_output(folder, overwrite=overwrite, resume=resume, reads=reads)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if overwrite and not resume:
            with locked(folder):
                for entry in os.scandir(folder):
                    if entry.name in OWN:  # last of all: a marked folder can be emptied again
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path)
                    else:
                        os.unlink(entry.path)
        os.close(os.open(folder / MARKER, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666))
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
        ConfigError: The lock is a symbolic link.
        InUse: Another process is in it.
        ResourceError: The lock cannot be made.
    """
    path = output / name
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if path.is_symlink():
            raise ConfigError(f"{path} is a symbolic link, which a lock cannot be; remove it") from error
        raise ResourceError(f"cannot write {path}: {error.strerror}; choose another --output") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise InUse(f"another process writes to {output}; wait for it or choose another --output") from error
        yield
    finally:
        os.close(lock)
