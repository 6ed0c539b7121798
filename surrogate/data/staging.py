"""Copy data files to node-local storage: once, checked, completely or not at all."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import warnings
from pathlib import Path

from surrogate.data.fingerprint import fingerprint
from surrogate.data.hdf5.references import referenced_files
from surrogate.data.layouts import find_files
from surrogate.data.mapping import Layout
from surrogate.data.store import MANIFEST, read_manifest
from surrogate.errors import DataError, ResourceError
from surrogate.files import fsync_path, locked, sha256

__all__ = ["stage"]

BLOCK = 8 * 2**20
SPARE_BYTES = 64 * 2**20  # left free on the disk of the node


def stage(path: str, folder: Path, layout: Layout | None = None) -> str:
    """Copy the files behind a path into a folder of this node, unless a copy exists; return the path of the copy.

    Processes that ask at the same time wait for the one that copies. Where the disk has not enough space, nothing is
    copied, a warning says so, and `path` is returned.

    Arguments:
        path: File, folder or glob, as in `data.path`.
        folder: Node-local folder; made where it is absent.
        layout: Layout, which may name the files.

    Raises:
        DataError: A file is missing, or its copy differs.
        ResourceError: The folder cannot be written.
    """
    source = Path(path).expanduser().absolute()
    files = find_files(source, layout)
    root = source if source.is_dir() else source.parent  # contains all files
    if not source.exists() and glob.has_magic(str(source)):
        root = next(parent for parent in source.parents if not glob.has_magic(str(parent)))
    behind = referenced_files(files)  # sources of virtual datasets and the like are copied along
    if any(not file.is_relative_to(root) for file in behind):
        warnings.warn(
            f"{path} refers to files outside of {root}: they are read from there instead of a copy", stacklevel=2
        )
        return path
    manifest = source / MANIFEST
    wanted, sums = list(dict.fromkeys([*files, *behind])), {}
    if manifest.is_file():
        wanted.append(manifest)
        sums = {source / shard.file: shard.sha256 for shard in read_manifest(source).shards}
    target = folder / f"surrogate-{_key(files)}"
    copies = {file: target / file.relative_to(root) for file in wanted}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, f".{target.name}.lock", wait=True):
            for link in filter(Path.is_symlink, (target, _part(target))):  # others may write to this folder too
                link.unlink()
            whole = all(c.is_file() and c.stat().st_size == f.stat().st_size for f, c in copies.items())
            if not whole and not _copy_all(wanted, root, target, sums):
                return path
    except OSError as error:
        raise ResourceError(
            f"cannot copy data to {folder}: {error.strerror or error}; choose another --stage"
        ) from error
    return str(target / source.relative_to(root))


def _key(files: list[Path]) -> str:
    """Return a hash of the content and modification times of files, which names their copy."""
    times = ",".join(str(file.stat().st_mtime_ns) for file in files)
    return hashlib.sha256(f"{fingerprint(files)}:{times}".encode()).hexdigest()[:16]


def _part(target: Path) -> Path:
    """Return the folder in which copies are made before they are whole."""
    return target.with_name(f".{target.name}.part")


def _copy_all(files: list[Path], root: Path, target: Path, sums: dict[Path, str]) -> bool:
    """Copy files to a temporary folder next to the target, check them, and rename; return False without enough space.

    Arguments:
        files: The files.
        root: Folder that contains all of them.
        target: Folder of the copies.
        sums: Checksums that a manifest already states.
    """
    part = _part(target)
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    shutil.rmtree(target, ignore_errors=True)
    needed, free = sum(file.stat().st_size for file in files), shutil.disk_usage(target.parent).free
    if needed + SPARE_BYTES > free:
        warnings.warn(
            f"{target.parent} has {free / 1e6:.0f} MB free, the data take {needed / 1e6:.0f} MB: they are read from "
            f"{root} instead of a copy",
            stacklevel=3,
        )
        return False
    try:
        for file in files:
            copy = part / file.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            total = hashlib.sha256()
            with open(file, "rb") as reader, open(copy, "wb") as writer:
                while block := reader.read(BLOCK):
                    total.update(block)
                    writer.write(block)
            fsync_path(copy)
            read = total.hexdigest()
            if read != sums.get(file, read) or sha256(copy) != read:
                raise DataError(f"{file}: its copy in {target.parent} has another SHA-256; copy or make the data again")
        os.replace(part, target)
        fsync_path(target.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return True
