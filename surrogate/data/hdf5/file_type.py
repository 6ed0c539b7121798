"""Recognise files that are not HDF5 by their first bytes."""

from __future__ import annotations

from pathlib import Path

__all__ = ["looks_like"]

HEAD = 512
SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x93NUMPY", "a NumPy .npy array; write it as HDF5 with h5py first"),
    (b"PK\x03\x04", "a zip archive (NumPy .npz, zarr.zip or a zip file); unpack it and write HDF5"),
    (b"\x00\x12\x7b\x4e", "a binary vector of PETSc; write it with PetscViewerHDF5Open, or with h5py from petsc4py"),
    (b"\x00\x12\x7b\x50", "a binary matrix of PETSc; write the fields with PetscViewerHDF5Open"),
    (b"\x1f\x8b", "gzip-compressed; run gunzip first"),
    (b"\xfd7zXZ\x00", "xz-compressed; run unxz first"),
    (b"BZh", "bzip2-compressed; run bunzip2 first"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed; run unzstd first"),
    (b"MATLAB 5.0 MAT-file", "a MATLAB v5 file; save it with -v7.3 in MATLAB, which writes HDF5"),
    (b"CDF\x01", "NetCDF-3; convert it with nccopy -k nc4 in.nc out.nc"),
    (b"CDF\x02", "NetCDF-3; convert it with nccopy -k nc4 in.nc out.nc"),
    (b"CDF\x05", "NetCDF-3; convert it with nccopy -k nc4 in.nc out.nc"),
    (b"\xc0\xa8\xa3\xa9ADF", "CGNS in ADF; convert it to HDF5 with adf2hdf"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"\x0e\x03\x13\x01", "HDF4; convert it with h4toh5"),
    (b"GRIB", "GRIB; convert it to NetCDF-4 first"),
    (b"PAR1", "Parquet"),
    (b"version https://git-lfs", "a Git LFS pointer, not the data; run git lfs pull"),
    (
        b"\x00\x00\x08",
        "an IDX file, as those of MNIST; name it as they are (train-images-idx3-ubyte)",
    ),
    (b"\x80\x02", "a pickle or PyTorch file, which is never opened; write HDF5"),
    (b"\x80\x04", "a pickle file, which is never opened; write HDF5"),
)


def looks_like(file: Path) -> str:
    """Describe in one phrase a file that is not HDF5."""
    with open(file, "rb") as stream:
        head = stream.read(HEAD)
    if not head:
        return "empty (0 bytes); copy or write it again"
    if head.startswith(b"PK\x03\x04") and b"data.pkl" in head:
        return "a PyTorch file, which holds a pickle and is never opened; write its tensors as HDF5 with h5py"
    for signature, phrase in SIGNATURES:
        if head.startswith(signature):
            return phrase
    if not any(head):
        return "zeros; the copy or the writing of it did not finish"
    try:
        text = head[: HEAD - 4].decode("utf-8")
    except UnicodeDecodeError:
        return "unknown binary data"
    if any(ord(letter) < 32 and letter not in "\t\n\r\f" for letter in text):
        return "unknown binary data"
    start = text.lstrip().lower()
    if start.startswith(("<!doctype html", "<html")):
        return "an HTML page, probably the error page of a download; download the file again"
    if start.startswith(("{", "[")):
        return "JSON text"
    line = start.splitlines()[0] if start else ""
    separator = next((mark for mark in (",", ";", "\t") if line.count(mark) >= 1), None)
    return "CSV text; read it with pandas or numpy and write HDF5" if separator else "plain text"
