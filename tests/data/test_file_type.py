"""Files of other kinds are named as what they are, with the way out."""

import struct
from pathlib import Path

import pytest
import torch

from surrogate.data import open_snapshots
from surrogate.errors import DataError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
KINDS = {
    "pytorch": (None, "PyTorch file.*write its tensors as HDF5"),
    "petsc vector": (struct.pack(">ii", 1211214, 4) + bytes(32), "vector of PETSc; write it with PetscViewerHDF5Open"),
    "petsc matrix": (struct.pack(">ii", 1211216, 4) + bytes(32), "matrix of PETSc"),
    "adf": (
        b"\xc0\xa8\xa3\xa9ADF Database" + bytes(64),
        "CGNS in ADF; convert it to HDF5 with adf2hdf",
    ),
    "git lfs": (POINTER, "Git LFS pointer, not the data; run git lfs pull"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_kind_is_named(kind: str, tmp_path: Path) -> None:
    content, message = KINDS[kind]
    file = tmp_path / "data.h5"
    if content is None:
        torch.save({"u": torch.zeros(3)}, file)
    else:
        file.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        open_snapshots(file)
    assert "\n" not in str(caught.value)
