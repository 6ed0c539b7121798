"""Explain errors of the HDF5 library in one line."""

from __future__ import annotations

import errno
import re
import traceback
from pathlib import Path

from surrogate.data.hdf5.file_type import looks_like

__all__ = ["HDF5_ERRORS", "of_hdf5", "reason_of", "short"]

# Whatever h5py raises on an object that it cannot read: damaged, or of a kind that it does not support.
HDF5_ERRORS = (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError)


def reason_of(file: Path, error: Exception) -> str:
    """Explain why HDF5 cannot open a file, and what to do."""
    text = str(error)
    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        return "no such file; check the path"
    if number in (errno.EACCES, errno.EPERM):
        return "permission denied; ask its owner for read access (chmod a+r)"
    if "unable to lock" in text:
        return "is open for writing in another program; wait until it has closed the file"
    if "already open for write" in text or "consistency flags" in text:
        return "was not closed by its writer; run h5clear -s on a copy, or write it again"
    truncated = re.search(r"eof = (\d+), .*stored_eof = (\d+)", text)
    if truncated:
        return f"truncated: holds {truncated[1]} of {truncated[2]} bytes; copy or write it again"
    if "signature not found" in text:
        return f"is not HDF5: it looks like {looks_like(file)}"
    return f"cannot be opened as HDF5 ({short(error)}); it may be damaged: copy or write it again"


def of_hdf5(error: Exception) -> bool:
    """Return True where h5py raised an error, or what it called did, and not a function of this package."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        parts = Path(frame.filename).parts
        if "h5py" in parts or "surrogate" in parts:
            return "h5py" in parts
    return False


def short(error: Exception) -> str:
    """Extract the reason in brackets from a message of HDF5, on one line."""
    text = str(error)
    match = re.search(r"\((.*)\)", text, re.DOTALL)
    return " ".join((match[1] if match else text).split())[:200] or type(error).__name__
