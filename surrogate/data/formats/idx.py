"""IDX, the layout of MNIST and its relatives: images and labels in files of their own, plain or compressed with gzip.

    train-images-idx3-ubyte[.gz]    train-labels-idx1-ubyte[.gz]
    t10k-images-idx3-ubyte[.gz]     t10k-labels-idx1-ubyte[.gz]

A file is the magic number (0, 0, type, number of axes), the length of every axis as big-endian 32-bit integers, and the
values. Source: LeCun, Cortes, Burges, *The MNIST database of handwritten digits*, 1998.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from surrogate.data.formats.lazy import block_shape
from surrogate.errors import DataError

__all__ = ["IdxPair", "idx_files", "is_idx", "pairs_of", "read_idx", "read_pair"]

NAME = re.compile(r"(?P<split>.+)-(?P<what>images|labels)[-.]idx(?P<axes>\d)-ubyte(\.gz)?")
TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP = b"\x1f\x8b"
AXES = ("sample", "y", "x")


@dataclass(frozen=True)
class IdxPair:
    """Images and, where they are there, their labels.

    Arguments:
        split: What the names of the files begin with: `train` or `t10k`.
        images: File of the images.
        labels: File of their labels.
    """

    split: str
    images: Path
    labels: Path | None


def is_idx(file: Path) -> bool:
    """Test whether a file is named as those of MNIST are."""
    return NAME.fullmatch(file.name) is not None


def idx_files(folder: Path) -> list[Path]:
    """List the IDX files of a folder in sorted order; of a plain and a compressed file of one name the plain one."""
    by_name = {file.name: file for file in sorted(folder.iterdir()) if is_idx(file) and file.is_file()}
    return [file for name, file in by_name.items() if name.removesuffix(".gz") == name or name[:-3] not in by_name]


def pairs_of(files: Iterable[Path]) -> list[IdxPair]:
    """Pair images with their labels, by the names of the files.

    Raises:
        DataError: A file is not named so, or there are labels without images.
    """
    sides: dict[str, dict[str, Path]] = {}
    for file in files:
        parts = NAME.fullmatch(file.name)
        if parts is None:
            raise DataError(
                f"{file}: not named as an IDX file is (train-images-idx3-ubyte, with .gz or without); rename it, or "
                "choose another layout"
            )
        sides.setdefault(parts["split"], {})[parts["what"]] = file
    for split, pair in sides.items():
        if "images" not in pair:
            raise DataError(f"{pair['labels']}: {split}-images-idx3-ubyte is missing; name the folder that holds both")
    return [IdxPair(split, pair["images"], pair.get("labels")) for split, pair in sides.items()]


def read_pair(pair: IdxPair) -> xr.Dataset:
    """Read variables `image` (sample, y, x) and, where there are labels, coordinate `label` (sample).

    Raises:
        DataError: A file is not an IDX file, is cut short, or of another kind than its name says.
    """
    images = read_idx(pair.images)
    if images.ndim != 3:
        raise DataError(f"{pair.images}: has {images.ndim} axes, images have 3 (sample, y, x)")
    name = f"read-idx-{tokenize(str(pair.images), pair.images.stat().st_size, pair.images.stat().st_mtime_ns)}"
    chunks = block_shape(images.shape, AXES, None, images.dtype.itemsize)
    ds = xr.Dataset({"image": (AXES, da.from_array(images, chunks, name=name), {"long_name": "grey value"})})
    if pair.labels is None:
        return ds
    labels = np.array(read_idx(pair.labels))
    if labels.shape != images.shape[:1]:
        raise DataError(f"{pair.labels}: has labels of shape {labels.shape} for {images.shape[0]} images; mix no files")
    return ds.assign_coords(label=("sample", labels))


def read_idx(file: Path) -> np.ndarray:
    """Read an IDX file: a memory map of a plain one, in memory from a compressed one.

    Raises:
        DataError: It is not an IDX file, is cut short, or goes on after its end.
    """
    with open(file, "rb") as stream:
        packed = stream.read(2) == GZIP
    if not packed:
        with open(file, "rb") as stream:
            dtype, shape = _header(stream, file)
            start = stream.tell()
        _check_size(file, file.stat().st_size - start, dtype, shape)
        return np.memmap(file, dtype, "r", start, shape) if math.prod(shape) else np.empty(shape, dtype)
    try:
        with gzip.open(file, "rb") as stream:
            dtype, shape = _header(stream, file)
            content = stream.read()
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{file}: cannot be decompressed ({error}); copy or download it again") from error
    _check_size(file, len(content), dtype, shape)
    return np.frombuffer(content, dtype).reshape(shape)


def _header(stream: BinaryIO | gzip.GzipFile, file: Path) -> tuple[np.dtype, tuple[int, ...]]:
    """Read type and shape."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not magic[3]:
        start = " ".join(f"{byte:02x}" for byte in magic) or "nothing"
        raise DataError(
            f"{file}: starts with {start}, no magic number of IDX (00 00 08 03 for images, 00 00 08 01 for labels); "
            "download it again, or choose another layout"
        )
    lengths = stream.read(4 * magic[3])
    if len(lengths) < 4 * magic[3]:
        raise DataError(f"{file}: ends inside its header; copy or download it again")
    return np.dtype(TYPES[magic[2]]), tuple(np.frombuffer(lengths, ">u4").astype(int).tolist())


def _check_size(file: Path, size: int, dtype: np.dtype, shape: Sequence[int]) -> None:
    expected = math.prod(shape) * dtype.itemsize
    if size != expected:
        shown = " x ".join(map(str, shape))
        raise DataError(
            f"{file}: its header says {shown} values, {expected} bytes, but {size} follow; copy or download it again"
        )
